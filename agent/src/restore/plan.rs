//! What a restore will do, and whether it can: looked at before anything is touched.

use std::collections::BTreeSet;
mod makes;
mod target;

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result};
use drctl_engines::pg::{PgServer, sayable};
use drctl_model::{
    BackupKind, Content, Facts, Manifest, Outside, Parent, Stream, StreamFacts, shown, total,
};
use drctl_store::{Identities, layout, open_facts, open_segment};
use futures_util::StreamExt as _;

pub use target::{Code, Kept};
use target::{look_at, take_kept};

use super::ChainPlan;
use super::combine::plan_chain;
use super::outside::told;
use super::room::{check_empty, check_room};
use crate::host::{AgentError, Limits, Meter};
use crate::repository::verify::outlet;
use crate::repository::{Proven, Repository};
use crate::transfer::download::unopened;
use crate::transfer::{Outlet, fetch_sealed, segments};

/// The name under which the target server sees us.
pub(crate) const APPLICATION: &str = "drctl/restore";

/// Where a backup is restored to.
#[derive(Clone)]
pub enum Destination {
    /// Files in a new or empty directory.
    Files(PathBuf),
    /// One stream, to this pipe.
    Pipe(Arc<File>),
    /// A cluster's files, extracted into a new or empty directory.
    Cluster(PathBuf),
    /// A server; with a name, one database under it beside what is there.
    Server {
        /// The server.
        server: Box<PgServer>,
        /// The new name.
        rename: Option<String>,
        /// The directory below which its tablespaces are made; nothing: where they were.
        tablespaces: Option<PathBuf>,
    },
}

/// What is asked for.
#[derive(Clone)]
pub struct RestoreRequest {
    /// The backup.
    pub backup: Proven,
    /// What opens it.
    pub identities: Identities,
    /// Only these databases; empty for all.
    pub databases: Vec<String>,
    /// Whether roles and tablespaces are restored, when all databases are.
    pub globals: bool,
    /// Where to.
    pub destination: Destination,
    /// Whether the destination holds a part of it already, from an attempt that broke off: then
    /// its emptiness and its room are for the caller to judge.
    pub begun: bool,
    /// Connections at once that load a database.
    pub jobs: u32,
    /// Whether an earlier attempt has extracted all of it: nothing is fetched.
    pub extracted: bool,
    /// Whether databases that are on the server already, with all their rows, are left as they are.
    pub missing: bool,
    /// The code of the backup that may run as a superuser of the target, by its digest.
    pub trusted: Option<String>,
    /// Whether objects get their owners back.
    pub owner: bool,
    /// Whether each database is dumped once more, and compared with what was restored.
    pub prove: bool,
    /// Where dumps are spooled when more than one connection loads.
    pub spool_dir: PathBuf,
    /// Where PostgreSQL's programs are, for a chain of backups, when they are not where they
    /// usually are.
    pub bin_dir: Option<PathBuf>,
}

/// One stream to restore.
#[derive(Debug, Clone)]
pub struct Item {
    /// Its segments.
    pub stream: Stream,
    /// What is in it.
    pub facts: StreamFacts,
    /// The database's or file's name afterwards.
    pub target: String,
}

/// What a restore will do: nothing is left to decide.
#[derive(Clone)]
pub struct RestorePlan {
    /// The streams in the order in which they are restored.
    pub items: Vec<Item>,
    /// Of an incremental backup: those that it is based on.
    pub chain: Option<ChainPlan>,
    /// Bytes to fetch.
    pub fetch_bytes: u64,
    /// Plain bytes to load or write.
    pub plain_bytes: u64,
    /// Room that is needed for files or spooled dumps, and the directory where.
    pub room: Option<(PathBuf, u64)>,
    /// What the target's server said, worth knowing before.
    pub notes: Vec<String>,
    /// What lay outside of what was copied, as far as the backup tells.
    pub outside: Option<Outside>,
    /// Databases that are on the server already and stay as they are.
    pub kept: Vec<Kept>,
    /// What would run as a superuser of the target, and has to be trusted.
    pub code: Option<Code>,
    /// Seconds to fetch and open everything, reckoned from one segment that was fetched and
    /// opened for it; nothing where there is none. What the server needs to load is not known.
    pub estimate: Option<f64>,
}

