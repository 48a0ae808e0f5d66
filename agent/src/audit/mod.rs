//! The audit log: what was done on this host and by whom, each entry chained to the one before, kept in the
//! state directory and shipped into the bucket in signed parts.

mod act;
mod bucket;
mod chain;
mod file;
mod mark;
mod ship;
mod verify;

use std::sync::Once;

use anyhow::Result;
use drctl_model::AuditOutcome;

pub(crate) use act::{Act, as_agent};
pub(crate) use chain::Break;
pub(crate) use file::Log;
pub(crate) use ship::{Standing, ship, ship_soon, standing};
pub(crate) use verify::{Verified, entries, verify_bucket, verify_files, verify_local};

use crate::host::{AgentError, Failure, Setup, identity_was_read};

impl Log {
    /// Puts something on record.
    ///
    /// # Errors
    /// [`AgentError::NotLogged`]: what may not be done without a record is not done.
    pub(crate) fn record(&self, act: &Act, outcome: AuditOutcome) -> Result<()> {
        let why = match self.append(Some((act, outcome))) {
            Ok(true) => return Ok(()),
            Ok(false) => {
                "there is no state directory, or it is another account's and has no audit.log yet: \
                          run this as that account"
                    .to_owned()
            }
            Err(error) => format!("{error:#}"),
        };
        Err(AgentError::NotLogged(why).into())
    }

    /// Puts on record that something begins with all of these: in as many entries as that takes.
    ///
    /// # Errors
    /// As [`record`](Self::record).
    fn record_all(&self, act: &Act, (what, all): (&str, &[&str])) -> Result<()> {
        let some = all.chunks(LISTED).map(|some| some.join(" "));
        for some in some.chain(all.is_empty().then(String::new)) {
            self.record(&act.clone().listing(what, some), AuditOutcome::Begun)?;
        }
        Ok(())
    }

    /// Puts something on record, if that can be: nothing is kept from being done by a log.
    pub(crate) fn note(&self, act: &Act, outcome: AuditOutcome) {
        warned(self.append(Some((act, outcome))));
    }

    /// Notes that the configuration is another one than before, where it is.
    pub(crate) fn note_configuration(&self) {
        warned(self.append(None));
    }
}

/// Tells that the log cannot be written: a command once, the agent each time.
fn warned(written: Result<bool>) {
    static SAID: Once = Once::new();
    match written {
        Ok(true) => {}
        Ok(false) => tracing::debug!("this host has no state directory, and keeps no audit log"),
        Err(error) => {
            let say = || {
                tracing::warn!(
                    "the audit log cannot be written: the work goes on, and the log lacks it; nothing is \
                     removed meanwhile. Make room in the state directory, and let drctl's account write \
                     audit.log there: {error:#}"
                );
            };
            if act::is_agent() { say() } else { SAID.call_once(say) }
        }
    }
}

/// How many things an entry names that something is done to.
const LISTED: usize = 200;

/// Something on record from its begin to its end, however it ends: what is dropped was interrupted.
pub(crate) struct Logged {
    log: Log,
    act: Act,
    ended: bool,
}

impl Logged {
    /// It begins; that this cannot be logged keeps it from nothing.
    pub(crate) fn begin(setup: &Setup, act: Act) -> Self {
        let log = Log::of(setup);
        log.note(&act, AuditOutcome::Begun);
        Logged { log, act, ended: false }
    }

    /// It begins, if it can be logged with all that it is done to.
    ///
    /// # Errors
    /// [`AgentError::NotLogged`].
    pub(crate) fn must_begin(
        setup: &Setup,
        act: Act,
        (what, all): (&str, &[&str]),
    ) -> Result<Self> {
        let log = Log::of(setup);
        log.record_all(&act, (what, all))?;
        Ok(Logged { log, act, ended: false })
    }

    /// It came to its end; `tell` adds what is known then.
    pub(crate) fn end<T>(mut self, done: &Result<T>, tell: impl FnOnce(&T, &mut Act)) {
        match done {
            Ok(done) => tell(done, &mut self.act),
            // Its words may name what only a key holder may read.
            Err(error) => self.act.put("code", Failure::of(error).code),
        }
        self.write(act::outcome(done));
    }

    fn write(&mut self, outcome: AuditOutcome) {
        self.ended = true;
        if identity_was_read() {
            self.act.put("key", "identity");
        }
        self.log.note(&self.act, outcome);
    }
}

impl Drop for Logged {
    fn drop(&mut self) {
        if !self.ended {
            self.act.put("code", "interrupted");
            self.write(AuditOutcome::Failed);
        }
    }
}

/// Notes that an identity was read by a command that is not on record otherwise.
pub(crate) fn note_key_use(setup: &Setup, verb: &str, source: Option<&str>) {
    if !identity_was_read() {
        return;
    }
    let mut act = Act::new(verb).with("key", "identity");
    if let Some(source) = source {
        act = act.of(source);
    }
    Log::of(setup).note(&act, AuditOutcome::Succeeded);
}

#[cfg(test)]
mod tests;
