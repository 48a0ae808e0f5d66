use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use drctl_policies::{SecretRef, Setting, SourceTemplate};
use serde_json::json;

use super::args::InitArgs;
use super::screen::Screen;
use crate::init::{fill, new_file};
use crate::problem::Problem;
use crate::{Exit, InitOptions, init as run_init};

/// `drctl init`.
pub(super) async fn init(screen: Screen, config: &Path, args: &InitArgs) -> Result<Exit> {
    let options = options(config, args)?;
    // Before anything else: a kit that has no place would be lost, and the recovery key with it.
    let kit = args.kit.as_deref().map(|path| new_file(path, 0o600)).transpose()?;
    let made = run_init(&options, jiff::Timestamp::now()).await;
    if let (Some(path), Err(_)) = (&args.kit, &made) {
        let _ = std::fs::remove_file(path);
    }
    let made = made?;
    let mut object = json!({
        "config": made.config, "signing_key": made.signing_key, "identity": made.identity,
        "repository": made.repository,
    });
    match (&args.kit, kit) {
        (Some(path), Some(file)) => {
            fill(file, path, &made.kit).with_context(|| kit_lost(&made.config))?;
            object["kit_file"] = json!(path);
        }
        _ => object["recovery_kit"] = json!(made.kit),
    }
    screen.answer("drctl.init/1", object, || match &args.kit {
        Some(_) => String::new(),
        None => made.kit.clone(),
    });
    if let (None, Some(kind)) = (&args.kit, screen.lost()) {
        return Err(anyhow::Error::new(std::io::Error::from(kind)).context(kit_lost(&made.config)));
    }
    screen.say(format!("wrote {}", made.config.display()));
    if let Some(path) = &args.kit {
        screen.say(format!("wrote the recovery kit {}: move it off this host now", path.display()));
    } else {
        screen.say("print the recovery kit above and keep it offline: it is shown only once");
    }
    let source = &options.source.id;
    screen.say(format!("next: `drctl doctor`, then `drctl backup {source}`"));
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
fn options(config: &Path, args: &InitArgs) -> Result<InitOptions> {
    let asks = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    let need = |value: &Option<String>, flag: &str, question: &str| match value {
        Some(value) => Ok(value.clone()),
        None if asks => ask(question),
        None => {
            let text = format!(
                "{flag} is missing, and nobody can be asked: standard input is no terminal"
            );
            Err(Problem::Usage(text).into())
        }
    };
    let url = need(&args.url, "--url", "Repository (file:///DIR, s3://BUCKET/PREFIX, ...)")?;
    let source = need(&args.source, "--source", "Name of the first source (a-z, 0-9, -)")?;
    let id = source.parse().map_err(|error| Problem::Usage(format!("{error}")))?;
    Ok(InitOptions {
        config: config.to_owned(),
        url,
        repository: repository(args)?,
        join: args.join,
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

fn repository(args: &InitArgs) -> Result<Vec<(String, Setting)>> {
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
            return Err(Problem::Usage("no answer was given".to_owned()).into());
        }
        let answer = answer.trim();
        if !answer.is_empty() {
            return Ok(answer.to_owned());
        }
    }
}
