//! Every kind of object of a cluster's log, and all that can happen to one.

use std::fs;
use std::path::{Path, PathBuf};

use drctl_model::{
    BackupId, Drill, DrillId, DrillOutcome, Header, IndexPlace, IndexedPiece, Lineage, LogAt,
    LogFloor, LogIndex, LogPart, LogPiece, LogPlace, Lsn, RepositoryId, SourceId, Timeline, WAL,
};
use drctl_store::{
    Recipients, SigningKey, Trust, decode_signed_head, digest, encode_drill, encode_log_floor,
    encode_log_index, encode_piece, layout, seal_bytes,
};
use drctl_tests::cluster::{Cluster as _, give_away, own_place};
use drctl_tests::damage::{Cell, Commands, Subject, documented, is_missed, matrix, replace};
use jiff::Timestamp;

use crate::log::{Archiving, several};

/// What signs log of a site, or in a stranger's name.
struct Pen {
    key: SigningKey,
    recipients: Recipients,
    id: RepositoryId,
    source: SourceId,
    system_id: u64,
}

impl Pen {
    fn history(&self, timeline: u32) -> (LogPlace, Vec<u8>) {
        let timeline = Timeline::new(timeline).unwrap();
        let place = LogPlace::of_history((self.system_id, timeline));
        let before = timeline.id() - 1;
        let plain = format!("{before}\t0/500000\tno recovery target specified\n").into_bytes();
        (place.clone(), self.piece(place, &plain))
    }

    fn piece(&self, place: LogPlace, plain: &[u8]) -> Vec<u8> {
        let sealed = seal_bytes(plain, 1, &self.recipients).unwrap();
        let piece = LogPiece {
            header: Header::new([WAL]),
            repository: self.id.clone(),
            source: self.source.clone(),
            host: "db1".to_owned(),
            written: Timestamp::UNIX_EPOCH,
            place,
            plain: plain.len() as u64,
            plain_sha256: digest(plain),
            sealed: sealed.len() as u64,
            sealed_sha256: digest(&sealed),
            holds: drctl_model::Holds::default(),
        };
        encode_piece(&piece, &sealed, &self.key)
    }

    fn drill(&self, n: u64) -> (DrillId, Vec<u8>) {
        let drill = Drill {
            header: Header::new([]),
            repository: self.id.clone(),
            source: self.source.clone(),
            drill: DrillId::new(Timestamp::UNIX_EPOCH, n),
            host: "db1".to_owned(),
            started: Timestamp::UNIX_EPOCH,
            took_ms: n,
            system_id: Some(self.system_id),
            timeline: Some(Timeline::FIRST),
            base: Some(BackupId::new(Timestamp::UNIX_EPOCH, 1)),
            newest: None,
            target: "the end of the log".to_owned(),
            outcome: DrillOutcome::Failed { error: "mismatch".to_owned() },
            run: None,
        };
        (drill.drill.clone(), encode_drill(&drill, &self.key).unwrap())
    }

    /// That the log was removed up to before the base backup.
    fn floor(&self, before: LogAt) -> (String, Vec<u8>) {
        let floor = LogFloor {
            header: Header::new([]),
            repository: self.id.clone(),
            source: self.source.clone(),
            lineage: Lineage::of_timeline(self.system_id, Timeline::FIRST),
            before,
            host: "db1".to_owned(),
            removed: Timestamp::UNIX_EPOCH,
        };
        let key = layout::log_floor(&self.source, &floor.lineage, before).to_string();
        (key, encode_log_floor(&floor, &self.key).unwrap())
    }

    /// An index over pieces that follow each other.
    fn index(&self, pieces: &[LogPiece]) -> (IndexPlace, Vec<u8>) {
        let indexed = |piece: &LogPiece| {
            let LogPart::Range { start, end } = piece.place.part else { panic!("a range") };
            let LogPiece { plain_sha256, sealed, sealed_sha256, holds, .. } = piece.clone();
            IndexedPiece { start, end, plain_sha256, sealed, sealed_sha256, head: None, holds }
        };
        let pieces: Vec<IndexedPiece> = pieces.iter().map(indexed).collect();
        let place = IndexPlace {
            lineage: Lineage::of_timeline(self.system_id, Timeline::FIRST),
            start: pieces[0].start,
            end: pieces[pieces.len() - 1].end,
        };
        let index = LogIndex {
            header: Header::new([WAL]),
            repository: self.id.clone(),
            source: self.source.clone(),
            host: "db1".to_owned(),
            written: Timestamp::UNIX_EPOCH,
            place: place.clone(),
            pieces,
        };
        (place, encode_log_index(&index, &self.key).unwrap())
    }
}

