//! Deletions in a `deleted` file: transaction Bundles with DELETE requests.

use std::borrow::Cow;
use std::ops::Deref;

use super::reference::{BaseUrls, LocalReference};
use crate::definitions::ResourceType;
use crate::instant::Instant;
use crate::json::JsonValue;

/// The deletion of one resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deletion<'a> {
    /// The type of the resource.
    pub resource_type: ResourceType,
    /// The logical id of the resource.
    pub id: Cow<'a, str>,
    /// The time of the deletion: `response.lastModified` of the entry, else `meta.lastUpdated` of the Bundle, else its
    /// `timestamp`.
    pub deleted_at: Option<Instant>,
}

/// The deletions of one line. There is at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deletions<'a> {
    /// The deletions that could be read, in the order of their entries.
    each: Vec<Deletion<'a>>,
    /// The number of DELETE requests that do not name one resource: of a version, of what a search finds, of an unknown type.
    pub unread: u64,
}

impl<'a> Deref for Deletions<'a> {
    type Target = [Deletion<'a>];

    fn deref(&self) -> &[Deletion<'a>] {
        &self.each
    }
}

impl<'a> IntoIterator for Deletions<'a> {
    type Item = Deletion<'a>;
    type IntoIter = std::vec::IntoIter<Deletion<'a>>;

    fn into_iter(self) -> Self::IntoIter {
        self.each.into_iter()
    }
}

impl<'d, 'a> IntoIterator for &'d Deletions<'a> {
    type Item = &'d Deletion<'a>;
    type IntoIter = std::slice::Iter<'d, Deletion<'a>>;

