//! Estimates an export before it starts, from the listing of the lake and from samples of its lines. Starts nothing.

mod forecast;
mod listing;
mod sample;
mod volume;

use std::time::Duration;

use headrace_fhir::definitions::TypeSet;

use crate::flow::resolve_patients::{Catalogue, PatientResolutionSettings, PatientResolver, ResolvedPatients, TimeLimit};
use crate::job::file::OutputKind;
use crate::job::{ExportError, ExportTime, Job, OmittedSubjects, Planned, PriceTable, ReadMode};
use crate::lines::line_processor::{LineProcessor, ReadPass};
use crate::lines::selection::{Selection, read_mode};
use crate::output::usage_report::ListPrice;
use crate::ports::{Clock, JobSecretEncryptor, OutputStore, ResourceSource};
use crate::vocab::lake_settings::LakeSettings;
use crate::vocab::level::Level;

pub use forecast::{Forecast, FunctionFleet, forecast};
pub use volume::{KindVolume, Volume};

use self::listing::Listing;
use self::sample::{Samples, read_samples};
use super::kick_off::{KickOff, KickOffSettings, prepare};

/// The stored bytes that are sampled: they are read and processed within some seconds.
pub const SAMPLE_BYTES: u64 = 64 << 20;

/// The time of the listing, and of the listing and the samples together. API Gateway waits half a minute for an answer.
const LISTING_TIME: Duration = Duration::from_secs(8);
const SAMPLING_TIME: Duration = Duration::from_secs(18);

/// The time of the resolution of patients.
const PATIENTS_TIME: Duration = Duration::from_secs(6);

/// The settings of an estimate: those of the workers that would do the work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EstimateSettings {
    /// The interpretation of the lake.
    pub lake: LakeSettings,
    /// True to skip objects whose names promise a type that was not requested.
    pub trust_object_names: bool,
    /// The smallest size of a slice of an object, in bytes.
    pub min_slice_bytes: u64,
    /// The stored bytes that are sampled.
    pub sample_bytes: u64,
    /// The workers.
    pub fleet: Fleet,
    /// The time after which no further sample is read.
    pub time_limit: Duration,
    /// The limits of the resolution of patients.
    pub patient_resolution: PatientResolutionSettings,
}

impl EstimateSettings {
    /// Returns the settings for workers that interpret the lake in this way.
    pub fn new(lake: LakeSettings, trust_object_names: bool, fleet: Fleet) -> Self {
        let patient_resolution = PatientResolutionSettings { time_limit: PATIENTS_TIME, ..PatientResolutionSettings::default() };
        let (sample_bytes, time_limit) = (SAMPLE_BYTES, SAMPLING_TIME);
        Self { lake, trust_object_names, min_slice_bytes: 1 << 20, sample_bytes, fleet, time_limit, patient_resolution }
    }
}

impl Default for EstimateSettings {
    fn default() -> Self {
        Self::new(LakeSettings::default(), false, Fleet::Process(1))
    }
}

/// The workers that would do the work of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fleet {
    /// Workers in a process, by their number.
    Process(u32),
    /// Functions on AWS.
    Functions(FunctionFleet),
}

/// An estimate.
#[derive(Clone, Debug, PartialEq)]
pub struct Estimate {
    /// The volume: the objects that it would read, and the files that it would write.
    pub volume: Volume,
    /// The size at which a file is closed, in bytes.
    pub file_bytes: u64,
    /// The number of tasks.
    pub tasks: u64,
    /// The time from the kick-off to the end, in seconds.
    pub seconds: f64,
    /// The costs by list prices. `None` for an export on one machine.
    pub list_price: Option<ListPrice>,
    /// True if the whole lake was read, so that sizes are exact.
    pub has_read_all: bool,
    /// True if the listing was not read to its end, so that the export is larger.
    pub is_lower_bound: bool,
    /// True if the patients of the export could not be resolved in time, so that it may be smaller.
    pub ignores_patients: bool,
}

impl Estimate {
    /// Returns the number of files in the manifest's `output`.
    pub fn output_files(&self) -> u64 {
        self.output_kinds().map(|(_, kind)| kind.files(self.file_bytes)).sum()
    }

    /// Returns the volume of each kind of files in the manifest's `output`.
    pub fn output_kinds(&self) -> impl Iterator<Item = (OutputKind, KindVolume)> {
        let is_output = |kind: &OutputKind| matches!(kind, OutputKind::Output(_) | OutputKind::PatientBlocks);
        self.volume.kinds.iter().map(|(kind, volume)| (*kind, *volume)).filter(move |(kind, volume)| is_output(kind) && volume.bytes > 0.0)
    }
}

/// Estimates the export that a kick-off asks for. What a kick-off would reject is rejected.
pub async fn estimate(
    jobs: &impl JobSecretEncryptor,
    (source, output): (&impl ResourceSource, &impl OutputStore),
    clock: &impl Clock,
    settings: KickOffSettings<'_>,
    estimate: &EstimateSettings,
    kick_off: KickOff,
) -> Result<(Job, Estimate), ExportError> {
    let prepared = prepare(jobs, (source, output), clock, settings, &kick_off).await?;
    let estimated = estimate_job((source, clock), (&prepared.job, &prepared.plan.patients), prepared.time, estimate).await?;
    Ok((prepared.job, estimated))
}

