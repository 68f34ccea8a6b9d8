//! Pages of search results and histories: Bundles of types `searchset` and `history`, whose resources keep their bytes.

mod message;

use crate::bundle::{Bundle, BundleEntry, BundleError};
use crate::definitions::ResourceType;
use crate::instant::Instant;
use crate::semantics::id::is_id;

pub use message::{ServerMessage, reports_error};

/// A page of search results or of a history.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct SearchPage<'a> {
    /// True for a page of a history.
    pub is_history: bool,
    /// The number of all matches, if the server states one.
    pub total: Option<u64>,
    /// The link to the next page, as it was sent. `None` on the last page.
    pub next: Option<String>,
    /// The entries in order.
    pub entries: Vec<SearchEntry<'a>>,
}

/// An entry of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SearchEntry<'a> {
    /// A resource that matches: its JSON text, as it was sent.
    Match(&'a str),
    /// A deletion of a history.
    Deletion(HistoryDeletion),
    /// A message of the server: the JSON text of an OperationOutcome.
    Outcome(&'a str),
    /// A resource that was added to the matches, or a change of a history without its resource.
    Other,
    /// An entry of a history without a resource, whose method is none of a change or a deletion: it may be a deletion.
    Unclear,
}

/// The deletion of a resource in a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryDeletion {
    /// The type.
    pub resource_type: ResourceType,
    /// The logical id.
    pub id: String,
    /// The time of the deletion. `None` if the server does not state it.
    pub deleted_at: Option<Instant>,
    /// The version that the deletion is, if the server states one.
    pub version_id: Option<String>,
}

/// The reason why a response is not a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSearchPage {
    /// The text is not a Bundle.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The Bundle is of a type that no search and no history has.
    #[error("a Bundle of a type other than searchset and history")]
    OtherBundleType,
    /// An entry of a history deletes something that is not a resource.
    #[error("a deletion of something that is not a resource of FHIR, in entry {0}")]
    InvalidDeletion(usize),
}

impl<'a> SearchPage<'a> {
    /// Parses a page. The texts of its resources are slices of `body`.
    pub fn parse(body: &'a [u8]) -> Result<Self, InvalidSearchPage> {
        let Bundle { header, entries } = Bundle::parse(body)?;
        let is_history = match header.bundle_type.as_deref() {
            Some("searchset") => false,
            Some("history") => true,
            Some(_) | None => return Err(InvalidSearchPage::OtherBundleType),
        };
        let next = header.link("next").filter(|url| !url.is_empty()).map(str::to_owned);
        let entries = (0..).zip(entries).map(|(index, entry)| SearchEntry::new(entry, is_history, index)).collect::<Result<_, _>>()?;
        Ok(Self { is_history, total: header.total, next, entries })
    }

    /// Returns the messages of the server that need attention.
    pub fn messages(&self) -> impl Iterator<Item = ServerMessage> {
        self.entries.iter().filter_map(|entry| match entry {
            SearchEntry::Outcome(text) => ServerMessage::parse(text),
            SearchEntry::Match(_) | SearchEntry::Deletion(_) | SearchEntry::Other | SearchEntry::Unclear => None,
        })
    }

    /// Returns the words of the server if it says that the page is incomplete.
    pub fn error(&self) -> Option<String> {
        self.messages().find(|message| message.is_error).map(|message| message.text)
    }
}

impl<'a> SearchEntry<'a> {
    /// Classifies the entry with this index.
    fn new(entry: BundleEntry<'a>, is_history: bool, index: usize) -> Result<Self, InvalidSearchPage> {
        if entry.is_deletion() || is_history && entry.is_deletion_of_history() {
            return HistoryDeletion::from_entry(&entry).map(Self::Deletion).ok_or(InvalidSearchPage::InvalidDeletion(index));
        }
        let mode = entry.search_mode.as_deref();
        Ok(match entry.resource {
            // Some servers send their messages without saying that these are not matches.
            Some(text) if mode == Some("outcome") || message::is_outcome(text) => Self::Outcome(text),
            Some(text) if matches!(mode, None | Some("match")) => Self::Match(text),
            None if is_history && entry.is_unclear_in_history() => Self::Unclear,
            Some(_) | None => Self::Other,
        })
    }
}

impl HistoryDeletion {
    /// Reads the deletion of an entry. Returns `None` unless it names one resource of FHIR.
    pub fn from_entry(entry: &BundleEntry<'_>) -> Option<Self> {
        let deleted_at = entry.last_modified.as_deref().and_then(|text| Instant::parse(text).ok());
        let ((resource_type, id), version) = [&entry.url, &entry.full_url].into_iter().flatten().find_map(|url| {
            let (target, version) = url.split_once("/_history/").map_or((url.as_str(), None), |(target, version)| (target, Some(version)));
            Some((parse_target(target)?, version))
        })?;
        let version_id = entry.version_id().or(version).map(str::to_owned);
        Some(Self { resource_type, id: id.to_owned(), deleted_at, version_id })
    }
}

