//! Whether backups and log are what was signed: looked at, remembered, and on record as a job.

mod beside;
mod logs;
mod scrub;
mod standing;
mod strangers;

use std::collections::BTreeSet;
use std::path::Path;
use std::pin::Pin;

use anyhow::Result;
use drctl_model::{BackupId, Closeness, Digest, External, JobKind, SourceId, shown, total};
use drctl_store::{Alarm, Identities, SealError, open_facts};
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt as _, TryStreamExt as _};

use super::concerns;
use crate::engine::ArchiveVerdict;
use crate::engine::pgbackrest::expired;
use crate::host::figures::count;
use crate::host::{AgentError, Exit, Failure, Limits, Meter, Setup, Stop};
use crate::jobs::{Amiss, run};
use crate::repository::chain::is_broken;
use crate::repository::verify::only_newer;
use crate::repository::{
    Candidate, Chains, Closed, Depth, Notebook, Proven, Repository, Verdict, everything,
    verify as verify_one,
};

use self::logs::look_at_logs;
use self::standing::standing;
use self::strangers::Strangers;

pub(crate) use self::beside::Beside;
pub(crate) use self::scrub::scrub;
pub(crate) use self::standing::{Standing, words as standing_words};

/// How much is shown of a problem, in characters.
const TEXT_SHOWN: usize = 500;

/// What was found of one backup.
pub(crate) struct Row {
    pub(crate) source: SourceId,
    pub(crate) id: BackupId,
    pub(crate) closeness: Closeness,
    pub(crate) verdict: Verdict,
    /// What was looked at, in words.
    pub(crate) words: &'static str,
    /// What people call the key that signed it, where that is believed.
    pub(crate) signer: Option<String>,
    /// Whether the tool that kept its data has them no more.
    pub(crate) expired: bool,
}

/// All that was found out.
pub(crate) struct FoundOut {
    pub(crate) rows: Vec<Row>,
    /// What was found of each archive of a source's log.
    pub(crate) logs: Vec<(SourceId, ArchiveVerdict)>,
    /// Objects that somebody meddled with.
    pub(crate) alarms: Vec<Alarm>,
    pub(crate) beside: Beside,
    /// What an earlier look found wrong with what is good by this one.
    pub(crate) standing: Vec<Standing>,
}

/// A backup that pgBackRest keeps: what is known of it after pgBackRest has read it.
struct Record {
    source: SourceId,
    id: BackupId,
    digest: Digest,
    external: External,
}

impl Record {
    fn of(source: &SourceId, id: &BackupId, proven: &Proven) -> Option<Record> {
        let external = proven.manifest.kind.external()?.clone();
        let (source, id) = (source.clone(), id.clone());
        Some(Record { source, id, digest: proven.sha256, external })
    }
}

/// How closely a backup was looked at, and in words.
fn looked(
    proven: Option<&Proven>,
    (depth, expired): (Depth, bool),
    verdict: &Verdict,
) -> (Closeness, &'static str) {
    let Some(proven) = proven else {
        let words = match only_newer(&verdict.problems) {
            true => "its signature: a newer drctl has to verify it",
            false => "its manifest, which is not trusted",
        };
        return (Closeness::Structure, words);
    };
    if expired {
        return (Closeness::Structure, "only its record: pgBackRest has expired it");
    }
    if proven.manifest.kind.external().is_some() {
        return (Closeness::Structure, "only its record: the data is in pgBackRest's repository");
    }
    if depth == Depth::Structure {
        let words = "signature, and that each object is there with its signed length";
        return (Closeness::Structure, words);
    }
    let (closeness, words) = match verdict.opened {
        false => (Closeness::Stored, "every stored byte; not decrypted: no identity at hand fits"),
        true => (Closeness::Plain, "every stored and every decrypted byte"),
    };
    match verdict.problems.is_empty() {
        true => (closeness, words),
        false => (closeness, "all of it; READ counts what is undamaged"),
    }
}

/// What of it is read, byte for byte, beside signatures and listings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Read {
    /// Nothing.
    Nothing,
    /// Log, and what another tool keeps with it.
    Log,
    /// All of it.
    All,
}

impl Read {
    fn depth(self) -> Depth {
        if self == Read::All { Depth::Data } else { Depth::Structure }
    }
}

