//! Deletions as a `deleted` file carries them: transaction Bundles whose entries are DELETE requests.

use std::borrow::Cow;

use crate::semantics::reference::{self, Bases};
use crate::{Instant, Json, ResourceType};

/// One resource that was deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deletion<'a> {
    /// Its type.
    pub kind: ResourceType,
    /// Its logical id.
    pub id: Cow<'a, str>,
    /// When: the entry's `response.lastModified`, else the Bundle's `meta.lastUpdated`, else its `timestamp`.
    pub at: Option<Instant>,
}

/// All the deletions of one line, at least one.
pub type Deletions<'a> = Vec<Deletion<'a>>;

/// Reads the deletions of one line, which is valid JSON; whether the Bundle has an `id` does not matter.
///
/// * `None` for anything but a Bundle of type `transaction` each of whose entries asks to DELETE one `Type/id`. A Bundle
///   that also does something else is a resource like any other.
/// * Bulk Data Access [`crate::IG_VERSION`], "Response - Output Manifest", `deleted`.
pub fn deletions(json: Json<'_>) -> Option<Deletions<'_>> {
    let is_text = |name, wanted: &str| json.member(name).and_then(Json::text).is_some_and(|text| text == wanted);
    if !is_text("resourceType", "Bundle") || !is_text("type", "transaction") {
        return None;
    }
    let updated = json.member("meta").and_then(|meta| moment(meta.member("lastUpdated")));
    let at = updated.or_else(|| moment(json.member("timestamp")));
    let each: Option<Deletions<'_>> = json.member("entry")?.items().map(|entry| deletion(entry, at)).collect();
    each.filter(|each| !each.is_empty())
}

fn deletion(entry: Json<'_>, at: Option<Instant>) -> Option<Deletion<'_>> {
    let request = entry.member("request")?;
    if request.member("method")?.text()? != "DELETE" {
        return None;
    }
    let own = entry.member("response").and_then(|response| moment(response.member("lastModified")));
    let (kind, id) = match request.member("url")?.text()? {
        Cow::Borrowed(url) => target(url).map(|(kind, id)| (kind, Cow::Borrowed(id)))?,
        Cow::Owned(url) => target(&url).map(|(kind, id)| (kind, Cow::Owned(id.to_owned())))?,
    };
    Some(Deletion { kind, id, at: own.or(at) })
}

/// Deleting one version of a resource, as some servers allow, leaves the resource.
fn target(url: &str) -> Option<(ResourceType, &str)> {
    let (named, has_version) = reference::read(url, &Bases::any())?;
    (!has_version).then_some((named.kind, named.id))
}

fn moment(value: Option<Json<'_>>) -> Option<Instant> {
    Instant::parse(&value?.text()?).ok()
}

/// The line that a `deleted` file holds for one deletion, without a line end; [`deletions`] reads it back.
pub fn deletion_line(kind: ResourceType, id: &str, at: Option<Instant>) -> String {
    let meta = at.map(|at| format!(r#""meta":{{"lastUpdated":"{at}"}},"#)).unwrap_or_default();
    let url = serde_json::Value::from(format!("{kind}/{id}"));
    format!(r#"{{"resourceType":"Bundle",{meta}"type":"transaction","entry":[{{"request":{{"method":"DELETE","url":{url}}}}}]}}"#)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(line: &str) -> Option<Vec<(String, Option<Instant>)>> {
        let each = deletions(Json::of_valid(line))?;
        Some(each.iter().map(|one| (format!("{}/{}", one.kind, one.id), one.at)).collect())
    }

    fn moment(text: &str) -> Option<Instant> {
        Some(Instant::parse(text).unwrap())
    }

    #[test]
    fn a_transaction_of_deletes_says_what_was_deleted_and_when() {
        let line = r#"{"resourceType":"Bundle","id":"b","meta":{"lastUpdated":"2020-04-27T02:56:00Z"},"timestamp":"2019-01-01T00:00:00Z",
            "type":"transaction","entry":[{"request":{"method":"DELETE","url":"Patient/123"}},
            {"request":{"method":"DELETE","url":"https:\/\/example.org\/Encounter\/é"},"response":{"status":"204","lastModified":"2020-04-26T00:00:00Z"}}]}"#;
        let expected =
            vec![("Patient/123".to_owned(), moment("2020-04-27T02:56:00Z")), ("Encounter/é".to_owned(), moment("2020-04-26T00:00:00Z"))];
        assert_eq!(read(line), Some(expected));
    }

    #[test]
    fn without_an_id_or_a_time_it_is_a_deletion_all_the_same() {
        let bundle = |more: &str| {
            format!(
                r#"{{"resourceType":"Bundle",{more}"type":"transaction","entry":[{{"request":{{"method":"DELETE","url":"Group/1"}}}}]}}"#
            )
        };
        for (more, at) in [
            ("", None),
            (r#""timestamp":"2019-01-01T00:00:00Z","#, moment("2019-01-01")),
            (r#""meta":{"versionId":"1"},"timestamp":"2019-01-01T00:00:00Z","#, moment("2019-01-01")),
            (r#""meta":null,"timestamp":"yesterday","#, None),
        ] {
            assert_eq!(read(&bundle(more)), Some(vec![("Group/1".to_owned(), at)]), "{more}");
        }
    }

    #[test]
    fn whatever_else_a_bundle_does_it_is_no_deletion() {
        let delete = r#"{"request":{"method":"DELETE","url":"Patient/1"}}"#;
        let line =
            |kind: &str, of: &str, entries: &str| format!(r#"{{"resourceType":"{kind}","id":"b","type":"{of}","entry":[{entries}]}}"#);
        assert!(read(&line("Bundle", "transaction", delete)).is_some());
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
            assert_eq!(read(&other), None, "{other}");
        }
    }

    #[test]
    fn the_line_of_a_deletion_is_a_transaction_bundle_with_one_delete() {
        let line = deletion_line(ResourceType::named("Patient").unwrap(), "p-1", moment("2026-01-31T08:00:00+01:00"));
        let bundle: serde_json::Value = serde_json::from_str(&line).unwrap();
        let expected = serde_json::json!({"resourceType": "Bundle", "meta": {"lastUpdated": "2026-01-31T07:00:00Z"}, "type": "transaction",
            "entry": [{"request": {"method": "DELETE", "url": "Patient/p-1"}}]});
        assert_eq!(bundle, expected);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        #[test]
        fn a_deletion_survives_its_line(kind in 0..ResourceType::all().count(), id in "[A-Za-z0-9.-]{1,64}|[^/?#]{1,9}", millis in any::<Option<u32>>()) {
            let kind = ResourceType::all().nth(kind).unwrap();
            let at = millis.map(|millis| Instant::from_millis(millis.into()));
            let line = deletion_line(kind, &id, at);
            let expected = vec![Deletion { kind, id: Cow::Borrowed(id.as_str()), at }];
            prop_assert_eq!(deletions(Json::of_valid(&line)), Some(expected));
        }

        #[test]
        fn no_text_makes_the_reader_panic(at in 0_usize..200, damage in "\\PC{0,2}") {
            let mut line = deletion_line(ResourceType::named("Patient").unwrap(), "1", None);
            line.replace_range(at % line.len()..=at % line.len(), &damage);
            deletions(Json::of_valid(&line));
        }
    }
}
