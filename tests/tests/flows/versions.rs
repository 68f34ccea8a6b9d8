//! Lakes with several versions of one resource, deletions, and resources that are exported because of others.

use std::collections::{BTreeMap, BTreeSet};

use headrace_core::flow::work::run_task::LakeVersions;
use headrace_core::request::{Associated, ExportRequest, IgnoredParameter, Level};
use headrace_fhir::{Instant, ResourceType};
use headrace_tests::flows::{Aws, Finished, ManualClock, OneMachine, Result, Stage, Terms, World, run};

use super::model::{Line, Version, deletion, expected, lines, version};

/// Files and ranges so small that everything happens more than once.
pub(crate) fn small(versions: LakeVersions) -> Terms {
    let mut terms = Terms::file_bytes(400);
    terms.work.lake_versions = versions;
    terms.work.resolve_bytes = 300;
    terms
}

pub(crate) async fn export<S: Stage>(stage: &S, terms: Terms, request: ExportRequest) -> Result<Finished> {
    let world = World::start(stage, &ManualClock::default(), terms);
    let status = world.begin(request).await?;
    world.finish(&status).await
}

fn of_types(names: &[&str]) -> ExportRequest {
    ExportRequest { types: Some(names.iter().filter_map(|name| ResourceType::named(name)).collect()), ..ExportRequest::default() }
}

fn since(text: &str) -> ExportRequest {
    ExportRequest { since: Instant::parse(text).ok(), ..ExportRequest::default() }
}

/// A dump, and what happened on four days after it.
pub(crate) fn increments() -> Vec<(&'static str, Vec<Line>)> {
    let dump: Vec<Line> = (0..30)
        .map(|n| version("Patient", n, "2026-01-01", 1))
        .chain((0..40).map(|n| version("Observation", n, "2026-01-02", 1)))
        .collect();
    let changed = (0..30).filter(|n| n % 3 == 0).map(|n| version("Patient", n, "2026-02-01", 2));
    let removed = deletion(&["Patient/3", "Patient/4", "Observation/0", "Basic/unheard-of"], Some("2026-03-01"));
    let again = [version("Patient", 3, "2026-04-01", 3), version("Observation", 39, "2026-04-02", 2)];
    vec![
        ("2026-01/Patient.ndjson", dump.iter().filter(|line| line.is_of("Patient")).cloned().collect()),
        ("2026-01/mixed.ndjson", dump.into_iter().filter(|line| line.is_of("Observation")).collect()),
        ("2026-02/Patient.ndjson", changed.collect()),
        ("2026-03/deleted-1.ndjson", vec![removed]),
        ("2026-04/mixed.ndjson", again.to_vec()),
    ]
}

async fn one_machine(lake: &[(&str, Vec<Line>)]) -> Result<OneMachine> {
    let files: Vec<(&str, Vec<u8>)> = lake.iter().map(|(object, held)| (*object, lines(held))).collect();
    OneMachine::with(&files.iter().map(|(object, bytes)| (*object, bytes.as_slice())).collect::<Vec<_>>()).await
}

async fn aws(lake: &[(&str, Vec<Line>)]) -> Result<Aws> {
    let stage = Aws::empty().await?;
    for (object, held) in lake {
        stage.change_lake(object, Some(lines(held).into())).await?;
    }
    Ok(stage)
}

fn all(lake: &[(&str, Vec<Line>)]) -> Vec<Line> {
    lake.iter().flat_map(|(_, held)| held.clone()).collect()
}

fn named(lines: &[Vec<u8>]) -> Result<Vec<String>> {
    lines
        .iter()
        .map(|line| {
            let tree: serde_json::Value = serde_json::from_slice(line)?;
            let word = |name: &str| tree.get(name).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
            Ok(format!("{}/{}", word("resourceType"), word("id")))
        })
        .collect()
}

