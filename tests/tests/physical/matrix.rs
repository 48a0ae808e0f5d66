//! Every kind of object of a cluster's log, and all that can happen to one.

use std::fs;
use std::path::PathBuf;

use drctl_model::{
    FORMAT_VERSION, IndexPlace, IndexedPiece, LogIndex, LogPart, LogPiece, LogPlace, RepositoryId,
    SourceId, Timeline,
};
use drctl_store::{
    Recipients, SigningKey, Trust, decode_piece_head, digest, encode_log_index, encode_piece,
    layout, seal_bytes,
};
use drctl_tests::cluster::{Cluster as _, give_away, own_place};
use drctl_tests::damage::{Subject, documented, matrix};
use jiff::Timestamp;

use crate::log::several;

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
        let place = LogPlace { system_id: self.system_id, timeline, part: LogPart::History };
        let before = timeline.id() - 1;
        let plain = format!("{before}\t0/500000\tno recovery target specified\n").into_bytes();
        (place.clone(), self.piece(place, &plain))
    }

    fn piece(&self, place: LogPlace, plain: &[u8]) -> Vec<u8> {
        let sealed = seal_bytes(plain, 1, &self.recipients).unwrap();
        let piece = LogPiece {
            v: FORMAT_VERSION,
            min_reader: FORMAT_VERSION,
            features: Vec::new(),
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

    /// An index over pieces that follow each other.
    fn index(&self, pieces: &[LogPiece]) -> (IndexPlace, Vec<u8>) {
        let indexed = |piece: &LogPiece| {
            let LogPart::Range { start, end } = piece.place.part else { panic!("a range") };
            let LogPiece { plain_sha256, sealed, sealed_sha256, holds, .. } = piece.clone();
            IndexedPiece { start, end, plain_sha256, sealed, sealed_sha256, holds }
        };
        let pieces: Vec<IndexedPiece> = pieces.iter().map(indexed).collect();
        let place = IndexPlace {
            system_id: self.system_id,
            timeline: Timeline::FIRST,
            start: pieces[0].start,
            end: pieces[pieces.len() - 1].end,
        };
        let index = LogIndex {
            v: FORMAT_VERSION,
            min_reader: FORMAT_VERSION,
            features: Vec::new(),
            repository: self.id.clone(),
            source: self.source.clone(),
            host: "db1".to_owned(),
            written: Timestamp::UNIX_EPOCH,
            place,
            pieces,
        };
        (place, encode_log_index(&index, &self.key).unwrap())
    }
}

#[test]
fn every_damage_of_every_object_of_the_log_is_found() {
    let (shop, _) = several();
    let config = shop.drctl(&["config", "show"]).ended(0).json()["config"].clone();
    let texts = config["keys"]["recipients"].as_array().unwrap().clone();
    let recipients = || Recipients::parse(texts.iter().filter_map(|text| text.as_str())).unwrap();
    let key = fs::read_to_string(shop.site.path("etc/keys/signing.key")).unwrap();
    let pen = |key: SigningKey| Pen {
        key,
        recipients: recipients(),
        id: config["repository"]["id"].as_str().unwrap().parse().unwrap(),
        source: "shop".parse().unwrap(),
        system_id: shop.sql("select system_identifier from pg_control_system()").parse().unwrap(),
    };
    let (ours, stranger) = (pen(key.trim().parse().unwrap()), pen(SigningKey::generate()));
    let at = |key: &str| shop.site.path("repository").join(key);
    let put = |key: String, bytes: &[u8]| -> PathBuf {
        let path = at(&key);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        give_away(path.parent().unwrap());
        path
    };
    // Three whole segments behind the copy, read back as they were signed.
    let files = shop.pieces();
    let files = &files[files.len() - 3..];
    let trust = Trust::new(vec![ours.key.verifying_key()]);
    let head = |path: &PathBuf| -> LogPiece {
        let key = path.strip_prefix(shop.site.path("repository")).unwrap().display().to_string();
        let (source, place) = layout::piece_at(&drctl_store::Key::from(key)).unwrap();
        let bytes = fs::read(path).unwrap();
        decode_piece_head(&bytes, &trust, &ours.id, &source, &place).unwrap().0
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
    let (_folder, to) = own_place();
    let system_id = ours.system_id.to_string();
    let fetch = |file: &str| -> Vec<String> {
        let (to, leg) = (to.display().to_string(), format!("1:{start}-{end}"));
        let words = ["wal", "fetch", "shop", file, &to, "--system-id", &system_id];
        let more = ["--segment-bytes", "1048576", "--expect", &leg];
        words.iter().chain(&more).map(|word| (*word).to_owned()).collect()
    };
    let subject = |kind, path: &PathBuf, sibling: &PathBuf, strange, file: &str| Subject {
        kind,
        path: path.clone(),
        sibling: sibling.clone(),
        older: sibling.clone(),
        strange,
        restore: fetch(file),
    };
    let strange = stranger.piece(heads[1].place.clone(), &vec![9; 1 << 20]);
    let subjects = [
        subject("piece of log", &files[1], &files[2], strange, &name),
        subject("history", &history, &other_history, stranger.history(2).1, "00000002.history"),
        subject("index", &index, &other_index, stranger.index(&heads).1, &name),
    ];
    let verify = || shop.drctl(&["verify", "shop", "--data"]).code != Some(0);
    let restore = |arguments: &[String]| {
        let _ = fs::remove_file(&to);
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let ran = shop.drctl(&words);
        match ran.code {
            Some(0) => Ok(fs::read(&to).unwrap()),
            // A history that is not there is told by the code alone.
            code => Err(format!("{code:?} {}", ran.err)),
        }
    };
    let table = matrix(&subjects, verify, restore);
    assert_eq!(table, documented(&subjects), "seen, and documented in docs/stores.md");
}
