//! The rules for the lines of downloaded files, by the list of the manifest that has the file.

use headrace_fhir::head::ResourceHead;
use serde::Deserialize;

use crate::client::file_names::FileList;
use crate::terminal::shorten;

/// Length of the longest line that is checked, in bytes.
pub(crate) const MAX_CHECKED_LINE: usize = 16 << 20;

/// The rule for the lines of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum LineRule {
    /// Lines are only counted.
    #[default]
    Any,
    /// Each line is a resource, as a lake is read.
    Resources,
    /// Each line is a Bundle of type `transaction` with DELETE requests.
    Deletions,
}

/// The members of a Bundle that make it one of deletions.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BundleJson {
    resource_type: Option<String>,
    #[serde(rename = "type")]
    bundle_type: Option<String>,
    #[serde(default)]
    entry: Vec<EntryJson>,
}

#[derive(Deserialize)]
struct EntryJson {
    request: Option<RequestJson>,
}

#[derive(Deserialize)]
struct RequestJson {
    method: Option<String>,
}

impl LineRule {
    /// Returns the rule for the files of a list.
    pub(crate) fn from_list(list: FileList) -> Self {
        match list {
            FileList::Output => Self::Resources,
            FileList::Deleted => Self::Deletions,
            // OperationOutcomes need no id.
            FileList::Error => Self::Any,
        }
    }

    /// Returns why a line violates the rule. The text has nothing of the line but its type.
    pub(crate) fn fault(self, line: &[u8]) -> Option<String> {
        match self {
            Self::Any => None,
            Self::Resources => ResourceHead::parse(line).err().map(|reason| reason.to_string()),
            Self::Deletions => deletion_fault(line),
        }
    }
}

/// Returns why a line is not a Bundle of deletions.
fn deletion_fault(line: &[u8]) -> Option<String> {
    let Ok(bundle) = serde_json::from_slice::<BundleJson>(line) else { return Some("not the JSON of a Bundle".to_owned()) };
    let is_deletion = |entry: &EntryJson| entry.request.as_ref().is_some_and(|request| request.method.as_deref() == Some("DELETE"));
    match (bundle.resource_type.as_deref(), bundle.bundle_type.as_deref()) {
        (Some("Bundle"), Some("transaction")) if bundle.entry.iter().all(is_deletion) => None,
        (Some("Bundle"), Some("transaction")) => Some("a Bundle with another request than DELETE".to_owned()),
        (Some("Bundle"), _) => Some("a Bundle of another type than transaction".to_owned()),
        (Some(other), _) => Some(format!("a resource of type {}", shorten(other, 64))),
        (None, _) => Some("no resourceType".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deletion_is_a_transaction_of_delete_requests() {
        let delete = r#"{"request":{"method":"DELETE","url":"Patient/1"}}"#;
        let bundle = |kind: &str, entries: &str| format!(r#"{{"resourceType":"Bundle","type":"{kind}","entry":[{entries}]}}"#);
        for line in [bundle("transaction", delete), bundle("transaction", ""), bundle("transaction", &format!("{delete},{delete}"))] {
            assert_eq!(LineRule::Deletions.fault(line.as_bytes()), None, "{line}");
        }
        let put = r#"{"request":{"method":"PUT","url":"Patient/1"},"resource":{"resourceType":"Patient","id":"1"}}"#;
        for (line, words) in [
            (bundle("transaction", &format!("{delete},{put}")), "another request than DELETE"),
            (bundle("transaction", "{}"), "another request than DELETE"),
            (bundle("collection", delete), "another type than transaction"),
            (r#"{"resourceType":"Patient","id":"1"}"#.to_owned(), "a resource of type Patient"),
            ("{}".to_owned(), "no resourceType"),
            ("[".to_owned(), "not the JSON"),
        ] {
            let fault = LineRule::Deletions.fault(line.as_bytes()).unwrap_or_default();
            assert!(fault.contains(words), "{line}: {fault}");
        }
    }

    #[test]
    fn a_resource_has_what_the_reader_of_a_lake_demands() {
        assert_eq!(LineRule::Resources.fault(br#"{"resourceType":"Patient","id":"1"}"#), None);
        for (line, words) in [
            (&br#"{"resourceType":"Patient"}"#[..], "no id"),
            (b"{\"resourceType\":\"Patient\",\"id\":\"\xff\"}", "not UTF-8"),
            (br#"{"resourceType":"Dog","id":"1"}"#, "resourceType"),
        ] {
            let fault = LineRule::Resources.fault(line).unwrap_or_default();
            assert!(fault.contains(words), "{fault}");
        }
        assert_eq!(LineRule::Any.fault(b"{}"), None);
    }
}
