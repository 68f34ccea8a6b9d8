//! `OutputStore`.

use std::collections::BTreeSet;

use bytes::Bytes;
use crc_fast::{CrcAlgorithm, checksum};
use futures_util::TryStreamExt as _;
use headrace_core::job::folder::Folder;
use headrace_core::output::file::{Content, FileName, FragmentName, OutputFileName, OutputKind, Part, Tail};
use headrace_core::ports::{Access, Draft as _, OutputStore};
use headrace_core::vocab::error::StoreError;

use super::{BoxError, Held};

/// An empty destination, and what a client and an operator see of it: the deployment's, or one that a client has of its own.
pub trait Destination {
    /// The destination.
    type Store: OutputStore;

    /// The destination as a worker has it.
    fn store(&self) -> &Self::Store;

    /// What the client is registered with, where the destination is its own.
    fn own(&self) -> Option<String>;

    /// Another destination of the same store, as a client would be registered with it.
    fn another(&self) -> String;

    /// What a client gets.
    fn fetch(&self, access: Access) -> impl Future<Output = Result<Bytes, BoxError>>;

    /// Every file below the folder, by its name there, sorted.
    fn names(&self, folder: &Folder) -> impl Future<Output = Result<Vec<String>, BoxError>>;

    /// Destinations that cannot be used: a store, what is to be checked of it, and what the error must name.
    fn unusable(&self) -> Vec<(Self::Store, Option<String>, Vec<String>)>;
}

/// Runs the suite: `part_store_contract!(name, crate::open)`.
#[macro_export]
macro_rules! part_store_contract {
    ($name:ident, $open:path) => {
        $crate::contract_cases!(
            part_store,
            $name,
            $open,
            [
                a_settled_part_is_handed_out_as_it_was_written,
                a_tail_is_read_in_ranges,
                p4_a_name_is_never_given_to_other_bytes,
                a_draft_that_is_dropped_leaves_nothing_to_be_seen,
                a_whole_tail_is_adopted_once_and_again,
                what_is_written_anew_takes_the_place_of_what_lay_there,
                a_sweep_keeps_exactly_what_it_is_told,
                folders_do_not_disturb_each_other,
                destinations_do_not_disturb_each_other,
                a_file_larger_than_memory_allows_is_written_and_protected_all_the_same,
                a_destination_says_whether_it_can_be_used,
            ]
        );
    };
}

const PATH: &str = "place-1/20260131T080000-07070707070707070707070707070707";

/// A folder of the destination.
fn folder(bed: &impl Destination, path: &str) -> Folder {
    Folder { destination: bed.own(), path: path.to_owned(), key: None }
}

fn part(name: &str, number: u32) -> Result<OutputFileName, BoxError> {
    Ok(OutputFileName { kind: OutputKind::named(name).ok_or("no such kind")?, number })
}

fn tail(name: &str, step: u32) -> Result<FragmentName, BoxError> {
    Ok(FragmentName { kind: OutputKind::named(name).ok_or("no such kind")?, task: 2, attempt: 1, step })
}

fn content(bytes: &[u8]) -> Content {
    // No store looks at the number of lines.
    Content { bytes: bytes.len() as u64, lines: 7, crc64: checksum(CrcAlgorithm::Crc64Nvme, bytes) }
}

/// Lines of different content and length; those of a large text are longer.
fn text(seed: u64, at_least_bytes: usize) -> Bytes {
    let filler = "x".repeat(at_least_bytes / 500);
    let mut text = Vec::with_capacity(at_least_bytes + filler.len() + 100);
    for n in seed.. {
        text.extend_from_slice(format!("{{\"resourceType\":\"Patient\",\"id\":\"{n}\",\"x\":\"{filler}\"}}\n").as_bytes());
        if text.len() >= at_least_bytes {
            break;
        }
    }
    text.into()
}

/// Writes a file in pieces of this size and settles it.
async fn write(
    bed: &impl Destination,
    folder: &Folder,
    draft: FragmentName,
    name: FileName,
    bytes: &Bytes,
    piece: usize,
) -> Result<(), StoreError> {
    let mut draft = bed.store().draft(folder, draft).await?;
    let mut rest = bytes.clone();
    while !rest.is_empty() {
        draft.write(rest.split_to(piece.min(rest.len()))).await?;
    }
    draft.settle(name, content(bytes)).await
}

