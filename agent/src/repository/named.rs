//! What signed documents name. It is collected when one is about to be signed. Where the bucket
//! does not hold it any more, it is missed, even by a host that has never seen it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::Result;
use drctl_catalog::{Catalog, Loss, NamedBy, Why};
use drctl_model::{
    BackupId, BackupSummary, Digest, MOST_NAMED, Manifest, Named, SourceId, to_name,
};
use drctl_store::{MAX_ENVELOPE_BYTES, digest, layout};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::drills::named_by_drills;
use super::faults::is_bad_manifest;
use super::removed::OnPurpose;
use super::{Inventory, MANIFESTS_AT_ONCE, Proven, Repository};

/// The newest manifests, which are read first: one of them tells of all others.
const FIRST: usize = 2;

/// Names, each with what names it, in words.
pub(crate) type Names = Vec<(Named, String)>;

/// The newest manifests of a source, for a document that is about to be signed: those that the bucket
/// holds, and those that these name; nothing that an operator has forgotten. What a catalog knows is not
/// signed: it may be damaged.
pub(crate) async fn before(
    repository: &Repository,
    source: &SourceId,
    own: Option<&BackupId>,
    catalog: Option<&Catalog>,
) -> Vec<Named> {
    let forgotten: BTreeSet<BackupId> = match catalog {
        Some(catalog) => forgotten(&catalog.named(source).await.unwrap_or_default()),
        None => BTreeSet::new(),
    };
    match in_the_bucket(repository, source, own).await {
        Ok(found) => {
            to_name(found.into_iter().filter(|named| !forgotten.contains(&named.backup)), own)
        }
        // What is stored is stored, and a later backup names more.
        Err(error) => {
            tracing::warn!("what was stored before is not named: {error:#}");
            Vec::new()
        }
    }
}

/// The newest manifests that the bucket holds, and what they name. Usually the newest one tells of all
/// others, so that these are not read.
async fn in_the_bucket(
    repository: &Repository,
    source: &SourceId,
    own: Option<&BackupId>,
) -> Result<Vec<Named>> {
    let attempts = repository.attempts(source).await?.into_iter();
    let ids: Vec<BackupId> = attempts.filter(|id| own != Some(id)).take(MOST_NAMED).collect();
    let mut found: BTreeMap<BackupId, Digest> = BTreeMap::new();
    let (newest, rest) = ids.split_at(ids.len().min(FIRST));
    for some in [newest, rest] {
        let unknown: Vec<BackupId> =
            some.iter().filter(|id| !found.contains_key(id)).cloned().collect();
        let read = stream::iter(unknown).map(|id| async move {
            match repository.manifest(source, &id).await {
                Err(error) if is_bad_manifest(&error) => Ok(None),
                read => read,
            }
        });
        let read: Vec<Option<Proven>> = read.buffered(MANIFESTS_AT_ONCE).try_collect().await?;
        for proven in read.into_iter().flatten() {
            // What is there is named as it is, whatever was named before.
            found.insert(proven.manifest.backup.clone(), proven.sha256);
            for Named { backup, manifest_sha256 } in proven.manifest.before {
                found.entry(backup).or_insert(manifest_sha256);
            }
        }
    }
    let named = |(backup, manifest_sha256)| Named { backup, manifest_sha256 };
    Ok(found.into_iter().map(named).collect())
}

fn forgotten(noted: &[NamedBy]) -> BTreeSet<BackupId> {
    let forgotten = noted.iter().filter(|one| one.forgotten);
    forgotten.map(|one| one.named.backup.clone()).collect()
}

fn name(backup: &BackupSummary) -> Named {
    Named { backup: backup.backup.clone(), manifest_sha256: backup.manifest_sha256 }
}

/// What a manifest names.
pub(crate) fn by_manifest(manifest: &Manifest) -> Names {
    let by = format!("the backup {}", manifest.backup);
    manifest.before.iter().map(|named| (named.clone(), by.clone())).collect()
}

/// Adds what a manifest names that is not among the names yet: nearly all of it was named by the one behind it.
pub(crate) fn name_once(names: &mut HashMap<Named, String>, manifest: &Manifest) {
    let by = || format!("the backup {}", manifest.backup);
    for named in &manifest.before {
        if !names.contains_key(named) {
            let _ = names.insert(named.clone(), by());
        }
    }
}

/// Tells a catalog what the manifests of a bucket name, and which of them only a newer drctl reads; one
/// that cannot be told learns it later.
pub(crate) async fn note(catalog: &Catalog, found: &Inventory) {
    let noted = catalog.set_newer(found.newer.clone()).await;
    let _ = noted.inspect_err(|error| tracing::debug!("newer backups are not noted: {error}"));
    for (source, names) in &found.named {
        keep(catalog, source, names.clone()).await;
    }
}

/// The same of what some of them name.
pub(crate) async fn keep(catalog: &Catalog, source: &SourceId, names: Names) {
    let noted = catalog.note_named(source, names).await;
    let _ = noted.inspect_err(|error| tracing::debug!("names are not noted: {error}"));
}

