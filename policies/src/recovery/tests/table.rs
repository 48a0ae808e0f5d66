use super::*;

/// What is asked of what, on which timeline; why not, and what is nearest before and behind.
type Refusal<'a> =
    (&'a str, &'a Archive, Target, Option<u32>, Reason, Option<Place>, Option<Place>);

/// Bases, log, what is asked; which base is used and what is said about it.
type Choice<'a> = (&'a str, Vec<Base>, &'a [Piece], Target, u64, &'a [Warning]);

/// Three pieces of ten bytes, a commit each ten seconds; a base in the first.
fn simple() -> (Vec<Base>, Vec<Piece>) {
    let pieces = [(100, 10, 19), (110, 20, 29), (120, 30, 39)];
    let pieces =
        pieces.map(|(start, first, last)| piece(1, start..start + 10, Some((first, last))));
    (vec![base(1, 1, 100..108, 18)], pieces.to_vec())
}

fn archive(bases: Vec<Base>, pieces: Vec<Piece>) -> Archive {
    Archive::new(bases, pieces, Vec::new(), Vec::new())
}

fn refused(archive: &Archive, target: Target, timeline: Option<u32>) -> Box<NoPlan> {
    plan(archive, &target, timeline.map(tl)).unwrap_err()
}

fn planned(archive: &Archive, target: Target) -> RecoveryPlan {
    plan(archive, &target, None).unwrap()
}

fn place(lsn: u64, time: i64) -> Option<Place> {
    Some(Place { lsn: Lsn(lsn), at: Some(at(time)) })
}

fn gap(timeline: u32, from: u64, until: Option<u64>) -> Gap {
    Gap { timeline: tl(timeline), from: Lsn(from), until: until.map(Lsn), why: Why::Missing }
}

#[test]
fn a_time_between_commits() {
    let (bases, pieces) = simple();
    let plan = planned(&archive(bases, pieces), Target::Time(at(25)));
    assert_eq!((plan.base, plan.timeline, plan.consistent), (id(1), tl(1), Lsn(108)));
    assert_eq!(plan.path, [Leg { timeline: tl(1), from: Lsn(100), until: Lsn(120) }]);
    assert_eq!((plan.not_before, plan.until, plan.reach), (Lsn(110), Lsn(120), Lsn(130)));
    assert_eq!((plan.stop, plan.log_bytes, plan.warnings), (Stop::AtTarget, 20, vec![]));
    let commit = LastCommit { not_before: Some(at(19)), not_after: Some(at(25)) };
    assert_eq!(plan.last_commit, commit);
    assert_eq!(plan.loses, Loss { bytes: 20, after: Some(at(25)), until: Some(at(39)) });
    assert_eq!((plan.earlier, plan.later), (Some(at(19)), Some(at(39))));
}

#[test]
fn a_cluster_may_have_lived_from_initdb_on() {
    let (bases, pieces) = simple();
    let made = |time| u64::try_from(at(time).as_second()).unwrap() << 32 | 0xfff;
    let both = archive(bases.clone(), pieces);
    let lived = |of, time| both.may_have_lived_at(made(of), at(time));
    assert_eq!([4, 5, 9, 40].map(|time| lived(5, time)), [false, true, true, true]);
    // A commit or a base from before that belies the clock of initdb.
    assert_eq!([9, 10].map(|time| lived(15, time)), [false, true]);
    let of_base = |time| archive(bases.clone(), Vec::new()).may_have_lived_at(made(30), at(time));
    assert_eq!([17, 18].map(of_base), [false, true]);
    // To the microsecond.
    let lived = |micros: u64| both.may_have_lived_at(made(5) | micros << 12, at(5));
    assert_eq!([0, 1, 999_999].map(lived), [true, false, false]);
    // An identifier that no server made says nothing.
    assert!(archive(Vec::new(), Vec::new()).may_have_lived_at(7, at(1)));
    // That log is gone is known.
    let known = |end| both.clone().once_up_to([(tl(1), Lsn(end))]).had_more();
    assert_eq!([130, 131].map(known), [false, true]);
}

