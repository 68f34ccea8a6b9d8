//! Throughput of the export pipeline on one core, from memory to a store that discards everything.

use std::fs;
use std::hint::black_box;
use std::ops::Range;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream;
use headrace_core::cohort::{PatientSet, PatientSetMember};
use headrace_core::job::JobSecret;
use headrace_core::job::OmittedSubjects;
use headrace_core::job::file::{FileName, FileSummary, Fragment, FragmentName, OutputFile, OutputFileName};
use headrace_core::job::file_names::FileNames;
use headrace_core::job::folder::Folder;
use headrace_core::job::task::{Cursor, Lease, Work};
use headrace_core::job::{Counters, ExportTime, Job, JobState, Planned, ReadMode, Watermark};
use headrace_core::lake::ndjson;
use headrace_core::lines::checkpoint::{AddOutcome, OpenCheckpoint};
use headrace_core::lines::deid::JobDeidentifier;
use headrace_core::lines::line_processor::{LineProcessor, ReadPass};
use headrace_core::lines::selection::Selection;
use headrace_core::ports::ConfigLookup;
use headrace_core::ports::{ByteStream, FileAccess, FileRequest, FileWriter, OutputStore};
use headrace_core::request::ConfigName;
use headrace_core::request::ExportRequest;
use headrace_core::versions::key::ResourceKeyHasher;
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::ids::{Caller, JobId, TaskId};
use headrace_core::vocab::lake_settings::LakeSettings;
use headrace_core::vocab::level::Level;
use headrace_fhir::definitions::{FhirVersion, ResourceType};
use headrace_fhir::deid::DeidConfig;
use headrace_fhir::head::ResourceHead;
use headrace_fhir::instant::Instant as Moment;
use headrace_tests::lake;
use tokio::runtime::Builder;

use crate::BoxError;
use crate::lakes::middle_instant;
use crate::table::print;

/// Size of the measured data. Larger than CPU caches.
const SAMPLE_BYTES: usize = 100_000_000;

/// Size of blocks, as in the sources.
const BLOCK_BYTES: usize = 1 << 20;

