use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use drctl_engines::backrest::Info;
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
use crate::engine::pgbackrest::expired;
use crate::engine::{ArchiveVerdict, LogArchives, Look, Pieces};
use crate::host::{AgentError, Exit, Failure, Meter, Setup, Stop};
use crate::jobs::{meant, run};
use crate::log::{LogStore, learn_anew};
use crate::repository::chain::is_broken;
use crate::repository::verify::only_newer;
use crate::repository::{
    Candidate, Chains, Closed, Depth, Notebook, Proven, Repository, Verdict, everything,
    verify as verify_one,
};
use crate::restore::known::{Holes, known_beside};

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

/// All that was found out.
pub(super) struct FoundOut {
    pub(super) rows: Vec<Row>,
    /// What was found of each archive of a source's log.
    pub(super) logs: Vec<(SourceId, ArchiveVerdict)>,
    /// Objects that somebody meddled with.
    pub(super) alarms: Vec<Alarm>,
    pub(super) beside: Beside,
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
    // One that reads data may wait for longer.
    let patience = if args.data { setup.patience_with_data() } else { setup.patience() };
    let sources = tokio::select! {
        meant = heard_within(setup, patience, meant(setup, args.what.as_deref())) => meant?,
        () = stop.requested() => return Err(AgentError::Interrupted.into()),
    };
    let looking = async {
        let found = heard_within(setup, patience, look(screen, setup, args, stop)).await?;
        let exit = exit(&found);
        Ok((exit, found))
    };
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
        let ((gone, said), mut rows) = (expired(setup, &repository).await, Vec::<Row>::new());
        let mut chains = Chains::new(&repository);
        let (mut beside, mut records) = (left_out(&repository, args).await?, Vec::new());
        let mut all = wanted(&repository, args.what.as_deref(), &beside).await?;
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
        let of = (&repository, &beside);
        let logs = look_at_logs(setup, (args, said), of, noted, identities.as_ref()).await?;
        beside.look(setup, &repository, args.what.as_deref()).await?;
        let seen = rows.iter().map(|row| &row.source).chain(logs.iter().map(|(source, _)| source));
        notebook.conclude(seen.collect::<BTreeSet<_>>()).await;
        Ok::<_, anyhow::Error>(FoundOut { rows, logs, alarms: repository.alarms(), beside })
    };
    let found = tokio::select! {
        looked = looking => looked?,
        () = stop.requested() => return Err(AgentError::Interrupted.into()),
    };
    drop(progress);
    if found.rows.is_empty() && !found.beside.is_bad() && !found.beside.is_part() {
        return Err(AgentError::NoBackup("there is no backup to verify".to_owned()).into());
    }
    Ok(found)
}

fn exit(FoundOut { rows, logs, alarms, beside }: &FoundOut) -> Exit {
    let found = || {
        let rows = rows.iter().map(|row| &row.verdict.problems);
        rows.chain(logs.iter().map(|(_, found)| &found.log.problems))
    };
    let is_bad = found().any(|problems| !problems.is_empty() && !only_newer(problems));
    if is_bad || !alarms.is_empty() || beside.is_bad() {
        Exit::Verification
    } else if found().any(|problems| only_newer(problems))
        || beside.is_newer()
        || beside.is_part()
        || beside.is_strange()
    {
        Exit::Degraded
    } else {
        Exit::Success
    }
}

/// Looks at the archives of the sources' logs, and at the backups that are kept there too.
async fn look_at_logs(
    setup: &Setup,
    (args, mut said): (&VerifyArgs, BTreeMap<SourceId, Info>),
    (repository, beside): (&Repository, &Beside),
    (notebook, records): (&Notebook, &[Record]),
    identities: Option<&Identities>,
) -> Result<Vec<(SourceId, ArchiveVerdict)>> {
    let mut logs = Vec::new();
    for source in repository.sources().await? {
        let other = args.what.as_deref().is_some_and(|what| what != source.as_str());
        if other || beside.leaves_out(&source) {
            continue;
        }
        let recorded = || records.iter().filter(|record| record.source == source);
        let external: Vec<&External> = recorded().map(|record| &record.external).collect();
        let log_store = LogStore::reader(repository, &source);
        let own = Pieces { log_store, cache: None, identities };
        let archives = LogArchives::now(setup, own, said.remove(&source)).await?;
        let look = Look { data: args.data, recorded: &external, limits: setup.limits() };
        for archive in archives.all() {
            let Some(mut found) = archive.verify(&look).await? else { continue };
            for record in recorded() {
                let Some(problems) = found.of(&record.external) else { continue };
                let of = (&source, &record.id, Some(record.digest));
                notebook.backup(of, Closeness::Stored, &problems).await;
            }
            // The identity of the configuration may be younger than the log.
            if args.identity.is_some() && found.log.closed > 0 {
                let text =
                    format!("none of the identities at hand opens {} pieces", found.log.closed);
                found.log.problems.push(("wrong_key".to_owned(), text));
            }
            if found.log.is_contradicted() {
                // From now on this host plans by the heads.
                let problems = &found.log.problems[..];
                notebook.log(&source, found.subject.clone(), Closeness::Structure, problems).await;
                plan_by_heads(setup, repository, &source).await;
            }
            if !found.tells_gaps {
                let holes = holes(setup, repository, &source, &archives).await?;
                found.log.learn(holes);
            }
            notebook
                .log(&source, found.subject.clone(), found.closeness, &found.log.problems)
                .await;
            logs.push((source.clone(), found));
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
async fn holes(
    setup: &Setup,
    repository: &Repository,
    source: &SourceId,
    archives: &LogArchives<'_>,
) -> Result<Holes> {
    let (cache, seen) = (setup.log_cache(repository).await, archives.seen());
    let known =
        known_beside(setup, repository, source, cache.as_ref(), (Want::Last, None), seen).await;
    match known {
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

/// What is left out of a look at everything; what is named has to be readable.
async fn left_out(repository: &Repository, args: &VerifyArgs) -> Result<Beside> {
    match args.what {
        None => Ok(Beside::but(Closed::of(repository).await?)),
        Some(_) => Ok(Beside::default()),
    }
}

async fn wanted<'a>(
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
