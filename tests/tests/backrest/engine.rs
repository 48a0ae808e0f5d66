//! The engine against the real pgBackRest: what it makes, lists and restores.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use drctl_engines::Secret;
use drctl_engines::backrest::{BackRest, BackedUp, BackupStep, Got, SegmentName, Version, Walk};
use drctl_engines::pg::physical::Layout;
use drctl_engines::pg::wal::WalWalker;
use drctl_model::{ExternalType, Lsn, WalSegmentSize};
use drctl_tests::cluster::{Cluster as _, give_away, open_folder};
use tempfile::TempDir;

use crate::common::{STANZA, Shop, walk};

/// The engine's handle on the stanza of a [`Shop`], and the script that it starts instead of
/// pgBackRest, which runs that as the server's account.
pub(crate) struct Engine {
    pub(crate) rest: BackRest,
    folder: TempDir,
}

/// The directory of the server's account.
const OWN: &str = "own";

impl Engine {
    pub(crate) fn of(shop: &Shop) -> Engine {
        let folder = open_folder("drctl-engine-");
        let script = folder.path().join("pgbackrest");
        let account = match rustix::process::geteuid().is_root() {
            true => "setpriv --reuid=postgres --regid=postgres --clear-groups --",
            false => "",
        };
        fs::write(&script, format!("#!/bin/sh\nexec {account} pgbackrest \"$@\"\n")).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        // What is run lies where nobody else can change it.
        let own = folder.path().join(OWN);
        fs::create_dir(&own).unwrap();
        give_away(&own);
        let mut rest = BackRest::new(STANZA);
        rest.program = script;
        rest.config = Some(shop.path("pgbackrest.conf"));
        Engine { rest, folder }
    }

    /// A path that the server's account can write to.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(OWN).join(name)
    }

    /// A backup that must succeed.
    pub(crate) async fn back_up(&self, kind: ExternalType, id: &str) -> BackedUp {
        self.rest.back_up(kind, id, Duration::ZERO, |_| {}).await.unwrap()
    }

    /// The walk over the current cluster's log.
    pub(crate) async fn walk(&self) -> Walk {
        let id = self.rest.info().await.unwrap().current().unwrap().id;
        let listing = self.rest.listing().await.unwrap();
        Walk::over(listing.of(id).unwrap(), one_mib()).unwrap()
    }

    /// New directories to restore a backup into, which the server's account can write to: in the
    /// product it is the account that makes them.
    pub(crate) fn layout(&self, name: &str, tablespaces: &[u32]) -> Layout {
        let layout = Layout::new(&self.path(name));
        fs::create_dir_all(layout.data()).unwrap();
        for oid in tablespaces {
            fs::create_dir_all(layout.tablespace(*oid)).unwrap();
        }
        give_away(&self.path(name));
        layout
    }
}

/// The size of a segment of a [`Shop`].
pub(crate) fn one_mib() -> WalSegmentSize {
    WalSegmentSize::new(1 << 20).unwrap()
}

/// A backup's first and last segment.
pub(crate) fn ends(made: &BackedUp) -> (SegmentName, SegmentName) {
    let (first, last) = made.backup.wal.as_ref().unwrap();
    (SegmentName::parse(first).unwrap(), SegmentName::parse(last).unwrap())
}

