//! Multiplies a small lake into a large one. Each copy of a line gets its own ids.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::compression::{CompressedFile, Compression};
use super::sample::Random;
use super::{BOM, LakeError, ResourceHead, check_is_empty, each_line, files, is_blank, trim_line};

/// Number of replacements that are tried for an id before multiplication fails.
const ATTEMPTS: u64 = 4096;

/// Amount of data that a multiplication wrote.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct MultiplyStats {
    /// Number of files, the same as in the source.
    pub files: u64,
    /// Number of lines that are not blank.
    pub lines: u64,
    /// Number of bytes before compression.
    pub bytes: u64,
}

/// Writes every line of the lake `from` to the empty folder `to`, `times` times, under the same file names.
///
/// Copy 0 is the original. In every other copy, each id of the lake is replaced in all strings by a new id of the same length
/// that occurs in no other copy. So references stay within their copy, and all copies have the same size. Ambiguous ids could be
/// ordinary words or numbers: they are shorter than 8 characters, or lack digits or other characters. Those are replaced only as
/// a resource's own `id` and in `Type/id`. Line endings, blank lines and a missing final newline are kept, so `times` = 1 copies
/// the lake unchanged.
pub fn multiply(from: &Path, to: &Path, times: u32, compression: Compression) -> Result<MultiplyStats, LakeError> {
    check_is_empty(to)?;
    let found = files(from)?;
    if found.is_empty() {
        return Err(LakeError::Empty(from.to_path_buf()));
    }
    let ids = IdMap::from_lake(from, &found, times)?;
    let mut names = HashSet::new();
    let mut written = MultiplyStats::default();
    for file in &found {
        let target = to.join(compression.rename(file));
        if !names.insert(target.clone()) {
            return Err(LakeError::SameName(target));
        }
        let output = CompressedFile::create(&target, compression).map_err(LakeError::at(&target))?;
        let mut copier = Copier { ids: &ids, target: &target, output, copy: Vec::new(), positions: Vec::new(), written };
        copier.copy_file(&from.join(file), times)?;
        written = copier.written;
        written.files += 1;
        copier.output.close().map_err(LakeError::at(&target))?;
    }
    Ok(written)
}

/// Writer of the copies of one file.
struct Copier<'a> {
    ids: &'a IdMap,
    target: &'a Path,
    output: CompressedFile,
    copy: Vec<u8>,
    positions: Vec<IdPosition>,
    written: MultiplyStats,
}

impl Copier<'_> {
    /// Writes all copies of a file. Each copy is written as a whole, because adjacent copies of a line would compress far better than
    /// a real lake.
    fn copy_file(&mut self, path: &Path, times: u32) -> Result<(), LakeError> {
        // Newlines separate lines. The last line gets one only if it had one in the original.
        let (mut needs_newline, mut has_begun) = (false, false);
        for copy in 0..times {
            needs_newline |= has_begun;
            each_line(path, |line, has_newline| {
                self.ids.find(line, &mut self.positions);
                self.fill(line, copy);
                self.write_copy(needs_newline)?;
                self.written.lines += u64::from(!is_blank(trim_line(line)));
                (needs_newline, has_begun) = (has_newline, true);
                Ok(())
            })?;
        }
        self.copy.clear();
        if needs_newline { self.write_copy(true) } else { Ok(()) }
    }

    /// Fills the buffer with the line, its ids replaced by those of the copy.
    fn fill(&mut self, line: &[u8], copy: u32) {
        self.copy.clear();
        self.copy.extend_from_slice(line);
        let Some(nth) = (copy as usize).checked_sub(1) else {
            return;
        };
        for position in &self.positions {
            if let Some(new_id) = self.ids.new_id(position.id, nth)
                && let Some(target) = self.copy.get_mut(position.at..position.at + new_id.len())
            {
                target.copy_from_slice(new_id);
            }
        }
        if self.copy.starts_with(BOM) {
            self.copy.drain(..BOM.len());
        }
    }

    /// Writes the buffer, after a newline if the line before has none yet.
    fn write_copy(&mut self, newline: bool) -> Result<(), LakeError> {
        if newline {
            self.output.write(b"\n").map_err(LakeError::at(self.target))?;
        }
        self.written.bytes += u64::from(newline) + self.copy.len() as u64;
        self.output.write(&self.copy).map_err(LakeError::at(self.target))
    }
}

/// Byte position of an id in a line, and the index of the id.
#[derive(Debug, Clone, Copy)]
struct IdPosition {
    at: usize,
    id: usize,
}

/// Ids of a lake and their replacements in each copy.
struct IdMap {
    /// Index into `known` of each id.
    indexes: HashMap<Vec<u8>, usize>,
    known: Vec<KnownId>,
    /// `Type/id` references to ids that could be ordinary words.
    ambiguous_references: HashSet<Vec<u8>>,
    /// Bit n is set if an id of n bytes exists. Saves a look-up for most tokens.
    lengths: u128,
}

/// Id of the lake and its replacements.
struct KnownId {
    length: usize,
    /// True if the id cannot be an ordinary word or number.
    is_distinctive: bool,
    /// Ids of the copies 1, 2, … as consecutive bytes.
    new_ids: Vec<u8>,
}

impl IdMap {
    /// Collects the ids of all resources in the files, and assigns `times - 1` replacements to each.
    fn from_lake(dir: &Path, found: &[PathBuf], times: u32) -> Result<Self, LakeError> {
        let mut ids = Self { indexes: HashMap::new(), known: Vec::new(), ambiguous_references: HashSet::new(), lengths: 0 };
        for file in found {
            each_line(&dir.join(file), |line, _| {
                if let Some(ResourceHead { resource_type: Some(kind), id: Some(id) }) = ResourceHead::parse(trim_line(line)) {
                    ids.add(&kind.0, &id.0);
                }
                Ok(())
            })?;
        }
        ids.assign_new_ids(times)?;
        Ok(ids)
    }

