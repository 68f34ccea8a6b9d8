//! Reports what is in a lake, and what an export of it would refuse, leave out or report. The rules and readers are those of exports.

mod finding;
mod report;
mod slice_report;
mod versions;

use std::path::PathBuf;
use std::sync::Arc;

use headrace_core::flow::export_time::read_watermark;
use headrace_core::job::task::{Slice, Work};
use headrace_core::job::{ExportTime, Watermark};
use headrace_core::lake::near_misses::NearMisses;
use headrace_core::lake::slices::SlicePlanner;
use headrace_core::lake::watermark::{WATERMARK_OBJECT, is_first_publication, parse_filler};
use headrace_core::ports::ResourceSource;
use headrace_core::versions::key::ResourceKeyHasher;
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::SourceError;
use headrace_core::vocab::ids::JobId;
use headrace_core::vocab::lake_settings::LakeWatermark;
use tokio::task::JoinSet;

use crate::progress::Progress;
use crate::reading::read_slice;
use crate::sorting::RecordSorter;

pub use finding::{Finding, FindingExample, FindingKind};
pub use report::{LakeReport, TypeReport, WatermarkReport};

use finding::Findings;
use slice_report::{LineRules, SliceReport};
use versions::{SeenVersion, count_versions};

/// The size of a slice of a large object, in bytes.
pub const SLICE_BYTES: u64 = 64 << 20;

/// Settings of a check.
#[derive(Clone, Debug)]
pub struct CheckSettings {
    /// The folder of temporary files.
    pub temp_folder: PathBuf,
    /// The number of slices that are read at the same time.
    pub workers: usize,
    /// The memory for the ids of resources, in bytes.
    pub sort_bytes: usize,
    /// The size of a slice of a large object, in bytes: [`SLICE_BYTES`].
    pub slice_bytes: u64,
    /// The time of the check.
    pub now: Millis,
    /// The rule for the moment up to which exports read the lake.
    pub watermark: LakeWatermark,
    /// Random bytes, so that nobody can prepare ids that count as one.
    pub seed: [u8; 16],
}

/// The reason why a lake cannot be checked.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The lake cannot be reached or listed.
    #[error(transparent)]
    Lake(#[from] SourceError),
    /// A temporary file cannot be written or read.
    #[error("temporary files in `{}` cannot be used; free space there, or set TMPDIR", .folder.display())]
    Temporary {
        /// The folder.
        folder: PathBuf,
        /// The error of the file system.
        #[source]
        cause: std::io::Error,
    },
    /// A worker has stopped.
    #[error("a worker has stopped unexpectedly")]
    Worker(#[from] tokio::task::JoinError),
}

/// Reads a whole lake and reports what is in it.
pub async fn check_lake<S: ResourceSource + 'static>(
    source: Arc<S>,
    settings: &CheckSettings,
    progress: &Arc<Progress>,
) -> Result<LakeReport, CheckError> {
    source.check().await?;
    let mut check = LakeCheck::new(source, settings, progress.clone());
    // As in an export: what is listed later is complete up to a watermark that was read before.
    check.read_watermark().await?;
    check.list_and_read().await?;
    check.finish()
}

/// A check that is running.
struct LakeCheck<'a, S> {
    source: Arc<S>,
    settings: &'a CheckSettings,
    progress: Arc<Progress>,
    rules: LineRules,
    watermark: WatermarkReport,
    report: LakeReport,
    findings: Findings,
    near_misses: NearMisses,
    readers: JoinSet<Result<(SliceReport, RecordSorter<SeenVersion>), CheckError>>,
    idle_sorters: Vec<RecordSorter<SeenVersion>>,
}

