//! Where every source stands, as `drctl status` finds it: looked at every few minutes, and after each run.

use std::time::Duration;

use anyhow::Result;
use drctl_engines::blocking;
use jiff::Timestamp;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::{Instant, sleep_until};

use super::Told;
use super::threads::spawn;
use crate::audit::{Standing, ship_soon, standing};
use crate::drill::reap;
use crate::health::{SourceStatus, discover, status};
use crate::host::Setup;
use crate::notify::{Unanswered, acknowledged, unanswered};

/// How long it is from one look to the next.
const EVERY: Duration = Duration::from_secs(300);

/// How soon after a run is looked: runs that end together are looked at together.
const SOON: Duration = Duration::from_secs(2);

/// How long one may take: a bucket that answers slowly for hours, and a file system that does not
/// answer at all, must not keep where the sources stand unknown without a word.
const PATIENCE: Duration = Duration::from_secs(600);

/// How many may hang at once: each has a thread.
const MOST: u32 = 4;

/// What a look found.
#[derive(Debug)]
pub(super) struct Look {
    /// Its own number.
    number: u64,
    /// Whether it does not come to its end.
    pub(super) hangs: bool,
    /// When.
    pub(super) at: Timestamp,
    /// Where every source stands; why that is not known, where it is not.
    pub(super) sources: Result<Vec<SourceStatus>, String>,
    pub(super) host: OfHost,
}

/// What a look found of this host, whatever its sources.
#[derive(Debug, Default)]
pub(super) struct OfHost {
    /// How many database servers no source backs up.
    pub(super) unprotected: usize,
    /// The channels whose test messages nobody acknowledges.
    pub(super) unanswered: Vec<Unanswered>,
    /// When each channel sent its last test message that a person has acknowledged.
    pub(super) acknowledged: Vec<(String, Timestamp)>,
    /// What drills left that could not be removed.
    pub(super) leaked: Vec<String>,
    /// How the audit log stands.
    pub(super) audit: Standing,
}

/// Looks, one after the other.
pub(super) struct Looks {
    next: Instant,
    /// The number of the one that was begun last.
    number: u64,
    /// When the one that is under way was begun.
    under_way: Option<(Instant, Timestamp)>,
    /// How many of those before it have not come to their end.
    hang: u32,
    /// When the last one was begun that came to its end.
    pub(super) last: Option<Timestamp>,
}

impl Looks {
    /// The first one is due at once.
    pub(super) fn new() -> Self {
        Looks { next: Instant::now(), number: 0, under_way: None, hang: 0, last: None }
    }

    /// Something has changed: looks soon.
    pub(super) fn soon(&mut self) {
        self.next = self.next.min(Instant::now() + SOON);
    }

    /// Waits until one is due: while one is under way, until that has taken too long.
    pub(super) async fn due(&self) {
        sleep_until(self.due_at()).await;
    }

    fn due_at(&self) -> Instant {
        self.under_way.map_or(self.next, |(begun, _)| begun + PATIENCE)
    }

    /// Begins one, on a thread of its own; `tell` hears what it found. One that is still under way has taken
    /// too long: that is what is found then, and another one is begun.
    pub(super) fn begin(&mut self, setup: &Setup, tell: UnboundedSender<Told>) {
        let now = setup.clock.now();
        if let Some(late) = self.given_up(now) {
            let _ = tell.send(Told::Looked(late));
        }
        if self.under_way.is_none() {
            self.start(setup, now, tell);
        }
    }

    /// Gives up the one that is under way; what is told of it.
    fn given_up(&mut self, now: Timestamp) -> Option<Look> {
        let (_, at) = self.under_way?;
        let minutes = PATIENCE.as_secs() / 60;
        let why = format!(
            "the look that was begun at {at} has not come to its end in {minutes} minutes: the bucket, a \
             database server or a file system of this host does not answer"
        );
        let number = self.number;
        match self.hang + 1 < MOST {
            true => (self.under_way, self.hang) = (None, self.hang + 1),
            // No more threads for it: this one is waited for.
            false => self.under_way = Some((Instant::now(), now)),
        }
        let sources = Err(why);
        Some(Look { number, hangs: true, at, sources, host: OfHost::default() })
    }

