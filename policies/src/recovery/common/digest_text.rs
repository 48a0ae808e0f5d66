use std::fmt::Write as _;

use drctl_model::BackupId;

use super::{Leg, Lines};

/// What decides the result of a recovery, and what is told before it: what an operator agrees to.
pub(crate) struct Agreed<'a, L: Lines> {
    pub(crate) base: &'a BackupId,
    /// Where the base is consistent.
    pub(crate) consistent: L::At,
    /// What is followed.
    pub(crate) lineage: L::Lineage,
    /// The target on one line, no two alike.
    pub(crate) target: &'a str,
    /// The log to replay.
    pub(crate) path: &'a [Leg<L>],
    /// The warnings that count, each on one line.
    pub(crate) warnings: &'a [String],
}

impl<L: Lines> Agreed<'_, L> {
    /// As lines of text: a digest over them can be shown and asked back.
    pub(crate) fn text(&self) -> String {
        let mut text = String::from("drctl recovery plan 1\n");
        let mut line = |line: std::fmt::Arguments<'_>| {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{line}");
        };
        line(format_args!("base {}", self.base));
        line(format_args!("consistent {}", self.consistent));
        line(format_args!("{} {}", L::LINEAGE, self.lineage));
        line(format_args!("target {}", self.target));
        for (index, leg) in self.path.iter().enumerate() {
            // The last one ends with the piece that holds the target, or with all there is.
            let last = index.saturating_add(1) == self.path.len();
            match last {
                true => line(format_args!("log {} {}", leg.lineage, leg.from)),
                false => line(format_args!("log {} {} {}", leg.lineage, leg.from, leg.until)),
            }
        }
        for warning in self.warnings {
            line(format_args!("warning {warning}"));
        }
        text
    }
}
