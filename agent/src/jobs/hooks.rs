//! What the operator has run before and after a job.

use std::borrow::Cow;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use drctl_engines::{EngineError, run_alone};
use drctl_model::{JobKind, RunId, SourceId, shown};
use drctl_policies::{Hook, Moment};

use crate::host::{AgentError, Failure, Setup, Stop};

/// How long a hook may take when this process was asked to end.
const LAST: Duration = Duration::from_secs(10);

/// The hooks of one run of a job.
struct Hooks<'a> {
    setup: &'a Setup,
    kind: JobKind,
    source: &'a SourceId,
    stop: &'a Stop,
    /// What the calls of one run have in common.
    run: RunId,
}

/// Does a job's work, with what the operator has run before and after it; `tell` says what came of
/// it.
///
/// # Errors
/// Those of the work; [`AgentError::Hook`] where it was not begun because a hook failed,
/// [`AgentError::Interrupted`] where this process was asked to end while one ran.
pub(crate) async fn hooked<T>(
    (setup, kind, source): (&Setup, JobKind, &SourceId),
    stop: &Stop,
    work: impl Future<Output = Result<T>>,
    tell: impl Fn(&T) -> Came,
) -> Result<T> {
    let hooks = Hooks { setup, kind, source, stop, run: RunId(rand::random()) };
    let done = match hooks.before().await {
        Ok(()) => work.await,
        Err(error) => Err(error),
    };
    let ((moment, outcome), more) = match done.as_ref().map(tell) {
        Ok(came) => (came.outcome(), came.backup.map(|backup| ("DRCTL_BACKUP".into(), backup))),
        Err(error) => {
            let outcome = if is_stopped(error) { "stopped" } else { "failed" };
            let code = Failure::of(error).code.to_owned();
            ((Moment::Failure, outcome), Some(("DRCTL_CODE".into(), code)))
        }
    };
    let mut known = vec![("DRCTL_OUTCOME".into(), outcome.to_owned())];
    known.extend(more);
    for moment in [moment, Moment::After] {
        for (name, hook) in hooks.at(moment) {
            if let Err(error) = hooks.run(name, hook, moment, known.clone()).await {
                tracing::warn!(
                    "the hook {name} failed, which changes nothing of the {}: {}",
                    hooks.kind.words(),
                    why(&error)
                );
            }
        }
    }
    done
}

/// What came of work that did not fail.
#[derive(Default)]
pub(crate) struct Came {
    /// The backup that was made.
    pub(crate) backup: Option<String>,
    /// Whether it does not count as good.
    pub(crate) suspect: bool,
    /// Whether it was stopped before all was done.
    pub(crate) stopped: bool,
}

impl Came {
    fn outcome(&self) -> (Moment, &'static str) {
        match self {
            Came { stopped: true, .. } => (Moment::Failure, "stopped"),
            Came { suspect: true, .. } => (Moment::Failure, "suspect"),
            Came { .. } => (Moment::Success, "succeeded"),
        }
    }
}

fn is_stopped(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(AgentError::Interrupted))
}

/// Why a hook failed, in one line.
fn why(error: &anyhow::Error) -> String {
    match error.downcast_ref() {
        Some(EngineError::Silent { waited, .. }) => {
            format!("it did not end within {} s, and was killed", waited.as_secs())
        }
        _ => shown(&Failure::of(error).messages.join(": "), 1_000),
    }
}

impl<'a> Hooks<'a> {
    /// Those that are run at a moment, by their names.
    fn at(&self, moment: Moment) -> impl Iterator<Item = (&'a String, &'a Hook)> {
        let (kind, source) = (self.kind, self.source);
        self.setup.config.hooks.iter().filter(move |(_, hook)| hook.is_for(moment, kind, source))
    }

    async fn before(&self) -> Result<()> {
        for (name, hook) in self.at(Moment::Before) {
            if self.stop.is_requested() {
                return Err(AgentError::Interrupted.into());
            }
            match self.run(name, hook, Moment::Before, Vec::new()).await {
                Ok(()) => {}
                Err(error) if is_stopped(&error) => return Err(error),
                Err(error) if hook.stops => {
                    let (name, job) = (name.clone(), self.kind.words());
                    return Err(AgentError::Hook(name, job, why(&error)).into());
                }
                Err(error) => {
                    tracing::warn!(
                        "the hook {name} failed, and the {} begins all the same: {}",
                        self.kind.words(),
                        why(&error)
                    );
                }
            }
        }
        Ok(())
    }

    /// Runs one, and no longer than it may.
    async fn run(
        &self,
        name: &str,
        hook: &Hook,
        moment: Moment,
        known: Vec<(Cow<'static, str>, String)>,
    ) -> Result<()> {
        let Some((program, args)) = hook.command.split_first() else { return Ok(()) };
        let all = [
            ("DRCTL_HOOK", name.to_owned()),
            ("DRCTL_ON", moment.as_str().to_owned()),
            ("DRCTL_JOB", self.kind.as_str().to_owned()),
            ("DRCTL_SOURCE", self.source.to_string()),
            ("DRCTL_RUN", self.run.to_string()),
        ];
        let env = all.into_iter().map(|(what, value)| (what.into(), value)).chain(known);
        if self.stop.is_requested() {
            // The job was ended; whoever was told of its begin is told of its end.
            let within = hook.timeout.min(LAST);
            return Ok(run_alone(Path::new(program), args, env, within).await?);
        }
        tokio::select! {
            ran = run_alone(Path::new(program), args, env, hook.timeout) => Ok(ran?),
            () = self.stop.requested() => Err(AgentError::Interrupted.into()),
        }
    }
}
