//! What is told: one thing, in words for people and in fields for programs.

use std::fmt::Write as _;

use drctl_model::{SourceId, shown};
use drctl_policies::Severity;
use drctl_store::digest;
use jiff::Timestamp;
use serde_json::{Value, json};

/// How much of a text is told.
const TEXT_TOLD: usize = 1000;

/// Half of a SHA-256, in hexadecimal digits: what tells one thing from another.
pub(super) fn short_digest(bytes: &[u8]) -> String {
    digest(bytes).to_string().chars().take(32).collect()
}

/// Why something is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// It is amiss now, and was not before, or is worse.
    Begun,
    /// It is still amiss.
    Reminder,
    /// It is not amiss any more.
    Recovered,
    /// Nothing is amiss: somebody tries whether this arrives.
    Test,
    /// Much at once, in one notice.
    Summary,
    /// What was done, and how it stands: nothing may be amiss.
    Report,
}

impl Event {
    /// The stable name.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Event::Begun => "begun",
            Event::Reminder => "reminder",
            Event::Recovered => "recovered",
            Event::Test => "test",
            Event::Summary => "summary",
            Event::Report => "report",
        }
    }

    /// In a title.
    const fn word(self) -> &'static str {
        match self {
            Event::Begun => "new",
            Event::Reminder => "still",
            Event::Recovered => "recovered",
            Event::Test => "test",
            Event::Summary => "several",
            Event::Report => "report",
        }
    }
}

/// One thing to be told. Nothing in it is secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Notice {
    /// Why it is told.
    pub(crate) event: Event,
    /// How bad it is, or was.
    pub(crate) severity: Severity,
    /// The host that tells it.
    pub(crate) host: String,
    /// Whose it is; `None`: the host's.
    pub(crate) source: Option<SourceId>,
    /// What it is: a stable name.
    pub(crate) code: String,
    /// What it is about; empty where there can be but one.
    pub(crate) subject: String,
    /// What failed, or is over.
    pub(crate) text: String,
    /// What is safe, as far as that is known.
    pub(crate) safe: Option<String>,
    /// What to run.
    pub(crate) run: Option<String>,
    /// Since when.
    pub(crate) since: Option<Timestamp>,
    /// When it was told.
    pub(crate) at: Timestamp,
}

impl Notice {
    /// One that only tries whether it arrives; `more` is what else is said.
    pub(crate) fn test(host: String, at: Timestamp, more: &str) -> Self {
        Notice {
            event: Event::Test,
            severity: Severity::Attention,
            text: format!(
                "This is a test: nothing is amiss. Notifications of {host} arrive here.{more}"
            ),
            host,
            source: None,
            code: "test".to_owned(),
            subject: String::new(),
            safe: None,
            run: None,
            since: None,
            at,
        }
    }

    /// A report of a source at a time: how bad it stands, and in a word; and its lines.
    pub(crate) fn report(
        host: String,
        (source, at): (SourceId, Timestamp),
        (severity, health): (Severity, &str),
        text: String,
    ) -> Self {
        Notice {
            event: Event::Report,
            severity,
            host,
            source: Some(source),
            code: "report".to_owned(),
            subject: health.to_owned(),
            text,
            safe: None,
            run: None,
            since: None,
            at,
        }
    }

    /// What a word stands for in a configured title or body; nothing where there is none.
    fn word(&self, word: &str) -> Option<String> {
        let host = || shown(&self.host, 100);
        match word {
            "state" => Some(self.event.word().to_owned()),
            "severity" => Some(self.severity.as_str().to_owned()),
            "code" => Some(self.code.clone()),
            "source" => Some(self.source.as_ref().map_or_else(host, ToString::to_string)),
            "host" => Some(host()),
            "text" => Some(self.lines()),
            "since" => self.since.map(|since| format!("{since:.0}")),
            "safe" => self.safe.as_ref().map(|safe| shown(safe, TEXT_TOLD)),
            "run" => self.run.clone(),
            _ => None,
        }
    }

    /// A configured line with its words filled in; nothing where one of them stands for nothing.
    fn filled(&self, line: &str) -> Option<String> {
        let mut parts = line.split('{');
        let mut text = parts.next()?.to_owned();
        for part in parts {
            // The configuration was refused where this is no word.
            let (word, rest) = part.split_once('}')?;
            text.push_str(&self.word(word)?);
            text.push_str(rest);
        }
        Some(text)
    }

