//! The plots of a report, as SVG. What a colour tells a word or a shape tells too.

use drctl_model::{Drill, DrillPhase, DrillRun, Verdict};
use jiff::{SignedDuration, Timestamp};
use maud::{Markup, html};

use super::report_drills::milliseconds;
use crate::health::{DrillRecord, DueDrill};

/// The size of a plot, in its own units.
const WIDTH: f64 = 900.0;
/// The room on the left for words.
const LEFT: f64 = 110.0;
/// The room on the right.
const RIGHT: f64 = 20.0;
/// So many drills are shown by their phases.
const SHOWN: usize = 20;

/// Where times and amounts lie.
struct Axis {
    from: f64,
    to: f64,
}

impl Axis {
    fn of_times((from, to): (Timestamp, Timestamp)) -> Self {
        Axis { from: from.as_second() as f64, to: to.as_second() as f64 }
    }

    fn x(&self, at: f64) -> f64 {
        let share = (at - self.from) / (self.to - self.from).max(1.0);
        LEFT + share.clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
    }

    fn of_time(&self, at: Timestamp) -> f64 {
        self.x(at.as_second() as f64)
    }
}

/// A number as SVG has it.
fn at(value: f64) -> String {
    format!("{value:.1}")
}

/// Five dates below a plot.
fn dates((from, to): (Timestamp, Timestamp), y: f64) -> Markup {
    let axis = Axis::of_times((from, to));
    let step = to.duration_since(from).as_secs() / 4;
    let all = (0..=4).filter_map(|n| from.checked_add(SignedDuration::from_secs(step * n)).ok());
    html! {
        @for (n, time) in all.enumerate() {
            @let anchor = ["start", "middle", "middle", "middle", "end"][n.min(4)];
            text x=(at(axis.of_time(time))) y=(at(y)) text-anchor=(anchor) {
                (time.strftime("%Y-%m-%d").to_string())
            }
        }
    }
}

/// A row of the line of time: its name, its colour, and what belongs into it.
type Row = (&'static str, &'static str, fn(&DueDrill) -> bool);

/// What became of runs that were due, and of drills: on a line of time, each kind on a row of its own.
pub(super) fn timeline(time: (Timestamp, Timestamp), record: &DrillRecord) -> Markup {
    let axis = Axis::of_times(time);
    let rows: [Row; 4] = [
        ("passed", "#1a7f37", |one| said(one).is_some_and(|said| said == Verdict::Pass)),
        ("failed", "#b42318", |one| {
            said(one).is_some_and(|said| said.is_of_data() && said != Verdict::Pass)
        }),
        ("inconclusive", "#777777", |one| said(one).is_some_and(|said| !said.is_of_data())),
        ("missed", "#b42318", |one| one.missed),
    ];
    let y = |n: usize| 18.0 + 22.0 * n as f64;
    let when = |one: &DueDrill| one.drill.as_ref().map(|drill| drill.started).or(one.due);
    html! {
        svg viewBox="0 0 900 122" role="img" aria-label="what was proven, and when" {
            @for (n, (name, colour, is)) in rows.iter().enumerate() {
                text x="0" y=(at(y(n) + 4.0)) { (name) }
                line x1=(at(LEFT)) x2=(at(WIDTH - RIGHT)) y1=(at(y(n))) y2=(at(y(n))) stroke="#dddddd" {}
                @for one in record.drills.iter().filter(|one| is(one)) {
                    @if let Some(time) = when(one) {
                        @let x = axis.of_time(time);
                        rect x=(at(x - 2.5)) y=(at(y(n) - 7.0)) width="5" height="14" fill=(colour) {}
                    }
                }
            }
            (dates(time, 118.0))
        }
    }
}

fn said(one: &DueDrill) -> Option<Verdict> {
    one.drill.as_ref().map(|drill| drill.verdict())
}

/// Drills that have measured a restore.
fn measured(record: &DrillRecord) -> impl DoubleEndedIterator<Item = (&Drill, &DrillRun)> {
    let drills = record.drills.iter().filter_map(|one| one.drill.as_deref());
    drills.filter_map(|drill| Some((drill, drill.run.as_ref()?)))
}