// Holds: F6, A3
#[test]
fn of_a_dump_increments_and_deletions_each_resource_comes_out_once_as_it_is_now() -> Result<()> {
    run(async || {
        let lake = increments();
        let wanted = expected(&all(&lake));
        for versions in [LakeVersions::Auto, LakeVersions::Many] {
            let finished = [
                export(&one_machine(&lake).await?, small(versions), ExportRequest::default()).await?,
                export(&aws(&lake).await?, small(versions), ExportRequest::default()).await?,
                export(&one_machine(&lake).await?, Terms { work: small(versions).work, ..Terms::default() }, ExportRequest::default())
                    .await?,
            ];
            for finished in finished {
                assert_eq!(finished.sorted_lines(), wanted.lines, "{versions:?}");
                assert_eq!(finished.deleted()?, Vec::<String>::new(), "without _since nobody asks what was deleted");
                assert!(finished.manifest.error.is_empty());
            }
        }
        Ok(())
    })
}

// Holds: M6
#[test]
fn what_was_deleted_is_told_once_where_since_asks_for_it_and_never_together_with_the_resource() -> Result<()> {
    run(async || {
        let lake = increments();
        for (moment, lines, deleted) in [
            ("2026-01-15", 11, &["Basic/unheard-of", "Observation/0", "Patient/4"][..]),
            ("2026-02-28T23:59:59Z", 2, &["Basic/unheard-of", "Observation/0", "Patient/4"]),
            ("2026-03-01T00:00:00Z", 2, &[]),
        ] {
            for versions in [LakeVersions::Auto, LakeVersions::Many] {
                let finished = export(&one_machine(&lake).await?, small(versions), since(moment)).await?;
                assert_eq!(
                    (finished.lines().len(), finished.deleted()?),
                    (lines, deleted.iter().map(|id| (*id).to_owned()).collect()),
                    "{moment}"
                );
                let exported: BTreeSet<_> = named(&finished.lines())?.into_iter().collect();
                assert!(finished.deleted()?.iter().all(|id| !exported.contains(id)));
            }
        }
        let only_patients = ExportRequest { types: of_types(&["Patient"]).types, ..since("2026-02-15") };
        assert_eq!(export(&aws(&lake).await?, small(LakeVersions::Auto), only_patients).await?.deleted()?, ["Patient/4"]);
        let until = ExportRequest { until: Instant::parse("2026-03-01").ok(), ..since("2026-02-15") };
        assert_eq!(export(&one_machine(&lake).await?, small(LakeVersions::Auto), until).await?.deleted()?, Vec::<String>::new());
        let asked = ExportRequest { associated: [Associated::Deleted].into(), ..ExportRequest::default() };
        let finished = export(&one_machine(&lake).await?, small(LakeVersions::Auto), asked).await?;
        assert_eq!(finished.deleted()?, ["Basic/unheard-of", "Observation/0", "Patient/4"]);
        Ok(())
    })
}

