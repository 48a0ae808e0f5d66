//! Settings that the source's host could take and this one cannot: they stop no recovery, they stay, and
//! they are named.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::cluster::{Cluster, Ends, as_owner, list, own_place, recovery, ticks};
use crate::hostile::asked;

/// What depends on the host; of all else that is no text a value is set that no server takes.
const OF_HOSTS: &[(&str, &str)] = &[
    ("lc_messages", "xx_XX.UTF-8"),
    ("lc_monetary", "xx_XX.UTF-8"),
    ("lc_numeric", "xx_XX.UTF-8"),
    ("lc_time", "xx_XX.UTF-8"),
    ("timezone", "Mars/Phobos"),
    ("log_timezone", "Mars/Phobos"),
    ("timezone_abbreviations", "Nowhere"),
    ("max_stack_depth", "1GB"),
    ("min_dynamic_shared_memory", "1000TB"),
    ("max_pred_locks_per_transaction", "2000000000"),
    ("ssl", "on"),
    ("ssl_cert_file", "/nowhere/server.crt"),
    ("unix_socket_directories", "/nowhere/run"),
    ("listen_addresses", "203.0.113.9"),
    ("wal_sync_method", "fsync_writethrough"),
    ("shared_preload_libraries", "no_such_library"),
    ("setting_of_a_later_version", "on"),
];

/// What drctl sets in a restored cluster, whatever its source had.
fn is_ours(name: &str) -> bool {
    ["archive_mode", "hot_standby", "max_logical_replication_workers"].contains(&name)
        || name.starts_with("recovery_")
}

/// Writes them into the files of a cluster, whose server does not read them; gives the names of those
/// with which none starts, and what `postgresql.auto.conf` holds then.
///
/// # Panics
/// If it cannot be done.
#[must_use]
pub fn written(shop: &impl Cluster) -> (BTreeSet<String>, String) {
    let of_conf = "checkpoint_timeout";
    let known = shop.sql(&format!(
        "select name from pg_settings where context <> 'internal' and vartype <> 'string' and \
         name <> '{of_conf}' order by 1"
    ));
    let is_ofhosts = |name: &&str| OF_HOSTS.iter().any(|(known, _)| known == name);
    let known = known.lines().filter(|name| !is_ofhosts(name)).map(|name| (name, "of no type"));
    let all: Vec<(&str, &str)> = known.chain(OF_HOSTS.iter().copied()).collect();
    assert!(all.len() > 250, "{all:?}");
    let data = shop.server().data_dir();
    let append = |name: &str, lines: &str| {
        let file = data.join(name);
        let text = fs::read_to_string(&file).unwrap() + lines;
        fs::write(file, &text).unwrap();
        text
    };
    let line = |(name, value): &(&str, &str)| format!("{name} = '{value}'\n");
    let lines: String = all.iter().map(line).collect();
    let auto = append("postgresql.auto.conf", &format!("{lines}shop.colour = 'blue'\n"));
    append("postgresql.conf", &format!("{of_conf} = 1s\ninclude 'gone.conf'\n"));
    let names = all.iter().map(|(name, _)| name.to_ascii_lowercase());
    let names = names.filter(|name| !is_ours(name) && name != "ssl_cert_file");
    let names = names.chain([of_conf, "include"].map(str::to_owned));
    (names.collect(), auto)
}

/// Asserts that a cluster's own files are as the source has them, but for what a restore adds and drops.
#[track_caller]
pub fn are_its_own(shop: &impl Cluster, path: &Path, auto: &str) {
    let read = |path: &Path| fs::read_to_string(path).unwrap();
    let data = path.join("data");
    let conf = read(&shop.server().data_dir().join("postgresql.conf"));
    assert_eq!(read(&data.join("postgresql.conf")), conf);
    let stays =
        |line: &&str| !line.starts_with("recovery_") && !line.starts_with("archive_command");
    let kept: String = auto.lines().filter(stays).map(|line| format!("{line}\n")).collect();
    let restored = read(&data.join("postgresql.auto.conf"));
    // pgBackRest says of what it takes out that it did, and has set what drctl sets again.
    let by_pgbackrest = |line: &&str| line.starts_with("# ") && line.contains("pgBackRest");
    let own = restored.split("# Written by drctl").next().unwrap_or_default();
    let own = own.lines().filter(|line| !by_pgbackrest(line)).map(|line| format!("{line}\n"));
    assert_eq!(own.collect::<String>(), kept);
    for name in ["postgresql.conf", "postgresql.auto.conf"] {
        assert!(!path.join(format!("{name}.source")).exists(), "{name}");
    }
}

