use std::collections::BTreeSet;
use std::time::Duration;

use drctl_model::{Lsn, TimelineHistory};

use super::*;
use crate::recovery::tests::{at, base, history, id as base_id, piece};
use crate::recovery::{Base, Piece, Target, plan};

/// The base backups, by number, that stay for a window which begins at `begin`; the newest backup, a
/// dump's by nature, is later than all.
fn leading_to(
    begin: i64,
    bases: &[Base],
    pieces: &[Piece],
    histories: &[TimelineHistory],
) -> Vec<u64> {
    let cluster = Archive::new(bases.to_vec(), pieces.to_vec(), Vec::new(), histories.to_vec());
    let clusters = [&cluster];
    let candidates: Vec<Candidate> = bases
        .iter()
        .map(|base| Candidate {
            backup: base.backup.clone(),
            counts: base.good,
            ..candidate(0, base.stood.told())
        })
        .collect();
    let newest = candidate(0, at(10_000));
    let newest = Candidate { backup: base_id(999), ..newest };
    let candidates = [vec![newest], candidates].concat();
    let within = Duration::from_secs(u64::try_from(10_000 - begin).unwrap());
    let policy = RetentionPolicy { within: Some(within), ..OFF };
    let holdings =
        Holdings { candidates: &candidates, clusters: &clusters, blocked: None, now: at(10_000) };
    let verdicts = decide(&policy, &TimeZone::UTC, &holdings);
    let stays: BTreeSet<BackupId> =
        verdicts.into_iter().filter(Verdict::stays).map(|of| of.backup).collect();
    (0..100).filter(|n| stays.contains(&base_id(*n))).collect()
}

#[test]
fn the_newest_base_that_is_consistent_when_the_window_begins_leads_there() {
    let bases = [base(0, 1, 0..1, 5), base(1, 1, 10..11, 15), base(2, 1, 20..21, 25)];
    let whole = [piece(1, 0..40, Some((1, 60)))];
    assert_eq!(leading_to(30, &bases, &whole, &[]), [2]);
    assert_eq!(leading_to(20, &bases, &whole, &[]), [1, 2]);
    // The log that the newest needs to be consistent is not there.
    let holed = [piece(1, 0..20, Some((1, 24))), piece(1, 21..40, Some((26, 60)))];
    assert_eq!(leading_to(30, &bases, &holed, &[]), [1]);
    // It does not count.
    let doubted = [bases[0].clone(), bases[1].clone(), Base { good: false, ..bases[2].clone() }];
    assert!(leading_to(30, &doubted, &whole, &[]).contains(&1));
    // Nothing of the timeline is as late as the window.
    assert_eq!(leading_to(70, &bases, &whole, &[]), [0; 0]);
}

#[test]
fn a_base_that_becomes_consistent_in_the_window_stays() {
    // Its server says 18, and a commit in it is of 35: a recovery to an earlier time fails. Before it
    // log is missing, so nothing else leads behind it.
    let bases = [base(0, 1, 0..1, 5), base(1, 1, 20..24, 18)];
    let pieces = [
        piece(1, 0..10, Some((1, 9))),
        piece(1, 20..24, Some((10, 35))),
        piece(1, 24..40, Some((36, 60))),
    ];
    assert_eq!(leading_to(30, &bases, &pieces, &[]), [0, 1]);
}

#[test]
fn a_base_that_becomes_consistent_as_the_window_begins_does_not_lead_to_its_begin() {
    // Its last commit is of 40, and no log is behind it that shows that 40 is reached.
    let bases = [base(0, 1, 2..2, 20), base(1, 1, 3..5, 40)];
    let pieces = [piece(1, 0..1, Some((10, 10))), piece(1, 1..5, Some((11, 40)))];
    let plan_with = |bases: &[Base]| {
        let cluster = Archive::new(bases.to_vec(), pieces.to_vec(), Vec::new(), Vec::new());
        plan(&cluster, &Target::Time(at(40)), None).map(|plan| plan.base)
    };
    assert_eq!(plan_with(&bases).expect("a plan"), base_id(0));
    assert!(plan_with(&bases[1..]).is_err());
    assert_eq!(leading_to(40, &bases, &pieces, &[]), [0, 1]);
}

