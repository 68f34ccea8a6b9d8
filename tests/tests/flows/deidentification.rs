//! De-identified exports (`_anonymizationConfig`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use aho_corasick::AhoCorasick;
use headrace_core::request::AcceptedRemarks;
use headrace_tests::flows::{
    AwsDeployment, CompletedExport, Deployment, DeploymentSettings, Fault, FaultInjector, LocalDeployment, ManualClock, Result,
    ServiceProcess, TestResponse, run,
};
use headrace_tests::lake;
use serde_json::Value;

use crate::process::{command_result, headrace};

/// Configuration that hashes ids, so that references stay intact, removes names, addresses and other identifying elements, and shifts
/// dates.
const CONFIG: &str = include_str!("../../samples/anonymization/study.json");

/// The same for R4B, which has other types of products.
const R4B_CONFIG: &str = include_str!("../../samples/anonymization/study-r4b.json");

/// The same for R5, which has other elements with dates.
const R5_CONFIG: &str = include_str!("../../samples/anonymization/study-r5.json");

/// Microsoft's sample configuration for the safe-harbor method of HIPAA.
const SAFE_HARBOR_CONFIG: &str = include_str!("../../samples/anonymization/safe-harbor.json");

/// Returns the configuration with this error handling: raise, skip or quarantine.
fn config(on_error: &str) -> String {
    CONFIG.replacen("\"raise\"", &format!("\"{on_error}\""), 1)
}

/// Returns the configuration for a FHIR version with a fixed key for date shifts. With a random key of the job, the dates of one patient in
/// 101 are shifted by zero days. With this key, every date in these tests is shifted, and none to a birth date.
fn config_with_date_shift_key(version: &str) -> String {
    let config = match version {
        "R4B" => R4B_CONFIG,
        "R5" => R5_CONFIG,
        _ => CONFIG,
    };
    config.replacen("\"parameters\": {", "\"parameters\": { \"dateShiftKey\": \"each date moves\",", 1)
}

/// Returns settings that split an export into many tasks and files.
fn small_file_settings() -> DeploymentSettings {
    let mut settings = DeploymentSettings::default();
    settings.job.file_bytes = 30_000;
    settings.worker.min_slice_bytes = 20_000;
    settings
}

/// Kick-off of a de-identified system export.
const EVERYTHING: &str = "/$export?_container=study&_anonymizationConfig=config.json";

/// Returns the path of the status URL of an accepted kick-off.
fn status_of(response: &TestResponse) -> Result<String> {
    let url = response.header("content-location").ok_or_else(|| format!("not accepted: {response:?}"))?;
    url.find("/_operations").and_then(|at| url.get(at..)).map(str::to_owned).ok_or_else(|| "no status URL".into())
}

/// Exports and downloads all files.
async fn export<S: Deployment>(service: &ServiceProcess<S>, path: &str) -> Result<CompletedExport> {
    let status = status_of(&service.request("GET", path).await?)?;
    service.complete(&status).await
}

/// Parses the exported lines.
fn trees(completed: &CompletedExport) -> Result<Vec<Value>> {
    completed.lines().iter().map(|line| Ok(serde_json::from_slice(line)?)).collect()
}

/// Returns the string at a JSON pointer, or an empty string.
fn text<'v>(tree: &'v Value, pointer: &str) -> &'v str {
    tree.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Collects every string below members with these names.
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

/// Returns the identifying texts: ids, and what the rules remove from patients and practitioners.
fn identifying_texts(trees: &[Value]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for tree in trees {
        found.insert(text(tree, "/id").to_owned());
        let names = ["identifier", "name", "address", "telecom", "birthDate"];
        let is_person = ["Patient", "Practitioner"].contains(&text(tree, "/resourceType"));
        strings_below(tree, if is_person { &names } else { &[] }, false, &mut found);
    }
    // Codes such as `official` identify nobody, and a few digits can occur in any hash.
    let is_code = |text: &str| text.chars().all(|c| c.is_ascii_lowercase());
    let may_be_in_hash = |text: &str| text.len() < 10 && text.chars().all(|c| c.is_ascii_hexdigit() && !c.is_ascii_uppercase());
    found.into_iter().filter(|text| text.len() >= 4 && !text.starts_with("http") && !is_code(text) && !may_be_in_hash(text)).collect()
}

