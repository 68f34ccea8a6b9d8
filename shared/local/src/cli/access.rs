//! Access control options of `headrace serve`.

use clap::{Args, ValueEnum};
use headrace_edge::config::SCOPE_CLAIM;

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
    /// loopback address, and until a client is registered, anyone on this machine]
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
    /// The claim of a token that contains its scopes; for --access external
    #[arg(long, env = "HEADRACE_SCOPE_CLAIM", default_value = SCOPE_CLAIM, value_name = "CLAIM")]
    pub scope_claim: String,
    /// The token endpoint to publish in the server's SMART configuration; for --access external
    #[arg(long, env = "HEADRACE_TOKEN_URL", value_name = "URL")]
    pub token_url: Option<String>,
}
