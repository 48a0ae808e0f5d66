use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use drctl_engines::pg::physical::may_run;
use drctl_engines::pg::server_program;
use drctl_model::SourceId;
use drctl_policies::SecretRef;
use drctl_policies::recovery::{NoPlan, RecoveryPlan, Target, plan as plan_recovery};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::json;

use super::args::RestoreArgs;
use super::progress::Progress;
use super::screen::{Screen, bytes, span};
use crate::problem::Problem;
use crate::{
    Destination, Exit, Known, Meter, RecoverRequest, Recovered, Repository, RestoreRequest, Setup,
    Stop, known, plan, plan_digest, recover as run_recovery, restore as run_restore, time_of,
    timeline_of,
};

/// The point that is asked for, if one is.
pub(super) fn target(args: &RestoreArgs) -> Result<Option<Target>> {
    let wrong = |error: drctl_model::LsnError| Problem::Usage(error.to_string());
    Ok(if let Some(text) = &args.to_time {
        Some(Target::Time(time_of(text)?))
    } else if let Some(text) = &args.to_lsn {
        Some(Target::Lsn(text.parse().map_err(wrong)?))
    } else if let Some(xid) = args.to_xid {
        Some(Target::Xid { xid, inclusive: true })
    } else if let Some(xid) = args.before_xid {
        Some(Target::Xid { xid, inclusive: false })
    } else if let Some(name) = &args.to_name {
        Some(Target::Name(name.clone()))
    } else if args.to_end {
        Some(Target::Latest)
    } else {
        None
    })
}

/// `drctl restore` to a point in time.
pub(super) async fn recover(
    screen: Screen,
    setup: &Setup,
    args: &RestoreArgs,
    target: Target,
    stop: &Stop,
) -> Result<Exit> {
    let source = super::source_id(&args.source)?;
    let looking = async {
        let repository = setup.repository().await?;
        let known = known(&repository, &source).await?;
        Ok::<_, anyhow::Error>((repository, known))
    };
    let (repository, known) = tokio::select! {
        looked = looking => looked?,
        () = stop.requested() => return Err(Problem::Interrupted.into()),
    };
    for reason in &known.refused {
        screen.say(format!("passed over: {reason}"));
    }
    let planned = plan_recovery(&known.archive, &target, timeline_of(args.timeline)?);
    let planned = planned.map_err(|no| no_plan(&no))?;
    let digest = plan_digest(&planned);
    if args.plan {
        let object = json!({ "plan": planned, "digest": digest });
        screen.answer("drctl.recovery-plan/1", object, || plan_text(&planned, &digest));
        return Ok(Exit::Success);
    }
    if let Some(wanted) = args.yes.as_ref().filter(|wanted| **wanted != digest) {
        let text = format!(
            "the plan has changed: its digest is {digest} now and not {wanted}; look at it with \
             --plan. Nothing was done"
        );
        return Err(Problem::Usage(text).into());
    }
    screen.say(plan_text(&planned, &digest));
    let meter = Meter::default();
    let progress = Progress::show(screen, &meter);
    let began = std::time::Instant::now();
    let done = run(setup, &repository, &known, &source, args, &planned, &meter, stop).await;
    drop(progress);
    let done = done.map_err(|error| failed(error, args, &planned))?;
    report(screen, args, &planned, &done, began.elapsed().as_secs_f64());
    Ok(Exit::Success)
}

#[expect(clippy::too_many_arguments, reason = "all that a restore is made of")]
async fn run(
    setup: &Setup,
    repository: &Repository,
    known: &Known,
    source: &SourceId,
    args: &RestoreArgs,
    planned: &RecoveryPlan,
    meter: &Meter,
    stop: &Stop,
) -> Result<Recovered> {
    let directory = args.to_directory.clone().ok_or_else(|| {
        Problem::Usage("a recovery needs a new directory: --to-directory DIR".to_owned())
    })?;
    let directory = std::path::absolute(directory)?;
    let identity = identity_file(setup, args)?;
    let backup = repository.find(Some(source), planned.base.as_str()).await?;
    let version = backup.manifest.tools.get("server").cloned().unwrap_or_default();
    // What would keep the server from being started is better known before hours of copying.
    may_run()?;
    let server = setup.server(setup.source(source.as_str())?.1)?;
    let program = server_program(&server, &version).await?;
    let bin_dir = program.parent().context("find the server's programs")?.to_owned();
    let identities = setup.identities(Some(&identity))?;
    let request = RestoreRequest {
        identities: identities.ok_or(Problem::NoIdentity(planned.base.clone()))?,
        backup,
        databases: Vec::new(),
        globals: true,
        destination: Destination::Cluster(directory.clone()),
        jobs: 1,
        owner: true,
        spool_dir: setup.config.paths.spool_dir.clone(),
        bin_dir: Some(bin_dir.clone()),
    };
    let base = plan(repository, &request, setup.limits(), false).await?;
    run_restore(repository, &request, &base, setup.limits(), meter, stop).await?;
    let recovery = RecoverRequest {
        setup,
        source: source.as_str(),
        known,
        plan: planned,
        directory,
        identity,
        user: server.user,
        bin_dir,
        promote: args.promote,
    };
    run_recovery(&recovery, meter, stop).await
}

