//! What no policy keeps: shown, removed when that is said, and told from what was lost.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::Stdio;

use drctl_model::{
    Digest, Drill, DrillId, DrillOutcome, Header, RepositoryId, Timeline, Tombstone,
};
use drctl_store::{SigningKey, digest, encode_drill, encode_tombstone};
use drctl_tests::servers::minio::Minio;
use serde_json::{Value, json};

use crate::common::Shop;
use crate::newer::newer;
use crate::other_cluster::another_answers;
use crate::s3;

/// A shop that keeps so many backups, and nothing else of what it has.
pub(crate) fn shop(last: u32) -> Shop {
    let shop = Shop::open();
    shop.site.retention(&format!("last = {last}"));
    shop
}

/// What `drctl prune` says of the source.
pub(crate) fn plan(shop: &Shop) -> Value {
    shop.site.json(0, &["prune", "shop"])["sources"][0].clone()
}

/// The backups that would go, the newest first.
pub(crate) fn going(plan: &Value) -> Vec<String> {
    let all = plan["backups"].as_array().unwrap().iter();
    let going = all.filter(|one| one["goes"] == true);
    going.map(|one| one["backup"].as_str().unwrap().to_owned()).collect()
}

/// Removes what the plan shows.
pub(crate) fn remove(shop: &Shop) -> Value {
    remove_with(shop, 0)
}

/// The same, with this exit code.
fn remove_with(shop: &Shop, code: i32) -> Value {
    let plan = plan(shop);
    let yes = format!("--yes={}", plan["digest"].as_str().unwrap());
    let number = going(&plan).len().to_string();
    shop.site.json(code, &["prune", "shop", &yes, "--backups", &number])["sources"][0].clone()
}

/// Asserts that nothing may go, and why; and that `status` says the same.
#[track_caller]
pub(crate) fn blocked(shop: &Shop, word: &str) {
    let planned = plan(shop);
    assert!(going(&planned).is_empty(), "{word}: {planned}");
    assert!(planned["blocked"].to_string().contains(word), "{word}: {planned}");
    assert_eq!(planned["digest"], Value::Null, "{planned}");
    let said = shop.site.fails(2, "usage", &["prune", "shop", "--yes=0123456789abcdef"]);
    assert!(said.contains("nothing of shop may go now"), "{said}");
    let status = shop.site.status();
    assert_eq!(status["blocked"], planned["blocked"], "{word}: {status}");
    let text = shop.site.drctl(&["status"]).ended(0).out;
    assert!(text.contains("nothing of it is removed: "), "{word}: {text}");
}

pub(crate) fn backups(shop: &Shop, count: usize) -> Vec<String> {
    (0..count).map(|_| shop.site.backup()).collect()
}

pub(crate) fn folder(shop: &Shop, id: &str) -> PathBuf {
    shop.site.path("repository/s/shop/b").join(id)
}

pub(crate) fn listed(shop: &Shop) -> Vec<String> {
    let list = shop.site.json(0, &["list"]);
    let rows = list["backups"].as_array().unwrap().iter();
    rows.map(|row| row["backup"].as_str().unwrap().to_owned()).collect()
}

pub(crate) fn newest_first(ids: &[String]) -> Vec<String> {
    ids.iter().rev().cloned().collect()
}

#[test]
fn after_a_streak_of_failures_only_a_person_removes_something() {
    let shop = Shop::open();
    let site = &shop.site;
    site.retention("last = 1");
    let _ = (site.backup(), site.backup());
    let port = format!("port = {}\n", shop.server.port());
    site.replace(&port, "port = 1\n");
    let policy = |from: &str, to: &str| {
        let policy = site.path("etc/policies.d/daily.toml");
        fs::write(&policy, fs::read_to_string(&policy).unwrap().replacen(from, to, 1)).unwrap();
    };
    policy("\nschedule", "\n# schedule");
    (1..=3).for_each(|_| drop(site.drctl(&["backup", "shop"]).ended(10)));
    assert!(site.told("removal_blocked").is_empty(), "nobody has it removed on a schedule");
    policy("[prune]\n#", "[prune]\n");
    let (told, planned) = (site.told("removal_blocked"), plan(&shop));
    let why = planned["unattended"].as_str().expect("a reason");
    assert!(why.ends_with("only a person removes something"), "{why}");
    assert!(told[0]["text"].to_string().contains(why), "{told:?}");
    let digest = planned["digest"].as_str().unwrap();
    let _ = site.json(0, &["prune", "shop", "--yes", digest, "--backups", "1"]);
    // The next one ends it.
    site.replace("port = 1\n", &port);
    let _ = site.backup();
    assert_eq!(site.told("removal_blocked"), Vec::<serde_json::Value>::new());
}

