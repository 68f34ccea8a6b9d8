//! The report about a finished export: the result on standard output, and what is worth knowing on standard error.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, Read as _};
use std::path::Path;
use std::time::Duration;

use headrace_core::lake::line::has_time;
use headrace_core::lake::ndjson::LINE_LIMIT_BYTES;
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::plural::counted;
use headrace_fhir::instant::Instant;
use indicatif::{DecimalBytes, HumanCount};
use percent_encoding::percent_decode_str;

use crate::client::bulk::{DownloadedFile, Manifest};
use crate::client::error_files::{OutcomeSeverity, Outcomes};
use crate::client::exported_lines::open_lines;
use crate::client::file_names::FileList;
use crate::terminal::printable;

/// A finished export.
pub(crate) struct Report<'a> {
    pub(crate) manifest: &'a Manifest,
    pub(crate) files: &'a [DownloadedFile],
    pub(crate) deletions: u64,
    pub(crate) outcomes: &'a Outcomes,
    pub(crate) out: &'a Path,
    /// The `_until` of the request, if this process has sent it.
    pub(crate) until: Option<&'a str>,
    /// The types that the files of resources may have. `None` for any.
    pub(crate) types: Option<&'a BTreeSet<String>>,
    /// Duration of the export on the server.
    pub(crate) export_time: Duration,
    /// Duration of export and download.
    pub(crate) total_time: Duration,
}

