use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::task::JoinHandle;

use super::screen::{self, Screen};
use crate::host::figures::{bytes, span};
use crate::host::{Meter, Reading};

/// Shows a [`Meter`] until dropped: a bar on a terminal, elsewhere one plain line a minute.
pub(super) struct Progress(Option<JoinHandle<()>>, Option<ProgressBar>);

/// How often a line is written where no terminal is.
const LINE_EVERY: Duration = Duration::from_secs(60);

impl Progress {
    /// Begins to show `meter`.
    #[must_use]
    pub(super) fn show(screen: Screen, meter: &Meter) -> Self {
        if screen.quiet {
            return Progress(None, None);
        }
        let meter = meter.clone();
        if screen.is_terminal() && !screen.json {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            let shown = bar.clone();
            return Progress(Some(tokio::spawn(draw(shown, meter))), Some(bar));
        }
        Progress(Some(tokio::spawn(lines(meter))), None)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
        if let Some(bar) = &self.1 {
            bar.finish_and_clear();
        }
    }
}

async fn draw(bar: ProgressBar, meter: Meter) {
    // A label that tells much leaves no room for a bar.
    const LONG: &str = "{msg}: {bytes} of ~{total_bytes}, {bytes_per_sec}, {eta} left";
    const KNOWN: &str = "{msg} [{wide_bar}] {bytes} of ~{total_bytes}, {bytes_per_sec}, {eta} left";
    const EARLY: &str = "{msg} [{wide_bar}] {bytes} of ~{total_bytes}, {bytes_per_sec}";
    const UNKNOWN: &str = "{msg} {spinner} {bytes}, {bytes_per_sec}";
    let style = |text| ProgressStyle::with_template(text).expect("a fixed template");
    let mut tick = tokio::time::interval(Duration::from_millis(200));
    let (mut shown, mut phase) = ("", 0);
    loop {
        tick.tick().await;
        let now = meter.read();
        if phase != now.phase {
            phase = now.phase;
            bar.reset();
        }
        // The estimate is of the server's files; the stream may well be longer.
        let fits = now.expected >= now.plain && now.expected > 0;
        let wanted = match fits {
            true if now.plain >= now.expected / 100 && now.label.chars().count() > 30 => LONG,
            true if now.plain >= now.expected / 100 => KNOWN,
            // The time left would be a guess from nothing.
            true => EARLY,
            false => UNKNOWN,
        };
        if shown != wanted {
            bar.set_style(style(wanted));
            shown = wanted;
        }
        if fits {
            bar.set_length(now.expected);
        }
        bar.set_position(now.plain);
        let label = screen::line(&now.label);
        bar.set_message(if label.is_empty() { "starting".to_owned() } else { label });
    }
}

async fn lines(meter: Meter) {
    lines_to(meter, LINE_EVERY, |line| {
        let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("{line}\n"));
    })
    .await;
}

/// Gives a line of progress every so often, for ever.
pub(super) async fn lines_to(meter: Meter, every: Duration, mut tell: impl FnMut(&str)) {
    let (mut began, mut phase) = (Instant::now(), 0);
    let mut tick = tokio::time::interval_at((began + every).into(), every);
    loop {
        tick.tick().await;
        let now = meter.read();
        if phase != now.phase {
            // It began somewhere in between: the rate of its first line is no better known.
            (began, phase) = (Instant::now().checked_sub(every).unwrap_or(began), now.phase);
        }
        tell(&line(&now, began.elapsed()));
    }
}

/// One line of progress.
fn line(now: &Reading, elapsed: Duration) -> String {
    let seconds = elapsed.as_secs_f64().max(0.001);
    #[expect(clippy::cast_precision_loss, reason = "shown only")]
    let rate = now.plain as f64 / seconds;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "shown only")]
    let mut text = format!(
        "{}: {} in {}, {}/s",
        screen::line(&now.label),
        bytes(now.plain),
        span(seconds),
        bytes(rate as u64)
    );
    // Log that is replayed is not stored anywhere.
    if now.sealed > 0 || now.phase == 0 {
        text.push_str(&format!(", {} stored", bytes(now.sealed)));
    }
    if now.expected > now.plain && rate > 0.0 {
        #[expect(clippy::cast_precision_loss, reason = "shown only")]
        let left = (now.expected - now.plain) as f64 / rate;
        text.push_str(&format!(", about {} left", span(left)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_rate_and_time_left_only_when_they_are_known() {
        let mib = 1 << 20;
        let now = Reading {
            label: "database shop".into(),
            plain: 60 * mib,
            sealed: mib,
            expected: 0,
            phase: 0,
        };
        let minute = Duration::from_secs(60);
        assert_eq!(
            line(&now, minute),
            "database shop: 60.0 MiB in 60 s, 1.0 MiB/s, 1.0 MiB stored"
        );
        let known = Reading { expected: 90 * mib, ..now };
        assert!(line(&known, minute).ends_with("stored, about 30 s left"));
        let replay = Reading { sealed: 0, phase: 2, ..known };
        assert!(line(&replay, minute).ends_with("1.0 MiB/s, about 30 s left"));
    }
}
