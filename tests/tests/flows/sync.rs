//! Synchronizations of a lake with FHIR servers that behave like well-known ones.

use std::collections::BTreeMap;
use std::time::Duration;

use headrace_core::job::sync::SyncRequest;
use headrace_core::lake::sync_report::SyncReport;
use headrace_core::ports::Clock as _;
use headrace_core::vocab::clock::Millis;
use headrace_fhir::definitions::ResourceType;
use headrace_tests::flows::sync::{SyncProcess, lake_lines, lake_objects, lake_state_before, small_request, watermark};
use headrace_tests::flows::{FaultInjector, LocalDeployment, ManualClock, Result, run};
use headrace_tests::standins::fhir_server::{FhirServer, HostileBehavior, Paging, ServerBehavior, Totals};

pub(super) const PATIENT: &str = "Patient";
pub(super) const OBSERVATION: &str = "Observation";

/// A lake and a server.
pub(super) struct Scenario {
    pub(super) deployment: LocalDeployment,
    pub(super) clock: ManualClock,
    pub(super) server: FhirServer,
}

impl Scenario {
    /// Creates an empty lake, and a server with Patients and Observations of the last day.
    pub(super) async fn new(behavior: ServerBehavior) -> Result<Self> {
        let (deployment, clock) = (LocalDeployment::with_files(&[("README", b"x")]).await?, ManualClock::default());
        let time = clock.clone();
        let server = FhirServer::new(behavior, move || time.now());
        let start = Millis(clock.now().0 - 86_400_000);
        server.with_store(|store| {
            for number in 0..40_u64 {
                // Some change in the same second, some in the same millisecond.
                store.put(PATIENT, &format!("p-{number}"), Millis(start.0 + number / 4 * 700_300));
                store.put(OBSERVATION, &format!("o.{number}"), Millis(start.0 + number * 60_000 + number % 7));
            }
            store.versions.sort_by_key(|version| version.at);
        });
        Ok(Self { deployment, clock, server })
    }

    /// Starts a process.
    pub(super) fn process(&self, faults: FaultInjector) -> SyncProcess {
        SyncProcess::start(&self.deployment, &self.clock, &self.server, faults)
    }

    /// Runs a synchronization.
    pub(super) async fn sync(&self, request: SyncRequest) -> Result<SyncReport> {
        self.process(FaultInjector::none()).run(request).await
    }

    /// Changes, creates and deletes resources a while later.
    pub(super) fn change(&self) {
        self.clock.advance(Duration::from_secs(600));
        let at = self.clock.now();
        self.server.with_store(|store| {
            store.put(PATIENT, "p-1", at);
            store.put(PATIENT, "p-new", Millis(at.0 + 1));
            store.put(OBSERVATION, "o.3", Millis(at.0 + 1_000));
        });
        self.clock.advance(Duration::from_secs(600));
    }

    /// Checks that the lake has exactly the resources that the server had at the watermark.
    pub(super) async fn check_equal(&self) -> Result<()> {
        // The watermark is the last moment that the lake has.
        let moment = Millis(watermark(self.deployment.lake())?.ok_or("no watermark")?.0 + 1);
        let expected: BTreeMap<_, _> = self
            .server
            .with_store(|store| store.state_before(moment))
            .into_iter()
            .map(|((kind, id), text)| ((kind.to_owned(), id), text))
            .collect();
        check_same(&lake_state_before(self.deployment.lake(), moment).await?, &expected)?;
        // Nothing later is in the lake, and every line is a version of the server, byte for byte.
        check_same(&lake_state_before(self.deployment.lake(), Millis(u64::MAX / 2_000_000)).await?, &expected)?;
        let versions: Vec<_> = self.server.with_store(|store| store.versions.iter().filter_map(|version| version.text.clone()).collect());
        for line in lake_lines(self.deployment.lake()).await?.iter().filter(|line| !line.contains("DELETE")) {
            assert!(versions.contains(line), "{line}");
        }
        Ok(())
    }
}

/// Returns an error that names the resources whose state in the lake differs from the server's.
fn check_same(lake: &BTreeMap<(String, String), String>, server: &BTreeMap<(String, String), String>) -> Result<()> {
    let keys = lake.keys().chain(server.keys());
    let different: Vec<_> = keys.filter(|key| lake.get(*key) != server.get(*key)).collect();
    if different.is_empty() { Ok(()) } else { Err(format!("the lake differs from the server in {different:?}").into()) }
}

