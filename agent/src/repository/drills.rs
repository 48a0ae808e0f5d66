//! The evidence of restore drills, as it lies in the bucket.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use anyhow::Result;
use bytes::Bytes;
use drctl_model::{BackupId, Drill, DrillId, DrillOutcome, DrillRun, Named, SourceId, Verdict};
use drctl_store::{
    MAX_DRILL_BYTES, MAX_ENVELOPE_BYTES, State, Stored, VerifyingKey, decode_drill, digest, layout,
};
use futures_util::{StreamExt as _, stream};
use jiff::{SignedDuration, Timestamp};

use super::faults::{is_bad_manifest, is_missing, is_newer, is_unsigned};
use super::first::first;
use super::memory::NEWER;
use super::named::Names;
use super::{Repository, horizon};

/// The code of what a drill has left and cannot be believed.
pub(crate) const IN_DOUBT: &str = "drill_in_doubt";

/// How that is told.
const EVIDENCE: &str = "the evidence of the drill";

/// So many drills of a source count at most, the newest.
const MOST: usize = 1000;

/// So many of them are asked which backups there were.
const MOST_NAMING: usize = 4;

/// So many of them are asked what the newest ones say, at most: one that proved something ends it.
const MOST_IN_DOUBT: usize = 100;

/// Whoever may write can put more there than there are drills: so many objects are read to find these.
const READ: usize = 10_000;

/// The same, to ask which backups there were.
const READ_NAMING: usize = 1000;

/// So many that do not count are told, and how many more there are.
const TOLD: usize = 100;

/// How many are fetched at once.
const AT_ONCE: usize = 16;

/// A drill whose evidence does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Why, as a stable code.
    pub code: &'static str,
    /// Which one, and why.
    pub text: String,
    /// Which one, where it is one.
    pub drill: Option<DrillId>,
    /// All that it is of, where nobody whom we trust has signed any of that.
    pub unsigned: Vec<DrillId>,
}

/// The newest thousand drills of a source, oldest first, and who signed each. Those that nobody whom we trust has
/// signed, or that only a newer drctl reads, are told in `refused`.
///
/// # Errors
/// [`StoreError`](drctl_store::StoreError) of a bucket that cannot be read.
pub async fn drills(
    repository: &Repository,
    source: &SourceId,
    refused: &mut Vec<Refused>,
) -> Result<Vec<(Drill, VerifyingKey)>> {
    let (mut drills, not) = newest(repository, source, (MOST, READ), |_| false).await?;
    drills.reverse();
    let told = not.errors.iter().take(TOLD).map(|(id, error)| {
        let code = if is_newer(error) { NEWER } else { IN_DOUBT };
        let drill = Some(id.clone());
        let unsigned = is_unsigned(error).then(|| id.clone()).into_iter().collect();
        Refused { code, text: format!("{EVIDENCE} {id}: {error:#}"), drill, unsigned }
    });
    refused.extend(told);
    let more = not.errors.len().saturating_sub(TOLD);
    if more > 0 {
        let text = format!("{EVIDENCE} of {more} more objects is none");
        let rest = &not.errors[TOLD..];
        let all = rest.iter().all(|(_, error)| is_unsigned(error));
        let unsigned = rest.iter().filter(|_| all).map(|(id, _)| id.clone()).collect();
        refused.push(Refused { code: IN_DOUBT, text, drill: None, unsigned });
    }
    if not.unread > 0 {
        let text = format!(
            "{EVIDENCE} of {} older objects was not read: too many newer ones are none; remove these",
            not.unread
        );
        refused.push(Refused { code: IN_DOUBT, text, drill: None, unsigned: Vec::new() });
    }
    Ok(drills)
}

/// What was met on the way to drills that count.
#[derive(Default)]
pub(super) struct Not {
    /// What does not count, and why.
    errors: Vec<(DrillId, anyhow::Error)>,
    /// How many objects were not read, though fewer drills were found than were wanted.
    unread: usize,
}

