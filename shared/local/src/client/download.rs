//! Downloads the files of a manifest, checks them, and puts them into the output directory.

use std::io;
use std::path::{Path, PathBuf};

use futures_util::stream;
use headrace_core::vocab::plural::counted;
use reqwest::Url;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio_util::io::StreamReader;

use crate::client::body::Coding;
use crate::client::checksum::Checksum;
use crate::client::counter::{FileCount, InvalidLines, ResourceCounter};
use crate::client::error::{ClientError, Failure, Persistence, TransportError};
use crate::client::file_names::{FileList, NamedFile};
use crate::client::folder::ExportFolder;
use crate::client::line_rule::LineRule;
use crate::client::local_files::LocalFiles;
use crate::client::session::Session;
use crate::client::timer::Timer;
use crate::client::transfer::{Transfer, TransferError};

/// Size of the buffer between the network and the file.
const BUFFER_BYTES: usize = 256 << 10;

/// Number of attempts to fetch a file whose content is not what the manifest says.
const CONTENT_ATTEMPTS: u32 = 2;

/// A downloaded file.
#[derive(Clone, Debug)]
pub struct DownloadedFile {
    /// Path relative to the output directory.
    pub name: String,
    /// Resource type of its lines; `None` if the lines have several types.
    pub resource_type: Option<String>,
    /// Local path.
    pub path: PathBuf,
    /// Size in bytes.
    pub bytes: u64,
    /// Number of resources.
    pub lines: u64,
    /// List of the manifest that contains the file.
    pub list: FileList,
}

/// One download of a file.
pub(crate) struct Download<'c, T, P> {
    pub(crate) session: &'c Session,
    pub(crate) timer: &'c T,
    pub(crate) folder: &'c ExportFolder,
    /// The `transactionTime` of the export.
    pub(crate) time: &'c str,
    pub(crate) may_have_token: bool,
    /// The files of the server, if it is in this process.
    pub(crate) local_files: Option<&'c LocalFiles>,
    /// Called with the number of bytes of each chunk.
    pub(crate) on_bytes: &'c P,
}

