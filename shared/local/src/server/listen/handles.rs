//! The number of files that this process can open.

use super::limits::ConnectionLimits;

/// Raises the limit of open files of this process as far as a server needs it and the system allows it. Returns the limit.
///
/// Many systems start processes with a limit of 1,024 and allow more: it protects programs that use `select`, which this one does not.
#[cfg(unix)]
pub(crate) fn raise_file_handle_limit() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let current = limit.current.unwrap_or(u64::MAX);
    let wanted = ConnectionLimits::WANTED_HANDLES.min(limit.maximum.unwrap_or(u64::MAX));
    if current >= wanted {
        return current;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum }) {
        Ok(()) => wanted,
        Err(error) => {
            tracing::debug!(error = %error, "the limit of open files could not be raised");
            current
        }
    }
}

/// Returns a number of handles that is enough: sockets are not files here.
#[cfg(not(unix))]
pub(crate) fn raise_file_handle_limit() -> u64 {
    ConnectionLimits::WANTED_HANDLES
}