async fn granted(bed: &impl Destination, folder: &Folder, name: OutputFileName, bytes: &Bytes) -> Result<bool, BoxError> {
    let access = bed.store().grant(folder, &Part { name, content: content(bytes) }).await?;
    Ok(bed.fetch(access).await? == *bytes)
}

fn must_be_stale(result: Result<(), StoreError>) -> Held {
    match result {
        Err(StoreError::Stale) => Ok(()),
        other => Err(format!("it must be stale, and is {other:?}").into()),
    }
}

/// Whatever the size of the pieces it was written in.
pub async fn a_settled_part_is_handed_out_as_it_was_written(bed: &impl Destination) -> Held {
    let folder = folder(bed, PATH);
    let files = [(1, 1, 100), (2, 1_000, 100_000), (3, 3 << 20, 5 << 20), (4, 700_000, 5 << 20)];
    for (number, piece, size) in files {
        let (name, bytes) = (part("Patient", number)?, text(u64::from(number), size));
        write(bed, &folder, tail("Patient", number)?, FileName::Part(name), &bytes, piece).await?;
        assert!(granted(bed, &folder, name, &bytes).await?, "{name}");
    }
    assert_eq!(bed.names(&folder).await?, ["Patient-1.ndjson", "Patient-2.ndjson", "Patient-3.ndjson", "Patient-4.ndjson"]);
    Ok(())
}

/// From anywhere to anywhere.
pub async fn a_tail_is_read_in_ranges(bed: &impl Destination) -> Held {
    let folder = folder(bed, PATH);
    let (name, bytes) = (tail("error", 3)?, text(1, 9 << 20));
    write(bed, &folder, name, FileName::Tail(name), &bytes, 1 << 20).await?;
    let size = bytes.len() as u64;
    for range in [0..size, 0..1, (4 << 20) - 1..(4 << 20) + 1, size - 1..size, 7..7, size..size] {
        let read: Vec<Bytes> = bed.store().read(&folder, &name, range.clone()).try_collect().await?;
        let expected = bytes.slice(usize::try_from(range.start)?..usize::try_from(range.end)?);
        assert!(read.concat() == expected, "{range:?}");
    }
    let absent: Result<Vec<Bytes>, _> = bed.store().read(&folder, &tail("error", 4)?, 0..1).try_collect().await;
    assert!(absent.is_err());
    Ok(())
}

/// A late attempt may write the same again, and nothing else.
pub async fn p4_a_name_is_never_given_to_other_bytes(bed: &impl Destination) -> Held {
    let folder = folder(bed, PATH);
    let (name, bytes) = (part("Patient", 1)?, text(1, 10_000));
    let other_of_same_size = Bytes::from(vec![b'x'; bytes.len()]);
    write(bed, &folder, tail("Patient", 1)?, FileName::Part(name), &bytes, 4_000).await?;
    write(bed, &folder, tail("Patient", 2)?, FileName::Part(name), &bytes, 9_000).await?;
    for (step, other) in [(3, text(2, 500)), (4, text(3, 20_000)), (5, other_of_same_size)] {
        must_be_stale(write(bed, &folder, tail("Patient", step)?, FileName::Part(name), &other, 4_000).await)?;
        assert!(granted(bed, &folder, name, &bytes).await?);
    }
    assert_eq!(bed.names(&folder).await?, ["Patient-1.ndjson"]);
    Ok(())
}

/// Neither while it is written nor afterwards.
pub async fn a_draft_that_is_dropped_leaves_nothing_to_be_seen(bed: &impl Destination) -> Held {
    let folder = folder(bed, PATH);
    for size in [0, 100, 3 << 20] {
        let mut draft = bed.store().draft(&folder, tail("Patient", 1)?).await?;
        draft.write(text(1, size)).await?;
        drop(draft);
        assert!(bed.names(&folder).await?.is_empty());
    }
    Ok(())
}

