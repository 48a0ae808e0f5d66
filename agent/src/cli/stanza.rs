//! `drctl stanza`: what belongs to pgBackRest's side of a source.

use std::fmt::Write as _;
use std::time::Instant;

use anyhow::{Context as _, Result};
use drctl_engines::pg::quoted_setting;
use serde_json::json;

use super::args::StanzaVerb;
use super::screen::{Screen, TEXT_SHOWN, count};
use crate::engine::pgbackrest::stanza::{
    Adopted, ConfigRequest, Configured, adopt, check, configure, create, upgrade,
};
use crate::host::figures::span;
use crate::host::{Exit, Setup};

/// `drctl stanza`.
pub(super) async fn stanza(screen: Screen, setup: &Setup, verb: &StanzaVerb) -> Result<Exit> {
    match verb {
        StanzaVerb::Config { source, repo_path, set, print } => {
            let request =
                ConfigRequest { repo_path: repo_path.clone(), set: set.clone(), print: *print };
            let done = configure(setup, source, &request).await;
            config(screen, source, &done.with_context(|| format!("configure {source}"))?);
            Ok(Exit::Success)
        }
        StanzaVerb::Create { source } => {
            let began = Instant::now();
            let done = create(setup, source).await;
            done.with_context(|| format!("create the stanza of {source}"))?;
            Ok(did(screen, source, "created", "the stanza is there", began))
        }
        StanzaVerb::Upgrade { source } => {
            let began = Instant::now();
            let done = upgrade(setup, source).await;
            done.with_context(|| format!("upgrade the stanza of {source}"))?;
            let text = "the stanza belongs to the server's cluster; take a full backup now";
            Ok(did(screen, source, "upgraded", text, began))
        }
        StanzaVerb::Check { source } => {
            let began = Instant::now();
            let done = check(setup, source).await;
            done.with_context(|| format!("check the stanza of {source}"))?;
            let text = "one segment reached the archive; `drctl timeline` shows whether all did";
            Ok(did(screen, source, "checked", text, began))
        }
        StanzaVerb::Adopt { source } => {
            let began = Instant::now();
            let done = adopt(setup, source).await;
            let done =
                done.with_context(|| format!("record the backups in the stanza of {source}"))?;
            Ok(adopted(screen, source, &done, began))
        }
    }
}

fn did(screen: Screen, source: &str, done: &str, text: &str, began: Instant) -> Exit {
    let seconds = began.elapsed().as_secs_f64();
    let object = json!({ "source": source, "done": done, "seconds": seconds });
    screen.answer("drctl.stanza/1", object, || text.to_owned());
    Exit::Success
}

fn config(screen: Screen, source: &str, done: &Configured) {
    let object = json!({
        "source": source, "path": done.path, "written": done.written, "text": done.text,
        "archive_command": done.archive_command,
    });
    screen.answer("drctl.stanza-config/1", object, || {
        let path = done.path.display();
        let mut text = match (done.written, &done.text) {
            (true, Some(text)) => format!("{path} is written:\n\n{text}"),
            (false, Some(text)) => format!("{path} would be:\n\n{text}"),
            (_, None) => format!("{path} has the stanza; nothing was written"),
        };
        let _ = write!(
            text,
            "\nlet the server archive into it with\n  archive_mode = on\n  archive_command = \
             {}\nthen: drctl stanza create {source}",
            quoted_setting(&done.archive_command)
        );
        text
    });
}

fn adopted(screen: Screen, source: &str, done: &Adopted, began: Instant) -> Exit {
    let Adopted { synced, trouble } = done;
    let seconds = began.elapsed().as_secs_f64();
    let refused: Vec<_> =
        synced.refused.iter().map(|(label, why)| json!({ "label": label, "why": why })).collect();
    let recorded: Vec<_> = synced.recorded.iter().map(|backup| &backup.backup).collect();
    let object = json!({
        "source": source, "recorded": recorded, "known": synced.known,
        "expired": synced.expired, "refused": refused, "trouble": trouble, "seconds": seconds,
    });
    screen.answer("drctl.stanza-adopt/1", object, || {
        let mut text = format!(
            "{} recorded, {} known before, {} expired by pgBackRest, {}",
            count(recorded.len() as u64, "backup"),
            synced.known,
            synced.expired.len(),
            span(seconds)
        );
        for (label, why) in &synced.refused {
            let why = drctl_model::shown(why, TEXT_SHOWN);
            let _ = write!(text, "\nNOT RECORDED: {label}: {why}");
        }
        if !trouble.is_empty() {
            let trouble = drctl_model::shown(trouble, TEXT_SHOWN);
            let _ = write!(text, "\npgBackRest says of the stanza: {trouble}");
        }
        text
    });
    match synced.refused.is_empty() && trouble.is_empty() {
        true => Exit::Success,
        false => Exit::Degraded,
    }
}
