//! Which log follows which, and when a base was.

use drctl_model::{
    ChangedSettings, Digest, Holds, LogEntry, ServerSettings, WalHolds, WalLevel, WalSegmentSize,
};

use super::*;

const SIZE: u64 = 1 << 20;

/// A segment whose bytes have the digest `after`, behind log with the digest `before`.
fn segment(n: u64, before: Option<u8>, after: u8, commits: (i64, i64)) -> LogEntry {
    let digest = |n| Digest([n; 32]);
    let wal = WalHolds { segment_size: WalSegmentSize::new(SIZE), ..WalHolds::default() };
    let holds = Holds {
        wal: Some(wal),
        commits: Some((at(commits.0), at(commits.1))),
        before: before.map(digest),
        ..Holds::default()
    };
    let range = (Lsn(n * SIZE), Lsn((n + 1) * SIZE));
    LogEntry::of(range, &holds).with_bytes(&holds, digest(after))
}

fn segments(n: u64, stop: u64, stopped: i64) -> Base {
    base(n, 1, n * SIZE..stop, stopped)
}

fn of(bases: Vec<Base>, entries: Vec<LogEntry>) -> Archive {
    Archive::of(bases, [(tl(1), entries)].into(), Vec::new(), Vec::new())
}

fn at_barrier(n: u64, why: Why) -> Gap {
    Gap { timeline: tl(1), from: Lsn(n * SIZE), until: None, why }
}

#[test]
fn log_follows_log_by_content_and_not_by_position_alone() {
    let first = segments(3, 3 * SIZE + 100, 15);
    let joined = |third: Option<u8>| {
        let entries = vec![
            segment(3, None, 30, (10, 19)),
            segment(4, Some(30), 40, (20, 29)),
            segment(5, third, 50, (30, 39)),
            segment(6, Some(50), 60, (40, 49)),
        ];
        of(vec![first.clone()], entries)
    };
    for same in [Some(40), None] {
        let plan = plan(&joined(same), &Target::Latest, None).unwrap();
        assert_eq!((plan.until, plan.bound), (Lsn(7 * SIZE), None), "{same:?}");
    }
    // The same positions, written by somebody else.
    let archive = joined(Some(41));
    let other = at_barrier(5, Why::OtherHistory);
    let latest = plan(&archive, &Target::Latest, None).unwrap();
    assert_eq!((latest.until, latest.bound), (Lsn(5 * SIZE), Some(Lsn(5 * SIZE))));
    assert_eq!(latest.warnings, [Warning::BehindGap(other)]);
    let refused = plan(&archive, &Target::Time(at(35)), None).unwrap_err();
    assert_eq!(refused.reason, Reason::Gap(other));
    assert!(refused.to_string().contains("another history"), "{refused}");
    assert!(plan(&archive, &Target::Time(at(25)), None).is_ok());
    assert_eq!(timeline_view(&archive)[0].gaps, [other]);
    assert_eq!(recoverable_until(&archive).unwrap().gaps, [other]);
}

#[test]
fn a_base_of_another_history_leads_nowhere_and_is_told() {
    let digest = |n| Digest([n; 32]);
    let entries = vec![
        segment(3, None, 30, (10, 19)),
        segment(4, Some(30), 40, (20, 29)),
        segment(5, Some(40), 50, (30, 39)),
    ];
    let newer = |own: u8| {
        let brings = vec![(Lsn(4 * SIZE), Lsn(5 * SIZE), digest(own))];
        Base { segments: brings, ..segments(4, 4 * SIZE + 100, 25) }
    };
    let older = segments(3, 3 * SIZE + 100, 15);
    let uses = |own| {
        let archive = of(vec![older.clone(), newer(own)], entries.clone());
        let told = timeline_view(&archive)[0].bases[1].other_history;
        let gaps = recoverable_until(&archive).unwrap().gaps;
        (plan(&archive, &Target::Latest, None).unwrap().base, told, gaps)
    };
    assert_eq!(uses(40), (id(4), false, vec![]));
    assert_eq!(uses(41), (id(3), true, vec![at_barrier(4, Why::OtherHistory)]));
}

/// The same segment of a stream that could not compare what lies before it.
fn begun(n: u64, after: u8, commits: (i64, i64)) -> LogEntry {
    let wal = WalHolds { segment_size: WalSegmentSize::new(SIZE), ..WalHolds::default() };
    let commits = Some((at(commits.0), at(commits.1)));
    let holds = Holds { wal: Some(wal), commits, unproven: true, ..Holds::default() };
    let range = (Lsn(n * SIZE), Lsn((n + 1) * SIZE));
    LogEntry::of(range, &holds).with_bytes(&holds, Digest([after; 32]))
}

