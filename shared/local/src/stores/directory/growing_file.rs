//! A file that grows by large writes. Space on the disk is reserved ahead of them, so that the file system finds it once for many blocks.

use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::path::Path;
use std::time::Instant;

use super::reservations::{RESERVATIONS, reserve_space};
use crate::stores::private::{create_private_file, create_private_folder};

/// The size of a file from which on space is reserved for it. Most files stay smaller.
const SMALL_FILE_BYTES: u64 = 1 << 20;

/// A private file that is written from its start to its end.
#[derive(Debug)]
pub(super) struct GrowingFile {
    file: File,
    size: u64,
    /// The end of the space that is reserved for the file.
    reserved: u64,
}

impl GrowingFile {
    /// Creates a file, and the folders that it lies in.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        path.parent().map_or(Ok(()), create_private_folder)?;
        Ok(Self { file: create_private_file(path)?, size: 0, reserved: 0 })
    }

    /// Appends two texts, in one call of the system if it takes both.
    pub(super) fn append(&mut self, first: &[u8], second: &[u8]) -> io::Result<()> {
        let end = self.size + (first.len() + second.len()) as u64;
        if RESERVATIONS.are_stopped() {
            self.release()?;
        } else if end > SMALL_FILE_BYTES && end > self.reserved {
            self.reserved = reserve_space(&self.file, self.size, end).unwrap_or(self.reserved);
        }
        write_both(&mut self.file, first, second).map_err(|error| RESERVATIONS.explain(error, Instant::now()))?;
        self.size = end;
        Ok(())
    }

    /// Ends the file.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.release()
    }

    /// Gives the space behind the end of the file back.
    fn release(&mut self) -> io::Result<()> {
        if self.reserved > self.size {
            self.file.set_len(self.size)?;
            self.reserved = 0;
        }
        Ok(())
    }
}

/// Writes two texts, in one call of the system if it takes both.
fn write_both(file: &mut impl Write, first: &[u8], second: &[u8]) -> io::Result<()> {
    let written = loop {
        match file.write_vectored(&[IoSlice::new(first), IoSlice::new(second)]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => break result?,
        }
    };
    file.write_all(first.get(written..).unwrap_or_default())?;
    file.write_all(second.get(written.saturating_sub(first.len())..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that takes only some bytes at once.
    struct SlowFile(Vec<u8>, usize);

    impl Write for SlowFile {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(self.1);
            self.0.extend_from_slice(bytes.get(..taken).unwrap_or_default());
            Ok(taken)
        }

        fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
            let all: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
            self.write(&all)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn two_texts_are_written_whole_however_few_bytes_a_call_takes() {
        for at_once in 1..10 {
            for (first, second) in [("abc", "defg"), ("", "defg"), ("abc", ""), ("", "")] {
                let mut file = SlowFile(Vec::new(), at_once);
                write_both(&mut file, first.as_bytes(), second.as_bytes()).unwrap();
                assert_eq!(String::from_utf8(file.0).unwrap(), format!("{first}{second}"));
            }
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_finished_file_takes_no_more_space_than_its_content() {
        use std::os::unix::fs::MetadataExt as _;

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for (blocks, last) in [(1, 0), (16, 100), (160, 1), (164, 0)] {
            let mut file = GrowingFile::create(&path).unwrap();
            let block = [b'x'; 64 << 10];
            for _ in 0..blocks {
                file.append(&[], &block).unwrap();
            }
            file.append(&block[..last], &[]).unwrap();
            file.finish().unwrap();
            let length = blocks * block.len() as u64 + last as u64;
            let found = std::fs::metadata(&path).unwrap();
            assert_eq!(found.len(), length);
            assert!(found.blocks() * 512 <= length + (64 << 10), "{} bytes on the disk for {length}", found.blocks() * 512);
            std::fs::remove_file(&path).unwrap();
        }
    }
}
