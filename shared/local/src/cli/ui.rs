//! Command line of `headrace ui`.

use std::path::PathBuf;

use clap::Args;

use super::credential::CredentialOptions;
use super::jobs::DEFAULT_SERVER;
use super::whole_number::whole_number;

/// Arguments of `headrace ui`.
#[derive(Debug, Args)]
pub struct UiArgs {
    /// The base URL of the server
    #[arg(value_name = "URL", env = "HEADRACE_URL", default_value = DEFAULT_SERVER)]
    pub url: String,
    /// The port of the page on this machine; 0 picks a free one
    #[arg(long, default_value_t = 0, value_parser = whole_number::<u16>(0, 65_535))]
    pub port: u16,
    /// Manage schedules and events of a deployment on the page: its job table (the stack's output JobTableName). Uses the credentials and the
    /// region of the AWS CLI, such as AWS_PROFILE, and the browser gets none of them
    #[arg(long, value_name = "NAME")]
    pub table: Option<String>,
    /// Manage schedules and events of a server on this machine on the page: its state folder
    #[arg(long, value_name = "DIR", conflicts_with = "table")]
    pub state: Option<PathBuf>,
    #[command(flatten, next_help_heading = "Access to the server")]
    /// Credential for the server.
    pub credential: CredentialOptions,
}
