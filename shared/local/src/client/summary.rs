//! The summary of a finished export on standard output.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use indicatif::{DecimalBytes, HumanCount};

use crate::client::bulk::{DownloadedFile, Manifest};
use crate::client::error_files::ErrorLines;
use crate::terminal::printable;

/// Formats a table of the files, totals, times and the `--since` of the next incremental export.
pub(crate) fn format_summary(
    files: &[DownloadedFile],
    manifest: &Manifest,
    out: &Path,
    (export_time, total_time): (Duration, Duration),
    lines: &ErrorLines,
) -> String {
    let width = files.iter().map(|file| file.name.len()).max().unwrap_or_default().max(4);
    let mut output = format!("{:width$}  {:>12}  {:>10}\n", "FILE", "RESOURCES", "SIZE");
    for file in files {
        // Both are formatted first, because they ignore the width.
        let (lines, size) = (HumanCount(file.lines).to_string(), DecimalBytes(file.bytes).to_string());
        output += &format!("{:width$}  {lines:>12}  {size:>10}\n", file.name);
    }

    let (errors, resources): (Vec<&DownloadedFile>, Vec<&DownloadedFile>) = files.iter().partition(|file| file.is_error);
    let resource_count: u64 = resources.iter().map(|file| file.lines).sum();
    let bytes: u64 = files.iter().map(|file| file.bytes).sum();
    let types: BTreeSet<&str> = resources.iter().filter_map(|file| file.resource_type.as_deref()).collect();
    output += &format!(
        "\n{} resources of {} types in {} files, {}, in {}\n",
        HumanCount(resource_count),
        types.len(),
        resources.len(),
        DecimalBytes(bytes),
        printable(&out.to_string_lossy())
    );

    let seconds = total_time.as_secs_f64();
    output += &format!(
        "took {seconds:.2} s: export {:.2} s, download {:.2} s; {}/s, {} resources/s\n",
        export_time.as_secs_f64(),
        seconds - export_time.as_secs_f64(),
        DecimalBytes(per_second(bytes, total_time)),
        HumanCount(per_second(resource_count, total_time)),
    );
    output += &format!("to export only later changes next time: --since {}{}\n", manifest.transaction_time, manifest.describe_watermark());
    for notice in &lines.notices {
        output += &format!("note: {notice}\n");
    }
    if let Some(first) = errors.first().filter(|_| lines.errors > 0) {
        output += &format!(
            "warning: {} lines of the source are not resources and were skipped; see {} for lines and reasons\n",
            HumanCount(lines.errors),
            first.name,
        );
    }
    output
}

/// Returns a rate per second, rounded down.
fn per_second(count: u64, time: Duration) -> u64 {
    let millis = time.as_millis().max(1);
    u64::try_from(u128::from(count) * 1_000 / millis).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn numbers_are_readable() {
        let resource_type = Some("Patient".to_owned());
        let name = "Patient-1.ndjson".to_owned();
        let path = PathBuf::from("out/Patient-1.ndjson");
        let file = DownloadedFile { name, resource_type, path, bytes: 64_000_000, lines: 1_234_567, is_error: false };
        let times = (Duration::from_secs(1), Duration::from_secs(2));
        let manifest = br#"{"transactionTime":"2026-01-01T00:00:00Z","requiresAccessToken":false,"output":[]}"#;
        let manifest = Manifest::parse(manifest, &|_| Err(String::new())).unwrap();
        let summary = format_summary(&[file], &manifest, Path::new("out"), times, &ErrorLines::default());
        assert_eq!(
            summary,
            "FILE                 RESOURCES        SIZE\n\
             Patient-1.ndjson     1,234,567    64.00 MB\n\
             \n\
             1,234,567 resources of 1 types in 1 files, 64.00 MB, in out\n\
             took 2.00 s: export 1.00 s, download 1.00 s; 32.00 MB/s, 617,283 resources/s\n\
             to export only later changes next time: --since 2026-01-01T00:00:00Z\n"
        );
    }
}
