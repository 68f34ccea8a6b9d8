//! Who may export from a server.

use clap::{Args, ValueEnum};
use headrace_edge::config::SCOPE_CLAIM;

/// Who may come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AccessMode {
    /// Registered clients, with access tokens that this server gives out (SMART Backend Services).
    Smart,
    /// Whoever has an access token of the operator's identity provider.
    External,
    /// Everybody who reaches the server.
    None,
}

/// `headrace serve`, as far as it says who may ask.
#[derive(Debug, Args)]
pub struct AccessOptions {
    /// Who may export: registered clients, with tokens of this server (smart); whoever has a token of your identity provider
    /// (external); everybody who reaches this server (none) [default: smart once a client is registered, else none]
    #[arg(long, env = "HEADRACE_ACCESS", value_enum, hide_possible_values = true, value_name = "MODE")]
    pub access: Option<AccessMode>,
    /// With external: who tokens are by, their claim iss
    #[arg(long, env = "HEADRACE_ISSUER", value_name = "ISSUER")]
    pub issuer: Option<String>,
    /// With external: who tokens must be for, among their claim aud
    #[arg(long, env = "HEADRACE_AUDIENCE", value_name = "AUDIENCE")]
    pub audience: Option<String>,
    /// With external: where the keys are that tokens are checked with
    #[arg(long, env = "HEADRACE_JWKS_URL", value_name = "URL")]
    pub jwks_url: Option<String>,
    /// With external: the claim that says what may be read
    #[arg(long, env = "HEADRACE_SCOPE_CLAIM", default_value = SCOPE_CLAIM, value_name = "CLAIM")]
    pub scope_claim: String,
    /// With external: where clients get tokens, to be told to whoever asks
    #[arg(long, env = "HEADRACE_TOKEN_URL", value_name = "URL")]
    pub token_url: Option<String>,
}
