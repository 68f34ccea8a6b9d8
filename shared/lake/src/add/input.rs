//! The files that are added to a lake.

use std::fmt;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use headrace_core::job::task::{Encoding, Pin};
use headrace_core::lake::slices::{comparison_order, encoding_from_name, is_foreign};
use md5::Md5;
use sha2::{Digest as _, Sha256};
use walkdir::WalkDir;

use super::AddError;
use crate::progress::Progress;
use crate::regular_file::open_regular_file;
use crate::writing::{BUCKET_ERROR, LakeBucket, LakeLock};

/// The size of one read of a file, in bytes.
const READ_BYTES: usize = 256 << 10;

/// A file that is added.
#[derive(Clone, Debug)]
pub(super) struct InputFile {
    place: FilePlace,
    /// The path below the folder that is added, with `/` between folders.
    pub(super) name: String,
    pub(super) size: u64,
    pub(super) encoding: Encoding,
    pub(super) content: FileContent,
    /// The MD5 that the stored content must have, if a list says it.
    md5: Option<Md5Digest>,
}

/// The place of a file.
#[derive(Clone)]
enum FilePlace {
    /// A path of this machine.
    Path(PathBuf),
    /// An object in a bucket.
    Bucket(Arc<dyn LakeBucket>, Pin),
}

impl FilePlace {
    /// Opens the stored content.
    fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        match self {
            Self::Path(path) => Ok(Box::new(open_regular_file(path)?)),
            Self::Bucket(bucket, pin) => Ok(bucket.open(pin)),
        }
    }
}

impl fmt::Debug for FilePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.fmt(f),
            Self::Bucket(_, pin) => pin.object.fmt(f),
        }
    }
}

/// The content of a file, by the ending of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileContent {
    /// `.json`.
    Json,
    /// `.ndjson` or `.jsonl`: one JSON text a line.
    Lines,
}

/// The first 16 bytes of the SHA-256 of a file.
pub(super) type ContentHash = u128;

/// The MD5 of a file.
pub(super) type Md5Digest = [u8; 16];

/// Parses an MD5 in base64.
pub(super) fn md5_from_base64(text: &str) -> Option<Md5Digest> {
    STANDARD.decode(text.trim()).ok()?.try_into().ok()
}

impl InputFile {
    /// Describes the file at this path. Returns `None` if its name says that it holds something else.
    fn from_path(root: &Path, path: &Path, size: u64) -> Option<Self> {
        let below = path.strip_prefix(root).ok().filter(|below| !below.as_os_str().is_empty());
        let below = below.or_else(|| path.file_name().map(Path::new))?;
        let segments: Vec<String> = below.components().map(|segment| segment.as_os_str().to_string_lossy().into_owned()).collect();
        Self::new(FilePlace::Path(path.to_owned()), segments.join("/"), size)
    }

    /// Describes the file of this name. Returns `None` if the name says that it holds something else.
    fn new(place: FilePlace, name: String, size: u64) -> Option<Self> {
        let (stem, encoding) = [(".gz", Encoding::Gzip), (".zst", Encoding::Zstd)]
            .into_iter()
            .find_map(|(ending, encoding)| Some((name.strip_suffix(ending)?, encoding)))
            .unwrap_or((&name, Encoding::Plain));
        let content = if stem.ends_with(".json") {
            FileContent::Json
        } else if stem.ends_with(".ndjson") || stem.ends_with(".jsonl") {
            FileContent::Lines
        } else {
            return None;
        };
        Some(Self { place, size, encoding, content, name, md5: None })
    }

    /// Sets the MD5 that the stored content must have.
    pub(super) fn with_md5(self, md5: Option<Md5Digest>) -> Self {
        Self { md5, ..self }
    }

    /// Reads the start of the file that has the name of this one with another ending. `None` if there is none.
    pub(super) fn read_beside(&self, ending: &str, limit_bytes: u64) -> Option<String> {
        match &self.place {
            FilePlace::Path(path) => {
                let mut text = String::new();
                open_regular_file(&path.with_extension(ending)).ok()?.take(limit_bytes).read_to_string(&mut text).ok()?;
                Some(text)
            }
            FilePlace::Bucket(..) => None,
        }
    }

    /// Returns true if the file is in this folder of the machine, or in one below it.
    pub(super) fn is_below(&self, folder: &Path) -> bool {
        match &self.place {
            FilePlace::Path(path) => {
                path.canonicalize().ok().zip(folder.canonicalize().ok()).is_some_and(|(path, folder)| path.starts_with(folder))
            }
            FilePlace::Bucket(..) => false,
        }
    }

    /// Returns the last segment of the name.
    pub(super) fn file_name(&self) -> &str {
        self.name.rsplit('/').next().unwrap_or_default()
    }

