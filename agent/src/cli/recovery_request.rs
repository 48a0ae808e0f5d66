//! What is asked for of a recovery.

use anyhow::Result;
use drctl_policies::recovery::Target;
use jiff::SignedDuration;

use super::args::RestoreArgs;
use crate::host::{AgentError, Setup};
use crate::restore::cluster::{Choice, time_of, timeline_of};
use crate::restore::recovery::RecoveryRequest;

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

/// All of it.
pub(super) fn request(
    setup: &Setup,
    args: &RestoreArgs,
    target: Target,
) -> Result<RecoveryRequest> {
    let source = super::source_id(&args.source)?;
    setup.source(source.as_str())?;
    let then = match args {
        RestoreArgs { promote: true, .. } => Choice::Promote,
        RestoreArgs { open: true, .. } => Choice::Open,
        RestoreArgs { extract, .. } if !extract.is_empty() => Choice::Extract(extract.clone()),
        _ => Choice::Stop,
    };
    Ok(RecoveryRequest {
        source,
        target,
        timeline: timeline_of(args.timeline)?,
        system_id: args.system_id,
        backup: args.backup.clone(),
        directory: args.to_directory.as_ref().map(std::path::absolute).transpose()?,
        identity: args.identity.clone(),
        then,
        confirmed: args.yes.clone(),
        accept_loss: args.accept_loss,
        despite_missing: args.despite_missing,
        without_sandbox: args.without_sandbox,
        limits: None,
        preload: args.preload.clone(),
        resume: args.resume,
    })
}
