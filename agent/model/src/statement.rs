use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{BackupId, Header, ManifestError, RepositoryId, Role, SourceId};

/// The most characters of a reason.
pub const MAX_REASON: usize = 500;

/// The highest number of a statement.
pub const MAX_STATEMENT: u64 = 999_999;

/// So many numbers may not be missing between a statement and the one before it that counts; those under
/// which something lies are not. So nobody uses up all numbers by writing one.
pub const MOST_MISSING: usize = 500;

/// The most numbers that one statement leaves out.
pub const MAX_WITHOUT: usize = 1_000;

/// What is said of a source, or of one of its backups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stated {
    /// A backup stays whatever the policy says.
    Pin,
    /// It does not have to any more.
    Unpin,
    /// A backup, or all of a source, is on legal hold.
    Hold,
    /// It is not any more.
    Release,
    /// Nothing of a source may go.
    Freeze,
    /// It may again; or statements are left out, which ends no freeze.
    Unfreeze,
}

impl Stated {
    /// All of them.
    pub const ALL: [Stated; 6] = [
        Stated::Pin,
        Stated::Unpin,
        Stated::Hold,
        Stated::Release,
        Stated::Freeze,
        Stated::Unfreeze,
    ];

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Stated::Pin => "pin",
            Stated::Unpin => "unpin",
            Stated::Hold => "hold",
            Stated::Release => "release",
            Stated::Freeze => "freeze",
            Stated::Unfreeze => "unfreeze",
        }
    }

    /// Who may say it: a key with one of these roles. Whoever writes may say that something stays.
    #[must_use]
    pub fn roles(self) -> &'static [Role] {
        match self {
            Stated::Pin | Stated::Hold | Stated::Freeze => &Role::ALL,
            Stated::Unpin => &[Role::Prune, Role::Backup],
            Stated::Release | Stated::Unfreeze => &[Role::Prune],
        }
    }

    /// Whether it ends what another one began.
    #[must_use]
    pub fn lifts(self) -> bool {
        matches!(self, Stated::Unpin | Stated::Release | Stated::Unfreeze)
    }
}

impl fmt::Display for Stated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is signed when somebody says what of a source has to stay. Statements are numbered, and count
/// in the order of their numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// What is read before the rest.
    #[serde(flatten)]
    pub header: Header,
    /// The repository it was written into.
    pub repository: RepositoryId,
    /// The source.
    pub source: SourceId,
    /// Its number: from 1 on.
    pub n: u64,
    /// What is said.
    pub statement: Stated,
    /// Of which backup; nothing where it is said of the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<BackupId>,
    /// Why.
    pub reason: String,
    /// Numbers of statements that are gone or not believed, and are left out from now on: of
    /// [`Stated::Unfreeze`] alone, which then ends no freeze.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub without: Vec<u64>,
    /// The host on which it was said.
    pub host: String,
    /// The account that said it.
    pub account: String,
    /// When (clock of the host).
    pub at: Timestamp,
}

impl Statement {
    /// Whether it lies where it says that it belongs, and says something.
    ///
    /// # Errors
    /// [`ManifestError::Misplaced`], [`ManifestError::Inconsistent`].
    pub fn check(
        &self,
        repository: &RepositoryId,
        (source, n): (&SourceId, u64),
    ) -> Result<(), ManifestError> {
        if &self.repository != repository || &self.source != source || self.n != n {
            return Err(ManifestError::Misplaced(format!(
                "the statement {} of {} in repository {}",
                self.n, self.source, self.repository
            )));
        }
        let odd = |what: String| Err(ManifestError::Inconsistent(what));
        let fits = match self.statement {
            Stated::Pin | Stated::Unpin => self.backup.is_some(),
            Stated::Hold | Stated::Release => true,
            Stated::Freeze | Stated::Unfreeze => self.backup.is_none(),
        };
        if !fits {
            return odd(format!("whose {} it is does not fit", self.statement));
        }
        if !self.without.is_empty() && self.statement != Stated::Unfreeze {
            return odd(format!(
                "it is no unfreeze ({}), and leaves statements out",
                self.statement
            ));
        }
        if self.without.len() > MAX_WITHOUT {
            return odd(format!("it leaves out more than {MAX_WITHOUT} statements"));
        }
        if self.without.iter().any(|n| *n > MAX_STATEMENT) {
            return odd("it leaves out a number that no statement has".to_owned());
        }
        match is_reason(&self.reason) {
            true => Ok(()),
            false => odd("its reason is empty, too long, or has control characters".to_owned()),
        }
    }
}