    /// Opens the file for reading of its decompressed content.
    pub(super) fn open(&self, progress: &Arc<Progress>) -> io::Result<InputReader> {
        InputReader::open(self, progress.clone())
    }

    /// Converts an error of reading this file.
    pub(super) fn read_error(&self, cause: io::Error) -> AddError {
        let kind = cause.kind();
        let is_corrupt = matches!(kind, io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData)
            || (self.encoding != Encoding::Plain && cause.raw_os_error().is_none());
        let reason = if kind == BUCKET_ERROR {
            cause.to_string()
        } else if kind == io::ErrorKind::UnexpectedEof {
            "it is truncated".to_owned()
        } else if is_corrupt {
            "it is corrupt".to_owned()
        } else {
            cause.to_string()
        };
        AddError::Input { file: self.name.clone(), reason }
    }
}

impl InputFile {
    /// Checks the MD5 of the stored content, which is known if one is expected.
    ///
    /// * `list`: the name of the file that says it.
    pub(super) fn check_md5(&self, found: Option<Md5Digest>, list: &str) -> Result<(), AddError> {
        if self.md5 == found {
            return Ok(());
        }
        let reason =
            format!("it does not have the MD5 that {list} says: it was changed, or is of another export; download the export again");
        Err(AddError::Input { file: self.name.clone(), reason })
    }

    /// Checks that the second reading has found the content of the first.
    pub(super) fn check_content(&self, first: Option<&ContentHash>, second: ContentHash) -> Result<(), AddError> {
        if first == Some(&second) {
            return Ok(());
        }
        Err(AddError::Input { file: self.name.clone(), reason: "it was changed while it was read; run the command again".to_owned() })
    }
}

/// Returns true for an entry that does not belong to another tool.
fn is_read(entry: &walkdir::DirEntry) -> bool {
    entry.depth() == 0 || !is_foreign(&entry.file_name().to_string_lossy())
}

/// Lists the files below a folder, or one file, ordered by path. Files of other tools are left out, and those with other endings. Fails for
/// a pipe or a device with the name of a file: its data would be missing.
pub(super) fn list_files(from: &Path) -> Result<Vec<InputFile>, AddError> {
    let mut files = Vec::new();
    for entry in WalkDir::new(from).follow_links(true).sort_by_file_name().into_iter().filter_entry(is_read) {
        let entry = entry.map_err(|error| AddError::Listing { folder: from.to_owned(), cause: error.into() })?;
        if entry.file_type().is_dir() {
            continue;
        }
        let metadata = entry.metadata().map_err(|error| AddError::Listing { folder: from.to_owned(), cause: error.into() })?;
        let Some(file) = InputFile::from_path(from, entry.path(), metadata.len()) else { continue };
        if !metadata.is_file() {
            return Err(AddError::Input { file: file.name, reason: "it is not a regular file".to_owned() });
        }
        files.push(file);
    }
    Ok(files)
}

/// Lists the objects of a lake in the order in which exports compare equal versions.
pub(super) fn list_objects(lake: &LakeLock) -> Result<Vec<InputFile>, AddError> {
    let mut objects = match lake.bucket() {
        Some(locked) => {
            let pins = locked.bucket.list("").map_err(locked.failed(""))?;
            let object = |pin: Pin| InputFile::new(FilePlace::Bucket(locked.bucket.clone(), pin.clone()), pin.object, pin.size);
            pins.into_iter().filter_map(object).collect()
        }
        None => list_directory(lake.root())?,
    };
    objects.retain(|object| object.size > 0 && encoding_from_name(&object.name).is_some());
    objects.sort_by(|one, other| comparison_order(&one.name).cmp(&comparison_order(&other.name)));
    Ok(objects)
}

/// Lists the files of a lake in a directory.
fn list_directory(lake: &Path) -> Result<Vec<InputFile>, AddError> {
    let failed = |error: walkdir::Error| AddError::Listing { folder: lake.to_owned(), cause: error.into() };
    let mut objects = Vec::new();
    for entry in WalkDir::new(lake).follow_links(true).into_iter().filter_entry(is_read) {
        let entry = match entry {
            Ok(entry) => entry,
            // Exports skip links that lead nowhere, too.
            Err(error) if error.depth() > 0 && leads_nowhere(&error) => continue,
            Err(error) => return Err(failed(error)),
        };
        if entry.file_type().is_file() {
            let size = entry.metadata().map_err(failed)?.len();
            objects.extend(InputFile::from_path(lake, entry.path(), size));
        }
    }
    Ok(objects)
}

