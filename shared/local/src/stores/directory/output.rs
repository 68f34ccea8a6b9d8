//! The destination as a directory. Only its owner may read what is written: these are patients' records.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest};
use headrace_core::job::anonymization::{self, ConfigName, Configuration};
use headrace_core::job::folder::Folder;
use headrace_core::output::file::{Content, FileName, FragmentName, OutputFileName, Part, Tail};
use headrace_core::ports::{Access, ByteStream, Draft, OutputStore};
use headrace_core::vocab::error::{SourceError, StoreError};
use tokio::task::spawn_blocking;
use walkdir::WalkDir;

use crate::stores::private::{create_private_folder, private_file_options};

use super::in_place;
use super::lake::read_file;

const WHAT: &str = "the destination";

/// Where a client's own destination is said.
const OWN: &str = "`destination` in the client's registration";

/// Smaller writes are gathered up to this size.
const GATHER_BYTES: usize = 64 << 10;

/// How much is read at a time to compare a file.
const COMPARE_BYTES: usize = 1 << 20;

/// The destination.
#[derive(Clone, Debug)]
pub struct DirectoryOutputStore {
    root: PathBuf,
    lake: Option<PathBuf>,
}

impl DirectoryOutputStore {
    /// The destination below `root`, which is created when it is first written to.
    pub fn open(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), lake: None }
    }

    /// Clients' own destinations must lie apart from this lake: what is written there would be read as part of it.
    #[must_use]
    pub fn separate_from_lake(self, lake: impl Into<PathBuf>) -> Self {
        Self { lake: Some(lake.into()), ..self }
    }

    /// The folder of one job.
    fn folder(&self, folder: &Folder) -> PathBuf {
        folder.destination.as_ref().map_or(self.root.as_path(), Path::new).join(&folder.path)
    }

    fn path(&self, folder: &Folder, name: &FileName) -> PathBuf {
        self.folder(folder).join(name.to_string())
    }

    /// Why a client's own destination is not accepted, before anything is written there.
    fn refusal(&self, own: &Path) -> io::Result<Option<&'static str>> {
        if !own.is_absolute() || own.components().any(|part| part == Component::ParentDir) {
            return Ok(Some("write an absolute path without `..`"));
        }
        let Some(lake) = &self.lake else { return Ok(None) };
        let (own, lake) = (resolved(own)?, resolved(lake)?);
        // A container may be named as the lake's folder is.
        let meet = own.starts_with(&lake) || lake.starts_with(&own);
        Ok(meet.then_some("it and the lake must not lie within each other; name another directory"))
    }
}

/// The path without links, as far as it exists.
fn resolved(path: &Path) -> io::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    for known in path.ancestors() {
        match known.canonicalize() {
            Ok(real) => return Ok(path.strip_prefix(known).map_or_else(|_| real.clone(), |rest| real.join(rest))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(path)
}

/// Creates a directory if it is not there, and sees whether files can be written in it.
fn probe(root: &Path) -> io::Result<()> {
    create_private_folder(root)?;
    // Of a name of its own: others may be looking at the same moment.
    tempfile::Builder::new().prefix(".headrace-probe-").tempfile_in(root)?.close()
}

fn not_applied(cause: impl Into<headrace_core::vocab::error::BoxError>) -> StoreError {
    StoreError::NotApplied { what: WHAT, cause: cause.into() }
}

/// Runs file work where it may block.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, StoreError> + Send + 'static) -> Result<T, StoreError> {
    spawn_blocking(work).await.map_err(not_applied)?
}

/// A file's state is known by the digest of its bytes.
fn read_configuration(path: &Path) -> io::Result<Configuration> {
    let file = match File::open(path) {
        Ok(file) if file.metadata()?.is_file() => file,
        Ok(_) => return Ok(Configuration::Absent),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(Configuration::Absent),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(anonymization::LIMIT_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > anonymization::LIMIT_BYTES {
        return Ok(Configuration::TooLong);
    }
    let etag = hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &bytes));
    Ok(Configuration::Found(bytes.into(), format!("\"{etag}\"")))
}

fn create_file(path: &Path) -> io::Result<File> {
    private_file_options().create(true).truncate(true).open(path)
}

/// Gives a file a second name; never takes the name from another file.
fn name_anew(from: &Path, to: &Path, content: Content) -> Result<(), StoreError> {
    if let Some(folder) = to.parent() {
        create_private_folder(folder).map_err(not_applied)?;
    }
    match fs::hard_link(from, to) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => has_content(to, content),
        // An earlier attempt has done it and swept.
        Err(error) if error.kind() == io::ErrorKind::NotFound && to.exists() => has_content(to, content),
        // A file system without second names.
        Err(_) if !to.exists() => fs::copy(from, to).map(drop).map_err(not_applied),
        Err(error) => Err(not_applied(error)),
    }
}

