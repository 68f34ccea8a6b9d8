//! Binds a state folder to its lake: what was fetched for one lake is not added to another one.

use std::fs;
use std::io;
use std::path::Path;

use headrace_lake::writing::real_path;

use crate::server::state::StateError;
use crate::stores::private::write_atomically;

use super::error::SyncCommandError;

/// Name of the file in the state folder with the path of the lake. The folder may contain the lake itself, under a name such as `lake`.
const LAKE_FILE: &str = "path-of-lake";

/// Returns an error if a state folder is that of another lake. Changes nothing.
pub(super) fn check_state_of_lake(state: &Path, lake: &Path) -> Result<(), SyncCommandError> {
    is_bound(state, lake)?;
    Ok(())
}

/// Binds a state folder to a lake. Returns an error if it is that of another lake.
pub(super) fn bind_state_to_lake(state: &Path, lake: &Path) -> Result<(), SyncCommandError> {
    let real = real_path(lake);
    // A folder within the lake is moved and removed with it.
    if is_bound(state, lake)? || real_path(state).starts_with(&real) {
        return Ok(());
    }
    write_atomically(&state.join(LAKE_FILE), shown(&real).as_bytes()).map_err(unusable(state))
}

/// Returns true if a state folder is bound to this lake, and false if it is bound to none. Fails if it is bound to another one.
fn is_bound(state: &Path, lake: &Path) -> Result<bool, SyncCommandError> {
    let bound = match fs::read_to_string(state.join(LAKE_FILE)) {
        Ok(bound) => bound,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(false),
        Err(cause) => return Err(unusable(state)(cause)),
    };
    // As paths: the text may have a slash at its end.
    if Path::new(&bound) == Path::new(&shown(&real_path(lake))) {
        return Ok(true);
    }
    Err(SyncCommandError::OtherLake { state: state.to_owned(), bound: bound.into(), lake: lake.to_owned() })
}

/// Returns the text of a path.
fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Returns a function that makes the error of a state folder that cannot be used.
fn unusable(state: &Path) -> impl FnOnce(io::Error) -> SyncCommandError {
    let path = state.to_owned();
    |cause| StateError::Folder { path, cause }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_folder_outside_of_its_lake_is_refused_for_another_one_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let [state, one, two] = ["state", "one", "two"].map(|name| folder.path().join(name));
        fs::create_dir(&state).unwrap();
        check_state_of_lake(&state, &one).unwrap();
        bind_state_to_lake(&state, &one).unwrap();
        // The lake may be removed, and filled anew.
        bind_state_to_lake(&state, &one).unwrap();
        for error in [check_state_of_lake(&state, &two).unwrap_err(), bind_state_to_lake(&state, &two).unwrap_err()] {
            let text = error.to_string();
            assert!(text.contains("one`") && text.contains("two`") && text.contains("--state"), "{text}");
        }
    }

    #[test]
    fn a_state_folder_stays_that_of_a_lake_that_is_removed_and_created_again() {
        let folder = tempfile::tempdir().unwrap();
        let [state, lake] = ["state", "lake"].map(|name| folder.path().join(name));
        fs::create_dir(&state).unwrap();
        fs::create_dir(&lake).unwrap();
        bind_state_to_lake(&state, &lake).unwrap();
        let bound = fs::read_to_string(state.join(LAKE_FILE)).unwrap();
        for text in [bound.clone(), format!("{}/", bound.trim_end_matches('/'))] {
            fs::write(state.join(LAKE_FILE), text).unwrap();
            fs::remove_dir(&lake).unwrap();
            check_state_of_lake(&state, &lake).unwrap();
            fs::create_dir(&lake).unwrap();
            bind_state_to_lake(&state, &lake).unwrap();
        }
    }

    #[test]
    fn a_state_folder_within_the_lake_moves_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let lake = folder.path().join("lake");
        fs::create_dir_all(lake.join("_headrace/sync-state")).unwrap();
        bind_state_to_lake(&lake.join("_headrace/sync-state"), &lake).unwrap();
        let moved = folder.path().join("moved");
        fs::rename(&lake, &moved).unwrap();
        bind_state_to_lake(&moved.join("_headrace/sync-state"), &moved).unwrap();
    }
}
