//! Bad days: a disk that is full, credentials that hold no more, a bucket that does not answer, or slowly
//! for hours. It is a clear error, it is tried a bounded number of times, people hear of it, nothing is
//! deleted, and the next run succeeds when the fault is gone.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use drctl_tests::apart::Apart;
use drctl_tests::servers::azurite::Azurite;
use drctl_tests::servers::minio::Minio;
use drctl_tests::servers::postgres::Postgres;
use drctl_tests::servers::scripted::{Heard, Scripted};
use drctl_tests::site::{Ran, Site, until};
use jiff::Timestamp;
use serde_json::Value;

use crate::common::{NEVER, Shop};
use crate::timed::Timed;
use crate::told::Person;

/// How soon the agent answers, whatever its bucket does.
const PROMPT: Duration = Duration::from_secs(10);

/// An hour's minute by UTC that comes so many minutes from now.
fn minute(from_now: i64) -> i64 {
    (Timestamp::now().as_second() / 60 + from_now).rem_euclid(60)
}

/// Writes the policy: its schedule, by UTC, and how many backups it keeps. A run is tried twice, and what is
/// kept no more is removed when somebody asks.
fn policy(shop: &Shop, schedule: &str, last: u32) {
    let text = format!(
        "schedule = \"{schedule}\"\ntimezone = \"UTC\"\nattempts = 2\n\n[retention]\nlast = {last}\n\n\
         [prune]\nschedule = \"{NEVER}\"\n"
    );
    fs::write(shop.policy_file(), text).expect("a policy");
}

/// A shop on a disk of this host, with so many backups. The next one is due in half an hour, and then once
/// an hour.
fn on_disk(backups: u32) -> Shop {
    let shop = Shop::open(NEVER);
    policy(&shop, &format!("{} * * * *", minute(30)), 2);
    for _ in 0..backups {
        let _ = shop.site.backup();
    }
    shop
}

/// A shop whose repository is where `init` puts it, with one backup and this schedule.
fn in_bucket(schedule: &str, init: impl FnOnce(&Site, &Postgres)) -> Shop {
    let server = Postgres::builder().start();
    server.psql("postgres", "create table orders as select g from generate_series(1, 1000) g");
    let site = Site::empty();
    init(&site, &server);
    site.append("\n[limits]\nsegment_bytes = \"64KiB\"\npage_segments = 8\n");
    let shop = Shop { site, server };
    policy(&shop, schedule, 3);
    let _ = shop.site.backup();
    shop
}

/// Some 600 KiB that no compression makes smaller.
fn fill(shop: &Shop) {
    let table = "create table noise as select gen_random_uuid() from generate_series(1, 30000)";
    shop.server.psql("postgres", table);
}

/// Somebody who hears of it all.
fn person(shop: &Shop) -> Person {
    let person = Person::new();
    person.channel(&shop.site, "dba");
    person
}

/// Why its backups failed, as the agent's log tells it.
fn failures(timed: &Timed<'_>) -> Vec<String> {
    let said = timed.agent.said();
    let failed = |line: &&str| line.contains("ERROR failed: ") && line.contains("job=\"backup\"");
    said.lines().filter(failed).map(str::to_owned).collect()
}

/// How many backups it began.
fn begun(timed: &Timed<'_>) -> usize {
    timed.agent.said().matches("begun source=\"shop\" job=\"backup\"").count()
}

/// Lets time go by until the backup is due, and then until it is tried again: both fail for this reason, and
/// that is all.
#[track_caller]
fn fails_twice(timed: &Timed<'_>, minutes: u32, why: &str) {
    timed.pass(minutes);
    until("a run to fail", || failures(timed).len() == 1);
    assert!(!timed.agent.said().contains("gave up"), "it is tried again: {}", timed.agent.said());
    timed.pass(2);
    timed.agent.says("gave up after so many failed attempts");
    let failures = failures(timed);
    assert_eq!((failures.len(), begun(timed)), (2, 2), "{failures:?}");
    // A leap of the clock may end a session that is just being begun.
    let leapt = "it did not answer in time (connect)";
    let is_known = |line: &String| line.contains(why) || line.contains(leapt);
    assert!(
        failures.iter().all(is_known) && failures.iter().any(|line| line.contains(why)),
        "{failures:?}"
    );
    let job = timed.agent.job("backup");
    assert_eq!((&job["state"], &job["last"]["outcome"]), (&"idle".into(), &"failed".into()));
}

