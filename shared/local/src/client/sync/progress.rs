//! The progress of a synchronization on standard error: a line that changes on a terminal, otherwise a line every few seconds.

use std::io::{self, IsTerminal as _};
use std::time::{Duration, Instant};

use headrace_core::flow::client::status;
use headrace_core::job::Job;
use headrace_core::vocab::clock::Millis;
use indicatif::{DecimalBytes, HumanCount, ProgressBar, ProgressStyle};

use crate::client::error::human_duration;
use crate::client::progress::print_line;

/// Time between two lines without a terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// The progress of a synchronization.
pub(super) struct SyncProgress {
    bar: Option<ProgressBar>,
    is_quiet: bool,
    started: Instant,
    /// The number of resources that were fetched before this process.
    fetched_before: Option<u64>,
    printed_at: Instant,
}

impl SyncProgress {
    /// Starts the progress.
    pub(super) fn new(is_quiet: bool) -> Self {
        let bar = (!is_quiet && io::stderr().is_terminal()).then(ProgressBar::new_spinner);
        if let (Some(bar), Ok(style)) = (&bar, ProgressStyle::with_template("{spinner} {msg} [{elapsed}]")) {
            bar.set_style(style);
            bar.enable_steady_tick(Duration::from_secs(1));
        }
        Self { bar, is_quiet, started: Instant::now(), fetched_before: None, printed_at: Instant::now() }
    }

    /// Shows the state of the job. `busy_until` is the end of a pause that the server demands.
    pub(super) fn update(&mut self, job: &Job, (requests, bytes): (u64, u64), busy_until: Option<Millis>) {
        let fetched = job.counters.source_bytes;
        let before = *self.fetched_before.get_or_insert(fetched);
        let pause = busy_until.map(|until| format!("; the server is busy, next request at {}", until.instant())).unwrap_or_default();
        let text = format!(
            "{}{}; {} requests, {}{pause}",
            status::progress(job),
            self.rate(job, fetched.saturating_sub(before)),
            HumanCount(requests),
            DecimalBytes(bytes)
        );
        match &self.bar {
            Some(bar) => bar.set_message(text),
            None if !self.is_quiet && self.printed_at.elapsed() >= LINE_INTERVAL => {
                print_line(&text);
                self.printed_at = Instant::now();
            }
            None => {}
        }
    }

    /// Describes the rate, and the time that is left at this rate.
    fn rate(&self, job: &Job, fetched: u64) -> String {
        let (seconds, total) = (self.started.elapsed().as_secs(), job.planned.map_or(0, |planned| planned.source_bytes));
        let per_second = fetched.checked_div(seconds).unwrap_or_default();
        let left = total.saturating_sub(job.counters.source_bytes).checked_div(per_second);
        match left {
            Some(left) if left > 0 => {
                format!(", {} resources/s, {} left", HumanCount(per_second), human_duration(Duration::from_secs(left)))
            }
            Some(_) | None => String::new(),
        }
    }

    /// Removes the line.
    pub(super) fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}