/// Whether the file there holds these very bytes.
fn has_content(path: &Path, content: Content) -> Result<(), StoreError> {
    let mut file = File::open(path).map_err(not_applied)?;
    let mut crc = Digest::new(CrcAlgorithm::Crc64Nvme);
    let mut buffer = vec![0; COMPARE_BYTES];
    let mut bytes = 0;
    loop {
        let count = file.read(&mut buffer).map_err(not_applied)?;
        let Some(read) = buffer.get(..count).filter(|read| !read.is_empty()) else { break };
        crc.update(read);
        bytes += count as u64;
    }
    if bytes == content.bytes && crc.finalize() == content.crc64 { Ok(()) } else { Err(StoreError::Stale) }
}

/// A file being written, under a name that no manifest knows. Deleted if it is dropped unsettled.
#[derive(Debug)]
pub struct DirectoryFileWriter {
    store: DirectoryOutputStore,
    folder: Folder,
    path: PathBuf,
    file: Option<File>,
    gathered: Vec<u8>,
    is_settled: bool,
}

impl DirectoryFileWriter {
    /// Writes what was gathered, and `more` behind it.
    fn flush(&mut self, more: &[u8]) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                self.path.parent().map_or(Ok(()), create_private_folder)?;
                none.insert(create_file(&self.path)?)
            }
        };
        file.write_all(&self.gathered)?;
        self.gathered.clear();
        file.write_all(more)
    }
}

impl Draft for DirectoryFileWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        if self.gathered.len() + bytes.len() < GATHER_BYTES {
            self.gathered.extend_from_slice(&bytes);
            return Ok(());
        }
        in_place(|| self.flush(&bytes)).map_err(not_applied)
    }

    async fn settle(mut self, name: FileName, content: Content) -> Result<(), StoreError> {
        in_place(|| {
            self.flush(&[]).map_err(not_applied)?;
            self.file = None;
            let (from, to) = (&self.path, self.store.path(&self.folder, &name));
            match name {
                FileName::Part(_) => {
                    name_anew(from, &to, content)?;
                    fs::remove_file(from).map_err(not_applied)
                }
                // No other attempt has its name; or what lies there is to be replaced.
                FileName::Tail(_) | FileName::Anew(_) => fs::rename(from, &to).map_err(not_applied),
            }
        })?;
        self.is_settled = true;
        Ok(())
    }
}

impl Drop for DirectoryFileWriter {
    fn drop(&mut self) {
        if !self.is_settled && self.path.exists() {
            // What stays behind here is swept with the job.
            drop(fs::remove_file(&self.path));
        }
    }
}

impl OutputStore for DirectoryOutputStore {
    type Draft = DirectoryFileWriter;

    async fn check(&self, own: Option<&str>) -> Result<(), StoreError> {
        let (setting, path) = match own {
            None => ("--state", self.root.clone()),
            Some(own) => (OWN, PathBuf::from(own)),
        };
        let refused = |problem: &str| format!("{setting}: `{}`: {problem}", path.display());
        let store = self.clone();
        let (root, is_own) = (path.clone(), own.is_some());
        let seen = spawn_blocking(move || {
            let refusal = if is_own { store.refusal(&root)? } else { None };
            if refusal.is_none() {
                probe(&root)?;
            }
            io::Result::Ok(refusal)
        });
        match seen.await.map_err(not_applied)? {
            Ok(None) => Ok(()),
            Ok(Some(problem)) => Err(StoreError::Misconfigured { remedy: refused(problem), cause: "nothing was written".into() }),
            Err(error) => {
                let remedy = format!("{setting}: `{}` cannot be written to; name a directory that can", path.display());
                Err(StoreError::Misconfigured { remedy, cause: error.into() })
            }
        }
    }