/// What is to be looked at, and how.
pub(crate) struct Wanted<'a> {
    /// A source, or a backup; nothing: all.
    pub(crate) what: Option<&'a str>,
    /// Another identity than the configuration's.
    pub(crate) identity: Option<&'a Path>,
    pub(crate) read: Read,
}

/// Looks, as a job on record for these sources.
///
/// # Errors
/// Those of looking: what is found is none.
pub(crate) async fn on_record(
    setup: &Setup,
    sources: Vec<SourceId>,
    looking: Pin<Box<impl Future<Output = Result<FoundOut>>>>,
) -> Result<FoundOut> {
    let amiss = |found: &FoundOut, source: &SourceId| match found.exit() {
        Exit::Success => None,
        _ => found.amiss(source),
    };
    run(setup, (JobKind::Verify, sources), looking, amiss).await
}

/// Looks at what is wanted, and remembers what it found.
///
/// # Errors
/// The store's, the catalog's; [`AgentError::NoBackup`]; [`AgentError::Interrupted`] when the end is
/// wished for.
pub(crate) async fn look(
    setup: &Setup,
    wanted: &Wanted<'_>,
    meter: &Meter,
    stop: &Stop,
) -> Result<FoundOut> {
    let identities = setup.identities(wanted.identity)?;
    meter.label("verifying");
    let looking = async {
        let repository = setup.repository().await?;
        let notebook = Notebook::open(setup, &repository).await;
        let ((gone, said), mut rows) = (expired(setup, &repository).await, Vec::<Row>::new());
        let (mut chains, strangers) =
            (Chains::new(&repository), Strangers::of(setup, &repository).await?);
        let (mut beside, mut records) = (left_out(&repository, wanted).await?, Vec::new());
        let mut all = all_of(&repository, wanted.what, &beside).await?;
        while let Some((source, id, proven)) = all.try_next().await? {
            let depth = wanted.read.depth();
            let verdict = match proven {
                Ok(ref proven) => {
                    let identities = identities.as_ref().filter(|identities| {
                        wanted.identity.is_some() || !is_for_others(proven, identities)
                    });
                    let how = (depth, identities, setup.limits());
                    judged(&repository, &mut chains, proven, how, meter).await?
                }
                Err(ref error) => refused(error),
            };
            // What is removed while it is looked at is not damaged: whether it may be gone is told beside.
            if !verdict.problems.is_empty() && !repository.manifest_is_there(&source, &id).await? {
                continue;
            }
            let with = (&repository, &notebook);
            if let Err(error) = &proven
                && strangers.take(with, (&source, &id), error, &mut beside).await?
            {
                continue;
            }
            let proven = proven.as_ref().ok();
            beside.see(&repository, proven, &strangers).await?;
            let expired = gone.contains_key(&(source.clone(), id.clone()));
            let (closeness, words) = looked(proven, (depth, expired), &verdict);
            if !only_newer(&verdict.problems) {
                let digest = proven.map(|proven| proven.sha256);
                notebook.backup((&source, &id, digest), closeness, &verdict.problems).await;
            }
            let signer = proven.map(|proven| repository.trust.name(&proven.signer));
            records.extend(proven.and_then(|proven| Record::of(&source, &id, proven)));
            rows.push(Row { source, id, closeness, verdict, words, signer, expired });
        }
        let noted = (&notebook, &records[..]);
        let (of, identities) = ((&repository, &beside), (&strangers, identities.as_ref()));
        let (logs, strange) = look_at_logs(setup, (wanted, said), of, noted, identities).await?;
        beside.strangers.extend(strange);
        beside.look(setup, &repository, (wanted.what, &strangers)).await?;
        let seen = rows.iter().map(|row| &row.source).chain(logs.iter().map(|(source, _)| source));
        notebook.conclude(seen.collect::<BTreeSet<_>>()).await;
        let (alarms, standing) =
            (repository.alarms(), standing(setup, &repository, &rows, &logs).await);
        Ok::<_, anyhow::Error>(FoundOut { rows, logs, alarms, beside, standing })
    };
    let found = tokio::select! {
        looked = looking => looked?,
        () = stop.requested() => return Err(AgentError::Interrupted.into()),
    };
    match found.rows.is_empty() && found.beside.is_nothing() {
        true => Err(AgentError::NoBackup("there is no backup to verify".to_owned()).into()),
        false => Ok(found),
    }
}

