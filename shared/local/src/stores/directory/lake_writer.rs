//! Writes a lake in a directory. Files and folders are accessible by their owner only, because they contain patient data.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::StreamExt as _;
use headrace_core::ports::{ByteStream, LakeWriter};
use headrace_core::vocab::error::StoreError;
use headrace_lake::writing::lock_watermark;
use tempfile::NamedTempFile;

use crate::stores::io_fault::{not_applied, store_error};
use crate::stores::private::{create_private_folder, restrict_file};

use super::output::blocking;

/// Name of the store in errors.
const STORE: &str = "the lake";

/// Beginning of the names of files that are not complete. Listings of the lake skip names with a dot.
const PARTIAL_PREFIX: &str = ".headrace-partial-";

/// A lake in a directory that is written by a synchronization.
#[derive(Clone, Debug)]
pub struct DirectoryLakeWriter {
    root: PathBuf,
}

impl DirectoryLakeWriter {
    /// Creates a writer of the lake in the directory `root`.
    pub fn open(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Returns the path of an object, and a function that converts errors of the file system about it.
    fn object(&self, object: &str) -> (PathBuf, impl Fn(io::Error) -> StoreError + Clone + Send + use<>) {
        let (path, name) = (self.root.join(object), object.to_owned());
        (path.clone(), move |error| {
            // An error with the path need not say it twice.
            match store_error(STORE, &path, error) {
                error @ (StoreError::NotApplied { .. } | StoreError::Overloaded { .. } | StoreError::Unknown { .. }) => {
                    error.about_object(&name)
                }
                error @ (StoreError::Stale
                | StoreError::Misconfigured { .. }
                | StoreError::OutOfSpace { .. }
                | StoreError::Unreadable { .. }) => error,
            }
        })
    }
}

impl LakeWriter for DirectoryLakeWriter {
    async fn put(&self, object: &str, mut content: ByteStream) -> Result<(), StoreError> {
        let (path, failed) = self.object(object);
        if path.exists() {
            return Ok(());
        }
        let folder = path.parent().unwrap_or(&self.root).to_owned();
        let mut file = blocking(move || new_partial_file(&folder).map_err(|error| store_error(STORE, &folder, error))).await?;
        while let Some(chunk) = content.next().await {
            let chunk = chunk.map_err(|error| not_applied(STORE, error))?;
            let failed = failed.clone();
            file = blocking(move || file.write_all(&chunk).map(|()| file).map_err(failed)).await?;
        }
        blocking(move || make_visible(file, &path).map_err(failed)).await
    }

    async fn put_metadata(&self, object: &str, content: Bytes) -> Result<(), StoreError> {
        let (path, failed) = self.object(object);
        blocking(move || replace(&path, &content).map_err(failed)).await
    }

    async fn replace_metadata(&self, object: &str, expected: Option<&[u8]>, content: Bytes) -> Result<bool, StoreError> {
        let ((path, failed), expected) = (self.object(object), expected.map(<[u8]>::to_vec));
        blocking(move || replace_if_unchanged(&path, expected.as_deref(), &content).map_err(failed)).await
    }
}

/// Creates a file that listings skip, beside the file that it becomes.
fn new_partial_file(folder: &Path) -> io::Result<NamedTempFile> {
    create_private_folder(folder)?;
    let file = tempfile::Builder::new().prefix(PARTIAL_PREFIX).tempfile_in(folder)?;
    restrict_file(file.path())?;
    Ok(file)
}

/// Gives a complete file its name. Content and name are on disk when it returns. A file that has the name stays.
fn make_visible(file: NamedTempFile, path: &Path) -> io::Result<()> {
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {}
        persisted => drop(persisted?),
    }
    sync_folder(path)
}

/// Syncs the folder of a file, so that its name is on disk.
fn sync_folder(path: &Path) -> io::Result<()> {
    // Other systems cannot open a folder as a file.
    #[cfg(unix)]
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())?;
    #[cfg(not(unix))]
    drop((path, File::open));
    Ok(())
}

/// Replaces a file by one with this content. The name belongs to either at any time.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = new_partial_file(path.parent().unwrap_or(path))?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    sync_folder(path)
}

