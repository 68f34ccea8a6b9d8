//! De-identified exports (`_anonymizationConfig`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use aho_corasick::AhoCorasick;
use headrace_tests::flows::{Answer, Aws, Finished, ManualClock, OneMachine, Result, Script, Stage, Terms, Twist, World, run};
use headrace_tests::lake;
use serde_json::Value;

use crate::process::{headrace, said};

/// Ids are hashed, so that resources still join; names, addresses and whatever else tells who somebody is goes; dates move.
const CONFIG: &str = include_str!("../../samples/anonymization/study.json");

/// The configuration that raises, skips or quarantines.
fn config(on_error: &str) -> String {
    CONFIG.replacen("\"raise\"", &format!("\"{on_error}\""), 1)
}

/// The configuration with a key of its own for dates. With a key of the job, dates of one patient in 101 move by no day at all;
/// with this one, no date of a patient in these tests is left or comes to lie on a birthday.
fn config_that_moves_all_dates() -> String {
    CONFIG.replacen("\"parameters\": {", "\"parameters\": { \"dateShiftKey\": \"each date moves\",", 1)
}

/// Many tasks and files.
fn small() -> Terms {
    let mut terms = Terms::default();
    terms.limits.file_bytes = 30_000;
    terms.work.slice_floor_bytes = 20_000;
    terms
}

const EVERYTHING: &str = "/$export?_container=study&_anonymizationConfig=config.json";

fn status_of(answer: &Answer) -> Result<String> {
    let url = answer.header("content-location").ok_or_else(|| format!("not accepted: {answer:?}"))?;
    url.find("/_operations").and_then(|at| url.get(at..)).map(str::to_owned).ok_or_else(|| "no status URL".into())
}

async fn export<S: Stage>(world: &World<S>, path: &str) -> Result<Finished> {
    let status = status_of(&world.ask("GET", path).await?)?;
    world.finish(&status).await
}

fn trees(finished: &Finished) -> Result<Vec<Value>> {
    finished.lines().iter().map(|line| Ok(serde_json::from_slice(line)?)).collect()
}

fn text<'v>(tree: &'v Value, pointer: &str) -> &'v str {
    tree.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Every string in a tree below members of these names.
