//! Command line of `headrace completions` and `headrace man`.

use std::path::PathBuf;

use clap::Args;

/// Arguments of `headrace completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// Arguments of `headrace man`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// The folder for the pages; created if it does not exist
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
}
