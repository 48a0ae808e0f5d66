//! What of audit logs lies in the bucket: signed parts, each with the entries themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use anyhow::{Context as _, Result};
use drctl_model::{AuditBatch, AuditLogId, MAX_AUDIT_SHIFT, NO_ENTRY, shown};
use drctl_store::{MAX_AUDIT_BATCH_BYTES, State, Stored, VerifyingKey, decode_audit_batch, layout};

use super::chain::{At, Break, BreakKind, Link, walk};
use crate::repository::Repository;
use crate::repository::faults::{is_bad_manifest, is_missing, is_newer};
use crate::repository::first::first;

/// How many of the highest numbers are looked at for a part that counts: somebody may have put others there.
const LOOKED_AT: usize = 1_000;

/// A part, and the key that signed it.
pub(super) type Part = (AuditBatch, VerifyingKey);

/// The numbers of all parts of all logs.
///
/// # Errors
/// The store's.
pub(super) async fn listed(
    repository: &Repository,
    log: Option<&AuditLogId>,
) -> Result<BTreeMap<AuditLogId, BTreeSet<u64>>> {
    let mut found: BTreeMap<AuditLogId, BTreeSet<u64>> = BTreeMap::new();
    let each = |state: State| {
        if let Some((log, number)) = layout::audit_batch_at(&state.key) {
            found.entry(log).or_default().insert(number);
        }
        ControlFlow::Continue(())
    };
    let folder = log.map_or_else(layout::audit_logs, layout::audit_log);
    let listing = repository.bucket.list_states(&folder, None, each);
    listing.await.context("list the audit logs")?;
    Ok(found)
}

/// A part, as it was written first.
///
/// # Errors
/// The store's; that it is not there, or not believed.
pub(super) async fn part(repository: &Repository, log: &AuditLogId, n: u64) -> Result<Part> {
    let Repository { bucket, trust, id, .. } = repository;
    let key = layout::audit_batch(log, n);
    let read = |stored: Stored| async move {
        let bytes = bucket.get_stored(&stored, MAX_AUDIT_BATCH_BYTES as u64).await?;
        Ok(decode_audit_batch(&bytes, trust, id, Some((log, n)))?)
    };
    first(bucket, &key, read, |one: &Part, other| one.0 == other.0).await
}

/// The entries of a part that follow `at`.
fn within(part: &AuditBatch, at: &At) -> Result<Vec<Link>, Break> {
    let what = format!("the signed part from entry {} on", part.first);
    let text: String = part.entries.iter().map(|line| format!("{line}\n")).collect();
    let walked = walk(text.as_bytes(), at.clone());
    let whole = walked.links.len() == part.entries.len();
    let head = walked.links.last().map(|link| (link.entry.seq, link.sha256));
    match walked.broken {
        Some(found) => Err(Break { text: format!("in {what}: {}", found.text), ..found }),
        None if whole && head == Some((part.last, part.head)) && part.prev == at.head => {
            Ok(walked.links)
        }
        None => {
            let text = format!("{what} does not hold what it says");
            Err(Break::new(part.first, BreakKind::Altered, text))
        }
    }
}

/// The entries of a part, whatever they follow.
pub(super) fn entries_of(part: &AuditBatch) -> Vec<Link> {
    part.entries.iter().filter_map(|line| Link::read(line.as_bytes(), 0)).collect()
}

/// What lies in the bucket of one log: parts, each under a number, and why others are not believed.
#[derive(Default)]
pub(super) struct Parts {
    pub(super) good: Vec<(u64, Part)>,
    pub(super) refused: BTreeMap<u64, String>,
}

/// The entries of one log that are signed, up to the first break.
#[derive(Default)]
pub(super) struct Signed {
    pub(super) links: Vec<Link>,
    pub(super) broken: Option<Break>,
    /// Whose keys signed them.
    pub(super) keys: Vec<VerifyingKey>,
    /// What lies there and has no effect.
    pub(super) strangers: Vec<String>,
}

impl Signed {
    fn at(&self) -> At {
        self.links.last().map_or_else(At::begin, At::of)
    }

    /// What parts come to that follow each other. Where several could be next, the key that signed the
    /// entries before is believed: nobody else's speaks for a host that goes on itself.
    pub(super) fn of(parts: Parts) -> Self {
        let mut by_first: BTreeMap<u64, Vec<(u64, Part)>> = BTreeMap::new();
        for (number, part) in parts.good {
            by_first.entry(part.0.first).or_default().push((number, part));
        }
        let (mut signed, mut left, mut wrong) = (Signed::default(), Vec::new(), None);
        let mut before: Option<VerifyingKey> = None;
        loop {
            let mut here = by_first.remove(&(signed.at().seq + 1)).unwrap_or_default();
            here.sort_by_key(|(number, part)| (before.as_ref() != Some(&part.1), *number));
            let at = signed.at();
            for (number, part) in here {
                match within(&part.0, &at) {
                    Ok(links) if signed.at() == at => {
                        signed.links.extend(links);
                        before = Some(part.1);
                    }
                    Ok(_) => left.push((number, part)),
                    Err(found) => {
                        wrong = wrong.or(Some(found));
                        left.push((number, part));
                    }
                }
            }
            signed.keys.extend(before.clone().filter(|key| !signed.keys.contains(key)));
            if signed.at() == at {
                let all = by_first.values().flatten().chain(&left);
                let mut ours = all.filter(|(_, part)| before.as_ref() == Some(&part.1));
                match ours.find_map(|(_, part)| signed.goes_on(&part.0)) {
                    Some(links) => signed.links.extend(links),
                    None => break,
                }
            }
        }
        left.extend(by_first.into_values().flatten());
        signed.judge(&left, &parts.refused, wrong);
        signed
    }

