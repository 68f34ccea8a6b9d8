//! The manifest of a complete job (Bulk Data Access, "Bulk Data Output Manifest").

use std::time::Duration;

use serde::Serialize;

use crate::job::file::{OutputFile, OutputFileName, OutputKind};
use crate::job::file_list::{FILES_PER_PAGE, ListedFile};
use crate::job::{Job, Watermark};
use crate::output::usage_report::UsageReport;
use crate::vocab::iso_duration::format_iso_duration;

/// The maximum size of a manifest in bytes, as it is sent. A Lambda response contains the manifest as a JSON string, with a
/// backslash before each quote, and is limited to 6 MiB including headers.
pub const MAX_MANIFEST_BYTES: usize = 6_000_000;

/// The manifest of a complete job, or a page of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    transaction_time: String,
    request: String,
    requires_access_token: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_organized_by: Option<&'static str>,
    output: Vec<FileEntry>,
    /// The Bundles of deleted resources. Present if deletions were requested: an empty list means that there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    deleted: Option<Vec<FileEntry>>,
    error: Vec<FileEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    link: Vec<PageLink>,
    #[serde(skip_serializing_if = "Option::is_none")]
    extension: Option<ManifestExtension>,
}

/// The manifest's extension (Bulk Data Access, "Bulk Data Output Manifest": an object whose members have defined names).
#[derive(Clone, Debug, PartialEq, Serialize)]
struct ManifestExtension {
    #[serde(rename = "urn:headrace:watermark", skip_serializing_if = "Option::is_none")]
    watermark: Option<WatermarkEntry>,
    #[serde(rename = "urn:headrace:anonymization-config", skip_serializing_if = "Option::is_none")]
    configuration: Option<ConfigurationEntry>,
    #[serde(rename = "urn:headrace:usage", skip_serializing_if = "Option::is_none")]
    usage: Option<UsageReport>,
}

/// The anonymization configuration of a de-identified export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct ConfigurationEntry {
    sha256: String,
}

impl ConfigurationEntry {
    /// Describes the configuration of a job. Returns `None` if the export is not de-identified.
    fn from_job(job: &Job) -> Option<Self> {
        let resolved = job.request.anonymization.as_ref()?.resolved.as_ref()?;
        Some(Self { sha256: resolved.digest.to_string() })
    }
}

/// The reason why the lake is complete up to `transactionTime`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct WatermarkEntry {
    rule: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    delay: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    complete_up_to: Option<String>,
}

impl ManifestExtension {
    /// Creates the extension of a job's manifest. Returns `None` if it would be empty.
    fn from_job(job: &Job) -> Option<Self> {
        let watermark = job.planned.and_then(|planned| WatermarkEntry::from_watermark(planned.time.watermark));
        let configuration = ConfigurationEntry::from_job(job);
        let usage = UsageReport::from_usage(job.counters.usage);
        let has_member = watermark.is_some() || configuration.is_some() || usage.is_some();
        has_member.then_some(Self { watermark, configuration, usage })
    }
}

impl WatermarkEntry {
    /// Describes the watermark. Returns `None` if nobody has stated one.
    fn from_watermark(watermark: Watermark) -> Option<Self> {
        let (delay, complete_up_to) = match watermark {
            Watermark::Unstated => return None,
            Watermark::Now | Watermark::Arrival => (None, None),
            Watermark::Lag(lag) => (Some(format_iso_duration(Duration::from_millis(lag.0))), None),
            Watermark::Object(at) => (None, Some(at.instant())),
        };
        Some(Self { rule: watermark.as_str(), delay, complete_up_to })
    }
}

/// A file in the JSON of the manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct FileEntry {
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    url: String,
    count: u64,
}

/// A link to another page in the JSON of the manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct PageLink {
    relation: &'static str,
    url: String,
}

