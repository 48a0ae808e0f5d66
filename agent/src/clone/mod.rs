//! Clones: a source as it was at a moment, as a server of its own in a sandbox, for a while; then all of it is gone.

mod kept;
mod make;
mod proxy;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use drctl_model::{DrillId, JobKind, SourceId};
use tokio::time::{MissedTickBehavior, interval};

pub use self::kept::{CloneState, Exposed, destroy, extend, find, list};
use self::make::{Made, make};
use self::proxy::Proxy;
pub use self::proxy::Way;
use crate::drill::scratch_dir::{CLONE, ScratchDir};
use crate::drill::{DrillRequest, Wanted, floor, root};
use crate::host::{AgentError, Meter, Setup, Stop, read_within, waited};
use crate::jobs::run;

/// How often it is looked whether it has to end.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The largest file that masks a clone, in bytes, and how long it may take to come, where it is a pipe.
const MASK_BYTES: u64 = 16 << 20;
const MASK_PATIENCE: Duration = Duration::from_secs(60);

/// What is asked for.
#[derive(Debug, Clone)]
pub struct CloneRequest {
    /// The source.
    pub source: SourceId,
    /// Which backup or moment.
    pub wanted: Wanted,
    /// For how long it is there, from when it can be used.
    pub ttl: Duration,
    /// Statements that are run in it before anybody gets in, and the database; without one the only one that it has.
    pub mask: Option<(PathBuf, Option<String>)>,
    /// How others than this account reach it.
    pub expose: Option<Way>,
    /// The file of the identity; without one that of the configuration.
    pub identity: Option<PathBuf>,
    /// Below which directory it is restored; without one that of the configuration.
    pub scratch: Option<PathBuf>,
    /// What it is called.
    pub id: DrillId,
}

impl CloneRequest {
    fn as_drill(&self) -> DrillRequest {
        DrillRequest {
            source: self.source.clone(),
            wanted: self.wanted.clone(),
            identity: self.identity.clone(),
            scratch: self.scratch.clone(),
            within: self.ttl,
            kit: None,
            together: None,
        }
    }
}

/// Statements, and the database in which they are run, where it is named.
type Mask<'a> = (String, &'a Option<String>);

/// Why a clone is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// Its time was over.
    Expired,
    /// Somebody wished for it.
    Destroyed,
    /// It could not go on: why.
    For(String),
}

/// Makes a clone, tells when it can be used, and keeps it until its time is over or somebody wishes for its end; then
/// removes all of it.
///
/// # Errors
/// [`AgentError`]: whatever kept it from being made, and all of it is removed then; what could not be removed at its end.
pub async fn clone(
    setup: &Setup,
    request: &CloneRequest,
    meter: &Meter,
    ready: impl FnOnce(&CloneState),
    stop: &Stop,
) -> Result<Ended> {
    let mask = request.mask.as_ref().map(|(file, of)| Ok::<_, anyhow::Error>((read(file)?, of)));
    let mask = mask.transpose()?;
    let proxy = match &request.expose {
        Some(way) => Some(Proxy::listen(way).await?),
        None => None,
    };
    let root = root(setup, request.scratch.as_deref())?;
    let scratch = ScratchDir::make(setup, &root, (CLONE, &request.id))?;
    let made = kept_until_end(setup, request, (&scratch, mask, proxy), (meter, ready), stop).await;
    meter.label("removing the clone");
    let removed = scratch.remove().await;
    let ended = match made {
        Err(_) if stop.is_requested() => Err(AgentError::Interrupted.into()),
        made => made,
    };
    match (ended, removed) {
        (Ok(ended), removed) => removed.map(|()| ended),
        (Err(error), Ok(())) => Err(error),
        (Err(error), Err(left)) => Err(error.context(format!("{left:#}"))),
    }
}

/// What masks it, from a file of a bounded size that comes in bounded time, whatever it is.
fn read(file: &Path) -> Result<String> {
    let read = || format!("read {}", file.display());
    let bytes = waited(|| read_within(file, MASK_BYTES, MASK_PATIENCE)).with_context(read)?;
    String::from_utf8(bytes).with_context(read)
}

