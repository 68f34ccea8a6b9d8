//! From a command line to a registration, or to what is wrong with it.

use std::net::IpAddr;
use std::path::{Component, Path, PathBuf};

use headrace_core::access::{Client, ClientKeys, NotGrantable, Scopes};
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::ids::Caller;
use headrace_edge::config::{ConfigError, read_version};
use headrace_edge::system::random_name;
use reqwest::Url;

use super::jwks::{self, JwksError};
use crate::cli::{Add, KeySetArgs};

/// What cannot be registered, and why.
#[derive(Debug, thiserror::Error)]
pub enum RegistrationError {
    /// Scopes that could not be granted.
    #[error("--scope: {}", list(.0))]
    Scopes(Vec<NotGrantable>),
    /// Nothing to grant.
    #[error("--scope names nothing: write it like 'system/*.rs' or 'system/Patient.rs system/Observation.rs'")]
    NoScope,
    /// Whoever is known elsewhere has a name there.
    #[error("a client that is known elsewhere needs its name there: its ARN without a session, or issuer#subject")]
    Nameless,
    /// The keys' file.
    #[error("`{path}` cannot be read")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// The keys.
    #[error("`{path}` {problem}")]
    Jwks {
        /// Of which file.
        path: PathBuf,
        /// What is wrong.
        problem: JwksError,
    },
    /// The keys' URL.
    #[error("--jwks-url is `{url}`: {problem}")]
    Url {
        /// Which.
        url: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// The destination.
    #[error("--destination is `{place}`: {problem}")]
    Destination {
        /// Which.
        place: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// A setting.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// No random numbers.
    #[error(transparent)]
    Random(#[from] StoreError),
}

fn list(refused: &[NotGrantable]) -> String {
    refused.iter().map(NotGrantable::to_string).collect::<Vec<_>>().join("; ")
}

/// The registration that the command line asks for.
pub(super) fn client(add: &Add, now: Millis) -> Result<Client, RegistrationError> {
    let on_one_machine = add.place.table.is_none();
    let keys = match &add.proof {
        proof if proof.known_elsewhere => ClientKeys::Elsewhere,
        proof => keys(proof.jwks.as_deref(), proof.jwks_url.as_deref(), on_one_machine)?,
    };
    let id = match (&add.id, &keys) {
        (Some(id), _) => id.clone(),
        (None, ClientKeys::Elsewhere) => return Err(RegistrationError::Nameless),
        (None, ClientKeys::Jwks(_) | ClientKeys::JwksUrl(_)) => Caller(random_name()?),
    };
    if let Some(place) = &add.destination {
        destination(place, on_one_machine).map_err(|problem| RegistrationError::Destination { place: place.clone(), problem })?;
    }
    Ok(Client {
        name: add.name.clone(),
        groups: Some(add.groups.iter().cloned().collect()).filter(|_| !add.groups.is_empty()),
        containers: Some(add.containers.iter().cloned().collect()).filter(|_| !add.containers.is_empty()),
        jobs: add.jobs,
        destination: add.destination.clone(),
        ..Client::new(id, keys, scopes(add)?, now)
    })
}

/// The keys that replace a client's own.
pub(super) fn new_keys(given: &KeySetArgs, on_one_machine: bool) -> Result<ClientKeys, RegistrationError> {
    keys(given.jwks.as_deref(), given.jwks_url.as_deref(), on_one_machine)
}

fn keys(file: Option<&Path>, url: Option<&str>, on_one_machine: bool) -> Result<ClientKeys, RegistrationError> {
    if let Some(path) = file {
        let text = std::fs::read_to_string(path).map_err(|cause| RegistrationError::File { path: path.to_owned(), cause })?;
        jwks::check(&text).map_err(|problem| RegistrationError::Jwks { path: path.to_owned(), problem })?;
        return Ok(ClientKeys::Jwks(text));
    }
    let url = url.unwrap_or_default();
    check_url(url, on_one_machine).map_err(|problem| RegistrationError::Url { url: url.to_owned(), problem })?;
    Ok(ClientKeys::JwksUrl(url.to_owned()))
}

/// Looks at a URL of keys. Where its name leads is looked at again whenever keys are fetched.
fn check_url(text: &str, on_one_machine: bool) -> Result<(), &'static str> {
    let url = Url::parse(text).map_err(|_| "it is no absolute URL")?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it names a user; keys are public, leave that out");
    }
    if url.fragment().is_some() {
        return Err("it has a fragment (#…), which is never sent; leave that out");
    }
    let host = url.host_str().ok_or("it names no host")?;
    let address: Option<IpAddr> = host.trim_start_matches('[').trim_end_matches(']').parse().ok();
    let is_here = host == "localhost" || address.is_some_and(|address| address.is_loopback());
    match (url.scheme(), is_here) {
        ("http" | "https", true) if on_one_machine => Ok(()),
        (_, true) => Err("it leads to the server itself"),
        ("https", false) if address.is_none() => Ok(()),
        ("https", false) => Err("its host is an address: a name is needed, which a certificate can vouch for"),
        (_, false) => Err("it must begin with https://, or anybody on the way could put keys of theirs in its place"),
    }
}

/// Looks at a client's own destination. Whether it can be written to is looked at when the client asks for an export.
fn destination(place: &str, on_one_machine: bool) -> Result<(), &'static str> {
    if on_one_machine {
        let is_plain = Path::new(place).components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
        return if Path::new(place).is_absolute() && is_plain { Ok(()) } else { Err("on one machine it is a folder, from the root on") };
    }
    let (bucket, prefix) = place.split_once('/').map_or((place, None), |(bucket, prefix)| (bucket, Some(prefix)));
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    let is_segment = |segment: &str| !segment.is_empty() && segment != "." && segment != ".." && !segment.chars().any(char::is_control);
    let is_bucket = (3..=63).contains(&bucket.len()) && bucket.bytes().all(fits);
    if is_bucket && prefix.is_none_or(|prefix| prefix.split('/').all(is_segment)) {
        Ok(())
    } else {
        Err("on AWS it is the name of a bucket, or bucket/prefix without a slash at its end")
    }
}

