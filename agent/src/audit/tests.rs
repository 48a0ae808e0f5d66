//! The log as it lies on a disk, written by many and by some that are killed.

use std::fs;
use std::path::Path;
use std::thread;

use drctl_model::{AuditBatch, Header, NO_ENTRY, RepositoryId};
use drctl_store::{SigningKey, VerifyingKey};
use jiff::Timestamp;

use super::bucket::{Part, Parts, Signed};
use super::chain::{At, BreakKind, Link, Walked, walk};
use super::*;

fn walked(state: &Path) -> Walked {
    walk(&fs::read(state.join("audit.log")).unwrap(), At::begin())
}

#[test]
fn two_hundred_writers_make_one_chain() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path();
    thread::scope(|scope| {
        for _ in 0..200 {
            scope.spawn(|| {
                let log = Log::at(state, 1);
                log.record(&Act::new("backup").of("shop"), AuditOutcome::Begun).unwrap();
            });
        }
    });
    let found = walked(state);
    assert_eq!(found.broken, None);
    assert!(!found.unfinished && found.healed.is_empty());
    assert_eq!(found.links.len(), 201, "and the first one, which begins the log");
}

#[test]
fn a_line_that_was_cut_is_healed_and_told_and_nothing_else_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let (state, log) = (folder.path(), Log::at(folder.path(), 1));
    let note = || log.note(&Act::new("backup"), AuditOutcome::Begun);
    note();
    note();
    let path = state.join("audit.log");
    let whole = fs::read(&path).unwrap();
    // Wherever it is cut, also in what heals.
    for length in [whole.len() - 1, whole.len() - 2, whole.len() - 60, 5] {
        fs::write(&path, &whole[..length]).unwrap();
        note();
        let healed = fs::read(&path).unwrap();
        assert!(healed.starts_with(&whole[..length]), "nothing is taken away");
        let found = walked(state);
        assert_eq!(found.broken, None, "{length}");
        let is_whole = length == whole.len() - 1;
        assert_eq!(found.healed.len(), usize::from(!is_whole), "{length}");
        fs::write(&path, &healed[..healed.len() - 30]).unwrap();
        note();
        assert_eq!(walked(state).broken, None, "{length}, twice");
    }
}

#[test]
fn another_configuration_is_told_once() {
    let folder = tempfile::tempdir().unwrap();
    for config in [1, 1, 2, 2, 2] {
        Log::at(folder.path(), config).note_configuration();
        Log::at(folder.path(), config).note(&Act::new("backup"), AuditOutcome::Begun);
    }
    let verbs: Vec<String> =
        walked(folder.path()).links.into_iter().map(|link| link.entry.verb).collect();
    assert_eq!(verbs, ["audit", "backup", "backup", "configuration", "backup", "backup", "backup"]);
}

#[test]
fn a_long_entry_is_shortened_and_never_breaks_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let log = Log::at(folder.path(), 1);
    let mut act = Act::new("restore").object("\u{1}".repeat(10_000));
    (0..100).for_each(|n| act.put(&format!("what-{n}"), &"\u{202e}".repeat(10_000)));
    log.record(&act, AuditOutcome::Begun).unwrap();
    log.record(&Act::new("backup"), AuditOutcome::Begun).unwrap();
    let found = walked(folder.path());
    assert_eq!((found.broken, found.links.len()), (None, 3));
}

#[test]
fn what_cannot_be_logged_is_an_error_for_who_must_and_a_word_for_others() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("audit.log")).unwrap();
    let log = Log::at(folder.path(), 1);
    log.note(&Act::new("restore"), AuditOutcome::Begun);
    let error = log.record(&Act::new("prune"), AuditOutcome::Begun).unwrap_err();
    assert_eq!(Failure::of(&error).code, "not_logged");
    // Nothing that lies in its place is written into, or waited for.
    let (there, other) = (folder.path().join("audit.log"), folder.path().join("other"));
    fs::remove_dir(&there).unwrap();
    fs::write(&other, "").unwrap();
    let fifo = |path: &Path| {
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    };
    let symlink = |path: &Path| std::os::unix::fs::symlink(&other, path).unwrap();
    let hardlink = |path: &Path| fs::hard_link(&other, path).unwrap();
    for make in [&fifo as &dyn Fn(&Path), &symlink, &hardlink] {
        make(&there);
        assert!(log.record(&Act::new("prune"), AuditOutcome::Begun).is_err());
        fs::remove_file(&there).unwrap();
    }
    assert_eq!(fs::read(&other).unwrap(), b"");
    let nowhere = Log::at(&folder.path().join("nowhere"), 1);
    assert!(nowhere.record(&Act::new("prune"), AuditOutcome::Begun).is_err());
    nowhere.note(&Act::new("restore"), AuditOutcome::Begun);
    assert!(!folder.path().join("nowhere").exists());
}