    /// The first line: by a configured title, or drctl's own.
    pub(crate) fn title(&self, title: Option<&str>) -> String {
        if let Some(text) = title.and_then(|title| self.filled(title)) {
            return text;
        }
        let (host, severity) = (shown(&self.host, 100), self.severity.as_str());
        let whose = match &self.source {
            Some(source) => format!("{source} on {host}"),
            None => host,
        };
        let code = self.code.replace('_', " ");
        match self.event {
            Event::Begun => format!("{whose}: {code} ({severity})"),
            Event::Reminder => format!("{whose}: still {code} ({severity})"),
            Event::Recovered => format!("{whose}: recovered, {code} is over"),
            Event::Test => format!("{whose}: a test of notifications"),
            Event::Summary => format!("{whose}: several things at once ({severity})"),
            Event::Report => format!("{whose}: report ({})", shown(&self.subject, 20)),
        }
    }

    /// All else that people read, in lines: those that are configured, or drctl's own.
    pub(crate) fn body(&self, lines: Option<&[String]>) -> String {
        if let Some(lines) = lines {
            let filled = lines.iter().filter_map(|line| self.filled(line));
            return filled.collect::<Vec<_>>().join("\n");
        }
        let mut text = self.lines();
        if let Some(since) = self.since {
            let _ = write!(text, "\nSince: {since:.0}");
        }
        if let Some(safe) = &self.safe {
            let _ = write!(text, "\nSafe: {}", shown(safe, TEXT_TOLD));
        }
        if let Some(run) = &self.run {
            let _ = write!(text, "\nRun: {run}");
        }
        if let Some(source) = &self.source {
            let _ = write!(text, "\nSource: {source}");
        }
        let _ = write!(text, "\nHost: {}", shown(&self.host, 100));
        text
    }

    /// Each line of the text by itself: a summary has several.
    fn lines(&self) -> String {
        let lines = self.text.split('\n').map(|line| shown(line, TEXT_TOLD));
        lines.collect::<Vec<_>>().join("\n")
    }

    /// What is the same of all notices about one thing.
    pub(crate) fn key(&self) -> String {
        let source = self.source.as_ref().map_or("", |source| source.as_str());
        let whole = [&self.host, source, &self.code, &self.subject].join("\0");
        short_digest(whole.as_bytes())
    }

    /// The same for programs.
    pub(crate) fn json(&self, title: Option<&str>) -> Value {
        json!({
            "schema": "drctl.notice/1", "event": self.event.as_str(),
            "severity": self.severity.as_str(), "host": self.host, "source": self.source,
            "code": self.code, "subject": self.subject, "key": self.key(),
            "title": self.title(title), "text": self.lines(), "safe": self.safe, "run": self.run,
            "since": self.since, "at": self.at,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(event: Event) -> Notice {
        Notice {
            event,
            severity: Severity::Breached,
            host: "db1".to_owned(),
            source: Some("shop".parse().unwrap()),
            code: "no_good_backup".to_owned(),
            subject: String::new(),
            text: "there is no good backup\u{1b}[2J".to_owned(),
            safe: Some("nothing".to_owned()),
            run: Some("drctl status".to_owned()),
            since: Some(Timestamp::UNIX_EPOCH),
            at: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn a_notice_says_what_failed_what_is_safe_and_what_to_run() {
        let begun = notice(Event::Begun);
        assert_eq!(begun.title(None), "shop on db1: no good backup (breached)");
        let body = "there is no good backup\\u{1b}[2J\nSince: 1970-01-01T00:00:00Z\nSafe: nothing\n\
                    Run: drctl status\nSource: shop\nHost: db1";
        assert_eq!(begun.body(None), body);
        let lines = ["{text}", "look: {run}", "since {since}", "{source}@{host} {code}"];
        let lines = lines.map(str::to_owned);
        let own = Notice { run: None, source: None, ..begun.clone() };
        assert_eq!(
            own.body(Some(&lines[..2])),
            "there is no good backup\\u{1b}[2J",
            "a line whose word stands for nothing is left out"
        );
        let own = begun.body(Some(&[lines[0].clone(), lines[3].clone()]));
        assert_eq!(own, "there is no good backup\\u{1b}[2J\nshop@db1 no_good_backup");
        let title = notice(Event::Recovered).title(Some("[{state}] {code} of {source} on {host}"));
        assert_eq!(title, "[recovered] no_good_backup of shop on db1");
    }

    #[test]
    fn the_key_is_that_of_the_thing_and_not_of_what_is_said_of_it() {
        let (begun, over) = (notice(Event::Begun), notice(Event::Recovered));
        assert_eq!(begun.key(), over.key());
        let other = Notice { subject: "slot one".to_owned(), ..notice(Event::Begun) };
        assert_ne!(begun.key(), other.key());
        assert_eq!(begun.key().len(), 32);
    }
}
