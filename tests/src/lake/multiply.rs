//! Makes a large lake of a small one: every line again and again, each copy with ids of its own.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::codec::{Packing, Sink};
use super::sample::Draw;
use super::{BOM, Head, LakeError, bare, each_line, files, is_blank, must_be_empty};

/// How many spellings are tried before an id counts as used up.
const ATTEMPTS: u64 = 4096;

/// What a multiplication wrote.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Files, one for each file read.
    pub files: u64,
    /// Lines that are not blank.
    pub lines: u64,
    /// Bytes before packing.
    pub bytes: u64,
}

/// Writes every line of the lake `from` `times` times to the empty folder `to`, under the same file names, packed as
/// told.
///
/// Copy 0 is the original. In every other copy each id of the lake is replaced, wherever it stands in a string, by
/// another of the same length that occurs in no other copy; so references keep to their own copy and all copies have
/// the same size. Ids that might be ordinary words or numbers (shorter than 8, or without both digits and other
/// signs) are replaced only as a resource's own `id` and in `Type/id`. Line endings, blank lines and a missing final
/// newline stay as they are: once is the identity.
pub fn multiply(from: &Path, to: &Path, times: u32, packing: Packing) -> Result<Written, LakeError> {
    must_be_empty(to)?;
    let found = files(from)?;
    if found.is_empty() {
        return Err(LakeError::Empty(from.to_path_buf()));
    }
    let ids = Ids::gather(from, &found, times)?;
    let mut names = HashSet::new();
    let mut written = Written::default();
    for file in &found {
        let target = to.join(packing.rename(file));
        if !names.insert(target.clone()) {
            return Err(LakeError::SameName(target));
        }
        let sink = Sink::create(&target, packing).map_err(LakeError::at(&target))?;
        let mut copier = Copier { ids: &ids, target: &target, sink, copy: Vec::new(), spots: Vec::new(), written };
        copier.copy_file(&from.join(file), times)?;
        written = copier.written;
        written.files += 1;
        copier.sink.finish().map_err(LakeError::at(&target))?;
    }
    Ok(written)
}

struct Copier<'a> {
    ids: &'a Ids,
    target: &'a Path,
    sink: Sink,
    copy: Vec<u8>,
    spots: Vec<Spot>,
    written: Written,
}

impl Copier<'_> {
    /// One copy of the whole file after the other: copies of a line side by side would pack far better than a real lake.
    fn copy_file(&mut self, path: &Path, times: u32) -> Result<(), LakeError> {
        // A newline stands between two lines, and at the end only if it did in the original.
        let (mut owed, mut begun) = (false, false);
        for copy in 0..times {
            owed |= begun;
            each_line(path, |line, ended| {
                self.ids.find(line, &mut self.spots);
                self.fill(line, copy);
                self.put(owed)?;
                self.written.lines += u64::from(!is_blank(bare(line)));
                (owed, begun) = (ended, true);
                Ok(())
            })?;
        }
        self.copy.clear();
        if owed { self.put(true) } else { Ok(()) }
    }

    /// The line with the ids of one copy.
    fn fill(&mut self, line: &[u8], copy: u32) {
        self.copy.clear();
        self.copy.extend_from_slice(line);
        let Some(nth) = (copy as usize).checked_sub(1) else {
            return;
        };
        for spot in &self.spots {
            if let Some(fresh) = self.ids.fresh(spot.id, nth)
                && let Some(place) = self.copy.get_mut(spot.at..spot.at + fresh.len())
            {
                place.copy_from_slice(fresh);
            }
        }
        if self.copy.starts_with(BOM) {
            self.copy.drain(..BOM.len());
        }
    }

    /// Writes what was filled in, on a new line if the one before has not ended yet.
    fn put(&mut self, newline: bool) -> Result<(), LakeError> {
        if newline {
            self.sink.write(b"\n").map_err(LakeError::at(self.target))?;
        }
        self.written.bytes += u64::from(newline) + self.copy.len() as u64;
        self.sink.write(&self.copy).map_err(LakeError::at(self.target))
    }
}

/// A place in a line where an id stands.
#[derive(Debug, Clone, Copy)]
struct Spot {
    at: usize,
    id: usize,
}

/// All ids of a lake and what they become in each copy.
struct Ids {
    numbers: HashMap<Vec<u8>, usize>,
    known: Vec<Known>,
    /// `Type/id` of the ids that could be ordinary words.
    typed: HashSet<Vec<u8>>,
    /// Bit n is set if ids of n bytes occur, so that most tokens need no look-up.
    lengths: u128,
}

struct Known {
    length: usize,
    distinctive: bool,
    /// The ids of copies 1, 2, … one after the other.
    fresh: Vec<u8>,
}

impl Ids {
    fn gather(dir: &Path, found: &[PathBuf], times: u32) -> Result<Self, LakeError> {
        let mut ids = Self { numbers: HashMap::new(), known: Vec::new(), typed: HashSet::new(), lengths: 0 };
        for file in found {
            each_line(&dir.join(file), |line, _| {
                if let Some(Head { resource_type: Some(kind), id: Some(id) }) = Head::of(bare(line)) {
                    ids.add(&kind.0, &id.0);
                }
                Ok(())
            })?;
        }
        ids.renew(times)?;
        Ok(ids)
    }

