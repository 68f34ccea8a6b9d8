//! The manifest of an export: the period whose changes the export has, and whether its files are all there.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Read as _;
use std::sync::Arc;

use headrace_core::vocab::byte_order_mark::without_byte_order_mark;
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::Value;

use super::AddError;
use super::completeness::{BEGINNING, Completeness, period_end, period_start};
use super::input::InputFile;
use crate::progress::Progress;

/// The largest manifest that is read, in bytes.
const MANIFEST_LIMIT_BYTES: u64 = 64 << 20;

/// The parameters of a request that do not change which resources are exported.
const NEUTRAL_PARAMETERS: [&str; 6] = ["_outputFormat", "_format", "_pretty", "_container", "_encryptionKey", "_isParallel"];

/// The values of `includeAssociatedData` that only add something. Others select Provenance resources.
const ADDED_DATA: [&str; 2] = ["_deleted", "_history"];

/// The manifest of an export.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Manifest {
    transaction_time: Option<String>,
    request: Option<Value>,
    /// The program that has written the manifest, if it is not a server.
    format: Option<Value>,
    output: Option<Vec<ManifestFile>>,
    deleted: Option<Vec<ManifestFile>>,
    error: Option<Vec<ManifestFile>>,
    link: Option<Vec<Value>>,
}

/// A file of a manifest.
#[derive(Debug, Deserialize)]
struct ManifestFile {
    #[serde(default)]
    url: String,
    count: Option<u64>,
}

/// A file of the input that was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct FileLines {
    /// The last segment of its name.
    pub(super) name: String,
    /// The number of lines that are not blank.
    pub(super) lines: u64,
    /// The number of lines that belong to a lake and are not valid.
    pub(super) lost: u64,
}

impl ManifestFile {
    /// Returns the last segment of the URL, which is often the name of the downloaded file.
    fn file_name(&self) -> &str {
        let path = self.url.split(['?', '#']).next().unwrap_or_default();
        path.rsplit('/').next().unwrap_or_default()
    }

    /// Returns the last segment of the URL without percent-encoding.
    fn decoded_name(&self) -> Cow<'_, str> {
        percent_decode_str(self.file_name()).decode_utf8_lossy()
    }
}

impl Manifest {
    /// Reads a manifest.
    pub(super) fn read(file: &InputFile) -> Result<Self, AddError> {
        let mut bytes = Vec::new();
        let opened = file.open(&Arc::new(Progress::default()));
        let read = opened.and_then(|reader| reader.take(MANIFEST_LIMIT_BYTES).read_to_end(&mut bytes));
        read.map_err(|cause| file.read_error(cause))?;
        serde_json::from_slice(without_byte_order_mark(&bytes)).map_err(|error| AddError::Input {
            file: file.name.clone(),
            reason: format!("it is not the manifest of an export: line {}, column {}", error.line(), error.column()),
        })
    }

    /// Returns true if the manifest has the time of the export. Without it, it says nothing about a lake.
    pub(super) fn has_time(&self) -> bool {
        self.transaction_time.is_some()
    }

    /// Returns true if a file with this name has errors of the export, and no resources.
    pub(super) fn lists_error(&self, name: &str) -> bool {
        self.error.iter().flatten().any(|listed| stem(&listed.decoded_name()) == stem(name)) && !self.lists(name)
    }

    /// Returns the name of a file with errors that is not among these files, unless the manifest says that it is empty.
    pub(super) fn missing_error_file(&self, files: &[&InputFile]) -> Option<String> {
        let is_there = |name: &str| files.iter().any(|file| stem(file.file_name()) == stem(name));
        let mut names = self.error.iter().flatten().filter(|listed| listed.count != Some(0)).map(ManifestFile::decoded_name);
        names.find(|name| !is_there(name)).map(Cow::into_owned)
    }

    /// Returns the files with resources and deletions.
    fn data_files(&self) -> impl Iterator<Item = &ManifestFile> {
        self.output.iter().chain(&self.deleted).flatten()
    }

    /// Returns true if a file with this name has resources or deletions of the export.
    pub(super) fn lists(&self, name: &str) -> bool {
        self.data_files().any(|listed| stem(&listed.decoded_name()) == stem(name))
    }

