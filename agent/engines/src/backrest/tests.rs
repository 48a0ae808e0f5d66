//! On what pgBackRest 2.45 wrote, kept in `samples`.

use drctl_model::{ExternalType, Lsn, Timeline, WalSegmentSize};

use super::backup::{Said, parse};
use super::control;
use super::*;

const STANZA: &str = "main";

fn info(text: &str) -> Info {
    Info::parse(text.as_bytes(), STANZA, 1).unwrap()
}

fn name(text: &str) -> SegmentName {
    SegmentName::parse(text).unwrap()
}

fn sixteen() -> WalSegmentSize {
    WalSegmentSize::default()
}

#[test]
fn info_tells_of_every_backup_what_its_record_needs() {
    let info = info(include_str!("samples/info.json"));
    assert!(info.is_whole() && !info.busy);
    assert_eq!((info.cipher.as_str(), info.status.code), ("none", 0));
    let cluster = info.current().unwrap();
    assert_eq!((cluster.id, cluster.version.as_str()), (1, "15"));
    assert_eq!(cluster.system_id, 7_712_297_549_423_361_603);
    let ends = ("000000010000000000000001".to_owned(), "00000001000000000000000D".to_owned());
    assert_eq!(info.archives[0].segments, Some(ends));
    let types: Vec<ExternalType> = info.backups.iter().map(|b| b.backup_type).collect();
    use ExternalType::{Differential, Full, Incremental};
    assert_eq!(types, [Full, Differential, Incremental]);
    let full = info.backup("20261126-021324F").unwrap();
    assert_eq!(full.annotation.as_deref(), Some("20261126T020000Z-abcdef"));
    assert_eq!((full.prior.as_deref(), full.references.len()), (None, 0));
    let last = &info.backups[2];
    assert_eq!(last.label, "20261126-021324F_20261126-021424I");
    assert_eq!(last.annotation, None);
    assert_eq!(last.prior.as_deref(), Some("20261126-021324F_20261126-021422D"));
    assert_eq!(last.references, ["20261126-021324F", "20261126-021324F_20261126-021422D"]);
    assert_eq!(last.lsn, Some((Lsn(0xD00_0028), Lsn(0xD00_0100))));
    let wal = "00000001000000000000000D".to_owned();
    assert_eq!(last.wal, Some((wal.clone(), wal)));
    assert_eq!(last.started.as_second(), 1_795_659_264);
    assert_eq!(last.stopped.as_second(), 1_795_659_266);
    assert_eq!((last.bytes, last.delta_bytes), (23_000_777, 24_842));
    assert_eq!(last.repository_delta_bytes, Some(540));
    assert_eq!((last.version.as_str(), last.format, last.page_errors), ("2.45", 5, false));
}

#[test]
fn a_stanza_in_trouble_is_never_a_stanza_without_backups() {
    let gone = info(include_str!("samples/info-no-stanza.json"));
    assert_eq!((gone.status.code, gone.is_whole()), (1, false));
    assert_eq!(gone.status.message, "missing stanza path");
    let unreadable = info(include_str!("samples/info-unreadable.json"));
    assert_eq!((unreadable.status.code, unreadable.is_whole()), (99, false));
    assert!(unreadable.status.message.starts_with("[FileOpenError]"));
    // What a wrong passphrase leaves in it: neither JSON nor text.
    let text = include_str!("samples/info-unreadable.json").as_bytes();
    let at = text.windows(4).position(|four| four == b"/srv").unwrap();
    let noise = [&text[..at], b"P\xd6\x14\x0b\x1f\x8f \\b", &text[at..]].concat();
    let wrong = Info::parse(&noise, STANZA, 1).unwrap();
    assert_eq!((wrong.status.code, wrong.is_whole()), (99, false));
    // A stanza without backups is whole.
    let empty = include_str!("samples/info-no-stanza.json").replace("\"code\":1", "\"code\":2");
    assert!(info(&empty).is_whole());
}

