//! Builds a registration from the command line and validates it.

use std::path::{Component, Path, PathBuf};

use headrace_core::access::{Client, ClientKeys, FixedConfiguration, FixedConfigurations, RejectedScope, Scopes, is_external_name};
use headrace_core::request::ANONYMIZATION_FOLDER;
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::ids::{Caller, RegistrationId, is_bucket_name};
use headrace_edge::config::parse_fhir_version;
use headrace_edge::jwks::{InvalidJwksUrl, UrlPolicy};
use headrace_edge::system::random_id;

use super::jwks::{self, JwksError};
use crate::cli::{AddClientArgs, KeySetArgs, OptionError, RegistryLocation, parse_option};
use crate::server::state::FILES_FOLDER;

/// The names of callers with an external identity, for errors.
const EXTERNAL_NAMES: &str = "the ARN of a user (arn:aws:iam::ACCOUNT:user/NAME), the ARN of a role's sessions without path and \
                              session (arn:aws:sts::ACCOUNT:assumed-role/ROLE), issuer#subject of the identity provider, or `*` for all callers \
                              that have no registration of their own";

/// Reason why a client cannot be registered.
#[derive(Debug, thiserror::Error)]
pub enum RegistrationError {
    /// Scopes that can never be granted.
    #[error("--scope: {}", format_list(.0))]
    Scopes(Vec<RejectedScope>),
    /// Empty list of scopes.
    #[error("--scope is empty: write it like 'system/*.rs' or 'system/Patient.rs system/Observation.rs'")]
    NoScope,
    /// A client with an external identity has no id.
    #[error("--external-identity needs the client's external name: {EXTERNAL_NAMES}")]
    MissingExternalName,
    /// No caller with an external identity has this name, so that the registration would restrict nobody.
    #[error("`{0}` is not the name of a caller with an external identity: write {EXTERNAL_NAMES}")]
    ExternalName(String),
    /// The id of all callers without a registration has keys.
    #[error("`*` stands for all callers that have no registration of their own, and has no keys: use --external-identity")]
    KeysOfUnregistered,
    /// The key file cannot be read.
    #[error("`{path}` cannot be read")]
    File {
        /// Path of the file.
        path: PathBuf,
        /// Error of the file system.
        #[source]
        cause: std::io::Error,
    },
    /// The keys cannot be used.
    #[error("`{path}` {problem}")]
    Jwks {
        /// Path of the file.
        path: PathBuf,
        /// Problem that was found.
        problem: JwksError,
    },
    /// The URL of the keys cannot be used.
    #[error("--jwks-url is `{url}`: {problem}")]
    Url {
        /// Value of the option.
        url: String,
        /// Problem that was found.
        problem: InvalidJwksUrl,
    },
    /// The destination cannot be used.
    #[error("--destination is `{destination}`: {problem}")]
    Destination {
        /// Value of the option.
        destination: String,
        /// Problem that was found.
        problem: &'static str,
    },
    /// The value of an option is invalid.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// The random number generator failed.
    #[error(transparent)]
    Random(#[from] StoreError),
}

/// Formats scopes and reasons in one line.
fn format_list(rejected: &[RejectedScope]) -> String {
    rejected.iter().map(RejectedScope::to_string).collect::<Vec<_>>().join("; ")
}

/// Builds the registration of a new client.
pub(super) fn new_client(add: &AddClientArgs, now: Millis) -> Result<Client, RegistrationError> {
    let is_local = add.registry.table.is_none();
    let keys = match &add.authentication {
        authentication if authentication.external_identity => ClientKeys::External,
        authentication => read_keys(authentication.jwks.as_deref(), authentication.jwks_url.as_deref(), is_local)?,
    };
    let id = match (&add.id, &keys) {
        (Some(id), ClientKeys::External) if !is_external_name(&id.0) => return Err(RegistrationError::ExternalName(id.0.clone())),
        (Some(id), ClientKeys::Jwks(_) | ClientKeys::JwksUrl(_)) if id.0 == Caller::UNREGISTERED => {
            return Err(RegistrationError::KeysOfUnregistered);
        }
        (Some(id), _) => id.clone(),
        (None, ClientKeys::External) => return Err(RegistrationError::MissingExternalName),
        (None, ClientKeys::Jwks(_) | ClientKeys::JwksUrl(_)) => Caller(random_id()?),
    };
    if let Some(destination) = &add.destination {
        validate_destination(destination, is_local)
            .map_err(|problem| RegistrationError::Destination { destination: destination.clone(), problem })?;
    }
    Ok(Client {
        registration_id: Some(RegistrationId(random_id()?)),
        name: add.name.clone(),
        groups: Some(add.groups.iter().cloned().collect()).filter(|_| !add.groups.is_empty()),
        containers: Some(add.containers.iter().cloned().collect()).filter(|_| !add.containers.is_empty()),
        anonymization_configs: fixed_configurations(&add.configurations),
        max_exports: add.max_exports,
        destination: add.destination.clone(),
        ..Client::new(id, keys, parse_scopes(add)?, now)
    })
}

/// Returns the configurations to which a client is restricted, or `None` if there are none.
pub(super) fn fixed_configurations(configurations: &[FixedConfiguration]) -> Option<FixedConfigurations> {
    Some(configurations.iter().cloned().collect()).filter(|_| !configurations.is_empty())
}

/// Returns a line for each configuration that the server on this machine does not have. Returns nothing for a deployment, and for a client
/// with a destination of its own, because this command does not read these places.
pub(super) fn missing_configurations(configurations: &[FixedConfiguration], client: &Client, registry: &RegistryLocation) -> String {
    if registry.table.is_some() || client.destination.is_some() {
        return String::new();
    }
    let folder = registry.state.join(FILES_FOLDER).join(ANONYMIZATION_FOLDER);
    let missing = configurations.iter().map(|fixed| fixed.name.as_str()).filter(|name| !folder.join(name).exists());
    let line =
        |name: &str| format!("attention: there is no `{name}` in `{}`: exports with it are rejected until it is there\n", folder.display());
    missing.map(line).collect()
}

/// Reads the new keys of a registered client.
pub(super) fn new_keys(args: &KeySetArgs, is_local: bool) -> Result<ClientKeys, RegistrationError> {
    read_keys(args.jwks.as_deref(), args.jwks_url.as_deref(), is_local)
}

/// Reads and validates the key file, or validates the URL of the keys.
fn read_keys(file: Option<&Path>, url: Option<&str>, is_local: bool) -> Result<ClientKeys, RegistrationError> {
    if let Some(path) = file {
        let text = crate::stores::regular_file::read_regular_file_to_string(path)
            .map_err(|cause| RegistrationError::File { path: path.to_owned(), cause })?;
        jwks::validate_key_set(&text).map_err(|problem| RegistrationError::Jwks { path: path.to_owned(), problem })?;
        return Ok(ClientKeys::Jwks(text));
    }
    let url = url.unwrap_or_default();
    let policy = if is_local { UrlPolicy::LocalClients } else { UrlPolicy::Clients };
    policy.check_registered_url(url).map_err(|problem| RegistrationError::Url { url: url.to_owned(), problem })?;
    Ok(ClientKeys::JwksUrl(url.to_owned()))
}

/// Validates the form of a client's destination. Write access is checked when the client starts an export.
fn validate_destination(destination: &str, is_local: bool) -> Result<(), &'static str> {
    if is_local {
        let is_plain = Path::new(destination).components().all(|component| matches!(component, Component::RootDir | Component::Normal(_)));
        return if Path::new(destination).is_absolute() && is_plain {
            Ok(())
        } else {
            Err("on one machine it must be an absolute path of a folder")
        };
    }
    let (bucket, prefix) = destination.split_once('/').map_or((destination, None), |(bucket, prefix)| (bucket, Some(prefix)));
    let is_segment = |segment: &str| !segment.is_empty() && segment != "." && segment != ".." && !segment.chars().any(char::is_control);
    if is_bucket_name(bucket) && prefix.is_none_or(|prefix| prefix.split('/').all(is_segment)) {
        Ok(())
    } else {
        Err("on AWS it must be bucket or bucket/prefix, without a slash at the end")
    }
}

