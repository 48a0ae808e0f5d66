use std::collections::BTreeSet;

use anyhow::Result;
use drctl_catalog::Subject;
use drctl_model::{BackupId, Closeness, Digest, External, JobKind, SourceId};
use drctl_policies::recovery::Want;
use drctl_store::{Alarm, Identities, SealError, open_facts};
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt as _, TryStreamExt as _};

use super::args::VerifyArgs;
use super::check_beside::Beside;
use super::heard::heard_within;
use super::progress::Progress;
use super::screen::Screen;
use crate::engine::pgbackrest::{expired, verify_stanza};
use crate::engine::wal::verify_log;
use crate::host::{AgentError, Exit, Failure, Meter, Setup, Stop};
use crate::jobs::{meant, run};
use crate::log::{LogStore, LogVerdict, learn_anew};
use crate::repository::chain::is_broken;
use crate::repository::verify::only_newer;
use crate::repository::{
    Candidate, Chains, Depth, Notebook, Proven, Repository, Verdict, everything,
    verify as verify_one,
};
use crate::restore::known::{Holes, known};

/// What was found of one backup.
pub(super) struct Row {
    pub(super) source: SourceId,
    pub(super) id: BackupId,
    pub(super) closeness: Closeness,
    pub(super) verdict: Verdict,
    /// What was looked at, in words.
    pub(super) words: &'static str,
    /// What people call the key that signed it, where that is believed.
    pub(super) signer: Option<String>,
    /// Whether the tool that kept its data has them no more.
    pub(super) expired: bool,
}

/// What was found of a log, or of what pgBackRest keeps.
pub(super) struct Looked {
    pub(super) source: SourceId,
    pub(super) closeness: Closeness,
    pub(super) verdict: LogVerdict,
    /// What was looked at, in words.
    pub(super) words: &'static str,
}

/// All that was found out.
pub(super) struct FoundOut {
    pub(super) rows: Vec<Row>,
    pub(super) logs: Vec<Looked>,
    /// Objects that somebody meddled with.
    pub(super) alarms: Vec<Alarm>,
    pub(super) beside: Beside,
}

impl Looked {
    fn log(source: &SourceId, data: bool, verdict: LogVerdict) -> Self {
        let (closeness, words) = match (data, verdict.opened) {
            (_, true) => (Closeness::Plain, "every stored byte and every record"),
            (true, false) => (
                Closeness::Stored,
                "signatures and every stored byte; not decrypted: no identity at hand fits",
            ),
            (false, false) => {
                (Closeness::Structure, "the signature of every piece; its data was not read")
            }
        };
        Looked { source: source.clone(), closeness, verdict, words }
    }

    fn stanza(source: &SourceId, data: bool, verdict: LogVerdict) -> Self {
        let (closeness, words) = match data {
            true => (Closeness::Stored, "what pgBackRest lists and what its own verify read"),
            false => (Closeness::Structure, "what pgBackRest lists; no byte was read"),
        };
        Looked { source: source.clone(), closeness, verdict, words }
    }
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
    match (depth, verdict.opened) {
        (Depth::Structure, _) => (
            Closeness::Structure,
            "signature, and that each object is there with its signed length",
        ),
        (Depth::Data, false) => {
            (Closeness::Stored, "every stored byte; not decrypted: no identity at hand fits")
        }
        (Depth::Data, true) => (Closeness::Plain, "every stored and every decrypted byte"),
    }
}

/// `drctl verify`.
pub(super) async fn verify(
    screen: Screen,
    setup: &Setup,
    args: &VerifyArgs,
    stop: &Stop,
) -> Result<Exit> {
    let looking = async {
        // One that reads data may wait for longer.
        let patience = match args.data {
            true => setup.patience_with_data(),
            false => setup.patience(),
        };
        let found = heard_within(setup, patience, look(screen, setup, args, stop)).await?;
        let exit = exit(&found);
        Ok((exit, found))
    };
    let sources = meant(setup, args.what.as_deref()).await;
    let amiss = |(exit, found): &(Exit, FoundOut), source: &SourceId| match exit {
        Exit::Success => None,
        _ => found.amiss(source),
    };
    let (exit, found) = run(setup, (JobKind::Verify, sources), Box::pin(looking), amiss).await?;
    found.print(screen, args);
    Ok(exit)
}

