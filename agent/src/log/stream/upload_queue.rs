//! Pieces on their way into the bucket: several at once, and safe in the order of the log.

use std::collections::VecDeque;

use anyhow::Result;
use drctl_model::{LogPart, LogPlace, Lsn, WalSegmentSize};
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesOrdered;
use futures_util::{FutureExt as _, StreamExt as _};
use jiff::Timestamp;

use crate::log::LogStore;
use crate::log::cutter::Cut;

/// Whole segments that wait to be stored once more, as one object each. One that finds no room is
/// left out: its parts are there.
const JOINS: usize = 2;

/// What is done behind everything that somebody may wait for.
enum Chore {
    /// Stores a whole segment whose parts are stored.
    Join(Box<Cut>),
    /// A whole segment is stored, and all before it.
    Settle(LogPlace),
}

/// Pieces under way. Nothing happens to them unless somebody waits in [`UploadQueue::arrived`].
pub(super) struct UploadQueue<'a> {
    log_store: &'a LogStore,
    size: WalSegmentSize,
    under_way: FuturesOrdered<BoxFuture<'a, Result<(Lsn, LogPlace)>>>,
    chores: VecDeque<Chore>,
    chore: Option<BoxFuture<'a, ()>>,
}

impl<'a> UploadQueue<'a> {
    pub(super) fn new(log_store: &'a LogStore, size: WalSegmentSize) -> Self {
        let (under_way, chores) = (FuturesOrdered::new(), VecDeque::new());
        UploadQueue { log_store, size, under_way, chores, chore: None }
    }

    /// Where they go.
    pub(super) fn log_store(&self) -> &LogStore {
        self.log_store
    }

    /// The present moment.
    pub(super) fn now(&self) -> Timestamp {
        self.log_store.now()
    }

    /// Pieces that are not safe yet.
    pub(super) fn len(&self) -> usize {
        self.under_way.len()
    }

    /// Sends a piece off.
    pub(super) fn send(&mut self, cut: Cut) {
        let log_store = self.log_store;
        let Cut { place, end, bytes, holds } = cut;
        self.under_way.push_back(
            async move {
                log_store.keep(place.clone(), bytes, holds).await?;
                Ok((end, place))
            }
            .boxed(),
        );
    }

    /// Stores a whole segment that came in parts.
    pub(super) fn join(&mut self, cut: Cut) {
        let waiting = self.chores.iter().filter(|chore| matches!(chore, Chore::Join(_)));
        if waiting.count() < JOINS {
            self.chores.push_back(Chore::Join(Box::new(cut)));
        }
    }

    /// Waits until the next piece is safe, and all before it; for ever where there is none. Gives
    /// its end. Cancel-safe.
    ///
    /// # Errors
    /// What kept a piece from being stored: nothing from there on is safe.
    pub(super) async fn arrived(&mut self) -> Result<Lsn> {
        loop {
            if self.chore.is_none()
                && let Some(chore) = self.chores.pop_front()
            {
                self.chore = Some(done(self.log_store, chore, self.size).boxed());
            }
            let chore = async {
                match &mut self.chore {
                    Some(chore) => chore.await,
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
                done = next => {
                    let (end, place) = done?;
                    if is_whole(&place, self.size) {
                        self.chores.push_back(Chore::Settle(place));
                    }
                    return Ok(end);
                }
                () = chore => self.chore = None,
            }
        }
    }

    /// Waits until all pieces are safe; gives the end of the last.
    ///
    /// # Errors
    /// As [`UploadQueue::arrived`].
    pub(super) async fn all_arrived(&mut self) -> Result<Option<Lsn>> {
        let mut safe = None;
        while self.len() > 0 {
            safe = Some(self.arrived().await?);
        }
        Ok(safe)
    }
}

fn is_whole(place: &LogPlace, size: WalSegmentSize) -> bool {
    matches!(place.part, LogPart::Range { start, end } if end.0 - start.0 == size.bytes())
}

async fn done(log_store: &LogStore, chore: Chore, size: WalSegmentSize) {
    let place = match chore {
        Chore::Settle(place) => place,
        Chore::Join(cut) => {
            let Cut { place, end, bytes, holds } = *cut;
            if let Err(error) = log_store.keep(place.clone(), bytes, holds).await {
                tracing::warn!("the segment that ends at {end} stays in parts: {error:#}");
                return;
            }
            place
        }
    };
    log_store.settle(&place, size).await;
}