#[test]
fn the_last_commit_known_exactly() {
    let (bases, pieces) = simple();
    let archive = archive(bases, pieces);
    let plan = planned(&archive, Target::Time("2027-01-15T08:00:29.5Z".parse().unwrap()));
    let exact = LastCommit { not_before: Some(at(29)), not_after: Some(at(29)) };
    assert_eq!((plan.last_commit, plan.until), (exact, Lsn(130)));
    let plan = planned(&archive, Target::Time(at(39)));
    assert_eq!((plan.stop, plan.until), (Stop::AtEnd, Lsn(130)));
    assert_eq!(plan.warnings, [Warning::TargetIsLastCommit]);
    assert_eq!(plan.loses, Loss { bytes: 0, after: Some(at(39)), until: None });
}

#[test]
fn why_there_is_no_plan() {
    let (bases, pieces) = simple();
    let whole = archive(bases.clone(), pieces.clone());
    let holed = archive(bases, vec![pieces[0], pieces[2]]);
    let baseless = archive(Vec::new(), pieces);
    let time = |seconds| Target::Time(at(seconds));
    let before_first = Reason::BeforeFirst { stopped: at(19 - 1), stop: Lsn(108) };
    let hole = gap(1, 110, Some(120));
    let after_end = Reason::AfterEnd { last_commit: Some(at(39)), end: Lsn(130) };
    let unknown = Reason::UnknownTimeline { timeline: tl(7), known: vec![tl(1)] };
    let cases: &[Refusal<'_>] = &[
        ("no base", &baseless, time(25), None, Reason::NoBase, None, None),
        ("too early", &whole, time(17), None, before_first.clone(), None, place(108, 18)),
        ("too early", &whole, up_to(107), None, before_first, None, place(108, 18)),
        ("too late", &whole, time(40), None, after_end.clone(), place(129, 39), None),
        ("too late", &whole, up_to(130), None, after_end, place(129, 39), None),
        ("gap", &holed, time(25), None, Reason::Gap(hole), place(109, 19), None),
        ("gap", &holed, up_to(110), None, Reason::Gap(hole), place(109, 19), None),
        ("unknown", &whole, time(25), Some(7), unknown, None, None),
        ("xid", &whole, xid(5), None, Reason::XidNotFound, place(129, 39), None),
        ("name", &whole, name("x"), None, Reason::NameNotFound, place(129, 39), None),
    ];
    for (what, archive, target, timeline, reason, before, after) in cases {
        let none = refused(archive, target.clone(), *timeline);
        assert_eq!((&none.reason, none.before, none.after), (reason, *before, *after), "{what}");
        let found = if *what == "unknown" { vec![tl(1)] } else { vec![] };
        assert_eq!(none.elsewhere, found, "{what}");
        assert!(!none.to_string().is_empty() && !none.hint().is_empty());
    }
    let empty = refused(&archive(Vec::new(), Vec::new()), Target::Latest, None);
    assert_eq!((empty.reason, empty.timeline), (Reason::NoBase, Timeline::FIRST));
}

fn xid(xid: u32) -> Target {
    Target::Xid { xid, inclusive: true }
}

fn name(name: &str) -> Target {
    Target::Name(name.to_owned())
}

#[test]
fn a_base_that_nothing_follows_still_leads_to_the_end() {
    let bases = vec![base(1, 1, 100..108, 18)];
    let alone = archive(bases.clone(), vec![piece(1, 100..108, None)]);
    let plan = planned(&alone, Target::Latest);
    assert_eq!((plan.stop, plan.until), (Stop::AtEnd, Lsn(108)));
    let reason = Reason::AfterEnd { last_commit: None, end: Lsn(108) };
    assert_eq!(refused(&alone, Target::Time(at(18)), None).reason, reason);
    let missing = archive(bases, vec![piece(1, 100..107, None)]);
    assert_eq!(refused(&missing, Target::Latest, None).reason, Reason::Gap(gap(1, 107, None)));
}