/// Replaces a file if it has the expected content, or creates it if none is expected. Returns false if it is different.
///
/// Processes that write the lake, additions too, take turns by a lock, so that nothing changes between the comparison and the replacement. A
/// pipeline that takes no lock can lose only a watermark that it writes in that millisecond.
fn replace_if_unchanged(path: &Path, expected: Option<&[u8]>, content: &[u8]) -> io::Result<bool> {
    let _lock = lock_watermark(path)?;
    let current = match fs::read(path) {
        Ok(current) => Some(current),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    if current.as_deref() != expected {
        return Ok(false);
    }
    replace(path, content)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use headrace_core::vocab::error::SourceError;

    use super::*;

    /// Returns a stream of these chunks.
    fn content(chunks: &[&'static str]) -> ByteStream {
        let chunks: Vec<_> = chunks.iter().map(|chunk| Ok(Bytes::from_static(chunk.as_bytes()))).collect();
        Box::pin(stream::iter(chunks))
    }

    /// Returns the names of all files below a folder.
    fn files(root: &Path) -> Vec<String> {
        let entries = walkdir::WalkDir::new(root).sort_by_file_name().into_iter().filter_map(Result::ok);
        entries
            .filter(|entry| entry.file_type().is_file())
            .map(|entry| entry.path().strip_prefix(root).unwrap().display().to_string())
            .collect()
    }

    #[tokio::test]
    async fn an_object_becomes_visible_as_a_whole_and_is_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let lake = DirectoryLakeWriter::open(folder.path().join("lake"));
        lake.put("Patient/1.ndjson", content(&["a\n", "b\n"])).await.unwrap();
        lake.put("Patient/1.ndjson", content(&["c\n"])).await.unwrap();
        assert_eq!(fs::read_to_string(folder.path().join("lake/Patient/1.ndjson")).unwrap(), "a\nb\n");
        let broken: ByteStream = Box::pin(stream::iter([Ok(Bytes::from_static(b"x\n")), Err(SourceError::Unavailable("gone".into()))]));
        assert!(lake.put("Patient/2.ndjson", broken).await.is_err());
        assert_eq!(files(folder.path()), ["lake/Patient/1.ndjson"]);
        #[cfg(unix)]
        for path in ["lake", "lake/Patient", "lake/Patient/1.ndjson"] {
            let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(folder.path().join(path)).unwrap().permissions());
            assert_eq!(mode & 0o077, 0, "{path}");
        }
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_link_that_leads_nowhere_in_place_of_a_folder_is_reported_and_not_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("nowhere", folder.path().join("deleted")).unwrap();
        fs::write(folder.path().join("Patient"), "").unwrap();
        let lake = DirectoryLakeWriter::open(folder.path());
        for name in ["deleted", "Patient"] {
            match lake.put(&format!("{name}/1.ndjson"), content(&["x\n"])).await {
                Err(StoreError::Misconfigured { remedy, cause }) => {
                    assert!([remedy, cause.to_string()].iter().all(|text| text.contains(&format!("/{name}`"))), "{cause}");
                }
                other => panic!("{name}: {other:?}"),
            }
        }
    }

    #[tokio::test]
    async fn an_error_about_a_metadata_object_names_the_object() {
        let folder = tempfile::tempdir().unwrap();
        let lake = DirectoryLakeWriter::open(folder.path());
        let name = "_headrace/watermark.json";
        fs::create_dir_all(folder.path().join(name).join("x")).unwrap();
        let errors = [lake.put_metadata(name, Bytes::new()).await.err(), lake.replace_metadata(name, None, Bytes::new()).await.err()];
        for error in errors {
            let text = headrace_core::vocab::error::error_chain(&error.unwrap());
            assert!(text.contains("watermark.json"), "{text}");
        }
    }

    #[tokio::test]
    async fn a_metadata_object_is_replaced_only_if_it_is_as_expected() {
        let folder = tempfile::tempdir().unwrap();
        let lake = DirectoryLakeWriter::open(folder.path());
        let put = async |expected: Option<&[u8]>, content: &'static str| {
            lake.replace_metadata("_headrace/watermark.json", expected, Bytes::from_static(content.as_bytes())).await.unwrap()
        };
        assert!(!put(Some(b"x"), "1").await);
        assert!(put(None, "1").await);
        assert!(!put(None, "2").await);
        assert!(put(Some(b"1"), "2").await);
        assert_eq!(fs::read_to_string(folder.path().join("_headrace/watermark.json")).unwrap(), "2");
        lake.put_metadata("_headrace/sync.json", Bytes::from_static(b"{}")).await.unwrap();
        lake.put_metadata("_headrace/sync.json", Bytes::from_static(b"[]")).await.unwrap();
        assert_eq!(fs::read_to_string(folder.path().join("_headrace/sync.json")).unwrap(), "[]");
    }
}
