//! Corrections of the first read of the lake: lines to drop, to add, or to report as deletions. Resolve tasks write them.
//!
//! A correction file starts with the number of corrections of each kind, and an index of bands of tasks. A task that reads
//! its slices again reads from each file only the corrections of its band.

use std::ops::Range;

use bytes::Bytes;

use crate::versions::record::LinePosition;

/// The number of bands into which tasks are grouped. The index has one entry for each, for a lake of any size.
pub const BANDS: u32 = 256;

/// The size of a stored correction, in bytes.
const CORRECTION_BYTES: usize = 16;

/// The number of the first read task. The plan and finalize tasks have the numbers before.
const FIRST_TASK: u32 = 2;

/// A correction of one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Correction {
    /// The number of the task that read the line first.
    pub task: u32,
    /// The position of the line within the task.
    pub position: LinePosition,
    /// The action that corrects the line.
    pub action: CorrectionAction,
}

/// The action that corrects a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CorrectionAction {
    /// Drops the line: it is not the current version, or the resource was deleted.
    Drop,
    /// Adds the line: an exported resource requires it.
    Add,
    /// Reports the deletion in this entry of the line, which is a Bundle.
    ReportDeletion(u32),
}

/// The start of a correction file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorrectionIndex {
    /// The number of lines to drop.
    pub drops: u64,
    /// The number of lines to add and deletions to report.
    pub adds: u64,
    /// The index of the first correction of each band, and the number of all corrections.
    bands: Vec<u64>,
}

impl CorrectionIndex {
    /// The size of the index, in bytes.
    pub const BYTES: usize = (2 + BANDS as usize + 1) * 8;

    /// Parses the index of a correction file. Returns `None` if it is truncated.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut words = bytes.get(..Self::BYTES)?.as_chunks().0.iter().map(|word| u64::from_be_bytes(*word));
        Some(Self { drops: words.next()?, adds: words.next()?, bands: words.collect() })
    }

    /// Returns the byte range of the file that holds the corrections of `task` and of the other tasks in its band.
    ///
    /// * `tasks`: the number of read tasks.
    pub fn byte_range(&self, task: u32, tasks: u32) -> Range<u64> {
        let band = band(task, tasks);
        self.bytes_of_bands(band..band + 1)
    }

    /// Returns the byte range of the file that holds the corrections of these bands.
    pub fn bytes_of_bands(&self, bands: Range<u32>) -> Range<u64> {
        let start = |index: u32| self.bands.get(index as usize).map_or(0, |first| Self::BYTES as u64 + first * CORRECTION_BYTES as u64);
        start(bands.start)..start(bands.end)
    }

    /// Returns the tasks in bands with corrections. With up to 256 tasks these are exactly the tasks with corrections.
    pub fn affected_tasks(&self, tasks: u32) -> impl Iterator<Item = u32> {
        (FIRST_TASK..FIRST_TASK + tasks).filter(move |task| !self.byte_range(*task, tasks).is_empty())
    }
}

/// Returns the band of a task, a number below [`BANDS`].
pub fn band(task: u32, tasks: u32) -> u32 {
    let (index, tasks) = (u64::from(task.saturating_sub(FIRST_TASK)), u64::from(tasks.max(BANDS)));
    u32::try_from(index * u64::from(BANDS) / tasks).unwrap_or(BANDS).min(BANDS - 1)
}

/// Serializes corrections as a correction file: sorted, without duplicates, behind their index.
///
/// * `tasks`: the number of read tasks.
pub fn write_corrections(mut corrections: Vec<Correction>, tasks: u32) -> Bytes {
    corrections.sort_unstable();
    corrections.dedup();
    let drops = corrections.iter().filter(|correction| correction.action == CorrectionAction::Drop).count() as u64;
    let mut bytes = Vec::with_capacity(CorrectionIndex::BYTES + corrections.len() * CORRECTION_BYTES);
    let bands = (0..=BANDS).map(|index| corrections.partition_point(|correction| band(correction.task, tasks) < index) as u64);
    for word in [drops, corrections.len() as u64 - drops].into_iter().chain(bands) {
        bytes.extend_from_slice(&word.to_be_bytes());
    }
    for Correction { task, position, action } in corrections {
        let (action, entry) = match action {
            CorrectionAction::Drop => (0, 0),
            CorrectionAction::Add => (1, 0),
            CorrectionAction::ReportDeletion(entry) => (2, entry),
        };
        bytes.extend_from_slice(&task.to_be_bytes());
        bytes.extend_from_slice(&entry.to_be_bytes());
        bytes.extend_from_slice(&position.pack(action).to_be_bytes());
    }
    bytes.into()
}

/// Deserializes the corrections in a part of a correction file.
pub fn read_corrections(bytes: &[u8]) -> impl Iterator<Item = Correction> {
    bytes.as_chunks().0.iter().map(read_correction)
}

/// Deserializes one stored correction.
fn read_correction(bytes: &[u8; CORRECTION_BYTES]) -> Correction {
    let word = u128::from_be_bytes(*bytes);
    let u32_at = |shift: u32| u32::try_from(word >> shift & u128::from(u32::MAX)).unwrap_or_default();
    let (position, action) = LinePosition::unpack(u64::try_from(word & u128::from(u64::MAX)).unwrap_or_default());
    let action = match action {
        0 => CorrectionAction::Drop,
        1 => CorrectionAction::Add,
        _ => CorrectionAction::ReportDeletion(u32_at(64)),
    };
    Correction { task: u32_at(96), position, action }
}

/// The corrections of one task, consumed in the order of its lines.
#[derive(Debug, Default)]
pub struct TaskCorrections {
    sorted: Vec<(LinePosition, CorrectionAction)>,
    next: usize,
}

impl TaskCorrections {
    /// Collects the corrections of `task`.
    ///
    /// * `files`: the bytes in [`CorrectionIndex::byte_range`] of each correction file.
    pub fn from_files(task: u32, files: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Self {
        let mut sorted = Vec::new();
        for file in files {
            let corrections = file.as_ref().as_chunks().0.iter().map(read_correction).filter(|correction| correction.task == task);
            sorted.extend(corrections.map(|correction| (correction.position, correction.action)));
        }
        sorted.sort_unstable();
        sorted.dedup();
        Self { sorted, next: 0 }
    }

    /// Returns the corrections of the line at `position`. Positions must be given in ascending order.
    pub fn advance_to(&mut self, position: LinePosition) -> &[(LinePosition, CorrectionAction)] {
        let rest = self.sorted.get(self.next..).unwrap_or_default();
        let skipped = rest.iter().take_while(|(other, _)| *other < position).count();
        let count = rest.iter().skip(skipped).take_while(|(other, _)| *other == position).count();
        let start = self.next + skipped;
        self.next = start + count;
        self.sorted.get(start..self.next).unwrap_or_default()
    }

    /// Returns the positions of the first and the last corrected line of a slice. `None` if none of its lines is corrected.
    pub fn first_and_last(&self, slice: u32) -> Option<(LinePosition, LinePosition)> {
        let mut positions = self.sorted.iter().map(|(position, _)| *position).filter(|position| position.slice() == slice);
        let first = positions.next()?;
        Some((first, positions.next_back().unwrap_or(first)))
    }
}

#[cfg(test)]
mod tests;
