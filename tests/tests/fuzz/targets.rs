//! The targets, each with the properties that no input may break.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use drctl_model::{
    Beat, DrillId, Facts, IndexPlace, Lineage, LogAt, LogPlace, Lsn, Manifest, ManifestError,
    Marker, MarkerError, PageRef, RepositoryId, Stream, Timeline,
};
use drctl_policies::watch::{Heard, judge};
use drctl_store::{
    FormatError, MAX_ENVELOPE_BYTES, SealError, Sealer, decode_beat, decode_manifest,
    decode_marker, digest, encode_manifest, encode_marker, host_id, layout, layout::Kind,
    open_bytes, open_facts, open_segment, read_page,
};
use drctl_tests::damage::unproven_manifest;
use drctl_tests::envelope::{BEAT, sealed};
use object_store::path::Path;
use serde_json::Value;

use crate::documents::{Keys, backup, beat, facts, long_stream, manifest, page, segment, source};
use crate::{Target, alone};

/// The most plain bytes that the sealed documents may claim.
const PLAIN_LIMIT: usize = 1 << 20;

/// Whatever the input: what people read of it is short, and nothing that a terminal obeys.
fn check_words(error: &dyn std::error::Error) {
    // age's own words have two lines.
    let said = error.to_string().replace("format.\nHave", "format. Have");
    assert!(said.len() < 1_000 && !said.contains(char::is_control), "{said:?}");
    assert!(!said.contains('\u{202e}'), "{said:?}");
    if let Some(cause) = error.source() {
        check_words(cause);
    }
}

/// An outcome's name: of an error, what kind it is.
fn format_outcome<T>(done: &Result<T, FormatError>) -> String {
    let Err(error) = done else { return "accepted".to_owned() };
    check_words(error);
    assert!(!error.code().is_empty() && error.hint().is_some(), "{error:?}");
    match error {
        FormatError::TooLarge { .. } => "too large",
        FormatError::Json { what, .. } => return format!("no JSON of a {what}"),
        FormatError::NoEnvelope { .. } => return "no signed document".to_owned(),
        FormatError::PayloadType => "payload type",
        FormatError::Malformed { .. } => "malformed",
        FormatError::Untrusted { .. } => "untrusted",
        FormatError::Manifest(ManifestError::TooNew { .. }) => "manifest too new",
        FormatError::Manifest(ManifestError::UnknownFeature { .. }) => "unknown feature",
        FormatError::Manifest(_) => "inconsistent",
        FormatError::Marker(MarkerError::Foreign(_)) => "foreign marker",
        FormatError::Marker(MarkerError::TooNew { .. }) => "marker too new",
        FormatError::Page { .. } => "another page",
        _ => "other",
    }
    .to_owned()
}

fn seal_outcome<T>(done: &Result<T, SealError>) -> String {
    if let Err(error) = done {
        check_words(error);
    }
    match done {
        Ok(_) => "accepted".to_owned(),
        Err(SealError::Altered { what }) => format!("altered {what}"),
        Err(SealError::WrongKey) => "wrong key".to_owned(),
        Err(SealError::Decrypt(_)) => "decrypt".to_owned(),
        Err(SealError::Decompress { what }) => {
            // Without what it quotes.
            let plain =
                |word: &&str| word.chars().all(|c| c.is_ascii_alphabetic() || "':".contains(c));
            let words: Vec<&str> = what.split(' ').filter(plain).take(6).collect();
            format!("decompress: {}", words.join(" "))
        }
        Err(other) => format!("other: {other}"),
    }
}

#[test]
fn marker() {
    let alone = alone();
    let time = "2026-03-01T00:00:00Z".parse().expect("a time");
    let marker = Marker::new(RepositoryId::new(7), time);
    let newer = Marker { min_reader: 2, ..marker.clone() };
    let seeds = [marker, newer].iter().map(encode_marker).collect();
    let reach = ["accepted", "no JSON", "foreign marker", "marker too new", "too large"];
    Target { _alone: alone, name: "marker", seeds, heap: 0, reach: &reach }.fuzz(|input, _| {
        let done = decode_marker(input);
        if let Ok(marker) = &done {
            assert!(marker.format == "drctl" && marker.min_reader <= 1, "{marker:?}");
        }
        format_outcome(&done)
    });
}