async fn look(screen: Screen, setup: &Setup, args: &VerifyArgs, stop: &Stop) -> Result<FoundOut> {
    let identities = setup.identities(args.identity.as_deref())?;
    let depth = if args.data { Depth::Data } else { Depth::Structure };
    let meter = Meter::default();
    meter.label("verifying");
    let progress = Progress::show(screen, &meter);
    let looking = async {
        let repository = setup.repository().await?;
        let notebook = Notebook::open(setup, &repository).await;
        let (gone, mut rows) = (expired(setup, &repository).await, Vec::<Row>::new());
        let mut chains = Chains::new(&repository);
        let (mut beside, mut records) = (Beside::default(), Vec::new());
        let mut all = wanted(&repository, args.what.as_deref()).await?;
        while let Some((source, id, proven)) = all.try_next().await? {
            let verdict = match proven {
                Ok(ref proven) => {
                    let limits = setup.limits();
                    let identities = identities.as_ref().filter(|identities| {
                        args.identity.is_some() || !is_for_others(proven, identities)
                    });
                    let mut verdict =
                        verify_one(&repository, proven, depth, identities, limits, &meter).await?;
                    match chains.of(&proven.summary()).await {
                        Err(error) if is_broken(&error) => {
                            verdict.problems.extend(refused(&error).problems);
                        }
                        chain => drop(chain?),
                    }
                    verdict
                }
                Err(ref error) => refused(error),
            };
            let proven = proven.as_ref().ok();
            if let Some(proven) = proven {
                beside.see(&repository, proven).await?;
            }
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
        drop(all);
        let noted = (&notebook, &records[..]);
        let logs = look_at_logs(setup, args, &repository, noted, identities.as_ref()).await?;
        beside.look(setup, &repository, args.what.as_deref()).await?;
        let seen = rows.iter().map(|row| &row.source).chain(logs.iter().map(|log| &log.source));
        notebook.conclude(seen.collect::<BTreeSet<_>>()).await;
        Ok::<_, anyhow::Error>(FoundOut { rows, logs, alarms: repository.alarms(), beside })
    };
    let found = tokio::select! {
        looked = looking => looked?,
        () = stop.requested() => return Err(AgentError::Interrupted.into()),
    };
    drop(progress);
    if found.rows.is_empty() && !found.beside.is_bad() {
        return Err(AgentError::NoBackup("there is no backup to verify".to_owned()).into());
    }
    Ok(found)
}

fn exit(FoundOut { rows, logs, alarms, beside }: &FoundOut) -> Exit {
    let found = || {
        let rows = rows.iter().map(|row| &row.verdict.problems);
        rows.chain(logs.iter().map(|log| &log.verdict.problems))
    };
    let is_bad = found().any(|problems| !problems.is_empty() && !only_newer(problems));
    if is_bad || !alarms.is_empty() || beside.is_bad() {
        Exit::Verification
    } else if found().any(|problems| only_newer(problems)) || beside.is_newer() {
        Exit::Degraded
    } else {
        Exit::Success
    }
}

/// Looks at the logs of sources, and at what pgBackRest keeps of them.
async fn look_at_logs(
    setup: &Setup,
    args: &VerifyArgs,
    repository: &Repository,
    (notebook, records): (&Notebook, &[Record]),
    identities: Option<&Identities>,
) -> Result<Vec<Looked>> {
    let mut logs = Vec::new();
    for source in repository.sources().await? {
        if args.what.as_deref().is_some_and(|what| what != source.as_str()) {
            continue;
        }
        let of_it = records.iter().filter(|record| record.source == source);
        let of_it: Vec<&External> = of_it.map(|record| &record.external).collect();
        if let Some(verdict) = verify_stanza(setup, source.as_str(), args.data, &of_it).await? {
            for record in records.iter().filter(|record| record.source == source) {
                let Some(problems) = verdict.of(&record.external) else { continue };
                let of = (&source, &record.id, Some(record.digest));
                notebook.backup(of, Closeness::Stored, &problems).await;
            }
            let log = Looked::stanza(&source, args.data, verdict.log);
            notebook.log(&source, Subject::Stanza, log.closeness, &log.verdict.problems).await;
            logs.push(log);
        }
        let limits = setup.limits();
        let mut verdict = verify_log(repository, &source, args.data, identities, limits).await?;
        // The identity of the configuration may be younger than the log.
        if args.identity.is_some() && verdict.closed > 0 {
            let text = format!("none of the identities at hand opens {} pieces", verdict.closed);
            verdict.problems.push(("wrong_key".to_owned(), text));
        }
        if verdict.pieces > 0 || !verdict.problems.is_empty() {
            if verdict.is_contradicted() {
                // From now on this host plans by the heads.
                let found = (Closeness::Structure, &verdict.problems[..]);
                notebook.log(&source, Subject::Log, found.0, found.1).await;
                plan_by_heads(setup, repository, &source).await;
            }
            verdict.learn(holes(setup, repository, &source).await?);
            let log = Looked::log(&source, args.data, verdict);
            notebook.log(&source, Subject::Log, log.closeness, &log.verdict.problems).await;
            logs.push(log);
        }
    }
    Ok(logs)
}

/// Lets the catalog learn a source's log anew, by the heads of its pieces.
async fn plan_by_heads(setup: &Setup, repository: &Repository, source: &SourceId) {
    let Some(cache) = setup.log_cache(repository).await else { return };
    let learnt = learn_anew(&LogStore::reader(repository, source), &cache).await;
    if let Err(error) = learnt {
        tracing::warn!("a wrong index of {source} is still in the catalog: {error:#}");
    }
}

/// What is missing of a source's log; nothing is told of one without a base backup.
async fn holes(setup: &Setup, repository: &Repository, source: &SourceId) -> Result<Holes> {
    let cache = setup.log_cache(repository).await;
    match known(setup, repository, source, cache.as_ref(), (Want::Last, None)).await {
        Ok(known) => Ok(Holes::of(&known)),
        Err(error) if matches!(error.downcast_ref(), Some(AgentError::NoBackup(_))) => {
            Ok(Holes::default())
        }
        Err(error) => Err(error),
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

async fn wanted<'a>(
    repository: &'a Repository,
    what: Option<&str>,
) -> Result<BoxStream<'a, Result<Candidate>>> {
    let sources = repository.sources().await?;
    let Some(what) = what else { return Ok(everything(repository, sources)) };
    if let Some(source) = sources.into_iter().find(|source| source.as_str() == what) {
        return Ok(everything(repository, vec![source]));
    }
    let found = repository.find(None, what).await?;
    let (source, id) = (found.manifest.source.clone(), found.manifest.backup.clone());
    Ok(stream::once(async { Ok((source, id, Ok(found))) }).boxed())
}
