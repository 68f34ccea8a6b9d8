//! The progress of a long operation on standard error: a bar on a terminal, otherwise plain lines.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use headrace_lake::progress::Progress;
use indicatif::{DecimalBytes, ProgressBar, ProgressStyle};

/// The time between two updates of a bar.
const BAR_INTERVAL: Duration = Duration::from_millis(200);

/// The time between two lines.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// A thread that shows the progress until it is dropped.
pub(super) struct ProgressDisplay {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl ProgressDisplay {
    /// Starts the display, or nothing with `--quiet`.
    ///
    /// * `action`: what happens to the bytes, such as `reading`.
    pub(super) fn start(action: &'static str, progress: &Arc<Progress>, is_quiet: bool) -> Self {
        if is_quiet {
            return Self { stop: None, thread: None };
        }
        let (stop, stopped) = mpsc::channel();
        let progress = progress.clone();
        let thread = std::thread::spawn(move || {
            let bar = io::stderr().is_terminal().then(|| start_bar(action));
            let interval = if bar.is_some() { BAR_INTERVAL } else { LINE_INTERVAL };
            while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                let (done, total) = progress.bytes();
                // The size is not known before the listing.
                if total == 0 {
                    continue;
                }
                match &bar {
                    Some(bar) => {
                        bar.set_length(total);
                        bar.set_position(done);
                    }
                    None => drop(writeln!(io::stderr(), "{action} {} of {}", DecimalBytes(done), DecimalBytes(total))),
                }
            }
            if let Some(bar) = bar {
                bar.finish_and_clear();
            }
        });
        Self { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for ProgressDisplay {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// Starts a bar.
fn start_bar(action: &'static str) -> ProgressBar {
    let bar = ProgressBar::new(0);
    if let Ok(style) =
        ProgressStyle::with_template("{msg} {bar:40} {decimal_bytes} of {decimal_total_bytes} [{decimal_bytes_per_sec}, {elapsed}]")
    {
        bar.set_style(style);
    }
    bar.set_message(action);
    bar
}