    async fn configuration(&self, own: Option<&str>, name: &ConfigName, etag: Option<&str>) -> Result<Configuration, StoreError> {
        let root = own.map_or(self.root.as_path(), Path::new);
        let path = root.join(anonymization::FOLDER).join(name.as_str());
        let found = blocking(move || read_configuration(&path).map_err(not_applied)).await?;
        Ok(match found {
            Configuration::Found(_, is) if etag.is_some_and(|etag| etag != is) => Configuration::Changed,
            found @ (Configuration::Found(..) | Configuration::Absent | Configuration::Changed | Configuration::TooLong) => found,
        })
    }

    async fn draft(&self, folder: &Folder, tail: FragmentName) -> Result<DirectoryFileWriter, StoreError> {
        if let Some(key) = &folder.key {
            // Nobody offers keys here; what was to be encrypted must not lie in the clear.
            let remedy = format!("the files are to be encrypted under the key `{}`, and directories encrypt nothing", key.name);
            return Err(StoreError::Misconfigured { remedy, cause: "nothing was written".into() });
        }
        let path = self.path(folder, &FileName::Tail(tail)).with_extension("draft");
        Ok(DirectoryFileWriter { store: self.clone(), folder: folder.clone(), path, file: None, gathered: Vec::new(), is_settled: false })
    }

    async fn adopt(&self, folder: &Folder, tail: &Tail, part: OutputFileName) -> Result<(), StoreError> {
        let (from, to) = (self.path(folder, &FileName::Tail(tail.name)), self.path(folder, &FileName::Part(part)));
        let content = tail.content;
        blocking(move || name_anew(&from, &to, content)).await
    }

    fn read(&self, folder: &Folder, tail: &FragmentName, range: Range<u64>) -> ByteStream {
        read_file(
            self.path(folder, &FileName::Tail(*tail)),
            range,
            |_| true,
            SourceError::Unavailable(format!("the tail {tail} is not there").into()),
        )
    }

    async fn grant(&self, folder: &Folder, part: &Part) -> Result<Access, StoreError> {
        let path = self.path(folder, &FileName::Part(part.name));
        let (name, bytes) = (part.name, part.content.bytes);
        blocking(move || match fs::metadata(&path) {
            Ok(metadata) if metadata.len() == bytes => Ok(Access::Local(path)),
            // A power failure can take what was not yet on the disk.
            Ok(_) => {
                Err(StoreError::Unreadable { what: WHAT, detail: format!("{name} is not as long as it was recorded; start a new export") })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(StoreError::Unreadable { what: WHAT, detail: format!("{name} is gone; start a new export") })
            }
            Err(error) => Err(not_applied(error)),
        })
        .await
    }

    async fn sweep(&self, folder: &Folder, keep: &BTreeSet<OutputFileName>) -> Result<u64, StoreError> {
        let (root, keep) = (self.folder(folder), keep.clone());
        blocking(move || {
            let mut deleted = 0;
            for entry in WalkDir::new(&root).contents_first(true) {
                let entry = match entry {
                    Ok(entry) => entry,
                    Err(error) if error.io_error().is_some_and(|error| error.kind() == io::ErrorKind::NotFound) => continue,
                    Err(error) => return Err(not_applied(error)),
                };
                let is_folder = entry.file_type().is_dir();
                let below = entry.path().strip_prefix(&root).ok().and_then(Path::to_str);
                let is_kept = below.and_then(OutputFileName::parse).is_some_and(|name| keep.contains(&name));
                let removed = match (is_folder, is_kept) {
                    (true, _) => fs::remove_dir(entry.path()),
                    (false, true) => continue,
                    (false, false) => fs::remove_file(entry.path()),
                };
                match removed {
                    Ok(()) => deleted += u64::from(!is_folder),
                    // Folders stay while something kept is in them.
                    Err(error) if error.kind() == io::ErrorKind::NotFound || is_folder => {}
                    Err(error) => return Err(not_applied(error)),
                }
            }
            Ok(deleted)
        })
        .await
    }
}