    fn start(&mut self, setup: &Setup, at: Timestamp, tell: UnboundedSender<Told>) {
        self.next = Instant::now() + EVERY;
        self.number += 1;
        let (setup, number) = (setup.clone(), self.number);
        let ended = move |found: Result<_>| {
            let (sources, host) = match found {
                Ok((sources, host)) => (Ok(sources), host),
                Err(error) => (Err(format!("{error:#}")), OfHost::default()),
            };
            let _ = tell.send(Told::Looked(Look { number, hangs: false, at, sources, host }));
        };
        match spawn("look".to_owned(), async move || look(&setup).await, ended) {
            Ok(()) => self.under_way = Some((Instant::now(), at)),
            Err(error) => tracing::error!("the sources cannot be looked at: {error}"),
        }
    }

    /// One came to its end, or was given up. Whether it is the newest: what an older one found at last
    /// is not told.
    pub(super) fn ended(&mut self, look: &Look) -> bool {
        let is_newest = look.number == self.number;
        if !look.hangs {
            self.last = self.last.max(Some(look.at));
            match is_newest && self.under_way.is_some() {
                true => self.under_way = None,
                false => self.hang = self.hang.saturating_sub(1),
            }
        }
        if let Err(why) = &look.sources {
            tracing::warn!("where the sources stand is not known: {why}");
        }
        is_newest || look.hangs
    }
}

async fn look(setup: &Setup) -> Result<(Vec<SourceStatus>, OfHost)> {
    // A command that looks makes no catalog; the agent needs one anyway.
    let catalog = match setup.catalog_path().exists() {
        true => setup.known_catalog().await?,
        false => setup.catalog(&setup.repository().await?).await?,
    };
    let found = discover(Some(setup)).await;
    let unprotected = found.servers.iter().filter(|one| one.is_unprotected()).count();
    let sources = status(setup, &catalog).await?;
    ship_soon(setup).await;
    // What a drill leaves that was killed is personal data as production has them.
    let host = OfHost {
        unprotected,
        unanswered: unanswered(setup, &catalog).await,
        acknowledged: acknowledged(setup, &catalog).await,
        leaked: blocking(|| reap(setup)),
        audit: standing(setup),
    };
    Ok((sources, host))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    /// As if one had been begun.
    fn begun(looks: &mut Looks) {
        looks.number += 1;
        looks.under_way = Some((Instant::now(), NOW));
    }

    fn found(number: u64) -> Look {
        let sources = Ok(Vec::new());
        Look { number, hangs: false, at: NOW, sources, host: OfHost::default() }
    }

    #[test]
    fn a_look_that_hangs_is_told_and_another_one_is_begun() {
        let mut looks = Looks::new();
        begun(&mut looks);
        assert!(looks.due_at().duration_since(Instant::now()) > PATIENCE - SOON);
        let late = looks.given_up(NOW).expect("it is late");
        assert!(late.hangs && late.sources.as_ref().is_err_and(|why| why.contains("10 minutes")));
        assert!(looks.ended(&late), "that it hangs is told");
        assert!(looks.under_way.is_none() && looks.last.is_none());
        begun(&mut looks);
        assert!(!looks.ended(&found(1)), "what the older one finds at last is not");
        assert_eq!((looks.under_way.is_some(), looks.hang), (true, 0));
        assert!(looks.ended(&found(2)));
        assert_eq!((looks.under_way, looks.last), (None, Some(NOW)));
    }

    #[test]
    fn only_so_many_hang_and_the_last_one_that_does_is_told_again_and_again() {
        let mut looks = Looks::new();
        for _ in 1..MOST {
            begun(&mut looks);
            assert!(looks.given_up(NOW).is_some() && looks.under_way.is_none());
        }
        begun(&mut looks);
        for _ in 0..3 {
            assert!(looks.due_at().duration_since(Instant::now()) > PATIENCE - SOON);
            assert!(looks.given_up(NOW).is_some() && looks.under_way.is_some());
        }
        assert!(looks.ended(&found(looks.number)) && looks.under_way.is_none());
    }
}
