//! Whoever answers in place of a server, and owners of tables who would have our rights.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use drctl_tests::servers::between::Between;
use drctl_tests::servers::postgres::Postgres;
use drctl_tests::site::{Ran, Site, drctl};

use crate::common::{Shop, Somebody, counted, name, until_locked_out};

pub(crate) const WORD: &str = "the-secret-word";

/// Somebody who listens, answers each connection's first message with `answer`, and tells what was
/// said to him on it.
fn peer(answer: &'static [u8]) -> (u16, Receiver<Vec<u8>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tell, heard) = channel();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let tell = tell.clone();
            thread::spawn(move || tell.send(listen(stream, answer)));
        }
    });
    (port, heard)
}

fn listen(mut stream: TcpStream, answer: &[u8]) -> Vec<u8> {
    let mut said = vec![0; 4];
    if stream.read_exact(&mut said).is_err() {
        return said;
    }
    let length = u32::from_be_bytes([said[0], said[1], said[2], said[3]]);
    let mut rest = vec![0; length as usize - 4];
    let _ = stream.read_exact(&mut rest);
    said.extend(rest);
    let _ = stream.write_all(answer);
    // Endless, where a message was begun that is not ended.
    if answer.ends_with(b"MORE\0") {
        while stream.write_all(&[b'x'; 1 << 16]).is_ok() {}
    }
    let _ = stream.read_to_end(&mut said);
    said
}

/// A host whose source is whoever listens on a port.
pub(crate) fn site(port: u16, sslmode: &str, engine: &str) -> Site {
    let (site, shop) = (Site::empty(), Postgres::start());
    let word = site.path("word");
    std::fs::write(&word, WORD).unwrap();
    let word = word.display().to_string();
    let url = format!("file://{}", site.path("repository").display());
    site.init(&shop, &url, &["--password-file", &word]);
    site.replace(&format!("host = \"{}\"", shop.socket_dir().display()), "host = \"127.0.0.1\"");
    site.replace(&format!("port = {}", shop.port()), &format!("port = {port}"));
    site.source(&format!("silence = \"1s\"\nsslmode = \"{sslmode}\""));
    site.replace("engine = \"pg_dump\"", &format!("engine = \"{engine}\""));
    site
}

#[test]
fn a_peer_that_is_silent_endless_or_downgrading_costs_little_and_gets_no_password() {
    let cases: [(&str, &[u8], &str, &str); 6] = [
        ("clear text", b"R\0\0\0\x08\0\0\0\x03", "disable", "auth"),
        ("MD5", b"R\0\0\0\x0c\0\0\0\x05salt", "disable", "auth"),
        ("no encryption", b"N", "verify-full", "connect"),
        ("no encryption, then clear text", b"NR\0\0\0\x08\0\0\0\x03", "prefer", "auth"),
        ("endless", b"E\x77\x35\x94\0SMORE\0", "disable", "connect"),
        ("silent", b"", "disable", "connect"),
    ];
    for engine in ["pg_dump", "base_backup"] {
        for (what, answer, sslmode, code) in cases {
            let (port, heard) = peer(answer);
            let site = site(port, sslmode, engine);
            let said = site.fails(10, code, &["backup", "shop"]);
            assert!(code != "auth" || said.contains("password was not sent"), "{what}: {said}");
            let first = heard.recv_timeout(Duration::from_secs(60)).unwrap();
            for said in std::iter::once(first).chain(heard.try_iter()) {
                let digest = said.windows(3).any(|three| three == b"md5");
                let word = said.windows(WORD.len()).any(|some| some == WORD.as_bytes());
                assert!(!word && !digest, "{what}: {}", said.escape_ascii());
            }
        }
    }
}

/// Somebody who listens at a socket and tells what was said to him.
fn at_socket(directory: &Path) -> Receiver<Vec<u8>> {
    let listener = UnixListener::bind(directory.join(".s.PGSQL.5432")).unwrap();
    let (tell, heard) = channel();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut said = Vec::new();
            let _ = stream.read_to_end(&mut said);
            let _ = tell.send(said);
        }
    });
    heard
}