#[test]
fn what_no_policy_keeps_is_shown_and_removed_when_that_is_said() {
    let shop = shop(3);
    let ids = backups(&shop, 5);
    let before = shop.site.files("repository");
    let planned = plan(&shop);
    assert_eq!(going(&planned), newest_first(&ids[..2]));
    for one in planned["backups"].as_array().unwrap() {
        let stays = !one["reasons"].as_array().unwrap().is_empty();
        assert_eq!(stays, one["goes"] == false, "{one}");
    }
    assert!(planned["backups"][0]["reasons"].to_string().contains("last"), "{planned}");
    let text = shop.site.drctl(&["prune"]).ended(0).out;
    assert!(text.contains("2 backups would go, 3 would stay"), "{text}");
    let said = shop.site.fails(2, "usage", &["prune", "shop", "--yes=0123456789abcdef"]);
    assert!(said.contains("Nothing was removed"), "{said}");
    assert!(
        !said.contains(planned["digest"].as_str().unwrap()),
        "not read, and handed out: {said}"
    );
    assert_eq!(shop.site.files("repository"), before, "a plan removes nothing");
    // Months are no minutes, and what costs little is not free.
    let said = shop.site.fails(2, "usage", &["policy", "simulate", "shop", "--for", "1m"]);
    assert!(said.contains("months are `mo`"), "{said}");
    let months = ["policy", "simulate", "shop", "--for", "1mo", "--price", "5"];
    let cost = &shop.site.json(0, &months)["sources"][0]["months"][0]["cost"];
    assert!(cost.as_f64().is_some_and(|cost| cost > 0.0), "{cost}");
    // Another host knows all five.
    let other = shop.site.path("other");
    copy(&shop.site.path("state"), &other);

    let done = remove(&shop);
    assert_eq!(done["done"]["gone"], json!(ids[..2]), "{done}");
    assert!(ids[..2].iter().all(|id| !folder(&shop, id).exists()), "not even a folder stays");
    assert_eq!(listed(&shop), newest_first(&ids[2..]));
    assert_eq!(shop.site.status()["health"], "good");
    assert_eq!(shop.site.json(0, &["catalog", "check"])["equal"], true);
    let _ = shop.site.json(0, &["verify", "--data"]);
    shop.still_restores(&ids[4]);
    // Nothing is left to do, and the next backup names nothing that is gone.
    assert_eq!(going(&plan(&shop)), [""; 0]);
    let _ = shop.site.backup();
    assert_eq!(shop.site.status()["health"], "good");
    // A host that knew them, one that has forgotten all, and a catalog that is made anew miss nothing.
    for anew in [false, true] {
        fs::remove_dir_all(shop.site.path("state")).unwrap();
        match anew {
            false => copy(&other, &shop.site.path("state")),
            true => drop(shop.site.json(0, &["catalog", "rebuild"])),
        }
        // What was made since is new to the one that knew them.
        let known = listed(&shop);
        assert_eq!(known[usize::from(anew)..], newest_first(&ids[2..]), "{anew}");
        let _ = shop.site.drctl(&["status", "--check"]).ended(0);
        let _ = shop.site.json(0, &["catalog", "rebuild"]);
        let _ = shop.site.drctl(&["status", "--check"]).ended(0);
        assert_eq!(shop.site.json(0, &["catalog", "check"])["equal"], true, "{anew}");
    }
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    let done = std::process::Command::new("cp").arg("-a").args([from, to]).status().unwrap();
    assert!(done.success());
}

#[test]
fn much_goes_only_when_somebody_says_how_much() {
    let shop = shop(1);
    let ids = backups(&shop, 3);
    let planned = plan(&shop);
    assert!(planned["much"].as_str().unwrap().contains("more than half"), "{planned}");
    let yes = format!("--yes={}", planned["digest"].as_str().unwrap());
    let said = shop.site.fails(2, "usage", &["prune", "shop", &yes]);
    assert!(said.contains("--backups 2"), "{said}");
    let _ = shop.site.fails(2, "usage", &["prune", "shop", &yes, "--backups", "3"]);
    assert_eq!(listed(&shop), newest_first(&ids));
    let _ = shop.site.json(0, &["prune", "shop", &yes, "--backups", "2"]);
    assert_eq!(listed(&shop), [ids[2].clone()]);
    // The last one stays whatever the policy says.
    assert_eq!(going(&plan(&shop)), [""; 0]);
}