/// Collects the `Type/id` references of a tree.
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

/// Counts the references whose target is part of the export.
fn resolved_reference_count(trees: &[Value]) -> usize {
    let exported: BTreeSet<String> = trees.iter().map(|tree| format!("{}/{}", text(tree, "/resourceType"), text(tree, "/id"))).collect();
    let mut all = BTreeSet::new();
    trees.iter().for_each(|tree| references(tree, &mut all));
    all.intersection(&exported).count()
}

/// Checks that a de-identified export holds no identifying text and that its references still resolve.
async fn check_deidentified_export<S: Deployment>(deployment: S) -> Result<()> {
    deployment.put_anonymization_config("config.json", &config_with_date_shift_key("R4")).await?;
    // A lasting key for dates lets readers compare exports; the test makes one.
    let settings = DeploymentSettings { accepted_remarks: AcceptedRemarks::parse("shifted-increment")?, ..small_file_settings() };
    let service = ServiceProcess::start(&deployment, &ManualClock::default(), settings);
    let identified = export(&service, "/$export").await?;
    let (before, status) = (trees(&identified)?, status_of(&service.request("GET", EVERYTHING).await?)?);
    let completed = service.complete(&status).await?;
    let after = trees(&completed)?;
    assert_eq!(after.len(), before.len());
    assert_eq!(resolved_reference_count(&after), resolved_reference_count(&before));
    assert!(
        resolved_reference_count(&before) > 50 && completed.files.len() > 20,
        "{} {}",
        resolved_reference_count(&before),
        completed.files.len()
    );
    let bytes: Vec<u8> = completed.files.values().flat_map(|file| file.to_vec()).collect();
    let all = String::from_utf8(bytes)?;
    let identifying = identifying_texts(&before);
    assert!(identifying.len() > 300, "{}", identifying.len());
    let remaining: Vec<&String> = identifying.iter().filter(|text| all.contains(text.as_str())).collect();
    assert!(remaining.is_empty(), "{remaining:?}");
    assert!(after.iter().all(|tree| tree.pointer("/meta/security").is_some()), "each resource has a security label");
    // The end of the job deletes its secret.
    let items = deployment.job_table_items().await?;
    assert!(items.values().all(|item| item.get("encrypted_secret").is_none()));
    Ok(())
}

// Holds: A12
#[test]
fn de_identified_exports_hold_no_identifying_text_and_keep_references_intact() -> Result<()> {
    run(async || check_deidentified_export(AwsDeployment::with_lake(&lake::sample_lake_dir()).await?).await)?;
    run(async || check_deidentified_export(LocalDeployment::with_lake(&lake::sample_lake_dir()).await?).await)
}

/// Loses some results of the destination. A repeated write must have the same bytes, or the export fails.
#[test]
fn repeated_work_of_a_de_identified_export_writes_the_same_bytes() -> Result<()> {
    run(async || {
        let deployment = AwsDeployment::with_lake(&lake::sample_lake_dir()).await?;
        deployment.put_anonymization_config("config.json", &config("raise")).await?;
        let mut commits = 0;
        let faults = FaultInjector::new(move |call| {
            let is_commit = call.name.starts_with("writer.commit");
            commits += usize::from(is_commit);
            if is_commit && commits % 19 == 1 { Fault::FailAfter } else { Fault::None }
        });
        let service = ServiceProcess::start_with_faults(&deployment, &ManualClock::default(), small_file_settings(), faults);
        let trees = trees(&export(&service, EVERYTHING).await?)?;
        let ids: BTreeSet<(&str, &str)> = trees.iter().map(|tree| (text(tree, "/resourceType"), text(tree, "/id"))).collect();
        assert_eq!((ids.len(), trees.len()), (420, 420), "each resource is exported once");
        assert!(resolved_reference_count(&trees) > 50);
        Ok(())
    })
}