/// The payload that an envelope carries, read by other code.
fn payload(envelope: &[u8]) -> Option<Vec<u8>> {
    let value: Value = serde_json::from_slice(envelope).ok()?;
    STANDARD.decode(value.get("payload")?.as_str()?).ok()
}

#[test]
fn an_altered_envelope_verifies_only_with_the_same_payload() {
    let alone = alone();
    let keys = Keys::new();
    let mut other = manifest(&keys);
    other.streams.truncate(1);
    let seeds: Vec<_> =
        [&manifest(&keys), &other].map(|m| encode_manifest(m, &keys.signing)).into();
    let signed: Vec<_> = seeds.iter().map(|seed| payload(seed).expect("a payload")).collect();
    let reach = ["accepted", "no signed document", "payload type", "malformed", "untrusted"];
    Target { _alone: alone, name: "envelope", seeds, heap: 0, reach: &reach }.fuzz(|input, _| {
        let done = decode_manifest(input, &keys.trust);
        if done.is_ok() {
            let payload = payload(input).expect("it was accepted");
            assert!(signed.contains(&payload), "another payload verifies");
        }
        // What is only looked at may be anything, but must not do harm.
        if let Some(unproven) = unproven_manifest(input) {
            use_manifest(&unproven);
        }
        format_outcome(&done)
    });
}

/// Asks a manifest for all it can say.
fn use_manifest(manifest: &Manifest) {
    let _ = (manifest.plain_bytes(), manifest.sealed_bytes(), manifest.check().is_ok());
    let _ = manifest.summary(digest(b"")).is_good();
    let _ = manifest.belongs(&RepositoryId::new(7), &source(), &backup());
    for stream in &manifest.streams {
        let _ = (stream.paged_segments(), stream.plain_of(0), stream.plain_of(u64::MAX));
        let _ = (stream.check_segments(u64::MAX, &stream.tail), stream.objects());
    }
}

/// Reads pages of a stream that is not to be believed, all of them the same two segments.
fn use_pages(stream: &Stream) {
    let bytes = page(0);
    for page in stream.pages.iter().take(8) {
        let page = PageRef { bytes: bytes.len() as u64, sha256: digest(&bytes), ..page.clone() };
        let _ = read_page(stream, &page, &bytes);
    }
}

#[test]
fn a_signed_manifest_is_used_only_when_it_fits() {
    let alone = alone();
    let keys = Keys::new();
    let mut newer = manifest(&keys);
    newer.header.features.push("deltas".to_owned());
    let mut newest = manifest(&keys);
    newest.header.min_reader = 2;
    let mut failed = manifest(&keys);
    failed.children[1].status = 1;
    let seeds = [manifest(&keys), newer, newest, failed]
        .map(|m| serde_json::to_vec(&m).expect("JSON"))
        .into();
    let reach = [
        "accepted",
        "no JSON of a manifest",
        "manifest too new",
        "unknown feature",
        "inconsistent",
    ];
    Target { _alone: alone, name: "signed manifest", seeds, heap: 0, reach: &reach }.fuzz(
        |input, _| {
            let envelope = keys.envelope(input);
            let done = decode_manifest(&envelope, &keys.trust);
            if let Ok((manifest, _)) = &done {
                assert!(manifest.children.iter().all(|child| child.status == 0), "{manifest:?}");
                assert!(
                    manifest.header.check().is_ok() && manifest.header.has("pg_dump"),
                    "{manifest:?}"
                );
                for stream in &manifest.streams {
                    let listed = stream.paged_segments() + stream.tail.len() as u64;
                    assert_eq!(listed, stream.segments, "{stream:?}");
                    use_pages(stream);
                }
                use_manifest(manifest);
            }
            format_outcome(&done)
        },
    );
}

#[test]
fn a_signed_beat_is_judged_only_when_it_fits() {
    let alone = alone();
    let keys = Keys::new();
    let good = beat();
    let mut newer = good.clone();
    newer.header.features.push("tides".to_owned());
    let seeds = [good.clone(), newer, Beat { findings: None, ..good.clone() }]
        .map(|beat| serde_json::to_vec(&beat).expect("JSON"))
        .into();
    let reach = ["accepted", "no JSON of a beat", "unknown feature", "inconsistent"];
    let (id, host) = (RepositoryId::new(7), host_id("db1"));
    Target { _alone: alone, name: "signed beat", seeds, heap: 0, reach: &reach }.fuzz(
        |input, _| {
            let envelope = sealed(BEAT, input, &keys.signing);
            let done = decode_beat(&envelope, &keys.trust, &id, (&host, 7));
            if let Ok((beat, _)) = &done {
                assert!(beat.seq == 7 && beat.host == "db1" && beat.repository == id, "{beat:?}");
                assert!((1..=604_800).contains(&beat.next_seconds), "{beat:?}");
                let heard = Heard { beat: beat.clone(), signer: String::new(), stored: None };
                let _ = (judge(&heard, good.written, None), beat.stands_for(&good, true));
            }
            format_outcome(&done)
        },
    );
}

