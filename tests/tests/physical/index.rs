//! What is known of the log without reading it: signed indexes, the catalog, gaps as they arise.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use drctl::{Health, Setup, SourceStatus};
use drctl_catalog::Catalog;
use drctl_model::Clock;
use drctl_tests::cluster::{Cluster as _, give_away, since};
use drctl_tests::envelope::{INDEX, opened, sealed};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::log::{Archiving, several};
use crate::objects::{documented, members};

/// Files of the repository with this ending.
fn ending(shop: &Archiving, ending: &str) -> Vec<PathBuf> {
    let mut files = shop.site.files("repository");
    files.retain(|path| path.extension().is_some_and(|found| found == ending));
    files.iter().map(|path| shop.site.path("repository").join(path)).collect()
}

/// Where a piece or an index begins and ends.
fn range(path: &Path) -> (u64, u64) {
    let name = path.file_stem().unwrap().to_str().unwrap();
    let (start, end) = name.split_once('-').unwrap();
    (u64::from_str_radix(start, 16).unwrap(), u64::from_str_radix(end, 16).unwrap())
}

fn readable(paths: &[PathBuf], readable: bool) {
    let mode = if readable { 0o644 } else { 0o000 };
    for path in paths {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
}

fn forget(shop: &Archiving) {
    for suffix in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(shop.site.path(&format!("state/catalog.db{suffix}")));
    }
}

fn timeline(shop: &Archiving, code: i32) -> Value {
    shop.drctl(&["timeline", "shop"]).ended(code).json()
}

/// Ends so many segments, each with a commit, and waits until they are archived.
fn segments(shop: &Archiving, count: u32) {
    let rows: Vec<String> = (0..count)
        .map(|n| format!("insert into orders values (1000000 + {n}, ''); select pg_switch_wal();"))
        .collect();
    shop.sql(&rows.join("\n"));
    shop.sql("delete from orders where id >= 1000000");
    shop.archived();
}

/// A cluster with a base backup and more log than a block of 64 segments, its indexes, and the
/// pieces that these cover.
fn indexed() -> (Archiving, Vec<PathBuf>, Vec<PathBuf>) {
    let shop = Archiving::start(true);
    let _ = shop.drctl(&["backup", "shop"]).ended(0);
    segments(&shop, 130);
    let indexes = ending(&shop, "index");
    let covers = |piece: &PathBuf| {
        let (start, end) = range(piece);
        indexes.iter().map(|index| range(index)).any(|(from, until)| from <= start && end <= until)
    };
    let pieces: Vec<PathBuf> = shop.pieces().into_iter().filter(covers).collect();
    assert!(indexes.len() >= 2 && pieces.len() >= 65, "{indexes:?} {}", pieces.len());
    (shop, indexes, pieces)
}

