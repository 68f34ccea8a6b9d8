//! The manifest of a finished export, validated.

use std::collections::BTreeSet;
use std::time::Duration;

use headrace_core::output::usage_report::UsageReport;
use headrace_core::vocab::byte_order_mark::without_byte_order_mark;
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::plural::counted;
use headrace_fhir::instant::Instant;
use reqwest::Url;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, Unexpected};
use serde_json::{Map, Number, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::client::checksum::Checksum;
use crate::terminal::shorten;

/// The members of a manifest that a download needs.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// The `_since` value of a following incremental export.
    pub transaction_time: String,
    /// The kick-off, as the server repeats it.
    pub request: Option<String>,
    /// False if file requests must not have the access token. `None` if the server does not say.
    pub requires_access_token: Option<bool>,
    /// Type of the resources that the blocks of the files belong to.
    pub organized_by: Option<String>,
    /// Files with resources.
    pub output: Vec<ManifestFile>,
    /// Files with deletions.
    pub deleted: Vec<ManifestFile>,
    /// Files with OperationOutcomes.
    pub error: Vec<ManifestFile>,
    /// Extensions, among them the watermark of the lake if the server is Headrace.
    pub extension: Value,
    /// URL of the next page.
    pub(crate) next: Option<Url>,
    /// Time of the answer by the server's clock.
    pub(crate) server_time: Option<Millis>,
    /// Oddities that do not prevent the download.
    pub warnings: Vec<String>,
}

/// A file in a manifest.
#[derive(Clone, Debug)]
pub struct ManifestFile {
    /// Resource type of its lines; `None` if the lines have several types.
    pub resource_type: Option<String>,
    /// Absolute URL of the file.
    pub url: String,
    /// Number of resources.
    pub count: Option<u64>,
    /// Size in bytes.
    pub size: Option<u64>,
    /// Checksum of its bytes.
    pub checksum: Option<Checksum>,
}

/// A manifest as the server sends it. All members are optional, so that an error can say which is missing.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawManifest {
    transaction_time: Option<String>,
    request: Option<String>,
    requires_access_token: Option<bool>,
    output_organized_by: Option<String>,
    output: Option<Vec<RawFile>>,
    deleted: Option<Vec<RawFile>>,
    error: Option<Vec<RawFile>>,
    // 4.0.0-ballot renames `error`.
    outcome: Option<Vec<RawFile>>,
    link: Option<Vec<RawLink>>,
    #[serde(default)]
    extension: Value,
}

/// A link of a manifest, not validated yet.
#[derive(Deserialize)]
struct RawLink {
    relation: Option<String>,
    url: Option<String>,
}

/// A file of a manifest, not validated yet.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawFile {
    #[serde(rename = "type")]
    resource_type: Option<String>,
    url: Option<String>,
    #[serde(default, deserialize_with = "whole_number")]
    count: Option<u64>,
    continues_in_file: Option<String>,
    #[serde(flatten)]
    other: Map<String, Value>,
}

/// Difference between two clocks that is not worth a word.
const CLOCK_DIFFERENCE: Duration = Duration::from_secs(300);

/// Deserializes a whole number. JSON has one type of numbers, so 2.0 is one.
fn whole_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let Some(number) = Option::<Number>::deserialize(deserializer)? else { return Ok(None) };
    let whole = || number.as_f64().filter(|number| number.fract().abs() <= 0.0).and_then(|number| format!("{number:.0}").parse().ok());
    let invalid = || D::Error::invalid_value(Unexpected::Other("another number"), &"a number of resources");
    number.as_u64().or_else(whole).map(Some).ok_or_else(invalid)
}

/// Longest URL that is kept, in bytes.
const MAX_URL_BYTES: usize = 16 << 10;

/// Failure to read a manifest.
#[derive(Debug)]
pub(crate) enum ManifestError {
    /// The body is not JSON.
    NotJson(String),
    /// A member is missing or invalid.
    Invalid(String),
}

