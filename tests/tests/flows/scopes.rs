//! Exports of clients with restricted scopes. They hold exactly the resources that the scopes allow, whatever causes their export.

use std::collections::BTreeSet;

use headrace_core::access::{Client, ClientKeys, Scopes};
use headrace_core::ports::AccessStore as _;
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::ids::Caller;
use headrace_core::vocab::lake_settings::{LakeVersions, LakeWatermark};
use headrace_fhir::definitions::FhirVersion;
use headrace_tests::flows::{
    AwsDeployment, BEN, CompletedExport, Deployment, DeploymentSettings, ManualClock, Result, ServiceProcess, TestRequest, TestResponse,
    run,
};
use headrace_tests::lake;
use serde_json::Value;

use super::lake_model::{Line, deletion, lines, version};
use super::versions::small_settings;

/// Caller id of Ann in all sessions of her role.
const ANN: &str = "arn:aws:sts::111122223333:assumed-role/Export";

/// Returns a registration of Ann with these scopes.
pub(crate) fn ann(scopes: &str) -> Client {
    Client::new(Caller(ANN.to_owned()), ClientKeys::External, Scopes::parse(scopes, FhirVersion::R4).0, Millis(0))
}

/// Stores a registration, also if there is one already.
pub(crate) async fn register(deployment: &impl Deployment, client: Client) -> Result<()> {
    let jobs = deployment.job_store();
    let seen = jobs.client(&client.id).await?.map(|client| client.changed_at);
    let changed_at = Millis(seen.map_or(0, |seen| seen.0 + 1));
    if jobs.put_client(&Client { changed_at, ..client }, seen).await? {
        Ok(())
    } else {
        Err("the client was registered concurrently".into())
    }
}

/// Kicks off and returns the path of the status URL.
pub(crate) async fn kick_off<S: Deployment>(service: &ServiceProcess<S>, path: &str) -> Result<String> {
    status_of(&service.request("GET", path).await?).map_err(|error| format!("{path}: {error}").into())
}

/// Returns the path of the status URL of an accepted kick-off.
pub(crate) fn status_of(response: &TestResponse) -> Result<String> {
    let url = response.header("content-location").filter(|_| response.status == 202).ok_or_else(|| format!("{response:?}"))?;
    Ok(url.find("/_operations").and_then(|at| url.get(at..)).ok_or("no status URL")?.to_owned())
}

/// Exports and downloads all files.
async fn export(deployment: &AwsDeployment, settings: DeploymentSettings, path: &str) -> Result<CompletedExport> {
    let service = ServiceProcess::start(deployment, &ManualClock::default(), settings);
    let status = kick_off(&service, path).await?;
    service.complete(&status).await
}

/// Returns the exported lines and their JSON, sorted, without block headers.
fn resources(completed: &CompletedExport) -> Result<Vec<(String, Value)>> {
    let mut resources = Vec::new();
    for line in completed.lines() {
        let tree: Value = serde_json::from_slice(&line)?;
        if string_member(&tree, "resourceType") != "Parameters" {
            resources.push((String::from_utf8(line)?, tree));
        }
    }
    resources.sort_by(|one, other_caller| one.0.cmp(&other_caller.0));
    Ok(resources)
}

/// Returns the string member of this name, or an empty string.
fn string_member<'a>(tree: &'a Value, name: &str) -> &'a str {
    tree.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// Returns true if a CodeableConcept, or one in a list of them, has this code.
fn has_code(tree: &Value, element: &str, code: &str) -> bool {
    let concepts = match tree.get(element) {
        Some(Value::Array(concepts)) => concepts.clone(),
        concept => concept.cloned().into_iter().collect(),
    };
    let codings = concepts.iter().filter_map(|concept| concept.get("coding")?.as_array()).flatten();
    codings.filter_map(|coding| coding.get("code")?.as_str()).any(|known| known == code)
}

/// Condition on a resource.
type Predicate = fn(&Value) -> bool;

/// Scopes, and the same conditions on the JSON of a resource.
const SCOPES: [(&str, Predicate); 4] = [
    ("system/*.rs", |_| true),
    ("system/Patient.read system/Encounter.rs system/Organization.rs", |tree| {
        ["Patient", "Encounter", "Organization"].contains(&string_member(tree, "resourceType"))
    }),
    ("system/Patient.rs?gender=female system/Observation.rs?category=laboratory system/Group.rs", |tree| {
        match string_member(tree, "resourceType") {
            "Patient" => string_member(tree, "gender") == "female",
            "Observation" => has_code(tree, "category", "laboratory"),
            "Group" => true,
            _ => false,
        }
    }),
    ("system/Observation.rs?category=laboratory&_lastUpdated=ge2024 system/Observation.rs?code=85354-9", |tree| {
        let changed = tree.pointer("/meta/lastUpdated").and_then(Value::as_str).unwrap_or_default();
        string_member(tree, "resourceType") == "Observation"
            && ((has_code(tree, "category", "laboratory") && changed >= "2024") || has_code(tree, "code", "85354-9"))
    }),
];