#[test]
fn an_altered_page_is_never_taken() {
    let alone = alone();
    let stream = long_stream();
    let seeds = vec![page(0), page(1)];
    Target { _alone: alone, name: "page", seeds, heap: 0, reach: &["another page"] }.fuzz(
        |input, _| {
            let done = read_page(&stream, &stream.pages[1], input);
            assert!(done.is_err() || input == page(1), "an altered page is taken");
            format_outcome(&done)
        },
    );
}

#[test]
fn a_page_that_a_manifest_names_is_taken_only_when_it_fits() {
    let alone = alone();
    let seeds = vec![page(0), page(1)];
    let reach = ["accepted", "no JSON of a page", "another page", "inconsistent"];
    Target { _alone: alone, name: "named page", seeds, heap: 0, reach: &reach }.fuzz(|input, _| {
        let mut stream = long_stream();
        let (bytes, sha256) = (input.len() as u64, digest(input));
        stream.pages[1] = PageRef { n: 1, segments: 4, bytes, sha256 };
        let done = read_page(&stream, &stream.pages[1], input);
        for (found, n) in done.iter().flatten().zip(4..) {
            assert_eq!((found.n, found.plain), (n, segment(n).plain));
        }
        assert!(done.as_ref().is_err() || done.as_ref().is_ok_and(|list| list.len() == 4));
        format_outcome(&done)
    });
}

#[test]
fn an_altered_segment_never_opens() {
    let alone = alone();
    let keys = Keys::new();
    let plain: Vec<u8> = (0..2_000u32).map(|i| (i * i / 7).to_le_bytes()[0]).collect();
    let sealed = Sealer::new(&keys.recipients, 3).seal(0, &plain).expect("seal");
    let mut seeds = vec![sealed.bytes.clone(), keys.seal(b""), keys.seal(&[0; 200_000])];
    let known = seeds.clone();
    seeds.push(Keys::new().seal(b"a stranger's"));
    let reach = ["accepted", "wrong key", "decrypt, altered length", "decrypt, altered SHA-256"];
    let target =
        Target { _alone: alone, name: "segment", seeds, heap: 2 * PLAIN_LIMIT, reach: &reach };
    target.fuzz(|input, _| {
        let bare = open_bytes(input, PLAIN_LIMIT, &keys.identities);
        assert!(bare.is_err() || known.iter().any(|k| k == input), "an altered file opens");
        let listed = open_segment(&sealed.segment, input, &keys.identities);
        assert!(listed.is_err() || input == sealed.bytes, "an altered segment opens");
        format!("{}, {}", seal_outcome(&bare), seal_outcome(&listed))
    });
}

#[test]
fn a_frame_from_a_key_holder_opens_only_within_bounds() {
    let alone = alone();
    let keys = Keys::new();
    let text = b"rows and rows and rows of much the same, and rows again".repeat(40);
    let plains = [&b""[..], b"x", &text, &[0; 300_000]];
    let frame = |plain: &&[u8]| age::decrypt(&keys.identity, &keys.seal(plain)).expect("decrypt");
    let mut seeds: Vec<_> = plains.iter().map(frame).collect();
    // Larger than may be read: a bomb of few bytes.
    seeds.push(frame(&&[0; 4 * PLAIN_LIMIT][..]));
    seeds.push([seeds[1].clone(), seeds[2].clone()].concat());
    let reach = [
        "accepted",
        "decompress: it holds more than bytes",
        "decompress: bytes follow the frame",
        "decompress: Restored data doesn't match checksum",
        "decompress: Data corruption detected",
        "decompress: Src size is incorrect",
        "decompress: Destination buffer is too small",
    ];
    let target =
        Target { _alone: alone, name: "frame", seeds, heap: 2 * PLAIN_LIMIT, reach: &reach };
    target.fuzz(|input, _| {
        let sealed = age::encrypt(&keys.identity.to_public(), input).expect("encrypt");
        let done = open_bytes(&sealed, PLAIN_LIMIT, &keys.identities);
        if let Ok(plain) = &done {
            assert!(plain.len() <= PLAIN_LIMIT);
            assert!(plains.contains(&plain.as_slice()), "the checksum lets another text pass");
        }
        seal_outcome(&done)
    });
}

