//! The texts by which a command names an export: an id, its beginning, or a status URL.

use reqwest::Url;

use crate::client::bulk::ClientError;
use crate::client::exports::status_url;
use crate::terminal::shorten;

/// Length of an id, in hexadecimal digits.
const ID_DIGITS: usize = 32;

/// Length of the shortest beginning of an id.
const MIN_DIGITS: usize = 4;

/// Reason why a text names no export.
#[derive(Debug, thiserror::Error)]
pub enum ReferenceError {
    /// The text has another form.
    #[error("`{0}` is not an export: give an id, at least its first {MIN_DIGITS} digits, or a status URL")]
    Invalid(String),
    /// No export has this id.
    #[error("no export of this client begins with `{0}`; `headrace jobs list` lists them")]
    Unknown(String),
    /// Several exports have this beginning.
    #[error("{count} exports begin with `{text}`: give more digits")]
    Ambiguous {
        /// The beginning.
        text: String,
        /// Number of exports.
        count: usize,
    },
    /// The status URL is not used.
    #[error(transparent)]
    Url(#[from] ClientError),
}

/// A reference to an export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reference {
    /// A status URL.
    Url(String),
    /// An id.
    Id(String),
    /// The beginning of an id.
    Beginning(String),
}

impl Reference {
    /// Parses a reference.
    pub(super) fn parse(text: &str) -> Result<Self, ReferenceError> {
        if text.contains("://") {
            return Ok(Self::Url(text.to_owned()));
        }
        let id = text.to_ascii_lowercase();
        match id.len() {
            _ if !id.bytes().all(|digit| digit.is_ascii_hexdigit()) => Err(ReferenceError::Invalid(shorten(text, 100))),
            ID_DIGITS => Ok(Self::Id(id)),
            MIN_DIGITS..ID_DIGITS => Ok(Self::Beginning(id)),
            _ => Err(ReferenceError::Invalid(shorten(text, 100))),
        }
    }

    /// Returns true if the list of exports is needed to find the export.
    pub(super) fn needs_list(&self) -> bool {
        matches!(self, Self::Beginning(_))
    }

    /// Returns the status URL. `listed` has the ids of all exports, if it is needed.
    pub(super) fn status_url(&self, base: &str, listed: &[String]) -> Result<Url, ReferenceError> {
        match self {
            Self::Url(url) => Ok(crate::client::origin::parse_http_url(url).map_err(ClientError::from)?),
            Self::Id(id) => Ok(status_url(base, id)?),
            Self::Beginning(text) => {
                let found: Vec<&String> = listed.iter().filter(|id| id.starts_with(text.as_str())).collect();
                match found[..] {
                    [] => Err(ReferenceError::Unknown(text.clone())),
                    [id] => Ok(status_url(base, id)?),
                    _ => Err(ReferenceError::Ambiguous { text: text.clone(), count: found.len() }),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_export_is_named_by_its_id_its_beginning_or_its_url() {
        let id = "4f9a1c0be25d4f0b8f6f3a0f4a6be1aa";
        let listed = [id.to_owned(), format!("4f9b{}", "0".repeat(28))];
        let url = |text: &str| Reference::parse(text)?.status_url("https://h.example/r4", &listed).map(String::from);
        let expected = format!("https://h.example/r4/_operations/export/{id}");
        for text in [id, "4f9a", "4F9A1C", &expected] {
            assert_eq!(url(text).unwrap(), expected, "{text}");
        }
        for (text, words) in [
            ("4f9", "at least its first 4 digits"),
            ("nightly", "at least its first 4 digits"),
            ("../../Patient", "is not an export"),
            ("\u{1b}[2J", "\\u{1b}[2J"),
            ("0000", "no export of this client begins with `0000`"),
            ("file:///etc/passwd", "http:// or https://"),
        ] {
            let error = url(text).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
        assert!(Reference::parse("4f9a").unwrap().needs_list() && !Reference::parse(id).unwrap().needs_list());
        let twins = [format!("4f9a{}", "0".repeat(28)), id.to_owned()];
        let error = Reference::parse("4f9a").unwrap().status_url("https://h.example/r4", &twins).unwrap_err();
        assert_eq!(error.to_string(), "2 exports begin with `4f9a`: give more digits");
    }
}