#[test]
fn what_is_dropped_before_its_end_is_told_as_interrupted() {
    let folder = tempfile::tempdir().unwrap();
    let log = Log::at(folder.path(), 1);
    drop(Logged { log, act: Act::new("restore"), ended: false });
    let last = walked(folder.path()).links.pop().unwrap().entry;
    assert_eq!((last.verb.as_str(), last.outcome), ("restore", AuditOutcome::Failed));
    assert_eq!(last.details["code"], "interrupted");
    assert_eq!(BreakKind::Cut.as_str(), "cut");
}

/// Entries as a part that a key has signed.
fn part(links: &[Link], key: &VerifyingKey) -> Part {
    let (first, last) = (&links[0].entry, &links[links.len() - 1]);
    let batch = AuditBatch {
        header: Header::new([]),
        repository: RepositoryId::new(7),
        log: first.log.clone(),
        host: "db1".to_owned(),
        first: first.seq,
        last: last.entry.seq,
        prev: first.prev,
        head: last.sha256,
        entries: links.iter().map(|link| link.line.clone()).collect(),
        at: Timestamp::UNIX_EPOCH,
    };
    (batch, key.clone())
}

/// The entries of a log that has ten, and those of one that has the first two in common with it.
fn two_logs() -> (Vec<Link>, Vec<Link>) {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path();
    let write = |verb: &str, many: usize| {
        (0..many).for_each(|_| Log::at(state, 1).note(&Act::new(verb), AuditOutcome::Begun));
        walked(state).links
    };
    let common = write("backup", 1).len();
    let text = fs::read(state.join("audit.log")).unwrap();
    let other = write("nothing", 8);
    fs::write(state.join("audit.log"), text).unwrap();
    let good = write("backup", 8);
    assert_eq!((common, good.len(), other.len()), (2, 10, 10));
    (good, other)
}

