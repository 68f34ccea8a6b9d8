//! One entry of a Bundle.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::error::BundleError;

/// One entry of a Bundle.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BundleEntry<'a> {
    /// The text of the resource: valid JSON, unchanged.
    pub resource: Option<&'a str>,
    /// The full URL: an absolute URL, `urn:uuid:…` or `urn:oid:…`.
    pub full_url: Option<String>,
    /// The reason why a search returned the entry: `match`, `include` or `outcome`.
    pub search_mode: Option<String>,
    /// The HTTP method of the request.
    pub method: Option<String>,
    /// The URL of the request, relative to the base URL.
    pub url: Option<String>,
    /// The query that makes the creation conditional.
    pub if_none_exist: Option<String>,
    /// The text of the HTTP status in the response.
    pub status: Option<String>,
    /// The text of `response.lastModified`.
    pub last_modified: Option<String>,
    /// The text of `response.etag`.
    pub etag: Option<String>,
}

/// The JSON of an entry.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EntryJson<'a> {
    full_url: Option<String>,
    #[serde(borrow)]
    resource: Option<&'a RawValue>,
    search: Option<SearchJson>,
    request: Option<RequestJson>,
    response: Option<ResponseJson>,
}

/// The member `search` of an entry.
#[derive(Deserialize)]
struct SearchJson {
    mode: Option<String>,
}

/// The member `request` of an entry.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RequestJson {
    method: Option<String>,
    url: Option<String>,
    if_none_exist: Option<String>,
}

/// The member `response` of an entry.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ResponseJson {
    status: Option<String>,
    last_modified: Option<String>,
    etag: Option<String>,
}

impl<'a> BundleEntry<'a> {
    /// Parses the text of an entry, which starts at `offset` in its file.
    pub fn parse(text: &'a [u8], offset: u64) -> Result<Self, BundleError> {
        // The parser would also take the items of an array for the members in order.
        if text.first() != Some(&b'{') {
            return Err(BundleError::InvalidMember { offset });
        }
        let json: EntryJson<'a> = serde_json::from_slice(text).map_err(|error| BundleError::from_json(&error, text, offset))?;
        let (method, url, if_none_exist) =
            json.request.map(|request| (request.method, request.url, request.if_none_exist)).unwrap_or_default();
        let (status, last_modified, etag) =
            json.response.map(|response| (response.status, response.last_modified, response.etag)).unwrap_or_default();
        Ok(Self {
            resource: json.resource.map(RawValue::get),
            full_url: json.full_url,
            search_mode: json.search.and_then(|search| search.mode),
            method,
            url,
            if_none_exist,
            status,
            last_modified,
            etag,
        })
    }

    /// Returns true if the entry's resource describes the search itself, and is not a resource of the server.
    pub fn is_outcome(&self) -> bool {
        self.search_mode.as_deref() == Some("outcome")
    }

    /// Returns true if the entry deletes a resource: a request in a transaction or batch, or an event in a history. Some servers write the
    /// method in lower case.
    pub fn is_deletion(&self) -> bool {
        self.method.as_deref().is_some_and(|method| method.eq_ignore_ascii_case("DELETE"))
    }

    /// Returns true if the entry of a history is a deletion. Some servers write only the status of the response: 410 without a resource, also
    /// with the method `GET`, or 204 without a resource and a method.
    pub fn is_deletion_of_history(&self) -> bool {
        let has_status_of_deletion = || match self.method.as_deref() {
            Some(method) if method.eq_ignore_ascii_case("GET") => self.has_status("410"),
            Some(_) => false,
            None => self.has_status("410") || self.has_status("204"),
        };
        self.is_deletion() || self.resource.is_none() && has_status_of_deletion()
    }

    /// Returns true if the entry changes a resource: a request in a transaction or batch, or an event in a history.
    pub fn is_change(&self) -> bool {
        self.method.as_deref().is_some_and(|method| ["POST", "PUT", "PATCH"].iter().any(|known| method.eq_ignore_ascii_case(known)))
    }

    /// Returns true if the entry of a history has no resource and says neither that it is a change nor that it is a deletion: it may be one.
    pub fn is_unclear_in_history(&self) -> bool {
        self.resource.is_none() && !self.is_deletion_of_history() && !self.is_change()
    }

    /// Returns the version id in the response: its ETag without quotation marks.
    pub fn version_id(&self) -> Option<&str> {
        self.etag.as_deref().map(|tag| tag.trim_start_matches("W/").trim_matches('"'))
    }

    /// Returns true if the response has this status, with or without its words.
    fn has_status(&self, code: &str) -> bool {
        self.status.as_deref().and_then(|status| status.split_whitespace().next()) == Some(code)
    }
}