#[test]
fn commits_that_overtook_each_other_are_reached_from_before_them() {
    // The commit of 33 lies before the second base, and nothing behind that is later than 31: to 32
    // only the first one leads.
    let bases = [base(0, 1, 0..1, 5), base(1, 1, 20..21, 25)];
    let pieces = [
        piece(1, 0..10, Some((1, 20))),
        piece(1, 10..20, Some((21, 33))),
        piece(1, 20..40, Some((26, 31))),
    ];
    assert_eq!(leading_to(30, &bases, &pieces, &[]), [0, 1]);
}

#[test]
fn a_timeline_that_was_left_long_ago_keeps_nothing() {
    let bases = [base(0, 1, 0..1, 5), base(1, 2, 12..13, 25)];
    let pieces = [
        piece(1, 0..30, Some((1, 20))),
        piece(2, 10..20, Some((21, 29))),
        piece(2, 20..40, Some((30, 60))),
    ];
    let histories = [history(2, &[(1, 10)])];
    assert_eq!(leading_to(30, &bases, &pieces, &histories), [1]);
    // Both lived into the window.
    let pieces = [
        piece(1, 0..30, Some((1, 50))),
        piece(2, 10..20, Some((21, 29))),
        piece(2, 20..40, Some((30, 60))),
    ];
    assert_eq!(leading_to(30, &bases, &pieces, &histories), [0, 1]);
    // The new one has no base from before the window: the old one's leads to it.
    let bases = [base(0, 1, 0..1, 5), base(1, 2, 12..13, 55)];
    assert_eq!(leading_to(30, &bases, &pieces, &histories), [0, 1]);
}

/// From where on the log of each timeline stays, in words.
fn log(
    bases: &[Base],
    pieces: &[Piece],
    histories: &[TimelineHistory],
    stay: &[u64],
) -> Vec<String> {
    let archive = Archive::new(bases.to_vec(), pieces.to_vec(), Vec::new(), histories.to_vec());
    let stays = |backup: &BackupId| stay.iter().any(|n| base_id(*n) == *backup);
    let word = |of: LineageLog| {
        let from = match of.from {
            Some(StaysFrom::Base { at: Lsn(at), .. }) => format!("from {at}"),
            Some(StaysFrom::Ancestor(_)) => "all, by an ancestor".to_owned(),
            Some(StaysFrom::NoBase) => "all, young".to_owned(),
            None => "goes".to_owned(),
        };
        format!("{}: {from}", of.lineage.id())
    };
    log_of(&archive, stays).into_iter().map(word).collect()
}

#[test]
fn log_goes_up_to_the_oldest_base_that_stays() {
    let bases = [base(0, 1, 0..1, 5), base(1, 1, 10..11, 15), base(2, 2, 32..33, 45)];
    let pieces = [piece(1, 0..30, Some((1, 40))), piece(2, 30..50, Some((41, 60)))];
    let histories = [history(2, &[(1, 30)])];
    let of = |stay: &[u64]| log(&bases, &pieces, &histories, stay);
    assert_eq!(of(&[0, 1, 2]), ["1: from 0", "2: all, by an ancestor"]);
    assert_eq!(of(&[1, 2]), ["1: from 10", "2: all, by an ancestor"]);
    assert_eq!(of(&[2]), ["1: goes", "2: from 32"]);
    // No base backup stays, and none may have been there: nothing goes.
    assert_eq!(of(&[]), ["1: all, young", "2: all, young"]);
    // One that ends right where its timeline was left leads to the next one.
    let last = [base(0, 1, 30..30, 40), base(1, 2, 40..41, 50)];
    assert_eq!(log(&last, &pieces, &histories, &[0, 1])[1], "2: all, by an ancestor");
    // One that begins before its own timeline does needs log of the one before.
    let early = [base(0, 2, 25..33, 45)];
    assert_eq!(log(&early, &pieces, &histories, &[0]), ["1: from 25", "2: from 25"]);
    // A timeline to which nothing leads yet, while it is as young as what stays.
    let pieces = [piece(1, 0..30, Some((1, 40))), piece(3, 0..9, Some((12, 16)))];
    let bases = [base(0, 1, 0..1, 5), base(1, 1, 10..11, 17)];
    assert_eq!(log(&bases, &pieces, &[], &[0, 1])[1], "3: all, young");
    assert_eq!(log(&bases, &pieces, &[], &[1])[1], "3: goes");
}