    /// Returns the period whose changes the export has. Fails if the manifest does not show that the export has all of them.
    pub(super) fn period(&self) -> Result<Completeness, String> {
        let mut up_to = self
            .transaction_time
            .as_deref()
            .and_then(period_end)
            .ok_or("the transactionTime of the manifest is not an instant with a time zone")?;
        let is_next = |link: &Value| link.get("relation").and_then(Value::as_str) == Some("next");
        if self.link.iter().flatten().any(is_next) {
            return Err("the manifest has a link to its next page, so other files of the export are missing".to_owned());
        }
        let request = self.request.as_ref().and_then(Value::as_str);
        let request = request.ok_or("the manifest has no request, which says what was exported")?;
        check_level(request)?;
        let mut after = BEGINNING;
        for (name, value) in parameters(request) {
            match name.as_str() {
                "_since" => {
                    let start = period_start(&value).ok_or("the _since of the export is not an instant with a time zone")?;
                    after = after.max(start);
                }
                "_until" | "_till" => {
                    let end = period_end(&value).ok_or_else(|| format!("the {name} of the export is not an instant with a time zone"))?;
                    up_to = up_to.min(end);
                }
                // The program that exports has joined the pages.
                "allowPartialManifests" if value == "false" || self.has_all_pages() => {}
                "allowPartialManifests" => return Err("the manifest may be one of several pages of an export".to_owned()),
                "includeAssociatedData" if value.split(',').all(|data| ADDED_DATA.contains(&data)) => {}
                _ if NEUTRAL_PARAMETERS.contains(&name.as_str()) => {}
                _ => return Err(format!("the export has only what its parameter {name} selects")),
            }
        }
        Ok(Completeness::Period { after, up_to })
    }

    /// Returns true if `headrace export` has written the manifest.
    fn has_all_pages(&self) -> bool {
        self.format.as_ref().and_then(Value::as_str).is_some_and(|format| format.starts_with("headrace export "))
    }

    /// Checks that the files that the manifest lists are there, with as many lines as it promises. A file that has another name now is
    /// found by its count.
    pub(super) fn check_files(&self, files: &[FileLines]) -> Result<(), String> {
        let mut by_name = BTreeMap::<&str, Vec<u64>>::new();
        files.iter().for_each(|file| by_name.entry(stem(&file.name)).or_default().push(file.lines));
        let mut renamed = Vec::new();
        for listed in self.data_files() {
            let name = listed.decoded_name();
            let found = by_name.get_mut(stem(&name)).filter(|found| !found.is_empty());
            let Some(found) = found else {
                renamed.push((name, listed.count));
                continue;
            };
            // Of several files with one name, any that has the right count will do.
            let index = found.iter().position(|lines| listed.count.is_none_or(|count| count == *lines));
            let lines = found.remove(index.unwrap_or_default());
            if let Some(count) = listed.count.filter(|count| *count != lines) {
                return Err(format!("the manifest promises {count} resources in `{name}`, and the file has {lines}"));
            }
        }
        let mut rest: Vec<u64> = by_name.into_values().flatten().collect();
        for (name, count) in renamed {
            let index = rest.iter().position(|lines| count == Some(*lines));
            let index = index.ok_or_else(|| match count {
                Some(count) => format!("the manifest lists `{name}` with {count} resources, which is not among the files"),
                None => format!("the manifest lists `{name}`, which is not among the files"),
            })?;
            rest.remove(index);
        }
        Ok(())
    }
}

/// Returns the name of a file without the endings that say how it is stored.
fn stem(name: &str) -> &str {
    let name = [".gz", ".zst"].iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(name);
    [".ndjson", ".jsonl", ".json"].iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(name)
}

/// Checks that a request exports the whole system, and not only patients or a group.
fn check_level(request: &str) -> Result<(), String> {
    let path = request.split(['?', '#']).next().unwrap_or_default();
    let path = percent_decode_str(path).decode_utf8_lossy();
    let mut segments = path.trim_end_matches('/').rsplit('/');
    if segments.next() != Some("$export") {
        return Err("the request in the manifest is not an $export".to_owned());
    }
    match (segments.next(), segments.next()) {
        (Some("Patient"), _) => Err("the export has only what belongs to patients".to_owned()),
        (Some(_), Some("Group")) => Err("the export has only what belongs to a group of patients".to_owned()),
        _ => Ok(()),
    }
}

