//! Conditional requests (RFC 9110, section 13).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{HeaderName, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE};
use http::{HeaderMap, HeaderValue};

/// The version of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Validators {
    /// The entity tag, with its quotes.
    etag: String,
    /// The time of the last change, in full seconds.
    modified: SystemTime,
}

/// Result of the conditions of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// The response is sent.
    Met,
    /// The client has this version already.
    NotModified,
    /// The client wants another version.
    Failed,
}

impl Validators {
    /// Creates the validators of a file. `etag` is the entity tag with its quotes, and with `W/` before them if it is weak.
    pub(super) fn new(etag: String, modified: SystemTime) -> Self {
        let seconds = modified.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Self { etag, modified: UNIX_EPOCH + Duration::from_secs(seconds) }
    }

    /// Returns the entity tag, as a header has it.
    pub(super) fn etag(&self) -> &str {
        &self.etag
    }

    /// Returns the time of the last change, as a header has it.
    pub(super) fn last_modified(&self) -> String {
        httpdate::fmt_http_date(self.modified)
    }

    /// Evaluates the conditions of a GET or HEAD, in the order of section 13.2.2: a condition by entity tag makes the server ignore the one
    /// by date.
    pub(super) fn evaluate(&self, headers: &HeaderMap) -> Condition {
        let is_in_time = match matches_any(headers, &IF_MATCH, |tag| self.is_strongly(tag)) {
            Some(is_match) => is_match,
            None => date(headers, &IF_UNMODIFIED_SINCE).is_none_or(|date| self.modified <= date),
        };
        if !is_in_time {
            return Condition::Failed;
        }
        let is_known = match matches_any(headers, &IF_NONE_MATCH, |tag| self.is_weakly(tag)) {
            Some(is_match) => is_match,
            None => date(headers, &IF_MODIFIED_SINCE).is_some_and(|date| self.modified <= date),
        };
        if is_known { Condition::NotModified } else { Condition::Met }
    }

    /// Returns true if a range may be sent: there is no `If-Range`, or it has this version (section 13.1.5).
    pub(super) fn allows_range(&self, headers: &HeaderMap) -> bool {
        let mut values = headers.get_all(IF_RANGE).iter();
        match (values.next().map(HeaderValue::to_str), values.next()) {
            (None, _) => true,
            (Some(Ok(value)), None) => {
                // The file does not change once it is recorded, so its date is a strong validator.
                self.is_strongly(value.trim()) || httpdate::parse_http_date(value).is_ok_and(|date| date == self.modified)
            }
            (Some(_), _) => false,
        }
    }

    /// Compares strongly: weak tags do not match.
    fn is_strongly(&self, tag: &str) -> bool {
        !self.etag.starts_with("W/") && tag == self.etag
    }

    /// Compares weakly.
    fn is_weakly(&self, tag: &str) -> bool {
        let opaque = |tag: &str| tag.strip_prefix("W/").unwrap_or(tag).to_owned();
        opaque(tag) == opaque(&self.etag)
    }
}

/// Returns true if the list of entity tags in a header has one that matches, or is `*`. `None` without the header.
fn matches_any(headers: &HeaderMap, name: &HeaderName, is_match: impl Fn(&str) -> bool) -> Option<bool> {
    let mut values = headers.get_all(name).iter().peekable();
    values.peek()?;
    Some(values.filter_map(|value| value.to_str().ok()).any(|value| value.trim() == "*" || entity_tags(value).into_iter().any(&is_match)))
}

/// Splits a list of entity tags. A tag may contain commas. Anything else ends the list.
fn entity_tags(list: &str) -> Vec<&str> {
    let (mut tags, mut rest) = (Vec::new(), list);
    loop {
        rest = rest.trim_start_matches([',', ' ', '\t']);
        let prefix = if rest.starts_with("W/\"") { 3 } else { 1 };
        let Some(length) = rest.get(prefix..).and_then(|text| text.find('"')).filter(|_| rest.starts_with(['"', 'W'])) else { return tags };
        let Some((tag, behind)) = rest.split_at_checked(prefix + length + 1) else { return tags };
        tags.push(tag);
        rest = behind;
    }
}