    /// Adds the id of a resource, unless it is not a FHIR id.
    fn add(&mut self, kind: &str, id: &str) {
        if id.is_empty() || !id.bytes().all(is_id_byte) {
            return;
        }
        let has_digit = id.bytes().any(|byte| byte.is_ascii_digit());
        let is_distinctive = id.len() >= 8 && has_digit && !id.bytes().all(|byte| byte.is_ascii_digit());
        if !is_distinctive {
            self.ambiguous_references.insert(format!("{kind}/{id}").into_bytes());
        }
        let next = self.known.len();
        if *self.indexes.entry(id.as_bytes().to_vec()).or_insert(next) == next {
            self.lengths |= bit(id.len());
            self.known.push(KnownId { length: id.len(), is_distinctive, new_ids: Vec::new() });
        }
    }

    /// Assigns a new id to every id and copy. New ids are unique because their hashes are.
    fn assign_new_ids(&mut self, times: u32) -> Result<(), LakeError> {
        let mut used: HashSet<u64> = self.indexes.keys().map(|id| hash(id)).collect();
        let mut in_order: Vec<(&Vec<u8>, &usize)> = self.indexes.iter().collect();
        in_order.sort_unstable_by_key(|(_, number)| **number);
        for ((id, _), known) in in_order.into_iter().zip(&mut self.known) {
            for copy in 1..u64::from(times) {
                let new_id = (0..ATTEMPTS).map(|attempt| similar_id(id, copy, attempt)).find(|id| used.insert(hash(id)));
                let new_id = new_id.ok_or_else(|| LakeError::IdsExhausted(String::from_utf8_lossy(id).into_owned()))?;
                known.new_ids.extend_from_slice(&new_id);
            }
        }
        Ok(())
    }

    /// Returns the replacement of an id in the `nth` copy, counted from 0.
    fn new_id(&self, id: usize, nth: usize) -> Option<&[u8]> {
        let known = self.known.get(id)?;
        known.new_ids.get(nth * known.length..(nth + 1) * known.length)
    }

    /// Finds every id of the lake in a line.
    fn find(&self, line: &[u8], positions: &mut Vec<IdPosition>) {
        positions.clear();
        let own = if self.ambiguous_references.is_empty() { None } else { own_id_position(line) };
        let mut before: Option<(usize, usize)> = None;
        let mut at = 0;
        while let Some(&byte) = line.get(at) {
            if byte == b'\\' {
                // The letter of an escape such as `\n` does not belong to the token after it.
                at += if line.get(at + 1) == Some(&b'u') { 6 } else { 2 };
                continue;
            }
            if !is_id_byte(byte) {
                at += 1;
                continue;
            }
            let start = at;
            while line.get(at).copied().is_some_and(is_id_byte) {
                at += 1;
            }
            if self.lengths & bit(at - start) != 0
                && let Some(token) = line.get(start..at)
                && let Some(&id) = self.indexes.get(token)
            {
                let is_distinctive = self.known.get(id).is_some_and(|known| known.is_distinctive);
                if is_distinctive || own == Some(start) || self.is_reference(line, before, start..at) {
                    positions.push(IdPosition { at: start, id });
                }
            }
            before = Some((start, at));
        }
    }

    /// Returns true if the token and the one before it form a `Type/id` reference.
    fn is_reference(&self, line: &[u8], before: Option<(usize, usize)>, token: std::ops::Range<usize>) -> bool {
        before.is_some_and(|(start, end)| {
            end + 1 == token.start
                && line.get(end) == Some(&b'/')
                && line.get(start..token.end).is_some_and(|reference| self.ambiguous_references.contains(reference))
        })
    }
}

/// Returns the byte position of the value of the resource's own `id`.
fn own_id_position(line: &[u8]) -> Option<usize> {
    match ResourceHead::parse(trim_line(line))?.id?.0 {
        Cow::Borrowed(id) => (id.as_ptr() as usize).checked_sub(line.as_ptr() as usize),
        Cow::Owned(_) => None,
    }
}

/// Returns the bit of an id's length. Lengths from 127 on share a bit, but FHIR ids have at most 64 characters.
fn bit(length: usize) -> u128 {
    1 << length.min(127)
}

/// Returns true if the byte may occur in a FHIR id.
fn is_id_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.'
}

/// Computes the FNV-1a hash.
fn hash(id: &[u8]) -> u64 {
    id.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Generates another id of the same length and form: digits for digits, letters for letters, a UUID of the same version and
/// variant for a UUID. Late attempts use any lower-case letter or digit, because short ids have few alternatives.
fn similar_id(id: &[u8], copy: u64, attempt: u64) -> Vec<u8> {
    let mut random = Random::new(hash(id) ^ copy.rotate_left(40) ^ attempt.rotate_left(20));
    let uuid = is_uuid(id);
    let mut replace = |index: usize, byte: u8| match byte {
        b'-' | b'.' => byte,
        _ if uuid && (index == 14 || index == 19) => byte,
        _ if uuid => random.letter(b"0123456789abcdef"),
        _ if attempt >= ATTEMPTS / 2 => random.letter(b"0123456789abcdefghijklmnopqrstuvwxyz"),
        b'0'..=b'9' => random.letter(b"0123456789"),
        b'A'..=b'Z' => random.letter(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
        _ => random.letter(b"abcdefghijklmnopqrstuvwxyz"),
    };
    id.iter().enumerate().map(|(index, byte)| replace(index, *byte)).collect()
}

/// Returns true for a UUID in lower case.
fn is_uuid(id: &[u8]) -> bool {
    id.len() == 36
        && id.iter().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        })
}
