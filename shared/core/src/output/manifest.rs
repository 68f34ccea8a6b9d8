//! The answer of a finished job (Bulk Data Access, "Bulk Data Output Manifest").

use serde::Serialize;

use crate::job::Job;
use crate::output::file::{OutputKind, Part};

/// The largest manifest that is handed out, in bytes as it travels: within a Lambda function's answer it is a JSON
/// string, with a backslash before each quote. The answer has at most 6 MiB, headers included.
pub const MANIFEST_LIMIT_BYTES: usize = 6_000_000;

/// The most files of `output` and `deleted` that one page of a manifest lists: 1.2 kB for each within
/// [`MANIFEST_LIMIT_BYTES`], several times what the URL of a file takes.
pub const PAGE_FILES: usize = 5_000;

/// The manifest of a complete job, or one page of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    transaction_time: String,
    request: String,
    requires_access_token: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_organized_by: Option<&'static str>,
    output: Vec<Entry>,
    /// Always there when deletions were asked for: an empty list says that none is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    deleted: Option<Vec<Entry>>,
    error: Vec<Entry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    link: Vec<Link>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Entry {
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    url: String,
    count: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Link {
    relation: &'static str,
    url: String,
}

impl Manifest {
    /// The manifest of `job` with these recorded parts (rule P4: from records, never from a listing), page by page.
    ///
    /// * One page, unless the client asked for `allowPartialManifests` and there are more than [`PAGE_FILES`] files. Each
    ///   page but the last links to the next.
    /// * Bulk Data Access, "Bulk Data Output Manifest": pages differ in `output`, `deleted` and `link` alone, so each
    ///   lists all the files of `error`.
    pub fn pages(job: &Job, mut parts: Vec<Part>) -> impl Iterator<Item = Self> {
        parts.sort_by_key(|part| part.name);
        let (errors, files): (Vec<Part>, Vec<Part>) = parts.into_iter().partition(|part| part.name.kind == OutputKind::Error);
        let length = if job.request.allows_partial_manifests { PAGE_FILES } else { files.len().max(1) };
        let count = files.len().div_ceil(length).max(1);
        (1..=count).map(move |number| {
            let page: Vec<&Part> = files.iter().skip((number - 1) * length).take(length).collect();
            let next = (number < count).then(|| Link { relation: "next", url: format!("{}?page={}", job.status_url(), number + 1) });
            Self::page(job, &page, &errors, next)
        })
    }

    fn page(job: &Job, files: &[&Part], errors: &[Part], next: Option<Link>) -> Self {
        let entry = |part: &Part| Entry {
            kind: part.name.kind.manifest_type(),
            url: format!("{}/_operations/files/{}/{}", job.base, job.id, part.name),
            count: part.content.lines,
        };
        let (deleted, output): (Vec<&Part>, Vec<&Part>) = files.iter().partition(|part| part.name.kind == OutputKind::Deleted);
        Self {
            transaction_time: job.planned.map(|planned| planned.transaction_time.instant()).unwrap_or_default(),
            request: job.request_url.clone(),
            requires_access_token: job.requires_access_token,
            output_organized_by: job.request.is_organized.then_some("Patient"),
            output: output.into_iter().map(entry).collect(),
            deleted: job.request.reports_deletions().then(|| deleted.into_iter().map(entry).collect()),
            error: errors.iter().map(entry).collect(),
            link: next.into_iter().collect(),
        }
    }

    /// As JSON text.
    pub fn json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }

    /// Whether it can be handed out in one response.
    pub fn fits(&self) -> bool {
        let travelling = self.json().and_then(|json| serde_json::to_string(&json));
        travelling.is_ok_and(|text| text.len() <= MANIFEST_LIMIT_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use headrace_fhir::ResourceType;

    use super::*;
    use crate::cohort::LeftOut;
    use crate::job::{JobState, Pass, Planned};
    use crate::output::file::{Content, OutputFileName};
    use crate::request::{Associated, ExportRequest};
    use crate::vocab::clock::Millis;
    use crate::vocab::ids::{Caller, JobId};

    fn job() -> Job {
        Job {
            state: JobState::Complete,
            request_url: "https://h/fhir/$export".into(),
            base: "https://h/fhir".into(),
            requires_access_token: true,
            planned: Some(Planned {
                transaction_time: Millis(1_769_846_400_000),
                tasks: 1,
                source_bytes: 1,
                pass: Pass::Direct,
                roster: None,
                left_out: LeftOut::default(),
            }),
            ended_at: Some(Millis(1)),
            ..Job::accepted(JobId::from_random([7; 16]), Caller("ann".into()), ExportRequest::default(), Millis(0))
        }
    }

    fn part(kind: OutputKind, number: u32) -> Part {
        Part { name: OutputFileName { kind, number }, content: Content { bytes: 1, lines: u64::from(number), crc64: 0 } }
    }

    fn kind(name: &str) -> OutputKind {
        OutputKind::Output(ResourceType::named(name).unwrap())
    }

    fn one(job: &Job, parts: Vec<Part>) -> Manifest {
        let pages: Vec<Manifest> = Manifest::pages(job, parts).collect();
        assert_eq!(pages.len(), 1);
        pages.into_iter().next().unwrap()
    }

    /// `type file count` of each entry.
    fn files(entries: &[Entry]) -> Vec<String> {
        let name = |entry: &Entry| entry.url.rsplit('/').next().unwrap_or_default().to_owned();
        entries.iter().map(|entry| format!("{} {} {}", entry.kind.unwrap_or("-"), name(entry), entry.count)).collect()
    }

    // Holds: M5
    #[test]
    fn parts_are_listed_by_type_and_number_and_errors_apart() {
        let parts = vec![part(kind("Patient"), 10), part(OutputKind::Error, 1), part(kind("Patient"), 2), part(kind("Account"), 1)];
        let manifest = one(&job(), parts);
        assert_eq!(files(&manifest.output), ["Account Account-1.ndjson 1", "Patient Patient-2.ndjson 2", "Patient Patient-10.ndjson 10"]);
        assert_eq!(files(&manifest.error), ["OperationOutcome error-1.ndjson 1"]);
        assert!(manifest.output.iter().all(|entry| entry.url.starts_with("https://h/fhir/_operations/files/0707")));
    }

    // Holds: M5, M7, B6
    #[test]
    fn an_export_without_resources_lists_empty_arrays() {
        let json = one(&job(), Vec::new()).json().unwrap();
        assert_eq!(
            json,
            r#"{"transactionTime":"2026-01-31T08:00:00.000Z","request":"https://h/fhir/$export","requiresAccessToken":true,"output":[],"error":[]}"#
        );
    }

    #[test]
    fn deletions_are_listed_apart_where_they_were_asked_for() {
        let since = ExportRequest { since: Some(headrace_fhir::Instant::from_millis(0)), ..ExportRequest::default() };
        let asked = ExportRequest { associated: [Associated::Deleted].into(), ..ExportRequest::default() };
        let parts = || vec![part(OutputKind::Deleted, 1), part(kind("Patient"), 3)];
        for request in [since, asked] {
            let job = Job { request, ..job() };
            let manifest = one(&job, parts());
            assert_eq!(files(&manifest.output), ["Patient Patient-3.ndjson 3"]);
            assert_eq!(files(manifest.deleted.as_deref().unwrap()), ["Bundle deleted-1.ndjson 1"]);
            assert_eq!(one(&job, Vec::new()).deleted, Some(Vec::new()), "an empty list says that none is known");
        }
        assert_eq!(one(&job(), Vec::new()).deleted, None);
    }

    // Holds: M4
    #[test]
    fn organized_output_names_what_it_is_organized_by_and_no_types() {
        let request = ExportRequest { is_organized: true, ..ExportRequest::default() };
        let manifest = one(&Job { request, ..job() }, vec![part(OutputKind::Organized, 1), part(OutputKind::Error, 1)]);
        assert_eq!(files(&manifest.output), ["- organized-1.ndjson 1"]);
        assert!(manifest.json().unwrap().contains(r#""outputOrganizedBy":"Patient","output":[{"url":"#));
    }

    // Holds: M8, B9
    #[test]
    fn pages_come_only_if_they_were_asked_for() {
        let parts: Vec<Part> = (1..=12_000).map(|number| part(kind("Patient"), number)).collect();
        let whole = one(&job(), parts.clone());
        assert!(whole.link.is_empty() && whole.output.len() == 12_000);
        let request = ExportRequest { allows_partial_manifests: true, ..ExportRequest::default() };
        let few = one(&Job { request: request.clone(), ..job() }, parts[..5_000].to_vec());
        assert!(few.link.is_empty() && few.output.len() == 5_000);
        let pages: Vec<Manifest> = Manifest::pages(&Job { request, ..job() }, parts).collect();
        assert_eq!(pages.iter().map(|page| page.output.len()).collect::<Vec<_>>(), [5_000, 5_000, 2_000]);
    }

    // Holds: S6, M8
    #[test]
    fn pages_list_every_file_once_and_differ_in_files_and_links_alone() {
        let request = ExportRequest {
            allows_partial_manifests: true,
            since: Some(headrace_fhir::Instant::from_millis(0)),
            ..ExportRequest::default()
        };
        let job = Job { request, ..job() };
        let mut parts: Vec<Part> = (1..=7_000).map(|number| part(kind("Patient"), number)).collect();
        parts.extend((1..=4_000).map(|number| part(OutputKind::Deleted, number)));
        parts.extend([part(OutputKind::Error, 1), part(OutputKind::Error, 2)]);
        let pages: Vec<serde_json::Value> =
            Manifest::pages(&job, parts).map(|page| serde_json::from_str(&page.json().unwrap()).unwrap()).collect();
        let mut urls = std::collections::BTreeSet::new();
        for (index, page) in pages.iter().enumerate() {
            for entry in ["output", "deleted"].iter().flat_map(|name| page[*name].as_array().unwrap()) {
                assert!(urls.insert(entry["url"].as_str().unwrap().to_owned()));
            }
            let next = format!("https://h/fhir/_operations/export/{}?page={}", job.id, index + 2);
            match page.get("link") {
                Some(link) => assert_eq!(*link, serde_json::json!([{ "relation": "next", "url": next }])),
                None => assert_eq!(index, pages.len() - 1, "every page but the last links to the next"),
            }
            for name in ["transactionTime", "request", "requiresAccessToken", "error"] {
                assert_eq!(page[name], pages[0][name], "{name}");
            }
        }
        assert_eq!((pages.len(), urls.len()), (3, 11_000));
    }

    #[test]
    fn the_largest_manifest_still_fits_into_a_lambda_response() {
        let kind = kind("MedicinalProductUndesirableEffect");
        let manifest = |count| one(&job(), (1..=count).map(|number| part(kind, number)).collect());
        let length = |count| serde_json::to_string(&manifest(count).json().unwrap()).unwrap().len();
        assert!(manifest(25_000).fits() && length(25_000) > 4_000_000);
        // Somewhat over the limit by its escaped quotes alone.
        let over = (25_000..50_000).step_by(2_500).find(|count| length(*count) > MANIFEST_LIMIT_BYTES).unwrap();
        assert!(!manifest(over).fits() && manifest(over).json().unwrap().len() < MANIFEST_LIMIT_BYTES);
    }

    #[test]
    fn a_page_fits_whatever_the_number_of_files() {
        let request = ExportRequest { allows_partial_manifests: true, ..ExportRequest::default() };
        let job = Job { request, base: format!("https://{}", "h".repeat(255)), ..job() };
        let parts = (1..=60_000).map(|number| part(kind("MedicinalProductUndesirableEffect"), number)).collect();
        assert!(Manifest::pages(&job, parts).all(|page| page.fits()));
    }
}