#[test]
fn a_version_that_was_replaced_is_not_exported_although_it_alone_fits_the_request() -> Result<()> {
    run(async || {
        let about = |subject: &str, day, number| {
            Line::resource("Observation", "moved", day, number, &format!(r#","subject":{{"reference":"{subject}"}},"status":"{day}""#))
        };
        let lake = vec![
            ("1.ndjson", vec![version("Patient", 1, "2026-01-01", 1), about("Patient/1", "2026-01-02", 1)]),
            ("2.ndjson", vec![about("Group/1", "2026-01-03", 2)]),
        ];
        let all_patients = ExportRequest { level: Level::AllPatients, ..ExportRequest::default() };
        let filtered = ExportRequest { type_filters: vec!["Observation?status=2026-01-02".into()], ..ExportRequest::default() };
        let earlier = ExportRequest { until: Instant::parse("2026-01-03").ok(), ..ExportRequest::default() };
        for (request, what) in [(all_patients, "compartment"), (filtered, "filter"), (earlier, "until")] {
            for versions in [LakeVersions::Auto, LakeVersions::Many] {
                let finished = export(&one_machine(&lake).await?, small(versions), request.clone()).await?;
                assert_eq!(named(&finished.lines())?, ["Patient/1"], "{what}");
            }
            // Of each resource there is one version, says the operator: then each line is believed.
            let believed = export(
                &one_machine(&lake).await?,
                small(LakeVersions::One),
                ExportRequest { types: of_types(&["Patient", "Observation"]).types, ..request },
            )
            .await?;
            assert_eq!(named(&believed.lines())?.len(), 2, "{what}");
        }
        Ok(())
    })
}

// Holds: R6
#[test]
fn an_export_that_is_put_into_its_own_lake_changes_nothing() -> Result<()> {
    run(async || {
        let lake = increments();
        let stage = one_machine(&lake).await?;
        stage.change_lake("2026-04/broken.ndjson", Some("no resource\n".into())).await?;
        let changes = export(&stage, small(LakeVersions::Auto), since("2026-01-15")).await?;
        assert!(changes.files.contains_key("deleted-1.ndjson") && changes.files.contains_key("error-1.ndjson"));
        for (name, bytes) in &changes.files {
            stage.change_lake(&format!("2026-05/{name}"), Some(bytes.clone())).await?;
        }
        stage.change_lake("2026-04/broken.ndjson", None).await?;
        for versions in [LakeVersions::Auto, LakeVersions::Many] {
            let finished = export(&stage, small(versions), ExportRequest::default()).await?;
            assert_eq!(finished.sorted_lines(), expected(&all(&lake)).lines);
            assert!(finished.manifest.error.is_empty(), "{:?}", finished.manifest.error);
            let again = export(&stage, small(versions), since("2026-01-15")).await?;
            assert_eq!((again.sorted_lines(), again.deleted()?), (changes.sorted_lines(), changes.deleted()?));
        }
        Ok(())
    })
}

#[test]
fn of_a_lake_with_one_version_of_each_resource_every_setting_makes_the_same() -> Result<()> {
    run(async || {
        let stage = OneMachine::over(&headrace_tests::lake::sample_dir()).await?;
        for request in
            [ExportRequest::default(), since("2024-06-01"), ExportRequest { level: Level::AllPatients, ..ExportRequest::default() }]
        {
            let mut made = BTreeMap::new();
            for versions in [LakeVersions::One, LakeVersions::Auto, LakeVersions::Many] {
                let mut terms = small(versions);
                terms.limits.file_bytes = 20_000;
                let finished = export(&stage, terms, request.clone()).await?;
                assert!(!finished.lines().is_empty());
                made.entry(finished.sorted_lines()).or_insert_with(Vec::new).push(versions);
            }
            assert_eq!(made.len(), 1, "{:?}", made.values());
        }
        Ok(())
    })
}

// Holds: A13
#[test]
fn every_version_comes_out_where_history_is_asked_for() -> Result<()> {
    run(async || {
        let lake = increments();
        let mut every: Vec<_> = all(&lake).iter().filter_map(Line::text).collect();
        every.sort();
        for (associated, deleted) in [(vec![Associated::History], 0), (vec![Associated::History, Associated::Deleted], 1)] {
            let request = ExportRequest { associated: associated.into_iter().collect(), ..ExportRequest::default() };
            let finished = export(&one_machine(&lake).await?, small(LakeVersions::Auto), request).await?;
            assert_eq!(finished.sorted_lines(), every);
            // Of the others versions are exported.
            assert_eq!(finished.deleted()?.len(), deleted);
        }
        Ok(())
    })
}

fn provenance(id: &str, targets: &[&str], day: &'static str, recorded: &str) -> Line {
    let targets: Vec<String> = targets.iter().map(|target| format!(r#"{{"reference":"{target}"}}"#)).collect();
    let members = format!(r#","recorded":"{recorded}T00:00:00Z","target":[{}]"#, targets.join(","));
    Line::resource("Provenance", id, day, 1, &members)
}

/// Two patients, one of them with an observation that was replaced, and what is known about who wrote what.
fn provenances() -> Vec<(&'static str, Vec<Line>)> {
    let about =
        |id, subject, day, number| Line::resource("Observation", id, day, number, &format!(r#","subject":{{"reference":"{subject}"}}"#));
    vec![
        ("Patient.ndjson", vec![version("Patient", 1, "2026-01-01", 1), version("Patient", 2, "2026-01-01", 1)]),
        (
            "Observation.ndjson",
            vec![
                about("a", "Patient/1", "2026-01-02", 1),
                about("b", "Group/1", "2026-01-02", 1),
                about("left", "Patient/1", "2026-01-02", 1),
            ],
        ),
        (
            "Provenance.ndjson",
            vec![
                provenance("patient", &["Patient/1"], "2026-01-03", "2026-01-03"),
                provenance("observation-old", &["Observation/a"], "2026-01-03", "2026-01-03"),
                provenance("observation-new", &["Observation/b", "Observation/a"], "2026-01-03", "2026-01-04"),
                provenance("elsewhere", &["Observation/b"], "2026-01-03", "2026-01-03"),
                provenance("of-left", &["Observation/left"], "2026-01-03", "2026-01-03"),
                provenance("moved", &["Observation/a"], "2026-01-03", "2026-01-09"),
                provenance("moved", &["Observation/b"], "2026-01-05", "2026-01-05"),
                provenance("of-provenance", &["Provenance/patient"], "2026-01-03", "2026-01-03"),
                provenance("withdrawn", &["Observation/a"], "2026-01-03", "2026-01-08"),
            ],
        ),
        ("later.ndjson", vec![about("left", "Group/1", "2026-01-06", 2), deletion(&["Provenance/withdrawn"], Some("2026-01-07"))]),
    ]
}

async fn provenance_of(request: ExportRequest) -> Result<Vec<String>> {
    let mut found = BTreeSet::new();
    let lake = provenances();
    for versions in [LakeVersions::One, LakeVersions::Auto, LakeVersions::Many] {
        for finished in [
            export(&one_machine(&lake).await?, small(versions), request.clone()).await?,
            export(&aws(&lake).await?, Terms { work: small(versions).work, ..Terms::default() }, request.clone()).await?,
        ] {
            let mut ids: Vec<String> =
                named(&finished.lines())?.iter().filter_map(|name| name.strip_prefix("Provenance/").map(str::to_owned)).collect();
            ids.sort();
            found.insert(ids);
        }
    }
    match found.len() {
        1 => found.pop_first().ok_or_else(|| "nothing".into()),
        _ => Err(format!("settings and stores disagree: {found:?}").into()),
    }
}

// Holds: P71
#[test]
fn a_patients_export_has_the_provenance_of_all_that_is_in_the_compartments() -> Result<()> {
    run(async || {
        let level = ExportRequest { level: Level::AllPatients, ..ExportRequest::default() };
        // A Provenance of a patient is in its compartment, so that the Provenance of that Provenance belongs to it too.
        let whole = ["observation-new", "observation-old", "of-provenance", "patient"];
        assert_eq!(provenance_of(level.clone()).await?, whole);
        let alone = ExportRequest { types: of_types(&["Provenance"]).types, ..level.clone() };
        assert_eq!(provenance_of(alone).await?, whole, "also if its targets are not exported");
        let later = ExportRequest { since: Instant::parse("2026-01-02T12:00:00Z").ok(), ..level.clone() };
        assert_eq!(provenance_of(later).await?, whole);
        let much_later = ExportRequest { since: Instant::parse("2026-01-04").ok(), ..level.clone() };
        assert_eq!(provenance_of(much_later).await?, Vec::<String>::new());
        let others = ExportRequest { types: of_types(&["Observation"]).types, ..level };
        assert_eq!(provenance_of(others).await?, Vec::<String>::new());
        Ok(())
    })
}

// Holds: P70
#[test]
fn associated_provenance_is_that_of_what_is_exported_and_of_that_all_or_the_latest() -> Result<()> {
    run(async || {
        let with = |associated: &[Associated], request: ExportRequest| ExportRequest {
            associated: associated.iter().copied().collect(),
            ..request
        };
        let (all, latest) = (Associated::RelevantProvenanceResources, Associated::LatestProvenanceResources);
        let level = ExportRequest { level: Level::AllPatients, ..ExportRequest::default() };
        assert_eq!(provenance_of(with(&[all], level.clone())).await?, ["observation-new", "observation-old", "patient"]);
        assert_eq!(provenance_of(with(&[latest], level.clone())).await?, ["observation-new", "patient"]);
        let observations = ExportRequest { types: of_types(&["Observation"]).types, ..level };
        assert_eq!(provenance_of(with(&[all], observations.clone())).await?, ["observation-new", "observation-old"]);
        assert_eq!(provenance_of(with(&[latest], observations)).await?, ["observation-new"]);
        let system = of_types(&["Observation"]);
        assert_eq!(
            provenance_of(with(&[all, latest], system.clone())).await?,
            ["elsewhere", "moved", "observation-new", "observation-old", "of-left"]
        );
        assert_eq!(provenance_of(with(&[latest], system)).await?, ["moved", "observation-new", "of-left"]);
        Ok(())
    })
}

// Holds: P12
#[test]
fn what_exported_resources_refer_to_is_added_where_the_operator_says_so() -> Result<()> {
    run(async || {
        let about = |id, day, number, performer: &str| {
            let members = format!(
                r#","subject":{{"reference":"Patient/1"}},"performer":[{{"reference":"{performer}"}},{{"reference":"Organization/seen"}}]"#
            );
            Line::resource("Observation", id, day, number, &members)
        };
        let lake = vec![
            ("Patient.ndjson", vec![version("Patient", 1, "2026-01-01", 1)]),
            (
                "Observation.ndjson",
                vec![about("a", "2026-01-02", 1, "Practitioner/before"), about("a", "2026-01-03", 2, "Practitioner/now")],
            ),
            ("Practitioner.ndjson", ["before", "now", "never"].map(|id| Line::resource("Practitioner", id, "2020-01-01", 1, "")).to_vec()),
            ("Organization.ndjson", ["seen", "unseen"].map(|id| Line::resource("Organization", id, "2020-01-01", 1, "")).to_vec()),
        ];
        let level = ExportRequest { level: Level::AllPatients, since: Instant::parse("2026-01-01").ok(), ..ExportRequest::default() };
        for versions in [LakeVersions::Auto, LakeVersions::Many] {
            let mut terms = small(versions);
            assert_eq!(named(&export(&one_machine(&lake).await?, terms.clone(), level.clone()).await?.lines())?, ["Observation/a"]);
            terms.work.adds_referenced = true;
            let finished = export(&one_machine(&lake).await?, terms.clone(), level.clone()).await?;
            assert_eq!(named(&finished.sorted_lines())?, ["Observation/a", "Organization/seen", "Practitioner/now"]);
            let listed = ExportRequest { types: of_types(&["Observation", "Practitioner"]).types, ..level.clone() };
            assert_eq!(named(&export(&aws(&lake).await?, terms, listed).await?.sorted_lines())?, ["Observation/a", "Practitioner/now"]);
        }
        Ok(())
    })
}

#[test]
fn elements_are_all_that_is_left_of_every_resource_however_it_came_in() -> Result<()> {
    run(async || {
        let lake = provenances();
        let request = ExportRequest {
            level: Level::AllPatients,
            elements: vec!["Observation.id".into(), "Provenance.recorded".into()],
            ..ExportRequest::default()
        };
        for versions in [LakeVersions::Auto, LakeVersions::Many] {
            let finished = export(&one_machine(&lake).await?, small(versions), request.clone()).await?;
            assert_eq!(named(&finished.sorted_lines())?.len(), 2 + 1 + 4, "{:?}", named(&finished.sorted_lines())?);
            for line in finished.lines() {
                let text = String::from_utf8(line)?;
                assert_eq!(text.contains("SUBSETTED"), !text.contains("\"Patient\""), "{text}");
                assert!(!text.contains("subject"), "{text}");
            }
        }
        Ok(())
    })
}

#[test]
fn what_is_left_out_of_a_lenient_request_is_told_once_beside_other_errors() -> Result<()> {
    run(async || {
        let mut lake = increments();
        let ignored = vec![
            IgnoredParameter { parameter: "_foo".into(), text: "the parameter `_foo` is not known".into() },
            IgnoredParameter { parameter: "_type".into(), text: "the type `Dog` is not known".into() },
        ];
        for has_broken_lines in [false, true] {
            if has_broken_lines {
                lake.push(("broken.ndjson", vec![Line::broken(), Line::broken()]));
            }
            for versions in [LakeVersions::One, LakeVersions::Auto, LakeVersions::Many] {
                for join_limit_bytes in [1, 1_500, 1 << 30] {
                    let request = ExportRequest { ignored: ignored.clone(), ..ExportRequest::default() };
                    let terms = small(versions).join_limit_bytes(join_limit_bytes);
                    let finished = export(&one_machine(&lake).await?, terms, request).await?;
                    let told: String = finished
                        .files
                        .iter()
                        .filter(|(name, _)| name.starts_with("error-"))
                        .map(|(_, file)| String::from_utf8_lossy(file).into_owned())
                        .collect();
                    assert_eq!(told.lines().count(), if has_broken_lines { 4 } else { 2 });
                    for one in &ignored {
                        assert_eq!(told.matches(&one.text).count(), 1, "{told}");
                    }
                    assert_eq!(told.matches("\"severity\":\"information\"").count(), 2);
                }
            }
        }
        Ok(())
    })
}

#[test]
fn a_lake_of_deletions_and_nothing_else_is_an_empty_export() -> Result<()> {
    run(async || {
        let lake =
            vec![("deleted-1.ndjson", vec![deletion(&["Patient/1"], Some("2026-01-01")), deletion(&["Patient/1"], Some("2026-01-02"))])];
        for versions in [LakeVersions::Auto, LakeVersions::Many] {
            let finished = export(&one_machine(&lake).await?, small(versions), ExportRequest::default()).await?;
            assert!(finished.manifest.output.is_empty() && finished.manifest.error.is_empty());
            let finished = export(&one_machine(&lake).await?, small(versions), since("2025-01-01")).await?;
            assert_eq!(finished.deleted()?, ["Patient/1"], "the later of two");
        }
        Ok(())
    })
}

#[test]
fn versions_without_a_time_and_versions_of_one_moment_have_an_order() -> Result<()> {
    run(async || {
        let untimed =
            |id, text: &str| Version { kind: "Basic", id, day: None, number: None, members: format!(r#","code":"{text}""#) }.line();
        let timed = |id, number: &'static str, text: &str| {
            Version { kind: "Basic", id, day: Some("2026-01-01"), number: Some(number), members: format!(r#","code":"{text}""#) }.line()
        };
        let lake = vec![
            (
                "1.ndjson",
                vec![
                    untimed("a", "first"),
                    untimed("b", "first"),
                    timed("c", "10", "tenth"),
                    timed("d", "x", "first"),
                    untimed("e", "gone"),
                ],
            ),
            ("2.ndjson", vec![untimed("a", "second"), timed("b", "1", "timed"), timed("c", "9", "ninth"), timed("d", "x", "second")]),
            ("3.ndjson", vec![deletion(&["Basic/e"], None)]),
        ];
        let finished = export(&one_machine(&lake).await?, small(LakeVersions::Auto), ExportRequest::default()).await?;
        let text = finished.sorted_lines().concat();
        let text = String::from_utf8(text)?;
        let codes: Vec<&str> =
            ["first", "second", "timed", "ninth", "tenth", "gone"].into_iter().filter(|code| text.contains(code)).collect();
        assert_eq!((finished.lines().len(), codes), (4, vec!["second", "timed", "tenth"]));
        assert_eq!(finished.sorted_lines(), expected(&all(&lake)).lines);
        Ok(())
    })
}
