//! A made-up database: `engine = "ledger"`.

mod recovery;

use std::path::PathBuf;

use serde::Serialize;

use super::{Engine, Method, Settings, is_engine};
use crate::keys::Key;
use crate::keys::Kind::Path;
use crate::reader::Reader;

pub use recovery::{LedgerAt, LedgerBase, LedgerPlan, plan_ledger};

/// All of a ledger.
pub(super) const METHOD: Method =
    Method { name: "ledger", keys: &[KEYS], read: |reader| read(reader).map(Engine::Ledger) };

const KEYS: &[Key] = &[Key::optional("books", Path, "ledger: its directory; required with it.")];

/// A ledger that is backed up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ledger {
    /// Its directory.
    pub books: PathBuf,
}

impl Settings for Ledger {}

fn read(reader: &Reader<'_>) -> Option<Ledger> {
    let books = reader.path("books");
    if is_engine(reader, METHOD.name) && !reader.has("books") {
        let advice = "write where the ledger lies";
        reader.report.advise(&reader.span, "missing key `books`", advice);
    }
    Some(Ledger { books: books? })
}