#[tokio::test]
async fn backups_are_watched_and_their_records_read_back() {
    let shop = Shop::start();
    let engine = Engine::of(&shop);
    assert!(engine.rest.version().await.unwrap() >= Version::OLDEST);
    let empty = engine.rest.info().await.unwrap();
    assert_eq!((empty.status.code, empty.backups.len(), empty.busy), (2, 0, false));
    shop.tick(1..11);

    // More than asked for where there is none to base it on.
    let steps = Mutex::new(Vec::new());
    let note = |step| steps.lock().unwrap().push(step);
    let kind = ExternalType::Incremental;
    let full = engine.rest.back_up(kind, "job-1", Duration::ZERO, note).await.unwrap();
    assert_eq!(full.backup.backup_type, ExternalType::Full);
    assert!(full.warnings.iter().any(|line| line.contains("changed to full")), "{full:?}");
    let steps = steps.into_inner().unwrap();
    let copied: Vec<u16> = steps
        .iter()
        .filter_map(|step| match step {
            BackupStep::Copied(done) => Some(*done),
            _ => None,
        })
        .collect();
    assert!(
        copied.len() > 10 && copied.is_sorted() && copied.last() == Some(&10_000),
        "{copied:?}"
    );
    assert_eq!(steps.first(), Some(&BackupStep::Begun));
    assert_eq!(steps.last(), Some(&BackupStep::Archiving));

    shop.tick(11..21);
    let differential = engine.back_up(ExternalType::Differential, "job-2").await;
    let incremental = engine.back_up(ExternalType::Incremental, "job-3").await;
    assert_eq!(differential.backup.prior.as_deref(), Some(full.backup.label.as_str()));
    assert_eq!(incremental.backup.backup_type, ExternalType::Incremental);
    assert!(incremental.backup.references.contains(&full.backup.label));
    assert!(incremental.backup.delta_bytes < full.backup.delta_bytes);
    let system = shop.sql("select system_identifier from pg_control_system()");
    assert_eq!(incremental.cluster.system_id.to_string(), system);
    assert_eq!(incremental.cipher, "none");

    let info = engine.rest.info().await.unwrap();
    let jobs: Vec<Option<&str>> = info.backups.iter().map(|b| b.annotation.as_deref()).collect();
    assert_eq!(jobs, [Some("job-1"), Some("job-2"), Some("job-3")]);
    assert_eq!(info.backups[2], incremental.backup);

    // What each needs is there, and nothing else is wrong either.
    let walk = engine.walk().await;
    for made in [&full, &differential, &incremental] {
        let (first, last) = ends(made);
        assert_eq!(walk.missing(first, last).unwrap(), []);
        let (start, stop) = made.backup.lsn.unwrap();
        assert_eq!(one_mib().start_of(start), first.start(one_mib()).unwrap());
        assert!(stop <= last.start(one_mib()).unwrap().plus(1 << 20));
    }
    assert_eq!((walk.gaps().count(), walk.doubles.len(), walk.runs.len()), (0, 0, 1));
    let verified = engine.rest.verify(None).await.unwrap();
    assert!(verified.is_good(), "{verified:?}");
    assert_eq!((verified.backups.len(), verified.archives.len()), (3, 1));
    engine.rest.check().await.unwrap();
}

#[tokio::test]
async fn what_expires_is_pgbackrests_own_choice_and_a_step_of_its_own() {
    let shop = Shop::with(&["repo1-retention-full=1"]);
    let engine = Engine::of(&shop);
    let first = engine.back_up(ExternalType::Full, "job-1").await;
    let second = engine.back_up(ExternalType::Full, "job-2").await;
    assert_eq!(engine.rest.info().await.unwrap().backups.len(), 2);
    engine.rest.expire(Duration::ZERO).await.unwrap();
    let info = engine.rest.info().await.unwrap();
    assert!(info.backup(&first.backup.label).is_none());
    assert_eq!(info.backups, [second.backup]);
}

#[tokio::test]
async fn a_segment_comes_whole_or_is_missing_also_without_the_sources_directory() {
    let mut shop = Shop::start();
    let engine = Engine::of(&shop);
    shop.tick(1..11);
    let name = shop.archived();
    let made = engine.back_up(ExternalType::Full, "job-1").await;
    let to = engine.path("segment");
    assert_eq!(engine.rest.get_segment(None, &name, &to).await.unwrap(), Got::Delivered);
    let (timeline, start) = one_mib().parse_file_name(&name).unwrap();
    let read = |path: &Path| {
        let bytes = fs::read(path).unwrap();
        assert_eq!(bytes.len(), 1 << 20);
        let mut walker = WalWalker::new(timeline, start, one_mib());
        walker.feed(&bytes).unwrap();
        walker.summary()
    };
    assert_eq!(read(&to).system_id, Some(made.cluster.system_id));

    // The source is gone, with its control file.
    shop.server.stop();
    let data = shop.server.data_dir().to_owned();
    fs::rename(data.join("global"), data.join("gone")).unwrap();
    fs::remove_file(&to).unwrap();
    let error = engine.rest.get_segment(None, &name, &to).await.unwrap_err();
    assert_eq!(error.code(), "pgbackrest_repository", "{error}");
    let cluster = Some(&made.cluster);
    assert_eq!(engine.rest.get_segment(cluster, &name, &to).await.unwrap(), Got::Delivered);
    read(&to);

    // Absent: and what is there stays as it is.
    fs::write(&to, "as it was").unwrap();
    for absent in ["0000000100000000000000F0", "00000007.history"] {
        assert_eq!(engine.rest.get_segment(cluster, absent, &to).await.unwrap(), Got::Missing);
    }
    assert_eq!(fs::read_to_string(&to).unwrap(), "as it was");
    // Of another cluster there is no log in the stanza: that is no absence.
    let mut other = made.cluster.clone();
    other.system_id += 1;
    let error = engine.rest.get_segment(Some(&other), &name, &to).await.unwrap_err();
    assert!(error.code().starts_with("pgbackrest_"), "{error}");
    assert_eq!(error.code(), "pgbackrest_repository", "{:?}", std::error::Error::source(&error));
}

