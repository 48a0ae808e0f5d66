//! `drctl keys custody`: which recipient's identity was proven to open a backup, when, and by which drill.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use anyhow::Result;
use drctl_model::{DrillId, SourceId};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::screen::Screen;
use crate::host::{Exit, Setup};
use crate::repository::drills::last_opened;
use crate::repository::{Memory, drills};

/// A proof that is older says little: who had the key then may have lost it.
const FRESH: SignedDuration = SignedDuration::from_hours(90 * 24);

/// What is known of a recipient.
#[derive(Debug, Default)]
struct Custody {
    /// The sources whose newest backup it opens, and the newest drill of each that it opened.
    sources: BTreeMap<SourceId, Option<(DrillId, Timestamp)>>,
    configured: bool,
}

impl Custody {
    fn newest(&self) -> Option<&(DrillId, Timestamp)> {
        self.sources.values().flatten().max_by_key(|(_, at)| *at)
    }

    fn is_fresh(&self, now: Timestamp) -> bool {
        self.newest().is_some_and(|(_, at)| now.duration_since(*at) <= FRESH)
    }
}

/// `drctl keys custody`.
pub(super) async fn custody(screen: Screen, setup: &Setup) -> Result<Exit> {
    let (repository, now) = (setup.repository().await?, setup.clock.now());
    let mut known: BTreeMap<String, Custody> = BTreeMap::new();
    for recipient in &setup.config.keys.recipients {
        known.entry(recipient.clone()).or_default().configured = true;
    }
    for source in repository.sources().await? {
        let newest = repository.latest(&source, now, &Memory::default()).await;
        let manifest = newest.ok().map(|newest| newest.backup.manifest);
        let of: BTreeSet<String> = manifest.into_iter().flat_map(|one| one.recipients).collect();
        for recipient in &of {
            let entry = known.entry(recipient.clone()).or_default();
            entry.sources.insert(source.clone(), None);
        }
        let all = drills(&repository, &source, &mut Vec::new()).await?;
        // One of an older backup alone is no recipient any more.
        for (recipient, entry) in &mut known {
            let last = last_opened(all.iter().map(|(drill, _)| drill), recipient);
            if let Some(drill) = last {
                let found = (drill.drill.clone(), drill.started);
                entry.sources.insert(source.clone(), Some(found));
            }
        }
    }
    let rows = known.iter().map(|(recipient, of)| {
        let sources = of.sources.iter().map(|(source, last)| {
            json!({
                "source": source, "drill": last.as_ref().map(|(drill, _)| drill),
                "at": last.as_ref().map(|(_, at)| at),
            })
        });
        json!({
            "recipient": recipient, "configured": of.configured, "fresh": of.is_fresh(now),
            "proven": of.newest().map(|(_, at)| at), "sources": sources.collect::<Vec<_>>(),
        })
    });
    let rows: Vec<_> = rows.collect();
    screen.answer("drctl.keys-custody/1", json!({ "recipients": rows }), || text(&known, now));
    Ok(match known.values().all(|of| of.is_fresh(now)) {
        true => Exit::Success,
        false => Exit::Degraded,
    })
}

fn text(known: &BTreeMap<String, Custody>, now: Timestamp) -> String {
    let mut text = String::new();
    for (recipient, of) in known {
        let _ = writeln!(text, "{recipient}");
        let _ = match (of.newest(), of.is_fresh(now)) {
            (None, _) => writeln!(
                text,
                "  NEVER PROVEN to open a backup: `drctl drill run SOURCE --identity FILE` with its identity"
            ),
            (Some(_), true) => Ok(()),
            (Some(_), false) => writeln!(text, "  not proven for more than 90 days"),
        };
        for (source, last) in &of.sources {
            let _ = match last {
                Some((drill, at)) => {
                    writeln!(text, "  {source}: opened by it in drill {drill}, {at:.0}")
                }
                None => writeln!(text, "  {source}: no drill opened a backup with it"),
            };
        }
        if of.sources.is_empty() {
            let _ = writeln!(text, "  the newest backup of no source is encrypted to it");
        }
    }
    text
}