impl Manifest {
    /// Builds the manifest of `job` from its recorded output files, page by page. It never lists the destination (rule P4).
    ///
    /// * The manifest has one page, unless the client requested `allowPartialManifests` and there are more than
    ///   [`FILES_PER_PAGE`] files. Each page except the last links to the next.
    /// * Pages differ only in `output`, `deleted` and `link` (Bulk Data Access, "Bulk Data Output Manifest"). Each page
    ///   therefore lists all files of `error`.
    pub fn pages(job: &Job, mut files: Vec<OutputFile>) -> impl Iterator<Item = Self> {
        files.sort_by_key(|file| file.name);
        let files = files.iter().map(ListedFile::from);
        let (errors, files): (Vec<ListedFile>, Vec<ListedFile>) = files.partition(|file| file.name.kind == OutputKind::Error);
        let length = if job.request.allows_partial_manifests { FILES_PER_PAGE } else { files.len().max(1) };
        let count = files.len().div_ceil(length).max(1);
        (1..=count).map(move |number| {
            let page: Vec<&ListedFile> = files.iter().skip((number - 1) * length).take(length).collect();
            Self::page(job, &page, &errors, (number < count).then_some(number + 1))
        })
    }

    /// Creates one page of the manifest.
    ///
    /// * `next`: the number of the next page; `None` on the last page.
    pub fn page(job: &Job, files: &[&ListedFile], errors: &[ListedFile], next: Option<usize>) -> Self {
        let link = |number| PageLink { relation: "next", url: format!("{}?page={number}", job.status_url()) };
        let entry = |file: &ListedFile| FileEntry {
            kind: file.name.kind.manifest_type(),
            url: format!("{}/_operations/files/{}/{}", job.base, job.id, file.name),
            count: file.lines,
        };
        let (deleted, output): (Vec<&ListedFile>, Vec<&ListedFile>) = files.iter().partition(|file| file.name.kind == OutputKind::Deleted);
        Self {
            transaction_time: job.planned.map(|planned| planned.time.transaction_time.instant()).unwrap_or_default(),
            request: job.request_url.clone(),
            requires_access_token: job.requires_access_token,
            output_organized_by: job.request.is_organized_by_patient.then_some("Patient"),
            output: output.into_iter().map(entry).collect(),
            deleted: job.request.lists_deletions().then(|| deleted.into_iter().map(entry).collect()),
            error: errors.iter().map(entry).collect(),
            link: next.map(link).into_iter().collect(),
            extension: ManifestExtension::from_job(job),
        }
    }

    /// Returns the largest number of files that fit into the manifest of a job, if each is named like a file of this kind. `None` if the
    /// manifest may have pages, so that any number fits.
    pub fn max_files(job: &Job, kind: OutputKind) -> Option<u64> {
        if job.request.allows_partial_manifests {
            return None;
        }
        let file = |number| ListedFile { name: OutputFileName { kind, number }, lines: 10_000 };
        let size = |count: u32| {
            let files: Vec<ListedFile> = (0..count).map(|index| file(10_000 + index)).collect();
            Self::page(job, &files.iter().collect::<Vec<_>>(), &[], None).escaped_bytes().unwrap_or(MAX_MANIFEST_BYTES)
        };
        let (empty, entries) = (size(0), size(101) - size(1));
        Some(MAX_MANIFEST_BYTES.saturating_sub(empty) as u64 * 100 / entries.max(1) as u64)
    }

    /// Returns the size of the manifest as it is sent: as a JSON string within JSON.
    fn escaped_bytes(&self) -> Option<usize> {
        self.json().and_then(|json| serde_json::to_string(&json)).ok().map(|text| text.len())
    }

