//! The channels by which somebody is told: each in its own form, and none of them at any cost.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use drctl_tests::servers::authority::Authority;
use drctl_tests::servers::scripted::{Reply, Scripted};
use drctl_tests::servers::told::Told;
use drctl_tests::site::Site;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::Value;
use sha2::Sha256;

use crate::common::{NEVER, Shop};

/// What came: the head in lower case, and the body.
pub(crate) type Came = Arc<Mutex<Vec<(String, String)>>>;

/// A place that takes all that is posted to it.
pub(crate) fn place() -> (Scripted, Came) {
    let came = Came::default();
    let noted = Arc::clone(&came);
    let server = Scripted::start(move |heard| {
        let body = String::from_utf8(heard.body.clone()).expect("UTF-8");
        noted.lock().expect("no panic").push((heard.head.clone(), body));
        Reply::new("200 OK", "", "ok")
    });
    (server, came)
}

/// Puts a secret into a file, and gives the reference to it.
pub(crate) fn secret(site: &Site, name: &str, text: &str) -> String {
    let path = site.path(name);
    fs::write(&path, text).expect("a secret");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("private");
    format!("{{ file = \"{}\" }}", path.display())
}

pub(crate) fn url(site: &Site, name: &str, port: u16) -> String {
    secret(site, name, &format!("http://127.0.0.1:{port}/{name}/T0PSECRET\n"))
}

/// What the answer tells of a channel.
fn of<'a>(answer: &'a Value, name: &str) -> &'a Value {
    let channels = answer["channels"].as_array().expect("a list");
    channels.iter().find(|one| one["channel"] == name).expect("the channel")
}

#[test]
fn every_channel_tells_a_test_in_its_own_form() {
    let shop = Shop::open(NEVER);
    let site = &shop.site;
    let (server, came) = place();
    let script = site.path("tell");
    let heard = site.path("heard");
    fs::write(&script, format!("#!/bin/sh\ncat > {}\n", heard.display())).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o700)).unwrap();
    let at = |name: &str| url(site, name, server.port());
    let key = secret(site, "key", "k3y");
    let routing = secret(site, "routing", "r0uting");
    site.append(&format!(
        "\n[notify.hook]\nkind = \"webhook\"\nallow_plain = true\nurl = {}\nhmac_key = {key}\n\
         [notify.slack]\nkind = \"slack\"\nallow_plain = true\nurl = {}\n\
         [notify.teams]\nkind = \"teams\"\nallow_plain = true\nurl = {}\n\
         [notify.pager]\nkind = \"pagerduty\"\nallow_plain = true\nurl = {}\nrouting_key = {routing}\n\
         [notify.topic]\nkind = \"ntfy\"\nallow_plain = true\nurl = {}\ntoken = {}\n\
         [notify.program]\nkind = \"command\"\ncommand = [\"{}\"]\n",
        at("hook"),
        at("slack"),
        at("teams"),
        at("pager"),
        at("topic"),
        secret(site, "token", "t0ken"),
        script.display(),
    ));
    let answer = site.json(0, &["notify", "test"]);
    assert!(
        answer["channels"].as_array().unwrap().iter().all(|one| one["sent"] == true),
        "{answer}"
    );
    assert!(!answer.to_string().contains("T0PSECRET"));
    let came = came.lock().unwrap().clone();
    let all = |name: &str| {
        let to = format!("POST /{name}/");
        let of = came.iter().filter(|(head, _)| head.starts_with(&to));
        of.cloned().collect::<Vec<_>>()
    };
    let json = |name: &str| serde_json::from_str::<Value>(&all(name)[0].1).expect("JSON");
    signed(&all("hook")[0]);
    assert_eq!(
        (&json("hook")["schema"], &json("hook")["event"]),
        (&"drctl.notice/1".into(), &"test".into())
    );
    assert!(json("slack")["text"].as_str().unwrap().contains("nothing is amiss"));
    let card = &json("teams")["attachments"][0]["content"];
    assert_eq!(card["type"], "AdaptiveCard");
    let actions = all("pager").into_iter().map(|(_, body)| {
        let event: Value = serde_json::from_str(&body).unwrap();
        (event["event_action"].to_string(), event["dedup_key"].to_string())
    });
    let actions: Vec<_> = actions.collect();
    assert_eq!((actions[0].0.as_str(), actions[1].0.as_str()), ("\"trigger\"", "\"resolve\""));
    assert_eq!(actions[0].1, actions[1].1);
    let (head, body) = &all("topic")[0];
    assert!(head.to_lowercase().contains("authorization: bearer t0ken"), "{head}");
    assert!(body.contains("nothing is amiss"), "{body}");
    let handed: Value = serde_json::from_slice(&fs::read(heard).unwrap()).unwrap();
    assert_eq!(handed["event"], "test");
    // One alone.
    let answer = site.json(0, &["notify", "test", "slack"]);
    assert_eq!(answer["channels"].as_array().unwrap().len(), 1);
    let _ = site.fails(2, "usage", &["notify", "test", "slcak"]);
}