/// What of the manifests that signed documents of a source name is not in the bucket as it was named,
/// by the manifests' keys; nothing of what an operator has forgotten. Those that are among `there`,
/// which the bucket holds, are not asked for.
///
/// # Errors
/// The store's, the catalog's.
pub(crate) async fn missed(
    repository: &Repository,
    catalog: Option<&Catalog>,
    source: &SourceId,
    names: Names,
    there: &[BackupSummary],
) -> Result<BTreeMap<String, Why>> {
    missed_after(repository, catalog, source, (names, None), there).await
}

/// The same of those alone that are newer than one.
///
/// # Errors
/// As [`missed`].
pub(crate) async fn missed_after(
    repository: &Repository,
    catalog: Option<&Catalog>,
    source: &SourceId,
    (mut names, after): (Names, Option<&BackupId>),
    there: &[BackupSummary],
) -> Result<BTreeMap<String, Why>> {
    names.extend(named_by_drills(repository, source).await?);
    let noted: Vec<NamedBy> = match catalog {
        Some(catalog) => catalog.named(source).await?,
        None => Vec::new(),
    };
    let forgotten = forgotten(&noted);
    names.extend(noted.into_iter().map(|one| (one.named, one.by)));
    let there: BTreeSet<Named> = there.iter().map(name).collect();
    let is_open = |(named, _): &(Named, String)| {
        let asked = after.is_none_or(|after| named.backup > *after);
        asked && !there.contains(named) && !forgotten.contains(&named.backup)
    };
    let open: BTreeMap<Named, String> = names.into_iter().filter(is_open).collect();
    let on_purpose = OnPurpose::new(repository, source);
    let look = stream::iter(open).map(|(named, by)| {
        let on_purpose = &on_purpose;
        async move {
            let why = lacks((repository, source), &named, on_purpose).await?;
            let key = layout::manifest(source, &named.backup).to_string();
            let told = |Why { loss, text }| Why { loss, text: format!("{by} names it: {text}") };
            Ok::<_, anyhow::Error>(why.map(|why| (key, told(why))))
        }
    });
    let found: Vec<_> = look.buffered(MANIFESTS_AT_ONCE).try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}

/// Why a manifest is not what was named; nothing where it is, also where it is not believed here.
async fn lacks(
    (repository, source): (&Repository, &SourceId),
    named: &Named,
    on_purpose: &OnPurpose<'_>,
) -> Result<Option<Why>> {
    match repository.manifest(source, &named.backup).await {
        Ok(Some(found)) if found.sha256 == named.manifest_sha256 => Ok(None),
        Ok(Some(_)) => {
            let text = "another manifest is in its place".to_owned();
            Ok(Some(Why { loss: Loss::Replaced, text }))
        }
        Ok(None) => {
            let of = (&named.backup, named.manifest_sha256);
            let removed = on_purpose.is_removed(of).await?;
            Ok((!removed).then(|| "it is not in the bucket".to_owned().into()))
        }
        Err(error) if is_bad_manifest(&error) => {
            let key = layout::manifest(source, &named.backup);
            let bytes = repository.bucket.get(&key, MAX_ENVELOPE_BYTES as u64).await;
            let same = bytes.is_ok_and(|bytes| digest(&bytes) == named.manifest_sha256);
            let other = "another object is in its place, which does not count there";
            Ok(if same { None } else { Some(other.to_owned().into()) })
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use drctl_model::{BackupKind, Dumped, Engine, RepositoryId};
    use jiff::Timestamp;

    use super::*;

    fn id(n: u64) -> BackupId {
        BackupId::new(Timestamp::UNIX_EPOCH, n)
    }

    fn naming(n: u64, before: impl IntoIterator<Item = u64>) -> Manifest {
        let kind = BackupKind::Logical(Dumped::default());
        let named = |n| Named { backup: id(n), manifest_sha256: Digest([7; 32]) };
        Manifest {
            header: Manifest::header(Engine::PgDump, &kind),
            repository: RepositoryId::new(7),
            source: "shop".parse().unwrap(),
            backup: id(n),
            host: "db1".to_owned(),
            engine: Engine::PgDump,
            kind,
            started: Timestamp::UNIX_EPOCH,
            finished: Timestamp::UNIX_EPOCH,
            tools: BTreeMap::new(),
            recipients: Vec::new(),
            children: Vec::new(),
            suspect: Vec::new(),
            before: before.into_iter().map(named).collect(),
            streams: Vec::new(),
            sealed: String::new(),
        }
    }

    #[test]
    fn what_many_manifests_name_is_kept_once_by_the_first_that_does() {
        let mut names = HashMap::new();
        for manifest in [naming(9, 1..9), naming(8, 0..8), naming(7, 0..7)] {
            name_once(&mut names, &manifest);
        }
        let by = |n| {
            let named = Named { backup: id(n), manifest_sha256: Digest([7; 32]) };
            names.get(&named).map(String::as_str)
        };
        assert_eq!(names.len(), 9);
        assert_eq!((by(8), by(1)), (by(7), by(2)));
        assert_eq!(by(0), Some(&*format!("the backup {}", id(8))));
        assert_eq!(by(1), Some(&*format!("the backup {}", id(9))));
    }
}