/// Measures each step of the pipeline and prints its throughput per core.
pub(crate) fn measure(dir: &Path, runs: usize) -> Result<(), BoxError> {
    let blocks = blocks(dir)?;
    let runtime = Builder::new_current_thread().build()?;
    let bytes: usize = blocks.iter().map(Bytes::len).sum();
    let mut to = vec![0; BLOCK_BYTES];
    let steps: [(&str, Measurement<'_>); 5] = [
        (
            "memcpy",
            Box::new(|block| {
                let to = to.get_mut(..block.len()).ok_or("a block is longer than BLOCK_BYTES")?;
                to.copy_from_slice(block);
                black_box(to);
                Ok(())
            }),
        ),
        (
            "UTF-8 validation",
            Box::new(|block| {
                black_box(std::str::from_utf8(block)?);
                Ok(())
            }),
        ),
        (
            "newline split",
            Box::new(|block| {
                black_box(ndjson::lines(block, 1).count());
                Ok(())
            }),
        ),
        (
            "head() of every line",
            Box::new(|block| {
                for line in ndjson::lines(block, 1) {
                    black_box(ResourceHead::parse(line.text)?);
                }
                Ok(())
            }),
        ),
        (
            "serde_json::Value of every line",
            Box::new(|block| {
                for line in ndjson::lines(block, 1) {
                    black_box(serde_json::from_slice::<serde_json::Value>(line.text)?);
                }
                Ok(())
            }),
        ),
    ];
    // The baselines above run next to the pipeline itself, over the same blocks.
    let cases = cases(dir)?;
    let mut steps: Vec<(&str, Measurement<'_>)> = steps.into();
    for case in &cases {
        steps.push((case.name, pump(&runtime, case)?));
    }
    // Steps alternate within each run, so that other load on the machine affects all of them alike.
    let mut times = vec![Vec::new(); steps.len()];
    for _ in 0..runs {
        for ((_, step), times) in steps.iter_mut().zip(&mut times) {
            let start = Instant::now();
            for block in &blocks {
                step(block)?;
            }
            times.push(start.elapsed());
        }
    }
    print("\none core, from memory                  median   of pass-through");
    let mut rates = Vec::new();
    for ((name, _), mut times) in steps.into_iter().zip(times) {
        times.sort_unstable();
        let median = times.get(times.len() / 2).map_or(0.0, Duration::as_secs_f64);
        rates.push((name, bytes as f64 / 1e9 / median));
    }
    let pass_through = rates.iter().find(|(name, _)| *name == PASS_THROUGH).map_or(1.0, |(_, rate)| *rate);
    for (name, rate) in rates {
        print(&format!("{name:<36} {rate:>6.2} GB/s {:>8.0} %", 100.0 * rate / pass_through));
    }
    Ok(())
}

/// Baseline of the other cases: every line is exported.
const PASS_THROUGH: &str = "pump: pass-through";

/// Microsoft's safe harbor sample.
const SAFE_HARBOR_CONFIG: &str = include_str!("../../samples/anonymization/safe-harbor.json");

/// Export request whose throughput is measured.
struct Case {
    name: &'static str,
    request: ExportRequest,
    read_mode: ReadMode,
    /// Patients of the exported group.
    members: Vec<String>,
    /// Anonymization configuration.
    config: Option<String>,
}

/// Number of group members. A smaller lake has fewer.
const MEMBERS: usize = 100;

/// Returns the exports that are measured.
fn cases(dir: &Path) -> Result<Vec<Case>, BoxError> {
    let since = Some(Moment::parse(&middle_instant(dir)?)?);
    let all = ExportRequest::default;
    let members: Vec<String> = patients(dir)?.into_iter().take(MEMBERS).collect();
    let filtered = |queries: &[&str]| ExportRequest { type_filters: queries.iter().map(|query| (*query).to_owned()).collect(), ..all() };
    let case = |name, request, read_mode| Case { name, request, read_mode, members: Vec::new(), config: None };
    let deidentified = |name, config| Case { config: Some(config), ..case(name, all(), ReadMode::SinglePass) };
    let group = || ExportRequest { level: Level::Group("g".to_owned()), ..all() };
    let cases = vec![
        case(PASS_THROUGH, all(), ReadMode::SinglePass),
        case("pump: pass-through, optimistic", all(), ReadMode::Optimistic),
        case("pump: _since, half", ExportRequest { since, ..all() }, ReadMode::SinglePass),
        case("pump: all patients", ExportRequest { level: Level::AllPatients, ..all() }, ReadMode::SinglePass),
        case("pump: all patients, optimistic", ExportRequest { level: Level::AllPatients, ..all() }, ReadMode::Optimistic),
        Case { members: members.clone(), ..case("pump: a group of 100", group(), ReadMode::SinglePass) },
        Case { members, ..case("pump: a group of 100, optimistic", group(), ReadMode::Optimistic) },
        case("pump: _typeFilter category", filtered(&["Observation?category=laboratory"]), ReadMode::SinglePass),
        case(
            "pump: _typeFilter category, date",
            filtered(&["Observation?category=laboratory&date=ge2015&date=lt2018-06-01"]),
            ReadMode::SinglePass,
        ),
        case("pump: _elements", ExportRequest { elements: vec!["subject".to_owned(), "code".to_owned()], ..all() }, ReadMode::SinglePass),
        deidentified("pump: our sample for a study", include_str!("../../samples/anonymization/study.json").to_owned()),
        deidentified("pump: Microsoft's safe harbor sample", SAFE_HARBOR_CONFIG.to_owned()),
    ];
    Ok(cases)
}

/// Returns the ids of the patients in a lake, in the order of its lines.
fn patients(dir: &Path) -> Result<Vec<String>, BoxError> {
    let mut ids = Vec::new();
    for line in lake::lines(dir)? {
        if line.starts_with(b"{\"resourceType\":\"Patient\"") {
            let tree: serde_json::Value = serde_json::from_slice(&line)?;
            ids.extend(tree.get("id").and_then(serde_json::Value::as_str).map(str::to_owned));
        }
    }
    Ok(ids)
}

/// Function that processes one block.
type Measurement<'a> = Box<dyn FnMut(&Bytes) -> Result<(), BoxError> + 'a>;

/// Reads blocks of whole lines, with the same share of every file of the lake.
fn blocks(dir: &Path) -> Result<Vec<Bytes>, BoxError> {
    let files = lake::files(dir)?;
    let total = crate::lakes::stored_bytes(dir)?;
    let mut blocks = Vec::new();
    for file in files {
        let mut bytes = Bytes::from(fs::read(dir.join(file))?);
        let share = u64::try_from(bytes.len())? * SAMPLE_BYTES as u64 / total.max(SAMPLE_BYTES as u64);
        bytes.truncate(usize::try_from(share)?);
        while let Some(end) = memchr::memrchr(b'\n', bytes.get(..bytes.len().min(BLOCK_BYTES)).unwrap_or_default()) {
            blocks.push(bytes.split_to(end + 1));
        }
    }
    Ok(blocks)
}

/// Creates the de-identifier of a job with a fixed secret and date.
fn deid(config: &str) -> Result<JobDeidentifier, BoxError> {
    let secret = JobSecret([7; 32]);
    let config = DeidConfig::parse(config.as_bytes(), FhirVersion::default())?;
    Ok(JobDeidentifier::new(&config, secret, Millis(1_769_846_400_000)))
}

/// Builds a function that feeds an [`OpenCheckpoint`] like a read task.
fn pump<'r>(runtime: &'r tokio::runtime::Runtime, case: &Case) -> Result<Measurement<'r>, BoxError> {
    let mut lease = lease(case);
    let patient = ResourceType::PATIENT;
    let keys = ResourceKeyHasher::from_job(&lease.job.id);
    let members = case.members.iter().map(|id| PatientSetMember {
        resource_type: patient,
        key: keys.key(patient, id.as_bytes()),
        is_late_joiner: false,
    });
    let patient_set = (!case.members.is_empty()).then(|| PatientSet::new(&lease.job.id, members));
    let deid = case.config.as_deref().map(deid).transpose()?;
    let selection = Selection::new(&lease.job, &LakeSettings::default(), patient_set, deid)?;
    let mut reading = LineProcessor::new(selection, ReadPass::First(case.read_mode));
    let mut checkpoint = OpenCheckpoint::new(&NullOutputStore, &lease);
    Ok(Box::new(move |block| {
        runtime.block_on(async {
            let mut from = 0;
            while let AddOutcome::FullAt(at) = checkpoint.add_lines(block, 1, from, ("sample", 0), &mut reading).await? {
                drop(checkpoint.take_files());
                black_box(checkpoint.take_version_fragments().count());
                lease.fencing_token += 1;
                checkpoint.start_next(&lease);
                from = usize::try_from(at - 1)?;
            }
            Ok(())
        })
    }))
}

