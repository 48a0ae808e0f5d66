//! Pins, legal holds and freezes: what has to stay whatever the policy says, and nothing goes in doubt.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;

use drctl::host::{Setup, Stop};
use drctl::prune;
use drctl_model::{BackupId, Header, RepositoryId, Stated, Statement};
use drctl_store::{SigningKey, digest, encode_statement, encode_tombstone};
use serde_json::{Value, json};

use crate::common::Shop;
use crate::prune::{
    backups, blocked, folder, going, listed, may_not_remove, newest_first, plan, remove, shop,
    tombstone,
};

/// Says something of a backup or of the source.
pub(crate) fn say(shop: &Shop, verb: &str, what: &str) -> Value {
    shop.site.json(0, &[verb, what, "--reason", "audit of March"])
}

pub(crate) fn object(shop: &Shop, n: u64) -> PathBuf {
    shop.site.path(&format!("repository/s/shop/k/{n:06}.json"))
}

pub(crate) fn statement(shop: &Shop, n: u64, statement: Stated, backup: Option<&str>) -> Statement {
    let marker = fs::read(shop.site.path("repository/drctl-repo.json")).unwrap();
    let marker: Value = serde_json::from_slice(&marker).unwrap();
    Statement {
        header: Header::new([]),
        repository: marker["repository"].as_str().unwrap().parse::<RepositoryId>().unwrap(),
        source: "shop".parse().unwrap(),
        n,
        statement,
        backup: backup.map(|id| id.parse::<BackupId>().unwrap()),
        reason: "by hand".to_owned(),
        without: Vec::new(),
        host: "db1".to_owned(),
        account: "postgres".to_owned(),
        at: jiff::Timestamp::now(),
    }
}

pub(crate) fn put(shop: &Shop, said: &Statement, key: &SigningKey) {
    fs::create_dir_all(object(shop, said.n).parent().unwrap()).unwrap();
    fs::write(object(shop, said.n), encode_statement(said, key).unwrap()).unwrap();
}

#[test]
fn the_loss_of_what_is_held_is_told_though_its_removal_was_begun() {
    for verb in ["pin", "hold"] {
        let shop = shop(2);
        let ids = backups(&shop, 3);
        let yes = format!("--yes={}", plan(&shop)["digest"].as_str().unwrap());
        let mut killed = shop.site.command(&["--json", "prune", "shop", &yes]);
        let killed = killed.env("DRCTL_CRASH_AT", "prune-tombstone-put").output().unwrap();
        assert_eq!(killed.status.signal(), Some(9), "{killed:?}");
        // A hold of all does not tell its loss, and says so.
        let said = shop.site.drctl(&["hold", "shop", "--reason", "case 4712"]).ended(3);
        assert!(said.out.contains(&format!("a removal of {} was begun", ids[0])), "{said:?}");
        let _ = shop.site.drctl(&["release", "shop", "--reason", "case 4712"]).ended(0);
        let said = shop.site.drctl(&[verb, &ids[0], "--reason", "case 4711"]).ended(3);
        assert!(said.out.contains("a removal of") && said.out.contains("was begun"), "{said:?}");
        // That one is told of: nothing is left to do about it.
        let _ = shop.site.drctl(&["freeze", "shop", "--reason", "case 4713"]).ended(0);
        let _ = shop.site.drctl(&["unfreeze", "shop", "--reason", "case 4713"]).ended(0);
        // Who has no right to remove it, or nobody: the store lost it.
        fs::remove_file(folder(&shop, &ids[0]).join("manifest.json")).unwrap();
        let status = shop.site.drctl(&["status", "--check"]);
        assert!(status.code == Some(3) && status.out.contains("LOST"), "{verb}: {status:?}");
        let planned = plan(&shop);
        assert!(planned["blocked"].to_string().contains("LOST"), "{verb}: {planned}");
        assert_eq!((&planned["rest"], &planned["digest"]), (&json!([]), &Value::Null), "{planned}");
        assert!(folder(&shop, &ids[0]).exists());
        // A host that has never seen it, too: what it was based on, and who followed it, name it.
        fs::remove_dir_all(shop.site.path("state")).unwrap();
        let _ = shop.site.drctl(&["catalog", "rebuild"]);
        let planned = plan(&shop);
        assert_eq!((&planned["rest"], &planned["digest"]), (&json!([]), &Value::Null), "{planned}");
    }
}