fn strings_below(tree: &Value, names: &[&str], is_below: bool, found: &mut BTreeSet<String>) {
    match tree {
        Value::Object(members) => {
            members.iter().for_each(|(name, value)| strings_below(value, names, is_below || names.contains(&name.as_str()), found));
        }
        Value::Array(items) => items.iter().for_each(|item| strings_below(item, names, is_below, found)),
        Value::String(text) if is_below => drop(found.insert(text.clone())),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// What tells who somebody is: ids, and what the rules take out.
fn originals(trees: &[Value]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for tree in trees {
        found.insert(text(tree, "/id").to_owned());
        let names = ["identifier", "name", "address", "telecom", "birthDate"];
        let is_somebodys = ["Patient", "Practitioner"].contains(&text(tree, "/resourceType"));
        strings_below(tree, if is_somebodys { &names } else { &[] }, false, &mut found);
    }
    // Codes such as `official` and `home` tell nobody; a few digits can be part of any hash.
    let is_code = |text: &str| text.chars().all(|c| c.is_ascii_lowercase());
    let is_part_of_hashes = |text: &str| text.len() < 10 && text.chars().all(|c| c.is_ascii_hexdigit() && !c.is_ascii_uppercase());
    found.into_iter().filter(|text| text.len() >= 4 && !text.starts_with("http") && !is_code(text) && !is_part_of_hashes(text)).collect()
}

/// `Type/id` of each reference to a resource.
fn references(tree: &Value, found: &mut BTreeSet<String>) {
    match tree {
        Value::Object(members) => {
            found.extend(members.get("reference").and_then(Value::as_str).filter(|text| text.contains('/')).map(str::to_owned));
            members.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// How many of the references lead to a resource of the export.
fn joins(trees: &[Value]) -> usize {
    let there: BTreeSet<String> = trees.iter().map(|tree| format!("{}/{}", text(tree, "/resourceType"), text(tree, "/id"))).collect();
    let mut all = BTreeSet::new();
    trees.iter().for_each(|tree| references(tree, &mut all));
    all.intersection(&there).count()
}

async fn tells_nobody_and_joins<S: Stage>(stage: S) -> Result<()> {
    stage.configure("config.json", &config_that_moves_all_dates()).await?;
    let world = World::start(&stage, &ManualClock::default(), small());
    let identified = export(&world, "/$export").await?;
    let (before, status) = (trees(&identified)?, status_of(&world.ask("GET", EVERYTHING).await?)?);
    let finished = world.finish(&status).await?;
    let after = trees(&finished)?;
    assert_eq!(after.len(), before.len());
    assert_eq!(joins(&after), joins(&before));
    assert!(joins(&before) > 50 && finished.files.len() > 20, "{} {}", joins(&before), finished.files.len());
    let bytes: Vec<u8> = finished.files.values().flat_map(|file| file.to_vec()).collect();
    let all = String::from_utf8(bytes)?;
    let originals = originals(&before);
    assert!(originals.len() > 300, "{}", originals.len());
    let survivors: Vec<&String> = originals.iter().filter(|original| all.contains(original.as_str())).collect();
    assert!(survivors.is_empty(), "{survivors:?}");
    assert!(after.iter().all(|tree| tree.pointer("/meta/security").is_some()), "each says what was done to it");
    // The secret has gone with the job's end.
    let items = stage.items().await?;
    assert!(items.values().all(|item| item.get("secret").is_none()));
    Ok(())
}

// Holds: A12
#[test]
fn nothing_that_tells_who_somebody_is_leaves_and_resources_still_join() -> Result<()> {
    run(async || tells_nobody_and_joins(Aws::over(&lake::sample_dir()).await?).await)?;
    run(async || tells_nobody_and_joins(OneMachine::over(&lake::sample_dir()).await?).await)
}

/// Now and then the answer of the destination is lost: what is written again must be the same bytes, or the export fails.
#[test]
fn work_that_is_done_twice_gives_the_same_bytes() -> Result<()> {
    run(async || {
        let stage = Aws::over(&lake::sample_dir()).await?;
        stage.configure("config.json", &config("raise")).await?;
        let mut seen = 0;
        let script = Script::of(move |call| {
            let settles = call.name.starts_with("draft.settle");
            seen += usize::from(settles);
            if settles && seen % 19 == 1 { Twist::FailAfter } else { Twist::Pass }
        });
        let world = World::scripted(&stage, &ManualClock::default(), small(), script);
        let trees = trees(&export(&world, EVERYTHING).await?)?;
        let ids: BTreeSet<(&str, &str)> = trees.iter().map(|tree| (text(tree, "/resourceType"), text(tree, "/id"))).collect();
        assert_eq!((ids.len(), trees.len()), (420, 420), "each resource once");
        assert!(joins(&trees) > 50);
        Ok(())
    })
}

#[test]
fn days_between_a_patients_events_stay_and_another_export_moves_them_otherwise() -> Result<()> {
    run(async || {
        let stage = OneMachine::over(&lake::sample_dir()).await?;
        stage.configure("config.json", &config("raise")).await?;
        let world = World::start(&stage, &ManualClock::default(), small());
        let path = "/Patient/hr-patient-01/$export?_type=Observation";
        let dates = |finished: &Finished| -> Result<Vec<i64>> {
            let mut days: Vec<i64> = trees(finished)?.iter().filter_map(|tree| day(text(tree, "/effectiveDateTime"))).collect();
            days.sort_unstable();
            let first = days.first().copied().unwrap_or_default();
            Ok(days.into_iter().map(|day| day - first).collect())
        };
        let original = dates(&export(&world, path).await?)?;
        let one = export(&world, &format!("{path}&_container=study&_anonymizationConfig=config.json")).await?;
        let other = export(&world, &format!("{path}&_container=study&_anonymizationConfig=config.json")).await?;
        assert!(original.len() > 3 && original.last() > Some(&0), "{original:?}");
        assert_eq!((&dates(&one)?, &dates(&other)?), (&original, &original));
        assert_ne!(one.sorted_lines(), other.sorted_lines(), "each export has keys of its own");
        // The client wrote the id into the URL; the manifest does not repeat it.
        let shown = serde_json::to_string(&one.manifest.request)?;
        assert!(shown.contains("/Patient/-/$export?_type=Observation&_container=study") && !shown.contains("hr-patient"), "{shown}");
        Ok(())
    })
}

/// Days since some day, of a date at the beginning of the text.
fn day(text: &str) -> Option<i64> {
    let date = time::Date::parse(text.get(..10)?, time::macros::format_description!("[year]-[month]-[day]")).ok()?;
    Some(i64::from(date.to_julian_day()))
}

#[test]
fn filters_see_the_resource_as_the_lake_has_it_and_elements_what_the_rules_leave() -> Result<()> {
    run(async || {
        let stage = OneMachine::over(&lake::sample_dir()).await?;
        stage.configure("config.json", &config("raise")).await?;
        let world = World::start(&stage, &ManualClock::default(), small());
        let query = "_type=Patient,Encounter&_typeFilter=Patient?_id=hr-patient-02&_elements=Patient.name,Patient.gender";
        let finished = export(&world, &format!("{EVERYTHING}&{query}")).await?;
        let patients: Vec<Value> = trees(&finished)?.into_iter().filter(|tree| text(tree, "/resourceType") == "Patient").collect();
        let [patient] = patients.as_slice() else { return Err(format!("{} patients", patients.len()).into()) };
        let members: Vec<&str> = patient.as_object().ok_or("no object")?.keys().map(String::as_str).collect();
        assert_eq!(members, ["gender", "id", "meta", "resourceType"], "the name is redacted, all else was not asked for");
        assert_eq!(patient.pointer("/meta/tag/0/code"), Some(&"SUBSETTED".into()));
        assert_eq!(text(patient, "/id").len(), 64);
        assert!(!finished.manifest.request.contains("hr-patient"), "{}", finished.manifest.request);
        // Deletions are told by ids.
        assert_eq!(export(&world, &format!("{EVERYTHING}&_since=2020-01-01")).await?.manifest.deleted, None);
        Ok(())
    })
}

#[test]
fn blocks_of_patients_are_headed_by_the_reference_that_their_resources_have() -> Result<()> {
    run(async || {
        let stage = Aws::over(&lake::sample_dir()).await?;
        stage.configure("config.json", &config("raise")).await?;
        stage
            .configure(
                "bare.json",
                r#"{"fhirPathRules":[{"path":"nodesByType('Reference')","method":"redact"},{"path":"Resource.id","method":"redact"}]}"#,
            )
            .await?;
        let world = World::start(&stage, &ManualClock::default(), small());
        for (config, leads_to_patients) in [("config.json", true), ("bare.json", false)] {
            let path = format!("/Patient/$export?_container=study&_anonymizationConfig={config}&organizeOutputBy=Patient");
            let finished = export(&world, &path).await?;
            let mut blocks = BTreeMap::<String, usize>::new();
            let mut patients = BTreeSet::new();
            for tree in trees(&finished)? {
                match text(&tree, "/resourceType") {
                    "Parameters" => assert_eq!(blocks.insert(text(&tree, "/parameter/0/valueReference/reference").to_owned(), 0), None),
                    "Patient" => drop(patients.insert(format!("Patient/{}", text(&tree, "/id")))),
                    _ => {}
                }
            }
            assert_eq!(blocks.len(), 12, "{config}");
            assert!(blocks.keys().all(|reference| reference.len() == "Patient/".len() + 64), "{blocks:?}");
            assert_eq!(blocks.keys().cloned().collect::<BTreeSet<_>>() == patients, leads_to_patients);
        }
        Ok(())
    })
}

#[test]
fn a_resource_that_cannot_be_de_identified_ends_the_export_or_is_left_out_or_emptied() -> Result<()> {
    run(async || {
        let lines = [
            r#"{"resourceType":"Patient","id":"hr-1","gender":"female"}"#,
            r#"{"resourceType":"Observation","id":"hr-2","valueQuantity":{"value":7e60}}"#,
            r#"{"resourceType":"Observation","id":"hr-3","valueQuantity":{"value":7e60}}"#,
        ];
        let stage = OneMachine::with(&[("mixed.ndjson", lines.join("\n").as_bytes())]).await?;
        for on_error in ["raise", "skip", "quarantine"] {
            stage.configure(&format!("{on_error}.json"), &config(on_error)).await?;
        }
        let world = World::start(&stage, &ManualClock::default(), small());
        let path = |on_error: &str| format!("/$export?_container=study&_anonymizationConfig={on_error}.json");
        let told = |text: &str| {
            text.contains("rule 18 (perturb `nodesByType('Quantity').value`)")
                && !["7e60", "hr-", "ndjson"].iter().any(|word| text.contains(word))
        };
        let status = status_of(&world.ask("GET", &path("raise")).await?)?;
        let answer = world.run(&status).await?;
        let (_, code, said) = answer.outcome()?;
        assert_eq!((answer.status, code.as_str()), (400, "processing"));
        assert!(told(&said), "{said}");
        let kinds = |finished: &Finished| -> Result<Vec<(String, usize)>> {
            let mut counts = BTreeMap::new();
            trees(finished)?.iter().for_each(|tree| *counts.entry(text(tree, "/resourceType").to_owned()).or_default() += 1);
            Ok(counts.into_iter().collect())
        };
        let quarantined = export(&world, &path("quarantine")).await?;
        assert_eq!(kinds(&quarantined)?.iter().map(|(kind, _)| kind.as_str()).collect::<Vec<_>>(), ["Patient"]);
        let skipped = export(&world, &path("skip")).await?;
        let observations: Vec<Value> = trees(&skipped)?.into_iter().filter(|tree| text(tree, "/resourceType") == "Observation").collect();
        assert_eq!(observations.len(), 2);
        assert!(observations.iter().all(|tree| tree.as_object().is_some_and(|object| object.len() == 2)), "type and label alone");
        for finished in [&quarantined, &skipped] {
            let errors: Vec<&str> = finished
                .files
                .iter()
                .filter(|(name, _)| name.starts_with("error-"))
                .filter_map(|(_, file)| std::str::from_utf8(file).ok())
                .flat_map(str::lines)
                .collect();
            assert_eq!(errors.len(), observations.len());
            assert!(errors.iter().all(|line| told(line)), "{errors:?}");
        }
        // Files of blocks hold nothing else.
        let organized = export(&world, &format!("{}&organizeOutputBy=Patient", path("skip"))).await?;
        assert!(trees(&organized)?.iter().all(|tree| text(tree, "/resourceType") != "Observation"));
        assert!(organized.manifest.output.iter().all(|entry| entry.name().starts_with("organized-")));
        Ok(())
    })
}

#[test]
fn a_configuration_that_cannot_be_followed_fails_the_kick_off_and_a_changed_one_the_export() -> Result<()> {
    run(async || {
        let stage = Aws::over(&lake::sample_dir()).await?;
        let world = World::start(&stage, &ManualClock::default(), small());
        stage.configure("config.json", &config("raise")).await?;
        stage.configure("long.json", &" ".repeat((1 << 20) + 1)).await?;
        let faulty = r#"{"fhirPathRules":[{"path":"Patient.name","method":"redact"},{"path":"Patient.name.where(","method":"keep"},{"path":"Patient.birthDate"}]}"#;
        stage.configure("faulty.json", faulty).await?;
        let with = |rest: &str| format!("/$export?_container=study&_anonymizationConfig={rest}");
        for (target, words) in [
            (with("absent.json"), &["`absent.json`", "folder `anonymization`"][..]),
            (with("faulty.json"), &["rule 2 (`Patient.name.where(`)", "rule 3"]),
            (with("long.json"), &["1 MB"]),
            (with("config.json&_anonymizationConfigEtag=0123456789"), &["_anonymizationConfigEtag"]),
            ("/$export?_anonymizationConfig=config.json".to_owned(), &["_container"]),
            ("/$export?_container=study&_anonymizationConfigCollectionReference=x".to_owned(), &["_anonymizationConfig"]),
        ] {
            let answer = world.ask("GET", &target).await?;
            let (_, _, said) = answer.outcome()?;
            assert_eq!(answer.status, 400, "{target}");
            assert!(words.iter().all(|words| said.contains(words)), "{target}: {said}");
        }
        let status = status_of(&world.ask("GET", EVERYTHING).await?)?;
        stage.configure("config.json", &config("skip")).await?;
        let answer = world.run(&status).await?;
        let (_, code, said) = answer.outcome()?;
        assert_eq!((answer.status, code.as_str()), (400, "processing"));
        assert!(said.contains("configuration was changed or removed"), "{said}");
        Ok(())
    })
}

#[test]
fn an_object_is_not_named_where_an_export_is_de_identified() -> Result<()> {
    run(async || {
        let stage = OneMachine::with(&[("Patient/CANARY-1.ndjson", b"{\"resourceType\":\"Patient\",\"id\":\"1\"}\nno resource\n")]).await?;
        stage.configure("config.json", &config("raise")).await?;
        let clock = ManualClock::default();
        let world = World::start(&stage, &clock, small());
        let finished = export(&world, EVERYTHING).await?;
        let error = finished.files.get("error-1.ndjson").ok_or("no error file")?;
        assert!(!String::from_utf8_lossy(error).contains("CANARY"));
        let status = status_of(&world.ask("GET", EVERYTHING).await?)?;
        world.deliver(world.receive().await?.ok_or("no plan")?).await?;
        clock.advance(Duration::from_secs(1));
        stage.change_lake("Patient/CANARY-1.ndjson", Some(b"{\"resourceType\":\"Patient\",\"id\":\"2\"}\n".to_vec().into())).await?;
        let answer = world.run(&status).await?;
        let (_, code, said) = answer.outcome()?;
        assert_eq!((answer.status, code.as_str()), (500, "conflict"), "{said}");
        assert!(!said.contains("CANARY"), "{said}");
        Ok(())
    })
}

/// Microsoft's own sample for the safe-harbor method over real patients, where both lie beside the checkout: in no byte of the
/// files is anything that tells who a patient or a practitioner is.
#[test]
fn nothing_of_a_hundred_patients_survives_the_safe_harbor_sample_where_present() -> Result<()> {
    run(async || {
        let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors/anonymizer/samples/configuration-sample.json");
        let (Some(dir), Ok(config)) = (lake::hundred_patients(), std::fs::read_to_string(sample)) else { return Ok(()) };
        let stage = OneMachine::over(&dir).await?;
        stage.configure("config.json", &config).await?;
        let world = World::start(&stage, &ManualClock::default(), Terms::default());
        let before = trees(&export(&world, "/$export").await?)?;
        let finished = export(&world, EVERYTHING).await?;
        assert_eq!(finished.lines().len(), before.len());
        // The sample keeps what identifies organizations: their ids are repeated there, and their addresses are those of
        // practitioners.
        let (organizations, others): (Vec<Value>, Vec<Value>) =
            before.into_iter().partition(|tree| text(tree, "/resourceType") == "Organization");
        let mut kept = BTreeSet::new();
        organizations.iter().for_each(|tree| strings_below(tree, &[], true, &mut kept));
        // Safe harbor lets states stand; and which register a number is from tells nobody.
        others.iter().for_each(|tree| strings_below(tree, &["state", "system"], false, &mut kept));
        let kept = kept.into_iter().collect::<Vec<_>>().join("\n");
        let all: Vec<String> = originals(&others).into_iter().collect();
        let is_kept = found(&all, kept.as_bytes())?;
        // Dates move, and some come to lie on birthdays of others.
        let tells = |original: &&String| !is_kept.contains(original.as_str()) && day(original).is_none();
        let originals: Vec<String> = all.iter().filter(tells).cloned().collect();
        assert!(originals.len() > 25_000, "{}", originals.len());
        for (name, file) in &finished.files {
            let survivors = found(&originals, file)?;
            assert!(survivors.is_empty(), "{name}: {:?}", survivors.iter().take(5).collect::<Vec<_>>());
        }
        Ok(())
    })
}

/// Which of the texts stand in the bytes. Words stand there as words only: a town may be a syllable of a disease.
fn found<'t>(texts: &'t [String], bytes: &[u8]) -> Result<BTreeSet<&'t str>> {
    let is_letter = |at: Option<usize>| at.and_then(|at| bytes.get(at)).is_some_and(u8::is_ascii_alphabetic);
    let mut found = BTreeSet::new();
    for hit in AhoCorasick::new(texts)?.find_overlapping_iter(bytes) {
        let Some(text) = texts.get(hit.pattern().as_usize()) else { continue };
        let is_word = text.bytes().all(|byte| byte.is_ascii_alphabetic());
        if !is_word || !(is_letter(hit.start().checked_sub(1)) || is_letter(Some(hit.end()))) {
            found.insert(text.as_str());
        }
    }
    Ok(found)
}

#[test]
fn a_configuration_is_looked_at_and_tried_out_before_an_export_goes_by_it() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples/anonymization/study.json");
    let sample = sample.to_str().ok_or("a name that is not UTF-8")?;
    let write = |name: &str, text: &str| -> Result<String> {
        let path = folder.path().join(name);
        std::fs::write(&path, text)?;
        Ok(path.to_str().ok_or("a name that is not UTF-8")?.to_owned())
    };
    let checked = said(headrace(&["deid", "check", sample, "--type", "Patient"]).output()?)?;
    assert!(checked.contains("Patient.gender (code)") && checked.ends_with("the configuration can be used\n"), "{checked}");
    let odd = write("odd.json", r#"{"fhirPathRules":[{"path":"Patient.nmae","method":"redact"}]}"#)?;
    let output = headrace(&["deid", "check", &odd]).output()?;
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(String::from_utf8(output.stdout)?.contains("rule 1 (`Patient.nmae`)"));
    let faulty = write("faulty.json", r#"{"fhirPathRules":[{"path":"Patient.name.where(","method":"redact"},{"method":"keep"}]}"#)?;
    let complaint = said(headrace(&["deid", "check", &faulty]).output()?).unwrap_err();
    assert!(complaint.contains("rule 1") && complaint.contains("rule 2"), "{complaint}");
    let resource = write(
        "patient.json",
        "{\n \"resourceType\": \"Patient\",\n \"id\": \"one\", \"gender\": \"female\", \"name\": [{\"family\": \"Mill\"}]\n}",
    )?;
    let preview = said(headrace(&["deid", "preview", sample, &resource]).output()?)?;
    for words in [
        "Patient.id  rule 2, cryptoHash",
        "  - \"one\"",
        "Patient.name[0].family  rule 6, redact",
        "  - \"Mill\"\n  + nothing",
        "\"gender\": \"female\"",
    ] {
        assert!(preview.contains(words), "{words} in {preview}");
    }
    let out = folder.path().join("out");
    let lake = lake::sample_dir();
    let output = headrace(&["export", "--type", "Patient", "--anonymization-config", sample]).arg(lake).arg(&out).output()?;
    said(output)?;
    let patients = std::fs::read_to_string(out.join("Patient-1.ndjson"))?;
    assert!(patients.lines().count() == 12 && !patients.contains("hr-patient"), "{patients}");
    Ok(())
}

/// On every level, in each version of FHIR by its own elements: what began an Encounter is called otherwise since R5.
#[test]
fn every_level_of_every_version_is_de_identified() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let config = config_that_moves_all_dates();
    for (version, period) in [("R4", "period"), ("R4B", "period"), ("R5", "actualPeriod")] {
        let config_file = folder.path().join("config.json");
        std::fs::write(&config_file, config.replacen("\"R4\"", &format!("\"{version}\""), 1))?;
        let lake = folder.path().join(version);
        std::fs::create_dir_all(&lake)?;
        let lines = [
            r#"{"resourceType":"Patient","id":"patient-one","name":[{"family":"Mill"}],"birthDate":"1990-03-01"}"#.to_owned(),
            r#"{"resourceType":"Patient","id":"patient-two","name":[{"family":"Hill"}],"birthDate":"1980-03-01"}"#.to_owned(),
            r#"{"resourceType":"Group","id":"cohort","type":"person","member":[{"entity":{"reference":"Patient/patient-one"}}]}"#
                .to_owned(),
            format!(
                r#"{{"resourceType":"Encounter","id":"stay","subject":{{"reference":"Patient/patient-one"}},"{period}":{{"start":"2020-03-11"}}}}"#
            ),
            r#"{"resourceType":"Organization","id":"ward","name":"Mill Ward"}"#.to_owned(),
        ];
        std::fs::write(lake.join("all.ndjson"), lines.join("\n"))?;
        for (level, types) in [
            ("system", &["Encounter", "Group", "Organization", "Patient", "Patient"][..]),
            ("patient", &["Encounter", "Group", "Patient", "Patient"]),
            ("patient:patient-one", &["Encounter", "Group", "Patient"]),
            ("group:cohort", &["Encounter", "Group", "Patient"]),
        ] {
            let out = folder.path().join(format!("{version}-{}", level.replace(':', "-")));
            let mut command = headrace(&["export", "--level", level, "--fhir-version", version, "--anonymization-config"]);
            said(command.arg(&config_file).arg(&lake).arg(&out).output()?)?;
            let text = lake::lines(&out)?.iter().map(|line| String::from_utf8_lossy(line).into_owned()).collect::<Vec<_>>().join("\n");
            let left = ["patient-one", "patient-two", "stay", "cohort", "ward", "Mill", "Hill", "1990-03-01", "2020-03-11"];
            assert!(!left.iter().any(|word| text.contains(word)), "{version} {level}: {text}");
            let mut trees: Vec<Value> = text.lines().map(serde_json::from_str).collect::<std::result::Result<_, _>>()?;
            trees.sort_by_key(|tree| self::text(tree, "/resourceType").to_owned());
            assert_eq!(trees.iter().map(|tree| self::text(tree, "/resourceType")).collect::<Vec<_>>(), types, "{version} {level}");
            let stay = trees.first().ok_or("no Encounter")?;
            let began = day(self::text(stay, &format!("/{period}/start"))).ok_or("no date")?;
            let patients = trees.iter().filter(|tree| self::text(tree, "/resourceType") == "Patient");
            let whose = self::text(stay, "/subject/reference");
            let patient = patients.clone().find(|tree| whose == format!("Patient/{}", self::text(tree, "/id"))).ok_or("no patient")?;
            let born = day(self::text(patient, "/birthDate")).ok_or("no date")?;
            assert_eq!(began - born, day("2020-03-11").zip(day("1990-03-01")).map_or(0, |(later, earlier)| later - earlier));
        }
    }
    Ok(())
}
