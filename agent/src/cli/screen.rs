use std::io::{self, IsTerminal as _, Write as _};
use std::sync::{Mutex, PoisonError};

use drctl_model::{printable, printable_json, shown};
use drctl_store::Alarm;
use rustix::fs::{OFlags, fcntl_getfl, fstat};
use serde_json::{Value, json};

pub(super) use crate::host::figures::count;
use crate::host::{AgentError, Failure};

/// Why an answer was not written.
static LOST: Mutex<Option<io::ErrorKind>> = Mutex::new(None);

fn print(text: &str) {
    let mut out = io::stdout().lock();
    if let Err(error) = writeln!(out, "{text}").and_then(|()| out.flush()) {
        *LOST.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.kind());
    }
}

/// How much of a name from the bucket or a server is shown, in characters.
pub(super) const NAME_SHOWN: usize = 100;

/// How much of a text from the bucket or a server is shown, in characters.
pub(super) const TEXT_SHOWN: usize = 500;

/// Where a command's words go: data to standard output, everything for people to standard error.
#[derive(Debug, Clone, Copy)]
pub(super) struct Screen {
    /// One JSON object instead of text.
    pub(super) json: bool,
    /// Nothing but the answer and errors.
    pub(super) quiet: bool,
}

impl Screen {
    /// Prints data.
    pub(super) fn out(self, text: impl AsRef<str>) {
        print(&printable(text.as_ref()));
    }

    fn object(self, object: &Value) {
        print(&printable_json(&object.to_string()));
    }

    /// How the writing of answers failed, if it did: a reader that went away, or a full disk.
    #[must_use]
    pub(super) fn lost(self) -> Option<io::ErrorKind> {
        *LOST.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes on what another process of ours printed, and what it told people.
    pub(super) fn pass_on(self, out: &str, told: &str) {
        if !out.is_empty() {
            print(out.trim_end());
        }
        let _ = io::stderr().write_all(told.as_bytes());
    }

    /// Tells a person something; nothing in JSON mode, nothing when quiet.
    pub(super) fn say(self, text: impl AsRef<str>) {
        if !self.json && !self.quiet {
            let _ = writeln!(io::stderr(), "{}", printable(text.as_ref()));
        }
    }

    /// Warns on standard error in one line, also when quiet: whoever reads it must act.
    pub(super) fn warn(self, text: impl AsRef<str>) {
        let _ = writeln!(io::stderr(), "warning: {}", line(text.as_ref()));
    }

    /// Prints the command's answer: the object in JSON mode, else the text.
    pub(super) fn answer(self, schema: &str, mut object: Value, text: impl FnOnce() -> String) {
        if self.json {
            object["schema"] = json!(schema);
            self.object(&object);
        } else {
            let text = text();
            if !text.is_empty() {
                self.out(text.trim_end());
            }
        }
    }

    /// Prints an error: an object on standard output in JSON mode, else words on standard error.
    pub(super) fn fail(self, failure: &Failure) {
        if self.json {
            let object = json!({
                "schema": "drctl.error/1",
                "code": failure.code,
                "exit": failure.exit.code(),
                "messages": failure.messages,
                "hint": failure.hint,
            });
            self.object(&object);
            return;
        }
        let mut text = format!("error: {}", under(&failure.messages.join(": ")));
        if let Some(hint) = &failure.hint {
            text.push_str("\nhint: ");
            text.push_str(&under(hint));
        }
        let _ = writeln!(io::stderr(), "{}", printable(&text));
    }

    /// Refuses an answer that is the work itself where nobody can have it: a standard output that was
    /// closed was opened on nothing by the runtime, for reading too, which no redirection does.
    ///
    /// # Errors
    /// [`AgentError::Target`].
    pub(super) fn arrives(self) -> Result<(), AgentError> {
        let output = io::stdout();
        let both_ways = fcntl_getfl(&output).is_ok_and(|flags| flags.contains(OFlags::RDWR));
        let place = |found: rustix::fs::Stat| (found.st_dev, found.st_ino);
        let nothing = rustix::fs::stat("/dev/null").ok().map(place);
        if both_ways && nothing.is_some() && fstat(&output).ok().map(place) == nothing {
            return Err(AgentError::Target(
                "standard output is closed, so the output would be lost: nothing was done"
                    .to_owned(),
            ));
        }
        Ok(())
    }

    /// Whether a person reads standard error.
    #[must_use]
    pub(super) fn is_terminal(self) -> bool {
        io::stderr().is_terminal()
    }
}

/// Text that may hold somebody else's words, in one line and whole.
#[must_use]
pub(super) fn line(text: &str) -> String {
    shown(text, usize::MAX)
}

/// Lines behind the first one moved to the right: none of them passes for one of ours.
#[must_use]
pub(super) fn under(text: &str) -> String {
    let mut lines = text.split('\n');
    let mut moved = lines.next().unwrap_or_default().to_owned();
    for line in lines {
        moved += if line.starts_with(' ') { "\n" } else { "\n  " };
        moved += line;
    }
    moved
}

/// How many characters fit into a line of the terminal that standard output is, if it is one.
fn room() -> Option<usize> {
    let out = io::stdout();
    if !out.is_terminal() {
        return None;
    }
    let columns = usize::from(rustix::termios::tcgetwinsize(&out).ok()?.ws_col);
    (columns > 0).then_some(columns)
}

/// Rows as columns, left-aligned, the first row a heading. Where a terminal is too narrow for them,
/// each row as a block of its own.
#[must_use]
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| line(cell)).collect()).collect();
    let text = columns(&rows, true);
    let widest = text.lines().map(|line| line.chars().count()).max().unwrap_or(0);
    match room() {
        Some(room) if widest > room => blocks(&rows, room),
        _ => text,
    }
}

