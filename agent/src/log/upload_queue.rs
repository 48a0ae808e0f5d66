//! Pieces on their way into the bucket: several at once, and safe in the order of the log.

use std::collections::VecDeque;

use anyhow::Result;
use drctl_model::{Holds, LogPart, LogPlace};
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesOrdered;
use futures_util::{FutureExt as _, StreamExt as _};
use jiff::Timestamp;
use tokio::time::Instant;

use super::{CatchUp, LogEngine, LogStore};

/// Whole units that wait to be stored once more, as one object each. One that finds no room is
/// left out: its parts are there.
const JOINS: usize = 2;

/// A piece that a stream of log was cut into, to be stored.
pub(crate) struct Cut<P> {
    /// Where it belongs.
    pub(crate) place: LogPlace,
    /// Behind its last byte.
    pub(crate) end: P,
    /// Its bytes.
    pub(crate) bytes: Vec<u8>,
    /// What is to be signed of it.
    pub(crate) holds: Holds,
}

/// What is done behind everything that somebody may wait for.
enum Chore<P> {
    /// Stores a whole unit whose parts are stored.
    Join(Box<Cut<P>>),
    /// A whole unit is stored, and all before it.
    Settle(LogPlace),
}

/// A piece that is sent off: its end, and where it belongs, once it is safe.
type Sent<'a, P> = BoxFuture<'a, Result<(P, LogPlace)>>;

/// Pieces under way. Nothing happens to them unless somebody waits in [`UploadQueue::arrived`].
pub(crate) struct UploadQueue<'a, E: LogEngine> {
    log_store: &'a LogStore,
    /// As much of the log as one piece holds, where its engine can put so much into it.
    unit: u64,
    /// What it gives way to; nothing where somebody waits for each piece.
    catch_up: Option<CatchUp>,
    /// Since when some piece was on its way all along.
    busy: Instant,
    under_way: FuturesOrdered<Sent<'a, E::At>>,
    chores: VecDeque<Chore<E::At>>,
    chore: Option<BoxFuture<'a, ()>>,
}

impl<'a, E: LogEngine> UploadQueue<'a, E> {
    pub(crate) fn new(log_store: &'a LogStore, unit: u64, catch_up: Option<CatchUp>) -> Self {
        let (under_way, chores) = (FuturesOrdered::new(), VecDeque::new());
        UploadQueue {
            log_store,
            unit,
            catch_up,
            busy: Instant::now(),
            under_way,
            chores,
            chore: None,
        }
    }

    /// Where they go.
    pub(crate) fn log_store(&self) -> &LogStore {
        self.log_store
    }

    /// The present moment.
    pub(crate) fn now(&self) -> Timestamp {
        self.log_store.now()
    }

    /// Pieces that are not safe yet.
    pub(crate) fn len(&self) -> usize {
        self.under_way.len()
    }

    /// Sends a piece off.
    pub(crate) fn send(&mut self, cut: Cut<E::At>) {
        if self.len() == 0 {
            self.busy = Instant::now();
        }
        let (log_store, catch_up, busy) = (self.log_store, self.catch_up.clone(), self.busy);
        let Cut { place, end, bytes, holds } = cut;
        self.under_way.push_back(
            async move {
                if let Some(catch_up) = catch_up {
                    let first = holds.commits.map(|(first, _)| first);
                    let times = (first, log_store.now());
                    catch_up.ready(bytes.len(), times, busy.elapsed()).await;
                }
                log_store.keep(place.clone(), bytes, holds).await?;
                Ok((end, place))
            }
            .boxed(),
        );
    }

    /// Stores a whole unit that came in parts.
    pub(crate) fn join(&mut self, cut: Cut<E::At>) {
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
    pub(crate) async fn arrived(&mut self) -> Result<E::At> {
        loop {
            if self.chore.is_none()
                && let Some(chore) = self.chores.pop_front()
            {
                self.chore = Some(done::<E>(self.log_store, chore, self.unit).boxed());
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
                    if is_whole(&place, self.unit) {
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
    pub(crate) async fn all_arrived(&mut self) -> Result<Option<E::At>> {
        let mut safe = None;
        while self.len() > 0 {
            safe = Some(self.arrived().await?);
        }
        Ok(safe)
    }
}

fn is_whole(place: &LogPlace, unit: u64) -> bool {
    matches!(place.part, LogPart::Range { start, end } if end.0 - start.0 == unit)
}

async fn done<E: LogEngine>(log_store: &LogStore, chore: Chore<E::At>, unit: u64) {
    let place = match chore {
        Chore::Settle(place) => place,
        Chore::Join(cut) => {
            let Cut { place, end, bytes, holds } = *cut;
            if let Err(error) = log_store.keep(place.clone(), bytes, holds).await {
                tracing::warn!("the {} up to {end} stays in parts: {error:#}", E::LOG);
                return;
            }
            place
        }
    };
    log_store.settle_in::<E>(&place, unit).await;
}