/// What is found of one backup, and of those that it is based on.
async fn judged(
    repository: &Repository,
    chains: &mut Chains<'_>,
    proven: &Proven,
    (depth, identities, limits): (Depth, Option<&Identities>, Limits),
    meter: &Meter,
) -> Result<Verdict> {
    let mut verdict = verify_one(repository, proven, depth, identities, limits, meter).await?;
    match chains.of(&proven.summary()).await {
        Err(error) if is_broken(&error) => verdict.problems.extend(refused(&error).problems),
        chain => drop(chain?),
    }
    Ok(verdict)
}

impl FoundOut {
    /// How a command ends that found it.
    pub(crate) fn exit(&self) -> Exit {
        let FoundOut { rows, logs, alarms, beside, standing } = self;
        let found = || {
            let rows = rows.iter().map(|row| &row.verdict.problems);
            rows.chain(logs.iter().map(|(_, found)| &found.log.problems))
        };
        let is_bad = found().any(|problems| !problems.is_empty() && !only_newer(problems));
        let is_newer = || found().any(|problems| only_newer(problems)) || beside.is_newer();
        if is_bad || !standing.is_empty() || !alarms.is_empty() || beside.is_bad() {
            Exit::Verification
        } else if is_newer() || beside.is_part() || beside.is_strange() {
            Exit::Degraded
        } else {
            Exit::Success
        }
    }

    /// Stored bytes that were read and compared.
    pub(crate) fn read_bytes(&self) -> u64 {
        let rows = self.rows.iter().map(|row| row.verdict.read_bytes);
        total(rows.chain(self.logs.iter().map(|(_, found)| found.log.read_bytes)))
    }

    /// What lies there and is none of ours, in words.
    pub(crate) fn strangers(&self) -> &[String] {
        &self.beside.strangers
    }

    /// What is on record of it for one source: how much is amiss, and what comes first. What is no
    /// single source's is every one's.
    pub(crate) fn amiss(&self, source: &SourceId) -> Amiss {
        let FoundOut { rows, logs, alarms, beside, .. } = self;
        let rows = rows.iter().filter(|row| row.source == *source).map(|row| &row.verdict.problems);
        let logs = logs.iter().filter(|(of, _)| of == source).map(|(_, found)| &found.log.problems);
        let mut found: Vec<(String, String)> = rows.chain(logs).flatten().cloned().collect();
        let alarms = alarms.iter().filter(|alarm| concerns(alarm, source));
        found.extend(alarms.map(|alarm| (alarm.odd.code().to_owned(), alarm.text())));
        found.extend(beside.amiss(source));
        let (code, first) = found.first()?;
        let many = count(found.len() as u64, "problem");
        Some((code.clone(), format!("it found {many}: {}", shown(first, TEXT_SHOWN))))
    }
}

/// Whether a backup was made for other keys. With the identity of the configuration that says
/// nothing against the backup: it may be older than the key.
fn is_for_others(proven: &Proven, identities: &Identities) -> bool {
    matches!(open_facts(&proven.manifest, identities), Err(SealError::WrongKey))
}

fn refused(error: &anyhow::Error) -> Verdict {
    let failure = Failure::of(error);
    let problems = vec![(failure.code.to_owned(), failure.messages.join(": "))];
    Verdict { problems, read_bytes: 0, opened: false }
}

/// What is left out of a look at everything; what is named has to be readable.
async fn left_out(repository: &Repository, wanted: &Wanted<'_>) -> Result<Beside> {
    match wanted.what {
        None => Ok(Beside::but(Closed::of(repository).await?)),
        Some(_) => Ok(Beside::default()),
    }
}

async fn all_of<'a>(
    repository: &'a Repository,
    what: Option<&str>,
    beside: &Beside,
) -> Result<BoxStream<'a, Result<Candidate>>> {
    let mut sources = repository.sources().await?;
    let Some(what) = what else {
        sources.retain(|source| !beside.leaves_out(source));
        return Ok(everything(repository, sources));
    };
    if let Some(source) = sources.into_iter().find(|source| source.as_str() == what) {
        return Ok(everything(repository, vec![source]));
    }
    let found = repository.find(None, what).await?;
    let (source, id) = (found.manifest.source.clone(), found.manifest.backup.clone());
    Ok(stream::once(async { Ok((source, id, Ok(found))) }).boxed())
}
