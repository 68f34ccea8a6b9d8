//! Keys files of de-identified exports.

use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use headrace_fhir::deid::{DeidKeys, DeidKeysError, MAX_KEYS_BYTES, RANDOM_KEY_BYTES};

use crate::stores::private::{create_new_private_file, is_accessible_by_others};

/// Reason why a keys file cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum DeidKeysFileError {
    /// The file cannot be read.
    #[error("the keys file `{path}` cannot be read")]
    Read {
        /// Path of the file.
        path: PathBuf,
        /// Error of the file system.
        #[source]
        cause: io::Error,
    },
    /// Other users can read the file.
    #[error("other users can read the keys file; remove their access: chmod 600 {0}")]
    Accessible(PathBuf),
    /// The file cannot be written.
    #[error("the keys file `{path}` cannot be written")]
    Write {
        /// Path of the file.
        path: PathBuf,
        /// Error of the file system.
        #[source]
        cause: io::Error,
    },
    /// The content is not a set of keys.
    #[error("{origin}: {error}")]
    Invalid {
        /// Path of the file, or the environment variable.
        origin: String,
        /// The problem.
        error: DeidKeysError,
    },
    /// The random number generator failed.
    #[error("the random number generator of the system failed")]
    Random,
}

/// Reads keys from the file, else from the JSON text of the environment. Returns `None` if there is neither.
pub(crate) fn read_deid_keys(file: Option<&Path>, json: Option<&str>) -> Result<Option<DeidKeys>, DeidKeysFileError> {
    let invalid = |origin: String| move |error| DeidKeysFileError::Invalid { origin, error };
    match (file, json.filter(|text| !text.is_empty())) {
        (Some(path), _) => DeidKeys::parse(&read_file(path)?).map(Some).map_err(invalid(path.display().to_string())),
        (None, Some(text)) => DeidKeys::parse(text.as_bytes()).map(Some).map_err(invalid("HEADRACE_DEID_KEYS".to_owned())),
        (None, None) => Ok(None),
    }
}

/// Reads a keys file, or standard input for `-`. Rejects a file that other users can read.
fn read_file(path: &Path) -> Result<Vec<u8>, DeidKeysFileError> {
    let unreadable = |cause| DeidKeysFileError::Read { path: path.to_owned(), cause };
    let mut bytes = Vec::new();
    let limit = MAX_KEYS_BYTES as u64 + 1;
    if path == Path::new("-") {
        io::stdin().take(limit).read_to_end(&mut bytes).map_err(unreadable)?;
        return Ok(bytes);
    }
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    // A pipe, such as that of `<(…)`, has no mode of its own.
    if metadata.is_file() && is_accessible_by_others(&metadata) {
        return Err(DeidKeysFileError::Accessible(path.to_owned()));
    }
    file.take(limit).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(bytes)
}

/// Generates keys and writes them to a new file that only its owner can read, or to standard output for `-`.
pub(crate) fn generate_deid_keys(out: &Path) -> Result<(), DeidKeysFileError> {
    let mut random = [0; RANDOM_KEY_BYTES];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| DeidKeysFileError::Random)?;
    let text = format!("{}\n", DeidKeys::from_random(&random).to_json());
    let write = || -> io::Result<()> {
        if out == Path::new("-") {
            return io::stdout().write_all(text.as_bytes());
        }
        let mut file = create_new_private_file(out)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(|cause| DeidKeysFileError::Write { path: out.to_owned(), cause })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_takes_precedence_over_the_environment() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("study.keys");
        generate_deid_keys(&path).unwrap();
        let of_file = std::fs::read_to_string(&path).unwrap();
        let of_environment = DeidKeys::from_random(&[1; RANDOM_KEY_BYTES]).to_json();
        let read = |file| read_deid_keys(file, Some(of_environment.as_str())).unwrap().unwrap().to_json();
        assert_eq!((read(Some(path.as_path())), read(None)), (of_file.trim_end().to_owned(), of_environment.clone()));
    }
}