#[test]
fn whoever_listens_at_a_socket_gets_nothing_unless_the_account_may() {
    for engine in ["pg_dump", "base_backup"] {
        let site = site(5432, "disable", engine);
        let place = site.path("sockets");
        std::fs::create_dir(&place).unwrap();
        let heard = at_socket(&place);
        let host = format!("host = \"{}\"", place.display());
        site.replace(
            "host = \"127.0.0.1\"",
            &format!("{host}\nrequire_peer = \"no-such-account\""),
        );
        for command in [&["backup", "shop"][..], &["wal", "stream", "shop"]] {
            // Dumps have no WAL.
            if engine == "base_backup" || command[0] == "backup" {
                let said = site.fails(10, "unproven_peer", command);
                assert!(said.contains("require_peer") && !said.contains(WORD), "{said}");
                assert_eq!(heard.recv_timeout(Duration::from_secs(60)).unwrap(), b"");
            }
        }
        let doctor = site.drctl(&["doctor"]);
        assert!(doctor.out.contains("not proven to be the PostgreSQL server"), "{}", doctor.out);
        assert!(heard.try_iter().all(|said| said.is_empty()));
    }
}

#[test]
fn a_server_in_a_place_of_everybody_is_named_or_refused() {
    let server = Postgres::start();
    server.psql("postgres", "create database app");
    server.psql("app", "create table t as select 1");
    let site = Site::with(&server);
    let backup = site.backup();
    let open = |mode| {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(server.socket_dir(), mode).unwrap();
    };
    open(0o1777);
    let place = server.socket_dir().display().to_string();
    let checked = site.json(0, &["config", "check"]);
    assert_eq!(checked["sources"][0]["socket_open"], place.as_str());
    let to = ["restore", "shop", "--backup", &backup, "--database", "app", "--as"];
    let identity = site.identity().display().to_string();
    let port = server.port().to_string();
    let with = |more: &[&str]| {
        [&to[..], more, &["--identity", &identity]]
            .concat()
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    // Who runs the tests as root has the server run as another account, which is not believed here.
    if rustix::process::geteuid().is_root() {
        let said = site.fails(10, "unproven_peer", &["backup", "shop"]);
        assert!(said.contains("other accounts may put a socket there"), "{said}");
        for target in [&["beside"][..], &["there", "--to-host", &place, "--to-port", &port]] {
            let ran = site.drctl(&with(target));
            assert!(ran.err.contains("not proven"), "{target:?}: {}", ran.err);
        }
    }
    let account = server.psql("postgres", "select current_user");
    let owner = match rustix::process::geteuid().is_root() {
        true => account,
        false => std::env::var("USER").expect("a name"),
    };
    site.source(&format!("require_peer = \"{owner}\""));
    assert!(site.json(0, &["config", "check"])["sources"][0]["socket_open"].is_null());
    let _ = site.backup();
    let _ = site.drctl(&with(&["beside"])).ended(0);
    let there = ["there", "--to-host", &place, "--to-port", &port, "--to-require-peer", &owner];
    let _ = site.drctl(&with(&there)).ended(0);
}

/// What a server says that lets everybody in, and the head of a message of this length behind it.
fn welcome(tag: u8, length: u32) -> &'static [u8] {
    let version = b"S\0\0\0\x19server_version\x0015.18\0\0";
    let head = [&[tag][..], &length.to_be_bytes(), b"SMORE\0"].concat();
    [&b"R\0\0\0\x08\0\0\0\0"[..], version, b"Z\0\0\0\x05I", &head].concat().leak()
}