#[test]
fn which_base_is_used() {
    let (_, pieces) = simple();
    let first = base(1, 1, 100..102, 11);
    let second = base(2, 1, 104..108, 18);
    let third = base(3, 1, 112..118, 27);
    let suspect = |base: &Base| Base { good: false, ..base.clone() };
    let cut = [pieces[0], piece(1, 110..112, Some((20, 22))), piece(1, 113..130, Some((23, 39)))];
    let over = |n| Warning::EndedAfter { backup: id(n) };
    let cases: &[Choice<'_>] = &[
        ("newest", vec![first.clone(), second.clone()], &pieces, Target::Time(at(25)), 2, &[]),
        (
            "at its very end",
            vec![first.clone(), second.clone()],
            &pieces,
            Target::Time(at(18)),
            2,
            &[],
        ),
        ("at its very end", vec![second.clone(), third.clone()], &pieces, up_to(118), 3, &[]),
        (
            "under way",
            vec![third.clone(), second.clone()],
            &pieces,
            Target::Time(at(26)),
            2,
            &[over(3)],
        ),
        ("later", vec![first.clone(), third.clone()], &pieces, Target::Time(at(11)), 1, &[]),
        (
            "suspect last",
            vec![suspect(&second), first.clone()],
            &pieces,
            Target::Time(at(25)),
            1,
            &[Warning::NewerSuspect { backup: id(2) }],
        ),
        (
            "suspect only",
            vec![suspect(&second)],
            &pieces,
            Target::Time(at(25)),
            2,
            &[Warning::SuspectBase],
        ),
        (
            "cut off",
            vec![third.clone(), second.clone()],
            &cut,
            Target::Latest,
            2,
            &[
                Warning::BehindGap(gap(1, 112, Some(113))),
                Warning::CutOff { backup: id(3), gap: gap(1, 112, Some(113)) },
            ],
        ),
    ];
    for (what, bases, pieces, target, n, warnings) in cases {
        let plan = planned(&archive(bases.clone(), pieces.to_vec()), target.clone());
        assert_eq!((plan.base, &plan.warnings[..]), (id(*n), *warnings), "{what}");
        assert!(plan.warnings.iter().all(|warning| !warning.to_string().is_empty()));
    }
}

/// Timeline 2 branches off from 1 at 115; its first segment holds a copy from 110 on.
fn promoted() -> (Vec<Base>, Vec<Piece>) {
    let bases = vec![base(1, 1, 100..108, 18)];
    let own = piece(1, 100..110, Some((10, 19)));
    let copied = piece(2, 110..120, Some((20, 29)));
    (bases, vec![copied, own, piece(2, 120..130, Some((30, 39)))])
}

#[test]
fn across_a_promotion() {
    let (bases, mut pieces) = promoted();
    let leg =
        |timeline, from, until| Leg { timeline: tl(timeline), from: Lsn(from), until: Lsn(until) };
    let build = |bases: &[Base], pieces: &[Piece]| {
        Archive::new(bases.to_vec(), pieces.to_vec(), Vec::new(), vec![history(2, &[(1, 115)])])
    };
    let plan = planned(&build(&bases, &pieces), Target::Time(at(25)));
    assert_eq!((plan.timeline, plan.path), (tl(2), vec![leg(1, 100, 110), leg(2, 110, 120)]));
    // What the old primary wrote behind the promotion is not on the way, and what cannot be told
    // apart shows nothing.
    pieces.push(piece(1, 110..125, Some((20, 60))));
    let archive = build(&bases, &pieces);
    let plan = planned(&archive, Target::Latest);
    assert_eq!(plan.path, [leg(1, 100, 115), leg(2, 115, 130)]);
    assert_eq!(refused(&archive, Target::Time(at(50)), None).elsewhere, [tl(1)]);
    let old = super::super::plan(&archive, &Target::Time(at(50)), Some(tl(1))).unwrap();
    assert_eq!((old.path, old.until), (vec![leg(1, 100, 125)], Lsn(125)));
    assert_eq!(old.warnings, [Warning::NewerTimeline(tl(2))]);
    // A base that ended behind the promotion on the old timeline leads to that one only.
    let left = vec![base(2, 1, 112..116, 22)];
    assert_eq!(refused(&build(&left, &pieces), Target::Latest, Some(2)).reason, Reason::NoBase);
    let kept = vec![base(2, 1, 112..115, 22)];
    assert_eq!(planned(&build(&kept, &pieces), Target::Latest).timeline, tl(2));
    // The commits of a piece that is cut at the promotion count for the bound above only.
    let lone = [piece(1, 100..118, Some((10, 29))), piece(2, 115..130, Some((35, 39)))];
    let plan = planned(&build(&bases, &lone), Target::Time(at(36)));
    let bound = LastCommit { not_before: None, not_after: Some(at(36)) };
    assert_eq!((plan.last_commit, plan.until), (bound, Lsn(130)));
}

