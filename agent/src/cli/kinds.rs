//! Kinds of backups, as people read them.

use drctl_model::{BackupKind, ExternalType};

/// The word for a kind in a table.
pub(super) fn kind_word(kind: &BackupKind) -> String {
    match kind.external() {
        Some(external) => format!("{} {}", external.tool, external.backup_type.as_str()),
        None => kind.as_str().to_owned(),
    }
}

/// The same in a sentence.
pub(super) fn kind_text(kind: &BackupKind) -> &'static str {
    match kind {
        BackupKind::Logical(_) => "dumps",
        BackupKind::Full(_) => "a full backup",
        BackupKind::Incremental(_) => "an incremental backup",
        BackupKind::Snapshot(_) => "a snapshot",
        BackupKind::External(external) => match external.backup_type {
            ExternalType::Full => "a full backup by pgBackRest",
            ExternalType::Differential => "a differential backup by pgBackRest",
            ExternalType::Incremental => "an incremental backup by pgBackRest",
        },
    }
}
