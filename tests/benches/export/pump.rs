//! The byte pump on one core, from memory to nowhere.

use std::collections::BTreeSet;
use std::fs;
use std::hint::black_box;
use std::ops::Range;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream;
use headrace_core::cohort::{Entry, LeftOut, Roster};
use headrace_core::flow::work::run_task::WorkerSettings;
use headrace_core::job::anonymization::{ConfigName, Configuration, Deid, JobSecret, terms};
use headrace_core::job::folder::Folder;
use headrace_core::job::task::{Cursor, Lease, Work};
use headrace_core::job::{Job, JobState, Pass, Planned, Tally};
use headrace_core::lake::ndjson;
use headrace_core::lines::checkpoint::{Fill, OpenCheckpoint};
use headrace_core::lines::reading::{How, Reading};
use headrace_core::lines::selection::Selection;
use headrace_core::output::file::{Content, FileName, FragmentName, OutputFileName, Part, Tail};
use headrace_core::ports::{Access, ByteStream, Draft, OutputStore};
use headrace_core::request::{ExportRequest, Level};
use headrace_core::versions::key::Keys;
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::StoreError;
use headrace_core::vocab::ids::{Caller, JobId, TaskId};
use headrace_fhir::{Deidentification, FhirVersion, Instant as Moment, ResourceType, head};
use headrace_tests::lake;
use tokio::runtime::Builder;

use crate::BoxError;
use crate::lakes::middle_instant;
use crate::table::print;

/// Enough that caches do not flatter anybody.
const SAMPLE_BYTES: usize = 100_000_000;

/// As sources hand them out.
const BLOCK_BYTES: usize = 1 << 20;

