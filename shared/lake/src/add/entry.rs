//! Entries of a Bundle: the resource or the deletion that each adds to a lake.

use std::borrow::Cow;

use headrace_fhir::bundle::BundleEntry;
use headrace_fhir::definitions::ResourceType;
use headrace_fhir::head::{InvalidResource, ResourceHead};
use headrace_fhir::instant::Instant;
use headrace_fhir::json::{JsonType, JsonValue};
use headrace_fhir::searchset::HistoryDeletion;
use headrace_fhir::semantics::id::is_id;
use headrace_fhir::semantics::reference::{BaseUrls, LocalReference};
use sha2::{Digest as _, Sha256};

use super::json_space::in_one_line;
use super::names::is_urn;
use super::report::LeftOutReason;

/// The longest id that is accepted, in bytes.
const MAX_ID_BYTES: usize = 256;

/// The number of digits of an id that is made of the content.
const HASH_BYTES: usize = 16;

/// The content of an entry for a lake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum EntryContent<'a> {
    /// A resource.
    Resource(EntryResource<'a>),
    /// The deletion of a resource, by the URL of the request.
    Deletion(String),
    /// An entry that adds no line to the lake, with the reason.
    LeftOut(LeftOutReason, String),
}

/// A resource of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EntryResource<'a> {
    pub(super) kind: ResourceType,
    pub(super) id: String,
    /// The text in one line, with an id.
    pub(super) text: Cow<'a, str>,
}

impl<'a> EntryContent<'a> {
    /// Decides whether an entry is a resource, a deletion or neither. The resources of histories and of other Bundles are the same.
    ///
    /// * `is_history`: true for an entry of a history, where the events of servers have more forms.
    pub(super) fn from_entry(entry: &BundleEntry<'a>, is_history: bool) -> Self {
        if entry.is_outcome() {
            return Self::LeftOut(LeftOutReason::SearchOutcome, String::new());
        }
        let url = entry.url.as_deref().unwrap_or_default();
        if is_history && entry.is_deletion_of_history() {
            let deletion = HistoryDeletion::from_entry(entry);
            return Self::Deletion(deletion.map_or_else(|| url.to_owned(), |one| format!("{}/{}", one.resource_type, one.id)));
        }
        if is_history && entry.is_unclear_in_history() {
            return Self::LeftOut(LeftOutReason::UnclearHistory, String::new());
        }
        if entry.is_deletion() {
            return Self::Deletion(url.to_owned());
        }
        // With and without a resource: what the request makes is not in the input.
        if entry.method.as_deref().is_some_and(|method| method.eq_ignore_ascii_case("PATCH")) {
            return Self::LeftOut(LeftOutReason::Patch, String::new());
        }
        let Some(resource) = entry.resource else { return Self::LeftOut(LeftOutReason::NoResource, String::new()) };
        let is_operation = url.split('?').next().is_some_and(|path| path.split('/').any(|segment| segment.starts_with('$')));
        if is_operation {
            return Self::LeftOut(LeftOutReason::Operation, String::new());
        }
        match EntryResource::new(resource, entry) {
            Ok(resource) => Self::Resource(resource),
            Err((reason, detail)) => Self::LeftOut(reason, detail),
        }
    }
}

impl<'a> EntryResource<'a> {
    /// Validates a resource, and gives it an id if it has none.
    fn new(text: &'a str, entry: &BundleEntry<'_>) -> Result<Self, (LeftOutReason, String)> {
        let invalid = |error: InvalidResource| (LeftOutReason::InvalidResource, error.to_string());
        let text = in_one_line(text);
        let text = match ResourceHead::parse(text.as_bytes()) {
            Ok(_) => text,
            Err(InvalidResource::MissingId) if JsonValue::from_valid(&text).member("id").is_none() => {
                let id = serde_json::Value::from(new_id(&text, entry));
                let behind = text.trim_start().trim_start_matches('{');
                Cow::Owned(format!("{{\"id\":{id},{behind}"))
            }
            Err(error) => return Err(invalid(error)),
        };
        let text = with_version(text, entry);
        let kind = ResourceHead::parse(text.as_bytes()).map_err(invalid)?.resource_type;
        let id = JsonValue::from_valid(&text).member("id").and_then(JsonValue::text).unwrap_or_default().into_owned();
        if is_usable_id(&id) { Ok(Self { kind, id, text }) } else { Err((LeftOutReason::UnusableId, String::new())) }
    }
}