#[test]
fn an_info_of_another_form_is_refused() {
    let good = include_str!("samples/info.json");
    let cases = [
        ("does not mention", good.replace("\"name\":\"main\"", "\"name\":\"other\"")),
        ("JSON", good[..good.len() - 4].to_owned()),
        ("label", good.replace("20261126-021324F\",\"lsn\"", "latest\",\"lsn\"")),
        ("no type", good.replace("\"type\":\"incr\"", "\"type\":\"copy\"")),
        ("not that of its label", good.replace("\"type\":\"incr\"", "\"type\":\"diff\"")),
        ("LSN", good.replace("0/D000028", "0-D000028")),
        ("time", good.replace("1795659264", "9223372036854775807")),
    ];
    for (word, text) in cases {
        let said = Info::parse(text.as_bytes(), STANZA, 1).unwrap_err().to_string();
        assert!(said.contains(word), "{word}: {said}");
    }
    // Of another repository's backups nothing is told.
    let other = good.replace("\"repo-key\":1", "\"repo-key\":2");
    assert!(info(&other).backups.is_empty());
}

#[test]
fn more_of_a_backup_names_its_tablespaces() {
    let text = include_str!("samples/info-set.json").as_bytes();
    let detail = Detail::parse(text, STANZA, "20261126-021534F").unwrap();
    let place = "/srv/ts1".to_owned();
    assert_eq!(detail.tablespaces, [Tablespace { oid: 16391, name: "fast".into(), place }]);
    assert!(detail.links.is_empty() && detail.damaged.is_empty());
    assert!(Detail::parse(text, STANZA, "20200101-000000F").is_err());
}

fn listed(text: &str) -> ArchiveListing {
    ArchiveListing::read(text.as_bytes()).unwrap()
}

#[test]
fn a_listing_tells_segments_from_all_else() {
    let listing = listed(include_str!("samples/repo-ls.json"));
    let archive = listing.of(1).unwrap();
    assert_eq!((archive.id.as_str(), archive.version.as_str()), ("15-1", "15"));
    assert_eq!(archive.segments.len(), 13);
    // The three `.backup` files.
    assert_eq!((archive.others, archive.partials.len(), archive.histories.len()), (3, 0, 0));
    let first = archive.segments[0];
    assert_eq!(first.name.to_string(), "000000010000000000000001");
    assert_eq!(first.sha1[..3], [0x58, 0xdf, 0x62]);
    assert_eq!((first.bytes, first.written.as_second()), (1_295_287, 1_795_659_204));
    assert_eq!(archive.last_of(Timeline::FIRST), Some(name("00000001000000000000000D")));
    assert_eq!(archive.last_of(Timeline::new(2).unwrap()), None);
    assert!(archive.has(name("000000010000000000000007")));
    assert!(!archive.has(name("00000001000000000000000E")));
}

#[test]
fn a_listing_without_the_stanza_is_no_empty_archive() {
    // As of a repository that is not there: with status 0.
    let said = ArchiveListing::read(&b"{\".\":{\"type\":\"path\"}}"[..]).unwrap_err();
    assert!(said.to_string().contains("archive.info"), "{said}");
    for text in ["", "[]", "{\"archive.info\":{\"type\":\"file\"", "{\"a\":1}"] {
        assert!(ArchiveListing::read(text.as_bytes()).is_err(), "{text}");
    }
    assert_eq!(listed(&of(&[])).archives, []);
}

/// A listing of these files.
fn of(paths: &[&str]) -> String {
    let file = |path: &&str| format!("\"{path}\":{{\"type\":\"file\",\"size\":1,\"time\":2}}");
    let files: Vec<String> = paths.iter().chain(&["archive.info"]).map(file).collect();
    format!("{{\".\":{{\"type\":\"path\"}},\"15-1\":{{\"type\":\"path\"}},{}}}", files.join(","))
        .replace(if paths.is_empty() { "\"15-1\":{\"type\":\"path\"}," } else { "\n" }, "")
}

const SHA: &str = "58df62a88428e184b19d6f3a41d60e3eb173f66e";