/// The signature is that of the time and the body.
pub(crate) fn signed((head, body): &(String, String)) {
    let header = |name: &str| {
        let lines = head.lines().filter_map(|line| line.split_once(": "));
        let mut found = lines.filter(|(key, _)| key.eq_ignore_ascii_case(name));
        found.next().unwrap_or_else(|| panic!("no {name} in {head}")).1.trim().to_owned()
    };
    let mut mac = Hmac::<Sha256>::new_from_slice(b"k3y").unwrap();
    mac.update(format!("{}.{body}", header("x-drctl-timestamp")).as_bytes());
    let digest = mac.finalize().into_bytes();
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(header("x-drctl-signature"), format!("sha256={hex}"));
}

#[test]
fn a_mail_goes_encrypted_or_not_at_all() {
    let shop = Shop::open(NEVER);
    let site = &shop.site;
    let authority = Authority::new();
    let (safe, plain) = (Told::mail(&authority), Told::plain_mail());
    fs::write(site.path("ca.pem"), authority.certificate()).unwrap();
    fs::write(site.path("other.pem"), Authority::new().certificate()).unwrap();
    let password = secret(site, "password", "hunter2\n");
    let wrong = secret(site, "wrong", "hunter3\n");
    let channel = |name: &str, port: u16, more: &str| {
        format!(
            "\n[notify.{name}]\nkind = \"email\"\nsmtp = \"localhost\"\nport = {port}\n\
             from = \"drctl@db1.example\"\nto = [\"a@example.org\", \"b@example.org\"]\n{more}\n"
        )
    };
    let ca = |name: &str| format!("ca_file = \"{}\"\n", site.path(name).display());
    let login = |password: &str| format!("user = \"drctl\"\npassword = {password}\n");
    let text = [
        channel("good", safe.port(), &(ca("ca.pem") + &login(&password))),
        channel("stranger", safe.port(), &(ca("other.pem") + &login(&password))),
        channel("wrong", safe.port(), &(ca("ca.pem") + &login(&wrong))),
        channel("bare", plain.port(), ""),
        channel("allowed", plain.port(), "allow_plain = true"),
    ];
    site.append(&text.concat());
    let answer = site.json(1, &["notify", "test"]);
    let why = |name: &str| of(&answer, name)["why"].as_str().unwrap_or_default().to_owned();
    assert_eq!((why("good"), why("allowed")), (String::new(), String::new()), "{answer}");
    assert!(why("stranger").contains("certificate"), "{answer}");
    assert!(why("wrong").contains("535"), "{answer}");
    assert!(why("bare").contains("STARTTLS"), "{answer}");
    let read = |told: &Told| {
        let mails = told.lines();
        assert_eq!(mails.len(), 1, "{mails:?}");
        serde_json::from_str::<Value>(&mails[0]).unwrap()
    };
    let mail = read(&safe);
    assert_eq!((&mail["tls"], &mail["login"]), (&true.into(), &"drctl".into()));
    assert_eq!(mail["to"], serde_json::json!(["a@example.org", "b@example.org"]));
    assert!(mail["data"].as_str().unwrap().contains("Notifications of"), "{mail}");
    assert_eq!(read(&plain)["tls"], false);
}

