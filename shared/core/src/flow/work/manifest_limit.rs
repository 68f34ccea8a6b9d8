//! Rejects an export while it is planned if its manifest would certainly be too large.

use headrace_fhir::definitions::ResourceType;

use crate::access::Agent;
use crate::job::file::OutputKind;
use crate::job::task::PlanProgress;
use crate::job::{ExportError, FailureKind, FailureReason, Job, JobEvent};
use crate::output::manifest::{MAX_MANIFEST_BYTES, Manifest};
use crate::ports::{AllPorts, JobStore as _};
use crate::request::{AssociatedData, ExportRequest};
use crate::vocab::lake_settings::LakeVersions;
use crate::vocab::level::Level;

use super::task_end::TaskEnd;

/// A compression ratio that NDJSON has at least.
const LEAST_COMPRESSION_RATIO: u64 = 2;

/// The stored sizes of the objects that an export reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LakeBytes {
    pub(super) plain: u64,
    pub(super) compressed: u64,
}

impl LakeBytes {
    /// Returns the sizes of the objects that an earlier attempt at the plan has listed.
    pub(super) fn from_progress(progress: &PlanProgress) -> Self {
        Self { plain: progress.plain_bytes, compressed: progress.compressed_bytes }
    }

    /// Returns the progress of a plan that has listed objects of these sizes up to the page `after`.
    pub(super) fn progress(self, after: String, next_task: u32) -> PlanProgress {
        PlanProgress { after, next_task, plain_bytes: self.plain, compressed_bytes: self.compressed }
    }

    /// Returns the size of all objects.
    pub(super) fn total(self) -> u64 {
        self.plain + self.compressed
    }
}

/// Returns the reason why an export cannot succeed: it exports all lines of the lake, and makes more files of them than its manifest can list.
///
/// A request that selects lines may export any part of them, and so may one that compares versions. Those are rejected at the end, if at all.
pub(super) fn manifest_problem(job: &Job, versions: LakeVersions, bytes: LakeBytes) -> Option<String> {
    if !exports_all_lines(&job.request, versions) {
        return None;
    }
    let max_files = Manifest::max_files(job, OutputKind::Output(ResourceType::BASIC))?;
    let bytes = bytes.plain.saturating_add(bytes.compressed.saturating_mul(LEAST_COMPRESSION_RATIO));
    let files = bytes / job.settings.file_bytes.max(1);
    (files > max_files).then(|| too_many_files(files, "at least"))
}

/// Describes that a manifest is too large. `bound` says what the number of files is.
pub(super) fn too_many_files(files: u64, bound: &str) -> String {
    format!(
        "the manifest of {bound} {files} files is larger than {MAX_MANIFEST_BYTES} bytes, the limit of one response; ask for allowPartialManifests=true, narrow the export with _type or _since, or have HEADRACE_FILE_SIZE_MB raised"
    )
}

/// Fails a job whose manifest is too large.
pub(super) async fn fail_too_large_job(ports: &impl AllPorts, job: &Job, text: String) -> Result<TaskEnd, ExportError> {
    let reason = FailureReason { kind: FailureKind::TooLarge, text };
    ports.jobs().end_job(&job.id, JobEvent::Failed, Some(reason.clone()), &Agent::service(), ports.now()).await?;
    Ok(TaskEnd::JobFailed(reason))
}

/// Returns true if every line of the lake that is a resource is exported.
fn exports_all_lines(request: &ExportRequest, versions: LakeVersions) -> bool {
    let selects = request.level != Level::System
        || request.types.is_some()
        || request.since.is_some()
        || request.until.is_some()
        || !request.type_filters.is_empty()
        || !request.scope_queries.is_empty()
        || !request.elements.is_empty()
        || request.patients.is_some()
        || request.anonymization.is_some()
        || request.is_organized_by_patient;
    let exports_all_versions = versions == LakeVersions::One || request.associated_data.contains(&AssociatedData::History);
    !selects && exports_all_versions
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vocab::clock::Millis;
    use crate::vocab::ids::{Caller, JobId};

    fn job(request: ExportRequest) -> Job {
        let base = "https://abcdefghij.execute-api.eu-central-1.amazonaws.com/fhir".to_owned();
        Job { base, ..Job::accepted(JobId::from_random([7; 16]), Caller("ann".into()), request, Millis(0)) }
    }

    #[test]
    fn a_full_export_of_two_terabytes_is_rejected_unless_its_manifest_has_pages() {
        let plain = |bytes| LakeBytes { plain: bytes, compressed: 0 };
        let full = job(ExportRequest::default());
        assert_eq!(manifest_problem(&full, LakeVersions::One, plain(1_000_000_000_000)), None);
        let problem = manifest_problem(&full, LakeVersions::One, plain(3_000_000_000_000)).unwrap();
        assert!(problem.contains("46875 files") && problem.contains("allowPartialManifests=true"), "{problem}");
        let compressed = LakeBytes { plain: 0, compressed: 1_500_000_000_000 };
        assert!(manifest_problem(&full, LakeVersions::One, compressed).is_some());
        // Older versions may be any part of the lake.
        assert_eq!(manifest_problem(&full, LakeVersions::Auto, plain(30_000_000_000_000)), None);
        let pages = ExportRequest { allows_partial_manifests: true, ..ExportRequest::default() };
        let increment = ExportRequest { since: Some(headrace_fhir::instant::Instant::from_millis(0)), ..ExportRequest::default() };
        for request in [pages, increment] {
            assert_eq!(manifest_problem(&job(request), LakeVersions::One, plain(30_000_000_000_000)), None);
        }
    }

    #[test]
    fn as_many_files_fit_into_a_manifest_as_are_predicted() {
        use crate::job::file::{FileSummary, OutputFile, OutputFileName};
        let (job, kind) = (job(ExportRequest::default()), OutputKind::Output(ResourceType::BASIC));
        let max = Manifest::max_files(&job, kind).unwrap();
        let fits = |count: u64| {
            let file = |index: u64| OutputFile {
                name: OutputFileName { kind, number: 10_000 + u32::try_from(index).unwrap() },
                summary: FileSummary { bytes: 1, lines: 10_000, crc64: 0 },
            };
            Manifest::pages(&job, (0..count).map(file).collect()).all(|page| page.fits())
        };
        assert!(fits(max) && !fits(max + max / 100), "{max}");
    }
}
