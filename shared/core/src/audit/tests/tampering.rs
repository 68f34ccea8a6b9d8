//! Verification detects any change of sealed files.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::audit::chain::{ChainState, PendingFile};
use crate::audit::verify::{ChainError, VerifiedChain, Verifier, verify_file};

type Files = BTreeMap<AuditFileName, Vec<u8>>;

/// Returns files with the given numbers of records, two files per day, and the chain state in the job table.
fn sealed(sizes: &[usize]) -> (Files, ChainState) {
    let (mut files, mut head) = (Files::new(), ChainHead::new(Day::from_millis(AT)));
    for (index, size) in (0_u64..).zip(sizes) {
        let at = Millis(AT.0 + index / 2 * 86_400_000);
        let records: Vec<AuditRecord> = (0..*size).map(|n| AuditRecord { at, id: format!("{index}-{n}"), ..download_record() }).collect();
        head = head.advance_to(Day::from_millis(at));
        let name = head.next_file();
        let (bytes, end) = write_lines(&head, &records).unwrap();
        files.insert(name, bytes.to_vec());
        head = end;
    }
    (files, ChainState { revision: 1, head: Some(head), pending: None })
}

fn verify(files: &Files, state: &ChainState) -> Result<VerifiedChain, ChainError> {
    let mut verifier = Verifier::default();
    for (name, bytes) in files {
        verifier.verify_file(name, bytes)?;
    }
    verifier.verify_end(state)?;
    Ok(verifier.into_verified().expect("a chain without files has no valid end"))
}

fn lines(bytes: &[u8]) -> Vec<Vec<u8>> {
    bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
}

fn sizes() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(1_usize..5, 1..6)
}

/// Returns the file at `index`, modulo the number of files.
fn nth(files: &mut Files, index: Index) -> &mut Vec<u8> {
    let count = files.len();
    files.values_mut().nth(index.index(count)).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn unchanged_files_are_verified_to_their_end(sizes in sizes()) {
        let (files, state) = sealed(&sizes);
        let verified = verify(&files, &state).unwrap();
        prop_assert_eq!(verified.head.sequence, sizes.iter().sum::<usize>() as u64);
        prop_assert_eq!((verified.file_count, verified.first_file.first_sequence), (sizes.len() as u64, 1));
    }

    #[test]
    fn a_changed_byte_is_detected(sizes in sizes(), file: Index, byte: Index, by in 1_u8..=255) {
        let (mut files, state) = sealed(&sizes);
        let bytes = nth(&mut files, file);
        let at = byte.index(bytes.len());
        bytes[at] ^= by;
        prop_assert!(verify(&files, &state).is_err());
    }

    #[test]
    fn a_missing_line_is_detected(sizes in sizes(), file: Index, line: Index) {
        let (mut files, state) = sealed(&sizes);
        let bytes = nth(&mut files, file);
        let mut kept = lines(bytes);
        kept.remove(line.index(kept.len()));
        *bytes = kept.concat();
        prop_assert!(verify(&files, &state).is_err());
    }

    #[test]
    fn an_added_line_is_detected(sizes in sizes(), file: Index, from: Index, to: Index) {
        let (mut files, state) = sealed(&sizes);
        let bytes = nth(&mut files, file);
        let mut kept = lines(bytes);
        let (from, to) = (from.index(kept.len()), to.index(kept.len() + 1));
        kept.insert(to, kept[from].clone());
        *bytes = kept.concat();
        prop_assert!(verify(&files, &state).is_err());
    }

    /// Simulates an attacker who can compute the chain and appends to its end, or to the end of a file.
    #[test]
    fn a_forged_line_is_detected(sizes in sizes(), file: Index) {
        let (mut files, state) = sealed(&sizes);
        let count = files.len();
        let mut head = ChainHead::new(Day::from_millis(AT));
        for (name, bytes) in files.iter().take(file.index(count) + 1) {
            head = verify_file(Some(&head), name, bytes).unwrap();
        }
        let (forged, _) = write_lines(&head, &[rejected_kick_off()]).unwrap();
        nth(&mut files, file).extend_from_slice(&forged);
        prop_assert!(verify(&files, &state).is_err());
    }

    #[test]
    fn swapped_lines_are_detected(sizes in prop::collection::vec(2_usize..5, 1..4), file: Index, one: Index, other: Index) {
        let (mut files, state) = sealed(&sizes);
        let bytes = nth(&mut files, file);
        let mut kept = lines(bytes);
        let (one, other) = (one.index(kept.len()), other.index(kept.len()));
        prop_assume!(one != other);
        kept.swap(one, other);
        *bytes = kept.concat();
        prop_assert!(verify(&files, &state).is_err());
    }

    #[test]
    fn a_truncated_file_is_detected(sizes in sizes(), file: Index, at: Index) {
        let (mut files, state) = sealed(&sizes);
        let bytes = nth(&mut files, file);
        bytes.truncate(at.index(bytes.len()));
        prop_assert!(verify(&files, &state).is_err());
    }

    /// Permits only the oldest file to be missing, since its retention has ended. The result then shows it.
    #[test]
    fn a_missing_file_is_detected(sizes in prop::collection::vec(1_usize..5, 2..6), file: Index) {
        let (mut files, state) = sealed(&sizes);
        let name = files.keys().nth(file.index(files.len())).unwrap().clone();
        files.remove(&name);
        match verify(&files, &state) {
            Ok(verified) => prop_assert!(name.first_sequence == 1 && verified.first_file.first_sequence > 1),
            Err(_) => prop_assert!(name.first_sequence > 1),
        }
    }
}

#[test]
fn the_first_fault_is_reported() {
    let (files, state) = sealed(&[3, 3]);
    let change = |change: &dyn Fn(&mut Files)| {
        let mut files = files.clone();
        change(&mut files);
        verify(&files, &state).unwrap_err().to_string()
    };
    let edited = change(&|files| {
        let bytes = files.values_mut().next().unwrap();
        *bytes = String::from_utf8(bytes.clone()).unwrap().replacen("192.0.2.1", "192.0.2.9", 1).into_bytes();
    });
    assert_eq!(edited, "2026-01-31/0000000001.ndjson, line 2: record 1 was changed, or this record was replaced");
    let truncated = change(&|files| drop(files.pop_last()));
    assert_eq!(truncated, "the files end with record 3, but the job table says 6: the last records are missing");
    let gap = change(&|files| drop(files.insert(AuditFileName::parse("2026-01-31/0000000009.ndjson").unwrap(), b"x\n".to_vec())));
    assert!(gap.starts_with("2026-01-31/0000000009.ndjson: expected record 7 next, but this file starts with record 9"), "{gap}");
}

#[test]
fn a_file_written_before_the_head_moved_is_not_a_fault() {
    let (files, state) = sealed(&[2, 2]);
    let (earlier, before) = sealed(&[2]);
    let (head_before, head_after) = (before.head.clone().unwrap(), state.head.clone().unwrap());
    let pending = ChainState { pending: Some(PendingFile { head_before, head_after, records: Vec::new() }), ..before };
    assert!(verify(&files, &pending).is_ok() && verify(&earlier, &pending).is_ok());
    // A truncated pending file is a fault, since the job table knows where the file will end.
    let mut cut = files;
    let last = cut.values_mut().next_back().unwrap();
    *last = lines(last).swap_remove(0);
    let truncated = verify(&cut, &pending).unwrap_err().to_string();
    assert_eq!(truncated, "the files end with record 3, but the job table says 4: the last records are missing");
}