#[test]
fn which_timeline_is_used() {
    let (bases, pieces) = promoted();
    let used = |pieces: Vec<Piece>, histories| {
        let archive = Archive::new(bases.clone(), pieces, Vec::new(), histories);
        let plan = planned(&archive, up_to(109));
        (plan.timeline.id(), plan.warnings)
    };
    let end = Warning::AtTheEnd;
    let known = || vec![history(2, &[(1, 115)])];
    assert_eq!(used(pieces.clone(), known()), (2, vec![]));
    let bare = vec![end, Warning::NoHistory(tl(2))];
    assert_eq!(used(pieces.clone(), vec![]), (1, bare));
    // A history alone, without log, is not followed, nor is one that no base leads to.
    let (two, three) = (history(2, &[(1, 115)]), history(3, &[(1, 105)]));
    let older = vec![Warning::NewerTimeline(tl(3))];
    let mut more = pieces.clone();
    more.push(piece(3, 100..130, None));
    assert_eq!(used(more, vec![two.clone(), three]), (2, older.clone()));
    assert_eq!(used(pieces.clone(), vec![two.clone(), history(3, &[(1, 115), (2, 120)])]), {
        // Its first byte is where timeline 2 ends.
        (2, older)
    });
    // The ancestors' histories are in those of their descendants.
    let third = vec![history(3, &[(1, 115), (2, 120)])];
    assert_eq!(used(pieces.clone(), third), (2, vec![Warning::NewerTimeline(tl(3))]));
    let disputed = vec![two, history(2, &[(1, 116)])];
    assert_eq!(used(pieces, disputed), (2, vec![Warning::DisputedHistory(tl(2))]));
}

#[test]
fn restore_points() {
    let point = |timeline, name: &str, lsn, seconds| RestorePoint {
        timeline: tl(timeline),
        name: name.to_owned(),
        lsn: Lsn(lsn),
        at: at(seconds),
    };
    let (bases, pieces) = promoted();
    let points = vec![
        point(1, "once", 113, 23),
        point(2, "once", 113, 23),
        point(1, "twice", 109, 19),
        point(2, "twice", 125, 34),
        point(1, "left", 116, 26),
        point(1, "early", 107, 17),
        point(1, "first", 108, 18),
        point(2, "beyond", 131, 50),
    ];
    let archive = Archive::new(bases, pieces, points, vec![history(2, &[(1, 115)])]);
    let plan = planned(&archive, name("once"));
    assert_eq!((plan.until, plan.not_before, plan.stop), (Lsn(113), Lsn(113), Stop::AtTarget));
    assert_eq!(planned(&archive, name("first")).until, Lsn(108));
    let reason = |text| refused(&archive, name(text), None).reason;
    let places = vec![place(109, 19).unwrap(), place(125, 34).unwrap()];
    assert_eq!(reason("twice"), Reason::NameAmbiguous { places });
    assert_eq!(reason("left"), Reason::NameNotFound);
    assert_eq!(reason("early"), Reason::BeforeFirst { stopped: at(18), stop: Lsn(108) });
    assert_eq!(reason("beyond"), Reason::AfterEnd { last_commit: Some(at(39)), end: Lsn(130) });
}