impl Report<'_> {
    /// Formats a table of the files, totals, times and the `--since` of the next incremental export.
    pub(crate) fn result(&self) -> String {
        let table = self.table();
        let separator = if table.is_empty() { "" } else { "\n" };
        let mut output = format!("{table}{separator}{}, in {}\n", self.totals(), printable(&self.out.to_string_lossy()));
        let (total, export) = (self.total_time.as_secs_f64(), self.export_time.as_secs_f64());
        output += &format!(
            "took {total:.2} s: export {export:.2} s, download {:.2} s; {}/s, {} resources/s\n",
            total - export,
            DecimalBytes(per_second(self.bytes(), self.total_time)),
            HumanCount(per_second(self.resources(), self.total_time)),
        );
        let next = self.next_since();
        // The watermark explains the time of the export only.
        let watermark = if next == self.manifest.transaction_time { self.manifest.describe_watermark() } else { String::new() };
        output += &format!("to export only later changes next time: --since {next}{watermark}\n");
        output
    }

    /// Returns the `--since` of the next incremental export: the time of this export, or a time before its `--until` if that is earlier.
    pub(crate) fn next_since(&self) -> String {
        let time = &self.manifest.transaction_time;
        let requested = self.until.map(str::to_owned).into_iter().chain(requested_until(self.manifest));
        let until = requested.filter_map(|until| Instant::parse(&until).ok()).min();
        let until = until.filter(|until| Instant::parse(time).is_ok_and(|time| *until <= time));
        // Neither `_until` nor `_since` includes its own moment.
        let before = until.and_then(Millis::from_instant).map(|until| Millis(until.0.saturating_sub(1)).instant());
        before.unwrap_or_else(|| time.clone())
    }

    /// Formats a row for each file, and one for each type that was asked for and has no resources. Returns an empty text without rows.
    fn table(&self) -> String {
        let found = self.types();
        let without: Vec<String> =
            requested_types(self.manifest, "_type").into_iter().filter(|kind| !found.contains(kind.as_str())).collect();
        // A file of blocks has any type.
        let without = if self.manifest.organized_by.is_some() { Vec::new() } else { without };
        if self.files.is_empty() && without.is_empty() {
            return String::new();
        }
        let names = self.files.iter().map(|file| &file.name).chain(&without);
        let width = names.map(String::len).max().unwrap_or_default().max(4);
        let mut output = format!("{:width$}  {:>12}  {:>10}\n", "FILE", "RESOURCES", "SIZE");
        for file in self.files {
            // Both are formatted first, because they ignore the width. Only files with resources have a number in this column.
            let count = if file.list == FileList::Output { HumanCount(file.lines).to_string() } else { "-".to_owned() };
            let size = DecimalBytes(file.bytes).to_string();
            output += &format!("{:width$}  {count:>12}  {size:>10}\n", file.name);
        }
        for kind in without {
            output += &format!("{kind:width$}  {:>12}  {:>10}\n", 0, "-");
        }
        output
    }

    /// Formats the numbers of resources, types, files and deletions, and the size.
    fn totals(&self) -> String {
        let types = match self.types().len() as u64 {
            0 => String::new(),
            count => format!(" of {}", human_counted(count, "type", "types")),
        };
        let files = self.files.iter().filter(|file| file.list == FileList::Output).count() as u64;
        let resources = human_counted(self.resources(), "resource", "resources");
        let deletions = match self.deletions {
            0 => String::new(),
            count => format!(" and {}", human_counted(count, "deletion", "deletions")),
        };
        match files {
            // Files of errors and deletions have rows in the table, too.
            0 => format!("{resources}{deletions}"),
            _ => format!("{resources}{types} in {}{deletions}, {}", human_counted(files, "file", "files"), DecimalBytes(self.bytes())),
        }
    }

    /// Returns the lines for standard error: what is missing, and what is worth knowing.
    ///
    /// * `is_quiet`: leaves out what only informs.
    pub(crate) fn remarks(&self, is_quiet: bool) -> Vec<String> {
        let own = || self.unfiltered_types().into_iter().chain(self.files_without_time());
        let information = || own().chain(self.texts(OutcomeSeverity::Information, "note"));
        let mut remarks: Vec<String> = if is_quiet { Vec::new() } else { information().collect() };
        remarks.extend(self.texts(OutcomeSeverity::Warning, "warning"));
        remarks.extend(self.unrequested_types());
        if let Some((file, more)) = self.outcomes.files(OutcomeSeverity::Error) {
            let files =
                if more == 0 { file.to_owned() } else { format!("{file} and {}", counted(more as u64, "other file", "other files")) };
            remarks.push(format!(
                "attention: {} in {files}: {}. The export is complete except for what they report",
                human_counted(self.outcomes.count(OutcomeSeverity::Error), "error", "errors"),
                self.codes(OutcomeSeverity::Error),
            ));
        }
        remarks
    }

    /// Returns the texts of a severity, and how many outcomes are not shown.
    fn texts(&self, severity: OutcomeSeverity, label: &str) -> Vec<String> {
        let mut lines: Vec<String> = self.outcomes.texts(severity).map(|text| format!("{label}: {text}")).collect();
        let count = self.outcomes.count(severity);
        if let Some((file, _)) = self.outcomes.files(severity)
            && count > lines.len() as u64
        {
            let all = human_counted(count, "outcome", "outcomes");
            lines.push(format!(
                "{label}: {all} of severity {severity} in all, in {file}: {}",
                self.codes(severity),
                severity = severity.as_str()
            ));
        }
        lines
    }

    /// Formats the counts of a severity by code.
    fn codes(&self, severity: OutcomeSeverity) -> String {
        let counts = self.outcomes.counts().into_iter().filter(|count| count.severity == severity);
        let codes: Vec<String> = counts.map(|count| format!("{} {}", HumanCount(count.count), count.code)).collect();
        codes.join(", ")
    }

    /// Names the types that the server has exported although the request does not name them. A file of blocks has any type.
    fn unrequested_types(&self) -> Option<String> {
        let requested = self.types.filter(|_| self.manifest.organized_by.is_none())?;
        let others: Vec<&str> = self.types().into_iter().filter(|kind| !requested.contains(*kind)).collect();
        let text = "attention: the server has exported types that were not requested";
        (!others.is_empty())
            .then(|| format!("{text}: {}. Their files are in {}", others.join(", "), printable(&self.out.to_string_lossy())))
    }

    /// Says how many types are exported whole although the request has a filter, if it does not list types.
    fn unfiltered_types(&self) -> Option<String> {
        let filtered = requested_types(self.manifest, "_typeFilter");
        if filtered.is_empty() || !requested_types(self.manifest, "_type").is_empty() {
            return None;
        }
        let whole = self.types().iter().filter(|kind| !filtered.iter().any(|name| name == *kind)).count() as u64;
        let types: Vec<&str> = filtered.iter().map(String::as_str).collect();
        let text = counted(whole, "type is not filtered and is exported whole", "types are not filtered and are exported whole");
        (whole > 0).then(|| format!("note: {text}; add --type {} to export only what the filter selects", types.join(",")))
    }

    /// Says that an export with `_since` has resources without a time, if the first resource of a file has none: `_since` cannot exclude
    /// them. De-identification and `_elements` may have removed the time, and blocks of patients begin with something else.
    fn files_without_time(&self) -> Option<String> {
        let has = |parameter: &str| query(self.manifest).split('&').any(|pair| pair.split('=').next() == Some(parameter));
        let is_unknown = has("_elements") || has("_anonymizationConfig") || self.manifest.organized_by.is_some();
        if !has("_since") || is_unknown {
            return None;
        }
        let without: Vec<&DownloadedFile> = self.output().filter(|file| starts_without_time(&file.path)).collect();
        let first = without.first()?;
        let others = match without.len() as u64 - 1 {
            0 => String::new(),
            count => format!(" and {}", counted(count, "other file", "other files")),
        };
        Some(format!(
            "note: resources without a meta.lastUpdated are in every export, whatever --since is: such as the first one in {}{others}",
            first.name
        ))
    }

    /// Returns the types of the files with resources. A file of blocks has none.
    fn types(&self) -> BTreeSet<&str> {
        self.output().filter_map(|file| file.resource_type.as_deref()).collect()
    }

    /// Returns the number of resources.
    fn resources(&self) -> u64 {
        self.output().map(|file| file.lines).sum()
    }

    /// Returns the size of the files with resources, in bytes.
    fn bytes(&self) -> u64 {
        self.output().map(|file| file.bytes).sum()
    }

    /// Returns the files with resources.
    fn output(&self) -> impl Iterator<Item = &DownloadedFile> {
        self.files.iter().filter(|file| file.list == FileList::Output)
    }
}

