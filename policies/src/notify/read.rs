//! Reads `[notify.NAME]`.

use drctl_model::SourceId;
use toml::Spanned;
use toml::de::DeValue;

use super::{BODY_WORDS, Channel, Email, FOR, Severity, TITLE_WORDS, Way};
use crate::diagnostic::{did_you_mean, show};
use crate::reader::{Reader, Text};
use crate::secret::SecretRef;

/// The names of the tables in a table; nothing is read and nothing is reported.
pub(crate) fn names_in<'a>(reader: &Reader<'a>, name: &str) -> Vec<&'a str> {
    match reader.table.and_then(|table| table.get(name)).map(Spanned::get_ref) {
        Some(DeValue::Table(table)) => table.keys().map(|label| label.get_ref().as_ref()).collect(),
        _ => Vec::new(),
    }
}

/// Reads `[notify.NAME]`; `known` are the names of all sources.
pub(crate) fn read(reader: &Reader<'_>, known: &[&str]) -> Option<Channel> {
    let min_severity = reader.choice("min_severity").map(|word| match word {
        "breached" => Severity::Breached,
        _ => Severity::Attention,
    });
    let (reminder, title) = (reader.duration("reminder"), read_title(reader));
    let body = read_body(reader);
    let (sources, allow_plain) = (read_sources(reader, known), reader.flag("allow_plain"));
    let ca_file = reader.path("ca_file");
    // Those of other kinds are read too: what is wrong with a value is said beside its key's being of no
    // use.
    let addressed = Addressed::read(reader);
    let (email, command) = (Mail::read(reader), reader.texts("command"));
    let kind = reader.choice("kind")?;
    refuse_foreign(reader, kind);
    let way = match kind {
        "email" => email.finish(reader).map(Way::Email),
        "command" => read_command(reader, command).map(|command| Way::Command { command }),
        _ => addressed.finish(reader, kind),
    };
    Some(Channel {
        way: way?,
        min_severity: min_severity?,
        sources: sources?,
        reminder: reminder?,
        title: title?,
        body: body?,
        ca_file,
        allow_plain: allow_plain?,
    })
}

/// Reports a key that this kind must have and that is not there.
fn wants(reader: &Reader<'_>, kind: &str, name: &str) {
    if !reader.has(name) {
        let message = format!("missing key `{name}`");
        let advice = format!("kind = \"{kind}\" needs it");
        reader.report.advise(&reader.span, message, advice);
    }
}

/// The keys of all kinds that send a request.
struct Addressed {
    url: Option<SecretRef>,
    hmac_key: Option<SecretRef>,
    routing_key: Option<SecretRef>,
    token: Option<SecretRef>,
}

impl Addressed {
    fn read(reader: &Reader<'_>) -> Self {
        Addressed {
            url: reader.secret("url"),
            hmac_key: reader.secret("hmac_key"),
            routing_key: reader.secret("routing_key"),
            token: reader.secret("token"),
        }
    }

    fn finish(self, reader: &Reader<'_>, kind: &str) -> Option<Way> {
        let Addressed { url, hmac_key, routing_key, token } = self;
        if kind == "pagerduty" {
            wants(reader, kind, "routing_key");
            return Some(Way::Pagerduty { url, routing_key: routing_key? });
        }
        wants(reader, kind, "url");
        let url = url?;
        Some(match kind {
            "slack" => Way::Slack { url },
            "teams" => Way::Teams { url },
            "ntfy" => Way::Ntfy { url, token },
            _ => Way::Webhook { url, hmac_key },
        })
    }
}

/// The keys of a mail.
struct Mail<'a> {
    smtp: Option<Text<'a>>,
    port: Option<u16>,
    user: Option<Text<'a>>,
    password: Option<SecretRef>,
    from: Option<Text<'a>>,
    to: Option<Vec<Text<'a>>>,
}

impl<'a> Mail<'a> {
    fn read(reader: &Reader<'a>) -> Self {
        Mail {
            smtp: reader.text("smtp"),
            port: reader.number("port"),
            user: reader.text("user"),
            password: reader.secret("password"),
            from: reader.text("from"),
            to: reader.texts("to"),
        }
    }

