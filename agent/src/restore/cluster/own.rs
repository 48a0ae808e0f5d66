//! A recovered cluster that is one of its own: how it becomes one, and what an earlier attempt, or
//! somebody else, has made of it.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use drctl_engines::pg::physical::{
    Layout, Look, Orphan, Progress, Recovering, end_orphan, orphan, out_of_the_sandbox,
};
use drctl_policies::recovery::Target;

use super::aim::runs_to_end;
use super::state::Released;
use super::{
    Choice, Given, RecoverRequest, Recovered, RecoveryState, STOP_PATIENCE, Step, choose, watch,
};
use crate::host::{AgentError, Meter, crash_point};

/// Ends the server that this recovery left running, if there is one. Nobody else's is touched, nor
/// one that was made a cluster of its own by somebody else.
///
/// # Errors
/// [`AgentError::Target`] for such a one; what keeps ours from ending.
pub async fn end_own(state: &RecoveryState) -> Result<()> {
    let layout = Layout::new(state.directory());
    let data = layout.data();
    let server = orphan(&layout);
    if let Some(server) = server.as_ref().filter(|server| !server.is_ours()) {
        let text = format!(
            "a server runs in {} (process {}) that this recovery did not start, and nothing was \
             touched. If nobody needs it, stop it: pg_ctl -D {} stop",
            data.display(),
            server.id(),
            data.display()
        );
        return Err(AgentError::Target(text).into());
    }
    if state.step() == Step::TookOver {
        let text = format!(
            "the cluster in {} has replaced the source's server and is in service: nothing was \
             touched. Name a new directory",
            data.display()
        );
        return Err(AgentError::Target(text).into());
    }
    if state.step() > Step::Extracting && state.step() < Step::Promoting && is_own(&data) {
        if server.is_none() {
            out_of_the_sandbox(&layout)?;
        }
        return Err(somebody_elses(&data, server.as_ref()));
    }
    if server.is_some() {
        end_orphan(&layout, STOP_PATIENCE).await?;
    }
    out_of_the_sandbox(&layout).map_err(Into::into)
}

/// Whether a cluster follows no WAL any more. One that was just extracted has the label of its
/// backup; one that recovers has a signal.
pub fn is_own(data: &Path) -> bool {
    let marks = ["backup_label", "standby.signal", "recovery.signal"];
    data.join("PG_VERSION").exists() && !marks.iter().any(|name| data.join(name).exists())
}

fn somebody_elses(data: &Path, server: Option<&Orphan>) -> anyhow::Error {
    let stop = server.map(|server| {
        let id = server.id();
        format!(
            ". It runs in its sandbox: `kill -INT {id}` stops it; then repeat this command, which \
                 takes it out of the sandbox"
        )
    });
    let text = format!(
        "{} was promoted by somebody else than this recovery, and may be in use: nothing was \
         touched. Name a new directory{}",
        data.display(),
        stop.unwrap_or_default()
    );
    AgentError::Target(text).into()
}

/// Makes the cluster, which was proven, one of its own; gives what is proven of it then.
pub(super) async fn promote(
    server: &mut Recovering,
    request: &RecoverRequest<'_>,
    state: &mut RecoveryState,
    layout: &Layout,
) -> Result<()> {
    state.reach(Step::Promoting)?;
    server.promote(layout)?;
    crash_point("recovery-promoting");
    let opened = opened(server).await?;
    if runs_to_end(request.plan) {
        // Nothing held it: before it opened it replayed what came since it was proven.
        let again = watch::prove(request, &opened, None);
        state.prove_again(again.as_ref().ok().cloned())?;
        again.context("prove the cluster again, now that it is open")?;
    }
    has_opened(server, state).await
}

/// Notes that it has opened, and what is to be known of it then.
pub(super) async fn has_opened(server: &Recovering, state: &mut RecoveryState) -> Result<()> {
    if state.released().is_some() {
        state.stands_at(server.next_xid().await?)?;
    }
    state.opened_with(server.undecided().await?)?;
    state.reach(Step::Promoted)
}