/// Estimates the export of a job that is not recorded. `time` is the time that its plan would take now.
pub async fn estimate_job(
    (source, clock): (&impl ResourceSource, &impl Clock),
    (job, patients): (&Job, &[String]),
    time: ExportTime,
    settings: &EstimateSettings,
) -> Result<Estimate, ExportError> {
    let (started, file_bytes) = (clock.now(), job.settings.file_bytes);
    let resolver = PatientResolver { job: &job.id, request: &job.request, patients, bases: &settings.lake.bases };
    let listing = Listing::read((source, clock), (job, time), settings, started + LISTING_TIME).await?;
    let resolved = resolve(&resolver, (source, clock), time, settings.patient_resolution).await?;
    let ignores_patients = matches!(resolved, ResolvedPatients::TimedOut);
    let patient_set = if let ResolvedPatients::Selected(selected) = resolved { Some(selected.patient_set) } else { None };
    let mode = read_mode(&job.request, &settings.lake);
    let job = &Job { planned: Some(planned(time, mode)), ..job.clone() };
    let samples = if patient_set.as_ref().is_some_and(|patients| patients.is_empty()) {
        Samples::default()
    } else {
        let job = if ignores_patients { &without_patients(job) } else { job };
        let selection = Selection::new(job, &settings.lake, patient_set, None)?.with_clock(clock.now());
        // A first reading of two exports nothing. The lines that the second one exports are those of the other modes.
        let pass = if mode == ReadMode::SinglePass { ReadMode::SinglePass } else { ReadMode::Optimistic };
        let mut processor = LineProcessor::new(selection, ReadPass::First(pass)).with_new_slices(vec![false, true]);
        let limits = (settings.sample_bytes, started + settings.time_limit);
        read_samples((source, clock), &listing, &mut processor, limits).await?
    };
    let volume = Volume::new(&listing, &samples, file_bytes, mode == ReadMode::TwoPass);
    let (tasks, seconds, list_price) = match settings.fleet {
        Fleet::Functions(fleet) => {
            let forecast = forecast(&volume, fleet, mode, file_bytes);
            let prices = PriceTable::us_east_1().ok();
            let price = prices.map(|prices| ListPrice::new(prices.costs(forecast.usage), &prices));
            (forecast.tasks, forecast.seconds, price)
        }
        Fleet::Process(workers) => {
            let (tasks, seconds) = forecast_process((&volume, mode), &samples, workers);
            (tasks, seconds, None)
        }
    };
    Ok(Estimate {
        file_bytes,
        tasks,
        seconds,
        list_price,
        has_read_all: samples.is_whole,
        is_lower_bound: !listing.is_complete,
        ignores_patients,
        volume,
    })
}

/// Resolves the patients of the export, as its plan would.
async fn resolve(
    resolver: &PatientResolver<'_>,
    (source, clock): (&impl ResourceSource, &impl Clock),
    time: ExportTime,
    settings: PatientResolutionSettings,
) -> Result<ResolvedPatients, ExportError> {
    let wanted = resolver.types();
    if wanted == TypeSet::default() {
        return Ok(ResolvedPatients::All);
    }
    let mut timer = TimeLimit { clock, until: clock.now() + settings.time_limit };
    let Some(catalogue) = Catalogue::from_listing(source, wanted, settings.untyped_bytes, &mut timer).await? else {
        return Ok(ResolvedPatients::TimedOut);
    };
    let resolved = resolver.resolve(source, &catalogue, time.transaction_time, &mut timer).await?;
    if matches!(resolved, ResolvedPatients::TimedOut) {
        return Ok(resolved);
    }
    // A group or patient that does not exist is rejected, as the plan would.
    Ok(resolved.into_selected(&catalogue)?.map_or(ResolvedPatients::All, |selected| ResolvedPatients::Selected(Box::new(selected))))
}

/// Returns the result of a plan at this time, of which only the time counts.
fn planned(time: ExportTime, read_mode: ReadMode) -> Planned {
    Planned { time, tasks: 0, source_bytes: 0, read_mode, patient_set: None, omitted: OmittedSubjects::default(), group_patients: 0 }
}

/// Returns the job without the restriction to certain patients, for an estimate that may be too large.
fn without_patients(job: &Job) -> Job {
    let mut job = job.clone();
    job.request.level = Level::AllPatients;
    job.request.patients = None;
    job
}

/// Forecasts the tasks and the time of an export in a process on this machine, by the speed at which it has processed the samples.
fn forecast_process((volume, mode): (&Volume, ReadMode), samples: &Samples, workers: u32) -> (u64, f64) {
    let sampled: u64 = samples.strata.values().map(|sample| sample.line_bytes).sum();
    let per_byte = samples.processing.as_secs_f64() / (sampled.max(1) as f64);
    let readings = if volume.reads_twice { 2.0 } else { 1.0 };
    let parallel = f64::from(workers).min(volume.read_tasks as f64).max(1.0);
    // Lines that are written cost about as much as lines that are read.
    let seconds = per_byte * (volume.line_bytes * readings + volume.output_bytes()) / parallel;
    let compares = u64::from(mode != ReadMode::SinglePass && volume.records > 0.0);
    let tasks = volume.read_tasks * if volume.reads_twice { 2 } else { 1 } + compares + 2;
    (tasks, seconds + f64::from(u32::try_from(tasks).unwrap_or(u32::MAX)) * PROCESS_TASK_SECONDS / parallel)
}

/// The seconds of a task on one machine beside its bytes: some transactions of the job table.
const PROCESS_TASK_SECONDS: f64 = 0.01;
