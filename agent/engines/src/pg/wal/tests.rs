use proptest::prelude::*;

use drctl_model::{ServerSettings, WalLevel};

use super::sample::*;
use super::*;

#[test]
fn tells_what_the_wal_holds() {
    let wal = Wal::sample();
    let summary = wal.walk().unwrap();
    let time = |seconds: i64| jiff::Timestamp::from_second(946_684_800 + seconds).unwrap();
    let expected = WalSummary {
        system_id: Some(99),
        major: Some(15),
        first_record: Some(lsn(40)),
        first_follows: Some(Lsn(0x28)),
        last_record: Some(lsn(MIB + 40)),
        next_record: Some(Lsn(wal.at())),
        records: 8,
        commits: 2,
        first_commit: Some(time(50)),
        last_commit: Some(time(200)),
        min_xid: Some(7),
        max_xid: Some(9),
        restore_points: summary.restore_points.clone(),
        requirements: Vec::new(),
        more_requirements: false,
        checkpoint: None,
        switched: true,
        ended: None,
    };
    assert_eq!(summary, expected);
    let [point] = &summary.restore_points[..] else { panic!() };
    assert_eq!((point.name.as_str(), point.time), ("here", time(60)));
}

#[test]
fn what_asks_something_of_a_server_is_told() {
    let mut wal = Wal::new(START);
    wal.data(100);
    let before = Lsn(wal.at());
    let numbers = [101u32, 8, 10, 3, 64, 0].map(u32::to_le_bytes).concat();
    let changed = wal.put(0, 0x60, 0, &[&[255, 26][..], &numbers, &[0, 1]].concat());
    // A path is longer than other records that are read, and may go over a page's end.
    wal.data(8192 - 8 * 40);
    let path = "/srv/".to_owned() + &"x".repeat(900);
    let made = [&16_400u32.to_le_bytes()[..], path.as_bytes(), &[0]].concat();
    let length = u32::try_from(made.len()).unwrap().to_le_bytes();
    wal.put(5, 0x00, 0, &[&[254][..], &length, &made].concat());
    wal.put(5, 0x10, 0, &[&[255, 4][..], &16_400u32.to_le_bytes()].concat());
    let mut checkpoint = vec![0; 88];
    checkpoint[24..32].copy_from_slice(&(5u64 << 32 | 77).to_le_bytes());
    checkpoint[64..72].copy_from_slice(&1_800_000_000u64.to_le_bytes());
    let point = wal.put(0, 0x10, 0, &[&[255, 88][..], &checkpoint].concat());
    wal.put(1, 0x20, 8, &[&[255, 8][..], &200_000_000i64.to_le_bytes()].concat());
    let found = wal.walk().unwrap();
    let settings = ServerSettings {
        max_connections: 101,
        max_worker_processes: 8,
        max_wal_senders: 10,
        max_prepared_transactions: 3,
        max_locks_per_transaction: 64,
        wal_level: WalLevel::Minimal,
    };
    let [first, second, third] = &found.requirements[..] else {
        panic!("{:?}", found.requirements)
    };
    let what = Required::Settings(settings);
    assert_eq!(*first, Requirement { at: Lsn(changed), behind: before, what });
    assert_eq!(second.what, Required::Tablespace { oid: 16_400, path: path.into() });
    assert_eq!(third.what, Required::TablespaceDrop { oid: 16_400 });
    let time = jiff::Timestamp::from_second(1_800_000_000).unwrap();
    let told = Checkpoint { at: Lsn(point), time, next_xid: 5 << 32 | 77 };
    assert_eq!(found.checkpoint, Some(told));
    // Who rolled back has a number too.
    assert_eq!((found.commits, found.min_xid, found.max_xid), (0, Some(8), Some(8)));
    let short = [&[255, 20][..], &numbers[..20]].concat();
    let mut cut = Wal::new(START);
    cut.put(0, 0x60, 0, &short);
    assert!(matches!(cut.walk(), Err(WalError::Record { .. })));
}

