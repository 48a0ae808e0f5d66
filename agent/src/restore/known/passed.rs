//! Backups that do not count, where a plan would have begun with one of them.

use drctl_model::{BackupKind, BackupSummary, Coordinates, SourceId};
use drctl_policies::recovery::RecoveryPlan;

use super::Known;
use crate::engine::pgbackrest::StanzaView;
use crate::repository::{Memory, Passed, words};

/// Those among a source's backups that were found bad, or whose files pgBackRest has no more although
/// its list still names them. What it has expired is nobody's loss.
pub(super) fn passed(
    backups: &[BackupSummary],
    (source, memory): (&SourceId, &Memory),
    stanza: Option<&StanzaView>,
) -> Vec<(Coordinates, Passed)> {
    let gone = |backup: &BackupSummary| match &backup.kind {
        BackupKind::External(external) => stanza.and_then(|stanza| stanza.lost(external)),
        _ => None,
    };
    let bad = |backup: &BackupSummary| memory.bad(source, &backup.backup).map(words);
    let one = |backup: &BackupSummary| {
        let at = backup.kind.coordinates()?.clone();
        let why = gone(backup).or_else(|| bad(backup))?;
        Some((at, Passed { backup: backup.backup.clone(), why }))
    };
    backups.iter().filter_map(one).collect()
}

impl Known {
    /// Those that are newer than the base of a plan and end before it does, on its way; the newest first.
    #[must_use]
    pub fn passed_by(&self, plan: &RecoveryPlan) -> Vec<Passed> {
        let Some(base) = self.base(&plan.base) else { return Vec::new() };
        let on_the_way = |at: &Coordinates| {
            at.system_id == self.system_id
                && (base.stop < at.stop && at.stop <= plan.until)
                && plan.path.iter().any(|leg| leg.timeline == at.stop_timeline)
        };
        let passed = self.passed.iter().filter(|(at, _)| on_the_way(at));
        let mut passed: Vec<&(Coordinates, Passed)> = passed.collect();
        passed.sort_by_key(|(at, _)| std::cmp::Reverse(at.stop));
        passed.into_iter().map(|(_, passed)| passed.clone()).collect()
    }
}
