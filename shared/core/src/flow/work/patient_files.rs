//! Files of frames in sections, which tasks read to group resources by patient.

use std::ops::Range;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::job::ExportError;
use crate::job::file::{Fragment, OutputKind};
use crate::job::task::Lease;
use crate::patients::Sections;
use crate::ports::{AllPorts, FragmentSelection, TaskStore as _};
use crate::vocab::error::StoreError;

use super::fragments::{CONCURRENT_READS, read_fragment};

/// The number of bytes of a file that are read at a time.
const CHUNK_BYTES: u64 = 2 << 20;

/// A part of a file of frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FramesOfFile {
    pub(super) fragment: Fragment,
    pub(super) range: Range<u64>,
}

impl FramesOfFile {
    /// Cuts the part into byte ranges that are read one at a time. An empty part has none.
    pub(super) fn chunks(&self) -> impl Iterator<Item = (&Fragment, Range<u64>)> {
        let Range { start, end } = self.range;
        let chunk = move |index: u64| start + index * CHUNK_BYTES..end.min(start + (index + 1) * CHUNK_BYTES);
        (0..(end - start).div_ceil(CHUNK_BYTES)).map(move |index| (&self.fragment, chunk(index)))
    }

    /// Creates the error of a damaged file.
    pub(super) fn unreadable(fragment: &Fragment, detail: &str) -> ExportError {
        StoreError::Unreadable { store: "the destination", detail: format!("{}: {detail}", fragment.name) }.into()
    }
}

/// Lists the files that the reading tasks with these numbers have written, in the order in which their lines were read.
pub(super) async fn patient_pages(
    ports: &impl AllPorts,
    lease: &Lease,
    last_round: u32,
    tasks: Range<u32>,
) -> Result<Vec<Fragment>, ExportError> {
    let selection = FragmentSelection::KindOfTasks(OutputKind::PatientPages, tasks);
    let mut pages = ports.jobs().fragments(&lease.job.id, lease.job.first_unmerged_round..=last_round, &selection).await?;
    pages.sort_unstable_by_key(|page| (page.name.task, page.name.fencing_token));
    Ok(pages)
}

/// Finds some sections in the indexes of these files, in the order of the files.
pub(super) async fn find_sections(
    ports: &impl AllPorts,
    lease: &Lease,
    fragments: &[Fragment],
    (kind, sections): (Sections, &Range<usize>),
) -> Result<Vec<FramesOfFile>, ExportError> {
    let finds = fragments.iter().map(|fragment| async move {
        let index = read_fragment(ports, lease, fragment, 0..kind.index_bytes()).await?;
        let range = kind.byte_range(&index, sections).filter(|range| range.end <= fragment.summary.bytes);
        let range = range.ok_or_else(|| FramesOfFile::unreadable(fragment, "its index is damaged"))?;
        Ok::<_, ExportError>(FramesOfFile { fragment: *fragment, range })
    });
    stream::iter(finds.collect::<Vec<_>>()).buffered(CONCURRENT_READS).try_collect().await
}
