//! Watches the watermark of the lake, so that operators learn when the ingestion pipeline has stopped.

use std::time::Duration;

use headrace_core::flow::export_time::read_watermark;
use headrace_core::job::Watermark;
use headrace_core::ports::{Clock, ResourceSource};
use headrace_edge::config::WatermarkLimit;
use headrace_edge::telemetry::{Metric, record_metrics};

/// The monitor of the age of the lake's watermark. It lives as long as the process and reads nothing else of the lake.
pub struct WatermarkMonitor<S, C> {
    source: S,
    clock: C,
    limit: Option<WatermarkLimit>,
}

impl<S: ResourceSource, C: Clock> WatermarkMonitor<S, C> {
    /// Creates the monitor. `limit` is the largest age; without it, nothing is watched.
    pub fn new(source: S, clock: C, limit: Option<WatermarkLimit>) -> Self {
        Self { source, clock, limit }
    }

    /// Records the age of the watermark as a metric and returns it. Returns `None` if nothing is watched or the watermark cannot be read:
    /// the alarm treats missing values like an old watermark.
    pub async fn record_age(&self) -> Option<Duration> {
        let WatermarkLimit { setting, max_age } = self.limit?;
        let now = self.clock.now();
        let age = match read_watermark(&self.source, setting, now).await {
            Ok(Watermark::Object(complete_up_to)) => now.since(complete_up_to),
            Ok(Watermark::Now | Watermark::Lag(_) | Watermark::Arrival) => Duration::ZERO,
            Ok(Watermark::Unstated) => {
                tracing::warn!("the watermark of the lake is watched, but there is none");
                return None;
            }
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "the watermark of the lake cannot be read");
                return None;
            }
        };
        if age > max_age {
            tracing::warn!(age_seconds = age.as_secs(), "the watermark of the lake is too old: the ingestion pipeline may have stopped");
        }
        record_metrics(&[(Metric::LakeWatermarkAgeSeconds, age.as_secs())]);
        Some(age)
    }
}
