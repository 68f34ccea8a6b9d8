//! Reading and writing of fragments.

use std::ops::Range;

use bytes::Bytes;

use crate::job::ExportError;
use crate::job::file::{FileName, FileSummary, Fragment, FragmentName};
use crate::job::folder::Folder;
use crate::job::task::Lease;
use crate::lake::reader::read_sized;
use crate::output::content::ContentDigest;
use crate::ports::{AllPorts, FileWriter as _, OutputStore};
use crate::vocab::error::StoreError;

/// The number of fragments that a worker reads concurrently.
pub(super) const CONCURRENT_READS: usize = 16;

/// Writes a fragment that is completely in memory. Returns it with its summary, not recorded yet.
pub(super) async fn write_fragment(
    output: &impl OutputStore,
    folder: &Folder,
    name: FragmentName,
    bytes: Bytes,
    lines: u64,
) -> Result<Fragment, StoreError> {
    write_chunks(output, folder, name, [bytes], lines).await
}

/// Writes a fragment that consists of these chunks. Returns it with its summary, not recorded yet.
pub(super) async fn write_chunks(
    output: &impl OutputStore,
    folder: &Folder,
    name: FragmentName,
    chunks: impl IntoIterator<Item = Bytes>,
    lines: u64,
) -> Result<Fragment, StoreError> {
    let mut content = ContentDigest::default();
    let mut writer = output.new_fragment(folder, name).await?;
    for chunk in chunks {
        content.add(&chunk, 0);
        writer.write(chunk).await?;
    }
    let summary = FileSummary { lines, ..content.summary() };
    writer.commit(FileName::Fragment(name), summary).await?;
    Ok(Fragment { name, summary })
}

/// Reads a byte range of a fragment. Returns an error if the fragment is shorter.
pub(super) async fn read_fragment(
    ports: &impl AllPorts,
    lease: &Lease,
    fragment: &Fragment,
    range: Range<u64>,
) -> Result<Vec<u8>, ExportError> {
    let expected = range.end - range.start;
    let bytes = read_sized(ports.output().read(&lease.job.folder(), &fragment.name, range), expected).await?;
    if bytes.len() as u64 == expected {
        return Ok(bytes);
    }
    Err(StoreError::Unreadable { store: "the destination", detail: format!("{} ends too early", fragment.name) }.into())
}
