//! A new repository: keys, configuration, marker, recovery kit.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use drctl_model::{Marker, RepositoryId, shown};
use drctl_policies::{
    Config, Diagnostic, Kit, SAMPLE_POLICY, SecretRef, Setting, SourceFile, SourceTemplate,
    Template, TrustedKey, read_kit, template,
};
use drctl_store::{Bucket, SigningKey, encode_marker, layout, new_identity};

use super::Inventory;
use super::faults::is_newer;
use super::marker::{holds_backups, is_foreign, is_lost, read_marker};
use crate::host::{AgentError, Failure, Setup, clusters, private, waited, write_new};

/// What the operator decides.
#[derive(Debug, Clone)]
pub struct InitOptions {
    /// The configuration to write.
    pub config: PathBuf,
    /// The repository's URL.
    pub url: String,
    /// Further keys of `[repository]`.
    pub repository: Vec<(String, Setting)>,
    /// Use the repository that is there.
    pub join: bool,
    /// What the recovery kit of the repository says that is joined.
    pub kit: Option<Kit>,
    /// Catalog and locks.
    pub state_dir: String,
    /// Private short-lived files.
    pub runtime_dir: String,
    /// The first source.
    pub source: SourceTemplate,
}

/// What was made.
#[derive(Debug, Clone)]
pub struct Made {
    /// The configuration.
    pub config: PathBuf,
    /// The key that signs manifests.
    pub signing_key: PathBuf,
    /// The main identity; may be removed from the host.
    pub identity: PathBuf,
    /// The repository's identifier.
    pub repository: RepositoryId,
    /// The recovery kit's text, with the offline identity in it.
    pub kit: String,
    /// Of a repository that was joined: what it holds, as far as it could be looked at.
    pub found: Option<Inventory>,
    /// That it was joined without its marker, which is gone or damaged.
    pub lost_marker: bool,
}

/// Makes all of it; overwrites nothing.
///
/// # Errors
/// [`AgentError::Exists`], [`AgentError::RepositoryExists`], the configuration's, the store's. Files
/// that were written before the error stay and are named by the next attempt.
pub async fn init(options: &InitOptions, now: jiff::Timestamp) -> Result<Made> {
    let directory = options.config.parent().unwrap_or(Path::new("."));
    let directory = std::path::absolute(directory)?;
    let (keys, policies) = (directory.join("keys"), directory.join("policies.d"));
    let signing_path = keys.join("signing.key");
    let identity_path = keys.join("identity.txt");
    for path in [&options.config, &signing_path, &identity_path] {
        if path.exists() {
            return Err(AgentError::Exists(path.clone()).into());
        }
    }
    let signing = SigningKey::generate();
    let (identity, recipient) = new_identity(&now.to_string());
    let (recovery, recovery_recipient) = new_identity(&now.to_string());
    let mut written = Template {
        host: None,
        url: options.url.clone(),
        repository: options.repository.clone(),
        recipients: vec![recipient, recovery_recipient.clone()],
        signing_key: SecretRef::File(signing_path.clone()),
        verifying_keys: trusted(options, &signing),
        identity: Some(SecretRef::File(identity_path.clone())),
        state_dir: options.state_dir.clone(),
        runtime_dir: options.runtime_dir.clone(),
        source: options.source.clone(),
    };
    let config = check(options, &template(&written))?;
    let setup = setup(options, config);
    in_no_cluster(&setup, &directory)?;
    let place = look(options, &setup).await?;
    written.repository.insert(0, ("id".to_owned(), Setting::Text(place.id.to_string())));
    let text = template(&written);
    private::directory(&keys)?;
    private_directory(&policies)?;
    let policy = policies.join(format!("{}.toml", options.source.policy));
    if !policy.exists() {
        write_new(&policy, SAMPLE_POLICY, 0o600)?;
    }
    write_new(&options.config, &text, 0o600)?;
    if place.is_new {
        let marked = mark(&place.bucket, &place.id, now).await;
        if marked.is_err() {
            // Nothing is left behind of an attempt that could not reach its repository.
            let _ = std::fs::remove_file(&options.config);
        }
        marked?;
    }
    write_new(&signing_path, &signing.to_secret_text(), 0o600)?;
    write_new(&identity_path, &identity, 0o600)?;
    let found = if options.join { acquaint(options).await } else { None };
    let own = Kit {
        repository: with_url(&written),
        verifying_keys: vec![written.verifying_keys.swap_remove(0)],
    };
    let kit = kit(options, &place.id, &own, &recovery, &recovery_recipient, now);
    Ok(Made {
        config: options.config.clone(),
        signing_key: signing_path,
        identity: identity_path,
        repository: place.id,
        kit,
        found,
        lost_marker: place.lost_marker,
    })
}

/// The recovery kit in a file.
///
/// # Errors
/// [`AgentError::Changeable`] for one that other accounts can change; what is wrong with it.
pub fn kit_of(path: &Path) -> Result<Kit> {
    private::believed(path, private::author(path))?;
    let text = waited(|| std::fs::read_to_string(path));
    let text = text.with_context(|| format!("read {}", path.display()))?;
    let name = path.display().to_string();
    Ok(read_kit(&SourceFile { name, text }).map_err(AgentError::Configuration)?)
}

