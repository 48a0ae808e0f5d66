//! What is told on standard error while a command works: as text, as lines of JSON, or into systemd's journal.

mod journald;
mod records;

use std::env;
use std::io::IsTerminal as _;
use std::sync::OnceLock;

use drctl_model::seen;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, fmt, registry};

use self::journald::Journal;
use self::records::{Records, Sink};
use super::screen::{Screen, under};
use crate::host::Failure;

/// What the scheduler's library does is nobody's business, unless somebody asks for it by name; nor is where
/// requests go: the address of a hook or a channel is a secret.
const QUIET: &str =
    "tokio_cron_scheduler=warn,hyper=warn,hyper_util=warn,reqwest=warn,h2=warn,rustls=warn";

/// Whether what is told are records, with fields.
static RECORDS: OnceLock<()> = OnceLock::new();

/// Of which host records are, by its configuration.
static HOST: OnceLock<String> = OnceLock::new();

/// What the libraries and drctl itself have to tell, on standard error; `DRCTL_LOG` sets how much, and
/// `DRCTL_LOG_FORMAT` as what.
pub(super) fn begin(quiet: bool, agent: bool) {
    let usual = match (quiet, agent) {
        (true, _) => "error",
        // Of a run that went well there is a line.
        (false, true) => "info",
        (false, false) => "warn",
    };
    let wanted = env::var("DRCTL_LOG").unwrap_or_else(|_| usual.to_owned());
    let filter = EnvFilter::try_new(format!("{QUIET},{wanted}"));
    let filter = filter.unwrap_or_else(|_| EnvFilter::new(format!("{QUIET},{usual}")));
    let format = env::var("DRCTL_LOG_FORMAT").unwrap_or_default();
    let sink = match format.as_str() {
        "json" => Some(Sink::Lines),
        "text" => None,
        _ => Journal::of_standard_error().map(Sink::Journal),
    };
    let told = registry().with(filter);
    let _ = match sink {
        Some(sink) => {
            let _ = RECORDS.set(());
            // What a panic says is told as everything else is.
            std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
            told.with(Records(sink)).try_init()
        }
        None => {
            let text = fmt::layer()
                .with_writer(|| Told(std::io::stderr()))
                // A terminal has colours, unless NO_COLOR is set; nothing else has any.
                .with_ansi(std::io::stderr().is_terminal() && has_colours())
                // A terminal that went away is no reason to panic.
                .log_internal_errors(false)
                .with_target(false)
                .without_time();
            // A line says what it is about itself: no text repeats what it is a part of.
            told.with(text.with_filter(filter_fn(|of| of.is_event()))).try_init()
        }
    };
    if !["", "text", "json"].contains(&format.as_str()) {
        tracing::warn!("DRCTL_LOG_FORMAT is neither `text` nor `json`: it is passed over");
    }
}

/// Whether nobody has set `NO_COLOR`.
fn has_colours() -> bool {
    env::var_os("NO_COLOR").is_none_or(|set| set.is_empty())
}

/// Says of which host records are from now on.
pub(super) fn of_host(host: String) {
    let _ = HOST.set(host);
}

/// Tells why a command ends. An agent's log of records has no lines of text among them.
pub(super) fn fail(screen: Screen, is_agent: bool, failure: &Failure) {
    if !is_agent || screen.json || RECORDS.get().is_none() {
        screen.fail(failure);
        return;
    }
    let (code, hint) = (failure.code, failure.hint.as_deref());
    tracing::error!(code, hint, "{}", failure.messages.join(": "));
}

/// Standard error, for events: lines within one are moved to the right, so that none passes for ours.
struct Told(std::io::Stderr);

impl std::io::Write for Told {
    fn write(&mut self, event: &[u8]) -> std::io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let ended = if text.ends_with('\n') { "\n" } else { "" };
        let text = seen(&under(text.strip_suffix('\n').unwrap_or(&text))) + ended;
        self.0.write_all(text.as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}
