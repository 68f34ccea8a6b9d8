//! What is to be done otherwise with some lines of the lake than they say themselves: what resolving tasks **find**.
//!
//! A file of findings begins with how many there are of each sort, and where the findings of each band of tasks begin;
//! so a task that reads its slices again fetches its own findings from each file, and little else.

use std::ops::Range;

use bytes::Bytes;

use crate::versions::record::Place;

/// Tasks are put into so many bands; the file's directory has one entry each, however large the lake is.
const BANDS: u32 = 256;

/// The size of a finding in a file.
const FINDING_BYTES: usize = 16;

/// The task that reads a lake's first slices.
const FIRST_TASK: u32 = 2;

/// What is to be done with one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Correction {
    /// The task that met it when the lake was read first.
    pub task: u32,
    /// The line.
    pub place: Place,
    /// What to do.
    pub action: Action,
}

/// What to do with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Leave it out: it is not the newest version, or the resource was deleted.
    Drop,
    /// Export it: another resource asks for it.
    Add,
    /// It is a Bundle of deletions: report this entry of it.
    Report(u32),
}

/// The beginning of a file of findings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    /// How many lines are dropped.
    pub drops: u64,
    /// How many are added or reported.
    pub adds: u64,
    /// Where the findings of each band begin, counted in findings; one more entry for the end.
    bands: Vec<u64>,
}

impl Directory {
    /// Its size in a file.
    pub const BYTES: usize = (2 + BANDS as usize + 1) * 8;

    /// Reads it; `None` if it is not whole.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let mut words = bytes.get(..Self::BYTES)?.as_chunks().0.iter().map(|word| u64::from_be_bytes(*word));
        Some(Self { drops: words.next()?, adds: words.next()?, bands: words.collect() })
    }

    /// Which bytes of the file hold the findings of a task, and of its neighbours in its band.
    pub fn range_of(&self, task: u32, tasks: u32) -> Range<u64> {
        let band = band_of(task, tasks) as usize;
        let byte = |index: usize| self.bands.get(index).map_or(0, |first| Self::BYTES as u64 + first * FINDING_BYTES as u64);
        byte(band)..byte(band + 1)
    }

    /// The tasks of the bands that have findings: of lakes with up to 256 tasks exactly those that have some.
    pub fn concerned(&self, tasks: u32) -> impl Iterator<Item = u32> {
        (FIRST_TASK..FIRST_TASK + tasks).filter(move |task| !self.range_of(*task, tasks).is_empty())
    }
}

fn band_of(task: u32, tasks: u32) -> u32 {
    let (index, tasks) = (u64::from(task.saturating_sub(FIRST_TASK)), u64::from(tasks.max(BANDS)));
    u32::try_from(index * u64::from(BANDS) / tasks).unwrap_or(BANDS).min(BANDS - 1)
}

/// A file of these findings; `tasks` is how many read the lake.
pub fn written(mut findings: Vec<Correction>, tasks: u32) -> Bytes {
    findings.sort_unstable();
    findings.dedup();
    let drops = findings.iter().filter(|finding| finding.action == Action::Drop).count() as u64;
    let mut bytes = Vec::with_capacity(Directory::BYTES + findings.len() * FINDING_BYTES);
    let bands = (0..=BANDS).map(|band| findings.partition_point(|finding| band_of(finding.task, tasks) < band) as u64);
    for word in [drops, findings.len() as u64 - drops].into_iter().chain(bands) {
        bytes.extend_from_slice(&word.to_be_bytes());
    }
    for Correction { task, place, action } in findings {
        let (action, entry) = match action {
            Action::Drop => (0, 0),
            Action::Add => (1, 0),
            Action::Report(entry) => (2, entry),
        };
        bytes.extend_from_slice(&task.to_be_bytes());
        bytes.extend_from_slice(&entry.to_be_bytes());
        bytes.extend_from_slice(&place.with(action).to_be_bytes());
    }
    bytes.into()
}

fn read(bytes: &[u8; FINDING_BYTES]) -> Correction {
    let word = u128::from_be_bytes(*bytes);
    let half = |shift: u32| u32::try_from(word >> shift & u128::from(u32::MAX)).unwrap_or_default();
    let (place, action) = Place::split(u64::try_from(word & u128::from(u64::MAX)).unwrap_or_default());
    let action = match action {
        0 => Action::Drop,
        1 => Action::Add,
        _ => Action::Report(half(64)),
    };
    Correction { task: half(96), place, action }
}

/// The findings of one task, as it goes over its lines once more.
#[derive(Debug, Default)]
pub struct Findings {
    found: Vec<(Place, Action)>,
    next: usize,
}

impl Findings {
    /// Takes those of `task` out of what [`Directory::range_of`] named, for each file once.
    pub fn of_task(task: u32, files: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Self {
        let mut found = Vec::new();
        for file in files {
            let findings = file.as_ref().as_chunks().0.iter().map(read).filter(|finding| finding.task == task);
            found.extend(findings.map(|finding| (finding.place, finding.action)));
        }
        found.sort_unstable();
        found.dedup();
        Self { found, next: 0 }
    }

    /// What is to be done with this line. Lines are asked for in order.
    pub fn at(&mut self, place: Place) -> &[(Place, Action)] {
        let rest = self.found.get(self.next..).unwrap_or_default();
        let skipped = rest.iter().take_while(|(found, _)| *found < place).count();
        let here = rest.iter().skip(skipped).take_while(|(found, _)| *found == place).count();
        let start = self.next + skipped;
        self.next = start + here;
        self.found.get(start..self.next).unwrap_or_default()
    }

    /// The places of the first and of the last line of this item that something is to be done with.
    pub fn span_of(&self, item: u32) -> Option<(Place, Place)> {
        let mut own = self.found.iter().map(|(place, _)| *place).filter(|place| place.item() == item);
        let first = own.next()?;
        Some((first, own.next_back().unwrap_or(first)))
    }
}

#[cfg(test)]
mod tests;