// Holds: R1, SEC-A12, SEC-A13
#[test]
fn an_export_holds_exactly_the_resources_that_the_scopes_allow() -> Result<()> {
    run(async || {
        let deployment = AwsDeployment::with_lake(&lake::sample_lake_dir()).await?;
        let mut differences = BTreeSet::new();
        // The scopes are checked at a single place for every line. So each kind of export is tested with some of the scopes.
        let exports = [
            ("/$export", LakeVersions::Auto),
            ("/$export?_since=2024-06-01T00:00:00Z", LakeVersions::Many),
            ("/$export?_typeFilter=Observation%3Fstatus%3Dfinal%26date%3Dge2024", LakeVersions::Auto),
            ("/$export?includeAssociatedData=_history", LakeVersions::Many),
            ("/Patient/$export", LakeVersions::Many),
            ("/Patient/$export?organizeOutputBy=Patient", LakeVersions::Auto),
            ("/Patient/hr-patient-01/$export", LakeVersions::Auto),
            ("/Group/hr-group-study-1/$export", LakeVersions::Many),
        ];
        for (index, (path, versions)) in exports.into_iter().enumerate() {
            let mut settings = small_settings(versions);
            // Of each type there are still several files and tasks, but not one for every line.
            settings.job.file_bytes = 20_000;
            settings.worker.resolve_bytes = 20_000;
            settings.worker.lake.watermark = LakeWatermark::Now;
            register(&deployment, ann("system/*.rs")).await?;
            let whole = resources(&export(&deployment, settings.clone(), path).await?)?;
            for (scopes, may_be_read) in SCOPES.iter().cycle().skip(2 * index).take(2) {
                // A filter on a type beyond the scopes is rejected.
                register(&deployment, ann(scopes)).await?;
                let service = ServiceProcess::start(&deployment, &ManualClock::default(), settings.clone());
                let response = service.request("GET", path).await?;
                if path.contains("_typeFilter") && !scopes.contains("Observation") && !scopes.contains('*') {
                    assert_eq!((response.status, response.outcome()?.1.as_str()), (403, "forbidden"));
                    continue;
                }
                let completed = service.complete(&status_of(&response)?).await?;
                let expected: Vec<&String> = whole.iter().filter(|(_, tree)| may_be_read(tree)).map(|(text, _)| text).collect();
                let exported = resources(&completed)?;
                assert_eq!(exported.iter().map(|(text, _)| text).collect::<Vec<_>>(), expected, "{path} {scopes} {versions:?}");
                assert!(completed.manifest.error.is_empty() || path.contains("organize"), "{path} {scopes}");
                differences.insert((scopes, exported.len() == whole.len()));
            }
        }
        assert!(
            SCOPES.iter().skip(1).all(|(scopes, _)| differences.contains(&(scopes, false))),
            "each of the restricted scopes excludes something"
        );
        Ok(())
    })
}

