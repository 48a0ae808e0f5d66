//! `[notify.NAME]`: who is told when something is amiss, and by which way.

mod read;

use std::path::PathBuf;
use std::time::Duration;

use drctl_model::SourceId;
use serde::Serialize;

use crate::keys::Kind::{self, Choice, Flag, Path, Secret, Texts};
use crate::keys::{DAY, HOUR, Key, duration, number};
use crate::secret::SecretRef;
use crate::units::as_seconds;

pub(crate) use read::{names_in, program, read, read_sources};

const KINDS: &[&str] = &["webhook", "slack", "teams", "email", "pagerduty", "ntfy", "command"];

/// Keys that not every kind has, and the kinds that have them.
const FOR: &[(&str, &[&str])] = &[
    ("url", &["webhook", "slack", "teams", "pagerduty", "ntfy"]),
    ("hmac_key", &["webhook"]),
    ("routing_key", &["pagerduty"]),
    ("token", &["ntfy"]),
    ("smtp", &["email"]),
    ("port", &["email"]),
    ("user", &["email"]),
    ("password", &["email"]),
    ("from", &["email"]),
    ("to", &["email"]),
    ("command", &["command"]),
    ("body", &["slack", "teams", "email", "pagerduty", "ntfy"]),
    ("ca_file", &["webhook", "slack", "teams", "email", "pagerduty", "ntfy"]),
    ("allow_plain", &["webhook", "slack", "teams", "email", "pagerduty", "ntfy"]),
];

/// What may stand in braces in a title.
pub const TITLE_WORDS: &[&str] = &["state", "severity", "code", "source", "host"];

/// What may stand in braces in a body, beside the words of a title.
pub const BODY_WORDS: &[&str] =
    &["state", "severity", "code", "source", "host", "text", "since", "safe", "run"];

pub(crate) static NOTIFY: &[Key] = &[
    Key::required("kind", Choice(KINDS), "The way by which it is told."),
    Key::with_default(
        "min_severity",
        Choice(&["attention", "breached"]),
        "attention",
        "What is less than this is not told.",
    ),
    Key::optional("sources", Texts, "Only what concerns these sources is told; default: all."),
    Key::with_default(
        "reminder",
        duration(HOUR, 365 * DAY),
        "24h",
        "What is still amiss is told again after this.",
    ),
    Key::optional(
        "title",
        Kind::Text,
        "The first line of a notification, with {state}, {severity}, {code}, {source} and {host}.",
    ),
    Key::optional(
        "body",
        Texts,
        "The lines below it, with the same words and {text}, {since}, {safe} and {run}; not of webhook and command.",
    ),
    Key::optional("url", Secret, "Where it is sent; pagerduty: default is PagerDuty's own."),
    Key::optional("hmac_key", Secret, "webhook: the key by which what is sent is signed."),
    Key::optional("routing_key", Secret, "pagerduty: the integration's key."),
    Key::optional("token", Secret, "ntfy: the access token."),
    Key::optional("smtp", Kind::Text, "email: the mail server."),
    Key::with_default("port", number(1, 65_535), "587", "email: the mail server's port."),
    Key::optional("user", Kind::Text, "email: who logs in; default: nobody."),
    Key::optional("password", Secret, "email: the password."),
    Key::optional("from", Kind::Text, "email: the sender's address."),
    Key::optional("to", Texts, "email: the addresses of those who are told."),
    Key::optional(
        "command",
        Texts,
        "command: the program by its absolute path, and its arguments; no shell is asked.",
    ),
    Key::optional("ca_file", Path, "Certificates to trust beside those of the system (PEM)."),
    Key::with_default("allow_plain", Flag, "false", "Allow a connection without encryption."),
];

/// How bad what is told must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Somebody should look.
    Attention,
    /// What was promised does not hold.
    Breached,
}

impl Severity {
    /// The stable name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Severity::Attention => "attention",
            Severity::Breached => "breached",
        }
    }
}

/// Who is told, what, and by which way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Channel {
    /// By which way.
    #[serde(flatten)]
    pub way: Way,
    /// What is less than this is not told.
    pub min_severity: Severity,
    /// Only what concerns these is told; `None`: all.
    pub sources: Option<Vec<SourceId>>,
    /// What is still amiss is told again after this. 1 hour to 365 days.
    #[serde(rename = "reminder_seconds", serialize_with = "as_seconds")]
    pub reminder: Duration,
    /// The first line, with [words](TITLE_WORDS) in braces; `None`: drctl's own.
    pub title: Option<String>,
    /// The lines below it, with [words](BODY_WORDS) in braces; `None`: drctl's own.
    pub body: Option<Vec<String>>,
    /// Certificates to trust beside those of the system.
    pub ca_file: Option<PathBuf>,
    /// Whether a connection may be without encryption.
    pub allow_plain: bool,
}

/// The way by which it is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Way {
    /// JSON to any place.
    Webhook {
        /// Where.
        url: SecretRef,
        /// What signs it.
        hmac_key: Option<SecretRef>,
    },
    /// Slack, or what takes its incoming webhooks.
    Slack {
        /// The incoming webhook.
        url: SecretRef,
    },
    /// Microsoft Teams.
    Teams {
        /// The workflow's webhook.
        url: SecretRef,
    },
    /// A mail by SMTP.
    Email(Email),
    /// `PagerDuty`'s events, version 2.
    Pagerduty {
        /// Another place than its own.
        url: Option<SecretRef>,
        /// The integration's key.
        routing_key: SecretRef,
    },
    /// ntfy.
    Ntfy {
        /// The topic.
        url: SecretRef,
        /// An access token.
        token: Option<SecretRef>,
    },
    /// A program of this host.
    Command {
        /// The program and its arguments.
        command: Vec<String>,
    },
}

/// A mail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Email {
    /// The mail server.
    pub smtp: String,
    /// Its port.
    pub port: u16,
    /// Who logs in.
    pub user: Option<String>,
    /// The password.
    pub password: Option<SecretRef>,
    /// The sender.
    pub from: String,
    /// The receivers.
    pub to: Vec<String>,
}

impl Way {
    /// Whether it is sent reports: what calls people is not.
    #[must_use]
    pub fn takes_reports(&self) -> bool {
        !matches!(self, Way::Pagerduty { .. })
    }
}

impl Channel {
    /// The secrets that it names, by their keys.
    #[must_use]
    pub fn secrets(&self) -> Vec<(&'static str, &SecretRef)> {
        let named = match &self.way {
            Way::Webhook { url, hmac_key } => {
                vec![("url", Some(url)), ("hmac_key", hmac_key.as_ref())]
            }
            Way::Slack { url } | Way::Teams { url } => vec![("url", Some(url))],
            Way::Email(email) => vec![("password", email.password.as_ref())],
            Way::Pagerduty { url, routing_key } => {
                vec![("url", url.as_ref()), ("routing_key", Some(routing_key))]
            }
            Way::Ntfy { url, token } => vec![("url", Some(url)), ("token", token.as_ref())],
            Way::Command { .. } => vec![],
        };
        named.into_iter().filter_map(|(name, secret)| Some((name, secret?))).collect()
    }
}