/// The newest drills that count, newest first: as many as are wanted, or until they are enough, found among as
/// many objects as may be read.
pub(super) async fn newest(
    repository: &Repository,
    source: &SourceId,
    (wanted, may_read): (usize, usize),
    enough: impl Fn(&[(Drill, VerifyingKey)]) -> bool,
) -> Result<(Vec<(Drill, VerifyingKey)>, Not)> {
    let ids = listed(repository, source).await?;
    let (count, mut done) = (ids.len(), 0);
    let reading = ids.into_iter().rev().take(may_read).map(|id| async move {
        let found = read(repository, source, &id).await;
        (id, found)
    });
    let mut reading = stream::iter(reading).buffered(AT_ONCE);
    let (mut drills, mut not) = (Vec::new(), Not::default());
    while drills.len() < wanted
        && !enough(&drills)
        && let Some((id, found)) = reading.next().await
    {
        done += 1;
        match found {
            Ok(drill) => drills.push(drill),
            // Somebody removed it, or a rule of the bucket did.
            Err(error) if is_missing(&error) => {}
            Err(error) if is_bad_manifest(&error) => not.errors.push((id, error)),
            Err(error) => return Err(error),
        }
    }
    if drills.len() < wanted && !enough(&drills) {
        not.unread = count - done;
    }
    Ok((drills, not))
}

/// What the newest drill of a source puts in doubt.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct NewestDrill {
    /// It, where its evidence does not count here: it may have failed; and whether only a newer drctl reads
    /// it.
    pub(crate) refused: Option<(DrillId, bool)>,
    /// It, where it failed.
    pub(crate) failed: Option<DrillId>,
    /// The newest one that proved its data, as far as was looked.
    pub(crate) passed: Option<Passed>,
    /// What the newest of all says.
    pub(crate) said: Option<Verdict>,
}

/// A drill that proved its data, in whatever time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Passed {
    pub(crate) drill: DrillId,
    /// When it ended.
    pub(crate) at: Timestamp,
    /// The backup that it tried.
    pub(crate) backup: Option<BackupId>,
    /// How long the restore took, in milliseconds; nothing of one by hand.
    pub(crate) restore_ms: Option<u64>,
}

impl Passed {
    fn of(drill: &Drill) -> Option<Self> {
        let took = SignedDuration::from_millis(i64::try_from(drill.took_ms).ok()?);
        let at = drill.started.checked_add(took).ok()?;
        drill.outcome.is_proven().then(|| Passed {
            drill: drill.drill.clone(),
            at,
            backup: drill.base.clone(),
            restore_ms: drill.run.as_ref().map(DrillRun::restore_ms),
        })
    }
}

impl NewestDrill {
    /// Of drills that count, oldest first, and of what is `refused`, the newest first. What is dated in the
    /// future is no newer one: no drill could ever follow it. One that came to nothing hides none before it.
    #[must_use]
    pub(crate) fn of<'a>(
        drills: impl DoubleEndedIterator<Item = &'a Drill> + Clone,
        refused: impl IntoIterator<Item = (&'a DrillId, bool)>,
        now: Timestamp,
    ) -> Self {
        let horizon = DrillId::new(horizon(now), u64::MAX);
        let passed = drills.clone().filter(|drill| drill.drill <= horizon).filter_map(Passed::of);
        let passed = passed.max_by(|one, other| one.drill.cmp(&other.drill));
        let said = drills.clone().rfind(|drill| drill.drill <= horizon).map(Drill::verdict);
        let mut drills = drills.filter(|drill| drill.verdict().is_of_data());
        let dated = drills.clone().rfind(|drill| drill.drill <= horizon);
        let failed = dated.or_else(|| drills.next_back()).and_then(|drill| match drill.outcome {
            DrillOutcome::Failed { .. } => Some(drill.drill.clone()),
            DrillOutcome::Proven { .. }
            | DrillOutcome::Equal(_)
            | DrillOutcome::Inconclusive { .. } => None,
        });
        let is_newer = |(id, _): &(&DrillId, bool)| {
            **id <= horizon && dated.is_none_or(|dated| **id > dated.drill)
        };
        let refused = refused.into_iter().find(is_newer);
        let refused = refused.map(|(id, newer)| (id.clone(), newer));
        NewestDrill { refused, failed, passed, said }
    }

