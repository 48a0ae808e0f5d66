//! What somebody said of a source: that a backup is pinned or on legal hold, that nothing may go. Signed,
//! numbered objects in the bucket say so; where one of them is in doubt, nothing goes.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use anyhow::{Context as _, Result, anyhow};
use drctl_catalog::{Catalog, Lost};
use drctl_model::{
    BackupId, Digest, InForce, MAX_WITHOUT, MOST_MISSING, SourceId, Statement, shown,
};
use drctl_store::{
    MAX_STATEMENT_BYTES, State, Stored, VerifyingKey, decode_statement, digest, layout,
};
use futures_util::{StreamExt as _, stream};

use super::faults::{is_bad_manifest, is_missing, is_newer};
use super::first::first;
use super::{MANIFESTS_AT_ONCE, Repository};

/// How many reasons for which statements do not count are told one by one.
const REASONS: usize = 10;

/// How many stretches of numbers a command names: what is behind them is told when they are left out.
const STRETCHES: usize = 50;

/// How much of a reason, or of what is wrong with a statement, goes into a sentence.
const SHOWN: usize = 500;

/// A statement that counts.
#[derive(Debug, Clone)]
pub struct Said {
    /// The statement.
    pub statement: Statement,
    /// The key that signed it.
    pub signer: VerifyingKey,
    /// The digest of its object.
    pub sha256: Digest,
}

/// All statements of a source.
#[derive(Debug, Clone)]
pub struct Statements {
    source: SourceId,
    /// Those that count, in order.
    pub said: Vec<Said>,
    /// What of it stands.
    pub in_force: InForce,
    /// The numbers under which something lies.
    listed: BTreeSet<u64>,
    /// Those that are not believed, and why.
    refused: BTreeMap<u64, String>,
    /// Those that only a newer drctl reads, and what to install.
    newer: BTreeMap<u64, String>,
    /// Those that are signed, and lie behind more missing ones than are believed.
    astray: BTreeSet<u64>,
}

/// Reads all statements of a source.
///
/// # Errors
/// [`StoreError`](drctl_store::StoreError) of a bucket that cannot be read; one that is no good is told, and is no error.
pub async fn statements(repository: &Repository, source: &SourceId) -> Result<Statements> {
    let mut listed = BTreeSet::new();
    let each = |state: State| {
        listed.extend(layout::statement_at(&state.key).map(|(_, n)| n));
        ControlFlow::Continue(())
    };
    let folder = layout::statements(source);
    let listing = repository.bucket.list_states(&folder, None, each);
    listing.await.context("list the statements")?;
    let reading = listed.clone().into_iter();
    let reading = reading.map(|n| async move { (n, statement(repository, source, n).await) });
    let mut reading = stream::iter(reading).buffered(MANIFESTS_AT_ONCE);
    let (mut said, mut refused, mut newer) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
    while let Some((n, found)) = reading.next().await {
        match found {
            Ok(found) => said.push(found),
            // A version that counts for nothing was deleted, and no other is there.
            Err(error) if is_missing(&error) => drop(listed.remove(&n)),
            Err(error) if is_newer(&error) => drop(newer.insert(n, format!("{error:#}"))),
            Err(error) if is_bad_manifest(&error) => {
                refused.insert(n, shown(&format!("{error:#}"), SHOWN));
            }
            Err(error) => {
                let key = layout::statement(source, n);
                return Err(error).with_context(|| format!("read {key}"));
            }
        }
    }
    let of_newer = newer.keys().copied().collect();
    let last = InForce::last_in_order(said.iter().map(|one| &one.statement), &of_newer, &listed);
    let all = said.iter().map(|one| one.statement.n).chain(of_newer);
    let astray = all.filter(|n| *n > last).collect();
    said.retain(|one| one.statement.n <= last);
    newer.retain(|n, _| *n <= last);
    let in_force = InForce::of(said.iter().map(|one| &one.statement));
    said.retain(|one| !in_force.without.contains(&one.statement.n));
    let source = source.clone();
    Ok(Statements { source, said, in_force, listed, refused, newer, astray })
}

/// The statement of a number.
pub(super) async fn statement(repository: &Repository, source: &SourceId, n: u64) -> Result<Said> {
    let Repository { bucket, trust, id, .. } = repository;
    let key = layout::statement(source, n);
    let read = |stored: Stored| async move {
        let bytes = bucket.get_stored(&stored, MAX_STATEMENT_BYTES as u64).await?;
        let (statement, signer) = decode_statement(&bytes, trust, id, (source, n))?;
        Ok(Said { statement, signer, sha256: digest(&bytes) })
    };
    first(bucket, &key, read, |one: &Said, other| one.statement == other.statement).await
}