/// Plans a restore: opens the backup's facts, chooses the streams, looks at the target; with
/// `reckon` also how long it will take, for which one segment is fetched and opened.
///
/// # Errors
/// [`SealError`](drctl_store::SealError) for a key that does not open it; [`AgentError::NoBackup`] for
/// a database that is not in it; [`AgentError::Usage`] and [`AgentError::Target`] for a target that is
/// not fit; [`AgentError::Mismatch`] for facts that contradict the manifest;
/// [`StoreError`](drctl_store::StoreError).
pub async fn plan(
    repository: &Repository,
    request: &RestoreRequest,
    limits: Limits,
    reckon: bool,
) -> Result<RestorePlan> {
    let manifest = &request.backup.manifest;
    let facts = open_facts(manifest, &request.identities).context("open the backup's facts")?;
    let outside = facts.outside.clone();
    let mut items = choose(request, manifest, facts)?;
    // What is extracted needs neither the backups that it was made of nor the program for that.
    let chain = match request.extracted {
        true => None,
        false => plan_chain(repository, request).await?,
    };
    let (fetch_before, plain_before) = chain.as_ref().map_or((0, 0), ChainPlan::bytes);
    let fetch_bytes = fetch_before + total(items.iter().map(|item| item.stream.sealed_bytes));
    let plain_bytes = plain_before + total(items.iter().map(|item| item.stream.plain_bytes));
    let room = room_for(request, &items, (plain_bytes, chain.is_some()))?;
    let outlet = outlet(repository, &request.backup.manifest, limits, &Meter::default());
    let mut kept = Vec::new();
    let (mut notes, code) = match &request.destination {
        Destination::Files(directory) | Destination::Cluster(directory) => {
            if !request.begun {
                check_empty(directory)?;
            }
            (alone(manifest, chain.is_some() || request.extracted), None)
        }
        Destination::Pipe(_) if items.len() != 1 => {
            let text = format!(
                "standard output takes one stream, not {}: name one --database, or restore a base \
                 backup with --to-directory",
                items.len()
            );
            return Err(AgentError::Usage(text).into());
        }
        Destination::Pipe(_) => (Vec::new(), None),
        Destination::Server { server, rename, .. } => {
            let whole = rename.is_none() && request.databases.is_empty();
            if request.missing {
                kept = take_kept(server, &mut items, (&outlet, &request.identities)).await?;
            }
            let extent = (whole, request.missing, request.owner);
            look_at(server, (manifest, &items, &kept), extent).await?
        }
    };
    let estimate = match reckon && !request.extracted {
        true => {
            let before = chain.iter().flat_map(ChainPlan::items);
            let before = total(before.map(|item| item.stream.segments));
            estimate(&outlet, &items, before, &request.identities).await?
        }
        false => None,
    };
    notes.extend(told(outside.as_ref(), request));
    Ok(RestorePlan {
        items,
        chain,
        fetch_bytes,
        plain_bytes,
        room,
        notes,
        outside,
        kept,
        code,
        estimate,
    })
}

/// The room that is needed for files or spooled dumps, and the directory where; it is looked whether it is
/// there.
///
/// # Errors
/// As [`check_room`].
fn room_for(
    request: &RestoreRequest,
    items: &[Item],
    (plain_bytes, chained): (u64, bool),
) -> Result<Option<(PathBuf, u64)>> {
    let largest = items.iter().map(|item| item.stream.plain_bytes).max().unwrap_or(0);
    let room = match &request.destination {
        Destination::Files(directory) | Destination::Cluster(directory) => {
            // What a chain becomes is at most as large as all of it, and lies beside it at first.
            let times = if chained { 2 } else { 1 };
            Some((directory.clone(), plain_bytes.saturating_mul(times)))
        }
        Destination::Server { .. } if request.jobs > 1 => {
            Some((request.spool_dir.clone(), largest))
        }
        Destination::Server { .. } | Destination::Pipe(_) => None,
    };
    if let Some((directory, needed)) = room.as_ref().filter(|_| !request.begun) {
        let spooled = matches!(request.destination, Destination::Server { .. });
        check_room(directory, *needed, spooled)?;
    }
    Ok(room)
}