impl<T: Timer, P: Fn(u64) + Sync> Download<'_, T, P> {
    /// Downloads a file, from its beginning as often as needed. A file of a server in this process is linked instead.
    pub(crate) async fn run(&self, file: &NamedFile, url: Url) -> Result<DownloadedFile, TransferError> {
        if let Some(local_files) = self.local_files
            && let Some(finished) = local_files.request(file, &url).await
        {
            let taken = finished.take(file, self.folder).map_err(TransferError::Failed)?;
            (self.on_bytes)(taken.bytes);
            return Ok(taken);
        }
        let mut transfer = Transfer::new(self.session, self.timer, url, self.may_have_token);
        loop {
            match self.attempt(file, &mut transfer).await {
                Err(TransferError::StartAnew(failure)) => transfer.pause(failure).await?,
                Ok(done) => return Ok(done),
                Err(error) => return Err(error),
            }
        }
    }

    /// Downloads a file from its beginning, checks its content, and moves it to its place.
    async fn attempt(&self, file: &NamedFile, transfer: &mut Transfer<'_, T>) -> Result<DownloadedFile, TransferError> {
        let coding = transfer.begin().await?;
        let partial = self.folder.partial_path(&file.name);
        transfer.sent_checksum = file.file.checksum.as_ref().map(Checksum::context);
        let written = self.write(file, transfer, coding, &partial).await?;
        let sent_checksum = transfer.sent_checksum.take();
        let is_gzip = written.is_gzip;
        let rule = LineRule::from_list(file.list);
        let count =
            if is_gzip { count_gzip(&partial, rule).await.map_err(|error| self.unreadable(&partial, error))? } else { written.count };
        if let Some(problem) = content_problem(file, &count, written.bytes, written.checksum, sent_checksum) {
            let error = ClientError::File { file: file.name.clone(), problem };
            return Err(TransferError::StartAnew(Failure {
                error,
                persistence: Persistence::Doubtful { attempts: CONTENT_ATTEMPTS },
                retry_after: None,
            }));
        }
        if let Some(InvalidLines { count, first, reason }) = &count.invalid {
            let (name, lines) = (&file.name, counted(*count, "line is not a resource", "lines are not resources"));
            tracing::warn!("`{name}`: {lines}, which no lake would show; the first is line {first}: {reason}");
        }
        let name = if is_gzip { format!("{}.gz", file.name) } else { file.name.clone() };
        let path =
            self.folder.accept(&partial, &name).map_err(|(path, cause)| TransferError::Failed(ClientError::Write { path, cause }))?;
        Ok(DownloadedFile {
            name,
            resource_type: file.file.resource_type.clone(),
            path,
            bytes: written.bytes,
            lines: count.resources(file.file.count),
            list: file.list,
        })
    }

    /// Writes the decoded bytes of a transfer to the partial file.
    async fn write(
        &self,
        file: &NamedFile,
        transfer: &mut Transfer<'_, T>,
        coding: Coding,
        partial: &Path,
    ) -> Result<WrittenFile, TransferError> {
        let unwritable = |cause| TransferError::Failed(ClientError::Write { path: partial.to_owned(), cause });
        let output = self.folder.create_partial(partial).map_err(unwritable)?;
        let mut output = tokio::fs::File::from_std(output);
        let chunks = stream::try_unfold(&mut *transfer, |transfer| async move {
            let chunk = transfer.next_chunk().await.map_err(|error| io::Error::other(CarriedError(error)))?;
            Ok::<_, io::Error>(chunk.map(|chunk| (chunk, transfer)))
        });
        let mut body = coding.decode(StreamReader::new(Box::pin(chunks)));
        let counter = ResourceCounter::with_rule(LineRule::from_list(file.list));
        let checksum = file.file.checksum.as_ref().map(Checksum::context);
        let mut written = ContentReader { counter, checksum, ..ContentReader::default() };
        let mut buffer = vec![0; BUFFER_BYTES];
        let failure = loop {
            let bytes = match fill(&mut body, &mut buffer).await {
                Ok([]) => break None,
                Ok(bytes) => bytes,
                Err(error) => break Some(error),
            };
            written.push(bytes);
            if let Some(error) = self.excess(file, &written) {
                return Err(TransferError::Failed(error));
            }
            output.write_all(bytes).await.map_err(unwritable)?;
            (self.on_bytes)(bytes.len() as u64);
        };
        drop(body);
        if let Some(error) = failure {
            return Err(carried_error(error)
                .unwrap_or_else(|| TransferError::StartAnew(Failure::from(transfer.transport_error(TransportError::Encoding)))));
        }
        output.flush().await.map_err(unwritable)?;
        if self.folder.is_synced() {
            output.sync_all().await.map_err(unwritable)?;
        }
        Ok(written.finish())
    }

    /// Returns the error for a file that has more than the manifest says or than this client accepts.
    fn excess(&self, file: &NamedFile, written: &ContentReader) -> Option<ClientError> {
        let limit = self.session.limits.file_bytes;
        if written.bytes > limit {
            let limit = format!("{limit} bytes (--max-file-gb)");
            return Some(ClientError::TooMuch { what: format!("the file `{}`", file.name), limit });
        }
        let count = file.file.count.filter(|_| !written.is_gzip)?;
        let is_longer = written.counter.complete_resources() > count;
        let problem = format!("it has more than the {count} resources that the manifest counts");
        is_longer.then(|| ClientError::File { file: file.name.clone(), problem })
    }

    /// Returns the error for a partial file that cannot be read again.
    fn unreadable(&self, partial: &Path, cause: io::Error) -> TransferError {
        let is_damaged = [io::ErrorKind::UnexpectedEof, io::ErrorKind::InvalidData, io::ErrorKind::InvalidInput, io::ErrorKind::Other];
        if !is_damaged.contains(&cause.kind()) {
            return TransferError::Failed(ClientError::Write { path: partial.to_owned(), cause });
        }
        let file = partial.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let error = ClientError::File { file, problem: "the gzip file is damaged or ends early".to_owned() };
        let persistence = Persistence::Doubtful { attempts: CONTENT_ATTEMPTS };
        TransferError::StartAnew(Failure { error, persistence, retry_after: None })
    }
}

/// A transfer error on its way through a decoder.
#[derive(Debug)]
struct CarriedError(TransferError);

impl std::fmt::Display for CarriedError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the transfer failed")
    }
}

impl std::error::Error for CarriedError {}

