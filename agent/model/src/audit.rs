use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{AuditLogId, Digest, Header, ManifestError, RepositoryId, SourceId};

/// The version of an entry's form.
pub const AUDIT_VERSION: u32 = 1;

/// The most bytes of an entry's line, without its end.
pub const MAX_AUDIT_LINE: usize = 16 << 10;

/// The most entries of a batch.
pub const MAX_AUDIT_ENTRIES: usize = 1_000;

/// The highest number of an entry: keys have room for twelve digits.
pub const MAX_AUDIT_SEQ: u64 = 999_999_999_999;

/// The most numbers behind that of its first entry under which a part may lie: where somebody else has
/// written under that one.
pub const MAX_AUDIT_SHIFT: u64 = 999;

/// What stands for the entry before the first one.
pub const NO_ENTRY: Digest = Digest([0; 32]);

/// How something that is logged stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuditOutcome {
    /// It begins.
    Begun,
    /// It was done.
    Succeeded,
    /// It came to an end that is no success.
    Failed,
    /// It was not allowed, or not done for another reason that was known before it began.
    Refused,
}

impl AuditOutcome {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            AuditOutcome::Begun => "begun",
            AuditOutcome::Succeeded => "succeeded",
            AuditOutcome::Failed => "failed",
            AuditOutcome::Refused => "refused",
        }
    }
}

/// Who did it, as the kernel tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditActor {
    /// The account.
    pub uid: u32,
    /// Its name.
    pub account: String,
    /// The process, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<i32>,
    /// Whether it asked the agent at its socket.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub socket: bool,
}

/// An entry of an audit log: one line of JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// [`AUDIT_VERSION`].
    pub v: u32,
    /// The log that it is of.
    pub log: AuditLogId,
    /// Its number in it: from 1 on, without a gap.
    pub seq: u64,
    /// The SHA-256 of the line before, without its end; [`NO_ENTRY`] for the first one.
    pub prev: Digest,
    /// When (clock of the host).
    pub at: Timestamp,
    /// The host.
    pub host: String,
    /// Who.
    pub actor: AuditActor,
    /// What is done: a verb of the command line, or what the agent does.
    pub verb: String,
    /// How it stands.
    pub outcome: AuditOutcome,
    /// What its begin and its end have in common.
    pub act: String,
    /// Of which source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Of which backup or other thing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// The SHA-256 of the configuration that it is done with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Digest>,
    /// What else is known of it. Never a secret, never a name out of a database.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub details: BTreeMap<String, String>,
}

impl AuditEntry {
    /// Whether it is of a source.
    #[must_use]
    pub fn is_of(&self, source: &SourceId) -> bool {
        self.source.as_deref() == Some(source.as_str())
    }
}

/// What is signed of an audit log: some of its entries, as their lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditBatch {
    /// What is read before the rest.
    #[serde(flatten)]
    pub header: Header,
    /// The repository it was written into.
    pub repository: RepositoryId,
    /// The log.
    pub log: AuditLogId,
    /// The host that wrote it.
    pub host: String,
    /// The number of the first entry.
    pub first: u64,
    /// That of the last one.
    pub last: u64,
    /// The digest of the entry before the first one.
    pub prev: Digest,
    /// The digest of the last one.
    pub head: Digest,
    /// The entries, each as its line.
    pub entries: Vec<String>,
    /// When it was written (clock of the host).
    pub at: Timestamp,
}

impl AuditBatch {
    /// Whether it lies where it says that it belongs, and its numbers fit. Whether its entries do is for
    /// whoever walks the log.
    ///
    /// # Errors
    /// [`ManifestError::Misplaced`], [`ManifestError::Inconsistent`].
    pub fn check(
        &self,
        repository: &RepositoryId,
        of: Option<(&AuditLogId, u64)>,
    ) -> Result<(), ManifestError> {
        let at =
            |number: u64| number.checked_sub(self.first).is_some_and(|by| by <= MAX_AUDIT_SHIFT);
        let elsewhere = of.is_some_and(|(log, number)| *log != self.log || !at(number));
        if &self.repository != repository || elsewhere {
            return Err(ManifestError::Misplaced(format!(
                "the entries from {} on of the audit log {} in repository {}",
                self.first, self.log, self.repository
            )));
        }
        let count = self.last.checked_sub(self.first).map(|more| more.saturating_add(1));
        let is_bounded = (1..=MAX_AUDIT_ENTRIES).contains(&self.entries.len());
        match self.first > 0 && is_bounded && count == u64::try_from(self.entries.len()).ok() {
            true => Ok(()),
            false => Err(ManifestError::Inconsistent("the numbers of its entries".to_owned())),
        }
    }
}
