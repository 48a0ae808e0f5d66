use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use drctl_engines::pg::typed_ident;
use drctl_policies::{Kit, SUPERUSER, SecretRef, Setting, SourceTemplate};
use serde_json::json;

use super::args::InitArgs;
use super::discover::name;
use super::heard::while_heard;
use super::screen::{Screen, line};
use crate::health::discover;
use crate::host::files::{fill, new_file};
use crate::host::{AgentError, Exit, Setup, clusters};
use crate::repository::{InitOptions, Made, init as run_init, kit_of, restore_marker};

/// `drctl init`.
pub(super) async fn init(screen: Screen, config: &Path, args: &InitArgs) -> Result<Exit> {
    if args.restore_marker {
        return marker(screen, config).await;
    }
    let given = args.kit.as_deref().filter(|path| args.join && path.exists());
    let given = given.map(kit_of).transpose()?;
    if let (true, None, None, Some(kit)) = (args.join, &given, &args.url, &args.kit) {
        let text = format!(
            "there is no recovery kit at {}: name the file that holds it, or with --url the repository \
             that is joined",
            kit.display()
        );
        return Err(AgentError::Usage(text).into());
    }
    let kit_file = args.kit.as_ref().filter(|_| given.is_none());
    let options = options(config, args, given)?;
    if kit_file.is_none() {
        screen.arrives()?;
    }
    if let Some(path) = kit_file {
        clusters::outside(path, "the recovery kit")?;
    }
    // Before anything else: a kit that has no place would be lost, and the recovery key with it.
    let kit = kit_file.map(|path| new_file(path, 0o600)).transpose()?;
    let made = run_init(&options, jiff::Timestamp::now()).await;
    if let (Some(path), Err(_)) = (kit_file, &made) {
        let _ = std::fs::remove_file(path);
    }
    let made = made?;
    let mut object = json!({
        "config": made.config, "signing_key": made.signing_key, "identity": made.identity,
        "repository": made.repository,
    });
    match (kit_file, kit) {
        (Some(path), Some(file)) => {
            fill(file, path, &made.kit).with_context(|| kit_lost(&made.config))?;
            object["kit_file"] = json!(path);
        }
        _ => object["recovery_kit"] = json!(made.kit),
    }
    screen.answer("drctl.init/1", object, || match kit_file {
        Some(_) => String::new(),
        None => made.kit.clone(),
    });
    if let (None, Some(kind)) = (kit_file, screen.lost()) {
        return Err(anyhow::Error::new(std::io::Error::from(kind)).context(kit_lost(&made.config)));
    }
    screen.say(format!("wrote {}", made.config.display()));
    if let Some(path) = kit_file {
        screen.say(format!("wrote the recovery kit {}: move it off this host now", path.display()));
    } else {
        screen.say("print the recovery kit above and keep it offline: it is shown only once");
    }
    tell_found(screen, &made);
    let source = &options.source.id;
    if !options.join {
        tell_role(screen, &options.source.user);
        tell_unprotected(screen, &made.config).await?;
    }
    screen.say(match options.join {
        true => format!("next: `drctl list`; to restore, `drctl restore {source} --latest`"),
        false => format!("next: `drctl doctor`, then `drctl backup {source}`"),
    });
    Ok(Exit::Success)
}

/// What the role has to be given, and what is gained by one of its own.
fn tell_role(screen: Screen, user: &str) {
    screen.say(match user {
        SUPERUSER => format!(
            "{user} is a superuser: use a role that can only read instead (`--user drctl`, \
             docs/postgresql.md)"
        ),
        _ => format!(
            "the role {} needs, once on the server: CREATE ROLE {role} LOGIN BYPASSRLS; GRANT \
             pg_read_all_data TO {role};",
            line(user),
            role = typed_ident(user)
        ),
    });
}

/// Which other servers of this host have no source yet.
async fn tell_unprotected(screen: Screen, config: &Path) -> Result<()> {
    let found = discover(Some(&Setup::load(config)?)).await;
    for one in found.servers.iter().filter(|one| one.is_unprotected()) {
        screen.say(format!("{} is not backed up: `drctl discover` shows how", name(one)));
    }
    Ok(())
}

/// Of a repository that was joined, what a person has to know.
fn tell_found(screen: Screen, made: &Made) {
    if made.lost_marker {
        screen.say("its marker is gone or damaged: `drctl init --restore-marker` writes it again");
    }
    let Some(found) = &made.found else { return };
    screen.say(format!("the repository holds {} backup(s) that count here", found.backups.len()));
    for ((source, backup), why) in &found.newer {
        screen.say(format!("{source}/{backup} is not read here: {}", line(why)));
    }
    let refused = found.refused.first();
    if let Some((source, backup, why)) = refused {
        let others = found.refused.len() - 1;
        screen.say(format!("{source}/{backup} does not count ({others} more): {}", line(why)));
        screen.say(
            "add the key of the host that wrote it to keys.verifying_keys (the `signed by` line of \
             its kit, or `drctl keys list` there). If that key is there, add the source to its \
             `sources`. Then `drctl list` shows the backup",
        );
    }
}