#[test]
fn what_a_peer_sends_costs_bounded_memory() {
    let (two_gb, mib) = (2_000_000_000, 1 << 20);
    let most = 60 * mib;
    for (answer, limit) in [
        (&b"E\x77\x35\x94\0SMORE\0"[..], 100),
        (welcome(b'D', two_gb), 100),
        (welcome(b'N', two_gb), 100),
        (welcome(b'd', most), 260),
        (welcome(b'N', most), 260),
    ] {
        for engine in ["pg_dump", "base_backup"] {
            let (port, _heard) = peer(answer);
            let site = site(port, "disable", engine);
            let mut time = Command::new("/usr/bin/time");
            time.args(["-q", "-f", "%M", "-o"]).arg(site.path("peak")).arg(drctl());
            time.args(["--json", "backup", "shop"]).env("DRCTL_CONFIG", site.config());
            let ran = Ran::of(&time.output().expect("start time"));
            assert_eq!(ran.code, Some(10), "{ran:?}");
            let peak = std::fs::read_to_string(site.path("peak")).unwrap();
            let kib: u32 = peak.trim().parse().expect("kilobytes");
            let what = String::from_utf8_lossy(answer);
            assert!(kib < limit * 1024, "{engine}: {kib} KiB by {what:?}");
        }
    }
}

/// A server, a host that has backed it up, and a restore into a target without TLS that wants a password.
pub(crate) fn restored_in_the_clear(target: &Postgres) -> (Postgres, Site, Vec<String>) {
    let source = Postgres::start();
    source.psql("postgres", "create role clerk");
    source.psql("postgres", "create database shop");
    source.psql("shop", "create table orders as select generate_series(1, 10) as id");
    let site = Site::with(&source);
    let _ = site.backup();
    let word = site.path("word");
    std::fs::write(&word, WORD).unwrap();
    let (word, port) = (word.display().to_string(), target.port().to_string());
    let to = ["--to-host", "127.0.0.1", "--to-port", &port, "--to-password-file", &word];
    let restore = [&["restore", "shop", "--latest", "--to-sslmode", "disable"], &to[..]].concat();
    (source, site, restore.into_iter().map(str::to_owned).collect())
}

#[test]
fn a_restore_that_would_give_the_password_away_is_refused_before_anything() {
    let target = Postgres::builder().password(WORD).start();
    let (_source, site, restore) = restored_in_the_clear(&target);
    let restore: Vec<&str> = restore.iter().map(String::as_str).collect();
    // PostgreSQL 16 is the first whose tools can be told.
    if target.psql("postgres", "show server_version_num").as_str() < "160000" {
        let said = site.fails(2, "usage", &restore);
        assert!(said.contains("in clear text") && said.contains("--to-sslmode"), "{said}");
        let made = "select count(*) from pg_roles where rolname = 'clerk'";
        assert_eq!(target.psql("postgres", made), "0");
    } else {
        let _ = site.json(0, &restore);
    }
}

#[test]
fn tools_that_would_give_the_password_away_are_not_started() {
    let server = Postgres::builder().password(WORD).start();
    let site = site(server.port(), "disable", "pg_dump");
    site.replace("silence = \"1s\"", "silence = \"1h\"");
    // PostgreSQL 16 is the first whose tools can be told.
    if server.psql("postgres", "show server_version_num").as_str() < "160000" {
        let said = site.fails(10, "config", &["backup", "shop"]);
        assert!(said.contains("in clear text") && said.contains("verify-full"), "{said}");
    } else {
        let _ = site.json(3, &["backup", "shop"]);
    }
    let checked = site.json(0, &["config", "check"]);
    let costs = checked["sources"][0]["sslmode_costs"].as_str().unwrap();
    assert!(costs.contains("clear text"), "{costs}");
    let doctor = site.drctl(&["doctor"]);
    assert!(doctor.out.contains("sslmode = \"disable\""), "{}", doctor.out);
}

/// Views that stand in a table's place: one alone, and one that reads the renamed table, which is locked
/// along with the view as if it had been named.
const SWAPPED: [&str; 2] = ["select evil() as id", "select id from hidden where evil() > 0"];