#[test]
fn what_is_no_whole_segment_is_not_counted_as_one() {
    let file = |name: &str, rest: &str| format!("15-1/0000000100000000/{name}{rest}");
    let seven = "000000010000000000000007";
    let paths = [
        file(seven, &format!("-{SHA}.gz")),
        file("000000010000000000000008", &format!("-{SHA}")),
        file("000000010000000000000009", &format!(".partial-{SHA}.gz")),
        file("00000001000000000000000A", &format!("-{SHA}.gz.pgbackrest.tmp")),
        file("00000001000000000000000B", "-58df.gz"),
        file("00000001000000000000000c", &format!("-{SHA}.gz")),
        file("000000000000000000000001", &format!("-{SHA}.gz")),
        "15-1/00000002.history".to_owned(),
        "15-1/0000000X.history".to_owned(),
        format!("9.6-3/0000000100000000/{seven}-{SHA}.gz"),
        format!("other/0000000100000000/{seven}-{SHA}.gz"),
    ];
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    let listing = listed(&of(&paths));
    assert_eq!(listing.archives.iter().map(|a| a.database_id).collect::<Vec<_>>(), [1, 3]);
    let archive = listing.of(1).unwrap();
    let names: Vec<String> = archive.segments.iter().map(|s| s.name.to_string()).collect();
    assert_eq!(names, [seven, "000000010000000000000008"]);
    assert_eq!(archive.partials, [name("000000010000000000000009")]);
    assert_eq!(archive.histories, [Timeline::new(2).unwrap()]);
    assert_eq!(archive.others, 5);
    assert_eq!(listing.of(3).unwrap().version, "9.6");
}

/// An archive with these segments, whose contents are told apart by a digit.
fn archive(names: &[(&str, char)]) -> ClusterArchive {
    let path = |(name, digit): &(&str, char)| {
        format!("15-1/{}/{name}-{}.gz", &name[..16], digit.to_string().repeat(40))
    };
    let paths: Vec<String> = names.iter().map(path).collect();
    let listing = listed(&of(&paths.iter().map(String::as_str).collect::<Vec<_>>()));
    listing.of(1).unwrap().clone()
}

fn gaps(walk: &Walk) -> Vec<(String, String, u64)> {
    walk.gaps()
        .map(|gap| (gap.first().to_string(), gap.last().to_string(), gap.segments()))
        .collect()
}

#[test]
fn a_gap_is_found_also_where_the_numbers_carry() {
    let names = [
        ("0000000100000000000000FD", 'a'),
        ("0000000100000000000000FE", 'a'),
        ("000000010000000100000001", 'a'),
        ("000000010000000100000002", 'a'),
        ("000000020000000100000002", 'a'),
        ("000000020000000100000004", 'a'),
    ];
    let walk = Walk::over(&archive(&names), sixteen()).unwrap();
    let expected = [
        ("0000000100000000000000FF", "000000010000000100000000", 2),
        ("000000020000000100000003", "000000020000000100000003", 1),
    ];
    assert_eq!(gaps(&walk), expected.map(|(a, b, n)| (a.to_owned(), b.to_owned(), n)));
    assert_eq!(walk.end_of(Timeline::FIRST), Some(Lsn(0x1_0300_0000)));
    // FF follows FE and is followed by 00 of the next number: with 16 MiB, and not with 1 MiB.
    let names = [("0000000100000000000000FF", 'a'), ("000000010000000100000000", 'a')];
    assert_eq!(gaps(&Walk::over(&archive(&names), sixteen()).unwrap()), []);
    let one = WalSegmentSize::new(1 << 20).unwrap();
    assert_eq!(Walk::over(&archive(&names), one).unwrap().gaps().next().unwrap().segments(), 3840);
    // A segment that cannot be.
    assert!(Walk::over(&archive(&[("000000010000000000000100", 'a')]), sixteen()).is_err());
}

