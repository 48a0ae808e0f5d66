//! The archives of a source's log, looked at.

use std::collections::BTreeMap;

use anyhow::Result;
use drctl_engines::backrest::Info;
use drctl_model::{Closeness, External, SourceId};
use drctl_policies::recovery::Want;
use drctl_store::Identities;

use super::strangers::Strangers;
use super::{Beside, Read, Record, Wanted};
use crate::engine::{ArchiveVerdict, LogArchive, LogArchives, Look, Pieces};
use crate::host::{AgentError, Setup};
use crate::log::{LogStore, learn_anew};
use crate::repository::removed::signed_floors;
use crate::repository::{Notebook, Repository};
use crate::restore::known::{Holes, known_beside};

/// Looks at the archives of the sources' logs, and at the backups that are kept there too.
pub(super) async fn look_at_logs(
    setup: &Setup,
    (wanted, mut said): (&Wanted<'_>, BTreeMap<SourceId, Info>),
    (repository, beside): (&Repository, &Beside),
    (notebook, records): (&Notebook, &[Record]),
    (strangers, identities): (&Strangers, Option<&Identities>),
) -> Result<(Vec<(SourceId, ArchiveVerdict)>, Vec<String>)> {
    let (mut logs, mut strange) = (Vec::new(), Vec::new());
    for source in repository.sources().await? {
        let other = wanted.what.is_some_and(|what| what != source.as_str());
        if other || beside.leaves_out(&source) {
            continue;
        }
        let recorded = || records.iter().filter(|record| record.source == source);
        let external: Vec<&External> = recorded().map(|record| &record.external).collect();
        let log_store = LogStore::reader(repository, &source);
        let own = Pieces { log_store, cache: None, identities };
        let archives = LogArchives::now(setup, own, said.remove(&source)).await?;
        let data = wanted.read != Read::Nothing;
        let look = Look { data, recorded: &external, limits: setup.limits() };
        for archive in archives.all() {
            let found = verify_log(repository, &source, archive, &look).await?;
            let Some(mut found) = found else { continue };
            let told = strangers.log(repository, &source, &mut found.log).await?;
            let is_strange = !told.is_empty();
            strange.extend(told);
            for record in recorded() {
                let Some(problems) = found.of(&record.external) else { continue };
                let of = (&source, &record.id, Some(record.digest));
                notebook.backup(of, Closeness::Stored, &problems).await;
            }
            // The identity of the configuration may be younger than the log.
            if wanted.identity.is_some() && found.log.closed > 0 {
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
            // Where nothing but a stranger's lies there is no log.
            if !is_strange || found.log.pieces > 0 || !found.log.problems.is_empty() {
                logs.push((source.clone(), found));
            }
        }
    }
    Ok((logs, strange))
}

/// Looks at an archive of log; once more where something is wrong and log was removed meanwhile: what is
/// removed on purpose is not damaged.
async fn verify_log(
    repository: &Repository,
    source: &SourceId,
    archive: &dyn LogArchive,
    look: &Look<'_>,
) -> Result<Option<ArchiveVerdict>> {
    let mut floors = signed_floors(repository, source).await?;
    loop {
        let found = archive.verify(look).await?;
        if found.as_ref().is_none_or(|found| found.log.problems.is_empty()) {
            return Ok(found);
        }
        let now = signed_floors(repository, source).await?;
        if now == floors {
            return Ok(found);
        }
        floors = now;
    }
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
