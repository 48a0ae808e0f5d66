//! What is asked for of a recovery, and the plan that leads there.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use drctl_model::{SourceId, Timeline};
use drctl_policies::SecretRef;
use drctl_policies::recovery::{RecoveryPlan, Target, plan as plan_recovery};
use jiff::SignedDuration;

use super::args::RestoreArgs;
use super::recovery_words::no_plan;
use super::screen::{Screen, count};
use crate::engine::pgbackrest::{Asks, asks};
use crate::host::{AgentError, Setup};
use crate::repository::Repository;
use crate::restore::cluster::time_of;
use crate::restore::known::Known;

/// The point that is asked for, if one is.
pub(super) fn target(args: &RestoreArgs) -> Result<Option<Target>> {
    let wrong = |error: drctl_model::LsnError| AgentError::Usage(error.to_string());
    Ok(if let Some(text) = &args.to_time {
        // As finely as the server knows times, and all before that moment.
        let step = SignedDuration::from_micros(i64::from(args.exclusive));
        Some(Target::Time(time_of(text)?.saturating_sub(step)?))
    } else if let Some(text) = &args.to_lsn {
        Some(Target::Lsn { lsn: text.parse().map_err(wrong)?, inclusive: args.inclusive })
    } else if let Some(xid) = args.to_xid {
        Some(Target::Xid { xid, inclusive: !args.exclusive })
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

/// A plan whose copy has all its objects, and whose log can be replayed as far as its records tell:
/// a copy that is known not to be whole is passed over, and the next older one that leads there is
/// used.
pub(super) async fn plan_on_whole(
    screen: Screen,
    setup: &Setup,
    (repository, source, timeline): (&Repository, &SourceId, Option<Timeline>),
    known: &mut Known,
    target: &Target,
) -> Result<RecoveryPlan> {
    loop {
        let planned = match plan_recovery(&known.archive, target, timeline) {
            Ok(planned) => planned,
            Err(no) => {
                if let Err(error) = known.look_at_others(setup, target).await {
                    screen.say(format!(
                        "whether another cluster leads there is not known: {error:#}"
                    ));
                }
                return Err(no_plan(&no, &known.others));
            }
        };
        let Some(why) = repository.is_lacking(source, &planned.base).await? else {
            let Some(size) = known.base(&planned.base).map(|at| at.segment_size) else {
                return Ok(planned);
            };
            let Asks { breaks, unread } =
                asks(setup, source, (known.stanza.as_ref(), known.system_id), size, &planned.path)
                    .await?;
            if breaks.is_empty() {
                if unread > 0 {
                    screen.say(format!(
                        "{} of log were not read for wal_level = minimal: only the replay shows it",
                        count(unread as u64, "segment")
                    ));
                }
                return Ok(planned);
            }
            known.archive = known.archive.clone().broken_at(breaks);
            continue;
        };
        screen.say(format!("passed over: the copy {}: {why}", planned.base));
        known.archive = known.archive.clone().without(&planned.base);
    }
}

/// That a plan is another one than the operator has agreed to.
pub(super) fn changed(planned: &RecoveryPlan, digest: &str, wanted: &str) -> anyhow::Error {
    let more = match planned.target {
        Target::Latest => " (to the end of the log it changes with every piece that arrives)",
        _ => "",
    };
    let text = format!(
        "the plan has changed: its digest is `{digest}` now and not `{wanted}`{more}; look at it with \
         --plan. Nothing was done"
    );
    AgentError::Usage(text).into()
}

/// The file of the identity: the recovering server's own command opens the log with it.
pub(super) fn identity_file(setup: &Setup, args: &RestoreArgs) -> Result<PathBuf> {
    match (&args.identity, &setup.config.keys.identity) {
        (Some(path), _) => std::path::absolute(path).context("find the identity"),
        (None, Some(SecretRef::File(path))) => Ok(path.clone()),
        _ => {
            Err(AgentError::Usage("name the identity's file with --identity FILE".to_owned())
                .into())
        }
    }
}
