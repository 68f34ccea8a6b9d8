//! Counts the deletions in the downloaded `deleted` files of an export.

use std::io::{self, BufRead as _};

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::client::bulk::DownloadedFile;
use crate::client::exported_lines::open_lines;
use crate::client::file_names::FileList;

/// The members of a Bundle of deletions that are counted.
#[derive(Deserialize)]
struct Bundle {
    #[serde(default)]
    entry: Vec<IgnoredAny>,
}

/// Returns the number of deletions in the `deleted` files: the entries of their Bundles. A line that cannot be read counts as one.
pub(crate) fn count_deletions(files: &[DownloadedFile]) -> io::Result<u64> {
    let mut count = 0;
    for file in files.iter().filter(|file| file.list == FileList::Deleted) {
        for line in open_lines(&file.path)?.split(b'\n') {
            count += count_in_line(&line?);
        }
    }
    Ok(count)
}

/// Returns the number of deletions in one line.
fn count_in_line(line: &[u8]) -> u64 {
    if line.trim_ascii().is_empty() {
        return 0;
    }
    serde_json::from_slice::<Bundle>(line).map_or(1, |bundle| bundle.entry.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_entries_of_bundles_are_counted() {
        for (line, count) in [
            (r#"{"resourceType":"Bundle","entry":[{"request":{"method":"DELETE","url":"Patient/1"}},{"request":{}}]}"#, 2),
            (r#"{"resourceType":"Bundle","type":"transaction"}"#, 0),
            ("not JSON", 1),
            ("", 0),
        ] {
            assert_eq!(count_in_line(line.as_bytes()), count, "{line}");
        }
    }
}
