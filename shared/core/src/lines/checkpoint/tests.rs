use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use headrace_fhir::definitions::ResourceType;
use headrace_fhir::instant::Instant;
use proptest::prelude::*;

use super::*;
use crate::job::file::{FileName, Fragment, OutputFile, OutputFileName};
use crate::job::file_names::FileNames;
use crate::job::task::{Cursor, Work};
use crate::job::{ExportTime, Job, JobSettings, JobState, OmittedSubjects, Planned, ReadMode, Watermark};
use crate::lines::line_processor::ReadPass;
use crate::lines::selection::Selection;
use crate::ports::{ByteStream, ConfigLookup, FileAccess, FileRequest};
use crate::request::{ConfigName, ExportRequest};
use crate::vocab::clock::Millis;
use crate::vocab::ids::{Caller, JobId, TaskId};
use crate::vocab::lake_settings::LakeSettings;

const OBJECT: &str = "2026/Mixed \"1\".ndjson";
const SECRET: &str = "SECRET-VALUE";

/// A store that keeps files in memory.
#[derive(Clone, Default)]
struct MemoryOutputStore(Arc<Mutex<BTreeMap<String, Bytes>>>);

impl MemoryOutputStore {
    fn take(&self, name: FileName) -> Bytes {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&name.to_string()).unwrap_or_default()
    }
}

struct MemoryFileWriter(MemoryOutputStore, Vec<u8>);

impl FileWriter for MemoryFileWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        self.1.extend_from_slice(&bytes);
        Ok(())
    }

    async fn commit(self, name: FileName, summary: FileSummary) -> Result<(), StoreError> {
        let crc64 = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, &self.1);
        let lines = self.1.split_inclusive(|byte| *byte == b'\n');
        let lines = lines.filter(|line| !is_block_header(line.trim_ascii_end())).count() as u64;
        assert_eq!(summary, FileSummary { bytes: self.1.len() as u64, lines, crc64 });
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_string(), self.1.into());
        Ok(())
    }
}

impl OutputStore for MemoryOutputStore {
    type Writer = MemoryFileWriter;

    const BUFFERS_OPEN_FILES: bool = true;
    const COPIES_TO_PROMOTE: bool = false;

    async fn check(&self, _: Option<&str>) -> Result<(), StoreError> {
        Ok(())
    }

    async fn anonymization_config(&self, _: Option<&str>, _: &ConfigName, _: Option<&str>) -> Result<ConfigLookup, StoreError> {
        Ok(ConfigLookup::Absent)
    }

    async fn anonymization_keys(&self, _: Option<&str>, _: &ConfigName) -> Result<Option<Bytes>, StoreError> {
        Ok(None)
    }

    async fn new_fragment(&self, _: &Folder, _: FragmentName) -> Result<MemoryFileWriter, StoreError> {
        Ok(MemoryFileWriter(self.clone(), Vec::new()))
    }

    async fn promote(&self, _: &Folder, _: &Fragment, _: OutputFileName) -> Result<(), StoreError> {
        Err(StoreError::Stale)
    }

    async fn renumber(&self, _: &Folder, _: &OutputFile, _: u32) -> Result<(), StoreError> {
        Err(StoreError::Stale)
    }

    fn read(&self, _: &Folder, _: &FragmentName, _: Range<u64>) -> ByteStream {
        Box::pin(futures_util::stream::empty())
    }

    async fn file_access(&self, _: &Folder, _: &OutputFile, _: FileRequest) -> Result<FileAccess, StoreError> {
        Err(StoreError::Stale)
    }

    async fn delete_all_except(&self, _: &Folder, _: &FileNames) -> Result<u64, StoreError> {
        Err(StoreError::Stale)
    }
}

fn lease(request: ExportRequest, file_bytes: u64) -> Lease {
    let id = JobId::from_random([7; 16]);
    let job = Job {
        state: JobState::Running,
        settings: JobSettings { file_bytes, ..JobSettings::default() },
        open_tasks: 1,
        ..Job::accepted(id.clone(), Caller(Caller::LOCAL.into()), request, Millis(1_769_846_400_000))
    };
    Lease {
        task: TaskId { job: id, task: 2 },
        work: Work::Read(Vec::new()),
        job,
        attempt: 1,
        fencing_token: 1,
        attempts_since_progress: 1,
        paused: Duration::ZERO,
        until: Millis(0),
        cursor: Cursor::default(),
        reserved_files: Vec::new(),
        counters: Counters::default(),
        export_time: None,
        plan_progress: None,
    }
}

