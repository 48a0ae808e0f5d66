use std::fmt::Write as _;

use anyhow::Result;
use drctl_engines::pg::wal::{ChangeKind, Relation, RelationChange};
use drctl_model::{SourceId, Timeline, micros, shown};
use drctl_policies::recovery::Want;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::args::WhenArgs;
use super::progress::Progress;
use super::screen::{NAME_SHOWN, Screen, count, line};
use crate::engine::pg::FoundChanges;
use crate::engine::pg::names::Names;
use crate::engine::{LogArchives, Pieces, Search};
use crate::host::figures::number;
use crate::host::{AgentError, Exit, Meter, Setup};
use crate::log::LogStore;
use crate::restore::cluster::time_of;
use crate::restore::known::known;

/// How many files of one transaction are named to a person.
const NAMED: usize = 8;

/// The tablespace `pg_default`, which `pg_filenode_relation` knows as 0.
const DEFAULT_TABLESPACE: u32 = 1663;

/// `drctl when`.
pub(super) async fn when(screen: Screen, setup: &Setup, args: &WhenArgs) -> Result<Exit> {
    let id = super::source_id(&args.source)?;
    let (from, until) = window(args, setup.clock.now())?;
    let repository = setup.repository().await?;
    let cache = setup.log_cache(&repository).await;
    let want = Want::Time(micros(from));
    let known = known(setup, &repository, &id, cache.as_ref(), (want, None)).await?;
    let Some((newest, at)) = known.bases.last() else {
        return Err(AgentError::NoBackup("there is no base backup".to_owned()).into());
    };
    let identities = setup.identities(args.identity.as_deref())?;
    // What pgBackRest keeps needs none; drctl's own log beside it, and names, do.
    if identities.is_none() && known.stanza.is_none() {
        return Err(AgentError::NoIdentity(newest.clone()).into());
    }
    let (log_store, meter) = (LogStore::reader(&repository, &id), Meter::default());
    meter.label("reading the WAL");
    let progress = Progress::show(screen, &meter);
    let (cache, opens) = (cache.as_ref(), identities.as_ref());
    let own = Pieces { log_store, cache, identities: opens };
    let archives = LogArchives::of(setup, known.stanza.as_ref(), own)?;
    let (system_id, size) = (known.system_id, at.segment_size);
    let looking = async {
        let (times, bases, known, meter) = ((from, until), &known.bases, &known.archive, &meter);
        let search = Search { system_id, size, known, times, least: args.rows, meter };
        let mut found = FoundChanges::default();
        for archive in archives.all() {
            found.join(archive.changes(&search).await?);
        }
        let mut names = Names::default();
        if let Some(identities) = opens {
            let done = found.changes.iter().map(|(_, change)| change);
            names = Names::of(&repository, &id, bases, identities, done).await?;
        }
        Ok::<_, anyhow::Error>((found, names))
    };
    let looked = looking.await;
    drop(progress);
    let (found, names) = looked?;
    let object = json!({
        "source": id, "from": from, "until": until, "segments": found.segments,
        "found": found.changes.iter().map(|one| entry(one, &names)).collect::<Vec<_>>(), "unread": found.unread,
    });
    screen.answer("drctl.when/1", object, || describe(&id, (from, until), &found, &names));
    Ok(if found.unread.is_empty() { Exit::Success } else { Exit::Degraded })
}

/// From when until when it is looked: around a time, or between two; the last day where nothing is said.
fn window(args: &WhenArgs, now: Timestamp) -> Result<(Timestamp, Timestamp)> {
    let long = |text: &str| {
        let span = text.parse::<SignedDuration>().ok().filter(|span| span.is_positive());
        let wrong = || AgentError::Usage(format!("`{text}` is no span of time, such as 1h or 30m"));
        span.ok_or_else(wrong)
    };
    let moved = |at: Timestamp, by: SignedDuration| {
        at.checked_add(by).unwrap_or(if by.is_negative() { Timestamp::MIN } else { Timestamp::MAX })
    };
    if let Some(around) = &args.around {
        let (at, span) = (time_of(around)?, long(&args.window)?);
        return Ok((moved(at, -span), moved(at, span)));
    }
    let until = args.to.as_deref().map(time_of).transpose()?.unwrap_or(now);
    let day = SignedDuration::from_hours(-24);
    let from = args.from.as_deref().map(time_of).transpose()?;
    let from = from.unwrap_or_else(|| moved(until, day));
    if from >= until {
        let text = format!("the beginning, {from}, is not before the end, {until}");
        return Err(AgentError::Usage(text).into());
    }
    Ok((from, until))
}