/// Waits until this is told of, and asserts that it says so and names the backup that is safe.
#[track_caller]
fn hears(person: &Person, code: &str, (words, good): (&str, &str)) -> Value {
    let notice = person.hears_of(code, "begun");
    assert!(notice["text"].as_str().is_some_and(|text| text.contains(words)), "{notice}");
    assert!(notice["safe"].as_str().is_some_and(|safe| safe.contains(good)), "{notice}");
    notice
}

/// Waits until these, which were told, are told as over.
#[track_caller]
fn are_over(person: &Person, codes: &[&str]) {
    for code in codes {
        let notice = person.hears_of(code, "recovered");
        assert!(notice["text"].as_str().is_some_and(|text| text.starts_with("It is over.")));
    }
}

/// The newest backup.
fn newest(shop: &Shop) -> String {
    shop.site.rows()[0]["backup"].as_str().expect("an identifier").to_owned()
}

/// What of the source lies in a repository on a disk, as `drctl` inside sees it.
fn stored(shop: &Shop, apart: &Apart) -> BTreeSet<PathBuf> {
    let mut find = Command::new("find");
    find.arg(shop.site.path("repository/s")).args(["-type", "f"]);
    let found = Ran::of(&apart.inside(&find).output().expect("start find")).ended(0);
    found.out.lines().map(PathBuf::from).collect()
}

/// What a command inside prints.
#[track_caller]
fn inside(shop: &Shop, apart: &Apart, code: i32, words: &[&str]) -> Value {
    let command = shop.site.command(&[&["--json"], words].concat());
    let output = apart.inside(&command).output().expect("start nsenter");
    Ran::of(&output).ended(code).json()
}

/// How many backups are good when each byte of them is read, of how many.
fn good(verified: &Value) -> (usize, usize) {
    let backups = verified["backups"].as_array().expect("a list");
    (backups.iter().filter(|one| one["good"] == true).count(), backups.len())
}

#[test]
fn a_repository_that_is_full_fails_a_few_times_is_told_and_the_next_run_succeeds() {
    let shop = on_disk(1);
    let safe = newest(&shop);
    fill(&shop);
    let person = person(&shop);
    let apart = Apart::of(&shop.site);
    let agent = apart.inside(&shop.site.command(&["agent"]));
    let timed = Timed::start_as(&shop.site, agent);
    apart.has_room(200);
    let before = stored(&shop, &apart);
    fails_twice(&timed, 30, "No space left on device (store_full)");
    let _ = hears(&person, "job_failed", ("No space left on device", &safe));
    let _ = hears(&person, "gave_up", ("after 2 failed attempt(s)", &safe));
    // It is not tried a third time, and it is not told again.
    timed.pass(40);
    timed.looks_again();
    assert_eq!(begun(&timed), 2, "{}", timed.agent.said());
    assert!(stored(&shop, &apart).is_superset(&before), "nothing of the source was removed");
    let listed = inside(&shop, &apart, 0, &["list"]);
    assert_eq!(listed["backups"].as_array().map(Vec::len), Some(1), "{listed}");
    // There is room: the next run succeeds when it is due.
    apart.has_room(64 << 10);
    let _ = timed.backs_up(15);
    are_over(&person, &["job_failed", "gave_up"]);
    assert!(stored(&shop, &apart).is_superset(&before));
    let verified = inside(&shop, &apart, 0, &["verify", "--data"]);
    assert_eq!(good(&verified), (2, 2), "{verified}");
    let _ = timed.agent.stop().ended(0);
}

