//! Output files in a directory. Files and folders are accessible by their owner only, because they contain patient data.

use std::fmt;
use std::fs;
use std::io::{self, Read as _};
use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use headrace_core::job::file::{FileName, FileSummary, Fragment, FragmentName, OutputFile, OutputFileName};
use headrace_core::job::file_names::FileNames;
use headrace_core::job::folder::Folder;
use headrace_core::metering::count;
use headrace_core::output::content::ContentDigest;
use headrace_core::ports::{ByteStream, ConfigLookup, FileAccess, FileRequest, OutputStore};
use headrace_core::request::{ANONYMIZATION_FOLDER, ConfigName, MAX_CONFIG_BYTES};
use headrace_core::vocab::error::{SourceError, StoreError};
use tokio::task::spawn_blocking;
use walkdir::WalkDir;

use crate::stores::io_fault::{IoFault, not_applied, store_error};
use crate::stores::private::{create_private_folder, restrict_file};
use crate::stores::regular_file::{is_not_regular, open_regular_file};

use super::blocking_call::BlockingCall;
use super::file_writer::DirectoryFileWriter;
use super::keys_files::{read_keys, unusable_keys_files};
use super::lake::read_file;
use super::overlap::overlaps_lake;
use super::verified_files::VerifiedFiles;

/// Name of the store in errors.
const WHAT: &str = "the destination";

/// Name of the setting of a client's own destination.
const CLIENT_DESTINATION_SETTING: &str = "`destination` in the client's registration";

/// Size of one read when contents are compared, in bytes.
const COMPARE_CHUNK_BYTES: usize = 1 << 20;

/// An output store in a directory.
#[derive(Clone, Debug)]
pub struct DirectoryOutputStore {
    root: PathBuf,
    /// The path of the root in errors.
    shown_root: PathBuf,
    lake: Option<PathBuf>,
    verified: VerifiedFiles,
    /// True if a file that this process has written is not read again before its first download, unless it has changed since.
    trusts_own_files: bool,
    given_configuration: Option<GivenConfiguration>,
}

/// An anonymization configuration that is in memory only, with its keys.
#[derive(Clone)]
pub struct GivenConfiguration {
    /// The name that requests use for it.
    pub name: ConfigName,
    /// The content of the configuration.
    pub text: Bytes,
    /// The content of its keys file, if it has one.
    pub keys: Option<Bytes>,
}

impl fmt::Debug for GivenConfiguration {
    /// Formats the name only: the configuration can contain keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GivenConfiguration").field("name", &self.name).finish_non_exhaustive()
    }
}

impl DirectoryOutputStore {
    /// Creates a store in the directory `root`. The directory is created with the first file.
    pub fn open(root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        Self {
            shown_root: root.clone(),
            root,
            lake: None,
            verified: VerifiedFiles::default(),
            trusts_own_files: false,
            given_configuration: None,
        }
    }

    /// Names the directory by another path in errors: one that the user knows.
    #[must_use]
    pub fn shown_as(self, path: impl Into<PathBuf>) -> Self {
        Self { shown_root: path.into(), ..self }
    }

    /// Rejects client destinations that overlap this lake, because files there would be read as part of it.
    #[must_use]
    pub fn separate_from_lake(self, lake: impl Into<PathBuf>) -> Self {
        Self { lake: Some(lake.into()), ..self }
    }

    /// Adds an anonymization configuration that is not in the directory. Neither it nor its keys are ever written there.
    #[must_use]
    pub fn with_configuration(self, configuration: Option<GivenConfiguration>) -> Self {
        Self { given_configuration: configuration, ..self }
    }

