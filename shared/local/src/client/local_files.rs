//! Files of a server in this process. They are checked like downloaded ones, and then linked into the output directory, so that an
//! export of a directory needs the space of its files once, and no time to copy them.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crc_fast::{CrcAlgorithm, Digest};
use files::handler::LocalFile;
use headrace_core::job::file::FileSummary;
use reqwest::Url;

use crate::client::counter::{FileCount, ResourceCounter};
use crate::client::download::{DownloadedFile, content_problem};
use crate::client::error::ClientError;
use crate::client::file_names::{FileList, NamedFile};
use crate::client::folder::ExportFolder;
use crate::server::service::Service;
use crate::stores::regular_file::open_regular_file;

/// Size of one read of a file that is checked, in bytes. The bytes stay in the cache of a core.
const CHUNK_BYTES: usize = 256 << 10;

/// The files of a server in this process.
#[derive(Clone)]
pub(crate) struct LocalFiles {
    service: Arc<Service>,
    /// Beginning of the URLs of its files.
    url_prefix: String,
}

/// A file of the server that its client may read.
pub(crate) struct FinishedFile {
    path: PathBuf,
    summary: FileSummary,
}

impl LocalFiles {
    /// Creates the files of a server with this base URL.
    pub(crate) fn new(service: Arc<Service>, base: &str) -> Self {
        Self { service, url_prefix: format!("{base}/_operations/files/") }
    }

    /// Requests a file from the server. Returns `None` if the server does not grant it: a download then gives the reason.
    pub(crate) async fn request(&self, file: &NamedFile, url: &Url) -> Option<FinishedFile> {
        // A checksum of the manifest is of another kind than the recorded one, and compared by a download.
        let path = url.as_str().strip_prefix(self.url_prefix.as_str()).filter(|_| file.file.checksum.is_none())?;
        let (job, name) = path.split_once('/')?;
        let LocalFile { path, summary } = self.service.finished_file(job, name).await?;
        Some(FinishedFile { path, summary })
    }
}

impl FinishedFile {
    /// Checks the content of the file by the manifest and by the server's record, and links the file into the output directory.
    pub(crate) async fn take(&self, file: &NamedFile, folder: &ExportFolder) -> Result<DownloadedFile, ClientError> {
        let problem = |problem: String| ClientError::File { file: file.name.clone(), problem };
        let path = self.path.clone();
        let read = tokio::task::spawn_blocking(move || Content::read(&path)).await.map_err(io::Error::other).flatten();
        let content = read.map_err(|cause| problem(format!("it cannot be read: {cause}")))?;
        if let Some(found) = content_problem(file, &content.count, content.bytes, None, None) {
            return Err(problem(found));
        }
        if (content.bytes, content.crc64) != (self.summary.bytes, self.summary.crc64) {
            return Err(problem("it does not have its recorded size and checksum; start a new export".to_owned()));
        }
        let partial = folder.partial_path(&file.name);
        link_or_move(&self.path, &partial).map_err(|cause| ClientError::Write { path: partial.clone(), cause })?;
        let path = folder.accept(&partial, &file.name).map_err(|(path, cause)| ClientError::Write { path, cause })?;
        Ok(DownloadedFile {
            name: file.name.clone(),
            resource_type: file.file.resource_type.clone(),
            path,
            bytes: content.bytes,
            lines: content.count.resources(file.file.count),
            is_error: file.list == FileList::Error,
        })
    }
}

/// The content of a file, as far as it is checked.
struct Content {
    bytes: u64,
    crc64: u64,
    count: FileCount,
}

impl Content {
    /// Reads a file.
    fn read(path: &Path) -> io::Result<Self> {
        let mut file = open_regular_file(path)?;
        let (mut bytes, mut counter, mut crc) = (0, ResourceCounter::default(), Digest::new(CrcAlgorithm::Crc64Nvme));
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            let count = file.read(&mut buffer)?;
            let Some(chunk) = buffer.get(..count).filter(|chunk| !chunk.is_empty()) else { break };
            bytes += chunk.len() as u64;
            counter.push(chunk);
            crc.update(chunk);
        }
        Ok(Self { bytes, crc64: crc.finalize(), count: counter.finish() })
    }
}

/// Gives a file another name. The server deletes the first one afterwards, so where the file system has no links, the file is moved.
fn link_or_move(from: &Path, to: &Path) -> io::Result<()> {
    match fs::remove_file(to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    fs::hard_link(from, to).or_else(|_| fs::rename(from, to)).or_else(|_| fs::copy(from, to).map(drop))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_linked_over_what_an_earlier_export_has_left() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::write(&from, "new").unwrap();
        fs::write(&to, "left").unwrap();
        link_or_move(&from, &to).unwrap();
        assert_eq!(fs::read_to_string(&to).unwrap(), "new");
        #[cfg(unix)]
        assert_eq!(std::os::unix::fs::MetadataExt::nlink(&fs::metadata(&to).unwrap()), 2);
    }
}