#[test]
fn a_plan_across_a_place_that_nobody_compared_says_so() {
    let first = segments(3, 3 * SIZE + 100, 15);
    let entries = || {
        vec![
            segment(3, None, 30, (10, 19)),
            segment(4, Some(30), 40, (20, 29)),
            begun(5, 50, (30, 39)),
            segment(6, Some(50), 60, (40, 49)),
        ]
    };
    let place = Unproven { timeline: tl(1), lsn: Lsn(5 * SIZE), at: Some(at(29)) };
    let warned = |archive: &Archive, target: Target| plan(archive, &target, None).unwrap().warnings;
    let archive = of(vec![first.clone()], entries());
    let across = [Warning::Unproven(place)];
    // Nothing is refused, and nothing is missing.
    let latest = plan(&archive, &Target::Latest, None).unwrap();
    assert_eq!((latest.until, latest.bound), (Lsn(7 * SIZE), None));
    assert_eq!(latest.warnings, across);
    assert_eq!(warned(&archive, Target::Time(at(35))), across);
    assert_eq!(warned(&archive, up_to(5 * SIZE)), across);
    for target in [before(5 * SIZE), up_to(5 * SIZE - 1), Target::Time(at(25))] {
        assert_eq!(warned(&archive, target), []);
    }
    let told = latest.warnings[0].to_string();
    assert!(told.contains("it is not known") && told.contains("--to-lsn 0/500000"), "{told}");
    assert!(latest.digest_text().contains("it is not known"));
    let view = &timeline_view(&archive)[0];
    assert_eq!((&view.gaps[..], &view.unproven[..]), (&[][..], &[place][..]));
    let until = recoverable_until(&archive).unwrap();
    assert_eq!((&until.gaps[..], &until.doubts[..]), (&[][..], &across[..]));
    // A base that was begun behind it does not cross it, and one across it does.
    let later = || [first.clone(), segments(5, 5 * SIZE + 100, 32)].to_vec();
    let healed = of(later(), entries());
    assert_eq!(warned(&healed, Target::Latest), []);
    assert_eq!(recoverable_until(&healed).unwrap().doubts, []);
    assert_eq!(timeline_view(&healed)[0].unproven, [place]);
    let over = segments(4, 5 * SIZE + 100, 32);
    assert_eq!(warned(&of(vec![over.clone()], entries()), Target::Latest), across);
    // One that brings both segments along has seen it, where they are the same.
    let digest = |n| Digest([n; 32]);
    let brings = |own: u8| {
        let whole = |n: u64, of| (Lsn(n * SIZE), Lsn((n + 1) * SIZE), digest(of));
        Base { segments: vec![whole(4, 40), whole(5, own)], ..over.clone() }
    };
    assert_eq!(warned(&of(vec![first.clone(), brings(50)], entries()), Target::Latest), []);
    let foreign = of(vec![first.clone(), brings(51)], entries());
    assert!(warned(&foreign, Target::Latest).contains(&across[0]));
    // Another piece that begins there tells it.
    let pushed = |before| [entries(), vec![segment(5, Some(before), 50, (30, 39))]].concat();
    assert_eq!(warned(&of(vec![first.clone()], pushed(40)), Target::Latest), []);
    let other = at_barrier(5, Why::OtherHistory);
    let archive = of(vec![first.clone()], pushed(41));
    assert_eq!(warned(&archive, Target::Latest), [Warning::BehindGap(other)]);
    // Nothing is before it, or nothing is known of it: a push whose note was lost, the first of all.
    let gap = entries().into_iter().filter(|entry| entry.start != Lsn(4 * SIZE)).collect();
    assert_eq!(timeline_view(&of(vec![first.clone()], gap))[0].unproven, []);
    let mut unknown = entries();
    unknown[2] = segment(5, None, 50, (30, 39));
    assert_eq!(warned(&of(vec![first], unknown), Target::Latest), []);
}

