//! What somebody without a trusted key puts among the statements, and what is left out: it ends no freeze, and
//! keeps nobody from saying more.

use std::fs;

use drctl_model::Stated;
use serde_json::json;

use crate::holds::{object, put, say, statement};
use crate::prune::{backups, blocked, going, plan, shop};

#[test]
fn whoever_leaves_out_a_strangers_object_ends_no_freeze_and_loses_no_statement() {
    let shop = shop(1);
    let ids = backups(&shop, 2);
    let _ = say(&shop, "pin", &ids[0]);
    let _ = say(&shop, "freeze", "shop");
    let _ = say(&shop, "hold", "shop");
    fs::write(object(&shop, 4), "junk").unwrap();
    blocked(&shop, "--without 4");
    let out = |code: i32, numbers: &str| {
        let words = ["unfreeze", "shop", "--without", numbers, "--reason", "a stranger's"];
        match code {
            0 => shop.site.json(0, &words),
            _ => json!(shop.site.fails(code, "usage", &words)),
        }
    };
    // What counts is not left out: nobody would miss it when it is gone.
    for (numbers, word) in [
        ("1", "pin of 2"),
        ("2", "freeze of shop since"),
        ("3,4", "hold of shop since"),
        ("1-9", "is valid, so it is not left out"),
        ("4-5", "there is no statement 5 of shop to leave out"),
        ("999999", "there is no statement 999999 of shop to leave out"),
    ] {
        let said = out(2, numbers);
        assert!(said.as_str().unwrap().contains(word), "{numbers}: {said}");
    }
    assert!(!object(&shop, 5).exists());
    for n in [7, 8] {
        fs::write(object(&shop, n), "junk").unwrap();
    }
    let said = out(0, "4,7");
    assert_eq!((&said["n"], &said["without"]), (&json!(5), &json!([4, 7])), "{said}");
    let stands = said["blocked"].to_string();
    assert!(stands.contains("it is frozen") && stands.contains("it is on legal hold"), "{said}");
    blocked(&shop, "it is frozen");
    // Said twice it changes nothing; what is new is said alone.
    let again = out(0, "7,4");
    assert_eq!((&again["n"], &again["new"]), (&json!(5), &json!(false)), "{again}");
    let words = ["unfreeze", "shop", "--without", "7", "--reason", "again"];
    let text = shop.site.drctl(&words).ended(0).out;
    assert!(
        text.contains("statement 5 of shop leaves out 2 of the statements 4-7 already"),
        "{text}"
    );
    assert!(text.contains("nothing of shop is removed all the same: it is frozen"), "{text}");
    assert_eq!(out(0, "4,8")["without"], json!([8]));
    // No statement takes a number that is left out, so that each is missed.
    for n in [4, 7, 8] {
        fs::remove_file(object(&shop, n)).unwrap();
    }
    let ended = say(&shop, "unfreeze", "shop");
    assert_eq!(
        (&ended["n"], ended["blocked"].as_array().unwrap().len()),
        (&json!(9), 1),
        "{ended}"
    );
    let ended = say(&shop, "release", "shop");
    assert_eq!((&ended["n"], &ended["blocked"]), (&json!(10), &json!([])), "{ended}");
    assert_eq!(going(&plan(&shop)), [""; 0]);
    let _ = shop.site.drctl(&["status", "--check"]).ended(0);
}

#[test]
fn a_far_number_freezes_until_it_is_left_out_and_ends_no_numbers() {
    let shop = shop(1);
    let ids = backups(&shop, 3);
    let _ = say(&shop, "pin", &ids[0]);
    assert_eq!(going(&plan(&shop)), [ids[1].clone()]);
    // A statement may have been there before somebody wrote over it.
    fs::write(object(&shop, 999_999), "junk").unwrap();
    blocked(&shop, "s/shop/k/999999.json is not believed here");
    for (look, code) in [(&["verify", "shop"][..], 4), (&["catalog", "check"], 3)] {
        let found = shop.site.drctl(look).ended(code).out;
        assert!(found.contains("REFUSED: ") && found.contains("999999.json"), "{found}");
    }
    let _ =
        shop.site.json(0, &["unfreeze", "shop", "--without", "999999", "--reason", "a stranger's"]);
    let _ = shop.site.drctl(&["status", "--check"]).ended(0);
    // What it is of that a trusted key signed does not count, and numbers go on.
    put(&shop, &statement(&shop, 5000, Stated::Freeze, None), &shop.site.signing_key());
    blocked(&shop, "statement 5000 of shop is signed");
    assert_eq!(say(&shop, "pin", &ids[1])["n"], 3);
    let _ =
        shop.site.json(0, &["unfreeze", "shop", "--without", "5000", "--reason", "never right"]);
    assert!(object(&shop, 4).exists());
    assert_eq!(going(&plan(&shop)), [""; 0]);
    let _ = shop.site.drctl(&["status", "--check"]).ended(0);
    // A statement that this host knew is missed, whatever lies there.
    fs::write(object(&shop, 4), "junk").unwrap();
    blocked(&shop, "is not believed here");
}