#[test]
fn headers_of_pages_are_checked() {
    let at = lsn(0);
    let second = lsn(8192);
    let cases: [(usize, &[u8], WalError); 16] = [
        (0, &[0x12, 0xD1], WalError::Magic { at, found: 0xD112 }),
        (8192, &[0x16, 0xD1], WalError::OtherMagic { at: second, found: 0xD116, expected: 0xD110 }),
        (2, &[0x12], WalError::PageFlags { at, found: 0x12 }),
        (2, &[0x00], WalError::PageFlags { at, found: 0x00 }),
        (8194, &[0x03], WalError::PageFlags { at: second, found: 0x03 }),
        (8194, &[0x09], WalError::PageFlags { at: second, found: 0x09 }),
        (4, &[0], WalError::Timeline { at, found: 0, lowest: 1, highest: 2 }),
        (4, &[3], WalError::Timeline { at, found: 3, lowest: 1, highest: 2 }),
        (8, &[1], WalError::PageAddress { at, found: Lsn(START + 1) }),
        (24, &[98], WalError::SystemId { at: lsn(MIB), found: 99, expected: 98 }),
        (34, &[0x20], WalError::SegmentSize { at, found: 2 << 20, expected: MIB }),
        (37, &[0x40], WalError::PageSize { at, found: 16384 }),
        (8194, &[0], WalError::Continuation { at: second, found: 11_912, expected: 0 }),
        (16, &[1], WalError::Continuation { at, found: 1, expected: 0 }),
        (
            8194,
            &[0, 0, 1, 0, 0, 0, 0, 0x20, 0x30, 0, 0, 0, 0, 0, 0, 0],
            WalError::Continuation { at: second, found: 0, expected: 11_912 },
        ),
        (8208, &[0xFF], WalError::Continuation { at: second, found: 12_031, expected: 11_912 }),
    ];
    for (at, bytes, expected) in cases {
        assert_eq!(patched(at, bytes).unwrap_err(), expected);
    }
    let mut back = Wal::new(START);
    back.timeline = 2;
    back.data(8100);
    back.timeline = 1;
    back.data(9000);
    let found = back.walk().unwrap_err();
    assert!(matches!(found, WalError::Timeline { found: 1, lowest: 2, .. }), "{found}");
}

#[test]
fn headers_of_records_are_checked() {
    let at = lsn(40);
    let cases: [(usize, &[u8], WalError); 7] = [
        (40, &[23], WalError::Length { at, len: 23 }),
        (43, &[0x40], WalError::Length { at, len: 0x4000_0022 }),
        (48, &0x30_0028u64.to_le_bytes(), WalError::BackLinkAhead { at, found: at }),
        (57, &[2], WalError::Crc { at }),
        (60, &[0, 0], WalError::Crc { at }),
        (70, &[1], WalError::Crc { at }),
        (88, &[1], WalError::BackLink { at: lsn(80), found: lsn(1), expected: at }),
    ];
    for (at, bytes, expected) in cases {
        assert_eq!(patched(at, bytes).unwrap_err(), expected);
    }
}

#[test]
fn records_that_mean_something_must_be_whole() {
    let short = [255, 4, 1, 2, 3, 4];
    let late = [&[255, 8][..], &i64::MAX.to_le_bytes()].concat();
    let block = [0; 30];
    let cases: [(u8, u8, &[u8]); 8] = [
        (1, 0x00, &short),
        (1, 0x20, &short),
        (1, 0x30, &late),
        (1, 0x00, &block),
        (1, 0x00, &[]),
        (0, 0x70, &short),
        (0, 0x40, &short),
        (0, 0xD0, &short),
    ];
    for (manager, info, body) in cases {
        let mut wal = Wal::new(START);
        let at = Lsn(wal.put(manager, info, 3, body));
        let found = wal.walk().unwrap_err();
        assert!(matches!(found, WalError::Record { at: a, .. } if a == at), "{info} {found}");
    }
}