/// Returns a resource with the version id and the time of its response where its own `meta` does not have them: they tell which of several
/// versions is the newest.
fn with_version<'a>(text: Cow<'a, str>, entry: &BundleEntry<'_>) -> Cow<'a, str> {
    let meta = JsonValue::from_valid(&text).member("meta");
    let is_missing = |name: &str| meta.is_none_or(|meta| meta.member(name).is_none());
    let version = entry.version_id().filter(|version| is_id(version) && is_missing("versionId"));
    let time = entry.last_modified.as_deref().filter(|time| Instant::parse(time).is_ok() && is_missing("lastUpdated"));
    let members = [("versionId", version), ("lastUpdated", time)].into_iter().filter_map(|(name, value)| Some((name, value?)));
    let members: Vec<String> = members.map(|(name, value)| format!("\"{name}\":{}", serde_json::Value::from(value))).collect();
    if members.is_empty() {
        return text;
    }
    let members = members.join(",");
    let with_meta = match meta {
        None => text.trim_end().strip_suffix('}').map(|rest| format!("{rest},\"meta\":{{{members}}}}}")),
        Some(meta) if meta.json_type() == JsonType::Object => {
            // The members come behind the brace that opens `meta`.
            let start = meta.as_str().as_ptr() as usize - text.as_ptr() as usize + 1;
            let comma = if meta.members().next().is_some() { "," } else { "" };
            text.split_at_checked(start).map(|(before, behind)| format!("{before}{members}{comma}{behind}"))
        }
        Some(_) => None,
    };
    with_meta.map_or(text, Cow::Owned)
}

/// Returns the id of a resource that has none: that of the request's URL or the full URL, else the UUID or OID of the full URL, else a
/// hash of the content. The same input gives the same id.
fn new_id(text: &str, entry: &BundleEntry<'_>) -> String {
    let kind = JsonValue::from_valid(text).member("resourceType").and_then(JsonValue::text).unwrap_or_default();
    let id_in = |url: &str| {
        let reference = LocalReference::parse(url, &BaseUrls::any())?;
        (reference.resource_type.as_str() == kind && is_usable_id(reference.id)).then(|| reference.id.to_owned())
    };
    let full_url = entry.full_url.as_deref().unwrap_or_default();
    let of_urn = || {
        let id = full_url.rsplit(':').next().filter(|_| is_urn(full_url))?.to_ascii_lowercase();
        is_usable_id(&id).then_some(id)
    };
    let of_request = entry.url.as_deref().and_then(id_in);
    of_request.or_else(|| id_in(full_url)).or_else(of_urn).unwrap_or_else(|| {
        let digest = Sha256::digest(text.as_bytes());
        hex::encode(digest.get(..HASH_BYTES).unwrap_or_default())
    })
}