/// The files of a copied cluster, in order.
fn extracted(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(extracted(&path));
        } else if path.components().any(|part| part.as_os_str() == "base") {
            all.push((path.clone(), digest(&fs::read(path).unwrap()).0.to_vec()));
        }
    }
    all.sort();
    all
}

/// The site's own pen, and a stranger's.
fn pens(shop: &Archiving) -> (Pen, Pen) {
    let config = shop.drctl(&["config", "show"]).ended(0).json()["config"].clone();
    let texts = config["keys"]["recipients"].as_array().unwrap().clone();
    let recipients = || Recipients::parse(texts.iter().filter_map(|text| text.as_str())).unwrap();
    let key = shop.site.signing_key();
    let pen = |key: SigningKey| Pen {
        key,
        recipients: recipients(),
        id: config["repository"]["id"].as_str().unwrap().parse().unwrap(),
        source: "shop".parse().unwrap(),
        system_id: shop.sql("select system_identifier from pg_control_system()").parse().unwrap(),
    };
    (pen(key), pen(SigningKey::generate()))
}

/// Puts an object into the site's repository.
fn put(shop: &Archiving, key: &str, bytes: &[u8]) -> PathBuf {
    let path = shop.site.path("repository").join(key);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, bytes).unwrap();
    give_away(path.parent().unwrap());
    path
}

/// The command that delivers a file of the log.
fn fetch(file: &str, to: &Path, system_id: u64, leg: &str) -> Vec<String> {
    let (to, id) = (to.display().to_string(), system_id.to_string());
    let words = ["wal", "fetch", "shop", file, &to, "--system-id", &id];
    let more = ["--segment-bytes", "1048576", "--expect", leg];
    words.iter().chain(&more).map(|word| (*word).to_owned()).collect()
}

/// One object of each kind, planted where a cluster has none, with what is put in its place.
fn subjects(shop: &Archiving, (ours, stranger): (&Pen, &Pen), to: &Path) -> Vec<Subject> {
    let put = |key: String, bytes: &[u8]| put(shop, &key, bytes);
    // Three whole segments behind the base backup, read back as they were signed.
    let files = shop.pieces();
    let files = &files[files.len() - 3..];
    let trust = Trust::new(vec![ours.key.verifying_key()]);
    let head = |path: &PathBuf| -> LogPiece {
        let key = path.strip_prefix(shop.site.path("repository")).unwrap().display().to_string();
        let (source, place) = layout::piece_at(&drctl_store::Key::from(key)).unwrap();
        let bytes = fs::read(path).unwrap();
        decode_signed_head(&bytes, &trust, &ours.id, &source, &place).unwrap().0
    };
    let heads: Vec<LogPiece> = files.iter().map(head).collect();
    let source = &ours.source;
    let history = |n: u32| {
        let (place, bytes) = ours.history(n);
        put(layout::piece(source, &place).to_string(), &bytes)
    };
    let (history, other_history) = (history(2), history(3));
    let index = |pieces: &[LogPiece]| {
        let (place, bytes) = ours.index(pieces);
        put(layout::log_index(source, &place).to_string(), &bytes)
    };
    let (index, other_index) = (index(&heads), index(&heads[1..]));
    let LogPart::Range { start, end } = heads[1].place.part else { panic!("a range") };
    let name = format!("00000001{:08X}{:08X}", start.0 >> 32, (start.0 >> 20) & 0xfff);
    let drill = |n: u64| {
        let (id, bytes) = ours.drill(n);
        put(layout::drill(source, &id).to_string(), &bytes)
    };
    let (drill, other_drill) = (drill(1), drill(2));
    let floor = |before: LogAt| {
        let (key, bytes) = ours.floor(before);
        put(key, &bytes)
    };
    let (below, above) = (LogAt(1 << 20), LogAt(2 << 20));
    let (floor, other_floor) = (floor(below), floor(above));
    let segment = |n: u64| {
        let base = shop.site.manifests().pop().unwrap();
        let file = base.with_file_name(format!("base/{n:06}.zst.age"));
        shop.site.path("repository").join(file)
    };
    let (segment, other_segment) = (segment(0), segment(1));
    let leg = format!("1:{}-{}", Lsn::from(start), Lsn::from(end));
    let subject = |kind, path: &PathBuf, sibling: &PathBuf, strange, file: &str| Subject {
        kind,
        path: path.clone(),
        sibling: sibling.clone(),
        older: sibling.clone(),
        strange,
        restore: fetch(file, to, ours.system_id, &leg),
    };
    let into = to.display().to_string();
    let copy = ["restore", "shop", "--latest", "--to-directory", &into].map(str::to_owned);
    let strange_segment: Vec<u8> = fs::read(&segment).unwrap().into_iter().rev().collect();
    let strange = stranger.piece(heads[1].place.clone(), &vec![9; 1 << 20]);
    vec![
        subject("piece of WAL", &files[1], &files[2], strange, &name),
        subject("history", &history, &other_history, stranger.history(2).1, "00000002.history"),
        subject("index", &index, &other_index, stranger.index(&heads).1, &name),
        subject("log floor", &floor, &other_floor, stranger.floor(below).1, &name),
        subject("drill", &drill, &other_drill, stranger.drill(1).1, &name),
        Subject {
            restore: copy.to_vec(),
            ..subject("segment of a base backup", &segment, &other_segment, strange_segment, &name)
        },
    ]
}

