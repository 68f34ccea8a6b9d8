//! Exports of clients who may not read everything: exactly what they may read comes out, whatever brings it in.

use std::collections::BTreeSet;

use headrace_core::access::{Client, ClientKeys, Scopes};
use headrace_core::flow::work::run_task::LakeVersions;
use headrace_core::ports::AccessStore as _;
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::ids::Caller;
use headrace_fhir::FhirVersion;
use headrace_tests::flows::{Answer, Ask, Aws, BEN, Finished, ManualClock, Result, Stage, Terms, World, run};
use headrace_tests::lake;
use serde_json::Value;

use super::model::{Line, deletion, lines, version};
use super::versions::small;

/// Ann, as the door knows her in all her sessions.
const ANN: &str = "arn:aws:sts::111122223333:assumed-role/Export";

/// Ann's registration with these scopes.
pub(crate) fn ann(scopes: &str) -> Client {
    Client::new(Caller(ANN.to_owned()), ClientKeys::Elsewhere, Scopes::of_text(scopes, FhirVersion::R4).0, Millis(0))
}

/// Writes a registration over whatever there is.
pub(crate) async fn register(stage: &impl Stage, client: Client) -> Result<()> {
    let jobs = stage.jobs();
    let seen = jobs.client(&client.id).await?.map(|client| client.changed_at);
    let changed_at = Millis(seen.map_or(0, |seen| seen.0 + 1));
    if jobs.put_client(&Client { changed_at, ..client }, seen).await? { Ok(()) } else { Err("somebody was faster".into()) }
}

/// Kicks off; the path of the status URL.
pub(crate) async fn kick_off<S: Stage>(world: &World<S>, path: &str) -> Result<String> {
    status_of(&world.ask("GET", path).await?).map_err(|error| format!("{path}: {error}").into())
}

pub(crate) fn status_of(answer: &Answer) -> Result<String> {
    let url = answer.header("content-location").filter(|_| answer.status == 202).ok_or_else(|| format!("{answer:?}"))?;
    Ok(url.find("/_operations").and_then(|at| url.get(at..)).ok_or("no status URL")?.to_owned())
}

async fn export(stage: &Aws, terms: Terms, path: &str) -> Result<Finished> {
    let world = World::start(stage, &ManualClock::default(), terms);
    let status = kick_off(&world, path).await?;
    world.finish(&status).await
}

/// The lines of an export as trees see them, without the headers of blocks.
fn resources(finished: &Finished) -> Result<Vec<(String, Value)>> {
    let mut resources = Vec::new();
    for line in finished.lines() {
        let tree: Value = serde_json::from_slice(&line)?;
        if word(&tree, "resourceType") != "Parameters" {
            resources.push((String::from_utf8(line)?, tree));
        }
    }
    resources.sort_by(|one, other| one.0.cmp(&other.0));
    Ok(resources)
}

fn word<'a>(tree: &'a Value, name: &str) -> &'a str {
    tree.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// Whether a CodeableConcept, or one of a list, has this code.
fn has_code(tree: &Value, element: &str, code: &str) -> bool {
    let concepts = match tree.get(element) {
        Some(Value::Array(concepts)) => concepts.clone(),
        concept => concept.cloned().into_iter().collect(),
    };
    let codings = concepts.iter().filter_map(|concept| concept.get("coding")?.as_array()).flatten();
    codings.filter_map(|coding| coding.get("code")?.as_str()).any(|known| known == code)
}

type Predicate = fn(&Value) -> bool;

/// Scopes, and the same as a reader of trees would say it.
const SCOPES: [(&str, Predicate); 4] = [
    ("system/*.rs", |_| true),
    ("system/Patient.read system/Encounter.rs system/Organization.rs", |tree| {
        ["Patient", "Encounter", "Organization"].contains(&word(tree, "resourceType"))
    }),
    ("system/Patient.rs?gender=female system/Observation.rs?category=laboratory system/Group.rs", |tree| {
        match word(tree, "resourceType") {
            "Patient" => word(tree, "gender") == "female",
            "Observation" => has_code(tree, "category", "laboratory"),
            "Group" => true,
            _ => false,
        }
    }),
    ("system/Observation.rs?category=laboratory&_lastUpdated=ge2024 system/Observation.rs?code=85354-9", |tree| {
        let changed = tree.pointer("/meta/lastUpdated").and_then(Value::as_str).unwrap_or_default();
        word(tree, "resourceType") == "Observation"
            && ((has_code(tree, "category", "laboratory") && changed >= "2024") || has_code(tree, "code", "85354-9"))
    }),
];