    /// Logs an error for each keys file that no export can use, so that the operator learns it at the start and not from a client.
    pub(crate) async fn report_unusable_keys(&self) -> Result<(), StoreError> {
        let folder = self.root.join(ANONYMIZATION_FOLDER);
        for error in blocking(move || Ok(unusable_keys_files(&folder))).await? {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "a keys file cannot be used: exports with its anonymization configuration will fail"
            );
        }
        Ok(())
    }

    /// Gives access to files that this process has written without reading them before, unless they have changed since. A server that runs
    /// for long reads them, because a disk can lose bits until a file is requested.
    #[must_use]
    pub fn trusts_own_files(self) -> Self {
        Self { trusts_own_files: true, ..self }
    }

    /// Remembers that this process has written a file.
    pub(super) fn add_own_file(&self, path: &Path, summary: FileSummary) {
        if self.trusts_own_files {
            self.verified.add(path, summary);
        }
    }

    /// Remembers that another name of a file belongs to the content that this process has written.
    fn add_own_link(&self, from: &Path, to: &Path, summary: FileSummary) {
        if self.trusts_own_files && self.verified.is_verified(from).unwrap_or(false) {
            self.verified.add(to, summary);
        }
    }

    /// Returns the directory of a job.
    fn job_dir(&self, folder: &Folder) -> PathBuf {
        folder.destination.as_ref().map_or(self.root.as_path(), Path::new).join(&folder.path)
    }

    /// Returns a function that converts errors of the file system in a job's folder. They name the destination.
    pub(super) fn error_at(&self, folder: &Folder) -> impl Fn(io::Error) -> StoreError + Clone + Send + use<> {
        let place = folder.destination.as_ref().map_or_else(|| self.shown_root.clone(), PathBuf::from);
        move |error| store_error(WHAT, &place, error)
    }

    /// Returns the path of a file of a job.
    pub(super) fn path(&self, folder: &Folder, name: &FileName) -> PathBuf {
        self.job_dir(folder).join(name.to_string())
    }

    /// Returns the reason why a client's own destination is not allowed, if there is one. Writes nothing.
    fn destination_problem(&self, destination: &Path) -> io::Result<Option<&'static str>> {
        if !destination.is_absolute() || destination.components().any(|component| component == Component::ParentDir) {
            return Ok(Some("it must be an absolute path without `..`"));
        }
        let Some(lake) = &self.lake else { return Ok(None) };
        // Both directions overlap: a container in the destination may have the name of the lake's folder.
        Ok(overlaps_lake(destination, lake)?.then_some("it must not contain the lake or be in it; choose another directory"))
    }
}

/// Checks that files can be written in a directory. Creates it if it does not exist.
fn check_writable(root: &Path) -> io::Result<()> {
    create_private_folder(root)?;
    // Random name: another process may run the same check.
    tempfile::Builder::new().prefix(".headrace-probe-").tempfile_in(root)?.close()
}

/// Runs a blocking file operation on a thread for blocking work.
pub(super) async fn blocking<T: Send + 'static>(
    operation: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    spawn_blocking(operation).await.map_err(|stopped| not_applied(WHAT, stopped))?
}

/// Reads an anonymization configuration. Its ETag is the SHA-256 digest of its content.
fn read_configuration(path: &Path) -> io::Result<ConfigLookup> {
    let file = match open_regular_file(path) {
        Ok(file) => file,
        Err(error) if is_not_regular(&error) => return Ok(ConfigLookup::Absent),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(ConfigLookup::Absent),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(MAX_CONFIG_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_CONFIG_BYTES {
        return Ok(ConfigLookup::TooLong);
    }
    Ok(found_configuration(bytes.into()))
}

/// Returns a configuration with its entity tag, the digest of its content.
fn found_configuration(text: Bytes) -> ConfigLookup {
    let etag = hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &text));
    ConfigLookup::Found(text, format!("\"{etag}\""))
}

