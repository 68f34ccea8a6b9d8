//! Contract of `OutputStore`.

use bytes::Bytes;
use crc_fast::{CrcAlgorithm, checksum};
use futures_util::TryStreamExt as _;
use headrace_core::job::file::{FileName, FileSummary, Fragment, FragmentName, OutputFile, OutputFileName, OutputKind};
use headrace_core::job::file_names::FileNames;
use headrace_core::job::folder::Folder;
use headrace_core::ports::{FileAccess, FileRequest, FileWriter as _, OutputStore};
use headrace_core::vocab::error::StoreError;

use super::{BoxError, CaseResult};

/// Empty destination under test, of the deployment or of a single client, with what clients and operators see of it.
pub trait TestDestination {
    /// Store of the destination.
    type Store: OutputStore;

    /// Returns the store as a worker uses it.
    fn store(&self) -> &Self::Store;

    /// Returns the destination in the client's registration, or `None` for the deployment's destination.
    fn client_setting(&self) -> Option<String>;

    /// Returns another destination in the same store, in the form used in registrations.
    fn other_destination(&self) -> String;

    /// Downloads a file like a client.
    fn download(&self, access: FileAccess) -> impl Future<Output = Result<Bytes, BoxError>>;

    /// Lists the names of all files in the folder, sorted.
    fn file_names(&self, folder: &Folder) -> impl Future<Output = Result<Vec<String>, BoxError>>;

    /// Returns unusable destinations: the store, the client's setting, and the words that the error must contain.
    fn unusable(&self) -> Vec<(Self::Store, Option<String>, Vec<String>)>;
}

/// Runs the suite: `output_store_contract!(name, crate::open)`.
#[macro_export]
macro_rules! output_store_contract {
    ($name:ident, $open:path) => {
        $crate::contract_cases!(
            output_store,
            $name,
            $open,
            [
                a_committed_file_is_downloaded_as_written,
                a_fragment_is_read_in_ranges,
                p4_a_file_name_is_never_reused_for_other_bytes,
                a_dropped_writer_leaves_no_file,
                a_fragment_can_be_promoted_repeatedly,
                a_renumbered_file_replaces_another,
                a_replacing_write_replaces_the_existing_file,
                a_sweep_keeps_exactly_the_listed_files,
                a_sweep_goes_on_after_any_part,
                folders_are_independent,
                destinations_are_independent,
                a_multipart_file_is_written_once,
                check_detects_unusable_destinations,
            ]
        );
    };
}

const PATH: &str = "place-1/20260131T080000-07070707070707070707070707070707";

/// Returns the folder with this path in the destination.
fn folder(destination: &impl TestDestination, path: &str) -> Folder {
    Folder { destination: destination.client_setting(), path: path.to_owned(), encryption_key: None }
}

/// Returns the name of an output file of kind `name`.
fn output_file(name: &str, number: u32) -> Result<OutputFileName, BoxError> {
    Ok(OutputFileName { kind: OutputKind::parse(name).ok_or("no such kind")?, number })
}

/// Returns the name of a fragment of kind `name`, written by task 2 in its first attempt.
fn fragment(name: &str, fencing_token: u32) -> Result<FragmentName, BoxError> {
    Ok(FragmentName { kind: OutputKind::parse(name).ok_or("no such kind")?, task: 2, attempt: 1, fencing_token })
}

/// Returns the size and checksum of a file with this content.
fn summarize(bytes: &[u8]) -> FileSummary {
    // Stores ignore the number of lines.
    FileSummary { bytes: bytes.len() as u64, lines: 7, crc64: checksum(CrcAlgorithm::Crc64Nvme, bytes) }
}

/// Generates NDJSON of at least this size. Larger texts have longer lines.
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

/// Writes a file in chunks of `piece` bytes and commits it.
async fn write(
    destination: &impl TestDestination,
    folder: &Folder,
    writer: FragmentName,
    name: FileName,
    bytes: &Bytes,
    piece: usize,
) -> Result<(), StoreError> {
    let mut writer = destination.store().new_fragment(folder, writer).await?;
    let mut rest = bytes.clone();
    while !rest.is_empty() {
        writer.write(rest.split_to(piece.min(rest.len()))).await?;
    }
    writer.commit(name, summarize(bytes)).await
}

