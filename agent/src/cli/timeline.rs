use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;

use anyhow::{Context as _, Result};
use drctl_catalog::{Catalog, Lost};
use drctl_model::{BackupId, Drill, DrillOutcome, Lsn, SourceId, Timeline, shown};
use drctl_policies::recovery::{
    Gap, TimelineView, Want, Warning, recoverable_until, timeline_view,
};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::json;

use super::lost::{lost_json, lost_text, refused_text};
use super::screen::{
    NAME_SHOWN, Screen, alarms_json, alarms_text, count, line as plain, plain_table,
};
use crate::engine::pgbackrest::mark_seen;
use crate::host::figures::span;
use crate::host::{Exit, Setup, zone};
use crate::repository::findings::refusals;
use crate::repository::losses::look_for_losses;
use crate::repository::{Repository, drills};
use crate::restore::known::{Known, known};

/// Columns of a terminal that does not say how wide it is.
const USUAL_WIDTH: usize = 80;

/// Fewer columns would have no room for the axis.
const LEAST_WIDTH: usize = 64;

/// What the signs of the bar mean.
const LEGEND: [&str; 6] = [
    "= can be reached",
    "- WAL that is out of reach",
    "! GAP",
    "B base backup",
    "b suspect or BAD one",
    "P promotion",
];

/// The same of a drill.
const DRILL_LEGEND: &str = "D drill, at its last commit";

/// `drctl timeline`.
pub(super) async fn timeline(screen: Screen, setup: &Setup, source: &str) -> Result<Exit> {
    let id = super::source_id(source)?;
    let repository = setup.repository().await?;
    let cache = setup.log_cache(&repository).await;
    let (mut known, lost, refusals) = look(setup, &repository, cache.as_ref(), &id).await?;
    let mut refused = Vec::new();
    let mut drills = drills(&repository, &id, &mut refused).await?;
    known.refused.extend(refused.into_iter().map(|one| one.text));
    known.refused.extend(known.stanza.iter().flat_map(|stanza| stanza.differs()));
    drills.retain(|(drill, _)| drill.system_id == Some(known.system_id));
    let (drills, keys): (Vec<Drill>, Vec<_>) = drills.into_iter().unzip();
    let drillers = keys.iter().map(|key| repository.trust.name(key)).collect::<Vec<_>>();
    let signers = signers(&known, &repository);
    let views = timeline_view(&known.archive);
    let is_bad = |view: &TimelineView| {
        !view.known || !view.gaps.is_empty() || view.bases.iter().any(|base| base.other_history)
    };
    let alarms = repository.alarms();
    let forks = forks(&known);
    let told = !known.refused.is_empty()
        || known.uncopied.is_some()
        || !alarms.is_empty()
        || !refusals.is_empty();
    let bad = views.iter().any(is_bad) || told || !lost.is_empty() || !forks.is_empty();
    let others: Vec<(u64, Vec<TimelineView>)> =
        known.others.iter().map(|one| (one.system_id, timeline_view(&one.archive))).collect();
    let other = |(id, views): &(u64, _)| json!({ "system_id": id.to_string(), "timelines": views });
    let object = json!({
        "system_id": known.system_id.to_string(), "timelines": views,
        "drills": drills_json(&drills, &drillers), "refusals": lost_json(&refusals),
        "signers": signers.iter().map(|(backup, by)| json!({ "backup": backup, "signed_by": by }))
            .collect::<Vec<_>>(),
        "others": others.iter().map(other).collect::<Vec<_>>(),
        "uncopied": known.uncopied.map(|id| id.to_string()), "refused": known.refused,
        "forks": forks, "alarms": alarms_json(&alarms), "lost": lost_json(&lost),
    });
    screen.answer("drctl.timeline/1", object, || {
        let mut text = format!("cluster {}", known.system_id);
        let bar = bar(&views, &drills, width(), &zone::shown_in());
        if !bar.is_empty() {
            let _ = write!(text, "\n\n{bar}");
        }
        for view in &views {
            text.push_str(&describe(view, &drills));
        }
        let elsewhere =
            |drill: &&Drill| views.iter().all(|view| Some(view.timeline) != drill.timeline);
        let gone: Vec<_> = drills.iter().filter(elsewhere).map(|one| drill_row(one).1).collect();
        if !gone.is_empty() {
            let _ = write!(text, "\n\non timelines that are gone\n{}", plain_table(&gone));
        }
        for (id, views) in &others {
            let _ =
                write!(text, "\n\nanother cluster, {id}: `drctl restore` with --system-id {id}");
            views.iter().for_each(|view| text.push_str(&describe(view, &[])));
        }
        if let Some(id) = known.uncopied {
            let _ = write!(text, "\nNO BASE BACKUP: {}: run `drctl backup`", Warning::NoCopyOf(id));
        }
        text.extend(forks.iter().map(|fork| format!("\nFORK: {fork}")));
        text.extend(known.refused.iter().map(|why| format!("\nPASSED OVER: {}", plain(why))));
        text.push_str(&signed_text(signers.into_iter().map(|(_, by)| by), "backup"));
        text.push_str(&signed_text(drillers.into_iter(), "drill"));
        text.push_str(&(lost_text(&lost) + &refused_text(&refusals)));
        text.push_str(&alarms_text(&alarms));
        text
    });
    Ok(if bad { Exit::Degraded } else { Exit::Success })
}