#[test]
fn what_is_pinned_or_held_stays_whatever_the_policy_says() {
    let shop = shop(1);
    let ids = backups(&shop, 4);
    let said = say(&shop, "pin", &ids[0]);
    assert_eq!((said["n"].as_u64(), &said["new"]), (Some(1), &json!(true)), "{said}");
    // Said twice it changes nothing.
    let again = shop.site.json(0, &["pin", &ids[0], "--reason", "another one"]);
    assert_eq!((&again["new"], &again["reason"]), (&json!(false), &json!("audit of March")));
    let _ = say(&shop, "hold", &format!("shop/{}", ids[1]));
    let planned = plan(&shop);
    assert_eq!(going(&planned), [ids[2].clone()], "{planned}");
    assert!(planned["backups"][3]["reasons"].to_string().contains("pinned: audit of March"));
    assert!(planned["backups"][2]["reasons"].to_string().contains("on legal hold"), "{planned}");
    let list = shop.site.json(0, &["list"]);
    let kept =
        |n: usize| (list["backups"][n]["pinned"].clone(), list["backups"][n]["held"].clone());
    assert_eq!(kept(3), (json!("audit of March"), json!(null)), "{list}");
    assert_eq!(kept(2), (json!(null), json!("audit of March")), "{list}");
    assert_eq!(kept(0), (json!(null), json!(null)), "{list}");
    let text = shop.site.drctl(&["list"]).ended(0).out;
    assert!(text.contains("good, pinned") && text.contains("good, held"), "{text}");
    assert_eq!(shop.site.json(0, &["show", &ids[0]])["pinned"], "audit of March");
    let _ = remove(&shop);
    assert_eq!(listed(&shop), [ids[3].clone(), ids[1].clone(), ids[0].clone()]);
    // A host that has forgotten all knows it as well.
    fs::remove_dir_all(shop.site.path("state")).unwrap();
    let _ = shop.site.json(0, &["catalog", "rebuild"]);
    assert_eq!(going(&plan(&shop)), [""; 0]);
    let _ = say(&shop, "hold", &ids[0]);
    let text = shop.site.drctl(&["list"]).ended(0).out;
    assert!(text.contains("good, pinned, held"), "{text}");
    let _ = say(&shop, "release", &ids[0]);
    // Nobody looks for a point in time in dumps.
    let said = shop.site.fails(5, "no_backup", &["timeline", "shop"]);
    assert!(said.contains("its backups are dumps") && said.contains("base_backup"), "{said}");
    // A backup is named as it is told, with its source.
    let named = format!("shop/{}", ids[0]);
    let shown = shop.site.json(0, &["show", &named]);
    assert_eq!(shown["manifest"]["backup"], json!(ids[0]), "{shown}");
    let _ = shop.site.json(0, &["verify", &named]);
    for verb in ["show", "verify"] {
        let _ = shop.site.fails(5, "no_backup", &[verb, &format!("other/{}", ids[0])]);
    }
    // Whoever mistypes a name hears what there is.
    let said = shop.site.fails(5, "no_backup", &["hold", "shopp", "--reason", "audit"]);
    assert!(said.contains("no backup `shopp`, and no backup of a source `shopp`"), "{said}");
    assert!(said.contains("sources with backups: shop"), "{said}");
    let said = shop.site.fails(5, "no_backup", &["pin", "shop", "--reason", "audit"]);
    assert!(said.contains("`shop` is a source: name one of its backups"), "{said}");
    let said = shop.site.fails(5, "no_backup", &["pin", "20", "--reason", "audit"]);
    assert!(said.contains("fits 3 backups, give more characters"), "{said}");
    for verb in ["freeze", "unfreeze"] {
        let said = shop.site.fails(2, "usage", &[verb, &ids[1], "--reason", "audit"]);
        assert!(said.contains("takes a source") && said.contains("drctl pin"), "{said}");
    }
    // Nobody ends a hold by ending a pin, and nothing is ended that is not there.
    let nothing = shop.site.fails(2, "usage", &["unpin", &ids[1], "--reason", "over"]);
    assert!(nothing.contains("is not pinned: nothing was written"), "{nothing}");
    // A second reason is not taken for recorded.
    let again = shop.site.drctl(&["pin", &ids[0], "--reason", "audit of April"]).ended(0).out;
    assert!(again.contains("audit of March") && again.contains("was NOT recorded"), "{again}");
    let again = shop.site.drctl(&["pin", &ids[0], "--reason", "audit of March"]).ended(0).out;
    assert!(!again.contains("NOT recorded"), "{again}");
    let _ = say(&shop, "unpin", &ids[0][..20]);
    assert_eq!(going(&plan(&shop)), [ids[0].clone()]);
    let _ = say(&shop, "release", &ids[1]);
    assert_eq!(going(&plan(&shop)), newest_first(&ids[..2]));
    let holds = shop.site.json(0, &["holds", "shop"]);
    let all = holds["sources"][0]["statements"].as_array().unwrap();
    let words: Vec<&str> = all.iter().map(|one| one["statement"].as_str().unwrap()).collect();
    let all_words = ["pin", "hold", "hold", "release", "unpin", "release"];
    assert_eq!(words, all_words, "{holds}");
    assert!(all.iter().all(|one| one["stands"] == false), "{holds}");
    for bad in ["", "  ", "a\nb", "\u{1b}[2J", &"x".repeat(501)] {
        let said = shop.site.fails(2, "usage", &["pin", &ids[0], "--reason", bad]);
        assert!(said.contains("1 to 500 characters"), "{said}");
    }
    assert!(!object(&shop, 7).exists());
    // All of that is on record as the source's, whichever way the backup was named.
    let shown = shop.site.json(0, &["audit", "show", "--source", "shop"]);
    let entries = shown["entries"].as_array().unwrap().iter();
    let verbs: Vec<&str> = entries.filter_map(|one| one["verb"].as_str()).collect();
    for verb in ["pin", "hold", "release", "unpin"] {
        assert!(verbs.contains(&verb), "{verb}: {shown}");
    }
}

