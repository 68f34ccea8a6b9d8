//! An NDJSON lake in a directory.

use std::fs::{File, Metadata};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::stream;
use headrace_core::job::task::Pin;
use headrace_core::lake::inner_lake::{OWN_FOLDER, contains_lake};
use headrace_core::lake::near_misses::NearMisses;
use headrace_core::lake::slices::{encoding_from_name, is_foreign};
use headrace_core::metering::count;
use headrace_core::ports::{ByteStream, ListedObject, METADATA_LIMIT_BYTES, MetadataObject, ObjectPage, ResourceSource, SkippedEntry};
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::SourceError;
use walkdir::{DirEntry, FilterEntry, IntoIter, WalkDir};

use super::blocking_call::{BlockingCall, in_place};
use crate::stores::io_fault::{IoFault, source_error};
use crate::stores::regular_file::{is_not_regular, open_regular_file};

/// Size of one read, in bytes. The chunk stays in the cache of a core until it is written.
const CHUNK_BYTES: u64 = 256 << 10;

/// Maximum number of skipped entries that are logged one by one.
const MAX_SKIPPED_LOGGED: usize = 20;

/// The reason why a file whose name is not UTF-8 is not read: no message and no record could name it.
const NOT_UTF8: &str = "its name is not UTF-8";

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

    /// Returns true if the lake has an NDJSON file. Looks no further than to the first.
    pub(crate) fn has_objects(&self) -> Result<bool, SourceError> {
        self.check_root()?;
        // One whose name is not UTF-8 counts, too. The export names it.
        let is_object =
            |entry: DirEntry| entry.file_type().is_file() && encoding_from_name(&shown_name(&self.root, entry.path())).is_some();
        // A folder that cannot be read may have objects. The export names it.
        Ok(LakeEntries::walk(&self.root)
            .any(|entry| entry.map_or_else(|error| SkippedLink::from_error(&self.root, &error).is_none(), is_object)))
    }

    /// Returns true if the lake has more files and folders than `count`. Looks no further than to them.
    pub(crate) fn has_more_files_than(&self, count: usize) -> bool {
        LakeEntries::walk(&self.root).nth(count).is_some()
    }

    /// Counts the files whose names are nearly right.
    pub(crate) fn near_misses(&self) -> NearMisses {
        let mut near_misses = NearMisses::default();
        let files = LakeEntries::walk(&self.root).filter_map(Result::ok).filter(|entry| entry.file_type().is_file());
        files.for_each(|entry| near_misses.add(&shown_name(&self.root, entry.path())));
        near_misses
    }

    /// Checks that the root is a directory that can be read.
    fn check_root(&self) -> Result<(), SourceError> {
        match std::fs::read_dir(&self.root) {
            Ok(_) => Ok(()),
            Err(error) => {
                let reason = match IoFault::from_error(&error) {
                    IoFault::Permanent(reason) if error.kind() != io::ErrorKind::NotADirectory => reason,
                    IoFault::Permanent(_) | IoFault::OutOfSpace | IoFault::Passing => "it must be a directory of NDJSON files",
                };
                let remedy = format!("the lake `{}` cannot be read: {reason}", self.root.display());
                Err(SourceError::Misconfigured { remedy, cause: error.into() })
            }
        }
    }

    /// Lists all NDJSON files below `root`, and those whose names are nearly right, ordered by path. Lists and logs the links and other
    /// entries that are skipped. Fails if a folder is a lake of its own, and for an NDJSON file whose name is not UTF-8.
    fn list_all(root: &Path) -> Result<ObjectPage, SourceError> {
        let (mut objects, mut skipped) = (Vec::new(), Vec::new());
        let mut skip = |object: String, reason: &'static str| {
            if skipped.len() < MAX_SKIPPED_LOGGED {
                // Debug format escapes control characters, which would otherwise reach the terminal.
                tracing::warn!(?object, reason, "an entry of the lake was skipped");
            }
            skipped.push(SkippedEntry { object, reason });
        };
        for entry in LakeEntries::walk(root) {
            match entry {
                Err(error) => match SkippedLink::from_error(root, &error) {
                    Some(link) if link.object.split('/').any(is_foreign) => {}
                    Some(link) => skip(link.object, link.reason),
                    None => return Err(listing_error(root, error)),
                },
                Ok(entry) => {
                    let shown = shown_name(root, entry.path());
                    if is_inner_lake(&entry) {
                        return Err(contains_lake(&shown));
                    }
                    let is_data = encoding_from_name(&shown).is_some();
                    if !(is_data || NearMisses::is_near_miss(&shown)) || entry.file_type().is_dir() {
                        continue;
                    }
                    if !entry.file_type().is_file() {
                        skip(shown, "it is not a regular file");
                        continue;
                    }
                    let object = match object_name(root, entry.path()) {
                        Some(object) => object,
                        None if is_data => return Err(not_utf8(&shown)),
                        None => {
                            skip(shown, NOT_UTF8);
                            continue;
                        }
                    };
                    let metadata = entry.metadata().map_err(|error| listing_error(root, error.into()))?;
                    let arrived = Millis(u64::try_from(since_epoch(&metadata).as_millis()).unwrap_or(u64::MAX));
                    objects.push(ListedObject { pin: Pin { object, etag: etag(&metadata), size: metadata.len() }, arrived });
                }
            }
        }
        if skipped.len() > MAX_SKIPPED_LOGGED {
            tracing::warn!(skipped = skipped.len(), "more entries of the lake were skipped than are logged by name");
        }
        objects.sort_by(|one, other| one.pin.object.cmp(&other.pin.object));
        Ok(ObjectPage { objects, skipped, ..ObjectPage::default() })
    }
}

