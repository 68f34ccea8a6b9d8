//! Files of frames in sections: by bucket, or by the positions of patients.
//!
//! A file begins with the offset of each section and the size of the file, so that a task reads the sections that it needs and no others.

use std::ops::Range;

use bytes::Bytes;

use crate::job::file::Bucket;

use super::POSITION_COUNT;

/// The division of a file into sections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sections {
    /// A section for each bucket.
    Buckets,
    /// A section for each range of positions. All ranges have the same length.
    Positions,
}

/// The number of sections by position.
const POSITION_SECTIONS: u16 = 1_024;

impl Sections {
    /// Returns the number of sections.
    fn count(self) -> usize {
        match self {
            Self::Buckets => usize::from(Bucket::COUNT),
            Self::Positions => usize::from(POSITION_SECTIONS),
        }
    }

    /// Returns the size of the index at the beginning of a file.
    pub fn index_bytes(self) -> u64 {
        (self.count() as u64 + 1) * 8
    }

    /// Returns the section of a position. Positions of a range are in consecutive sections.
    pub fn of_position(position: u64) -> usize {
        let section = u128::from(position) * u128::from(POSITION_SECTIONS) / u128::from(POSITION_COUNT);
        usize::try_from(section).unwrap_or_default().min(usize::from(POSITION_SECTIONS) - 1)
    }

    /// Returns the sections that may hold these positions.
    pub fn of_positions(positions: &Range<u64>) -> Range<usize> {
        Self::of_position(positions.start)..Self::of_position(positions.end.saturating_sub(1)) + 1
    }

    /// Reads the byte range of some sections from the index of a file. Returns `None` if the index is damaged.
    pub fn byte_range(self, index: &[u8], sections: &Range<usize>) -> Option<Range<u64>> {
        let offset = |section: usize| Some(u64::from_be_bytes(*index.as_chunks().0.get(section)?));
        let (start, end) = (offset(sections.start)?, offset(sections.end)?);
        (self.index_bytes() <= start && start <= end).then_some(start..end)
    }
}

/// The frames of a file that is not written yet.
#[derive(Debug)]
pub struct SectionedFrames {
    sections: Vec<Vec<Bytes>>,
    bytes: u64,
    frames: u64,
}

impl SectionedFrames {
    /// Creates a file without frames.
    pub fn new(sections: Sections) -> Self {
        Self { sections: vec![Vec::new(); sections.count()], bytes: 0, frames: 0 }
    }

    /// Adds a frame to a section.
    pub fn add(&mut self, section: usize, frame: Bytes) {
        self.bytes += frame.len() as u64;
        self.frames += 1;
        if let Some(frames) = self.sections.get_mut(section) {
            frames.push(frame);
        }
    }

    /// Returns the size of the frames.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns the number of frames.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Removes all frames and returns the content of a file with them, in chunks. A section keeps the order in which its frames were added.
    pub fn take(&mut self) -> Vec<Bytes> {
        let mut offset = (self.sections.len() as u64 + 1) * 8;
        let mut index = Vec::with_capacity(usize::try_from(offset).unwrap_or_default());
        for frames in &self.sections {
            index.extend_from_slice(&offset.to_be_bytes());
            offset += frames.iter().map(|frame| frame.len() as u64).sum::<u64>();
        }
        index.extend_from_slice(&offset.to_be_bytes());
        (self.bytes, self.frames) = (0, 0);
        std::iter::once(Bytes::from(index)).chain(self.sections.iter_mut().flat_map(std::mem::take)).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn sections_are_read_back_in_any_consecutive_number(
            frames in prop::collection::vec((0_usize..64, prop::collection::vec(any::<u8>(), 0..9)), 0..200), first in 0_usize..64, count in 1_usize..64,
        ) {
            let mut file = SectionedFrames::new(Sections::Buckets);
            frames.iter().for_each(|(section, frame)| file.add(*section, frame.clone().into()));
            let bytes = file.take().concat();
            prop_assert_eq!((file.bytes(), file.frames()), (0, 0));
            let sections = first..(first + count).min(64);
            let index = bytes.get(..usize::try_from(Sections::Buckets.index_bytes()).unwrap()).unwrap();
            let range = Sections::Buckets.byte_range(index, &sections).unwrap();
            let found = bytes.get(usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()).unwrap();
            let mut expected: Vec<_> = frames.iter().filter(|(section, _)| sections.contains(section)).collect();
            expected.sort_by_key(|(section, _)| *section);
            prop_assert_eq!(found, expected.into_iter().flat_map(|(_, frame)| frame.clone()).collect::<Vec<_>>());
        }

        #[test]
        fn the_sections_of_a_range_contain_those_of_its_positions(start in 0..POSITION_COUNT, length in 1..POSITION_COUNT, at in any::<u64>()) {
            let positions = start..(start + length).min(POSITION_COUNT);
            let position = positions.start + at % (positions.end - positions.start);
            prop_assert!(Sections::of_positions(&positions).contains(&Sections::of_position(position)));
        }
    }
}
