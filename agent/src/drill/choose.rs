//! Which backup a drill tries, of those that are in the bucket.

use anyhow::Result;
use drctl_model::{BackupSummary, DrillPoint};
use drctl_policies::recovery::Target;
use futures_util::TryStreamExt as _;
use jiff::Timestamp;

use super::cluster::recovery_of;
use super::which::{self, Next};
use super::{DrillRequest, Wanted};
use crate::host::{AgentError, Setup};
use crate::repository::losses::find;
use crate::repository::newest::two_servers;
use crate::repository::{Memory, Proven, Repository, everything, horizon};
use crate::restore::cluster::Choice;
use crate::restore::recovery::plan;

/// What is tried.
pub(crate) struct Chosen {
    pub(crate) backup: Proven,
    pub(crate) point: DrillPoint,
    /// The moment to which it is recovered, where one is wanted.
    pub(crate) at: Option<Timestamp>,
    /// The base backup up to whose end the log is replayed, where that is not its end; both are compared there.
    pub(super) next: Option<Next>,
    /// Whether it is dated in the future: a clock was wrong.
    pub(crate) in_future: bool,
}

/// The backup that is wanted, and up to which position its log is replayed.
///
/// # Errors
/// The store's; [`AgentError::NoBackup`].
pub(crate) async fn choose(
    setup: &Setup,
    repository: &Repository,
    request: &DrillRequest,
) -> Result<Chosen> {
    let source = &request.source;
    let memory = Memory::at_hand(setup, repository, source).await;
    let mut all = Vec::new();
    let mut each = everything(repository, vec![source.clone()]);
    while let Some((_, _, proven)) = each.try_next().await? {
        all.extend(proven.ok().map(|proven| proven.summary()));
    }
    drop(each);
    memory.mark(&mut all);
    let seed = match request.wanted {
        Wanted::Random(Some(seed)) | Wanted::Moment(Some(seed)) => seed,
        _ => rand::random(),
    };
    let named = DrillPoint { wanted: request.wanted.point(), seed: None, of: 0 };
    let (backup, point) = match &request.wanted {
        Wanted::Named(id) => (find(setup, repository, Some(source), id).await?, named),
        Wanted::Latest => {
            let latest = repository.latest(source, setup.clock.now(), &memory).await?;
            if let Some(outlived) = latest.outlived {
                return Err(two_servers(&latest.backup, &outlived));
            }
            let of = which::good(&all).len() as u64;
            (latest.backup, DrillPoint { of, ..named })
        }
        wanted => {
            let none = || {
                AgentError::NoBackup(match wanted {
                    Wanted::Time(at) => {
                        format!("there is no good backup of {source} that had ended at {at}")
                    }
                    Wanted::Suspect => format!("there is no suspect backup of {source}"),
                    _ => format!("there is no good backup of {source}"),
                })
            };
            let replays = newest_replays(setup, request, &all).await?;
            let (id, point) =
                which::choose(&request.wanted, &all, (seed, replays)).ok_or_else(none)?;
            (find(setup, repository, Some(source), id.as_str()).await?, point)
        }
    };
    let at = match request.wanted {
        Wanted::Time(at) => Some(at),
        Wanted::Moment(_) => which::moment(&all, seed).map(|(at, _)| at),
        _ => None,
    };
    let is_elsewhere = at.is_some()
        || matches!(request.wanted, Wanted::Latest | Wanted::Timeline | Wanted::Suspect);
    let next = which::next(&backup.manifest.kind, &all).filter(|_| !is_elsewhere);
    let in_future = backup.summary().taken() > horizon(setup.clock.now());
    Ok(Chosen { backup, point, at, next, in_future })
}

/// How many bytes of WAL the newest base backup has to replay, where that matters: it is asked for what is the
/// worst. Where nothing leads to the end of its WAL, that is the worst there is.
async fn newest_replays(
    setup: &Setup,
    request: &DrillRequest,
    all: &[BackupSummary],
) -> Result<u64> {
    let newest = which::good(all).last().filter(|one| one.kind.coordinates().is_some()).copied();
    let (Wanted::Worst, Some(newest)) = (&request.wanted, newest) else { return Ok(0) };
    let of = (newest.backup.as_str(), newest.kind.coordinates().map(|at| at.system_id));
    let recovery = recovery_of(request, of, (Target::Latest, None), Choice::Stop);
    let mut told = |note| tracing::debug!("drill: {note:?}");
    let planned = Box::pin(plan(setup, recovery, &mut told)).await?;
    Ok(planned.map_or(u64::MAX, |planned| planned.plan.log_bytes))
}