/// Creates a lease on a read task of the export.
fn lease(case: &Case) -> Lease {
    let id = JobId::from_random([7; 16]);
    let planned = Planned {
        time: ExportTime::new(Millis(4_000_000_000_000), Watermark::Unstated),
        tasks: 1,
        source_bytes: 1,
        read_mode: case.read_mode,
        patient_set: None,
        omitted: OmittedSubjects::default(),
        group_patients: 0,
    };
    let job = Job {
        state: JobState::Running,
        open_tasks: 1,
        planned: Some(planned),
        ..Job::accepted(id.clone(), Caller(Caller::LOCAL.to_owned()), case.request.clone(), Millis(0))
    };
    Lease {
        task: TaskId { job: id, task: 2 },
        work: Work::Read(Vec::new()),
        job,
        attempt: 1,
        fencing_token: 1,
        attempts_since_progress: 1,
        paused: Duration::ZERO,
        until: Millis(u64::MAX),
        cursor: Cursor::default(),
        reserved_files: Vec::new(),
        counters: Counters::default(),
        export_time: None,
        plan_progress: None,
    }
}

/// Output store that discards everything.
struct NullOutputStore;

struct NullFileWriter;

impl FileWriter for NullFileWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        black_box(bytes);
        Ok(())
    }

    async fn commit(self, _: FileName, _: FileSummary) -> Result<(), StoreError> {
        Ok(())
    }
}

impl OutputStore for NullOutputStore {
    type Writer = NullFileWriter;

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

    async fn new_fragment(&self, _: &Folder, _: FragmentName) -> Result<NullFileWriter, StoreError> {
        Ok(NullFileWriter)
    }

    async fn promote(&self, _: &Folder, _: &Fragment, _: OutputFileName) -> Result<(), StoreError> {
        Ok(())
    }

    async fn renumber(&self, _: &Folder, _: &OutputFile, _: u32) -> Result<(), StoreError> {
        Ok(())
    }

    fn read(&self, _: &Folder, _: &FragmentName, _: Range<u64>) -> ByteStream {
        Box::pin(stream::empty())
    }

    async fn file_access(&self, _: &Folder, _: &OutputFile, _: FileRequest) -> Result<FileAccess, StoreError> {
        Err(StoreError::NotApplied { store: "nowhere", cause: "it discards everything".into() })
    }

    async fn delete_all_except(&self, _: &Folder, _: &FileNames) -> Result<u64, StoreError> {
        Ok(0)
    }
}
