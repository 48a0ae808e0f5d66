//! A new repository: keys, configuration, marker, recovery kit.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use drctl_model::{Marker, RepositoryId};
use drctl_policies::{
    Diagnostic, SAMPLE_POLICY, SecretRef, Setting, SourceFile, SourceTemplate, Template, template,
};
use drctl_store::{SigningKey, StoreError, decode_marker, encode_marker, layout, new_identity};

use crate::problem::Problem;
use crate::{Repository, Setup};

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
}

/// Makes all of it; overwrites nothing.
///
/// # Errors
/// [`Problem::Exists`], [`Problem::RepositoryExists`], the configuration's, the store's. Files
/// that were written before the error stay and are named by the next attempt.
pub async fn init(options: &InitOptions, now: jiff::Timestamp) -> Result<Made> {
    let directory = options.config.parent().unwrap_or(Path::new("."));
    let directory = std::path::absolute(directory)?;
    let (keys, policies) = (directory.join("keys"), directory.join("policies.d"));
    let signing_path = keys.join("signing.key");
    let identity_path = keys.join("identity.txt");
    for path in [&options.config, &signing_path, &identity_path] {
        if path.exists() {
            return Err(Problem::Exists(path.clone()).into());
        }
    }
    let signing = SigningKey::generate();
    let (identity, recipient) = new_identity(&now.to_string());
    let (recovery, recovery_recipient) = new_identity(&now.to_string());
    let text = template(&Template {
        host: None,
        url: options.url.clone(),
        repository: options.repository.clone(),
        recipients: vec![recipient, recovery_recipient.clone()],
        signing_key: SecretRef::File(signing_path.clone()),
        verifying_key: signing.verifying_key().to_string(),
        identity: Some(SecretRef::File(identity_path.clone())),
        state_dir: options.state_dir.clone(),
        runtime_dir: options.runtime_dir.clone(),
        source: options.source.clone(),
    });
    check(options, &text)?;
    private_directory(&keys)?;
    private_directory(&policies)?;
    let policy = policies.join(format!("{}.toml", options.source.policy));
    if !policy.exists() {
        write_new(&policy, SAMPLE_POLICY, 0o600)?;
    }
    write_new(&options.config, &text, 0o600)?;
    let marked = mark(options, now).await;
    if marked.is_err() {
        // Nothing is left behind of an attempt that could not reach its repository.
        let _ = std::fs::remove_file(&options.config);
    }
    let id = marked?;
    write_new(&signing_path, &signing.to_secret_text(), 0o600)?;
    write_new(&identity_path, &identity, 0o600)?;
    let kit = kit(options, &id, &signing, &recovery, &recovery_recipient, now);
    Ok(Made {
        config: options.config.clone(),
        signing_key: signing_path,
        identity: identity_path,
        repository: id,
        kit,
    })
}

/// Whether the configuration would be a good one; nothing has been written yet, so lines of it
/// would mean nothing to whoever gave the answers.
fn check(options: &InitOptions, text: &str) -> Result<()> {
    let file = |name: String, text: &str| SourceFile { name, text: text.to_owned() };
    let policy = file(format!("{}.toml", options.source.policy), SAMPLE_POLICY);
    let checked = drctl_policies::parse(&file("drctl.toml".to_owned(), text), &[policy]);
    let wrong = |found: Vec<Diagnostic>| {
        let one = |wrong: Diagnostic| match wrong.suggestion {
            Some(suggestion) => format!("{}: {suggestion}", wrong.message),
            None => wrong.message,
        };
        Problem::Usage(found.into_iter().map(one).collect::<Vec<_>>().join("; "))
    };
    checked.map(drop).map_err(|found| wrong(found).into())
}

