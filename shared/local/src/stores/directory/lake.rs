//! An NDJSON lake in a directory.

use std::fs::{File, Metadata};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use bytes::Bytes;
use futures_util::stream;
use headrace_core::job::task::Pin;
use headrace_core::lake::slices::encoding_of;
use headrace_core::ports::{ByteStream, Listing, ResourceSource};
use headrace_core::vocab::error::SourceError;
use walkdir::WalkDir;

use super::in_place;

/// How much is read at a time: it stays in a core's cache until it is written.
const CHUNK_BYTES: u64 = 256 << 10;

/// The lake.
#[derive(Clone, Debug)]
pub struct DirectoryLake {
    root: PathBuf,
}

impl DirectoryLake {
    /// The lake below `root`.
    pub fn open(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    fn list_all(root: &Path) -> Result<Vec<Pin>, SourceError> {
        let mut objects = Vec::new();
        for entry in WalkDir::new(root).follow_links(true) {
            let entry = entry.map_err(|error| SourceError::Unavailable(error.into()))?;
            let below = entry.path().strip_prefix(root).unwrap_or(entry.path());
            let Some(object) = below.components().map(|part| part.as_os_str().to_str()).collect::<Option<Vec<_>>>() else {
                tracing::warn!("a file of the lake is passed over: its name is not UTF-8");
                continue;
            };
            let object = object.join("/");
            if entry.file_type().is_file() && encoding_of(&object).is_some() {
                let metadata = entry.metadata().map_err(|error| SourceError::Unavailable(error.into()))?;
                objects.push(Pin { object, etag: etag(&metadata), size: metadata.len() });
            }
        }
        objects.sort_by(|one, other| one.object.cmp(&other.object));
        Ok(objects)
    }
}

/// What changes when a file's bytes change: size, modification time and, where there is one, inode.
fn etag(metadata: &Metadata) -> String {
    let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    #[cfg(unix)]
    let inode = std::os::unix::fs::MetadataExt::ino(metadata);
    #[cfg(not(unix))]
    let inode = 0;
    format!("{:x}-{:x}-{inode:x}", metadata.len(), modified.as_nanos())
}

impl ResourceSource for DirectoryLake {
    async fn check(&self) -> Result<(), SourceError> {
        match std::fs::read_dir(&self.root) {
            Ok(_) => Ok(()),
            Err(error) => {
                let remedy = format!("the lake `{}` cannot be read: name a directory of NDJSON files", self.root.display());
                Err(SourceError::Misconfigured { remedy, cause: error.into() })
            }
        }
    }

    async fn list(&self, _: Option<&str>) -> Result<Listing, SourceError> {
        self.check().await?;
        let root = self.root.clone();
        let listed = tokio::task::spawn_blocking(move || Self::list_all(&root)).await;
        Ok(Listing { objects: listed.map_err(|error| SourceError::Unavailable(error.into()))??, next: None })
    }

    fn read(&self, pin: &Pin, range: Range<u64>) -> ByteStream {
        let (path, expected) = (self.root.join(&pin.object), pin.etag.clone());
        let is_same = move |file: &File| file.metadata().is_ok_and(|metadata| etag(&metadata) == expected);
        read_file(path, range, is_same, SourceError::Changed { object: pin.object.clone() })
    }
}

/// Reads a range of a file. The file must be the expected one before and after; `changed` if it is not, is absent, or
/// ends too early.
pub(super) fn read_file(
    path: PathBuf,
    range: Range<u64>,
    is_expected: impl Fn(&File) -> bool + Send + 'static,
    changed: SourceError,
) -> ByteStream {
    let mut reading = Reading { path, range, file: None, is_expected };
    let mut changed = Some(changed);
    Box::pin(stream::iter(std::iter::from_fn(move || match in_place(|| reading.next()) {
        Ok(Some(chunk)) if chunk.is_empty() => None,
        Ok(Some(chunk)) => Some(Ok(chunk)),
        Ok(None) => changed.take().map(Err),
        Err(error) if error.kind() == io::ErrorKind::NotFound => changed.take().map(Err),
        Err(error) => changed.take().map(|_| Err(SourceError::Unavailable(error.into()))),
    })))
}

/// A file on its way.
struct Reading<F> {
    path: PathBuf,
    /// What is still to be read.
    range: Range<u64>,
    file: Option<File>,
    is_expected: F,
}

impl<F: Fn(&File) -> bool> Reading<F> {
    /// The next chunk, an empty one at the end; `None` if this is not the expected file.
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
        let wanted = CHUNK_BYTES.min(self.range.end - self.range.start);
        let mut chunk = Vec::with_capacity(usize::try_from(wanted).unwrap_or_default());
        let read = file.take(wanted).read_to_end(&mut chunk)?;
        self.range.start += wanted;
        Ok((read as u64 == wanted).then(|| chunk.into()))
    }
}