#[test]
fn sealed_facts_open_or_say_why() {
    let alone = alone();
    let keys = Keys::new();
    let mut base = manifest(&keys);
    let good = base.sealed.clone();
    let strangers = manifest(&Keys::new()).sealed;
    let seeds = [&good, &strangers].map(|sealed| sealed.clone().into_bytes()).into();
    let reach = ["accepted", "wrong key", "decrypt", "decompress: the sealed facts are no"];
    let target =
        Target { _alone: alone, name: "sealed facts", seeds, heap: 2 * PLAIN_LIMIT, reach: &reach };
    target.fuzz(|input, _| {
        base.sealed = String::from_utf8_lossy(input).into_owned();
        let done = open_facts(&base, &keys.identities);
        assert!(done.is_err() || base.sealed == good, "altered facts open");
        seal_outcome(&done)
    });
}

#[test]
fn facts_from_a_key_holder_parse_or_say_why() {
    let alone = alone();
    let keys = Keys::new();
    let mut base = manifest(&keys);
    let seeds = vec![serde_json::to_vec(&facts()).expect("JSON")];
    let reach = ["accepted", "decompress: the sealed facts: "];
    let target =
        Target { _alone: alone, name: "facts", seeds, heap: 4 * PLAIN_LIMIT, reach: &reach };
    target.fuzz(|input, _| {
        base.sealed = STANDARD.encode(keys.seal(input));
        let done = open_facts(&base, &keys.identities);
        if let Ok(found) = &done {
            let again = serde_json::to_vec(found).expect("JSON");
            let again: Facts = serde_json::from_slice(&again).expect("what is read is written");
            assert_eq!(&again, found);
        }
        seal_outcome(&done)
    });
}

/// That the parts of a key make the same key.
fn check_made_alike(key: &Path, kind: &Kind) {
    match kind {
        Kind::Audit => {
            let (log, n) = layout::audit_batch_at(key).expect("a part of an audit log");
            assert_eq!(&layout::audit_batch(&log, n), key);
        }
        Kind::Statement(source) => {
            let (of, n) = layout::statement_at(key).expect("a statement");
            assert_eq!((&layout::statement(&of, n), &of), (key, source));
        }
        Kind::Drill(source) => {
            let (of, drill) = layout::drill_at(key).expect("a drill");
            assert_eq!((&layout::drill(&of, &drill), &of), (key, source));
        }
        _ => {}
    }
}

