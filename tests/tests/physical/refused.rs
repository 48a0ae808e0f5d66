//! Log that was refused for what another server wrote: whoever looks at the source is told.

use std::path::PathBuf;

use drctl_tests::cluster::{Cluster as _, list, ticks};
use drctl_tests::site::until;
use serde_json::{Value, json};

use crate::histories::set_back;
use crate::log::Archiving;
use crate::streaming::{Streaming, shipped};

/// That it was refused is told by whatever looks at the source; gives what is told of it.
#[track_caller]
pub(crate) fn is_told(shop: &Archiving, whose: &str) -> Value {
    let status = shop.drctl(&["status", "--check"]).ended(3).json();
    let told = &status["sources"][0]["refusals"];
    assert_eq!(told.as_array().map(Vec::len), Some(1), "{status}");
    let cluster = shop.drctl(&["timeline", "shop"]).ended(3).json();
    assert_eq!(&cluster["refusals"], told, "{cluster}");
    let key = told[0]["key"].as_str().unwrap();
    let id = cluster["system_id"].as_str().unwrap();
    assert!(key.contains(whose) && key.contains(id), "{whose}: {told}");
    let findings = status["sources"][0]["findings"].to_string();
    assert!(findings.contains("drctl catalog forget shop"), "{findings}");
    let refused = shop.told("log_refused");
    assert_eq!((refused.len(), &refused[0]["severity"]), (1, &"bad".into()), "{status}");
    assert_eq!(refused[0]["since"], told[0]["since"], "{status}");
    let doctor = shop.drctl(&["doctor"]).ended(1).json();
    let found = doctor["findings"].as_array().unwrap().iter();
    let refused: Vec<_> = found.filter(|one| one["check"] == "source.shop.refused").collect();
    assert_eq!((refused.len(), &refused[0]["level"]), (1, &"bad".into()), "{doctor}");
    assert_eq!(refused[0]["code"], "log_refused", "{doctor}");
    told.clone()
}

#[test]
fn log_that_was_refused_is_told_until_somebody_has_seen_it() {
    let mut shop = Archiving::start(true);
    shop.tick(1..11);
    shop.back_up();
    set_back(&mut shop, |shop| {
        shop.tick(11..16);
        shop.archived();
    });
    shop.tick(101..106);
    shop.sql("select pg_switch_wal()");
    let refused = || shop.server.log().contains("holds other WAL");
    until("its log to be refused", refused);
    shop.server.stop();
    // It waits for another try; what the server's statistics name may be older.
    let log = shop.server.data_dir().join("pg_wal");
    let waits = std::fs::read_dir(log.join("archive_status")).unwrap().filter_map(|entry| {
        let name = entry.unwrap().file_name().into_string().unwrap();
        name.strip_suffix(".ready").map(str::to_owned)
    });
    let file = log.join(waits.min().expect("a segment that was refused"));
    let told = is_told(&shop, "pushed from");
    // A catalog that is made anew keeps it, and the log that is well says nothing of it.
    let _ = shop.drctl(&["catalog", "rebuild"]).ended(0);
    assert_eq!(is_told(&shop, "pushed from"), told);
    let looked = shop.drctl(&["catalog", "forget", "shop"]).ended(0).json();
    assert_eq!((&looked["lost"], &looked["done"]), (&told, &false.into()));
    let digest = looked["digest"].as_str().unwrap();
    let _ = shop.drctl(&["catalog", "forget", "shop", "--yes", digest]).ended(0);
    let status = shop.drctl(&["status", "--check"]).ended(0).json();
    assert_eq!(status["sources"][0]["refusals"], json!([]), "{status}");
    // It is noted again when it comes again, and refused where there is no place for a note too.
    let push = || {
        let said = shop.drctl(&["wal", "push", "shop", file.to_str().unwrap()]).ended(1).out;
        assert!(said.contains("log_conflict"), "{said}");
    };
    push();
    let _ = is_told(&shop, "pushed from");
    let catalog = shop.site.path("state/catalog.db");
    std::fs::rename(&catalog, catalog.with_extension("kept")).unwrap();
    std::fs::create_dir(&catalog).unwrap();
    push();
}

/// A cluster that was set back into a segment of which a stream has stored more in pieces, up to row 15:
/// it goes on with other rows. Its segments wait, those before that one too.
fn set_back_into_streamed() -> (Archiving, Vec<PathBuf>) {
    let mut shop = Archiving::start(false);
    let mut streaming = Streaming::start(&shop, &["--interval", "1"]);
    shop.tick(1..11);
    shop.back_up();
    shipped(&shop.server);
    set_back(&mut shop, |shop| {
        shop.tick(11..16);
        shipped(&shop.server);
        streaming.kill();
    });
    let pieces = shop.pieces();
    let last = pieces.last().and_then(|path| path.file_stem()?.to_str()).unwrap();
    assert!(!last.ends_with("00000"), "it is not full: {last}");
    shop.tick(101..131);
    (shop, pieces)
}

/// Its archiver is refused, and nothing was stored.
fn is_not_pushed(shop: &Archiving, pieces: &[PathBuf]) {
    let (program, config) = (shop.program().display(), shop.site.config());
    let command = format!("{program} --config {} wal push shop %p", config.display());
    shop.sql(&format!("alter system set archive_command = '{command}'; select pg_reload_conf()"));
    until("its WAL to be refused", || shop.server.log().contains("two histories"));
    assert_eq!(shop.pieces(), pieces);
    let _ = is_told(shop, "pushed from");
}

#[test]
fn a_cluster_that_was_set_back_does_not_push_over_what_was_streamed_of_a_segment() {
    let (shop, pieces) = set_back_into_streamed();
    for from in [131, 136, 141] {
        shop.sql("select pg_switch_wal()");
        shop.tick(from..from + 5);
    }
    is_not_pushed(&shop, &pieces);
    let (ran, _folder, path) = shop.recover(&["--to-end", "--promote"]);
    let _ = ran.ended(0);
    assert_eq!(ticks(&path), list(1..16));
}

#[test]
fn a_cluster_that_was_set_back_and_promoted_does_not_push_over_what_was_streamed() {
    let (mut shop, pieces) = set_back_into_streamed();
    shop.sql("alter system set restore_command = 'false'");
    shop.server.crash();
    std::fs::write(shop.server.data_dir().join("recovery.signal"), "").unwrap();
    shop.server.start_again();
    let promoted = "select not pg_is_in_recovery()";
    until("it to be promoted", || shop.sql(promoted) == "t");
    shop.tick(131..136);
    shop.sql("select pg_switch_wal()");
    is_not_pushed(&shop, &pieces);
}