/// What is to be known of an incremental backup that is restored without those before it.
fn alone(manifest: &Manifest, with_chain: bool) -> Vec<String> {
    let parent = manifest.kind.parent().filter(|_| !with_chain);
    let note = |parent: &Parent| {
        format!(
            "an incremental backup: of no use without {} and what that one is based on; \
             --to-directory brings all of them and puts them together",
            parent.backup
        )
    };
    parent.map(note).into_iter().collect()
}

/// Fetches and opens one segment of the longest stream, and reckons from its time; `before` segments
/// of other backups are fetched too.
async fn estimate(
    outlet: &Outlet,
    items: &[Item],
    before: u64,
    identities: &Identities,
) -> Result<Option<f64>> {
    let Some(longest) = items.iter().max_by_key(|item| item.stream.segments) else {
        return Ok(None);
    };
    let Some(first) = segments(outlet, &longest.stream).next().await.transpose()? else {
        return Ok(None);
    };
    let began = Instant::now();
    let sealed = fetch_sealed(outlet, &longest.stream, &first).await?;
    let fetched = began.elapsed().as_secs_f64();
    let key = layout::segment(&outlet.source, &outlet.backup, &longest.stream.id, first.n);
    let identities = identities.clone();
    let open = move || open_segment(&first, &sealed, &identities).map(drop);
    let opened = tokio::task::spawn_blocking(open).await?;
    opened.map_err(|error| unopened(error.into(), key.as_ref()))?;
    let opened = began.elapsed().as_secs_f64() - fetched;
    let count = before + total(items.iter().map(|item| item.stream.segments));
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    let (count, fetches, opens) =
        (count as f64, outlet.limits.fetches as f64, outlet.limits.seals as f64);
    Ok(Some(count * (fetched / fetches).max(opened / opens)))
}

pub(crate) fn choose(
    request: &RestoreRequest,
    manifest: &Manifest,
    facts: Facts,
) -> Result<Vec<Item>> {
    if facts.streams.len() != manifest.streams.len()
        || facts.streams.iter().zip(&manifest.streams).any(|(facts, stream)| facts.id != stream.id)
    {
        let text = "the encrypted facts name other streams than the manifest";
        return Err(AgentError::Mismatch(text.to_owned()).into());
    }
    fits(&manifest.kind, &request.destination)?;
    let names: Vec<&str> = facts.streams.iter().filter_map(database_name).collect();
    if let Some(missing) = request.databases.iter().find(|name| !names.contains(&name.as_str())) {
        let names = shown(&names.join(", "), 500);
        let text = format!("no database `{missing}` is in it; there are: {names}");
        return Err(AgentError::NoBackup(text).into());
    }
    let rename = match &request.destination {
        Destination::Server { rename, .. } => rename.clone(),
        Destination::Files(_) | Destination::Pipe(_) | Destination::Cluster(_) => None,
    };
    if rename.is_some() && request.databases.len() != 1 {
        return Err(AgentError::Usage("--as needs exactly one --database".to_owned()).into());
    }
    let to_files = !matches!(request.destination, Destination::Server { .. });
    let wanted = |facts: &StreamFacts| match &facts.content {
        Content::Globals => request.databases.is_empty() && (request.globals || to_files),
        Content::Database(database) => {
            request.databases.is_empty() || request.databases.contains(&database.name)
        }
        Content::Tablespace(_) | Content::Listing | Content::Archive => {
            request.databases.is_empty()
        }
    };
    let streams = manifest.streams.iter().cloned().zip(facts.streams);
    let items = streams.filter(|(_, facts)| wanted(facts)).map(|(stream, facts)| {
        let target = match (&facts.content, &rename, to_files) {
            (_, _, true) => file_name(&facts),
            (Content::Database(_), Some(name), _) => name.clone(),
            (Content::Database(database), None, _) => sayable(&database.name),
            (Content::Globals, ..) => "roles and tablespaces".to_owned(),
            (Content::Tablespace(_) | Content::Listing | Content::Archive, ..) => file_name(&facts),
        };
        Item { stream, facts, target }
    });
    let items: Vec<Item> = items.collect();
    let targets: BTreeSet<&str> = items.iter().map(|item| item.target.as_str()).collect();
    if to_files && targets.len() < items.len() {
        let text = "two of its streams would be restored into one place: the facts that came with \
                    the backup name one database twice";
        return Err(AgentError::Mismatch(text.to_owned()).into());
    }
    Ok(items)
}