/// Somebody on the way to a mail server: behind its answer to STARTTLS he says, in the clear, what it would
/// answer to a mail.
fn injects(server: u16) -> u16 {
    const SAID: &[u8] =
        b"250-m\r\n250 OK\r\n250 ok\r\n250 ok\r\n354 go\r\n250 queued\r\n221 bye\r\n";
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let server = TcpStream::connect((Ipv4Addr::LOCALHOST, server)).unwrap();
            let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || std::io::copy(&mut from, &mut to));
            thread::spawn(move || {
                let (mut client, mut server, mut bytes) = (client, server, [0; 4096]);
                while let Ok(read @ 1..) = server.read(&mut bytes) {
                    let mut said = bytes[..read].to_vec();
                    if said.starts_with(b"220 Ready") {
                        said.extend_from_slice(SAID);
                    }
                    if client.write_all(&said).is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

/// A mail server that takes a mail and says nothing to the farewell; it counts what it took.
fn without_farewell() -> (u16, Arc<Mutex<u32>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let taken = Arc::<Mutex<u32>>::default();
    let counts = Arc::clone(&taken);
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let counts = Arc::clone(&counts);
            thread::spawn(move || {
                let (mut client, mut data) = (client, false);
                let lines = BufReader::new(client.try_clone().unwrap()).lines();
                let mut say = move |text: &[u8]| client.write_all(text).is_ok();
                let _ = say(b"220 m\r\n");
                for line in lines.map_while(Result::ok) {
                    let answer: &[u8] = match line.as_str() {
                        "." if data => {
                            *counts.lock().unwrap() += 1;
                            data = false;
                            b"250 queued\r\n"
                        }
                        _ if data => continue,
                        "DATA" => {
                            data = true;
                            b"354 go\r\n"
                        }
                        "QUIT" => continue,
                        _ => b"250 ok\r\n",
                    };
                    let _ = say(answer);
                }
            });
        }
    });
    (port, taken)
}

#[test]
fn a_mail_is_sent_when_the_server_itself_took_it() {
    let shop = Shop::open(NEVER);
    let site = &shop.site;
    let text = site.fails(2, "usage", &["notify", "test", "dba"]);
    assert!(text.to_string().contains("has no channel"), "{text}");
    let authority = Authority::new();
    let safe = Told::mail(&authority);
    fs::write(site.path("ca.pem"), authority.certificate()).unwrap();
    let (silent, taken) = without_farewell();
    let channel = |name: &str, port: u16, more: &str| {
        format!(
            "\n[notify.{name}]\nkind = \"email\"\nsmtp = \"localhost\"\nport = {port}\n\
             from = \"drctl@db1.example\"\nto = [\"a@example.org\"]\n{more}\n"
        )
    };
    let ca = format!("ca_file = \"{}\"", site.path("ca.pem").display());
    site.append(&channel("injected", injects(safe.port()), &ca));
    site.append(&channel("silent", silent, "allow_plain = true"));
    let answer = site.json(1, &["notify", "test"]);
    let injected = of(&answer, "injected");
    assert_eq!(injected["sent"], false, "{answer}");
    assert!(injected["why"].as_str().unwrap().contains("before encryption"), "{answer}");
    assert_eq!(of(&answer, "silent")["sent"], true, "{answer}");
    assert_eq!(*taken.lock().unwrap(), 1);
}

/// A peer that says bytes for ever: a web server when it was asked, another one at once.
fn flood(beginning: &'static str) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut stream = stream;
                if beginning.starts_with("HTTP") && !asked(&mut stream) {
                    return;
                }
                let chunk = vec![b'x'; 1 << 16];
                let mut going = stream.write_all(beginning.as_bytes()).is_ok();
                while going {
                    going = stream.write_all(&chunk).is_ok();
                }
            });
        }
    });
    port
}

/// Waits for the head of a request; whether it came.
fn asked(stream: &mut TcpStream) -> bool {
    let (mut head, mut bytes) = (Vec::new(), [0; 1024]);
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut bytes) {
            Ok(0) | Err(_) => return false,
            Ok(read) => head.extend_from_slice(&bytes[..read]),
        }
    }
    true
}