#[test]
fn a_state_directory_that_is_full_stops_no_backup_removes_nothing_and_nothing_is_forgotten() {
    let shop = on_disk(3);
    let person = person(&shop);
    let apart = Apart::with(&shop.site, "state");
    let agent = apart.inside(&shop.site.command(&["agent"]));
    let timed = Timed::start_as(&shop.site, agent);
    apart.has_room(0);
    let before = stored(&shop, &apart);
    let _ = timed.backs_up(30);
    timed.agent.says("no space is left for the catalog");
    // Whoever looks, and whoever does not, hears of it.
    let (words, none) = ("nothing can be written into", "the newest good backup");
    let _ = hears(&person, "state_unwritable", (words, none));
    let status = inside(&shop, &apart, 0, &["status"]).to_string();
    assert!(status.contains("state_unwritable"), "{status}");
    // Two are to be kept. Whoever cannot note what it removes removes nothing.
    let prune = || drop(shop.site.json(0, &["run", "shop", "prune"]));
    let _ = timed.agent.ends_anew("prune", "succeeded", prune);
    timed.agent.says("removal is blocked: what this host remembers is not known");
    assert!(stored(&shop, &apart).is_superset(&before));
    assert_eq!(shop.site.manifests().len(), 4);
    let listed = inside(&shop, &apart, 0, &["list"]);
    assert_eq!(listed["backups"].as_array().map(Vec::len), Some(4), "{listed}");
    assert!(person.of("job_failed").is_empty(), "it did not fail");
    assert!(person.of("catalog_unknown").is_empty(), "what it remembers is known");
    // There is room: all of it is on record, and what is to go goes.
    apart.has_room(64 << 10);
    let _ = timed.agent.ends_anew("prune", "succeeded", prune);
    let left = shop.site.manifests().len();
    assert!((2..4).contains(&left), "{left} backups, {}", timed.agent.said());
    let _ = timed.backs_up(60);
    let listed = inside(&shop, &apart, 0, &["list"]);
    assert_eq!(listed["backups"].as_array().map(Vec::len), Some(left + 1), "{listed}");
    assert_eq!(listed["forgotten"], false, "{listed}");
    assert_eq!(inside(&shop, &apart, 0, &["catalog", "check"])["equal"], true);
    let verified = inside(&shop, &apart, 0, &["verify", "--data"]);
    assert_eq!(good(&verified), (left + 1, left + 1), "{verified}");
    let _ = inside(&shop, &apart, 0, &["audit", "verify"]);
    are_over(&person, &["state_unwritable"]);
    let _ = timed.agent.stop().ended(0);
}

/// What came to a gate.
#[derive(Default)]
struct Turns {
    /// How many requests came, and how many of them may pass.
    came: usize,
    may: usize,
    /// Which asked to remove something of the source.
    removals: Vec<String>,
}

/// A gate before a store: requests pass it in turn, and wait before it as long as a test wants.
struct Gate {
    turns: Arc<(Mutex<Turns>, Condvar)>,
    server: Scripted,
}

impl Gate {
    /// An open one.
    fn before(port: u16) -> Self {
        let turns = Turns { may: usize::MAX, ..Turns::default() };
        let turns = Arc::new((Mutex::new(turns), Condvar::new()));
        let theirs = Arc::clone(&turns);
        let server = Scripted::start(move |heard| {
            pass(&theirs, heard);
            heard.forwarded(port)
        });
        Gate { turns, server }
    }

    fn now(&self) -> MutexGuard<'_, Turns> {
        self.turns.0.lock().expect("no panic")
    }

    /// Lets all pass that wait, and so many more.
    fn lets_in(&self, more: usize) {
        let mut now = self.now();
        now.may = now.came.saturating_add(more);
        self.turns.1.notify_all();
    }

    /// Lets all pass.
    fn opens(&self) {
        self.lets_in(usize::MAX);
    }

    /// How many came.
    fn came(&self) -> usize {
        self.now().came
    }

    /// Whether the next one has to wait.
    fn is_shut(&self) -> bool {
        let now = self.now();
        now.came >= now.may
    }

    /// Asserts that nobody asked to remove anything of the source.
    #[track_caller]
    fn saw_no_removal(&self) {
        assert_eq!(self.now().removals, Vec::<String>::new());
    }

    /// A shop whose bucket lies behind it. Its store believes every clock.
    fn shop(&self, azurite: &Azurite, schedule: &str) -> Shop {
        azurite.make_container("backups");
        let behind = format!(":{}/", azurite.port());
        let endpoint = azurite.endpoint().replace(&behind, &format!(":{}/", self.server.port()));
        in_bucket(schedule, |site, server| {
            let key = site.path("account.key");
            fs::write(&key, azurite.key()).expect("write the key");
            let key = key.display().to_string();
            let store = ["--endpoint", &endpoint, "--allow-http", "--account", azurite.account()];
            let more = [&store[..], &["--account-key-file", &key]].concat();
            site.init(server, "az://backups/below", &more);
        })
    }
}