fn scopes(add: &Add) -> Result<Scopes, RegistrationError> {
    let version = add.fhir_version.as_deref().filter(|text| !text.is_empty()).map(read_version).transpose()?.unwrap_or_default();
    let (scopes, refused) = Scopes::of_text(&add.scopes.join(" "), version);
    if !refused.is_empty() {
        return Err(RegistrationError::Scopes(refused));
    }
    if scopes.are_nothing() { Err(RegistrationError::NoScope) } else { Ok(scopes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_fetched_from_where_nobody_else_can_answer() {
        for (url, on_aws, on_one_machine) in [
            ("https://study.example/jwks.json", true, true),
            ("https://study.example:8443/keys?v=1", true, true),
            ("http://study.example/jwks.json", false, false),
            ("https://10.0.0.7/jwks.json", false, false),
            ("https://169.254.169.254/latest", false, false),
            ("https://[fd00::1]/jwks.json", false, false),
            ("http://127.0.0.1:8000/jwks.json", false, true),
            ("http://localhost:8000/jwks.json", false, true),
            ("https://[::1]/jwks.json", false, true),
            ("https://me:secret@study.example/", false, false),
            ("https://study.example/#keys", false, false),
            ("file:///etc/passwd", false, false),
            ("jwks.json", false, false),
            ("", false, false),
        ] {
            assert_eq!(check_url(url, false).is_ok(), on_aws, "{url} on AWS");
            assert_eq!(check_url(url, true).is_ok(), on_one_machine, "{url} on one machine");
        }
    }

    #[test]
    fn a_destination_is_what_the_place_can_have() {
        for (place, on_aws, on_one_machine) in [
            ("study-bucket", true, false),
            ("study-bucket/exports/lab", true, false),
            ("study-bucket/", false, false),
            ("study-bucket/../x", false, false),
            ("s3://study-bucket", false, false),
            ("/srv/study", false, true),
            ("/srv/../study", false, false),
            ("study/exports", true, false),
            ("", false, false),
        ] {
            assert_eq!(destination(place, false).is_ok(), on_aws, "{place} on AWS");
            assert_eq!(destination(place, true).is_ok(), on_one_machine, "{place} on one machine");
        }
    }
}