async fn marker(screen: Screen, config: &Path) -> Result<Exit> {
    let setup = Setup::load(config)?;
    let (repository, written) = while_heard(&setup, restore_marker(&setup)).await?;
    let object = json!({ "repository": repository, "written": written });
    screen.answer("drctl.marker/1", object, || match written {
        true => format!("the marker of the repository {repository} is written again"),
        false => format!("the marker of the repository {repository} is there; nothing was written"),
    });
    Ok(Exit::Success)
}

/// The recovery key is nowhere but in the kit.
fn kit_lost(config: &Path) -> String {
    let keys = config.with_file_name("keys");
    format!(
        "the recovery kit could not be written, and the recovery key in it is lost: remove {} and \
         {}, then run `drctl init` again with --join and --kit FILE",
        config.display(),
        keys.display()
    )
}

/// Asks for what is missing where a person can answer; elsewhere says which flag is missing.
fn options(config: &Path, args: &InitArgs, kit: Option<Kit>) -> Result<InitOptions> {
    let asks = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    let need = |value: &Option<String>, flag: &str, question: &str| match value {
        Some(value) => Ok(value.clone()),
        None if asks => ask(question),
        None => {
            let text = format!(
                "{flag} is missing, and nobody can be asked: standard input is no terminal"
            );
            Err(AgentError::Usage(text).into())
        }
    };
    let told = |name: &str| match kit.as_ref()?.setting(name)? {
        Setting::Text(text) => Some(text.clone()),
        _ => None,
    };
    let url = args.url.clone().or_else(|| told("url"));
    let source = kit.as_ref().and_then(|kit| kit.source()).map(ToString::to_string);
    let source = args.source.clone().or(source);
    let url = need(&url, "--url", "Repository (file:///DIR, s3://BUCKET/PREFIX, ...)")?;
    let source = need(&source, "--source", "Name of the first source (a-z, 0-9, -)")?;
    let id = source.parse().map_err(|error| AgentError::Usage(format!("{error}")))?;
    Ok(InitOptions {
        config: config.to_owned(),
        url,
        repository: repository(args, kit.as_ref())?,
        join: args.join,
        kit,
        state_dir: absolute(&args.state_dir)?.display().to_string(),
        runtime_dir: absolute(&args.runtime_dir)?.display().to_string(),
        source: SourceTemplate {
            id,
            policy: "daily".to_owned(),
            host: args.host.clone(),
            port: args.port,
            user: args.user.clone(),
            databases: Some(args.databases.clone()).filter(|names| !names.is_empty()),
            password: secret(args.password_file.as_deref())?,
        },
    })
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("find {}", path.display()))
}

fn secret(path: Option<&Path>) -> Result<Option<SecretRef>> {
    path.map(|path| absolute(path).map(SecretRef::File)).transpose()
}

/// The keys of `[repository]` but `url` and `id`: those of the flags, and for the rest the kit's.
fn repository(args: &InitArgs, kit: Option<&Kit>) -> Result<Vec<(String, Setting)>> {
    let mut settings = flags(args)?;
    let told = kit.iter().flat_map(|kit| &kit.repository);
    let more = told.filter(|(key, _)| !matches!(key.as_str(), "url" | "id"));
    let more: Vec<_> =
        more.filter(|(key, _)| !settings.iter().any(|(own, _)| own == key)).collect();
    settings.extend(more.into_iter().cloned());
    Ok(settings)
}

fn flags(args: &InitArgs) -> Result<Vec<(String, Setting)>> {
    let mut settings = Vec::new();
    let texts =
        [("endpoint", &args.endpoint), ("region", &args.region), ("account", &args.account)];
    for (key, value) in texts {
        if let Some(value) = value {
            settings.push((key.to_owned(), Setting::Text(value.clone())));
        }
    }
    if args.allow_http {
        settings.push(("allow_http".to_owned(), Setting::Flag(true)));
    }
    let secrets = [
        ("access_key_id", &args.access_key_id_file),
        ("secret_access_key", &args.secret_access_key_file),
        ("account_key", &args.account_key_file),
        ("service_account", &args.service_account_file),
    ];
    for (key, path) in secrets {
        if let Some(reference) = secret(path.as_deref())? {
            settings.push((key.to_owned(), Setting::Secret(reference)));
        }
    }
    Ok(settings)
}

fn ask(question: &str) -> Result<String> {
    let mut stderr = std::io::stderr();
    loop {
        write!(stderr, "{question}: ").context("ask")?;
        stderr.flush().context("ask")?;
        let mut answer = String::new();
        if std::io::stdin().read_line(&mut answer).context("read the answer")? == 0 {
            return Err(AgentError::Usage("no answer was given".to_owned()).into());
        }
        let answer = answer.trim();
        if !answer.is_empty() {
            return Ok(answer.to_owned());
        }
    }
}
