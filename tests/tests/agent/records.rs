//! The agent's log as records with fields, a line of JSON each.

use drctl_tests::agent::Agent;
use drctl_tests::site::{Ran, Site};
use serde_json::{Value, json};

use crate::common::{NEVER, Shop};

/// What was told, a record a line, and nothing else.
#[track_caller]
fn records(said: &str) -> Vec<Value> {
    let read = |line: &str| -> Value {
        let record: Value =
            serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"));
        for field in ["time", "level", "message", "host", "target"] {
            assert!(record[field].is_string(), "{field}: {record}");
        }
        record
    };
    said.lines().map(read).collect()
}

fn started(site: &Site) -> Agent<'_> {
    let mut command = site.command(&["agent"]);
    let _ = command.env("DRCTL_LOG_FORMAT", "json");
    Agent::start_as(site, command)
}

#[test]
fn a_log_of_records_has_the_fields_of_what_it_tells() {
    let (shop, tools) = Shop::with_tools(NEVER);
    let agent = started(&shop.site);
    let _ = shop.site.json(0, &["run", "shop"]);
    agent.says("\"message\":\"done\"");
    tools.set("pg_dump", "echo 'no: {\"level\":\"info\"}' >&2; exit 1");
    let _ = shop.site.json(0, &["run", "shop"]);
    agent.says("\"message\":\"failed");
    let ran = agent.stop();
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let all = records(&ran.err);
    let one = |begins: &str| {
        let is_it = |record: &&Value| record["message"].as_str().unwrap().starts_with(begins);
        all.iter().find(is_it).unwrap_or_else(|| panic!("no `{begins}`: {}", ran.err))
    };
    let (done, failed) = (one("done"), one("failed"));
    for record in [one("begun"), done, failed] {
        assert_eq!((&record["source"], &record["job"]), (&json!("shop"), &json!("backup")));
    }
    let run = |record: &Value| record["run"].as_str().expect("a run").to_owned();
    assert_eq!((run(done).len(), run(failed).len()), (16, 16));
    assert_ne!(run(done), run(failed));
    assert_eq!((&done["level"], &failed["level"]), (&json!("info"), &json!("error")));
    assert_eq!((&done["code"], &failed["code"]), (&Value::Null, &json!("tool_failed")));
    assert!(ran.err.lines().all(|line| !line.contains("tokio_cron_scheduler")), "{}", ran.err);
}

#[test]
fn an_agent_that_does_not_start_says_why_as_a_record() {
    let shop = Shop::open(NEVER);
    shop.site.append("\n[agent]\nsockett = \"/run/x\"\n");
    let mut command = shop.site.command(&["agent"]);
    let ran = Ran::of(&command.env("DRCTL_LOG_FORMAT", "json").output().unwrap());
    assert_eq!(ran.code, Some(7), "{ran:?}");
    let all = records(&ran.err);
    let last = all.last().expect("a record");
    assert_eq!((&last["code"], &last["level"]), (&json!("bad_configuration"), &json!("error")));
    assert!(last["message"].as_str().unwrap().contains("sockett"), "{last}");
    // Whoever wants text has it, and hears of a format that there is not.
    let mut command = shop.site.command(&["agent"]);
    let ran = Ran::of(&command.env("DRCTL_LOG_FORMAT", "xml").output().unwrap());
    assert!(ran.err.contains("DRCTL_LOG_FORMAT is neither"), "{}", ran.err);
    assert!(ran.err.contains("error: the configuration has an error"), "{}", ran.err);
}
