//! Whole configurations: the samples, the template, defaults, JSON and the schema.

use std::path::PathBuf;
use std::time::Duration;

use drctl_model::{JobKind, Role, SslMode};
use drctl_policies::{
    AgentSettings, BaseBackup, Config, Engine, Location, LogSettings, LogWay, PgDump, Pgbackrest,
    SAMPLE_MAIN, SAMPLE_POLICY, SecretRef, Server, Setting, SourceFile, SourceTemplate, Template,
    TrustedKey, parse, schema, template,
};
use proptest::prelude::*;
use serde_json::{Value, json};

fn file(name: &str, text: &str) -> SourceFile {
    SourceFile { name: name.to_owned(), text: text.to_owned() }
}

fn read(main: &str) -> Config {
    parse(&file("drctl.toml", main), &[file("policies.d/daily.toml", SAMPLE_POLICY)])
        .unwrap_or_else(|found| {
            panic!("{}", found.iter().map(|d| format!("{d}\n")).collect::<String>())
        })
}

fn pg_dump<'c>(config: &'c Config, source: &str) -> &'c PgDump {
    let Engine::PgDump(pg_dump) = &config.sources[&source.parse().unwrap()].engine else {
        panic!("another engine");
    };
    pg_dump
}

const MINIMAL: &str = r#"version = 1
repository.url = "file:///srv/backups"
[keys]
recipients = [
 "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p",
 "age1lggyhqrw2nlhcxprm67z43rta597azn8gknawjehu9d9dl0jq3yqqvfafg"]
verifying_keys = ["ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="]
[sources.shop]
engine = "pg_dump"
policy = "daily"
"#;

#[test]
fn the_samples_are_good() {
    let config = read(SAMPLE_MAIN);
    let policy = &config.sources[&"shop".parse().unwrap()].policy;
    assert_eq!(policy, &config.policies["daily"]);
    let next =
        policy.schedule.as_ref().unwrap().next_after("2026-07-01T12:00:00Z".parse().unwrap());
    assert_eq!(next.unwrap().to_string(), "2026-07-02T00:00:00Z");
    assert_eq!(policy.retention.monthly, 12);
    assert_eq!(policy.retention.within, Some(Duration::from_secs(30 * 86_400)));
    assert_eq!(policy.objectives.rpo, Some(Duration::from_secs(26 * 3_600)));
    let Location::S3 { bucket, prefix, path_style, .. } = &config.repository.location else {
        panic!("{:?}", config.repository)
    };
    assert_eq!((bucket.as_str(), prefix.as_str(), *path_style), ("example-backups", "db1", false));
}

#[test]
fn defaults() {
    let config = read(MINIMAL);
    assert_eq!(config.policies_dir, "policies.d");
    assert_eq!(config.repository.location, Location::File { path: "/srv/backups".into() });
    assert_eq!(config.repository.request_timeout, None);
    assert!(!config.repository.allow_http);
    assert_eq!(config.paths.state_dir, PathBuf::from("/var/lib/drctl"));
    assert_eq!(config.paths.runtime_dir, PathBuf::from("/run/drctl"));
    assert_eq!(config.paths.spool_dir, PathBuf::from("/var/lib/drctl/spool"));
    let limits = config.limits;
    assert_eq!((limits.segment_bytes, limits.seals, limits.puts), (16 << 20, 2, 2));
    assert_eq!((limits.fetches, limits.page_segments), (4, 4_096));
    assert_eq!(config.agent, agent_defaults());
    let log = LogSettings {
        way: LogWay::None,
        slot: None,
        heartbeat: Duration::ZERO,
        heartbeat_table: false,
    };
    assert!(config.sources[&"shop".parse().unwrap()].enabled);
    assert_eq!(config.sources[&"shop".parse().unwrap()].engine.log(), None);
    let server = Server {
        host: "/var/run/postgresql".into(),
        port: 5432,
        user: "drctl".into(),
        maintenance_database: "postgres".into(),
        password: None,
        silence: Duration::from_secs(3600),
        sslmode: SslMode::VerifyFull,
        ssl_root_cert: None,
        require_peer: None,
        bin_dir: None,
    };
    let expected = PgDump {
        server: server.clone(),
        databases: None,
        exclude_databases: vec![],
        globals: true,
        role_passwords: true,
        lock_timeout: Duration::from_secs(30),
        lock_attempts: 5,
    };
    assert_eq!(pg_dump(&config, "shop"), &expected);
    let copied = read(&MINIMAL.replace("pg_dump", "base_backup"));
    let expected = BaseBackup {
        server: server.clone(),
        log: log.clone(),
        fast_checkpoint: false,
        max_rate_bytes: None,
        incremental: false,
        full_every: Duration::from_secs(7 * 86_400),
    };
    let shop = &copied.sources[&"shop".parse().unwrap()];
    assert_eq!(shop.engine, Engine::BaseBackup(expected));
    let incremental =
        MINIMAL.replace("pg_dump", "base_backup") + "incremental = true\nfull_every = \"26h\"\n";
    let shop = serde_json::to_value(read(&incremental)).unwrap()["sources"]["shop"].clone();
    assert_eq!((&shop["incremental"], &shop["full_every_seconds"]), (&json!(true), &json!(93_600)));
    let handed = MINIMAL.replace("pg_dump", "pgbackrest") + "stanza = \"main\"\n";
    let shop = &read(&handed).sources[&"shop".parse().unwrap()];
    let expected = Pgbackrest {
        server,
        log,
        stanza: "main".into(),
        repo: 1,
        config: None,
        bin: None,
        cipher_pass: None,
        run_as: None,
        full_every: Duration::from_secs(7 * 86_400),
        differential_every: None,
    };
    assert_eq!(shop.engine, Engine::Pgbackrest(expected));
    let helped = read(&format!("{handed}run_as = \"postgres\"\n"));
    let Engine::Pgbackrest(shop) = &helped.sources[&"shop".parse().unwrap()].engine else {
        panic!("another engine")
    };
    assert_eq!(shop.run_as.as_deref(), Some("postgres"));
    assert_eq!(helped.paths.job_dir, PathBuf::from("/run/drctl-job"));
    let moved = read(&format!("{MINIMAL}[paths]\nstate_dir = \"/srv/x\""));
    assert_eq!(moved.paths.spool_dir, PathBuf::from("/srv/x/spool"));
}

