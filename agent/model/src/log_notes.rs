use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What of a lineage's log does not fit into [`LogEntry`](crate::LogEntry); little of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LogNotes {
    /// What stands for the lengths of the objects of all pieces: another number says that one is not
    /// what it was.
    #[serde(default)]
    pub bytes: Option<u64>,
    /// What its engine notes, which alone reads it.
    #[serde(flatten)]
    pub own: Map<String, Value>,
}
