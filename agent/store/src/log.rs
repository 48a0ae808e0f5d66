use drctl_model::{LogPiece, LogPlace, RepositoryId, Role, SourceId};

use crate::seal::digest;
use crate::{FormatError, SealError, SigningKey, Trust, VerifyingKey, dsse};

const PAYLOAD_TYPE: &str = "application/vnd.drctl.log+json";

/// The most bytes of a piece's first line.
pub const MAX_PIECE_HEAD_BYTES: usize = 256 << 10;

/// The object of a piece of log: its signed head in one line, and behind it the age file. One
/// object, so that a piece is there whole or not at all; without a key the line tells all but the
/// bytes.
#[must_use]
pub fn encode_piece(piece: &LogPiece, sealed: &[u8], key: &SigningKey) -> Vec<u8> {
    let payload = serde_json::to_vec(piece).expect("a piece is always JSON");
    let mut bytes = dsse::sign(PAYLOAD_TYPE, &payload, key);
    bytes.reserve(sealed.len() + 1);
    bytes.push(b'\n');
    bytes.extend_from_slice(sealed);
    bytes
}

/// Verifies, then parses, then checks the head of a piece that was found at `place`; `bytes` may
/// end anywhere behind it. Returns it, its length with the line's end, and the key that signed it.
///
/// # Errors
/// [`FormatError`]: nobody whom we trust has signed it, or it belongs elsewhere.
pub fn decode_signed_head(
    bytes: &[u8],
    trust: &Trust,
    repository: &RepositoryId,
    source: &SourceId,
    place: &LogPlace,
) -> Result<(LogPiece, usize, VerifyingKey), FormatError> {
    let what = place.lineage.words().head;
    let end = bytes.iter().take(MAX_PIECE_HEAD_BYTES).position(|byte| *byte == b'\n');
    let end = end.ok_or(FormatError::Malformed { what })?;
    let (payload, keys) = dsse::verify(PAYLOAD_TYPE, &bytes[..end], trust)?;
    let signer = trust.speaker(keys, source, Role::Log)?;
    let piece: LogPiece = dsse::parse(what, &payload)?;
    piece.check(repository, source, place)?;
    Ok((piece, end + 1, signer))
}

/// The age file of a piece whose head was read: the very bytes that were signed for.
///
/// # Errors
/// [`SealError::Altered`].
pub fn piece_body<'a>(
    piece: &LogPiece,
    bytes: &'a [u8],
    head: usize,
) -> Result<&'a [u8], SealError> {
    let body = bytes.get(head..).unwrap_or_default();
    if body.len() as u64 != piece.sealed {
        return Err(SealError::Altered { what: "length" });
    }
    if digest(body) != piece.sealed_sha256 {
        return Err(SealError::Altered { what: "SHA-256" });
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use drctl_model::{Digest, Header, Holds, Lineage, Lsn, Timeline, WAL};

    use super::*;
    use crate::trust::bound_elsewhere;

    fn piece(sealed: &[u8]) -> LogPiece {
        let (start, end) = (Lsn(0x100_0000), Lsn(0x100_0010));
        LogPiece {
            header: Header::new([WAL]),
            repository: RepositoryId::new(7),
            source: "shop".parse().unwrap(),
            host: "db1".to_owned(),
            written: jiff::Timestamp::UNIX_EPOCH,
            place: LogPlace::of_wal((u64::MAX, Timeline::FIRST), (start, end)),
            plain: 16,
            plain_sha256: Digest([1; 32]),
            sealed: sealed.len() as u64,
            sealed_sha256: digest(sealed),
            holds: Holds::default(),
        }
    }

    #[test]
    fn a_piece_is_believed_only_as_it_was_signed_and_where_it_belongs() {
        let (key, sealed) = (SigningKey::generate(), b"age\nfile".as_slice());
        let piece = piece(sealed);
        let bytes = encode_piece(&piece, sealed, &key);
        let trust = Trust::new(vec![key.verifying_key()]);
        let (repository, source) = (&piece.repository, &piece.source);
        let read = |bytes: &[u8], place: &LogPlace| {
            decode_signed_head(bytes, &trust, repository, source, place)
        };
        let (found, head, _) = read(&bytes, &piece.place).unwrap();
        assert_eq!(found, piece);
        assert_eq!(piece_body(&found, &bytes, head).unwrap(), sealed);
        // Its head alone is enough to know it.
        assert_eq!(read(&bytes[..head], &piece.place).unwrap().0, piece);
        assert!(piece_body(&found, &bytes[..bytes.len() - 1], head).is_err());
        let mut altered = bytes.clone();
        *altered.last_mut().unwrap() ^= 1;
        assert!(piece_body(&found, &altered, head).is_err());
        let lineage = Lineage::of_timeline(u64::MAX, Timeline::new(2).unwrap());
        let elsewhere = LogPlace { lineage, ..piece.place.clone() };
        assert!(read(&bytes, &elsewhere).is_err());
        for at in (0..head).step_by(7) {
            let mut altered = bytes.clone();
            altered[at] ^= 1;
            // The key's name in the envelope proves nothing and changes nothing.
            if let Ok((found, ..)) = read(&altered, &piece.place) {
                assert_eq!(found, piece, "byte {at}");
            }
        }
        let stranger = Trust::new(vec![SigningKey::generate().verifying_key()]);
        let refused = decode_signed_head(&bytes, &stranger, repository, source, &piece.place);
        assert!(matches!(refused, Err(FormatError::Untrusted { .. })));
        for bound in bound_elsewhere(&key.verifying_key(), Role::Log) {
            let refused = decode_signed_head(&bytes, &bound, repository, source, &piece.place);
            assert!(matches!(refused, Err(FormatError::WrongSigner { .. })), "{bound:?}");
        }
    }
}