    /// What a part has behind the chain that says the same as far as that comes: two processes of a host
    /// may have shipped at once.
    fn goes_on(&self, part: &AuditBatch) -> Option<Vec<Link>> {
        let at = self.at();
        let known = usize::try_from(at.seq.checked_sub(part.first)?).ok()? + 1;
        let first = usize::try_from(part.first).ok()?.checked_sub(1)?;
        let same = self.links.get(first..)?.iter().map(|link| &link.line);
        if part.entries.len() <= known || !same.eq(&part.entries[..known]) {
            return None;
        }
        let prev = match first.checked_sub(1) {
            Some(before) => self.links.get(before)?.sha256,
            None => NO_ENTRY,
        };
        let rest = AuditBatch {
            first: at.seq + 1,
            prev: at.head,
            entries: part.entries[known..].to_vec(),
            ..part.clone()
        };
        within(&rest, &at).ok().filter(|_| part.prev == prev)
    }

    /// What speaks against the chain in what is no part of it.
    fn judge(
        &mut self,
        left: &[(u64, Part)],
        refused: &BTreeMap<u64, String>,
        wrong: Option<Break>,
    ) {
        let next = self.at().seq + 1;
        let near = next..=next + MAX_AUDIT_SHIFT;
        let mut found: Vec<Break> = left.iter().filter_map(|one| self.contradiction(one)).collect();
        // What does not even hold together says where.
        found.extend(wrong.filter(|_| !found.is_empty()));
        for (number, why) in refused {
            if near.contains(number) {
                let text = format!("the object with the number {number} is not believed: {why}");
                found.push(Break::new(next, BreakKind::Signature, text));
            } else {
                let text = format!("an object with the number {number} counts for nothing: {why}");
                self.strangers.push(text);
            }
        }
        // Of several at one place, what is not believed says most.
        found.sort_by_key(|one| (one.seq, one.kind != BreakKind::Signature));
        self.broken = found.into_iter().next();
    }

    /// How a part that is none of the chain speaks against it; nothing where it says the same.
    fn contradiction(&self, (number, (part, _)): &(u64, Part)) -> Option<Break> {
        let next = self.at().seq + 1;
        if part.first > next {
            let text = format!(
                "before the signed part from entry {} on, the entries from {next} on are gone",
                part.first
            );
            return Some(Break::new(next, BreakKind::Removed, text));
        }
        let is_known = |link: &&Link| {
            let at = usize::try_from(link.entry.seq).ok()?.checked_sub(1)?;
            self.links.get(at).map(|known| known.sha256 == link.sha256)
        };
        let entries = entries_of(part);
        let other = entries.iter().find(|link| is_known(link) != Some(true));
        if other.is_none() && entries.len() == part.entries.len() {
            return None;
        }
        let seq = other.map_or(part.first, |link| link.entry.seq);
        let text = format!("the signed part with the number {number} has another entry {seq}");
        Some(Break::new(seq, BreakKind::Fork, text))
    }
}

/// All that lies in the bucket of a log under these numbers.
///
/// # Errors
/// The store's; that only a newer drctl reads a part.
pub(super) async fn signed(
    repository: &Repository,
    log: &AuditLogId,
    numbers: &BTreeSet<u64>,
) -> Result<Signed> {
    let mut parts = Parts::default();
    for number in numbers {
        match part(repository, log, *number).await {
            Ok(found) => parts.good.push((*number, found)),
            // Its name is all that a deletion has left.
            Err(error) if is_missing(&error) => {}
            Err(error) if is_bad_manifest(&error) && !is_newer(&error) => {
                parts.refused.insert(*number, shown(&format!("{error:#}"), 300));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Signed::of(parts))
}

/// The newest part that is believed, and its key; of so many numbers at most.
///
/// # Errors
/// The store's.
pub(super) async fn newest(
    repository: &Repository,
    log: &AuditLogId,
    numbers: &BTreeSet<u64>,
    counts: impl Fn(&Part) -> bool,
) -> Result<Option<Part>> {
    for number in numbers.iter().rev().take(LOOKED_AT) {
        match part(repository, log, *number).await {
            Ok(found) if counts(&found) => return Ok(Some(found)),
            Ok(_) => {}
            Err(error) if is_missing(&error) || is_bad_manifest(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}