/// Returns a processor that exports each line by its own content.
fn single_pass_processor(lease: &Lease) -> LineProcessor {
    LineProcessor::new(Selection::new(&lease.job, &LakeSettings::default(), None, None).unwrap(), ReadPass::First(ReadMode::SinglePass))
}

/// A line of the lake and its expected result.
#[derive(Clone, Debug)]
struct LakeLine {
    stored: Vec<u8>,
    result: LineResult,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum LineResult {
    /// Exported as this line, without line feed, to a file of this kind.
    Exported(OutputKind, Vec<u8>),
    Skipped,
    Rejected,
    /// Rejected for its length, without its content.
    Overlong,
}

fn kind(name: &str) -> OutputKind {
    OutputKind::parse(name).unwrap()
}

/// Returns a request for patients and observations that changed after 2020.
fn request() -> ExportRequest {
    let types = ["Patient", "Observation"].into_iter().filter_map(ResourceType::parse).collect();
    ExportRequest { types: Some(types), since: Instant::parse("2020").ok(), ..ExportRequest::default() }
}

fn lake_line() -> impl Strategy<Value = LakeLine> {
    let resource = (0_usize..3, 2018_u16..2024, "[a-zß☃]{0,30}", any::<bool>(), 0_usize..3).prop_map(
        |(kind_index, year, filler, has_time, blanks)| {
            let name = ["Patient", "Observation", "Condition"][kind_index];
            let meta = if has_time { format!("\"meta\":{{\"lastUpdated\":\"{year}-06-01T00:00:00Z\"}},") } else { String::new() };
            let blanks = " ".repeat(blanks);
            let text = format!("{blanks}{{\"resourceType\":\"{name}\",{meta}\"n\":1.10,\"id\":\"{filler}1\"}}{blanks}").into_bytes();
            let is_wanted = name != "Condition" && (!has_time || year >= 2020);
            let result = if is_wanted { LineResult::Exported(kind(name), text.clone()) } else { LineResult::Skipped };
            (text, result)
        },
    );
    let blank = "[ \t]{0,3}".prop_map(|text| (text.into_bytes(), LineResult::Skipped));
    let garbage = prop_oneof![
        Just(SECRET.as_bytes().to_vec()),
        Just(format!("{{\"resourceType\":\"{SECRET}\",\"id\":\"1\"}}").into_bytes()),
        Just(format!("{{\"resourceType\":\"Patient\",\"id\":\"{SECRET}").into_bytes()),
        Just(format!("{{\"resourceType\":\"Patient\",\"{SECRET}\":1}}").into_bytes()),
        Just([SECRET.as_bytes(), b"\xff\xfe"].concat()),
    ];
    let rejected = garbage.prop_map(|text| (text, LineResult::Rejected));
    let overlong = Just((SECRET.as_bytes().to_vec(), LineResult::Overlong));
    let line = prop_oneof![12 => resource, 1 => blank, 2 => rejected, 1 => overlong];
    (line, prop_oneof![5 => Just("\n"), 1 => Just("\r\n")]).prop_map(|((mut stored, result), end)| {
        stored.extend_from_slice(end.as_bytes());
        LakeLine { stored, result }
    })
}

/// Generates lines, some with a byte order mark, and some with an incomplete line end or none at the end.
fn lake_lines() -> impl Strategy<Value = Vec<LakeLine>> {
    let last = prop_oneof![3 => Just(&b"\n"[..]), 1 => Just(&b""[..]), 1 => Just(&b"\r"[..])];
    (prop::collection::vec(lake_line(), 0..40), any::<bool>(), last).prop_map(|(mut lines, is_marked, last)| {
        // Two overlong lines are separated by at least one block.
        for index in 1..lines.len() {
            if lines[index - 1].result == LineResult::Overlong && lines[index].result == LineResult::Overlong {
                lines[index].result = LineResult::Rejected;
            }
        }
        if let Some(line) = lines.first_mut().filter(|line| is_marked && line.result != LineResult::Overlong) {
            line.stored.splice(..0, *b"\xef\xbb\xbf");
        }
        if let Some(line) = lines.last_mut() {
            let text = line.stored.trim_ascii_end().len().max(1);
            if line.result != LineResult::Skipped {
                if let LineResult::Exported(_, kept) = &mut line.result {
                    kept.truncate(kept.trim_ascii_end().len());
                }
                line.stored.truncate(text);
                line.stored.extend_from_slice(last);
            }
        }
        lines
    })
}

/// A checkpoint as it would be committed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Committed {
    full_kind: Option<OutputKind>,
    files: BTreeMap<OutputKind, Bytes>,
    counters: Counters,
    /// Offset of the cursor after it.
    cursor: usize,
}

