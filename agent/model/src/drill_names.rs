use serde::{Deserialize, Serialize};

/// What of a drill only those may read who can open its backup: the names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrillNames {
    /// Tables of which every row was compared, and is the one that has to be there: those with the most rows first.
    pub tables: Vec<ProvenTable>,
    /// How many more tables there are that are not listed.
    #[serde(default, skip_serializing_if = "crate::drill::is_zero")]
    pub more: u64,
    /// What was compared by its number alone, or not at all, each with the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub counted: Vec<String>,
    /// Why it did not pass.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub why: Vec<String>,
}

/// A table of which every row was compared.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProvenTable {
    /// The database that it is in.
    pub database: String,
    /// Its schema and name; of a partitioned table that of its root, where rows are loaded through that.
    pub table: String,
    /// Its rows.
    pub rows: u64,
}