#[test]
fn nobody_replays_across_a_stretch_that_says_too_little() {
    let settings = ServerSettings {
        max_connections: 1,
        max_worker_processes: 1,
        max_wal_senders: 0,
        max_prepared_transactions: 0,
        max_locks_per_transaction: 64,
        wal_level: WalLevel::Minimal,
    };
    let (at_it, behind) = (Lsn(4 * SIZE + 800), Lsn(4 * SIZE + 700));
    let changed = ChangedSettings { at: at_it, behind, settings };
    let wal = WalHolds { settings: vec![changed], ..WalHolds::default() };
    let holds = Holds { wal: Some(wal), ..Holds::default() };
    let range = (Lsn(4 * SIZE), Lsn(5 * SIZE));
    let told = drctl_model::NotedBreak::of(range, &holds);
    assert_eq!(told.iter().map(|one| one.at).collect::<Vec<_>>(), [behind]);
    let entries: Vec<LogEntry> =
        (3..7i64).map(|n| segment(n.cast_unsigned(), None, 1, (n * 10, n * 10 + 9))).collect();
    let build = |bases| of(bases, entries.clone()).broken_at([(tl(1), behind)]);
    let archive = build(vec![segments(3, 3 * SIZE + 100, 32)]);
    let latest = plan(&archive, &Target::Latest, None).unwrap();
    assert_eq!((latest.until, latest.bound), (behind, Some(behind)));
    let gap = Gap { timeline: tl(1), from: behind, until: None, why: Why::Minimal };
    // Also a time in the very piece in which it begins.
    for seconds in [45, 55] {
        let refused = plan(&archive, &Target::Time(at(seconds)), None).unwrap_err();
        assert_eq!(refused.reason, Reason::Gap(gap), "{seconds}");
    }
    assert!(plan(&archive, &Target::Time(at(36)), None).is_ok());
    assert_eq!(timeline_view(&archive)[0].gaps, [gap]);
    assert_eq!(recoverable_until(&archive).unwrap().gaps, [gap]);
    // A base that was taken behind it begins anew.
    let healed = build(vec![segments(3, 3 * SIZE + 100, 32), segments(5, 5 * SIZE + 100, 52)]);
    let plan = plan(&healed, &Target::Latest, None).unwrap();
    assert_eq!((plan.base, plan.until), (id(5), Lsn(7 * SIZE)));
    assert_eq!(recoverable_until(&healed).unwrap().gaps, []);
}

/// Three pieces of ten bytes, a commit each ten seconds.
fn simple() -> Vec<Piece> {
    let pieces = [(100, 10, 19), (110, 20, 29), (120, 30, 39)];
    pieces.map(|(start, first, last)| piece(1, start..start + 10, Some((first, last)))).to_vec()
}

#[test]
fn order_in_time_comes_from_positions_and_from_the_log() {
    let log = |last: Option<i64>, checkpoint| Stood::Log {
        last_commit: last.map(at),
        checkpoint: at(checkpoint),
    };
    // What serves a time of those from 110 to 115, where the log says 20 to 29 around it.
    for (what, stood, serves, not) in [
        ("its own WAL", log(Some(25), 3), 25, 24),
        ("the WAL before it", log(None, 90), 19, 18),
        ("its checkpoint", log(None, 12), 13, 12),
        ("another host's clock is not asked", Stood::Host(at(900)), 29, 28),
        ("nor one that is behind", Stood::Host(at(-900)), 29, 28),
        ("the server's clock", Stood::Server(at(26)), 26, 25),
    ] {
        let archive = Archive::new(
            vec![Base { stood, ..base(1, 1, 110..115, 0) }],
            simple(),
            Vec::new(),
            Vec::new(),
        );
        let leads = |seconds| plan(&archive, &Target::Time(at(seconds)), None).is_ok();
        assert_eq!((leads(serves), leads(not)), (true, false), "{what}");
    }
    // Whatever their clocks said: the later position is the newer base.
    let dated =
        |n, range, seconds| Base { stood: Stood::Host(at(seconds)), ..base(n, 1, range, 0) };
    let bases = vec![dated(1, 101..105, 5000), dated(2, 121..125, -5000)];
    let archive = Archive::new(bases, simple(), Vec::new(), Vec::new());
    assert_eq!(plan(&archive, &Target::Latest, None).unwrap().base, id(2));
    assert_eq!(recoverable_until(&archive).unwrap().shows, at(39));
}