impl Manifest {
    /// Reads and validates a manifest page.
    ///
    /// * `resolve`: returns the URL that the server names, or the reason why it is not used.
    pub(crate) fn parse(body: &[u8], resolve: &impl Fn(&str) -> Result<Url, String>) -> Result<Self, ManifestError> {
        let raw: RawManifest = serde_json::from_slice(without_byte_order_mark(body)).map_err(|error| {
            let text = shorten(&error.to_string(), 300);
            // It is JSON, and no other attempt would bring less of it.
            if error.is_data() || text.contains("recursion limit") {
                ManifestError::Invalid(format!("its manifest is invalid: {text}"))
            } else {
                ManifestError::NotJson(text)
            }
        })?;
        raw.validate(resolve).map_err(|problem| ManifestError::Invalid(format!("in its manifest, {problem}")))
    }

    /// Adds the files of the next page.
    pub(crate) fn add_page(&mut self, page: Self) -> Result<(), String> {
        if page.transaction_time != self.transaction_time {
            return Err("the pages of its manifest have different values of `transactionTime`".to_owned());
        }
        self.output.extend(page.output);
        self.deleted.extend(page.deleted);
        // Every page repeats the files of `error`.
        let known: BTreeSet<String> = self.error.iter().map(|file| file.url.clone()).collect();
        self.error.extend(page.error.into_iter().filter(|file| !known.contains(&file.url)));
        self.next = page.next;
        Ok(())
    }

    /// Describes why the data is complete up to `transaction_time`. Returns an empty text if the server does not say.
    pub fn describe_watermark(&self) -> String {
        let text = |name: &str| self.extension.get("urn:headrace:watermark").and_then(|entry| entry.get(name)?.as_str());
        match text("rule") {
            Some("object") => " (the lake is complete up to then, as its _headrace/watermark.json says)".to_owned(),
            Some("delay") => " (the lake is complete up to then, as the server's watermark, a delay, says)".to_owned(),
            Some("arrival") => " (includes what arrives later, as the server's watermark is arrival)".to_owned(),
            Some(_) | None => String::new(),
        }
    }

    /// Returns the SHA-256 of the anonymization configuration, if the server is Headrace and the export was de-identified.
    pub(crate) fn configuration_digest(&self) -> Option<&str> {
        self.extension.get("urn:headrace:anonymization-config")?.get("sha256")?.as_str()
    }

    /// Returns true if the time of the export is later than `now` and than the server's own clock, by more than clocks differ. The next
    /// incremental export would skip what changes until then.
    pub(crate) fn is_ahead_of_clocks(&self, now: Millis) -> bool {
        let time = Instant::parse(&self.transaction_time).ok().and_then(Millis::from_instant);
        let latest = self.server_time.map_or(now, |server_time| server_time.max(now));
        time.is_some_and(|time| time > latest + CLOCK_DIFFERENCE)
    }

    /// Returns what the export has used. `None` if the server does not say.
    pub fn usage(&self) -> Option<UsageReport> {
        UsageReport::deserialize(self.extension.get("urn:headrace:usage")?).ok()
    }

    /// Returns the number of its files.
    pub fn files(&self) -> usize {
        self.output.len() + self.deleted.len() + self.error.len()
    }
}