/// Waits for its turn.
fn pass((turns, changed): &(Mutex<Turns>, Condvar), heard: &Heard) {
    let line = heard.head.lines().next().unwrap_or_default().to_owned();
    let of_source = |text: &str| text.contains("s/shop/") || text.contains("s%2Fshop%2F");
    let removes = if line.contains("?delete") || line.contains("comp=batch") {
        of_source(&String::from_utf8_lossy(&heard.body))
    } else {
        line.starts_with("DELETE ") && of_source(&line)
    };
    let mut now = turns.lock().expect("no panic");
    if removes {
        now.removals.push(line);
    }
    let number = now.came;
    now.came += 1;
    drop(changed.wait_while(now, |now| number >= now.may).expect("no panic"));
}

#[test]
fn credentials_that_hold_no_more_fail_a_few_times_are_told_and_new_ones_are_taken_at_once() {
    let mut minio = Minio::start();
    minio.make_bucket("shop");
    let gate = Gate::before(minio.port());
    let endpoint = format!("http://127.0.0.1:{}", gate.server.port());
    // The server believes no clock that is a quarter of an hour ahead.
    let shop = in_bucket(&format!("{} * * * *", minute(8)), |site, server| {
        site.init_s3(server, (&minio, &endpoint), "s3://shop/below", &[]);
    });
    let safe = newest(&shop);
    let person = person(&shop);
    let timed = Timed::start(&shop.site);
    minio.change_secret_key();
    fails_twice(&timed, 9, "SignatureDoesNotMatch");
    assert!(failures(&timed).iter().any(|line| line.contains("(store_denied)")));
    let unreadable = hears(&person, "bucket_unreadable", ("the bucket cannot be read", &safe));
    assert_eq!(unreadable["run"], "drctl doctor", "{unreadable}");
    assert!(unreadable["safe"].as_str().unwrap().contains("as far as this host remembers"));
    let _ = hears(&person, "job_failed", ("SignatureDoesNotMatch", &safe));
    let _ = hears(&person, "gave_up", ("after 2 failed attempt(s)", &safe));
    for secret in [minio.secret_key(), &fs::read_to_string(shop.site.path("s3.secret")).unwrap()] {
        assert!(!timed.agent.said().contains(secret), "{}", timed.agent.said());
    }
    // The new ones are written where the old ones were; nobody says anything to the agent.
    fs::write(shop.site.path("s3.secret"), minio.secret_key()).unwrap();
    let run = || drop(shop.site.json(0, &["run", "shop"]));
    let _ = timed.agent.ends_anew("backup", "succeeded", run);
    are_over(&person, &["bucket_unreadable", "job_failed", "gave_up"]);
    gate.saw_no_removal();
    let verified = shop.site.json(0, &["verify", "--data"]);
    assert_eq!(good(&verified), (2, 2), "{verified}");
    let _ = timed.agent.stop().ended(0);
}

/// Lets time go by, a minute after each request that nobody answers, until that has come about; gives how
/// many.
#[track_caller]
fn minutes_until(timed: &Timed<'_>, gate: &Gate, what: &str, done: impl Fn() -> bool) -> u32 {
    for minutes in 0..40 {
        if done() {
            return minutes;
        }
        let before = gate.came();
        timed.pass(1);
        until(what, || gate.came() > before || done());
    }
    panic!("waited 40 minutes of the agent's in vain for {what}: {}", timed.agent.said());
}

/// What the agent says of the backup, and at once.
#[track_caller]
fn answers(timed: &Timed<'_>) -> Value {
    let asked = Instant::now();
    let job = timed.agent.job("backup");
    assert!(asked.elapsed() < PROMPT, "{:?}", asked.elapsed());
    job
}