// Holds: R1, SEC-A12, SEC-A13
#[test]
fn what_may_be_read_of_an_export_is_what_comes_out_of_it() -> Result<()> {
    run(async || {
        let stage = Aws::over(&lake::sample_dir()).await?;
        let mut differences = BTreeSet::new();
        // What a client may read is asked of every line in one place, so each way through an export is gone once, for some.
        let ways = [
            ("/$export", LakeVersions::Auto),
            ("/$export?_since=2024-06-01T00:00:00Z", LakeVersions::Many),
            ("/$export?_typeFilter=Observation%3Fstatus%3Dfinal%26date%3Dge2024", LakeVersions::Auto),
            ("/$export?includeAssociatedData=_history", LakeVersions::Many),
            ("/Patient/$export", LakeVersions::Many),
            ("/Patient/$export?organizeOutputBy=Patient", LakeVersions::Auto),
            ("/Patient/hr-patient-01/$export", LakeVersions::Auto),
            ("/Group/hr-group-study-1/$export", LakeVersions::Many),
        ];
        for (index, (path, versions)) in ways.into_iter().enumerate() {
            let mut terms = small(versions);
            terms.limits.file_bytes = 20_000;
            register(&stage, ann("system/*.rs")).await?;
            let whole = resources(&export(&stage, terms.clone(), path).await?)?;
            for (scopes, may_be_read) in SCOPES.iter().cycle().skip(2 * index).take(2) {
                // Nothing but Observations is a request of its own where a filter is on them.
                register(&stage, ann(scopes)).await?;
                let world = World::start(&stage, &ManualClock::default(), terms.clone());
                let answer = world.ask("GET", path).await?;
                if path.contains("_typeFilter") && !scopes.contains("Observation") && !scopes.contains('*') {
                    assert_eq!((answer.status, answer.outcome()?.1.as_str()), (403, "forbidden"));
                    continue;
                }
                let finished = world.finish(&status_of(&answer)?).await?;
                let expected: Vec<&String> = whole.iter().filter(|(_, tree)| may_be_read(tree)).map(|(text, _)| text).collect();
                let found = resources(&finished)?;
                assert_eq!(found.iter().map(|(text, _)| text).collect::<Vec<_>>(), expected, "{path} {scopes} {versions:?}");
                assert!(finished.manifest.error.is_empty() || path.contains("organize"), "{path} {scopes}");
                differences.insert((scopes, found.len() == whole.len()));
            }
        }
        assert!(SCOPES.iter().skip(1).all(|(scopes, _)| differences.contains(&(scopes, false))), "every limit limits something");
        Ok(())
    })
}

/// Two patients, observations that come and go, what they refer to, and who wrote them.
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

async fn stage_of(lake: &[(&str, Vec<Line>)]) -> Result<Aws> {
    let stage = Aws::empty().await?;
    for (object, held) in lake {
        stage.change_lake(object, Some(lines(held).into())).await?;
    }
    Ok(stage)
}

/// `Type/id` of each line, sorted, with the version where it is not the first.
fn named(finished: &Finished) -> Result<Vec<String>> {
    let name = |tree: &Value| {
        let number = tree.pointer("/meta/versionId").and_then(Value::as_str).filter(|number| *number != "1");
        format!("{}/{}{}", word(tree, "resourceType"), word(tree, "id"), number.map(|number| format!(" v{number}")).unwrap_or_default())
    };
    let mut names: Vec<String> = resources(finished)?.iter().map(|(_, tree)| name(tree)).collect();
    names.sort();
    Ok(names)
}

// Holds: SEC-A12, R1
#[test]
fn limits_go_for_every_way_into_an_export_and_are_judged_on_each_version() -> Result<()> {
    run(async || {
        let stage = stage_of(&small_lake()).await?;
        let scopes = "system/Observation.rs?status=final system/Patient.rs system/Practitioner.rs?active=true system/Provenance.rs";
        register(&stage, ann(scopes)).await?;
        let observations = ["Observation/came v2", "Observation/final"];
        let all_provenance = ["Provenance/of-draft", "Provenance/of-final", "Provenance/of-patient"];
        for (path, adds_referenced, others) in [
            // Provenance itself may be read whole, and what it is of lies in the compartment.
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
                let mut terms = small(versions);
                terms.work.adds_referenced = adds_referenced;
                let finished = export(&stage, terms, path).await?;
                let mut expected: Vec<&str> = others.iter().copied().flatten().copied().chain(observations).collect();
                expected.sort_unstable();
                assert_eq!(named(&finished)?, expected, "{path} {versions:?}");
                // Nobody can tell whether a resource that is gone would have matched.
                let deleted: &[&str] = if path.contains("_since") { &["Patient/gone"] } else { &[] };
                assert_eq!(finished.deleted()?, deleted, "{path}");
            }
        }
        let history = export(&stage, small(LakeVersions::Auto), "/$export?_type=Observation&includeAssociatedData=_history").await?;
        let versions = ["Observation/came v2", "Observation/final", "Observation/gone", "Observation/left"];
        assert_eq!(named(&history)?, versions, "each version by what it says itself");
        Ok(())
    })
}

