//! What would keep a recovery from being done: it is looked for before hours of copying.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use drctl_engines::pg::physical::{HostReport, check_host, may_load, may_run, room_for_sockets};
use drctl_engines::pg::server_program;
use drctl_engines::sandbox::Sandbox;
use drctl_model::{ClusterNeeds, External, Outside, shown, total};
use drctl_policies::rto::Forecast;
use drctl_store::{Identities, open_facts};

use super::{Planned, Refusal};
use crate::host::AgentError;
use crate::repository::Proven;
use crate::repository::rto::foretold;
use crate::restore::cluster::{
    Choice, Kept, Rate, Step, Whose, is_begun, kept, last_rate, waits, whose_number,
};
use crate::restore::outside::told_of_cluster;
use crate::restore::place::check_beside;
use crate::restore::{
    Destination, RestorePlan, RestoreRequest, check_room, plan as plan_base, sandbox,
};

/// Log that the server keeps beside its data while it replays, at most, where it is no more than
/// it was made for (`max_wal_size` and what waits to be replayed).
const LOG_ROOM: u64 = 2 << 30;

/// What can be told of a plan beside the plan.
#[derive(Debug, Default)]
pub struct Outlook {
    /// What this host has of what the cluster needs.
    pub host: HostReport,
    /// Whether the server gets no sandbox, as was wished.
    pub without_sandbox: bool,
    /// Bytes that the directory needs at least.
    pub room: Option<u64>,
    /// Seconds to fetch and extract the base, judging by one segment.
    pub fetch: Option<f64>,
    /// How fast log was replayed the last time.
    pub replay: Option<Rate>,
    /// How long all of it will take, by drills of the source.
    pub drills: Option<Forecast>,
}

/// All that is needed to begin, looked at before anything is touched.
pub struct Prepared {
    pub(super) base: Base,
    pub(super) bin_dir: PathBuf,
    pub(super) user: String,
    pub(super) identity: Option<(PathBuf, Identities)>,
    pub(super) sandbox: Option<Sandbox>,
    /// What lay outside of what the base copied, as far as that is known.
    pub(super) outside: Option<Outside>,
    /// What can be told of it.
    pub outlook: Outlook,
}

/// Where the base comes from.
pub(super) enum Base {
    /// Out of the bucket.
    Stored(Box<(RestoreRequest, RestorePlan)>),
    /// By pgBackRest: the backup of this label.
    Archived(String),
}

impl Prepared {
    /// Whether this host has what the cluster needs, or that was accepted.
    ///
    /// # Errors
    /// [`Refusal::HostLacks`].
    pub fn fits(&self, planned: &Planned<'_>) -> Result<(), Refusal> {
        let missing = &self.outlook.host.missing;
        match missing.is_empty() || planned.request.despite_missing {
            true => Ok(()),
            false => Err(Refusal::HostLacks(missing.clone())),
        }
    }

    /// Whether the base is made as a whole or not at all: nothing of it is kept where an attempt
    /// breaks off.
    #[must_use]
    pub fn is_made_anew(&self) -> bool {
        match &self.base {
            Base::Stored(base) => base.1.chain.is_some(),
            Base::Archived(_) => true,
        }
    }
}

/// Looks at everything that is needed to recover: the directory and its room, the base and what opens
/// it, the server's programs, the host, the sandbox; with `reckon` also how long the base will take, for
/// which one segment is fetched and opened.
///
/// # Errors
/// [`AgentError::Target`] for the directory; [`AgentError::NoIdentity`]; [`AgentError::NoSandbox`];
/// [`AgentError::NoPlan`] for a number that is no transaction's own; as
/// [`plan_base`](crate::restore::plan).
pub async fn prepare(planned: &Planned<'_>, reckon: bool) -> Result<Prepared> {
    let (setup, request) = (planned.setup, &planned.request);
    let directory = request.directory()?;
    if is_begun(directory) && !request.resume {
        return Err(AgentError::Target(waits(directory)).into());
    }
    let base = planned.plan.base.as_str();
    let backup = planned.repository.find(Some(&request.source), base).await?;
    let version = backup.manifest.tools.get("server").cloned().unwrap_or_default();
    may_run()?;
    // The client tools come by its socket, a person's or ours.
    let by_tools = matches!(request.then, Choice::Open | Choice::Extract(_) | Choice::Prove(_));
    room_for_sockets(by_tools)?;
    let server = setup.server(setup.source(request.source.as_str())?.1)?;
    let program = server_program(server.bin_dir.as_deref(), &version).await?;
    let bin_dir = program.parent().context("find the server's programs")?.to_owned();
    may_load(&bin_dir)?;
    let sandbox = match request.without_sandbox {
        true => None,
        false => Some(sandbox(request.limits.as_ref()).await?),
    };
    let begun = if request.resume { kept(directory)? } else { None };
    let external = backup.manifest.kind.external().cloned();
    let plain = backup.manifest.plain_bytes();
    let mut prepared = match external {
        Some(external) => Box::pin(archived(planned, &backup, (&external, begun), bin_dir)).await?,
        None => Box::pin(stored(planned, backup, begun, (bin_dir, reckon))).await?,
    };
    let lacks = sandbox.as_ref().and_then(|sandbox| sandbox.lacks.as_ref());
    let lacks = lacks.map(|lacks| format!("the restored server's sandbox: {lacks}"));
    prepared.outlook.host.notes.extend(lacks);
    prepared.outlook.without_sandbox = request.without_sandbox;
    prepared.outlook.replay = last_rate(&setup.config.paths.state_dir);
    if reckon {
        let bytes = plain.saturating_add(planned.plan.log_bytes);
        let told = foretold(&planned.repository, &request.source, bytes, setup.clock.now()).await;
        prepared.outlook.drills = told.unwrap_or_else(|error| {
            tracing::warn!("how long drills took is not known: {error:#}");
            None
        });
    }
    Ok(Prepared { sandbox, user: server.user, ..prepared })
}

