//! `[hooks.NAME]`: what is run or asked before and after a job.

use std::path::PathBuf;
use std::time::Duration;

use drctl_model::{JobKind, SourceId};
use serde::Serialize;

use crate::diagnostic::show;
use crate::keys::Kind::{Choice, Flag, Path, Secret, Texts};
use crate::keys::{HOUR, Key, duration};
use crate::notify::{program, read_sources};
use crate::reader::Reader;
use crate::secret::SecretRef;
use crate::units::as_seconds;

pub(crate) static HOOKS: &[Key] = &[
    Key::required("on", Texts, "When it is run: `before`, `success`, `failure`, `after`."),
    Key::optional(
        "command",
        Texts,
        "The program by its absolute path, and its arguments; no shell is asked. Either this or `url`.",
    ),
    Key::optional("url", Secret, "The address to which a request is sent, by HTTPS."),
    Key::optional("hmac_key", Secret, "url: the key by which what is sent is signed."),
    Key::optional("ca_file", Path, "url: certificates to trust beside those of the system (PEM)."),
    Key::with_default("allow_plain", Flag, "false", "url: allow a connection without encryption."),
    Key::optional("jobs", Texts, "Of which jobs: `backup`, `prune`; default: `backup`."),
    Key::optional("sources", Texts, "Only for jobs of these sources; default: all."),
    Key::with_default("timeout", duration(1, HOUR), "60s", "It is ended when it takes longer."),
    Key::with_default(
        "on_failure",
        Choice(&["stop", "go-on"]),
        "stop",
        "If a hook fails that runs `before`: `stop` does not begin the job, `go-on` begins it.",
    ),
];

/// When a hook is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Moment {
    /// Before anything is done.
    Before,
    /// When it has succeeded.
    Success,
    /// When it has not.
    Failure,
    /// When it has ended, however.
    After,
}

impl Moment {
    const ALL: [Moment; 4] = [Moment::Before, Moment::Success, Moment::Failure, Moment::After];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Moment::Before => "before",
            Moment::Success => "success",
            Moment::Failure => "failure",
            Moment::After => "after",
        }
    }
}

/// What is done before or after a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hook {
    /// When.
    pub on: Vec<Moment>,
    /// Of which kinds of jobs.
    pub jobs: Vec<JobKind>,
    /// Only for jobs of these; `None`: all.
    pub sources: Option<Vec<SourceId>>,
    /// What is done.
    #[serde(flatten)]
    pub does: HookDoes,
    /// It is ended when it takes longer. 1 second to 1 hour.
    #[serde(rename = "timeout_seconds", serialize_with = "as_seconds")]
    pub timeout: Duration,
    /// Whether a job is not begun where it fails before it.
    pub stops: bool,
}

/// What a hook does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum HookDoes {
    /// It runs a program.
    Run {
        /// The program and its arguments.
        command: Vec<String>,
    },
    /// It sends a request.
    Ask(HookRequest),
}

/// Where a hook sends what it tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HookRequest {
    /// The address.
    pub url: SecretRef,
    /// What signs it.
    pub hmac_key: Option<SecretRef>,
    /// Certificates to trust beside those of the system.
    pub ca_file: Option<PathBuf>,
    /// Whether a connection may be without encryption.
    pub allow_plain: bool,
}

impl Hook {
    /// The secrets that it names, by their keys.
    #[must_use]
    pub fn secrets(&self) -> Vec<(&'static str, &SecretRef)> {
        let HookDoes::Ask(request) = &self.does else { return Vec::new() };
        let key = request.hmac_key.as_ref().map(|key| ("hmac_key", key));
        std::iter::once(("url", &request.url)).chain(key).collect()
    }

    /// Whether it is run at this moment of such a job.
    #[must_use]
    pub fn is_for(&self, moment: Moment, job: JobKind, source: &SourceId) -> bool {
        let is_meant = self.sources.as_ref().is_none_or(|all| all.contains(source));
        self.on.contains(&moment) && self.jobs.contains(&job) && is_meant
    }
}

/// Reads `[hooks.NAME]`; `known` are the names of all sources.
pub(crate) fn read(reader: &Reader<'_>, known: &[&str]) -> Option<Hook> {
    let on = words(reader, "on", &Moment::ALL.map(|one| (one.as_str(), one)));
    let kinds = [("backup", JobKind::Backup), ("prune", JobKind::Prune)];
    let jobs = match reader.has("jobs") {
        true => words(reader, "jobs", &kinds),
        false => Some(vec![JobKind::Backup]),
    };
    let (sources, timeout) = (read_sources(reader, known), reader.duration("timeout"));
    let stops = reader.choice("on_failure").map(|word| word == "stop");
    if reader.has("on_failure") && on.as_ref().is_some_and(|on| !on.contains(&Moment::Before)) {
        let message = "`on_failure` has no effect without `before`";
        let advice = "remove it: what fails after a job changes nothing of it";
        reader.report.advise(&reader.span_of_key("on_failure"), message, advice);
    }
    let does = read_does(reader);
    Some(Hook {
        on: on?,
        jobs: jobs?,
        sources: sources?,
        does: does?,
        timeout: timeout?,
        stops: stops?,
    })
}

/// What it does: a program or an address, and not both.
fn read_does(reader: &Reader<'_>) -> Option<HookDoes> {
    let command = reader.texts("command").and_then(|words| program(reader, words));
    let (url, hmac_key) = (reader.secret("url"), reader.secret("hmac_key"));
    let (ca_file, plain) = (reader.path("ca_file"), reader.flag("allow_plain"));
    match (reader.has("command"), reader.has("url")) {
        (false, false) => {
            let message = "missing key `command` or `url`";
            reader.report.advise(&reader.span, message, "a hook needs one of both");
            return None;
        }
        (true, true) => {
            let (message, advice) =
                ("`url` has no effect beside `command`", "remove one of both, or write two hooks");
            reader.report.advise(&reader.span_of_key("url"), message, advice);
            return None;
        }
        (true, false) => {
            for name in ["hmac_key", "ca_file", "allow_plain"].into_iter().filter(|n| reader.has(n))
            {
                let message = format!("`{name}` has no effect without `url`");
                reader.report.advise(&reader.span_of_key(name), message, "remove it");
            }
            return command.map(|command| HookDoes::Run { command });
        }
        (false, true) => {}
    }
    Some(HookDoes::Ask(HookRequest { url: url?, hmac_key, ca_file, allow_plain: plain? }))
}

/// A list of words that there are, at least one.
fn words<T: Copy>(reader: &Reader<'_>, name: &str, known: &[(&str, T)]) -> Option<Vec<T>> {
    let texts = reader.texts(name)?;
    let all: Vec<&str> = known.iter().map(|(word, _)| *word).collect();
    let advice = format!("write some of \"{}\"", all.join("\", \""));
    if texts.is_empty() {
        let message = format!("`{name}` is empty");
        reader.report.advise(&reader.span_of(name), message, advice.clone());
        return None;
    }
    let mut found = Vec::new();
    for text in &texts {
        match known.iter().find(|(word, _)| *word == text.value) {
            Some((_, meant)) => found.push(*meant),
            None => {
                let message = format!("`{}` is not allowed in `{name}`", show(text.value));
                reader.report.advise(&text.span, message, advice.clone());
            }
        }
    }
    (found.len() == texts.len()).then_some(found)
}