/// The file of the identity: the recovering server's own command opens the log with it.
fn identity_file(setup: &Setup, args: &RestoreArgs) -> Result<PathBuf> {
    match (&args.identity, &setup.config.keys.identity) {
        (Some(path), _) => std::path::absolute(path).context("find the identity"),
        (None, Some(SecretRef::File(path))) => Ok(path.clone()),
        _ => Err(Problem::Usage("name the identity's file with --identity FILE".to_owned()).into()),
    }
}

/// A moment in UTC and in the machine's own time zone.
fn both(at: Timestamp) -> String {
    let here = at.to_zoned(TimeZone::system());
    format!("{at} ({})", here.strftime("%Y-%m-%d %H:%M:%S %Z"))
}

fn plan_text(plan: &RecoveryPlan, digest: &str) -> String {
    let mut text = format!("recover to {}", plan.target);
    if let Target::Time(at) = plan.target {
        text = format!("recover to time {}", both(at));
    }
    let _ = write!(text, "\n  from the copy {}, consistent at {}", plan.base, plan.consistent);
    for leg in &plan.path {
        let _ = write!(text, "\n  log of timeline {}: {} to {}", leg.timeline, leg.from, leg.until);
    }
    let _ = write!(text, "\n  {} of log to replay", bytes(plan.log_bytes));
    if let Some(last) = plan.last_commit.not_after {
        let _ = write!(text, "\n  last commit that it holds: no later than {}", both(last));
    }
    if let Some(until) = plan.loses.until {
        let _ = write!(
            text,
            "\n  not in it: commits up to {}, {} of log",
            both(until),
            bytes(plan.loses.bytes)
        );
    }
    for warning in &plan.warnings {
        let _ = write!(text, "\n  note: {warning}");
    }
    let _ = write!(text, "\n  plan {digest}: --yes={digest} runs this one and no other");
    text
}

fn no_plan(no: &NoPlan) -> anyhow::Error {
    let mut text = no.to_string();
    for (word, place) in [("before it", no.before), ("behind it", no.after)] {
        if let Some(place) = place {
            let at = place.at.map_or_else(|| place.lsn.to_string(), both);
            let _ = write!(text, "; the nearest {word} is {at}");
        }
    }
    Problem::NoPlan(text, no.hint()).into()
}

/// What a person needs at three in the morning: always these lines, in this order.
fn failed(error: anyhow::Error, args: &RestoreArgs, plan: &RecoveryPlan) -> anyhow::Error {
    let directory = args.to_directory.as_ref().map_or("-".into(), |d| d.display().to_string());
    let source = &args.source;
    let alternative = match plan.earlier {
        Some(at) => format!("drctl restore {source} --to-time {at} --to-directory NEW"),
        None => format!("drctl restore {source} --backup {} --to-directory NEW", plan.base),
    };
    error.context(format!(
        "the recovery to {} failed\n  \
         safe: the backups and the log in the bucket\n  \
         the source was not touched\n  \
         do not use {directory}; recovery.log in it has the server's own words\n  \
         best alternative: {alternative}",
        plan.target
    ))
}

fn report(screen: Screen, args: &RestoreArgs, plan: &RecoveryPlan, done: &Recovered, seconds: f64) {
    let object = json!({
        "base": plan.base, "target": plan.target, "timeline": plan.timeline,
        "replayed": done.replayed, "shows": done.shows, "stopped": done.stopped,
        "promoted": done.promoted, "directory": args.to_directory, "seconds": seconds,
    });
    screen.answer("drctl.recovery/1", object, || {
        let directory = args.to_directory.as_ref().map_or("-".into(), |d| d.display().to_string());
        let shows = done.shows.map_or("no commit of the log".to_owned(), both);
        let mut text = format!(
            "the data in {directory}/data show {shows}, replayed up to {} in {}",
            done.replayed,
            span(seconds)
        );
        if let Some(line) = &done.stopped {
            let _ = write!(text, "\n  the server says: {line}");
        }
        text.push_str(match (done.promoted, done.stopped.is_some()) {
            (true, _) => "\n  it is a cluster of its own now, stopped: start it with pg_ctl",
            // There is nothing in the log to stop at: started again it would follow what comes.
            (false, false) => {
                "\n  it is a standby, stopped; `pg_ctl start` and `pg_ctl promote` make it a \
                 cluster of its own. Until then it replays log that comes later"
            }
            (false, true) => {
                "\n  it is stopped at that point. Started with pg_ctl it is read-only there; \
                 `pg_ctl promote` makes it a cluster of its own"
            }
        });
        text
    });
}
