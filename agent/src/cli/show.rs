//! `drctl show`: what is in a backup, and how it was made.

use std::fmt::Write as _;

use anyhow::Result;
use drctl_model::{BackupId, Engine, External, Facts, Manifest, Outside, Verification, shown};
use drctl_store::open_facts;
use jiff::Timestamp;
use serde_json::json;

use super::args::ShowArgs;
use super::kept::Kept;
use super::outside_words::outside_text;
use super::screen::{NAME_SHOWN, Screen, TEXT_SHOWN, count};
use super::streams::streams;
use crate::host::figures::{bytes, span};
use crate::host::{AgentError, Exit, Setup};
use crate::repository::chain::is_broken;
use crate::repository::losses::find;
use crate::repository::removed::{Back, back};
use crate::repository::statements::statements;
use crate::repository::{Chains, Memory, Proven, words};
use crate::restore::emergency_script;

/// How long ago a backup was looked at, and how closely.
pub(super) fn looked(look: &Verification, now: Timestamp) -> String {
    let ago = now.duration_since(look.at).as_secs_f64();
    format!("{}, {} ago", look.closeness.as_str(), span(ago))
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
    let (facts, unopened) = match opened(setup, args, &found.manifest) {
        Ok(facts) => (facts, None),
        // What is not encrypted is shown all the same.
        Err(error) if !screen.json => (None, Some(error)),
        Err(error) => return Err(error),
    };
    let (chain, broken) = match Chains::new(&repository).of(&found.summary()).await {
        Ok(links) => (links.into_iter().map(|link| link.backup).collect(), None),
        Err(error) if is_broken(&error) => (Vec::new(), Some(format!("{error:#}"))),
        Err(error) => return Err(error),
    };
    let (expired, look) = remembered(setup, &found).await;
    let back = back(&repository, &found.manifest.source, [found.manifest.backup.clone()]).await?;
    let back = back.first();
    let said = statements(&repository, &found.manifest.source).await?.in_force;
    let kept = Kept::of(&said, &found.manifest.backup);
    let accepted_by = found.accepted.as_ref().map(|one| repository.trust.name(&one.signer));
    let mut object = json!({
        "manifest": found.manifest, "sha256": found.sha256, "chain": chain, "broken": broken,
        "expired": expired, "accepted": found.accepted.as_ref().map(|accepted| accepted.at),
        "accepted_by": accepted_by, "signer": found.signer.keyid(),
        "signed_by": repository.trust.name(&found.signer),
        "verified": look.as_ref().map(|look| look.at),
        "verified_as": look.as_ref().map(|look| look.closeness),
        "pinned": kept.pinned, "held": kept.held, "removed": back.map(Back::text),
        "bad": look.iter().flat_map(|look| &look.problems).map(|fault| &fault.message)
            .collect::<Vec<_>>(),
    });
    if let Some(facts) = &facts {
        let outside = facts.outside.as_ref().map(Outside::without_content);
        object["facts"] = json!(Facts { outside, ..facts.clone() });
    }
    screen.answer("drctl.show/1", object, || {
        let (now, signer) = (setup.clock.now(), repository.trust.name(&found.signer));
        let known =
            Remembered { expired, look: look.as_ref(), now, signer, accepted_by, kept, back };
        let text = describe(&found, facts.as_ref(), (&chain, broken.as_deref()), &known);
        match facts.as_ref().map(outside_text) {
            Some(outside) => format!("{}\n\n{}", text.trim_end(), outside.trim_end()),
            None => text,
        }
    });
    if let Some(error) = unopened {
        screen
            .say("names and row counts are encrypted, and could not be opened; the error says why");
        return Err(error);
    }
    if facts.is_none() && !found.manifest.streams.is_empty() {
        screen.say("names and row counts are encrypted: --identity FILE shows them");
    }
    Ok(Exit::Success)
}

/// What is encrypted of a backup, where an identity was named.
fn opened(setup: &Setup, args: &ShowArgs, manifest: &Manifest) -> Result<Option<Facts>> {
    let identities = setup.identities(args.identity.as_deref())?;
    Ok(identities.map(|identities| open_facts(manifest, &identities)).transpose()?)
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
    /// Why it stays whatever the policy says.
    kept: Kept,
    /// That it was removed, and is here all the same.
    back: Option<&'a Back>,
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
        line("WAL", format!("from {} to {} on timeline {}", at.start, at.stop, at.timeline));
    }
    line("started", manifest.started.to_string());
    line("finished", manifest.finished.to_string());
    let what = if external.is_some() { "cluster has" } else { "data" };
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
    known.back.into_iter().for_each(|back| line("STILL THERE", back.text()));
    known.kept.lines().for_each(|(name, why)| line(name, why));
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