#[test]
fn transactions() {
    let with = |start, seconds, xids| Piece {
        xids: Some(xids),
        ..piece(1, start..start + 10, Some((seconds, seconds)))
    };
    let half = (1 << 31) + 30;
    let bases = vec![base(1, 1, 100..108, 5)];
    let near = u32::MAX - 5;
    let pieces = vec![
        with(100, 5, (10, 20)),
        with(110, 15, (21, 30)),
        // A long one ends late.
        with(120, 25, (25, 40)),
        with(130, 35, (half - 9, half)),
        with(140, 45, (near, 3)),
        with(150, 55, (20, 35)),
    ];
    let few = archive(bases.clone(), pieces[..5].to_vec());
    let plan = planned(&few, xid(27));
    assert_eq!((plan.not_before, plan.until), (Lsn(110), Lsn(130)));
    assert_eq!(plan.warnings, [Warning::XidNotCertain { pieces: 2 }]);
    assert_eq!(planned(&few, xid(1)).until, Lsn(150));
    assert_eq!(planned(&few, xid(u32::MAX)).not_before, Lsn(140));
    assert_eq!(planned(&few, xid(22)).until, Lsn(120));
    assert_eq!(refused(&few, xid(41), None).reason, Reason::XidNotFound);
    // Before the base or behind it, in the piece in which that ended: only the replay shows.
    assert_eq!(planned(&few, xid(15)).not_before, Lsn(108));
    let later = archive(vec![base(1, 1, 100..112, 5)], pieces[..5].to_vec());
    let early = Reason::BeforeFirst { stopped: at(5), stop: Lsn(112) };
    assert_eq!(refused(&later, xid(15), None).reason, early);
    let round = archive(bases, pieces);
    let places = vec![place(110, 15).unwrap(), place(150, 55).unwrap()];
    assert_eq!(refused(&round, xid(27), None).reason, Reason::XidAmbiguous { places });
}

#[test]
fn clocks_that_were_set() {
    let bases = vec![base(1, 1, 100..108, 12)];
    let pieces = [(100, 10, 12), (110, 20, 50), (120, 22, 30), (130, 31, 40)];
    let pieces =
        pieces.map(|(start, first, last)| piece(1, start..start + 10, Some((first, last))));
    let plan = planned(&archive(bases, pieces.to_vec()), Target::Time(at(35)));
    assert_eq!(
        (plan.until, plan.warnings),
        (Lsn(120), vec![Warning::ClockWentBack { to: at(22) }])
    );
    // A later commit within the base's own log would stop the server before it is consistent.
    let bases = vec![base(1, 1, 100..125, 12)];
    let archive = archive(bases, pieces.to_vec());
    let reason = Reason::BeforeFirst { stopped: at(50), stop: Lsn(125) };
    assert_eq!(refused(&archive, Target::Time(at(35)), None).reason, reason);
}

#[test]
fn a_digest_does_not_change_while_the_log_grows() {
    let (bases, mut pieces) = simple();
    let before = archive(bases.clone(), pieces.clone());
    pieces.push(piece(1, 130..140, Some((40, 49))));
    let after = archive(bases, pieces);
    for target in [Target::Time(at(25)), Target::Latest, up_to(115)] {
        let (one, other) = (planned(&before, target.clone()), planned(&after, target));
        assert_eq!(one.digest_text(), other.digest_text());
        assert_ne!(one, other);
    }
    let text = planned(&before, Target::Time(at(25))).digest_text();
    let expected = format!(
        "drctl recovery plan 1\nbase {}\nconsistent 0/6C\ntimeline 1\n\
         target time 2027-01-15T08:00:25Z\nlog 1 0/64\n",
        id(1)
    );
    assert_eq!(text, expected);
    assert_ne!(text, planned(&before, Target::Time(at(26))).digest_text());
}

#[test]
fn what_is_agreed_to_covers_how_far_the_end_reaches() {
    let (bases, mut pieces) = simple();
    let before = archive(bases.clone(), pieces.clone());
    pieces.push(piece(1, 130..140, Some((40, 49))));
    let after = archive(bases, pieces);
    let agreed = |all: &Archive, target: Target| planned(all, target).agreed_text();
    assert_ne!(agreed(&before, Target::Latest), agreed(&after, Target::Latest));
    let time = Target::Time(at(25));
    assert_eq!(agreed(&before, time.clone()), agreed(&after, time));
}

