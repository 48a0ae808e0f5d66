use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use drctl_model::{BackupSummary, Verification, newest_first, shown};
use drctl_store::Trust;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::kept::Kept;
use super::kinds::{kind_text, kind_word};
use super::lost::{Losses, back_json, back_text, lost_json, lost_text};
use super::newer::{newer_json, newer_text, not_counted_text, refused_json};
use super::progress::Progress;
use super::screen::{NAME_SHOWN, Screen, count, line, table};
use super::show::looked;
use super::state::known_catalog;
use crate::backup::{BackedUp, RequestedKind};
use crate::engine::backup as run_backup;
use crate::engine::pgbackrest::mark_now;
use crate::host::figures::{bytes, span};
use crate::host::{Exit, Meter, Setup, Stop};
use crate::repository::chain::Family;
use crate::repository::{Memory, words};

/// Told of a catalog that remembers nothing.
const FORGOTTEN: &str = "\nthis host's record of lost and damaged backups is missing: the list cannot mark \
    them as LOST or BAD (`drctl status` says why and what to do)";

/// `drctl backup`.
pub(super) async fn backup(
    screen: Screen,
    setup: &Setup,
    source: &str,
    requested: RequestedKind,
    stop: &Stop,
) -> Result<Exit> {
    let meter = Meter::default();
    let began = std::time::Instant::now();
    let progress = Progress::show(screen, &meter);
    let done = run_backup(setup, source, requested, &meter, stop).await;
    drop(progress);
    let BackedUp { summary: done, notes } = done.with_context(|| format!("back up {source}"))?;
    let seconds = began.elapsed().as_secs_f64();
    let exit = if done.is_good() { Exit::Success } else { Exit::Degraded };
    let backup = Judged::alone(&done).json();
    let object = json!({ "backup": backup, "seconds": seconds, "notes": notes });
    screen.answer("drctl.backup/1", object, || {
        let mut text = format!(
            "{}\n  {} of {}, {} stored in {}, {}",
            done.backup,
            bytes(done.plain_bytes),
            kind_text(&done.kind),
            bytes(done.sealed_bytes),
            match done.kind.external() {
                Some(_) => "pgBackRest's repository".to_owned(),
                None => count(done.segments, "segment"),
            },
            span(seconds)
        );
        if let Some(external) = done.kind.external() {
            let _ = write!(text, "\n  {} in the stanza {}", external.label, external.stanza);
        }
        if let Some(parent) = done.kind.parent() {
            let _ = write!(text, "\n  is based on {}", parent.backup);
        }
        for note in &notes {
            let _ = write!(text, "\n  note: {}", line(note));
        }
        for reason in &done.suspect {
            let _ = write!(
                text,
                "\n  SUSPECT: {}; it is stored, but does not count as good. If it is correct: \
                 `drctl accept {}`",
                line(reason),
                done.backup
            );
        }
        text
    });
    Ok(exit)
}

/// `drctl list`.
pub(super) async fn list(screen: Screen, setup: &Setup, source: Option<&str>) -> Result<Exit> {
    let source = source.map(|name| setup.source(name).map(|(id, _)| id.clone())).transpose()?;
    let _ = mark_now(setup).await;
    let catalog = known_catalog(setup).await?;
    let losses = Losses::of(setup, &catalog, source.as_ref()).await?;
    let found = newest_first(catalog.backups(source.as_ref()).await?);
    let gone = catalog.expired(source.as_ref()).await?;
    let memory = Memory::of(&catalog, source.as_ref()).await?;
    let mut newer = catalog.newer(source.as_ref()).await?;
    newer.extend(losses.newer.clone());
    let family = Family::of(found.iter().filter(|backup| !losses.took(backup)));
    let judged: Vec<Judged<'_>> = found
        .iter()
        .map(|backup| {
            let expired = gone.get(&(backup.source.clone(), backup.backup.clone())).copied();
            let look = memory.telling(backup);
            let lost = losses.holds(backup);
            let said = losses.in_force.get(&backup.source);
            let kept = said.map(|said| Kept::of(said, &backup.backup)).unwrap_or_default();
            let untrusted = losses.distrusts(backup);
            Judged { backup, broken: family.broken(backup), expired, look, lost, untrusted, kept }
        })
        .collect();
    let trust = setup.trust()?;
    let forgotten = setup.forgotten(&catalog).is_some();
    let object = json!({
        "backups": judged.iter().map(Judged::json).collect::<Vec<_>>(),
        "lost": lost_json(&losses.lost), "unseen": losses.unseen, "newer": newer_json(&newer),
        "refused": refused_json(&losses.refused), "forgotten": forgotten, "removed": back_json(&losses.back),
    });
    let now = setup.clock.now();
    screen.answer("drctl.list/1", object, || {
        let head = [
            "BACKUP",
            "SOURCE",
            "KIND",
            "STARTED",
            "PLAIN",
            "STORED",
            "SIGNED BY",
            "VERIFIED",
            "STATE",
        ];
        let rows = judged.iter().map(|judged| judged.row(&trust, now));
        let mut text = table(&[vec![head.map(str::to_owned).to_vec()], rows.collect()].concat());
        for judged in &judged {
            if let Some(why) = &judged.broken {
                let _ = write!(text, "\n{} cannot be restored: {why}", judged.backup.backup);
            }
            if let Some(look) = judged.bad() {
                let _ = write!(text, "\n{}: {}", judged.backup.backup, words(look));
            }
        }
        text.push_str(&not_counted_text(&losses.refused));
        text.push_str(&newer_text(&newer));
        text.push_str(&lost_text(&losses.lost));
        text.push_str(&back_text(&losses.back));
        text.push_str(if forgotten { FORGOTTEN } else { "" });
        if let Some(why) = &losses.unseen {
            let said = "whether these backups are still in the bucket is not known";
            let _ = write!(text, "\n{said}: {why}");
        }
        text
    });
    if found.is_empty() && newer.is_empty() && losses.refused.is_empty() {
        screen.say("no backups yet: `drctl backup SOURCE` takes one");
    }
    let is_known = losses.unseen.is_none() && !forgotten;
    Ok(if losses.lost.is_empty() && is_known { Exit::Success } else { Exit::Degraded })
}