#[test]
fn date_shifts_keep_a_patients_intervals_and_differ_between_exports() -> Result<()> {
    run(async || {
        let deployment = LocalDeployment::with_lake(&lake::sample_lake_dir()).await?;
        deployment.put_anonymization_config("config.json", &config("raise")).await?;
        let service = ServiceProcess::start(&deployment, &ManualClock::default(), small_file_settings());
        let path = "/Patient/hr-patient-01/$export?_type=Observation";
        let dates = |completed: &CompletedExport| -> Result<Vec<i64>> {
            let mut days: Vec<i64> = trees(completed)?.iter().filter_map(|tree| day(text(tree, "/effectiveDateTime"))).collect();
            days.sort_unstable();
            let first = days.first().copied().unwrap_or_default();
            Ok(days.into_iter().map(|day| day - first).collect())
        };
        let original = dates(&export(&service, path).await?)?;
        let one = export(&service, &format!("{path}&_container=study&_anonymizationConfig=config.json")).await?;
        let other = export(&service, &format!("{path}&_container=study&_anonymizationConfig=config.json")).await?;
        assert!(original.len() > 3 && original.last() > Some(&0), "{original:?}");
        assert_eq!((&dates(&one)?, &dates(&other)?), (&original, &original));
        assert_ne!(one.sorted_lines(), other.sorted_lines(), "each export has its own keys");
        // The manifest must not repeat the patient id of the kick-off URL.
        let request = serde_json::to_string(&one.manifest.request)?;
        assert!(request.contains("/Patient/-/$export?_type=Observation&_container=study") && !request.contains("hr-patient"), "{request}");
        Ok(())
    })
}

/// Returns the Julian day of a date at the start of the text.
fn day(text: &str) -> Option<i64> {
    let date = time::Date::parse(text.get(..10)?, time::macros::format_description!("[year]-[month]-[day]")).ok()?;
    Some(i64::from(date.to_julian_day()))
}

#[test]
fn filters_apply_before_de_identification_and_elements_after_it() -> Result<()> {
    run(async || {
        let deployment = LocalDeployment::with_lake(&lake::sample_lake_dir()).await?;
        deployment.put_anonymization_config("config.json", &config("raise")).await?;
        let service = ServiceProcess::start(&deployment, &ManualClock::default(), small_file_settings());
        let query = "_type=Patient,Encounter&_typeFilter=Patient?_id=hr-patient-02&_elements=Patient.name,Patient.gender";
        let completed = export(&service, &format!("{EVERYTHING}&{query}")).await?;
        let patients: Vec<Value> = trees(&completed)?.into_iter().filter(|tree| text(tree, "/resourceType") == "Patient").collect();
        let [patient] = patients.as_slice() else { return Err(format!("{} patients", patients.len()).into()) };
        let members: Vec<&str> = patient.as_object().ok_or("no object")?.keys().map(String::as_str).collect();
        assert_eq!(members, ["gender", "id", "meta", "resourceType"], "the name is redacted, and `_elements` removed the rest");
        assert_eq!(patient.pointer("/meta/tag/0/code"), Some(&"SUBSETTED".into()));
        assert_eq!(text(patient, "/id").len(), 64);
        assert!(!completed.manifest.request.contains("hr-patient"), "{}", completed.manifest.request);
        // The dates of new visits would reveal the shift.
        let response = service.request("GET", &format!("{EVERYTHING}&_since=2020-01-01")).await?;
        let (_, _, diagnostics) = response.outcome()?;
        assert!(response.status == 400 && diagnostics.contains("by name: shifted-increment"), "{diagnostics}");
        Ok(())
    })
}