fn database_name(facts: &StreamFacts) -> Option<&str> {
    match &facts.content {
        Content::Database(database) => Some(&database.name),
        Content::Globals | Content::Tablespace(_) | Content::Listing | Content::Archive => None,
    }
}

/// Whether what the backup holds can be brought to where it is wanted.
fn fits(kind: &BackupKind, destination: &Destination) -> Result<()> {
    let text = match (kind, destination) {
        (BackupKind::Full(_) | BackupKind::Incremental(_), Destination::Server { .. }) => {
            "this backup is a base backup of a whole cluster: name a new directory with \
             --to-directory"
        }
        (BackupKind::Logical(_), Destination::Cluster(_)) => {
            "this backup holds dumps: restore them into a server (--to-host), beside the old \
             database (--as), or as files (--to-files)"
        }
        (BackupKind::Snapshot(_), Destination::Server { .. } | Destination::Cluster(_)) => {
            "this backup is an archive of its own engine: restore it as a file (--to-files)"
        }
        (BackupKind::External(_), _) => {
            "this backup is in the repository of pgBackRest: restore it to a point in time, into a \
             new directory (--to-directory with --to-end, --to-time …)"
        }
        _ => return Ok(()),
    };
    Err(AgentError::Usage(text.to_owned()).into())
}

/// The name of the file that a stream is restored into: the database's, where that is harmless, else
/// the stream's. No database has a stream's name for its own, so that each file has one of its own.
fn file_name(facts: &StreamFacts) -> String {
    match &facts.content {
        Content::Tablespace(_) => return format!("{}.tar", facts.id),
        Content::Listing => return "backup_manifest".to_owned(),
        Content::Archive => return "archive".to_owned(),
        Content::Globals | Content::Database(_) => {}
    }
    match database_name(facts) {
        None => "globals.sql".to_owned(),
        Some(name)
            if (1..=63).contains(&name.len())
                && !is_stream(name)
                // A command would take it for an option.
                && !name.starts_with('-')
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') =>
        {
            format!("{name}.dump")
        }
        Some(_) => format!("{}.dump", facts.id),
    }
}

/// Whether a name looks like that of a database's stream.
fn is_stream(name: &str) -> bool {
    let number = name.strip_prefix('d').filter(|number| !number.is_empty());
    number.is_some_and(|number| number.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use drctl_model::{DatabaseFacts, StreamId};

    use super::*;

    #[test]
    fn a_database_name_never_leaves_the_directory() {
        let facts = |name: &str| StreamFacts {
            id: StreamId::database(3),
            plain_xxh128: String::new(),
            content: Content::Database(Box::new(DatabaseFacts {
                name: name.into(),
                owner: String::new(),
                encoding: String::new(),
                collate: String::new(),
                ctype: String::new(),
                ..DatabaseFacts::default()
            })),
        };
        let cases = [
            ("shop", "shop.dump"),
            ("Shop_2", "Shop_2.dump"),
            ("../../etc/passwd", "d3.dump"),
            ("a b", "d3.dump"),
            ("größe", "d3.dump"),
            ("--help", "d3.dump"),
            ("-d", "d3.dump"),
            ("a-b", "a-b.dump"),
            ("..", "d3.dump"),
            (".", "d3.dump"),
            ("", "d3.dump"),
            ("a/b", "d3.dump"),
            ("a_b", "a_b.dump"),
            ("a\nb", "d3.dump"),
            // What another database's file may be named after its stream.
            ("d0", "d3.dump"),
            ("d3", "d3.dump"),
            ("d", "d.dump"),
            ("D0", "D0.dump"),
            ("d0x", "d0x.dump"),
            ("globals", "globals.dump"),
        ];
        for (name, file) in cases {
            assert_eq!(file_name(&facts(name)), file);
        }
    }
}