#[test]
fn a_removal_that_was_killed_at_any_step_loses_nothing_and_is_brought_to_its_end() {
    for point in &drctl::PRUNE_CRASH_POINTS[..3] {
        let shop = shop(3);
        let ids = backups(&shop, 5);
        let digest = plan(&shop)["digest"].as_str().unwrap().to_owned();
        let yes = format!("--yes={digest}");
        let words = ["--json", "prune", "shop", &yes, "--backups", "2"];
        let killed = shop.site.command(&words).env("DRCTL_CRASH_AT", point).output().unwrap();
        assert_eq!(killed.status.signal(), Some(9), "{point}: {killed:?}");
        // Whatever is listed is whole, and nothing is called lost.
        let list = listed(&shop);
        assert_eq!(list[..3], newest_first(&ids[2..]), "{point}");
        let _ = shop.site.drctl(&["status", "--check"]).ended(0);
        let _ = shop.site.json(0, &["verify", "--data"]);
        let _ = remove(&shop);
        assert_eq!(listed(&shop), newest_first(&ids[2..]), "{point}");
        assert!(ids[..2].iter().all(|id| !folder(&shop, id).exists()), "{point}");
        assert_eq!(shop.site.json(0, &["catalog", "check"])["equal"], true, "{point}");
        assert!(plan(&shop)["rest"].as_array().unwrap().is_empty(), "{point}");
    }
}

pub(crate) fn tombstone(shop: &Shop, id: &str, of: Digest) -> Tombstone {
    let marker = fs::read(shop.site.path("repository/drctl-repo.json")).unwrap();
    let marker: Value = serde_json::from_slice(&marker).unwrap();
    Tombstone {
        header: Header::new([]),
        repository: marker["repository"].as_str().unwrap().parse::<RepositoryId>().unwrap(),
        source: "shop".parse().unwrap(),
        backup: id.parse().unwrap(),
        manifest_sha256: of,
        system_id: None,
        host: "db1".to_owned(),
        removed: jiff::Timestamp::now(),
    }
}

/// Takes the right to sign removals from the site's key.
pub(crate) fn may_not_remove(shop: &Shop) {
    let sources = "sources = [\"shop\"]";
    shop.site.replace(sources, &format!("{sources}, roles = [\"backup\", \"log\", \"drill\"]"));
}

#[test]
fn a_tombstone_that_is_not_believed_hides_no_loss() {
    let shop = shop(3);
    let ids = backups(&shop, 2);
    let manifest = fs::read(folder(&shop, &ids[0]).join("manifest.json")).unwrap();
    let right = digest(&manifest);
    fs::remove_dir_all(folder(&shop, &ids[0])).unwrap();
    let (own, stranger) = (shop.site.signing_key(), SigningKey::generate());
    let place = shop.site.path(&format!("repository/s/shop/x/{}.json", ids[0]));
    fs::create_dir_all(place.parent().unwrap()).unwrap();
    let lost = |why: &str| {
        let list = shop.site.json(3, &["list"]);
        assert!(list["lost"].to_string().contains(&ids[0]), "{why}: {list}");
        let _ = shop.site.drctl(&["status", "--check"]).ended(3);
    };
    lost("no tombstone");
    fs::write(&place, "{}").unwrap();
    lost("no document");
    let put = |of: Digest, key: &SigningKey| {
        fs::write(&place, encode_tombstone(&tombstone(&shop, &ids[0], of), key).unwrap()).unwrap();
    };
    put(right, &stranger);
    lost("a stranger's");
    put(digest(b"another"), &own);
    lost("of another manifest");
    put(right, &own);
    // A key that may not sign removals says nothing of them, and removes nothing.
    let config = fs::read_to_string(shop.site.config()).unwrap();
    may_not_remove(&shop);
    lost("of a key that may not");
    fs::write(shop.site.config(), config).unwrap();
    assert_eq!(listed(&shop), [ids[1].clone()]);
    let _ = shop.site.drctl(&["status", "--check"]).ended(0);
    // No policy removes the newest one: whoever writes that has something to hide.
    let manifest = fs::read(folder(&shop, &ids[1]).join("manifest.json")).unwrap();
    let stone = encode_tombstone(&tombstone(&shop, &ids[1], digest(&manifest)), &own).unwrap();
    fs::write(place.with_file_name(format!("{}.json", ids[1])), stone).unwrap();
    fs::remove_dir_all(folder(&shop, &ids[1])).unwrap();
    let newest_is_lost = || {
        let list = shop.site.json(3, &["list"]);
        assert!(list["lost"].to_string().contains(&ids[1]), "{list}");
    };
    newest_is_lost();
    // Nor where somebody puts something newer there that does not count.
    let junk = format!("{}ffffffffffffffff", &ids[1][..ids[1].len() - 16]);
    fs::create_dir_all(folder(&shop, &junk)).unwrap();
    for bytes in [b"{}".to_vec(), manifest] {
        fs::write(folder(&shop, &junk).join("manifest.json"), bytes).unwrap();
        newest_is_lost();
    }
}

