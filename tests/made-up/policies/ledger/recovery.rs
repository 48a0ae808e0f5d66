//! How a ledger is brought to a target: by what all engines have in common.

use std::collections::BTreeMap;
use std::fmt;

use drctl_model::{BackupId, LogEntry, Position};

use crate::recovery::common::{Archive, Base, Goal, Lines, Path, search};
use crate::recovery::{Stood, Target};

/// A position: the number of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LedgerAt(pub u64);

impl fmt::Display for LedgerAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "entry {}", self.0)
    }
}

impl Position for LedgerAt {
    fn of(number: u64) -> LedgerAt {
        LedgerAt(number)
    }

    fn number(self) -> u64 {
        self.0
    }
}

/// One ledger: nothing leads from it to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Book;

impl fmt::Display for Book {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the ledger")
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Books;

impl Lines for Books {
    const LINEAGE: &'static str = "ledger";

    type Lineage = Book;
    type At = LedgerAt;
    type Known = ();

    fn ancestors((): &(), _: Book) -> Option<Vec<(Book, LedgerAt)>> {
        Some(Vec::new())
    }

    fn amount((): &(), from: LedgerAt, until: LedgerAt) -> u64 {
        until.since(from)
    }
}

/// A snapshot: the first entry that is not in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerBase {
    /// Which.
    pub backup: BackupId,
    /// The next entry.
    pub next: LedgerAt,
    /// When it was taken.
    pub taken: jiff::Timestamp,
    /// Whether it is good.
    pub good: bool,
}

/// What leads to a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerPlan {
    /// The snapshot to begin with.
    pub base: BackupId,
    /// The first entry that is handed over.
    pub from: LedgerAt,
    /// No entry from here on is.
    pub until: LedgerAt,
    /// What the result will not hold.
    pub left_out: Vec<String>,
}

/// Plans by what there is of one ledger. To its end, or up to a position, which is an entry's number.
///
/// # Errors
/// Why nothing leads there.
pub fn plan_ledger(
    bases: Vec<LedgerBase>,
    log: Vec<LogEntry<LedgerAt>>,
    target: &Target,
) -> Result<LedgerPlan, String> {
    let goal = match target {
        Target::Latest => Goal::Latest,
        // All before the entry, or that one too.
        Target::Lsn { lsn, inclusive } => {
            Goal::Position { at: LedgerAt(lsn.0 + u64::from(*inclusive)), inclusive: false }
        }
        Target::Time(_) | Target::Xid { .. } | Target::Name(_) => {
            return Err("a ledger is brought to its end or to a position".to_owned());
        }
    };
    let bases = bases.into_iter().map(|base| Base {
        backup: base.backup,
        lineage: Book,
        start: base.next,
        stop: base.next,
        stood: Stood::Server(base.taken),
        good: base.good,
    });
    let end = log.iter().map(|entry| entry.end).max();
    let archive: Archive<Books> = Archive::of(bases.collect(), BTreeMap::from([(Book, log)]), ());
    let path = Path::to(&archive, Book).ok_or("there is no such ledger")?;
    let (plan, _) = search(&path, &goal).map_err(|why| format!("{why:?}"))?.plan(&goal);
    let until = match goal {
        Goal::Position { at, .. } => at,
        _ => plan.until,
    };
    let from = plan.path.first().map_or(plan.consistent, |leg| leg.from);
    let behind = end.filter(|end| goal == Goal::Latest && *end > until);
    let left_out = behind.map(|end| format!("the log up to {end}, behind a gap at {until}"));
    Ok(LedgerPlan { base: plan.base, from, until, left_out: left_out.into_iter().collect() })
}
