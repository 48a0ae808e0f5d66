use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;
use drctl_model::{SourceId, shown};
use drctl_policies::TrustedKey;
use drctl_store::{SigningKey, VerifyingKey, new_identity, open_facts};
use serde_json::json;

use super::args::KeysVerb;
use super::custody::custody;
use super::screen::{NAME_SHOWN, Screen};
use crate::host::{Exit, Failure, Setup, clusters, write_new};
use crate::repository::Memory;

/// `drctl keys`.
pub(super) async fn keys(
    screen: Screen,
    setup: impl FnOnce() -> Result<Setup>,
    verb: &KeysVerb,
) -> Result<Exit> {
    match verb {
        KeysVerb::List => list(screen, &setup()?),
        KeysVerb::Test { identity } => test(screen, &setup()?, identity.as_deref()).await,
        KeysVerb::Custody => custody(screen, &setup()?).await,
        KeysVerb::NewIdentity { file } => {
            clusters::outside(file, "the identity")?;
            let (text, recipient) = new_identity(&jiff::Timestamp::now().to_string());
            write_new(file, &text, 0o600)?;
            let object = json!({ "file": file, "recipient": recipient });
            screen.answer("drctl.new-identity/1", object, || recipient.clone());
            screen.say(
                "add it to keys.recipients: backups from now on open with it, older ones do not",
            );
            Ok(Exit::Success)
        }
        KeysVerb::NewSigning { file } => {
            clusters::outside(file, "the key")?;
            let key = SigningKey::generate();
            write_new(file, &key.to_secret_text(), 0o600)?;
            let public = key.verifying_key().to_string();
            let object = json!({ "file": file, "verifying_key": public });
            screen.answer("drctl.new-signing/1", object, || public.clone());
            screen.say(
                "add it to keys.verifying_keys wherever you restore, and keep the old ones there",
            );
            Ok(Exit::Success)
        }
    }
}

fn list(screen: Screen, setup: &Setup) -> Result<Exit> {
    let keys = &setup.config.keys;
    let ours = setup.identities(None);
    let at_hand = match &ours {
        Ok(found) => found.as_ref().map(|identities| identities.recipients()).unwrap_or_default(),
        Err(_) => Vec::new(),
    };
    let signing = setup.any_signing_key().map(|key| key.verifying_key().to_string());
    let recipients: Vec<_> = keys
        .recipients
        .iter()
        .map(|text| json!({ "recipient": text, "identity_at_hand": at_hand.contains(text) }))
        .collect();
    let verifying: Vec<_> = keys
        .verifying_keys
        .iter()
        .map(|trusted| {
            json!({
                "key": trusted.key, "name": trusted.name, "sources": trusted.sources,
                "roles": trusted.roles, "id": keyid(&trusted.key),
                "signs_here": signing.as_ref().is_ok_and(|s| *s == trusted.key),
            })
        })
        .collect();
    let object = json!({ "recipients": recipients, "verifying_keys": verifying });
    screen.answer("drctl.keys/1", object, || {
        let mut text = "backups are encrypted to\n".to_owned();
        for recipient in &keys.recipients {
            let note = if at_hand.contains(recipient) { "   its identity is here" } else { "" };
            let _ = writeln!(text, "  {recipient}{note}");
        }
        text.push_str("signatures count if made by\n");
        for trusted in &keys.verifying_keys {
            let _ = writeln!(text, "  {}", trusted.key);
            let here = signing.as_ref().is_ok_and(|s| *s == trusted.key);
            let _ = writeln!(text, "    {}", of_key(trusted, here));
        }
        text
    });
    Ok(Exit::Success)
}

/// The identifier by which objects name a key.
fn keyid(key: &str) -> Option<String> {
    key.parse::<VerifyingKey>().ok().map(|key| key.keyid())
}

/// Whose a key is, and what it speaks for.
fn of_key(trusted: &TrustedKey, signs_here: bool) -> String {
    let mut text = format!("id {}", keyid(&trusted.key).unwrap_or_default());
    if let Some(name) = &trusted.name {
        let _ = write!(text, ", {}", shown(name, NAME_SHOWN));
    }
    let _ = match &trusted.sources {
        Some(sources) => {
            let names: Vec<&str> = sources.iter().map(SourceId::as_str).collect();
            write!(text, ", for {}", names.join(", "))
        }
        None => write!(text, ", for every source"),
    };
    if let Some(roles) = &trusted.roles {
        let names: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
        let _ = write!(text, ", signs {} only", names.join(", "));
    }
    if signs_here {
        text.push_str(", this host signs with it");
    }
    text
}

/// Opens the newest backup of every source: the one proof that a key is the right one.
async fn test(screen: Screen, setup: &Setup, identity: Option<&Path>) -> Result<Exit> {
    let repository = setup.repository().await?;
    let identities = setup.identities(identity)?;
    let Some(identities) = identities else {
        return Err(crate::host::AgentError::NoIdentityToTest.into());
    };
    let mut rows = Vec::new();
    for source in repository.sources().await? {
        let opened = async {
            let newest = repository.latest(&source, setup.clock.now(), &Memory::default()).await?;
            let manifest = newest.backup.manifest;
            open_facts(&manifest, &identities)?;
            Ok::<_, anyhow::Error>(manifest.backup)
        };
        rows.push((source.clone(), opened.await.map_err(|error| Failure::of(&error))));
    }
    let entry = |(source, opened): &(SourceId, Result<_, Failure>)| match opened {
        Ok(backup) => json!({ "source": source, "backup": backup, "opens": true }),
        Err(failure) => json!({
            "source": source, "opens": false, "code": failure.code,
            "message": failure.messages.join(": "),
        }),
    };
    let object = json!({ "sources": rows.iter().map(entry).collect::<Vec<_>>() });
    screen.answer("drctl.keys-test/1", object, || {
        let mut text = String::new();
        for (source, opened) in &rows {
            let _ = match opened {
                Ok(backup) => writeln!(text, "{source}: opens {backup}"),
                Err(failure) => {
                    writeln!(text, "{source}: DOES NOT OPEN: {}", failure.messages.join(": "))
                }
            };
        }
        if text.is_empty() { "there is no backup yet".to_owned() } else { text }
    });
    let bad = rows.iter().any(|(_, opened)| opened.is_err());
    Ok(if bad { Exit::Key } else { Exit::Success })
}
