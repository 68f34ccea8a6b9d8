//! The size, the lines and the checksum of a file's content.

use crc_fast::{CrcAlgorithm, Digest};
use memchr::memchr_iter;

use crate::job::file::FileSummary;

/// The summary of a content whose bytes come piece by piece.
///
/// Its methods are neither generic nor inlined. So they are compiled with this crate, which is optimized in every profile; a generic
/// writer is compiled with the crate that uses it, and a checksum without optimization takes longer than everything else.
pub struct ContentDigest {
    crc: Digest,
    bytes: u64,
    lines: u64,
}

impl Default for ContentDigest {
    fn default() -> Self {
        Self { crc: Digest::new(CrcAlgorithm::Crc64Nvme), bytes: 0, lines: 0 }
    }
}

impl ContentDigest {
    /// Adds bytes with this number of lines.
    #[inline(never)]
    pub fn add(&mut self, bytes: &[u8], lines: u64) {
        self.crc.update(bytes);
        self.bytes += bytes.len() as u64;
        self.lines += lines;
    }

    /// Adds bytes and counts their line feeds.
    #[inline(never)]
    pub fn add_and_count(&mut self, bytes: &[u8]) {
        self.add(bytes, memchr_iter(b'\n', bytes).count() as u64);
    }

    /// Returns the number of bytes so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns the summary of the content so far.
    pub fn summary(&self) -> FileSummary {
        FileSummary { bytes: self.bytes, lines: self.lines, crc64: self.crc.finalize() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_does_not_depend_on_the_pieces() {
        let text = b"{\"a\":1}\n{\"b\":2}\n{\"c\":3}";
        for size in 1..=text.len() {
            let mut content = ContentDigest::default();
            text.chunks(size).for_each(|piece| content.add_and_count(piece));
            let crc64 = crc_fast::checksum(CrcAlgorithm::Crc64Nvme, text);
            assert_eq!(content.summary(), FileSummary { bytes: text.len() as u64, lines: 2, crc64 });
            assert_eq!(content.bytes(), text.len() as u64);
        }
    }
}