    /// Serializes the manifest as JSON.
    pub fn json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }

    /// Returns true if the manifest, serialized as JSON, fits into one response.
    pub fn fits(&self) -> bool {
        self.escaped_bytes().is_some_and(|bytes| bytes <= MAX_MANIFEST_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use headrace_fhir::definitions::ResourceType;

    use super::*;
    use crate::job::OmittedSubjects;
    use crate::job::file::FileSummary;
    use crate::job::{ExportTime, JobState, Planned, ReadMode};
    use crate::request::{AssociatedData, ExportRequest};
    use crate::vocab::clock::Millis;
    use crate::vocab::ids::{Caller, JobId};

    fn job() -> Job {
        Job {
            state: JobState::Complete,
            request_url: "https://h/fhir/$export".into(),
            base: "https://h/fhir".into(),
            requires_access_token: true,
            planned: Some(Planned {
                time: ExportTime::new(Millis(1_769_846_400_000), Watermark::Unstated),
                tasks: 1,
                source_bytes: 1,
                read_mode: ReadMode::SinglePass,
                patient_set: None,
                omitted: OmittedSubjects::default(),
                group_patients: 0,
            }),
            ended_at: Some(Millis(1)),
            ..Job::accepted(JobId::from_random([7; 16]), Caller("ann".into()), ExportRequest::default(), Millis(0))
        }
    }

    fn file(kind: OutputKind, number: u32) -> OutputFile {
        OutputFile { name: OutputFileName { kind, number }, summary: FileSummary { bytes: 1, lines: u64::from(number), crc64: 0 } }
    }

    fn kind(name: &str) -> OutputKind {
        OutputKind::Output(ResourceType::parse(name).unwrap())
    }

    fn single_page(job: &Job, files: Vec<OutputFile>) -> Manifest {
        let pages: Vec<Manifest> = Manifest::pages(job, files).collect();
        assert_eq!(pages.len(), 1);
        pages.into_iter().next().unwrap()
    }

    /// Formats each entry as `type file count`.
    fn describe(entries: &[FileEntry]) -> Vec<String> {
        let name = |entry: &FileEntry| entry.url.rsplit('/').next().unwrap_or_default().to_owned();
        entries.iter().map(|entry| format!("{} {} {}", entry.kind.unwrap_or("-"), name(entry), entry.count)).collect()
    }

    // Holds: M5
    #[test]
    fn files_are_sorted_by_type_and_number_and_errors_are_listed_separately() {
        let files = vec![file(kind("Patient"), 10), file(OutputKind::Error, 1), file(kind("Patient"), 2), file(kind("Account"), 1)];
        let manifest = single_page(&job(), files);
        assert_eq!(
            describe(&manifest.output),
            ["Account Account-1.ndjson 1", "Patient Patient-2.ndjson 2", "Patient Patient-10.ndjson 10"]
        );
        assert_eq!(describe(&manifest.error), ["OperationOutcome error-1.ndjson 1"]);
        assert!(manifest.output.iter().all(|entry| entry.url.starts_with("https://h/fhir/_operations/files/0707")));
    }

    // Holds: M5, M7, B6
    #[test]
    fn an_export_without_resources_lists_empty_arrays() {
        let json = single_page(&job(), Vec::new()).json().unwrap();
        assert_eq!(
            json,
            r#"{"transactionTime":"2026-01-31T08:00:00.000Z","request":"https://h/fhir/$export","requiresAccessToken":true,"output":[],"error":[]}"#
        );
    }

    // Holds: M9
    #[test]
    fn the_extension_says_why_the_lake_is_complete_up_to_the_transaction_time() {
        let at = Millis(1_769_846_400_000);
        for (watermark, time, entry) in [
            (Watermark::Now, "2026-01-31T08:00:00.000Z", serde_json::json!({ "rule": "now" })),
            (Watermark::Arrival, "2026-01-31T08:00:00.000Z", serde_json::json!({ "rule": "arrival" })),
            (Watermark::Lag(Millis(900_000)), "2026-01-31T07:45:00.000Z", serde_json::json!({ "rule": "delay", "delay": "PT15M" })),
            (
                Watermark::Object(Millis(at.0 - 1_800_000)),
                "2026-01-31T07:30:00.000Z",
                serde_json::json!({ "rule": "object", "completeUpTo": "2026-01-31T07:30:00.000Z" }),
            ),
        ] {
            let planned = job().planned.map(|planned| Planned { time: ExportTime::new(at, watermark), ..planned });
            let json = single_page(&Job { planned, ..job() }, Vec::new()).json().unwrap();
            let manifest: serde_json::Value = serde_json::from_str(&json).unwrap();
            assert_eq!(manifest["transactionTime"], time);
            assert_eq!(manifest["extension"], serde_json::json!({ "urn:headrace:watermark": entry }));
        }
    }

    #[test]
    fn requested_deletions_are_listed_separately() {
        let since = ExportRequest { since: Some(headrace_fhir::instant::Instant::from_millis(0)), ..ExportRequest::default() };
        let asked = ExportRequest { associated_data: [AssociatedData::Deleted].into(), ..ExportRequest::default() };
        let files = || vec![file(OutputKind::Deleted, 1), file(kind("Patient"), 3)];
        for request in [since, asked] {
            let job = Job { request, ..job() };
            let manifest = single_page(&job, files());
            assert_eq!(describe(&manifest.output), ["Patient Patient-3.ndjson 3"]);
            assert_eq!(describe(manifest.deleted.as_deref().unwrap()), ["Bundle deleted-1.ndjson 1"]);
            assert_eq!(single_page(&job, Vec::new()).deleted, Some(Vec::new()), "an empty list means that there are none");
        }
        assert_eq!(single_page(&job(), Vec::new()).deleted, None);
    }

    // Holds: M4
    #[test]
    fn organized_output_has_output_organized_by_and_no_types() {
        let request = ExportRequest { is_organized_by_patient: true, ..ExportRequest::default() };
        let manifest = single_page(&Job { request, ..job() }, vec![file(OutputKind::PatientBlocks, 1), file(OutputKind::Error, 1)]);
        assert_eq!(describe(&manifest.output), ["- organized-1.ndjson 1"]);
        assert!(manifest.json().unwrap().contains(r#""outputOrganizedBy":"Patient","output":[{"url":"#));
    }

    // Holds: M8, B9
    #[test]
    fn the_manifest_has_pages_only_if_they_were_requested() {
        let files: Vec<OutputFile> = (1..=12_000).map(|number| file(kind("Patient"), number)).collect();
        let whole = single_page(&job(), files.clone());
        assert!(whole.link.is_empty() && whole.output.len() == 12_000);
        let request = ExportRequest { allows_partial_manifests: true, ..ExportRequest::default() };
        let few = single_page(&Job { request: request.clone(), ..job() }, files[..5_000].to_vec());
        assert!(few.link.is_empty() && few.output.len() == 5_000);
        let pages: Vec<Manifest> = Manifest::pages(&Job { request, ..job() }, files).collect();
        assert_eq!(pages.iter().map(|page| page.output.len()).collect::<Vec<_>>(), [5_000, 5_000, 2_000]);
    }

    // Holds: S6, M8
    #[test]
    fn pages_list_every_file_once_and_differ_only_in_files_and_links() {
        let request = ExportRequest {
            allows_partial_manifests: true,
            since: Some(headrace_fhir::instant::Instant::from_millis(0)),
            ..ExportRequest::default()
        };
        let job = Job { request, ..job() };
        let mut files: Vec<OutputFile> = (1..=7_000).map(|number| file(kind("Patient"), number)).collect();
        files.extend((1..=4_000).map(|number| file(OutputKind::Deleted, number)));
        files.extend([file(OutputKind::Error, 1), file(OutputKind::Error, 2)]);
        let pages: Vec<serde_json::Value> =
            Manifest::pages(&job, files).map(|page| serde_json::from_str(&page.json().unwrap()).unwrap()).collect();
        let mut urls = std::collections::BTreeSet::new();
        for (index, page) in pages.iter().enumerate() {
            for entry in ["output", "deleted"].iter().flat_map(|name| page[*name].as_array().unwrap()) {
                assert!(urls.insert(entry["url"].as_str().unwrap().to_owned()));
            }
            let next = format!("https://h/fhir/_operations/export/{}?page={}", job.id, index + 2);
            match page.get("link") {
                Some(link) => assert_eq!(*link, serde_json::json!([{ "relation": "next", "url": next }])),
                None => assert_eq!(index, pages.len() - 1, "every page except the last links to the next"),
            }
            for name in ["transactionTime", "request", "requiresAccessToken", "error"] {
                assert_eq!(page[name], pages[0][name], "{name}");
            }
        }
        assert_eq!((pages.len(), urls.len()), (3, 11_000));
    }

    #[test]
    fn a_large_manifest_fits_into_a_lambda_response() {
        let kind = kind("MedicinalProductUndesirableEffect");
        let manifest = |count| single_page(&job(), (1..=count).map(|number| file(kind, number)).collect());
        let length = |count| serde_json::to_string(&manifest(count).json().unwrap()).unwrap().len();
        assert!(manifest(25_000).fits() && length(25_000) > 4_000_000);
        // Somewhat over the limit by its escaped quotes alone.
        let over = (25_000..50_000).step_by(2_500).find(|count| length(*count) > MAX_MANIFEST_BYTES).unwrap();
        assert!(!manifest(over).fits() && manifest(over).json().unwrap().len() < MAX_MANIFEST_BYTES);
    }

    #[test]
    fn a_page_fits_regardless_of_the_number_of_files() {
        let request = ExportRequest { allows_partial_manifests: true, ..ExportRequest::default() };
        let job = Job { request, base: format!("https://{}", "h".repeat(255)), ..job() };
        let files = (1..=60_000).map(|number| file(kind("MedicinalProductUndesirableEffect"), number)).collect();
        assert!(Manifest::pages(&job, files).all(|page| page.fits()));
    }
}
