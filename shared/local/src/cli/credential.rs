//! Command-line options for the credential of a client.

use std::path::PathBuf;

use clap::Args;
use reqwest::Url;

/// The credential of a client. Access tokens of SMART Backend Services are fetched when needed and renewed before they expire.
#[derive(Clone, Debug, Default, Args)]
pub struct CredentialOptions {
    /// A bearer token for the server
    #[arg(long, env = "HEADRACE_TOKEN", hide_env_values = true, value_name = "TOKEN", conflicts_with = "client_id")]
    pub token: Option<String>,
    /// The file with a user and a password for HTTP Basic authentication, as user:password
    #[arg(long, env = "HEADRACE_BASIC_FILE", value_name = "FILE", conflicts_with_all = ["token", "client_id"])]
    pub basic_file: Option<PathBuf>,
    #[command(flatten)]
    /// The registered client and its key.
    pub key: ClientKeyOptions,
}

/// A client that is registered with the server, and its key.
#[derive(Clone, Debug, Default, Args)]
pub struct ClientKeyOptions {
    /// The client_id that is registered with the server
    #[arg(long, env = "HEADRACE_CLIENT_ID", value_name = "ID", requires = "client_credential")]
    pub client_id: Option<String>,
    /// The file with the client's private key: a JSON Web Key, or PEM
    #[arg(long, env = "HEADRACE_CLIENT_KEY", value_name = "FILE", requires = "client_id", group = "client_credential")]
    pub client_key: Option<PathBuf>,
    /// The file with the client's secret, for OAuth 2.0 servers that do not support keys of clients. With it, --scope has no default
    #[arg(long, env = "HEADRACE_CLIENT_SECRET_FILE", value_name = "FILE", requires = "client_id", group = "client_credential")]
    pub client_secret_file: Option<PathBuf>,
    /// The key ID (kid) that is registered with the server; a JSON Web Key contains its own
    #[arg(long, value_name = "KID", requires = "client_key")]
    pub client_key_id: Option<String>,
    /// The scopes to request [default: system/*.rs, or system/*.read if the server only supports SMART v1 scopes]
    #[arg(long, value_name = "SCOPES", requires = "client_id")]
    pub scope: Option<String>,
    /// The token endpoint [default: from the server's SMART configuration]
    #[arg(long, value_name = "URL", requires = "client_id")]
    pub token_url: Option<Url>,
}

impl CredentialOptions {
    /// Returns true if the credential is a token, a secret or a password, which no command stores.
    pub fn has_unstored_secret(&self) -> bool {
        self.token.is_some() || self.basic_file.is_some() || self.key.client_secret_file.is_some()
    }
}