impl Statements {
    /// What is in doubt of them, each in a sentence with what to do.
    #[must_use]
    pub fn doubts(&self) -> Vec<String> {
        let missing = self.missing().map(|(_, why)| why);
        missing.chain(self.refused()).chain(self.newer()).collect()
    }

    /// Those that are not believed and not left out, by what is wrong with them: the first few reasons, and all
    /// others together.
    fn by_reason(&self) -> Vec<(Vec<u64>, String)> {
        let mut found: Vec<(Vec<u64>, String)> = Vec::new();
        for (n, why) in self.refused.iter().filter(|(n, _)| !self.in_force.without.contains(n)) {
            let same = found.iter().position(|(_, known)| known == why);
            match same {
                Some(at) => found[at].0.push(*n),
                None if found.len() > REASONS => found[REASONS].0.push(*n),
                None if found.len() == REASONS => found.push((vec![*n], format!("{why}, …"))),
                None => found.push((vec![*n], why.clone())),
            }
        }
        found
    }

    /// Where these lie, and how a sentence goes on about them.
    fn objects(&self, numbers: &[u64]) -> (String, &'static str) {
        let first = layout::statement(&self.source, numbers[0]);
        match numbers.len() {
            1 => (first.to_string(), "it"),
            many => (format!("{first} and {} more behind it", many - 1), "them"),
        }
    }

    /// Those that are signed, and lie behind too many that are missing.
    fn astray(&self) -> impl Iterator<Item = String> {
        let is_in = |n: &&u64| !self.in_force.without.contains(n);
        self.astray.iter().filter(is_in).map(|n| {
            let explained = self.missing_before(*n).map_or(String::new(), |which| {
                format!(", or, when their loss is explained, {}", self.leave_out("them", &which))
            });
            format!(
                "statement {n} of {} is signed, but {MOST_MISSING} or more are missing before it: bring \
                 these back{explained}; where it was never right, {}",
                self.source,
                self.leave_out("it", &n.to_string())
            )
        })
    }

    /// The numbers that are missing before one that is astray, unless there are more of them than one
    /// statement leaves out.
    fn missing_before(&self, n: u64) -> Option<String> {
        let gaps = self.in_force.gaps(&self.listed.range(..=n).copied().collect());
        let gaps: Vec<(u64, u64)> =
            gaps.into_iter().filter(|(first, _)| *first > self.highest()).collect();
        let count: u64 = gaps.iter().map(|(first, last)| last - first + 1).sum();
        let gaps: Vec<String> = gaps.into_iter().map(stretch).collect();
        (count <= MAX_WITHOUT as u64).then(|| gaps.join(","))
    }

    /// The highest number that counts, or that only a newer drctl reads.
    fn highest(&self) -> u64 {
        let counted = self.said.last().map(|one| one.statement.n);
        let newer = self.newer.last_key_value().map(|(n, _)| *n);
        counted.max(newer).unwrap_or(0)
    }

    fn leave_out(&self, what: &str, n: &str) -> String {
        let source = &self.source;
        format!(
            "leave {what} out with `drctl unfreeze {source} --without {n} --reason TEXT`, which ends no \
             freeze and needs the role `prune`"
        )
    }

    /// Those that are missing among the others, by the first number of each gap.
    pub(crate) fn missing(&self) -> impl Iterator<Item = (u64, String)> {
        let source = &self.source;
        // What nobody signed does not tell that others were before it.
        let there = self.listed.range(..=self.highest()).copied().collect();
        self.in_force.gaps(&there).into_iter().map(move |(first, last)| {
            let (which, at) = (stretch((first, last)), layout::statement(source, first));
            let (are, what, them) = match first == last {
                true => (format!("statement {which} of {source} is"), format!("{at} back"), "it"),
                false => {
                    let what = format!("all of them back, from {at} on");
                    (format!("statements {which} of {source} are"), what, "them")
                }
            };
            let why = format!(
                "{are} missing, which may have been a pin, a legal hold or a freeze: bring {what}; when the \
                 loss is explained, {}",
                self.leave_out(them, &which)
            );
            (first, why)
        })
    }