#[test]
fn block_headers_of_de_identified_exports_hold_the_pseudonymous_patient_reference() -> Result<()> {
    run(async || {
        let deployment = AwsDeployment::with_lake(&lake::sample_lake_dir()).await?;
        deployment.put_anonymization_config("config.json", &config("raise")).await?;
        deployment
            .put_anonymization_config(
                "bare.json",
                r#"{"fhirPathRules":[{"path":"nodesByType('Reference')","method":"redact"},{"path":"Resource.id","method":"redact"}]}"#,
            )
            .await?;
        let service = ServiceProcess::start(&deployment, &ManualClock::default(), small_file_settings());
        for (config, refers_to_patient) in [("config.json", true), ("bare.json", false)] {
            let path = format!("/Patient/$export?_container=study&_anonymizationConfig={config}&organizeOutputBy=Patient");
            let completed = export(&service, &path).await?;
            let mut blocks = BTreeMap::<String, usize>::new();
            let mut patients = BTreeSet::new();
            for tree in trees(&completed)? {
                match text(&tree, "/resourceType") {
                    "Parameters" => assert_eq!(blocks.insert(text(&tree, "/parameter/0/valueReference/reference").to_owned(), 0), None),
                    "Patient" => drop(patients.insert(format!("Patient/{}", text(&tree, "/id")))),
                    _ => {}
                }
            }
            assert_eq!(blocks.len(), 12, "{config}");
            assert!(blocks.keys().all(|reference| reference.len() == "Patient/".len() + 64), "{blocks:?}");
            assert_eq!(blocks.keys().cloned().collect::<BTreeSet<_>>() == patients, refers_to_patient);
        }
        Ok(())
    })
}

#[test]
fn a_resource_that_cannot_be_de_identified_fails_the_export_or_is_dropped_or_emptied() -> Result<()> {
    run(async || {
        let lines = [
            r#"{"resourceType":"Patient","id":"hr-1","gender":"female"}"#,
            r#"{"resourceType":"Observation","id":"hr-2","valueQuantity":{"value":7e60}}"#,
            r#"{"resourceType":"Observation","id":"hr-3","valueQuantity":{"value":7e60}}"#,
        ];
        let deployment = LocalDeployment::with_files(&[("mixed.ndjson", lines.join("\n").as_bytes())]).await?;
        for on_error in ["raise", "skip", "quarantine"] {
            deployment.put_anonymization_config(&format!("{on_error}.json"), &config(on_error)).await?;
        }
        let service = ServiceProcess::start(&deployment, &ManualClock::default(), small_file_settings());
        let path = |on_error: &str| format!("/$export?_container=study&_anonymizationConfig={on_error}.json");
        let is_expected_error = |text: &str| {
            text.contains("(perturb `nodesByType('Quantity').value`)") && !["7e60", "hr-", "ndjson"].iter().any(|word| text.contains(word))
        };
        let status = status_of(&service.request("GET", &path("raise")).await?)?;
        let response = service.run_until_done(&status).await?;
        let (_, code, diagnostics) = response.outcome()?;
        assert_eq!((response.status, code.as_str()), (400, "processing"));
        assert!(is_expected_error(&diagnostics), "{diagnostics}");
        let type_counts = |completed: &CompletedExport| -> Result<Vec<(String, usize)>> {
            let mut counts = BTreeMap::new();
            trees(completed)?.iter().for_each(|tree| *counts.entry(text(tree, "/resourceType").to_owned()).or_default() += 1);
            Ok(counts.into_iter().collect())
        };
        let quarantined = export(&service, &path("quarantine")).await?;
        assert_eq!(type_counts(&quarantined)?.iter().map(|(kind, _)| kind.as_str()).collect::<Vec<_>>(), ["Patient"]);
        let skipped = export(&service, &path("skip")).await?;
        let observations: Vec<Value> = trees(&skipped)?.into_iter().filter(|tree| text(tree, "/resourceType") == "Observation").collect();
        assert_eq!(observations.len(), 2);
        assert!(
            observations.iter().all(|tree| tree.as_object().is_some_and(|object| object.len() == 2)),
            "only the type and the security label are left"
        );
        for completed in [&quarantined, &skipped] {
            let errors: Vec<&str> = completed
                .files
                .iter()
                .filter(|(name, _)| name.starts_with("error-"))
                .filter_map(|(_, file)| std::str::from_utf8(file).ok())
                .flat_map(str::lines)
                .collect();
            assert_eq!(errors.len(), observations.len());
            assert!(errors.iter().all(|line| is_expected_error(line)), "{errors:?}");
        }
        // Output organized by patient leaves such resources out.
        let organized = export(&service, &format!("{}&organizeOutputBy=Patient", path("skip"))).await?;
        assert!(trees(&organized)?.iter().all(|tree| text(tree, "/resourceType") != "Observation"));
        assert!(organized.manifest.output.iter().all(|entry| entry.name().starts_with("organized-")));
        Ok(())
    })
}

