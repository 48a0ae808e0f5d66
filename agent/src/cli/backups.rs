use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use drctl_model::{
    BackupId, BackupSummary, Engine, External, Facts, Verification, newest_first, shown,
};
use drctl_store::{Trust, open_facts};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::args::ShowArgs;
use super::kinds::{kind_text, kind_word};
use super::lost::{Losses, lost_json, lost_text};
use super::newer::{newer_json, newer_text, not_counted_text, refused_json};
use super::progress::Progress;
use super::screen::{NAME_SHOWN, Screen, TEXT_SHOWN, count, line, table};
use super::state::known_catalog;
use super::streams::streams;
use crate::backup::{BackedUp, RequestedKind};
use crate::engine::backup as run_backup;
use crate::engine::pgbackrest::mark_now;
use crate::host::figures::{bytes, span};
use crate::host::{AgentError, Exit, Meter, Setup, Stop};
use crate::repository::chain::{Family, is_broken};
use crate::repository::losses::find;
use crate::repository::{Chains, Memory, Proven, words};
use crate::restore::emergency_script;

/// Told of a catalog that remembers nothing.
const FORGOTTEN: &str = "\nwhat this host remembered of backups is not known: those that are LOST \
    or were found BAD cannot be told (`drctl status` says why)";

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
                 `drctl accept`",
                line(reason)
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
            Judged { backup, broken: family.broken(backup), expired, look, lost }
        })
        .collect();
    let trust = setup.trust()?;
    let forgotten = setup.forgotten(&catalog).is_some();
    let object = json!({
        "backups": judged.iter().map(Judged::json).collect::<Vec<_>>(),
        "lost": lost_json(&losses.lost), "unseen": losses.unseen, "newer": newer_json(&newer),
        "refused": refused_json(&losses.refused), "forgotten": forgotten,
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
}

/// How long ago a backup was looked at, and how closely.
fn looked(look: &Verification, now: Timestamp) -> String {
    let ago = now.duration_since(look.at).as_secs_f64();
    format!("{}, {} ago", look.closeness.as_str(), span(ago))
}

impl<'a> Judged<'a> {
    /// One of which nothing else is known yet.
    pub(super) fn alone(backup: &'a BackupSummary) -> Self {
        Judged { backup, broken: None, expired: None, look: None, lost: false }
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
            self.state().to_owned(),
        ]
    }

    fn state(&self) -> &'static str {
        match (&self.expired, &self.broken, self.backup.is_good()) {
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

/// `drctl show`.
pub(super) async fn show(screen: Screen, setup: &Setup, args: &ShowArgs) -> Result<Exit> {
    if args.emergency {
        screen.arrives()?;
    }
    let repository = setup.repository().await?;
    let found = find(setup, &repository, None, &args.backup).await?;
    if args.emergency && found.manifest.kind.external().is_some() {
        let text = "its data is in the repository of pgBackRest, not here: pgBackRest itself \
                    restores it without drctl (`pgbackrest restore`)";
        return Err(AgentError::Usage(text.to_owned()).into());
    }
    if args.emergency {
        let chain = repository.chain(&found).await?;
        let script = emergency_script(&setup.config.repository, &repository.trust, &chain);
        screen.answer("drctl.emergency/1", json!({ "script": script }), || script.clone());
        return Ok(Exit::Success);
    }
    let facts = match setup.identities(args.identity.as_deref())? {
        Some(identities) => Some(open_facts(&found.manifest, &identities)?),
        None => None,
    };
    let (chain, broken) = match Chains::new(&repository).of(&found.summary()).await {
        Ok(links) => (links.into_iter().map(|link| link.backup).collect(), None),
        Err(error) if is_broken(&error) => (Vec::new(), Some(format!("{error:#}"))),
        Err(error) => return Err(error),
    };
    let (expired, look) = remembered(setup, &found).await;
    let accepted_by = found.accepted.as_ref().map(|one| repository.trust.name(&one.signer));
    let mut object = json!({
        "manifest": found.manifest, "sha256": found.sha256, "chain": chain, "broken": broken,
        "expired": expired, "accepted": found.accepted.as_ref().map(|accepted| accepted.at),
        "accepted_by": accepted_by, "signer": found.signer.keyid(),
        "signed_by": repository.trust.name(&found.signer),
        "verified": look.as_ref().map(|look| look.at),
        "verified_as": look.as_ref().map(|look| look.closeness),
        "bad": look.iter().flat_map(|look| &look.problems).map(|fault| &fault.message)
            .collect::<Vec<_>>(),
    });
    if let Some(facts) = &facts {
        object["facts"] = json!(facts);
    }
    screen.answer("drctl.show/1", object, || {
        let (now, signer) = (setup.clock.now(), repository.trust.name(&found.signer));
        let known = Remembered { expired, look: look.as_ref(), now, signer, accepted_by };
        describe(&found, facts.as_ref(), (&chain, broken.as_deref()), &known)
    });
    if facts.is_none() && !found.manifest.streams.is_empty() {
        screen.say("names and row counts are encrypted: --identity FILE shows them");
    }
    Ok(Exit::Success)
}

/// What this host's catalog remembers of a backup.
struct Remembered<'a> {
    /// When it was found that its data are gone.
    expired: Option<Timestamp>,
    /// The look at it that says most.
    look: Option<&'a Verification>,
    now: Timestamp,
    /// What people call the key that signed it.
    signer: String,
    /// The same of the key that signed its acceptance.
    accepted_by: Option<String>,
}

/// When it was found that the data of a backup are gone, and the look at it that says most.
async fn remembered(setup: &Setup, found: &Proven) -> (Option<Timestamp>, Option<Verification>) {
    let summary = found.summary();
    let source = &summary.source;
    let Ok(catalog) = setup.known_catalog().await else { return (None, None) };
    let gone = catalog.expired(Some(source)).await.ok();
    let gone = gone.and_then(|gone| gone.get(&(source.clone(), summary.backup.clone())).copied());
    let memory = Memory::of(&catalog, Some(source)).await.unwrap_or_default();
    (gone, memory.telling(&summary).cloned())
}

/// What another tool keeps, for people: names, and values.
fn external_lines(external: &External) -> Vec<(&'static str, String)> {
    let (first, last) = &external.wal;
    let mut lines = vec![
        ("kept by", format!("{} {}, as {}", external.tool, external.version, external.label)),
        ("stanza", format!("{}, repository {}", external.stanza, external.repo)),
        ("type", external.backup_type.as_str().to_owned()),
        ("made by", external.origin.as_str().to_owned()),
        ("needs WAL", format!("{first} to {last}")),
    ];
    if let Some(prior) = &external.prior {
        let others = count(external.references.len() as u64, "backup");
        lines.push(("is based on", format!("{prior}; needs files of {others}")));
    }
    let trust = match external.cipher.as_str() {
        "none" => "not encrypted: whoever reads the repository reads the data".to_owned(),
        other => format!(
            "{other}: the passphrase is on the host, and does not prove who wrote the \
                          data"
        ),
    };
    lines.push(("trust", trust));
    lines
}

fn describe(
    found: &Proven,
    facts: Option<&Facts>,
    (chain, broken): (&[BackupId], Option<&str>),
    known: &Remembered<'_>,
) -> String {
    let manifest = &found.manifest;
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{:<12}{}", shown(name, NAME_SHOWN), shown(&value, TEXT_SHOWN));
    };
    line("backup", manifest.backup.to_string());
    line("source", manifest.source.to_string());
    line("host", manifest.host.clone());
    line("signed by", format!("{} ({})", known.signer, found.signer));
    line("engine", manifest.engine.as_str().to_owned());
    line("kind", manifest.kind.as_str().to_owned());
    if let Some(why) = broken {
        line("BROKEN", why.to_owned());
    }
    for link in chain.iter().filter(|link| **link != manifest.backup).rev() {
        line("is based on", link.to_string());
    }
    let external = manifest.kind.external();
    for (name, value) in external.map(external_lines).unwrap_or_default() {
        line(name, value);
    }
    if manifest.engine == Engine::PgDump || manifest.kind.system_id().is_some() {
        let id = manifest.kind.system_id();
        line("cluster", id.map_or("not known".to_owned(), |id| id.to_string()));
    }
    if let Some(at) = manifest.kind.coordinates() {
        line("log", format!("from {} to {} on timeline {}", at.start, at.stop, at.timeline));
    }
    line("started", manifest.started.to_string());
    line("finished", manifest.finished.to_string());
    let what = if external.is_some() { "cluster has" } else { "dumps" };
    line(what, bytes(manifest.plain_bytes()));
    line("stored", bytes(manifest.sealed_bytes()));
    let bad = known.look.filter(|look| !look.is_good());
    let state = match (known.expired, &found.accepted, manifest.suspect.is_empty()) {
        (Some(_), ..) => "expired",
        _ if bad.is_some() => "BAD",
        (None, _, true) => "good",
        (None, Some(_), false) => "accepted",
        (None, None, false) => "SUSPECT",
    };
    line("state", [&[state.to_owned()], manifest.suspect.as_slice()].concat().join(": "));
    if let Some((accepted, by)) = found.accepted.as_ref().zip(known.accepted_by.as_ref()) {
        line("accepted", format!("{} on host {}, signed by {by}", accepted.at, accepted.host));
    }
    if let Some(look) = known.look {
        line("verified", bad.map_or_else(|| looked(look, known.now), words));
    }
    for (name, version) in &manifest.tools {
        line(name, version.clone());
    }
    // Nothing of an external backup is encrypted to them but what its record seals.
    for recipient in manifest.recipients.iter().filter(|_| external.is_none()) {
        line("opens with", recipient.clone());
    }
    line("manifest", format!("sha256 {}", found.sha256));
    if external.is_none() {
        text.push('\n');
        text.push_str(&streams(manifest, facts));
    }
    text
}