/// Returns the transfer error that passed through a decoder, or `None` if the decoder itself failed.
fn carried_error(error: io::Error) -> Option<TransferError> {
    let inner = error.into_inner()?.downcast::<CarriedError>().ok()?;
    Some(inner.0)
}

/// Reads bytes into a buffer until it is full or the body ends. Returns no bytes at the end.
async fn fill<'b>(body: &mut (impl AsyncRead + Unpin), buffer: &'b mut [u8]) -> io::Result<&'b [u8]> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match body.read(rest).await? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(buffer.get(..filled).unwrap_or_default())
}

/// A reader of the decoded content of a file, used while the file is written.
#[derive(Default)]
struct ContentReader {
    bytes: u64,
    /// True if the content itself is a gzip file.
    is_gzip: bool,
    counter: ResourceCounter,
    checksum: Option<aws_lc_rs::digest::Context>,
}

/// The content of a file that was written.
struct WrittenFile {
    bytes: u64,
    is_gzip: bool,
    count: FileCount,
    checksum: Option<aws_lc_rs::digest::Context>,
}

impl ContentReader {
    /// Adds bytes of the content. The first ones are at least two, if the file has them.
    fn push(&mut self, bytes: &[u8]) {
        if self.bytes == 0 {
            self.is_gzip = bytes.starts_with(&[0x1f, 0x8b]);
        }
        self.bytes += bytes.len() as u64;
        if !self.is_gzip {
            self.counter.push(bytes);
        }
        if let Some(context) = &mut self.checksum {
            context.update(bytes);
        }
    }

    /// Ends the content.
    fn finish(self) -> WrittenFile {
        WrittenFile { bytes: self.bytes, is_gzip: self.is_gzip, count: self.counter.finish(), checksum: self.checksum }
    }
}

/// Counts the resources of a gzip file, and checks its lines.
async fn count_gzip(path: &Path, rule: LineRule) -> io::Result<FileCount> {
    let file = tokio::fs::File::open(path).await?;
    count(&mut Coding::Gzip.decode(BufReader::with_capacity(BUFFER_BYTES, file)), rule).await
}

/// Counts the resources of a file that was downloaded before, by its name plain or gzip.
pub(crate) async fn count_file(path: &Path) -> io::Result<FileCount> {
    if path.extension().is_some_and(|extension| extension == "gz") {
        return count_gzip(path, LineRule::Any).await;
    }
    count(&mut tokio::fs::File::open(path).await?, LineRule::Any).await
}

/// Counts the resources of a text, and checks its lines.
async fn count(reader: &mut (impl AsyncRead + Unpin), rule: LineRule) -> io::Result<FileCount> {
    let mut counter = ResourceCounter::with_rule(rule);
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match fill(reader, &mut buffer).await? {
            [] => return Ok(counter.finish()),
            bytes => counter.push(bytes),
        }
    }
}

/// Returns why the content of a file is not what the manifest says, or `None` if it is.
fn content_problem(
    file: &NamedFile,
    count: &FileCount,
    bytes: u64,
    checksum: Option<aws_lc_rs::digest::Context>,
    sent_checksum: Option<aws_lc_rs::digest::Context>,
) -> Option<String> {
    let expected_type = file.file.resource_type.as_deref().filter(|_| file.list != FileList::Deleted);
    if let Some(problem) = count.problem(expected_type) {
        return Some(problem);
    }
    if let Some(InvalidLines { first, reason, .. }) = count.invalid.as_ref().filter(|_| file.list == FileList::Deleted) {
        return Some(format!("its line {first} is not a Bundle of type transaction with DELETE requests: {reason}"));
    }
    if let Some(expected) = file.file.count.filter(|expected| count.resources(Some(*expected)) != *expected) {
        return Some(format!("it has {} resources, but the manifest counts {expected}", count.lines));
    }
    if let Some(size) = file.file.size.filter(|size| *size != bytes) {
        return Some(format!("it has {bytes} bytes, but the manifest states {size}"));
    }
    let expected = file.file.checksum.as_ref()?;
    let contexts = [checksum, sent_checksum];
    let is_right = contexts.into_iter().flatten().any(|context| expected.matches(context));
    (!is_right).then(|| "its checksum is not the one in the manifest".to_owned())
}