/// Creates a hard link to a file. If the name exists, its file must have the same content; it is never replaced.
pub(super) fn link_file(from: &Path, to: &Path, summary: FileSummary) -> io::Result<Linked> {
    if let Some(folder) = to.parent() {
        create_private_folder(folder)?;
    }
    match fs::hard_link(from, to) {
        Ok(()) => Ok(Linked::Done),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => require_content(to, summary),
        // An earlier attempt created the link and removed the first name.
        Err(error) if error.kind() == io::ErrorKind::NotFound && to.exists() => require_content(to, summary),
        // The file system does not support hard links. A copy needs more space, so it is not tried on a full one.
        Err(error) if !to.exists() && IoFault::from_error(&error) != IoFault::OutOfSpace => {
            fs::copy(from, to).and_then(|_| restrict_file(to)).map(|()| Linked::Done).inspect_err(|_| drop(fs::remove_file(to)))
        }
        Err(error) => Err(error),
    }
}

/// Gives a file a second name, and replaces the file that has the name. The name belongs to either file at any time.
fn replace_by_link(from: &Path, to: &Path, summary: FileSummary) -> io::Result<()> {
    let link = to.with_extension("partial");
    if let Err(error) = fs::remove_file(&link)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    link_file(from, &link, summary)?;
    fs::rename(&link, to)
}

/// The result of [`link_file`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Linked {
    /// The file has the name.
    Done,
    /// The name belongs to a file with other content.
    OtherContent,
}

impl Linked {
    /// Returns [`StoreError::Stale`] unless the file has the name.
    pub(super) fn or_stale(self) -> Result<(), StoreError> {
        match self {
            Self::Done => Ok(()),
            Self::OtherContent => Err(StoreError::Stale),
        }
    }
}

/// Returns [`Linked::OtherContent`] unless a file has exactly this content.
fn require_content(path: &Path, summary: FileSummary) -> io::Result<Linked> {
    Ok(if has_content(path, summary)? { Linked::Done } else { Linked::OtherContent })
}

/// Returns true if a file has exactly this content, by size and checksum.
pub(super) fn has_content(path: &Path, summary: FileSummary) -> io::Result<bool> {
    let mut file = open_regular_file(path)?;
    if file.metadata()?.len() != summary.bytes {
        return Ok(false);
    }
    let mut content = ContentDigest::default();
    let mut buffer = vec![0; COMPARE_CHUNK_BYTES];
    loop {
        let count = file.read(&mut buffer)?;
        let Some(read) = buffer.get(..count).filter(|read| !read.is_empty()) else { break };
        content.add(read, 0);
    }
    Ok(content.bytes() == summary.bytes && content.summary().crc64 == summary.crc64)
}

impl OutputStore for DirectoryOutputStore {
    type Writer = DirectoryFileWriter;

    const BUFFERS_OPEN_FILES: bool = false;
    const COPIES_TO_PROMOTE: bool = false;

    async fn check(&self, destination: Option<&str>) -> Result<(), StoreError> {
        let (setting, path) = match destination {
            None => ("--state", self.root.clone()),
            Some(destination) => (CLIENT_DESTINATION_SETTING, PathBuf::from(destination)),
        };
        let remedy_for = |problem: &str| format!("{setting}: `{}`: {problem}", path.display());
        let store = self.clone();
        let (root, is_client_destination) = (path.clone(), destination.is_some());
        let check = spawn_blocking(move || {
            let problem = if is_client_destination { store.destination_problem(&root)? } else { None };
            if problem.is_none() {
                check_writable(&root)?;
            }
            io::Result::Ok(problem)
        });
        match check.await.map_err(|stopped| not_applied(WHAT, stopped))? {
            Ok(None) => Ok(()),
            Ok(Some(problem)) => Err(StoreError::Misconfigured { remedy: remedy_for(problem), cause: "nothing was written".into() }),
            // Jobs may end and be deleted on a full disk, so it is no reason not to start.
            Err(error) if IoFault::from_error(&error) == IoFault::OutOfSpace && destination.is_none() => {
                tracing::warn!(path = ?self.shown_root, "no space is left in the destination: exports fail until space is freed");
                Ok(())
            }
            Err(error) if IoFault::from_error(&error) == IoFault::OutOfSpace => Err(store_error(WHAT, &path, error)),
            Err(error) => {
                let remedy = format!("{setting}: `{}` is not writable; choose a writable directory", path.display());
                Err(StoreError::Misconfigured { remedy, cause: error.into() })
            }
        }
    }

