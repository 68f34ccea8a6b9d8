//! Files of a server in this process. They are linked into the output directory, so that an export of a directory needs the space of its
//! files once, and no time to copy them. The server checks their size and checksum before it grants them, by what it has written if they
//! have not changed since.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use files::handler::LocalFile;
use headrace_core::job::file::FileSummary;
use reqwest::Url;

use crate::client::download::DownloadedFile;
use crate::client::error::ClientError;
use crate::client::file_names::NamedFile;
use crate::client::folder::ExportFolder;
use crate::server::service::Service;

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
        let (service, job, name) = (self.service.clone(), job.to_owned(), name.to_owned());
        // On any thread: all files of an export are requested at once.
        let requested = tokio::spawn(async move { service.finished_file(&job, &name).await });
        let LocalFile { path, summary } = requested.await.ok()??;
        Some(FinishedFile { path, summary })
    }

    /// Waits until the server has ended a task, and with the last one perhaps the export.
    pub(crate) async fn wait_for_task_end(&self) {
        self.service.wait_for_task_end().await;
    }
}

impl FinishedFile {
    /// Compares the count of the file with the manifest, and links the file into the output directory.
    pub(crate) fn take(&self, file: &NamedFile, folder: &ExportFolder) -> Result<DownloadedFile, ClientError> {
        let FileSummary { bytes, lines, .. } = self.summary;
        if let Some(expected) = file.file.count.filter(|expected| *expected != lines) {
            let problem = format!("it has {lines} resources, but the manifest counts {expected}");
            return Err(ClientError::File { file: file.name.clone(), problem });
        }
        let partial = folder.partial_path(&file.name);
        link_or_move(&self.path, &partial).map_err(|cause| ClientError::Write { path: partial.clone(), cause })?;
        let path = folder.accept(&partial, &file.name).map_err(|(path, cause)| ClientError::Write { path, cause })?;
        Ok(DownloadedFile { name: file.name.clone(), resource_type: file.file.resource_type.clone(), path, bytes, lines, list: file.list })
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