async fn kept_until_end(
    setup: &Setup,
    request: &CloneRequest,
    (scratch, mask, proxy): (&ScratchDir, Option<Mask<'_>>, Option<Proxy>),
    (meter, ready): (&Meter, impl FnOnce(&CloneState)),
    stop: &Stop,
) -> Result<Ended> {
    let making = Box::pin(make(setup, request, scratch, meter, stop));
    let of = (JobKind::Restore, vec![request.source.clone()]);
    let mut made = run(setup, of, making, |_, _| None).await?;
    let preparing = prepared(setup, request, scratch, (&made, mask), meter);
    let state = match stop.unless(preparing).await {
        Ok((state, password)) => {
            let exposed = proxy.map(|proxy| proxy.serve(made.scratch.server()));
            let exposed = exposed.zip(password);
            let state = CloneState {
                exposed: exposed.as_ref().map(|(serving, password)| Exposed {
                    at: serving.at(),
                    password: password.clone(),
                }),
                ..state
            };
            kept::write(&scratch.path(), &state).map(|()| (state, exposed))
        }
        Err(error) => Err(error),
    };
    let ended = match state {
        Ok((state, _serving)) => {
            meter.label("ready");
            ready(&state);
            ends(setup, &mut made, scratch, stop).await
        }
        Err(error) => Err(error),
    };
    made.scratch.stop().await?;
    ended
}

/// Masks it, lets others in where that is wished, and tells what is to be known of it.
async fn prepared(
    setup: &Setup,
    request: &CloneRequest,
    scratch: &ScratchDir,
    (made, mask): (&Made, Option<Mask<'_>>),
    meter: &Meter,
) -> Result<(CloneState, Option<String>)> {
    let databases = made.scratch.databases().await?;
    let mut masked = None;
    if let Some((statements, database)) = mask {
        meter.label("masking");
        let database = only(database.as_ref(), &databases)?;
        made.scratch.mask(database, &statements).await?;
        masked = Some(database);
    }
    let password = match request.expose {
        Some(_) => {
            let password = format!("{:032x}", rand::random::<u128>());
            made.scratch.admit(&password, masked).await?;
            Some(password)
        }
        None => None,
    };
    let (server, now) = (made.scratch.server(), setup.clock.now());
    let ends = now.checked_add(request.ttl).context("the time of its end")?;
    kept::set_end(&scratch.path(), ends)?;
    let state = CloneState {
        clone: request.id.clone(),
        source: request.source.clone(),
        backup: made.backup.clone(),
        target: made.target.clone(),
        made: now,
        masked: masked.is_some(),
        socket: PathBuf::from(&server.host),
        port: server.port,
        user: server.user.clone(),
        databases,
        notes: made.notes.clone(),
        exposed: None,
    };
    Ok((state, password))
}

/// The database that is masked.
fn only<'a>(named: Option<&'a String>, all: &'a [String]) -> Result<&'a str> {
    let ordinary: Vec<&String> = all.iter().filter(|name| *name != "postgres").collect();
    match (named, ordinary.as_slice()) {
        (Some(named), _) if all.contains(named) => Ok(named),
        (None, [one]) => Ok(one),
        (None, []) if all.len() == 1 => Ok(&all[0]),
        _ => {
            let text = format!(
                "name the database that is to be masked with --mask-database: there are {}. The clone is removed",
                all.join(", ")
            );
            Err(AgentError::Usage(text).into())
        }
    }
}

/// Waits until it has to end.
async fn ends(setup: &Setup, made: &mut Made, scratch: &ScratchDir, stop: &Stop) -> Result<Ended> {
    let places = [scratch.path(), setup.config.paths.state_dir.clone()];
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.requested() => return Ok(Ended::Destroyed),
            _ = ticks.tick() => {}
        }
        match kept::end(&scratch.path()) {
            Ok(Some(end)) if setup.clock.now() < end => {}
            Ok(Some(_)) => return Ok(Ended::Expired),
            Ok(None) => return Ok(Ended::Destroyed),
            Err(error) => return Ok(Ended::For(format!("{error:#}"))),
        }
        if let Some(why) = places.iter().find_map(|place| floor::nearly_full(place)) {
            return Ok(Ended::For(why));
        }
        if let Err(error) = made.scratch.still_runs() {
            return Ok(Ended::For(error.to_string()));
        }
    }
}
