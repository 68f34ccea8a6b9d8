//! The lines of downloaded files, read as a lake reads them: decompressed, and without a byte order mark.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read as _};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use headrace_core::vocab::byte_order_mark::BYTE_ORDER_MARK;

/// Opens a downloaded file, by its name plain or gzip, after its byte order mark.
pub(crate) fn open_lines(path: &Path) -> io::Result<Box<dyn BufRead>> {
    let file = BufReader::new(File::open(path)?);
    if path.extension().is_some_and(|extension| extension == "gz") {
        return skip_mark(BufReader::new(MultiGzDecoder::new(file)));
    }
    skip_mark(file)
}

/// Returns the rest of a text after its byte order mark, or all of it.
fn skip_mark(mut text: impl BufRead + 'static) -> io::Result<Box<dyn BufRead>> {
    let mut start = Vec::new();
    text.by_ref().take(BYTE_ORDER_MARK.len() as u64).read_to_end(&mut start)?;
    if start == BYTE_ORDER_MARK {
        start.clear();
    }
    Ok(Box::new(Cursor::new(start).chain(text)))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_file_is_read_decompressed_and_without_its_byte_order_mark() {
        let folder = tempfile::tempdir().unwrap();
        for (text, expected) in [("\u{feff}{}\n{}", "{}\n{}"), ("{}\n", "{}\n"), ("\u{feff}", ""), ("{", "{"), ("", "")] {
            let (plain, packed) = (folder.path().join("a.ndjson"), folder.path().join("a.ndjson.gz"));
            std::fs::write(&plain, text).unwrap();
            let mut encoder = flate2::write::GzEncoder::new(File::create(&packed).unwrap(), flate2::Compression::fast());
            encoder.write_all(text.as_bytes()).unwrap();
            encoder.finish().unwrap();
            for path in [plain, packed] {
                assert_eq!(io::read_to_string(open_lines(&path).unwrap()).unwrap(), expected, "{text:?} {}", path.display());
            }
        }
    }
}
