//! Lakes with several versions of a resource, deletions, and resources that are exported because of others.

use std::collections::{BTreeMap, BTreeSet};

use headrace_core::ports::JobStore as _;
use headrace_core::request::{AssociatedData, ExportRequest, IgnoredParameter};
use headrace_core::vocab::ids::JobId;
use headrace_core::vocab::lake_settings::LakeVersions;
use headrace_core::vocab::level::Level;
use headrace_fhir::definitions::ResourceType;
use headrace_fhir::instant::Instant;
use headrace_tests::flows::{
    AwsDeployment, CompletedExport, Deployment, DeploymentSettings, LocalDeployment, ManualClock, Result, ServiceProcess, run,
};

use super::lake_model::{Line, Version, deletion, expected, lines, version};

/// Returns settings with so small files and resolve ranges that every step happens several times.
pub(crate) fn small_settings(versions: LakeVersions) -> DeploymentSettings {
    let mut settings = DeploymentSettings::with_file_bytes(400);
    settings.worker.lake.versions = versions;
    settings.worker.resolve_bytes = 300;
    if versions == LakeVersions::Many {
        // Records and corrections are merged before they are read.
        settings.worker.max_record_reads = 0;
    }
    settings
}

/// Exports and downloads all files.
pub(crate) async fn export<S: Deployment>(deployment: &S, settings: DeploymentSettings, request: ExportRequest) -> Result<CompletedExport> {
    let service = ServiceProcess::start(deployment, &ManualClock::default(), settings);
    let status = service.start_job(request).await?;
    service.complete(&status).await
}

/// Returns a system export of these types.
fn request_of_types(names: &[&str]) -> ExportRequest {
    ExportRequest { types: Some(names.iter().filter_map(|name| ResourceType::parse(name)).collect()), ..ExportRequest::default() }
}

/// Returns a system export with `_since`.
fn since(text: &str) -> ExportRequest {
    ExportRequest { since: Instant::parse(text).ok(), ..ExportRequest::default() }
}

/// Returns a lake with a full dump and the changes of four later days.
pub(crate) fn increments() -> Vec<(&'static str, Vec<Line>)> {
    let dump: Vec<Line> = (0..30)
        .map(|n| version("Patient", n, "2026-01-01", 1))
        .chain((0..40).map(|n| version("Observation", n, "2026-01-02", 1)))
        .collect();
    let changed = (0..30).filter(|n| n % 3 == 0).map(|n| version("Patient", n, "2026-02-01", 2));
    let removed = deletion(&["Patient/3", "Patient/4", "Observation/0", "Basic/unheard-of"], Some("2026-03-01"));
    let increment = [version("Patient", 3, "2026-04-01", 3), version("Observation", 39, "2026-04-02", 2)];
    vec![
        ("2026-01/Patient.ndjson", dump.iter().filter(|line| line.is_of_type("Patient")).cloned().collect()),
        ("2026-01/mixed.ndjson", dump.into_iter().filter(|line| line.is_of_type("Observation")).collect()),
        ("2026-02/Patient.ndjson", changed.collect()),
        ("2026-03/deleted-1.ndjson", vec![removed]),
        ("2026-04/mixed.ndjson", increment.to_vec()),
    ]
}

/// Creates a local deployment with this lake.
async fn local(lake: &[(&str, Vec<Line>)]) -> Result<LocalDeployment> {
    let files: Vec<(&str, Vec<u8>)> = lake.iter().map(|(object, object_lines)| (*object, lines(object_lines))).collect();
    LocalDeployment::with_files(&files.iter().map(|(object, bytes)| (*object, bytes.as_slice())).collect::<Vec<_>>()).await
}

/// Creates an AWS deployment with this lake.
async fn aws(lake: &[(&str, Vec<Line>)]) -> Result<AwsDeployment> {
    let deployment = AwsDeployment::new().await?;
    for (object, object_lines) in lake {
        deployment.set_lake_object(object, Some(lines(object_lines).into())).await?;
    }
    Ok(deployment)
}

/// Returns the lines of all objects.
fn all(lake: &[(&str, Vec<Line>)]) -> Vec<Line> {
    lake.iter().flat_map(|(_, object_lines)| object_lines.clone()).collect()
}

