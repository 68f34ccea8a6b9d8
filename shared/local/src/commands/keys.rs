//! `headrace keys`: manages the keys that sign access tokens of a server on this machine.

use std::path::{Path, PathBuf};

use headrace_core::access::SigningAlgorithm;
use headrace_core::ports::{Clock as _, TokenSigner as _};
use headrace_core::vocab::error::StoreError;
use headrace_edge::jose::key_id;
use headrace_edge::system::SystemClock;

use crate::cli::{KeysArgs, KeysCommand};
use crate::server::state::KEYS_FOLDER;
use crate::stores::client_key::KeyAlgorithm;
use crate::stores::signer::{FileSigner, KeyFileError, key_files};
use crate::terminal::print_result;

/// Failure of `headrace keys`.
#[derive(Debug, thiserror::Error)]
pub enum KeysCommandError {
    /// The state folder does not exist.
    #[error("there is no state in `{0}`; set --state to the folder that `headrace serve` uses")]
    StateNotFound(PathBuf),
    /// A key file cannot be read or written.
    #[error(transparent)]
    File(#[from] KeyFileError),
    /// The public key cannot be derived.
    #[error(transparent)]
    Key(#[from] StoreError),
}

/// Runs `headrace keys` and prints its result.
pub async fn run_keys(args: &KeysArgs) -> Result<(), KeysCommandError> {
    let output = match &args.command {
        KeysCommand::List(list) => format_keys(key_folder(&list.state)?).await?,
        KeysCommand::Rotate(rotate) => {
            let algorithm = match rotate.alg {
                KeyAlgorithm::Es384 => SigningAlgorithm::Es384,
                KeyAlgorithm::Rs384 => SigningAlgorithm::Rs384,
            };
            let path = FileSigner::create(&key_folder(&rotate.state)?, algorithm, SystemClock.now())?;
            format!(
                "{} signs tokens from the next start of the server\nfive minutes after that start, older keys are no longer used: delete their files\n",
                path.display()
            )
        }
    };
    print_result(&output);
    Ok(())
}

/// Returns the key folder of an existing state folder.
fn key_folder(state: &Path) -> Result<PathBuf, KeysCommandError> {
    if state.is_dir() { Ok(state.join(KEYS_FOLDER)) } else { Err(KeysCommandError::StateNotFound(state.to_owned())) }
}

/// Formats one line per key, newest first. The newest key signs.
async fn format_keys(folder: PathBuf) -> Result<String, KeysCommandError> {
    let mut lines = String::new();
    for (index, path) in key_files(&folder)?.iter().rev().enumerate() {
        let public = FileSigner::open(path)?.key().await?;
        let state = if index == 0 { "signs tokens (at the latest after the next start of the server)" } else { "older" };
        lines += &format!("{}  {}  {}  {state}\n", path.display(), public.algorithm.as_str(), key_id(&public));
    }
    Ok(if lines.is_empty() { "no keys yet; the server generates one when it first needs it\n".to_owned() } else { lines })
}
