//! The log streamed as it is written, cut every few seconds: what is lost with the host is
//! seconds and not a segment.

use std::time::Duration;

use anyhow::{Context as _, Result};
use drctl_engines::pg::replication::{Replication, WalEvent, WalStream};
use drctl_engines::pg::wal::WalWalker;
use drctl_engines::pg::{PgServer, beat};
use drctl_model::{LogPart, LogPlace, Lsn, Timeline, WalSegmentSize};
use tokio::time::{Instant, timeout_at};

use super::Shelf;
use super::shelf::{holds, of_history};
use crate::Stop;
use crate::problem::Problem;

/// How the log is streamed.
#[derive(Debug, Clone)]
pub struct Shipping {
    /// The physical slot that keeps the log on the server until we have it; made where missing.
    pub slot: String,
    /// How long written log may wait until it is shipped.
    pub interval: Duration,
    /// Whether each flush of the server is shipped and confirmed at once: with our name in
    /// `synchronous_standby_names` a commit then returns when its log is in the bucket.
    pub synchronous: bool,
    /// How often something is committed so that the log of an idle server tells the time;
    /// nothing: never.
    pub heartbeat: Option<Duration>,
}

/// The name under which servers know us, for `synchronous_standby_names`.
pub const STANDBY_NAME: &str = "drctl_wal";

/// How often the server hears from us while nothing is written.
const STATUS_EVERY: Duration = Duration::from_secs(5);

/// A stream of one timeline, and what of it is not shipped yet.
struct Cutter<'a> {
    shelf: &'a Shelf,
    system_id: u64,
    timeline: Timeline,
    size: WalSegmentSize,
    walker: WalWalker,
    start: Lsn,
    bytes: Vec<u8>,
}

impl Cutter<'_> {
    fn at(&self) -> Lsn {
        self.start.plus(self.bytes.len() as u64)
    }

    /// Takes bytes, and ships each segment that they end.
    async fn take(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let end = self.size.start_of(self.at()).plus(self.size.bytes());
            let room = usize::try_from(end.since(self.at())).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.walker.feed(now).context("check the log that the server sends")?;
            self.bytes.extend_from_slice(now);
            if self.at() == end {
                self.ship().await?;
            }
            bytes = later;
        }
        Ok(())
    }

    /// Ships what there is; a piece never goes beyond a segment.
    async fn ship(&mut self) -> Result<()> {
        if self.bytes.is_empty() {
            return Ok(());
        }
        let (start, end) = (self.start, self.at());
        let holds = holds(&self.walker.take_summary(), self.size);
        let part = LogPart::Range { start, end };
        let place = LogPlace { system_id: self.system_id, timeline: self.timeline, part };
        self.shelf.keep(place, std::mem::take(&mut self.bytes), holds).await?;
        self.start = end;
        tracing::info!("shipped the log of timeline {} up to {end}", self.timeline);
        Ok(())
    }
}

/// Streams a server's log into the bucket until told to stop, or an error comes.
///
/// # Errors
/// The server's, the store's; log that is damaged.
pub async fn ship(
    shelf: &Shelf,
    server: &PgServer,
    shipping: &Shipping,
    stop: &Stop,
) -> Result<()> {
    let mut next = None;
    loop {
        let connection = Replication::open(server, STANDBY_NAME).await.context("log in")?;
        let (mut stream, mut cutter) = begin(shelf, connection, shipping, next).await?;
        let ended = tokio::select! {
            ended = follow(&mut stream, &mut cutter, shipping) => ended?,
            () = beats(server, shipping) => None,
            () = stop.requested() => {
                cutter.ship().await?;
                stream.confirm(cutter.at(), cutter.start, shelf.now()).await?;
                return Err(Problem::Interrupted.into());
            }
        };
        match ended {
            Some(position) => next = Some(position),
            None => return Ok(()),
        }
    }
}

