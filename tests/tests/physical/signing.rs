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
    assert!(said.contains("no log can bring forward"), "{said}");
    assert_eq!(shop.sql("select count(*) from pg_replication_slots"), "0");
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