/// Returns the `Type/id` names of the lines.
fn names(lines: &[Vec<u8>]) -> Result<Vec<String>> {
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
fn the_current_version_of_each_resource_is_exported_once() -> Result<()> {
    run(async || {
        let lake = increments();
        let expected_export = expected(&all(&lake));
        for versions in [LakeVersions::Auto, LakeVersions::Many] {
            let completed = [
                export(&local(&lake).await?, small_settings(versions), ExportRequest::default()).await?,
                export(&aws(&lake).await?, small_settings(versions), ExportRequest::default()).await?,
                export(
                    &local(&lake).await?,
                    DeploymentSettings { worker: small_settings(versions).worker, ..DeploymentSettings::default() },
                    ExportRequest::default(),
                )
                .await?,
            ];
            for completed in completed {
                assert_eq!(completed.sorted_lines(), expected_export.lines, "{versions:?}");
                assert_eq!(completed.deleted_references()?, Vec::<String>::new(), "deletions are listed only with `_since`");
                assert!(completed.manifest.error.is_empty());
            }
        }
        Ok(())
    })
}

// Holds: M6
#[test]
fn deletions_are_listed_once_if_since_is_given_and_never_with_the_resource() -> Result<()> {
    run(async || {
        let lake = increments();
        for (moment, lines, deleted) in [
            ("2026-01-15", 11, &["Basic/unheard-of", "Observation/0", "Patient/4"][..]),
            ("2026-02-28T23:59:59Z", 2, &["Basic/unheard-of", "Observation/0", "Patient/4"]),
            ("2026-03-01T00:00:00Z", 2, &[]),
        ] {
            for versions in [LakeVersions::Auto, LakeVersions::Many] {
                let completed = export(&local(&lake).await?, small_settings(versions), since(moment)).await?;
                assert_eq!(
                    (completed.lines().len(), completed.deleted_references()?),
                    (lines, deleted.iter().map(|id| (*id).to_owned()).collect()),
                    "{moment}"
                );
                let exported: BTreeSet<_> = names(&completed.lines())?.into_iter().collect();
                assert!(completed.deleted_references()?.iter().all(|id| !exported.contains(id)));
            }
        }
        let only_patients = ExportRequest { types: request_of_types(&["Patient"]).types, ..since("2026-02-15") };
        assert_eq!(
            export(&aws(&lake).await?, small_settings(LakeVersions::Auto), only_patients).await?.deleted_references()?,
            ["Patient/4"]
        );
        let until = ExportRequest { until: Instant::parse("2026-03-01").ok(), ..since("2026-02-15") };
        assert_eq!(
            export(&local(&lake).await?, small_settings(LakeVersions::Auto), until).await?.deleted_references()?,
            Vec::<String>::new()
        );
        let asked = ExportRequest { associated_data: [AssociatedData::Deleted].into(), ..ExportRequest::default() };
        let completed = export(&local(&lake).await?, small_settings(LakeVersions::Auto), asked).await?;
        assert_eq!(completed.deleted_references()?, ["Basic/unheard-of", "Observation/0", "Patient/4"]);
        Ok(())
    })
}

#[test]
fn a_replaced_version_is_not_exported_even_if_only_it_matches_the_request() -> Result<()> {
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
        for (request, reason) in [(all_patients, "compartment"), (filtered, "filter"), (earlier, "until")] {
            for versions in [LakeVersions::Auto, LakeVersions::Many] {
                let completed = export(&local(&lake).await?, small_settings(versions), request.clone()).await?;
                assert_eq!(names(&completed.lines())?, ["Patient/1"], "{reason}");
            }
            // If the operator promises one version per resource, every line counts as current.
            let without_resolving = export(
                &local(&lake).await?,
                small_settings(LakeVersions::One),
                ExportRequest { types: request_of_types(&["Patient", "Observation"]).types, ..request },
            )
            .await?;
            assert_eq!(names(&without_resolving.lines())?.len(), 2, "{reason}");
        }
        Ok(())
    })
}

