//! The source of `headrace export`: a directory, or a FHIR server.

use std::path::{Path, PathBuf};

use crate::terminal::shorten;

/// The source of an export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A directory of NDJSON files.
    Directory(PathBuf),
    /// The base URL of a FHIR server.
    Server(String),
}

/// Reason why a text is not the source of an export.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// A bucket of S3.
    #[error(
        "`{0}` is a bucket: deploy Headrace in its account and export from the base URL of the stack, or copy the bucket to a \
         directory (aws s3 sync {0} DIR) and export that"
    )]
    S3(String),
    /// A file URL.
    #[error("`{0}` is a file URL: give the path of the directory without `file://`")]
    File(String),
    /// Another scheme.
    #[error("`{0}` has a scheme that this program does not read: the source is a directory, or a FHIR server by http:// or https://")]
    OtherScheme(String),
    /// A host and a port without a scheme.
    #[error("`{0}` is not a directory, and as the URL of a server it has no scheme: write http:// or https:// before it")]
    NoScheme(String),
    /// A URL without its slashes.
    #[error("`{0}` is not a URL: write http:// or https:// and the host")]
    NoHost(String),
}

impl Source {
    /// Parses a source: the path of a directory, or the URL of a server.
    pub fn parse(text: &str) -> Result<Self, SourceError> {
        let shown = || shorten(text, 200);
        let lower = text.to_ascii_lowercase();
        match lower.split_once("://").map(|(scheme, _)| scheme) {
            Some("http" | "https") => Ok(Self::Server(text.to_owned())),
            Some("s3" | "s3a" | "s3n") => Err(SourceError::S3(shown())),
            Some("file") => Err(SourceError::File(shown())),
            Some(scheme) if is_scheme(scheme) => Err(SourceError::OtherScheme(shown())),
            None if lower.starts_with("http:") || lower.starts_with("https:") => Err(SourceError::NoHost(shown())),
            None if is_host_and_port(text) && !Path::new(text).exists() => Err(SourceError::NoScheme(shown())),
            Some(_) | None => Ok(Self::Directory(PathBuf::from(text))),
        }
    }
}

/// Returns true for a text that begins with a host and a port, such as `127.0.0.1:8080/fhir`.
fn is_host_and_port(text: &str) -> bool {
    let authority = text.split_once('/').map_or(text, |(authority, _)| authority);
    authority.split_once(':').is_some_and(|(host, port)| {
        let is_host = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
        !host.is_empty() && host.bytes().all(is_host) && port.parse::<u16>().is_ok()
    })
}

/// Returns true for the form of a URL's scheme.
fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_distinguished_from_servers_and_other_schemes_are_named() {
        for text in ["lake", "./lake", "/data/lake", "C:\\lake", "a:b", "lake/x://y"] {
            assert_eq!(Source::parse(text), Ok(Source::Directory(PathBuf::from(text))));
        }
        for text in ["http://h/fhir", "HTTPS://h/fhir"] {
            assert_eq!(Source::parse(text), Ok(Source::Server(text.to_owned())));
        }
        for (text, words) in [
            ("s3://bucket/lake", "aws s3 sync s3://bucket/lake DIR"),
            ("file:///data/lake", "without `file://`"),
            ("ftp://h/lake", "http:// or https://"),
            ("gs://bucket", "http:// or https://"),
            ("https:/h/fhir", "http:// or https:// and the host"),
            ("127.0.0.1:8080/fhir", "no scheme"),
            ("localhost:8080", "no scheme"),
            ("http:h", "http:// or https:// and the host"),
        ] {
            let error = Source::parse(text).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