    fn into_iter(self) -> Self::IntoIter {
        self.each.iter()
    }
}

/// Parses the deletions of one line of valid JSON. The Bundle does not need an `id`.
///
/// * Returns `None` unless the line is a Bundle of type `transaction` with only DELETE requests, at least one of them of one
///   `Type/id`. A Bundle with any other request is an ordinary resource.
/// * A request that does not name one resource is counted. The other deletions of the line remain valid.
/// * Bulk Data Access [`crate::IG_VERSION`], "Response - Output Manifest", `deleted`.
pub fn parse_deletions(json: JsonValue<'_>) -> Option<Deletions<'_>> {
    let has_text = |name, expected: &str| json.member(name).and_then(JsonValue::text).is_some_and(|text| text == expected);
    if !has_text("resourceType", "Bundle") || !has_text("type", "transaction") {
        return None;
    }
    let last_updated = json.member("meta").and_then(|meta| parse_instant(meta.member("lastUpdated")));
    let bundle_time = last_updated.or_else(|| parse_instant(json.member("timestamp")));
    let mut deletions = Deletions { each: Vec::new(), unread: 0 };
    for entry in json.member("entry")?.items() {
        if !is_delete_request(entry) {
            return None;
        }
        match parse_entry(entry, bundle_time) {
            Some(deletion) => deletions.each.push(deletion),
            None => deletions.unread += 1,
        }
    }
    (!deletions.each.is_empty()).then_some(deletions)
}

/// Returns true for an entry with a DELETE request, also if its method is written in lower case.
fn is_delete_request(entry: JsonValue<'_>) -> bool {
    let method = entry.member("request").and_then(|request| request.member("method")).and_then(JsonValue::text);
    method.is_some_and(|method| method.eq_ignore_ascii_case("DELETE"))
}

/// Parses the DELETE request of an entry. `bundle_time` is the time of an entry without its own.
fn parse_entry(entry: JsonValue<'_>, bundle_time: Option<Instant>) -> Option<Deletion<'_>> {
    let request = entry.member("request")?;
    if request.member("method")?.text()? != "DELETE" {
        return None;
    }
    let entry_time = entry.member("response").and_then(|response| parse_instant(response.member("lastModified")));
    let (resource_type, id) = match request.member("url")?.text()? {
        Cow::Borrowed(url) => parse_target(url).map(|target| (target.resource_type, Cow::Borrowed(target.id)))?,
        Cow::Owned(url) => parse_target(&url).map(|target| (target.resource_type, Cow::Owned(target.id.to_owned())))?,
    };
    Some(Deletion { resource_type, id, deleted_at: entry_time.or(bundle_time) })
}

/// Parses the URL of a DELETE request.
fn parse_target(url: &str) -> Option<LocalReference<'_>> {
    let (target, has_version) = LocalReference::parse_versioned(url, &BaseUrls::any())?;
    // Some servers can delete one version of a resource. The resource then still exists.
    (!has_version).then_some(target)
}

/// Parses a string as an instant.
fn parse_instant(value: Option<JsonValue<'_>>) -> Option<Instant> {
    Instant::parse(&value?.text()?).ok()
}

/// Writes the Bundle of one deletion, a line of a `deleted` file without its line end. [`parse_deletions`] parses it back.
pub fn deletion_bundle(resource_type: ResourceType, id: &str, deleted_at: Option<Instant>) -> String {
    let meta = deleted_at.map(|time| format!(r#""meta":{{"lastUpdated":"{time}"}},"#)).unwrap_or_default();
    let url = serde_json::Value::from(format!("{resource_type}/{id}"));
    format!(r#"{{"resourceType":"Bundle",{meta}"type":"transaction","entry":[{{"request":{{"method":"DELETE","url":{url}}}}}]}}"#)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Parses the deletions of a line: `Type/id` and the time of each.
    fn parse_line(line: &str) -> Option<Vec<(String, Option<Instant>)>> {
        let each = parse_deletions(JsonValue::from_valid(line))?;
        Some(each.iter().map(|one| (format!("{}/{}", one.resource_type, one.id), one.deleted_at)).collect())
    }

    /// Parses an instant, as the time of a deletion.
    fn instant(text: &str) -> Option<Instant> {
        Some(Instant::parse(text).unwrap())
    }

    #[test]
    fn a_transaction_of_delete_requests_is_a_list_of_deletions() {
        let line = r#"{"resourceType":"Bundle","id":"b","meta":{"lastUpdated":"2020-04-27T02:56:00Z"},"timestamp":"2019-01-01T00:00:00Z",
            "type":"transaction","entry":[{"request":{"method":"DELETE","url":"Patient/123"}},
            {"request":{"method":"DELETE","url":"https:\/\/example.org\/Encounter\/é"},"response":{"status":"204","lastModified":"2020-04-26T00:00:00Z"}}]}"#;
        let expected =
            vec![("Patient/123".to_owned(), instant("2020-04-27T02:56:00Z")), ("Encounter/é".to_owned(), instant("2020-04-26T00:00:00Z"))];
        assert_eq!(parse_line(line), Some(expected));
    }

    #[test]
    fn a_bundle_without_id_or_time_is_also_a_deletion() {
        let bundle = |more: &str| {
            format!(
                r#"{{"resourceType":"Bundle",{more}"type":"transaction","entry":[{{"request":{{"method":"DELETE","url":"Group/1"}}}}]}}"#
            )
        };
        for (more, at) in [
            ("", None),
            (r#""timestamp":"2019-01-01T00:00:00Z","#, instant("2019-01-01")),
            (r#""meta":{"versionId":"1"},"timestamp":"2019-01-01T00:00:00Z","#, instant("2019-01-01")),
            (r#""meta":null,"timestamp":"yesterday","#, None),
        ] {
            assert_eq!(parse_line(&bundle(more)), Some(vec![("Group/1".to_owned(), at)]), "{more}");
        }
    }

    #[test]
    fn a_bundle_with_any_other_request_is_not_a_deletion() {
        let delete = r#"{"request":{"method":"DELETE","url":"Patient/1"}}"#;
        let line =
            |kind: &str, of: &str, entries: &str| format!(r#"{{"resourceType":"{kind}","id":"b","type":"{of}","entry":[{entries}]}}"#);
        assert!(parse_line(&line("Bundle", "transaction", delete)).is_some());
        for other in [
            line("List", "transaction", delete),
            line("Bundle", "history", delete),
            line("Bundle", "transaction", ""),
            line("Bundle", "transaction", &format!(r#"{delete},{{"request":{{"method":"PUT","url":"Patient/2"}}}}"#)),
            line("Bundle", "transaction", &format!(r#"{delete},{{"resource":{{"resourceType":"Patient","id":"2"}}}}"#)),
            line("Bundle", "transaction", &delete.replace("Patient/1", "Patient?name=a")),
            line("Bundle", "transaction", &delete.replace("Patient/1", "Patient/1/_history/2")),
            line("Bundle", "transaction", &delete.replace("Patient/1", "Dog/1")),
            line("Bundle", "transaction", &delete.replace("DELETE", "delete")),
            r#"{"resourceType":"Bundle","type":"transaction"}"#.to_owned(),
            "[]".to_owned(),
        ] {
            assert_eq!(parse_line(&other), None, "{other}");
        }
    }

    #[test]
    fn a_request_that_does_not_name_one_resource_is_counted_and_loses_no_other_deletion() {
        let entry = |method: &str, url: &str| format!(r#"{{"request":{{"method":"{method}","url":"{url}"}}}}"#);
        let valid = [entry("DELETE", "Patient/1"), entry("DELETE", "Observation/2")];
        for unread in [
            entry("DELETE", "Observation/o1/_history/2"),
            entry("DELETE", "/Patient/x"),
            entry("DELETE", "Patient?identifier=x"),
            entry("DELETE", "Dog/1"),
            entry("delete", "Patient/x"),
            r#"{"request":{"method":"DELETE"}}"#.to_owned(),
        ] {
            let line = format!(r#"{{"resourceType":"Bundle","type":"transaction","entry":[{},{unread},{}]}}"#, valid[0], valid[1]);
            let deletions = parse_deletions(JsonValue::from_valid(&line)).unwrap();
            let ids: Vec<&str> = deletions.iter().map(|deletion| &*deletion.id).collect();
            assert_eq!((ids, deletions.unread), (vec!["1", "2"], 1), "{unread}");
        }
    }

    #[test]
    fn a_deletion_is_written_as_a_transaction_bundle_with_one_delete_request() {
        let line = deletion_bundle(ResourceType::PATIENT, "p-1", instant("2026-01-31T08:00:00+01:00"));
        let bundle: serde_json::Value = serde_json::from_str(&line).unwrap();
        let expected = serde_json::json!({"resourceType": "Bundle", "meta": {"lastUpdated": "2026-01-31T07:00:00Z"}, "type": "transaction",
            "entry": [{"request": {"method": "DELETE", "url": "Patient/p-1"}}]});
        assert_eq!(bundle, expected);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        #[test]
        fn a_written_deletion_is_parsed_back(resource_type in 0..ResourceType::all().count(), id in "[A-Za-z0-9.-]{1,64}|[^/?#]{1,9}", millis in any::<Option<u32>>()) {
            let resource_type = ResourceType::all().nth(resource_type).unwrap();
            let deleted_at = millis.map(|millis| Instant::from_millis(millis.into()));
            let line = deletion_bundle(resource_type, &id, deleted_at);
            let each = vec![Deletion { resource_type, id: Cow::Borrowed(id.as_str()), deleted_at }];
            let expected = Deletions { each, unread: 0 };
            prop_assert_eq!(parse_deletions(JsonValue::from_valid(&line)), Some(expected));
        }

        #[test]
        fn no_text_causes_a_panic(at in 0_usize..200, damage in "\\PC{0,2}") {
            let mut line = deletion_bundle(ResourceType::PATIENT, "1", None);
            line.replace_range(at % line.len()..=at % line.len(), &damage);
            parse_deletions(JsonValue::from_valid(&line));
        }
    }
}