#[test]
fn a_position_is_exclusive_unless_it_is_asked_for() {
    let (bases, mut pieces) = (vec![base(1, 1, 100..108, 18)], simple());
    let archive = Archive::new(bases.clone(), pieces.clone(), Vec::new(), Vec::new());
    let planned = |target| plan(&archive, &target, None);
    let one = planned(before(115)).unwrap();
    assert_eq!((one.not_before, one.until, one.stop), (Lsn(115), Lsn(120), Stop::AtTarget));
    assert_eq!((one.target.to_string().as_str(), one.warnings), ("position 0/73", vec![]));
    assert_eq!(planned(before(107)).unwrap_err().reason, planned(up_to(107)).unwrap_err().reason);
    // What begins at the end of the log is not there; all that begins before it is.
    assert!(planned(up_to(130)).is_err());
    let end = planned(before(130)).unwrap();
    assert_eq!((end.stop, end.until, end.warnings), (Stop::AtEnd, Lsn(130), vec![]));
    assert!(planned(before(131)).is_err());
    // Within a gap nothing is known.
    pieces.remove(1);
    let holed = Archive::new(bases, pieces, Vec::new(), Vec::new());
    assert!(plan(&holed, &before(110), None).is_ok() && plan(&holed, &before(115), None).is_err());
}

#[test]
fn a_transaction_in_the_last_segment_of_a_base_is_looked_for() {
    let with = |start, seconds, xids| Piece {
        xids: Some(xids),
        ..piece(1, start..start + 10, Some((seconds, seconds)))
    };
    let pieces = vec![with(100, 5, (10, 20)), with(110, 15, (21, 30))];
    let target = |xid| Target::Xid { xid, inclusive: true };
    // A standby's base ends in the midst of a segment.
    let bases = vec![base(1, 1, 100..104, 5), base(2, 1, 111..115, 15)];
    let archive = Archive::new(bases[..1].to_vec(), pieces.clone(), Vec::new(), Vec::new());
    let found = plan(&archive, &target(15), None).unwrap();
    assert_eq!((found.base, found.not_before, found.until), (id(1), Lsn(104), Lsn(110)));
    assert_eq!(found.warnings, [Warning::XidNotCertain { pieces: 1 }]);
    // Where one surely ended before it, that one.
    let both = Archive::new(bases, pieces, Vec::new(), Vec::new());
    assert_eq!(plan(&both, &target(25), None).unwrap().base, id(1));
}

#[test]
fn commits_that_another_timeline_alone_has_are_told() {
    let bases = vec![base(1, 1, 100..108, 18)];
    let pieces = vec![
        piece(1, 100..110, Some((10, 19))),
        piece(1, 110..120, Some((20, 29))),
        // The old primary went on.
        piece(1, 120..130, Some((30, 35))),
        piece(2, 110..120, Some((20, 28))),
        piece(2, 120..130, Some((50, 59))),
    ];
    let archive = Archive::new(bases, pieces, Vec::new(), vec![history(2, &[(1, 118)])]);
    let warned = |seconds| plan(&archive, &Target::Time(at(seconds)), None).unwrap().warnings;
    let left = |until| vec![Warning::LeftBehind { timeline: tl(1), until: at(until) }];
    assert_eq!(warned(33), left(33));
    assert_eq!(warned(45), left(35));
    assert_eq!((warned(25), warned(55)), (vec![], vec![]));
    let told = plan(&archive, &Target::Time(at(45)), None).unwrap().warnings[0].to_string();
    assert!(told.contains("--timeline 1"), "{told}");
}

#[test]
fn a_gap_right_before_a_branch_is_told_once() {
    let pieces = vec![piece(1, 100..110, Some((10, 19))), piece(2, 120..130, Some((30, 39)))];
    let bases = vec![base(1, 1, 100..108, 18)];
    let archive = Archive::new(bases, pieces, Vec::new(), vec![history(2, &[(1, 125)])]);
    let views = timeline_view(&archive);
    let gap = Gap { timeline: tl(1), from: Lsn(110), until: Some(Lsn(120)), why: Why::Missing };
    assert_eq!((&views[0].gaps[..], &views[1].gaps[..]), (&[][..], &[gap][..]));
}

#[test]
fn a_plan_that_needs_no_history_works_without() {
    let bases = vec![base(1, 2, 100..108, 18)];
    let pieces = vec![piece(2, 100..110, Some((10, 19))), piece(2, 110..120, Some((20, 29)))];
    let archive = Archive::new(bases, pieces, Vec::new(), Vec::new());
    let found = plan(&archive, &Target::Time(at(25)), None).unwrap();
    assert_eq!((found.base, found.timeline), (id(1), tl(2)));
    assert_eq!(found.warnings, [Warning::NoHistory(tl(2))]);
    assert!(!timeline_view(&archive)[0].known);
    assert_eq!(recoverable_until(&archive).unwrap().doubts, [Warning::NoHistory(tl(2))]);
}