#[test]
fn an_index_stands_for_the_heads_of_its_pieces_and_for_nothing_else() {
    let (shop, indexes, pieces) = indexed();
    let all = timeline(&shop, 0);
    forget(&shop);
    // Nobody has to open a piece that an index tells of.
    readable(&pieces, false);
    assert_eq!(timeline(&shop, 0), all);
    let away = shop.site.path("away");
    fs::rename(&indexes[0], &away).unwrap();
    let ran = shop.drctl(&["timeline", "shop"]);
    // Without the index heads are read.
    let _ = ran.failed(8, "store_denied");
    fs::rename(&away, &indexes[0]).unwrap();
    readable(&pieces, true);
    // One that is damaged, or somebody else's, or of another place, is passed over.
    let good = fs::read(&indexes[0]).unwrap();
    let mut damaged = good.clone();
    let middle = damaged.len() / 2;
    damaged[middle] = if damaged[middle] == b'A' { b'B' } else { b'A' };
    for bytes in [damaged, fs::read(&indexes[1]).unwrap(), b"{}".to_vec()] {
        fs::write(&indexes[0], bytes).unwrap();
        let ran = shop.drctl(&["timeline", "shop"]).ended(0);
        assert_eq!(ran.json(), all);
        assert!(ran.err.contains("is passed over"), "{}", ran.err);
    }
    fs::write(&indexes[0], good).unwrap();
    // One that is a single byte longer than is signed is told, however often it is looked at.
    let piece = &pieces[pieces.len() / 3];
    let own = fs::read(piece).unwrap();
    fs::write(piece, [own.as_slice(), b"x"].concat()).unwrap();
    for anew in [false, true, false] {
        if anew {
            let _ = shop.drctl(&["catalog", "rebuild"]);
        }
        let view = timeline(&shop, 3);
        assert!(view["refused"].to_string().contains("is cut, or too long"), "{view}");
    }
    // Where an index tells of it somebody else's object is none of ours, whatever its length.
    let strange = vec![b'x'; own.len() + 1];
    fs::write(piece, strange).unwrap();
    forget(&shop);
    let view = timeline(&shop, 3);
    assert_eq!(view["timelines"][0]["gaps"].as_array().map(Vec::len), Some(1), "{view}");
    fs::write(piece, own).unwrap();
    assert_eq!(timeline(&shop, 0), all);
    // A piece that was removed is a gap, whatever the index says of it.
    let piece = &pieces[pieces.len() / 2];
    fs::remove_file(piece).unwrap();
    let view = timeline(&shop, 3);
    let gaps = view["timelines"][0]["gaps"].as_array().unwrap();
    assert_eq!(gaps.len(), 1, "{view}");
    let (start, _) = range(piece);
    let from = drctl_model::Lsn(start).to_string();
    assert_eq!(gaps[0]["from"], from.as_str(), "{view}");
    // Nor is it the end of the log where the newest pieces are gone.
    let last = &indexes[indexes.len() - 1];
    for path in ending(&shop, "log").iter().filter(|path| range(path).1 >= range(last).1) {
        fs::remove_file(path).unwrap();
    }
    let view = timeline(&shop, 3);
    let gap = &view["timelines"][0]["gaps"][1];
    let until = drctl_model::Lsn(range(last).1).to_string();
    assert_eq!(gap["until"], until.as_str(), "{view}");
    for (verb, field) in [(["verify", "shop"], "logs"), (["catalog", "check"], "gaps")] {
        let told = shop.drctl(&verb).ended(4).json();
        assert!(told[field].to_string().contains(&format!("to {until}")), "{told}");
    }
}

#[test]
fn the_catalog_knows_the_log_and_deleting_it_changes_nothing_but_time() {
    let (shop, indexes, pieces) = indexed();
    let all = timeline(&shop, 0);
    for index in &indexes {
        fs::remove_file(index).unwrap();
    }
    let every = shop.pieces();
    readable(&every, false);
    let without = timeline(&shop, 3);
    assert_eq!(without["timelines"], all["timelines"], "from the catalog");
    assert_eq!(without["lost"].as_array().map(Vec::len), Some(indexes.len()), "{without}");
    let kept = fs::read(shop.site.path("state/catalog.db")).unwrap();
    forget(&shop);
    // It was read from the catalog.
    let _ = shop.drctl(&["timeline", "shop"]).failed(8, "store_denied");
    readable(&every, true);
    assert_eq!(timeline(&shop, 0), all, "from the bucket");
    // An old catalog that comes back is as good, but for the indexes that it knew.
    fs::write(shop.site.path("state/catalog.db"), kept).unwrap();
    give(&shop);
    assert_eq!(timeline(&shop, 3), without);
    let asked = shop.drctl(&["catalog", "forget", "shop"]).ended(0).json();
    let yes = format!("--yes={}", asked["digest"].as_str().unwrap());
    let _ = shop.drctl(&["catalog", "forget", "shop", &yes]).ended(0);
    assert_eq!(timeline(&shop, 0), all);
    let checked = shop.drctl(&["catalog", "check"]).ended(0).json();
    assert_eq!(checked["log_missing_in_bucket"], 0, "{checked}");
    // What vanished from the bucket is lost: the catalog says so before it forgets it.
    fs::remove_file(&pieces[7]).unwrap();
    let checked = shop.drctl(&["catalog", "check"]).ended(4).json();
    assert_eq!(checked["log_missing_in_bucket"], 1, "{checked}");
    let holed = timeline(&shop, 3);
    assert_eq!(holed["timelines"][0]["gaps"].as_array().map(Vec::len), Some(1), "{holed}");
    let checked = shop.drctl(&["catalog", "check"]).ended(4).json();
    assert_eq!(checked["log_missing_in_bucket"], 0, "{checked}");
    assert_eq!(checked["lost"], holed["lost"], "it remembers that it was there: {checked}");
    let renewed = shop.drctl(&["catalog", "rebuild"]).ended(0).json();
    assert_eq!(renewed["log_pieces"].as_u64(), Some(every.len() as u64 - 1), "{renewed}");
    readable(&shop.pieces(), false);
    assert_eq!(timeline(&shop, 3), holed, "the rebuilt catalog knows it");
    readable(&shop.pieces(), true);
    // Indexes of old log are made when somebody asks.
    let made = shop.drctl(&["wal", "index", "shop"]).ended(0).json();
    assert_eq!(members(&[&made], &["schema"]), documented("drctl.wal-index/1"));
    assert!(made["written"].as_u64() >= Some(2), "{made}");
    let again = shop.drctl(&["wal", "index", "shop"]).ended(0).json();
    assert_eq!(again["written"], 0, "{again}");
    forget(&shop);
    assert_eq!(timeline(&shop, 3)["timelines"], holed["timelines"]);
}