impl<'a, S: ResourceSource + 'static> LakeCheck<'a, S> {
    /// Creates a check.
    fn new(source: Arc<S>, settings: &'a CheckSettings, progress: Arc<Progress>) -> Self {
        let workers = settings.workers.max(1);
        let sorter = || RecordSorter::new(&settings.temp_folder, settings.sort_bytes / workers);
        Self {
            source,
            settings,
            progress,
            rules: LineRules::new(ResourceKeyHasher::from_job(&JobId::from_random(settings.seed)), settings.now),
            watermark: WatermarkReport::default(),
            report: LakeReport::default(),
            findings: Findings::default(),
            near_misses: NearMisses::default(),
            readers: JoinSet::new(),
            idle_sorters: (0..workers).map(|_| sorter()).collect(),
        }
    }

    /// Reads the watermark object.
    async fn read_watermark(&mut self) -> Result<(), CheckError> {
        self.watermark.rule = self.settings.watermark;
        if let Ok(Some(object)) = self.source.read_metadata(WATERMARK_OBJECT).await
            && parse_filler(&object).publishing.is_some()
        {
            self.findings.add(FindingKind::UnfinishedPublication, FindingExample::about_object(WATERMARK_OBJECT, String::new()));
            if is_first_publication(&object) {
                return Ok(());
            }
        }
        match read_watermark(&*self.source, self.settings.watermark, self.settings.now).await {
            Ok(Watermark::Object(complete_up_to)) => self.set_watermark(complete_up_to),
            Ok(lag @ Watermark::Lag(_)) => self.set_watermark(ExportTime::new(self.settings.now, lag).transaction_time),
            Ok(Watermark::Unstated | Watermark::Now | Watermark::Arrival) => {}
            Err(error @ SourceError::Misconfigured { .. }) => {
                self.watermark.is_invalid = true;
                self.findings.add(FindingKind::WatermarkInvalid, FindingExample::about_object(WATERMARK_OBJECT, error.to_string()));
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Sets the moment up to which the lake is complete.
    fn set_watermark(&mut self, complete_up_to: Millis) {
        self.watermark.complete_up_to = Some(complete_up_to);
        self.rules.set_watermark(complete_up_to);
    }

    /// Lists the lake, and reads its objects meanwhile.
    async fn list_and_read(&mut self) -> Result<(), CheckError> {
        let mut planner = SlicePlanner::new(self.settings.slice_bytes, self.settings.slice_bytes, None);
        let mut after = None;
        loop {
            let page = self.source.list(after.as_deref()).await?;
            for archived in page.archived.into_iter().filter(|archived| planner.reads(&archived.pin)) {
                self.report.objects += 1;
                self.report.stored_bytes += archived.pin.size;
                self.findings.add(
                    FindingKind::Archived,
                    FindingExample::about_object(&archived.pin.object, format!("storage class {}", archived.storage_class)),
                );
            }
            for skipped in page.skipped {
                self.findings.add(FindingKind::Skipped, FindingExample::about_object(&skipped.object, skipped.reason.to_owned()));
            }
            for listed in page.objects {
                if NearMisses::is_near_miss(&listed.pin.object) {
                    self.near_misses.add(&listed.pin.object);
                    self.findings.add(FindingKind::NearMiss, FindingExample::about_object(&listed.pin.object, String::new()));
                }
                if planner.reads(&listed.pin) {
                    self.report.objects += 1;
                    self.report.stored_bytes += listed.pin.size;
                    self.progress.expect(listed.pin.size);
                }
                planner.add_object(listed.pin, false);
            }
            self.read_tasks(planner.take_ready()).await?;
            let Some(next) = page.next else { break };
            after = Some(next);
        }
        let (tasks, ..) = planner.finish();
        self.read_tasks(tasks).await?;
        while let Some(joined) = self.readers.join_next().await {
            self.take_result(joined)?;
        }
        Ok(())
    }

    /// Reads the slices of tasks, as many at a time as there are workers.
    async fn read_tasks(&mut self, tasks: Vec<(u32, Work)>) -> Result<(), CheckError> {
        for slice in tasks.into_iter().flat_map(|(_, work)| work.into_slices()) {
            let sorter = loop {
                if let Some(sorter) = self.idle_sorters.pop() {
                    break sorter;
                }
                let Some(joined) = self.readers.join_next().await else { break RecordSorter::new(&self.settings.temp_folder, 0) };
                self.take_result(joined)?;
            };
            let (source, rules, progress) = (self.source.clone(), self.rules.clone(), self.progress.clone());
            let folder = self.settings.temp_folder.clone();
            self.readers.spawn(async move { check_slice(&*source, slice, rules, sorter, &progress, folder).await });
        }
        Ok(())
    }

    /// Adds what a reader has found.
    fn take_result(
        &mut self,
        joined: Result<Result<(SliceReport, RecordSorter<SeenVersion>), CheckError>, tokio::task::JoinError>,
    ) -> Result<(), CheckError> {
        let (slice, sorter) = joined??;
        self.idle_sorters.push(sorter);
        self.report.add_slice(&slice);
        self.findings.merge(slice.findings);
        Ok(())
    }

    /// Counts the versions of each resource and completes the report.
    fn finish(mut self) -> Result<LakeReport, CheckError> {
        let folder = self.settings.temp_folder.clone();
        let failed = |cause| CheckError::Temporary { folder, cause };
        count_versions(self.idle_sorters, &mut self.report).map_err(failed)?;
        let conflicting = self.report.types.values().map(|counts| counts.conflicting).sum();
        self.findings.add_count(FindingKind::ConflictingVersions, conflicting);
        if self.report.objects == 0 {
            self.findings.add(FindingKind::NoObjects, FindingExample::default());
        }
        self.report.watermark = self.watermark;
        self.report.checked_at = Some(self.settings.now);
        self.report.near_misses = self.near_misses.describe();
        self.report.finish(self.findings);
        Ok(self.report)
    }
}

/// Reads one slice.
async fn check_slice<S: ResourceSource>(
    source: &S,
    slice: Slice,
    rules: LineRules,
    mut sorter: RecordSorter<SeenVersion>,
    progress: &Arc<Progress>,
    temp_folder: PathBuf,
) -> Result<(SliceReport, RecordSorter<SeenVersion>), CheckError> {
    let mut report = SliceReport::new(&slice);
    let read = read_slice(source, &slice, progress, |line| {
        report.add_line(&rules, line, &mut sorter).map_err(|cause| CheckError::Temporary { folder: temp_folder.clone(), cause })
    });
    match read.await {
        Ok(lines) => report.lines = lines,
        // An export would fail. The check goes on, so that one run names all such objects.
        Err(CheckError::Lake(
            error @ (SourceError::Unreadable { .. } | SourceError::Changed { .. } | SourceError::Misconfigured { .. }),
        )) => {
            report.add_unreadable(&error);
        }
        Err(error) => return Err(error),
    }
    Ok((report, sorter))
}

#[cfg(test)]
mod tests;