/// A host that remembers nothing has nothing but the bucket to tell it.
#[test]
fn a_freeze_that_is_written_over_holds_however_far_behind_the_others_it_lies() {
    let shop = shop(1);
    let ids = backups(&shop, 3);
    let _ = say(&shop, "pin", &ids[0]);
    for n in 2..=700 {
        fs::write(object(&shop, n), "junk").unwrap();
    }
    let words = ["unfreeze", "shop", "--without", "2-700", "--reason", "a stranger's"];
    let said = shop.site.drctl(&words).ended(0).out;
    assert!(said.contains("statement 701") && said.contains("set it again now"), "{said}");
    for n in 2..=700 {
        fs::remove_file(object(&shop, n)).unwrap();
    }
    assert_eq!(going(&plan(&shop)), [ids[1].clone()]);
    assert_eq!(say(&shop, "freeze", "shop")["n"], 702);
    for n in [701, 702] {
        fs::write(object(&shop, n), "junk").unwrap();
    }
    fs::remove_dir_all(shop.site.path("state")).unwrap();
    blocked(&shop, "s/shop/k/000701.json and 1 more behind it are not believed here");
}

#[test]
fn what_is_left_out_counts_for_nothing_whoever_signs_it_later() {
    let shop = shop(1);
    let ids = backups(&shop, 3);
    let _ = say(&shop, "pin", &ids[0]);
    let out = |numbers: &str| {
        shop.site.json(0, &["unfreeze", "shop", "--without", numbers, "--reason", "never right"])
    };
    // Under a number that was left out.
    fs::write(object(&shop, 2), "junk").unwrap();
    let _ = out("2");
    let unpin = |n| statement(&shop, n, Stated::Unpin, Some(&ids[0]));
    put(&shop, &unpin(2), &shop.site.signing_key());
    assert_eq!(going(&plan(&shop)), [ids[1].clone()]);
    // Far behind the others, once the way to it is paved.
    put(&shop, &unpin(900), &shop.site.signing_key());
    blocked(&shop, "statement 900 of shop is signed");
    let _ = out("900");
    for n in 5..900 {
        fs::write(object(&shop, n), "junk").unwrap();
    }
    let _ = out("5-899");
    assert_eq!(going(&plan(&shop)), [ids[1].clone()]);
    let holds = shop.site.json(0, &["holds", "shop"]);
    let numbers = holds["sources"][0]["statements"].as_array().unwrap().iter();
    let numbers: Vec<u64> = numbers.map(|one| one["n"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [1, 3, 4, 901], "{holds}");
}

#[test]
fn statements_that_are_not_believed_any_more_end_no_numbers() {
    let shop = shop(1);
    let ids = backups(&shop, 2);
    let _ = say(&shop, "pin", &ids[0]);
    for n in [501, 1001] {
        let said = statement(&shop, n, Stated::Pin, Some(&ids[1]));
        put(&shop, &said, &shop.site.signing_key());
    }
    let holds = shop.site.json(3, &["holds", "shop"]);
    assert_eq!(holds["sources"][0]["statements"].as_array().map(Vec::len), Some(3), "{holds}");
    let _ = plan(&shop);
    // As where the key that signed them was taken out.
    for n in [501, 1001] {
        fs::write(object(&shop, n), "{}").unwrap();
    }
    blocked(&shop, "--without 501,1001 ");
    let words = ["unfreeze", "shop", "--without", "501,1001", "--reason", "a key that was stolen"];
    assert_eq!(shop.site.json(0, &words)["n"], 2);
    assert_eq!(say(&shop, "hold", &ids[1])["n"], 3);
    let _ = shop.site.drctl(&["status", "--check"]).ended(0);
}

#[test]
fn what_no_listing_shows_ends_no_numbers() {
    let shop = shop(1);
    let ids = backups(&shop, 2);
    let _ = say(&shop, "pin", &ids[0]);
    let pipe = std::process::Command::new("mkfifo").arg(object(&shop, 2)).status().unwrap();
    assert!(pipe.success());
    std::os::unix::fs::symlink("nowhere", object(&shop, 3)).unwrap();
    fs::create_dir(object(&shop, 4)).unwrap();
    assert_eq!(say(&shop, "freeze", "shop")["n"], 5);
    blocked(&shop, "statements 2-4 of shop are missing");
}

#[test]
fn no_number_of_strangers_objects_ends_what_may_be_said() {
    let shop = shop(1);
    let ids = backups(&shop, 3);
    let _ = say(&shop, "pin", &ids[0]);
    for n in 2..=700 {
        fs::write(object(&shop, n), "junk").unwrap();
    }
    // They are told together, with the one command that explains all of them.
    let told = || {
        let holds = shop.site.json(3, &["holds", "shop"]);
        let told = holds["sources"][0]["doubts"].as_array().unwrap().clone();
        assert_eq!(told.len(), 1, "{holds}");
        told[0].as_str().unwrap().to_owned()
    };
    let text = told();
    assert!(text.contains("000002.json and 698 more behind it are not believed here"), "{text}");
    assert!(text.contains("--without 2-700 "), "{text}");
    blocked(&shop, "are not believed here");
    for n in (5_000..6_000).step_by(2) {
        fs::write(object(&shop, n), "junk").unwrap();
    }
    let text = told();
    assert!(text.contains("000002.json and 1198 more behind it are not believed here"), "{text}");
    assert!(text.contains("--without 2-700,5000,5002,") && text.contains(",5096 "), "{text}");
    for n in (5_000..6_000).step_by(2) {
        fs::remove_file(object(&shop, n)).unwrap();
    }
    // Each for a reason of its own: the first ones, and all others together.
    for n in 690..=700 {
        let spaces = " ".repeat(usize::try_from(n).unwrap());
        fs::write(object(&shop, n), spaces + "junk").unwrap();
    }
    let holds = shop.site.json(3, &["holds", "shop"]);
    assert_eq!(holds["sources"][0]["doubts"].as_array().map(Vec::len), Some(11), "{holds}");
    assert_eq!(say(&shop, "pin", &ids[1])["n"], 701);
    // They are removed before anybody explains them: now as many are missing, and that is told with what ends it.
    for n in 2..=700 {
        fs::remove_file(object(&shop, n)).unwrap();
    }
    blocked(&shop, "statement 701 of shop is signed");
    blocked(&shop, "--without 2-700");
    let words = ["unfreeze", "shop", "--without", "2-700", "--reason", "strangers' objects"];
    assert_eq!(shop.site.json(0, &words)["n"], 702);
    assert_eq!(going(&plan(&shop)), [""; 0], "both are pinned");
    let _ = shop.site.drctl(&["status", "--check"]).ended(0);
    assert_eq!(say(&shop, "unpin", &ids[1])["n"], 703);
    assert_eq!(going(&plan(&shop)), [ids[1].clone()]);
    // One of ours among such objects is missed as any other.
    for n in (704..=1203).chain(1205..=1300) {
        fs::write(object(&shop, n), "junk").unwrap();
    }
    assert_eq!(say(&shop, "pin", &ids[1])["n"], 1204);
    assert_eq!(say(&shop, "hold", &ids[1])["n"], 1301);
    fs::remove_file(object(&shop, 1204)).unwrap();
    blocked(&shop, "statement 1204 of shop is missing");
}

#[test]
fn what_a_stranger_dates_in_the_future_freezes_nothing() {
    let shop = shop(1);
    let ids = backups(&shop, 2);
    let future = "99991231T235959Z-ffffffffffffffff";
    for key in [format!("d/{future}.json"), format!("b/{future}/manifest.json")] {
        let path = shop.site.path(&format!("repository/s/shop/{key}"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "junk").unwrap();
        assert_eq!(going(&plan(&shop)), [ids[0].clone()], "{key}");
    }
    let now = jiff::Timestamp::now();
    let drill = drctl_model::DrillId::new(now, 7);
    let path = shop.site.path(&format!("repository/s/shop/d/{drill}.json"));
    fs::write(&path, "junk").unwrap();
    blocked(&shop, "is not believed here: it may have failed");
    let status = shop.site.json(3, &["status", "--check"]);
    assert!(
        status.to_string().contains("nothing of it is removed: the evidence of the newest drill"),
        "{status}"
    );
    fs::remove_file(&path).unwrap();
    assert_eq!(going(&plan(&shop)), [ids[0].clone()]);
}