fn give(shop: &Archiving) {
    give_away(&shop.site.path("state"));
}

#[test]
fn a_gap_is_found_when_it_arises() {
    let (shop, last) = several();
    assert!(!shop.server.log().contains("GAP in the WAL"), "{}", shop.server.log());
    let log = shop.drctl(&["status", "--check"]).ended(0).json()["sources"][0]["log"].clone();
    assert_eq!(
        members(&[&log], &[]),
        [
            "age_seconds",
            "doubts",
            "end",
            "gaps",
            "last_commit",
            "newer",
            "refused",
            "timeline",
            "unknown"
        ]
    );
    assert_eq!((&log["timeline"], &log["unknown"]), (&1.into(), &Value::Null), "{log}");
    assert_eq!(log["last_commit"], last.as_str(), "{log}");
    let end = shop.pieces().last().map(|piece| range(piece).1).unwrap();
    assert_eq!(log["end"], drctl_model::Lsn(end).to_string(), "{log}");
    // Somebody loses the newest piece. What comes next is stored, and the server's log tells.
    fs::remove_file(shop.pieces().last().unwrap()).unwrap();
    shop.tick(41..51);
    shop.archived();
    assert!(shop.server.log().contains("GAP in the WAL of timeline 1"), "{}", shop.server.log());
    let asked = Timestamp::now();
    let ran = shop.drctl(&["status", "--check"]).ended(3).json();
    let source = &ran["sources"][0];
    let told = source["findings"].to_string();
    assert!(told.contains("is missing from") && told.contains("`drctl backup shop`"), "{ran}");
    assert_eq!(source["log"]["gaps"].as_array().map(Vec::len), Some(1), "{ran}");
    // The push came upon it before: its time is told.
    let gap = shop.told("log_gap");
    assert!(gap.len() == 1 && since(&gap[0]) < asked, "{ran}");
    // The bar: a base backup, what can be reached, the gap, and what leads nowhere.
    let text = shop.command(&["timeline", "shop"]).output().unwrap().stdout;
    let text = String::from_utf8(text).unwrap();
    let bar = text.lines().find(|line| line.starts_with("timeline 1  ")).unwrap();
    assert!(bar.contains("-B=") && bar.contains("=!") && bar.ends_with('-'), "{text}");
    assert!(bar.len() <= 80, "{text}");
    assert!(text.contains(" UTC") && text.contains("! GAP") && text.contains("\nGAP "), "{text}");
    let _ = shop.drctl(&["backup", "shop"]).ended(0);
    // A later backup makes up for the gap; what vanished is told until somebody has explained it.
    let _ = shop.drctl(&["status", "--check"]).ended(3);
    let looked = shop.drctl(&["catalog", "forget", "shop"]).ended(0).json();
    let yes = ["catalog", "forget", "shop", "--yes", looked["digest"].as_str().unwrap()];
    let _ = shop.drctl(&yes).ended(0);
    let healed = shop.drctl(&["status", "--check"]).ended(0).json();
    assert_eq!(healed["sources"][0]["log"]["gaps"], serde_json::json!([]), "{healed}");
    assert_eq!(shop.told("log_gap"), [Value::Null; 0], "it is made up for");
}

