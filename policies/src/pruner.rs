use serde::Serialize;

use crate::reader::Reader;
use crate::secret::SecretRef;

/// What `prune` uses in place of the host's own key and credentials, so that these need no right to
/// remove anything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Pruner {
    /// The key that signs removals.
    pub signing_key: Option<SecretRef>,
    /// S3.
    pub access_key_id: Option<SecretRef>,
    /// S3.
    pub secret_access_key: Option<SecretRef>,
    /// S3.
    pub session_token: Option<SecretRef>,
    /// Azure.
    pub account_key: Option<SecretRef>,
    /// Google.
    pub service_account: Option<SecretRef>,
}

impl Pruner {
    /// Each key of it, and the secret that it refers to.
    #[must_use]
    pub fn secrets(&self) -> [(&'static str, Option<&SecretRef>); 6] {
        [
            ("signing_key", self.signing_key.as_ref()),
            ("access_key_id", self.access_key_id.as_ref()),
            ("secret_access_key", self.secret_access_key.as_ref()),
            ("session_token", self.session_token.as_ref()),
            ("account_key", self.account_key.as_ref()),
            ("service_account", self.service_account.as_ref()),
        ]
    }

    /// Whether it names credentials of a store.
    #[must_use]
    pub fn has_credentials(&self) -> bool {
        let all = [&self.access_key_id, &self.account_key, &self.service_account];
        all.into_iter().any(Option::is_some)
    }
}

/// Reads `[repository.prune]`.
pub(crate) fn read(reader: &Reader<'_>) -> Pruner {
    Pruner {
        signing_key: reader.secret("signing_key"),
        access_key_id: reader.secret("access_key_id"),
        secret_access_key: reader.secret("secret_access_key"),
        session_token: reader.secret("session_token"),
        account_key: reader.secret("account_key"),
        service_account: reader.secret("service_account"),
    }
}
