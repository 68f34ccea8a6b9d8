//! Sorted records on disk, found by the group that they belong to.

use std::fs::File;
use std::io::{self, BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::marker::PhantomData;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use super::{SortRecord, SortedRecords};

/// The number of records that are read at a time.
const RECORDS_PER_READ: u64 = 4_096;

/// A record of fixed size that belongs to a group. Records sort by their group first.
pub(crate) trait GroupedRecord: SortRecord {
    /// The size of a record, in bytes.
    const BYTES: usize;

    /// Returns the number of the group.
    fn group(&self) -> usize;
}

/// Sorted records of several groups. Threads share them.
#[derive(Debug)]
pub(crate) struct GroupedRecords<T> {
    file: Mutex<File>,
    /// The first record of each group, and the number of all.
    starts: Vec<u64>,
    records: PhantomData<fn() -> T>,
}

impl<T: GroupedRecord> GroupedRecords<T> {
    /// Writes sorted records of `groups` groups to a temporary file.
    pub(crate) fn write(records: SortedRecords<T>, groups: usize, folder: &Path) -> io::Result<Self> {
        let mut writer = BufWriter::new(tempfile::tempfile_in(folder)?);
        let (mut starts, mut count, mut bytes) = (Vec::with_capacity(groups + 1), 0, Vec::new());
        for record in records {
            let record = record?;
            while starts.len() <= record.group() {
                starts.push(count);
            }
            bytes.clear();
            record.write(&mut bytes);
            writer.write_all(&bytes)?;
            count += 1;
        }
        starts.resize(groups + 1, count);
        let file = writer.into_inner().map_err(io::IntoInnerError::into_error)?;
        Ok(Self { file: Mutex::new(file), starts, records: PhantomData })
    }

    /// Returns the number of records.
    #[cfg(test)]
    pub(crate) fn len(&self) -> u64 {
        self.starts.last().copied().unwrap_or_default()
    }

    /// Returns the records of a group in order.
    pub(crate) fn of_group(&self, group: usize) -> impl Iterator<Item = io::Result<T>> + use<'_, T> {
        let bound = |index: usize| self.starts.get(index).copied().unwrap_or_default();
        let (mut next, end) = (bound(group), bound(group + 1));
        let mut buffer = Vec::<T>::new().into_iter();
        std::iter::from_fn(move || {
            if let Some(record) = buffer.next() {
                return Some(Ok(record));
            }
            let count = end.saturating_sub(next).min(RECORDS_PER_READ);
            if count == 0 {
                return None;
            }
            match self.read(next, count) {
                Ok(records) => {
                    next += count;
                    buffer = records.into_iter();
                    buffer.next().map(Ok)
                }
                Err(error) => Some(Err(error)),
            }
        })
    }

    /// Reads records from a position.
    fn read(&self, first: u64, count: u64) -> io::Result<Vec<T>> {
        let mut bytes = vec![0; usize::try_from(count).unwrap_or_default() * T::BYTES];
        {
            let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
            file.seek(SeekFrom::Start(first * T::BYTES as u64))?;
            file.read_exact(&mut bytes)?;
        }
        let (mut rest, mut records) = (bytes.as_slice(), Vec::new());
        while let Some(record) = T::read(&mut rest)? {
            records.push(record);
        }
        Ok(records)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sorting::RecordSorter;

    impl GroupedRecord for u64 {
        const BYTES: usize = 8;

        fn group(&self) -> usize {
            usize::try_from(*self / 100_000).unwrap()
        }
    }

    #[test]
    fn the_records_of_each_group_are_found_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let mut sorter = RecordSorter::new(folder.path(), 4_000);
        for record in (0..30_000_u64).rev() {
            sorter.push(record % 3 * 200_000 + record).unwrap();
        }
        let records = GroupedRecords::<u64>::write(RecordSorter::finish(vec![sorter]).unwrap(), 6, folder.path()).unwrap();
        assert_eq!(records.len(), 30_000);
        for group in 0..7 {
            let found: Vec<u64> = records.of_group(group).map(Result::unwrap).collect();
            assert!(found.is_sorted() && found.iter().all(|record| record.group() == group));
            assert_eq!(found.len(), if group % 2 == 0 && group < 6 { 10_000 } else { 0 }, "{group}");
        }
    }
}
