//! Which backups stay, which log stays with them, and why.
//!
//! Pure and total: no clock, no IO. [`decide`] gives a [`Verdict`] for each backup of a source: what
//! has no reason to stay may go. [`log_of`] tells the same of a cluster's log.
//!
//! Rules only add reasons, and a doubt is one. So nothing goes because a clock was wrong: ages count
//! from the newest backup that counts and not from the present, a backup that is dated ahead of the
//! store's clock stays and takes the place of no other, and one that is dated long before the store
//! got it stays by either time.

mod candidate;
mod floors;
mod log;
mod rules;
mod simulate;
mod window;
mod words;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use drctl_model::{BackupId, planted};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::policy::RetentionPolicy;
use crate::recovery::Archive;

pub use candidate::{Candidate, Claim};
pub use log::{LineageLog, StaysFrom, log_of};
pub use rules::Period;
pub use simulate::{GoesOn, Month, simulate};

/// What is known of a source when its retention is decided.
#[derive(Debug, Clone)]
pub struct Holdings<'a> {
    /// All backups of the source, newest first as
    /// [`newest_first`](drctl_model::newest_first) has them.
    pub candidates: &'a [Candidate],
    /// The log of each of its clusters, made ready for planning.
    pub clusters: &'a [&'a Archive],
    /// Why nothing of the source may go now, where that is so.
    pub blocked: Option<&'a str>,
    /// The present, as the store tells it where it does.
    pub now: Timestamp,
}

/// Why a backup stays.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// One of so many newest; counted from 1.
    Last(u32),
    /// The newest of a day, a week or the like.
    Newest {
        /// Of what.
        of: Period,
        /// Which one, as people write it: `2026-11-27`, `2026-W48`.
        which: String,
    },
    /// Younger than `within`, counted from the newest backup that counts.
    Within,
    /// The recovery window begins behind it, and its log leads there.
    Window,
    /// One of so many newest that stay whatever their age; counted from 1.
    Least(u32),
    /// One of so many newest that were proven; counted from 1.
    Proven(u32),
    /// Another one that stays is based on it.
    BaseOf(BackupId),
    /// Somebody or something needs it.
    Claimed(Claim),
    /// Removal is blocked, and why.
    Blocked(String),
    /// It is dated ahead of the store's clock: nobody knows how old it is.
    DatedAhead,
    /// It does not count and fills no place of another; it would stay if it counted.
    Uncounted,
    /// No backup of the source counts: nothing goes then.
    NoneCounts,
}

/// Whether a backup stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Which.
    pub backup: BackupId,
    /// Why it stays, each reason once; without any it may go.
    pub reasons: Vec<Reason>,
}

impl Verdict {
    /// Whether it stays.
    #[must_use]
    pub fn stays(&self) -> bool {
        !self.reasons.is_empty()
    }
}

/// Gives a verdict for every backup of a source, in the order in which they came.
///
/// `zone` is that of the days, weeks, months and years.
#[must_use]
pub fn decide(policy: &RetentionPolicy, zone: &TimeZone, holdings: &Holdings<'_>) -> Vec<Verdict> {
    let Holdings { candidates, clusters, blocked, now } = *holdings;
    let mut reasons: Reasons = BTreeMap::new();
    let dated: Vec<&Candidate> = candidates.iter().filter(|of| !of.is_dated_ahead(now)).collect();
    let counted: Vec<&Candidate> = dated.iter().copied().filter(|of| of.counts).collect();
    by_policy(policy, zone, (&counted, clusters), &mut reasons);
    uncounted(policy, zone, &dated, &mut reasons);
    for of in candidates {
        let claims = of.claims.iter().cloned().map(Reason::Claimed);
        let ahead = of.is_dated_ahead(now).then_some(Reason::DatedAhead);
        let none = counted.is_empty().then_some(Reason::NoneCounts);
        let blocked = blocked.map(|why| Reason::Blocked(why.to_owned()));
        let more = claims.chain(ahead).chain(none).chain(blocked);
        reasons.entry(of.backup.clone()).or_default().extend(more);
    }
    if !planted("chain-cut") {
        chains(candidates, &mut reasons);
    }
    let verdict = |of: &Candidate| Verdict {
        backup: of.backup.clone(),
        reasons: reasons.remove(&of.backup).unwrap_or_default().into_iter().collect(),
    };
    candidates.iter().map(verdict).collect()
}

/// The reasons of each backup, each once and in their order.
type Reasons = BTreeMap<BackupId, BTreeSet<Reason>>;

fn because(reasons: &mut Reasons, of: &Candidate, reason: Reason) {
    reasons.entry(of.backup.clone()).or_default().insert(reason);
}

/// What the policy says of backups, as if all of them counted; `clusters` is the log that a recovery
/// window needs.
fn by_policy(
    policy: &RetentionPolicy,
    zone: &TimeZone,
    (backups, clusters): (&[&Candidate], &[&Archive]),
    reasons: &mut Reasons,
) {
    rules::apply(policy, zone, backups, reasons);
    window::apply(policy, backups, clusters, reasons);
    rules::too_old(policy, backups, reasons);
    floors::apply(policy, backups, reasons);
}

/// What does not count stays where it would stay if all counted: so it is there for as long as one of
/// its age may be looked at, and takes no place.
fn uncounted(
    policy: &RetentionPolicy,
    zone: &TimeZone,
    dated: &[&Candidate],
    reasons: &mut Reasons,
) {
    let mut if_all_counted: Reasons = BTreeMap::new();
    by_policy(policy, zone, (dated, &[]), &mut if_all_counted);
    for of in dated.iter().filter(|of| !of.counts) {
        if if_all_counted.get(&of.backup).is_some_and(|found| !found.is_empty()) {
            because(reasons, of, Reason::Uncounted);
        }
    }
}

/// What a backup that stays is based on stays too.
fn chains(candidates: &[Candidate], reasons: &mut Reasons) {
    let parents: BTreeMap<&BackupId, &BackupId> =
        candidates.iter().filter_map(|of| Some((&of.backup, of.parent.as_ref()?))).collect();
    let there: BTreeSet<&BackupId> = candidates.iter().map(|of| &of.backup).collect();
    let stay =
        candidates.iter().filter(|of| reasons.get(&of.backup).is_some_and(|r| !r.is_empty()));
    let stay: Vec<&BackupId> = stay.map(|of| &of.backup).collect();
    let mut done: BTreeSet<&BackupId> = BTreeSet::new();
    for of in stay {
        let mut child = of;
        while let Some(parent) = parents.get(child).filter(|parent| there.contains(**parent)) {
            let base_of = Reason::BaseOf(child.clone());
            reasons.entry((*parent).clone()).or_default().insert(base_of);
            // A manifest can name what names it in turn: each is followed once.
            if !done.insert(child) {
                break;
            }
            child = parent;
        }
    }
}