fn commit(checkpoint: &mut OpenCheckpoint<'_, MemoryOutputStore>, store: &MemoryOutputStore, lease: &Lease, cursor: usize) -> Committed {
    checkpoint.report_unwritten_entries().now_or_never().unwrap().unwrap();
    let (full_kind, counters) = (checkpoint.full_kind(), checkpoint.counters);
    let files = checkpoint.take_files().into_iter().map(|(kind, open)| {
        let (name, content) = (FileName::Fragment(open.fragment), open.summary());
        open.into_writer().commit(name, content).now_or_never().unwrap().unwrap();
        (kind, store.take(name))
    });
    let files = files.collect();
    checkpoint.start_next(lease);
    Committed { full_kind, files, counters, cursor }
}

#[test]
fn many_lines_that_are_not_resources_are_reported_by_their_number() {
    let store = MemoryOutputStore::default();
    let lease = lease(request(), 64 << 20);
    let mut processor = single_pass_processor(&lease);
    let mut checkpoint = OpenCheckpoint::new(&store, &lease);
    let mut add = |object: &str, lines: usize| {
        let block = Bytes::from("}\n".repeat(lines));
        checkpoint.add_lines(&block, 0, 0, (object, 0), &mut processor).now_or_never().unwrap().unwrap();
    };
    add("one.ndjson", 1_000_000);
    add("two.ndjson", 200);
    add("three.ndjson", 201);
    let committed = commit(&mut checkpoint, &store, &lease, 0);
    assert_eq!(committed.counters.lines_rejected, 1_000_401);
    let errors = String::from_utf8(committed.files[&OutputKind::Error].to_vec()).unwrap();
    let lines: Vec<&str> = errors.lines().collect();
    assert_eq!(lines.len(), 201 + 200 + 201);
    assert!(lines[199].contains("object `one.ndjson`, byte 398: "), "{}", lines[199]);
    let summary =
        "999800 more lines of the lake were left out: object `one.ndjson`, the last at byte 1999998; 200 were reported one by one";
    assert!(lines[200].contains(summary), "{}", lines[200]);
    assert!(lines[601].contains("1 more lines of the lake were left out: object `three.ndjson`, the last at byte 400"), "{}", lines[601]);
}

#[test]
fn lines_of_many_objects_that_are_not_resources_are_reported_by_their_number() {
    let store = MemoryOutputStore::default();
    let lease = lease(request(), 64 << 20);
    let mut processor = single_pass_processor(&lease);
    let mut checkpoint = OpenCheckpoint::new(&store, &lease);
    let block = Bytes::from("}\n".repeat(100));
    let mut read = |checkpoint: &mut OpenCheckpoint<'_, MemoryOutputStore>, objects: std::ops::Range<u32>| {
        for object in objects {
            let object = format!("{object}.ndjson");
            checkpoint.add_lines(&block, 0, 0, (object.as_str(), 0), &mut processor).now_or_never().unwrap().unwrap();
        }
    };
    read(&mut checkpoint, 0..5_000);
    let committed = commit(&mut checkpoint, &store, &lease, 0);
    assert_eq!(committed.counters.lines_rejected, 500_000);
    let errors = String::from_utf8(committed.files[&OutputKind::Error].to_vec()).unwrap();
    let lines: Vec<&str> = errors.lines().collect();
    assert_eq!(lines.len(), 1_001);
    assert!(lines[999].contains("object `9.ndjson`, byte 198: "), "{}", lines[999]);
    let summary = "499000 more lines of the lake were left out in 4990 objects: the last is object `4999.ndjson`, byte 198";
    assert!(lines[1_000].contains(summary), "{}", lines[1_000]);
    // The next checkpoint has a limit of its own.
    read(&mut checkpoint, 0..2);
    let committed = commit(&mut checkpoint, &store, &lease, 0);
    assert_eq!(committed.files[&OutputKind::Error].iter().filter(|byte| **byte == b'\n').count(), 200);
}