/// Whether a statement may follow the last one: by what is `taken`, in order, and by what it leaves out
/// itself.
fn follows(last: u64, n: u64, own: &[u64], taken: &[u64]) -> bool {
    let below = |n: u64| taken.partition_point(|one| *one < n);
    let between = last + 1..n;
    let is_new = |own: &&u64| between.contains(own) && taken.binary_search(own).is_err();
    let own: BTreeSet<&u64> = own.iter().filter(is_new).collect();
    let known = below(n) - below(last + 1) + own.len();
    n - last - 1 < (MOST_MISSING + known) as u64
}

/// The numbers that statements leave out, which are in the order of their numbers. One that an earlier one
/// leaves out leaves nothing out itself.
fn left_out<'a>(all: impl IntoIterator<Item = &'a Statement>) -> BTreeSet<u64> {
    let mut without = BTreeSet::new();
    for said in all {
        if !without.contains(&said.n) {
            without.extend(&said.without);
        }
    }
    without
}

/// Whether a text can be a reason: 1 to 500 characters, none of which a terminal would obey.
#[must_use]
pub fn is_reason(text: &str) -> bool {
    crate::is_line(text, MAX_REASON) && !text.trim().is_empty()
}

/// What of all that was said stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InForce {
    /// Backups that are pinned.
    pub pins: BTreeMap<BackupId, Statement>,
    /// Backups that are on legal hold.
    pub holds: BTreeMap<BackupId, Statement>,
    /// That all of the source is on legal hold.
    pub hold: Option<Statement>,
    /// That nothing of the source may go.
    pub freeze: Option<Statement>,
    /// Numbers of statements that somebody who may has left out.
    pub without: BTreeSet<u64>,
}

impl InForce {
    /// Whether a backup is pinned or on legal hold by itself.
    #[must_use]
    pub fn names(&self, backup: &BackupId) -> bool {
        self.pins.contains_key(backup) || self.holds.contains_key(backup)
    }

