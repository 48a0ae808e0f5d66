//! A backup's way back: planned, checked, loaded, counted.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result};
use drctl_engines::pg::{
    DatabaseTarget, GlobalsTarget, PgServer, RestoreDatabase, RestoreOptions, RowDifference,
    compare_rows, count_rows, major_of, preflight,
};
use drctl_engines::{RestoreTarget, ToolFeed};
use drctl_model::{Content, DatabaseFacts, Facts, Manifest, Stream, StreamFacts};
use drctl_store::{Identities, layout, open_facts, open_segment};
use futures_util::StreamExt as _;

use crate::fetch::{Outlet, fetch_sealed, fetch_stream, segments};
use crate::problem::Problem;
use crate::sink::Sink;
use crate::{Limits, Meter, Proven, Repository, Stop};

/// The name under which the target server sees us.
const APPLICATION: &str = "drctl/restore";

/// Where a backup is restored to.
#[derive(Clone)]
pub enum Destination {
    /// Files in a new or empty directory.
    Files(PathBuf),
    /// One stream, to this pipe.
    Pipe(Arc<File>),
    /// A server; with a name, one database under it beside what is there.
    Server {
        /// The server.
        server: Box<PgServer>,
        /// The new name.
        rename: Option<String>,
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
    /// Connections at once that load a database.
    pub jobs: u32,
    /// Whether objects get their owners back.
    pub owner: bool,
    /// Where dumps are spooled when more than one connection loads.
    pub spool_dir: PathBuf,
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
#[derive(Debug, Clone)]
pub struct RestorePlan {
    /// The streams in the order in which they are restored.
    pub items: Vec<Item>,
    /// Bytes to fetch.
    pub fetch_bytes: u64,
    /// Plain bytes to load or write.
    pub plain_bytes: u64,
    /// Room that is needed for files or spooled dumps, and the directory where.
    pub room: Option<(PathBuf, u64)>,
    /// What the target's server said, worth knowing before.
    pub notes: Vec<String>,
    /// Seconds to fetch and open everything, reckoned from one segment that was fetched and
    /// opened for it; nothing where there is none. What the server needs to load is not known.
    pub estimate: Option<f64>,
}

/// One stream that was restored and proven equal.
#[derive(Debug, Clone)]
pub struct Restored {
    /// Where it is now.
    pub target: String,
    /// What it is.
    pub content: Content,
    /// Plain bytes of the dump.
    pub plain_bytes: u64,
    /// Tables and rows that were counted afterwards, where it went into a server.
    pub counted: Option<(u64, u64)>,
    /// Seconds it took, the counting included.
    pub seconds: f64,
    /// What the operator should know of it.
    pub notes: Vec<String>,
}

/// Plans a restore: opens the backup's facts, chooses the streams, looks at the target.
///
/// # Errors
/// A key that does not open it, a database that is not in it, a target that is not fit.
pub async fn plan(
    repository: &Repository,
    request: &RestoreRequest,
    limits: Limits,
) -> Result<RestorePlan> {
    let manifest = &request.backup.manifest;
    let facts = open_facts(manifest, &request.identities).context("open the backup's facts")?;
    let items = choose(request, manifest, facts)?;
    let total = |of: fn(&Stream) -> u64| items.iter().map(|item| of(&item.stream)).sum::<u64>();
    let (fetch_bytes, plain_bytes) = (total(|s| s.sealed_bytes), total(|s| s.plain_bytes));
    let largest = items.iter().map(|item| item.stream.plain_bytes).max().unwrap_or(0);
    let room = match &request.destination {
        Destination::Files(directory) => Some((directory.clone(), plain_bytes)),
        Destination::Server { .. } if request.jobs > 1 => {
            Some((request.spool_dir.clone(), largest))
        }
        Destination::Server { .. } | Destination::Pipe(_) => None,
    };
    if let Some((directory, needed)) = &room {
        check_room(directory, *needed)?;
    }
    let notes = match &request.destination {
        Destination::Files(directory) => {
            check_empty(directory)?;
            Vec::new()
        }
        Destination::Pipe(_) if items.len() != 1 => {
            let text = format!(
                "standard output takes one stream, not {}: name one --database",
                items.len()
            );
            return Err(Problem::Usage(text).into());
        }
        Destination::Pipe(_) => Vec::new(),
        Destination::Server { server, rename } => {
            let whole = rename.is_none() && request.databases.is_empty();
            look_at(server, manifest, &items, whole).await?
        }
    };
    let outlet = outlet(repository, request, limits, &Meter::default());
    let estimate = estimate(&outlet, &items, &request.identities).await?;
    Ok(RestorePlan { items, fetch_bytes, plain_bytes, room, notes, estimate })
}

fn outlet(
    repository: &Repository,
    request: &RestoreRequest,
    limits: Limits,
    meter: &Meter,
) -> Outlet {
    let manifest = &request.backup.manifest;
    Outlet {
        bucket: repository.bucket.clone(),
        source: manifest.source.clone(),
        backup: manifest.backup.clone(),
        limits,
        meter: meter.clone(),
    }
}

/// Fetches and opens one segment of the longest stream, and reckons from its time.
async fn estimate(outlet: &Outlet, items: &[Item], identities: &Identities) -> Result<Option<f64>> {
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
    opened.context(Problem::Segment { key: key.to_string() })?;
    let opened = began.elapsed().as_secs_f64() - fetched;
    let count: u64 = items.iter().map(|item| item.stream.segments).sum();
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    let (count, fetches, opens) =
        (count as f64, outlet.limits.fetches as f64, outlet.limits.seals as f64);
    Ok(Some(count * (fetched / fetches).max(opened / opens)))
}

fn choose(request: &RestoreRequest, manifest: &Manifest, facts: Facts) -> Result<Vec<Item>> {
    if facts.streams.len() != manifest.streams.len()
        || facts.streams.iter().zip(&manifest.streams).any(|(facts, stream)| facts.id != stream.id)
    {
        let text = "the sealed facts speak of other streams than the manifest";
        return Err(Problem::Mismatch(text.to_owned()).into());
    }
    let names: Vec<&str> = facts.streams.iter().filter_map(database_name).collect();
    if let Some(missing) = request.databases.iter().find(|name| !names.contains(&name.as_str())) {
        let text = format!("no database `{missing}` is in it; there are: {}", names.join(", "));
        return Err(Problem::NoBackup(text).into());
    }
    let rename = match &request.destination {
        Destination::Server { rename, .. } => rename.clone(),
        Destination::Files(_) | Destination::Pipe(_) => None,
    };
    if rename.is_some() && request.databases.len() != 1 {
        return Err(Problem::Usage("--as needs exactly one --database".to_owned()).into());
    }
    let to_files = !matches!(request.destination, Destination::Server { .. });
    let wanted = |facts: &StreamFacts| match &facts.content {
        Content::Globals => request.databases.is_empty() && (request.globals || to_files),
        Content::Database(database) => {
            request.databases.is_empty() || request.databases.contains(&database.name)
        }
    };
    let streams = manifest.streams.iter().cloned().zip(facts.streams);
    let items = streams.filter(|(_, facts)| wanted(facts)).map(|(stream, facts)| {
        let target = match (&facts.content, &rename, to_files) {
            (_, _, true) => file_name(&facts),
            (Content::Database(_), Some(name), _) => name.clone(),
            (Content::Database(database), None, _) => database.name.clone(),
            (Content::Globals, ..) => "roles and tablespaces".to_owned(),
        };
        Item { stream, facts, target }
    });
    Ok(items.collect())
}

fn database_name(facts: &StreamFacts) -> Option<&str> {
    match &facts.content {
        Content::Database(database) => Some(&database.name),
        Content::Globals => None,
    }
}

/// The name of the file that a stream is restored into: the database's, where that is harmless.
fn file_name(facts: &StreamFacts) -> String {
    match database_name(facts) {
        None => "globals.sql".to_owned(),
        Some(name)
            if name.len() <= 63
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') =>
        {
            format!("{name}.dump")
        }
        Some(_) => format!("{}.dump", facts.id),
    }
}

fn check_empty(directory: &Path) -> Result<()> {
    let mut entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.with_context(|| format!("look into {}", directory.display()))?,
    };
    if entries.next().is_some() {
        let text = format!("{} is not empty: name a new directory", directory.display());
        return Err(Problem::Target(text).into());
    }
    Ok(())
}

fn check_room(directory: &Path, needed: u64) -> Result<()> {
    let existing = directory.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let found = rustix::fs::statvfs(existing)
        .with_context(|| format!("ask for the room in {}", existing.display()))?;
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    if free < needed {
        let text = format!(
            "{} has room for {}, and {} are needed: choose another place, or load with --jobs 1",
            existing.display(),
            crate::cli::bytes(free),
            crate::cli::bytes(needed)
        );
        return Err(Problem::Target(text).into());
    }
    Ok(())
}

async fn look_at(
    server: &PgServer,
    manifest: &Manifest,
    items: &[Item],
    whole: bool,
) -> Result<Vec<String>> {
    let wanted: Vec<RestoreDatabase<'_>> = items
        .iter()
        .filter_map(|item| match &item.facts.content {
            Content::Database(facts) => {
                Some(RestoreDatabase { facts, target_name: item.target.clone() })
            }
            Content::Globals => None,
        })
        .collect();
    let dumped = manifest.tools.get("server").and_then(|version| major_of(version));
    let found = preflight(server, dumped, &wanted, whole, APPLICATION).await;
    Ok(found.context("look at the target server")?.notes)
}

/// Restores what was planned, stream by stream, and proves each equal before the next begins.
///
/// # Errors
/// What failed, with what it means for the target. Streams that were proven before stay.
pub async fn restore(
    repository: &Repository,
    request: &RestoreRequest,
    plan: &RestorePlan,
    limits: Limits,
    meter: &Meter,
    stop: &Stop,
) -> Result<Vec<Restored>> {
    let outlet = outlet(repository, request, limits, meter);
    meter.expect(plan.plain_bytes);
    let mut done = Vec::new();
    for item in &plan.items {
        let began = Instant::now();
        meter.label(item.target.clone());
        let mut notes = Vec::new();
        let counted = match (&request.destination, &item.facts.content) {
            (Destination::Files(directory), _) => tokio::select! {
                done = into_file(&outlet, request, item, directory) => done.map(|()| None),
                () = stop.requested() => Err(Problem::Interrupted.into()),
            },
            (Destination::Pipe(pipe), _) => {
                into_pipe(&outlet, request, item, pipe).await.map(|()| None)
            }
            (Destination::Server { server, .. }, Content::Globals) => {
                let target = GlobalsTarget::new((**server).clone(), APPLICATION.to_owned());
                let done = into_tool(&outlet, request, item, &target).await;
                notes = target.notes();
                done.map(|()| None)
            }
            (Destination::Server { server, .. }, Content::Database(facts)) => {
                into_database(&outlet, request, item, server, facts, stop).await.map(Some)
            }
        };
        let counted = counted.with_context(|| format!("restore {}", item.target))?;
        done.push(Restored {
            target: item.target.clone(),
            content: item.facts.content.clone(),
            plain_bytes: item.stream.plain_bytes,
            counted,
            seconds: began.elapsed().as_secs_f64(),
            notes,
        });
    }
    Ok(done)
}

/// Into a file that has its name only when it is whole and proven.
async fn into_file(
    outlet: &Outlet,
    request: &RestoreRequest,
    item: &Item,
    directory: &Path,
) -> Result<()> {
    std::fs::create_dir_all(directory).context("make the directory")?;
    let (part, path) =
        (directory.join(format!("{}.part", item.target)), directory.join(&item.target));
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part);
    let mut sink = Sink::file(file.with_context(|| format!("write {}", part.display()))?);
    let digest = fetch_stream(outlet, &item.stream, &request.identities, &mut sink).await?;
    check_digest(item, &digest)?;
    sink.finish().await?;
    std::fs::rename(&part, &path).with_context(|| format!("rename {}", part.display()))?;
    File::open(directory)?.sync_all().context("sync the directory")?;
    Ok(())
}