/// Prints rates per core.
pub(crate) fn measure(dir: &Path, runs: usize) -> Result<(), BoxError> {
    let blocks = blocks(dir)?;
    let runtime = Builder::new_current_thread().build()?;
    let bytes: usize = blocks.iter().map(Bytes::len).sum();
    let mut to = vec![0; BLOCK_BYTES];
    let steps: [(&str, Step<'_>); 5] = [
        (
            "memcpy",
            Box::new(|block| {
                let to = to.get_mut(..block.len()).ok_or("a block is longer than a block")?;
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
                    black_box(head(line.text)?);
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
    let cases = cases(dir)?;
    let mut steps: Vec<(&str, Step<'_>)> = steps.into();
    for case in &cases {
        steps.push((case.name, pump(&runtime, case)?));
    }
    let mut times = vec![Vec::new(); steps.len()];
    for _ in 0..runs {
        for ((_, step), times) in steps.iter_mut().zip(&mut times) {
            let began = Instant::now();
            for block in &blocks {
                step(block)?;
            }
            times.push(began.elapsed());
        }
    }
    print("\none core, from memory                  median   of pass-through");
    let mut rates = Vec::new();
    for ((name, _), mut times) in steps.into_iter().zip(times) {
        times.sort_unstable();
        let median = times.get(times.len() / 2).map_or(0.0, Duration::as_secs_f64);
        rates.push((name, bytes as f64 / 1e9 / median));
    }
    let whole = rates.iter().find(|(name, _)| *name == PASS_THROUGH).map_or(1.0, |(_, rate)| *rate);
    for (name, rate) in rates {
        print(&format!("{name:<36} {rate:>6.2} GB/s {:>8.0} %", 100.0 * rate / whole));
    }
    Ok(())
}

/// What all others are compared with: every line, each speaking for itself.
const PASS_THROUGH: &str = "pump: pass-through";

/// Microsoft's sample of 193 rules, which is not ours to ship: measured where it lies here.
const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/vectors/anonymizer/samples/configuration-sample.json");

/// One way of reading a lake.
struct Case {
    name: &'static str,
    request: ExportRequest,
    pass: Pass,
    /// The patients of the group.
    members: Vec<String>,
    /// What resources are de-identified by.
    config: Option<String>,
}

/// A hundred of the lake's patients, or all of a smaller lake's.
const MEMBERS: usize = 100;

fn cases(dir: &Path) -> Result<Vec<Case>, BoxError> {
    let since = Some(Moment::parse(&middle_instant(dir)?)?);
    let all = ExportRequest::default;
    let members: Vec<String> = patients(dir)?.into_iter().take(MEMBERS).collect();
    let filtered = |queries: &[&str]| ExportRequest { type_filters: queries.iter().map(|query| (*query).to_owned()).collect(), ..all() };
    let case = |name, request, pass| Case { name, request, pass, members: Vec::new(), config: None };
    let deidentified = |name, config| Case { config: Some(config), ..case(name, all(), Pass::Direct) };
    let group = || ExportRequest { level: Level::Group("g".to_owned()), ..all() };
    let sample = fs::read_to_string(SAMPLE).ok();
    let mut cases = vec![
        case(PASS_THROUGH, all(), Pass::Direct),
        case("pump: the same, versions noted", all(), Pass::Noting),
        case("pump: _since, half", ExportRequest { since, ..all() }, Pass::Direct),
        case("pump: all patients", ExportRequest { level: Level::AllPatients, ..all() }, Pass::Direct),
        case("pump: all patients, versions noted", ExportRequest { level: Level::AllPatients, ..all() }, Pass::Noting),
        Case { members: members.clone(), ..case("pump: a group of 100", group(), Pass::Direct) },
        Case { members, ..case("pump: a group of 100, versions noted", group(), Pass::Noting) },
        case("pump: _typeFilter category", filtered(&["Observation?category=laboratory"]), Pass::Direct),
        case(
            "pump: _typeFilter category, date",
            filtered(&["Observation?category=laboratory&date=ge2015&date=lt2018-06-01"]),
            Pass::Direct,
        ),
        case("pump: _elements", ExportRequest { elements: vec!["subject".to_owned(), "code".to_owned()], ..all() }, Pass::Direct),
        deidentified("pump: 18 rules of our own", include_str!("../../samples/anonymization/study.json").to_owned()),
    ];
    cases.extend(sample.map(|config| deidentified("pump: Microsoft's safe harbor sample", config)));
    Ok(cases)
}

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

/// What is done to one block.
type Step<'a> = Box<dyn FnMut(&Bytes) -> Result<(), BoxError> + 'a>;

/// Blocks of whole lines from all files of the lake alike.
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

fn deid(config: &str) -> Result<Deid, BoxError> {
    let secret = JobSecret([7; 32]);
    let rules = Deidentification::read(config.as_bytes(), FhirVersion::default())?;
    Ok(Deid { rules: rules.with(&terms(&secret, Millis(1_769_846_400_000).day())), secret })
}

/// Feeds an [`OpenCheckpoint`] as a reading task does.
fn pump<'r>(runtime: &'r tokio::runtime::Runtime, case: &Case) -> Result<Step<'r>, BoxError> {
    let mut lease = lease(case);
    let patient = ResourceType::named("Patient").ok_or("no Patient")?;
    let keys = Keys::of(&lease.job.id);
    let entries = case.members.iter().map(|id| Entry { kind: patient, key: keys.key(patient, id.as_bytes()), is_late: false });
    let roster = (!case.members.is_empty()).then(|| Roster::of(&lease.job.id, entries));
    let deid = case.config.as_deref().map(deid).transpose()?;
    let selection = Selection::of(&lease.job, &WorkerSettings::default(), roster, deid)?;
    let mut reading = Reading::new(selection, How::First(case.pass));
    let mut page = OpenCheckpoint::new(&Nowhere, &lease);
    Ok(Box::new(move |block| {
        runtime.block_on(async {
            let mut from = 0;
            while let Fill::FullAt(at) = page.feed(block, 1, from, ("sample", 0), &mut reading).await? {
                drop(page.take_drafts());
                black_box(page.take_notes().count());
                lease.step += 1;
                page.turn(&lease);
                from = usize::try_from(at - 1)?;
            }
            Ok(())
        })
    }))
}

fn lease(case: &Case) -> Lease {
    let id = JobId::from_random([7; 16]);
    let planned = Planned {
        transaction_time: Millis(4_000_000_000_000),
        tasks: 1,
        source_bytes: 1,
        pass: case.pass,
        roster: None,
        left_out: LeftOut::default(),
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
        step: 1,
        tries: 1,
        until: Millis(u64::MAX),
        cursor: Cursor::default(),
        claim: None,
        tally: Tally::default(),
    }
}

/// A destination that keeps nothing.
struct Nowhere;

struct NoFile;

impl Draft for NoFile {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        black_box(bytes);
        Ok(())
    }

    async fn settle(self, _: FileName, _: Content) -> Result<(), StoreError> {
        Ok(())
    }
}

impl OutputStore for Nowhere {
    type Draft = NoFile;

    async fn check(&self, _: Option<&str>) -> Result<(), StoreError> {
        Ok(())
    }

    async fn configuration(&self, _: Option<&str>, _: &ConfigName, _: Option<&str>) -> Result<Configuration, StoreError> {
        Ok(Configuration::Absent)
    }

    async fn draft(&self, _: &Folder, _: FragmentName) -> Result<NoFile, StoreError> {
        Ok(NoFile)
    }

    async fn adopt(&self, _: &Folder, _: &Tail, _: OutputFileName) -> Result<(), StoreError> {
        Ok(())
    }

    fn read(&self, _: &Folder, _: &FragmentName, _: Range<u64>) -> ByteStream {
        Box::pin(stream::empty())
    }

    async fn grant(&self, _: &Folder, _: &Part) -> Result<Access, StoreError> {
        Err(StoreError::NotApplied { what: "nowhere", cause: "it keeps nothing".into() })
    }

    async fn sweep(&self, _: &Folder, _: &BTreeSet<OutputFileName>) -> Result<u64, StoreError> {
        Ok(0)
    }
}
