//! The log streamed as it is written, cut every few seconds: what is lost with the host is
//! seconds and not a segment.

mod begin;
mod ending;
mod health;
mod removed;
mod there;
mod watch;

use std::time::Duration;

use anyhow::{Context as _, Result};
use drctl_engines::EngineError;
use drctl_engines::pg::ServerError;
use drctl_engines::pg::replication::{Replication, WalEvent, WalStream};
use drctl_engines::pg::wal::WalError;
use drctl_engines::pg::{Heartbeat, PgServer, beat};
use drctl_model::{Lsn, SourceId, Timeline};
use drctl_store::StoreError;
use tokio::time::{Instant, timeout, timeout_at};

use self::begin::{Begun, ResumeFrom, Unsure, begin};
use self::ending::tell_what_is_not_safe;
use self::health::slot_named;
use self::removed::was_removed;
use self::watch::{stands_still, watch};
use super::cutter::{Cuts, Cutter};
use super::taken::{taken, within};
use super::timelines::Wal;
use crate::host::{AgentError, Stop};
use crate::log::{CatchUp, GroupCommit, HeldLog, LogStore, Standstill, UploadQueue};

pub(crate) use health::{LogFinding, log_findings};
pub(crate) use watch::looked_for;

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
    /// How many pieces may be on their way at once, at least one. They are confirmed in order.
    pub puts: usize,
    /// How often something is committed so that the log of an idle server tells the time;
    /// nothing: never.
    pub heartbeat: Option<(Duration, Heartbeat)>,
    /// For how long a server that was reached once may be away, until the stream ends as failed; nothing:
    /// for ever.
    pub bears: Option<Duration>,
    /// What it gives way to; nothing: to nothing.
    pub(crate) catch_up: Option<CatchUp>,
    /// Where it is said what the server holds because it is not in the bucket yet.
    pub(crate) held: HeldLog,
}

/// The replication slot of a source, where none is named.
#[must_use]
pub fn usual_slot(source: &SourceId) -> String {
    format!("drctl_{}", source.as_str().replace('-', "_"))
}

/// The name under which servers know us, for `synchronous_standby_names`.
pub const STANDBY_NAME: &str = "drctl_wal";

/// How often the server hears from us while nothing is written.
const STATUS_EVERY: Duration = Duration::from_secs(5);

/// How long it waits for the first log where it asked for older log than the slot keeps: to confirm
/// that moves the slot back, to where the server may not have it any more. The same where nothing could
/// be compared: what is confirmed counts as compared.
const FIRST_WAIT: Duration = Duration::from_secs(60);

/// How long a commit waits for others that usually come with it, so that all go in one piece.
const GATHER: Duration = Duration::from_millis(3);

/// While all pieces that may are on their way, so much more is read: the next one is larger then.
const READ_ON: u64 = 4 << 20;

/// The pause before a stream that broke off is begun again; it doubles up to the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// What a run of streams remembers from one to the next.
struct Run {
    resume: ResumeFrom,
    cluster: Option<u64>,
    /// From where on the slot kept the log before older log was asked for: to ask moves it back.
    kept: Lsn,
    /// Whether older log was asked for than a slot keeps that was there.
    earlier: bool,
    /// Where it goes on, if it was asked for a segment before that the slot does not keep.
    unsure: Option<Unsure>,
    /// Where such a segment is not asked for again: the server has it no more.
    bare: Option<Unsure>,
    /// Where it is cut besides: a name that was to be written is taken.
    cut_at: Option<Lsn>,
    pause: Duration,
    /// Since when the server is not reached.
    away: Option<Instant>,
    still: Standstill,
}

/// Streams a server's log into the bucket until told to stop. A stream that breaks off, with the
/// server or the bucket, is begun again for as long as it takes: what is not safe stays on the
/// server.
///
/// # Errors
/// [`EngineError`](drctl_engines::EngineError) or [`StoreError`](drctl_store::StoreError) that kept
/// the first stream from beginning; what does not pass: log that is damaged,
/// [`AgentError::OtherLog`](crate::host::AgentError::OtherLog), another cluster, a role that is not let
/// in any more.
pub async fn ship(
    log_store: &LogStore,
    server: &PgServer,
    shipping: &Shipping,
    stop: &Stop,
) -> Result<()> {
    let ended = tokio::select! {
        ended = streams(log_store, server, shipping, stop) => ended,
        never = log_store.findings.keep_all() => match never {},
    };
    log_store.findings.keep().await;
    ended
}

