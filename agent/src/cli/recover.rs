use std::time::Instant;

use anyhow::{Context as _, Result};
use drctl_policies::recovery::Target;
use serde_json::json;

use super::args::RestoreArgs;
use super::journal::Journal;
use super::progress::Progress;
use super::recovery_failed::failed;
use super::recovery_request::request;
use super::recovery_words::{
    NO_SANDBOX, also, checks, done_object, done_text, earlier, noted, plan_text, signed_text,
};
use super::restore::as_job;
use super::screen::Screen;
use crate::host::{Exit, Meter, Setup, Stop, private};
use crate::restore::Drilling;
use crate::restore::recovery::{
    Outlook, PlanNote, Planned, Prepared, RecoveryRequest, plan, prepare, prove, refused, replay,
    resume, way_on,
};

/// `drctl restore` to a point in time.
pub(super) async fn recover(
    screen: Screen,
    setup: &Setup,
    args: &RestoreArgs,
    target: Target,
    stop: &Stop,
) -> Result<Exit> {
    let request = request(setup, args, target)?;
    // A plan may be made for a place that is still to be made.
    if let Some(directory) = request.directory.as_ref().filter(|_| !args.plan) {
        private::writable(directory)?;
    }
    let source = request.source.clone();
    let recovering = Box::pin(planned_and_run(screen, setup, (args, request), stop));
    as_job(setup, (args, source), recovering, |_, _| None).await
}

async fn planned_and_run(
    screen: Screen,
    setup: &Setup,
    (args, request): (&RestoreArgs, RecoveryRequest),
    stop: &Stop,
) -> Result<Exit> {
    let drilling = if args.drill { Some(Drilling::begin(setup)?) } else { None };
    let mut tell = |note: PlanNote| screen.say(noted(&note));
    let planned = stop.unless(Box::pin(plan(setup, request, &mut tell))).await?.map_err(refused)?;
    if let Some(earlier) = earlier(&planned) {
        screen.warn(format!("this recovers the {earlier}"));
    }
    if let Some(also) = also(&planned) {
        screen.warn(also);
    }
    if args.without_sandbox {
        tracing::warn!("{NO_SANDBOX}");
    }
    if args.plan {
        show(screen, &planned).await;
        return Ok(Exit::Success);
    }
    planned.complete().map_err(refused)?;
    planned.confirmed().map_err(refused)?;
    let prepared = stop.unless(Box::pin(prepare(&planned, !(screen.json || screen.quiet)))).await?;
    prepared.fits(&planned).map_err(refused)?;
    Box::pin(run(screen, &planned, prepared, (args, drilling), stop)).await
}

/// The plan, and what can be told of it beside it; what keeps that from being told would also keep the
/// recovery from beginning.
async fn show(screen: Screen, planned: &Planned<'_>) {
    let (outlook, why) = match prepare(planned, true).await {
        Ok(prepared) => (prepared.outlook, None),
        Err(error) => (Outlook::default(), Some(format!("{error:#}"))),
    };
    let loss = planned.complete().err().map(|refusal| refused(refusal).to_string());
    let why = loss.or(why);
    let (checks, estimate) = checks(&planned.plan, &outlook, why.as_deref());
    let (signer, digest) = (planned.signer(), &planned.digest);
    let object = json!({
        "plan": planned.plan, "digest": digest, "checks": checks, "estimate": estimate,
        "signed_by": signer, "passed_over": planned.passed,
        "system_id": planned.system_id().to_string(),
        "current_system_id": planned.current.map(|id| id.to_string()),
        "also_reached_by": planned.also.iter().map(u64::to_string).collect::<Vec<_>>(),
    });
    screen.answer("drctl.recovery-plan/1", object, || {
        plan_text(planned, &outlook, why.as_deref()) + &signed_text(signer)
    });
}

async fn run(
    screen: Screen,
    planned: &Planned<'_>,
    prepared: Prepared,
    (args, drilling): (&RestoreArgs, Option<Drilling<'_>>),
    stop: &Stop,
) -> Result<Exit> {
    let mut state = resume(planned).await?;
    let directory = state.directory().to_owned();
    let journal = Journal::open(&directory)?;
    let text = plan_text(planned, &prepared.outlook, None) + &signed_text(planned.signer());
    journal.note(&text);
    screen.say(text);
    let meter = Meter::default();
    let (progress, following) = (Progress::show(screen, &meter), journal.follow(&meter));
    let (began, anew) = (Instant::now(), prepared.is_made_anew());
    let done = replay(planned, prepared, &mut state, &meter, stop).await;
    drop((progress, following));
    let seconds = began.elapsed().as_secs_f64();
    let done = match done {
        Ok(done) => Ok(done),
        Err(error) => {
            let way = way_on(planned, &error, state.step()).await;
            // The command that leads on means the same cluster, also when there is a newer one.
            let named = RestoreArgs { system_id: planned.cluster(), ..args.clone() };
            Err(failed(error, &named, &planned.plan, (&directory, &way), anew))
        }
    };
    let mut text = match &done {
        Ok(done) => done_text((&planned.plan, done), &directory, seconds),
        Err(error) => error.to_string(),
    };
    journal.note(&text);
    let drill = prove(planned, drilling, done.as_ref()).await;
    let drill = drill.inspect_err(|error| journal.note(&format!("{error:#}")));
    let done = done?;
    let drill = drill.inspect_err(|_| screen.say(&text)).with_context(|| {
        format!(
            "the recovery is proven, and {} is as its drctl.log says, but the evidence of the \
             drill could not be stored",
            directory.display()
        )
    })?;
    if let Some(id) = &drill {
        text = format!("{text}\n  kept as evidence: the drill {id}");
    }
    if let Some(earlier) = earlier(planned) {
        text = format!("{text}\n  it is the {earlier}");
    }
    let mut object = done_object(&planned.plan, &done, &directory);
    object["seconds"] = json!(seconds);
    object["drill"] = json!(drill);
    object["signed_by"] = json!(planned.signer());
    object["system_id"] = json!(planned.system_id().to_string());
    object["current_system_id"] = json!(planned.current.map(|id| id.to_string()));
    screen.answer("drctl.recovery/1", object, || text);
    Ok(Exit::Success)
}