/// Returns a lake of one patient, observations whose status changes, the resources that they refer to, and Provenance.
fn small_lake() -> Vec<(&'static str, Vec<Line>)> {
    let observation = |id, day, number, status: &str, performers: &[&str]| {
        let performers: Vec<String> = performers.iter().map(|performer| format!(r#"{{"reference":"{performer}"}}"#)).collect();
        let members = format!(r#","status":"{status}","subject":{{"reference":"Patient/1"}},"performer":[{}]"#, performers.join(","));
        Line::resource("Observation", id, day, number, &members)
    };
    let practitioner = |id, is_active: bool| Line::resource("Practitioner", id, "2020-01-01", 1, &format!(r#","active":{is_active}"#));
    let provenance = |id, target: &str| {
        let members = format!(r#","recorded":"2026-01-05T00:00:00Z","target":[{{"reference":"{target}"}}]"#);
        Line::resource("Provenance", id, "2026-01-05", 1, &members)
    };
    vec![
        ("Patient.ndjson", vec![version("Patient", 1, "2026-01-01", 1)]),
        (
            "Observation.ndjson",
            vec![
                observation("left", "2026-01-02", 1, "final", &["Practitioner/of-left"]),
                observation("came", "2026-01-02", 1, "draft", &[]),
                observation("final", "2026-01-02", 1, "final", &["Practitioner/active", "Practitioner/retired", "Organization/any"]),
                observation("draft", "2026-01-02", 1, "draft", &["Practitioner/of-draft"]),
                observation("gone", "2026-01-02", 1, "final", &[]),
            ],
        ),
        (
            "other.ndjson",
            vec![
                practitioner("active", true),
                practitioner("retired", false),
                practitioner("of-draft", true),
                practitioner("of-left", true),
                Line::resource("Organization", "any", "2020-01-01", 1, ""),
                provenance("of-final", "Observation/final"),
                provenance("of-draft", "Observation/draft"),
                provenance("of-patient", "Patient/1"),
            ],
        ),
        (
            "z-later.ndjson",
            vec![
                observation("left", "2026-01-03", 2, "draft", &[]),
                observation("came", "2026-01-03", 2, "final", &[]),
                deletion(&["Observation/gone", "Patient/gone"], Some("2026-01-04")),
            ],
        ),
    ]
}

/// Creates an AWS deployment with this lake.
async fn deployment_with(lake: &[(&str, Vec<Line>)]) -> Result<AwsDeployment> {
    let deployment = AwsDeployment::new().await?;
    for (object, object_lines) in lake {
        deployment.set_lake_object(object, Some(lines(object_lines).into())).await?;
    }
    Ok(deployment)
}

/// Returns sorted `Type/id` names of the lines, with the version number if it is not 1.
fn names(completed: &CompletedExport) -> Result<Vec<String>> {
    let name = |tree: &Value| {
        let number = tree.pointer("/meta/versionId").and_then(Value::as_str).filter(|number| *number != "1");
        format!(
            "{}/{}{}",
            string_member(tree, "resourceType"),
            string_member(tree, "id"),
            number.map(|number| format!(" v{number}")).unwrap_or_default()
        )
    };
    let mut names: Vec<String> = resources(completed)?.iter().map(|(_, tree)| name(tree)).collect();
    names.sort();
    Ok(names)
}

// Holds: SEC-A12, R1
#[test]
fn scopes_apply_to_every_cause_of_export_and_to_each_version() -> Result<()> {
    run(async || {
        let deployment = deployment_with(&small_lake()).await?;
        let scopes = "system/Observation.rs?status=final system/Patient.rs system/Practitioner.rs?active=true system/Provenance.rs";
        register(&deployment, ann(scopes)).await?;
        let observations = ["Observation/came v2", "Observation/final"];
        let all_provenance = ["Provenance/of-draft", "Provenance/of-final", "Provenance/of-patient"];
        for (path, adds_referenced, others) in [
            // The scopes allow all Provenance, and its targets are in the compartment, whether the scopes allow them or not.
            ("/Patient/$export", false, &[&["Patient/1"][..], &all_provenance][..]),
            ("/Patient/$export", true, &[&["Patient/1", "Practitioner/active"], &all_provenance]),
            ("/Patient/$export?organizeOutputBy=Patient", false, &[&["Patient/1", "Provenance/of-patient"]]),
            (
                "/Patient/$export?includeAssociatedData=RelevantProvenanceResources",
                false,
                &[&["Patient/1", "Provenance/of-final", "Provenance/of-patient"]],
            ),
            ("/Patient/$export?_type=Observation&includeAssociatedData=LatestProvenanceResources", true, &[&["Provenance/of-final"]]),
            ("/$export?_type=Observation", true, &[]),
            ("/$export?_since=2026-01-01T12:00:00Z&_type=Observation,Patient", false, &[]),
        ] {
            for versions in [LakeVersions::Auto, LakeVersions::Many] {
                let mut settings = small_settings(versions);
                settings.worker.lake.adds_referenced = adds_referenced;
                let completed = export(&deployment, settings, path).await?;
                let mut expected: Vec<&str> = others.iter().copied().flatten().copied().chain(observations).collect();
                expected.sort_unstable();
                assert_eq!(names(&completed)?, expected, "{path} {versions:?}");
                // A deletion does not say whether the resource matched the filter of a scope, so such types are left out.
                let deleted: &[&str] = if path.contains("_since") { &["Patient/gone"] } else { &[] };
                assert_eq!(completed.deleted_references()?, deleted, "{path}");
            }
        }
        let history =
            export(&deployment, small_settings(LakeVersions::Auto), "/$export?_type=Observation&includeAssociatedData=_history").await?;
        let versions = ["Observation/came v2", "Observation/final", "Observation/gone", "Observation/left"];
        assert_eq!(names(&history)?, versions, "the filter applies to each version");
        Ok(())
    })
}

#[test]
fn referenced_resources_are_added_only_if_the_scopes_allow_them() -> Result<()> {
    run(async || {
        let deployment = deployment_with(&small_lake()).await?;
        let mut settings = small_settings(LakeVersions::Auto);
        settings.worker.lake.adds_referenced = true;
        for (scopes, others) in [
            ("system/Observation.rs?status=final", &[][..]),
            ("system/Observation.rs?status=final system/Organization.rs", &["Organization/any"]),
            ("system/Observation.rs?status=final system/Practitioner.rs", &["Practitioner/active", "Practitioner/retired"]),
            ("system/Observation.rs?status=final system/Practitioner.rs?_id=retired,of-draft", &["Practitioner/retired"]),
        ] {
            register(&deployment, ann(scopes)).await?;
            let mut expected = vec!["Observation/came v2", "Observation/final"];
            expected.extend(others);
            assert_eq!(names(&export(&deployment, settings.clone(), "/Patient/$export").await?)?, expected, "{scopes}");
        }
        Ok(())
    })
}

/// Returns how an export appears to the caller: status code of a poll, number of listed exports, status code of a download.
async fn visibility(service: &ServiceProcess<AwsDeployment>, status: &str, file: &str) -> Result<(u16, usize, u16)> {
    let list: Value = serde_json::from_slice(&service.request("GET", "/_operations/export").await?.body)?;
    let listed = list.get("entry").and_then(Value::as_array).map_or(0, Vec::len);
    Ok((service.request("GET", status).await?.status, listed, service.request("GET", file).await?.status))
}

// Holds: SEC-A16, F2
#[test]
fn an_export_is_not_found_once_the_scopes_no_longer_cover_it() -> Result<()> {
    run(async || {
        let deployment = deployment_with(&small_lake()).await?;
        register(&deployment, ann("system/Observation.rs?status=final system/Patient.rs")).await?;
        let service = ServiceProcess::start(&deployment, &ManualClock::default(), DeploymentSettings::default());
        let status = kick_off(&service, "/$export").await?;
        let id = status.rsplit('/').next().unwrap_or_default();
        let file = format!("/_operations/files/{id}/Patient-1.ndjson");
        service.complete(&status).await?;
        let (visible, hidden) = ((200, 1, 307), (404, 0, 404));
        for (scopes, expected) in [
            ("system/Patient.rs", hidden),
            ("system/Observation.rs", hidden),
            ("system/*.rs", visible),
            ("system/Patient.rs system/Observation.rs", visible),
            ("system/Patient.rs system/Observation.rs?status=amended", hidden),
            ("system/Patient.rs system/Observation.rs?status=final&code=1", hidden),
            ("system/Patient.rs?gender=male system/Observation.rs?status=final", hidden),
            ("", hidden),
            ("system/Patient.rs system/Observation.rs?status=final system/Observation.rs?status=draft", visible),
        ] {
            register(&deployment, ann(scopes)).await?;
            assert_eq!(visibility(&service, &status, &file).await?, expected, "{scopes}");
        }
        register(&deployment, ann("system/Patient.rs")).await?;
        assert_eq!(service.request("DELETE", &status).await?.status, 404);
        // Another caller does not see the export, whatever its scopes.
        let other_caller = service.send(&TestRequest::new("GET", &status).with_identity(BEN)).await?;
        assert_eq!(other_caller.status, 404);
        register(&deployment, ann("system/*.read")).await?;
        assert_eq!(service.request("DELETE", &status).await?.status, 202);
        Ok(())
    })
}

#[test]
fn an_export_keeps_its_scopes_when_the_registration_changes() -> Result<()> {
    run(async || {
        let deployment = deployment_with(&small_lake()).await?;
        register(&deployment, ann("system/Observation.rs?status=final")).await?;
        let service = ServiceProcess::start(&deployment, &ManualClock::default(), small_settings(LakeVersions::Auto));
        let status = kick_off(&service, "/$export").await?;
        register(&deployment, ann("")).await?;
        service.deliver_all().await?;
        register(&deployment, ann("system/*.rs")).await?;
        assert_eq!(names(&service.complete(&status).await?)?, ["Observation/came v2", "Observation/final"]);
        Ok(())
    })
}