// Holds: R6
#[test]
fn an_export_copied_into_its_own_lake_does_not_change_later_exports() -> Result<()> {
    run(async || {
        let lake = increments();
        let deployment = local(&lake).await?;
        deployment.set_lake_object("2026-04/broken.ndjson", Some("no resource\n".into())).await?;
        let changes = export(&deployment, small_settings(LakeVersions::Auto), since("2026-01-15")).await?;
        assert!(changes.files.contains_key("deleted-1.ndjson") && changes.files.contains_key("error-1.ndjson"));
        for (name, bytes) in &changes.files {
            deployment.set_lake_object(&format!("2026-05/{name}"), Some(bytes.clone())).await?;
        }
        deployment.set_lake_object("2026-04/broken.ndjson", None).await?;
        for versions in [LakeVersions::Auto, LakeVersions::Many] {
            let completed = export(&deployment, small_settings(versions), ExportRequest::default()).await?;
            assert_eq!(completed.sorted_lines(), expected(&all(&lake)).lines);
            assert!(completed.manifest.error.is_empty(), "{:?}", completed.manifest.error);
            let increment = export(&deployment, small_settings(versions), since("2026-01-15")).await?;
            assert_eq!(
                (increment.sorted_lines(), increment.deleted_references()?),
                (changes.sorted_lines(), changes.deleted_references()?)
            );
        }
        Ok(())
    })
}

#[test]
fn every_version_setting_gives_the_same_export_of_a_lake_without_old_versions() -> Result<()> {
    run(async || {
        let deployment = LocalDeployment::with_lake(&headrace_tests::lake::sample_lake_dir()).await?;
        for request in
            [ExportRequest::default(), since("2024-06-01"), ExportRequest { level: Level::AllPatients, ..ExportRequest::default() }]
        {
            let mut results = BTreeMap::new();
            for versions in [LakeVersions::One, LakeVersions::Auto, LakeVersions::Many] {
                let mut settings = small_settings(versions);
                settings.job.file_bytes = 20_000;
                let completed = export(&deployment, settings, request.clone()).await?;
                assert!(!completed.lines().is_empty());
                results.entry(completed.sorted_lines()).or_insert_with(Vec::new).push(versions);
            }
            assert_eq!(results.len(), 1, "{:?}", results.values());
        }
        Ok(())
    })
}

#[test]
fn the_records_of_many_tasks_are_merged_in_several_rounds() -> Result<()> {
    run(async || {
        let dump = |object: usize| (0..50).map(move |n| version("Patient", object * 50 + n, "2026-01-01", 1)).collect::<Vec<_>>();
        let mut lake: Vec<(String, Vec<Line>)> = (0..16_usize).map(|object| (format!("{object}/Patient.ndjson"), dump(object))).collect();
        let changed = (0..800).filter(|n| n % 7 == 0).map(|n| version("Patient", n, "2026-02-01", 2));
        lake.push(("changes/Patient.ndjson".to_owned(), changed.collect()));
        let lake: Vec<(&str, Vec<Line>)> = lake.iter().map(|(object, lines)| (object.as_str(), lines.clone())).collect();
        let deployment = local(&lake).await?;
        let service = ServiceProcess::start(&deployment, &ManualClock::default(), small_settings(LakeVersions::Many));
        let status = service.start_job(ExportRequest::default()).await?;
        let completed = service.complete(&status).await?;
        assert_eq!(completed.sorted_lines(), expected(&all(&lake)).lines);
        // Two rounds of merging, one that compares versions, one that reads again, and perhaps others.
        let id = JobId::parse(status.rsplit('/').next().unwrap_or_default())?;
        let rounds = deployment.job_store().job(&id).await?.ok_or("no job")?.round;
        assert!(rounds >= 4, "{rounds} rounds");
        Ok(())
    })
}

// Holds: A13
#[test]
fn every_version_is_exported_if_history_is_requested() -> Result<()> {
    run(async || {
        let lake = increments();
        let mut every: Vec<_> = all(&lake).iter().filter_map(Line::text).collect();
        every.sort();
        for (associated, deleted) in [(vec![AssociatedData::History], 0), (vec![AssociatedData::History, AssociatedData::Deleted], 1)] {
            let request = ExportRequest { associated_data: associated.into_iter().collect(), ..ExportRequest::default() };
            let completed = export(&local(&lake).await?, small_settings(LakeVersions::Auto), request).await?;
            assert_eq!(completed.sorted_lines(), every);
            // The other deleted resources have versions in the export, so they are not listed.
            assert_eq!(completed.deleted_references()?.len(), deleted);
        }
        Ok(())
    })
}

