//! A reader that chains increments, over any interleaving of changes, late arrivals, watermarks and exports.
//!
//! Two writers fill the lake, each with the changes of its own resources, in any order and with any delay. The watermark object says up
//! to when both have written everything. After each export the reader's copy must be the source's state at the export's
//! `transactionTime`: nothing is lost, and nothing is from the future.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use headrace_core::ports::Clock as _;
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::lake_settings::{LakeVersions, LakeWatermark};
use headrace_fhir::instant::Instant;
use headrace_tests::flows::{
    CompletedExport, Deployment as _, DeploymentSettings, LocalDeployment, ManualClock, Result, ServiceProcess, run,
};
use proptest::prelude::*;
use serde_json::{Value, json};

/// The number of minutes of a history.
const MINUTES: u64 = 60;

/// The longest delay between a change and its arrival, in minutes.
const MAX_DELAY: u64 = 20;

/// The number of resources. Each belongs to one of two writers.
const RESOURCES: u8 = 4;

/// A change of a resource at the source.
#[derive(Clone, Copy, Debug)]
struct Change {
    resource: u8,
    /// The minute of the change. The changes of a resource have different times.
    at: u64,
    /// The minutes until the change is in the lake.
    delay: u64,
    is_deletion: bool,
}

/// A step between two minutes, besides arrivals.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The pipeline writes the watermark object. It stays this many minutes behind what it could claim.
    Watermark(u64),
    Export,
}

/// A history of the source, the lake and the reader.
#[derive(Clone, Debug)]
struct History {
    changes: Vec<Change>,
    /// Steps by their minute, in order.
    steps: Vec<(u64, Step)>,
}

fn history() -> impl Strategy<Value = History> {
    let change = (0..RESOURCES, 1..MINUTES, 0..=MAX_DELAY, prop::bool::weighted(0.3));
    let change = change.prop_map(|(resource, at, delay, is_deletion)| Change { resource, at, delay, is_deletion });
    let step = prop_oneof![(0_u64..4).prop_map(Step::Watermark), Just(Step::Export)];
    let steps = prop::collection::vec((1..MINUTES + MAX_DELAY, step), 2..9);
    (prop::collection::vec(change, 1..12), steps).prop_map(|(mut changes, mut steps)| {
        let mut taken = BTreeSet::new();
        changes.retain(|change| taken.insert((change.resource, change.at)));
        steps.sort_by_key(|(minute, _)| *minute);
        // After everything has arrived, the reader has everything.
        let end = MINUTES + MAX_DELAY + 1;
        steps.extend([(end, Step::Watermark(0)), (end, Step::Export)]);
        History { changes, steps }
    })
}

/// Versions by resource. A deleted resource has none.
type State = BTreeMap<String, u64>;

impl Change {
    /// Returns the resource's name.
    fn name(self) -> String {
        format!("Patient/r{}", self.resource)
    }

    /// Returns the line in the lake. The version number is the minute of the change.
    fn line(self, start: Millis) -> String {
        let changed = minute(start, self.at).instant();
        let meta = json!({ "lastUpdated": changed, "versionId": self.at.to_string() });
        let line = if self.is_deletion {
            let entry = json!([{ "request": { "method": "DELETE", "url": self.name() } }]);
            json!({ "resourceType": "Bundle", "type": "transaction", "meta": meta, "entry": entry })
        } else {
            json!({ "resourceType": "Patient", "id": format!("r{}", self.resource), "meta": meta })
        };
        format!("{line}\n")
    }
}

/// Returns the time of a minute of the history.
fn minute(start: Millis, number: u64) -> Millis {
    start + Duration::from_secs(number * 60)
}

/// Returns the state after those of the changes that are not later than `until`, in milliseconds since the start.
fn state(changes: &[Change], start: Millis, until: Millis) -> State {
    let mut changes: Vec<&Change> = changes.iter().filter(|change| minute(start, change.at) <= until).collect();
    changes.sort_by_key(|change| change.at);
    let mut state = State::new();
    for change in changes {
        if change.is_deletion {
            state.remove(&change.name());
        } else {
            state.insert(change.name(), change.at);
        }
    }
    state
}

/// A reader with a copy of the data.
#[derive(Debug, Default)]
struct Reader {
    copy: State,
    /// The `transactionTime` of the last export.
    since: Option<String>,
}

impl Reader {
    /// Applies an export to the copy.
    fn apply(&mut self, export: &CompletedExport) -> Result<()> {
        for deleted in export.deleted_references()? {
            self.copy.remove(&deleted);
        }
        for line in export.lines() {
            let json: Value = serde_json::from_slice(&line)?;
            let text = |pointer: &str| json.pointer(pointer).and_then(Value::as_str).ok_or_else(|| format!("no {pointer} in {json}"));
            self.copy.insert(format!("Patient/{}", text("/id")?), text("/meta/versionId")?.parse()?);
        }
        self.since = Some(export.manifest.transaction_time.clone());
        Ok(())
    }