#[tokio::test]
async fn a_backup_is_restored_to_new_places_alone() {
    let shop = Shop::start();
    let engine = Engine::of(&shop);
    let place = open_folder("drctl-space-");
    give_away(place.path());
    shop.sql(&format!("create tablespace fast location '{}'", place.path().display()));
    shop.sql("create table there (id int) tablespace fast; insert into there values (7)");
    let oid: u32 =
        shop.sql("select oid from pg_tablespace where spcname = 'fast'").parse().unwrap();
    // A directory of the cluster that lies elsewhere, too.
    let outside = open_folder("drctl-outside-");
    fs::write(outside.path().join("file"), "outside").unwrap();
    give_away(outside.path());
    std::os::unix::fs::symlink(outside.path(), shop.server.data_dir().join("linked")).unwrap();
    let made = engine.back_up(ExternalType::Full, "job-1").await;
    let detail = engine.rest.detail(&made.backup.label).await.unwrap();
    assert_eq!(detail.links, ["linked"]);
    assert_eq!((detail.tablespaces[0].oid, detail.tablespaces[0].name.as_str()), (oid, "fast"));
    let source = || {
        let mut files = Vec::new();
        walk(place.path(), &mut files);
        walk(outside.path(), &mut files);
        files.sort();
        files
    };
    let before = source();

    // Whatever the configuration says of restores.
    let config = shop.path("pgbackrest.conf");
    let text = fs::read_to_string(&config).unwrap();
    let traps = "delta=y\nlink-all=y\ntablespace-map=fast=/nowhere/fast\n\
                 recovery-option=restore_command=false\n";
    fs::write(&config, text.replace("[global]\n", &format!("[global]\n{traps}"))).unwrap();
    let layout = engine.layout("new", &[oid]);
    // While the stanza's lock is held.
    let lock = crate::engine_exits::hold_lock(&shop);
    engine.rest.restore(&made.backup.label, &layout).await.unwrap();
    drop(lock);
    assert_eq!(fs::read_to_string(layout.data().join("PG_VERSION")).unwrap().trim(), shop.major());
    let link = fs::read_link(layout.data().join("pg_tblspc").join(oid.to_string())).unwrap();
    assert_eq!(link, layout.tablespace(oid));
    assert!(fs::read_dir(layout.tablespace(oid)).unwrap().next().is_some());
    let linked = layout.data().join("linked");
    assert!(fs::symlink_metadata(&linked).unwrap().is_dir());
    assert_eq!(fs::read_to_string(linked.join("file")).unwrap(), "outside");
    let settings = fs::read_to_string(layout.data().join("postgresql.auto.conf")).unwrap();
    assert!(!settings.contains("restore_command"), "{settings}");
    let mut beside = fs::read_dir(engine.path("new")).unwrap().map(|e| e.unwrap().file_name());
    assert!(beside.all(|name| name == "data" || name == "tablespaces"));

    // Never into what is not empty.
    let error = engine.rest.restore(&made.backup.label, &layout).await.unwrap_err();
    assert_eq!(error.code(), "not_empty");
    let elsewhere = engine.layout("elsewhere", &[]);
    let error = engine.rest.restore("20200101-000000F", &elsewhere).await.unwrap_err();
    assert_eq!(error.code(), "pgbackrest_repository", "{error}");
    assert_eq!(source(), before);
}