#[test]
fn a_digest_does_not_change_when_parts_become_one_piece() {
    let with = |range: std::ops::Range<u64>, commits, xids| Piece {
        xids: Some(xids),
        ..piece(1, range, Some(commits))
    };
    let first = with(100..110, (10, 19), (10, 19));
    let (one, other) = (with(110..115, (20, 24), (20, 26)), with(115..120, (25, 29), (24, 29)));
    let bases = || vec![base(1, 1, 100..108, 18)];
    let parts = archive(bases(), vec![first, one, other]);
    let joined = archive(bases(), vec![first, with(110..120, (20, 29), (20, 29))]);
    let more = archive(bases(), vec![first, one, other, with(120..130, (30, 39), (30, 39))]);
    let targets = [Target::Time(at(22)), up_to(112), up_to(117), xid(22), xid(25)];
    for target in targets.into_iter().chain([Target::Latest]) {
        let before = planned(&parts, target.clone()).digest_text();
        assert_eq!(before, planned(&joined, target.clone()).digest_text(), "joined: {target}");
        assert_eq!(before, planned(&more, target.clone()).digest_text(), "grown: {target}");
    }
    // A target behind which the first commit arrives.
    let last = Target::Time(at(29));
    let (before, after) = (planned(&parts, last.clone()), planned(&more, last));
    assert_eq!((before.stop, after.stop), (Stop::AtEnd, Stop::AtTarget));
    assert_eq!(before.digest_text(), after.digest_text());
    let warned = planned(&parts, xid(25)).warnings;
    assert_eq!(warned, [Warning::XidNotCertain { pieces: 2 }]);
    assert_eq!(planned(&parts, up_to(117)).warnings, [Warning::AtTheEnd]);
}

#[test]
fn a_view_of_all_timelines() {
    let (bases, mut pieces) = promoted();
    pieces.remove(0);
    let archive = Archive::new(bases, pieces, Vec::new(), vec![history(2, &[(1, 115)])]);
    let views = timeline_view(&archive);
    let [one, two] = &views[..] else { panic!("{views:?}") };
    assert_eq!((one.timeline, one.known, one.parent, one.bases.len()), (tl(1), true, None, 1));
    let span = |from, until, first, last| Span {
        from: Lsn(from),
        until: Lsn(until),
        commits: Some((at(first), at(last))),
    };
    assert_eq!(one.spans, [span(100, 110, 10, 19)]);
    assert_eq!((one.gaps.len(), two.bases.len()), (0, 0));
    assert_eq!(
        (two.parent, two.spans.clone()),
        (Some((tl(1), Lsn(115))), vec![span(120, 130, 30, 39)])
    );
    assert_eq!(two.gaps, [gap(1, 110, Some(120))]);
    let times = Some((at(19 - 1), at(19)));
    let range = Reachable { from: Lsn(108), until: Lsn(110), times, suspect: false };
    assert_eq!((&one.reachable[..], &two.reachable[..]), (&[range.clone()][..], &[range][..]));
}

#[test]
fn times_are_rounded_to_what_the_server_knows() {
    let exact: Timestamp = "2026-03-01T00:00:00.000001Z".parse().unwrap();
    let more: Timestamp = "2026-03-01T00:00:00.0000015Z".parse().unwrap();
    let old: Timestamp = "1969-12-31T23:59:59.9999985Z".parse().unwrap();
    use super::super::common::Micros;
    assert_eq!((Micros::of(exact), Micros::above(exact)), (Micros::of(more), Micros::of(exact)));
    assert_eq!(Micros::above(more).minus(1), Micros::of(more));
    assert_eq!((Micros::of(old), Micros::above(old)), (Micros(-2), Micros(-1)));
}