/// Returns true if a client downloads exactly these bytes.
async fn is_downloaded(destination: &impl TestDestination, folder: &Folder, name: OutputFileName, bytes: &Bytes) -> Result<bool, BoxError> {
    let access = destination.store().file_access(folder, &OutputFile { name, summary: summarize(bytes) }, FileRequest::Content).await?;
    Ok(destination.download(access).await? == *bytes)
}

/// Fails unless the result is [`StoreError::Stale`].
fn assert_stale(result: Result<(), StoreError>) -> CaseResult {
    match result {
        Err(StoreError::Stale) => Ok(()),
        other => Err(format!("the result must be stale, but is {other:?}").into()),
    }
}

/// Checks files of different sizes, written in chunks of different sizes.
pub async fn a_committed_file_is_downloaded_as_written(destination: &impl TestDestination) -> CaseResult {
    let folder = folder(destination, PATH);
    let files = [(1, 1, 100), (2, 1_000, 100_000), (3, 3 << 20, 5 << 20), (4, 700_000, 5 << 20)];
    for (number, piece, size) in files {
        let (name, bytes) = (output_file("Patient", number)?, text(u64::from(number), size));
        write(destination, &folder, fragment("Patient", number)?, FileName::Output(name), &bytes, piece).await?;
        assert!(is_downloaded(destination, &folder, name, &bytes).await?, "{name}");
    }
    assert_eq!(destination.file_names(&folder).await?, ["Patient-1.ndjson", "Patient-2.ndjson", "Patient-3.ndjson", "Patient-4.ndjson"]);
    Ok(())
}

/// Checks ranges at the start, at the end and across read boundaries.
pub async fn a_fragment_is_read_in_ranges(destination: &impl TestDestination) -> CaseResult {
    let folder = folder(destination, PATH);
    let (name, bytes) = (fragment("error", 3)?, text(1, 9 << 20));
    write(destination, &folder, name, FileName::Fragment(name), &bytes, 1 << 20).await?;
    let size = bytes.len() as u64;
    for range in [0..size, 0..1, (8 << 20) - 1..(8 << 20) + 1, size - 1..size, 7..7, size..size] {
        let read: Vec<Bytes> = destination.store().read(&folder, &name, range.clone()).try_collect().await?;
        let expected = bytes.slice(usize::try_from(range.start)?..usize::try_from(range.end)?);
        assert!(read.concat() == expected, "{range:?}");
    }
    let missing: Result<Vec<Bytes>, _> = destination.store().read(&folder, &fragment("error", 4)?, 0..1).try_collect().await;
    assert!(missing.is_err());
    Ok(())
}

/// Checks that a late attempt can commit the same bytes again, and no others.
pub async fn p4_a_file_name_is_never_reused_for_other_bytes(destination: &impl TestDestination) -> CaseResult {
    let folder = folder(destination, PATH);
    let (name, bytes) = (output_file("Patient", 1)?, text(1, 10_000));
    let other_of_same_size = Bytes::from(vec![b'x'; bytes.len()]);
    write(destination, &folder, fragment("Patient", 1)?, FileName::Output(name), &bytes, 4_000).await?;
    write(destination, &folder, fragment("Patient", 2)?, FileName::Output(name), &bytes, 9_000).await?;
    for (fencing_token, other) in [(3, text(2, 500)), (4, text(3, 20_000)), (5, other_of_same_size)] {
        assert_stale(write(destination, &folder, fragment("Patient", fencing_token)?, FileName::Output(name), &other, 4_000).await)?;
        assert!(is_downloaded(destination, &folder, name, &bytes).await?);
    }
    assert_eq!(destination.file_names(&folder).await?, ["Patient-1.ndjson"]);
    Ok(())
}