#[test]
fn a_freeze_or_a_hold_of_the_source_stops_all_removals() {
    let shop = shop(1);
    let ids = backups(&shop, 3);
    for (begin, end, word) in
        [("freeze", "unfreeze", "it is frozen"), ("hold", "release", "it is on legal hold")]
    {
        assert_eq!(going(&plan(&shop)), newest_first(&ids[..2]));
        let _ = say(&shop, begin, "shop");
        blocked(&shop, word);
        let status = shop.site.json(0, &["status", "--check"])["sources"][0].clone();
        let found = status["findings"].as_array().unwrap().iter();
        let found: Vec<&Value> = found.filter(|one| one["code"] == "source_frozen").collect();
        assert_eq!((found.len(), &status["health"]), (1, &json!("good")), "{status}");
        assert!(found[0]["text"].as_str().unwrap().contains("audit of March"), "{status}");
        assert!(found[0]["since"].is_string(), "{status}");
        let _ = say(&shop, end, "shop");
    }
    let _ = remove(&shop);
    assert_eq!(listed(&shop), [ids[2].clone()]);
    let unknown = ["freeze", "blog", "--reason", "audit"];
    let _ = shop.site.fails(2, "unknown_source", &unknown);
    let _ = shop.site.fails(2, "unknown_source", &["catalog", "forget", "shopp"]);
}

