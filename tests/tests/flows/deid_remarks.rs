//! Remarks about anonymization configurations: they stop exports, unless they are accepted by name. Reports and previews.

use std::path::PathBuf;

use headrace_core::request::AcceptedRemarks;
use headrace_tests::flows::{
    AwsDeployment, Deployment, DeploymentSettings, LocalDeployment, ManualClock, Result, ServiceProcess, run, unsealed_audit_records,
};
use headrace_tests::workspace::root;
use serde_json::Value;

use crate::process::{command_result, headrace};

/// A configuration with a typo, which would leave names as they are.
const TYPO: &str = r#"{"fhirPathRules":[{"path":"Patient.nam","method":"redact"}]}"#;

const PATIENT: &str = r#"{"resourceType":"Patient","id":"anna","name":[{"family":"Mill"}],"birthDate":"1990-03-01"}"#;

const EXPORT: &str = "/$export?_container=study&_anonymizationConfig=typo.json";

/// Returns settings with accepted remarks.
fn accepting(names: &str) -> Result<DeploymentSettings> {
    Ok(DeploymentSettings { accepted_remarks: AcceptedRemarks::parse(names)?, ..DeploymentSettings::default() })
}

/// Returns the name of a remark from a message about it: its code and rule, such as `selects-nothing:1`, and its digest.
pub(crate) fn remark_name(message: &str, code_and_rule: &str) -> Result<String> {
    let start = message.find(&format!("{code_and_rule}@")).ok_or_else(|| format!("no {code_and_rule} in {message}"))?;
    let name = message.get(start..).unwrap_or_default();
    Ok(name.split(|character: char| !character.is_ascii_alphanumeric() && !"-:@".contains(character)).next().unwrap_or_default().to_owned())
}

#[test]
fn a_typo_in_a_configuration_stops_kick_offs_and_is_in_the_audit_record() -> Result<()> {
    run(async || {
        let deployment = AwsDeployment::new().await?;
        deployment.set_lake_object("Patient.ndjson", Some(PATIENT.as_bytes().to_vec().into())).await?;
        deployment.put_anonymization_config("typo.json", TYPO).await?;
        let service = ServiceProcess::start(&deployment, &ManualClock::default(), accepting("")?);
        let (_, _, refusal) = service.request("GET", EXPORT).await?.outcome()?;
        let name = remark_name(&refusal, "selects-nothing:1")?;
        // The acceptance of another rule, of another text, of another configuration or of the kind of an error does not count.
        let of_other_rule = name.replace(":1@", ":2@");
        let of_other_file = format!("other.json={name}");
        for accepted in ["", of_other_rule.as_str(), "selects-nothing:1@00000000", of_other_file.as_str(), "selects-nothing"] {
            let service = ServiceProcess::start(&deployment, &ManualClock::default(), accepting(accepted)?);
            let response = service.request("GET", EXPORT).await?;
            let (_, code, text) = response.outcome()?;
            assert_eq!((response.status, code.as_str()), (400, "invalid"), "{accepted}: {text}");
            let by_name = format!("accepted by name: {name}");
            for words in ["`typo.json`", "there is no element `nam`", "did you mean `name`?", by_name.as_str()] {
                assert!(text.contains(words), "{words} in {text}");
            }
        }
        let records = unsealed_audit_records(&deployment).await?;
        let rejected = records.iter().find(|record| record["action"] == "kick-off").ok_or("no record")?;
        assert_eq!(rejected.pointer("/export/configuration/rejected_remarks/0"), Some(&name.as_str().into()));
        assert_eq!(rejected.pointer("/export/configuration/digest").and_then(Value::as_str).map(str::len), Some(64));
        let service = ServiceProcess::start(&deployment, &ManualClock::default(), accepting(&format!("typo.json={name}"))?);
        let response = service.request("GET", EXPORT).await?;
        assert_eq!(response.status, 202);
        let records = unsealed_audit_records(&deployment).await?;
        let accepted = records.iter().find(|record| record["outcome"] == "succeeded").ok_or("no record")?;
        assert_eq!(accepted.pointer("/export/configuration/accepted_remarks/0"), Some(&name.as_str().into()));
        // Neither the next mistake in the same rule is accepted, nor the same mistake beside another rule.
        for edited in [TYPO.replace("nam", "naem"), TYPO.replace("]", r#",{"path":"Patient.birthDate","method":"redact"}]"#)] {
            deployment.put_anonymization_config("typo.json", &edited).await?;
            assert_eq!(service.request("GET", EXPORT).await?.status, 400, "{edited}");
        }
        Ok(())
    })
}

#[test]
fn a_typo_in_a_configuration_stops_the_cli_until_the_remark_is_accepted_by_name() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name);
    std::fs::create_dir(path("lake"))?;
    std::fs::write(path("lake/Patient.ndjson"), PATIENT)?;
    std::fs::write(path("typo.json"), TYPO)?;
    let export = |out: &str, more: &[&str]| {
        let mut command = headrace(&["export"]);
        command.args(more).arg("--anonymization-config").arg(path("typo.json")).arg(path("lake")).arg(path(out)).output()
    };
    let stopped = export("out", &[])?;
    let complaint = String::from_utf8(stopped.stderr)?;
    assert_eq!(stopped.status.code(), Some(1), "{complaint}");
    let name = remark_name(&complaint, "selects-nothing:1")?;
    assert!(complaint.contains(&format!("--accept-remarks {name}")) && complaint.contains("did you mean `name`?"), "{complaint}");
    assert!(complaint.contains("the configuration `typo.json` is not used, because of remarks about it:\n  error ["), "{complaint}");
    assert_eq!(complaint.matches("selects-nothing:1").count(), 1, "each remark is printed once: {complaint}");
    assert!(!complaint.contains("400") && !complaint.contains("kick-off"), "{complaint}");
    assert!(!path("out").exists(), "nothing is written");
    let accepted = export("accepted", &["--accept-remarks", &name])?;
    let warned = String::from_utf8(accepted.stderr.clone())?;
    command_result(accepted)?;
    assert!(warned.contains("selects-nothing:1"), "{warned}");
    assert!(std::fs::read_to_string(path("accepted/Patient-1.ndjson"))?.contains("Mill"), "the operator has accepted that");
    let manifest: Value = serde_json::from_slice(&std::fs::read(path("accepted/manifest.json"))?)?;
    let request = manifest.pointer("/request").and_then(Value::as_str).unwrap_or_default();
    assert!(request.starts_with("$export?_anonymizationConfig=") && request.ends_with("typo.json"), "{request}");
    Ok(())
}

