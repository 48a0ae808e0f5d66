//! Text and numbers that somebody else wrote, signed or not: shown bounded and harmless, summed
//! without end.

use std::fs;
use std::sync::Arc;

use drctl_model::PageRef;
use drctl_tests::servers::postgres::Postgres;
use drctl_tests::site::Site;

use crate::common::{Shop, manifest_of, name, orders, resign};

/// What no terminal may be sent: escape sequences, line ends within a name, text turned around.
const HOSTILE: &str = "x\u{1b}[2J\rstate good\nBACKUP\u{9b}31m\u{202e}\u{61c}";

/// Asserts that a command's words hold nothing that a terminal obeys, and are not endless.
#[track_caller]
fn harmless(shop: &Shop, arguments: &[&str]) -> String {
    let ran = shop.site.drctl(arguments);
    let said = format!("{}{}", ran.out, ran.err);
    assert!(!said.contains("panicked"), "{said}");
    let obeyed = |c: char| {
        (c.is_control() && !matches!(c, '\n' | '\t')) || matches!(c, '\u{202e}' | '\u{61c}')
    };
    assert!(!said.contains(obeyed), "{arguments:?}: {said:?}");
    assert!(!said.lines().any(|line| line.starts_with("BACKUP\\u{9b}")), "{said}");
    assert!(said.len() < 20_000, "{arguments:?} prints {} bytes", said.len());
    said
}

#[test]
fn foreign_text_reaches_no_terminal_as_it_is() {
    let server = Arc::new(Postgres::start());
    server.psql("postgres", &format!("create database \"{HOSTILE}\""));
    server.psql(HOSTILE, "create table t as select 1 as x");
    server.psql(HOSTILE, &format!("create table \"{HOSTILE}\" as select 1 as x"));
    let shop = Shop { site: Site::with(&server), server, db: HOSTILE.to_owned() };
    let id = shop.site.backup();
    resign(&shop, &id, |manifest| {
        manifest.host = HOSTILE.repeat(5000);
        manifest.tools.insert(HOSTILE.to_owned(), HOSTILE.repeat(5000));
        manifest.recipients.push(format!("{HOSTILE}\ntouch pwned"));
        manifest.suspect.push(HOSTILE.repeat(5000));
    });
    fs::write(shop.site.path("repository/notes\u{9b}31m\u{202e}"), "x").unwrap();
    let _ = shop.site.drctl(&["catalog", "rebuild"]).ended(3);
    let said = harmless(&shop, &["show", &id]);
    assert!(
        said.contains("x\\u{1b}[2J\\rstate good\\nBACKUP\\u{9b}31m\\u{202e}\\u{61c}"),
        "{said}"
    );
    for arguments in [
        &["list"][..],
        &["status"],
        &["verify", "--data"],
        &["catalog", "check"],
        &["catalog", "rebuild"],
        &["restore", "shop", "--latest", "--to-files", "x", "--plan"],
        &["restore", "shop", "--backup", &id, "--to-files", "x", "--plan"],
        &["restore", "shop", "--backup", &id, "--to-files", "x"],
        &["restore", "shop", "--backup", &id, "--database", "none", "--to-files", "y"],
    ] {
        let _ = harmless(&shop, arguments);
    }
    let target = Postgres::start();
    let (host, port) = (target.socket_dir().display().to_string(), target.port().to_string());
    let into = ["restore", "shop", "--backup", &id, "--to-host", &host, "--to-port", &port];
    for more in [&["--plan"][..], &[], &["--missing"], &["--plan"], &["--plan", "--missing"]] {
        let said = harmless(&shop, &[&into[..], more].concat());
        assert!(!said.lines().any(|line| line.starts_with("BACKUP")), "{more:?}: {said}");
    }
    // What is to be typed to get rid of it can be typed.
    let quoted = format!("\"{HOSTILE}\"");
    let mark = "'drctl: NOT COMPLETE. Its restore is running, or broke off'";
    target.psql("postgres", &format!("comment on database {quoted} is {mark}"));
    let said = harmless(&shop, &[&into[..], &["--missing"]].concat());
    assert!(!said.lines().any(|line| line.starts_with("BACKUP")), "{said}");
    let drop = said.split('`').find(|part| part.starts_with("DROP DATABASE U&")).unwrap();
    target.psql("postgres", drop);
    let _ = harmless(&shop, &[&into[..], &["--missing"]].concat());
    assert_eq!(target.psql(HOSTILE, "select x from t"), "1");
    // What is printed to be run as root must not grow commands.
    let script = harmless(&shop, &["show", &id, "--emergency"]);
    assert!(!script.lines().any(|line| line.starts_with("touch pwned")), "{script}");
}

