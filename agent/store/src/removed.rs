use drctl_model::{BackupId, Lineage, LogAt, LogFloor, RepositoryId, Role, SourceId, Tombstone};

use crate::dsse::Document;
use crate::{FormatError, SigningKey, Trust, VerifyingKey};

/// The most bytes of a tombstone, and of a log floor.
pub const MAX_REMOVED_BYTES: usize = 64 << 10;

const TOMBSTONE: Document = Document {
    payload_type: "application/vnd.drctl.tombstone+json",
    what: "tombstone of a backup",
    limit: MAX_REMOVED_BYTES,
};

const LOG_FLOOR: Document = Document {
    payload_type: "application/vnd.drctl.log-floor+json",
    what: "removal of log",
    limit: MAX_REMOVED_BYTES,
};

/// The object of a tombstone: a signed envelope.
///
/// # Errors
/// [`FormatError::TooLarge`]: readers would refuse it.
pub fn encode_tombstone(tombstone: &Tombstone, key: &SigningKey) -> Result<Vec<u8>, FormatError> {
    TOMBSTONE.sign(tombstone, key)
}

/// Verifies, then parses, then checks a tombstone that was found under the name of a backup. With the
/// key that signed it.
///
/// # Errors
/// [`FormatError`]: nobody whom we trust has signed it, or it belongs elsewhere.
pub fn decode_tombstone(
    bytes: &[u8],
    trust: &Trust,
    repository: &RepositoryId,
    of: (&SourceId, &BackupId),
) -> Result<(Tombstone, VerifyingKey), FormatError> {
    let (found, signer) = TOMBSTONE.read_signed::<Tombstone>(bytes, trust, (of.0, Role::Prune))?;
    found.check(repository, of)?;
    Ok((found, signer))
}

/// The object of a log floor: a signed envelope.
///
/// # Errors
/// [`FormatError::TooLarge`]: readers would refuse it.
pub fn encode_log_floor(floor: &LogFloor, key: &SigningKey) -> Result<Vec<u8>, FormatError> {
    LOG_FLOOR.sign(floor, key)
}

/// Verifies, then parses, then checks a log floor that was found under the name of a lineage and a
/// position. With the key that signed it.
///
/// # Errors
/// [`FormatError`]: nobody whom we trust has signed it, or it belongs elsewhere.
pub fn decode_log_floor(
    bytes: &[u8],
    trust: &Trust,
    repository: &RepositoryId,
    of: (&SourceId, &Lineage, LogAt),
) -> Result<(LogFloor, VerifyingKey), FormatError> {
    let (found, signer) = LOG_FLOOR.read_signed::<LogFloor>(bytes, trust, (of.0, Role::Prune))?;
    found.check(repository, of)?;
    Ok((found, signer))
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use drctl_model::{Digest, Header, Timeline};
    use jiff::Timestamp;

    use super::*;
    use crate::trust::bound_elsewhere;

    fn tombstone() -> Tombstone {
        Tombstone {
            header: Header::new([]),
            repository: RepositoryId::new(7),
            source: "shop".parse().unwrap(),
            backup: BackupId::new(Timestamp::UNIX_EPOCH, 2),
            manifest_sha256: Digest([3; 32]),
            system_id: Some(7),
            host: "db1".to_owned(),
            removed: Timestamp::UNIX_EPOCH,
        }
    }

    fn floor() -> LogFloor {
        LogFloor {
            header: Header::new([]),
            repository: RepositoryId::new(7),
            source: "shop".parse().unwrap(),
            lineage: Lineage::of_timeline(7, Timeline::FIRST),
            before: LogAt(0x300),
            host: "db1".to_owned(),
            removed: Timestamp::UNIX_EPOCH,
        }
    }

    type Read<T> = Result<(T, VerifyingKey), FormatError>;

    /// Of a document only this one is believed, signed by a trusted key that may remove.
    fn alone_is_believed<T: Clone + Debug + PartialEq>(
        good: &T,
        others: &[T],
        encode: fn(&T, &SigningKey) -> Result<Vec<u8>, FormatError>,
        decode: impl Fn(&[u8], &Trust) -> Read<T>,
    ) {
        let key = SigningKey::generate();
        let trust = Trust::new(vec![key.verifying_key()]);
        let read = |document: &T, key: &SigningKey, trust: &Trust| {
            decode(&encode(document, key).unwrap(), trust)
        };
        assert_eq!(read(good, &key, &trust).unwrap(), (good.clone(), key.verifying_key()));
        let stranger = read(good, &SigningKey::generate(), &trust);
        assert!(matches!(stranger, Err(FormatError::Untrusted { .. })));
        for bound in bound_elsewhere(&key.verifying_key(), Role::Prune) {
            let refused = read(good, &key, &bound);
            assert!(matches!(refused, Err(FormatError::WrongSigner { .. })), "{bound:?}");
        }
        for other in others {
            assert!(read(other, &key, &trust).is_err(), "{other:?}");
        }
    }

    #[test]
    fn a_tombstone_is_believed_only_as_it_was_signed_and_where_it_belongs() {
        let good = tombstone();
        let (shop, id) = (good.source.clone(), good.backup.clone());
        let others = [
            Tombstone { source: "blog".parse().unwrap(), ..good.clone() },
            Tombstone { repository: RepositoryId::new(8), ..good.clone() },
            Tombstone { backup: BackupId::new(Timestamp::UNIX_EPOCH, 3), ..good.clone() },
            Tombstone { header: Header::new(["x"]), ..good.clone() },
        ];
        alone_is_believed(&good, &others, encode_tombstone, |bytes, trust| {
            decode_tombstone(bytes, trust, &RepositoryId::new(7), (&shop, &id))
        });
    }

    #[test]
    fn a_log_floor_is_believed_only_as_it_was_signed_and_where_it_belongs() {
        let good = floor();
        let (shop, lineage) = (good.source.clone(), good.lineage.clone());
        let others = [
            LogFloor { source: "blog".parse().unwrap(), ..good.clone() },
            LogFloor { repository: RepositoryId::new(8), ..good.clone() },
            LogFloor { lineage: Lineage::of_timeline(8, Timeline::FIRST), ..good.clone() },
            LogFloor { before: LogAt(0x400), ..good.clone() },
            LogFloor { header: Header::new(["x"]), ..good.clone() },
        ];
        alone_is_believed(&good, &others, encode_log_floor, |bytes, trust| {
            let of = (&shop, &lineage, LogAt(0x300));
            decode_log_floor(bytes, trust, &RepositoryId::new(7), of)
        });
    }
}