#[test]
fn a_full_export_with_lasting_keys_and_shifted_dates_is_stopped_until_the_remark_is_accepted_by_name() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name);
    std::fs::create_dir(path("lake"))?;
    std::fs::write(path("lake/Patient.ndjson"), PATIENT)?;
    command_result(headrace(&["deid", "keygen", "--out"]).arg(path("study.keys")).output()?)?;
    let sample = root().join("tests/samples/anonymization/study.json");
    let export = |out: &str, more: &[&str]| {
        let mut command = headrace(&["export"]);
        command.args(more).arg("--anonymization-config").arg(&sample);
        command.arg(path("lake")).arg(path(out)).output()
    };
    let keys = path("study.keys");
    let keys = keys.to_str().ok_or("a name that is not UTF-8")?;
    let stopped = export("stopped", &["--deid-keys", keys])?;
    let complaint = String::from_utf8(stopped.stderr)?;
    assert!(stopped.status.code() == Some(1) && complaint.contains("--accept-remarks shifted-increment"), "{complaint}");
    assert!(complaint.contains("two exports can be compared") && !path("stopped").exists(), "{complaint}");
    command_result(export("accepted", &["--deid-keys", keys, "--accept-remarks", "shifted-increment"])?)?;
    // Without lasting keys, each export has its own pseudonyms and shifts.
    command_result(export("single", &[])?)?;
    Ok(())
}

#[test]
fn keys_that_change_with_each_export_are_reported() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name);
    std::fs::create_dir(path("lake"))?;
    std::fs::write(path("lake/Patient.ndjson"), PATIENT)?;
    let config = r#"{"fhirPathRules":[{"path":"Resource.id","method":"cryptoHash"},{"path":"nodesByType('Reference').reference","method":"cryptoHash"}]}"#;
    std::fs::write(path("config.json"), config)?;
    for (out, since, words) in
        [("full", &[][..], "no later export has the same pseudonyms"), ("increment", &["--since", "2020-01-01"], "cannot be joined")]
    {
        let mut command = headrace(&["export"]);
        let output =
            command.args(since).arg("--anonymization-config").arg(path("config.json")).arg(path("lake")).arg(path(out)).output()?;
        let stderr = String::from_utf8(output.stderr.clone())?;
        command_result(output)?;
        assert!(stderr.contains(words) && stderr.contains("cryptoHashKey"), "{stderr}");
        assert!(!stderr.contains("and dates"), "no date moves by a key: {stderr}");
    }
    Ok(())
}

