//! Whether a number that a recovery is asked to go to is a transaction's own. The server stops at
//! transactions alone: at the number of a savepoint, or of none, it would replay all that there is
//! before it says so.

use anyhow::{Context as _, Result};
use drctl_engines::pg::wal::{Ended, Ends};
use drctl_model::{Lsn, SourceId};
use drctl_policies::recovery::{RecoveryPlan, Target};
use drctl_store::Identities;

use crate::engine::wal::Segment;
use crate::engine::{LogArchives, Pieces};
use crate::host::{AgentError, Setup};
use crate::log::LogStore;
use crate::repository::Repository;
use crate::restore::known::Known;

/// The most segments that are read: the WAL tells between which positions a transaction ended,
/// mostly within one or two.
const MOST: usize = 16;

/// Where it is looked.
pub struct Whose<'a> {
    /// The configuration.
    pub setup: &'a Setup,
    /// Where drctl's own WAL lies.
    pub repository: &'a Repository,
    /// Whose.
    pub source: &'a SourceId,
    /// What the bucket holds.
    pub known: &'a Known,
    /// What opens the WAL.
    pub identities: Option<&'a Identities>,
}

/// Refuses a plan to the number of a part of a transaction, or to one under which nothing ended.
/// Says nothing where a part of the WAL in which it may have ended cannot be read.
///
/// # Errors
/// [`AgentError::NoPlan`], with the transaction that is meant.
pub async fn whose_number(of: &Whose<'_>, plan: &RecoveryPlan) -> Result<()> {
    let Target::Xid { xid, inclusive } = plan.target else { return Ok(()) };
    let mut found = Found::Nothing;
    if !read(of, plan, |ended| found.look(xid, &ended)).await? && found == Found::Nothing {
        return Ok(());
    }
    let flag = if inclusive { "--to-xid" } else { "--before-xid" };
    match found {
        Found::Itself => Ok(()),
        Found::PartOf { xid: whole, committed } => {
            let how = if committed { "was committed" } else { "was rolled back" };
            let text = format!(
                "{xid} is a subtransaction of the transaction {whole} (a savepoint, or a block of \
                 a function), which {how} as a whole: {flag} {whole}"
            );
            Err(AgentError::NoPlan(text, "name the transaction that it is a part of").into())
        }
        Found::Nothing => {
            let text = format!(
                "no transaction {xid} ended in the WAL from {} to {}: it wrote nothing, or had not \
                 ended",
                plan.not_before, plan.until
            );
            Err(AgentError::NoPlan(text, "choose a time or a position").into())
        }
    }
}

/// What became of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Nothing,
    Itself,
    PartOf { xid: u32, committed: bool },
}

impl Found {
    fn look(&mut self, xid: u32, ended: &Ended) {
        if ended.xid == xid {
            *self = Found::Itself;
        } else if ended.subtransactions.contains(&xid) && *self == Found::Nothing {
            *self = Found::PartOf { xid: ended.xid, committed: ended.committed };
        }
    }
}

/// Reads the WAL in which it may have ended; says whether that was all of it.
async fn read(of: &Whose<'_>, plan: &RecoveryPlan, mut tell: impl FnMut(Ended)) -> Result<bool> {
    let base = of.known.base(&plan.base).context("the plan's base is gone")?;
    let (size, mut left, mut whole) = (base.segment_size, MOST, true);
    let log_store = LogStore::reader(of.repository, of.source);
    let own = Pieces { log_store, cache: None, identities: of.identities };
    let archives = LogArchives::of(of.setup, of.known.stanza.as_ref(), own)?;
    for leg in &plan.path {
        let (from, until) = (leg.from.max(plan.not_before), leg.until.min(plan.until));
        if from >= until {
            continue;
        }
        let mut ends = Ends::default();
        // A record that ends in the first one may begin in the one before.
        let first = size.start_of(from);
        let before = Lsn(first.0.saturating_sub(size.bytes()));
        let mut start = if before >= leg.from { before } else { first };
        while start < until {
            if left == 0 {
                return Ok(false);
            }
            left -= 1;
            let of = (of.known.system_id, leg.timeline);
            match archives.segment(&Segment { of, size, start, need: None }).await {
                Ok(Some(bytes)) => ends.feed(start, &bytes, &mut tell),
                Ok(None) | Err(_) => whole = false,
            }
            start = start.plus(size.bytes());
        }
    }
    Ok(whole)
}
