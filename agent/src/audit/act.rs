//! What is put on record, before it becomes an entry.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use drctl_engines::account;
use drctl_model::{AuditActor, AuditOutcome, shown};
use rustix::process::geteuid;

/// How much of a text goes into an entry.
const SHOWN: usize = 500;

/// Something that is done, by whom and to what.
#[derive(Debug, Clone)]
pub(crate) struct Act {
    pub(super) verb: String,
    /// What its begin and its end have in common.
    pub(super) id: String,
    pub(super) actor: AuditActor,
    pub(super) source: Option<String>,
    pub(super) object: Option<String>,
    pub(super) details: BTreeMap<String, String>,
}

/// Whether this process is the agent.
static AGENT: AtomicBool = AtomicBool::new(false);

/// What this process does from now on the agent does.
pub(crate) fn as_agent() {
    AGENT.store(true, Ordering::Relaxed);
}

/// Whether it is the agent.
pub(super) fn is_agent() -> bool {
    AGENT.load(Ordering::Relaxed)
}

impl Act {
    /// Something that this process does.
    pub(crate) fn new(verb: &str) -> Self {
        let uid = geteuid().as_raw();
        let process = i32::try_from(std::process::id()).ok();
        let actor = AuditActor { uid, account: account(uid), process, socket: false };
        let mut act = Act::by(verb, actor);
        if is_agent() {
            act.put("by", "agent");
        }
        act
    }

    /// Something that somebody does.
    pub(crate) fn by(verb: &str, mut actor: AuditActor) -> Self {
        actor.account = shown(&actor.account, 100);
        let id = format!("{:016x}", rand::random::<u64>());
        let verb = shown(verb, 64);
        Act { verb, id, actor, source: None, object: None, details: BTreeMap::new() }
    }

    /// Of which source.
    pub(crate) fn of(mut self, source: impl AsRef<str>) -> Self {
        self.source = Some(shown(source.as_ref(), 100));
        self
    }

    /// Of which backup or other thing.
    pub(crate) fn object(mut self, object: impl AsRef<str>) -> Self {
        self.object = Some(shown(object.as_ref(), SHOWN));
        self
    }

    /// With something that is known of it.
    pub(crate) fn with(mut self, what: &str, value: impl AsRef<str>) -> Self {
        self.put(what, value.as_ref());
        self
    }

    /// With identifiers, all of them.
    pub(super) fn listing(mut self, what: &str, all: String) -> Self {
        self.details.insert(what.to_owned(), all);
        self
    }

    pub(crate) fn put(&mut self, what: &str, value: &str) {
        self.details.insert(what.to_owned(), shown(value, SHOWN));
    }
}

/// How something stands, in one word.
pub(super) fn outcome<T, E>(done: &Result<T, E>) -> AuditOutcome {
    if done.is_ok() { AuditOutcome::Succeeded } else { AuditOutcome::Failed }
}
