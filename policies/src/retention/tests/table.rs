use std::time::Duration;

use super::*;

const DAY: Duration = Duration::from_hours(24);

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// The newest first.
const NIGHTS: &[&str] = &[
    "2027-01-05T02:00:00Z",
    "2027-01-04T02:00:00Z",
    "2027-01-03T02:00:00Z",
    "2027-01-02T02:00:00Z",
    "2027-01-01T02:00:00Z",
    "2026-12-31T02:00:00Z",
    "2026-12-28T02:00:00Z",
    "2026-12-27T02:00:00Z",
];

fn all(times: &[&str]) -> Vec<Candidate> {
    times.iter().zip(0..).map(|(at, n)| candidate(n, time(at))).collect()
}

fn now() -> Timestamp {
    time("2027-01-05T12:00:00Z")
}

/// The places of those that stay.
fn staying(policy: &RetentionPolicy, candidates: &[Candidate]) -> Vec<usize> {
    let verdicts = verdicts(policy, candidates, now());
    (0..verdicts.len()).filter(|at| verdicts[*at].stays()).collect()
}

#[test]
fn each_rule_keeps_what_its_name_says() {
    let cases: &[(&str, RetentionPolicy, &[usize])] = &[
        ("the newest always stays", OFF, &[0]),
        ("so many newest", RetentionPolicy { last: 3, ..OFF }, &[0, 1, 2]),
        ("more than there are", RetentionPolicy { last: 99, ..OFF }, &[0, 1, 2, 3, 4, 5, 6, 7]),
        ("days that have one", RetentionPolicy { daily: 7, ..OFF }, &[0, 1, 2, 3, 4, 5, 6]),
        ("a week spans new year", RetentionPolicy { weekly: 3, ..OFF }, &[0, 2, 7]),
        ("months", RetentionPolicy { monthly: 2, ..OFF }, &[0, 5]),
        ("years", RetentionPolicy { yearly: 9, ..OFF }, &[0, 5]),
        ("younger than", RetentionPolicy { within: Some(2 * DAY), ..OFF }, &[0, 1, 2]),
        ("the least number", RetentionPolicy { min_backups: 2, ..OFF }, &[0, 1]),
        (
            "what is too old goes, whatever the rules say",
            RetentionPolicy { last: 5, yearly: 9, max_age: Some(2 * DAY), ..OFF },
            &[0, 1, 2],
        ),
        (
            "but not the least number",
            RetentionPolicy { min_backups: 4, max_age: Some(DAY), ..OFF },
            &[0, 1, 2, 3],
        ),
    ];
    for (case, policy, expected) in cases {
        assert_eq!(staying(policy, &all(NIGHTS)), *expected, "{case}");
    }
}

#[test]
fn periods_are_those_of_the_policys_zone_and_a_doubled_hour_is_two() {
    // 23:30 UTC is the next day in Berlin.
    let taken = ["2027-01-04T23:30:00Z", "2027-01-04T12:00:00Z", "2027-01-03T23:30:00Z"];
    let candidates = all(&taken);
    let holdings = Holdings { candidates: &candidates, clusters: &[], blocked: None, now: now() };
    let berlin = TimeZone::get("Europe/Berlin").unwrap();
    let policy = RetentionPolicy { daily: 9, ..OFF };
    let stay = |zone: &TimeZone| {
        let verdicts = decide(&policy, zone, &holdings);
        verdicts.iter().map(Verdict::stays).collect::<Vec<_>>()
    };
    assert_eq!(stay(&TimeZone::UTC), [true, false, true]);
    assert_eq!(stay(&berlin), [true, true, false]);
    let autumn = all(&["2026-10-25T01:10:00Z", "2026-10-25T00:10:00Z", "2026-10-24T23:10:00Z"]);
    let holdings = Holdings { candidates: &autumn, clusters: &[], blocked: None, now: now() };
    let verdicts = decide(&RetentionPolicy { hourly: 2, ..OFF }, &berlin, &holdings);
    let which: Vec<String> =
        verdicts.iter().flat_map(|of| &of.reasons).map(ToString::to_string).collect();
    assert_eq!(
        which,
        [
            "the newest of hour 2026-10-25 02:00+01:00",
            "the newest that counts always stays",
            "the newest of hour 2026-10-25 02:00+02:00",
        ]
    );
}

