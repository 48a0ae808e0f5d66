//! Whatever signs signs only what is believed here.

use std::fs;

use drctl_tests::cluster::{Cluster as _, give_away};

use crate::log::Archiving;

#[test]
fn a_stream_of_log_for_dumps_is_refused_and_leaves_no_slot() {
    let shop = Archiving::start(false);
    let copies = "engine = \"base_backup\"\ncheckpoint = \"fast\"";
    shop.site.replace(copies, "engine = \"pg_dump\"");
    let said = shop.drctl(&["wal", "stream", "shop"]).failed(2, "usage");
    assert!(said.contains("WAL cannot be replayed on dumps"), "{said}");
    assert_eq!(shop.sql("select count(*) from pg_replication_slots"), "0");
    // Nor is any pushed: the server keeps it.
    let name = shop.sql("select pg_walfile_name(pg_switch_wal() - 1)");
    let file = shop.server.data_dir().join("pg_wal").join(name).display().to_string();
    let before = shop.site.files("repository");
    let refused = shop.drctl(&["wal", "push", "shop", &file]).ended(1).json();
    assert_eq!(refused["code"], "usage", "{refused}");
    assert!(refused.to_string().contains("WAL cannot be replayed on dumps"), "{refused}");
    assert_eq!(shop.site.files("repository"), before);
}

#[test]
fn nothing_is_signed_with_a_key_that_is_not_pinned() {
    let shop = Archiving::start(false);
    shop.back_up();
    shop.tick(1..6);
    let name = shop.sql("select pg_walfile_name(pg_switch_wal() - 1)");
    let file = shop.server.data_dir().join("pg_wal").join(name).display().to_string();
    let key = shop.site.path("etc/keys/signing.key");
    fs::remove_file(&key).expect("take the key away");
    let text = key.display().to_string();
    let new = shop.site.drctl(&["keys", "new-signing", &text]).ended(0).out;
    give_away(&key);
    let before = shop.site.files("repository");
    let push = shop.drctl(&["wal", "push", "shop", &file]);
    let object = push.ended(1).json();
    assert_eq!((&object["code"], &object["exit"]), (&"signing_key_unpinned".into(), &9.into()));
    assert!(object["hint"].as_str().expect("a hint").contains(new.trim()), "{object}");
    for arguments in
        [&["wal", "stream", "shop"][..], &["wal", "index", "shop"], &["backup", "shop"]]
    {
        let said = shop.drctl(arguments).failed(9, "signing_key_unpinned");
        assert!(said.contains(new.trim()), "{said}");
    }
    let (drilled, _folder, path) = shop.recover(&["--to-end", "--drill"]);
    let said = drilled.failed(9, "signing_key_unpinned");
    assert!(said.contains(new.trim()) && !path.exists(), "{said}");
    assert_eq!(shop.site.files("repository"), before);
    assert_eq!(shop.sql("select count(*) from pg_replication_slots"), "0");
    // Pinned, it is believed.
    shop.site.replace("verifying_keys = [", &format!("verifying_keys = [\"{}\", ", new.trim()));
    let _ = shop.drctl(&["wal", "push", "shop", &file]).ended(0);
}

#[test]
fn verify_names_who_signed_each_piece_of_the_log() {
    let shop = Archiving::start(true);
    shop.back_up();
    shop.segments_of_ten(1);
    let first = shop.drctl(&["verify", "shop"]).ended(0).json()["logs"][0]["signers"].clone();
    assert_eq!(first.as_array().map(Vec::len), Some(1), "{first}");
    let key = shop.site.path("etc/keys/signing.key");
    fs::remove_file(&key).unwrap();
    let text = key.display().to_string();
    let new = shop.site.drctl(&["keys", "new-signing", &text]).ended(0).out;
    give_away(&key);
    shop.site.replace("verifying_keys = [", &format!("verifying_keys = [\"{}\", ", new.trim()));
    shop.tick(11..21);
    shop.archived();
    let all = shop.drctl(&["verify", "shop"]).ended(0).json()["logs"][0]["signers"].clone();
    let all = all.as_array().unwrap();
    assert_eq!(all.len(), 2, "{all:?}");
    let other = all.iter().find(|one| one["signed_by"] != first[0]["signed_by"]).unwrap();
    // Of one whose bytes are damaged its head still tells it.
    let piece = shop.pieces().pop().unwrap();
    let mut bytes = fs::read(&piece).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&piece, bytes).unwrap();
    let bad = shop.drctl(&["verify", "shop", "--data"]).ended(4).json();
    let said = bad["logs"][0]["problems"][0]["message"].as_str().unwrap();
    assert!(said.contains(other["signed_by"].as_str().unwrap()), "{bad}");
}
