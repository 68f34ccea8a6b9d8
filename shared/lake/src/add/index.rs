//! An index of names (URLs of resources, identifiers) on disk, from hashes to short texts.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write as _};
use std::path::Path;

use crate::sorting::{SortRecord, SortedRecords, read_array};

/// The distance between the names that are kept in memory, in bytes of the file.
const BLOCK_BYTES: u64 = 16 << 10;

/// The number of names in memory beyond which every other one is dropped. It bounds the memory of an index to 24 MiB.
const MAX_BLOCKS: usize = 1 << 20;

/// The number of results that a reader remembers.
const MAX_REMEMBERED: usize = 16_384;

/// A name and what it stands for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NamedTarget {
    /// The hash of the name.
    pub(super) name: u128,
    /// The text that it stands for.
    pub(super) target: String,
}

impl SortRecord for NamedTarget {
    fn write(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.name.to_be_bytes());
        to.extend_from_slice(&u32::try_from(self.target.len()).unwrap_or(u32::MAX).to_be_bytes());
        to.extend_from_slice(self.target.as_bytes());
    }

    fn read(from: &mut impl Read) -> io::Result<Option<Self>> {
        let Some(name) = read_array(from)? else { return Ok(None) };
        let length = read_array(from)?.map(u32::from_be_bytes).ok_or(io::ErrorKind::UnexpectedEof)?;
        let mut target = vec![0; usize::try_from(length).unwrap_or_default()];
        from.read_exact(&mut target)?;
        let target = String::from_utf8(target).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
        Ok(Some(Self { name: u128::from_be_bytes(name), target }))
    }

    fn heap_bytes(&self) -> usize {
        self.target.capacity()
    }
}

/// The result of looking up a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Lookup {
    /// The absence of a thing with the name.
    Absent,
    /// One thing has the name.
    Found(String),
    /// Several things have the name.
    Ambiguous,
}

/// The index. Threads share it.
#[derive(Debug)]
pub(super) struct NameIndex {
    file: File,
    /// Lets one thread at a time move the position of the file.
    #[cfg(not(unix))]
    turn: std::sync::Mutex<()>,
    bytes: u64,
    /// The first name of each block, and its position.
    blocks: Vec<(u128, u64)>,
}

impl NameIndex {
    /// Writes an index to a temporary file. A name with several targets is ambiguous.
    pub(super) fn build(records: SortedRecords<NamedTarget>, folder: &Path) -> io::Result<Self> {
        let mut builder = IndexBuilder {
            writer: BufWriter::new(tempfile::tempfile_in(folder)?),
            bytes: 0,
            blocks: Vec::new(),
            block_bytes: BLOCK_BYTES,
            entry: Vec::new(),
        };
        let mut pending: Option<NamedTarget> = None;
        for record in records {
            let record = record?;
            match &mut pending {
                // An empty target marks an ambiguous name.
                Some(last) if last.name == record.name => {
                    if last.target != record.target {
                        last.target.clear();
                    }
                }
                Some(last) => builder.add(&std::mem::replace(last, record))?,
                None => pending = Some(record),
            }
        }
        pending.iter().try_for_each(|last| builder.add(last))?;
        let file = builder.writer.into_inner().map_err(io::IntoInnerError::into_error)?;
        Ok(Self {
            file,
            #[cfg(not(unix))]
            turn: std::sync::Mutex::default(),
            bytes: builder.bytes,
            blocks: builder.blocks,
        })
    }

    /// Returns what a name stands for.
    fn look_up(&self, name: u128) -> io::Result<Lookup> {
        let after = self.blocks.partition_point(|(first, _)| *first <= name);
        let Some((_, start)) = after.checked_sub(1).and_then(|block| self.blocks.get(block)) else { return Ok(Lookup::Absent) };
        let end = self.blocks.get(after).map_or(self.bytes, |(_, start)| *start);
        let mut block = vec![0; usize::try_from(end - start).unwrap_or_default()];
        self.read_at(*start, &mut block)?;
        let mut rest = block.as_slice();
        while let Some(entry) = NamedTarget::read(&mut rest)? {
            if entry.name == name {
                return Ok(if entry.target.is_empty() { Lookup::Ambiguous } else { Lookup::Found(entry.target) });
            }
            if entry.name > name {
                break;
            }
        }
        Ok(Lookup::Absent)
    }