/// Returns true for an error about a link without a target, or to a folder that it is in.
fn leads_nowhere(error: &walkdir::Error) -> bool {
    error.loop_ancestor().is_some() || error.io_error().is_some_and(|cause| cause.kind() == io::ErrorKind::NotFound)
}

/// A file that is read, with the hashes of what was read so far.
pub(super) struct StoredReader {
    file: Box<dyn Read + Send>,
    hasher: Sha256,
    /// `None` if nobody compares it.
    md5: Option<Md5>,
    progress: Arc<Progress>,
}

impl StoredReader {
    /// Returns the hashes of the bytes so far.
    fn hashes(self) -> (ContentHash, Option<Md5Digest>) {
        let digest = self.hasher.finalize();
        let hash: ContentHash = digest.iter().take(size_of::<ContentHash>()).fold(0, |hash, byte| hash << 8 | ContentHash::from(*byte));
        let md5 = self.md5.map(|md5| {
            let mut bytes = Md5Digest::default();
            bytes.iter_mut().zip(md5.finalize().iter()).for_each(|(to, from)| *to = *from);
            bytes
        });
        (hash, md5)
    }
}

impl Read for StoredReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        let read = buffer.get(..count).unwrap_or_default();
        self.hasher.update(read);
        if let Some(md5) = &mut self.md5 {
            md5.update(read);
        }
        self.progress.add(count as u64);
        Ok(count)
    }
}

/// A reader of the decompressed content of a file.
pub(super) enum InputReader {
    Plain(Box<BufReader<StoredReader>>),
    Gzip(Box<flate2::bufread::MultiGzDecoder<BufReader<StoredReader>>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, BufReader<StoredReader>>>),
}

impl InputReader {
    /// Opens a file.
    fn open(file: &InputFile, progress: Arc<Progress>) -> io::Result<Self> {
        let stored = StoredReader { file: file.place.open()?, hasher: Sha256::new(), md5: file.md5.map(|_| Md5::new()), progress };
        let stored = BufReader::with_capacity(READ_BYTES, stored);
        Ok(match file.encoding {
            Encoding::Plain => Self::Plain(Box::new(stored)),
            Encoding::Gzip => Self::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(stored))),
            Encoding::Zstd => Self::Zstd(Box::new(zstd::stream::read::Decoder::with_buffer(stored)?)),
        })
    }

    /// Reads up to the end, and returns the hash of the stored content.
    pub(super) fn into_content_hash(self) -> io::Result<ContentHash> {
        self.into_hashes().map(|(hash, _)| hash)
    }

    /// Reads up to the end, and returns the hash of the stored content, and its MD5 if one is expected.
    pub(super) fn into_hashes(self) -> io::Result<(ContentHash, Option<Md5Digest>)> {
        let mut stored = match self {
            Self::Plain(stored) => (*stored).into_inner(),
            Self::Gzip(decoder) => decoder.into_inner().into_inner(),
            Self::Zstd(decoder) => decoder.finish().into_inner(),
        };
        // A decoder may stop before the end of the file.
        io::copy(&mut stored, &mut io::sink())?;
        Ok(stored.hashes())
    }
}

impl Read for InputReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(reader) => reader.read(buffer),
            Self::Gzip(reader) => reader.read(buffer),
            Self::Zstd(reader) => reader.read(buffer),
        }
    }
}

/// The size from which resources are read by one thread at a time, in bytes. All threads together could hold too many of them.
const LARGE_BYTES: usize = 1 << 20;

/// The permit of a thread to hold a large resource.
pub(super) struct LargeResourcePermit<'t> {
    large_resources: &'t Mutex<()>,
    current: Option<MutexGuard<'t, ()>>,
}

impl<'t> LargeResourcePermit<'t> {
    /// Creates a permit that is not taken.
    pub(super) fn new(large_resources: &'t Mutex<()>) -> Self {
        Self { large_resources, current: None }
    }

    /// Takes the permit, and waits for it, if the thread holds `bytes` bytes of one resource. Gives it back if they are few.
    pub(super) fn hold(&mut self, bytes: usize) {
        if bytes <= LARGE_BYTES {
            self.current = None;
        } else if self.current.is_none() {
            self.current = Some(self.large_resources.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }
}

/// Passes the content of a file to `visit` in chunks, until that fails. Returns the reader at the end of the file.
pub(super) fn read_chunks(
    file: &InputFile,
    progress: &Arc<Progress>,
    mut visit: impl FnMut(&[u8]) -> Result<(), AddError>,
) -> Result<InputReader, AddError> {
    let mut reader = file.open(progress).map_err(|cause| file.read_error(cause))?;
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(reader),
            Ok(count) => visit(buffer.get(..count).unwrap_or_default())?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(file.read_error(error)),
        }
    }
}