/// Waits until it has opened; gives where its replay ended, which it still tells then.
pub(super) async fn opened(server: &mut Recovering) -> Result<Progress> {
    loop {
        match server.look().await.context("promote the cluster")? {
            Look::At(progress) if !progress.in_recovery => return Ok(progress),
            Look::At(_) | Look::Silent(_) => {}
            Look::TooSmall => bail!(AgentError::Mismatch(
                "it replayed WAL that asks for larger settings before it opened".to_owned()
            )),
        }
    }
}

/// A cluster that an earlier attempt has made one of its own: its own WAL ends that attempt's work,
/// and nothing is replayed into it any more. One that was promoted so that it can be read can be
/// read again, as long as nobody has written into it.
pub(super) async fn already(
    request: &RecoverRequest<'_>,
    state: &mut RecoveryState,
    layout: &Layout,
    (given, meter): (&Given<'_>, &Meter),
) -> Result<Option<Recovered>> {
    let data = layout.data();
    if !is_own(&data) {
        return Ok(None);
    }
    if state.step() < Step::Promoting {
        return Err(somebody_elses(&data, None));
    }
    let Some(proof) = state.proof().cloned() else {
        return Err(unproven());
    };
    if request.choice != Choice::Promote && state.released().is_none() {
        let text = format!(
            "{} was promoted: it is a cluster of its own, and not at its target any more",
            data.display()
        );
        return Err(AgentError::Target(text).into());
    }
    if state.step() == Step::Promoting {
        end_promotion(request, state, layout, (given, meter)).await?;
    }
    let released = state.released().map(|released| released.locks);
    let mut done = Recovered::of(proof);
    (done.promoted, done.released) = (true, released);
    done.prepared = state.prepared().unwrap_or_default().to_vec();
    match &request.choice {
        Choice::Stop => {}
        // From now on it is its owner's.
        Choice::Promote => state.release(None)?,
        Choice::Open | Choice::Extract(_) | Choice::Prove(_) => {
            return read_again(request, state, layout, (done, given, meter)).await.map(Some);
        }
    }
    Ok(Some(done))
}

/// Ends a promotion that broke off.
async fn end_promotion(
    request: &RecoverRequest<'_>,
    state: &mut RecoveryState,
    layout: &Layout,
    (given, meter): (&Given<'_>, &Meter),
) -> Result<()> {
    meter.label("ending the promotion");
    let mut server = Recovering::start(layout, &request.bin_dir, &request.user, given.around)?;
    opened(&mut server).await?;
    if state.released().is_some() {
        state.stands_at(server.next_xid().await?)?;
    }
    state.opened_with(server.undecided().await?)?;
    server.stop(STOP_PATIENCE).await?;
    // It broke off before it was proven again: nothing but what was proven may be in it.
    let proof = state.proof().cloned().ok_or_else(unproven)?;
    let late = |at| at > proof.replayed;
    let timed = matches!(request.plan.target, Target::Time(_)) && proof.stopped.is_none();
    if timed && watch::opened_at(&layout.data()).is_none_or(late) {
        state.prove_again(None)?;
        return Err(unproven());
    }
    state.reach(Step::Promoted)
}

/// Reads once more what was promoted to be read.
async fn read_again(
    request: &RecoverRequest<'_>,
    state: &RecoveryState,
    layout: &Layout,
    (mut done, given, meter): (Recovered, &Given<'_>, &Meter),
) -> Result<Recovered> {
    meter.label("starting the restored server");
    let mut server = Recovering::start(layout, &request.bin_dir, &request.user, given.around)?;
    let read = async {
        opened(&mut server).await?;
        let stood = state.released().and_then(|released: &Released| released.next_xid);
        // Who decides what was prepared takes no number.
        let prepared = server.undecided().await?;
        let decided = state.prepared().is_some_and(|before| *before != prepared[..]);
        if decided || stood != Some(server.next_xid().await?) {
            let text = format!(
                "{} was written to since it was proven, and does not show the target any more",
                layout.data().display()
            );
            return Err(AgentError::Target(text).into());
        }
        choose::read(&server, request, &mut done, meter).await
    };
    let read: Result<()> = read.await;
    choose::end(server, request, given.serving, read.map(|()| done)).await
}

fn unproven() -> anyhow::Error {
    let text = "it was promoted, but its state was not proven: do not use it";
    AgentError::Mismatch(text.to_owned()).into()
}
