//! The set-up itself: that pgBackRest does there what it does elsewhere.

use drctl_tests::cluster::Cluster as _;

use crate::common::{STANZA, Shop};

#[test]
fn a_server_archives_into_a_stanza_that_backs_it_up() {
    let shop = Shop::start();
    shop.tick(1..11);
    let name = shop.archived();
    assert!(shop.segment(&name).exists());
    let _ = shop.pgbackrest(&["backup", "--type=full"]).ended(0);
    let info = shop.pgbackrest(&["info", "--output=json"]).ended(0).json();
    assert_eq!(info[0]["name"], STANZA, "{info}");
    assert_eq!(info[0]["backup"].as_array().map(Vec::len), Some(1), "{info}");
    // As text one without zeros at its end is behind one that goes on.
    let at = |id| shop.committed(id).parse::<jiff::Timestamp>().expect("a time");
    assert!(at(10) > at(1), "{} and {}", at(1), at(10));
}