#[test]
fn two_contents_under_one_name_are_told_and_are_no_gap() {
    let names = [
        ("000000010000000000000001", 'a'),
        ("000000010000000000000002", 'a'),
        ("000000010000000000000002", 'b'),
        ("000000010000000000000002", 'c'),
        ("000000010000000000000003", 'a'),
    ];
    let walk = Walk::over(&archive(&names), sixteen()).unwrap();
    assert_eq!(walk.doubles, [name("000000010000000000000002")]);
    assert_eq!(gaps(&walk), []);
    assert_eq!(walk.runs.len(), 1);
}

#[test]
fn what_a_backup_needs_is_there_or_named() {
    let names = [
        ("000000010000000000000002", 'a'),
        ("000000010000000000000003", 'a'),
        ("000000010000000000000005", 'a'),
        ("000000020000000000000005", 'a'),
        ("000000020000000000000006", 'a'),
    ];
    let walk = Walk::over(&archive(&names), sixteen()).unwrap();
    let missing = |first: &str, last: &str| {
        let found = walk.missing(name(first), name(last)).unwrap();
        found.iter().map(|gap| (gap.first().to_string(), gap.segments())).collect::<Vec<_>>()
    };
    assert_eq!(missing("000000010000000000000002", "000000010000000000000003"), []);
    let four = ("000000010000000000000004".to_owned(), 1);
    assert_eq!(
        missing("000000010000000000000003", "000000010000000000000005"),
        std::slice::from_ref(&four)
    );
    assert_eq!(
        missing("000000010000000000000004", "000000010000000000000004"),
        std::slice::from_ref(&four)
    );
    let one = ("000000010000000000000001".to_owned(), 1);
    assert_eq!(missing("000000010000000000000001", "000000010000000000000002"), [one]);
    // A backup from a standby that was promoted while it ran.
    assert_eq!(missing("000000010000000000000005", "000000020000000000000006"), []);
    let seven = ("000000020000000000000007".to_owned(), 2);
    assert_eq!(missing("000000010000000000000003", "000000020000000000000008"), [four, seven]);
}

#[test]
fn what_expiry_leaves_between_backups_is_told_from_a_loss() {
    let names = [
        ("000000010000000000000002", 'a'),
        ("000000010000000000000003", 'a'),
        ("000000010000000000000007", 'a'),
        ("000000010000000000000009", 'a'),
    ];
    let walk = Walk::over(&archive(&names), sixteen()).unwrap();
    let needed = [
        (name("000000010000000000000002"), name("000000010000000000000003")),
        (name("000000010000000000000007"), name("000000010000000000000007")),
    ];
    let told: Vec<bool> = walk.gaps().map(|gap| gap.may_be_expired(&needed)).collect();
    assert_eq!(told, [true, false]);
    assert!(walk.gaps().all(|gap| !gap.may_be_expired(&needed[..1])));
}

#[test]
fn verify_is_believed_only_where_every_word_of_it_is_good() {
    let read = |text: &str| Verified::parse(text, STANZA).unwrap();
    let good = read(include_str!("samples/verify-ok.txt"));
    assert!(good.is_good());
    assert_eq!((good.archives.len(), good.backups.len()), (1, 3));
    assert_eq!((good.archives[0].checked, good.archives[0].valid), (12, 12));
    assert_eq!(good.backup("20261126-021324F").unwrap().checked, 964);
    let damaged = read(include_str!("samples/verify-damage.txt"));
    assert!(!damaged.is_good());
    let part = damaged.backup("20261126-021534F").unwrap();
    assert_eq!((part.is_good(), part.checksum, part.state.as_deref()), (false, 1, Some("invalid")));
    assert!(damaged.backup("20261126-021324F").unwrap().is_good());
    // Two contents under one name: not one of the numbers of faults says so.
    let double = read(include_str!("samples/verify-double.txt"));
    assert!(!double.is_good() && !double.archives[0].is_good());
    assert_eq!((double.archives[0].checked, double.archives[0].valid), (14, 12));
    let unusable = read(include_str!("samples/verify-unusable.txt"));
    assert!(!unusable.is_good());
    assert_eq!(unusable.problems, ["No usable backup.info file", "No usable archive.info file"]);
}