    async fn anonymization_config(
        &self,
        destination: Option<&str>,
        name: &ConfigName,
        etag: Option<&str>,
    ) -> Result<ConfigLookup, StoreError> {
        let given = self.given_configuration.as_ref().filter(|given| destination.is_none() && given.name == *name);
        let found = match given {
            Some(given) => found_configuration(given.text.clone()),
            None => {
                let root = destination.map_or(self.root.as_path(), Path::new);
                let path = root.join(ANONYMIZATION_FOLDER).join(name.as_str());
                blocking(move || read_configuration(&path).map_err(|error| store_error(WHAT, &path, error))).await?
            }
        };
        Ok(match found {
            ConfigLookup::Found(_, current) if etag.is_some_and(|etag| etag != current) => ConfigLookup::Changed,
            found @ (ConfigLookup::Found(..) | ConfigLookup::Absent | ConfigLookup::Changed | ConfigLookup::TooLong) => found,
        })
    }

    async fn anonymization_keys(&self, destination: Option<&str>, name: &ConfigName) -> Result<Option<Bytes>, StoreError> {
        if let Some(given) = self.given_configuration.as_ref().filter(|given| destination.is_none() && given.name == *name) {
            return Ok(given.keys.clone());
        }
        let root = destination.map_or(self.root.as_path(), Path::new);
        let path = root.join(ANONYMIZATION_FOLDER).join(name.keys_file());
        blocking(move || read_keys(&path)).await
    }

    async fn new_fragment(&self, folder: &Folder, fragment: FragmentName) -> Result<DirectoryFileWriter, StoreError> {
        if let Some(key) = &folder.encryption_key {
            // The configuration of one machine offers no keys. If one arrives all the same, writing plain text would be wrong.
            let remedy = format!("the files must be encrypted with the key `{}`, but files in directories are not encrypted", key.name);
            return Err(StoreError::Misconfigured { remedy, cause: "nothing was written".into() });
        }
        let path = self.path(folder, &FileName::Fragment(fragment)).with_extension("partial");
        Ok(DirectoryFileWriter::new(self.clone(), folder.clone(), path))
    }

    async fn promote(&self, folder: &Folder, fragment: &Fragment, name: OutputFileName) -> Result<(), StoreError> {
        let (from, to) = (self.path(folder, &FileName::Fragment(fragment.name)), self.path(folder, &FileName::Output(name)));
        let (store, summary, failed) = (self.clone(), fragment.summary, self.error_at(folder));
        count(|usage| usage.copies += 1);
        blocking(move || {
            link_file(&from, &to, summary).map_err(failed)?.or_stale()?;
            store.add_own_link(&from, &to, summary);
            Ok(())
        })
        .await
    }

    async fn renumber(&self, folder: &Folder, file: &OutputFile, number: u32) -> Result<(), StoreError> {
        let renumbered = OutputFileName { number, ..file.name };
        let (from, to) = (self.path(folder, &FileName::Output(file.name)), self.path(folder, &FileName::Output(renumbered)));
        let (store, summary, failed) = (self.clone(), file.summary, self.error_at(folder));
        count(|usage| usage.copies += 1);
        blocking(move || {
            replace_by_link(&from, &to, summary).map_err(failed)?;
            store.add_own_link(&from, &to, summary);
            Ok(())
        })
        .await
    }

    fn read(&self, folder: &Folder, fragment: &FragmentName, range: Range<u64>) -> ByteStream {
        let path = self.path(folder, &FileName::Fragment(*fragment));
        let call = BlockingCall::Output(Arc::new(path.clone()));
        let missing = SourceError::Unavailable(format!("the fragment {fragment} does not exist").into());
        read_file((path, call), range, |_| true, missing)
    }