/// Returns the number of deletions of a report.
pub(super) fn deletions(report: &SyncReport) -> u64 {
    report.types.iter().filter_map(|one| one.deletions).sum()
}

/// Returns the behavior of servers that are known for them.
pub(super) fn known_servers() -> Vec<(&'static str, ServerBehavior)> {
    let default = ServerBehavior::default;
    vec![
        (
            "HAPI",
            ServerBehavior {
                paging: Paging::CachedIds,
                expires_after: Some(1),
                expiring_searches: 2,
                largest_page: 2,
                names_itself: None,
                ..default()
            },
        ),
        ("Medplum", ServerBehavior { paging: Paging::Cursor, largest_page: 20, is_pretty: true, ..default() }),
        ("Microsoft", ServerBehavior { paging: Paging::Cursor, largest_page: 10, busy_every: Some(3), ..default() }),
        ("HealthLake", ServerBehavior { paging: Paging::EqualsSigns, rejects_count_above: Some(100), rejects_total: true, ..default() }),
        ("Google", ServerBehavior { paging: Paging::Cursor, totals: Totals::Rejected, ..default() }),
        ("Aidbox", ServerBehavior { paging: Paging::Offset, largest_page: 2, ..default() }),
        ("Firely", ServerBehavior { paging: Paging::CachedIds, expires_after: Some(2), expiring_searches: 4, sorts: false, ..default() }),
        ("a server that does not name _lastUpdated", ServerBehavior { names_last_updated: false, ..default() }),
        (
            "a server with totals that are estimates",
            ServerBehavior { totals: Totals::Rejected, sorts: false, paging: Paging::Offset, ..default() },
        ),
    ]
}