fn word(kind: ChangeKind) -> &'static str {
    match kind {
        ChangeKind::Dropped => "dropped",
        ChangeKind::Truncated => "truncated",
        ChangeKind::Deleted => "deleted",
        ChangeKind::Updated => "updated",
        ChangeKind::DroppedDatabase => "dropped_database",
    }
}

fn entry((timeline, change): &(Timeline, RelationChange), names: &Names) -> serde_json::Value {
    let relation = |(relation, rows): &(Relation, u64)| {
        let counted = matches!(change.kind, ChangeKind::Deleted | ChangeKind::Updated);
        json!({
            "tablespace": relation.tablespace, "database": relation.database,
            "file": relation.file, "rows": counted.then_some(rows),
            "name": names.table(change.at, *relation),
            "database_name": names.database(change.at, relation.database),
        })
    };
    json!({
        "what": word(change.kind), "time": change.time, "xid": change.xid, "timeline": timeline,
        "lsn": change.at, "relations": change.relations.iter().map(relation).collect::<Vec<_>>(),
    })
}

/// What was done, in words.
fn told(change: &RelationChange, names: &Names) -> String {
    // Those with a name first: the others are indexes mostly.
    let mut relations: Vec<&(Relation, u64)> = change.relations.iter().collect();
    relations.sort_by_key(|(relation, _)| names.table(change.at, *relation).is_none());
    let files = relations.iter().take(NAMED).map(|(relation, rows)| {
        let counted = matches!(change.kind, ChangeKind::Deleted | ChangeKind::Updated);
        let rows = if counted { format!(" ({})", count(*rows, "row")) } else { String::new() };
        match names.table(change.at, *relation) {
            Some(name) => format!("{}{rows}", shown(name, NAME_SHOWN)),
            None => format!("{}{rows}", relation.file),
        }
    });
    let mut files = files.collect::<Vec<_>>().join(", ");
    if change.relations.len() > NAMED {
        let more = number((change.relations.len() - NAMED) as u64);
        let _ = write!(files, " and {more} more");
    }
    let database = change.relations.first().map_or(0, |(relation, _)| relation.database);
    let database = match names.database(change.at, database) {
        Some(name) => shown(name, NAME_SHOWN),
        None => database.to_string(),
    };
    let what = match change.kind {
        ChangeKind::Dropped => "DROP of",
        ChangeKind::Truncated => "TRUNCATE of",
        ChangeKind::Deleted => "DELETE from",
        ChangeKind::Updated => "UPDATE of",
        ChangeKind::DroppedDatabase => return format!("DROP DATABASE {database}"),
    };
    format!("{what} {files} in database {database}")
}

fn describe(
    source: &SourceId,
    (from, until): (Timestamp, Timestamp),
    found: &FoundChanges,
    names: &Names,
) -> String {
    let mut text =
        format!("{} of WAL of {source}, from {from} to {until}", count(found.segments, "segment"));
    for (timeline, change) in &found.changes {
        let RelationChange { time, xid, at, .. } = change;
        let _ = write!(
            text,
            "\n\n{time}  transaction {xid}: {}\n  committed at {at} on timeline {timeline}\n  just \
             before it: drctl restore {source} --before-xid {xid} --timeline {timeline} \
             --to-directory DIR",
            told(change, names)
        );
    }
    if found.changes.is_empty() {
        text.push_str("\nnothing was dropped or truncated, nor many rows deleted or updated");
    } else if let Some((relation, change)) = first_file(found, names) {
        let tablespace = match relation.tablespace {
            DEFAULT_TABLESPACE => 0,
            other => other,
        };
        let _ = write!(
            text,
            "\n\nThe WAL has numbers alone, and no base backup names {}. For the name run the \
             recovery to just before, with --open, and ask that server: SELECT datname FROM \
             pg_database WHERE oid = {}; and in that database: SELECT \
             pg_filenode_relation({tablespace}, {});",
            relation.file,
            change.relations.first().map_or(0, |(relation, _)| relation.database),
            relation.file
        );
    }
    for why in &found.unread {
        let _ = write!(text, "\nNOT READ: {}", line(why));
    }
    text
}

/// A file of something of which nothing has a name, to show how that is asked for.
fn first_file<'a>(
    found: &'a FoundChanges,
    names: &Names,
) -> Option<(Relation, &'a RelationChange)> {
    let named = found.changes.iter().map(|(_, change)| change);
    let known = |change: &RelationChange| {
        change.relations.iter().any(|(relation, _)| names.table(change.at, *relation).is_some())
    };
    let mut named =
        named.filter(|change| change.kind != ChangeKind::DroppedDatabase && !known(change));
    named.find_map(|change| Some((change.relations.first()?.0, change)))
}