/// One stream after the other.
async fn streams(
    log_store: &LogStore,
    server: &PgServer,
    shipping: &Shipping,
    stop: &Stop,
) -> Result<()> {
    let (findings, source) = (&log_store.findings, &log_store.source);
    let way = (source, slot_named(&shipping.slot));
    let still = Standstill::new(shipping.synchronous, shipping.interval);
    let still = still.telling(findings, way, stands_still);
    let mut run = Run {
        resume: ResumeFrom::Resume,
        cluster: None,
        kept: Lsn(0),
        earlier: false,
        unsure: None,
        bare: None,
        cut_at: None,
        pause: PAUSES.0,
        away: None,
        still,
    };
    loop {
        match stream_once(log_store, server, shipping, stop, &mut run).await {
            Ok(Some((timeline, from))) => {
                tracing::warn!("the server was promoted: its WAL continues on timeline {timeline}");
                run.resume = ResumeFrom::Next(timeline, from);
                continue;
            }
            Ok(None) => tracing::warn!("the server has ended the stream; it will be asked again"),
            Err(error)
                if was_removed(&error)
                    && let Some(left) = run.left() =>
            {
                run.go_on(left, (&error, &shipping.slot), findings, source);
                continue;
            }
            Err(error) if let Some(range) = taken(&error) => {
                tracing::error!("{error:#}: that WAL is stored under other names");
                run.cut_at = Some(within(range));
            }
            Err(error) if run.cluster.is_some() && passes(&error) => {
                let away = run.away.get_or_insert_with(Instant::now).elapsed();
                if shipping.bears.is_some_and(|bears| away > bears) {
                    return Err(error);
                }
                tracing::warn!("the stream broke off, reconnecting: {error:#}");
            }
            Err(error) => return Err(error),
        }
        run.resume = ResumeFrom::Resume;
        run.still.look_again(Instant::now());
        // Nobody waits for the whole of it if the end is wished for.
        if timeout(run.pause, stop.requested()).await.is_ok() {
            return Err(AgentError::Interrupted.into());
        }
        run.pause = (run.pause * 2).min(PAUSES.1);
    }
}

/// Whether it may be over the next time. A server's refusals are not, but for those that tell of
/// its start, its end or too little of something (classes 57, 53, 08).
fn passes(error: &anyhow::Error) -> bool {
    error.chain().all(|cause| {
        if let Some(store) = cause.downcast_ref::<StoreError>() {
            return !store.is_permanent();
        }
        match cause.downcast_ref().map(EngineError::own) {
            Some(Some(ServerError::Connect { .. } | ServerError::NoEntry { .. })) => true,
            Some(Some(ServerError::Query { source, .. })) => {
                source.sqlstate().is_none_or(|state| {
                    ["57", "53", "08", "58", "55006"].iter().any(|s| state.starts_with(s))
                })
            }
            Some(_) => false,
            None => !cause.is::<WalError>() && !cause.is::<AgentError>(),
        }
    }) && error.chain().any(|cause| cause.is::<StoreError>() || cause.is::<EngineError>())
}

/// One stream, to its end; gives where the log goes on, nothing where the server ended it.
async fn stream_once(
    log_store: &LogStore,
    server: &PgServer,
    shipping: &Shipping,
    stop: &Stop,
    run: &mut Run,
) -> Result<Option<(Timeline, Lsn)>> {
    let beginning = async {
        let connection = Replication::open(server, STANDBY_NAME).await.context("log in")?;
        let from = (run.resume, run.bare.as_ref());
        begin(log_store, connection, &shipping.slot, from, run.cluster).await
    };
    let begun = tokio::select! {
        begun = beginning => begun?,
        () = stop.requested() => return Err(AgentError::Interrupted.into()),
    };
    let Begun { mut stream, mut cutter, system_id, size, kept, earlier, unsure, unproven } = begun;
    (run.cluster, run.earlier, run.unsure) = (Some(system_id), earlier, unsure);
    run.still.heard(Instant::now());
    run.away = None;
    if run.resume != ResumeFrom::Behind {
        run.kept = kept;
    }
    cutter = cutter.cutting_at(run.cut_at);
    let mut queue = UploadQueue::new(log_store, size.bytes(), shipping.catch_up.clone());
    let started = cutter.at();
    let waits = started < kept || unproven;
    let first = if waits { FIRST_WAIT } else { Duration::ZERO };
    let due = (&mut run.still, Instant::now() + first);
    let ended = tokio::select! {
        ended = follow(&mut stream, &mut cutter, &mut queue, shipping, due) => Some(ended),
        () = beats(server, shipping) => None,
        () = watch(server, &log_store.source, (&log_store.findings, &shipping.held)) => None,
        () = stop.requested() => None,
    };
    // What is not looked at any more is not known.
    shipping.held.say(None);
    if cutter.at() > started {
        run.pause = PAUSES.0;
        if run.resume == ResumeFrom::Behind {
            run.resume = ResumeFrom::Resume;
        }
    }
    match ended {
        Some(ended) => ended,
        None => {
            cutter.cut().into_iter().for_each(|cut| queue.send(cut));
            let arrived = queue.all_arrived().await;
            let confirmed = match arrived {
                Ok(Some(safe)) => stream.confirm(safe, log_store.now()).await,
                _ => Ok(()),
            };
            tell_what_is_not_safe((&log_store.source, server), &shipping.slot, &stream).await;
            arrived?;
            confirmed?;
            Err(AgentError::Interrupted.into())
        }
    }
}