#[test]
fn how_far_all_that_there_is_leads() {
    let (bases, pieces) = simple();
    let stands = |bases: Vec<Base>, pieces: Vec<Piece>| {
        recoverable_until(&archive(bases, pieces)).map(|at| (at.end, at.shows, at.gaps))
    };
    let whole = stands(bases.clone(), pieces.clone());
    assert_eq!(whole, Some((Lsn(130), at(39), vec![])));
    assert_eq!(stands(Vec::new(), pieces.clone()), None);
    // What is missing in the middle is told, and the end is before it.
    let holed = stands(bases.clone(), vec![pieces[0], pieces[2]]);
    assert_eq!(holed, Some((Lsn(110), at(19), vec![gap(1, 110, Some(120))])));
    let twice = [pieces[0], pieces[2], piece(1, 140..150, Some((50, 59)))];
    let two = vec![gap(1, 110, Some(120)), gap(1, 130, Some(140))];
    assert_eq!(stands(bases.clone(), twice.to_vec()), Some((Lsn(110), at(19), two)));
    // A newer base behind the gap begins anew; nothing is committed since.
    let newer = [bases, vec![base(2, 1, 121..129, 45)]].concat();
    let healed = stands(newer, vec![pieces[0], pieces[2]]);
    assert_eq!(healed, Some((Lsn(130), at(45), vec![])));
}

#[test]
fn a_history_that_is_missing_or_disputed_is_told_with_the_standing() {
    let (bases, pieces) = promoted();
    let doubts = |histories| {
        let archive = Archive::new(bases.clone(), pieces.clone(), Vec::new(), histories);
        recoverable_until(&archive).unwrap().doubts
    };
    let two = history(2, &[(1, 115)]);
    assert_eq!(doubts(vec![two.clone()]), []);
    assert_eq!(doubts(vec![]), [Warning::NoHistory(tl(2))]);
    let disputed = vec![two, history(2, &[(1, 116)])];
    assert_eq!(doubts(disputed), [Warning::DisputedHistory(tl(2))]);
}

#[test]
fn a_clock_that_was_ahead_before_the_base_hides_nothing_behind_it() {
    let (_, mut pieces) = simple();
    pieces[0] = piece(1, 100..110, Some((10, 900)));
    let archive = archive(vec![base(1, 1, 112..118, 28)], pieces);
    let plan = planned(&archive, Target::Time(at(35)));
    assert_eq!((plan.not_before, plan.until), (Lsn(120), Lsn(130)));
    assert_eq!(plan.stop, Stop::AtTarget);
}

/// A timeline that was left at 110 and went on to 130, and what has grown out of it since.
fn left_and_gone_on(grown: &[(std::ops::Range<u64>, (i64, i64))]) -> Archive {
    let (bases, mut pieces) = simple();
    pieces.extend(grown.iter().map(|(range, commits)| piece(2, range.clone(), Some(*commits))));
    Archive::new(bases, pieces, Vec::new(), vec![history(2, &[(1, 110)])])
}