#[test]
fn status_names_every_reason_for_which_nothing_goes_as_the_plan_does() {
    let shop = shop(2);
    let ids = backups(&shop, 4);
    let status = || shop.site.status();
    assert_eq!((&status()["blocked"], &status()["health"]), (&json!([]), &json!("good")));
    assert!(!shop.site.drctl(&["status"]).ended(0).out.contains("nothing of it is removed"));
    let blocked = |word: &str| blocked(&shop, word);
    // Statements, and what is missing of them.
    let _ = shop.site.json(0, &["freeze", "shop", "--reason", "audit"]);
    let _ = shop.site.json(0, &["hold", "shop", "--reason", "case 4711"]);
    blocked("it is frozen since");
    blocked("it is on legal hold since");
    let said = shop.site.path("repository/s/shop/k/000001.json");
    let freeze = fs::read(&said).unwrap();
    fs::remove_file(&said).unwrap();
    blocked("statement 1 of shop is missing");
    fs::write(&said, "{}").unwrap();
    blocked("000001.json is not believed here");
    fs::write(&said, freeze).unwrap();
    let _ = shop.site.json(0, &["unfreeze", "shop", "--reason", "done"]);
    let _ = shop.site.json(0, &["release", "shop", "--reason", "done"]);
    assert_eq!(status()["blocked"], json!([]));
    // What only a newer drctl reads, and the marker of one.
    let id = newer(&shop, &ids[3]);
    blocked("only a newer drctl reads");
    fs::remove_dir_all(folder(&shop, &id)).unwrap();
    let marker = shop.site.path("repository/drctl-repo.json");
    let good = fs::read(&marker).unwrap();
    fs::write(&marker, "{}").unwrap();
    blocked("marker is lost");
    fs::write(&marker, good).unwrap();
    // Drills.
    let drill = failed_drill(&shop, &ids[3]);
    let place = shop.site.path(&format!("repository/s/shop/d/{}.json", drill.drill));
    fs::create_dir_all(place.parent().unwrap()).unwrap();
    fs::write(&place, encode_drill(&drill, &shop.site.signing_key()).unwrap()).unwrap();
    blocked("failed");
    fs::write(&place, "{}").unwrap();
    blocked("it may have failed");
    fs::remove_file(&place).unwrap();
    let _ = shop.site.drctl(&["catalog", "forget", "shop"]).ended(0);
    let forget = shop.site.drctl(&["--json", "catalog", "forget", "shop"]).json();
    if let Some(digest) = forget["digest"].as_str() {
        let _ = shop.site.drctl(&["catalog", "forget", "shop", &format!("--yes={digest}")]);
    }
    assert_eq!(status()["blocked"], json!([]));
    // The newest one is damaged; and what this host remembers is not known.
    let part = folder(&shop, &ids[3]).join("d0/000000.zst.age");
    let mut bytes = fs::read(&part).unwrap();
    bytes[100] ^= 1;
    fs::write(&part, &bytes).unwrap();
    let _ = shop.site.json(4, &["verify", "--data"]);
    blocked("does not count");
    bytes[100] ^= 1;
    fs::write(&part, &bytes).unwrap();
    let _ = shop.site.json(0, &["verify", "--data"]);
    assert_eq!(status()["blocked"], json!([]));
    fs::remove_file(shop.site.path("state/catalog.db")).unwrap();
    let _ = shop.site.drctl(&["list"]);
    blocked("what this host remembers is not known");
    let _ = shop.site.json(0, &["catalog", "rebuild"]);
    assert_eq!(status()["blocked"], json!([]));
    // Another cluster.
    let _other = another_answers(&shop);
    let _ = shop.site.json(0, &["backup", "shop"]);
    blocked("of another cluster");
}