    async fn file_access(&self, folder: &Folder, output_file: &OutputFile, _: FileRequest) -> Result<FileAccess, StoreError> {
        let path = self.path(folder, &FileName::Output(output_file.name));
        let unreadable =
            |detail: &str| StoreError::Unreadable { store: WHAT, detail: format!("{} {detail}; start a new export", output_file.name) };
        match self.verified.has_content(path.clone(), output_file.summary).await {
            Ok(true) => Ok(FileAccess::Local(path)),
            // Files are not synced, so a power failure can truncate them. A disk can also lose bits.
            Ok(false) => Err(unreadable("does not have its recorded size and checksum")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(unreadable("does not exist any more")),
            Err(error) => Err(self.error_at(folder)(error)),
        }
    }

    async fn delete_all_except(&self, folder: &Folder, keep: &FileNames) -> Result<u64, StoreError> {
        let (root, keep, failed) = (self.job_dir(folder), keep.clone(), self.error_at(folder));
        count(|usage| {
            usage.lists += 1;
            usage.deletes += 1;
        });
        blocking(move || {
            let mut deleted = 0;
            for entry in WalkDir::new(&root).contents_first(true) {
                let entry = match entry {
                    Ok(entry) => entry,
                    Err(error) if error.io_error().is_some_and(|error| error.kind() == io::ErrorKind::NotFound) => continue,
                    Err(error) => return Err(error.into_io_error().map_or_else(|| not_applied(WHAT, "the folder has a loop"), &failed)),
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
                    // A folder that still contains kept files cannot be removed.
                    Err(error) if error.kind() == io::ErrorKind::NotFound || is_folder => {}
                    Err(error) => return Err(failed(error)),
                }
            }
            Ok(deleted)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_file_is_refused_if_it_has_changed_after_this_process_has_written_it() {
        use headrace_core::job::file::OutputKind;
        use headrace_core::ports::FileWriter as _;

        let root = tempfile::tempdir().unwrap();
        let store = DirectoryOutputStore::open(root.path()).trusts_own_files();
        let folder = Folder { destination: None, path: "job".to_owned(), encryption_key: None };
        let content = Bytes::from_static(b"{}\n");
        let mut digest = ContentDigest::default();
        digest.add_and_count(&content);
        let (kind, summary) = (OutputKind::Error, digest.summary());
        let fragment = FragmentName { kind, task: 2, attempt: 1, fencing_token: 1 };
        let mut files = Vec::new();
        for number in 1..=2 {
            let mut writer = store.new_fragment(&folder, fragment).await.unwrap();
            writer.write(content.clone()).await.unwrap();
            let name = OutputFileName { kind, number };
            if number == 1 {
                writer.commit(FileName::Output(name), summary).await.unwrap();
            } else {
                writer.commit(FileName::Fragment(fragment), summary).await.unwrap();
                store.promote(&folder, &Fragment { name: fragment, summary }, name).await.unwrap();
            }
            files.push(OutputFile { name, summary });
        }
        for file in &files {
            let path = store.path(&folder, &FileName::Output(file.name));
            assert_eq!(store.file_access(&folder, file, FileRequest::Content).await.unwrap(), FileAccess::Local(path.clone()));
            // Of the same size.
            fs::write(&path, "[]\n").unwrap();
            fs::File::options().write(true).open(&path).unwrap().set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
            let refused = store.file_access(&folder, file, FileRequest::Content).await.unwrap_err();
            assert!(refused.to_string().contains("start a new export"), "{refused}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn keys_that_cannot_be_read_are_not_taken_for_absent() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::os::unix::fs::symlink("nowhere", path("link")).unwrap();
        fs::create_dir(path("folder")).unwrap();
        for name in ["link", "folder"] {
            assert!(matches!(read_keys(&path(name)), Err(StoreError::Misconfigured { .. })), "{name}");
        }
        assert!(read_keys(&path("none")).unwrap().is_none());
        assert!(read_keys(&path("none/keys")).unwrap().is_none());
    }
}