/// A clock that stands still.
struct Stopped(Timestamp);

impl Clock for Stopped {
    fn now(&self) -> Timestamp {
        self.0
    }
}

/// What `status` says at a moment.
fn status_at(shop: &Archiving, at: Timestamp) -> (Health, String, SourceStatus) {
    let look = async {
        let mut setup = Setup::load(&shop.site.config()).unwrap();
        setup.clock = Arc::new(Stopped(at));
        let catalog = Catalog::open_read_only(&setup.catalog_path()).await.unwrap();
        drctl::status(&setup, &catalog).await.unwrap().remove(0)
    };
    let one = tokio::runtime::Runtime::new().unwrap().block_on(look);
    let worst = one.findings().into_iter().next();
    let (health, advice) =
        worst.map_or((Health::Good, String::new()), |worst| (worst.health, worst.text));
    (health, advice, one)
}

#[test]
fn status_goes_by_the_last_commit_in_the_bucket() {
    let (shop, last) = several();
    let policy = shop.site.path("etc/policies.d/daily.toml");
    let text = fs::read_to_string(&policy).unwrap();
    let line = text.lines().find(|line| line.starts_with("rpo = ")).unwrap();
    fs::write(&policy, text.replace(line, "rpo = \"1h\"")).unwrap();
    let last: Timestamp = last.parse().unwrap();
    let later = |minutes: i64| last + SignedDuration::from_mins(minutes);
    let (health, advice, one) = status_at(&shop, later(59));
    assert_eq!((health, advice.as_str()), (Health::Good, ""));
    let log = one.log.unwrap().unwrap();
    assert_eq!((log.recoverable_until.shows, log.age), (last, SignedDuration::from_mins(59)));
    // The base backup is older than that by now, and would be too old alone.
    let (health, advice, one) = status_at(&shop, later(61));
    assert_eq!(health, Health::Breached);
    assert!(advice.contains("the last commit in the bucket is older than the RPO"), "{advice}");
    assert!(one.age.unwrap() > SignedDuration::from_mins(61));
    // A bucket that cannot be reached makes the log unknown, and the base backups count alone.
    fs::rename(shop.site.path("repository"), shop.site.path("elsewhere")).unwrap();
    let (health, advice, one) = status_at(&shop, later(1));
    assert_eq!(health, Health::Attention);
    assert!(advice.contains("the WAL cannot be checked") && one.log.unwrap().is_err(), "{advice}");
}

/// Puts an index beside untouched pieces, signed by the host's own key, that tells other times of all
/// commits than their heads do.
fn lying(shop: &Archiving) -> PathBuf {
    let pieces = shop.pieces();
    let mut entries = Vec::new();
    let mut like = Value::Null;
    for piece in &pieces {
        let bytes = fs::read(piece).unwrap();
        let at = bytes.iter().position(|byte| *byte == b'\n').unwrap();
        let mut head = opened(&bytes[..at]);
        let told = ["start", "end", "plain_sha256", "sealed", "sealed_sha256"];
        let mut entry: serde_json::Map<String, Value> =
            told.iter().map(|name| ((*name).to_owned(), head[*name].clone())).collect();
        let mut holds = head["holds"].take();
        holds["commits"] = json!(["2020-01-01T00:00:00Z", "2020-01-01T00:00:00Z"]);
        entry.insert("holds".to_owned(), holds);
        entry.insert("head".to_owned(), json!(at + 1));
        entries.push(Value::Object(entry));
        like = head;
    }
    let same = ["v", "min_reader", "reader", "features", "repository", "source", "host", "written"];
    let mut index: serde_json::Map<String, Value> =
        same.iter().map(|name| ((*name).to_owned(), like[*name].clone())).collect();
    index.insert("lineage".to_owned(), like["lineage"].clone());
    index.insert("start".to_owned(), entries[0]["start"].clone());
    index.insert("end".to_owned(), entries[entries.len() - 1]["end"].clone());
    index.insert("pieces".to_owned(), Value::Array(entries));
    let key = shop.site.signing_key();
    let bytes = sealed(INDEX, &serde_json::to_vec(&index).unwrap(), &key);
    let (start, end) = (range(&pieces[0]).0, range(&pieces[pieces.len() - 1]).1);
    let path = pieces[0].with_file_name(format!("{start:016x}-{end:016x}.index"));
    fs::write(&path, bytes).unwrap();
    give_away(&path);
    path
}