#[test]
fn an_older_base_leads_there_where_a_newer_one_is_not_used() {
    let bases = || vec![base(1, 1, 100..104, 11), base(2, 1, 111..115, 25)];
    let all = || Archive::new(bases(), simple(), Vec::new(), Vec::new());
    let used = |archive: &Archive| plan(archive, &Target::Latest, None).unwrap().base;
    assert_eq!(used(&all()), id(2));
    assert_eq!((used(&all().only(&id(1))), used(&all().without(&id(2)))), (id(1), id(1)));
}

#[test]
fn what_must_have_been_there_is_missed_at_the_end_too() {
    let bases = || vec![base(1, 1, 100..108, 18)];
    let first = || vec![piece(1, 100..120, Some((10, 29)))];
    let at_end =
        |until| Gap { from: Lsn(120), until: Some(Lsn(until)), ..at_barrier(0, Why::Missing) };
    let of = |more: Vec<Piece>, histories| {
        Archive::new(bases(), first().into_iter().chain(more), Vec::new(), histories)
    };
    let told = |archive: &Archive, timeline: usize, expected: &[Gap]| {
        assert_eq!(timeline_view(archive)[timeline].gaps, expected);
        assert_eq!(recoverable_until(archive).unwrap().gaps, expected);
    };
    // The timeline was left later than its log ends, and the new one has none yet.
    told(&of(Vec::new(), vec![history(2, &[(1, 130)])]), 1, &[at_end(130)]);
    told(&of(Vec::new(), vec![history(2, &[(1, 120)])]), 1, &[]);
    // It has some, and what lies between is missing.
    let own = || vec![piece(2, 126..140, Some((30, 39)))];
    told(&of(own(), vec![history(2, &[(1, 130)])]), 1, &[at_end(126)]);
    // Something else tells that there was more.
    let plain = of(Vec::new(), Vec::new());
    told(&plain.clone().once_up_to([(tl(1), Lsn(120))]), 0, &[]);
    told(&plain.once_up_to([(tl(1), Lsn(125)), (tl(1), Lsn(128))]), 0, &[at_end(128)]);
    // What an abandoned timeline had behind the branch, or the new one lost, does not count twice.
    let whole = vec![piece(1, 120..130, Some((30, 32))), piece(2, 130..140, Some((33, 39)))];
    let whole = of(whole, vec![history(2, &[(1, 130)])]);
    told(&whole.clone().once_up_to([(tl(1), Lsn(150))]), 1, &[]);
    let lost = Gap { timeline: tl(2), from: Lsn(140), ..at_end(150) };
    told(&whole.once_up_to([(tl(2), Lsn(150))]), 1, &[lost]);
}

#[test]
fn damaged_log_leads_nowhere_but_where_another_piece_covers_it() {
    let entries = || {
        vec![
            segment(3, None, 30, (10, 19)),
            segment(4, Some(30), 40, (20, 29)),
            segment(5, Some(40), 50, (30, 39)),
        ]
    };
    let range = |n: u64| (tl(1), Lsn(n * SIZE), Lsn((n + 1) * SIZE));
    let first = segments(3, 3 * SIZE + 100, 15);
    let until = |archive: &Archive| {
        let plan = plan(archive, &Target::Latest, None).unwrap();
        (plan.until, plan.bound, plan.warnings)
    };
    for n in [4, 5] {
        let archive = of(vec![first.clone()], entries()).damaged(&[range(n)]);
        let at = Lsn(n * SIZE);
        let gap = Warning::BehindGap(at_barrier(n, Why::Damaged));
        assert_eq!(until(&archive), (at, Some(at), vec![gap]));
    }
    // Another piece has the same log, or a part of it.
    let whole = LogEntry::new((Lsn(4 * SIZE), Lsn(6 * SIZE)), None, None);
    let archive = of(vec![first.clone()], [entries(), vec![whole]].concat());
    let archive = archive.damaged(&[range(4), range(5)]);
    assert_eq!(until(&archive), (Lsn(6 * SIZE), None, Vec::new()));
    let part = LogEntry::new((Lsn(4 * SIZE), Lsn(4 * SIZE + 500)), None, None);
    let archive = of(vec![first], [entries(), vec![part]].concat()).damaged(&[range(4)]);
    assert_eq!(until(&archive).0, Lsn(4 * SIZE + 500));
    // What is not there is not damaged.
    let other = archive.damaged(&[(tl(2), Lsn(0), Lsn(9)), range(9)]);
    assert_eq!(until(&other).0, Lsn(4 * SIZE + 500));
}