#[test]
fn of_two_timelines_that_live_one_has_to_be_named() {
    let warnings = |archive: &Archive, timeline: Option<u32>| {
        plan(archive, &Target::Latest, timeline.map(tl)).unwrap().warnings
    };
    // A trial of a minute, while the server lived on.
    let trial = left_and_gone_on(&[(110..120, (21, 22))]);
    let fork = Warning::Fork {
        timeline: tl(1),
        end: Lsn(130),
        until: at(39),
        followed: tl(2),
        reach: Lsn(120),
        shows: Some(at(22)),
    };
    let left = |until| Warning::LeftBehind { timeline: tl(1), until: at(until) };
    assert_eq!(warnings(&trial, None), std::slice::from_ref(&fork));
    assert_eq!(warnings(&trial, Some(2)), [left(39)]);
    assert_eq!(warnings(&trial, Some(1)), [Warning::NewerTimeline(tl(2))]);
    let stands = recoverable_until(&trial).unwrap();
    assert_eq!((stands.timeline, stands.shows, stands.end), (tl(1), at(39), Lsn(130)));
    assert_eq!(stands.doubts, [fork]);
    // A promotion: what its predecessor wrote last is told, and nobody is asked.
    let promoted = left_and_gone_on(&[(110..120, (40, 49))]);
    assert_eq!(warnings(&promoted, None), [left(39)]);
    let stands = recoverable_until(&promoted).unwrap();
    assert_eq!((stands.timeline, stands.doubts), (tl(2), vec![]));
    // What is asked for by time is told as ever.
    assert_eq!(planned(&trial, Target::Time(at(21))).timeline, tl(2));
    // A base alone shows that its server lived, by its own clock and not by the host's.
    let (bases, pieces) = (simple().0, vec![piece(1, 100..110, Some((10, 19)))]);
    let alone = |stood: Stood| {
        let later = Base { stood, ..base(2, 1, 140..150, 0) };
        let trial = piece(2, 110..120, Some((21, 22)));
        let (bases, pieces) = (vec![bases[0].clone(), later], vec![pieces[0], trial]);
        let archive = Archive::new(bases, pieces, Vec::new(), vec![history(2, &[(1, 110)])]);
        warnings(&archive, None).iter().any(|one| matches!(one, Warning::Fork { .. }))
    };
    assert!(alone(Stood::Log { last_commit: None, checkpoint: at(60) }));
    assert!(!alone(Stood::Log { last_commit: None, checkpoint: at(20) }));
    assert!(!alone(Stood::Host(at(60))));
}

#[test]
fn what_lies_on_both_sides_of_a_branch_is_no_life_of_its_own() {
    let forks = |until: u64, grown: &[(std::ops::Range<u64>, (i64, i64))]| {
        let (bases, mut pieces) = simple();
        pieces.truncate(2);
        pieces.extend(grown.iter().map(|(range, at)| piece(2, range.clone(), Some(*at))));
        let archive = Archive::new(bases, pieces, Vec::new(), vec![history(2, &[(1, until)])]);
        planned(&archive, Target::Latest).warnings
    };
    // The segment in which it was left is archived by both: the commits are the same ones.
    assert_eq!(forks(115, &[(110..120, (20, 29)), (120..130, (50, 59))]), vec![]);
    assert_eq!(forks(115, &[(110..120, (20, 29))]), vec![]);
    // Without a copy of it nobody knows.
    assert_eq!(forks(115, &[(115..120, (21, 22))]), vec![]);
    let later = forks(115, &[(110..120, (20, 24))]);
    assert!(matches!(later[..], [Warning::Fork { .. }]), "{later:?}");
}

#[test]
fn all_that_is_left_out_is_agreed_to() {
    let (bases, pieces) = simple();
    let over_a_gap = |more: &[Piece]| {
        let pieces = [&[pieces[0], pieces[2]][..], more].concat();
        planned(&archive(bases.clone(), pieces), Target::Latest)
    };
    let (one, two) = (over_a_gap(&[]), over_a_gap(&[piece(1, 130..140, Some((40, 49)))]));
    assert_ne!(one.agreed_text(), two.agreed_text(), "more is lost");
    assert_eq!(one.digest_text(), two.digest_text(), "it goes on all the same");
    // And what another timeline has by now.
    let trial = left_and_gone_on(&[(110..120, (21, 22))]);
    let (one, two) = (
        plan(&trial, &Target::Latest, Some(tl(2))).unwrap(),
        plan(&left_and_gone_on(&[(110..120, (21, 22))]), &Target::Latest, Some(tl(2))).unwrap(),
    );
    assert_eq!(one.agreed_text(), two.agreed_text());
    let (bases, mut pieces) = simple();
    pieces.extend([piece(2, 110..120, Some((21, 22))), piece(1, 130..140, Some((40, 49)))]);
    let grown = Archive::new(bases, pieces, Vec::new(), vec![history(2, &[(1, 110)])]);
    let three = plan(&grown, &Target::Latest, Some(tl(2))).unwrap();
    assert_ne!(one.agreed_text(), three.agreed_text());
    assert_eq!(one.digest_text(), three.digest_text());
}
