use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use drctl_engines::boxed::Boxes;
use drctl_engines::pg::physical::{HostReport, check_host, may_run};
use drctl_engines::pg::server_program;
use drctl_model::{DrillId, SourceId, total};
use drctl_policies::recovery::{RecoveryPlan, Target, Want, Warning};
use drctl_store::{Identities, open_facts};
use serde_json::json;

use super::args::RestoreArgs;
use super::boxes::boxes;
use super::journal::Journal;
use super::progress::Progress;
use super::recovery_failed::{Instead, failed, lead_on};
use super::recovery_plan::{changed, identity_file, plan_on_whole};
use super::recovery_words::{Outlook, accepted, done_object, done_text, plan_text, signed_text};
use super::screen::Screen;
use crate::host::{AgentError, Exit, Failure, Meter, Setup, Stop};
use crate::repository::{Proven, Repository, losses};
use crate::restore::cluster::{
    Choice, Identity, Kept, RecoverRequest, Recovered, RecoveryState, Step, Whose, bound_digest,
    end_own, is_begun, kept, laid_out, last_rate, lay_out, plan_digest, recover as run_recovery,
    timeline_of, waits, whose_number, with_log_ahead,
};
use crate::restore::known::{Known, known};
use crate::restore::{Destination, Drilling, RestorePlan, RestoreRequest, check_room, plan};

/// Log that the server keeps beside its data while it replays, at most, where it is no more than
/// it was made for (`max_wal_size` and what waits to be replayed).
const LOG_ROOM: u64 = 2 << 30;

/// `drctl restore` to a point in time.
pub(super) async fn recover(
    screen: Screen,
    setup: &Setup,
    args: &RestoreArgs,
    target: Target,
    stop: &Stop,
) -> Result<Exit> {
    let source = super::source_id(&args.source)?;
    // It tells where the server's programs are: without it no plan could be run.
    setup.source(source.as_str())?;
    let drilling = if args.drill { Some(Drilling::begin(setup)?) } else { None };
    let looking = async {
        let repository = setup.repository().await?;
        let cache = setup.log_cache(&repository).await;
        let wanted = (Want::of(Some(&target)), args.system_id);
        let mut known = known(setup, &repository, &source, cache.as_ref(), wanted).await?;
        if let Some(backup) = &args.backup {
            let chosen = losses::find(setup, &repository, Some(&source), backup).await?;
            known.archive = known.archive.only(&chosen.manifest.backup);
        }
        Ok::<_, anyhow::Error>((repository, known))
    };
    let (repository, mut known) = tokio::select! {
        looked = looking => looked?,
        () = stop.requested() => return Err(AgentError::Interrupted.into()),
    };
    for reason in &known.refused {
        screen.say(format!("passed over: {reason}"));
    }
    let of = (&repository, &source, timeline_of(args.timeline)?);
    let mut planned = plan_on_whole(screen, setup, of, &mut known, &target).await?;
    planned.warnings.extend(known.uncopied.map(Warning::NoCopyOf));
    let digest = plan_digest(&planned);
    let work =
        Work { setup, repository: &repository, known: &known, source: &source, args, planned };
    if args.plan {
        let mut outlook = work.outlook().await;
        let loss = accepted(&work.planned, args).err().map(|error| error.to_string());
        outlook.refused = loss.or(outlook.refused);
        let (checks, estimate) = outlook.object(&work.planned);
        let object = json!({
            "plan": work.planned, "digest": digest, "checks": checks, "estimate": estimate, "signed_by": work.signer(),
        });
        let text = || plan_text(&work.planned, &digest, &outlook) + &signed_text(work.signer());
        screen.answer("drctl.recovery-plan/1", object, text);
        return Ok(Exit::Success);
    }
    accepted(&work.planned, args)?;
    if let Some(wanted) = args.yes.as_ref().filter(|wanted| **wanted != digest) {
        return Err(changed(&work.planned, &digest, wanted));
    }
    let directory = work.directory()?;
    let ready = tokio::select! {
        ready = work.ready(&directory, !(screen.json || screen.quiet)) => ready?,
        () = stop.requested() => return Err(AgentError::Interrupted.into()),
    };
    if let (Some(_), false) = (ready.outlook.host.missing.first(), args.despite_missing) {
        let text = format!(
            "this host lacks what the cluster needs, and nothing was done:\n  {}\n  \
             install it, or go on regardless with --despite-missing",
            ready.outlook.host.missing.join("\n  ")
        );
        return Err(AgentError::Target(text).into());
    }
    work.run(screen, (&directory, &digest), ready, drilling, stop).await
}

