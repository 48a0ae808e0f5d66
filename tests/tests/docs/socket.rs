//! The page on the agent's socket says what the code of the socket says.

use std::collections::BTreeSet;

use drctl_model::JobKind;
use serde_json::{Deserializer, Value};

use crate::architecture::sources;
use crate::markdown::{blocks, codes, rows, sections};
use crate::{read, root};

const PAGE: &str = "docs/socket.md";

/// What may be asked, and the lines that stay as they are.
const REQUESTS: &str = "agent/src/daemon/control/mod.rs";

const SERVER: &str = "agent/src/daemon/control/server.rs";
const CLIENT: &str = "agent/src/daemon/control/client.rs";
const RECORDER: &str = "agent/src/daemon/control/recorder.rs";
const PUSHES: &str = "agent/src/daemon/pushes.rs";
const PARCEL: &str = "agent/src/engine/wal/push/parcel.rs";
const WAITING: &str = "agent/src/engine/wal/push/waiting.rs";

/// What the code bounds, and how the page says it.
const BOUNDS: &[(&str, &str, &str)] = &[
    (REQUESTS, "const LONGEST: usize = 4 << 20;", "| a request's line | 4 MiB, and"),
    (SERVER, "const PATIENCE: Duration = Duration::from_secs(10);", "and 10 seconds from the"),
    (SERVER, "timeout(2 * PATIENCE, serving)", "| all of a request but `push` | 20 seconds,"),
    (SERVER, "const OTHERS: usize = 8;", "| connections of `push_user` | 8 at a time |"),
    (SERVER, "0o600", "| neither | `0600` |"),
    (SERVER, "0o660", "| `socket_group` | `0660`,"),
    (SERVER, "0o666", "| `push_user` | `0666` |"),
    (RECORDER, "const MOST: u32 = 20;", "Of refused requests 20 are put on record at once"),
    (RECORDER, "const ONE_MORE: Duration = Duration::from_secs(10);", "one more every 10 seconds"),
    (PUSHES, "const AT_ONCE: u32 = 2;", "| `push`: files that are stored at once | 2 |"),
    (PUSHES, "const WAITING: usize = 32;", "| `push`: others that wait for that | 32,"),
    (PUSHES, "const WAITS: Duration = Duration::from_secs(8);", "for 8 seconds each"),
    (PUSHES, "const HANDS_OVER: Duration = Duration::from_secs(5);", "64 KiB, and 5 seconds"),
    ("agent/engines/src/common/opened.rs", "const LONGEST_LINE: usize = 64 << 10;", "64 KiB, and"),
    ("agent/src/engine/wal/push/batch.rs", "const MOST_FILES: usize = 64;", "in order, at most 64"),
    (PARCEL, "usize = MOST_FILES + 3 + MOST_HISTORIES;", "At most 83 files come"),
    (PARCEL, "const MOST_HISTORIES: usize = 16;", "At most 83 files come"),
    (PARCEL, "const LONGEST_NAME: usize = 64;", "A name has up to 64 letters"),
    (PARCEL, "const LONGEST_PATH: usize = 4096;", "at most 4,096 bytes"),
    (CLIENT, "const PATIENCE: Duration = Duration::from_secs(15);", "for `ready` | 15 seconds;"),
    (CLIENT, "const STORES_WITHIN: Duration = Duration::from_secs(120);", "waits for 120 seconds"),
];

/// The rows of the tables below a heading of the page.
fn table(title: &str) -> Vec<Vec<String>> {
    let sections = sections(&read(PAGE));
    let found = sections.iter().find(|(name, _)| name == title);
    let (_, text) = found.unwrap_or_else(|| panic!("{PAGE}: no section {title}"));
    rows(text)
}

/// What the rows of such a table are about, in order.
fn names(title: &str) -> Vec<String> {
    table(title).iter().flat_map(|row| codes(&row[0])).collect()
}

/// The lines of the examples, in order. What is longer than a line of the page is broken there.
fn examples() -> Vec<Value> {
    let mut found = Vec::new();
    for block in blocks(&read(PAGE)) {
        assert_eq!(block.language, "json", "{PAGE}: line {}", block.line);
        let lines = Deserializer::from_str(&block.text).into_iter::<Value>();
        for line in lines {
            let line = line.unwrap_or_else(|error| {
                panic!("{PAGE}: the block in line {}: {error}", block.line)
            });
            found.push(line);
        }
    }
    found
}

/// What stands behind one text, up to another one.
fn between<'a>(text: &'a str, head: &str, end: &str) -> &'a str {
    let (_, rest) = text.split_once(head).unwrap_or_else(|| panic!("there is no {head:?}"));
    rest.split_once(end).unwrap_or_else(|| panic!("{head:?} does not end")).0
}

fn keys(object: &Value) -> BTreeSet<String> {
    object.as_object().expect("an object").keys().cloned().collect()
}