/// Returns true if an id can be part of a reference `Type/id` without being taken for something else.
pub(super) fn is_usable_id(id: &str) -> bool {
    let is_allowed = |letter: char| {
        !letter.is_control() && !letter.is_whitespace() && !matches!(letter, '/' | '\\' | '?' | '#' | '%' | '|' | '"' | '<' | '>')
    };
    !id.is_empty() && id.len() <= MAX_ID_BYTES && !matches!(id, "." | "..") && id.chars().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the id that a resource gets.
    fn id(resource: &str, full_url: Option<&str>, url: Option<&str>) -> Option<String> {
        let (full_url, url) = (full_url.map(str::to_owned), url.map(str::to_owned));
        let method = url.as_ref().map(|_| "PUT".to_owned());
        let entry = BundleEntry { resource: Some(resource), full_url, url, method, ..BundleEntry::default() };
        match EntryContent::from_entry(&entry, false) {
            EntryContent::Resource(resource) => Some(resource.id),
            EntryContent::Deletion(_) | EntryContent::LeftOut(..) => None,
        }
    }

    #[test]
    fn a_resource_without_id_gets_the_same_one_each_time() {
        let patient = r#"{"resourceType":"Patient","active":true}"#;
        let urn = Some("urn:uuid:53FEFA32-FCBB-4FF8-8A92-55EE120877B7");
        assert_eq!(id(r#"{"resourceType":"Patient","id":"own"}"#, urn, Some("Patient/p")).as_deref(), Some("own"));
        assert_eq!(id(patient, urn, Some("Patient/p")).as_deref(), Some("p"));
        assert_eq!(id(patient, Some("https://h/Patient/q"), None).as_deref(), Some("q"));
        assert_eq!(id(patient, Some("https://h/Group/q"), Some("Patient")), id(patient, None, None), "another type");
        assert_eq!(id(patient, urn, Some("Patient")).as_deref(), Some("53fefa32-fcbb-4ff8-8a92-55ee120877b7"));
        assert_eq!(id(patient, Some("urn:oid:1.2.3"), None).as_deref(), Some("1.2.3"));
        let hash = id(patient, None, Some("Patient")).unwrap();
        assert_eq!((hash.len(), Some(&hash)), (32, id(patient, None, None).as_ref()));
        assert_ne!(id(r#"{"resourceType":"Patient","active":false}"#, None, None), Some(hash));
    }

    #[test]
    fn bytes_are_copied_and_an_id_is_put_in_front() {
        let text = |resource| match EntryContent::from_entry(&BundleEntry { resource: Some(resource), ..BundleEntry::default() }, false) {
            EntryContent::Resource(resource) => resource.text.into_owned(),
            other @ (EntryContent::Deletion(_) | EntryContent::LeftOut(..)) => panic!("{other:?}"),
        };
        assert_eq!(text(r#"{"resourceType":"Basic", "id":"b","x":1.10}"#), r#"{"resourceType":"Basic", "id":"b","x":1.10}"#);
        assert_eq!(text("{\n \"resourceType\": \"Basic\",\n \"id\": \"b\", \"x\": 1.10}"), r#"{"resourceType":"Basic","id":"b","x":1.10}"#);
        let derived = text(r#"{"resourceType":"Basic","x":1.10}"#);
        assert!(derived.starts_with("{\"id\":\"") && derived.ends_with("\",\"resourceType\":\"Basic\",\"x\":1.10}"), "{derived}");
    }

    #[test]
    fn an_entry_that_is_not_a_resource_is_left_out_with_the_reason() {
        let reason = |entry: &BundleEntry<'static>| match EntryContent::from_entry(entry, false) {
            EntryContent::LeftOut(reason, _) => reason,
            other @ (EntryContent::Resource(_) | EntryContent::Deletion(_)) => panic!("{other:?}"),
        };
        let resource = Some(r#"{"resourceType":"Patient","id":"p"}"#);
        let text = |text: &str| Some(text.to_owned());
        let entry = BundleEntry::default;
        assert_eq!(reason(&entry()), LeftOutReason::NoResource);
        assert_eq!(reason(&BundleEntry { resource, search_mode: text("outcome"), ..entry() }), LeftOutReason::SearchOutcome);
        for method in ["PATCH", "patch"] {
            for resource in [resource, None] {
                let reason = reason(&BundleEntry { resource, method: text(method), ..entry() });
                assert_eq!((reason, reason.is_loss()), (LeftOutReason::Patch, true), "{method}, {resource:?}");
            }
        }
        assert_eq!(
            reason(&BundleEntry { resource, method: text("POST"), url: text("Patient/$match"), ..entry() }),
            LeftOutReason::Operation
        );
        for (resource, expected) in [
            (r#"{"resourceType":"Dog","id":"p"}"#, LeftOutReason::InvalidResource),
            (r#"{"id":"p"}"#, LeftOutReason::InvalidResource),
            ("[]", LeftOutReason::InvalidResource),
            (r#"{"resourceType":"Patient","id":7}"#, LeftOutReason::InvalidResource),
            (r#"{"resourceType":"Patient","id":""}"#, LeftOutReason::InvalidResource),
            (r#"{"resourceType":"Patient","id":"a","x":{"b":1,"b":2}}"#, LeftOutReason::InvalidResource),
            (r#"{"resourceType":"Patient","id":"../../x"}"#, LeftOutReason::UnusableId),
            (r#"{"resourceType":"Patient","id":".."}"#, LeftOutReason::UnusableId),
            (r#"{"resourceType":"Patient","id":"a b"}"#, LeftOutReason::UnusableId),
        ] {
            assert_eq!(reason(&BundleEntry { resource: Some(resource), ..entry() }), expected, "{resource}");
        }
    }

    #[test]
    fn nesting_of_any_depth_is_copied_as_exports_do() {
        let deep = format!(r#"{{"resourceType":"Patient","id":"p","x":{}{}}}"#, "[".repeat(9_000), "]".repeat(9_000));
        let entry = BundleEntry { resource: Some(&deep), ..BundleEntry::default() };
        assert!(matches!(EntryContent::from_entry(&entry, false), EntryContent::Resource(resource) if resource.text == deep));
    }
}
