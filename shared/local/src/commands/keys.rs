//! `headrace keys`: what signs the tokens of this machine's server.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use headrace_core::access::SigningAlgorithm;
use headrace_core::ports::{Clock as _, TokenSigner as _};
use headrace_core::vocab::error::StoreError;
use headrace_edge::jose::key_id;
use headrace_edge::system::SystemClock;

use crate::cli::{Keys, KeysCommand};
use crate::client::client_key::KeyAlgorithm;
use crate::server::state::KEYS_FOLDER;
use crate::stores::signer::{FileSigner, KeyFileError, key_files};

/// Why a command about signing keys failed.
#[derive(Debug, thiserror::Error)]
pub enum KeysCommandError {
    /// There is no state.
    #[error("there is no state in `{0}`; name the folder that `headrace serve` uses with --state")]
    StateNotFound(PathBuf),
    /// A key's file.
    #[error(transparent)]
    File(#[from] KeyFileError),
    /// The key does not tell its public half.
    #[error(transparent)]
    Key(#[from] StoreError),
}

/// Runs the command and prints what it did.
pub async fn keys(order: &Keys) -> Result<(), KeysCommandError> {
    let said = match &order.action {
        KeysCommand::List(list) => table(folder(&list.state)?).await?,
        KeysCommand::Rotate(rotate) => {
            let algorithm = match rotate.alg {
                KeyAlgorithm::Es384 => SigningAlgorithm::Es384,
                KeyAlgorithm::Rs384 => SigningAlgorithm::Rs384,
            };
            let path = FileSigner::create(&folder(&rotate.state)?, algorithm, SystemClock.now())?;
            format!(
                "{} signs from the next start of the server on\nfive minutes after that start the older keys are of no more use: delete their files\n",
                path.display()
            )
        }
    };
    // A reader that has gone away wants no more.
    drop(io::stdout().write_all(said.as_bytes()));
    Ok(())
}

fn folder(state: &Path) -> Result<PathBuf, KeysCommandError> {
    if state.is_dir() { Ok(state.join(KEYS_FOLDER)) } else { Err(KeysCommandError::StateNotFound(state.to_owned())) }
}

/// One line each, the newest first: the one that signs.
async fn table(folder: PathBuf) -> Result<String, KeysCommandError> {
    let mut lines = String::new();
    for (index, path) in key_files(&folder)?.iter().rev().enumerate() {
        let public = FileSigner::open(path)?.key().await?;
        let state = if index == 0 { "signs, at the latest from the next start on" } else { "older" };
        lines += &format!("{}  {}  {}  {state}\n", path.display(), public.algorithm.as_str(), key_id(&public));
    }
    Ok(if lines.is_empty() { "there is no key yet; the server makes one when it first needs it\n".to_owned() } else { lines })
}