#[test]
fn names_on_a_server_are_told_in_one_line() {
    let server = Arc::new(Postgres::start());
    // A configuration holds no line end.
    let role = "low\u{202e}";
    for sql in [
        format!("create database \"{HOSTILE}\""),
        format!("create database \"gone{HOSTILE}\""),
        format!("create role \"{role}\" login"),
    ] {
        server.psql("postgres", &sql);
    }
    server.psql(HOSTILE, &format!("create table \"{HOSTILE}\" as select 1 as x"));
    server.psql(&format!("gone{HOSTILE}"), "create table t as select 1 as x");
    let shop = Shop { site: Site::with(&server), server, db: HOSTILE.to_owned() };
    let one_line = |arguments: &[&str]| {
        let said = harmless(&shop, arguments);
        let begins = |line: &str| line.trim_start().starts_with("BACKUP");
        assert!(!said.lines().any(begins), "{arguments:?}: {said}");
        said
    };
    let said = one_line(&["doctor"]);
    assert!(said.contains("\\nBACKUP"), "{said}");
    let _ = one_line(&["backup", "shop"]);
    shop.server.psql("postgres", &format!("drop database \"gone{HOSTILE}\""));
    let said = one_line(&["backup", "shop"]);
    assert!(said.contains("note: database gonex"), "{said}");
    let _ = one_line(&["status"]);
    // One that may read nothing is told what it needs, as it can be typed.
    let user = serde_json::to_string(role).unwrap();
    shop.site.replace("user = \"postgres\"", &format!("user = {user}\nrole_passwords = false"));
    let said = one_line(&["doctor"]);
    assert!(said.contains("cannot be read: public.x"), "{said}");
    let grant = said.split('`').find(|part| part.starts_with("GRANT pg_read_all_data TO U&"));
    shop.server.psql("postgres", grant.unwrap_or_else(|| panic!("{said}")));
    let said = one_line(&["doctor"]);
    assert!(!said.contains("cannot be read"), "{said}");
}

#[test]
fn numbers_without_end_are_summed_without_a_crash() {
    let shop = Shop::open();
    let id = shop.site.backup();
    resign(&shop, &id, |manifest| {
        for stream in &mut manifest.streams {
            stream.sealed_bytes = u64::MAX;
            for page in &mut stream.pages {
                *page = PageRef { bytes: u64::MAX, ..page.clone() };
            }
        }
    });
    let rebuilt = shop.site.drctl(&["catalog", "rebuild"]).ended(3);
    assert!(rebuilt.out.contains("names 16 with 18446744073709551615"), "{}", rebuilt.out);
    for arguments in [
        &["show", &id][..],
        &["list"],
        &["restore", "shop", "--backup", &id, "--to-files", "x", "--plan"],
    ] {
        let said = harmless(&shop, arguments);
        assert!(!said.is_empty(), "{arguments:?} says nothing");
    }
    let verified = shop.site.json(4, &["verify", "--data"]);
    assert_eq!(verified["backups"][0]["problems"][0]["code"], "objects_differ", "{verified}");
}

#[test]
fn a_key_that_nothing_reads_keeps_nobody_from_restoring() {
    let shop = Shop::open();
    let id = shop.site.backup();
    let foreign = shop.site.path("repository/s/shop/b/\u{1b}[2J");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("x"), "x").unwrap();
    let found = shop.site.json(3, &["catalog", "check"]);
    assert!(found["strays"][0].as_str().is_some_and(|one| one.contains("[2J")), "{found}");
    let new = name();
    let _ = shop.site.json(0, &shop.to_beside(&id, &new));
    assert_eq!(orders(&shop.server, &new), orders(&shop.server, &shop.db));
    // Where it lies is no other source's concern, and a backup is committed beside it.
    let _ = shop.site.backup();
    fs::remove_dir_all(&foreign).unwrap();
    let _ = shop.site.drctl(&["catalog", "check"]).ended(0);
}

#[test]
fn a_backup_from_the_future_is_not_the_latest() {
    let shop = Shop::open();
    let wrong = shop.site.backup();
    // As a host writes it whose clock is ten years ahead.
    let future = format!("2126{}", &wrong[4..]);
    let (old, new) = (manifest_of(&shop, &wrong), manifest_of(&shop, &future));
    fs::rename(old.parent().unwrap(), new.parent().unwrap()).unwrap();
    let ahead = jiff::SignedDuration::from_hours(24 * 365 * 100);
    resign(&shop, &future, |manifest| {
        manifest.backup = future.parse().unwrap();
        manifest.started += ahead;
        manifest.finished += ahead;
    });
    shop.sql("insert into orders values (0, 'since')");
    let _ = shop.site.drctl(&["catalog", "rebuild"]).ended(0);
    assert_eq!(shop.site.status()["health"], "breached", "nobody knows how old it is");
    let right = shop.site.backup();
    let ran =
        shop.site.drctl(&["--json", "restore", "shop", "--latest", "--to-files", "x", "--plan"]);
    assert_eq!(ran.clone().ended(0).json()["backup"], right.as_str());
    assert!(ran.err.contains("dated in the future"), "{}", ran.err);
    let status = shop.site.status();
    assert!(status["findings"].to_string().contains("set the clock right"), "{status}");
    assert_eq!(status["newest_good"]["backup"], right.as_str(), "{status}");
    // The one of the future hides neither a breach nor a run that is due.
    let long_ago = jiff::SignedDuration::from_hours(24 * 20);
    resign(&shop, &right, |manifest| {
        manifest.started -= long_ago;
        manifest.finished -= long_ago;
    });
    for file in ["catalog.db", "catalog.db-wal", "catalog.db-shm"] {
        let _ = fs::remove_file(shop.site.path("state").join(file));
    }
    let _ = shop.site.drctl(&["catalog", "rebuild"]).ended(0);
    let status = shop.site.json(11, &["status", "--check"]);
    let status = &status["sources"][0];
    assert_eq!(status["newest_good"]["backup"], right.as_str(), "{status}");
    let told = status["findings"].to_string();
    assert!(told.contains("RPO") && told.contains("was due at"), "{told}");
    assert!(told.contains("dated in the future"), "{told}");
}