    fn finish(self, reader: &Reader<'_>) -> Option<Email> {
        for name in ["smtp", "from", "to"] {
            wants(reader, "email", name);
        }
        if reader.has("user") != reader.has("password") {
            let lone = if reader.has("user") { "user" } else { "password" };
            let message = format!("`{lone}` has no effect alone");
            let advice = "write both `user` and `password`, or neither";
            reader.report.advise(&reader.span_of_key(lone), message, advice);
        }
        let addresses = self.from.iter().chain(self.to.iter().flatten());
        for text in addresses.filter(|text| !is_address(text.value)) {
            let message = format!("`{}` is no mail address", show(text.value));
            reader.report.advise(&text.span, message, "write one such as dba@example.org");
        }
        if self.to.as_ref().is_some_and(Vec::is_empty) {
            let advice = "write at least one address";
            reader.report.advise(&reader.span_of("to"), "`to` names nobody", advice);
        }
        Some(Email {
            smtp: self.smtp?.value.to_owned(),
            port: self.port?,
            user: self.user.map(|text| text.value.to_owned()),
            password: self.password,
            from: self.from?.value.to_owned(),
            to: self.to?.into_iter().map(|text| text.value.to_owned()).collect(),
        })
    }
}

/// Whether a text is an address and nothing else.
fn is_address(text: &str) -> bool {
    let plain = |part: &str| {
        !part.is_empty()
            && part.chars().all(|c| c.is_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.[]:".contains(c))
    };
    text.split_once('@').is_some_and(|(name, host)| plain(name) && plain(host))
}

fn read_command(reader: &Reader<'_>, words: Option<Vec<Text<'_>>>) -> Option<Vec<String>> {
    wants(reader, "command", "command");
    program(reader, words?)
}

/// A program by its absolute path, and its arguments.
pub(crate) fn program(reader: &Reader<'_>, words: Vec<Text<'_>>) -> Option<Vec<String>> {
    if !words.first().is_some_and(|program| program.value.starts_with('/')) {
        let message = "`command` must begin with a program's absolute path";
        let advice = "write for example [\"/usr/local/bin/tell\", \"--urgent\"]";
        reader.report.advise(&reader.span_of("command"), message, advice);
        return None;
    }
    Some(words.into_iter().map(|word| word.value.to_owned()).collect())
}

/// The sources that are meant; one that there is not would keep a channel or a hook silent.
#[expect(clippy::option_option, reason = "a mistake, no list, a list")]
pub(crate) fn read_sources(reader: &Reader<'_>, known: &[&str]) -> Option<Option<Vec<SourceId>>> {
    let texts = match (reader.has("sources"), reader.texts("sources")) {
        (false, _) => return Some(None),
        (true, texts) => texts?,
    };
    let mut found = Vec::new();
    for text in &texts {
        let id = text.value.parse::<SourceId>().ok();
        match id.filter(|_| known.contains(&text.value)) {
            Some(id) => found.push(id),
            None => {
                let message = format!("there is no source `{}`", show(text.value));
                let advice = did_you_mean(text.value, known.iter().copied())
                    .unwrap_or_else(|| "name one of [sources]".to_owned());
                reader.report.advise(&text.span, message, advice);
            }
        }
    }
    (found.len() == texts.len()).then_some(Some(found))
}

#[expect(clippy::option_option, reason = "a mistake, none, one")]
fn read_title(reader: &Reader<'_>) -> Option<Option<String>> {
    let text = match (reader.has("title"), reader.text("title")) {
        (false, _) => return Some(None),
        (true, text) => text?,
    };
    has_words(reader, &text, ("a title", TITLE_WORDS)).then(|| Some(text.value.to_owned()))
}

#[expect(clippy::option_option, reason = "a mistake, none, some")]
fn read_body(reader: &Reader<'_>) -> Option<Option<Vec<String>>> {
    let lines = match (reader.has("body"), reader.texts("body")) {
        (false, _) => return Some(None),
        (true, lines) => lines?,
    };
    let good = lines.iter().filter(|line| has_words(reader, line, ("a body", BODY_WORDS))).count();
    let all = || lines.iter().map(|line| line.value.to_owned()).collect();
    (good == lines.len()).then(|| Some(all()))
}

/// Whether what stands in braces are words that stand for something.
fn has_words(reader: &Reader<'_>, text: &Text<'_>, (what, words): (&str, &[&str])) -> bool {
    let unknown = text.value.split('{').skip(1).find_map(|rest| {
        let word = rest.split('}').next().unwrap_or_default();
        (!rest.contains('}') || !words.contains(&word)).then_some(word)
    });
    let Some(word) = unknown else { return true };
    let message = format!("`{{{}}}` stands for nothing in {what}", show(word));
    let advice = format!("write one of {{{}}}", words.join("}, {"));
    reader.report.advise(&text.span, message, advice);
    false
}

/// Refuses keys that mean something to other kinds alone.
fn refuse_foreign(reader: &Reader<'_>, kind: &str) {
    let foreign = FOR.iter().filter(|(name, kinds)| reader.has(name) && !kinds.contains(&kind));
    for (name, kinds) in foreign {
        let message = format!("`{name}` has no effect with this kind");
        let advice = format!("remove it; it is for kind = \"{}\"", kinds.join("\" or \""));
        reader.report.advise(&reader.span_of_key(name), message, advice);
    }
}