#[test]
fn the_beginning_of_damaged_log_leads_as_far_as_shorter_pieces_hold_it() {
    let bases = vec![base(1, 1, 100..108, 18)];
    let pieces = vec![piece(1, 100..120, Some((10, 19))), piece(1, 120..140, Some((20, 39)))];
    let whole = Archive::new(bases, pieces, Vec::new(), Vec::new());
    let damaged = (tl(1), Lsn(120), Lsn(140));
    let part = |start: u64, end: u64, (first, last): (i64, i64)| {
        LogEntry::new((Lsn(start), Lsn(end)), Some((at(first), at(last))), None)
    };
    let parts = vec![part(120, 126, (20, 25)), part(126, 132, (26, 31))];
    let begun = whole.clone().replaced(damaged, parts).damaged(&[damaged]);
    let until = |archive: &Archive, second: i64| {
        plan(archive, &Target::Time(at(second)), None).map(|plan| plan.until).ok()
    };
    assert_eq!([until(&begun, 22), until(&begun, 28)], [Some(Lsn(126)), Some(Lsn(132))]);
    assert_eq!(until(&begun, 35), None);
    let all = plan(&begun, &Target::Latest, None).unwrap();
    assert_eq!(all.until, Lsn(132));
    assert!(matches!(&all.warnings[..], [Warning::BehindGap(gap)] if gap.why == Why::Damaged));
    // Nothing stands for it.
    assert_eq!(until(&whole.damaged(&[damaged]), 22), None);
}

#[test]
fn what_is_gone_or_only_for_a_newer_program_is_left_out_and_never_passed_over() {
    let bases = || vec![base(1, 1, 100..108, 18)];
    let pieces = || vec![piece(1, 100..120, Some((10, 29))), piece(1, 120..130, None)];
    let archive = Archive::new(bases(), pieces(), Vec::new(), Vec::new());
    let all = |archive: &Archive| plan(archive, &Target::Latest, None).unwrap();
    assert_eq!((all(&archive).until, all(&archive).warnings), (Lsn(130), vec![]));
    let gap = |timeline, from, until, why| {
        let timeline = tl(timeline);
        Gap { timeline, from: Lsn(from), until, why }
    };
    // It is there, and cannot be read here.
    let newer = archive.clone().newer(&[(tl(1), Lsn(120), Lsn(130))]);
    let of = all(&newer);
    let told = gap(1, 120, None, Why::Newer);
    assert!(told.to_string().contains("newer format"), "{told}");
    assert_eq!(of.warnings, [Warning::BehindGap(told)]);
    assert_eq!((of.until, of.bound, of.loses.bytes), (Lsn(120), Some(Lsn(120)), 10));
    // Another piece has the same log in a format that is read.
    let whole = pieces().into_iter().chain([piece(1, 110..130, None)]);
    let whole = Archive::new(bases(), whole, Vec::new(), Vec::new());
    assert_eq!(all(&whole.newer(&[(tl(1), Lsn(120), Lsn(130))])).warnings, []);
    // It is gone; what the pieces cover is not, and who asks for a time has it all the same.
    let lost = archive.clone().once_up_to([(tl(1), Lsn(140))]);
    let told = Warning::BehindEnd(gap(1, 130, Some(Lsn(140)), Why::Missing));
    assert_eq!(all(&lost).warnings, [told]);
    let early = plan(&lost, &Target::Time(at(20)), None).unwrap();
    assert_eq!(early.warnings, []);
    assert_eq!(all(&archive.clone().once_up_to([(tl(1), Lsn(130))])).warnings, []);
    // All of a newer timeline, whose history is not known either.
    let other = archive.clone().once_up_to([(tl(2), Lsn(150))]);
    let told = Warning::BehindEnd(gap(2, 0, Some(Lsn(150)), Why::Missing));
    assert_eq!(all(&other).warnings, [told]);
    assert_eq!(plan(&other, &Target::Latest, Some(tl(1))).unwrap().warnings, [], "it was named");
    let other = archive.all_newer([tl(2)]);
    let told = Warning::BehindEnd(gap(2, 0, None, Why::Newer));
    assert_eq!(all(&other).warnings, [told]);
}