/// What is known of a source's log, what is gone of it, and whose log was refused.
async fn look(
    setup: &Setup,
    repository: &Repository,
    cache: Option<&Catalog>,
    id: &SourceId,
) -> Result<(Known, Vec<Lost>, Vec<Lost>)> {
    let known = known(setup, repository, id, cache, (Want::Ends, None)).await;
    if let Some(stanza) = known.as_ref().ok().and_then(|known| known.stanza.as_ref()) {
        mark_seen(setup, id, &stanza.info).await;
    }
    let (lost, refusals) = remembered(setup, repository, cache, id).await?;
    let known = known.with_context(|| format!("look at the WAL of {id}{}", lost_text(&lost)))?;
    Ok((known, lost, refusals))
}

/// What is gone of a source, and whose log was refused, as far as this host has a catalog.
async fn remembered(
    setup: &Setup,
    repository: &Repository,
    cache: Option<&Catalog>,
    id: &SourceId,
) -> Result<(Vec<Lost>, Vec<Lost>)> {
    let Some(cache) = cache else { return Ok((Vec::new(), Vec::new())) };
    let lost = look_for_losses(setup, repository, cache, id).await?;
    Ok((lost, refusals(cache, Some(id)).await?))
}

/// Timelines that have commits of their own each, where nobody can tell which of them is meant.
fn forks(known: &Known) -> Vec<String> {
    let doubts = recoverable_until(&known.archive)
        .into_iter()
        .flat_map(|recoverable_until| recoverable_until.doubts);
    let forks = doubts.filter(|one| matches!(one, Warning::Fork { .. }));
    forks.map(|fork| fork.to_string()).collect()
}

/// Who signed each base backup.
fn signers(known: &Known, repository: &Repository) -> Vec<(BackupId, String)> {
    let of = |(id, _): &(BackupId, _)| Some((id.clone(), known.signed_by(&repository.trust, id)?));
    known.bases.iter().filter_map(of).collect()
}

fn drills_json(drills: &[Drill], signers: &[String]) -> Vec<serde_json::Value> {
    let entry = |(drill, by): (&Drill, &String)| {
        let mut object = json!(drill);
        object["signed_by"] = json!(by);
        object
    };
    drills.iter().zip(signers).map(entry).collect()
}