#[test]
fn what_others_put_among_the_parts_takes_no_place_and_hides_nothing() {
    let (good, forged) = two_logs();
    let [ours, next, other] = [0; 3].map(|_| SigningKey::generate().verifying_key());
    let found = |good: Vec<(u64, Part)>, refused: &[u64]| {
        let refused = refused.iter().map(|number| (*number, "why".to_owned())).collect();
        let signed = Signed::of(Parts { good, refused });
        let broken = signed.broken.as_ref().map(|found| (found.seq, found.kind));
        (signed.links.len(), broken, signed.strangers.len())
    };
    let whole = || vec![(1, part(&good[..4], &ours)), (5, part(&good[4..], &ours))];
    assert_eq!(found(whole(), &[]), (10, None, 0));
    // What nobody whom we trust has signed: told, and no more, where the chain goes on or has long ended.
    let beside = || vec![(2, part(&good[..4], &ours)), (6, part(&good[4..], &ours))];
    assert_eq!(found(beside(), &[1, 5]), (10, None, 2));
    assert_eq!(found(whole(), &[999_999_999_999]), (10, None, 1));
    // Where the next part belongs it may stand for one that is gone.
    let end = Some((11, BreakKind::Signature));
    assert_eq!(found(whole(), &[11]), (10, end, 0));
    let only = || vec![(5, part(&good[4..], &ours))];
    assert_eq!(found(only(), &[1]), (0, Some((1, BreakKind::Signature)), 0));
    assert_eq!(found(only(), &[]), (0, Some((1, BreakKind::Removed)), 0));
    let more = |mut all: Vec<(u64, Part)>, number: u64, part: Part| {
        all.push((number, part));
        found(all, &[])
    };
    // The same once more is nothing.
    assert_eq!(more(whole(), 3, part(&good[2..4], &ours)), (10, None, 0));
    // Two processes of a host shipped at once: their parts overlap, and say the same.
    let overlapping = || vec![(1, part(&good[..6], &ours)), (4, part(&good[3..8], &ours))];
    assert_eq!(found(overlapping(), &[]), (8, None, 0));
    assert_eq!(more(overlapping(), 9, part(&good[8..], &ours)), (10, None, 0));
    assert_eq!(more(overlapping(), 7, part(&good[6..], &ours)), (10, None, 0));
    // What says another thing where they overlap, or is of another key, goes nowhere.
    let begin = || vec![(1, part(&good[..6], &ours))];
    let mixed = [&good[1..4], &forged_from(&good, &forged, 4)].concat();
    assert_eq!(more(begin(), 2, part(&mixed, &ours)), (6, Some((5, BreakKind::Fork)), 0));
    let foreign = part(&good[3..8], &other);
    assert_eq!(more(begin(), 4, foreign), (6, Some((7, BreakKind::Fork)), 0));
    let mut untied = part(&good[3..8], &ours);
    untied.0.prev = good[7].sha256;
    assert_eq!(more(begin(), 4, untied), (6, Some((7, BreakKind::Fork)), 0));
    // Another key takes no place of a host that goes on, whichever number it took first.
    let forks = Some((5, BreakKind::Fork));
    assert_eq!(
        found(
            vec![
                (1, part(&good[..4], &ours)),
                (5, part(&forged_from(&good, &forged, 4), &other)),
                (6, part(&good[4..], &ours))
            ],
            &[]
        ),
        (10, forks, 0)
    );
    // It may go on, though: a host has a new key.
    let renewed = vec![(1, part(&good[..4], &ours)), (5, part(&good[4..], &next))];
    assert_eq!(found(renewed, &[]), (10, None, 0));
    // What follows nothing.
    let far = part(&good[6..], &other);
    assert_eq!(
        found(vec![(1, part(&good[..4], &ours)), (7, far)], &[]),
        (4, Some((5, BreakKind::Removed)), 0)
    );
    let none = Signed::of(Parts::default());
    assert!(none.links.is_empty() && none.broken.is_none());
    assert_ne!(good[0].sha256, NO_ENTRY);
}

/// Entries that follow the first of a log, and are not its own.
fn forged_from(good: &[Link], forged: &[Link], from: usize) -> Vec<Link> {
    let mut prev = good[from - 1].sha256;
    let each = forged[from..].iter().map(|link| {
        let mut entry = link.entry.clone();
        entry.prev = prev;
        let line = serde_json::to_string(&entry).unwrap();
        let link = Link::read(line.as_bytes(), 0).unwrap();
        prev = link.sha256;
        link
    });
    each.collect()
}

#[test]
fn names_make_no_lines_and_the_file_is_for_this_account_alone() {
    let folder = tempfile::tempdir().unwrap();
    let log = Log::at(folder.path(), 1);
    let name = "shop\n{\"v\":1,\"seq\":9}\n\u{1b}[2K";
    let act = Act::new(name).of(name).object(name).with("to", name);
    log.record(&act, AuditOutcome::Begun).unwrap();
    let path = folder.path().join("audit.log");
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(!text.contains('\u{1b}') && !text.contains("u001b"), "{text}");
    assert_eq!(walked(folder.path()).broken, None);
    let mode = std::os::unix::fs::MetadataExt::mode(&path.metadata().unwrap());
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn all_that_goes_is_named_in_as_many_entries_as_that_takes() {
    let folder = tempfile::tempdir().unwrap();
    let log = Log::at(folder.path(), 1);
    let all: Vec<String> = (0..450).map(|n| format!("20260301T000000Z-{n:016x}")).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    log.record_all(&Act::new("prune"), ("going", &all)).unwrap();
    log.record_all(&Act::new("prune"), ("going", &[])).unwrap();
    let found = walked(folder.path());
    assert_eq!(found.broken, None);
    let told: Vec<&str> = found
        .links
        .iter()
        .filter_map(|link| link.entry.details.get("going"))
        .flat_map(|some| some.split(' '))
        .collect();
    assert_eq!(told[..450], all[..]);
    assert_eq!(found.links.len(), 1 + 3 + 1);
}