    /// Those that are not believed.
    pub(crate) fn refused(&self) -> impl Iterator<Item = String> {
        self.disbelieved().chain(self.astray())
    }

    fn disbelieved(&self) -> impl Iterator<Item = String> {
        self.by_reason().into_iter().map(|(numbers, why)| {
            let (which, them) = self.objects(&numbers);
            let is = if numbers.len() == 1 { "is" } else { "are" };
            format!(
                "{which} {is} not believed here ({why}): where a host of yours signed {them}, allow its key \
                 in keys.verifying_keys; where a stranger did, find out who may write into the bucket, and {}. Say again \
                 what has to stay: what was written over may have been a pin, a legal hold or a freeze",
                self.leave_out(them, &list(&numbers))
            )
        })
    }

    /// Those that only a newer drctl reads.
    pub(crate) fn newer(&self) -> impl Iterator<Item = String> {
        self.newer.iter().map(|(n, why)| {
            let why = shown(why, SHOWN);
            format!("only a newer drctl reads {}: {why}", layout::statement(&self.source, *n))
        })
    }

    /// By what statements nothing of the source may go, each in a sentence.
    #[must_use]
    pub fn frozen(&self) -> Vec<(String, &Statement)> {
        let InForce { freeze, hold, .. } = &self.in_force;
        let freeze = freeze.iter().map(|said| ("it is frozen", said));
        let hold = hold.iter().map(|said| ("it is on legal hold", said));
        let told = |(what, said): (&str, _)| (format!("{what} {}", whose(said)), said);
        freeze.chain(hold).map(told).collect()
    }

    /// What a host knew of them and the bucket lacks, by keys, and what is wrong.
    pub(crate) fn gone(&self, known: &BTreeMap<u64, Digest>) -> BTreeMap<String, String> {
        let mut gone = BTreeMap::new();
        for (n, sha256) in known.iter().filter(|(n, _)| !self.in_force.without.contains(n)) {
            let there = self.said.iter().find(|one| one.statement.n == *n);
            let why = match there {
                Some(there) if there.sha256 == *sha256 => continue,
                Some(_) => "another statement is in its place",
                // It is there, if in doubt.
                None if self.listed.contains(n) => continue,
                None => {
                    "it was there before and is gone: it may have been a pin, a legal hold or a freeze"
                }
            };
            gone.insert(layout::statement(&self.source, *n).to_string(), why.to_owned());
        }
        gone
    }

    /// What a catalog remembers of them.
    pub(crate) fn noted(&self) -> BTreeMap<u64, Digest> {
        self.said.iter().map(|one| (one.statement.n, one.sha256)).collect()
    }

    /// Why a statement cannot be left out: it counts, only a newer drctl reads it, or there is nothing to
    /// leave out: nothing lies there, none is missing there, and it is not among those that are `known`.
    pub(super) fn keeps(&self, n: u64, known: &BTreeMap<u64, Digest>) -> Option<String> {
        let source = &self.source;
        let last = self.highest().max(self.astray.last().copied().unwrap_or(0));
        if n > last && !self.listed.contains(&n) && !known.contains_key(&n) {
            return Some(format!(
                "there is no statement {n} of {source} to leave out: nothing lies there, and nothing is \
                 missing there"
            ));
        }
        if let Some(why) = self.newer.get(&n) {
            let why = shown(why, SHOWN);
            return Some(format!(
                "statement {n} of {source} cannot be left out, because only a newer drctl reads it ({why})"
            ));
        }
        let Statement { statement, backup, .. } = self.counted(n)?;
        let of = backup.as_ref().map_or(source.as_str(), BackupId::as_str);
        Some(format!(
            "statement {n} of {source} is valid, so it is not left out: {statement} of {of} {}",
            whose(self.counted(n)?)
        ))
    }

    /// Takes these numbers for taken.
    pub(super) fn take(&mut self, numbers: &BTreeSet<u64>) {
        self.listed.extend(numbers);
    }

    fn counted(&self, n: u64) -> Option<&Statement> {
        self.said.iter().map(|one| &one.statement).find(|said| said.n == n)
    }

    /// The statement that left the last of these out.
    pub(super) fn left_out_by(&self, numbers: &[u64]) -> Option<&Statement> {
        let leaves = |said: &&Statement| said.without.iter().any(|n| numbers.contains(n));
        self.said.iter().map(|one| &one.statement).rfind(leaves)
    }

