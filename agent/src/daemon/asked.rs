//! What is asked at the socket, done.

use drctl_model::JobKind;
use drctl_policies::scheduler::{Event, JobKey};

use super::control::{self, Answer, Asked, Refusal, Request};
use super::{Agent, reply};

/// What is said to whoever asks for a job that the agent does not have.
fn without(control::Which { source, kind }: &control::Which) -> String {
    let (what, command) = match kind {
        JobKind::Backup => ("its policy has no schedule", Some("backup")),
        JobKind::Prune => ("[prune] has no schedule", Some("prune")),
        JobKind::Verify => ("[verify] has no schedule", Some("verify")),
        JobKind::LogStream => ("its `log` is no stream", None),
        JobKind::LogIndex => {
            ("its `log` is none, or [log_index] has schedule = \"never\"", Some("wal index"))
        }
        JobKind::Report => ("[report] has no schedule", Some("report")),
        JobKind::Drill => ("[drill] has no schedule", Some("drill run")),
        JobKind::Restore | JobKind::Replicate => ("no agent does that", None),
    };
    let by_hand =
        command.map_or_else(String::new, |verb| format!("; by hand: `drctl {verb} {source}`"));
    format!(
        "the agent has no {} job for {source}: {what}, or the source is not enabled, or the agent has \
         not read the configuration since (`drctl reload`){by_hand}",
        kind.words()
    )
}

/// What is said to whoever would cancel a job that does not run.
fn nothing_runs(key: &JobKey) -> String {
    format!("nothing to cancel: no {} of {} is running", key.kind.words(), key.source)
}

impl Agent {
    /// Does what somebody asks who may ask it.
    pub(super) fn answer(&mut self, asked: &Asked) -> Answer {
        if asked.request != Request::Jobs {
            let (by, request) = (asked.peer.words(), asked.request.name());
            tracing::info!(by, request, "asked at the socket");
        }
        match &asked.request {
            Request::Jobs => {}
            Request::Run(which) => {
                let key = self.known(which)?;
                if self.running.contains_key(&key) {
                    let text = format!("a {} of {} runs already", key.kind.as_str(), key.source);
                    return Err(Refusal::new("busy", text));
                }
                self.handle(Event::Run { key });
            }
            Request::Pause(any) => {
                for of in self.meant(any)? {
                    self.handle(Event::Pause { of });
                }
            }
            Request::Resume(any) => {
                for of in self.meant(any)? {
                    self.handle(Event::Resume { of });
                }
            }
            Request::Cancel(which) => {
                let key = self.known(which)?;
                if !self.running.contains_key(&key) {
                    return Err(Refusal::new("not_running", nothing_runs(&key)));
                }
                self.handle(Event::Cancel { key });
            }
            Request::Reload => self.reload()?,
            // Whoever listens has taken it already.
            Request::Push(_) => return Err(Refusal::new("bad_request", "no file came")),
        }
        Ok(reply::state(self))
    }

    /// The job that is meant, if there is one.
    fn known(&self, which: &control::Which) -> Result<JobKey, Refusal> {
        let key = JobKey { source: which.source.clone(), kind: which.kind };
        let rows = self.scheduler.rows(self.setup.clock.now());
        if rows.iter().any(|row| row.key == key) {
            return Ok(key);
        }
        Err(Refusal::new("unknown_job", without(which)))
    }

    /// The jobs that are meant; `None` stands for all that there are and come.
    fn meant(&self, any: &control::Any) -> Result<Vec<Option<JobKey>>, Refusal> {
        let Some(source) = &any.source else {
            return match any.kind {
                None => Ok(vec![None]),
                Some(_) => Err(Refusal::new("bad_request", "a kind of job needs a source")),
            };
        };
        let rows = self.scheduler.rows(self.setup.clock.now()).into_iter();
        let keys: Vec<Option<JobKey>> = rows
            .map(|row| row.key)
            .filter(|key| key.source == *source && any.kind.is_none_or(|kind| key.kind == kind))
            .map(Some)
            .collect();
        if keys.is_empty() {
            return Err(Refusal::new(
                "unknown_job",
                format!("the agent has no such job of {source}"),
            ));
        }
        Ok(keys)
    }
}