#[test]
fn the_lake_equals_any_known_server_at_the_watermark() -> Result<()> {
    for (name, behavior) in known_servers() {
        run(async || {
            let scenario = Scenario::new(behavior.clone()).await?;
            let first = scenario.sync(small_request()).await?;
            assert!(first.is_complete, "{name}: {first:?}");
            scenario.check_equal().await?;
            let objects = lake_objects(scenario.deployment.lake());
            scenario.change();
            let second = scenario.sync(small_request()).await?;
            assert!(second.is_complete, "{name}: {second:?}");
            assert_eq!(second.types.iter().map(|report| report.resources).sum::<u64>(), 3, "{name}");
            assert_eq!(second.from, Some(first.complete_up_to), "{name}");
            scenario.check_equal().await?;
            // An increment is a new object, and no other is touched.
            assert!(objects.iter().all(|object| object.exists()), "{name}");
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn a_server_without_a_search_by_time_is_read_anew_each_time_and_the_report_says_so() -> Result<()> {
    run(async || {
        let epic =
            ServerBehavior { searches_by_time: false, names_last_updated: false, paging: Paging::Offset, ..ServerBehavior::default() };
        let scenario = Scenario::new(epic).await?;
        for _ in 0..2 {
            let report = scenario.sync(small_request()).await?;
            assert!(report.is_complete, "{report:?}");
            let remarks: Vec<_> =
                report.types.iter().filter(|one| one.is_covered).map(|one| one.remark.clone().unwrap_or_default()).collect();
            assert!(remarks.iter().all(|remark| remark.contains("each synchronization fetches the whole type")), "{remarks:?}");
            assert!(report.types.iter().filter(|one| one.is_covered).all(|one| one.resources >= 40), "{report:?}");
            scenario.check_equal().await?;
            scenario.change();
        }
        Ok(())
    })
}

#[test]
fn windows_are_divided_by_the_servers_counts() -> Result<()> {
    run(async || {
        let scenario = Scenario::new(ServerBehavior::default()).await?;
        let report = scenario.sync(small_request()).await?;
        for one in report.types.iter().filter(|one| one.is_covered) {
            assert!((5..=20).contains(&one.windows), "{one:?}");
        }
        let first = scenario.server.queries();
        assert!(first.len() < 150, "{}: {first:#?}", first.len());
        Ok(())
    })
}

#[test]
fn a_lake_is_filled_from_one_server_and_its_types_stay_together() -> Result<()> {
    run(async || {
        let scenario = Scenario::new(ServerBehavior::default()).await?;
        let only = |name: &str| SyncRequest { types: ResourceType::parse(name).map(|one| [one].into()), ..small_request() };
        assert!(scenario.sync(only(PATIENT)).await?.is_complete);
        let error = scenario.sync(only(OBSERVATION)).await.unwrap_err().to_string();
        assert!(error.contains("the lake also has Patient"), "{error}");
        let other = SyncRequest { origin: "https://other.example.org".to_owned(), ..small_request() };
        let error = scenario.sync(other).await.unwrap_err().to_string();
        assert!(error.contains("the lake is filled from https://fhir.example.org/r4"), "{error}");
        // Another spelling of the base URL is the same server.
        let spelled = SyncRequest { origin: "HTTPS://FHIR.example.org:443/r4/".to_owned(), ..small_request() };
        // A type that is new in the lake is fetched from its beginning.
        scenario.change();
        assert!(scenario.sync(spelled).await?.is_complete);
        assert!(scenario.sync(small_request()).await?.is_complete);
        scenario.check_equal().await?;
        let error = scenario.sync(only("Binary")).await.unwrap_err().to_string();
        assert!(error.contains("the lake also has Observation, Patient"), "{error}");
        Ok(())
    })
}

#[test]
fn deletions_come_from_the_history_of_a_server_that_has_one() -> Result<()> {
    for paging in [Paging::CachedIds, Paging::Cursor] {
        run(async || {
            let scenario =
                Scenario::new(ServerBehavior { has_history: true, largest_page: 7, paging, ..ServerBehavior::default() }).await?;
            assert!(scenario.sync(small_request()).await?.is_complete);
            scenario.change();
            let at = scenario.clock.now();
            scenario.server.with_store(|store| {
                store.delete(PATIENT, "p-2", at);
                store.delete(PATIENT, "p-3", at);
                store.put(PATIENT, "p-3", Millis(at.0 + 1_000));
                store.delete(OBSERVATION, "o.5", Millis(at.0 + 2_000));
            });
            scenario.clock.advance(Duration::from_secs(600));
            let report = scenario.sync(small_request()).await?;
            let deletions: u64 = report.types.iter().filter_map(|one| one.deletions).sum();
            assert_eq!((report.is_complete, report.deletions(), deletions), (true, "history", 2), "{report:?}");
            scenario.check_equal().await
        })?;
    }
    Ok(())
}

#[test]
fn a_history_of_a_resource_without_end_leaves_deletions_unknown() -> Result<()> {
    run(async || {
        let hostile_behavior = Some(HostileBehavior::LoopingHistory);
        let scenario = Scenario::new(ServerBehavior { has_history: true, hostile_behavior, ..ServerBehavior::default() }).await?;
        // A resource that changes while the lake is filled, so that its own history is read.
        let clock = scenario.clock.clone();
        scenario.server.change_while_read(move |store, _| store.put(PATIENT, "p-1", clock.now()));
        let report = scenario.sync(small_request()).await?;
        let patients = report.types.iter().find(|one| one.resource_type == ResourceType::PATIENT).ok_or("no Patients")?;
        let remark = patients.remark.clone().unwrap_or_default();
        assert!(remark.contains("the history of the type cannot be used: the links to the next page have no end"), "{report:?}");
        assert_eq!(report.deletions(), "unknown");
        let histories = scenario.server.queries().iter().filter(|query| query.contains("p-1/_history")).count();
        assert_eq!(histories, 2, "the first page, and its link once");
        Ok(())
    })
}

#[test]
fn a_server_without_a_history_leaves_deletions_unknown_and_the_lake_says_so() -> Result<()> {
    run(async || {
        let scenario = Scenario::new(ServerBehavior::default()).await?;
        let report = scenario.sync(small_request()).await?;
        assert_eq!(report.deletions(), "unknown");
        let text = std::fs::read_to_string(scenario.deployment.lake().join("_headrace/watermark.json"))?;
        assert!(text.contains(r#""deletions":"unknown""#), "{text}");
        Ok(())
    })
}