/// Parses the scopes and rejects those that can never be granted.
fn parse_scopes(add: &AddClientArgs) -> Result<Scopes, RegistrationError> {
    let version = parse_option(&add.fhir_version, parse_fhir_version)?.unwrap_or_default();
    let (scopes, rejected) = Scopes::parse(&add.scopes.join(" "), version);
    if !rejected.is_empty() {
        return Err(RegistrationError::Scopes(rejected));
    }
    if scopes.is_empty() { Err(RegistrationError::NoScope) } else { Ok(scopes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_url_must_be_https_with_a_host_name() {
        for (url, on_aws, is_local) in [
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
            assert_eq!(UrlPolicy::Clients.check_registered_url(url).is_ok(), on_aws, "{url} on AWS");
            assert_eq!(UrlPolicy::LocalClients.check_registered_url(url).is_ok(), is_local, "{url} on one machine");
        }
    }

    #[test]
    fn a_destination_is_a_bucket_on_aws_and_an_absolute_path_on_one_machine() {
        for (destination, on_aws, is_local) in [
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
            assert_eq!(validate_destination(destination, false).is_ok(), on_aws, "{destination} on AWS");
            assert_eq!(validate_destination(destination, true).is_ok(), is_local, "{destination} on one machine");
        }
    }
}