/// Returns true if the first line of a file is a resource without a time.
fn starts_without_time(path: &Path) -> bool {
    let mut line = Vec::new();
    let read = open_lines(path).and_then(|file| file.take(LINE_LIMIT_BYTES as u64).read_until(b'\n', &mut line));
    read.is_ok() && !line.trim_ascii().is_empty() && !has_time(&line)
}

/// Returns the query of the kick-off.
fn query(manifest: &Manifest) -> &str {
    manifest.request.as_deref().and_then(|request| request.split_once('?')).map_or("", |(_, query)| query)
}

/// Returns the resource types that a parameter of the kick-off names, in their order. `_typeFilter` names them before the question mark.
fn requested_types(manifest: &Manifest, parameter: &str) -> Vec<String> {
    let values = query(manifest).split('&').filter_map(|pair| pair.split_once('=')).filter(|(name, _)| *name == parameter);
    let decoded = values.map(|(_, value)| percent_decode_str(value).decode_utf8_lossy().into_owned());
    let mut types = BTreeMap::new();
    for value in decoded {
        for part in value.split(',') {
            let kind = part.split('?').next().unwrap_or_default().trim();
            let is_type =
                kind.starts_with(|first: char| first.is_ascii_uppercase()) && kind.bytes().all(|byte| byte.is_ascii_alphanumeric());
            // Values of a filter may have commas of their own.
            if is_type && (parameter == "_type" || part.contains('?')) {
                let position = types.len();
                types.entry(kind.to_owned()).or_insert(position);
            }
        }
    }
    let mut types: Vec<_> = types.into_iter().collect();
    types.sort_by_key(|(_, position)| *position);
    types.into_iter().map(|(kind, _)| kind).collect()
}

/// Returns the values of `_until` and its other name in the kick-off.
fn requested_until(manifest: &Manifest) -> Vec<String> {
    let values = query(manifest).split('&').filter_map(|pair| pair.split_once('=')).filter(|(name, _)| matches!(*name, "_until" | "_till"));
    values.map(|(_, value)| percent_decode_str(value).decode_utf8_lossy().into_owned()).collect()
}

/// Returns a count, with separators of thousands, and the words that follow it.
fn human_counted(count: u64, one: &str, many: &str) -> String {
    format!("{} {}", HumanCount(count), if count == 1 { one } else { many })
}