/// Checks that a dropped writer leaves no visible file, whatever it wrote.
pub async fn a_dropped_writer_leaves_no_file(destination: &impl TestDestination) -> CaseResult {
    let folder = folder(destination, PATH);
    for size in [0, 100, 3 << 20] {
        let mut writer = destination.store().new_fragment(&folder, fragment("Patient", 1)?).await?;
        writer.write(text(1, size)).await?;
        drop(writer);
        assert!(destination.file_names(&folder).await?.is_empty());
    }
    Ok(())
}

/// Checks that a second attempt can promote the same fragment, and that other bytes never replace the file.
pub async fn a_fragment_can_be_promoted_repeatedly(destination: &impl TestDestination) -> CaseResult {
    let folder = folder(destination, PATH);
    let (name, bytes) = (output_file("Patient", 1)?, text(1, 10_000));
    let source = Fragment { name: fragment("Patient", 1)?, summary: summarize(&bytes) };
    write(destination, &folder, source.name, FileName::Fragment(source.name), &bytes, 4_000).await?;
    for _ in 0..2 {
        destination.store().promote(&folder, &source, name).await?;
        assert!(is_downloaded(destination, &folder, name, &bytes).await?);
    }
    // A writer that commits the same file.
    write(destination, &folder, fragment("Patient", 2)?, FileName::Output(name), &bytes, 4_000).await?;
    assert_stale(write(destination, &folder, fragment("Patient", 3)?, FileName::Output(name), &text(2, 10), 10).await)?;
    let other = Fragment { name: fragment("Patient", 4)?, summary: summarize(&text(5, 500)) };
    write(destination, &folder, other.name, FileName::Fragment(other.name), &text(5, 500), 500).await?;
    assert_stale(destination.store().promote(&folder, &other, name).await)?;
    assert!(is_downloaded(destination, &folder, name, &bytes).await?);
    // After a sweep, the fragment cannot be promoted to another file.
    destination.store().delete_all_except(&folder, &FileNames::from([name])).await?;
    assert!(is_downloaded(destination, &folder, name, &bytes).await?);
    assert!(destination.store().promote(&folder, &source, output_file("Patient", 2)?).await.is_err());
    assert_eq!(destination.file_names(&folder).await?, ["Patient-1.ndjson"]);
    Ok(())
}

/// Checks that a file gets a second number, repeatedly and instead of another file, and that the first one is swept.
pub async fn a_renumbered_file_replaces_another(destination: &impl TestDestination) -> CaseResult {
    let folder = folder(destination, PATH);
    let (last, free) = (output_file("Patient", 9)?, output_file("Patient", 2)?);
    let bytes = text(1, 10_000);
    write(destination, &folder, fragment("Patient", 1)?, FileName::Output(last), &bytes, 4_000).await?;
    write(destination, &folder, fragment("Patient", 2)?, FileName::Output(free), &text(2, 700), 700).await?;
    for _ in 0..2 {
        destination.store().renumber(&folder, &OutputFile { name: last, summary: summarize(&bytes) }, 2).await?;
        assert!(is_downloaded(destination, &folder, free, &bytes).await?);
        assert!(is_downloaded(destination, &folder, last, &bytes).await?);
    }
    // A worker that wakes up late cannot replace the file.
    assert_stale(write(destination, &folder, fragment("Patient", 3)?, FileName::Output(free), &text(2, 10), 10).await)?;
    destination.store().delete_all_except(&folder, &FileNames::from([free])).await?;
    assert_eq!(destination.file_names(&folder).await?, ["Patient-2.ndjson"]);
    assert!(is_downloaded(destination, &folder, free, &bytes).await?);
    Ok(())
}

/// Checks small and large files, over other and over the same bytes. A normal write still cannot replace the file.
pub async fn a_replacing_write_replaces_the_existing_file(destination: &impl TestDestination) -> CaseResult {
    let folder = folder(destination, PATH);
    for (kind, size) in [("Patient", 10_000), ("Binary", 75 << 20)] {
        let (name, bytes, other) = (output_file(kind, 1)?, text(1, size), text(3, 700));
        write(destination, &folder, fragment(kind, 1)?, FileName::Output(name), &other, 400).await?;
        for fencing_token in 2..4 {
            write(destination, &folder, fragment(kind, fencing_token)?, FileName::Overwrite(name), &bytes, 1 << 20).await?;
            assert!(is_downloaded(destination, &folder, name, &bytes).await?);
        }
        assert_stale(write(destination, &folder, fragment(kind, 4)?, FileName::Output(name), &other, 400).await)?;
        assert!(is_downloaded(destination, &folder, name, &bytes).await?);
    }
    assert_eq!(destination.file_names(&folder).await?, ["Binary-1.ndjson", "Patient-1.ndjson"]);
    Ok(())
}

