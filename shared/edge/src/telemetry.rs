//! Logs and metrics. A log line is JSON with a message and fields; a metric is a log line in CloudWatch's embedded metric
//! format.

use std::io::{self, Write};
use std::sync::OnceLock;

use serde_json::{Map, Value, json};
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use headrace_core::ports::Clock;
use headrace_core::vocab::clock::Millis;

use crate::config::LogSettings;
use crate::system::SystemClock;

/// A metric. The dashboard and the alarms of `template.yaml` use the same names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// The number of accepted exports.
    JobsAccepted,
    /// The number of completed exports.
    JobsCompleted,
    /// The number of failed exports.
    JobsFailed,
    /// The number of cancelled exports.
    JobsCancelled,
    /// The number of completed tasks.
    TasksCompleted,
    /// The number of tasks parked after their last attempt.
    TasksParked,
    /// The number of exported resources.
    ResourcesExported,
    /// The bytes read from the lake.
    SourceBytesRead,
    /// The number of lines that are not valid resources.
    LinesRejected,
    /// The age, in seconds, of the oldest audit record that is not sealed.
    AuditBacklogAgeSeconds,
    /// The age, in seconds, of the lake's watermark.
    LakeWatermarkAgeSeconds,
    /// The number of due times of schedules that started no export.
    ScheduledRunsFailed,
    /// The number of synchronizations that have moved the watermark of the lake.
    SyncsCompleted,
    /// The number of synchronizations that could not fetch everything, so that the lake is as before.
    SyncsIncomplete,
    /// The number of delivered events.
    EventsDelivered,
    /// The number of deliveries of an event to a target that have failed, and are repeated.
    EventDeliveriesFailed,
    /// The number of events that could not be delivered within a day.
    EventsUndelivered,
    /// The costs of completed tasks by list prices, in millionths of a USD.
    ListPriceMicroUsd,
    /// The capacity of the job table that completed tasks have consumed, in units.
    TableUnits,
    /// The number of requests for objects that completed tasks have made.
    ObjectRequests,
}

impl Metric {
    /// The list of all metrics.
    pub const ALL: [Self; 20] = [
        Self::JobsAccepted,
        Self::JobsCompleted,
        Self::JobsFailed,
        Self::JobsCancelled,
        Self::TasksCompleted,
        Self::TasksParked,
        Self::ResourcesExported,
        Self::SourceBytesRead,
        Self::LinesRejected,
        Self::AuditBacklogAgeSeconds,
        Self::LakeWatermarkAgeSeconds,
        Self::ScheduledRunsFailed,
        Self::SyncsCompleted,
        Self::SyncsIncomplete,
        Self::EventsDelivered,
        Self::EventDeliveriesFailed,
        Self::EventsUndelivered,
        Self::ListPriceMicroUsd,
        Self::TableUnits,
        Self::ObjectRequests,
    ];

    /// Returns the name of the metric in CloudWatch.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::JobsAccepted => "JobsAccepted",
            Self::JobsCompleted => "JobsCompleted",
            Self::JobsFailed => "JobsFailed",
            Self::JobsCancelled => "JobsCancelled",
            Self::TasksCompleted => "TasksCompleted",
            Self::TasksParked => "TasksParked",
            Self::ResourcesExported => "ResourcesExported",
            Self::SourceBytesRead => "SourceBytesRead",
            Self::LinesRejected => "LinesRejected",
            Self::AuditBacklogAgeSeconds => "AuditBacklogAgeSeconds",
            Self::LakeWatermarkAgeSeconds => "LakeWatermarkAgeSeconds",
            Self::ScheduledRunsFailed => "ScheduledRunsFailed",
            Self::SyncsCompleted => "SyncsCompleted",
            Self::SyncsIncomplete => "SyncsIncomplete",
            Self::EventsDelivered => "EventsDelivered",
            Self::EventDeliveriesFailed => "EventDeliveriesFailed",
            Self::EventsUndelivered => "EventsUndelivered",
            Self::ListPriceMicroUsd => "ListPriceMicroUsd",
            Self::TableUnits => "TableUnits",
            Self::ObjectRequests => "ObjectRequests",
        }
    }

    /// Returns the CloudWatch unit of the metric.
    fn unit(self) -> &'static str {
        match self {
            Self::SourceBytesRead => "Bytes",
            Self::AuditBacklogAgeSeconds | Self::LakeWatermarkAgeSeconds => "Seconds",
            Self::JobsAccepted
            | Self::JobsCompleted
            | Self::JobsFailed
            | Self::JobsCancelled
            | Self::TasksCompleted
            | Self::TasksParked
            | Self::ResourcesExported
            | Self::LinesRejected
            | Self::ScheduledRunsFailed
            | Self::SyncsCompleted
            | Self::SyncsIncomplete
            | Self::EventsDelivered
            | Self::EventDeliveriesFailed
            | Self::EventsUndelivered
            | Self::TableUnits
            | Self::ObjectRequests => "Count",
            Self::ListPriceMicroUsd => "None",
        }
    }
}

