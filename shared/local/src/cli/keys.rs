//! Command line of `headrace keys`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::stores::client_key::KeyAlgorithm;

/// Arguments of `headrace keys`.
#[derive(Debug, Args)]
pub struct KeysArgs {
    /// Subcommand to run.
    #[command(subcommand)]
    pub command: KeysCommand,
}

/// The subcommands of `headrace keys`.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// List the signing keys of a server on this machine
    #[command(
        after_long_help = "Examples:\n  headrace keys list\n  headrace keys list --state /var/lib/headrace\n\nExit status: 0 done, 1 failed."
    )]
    List(KeysListArgs),
    /// Generate a new signing key, used from the next start of the server
    ///
    /// Tokens signed with the previous key stay valid until they expire, at most five minutes later. Clients need no change.
    #[command(
        after_long_help = "Examples:\n  headrace keys rotate\n  headrace keys rotate --alg RS384 --state /var/lib/headrace\n\nExit status: 0 done, 1 failed."
    )]
    Rotate(KeysRotateArgs),
}

/// Arguments of `headrace keys list`.
#[derive(Debug, Args)]
pub struct KeysListArgs {
    /// The state folder of `headrace serve`
    #[arg(long, env = "HEADRACE_STATE", default_value = ".headrace", value_name = "DIR")]
    pub state: PathBuf,
}

/// Arguments of `headrace keys rotate`.
#[derive(Debug, Args)]
pub struct KeysRotateArgs {
    /// The signature algorithm of the key
    #[arg(long, value_enum, default_value = "ES384")]
    pub alg: KeyAlgorithm,
    /// The state folder of `headrace serve`
    #[arg(long, env = "HEADRACE_STATE", default_value = ".headrace", value_name = "DIR")]
    pub state: PathBuf,
}
