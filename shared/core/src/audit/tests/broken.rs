//! Whatever is done to sealed files shows.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::audit::chain::{Claim, Standing};
use crate::audit::verify::{Broken, Followed, Verifier};

type Files = BTreeMap<AuditFileName, Vec<u8>>;

/// Files of so many records each, a day apart now and then; and what the job table says of them.
fn sealed(sizes: &[usize]) -> (Files, Standing) {
    let (mut files, mut head) = (Files::new(), Head::begin(Day::of(AT)));
    for (index, size) in (0_u64..).zip(sizes) {
        let at = Millis(AT.0 + index / 2 * 86_400_000);
        let entries: Vec<AuditEntry> = (0..*size).map(|n| AuditEntry { at, id: format!("{index}-{n}"), ..hand_out() }).collect();
        head = head.on(Day::of(at));
        let name = head.next_file();
        let (bytes, end) = head.lines(&entries).unwrap();
        files.insert(name, bytes.to_vec());
        head = end;
    }
    (files, Standing { step: 1, head: Some(head), claim: None })
}

fn verify(files: &Files, standing: &Standing) -> Result<Followed, Broken> {
    let mut verifier = Verifier::default();
    for (name, bytes) in files {
        verifier.file(name, bytes)?;
    }
    verifier.must_end_at(standing)?;
    Ok(verifier.followed().expect("there is a file, or it is missing"))
}

fn lines(bytes: &[u8]) -> Vec<Vec<u8>> {
    bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
}

fn sizes() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(1_usize..5, 1..6)
}

/// A file by its place.
fn nth(files: &mut Files, place: Index) -> &mut Vec<u8> {
    let count = files.len();
    files.values_mut().nth(place.index(count)).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn sound_files_are_followed_to_their_end(sizes in sizes()) {
        let (files, standing) = sealed(&sizes);
        let followed = verify(&files, &standing).unwrap();
        prop_assert_eq!(followed.head.sequence, sizes.iter().sum::<usize>() as u64);
        prop_assert_eq!((followed.files, followed.first.first), (sizes.len() as u64, 1));
    }

    #[test]
    fn a_changed_byte_shows(sizes in sizes(), file: Index, byte: Index, by in 1_u8..=255) {
        let (mut files, standing) = sealed(&sizes);
        let bytes = nth(&mut files, file);
        let at = byte.index(bytes.len());
        bytes[at] ^= by;
        prop_assert!(verify(&files, &standing).is_err());
    }

    #[test]
    fn a_missing_line_shows(sizes in sizes(), file: Index, line: Index) {
        let (mut files, standing) = sealed(&sizes);
        let bytes = nth(&mut files, file);
        let mut kept = lines(bytes);
        kept.remove(line.index(kept.len()));
        *bytes = kept.concat();
        prop_assert!(verify(&files, &standing).is_err());
    }

    #[test]
    fn an_added_line_shows(sizes in sizes(), file: Index, from: Index, to: Index) {
        let (mut files, standing) = sealed(&sizes);
        let bytes = nth(&mut files, file);
        let mut kept = lines(bytes);
        let (from, to) = (from.index(kept.len()), to.index(kept.len() + 1));
        kept.insert(to, kept[from].clone());
        *bytes = kept.concat();
        prop_assert!(verify(&files, &standing).is_err());
    }

    /// Somebody who knows how the chain is made adds to its end, or to the end of a file.
    #[test]
    fn a_forged_line_shows(sizes in sizes(), file: Index) {
        let (mut files, standing) = sealed(&sizes);
        let count = files.len();
        let mut head = Head::begin(Day::of(AT));
        for (name, bytes) in files.iter().take(file.index(count) + 1) {
            head = crate::audit::verify::follow(Some(&head), name, bytes).unwrap();
        }
        let (forged, _) = head.lines(&[refused_kick_off()]).unwrap();
        nth(&mut files, file).extend_from_slice(&forged);
        prop_assert!(verify(&files, &standing).is_err());
    }

    #[test]
    fn lines_that_change_places_show(sizes in prop::collection::vec(2_usize..5, 1..4), file: Index, one: Index, other: Index) {
        let (mut files, standing) = sealed(&sizes);
        let bytes = nth(&mut files, file);
        let mut kept = lines(bytes);
        let (one, other) = (one.index(kept.len()), other.index(kept.len()));
        prop_assume!(one != other);
        kept.swap(one, other);
        *bytes = kept.concat();
        prop_assert!(verify(&files, &standing).is_err());
    }

    #[test]
    fn a_file_cut_short_shows(sizes in sizes(), file: Index, at: Index) {
        let (mut files, standing) = sealed(&sizes);
        let bytes = nth(&mut files, file);
        bytes.truncate(at.index(bytes.len()));
        prop_assert!(verify(&files, &standing).is_err());
    }

    /// Only the oldest may be gone, for their time is over; and that is told.
    #[test]
    fn a_missing_file_shows(sizes in prop::collection::vec(1_usize..5, 2..6), file: Index) {
        let (mut files, standing) = sealed(&sizes);
        let name = files.keys().nth(file.index(files.len())).unwrap().clone();
        files.remove(&name);
        match verify(&files, &standing) {
            Ok(followed) => prop_assert!(name.first == 1 && followed.first.first > 1),
            Err(_) => prop_assert!(name.first > 1),
        }
    }
}

#[test]
fn the_first_break_is_named() {
    let (files, standing) = sealed(&[3, 3]);
    let change = |change: &dyn Fn(&mut Files)| {
        let mut files = files.clone();
        change(&mut files);
        verify(&files, &standing).unwrap_err().to_string()
    };
    let edited = change(&|files| {
        let bytes = files.values_mut().next().unwrap();
        *bytes = String::from_utf8(bytes.clone()).unwrap().replacen("192.0.2.1", "192.0.2.9", 1).into_bytes();
    });
    assert_eq!(edited, "2026-01-31/0000000001.ndjson, line 2: record 1 was changed, or this one was put in its place");
    let torn = change(&|files| drop(files.pop_last()));
    assert_eq!(torn, "the files end with record 3, and the job table says 6: the last ones are missing");
    let gap = change(&|files| drop(files.insert(AuditFileName::parse("2026-01-31/0000000009.ndjson").unwrap(), b"x\n".to_vec())));
    assert!(gap.starts_with("2026-01-31/0000000009.ndjson: record 7 should come next, and this file begins with 9"), "{gap}");
}

#[test]
fn a_file_that_is_written_before_its_head_has_moved_is_no_break() {
    let (files, standing) = sealed(&[2, 2]);
    let (earlier, before) = sealed(&[2]);
    let (from, to) = (before.head.clone().unwrap(), standing.head.clone().unwrap());
    let claimed = Standing { claim: Some(Claim { from, to, records: Vec::new() }), ..before };
    assert!(verify(&files, &claimed).is_ok() && verify(&earlier, &claimed).is_ok());
    // One that was cut off is one, as the table knows where the file will end.
    let mut cut = files;
    let last = cut.values_mut().next_back().unwrap();
    *last = lines(last).swap_remove(0);
    let torn = verify(&cut, &claimed).unwrap_err().to_string();
    assert_eq!(torn, "the files end with record 3, and the job table says 4: the last ones are missing");
}
