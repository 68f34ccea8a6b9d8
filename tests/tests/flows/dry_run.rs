//! `headrace export --dry-run`.

#![allow(clippy::indexing_slicing, reason = "an absent member of a JSON value is Null, which the tests then reject")]

use std::fs;

use headrace_tests::flows::{Result, run};
use headrace_tests::lake;
use serde_json::Value;

use crate::clients_cli::text;
use crate::process::{command_result, headrace};
use crate::stub_deployment::StubDeployment;

/// Runs `headrace export --dry-run`.
fn dry_run(source: &str, arguments: &[&str]) -> Result<std::result::Result<String, String>> {
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("out");
    let output = headrace(&[&["export", "--dry-run", source, text(&out)?], arguments].concat()).output()?;
    assert!(!out.exists(), "nothing is written");
    Ok(command_result(output))
}

#[test]
fn a_dry_run_says_what_is_asked_for_and_read_and_does_nothing() -> Result<()> {
    let source = lake::sample_lake_dir();
    let (mut files, mut bytes) = (0, 0);
    for entry in walkdir::WalkDir::new(&source) {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type().is_file() && name.contains(".ndjson") {
            (files, bytes) = (files + 1, bytes + entry.metadata()?.len());
        }
    }
    let options = ["--type", "Patient", "--type-filter", "Patient?gender=female", "--level", "group:hr-group-study-1"];
    let said = dry_run(text(&source)?, &options)?.map_err(|error| format!("rejected: {error}"))?;
    assert!(
        said.starts_with(
            "request     GET [base]/Group/hr%2Dgroup%2Dstudy%2D1/$export?_type=Patient&_typeFilter=Patient%3Fgender%3Dfemale\n"
        ),
        "{said}"
    );
    assert!(said.contains(&format!("reads       {files} files with ")) && said.ends_with("because of --dry-run\n"), "{said}");
    assert!(said.contains("; --trust-object-names would skip files that are named for other types\n"), "{said}");
    assert!(!dry_run(text(&source)?, &[])??.contains("--trust-object-names"), "nothing could be skipped");
    let json: Value = serde_json::from_str(&dry_run(text(&source)?, &["--json"])??)?;
    assert_eq!((json["source"]["objects"].as_u64(), json["source"]["bytes"].as_u64()), (Some(files), Some(bytes)));
    assert_eq!(json["dryRun"], true);
    let trusting: Value = serde_json::from_str(&dry_run(text(&source)?, &["--json", "--type", "Patient", "--trust-object-names"])??)?;
    assert!(trusting["source"]["objects"].as_u64() < Some(files) && trusting["source"]["skipped"].as_u64() > Some(0), "{trusting}");
    Ok(())
}

#[test]
fn a_dry_run_rejects_what_an_export_would_reject() -> Result<()> {
    let source = lake::sample_lake_dir();
    for (arguments, words) in [
        (&["--type-filter", "Observation?color=red"][..], "no search parameter `color`"),
        (&["--type", "Patients"], "`Patients`, which is not a resource type"),
        (&["--since", "yesterday"], "--since is not"),
    ] {
        let error = dry_run(text(&source)?, arguments)?.unwrap_err();
        assert!(error.contains("the export would be rejected") && error.contains(words), "{error}");
    }
    let lenient = dry_run(text(&source)?, &["--lenient", "--type", "Patient,Patients"])??;
    assert!(lenient.contains("ignored     ") && lenient.contains("Patients"), "{lenient}");
    assert!(dry_run("/nowhere", &[])?.is_err());
    Ok(())
}

#[test]
fn a_dry_run_fails_where_the_lake_or_the_configuration_would_be_refused() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name);
    fs::create_dir_all(path("lake/_headrace"))?;
    fs::write(path("lake/Patient.ndjson"), "{\"resourceType\":\"Patient\",\"id\":\"a\"}\n")?;
    fs::write(path("typo.json"), r#"{"fhirPathRules":[{"path":"Patient.nam","method":"redact"}]}"#)?;
    fs::write(path("broken.json"), r#"{"fhirPathRules":[{"path":"Patient.name""#)?;
    fs::write(path("good.json"), r#"{"fhirPathRules":[{"path":"Patient.name","method":"redact"}]}"#)?;
    let (lake, typo, broken, good) = (path("lake"), path("typo.json"), path("broken.json"), path("good.json"));
    let lake = text(&lake)?;
    let cases = [
        (&["--level", "patient:unknown"][..], "this patient was not found"),
        (&["--level", "group:unknown"], "this group was not found"),
        (&["--anonymization-config", text(&typo)?], "selects-nothing:1"),
        (&["--anonymization-config", text(&broken)?], "cannot be used"),
        (&["--lake-watermark", "object"], "_headrace/watermark.json"),
    ];
    for (arguments, words) in cases {
        let error = dry_run(lake, arguments)?.err().ok_or_else(|| format!("accepted: {arguments:?}"))?;
        assert!(error.contains("the export would be rejected") && error.contains(words), "{arguments:?}: {error}");
    }
    for arguments in [&["--level", "patient:a"][..], &["--anonymization-config", text(&good)?]] {
        dry_run(lake, arguments)?.map_err(|error| format!("rejected: {error}"))?;
    }
    // The estimate is of the lines before their de-identification.
    let deidentified = ["--anonymization-config", text(&good)?, "--json"];
    for (arguments, is_exact) in [(&deidentified[..], false), (&deidentified[2..], true)] {
        let said: Value = serde_json::from_str(&dry_run(lake, arguments)??)?;
        assert_eq!(said["estimate"]["isExact"], is_exact, "{said}");
    }
    assert!(dry_run(lake, &deidentified[..2])??.contains("de-identification is not part of the estimate"));
    fs::write(path("lake/_headrace/watermark.json"), "{}")?;
    let error = dry_run(lake, &[])?.unwrap_err();
    assert!(error.contains("completeUpTo"), "{error}");
    Ok(())
}

#[test]
fn a_dry_run_fails_if_the_output_directory_could_not_be_used() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("out");
    fs::create_dir(&out)?;
    fs::write(out.join("notes.txt"), "mine")?;
    let source = lake::sample_lake_dir();
    for source in [text(&source)?, "http://127.0.0.1:9/fhir"] {
        let refused = headrace(&["export", "--dry-run", source, text(&out)?]).output()?;
        let complaint = String::from_utf8(refused.stderr)?;
        assert_eq!((refused.status.code(), complaint.contains("is not empty")), (Some(1), true), "{complaint}");
        let overwriting = headrace(&["export", "--dry-run", "--overwrite", source, text(&out)?]).output()?;
        assert_eq!(overwriting.status.code(), Some(0), "{}", String::from_utf8_lossy(&overwriting.stderr));
    }
    assert_eq!(fs::read_dir(&out)?.count(), 1, "nothing is written or removed");
    Ok(())
}

#[test]
fn a_dry_run_asks_a_server_for_nothing() -> Result<()> {
    run(async || {
        let deployment = StubDeployment::start(0).await?;
        let base = deployment.base.clone();
        let said = tokio::task::spawn_blocking(move || dry_run(&base, &["--type", "Patient"]).map_err(|error| error.to_string())).await??;
        let said = said.map_err(|error| format!("rejected: {error}"))?;
        assert!(said.starts_with(&format!("request     GET {}/$export?_type=Patient\n", deployment.base)), "{said}");
        assert!(deployment.received().is_empty());
        Ok(())
    })
}
