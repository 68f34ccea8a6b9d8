//! Access control options of `headrace serve`.

use clap::{Args, ValueEnum};

use super::non_empty;

/// The way in which a server authenticates its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AccessMode {
    /// Registered clients, with access tokens that this server issues (SMART Backend Services).
    Smart,
    /// Clients with an access token of the operator's identity provider.
    External,
    /// Unauthenticated: anyone who can reach the server.
    None,
}

/// Access control options of `headrace serve`.
#[derive(Debug, Args)]
pub struct AccessOptions {
    /// The clients that may export: registered clients with tokens of this server (smart), clients with a token of your
    /// identity provider (external), or anyone who can reach the server (none) [default: smart; only on a
    /// loopback address without --behind-tls-proxy, and until a client is registered, anyone on this machine]
    #[arg(long, env = "HEADRACE_ACCESS", value_enum, hide_possible_values = true, value_name = "MODE")]
    pub access: Option<AccessMode>,
    /// The issuer of tokens (claim iss); for --access external
    #[arg(long, env = "HEADRACE_ISSUER", value_name = "ISSUER")]
    pub issuer: Option<String>,
    /// The audience that tokens must contain (claim aud); for --access external
    #[arg(long, env = "HEADRACE_AUDIENCE", value_name = "AUDIENCE")]
    pub audience: Option<String>,
    /// The URL of the JSON Web Key Set that verifies tokens; for --access external
    #[arg(long, env = "HEADRACE_JWKS_URL", value_name = "URL")]
    pub jwks_url: Option<String>,
    /// The claim of a token that contains its scopes; for --access external [default: scope]
    #[arg(long, env = "HEADRACE_SCOPE_CLAIM", value_name = "CLAIM")]
    pub scope_claim: Option<String>,
    /// The token endpoint to publish in the server's SMART configuration; for --access external
    #[arg(long, env = "HEADRACE_TOKEN_URL", value_name = "URL")]
    pub token_url: Option<String>,
}

impl AccessOptions {
    /// Returns the options that only `--access external` reads and that are given, on the command line or by their variables.
    pub(crate) fn given_for_external(&self) -> Vec<&'static str> {
        let options = [
            ("--issuer (HEADRACE_ISSUER)", &self.issuer),
            ("--audience (HEADRACE_AUDIENCE)", &self.audience),
            ("--jwks-url (HEADRACE_JWKS_URL)", &self.jwks_url),
            ("--scope-claim (HEADRACE_SCOPE_CLAIM)", &self.scope_claim),
            ("--token-url (HEADRACE_TOKEN_URL)", &self.token_url),
        ];
        options.into_iter().filter(|(_, value)| non_empty(value).is_some()).map(|(name, _)| name).collect()
    }
}
