//! Logs and metrics. A log line is a readable sentence with fields; a metric is a line in CloudWatch's embedded format.

use std::io::{self, Write};
use std::sync::OnceLock;

use serde_json::{Map, Value, json};
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use headrace_core::ports::Clock;
use headrace_core::vocab::clock::Millis;

use crate::config::Logging;
use crate::system::SystemClock;

/// What is counted. The names stand in the dashboard and the alarms of `template.yaml`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Exports recorded.
    JobsAccepted,
    /// Exports finished.
    JobsCompleted,
    /// Exports given up.
    JobsFailed,
    /// Exports taken back.
    JobsCancelled,
    /// Tasks closed.
    TasksClosed,
    /// Tasks whose attempts were used up.
    TasksParked,
    /// Resources selected.
    Resources,
    /// Bytes of the lake read.
    Bytes,
    /// Lines that were no resources.
    LinesRefused,
    /// How old the oldest record for auditors is that is not sealed.
    AuditUnsealed,
}

impl Metric {
    /// Every metric.
    pub const ALL: [Self; 10] = [
        Self::JobsAccepted,
        Self::JobsCompleted,
        Self::JobsFailed,
        Self::JobsCancelled,
        Self::TasksClosed,
        Self::TasksParked,
        Self::Resources,
        Self::Bytes,
        Self::LinesRefused,
        Self::AuditUnsealed,
    ];

    /// Its name in CloudWatch.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::JobsAccepted => "JobsAccepted",
            Self::JobsCompleted => "JobsCompleted",
            Self::JobsFailed => "JobsFailed",
            Self::JobsCancelled => "JobsCancelled",
            Self::TasksClosed => "TasksClosed",
            Self::TasksParked => "TasksParked",
            Self::Resources => "Resources",
            Self::Bytes => "Bytes",
            Self::LinesRefused => "LinesRefused",
            Self::AuditUnsealed => "AuditUnsealed",
        }
    }

    fn unit(self) -> &'static str {
        match self {
            Self::Bytes => "Bytes",
            Self::AuditUnsealed => "Seconds",
            Self::JobsAccepted
            | Self::JobsCompleted
            | Self::JobsFailed
            | Self::JobsCancelled
            | Self::TasksClosed
            | Self::TasksParked
            | Self::Resources
            | Self::LinesRefused => "Count",
        }
    }
}

/// The function whose metrics are written; unset on one machine, where nobody reads them.
static FUNCTION: OnceLock<String> = OnceLock::new();

/// The log targets of our own: our crates, and the records for auditors. A bare level is meant for them: the SDK's own debugging
/// output is noise to an operator.
pub const OURS: [&str; 14] = [
    "headrace_core",
    "headrace_aws",
    "headrace_edge",
    "headrace_local",
    "kickoff",
    "status",
    "cancel",
    "chunk_worker",
    "files",
    "groups",
    "metadata",
    "reaper",
    "token",
    headrace_core::audit::LOG_TARGET,
];

/// Reads `HEADRACE_LOG`: a level for our own events, or `target=level` pairs separated by commas; `fallback` if it is neither.
pub fn filter(log: &str, fallback: LevelFilter) -> Targets {
    let ours = |level: LevelFilter| Targets::new().with_default(LevelFilter::WARN).with_targets(OURS.map(|target| (target, level)));
    match log.parse::<LevelFilter>() {
        _ if log.is_empty() => ours(fallback),
        Ok(level) => ours(level),
        Err(_) => log.parse().unwrap_or_else(|_| ours(fallback)),
    }
}

/// Begins logging in JSON for this function, and says who it is.
pub fn start(function: &'static str, logging: &impl AsRef<Logging>) {
    let logging = logging.as_ref();
    let lines = tracing_subscriber::fmt::layer().json().flatten_event(true).with_current_span(false);
    // `Targets` and not `EnvFilter`: that brings a regular expression engine into every function.
    let lines = lines.with_filter(filter(&logging.log, LevelFilter::INFO));
    if tracing_subscriber::registry().with(lines).try_init().is_ok() {
        // Two deployments in one account have functions of different names.
        FUNCTION.get_or_init(|| logging.function.clone().unwrap_or_else(|| function.to_owned()));
    }
    tracing::info!(function, version = env!("CARGO_PKG_VERSION"), bulk_data = headrace_fhir::IG_VERSION, "started");
}

/// Counts, as one line of CloudWatch's embedded metric format.
pub fn count(counts: &[(Metric, u64)]) {
    if let Some(function) = FUNCTION.get() {
        let line = embedded(function, SystemClock.now(), counts);
        if writeln!(io::stdout().lock(), "{line}").is_err() {
            tracing::warn!("metrics were not written");
        }
    }
}

fn embedded(function: &str, now: Millis, counts: &[(Metric, u64)]) -> Value {
    let metrics: Vec<Value> = counts.iter().map(|(metric, _)| json!({ "Name": metric.as_str(), "Unit": metric.unit() })).collect();
    let directive = json!({ "Namespace": "Headrace", "Dimensions": [["function"]], "Metrics": metrics });
    let mut line = Map::new();
    line.insert("_aws".to_owned(), json!({ "Timestamp": now.0, "CloudWatchMetrics": [directive] }));
    line.insert("function".to_owned(), function.into());
    line.extend(counts.iter().map(|(metric, count)| (metric.as_str().to_owned(), (*count).into())));
    Value::Object(line)
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn a_bare_level_is_meant_for_our_own_events() {
        let filtered = filter("debug", LevelFilter::INFO);
        assert!(filtered.would_enable("headrace_core::flow", &Level::DEBUG) && filtered.would_enable("chunk_worker", &Level::DEBUG));
        assert!(!filtered.would_enable("hyper", &Level::INFO) && filtered.would_enable("hyper", &Level::WARN));
        assert_eq!(filter("", LevelFilter::INFO), filter("info", LevelFilter::ERROR));
        assert_eq!(filter("?=!", LevelFilter::INFO), filter("info", LevelFilter::ERROR));
        assert!(filter("hyper=trace", LevelFilter::INFO).would_enable("hyper", &Level::TRACE));
    }

    #[test]
    fn a_metric_line_is_what_cloudwatch_reads() {
        let line = embedded("chunk-worker", Millis(1_769_846_400_000), &[(Metric::Resources, 7), (Metric::Bytes, 9)]);
        let expected = json!({
            "_aws": {
                "Timestamp": 1_769_846_400_000_u64,
                "CloudWatchMetrics": [{
                    "Namespace": "Headrace",
                    "Dimensions": [["function"]],
                    "Metrics": [{ "Name": "Resources", "Unit": "Count" }, { "Name": "Bytes", "Unit": "Bytes" }],
                }],
            },
            "function": "chunk-worker",
            "Resources": 7,
            "Bytes": 9,
        });
        assert_eq!(line, expected);
    }
}
