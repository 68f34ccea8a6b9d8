//! Classification of errors of the file system: which of them no retry can mend, and what to do about them.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::path::Path;

use headrace_core::vocab::error::{BoxError, SourceError, StoreError};

/// Error number of "too many open files" in this process. The standard library has no kind for it.
const EMFILE: i32 = 24;

/// Error number of "too many open files" in the whole system.
const ENFILE: i32 = 23;

/// The meaning of an error of the file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IoFault {
    /// No space left, or the user's quota is used up.
    OutOfSpace,
    /// A fault that an operator must mend. Contains the reason.
    Permanent(&'static str),
    /// Another error. A later call may succeed.
    Passing,
}

impl IoFault {
    /// Classifies an error.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the standard library's list of kinds is open")]
    pub(crate) fn from_error(error: &io::Error) -> Self {
        if let Some(EMFILE | ENFILE) = error.raw_os_error().filter(|_| cfg!(unix)) {
            return Self::Permanent("too many open files: raise the limit of this process (`ulimit -n`)");
        }
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::OutOfSpace,
            ErrorKind::PermissionDenied => Self::Permanent("permission denied"),
            ErrorKind::ReadOnlyFilesystem => Self::Permanent("the file system is read-only"),
            ErrorKind::FileTooLarge => Self::Permanent("the file is larger than the file system or the user's limit allows"),
            ErrorKind::NotADirectory => Self::Permanent("a part of the path is not a folder"),
            ErrorKind::InvalidFilename => Self::Permanent("the path is too long"),
            // An error that is not known to be permanent is tried again.
            _ => Self::Passing,
        }
    }
}

/// Converts an error at this place of a store. `store` is the store's name in errors.
pub(crate) fn store_error(store: &'static str, place: &Path, cause: io::Error) -> StoreError {
    match IoFault::from_error(&cause) {
        IoFault::OutOfSpace => StoreError::OutOfSpace { place: format!("`{}`", place.display()), cause: cause.into() },
        IoFault::Permanent(reason) => {
            StoreError::Misconfigured { remedy: format!("`{}` cannot be used: {reason}", place.display()), cause: cause.into() }
        }
        IoFault::Passing => StoreError::NotApplied { store, cause: cause.into() },
    }
}

/// Converts an error of reading this object or folder of the lake.
pub(crate) fn source_error(object: &str, cause: io::Error) -> SourceError {
    match IoFault::from_error(&cause) {
        IoFault::Permanent(detail) => SourceError::Unreadable { object: object.to_owned(), detail },
        IoFault::OutOfSpace | IoFault::Passing => SourceError::Unavailable(cause.into()),
    }
}

/// Returns true if an error, or a cause of it, is that no space is left.
pub(crate) fn is_out_of_space(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let is_full = error.downcast_ref().is_some_and(|error: &io::Error| IoFault::from_error(error) == IoFault::OutOfSpace);
        if is_full || [SQLITE_FULL, NO_SPACE].iter().any(|text| error.to_string().contains(text)) {
            return true;
        }
        next = error.source();
    }
    false
}

/// Beginning of the text of [`StoreError::OutOfSpace`], which also comes back from the server of an export.
const NO_SPACE: &str = "no space left in";

/// Part of SQLite's message for a full disk. The engine converts its errors to text.
pub(crate) const SQLITE_FULL: &str = "database or disk is full";

/// Wraps a cause that is not an error of the file system.
pub(crate) fn not_applied(store: &'static str, cause: impl Into<BoxError>) -> StoreError {
    StoreError::NotApplied { store, cause: cause.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_that_no_retry_mends_say_what_and_where() {
        // ENOSPC, EDQUOT, EACCES, EROFS, EMFILE and ENFILE, as Linux numbers them.
        for (number, word) in [
            (28, "no space left in `/data/out`"),
            (122, "no space left in `/data/out`"),
            (13, "`/data/out` cannot be used: permission denied"),
            (30, "`/data/out` cannot be used: the file system is read-only"),
            (24, "`/data/out` cannot be used: too many open files"),
            (23, "`/data/out` cannot be used: too many open files"),
        ] {
            let error = store_error("the destination", Path::new("/data/out"), io::Error::from_raw_os_error(number));
            assert!(error.to_string().starts_with(word), "{number}: {error}");
            assert!(!matches!(error, StoreError::NotApplied { .. }));
        }
        for number in [4, 5, 110, 116] {
            let error = store_error("the destination", Path::new("/data/out"), io::Error::from_raw_os_error(number));
            assert!(matches!(error, StoreError::NotApplied { .. }), "{number}: {error}");
            assert!(matches!(source_error("a.ndjson", io::Error::from_raw_os_error(number)), SourceError::Unavailable(_)));
        }
        let denied = source_error("a.ndjson", io::Error::from_raw_os_error(13)).to_string();
        assert!(denied.contains("`a.ndjson`") && denied.contains("permission denied"), "{denied}");
    }

    #[test]
    fn a_full_disk_is_found_in_the_chain_of_causes() {
        let full = || io::Error::from_raw_os_error(28);
        assert!(is_out_of_space(&full()));
        assert!(is_out_of_space(&StoreError::NotApplied { store: "x", cause: full().into() }));
        assert!(is_out_of_space(&io::Error::other("backend: database or disk is full")));
        assert!(!is_out_of_space(&io::Error::from_raw_os_error(13)));
    }
}
