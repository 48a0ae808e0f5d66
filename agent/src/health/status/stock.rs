//! What a source has in the bucket, as far as it is there and counts.

use anyhow::Result;
use drctl_catalog::Catalog;
use drctl_model::{BackupSummary, newest, total};
use jiff::Timestamp;

use super::{SourceStatus, told};
use crate::repository::chain::Family;
use crate::repository::inventory::there;
use crate::repository::{Memory, horizon};

/// The backups of a source that are there, as the catalog knows them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stock {
    /// The moment of the oldest good dump, or the end of the oldest good base backup: nothing before it can be
    /// recovered, and log may be missing behind it.
    pub from: Option<Timestamp>,
    /// The bytes of all of them in the bucket; nothing where there is none.
    pub stored_bytes: Option<u64>,
}

/// Looks what is there. What is gone, or was removed on purpose, is no good backup, and neither is what is
/// based on it: the newest one that is there counts instead.
///
/// # Errors
/// The catalog's.
pub(super) async fn take(
    catalog: &Catalog,
    status: &mut SourceStatus,
    now: Timestamp,
) -> Result<()> {
    let mut there = there(catalog, &status.source, &status.vanished).await?;
    let memory = Memory::of(catalog, Some(&status.source)).await?;
    let known = status.newest_good.as_ref();
    let stands = known.is_none_or(|good| {
        there.iter().any(|one| one.backup == good.backup)
            && Family::of(&there).broken(good).is_none()
    });
    memory.mark(&mut there);
    let family = Family::of(&there);
    let is_good = |one: &&BackupSummary| one.is_good() && family.broken(one).is_none();
    let counts: Vec<&BackupSummary> = there.iter().filter(is_good).collect();
    status.stock = Stock {
        from: counts.iter().map(|one| restores(one)).min(),
        stored_bytes: (!there.is_empty()).then(|| total(there.iter().map(|one| one.sealed_bytes))),
    };
    if stands {
        return Ok(());
    }
    let lost = status.newest_good.take().map(|good| good.backup);
    let horizon = horizon(now);
    let dated = newest(counts.iter().copied().filter(|one| one.taken() <= horizon));
    status.age = dated.map(|good| now.duration_since(good.taken()));
    status.newest_good = dated.or_else(|| newest(counts.iter().copied())).cloned();
    // One that another host removed on purpose is none that was lost.
    status.lost_good = lost.filter(|_| !status.vanished.is_empty());
    status.bad =
        told(&memory, &status.source, status.newest_good.as_ref().map(|good| good.started));
    Ok(())
}

/// The moment that a backup restores by itself.
fn restores(backup: &BackupSummary) -> Timestamp {
    match backup.kind.coordinates() {
        Some(_) => backup.finished,
        None => backup.taken(),
    }
}
