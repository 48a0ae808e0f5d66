//! Recovery to a point in time, as verbs: the command calls them one after the other, and so does
//! whatever else recovers: a drill, a runbook, a daemon.
//!
//! 1. [`plan`] looks into the bucket, and chooses the base, the log and the point to stop at.
//! 2. [`Planned::complete`] and [`Planned::confirmed`] tell whether that is what was asked for.
//! 3. [`prepare`] looks at everything that could keep it from being done; [`Prepared::fits`] tells
//!    whether this host has what the cluster needs. Up to here nothing was touched.
//! 4. [`resume`] makes the directory this recovery's: it begins one, or goes on with the one that
//!    broke off, as the request says.
//! 5. [`replay`] extracts the base, replays the log, and proves where the server stands: what it gives
//!    is proven, everything else is an error.
//! 6. [`prove`] keeps what a drill came to, as signed evidence in the bucket; [`way_on`] tells what
//!    leads on where the recovery failed.
//!
//! None of them reads arguments or writes for people: what is not done is a [`Refusal`], what is worth
//! knowing a [`PlanNote`], how far it is stands in the [`Meter`](crate::host::Meter). A daemon that
//! tries every night whether its newest backup can be brought to the end of its log:
//!
//! ```text
//! let drilling = Drilling::begin(&setup)?;
//! let planned = plan(&setup, request, &mut |note| note.keep()).await??;
//! planned.complete()?;
//! let prepared = prepare(&planned, false).await?;
//! prepared.fits(&planned)?;
//! let mut state = resume(&planned).await?;
//! let done = replay(&planned, prepared, &mut state, &meter, &stop).await;
//! prove(&planned, Some(drilling), done.as_ref()).await?;
//! ```

mod handed;
mod plan;
mod prepare;
mod prove;
mod refused;
mod replay;
mod resume;
mod way_on;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use drctl_engines::sandbox::Limits;
use drctl_model::{SourceId, Timeline};
use drctl_policies::SecretRef;
use drctl_policies::recovery::{NoPlan, Target};
use jiff::Timestamp;

use super::cluster::Choice;
use crate::host::{AgentError, Setup};

pub use handed::{HandedPlan, HandedRequest, is_handed, plan_handed, replay_handed};
pub use plan::{PlanNote, Planned, plan};
pub use prepare::{Outlook, Prepared, prepare};
pub use prove::prove;
pub(crate) use refused::refused;
pub use replay::replay;
pub use resume::resume;
pub use way_on::{Around, WayOn, way_on};

/// What is asked for.
#[derive(Debug, Clone)]
pub struct RecoveryRequest {
    /// Whose cluster.
    pub source: SourceId,
    /// The point to recover to.
    pub target: Target,
    /// The timeline to follow; without one the newest.
    pub timeline: Option<Timeline>,
    /// The cluster, by its system identifier, where the source has had several; without one the
    /// current one.
    pub system_id: Option<u64>,
    /// The backup to begin with, by its identifier or a beginning of it; without one the one that is
    /// nearest.
    pub backup: Option<String>,
    /// The directory in which it is done, as an absolute path; a plan needs none.
    pub directory: Option<PathBuf>,
    /// The file of the identity; without one that of the configuration.
    pub identity: Option<PathBuf>,
    /// What becomes of the cluster at its target.
    pub then: Choice,
    /// The digest of the plan that was agreed to, where one was.
    pub confirmed: Option<String>,
    /// Whether a recovery of all that there is may leave something out.
    pub accept_loss: bool,
    /// Whether it is done although this host lacks what the cluster needs.
    pub despite_missing: bool,
    /// Whether the server runs without a sandbox.
    pub without_sandbox: bool,
    /// What its server may take of the host; nothing where it may take all.
    pub limits: Option<Arc<Limits>>,
    /// Libraries that the server loads for its replay.
    pub preload: Vec<String>,
    /// Whether it goes on with one that broke off.
    pub resume: bool,
}

impl RecoveryRequest {
    /// The directory, where one was named.
    fn directory(&self) -> Result<&Path> {
        named(self.directory.as_deref())
    }

    /// The file of the identity: the recovering server's own command opens the log with it.
    fn identity_file(&self, setup: &Setup) -> Result<PathBuf> {
        match (&self.identity, &setup.config.keys.identity) {
            (Some(path), _) => std::path::absolute(path).context("find the identity"),
            (None, Some(SecretRef::File(path))) => Ok(path.clone()),
            _ => {
                let text = "name the identity's file with --identity FILE";
                Err(AgentError::Usage(text.to_owned()).into())
            }
        }
    }
}

/// A directory that was named, as whatever touches one needs.
fn named(directory: Option<&Path>) -> Result<&Path> {
    let none =
        || AgentError::Usage("a recovery needs a new directory: --to-directory DIR".to_owned());
    Ok(directory.ok_or_else(none)?)
}

/// Why a recovery does not begin although nothing failed; nothing was touched.
#[derive(Debug, Clone, PartialEq)]
pub enum Refusal {
    /// No plan leads to the target.
    NoPlan {
        /// Why, and what is nearest.
        no: Box<NoPlan>,
        /// Other clusters of the source in which it can be reached, by their system identifiers.
        elsewhere: Vec<u64>,
        /// The one of them that is meant, where the target is a time at which no other cluster of the
        /// source can have lived.
        lived: Option<u64>,
        /// Of a time to which none leads: another cluster that may have lived then, and up to when it is known.
        known_before: Option<(u64, Timestamp)>,
        /// What was found of a base backup that would lead there, and that is not used for it.
        bad: Option<String>,
    },
    /// Several timelines live, and none was named: what each of them has, in words.
    Forks(Vec<String>),
    /// It would not hold all that there is, and nobody accepted that: what it leaves out, in words.
    LeavesOut(Vec<String>),
    /// It is another plan than the one that was agreed to.
    Changed {
        /// The digest of this one.
        digest: String,
        /// The digest that was agreed to.
        confirmed: String,
        /// Whether it leads to the end of the log, and so changes with every piece that arrives.
        grows: bool,
    },
    /// This host lacks what the cluster needs, and nobody accepted that.
    HostLacks(Vec<String>),
}