#[test]
fn a_key_is_what_its_parts_say_or_foreign() {
    let alone = alone();
    let (source, backup, stream) = (source(), backup(), long_stream().id);
    let of = (u64::MAX, Timeline::FIRST);
    let range = LogPlace::of_wal(of, (Lsn(1 << 24), Lsn(1 << 25)));
    let lineage = Lineage::of_timeline(1, Timeline::FIRST);
    let index = IndexPlace { lineage, start: LogAt(0), end: LogAt(1 << 26) };
    let drill: DrillId = backup.as_str().parse().expect("built alike");
    let keys = [
        layout::marker(),
        layout::probe(7),
        layout::manifest(&source, &backup),
        layout::segment(&source, &backup, &stream, 0),
        layout::segment(&source, &backup, &stream, 12_345_678),
        layout::page(&source, &backup, &stream, 3),
        layout::piece(&source, &LogPlace::of_history(of)),
        layout::piece(&source, &range),
        layout::log_index(&source, &index),
        layout::drill(&source, &drill),
        layout::acceptance(&source, &backup),
        layout::tombstone(&source, &backup),
        layout::log_floor(&source, &index.lineage, index.end),
        layout::statement(&source, 7),
        layout::beat(&"db1.example".parse().expect("a host"), 7),
        layout::audit_batch(&drctl_model::AuditLogId::new(7), 1),
    ];
    let seeds = keys.iter().map(|key| key.as_ref().as_bytes().to_vec()).collect();
    let reach = [
        "Marker",
        "Probe",
        "Manifest",
        "Data",
        "Log",
        "Drill",
        "Acceptance",
        "Removed",
        "Statement",
        "Beat",
        "Audit",
        "Foreign",
        "no path",
    ];
    Target { _alone: alone, name: "key", seeds, heap: 0, reach: &reach }.fuzz(|input, _| {
        let text = String::from_utf8_lossy(input).into_owned();
        let Ok(key) = Path::parse(&text) else { return "no path".to_owned() };
        let kind = layout::classify(&key);
        match &kind {
            Kind::Manifest(source, backup) => assert_eq!(key, layout::manifest(source, backup)),
            Kind::Data(source, backup) => {
                let below = format!("{}/", layout::backup(source, backup));
                assert!(key.as_ref().starts_with(&below), "{key}");
            }
            Kind::Marker => assert_eq!(key, layout::marker()),
            Kind::Probe => assert!(key.as_ref().starts_with("probe/"), "{key}"),
            Kind::Log(source) => {
                let made = match layout::piece_at(&key) {
                    Some((of, place)) => (layout::piece(&of, &place), of),
                    None => {
                        let (of, place) = layout::log_index_at(&key).expect("piece or index");
                        (layout::log_index(&of, &place), of)
                    }
                };
                assert_eq!((&made.0, &made.1), (&key, source));
            }
            Kind::Acceptance(source, backup) => {
                assert_eq!(key, layout::acceptance(source, backup));
            }
            Kind::Removed(source) => {
                let made = match layout::tombstone_at(&key) {
                    Some((of, backup)) => (layout::tombstone(&of, &backup), of),
                    None => {
                        let (of, lineage, at) = layout::log_floor_at(&key).expect("a log floor");
                        (layout::log_floor(&of, &lineage, at), of)
                    }
                };
                assert_eq!((&made.0, &made.1), (&key, source));
            }
            Kind::Beat(host) => assert!(key.prefix_matches(&layout::beats(host)), "{key}"),
            other => check_made_alike(&key, other),
        }
        let name = format!("{kind:?}");
        name.split('(').next().expect("a name").to_owned()
    });
}

#[test]
fn what_is_longer_than_its_bound_is_not_parsed() {
    let _alone = alone();
    let keys = Keys::new();
    let long = vec![b' '; MAX_ENVELOPE_BYTES + 1];
    let done = decode_manifest(&long, &keys.trust);
    assert_eq!(format_outcome(&done), "too large");
    assert_eq!(format_outcome(&decode_manifest(&long[1..], &keys.trust)), "no signed document");
    assert_eq!(format_outcome(&decode_marker(&vec![b' '; (64 << 10) + 1])), "too large");
}

/// Numbers that fit each other, but nothing else: too rare for chance.
#[test]
fn extreme_numbers_are_refused_or_harmless() {
    let _alone = alone();
    let keys = Keys::new();
    let huge = u64::MAX;
    let with = |pages: &[u64], segments, plain_bytes, segment_bytes| {
        let mut manifest = manifest(&keys);
        let sha256 = digest(b"");
        let page =
            |(segments, n): (&u64, u64)| PageRef { n, segments: *segments, bytes: 0, sha256 };
        let pages = pages.iter().zip(0..).map(page).collect();
        let tail = Vec::new();
        let id = manifest.streams[1].id.clone();
        let sealed_bytes = huge;
        manifest.streams[1] =
            Stream { id, segment_bytes, segments, plain_bytes, sealed_bytes, pages, tail };
        manifest
    };
    let cases = [
        with(&[huge], huge, huge, 1),
        with(&[huge, 4], huge, huge, 1),
        with(&[huge, 4, 4], huge, huge, 1),
        with(&[huge - 4, 4, 4], huge, huge, 1),
        with(&[4, huge - 4], huge, huge, 1),
        with(&[huge / 2, huge / 2, 1], huge, huge, 1),
        with(&[1], 1, huge, huge),
        with(&[2], 2, huge, huge - 1),
    ];
    for (case, manifest) in cases.iter().enumerate() {
        use_manifest(manifest);
        let envelope = encode_manifest(manifest, &keys.signing);
        if let Ok((manifest, _)) = decode_manifest(&envelope, &keys.trust) {
            let stream = &manifest.streams[1];
            let listed = stream.pages.iter().map(|page| u128::from(page.segments)).sum::<u128>();
            assert_eq!(listed, u128::from(stream.segments), "case {case}");
            use_pages(stream);
        }
    }
}