#[test]
fn only_a_key_with_the_role_ends_a_hold() {
    let shop = shop(1);
    let ids = backups(&shop, 2);
    may_not_remove(&shop);
    let _ = say(&shop, "hold", &ids[0]);
    let _ = say(&shop, "freeze", "shop");
    let _ = say(&shop, "pin", &ids[0]);
    let _ = say(&shop, "unpin", &ids[0]);
    for words in [["release", &ids[0]], ["unfreeze", "shop"]] {
        let said = shop.site.fails(2, "usage", &[&words[..], &["--reason", "over"]].concat());
        assert!(
            said.contains("without shop, or `roles` without `prune`; nothing was written"),
            "{said}"
        );
    }
    assert!(!object(&shop, 5).exists());
    // Whoever writes it all the same is not believed, and then nothing goes.
    put(&shop, &statement(&shop, 5, Stated::Unfreeze, None), &shop.site.signing_key());
    let holds = shop.site.json(3, &["holds"]);
    let doubts = holds["sources"][0]["doubts"].to_string();
    assert!(doubts.contains("000005.json is not believed here"), "{holds}");
    blocked(&shop, "it is frozen");
    blocked(&shop, "is not believed here");
}

#[test]
fn a_statement_that_is_in_doubt_freezes_its_source() {
    let shop = shop(1);
    let ids = backups(&shop, 3);
    let _ = say(&shop, "pin", &ids[0]);
    let _ = say(&shop, "unpin", &ids[0]);
    let _ = say(&shop, "pin", &ids[0]);
    // This host remembers nothing: the numbers alone tell.
    fs::remove_file(object(&shop, 2)).unwrap();
    fs::remove_dir_all(shop.site.path("state")).unwrap();
    let _ = shop.site.json(0, &["catalog", "rebuild"]);
    blocked(&shop, "statement 2 of shop is missing");
    let status = shop.site.json(3, &["status", "--check"])["sources"][0].clone();
    assert!(status["findings"].to_string().contains("statement_in_doubt"), "{status}");
    assert!(status["findings"].to_string().contains("--without 2"), "{status}");
    let _ = shop.site.json(0, &["unfreeze", "shop", "--without", "2", "--reason", "explained"]);
    assert_eq!(going(&plan(&shop)), [ids[1].clone()]);
    let _ = shop.site.drctl(&["status", "--check"]).ended(0);
    // What nobody whom we trust has signed, and what belongs under another number.
    let good = statement(&shop, 5, Stated::Freeze, None);
    for (bytes, word) in [
        (b"{}".to_vec(), "is not believed here"),
        (encode_statement(&good, &SigningKey::generate()).unwrap(), "no trusted key"),
        (fs::read(object(&shop, 3)).unwrap(), "is not believed here"),
    ] {
        fs::write(object(&shop, 5), bytes).unwrap();
        blocked(&shop, word);
    }
    // It does not keep anybody from saying more, and is left out when that is said.
    let _ = say(&shop, "hold", &ids[1]);
    blocked(&shop, "is not believed here");
    let _ = shop.site.json(0, &["unfreeze", "shop", "--without", "5", "--reason", "a stranger's"]);
    assert_eq!(going(&plan(&shop)), [""; 0]);
    // What only a newer drctl reads cannot be left out.
    let header = Header { reader: "0.7.0".to_owned(), ..Header::new(["amber"]) };
    let newer = Statement { header, ..statement(&shop, 8, Stated::Freeze, None) };
    put(&shop, &newer, &shop.site.signing_key());
    blocked(&shop, "drctl 0.7.0 or newer");
    let said =
        shop.site.fails(2, "usage", &["unfreeze", "shop", "--without", "8", "--reason", "no"]);
    assert!(said.contains("statement 8 of shop cannot be left out"), "{said}");
    blocked(&shop, "drctl 0.7.0 or newer");
}