/// Creates a Provenance.
fn provenance(id: &str, targets: &[&str], day: &'static str, recorded: &str) -> Line {
    let targets: Vec<String> = targets.iter().map(|target| format!(r#"{{"reference":"{target}"}}"#)).collect();
    let members = format!(r#","recorded":"{recorded}T00:00:00Z","target":[{}]"#, targets.join(","));
    Line::resource("Provenance", id, day, 1, &members)
}

/// Returns a lake of two patients, Provenance, and observations. One observation leaves the compartment.
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

/// Returns the ids of the exported Provenance, which must not depend on settings and stores.
async fn exported_provenance(request: ExportRequest) -> Result<Vec<String>> {
    let mut results = BTreeSet::new();
    let lake = provenances();
    for versions in [LakeVersions::One, LakeVersions::Auto, LakeVersions::Many] {
        for completed in [
            export(&local(&lake).await?, small_settings(versions), request.clone()).await?,
            export(
                &aws(&lake).await?,
                DeploymentSettings { worker: small_settings(versions).worker, ..DeploymentSettings::default() },
                request.clone(),
            )
            .await?,
        ] {
            let mut ids: Vec<String> =
                names(&completed.lines())?.iter().filter_map(|name| name.strip_prefix("Provenance/").map(str::to_owned)).collect();
            ids.sort();
            results.insert(ids);
        }
    }
    match results.len() {
        1 => results.pop_first().ok_or_else(|| "nothing".into()),
        _ => Err(format!("the result depends on settings or stores: {results:?}").into()),
    }
}

// Holds: P71
#[test]
fn a_patient_export_includes_the_provenance_of_every_resource_in_the_compartments() -> Result<()> {
    run(async || {
        let level = ExportRequest { level: Level::AllPatients, ..ExportRequest::default() };
        // A Provenance about a patient is itself in the compartment, so Provenance about that Provenance is exported too.
        let all = ["observation-new", "observation-old", "of-provenance", "patient"];
        assert_eq!(exported_provenance(level.clone()).await?, all);
        let alone = ExportRequest { types: request_of_types(&["Provenance"]).types, ..level.clone() };
        assert_eq!(exported_provenance(alone).await?, all, "also if its targets are not exported");
        let later = ExportRequest { since: Instant::parse("2026-01-02T12:00:00Z").ok(), ..level.clone() };
        assert_eq!(exported_provenance(later).await?, all);
        let much_later = ExportRequest { since: Instant::parse("2026-01-04").ok(), ..level.clone() };
        assert_eq!(exported_provenance(much_later).await?, Vec::<String>::new());
        let observations_only = ExportRequest { types: request_of_types(&["Observation"]).types, ..level };
        assert_eq!(exported_provenance(observations_only).await?, Vec::<String>::new());
        Ok(())
    })
}

// Holds: P70
#[test]
fn associated_provenance_is_exported_completely_or_only_the_latest() -> Result<()> {
    run(async || {
        let with = |associated: &[AssociatedData], request: ExportRequest| ExportRequest {
            associated_data: associated.iter().copied().collect(),
            ..request
        };
        let (all, latest) = (AssociatedData::RelevantProvenanceResources, AssociatedData::LatestProvenanceResources);
        let level = ExportRequest { level: Level::AllPatients, ..ExportRequest::default() };
        assert_eq!(exported_provenance(with(&[all], level.clone())).await?, ["observation-new", "observation-old", "patient"]);
        assert_eq!(exported_provenance(with(&[latest], level.clone())).await?, ["observation-new", "patient"]);
        let observations = ExportRequest { types: request_of_types(&["Observation"]).types, ..level };
        assert_eq!(exported_provenance(with(&[all], observations.clone())).await?, ["observation-new", "observation-old"]);
        assert_eq!(exported_provenance(with(&[latest], observations)).await?, ["observation-new"]);
        let system = request_of_types(&["Observation"]);
        assert_eq!(
            exported_provenance(with(&[all, latest], system.clone())).await?,
            ["elsewhere", "moved", "observation-new", "observation-old", "of-left"]
        );
        assert_eq!(exported_provenance(with(&[latest], system)).await?, ["moved", "observation-new", "of-left"]);
        Ok(())
    })
}

// Holds: P12
#[test]
fn referenced_resources_are_added_if_the_operator_enables_it() -> Result<()> {
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
            let mut settings = small_settings(versions);
            assert_eq!(names(&export(&local(&lake).await?, settings.clone(), level.clone()).await?.lines())?, ["Observation/a"]);
            settings.worker.lake.adds_referenced = true;
            let completed = export(&local(&lake).await?, settings.clone(), level.clone()).await?;
            assert_eq!(names(&completed.sorted_lines())?, ["Observation/a", "Organization/seen", "Practitioner/now"]);
            let listed = ExportRequest { types: request_of_types(&["Observation", "Practitioner"]).types, ..level.clone() };
            assert_eq!(names(&export(&aws(&lake).await?, settings, listed).await?.sorted_lines())?, ["Observation/a", "Practitioner/now"]);
        }
        Ok(())
    })
}