#[test]
fn a_removed_backup_that_somebody_put_back_is_told_by_whoever_looks() {
    let shop = shop(2);
    let ids = backups(&shop, 3);
    let aside = shop.site.path("aside");
    copy(&folder(&shop, &ids[0]), &aside);
    let _ = remove(&shop);
    assert_eq!(shop.site.json(0, &["list"])["removed"], json!([]));
    copy(&aside, &folder(&shop, &ids[0]));
    let by = shop.site.json(0, &["show", &ids[1]])["signed_by"].clone();
    let told = |answer: &Value| {
        let back = &answer["removed"][0];
        assert_eq!((&back["backup"], &back["signed_by"]), (&json!(ids[0]), &by), "{answer}");
        assert!(back["why"].as_str().unwrap().contains("it was removed at "), "{answer}");
        assert_eq!(answer["removed"].as_array().unwrap().len(), 1, "{answer}");
    };
    for anew in [false, true] {
        told(&shop.site.json(0, &["list"]));
        told(&shop.site.json(0, &["verify"]));
        told(&shop.site.json(0, &["verify", &ids[0]]));
        told(&shop.site.json(if anew { 0 } else { 3 }, &["catalog", "check"]));
        let shown = shop.site.json(0, &["show", &ids[0]])["removed"].to_string();
        assert!(shown.contains("it was removed at "), "{shown}");
        for words in [&["list"][..], &["verify"], &["show", &ids[0]]] {
            let said = shop.site.drctl(words).ended(0).out;
            assert!(said.contains("STILL THERE"), "{said}");
        }
        fs::remove_dir_all(shop.site.path("state")).unwrap();
        let _ = shop.site.json(0, &["catalog", "rebuild"]);
    }
    // It is whole, and goes again.
    shop.still_restores(&ids[0]);
    let done = remove(&shop);
    assert_eq!(done["done"]["gone"], json!(ids[..1]), "{done}");
    assert_eq!(shop.site.json(0, &["list"])["removed"], json!([]));
    assert_eq!(shop.site.json(0, &["show", &ids[1]])["removed"], Value::Null);
}

fn failed_drill(shop: &Shop, id: &str) -> Drill {
    let of = tombstone(shop, id, Digest([0; 32]));
    Drill {
        header: Header::new([]),
        repository: of.repository,
        source: of.source,
        drill: DrillId::new(of.removed, 7),
        host: "db1".to_owned(),
        started: of.removed,
        took_ms: 5400,
        system_id: Some(42),
        timeline: Some(Timeline::FIRST),
        base: Some(of.backup),
        newest: None,
        target: "the end of the WAL".to_owned(),
        outcome: DrillOutcome::Failed { error: "mismatch".to_owned() },
        run: None,
    }
}

#[test]
fn a_key_that_may_not_sign_removals_removes_nothing() {
    let shop = shop(2);
    let ids = backups(&shop, 3);
    may_not_remove(&shop);
    let yes = format!("--yes={}", plan(&shop)["digest"].as_str().unwrap());
    let said = shop.site.fails(2, "usage", &["prune", "shop", &yes]);
    assert!(said.contains("`prune`") && said.contains("nothing was removed"), "{said}");
    assert_eq!(listed(&shop), newest_first(&ids));
}