/// To a reader that sees every authenticated segment at once, and the end only when all was right:
/// it must look at our exit code.
async fn into_pipe(
    outlet: &Outlet,
    request: &RestoreRequest,
    item: &Item,
    pipe: &Arc<File>,
) -> Result<()> {
    let mut sink = Sink::pipe(Arc::clone(pipe));
    let digest = fetch_stream(outlet, &item.stream, &request.identities, &mut sink).await?;
    check_digest(item, &digest)?;
    sink.finish().await
}

async fn into_database(
    outlet: &Outlet,
    request: &RestoreRequest,
    item: &Item,
    server: &PgServer,
    facts: &DatabaseFacts,
    stop: &Stop,
) -> Result<(u64, u64)> {
    let options = RestoreOptions {
        jobs: request.jobs,
        spool_dir: request.spool_dir.clone(),
        owner: request.owner,
    };
    let name = APPLICATION.to_owned();
    let target =
        DatabaseTarget::new(server.clone(), facts.clone(), item.target.clone(), options, name);
    let loaded = tokio::select! {
        loaded = into_tool(outlet, request, item, &target) => loaded,
        () = stop.requested() => Err(Problem::Interrupted.into()),
    };
    if let Err(error) = loaded {
        return Err(match target.discard().await {
            Ok(true) => error.context("the database that this restore had made was dropped again"),
            Ok(false) => error,
            Err(left) => {
                error.context(format!("{} may be left half restored: {left}", item.target))
            }
        });
    }
    outlet.meter.label(format!("counting {}", item.target));
    let found =
        count_rows(server, &item.target, APPLICATION).await.context("count the restored rows")?;
    let differences = compare_rows(&facts.tables, &found);
    if !differences.is_empty() {
        return Err(Problem::Mismatch(describe(&item.target, &differences)).into());
    }
    Ok((found.len() as u64, found.iter().map(|table| table.rows).sum()))
}

