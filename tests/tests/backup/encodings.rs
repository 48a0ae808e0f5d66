//! Databases of every encoding, and names that are in none that we speak.

use std::ffi::OsStr;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::process::Stdio;

use drctl_tests::servers::postgres::Postgres;
use drctl_tests::site::Site;

use crate::common::Somebody;

/// Runs SQL of any bytes in a database whose name is of any bytes; gives the bytes that come.
#[track_caller]
fn raw(server: &Postgres, db: &[u8], encoding: &str, sql: &[u8]) -> Vec<u8> {
    let mut psql = server.client("psql");
    psql.env("PGCLIENTENCODING", encoding).args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-d"]);
    psql.arg(OsStr::from_bytes(db)).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = psql.spawn().expect("start psql");
    child.stdin.take().expect("its input").write_all(sql).expect("write to psql");
    let output = child.wait_with_output().expect("wait for psql");
    assert!(output.status.success());
    output.stdout.strip_suffix(b"\n").map(<[u8]>::to_vec).unwrap_or_default()
}

fn of(encoding: &str) -> Postgres {
    Postgres::builder().initdb(&format!("--encoding={encoding}")).initdb("--locale=C").start()
}

/// Restores the newest backup, all of it or what `more` says.
#[track_caller]
fn restore(site: &Site, target: &Postgres, more: &[&str]) -> serde_json::Value {
    let (host, port) = (target.socket_dir().display().to_string(), target.port().to_string());
    let start = ["restore", "shop", "--latest", "--to-host", &host, "--to-port", &port];
    site.json(0, &[&start[..], more].concat())
}

#[test]
fn a_database_of_another_encoding_comes_back_with_its_letters() {
    let server = Postgres::start();
    for (name, encoding) in [("l1", "LATIN1"), ("jp", "EUC_JP"), ("ascii", "SQL_ASCII")] {
        let made =
            format!("create database {name} template template0 encoding '{encoding}' locale 'C'");
        server.psql("postgres", &made);
    }
    let latin = "create table \"t\u{e9}\" as select 'na\u{ef}ve'::text as \"\u{fc}\"";
    raw(&server, b"l1", "UTF8", latin.as_bytes());
    raw(&server, b"jp", "UTF8", "create table \"\u{8868}\" as select '\u{6f22}'::text".as_bytes());
    raw(&server, b"ascii", "SQL_ASCII", b"create table t as select '\xff\xe9'::text as v");
    // Its name is in the encoding of the database that it was made in, which no other knows.
    let made = "create database \"d\u{e9}\" template template0 encoding 'LATIN1' locale 'C'";
    raw(&server, b"l1", "UTF8", made.as_bytes());
    raw(&server, b"d\xe9", "UTF8", "create table \"t\u{e9}\" as select 7 as v".as_bytes());
    let site = Site::with(&server);
    let doctor = site.drctl(&["doctor"]);
    assert!(!doctor.out.contains("BAD"), "{}", doctor.out);
    let _ = site.backup();
    for jobs in ["1", "2"] {
        let target = Postgres::start();
        let answer = restore(&site, &target, &["--jobs", jobs]);
        let found = raw(&target, b"l1", "UTF8", "select \"\u{fc}\" from \"t\u{e9}\"".as_bytes());
        assert_eq!(String::from_utf8(found).unwrap(), "na\u{ef}ve");
        let found = raw(&target, b"jp", "UTF8", "select * from \"\u{8868}\"".as_bytes());
        assert_eq!(String::from_utf8(found).unwrap(), "\u{6f22}");
        assert_eq!(raw(&target, b"ascii", "SQL_ASCII", b"select v from t"), b"\xff\xe9");
        // What no session could name comes back under a name that all can say.
        assert!(answer.to_string().contains("\"d\\\\xe9\""), "{answer}");
        let found = raw(&target, b"d\\xe9", "UTF8", "select v from \"t\u{e9}\"".as_bytes());
        assert_eq!(found, b"7");
    }
    // A server where such a name is in the way is as good a target.
    let _ = restore(&site, &server, &["--database", "l1", "--as", "again"]);
    let _ = restore(&site, &server, &["--database", "d\u{fffd}e9", "--as", "odd again"]);
    assert_eq!(raw(&server, b"odd again", "UTF8", "select v from \"t\u{e9}\"".as_bytes()), b"7");
}

