//! What the table of contents names, and the blocks of data behind it.

use std::mem;

use super::block::{BLOCK_BLOBS, BLOCK_DATA, Due, Entry, Raw};
use super::field::Field;
use super::fold::{Fold, of_parts};
use crate::pg::dump::{DumpWalker, WalkError};

/// The kind of an entry that says where a sequence stands.
pub(super) const SEQUENCE: &str = "SEQUENCE SET";

impl DumpWalker {
    /// Digests what an entry names, and remembers it if that was wished for.
    pub(super) fn note(&mut self, entry: &Entry) {
        // The database itself is made before anything is restored into it.
        if entry.is_of_database() {
            return;
        }
        let (kind, Raw { schema, name, definition }) = (&entry.description, &entry.raw);
        let is_sequence = kind == SEQUENCE;
        if let Some(key) = self.key {
            self.shape.digested.objects.add(of_parts(key, &[kind.as_bytes(), schema, name]));
            if is_sequence {
                self.shape.digested.sequences.add(of_parts(key, &[schema, name, definition]));
            }
        }
        if self.names && is_sequence {
            self.shape.stands.insert((schema.clone(), name.clone()), definition.clone());
        } else if self.names {
            let named = (kind.clone(), schema.clone(), name.clone());
            *self.shape.named.entry(named).or_default() += 1;
        }
    }

    pub(super) fn begin_block(&mut self, id: i64) -> Result<(), WalkError> {
        let Some(due) = self.due.remove(&id) else {
            return Err(self.wrong(format!("the block of entry {id} is not due here")));
        };
        let objects = matches!(due, Due::LargeObjects);
        self.field = match self.block.kind {
            BLOCK_DATA if !objects => Field::Chunk,
            BLOCK_BLOBS if objects => Field::LargeObject,
            kind => return Err(self.wrong(format!("the block of entry {id} has type {kind}"))),
        };
        if let Due::Table { .. } = due {
            self.block.fold = Fold::rows(self.key);
        }
        self.block.due = Some(due);
        Ok(())
    }

    /// Ends a table's rows, or one large object.
    pub(super) fn end_of_chunks(&mut self) -> Result<(), WalkError> {
        if self.block.kind == BLOCK_BLOBS {
            if let Some(digest) = self.block.fold.end_object() {
                self.shape.digested.large_objects.add(digest);
            }
            self.field = Field::LargeObject;
            return Ok(());
        }
        let dumped = mem::take(&mut self.block).end().map_err(|problem| self.wrong(problem))?;
        if let Some((oid, table)) = dumped
            && self.shape.tables.insert(oid, table).is_some()
        {
            return Err(self.wrong(format!("the table with identifier {oid} occurs twice")));
        }
        self.field = self.next_block();
        Ok(())
    }
}
