//! Somebody who stands between drctl and a server, and servers that fall silent.

use drctl_tests::cluster::{Cluster as _, give_away};
use drctl_tests::servers::authority::Authority;
use drctl_tests::servers::between::Between;
use drctl_tests::servers::postgres::Postgres;
use drctl_tests::servers::scripted::Scripted;
use drctl_tests::site::{Site, until};

use crate::common::{cluster, filled, site};
use crate::log::Archiving;
use crate::stream::stream_and_remove;
use crate::streaming::{Streaming, shipped};

/// How a client tells how far it is (34 bytes of a standby's status).
const STATUS: &[u8] = b"d\0\0\0\x26r";

/// Makes a site reach its server by somebody on this port, who is not asked to prove who he is.
fn by(site: &Site, server: &Postgres, port: u16) {
    site.replace(&format!("host = \"{}\"", server.socket_dir().display()), "host = \"127.0.0.1\"");
    site.replace(&format!("port = {}\n", server.port()), &format!("port = {port}\n"));
    site.source("silence = \"1s\"\nsslmode = \"disable\"");
}

/// What is said of a server that is given up, and of which nothing is stored.
#[track_caller]
fn given_up(server: &Postgres, between: Between, arguments: &[&str]) -> String {
    let site = site(server);
    by(&site, server, between.start());
    let said = site.fails(10, "query", arguments);
    assert_eq!(site.manifests().len(), 0);
    said
}

/// Of what questions the answers are withheld, and what asks them.
const ASKED: [(&[u8], &[&str]); 3] = [
    (b"IDENTIFY_SYSTEM", &["backup", "shop"]),
    (b"BASE_BACKUP", &["backup", "shop"]),
    (b"START_REPLICATION", &["wal", "stream", "shop"]),
];

#[test]
fn a_server_that_falls_silent_is_given_up() {
    let server = cluster();
    let stream: (&[u8], &[&str]) = (b"IDENTIFY_SYSTEM", &["wal", "stream", "shop"]);
    for (word, arguments) in ASKED.into_iter().chain([stream]) {
        let said = given_up(&server, Between::before(server.port()).silent_after(word), arguments);
        assert!(said.contains("the server has said nothing for "), "{said}");
    }
}

/// A notice, and a setting.
const CHATTER: [&[u8]; 2] =
    [b"N\0\0\0\x22SNOTICE\0VNOTICE\0C00000\0Mwait\0\0", b"S\0\0\0\x0fTimeZone\0Z\0"];

#[test]
fn a_server_that_chatters_and_does_not_answer_is_given_up() {
    let server = cluster();
    for chatter in CHATTER {
        for (word, arguments) in ASKED {
            let between = Between::before(server.port()).chatty_after(word, chatter);
            let said = given_up(&server, between, arguments);
            assert!(said.contains("the server has not answered for "), "{said}");
        }
    }
}

/// A row of a table, and one that ends an answer.
const ROW: &[u8] = b"D\0\0\0\x06\0\0";
const READY: &[u8] = b"Z\0\0\0\x05I";

#[test]
fn an_answer_without_an_end_is_given_up() {
    let server = cluster();
    for (word, arguments) in ASKED {
        let between = Between::before(server.port()).chatty_after(word, ROW);
        let said = given_up(&server, between, arguments);
        assert!(said.contains("no end") || said.contains("without an end"), "{said}");
    }
}