#[test]
fn the_shipped_samples_have_no_remarks() -> Result<()> {
    for name in ["study.json", "safe-harbor.json"] {
        let sample = root().join("tests/samples/anonymization").join(name);
        let checked = command_result(headrace(&["deid", "check"]).arg(sample).output()?)?;
        assert!(checked.contains("the configuration is valid. Valid does not mean safe: "), "{name}: {checked}");
    }
    Ok(())
}

#[test]
fn a_valid_configuration_says_how_much_that_identifies_somebody_it_keeps() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let config = folder.path().join("config.json");
    let rules = |paths: &[&str]| {
        let rule = |path: &&str| serde_json::json!({ "path": path, "method": "redact" });
        serde_json::json!({ "fhirPathRules": paths.iter().map(rule).collect::<Vec<_>>() }).to_string()
    };
    let check = |paths: &[&str]| -> Result<String> {
        std::fs::write(&config, rules(paths))?;
        Ok(command_result(headrace(&["deid", "check", "--type", "Patient"]).arg(&config).output()?)?)
    };
    let checked = check(&["Resource.id", "nodesByType('HumanName')", "nodesByType('Reference')"])?;
    assert!(checked.contains("Valid does not mean safe: it keeps ") && checked.contains("such as Patient.address, "), "{checked}");
    let checked = check(&["Patient"])?;
    assert!(checked.contains("Valid does not mean safe: codes and dates"), "{checked}");
    Ok(())
}

#[test]
fn a_report_counts_what_each_rule_does_and_shows_no_value() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| -> PathBuf { folder.path().join(name) };
    std::fs::create_dir(path("lake"))?;
    let lines = [
        PATIENT,
        r#"{"resourceType":"Patient","id":"bert","name":[{"family":"Hill","given":["B","C"]}],"gender":"male"}"#,
        r#"{"resourceType":"Observation","id":"o","valueString":"secret words","contained":[{"resourceType":"Patient","gender":"male"}]}"#,
        "no resource",
        r#"{"resourceType":"Bundle","type":"transaction","entry":[{"request":{"method":"DELETE","url":"Patient/carl"}}]}"#,
    ];
    std::fs::write(path("lake/all.ndjson"), lines.join("\n"))?;
    let config = r#"{"fhirPathRules":[{"path":"Resource.id","method":"cryptoHash"},{"path":"Patient.name.given","method":"keep"},{"path":"Patient.name","method":"redact"}]}"#;
    std::fs::write(path("config.json"), config)?;
    let report = |more: &[&str]| -> Result<String> {
        Ok(command_result(headrace(&["deid", "report"]).args(more).arg(path("config.json")).arg(path("lake")).output()?)?)
    };
    let json: Value = serde_json::from_str(&report(&["--json"])?)?;
    assert_eq!(json["resources"], serde_json::json!({ "Patient": 2, "Observation": 1 }));
    assert_eq!((&json["rejectedLines"], &json["deletions"]), (&1.into(), &1.into()));
    let counts = |rule: Value, element: &str| {
        let found =
            json["elements"].as_array().and_then(|elements| elements.iter().find(|one| one["rule"] == rule && one["element"] == element));
        found.map(|one| ["removed", "changed", "kept"].map(|name| one[name].as_u64().unwrap_or_default()))
    };
    assert_eq!(counts(1.into(), "Patient.id"), Some([0, 2, 0]));
    assert_eq!(counts(1.into(), "Observation.id"), Some([0, 1, 0]));
    assert_eq!(counts(2.into(), "Patient.name.given"), Some([0, 0, 2]));
    assert_eq!(counts(3.into(), "Patient.name.family"), Some([2, 0, 0]));
    assert_eq!(counts(Value::Null, "Patient.gender"), Some([0, 0, 1]));
    assert_eq!(counts(Value::Null, "Observation.contained.gender"), Some([0, 0, 1]));
    assert_eq!(counts(Value::Null, "Observation.valueString"), Some([0, 0, 1]));
    let text = report(&[])?;
    let digest = json["sha256"].as_str().ok_or("no digest")?;
    assert!(text.contains(digest) && text.contains("3 of 2 types") && text.contains("(no rule)"), "{text}");
    assert!(text.contains("\n1 line is not a resource and is not exported\n") && text.contains("\n1 deletion is in the lake"), "{text}");
    for value in ["anna", "Mill", "Hill", "1990", "secret", "carl"] {
        assert!(!text.contains(value) && !json.to_string().contains(value), "{value} in {text}");
    }
    Ok(())
}

