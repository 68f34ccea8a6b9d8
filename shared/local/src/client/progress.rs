//! The progress of an export on standard error: a bar on a terminal, otherwise plain lines.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use headrace_core::vocab::plural::counted;
use indicatif::{ProgressBar, ProgressStyle};

use crate::client::bulk::{Manifest, Waiting};
use crate::client::error::human_duration;
use crate::terminal::{error_chain, printable_lines};

/// Minimum time between two progress lines.
const LINE_INTERVAL: Duration = Duration::from_secs(1);

/// The shortest pause whose end is shown.
const SHOWN_PAUSE: Duration = Duration::from_secs(5);

/// The progress of the export on the server.
pub(crate) enum Progress {
    Bar(ProgressBar),
    /// With `--quiet`.
    Hidden,
    Lines {
        last_text: String,
        printed_at: Instant,
    },
}

impl Progress {
    /// Starts a bar or lines, depending on standard error, or nothing with `--quiet`.
    pub(crate) fn new(is_quiet: bool) -> Self {
        if is_quiet {
            return Self::Hidden;
        }
        if !io::stderr().is_terminal() {
            return Self::Lines { last_text: String::new(), printed_at: Instant::now() };
        }
        let bar = ProgressBar::new(100);
        if let Ok(style) = ProgressStyle::with_template("{bar:40} {msg} [{elapsed}]") {
            bar.set_style(style);
        }
        // The time goes on during a long pause.
        bar.enable_steady_tick(LINE_INTERVAL);
        Self::Bar(bar)
    }

    /// Shows what the server said, and when it is asked again.
    pub(crate) fn update(&mut self, waiting: &Waiting<'_>) {
        let text = describe(waiting);
        match self {
            Self::Bar(bar) => {
                if let Some(progress) = waiting.progress {
                    bar.set_position(percent(progress));
                }
                bar.set_message(text);
            }
            Self::Hidden => {}
            Self::Lines { last_text, printed_at } => {
                let is_due = printed_at.elapsed() >= LINE_INTERVAL || waiting.delay >= SHOWN_PAUSE;
                if *last_text != text && !text.is_empty() && is_due {
                    print_line(&text);
                    *last_text = text;
                    *printed_at = Instant::now();
                }
            }
        }
    }

    /// Removes the bar.
    pub(crate) fn finish(self) {
        match self {
            Self::Bar(bar) => bar.finish_and_clear(),
            Self::Hidden | Self::Lines { .. } => {}
        }
    }
}

/// Describes a pause in one line.
pub(crate) fn describe(waiting: &Waiting<'_>) -> String {
    let failure = waiting.failure.map(|failure| error_chain(failure));
    let mut parts: Vec<String> = waiting.progress.map(str::to_owned).into_iter().chain(failure).collect();
    if waiting.delay >= SHOWN_PAUSE || waiting.failure.is_some() {
        parts.push(format!("next status request at {} (in {})", waiting.until.instant(), human_duration(waiting.delay)));
    }
    parts.join("; ")
}

/// Returns the percentage in a progress text such as `45% complete` or `45 % done`.
pub(crate) fn percent(text: &str) -> u64 {
    let number = text
        .split_once('%')
        .and_then(|(before, _)| before.trim_end().rsplit(|letter: char| !letter.is_ascii_digit() && letter != '.').next());
    let whole = number.and_then(|number| number.split('.').next());
    whole.and_then(|number| number.parse().ok()).unwrap_or_default()
}

/// The progress of the downloads: a byte counter on a terminal, otherwise nothing.
pub(crate) struct DownloadProgress(Option<ProgressBar>);

impl DownloadProgress {
    /// Starts the counter if standard error is a terminal, and not with `--quiet`.
    pub(crate) fn new(manifest: &Manifest, is_quiet: bool) -> Self {
        if is_quiet || !io::stderr().is_terminal() {
            return Self(None);
        }
        let bar = ProgressBar::no_length();
        if let Ok(style) = ProgressStyle::with_template("downloading {msg}: {decimal_bytes} [{decimal_bytes_per_sec}]") {
            bar.set_style(style);
        }
        bar.set_message(counted(manifest.files() as u64, "file", "files"));
        Self(Some(bar))
    }

    /// Adds downloaded bytes.
    pub(crate) fn add(&self, bytes: u64) {
        if let Some(bar) = &self.0 {
            bar.inc(bytes);
        }
    }

    /// Removes the counter.
    pub(crate) fn finish(self) {
        if let Some(bar) = self.0 {
            bar.finish_and_clear();
        }
    }
}

/// Prints a line to standard error.
pub(crate) fn print_line(text: &str) {
    drop(writeln!(io::stderr(), "{}", printable_lines(text)));
}

#[cfg(test)]
mod tests {
    use headrace_core::vocab::clock::Millis;

    use super::*;

    #[test]
    fn a_long_pause_is_shown_with_its_end() {
        let waiting = |progress, seconds| Waiting {
            progress,
            failure: None,
            delay: Duration::from_secs(seconds),
            until: Millis(1_769_846_400_000 + seconds * 1000),
        };
        assert_eq!(describe(&waiting(Some("45 % done"), 7200)), "45 % done; next status request at 2026-01-31T10:00:00.000Z (in 2 h)");
        assert_eq!(describe(&waiting(Some("45 % done"), 1)), "45 % done");
        assert_eq!(describe(&waiting(None, 1)), "");
        assert_eq!(describe(&waiting(None, 5)), "next status request at 2026-01-31T08:00:05.000Z (in 5 s)");
    }

    #[test]
    fn the_percentage_of_any_servers_progress_is_shown() {
        for (text, expected) in [
            ("45 % done", 45),
            ("45% complete", 45),
            ("in progress: 45.7%", 45),
            ("Build in progress", 0),
            ("%", 0),
            ("100%", 100),
            ("", 0),
        ] {
            assert_eq!(percent(text), expected, "{text}");
        }
    }
}
