//! Clones: a source as it was, as a server to use for a while; then nothing of it is left.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Child, Command, Stdio};

use drctl_tests::cluster::{Cluster as _, give_away};
use drctl_tests::json_page::documented;
use drctl_tests::site::{Ran, until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::common::Shop;

impl Shop {
    /// Makes a clone that is kept in the background.
    #[track_caller]
    fn clone_of(&self, more: &[&str]) -> Value {
        self.drctl(&[&["clone", "shop", "--detach"], more].concat()).ended(0).json()
    }

    /// Asks a clone as its own account.
    fn ask(&self, clone: &Value, database: &str, sql: &str) -> Ran {
        let mut psql = self.as_owner(self.server.bin_dir().join("psql"));
        psql.args(["-XAtq", "-h", word(&clone["socket"]), "-p", &clone["port"].to_string()]);
        psql.args(["-U", word(&clone["user"]), "-d", database, "-c", sql]);
        Ran::of(&psql.output().expect("start psql"))
    }

    /// Asks it by the exposed way, as anybody.
    fn ask_exposed(&self, clone: &Value, (user, database): (&str, &str), sql: &str) -> Ran {
        let exposed = &clone["exposed"];
        let at = word(&exposed["at"]);
        let (host, port) = match at.strip_prefix('/') {
            Some(_) => (at, "5432"),
            None => at.rsplit_once(':').expect("a port"),
        };
        let mut psql = Command::new(self.server.bin_dir().join("psql"));
        psql.args(["-XAtqw", "-h", host, "-p", port, "-U", user, "-d", database, "-c", sql]);
        psql.env("PGPASSWORD", word(&exposed["password"]));
        Ran::of(&psql.output().expect("start psql"))
    }

    /// The clones that are there.
    fn clones(&self) -> Vec<Value> {
        let all = self.drctl(&["clone", "list"]).ended(0).json();
        all["clones"].as_array().expect("a list").clone()
    }

    /// Ends a clone; nothing of it is left then, no server of it either.
    #[track_caller]
    fn destroyed(&self, clone: &Value) {
        let gone = self.drctl(&["clone", "destroy", word(&clone["clone"])]).ended(0).json();
        assert_eq!(gone["clone"], clone["clone"]);
        self.nothing_is_left();
        assert!(!std::path::Path::new(word(&clone["socket"])).exists());
    }

    #[track_caller]
    fn nothing_is_left(&self) {
        assert!(self.left().is_empty(), "{:?}", self.left());
        assert_eq!(servers(&self.scratch().display().to_string()), 0);
        assert_eq!(self.clones(), [Value::Null; 0]);
    }
}

fn word(value: &Value) -> &str {
    value.as_str().expect("a text")
}

/// Processes whose command line has these words.
fn servers(words: &str) -> usize {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let line = |entry: &fs::DirEntry| fs::read_to_string(entry.path().join("cmdline")).ok();
    entries.filter(|entry| line(entry).is_some_and(|line| line.contains(words))).count()
}

fn signal(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a number")).expect("a process");
    kill_process(pid, signal).expect("sent");
}

#[test]
fn a_cluster_is_there_as_it_was_and_takes_what_is_written() {
    let shop = Shop::cluster();
    let _ = shop.back_up();
    shop.tick(1..11);
    let at = shop.committed(10);
    shop.tick(11..21);
    shop.archived();
    let clone = shop.clone_of(&["--ttl", "1h", "--to-time", &at]);
    let rows = || shop.ask(&clone, "postgres", "select count(*) from ticks").ended(0).out;
    assert_eq!((rows().trim(), &clone["exposed"]), ("10", &Value::Null), "{clone}");
    assert_eq!(shop.sql("select count(*) from ticks").trim(), "20");
    let write = "insert into ticks values (-1, 'mine'); drop table orders";
    let _ = shop.ask(&clone, "postgres", write).ended(0);
    assert_eq!(rows().trim(), "11");
    assert_eq!(shop.sql("select count(*) from orders").trim(), "2000", "the source has its own");
    // It has neither a network nor the host's files.
    let reach = "copy (select 1) to program 'cat /etc/shadow /proc/1/environ'";
    let _ = shop.ask(&clone, "postgres", reach).ended(1);
    let members: BTreeSet<String> = clone.as_object().unwrap().keys().cloned().collect();
    assert_eq!(
        members,
        documented("drctl.clone/1").into_iter().chain(["schema".to_owned()]).collect()
    );
    let seen = shop.clones();
    assert_eq!((seen.len(), &seen[0]["clone"]), (1, &clone["clone"]));
    let id = word(&clone["clone"]);
    let longer = shop.drctl(&["clone", "extend", id, "--ttl", "3h"]).ended(0).json();
    assert!(word(&longer["ends"]) > word(&clone["ends"]), "{longer}");
    // A drill beside it lets it alone.
    assert_eq!(shop.drill(0, &[])["verdict"], "pass");
    assert_eq!(rows().trim(), "11");
    shop.destroyed(&clone);
    let _ = shop.drctl(&["clone", "destroy", id]).failed(2, "usage");
    let log = shop.drctl(&["audit", "show"]).ended(0).json();
    let verbs: Vec<&str> = log["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| word(&entry["verb"]))
        .filter(|verb| verb.starts_with("clone"))
        .collect();
    assert!(["clone", "clone extend", "clone destroy"].iter().all(|verb| verbs.contains(verb)));
}

#[test]
fn others_get_in_once_it_is_masked_and_find_nothing_else() {
    let shop = Shop::open();
    shop.sql("create table people (id int, mail text)");
    shop.sql("insert into people select g, 'secret' || g || '@example.org' from generate_series(1, 500) g");
    let _ = shop.back_up();
    let mask = shop.site.path("mask.sql");
    let statements =
        "update people set mail = 'user' || id || '@invalid';\nalter table people add note text";
    fs::write(&mask, statements).unwrap();
    give_away(&mask);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port().to_string();
    drop(free);
    let mask = mask.display().to_string();
    let more = ["--ttl", "1h", "--mask", &mask, "--mask-database", "postgres", "--expose", &port];
    let clone = shop.clone_of(&more);
    assert_eq!(clone["masked"], true, "{clone}");
    let ask = |sql: &str| shop.ask_exposed(&clone, ("drctl_clone", "postgres"), sql);
    let count = "select count(*) filter (where mail like 'secret%'), count(*) from people";
    assert_eq!(ask(count).ended(0).out.trim(), "0|500");
    let _ = ask("insert into orders values (5000, 'mine')").ended(0);
    // The files hold what was there before for nobody: neither by the server, nor in the tables.
    for sql in ["select pg_read_file('postgresql.auto.conf')", "copy people to program 'cat'"] {
        let _ = ask(sql).ended(1);
    }
    let data = shop.left()[0].join("restored/data/base");
    let grep = Command::new("grep").args(["-rqa", "secret17@"]).arg(&data).status();
    assert_eq!(grep.unwrap().code(), Some(1), "{} has it", data.display());
    // Nobody else's name opens it, and no other password.
    let other = shop.ask_exposed(&clone, ("drctl_scratch", "postgres"), "select 1");
    assert!(other.err.contains("only the role drctl_clone may come this way"), "{}", other.err);
    let mut wrong = clone.clone();
    wrong["exposed"]["password"] = "wrong".into();
    let said = shop.ask_exposed(&wrong, ("drctl_clone", "postgres"), "select 1");
    assert!(said.err.contains("password authentication failed"), "{}", said.err);
    // It can be dumped on its way to others.
    let mut dump = Command::new(shop.server.bin_dir().join("pg_dump"));
    let at = word(&clone["exposed"]["at"]).rsplit_once(':').unwrap();
    dump.args(["-w", "-h", at.0, "-p", at.1, "-U", "drctl_clone", "postgres"]);
    dump.env("PGPASSWORD", word(&clone["exposed"]["password"]));
    let dumped = dump.output().unwrap();
    let text = String::from_utf8_lossy(&dumped.stdout);
    assert!(dumped.status.success() && text.contains("user17@invalid"), "{text}");
    shop.destroyed(&clone);
    let mut psql = Command::new(shop.server.bin_dir().join("psql"));
    psql.args(["-XAtqw", "-h", at.0, "-p", at.1, "-U", "drctl_clone", "postgres", "-c", "select"]);
    assert!(!psql.output().unwrap().status.success(), "somebody still listens");
}

#[test]
fn one_that_cannot_be_masked_lets_nobody_in() {
    let shop = Shop::open();
    let _ = shop.back_up();
    let mask = shop.site.path("mask.sql");
    fs::write(&mask, "update orders set note = 'x'; update nothing set a = 1").unwrap();
    give_away(&mask);
    let mask = mask.display().to_string();
    let words = ["clone", "shop", "--ttl", "1h", "--mask", &mask, "--mask-database", "postgres"];
    for detach in [false, true] {
        let more: &[&str] = if detach { &["--detach"] } else { &[] };
        let said = shop.drctl(&[&words[..], more].concat());
        let said = said.failed(10, "query");
        assert!(said.contains("mask the clone"), "{said}");
        shop.nothing_is_left();
    }
    let words = ["clone", "shop", "--ttl", "1h", "--mask", &mask, "--mask-database", "none"];
    let said = shop.drctl(&words).failed(2, "usage");
    assert!(said.contains("--mask-database: there are postgres"), "{said}");
    let _ = shop.drctl(&["clone", "shop", "--ttl", "1000h"]).failed(2, "usage");
    let _ = shop.drctl(&["clone", "shop"]).failed(2, "usage");
    shop.nothing_is_left();
}

/// A clone that a command keeps in the foreground, once it can be used.
fn kept(shop: &Shop, ttl: &str) -> Child {
    let mut command = shop.command(&["clone", "shop", "--ttl", ttl]);
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("start drctl");
    until("a clone", || shop.clones().len() == 1);
    child
}

#[test]
fn it_is_gone_when_its_time_is_over_or_whoever_keeps_it_is() {
    let shop = Shop::open();
    let _ = shop.back_up();
    let mut child = kept(&shop, "3s");
    assert!(child.wait().unwrap().success());
    shop.nothing_is_left();
    let mut child = kept(&shop, "1h");
    signal(&child, Signal::INT);
    assert!(child.wait().unwrap().success());
    shop.nothing_is_left();
    // What is killed leaves its files, and no server; the next one removes them.
    let mut child = kept(&shop, "1h");
    signal(&child, Signal::KILL);
    let _ = child.wait();
    let data = shop.left()[0].join("restored/data").display().to_string();
    until("its server to end", || servers(&data) == 0);
    assert_eq!((shop.left().len(), shop.clones().len()), (1, 0));
    assert_eq!(shop.drill(0, &[])["verdict"], "pass");
    shop.nothing_is_left();
}

/// What the owner of a source may leave there for whoever masks a clone of it.
const LEFT: &str = "
    create table people (id int, mail text);
    insert into people select g, 'secret' || g || '@example.org' from generate_series(1, 500) g;
    analyze people;
    create table hist (mail text);
    create function keeps() returns trigger language plpgsql as
        'begin insert into hist values (old.mail); execute ''grant postgres to drctl_clone''; return new; end';
    create trigger keeps before update on people for each row execute function keeps();
    alter table people enable always trigger keeps;
    create role clerk password 'x' createrole;
    create role drctl_clone superuser; grant postgres to drctl_clone;
    create function reads() returns text language sql security definer as 'select pg_read_file(''PG_VERSION'')';
    grant execute on function pg_read_file(text) to public;
    create database other;
    alter system set work_mem = '7MB'; alter system set shared_preload_libraries = 'nowhere';
";

#[test]
fn whoever_gets_into_a_masked_clone_finds_nothing_of_what_was_there() {
    let shop = Shop::cluster();
    LEFT.split(";\n").filter(|one| !one.trim().is_empty()).for_each(|one| drop(shop.sql(one)));
    shop.sql("begin; insert into people values (9999, 'secret9999'); prepare transaction 'waits'");
    let _ = shop.back_up();
    shop.archived();
    let mask = shop.site.path("mask.sql");
    fs::write(&mask, "update people set mail = 'user' || id || '@invalid';").unwrap();
    give_away(&mask);
    let place = shop.site.path("way");
    fs::create_dir(&place).unwrap();
    give_away(&place);
    let (file, way) = (mask.display().to_string(), place.display().to_string());
    let words = ["--ttl", "1h", "--mask", &file, "--mask-database", "postgres", "--expose", &way];
    let clone = shop.clone_of(&words);
    let ask = |sql: &str| shop.ask_exposed(&clone, ("drctl_clone", "postgres"), sql);
    let count = |sql: &str| ask(sql).ended(0).out.trim().to_owned();
    assert_eq!(count("select count(*) from people where mail like 'user%'"), "500");
    assert_eq!(count("select count(*) from people where mail like 'secret%'"), "0");
    assert_eq!(count("select count(*) from hist"), "0", "a trigger kept what was there");
    assert_eq!(
        count("select count(*) from pg_stats where histogram_bounds::text like '%secret%'"),
        "0"
    );
    assert_eq!(
        count("select count(*) from pg_auth_members where member = 'drctl_clone'::regrole"),
        "0"
    );
    for sql in [
        "select rolpassword from pg_authid",
        "select stavalues1 from pg_statistic",
        "select data from pg_largeobject",
        "set role postgres",
        "set role clerk",
        "select reads()",
        "select pg_read_file('PG_VERSION')",
        "commit prepared 'waits'",
    ] {
        let said = ask(sql).ended(1);
        assert!(said.err.contains("ERROR"), "{sql}: {}", said.err);
    }
    let other = shop.ask_exposed(&clone, ("drctl_clone", "other"), "select 1").ended(2);
    assert!(other.err.contains("pg_hba.conf rejects"), "{}", other.err);
    // The source's own settings are for its host.
    let set = "select current_setting('work_mem'), current_setting('shared_preload_libraries')";
    assert_eq!(shop.ask(&clone, "postgres", set).ended(0).out.trim(), "4MB|");
    // One that is killed leaves its socket, which the next one removes.
    assert!(place.join(".s.PGSQL.5432").exists());
    shop.destroyed(&clone);
    assert!(!place.join(".s.PGSQL.5432").exists());
    drop(std::os::unix::net::UnixListener::bind(place.join(".s.PGSQL.5432")).unwrap());
    give_away(&place);
    let again = shop.clone_of(&words);
    let _ = shop.drctl(&["clone", "destroy", ""]).failed(2, "usage");
    shop.destroyed(&again);
    // What masks nothing is no mask.
    for odd in [
        "",
        "-- nothing yet\n",
        "update people set mail = 'x'; rollback;",
        "update people set mail = 'x'; commit; select 1",
    ] {
        fs::write(&mask, odd).unwrap();
        let ran = shop.drctl(&[&["clone", "shop"], &words[..]].concat());
        let said = ran.failed(10, "query");
        assert!(said.contains("the file"), "{odd}: {said}");
        shop.nothing_is_left();
        assert!(!place.join(".s.PGSQL.5432").exists());
    }
}
