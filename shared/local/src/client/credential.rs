//! The credential that the command line names.

use crate::cli::{ClientKeyOptions, CredentialOptions};
use crate::client::bulk::{Credential, LoginSettings};
use crate::stores::client_key::{ClientKey, KeyError};

/// Reads the credential that the options name: a client with its key, a token, or none.
pub(crate) fn read_credential(options: &CredentialOptions) -> Result<Credential, KeyError> {
    if let Some(login) = read_login(&options.key)? {
        return Ok(Credential::BackendServices(login));
    }
    Ok(options.token.clone().map_or(Credential::None, Credential::BearerToken))
}

/// Reads the client's key. Returns `None` if the options name no client.
pub(crate) fn read_login(options: &ClientKeyOptions) -> Result<Option<LoginSettings>, KeyError> {
    let (Some(client_id), Some(path)) = (&options.client_id, &options.client_key) else { return Ok(None) };
    let key = ClientKey::read(path, options.client_key_id.as_deref())?;
    let (scope, token_url) = (options.scope.clone(), options.token_url.clone());
    Ok(Some(LoginSettings { client_id: client_id.clone(), key, scope, token_url }))
}