/// Returns the date of a header. `None` if it is not a date, or if the header is repeated.
fn date(headers: &HeaderMap, name: &HeaderName) -> Option<SystemTime> {
    let mut values = headers.get_all(name).iter();
    let (value, None) = (values.next()?, values.next()) else { return None };
    httpdate::parse_http_date(value.to_str().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODIFIED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const AFTER: &str = "Sunday, 06-Nov-94 08:49:38 GMT";

    fn validators(etag: &str) -> Validators {
        Validators::new(etag.to_owned(), httpdate::parse_http_date(MODIFIED).unwrap() + Duration::from_millis(300))
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pairs = pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()));
        HeaderMap::from_iter(pairs)
    }

    #[test]
    fn conditions_are_evaluated_in_the_order_of_the_standard() {
        use Condition::{Failed, Met, NotModified};
        for (pairs, expected) in [
            (&[][..], Met),
            (&[("if-match", "\"a\"")], Met),
            (&[("if-match", "\"b\"")], Failed),
            (&[("if-match", "\"b\", \"a\"")], Met),
            (&[("if-match", "*")], Met),
            (&[("if-match", "W/\"a\"")], Failed),
            (&[("if-match", "a")], Failed),
            (&[("if-unmodified-since", MODIFIED)], Met),
            (&[("if-unmodified-since", AFTER)], Met),
            (&[("if-unmodified-since", BEFORE)], Failed),
            (&[("if-unmodified-since", "yesterday")], Met),
            (&[("if-match", "\"a\""), ("if-unmodified-since", BEFORE)], Met),
            (&[("if-none-match", "\"a\"")], NotModified),
            (&[("if-none-match", "W/\"a\"")], NotModified),
            (&[("if-none-match", "\"x,y\",W/\"b\" , \"a\"")], NotModified),
            (&[("if-none-match", "*")], NotModified),
            (&[("if-none-match", "\"b\"")], Met),
            (&[("if-modified-since", MODIFIED)], NotModified),
            (&[("if-modified-since", "Sun Nov  6 08:49:37 1994")], NotModified),
            (&[("if-modified-since", AFTER)], NotModified),
            (&[("if-modified-since", BEFORE)], Met),
            (&[("if-none-match", "\"b\""), ("if-modified-since", AFTER)], Met),
            (&[("if-none-match", "\"a\""), ("if-modified-since", BEFORE)], NotModified),
            (&[("if-match", "\"b\""), ("if-none-match", "\"a\"")], Failed),
        ] {
            assert_eq!(validators("\"a\"").evaluate(&headers(pairs)), expected, "{pairs:?}");
        }
        assert_eq!(validators("W/\"a\"").evaluate(&headers(&[("if-none-match", "\"a\"")])), NotModified);
        assert_eq!(validators("W/\"a\"").evaluate(&headers(&[("if-match", "W/\"a\"")])), Failed);
    }

    #[test]
    fn a_range_is_sent_only_of_the_version_that_the_client_has() {
        for (value, is_allowed) in [
            ("\"a\"", true),
            ("\"b\"", false),
            ("W/\"a\"", false),
            ("*", false),
            (MODIFIED, true),
            (BEFORE, false),
            (AFTER, false),
            ("nonsense", false),
            ("\"a\", \"b\"", false),
        ] {
            assert_eq!(validators("\"a\"").allows_range(&headers(&[("if-range", value)])), is_allowed, "{value}");
        }
        assert!(validators("\"a\"").allows_range(&headers(&[])));
        assert!(!validators("W/\"a\"").allows_range(&headers(&[("if-range", "W/\"a\"")])));
    }

    #[test]
    fn any_list_of_tags_is_split_without_a_panic() {
        for (list, tags) in [
            ("\"a\",W/\"b\"", vec!["\"a\"", "W/\"b\""]),
            ("  , \"a b,c\"", vec!["\"a b,c\""]),
            ("\"a", vec![]),
            ("W", vec![]),
            ("W/", vec![]),
            ("\"", vec![]),
            ("", vec![]),
            ("\"a\" x", vec!["\"a\""]),
            ("w/\"a\"", vec![]),
        ] {
            assert_eq!(entity_tags(list), tags, "{list}");
        }
    }
}