    /// Reads bytes at a position.
    fn read_at(&self, position: u64, bytes: &mut [u8]) -> io::Result<()> {
        #[cfg(unix)]
        return std::os::unix::fs::FileExt::read_exact_at(&self.file, bytes, position);
        #[cfg(not(unix))]
        {
            use std::io::{Seek as _, SeekFrom};
            let _turn = self.turn.lock();
            (&self.file).seek(SeekFrom::Start(position))?;
            (&self.file).read_exact(bytes)
        }
    }
}

/// An index that is written.
struct IndexBuilder {
    writer: BufWriter<File>,
    bytes: u64,
    blocks: Vec<(u128, u64)>,
    block_bytes: u64,
    entry: Vec<u8>,
}

impl IndexBuilder {
    /// Appends a name.
    fn add(&mut self, record: &NamedTarget) -> io::Result<()> {
        if self.blocks.last().is_none_or(|(_, start)| self.bytes >= start + self.block_bytes) {
            self.blocks.push((record.name, self.bytes));
            if self.blocks.len() > MAX_BLOCKS {
                let mut index = 0;
                self.blocks.retain(|_| {
                    index += 1;
                    index % 2 == 1
                });
                self.block_bytes *= 2;
            }
        }
        self.entry.clear();
        record.write(&mut self.entry);
        self.bytes += self.entry.len() as u64;
        self.writer.write_all(&self.entry)
    }
}

/// The reader of an index for one thread. It remembers results: many resources refer to the same one.
#[derive(Debug)]
pub(super) struct IndexReader<'i> {
    index: &'i NameIndex,
    remembered: HashMap<u128, Lookup>,
}

impl<'i> IndexReader<'i> {
    /// Creates a reader that remembers no results yet.
    pub(super) fn new(index: &'i NameIndex) -> Self {
        Self { index, remembered: HashMap::new() }
    }

    /// Returns what a name stands for.
    pub(super) fn look_up(&mut self, name: u128) -> io::Result<Lookup> {
        if let Some(known) = self.remembered.get(&name) {
            return Ok(known.clone());
        }
        let found = self.index.look_up(name)?;
        if self.remembered.len() >= MAX_REMEMBERED {
            self.remembered.clear();
        }
        self.remembered.insert(name, found.clone());
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sorting::RecordSorter;

    #[test]
    fn each_name_is_found_and_a_name_with_two_targets_is_ambiguous() {
        let folder = tempfile::tempdir().unwrap();
        let mut sorter = RecordSorter::new(folder.path(), 10_000);
        let name = |number: u128| number.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_0c0d_1234_5677);
        for number in 1..5_000 {
            sorter.push(NamedTarget { name: name(number), target: format!("Patient/{number}") }).unwrap();
            if number % 3 == 0 {
                sorter.push(NamedTarget { name: name(number), target: format!("Patient/{}", number + number % 2) }).unwrap();
            }
        }
        let index = NameIndex::build(RecordSorter::finish(vec![sorter]).unwrap(), folder.path()).unwrap();
        assert!(index.blocks.len() > 5, "{}", index.blocks.len());
        let mut reader = IndexReader::new(&index);
        for number in 1..5_000 {
            let expected = if number % 6 == 3 { Lookup::Ambiguous } else { Lookup::Found(format!("Patient/{number}")) };
            for _ in 0..2 {
                assert_eq!(reader.look_up(name(number)).unwrap(), expected, "{number}");
            }
        }
        for number in [0, 5_000, 9_999] {
            assert_eq!(reader.look_up(name(number)).unwrap(), Lookup::Absent);
        }
    }
}
