//! Everything that a backup and a restore need, tried one by one.

mod boxes;
mod copies;
mod lock;
mod log;
mod role;
mod secrets;
mod stanza;

use std::path::Path;

use anyhow::Result;
use bytes::Bytes;
use drctl_catalog::Catalog;
use drctl_engines::pg::{DatabaseReport, probe};
use drctl_model::SourceId;
use drctl_policies::{Engine, PgDump, Source};
use drctl_store::{Bucket, Put, StoreError, layout};

use crate::host::{Failure, Level, Setup};
use crate::repository::Repository;
use crate::repository::strays::strays;

/// One thing that was tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How good it is.
    pub level: Level,
    /// What was tried, stable: `bucket.put`.
    pub check: String,
    /// What was seen.
    pub text: String,
    /// What to do.
    pub hint: Option<String>,
}

/// Collects findings.
#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, level: Level, check: &str, text: impl Into<String>, hint: Option<&str>) {
        let hint = hint.map(str::to_owned);
        self.0.push(Finding { level, check: check.to_owned(), text: text.into(), hint });
    }

    fn good(&mut self, check: &str, text: impl Into<String>) {
        self.add(Level::Good, check, text, None);
    }

    fn warn(&mut self, check: &str, text: impl Into<String>, hint: &str) {
        self.add(Level::Warning, check, text, Some(hint));
    }

    fn bad(&mut self, check: &str, error: &anyhow::Error) {
        let failure = Failure::of(error);
        self.add(Level::Bad, check, failure.messages.join(": "), failure.hint.as_deref());
    }

    fn take<T>(&mut self, check: &str, found: Result<T>) -> Option<T> {
        found.inspect_err(|error| self.bad(check, error)).ok()
    }
}

/// Tries it all; nothing that it finds is an error of its own.
pub async fn doctor(
    setup: &Setup,
    only: Option<&SourceId>,
    identity: Option<&Path>,
) -> Vec<Finding> {
    let mut found = Findings::default();
    // Nothing is tried, and left behind, in the place of another account.
    let state = &setup.config.paths.state_dir;
    if state.exists()
        && let Err(error) = setup.private_directory(state)
    {
        found.bad("paths.state_dir", &error);
        return found.0;
    }
    keys(setup, identity, &mut found);
    secrets::open_secrets(setup, &mut found);
    let repository = bucket(setup, &mut found).await;
    if let Some(repository) = &repository {
        catalog(setup, repository, &mut found).await;
    }
    let copied = |source: &Source| !matches!(source.engine, Engine::PgDump(_));
    if setup.config.sources.values().any(copied) {
        boxes::look(&mut found).await;
    }
    for (id, source) in &setup.config.sources {
        if only.is_none_or(|only| only == id) {
            server(setup, repository.as_ref(), (id, source), &mut found).await;
        }
    }
    found.0
}

