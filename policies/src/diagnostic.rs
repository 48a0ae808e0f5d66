use std::cell::RefCell;
use std::fmt;
use std::ops::Range;

/// A file of the configuration, read by the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// The path as diagnostics show it; a policy's name is its file stem.
    pub name: String,
    /// What the file holds.
    pub text: String,
}

/// One mistake in a configuration, and where it is.
///
/// Shows names of keys and harmless values, never what might be a secret.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Diagnostic {
    /// The name of the [`SourceFile`].
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What to do about it, as a sentence or a question.
    pub suggestion: Option<String>,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)?;
        match &self.suggestion {
            Some(suggestion) => write!(f, ": {suggestion}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Diagnostic {}

/// Collects what is wrong with one file.
pub(crate) struct Report<'a> {
    file: &'a SourceFile,
    found: RefCell<Vec<Diagnostic>>,
}

impl<'a> Report<'a> {
    pub(crate) fn new(file: &'a SourceFile) -> Self {
        Report { file, found: RefCell::default() }
    }

    pub(crate) fn file(&self) -> &'a SourceFile {
        self.file
    }

    pub(crate) fn text(&self) -> &'a str {
        &self.file.text
    }

    /// A mistake without advice.
    pub(crate) fn error(&self, span: &Range<usize>, message: impl Into<String>) {
        self.push(span, message.into(), None);
    }

    /// A mistake, and what to do about it.
    pub(crate) fn advise(
        &self,
        span: &Range<usize>,
        message: impl Into<String>,
        suggestion: impl Into<String>,
    ) {
        self.push(span, message.into(), Some(suggestion.into()));
    }

    pub(crate) fn push(&self, span: &Range<usize>, message: String, suggestion: Option<String>) {
        let (line, column) = position(&self.file.text, span.start);
        let file = self.file.name.clone();
        self.found.borrow_mut().push(Diagnostic { file, line, column, message, suggestion });
    }

    /// Everything found, in the order of the file.
    pub(crate) fn into_found(self) -> Vec<Diagnostic> {
        let mut found = self.found.into_inner();
        found.sort_by(|a, b| (a.line, a.column, &a.message).cmp(&(b.line, b.column, &b.message)));
        found.dedup();
        found
    }
}

/// Line and column of a byte, both from 1; the column counts characters.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..text.floor_char_boundary(offset)];
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let line = before.bytes().filter(|b| *b == b'\n').count() + 1;
    // A byte order mark takes no column in an editor.
    let column = before[line_start..].chars().filter(|c| *c != '\u{feff}').count() + 1;
    (line, column)
}

/// A value as a message may show it: printable, and of bounded length.
pub(crate) fn show(text: &str) -> String {
    let mut shown: String = text.chars().take(60).flat_map(char::escape_debug).collect();
    if text.chars().nth(60).is_some() {
        shown.push('…');
    }
    shown
}

/// The candidate that was probably meant.
pub(crate) fn nearest<'c>(
    text: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<&'c str> {
    // Comparing is quadratic in the length; nothing we know is longer than this.
    if text.len() > 80 {
        return None;
    }
    let plain = |text: &str| text.to_lowercase().replace('-', "_");
    let wanted = plain(text);
    let allowed = (wanted.chars().count() / 3).clamp(1, 3);
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&wanted, &plain(candidate)), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// "did you mean …?", when something near is known.
pub(crate) fn did_you_mean<'c>(
    text: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<String> {
    nearest(text, candidates).map(|found| format!("did you mean `{found}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters() {
        let text = "a\nüx\r\n";
        let cases = [(0, (1, 1)), (2, (2, 1)), (3, (2, 1)), (4, (2, 2)), (99, (3, 1))];
        for (offset, expected) in cases {
            assert_eq!(position(text, offset), expected, "{offset}");
        }
        assert_eq!(position("\u{feff}ab", 4), (1, 2));
    }

    #[test]
    fn the_nearest_name() {
        let known = ["schedule", "retention", "daily", "weekly", "cron", "gs"];
        let cases = [
            ("retenton", Some("retention")),
            ("Schedule", Some("schedule")),
            ("corn", Some("cron")),
            ("dayly", Some("daily")),
            ("gz", Some("gs")),
            ("yearly", None),
            ("", None),
            ("completely-different", None),
        ];
        for (text, expected) in cases {
            assert_eq!(nearest(text, known), expected, "{text}");
        }
    }

    #[test]
    fn shown_values_are_bounded_and_printable() {
        assert_eq!(show("a\nb"), "a\\nb");
        assert!(show(&"x".repeat(5000)).chars().count() <= 61);
    }
}