#[test]
fn an_invalid_configuration_fails_the_kick_off_and_a_changed_one_fails_the_export() -> Result<()> {
    run(async || {
        let deployment = AwsDeployment::with_lake(&lake::sample_lake_dir()).await?;
        let service = ServiceProcess::start(&deployment, &ManualClock::default(), small_file_settings());
        deployment.put_anonymization_config("config.json", &config("raise")).await?;
        deployment.put_anonymization_config("long.json", &" ".repeat((1 << 20) + 1)).await?;
        let faulty = r#"{"fhirPathRules":[{"path":"Patient.name","method":"redact"},{"path":"Patient.name.where(","method":"keep"},{"path":"Patient.birthDate"}]}"#;
        deployment.put_anonymization_config("faulty.json", faulty).await?;
        let with = |rest: &str| format!("/$export?_container=study&_anonymizationConfig={rest}");
        for (target, words) in [
            (with("absent.json"), &["`absent.json`", "folder `anonymization`"][..]),
            (with("faulty.json"), &["rule 2 (`Patient.name.where(`)", "rule 3"]),
            (with("long.json"), &["1 MB"]),
            (with("config.json&_anonymizationConfigEtag=0123456789"), &["_anonymizationConfigEtag"]),
            ("/$export?_anonymizationConfig=config.json".to_owned(), &["_container"]),
            ("/$export?_container=study&_anonymizationConfigCollectionReference=x".to_owned(), &["_anonymizationConfig"]),
        ] {
            let response = service.request("GET", &target).await?;
            let (_, _, diagnostics) = response.outcome()?;
            assert_eq!(response.status, 400, "{target}");
            assert!(words.iter().all(|words| diagnostics.contains(words)), "{target}: {diagnostics}");
        }
        let status = status_of(&service.request("GET", EVERYTHING).await?)?;
        deployment.put_anonymization_config("config.json", &config("skip")).await?;
        let response = service.run_until_done(&status).await?;
        let (_, code, diagnostics) = response.outcome()?;
        assert_eq!((response.status, code.as_str()), (400, "processing"));
        assert!(diagnostics.contains("configuration was changed or removed"), "{diagnostics}");
        Ok(())
    })
}

#[test]
fn de_identified_exports_do_not_reveal_object_names() -> Result<()> {
    run(async || {
        let deployment =
            LocalDeployment::with_files(&[("Patient/CANARY-1.ndjson", b"{\"resourceType\":\"Patient\",\"id\":\"1\"}\nno resource\n")])
                .await?;
        deployment.put_anonymization_config("config.json", &config("raise")).await?;
        let clock = ManualClock::default();
        let service = ServiceProcess::start(&deployment, &clock, small_file_settings());
        let completed = export(&service, EVERYTHING).await?;
        let error = completed.files.get("error-1.ndjson").ok_or("no error file")?;
        assert!(!String::from_utf8_lossy(error).contains("CANARY"));
        let status = status_of(&service.request("GET", EVERYTHING).await?)?;
        service.deliver(service.receive().await?.ok_or("no plan")?).await?;
        clock.advance(Duration::from_secs(1));
        deployment
            .set_lake_object("Patient/CANARY-1.ndjson", Some(b"{\"resourceType\":\"Patient\",\"id\":\"2\"}\n".to_vec().into()))
            .await?;
        let response = service.run_until_done(&status).await?;
        let (_, code, diagnostics) = response.outcome()?;
        assert_eq!((response.status, code.as_str()), (500, "conflict"), "{diagnostics}");
        assert!(!diagnostics.contains("CANARY"), "{diagnostics}");
        Ok(())
    })
}

