//! `drctl drill export`, `drctl drill verify`: a drill's evidence given away, and looked at by somebody who has
//! nothing but that and a public key.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use drctl_model::Drill;
use drctl_store::{Identities, MAX_BUNDLE_BYTES, Trust, VerifyingKey};
use serde_json::json;

use super::args::DrillVerifyArgs;
use super::drill::{drill_json, drill_text, names_text};
use super::screen::{Screen, line};
use crate::drill::{Look, VerifiedBundle, bundle, verify_bundle};
use crate::host::{AgentError, Exit, Setup, read_within, write_new};

/// How long a file may take that is a pipe.
const PATIENCE: Duration = Duration::from_secs(60);

/// The most bytes of a file with an identity.
const MAX_IDENTITY_BYTES: u64 = 64 << 10;

/// `drctl drill export`.
pub(super) async fn export(
    screen: Screen,
    setup: &Setup,
    drill: &Drill,
    to: &Path,
) -> Result<Exit> {
    let text = bundle(&setup.repository().await?, drill).await?;
    write_new(to, &text, 0o644)?;
    let object = json!({ "drill": drill.drill, "source": drill.source, "file": to });
    screen.answer("drctl.drill-export/1", object, || {
        format!(
            "wrote drill {} of {} to {}\nwhoever has the file and your verifying key can check it: \
             drctl drill verify FILE --key KEY",
            drill.drill,
            drill.source,
            to.display()
        )
    });
    Ok(Exit::Success)
}

/// `drctl drill verify`.
pub(super) fn verify(screen: Screen, args: &DrillVerifyArgs) -> Result<Exit> {
    let of_drills = keys(&args.key)?;
    let of_backups = [of_drills.clone(), keys(&args.backup_key)?].concat();
    let identities = args.identity.as_deref().map(identities).transpose()?;
    let bytes = read(&args.bundle, MAX_BUNDLE_BYTES)?;
    let trust = (&Trust::new(of_drills), &Trust::new(of_backups));
    let found = verify_bundle(&bytes, trust, identities.as_ref());
    let is_true = found.is_true();
    let object = json!({
        "true": is_true,
        "looked": found.looked.iter().map(look_json).collect::<Vec<_>>(),
        "drill": found.drill.as_ref().map(|(drill, signer)| drill_json(drill, Some(signer))),
        "names": found.names,
    });
    screen.answer("drctl.drill-verify/1", object, || text(&found));
    Ok(if is_true { Exit::Success } else { Exit::Verification })
}

fn keys(texts: &[String]) -> Result<Vec<VerifyingKey>> {
    let keys = texts.iter().map(|text| text.parse::<VerifyingKey>());
    let keys: Result<_, _> = keys.collect();
    Ok(keys.map_err(|error| AgentError::Usage(format!("{error}. Nothing was looked at")))?)
}

fn read(file: &Path, most: u64) -> Result<Vec<u8>> {
    read_within(file, most, PATIENCE).with_context(|| format!("read {}", file.display()))
}

fn identities(file: &Path) -> Result<Identities> {
    let bytes = read(file, MAX_IDENTITY_BYTES)?;
    let text = String::from_utf8(bytes).context("the identity is no text")?;
    Identities::parse(&text).with_context(|| format!("read the identity {}", file.display()))
}

fn look_json(look: &Look) -> serde_json::Value {
    json!({ "good": look.good, "text": look.text })
}

fn text(found: &VerifiedBundle) -> String {
    let said = found.drill.as_ref().map(|(drill, _)| drill.verdict().as_str());
    let mut text = match (found.is_true(), said) {
        (true, Some(said)) => {
            format!("TRUE: it was signed, and holds together; the drill says `{said}`")
        }
        _ => "FALSE: do not rely on this bundle".to_owned(),
    };
    for Look { good, text: what } in &found.looked {
        let mark = match good {
            Some(true) => "ok",
            Some(false) => "WRONG",
            None => "note",
        };
        text.push_str(&format!("\n  {mark}: {}", line(what)));
    }
    if let Some((drill, _)) = &found.drill {
        text.push('\n');
        text.push_str(&drill_text(drill));
    }
    let names = found.names.as_ref().map_or_else(String::new, names_text);
    text + &names
}