    /// Why nothing may be removed for it, each reason in a sentence.
    #[must_use]
    pub(crate) fn blocks(&self) -> Vec<String> {
        let failed = self.failed.iter().map(|drill| format!("the newest drill, {drill}, failed"));
        self.disbelieved().into_iter().chain(failed).collect()
    }

    /// The same of one that is not believed.
    #[must_use]
    pub(crate) fn disbelieved(&self) -> Vec<String> {
        let refused = self.refused.iter().map(|(drill, newer)| match newer {
            true => format!(
                "only a newer drctl reads the evidence of the newest drill, {drill}: it may have failed; \
                 install that drctl here, or run another drill"
            ),
            false => format!(
                "the evidence of the newest drill, {drill}, is not believed here: it may have failed; run \
                 another drill, or, where a stranger wrote it, remove it with the bucket's own client"
            ),
        });
        refused.collect()
    }
}

/// The last of these drills, oldest first, in which a recipient's identity opened the backup.
pub(crate) fn last_opened<'a>(
    drills: impl IntoIterator<Item = &'a Drill, IntoIter: DoubleEndedIterator>,
    recipient: &String,
) -> Option<&'a Drill> {
    let opened = |run: &DrillRun| run.opened_by.contains(recipient);
    drills.into_iter().rfind(|drill| drill.run.as_ref().is_some_and(opened))
}

/// The names of all drills, oldest first.
async fn listed(repository: &Repository, source: &SourceId) -> Result<BTreeSet<DrillId>> {
    let mut ids: BTreeSet<DrillId> = BTreeSet::new();
    // What somebody deleted is listed too, where the bucket keeps it.
    let each = |state: State| {
        ids.extend(layout::drill_at(&state.key).map(|(_, id)| id));
        ControlFlow::Continue(())
    };
    repository.bucket.list_states(&layout::drills(source), None, each).await?;
    Ok(ids)
}

/// What the newest drill of a source puts in doubt.
///
/// # Errors
/// The store's.
pub(crate) async fn newest_in_doubt(
    repository: &Repository,
    source: &SourceId,
    now: Timestamp,
) -> Result<NewestDrill> {
    // Those that came to nothing say nothing of what those before them said.
    let enough = |all: &[(Drill, VerifyingKey)]| {
        let says = |is: fn(&Drill) -> bool| all.iter().any(|(drill, _)| is(drill));
        says(|drill| drill.verdict().is_of_data()) && says(|drill| Passed::of(drill).is_some())
    };
    let bounds = (MOST_IN_DOUBT, READ_NAMING);
    let (drills, not) = newest(repository, source, bounds, enough).await?;
    let refused = not.errors.iter().map(|(id, error)| (id, is_newer(error)));
    Ok(NewestDrill::of(drills.iter().rev().map(|(drill, _)| drill), refused, now))
}

/// The manifests that the evidence of the newest drills names.
///
/// # Errors
/// The store's.
pub(crate) async fn named_by_drills(repository: &Repository, source: &SourceId) -> Result<Names> {
    let (drills, _) = newest(repository, source, (MOST_NAMING, READ_NAMING), |_| false).await?;
    let names = drills.into_iter().filter_map(|(drill, _)| {
        let by = format!("the drill {}", drill.drill);
        drill.newest.map(|named| (named, by))
    });
    Ok(names.collect())
}

pub(super) async fn read(
    repository: &Repository,
    source: &SourceId,
    id: &DrillId,
) -> Result<(Drill, VerifyingKey)> {
    Ok(stored(repository, source, id).await?.0)
}