#[test]
fn the_safe_harbor_sample_leaves_no_identifying_text() -> Result<()> {
    check_safe_harbor_sample(&lake::synthea_lake_dir(), 100)
}

#[test]
#[ignore = "needs the 100 patients of ../shared/data"]
fn the_safe_harbor_sample_leaves_no_identifying_text_of_a_hundred_patients() -> Result<()> {
    check_safe_harbor_sample(&lake::external_lake_dir("100-patients"), 25_000)
}

/// Checks Microsoft's sample configuration for the safe-harbor method: no file contains any of the texts that identify a patient or a
/// practitioner in the lake. There must be more than `min_texts` of them.
fn check_safe_harbor_sample(dir: &Path, min_texts: usize) -> Result<()> {
    run(async || {
        let deployment = LocalDeployment::with_lake(dir).await?;
        deployment.put_anonymization_config("config.json", SAFE_HARBOR_CONFIG).await?;
        let service = ServiceProcess::start(&deployment, &ManualClock::default(), DeploymentSettings::default());
        let before = trees(&export(&service, "/$export").await?)?;
        let completed = export(&service, EVERYTHING).await?;
        assert_eq!(completed.lines().len(), before.len());
        // The sample keeps the texts of organizations, which repeat ids and the addresses of practitioners.
        let (organizations, others): (Vec<Value>, Vec<Value>) =
            before.into_iter().partition(|tree| text(tree, "/resourceType") == "Organization");
        let mut kept_texts = BTreeSet::new();
        organizations.iter().for_each(|tree| strings_below(tree, &[], true, &mut kept_texts));
        // The safe-harbor method keeps states, and the system of an identifier identifies nobody.
        others.iter().for_each(|tree| strings_below(tree, &["state", "system"], false, &mut kept_texts));
        let kept_texts = kept_texts.into_iter().collect::<Vec<_>>().join("\n");
        let all: Vec<String> = identifying_texts(&others).into_iter().collect();
        let allowed = occurring_texts(&all, kept_texts.as_bytes())?;
        // A shifted date can equal the birth date of another patient.
        let must_be_removed = |text: &&String| !allowed.contains(text.as_str()) && day(text).is_none();
        let identifying: Vec<String> = all.iter().filter(must_be_removed).cloned().collect();
        assert!(identifying.len() > min_texts, "{}", identifying.len());
        for (name, file) in &completed.files {
            let remaining = occurring_texts(&identifying, file)?;
            assert!(remaining.is_empty(), "{name}: {:?}", remaining.iter().take(5).collect::<Vec<_>>());
        }
        Ok(())
    })
}