#[test]
fn servers_that_need_no_backup_are_named_by_directory_or_port() {
    let text = |ignore: &str| format!("{MINIMAL}[discover]\nignore = [{ignore}]\n");
    let config = read(&text("\"/srv/pg/\", \"postgresql:5433\""));
    assert_eq!(config.discover.ignore, ["/srv/pg", "postgresql:5433"]);
    assert!(read(MINIMAL).discover.ignore.is_empty());
    for wrong in ["shop", "postgresql:0", "postgresql:x", "5433"] {
        let told = parse(&file("drctl.toml", &text(&format!("{wrong:?}"))), &[]).unwrap_err();
        let told: Vec<String> = told.iter().map(ToString::to_string).collect();
        assert!(told.iter().any(|one| one.contains("names no server")), "{told:?}");
    }
}

fn agent_defaults() -> AgentSettings {
    AgentSettings {
        jobs_at_once: 2,
        stop_timeout: Duration::from_secs(60),
        socket: None,
        socket_group: None,
        admin_group: None,
        push_user: None,
        nice: 0,
        metrics: None,
        beat: Duration::from_secs(300),
        ping_url: None,
    }
}

#[test]
fn beats_are_off_or_not_too_often() {
    let with = |beat: &str| format!("{MINIMAL}[agent]\nbeat = \"{beat}\"\n");
    assert_eq!(read(&with("0s")).agent.beat, Duration::ZERO);
    assert_eq!(read(&with("10s")).agent.beat, Duration::from_secs(10));
    for wrong in ["5s", "25h"] {
        let told = parse(&file("drctl.toml", &with(wrong)), &[]).unwrap_err();
        let told: Vec<String> = told.iter().map(ToString::to_string).collect();
        assert!(told.iter().any(|one| one.contains("`beat`")), "{told:?}");
    }
}