/// Returns the names and values of the parameters of a URL.
fn parameters(url: &str) -> impl Iterator<Item = (String, String)> {
    let query = url.split('#').next().and_then(|url| url.split_once('?')).map_or("", |(_, query)| query);
    // A plus sign that was not encoded may belong to a time zone.
    let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    query.split('&').filter(|pair| !pair.is_empty()).map(move |pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(name), decode(value))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn period(request: &str, more: &Value) -> Result<Completeness, String> {
        let mut manifest = json!({ "transactionTime": "2026-11-29T08:00:00Z", "request": request, "output": null });
        manifest.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value::<Manifest>(manifest).unwrap().period()
    }

    #[test]
    fn an_export_of_everything_has_all_changes_of_its_period() {
        let none = json!({});
        let of_input = |after: Option<&str>, up_to: &str| {
            Ok(Completeness::Period { after: after.and_then(period_end).unwrap_or(BEGINNING), up_to: period_end(up_to).unwrap() })
        };
        let time = "2026-11-29T08:00:00Z";
        assert_eq!(period("https://h/fhir/$export", &none), of_input(None, time));
        assert_eq!(
            period("https://h/%24export/?_outputFormat=ndjson&allowPartialManifests=false&includeAssociatedData=_deleted", &none),
            of_input(None, time)
        );
        assert_eq!(period("https://h/$export?_since=2026-11-27T01%3A00%3A00%2B01:00", &none), of_input(Some("2026-11-27T00:00:00Z"), time));
        assert_eq!(period("https://h/$export?_since=1970-01-01T00:00:00Z", &none), of_input(None, time));
        assert_eq!(period("https://h/$export?_until=2026-11-20T00:00:00Z", &none), of_input(None, "2026-11-20T00:00:00Z"));
        assert_eq!(period("https://h/$export?_until=2027-11-20T00:00:00Z", &none), of_input(None, time));
        let own = json!({ "format": "headrace export 1", "link": [] });
        assert_eq!(period("https://h/$export?allowPartialManifests=true", &own), of_input(None, time));
    }

    #[test]
    fn an_export_of_a_part_is_not_taken_for_one_of_everything() {
        let none = json!({});
        for (request, more, words) in [
            ("https://h/$export?_type=Patient", &none, "_type"),
            ("https://h/$export?_typeFilter=Patient%3Factive=true", &none, "_typeFilter"),
            ("https://h/$export?_elements=id", &none, "_elements"),
            ("https://h/$export?patient=Patient/1", &none, "patient"),
            ("https://h/$export?organizeOutputBy=Patient", &none, "organizeOutputBy"),
            ("https://h/$export?includeAssociatedData=_deleted,LatestProvenanceResources", &none, "includeAssociatedData"),
            ("https://h/Patient/$export", &none, "patients"),
            ("https://h/Group/7/$export?_since=2026-11-27T00:00:00Z", &none, "group"),
            ("https://h/$import", &none, "not an $export"),
            ("https://h/$export?_since=2026-11-27", &none, "_since"),
            ("https://h/$export?_since=2026-11-27T00:00:00", &none, "_since"),
            ("https://h/$export?_since=", &none, "_since"),
            ("https://h/$export?_until=2026-11-27T00:00:00", &none, "_until"),
            ("https://h/$export?_until=now", &none, "_until"),
            ("https://h/$export?allowPartialManifests=true", &none, "pages"),
            ("https://h/$export", &json!({ "link": [{ "relation": "next", "url": "x" }] }), "next page"),
            ("https://h/$export", &json!({ "request": null }), "no request"),
            ("https://h/$export", &json!({ "transactionTime": "2026-11-29" }), "transactionTime"),
            ("https://h/$export", &json!({ "transactionTime": "2026-11-29T08:00:00" }), "transactionTime"),
        ] {
            let problem = period(request, more).unwrap_err();
            assert!(problem.contains(words), "`{words}` is not in: {problem}");
        }
    }

    #[test]
    fn each_file_must_be_there_with_its_count_whatever_its_name_is() {
        let check = |output: Value, files: &[(&str, u64)]| {
            let manifest = json!({ "transactionTime": "", "output": output, "deleted": [{ "url": "https://h/d.ndjson" }] });
            let mut files: Vec<_> =
                files.iter().map(|(name, lines)| FileLines { name: (*name).to_owned(), lines: *lines, lost: 0 }).collect();
            files.push(FileLines { name: "d.ndjson.gz".to_owned(), lines: 1, lost: 0 });
            serde_json::from_value::<Manifest>(manifest).unwrap().check_files(&files)
        };
        let named = json!([{ "url": "https://h/a.ndjson?sig=1", "count": 2 }, { "url": "https://h/b" }]);
        assert_eq!(check(named.clone(), &[("b.jsonl", 9), ("a.ndjson.zst", 2)]), Ok(()));
        assert!(check(named.clone(), &[("b.jsonl", 9), ("a.ndjson", 3)]).unwrap_err().contains("promises 2 resources in `a.ndjson`"));
        assert!(check(named, &[("a.ndjson", 2), ("c.ndjson", 9)]).unwrap_err().contains("lists `b`"));
        let same = json!([{ "url": "https://h/1/a", "count": 2 }, { "url": "https://h/2/a", "count": 3 }]);
        assert_eq!(check(same.clone(), &[("a.ndjson", 3), ("a.ndjson", 2)]), Ok(()));
        assert!(check(same.clone(), &[("a.ndjson", 3)]).is_err());
        assert_eq!(check(same.clone(), &[("x.ndjson", 3), ("y.ndjson", 2)]), Ok(()), "both were renamed");
        assert!(check(same, &[("x.ndjson", 5)]).is_err(), "one is missing");
        assert!(check(json!([]), &[]).is_ok());
    }
}