/// A drill that counts, who signed it, and its object.
async fn stored(
    repository: &Repository,
    source: &SourceId,
    id: &DrillId,
) -> Result<((Drill, VerifyingKey), Bytes)> {
    let key = layout::drill(source, id);
    let read = |stored: Stored| async move {
        let bytes = repository.bucket.get_stored(&stored, MAX_DRILL_BYTES as u64).await?;
        Ok((decode_drill(&bytes, &repository.trust, &repository.id, source, id)?, bytes))
    };
    first(&repository.bucket, &key, read, |one, other| one.0.0 == other.0.0).await
}

/// The object of a drill's evidence, as it lies in the bucket.
///
/// # Errors
/// As [`drills`]; what is there and does not count.
pub(crate) async fn evidence(
    repository: &Repository,
    source: &SourceId,
    id: &DrillId,
) -> Result<Bytes> {
    Ok(stored(repository, source, id).await?.1)
}

/// The object of a manifest, as it lies in the bucket, where it is the one that somebody has named.
///
/// # Errors
/// The store's.
pub(crate) async fn manifest_object(
    repository: &Repository,
    source: &SourceId,
    named: &Named,
) -> Result<Option<Bytes>> {
    let key = layout::manifest(source, &named.backup);
    let read = |stored: Stored| async move {
        let bytes = repository.bucket.get_stored(&stored, MAX_ENVELOPE_BYTES as u64).await?;
        repository.prove(source, &named.backup, bytes.clone())?;
        Ok(bytes)
    };
    match first(&repository.bucket, &key, read, |one, other| one == other).await {
        Ok(bytes) => Ok(Some(bytes).filter(|bytes| digest(bytes) == named.manifest_sha256)),
        Err(error) if is_missing(&error) || is_bad_manifest(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use drctl_model::{BackupId, Digest, Header, Lsn, RepositoryId, Timeline};
    use drctl_store::{Bucket, SigningKey, Trust, encode_drill};
    use object_store::memory::InMemory;

    use super::*;

    fn drill(seconds: i64) -> Drill {
        let at = Timestamp::from_second(seconds).unwrap();
        Drill {
            header: Header::new([]),
            repository: RepositoryId::new(7),
            source: "shop".parse().unwrap(),
            drill: DrillId::new(at, 1),
            host: "db1".to_owned(),
            started: at,
            took_ms: 5400,
            system_id: Some(7),
            timeline: Some(Timeline::FIRST),
            base: Some(BackupId::new(Timestamp::UNIX_EPOCH, 2)),
            newest: Some(Named {
                backup: BackupId::new(Timestamp::UNIX_EPOCH, 3),
                manifest_sha256: Digest([3; 32]),
            }),
            target: "the end of the WAL".to_owned(),
            outcome: DrillOutcome::Proven {
                replayed: Lsn(1),
                shows: None,
                counted: vec![],
                left_out: Vec::new(),
                equal: None,
            },
            run: None,
        }
    }

    #[test]
    fn what_came_to_nothing_hides_nothing_and_any_proof_of_data_is_one() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let came = |seconds, outcome| Drill { outcome, ..drill(seconds) };
        let nothing =
            |seconds| came(seconds, DrillOutcome::Inconclusive { error: "no_identity".to_owned() });
        let failed = |seconds| came(seconds, DrillOutcome::Failed { error: "x".to_owned() });
        let of = |drills: &[Drill]| NewestDrill::of(drills.iter(), [], at(10_000));
        let found = of(&[drill(100), failed(200), nothing(300), nothing(400)]);
        assert_eq!(found.failed, Some(failed(200).drill));
        assert_eq!(found.said, Some(Verdict::Inconclusive));
        let passed = found.passed.expect("the first one");
        assert_eq!((passed.drill, passed.backup), (drill(100).drill, drill(100).base));
        assert_eq!(passed.at, at(100) + SignedDuration::from_millis(5400));
        let found = of(&[failed(100), drill(200), nothing(300)]);
        assert_eq!(
            (found.failed, found.passed.map(|one| one.drill)),
            (None, Some(drill(200).drill))
        );
        assert_eq!(
            of(&[nothing(100)]),
            NewestDrill { said: Some(Verdict::Inconclusive), ..NewestDrill::default() }
        );
    }

    #[test]
    fn what_is_dated_in_the_future_is_never_the_newest_drill() {
        let failed = |seconds| Drill {
            outcome: DrillOutcome::Failed { error: "x".to_owned() },
            run: None,
            ..drill(seconds)
        };
        let now = Timestamp::from_second(10_000).unwrap();
        let of = |drills: &[Drill], refused: &[i64]| {
            let refused: Vec<DrillId> = refused.iter().map(|at| drill(*at).drill).collect();
            let refused = refused.iter().map(|id| (id, false));
            let NewestDrill { refused, failed, .. } = NewestDrill::of(drills.iter(), refused, now);
            let refused = refused.map(|(id, _)| id);
            (refused, failed)
        };
        let id = |seconds| Some(drill(seconds).drill);
        let far = 9_000_000;
        assert_eq!(of(&[], &[]), (None, None));
        assert_eq!(of(&[drill(100), failed(200)], &[]), (None, id(200)));
        assert_eq!(of(&[failed(100), drill(200)], &[]), (None, None));
        assert_eq!(of(&[drill(100)], &[far, 200]), (id(200), None));
        assert_eq!(of(&[drill(200)], &[far, 100]), (None, None));
        assert_eq!(of(&[], &[far]), (None, None));
        // A clock was wrong: a drill that is dated now follows it.
        assert_eq!(of(&[failed(far)], &[]), (None, id(far)));
        assert_eq!(of(&[drill(100), failed(far)], &[]), (None, None));
        assert_eq!(of(&[failed(far)], &[100]), (id(100), id(far)));
    }

    #[tokio::test]
    async fn junk_displaces_no_drill() {
        let (key, stranger) = (SigningKey::generate(), SigningKey::generate());
        let bucket = Bucket::new(Arc::new(InMemory::new()), "memory:");
        let repository = Repository {
            bucket: bucket.clone(),
            id: RepositoryId::new(7),
            trust: Trust::new(vec![key.verifying_key()]),
            lost_marker: false,
            newer_marker: None,
        };
        let source: SourceId = "shop".parse().unwrap();
        let put = async |drill: &Drill, by: &SigningKey| {
            let bytes = encode_drill(drill, by).unwrap();
            bucket.put(&layout::drill(&source, &drill.drill), bytes.into()).await.unwrap();
        };
        let real = [drill(100), drill(200)];
        for one in &real {
            put(one, &key).await;
        }
        // Newer ones, by nobody whom we trust, nearly as many as are read to ask for names.
        let junk = i64::try_from(READ_NAMING).unwrap() - 2;
        for n in 0..junk {
            put(&drill(1000 + n), &stranger).await;
        }
        let mut refused = Vec::new();
        let found = drills(&repository, &source, &mut refused).await.unwrap();
        let found: Vec<Drill> = found.into_iter().map(|(drill, _)| drill).collect();
        assert_eq!(found, real);
        assert_eq!(refused.len(), TOLD + 1);
        let last = &refused.last().unwrap().text;
        assert!(
            last.contains(&format!("{} more", usize::try_from(junk).unwrap() - TOLD)),
            "{last}"
        );
        assert_eq!(named_by_drills(&repository, &source).await.unwrap().len(), real.len());
        // Requests are bounded; what was not read is told.
        let (found, not) = newest(&repository, &source, (MOST, 50), |_| false).await.unwrap();
        assert_eq!((found.len(), not.errors.len(), not.unread), (0, 50, 950));
    }
}