/// How many of something each key has signed, a line each.
fn signed_text(signers: impl Iterator<Item = String>, what: &str) -> String {
    let mut all: BTreeMap<String, u64> = BTreeMap::new();
    signers.for_each(|signer| *all.entry(signer).or_default() += 1);
    let line = |(by, n): (&String, &u64)| {
        format!("\nsigned by {}: {}", shown(by, NAME_SHOWN), count(*n, what))
    };
    all.iter().map(line).collect()
}

/// Columns of the terminal that the answer goes to.
fn width() -> usize {
    let size = rustix::termios::tcgetwinsize(io::stdout());
    size.map_or(USUAL_WIDTH, |size| match size.ws_col {
        0 => USUAL_WIDTH,
        columns => usize::from(columns),
    })
}

/// Time on the bar: the whole of it, in so many cells.
struct Axis {
    from: Timestamp,
    until: Timestamp,
    cells: usize,
}

impl Axis {
    /// From the first to the last time that anything has; nothing where nothing has one.
    fn over(views: &[TimelineView], cells: usize) -> Option<Axis> {
        let mut times: Vec<Timestamp> = Vec::new();
        for view in views {
            times.extend(view.bases.iter().map(|base| base.stopped));
            times.extend(view.spans.iter().filter_map(|span| span.commits).flat_map(both));
            times.extend(view.reachable.iter().filter_map(|reach| reach.times).flat_map(both));
        }
        let (from, until) = (*times.iter().min()?, *times.iter().max()?);
        Some(Axis { from, until, cells })
    }

    /// The cell of a time.
    fn cell(&self, at: Timestamp) -> usize {
        let whole = self.until.as_nanosecond() - self.from.as_nanosecond();
        let part = (at.as_nanosecond() - self.from.as_nanosecond()).clamp(0, whole);
        let last = i128::try_from(self.cells.saturating_sub(1)).unwrap_or(0);
        usize::try_from((part * last).checked_div(whole).unwrap_or(0)).unwrap_or(0)
    }

    /// Its ends in a time zone.
    fn label(&self, zone: &TimeZone) -> String {
        let text =
            |at: Timestamp| at.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S %Z").to_string();
        let (left, right) = (text(self.from), text(self.until));
        let room = self.cells.saturating_sub(left.chars().count());
        format!("{left}{right:>room$}")
    }
}

fn both((one, other): (Timestamp, Timestamp)) -> [Timestamp; 2] {
    [one, other]
}

/// One line for each timeline, over one axis of time; nothing where no time is known. What is
/// narrower than a cell is shown as a whole one, and of what shares a cell the worst.
fn bar(views: &[TimelineView], drills: &[Drill], width: usize, zone: &TimeZone) -> String {
    let names: Vec<String> = views.iter().map(|v| format!("timeline {}", v.timeline)).collect();
    let margin = names.iter().map(String::len).max().unwrap_or(0) + 2;
    let cells = width.max(LEAST_WIDTH).saturating_sub(margin);
    let Some(axis) = Axis::over(views, cells) else { return String::new() };
    let mut text = format!("{:margin$}{}", "", axis.label(&TimeZone::UTC));
    if zone.to_offset(axis.from).seconds() != 0 || zone.to_offset(axis.until).seconds() != 0 {
        let _ = write!(text, "\n{:margin$}{}", "", axis.label(zone));
    }
    for (view, name) in views.iter().zip(&names) {
        let line = line(view, views, drills, &axis);
        let _ = write!(text, "\n{name:margin$}{}", line.trim_end());
    }
    let mut signs = String::new();
    for sign in LEGEND {
        if signs.len() + sign.len() + 2 > cells && !signs.is_empty() {
            let _ = write!(text, "\n{:margin$}{signs}", "");
            signs.clear();
        }
        signs.push_str(if signs.is_empty() { "" } else { "  " });
        signs.push_str(sign);
    }
    let _ = write!(text, "\n{:margin$}{signs}", "");
    if drills.iter().any(|drill| stood(drill).is_some()) {
        let _ = write!(text, "\n{:margin$}{DRILL_LEGEND}", "");
    }
    text
}

