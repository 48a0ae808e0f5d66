//! A report as a page: one file that needs no other one, for a browser, paper, or a text editor.

use std::fmt::Write as _;

use jiff::Timestamp;
use maud::{DOCTYPE, Markup, PreEscaped, html as page};

use super::forecast::forecast_words;
use super::report_drills::{HEAD, Tone, milliseconds, minute, row};
use super::report_plots::{phases, restores, timeline};
use super::screen::line;
use crate::health::{DrillRecord, Report};
use crate::host::figures::{number, span};

/// What a page tells.
pub(super) struct Page<'a> {
    pub(super) from: Timestamp,
    pub(super) to: Timestamp,
    /// The host on which it is made.
    pub(super) host: &'a str,
    /// When it is made.
    pub(super) made: Timestamp,
    pub(super) reports: &'a [Report],
}

/// How it looks. What is told by a colour is told by a word too: paper may have none.
const STYLE: &str = "
body { font: 15px/1.45 system-ui, sans-serif; color: #1b1b1b; max-width: 68em; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.5em; } h2 { font-size: 1.25em; border-bottom: 1px solid #999; margin-top: 2em; } h3 { font-size: 1em; }
table { border-collapse: collapse; width: 100%; font-size: .85em; } td:nth-child(1), td:nth-child(2) { white-space: nowrap; } th, td { text-align: left; vertical-align: top; padding: .25em .6em .25em 0; border-bottom: 1px solid #ddd; }
td { overflow-wrap: anywhere; } td.bad { color: #9c1111; font-weight: 600; } td.good { color: #14602b; } td.neither { color: #555; }
svg { width: 100%; height: auto; margin: .3em 0 1em; } svg text { font: 11px system-ui, sans-serif; fill: #333; }
figure { margin: 0; break-inside: avoid; } figcaption { font-size: .85em; color: #444; }
footer { margin-top: 2.5em; font-size: .85em; color: #444; border-top: 1px solid #999; }
@media print { body { margin: 0; max-width: none; font-size: 11px; } h2 { break-before: page; } h2.first { break-before: avoid; } tr { break-inside: avoid; } }
@page { margin: 15mm; }
";

/// A page for a browser.
pub(super) fn html(of: &Page<'_>) -> String {
    let title = title(of);
    let page = page! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { (title) }
                p { (about(of)) }
                (summary(of))
                @for (n, one) in of.reports.iter().enumerate() { (source(one, n == 0)) }
                footer { p { (CHECK) } }
            }
        }
    };
    page.into_string()
}

/// How the reader can check it.
const CHECK: &str = "Each drill is signed evidence in the bucket, under the name that the table gives: `drctl drill \
                     export SOURCE DRILL --to FILE` writes it into a file, and `drctl drill verify FILE --key KEY` \
                     checks that anywhere. Runs that were due are those of the policy as it is now.";

fn title(of: &Page<'_>) -> String {
    format!("Backups and restore drills, {} to {}", minute(of.from), minute(of.to))
}

fn about(of: &Page<'_>) -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!(
        "Made by drctl {version} on {} at {}. All times are UTC.",
        line(of.host),
        minute(of.made)
    )
}

/// What is told of a source in the table of all.
fn summary_row(one: &Report) -> [String; 6] {
    let status = &one.status;
    let age = status.age.map_or_else(|| "none".to_owned(), |age| span(age.as_secs_f64()));
    let (drills, missed, proven) = match &one.drills {
        Ok(drills) => {
            let (_, days_90, kept) = drills.proven;
            let ran = drills.drills.iter().filter(|one| one.drill.is_some()).count() as u64;
            (number(ran), number(drills.missed()), format!("{days_90} of {kept}"))
        }
        Err(_) => {
            let unknown = || "not known".to_owned();
            (unknown(), unknown(), unknown())
        }
    };
    let health = one.health().as_str().to_owned();
    [status.source.to_string(), health, age, drills, missed, proven]
}

const SUMMARY: [&str; 6] = [
    "source",
    "health now",
    "age of the newest good backup",
    "drills",
    "missed",
    "backups proven in 90 days",
];

fn summary(of: &Page<'_>) -> Markup {
    page! {
        table {
            thead { tr { @for head in SUMMARY { th { (head) } } } }
            tbody {
                @for one in of.reports {
                    tr { @for cell in summary_row(one) { td { (cell) } } }
                }
            }
        }
    }
}

/// What is said of a source in sentences, none of which names what is in its databases.
fn facts(one: &Report) -> Vec<String> {
    // The first line names the source and the time.
    let mut facts: Vec<String> = one.facts().iter().skip(1).map(|text| line(text)).collect();
    let amiss: Vec<&str> = one.amiss().iter().map(|one| one.code.as_str()).collect();
    if !amiss.is_empty() {
        facts.push(format!("amiss now: {} (`drctl status` tells more)", amiss.join(", ")));
    }
    let keys = one.drills.iter().flat_map(|drills| &drills.keys);
    facts.extend(keys.map(|(recipient, proven)| match proven {
        Some(at) => {
            format!("key {recipient}: its identity opened a backup in a drill, {}", minute(*at))
        }
        None => format!("key {recipient}: NEVER PROVEN to open a backup by a drill"),
    }));
    facts
}

/// The RTO: what is promised, and what drills foretell.
fn rto(one: &Report, drills: &DrillRecord) -> String {
    let mut text = match promised(one) {
        Some(ms) => format!("RTO: {} promised", milliseconds(ms)),
        None => "RTO: none promised".to_owned(),
    };
    if let Some(told) = &drills.forecast {
        let _ = write!(text, "; {}", forecast_words(told));
        if let Some(breaks) = told.breaks {
            let _ = write!(
                text,
                "; if data grow on as they did, nine of ten take longer from {} on",
                minute(breaks)
            );
        }
    }
    text
}

/// What the newest drill of the time was measured against.
fn promised(one: &Report) -> Option<u64> {
    let drills = one.drills.as_ref().ok()?;
    let runs = drills.drills.iter().filter_map(|one| one.drill.as_ref()?.run.as_ref());
    runs.filter_map(|run| run.objectives.rto_ms).next_back()
}

fn source(one: &Report, first: bool) -> Markup {
    page! {
        h2 class=[first.then_some("first")] { (one.status.source) }
        ul { @for fact in facts(one) { li { (fact) } } }
        @if let Ok(drills) = &one.drills {
            p { (rto(one, drills)) }
            @let time = (one.from, one.to);
            figure { figcaption { "What was proven, and when" } (timeline(time, drills)) }
            @if drills.drills.iter().any(|one| one.drill.is_some()) {
                figure {
                    figcaption { "How long restores took, against the RTO" }
                    (restores(time, drills, promised(one)))
                }
                figure { figcaption { "Phases of the last drills" } (phases(drills)) }
            }
            table {
                thead { tr { @for head in HEAD { th { (head) } } } }
                tbody {
                    @for (cells, tone) in drills.drills.iter().map(row) {
                        tr {
                            @for (n, cell) in cells.iter().enumerate() {
                                td class=[(n == 2).then_some(class(tone))] { (cell) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn class(tone: Tone) -> &'static str {
    match tone {
        Tone::Good => "good",
        Tone::Bad => "bad",
        Tone::Neither => "neither",
    }
}

/// A page for a text editor.
pub(super) fn markdown(of: &Page<'_>) -> String {
    let mut text = format!("# {}\n\n{}\n\n", title(of), cell(&about(of)));
    table(&mut text, &SUMMARY, of.reports.iter().map(|one| summary_row(one).to_vec()));
    for one in of.reports {
        let _ = write!(text, "\n## {}\n\n", cell(&one.status.source.to_string()));
        for fact in facts(one) {
            let _ = writeln!(text, "- {}", cell(&fact));
        }
        if let Ok(drills) = &one.drills {
            let _ = write!(text, "- {}\n\n", cell(&rto(one, drills)));
            let rows = drills.drills.iter().map(|one| row(one).0.to_vec());
            table(&mut text, &HEAD, rows);
        }
    }
    let _ = write!(text, "\n{CHECK}\n");
    text
}

fn table(text: &mut String, head: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    let _ = writeln!(text, "| {} |", head.join(" | "));
    let _ = writeln!(text, "|{}", "---|".repeat(head.len()));
    for row in rows {
        let cells: Vec<String> = row.iter().map(|text| cell(text)).collect();
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    }
}

/// Text that may hold somebody else's words: nothing in it is a sign of Markdown or HTML.
fn cell(text: &str) -> String {
    let signs = |c: char| "\\`*_[]<>|#&~!".contains(c);
    line(text).chars().fold(String::new(), |mut out, c| {
        if signs(c) {
            out.push('\\');
        }
        out.push(c);
        out
    })
}
