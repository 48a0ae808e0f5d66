use drctl_model::{Acceptance, BackupId, Digest, RepositoryId, Role, SourceId};

use crate::dsse::Document;
use crate::{FormatError, SigningKey, Trust, VerifyingKey};

/// The most bytes of an acceptance.
pub const MAX_ACCEPTANCE_BYTES: usize = 64 << 10;

const DOCUMENT: Document = Document {
    payload_type: "application/vnd.drctl.acceptance+json",
    what: "acceptance of a backup",
    limit: MAX_ACCEPTANCE_BYTES,
};

/// The object of an acceptance: a signed envelope.
///
/// # Errors
/// [`FormatError::TooLarge`]: readers would refuse it.
pub fn encode_acceptance(
    acceptance: &Acceptance,
    key: &SigningKey,
) -> Result<Vec<u8>, FormatError> {
    DOCUMENT.sign(acceptance, key)
}

/// Verifies, then parses, then checks an acceptance that was found under the name of a backup with
/// this manifest. With the key that signed it.
///
/// # Errors
/// [`FormatError`]: nobody whom we trust has signed it, or it belongs elsewhere.
pub fn decode_acceptance(
    bytes: &[u8],
    trust: &Trust,
    repository: &RepositoryId,
    of: (&SourceId, &BackupId),
    manifest_sha256: Digest,
) -> Result<(Acceptance, VerifyingKey), FormatError> {
    // Who may say that there is a backup may say that it is as it should be.
    let by = (of.0, Role::Backup);
    let (found, signer) = DOCUMENT.read_signed::<Acceptance>(bytes, trust, by)?;
    found.check(repository, of, manifest_sha256)?;
    Ok((found, signer))
}

#[cfg(test)]
mod tests {
    use drctl_model::Header;
    use jiff::Timestamp;

    use super::*;
    use crate::trust::bound_elsewhere;

    #[test]
    fn an_acceptance_is_believed_only_as_it_was_signed_and_of_this_manifest() {
        let (key, id) = (SigningKey::generate(), BackupId::new(Timestamp::UNIX_EPOCH, 2));
        let good = Acceptance {
            header: Header::new([]),
            repository: RepositoryId::new(7),
            source: "shop".parse().unwrap(),
            backup: id.clone(),
            manifest_sha256: Digest([3; 32]),
            host: "db1".to_owned(),
            accepted: Timestamp::UNIX_EPOCH,
        };
        let shop: SourceId = "shop".parse().unwrap();
        let read = |acceptance: &Acceptance, key: &SigningKey, trusted: &SigningKey| {
            let bytes = encode_acceptance(acceptance, key).unwrap();
            let trust = Trust::new(vec![trusted.verifying_key()]);
            let sha256 = Digest([3; 32]);
            decode_acceptance(&bytes, &trust, &RepositoryId::new(7), (&shop, &id), sha256)
        };
        assert_eq!(read(&good, &key, &key).unwrap(), (good.clone(), key.verifying_key()));
        let stranger = read(&good, &SigningKey::generate(), &key);
        assert!(matches!(stranger, Err(FormatError::Untrusted { .. })));
        for bound in bound_elsewhere(&key.verifying_key(), Role::Backup) {
            let (bytes, of) = (encode_acceptance(&good, &key).unwrap(), (&shop, &id));
            let refused =
                decode_acceptance(&bytes, &bound, &RepositoryId::new(7), of, Digest([3; 32]));
            assert!(matches!(refused, Err(FormatError::WrongSigner { .. })), "{bound:?}");
        }
        let others = [
            Acceptance { manifest_sha256: Digest([4; 32]), ..good.clone() },
            Acceptance { source: "blog".parse().unwrap(), ..good.clone() },
            Acceptance { repository: RepositoryId::new(8), ..good.clone() },
            Acceptance { backup: BackupId::new(Timestamp::UNIX_EPOCH, 3), ..good.clone() },
            Acceptance { header: Header::new(["x"]), ..good },
        ];
        for other in others {
            assert!(read(&other, &key, &key).is_err(), "{other:?}");
        }
    }
}