#[test]
fn nothing_goes_while_something_is_in_doubt() {
    let shop = shop(2);
    let ids = backups(&shop, 4);
    assert_eq!(going(&plan(&shop)).len(), 2);
    let before = shop.site.files("repository");
    let blocked = |word: &str| blocked(&shop, word);
    // A manifest that nobody whom we trust has signed.
    let strange = format!("{}ffffffffffffffff", &ids[3][..ids[3].len() - 16]);
    fs::create_dir_all(folder(&shop, &strange)).unwrap();
    fs::write(folder(&shop, &strange).join("manifest.json"), "{}").unwrap();
    blocked("is not believed here");
    fs::remove_dir_all(folder(&shop, &strange)).unwrap();
    // An attempt that is not finished, by another host.
    let part = folder(&shop, &ids[3]).join("d0/000000.zst.age");
    fs::create_dir_all(folder(&shop, &strange).join("d0")).unwrap();
    fs::copy(&part, folder(&shop, &strange).join("d0/000000.zst.age")).unwrap();
    blocked("may still run");
    fs::remove_dir_all(folder(&shop, &strange)).unwrap();
    // A backup that is gone.
    let aside = shop.site.path("aside");
    fs::rename(folder(&shop, &ids[1]), &aside).unwrap();
    blocked("LOST");
    fs::rename(&aside, folder(&shop, &ids[1])).unwrap();
    assert_eq!(shop.site.files("repository"), before);
    // A newest backup that does not count.
    shop.sql("truncate orders");
    let _ = shop.site.json(3, &["backup", "shop"]);
    blocked("does not count");
}

#[test]
fn where_versions_are_kept_each_goes_and_no_delete_marker_stays() {
    let minio = Minio::start();
    minio.make_bucket("shop");
    minio.set_versioning("shop");
    let shop = s3::shop(&minio);
    shop.site.retention("last = 2");
    let ids = backups(&shop, 4);
    // Somebody deleted one of those that go before it was to go.
    let done = remove(&shop);
    assert_eq!(done["done"]["gone"], json!(ids[..2]), "{done}");
    let left = s3::versions(&minio);
    for id in &ids[..2] {
        let of_it: Vec<_> = left.iter().filter(|key| key.contains(&format!("/b/{id}/"))).collect();
        assert!(of_it.is_empty(), "{of_it:?}");
    }
    assert_eq!(listed(&shop), newest_first(&ids[2..]));
    let _ = shop.site.drctl(&["status", "--check"]).ended(0);
}

#[test]
fn what_the_store_has_locked_is_retained_and_stays_a_backup() {
    let minio = Minio::start();
    minio.make_bucket_with_lock("shop");
    let shop = s3::shop(&minio);
    shop.site.retention("last = 2");
    let ids = backups(&shop, 3);
    s3::lock_for_a_day(&minio, &format!("below/s/shop/b/{}/manifest.json", ids[0]));
    let done = remove(&shop);
    assert_eq!(done["done"]["gone"], json!([]), "{done}");
    assert_eq!(done["done"]["retained"][0]["what"], ids[0].as_str(), "{done}");
    assert_eq!(listed(&shop), newest_first(&ids), "it is whole, and counts");
    let _ = shop.site.json(0, &["verify", "--data"]);
    let _ = shop.site.drctl(&["status", "--check"]).ended(0);
}

#[test]
fn nothing_behind_a_link_and_nothing_of_others_goes() {
    let shop = shop(3);
    let ids = backups(&shop, 5);
    // Links out of the repository and to one that stays, and a folder that was moved away behind one.
    let elsewhere = shop.site.path("elsewhere");
    fs::create_dir_all(&elsewhere).unwrap();
    fs::write(elsewhere.join("precious.txt"), "precious").unwrap();
    symlink(&elsewhere, folder(&shop, &ids[0]).join("d7")).unwrap();
    symlink(folder(&shop, &ids[4]), folder(&shop, &ids[0]).join("x")).unwrap();
    fs::write(folder(&shop, &ids[0]).join("notes.txt"), "mine").unwrap();
    let (own, moved) = (folder(&shop, &ids[1]).join("d0"), shop.site.path("moved"));
    fs::rename(&own, &moved).unwrap();
    symlink(&moved, &own).unwrap();
    let count = fs::read_dir(&moved).unwrap().count();
    let planned = plan(&shop);
    assert_eq!(going(&planned), newest_first(&ids[..2]), "{planned}");
    let done = remove_with(&shop, 3);
    assert_eq!(done["done"]["gone"], json!(ids[..2]), "{done}");
    assert_eq!(done["done"]["retained"], json!([]), "no store keeps it: {done}");
    assert!(done["done"]["left"].to_string().contains("behind a link"), "{done}");
    // It is not offered again.
    let again = plan(&shop);
    assert_eq!((&again["rest"], &again["digest"]), (&json!([]), &Value::Null), "{again}");
    assert_eq!(fs::read_to_string(elsewhere.join("precious.txt")).unwrap(), "precious");
    assert!(folder(&shop, &ids[0]).join("notes.txt").exists());
    assert_eq!(fs::read_dir(&moved).unwrap().count(), count);
    shop.still_restores(&ids[4]);
    let _ = shop.site.json(0, &["verify", "--data"]);
}

