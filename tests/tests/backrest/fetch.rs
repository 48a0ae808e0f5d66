//! `restore_command` out of pgBackRest's archive: 0 delivered, 1 proven to be absent, 255 everything
//! else. PostgreSQL takes any code from 1 to 125 for the end of the log.

use std::fs;

use drctl_tests::cluster::{Cluster as _, give_away, open_folder};

use crate::common::Shop;

/// A server with three segments behind its backup, and where files are fetched to.
struct Fetching {
    shop: Shop,
    names: Vec<String>,
    folder: tempfile::TempDir,
    system_id: String,
}

impl Fetching {
    fn start(global: &[&str]) -> Self {
        let shop = Shop::with(global);
        let _ = shop.back_up();
        let names = shop.segments_of_ten(3);
        let folder = open_folder("drctl-fetched-");
        give_away(folder.path());
        let system_id = shop.sql("select system_identifier from pg_control_system()");
        Fetching { shop, names, folder, system_id }
    }

    /// The exit code for a name, with what a plan expects.
    fn fetch(&self, name: &str, expected: &[&str]) -> Option<i32> {
        let to = self.folder.path().join("RECOVERYXLOG");
        let _ = fs::remove_file(&to);
        let text = to.display().to_string();
        let mut arguments = vec!["wal", "fetch", "shop", name, &text];
        arguments.extend(["--system-id", &self.system_id, "--segment-bytes", "1048576"]);
        for range in expected {
            arguments.extend(["--expect", range]);
        }
        let code = self.shop.drctl(&arguments).code;
        // Whole, or not at all.
        let there = fs::metadata(&to).map(|file| file.len()).ok();
        assert_eq!(there.is_some(), code == Some(0), "{name}: {there:?}");
        assert!(!name.ends_with('F') || there.is_none_or(|length| length == 1 << 20));
        code
    }
}

#[test]
fn only_what_is_absent_with_nothing_behind_it_is_the_end_of_the_log() {
    let of = Fetching::start(&[]);
    let (shop, names) = (&of.shop, &of.names);
    for name in names {
        assert_eq!(of.fetch(name, &[]), Some(0), "{name}");
    }
    assert_eq!(of.fetch("0000000100000FFF000000FF", &[]), Some(1));
    assert_eq!(of.fetch("00000009.history", &[]), Some(1));
    assert_eq!(of.fetch("nonsense", &[]), Some(255));
    // A plan needs it: then its absence is a gap, whatever follows.
    let start = "1:FFF/0FF00000-FFF/0FF00010";
    assert_eq!(of.fetch("0000000100000FFF000000FF", &[start]), Some(255));
    // pgBackRest itself says of all that follows no more than that it is missing, or an error that
    // PostgreSQL takes for the end.
    let segment = shop.segment(&names[1]);
    let hidden = shop.path("hidden");
    fs::rename(&segment, &hidden).unwrap();
    assert_eq!(of.fetch(&names[1], &[]), Some(255));
    assert_eq!(of.fetch(&names[1], &[start]), Some(1), "no plan needs it");
    fs::rename(&hidden, &segment).unwrap();
    assert_eq!(of.fetch(&names[1], &[]), Some(0));
    fs::copy(&segment, segment.with_file_name(format!("{}-{}.gz", names[1], "ab".repeat(20))))
        .unwrap();
    assert_eq!(of.fetch(&names[1], &[]), Some(255), "a split brain");
    let (repo, away) = (shop.path("repo"), shop.path("away"));
    fs::rename(&repo, &away).unwrap();
    assert_eq!(of.fetch(&names[2], &[]), Some(255), "the repository is away");
    assert_eq!(of.fetch("0000000100000FFF000000FF", &[]), Some(255));
    assert_eq!(of.fetch("00000009.history", &[]), Some(255));
}

#[test]
fn damage_and_a_wrong_passphrase_are_no_end_of_the_log() {
    let cipher = ["repo1-cipher-type=aes-256-cbc", "repo1-cipher-pass=right"];
    let of = Fetching::start(&[&cipher[..], &["compress-type=none"]].concat());
    assert_eq!(of.fetch(&of.names[0], &[]), Some(0));
    let conf = of.shop.path("pgbackrest.conf");
    let good = fs::read_to_string(&conf).unwrap();
    fs::write(&conf, good.replace("cipher-pass=right", "cipher-pass=wrong")).unwrap();
    assert_eq!(of.fetch(&of.names[0], &[]), Some(255));
    assert_eq!(of.fetch("0000000100000FFF000000FF", &[]), Some(255));
    fs::write(&conf, good).unwrap();
    // Neither compressed nor authenticated: pgBackRest delivers it.
    let segment = of.shop.segment(&of.names[1]);
    let mut bytes = fs::read(&segment).unwrap();
    bytes[40_000] ^= 1;
    fs::write(&segment, bytes).unwrap();
    let to = of.shop.path("delivered").display().to_string();
    let _ = of.shop.pgbackrest(&["archive-get", &of.names[1], &to]).ended(0);
    assert_eq!(of.fetch(&of.names[1], &[]), Some(255));
}
