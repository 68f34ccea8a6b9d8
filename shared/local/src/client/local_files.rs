//! Files of a server in this process. They are checked like downloaded ones, and then linked into the output directory, so that an
//! export of a directory needs the space of its files once, and no time to copy them.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use files::handler::LocalFile;
use headrace_core::job::file::FileSummary;
use headrace_core::output::content::ContentDigest;
use reqwest::Url;

use crate::client::download::DownloadedFile;
use crate::client::error::ClientError;
use crate::client::file_names::NamedFile;
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
        // The manifest's checksum has another algorithm than the recorded one. A download compares it.
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
        let read = tokio::task::spawn_blocking(move || read_summary(&path)).await.map_err(io::Error::other).flatten();
        let found = read.map_err(|cause| problem(format!("it cannot be read: {cause}")))?;
        if (found.bytes, found.crc64) != (self.summary.bytes, self.summary.crc64) {
            return Err(problem("it does not have its recorded size and checksum; start a new export".to_owned()));
        }
        // A file of one type has a resource on each line. Others also have header lines, which the record does not count.
        let lines = if file.file.resource_type.is_some() { found.lines } else { self.summary.lines };
        if let Some(expected) = file.file.count.filter(|expected| *expected != lines) {
            return Err(problem(format!("it has {lines} resources, but the manifest counts {expected}")));
        }
        let partial = folder.partial_path(&file.name);
        link_or_move(&self.path, &partial).map_err(|cause| ClientError::Write { path: partial.clone(), cause })?;
        let path = folder.accept(&partial, &file.name).map_err(|(path, cause)| ClientError::Write { path, cause })?;
        Ok(DownloadedFile {
            name: file.name.clone(),
            resource_type: file.file.resource_type.clone(),
            path,
            bytes: found.bytes,
            lines,
            list: file.list,
        })
    }
}

/// Reads a file and returns its size, its number of lines and its checksum.
fn read_summary(path: &Path) -> io::Result<FileSummary> {
    let mut file = open_regular_file(path)?;
    let (mut content, mut buffer) = (ContentDigest::default(), vec![0; CHUNK_BYTES]);
    loop {
        let count = file.read(&mut buffer)?;
        match buffer.get(..count) {
            Some(chunk) if !chunk.is_empty() => content.add_and_count(chunk),
            Some(_) | None => return Ok(content.summary()),
        }
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