#[test]
fn schedules_and_the_service() {
    let main = MINIMAL.replace("pg_dump", "base_backup")
        + r#"log = "synchronous"
log_slot = "drctl_a"
log_heartbeat = "10s"
log_heartbeat_table = true
[agent]
jobs_at_once = 3
socket = "/run/dba/agent.sock"
socket_group = "dba"
admin_group = "sre"
push_user = "postgres"
metrics = "[::1]:9532"
[throttle.by-day]
window = { from = "08:00", until = "18:00" }
timezone = "Europe/Berlin"
bytes_per_second = "50MiB"
pause_above_pressure = 40
pause_above_replica_lag = "60s"
"#;
    let policy = r#"schedule = "@daily"
jitter = "20m"
blackout = ["2026-12-24", "2026-12-31..2027-01-01"]
window = { from = "22:00", until = "06:00" }
prune.schedule = "0 12 * * *"
[verify]
schedule = "@weekly"
[retention]
daily = 7
"#;
    let config = parse(&file("drctl.toml", &main), &[file("policies.d/daily.toml", policy)]);
    let config = config.unwrap();
    let shown = serde_json::to_value(&config).unwrap();
    let expected = json!({
        "jobs_at_once": 3, "stop_timeout_seconds": 60, "socket": "/run/dba/agent.sock",
        "socket_group": "dba", "admin_group": "sre", "push_user": "postgres", "nice": 0, "metrics": "[::1]:9532",
        "beat_seconds": 300, "ping_url": null,
    });
    assert_eq!(shown["agent"], expected);
    let day = json!({
        "window": { "from": "08:00", "until": "18:00" }, "timezone": "Europe/Berlin",
        "bytes_per_second": 52_428_800, "requests_per_second": null, "pause_above_pressure": 40,
        "pause_above_replica_lag_seconds": 60,
    });
    assert_eq!(shown["throttle"], json!({ "by-day": day }));
    let shop = &shown["sources"]["shop"];
    assert_eq!((&shop["log"], &shop["log_slot"]), (&json!("synchronous"), &json!("drctl_a")));
    assert_eq!(shop["log_heartbeat_seconds"], 10);
    assert_eq!(shop["log_heartbeat_table"], true);
    let daily = &shown["policies"]["daily"];
    assert_eq!((&daily["schedule"], &daily["attempts"]), (&json!("0 0 * * *"), &json!(3)));
    assert_eq!(daily["jitter_seconds"], 1_200);
    assert_eq!(daily["blackout"], json!(["2026-12-24", "2026-12-31..2027-01-01"]));
    assert_eq!(daily["window"], json!({ "from": "22:00", "until": "06:00" }));
    assert_eq!(daily["prune"], json!({ "schedule": "0 12 * * *" }));
    assert_eq!(
        daily["verify"],
        json!({ "schedule": "0 0 * * 0", "within_seconds": 2_592_000, "bytes_per_second": null })
    );
    assert_eq!(daily["log_index"], json!({ "schedule": "40 4 * * *" }));
    // Prune is due at noon, and waits for the night.
    let now = "2026-07-01T12:00:00Z".parse().unwrap();
    assert_eq!(config.policies["daily"].always_waits(now), [JobKind::Prune]);
}

#[test]
fn repositories() {
    let with = |lines: &str| {
        let text = MINIMAL.replace("repository.url = \"file:///srv/backups\"", "");
        read(&format!("{text}[repository]\n{lines}")).repository.location
    };
    assert_eq!(
        with("url = \"s3://b-1/x/y/\"\nendpoint = \"http://[::1]:9000\"\nallow_http = true"),
        Location::S3 {
            bucket: "b-1".into(),
            prefix: "x/y".into(),
            region: "us-east-1".into(),
            path_style: true,
            access_key_id: None,
            secret_access_key: None,
            session_token: None,
        }
    );
    assert_eq!(
        with("url = \"az://box\"\naccount = \"acme\"\naccount_key = { env = \"K\" }"),
        Location::Azure {
            container: "box".into(),
            prefix: String::new(),
            account: "acme".into(),
            account_key: Some(SecretRef::Env("K".into())),
        }
    );
    assert_eq!(
        with("url = \"gs://box/p\"\nservice_account = { credential = \"gcs.json\" }"),
        Location::Google {
            bucket: "box".into(),
            prefix: "p".into(),
            service_account: Some(SecretRef::Credential("gcs.json".into())),
        }
    );
}

#[test]
fn json_shows_references_and_units() {
    let text = format!("{MINIMAL}password = {{ file = \"/etc/p\" }}\n");
    let shown = serde_json::to_value(read(&text)).unwrap();
    let shop = &shown["sources"]["shop"];
    assert_eq!(shop["engine"], "pg_dump");
    assert_eq!(shop["policy"], "daily");
    assert_eq!(shop["password"], json!({ "file": "/etc/p" }));
    assert_eq!(shop["lock_timeout_seconds"], 30);
    assert_eq!(shop["sslmode"], "verify-full");
    assert_eq!(shown["repository"]["request_timeout_seconds"], json!(null));
    assert_eq!(shown["repository"]["location"], json!({ "kind": "file", "path": "/srv/backups" }));
    let daily = &shown["policies"]["daily"];
    assert_eq!(daily["schedule"], "0 2 * * *");
    assert_eq!(daily["timezone"], "Europe/Berlin");
    assert_eq!(daily["retention"]["within_seconds"], 2_592_000);
    assert_eq!(daily["objectives"]["rto_seconds"], 7_200);
}

