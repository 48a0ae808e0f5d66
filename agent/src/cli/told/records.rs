//! Events as records with fields: those of the event, and of the run that it is a part of.

use std::fmt::Debug;
use std::io::Write as _;

use drctl_model::{Clock as _, SystemClock, printable_json};
use serde_json::{Map, Value, json};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::HOST;
use super::journald::Journal;

/// Where records go.
pub(super) enum Sink {
    /// Standard error, a line of JSON each.
    Lines,
    /// systemd's journal, by its own protocol.
    Journal(Journal),
}

/// Takes events as records.
pub(super) struct Records(pub(super) Sink);

/// The fields of an event, or of a span.
#[derive(Debug, Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        let _ = self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.put(field, format!("{value:?}"));
    }
}

/// A record as it is told.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) level: Level,
    pub(super) message: String,
    /// What it is about, and from where it comes.
    pub(super) fields: Map<String, Value>,
}

impl Told {
    /// As a line of JSON. What a library calls as we do has our meaning.
    fn line(mut self) -> String {
        let time = format!("{:.6}", SystemClock.now());
        let level = self.level.as_str().to_lowercase();
        for (name, value) in [("time", time), ("level", level), ("message", self.message)] {
            let _ = self.fields.insert(name.to_owned(), json!(value));
        }
        printable_json(&Value::Object(self.fields).to_string())
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Records {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(of) = span.extensions().get::<Fields>() {
                // The nearest one comes first, and stays.
                for (name, value) in &of.0 {
                    let _ = fields.0.entry(name.clone()).or_insert_with(|| value.clone());
                }
            }
        }
        event.record(&mut fields);
        let mut fields = fields.0;
        let message = match fields.remove("message") {
            Some(Value::String(message)) => message,
            _ => String::new(),
        };
        let host = || rustix::system::uname().nodename().to_string_lossy().into_owned();
        let host = HOST.get().cloned().unwrap_or_else(host);
        let _ = fields.insert("host".to_owned(), json!(host));
        let target = event.metadata().target();
        let _ = fields.insert("target".to_owned(), json!(target));
        let told = Told { level: *event.metadata().level(), message, fields };
        match &self.0 {
            Sink::Journal(journal) if journal.take(&told).is_ok() => {}
            // What the journal does not take is told all the same.
            Sink::Journal(_) | Sink::Lines => {
                let mut line = told.line();
                line.push('\n');
                let _ = std::io::stderr().write_all(line.as_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use tracing::field::Empty;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[test]
    fn an_event_has_the_fields_of_the_run_that_it_is_a_part_of() {
        let (ours, theirs) = UnixDatagram::pair().expect("a pair of sockets");
        let told = tracing_subscriber::registry().with(Records(Sink::Journal(Journal(ours))));
        tracing::subscriber::with_default(told, || {
            let run = tracing::error_span!("run", source = "shop", run = Empty, job = "backup");
            let _ = run.record("run", "00ab");
            run.in_scope(|| tracing::warn!(job = "its own", bytes = 7, "late"));
        });
        let mut entry = [0; 4096];
        let length = theirs.recv(&mut entry).expect("an entry");
        let entry = String::from_utf8_lossy(&entry[..length]).replace('\0', "");
        for field in [
            "MESSAGE\n\u{4}late\n",
            "PRIORITY\n\u{1}4\n",
            "DRCTL_SOURCE\n\u{4}shop\n",
            "DRCTL_RUN\n\u{4}00ab\n",
            "DRCTL_JOB\n\u{7}its own\n",
            "DRCTL_BYTES\n\u{1}7\n",
            "DRCTL_HOST\n",
        ] {
            assert!(entry.contains(field), "{field:?}: {entry:?}");
        }
    }

    #[test]
    fn a_record_is_one_line_whatever_it_says() {
        let fields = json!({ "source": "shop", "level": "a library's", "time": 3 });
        let Value::Object(fields) = fields else { unreachable!() };
        let message = "failed:\n{\"level\":\"info\"} \u{1b}[2J \u{9b}".to_owned();
        let line = Told { level: Level::ERROR, message: message.clone(), fields }.line();
        assert!(!line.contains(char::is_control), "{line:?}");
        let read: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!((&read["level"], &read["source"]), (&json!("error"), &json!("shop")));
        assert_eq!(read["message"], json!(message));
        let time = read["time"].as_str().and_then(|time| time.parse::<jiff::Timestamp>().ok());
        assert!(time.is_some(), "{line}");
    }
}