#[test]
fn the_last_statement_is_missed_by_whoever_knew_it() {
    let shop = shop(1);
    let ids = backups(&shop, 3);
    let _ = say(&shop, "pin", &ids[1]);
    let _ = say(&shop, "hold", &ids[0]);
    let good = fs::read(object(&shop, 2)).unwrap();
    let lost = |why: &str| {
        let list = shop.site.json(3, &["list"]);
        let lost = list["lost"].to_string();
        assert!(lost.contains("s/shop/k/000002.json") && lost.contains(why), "{why}: {list}");
        let _ = shop.site.drctl(&["status", "--check"]).ended(3);
        blocked(&shop, "LOST");
        let doubts = shop.site.json(3, &["holds", "shop"])["sources"][0]["doubts"].to_string();
        assert!(doubts.contains("statement 2 of shop") && doubts.contains(why), "{doubts}");
    };
    fs::remove_file(object(&shop, 2)).unwrap();
    lost("it was there before and is gone");
    // Nor does a catalog that is made anew forget it.
    let _ = shop.site.drctl(&["catalog", "rebuild"]);
    lost("it was there before and is gone");
    // Another one in its place, by a key that may say this.
    put(&shop, &statement(&shop, 2, Stated::Pin, Some(&ids[0])), &shop.site.signing_key());
    lost("another statement is in its place");
    fs::write(object(&shop, 2), &good).unwrap();
    assert_eq!(going(&plan(&shop)), [""; 0]);
    let _ = shop.site.drctl(&["status", "--check"]).ended(0);
    // It is never written over, and when its loss is explained it is left out.
    fs::remove_file(object(&shop, 2)).unwrap();
    let _ = shop.site.json(0, &["unfreeze", "shop", "--without", "2", "--reason", "explained"]);
    assert!(object(&shop, 3).exists() && !object(&shop, 2).exists());
    let _ = shop.site.drctl(&["status", "--check"]).ended(0);
    assert_eq!(going(&plan(&shop)), [ids[0].clone()]);
    assert_eq!(shop.site.json(0, &["holds", "shop"])["unknown"], Value::Null);
    // A host that remembers nothing says so.
    fs::remove_file(shop.site.path("state/catalog.db")).unwrap();
    let unknown = shop.site.json(0, &["holds", "shop"])["unknown"].to_string();
    assert!(unknown.contains("a statement that is gone may not be missed here"), "{unknown}");
}

#[test]
fn what_was_said_and_is_damaged_or_gone_is_found_by_whoever_looks_at_everything() {
    let shop = shop(1);
    let ids = backups(&shop, 3);
    for id in &ids {
        let _ = say(&shop, "hold", id);
    }
    let looks = |verify: i32, check: i32, field: &str, word: &str| {
        let verified = shop.site.json(verify, &["verify", "shop"]);
        assert!(verified[field].to_string().contains(word), "{verified}");
        let checked = shop.site.drctl(&["catalog", "check"]).ended(check).out;
        assert!(checked.contains(word), "{checked}");
        assert!(going(&plan(&shop)).is_empty(), "{word}");
    };
    let _ = shop.site.json(0, &["verify", "shop"]);
    let _ = shop.site.json(0, &["catalog", "check"]);
    let key = |n: u64| format!("s/shop/k/00000{n}.json");
    for n in [1, 3] {
        let good = fs::read(object(&shop, n)).unwrap();
        // The last one is missed by a host that knew it, and any other one by all.
        fs::remove_file(object(&shop, n)).unwrap();
        looks(4, 4, "lost", &key(n));
        fs::write(object(&shop, n), &good[1..]).unwrap();
        looks(4, 3, "refused", &format!("{} is not believed here", key(n)));
        fs::write(object(&shop, n), &good).unwrap();
    }
    let header = Header { reader: "0.7.0".to_owned(), ..Header::new(["amber"]) };
    let newer = Statement { header, ..statement(&shop, 4, Stated::Freeze, None) };
    put(&shop, &newer, &shop.site.signing_key());
    looks(3, 3, "newer", &format!("only a newer drctl reads {}", key(4)));
    fs::remove_file(object(&shop, 4)).unwrap();
    // Nothing is remembered here: the numbers alone tell.
    fs::remove_file(object(&shop, 1)).unwrap();
    fs::remove_dir_all(shop.site.path("state")).unwrap();
    let _ = shop.site.json(0, &["catalog", "rebuild"]);
    looks(4, 4, "lost", "statement 1 of shop is missing");
}