/// Rows as columns, without a heading. Where a terminal is too narrow for them, each row's first cell,
/// and the others below it as they fit.
#[must_use]
pub(super) fn plain_table(rows: &[Vec<String>]) -> String {
    let text = columns(rows, false);
    let widest = text.lines().map(|line| line.chars().count()).max().unwrap_or(0);
    match room() {
        Some(room) if widest > room => folded(rows, room),
        _ => text,
    }
}

fn folded(rows: &[Vec<String>], room: usize) -> String {
    let mut lines: Vec<String> = Vec::new();
    for row in rows {
        let mut line = String::new();
        for cell in row.iter().filter(|cell| !cell.is_empty()) {
            let full = line.chars().count() + 2 + cell.chars().count() > room;
            if full && !line.is_empty() {
                lines.push(std::mem::replace(&mut line, "   ".to_owned()));
            }
            if !line.is_empty() {
                line.push_str("  ");
            }
            line.push_str(cell);
        }
        lines.push(line);
    }
    lines.join("\n")
}

/// Words in lines as a terminal has room for them, each but the first behind `indent` blanks; as it
/// is where standard output is none.
#[must_use]
pub(super) fn words(text: &str, indent: usize) -> String {
    room().map_or_else(|| text.to_owned(), |room| broken(text, indent, room))
}

fn broken(text: &str, indent: usize, room: usize) -> String {
    let mut lines = String::new();
    let mut width = 0;
    for (at, word) in text.split(' ').enumerate() {
        let length = word.chars().count();
        if at > 0 && width + 1 + length > room && width > indent {
            lines.truncate(lines.trim_end().len());
            lines.push('\n');
            lines.push_str(&" ".repeat(indent));
            width = indent;
        } else if at > 0 {
            lines.push(' ');
            width += 1;
        }
        lines.push_str(word);
        width += length;
    }
    lines
}

/// Each row as a block: its first cell, and below it the others behind their headings.
fn blocks(rows: &[Vec<String>], room: usize) -> String {
    let Some((head, rows)) = rows.split_first() else { return String::new() };
    let mut lines: Vec<String> = Vec::new();
    for row in rows {
        let mut cells = row.iter();
        lines.push(cells.next().cloned().unwrap_or_default());
        let mut line = String::new();
        for (cell, name) in cells.zip(&head[1..]).filter(|(cell, _)| !cell.is_empty()) {
            let pair = format!("  {} {cell}", name.to_lowercase());
            if !line.is_empty() && line.chars().count() + pair.chars().count() > room {
                lines.push(std::mem::take(&mut line));
            }
            line.push_str(&pair);
        }
        lines.push(line);
    }
    lines.join("\n")
}

/// Rows as columns. Without a heading a cell behind which its row is empty makes no column wider.
fn columns(rows: &[Vec<String>], headed: bool) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let counts = |row: &[String], column: usize| {
        headed || row.iter().skip(column + 1).any(|cell| !cell.is_empty())
    };
    let width = |column: usize| {
        let cells = rows.iter().filter(|row| counts(row, column));
        let cells = cells.filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// What was seen of objects that somebody meddled with, as JSON.
pub(super) fn alarms_json(alarms: &[Alarm]) -> serde_json::Value {
    let entry =
        |alarm: &Alarm| json!({ "key": alarm.key, "code": alarm.odd.code(), "text": alarm.text() });
    alarms.iter().map(entry).collect()
}

/// The same for people, a line each.
pub(super) fn alarms_text(alarms: &[Alarm]) -> String {
    alarms.iter().map(|alarm| format!("\nALARM: {}", shown(&alarm.text(), TEXT_SHOWN))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_are_counted() {
        assert_eq!(count(0, "row"), "0 rows");
        assert_eq!(count(1, "row"), "1 row");
    }

    #[test]
    fn rows_that_are_too_wide_become_blocks() {
        let row = |cells: [&str; 4]| cells.map(str::to_owned).to_vec();
        let rows =
            [row(["BACKUP", "SOURCE", "SIZE", "STATE"]), row(["b1", "shop", "5.4 MiB", "good"])];
        assert_eq!(blocks(&rows, 80), "b1\n  source shop  size 5.4 MiB  state good");
        assert_eq!(blocks(&rows, 30), "b1\n  source shop  size 5.4 MiB\n  state good");
    }

    #[test]
    fn rows_without_a_heading_and_sentences_are_broken_where_there_is_no_room() {
        let rows =
            [["copy", "0/700100", "2026-03-01", "20260301T000000Z-1"].map(str::to_owned).to_vec()];
        let text = folded(&rows, 30);
        assert_eq!(text, "copy  0/700100  2026-03-01\n     20260301T000000Z-1");
        assert_eq!(
            broken("ok    check   one two three", 8, 16),
            "ok    check\n        one two\n        three"
        );
        assert_eq!(broken("averyveryverylongword", 2, 10), "averyveryverylongword");
    }

    #[test]
    fn columns_line_up() {
        let rows = [vec!["A".into(), "B".into()], vec!["long".into(), "x".into()]];
        assert_eq!(columns(&rows, true), "A     B\nlong  x");
        let rows = [["log", "0", "to 1"], ["GAP", "no log from here on", ""]];
        let rows = rows.map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(columns(&rows, false), "log  0  to 1\nGAP  no log from here on");
    }
}