/// The name of the function that writes metrics. Unset on a local server, which writes none.
static FUNCTION: OnceLock<String> = OnceLock::new();

/// The log targets of Headrace: its crates and the audit records. A bare log level applies to them only, because the debug
/// output of the AWS SDK would bury them.
pub const OWN_TARGETS: [&str; 15] = [
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
    "sync_worker",
    "token",
    headrace_core::audit::LOG_TARGET,
];

/// Parses a log filter: a level for Headrace's own events, or `target=level` pairs separated by commas. Otherwise uses the
/// fallback level.
pub fn parse_log_filter(log: &str, fallback: LevelFilter) -> Targets {
    let own = |level: LevelFilter| Targets::new().with_default(LevelFilter::WARN).with_targets(OWN_TARGETS.map(|target| (target, level)));
    match log.parse::<LevelFilter>() {
        _ if log.is_empty() => own(fallback),
        Ok(level) => own(level),
        Err(_) => log.parse().unwrap_or_else(|_| own(fallback)),
    }
}

/// Starts logging in JSON for this function. Call it once.
pub fn init(function: &'static str, logging: &impl AsRef<LogSettings>) {
    let logging = logging.as_ref();
    let lines = tracing_subscriber::fmt::layer().json().flatten_event(true).with_current_span(false);
    // `Targets` instead of `EnvFilter`, which would add a regular expression engine to every function.
    let lines = lines.with_filter(parse_log_filter(&logging.log, LevelFilter::INFO));
    // The default hook prints the message of a panic, which may contain a part of a resource.
    std::panic::set_hook(Box::new(|panic| {
        tracing::error!(location = panic.location().map(tracing::field::display), "the process panicked")
    }));
    if tracing_subscriber::registry().with(lines).try_init().is_ok() {
        // The name in AWS tells two deployments in one account apart.
        FUNCTION.get_or_init(|| logging.function.clone().unwrap_or_else(|| function.to_owned()));
    }
    tracing::info!(function, version = env!("CARGO_PKG_VERSION"), bulk_data = headrace_fhir::IG_VERSION, "started");
}

/// Writes metrics as one line in CloudWatch's embedded metric format.
pub fn record_metrics(metrics: &[(Metric, u64)]) {
    if let Some(function) = FUNCTION.get() {
        let line = embedded_metrics(function, SystemClock.now(), metrics);
        if writeln!(io::stdout().lock(), "{line}").is_err() {
            tracing::warn!("metrics could not be written to standard output");
        }
    }
}

/// Creates the log line of metrics in the CloudWatch embedded metric format.
fn embedded_metrics(function: &str, now: Millis, values: &[(Metric, u64)]) -> Value {
    let metrics: Vec<Value> = values.iter().map(|(metric, _)| json!({ "Name": metric.as_str(), "Unit": metric.unit() })).collect();
    let directive = json!({ "Namespace": "Headrace", "Dimensions": [["function"]], "Metrics": metrics });
    let mut line = Map::new();
    line.insert("_aws".to_owned(), json!({ "Timestamp": now.0, "CloudWatchMetrics": [directive] }));
    line.insert("function".to_owned(), function.into());
    line.extend(values.iter().map(|(metric, value)| (metric.as_str().to_owned(), (*value).into())));
    Value::Object(line)
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn a_bare_level_applies_to_own_events_only() {
        let filtered = parse_log_filter("debug", LevelFilter::INFO);
        assert!(filtered.would_enable("headrace_core::flow", &Level::DEBUG) && filtered.would_enable("chunk_worker", &Level::DEBUG));
        assert!(!filtered.would_enable("hyper", &Level::INFO) && filtered.would_enable("hyper", &Level::WARN));
        assert_eq!(parse_log_filter("", LevelFilter::INFO), parse_log_filter("info", LevelFilter::ERROR));
        assert_eq!(parse_log_filter("?=!", LevelFilter::INFO), parse_log_filter("info", LevelFilter::ERROR));
        assert!(parse_log_filter("hyper=trace", LevelFilter::INFO).would_enable("hyper", &Level::TRACE));
    }

    #[test]
    fn metrics_are_written_in_the_embedded_metric_format() {
        let line =
            embedded_metrics("chunk-worker", Millis(1_769_846_400_000), &[(Metric::ResourcesExported, 7), (Metric::SourceBytesRead, 9)]);
        let expected = json!({
            "_aws": {
                "Timestamp": 1_769_846_400_000_u64,
                "CloudWatchMetrics": [{
                    "Namespace": "Headrace",
                    "Dimensions": [["function"]],
                    "Metrics": [{ "Name": "ResourcesExported", "Unit": "Count" }, { "Name": "SourceBytesRead", "Unit": "Bytes" }],
                }],
            },
            "function": "chunk-worker",
            "ResourcesExported": 7,
            "SourceBytesRead": 9,
        });
        assert_eq!(line, expected);
    }
}