fn keys(setup: &Setup, identity: Option<&Path>, found: &mut Findings) {
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
            let text = "nobody here would believe what it signs";
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

async fn bucket(setup: &Setup, found: &mut Findings) -> Option<Repository> {
    found.take("bucket.open", setup.bucket())?;
    let repository = found.take("bucket.marker", setup.repository().await)?;
    found.take("bucket.marker", repository.may_write().await)?;
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

async fn list(repository: &Repository, found: &mut Findings) {
    match repository.count_and_size(&object_store::path::Path::from("probe")).await {
        Ok((0, _)) => {
            let text = "what was just written is not listed";
            let hint = Some("do not trust this store: rebuilding the catalog needs true lists");
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
    found: &mut Findings,
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
async fn left(setup: &Setup, repository: &Repository, found: &mut Findings) {
    let check = "bucket.strays";
    let strays = strays(repository, setup.clock.now()).await.map_err(Into::into);
    if let Some([first, rest @ ..]) = found.take(check, strays).as_deref() {
        let text = format!("{first} ({} more)", rest.len());
        let hint = "`drctl catalog check` names them; each backup removes what this account's own \
                    writers left a day ago, the others remove by hand";
        found.warn(check, text, hint);
    }
}

/// A writer that cannot delete cannot be made to delete.
async fn may_delete(
    setup: &Setup,
    bucket: &Bucket,
    key: &object_store::path::Path,
    found: &mut Findings,
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

async fn catalog(setup: &Setup, repository: &Repository, found: &mut Findings) {
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
            found.good("catalog", format!("intact, knows {backups} backup(s)"));
        }
    }
}

async fn server(
    setup: &Setup,
    repository: Option<&Repository>,
    (id, source): (&SourceId, &Source),
    found: &mut Findings,
) {
    let check = format!("source.{id}");
    let configured = source.engine.server();
    if let Some(cost) = configured.ssl_cost() {
        let text = format!("sslmode = \"{}\": {cost}", configured.sslmode.as_str());
        let hint = "set sslmode = \"verify-full\", with ssl_root_cert for an authority of your own";
        found.warn(&format!("{check}.sslmode"), text, hint);
    }
    log::refused(setup, id, found).await;
    let Some(server) = found.take(&check, setup.server(source)) else { return };
    let probed = probe(&server, "drctl/doctor").await.map_err(Into::into);
    let Some(report) = found.take(&check, probed) else { return };
    found.good(&check, format!("PostgreSQL {} at {}", report.version, server.target()));
    role::look(id, &source.engine, &report.role, found);
    if let Engine::BaseBackup(base) = &source.engine {
        copies::look(setup, (&server, repository), (id, base), found).await;
        log::look(&server, id, found).await;
        log::compare(&server, repository, id, found).await;
        return;
    }
    if let Engine::Pgbackrest(settings) = &source.engine {
        stanza::look(setup, &server, (id, settings), found).await;
        log::look(&server, id, found).await;
        return;
    }
    let tools = format!("{check}.tools");
    for (name, tool) in report.tools {
        if let Some(tool) = found.take(&tools, tool.map_err(Into::into)) {
            found.good(&tools, format!("{name} {} at {}", tool.version, tool.path.display()));
        }
    }
    let Engine::PgDump(pg) = &source.engine else { return };
    for database in report.databases.into_iter().filter(|database| wanted(pg, &database.name)) {
        let grants = format!("{check}.grants");
        left_out(&check, &database, found);
        if let Some(error) = database.error {
            found.bad(&grants, &error.into());
        } else if database.unreadable.is_empty() {
            let text = format!("all {} table(s) of {} can be read", database.tables, database.name);
            found.good(&grants, text);
        } else {
            let names = database.unreadable.iter().take(5);
            let names: Vec<String> = names.map(|t| format!("{}.{}", t.schema, t.table)).collect();
            let count = database.unreadable.len();
            let text = format!(
                "{count} table(s) of {} cannot be read: {}",
                database.name,
                names.join(", ")
            );
            let hint = format!("grant pg_read_all_data to {}", report.role.name);
            found.add(Level::Bad, &grants, text, Some(&hint));
        }
    }
}

/// What no dump holds: tables of extensions, and rows that the server is told to hide.
fn left_out(check: &str, database: &DatabaseReport, found: &mut Findings) {
    for member in database.members.iter().take(20) {
        let hint = match member.added {
            true => {
                "take it out again (ALTER EXTENSION … DROP TABLE …): no dump holds it till then"
            }
            false => "back the cluster up with engine = \"base_backup\" too, if its rows count",
        };
        found.warn(&format!("{check}.extensions"), member.text(&database.name), hint);
    }
    for name in &database.hiding {
        let text = format!("{name} is on in {}: damaged pages look empty or sound", database.name);
        let hint = "take it back where it is set (ALTER SYSTEM, DATABASE or ROLE … RESET), and \
                    restart the server";
        found.warn(&format!("{check}.damage"), text, hint);
    }
}

fn wanted(pg: &PgDump, database: &str) -> bool {
    match &pg.databases {
        Some(names) => names.iter().any(|name| name == database),
        None => !pg.exclude_databases.iter().any(|name| name == database),
    }
}