/// The second time by an attempt that does not know of the first.
pub async fn a_whole_tail_is_adopted_once_and_again(bed: &impl Destination) -> Held {
    let folder = folder(bed, PATH);
    let (name, bytes) = (part("Patient", 1)?, text(1, 10_000));
    let source = Tail { name: tail("Patient", 1)?, content: content(&bytes) };
    write(bed, &folder, source.name, FileName::Tail(source.name), &bytes, 4_000).await?;
    for _ in 0..2 {
        bed.store().adopt(&folder, &source, name).await?;
        assert!(granted(bed, &folder, name, &bytes).await?);
    }
    // A draft that would have become the same part.
    write(bed, &folder, tail("Patient", 2)?, FileName::Part(name), &bytes, 4_000).await?;
    must_be_stale(write(bed, &folder, tail("Patient", 3)?, FileName::Part(name), &text(2, 10), 10).await)?;
    let other = Tail { name: tail("Patient", 4)?, content: content(&text(5, 500)) };
    write(bed, &folder, other.name, FileName::Tail(other.name), &text(5, 500), 500).await?;
    must_be_stale(bed.store().adopt(&folder, &other, name).await)?;
    assert!(granted(bed, &folder, name, &bytes).await?);
    // Swept meanwhile.
    bed.store().sweep(&folder, &BTreeSet::from([name])).await?;
    assert!(granted(bed, &folder, name, &bytes).await?);
    assert!(bed.store().adopt(&folder, &source, part("Patient", 2)?).await.is_err());
    assert_eq!(bed.names(&folder).await?, ["Patient-1.ndjson"]);
    Ok(())
}

/// Small and large, over other bytes and over its own; whoever does not write anew still cannot take its place.
pub async fn what_is_written_anew_takes_the_place_of_what_lay_there(bed: &impl Destination) -> Held {
    let folder = folder(bed, PATH);
    for (kind, size) in [("Patient", 10_000), ("Binary", 75 << 20)] {
        let (name, bytes, other) = (part(kind, 1)?, text(1, size), text(3, 700));
        write(bed, &folder, tail(kind, 1)?, FileName::Part(name), &other, 400).await?;
        for step in 2..4 {
            write(bed, &folder, tail(kind, step)?, FileName::Anew(name), &bytes, 1 << 20).await?;
            assert!(granted(bed, &folder, name, &bytes).await?);
        }
        must_be_stale(write(bed, &folder, tail(kind, 4)?, FileName::Part(name), &other, 400).await)?;
        assert!(granted(bed, &folder, name, &bytes).await?);
    }
    assert_eq!(bed.names(&folder).await?, ["Binary-1.ndjson", "Patient-1.ndjson"]);
    Ok(())
}

async fn fill(bed: &impl Destination, folder: &Folder) -> Result<u64, BoxError> {
    for (step, kind) in (1..).zip(["Patient", "Patient", "Observation", "error"]) {
        write(bed, folder, tail(kind, step)?, FileName::Part(part(kind, step)?), &text(1, 50), 50).await?;
        write(bed, folder, tail(kind, step + 10)?, FileName::Tail(tail(kind, step + 10)?), &text(1, 50), 50).await?;
    }
    Ok(8)
}

/// Parts by name; everything else goes, and the number of files is told.
pub async fn a_sweep_keeps_exactly_what_it_is_told(bed: &impl Destination) -> Held {
    let folder = folder(bed, PATH);
    let all = fill(bed, &folder).await?;
    let keep = BTreeSet::from([part("Patient", 2)?, part("error", 4)?, part("Device", 1)?]);
    assert_eq!(bed.store().sweep(&folder, &keep).await?, all - 2);
    assert_eq!(bed.names(&folder).await?, ["Patient-2.ndjson", "error-4.ndjson"]);
    assert_eq!(bed.store().sweep(&folder, &keep).await?, 0);
    assert_eq!(bed.store().sweep(&folder, &BTreeSet::new()).await?, 2);
    assert!(bed.names(&folder).await?.is_empty());
    assert_eq!(bed.store().sweep(&folder, &BTreeSet::new()).await?, 0);
    // What is swept can be written again.
    fill(bed, &folder).await?;
    Ok(())
}

