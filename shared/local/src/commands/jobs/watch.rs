//! `headrace jobs watch`: follows exports until they end.

use std::io::{self, IsTerminal as _};
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};
use headrace_core::vocab::plural::counted;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use reqwest::Url;
use serde_json::json;

use super::pace::Pace;
use super::{JobsCommandError, JobsStatus, Server, print_json};
use crate::cli::WatchJobsArgs;
use crate::client::bulk::{ClientError, Manifest, Waiting};
use crate::client::progress::{describe, print_line};
use crate::terminal::{error_chain, print_result, printable};

/// Largest number of exports that are followed at the same time.
const FOLLOWED_AT_ONCE: usize = 64;

/// Minimum time between two lines about one export.
const LINE_INTERVAL: Duration = Duration::from_secs(1);

/// Runs `headrace jobs watch`.
pub(super) async fn watch_jobs(args: &WatchJobsArgs) -> Result<JobsStatus, JobsCommandError> {
    let server = Server::new(&args.server)?;
    let urls = if args.exports.is_empty() { open_exports(&server).await? } else { server.resolve(&args.exports).await? };
    if urls.is_empty() {
        print_line("no export is queued or running");
    }
    let bars = (!args.json && io::stderr().is_terminal()).then(MultiProgress::new);
    let follow = |url: Url| {
        let display = Display::new(&url, bars.as_ref(), args.json);
        let server = &server;
        async move { follow_export(server, &url, display).await }
    };
    let mut ends = stream::iter(urls.into_iter().map(follow).collect::<Vec<_>>()).buffer_unordered(FOLLOWED_AT_ONCE);
    let mut status = JobsStatus::Done;
    while let Some(is_complete) = ends.next().await {
        if !is_complete? {
            status = JobsStatus::SomeFailed;
        }
    }
    Ok(status)
}

/// Returns the status URLs of all exports that have not ended.
async fn open_exports(server: &Server) -> Result<Vec<Url>, JobsCommandError> {
    let mut ids = Vec::new();
    server
        .list(|export| {
            ids.extend(export.state.is_open().then_some(export.id));
            true
        })
        .await?;
    Ok(ids.iter().map(|id| crate::client::exports::status_url(&server.base, id)).collect::<Result<_, _>>()?)
}

/// Follows one export to its end. Returns true if it is complete.
async fn follow_export(server: &Server, url: &Url, mut display: Display) -> Result<bool, JobsCommandError> {
    let result = server.client.wait_for_manifest(url, |waiting| display.update(&waiting)).await;
    display.finish(&result)?;
    Ok(result.is_ok())
}

/// Output about one export.
struct Display {
    id: String,
    pace: Pace,
    style: DisplayStyle,
}

/// Form of the output.
enum DisplayStyle {
    /// A bar on a terminal.
    Bar(MultiProgress, ProgressBar),
    /// Lines on standard error.
    Lines { last_text: String, printed_at: Option<Instant> },
    /// JSON on standard output.
    Json { last_text: String },
}

impl Display {
    /// Starts the output about the export with this status URL.
    fn new(url: &Url, bars: Option<&MultiProgress>, is_json: bool) -> Self {
        let id = url.path_segments().and_then(|mut segments| segments.next_back().map(str::to_owned)).unwrap_or_default();
        let style = match bars {
            _ if is_json => DisplayStyle::Json { last_text: String::new() },
            None => DisplayStyle::Lines { last_text: String::new(), printed_at: None },
            Some(bars) => {
                let bar = bars.add(ProgressBar::new(100));
                if let Ok(style) = ProgressStyle::with_template("{prefix} {bar:20} {wide_msg}") {
                    bar.set_style(style);
                }
                bar.set_prefix(printable(&id).chars().take(12).collect::<String>());
                DisplayStyle::Bar(bars.clone(), bar)
            }
        };
        Self { id, pace: Pace::default(), style }
    }

    /// Shows what the server said.
    fn update(&mut self, waiting: &Waiting<'_>) {
        if let Some(progress) = waiting.progress {
            self.pace.observe(progress, Instant::now());
        }
        let (text, pace) = (describe(waiting), self.pace.describe());
        match &mut self.style {
            DisplayStyle::Bar(_, bar) => {
                bar.set_position(self.pace.percent());
                // The end of a line that is too long is cut off, so the time left comes first.
                bar.set_message(pace.into_iter().chain([text]).collect::<Vec<_>>().join("; "));
            }
            DisplayStyle::Lines { last_text, printed_at } => {
                let is_due = printed_at.is_none_or(|at| at.elapsed() >= LINE_INTERVAL);
                if *last_text != text && is_due {
                    print_line(&format!("{} {}", self.id, [text.clone()].into_iter().chain(pace).collect::<Vec<_>>().join("; ")));
                    (*last_text, *printed_at) = (text, Some(Instant::now()));
                }
            }
            DisplayStyle::Json { last_text } => {
                if *last_text != text {
                    let value = json!({ "id": self.id, "state": "running", "percent": self.pace.percent(), "progress": waiting.progress });
                    drop(print_json(&value));
                    *last_text = text;
                }
            }
        }
    }

    /// Prints the end of the export.
    fn finish(self, result: &Result<Manifest, ClientError>) -> Result<(), JobsCommandError> {
        let text = match result {
            Ok(manifest) => describe_manifest(manifest),
            Err(error) => error_chain(error),
        };
        let line = format!("{} {text}\n", self.id);
        match self.style {
            DisplayStyle::Bar(bars, bar) => {
                bar.finish_and_clear();
                bars.suspend(|| print_result(&line));
            }
            DisplayStyle::Lines { .. } => print_result(&line),
            DisplayStyle::Json { .. } => {
                let state = if result.is_ok() { "complete" } else { "failed" };
                print_json(&json!({ "id": self.id, "state": state, "text": text }))?;
            }
        }
        Ok(())
    }
}

/// Describes a complete export in one line.
fn describe_manifest(manifest: &Manifest) -> String {
    // The counts are the server's own, and their sum may be beyond every number.
    let resources = manifest.output.iter().filter_map(|file| file.count).fold(0, u64::saturating_add);
    let files = counted(manifest.output.len() as u64, "file", "files");
    let errors = match manifest.error.len() as u64 {
        0 => String::new(),
        count => format!("; {} to read", counted(count, "error file", "error files")),
    };
    format!("complete: {} in {files}{errors}", counted(resources, "resource", "resources"))
}
