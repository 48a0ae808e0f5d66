//! Manifests that do not count, or that only a newer drctl reads, and what is closed, told.

use std::fmt::Write as _;

use drctl_catalog::Newer;
use drctl_model::{BackupId, SourceId};
use serde_json::{Value, json};

use super::screen::line;
use crate::repository::Closed;

pub(super) fn newer_json(newer: &Newer) -> Value {
    let one = |((source, backup), why): (&(_, _), &String)| json!({ "source": source, "backup": backup, "why": why });
    newer.iter().map(one).collect()
}

/// For people, a line each.
pub(super) fn newer_text(newer: &Newer) -> String {
    let mut text = String::new();
    for ((source, backup), why) in newer {
        let _ = write!(text, "\nNEWER: {source}/{backup} is not read here: {}", line(why));
    }
    text
}

/// Manifests that do not count, each with the reason.
type Refused = [(SourceId, BackupId, String)];

pub(super) fn refused_json(refused: &Refused) -> Value {
    let one = |(source, backup, why): &(_, _, String)| json!({ "source": source, "backup": backup, "why": why });
    refused.iter().map(one).collect()
}

/// The same for people, a line each.
pub(super) fn not_counted_text(refused: &Refused) -> String {
    let mut text = String::new();
    for (source, backup, why) in refused {
        let _ = write!(text, "\nREFUSED: {source}/{backup}: {}", line(why));
    }
    text
}

/// What may not be looked into, a line each.
pub(super) fn closed_text(closed: &Closed) -> String {
    closed.texts().iter().map(|one| format!("\nNOT LOOKED AT: {}", line(one))).collect()
}
