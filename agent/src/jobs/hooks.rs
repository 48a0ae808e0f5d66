//! What the operator has run before and after a job.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use drctl_engines::{EngineError, may_run, run_alone};
use drctl_model::{JobKind, RunId, SourceId, shown};
use drctl_policies::{Hook, HookDoes, HookRequest, Moment};
use serde_json::{Map, Value};

use crate::host::{AgentError, Failure, Setup, Stop, read_optional, read_secret};
use crate::http::{Client, signed_json};

/// What a hook is told: a name, and a value.
type Told = Vec<(&'static str, String)>;

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
        Ok(came) => (came.outcome(), came.backup.map(|backup| ("backup", backup))),
        Err(error) => {
            let outcome = if is_stopped(error) { "stopped" } else { "failed" };
            let code = Failure::of(error).code.to_owned();
            ((Moment::Failure, outcome), Some(("code", code)))
        }
    };
    let mut known = vec![("outcome", outcome.to_owned())];
    known.extend(more);
    for moment in [moment, Moment::After] {
        for (name, hook) in hooks.at(moment) {
            if let Err(error) = hooks.run(name, hook, moment, known.clone()).await {
                tracing::warn!(
                    "the hook {name} failed after the {}, which changes nothing of how that ended: {}",
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
        _ => shown(&Failure::of(error).messages.join(": ").replace('\n', " / "), 1_000),
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
    async fn run(&self, name: &str, hook: &Hook, moment: Moment, known: Told) -> Result<()> {
        let mut told = vec![
            ("hook", name.to_owned()),
            ("on", moment.as_str().to_owned()),
            ("job", self.kind.as_str().to_owned()),
            ("source", self.source.to_string()),
            ("run", self.run.to_string()),
        ];
        told.extend(known);
        if self.stop.is_requested() {
            // The job was ended; whoever was told of its begin is told of its end.
            return self.tell(name, hook, told, hook.timeout.min(LAST)).await;
        }
        tokio::select! {
            ran = self.tell(name, hook, told, hook.timeout) => ran,
            () = self.stop.requested() => Err(AgentError::Interrupted.into()),
        }
    }

    async fn tell(&self, name: &str, hook: &Hook, told: Told, within: Duration) -> Result<()> {
        match &hook.does {
            HookDoes::Run { command } => {
                let Some((program, args)) = command.split_first() else { return Ok(()) };
                let variable = |name: &str| format!("DRCTL_{}", name.to_ascii_uppercase()).into();
                let env = told.into_iter().map(|(name, value)| (variable(name), value));
                Ok(run_alone(Path::new(program), args, env, within).await?)
            }
            HookDoes::Ask(request) => self.ask(name, request, told, within).await,
        }
    }

    /// Sends a request: what is told, as JSON.
    async fn ask(
        &self,
        name: &str,
        request: &HookRequest,
        told: Told,
        within: Duration,
    ) -> Result<()> {
        let (client, url, key) = prepared(name, request, within)?;
        let mut object = Map::new();
        object.insert("schema".to_owned(), "drctl.hook/1".into());
        object.insert("host".to_owned(), Value::from(self.setup.host()));
        object.extend(told.into_iter().map(|(name, value)| (name.to_owned(), value.into())));
        let second = self.setup.clock.now().as_second();
        let sent = signed_json(&url, key.as_deref(), &object.into(), second);
        Ok(client.send(&sent).await?)
    }
}

/// What a request is sent with: the address, and what signs it.
fn prepared(
    name: &str,
    request: &HookRequest,
    within: Duration,
) -> Result<(Client, String, Option<String>)> {
    let url = read_secret(&format!("hooks.{name}.url"), &request.url)?;
    let key = read_optional(&format!("hooks.{name}.hmac_key"), request.hmac_key.as_ref())?;
    let client = Client::new(request.ca_file.as_deref(), request.allow_plain, within)?;
    Ok((client, url, key))
}

/// Looks at a hook without running it: whether its program could be started, or its request be sent.
///
/// # Errors
/// Those that running it would end with before anybody else hears of it.
pub(crate) fn look_at(name: &str, hook: &Hook) -> Result<()> {
    match &hook.does {
        HookDoes::Run { command } => {
            command.first().map_or(Ok(()), |program| Ok(may_run(Path::new(program))?))
        }
        HookDoes::Ask(request) => {
            let (client, url, _key) = prepared(name, request, hook.timeout)?;
            Ok(client.address(&url).map(drop)?)
        }
    }
}