#[tokio::test]
async fn the_passphrase_comes_from_drctl_alone_and_a_wrong_one_is_no_empty_repository() {
    let shop = Shop::with(&["repo1-cipher-type=aes-256-cbc", "repo1-cipher-pass=open-sesame"]);
    let mut engine = Engine::of(&shop);
    shop.tick(1..11);
    let name = shop.archived();
    // A configuration that does not have it.
    let text = fs::read_to_string(shop.path("pgbackrest.conf")).unwrap();
    let without = engine.path("without.conf");
    fs::write(&without, text.replace("repo1-cipher-pass=open-sesame\n", "")).unwrap();
    engine.rest.config = Some(without);
    let error = engine.rest.info().await.unwrap_err();
    assert_eq!(error.code(), "pgbackrest_configuration", "{error}");

    engine.rest.cipher_pass = Some(Secret::new("open-sesame"));
    let made = engine.back_up(ExternalType::Full, "job-1").await;
    assert_eq!(made.cipher, "aes-256-cbc");
    let to = engine.path("segment");
    let cluster = Some(&made.cluster);
    assert_eq!(engine.rest.get_segment(cluster, &name, &to).await.unwrap(), Got::Delivered);

    engine.rest.cipher_pass = Some(Secret::new("open-barley"));
    let error = engine.rest.info().await.unwrap_err();
    assert_eq!(error.code(), "pgbackrest_repository");
    assert!(error.hint().unwrap().contains("passphrase"), "{error}");
    let error = engine.rest.get_segment(cluster, &name, &to).await.unwrap_err();
    assert_eq!(error.code(), "pgbackrest_repository", "{error}");
    assert!(!engine.rest.verify(None).await.unwrap().is_good());
    let full = ExternalType::Full;
    let error = engine.rest.back_up(full, "job-2", Duration::ZERO, |_| {}).await.unwrap_err();
    assert_eq!(error.code(), "pgbackrest_repository", "{error}");
    let said = std::error::Error::source(&error).unwrap().to_string();
    assert!(said.chars().all(|c| c == '\n' || !c.is_control()), "{said:?}");
}

#[tokio::test]
async fn the_stanza_follows_its_cluster_only_when_told() {
    let shop = Shop::bare(&[]);
    let engine = Engine::of(&shop);
    let error = engine.rest.info().await.unwrap_err();
    assert_eq!(error.code(), "pgbackrest_repository", "{error}");
    assert!(error.hint().unwrap().contains("drctl stanza create"), "{error}");
    assert!(engine.rest.listing().await.is_err());
    engine.rest.create_stanza().await.unwrap();
    engine.rest.create_stanza().await.unwrap();
    engine.rest.upgrade_stanza().await.unwrap();
    shop.archive();
    engine.rest.check().await.unwrap();
    let first = engine.rest.info().await.unwrap().current().unwrap().clone();

    // Another cluster with the same stanza.
    let other = Shop::bare(&[&format!("repo1-path={}", shop.path("repo").display())]);
    let stranger = Engine::of(&other);
    let error = stranger.rest.create_stanza().await.unwrap_err();
    assert!(error.code().starts_with("pgbackrest_"), "{error}");
    other.archive();
    let full = ExternalType::Full;
    let error = stranger.rest.back_up(full, "job-1", Duration::ZERO, |_| {}).await.unwrap_err();
    assert!(error.hint().unwrap().contains("drctl stanza upgrade"), "{error}: {:?}", error.hint());
    stranger.rest.upgrade_stanza().await.unwrap();
    let made = stranger.back_up(ExternalType::Incremental, "job-2").await;
    assert_eq!((made.backup.backup_type, made.backup.database_id), (full, 2));
    let info = stranger.rest.info().await.unwrap();
    assert_eq!(info.cluster(1), Some(&first));
    // The log of both lies there, and each is found.
    let listing = stranger.rest.listing().await.unwrap();
    let (old, new) = (listing.of(1).unwrap(), listing.of(2).unwrap());
    let to = stranger.path("segment");
    for (cluster, archive) in [(&first, old), (info.current().unwrap(), new)] {
        let last = archive.segments.last().unwrap().name;
        let got = stranger.rest.get_segment(Some(cluster), &last.to_string(), &to).await;
        assert_eq!(got.unwrap(), Got::Delivered);
        let mut walker = WalWalker::new(last.timeline, last.start(one_mib()).unwrap(), one_mib());
        walker.feed(&fs::read(&to).unwrap()).unwrap();
        assert_eq!(walker.summary().system_id, Some(cluster.system_id));
    }
    assert_eq!(new.last_of(ends(&made).0.timeline), Some(ends(&made).1));
    assert!(made.backup.lsn.unwrap().0 > Lsn(0));
}