/// The entries of a lake, without those of other tools and of the file system. Links are followed, but not to a folder that contains
/// the lake: its other content is not part of the lake, and the lake itself would be read twice.
struct LakeEntries {
    walk: FilterEntry<IntoIter, fn(&DirEntry) -> bool>,
    /// The path of the lake without links. `None` if it cannot be found out; the walk itself then fails.
    real_root: Option<PathBuf>,
}

impl LakeEntries {
    /// Walks through the lake in the directory `root`.
    fn walk(root: &Path) -> Self {
        let is_read: fn(&DirEntry) -> bool = is_read;
        Self { walk: WalkDir::new(root).follow_links(true).into_iter().filter_entry(is_read), real_root: root.canonicalize().ok() }
    }

    /// Returns true if a link leads to a folder that contains the lake, or to the lake.
    fn leads_round(&self, link: &Path) -> bool {
        self.real_root.as_ref().is_some_and(|root| link.canonicalize().is_ok_and(|target| root.starts_with(target)))
    }
}

impl Iterator for LakeEntries {
    type Item = Result<DirEntry, EntryError>;

    fn next(&mut self) -> Option<Self::Item> {
        let entry = match self.walk.next()? {
            Ok(entry) => entry,
            Err(error) => return Some(Err(error.into())),
        };
        let is_link = entry.depth() > 0 && entry.path_is_symlink() && entry.file_type().is_dir();
        if is_link && self.leads_round(entry.path()) {
            self.walk.skip_current_dir();
            return Some(Err(EntryError::LeadsRound(entry.into_path())));
        }
        Some(Ok(entry))
    }
}

/// Returns true for an entry that can belong to a lake.
fn is_read(entry: &DirEntry) -> bool {
    entry.depth() == 0 || !is_foreign(&entry.file_name().to_string_lossy())
}

/// Returns true for a folder of a lake that is a lake of its own.
fn is_inner_lake(entry: &DirEntry) -> bool {
    entry.depth() > 0 && entry.file_type().is_dir() && entry.path().join(OWN_FOLDER).is_dir()
}

/// An entry of a lake that cannot be listed.
enum EntryError {
    /// The file system has failed, or a link leads nowhere or to a folder above it in the lake.
    Walk(walkdir::Error),
    /// The link leads to a folder that contains the lake.
    LeadsRound(PathBuf),
}

impl From<walkdir::Error> for EntryError {
    fn from(error: walkdir::Error) -> Self {
        Self::Walk(error)
    }
}