#[test]
fn the_checkpoints_of_a_large_job_share_the_entries_and_their_totals_stay_exact() {
    let store = MemoryOutputStore::default();
    // Tasks, the stored bytes of the lake, and the entries of a checkpoint. A file of 64 MiB is one checkpoint.
    for (tasks, source_bytes, entries) in
        [(1, 0, 1_000), (100, 0, 1_000), (5_000, 0, 20), (2_500, 2_500_u64 << 26, 20), (1_000_000, 0, 1), (u32::MAX, u64::MAX, 1)]
    {
        let mut lease = lease(request(), 64 << 20);
        let time = ExportTime { transaction_time: Millis(0), planned_at: Millis(0), watermark: Watermark::Unstated };
        let planned = Planned {
            time,
            tasks,
            source_bytes,
            read_mode: ReadMode::SinglePass,
            patient_set: None,
            omitted: OmittedSubjects::default(),
            group_patients: 0,
        };
        lease.job.planned = Some(planned);
        let (mut processor, mut checkpoint) = (single_pass_processor(&lease), OpenCheckpoint::new(&store, &lease));
        let block = Bytes::from("}\n".repeat(10));
        for object in 0..200 {
            let object = format!("{object}.ndjson");
            checkpoint.add_lines(&block, 0, 0, (object.as_str(), 0), &mut processor).now_or_never().unwrap().unwrap();
        }
        let committed = commit(&mut checkpoint, &store, &lease, 0);
        assert_eq!(committed.counters.lines_rejected, 2_000);
        let errors = String::from_utf8(committed.files[&OutputKind::Error].to_vec()).unwrap();
        let lines: Vec<&str> = errors.lines().collect();
        assert_eq!(lines.len(), entries + 1, "{tasks} tasks: {errors}");
        let total = format!("{} more lines of the lake were left out in ", 2_000 - entries);
        assert!(lines[entries].contains(&total), "{tasks} tasks: {}", lines[entries]);
    }
}