#[test]
fn what_lies_in_the_place_of_a_tombstone_keeps_one_backup_and_no_other() {
    let shop = shop(3);
    let ids = backups(&shop, 5);
    let place = shop.site.path(&format!("repository/s/shop/x/{}.json", ids[0]));
    fs::create_dir_all(place.parent().unwrap()).unwrap();
    fs::write(&place, "{}").unwrap();
    let done = remove_with(&shop, 3);
    assert_eq!(done["done"]["gone"], json!([ids[1]]), "{done}");
    assert_eq!(done["done"]["retained"], json!([]), "no store keeps it: {done}");
    assert_eq!(done["done"]["left"][0]["what"], ids[0].as_str(), "{done}");
    let verified = shop.site.json(4, &["verify", "--data"]);
    let all = verified["backups"].as_array().unwrap();
    assert!(all.len() == 4 && all.iter().all(|one| one["good"] == true), "{verified}");
    assert!(verified["refused"][0].as_str().unwrap().contains(&ids[0]), "{verified}");
}

#[test]
fn a_forged_tombstone_lets_no_running_attempt_go() {
    let shop = shop(3);
    let ids = backups(&shop, 2);
    // Another host's attempt has stored a segment, and somebody has the key.
    let runs = format!("{}ffffffffffffffff", &ids[1][..ids[1].len() - 16]);
    let part = folder(&shop, &runs).join("d0/000000.zst.age");
    fs::create_dir_all(part.parent().unwrap()).unwrap();
    fs::copy(folder(&shop, &ids[1]).join("d0/000000.zst.age"), &part).unwrap();
    let place = shop.site.path(&format!("repository/s/shop/x/{runs}.json"));
    fs::create_dir_all(place.parent().unwrap()).unwrap();
    let stone = tombstone(&shop, &runs, digest(b"nothing"));
    let bytes = encode_tombstone(&stone, &shop.site.signing_key()).unwrap();
    fs::write(place, bytes).unwrap();
    let planned = plan(&shop);
    assert_eq!(planned["rest"], json!([]), "{planned}");
    assert!(planned["blocked"].to_string().contains("may still run"), "{planned}");
}

#[test]
fn backups_of_another_cluster_push_none_of_the_real_one_out() {
    let shop = shop(2);
    let ids = backups(&shop, 2);
    let _other = another_answers(&shop);
    let of_other = backups(&shop, 3);
    let planned = plan(&shop);
    assert_eq!(going(&planned), [""; 0], "{planned}");
    assert!(planned["blocked"].to_string().contains("another cluster"), "{planned}");
    // Somebody takes it for the source's.
    let _ = shop.site.json(0, &["accept", &of_other[2]]);
    let all: Vec<String> = ids.into_iter().chain(of_other).collect();
    assert_eq!(going(&plan(&shop)), newest_first(&all[..3]));
}

#[test]
fn nothing_goes_while_a_restore_reads_it_on_this_host() {
    let shop = shop(2);
    let ids = backups(&shop, 3);
    let words = ["restore", "shop", "--backup", &ids[0], "--database", &shop.db, "--to-stdout"];
    let mut restore = shop.site.command(&words);
    let mut child = restore.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    // The pipe is full once the first bytes were read and the rest is not: the writer waits.
    let (mut output, mut dump) = (child.stdout.take().unwrap(), vec![0_u8; 5]);
    output.read_exact(&mut dump).unwrap();
    assert_eq!(dump, b"PGDMP");
    blocked(&shop, "a restore of it runs since");
    assert_eq!(listed(&shop), newest_first(&ids));
    // All that it reads is there, to its end.
    output.read_to_end(&mut dump).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(dump.len() > 128 << 10, "the pipe held all of it: {} bytes", dump.len());
    assert_eq!(going(&plan(&shop)), newest_first(&ids[..1]));
    let done = remove(&shop);
    assert_eq!(done["done"]["gone"], json!(ids[..1]), "{done}");
}
