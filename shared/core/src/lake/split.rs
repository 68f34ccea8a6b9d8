//! Splits the slices that a read task has not read yet, so that another worker can take over a part of them.

use crate::job::task::{Cursor, Encoding, Slice, TaskSplit};

/// Splits slices in two parts of about the same stored size, at a place behind the cursor. Returns `None` if one of the parts would have
/// less than `min_bytes`.
///
/// A plain object is cut anywhere: a line belongs to the slice in which it begins. A compressed one is not cut, and the one that is being
/// read stays with its task.
pub fn split_slices(slices: &[Slice], cursor: Cursor, min_bytes: u64) -> Option<TaskSplit> {
    let current = cursor.item as usize;
    let left: Vec<u64> = (0..).zip(slices).map(|(index, slice)| bytes_left(index, slice, cursor)).collect();
    let half = left.iter().sum::<u64>() / 2;
    if half < min_bytes.max(1) {
        return None;
    }
    let mut before = 0;
    for (index, (slice, left)) in slices.iter().zip(&left).enumerate() {
        if before + left <= half {
            before += left;
            continue;
        }
        return match slice.encoding {
            Encoding::Plain => Some(cut(slices, index, slice.end - left + (half - before))),
            Encoding::Gzip | Encoding::Zstd => {
                // The nearer end of the object, but not the beginning of the one that is being read.
                let is_nearer_to_end = before + left - half < half - before;
                let boundary = if index <= current || is_nearer_to_end { index + 1 } else { index };
                let (kept, given) = slices.split_at_checked(boundary)?;
                let given_bytes: u64 = given.iter().map(|slice| slice.end - slice.start).sum();
                (given_bytes >= min_bytes.max(1)).then(|| TaskSplit { kept: kept.to_vec(), given: given.to_vec() })
            }
        };
    }
    None
}

/// Returns the stored size of a slice behind the cursor. Of the compressed object that is being read, it is not known how much is left: half.
fn bytes_left(index: usize, slice: &Slice, cursor: Cursor) -> u64 {
    let (current, size) = (cursor.item as usize, slice.end - slice.start);
    if index < current {
        return 0;
    }
    if index > current || cursor.offset == 0 {
        return size;
    }
    match slice.encoding {
        Encoding::Plain => slice.end - cursor.offset.clamp(slice.start, slice.end),
        Encoding::Gzip | Encoding::Zstd => size / 2,
    }
}

/// Cuts a plain slice at an offset, which is behind the cursor and before its end.
fn cut(slices: &[Slice], index: usize, offset: u64) -> TaskSplit {
    let (mut kept, mut given) = (slices.to_vec(), slices.get(index..).unwrap_or_default().to_vec());
    kept.truncate(index + 1);
    if let (Some(last), Some(first)) = (kept.last_mut(), given.first_mut()) {
        (last.end, first.start) = (offset, offset);
    }
    // At the beginning of a slice, nothing of it is left for its task.
    kept.retain(|slice| slice.start < slice.end);
    TaskSplit { kept, given }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::job::task::Pin;

    /// Returns a slice of the object with this number.
    fn slice(number: usize, encoding: Encoding, start: u64, end: u64) -> Slice {
        let pin = Pin { object: number.to_string(), etag: String::new(), size: end };
        Slice { pin, encoding, start, end, arrived_after_since: false }
    }

    /// Returns the total size of slices.
    fn size(slices: &[Slice]) -> u64 {
        slices.iter().map(|slice| slice.end - slice.start).sum()
    }

    #[test]
    fn a_plain_slice_is_cut_in_the_middle_of_what_is_left() {
        let slices = [slice(0, Encoding::Plain, 100, 200), slice(1, Encoding::Plain, 0, 50)];
        let split = split_slices(&slices, Cursor { item: 0, offset: 150 }, 10).unwrap();
        assert_eq!(split.kept, [slice(0, Encoding::Plain, 100, 200)]);
        assert_eq!(split.given, [slice(1, Encoding::Plain, 0, 50)]);
        let split = split_slices(&slices, Cursor { item: 0, offset: 110 }, 10).unwrap();
        assert_eq!((split.kept[0].end, split.given[0].start, split.given.len()), (180, 180, 2));
        assert_eq!(split_slices(&slices, Cursor { item: 1, offset: 40 }, 6), None);
    }

    #[test]
    fn a_compressed_object_is_never_cut() {
        let slices = [0, 1, 2].map(|number| slice(number, Encoding::Zstd, 0, 100));
        let split = split_slices(&slices, Cursor { item: 0, offset: 7_000 }, 10).unwrap();
        assert_eq!((split.kept, split.given), (slices[..2].to_vec(), slices[2..].to_vec()));
        let split = split_slices(&slices, Cursor { item: 1, offset: 1 }, 10).unwrap();
        assert_eq!((split.kept.len(), split.given.len()), (2, 1));
        assert_eq!(split_slices(&slices, Cursor { item: 2, offset: 1 }, 10), None);
        assert_eq!(split_slices(&slices[..1], Cursor::default(), 10), None);
    }

    proptest! {
        #[test]
        fn every_byte_behind_the_cursor_stays_in_one_part_and_what_was_read_stays_with_its_task(
            objects in prop::collection::vec((prop::bool::ANY, 0_u64..100, 1_u64..1_000), 1..8), item in 0_usize..8, part in 0_u64..1_000, min_bytes in 0_u64..300,
        ) {
            let slices: Vec<Slice> = (0..).zip(&objects).map(|(number, (is_plain, start, length))| {
                let (encoding, start) = if *is_plain { (Encoding::Plain, *start) } else { (Encoding::Zstd, 0) };
                slice(number, encoding, start, start + length)
            }).collect();
            let item = item % slices.len();
            let current = &slices[item];
            let offset = if part == 0 { 0 } else { current.start + part % (current.end - current.start) };
            let cursor = Cursor { item: u32::try_from(item).unwrap(), offset };
            if let Some(TaskSplit { kept, given }) = split_slices(&slices, cursor, min_bytes) {
                prop_assert_eq!(size(&kept) + size(&given), size(&slices));
                prop_assert!(kept.len() > item, "the current slice is gone");
                prop_assert!(size(&given) >= min_bytes.max(1));
                prop_assert_eq!(&kept[..item], &slices[..item]);
                prop_assert!(offset == 0 || kept[item].encoding != Encoding::Plain || kept[item].end > offset);
                // Together they are the same slices: the last one that is kept and the first one that is given may be two parts of one.
                let mut joined = kept.clone();
                let mut given = given;
                if let Some(last) = joined.last_mut() && last.pin == given[0].pin {
                    prop_assert_eq!((last.encoding, last.end), (Encoding::Plain, given[0].start));
                    last.end = given.remove(0).end;
                }
                joined.extend(given);
                prop_assert_eq!(joined, slices);
            }
        }
    }
}