/// Never ends.
async fn beats(server: &PgServer, shipping: &Shipping) {
    match shipping.heartbeat {
        Some((every, heartbeat)) => beat(server, every, heartbeat).await,
        None => std::future::pending().await,
    }
}

/// What a stream waits for.
enum Happened {
    /// All before is in the bucket.
    Safe(Lsn),
    /// Something came from the server.
    Came(WalEvent),
    /// It is time to look again.
    Time,
}

/// Follows one timeline to its end; gives where the log goes on, nothing where the server ended.
async fn follow(
    stream: &mut WalStream,
    cutter: &mut Cutter,
    queue: &mut UploadQueue<'_, Wal>,
    shipping: &Shipping,
    (still, mut heard): (&mut Standstill, Instant),
) -> Result<Option<(Timeline, Lsn)>> {
    let patience = if shipping.synchronous { GATHER } else { shipping.interval };
    let mut safe = cutter.at();
    let (mut due, mut group_commit) = (None, GroupCommit::default());
    loop {
        if Instant::now() >= heard {
            // Safe for good is only what the bucket holds; nothing is written anywhere else.
            stream.confirm(safe, queue.now()).await?;
            heard = Instant::now() + STATUS_EVERY;
            still.look(Instant::now(), stream.at().since(safe));
        }
        let next = due.filter(|_| queue.len() < shipping.puts).unwrap_or(heard).min(heard);
        let happened = next_of(stream, cutter, queue, shipping, next).await?;
        if matches!(happened, Happened::Came(_)) {
            still.heard(Instant::now());
        }
        match happened {
            Happened::Safe(end) => {
                safe = end;
                heard = Instant::now();
                still.moved(heard);
                group_commit.arrived();
                // Those who were just told come back within a moment.
                due = due.map(|due| if shipping.synchronous { heard + GATHER } else { due });
            }
            Happened::Time | Happened::Came(WalEvent::Keepalive { reply: false, .. }) => {}
            Happened::Came(WalEvent::Keepalive { reply: true, .. }) => heard = Instant::now(),
            Happened::Came(WalEvent::Data { bytes, .. }) => {
                heard = heard.min(Instant::now() + STATUS_EVERY);
                let (mut cuts, before) = (Cuts::default(), cutter.commits());
                if let Some(head) = cutter.take(&bytes, &mut cuts)? {
                    return Err(queue.log_store().other_history(&head));
                }
                for cut in cuts.pieces {
                    group_commit.sent(before);
                    queue.send(cut);
                }
                cuts.joined.into_iter().for_each(|cut| queue.join(cut));
                due = due.or(Some(Instant::now() + patience));
            }
            Happened::Came(ended) => {
                cutter.cut().into_iter().for_each(|cut| queue.send(cut));
                queue.all_arrived().await?;
                return Ok(match ended {
                    WalEvent::TimelineEnd { next, from } => Some((next, from)),
                    _ => None,
                });
            }
        }
        let waiting = cutter.commits();
        // What is there already goes into the same piece.
        let all = shipping.synchronous && !stream.has_more() && group_commit.is_here(waiting);
        if (all || due.is_some_and(|due| Instant::now() >= due))
            && queue.len() < shipping.puts
            && let Some(cut) = cutter.cut()
        {
            group_commit.sent(waiting);
            queue.send(cut);
        }
        if cutter.waiting() == 0 {
            due = None;
        }
    }
}

/// The next thing that happens, at most until `until`.
async fn next_of(
    stream: &mut WalStream,
    cutter: &Cutter,
    queue: &mut UploadQueue<'_, Wal>,
    shipping: &Shipping,
    until: Instant,
) -> Result<Happened> {
    let full = queue.len() >= shipping.puts;
    let reads = !full || cutter.waiting() < READ_ON && queue.len() < 2 * shipping.puts;
    let next = async {
        tokio::select! {
            safe = queue.arrived() => safe.map(Happened::Safe),
            event = stream.next(), if reads => Ok(Happened::Came(event?)),
        }
    };
    timeout_at(until, next).await.unwrap_or(Ok(Happened::Time))
}