impl RawManifest {
    /// Checks all members.
    fn validate(self, resolve: &impl Fn(&str) -> Result<Url, String>) -> Result<Manifest, String> {
        let transaction_time = self.transaction_time.ok_or("`transactionTime` is missing")?;
        if !is_instant(&transaction_time) {
            return Err(format!("`transactionTime` is not an instant: `{}`", shorten(&transaction_time, 100)));
        }
        let mut warnings = Vec::new();
        let request = self.request.filter(|request| request.len() <= MAX_URL_BYTES);
        if request.is_none() {
            warnings.push("the manifest has no `request`".to_owned());
        }
        if let Some(kind) = self.output_organized_by.as_deref().filter(|kind| !is_type_name(kind)) {
            return Err(format!("`outputOrganizedBy` is not a resource type: `{}`", shorten(kind, 100)));
        }
        let output = self.output.ok_or("`output` is missing")?;
        let error = self.error.or(self.outcome).unwrap_or_default();
        let mut list = |name, files| validate_files(name, files, resolve, &mut warnings);
        let output = list("output", output)?;
        let deleted = list("deleted", self.deleted.unwrap_or_default())?;
        let error = list("error", error)?;
        Ok(Manifest {
            transaction_time,
            request,
            requires_access_token: self.requires_access_token,
            organized_by: self.output_organized_by,
            output,
            deleted,
            error,
            extension: self.extension,
            next: next_page(self.link.unwrap_or_default(), resolve)?,
            server_time: None,
            warnings,
        })
    }
}

/// Returns the URL of the next page.
fn next_page(links: Vec<RawLink>, resolve: &impl Fn(&str) -> Result<Url, String>) -> Result<Option<Url>, String> {
    let mut next = links.into_iter().filter(|link| link.relation.as_deref() == Some("next"));
    let Some(link) = next.next() else { return Ok(None) };
    if next.next().is_some() {
        return Err("`link` has more than one `next`".to_owned());
    }
    let url = link.url.ok_or("`link` has no `url`")?;
    resolve(&url).map(Some).map_err(|problem| format!("`link`: {problem}"))
}

/// Checks the files of one list. A file that is listed twice is kept once.
fn validate_files(
    list: &str,
    files: Vec<RawFile>,
    resolve: &impl Fn(&str) -> Result<Url, String>,
    warnings: &mut Vec<String>,
) -> Result<Vec<ManifestFile>, String> {
    let mut seen = BTreeSet::new();
    let mut valid = Vec::with_capacity(files.len());
    let (mut repeated, mut first_repeated) = (0, None);
    for (index, file) in files.into_iter().enumerate() {
        let file = validate_file(file, resolve).map_err(|problem| format!("`{list}[{index}]`{problem}"))?;
        if seen.insert(file.url.clone()) {
            valid.push(file);
        } else {
            (repeated, first_repeated) = (repeated + 1, first_repeated.or(Some(index)));
        }
    }
    // One warning for all: a page has room for hundreds of thousands of entries.
    if let Some(index) = first_repeated {
        let entries = counted(repeated, "entry", "entries");
        warnings
            .push(format!("the manifest repeats files in {entries} of `{list}`, first in `{list}[{index}]`; each file is downloaded once"));
    }
    Ok(valid)
}

/// Checks the members of a file.
fn validate_file(file: RawFile, resolve: &impl Fn(&str) -> Result<Url, String>) -> Result<ManifestFile, String> {
    if let Some(kind) = file.resource_type.as_deref().filter(|kind| !is_type_name(kind)) {
        return Err(format!(".type is not a resource type: `{}`", shorten(kind, 100)));
    }
    let url = file.url.ok_or(" has no `url`")?;
    if url.len() > MAX_URL_BYTES {
        return Err(".url is longer than 16 KiB".to_owned());
    }
    let url = resolve(&url).map_err(|problem| format!(".url: {problem}"))?;
    if let Some(next) = &file.continues_in_file {
        resolve(next).map_err(|problem| format!(".continuesInFile: {problem}"))?;
    }
    let size = member(&file.other, &["size", "fileSize"]);
    let size = size.map(|size| size.as_u64().ok_or(" has a size that is not a number of bytes")).transpose()?;
    Ok(ManifestFile {
        resource_type: file.resource_type,
        url: url.into(),
        count: file.count,
        size,
        checksum: member(&file.other, &["checksum", "sha256"]).map(Checksum::from_json).transpose()?.flatten(),
    })
}

