//! Which backup a drill tries; no IO.

use drctl_model::{BackupId, BackupSummary, DrillPoint, PointWanted};

use crate::repository::chain::Family;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// The newest good backup, as a restore without a name takes it.
    Latest,
    /// The oldest good one.
    Oldest,
    /// Any good one; with a number the same as that number chose before, among as many.
    Random(Option<u64>),
    /// This one, by its identifier or a beginning of it.
    Named(String),
}

impl Wanted {
    /// How evidence names it.
    #[must_use]
    pub fn point(&self) -> PointWanted {
        match self {
            Wanted::Latest => PointWanted::Latest,
            Wanted::Oldest => PointWanted::Oldest,
            Wanted::Random(_) => PointWanted::Random,
            Wanted::Named(_) => PointWanted::Named,
        }
    }
}

/// The one of a source's backups that is there and counts; nothing where there is none. `seed` chooses at
/// random. The newest one and a named one are for others to find.
pub(super) fn choose(
    wanted: &Wanted,
    all: &[BackupSummary],
    seed: u64,
) -> Option<(BackupId, DrillPoint)> {
    let family = Family::of(all);
    let is_good = |one: &&BackupSummary| one.is_good() && family.broken(one).is_none();
    let mut good: Vec<&BackupSummary> = all.iter().filter(is_good).collect();
    good.sort_by(|a, b| a.backup.cmp(&b.backup));
    let of = good.len() as u64;
    let point = |seed| DrillPoint { wanted: wanted.point(), seed, of };
    match wanted {
        Wanted::Oldest => Some((good.first()?.backup.clone(), point(None))),
        Wanted::Random(_) => {
            let at = usize::try_from(seed.checked_rem(of)?).ok()?;
            Some((good.get(at)?.backup.clone(), point(Some(seed))))
        }
        Wanted::Latest | Wanted::Named(_) => None,
    }
}