#[test]
fn whoever_speaks_at_once_takes_numbers_one_after_the_other() {
    let shop = shop(1);
    let ids = backups(&shop, 3);
    let verbs = ["pin", "hold"];
    let all = verbs.iter().flat_map(|verb| ids.iter().map(move |id| (*verb, id.as_str())));
    let speaking: Vec<_> = all
        .map(|(verb, id)| {
            let mut command = shop.site.command(&["--json", verb, id, "--reason", "at once"]);
            command.stdout(std::process::Stdio::null()).spawn().unwrap()
        })
        .collect();
    for mut process in speaking {
        assert!(process.wait().unwrap().success());
    }
    let holds = shop.site.json(0, &["holds", "shop"]);
    let said = holds["sources"][0]["statements"].as_array().unwrap();
    let numbers: Vec<u64> = said.iter().map(|one| one["n"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6], "{holds}");
    assert!(said.iter().all(|one| one["stands"] == true), "{holds}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_fails_half_way_says_what_is_gone() {
    let shop = shop(1);
    let ids = backups(&shop, 3);
    let setup = Setup::load(&shop.site.config()).unwrap();
    let repository = setup.repository().await.unwrap();
    let catalog = setup.catalog(&repository).await.unwrap();
    let source = "shop".parse().unwrap();
    let planned = prune::plan(&setup, &repository, &catalog, &source, None).await.unwrap();
    fs::write(folder(&shop, &ids[1]).join("manifest.json"), "{}").unwrap();
    let (_stopper, stop) = Stop::new();
    let error = prune::carry_out(&setup, &repository, &catalog, &planned, &stop).await.unwrap_err();
    let error = format!("{error:#}");
    let so_far = format!("removed before this failed: {}; ", ids[0]);
    assert!(error.contains(&so_far) && error.contains(" objects in all"), "{error}");
    assert!(!folder(&shop, &ids[0]).exists() && folder(&shop, &ids[1]).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pinned_after_it_was_planned_is_not_removed() {
    let shop = shop(1);
    let ids = backups(&shop, 3);
    let setup = Setup::load(&shop.site.config()).unwrap();
    let repository = setup.repository().await.unwrap();
    let catalog = setup.catalog(&repository).await.unwrap();
    let source = "shop".parse().unwrap();
    let planned = prune::plan(&setup, &repository, &catalog, &source, None).await.unwrap();
    assert_eq!(planned.going().len(), 2);
    let carry_out = async || {
        let (_stopper, stop) = Stop::new();
        prune::carry_out(&setup, &repository, &catalog, &planned, &stop).await
    };
    let stays = async |word: &str| {
        let error = format!("{:#}", carry_out().await.unwrap_err());
        assert!(error.contains(word) && error.contains("Nothing more of shop"), "{error}");
        assert_eq!(listed(&shop), newest_first(&ids), "{word}");
        assert!(!shop.site.path("repository/s/shop/x").exists(), "no tombstone was written");
    };
    let _ = say(&shop, "pin", &ids[0]);
    stays("has to stay").await;
    let _ = say(&shop, "unpin", &ids[0]);
    let _ = say(&shop, "freeze", "shop");
    stays("it is frozen").await;
    let _ = say(&shop, "unfreeze", "shop");
    fs::write(object(&shop, 5), "{}").unwrap();
    stays("is not believed here").await;
    fs::remove_file(object(&shop, 5)).unwrap();
    let _ = carry_out().await.unwrap();
    assert_eq!(listed(&shop), [ids[2].clone()]);
    // Whoever comes too late is told.
    let stone = tombstone(
        &shop,
        &ids[2],
        digest(&fs::read(folder(&shop, &ids[2]).join("manifest.json")).unwrap()),
    );
    let place = shop.site.path(&format!("repository/s/shop/x/{}.json", ids[2]));
    fs::write(place, encode_tombstone(&stone, &shop.site.signing_key()).unwrap()).unwrap();
    let late = shop.site.json(3, &["pin", &ids[2], "--reason", "late"]);
    assert!(late["removal"].as_str().unwrap().contains("was begun before"), "{late}");
}
