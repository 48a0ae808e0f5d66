//! Figures of the agent itself and of its host, whatever the sources.

use jiff::Timestamp;

use super::Told;
use super::exposition::{Labels, Metric, count, flag, gauge, seconds, wide};
use crate::daemon::look::OfHost;

/// What a look found of this host.
#[derive(Debug, Default)]
pub(super) struct Host {
    /// Database servers that no source backs up.
    unprotected: usize,
    /// When each channel sent its last test message that a person has acknowledged.
    acknowledged: Vec<(String, Timestamp)>,
    /// Directories that drills left and nobody could remove.
    leaked: usize,
    /// Entries of the audit log that are not in the bucket.
    unshipped: u64,
    /// Since when the oldest of them waits.
    waits_since: Option<Timestamp>,
    /// Whether something is wrong with the audit log.
    broken: bool,
}

impl Host {
    /// Takes what a look found.
    pub(super) fn of(found: &OfHost) -> Self {
        let audit = &found.audit;
        Host {
            unprotected: found.unprotected,
            acknowledged: found.acknowledged.clone(),
            leaked: found.leaked.len(),
            unshipped: audit.last.saturating_sub(audit.shipped),
            waits_since: audit.since,
            broken: audit.problem.is_some(),
        }
    }

    /// Its metrics, where the look was begun at a time.
    pub(super) fn metrics(&self, at: Timestamp) -> Vec<Metric> {
        let one = |value: f64| vec![(Labels::new(), value)];
        let channels = self.acknowledged.iter();
        let acknowledged =
            channels.map(|(name, at)| (vec![("channel", name.clone())], seconds(*at)));
        vec![
            gauge(
                "drctl_agent_look_timestamp_seconds",
                "When the agent last found out where the sources stand (began to look)",
                one(seconds(at)),
            ),
            gauge(
                "drctl_servers_unprotected",
                "Database servers that run on this host and that no source backs up",
                one(count(self.unprotected)),
            ),
            gauge(
                "drctl_alert_path_last_ack_timestamp_seconds",
                "When a channel sent the last test message that a person has acknowledged",
                acknowledged.collect(),
            ),
            gauge(
                "drctl_drill_leaked_resources",
                "Directories that drills left on this host and that could not be removed",
                one(count(self.leaked)),
            ),
            gauge(
                "drctl_audit_unshipped_entries",
                "Entries of the audit log of this host that are not in the bucket yet",
                one(wide(self.unshipped)),
            ),
            gauge(
                "drctl_audit_unshipped_since_timestamp_seconds",
                "When the oldest of them was written",
                self.waits_since.map(|at| (Labels::new(), seconds(at))).into_iter().collect(),
            ),
            gauge(
                "drctl_audit_broken",
                "Whether the audit log of this host was changed, or cannot be read",
                one(flag(self.broken)),
            ),
        ]
    }
}

/// Those of the agent itself.
pub(super) fn of_agent(told: &Told) -> Vec<Metric> {
    let version = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
    let one = |value: f64| vec![(Labels::new(), value)];
    let every = Some(told.beat_every).filter(|every| !every.is_zero());
    let every = every.map(|every| (Labels::new(), every.as_secs_f64()));
    vec![
        gauge("drctl_build_info", "The version of the agent; always 1", vec![(version, 1.0)]),
        gauge(
            "drctl_agent_start_timestamp_seconds",
            "When the agent was started",
            one(seconds(told.started)),
        ),
        gauge(
            "drctl_agent_look_failed",
            "Whether the last look at the sources failed: what is told of them is older",
            one(flag(told.look_failed)),
        ),
        gauge(
            "drctl_configuration_refused",
            "Whether the configuration that lies there was refused: the one before is in force",
            one(flag(told.refused)),
        ),
        gauge(
            "drctl_beat_timestamp_seconds",
            "When the last beat of this host was written into the bucket",
            told.beat.map(|at| (Labels::new(), seconds(at))).into_iter().collect(),
        ),
        gauge(
            "drctl_beat_interval_seconds",
            "How often this host writes a beat into the bucket",
            every.into_iter().collect(),
        ),
        gauge(
            "drctl_beat_failed",
            "Whether the last beat of this host could not be written",
            one(flag(told.beat_failed)),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Standing;

    #[test]
    fn how_far_the_audit_log_is_shipped_is_told() {
        let at = Timestamp::from_second(1_000).expect("a time");
        let audit = Standing { last: 7, shipped: 4, since: Some(at), ..Standing::default() };
        let told = |audit: &Standing| -> Vec<(&str, Option<f64>)> {
            let found = OfHost { audit: audit.clone(), ..OfHost::default() };
            let all = Host::of(&found).metrics(at);
            let of_it = all.iter().filter(|metric| metric.name.starts_with("drctl_audit_"));
            of_it.map(|metric| (metric.name, metric.series.first().map(|one| one.1))).collect()
        };
        let expected = |entries, since, broken| {
            vec![
                ("drctl_audit_unshipped_entries", Some(entries)),
                ("drctl_audit_unshipped_since_timestamp_seconds", since),
                ("drctl_audit_broken", Some(broken)),
            ]
        };
        assert_eq!(told(&audit), expected(3.0, Some(1000.0), 0.0));
        let broken = Some("an entry was altered".to_owned());
        let whole = Standing { last: 7, shipped: 7, problem: broken, ..Standing::default() };
        assert_eq!(told(&whole), expected(0.0, None, 1.0));
    }
}