#[test]
fn names_that_are_not_utf8_are_backed_up_and_come_back() {
    let server = of("SQL_ASCII");
    let made = b"create schema \"s\xe9\"; create table \"s\xe9\".\"t\xe9\" as \
                 select g as \"v\xe9\" from generate_series(1, 300) g; \
                 create table \"t\xe8\" as select 1 as v; create table plain as select 1 as v; \
                 create table \"u\xef\xbf\xbde9\" as select 1 as v; create database \"d\xe9\"";
    raw(&server, b"postgres", "SQL_ASCII", made);
    raw(&server, b"d\xe9", "SQL_ASCII", b"create table \"t\xe9\" as select 7 as v");
    let site = Site::with(&server);
    let doctor = site.drctl(&["doctor"]);
    assert!(!doctor.out.contains("BAD"), "{}", doctor.out);
    let _ = site.backup();
    let _ = site.json(0, &["verify", "--data"]);
    let target = of("SQL_ASCII");
    let answer = restore(&site, &target, &[]);
    assert!(answer.to_string().contains("\"rows\":303"), "{answer}");
    let count = |table: &[u8]| {
        raw(&target, b"postgres", "SQL_ASCII", &[b"select count(*) from ", table].concat())
    };
    let found = raw(&target, b"d\\xe9", "SQL_ASCII", b"select v from \"t\xe9\"");
    assert_eq!(found, b"7");
    assert_eq!(count(b"\"s\xe9\".\"t\xe9\""), b"300");
    assert_eq!(count(b"\"t\xe8\""), b"1");
    assert_eq!(count(b"\"u\xef\xbf\xbde9\""), b"1");
    // Whoever is in the way is told of, whatever his words are.
    site.source("lock_timeout = \"1s\"\nlock_attempts = 1\ndatabases = [\"postgres\"]");
    let mut somebody = Somebody::on(&server, "postgres");
    somebody.run("\\encoding SQL_ASCII");
    somebody.run("begin; do $$ begin execute 'lock table t' || chr(232); end $$");
    let said = site.fails(10, "locks", &["backup", "shop"]);
    for word in ["public.t\u{fffd}e8", "somebody", "lock table t"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    somebody.run("rollback");
    let _ = site.backup();
}

#[test]
fn letters_in_the_name_of_a_database_are_the_same_in_every_encoding() {
    let server = of("LATIN1");
    raw(&server, b"postgres", "UTF8", "create database \"caf\u{e9}\"".as_bytes());
    raw(&server, b"caf\xe9", "UTF8", "create table \"t\u{e9}\" as select 7 as v".as_bytes());
    let site = Site::with(&server);
    site.source("databases = [\"caf\u{e9}\"]");
    let _ = site.backup();
    let target = of("LATIN1");
    let _ = restore(&site, &target, &[]);
    let asked = "select v from \"t\u{e9}\"";
    assert_eq!(raw(&target, b"caf\xe9", "UTF8", asked.as_bytes()), b"7");
    let again = restore(&site, &target, &["--missing"]);
    assert_eq!(again["restored"].as_array().map(Vec::len), Some(1), "{again}");
    let target = Postgres::start();
    let _ = restore(&site, &target, &["--jobs", "2"]);
    assert_eq!(raw(&target, "caf\u{e9}".as_bytes(), "UTF8", asked.as_bytes()), b"7");
}

#[test]
fn a_role_whose_name_is_not_utf8_takes_no_database_along() {
    let server = Postgres::start();
    server.psql("postgres", "create table t as select 1 as v");
    server.psql("postgres", "create database l1 template template0 encoding 'LATIN1' locale 'C'");
    raw(&server, b"l1", "UTF8", "create role \"r\u{e9}\"".as_bytes());
    let site = Site::with(&server);
    let answer = site.json(3, &["backup", "shop"]);
    let suspect = answer["backup"]["suspect"].to_string();
    let told = "roles and tablespaces are left out: r\u{fffd}e9 has a name that is not UTF-8";
    assert!(suspect.contains(told), "{answer}");
    let id = answer["backup"]["backup"].as_str().unwrap();
    let target = Postgres::start();
    let (host, port) = (target.socket_dir().display().to_string(), target.port().to_string());
    let to = ["restore", "shop", "--backup", id, "--to-host", &host, "--to-port", &port];
    let _ = site.json(0, &to);
    assert_eq!(target.psql("postgres", "select v from t"), "1");
    site.source("globals = false");
    let _ = site.backup();
}

/// Settings by which the same values are written otherwise.
fn odd(lc: &str) -> Postgres {
    let odd = [
        ("lc_monetary", lc),
        ("lc_numeric", lc),
        ("lc_time", lc),
        ("datestyle", "SQL, DMY"),
        ("intervalstyle", "sql_standard"),
        ("bytea_output", "escape"),
        ("extra_float_digits", "-15"),
        ("xmloption", "document"),
        ("quote_all_identifiers", "on"),
        ("standard_conforming_strings", "off"),
        ("escape_string_warning", "on"),
        ("backslash_quote", "on"),
    ];
    odd.iter().fold(Postgres::builder(), |server, (name, value)| server.conf(name, value)).start()
}

#[test]
fn values_are_the_same_however_servers_write_them() {
    let settings = "set lc_monetary = 'C'; set datestyle = 'ISO, MDY'; set intervalstyle = postgres; \
                    set bytea_output = hex; set extra_float_digits = 3; set xmloption = content; \
                    set standard_conforming_strings = on; set lc_numeric = 'C'; set timezone = 'UTC';";
    let plain = Postgres::start();
    let odd = odd("ja_JP.UTF-8");
    for (server, target) in [(&odd, &plain), (&plain, &odd)] {
        let made = "create database v; \\c v\n\
            create table v (m money default '77', d date default '2026-02-03', t timestamptz, \
            i interval, b bytea, f float8, x xml, s text default E'it\\'s \\\\n', a money[], \
            check (m > '1'::money)); insert into v values (default, default, '2026-11-02 03:04:05.678+01', \
            '-1 mon 2 days -03:04:05', '\\x00ff5c27', 0.1::float8 + 0.2::float8, 'a<b/>c', default, \
            '{1234,null}'); create view constant as select '1234.5'::money as m";
        server.psql(
            "postgres",
            &format!("{settings} {}", made.replacen("\\c v\n", &format!("\\c v\n{settings} "), 1)),
        );
        let site = Site::with(server);
        let _ = site.backup();
        let _ = restore(&site, target, &["--database", "v"]);
        let asked = format!(
            "{settings} select * from v; insert into v (b) values ('') returning m, d, s; \
             select m from constant; begin; set local standard_conforming_strings = on; rollback"
        );
        assert_eq!(target.psql("v", &asked), server.psql("v", &asked));
        target.psql("postgres", "drop database v");
        server.psql("postgres", "drop database v");
    }
}
