use headrace_fhir::definitions::ResourceType;
use proptest::prelude::*;

use super::*;
use crate::job::file::{FileSummary, Fragment, FragmentName};
use crate::job::task::Pin;

const PATIENT: OutputKind = OutputKind::Output(ResourceType::PATIENT);

/// Returns a slice of the object with this number.
fn slice(number: usize, encoding: Encoding, start: u64, end: u64) -> Slice {
    let pin = Pin { object: number.to_string(), etag: String::new(), size: end };
    Slice { pin, encoding, start, end, arrived_after_since: false }
}

/// Returns the whole fragment of the task with this number.
fn fragment(task: usize, kind: OutputKind, bytes: u64) -> FragmentPart {
    let name = FragmentName { kind, task: u32::try_from(task).unwrap(), attempt: 1, fencing_token: 1 };
    FragmentPart::whole(Fragment { name, summary: FileSummary { bytes, lines: 1, crc64: 0 } })
}

/// Returns the total size of inputs.
fn size<T: SplitInput>(inputs: &[T]) -> u64 {
    inputs.iter().map(SplitInput::size).sum()
}

#[test]
fn a_plain_slice_is_cut_in_the_middle_of_what_is_left() {
    let slices = [slice(0, Encoding::Plain, 100, 200), slice(1, Encoding::Plain, 0, 50)];
    let (kept, given) = split(&slices, Cursor { item: 0, offset: 150 }, 10).unwrap();
    assert_eq!((kept, given), (slices[..1].to_vec(), slices[1..].to_vec()));
    let (kept, given) = split(&slices, Cursor { item: 0, offset: 110 }, 10).unwrap();
    assert_eq!((kept[0].end, given[0].start, given.len()), (180, 180, 2));
    assert_eq!(split(&slices, Cursor { item: 1, offset: 40 }, 6), None);
}

#[test]
fn a_compressed_object_is_never_cut() {
    let slices = [0, 1, 2].map(|number| slice(number, Encoding::Zstd, 0, 100));
    let (kept, given) = split(&slices, Cursor { item: 0, offset: 7_000 }, 10).unwrap();
    assert_eq!((kept, given), (slices[..2].to_vec(), slices[2..].to_vec()));
    let (kept, given) = split(&slices, Cursor { item: 1, offset: 1 }, 10).unwrap();
    assert_eq!((kept.len(), given.len()), (2, 1));
    assert_eq!(split(&slices, Cursor { item: 2, offset: 1 }, 10), None);
    assert_eq!(split(&slices[..1], Cursor::default(), 10), None);
}

#[test]
fn a_fragment_is_cut_in_the_middle_of_what_is_left_and_the_new_task_gets_all_behind_it() {
    let fragments = [fragment(0, PATIENT, 100), fragment(1, PATIENT, 60)];
    let work = Work::Merge(fragments.to_vec());
    let TaskSplit { kept, given } = split_work(&work, Cursor { item: 0, offset: 20 }, 10).unwrap();
    assert_eq!(kept, Work::Merge(vec![fragments[0].with_range(0..90)]));
    assert_eq!(given, Work::Merge(vec![fragments[0].with_range(90..100), fragments[1].clone()]));
    assert_eq!((kept.bytes(), given.bytes()), (90, 70));
    // Both parts can be split again.
    let again = split_work(&given, Cursor { item: 0, offset: 96 }, 10).unwrap();
    let kept = vec![fragments[0].with_range(90..100), fragments[1].with_range(0..28)];
    assert_eq!(again, TaskSplit { kept: Work::Merge(kept), given: Work::Merge(vec![fragments[1].with_range(28..60)]) });
    assert_eq!(split_work(&work, Cursor { item: 1, offset: 42 }, 10), None);
}

#[test]
fn a_fragment_with_blocks_of_patients_is_never_cut() {
    let fragments = [0, 1, 2].map(|task| fragment(task, OutputKind::PatientBlocks, 100));
    let (kept, given) = split(&fragments, Cursor { item: 0, offset: 90 }, 10).unwrap();
    assert_eq!((kept, given), (fragments[..2].to_vec(), fragments[2..].to_vec()));
    assert_eq!(split(&fragments, Cursor { item: 2, offset: 10 }, 10), None);
}

#[test]
fn other_work_is_never_split() {
    assert_eq!(split_work(&Work::Finalize, Cursor::default(), 0), None);
}

/// Checks a split of inputs at a cursor, if there is one: every byte is in one part, and what was read stays with its task.
fn check_split<T: SplitInput + PartialEq + std::fmt::Debug>(
    inputs: &[T],
    (item, offset): (usize, u64),
    min_bytes: u64,
) -> Result<(), TestCaseError> {
    let cursor = Cursor { item: u32::try_from(item).unwrap(), offset };
    let Some((kept, mut given)) = split(inputs, cursor, min_bytes) else { return Ok(()) };
    prop_assert_eq!(size(&kept) + size(&given), size(inputs));
    prop_assert!(kept.len() > item, "the current input is gone");
    prop_assert!(size(&given) >= min_bytes.max(1));
    prop_assert_eq!(&kept[..item], &inputs[..item]);
    prop_assert!(offset == 0 || !kept[item].has_stored_offsets() || kept[item].byte_range().end > offset);
    // Together they are the same inputs: the last one that is kept and the first one that is given may be two parts of one.
    let mut joined = kept;
    let last = joined.len() - 1;
    let (end, whole) = (joined[last].byte_range().end, &inputs[last]);
    if end < whole.byte_range().end {
        prop_assert!(whole.can_be_cut());
        prop_assert_eq!(given.remove(0), whole.with_byte_range(end..whole.byte_range().end));
        joined[last] = whole.with_byte_range(joined[last].byte_range().start..whole.byte_range().end);
    }
    joined.extend(given);
    prop_assert_eq!(joined, inputs);
    Ok(())
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
        check_split(&slices, (item, offset), min_bytes)?;
        for kind in [PATIENT, OutputKind::PatientBlocks] {
            let fragments: Vec<FragmentPart> = (0..).zip(&objects).map(|(task, (is_whole, start, length))| {
                let whole = fragment(task, kind, start + length);
                if *is_whole { whole } else { whole.with_range(*start..start + length) }
            }).collect();
            let Range { start, end } = fragments[item].range();
            let offset = if part == 0 { 0 } else { start + part % (end - start) };
            check_split(&fragments, (item, offset), min_bytes)?;
        }
    }
}
