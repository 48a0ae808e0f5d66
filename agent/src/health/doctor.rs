//! Everything that a backup and a restore need, tried one by one.

mod hooks;
mod lock;
mod sandbox;
mod secrets;

use std::path::Path;

use bytes::Bytes;
use drctl_catalog::Catalog;
use drctl_model::{FindingCode, SourceId};
use drctl_store::{Bucket, Put, StoreError, layout};

use crate::engine::{self, Looked};
use crate::host::{Check, Checks, Level, Setup, clusters, unwritable};
use crate::repository::Repository;
use crate::repository::strays::strays;

/// Tries it all; nothing that it finds is an error of its own.
pub async fn doctor(setup: &Setup, only: Option<&SourceId>, identity: Option<&Path>) -> Vec<Check> {
    let mut found = Checks::default();
    // Nothing is tried, and left behind, in the place of another account.
    let state = &setup.config.paths.state_dir;
    if state.exists()
        && let Err(error) = setup.private_directory(state)
    {
        found.bad("paths.state_dir", &error);
        return found.0;
    }
    places(setup, &mut found);
    keys(setup, identity, &mut found);
    secrets::open_secrets(setup, &mut found);
    hooks::look(setup, &mut found);
    let repository = bucket(setup, &mut found).await;
    if let Some(repository) = &repository {
        catalog(setup, repository, &mut found).await;
    }
    if setup.config.sources.values().any(|source| engine::of(source).runs_restored()) {
        sandbox::look(&mut found).await;
    }
    for (id, source) in &setup.config.sources {
        if only.is_none_or(|only| only == id) {
            let looked = Looked { setup, id, repository: repository.as_ref() };
            engine::of(source).look(&looked, &mut found).await;
        }
    }
    found.0
}

/// The other directories of drctl's own, those that are there.
fn places(setup: &Setup, found: &mut Checks) {
    let paths = &setup.config.paths;
    for (check, path) in
        [("paths.runtime_dir", &paths.runtime_dir), ("paths.spool_dir", &paths.spool_dir)]
    {
        if path.exists() {
            found.take(check, setup.private_directory(path));
        }
    }
    let config = setup.path.parent().unwrap_or(Path::new(".")).to_owned();
    for (what, path) in setup.places().into_iter().chain([("the configuration in", config)]) {
        found.take("paths", clusters::outside(&path, what));
    }
}

fn keys(setup: &Setup, identity: Option<&Path>, found: &mut Checks) {
    if let Some(recipients) = found.take("keys.recipients", setup.recipients()) {
        let count = recipients.texts().len();
        found.good("keys.recipients", format!("{count} recipients can open every new backup"));
    }
    if let (Some(key), Some(trust)) = (
        found.take("keys.signing_key", setup.any_signing_key()),
        found.take("keys.verifying_keys", setup.trust()),
    ) {
        if trust.iter().any(|trusted| *trusted == key.verifying_key()) {
            found.good("keys.signing_key", "it is one of keys.verifying_keys");
        } else {
            let hint = format!("add {} to keys.verifying_keys", key.verifying_key());
            let text = "nobody here would trust what it signs";
            found.add(Level::Bad, "keys.signing_key", text, Some(&hint));
        }
    }
    match found.take("keys.identity", setup.identities(identity)) {
        Some(Some(identities)) => {
            let ours = identities.recipients();
            if ours.iter().any(|one| setup.config.keys.recipients.contains(one)) {
                found.good("keys.identity", "it opens new backups");
            } else {
                let text = "it belongs to none of keys.recipients: it opens no new backup";
                let hint = Some("use an identity of one of the recipients, or correct the list");
                found.add(Level::Bad, "keys.identity", text, hint);
            }
        }
        Some(None) => found.good("keys.identity", "none here: this host cannot read its backups"),
        None => {}
    }
}

async fn bucket(setup: &Setup, found: &mut Checks) -> Option<Repository> {
    let (away, newer) = (FindingCode::BucketUnreadable, FindingCode::MarkerNewer);
    found.take_or(away, "bucket.open", setup.bucket())?;
    let repository = found.take_or(away, "bucket.marker", setup.repository().await)?;
    let writes = repository.may_write().await;
    if repository.lost_marker {
        found.take_or(FindingCode::MarkerLost, "bucket.marker", writes)?;
    } else if repository.newer_marker.is_some() {
        found.take_or(newer, "bucket.marker", writes)?;
    } else {
        found.take("bucket.marker", writes)?;
    }
    let bucket = repository.bucket.clone();
    found.good("bucket.marker", format!("repository {} at {}", repository.id, bucket.url()));
    let pin = crate::repository::marker::unpinned(setup, &repository);
    pin.into_iter().for_each(|(text, hint)| found.warn("repository.id", text, &hint));
    let key = layout::probe(rand::random());
    let body = Bytes::from_static(b"drctl doctor was here\n");
    let put = bucket.put(&key, body.clone()).await;
    found.take("bucket.put", put.map_err(Into::into))?;
    found.good("bucket.put", format!("wrote {key}"));
    match bucket.get(&key, 100).await {
        Ok(bytes) if bytes == body => found.good("bucket.get", "read back as written"),
        Ok(_) => found.bad("bucket.get", &StoreError::ReadBack { key: key.clone() }.into()),
        Err(error) => found.bad("bucket.get", &error.into()),
    }
    list(&repository, found).await;
    conditional(&bucket, &key, body, found).await;
    may_delete(setup, &bucket, &key, found).await;
    lock::versions(&bucket, found).await;
    left(setup, &repository, found).await;
    Some(repository)
}

