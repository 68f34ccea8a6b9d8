//! The deployment: what all processes share.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use headrace_core::flow::work::settings::WorkerSettings;
use headrace_core::job::JobSettings;
use headrace_core::vocab::lake_settings::{LakeSettings, LakeVersions};

use crate::aws::requests::Prefix;
use crate::lake::Lake;
use crate::meter::Meter;
use crate::output::Destination;
use crate::parameters::{AwsParameters, Mode, Scenario};
use crate::scale::{LINE_BYTES, Scale};
use crate::table::TableServer;
use crate::time::VirtualTime;

/// The name of the job table.
pub const TABLE: &str = "headrace";

/// The time for which a partition can save up capacity, with bursts.
const BURST: Duration = Duration::from_secs(300);

/// The stores, parameters and clock that all processes share.
pub struct Deployment {
    /// The clock.
    pub time: VirtualTime,
    /// The measurements.
    pub meter: Meter,
    /// The scenario.
    pub scenario: Scenario,
    /// The behaviour of AWS.
    pub aws: AwsParameters,
    /// The scale of the model.
    pub scale: Scale,
    /// The job table.
    pub table: TableServer,
    /// The lake.
    pub lake: Arc<Lake>,
    /// The requests to the lake's bucket.
    pub lake_prefix: Prefix,
    /// The destination.
    pub destination: Destination,
    /// The requests to the destination's bucket.
    pub output_prefix: Prefix,
}

impl Deployment {
    /// Creates a deployment with a lake.
    pub fn new(scenario: &Scenario, aws: &AwsParameters) -> io::Result<Self> {
        let (time, meter, scale) = (VirtualTime::default(), Meter::default(), Scale::new(scenario));
        let mut aws = aws.clone();
        if scenario.burst {
            aws.table.burst = BURST;
        }
        Ok(Self {
            table: TableServer::new(time.clone(), meter.clone(), aws.table.clone()),
            lake: Lake::new(scenario, scale)?,
            lake_prefix: Prefix::new(&aws.bucket),
            destination: Destination::default(),
            output_prefix: Prefix::new(&aws.bucket),
            scenario: scenario.clone(),
            time,
            meter,
            aws,
            scale,
        })
    }

    /// Returns the default settings of workers, with sizes that fit the scale.
    pub fn worker_settings(&self) -> WorkerSettings {
        let defaults = WorkerSettings::default();
        // Longer than any export.
        let never = Duration::from_secs(10 * 365 * 86_400);
        let mut patient_resolution = defaults.patient_resolution;
        patient_resolution.untyped_bytes = self.scale.shrink(patient_resolution.untyped_bytes);
        WorkerSettings {
            min_slice_bytes: self.scale.shrink(defaults.min_slice_bytes),
            // A simulated file has fewer lines than a real one, so that its last line is a larger part of it.
            lines_of_file: defaults.lines_of_file.min(self.job_settings().file_bytes / LINE_BYTES),
            merge_limit_bytes: self.scale.shrink(defaults.merge_limit_bytes),
            resolve_bytes: self.scale.shrink_records(defaults.resolve_bytes),
            grouping_memory_bytes: self.scale.shrink(defaults.grouping_memory_bytes),
            lake: LakeSettings { versions: self.versions(), ..LakeSettings::default() },
            patient_resolution,
            memory_mb: self.scenario.worker_memory_mb,
            split_interval: if self.scenario.splits_tasks { defaults.split_interval } else { never },
            ..defaults
        }
    }

    /// Returns the default settings of jobs, with a file size that fits the scale.
    pub fn job_settings(&self) -> JobSettings {
        JobSettings { file_bytes: self.scale.shrink(self.scenario.file_bytes), ..JobSettings::default() }
    }

    /// Returns the setting of the lake's versions.
    fn versions(&self) -> LakeVersions {
        match self.scenario.mode {
            Mode::One => LakeVersions::One,
            Mode::Auto => LakeVersions::Auto,
            Mode::Many => LakeVersions::Many,
        }
    }
}