/// The time of the last commit in the data of a drill that was proven.
fn stood(drill: &Drill) -> Option<Timestamp> {
    match drill.outcome {
        DrillOutcome::Proven { shows, .. } => shows,
        DrillOutcome::Equal(_)
        | DrillOutcome::Inconclusive { .. }
        | DrillOutcome::Failed { .. } => None,
    }
}

fn line(view: &TimelineView, all: &[TimelineView], drills: &[Drill], axis: &Axis) -> String {
    let mut cells = vec![' '; axis.cells];
    let mut paint = |(from, until): (Timestamp, Timestamp), sign: char| {
        let (from, until) = (axis.cell(from), axis.cell(until));
        cells.iter_mut().take(until + 1).skip(from).for_each(|cell| *cell = sign);
    };
    for times in view.spans.iter().filter_map(|span| span.commits) {
        paint(times, '-');
    }
    let own = view.branched.filter(|_| view.parent.is_some());
    for (from, until) in view.reachable.iter().filter_map(|reach| reach.times) {
        // What lies on an ancestor is shown there.
        let from = own.map_or(from, |own| own.max(from));
        if from <= until {
            paint((from, until), '=');
        }
    }
    let on_it = drills.iter().filter(|drill| drill.timeline == Some(view.timeline));
    for at in on_it.filter_map(stood).filter(|at| (axis.from..=axis.until).contains(at)) {
        paint((at, at), 'D');
    }
    for base in &view.bases {
        paint((base.stopped, base.stopped), if base.good { 'B' } else { 'b' });
    }
    if let Some(at) = own {
        paint((at, at), 'P');
    }
    for gap in &view.gaps {
        if let Some((from, until)) = around(gap, view.timeline, all) {
            let (left, right) = (axis.cell(from), axis.cell(until));
            let first = (left + 1).min(right);
            let last = right.saturating_sub(1).max(first);
            cells.iter_mut().take(last + 1).skip(first).for_each(|cell| *cell = '!');
        }
    }
    cells.into_iter().collect()
}

/// The last commit before a gap and the first behind it.
fn around(gap: &Gap, of: Timeline, all: &[TimelineView]) -> Option<(Timestamp, Timestamp)> {
    let upwards = all.iter().filter(|view| view.timeline <= of);
    let spans: Vec<_> = upwards.flat_map(|view| &view.spans).collect();
    let until = gap.until.unwrap_or(gap.from);
    let timed = |span: &&&drctl_policies::recovery::Span| span.commits.is_some();
    let before = spans.iter().filter(timed).filter(|span| span.until <= gap.from);
    let behind = spans.iter().filter(timed).filter(|span| span.from >= until);
    let before = before.max_by_key(|span| span.until).and_then(|span| span.commits);
    let behind = behind.min_by_key(|span| span.from).and_then(|span| span.commits);
    let ((_, before), (behind, _)) = before.zip(behind)?;
    Some((before, behind.max(before)))
}

/// What a drill came to: where it stands among the rows, and its row.
fn drill_row(drill: &Drill) -> (Lsn, Vec<String>) {
    let took = format!("{} in {}", drill.drill, span(drill.took_ms as f64 / 1000.0));
    match &drill.outcome {
        DrillOutcome::Proven { replayed, shows, left_out, .. } => {
            let shows = shows.map_or(String::new(), |at| format!("shows {at}"));
            let took = match left_out.is_empty() {
                true => took,
                false => format!("{took}: less than all, {}", shown(&left_out.join("; "), 200)),
            };
            (*replayed, vec!["drill".to_owned(), replayed.to_string(), shows, took])
        }
        DrillOutcome::Equal(_) => {
            (Lsn(u64::MAX), vec!["drill".to_owned(), String::new(), String::new(), took])
        }
        DrillOutcome::Inconclusive { error } | DrillOutcome::Failed { error } => {
            let failed = matches!(drill.outcome, DrillOutcome::Failed { .. });
            let what = if failed { "DRILL FAILED" } else { "drill inconclusive" };
            let began = drill.started.strftime("began %Y-%m-%d %H:%M:%SZ").to_string();
            let took = format!("{took}: {}", shown(error, 60));
            (Lsn(u64::MAX), vec![what.to_owned(), String::new(), began, took])
        }
    }
}