    /// Returns the query of the next export.
    fn query(&self) -> String {
        self.since.as_ref().map_or_else(String::new, |since| format!("?_since={since}"))
    }
}

/// The lake while a history runs.
struct Pipeline {
    deployment: LocalDeployment,
    clock: ManualClock,
    start: Millis,
    /// The changes that have not arrived.
    pending: Vec<Change>,
    arrived: Vec<Change>,
    /// The content of the watermark object. It never goes back.
    stated: Millis,
}

impl Pipeline {
    /// Creates an empty lake and the pending changes.
    async fn new(history: &History) -> Result<Self> {
        let clock = ManualClock::default();
        let deployment = LocalDeployment::with_files(&[("README.md", b"")]).await?;
        let pending = history.changes.clone();
        Ok(Self { deployment, start: clock.now(), stated: clock.now(), clock, pending, arrived: Vec::new() })
    }

    /// Advances to a minute. Each change arrives in an object of its writer, at its own time.
    fn advance_to(&mut self, number: u64) -> Result<()> {
        let (mut due, pending): (Vec<Change>, Vec<Change>) = self.pending.iter().partition(|change| change.at + change.delay <= number);
        due.sort_by_key(|change| change.at + change.delay);
        for change in &due {
            let object = format!("writer-{}/{}-{}.ndjson", change.resource % 2, change.resource, change.at);
            let arrived = minute(self.start, change.at + change.delay);
            self.deployment.put_lake_file(&object, change.line(self.start).as_bytes(), arrived)?;
        }
        self.arrived.extend(due);
        self.pending = pending;
        self.clock.advance(minute(self.start, number).since(self.clock.now()));
        Ok(())
    }

    /// Returns up to when a writer has written everything, `slack` minutes early.
    fn complete_up_to(&self, writer: u8, slack: u64) -> Millis {
        let now = self.clock.now();
        let missing = self.pending.iter().filter(|change| change.resource % 2 == writer && minute(self.start, change.at) <= now);
        let before_missing = missing.map(|change| minute(self.start, change.at).0 - 1).min();
        Millis(before_missing.unwrap_or(now.0).min(now.0) - slack * 60_000)
    }

    /// Writes the watermark object: the earlier one of what the two writers have.
    async fn write_watermark(&mut self, slack: u64) -> Result<()> {
        let writers = [0, 1].map(|writer| self.complete_up_to(writer, slack));
        self.stated = writers.into_iter().min().unwrap_or(self.start).max(self.stated);
        let object = json!({ "completeUpTo": self.stated.instant(), "writers": writers.map(Millis::instant) });
        self.deployment.set_lake_object("_headrace/watermark.json", Some(object.to_string().into())).await
    }
}

/// Returns small settings with this watermark.
fn settings(versions: LakeVersions, watermark: LakeWatermark) -> DeploymentSettings {
    let mut settings = super::versions::small_settings(versions);
    settings.worker.lake.watermark = watermark;
    settings
}

/// Parses an instant of a manifest.
fn parse(instant: &str) -> Result<Millis> {
    Ok(Millis(u64::try_from(Instant::parse(instant)?.nanos() / 1_000_000)?))
}