/// Neither one beside another nor one whose name begins like another's.
pub async fn folders_do_not_disturb_each_other(bed: &impl Destination) -> Held {
    let paths = [PATH.to_owned(), format!("{PATH}0"), "20260131T080000-07070707070707070707070707070707".to_owned()];
    let folders = paths.map(|path| folder(bed, &path));
    let mut expected = Vec::new();
    for folder in &folders {
        fill(bed, folder).await?;
        expected = bed.names(folder).await?;
        assert_eq!(expected.len(), 8, "{expected:?}");
    }
    let [first, beside, without_container] = &folders;
    bed.store().sweep(first, &BTreeSet::new()).await?;
    assert!(bed.names(first).await?.is_empty());
    assert_eq!(bed.names(beside).await?, expected);
    assert_eq!(bed.names(without_container).await?, expected);
    Ok(())
}

/// The same folder in two destinations: what is written, read, adopted, handed out and swept is of one.
pub async fn destinations_do_not_disturb_each_other(bed: &impl Destination) -> Held {
    let here = folder(bed, PATH);
    let there = Folder { destination: Some(bed.another()), ..here.clone() };
    let (name, adopted) = (part("Patient", 1)?, part("Patient", 2)?);
    for (folder, bytes) in [(&here, text(1, 500)), (&there, text(2, 500))] {
        assert!(bed.names(folder).await?.is_empty());
        let source = Tail { name: tail("Patient", 2)?, content: content(&bytes) };
        write(bed, folder, tail("Patient", 1)?, FileName::Part(name), &bytes, 100).await?;
        write(bed, folder, source.name, FileName::Tail(source.name), &bytes, 100).await?;
        bed.store().adopt(folder, &source, adopted).await?;
    }
    for (folder, bytes) in [(&here, text(1, 500)), (&there, text(2, 500))] {
        assert!(granted(bed, folder, name, &bytes).await? && granted(bed, folder, adopted, &bytes).await?);
        let read: Vec<Bytes> = bed.store().read(folder, &tail("Patient", 2)?, 0..bytes.len() as u64).try_collect().await?;
        assert!(read.concat() == bytes);
    }
    let before = bed.names(&here).await?;
    assert_eq!(bed.store().sweep(&there, &BTreeSet::new()).await?, before.len() as u64);
    assert!(bed.names(&there).await?.is_empty());
    assert_eq!(bed.names(&here).await?, before);
    Ok(())
}

/// On S3 it is uploaded in pieces.
pub async fn a_file_larger_than_memory_allows_is_written_and_protected_all_the_same(bed: &impl Destination) -> Held {
    let folder = folder(bed, PATH);
    const SIZE: usize = 80 << 20;
    const PIECE: usize = 3_000_000;
    let (name, bytes) = (part("Binary", 1)?, text(1, SIZE));
    write(bed, &folder, tail("Binary", 1)?, FileName::Part(name), &bytes, PIECE).await?;
    assert!(granted(bed, &folder, name, &bytes).await?);
    assert_eq!(bed.names(&folder).await?, ["Binary-1.ndjson"]);
    must_be_stale(write(bed, &folder, tail("Binary", 2)?, FileName::Part(name), &text(2, SIZE), PIECE).await)?;
    assert!(granted(bed, &folder, name, &bytes).await?);
    write(bed, &folder, tail("Binary", 3)?, FileName::Part(name), &bytes, PIECE).await?;
    let mut dropped = bed.store().draft(&folder, tail("Binary", 4)?).await?;
    dropped.write(bytes).await?;
    drop(dropped);
    bed.store().sweep(&folder, &BTreeSet::from([name])).await?;
    assert_eq!(bed.names(&folder).await?, ["Binary-1.ndjson"]);
    Ok(())
}

/// Before anything is written to it.
pub async fn a_destination_says_whether_it_can_be_used(bed: &impl Destination) -> Held {
    bed.store().check(bed.own().as_deref()).await?;
    assert!(bed.names(&folder(bed, "")).await?.is_empty(), "looking leaves nothing behind");
    for (store, own, named) in bed.unusable() {
        match store.check(own.as_deref()).await {
            Err(StoreError::Misconfigured { remedy, .. }) => {
                for word in &named {
                    assert!(remedy.contains(word), "{remedy}");
                }
            }
            other => return Err(format!("{own:?} must be misconfigured, and is {other:?}").into()),
        }
    }
    Ok(())
}