/// Refuses a place for any of it in a cluster.
fn in_no_cluster(setup: &Setup, directory: &Path) -> Result<()> {
    clusters::outside(directory, "the configuration with its keys in")?;
    setup.places().into_iter().try_for_each(|(what, path)| clusters::outside(&path, what))
}

/// Whom the new configuration believes: this host for its source, and those of the kit.
fn trusted(options: &InitOptions, signing: &SigningKey) -> Vec<TrustedKey> {
    let mut trusted = vec![TrustedKey {
        key: signing.verifying_key().to_string(),
        name: Some(rustix::system::uname().nodename().to_string_lossy().into_owned()),
        sources: Some(vec![options.source.id.clone()]),
        roles: None,
    }];
    trusted.extend(options.kit.iter().flat_map(|kit| kit.verifying_keys.iter().cloned()));
    trusted
}

fn with_url(written: &Template) -> Vec<(String, Setting)> {
    let mut all = vec![("url".to_owned(), Setting::Text(written.url.clone()))];
    all.extend(written.repository.iter().cloned());
    all
}

fn setup(options: &InitOptions, config: Config) -> Setup {
    let clock = std::sync::Arc::new(drctl_model::SystemClock);
    Setup {
        config: std::sync::Arc::new(config),
        path: options.config.clone(),
        clock,
        prunes: false,
        paces: Vec::new(),
        files_sha256: None,
        also_hidden: Vec::new(),
    }
}

/// Fills the catalog of a host that joins a repository. What fails is told by the next command.
async fn acquaint(options: &InitOptions) -> Option<Inventory> {
    let looking = async {
        let setup = Setup::load(&options.config)?;
        let repository = setup.repository().await?;
        crate::repository::cache::acquaint(&setup, &repository).await
    };
    let said = |error: &anyhow::Error| {
        let why = Failure::of(error).messages.join(": ");
        tracing::warn!("the catalog is not made yet: {why}; `drctl catalog rebuild` makes it");
    };
    looking.await.inspect_err(said).ok()
}

/// Whether the configuration would be a good one; nothing has been written yet, so lines of it
/// would mean nothing to whoever gave the answers.
fn check(options: &InitOptions, text: &str) -> Result<Config> {
    let file = |name: String, text: &str| SourceFile { name, text: text.to_owned() };
    let policy = file(format!("{}.toml", options.source.policy), SAMPLE_POLICY);
    let checked = drctl_policies::parse(&file("drctl.toml".to_owned(), text), &[policy]);
    let wrong = |found: Vec<Diagnostic>| {
        let one = |wrong: Diagnostic| match wrong.suggestion {
            Some(suggestion) => format!("{}: {suggestion}", wrong.message),
            None => wrong.message,
        };
        AgentError::Usage(found.into_iter().map(one).collect::<Vec<_>>().join("; "))
    };
    checked.map_err(|found| wrong(found).into())
}

/// The place of a repository, looked at.
struct Place {
    bucket: Bucket,
    id: RepositoryId,
    /// Whether its marker is still to be written.
    is_new: bool,
    lost_marker: bool,
}

/// Looks whether there is a repository; writes nothing. A place that holds backups never becomes a
/// new one: their identifier would be another, and all of them be locked out.
async fn look(options: &InitOptions, setup: &Setup) -> Result<Place> {
    if let drctl_policies::Location::File { path } = &setup.config.repository.location {
        private_directory(path)?;
    }
    let bucket = setup.bucket()?;
    let pinned = match options.kit.as_ref().and_then(|kit| kit.setting("id")) {
        Some(Setting::Text(id)) => id.parse().ok(),
        _ => None,
    };
    let url = || options.url.clone();
    let error = match read_marker(&bucket, pinned.as_ref()).await {
        Ok(marker) if options.join => {
            return Ok(Place { bucket, id: marker.repository, is_new: false, lost_marker: false });
        }
        Ok(marker) => {
            let id = marker.repository.to_string();
            return Err(AgentError::RepositoryExists { url: url(), id }.into());
        }
        Err(error) if is_newer(&error) && options.join && pinned.is_some() => error,
        Err(error) if is_lost(&error) => error,
        Err(error) => return Err(error).context("look for a repository"),
    };
    let newer = is_newer(&error);
    let nothing = matches!(error.downcast_ref(), Some(AgentError::NotARepository { .. }));
    match (holds_backups(&bucket).await?, pinned) {
        (true, Some(id)) if options.join => {
            Ok(Place { bucket, id, is_new: false, lost_marker: !newer })
        }
        (true, _) if !newer && !is_foreign(&error) => {
            Err(AgentError::MarkerLost { url: url() }.into())
        }
        (false, _) if nothing && !options.join => {
            let id = RepositoryId::new(rand::random());
            Ok(Place { bucket, id, is_new: true, lost_marker: false })
        }
        _ => Err(error),
    }
}