fn describe(view: &TimelineView, drills: &[Drill]) -> String {
    let mut text = format!("\n\ntimeline {}", view.timeline);
    if let Some((parent, at)) = view.parent {
        let _ = write!(text, ", from timeline {parent} at {at}");
    }
    if !view.known {
        text.push_str(": its history file is missing, no older base backup leads to it");
    }
    let mut rows = Vec::new();
    for base in &view.bases {
        let what = match (base.bad, base.other_history, base.good) {
            (true, ..) => "BASE BACKUP, BAD",
            (false, true, _) => "BASE BACKUP, OTHER HISTORY",
            (false, false, true) => "base backup",
            (false, false, false) => "BASE BACKUP, SUSPECT",
        };
        let ended = base.stopped.strftime("%Y-%m-%d %H:%M:%SZ").to_string();
        rows.push((
            base.stop,
            vec![what.to_owned(), base.stop.to_string(), ended, base.backup.to_string()],
        ));
    }
    for span in &view.spans {
        let times =
            span.commits.map_or(String::new(), |(first, last)| format!("{first} to {last}"));
        let range = format!("{} to {}", span.from, span.until);
        rows.push((span.from, vec!["WAL".to_owned(), range, times, String::new()]));
    }
    for gap in &view.gaps {
        rows.push((
            gap.from,
            vec!["GAP".to_owned(), gap.to_string(), String::new(), String::new()],
        ));
    }
    for place in &view.unproven {
        let from = format!("from {}", place.lsn);
        let last = place.at.map_or(String::new(), |at| format!("last commit before it {at}"));
        let what = "it is not known whether it follows the WAL before it".to_owned();
        rows.push((place.lsn, vec!["NOT PROVEN".to_owned(), from, last, what]));
    }
    rows.extend(drills.iter().filter(|drill| drill.timeline == Some(view.timeline)).map(drill_row));
    rows.sort_by_key(|(at, _)| *at);
    let rows: Vec<Vec<String>> = rows.into_iter().map(|(_, row)| row).collect();
    let _ = write!(text, "\n{}", plain_table(&rows));
    for reach in &view.reachable {
        let times =
            reach.times.map_or("no commit".to_owned(), |(from, to)| format!("{from} to {to}"));
        let _ = write!(text, "\nREACHABLE {} to {}: {times}", reach.from, reach.until);
    }
    text
}

#[cfg(test)]
mod tests {
    use drctl_model::{DrillId, Header, RepositoryId};
    use drctl_policies::recovery::{BaseOn, Reachable, Span, Why};