#[test]
fn a_hostile_endpoint_costs_bounded_time_and_memory() {
    let shop = Shop::open(NEVER);
    let site = &shop.site;
    let authority = Authority::new();
    let web = Told::web(&authority);
    fs::write(site.path("ca.pem"), authority.certificate()).unwrap();
    let silent = Scripted::silent();
    let (elsewhere, came) = place();
    let location = format!("location: http://127.0.0.1:{}/\r\n", elsewhere.port());
    let redirect = Scripted::start(move |_| Reply::new("302 Found", &location, ""));
    let broken = Scripted::start(|_| Reply::new("500 Internal Server Error", "", "T0PSECRET"));
    let refuses = Scripted::start(|_| Reply::new("404 Not Found", "", ""));
    let endless = flood("HTTP/1.1 200 OK\r\n\r\n");
    let head = flood("HTTP/1.1 200 OK\r\nx: ");
    let tls = format!("https://localhost:{}/", web.port());
    let channel = |name: &str, url: &str, more: &str| {
        format!("\n[notify.{name}]\nkind = \"webhook\"\nurl = {url}\n{more}\n")
    };
    let plain = |name: &str, port: u16| channel(name, &url(site, name, port), "allow_plain = true");
    let ca = format!("ca_file = \"{}\"", site.path("ca.pem").display());
    let mail = flood("220 ");
    let text = [
        plain("silent", silent.port()),
        plain("redirect", redirect.port()),
        plain("broken", broken.port()),
        plain("refuses", refuses.port()),
        plain("endless", endless),
        plain("head", head),
        channel("unencrypted", &url(site, "unencrypted", elsewhere.port()), ""),
        channel("stranger", &secret(site, "stranger", &tls), ""),
        channel("trusted", &secret(site, "trusted", &tls), &ca),
        format!(
            "\n[notify.talks]\nkind = \"email\"\nsmtp = \"127.0.0.1\"\nport = {mail}\n\
             from = \"a@example.org\"\nto = [\"b@example.org\"]\n"
        ),
        "\n[notify.sleeps]\nkind = \"command\"\ncommand = [\"/usr/bin/sleep\", \"1000\"]\n"
            .to_owned(),
        "\n[notify.fails]\nkind = \"command\"\ncommand = [\"/usr/bin/false\"]\n".to_owned(),
    ];
    site.append(&text.concat());
    let begun = Instant::now();
    let command = site.command(&["--json", "notify", "test"]);
    // What it may have of memory in all: a body of a few seconds is more.
    let limited = std::process::Command::new("prlimit")
        .arg("--data=268435456")
        .arg(command.get_program())
        .args(command.get_args())
        .envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .output()
        .expect("started");
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    assert_eq!(limited.status.code(), Some(1), "{}", String::from_utf8_lossy(&limited.stderr));
    let answer: Value = serde_json::from_slice(&limited.stdout).unwrap();
    let why = |name: &str| of(&answer, name)["why"].as_str().unwrap_or_default().to_owned();
    let expected = [
        ("silent", "no answer in time"),
        ("redirect", "redirects are not followed"),
        ("broken", "500"),
        ("refuses", "404"),
        ("unencrypted", "https://"),
        ("stranger", "certificate"),
        ("talks", "says too much"),
        ("sleeps", "30 s"),
        ("fails", "exit status 1"),
    ];
    for (name, words) in expected {
        assert!(why(name).contains(words), "{name}: {answer}");
    }
    assert_ne!(why("head"), "", "{answer}");
    assert_eq!((why("endless"), why("trusted")), (String::new(), String::new()), "{answer}");
    assert!(!answer.to_string().contains("T0PSECRET"), "{answer}");
    assert_eq!((broken.heads().len(), refuses.heads().len()), (3, 1), "what passes is tried again");
    assert!(came.lock().unwrap().is_empty(), "nothing went elsewhere, or without encryption");
    assert_eq!(web.lines().len(), 1);
}
