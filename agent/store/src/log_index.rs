use drctl_model::{IndexPlace, LogIndex, RepositoryId, Role, SourceId};

use crate::dsse::Document;
use crate::{FormatError, SigningKey, Trust, VerifyingKey};

/// The most bytes of an index.
pub const MAX_LOG_INDEX_BYTES: usize = 4 << 20;

fn document(place: &IndexPlace) -> Document {
    Document {
        payload_type: "application/vnd.drctl.log-index+json",
        what: place.lineage.words().index,
        limit: MAX_LOG_INDEX_BYTES,
    }
}

/// The object of an index: a signed envelope.
///
/// # Errors
/// [`FormatError::TooLarge`]: readers would refuse it.
pub fn encode_log_index(index: &LogIndex, key: &SigningKey) -> Result<Vec<u8>, FormatError> {
    document(&index.place).sign(index, key)
}

/// Verifies, then parses, then checks an index that was found at `place`; with the key that signed it.
///
/// # Errors
/// [`FormatError`]: nobody whom we trust has signed it, or it belongs elsewhere.
pub fn decode_signed_log_index(
    bytes: &[u8],
    trust: &Trust,
    (repository, source): (&RepositoryId, &SourceId),
    place: &IndexPlace,
) -> Result<(LogIndex, VerifyingKey), FormatError> {
    let (index, signer) =
        document(place).read_signed::<LogIndex>(bytes, trust, (source, Role::Log))?;
    index.check(repository, source, place)?;
    Ok((index, signer))
}

#[cfg(test)]
mod tests {
    use drctl_model::{
        Digest, Header, Holds, IndexedPiece, Lineage, LogAt, MAX_INDEX_PIECES, Timeline, WAL,
    };

    use super::*;
    use crate::trust::bound_elsewhere;

    fn index(ranges: &[(u64, u64)]) -> LogIndex {
        let pieces: Vec<IndexedPiece> = ranges
            .iter()
            .map(|(start, end)| IndexedPiece {
                start: LogAt(*start),
                end: LogAt(*end),
                plain_sha256: Digest([1; 32]),
                sealed: 7,
                head: None,
                sealed_sha256: Digest([2; 32]),
                holds: Holds::default(),
            })
            .collect();
        let lineage = Lineage::of_timeline(u64::MAX, Timeline::FIRST);
        let place = IndexPlace { lineage, start: LogAt(0), end: LogAt(12) };
        LogIndex {
            header: Header::new([WAL]),
            repository: RepositoryId::new(7),
            source: "shop".parse().unwrap(),
            host: "db1".to_owned(),
            written: jiff::Timestamp::UNIX_EPOCH,
            place,
            pieces,
        }
    }

    fn read(index: &LogIndex, bytes: &[u8], key: &SigningKey) -> Result<LogIndex, FormatError> {
        let trust = Trust::new(vec![key.verifying_key()]);
        let of = (&RepositoryId::new(7), &index.source);
        decode_signed_log_index(bytes, &trust, of, &index.place).map(|(index, _)| index)
    }

    #[test]
    fn an_index_is_believed_only_as_it_was_signed_and_where_it_belongs() {
        let key = SigningKey::generate();
        let good = index(&[(0, 4), (3, 8), (8, 12)]);
        let bytes = encode_log_index(&good, &key).unwrap();
        assert_eq!(read(&good, &bytes, &key).unwrap(), good);
        let stranger = read(&good, &bytes, &SigningKey::generate());
        assert!(matches!(stranger, Err(FormatError::Untrusted { .. })));
        for bound in bound_elsewhere(&key.verifying_key(), Role::Log) {
            let (id, source) = (RepositoryId::new(7), &good.source);
            let refused = decode_signed_log_index(&bytes, &bound, (&id, source), &good.place);
            assert!(matches!(refused, Err(FormatError::WrongSigner { .. })), "{bound:?}");
        }
        for at in (0..bytes.len()).step_by(11) {
            let mut altered = bytes.clone();
            altered[at] ^= 1;
            // The key's name in the envelope proves nothing and changes nothing.
            if let Ok(found) = read(&good, &altered, &key) {
                assert_eq!(found, good, "byte {at}");
            }
        }
        let mut elsewhere = good.clone();
        elsewhere.place.lineage = Lineage::of_timeline(u64::MAX, Timeline::new(2).unwrap());
        assert!(read(&elsewhere, &bytes, &key).is_err());
        let other = LogIndex { source: "blog".parse().unwrap(), ..good.clone() };
        assert!(read(&other, &bytes, &key).is_err());
        let newer = LogIndex { header: Header::new(["x"]), ..good };
        assert!(read(&newer, &encode_log_index(&newer, &key).unwrap(), &key).is_err());
    }

    #[test]
    fn pieces_that_make_no_run_are_no_index() {
        let key = SigningKey::generate();
        type Ranges<'a> = &'a [(u64, u64)];
        let cases: &[Ranges<'_>] = &[
            &[],
            &[(0, 4), (5, 12)],
            &[(0, 4), (4, 8)],
            &[(1, 12)],
            &[(0, 13)],
            &[(0, 8), (4, 8), (8, 12)],
            &[(0, 8), (0, 12)],
            &[(4, 12), (0, 4)],
            &[(0, 12), (12, 12)],
        ];
        for ranges in cases {
            let wrong = index(ranges);
            let bytes = encode_log_index(&wrong, &key).unwrap();
            assert!(read(&wrong, &bytes, &key).is_err(), "{ranges:?}");
        }
        let many: Vec<(u64, u64)> = (0..=MAX_INDEX_PIECES as u64).map(|n| (n, n + 1)).collect();
        let mut many = index(&many);
        many.place.end = LogAt(MAX_INDEX_PIECES as u64 + 1);
        let bytes = encode_log_index(&many, &key).unwrap();
        assert!(read(&many, &bytes, &key).is_err());
        many.pieces.pop();
        many.place.end = LogAt(MAX_INDEX_PIECES as u64);
        let bytes = encode_log_index(&many, &key).unwrap();
        assert!(read(&many, &bytes, &key).is_ok());
    }
}