#[test]
fn an_index_that_contradicts_the_signed_heads_is_named_and_used_no_more() {
    let (shop, _) = several();
    let all = timeline(&shop, 0);
    let index = lying(&shop);
    forget(&shop);
    let _ = shop.drctl(&["catalog", "rebuild"]).ended(0);
    // A host that was not there before has no reason to doubt it, until it looks.
    let believed = timeline(&shop, 0).to_string();
    assert!(believed.contains("2020-01-01"), "{believed}");
    let verified = shop.drctl(&["verify", "shop"]).ended(4).json();
    let problems = verified["logs"][0]["problems"].as_array().unwrap();
    assert_eq!((problems.len(), &problems[0]["code"]), (1, &json!("index_contradicts")));
    let said = problems[0]["message"].as_str().unwrap();
    let name = index.file_name().unwrap().to_str().unwrap();
    assert!(said.contains(name) && said.contains("has signed it"), "{said}");
    // From now on this host plans by the heads, and says so for as long as the index is there.
    assert_eq!(timeline(&shop, 0), all);
    let told = || {
        let status = shop.drctl(&["status"]).ended(0).json();
        let found = status["sources"][0]["findings"].as_array().unwrap().clone();
        found.into_iter().find(|one| one["code"] == "object_meddled")
    };
    let alarm = told().expect("an alarm");
    assert!(alarm["subject"].as_str().unwrap().ends_with(name), "{alarm}");
    shop.back_up();
    assert!(told().is_some(), "a backup does not settle it");
    let _ = shop.drctl(&["catalog", "rebuild"]).ended(0);
    let view = timeline(&shop, 0).to_string();
    assert!(!view.contains("2020-01-01") && told().is_some(), "{view}");
    let _ = shop.drctl(&["catalog", "check"]).ended(4);
    fs::remove_file(&index).unwrap();
    let _ = shop.drctl(&["verify", "shop"]).ended(0);
    assert!(told().is_none());
}

#[test]
fn a_piece_of_another_length_is_told_by_verify_and_catalog_check() {
    let (shop, _) = several();
    let piece = shop.pieces().pop().unwrap();
    let own = fs::read(&piece).unwrap();
    for bytes in [own[..own.len() - 100].to_vec(), [own.as_slice(), &[0; 100]].concat()] {
        fs::write(&piece, bytes).unwrap();
        let check = shop.drctl(&["catalog", "check"]).ended(3).json();
        let told = check["log_refused"][0].as_str().unwrap();
        assert!(told.contains("is cut, or too long"), "{check}");
        let verified = shop.drctl(&["verify", "shop"]).ended(4).json();
        let problem = &verified["logs"][0]["problems"][0];
        assert_eq!(problem["code"], "segment_damaged", "{verified}");
        assert!(
            problem["message"].as_str().unwrap().contains("its signed length is"),
            "{verified}"
        );
        fs::write(&piece, &own).unwrap();
        let _ = shop.drctl(&["verify", "shop"]).ended(0);
        let _ = shop.drctl(&["catalog", "check"]).ended(0);
    }
}