    /// The number of the next one: behind all that count, or that are remembered; none that is left out, or
    /// is to be, so that it is missed when it is gone.
    pub(super) fn next_number(
        &self,
        known: &BTreeMap<u64, Digest>,
        without: &[u64],
    ) -> Result<u64> {
        let said = || self.said.iter().map(|one| &one.statement);
        let newer: BTreeSet<u64> = self.newer.keys().copied().collect();
        // What is not believed any more, or is left out, is behind nothing.
        let is_over = |n: &u64| {
            self.refused.contains_key(n) || self.in_force.without.contains(n) || without.contains(n)
        };
        let known: BTreeSet<u64> = known.keys().filter(|n| !is_over(n)).copied().collect();
        let remembered = newer.union(&known).copied().collect();
        // A host may remember one that is astray.
        let last = InForce::last_in_order(said(), &remembered, &self.listed);
        let highest = known.range(..=last).next_back().copied().unwrap_or(0).max(self.highest());
        let mut taken: BTreeSet<u64> = self.listed.union(&self.in_force.without).copied().collect();
        taken.extend(without);
        // Behind this one it would be astray itself.
        let most = InForce::limit(InForce::last_in_order(said(), &newer, &self.listed), &taken);
        let free = (highest + 1..=most).find(|n| !taken.contains(n));
        free.ok_or_else(|| {
            anyhow!(
                "no number is left for a statement of {0}: up to {most} each is behind or taken by a \
                 statement, by an object that does not count, or by a statement that is gone; nothing was \
                 written. `drctl holds {0}` names who signed them: take a key that somebody else has out \
                 of keys.verifying_keys; remove objects that do not count with the bucket's own client; \
                 bring statements that are gone back, or give them up with `drctl catalog forget {0}`",
                self.source
            )
        })
    }
}

/// Numbers from the first to the last, as people write them.
fn stretch((first, last): (u64, u64)) -> String {
    if first == last { first.to_string() } else { format!("{first}-{last}") }
}

/// Numbers as one statement can leave them out: the first of them, where there are very many.
fn list(numbers: &[u64]) -> String {
    let mut found: Vec<(u64, u64)> = Vec::new();
    for n in numbers.iter().take(MAX_WITHOUT) {
        match found.last_mut().filter(|(_, last)| last + 1 == *n) {
            Some((_, last)) => *last = *n,
            None => found.push((*n, *n)),
        }
    }
    let found: Vec<String> = found.into_iter().take(STRETCHES).map(stretch).collect();
    found.join(",")
}

/// Since when, by whom and why.
fn whose(said: &Statement) -> String {
    let (account, host) = (shown(&said.account, 100), shown(&said.host, 100));
    let reason = shown(&said.reason, SHOWN);
    format!("since {:.0} by {account} on {host}: {reason}", said.at)
}

/// What is told of a statement that was there and is gone, or another one now; nothing of what is none.
pub(crate) fn lost_words(lost: &Lost) -> Option<String> {
    gone_words(&lost.key, &lost.why)
}

/// The same by its key, and why.
pub(crate) fn gone_words(key: &str, why: &str) -> Option<String> {
    let (source, n) = layout::statement_at(&key.into())?;
    Some(format!(
        "statement {n} of {source} ({}): {}. Nothing of {source} is removed meanwhile. Put the object back; when its \
         loss is explained, `drctl unfreeze {source} --without {n} --reason TEXT` (role `prune`), then say again what \
         has to stay",
        shown(key, 200),
        shown(why, 300)
    ))
}

/// Notes what was said of a source, so that this host misses it when it is gone.
pub(crate) async fn note(writable: Option<&Catalog>, source: &SourceId, there: &Statements) {
    let Some(writable) = writable else { return };
    let noted = writable.note_statements(source, there.noted()).await;
    let _ = noted.inspect_err(|error| tracing::debug!("statements are not noted: {error}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_names_what_one_statement_can_leave_out() {
        assert_eq!(list(&[7]), "7");
        assert_eq!(list(&[2, 3, 4, 9, 11, 12]), "2-4,9,11-12");
        assert_eq!(list(&(1..=3_000).collect::<Vec<u64>>()), "1-1000");
        let odd: Vec<u64> = (0..500).map(|n| 2 * n + 1).collect();
        assert!(list(&odd).starts_with("1,3,5,") && list(&odd).ends_with(",97,99"));
    }
}
