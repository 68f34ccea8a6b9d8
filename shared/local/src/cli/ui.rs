//! Command line of `headrace ui`.

use clap::Args;

use super::credential::CredentialOptions;
use super::jobs::DEFAULT_SERVER;

/// Arguments of `headrace ui`.
#[derive(Debug, Args)]
pub struct UiArgs {
    /// The base URL of the server
    #[arg(value_name = "URL", env = "HEADRACE_URL", default_value = DEFAULT_SERVER)]
    pub url: String,
    /// The port of the page on this machine; 0 picks a free one
    #[arg(long, default_value_t = 0)]
    pub port: u16,
    #[command(flatten, next_help_heading = "Access to the server")]
    /// Credential for the server.
    pub credential: CredentialOptions,
}