#[test]
fn a_switch_ends_its_segment_wherever_it_lies() {
    // 0: the switch ends the page; 8 and 16: its header goes over to the next one.
    for left in [8, 16, 24, 32, 100] {
        for page in [0, 50, 127] {
            let mut wal = Wal::new(START);
            while wal.at() < START + page * PAGE + 60 {
                wal.data(1000);
            }
            let room = PAGE - wal.at() % PAGE;
            wal.data(usize::try_from(room - left - 24).unwrap());
            let switch = wal.switch();
            let end = wal.at();
            let after = wal.data(10);
            let summary = wal.walk().unwrap();
            assert!(summary.switched && end.is_multiple_of(MIB));
            assert_eq!(summary.last_record, Some(Lsn(after.max(end + 40))));
            let mut cut = wal.walker();
            cut.feed(&wal.bytes[..usize::try_from(end - START).unwrap()]).unwrap();
            assert_eq!(cut.summary().next_record, Some(Lsn(end)));
            if end - switch > 100 {
                let dirty = usize::try_from(end - START - 1).unwrap();
                wal.bytes[dirty] = 1;
                let switch = Lsn(switch);
                let expected = WalError::AfterSwitch { at: Lsn(end - 1), switch };
                assert_eq!(wal.walk(), Err(expected));
            }
        }
    }
}

#[test]
fn a_record_that_was_broken_off_is_given_up_by_name() {
    let mut wal = Wal::new(START);
    wal.data(10);
    wal.broken_off(|at| at);
    wal.data(10);
    assert_eq!(wal.walk().unwrap().records, 3);
    let mut wrong = Wal::new(START);
    wrong.data(10);
    wrong.broken_off(|at| at + 8);
    assert_eq!(wrong.walk(), Err(WalError::Overwrite { at: lsn(8192 + 24) }));
    // Nothing was broken off, nobody gives it up, or it is given up without need.
    let mut without = Wal::new(START);
    without.data(8192 - 40 - 24);
    without.header(8, 0);
    without.data(10);
    assert_eq!(without.walk(), Err(WalError::Overwrite { at: lsn(8192) }));
    let mut plain = Wal::new(START);
    plain.header(8, 0);
    plain.data(10);
    assert_eq!(plain.walk(), Err(WalError::Overwrite { at: lsn(40) }));
    let mut idle = Wal::new(START);
    idle.put(0, 0xD0, 0, &[&[255, 16][..], &[0; 16]].concat());
    assert_eq!(idle.walk(), Err(WalError::Overwrite { at: lsn(40) }));
}

#[test]
fn zeros_are_the_end() {
    for len in [10, 8192 - 40 - 24, 8192 - 40 - 24 - 8, 8192 - 40 - 24 - 24] {
        let mut wal = Wal::new(START);
        wal.data(len);
        let end = wal.at();
        wal.zeros_to(MIB);
        let summary = wal.walk().unwrap();
        assert_eq!((summary.ended, summary.next_record), (Some(Lsn(end)), Some(Lsn(end))));
        let at = usize::try_from(end - START).unwrap();
        for dirty in [at + 4, at + 23, at + 24, at + 9000] {
            let mut wal = Wal { bytes: wal.bytes.clone(), ..wal };
            wal.bytes[dirty] = 1;
            let found = wal.walk().unwrap_err();
            let alone = matches!(found, WalError::AfterEnd { .. } | WalError::Magic { .. });
            assert!(alone || matches!(found, WalError::OtherMagic { .. }), "{found}");
        }
        let mut on = wal.walker();
        on.feed(&wal.bytes).unwrap();
        on.feed(&[0; 100]).unwrap();
        assert_eq!(on.take_summary().ended, Some(Lsn(end)));
        assert!(on.feed(&[1]).is_err());
        assert_eq!(on.feed(&[0]), on.feed(&[1]));
    }
}

#[test]
fn a_walk_may_begin_inside_a_record() {
    let whole = Wal::sample();
    let inside =
        Wal { start: START + 8192, bytes: whole.bytes[8192..].to_vec(), prev: 0, timeline: 1 };
    let summary = inside.walk().unwrap();
    assert_eq!((summary.records, summary.first_follows), (6, Some(lsn(80))));
    let broken = Wal { bytes: whole.bytes[3 * 8192..].to_vec(), start: START + 3 * 8192, ..inside };
    assert_eq!(broken.walk().unwrap().records, 5);
    let odd = WalWalker::new(Timeline::FIRST, Lsn(START + 8), WalSegmentSize::default()).feed(&[]);
    assert_eq!(odd, Err(WalError::Start { at: lsn(8) }));
}