impl EntryError {
    /// Returns the path of the entry.
    fn path(&self) -> Option<&Path> {
        match self {
            Self::Walk(error) => error.path(),
            Self::LeadsRound(path) => Some(path.as_path()),
        }
    }

    /// Returns the reason why the entry is skipped. `None` if the listing fails instead.
    fn skip_reason(&self) -> Option<&'static str> {
        let error = match self {
            Self::LeadsRound(_) => return Some("the link leads to a folder that contains the lake"),
            Self::Walk(error) => error,
        };
        let cause = error.io_error();
        if error.loop_ancestor().is_some() || cause.and_then(io::Error::raw_os_error) == Some(ELOOP) {
            return Some("the link leads back to itself");
        }
        (cause.map(io::Error::kind) == Some(io::ErrorKind::NotFound)).then_some("the target of the link does not exist")
    }
}

/// Returns the name of an object: its path below the root, with `/` between folders. `None` if it is not UTF-8.
fn object_name(root: &Path, path: &Path) -> Option<String> {
    let below = path.strip_prefix(root).unwrap_or(path);
    let segments: Option<Vec<_>> = below.components().map(|component| component.as_os_str().to_str()).collect();
    Some(segments?.join("/"))
}

/// Returns the name of an object for messages: bytes that are not UTF-8 are replaced. It begins and ends as the name itself does.
fn shown_name(root: &Path, path: &Path) -> String {
    let below = path.strip_prefix(root).unwrap_or(path);
    let segments: Vec<_> = below.components().map(|component| component.as_os_str().to_string_lossy()).collect();
    segments.join("/")
}

/// Returns the error for an NDJSON file whose name is not UTF-8. An export without it would lack its resources.
fn not_utf8(shown: &str) -> SourceError {
    let remedy = format!(
        "the lake has a file {shown:?} whose name is not UTF-8, so no export can name it: rename it, or move it to a folder whose name \
         begins with `_`"
    );
    SourceError::Misconfigured { remedy, cause: NOT_UTF8.into() }
}

/// A symbolic link that is skipped.
struct SkippedLink {
    object: String,
    reason: &'static str,
}

impl SkippedLink {
    /// Returns the link that caused an error of a listing. `None` if the cause is something else.
    fn from_error(root: &Path, error: &EntryError) -> Option<Self> {
        let reason = error.skip_reason()?;
        let path = error.path().filter(|path| *path != root)?;
        Some(Self { object: shown_name(root, path), reason })
    }
}

/// Error number of too many links in a path.
const ELOOP: i32 = if cfg!(target_os = "linux") { 40 } else { 62 };