#[test]
fn a_stream_that_brings_what_belongs_elsewhere_or_keeps_no_promise_is_begun_again() {
    let shop = Archiving::start(false);
    // It is alive, and has sent the WAL up to a position that no cluster reaches.
    let promise = [&b"d\0\0\0\x16k\x7f"[..], &[0; 16]].concat();
    let odd = "not one that PostgreSQL gives";
    let mut port = shop.server.port();
    for (chat, why) in [
        (&promise[..], "and sends none"),
        (READY, odd),
        (ROW, odd),
        (b"d\0\0\0\x04", odd),
        (b"d\0\0\0\x05x", odd),
    ] {
        let before = Between::before(shop.server.port()).chatty_after(STATUS, chat).start();
        if port == shop.server.port() {
            by(&shop.site, &shop.server, before);
        } else {
            shop.site.replace(&format!("port = {port}\n"), &format!("port = {before}\n"));
        }
        port = before;
        let streaming = Streaming::launch(&shop, &["--interval", "1"]);
        until("it to be given up", || {
            let said = streaming.said();
            said.contains("the stream broke off, reconnecting") && said.contains(why)
        });
        assert_eq!(streaming.end(), Some(130), "{why}");
    }
}

#[test]
fn a_stream_whose_server_falls_silent_is_begun_again() {
    let shop = Archiving::start(false);
    let port = Between::before(shop.server.port()).silent_after(STATUS).start();
    by(&shop.site, &shop.server, port);
    let streaming = Streaming::launch(&shop, &["--interval", "1"]);
    until("the silence to be told", || {
        let said = streaming.said();
        said.contains("the stream broke off, reconnecting")
            && said.contains("the server has said nothing for ")
    });
    assert_eq!(streaming.end(), Some(130));
}

#[test]
fn commits_that_may_wait_for_a_silent_server_are_told_of() {
    let shop = Archiving::start(false);
    let port = Between::before(shop.server.port()).silent_after(STATUS).start();
    by(&shop.site, &shop.server, port);
    // Whatever is borne elsewhere: of a stream somebody is heard every few seconds.
    shop.site.replace("silence = \"1s\"\n", "");
    let streaming = Streaming::launch(&shop, &["--synchronous"]);
    let waiting = "COMMITS ARE WAITING, if there are any: nothing was heard of the server for ";
    streaming.says(waiting);
    // What came as it fell silent is no answer either.
    streaming.says("reconnecting: cannot read the write-ahead log: the server has ");
    assert!(streaming.said().contains(" for 30 s"), "{}", streaming.said());
    assert_eq!(streaming.end(), Some(130));
}

/// What a server says that removes a segment while it reads it, in the place of what one says that has it no
/// more: which of both happens is a matter of microseconds.
fn removed_meanwhile(message: Vec<u8>) -> Vec<u8> {
    let text = String::from_utf8_lossy(message.get(5..).unwrap_or_default()).into_owned();
    if message.first() != Some(&b'E') || !text.contains("C58P01\0") {
        return message;
    }
    let fields = text.split('\0').map(|field| match field {
        "C58P01" => "CXX000",
        field if field.starts_with('R') => "RCheckXLogRemoved",
        field => field,
    });
    let fields = fields.collect::<Vec<_>>().join("\0");
    let length = u32::try_from(fields.len() + 4).expect("a short message").to_be_bytes();
    [b"E", &length[..], fields.as_bytes()].concat()
}

#[test]
fn log_that_is_removed_while_it_is_read_is_a_gap_and_no_end() {
    let shop = Archiving::start(false);
    stream_and_remove(&shop);
    by(
        &shop.site,
        &shop.server,
        Between::before(shop.server.port()).altering(removed_meanwhile).start(),
    );
    shop.site.replace("silence = \"1s\"\n", "");
    let streaming = Streaming::start(&shop, &["--interval", "1"]);
    shop.tick(11..21);
    shipped(&shop.server);
    let said = streaming.said();
    assert!(said.contains("GAP") && said.contains("XX000"), "{said}");
    assert_eq!(streaming.end(), Some(130));
}

