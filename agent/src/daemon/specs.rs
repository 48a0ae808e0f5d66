//! The jobs that a configuration asks for.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use drctl_model::{JobKind, SourceId};
use drctl_policies::scheduler::{JobKey, JobSpec, Rhythm, part_of_jitter};
use drctl_policies::{AgentSettings, Config, LogWay, Source};

use crate::host::AgentError;

/// What the agent does on a schedule.
const SCHEDULED: [JobKind; 6] = [
    JobKind::Backup,
    JobKind::Prune,
    JobKind::Verify,
    JobKind::Drill,
    JobKind::LogIndex,
    JobKind::Report,
];

/// The jobs of all sources that are enabled, for a host of this name.
pub(super) fn specs(config: &Config, host: &str) -> BTreeMap<JobKey, JobSpec> {
    let enabled = config.sources.iter().filter(|(_, source)| source.enabled);
    enabled.flat_map(|(id, source)| of_source(id, source, host)).collect()
}

fn of_source(id: &SourceId, source: &Source, host: &str) -> Vec<(JobKey, JobSpec)> {
    let policy = &source.policy;
    let spec = |kind: JobKind, rhythm: Rhythm| {
        let key = JobKey { source: id.clone(), kind };
        // It burdens no server: whoever reads it waits for it. It is tried once: a channel that took it does not get
        // it again because another one did not.
        let is_report = kind == JobKind::Report;
        let spec = JobSpec {
            rhythm,
            window: policy.window.filter(|_| !is_report),
            blackout: if is_report { Vec::new() } else { policy.blackout.clone() },
            zone: policy.timezone.clone(),
            jitter: part_of_jitter(
                host,
                &key,
                if is_report { Duration::ZERO } else { policy.jitter },
            ),
            attempts: if is_report { 1 } else { policy.attempts },
            rpo: policy.objectives.rpo,
        };
        (key, spec)
    };
    // Without log in the bucket there is nothing to index.
    let has_log = source.engine.log().is_some_and(|log| log.way != LogWay::None);
    let wanted = SCHEDULED.into_iter().filter(|kind| has_log || *kind != JobKind::LogIndex);
    let scheduled = wanted.filter_map(|kind| {
        let schedule = policy.schedule_of(kind)?;
        Some(spec(kind, Rhythm::At(schedule.clone())))
    });
    let streamed = source.engine.log().is_some_and(|log| log.way.is_stream());
    let stream = streamed.then(|| spec(JobKind::LogStream, Rhythm::Always));
    scheduled.chain(stream).collect()
}

/// Whether a running agent can take a configuration in the place of another one.
///
/// # Errors
/// [`AgentError::Usage`] where its places have moved: locks, catalog and socket lie there.
pub(super) fn may_be_taken(old: &Config, new: &Config) -> Result<()> {
    let moved = old.paths != new.paths || old.agent.socket != new.agent.socket;
    let others = |of: &Config| {
        let AgentSettings { socket_group, admin_group, push_user, .. } = &of.agent;
        [socket_group, admin_group, push_user].map(Clone::clone)
    };
    if moved || others(old) != others(new) {
        let text =
            "[paths] and the agent's socket are taken by a restart only: `systemctl restart drctl`";
        return Err(AgentError::Usage(text.to_owned()).into());
    }
    Ok(())
}
