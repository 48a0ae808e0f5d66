use std::collections::{BTreeMap, HashMap};

use drctl_model::{Folded, RowDigest};

/// What is wrong with a dump.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WalkError {
    /// The stream ended too early.
    #[error("it ends after {at} bytes, {missing}")]
    Truncated {
        /// How long it is.
        at: u64,
        /// What was missing.
        missing: String,
    },
    /// A byte that cannot be there.
    #[error("at byte {at}: {problem}")]
    Malformed {
        /// Where, from 0.
        at: u64,
        /// What is wrong.
        problem: String,
    },
    /// What it holds is not what it must hold.
    #[error("{0}")]
    Contents(String),
    /// A text that is longer than it can be read back.
    #[error("it has more than {limit} bytes")]
    TooLong {
        /// The bound.
        limit: usize,
    },
    /// A text without the line that marks its end.
    #[error("its last line is not `{wanted}`")]
    NoTrailer {
        /// The line that must be there.
        wanted: &'static str,
    },
}

/// What a complete dump holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DumpShape {
    /// Version of the archive format: 1.14 is (1, 14).
    pub format: (u8, u8),
    /// The database that was dumped, as it stands in the header.
    pub database: String,
    /// The server's version.
    pub server: String,
    /// The version of `pg_dump`.
    pub pg_dump: String,
    /// Entries in the table of contents.
    pub entries: u64,
    /// The rows of each table that has a block of data, by the table's object identifier.
    pub tables: HashMap<u32, DumpedTable>,
    /// Large objects.
    pub large_objects: u64,
    /// What is digested beside rows, where there is a key.
    pub digested: Digested,
    /// What the table of contents names, where that was wished for: kind, schema and name in the encoding of the
    /// dump, and how often. Sequences' values are not among it.
    pub named: BTreeMap<(String, Vec<u8>, Vec<u8>), u64>,
    /// Where each sequence stands, by schema and name, where names are remembered: the statement that says so.
    pub stands: BTreeMap<(Vec<u8>, Vec<u8>), Vec<u8>>,
    /// Entries that make something where nothing is: a table, a function, a schema, and so on.
    pub objects: u64,
    /// Statements about the database itself: the kind of each, and its text where it can be run.
    pub own: Vec<(String, Option<String>)>,
    /// Length of the dump.
    pub bytes: u64,
}

/// The rows of one table in a dump.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DumpedTable {
    /// The schema, in the encoding of the dump (shown with replacement characters if not UTF-8).
    pub schema: String,
    /// The table.
    pub table: String,
    /// How many rows the block holds.
    pub rows: u64,
    /// Their digests, where there is a key.
    pub digest: Option<RowDigest>,
    /// Schema and name of the table through which its rows are loaded, where that is not itself: in a table
    /// that is partitioned by the hash of an enum they lie elsewhere afterwards.
    pub through: Option<(String, String)>,
    /// The statement that loads its rows, with its columns in order, where names are remembered.
    pub copy: Option<String>,
}

/// What a dump holds beside rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Digested {
    /// Large objects: the identifier and the bytes of each.
    pub large_objects: Folded,
    /// Sequences: where each stands.
    pub sequences: Folded,
    /// Whatever the table of contents names: kind, schema and name of each. The database itself is not among it.
    pub objects: Folded,
}