#[test]
fn a_chain_stays_whole() {
    let mut candidates = all(NIGHTS);
    candidates[0].parent = Some(id(1));
    candidates[1].parent = Some(id(4));
    candidates[2].parent = Some(id(3));
    assert_eq!(staying(&OFF, &candidates), [0, 1, 4]);
    let verdicts = verdicts(&OFF, &candidates, now());
    assert_eq!(verdicts[4].reasons, [Reason::BaseOf(id(1))]);
    // A parent that is not there, and two that name each other, end.
    candidates[4].parent = Some(id(1));
    candidates[5].parent = Some(id(77));
    assert_eq!(staying(&RetentionPolicy { yearly: 9, ..OFF }, &candidates), [0, 1, 4, 5]);
}

#[test]
fn what_does_not_count_fills_no_place_and_stays_where_it_would_if_it_did() {
    let mut candidates = all(NIGHTS);
    candidates[0].counts = false;
    candidates[6].counts = false;
    let two = RetentionPolicy { last: 2, ..OFF };
    assert_eq!(staying(&two, &candidates), [0, 1, 2]);
    assert_eq!(verdicts(&two, &candidates, now())[0].reasons, [Reason::Uncounted]);
    for of in &mut candidates {
        of.counts = false;
    }
    assert_eq!(staying(&OFF, &candidates).len(), NIGHTS.len());
}

#[test]
fn the_newest_proven_ones_stay_and_so_does_what_somebody_needs() {
    let mut candidates = all(NIGHTS);
    candidates[3].proven = true;
    candidates[5].proven = true;
    candidates[7].proven = true;
    assert_eq!(staying(&OFF, &candidates), [0, 3]);
    assert_eq!(staying(&RetentionPolicy { min_proven: 2, ..OFF }, &candidates), [0, 3, 5]);
    // One that was found to be damaged since is not the newest: that is another one.
    candidates[3].counts = false;
    let found = verdicts(&OFF, &candidates, now());
    assert_eq!(
        (&found[3].reasons, &found[5].reasons),
        (&vec![Reason::Uncounted], &vec![Reason::Proven(1)])
    );
    let claims = [
        Claim::Pinned("audit".into()),
        Claim::Held("case 7".into()),
        Claim::Locked(time("2030-01-01T00:00:00Z")),
        Claim::InUse("a restore".into()),
    ];
    for (claim, at) in claims.into_iter().zip([1, 2, 4, 6]) {
        candidates[at].claims.push(claim);
    }
    assert_eq!(staying(&OFF, &candidates), [0, 1, 2, 3, 4, 5, 6]);
    let holdings =
        Holdings { candidates: &candidates, clusters: &[], blocked: Some("too small"), now: now() };
    let verdicts = decide(&OFF, &TimeZone::UTC, &holdings);
    assert!(verdicts.iter().all(Verdict::stays));
    assert_eq!(verdicts[7].reasons, [Reason::Blocked("too small".into())]);
}

#[test]
fn a_wrong_clock_lets_nothing_go() {
    let policy = RetentionPolicy { last: 2, daily: 3, within: Some(3 * DAY), ..OFF };
    let right = all(NIGHTS);
    let kept = staying(&policy, &right);
    // The present is a year ahead, or back: what stays, stays.
    for year in ["2028-01-05T12:00:00Z", "2027-01-05T02:00:01Z"] {
        let verdicts = verdicts(&policy, &right, time(year));
        let still: Vec<usize> = (0..right.len()).filter(|at| verdicts[*at].stays()).collect();
        assert_eq!(still, kept, "{year}");
    }
    // One is dated ahead: it stays, and takes no place.
    let mut candidates = right.clone();
    let ahead = Candidate {
        taken: time("2030-01-01T00:00:00Z"),
        stored: Some(time("2027-01-05T03:00:00Z")),
        ..candidate(50, now())
    };
    candidates.insert(0, ahead);
    let with: Vec<usize> = kept.iter().map(|at| at + 1).collect();
    assert_eq!(staying(&policy, &candidates), [vec![0], with].concat());
    // A host whose clock is years behind: all of the last days are there, by the store's clock, and
    // what was there before too.
    let mut candidates = all(NIGHTS);
    for of in candidates.iter_mut().take(3) {
        of.taken = of.taken.checked_sub(1000 * DAY).unwrap();
    }
    let stay = staying(&policy, &candidates);
    assert!(stay.starts_with(&[0, 1, 2, 3, 4, 5]), "{stay:?}");
    // A repository that was copied to another store yesterday keeps its days.
    let mut candidates = all(NIGHTS);
    for of in &mut candidates {
        of.stored = Some(time("2027-01-05T11:00:00Z"));
    }
    let stay = staying(&RetentionPolicy { daily: 3, ..OFF }, &candidates);
    assert!(stay.starts_with(&[0, 1, 2]), "{stay:?}");
}