    fn add(&mut self, kind: &str, id: &str) {
        if id.is_empty() || !id.bytes().all(is_id_byte) {
            return;
        }
        let has_digit = id.bytes().any(|byte| byte.is_ascii_digit());
        let distinctive = id.len() >= 8 && has_digit && !id.bytes().all(|byte| byte.is_ascii_digit());
        if !distinctive {
            self.typed.insert(format!("{kind}/{id}").into_bytes());
        }
        let next = self.known.len();
        if *self.numbers.entry(id.as_bytes().to_vec()).or_insert(next) == next {
            self.lengths |= bit(id.len());
            self.known.push(Known { length: id.len(), distinctive, fresh: Vec::new() });
        }
    }

    /// Gives every id one of its own per copy. Ids are kept apart by their hashes: different hashes, different ids.
    fn renew(&mut self, times: u32) -> Result<(), LakeError> {
        let mut taken: HashSet<u64> = self.numbers.keys().map(|id| hash(id)).collect();
        let mut in_order: Vec<(&Vec<u8>, &usize)> = self.numbers.iter().collect();
        in_order.sort_unstable_by_key(|(_, number)| **number);
        for ((id, _), known) in in_order.into_iter().zip(&mut self.known) {
            for copy in 1..u64::from(times) {
                let fresh = (0..ATTEMPTS).map(|attempt| respell(id, copy, attempt)).find(|id| taken.insert(hash(id)));
                let fresh = fresh.ok_or_else(|| LakeError::NoFreshId(String::from_utf8_lossy(id).into_owned()))?;
                known.fresh.extend_from_slice(&fresh);
            }
        }
        Ok(())
    }

    fn fresh(&self, id: usize, nth: usize) -> Option<&[u8]> {
        let known = self.known.get(id)?;
        known.fresh.get(nth * known.length..(nth + 1) * known.length)
    }

    /// Finds every id in a line.
    fn find(&self, line: &[u8], spots: &mut Vec<Spot>) {
        spots.clear();
        let own = if self.typed.is_empty() { None } else { own_id(line) };
        let mut before: Option<(usize, usize)> = None;
        let mut at = 0;
        while let Some(&byte) = line.get(at) {
            if byte == b'\\' {
                // The letter of an escape is no part of the word behind it.
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
                && let Some(&id) = self.numbers.get(token)
            {
                let distinctive = self.known.get(id).is_some_and(|known| known.distinctive);
                if distinctive || own == Some(start) || self.is_typed(line, before, start..at) {
                    spots.push(Spot { at: start, id });
                }
            }
            before = Some((start, at));
        }
    }

    /// Whether the token and the one before it read `Type/id`.
    fn is_typed(&self, line: &[u8], before: Option<(usize, usize)>, token: std::ops::Range<usize>) -> bool {
        before.is_some_and(|(start, end)| {
            end + 1 == token.start
                && line.get(end) == Some(&b'/')
                && line.get(start..token.end).is_some_and(|reference| self.typed.contains(reference))
        })
    }
}

/// Where the value of the resource's own `id` starts.
fn own_id(line: &[u8]) -> Option<usize> {
    match Head::of(bare(line))?.id?.0 {
        Cow::Borrowed(id) => (id.as_ptr() as usize).checked_sub(line.as_ptr() as usize),
        Cow::Owned(_) => None,
    }
}

/// Lengths from 127 on share a bit; FHIR ids end at 64.
fn bit(length: usize) -> u128 {
    1 << length.min(127)
}

/// The alphabet of a FHIR id.
fn is_id_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.'
}

/// FNV-1a.
fn hash(id: &[u8]) -> u64 {
    id.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Another id of the same length and look: digits for digits, letters for letters, UUIDs (version and variant kept) for
/// UUIDs. Late attempts take any small letter or digit, since short ids leave little choice.
fn respell(id: &[u8], copy: u64, attempt: u64) -> Vec<u8> {
    let mut draw = Draw::new(hash(id) ^ copy.rotate_left(40) ^ attempt.rotate_left(20));
    let uuid = is_uuid(id);
    let mut spell = |index: usize, byte: u8| match byte {
        b'-' | b'.' => byte,
        _ if uuid && (index == 14 || index == 19) => byte,
        _ if uuid => draw.letter(b"0123456789abcdef"),
        _ if attempt >= ATTEMPTS / 2 => draw.letter(b"0123456789abcdefghijklmnopqrstuvwxyz"),
        b'0'..=b'9' => draw.letter(b"0123456789"),
        b'A'..=b'Z' => draw.letter(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
        _ => draw.letter(b"abcdefghijklmnopqrstuvwxyz"),
    };
    id.iter().enumerate().map(|(index, byte)| spell(index, *byte)).collect()
}

fn is_uuid(id: &[u8]) -> bool {
    id.len() == 36
        && id.iter().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        })
}