fn values() -> Template {
    Template {
        host: Some("db \"one\" \\ ü".into()),
        url: "s3://bucket/prefix".into(),
        repository: vec![
            ("endpoint".into(), Setting::Text("https://minio:9000".into())),
            ("path_style".into(), Setting::Flag(false)),
            ("access_key_id".into(), Setting::Secret(SecretRef::Env("ID".into()))),
            ("secret_access_key".into(), Setting::Secret(SecretRef::Credential("s3".into()))),
        ],
        recipients: vec![
            "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p".into(),
            "age1lggyhqrw2nlhcxprm67z43rta597azn8gknawjehu9d9dl0jq3yqqvfafg".into(),
        ],
        signing_key: SecretRef::File("/etc/a \"b\"\\c\nd\u{1}\u{7f}/signing.key".into()),
        verifying_keys: vec![TrustedKey {
            key: "ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=".into(),
            name: Some("db \"one\"".into()),
            sources: Some(vec!["shop".parse().unwrap(), "blog".parse().unwrap()]),
            roles: Some(vec![Role::Log]),
        }],
        identity: Some(SecretRef::File("/etc/drctl/identity.age".into())),
        state_dir: "/srv/it's \"state\"".into(),
        runtime_dir: "/run/\\drctl".into(),
        source: SourceTemplate {
            id: "shop".parse().unwrap(),
            policy: "daily".into(),
            host: "/var/run/postgresql".into(),
            port: 5433,
            user: "dr'ctl\"".into(),
            databases: Some(vec!["sh\"op".into(), "back\\slash".into()]),
            password: Some(SecretRef::File("/etc/drctl/shop.password".into())),
        },
    }
}

#[test]
fn the_template_says_what_it_was_given() {
    let values = values();
    let config = read(&template(&values));
    assert_eq!(config.host, values.host);
    assert_eq!(config.repository.url, values.url);
    assert_eq!(config.repository.endpoint.as_deref(), Some("https://minio:9000"));
    assert_eq!(
        config.repository.location,
        Location::S3 {
            bucket: "bucket".into(),
            prefix: "prefix".into(),
            region: "us-east-1".into(),
            path_style: false,
            access_key_id: Some(SecretRef::Env("ID".into())),
            secret_access_key: Some(SecretRef::Credential("s3".into())),
            session_token: None,
        }
    );
    assert_eq!(config.keys.recipients, values.recipients);
    assert_eq!(config.keys.signing_key, Some(values.signing_key));
    assert_eq!(config.keys.verifying_keys, values.verifying_keys);
    assert_eq!(config.keys.identity, values.identity);
    assert_eq!(config.paths.state_dir, PathBuf::from(values.state_dir));
    assert_eq!(config.paths.runtime_dir, PathBuf::from(values.runtime_dir));
    let source = pg_dump(&config, "shop");
    assert_eq!((source.server.port, &source.server.host), (5433, &values.source.host));
    assert_eq!(source.server.user, values.source.user);
    assert_eq!(source.databases, values.source.databases);
    assert_eq!(source.server.password, values.source.password);
}

#[test]
fn the_shortest_template_is_good_too() {
    let mut values = values();
    (values.host, values.identity) = (None, None);
    values.repository.clear();
    (values.source.databases, values.source.password) = (None, None);
    let config = read(&template(&values));
    assert_eq!(pg_dump(&config, "shop").databases, None);
    assert_eq!((config.host, config.keys.identity), (None, None));
}

/// Every path of a key in a schema: `["sources", "*", "port"]`.
fn paths(object: &Value, at: &[&str], out: &mut Vec<Vec<String>>) {
    let own = |name: &str| at.iter().map(|s| (*s).to_owned()).chain([name.to_owned()]).collect();
    for (name, property) in object["properties"].as_object().into_iter().flatten() {
        out.push(own(name));
        let inner: Vec<_> = at.iter().copied().chain([name.as_str()]).collect();
        paths(property, &inner, out);
        if property["additionalProperties"].is_object() {
            let inner: Vec<_> = inner.into_iter().chain(["*"]).collect();
            paths(&property["additionalProperties"], &inner, out);
        }
    }
}

/// The text that sets a key to a date, which no key takes.
fn dated(path: &[String]) -> String {
    let path: Vec<_> = path.iter().map(|part| if part == "*" { "x" } else { part }).collect();
    format!("{} = 2026-01-01\n", path.join("."))
}