#[test]
fn every_request_is_on_the_page_with_its_fields_and_its_line() {
    let (page, source) = (read(PAGE), read(REQUESTS));
    let body = between(&source, "fn name(&self)", "\n    }\n");
    let known: Vec<String> = body.split('"').skip(1).step_by(2).map(str::to_owned).collect();
    assert!(known.len() >= 7, "{known:?}");
    assert_eq!(names("Requests"), known);
    let rows = table("Requests");
    let held =
        between(&source, "fn requests_are_lines_that_stay_as_they_are()", "for (request, line)");
    let mut seen = BTreeSet::new();
    for line in held.split("r#\"").skip(1).filter_map(|rest| rest.split("\"#").next()) {
        assert!(page.lines().any(|one| one == line), "{PAGE}: no {line}");
        let object: Value = serde_json::from_str(line).expect("a line of JSON");
        let name = object["do"].as_str().expect("a name").to_owned();
        let mut fields = keys(&object);
        assert!(fields.remove("version") && fields.remove("do"), "{line}");
        let row = rows.iter().find(|row| codes(&row[0]) == [name.as_str()]).expect("a row");
        assert_eq!(codes(&row[1]).into_iter().collect::<BTreeSet<_>>(), fields, "{name}");
        seen.insert(name);
    }
    assert_eq!(seen, known.into_iter().collect::<BTreeSet<_>>());
    for kind in JobKind::ALL {
        assert!(page.contains(&format!("`{}`", kind.as_str())), "{PAGE}: no {}", kind.as_str());
    }
}

#[test]
fn every_refusal_is_on_the_page() {
    let folder = "agent/src/daemon";
    let mut known = BTreeSet::new();
    for path in sources(&root().join(folder)) {
        let path = format!("{folder}/{}", path.display());
        for rest in read(&path).split("Refusal::new(").skip(1) {
            let code = rest.trim_start().strip_prefix('"').and_then(|rest| rest.split('"').next());
            let code = code.unwrap_or_else(|| panic!("{path}: a refusal without a word"));
            known.insert(code.to_owned());
        }
    }
    assert!(known.contains("denied") && known.contains("version"), "{known:?}");
    assert_eq!(names("Refusals"), known.into_iter().collect::<Vec<_>>(), "sorted, each once");
}

#[test]
fn the_examples_are_lines_of_this_version() {
    let source = read(REQUESTS);
    let version = between(&source, "const VERSION: u32 = ", ";").parse::<u64>().expect("a number");
    let (requests, refusals) = (names("Requests"), names("Refusals"));
    let refused = |line: &Value| {
        let known = refusals.iter().any(|code| line["refused"]["code"] == code.as_str());
        known && line["refused"]["message"].is_string() && keys(line).len() == 3
    };
    let mut others = 0;
    for line in examples() {
        if line["pg_wal"].is_string() {
            // It tells of opened files in the middle of a request.
            continue;
        }
        if line["version"] != version {
            others += 1;
            assert!(line["do"].is_string(), "{PAGE}: {line}");
            continue;
        }
        let known = match (&line["do"], &line["ok"]) {
            (Value::String(name), Value::Null) => requests.contains(name),
            (Value::Null, Value::Bool(true)) => {
                line["answer"].is_object() && keys(&line).len() == 3
            }
            (Value::Null, Value::Bool(false)) => refused(&line),
            _ => false,
        };
        assert!(known, "{PAGE}: {line}");
    }
    assert_eq!(others, 1, "the example of another version");
}

#[test]
fn the_answer_on_the_page_has_the_fields_of_the_jobs() {
    let page = read("docs/json.md");
    let sections = sections(&page);
    let (_, text) =
        sections.iter().find(|(title, _)| title == "drctl.jobs/1").expect("a section of the jobs");
    let documented: Vec<String> = rows(text).iter().flat_map(|row| codes(&row[0])).collect();
    let below = |prefix: &str| -> BTreeSet<String> {
        let fields = documented.iter().filter_map(|field| field.strip_prefix(prefix));
        fields.filter_map(|field| field.split(['.', '[']).next()).map(str::to_owned).collect()
    };
    let examples = examples();
    let answer = examples.iter().map(|line| &line["answer"]).find(|one| one["jobs"].is_array());
    let answer = answer.expect("an answer");
    assert_eq!(keys(answer), below(""));
    assert_eq!(keys(&answer["jobs"][0]), below("jobs[]."));
}

/// The fields of a struct, in order.
fn fields(path: &str, head: &str) -> Vec<String> {
    let source = read(path);
    let lines = between(&source, head, "\n}\n").lines().map(str::trim);
    let named = lines.filter(|line| !line.starts_with("//")).filter_map(|line| {
        let (name, _) = line.split_once(": ")?;
        name.rsplit(' ').next().map(str::to_owned)
    });
    named.collect()
}

#[test]
fn what_is_handed_over_is_told_as_the_program_tells_it() {
    let label = fields(PARCEL, "pub(crate) struct ParcelLabel {");
    let waiting = fields(WAITING, "pub(super) struct Waiting {");
    let mut expected = Vec::new();
    for field in label.clone() {
        let inner = waiting.iter().map(|inner| format!("{field}.{inner}"));
        let inner: Vec<String> = inner.filter(|_| field == "waiting").collect();
        expected.push(field);
        expected.extend(inner);
    }
    assert_eq!(names("What is handed over"), expected);
    let examples = examples();
    let told = examples.iter().find(|line| line["pg_wal"].is_string()).expect("an example");
    assert_eq!(keys(told), label.into_iter().collect::<BTreeSet<_>>());
}

#[test]
fn the_bounds_are_those_of_the_program() {
    // A sentence of the page may go on in its next line.
    let page = read(PAGE).replace('\n', " ");
    for (path, declared, says) in BOUNDS {
        assert!(read(path).contains(declared), "{path}: no {declared} any more: see {PAGE}");
        assert!(page.contains(says), "{PAGE}: no {says:?}");
    }
}
