//! Sorts more records than fit into memory: sorted runs in temporary files, merged at the end.

mod grouped;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek as _, Write as _};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

pub(crate) use grouped::{GroupedRecord, GroupedRecords};

/// The number of runs that are merged at a time. It bounds the number of open files.
const RUNS_PER_MERGE: usize = 16;

/// The buffer of a run, in bytes.
const RUN_BUFFER_BYTES: usize = 64 << 10;

/// A record that can be sorted in files.
pub trait SortRecord: Ord + Send + Sized + 'static {
    /// Appends the record to `to`.
    fn write(&self, to: &mut Vec<u8>);

    /// Reads the next record. Returns `None` at the end.
    fn read(from: &mut impl Read) -> io::Result<Option<Self>>;

    /// Returns the memory that the record takes beside its own size, in bytes.
    fn heap_bytes(&self) -> usize {
        0
    }
}

/// A collection of records that sorts them, and writes them to temporary files whenever memory is full. The files vanish with the
/// process.
#[derive(Debug)]
pub struct RecordSorter<T> {
    folder: PathBuf,
    limit_bytes: usize,
    buffer: Vec<T>,
    buffer_bytes: usize,
    /// The runs by how often their records were merged.
    levels: Vec<Vec<File>>,
}

impl<T: SortRecord> RecordSorter<T> {
    /// Creates a sorter.
    ///
    /// * `folder`: the folder of temporary files.
    /// * `limit_bytes`: the memory for records.
    pub fn new(folder: &Path, limit_bytes: usize) -> Self {
        Self { folder: folder.to_owned(), limit_bytes, buffer: Vec::new(), buffer_bytes: 0, levels: Vec::new() }
    }

    /// Adds a record.
    pub fn push(&mut self, record: T) -> io::Result<()> {
        self.buffer_bytes += size_of::<T>() + record.heap_bytes();
        self.buffer.push(record);
        if self.buffer_bytes >= self.limit_bytes { self.spill() } else { Ok(()) }
    }

    /// Merges the records of several sorters in order.
    pub fn finish(sorters: Vec<Self>) -> io::Result<SortedRecords<T>> {
        let mut sources = Vec::new();
        for mut sorter in sorters {
            sorter.buffer.sort_unstable();
            sources.push(Source::Memory(sorter.buffer.into_iter()));
            for run in sorter.levels.into_iter().flatten() {
                sources.push(Source::open(run)?);
            }
        }
        SortedRecords::new(sources)
    }

    /// Writes the records in memory as a run.
    fn spill(&mut self) -> io::Result<()> {
        self.buffer.sort_unstable();
        self.buffer_bytes = 0;
        let run = write_run(&self.folder, std::mem::take(&mut self.buffer).into_iter().map(Ok))?;
        self.add_run(run, 0)
    }

    /// Adds a run to a level. Merges the level if it is full.
    fn add_run(&mut self, run: File, level: usize) -> io::Result<()> {
        if self.levels.len() <= level {
            self.levels.resize_with(level + 1, Vec::new);
        }
        let Some(runs) = self.levels.get_mut(level) else { return Ok(()) };
        runs.push(run);
        if runs.len() < RUNS_PER_MERGE {
            return Ok(());
        }
        let sources = std::mem::take(runs).into_iter().map(Source::open).collect::<io::Result<_>>()?;
        let merged = write_run(&self.folder, SortedRecords::<T>::new(sources)?)?;
        self.add_run(merged, level + 1)
    }
}

/// Writes sorted records to a temporary file.
fn write_run<T: SortRecord>(folder: &Path, records: impl Iterator<Item = io::Result<T>>) -> io::Result<File> {
    let mut writer = BufWriter::with_capacity(RUN_BUFFER_BYTES, tempfile::tempfile_in(folder)?);
    let mut bytes = Vec::new();
    for record in records {
        bytes.clear();
        record?.write(&mut bytes);
        writer.write_all(&bytes)?;
    }
    writer.into_inner().map_err(io::IntoInnerError::into_error)
}

/// Sorted records that are merged.
#[derive(Debug)]
enum Source<T> {
    Memory(std::vec::IntoIter<T>),
    Run(BufReader<File>),
}

impl<T: SortRecord> Source<T> {
    /// Opens a run at its start.
    fn open(mut run: File) -> io::Result<Self> {
        run.rewind()?;
        Ok(Self::Run(BufReader::with_capacity(RUN_BUFFER_BYTES, run)))
    }

    /// Returns the next record.
    fn next(&mut self) -> io::Result<Option<T>> {
        match self {
            Self::Memory(records) => Ok(records.next()),
            Self::Run(reader) => T::read(reader),
        }
    }
}

