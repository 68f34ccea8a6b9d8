//! Reads a file as the body of a response, in blocks that shrink with the number of downloads.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::stream::{self, Stream};
use tokio::sync::Semaphore;

/// Bytes of all downloads together that wait for their peers, in blocks. One or two blocks of each download do.
const BLOCKS_BYTES: usize = 16 << 20;

/// Size of the smallest block.
const MIN_BLOCK_BYTES: usize = 8 << 10;

/// Size of the largest block. Larger ones are not faster.
const MAX_BLOCK_BYTES: usize = 256 << 10;

/// Maximum number of blocks that are read at the same time. The job table needs threads as well, and each has a stack.
const READS_AT_ONCE: usize = 16;

/// The downloads of a server. Clones share the limits.
#[derive(Clone, Debug)]
pub(crate) struct Downloads {
    active: Arc<AtomicUsize>,
    reads: Arc<Semaphore>,
}

impl Default for Downloads {
    fn default() -> Self {
        Self { active: Arc::default(), reads: Arc::new(Semaphore::new(READS_AT_ONCE)) }
    }
}

/// A download in progress.
struct ActiveDownload {
    file: Option<File>,
    remaining: u64,
    downloads: Downloads,
}

impl Drop for ActiveDownload {
    fn drop(&mut self) {
        self.downloads.active.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Downloads {
    /// Returns the content of a file in this range. It fails if the file becomes shorter, so that the client notices.
    pub(super) fn content(&self, file: File, range: Range<u64>) -> impl Stream<Item = io::Result<Bytes>> + Send + use<> {
        self.active.fetch_add(1, Ordering::Relaxed);
        let download = ActiveDownload { file: Some(file), remaining: range.end - range.start, downloads: self.clone() };
        stream::try_unfold((download, Some(range.start)), |(mut download, start)| async move {
            let block = download.read_block(start).await?;
            Ok(block.map(|block| (block, (download, None))))
        })
    }

    /// Returns the size of a block, in bytes.
    fn block_bytes(&self) -> usize {
        let active = self.active.load(Ordering::Relaxed).max(1);
        (BLOCKS_BYTES / active).clamp(MIN_BLOCK_BYTES, MAX_BLOCK_BYTES)
    }
}

impl ActiveDownload {
    /// Reads the next block on another thread. Seeks to `start` first, if it is given.
    async fn read_block(&mut self, start: Option<u64>) -> io::Result<Option<Bytes>> {
        let length = self.remaining.min(self.downloads.block_bytes() as u64);
        let Some(mut file) = self.file.take().filter(|_| length > 0) else { return Ok(None) };
        let _permit = self.downloads.reads.acquire().await.map_err(io::Error::other)?;
        let read = move || -> io::Result<(File, Vec<u8>)> {
            if let Some(start) = start {
                file.seek(SeekFrom::Start(start))?;
            }
            let mut block = Vec::with_capacity(usize::try_from(length).unwrap_or(MAX_BLOCK_BYTES));
            (&file).take(length).read_to_end(&mut block)?;
            Ok((file, block))
        };
        let (file, block) = tokio::task::spawn_blocking(read).await.map_err(io::Error::other)??;
        if (block.len() as u64) < length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.file = Some(file);
        self.remaining -= length;
        Ok(Some(block.into()))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use futures_util::TryStreamExt as _;

    use super::*;

    #[tokio::test]
    async fn a_range_is_read_in_blocks_and_a_file_that_became_shorter_is_an_error() {
        let mut file = tempfile::tempfile().unwrap();
        let content: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
        file.write_all(&content).unwrap();
        let downloads = Downloads::default();
        let read =
            async |range| downloads.content(file.try_clone().unwrap(), range).try_collect::<Vec<_>>().await.map(|blocks| blocks.concat());
        assert_eq!(read(0..4_000_000).await.unwrap(), content);
        assert_eq!(read(1_234_567..3_999_999).await.unwrap(), content[1_234_567..3_999_999]);
        assert_eq!(read(5..5).await.unwrap(), b"");
        assert_eq!(read(3_000_000..4_000_001).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(downloads.active.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn blocks_shrink_with_the_number_of_downloads() {
        let downloads = Downloads::default();
        for (active, bytes) in [(0, 256 << 10), (1, 256 << 10), (64, 256 << 10), (1_024, 16 << 10), (100_000, 8 << 10)] {
            downloads.active.store(active, Ordering::Relaxed);
            assert_eq!(downloads.block_bytes(), bytes, "{active}");
        }
    }
}
