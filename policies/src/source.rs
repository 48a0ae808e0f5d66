use drctl_model::JobKind;
use serde::{Serialize, Serializer};

use crate::engine::{self, Engine};
use crate::keys::{Key, Kind};
use crate::policy::Policy;
use crate::reader::{Reader, Text};
use crate::secret::SecretRef;

/// What every source has, whatever backs it up.
pub(crate) const KEYS: &[Key] = &[
    Key::required("engine", Kind::Choice(engine::NAMES), "How it is backed up."),
    Key::required("policy", Kind::Text, "The name of a policy file, without .toml."),
    Key::with_default("enabled", Kind::Flag, "true", "Whether the schedule backs it up."),
    Key::optional(
        "ping_url",
        Kind::Secret,
        "Where the agent tells that a backup began, succeeded or failed, as healthchecks.io takes it.",
    ),
    Key::optional("prune_ping_url", Kind::Secret, "The same of prune."),
    Key::optional("verify_ping_url", Kind::Secret, "The same of verify."),
    Key::optional("drill_ping_url", Kind::Secret, "The same of drills."),
];

/// A protected database or cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Source {
    /// When and for how long. In JSON only its name: the policy itself is in the configuration's
    /// list.
    #[serde(serialize_with = "policy_name")]
    pub policy: Policy,
    /// Whether the schedule backs it up. By hand it can be backed up in any case.
    pub enabled: bool,
    /// Who is told how backups go.
    pub ping_url: Option<SecretRef>,
    /// The same of prune.
    pub prune_ping_url: Option<SecretRef>,
    /// The same of verify.
    pub verify_ping_url: Option<SecretRef>,
    /// The same of drills.
    pub drill_ping_url: Option<SecretRef>,
    /// How it is backed up.
    #[serde(flatten)]
    pub engine: Engine,
}

impl Source {
    /// Who is told how its jobs go: of which kind, by which key, and where.
    #[must_use]
    pub fn ping_urls(&self) -> Vec<(JobKind, &'static str, &SecretRef)> {
        let all = [
            (JobKind::Backup, "ping_url", &self.ping_url),
            (JobKind::Prune, "prune_ping_url", &self.prune_ping_url),
            (JobKind::Verify, "verify_ping_url", &self.verify_ping_url),
            (JobKind::Drill, "drill_ping_url", &self.drill_ping_url),
        ];
        all.into_iter().filter_map(|(kind, key, url)| Some((kind, key, url.as_ref()?))).collect()
    }
}

fn policy_name<S: Serializer>(policy: &Policy, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&policy.name)
}

/// A source, before it is known whether its policy exists.
pub(crate) struct Draft<'a> {
    pub(crate) policy: Option<Text<'a>>,
    enabled: Option<bool>,
    ping_url: Option<SecretRef>,
    prune_ping_url: Option<SecretRef>,
    verify_ping_url: Option<SecretRef>,
    drill_ping_url: Option<SecretRef>,
    engine: Option<Engine>,
}

impl Draft<'_> {
    pub(crate) fn finish(self, policy: Policy) -> Option<Source> {
        Some(Source {
            policy,
            enabled: self.enabled?,
            ping_url: self.ping_url,
            prune_ping_url: self.prune_ping_url,
            verify_ping_url: self.verify_ping_url,
            drill_ping_url: self.drill_ping_url,
            engine: self.engine?,
        })
    }
}

/// Reads `[sources.NAME]`.
pub(crate) fn read<'a>(reader: &Reader<'a>) -> Draft<'a> {
    Draft {
        policy: reader.text("policy"),
        enabled: reader.flag("enabled"),
        ping_url: reader.secret("ping_url"),
        prune_ping_url: reader.secret("prune_ping_url"),
        verify_ping_url: reader.secret("verify_ping_url"),
        drill_ping_url: reader.secret("drill_ping_url"),
        engine: engine::read(reader),
    }
}