/// Returns the texts that occur in the bytes. A text of letters must occur as a whole word, because a town may be a syllable of a
/// disease.
fn occurring_texts<'t>(texts: &'t [String], bytes: &[u8]) -> Result<BTreeSet<&'t str>> {
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
fn the_cli_checks_previews_and_applies_an_anonymization_configuration() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples/anonymization/study.json");
    let sample = sample.to_str().ok_or("a name that is not UTF-8")?;
    let write = |name: &str, text: &str| -> Result<String> {
        let path = folder.path().join(name);
        std::fs::write(&path, text)?;
        Ok(path.to_str().ok_or("a name that is not UTF-8")?.to_owned())
    };
    let checked = command_result(headrace(&["deid", "check", sample, "--type", "Patient"]).output()?)?;
    assert!(
        checked.contains("Patient.gender (code)") && checked.contains("the configuration is valid. Valid does not mean safe: "),
        "{checked}"
    );
    let covered = command_result(headrace(&["deid", "check", sample, "--type", "Patient", "--coverage"]).output()?)?;
    for expected in ["  kept, because no rule names it\n", "    Patient.id (id, rule 2)\n", "  shifted\n    Patient.birthDate (date, rule "]
    {
        assert!(covered.contains(expected), "{expected}: {covered}");
    }
    let report = command_result(headrace(&["deid", "check", sample, "--type", "Patient", "--coverage", "--json"]).output()?)?;
    let report: Value = serde_json::from_str(&report)?;
    let [remarks, coverage] = [&report["remarks"], &report["coverage"][0]];
    assert_eq!((remarks, &coverage["type"]), (&Value::Array(Vec::new()), &Value::from("Patient")));
    let id = coverage["elements"].as_array().and_then(|elements| elements.iter().find(|element| element["path"] == "Patient.id"));
    assert_eq!(id.map(|id| (&id["treatment"], &id["rule"])), Some((&Value::from("hashed"), &Value::from(2))));
    let odd = write("odd.json", r#"{"fhirPathRules":[{"path":"Patient.nmae","method":"redact"}]}"#)?;
    for command in [&["check", sample][..], &["preview", sample, sample], &["report", sample, "."]] {
        let output = headrace(&["deid"]).args(command).args(["--fhir-version", "6"]).output()?;
        assert!(!output.status.success() && output.stderr.starts_with(b"headrace: --fhir-version is `6`: "), "{command:?}: {output:?}");
    }
    let output = headrace(&["deid", "check", &odd]).output()?;
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(String::from_utf8(output.stdout)?.contains("rule 1 (`Patient.nmae`)"));
    let faulty = write("faulty.json", r#"{"fhirPathRules":[{"path":"Patient.name.where(","method":"redact"},{"method":"keep"}]}"#)?;
    let complaint = command_result(headrace(&["deid", "check", &faulty]).output()?).unwrap_err();
    assert!(complaint.contains("rule 1") && complaint.contains("rule 2"), "{complaint}");
    let resource = write(
        "patient.json",
        "{\n \"resourceType\": \"Patient\",\n \"id\": \"one\", \"gender\": \"female\", \"name\": [{\"family\": \"Mill\"}]\n}",
    )?;
    let preview = command_result(headrace(&["deid", "preview", sample, &resource]).output()?)?;
    for words in [
        "Patient.id  rule 2, cryptoHash",
        "  - \"one\"",
        "Patient.name[0].family  rule 6, redact",
        "  - \"Mill\"\n  + (none)",
        "\"gender\": \"female\"",
    ] {
        assert!(preview.contains(words), "{words} in {preview}");
    }
    let out = folder.path().join("out");
    let lake = lake::sample_lake_dir();
    let output = headrace(&["export", "--type", "Patient", "--anonymization-config", sample]).arg(lake).arg(&out).output()?;
    command_result(output)?;
    let patients = std::fs::read_to_string(out.join("Patient-1.ndjson"))?;
    assert!(patients.lines().count() == 12 && !patients.contains("hr-patient"), "{patients}");
    Ok(())
}

#[test]
fn the_preview_shows_the_bytes_that_an_export_writes() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let config = folder.path().join("config.json");
    std::fs::write(
        &config,
        r#"{"fhirVersion":"R4","fhirPathRules":[{"path":"Observation.value","method":"cryptoHash"}],"parameters":{"cryptoHashKey":"k"}}"#,
    )?;
    let preview = |line: &str| -> Result<std::process::Output> {
        let resource = folder.path().join("resource.json");
        std::fs::write(&resource, line)?;
        Ok(headrace(&["deid", "preview"]).arg(&config).arg(resource).output()?)
    };
    for spelled in ["1.20", "1E2", "12345678901234567890.10", r#""\ud800""#, r#""a\u0062\/""#] {
        let element = if spelled.starts_with('"') { "text" } else { "value" };
        for start in ["", "\u{feff}", " \n"] {
            let code = if element == "text" { format!(r#""code":{{"text":{spelled}}}"#) } else { r#""code":{"text":"c"}"#.to_owned() };
            let range = if element == "value" { format!(r#","referenceRange":[{{"low":{{"value":{spelled}}}}}]"#) } else { String::new() };
            let line = format!(r#"{start}{{"resourceType":"Observation","id":"o",{code}{range}}}"#);
            let shown = command_result(preview(&line)?)?;
            assert!(shown.contains(&format!("\"{element}\": {spelled}")), "{line}: {shown}");
        }
    }
    for line in [
        r#"{"resourceType":"Observation","id":"o","status":"final","status":"amended"}"#,
        r#"{"resourceType":"Observation","id":"o","code":{"text":"a","t\u0065xt":"b"}}"#,
    ] {
        let complaint = command_result(preview(line)?).unwrap_err();
        assert!(complaint.contains("an export would leave") && complaint.contains("has the same member twice"), "{complaint}");
    }
    let complaint = command_result(preview(r#"{"resourceType":"Observation"}"#)?).unwrap_err();
    assert!(complaint.contains("no id"), "{complaint}");
    Ok(())
}

/// Uses an element whose name depends on the version: `Encounter.period` is `Encounter.actualPeriod` since R5.
#[test]
fn every_level_of_every_fhir_version_is_de_identified() -> Result<()> {
    let folder = tempfile::tempdir()?;
    for (version, period) in [("R4", "period"), ("R4B", "period"), ("R5", "actualPeriod")] {
        let config_file = folder.path().join("config.json");
        std::fs::write(&config_file, config_with_date_shift_key(version))?;
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
            // A group names other patients, too.
            ("patient:patient-one", &["Encounter", "Patient"]),
            ("group:cohort", &["Encounter", "Group", "Patient"]),
        ] {
            let out = folder.path().join(format!("{version}-{}", level.replace(':', "-")));
            let mut command = headrace(&["export", "--level", level, "--fhir-version", version, "--anonymization-config"]);
            // A lasting key for dates lets readers compare exports; the test compares none.
            command.arg(&config_file).args(["--accept-remarks", "shifted-increment"]);
            command_result(command.arg(&lake).arg(&out).output()?)?;
            let text = lake::lines(&out)?.iter().map(|line| String::from_utf8_lossy(line).into_owned()).collect::<Vec<_>>().join("\n");
            let identifying = ["patient-one", "patient-two", "stay", "cohort", "ward", "Mill", "Hill", "1990-03-01", "2020-03-11"];
            assert!(!identifying.iter().any(|word| text.contains(word)), "{version} {level}: {text}");
            let mut trees: Vec<Value> = text.lines().map(serde_json::from_str).collect::<std::result::Result<_, _>>()?;
            trees.sort_by_key(|tree| self::text(tree, "/resourceType").to_owned());
            assert_eq!(trees.iter().map(|tree| self::text(tree, "/resourceType")).collect::<Vec<_>>(), types, "{version} {level}");
            let stay = trees.first().ok_or("no Encounter")?;
            let start_day = day(self::text(stay, &format!("/{period}/start"))).ok_or("no date")?;
            let patients = trees.iter().filter(|tree| self::text(tree, "/resourceType") == "Patient");
            let subject = self::text(stay, "/subject/reference");
            let patient = patients.clone().find(|tree| subject == format!("Patient/{}", self::text(tree, "/id"))).ok_or("no patient")?;
            let birth_day = day(self::text(patient, "/birthDate")).ok_or("no date")?;
            assert_eq!(start_day - birth_day, day("2020-03-11").zip(day("1990-03-01")).map_or(0, |(later, earlier)| later - earlier));
        }
    }
    Ok(())
}