/// Returns a rate per second, rounded down.
fn per_second(count: u64, time: Duration) -> u64 {
    let millis = time.as_millis().max(1);
    u64::try_from(u128::from(count) * 1_000 / millis).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    /// Returns a file of the output directory.
    fn file(name: &str, resource_type: Option<&str>, list: FileList, lines: u64, bytes: u64) -> DownloadedFile {
        let path = PathBuf::from(name);
        DownloadedFile { name: name.to_owned(), resource_type: resource_type.map(str::to_owned), path, bytes, lines, list }
    }

    /// Returns the result and the remarks of an export.
    fn report(members: &str, files: &[DownloadedFile], deletions: u64, outcomes: &[&str]) -> (String, Vec<String>) {
        let manifest = format!(r#"{{"transactionTime":"2026-01-01T00:00:00Z","requiresAccessToken":false,"output":[]{members}}}"#);
        let manifest = Manifest::parse(manifest.as_bytes(), &|_| Err(String::new())).unwrap();
        let mut read = Outcomes::default();
        outcomes.iter().for_each(|line| read.add(line.as_bytes(), "error/OperationOutcome-1.ndjson"));
        let (export_time, total_time) = (Duration::from_secs(1), Duration::from_secs(2));
        let out = Path::new("out");
        let report =
            Report { manifest: &manifest, files, deletions, outcomes: &read, out, until: None, types: None, export_time, total_time };
        (report.result(), report.remarks(false))
    }

    #[test]
    fn numbers_are_readable() {
        let patients = file("Patient-1.ndjson", Some("Patient"), FileList::Output, 1_234_567, 64_000_000);
        let (result, remarks) = report("", &[patients], 0, &[]);
        assert_eq!(
            result,
            "FILE                 RESOURCES        SIZE\n\
             Patient-1.ndjson     1,234,567    64.00 MB\n\
             \n\
             1,234,567 resources of 1 type in 1 file, 64.00 MB, in out\n\
             took 2.00 s: export 1.00 s, download 1.00 s; 32.00 MB/s, 617,283 resources/s\n\
             to export only later changes next time: --since 2026-01-01T00:00:00Z\n"
        );
        assert!(remarks.is_empty());
    }

    #[test]
    fn the_next_increment_starts_before_the_end_of_an_export_of_a_period() {
        for (until, expected) in [
            ("2025-06-01T00:00:00Z", "2025-05-31T23:59:59.999Z"),
            ("2025-06-01", "2025-05-31T23:59:59.999Z"),
            ("2025-06-01T02:00:00%2B02:00", "2025-05-31T23:59:59.999Z"),
            ("2026-01-01T00:00:00Z", "2025-12-31T23:59:59.999Z"),
            ("2026-01-01T00:00:00.001Z", "2026-01-01T00:00:00Z"),
        ] {
            for name in ["_until", "_till"] {
                let (result, _) = report(&format!(r#","request":"http://h/$export?_type=Patient&{name}={until}""#), &[], 0, &[]);
                assert!(result.ends_with(&format!("next time: --since {expected}\n")), "{until}: {result}");
            }
        }
    }

    #[test]
    fn deletions_and_outcomes_are_not_resources_and_a_requested_type_without_resources_has_a_row() {
        let files = [
            file("Patient-1.ndjson", Some("Patient"), FileList::Output, 1, 10),
            file("deleted/Bundle-1.ndjson", Some("Bundle"), FileList::Deleted, 1, 20),
            file("error/OperationOutcome-1.ndjson", Some("OperationOutcome"), FileList::Error, 3, 30),
        ];
        let request = r#","request":"http://h/fhir/$export?_type=Observation,Patient&_type=Encounter""#;
        let (result, _) = report(request, &files, 1, &[]);
        let expected = [
            "Patient-1.ndjson                            1        10 B",
            "deleted/Bundle-1.ndjson                     -        20 B",
            "error/OperationOutcome-1.ndjson             -        30 B",
            "Observation                                 0           -",
            "Encounter                                   0           -",
            "1 resource of 1 type in 1 file and 1 deletion, 10 B, in out",
        ];
        for line in expected {
            assert!(result.lines().any(|found| found == line), "`{line}` is not in\n{result}");
        }
    }

    #[test]
    fn blocks_of_patients_have_no_number_of_types() {
        let files = [file("Patient-1.ndjson", None, FileList::Output, 429, 10)];
        let (result, _) = report(r#","outputOrganizedBy":"Patient","request":"http://h/$export?_type=Patient""#, &files, 0, &[]);
        assert!(result.contains("\n429 resources in 1 file, 10 B, in out\n") && !result.contains("\nPatient  "), "{result}");
        let (result, _) = report("", &[], 0, &[]);
        assert!(result.starts_with("0 resources, in out\ntook "), "{result}");
        let error = [file("error/OperationOutcome-1.ndjson", Some("OperationOutcome"), FileList::Error, 3, 30)];
        let (result, _) = report("", &error, 0, &[]);
        assert!(result.contains("30 B\n\n0 resources, in out\n"), "{result}");
    }

    #[test]
    fn remarks_have_the_severity_the_codes_and_the_name_of_the_file() {
        let outcome = |severity: &str, code: &str, text: &str| {
            format!(r#"{{"issue":[{{"severity":"{severity}","code":"{code}","diagnostics":"{text}"}}]}}"#)
        };
        let lines = [
            outcome("information", "informational", "2 changes were left out"),
            outcome("warning", "value", "1 resource was left out"),
            outcome("error", "structure", "no JSON"),
            outcome("error", "structure", "no id"),
            outcome("error", "processing", "not de-identified"),
        ];
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        assert_eq!(
            report("", &[], 0, &lines).1,
            [
                "note: 2 changes were left out",
                "warning: 1 resource was left out",
                "attention: 3 errors in error/OperationOutcome-1.ndjson: 2 structure, 1 processing. The export is complete except for what they report",
            ]
        );
        assert_eq!(report("", &[], 0, &lines[..1]).1, ["note: 2 changes were left out"]);
        let many: Vec<String> = (0..9).map(|number| outcome("warning", "value", &number.to_string())).collect();
        let (_, remarks) = report("", &[], 0, &many.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(remarks.last().unwrap(), "warning: 9 outcomes of severity warning in all, in error/OperationOutcome-1.ndjson: 9 value");
    }

    #[test]
    fn types_that_a_filter_does_not_select_are_reported() {
        let files =
            ["Patient", "Observation", "Encounter"].map(|kind| file(&format!("{kind}-1.ndjson"), Some(kind), FileList::Output, 1, 1));
        let remarks = |query: &str| report(&format!(r#","request":"http://h/$export?{query}""#), &files, 0, &[]).1;
        let filter = "_typeFilter=Observation%3Fcode%3Da%2CEncounter,b";
        assert_eq!(
            remarks(filter),
            ["note: 2 types are not filtered and are exported whole; add --type Observation to export only what the filter selects"]
        );
        assert_eq!(remarks(&format!("{filter}&_type=Observation,Patient")), [""; 0]);
        assert_eq!(remarks("_since=2026-01-01"), [""; 0]);
    }

    #[test]
    fn resources_without_a_time_in_an_increment_are_reported() {
        let folder = tempfile::tempdir().unwrap();
        let written = |name: &str, meta: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, format!("{{\"resourceType\":\"Patient\",\"id\":\"p\"{meta}}}\n")).unwrap();
            DownloadedFile { path, ..file(name, Some("Patient"), FileList::Output, 1, 1) }
        };
        let path = folder.path().join("Patient-4.ndjson.gz");
        let mut encoder = flate2::write::GzEncoder::new(std::fs::File::create(&path).unwrap(), flate2::Compression::fast());
        std::io::Write::write_all(&mut encoder, b"{\"resourceType\":\"Patient\",\"id\":\"p\"}\n").unwrap();
        encoder.finish().unwrap();
        let packed = DownloadedFile { path, ..file("Patient-4.ndjson.gz", Some("Patient"), FileList::Output, 1, 1) };
        let files = [
            written("Patient-1.ndjson", r#","meta":{"lastUpdated":"2026-01-02T00:00:00Z"}"#),
            written("Patient-2.ndjson", ""),
            written("Patient-3.ndjson", r#","meta":{"versionId":"1"}"#),
            packed,
        ];
        let remarks = |members: &str| report(members, &files, 0, &[]).1;
        assert_eq!(
            remarks(r#","request":"http://h/$export?_since=2026-01-01""#),
            [
                "note: resources without a meta.lastUpdated are in every export, whatever --since is: such as the first one in Patient-2.ndjson and 2 other files"
            ]
        );
        for members in [
            r#","request":"http://h/$export""#,
            r#","request":"http://h/$export?_since=2026-01-01&_elements=id""#,
            r#","request":"http://h/$export?_since=2026-01-01&_anonymizationConfig=a.json""#,
        ] {
            assert_eq!(remarks(members), [""; 0], "{members}");
        }
    }
}