/// Databases that tables are to be taken out of, and that the base backup does not have: only the WAL
/// may still bring them.
fn unknown_databases(then: &Choice, needs: Option<&ClusterNeeds>) -> Vec<String> {
    let (Choice::Extract(tables), Some(needs)) = (then, needs) else { return Vec::new() };
    // A list that could not be asked for tells nothing.
    if needs.databases.is_empty() {
        return Vec::new();
    }
    let named: BTreeSet<&str> = tables.iter().map(|table| table.database.as_str()).collect();
    let known = |name: &&str| needs.databases.iter().any(|known| known.name == *name);
    let text = |name| {
        format!(
            "--extract: the base backup knows of no database `{}` that takes connections: unless the \
             WAL makes it, nothing can be taken out of it",
            shown(name, 100)
        )
    };
    named.into_iter().filter(|name| !known(name)).map(text).collect()
}

/// Of a base that pgBackRest keeps.
async fn archived(
    planned: &Planned<'_>,
    backup: &Proven,
    (external, begun): (&External, Option<Kept>),
    bin_dir: PathBuf,
) -> Result<Prepared> {
    if let Some(stanza) = &planned.known.stanza {
        stanza.backrest.may_restore()?;
    }
    let identity = identity_beside(planned)?;
    whose(planned, identity.as_ref().map(|(_, keys)| keys)).await?;
    // As far as its record tells, and can be opened.
    let facts = identity.as_ref().and_then(|(_, keys)| open_facts(&backup.manifest, keys).ok());
    let (needs, outside) = facts.map_or((None, None), |facts| (facts.cluster, facts.outside));
    let mut host = check_host(&bin_dir, needs.as_ref()).await;
    host.notes.extend(unknown_databases(&planned.request.then, needs.as_ref()));
    host.notes.extend(told_of_cluster(outside.as_ref(), planned.request.directory()?));
    let bytes = match &begun {
        Some((step, _)) if *step > Step::Extracting => 0,
        _ => external.bytes,
    };
    let room = Some(room(planned, bytes)?);
    let base = Base::Archived(external.label.clone());
    let outlook = Outlook { host, room, ..Outlook::default() };
    Ok(Prepared { base, bin_dir, user: String::new(), identity, sandbox: None, outside, outlook })
}

/// Of a base that lies in the bucket.
async fn stored(
    planned: &Planned<'_>,
    backup: Proven,
    begun: Option<Kept>,
    (bin_dir, reckon): (PathBuf, bool),
) -> Result<Prepared> {
    let (setup, request) = (planned.setup, &planned.request);
    let file = request.identity_file(setup)?;
    let identities = setup.identities(Some(&file))?;
    let identities = identities.ok_or(AgentError::NoIdentity(planned.plan.base.clone()))?;
    let facts =
        open_facts(&backup.manifest, &identities).context("open the base backup's facts")?;
    if !request.resume {
        check_beside(request.directory()?, &facts)?;
    }
    whose(planned, Some(&identities)).await?;
    let mut host = check_host(&bin_dir, facts.cluster.as_ref()).await;
    host.notes.extend(unknown_databases(&planned.request.then, facts.cluster.as_ref()));
    host.notes.extend(told_of_cluster(facts.outside.as_ref(), request.directory()?));
    let restore = RestoreRequest {
        identities: identities.clone(),
        backup,
        databases: Vec::new(),
        globals: true,
        destination: Destination::Cluster(request.directory()?.to_owned()),
        begun: request.resume,
        missing: false,
        trusted: None,
        extracted: begun.as_ref().is_some_and(|(step, _)| *step > Step::Extracting),
        jobs: 1,
        owner: true,
        prove: false,
        spool_dir: setup.config.paths.spool_dir.clone(),
        bin_dir: Some(bin_dir.clone()),
    };
    let base = plan_base(&planned.repository, &restore, setup.limits(), reckon).await?;
    let room = Some(room(planned, base_room(&base, begun.as_ref()))?);
    let outlook = Outlook { host, room, fetch: base.estimate, ..Outlook::default() };
    let (base, identity) = (Base::Stored(Box::new((restore, base))), Some((file, identities)));
    let outside = facts.outside;
    Ok(Prepared { base, bin_dir, user: String::new(), identity, sandbox: None, outside, outlook })
}