/// Exchanges a table and a view while somebody waits for the table's lock.
fn swap(owner: &mut Somebody, view: &str) {
    owner.run(&format!("alter table orders rename to hidden; create view orders as {view}"));
    owner.run("commit");
}

#[test]
fn a_view_in_the_place_of_a_table_is_not_executed() {
    for view in SWAPPED {
        let shop = Shop::open();
        let evil = "create function evil() returns int language plpgsql as \
                    $$ begin raise exception 'executed as %', current_user; end $$";
        shop.sql(evil);
        shop.site.source("lock_timeout = \"60s\"");
        let mut owner = Somebody::on(&shop.server, &shop.db);
        owner.run("begin; lock table orders in access exclusive mode");
        let backup = crate::cancel::start(&shop.site, &["backup", "shop"]);
        until_locked_out(&shop.server, &shop.db);
        swap(&mut owner, view);
        let answer = crate::cancel::ended(backup).ended(0).json();
        assert!(!shop.server.log().contains("executed as"), "{view}: {}", shop.server.log());
        let id = crate::common::id_of(&answer);
        assert_eq!(counted(&shop.site, &id, "hidden"), Some(20_000), "{view}");
        assert_eq!(counted(&shop.site, &id, "orders"), None, "{view}");
    }
}

#[test]
fn a_view_in_the_place_of_a_restored_table_is_not_executed() {
    let (shop, tools) = Shop::with_tools();
    shop.sql(
        "create function evil() returns int language plpgsql as \
         $$ begin raise exception 'counted as %', current_user; end $$",
    );
    let id = shop.site.backup();
    // A server that can be told to restrict it refuses the second one in words of its own.
    let known = "select current_setting('restrict_nonsystem_relation_kind', true) is not null";
    let restricts = shop.server.psql("postgres", known) == "t";
    let second = if restricts { "is restricted" } else { "TABLESAMPLE" };
    for (view, said) in SWAPPED.into_iter().zip(["were replaced", second]) {
        // All is loaded, and not counted yet.
        tools.pause("pg_restore", 0);
        tools.set(
            "pg_restore",
            "\"$REAL\" \"$@\" || exit; tell mid; exec cat \"$HERE/gate\" >/dev/null",
        );
        let new = name();
        let restore = crate::cancel::start(&shop.site, &shop.to_beside(&id, &new));
        tools.await_pause();
        let mut owner = Somebody::on(&shop.server, &new);
        owner.run("begin; lock table orders in access exclusive mode");
        tools.go_on();
        until_locked_out(&shop.server, &new);
        swap(&mut owner, view);
        let ran = crate::cancel::ended(restore);
        let ran = ran.ended(10);
        assert_eq!(ran.json()["code"], "query", "{view}: {}", ran.out);
        let log = shop.server.log();
        assert!(!log.contains("counted as"), "{view}: {log}");
        assert!(format!("{ran:?}").contains(said), "{view}: {ran:?}");
    }
}

#[test]
fn a_target_that_falls_silent_is_given_up() {
    let shop = Shop::open();
    let id = shop.site.backup();
    let honest = std::fs::read_to_string(shop.site.config()).unwrap();
    for word in [&b"CREATE DATABASE"[..], b"COPY public.orders"] {
        let port = Between::before(shop.server.port()).silent_after(word).start();
        std::fs::write(shop.site.config(), &honest).unwrap();
        let socket = format!("host = \"{}\"", shop.server.socket_dir().display());
        shop.site.replace(&socket, "host = \"127.0.0.1\"");
        shop.site.replace(&format!("port = {}\n", shop.server.port()), &format!("port = {port}\n"));
        shop.site.source("silence = \"1s\"\nsslmode = \"disable\"");
        let ran = shop.site.drctl(&[&["--json"], &shop.to_beside(&id, &name())[..]].concat());
        assert_eq!(ran.code, Some(10), "{ran:?}");
        let said = [ran.out.as_str(), &ran.err].concat();
        assert!(said.contains("said nothing for "), "{said}");
    }
}