/// A recovery that was planned.
struct Work<'a> {
    setup: &'a Setup,
    repository: &'a Repository,
    known: &'a Known,
    source: &'a SourceId,
    args: &'a RestoreArgs,
    planned: RecoveryPlan,
}

/// All that is needed to begin, looked at before anything is touched.
struct Ready {
    base: LayOut,
    bin_dir: PathBuf,
    user: String,
    identity: Option<(PathBuf, Identities)>,
    boxes: Option<Boxes>,
    outlook: Outlook,
}

/// How the base is laid out.
enum LayOut {
    /// Out of the bucket.
    Stored(Box<(RestoreRequest, RestorePlan)>),
    /// By pgBackRest: the backup of this label.
    Archived(String),
}

impl Work<'_> {
    fn signer(&self) -> Option<String> {
        self.known.signed_by(&self.repository.trust, &self.planned.base)
    }

    fn directory(&self) -> Result<PathBuf> {
        let directory = self.args.to_directory.clone().ok_or_else(|| {
            AgentError::Usage("a recovery needs a new directory: --to-directory DIR".to_owned())
        })?;
        Ok(std::path::absolute(directory)?)
    }

    /// What can be told of the plan beside the plan; what keeps it from being told would also keep
    /// the recovery from beginning.
    async fn outlook(&self) -> Outlook {
        let ready = async { self.ready(&self.directory()?, true).await };
        ready.await.map_or_else(
            |error| Outlook { refused: Some(format!("{error:#}")), ..Outlook::default() },
            |ready| ready.outlook,
        )
    }

    /// What would keep it from being done is better known before hours of copying.
    async fn ready(&self, directory: &Path, reckon: bool) -> Result<Ready> {
        let (setup, args) = (self.setup, self.args);
        if is_begun(directory) && !args.resume {
            return Err(AgentError::Target(waits(directory)).into());
        }
        let backup = self.repository.find(Some(self.source), self.planned.base.as_str()).await?;
        let version = backup.manifest.tools.get("server").cloned().unwrap_or_default();
        may_run()?;
        let server = setup.server(setup.source(self.source.as_str())?.1)?;
        let program = server_program(&server, &version).await?;
        let bin_dir = program.parent().context("find the server's programs")?.to_owned();
        let (boxes, unboxed) = boxes(self.args).await?;
        let state = if args.resume { kept(directory)? } else { None };
        if let Some(external) = backup.manifest.kind.external() {
            let identity = self.identity_beside()?;
            self.whose(identity.as_ref().map(|(_, keys)| keys)).await?;
            let mut host = external_host(&backup, identity.as_ref(), &bin_dir).await;
            host.notes.extend(unboxed);
            let room = match &state {
                Some((step, _)) if *step > Step::LayingOut => 0,
                _ => external.bytes,
            };
            let room = Some(self.room(directory, room)?);
            let replay = last_rate(&setup.config.paths.state_dir);
            let outlook = Outlook { host, refused: None, room, fetch: None, replay };
            let base = LayOut::Archived(external.label.clone());
            return Ok(Ready { base, bin_dir, user: server.user, identity, boxes, outlook });
        }
        let identity = identity_file(setup, args)?;
        let identities = setup.identities(Some(&identity))?;
        let identities = identities.ok_or(AgentError::NoIdentity(self.planned.base.clone()))?;
        let facts = open_facts(&backup.manifest, &identities).context("open the copy's facts")?;
        self.whose(Some(&identities)).await?;
        let mut host = check_host(&bin_dir, facts.cluster.as_ref()).await;
        host.notes.extend(unboxed);
        let request = RestoreRequest {
            identities: identities.clone(),
            backup,
            databases: Vec::new(),
            globals: true,
            destination: Destination::Cluster(directory.to_owned()),
            begun: args.resume,
            missing: false,
            trusted: None,
            laid_out: state.as_ref().is_some_and(|(step, _)| *step > Step::LayingOut),
            jobs: 1,
            owner: true,
            spool_dir: setup.config.paths.spool_dir.clone(),
            bin_dir: Some(bin_dir.clone()),
        };
        let base = plan(self.repository, &request, setup.limits(), reckon).await?;
        let room = self.room(directory, copy_room(&base, state.as_ref()))?;
        let replay = last_rate(&setup.config.paths.state_dir);
        let fetch = base.estimate;
        let outlook = Outlook { host, refused: None, room: Some(room), fetch, replay };
        let base = LayOut::Stored(Box::new((request, base)));
        let identity = Some((identity, identities));
        Ok(Ready { base, bin_dir, user: server.user, identity, boxes, outlook })
    }

    /// Room for what is not there yet, and for the log while it is replayed.
    fn room(&self, directory: &Path, copy: u64) -> Result<u64> {
        let log = self.planned.log_bytes.min(LOG_ROOM);
        let needed = copy.saturating_add(log);
        check_room(directory, needed)?;
        Ok(needed)
    }

    /// Whether the number that is asked for is a transaction's own.
    async fn whose(&self, identities: Option<&Identities>) -> Result<()> {
        let folder = &self.setup.config.paths.runtime_dir;
        let (repository, source, known) = (self.repository, self.source, self.known);
        let whose = Whose { repository, source, known, identities, folder };
        if self.args.resume { Ok(()) } else { whose_number(&whose, &self.planned).await }
    }

    /// What opens drctl's own log beside pgBackRest's archive, where that is at hand.
    fn identity_beside(&self) -> Result<Option<(PathBuf, Identities)>> {
        let Ok(file) = identity_file(self.setup, self.args) else { return Ok(None) };
        if self.args.identity.is_none() && !file.exists() {
            return Ok(None);
        }
        Ok(self.setup.identities(Some(&file))?.map(|identities| (file, identities)))
    }

    fn choice(&self) -> Choice {
        match self.args {
            RestoreArgs { promote: true, .. } => Choice::Promote,
            RestoreArgs { open: true, .. } => Choice::Open,
            RestoreArgs { extract, .. } if !extract.is_empty() => Choice::Extract(extract.clone()),
            _ => Choice::Stop,
        }
    }

    async fn run(
        &self,
        screen: Screen,
        (directory, digest): (&Path, &str),
        ready: Ready,
        drilling: Option<Drilling<'_>>,
        stop: &Stop,
    ) -> Result<Exit> {
        let of = Identity {
            source: self.source.to_string(),
            plan: bound_digest(&self.planned),
            base: self.planned.base.clone(),
        };
        let mut state = match self.args.resume {
            true => RecoveryState::resume(directory, &of)?,
            false => RecoveryState::begin(directory, of)?,
        };
        end_own(&state).await?;
        let journal = Journal::open(directory)?;
        let text = plan_text(&self.planned, digest, &ready.outlook) + &signed_text(self.signer());
        journal.note(&text);
        screen.say(text);
        let meter = Meter::default();
        let (progress, following) = (Progress::show(screen, &meter), journal.sync(&meter));
        let began = std::time::Instant::now();
        let anew = match &ready.base {
            LayOut::Stored(base) => base.1.chain.is_some(),
            LayOut::Archived(_) => true,
        };
        let done = self.bring(directory, &mut state, ready, &meter, stop).await;
        drop((progress, following));
        let seconds = began.elapsed().as_secs_f64();
        let instead = match &done {
            Ok(_) => Instead::default(),
            Err(_) => {
                let of = (self.setup, self.repository, self.source);
                lead_on(of, self.known, &self.planned, state.step()).await
            }
        };
        let done = done
            .map_err(|error| failed(error, self.args, &self.planned, (directory, &instead), anew));
        let mut text = match &done {
            Ok(done) => done_text((&self.planned, done), directory, seconds),
            Err(error) => error.to_string(),
        };
        journal.note(&text);
        let drill = self.evidence(drilling, done.as_ref()).await;
        let drill = drill.inspect_err(|error| journal.note(&format!("{error:#}")));
        let done = done?;
        let drill = drill.inspect_err(|_| screen.say(&text)).with_context(|| {
            format!(
                "the recovery is proven, and {} is as drctl.log in it says; the evidence of the \
                 drill could not be kept",
                directory.display()
            )
        })?;
        if let Some(id) = &drill {
            text = format!("{text}\n  kept as evidence: the drill {id}");
        }
        let mut object = done_object(&self.planned, &done, directory);
        object["seconds"] = json!(seconds);
        object["drill"] = json!(drill);
        object["signed_by"] = json!(self.signer());
        screen.answer("drctl.recovery/1", object, || text);
        Ok(Exit::Success)
    }

    /// Keeps what a drill came to. One that was stopped came to nothing.
    async fn evidence(
        &self,
        drilling: Option<Drilling<'_>>,
        done: Result<&Recovered, &anyhow::Error>,
    ) -> Result<Option<DrillId>> {
        let stopped = |error: &&anyhow::Error| Failure::of(error).exit == Exit::Interrupted;
        let Some(drilling) = drilling.filter(|_| !done.as_ref().is_err_and(stopped)) else {
            return Ok(None);
        };
        let of = (self.known.system_id, &self.planned);
        let kept = drilling.end(self.repository, self.source, of, done).await;
        if let (Err(error), true) = (&kept, done.is_err()) {
            tracing::error!("that the drill failed could not be kept in the bucket: {error:#}");
        }
        kept.map(Some)
    }

    async fn bring(
        &self,
        directory: &Path,
        state: &mut RecoveryState,
        ready: Ready,
        meter: &Meter,
        stop: &Stop,
    ) -> Result<Recovered> {
        let Ready { base, bin_dir, user, identity, boxes, .. } = ready;
        let limits = self.setup.limits();
        let recovery = RecoverRequest {
            setup: self.setup,
            repository: self.repository,
            source: self.source.as_str(),
            known: self.known,
            plan: &self.planned,
            directory: directory.to_owned(),
            identity,
            user,
            bin_dir,
            choice: self.choice(),
            boxes,
            preload: self.args.preload.clone(),
        };
        match (&base, &self.known.stanza) {
            (LayOut::Stored(base), _) => {
                let (request, base) = &**base;
                lay_out(self.repository, request, base, (state, limits), meter, stop).await?;
                with_log_ahead(&recovery, run_recovery(&recovery, state, meter, stop)).await
            }
            (LayOut::Archived(label), Some(stanza)) => {
                // pgBackRest leaves us a processor while it lays out.
                let work = async {
                    laid_out::lay_out(stanza, label, state, meter, stop).await?;
                    run_recovery(&recovery, state, meter, stop).await
                };
                with_log_ahead(&recovery, work).await
            }
            (LayOut::Archived(label), None) => anyhow::bail!("there is no stanza with {label}"),
        }
    }
}

