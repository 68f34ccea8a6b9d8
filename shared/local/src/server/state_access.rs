//! The information of a state folder about access control: whether it was ever set up, and what a running server does.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::path::Path;

use headrace_core::ports::AccessStore as _;

use crate::server::state::{
    ACCESS_CONTROL_FILE, FILES_FOLDER, JOBS_FILE, KEYS_FOLDER, LOCK_FILE, SECRETS_KEY_FILE, StateError, StateFolder,
    create_private_file_if_absent, tighten_mode, unusable,
};
use crate::stores::private::create_private_folder;

/// The subfolder of the exported files in which an operator puts anonymization configurations, also before the first start.
const CONFIGS_FOLDER: &str = "anonymization";

/// The access control of the server that runs on a state folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunningAccess {
    /// Every request is authenticated.
    Controlled,
    /// Anyone who can reach the server can export, because the operator said so.
    Open,
    /// Programs on this machine can export until access control is set up.
    OpenByDefault,
}

impl RunningAccess {
    /// Returns the name in the lock file.
    fn as_str(self) -> &'static str {
        match self {
            Self::Controlled => "controlled",
            Self::Open => "open",
            Self::OpenByDefault => "open-by-default",
        }
    }
}

/// Records that access control is set up for the folder. From then on no server opens it unless the operator says so.
pub fn record_access_control(folder: &Path) -> Result<(), StateError> {
    // The record makes the folder look like one of the program, so the folder of others is refused before.
    if folder.exists() {
        tighten_mode(folder)?;
    }
    let recorded = create_private_folder(folder).and_then(|()| create_private_file_if_absent(&folder.join(ACCESS_CONTROL_FILE)));
    recorded.map_err(|cause| unusable(folder, cause))
}

/// Returns true if access control is or was set up for the folder, or if that is unknown because a part of its state is missing.
///
/// Each trace is sufficient: the record, a registration, a key of access tokens, or a folder in use without its job table.
pub async fn had_access_control(folder: &Path) -> Result<bool, StateError> {
    let failed = |cause| unusable(folder, cause);
    if exists(&folder.join(ACCESS_CONTROL_FILE)).map_err(failed)? || has_token_keys(&folder.join(KEYS_FOLDER)).map_err(failed)? {
        return Ok(true);
    }
    if exists(&folder.join(JOBS_FILE)).map_err(failed)? {
        return Ok(!StateFolder::open_existing(folder).await?.jobs.clients(None, 1).await?.clients.is_empty());
    }
    Ok(!is_unused(folder).map_err(failed)?)
}

/// Returns true if an export of a server on a state folder needs a client: access control was set up, and no server runs that has chosen to
/// do without.
pub(crate) async fn needs_client(folder: &Path) -> Result<bool, StateError> {
    Ok(had_access_control(folder).await? && running_access(folder)? != Some(RunningAccess::Open))
}

/// Writes the access control of the serving process into the file that it has locked.
pub(crate) fn record_running_access(mut lock: &File, folder: &Path, access: RunningAccess) -> Result<(), StateError> {
    let written = lock.set_len(0).and_then(|()| lock.write_all(access.as_str().as_bytes()));
    written.map_err(|cause| unusable(folder, cause))
}

/// Returns the access control of the server that runs on the folder. `None` if none runs.
pub fn running_access(folder: &Path) -> Result<Option<RunningAccess>, StateError> {
    let failed = |cause| unusable(folder, cause);
    let lock = match File::open(folder.join(LOCK_FILE)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(failed)?,
    };
    match lock.try_lock_shared() {
        Ok(()) => return Ok(None),
        Err(fs::TryLockError::WouldBlock) => {}
        Err(fs::TryLockError::Error(cause)) => return Err(failed(cause)),
    }
    let text = io::read_to_string(&lock).map_err(failed)?;
    let all = [RunningAccess::Controlled, RunningAccess::Open, RunningAccess::OpenByDefault];
    Ok(all.into_iter().find(|access| access.as_str() == text))
}

/// Returns true if there is a file of this name, of whatever kind. A broken link counts.
fn exists(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        found => found.map(|_| true),
    }
}

/// Returns true if the folder has a file besides the key of job secrets, which servers without access control have too.
fn has_token_keys(keys: &Path) -> io::Result<bool> {
    Ok(names(keys)?.iter().any(|name| name != SECRETS_KEY_FILE))
}

/// Returns true if no server has used the folder: it is absent, or has nothing but what an operator can have put there.
fn is_unused(folder: &Path) -> io::Result<bool> {
    let names = names(folder)?;
    let has_only_configs = || Ok::<_, io::Error>(self::names(&folder.join(FILES_FOLDER))?.iter().all(|name| name == CONFIGS_FOLDER));
    Ok(names.iter().all(|name| name == FILES_FOLDER || name == LOCK_FILE) && has_only_configs()?)
}

/// Returns the names in a folder. A folder that is absent has none.
fn names(folder: &Path) -> io::Result<Vec<std::ffi::OsString>> {
    match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        entries => entries?.map(|entry| Ok(entry?.file_name())).collect(),
    }
}
