//! Whether a server archives into its stanza.

use drctl_tests::cluster::Cluster as _;
use drctl_tests::site::until;

use crate::common::Shop;

/// What doctor found of the server's `archive_command`.
fn command(shop: &Shop) -> (String, String) {
    let found = shop.drctl(&["doctor", "shop"]).json();
    let all = found["findings"].as_array().expect("findings");
    let one = all.iter().find(|one| one["check"] == "source.shop.archive_command");
    let one = one.unwrap_or_else(|| panic!("{found}"));
    (one["level"].as_str().unwrap().to_owned(), one["text"].as_str().unwrap().to_owned())
}

#[test]
fn doctor_tells_that_a_server_archives_elsewhere() {
    let shop = Shop::start();
    let _ = shop.back_up();
    assert_eq!(command(&shop).0, "good", "{:?}", command(&shop));
    for other in ["cp %p /srv/other/%f", "pgbackrest --stanza=other archive-push %p"] {
        shop.archive_by(other);
        until("the command to count", || shop.sql("show archive_command") == other);
        let (level, text) = command(&shop);
        assert_eq!(level, "warning", "{text}");
        assert!(text.contains(other) && text.contains("shop: no WAL"), "{text}");
    }
}