/// A backup, and what is known of it beside its own record.
pub(super) struct Judged<'a> {
    backup: &'a BackupSummary,
    /// Why its chain does not hold.
    broken: Option<String>,
    /// When it was found that the tool that kept its data has them no more.
    expired: Option<Timestamp>,
    /// The look at it that says most.
    look: Option<&'a Verification>,
    /// Whether the bucket does not hold it as it was.
    lost: bool,
    /// Whether it is there as it was, and not trusted here any more.
    untrusted: bool,
    /// Why it stays whatever the policy says.
    kept: Kept,
}

impl<'a> Judged<'a> {
    /// One of which nothing else is known yet.
    pub(super) fn alone(backup: &'a BackupSummary) -> Self {
        let kept = Kept::default();
        Judged {
            backup,
            broken: None,
            expired: None,
            look: None,
            lost: false,
            untrusted: false,
            kept,
        }
    }
}

impl Judged<'_> {
    /// What a look found wrong, that no later one has cleared.
    fn bad(&self) -> Option<&Verification> {
        self.look.filter(|look| !look.is_good())
    }

    pub(super) fn json(&self) -> Value {
        let mut object = json!(self.backup);
        let there = self.broken.is_none() && self.expired.is_none() && !self.lost;
        let there = there && self.bad().is_none();
        object["good"] = json!(self.backup.is_good() && there);
        object["broken"] = json!(self.broken);
        object["expired"] = json!(self.expired);
        object["verified"] = json!(self.look.map(|look| look.at));
        object["verified_as"] = json!(self.look.map(|look| look.closeness));
        let bad = self.bad().map(|look| &look.problems).into_iter().flatten();
        object["bad"] = bad.map(|fault| json!(fault.message)).collect();
        object["pinned"] = json!(self.kept.pinned);
        object["held"] = json!(self.kept.held);
        object
    }

    /// Its cells in a table.
    fn row(&self, trust: &Trust, now: Timestamp) -> Vec<String> {
        let backup = self.backup;
        vec![
            backup.backup.to_string(),
            backup.source.to_string(),
            kind_word(&backup.kind),
            backup.started.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
            bytes(backup.plain_bytes),
            bytes(backup.sealed_bytes),
            shown(&trust.name_of(&backup.signer), NAME_SHOWN),
            self.look.map_or("-".to_owned(), |look| looked(look, now)),
            format!("{}{}", self.state(), self.kept.words()),
        ]
    }

    fn state(&self) -> &'static str {
        match (&self.expired, &self.broken, self.backup.is_good()) {
            _ if self.untrusted => "NOT TRUSTED",
            _ if self.lost => "LOST",
            (Some(_), ..) => "expired",
            (None, Some(_), _) => "BROKEN",
            _ if self.bad().is_some() => "BAD",
            (None, None, true) if self.backup.accepted.is_some() => "accepted",
            (None, None, true) => "good",
            (None, None, false) => "SUSPECT",
        }
    }
}