#[test]
fn a_report_says_what_an_export_does_to_resources_that_cannot_be_deidentified() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| -> PathBuf { folder.path().join(name) };
    std::fs::create_dir(path("lake"))?;
    std::fs::write(path("lake/all.ndjson"), r#"{"resourceType":"Observation","id":"o","valueString":"secret words"}"#)?;
    for (errors, effect) in
        [("raise", "it ends the export"), ("skip", "an export keeps its type only"), ("quarantine", "an export leaves it out")]
    {
        let rule = r#"{"path":"Observation.where(value > 5).value","method":"redact"}"#;
        std::fs::write(path("config.json"), format!(r#"{{"processingErrors":"{errors}","fhirPathRules":[{rule}]}}"#))?;
        let output = headrace(&["deid", "report"]).arg(path("config.json")).arg(path("lake")).output()?;
        let text = String::from_utf8(output.stdout)?;
        assert!(!output.status.success() && text.contains("1 resource cannot be de-identified: rule 1"), "{errors}: {text}");
        assert!(text.contains(effect) && !text.contains("secret"), "{errors}: {text}");
    }
    Ok(())
}

#[test]
fn an_export_that_a_resource_ends_says_so_once() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name);
    std::fs::create_dir(path("lake"))?;
    std::fs::write(path("lake/all.ndjson"), r#"{"resourceType":"Observation","id":"o","valueQuantity":{"value":7e60}}"#)?;
    let rule = r#"{"path":"nodesByType('Quantity').value","method":"perturb","span":5,"rangeType":"fixed","roundTo":2}"#;
    std::fs::write(path("config.json"), format!(r#"{{"processingErrors":"raise","fhirPathRules":[{rule}]}}"#))?;
    let mut command = headrace(&["export", "--anonymization-config"]);
    let output = command.arg(path("config.json")).arg(path("lake")).arg(path("out")).output()?;
    let stderr = String::from_utf8(output.stderr)?;
    assert!(
        !output.status.success() && stderr.contains("headrace: the export failed: a resource cannot be de-identified: rule 1"),
        "{stderr}"
    );
    assert_eq!(stderr.matches("the export failed").count(), 1, "{stderr}");
    Ok(())
}

#[test]
fn a_line_that_is_left_out_is_named_in_the_log_and_not_in_the_files() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name);
    std::fs::create_dir(path("lake"))?;
    std::fs::write(path("lake/Patient-of-Anna.ndjson"), format!("{PATIENT}\nno resource\n"))?;
    let config = r#"{"fhirPathRules":[{"path":"Patient.name","method":"redact"}]}"#;
    std::fs::write(path("config.json"), config)?;
    let mut command = headrace(&["export", "--anonymization-config"]);
    let output = command.arg(path("config.json")).arg(path("lake")).arg(path("out")).output()?;
    let stderr = String::from_utf8(output.stderr)?;
    assert!(stderr.contains("Patient-of-Anna.ndjson") && stderr.contains(&format!("offset={}", PATIENT.len() + 1)), "{stderr}");
    let errors = std::fs::read_to_string(path("out/error/OperationOutcome-1.ndjson"))?;
    assert!(!errors.contains("Anna") && !errors.contains(&format!("byte {}", PATIENT.len() + 1)), "{errors}");
    Ok(())
}

#[test]
fn a_deployment_on_one_machine_reads_keys_only_from_a_private_file() -> Result<()> {
    run(async || {
        let deployment = LocalDeployment::with_files(&[("Patient.ndjson", PATIENT.as_bytes())]).await?;
        let config = r#"{"fhirPathRules":[{"path":"Patient.name","method":"redact"}]}"#;
        deployment.put_anonymization_config("typo.json", config).await?;
        // This way of storing a file leaves it readable by others.
        deployment.put_anonymization_config("typo.json.keys", r#"{"cryptoHashKey":"CANARY"}"#).await?;
        let service = ServiceProcess::start(&deployment, &ManualClock::default(), DeploymentSettings::default());
        let response = service.request("GET", EXPORT).await?;
        let (_, _, text) = response.outcome()?;
        assert!(response.status == 500 && text.contains("chmod 600") && !text.contains("CANARY"), "{text}");
        Ok(())
    })
}
