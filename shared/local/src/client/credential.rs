//! The credential that the command line names.

use std::io;
use std::path::Path;

use crate::cli::{ClientKeyOptions, CredentialOptions};
use crate::client::bulk::{Credential, LoginSettings};
use crate::client::login::ClientCredential;
use crate::stores::client_key::{KeyError, read_client_key};
use crate::stores::private::is_accessible_by_others;

/// The longest secret or password, in bytes.
const MAX_SECRET_BYTES: usize = 4096;

/// Reads the credential that the options name: a client with its key or secret, a token, a user and a password, or none.
pub(crate) fn read_credential(options: &CredentialOptions) -> Result<Credential, KeyError> {
    if let Some(login) = read_login(&options.key)? {
        return Ok(Credential::BackendServices(login));
    }
    if let Some(path) = &options.basic_file {
        return Ok(Credential::Basic(read_secret(path)?));
    }
    Ok(options.token.clone().map_or(Credential::None, Credential::BearerToken))
}

/// Reads the client's key or secret. Returns `None` if the options name no client.
pub(crate) fn read_login(options: &ClientKeyOptions) -> Result<Option<LoginSettings>, KeyError> {
    let credential = match (&options.client_key, &options.client_secret_file) {
        (Some(path), _) => ClientCredential::Key(read_client_key(path, options.client_key_id.as_deref())?),
        (None, Some(path)) => ClientCredential::Secret(read_secret(path)?),
        (None, None) => return Ok(None),
    };
    let Some(client_id) = options.client_id.clone() else { return Ok(None) };
    let (scope, token_url) = (options.scope.clone(), options.token_url.clone());
    Ok(Some(LoginSettings { client_id, credential, scope, token_url }))
}

/// Reads a file with a secret: its text without the line end. Other users must not be able to read it.
fn read_secret(path: &Path) -> Result<String, KeyError> {
    let read = || {
        if is_accessible_by_others(&std::fs::metadata(path)?) {
            return Err(io::Error::other("other users can read it; remove their access with chmod 600"));
        }
        let text = std::fs::read_to_string(path)?;
        let secret = text.trim_end_matches(['\r', '\n']);
        if (1..=MAX_SECRET_BYTES).contains(&secret.len()) && !secret.contains(char::is_control) {
            return Ok(secret.to_owned());
        }
        Err(io::Error::other("it must have one line"))
    };
    read().map_err(|cause| KeyError::Secret { path: path.to_owned(), cause })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_secret_is_one_line_that_others_cannot_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let write = |text: &str, mode: u32| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        };
        write("ann:p: w\n", 0o600);
        assert_eq!(read_secret(&path).unwrap(), "ann:p: w");
        for (text, mode) in [("", 0o600), ("\n", 0o600), ("a\nb\n", 0o600), ("a", 0o644)] {
            write(text, mode);
            assert!(matches!(read_secret(&path), Err(KeyError::Secret { .. })), "{text:?} {mode:o}");
        }
    }
}