fn describe(database: &str, differences: &[RowDifference]) -> String {
    let shown: Vec<String> = differences.iter().take(10).map(ToString::to_string).collect();
    let more = differences.len().saturating_sub(shown.len());
    let rest = if more > 0 { format!("; and {more} more") } else { String::new() };
    format!(
        "{database} was loaded, but {} table(s) have other rows than were dumped: {}{rest}",
        differences.len(),
        shown.join("; ")
    )
}

async fn into_tool(
    outlet: &Outlet,
    request: &RestoreRequest,
    item: &Item,
    target: &dyn RestoreTarget,
) -> Result<()> {
    let ToolFeed { input, outcome } = target.start().await?;
    let mut sink = Sink::tool(input);
    let fed = match fetch_stream(outlet, &item.stream, &request.identities, &mut sink).await {
        Ok(digest) => check_digest(item, &digest),
        Err(error) => Err(error),
    };
    match fed {
        Ok(()) => match sink.finish().await {
            Ok(()) => Ok(outcome.await?),
            Err(error) => Err(outcome.await.err().map_or(error, Into::into)),
        },
        // The tool went away first: it knows why.
        Err(error) if is_broken_pipe(&error) => Err(outcome.await.err().map_or(error, Into::into)),
        // What came from the bucket is no good: the tool must not see a clean end.
        Err(error) => {
            drop(outcome);
            Err(error)
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let io = cause.downcast_ref::<std::io::Error>();
        io.is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
    })
}

fn check_digest(item: &Item, digest: &str) -> Result<()> {
    if digest == item.facts.plain_xxh128 {
        return Ok(());
    }
    let text = format!("the plain bytes of {} are not those that were dumped", item.target);
    Err(Problem::Mismatch(text).into())
}

#[cfg(test)]
mod tests {
    use drctl_model::StreamId;

    use super::*;

    #[test]
    fn a_database_name_never_leaves_the_directory() {
        let facts = |name: &str| StreamFacts {
            id: StreamId::database(3),
            plain_xxh128: String::new(),
            content: Content::Database(DatabaseFacts {
                name: name.into(),
                owner: String::new(),
                encoding: String::new(),
                collate: String::new(),
                ctype: String::new(),
                bytes: 0,
                tables: vec![],
            }),
        };
        let cases = [
            ("shop", "shop.dump"),
            ("Shop_2", "Shop_2.dump"),
            ("../../etc/passwd", "d3.dump"),
            ("a b", "d3.dump"),
            ("größe", "d3.dump"),
            ("..", "d3.dump"),
        ];
        for (name, file) in cases {
            assert_eq!(file_name(&facts(name)), file);
        }
    }
}
