//! Pieces on their way into the bucket: several at once, and safe in the order of the log.

use std::collections::VecDeque;

use anyhow::Result;
use drctl_model::Lsn;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesOrdered;
use futures_util::{FutureExt as _, StreamExt as _};
use jiff::Timestamp;

use super::Shelf;
use super::cutter::Cut;

/// Whole segments that wait to be stored once more, as one object each. One that finds no room is
/// left out: its parts are there.
const JOINS: usize = 2;

/// Pieces under way. Nothing happens to them unless somebody waits in [`Convoy::arrived`].
pub(super) struct Convoy<'a> {
    shelf: &'a Shelf,
    under_way: FuturesOrdered<BoxFuture<'a, Result<Lsn>>>,
    joining: Option<BoxFuture<'a, (Lsn, Result<()>)>>,
    joins: VecDeque<Cut>,
}

impl<'a> Convoy<'a> {
    pub(super) fn new(shelf: &'a Shelf) -> Self {
        Convoy { shelf, under_way: FuturesOrdered::new(), joining: None, joins: VecDeque::new() }
    }

    /// The present moment.
    pub(super) fn now(&self) -> Timestamp {
        self.shelf.now()
    }

    /// Pieces that are not safe yet.
    pub(super) fn len(&self) -> usize {
        self.under_way.len()
    }

    /// Sends a piece off.
    pub(super) fn send(&mut self, cut: Cut) {
        let shelf = self.shelf;
        let Cut { place, end, bytes, holds } = cut;
        self.under_way.push_back(
            async move {
                shelf.keep(place, bytes, holds).await?;
                Ok(end)
            }
            .boxed(),
        );
    }

    /// Stores a whole segment, behind everything that somebody may wait for.
    pub(super) fn join(&mut self, cut: Cut) {
        if self.joins.len() < JOINS {
            self.joins.push_back(cut);
        }
    }

    /// Waits until the next piece is safe, and all before it; for ever where there is none. Gives
    /// its end. Cancel-safe.
    ///
    /// # Errors
    /// What kept a piece from being stored: nothing from there on is safe.
    pub(super) async fn arrived(&mut self) -> Result<Lsn> {
        loop {
            if self.joining.is_none()
                && let Some(cut) = self.joins.pop_front()
            {
                self.joining = Some(joined(self.shelf, cut).boxed());
            }
            let joining = async {
                match &mut self.joining {
                    Some(joining) => joining.await,
                    None => std::future::pending().await,
                }
            };
            let next = async {
                match self.under_way.next().await {
                    Some(done) => done,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                done = next => return done,
                (end, done) = joining => {
                    self.joining = None;
                    if let Err(error) = done {
                        tracing::warn!("the segment that ends at {end} stays in parts: {error:#}");
                    }
                }
            }
        }
    }

    /// Waits until all pieces are safe; gives the end of the last.
    ///
    /// # Errors
    /// As [`Convoy::arrived`].
    pub(super) async fn all_arrived(&mut self) -> Result<Option<Lsn>> {
        let mut safe = None;
        while self.len() > 0 {
            safe = Some(self.arrived().await?);
        }
        Ok(safe)
    }
}

async fn joined(shelf: &Shelf, cut: Cut) -> (Lsn, Result<()>) {
    let end = cut.end;
    (end, shelf.keep(cut.place, cut.bytes, cut.holds).await.map(drop))
}