#[test]
fn schema_and_parser_know_the_same_keys() {
    let schema = schema();
    let mut main = Vec::new();
    paths(&schema["$defs"]["drctl"], &[], &mut main);
    let mut policy = Vec::new();
    paths(&schema["$defs"]["policy"], &[], &mut policy);
    assert!(main.len() > 40 && policy.len() > 12, "{} {}", main.len(), policy.len());

    // The parser reads every key of the schema: of each it says that a date is nothing for it.
    for path in &main {
        let found = parse(&file("m", &dated(path)), &[]).unwrap_err();
        let name = path.last().unwrap();
        let column = dated(path).find(" = ").unwrap() + 4;
        assert!(
            found.iter().any(|d| d.column == column
                && d.message.contains(name)
                && !d.message.contains("unknown")),
            "{path:?}: {found:#?}"
        );
    }
    for path in &policy {
        let found = parse(&file("m", MINIMAL), &[file("daily", &dated(path))]).unwrap_err();
        let column = dated(path).find(" = ").unwrap() + 4;
        assert!(
            found
                .iter()
                .any(|d| d.file == "daily" && d.column == column && !d.message.contains("unknown")),
            "{path:?}: {found:#?}"
        );
    }
    // And it refuses every other key, as the schema does.
    assert_closed(&schema["$defs"]["drctl"]);
    assert_closed(&schema["$defs"]["policy"]);
}

fn assert_closed(object: &Value) {
    if object.get("properties").is_some() {
        assert_eq!(object["additionalProperties"], false, "{object}");
        for property in object["properties"].as_object().unwrap().values() {
            assert_closed(property);
            assert_closed(&property["additionalProperties"]);
        }
    }
}

#[test]
fn the_samples_name_every_key() {
    let schema = schema();
    for (def, sample) in [("drctl", SAMPLE_MAIN), ("policy", SAMPLE_POLICY)] {
        let mut known = Vec::new();
        paths(&schema["$defs"][def], &[], &mut known);
        for path in known {
            let name = path.last().unwrap();
            let named = sample.lines().any(|line| {
                let line = line.trim_start_matches('#');
                let table = format!("[{}]", path.join("."));
                // Of a table under a name that the operator chooses.
                let below = [format!(".{name}]"), format!(".{name}.")];
                line.starts_with(&format!("{name} = "))
                    || line.starts_with(&format!("[{name}"))
                    || line.starts_with(&table)
                    || line.starts_with('[') && below.iter().any(|part| line.contains(part))
            });
            assert!(named, "{name} is not in the sample");
        }
    }
}

/// One of the samples, damaged: parts cut, doubled, replaced or inserted.
fn damaged(sample: &'static str) -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just(String::new()),
        any::<char>().prop_map(String::from),
        prop::sample::select(vec![
            "\"",
            "'''",
            "\"\"\"",
            "[",
            "]",
            "[[",
            "{",
            "}",
            "=",
            ".",
            "\n",
            "#",
            "\\u{",
            "\u{feff}",
            "0x",
            "-1",
            "1e400",
            "9999999999999999999",
            "true",
            "2026-01-01",
            "\"é\"",
            "= {}",
            "= []",
            "a.b.c",
            "\r",
            "\0",
            "* * * * *",
            "\"@\"",
            "99999999999999w",
            "\"s3://\"",
            "\"://@\"",
        ])
        .prop_map(str::to_owned),
        "\\PC{0,20}",
    ];
    let edit = (0..sample.len(), 0..60usize, piece);
    prop::collection::vec(edit, 1..6).prop_map(move |edits| {
        let mut text = sample.to_owned();
        for (at, length, piece) in edits {
            let from = text.floor_char_boundary(at.min(text.len()));
            let to = text.floor_char_boundary((from + length).min(text.len())).max(from);
            text.replace_range(from..to, &piece);
        }
        text
    })
}

proptest! {
    #[test]
    fn parsing_never_panics(main in damaged(SAMPLE_MAIN), policy in damaged(SAMPLE_POLICY)) {
        let main = file("drctl.toml", &main);
        let policy = file("policies.d/daily.toml", &policy);
        let _ = drctl_policies::policies_dir(&main);
        if let Err(found) = parse(&main, std::slice::from_ref(&policy)) {
            prop_assert!(!found.is_empty());
            for diagnostic in found {
                let file = if diagnostic.file == main.name { &main } else { &policy };
                // Every place exists.
                prop_assert!(diagnostic.line <= file.text.matches('\n').count() + 1);
                let line = file.text.split('\n').nth(diagnostic.line - 1).unwrap();
                prop_assert!(diagnostic.column <= line.chars().count() + 1);
                prop_assert!(!diagnostic.to_string().contains('\n'));
            }
        }
    }

    #[test]
    fn any_text_is_answered(text in any::<String>()) {
        prop_assert!(parse(&file("drctl.toml", &text), &[]).is_err());
    }
}