/// Room for what is not there yet, and for the log while it is replayed.
fn room(planned: &Planned<'_>, base: u64) -> Result<u64> {
    let log = planned.plan.log_bytes.min(LOG_ROOM);
    let needed = base.saturating_add(log);
    check_room(planned.request.directory()?, needed, false)?;
    Ok(needed)
}

/// Room for what is not there yet of the base.
fn base_room(base: &RestorePlan, begun: Option<&Kept>) -> u64 {
    let kept = match begun {
        Some((step, _)) if *step > Step::Extracting => return 0,
        begun => begun.map_or(&[][..], |(_, kept)| kept),
    };
    match (&base.chain, &base.room) {
        // A chain is extracted anew as a whole.
        (Some(_), Some((_, room))) => *room,
        _ => {
            let missing = base.items.iter().filter(|item| !kept.contains(&item.stream.id));
            total(missing.map(|item| item.stream.plain_bytes))
        }
    }
}

/// Whether the number that is asked for is a transaction's own.
async fn whose(planned: &Planned<'_>, identities: Option<&Identities>) -> Result<()> {
    if planned.request.resume {
        return Ok(());
    }
    let Planned { setup, repository, known, request, .. } = planned;
    let whose = Whose { setup, repository, source: &request.source, known, identities };
    whose_number(&whose, &planned.plan).await
}

/// What opens drctl's own log beside pgBackRest's archive, where that is at hand.
fn identity_beside(planned: &Planned<'_>) -> Result<Option<(PathBuf, Identities)>> {
    let (setup, request) = (planned.setup, &planned.request);
    let Ok(file) = request.identity_file(setup) else { return Ok(None) };
    if request.identity.is_none() && !file.exists() {
        return Ok(None);
    }
    Ok(setup.identities(Some(&file))?.map(|identities| (file, identities)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::restore::ChainPlan;

    #[test]
    fn a_mistyped_database_is_named_before_hours_of_work() {
        let needs = |names: &[&str]| ClusterNeeds {
            databases: names
                .iter()
                .map(|name| drctl_model::DatabaseNeeds {
                    name: (*name).to_owned(),
                    collate: "C".into(),
                    ctype: "C".into(),
                    provider: None,
                    collation_version: None,
                    extensions: None,
                    oid: None,
                    tables: vec![],
                })
                .collect(),
            ..ClusterNeeds::default()
        };
        let wanted = ["app:public.a", "nodb:public.a", "nodb:public.b"];
        let then = Choice::Extract(wanted.iter().map(|one| one.parse().unwrap()).collect());
        let said = unknown_databases(&then, Some(&needs(&["app"])));
        assert!(said.len() == 1 && said[0].contains("`nodb`"), "{said:?}");
        for (then, needs) in [
            (&then, Some(needs(&["app", "nodb"]))),
            (&then, Some(needs(&[]))),
            (&then, None),
            (&Choice::Stop, Some(needs(&["app"]))),
        ] {
            assert!(unknown_databases(then, needs.as_ref()).is_empty());
        }
    }

    #[test]
    fn what_is_extracted_needs_no_room_again() {
        let chain = ChainPlan { before: Vec::new(), program: PathBuf::new() };
        let base = RestorePlan {
            items: Vec::new(),
            chain: Some(chain),
            fetch_bytes: 100,
            plain_bytes: 200,
            room: Some((PathBuf::new(), 400)),
            notes: Vec::new(),
            outside: None,
            kept: Vec::new(),
            code: None,
            estimate: None,
        };
        assert_eq!(base_room(&base, None), 400);
        assert_eq!(base_room(&base, Some(&(Step::Extracting, Vec::new()))), 400);
        for step in [Step::Replaying, Step::Proven, Step::Promoting, Step::Promoted] {
            assert_eq!(base_room(&base, Some(&(step, Vec::new()))), 0, "{step:?}");
        }
    }
}