/// Parses the type and the id of a deleted resource out of a URL such as `Patient/1` or `https://h/fhir/Patient/1`.
fn parse_target(url: &str) -> Option<(ResourceType, &str)> {
    let mut segments = url.rsplit('/');
    let (id, kind) = (segments.next()?, segments.next()?);
    Some((ResourceType::parse(kind)?, id)).filter(|(_, id)| is_id(id))
}

/// Appends a resource to NDJSON, with a line feed. A text of one line is copied as it is. From others, the whitespace between tokens is
/// removed and everything else is kept: numbers keep their digits.
pub fn append_line(resource: &str, out: &mut Vec<u8>) {
    if !resource.bytes().any(|byte| matches!(byte, b'\n' | b'\r')) {
        out.extend_from_slice(resource.trim().as_bytes());
        out.push(b'\n');
        return;
    }
    let (mut is_in_string, mut is_escaped) = (false, false);
    for byte in resource.bytes() {
        if !is_in_string && matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
            continue;
        }
        is_in_string ^= byte == b'"' && !is_escaped;
        is_escaped = is_in_string && byte == b'\\' && !is_escaped;
        out.push(byte);
    }
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Parses a page of these entries.
    fn page(members: &str) -> Result<Vec<String>, InvalidSearchPage> {
        let text = format!(r#"{{"resourceType":"Bundle","type":"searchset",{members}}}"#);
        Ok(SearchPage::parse(text.as_bytes())?.entries.iter().map(|entry| format!("{entry:?}")).collect())
    }

    #[test]
    fn a_page_has_its_total_its_next_link_and_the_bytes_of_its_resources() {
        let text = r#"{"resourceType":"Bundle","id":"x","type":"searchset","total":7,"link":[{"relation":"self","url":"a"},{"relation":"next","url":"http://h/fhir?_getpages=a&b=%3D=="}],
            "entry":[{"fullUrl":"http://h/fhir/Observation/o","resource":{"resourceType":"Observation","id":"o","valueQuantity":{"value":1.10}},"search":{"mode":"match"}},
            {"resource":{"resourceType":"Patient","id":"p"},"search":{"mode":"include"}},{"resource":{"resourceType":"OperationOutcome"},"search":{"mode":"outcome"}},
            {"resource":{"resourceType":"Patient","id":"q"}}]}"#;
        let page = SearchPage::parse(text.as_bytes()).unwrap();
        assert_eq!((page.total, page.next.as_deref()), (Some(7), Some("http://h/fhir?_getpages=a&b=%3D==")));
        let expected = [
            SearchEntry::Match(r#"{"resourceType":"Observation","id":"o","valueQuantity":{"value":1.10}}"#),
            SearchEntry::Other,
            SearchEntry::Outcome(r#"{"resourceType":"OperationOutcome"}"#),
            SearchEntry::Match(r#"{"resourceType":"Patient","id":"q"}"#),
        ];
        assert_eq!(page.entries, expected);
        assert!(!page.is_history);
        assert!(SearchPage::parse(br#"{"resourceType":"Bundle","type":"history"}"#).unwrap().is_history);
    }

    #[test]
    fn the_server_says_in_a_page_that_it_is_incomplete_with_and_without_a_mode() {
        for mode in ["", r#","search":{"mode":"outcome"}"#, r#","search":{"mode":"match"}"#, r#","search":{"mode":"include"}"#] {
            let outcome = |severity: &str| {
                let issue = format!(r#"{{"severity":"{severity}","code":"incomplete","diagnostics":"shard 3 did not answer"}}"#);
                format!(
                    r#"{{"resourceType":"Bundle","type":"searchset","entry":[{{"resource":{{"resourceType":"OperationOutcome","issue":[{issue}]}}{mode}}}]}}"#
                )
            };
            let (error, warning) = (outcome("error"), outcome("warning"));
            assert_eq!(SearchPage::parse(error.as_bytes()).unwrap().error().as_deref(), Some("shard 3 did not answer"), "{mode}");
            let page = SearchPage::parse(warning.as_bytes()).unwrap();
            assert_eq!((page.error(), page.messages().count()), (None, 1), "{mode}");
        }
    }

    #[test]
    fn deletions_of_a_history_are_recognized_by_their_request_or_their_url() {
        let entry = |url: &str, more: &str| format!(r#""entry":[{{"request":{{"method":"DELETE","url":"{url}"}}{more}}}]"#);
        for (url, more) in [
            ("Patient/p.1", ""),
            ("https://h/fhir/Patient/p.1", ""),
            ("Patient/p.1/_history/3", ""),
            ("", r#","fullUrl":"https://h/Patient/p.1""#),
        ] {
            let entries = page(&entry(url, more)).unwrap();
            assert!(entries.iter().all(|entry| entry.contains("p.1") && entry.contains("Patient")), "{entries:?}");
        }
        for url in ["Dog/1", "Patient", "Patient?identifier=1", "Patient/a%2F..", ""] {
            assert_eq!(page(&entry(url, "")), Err(InvalidSearchPage::InvalidDeletion(0)), "{url}");
        }
    }

    #[test]
    fn deletions_of_a_history_are_recognized_in_their_other_forms_and_what_may_be_one_is_unclear() {
        let history = |entry: &str| {
            let text = format!(r#"{{"resourceType":"Bundle","type":"history","entry":[{{"fullUrl":"https://h/Patient/p"{entry}}}]}}"#);
            SearchPage::parse(text.as_bytes()).unwrap().entries.iter().map(|entry| format!("{entry:?}")).collect::<String>()
        };
        for deletion in [
            r#","request":{"method":"delete","url":"Patient/p"}"#,
            r#","request":{"method":"GET","url":"Patient/p/_history/2"},"response":{"status":"410"}"#,
            r#","response":{"status":"204 No Content"}"#,
            r#","response":{"status":"410 Gone"}"#,
        ] {
            assert!(history(deletion).starts_with("Deletion("), "{deletion}");
        }
        for unclear in ["", r#","request":{"method":"GET","url":"Patient/p"}"#, r#","response":{"status":"200"}"#] {
            assert_eq!(history(unclear), "Unclear", "{unclear}");
        }
        assert_eq!(history(r#","request":{"method":"PUT","url":"Patient/p"},"response":{"status":"204"}"#), "Other");
        assert_eq!(page(r#""entry":[{"fullUrl":"https://h/Patient/p"}]"#).unwrap(), ["Other"], "a search has no deletions");
    }

    #[test]
    fn the_version_of_a_deletion_is_that_of_its_tag_or_its_url() {
        for (url, response, expected) in
            [("Patient/p", r#","etag":"W/\"3\"""#, Some("3")), ("Patient/p/_history/2", "", Some("2")), ("Patient/p", "", None)]
        {
            let entry = format!(r#"{{"request":{{"method":"DELETE","url":"{url}"}},"response":{{"status":"204"{response}}}}}"#);
            let text = format!(r#"{{"resourceType":"Bundle","type":"history","entry":[{entry}]}}"#);
            let page = SearchPage::parse(text.as_bytes()).unwrap();
            let version = |entry: &SearchEntry<'_>| matches!(entry, SearchEntry::Deletion(one) if one.version_id.as_deref() == expected);
            assert!(page.entries.iter().all(version), "{url}: {:?}", page.entries);
        }
    }

    #[test]
    fn other_texts_are_rejected_by_name() {
        for (text, words) in [
            ("<html>", "not valid JSON"),
            (r#"{"resourceType":"Bundle","type":"searchset","entry":[{"resource":{"#, "truncated"),
            (r#"{"resourceType":"Bundle","type":"searchset","total":"7"}"#, "wrong JSON type"),
            (r#"{"resourceType":"OperationOutcome"}"#, "not a Bundle"),
            (r#"{"resourceType":"Bundle","type":"transaction"}"#, "a type other than searchset"),
            (r#"{"resourceType":"Bundle"}"#, "a type other than searchset"),
        ] {
            let error = SearchPage::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn a_resource_of_several_lines_becomes_one_line_with_the_same_tokens() {
        let mut out = Vec::new();
        append_line("{\n  \"a\" : \"x \\\" \\\\\",\r\n\t\"b\": [ 1.10, -2E+3 ]\n}", &mut out);
        append_line(r#"{"a": 1.0, "b":2}"#, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), "{\"a\":\"x \\\" \\\\\",\"b\":[1.10,-2E+3]}\n{\"a\": 1.0, \"b\":2}\n");
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_rejected(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            drop(SearchPage::parse(&bytes));
        }

        /// Checks that a resource that is written with whitespace means the same afterwards.
        #[test]
        fn a_line_means_the_same_as_its_resource(text in "[ -~\\n\\t]{0,40}", number in -1.0e9..1.0e9_f64) {
            let value = serde_json::json!({ "a\n": [text, number, { "b": null }], "c\\": "\\\"" });
            let mut out = Vec::new();
            append_line(&serde_json::to_string_pretty(&value).unwrap(), &mut out);
            prop_assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1);
            prop_assert_eq!(serde_json::from_slice::<serde_json::Value>(&out).unwrap(), value);
        }
    }
}