#[test]
fn a_stream_ends_when_it_is_asked_to_while_its_bucket_does_not_answer() {
    let shop = Archiving::start(false);
    let silent = Scripted::silent();
    let url = format!("url = \"file://{}\"", shop.site.path("repository").display());
    let key = shop.site.path("key").display().to_string();
    std::fs::write(&key, "key").expect("write a key");
    let away = format!(
        "url = \"s3://bucket/below\"\nendpoint = \"http://127.0.0.1:{}\"\nallow_http = true\n\
         access_key_id = {{ file = \"{key}\" }}\nsecret_access_key = {{ file = \"{key}\" }}",
        silent.port()
    );
    shop.site.replace(&url, &away);
    let streaming = Streaming::launch(&shop, &[]);
    until("the bucket to be asked", || !silent.heads().is_empty());
    let asked = std::time::Instant::now();
    assert_eq!(streaming.end(), Some(130));
    // One request alone may take minutes.
    assert!(asked.elapsed().as_secs() < 60, "{:?}", asked.elapsed());
}

#[test]
fn an_idle_server_is_not_taken_for_a_silent_one() {
    let shop = Archiving::start(false);
    // It would not say a word by itself for as long as it hears from us.
    shop.sql("alter system set wal_sender_timeout = 0; select pg_reload_conf()");
    by(&shop.site, &shop.server, Between::before(shop.server.port()).start());
    let streaming = Streaming::launch(&shop, &["--interval", "1"]);
    let begun = std::time::Instant::now();
    // Longer than the longest silence that is borne here.
    until("time to pass", || begun.elapsed().as_secs() >= 16);
    assert!(!streaming.said().contains("said nothing"), "{}", streaming.said());
    assert_eq!(streaming.end(), Some(130));
}

/// A message of a base backup that holds a header of a tar archive, and nothing behind it.
fn member(path: &str, kind: u8, link: &str) -> Vec<u8> {
    let mut header = vec![0_u8; 512];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, path.as_bytes());
    put(100, b"0000600\x000000000\x000000000\x0000000000000\x0000000000000\0");
    put(148, b"        ");
    put(156, &[kind]);
    put(157, link.as_bytes());
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    [&b"d\0\0\x02\x05d"[..], &header].concat()
}

#[test]
fn what_somebody_between_puts_into_a_copy_is_refused_and_nothing_counts() {
    let server = cluster();
    let evil = std::env::temp_dir().join("drctl-evil");
    let (evil, file, link) = (evil.display().to_string(), b'0', b'2');
    let cases = [
        ("pg_wal/../../drctl-evil".to_owned(), file, String::new()),
        (evil.clone(), file, String::new()),
        ("pg_wal/authorized_keys".to_owned(), file, String::new()),
        ("pg_wal".to_owned(), link, "/srv/keys".to_owned()),
        ("base/1/link".to_owned(), link, "/etc".to_owned()),
        ("base/1/hard".to_owned(), b'1', "/etc/passwd".to_owned()),
        ("base/1/extra".to_owned(), file, String::new()),
    ];
    for (path, kind, target) in cases {
        let (inserted, first) = (member(&path, kind, &target), std::sync::Mutex::new(true));
        let alter = move |message: Vec<u8>| {
            // Behind the name of the archive comes its first header.
            let is_header = message.len() == inserted.len() && message[..6] == inserted[..6];
            if is_header && std::mem::take(&mut *first.lock().expect("no panic")) {
                return [&inserted[..], &message].concat();
            }
            message
        };
        let site = site(&server);
        by(&site, &server, Between::before(server.port()).altering(alter).start());
        let ran = site.drctl(&["--json", "backup", "shop"]);
        assert_eq!(ran.code, Some(10), "{path}: {}{}", ran.out, ran.err);
        assert!(site.manifests().is_empty() && site.rows().is_empty(), "{path}");
        assert!(!std::path::Path::new(&evil).exists(), "{path}");
    }
    // Who changes nothing is borne.
    let site = site(&server);
    by(&site, &server, Between::before(server.port()).start());
    let _ = site.backup();
}