async fn mark(bucket: &Bucket, id: &RepositoryId, now: jiff::Timestamp) -> Result<()> {
    let bytes = Bytes::from(encode_marker(&Marker::new(id.clone(), now)));
    bucket.put_once(&layout::marker(), bytes).await.context("write the repository's marker")?;
    read_marker(bucket, Some(id)).await.map(drop)
}

/// Writes the marker of the configured repository again, where it is gone or damaged; one of a newer
/// format is neither. Says whether it did.
///
/// # Errors
/// [`AgentError::OtherRepository`], and [`AgentError::NotARepository`] for a place without backups; what
/// to install for a marker of a newer format; the store's.
pub async fn restore_marker(setup: &Setup) -> Result<(RepositoryId, bool)> {
    let Some(id) = setup.config.repository.id.clone() else {
        let text = "repository.id is not set: copy it from the recovery kit into the configuration";
        return Err(AgentError::Usage(text.to_owned()).into());
    };
    let bucket = setup.bucket()?;
    let error = match read_marker(&bucket, Some(&id)).await {
        Ok(_) => return Ok((id, false)),
        Err(error) if is_lost(&error) => error,
        Err(error) => return Err(error),
    };
    if !holds_backups(&bucket).await? {
        return Err(error);
    }
    let key = layout::marker();
    let bytes = Bytes::from(encode_marker(&Marker::new(id.clone(), setup.clock.now())));
    match bucket.put_once(&key, bytes.clone()).await {
        // What lies there is no marker of any repository, and a person asked for this one.
        Err(drctl_store::StoreError::Conflict { .. }) => bucket.put(&key, bytes).await.map(drop),
        put => put.map(drop),
    }
    .context("write the repository's marker")?;
    read_marker(&bucket, Some(&id)).await?;
    Ok((id, true))
}

fn private_directory(path: &Path) -> Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.with_context(|| format!("make the directory {}", path.display()))
}

fn kit(
    options: &InitOptions,
    id: &RepositoryId,
    own: &Kit,
    recovery: &str,
    recovery_recipient: &str,
    now: jiff::Timestamp,
) -> String {
    let key = own.verifying_keys.first().map_or("", |trusted| &trusted.key);
    let is_secret = |(_, value): &(String, Setting)| matches!(value, Setting::Secret(_));
    let credentials = match (own.repository.iter().any(is_secret), options.url.split_once(':')) {
        (true, _) => "in the files that it names; they are not on this kit: keep them too",
        (false, Some(("file", _))) => "none: it is a directory",
        (false, _) => "the environment's or the machine's own (AWS_* and the like): keep them too",
    };
    KIT.replace("@CREDENTIALS@", credentials)
        .replace("@CONFIGURATION@", &own.text())
        .replace("@NOW@", &now.to_string())
        .replace("@URL@", &shown(&options.url, usize::MAX))
        .replace("@ID@", id.as_str())
        .replace("@KEY@", key)
        .replace("@RECIPIENT@", recovery_recipient)
        .replace("@SOURCE@", options.source.id.as_str())
        .replace("@RECOVERY@", recovery.trim_end())
}

const KIT: &str = r"drctl recovery kit
==================
made        @NOW@
repository  @URL@
            id @ID@
signed by   @KEY@

The recovery identity below opens every backup that is made with the drctl.toml that was written
with this kit. Whoever has it and access to the bucket can read all of them. Without it and without
the main identity nobody can. (Each host that joins a repository gets a kit of its own.)

  What                     Keep it
  -----------------------  ------------------------------------------------------------------
  this kit                 offline, in two places: on paper or in a password manager; not on
                           the database host and not in the bucket
  keys/identity.txt        where you restore. The database host does not need it: remove it
                           there, and remove `identity` from drctl.toml. Backups continue.
  keys/signing.key         only on the database host. If it is lost, make a new one with
                           `drctl keys new-signing` and add it to verifying_keys.
  the `signed by` line     with the bucket's URL. Only what this key has signed is a backup
                           of this host.
  the repository's id      in drctl.toml: another repository at this URL is refused. If the
                           marker is lost: `drctl init --restore-marker`.

The repository, and the keys to trust. Credentials: @CREDENTIALS@.
If you add a source to this host later, add its name to `sources` here. Otherwise its backups do not
count where this kit is used.

@CONFIGURATION@

Restore with drctl, on any machine
  1. drctl init --join --kit KIT
     (KIT is this text as a file. If you type it from paper: its first line, the part from
     [repository] to the end of the configuration, and the last line are enough. Add flags for the
     bucket's credentials if they are in other files there. It prints a new kit, for backups made
     there: keep this one too.)
  2. drctl restore @SOURCE@ --latest --to-files DIRECTORY --identity KIT

Restore without drctl
  The bucket's own client, jq, sha256sum, age and zstd are enough. `drctl show BACKUP --emergency`
  prints a script for one backup: print one now and then, and keep it with this kit. Without a
  script: s/@SOURCE@/b/ holds a folder for each backup. Its manifest.json lists the segments in
  order (base64, field `payload`). Pipe each of them through age -d, all together into zstd -d.

# recovery identity, public key: @RECIPIENT@
@RECOVERY@
";