/// What this host has of what the cluster of an external backup needs, as far as its record tells.
async fn external_host(
    backup: &Proven,
    identity: Option<&(PathBuf, Identities)>,
    bin_dir: &Path,
) -> HostReport {
    let facts = identity.and_then(|(_, keys)| open_facts(&backup.manifest, keys).ok());
    check_host(bin_dir, facts.and_then(|facts| facts.cluster).as_ref()).await
}

/// Room for what is not there yet of the copy.
fn copy_room(base: &RestorePlan, state: Option<&Kept>) -> u64 {
    let kept = match state {
        Some((step, _)) if *step > Step::LayingOut => return 0,
        state => state.map_or(&[][..], |(_, kept)| kept),
    };
    match (&base.chain, &base.room) {
        // A chain is laid out anew as a whole.
        (Some(_), Some((_, room))) => *room,
        _ => {
            let missing = base.items.iter().filter(|item| !kept.contains(&item.stream.id));
            total(missing.map(|item| item.stream.plain_bytes))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::restore::ChainPlan;

    #[test]
    fn what_is_laid_out_needs_no_room_again() {
        let chain = ChainPlan { before: Vec::new(), program: PathBuf::new() };
        let base = RestorePlan {
            items: Vec::new(),
            chain: Some(chain),
            fetch_bytes: 100,
            plain_bytes: 200,
            room: Some((PathBuf::new(), 400)),
            notes: Vec::new(),
            code: None,
            estimate: None,
        };
        assert_eq!(copy_room(&base, None), 400);
        assert_eq!(copy_room(&base, Some(&(Step::LayingOut, Vec::new()))), 400);
        for step in [Step::Replaying, Step::Proven, Step::Promoting, Step::Promoted] {
            assert_eq!(copy_room(&base, Some(&(step, Vec::new()))), 0, "{step:?}");
        }
    }
}
