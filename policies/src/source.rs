use serde::{Serialize, Serializer};

use crate::engine::{self, Engine};
use crate::keys::{Key, Kind};
use crate::policy::Policy;
use crate::reader::{Reader, Text};

/// What every source has, whatever backs it up.
pub(crate) const KEYS: &[Key] = &[
    Key::required("engine", Kind::Choice(engine::NAMES), "How it is backed up."),
    Key::required("policy", Kind::Text, "The name of a policy file, without .toml."),
    Key::with_default("enabled", Kind::Flag, "true", "Whether the schedule backs it up."),
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
    /// How it is backed up.
    #[serde(flatten)]
    pub engine: Engine,
}

fn policy_name<S: Serializer>(policy: &Policy, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&policy.name)
}

/// A source, before it is known whether its policy exists.
pub(crate) struct Draft<'a> {
    pub(crate) policy: Option<Text<'a>>,
    enabled: Option<bool>,
    engine: Option<Engine>,
}

impl Draft<'_> {
    pub(crate) fn finish(self, policy: Policy) -> Option<Source> {
        Some(Source { policy, enabled: self.enabled?, engine: self.engine? })
    }
}

/// Reads `[sources.NAME]`.
pub(crate) fn read<'a>(reader: &Reader<'a>) -> Draft<'a> {
    Draft {
        policy: reader.text("policy"),
        enabled: reader.flag("enabled"),
        engine: engine::read(reader),
    }
}