#[test]
fn every_damage_of_every_object_of_the_log_is_found() {
    let (shop, _) = several();
    let (ours, stranger) = pens(&shop);
    let (_folder, to) = own_place();
    let subjects = subjects(&shop, (&ours, &stranger), &to);
    let cell = Cell::default();
    let run = |words: &[&str]| cell.run(shop.command(&[&["--json"], words].concat()));
    let verify = || !run(&["verify", "shop", "--data"]).ended_well_or(&[4]);
    let check = || !run(&["catalog", "check"]).ended_well_or(&[3, 4]);
    let restore = |arguments: &[String]| {
        let _ = fs::remove_file(&to);
        let _ = fs::remove_dir_all(&to);
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let ran = run(&words);
        match ran.code {
            Some(0) if to.is_dir() => Ok(extracted(&to)),
            Some(0) => Ok(vec![(to.clone(), fs::read(&to).unwrap())]),
            // A history that is not there is told by the code alone.
            code => Err(format!("{code:?} {}", ran.err)),
        }
    };
    let status = || {
        let ran = run(&["status", "--check"]);
        format!("{:?} {}", ran.code, ran.json()["sources"][0]["findings"])
    };
    let prune = || {
        let planned = run(&["prune", "shop"]).ended(0).json()["sources"][0].clone();
        let backups = planned["backups"].as_array().unwrap().iter();
        let backups =
            backups.filter(|one| one["goes"] == true).map(|one| one["backup"].to_string());
        let log = planned["log"].as_array().unwrap().iter().map(|one| one["before"].to_string());
        backups.chain(log.filter(|before| before != "null")).collect()
    };
    let (state, saved) = (shop.site.path("state"), shop.site.path("saved"));
    let _ = status();
    replace(&saved, &state);
    let commands = Commands {
        cell: &cell,
        status: &status,
        prune: &prune,
        check: &check,
        verify: &verify,
        restore: &restore,
        forget: &|| replace(&state, &saved),
    };
    let table = matrix(&subjects, &commands);
    assert_eq!(table, documented(&subjects), "seen, and documented in docs/stores.md");
}

#[test]
fn what_is_signed_beside_the_log_is_missed_by_whoever_has_read_it() {
    let (shop, _) = several();
    let (ours, stranger) = pens(&shop);
    let (_folder, to) = own_place();
    let mut subjects = subjects(&shop, (&ours, &stranger), &to);
    subjects.retain(|one| ["history", "index", "log floor", "drill"].contains(&one.kind));
    assert_eq!(subjects.len(), 4);
    let _ = shop.drctl(&["status"]).ended(0);
    for Subject { path, .. } in &subjects {
        let key = path.strip_prefix(shop.site.path("repository")).unwrap().display().to_string();
        is_missed(path, &key, &|words| shop.drctl(words));
    }
}