#[test]
fn a_bucket_that_does_not_answer_fails_a_few_times_is_told_in_minutes_and_the_next_run_succeeds() {
    let azurite = Azurite::start();
    let gate = Gate::before(azurite.port());
    let shop = gate.shop(&azurite, &format!("{} * * * *", minute(30)));
    let safe = newest(&shop);
    let person = person(&shop);
    let timed = Timed::start(&shop.site);
    gate.lets_in(0);
    let asked = gate.came();
    timed.pass(30);
    until("the backup to begin", || begun(&timed) == 1);
    let told = minutes_until(&timed, &gate, "its bucket to be told", || {
        timed.has_told("bucket_unreadable")
    });
    assert!(told <= 15, "after {told} minutes: {}", timed.agent.said());
    let _ = hears(&person, "bucket_unreadable", ("it does not answer, or is very slow", &safe));
    assert_eq!(answers(&timed)["state"], "running", "it is tried still");
    let _ = minutes_until(&timed, &gate, "the end", || timed.agent.said().contains("gave up"));
    let failures = failures(&timed);
    assert_eq!((failures.len(), begun(&timed)), (2, 2), "{failures:?}");
    let why = "operation timed out (store_failed)";
    assert!(failures.iter().all(|line| line.contains(why)), "{failures:?}");
    assert!(gate.came() - asked < 150, "{} requests", gate.came() - asked);
    assert_eq!(answers(&timed)["state"], "idle");
    let _ = hears(&person, "gave_up", ("after 2 failed attempt(s)", &safe));
    // It answers again.
    gate.opens();
    let _ = timed.backs_up(60);
    are_over(&person, &["bucket_unreadable", "gave_up"]);
    gate.saw_no_removal();
    let verified = shop.site.json(0, &["verify", "--data"]);
    assert_eq!(good(&verified), (2, 2), "{verified}");
    let _ = timed.agent.stop().ended(0);
}

#[test]
fn a_bucket_that_answers_slowly_for_hours_is_told_and_the_backup_comes_to_its_end() {
    let azurite = Azurite::start();
    let gate = Gate::before(azurite.port());
    let shop = gate.shop(&azurite, NEVER);
    // An answer may take as long as it takes here.
    shop.site.replace("allow_http = true", "allow_http = true\nrequest_timeout = \"1h\"");
    fill(&shop);
    let person = person(&shop);
    let timed = Timed::start(&shop.site);
    gate.lets_in(0);
    let run = || drop(shop.site.json(0, &["run", "shop"]));
    let ended = || timed.agent.said().contains("done source=\"shop\" job=\"backup\"");
    let goes_on = || {
        gate.lets_in(1);
        until("another request", || gate.is_shut() || ended());
    };
    let mut minutes = 0;
    let job = timed.agent.ends_anew("backup", "succeeded", || {
        run();
        until("the dump to be under way", || {
            goes_on();
            answers(&timed)["bytes"].as_u64() > Some(100_000)
        });
        while !ended() {
            assert_ne!(answers(&timed)["last"]["outcome"], "failed", "{}", timed.agent.said());
            goes_on();
            // Longer than a look waits, and shorter than a silence of the database server may be.
            timed.pass(9);
            minutes += 9;
        }
    });
    assert_eq!(job["state"], "idle", "{job}");
    assert!(minutes >= 60, "it took {minutes} minutes");
    assert_eq!((failures(&timed), begun(&timed)), (Vec::new(), 1));
    let codes = ["look_failed", "bucket_unreadable"];
    let events = codes.map(|code| person.of(code));
    assert!(events.iter().any(|events| !events.is_empty()), "people hear of it: {events:?}");
    // It is fast again: looks come to their end, and that is told, however often it came and went.
    gate.opens();
    let over =
        || codes.iter().all(|code| person.of(code).last().is_none_or(|it| it == "recovered"));
    for _ in 0..15 {
        timed.looks_again();
        if over() {
            break;
        }
    }
    until("it to be told as over", over);
    gate.saw_no_removal();
    let verified = shop.site.json(0, &["verify", "--data"]);
    assert_eq!(good(&verified), (2, 2), "{verified}");
    let _ = timed.agent.stop().ended(0);
}
