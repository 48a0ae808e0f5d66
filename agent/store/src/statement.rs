use drctl_model::{RepositoryId, SourceId, Statement};

use crate::dsse::Document;
use crate::{FormatError, SigningKey, Trust, VerifyingKey};

/// The most bytes of a statement.
pub const MAX_STATEMENT_BYTES: usize = 64 << 10;

const DOCUMENT: Document = Document {
    payload_type: "application/vnd.drctl.statement+json",
    what: "statement",
    limit: MAX_STATEMENT_BYTES,
};

/// The object of a statement: a signed envelope.
///
/// # Errors
/// [`FormatError::TooLarge`]: readers would refuse it.
pub fn encode_statement(said: &Statement, key: &SigningKey) -> Result<Vec<u8>, FormatError> {
    DOCUMENT.sign(said, key)
}

/// Verifies, then parses, then checks a statement that was found under a number. With the key that
/// signed it: which role that must have depends on what is said.
///
/// # Errors
/// [`FormatError`]: nobody whom we trust has signed it, it belongs elsewhere, or only a newer program
/// reads it.
pub fn decode_statement(
    bytes: &[u8],
    trust: &Trust,
    repository: &RepositoryId,
    of: (&SourceId, u64),
) -> Result<(Statement, VerifyingKey), FormatError> {
    let (said, keys) = DOCUMENT.read_by_any::<Statement>(bytes, trust)?;
    said.check(repository, of)?;
    let roles = said.statement.roles();
    let may = |key: &&VerifyingKey| roles.iter().any(|role| trust.believes(key, of.0, *role));
    match (keys.iter().find(may), roles) {
        (Some(key), _) => Ok((said, key.clone())),
        (None, roles) => {
            let signer = keys.first().map(|key| trust.name(key)).unwrap_or_default();
            Err(FormatError::WrongSigner { signer, source_id: of.0.clone(), role: roles[0] })
        }
    }
}

#[cfg(test)]
mod tests {
    use drctl_model::{BackupId, Header, Role, Stated};
    use jiff::Timestamp;

    use super::*;
    use crate::trust::bound_elsewhere;

    fn said(statement: Stated) -> Statement {
        let is_of_source = matches!(statement, Stated::Freeze | Stated::Unfreeze);
        Statement {
            header: Header::new([]),
            repository: RepositoryId::new(7),
            source: "shop".parse().unwrap(),
            n: 3,
            statement,
            backup: (!is_of_source).then(|| BackupId::new(Timestamp::UNIX_EPOCH, 2)),
            reason: "audit of March".to_owned(),
            without: Vec::new(),
            host: "db1".to_owned(),
            account: "postgres".to_owned(),
            at: Timestamp::UNIX_EPOCH,
        }
    }

    fn read(said: &Statement, key: &SigningKey, trust: &Trust) -> Result<Statement, FormatError> {
        let bytes = encode_statement(said, key).unwrap();
        let shop = "shop".parse().unwrap();
        decode_statement(&bytes, trust, &RepositoryId::new(7), (&shop, 3)).map(|read| read.0)
    }

    #[test]
    fn whoever_writes_may_keep_something_and_only_a_pruner_ends_a_hold() {
        let key = SigningKey::generate();
        for stated in Stated::ALL {
            let all = Trust::new(vec![key.verifying_key()]);
            assert_eq!(read(&said(stated), &key, &all).unwrap(), said(stated));
            for role in Role::ALL {
                // Every role but this one, or another source's.
                let [elsewhere, others] = bound_elsewhere(&key.verifying_key(), role);
                let refused = read(&said(stated), &key, &elsewhere);
                assert!(matches!(refused, Err(FormatError::WrongSigner { .. })), "{stated}");
                let needs_this = matches!(stated, Stated::Release | Stated::Unfreeze);
                let is_refused = needs_this && role == Role::Prune;
                assert_eq!(read(&said(stated), &key, &others).is_err(), is_refused, "{stated}");
            }
        }
    }

    #[test]
    fn a_statement_is_believed_only_as_it_was_signed_and_where_it_belongs() {
        let (key, good) = (SigningKey::generate(), said(Stated::Pin));
        let trust = Trust::new(vec![key.verifying_key()]);
        let stranger = read(&good, &SigningKey::generate(), &trust);
        assert!(matches!(stranger, Err(FormatError::Untrusted { .. })));
        let others = [
            Statement { source: "blog".parse().unwrap(), ..good.clone() },
            Statement { repository: RepositoryId::new(8), ..good.clone() },
            Statement { n: 4, ..good.clone() },
            Statement { reason: String::new(), ..good.clone() },
            Statement { backup: None, ..good.clone() },
        ];
        for other in others {
            assert!(read(&other, &key, &trust).is_err(), "{other:?}");
        }
        let newer = read(&Statement { header: Header::new(["x"]), ..good }, &key, &trust);
        assert!(newer.unwrap_err().is_newer());
    }
}
