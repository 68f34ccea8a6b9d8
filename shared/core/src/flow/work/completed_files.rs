//! Output files that are complete and not recorded yet. The last one is written while its task reads on.

use std::pin::pin;

use futures_util::future::{BoxFuture, Either, select};

use crate::job::file::OutputFile;
use crate::vocab::error::StoreError;

/// The output files that a task has completed since its last checkpoint.
///
/// On AWS a worker writes a file of the default size for almost a second, because the network of a function is slow, and reads and computes
/// as long for the next one. So it does both at the same time.
#[derive(Default)]
pub(super) struct CompletedFiles<'a> {
    files: Vec<OutputFile>,
    /// The write of the last file, while it runs.
    write: Option<BoxFuture<'a, Result<(), StoreError>>>,
}

impl<'a> CompletedFiles<'a> {
    /// Returns the number of files.
    pub(super) fn len(&self) -> usize {
        self.files.len()
    }

    /// Returns the size of the file that is being written, in bytes.
    pub(super) fn bytes_in_flight(&self) -> u64 {
        let last = self.files.last().filter(|_| self.write.is_some());
        last.map_or(0, |file| file.summary.bytes)
    }

    /// Adds a file. `write` writes it: [`Self::finish_write`] and [`Self::write_during`] run it.
    ///
    /// The file before must be written, so that a worker holds no more than two files in memory.
    pub(super) fn add(&mut self, file: OutputFile, write: BoxFuture<'a, Result<(), StoreError>>) {
        self.files.push(file);
        self.write = Some(write);
    }

    /// Waits until all files are written.
    pub(super) async fn finish_write(&mut self) -> Result<(), StoreError> {
        match self.write.take() {
            Some(write) => write.await,
            None => Ok(()),
        }
    }

    /// Waits for `other`, and writes the last file meanwhile.
    pub(super) async fn write_during<T>(&mut self, other: impl Future<Output = T>) -> Result<T, StoreError> {
        let mut other = pin!(other);
        if let Some(write) = &mut self.write {
            match select(write, other.as_mut()).await {
                Either::Left((written, _)) => {
                    self.write = None;
                    written?;
                }
                Either::Right((output, _)) => return Ok(output),
            }
        }
        Ok(other.await)
    }

    /// Removes and returns the files, after all of them are written.
    pub(super) async fn take(&mut self) -> Result<Vec<OutputFile>, StoreError> {
        self.finish_write().await?;
        Ok(std::mem::take(&mut self.files))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use futures_util::FutureExt as _;
    use futures_util::future::{pending, poll_fn, ready};

    use super::*;
    use crate::job::file::{FileSummary, OutputFileName, OutputKind};

    fn file(number: u32) -> OutputFile {
        let name = OutputFileName { kind: OutputKind::Error, number };
        OutputFile { name, summary: FileSummary { bytes: 7, lines: 1, crc64: 0 } }
    }

    #[test]
    fn a_file_is_written_while_its_task_waits_for_something_else() {
        let written = AtomicU32::new(0);
        let mut files = CompletedFiles::default();
        let write = poll_fn(|context| {
            context.waker().wake_by_ref();
            if written.fetch_add(1, Ordering::Relaxed) < 2 { std::task::Poll::Pending } else { std::task::Poll::Ready(Ok(())) }
        });
        files.add(file(1), Box::pin(write));
        assert_eq!((files.len(), files.bytes_in_flight()), (1, 7));
        // What is ready is not delayed by the write.
        assert_eq!(files.write_during(ready(5)).now_or_never().unwrap().unwrap(), 5);
        assert_eq!((written.load(Ordering::Relaxed), files.bytes_in_flight()), (1, 7));
        assert!(files.write_during(pending::<()>()).now_or_never().is_none());
        assert!(files.write_during(pending::<()>()).now_or_never().is_none());
        assert_eq!((written.load(Ordering::Relaxed), files.bytes_in_flight()), (3, 0));
        assert_eq!(files.take().now_or_never().unwrap().unwrap(), [file(1)]);
        assert_eq!(files.len(), 0);
    }

    #[test]
    fn the_error_of_a_write_ends_the_attempt() {
        let fails = || Box::pin(ready(Err(StoreError::Stale)));
        let mut files = CompletedFiles::default();
        files.add(file(1), fails());
        assert!(matches!(files.write_during(pending::<()>()).now_or_never(), Some(Err(StoreError::Stale))));
        files.add(file(2), fails());
        assert!(matches!(files.take().now_or_never(), Some(Err(StoreError::Stale))));
    }
}