/// How long restores took, over time; the RTO as a line, and what is foretold as a band.
pub(super) fn restores(
    time: (Timestamp, Timestamp),
    record: &DrillRecord,
    promised: Option<u64>,
) -> Markup {
    let axis = Axis::of_times(time);
    let told = record.forecast.as_ref();
    let all = measured(record).map(|(_, run)| run.restore_ms());
    let most = all.chain(promised).chain(told.map(|told| told.p90_ms)).max().unwrap_or(1).max(1);
    let y = |ms: u64| 150.0 - 135.0 * ms as f64 / most as f64;
    let (begin, end) = (at(LEFT), at(WIDTH - RIGHT));
    html! {
        svg viewBox="0 0 900 175" role="img" aria-label="how long restores took, against the RTO" {
            @if let Some(told) = told {
                @let (low, high) = (y(told.p50_ms), y(told.p90_ms));
                rect x=(begin) y=(at(high)) width=(at(WIDTH - RIGHT - LEFT)) height=(at((low - high).max(1.0)))
                    fill="#cfe0f5" {}
                text x=(end) y=(at(high - 3.0)) text-anchor="end" {
                    "foretold: " (milliseconds(told.p50_ms)) " to " (milliseconds(told.p90_ms))
                }
            }
            @if let Some(promised) = promised {
                line x1=(begin) x2=(end) y1=(at(y(promised))) y2=(at(y(promised)))
                    stroke="#b42318" stroke-dasharray="6 3" {}
                text x="0" y=(at(y(promised) + 4.0)) { "RTO " (milliseconds(promised)) }
            }
            line x1=(begin) x2=(end) y1="150" y2="150" stroke="#999999" {}
            text x="0" y="154" { "0" }
            @for (drill, run) in measured(record) {
                @let good = drill.verdict() == Verdict::Pass;
                circle cx=(at(axis.of_time(drill.started))) cy=(at(y(run.restore_ms()))) r="4"
                    fill=(if good { "#1a7f37" } else { "#ffffff" }) stroke=(if good { "#1a7f37" } else { "#b42318" })
                    stroke-width="2" {
                    title { (drill.drill) ": " (milliseconds(run.restore_ms())) }
                }
            }
            (dates(time, 170.0))
        }
    }
}

/// Each phase, its colour, and whether it counts for the RTO.
const PHASES: [(DrillPhase, &str); 7] = [
    (DrillPhase::Planning, "#d9d9d9"),
    (DrillPhase::Provisioning, "#9ecae1"),
    (DrillPhase::Loading, "#3182bd"),
    (DrillPhase::Recovering, "#08519c"),
    (DrillPhase::Verifying, "#74c476"),
    (DrillPhase::Comparing, "#c7c7c7"),
    (DrillPhase::Cleaning, "#eeeeee"),
];

/// What the last drills did, phase by phase, one bar for each.
pub(super) fn phases(record: &DrillRecord) -> Markup {
    let mut last: Vec<_> = measured(record).rev().take(SHOWN).collect();
    last.reverse();
    let whole = |run: &DrillRun| run.phases.iter().map(|clock| clock.ms as f64).sum::<f64>();
    let most = last.iter().map(|(_, run)| whole(run)).fold(1.0, f64::max);
    let axis = Axis { from: 0.0, to: most };
    let y = |n: usize| 30.0 + 18.0 * n as f64;
    let height = y(last.len()) + 6.0;
    let bars = |run: &DrillRun| {
        let mut from = 0.0;
        let bar = |clock: &drctl_model::PhaseClock| {
            let begin = from;
            from += clock.ms as f64;
            let colour = PHASES.iter().find(|(phase, _)| *phase == clock.phase);
            let (x, until) = (axis.x(begin), axis.x(from));
            (x, until - x, colour.map_or("#000000", |(_, colour)| *colour), *clock)
        };
        run.phases.iter().map(bar).collect::<Vec<_>>()
    };
    html! {
        svg viewBox={ "0 0 900 " (at(height)) } role="img" aria-label="phases of the last drills" {
            @for (n, (phase, colour)) in PHASES.iter().enumerate() {
                @let x = LEFT + 105.0 * n as f64;
                rect x=(at(x)) y="4" width="10" height="10" fill=(colour) stroke="#777777" stroke-width=".5" {}
                text x=(at(x + 14.0)) y="13" { (phase.as_str()) }
            }
            @for (n, (drill, run)) in last.iter().enumerate() {
                text x="0" y=(at(y(n) + 10.0)) { (drill.started.strftime("%m-%d %H:%M:%S").to_string()) }
                @for (x, width, colour, clock) in bars(run) {
                    rect x=(at(x)) y=(at(y(n))) width=(at(width)) height="13" fill=(colour) stroke="#777777"
                        stroke-width=".5" {
                        title { (clock.phase.as_str()) ": " (milliseconds(clock.ms)) }
                    }
                }
            }
        }
    }
}