#[test]
fn a_record_that_claims_much_holds_little() {
    let mut wal = Wal::new(START);
    wal.header(0, 0);
    let mut record = wal.sealed(1, 0x80, 3, &[254, 0, 0, 0, 0x3F]);
    record[..4].copy_from_slice(&0x3FFF_0000u32.to_le_bytes());
    wal.bytes.extend(&record);
    wal.bytes.resize(8192, 7);
    let mut left = 0x3FFF_0000u32 - 8152;
    while wal.bytes.len() < 1 << 20 {
        wal.header(1, left);
        wal.bytes.resize(wal.bytes.len().next_multiple_of(8192), 7);
        left -= 8168;
    }
    let mut walker = wal.walker();
    walker.feed(&wal.bytes).unwrap();
    assert_eq!(walker.summary().records, 0);
    assert!(walker.chain.held() <= 128, "{}", walker.chain.held());
}

#[test]
fn restore_points_are_bounded() {
    let mut wal = Wal::new(START);
    let body = [&[255, 72][..], &[0; 72]].concat();
    for _ in 0..1100 {
        wal.put(0, 0x70, 0, &body);
    }
    assert_eq!(wal.walk().unwrap().restore_points.len(), 1000);
}

proptest! {
    #[test]
    fn pieces_do_not_matter(cuts in prop::collection::vec(0..=Wal::sample().bytes.len(), 0..60)) {
        let wal = Wal::sample();
        let mut cuts = cuts;
        cuts.extend([0, wal.bytes.len()]);
        cuts.sort_unstable();
        let mut walker = wal.walker();
        for cut in cuts.windows(2) {
            prop_assert_eq!(walker.feed(&wal.bytes[cut[0]..cut[1]]), Ok(()));
        }
        prop_assert_eq!(walker.summary(), wal.walk().unwrap());
    }

    #[test]
    fn damage_never_panics(
        damage in prop::collection::vec((0..9 * 8192usize, any::<u8>()), 1..20),
        piece in 1..9000usize,
    ) {
        let mut wal = Wal::sample();
        let len = wal.bytes.len();
        damage.iter().for_each(|(at, byte)| wal.bytes[at % len] = *byte);
        let mut walker = wal.walker();
        let pieces = wal.bytes.chunks(piece).map(|piece| walker.feed(piece));
        let found = pieces.collect::<Result<Vec<_>, _>>().map(drop);
        prop_assert_eq!(found, wal.walk().map(drop));
    }

    #[test]
    fn noise_never_panics(noise in prop::collection::vec(any::<u8>(), 0..300), start: u64) {
        for start in [start & !8191, !8191, 0] {
            let mut wal = Wal::new(start & !(MIB - 1));
            let mut walker = wal.walker();
            let _ = walker.feed(&noise);
            if start < u64::MAX - 2 * MIB {
                wal.header(0, 0);
            }
            wal.bytes.extend(&noise);
            let _ = wal.walker().feed(&wal.bytes);
        }
    }
}

#[test]
fn every_commit_is_told_with_its_own_time_and_place() {
    let mut wal = Wal::new(START);
    wal.data(100);
    let first = Lsn(wal.commit(7, 100));
    let second = Lsn(wal.commit(8, 50));
    wal.put(1, 0x20, 9, &[&[255, 8][..], &200_000_000i64.to_le_bytes()].concat());
    wal.data(9000);
    let third = Lsn(wal.commit(10, 70));
    let end = Lsn(wal.at());
    let time = |seconds: i64| jiff::Timestamp::from_second(946_684_800 + seconds).unwrap();
    for piece in [1, 100, 8192, wal.bytes.len()] {
        let segment = WalSegmentSize::new(MIB).unwrap();
        let mut commits = Commits::new(Timeline::FIRST, Lsn(START), segment);
        let mut told = Vec::new();
        for piece in wal.bytes.chunks(piece) {
            commits.feed(piece, |commit| told.push(commit)).unwrap();
        }
        let seen: Vec<_> = told.iter().map(|one| (one.at, one.xid, one.time)).collect();
        assert_eq!(seen, [(first, 7, time(100)), (second, 8, time(50)), (third, 10, time(70))]);
        assert_eq!(told[2].end, end);
    }
}
