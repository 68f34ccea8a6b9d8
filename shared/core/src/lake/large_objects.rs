//! Compressed objects that are so large that one worker reads them for a long time.

use crate::job::task::{Encoding, Pin};
use crate::vocab::plural::counted;

/// The stored size from which on a compressed object is large. A worker on AWS reads it for two minutes.
const LARGE_BYTES: u64 = 1_000_000_000;

/// The stored size from which on an object may never end on AWS: after each interruption a worker decompresses it from its start, and has 14
/// minutes.
const HOPELESS_BYTES: u64 = 30_000_000_000;

/// The minutes for which a worker on AWS with the default memory reads and writes the lines of a stored gigabyte, eight to one.
const AWS_MINUTES_PER_GB: u64 = 2;

/// The large objects of a listing.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct LargeObjects {
    count: u64,
    largest: Option<(u64, String)>,
}

impl LargeObjects {
    /// Adds an object if it is compressed and large.
    pub fn add(&mut self, pin: &Pin, encoding: Encoding) {
        if encoding == Encoding::Plain || pin.size < LARGE_BYTES {
            return;
        }
        self.count += 1;
        if self.largest.as_ref().is_none_or(|(size, _)| *size < pin.size) {
            self.largest = Some((pin.size, pin.object.clone()));
        }
    }

    /// Describes how long the largest object takes and what to do instead. Returns `None` if no object is large.
    pub fn describe(&self) -> Option<String> {
        let (size, object) = self.largest.as_ref()?;
        let gigabytes = size.div_ceil(1_000_000_000);
        let effect = if *size >= HOPELESS_BYTES {
            "on AWS longer than an attempt lasts, so that the export may fail".to_owned()
        } else {
            format!("on AWS about {} minutes", gigabytes * AWS_MINUTES_PER_GB)
        };
        let of = counted(self.count, "compressed object of more than 1 GB", "compressed objects of more than 1 GB");
        Some(format!(
            "{of}: one worker reads such an object from its start to its end, `{object}` of {gigabytes} GB {effect}; store its lines in objects of \
             up to 1 GB, which workers read at the same time, or uncompressed"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_compressed_object_is_named_with_its_time() {
        let mut objects = LargeObjects::default();
        let mut add = |object: &str, size: u64, encoding| {
            objects.add(&Pin { object: object.to_owned(), etag: "e".to_owned(), size }, encoding);
            objects.describe()
        };
        assert_eq!(add("plain.ndjson", 900_000_000_000, Encoding::Plain), None);
        assert_eq!(add("small.ndjson.zst", 999_999_999, Encoding::Zstd), None);
        let text = add("a.ndjson.gz", 12_000_000_000, Encoding::Gzip).unwrap();
        assert!(
            text.starts_with("1 compressed object of more than 1 GB: ") && text.contains("`a.ndjson.gz` of 12 GB on AWS about 24 minutes"),
            "{text}"
        );
        let text = add("b.ndjson.zst", 40_000_000_000, Encoding::Zstd).unwrap();
        assert!(text.starts_with("2 compressed objects ") && text.contains("`b.ndjson.zst` of 40 GB on AWS longer than"), "{text}");
        assert!(add("c.ndjson.zst", 2_000_000_000, Encoding::Zstd).unwrap().contains("`b.ndjson.zst`"));
    }
}
