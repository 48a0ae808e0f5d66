use drctl_model::{AuditBatch, AuditLogId, RepositoryId};

use crate::dsse::Document;
use crate::{FormatError, SigningKey, Trust, VerifyingKey};

/// The most bytes of an object with entries of an audit log.
pub const MAX_AUDIT_BATCH_BYTES: usize = 2 << 20;

const DOCUMENT: Document = Document {
    payload_type: "application/vnd.drctl.audit+json",
    what: "part of an audit log",
    limit: MAX_AUDIT_BATCH_BYTES,
};

/// The object of some entries: a signed envelope.
///
/// # Errors
/// [`FormatError::TooLarge`]: readers would refuse it.
pub fn encode_audit_batch(batch: &AuditBatch, key: &SigningKey) -> Result<Vec<u8>, FormatError> {
    DOCUMENT.sign(batch, key)
}

/// Verifies, then parses, then checks what was found, under the name of a log and a first entry where one is
/// given. With the key that signed it: any that is trusted may, for entries are of a host and of no source.
///
/// # Errors
/// [`FormatError`]: nobody whom we trust has signed it, it belongs elsewhere, or only a newer program
/// reads it.
pub fn decode_audit_batch(
    bytes: &[u8],
    trust: &Trust,
    repository: &RepositoryId,
    of: Option<(&AuditLogId, u64)>,
) -> Result<(AuditBatch, VerifyingKey), FormatError> {
    let (batch, mut keys) = DOCUMENT.read_by_any::<AuditBatch>(bytes, trust)?;
    batch.check(repository, of)?;
    Ok((batch, keys.swap_remove(0)))
}

#[cfg(test)]
mod tests {
    use drctl_model::{Digest, Header, NO_ENTRY};
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn entries_are_believed_only_as_they_were_signed_and_where_they_belong() {
        let (key, log) = (SigningKey::generate(), AuditLogId::new(9));
        let good = AuditBatch {
            header: Header::new([]),
            repository: RepositoryId::new(7),
            log: log.clone(),
            host: "db1".to_owned(),
            first: 1,
            last: 2,
            prev: NO_ENTRY,
            head: Digest([3; 32]),
            entries: vec!["{}".to_owned(), "{}".to_owned()],
            at: Timestamp::UNIX_EPOCH,
        };
        let trust = Trust::new(vec![key.verifying_key()]);
        let read = |batch: &AuditBatch, key: &SigningKey| {
            let bytes = encode_audit_batch(batch, key).unwrap();
            decode_audit_batch(&bytes, &trust, &RepositoryId::new(7), Some((&log, 1)))
        };
        assert_eq!(read(&good, &key).unwrap(), (good.clone(), key.verifying_key()));
        let stranger = read(&good, &SigningKey::generate());
        assert!(matches!(stranger, Err(FormatError::Untrusted { .. })));
        let others = [
            AuditBatch { repository: RepositoryId::new(8), ..good.clone() },
            AuditBatch { log: AuditLogId::new(8), ..good.clone() },
            AuditBatch { first: 2, last: 3, ..good.clone() },
            AuditBatch { last: 3, ..good.clone() },
            AuditBatch { last: u64::MAX, ..good.clone() },
            AuditBatch { entries: Vec::new(), ..good.clone() },
        ];
        for other in others {
            assert!(read(&other, &key).is_err(), "{other:?}");
        }
        let newer = read(&AuditBatch { header: Header::new(["x"]), ..good }, &key);
        assert!(newer.unwrap_err().is_newer());
    }
}
