//! Whether what is run or asked before and after a job could be.

use drctl_policies::Moment;

use crate::host::{Checks, Failure, Level, Setup};
use crate::jobs::look_at;

/// Looks at all of them; none is run, and nothing is sent.
pub(super) fn look(setup: &Setup, found: &mut Checks) {
    for (name, hook) in &setup.config.hooks {
        let check = format!("hooks.{name}");
        match look_at(name, hook) {
            Ok(()) => found.good(&check, "it could be run; it was not"),
            Err(error) if hook.stops && hook.on.contains(&Moment::Before) => {
                found.bad(&check, &error)
            }
            Err(error) => {
                let failure = Failure::of(&error);
                let text = failure.messages.join(": ");
                found.add(Level::Warning, &check, text, failure.hint.as_deref());
            }
        }
    }
}