/// Asserts that these and no others are named, each where it stands.
#[track_caller]
fn are_named(told: &Value, names: &BTreeSet<String>) {
    let unfit = told["unfit_settings"].as_array().expect("a list");
    let mut found = BTreeSet::new();
    for one in unfit {
        let name = one["name"].as_str().expect("a name");
        let text = fs::read_to_string(one["file"].as_str().expect("a file")).unwrap();
        let line = text.lines().nth(usize::try_from(one["line"].as_u64().unwrap()).unwrap() - 1);
        let line = line.expect("a line").to_ascii_lowercase();
        assert!(line.starts_with(name), "{one}: {line}");
        assert!(one["why"].as_str().is_some_and(|why| !why.is_empty()), "{one}");
        found.insert(name.to_owned());
    }
    assert_eq!(&found, names);
}

/// Asserts that no setting of the source that this host cannot take stops a recovery: it goes through,
/// whatever is chosen, the settings stay, and are named. The cluster has no backup yet.
///
/// # Panics
/// If one does.
pub fn stop_no_recovery(shop: &impl Cluster) {
    let (names, auto) = written(shop);
    shop.back_up();
    shop.segments_of_ten(2);
    let (folder, path) = own_place();
    let last = shop.committed(20);
    let target = ["--to-time", &last];
    let restore = recovery(shop, &target, &path);
    let ran = restore(&[]);
    assert!(ran.err.contains("the recovery does without a setting"), "{}", ran.err);
    are_named(&ran.ended(0).json(), &names);
    are_its_own(shop, &path, &auto);
    let table = "postgres:public.ticks";
    let done = restore(&["--resume", "--extract", table]).ended(0).json();
    assert_eq!(done["extracted"][0]["rows"], 20, "{done}");
    are_its_own(shop, &path, &auto);
    let open = restore(&["--resume", "--open"]).ended(0).json();
    let ends = Ends(path.clone());
    for (name, value) in [("lc_time", "C"), ("checkpoint_timeout", "5min"), ("shop.colour", "blue")]
    {
        assert_eq!(
            asked(shop, &open, &format!("show {name}")).ended(0).out.trim(),
            value,
            "{name}"
        );
    }
    let done = restore(&["--resume", "--promote"]).ended(0).json();
    drop(ends);
    are_its_own(shop, &path, &auto);
    are_named(&done, &names);
    // As told: no server starts with them, and one does as soon as these lines are gone.
    let mut by_hand = as_owner(shop.server().bin_dir().join("postgres"));
    let said = by_hand.arg("-D").arg(path.join("data")).output().unwrap();
    assert_eq!(said.status.code(), Some(1), "{}", String::from_utf8_lossy(&said.stderr));
    for name in ["postgresql.conf", "postgresql.auto.conf"] {
        let file = path.join("data").join(name);
        let told = done["unfit_settings"].as_array().unwrap().iter();
        let here = told.filter(|one| one["file"].as_str() == file.to_str());
        let gone: BTreeSet<u64> = here.map(|one| one["line"].as_u64().unwrap()).collect();
        let text = fs::read_to_string(&file).unwrap();
        let stays = (1..).zip(text.lines()).filter(|(at, _)| !gone.contains(at));
        fs::write(&file, stays.map(|(_, line)| format!("{line}\n")).collect::<String>()).unwrap();
    }
    assert_eq!(ticks(&path), list(1..21));
    drop(folder);
}
