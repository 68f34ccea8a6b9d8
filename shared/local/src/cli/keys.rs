//! `headrace keys`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::client::client_key::KeyAlgorithm;

/// `headrace keys`.
#[derive(Debug, Args)]
pub struct Keys {
    /// What to do with them.
    #[command(subcommand)]
    pub action: KeysCommand,
}

/// What is done with the keys that sign tokens.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// List the keys of this machine's server
    List(KeysListArgs),
    /// Make another key, which signs from the next start of the server on
    ///
    /// Tokens of the key before stay valid until they end, five minutes later at most: no client notices.
    Rotate(KeysRotateArgs),
}

/// `headrace keys list`.
#[derive(Debug, Args)]
pub struct KeysListArgs {
    /// Where `headrace serve` keeps its state
    #[arg(long, env = "HEADRACE_STATE", default_value = ".headrace", value_name = "DIR")]
    pub state: PathBuf,
}

/// `headrace keys rotate`.
#[derive(Debug, Args)]
pub struct KeysRotateArgs {
    /// What the key signs with
    #[arg(long, value_enum, default_value = "ES384")]
    pub alg: KeyAlgorithm,
    /// Where `headrace serve` keeps its state
    #[arg(long, env = "HEADRACE_STATE", default_value = ".headrace", value_name = "DIR")]
    pub state: PathBuf,
}