/// An iterator over sorted records.
#[derive(Debug)]
pub struct SortedRecords<T> {
    sources: Vec<Source<T>>,
    /// The next record of each source, with the index of the source.
    heads: BinaryHeap<Reverse<(T, usize)>>,
}

impl<T: SortRecord> SortedRecords<T> {
    /// Starts a merge.
    fn new(sources: Vec<Source<T>>) -> io::Result<Self> {
        let mut merge = Self { heads: BinaryHeap::with_capacity(sources.len()), sources };
        for index in 0..merge.sources.len() {
            merge.advance(index)?;
        }
        Ok(merge)
    }

    /// Takes the next record of a source into the heap.
    fn advance(&mut self, index: usize) -> io::Result<()> {
        if let Some(record) = self.sources.get_mut(index).map_or(Ok(None), Source::next)? {
            self.heads.push(Reverse((record, index)));
        }
        Ok(())
    }
}

impl<T: SortRecord> Iterator for SortedRecords<T> {
    type Item = io::Result<T>;

    fn next(&mut self) -> Option<io::Result<T>> {
        let Reverse((record, index)) = self.heads.pop()?;
        Some(self.advance(index).map(|()| record))
    }
}

/// Sorted records in a temporary file, which can be read several times.
#[derive(Debug)]
pub(crate) struct StoredRecords<T> {
    file: File,
    records: PhantomData<fn() -> T>,
}

impl<T: SortRecord> StoredRecords<T> {
    /// Writes sorted records to a temporary file.
    pub(crate) fn write(records: SortedRecords<T>, folder: &Path) -> io::Result<Self> {
        Ok(Self { file: write_run(folder, records)?, records: PhantomData })
    }

    /// Reads the records from the first one on. One reading at a time: all share the position in the file.
    pub(crate) fn read(&mut self) -> io::Result<SortedRecords<T>> {
        SortedRecords::new(vec![Source::open(self.file.try_clone()?)?])
    }
}

/// Reads an array of bytes. Returns `None` if the input ends before it.
pub(crate) fn read_array<const N: usize>(from: &mut impl Read) -> io::Result<Option<[u8; N]>> {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < N {
        match from.read(bytes.get_mut(filled..).unwrap_or_default()) {
            Ok(0) if filled == 0 => return Ok(None),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    impl SortRecord for u64 {
        fn write(&self, to: &mut Vec<u8>) {
            to.extend_from_slice(&self.to_be_bytes());
        }

        fn read(from: &mut impl Read) -> io::Result<Option<Self>> {
            Ok(read_array(from)?.map(u64::from_be_bytes))
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn records_are_sorted_in_memory_and_in_files(records in prop::collection::vec(any::<u64>(), 0..3_000), limit in 8_usize..40_000, sorters in 1_usize..4) {
            let folder = tempfile::tempdir().unwrap();
            let mut parts: Vec<RecordSorter<u64>> = (0..sorters).map(|_| RecordSorter::new(folder.path(), limit.max(64))).collect();
            for (index, record) in records.iter().enumerate() {
                parts[index % sorters].push(*record).unwrap();
            }
            let sorted: Vec<u64> = RecordSorter::finish(parts).unwrap().map(Result::unwrap).collect();
            let mut expected = records;
            expected.sort_unstable();
            prop_assert_eq!(&sorted, &expected);
            prop_assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "temporary files have no names");
            let mut again = RecordSorter::new(folder.path(), limit.max(64));
            expected.iter().for_each(|record| again.push(*record).unwrap());
            let mut stored = StoredRecords::write(RecordSorter::finish(vec![again]).unwrap(), folder.path()).unwrap();
            for _ in 0..2 {
                prop_assert_eq!(stored.read().unwrap().map(Result::unwrap).collect::<Vec<_>>(), expected.clone());
            }
        }
    }

    #[test]
    fn many_runs_need_few_open_files() {
        let folder = tempfile::tempdir().unwrap();
        let mut sorter = RecordSorter::new(folder.path(), 8);
        for record in (0..5_000_u64).rev() {
            sorter.push(record).unwrap();
        }
        assert!(
            sorter.levels.iter().all(|runs| runs.len() < RUNS_PER_MERGE),
            "{:?}",
            sorter.levels.iter().map(Vec::len).collect::<Vec<_>>()
        );
        let sorted: Vec<u64> = RecordSorter::finish(vec![sorter]).unwrap().map(Result::unwrap).collect();
        assert_eq!(sorted, (0..5_000).collect::<Vec<_>>());
    }
}