/// Writes four output files and four fragments to a folder, and returns their number.
async fn fill(destination: &impl TestDestination, folder: &Folder) -> Result<u64, BoxError> {
    for (fencing_token, kind) in (1..).zip(["Patient", "Patient", "Observation", "error"]) {
        write(destination, folder, fragment(kind, fencing_token)?, FileName::Output(output_file(kind, fencing_token)?), &text(1, 50), 50)
            .await?;
        write(
            destination,
            folder,
            fragment(kind, fencing_token + 10)?,
            FileName::Fragment(fragment(kind, fencing_token + 10)?),
            &text(1, 50),
            50,
        )
        .await?;
    }
    Ok(8)
}

/// Checks that a sweep removes all other files and returns their number.
pub async fn a_sweep_keeps_exactly_the_listed_files(destination: &impl TestDestination) -> CaseResult {
    let folder = folder(destination, PATH);
    let all = fill(destination, &folder).await?;
    let keep = FileNames::from([output_file("Patient", 2)?, output_file("error", 4)?, output_file("Device", 1)?]);
    assert_eq!(destination.store().delete_all_except(&folder, &keep).await?, all - 2);
    assert_eq!(destination.file_names(&folder).await?, ["Patient-2.ndjson", "error-4.ndjson"]);
    assert_eq!(destination.store().delete_all_except(&folder, &keep).await?, 0);
    assert_eq!(destination.store().delete_all_except(&folder, &FileNames::default()).await?, 2);
    assert!(destination.file_names(&folder).await?.is_empty());
    assert_eq!(destination.store().delete_all_except(&folder, &FileNames::default()).await?, 0);
    // Removed files can be written again.
    fill(destination, &folder).await?;
    Ok(())
}

/// Checks that a sweep that goes on at a recorded position neither repeats nor leaves out files, whatever else is deleted meanwhile.
pub async fn a_sweep_goes_on_after_any_part(destination: &impl TestDestination) -> CaseResult {
    let (folder, store) = (folder(destination, PATH), destination.store());
    let keep = FileNames::from([output_file("Patient", 2)?, output_file("Observation", 3)?]);
    for parts_before_other_sweep in 0..6 {
        let all = fill(destination, &folder).await?;
        let (mut deleted, mut position) = (0, None::<String>);
        for part in 0.. {
            if part == parts_before_other_sweep {
                // The file with the position may be gone.
                deleted += store.delete_all_except(&folder, &keep).await?;
            }
            let swept = store.delete_part_except(&folder, &keep, position.as_deref()).await?;
            deleted += swept.deleted;
            position = swept.next;
            if position.is_none() {
                break;
            }
        }
        deleted += store.delete_all_except(&folder, &keep).await?;
        assert_eq!(deleted, all - 2);
        assert_eq!(destination.file_names(&folder).await?, ["Observation-3.ndjson", "Patient-2.ndjson"]);
        assert_eq!(store.delete_all_except(&folder, &FileNames::default()).await?, 2);
    }
    Ok(())
}

/// Checks that a sweep of one folder keeps other folders, also one whose name starts with the same text.
pub async fn folders_are_independent(destination: &impl TestDestination) -> CaseResult {
    let paths = [PATH.to_owned(), format!("{PATH}0"), "20260131T080000-07070707070707070707070707070707".to_owned()];
    let folders = paths.map(|path| folder(destination, &path));
    let mut expected = Vec::new();
    for folder in &folders {
        fill(destination, folder).await?;
        expected = destination.file_names(folder).await?;
        assert_eq!(expected.len(), 8, "{expected:?}");
    }
    let [first, beside, without_container] = &folders;
    destination.store().delete_all_except(first, &FileNames::default()).await?;
    assert!(destination.file_names(first).await?.is_empty());
    assert_eq!(destination.file_names(beside).await?, expected);
    assert_eq!(destination.file_names(without_container).await?, expected);
    Ok(())
}

