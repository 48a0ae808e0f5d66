use std::fmt::Write as _;

use anyhow::Result;
use drctl_engines::pg::wal::{Deed, DeedKind, Relation};
use drctl_model::{SourceId, Timeline};
use drctl_policies::recovery::Want;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::args::WhenArgs;
use super::progress::Progress;
use super::screen::{Screen, count, number};
use crate::problem::Problem;
use crate::{Exit, FoundDeeds, Meter, Setup, Shelf, deeds, known, time_of};

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
    let known = known(setup, &repository, &id, cache.as_ref(), (Want::Last, None)).await?;
    if known.stanza.is_some() {
        let text = "its log lies in pgBackRest's archive, which is not searched: see what was done \
                    with PostgreSQL's own `pg_waldump` over the segments of that time";
        return Err(Problem::Usage(text.to_owned()).into());
    }
    let Some((newest, at)) = known.bases.last() else {
        return Err(Problem::NoBackup("there is no copy of a cluster".to_owned()).into());
    };
    let identities = setup.identities(args.identity.as_deref())?;
    let identities = identities.ok_or_else(|| Problem::NoIdentity(newest.clone()))?;
    let (shelf, meter) = (Shelf::reader(&repository, &id), Meter::default());
    meter.label("reading the log");
    let progress = Progress::show(screen, &meter);
    let of = (known.system_id, at.segment_size);
    let found =
        deeds(&shelf, of, cache.as_ref(), (from, until), args.rows, &identities, &meter).await;
    drop(progress);
    let found = found?;
    let object = json!({
        "source": id, "from": from, "until": until, "segments": found.segments,
        "found": found.deeds.iter().map(entry).collect::<Vec<_>>(), "unread": found.unread,
    });
    screen.answer("drctl.when/1", object, || describe(&id, (from, until), &found));
    Ok(if found.unread.is_empty() { Exit::Success } else { Exit::Degraded })
}

/// From when until when it is looked: around a time, or between two; the last day where nothing is said.
fn window(args: &WhenArgs, now: Timestamp) -> Result<(Timestamp, Timestamp)> {
    let long = |text: &str| {
        let span = text.parse::<SignedDuration>().ok().filter(|span| span.is_positive());
        let wrong = || Problem::Usage(format!("`{text}` is no span of time, such as 1h or 30m"));
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
        let text = format!("there is no time from {from} to {until}");
        return Err(Problem::Usage(text).into());
    }
    Ok((from, until))
}

fn word(kind: DeedKind) -> &'static str {
    match kind {
        DeedKind::Dropped => "dropped",
        DeedKind::Truncated => "truncated",
        DeedKind::Deleted => "deleted",
        DeedKind::Updated => "updated",
        DeedKind::DroppedDatabase => "dropped_database",
    }
}

fn entry((timeline, deed): &(Timeline, Deed)) -> serde_json::Value {
    let relation = |(relation, rows): &(Relation, u64)| {
        let counted = matches!(deed.kind, DeedKind::Deleted | DeedKind::Updated);
        json!({
            "tablespace": relation.tablespace, "database": relation.database,
            "file": relation.file, "rows": counted.then_some(rows),
        })
    };
    json!({
        "what": word(deed.kind), "time": deed.time, "xid": deed.xid, "timeline": timeline,
        "lsn": deed.at, "relations": deed.relations.iter().map(relation).collect::<Vec<_>>(),
    })
}

/// What was done, in words.
fn told(deed: &Deed) -> String {
    let files = deed.relations.iter().take(NAMED).map(|(relation, rows)| {
        let counted = matches!(deed.kind, DeedKind::Deleted | DeedKind::Updated);
        let rows = if counted { format!(" ({})", count(*rows, "row")) } else { String::new() };
        format!("{}{rows}", relation.file)
    });
    let mut files = files.collect::<Vec<_>>().join(", ");
    if deed.relations.len() > NAMED {
        let more = number((deed.relations.len() - NAMED) as u64);
        let _ = write!(files, " and {more} more");
    }
    let database = deed.relations.first().map_or(0, |(relation, _)| relation.database);
    let what = match deed.kind {
        DeedKind::Dropped => "DROP of",
        DeedKind::Truncated => "TRUNCATE of",
        DeedKind::Deleted => "DELETE from",
        DeedKind::Updated => "UPDATE of",
        DeedKind::DroppedDatabase => return format!("DROP DATABASE {database}"),
    };
    format!("{what} {files} in database {database}")
}

fn describe(
    source: &SourceId,
    (from, until): (Timestamp, Timestamp),
    found: &FoundDeeds,
) -> String {
    let mut text =
        format!("{} of log of {source}, from {from} to {until}", count(found.segments, "segment"));
    for (timeline, deed) in &found.deeds {
        let Deed { time, xid, at, .. } = deed;
        let _ = write!(
            text,
            "\n\n{time}  transaction {xid}: {}\n  committed at {at} on timeline {timeline}\n  just \
             before it: drctl restore {source} --before-xid {xid} --timeline {timeline} \
             --to-directory DIR",
            told(deed)
        );
    }
    if found.deeds.is_empty() {
        text.push_str("\nnothing was dropped or truncated, nor many rows deleted or updated");
    } else if let Some((relation, deed)) = first_file(found) {
        let tablespace = match relation.tablespace {
            DEFAULT_TABLESPACE => 0,
            other => other,
        };
        let _ = write!(
            text,
            "\n\nThe log has numbers alone. For their names run the recovery to just before, with \
             --open, and ask that server: SELECT datname FROM pg_database WHERE oid = {}; and in \
             that database: SELECT pg_filenode_relation({tablespace}, {});",
            deed.relations.first().map_or(0, |(relation, _)| relation.database),
            relation.file
        );
    }
    for why in &found.unread {
        let _ = write!(text, "\nNOT READ: {why}");
    }
    text
}

/// A file that was named, to show how its name is asked for.
fn first_file(found: &FoundDeeds) -> Option<(Relation, &Deed)> {
    let named = found.deeds.iter().map(|(_, deed)| deed);
    let mut named = named.filter(|deed| deed.kind != DeedKind::DroppedDatabase);
    named.find_map(|deed| Some((deed.relations.first()?.0, deed)))
}