async fn list(repository: &Repository, found: &mut Checks) {
    match repository.count_and_size(&object_store::path::Path::from("probe")).await {
        Ok((0, _)) => {
            let text = "what was just written is not listed";
            let hint = Some("do not trust this store: rebuilding the catalog needs complete lists");
            found.add(Level::Bad, "bucket.list", text, hint);
        }
        Ok((count, _)) => found.good("bucket.list", format!("{count} probe object(s) listed")),
        Err(error) => found.bad("bucket.list", &error),
    }
}

/// Whether create-only is enforced: a second write under the same key must not go through.
async fn conditional(
    bucket: &Bucket,
    key: &object_store::path::Path,
    body: Bytes,
    found: &mut Checks,
) {
    let check = "bucket.conditional_put";
    let other = Bytes::from_static(b"another doctor was here\n");
    match bucket.put_once(key, other).await {
        Err(StoreError::Conflict { .. }) => match bucket.get(key, 100).await {
            Ok(bytes) if bytes == body => found.good(check, "a second write is refused"),
            _ => found.warn(check, "a refused write left other bytes", "do not trust this store"),
        },
        Ok(Put::Created | Put::Present) => found.warn(
            check,
            "the store ignores conditions: a second writer could replace a manifest",
            "give every host a prefix of its own, and its own credentials; signatures still show \
             every alteration",
        ),
        Err(error) => found.bad(check, &error.into()),
    }
}

/// Whether a delete was refused; S3 deletes in bulk: the request succeeds, and its answer says for
/// each object that access was denied.
fn is_denied(error: &StoreError) -> bool {
    let mut causes = std::iter::successors(Some(error as &dyn std::error::Error), |e| e.source());
    error.code() == "store_denied" || causes.any(|cause| cause.to_string().contains("AccessDenied"))
}

/// Files in a directory that are no objects.
async fn left(setup: &Setup, repository: &Repository, found: &mut Checks) {
    let check = "bucket.strays";
    let strays = strays(repository, setup.clock.now()).await.map_err(Into::into);
    if let Some([first, rest @ ..]) = found.take(check, strays).as_deref() {
        let text = format!("{first} ({} more)", rest.len());
        let hint = "`drctl catalog check` names them; each backup removes those that this account \
                    left more than a day ago; remove the others by hand";
        found.warn(check, text, hint);
    }
}

/// A writer that cannot delete cannot be made to delete.
async fn may_delete(
    setup: &Setup,
    bucket: &Bucket,
    key: &object_store::path::Path,
    found: &mut Checks,
) {
    let check = "bucket.no_delete";
    let is_directory =
        matches!(setup.config.repository.location, drctl_policies::Location::File { .. });
    match bucket.delete(key).await {
        Err(error) if is_denied(&error) => {
            found.good(check, format!("this host may not delete; {key} stays"));
        }
        Err(error) => found.bad(check, &error.into()),
        Ok(()) if is_directory => found.warn(
            check,
            "whoever can write into this directory can also delete from it",
            "a directory is no defence against an intruder on this host: keep a second repository \
             in object storage",
        ),
        Ok(()) => match bucket.versions() {
            Some(versions) if versions.enabled().await.unwrap_or(false) => {
                found.good(check, "a delete leaves the older version, which drctl still finds");
            }
            _ => found.warn(
                check,
                "this host's credentials may delete backups",
                "take the right to delete away from them, or switch versioning or Object Lock on",
            ),
        },
    }
}

async fn catalog(setup: &Setup, repository: &Repository, found: &mut Checks) {
    let path = setup.catalog_path();
    if !path.exists() {
        found.warn(
            "catalog",
            format!("there is none yet at {}", path.display()),
            "the first backup makes it; `drctl catalog rebuild` fills it from the bucket",
        );
        return;
    }
    let looked = async {
        let catalog = Catalog::open_read_only(&path).await?;
        catalog.integrity().await?;
        let owner = catalog.repository().await?;
        Ok::<_, anyhow::Error>((catalog.backups(None).await?.len(), owner))
    };
    if let Some((backups, owner)) = found.take("catalog", looked.await) {
        if owner.as_ref().is_some_and(|owner| *owner != repository.id) {
            let text = "it belongs to another repository";
            let hint = Some("use another paths.state_dir for this repository");
            found.add(Level::Bad, "catalog", text, hint);
        } else {
            match unwritable(&setup.config.paths.state_dir) {
                Some(why) => found.add(Level::Bad, "catalog", why, None),
                None => found.good("catalog", format!("intact, knows {backups} backup(s)")),
            }
        }
    }
}