/// Never ends.
async fn beats(server: &PgServer, shipping: &Shipping) {
    match shipping.heartbeat {
        Some(every) => beat(server, every).await,
        None => std::future::pending().await,
    }
}

/// Where to go on: behind what the bucket holds, else where the slot keeps the log from.
async fn begin<'a>(
    shelf: &'a Shelf,
    mut connection: Replication,
    shipping: &Shipping,
    next: Option<(Timeline, Lsn)>,
) -> Result<(WalStream, Cutter<'a>)> {
    let identity = connection.identify().await?;
    let size = connection.segment_size().await?;
    if connection.slot(&shipping.slot).await?.is_none() {
        connection.create_slot(&shipping.slot).await.context("make the slot")?;
    }
    let slot = connection.slot(&shipping.slot).await?.and_then(|slot| slot.restart);
    let timeline = next.map_or(identity.timeline, |(timeline, _)| timeline);
    if timeline > Timeline::FIRST {
        let (bytes, history) = connection.history(timeline).await?;
        let place = LogPlace { system_id: identity.system_id, timeline, part: LogPart::History };
        shelf.keep(place, bytes, of_history(&history)).await?;
    }
    let kept = size.start_of(slot.unwrap_or(identity.flushed));
    let from = match next {
        Some((_, position)) => size.start_of(position),
        None => resume(shelf, identity.system_id, timeline, kept, size).await?,
    };
    let cutter = Cutter {
        shelf,
        system_id: identity.system_id,
        timeline,
        size,
        walker: WalWalker::new(timeline, from, size),
        start: from,
        bytes: Vec::new(),
    };
    let stream = connection.start(Some(&shipping.slot), from, timeline).await?;
    Ok((stream, cutter))
}

/// The start of the segment in which the log in the bucket ends, from what the server keeps on.
async fn resume(
    shelf: &Shelf,
    system_id: u64,
    timeline: Timeline,
    kept: Lsn,
    size: WalSegmentSize,
) -> Result<Lsn> {
    let mut reach = kept;
    for (start, end) in shelf.ranges((system_id, timeline), kept, None).await? {
        if start <= reach {
            reach = reach.max(end);
        }
    }
    Ok(size.start_of(reach))
}

/// Follows one timeline to its end; gives where the log goes on, nothing where the server ended.
async fn follow(
    stream: &mut WalStream,
    cutter: &mut Cutter<'_>,
    shipping: &Shipping,
) -> Result<Option<(Timeline, Lsn)>> {
    let mut due = Instant::now() + shipping.interval;
    let mut heard = Instant::now() + STATUS_EVERY;
    loop {
        match timeout_at(due.min(heard), stream.next()).await {
            Ok(event) => match event? {
                WalEvent::Data { bytes, .. } => {
                    if cutter.bytes.is_empty() {
                        due = Instant::now() + shipping.interval;
                    }
                    cutter.take(&bytes).await?;
                }
                WalEvent::Keepalive { reply: false, .. } => {}
                WalEvent::Keepalive { reply: true, .. } => heard = Instant::now(),
                WalEvent::TimelineEnd { next, from } => {
                    cutter.ship().await?;
                    return Ok(Some((next, from)));
                }
                WalEvent::End => {
                    cutter.ship().await?;
                    return Ok(None);
                }
            },
            Err(_) => heard = Instant::now(),
        }
        // What is there already goes into the same piece; then nobody waits longer than one PUT
        // that is under way and his own.
        let waiting = shipping.synchronous && !cutter.bytes.is_empty();
        if waiting && !stream.has_more() || Instant::now() >= due {
            cutter.ship().await?;
            due = Instant::now() + shipping.interval;
            heard = Instant::now();
        }
        if Instant::now() >= heard {
            // Safe for good is only what the bucket holds.
            stream.confirm(stream.at(), cutter.start, cutter.shelf.now()).await?;
            heard = Instant::now() + STATUS_EVERY;
        }
    }
}