#[test]
fn what_an_exported_resource_refers_to_comes_along_only_if_it_may_be_read() -> Result<()> {
    run(async || {
        let stage = stage_of(&small_lake()).await?;
        let mut terms = small(LakeVersions::Auto);
        terms.work.adds_referenced = true;
        for (scopes, others) in [
            ("system/Observation.rs?status=final", &[][..]),
            ("system/Observation.rs?status=final system/Organization.rs", &["Organization/any"]),
            ("system/Observation.rs?status=final system/Practitioner.rs", &["Practitioner/active", "Practitioner/retired"]),
            ("system/Observation.rs?status=final system/Practitioner.rs?_id=retired,of-draft", &["Practitioner/retired"]),
        ] {
            register(&stage, ann(scopes)).await?;
            let mut expected = vec!["Observation/came v2", "Observation/final"];
            expected.extend(others);
            assert_eq!(named(&export(&stage, terms.clone(), "/Patient/$export").await?)?, expected, "{scopes}");
        }
        Ok(())
    })
}

/// What the routes of an export answer: status, list, files.
async fn seen(world: &World<Aws>, status: &str, file: &str) -> Result<(u16, usize, u16)> {
    let list: Value = serde_json::from_slice(&world.ask("GET", "/_operations/export").await?.body)?;
    let listed = list.get("entry").and_then(Value::as_array).map_or(0, Vec::len);
    Ok((world.ask("GET", status).await?.status, listed, world.ask("GET", file).await?.status))
}

// Holds: SEC-A16, F2
#[test]
fn who_may_read_less_than_an_export_holds_does_not_find_it_any_more() -> Result<()> {
    run(async || {
        let stage = stage_of(&small_lake()).await?;
        register(&stage, ann("system/Observation.rs?status=final system/Patient.rs")).await?;
        let world = World::start(&stage, &ManualClock::default(), Terms::default());
        let status = kick_off(&world, "/$export").await?;
        let id = status.rsplit('/').next().unwrap_or_default();
        let file = format!("/_operations/files/{id}/Patient-1.ndjson");
        world.finish(&status).await?;
        let (there, gone) = ((200, 1, 307), (404, 0, 404));
        for (scopes, expected) in [
            ("system/Patient.rs", gone),
            ("system/Observation.rs", gone),
            ("system/*.rs", there),
            ("system/Patient.rs system/Observation.rs", there),
            ("system/Patient.rs system/Observation.rs?status=amended", gone),
            ("system/Patient.rs system/Observation.rs?status=final&code=1", gone),
            ("system/Patient.rs?gender=male system/Observation.rs?status=final", gone),
            ("", gone),
            ("system/Patient.rs system/Observation.rs?status=final system/Observation.rs?status=draft", there),
        ] {
            register(&stage, ann(scopes)).await?;
            assert_eq!(seen(&world, &status, &file).await?, expected, "{scopes}");
        }
        register(&stage, ann("system/Patient.rs")).await?;
        assert_eq!(world.ask("DELETE", &status).await?.status, 404);
        // Another caller's scopes do not make it theirs.
        let other = world.send(&Ask::new("GET", &status).by(BEN)).await?;
        assert_eq!(other.status, 404);
        register(&stage, ann("system/*.read")).await?;
        assert_eq!(world.ask("DELETE", &status).await?.status, 202);
        Ok(())
    })
}

#[test]
fn an_export_goes_on_as_it_was_granted_whatever_becomes_of_the_registration() -> Result<()> {
    run(async || {
        let stage = stage_of(&small_lake()).await?;
        register(&stage, ann("system/Observation.rs?status=final")).await?;
        let world = World::start(&stage, &ManualClock::default(), small(LakeVersions::Auto));
        let status = kick_off(&world, "/$export").await?;
        register(&stage, ann("")).await?;
        world.drain().await?;
        register(&stage, ann("system/*.rs")).await?;
        assert_eq!(named(&world.finish(&status).await?)?, ["Observation/came v2", "Observation/final"]);
        Ok(())
    })
}
