//! Its recovery: entries are added to a snapshot.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use drctl_engines::ledger::{Entry, Sums};
use drctl_model::{BackupKind, BackupSummary, Lineage, LogAt, Snapshot};
use drctl_policies::recovery::Target;
use drctl_policies::{LedgerAt, LedgerBase, plan_ledger};

use super::Books;
use super::log::LedgerLog;
use crate::engine::{Choices, HandsLog, Route};
use crate::log::heads::heads;

/// The file of a restored ledger.
const FILE: &str = "archive";

#[async_trait::async_trait(?Send)]
impl HandsLog for Books<'_> {
    async fn route(&self, choices: &Choices<'_>, target: &Target) -> Result<Result<Route, String>> {
        let snapshots = choices.backups.iter();
        let snapshots = snapshots.filter_map(|backup| Some((backup, snapshot(backup)?)));
        let snapshots: Vec<(&BackupSummary, &Snapshot)> = snapshots.collect();
        let newest = snapshots.iter().max_by_key(|(backup, _)| backup.finished);
        let Some(lineage) = newest.map(|(_, at)| at.lineage.clone()) else {
            return Ok(Err("there is no backup of the ledger".to_owned()));
        };
        let ours = {
            let lineage = lineage.clone();
            move |of: &Lineage| *of == lineage
        };
        let mut refused = Vec::new();
        let logs = heads::<LedgerLog>(choices.log_store, ours, choices.cache, &mut refused).await?;
        let log: Vec<_> = logs.into_values().flat_map(|log| log.entries).collect();
        let ranges: Vec<_> = log.iter().map(|entry| entry.range()).collect();
        let of_it = snapshots.into_iter().filter(|(_, at)| at.lineage == lineage);
        let base = |(backup, at): (&BackupSummary, &Snapshot)| LedgerBase {
            backup: backup.backup.clone(),
            next: LedgerAt(at.stop + 1),
            taken: backup.finished,
            good: backup.is_good(),
        };
        let plan = match plan_ledger(of_it.map(base).collect(), log, target) {
            Ok(plan) => plan,
            Err(why) => return Ok(Err(why)),
        };
        let needed = |(start, end): &(LedgerAt, LedgerAt)| *end > plan.from && *start < plan.until;
        let pieces = ranges.into_iter().filter(needed);
        let pieces = pieces.map(|(start, end)| (LogAt(start.0), LogAt(end.0))).collect();
        let (base, until, left_out) = (plan.base, LogAt(plan.until.0), plan.left_out);
        Ok(Ok(Route { base, lineage, pieces, until, left_out, refused }))
    }

    fn hand(&self, directory: &Path, piece: &[u8], until: LogAt) -> Result<()> {
        let mut sums = read(directory)?;
        let entries = Entry::all(std::str::from_utf8(piece).context("read a piece")?)?;
        for entry in entries {
            if entry.at > sums.at && entry.at < until.0 {
                sums.add(&entry)?;
            }
        }
        fs::write(directory.join(FILE), sums.text()).context("write the ledger")
    }

    fn reached(&self, directory: &Path) -> Result<LogAt> {
        Ok(LogAt(read(directory)?.at + 1))
    }
}

fn snapshot(backup: &BackupSummary) -> Option<&Snapshot> {
    match &backup.kind {
        BackupKind::Snapshot(snapshot) => Some(snapshot),
        _ => None,
    }
}

fn read(directory: &Path) -> Result<Sums> {
    let text = fs::read_to_string(directory.join(FILE)).context("read the restored ledger")?;
    Ok(Sums::parse(&text)?)
}
