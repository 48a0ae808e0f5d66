//! Backups that another tool keeps in a repository of its own: drctl has their record alone.

use serde::{Deserialize, Serialize};

use crate::{Coordinates, shown};

/// The tool whose repositories are known: the only value of [`External::tool`].
pub const PGBACKREST: &str = "pgbackrest";

/// A backup that another tool keeps in a repository of its own.
///
/// Read back from the tool itself when it is recorded. The data is where the tool has put it, in
/// the tool's form and under the tool's keys: nothing of it is in the bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct External {
    /// The tool: `pgbackrest`.
    pub tool: String,
    /// What the tool calls the cluster.
    pub stanza: String,
    /// The repository's number in the tool's configuration, from 1.
    pub repo: u32,
    /// What the tool calls the backup: `20261126-010203F`.
    pub label: String,
    /// How much of the cluster it holds itself.
    pub backup_type: ExternalType,
    /// The label of the backup that it was compared with; none for a full one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prior: Option<String>,
    /// The labels of all backups whose files it needs; none for a full one.
    #[serde(default)]
    pub references: Vec<String>,
    /// The first and the last segment of the WAL that make it consistent, by name.
    pub wal: (String, String),
    /// The tool's number of the cluster: it grows when another cluster takes the stanza's place.
    pub database_id: u32,
    /// Who made it.
    pub origin: Origin,
    /// Whether the tool found pages with wrong checksums while it copied.
    #[serde(default)]
    pub page_errors: bool,
    /// How the repository is encrypted: `none` or `aes-256-cbc`. Neither is drctl's own promise:
    /// the tool's key is symmetric, and lies on the host that is backed up.
    pub cipher: String,
    /// Bytes of the cluster's files.
    pub bytes: u64,
    /// Bytes of the files that it holds itself.
    pub delta_bytes: u64,
    /// Bytes that those take in the repository, where the tool tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository_bytes: Option<u64>,
    /// The tool's version that made it.
    pub version: String,
    /// The version of the repository's form.
    pub format: u32,
    /// Where in the cluster's WAL it stands.
    #[serde(flatten)]
    pub at: Coordinates,
}

/// How much of a cluster an external backup holds itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExternalType {
    /// All files.
    Full,
    /// What has changed since the last full one.
    Differential,
    /// What has changed since the last one of any type.
    Incremental,
}

impl ExternalType {
    /// The word for it, as in manifests.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            ExternalType::Full => "full",
            ExternalType::Differential => "differential",
            ExternalType::Incremental => "incremental",
        }
    }
}

/// Who made a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// drctl had the tool make it.
    Drctl,
    /// Somebody or something else, by hand or by cron: it was found.
    Elsewhere,
}

impl Origin {
    /// The word for it, as in manifests.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Origin::Drctl => "drctl",
            Origin::Elsewhere => "elsewhere",
        }
    }
}

/// Why a text is no label of a backup of pgBackRest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no label of a backup of pgBackRest")]
pub struct LabelError(String);

/// What the label of a backup of pgBackRest says of it: its type, and the full backup under it.
///
/// `YYYYMMDD-HHMMSSF` is a full one; `<full>_YYYYMMDD-HHMMSSD` or `…I` is based on that.
///
/// # Errors
/// [`LabelError`] for every other text: a label goes into arguments and into paths.
pub fn label_type(label: &str) -> Result<(ExternalType, &str), LabelError> {
    let wrong = || LabelError(shown(label, 60));
    let stamp = |text: &str| {
        let bytes = text.as_bytes();
        bytes.len() == 15
            && bytes.iter().enumerate().all(|(at, byte)| match at {
                8 => *byte == b'-',
                _ => byte.is_ascii_digit(),
            })
    };
    let (full, rest) =
        label.split_once('_').map_or((label, None), |(full, rest)| (full, Some(rest)));
    if !full.strip_suffix('F').is_some_and(stamp) {
        return Err(wrong());
    }
    match rest {
        None => Ok((ExternalType::Full, full)),
        Some(rest) if rest.strip_suffix('D').is_some_and(stamp) => {
            Ok((ExternalType::Differential, full))
        }
        Some(rest) if rest.strip_suffix('I').is_some_and(stamp) => {
            Ok((ExternalType::Incremental, full))
        }
        Some(_) => Err(wrong()),
    }
}

/// The part of a label that tells when the backup was begun: of two in one stanza the later one has the
/// higher one.
#[must_use]
pub fn label_begun(label: &str) -> &str {
    let last = label.rsplit('_').next().unwrap_or(label);
    last.trim_end_matches(|sign: char| !sign.is_ascii_digit())
}

/// Whether a text can be the name of a stanza: it goes into arguments and into paths.
#[must_use]
pub fn is_stanza(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let first = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    first && text.len() <= 63 && text.bytes().all(word)
}

impl External {
    /// Under which name it is missed where it is gone: where the tool has put it, which no key in a bucket
    /// is called like.
    #[must_use]
    pub fn place(&self) -> String {
        format!("{}: {}/{}/{}", self.tool, self.stanza, self.repo, self.label)
    }

    /// What does not fit in it, in words: readers put its texts into arguments and paths.
    ///
    /// # Errors
    /// What is wrong.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.tool != PGBACKREST {
            return Err(format!("it is a backup of {}, which is not known", shown(&self.tool, 40)));
        }
        if !is_stanza(&self.stanza) {
            return Err(format!("`{}` is no name of a stanza", shown(&self.stanza, 63)));
        }
        if !(1..=256).contains(&self.repo) {
            return Err(format!("repository {} is none of 1 to 256", self.repo));
        }
        let (found, _) = label_type(&self.label).map_err(|error| error.to_string())?;
        if found != self.backup_type {
            let (label, says) = (&self.label, self.backup_type.as_str());
            return Err(format!("{label} is no {says} backup"));
        }
        let others = self.prior.iter().chain(&self.references);
        others
            .map(|label| label_type(label))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| e.to_string())?;
        let segment = |name: &String| name.len() == 24 && name.bytes().all(is_hexadecimal);
        if !segment(&self.wal.0) || !segment(&self.wal.1) || self.wal.1 < self.wal.0 {
            return Err("the segments that it needs are none".to_owned());
        }
        Ok(())
    }
}

fn is_hexadecimal(byte: u8) -> bool {
    byte.is_ascii_digit() || (b'A'..=b'F').contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_tells_its_type() {
        let full = "20261126-010203F";
        let (differential, incremental) =
            ("20261126-010203F_20261127-010203D", "20261126-010203F_20261127-010203I");
        assert_eq!(label_type(full), Ok((ExternalType::Full, full)));
        assert_eq!(label_type(differential), Ok((ExternalType::Differential, full)));
        assert_eq!(label_type(incremental), Ok((ExternalType::Incremental, full)));
        let wrong = [
            "",
            "latest",
            "20261126-010203",
            "20261126-010203D",
            "20261126-010203F_20261127-010203F",
            "20261126-010203F_20261127-010203D_20261127-010203I",
            "20261126-010203F/../x",
            "2026112é-010203F",
        ];
        for text in wrong {
            assert!(label_type(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_stanza_is_a_word() {
        for good in ["main", "shop-15", "a.b_c"] {
            assert!(is_stanza(good), "{good}");
        }
        for bad in ["", "-x", ".", "..", "a/b", "a b", "all=1", &"x".repeat(64)] {
            assert!(!is_stanza(bad), "{bad}");
        }
    }
}