/// Checks that all operations on a folder of one destination leave the folder with the same path of another destination alone.
pub async fn destinations_are_independent(destination: &impl TestDestination) -> CaseResult {
    let here = folder(destination, PATH);
    let there = Folder { destination: Some(destination.other_destination()), ..here.clone() };
    let (name, promoted) = (output_file("Patient", 1)?, output_file("Patient", 2)?);
    for (folder, bytes) in [(&here, text(1, 500)), (&there, text(2, 500))] {
        assert!(destination.file_names(folder).await?.is_empty());
        let source = Fragment { name: fragment("Patient", 2)?, summary: summarize(&bytes) };
        write(destination, folder, fragment("Patient", 1)?, FileName::Output(name), &bytes, 100).await?;
        write(destination, folder, source.name, FileName::Fragment(source.name), &bytes, 100).await?;
        destination.store().promote(folder, &source, promoted).await?;
    }
    for (folder, bytes) in [(&here, text(1, 500)), (&there, text(2, 500))] {
        assert!(is_downloaded(destination, folder, name, &bytes).await? && is_downloaded(destination, folder, promoted, &bytes).await?);
        let read: Vec<Bytes> = destination.store().read(folder, &fragment("Patient", 2)?, 0..bytes.len() as u64).try_collect().await?;
        assert!(read.concat() == bytes);
    }
    let before = destination.file_names(&here).await?;
    assert_eq!(destination.store().delete_all_except(&there, &FileNames::default()).await?, before.len() as u64);
    assert!(destination.file_names(&there).await?.is_empty());
    assert_eq!(destination.file_names(&here).await?, before);
    Ok(())
}

/// Checks a file so large that S3 needs a multipart upload: it is downloaded as written, other bytes cannot replace it, and a dropped
/// writer leaves nothing.
pub async fn a_multipart_file_is_written_once(destination: &impl TestDestination) -> CaseResult {
    let folder = folder(destination, PATH);
    const SIZE: usize = 80 << 20;
    const PIECE: usize = 3_000_000;
    let (name, bytes) = (output_file("Binary", 1)?, text(1, SIZE));
    write(destination, &folder, fragment("Binary", 1)?, FileName::Output(name), &bytes, PIECE).await?;
    assert!(is_downloaded(destination, &folder, name, &bytes).await?);
    assert_eq!(destination.file_names(&folder).await?, ["Binary-1.ndjson"]);
    assert_stale(write(destination, &folder, fragment("Binary", 2)?, FileName::Output(name), &text(2, SIZE), PIECE).await)?;
    assert!(is_downloaded(destination, &folder, name, &bytes).await?);
    write(destination, &folder, fragment("Binary", 3)?, FileName::Output(name), &bytes, PIECE).await?;
    let mut dropped = destination.store().new_fragment(&folder, fragment("Binary", 4)?).await?;
    dropped.write(bytes).await?;
    drop(dropped);
    destination.store().delete_all_except(&folder, &FileNames::from([name])).await?;
    assert_eq!(destination.file_names(&folder).await?, ["Binary-1.ndjson"]);
    Ok(())
}

/// Checks that `check` writes nothing, and reports unusable destinations with a remedy.
pub async fn check_detects_unusable_destinations(destination: &impl TestDestination) -> CaseResult {
    destination.store().check(destination.client_setting().as_deref()).await?;
    assert!(destination.file_names(&folder(destination, "")).await?.is_empty(), "a check must not write files");
    for (store, client_setting, named) in destination.unusable() {
        match store.check(client_setting.as_deref()).await {
            Err(StoreError::Misconfigured { remedy, .. }) => {
                for word in &named {
                    assert!(remedy.contains(word), "{remedy}");
                }
            }
            other => return Err(format!("{client_setting:?} must be misconfigured, but the result is {other:?}").into()),
        }
    }
    Ok(())
}