#[test]
fn a_cluster_that_is_not_the_one_that_the_server_names_is_no_backup() {
    let server = cluster();
    let own = server.psql("postgres", "select system_identifier from pg_control_system()");
    let (from, to) = (own.clone().into_bytes(), own.replace('7', "6").into_bytes());
    assert_ne!(from, to, "identifiers of today begin with a 7");
    // In the answer to IDENTIFY_SYSTEM, and nowhere else.
    let alter = move |mut message: Vec<u8>| {
        let at = message.windows(from.len()).position(|some| some == from);
        if let Some(at) = at.filter(|_| message[0] == b'D') {
            message[at..at + to.len()].copy_from_slice(&to);
        }
        message
    };
    let site = site(&server);
    by(&site, &server, Between::before(server.port()).altering(alter).start());
    let said = site.fails(10, "structure", &["backup", "shop"]);
    assert!(said.contains(&own) || said.contains("of another cluster"), "{said}");
    assert!(site.manifests().is_empty() && site.rows().is_empty());
    let ran = site.drctl(&["wal", "stream", "shop"]).ended(1);
    assert!(ran.err.contains(&format!("is of the cluster {own}")), "{ran:?}");
}

/// A server with TLS, a certificate by the authority, and a password.
fn encrypted(authority: &Authority) -> (Postgres, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let (certificate, key) = authority.server();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("public"), certificate).expect("write");
    std::fs::write(at("private"), key).expect("write");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(at("private"), mode).expect("hide it");
    give_away(folder.path());
    let server = Postgres::builder().password("the word").conf("ssl", "on");
    let server = server.conf("ssl_cert_file", &at("public").display().to_string());
    let server = server.conf("ssl_key_file", &at("private").display().to_string());
    (filled(server.start()), folder)
}

#[test]
fn a_login_is_bound_to_the_certificate_of_the_server() {
    let authority = Authority::new();
    let (server, _folder) = encrypted(&authority);
    let port = Between::before(server.port()).encrypted(&authority).start();
    // He who says that the server knows of no binding.
    let stripped = Between::before(server.port()).encrypted(&authority).altering(|message| {
        let plus = b"SCRAM-SHA-256-PLUS\0";
        let offers = message.windows(plus.len()).position(|some| some == plus);
        let Some(at) = offers.filter(|_| message[0] == b'R') else { return message };
        let mut less = [&message[..at], &message[at + plus.len()..]].concat();
        let length = u32::try_from(less.len() - 1).expect("short");
        less[1..5].copy_from_slice(&length.to_be_bytes());
        less
    });
    let stripped = stripped.start();
    for engine in ["pg_dump", "base_backup"] {
        for (sslmode, trusts) in [("verify-full", true), ("require", false)] {
            for (port, good) in [(server.port(), true), (port, false), (stripped, false)] {
                let site = Site::empty();
                let at = |name: &str| site.path(name).display().to_string();
                std::fs::write(site.path("word"), "the word").expect("write");
                std::fs::write(site.path("root"), authority.certificate()).expect("write");
                let url = format!("file://{}", at("repository"));
                site.init(&server, &url, &["--password-file", &at("word")]);
                let socket = format!("host = \"{}\"", server.socket_dir().display());
                site.replace(&socket, "host = \"127.0.0.1\"");
                site.replace(&format!("port = {}\n", server.port()), &format!("port = {port}\n"));
                let root = format!("\nssl_root_cert = \"{}\"", at("root"));
                let root = if trusts { root.as_str() } else { "" };
                site.source(&format!("sslmode = \"{sslmode}\"{root}"));
                site.replace("engine = \"pg_dump\"", &format!("engine = \"{engine}\""));
                let what = format!("{engine} {sslmode} {port} {good}");
                if good {
                    let ran = site.drctl(&["--json", "backup", "shop"]);
                    assert_eq!(ran.code, Some(0), "{what}: {}{}", ran.out, ran.err);
                } else {
                    let said = site.fails(10, "auth", &["backup", "shop"]);
                    assert!(site.manifests().is_empty(), "{what}: {said}");
                }
            }
        }
    }
    let log = server.log();
    assert!(log.contains("SCRAM channel binding check failed"), "{log}");
}