/// Writes the marker, or reads the one that is there.
async fn mark(options: &InitOptions, now: jiff::Timestamp) -> Result<RepositoryId> {
    let setup = Setup::load(&options.config)?;
    if let drctl_policies::Location::File { path } = &setup.config.repository.location {
        private_directory(path)?;
    }
    let bucket = setup.bucket()?;
    let key = layout::marker();
    match bucket.get(&key, drctl_store::MAX_MARKER_BYTES).await {
        Ok(bytes) => {
            let marker = decode_marker(&bytes).context("read the repository's marker")?;
            if options.join {
                return Ok(marker.repository);
            }
            let id = marker.repository.to_string();
            Err(Problem::RepositoryExists { url: options.url.clone(), id }.into())
        }
        Err(StoreError::Missing { .. }) if options.join => {
            Err(Problem::NotARepository { url: options.url.clone() }.into())
        }
        Err(StoreError::Missing { .. }) => {
            let marker = Marker::new(RepositoryId::new(rand::random()), now);
            let bytes = Bytes::from(encode_marker(&marker));
            bucket.put_once(&key, bytes).await.context("write the repository's marker")?;
            Ok(Repository::open(bucket, setup.trust()?).await?.id)
        }
        Err(error) => Err(error).context("look for a repository"),
    }
}

fn private_directory(path: &Path) -> Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.with_context(|| format!("make the directory {}", path.display()))
}

/// Writes a file that must not exist, and syncs it.
///
/// # Errors
/// [`Problem::Exists`], the file system's.
pub fn write_new(path: &Path, text: &str, mode: u32) -> Result<()> {
    fill(new_file(path, mode)?, path, text)
}

/// Makes a file that must not exist.
pub(crate) fn new_file(path: &Path, mode: u32) -> Result<File> {
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    match file {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            Err(Problem::Exists(path.to_owned()).into())
        }
        file => file.with_context(|| format!("write {}", path.display())),
    }
}

/// Writes all of a new file, and syncs it.
pub(crate) fn fill(mut file: File, path: &Path, text: &str) -> Result<()> {
    file.write_all(text.as_bytes()).with_context(|| format!("write {}", path.display()))?;
    file.sync_all().with_context(|| format!("write {}", path.display()))
}

fn kit(
    options: &InitOptions,
    id: &RepositoryId,
    signing: &SigningKey,
    recovery: &str,
    recovery_recipient: &str,
    now: jiff::Timestamp,
) -> String {
    let key = signing.verifying_key();
    KIT.replace("@NOW@", &now.to_string())
        .replace("@URL@", &options.url)
        .replace("@ID@", id.as_str())
        .replace("@KEY@", &key.to_string())
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
with this sheet. Whoever has it and the bucket can read all of them; without it and without the
main identity nobody can, ever. (Each host that joins a repository gets a sheet of its own.)

  What                     Keep it
  -----------------------  ------------------------------------------------------------------
  this sheet               offline, in two places: on paper or in a password manager; not on
                           the database host and not in the bucket
  keys/identity.txt        where you restore. The database host does not need it: remove it
                           there, and take `identity` out of drctl.toml. Backups go on.
  keys/signing.key         on the database host alone. Lost: make a new one with
                           `drctl keys new-signing` and add it to verifying_keys.
  the `signed by` line     with the bucket's address: what nobody with this key has signed is
                           not a backup

Restore with drctl, on any machine
  1. drctl init --join --url @URL@ --source @SOURCE@
     (with the flags for the bucket's credentials; the sheet that it prints is for backups made
     there, keep this one)
  2. add the `signed by` key above to keys.verifying_keys in its drctl.toml
  3. write the identity below into a file, then
     drctl restore @SOURCE@ --latest --to-files DIRECTORY --identity FILE

Restore without drctl
  The bucket's own client, jq, sha256sum, age and zstd are enough. `drctl show BACKUP --emergency`
  prints a script for one backup: print one now and then, and keep it with this sheet. Without a
  script: s/@SOURCE@/b/ holds a folder for each backup; its manifest.json says in base64 (field
  `payload`) which segments follow each other; age -d each of them in turn into zstd -d.

# recovery identity, public key: @RECIPIENT@
@RECOVERY@
";