#[test]
fn a_verify_that_is_not_understood_is_not_good() {
    let good = include_str!("samples/verify-ok.txt");
    let cases = [
        good.replace("status: ok", "status: fine"),
        good.replace("other: 0", "other: 1"),
        good.replace("size invalid: 0", "torn: 0"),
        good.replace("status: valid", "status: in progress"),
        good.replace("total valid files: 965", "total valid files: 964"),
        good.replace("  archiveId", "  something new\n  archiveId"),
    ];
    for text in cases {
        assert!(!Verified::parse(&text, STANZA).unwrap().is_good(), "{text}");
    }
    for text in ["", "stanza: main", "stanza: other\nstatus: ok", "x\nstatus: ok"] {
        assert_eq!(Verified::parse(text, STANZA), None, "{text}");
    }
    let empty = "stanza: main\nstatus: ok\n  archiveId: none found\n  backup: none found\n";
    assert!(Verified::parse(empty, STANZA).unwrap().is_good());
}

#[test]
fn the_lines_of_a_backup_tell_how_far_it_is() {
    let step = |step| Some(Said::Step(step));
    let cases = [
        (
            "P00   INFO: execute non-exclusive backup start: backup begins after the requested \
             immediate checkpoint completes",
            step(BackupStep::Begun),
        ),
        (
            "P01 DETAIL: backup file /srv/pg/base/5/1255 (768KB, 3.42%) checksum 46f8ebeba7af",
            step(BackupStep::Copied(342)),
        ),
        (
            "P01 DETAIL: backup file /srv/pg/base/5/1 (bundle 1/0, 8KB, 100.00%) checksum 46f8",
            step(BackupStep::Copied(10_000)),
        ),
        (
            "P01 DETAIL: backup file /srv/a (0B, 9.99%)/1 (0B, 99.50%)",
            step(BackupStep::Copied(9950)),
        ),
        ("P00 DETAIL: reference pg_data/PG_VERSION to 20261126-021324F", None),
        (
            "P00   INFO: execute non-exclusive backup stop and wait for all WAL segments to archive",
            step(BackupStep::Archiving),
        ),
        (
            "P00   INFO: new backup label = 20261126-021324F\n",
            Some(Said::Label("20261126-021324F".to_owned())),
        ),
        ("P00   INFO: backup command end: completed successfully", None),
        ("", None),
    ];
    for (line, said) in cases {
        assert_eq!(parse(line), said, "{line}");
    }
}

#[test]
fn the_likeness_of_a_control_file_is_of_the_cluster() {
    let cluster = |version: &str| Cluster { id: 1, system_id: 7, version: version.into() };
    let bytes = control::bytes(&cluster("15")).unwrap();
    assert_eq!(bytes.len(), 8192);
    assert_eq!(bytes[..8], 7u64.to_ne_bytes());
    assert_eq!(bytes[12..16], 202_209_061u32.to_ne_bytes());
    for known in ["13", "14", "16", "17", "18"] {
        assert!(control::bytes(&cluster(known)).is_some(), "{known}");
    }
    // Of others pgBackRest must look itself.
    assert_eq!(control::bytes(&cluster("12")), None);
    assert_eq!(control::bytes(&cluster("19")), None);
}

#[tokio::test]
async fn a_program_that_is_missing_or_another_is_named() {
    let mut rest = BackRest::new(STANZA);
    rest.program = "/nonexistent/pgbackrest".into();
    let error = rest.version().await.unwrap_err();
    assert_eq!(error.to_string(), "cannot find /nonexistent/pgbackrest");
    assert_eq!(error.code(), "tool_missing");
    rest.program = "echo".into();
    let error = rest.version().await.unwrap_err();
    assert_eq!(error.code(), "version_mismatch");
    assert!(error.hint().unwrap().contains("pgbackrest_bin"));
    let failed = rest.verify(None).await.err();
    assert!(matches!(failed.as_ref().and_then(EngineError::own), Some(BackRestError::Says { .. })));
    assert!(matches!(rest.detail("../x").await, Err(EngineError::Config(_))));
}
