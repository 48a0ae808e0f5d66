use std::io::IsTerminal as _;

use drctl_model::seen;

use super::screen::under;

/// What the libraries and drctl itself have to tell, on standard error; `DRCTL_LOG` sets how much.
pub(super) fn begin(quiet: bool, agent: bool) {
    let usual = match (quiet, agent) {
        (true, _) => "error",
        // Of a run that went well there is a line; what its scheduler's library does is nobody's business.
        (false, true) => "info,tokio_cron_scheduler=warn",
        (false, false) => "warn",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("DRCTL_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(usual));
    let told = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| Told(std::io::stderr()))
        // A terminal that went away is no reason to panic.
        .log_internal_errors(false)
        .with_target(false)
        .without_time();
    // A terminal has colours, unless NO_COLOR is set; nothing else has any.
    let _ = match std::io::stderr().is_terminal() {
        true => told.try_init(),
        false => told.with_ansi(false).try_init(),
    };
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
