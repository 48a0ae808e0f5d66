use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use drctl_model::{BackupKind, Content, Engine, Lineage, Snapshot, StreamFacts, StreamId};

use super::Sums;
use super::entry::lineage;
use crate::{BackupSource, EngineError, Finished, StreamOutcome, ToolRun};

/// A ledger that is read.
pub struct LedgerSource {
    books: PathBuf,
    lineage: Lineage,
    /// Where it stood, once it was read.
    at: Option<u64>,
}

impl LedgerSource {
    /// Finds out which ledger it is.
    ///
    /// # Errors
    /// Where it cannot be read, or is none.
    pub fn open(books: &Path) -> Result<LedgerSource, EngineError> {
        Ok(LedgerSource { books: books.to_owned(), lineage: lineage(books)?, at: None })
    }
}

#[async_trait]
impl BackupSource for LedgerSource {
    async fn next_stream(&mut self) -> Result<Option<ToolRun>, EngineError> {
        if self.at.is_some() {
            return Ok(None);
        }
        let text = std::fs::read_to_string(self.books.join("sums"));
        let text = text.map_err(EngineError::io("read the ledger"))?;
        self.at = Some(Sums::parse(&text)?.at);
        let outcome = StreamOutcome { children: Vec::new(), content: Content::Archive };
        Ok(Some(ToolRun {
            id: StreamId::archive(),
            label: "the ledger".to_owned(),
            expected_bytes: Some(text.len() as u64),
            output: Box::pin(Cursor::new(text.into_bytes())),
            outcome: Box::pin(async { Ok(outcome) }),
        }))
    }

    async fn finish(self: Box<Self>, _: &[StreamFacts]) -> Result<Finished, EngineError> {
        let at = self.at.unwrap_or(0);
        let snapshot = Snapshot { lineage: self.lineage, start: at, stop: at };
        Ok(Finished {
            engine: Engine::Ledger,
            kind: BackupKind::Snapshot(snapshot),
            versions: BTreeMap::new(),
            suspect: Vec::new(),
            notes: Vec::new(),
            brought: None,
        })
    }

    async fn abort(self: Box<Self>) {}
}
