use anyhow::Result;
use drctl_policies::recovery::Target;
use serde_json::json;

use super::args::RestoreArgs;
use super::progress::Progress;
use super::restore::as_job;
use super::screen::{Screen, line};
use crate::host::{AgentError, Exit, Meter, Setup, Stop};
use crate::restore::recovery::{HandedRequest, plan_handed, refused, replay_handed};

/// `drctl restore` to a point in time, of a source whose log drctl hands over.
pub(super) async fn recover_handed(
    screen: Screen,
    setup: &Setup,
    args: &RestoreArgs,
    target: Target,
    stop: &Stop,
) -> Result<Exit> {
    let given = [
        ("--backup", args.backup.is_some()),
        ("--timeline", args.timeline.is_some()),
        ("--system-id", args.system_id.is_some()),
        ("--yes", args.yes.is_some()),
        ("--resume", args.resume),
        ("--drill", args.drill),
        ("--open", args.open),
        ("--promote", args.promote),
        ("--extract", !args.extract.is_empty()),
    ];
    if let Some((flag, _)) = given.into_iter().find(|(_, given)| *given) {
        let text = format!("{flag} is for the clusters of PostgreSQL, and {} is none", args.source);
        return Err(AgentError::Usage(text).into());
    }
    let request = HandedRequest {
        source: super::source_id(&args.source)?,
        target,
        directory: args.to_directory.as_ref().map(std::path::absolute).transpose()?,
        identity: args.identity.clone(),
        accept_loss: args.accept_loss,
    };
    let source = request.source.clone();
    let recovering = Box::pin(planned_and_run(screen, setup, (args, request), stop));
    as_job(setup, (args, source), recovering, |_, _| None).await
}

async fn planned_and_run(
    screen: Screen,
    setup: &Setup,
    (args, request): (&RestoreArgs, HandedRequest),
    stop: &Stop,
) -> Result<Exit> {
    let planned = stop.unless(plan_handed(setup, request)).await?.map_err(refused)?;
    let route = &planned.route;
    for reason in &route.refused {
        screen.say(format!("passed over: {}", line(reason)));
    }
    if args.plan {
        let object = json!({
            "base": route.base, "target": planned.request.target, "until": route.until,
            "pieces": route.pieces.len(), "left_out": route.left_out,
        });
        screen.answer("drctl.recovery-plan/1", object, || {
            let (base, pieces) = (&route.base, route.pieces.len());
            format!("{pieces} piece(s) of log on {base}, up to {}", route.until)
        });
        return Ok(Exit::Success);
    }
    let meter = Meter::default();
    let progress = Progress::show(screen, &meter);
    let replayed = replay_handed(&planned, &meter, stop).await;
    drop(progress);
    let (directory, reached) = (replayed?, route.until);
    let object = json!({
        "base": route.base, "target": planned.request.target, "replayed": reached,
        "left_out": route.left_out, "directory": directory,
    });
    screen.answer("drctl.recovery/1", object, || {
        let mut text = format!(
            "what was restored into {} from {} is replayed up to {reached}",
            directory.display(),
            route.base
        );
        for one in &route.left_out {
            text.push_str("\n  NOT IN IT: ");
            text.push_str(one);
        }
        text
    });
    Ok(Exit::Success)
}