/// Returns the number in the notice about what was left out, or 0 without a notice.
fn counted(export: &CompletedExport) -> Result<usize> {
    let Some(file) = export.files.get("error-1.ndjson") else { return Ok(0) };
    let text = String::from_utf8(file.to_vec())?;
    let number = text.split_once(r#""diagnostics":""#).and_then(|(_, text)| text.split(' ').next()).ok_or("no notice")?;
    Ok(number.parse()?)
}

/// Runs a history. `check` gets the pipeline, the reader before and after each export, and the export.
async fn replay(
    history: &History,
    settings: DeploymentSettings,
    mut check: impl FnMut(&Pipeline, Option<&str>, &Reader, &CompletedExport) -> Result<()>,
) -> Result<()> {
    let mut pipeline = Pipeline::new(history).await?;
    // Without an object the lake would be complete up to now.
    pipeline.write_watermark(0).await?;
    let mut reader = Reader::default();
    for (number, step) in &history.steps {
        pipeline.advance_to(*number)?;
        match step {
            Step::Watermark(slack) => pipeline.write_watermark(*slack).await?,
            Step::Export => {
                let service = ServiceProcess::start(&pipeline.deployment, &pipeline.clock, settings.clone());
                let status = service.kick_off(&reader.query()).await?;
                let completed = service.complete(&status).await?;
                let since = reader.since.clone();
                reader.apply(&completed)?;
                check(&pipeline, since.as_deref(), &reader, &completed)?;
            }
        }
    }
    Ok(())
}

/// Fails unless both are equal.
fn expect<T: PartialEq + std::fmt::Debug>(found: &T, expected: &T, what: &str) -> Result<()> {
    if found == expected { Ok(()) } else { Err(format!("{what}: found {found:?}, expected {expected:?}").into()) }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_reader_that_chains_since_has_the_source_at_each_watermark(history in history(), many in any::<bool>()) {
        let versions = if many { LakeVersions::Many } else { LakeVersions::Auto };
        let result = run(async || {
            replay(&history, settings(versions, LakeWatermark::Auto), |pipeline, _, reader, completed| {
                let time = parse(&completed.manifest.transaction_time)?;
                expect(&reader.copy, &state(&history.changes, pipeline.start, time), "the copy at the watermark")?;
                expect(&completed.manifest.error.len(), &0, "notices")?;
                if pipeline.pending.is_empty() && time == pipeline.clock.now() {
                    expect(&reader.copy, &state(&history.changes, pipeline.start, Millis(u64::MAX)), "the copy at the end")?;
                }
                Ok(())
            }).await
        });
        prop_assert!(result.is_ok(), "{:?}", result.err().map(|error| error.to_string()));
    }

    #[test]
    fn a_delay_that_no_writer_exceeds_is_a_watermark(history in history()) {
        let delay = LakeWatermark::Lag(Duration::from_secs(MAX_DELAY * 60));
        let result = run(async || {
            replay(&history, settings(LakeVersions::Auto, delay), |pipeline, _, reader, completed| {
                let time = parse(&completed.manifest.transaction_time)?;
                expect(&pipeline.clock.now().since(time), &Duration::from_secs(MAX_DELAY * 60), "the delay")?;
                expect(&reader.copy, &state(&history.changes, pipeline.start, time), "the copy")
            }).await
        });
        prop_assert!(result.is_ok(), "{:?}", result.err().map(|error| error.to_string()));
    }

    /// Checks a lake that is only appended to: the reader has at each export what has arrived, so that nothing is lost at the end.
    #[test]
    fn increments_by_arrival_lose_nothing(history in history(), many in any::<bool>()) {
        let versions = if many { LakeVersions::Many } else { LakeVersions::Auto };
        let result = run(async || {
            replay(&history, settings(versions, LakeWatermark::Arrival), |pipeline, _, reader, completed| {
                let time = parse(&completed.manifest.transaction_time)?;
                expect(&time, &pipeline.clock.now(), "the time")?;
                expect(&reader.copy, &state(&pipeline.arrived, pipeline.start, time), "the copy")?;
                expect(&completed.manifest.error.len(), &0, "notices")
            }).await
        });
        prop_assert!(result.is_ok(), "{:?}", result.err().map(|error| error.to_string()));
    }
}

/// Returns the number of resources whose current change is not after `since`, but arrived after it.
fn overlooked(arrived: &[Change], start: Millis, since: Millis) -> usize {
    let newest = |resource| arrived.iter().filter(|change| change.resource == resource).max_by_key(|change| change.at);
    let is_late = |change: &&Change| minute(start, change.at) <= since && minute(start, change.at + change.delay) > since;
    (0..RESOURCES).filter_map(newest).filter(is_late).count()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, max_shrink_iters: 200, ..ProptestConfig::default() })]

    /// Checks a lake without a watermark: what an increment leaves out is lost, but it is counted, each resource once.
    #[test]
    fn without_a_watermark_every_lost_change_is_counted(history in history(), many in any::<bool>()) {
        let versions = if many { LakeVersions::Many } else { LakeVersions::Auto };
        let history = History { steps: history.steps.into_iter().filter(|(_, step)| matches!(step, Step::Export)).collect(), ..history };
        let result = run(async || {
            let mut pipeline = Pipeline::new(&history).await?;
            let mut reader = Reader::default();
            for (number, _) in &history.steps {
                pipeline.advance_to(*number)?;
                let service = ServiceProcess::start(&pipeline.deployment, &pipeline.clock, settings(versions, LakeWatermark::Auto));
                let completed = service.complete(&service.kick_off(&reader.query()).await?).await?;
                let since = reader.since.as_deref().map(parse).transpose()?;
                let expected = since.map_or(0, |since| overlooked(&pipeline.arrived, pipeline.start, since));
                expect(&counted(&completed)?, &expected, "the count")?;
                reader.apply(&completed)?;
            }
            Ok(())
        });
        prop_assert!(result.is_ok(), "{:?}", result.err().map(|error| error.to_string()));
    }
}
