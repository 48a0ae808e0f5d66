//! Log that no engine of this program reads: told by what it says that it needs, and in nobody's way.

use std::ops::ControlFlow;

use anyhow::{Context as _, Result};
use drctl_model::{Lineage, LogPart, LogPlace};
use drctl_store::layout;

use super::LogStore;
use crate::repository::faults::{is_bad_manifest, is_missing};

impl LogStore {
    /// Why the log of these lineages, which whoever asks does not read, is read by nobody here; one
    /// sentence for each: the head of a piece says which drctl reads it.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn unread(
        &self,
        lineages: impl IntoIterator<Item = &Lineage>,
    ) -> Result<Vec<String>> {
        let mut told = Vec::new();
        for lineage in lineages.into_iter() {
            let Some(place) = self.any_piece(lineage, |_| true).await? else { continue };
            let why = match self.head(&place).await {
                // Another engine of this drctl has such a log.
                Ok(_) => continue,
                Err(error) if is_missing(&error) => continue,
                Err(error) if is_bad_manifest(&error) => format!("{error:#}"),
                Err(error) => return Err(error).context("look whose log it is"),
            };
            told.push(format!("log of {lineage}: {why}"));
        }
        Ok(told)
    }

    /// A piece of a lineage, if there is one such as is wanted.
    pub(super) async fn any_piece(
        &self,
        lineage: &Lineage,
        wanted: impl Fn(&LogPart) -> bool,
    ) -> Result<Option<LogPlace>> {
        let mut found = None;
        let prefix = layout::lineage(&self.source, lineage);
        let bucket = &self.repository().bucket;
        let listing = bucket.list_states(&prefix, None, |state| {
            let place = layout::piece_at(&state.key).filter(|_| !state.deleted);
            found = place.map(|(_, place)| place).filter(|place| wanted(&place.part));
            if found.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        listing.await.context("list the log")?;
        Ok(found)
    }
}
