//! An NDJSON lake in a directory.

use std::fs::{File, Metadata};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::stream;
use headrace_core::job::task::Pin;
use headrace_core::lake::slices::encoding_from_name;
use headrace_core::ports::{ByteStream, ListedObject, METADATA_LIMIT_BYTES, MetadataObject, ObjectPage, ResourceSource};
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::SourceError;
use walkdir::WalkDir;

use super::in_place;

/// Size of one read, in bytes. The chunk stays in the cache of a core until it is written.
const CHUNK_BYTES: u64 = 256 << 10;

/// A lake in a directory.
#[derive(Clone, Debug)]
pub struct DirectoryLake {
    root: PathBuf,
}

impl DirectoryLake {
    /// Creates a lake in the directory `root`.
    pub fn open(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Lists all NDJSON files below `root`, ordered by path.
    fn list_all(root: &Path) -> Result<Vec<ListedObject>, SourceError> {
        let mut objects = Vec::new();
        for entry in WalkDir::new(root).follow_links(true) {
            let entry = entry.map_err(|error| SourceError::Unavailable(error.into()))?;
            let below = entry.path().strip_prefix(root).unwrap_or(entry.path());
            let Some(object) = below.components().map(|component| component.as_os_str().to_str()).collect::<Option<Vec<_>>>() else {
                tracing::warn!("a file in the lake was skipped because its name is not UTF-8");
                continue;
            };
            let object = object.join("/");
            if entry.file_type().is_file() && encoding_from_name(&object).is_some() {
                let metadata = entry.metadata().map_err(|error| SourceError::Unavailable(error.into()))?;
                let arrived = Millis(u64::try_from(since_epoch(&metadata).as_millis()).unwrap_or(u64::MAX));
                objects.push(ListedObject { pin: Pin { object, etag: etag(&metadata), size: metadata.len() }, arrived });
            }
        }
        objects.sort_by(|one, other| one.pin.object.cmp(&other.pin.object));
        Ok(objects)
    }
}

/// Returns a version of a file that changes with its content: size, modification time and, on Unix, inode.
fn etag(metadata: &Metadata) -> String {
    let modified = since_epoch(metadata);
    #[cfg(unix)]
    let inode = std::os::unix::fs::MetadataExt::ino(metadata);
    #[cfg(not(unix))]
    let inode = 0;
    format!("{:x}-{:x}-{inode:x}", metadata.len(), modified.as_nanos())
}

/// Returns the modification time of a file since 1970.
fn since_epoch(metadata: &Metadata) -> Duration {
    metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default()
}

/// Reads a small file. Returns `None` if it does not exist.
fn read_small_file(path: &Path) -> io::Result<Option<MetadataObject>> {
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(None),
        Err(error) => return Err(error),
    };
    // To open a named pipe would wait for a writer.
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(METADATA_LIMIT_BYTES + 1).read_to_end(&mut bytes)?;
    let size = metadata.len().max(bytes.len() as u64);
    Ok(Some(MetadataObject { size, bytes: if size > METADATA_LIMIT_BYTES { Bytes::new() } else { bytes.into() } }))
}

impl ResourceSource for DirectoryLake {
    async fn check(&self) -> Result<(), SourceError> {
        match std::fs::read_dir(&self.root) {
            Ok(_) => Ok(()),
            Err(error) => {
                let remedy = format!("the lake `{}` cannot be read: it must be a directory of NDJSON files", self.root.display());
                Err(SourceError::Misconfigured { remedy, cause: error.into() })
            }
        }
    }

    async fn list(&self, _: Option<&str>) -> Result<ObjectPage, SourceError> {
        self.check().await?;
        let root = self.root.clone();
        let listed = tokio::task::spawn_blocking(move || Self::list_all(&root)).await;
        Ok(ObjectPage { objects: listed.map_err(|error| SourceError::Unavailable(error.into()))??, next: None })
    }

    fn read(&self, pin: &Pin, range: Range<u64>) -> ByteStream {
        let (path, expected) = (self.root.join(&pin.object), pin.etag.clone());
        let is_same = move |file: &File| file.metadata().is_ok_and(|metadata| etag(&metadata) == expected);
        read_file(path, range, is_same, SourceError::Changed { object: pin.object.clone() })
    }

    async fn read_metadata(&self, object: &str) -> Result<Option<MetadataObject>, SourceError> {
        let path = self.root.join(object);
        in_place(|| read_small_file(&path)).map_err(|error| {
            let remedy = format!("the file `{}` cannot be read: it must be a file that this program may read", path.display());
            SourceError::Misconfigured { remedy, cause: error.into() }
        })
    }
}

/// Streams a range of a file. `is_expected` is checked before and after. The stream ends with the error `changed` if the file is
/// not the expected one, does not exist, or ends too early.
pub(super) fn read_file(
    path: PathBuf,
    range: Range<u64>,
    is_expected: impl Fn(&File) -> bool + Send + 'static,
    changed: SourceError,
) -> ByteStream {
    let mut reader = RangeReader { path, range, file: None, is_expected };
    let mut changed = Some(changed);
    Box::pin(stream::iter(std::iter::from_fn(move || match in_place(|| reader.next()) {
        Ok(Some(chunk)) if chunk.is_empty() => None,
        Ok(Some(chunk)) => Some(Ok(chunk)),
        Ok(None) => changed.take().map(Err),
        Err(error) if error.kind() == io::ErrorKind::NotFound => changed.take().map(Err),
        Err(error) => changed.take().map(|_| Err(SourceError::Unavailable(error.into()))),
    })))
}

/// State of a range that is being read.
struct RangeReader<F> {
    path: PathBuf,
    /// Range that is not read yet.
    range: Range<u64>,
    file: Option<File>,
    is_expected: F,
}

impl<F: Fn(&File) -> bool> RangeReader<F> {
    /// Reads the next chunk, which is empty at the end of the range. Returns `None` if the file is not the expected one.
    fn next(&mut self) -> io::Result<Option<Bytes>> {
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let mut file = File::open(&self.path)?;
                if !(self.is_expected)(&file) {
                    return Ok(None);
                }
                file.seek(SeekFrom::Start(self.range.start))?;
                none.insert(file)
            }
        };
        if self.range.is_empty() {
            return Ok((self.is_expected)(file).then(Bytes::new));
        }
        let chunk_bytes = CHUNK_BYTES.min(self.range.end - self.range.start);
        let mut chunk = Vec::with_capacity(usize::try_from(chunk_bytes).unwrap_or_default());
        let read = file.take(chunk_bytes).read_to_end(&mut chunk)?;
        self.range.start += chunk_bytes;
        Ok((read as u64 == chunk_bytes).then(|| chunk.into()))
    }
}