/// Returns the checkpoints of a task that reads these lines from byte `begin`. A block ends after the lines that `cuts` selects.
fn checkpoints(lines: &[LakeLine], begin: usize, cuts: &[bool], file_bytes: u64, small_files_limit_bytes: u64) -> Vec<Committed> {
    let store = MemoryOutputStore::default();
    let lease = lease(request(), file_bytes);
    let mut processor = single_pass_processor(&lease);
    let mut checkpoint = OpenCheckpoint { small_files_limit_bytes, ..OpenCheckpoint::new(&store, &lease) };
    let mut committed = Vec::new();
    let (mut block, mut block_offset, mut offset) = (Vec::new(), begin, 0);
    let is_cut = |index: usize| cuts.get(index % cuts.len().max(1)).copied().unwrap_or(false);
    for (index, line) in lines.iter().enumerate() {
        let start = offset;
        offset += line.stored.len();
        if start < begin {
            continue;
        }
        let is_overlong = line.result == LineResult::Overlong;
        if !is_overlong {
            block.extend_from_slice(&line.stored);
        }
        let next_is_overlong = lines.get(index + 1).is_some_and(|line| line.result == LineResult::Overlong);
        if is_overlong || next_is_overlong || is_cut(index) || index + 1 == lines.len() {
            let bytes = Bytes::from(std::mem::take(&mut block));
            let mut from = 0;
            while from < bytes.len() {
                match checkpoint.add_lines(&bytes, block_offset as u64, from, (OBJECT, 0), &mut processor).now_or_never().unwrap().unwrap()
                {
                    AddOutcome::Added => from = bytes.len(),
                    AddOutcome::FullAt(at) => {
                        let at = usize::try_from(at).unwrap();
                        assert!(at > block_offset + from || checkpoint.counters != Counters::default(), "a checkpoint must make progress");
                        from = at - block_offset;
                        committed.push(commit(&mut checkpoint, &store, &lease, at));
                    }
                }
            }
            if is_overlong {
                checkpoint.report_overlong_line((OBJECT, start as u64), false).now_or_never().unwrap().unwrap();
            }
            block_offset = offset;
        }
    }
    committed.push(commit(&mut checkpoint, &store, &lease, offset));
    committed
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn exported_lines_are_written_once_byte_for_byte_and_rejected_lines_are_reported_without_their_content(
        lines in lake_lines(), cuts in prop::collection::vec(any::<bool>(), 1..10), file_bytes in 1_u64..2_000, small_files_bytes in 1_u64..1_500,
    ) {
        let mut expected: BTreeMap<OutputKind, Vec<u8>> = BTreeMap::new();
        let (mut rejected, mut offset, mut counters) = (Vec::new(), 0, Counters::default());
        for line in &lines {
            match &line.result {
                LineResult::Exported(kind, text) => {
                    expected.entry(*kind).or_default().extend([text.as_slice(), b"\n"].concat());
                    counters.resources += 1;
                }
                LineResult::Skipped => {}
                LineResult::Rejected | LineResult::Overlong => {
                    rejected.push(offset);
                    counters.lines_rejected += 1;
                }
            }
            offset += line.stored.len();
        }
        let checkpoints = checkpoints(&lines, 0, &cuts, file_bytes, small_files_bytes);
        let mut found: BTreeMap<OutputKind, Vec<u8>> = BTreeMap::new();
        for (kind, bytes) in checkpoints.iter().flat_map(|checkpoint| &checkpoint.files) {
            found.entry(*kind).or_default().extend_from_slice(bytes);
        }
        let errors = String::from_utf8(found.remove(&OutputKind::Error).unwrap_or_default()).unwrap();
        prop_assert_eq!(found, expected);
        prop_assert_eq!(checkpoints.iter().fold(Counters::default(), |sum, checkpoint| sum.plus(checkpoint.counters)), counters);
        prop_assert!(!errors.contains(SECRET), "{errors}");
        prop_assert_eq!(errors.lines().count(), rejected.len());
        for (line, offset) in errors.lines().zip(rejected) {
            let outcome: serde_json::Value = serde_json::from_str(line).unwrap();
            prop_assert_eq!(&outcome["resourceType"], "OperationOutcome");
            let diagnostics = outcome["issue"][0]["diagnostics"].as_str().unwrap_or_default();
            prop_assert!(diagnostics.contains(&format!("object `{OBJECT}`, byte {offset}:")), "{diagnostics}");
        }
    }

    #[test]
    fn a_file_is_full_at_the_first_line_that_reaches_its_size_and_at_most_one_file_of_a_checkpoint_is_full(
        lines in lake_lines(), cuts in prop::collection::vec(any::<bool>(), 1..10), file_bytes in 1_u64..2_000, small_files_bytes in 1_u64..1_500,
    ) {
        let checkpoints = checkpoints(&lines, 0, &cuts, file_bytes, small_files_bytes);
        for checkpoint in &checkpoints {
            for (kind, bytes) in &checkpoint.files {
                prop_assert!(bytes.ends_with(b"\n"));
                let last = bytes.split_inclusive(|byte| *byte == b'\n').next_back().map_or(0, <[u8]>::len);
                prop_assert!(((bytes.len() - last) as u64) < file_bytes);
                prop_assert_eq!(bytes.len() as u64 >= file_bytes, checkpoint.full_kind == Some(*kind));
            }
            let mut sizes: Vec<u64> = checkpoint.files.values().map(|bytes| bytes.len() as u64).collect();
            sizes.sort_unstable();
            sizes.pop();
            // The files other than the largest exceed the limit by at most one line.
            prop_assert!(sizes.iter().sum::<u64>() < small_files_bytes + 400);
        }
    }

    /// Compares attempts: a second one may find a file of the first one under the reserved name, so it must write the same bytes.
    #[test]
    fn checkpoints_depend_only_on_the_lines_and_not_on_blocks_or_the_start_of_the_attempt(
        lines in lake_lines(), cuts in prop::collection::vec(any::<bool>(), 1..10), others in prop::collection::vec(any::<bool>(), 1..10),
        file_bytes in 1_u64..2_000, small_files_bytes in 1_u64..1_500,
    ) {
        let first = checkpoints(&lines, 0, &cuts, file_bytes, small_files_bytes);
        prop_assert_eq!(&checkpoints(&lines, 0, &others, file_bytes, small_files_bytes), &first);
        for (index, checkpoint) in first.iter().enumerate().filter(|(index, _)| index + 1 < first.len()) {
            prop_assert_eq!(&checkpoints(&lines, checkpoint.cursor, &others, file_bytes, small_files_bytes), &first[index + 1..]);
        }
    }

    #[test]
    fn lines_of_a_fragment_fill_files_independently_of_blocks(
        lengths in prop::collection::vec(1_usize..60, 1..40), cuts in prop::collection::vec(any::<bool>(), 1..6), file_bytes in 1_u64..500,
    ) {
        let lines: Vec<Vec<u8>> = (b'a'..=b'z').cycle().zip(&lengths).map(|(letter, length)| [vec![letter; *length], b"\n".to_vec()].concat()).collect();
        let store = MemoryOutputStore::default();
        let lease = lease(request(), file_bytes);
        let read = |cuts: &[bool]| {
            let mut checkpoint = OpenCheckpoint::new(&store, &lease);
            let (mut files, mut block, mut offset) = (Vec::new(), Vec::new(), 0_u64);
            for (index, line) in lines.iter().enumerate() {
                block.extend_from_slice(line);
                if !cuts[index % cuts.len()] && index + 1 < lines.len() {
                    continue;
                }
                let bytes = Bytes::from(std::mem::take(&mut block));
                let mut from = 0;
                while from < bytes.len() {
                    match checkpoint.add_fragment_lines(&bytes, offset, from, OutputKind::Error).now_or_never().unwrap().unwrap() {
                        AddOutcome::Added => from = bytes.len(),
                        AddOutcome::FullAt(at) => {
                            from = usize::try_from(at - offset).unwrap();
                            files.extend(commit(&mut checkpoint, &store, &lease, 0).files.into_values());
                        }
                    }
                }
                offset += bytes.len() as u64;
            }
            files.extend(commit(&mut checkpoint, &store, &lease, 0).files.into_values());
            files
        };
        let files = read(&cuts);
        prop_assert_eq!(&files, &read(&[false]));
        prop_assert_eq!(files.concat(), lines.concat());
        for file in files.iter().rev().skip(1) {
            let last = file.split_inclusive(|byte| *byte == b'\n').next_back().map_or(0, <[u8]>::len);
            prop_assert!(file.len() as u64 >= file_bytes && ((file.len() - last) as u64) < file_bytes);
        }
    }
}

#[test]
fn a_checkpoint_with_all_resource_types_is_full_before_it_holds_too_many_files() {
    let text: String = ResourceType::all().map(|kind| format!("{{\"resourceType\":\"{kind}\",\"id\":\"1\"}}\n")).collect();
    let store = MemoryOutputStore::default();
    let everything = ExportRequest::default();
    let lease = lease(everything, 1 << 20);
    let (mut checkpoint, mut processor) = (OpenCheckpoint::new(&store, &lease), single_pass_processor(&lease));
    let block = Bytes::from(text);
    let (mut from, mut found) = (0, Vec::new());
    while from < block.len() {
        let outcome = checkpoint.add_lines(&block, 0, from, (OBJECT, 0), &mut processor).now_or_never().unwrap().unwrap();
        from = match outcome {
            AddOutcome::Added => block.len(),
            AddOutcome::FullAt(at) => usize::try_from(at).unwrap(),
        };
        let files = commit(&mut checkpoint, &store, &lease, from).files;
        assert!(files.len() <= FRAGMENTS_PER_CHECKPOINT);
        found.extend(files.into_keys());
    }
    assert_eq!(found, ResourceType::all().map(OutputKind::Output).collect::<Vec<_>>());
}