#[test]
fn elements_apply_to_every_resource_whatever_caused_its_export() -> Result<()> {
    run(async || {
        let lake = provenances();
        let request = ExportRequest {
            level: Level::AllPatients,
            elements: vec!["Observation.id".into(), "Provenance.recorded".into()],
            ..ExportRequest::default()
        };
        for versions in [LakeVersions::Auto, LakeVersions::Many] {
            let completed = export(&local(&lake).await?, small_settings(versions), request.clone()).await?;
            assert_eq!(names(&completed.sorted_lines())?.len(), 2 + 1 + 4, "{:?}", names(&completed.sorted_lines())?);
            for line in completed.lines() {
                let text = String::from_utf8(line)?;
                assert_eq!(text.contains("SUBSETTED"), !text.contains("\"Patient\""), "{text}");
                assert!(!text.contains("subject"), "{text}");
            }
        }
        Ok(())
    })
}

#[test]
fn every_ignored_parameter_is_reported_once_beside_other_errors() -> Result<()> {
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
                for merge_limit_bytes in [1, 1_500, 1 << 30] {
                    let request = ExportRequest { ignored: ignored.clone(), ..ExportRequest::default() };
                    let settings = small_settings(versions).with_merge_limit_bytes(merge_limit_bytes);
                    let completed = export(&local(&lake).await?, settings, request).await?;
                    let errors: String = completed
                        .files
                        .iter()
                        .filter(|(name, _)| name.starts_with("error-"))
                        .map(|(_, file)| String::from_utf8_lossy(file).into_owned())
                        .collect();
                    assert_eq!(errors.lines().count(), if has_broken_lines { 4 } else { 2 });
                    for one in &ignored {
                        assert_eq!(errors.matches(&one.text).count(), 1, "{errors}");
                    }
                    assert_eq!(errors.matches("\"severity\":\"information\"").count(), 2);
                }
            }
        }
        Ok(())
    })
}

#[test]
fn a_lake_that_holds_only_deletions_gives_an_empty_export() -> Result<()> {
    run(async || {
        let lake =
            vec![("deleted-1.ndjson", vec![deletion(&["Patient/1"], Some("2026-01-01")), deletion(&["Patient/1"], Some("2026-01-02"))])];
        for versions in [LakeVersions::Auto, LakeVersions::Many] {
            let completed = export(&local(&lake).await?, small_settings(versions), ExportRequest::default()).await?;
            assert!(completed.manifest.output.is_empty() && completed.manifest.error.is_empty());
            let completed = export(&local(&lake).await?, small_settings(versions), since("2025-01-01")).await?;
            assert_eq!(completed.deleted_references()?, ["Patient/1"], "the two deletions are listed once");
        }
        Ok(())
    })
}

#[test]
fn versions_with_equal_or_missing_timestamps_have_a_defined_order() -> Result<()> {
    run(async || {
        let untimed = |id, text: &str| {
            Version { resource_type: "Basic", id, day: None, number: None, members: format!(r#","code":"{text}""#) }.line()
        };
        let timed = |id, number: &'static str, text: &str| {
            Version { resource_type: "Basic", id, day: Some("2026-01-01"), number: Some(number), members: format!(r#","code":"{text}""#) }
                .line()
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
        let completed = export(&local(&lake).await?, small_settings(LakeVersions::Auto), ExportRequest::default()).await?;
        let text = completed.sorted_lines().concat();
        let text = String::from_utf8(text)?;
        let codes: Vec<&str> =
            ["first", "second", "timed", "ninth", "tenth", "gone"].into_iter().filter(|code| text.contains(code)).collect();
        assert_eq!((completed.lines().len(), codes), (4, vec!["second", "timed", "tenth"]));
        assert_eq!(completed.sorted_lines(), expected(&all(&lake)).lines);
        Ok(())
    })
}