/// Returns the first of these members of a file or of its `extension`, whose names may be URLs that end with them.
fn member<'f>(file: &'f Map<String, Value>, names: &[&str]) -> Option<&'f Value> {
    let extension = file.get("extension").and_then(Value::as_object);
    let members = file.iter().chain(extension.into_iter().flatten());
    members
        .filter(|(_, value)| !value.is_null())
        .find(|(key, _)| names.contains(&key.rsplit('/').next().unwrap_or(key)))
        .map(|(_, value)| value)
}

/// Returns true for the form of a resource type's name.
fn is_type_name(text: &str) -> bool {
    text.len() <= 64 && text.starts_with(|first: char| first.is_ascii_uppercase()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// Returns true for a FHIR instant: a date, a time to the second at least, and an offset.
fn is_instant(text: &str) -> bool {
    text.len() <= 64 && text.as_bytes().get(10) == Some(&b'T') && OffsetDateTime::parse(text, &Rfc3339).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses a manifest with these members in place of valid ones. `null` removes a member.
    fn parse(members: &str) -> Result<Manifest, String> {
        let mut manifest: Map<String, Value> = serde_json::from_str(
            r#"{"transactionTime":"2026-01-01T00:00:00Z","request":"https://h/$export","requiresAccessToken":false,"output":[],"error":[]}"#,
        )
        .unwrap();
        manifest.extend(serde_json::from_str::<Map<String, Value>>(members).unwrap());
        let base = Url::parse("https://h.example/status/1").unwrap();
        let resolve = |text: &str| base.join(text).map_err(|error| error.to_string());
        Manifest::parse(Value::Object(manifest).to_string().as_bytes(), &resolve).map_err(|error| match error {
            ManifestError::NotJson(text) | ManifestError::Invalid(text) => text,
        })
    }

    #[test]
    fn every_invalid_member_is_refused_by_name() {
        for (members, name) in [
            (r#"{"transactionTime":null}"#, "transactionTime"),
            (r#"{"transactionTime":"2026-01-01"}"#, "transactionTime"),
            (r#"{"transactionTime":"2026-01-01T00:00:00"}"#, "transactionTime"),
            (r#"{"transactionTime":"2026-01-01 00:00:00Z"}"#, "transactionTime"),
            (r#"{"transactionTime":"\u001b[2J"}"#, "transactionTime"),
            (r#"{"transactionTime":1}"#, "invalid type"),
            (r#"{"requiresAccessToken":"false"}"#, "invalid type"),
            (r#"{"output":null}"#, "output"),
            (r#"{"output":{}}"#, "invalid type"),
            (r#"{"output":[{"type":"Patient"}]}"#, "output[0]` has no `url`"),
            (r#"{"output":[{"type":"../Patient","url":"a"}]}"#, "output[0]`.type"),
            (r#"{"output":[{"type":"patient","url":"a"}]}"#, "output[0]`.type"),
            (r#"{"output":[{"type":"Patient","url":"a"},{"type":"Patient","url":"https://"}]}"#, "output[1]`.url"),
            (r#"{"output":[{"type":"Patient","url":"a","count":-1}]}"#, "invalid value"),
            (r#"{"output":[{"type":"Patient","url":"a","count":"7"}]}"#, "invalid type"),
            (r#"{"output":[{"type":"Patient","url":"a","count":1.5}]}"#, "invalid value"),
            (r#"{"output":[{"type":"Patient","url":"a","size":"big"}]}"#, "size"),
            (r#"{"output":[{"type":"Patient","url":"a","sha256":"zz"}]}"#, "checksum"),
            (r#"{"output":[{"type":"Patient","url":"a","continuesInFile":"https://"}]}"#, "continuesInFile"),
            (r#"{"deleted":[{"url":7}]}"#, "invalid type"),
            (r#"{"error":[{"type":"OperationOutcome"}]}"#, "error[0]"),
            (r#"{"outputOrganizedBy":"a/b"}"#, "outputOrganizedBy"),
            (r#"{"link":[{"relation":"next"}]}"#, "link"),
            (r#"{"link":[{"relation":"next","url":"a"},{"relation":"next","url":"b"}]}"#, "link"),
        ] {
            let problem = parse(members).map(drop).unwrap_err();
            assert!(problem.contains(name) && !problem.contains('\u{1b}'), "{members}: {problem}");
        }
        for body in ["", "<html>", "[]", "{\"transactionTime\":", "null"] {
            assert!(Manifest::parse(body.as_bytes(), &|_| Err(String::new())).is_err(), "{body}");
        }
        let deep = format!(r#"{{"transactionTime":"2026-01-01T00:00:00Z","extension":{}1{}}}"#, "[".repeat(900), "]".repeat(900));
        let error = Manifest::parse(deep.as_bytes(), &|_| Err(String::new())).unwrap_err();
        assert!(matches!(&error, ManifestError::Invalid(text) if text.contains("recursion limit")), "{error:?}");
        let twice = br#"{"transactionTime":"2026-01-01T00:00:00Z","output":[],"output":[]}"#;
        assert!(Manifest::parse(twice, &|_| Err(String::new())).is_err(), "a member that occurs twice");
    }

    #[test]
    fn a_time_of_the_future_is_noticed_by_both_clocks() {
        let manifest = |server_time: Option<&str>| {
            let server_time = server_time.and_then(|time| Instant::parse(time).ok()).and_then(Millis::from_instant);
            Manifest { server_time, ..parse("{}").unwrap() }
        };
        for (now, server_time, is_ahead) in [
            ("2026-01-01T00:00:00Z", None, false),
            ("2025-12-31T23:56:00Z", None, false),
            ("2025-12-31T23:54:00Z", None, true),
            ("2025-12-31T23:54:00Z", Some("2025-12-31T23:54:00Z"), true),
            // The clock of this machine is late.
            ("1970-01-01T00:00:00Z", Some("2026-01-01T00:00:00Z"), false),
            ("2026-01-01T00:00:00Z", Some("1970-01-01T00:00:00Z"), false),
        ] {
            let time = Millis::from_instant(Instant::parse(now).unwrap()).unwrap();
            assert_eq!(manifest(server_time).is_ahead_of_clocks(time), is_ahead, "{now} {server_time:?}");
        }
    }

    #[test]
    fn a_manifest_is_read_with_what_servers_leave_out_or_add() {
        for members in [
            r#"{"request":null,"requiresAccessToken":null,"error":null,"deleted":null}"#,
            r#"{"transactionTime":"2021-03-30T12:00:00.123+00:00","extension":{"https://h/x":1},"manifestType":"x"}"#,
            r#"{"output":[{"type":"Patient","url":"/Binary/1","extension":{"a":1},"color":"red"}],"link":[{"relation":"self","url":"a"}]}"#,
        ] {
            assert!(parse(members).is_ok(), "{members}");
        }
        let manifest = parse(
            r#"{"output":[
                {"type":"Patient","url":"../f/1","count":2.0,"size":10},
                {"type":"Patient","url":"../f/1","count":2},
                {"type":"Patient","url":"../f/1","count":2},
                {"type":"Patient","url":"https://f.example/2?x","extension":{"https://h/StructureDefinition/fileSize":11,
                 "https://h/checksum":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}}
            ],"outcome":[{"type":"OperationOutcome","url":"/e"}],"error":null}"#,
        )
        .unwrap();
        let urls: Vec<&str> = manifest.output.iter().map(|file| file.url.as_str()).collect();
        assert_eq!(urls, ["https://h.example/f/1", "https://f.example/2?x"]);
        assert_eq!(manifest.output.iter().map(|file| file.size).collect::<Vec<_>>(), [Some(10), Some(11)]);
        assert!(manifest.output[1].checksum.is_some() && manifest.output[0].checksum.is_none());
        assert_eq!((manifest.error.len(), manifest.output[0].count), (1, Some(2)));
        assert_eq!(
            manifest.warnings,
            ["the manifest repeats files in 2 entries of `output`, first in `output[1]`; each file is downloaded once"]
        );
    }
}