    /// What stands after all of these, which are in the order of their numbers. What is said twice
    /// stands since it was said first; what is left out counts for nothing, whoever signed it.
    #[must_use]
    pub fn of<'a>(all: impl IntoIterator<Item = &'a Statement> + Clone) -> Self {
        let mut found = InForce { without: left_out(all.clone()), ..InForce::default() };
        for said in all {
            if !found.without.contains(&said.n) {
                found.take(said);
            }
        }
        found
    }

    fn take(&mut self, said: &Statement) {
        match (said.statement, &said.backup) {
            (Stated::Pin, Some(backup)) => {
                self.pins.entry(backup.clone()).or_insert_with(|| said.clone());
            }
            (Stated::Unpin, Some(backup)) => drop(self.pins.remove(backup)),
            (Stated::Hold, Some(backup)) => {
                self.holds.entry(backup.clone()).or_insert_with(|| said.clone());
            }
            (Stated::Release, Some(backup)) => drop(self.holds.remove(backup)),
            (Stated::Hold, None) => drop(self.hold.get_or_insert_with(|| said.clone())),
            (Stated::Release, None) => self.hold = None,
            (Stated::Freeze, _) => drop(self.freeze.get_or_insert_with(|| said.clone())),
            (Stated::Unfreeze, _) if said.without.is_empty() => self.freeze = None,
            // Whoever explains a loss, or a stranger's object, ends nothing by that.
            (Stated::Unfreeze, _) => {}
            // None of these passes its check.
            (Stated::Pin | Stated::Unpin, None) => {}
        }
    }

    /// The number up to which statements follow each other, given all that are `signed` by whom we trust,
    /// the numbers of those that only a `newer` program reads, and all numbers under which something `lies`.
    #[must_use]
    pub fn last_in_order<'a>(
        signed: impl IntoIterator<Item = &'a Statement> + Clone,
        newer: &BTreeSet<u64>,
        lies: &BTreeSet<u64>,
    ) -> u64 {
        let mut all: BTreeMap<u64, &[u64]> = newer.iter().map(|n| (*n, &[][..])).collect();
        all.extend(signed.into_iter().map(|said| (said.n, &said.without[..])));
        let (mut last, mut without) = (0, BTreeSet::new());
        let mut taken: BTreeSet<u64> = lies.iter().chain(all.keys()).copied().collect();
        loop {
            let numbers: Vec<u64> = taken.iter().copied().collect();
            let leads = |(n, own): &(&u64, &&[u64])| {
                !without.contains(*n) && follows(last, **n, own, &numbers)
            };
            let Some((next, _)) = all.range(last + 1..).find(leads) else { return last };
            let next = *next;
            // What is left out may lead on to others, and counts for nothing itself.
            for (n, own) in all.range(last + 1..=next) {
                if !without.contains(n) {
                    without.extend(own.iter().copied());
                }
            }
            taken.extend(&without);
            last = next;
        }
    }

    /// The highest number that a statement may have behind this one, given the numbers that are left out or
    /// under which something lies.
    #[must_use]
    pub fn limit(last: u64, taken: &BTreeSet<u64>) -> u64 {
        let missing = (last + 1..=MAX_STATEMENT).filter(|n| !taken.contains(n));
        missing.take(MOST_MISSING).last().unwrap_or(MAX_STATEMENT)
    }

    /// The statement by which what such a one says stands already, or that such a one would lift.
    #[must_use]
    pub fn about(&self, stated: Stated, backup: Option<&BackupId>) -> Option<&Statement> {
        match (stated, backup) {
            (Stated::Pin | Stated::Unpin, backup) => self.pins.get(backup?),
            (Stated::Hold | Stated::Release, Some(backup)) => self.holds.get(backup),
            (Stated::Hold | Stated::Release, None) => self.hold.as_ref(),
            (Stated::Freeze | Stated::Unfreeze, _) => self.freeze.as_ref(),
        }
    }

    /// Whether the statement of this number is one that stands.
    #[must_use]
    pub fn has(&self, n: u64) -> bool {
        let single = self.hold.iter().chain(&self.freeze);
        self.pins.values().chain(self.holds.values()).chain(single).any(|said| said.n == n)
    }

    /// The numbers that are missing before the highest of those that are there, as stretches from the
    /// first to the last of each; those that were left out are none.
    #[must_use]
    pub fn gaps(&self, there: &BTreeSet<u64>) -> Vec<(u64, u64)> {
        let Some(highest) = there.last() else { return Vec::new() };
        let known: BTreeSet<u64> =
            there.iter().chain(self.without.range(..highest)).copied().collect();
        let (mut found, mut wanted) = (Vec::new(), 1);
        for n in known {
            if n > wanted {
                found.push((wanted, n - 1));
            }
            wanted = n.max(wanted - 1) + 1;
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(n: u64, statement: Stated, backup: Option<u64>) -> Statement {
        Statement {
            header: Header::new([]),
            repository: RepositoryId::new(7),
            source: "shop".parse().unwrap(),
            n,
            statement,
            backup: backup.map(|n| BackupId::new(Timestamp::UNIX_EPOCH, n)),
            reason: format!("reason {n}"),
            without: Vec::new(),
            host: "db1".to_owned(),
            account: "postgres".to_owned(),
            at: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn what_was_said_last_stands_and_a_hold_is_no_pin() {
        use Stated::{Freeze, Hold, Pin, Release, Unfreeze, Unpin};
        let all = [
            said(1, Pin, Some(1)),
            said(2, Hold, Some(1)),
            said(3, Pin, Some(1)),
            said(4, Unpin, Some(1)),
            said(5, Hold, None),
            said(6, Freeze, None),
            said(7, Freeze, None),
            said(8, Unpin, Some(2)),
        ];
        let before = all.clone();
        let found = InForce::of(&all);
        assert!(found.pins.is_empty(), "said twice, it is lifted once");
        assert_eq!(found.holds.values().map(|said| said.n).collect::<Vec<_>>(), [2]);
        assert_eq!(found.hold.as_ref().map(|said| said.n), Some(5));
        assert_eq!(found.freeze.as_ref().map(|said| said.n), Some(6), "it stands since the first");
        assert_eq!((1..=8).filter(|n| found.has(*n)).collect::<Vec<_>>(), [2, 5, 6]);
        let lifted = [said(9, Release, None), said(10, Unfreeze, None), said(11, Release, Some(1))];
        assert_eq!(InForce::of(all.iter().chain(&lifted)), InForce::default());
        // Whoever leaves a stranger's object out ends no freeze.
        let without = Statement { without: vec![8], ..said(9, Unfreeze, None) };
        let found = InForce::of(all.iter().chain([&without]));
        assert_eq!(found.freeze.map(|said| said.n), Some(6));
        assert_eq!(found.without, [8].into());
        // What is left out counts for nothing, before and behind whoever says so; and leaves nothing out.
        let without = |n, without: Vec<u64>| Statement { without, ..said(n, Unfreeze, None) };
        let all = [
            said(1, Pin, Some(1)),
            said(2, Freeze, None),
            said(3, Unpin, Some(1)),
            without(4, vec![3, 5, 6]),
            said(5, Unfreeze, None),
            without(6, vec![1, 2]),
        ];
        let found = InForce::of(&all);
        assert_eq!((found.pins.len(), found.freeze.map(|said| said.n)), (1, Some(2)));
        assert_eq!(found.without, [3, 5, 6].into());
        // A hold of the source is not lifted with one of a backup.
        assert!(InForce::of(before.iter().chain(&lifted[2..])).hold.is_some());
    }

    #[test]
    fn numbers_that_are_missing_are_told_unless_they_were_left_out() {
        let gaps = |without: &[u64], there: &[u64]| {
            let in_force =
                InForce { without: without.iter().copied().collect(), ..InForce::default() };
            in_force.gaps(&there.iter().copied().collect())
        };
        assert_eq!(gaps(&[], &[]), []);
        assert_eq!(gaps(&[], &[1, 2, 3]), []);
        assert_eq!(gaps(&[], &[1, 2, 4]), [(3, 3)]);
        assert_eq!(gaps(&[], &[2, 999_999]), [(1, 1), (3, 999_998)]);
        assert_eq!(gaps(&[3], &[1, 2, 4]), []);
        assert_eq!(gaps(&[3, 9], &[1, 2, 5]), [(4, 4)]);
        assert_eq!(gaps(&[0, 7], &[1, 2]), [], "nothing is expected behind the last");
    }

    #[test]
    fn a_number_behind_too_many_missing_ones_leads_nowhere() {
        let numbers = |all: &[u64]| all.iter().copied().collect::<BTreeSet<u64>>();
        let last = |signed: &[Statement], newer: &[u64]| {
            InForce::last_in_order(signed, &numbers(newer), &BTreeSet::new())
        };
        let freeze = |n| said(n, Stated::Freeze, None);
        let without =
            |n, without: Vec<u64>| Statement { without, ..said(n, Stated::Unfreeze, None) };
        assert_eq!(last(&[], &[]), 0);
        assert_eq!(last(&[freeze(1), freeze(2), freeze(502)], &[]), 502);
        assert_eq!(last(&[freeze(1), freeze(2), freeze(503)], &[]), 2);
        assert_eq!(last(&[freeze(1), freeze(MAX_STATEMENT)], &[400, 900]), 900);
        // What somebody left out leads on, and a far number that is left out does not.
        let explained = without(3, (4..=600).collect());
        assert_eq!(last(&[freeze(2), explained.clone(), freeze(700)], &[]), 700);
        assert_eq!(last(&[freeze(2), without(3, vec![0, 700]), freeze(700)], &[]), 3);
        // Whoever leaves out what is missing before himself brings others back, and gets no further.
        assert_eq!(last(&[freeze(2), freeze(602), without(603, (3..=600).collect())], &[]), 603);
        assert_eq!(last(&[freeze(2), without(1503, (3..=1002).collect())], &[]), 2);
        assert_eq!(last(&[freeze(2), without(700, vec![700, 701, 0])], &[]), 2);
        // One that was left out is no way to another, and never counts.
        let far = [freeze(2), without(3, vec![400]), freeze(400), freeze(890)];
        assert_eq!(last(&far[..3], &[]), 3);
        assert_eq!(last(&far, &[]), 3, "486 and 399 are missing");
        // Numbers that a stranger took are not missing, and one far away is no way to it.
        let lies = |signed: &[Statement], lies: &[u64]| {
            InForce::last_in_order(signed, &BTreeSet::new(), &numbers(lies))
        };
        let junk: Vec<u64> = (3..=2000).collect();
        assert_eq!(lies(&[freeze(2), freeze(2001)], &junk), 2001);
        assert_eq!(lies(&[freeze(2), freeze(2500)], &junk), 2500);
        assert_eq!(lies(&[freeze(2), freeze(2501)], &junk), 2, "500 are missing");
        assert_eq!(lies(&[freeze(2), freeze(999)], &[400, 800]), 2, "in all 994 are missing");
        // A writer goes as far as a reader follows.
        for (from, taken) in [(0, vec![]), (2, vec![]), (2, vec![5, 400]), (2, junk)] {
            let limit = InForce::limit(from, &numbers(&taken));
            let last = |n| {
                let signed: Vec<Statement> =
                    [from, n].into_iter().filter(|n| *n > 0).map(freeze).collect();
                lies(&signed, &taken)
            };
            assert_eq!((last(limit), last(limit + 1)), (limit, from), "{taken:?}");
        }
        assert_eq!(InForce::limit(MAX_STATEMENT, &BTreeSet::new()), MAX_STATEMENT);
    }

    #[test]
    fn a_statement_fits_what_it_is_of_and_has_a_reason() {
        let (id, shop) = (RepositoryId::new(7), "shop".parse::<SourceId>().unwrap());
        let check = |said: &Statement| said.check(&id, (&shop, 1)).is_ok();
        for stated in Stated::ALL {
            let (of_backup, of_source) = (said(1, stated, Some(1)), said(1, stated, None));
            let (backup, source) = match stated {
                Stated::Pin | Stated::Unpin => (true, false),
                Stated::Hold | Stated::Release => (true, true),
                Stated::Freeze | Stated::Unfreeze => (false, true),
            };
            assert_eq!((check(&of_backup), check(&of_source)), (backup, source), "{stated}");
            let without = Statement { without: vec![3], ..of_source };
            assert_eq!(check(&without), stated == Stated::Unfreeze, "{stated}");
        }
        let good = said(1, Stated::Freeze, None);
        assert!(!check(&Statement { n: 2, ..good.clone() }));
        assert!(!check(&Statement { source: "blog".parse().unwrap(), ..good.clone() }));
        assert!(!check(&Statement { repository: RepositoryId::new(8), ..good.clone() }));
        for bad in ["", " ", "a\nb", "a\u{1b}[2Jb", "\u{202e}b", &"x".repeat(501)] {
            assert!(!check(&Statement { reason: bad.to_owned(), ..good.clone() }), "{bad:?}");
        }
        assert!(check(&Statement { reason: "ü".repeat(500), ..good }));
    }
}