/// Converts an error of a listing. It names the file or folder.
fn listing_error(root: &Path, error: EntryError) -> SourceError {
    let object = error.path().map(|path| shown_name(root, path)).unwrap_or_default();
    let cause = match error {
        EntryError::Walk(error) => error.into_io_error(),
        EntryError::LeadsRound(_) => None,
    };
    match cause {
        Some(cause) => source_error(&object, cause),
        None => SourceError::Unavailable(object.into()),
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

/// Reads a small file below `root`. Returns `None` if it does not exist. A link without a target is an error, and a file in place of one of
/// its folders, too: something has the name, and cannot be read.
fn read_small_file(root: &Path, path: &Path) -> io::Result<Option<MetadataObject>> {
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        // That the root is not a folder is found by the check of the lake.
        Err(error) if error.kind() == io::ErrorKind::NotFound || (error.kind() == io::ErrorKind::NotADirectory && !root.is_dir()) => {
            let mut below = path.ancestors().take_while(|ancestor| *ancestor != root);
            // Only the part of the path that does not exist can be such a link.
            return if below.any(|ancestor| ancestor.is_symlink() && !ancestor.exists()) { Err(error) } else { Ok(None) };
        }
        Err(error) => return Err(error),
    };
    // To open a named pipe would wait for a writer.
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let mut bytes = Vec::new();
    open_regular_file(path)?.take(METADATA_LIMIT_BYTES + 1).read_to_end(&mut bytes)?;
    let size = metadata.len().max(bytes.len() as u64);
    Ok(Some(MetadataObject { size, bytes: if size > METADATA_LIMIT_BYTES { Bytes::new() } else { bytes.into() } }))
}

impl ResourceSource for DirectoryLake {
    async fn check(&self) -> Result<(), SourceError> {
        self.check_root()
    }

    async fn list(&self, _: Option<&str>) -> Result<ObjectPage, SourceError> {
        self.check().await?;
        count(|usage| usage.lists += 1);
        let root = self.root.clone();
        let listed = tokio::task::spawn_blocking(move || Self::list_all(&root)).await;
        listed.map_err(|error| SourceError::Unavailable(error.into()))?
    }

    fn read(&self, pin: &Pin, range: Range<u64>) -> ByteStream {
        let (path, expected) = (self.root.join(&pin.object), pin.etag.clone());
        let is_same = move |file: &File| file.metadata().is_ok_and(|metadata| etag(&metadata) == expected);
        read_file(
            (path, BlockingCall::Lake(pin.object.as_str().into())),
            range,
            is_same,
            SourceError::Changed { object: pin.object.clone() },
        )
    }

    async fn read_metadata(&self, object: &str) -> Result<Option<MetadataObject>, SourceError> {
        let path = self.root.join(object);
        in_place(&BlockingCall::Lake(object.into()), || read_small_file(&self.root, &path)).map_err(|error| {
            let has_no_folder = error.kind() == io::ErrorKind::NotADirectory;
            let in_place_of_folder = "a file is in place of its folder; move that file away";
            let rule = if has_no_folder { in_place_of_folder } else { "it must be a file that this program may read" };
            let remedy = format!("the file `{}` cannot be read: {rule}", path.display());
            SourceError::Misconfigured { remedy, cause: error.into() }
        })
    }
}

/// Streams a range of a file. `is_expected` is checked before and after. The stream ends with the error `changed` if the file is
/// not the expected one, does not exist, is not a regular file, or ends too early. `call` names the file for errors.
pub(super) fn read_file(
    (path, call): (PathBuf, BlockingCall),
    range: Range<u64>,
    is_expected: impl Fn(&File) -> bool + Send + 'static,
    changed: SourceError,
) -> ByteStream {
    let mut reader = RangeReader { path, range, file: None, last_chunk: Bytes::new(), is_expected };
    let mut changed = Some(changed);
    Box::pin(stream::iter(std::iter::from_fn(move || match in_place(&call, || reader.next()) {
        Ok(Some(chunk)) if chunk.is_empty() => None,
        Ok(Some(chunk)) => Some(Ok(chunk)),
        Ok(None) => changed.take().map(Err),
        Err(error) if error.kind() == io::ErrorKind::NotFound || is_not_regular(&error) => changed.take().map(Err),
        Err(error) => changed.take().map(|_| Err(source_error(&call.to_string(), error))),
    })))
}

/// State of a range that is being read.
struct RangeReader<F> {
    path: PathBuf,
    /// Range that is not read yet.
    range: Range<u64>,
    file: Option<File>,
    last_chunk: Bytes,
    is_expected: F,
}

impl<F: Fn(&File) -> bool> RangeReader<F> {
    /// Reads the next chunk, which is empty at the end of the range. Returns `None` if the file is not the expected one.
    fn next(&mut self) -> io::Result<Option<Bytes>> {
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let mut file = open_regular_file(&self.path)?;
                count(|usage| usage.gets += 1);
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
        // Once nobody holds the last chunk, its memory is used again: it is in the cache of this core, and the system need not clear it.
        let mut chunk = std::mem::take(&mut self.last_chunk).try_into_mut().unwrap_or_default();
        chunk.resize(usize::try_from(chunk_bytes).unwrap_or_default(), 0);
        match file.read_exact(&mut chunk) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
        self.range.start += chunk_bytes;
        count(|usage| usage.bytes_read += chunk_bytes);
        self.last_chunk = chunk.freeze();
        Ok(Some(self.last_chunk.clone()))
    }
}
