//! Where every source stands, as `drctl status` finds it: looked at every few minutes, and after each run.

use std::time::Duration;

use anyhow::Result;
use jiff::Timestamp;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::{Instant, sleep_until};

use super::Told;
use super::threads::spawn;
use crate::health::{SourceStatus, discover, status};
use crate::host::Setup;
use crate::notify::{Unanswered, unanswered};

/// How long it is from one look to the next.
const EVERY: Duration = Duration::from_secs(300);

/// How soon after a run is looked: runs that end together are looked at together.
const SOON: Duration = Duration::from_secs(2);

/// What a look found.
#[derive(Debug)]
pub(super) struct Look {
    /// When.
    pub(super) at: Timestamp,
    /// How many database servers of this host no source backs up.
    pub(super) unprotected: usize,
    /// Where every source stands; why that is not known, where it is not.
    pub(super) sources: Result<Vec<SourceStatus>, String>,
    /// The channels whose test messages nobody acknowledges.
    pub(super) unanswered: Vec<Unanswered>,
}

/// Looks, one after the other.
pub(super) struct Looks {
    next: Instant,
    under_way: bool,
    /// When the last one was begun that came to its end.
    pub(super) last: Option<Timestamp>,
}

impl Looks {
    /// The first one is due at once.
    pub(super) fn new() -> Self {
        Looks { next: Instant::now(), under_way: false, last: None }
    }

    /// Something has changed: looks soon.
    pub(super) fn soon(&mut self) {
        self.next = self.next.min(Instant::now() + SOON);
    }

    /// Waits until one is due; for ever while one is under way.
    pub(super) async fn due(&self) {
        match self.under_way {
            true => std::future::pending().await,
            false => sleep_until(self.next).await,
        }
    }

    /// Begins one, on a thread of its own; `tell` hears what it found.
    pub(super) fn begin(&mut self, setup: &Setup, tell: UnboundedSender<Told>) {
        self.next = Instant::now() + EVERY;
        let (setup, at) = (setup.clone(), setup.clock.now());
        let ended = move |found: Result<_>| {
            let (sources, unanswered, unprotected) = match found {
                Ok((sources, unanswered, unprotected)) => (Ok(sources), unanswered, unprotected),
                Err(error) => (Err(format!("{error:#}")), Vec::new(), 0),
            };
            let _ = tell.send(Told::Looked(Look { at, unprotected, sources, unanswered }));
        };
        match spawn("look".to_owned(), async move || look(&setup).await, ended) {
            Ok(()) => self.under_way = true,
            Err(error) => tracing::error!("the sources cannot be looked at: {error}"),
        }
    }

    /// It came to its end.
    pub(super) fn ended(&mut self, look: &Look) {
        (self.under_way, self.last) = (false, Some(look.at));
        if let Err(why) = &look.sources {
            tracing::warn!("where the sources stand is not known: {why}");
        }
    }
}

async fn look(setup: &Setup) -> Result<(Vec<SourceStatus>, Vec<Unanswered>, usize)> {
    // A command that looks makes no catalog; the agent needs one anyway.
    let catalog = match setup.catalog_path().exists() {
        true => setup.known_catalog().await?,
        false => setup.catalog(&setup.repository().await?).await?,
    };
    let found = discover(Some(setup)).await;
    let unprotected = found.servers.iter().filter(|one| one.is_unprotected()).count();
    Ok((status(setup, &catalog).await?, unanswered(setup, &catalog).await, unprotected))
}