    use super::*;

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + minute * 60).unwrap()
    }

    fn span(from: u64, until: u64, times: (i64, i64)) -> Span {
        let commits = Some((at(times.0), at(times.1)));
        Span { from: Lsn(from), until: Lsn(until), commits }
    }

    fn base(minute: i64, good: bool) -> BaseOn {
        let backup = BackupId::new(at(minute), 1);
        BaseOn { backup, stop: Lsn(1), stopped: at(minute), good, bad: false, other_history: false }
    }

    fn reach(times: (i64, i64)) -> Reachable {
        let times = Some((at(times.0), at(times.1)));
        Reachable { from: Lsn(0), until: Lsn(0), times, suspect: false }
    }

    fn view(id: u32) -> TimelineView {
        TimelineView {
            timeline: Timeline::new(id).unwrap(),
            known: true,
            parent: None,
            branched: None,
            spans: Vec::new(),
            gaps: Vec::new(),
            unproven: Vec::new(),
            bases: Vec::new(),
            reachable: Vec::new(),
        }
    }

    fn drill(timeline: u32, minute: i64, proven: bool) -> Drill {
        let outcome = match proven {
            true => DrillOutcome::Proven {
                replayed: Lsn(7),
                shows: Some(at(minute)),
                counted: Vec::new(),
                left_out: Vec::new(),
                equal: None,
            },
            false => DrillOutcome::Failed { error: "mismatch".to_owned() },
        };
        Drill {
            header: Header::new([]),
            repository: RepositoryId::new(7),
            source: "shop".parse().unwrap(),
            drill: DrillId::new(at(minute), 1),
            host: "db1".to_owned(),
            started: at(minute),
            took_ms: 61_000,
            system_id: Some(1),
            timeline: Timeline::new(timeline),
            base: Some(BackupId::new(at(5), 1)),
            newest: None,
            target: "the end of the WAL".to_owned(),
            outcome,
            run: None,
        }
    }

    #[test]
    fn a_drill_that_failed_stands_below_all_others_with_its_reason() {
        let (proven, failed) = (drill(1, 15, true), drill(1, 20, false));
        let text = describe(&view(1), &[failed, proven, drill(2, 30, true)]);
        let rows: Vec<&str> = text.lines().filter(|line| line.contains("rill")).collect();
        assert_eq!(rows.len(), 1, "{text}");
        let last = text.lines().rfind(|line| !line.is_empty()).unwrap();
        assert!(last.starts_with("DRILL FAILED") && last.ends_with("mismatch"), "{text}");
        assert!(rows[0].contains("shows 2027-01-15T08:15:00Z"), "{text}");
    }

    #[test]
    fn a_bar_shows_what_can_be_reached_gaps_copies_and_promotions() {
        let first = Timeline::FIRST;
        let gap = Gap { timeline: first, from: Lsn(40), until: Some(Lsn(60)), why: Why::Missing };
        let one = TimelineView {
            spans: vec![span(0, 40, (0, 20)), span(60, 80, (30, 50))],
            gaps: vec![gap],
            bases: vec![base(5, true), base(40, false)],
            reachable: vec![reach((5, 20))],
            ..view(1)
        };
        let two = TimelineView {
            parent: Some((first, Lsn(20))),
            branched: Some(at(10)),
            spans: vec![span(20, 90, (8, 51))],
            reachable: vec![reach((5, 51))],
            ..view(2)
        };
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let drills =
            [drill(1, 15, true), drill(2, 12, true), drill(2, 30, false), drill(2, 99, true)];
        let expected = [
            "            2027-01-15 08:00:00 UTC      2027-01-15 08:51:00 UTC",
            "            2027-01-15 09:00:00 CET      2027-01-15 09:51:00 CET",
            "timeline 1  -----B=========D=====!!!!!!!!!----------b----------",
            "timeline 2          --P=D=======================================",
            "            = can be reached  - WAL that is out of reach  ! GAP",
            "            B base backup  b suspect or BAD one  P promotion",
            "            D drill, at its last commit",
        ];
        assert_eq!(
            bar(&[one.clone(), two], &drills, 64, &zone).lines().collect::<Vec<_>>(),
            expected
        );
        // A gap that is narrower than a cell is seen all the same.
        let narrow =
            TimelineView { spans: vec![span(0, 40, (0, 20)), span(60, 80, (20, 1000))], ..one };
        assert!(bar(&[narrow], &[], 80, &TimeZone::UTC).lines().nth(1).unwrap().contains('!'));
        assert_eq!(bar(&[view(1)], &drills, 80, &zone), "");
        for line in bar(&[view(1), view(2)], &[], 80, &zone).lines() {
            assert!(line.is_ascii());
        }
    }
}
