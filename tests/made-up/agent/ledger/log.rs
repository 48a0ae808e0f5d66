//! Its log: how it is stored and learnt.

use std::path::Path;

use anyhow::Result;
use drctl_engines::ledger::{Entry, lineage, written};
use drctl_model::{Holds, Lineage, LogAt, LogNotes, LogPart, LogPlace, NoteName, Position as _};
use drctl_policies::LedgerAt;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::engine::Streaming;
use crate::host::AgentError;
use crate::log::LogEngine;
use crate::log::heads::heads;

/// The most entries of a piece.
const PIECE: usize = 4;

/// A ledger, as the common rooms of the log ask it. It notes nothing.
#[derive(Debug, Clone, Copy)]
pub(super) struct LedgerLog;

impl LogEngine for LedgerLog {
    type At = LedgerAt;
    type Notes = ();

    const LOG: &'static str = "ledger's log";

    fn called(lineage: &Lineage) -> String {
        format!("ledger {lineage}")
    }

    fn note() -> Option<NoteName> {
        None
    }

    fn is_possible((start, end): (LogAt, LogAt), _: u64) -> bool {
        start < end
    }

    fn begins(_: LogAt, _: u64) -> bool {
        true
    }

    fn read(_: &LogNotes) -> Option<()> {
        Some(())
    }

    fn written((): &()) -> Map<String, Value> {
        Map::new()
    }

    fn learn((): &mut (), _: (LedgerAt, LedgerAt), _: &Holds) {}

    fn join((): (), (): (), _: impl Fn((LedgerAt, LedgerAt)) -> bool) {}

    fn keep_note((): &mut (), (): &()) -> bool {
        false
    }

    fn learn_note((): &mut (), _: &Holds) {}
}

/// Stores what is written, piece by piece, until somebody wishes for the end.
pub(super) async fn stream(books: &Path, streaming: &Streaming<'_>) -> Result<()> {
    let Streaming { log_store, options, stop, .. } = streaming;
    let of = lineage(books)?;
    let ours = {
        let of = of.clone();
        move |lineage: &Lineage| *lineage == of
    };
    let known = heads::<LedgerLog>(log_store, ours, None, &mut Vec::new()).await?;
    let stored = known.values().flat_map(|log| &log.entries).map(|entry| entry.end.0).max();
    let mut next = stored.unwrap_or(1);
    loop {
        let entries = written(books)?;
        let new: Vec<Entry> = entries.into_iter().filter(|entry| entry.at >= next).collect();
        if let Some(first) = new.first().filter(|first| first.at != next) {
            let text = format!("the ledger's log begins at {}, not at {next}", first.at);
            return Err(AgentError::Incomplete(text).into());
        }
        for piece in new.chunks(PIECE) {
            let end = next + piece.len() as u64;
            let (start, end) = (LogAt::of(next), LogAt::of(end));
            let place = LogPlace { lineage: of.clone(), part: LogPart::Range { start, end } };
            let text: String = piece.iter().map(Entry::line).collect();
            log_store.keep(place, text.into_bytes(), told(piece, (start, end))?).await?;
            next = end.number();
        }
        if tokio::time::timeout(options.interval, stop.requested()).await.is_ok() {
            return Ok(());
        }
    }
}

fn told(piece: &[Entry], (start, end): (LogAt, LogAt)) -> Result<Holds> {
    let times = piece.iter().map(|entry| entry.seconds);
    let bounds = times.clone().min().zip(times.max());
    let commits = bounds
        .map(|(one, two)| {
            Ok::<_, jiff::Error>((Timestamp::from_second(one)?, Timestamp::from_second(two)?))
        })
        .transpose()?;
    Ok(Holds {
        records: piece.len() as u64,
        first_record: Some((start, LogAt(start.0 - 1))),
        last_record: Some((LogAt(end.0 - 1), end)),
        commits,
        ..Holds::of_engine("ledger", json!({ "entries": piece.len() }))
    })
}
