//! De-identified increments: lasting pseudonyms, deletions, keys apart from the configuration, and the digest.

#![allow(clippy::indexing_slicing, reason = "an absent member of a JSON value is Null, which the tests then reject")]

use std::collections::BTreeSet;

use headrace_tests::flows::{
    AwsDeployment, CompletedExport, Deployment, DeploymentSettings, LocalDeployment, ManualClock, Result, ServiceProcess, run,
    unsealed_audit_records,
};
use serde_json::Value;

use crate::process::{Server, command_result, headrace};

/// Configuration that hashes all ids and keeps everything else, except the time of the last change.
const CONFIG: &str = r#"{"fhirPathRules":[
    {"path":"Resource.id","method":"cryptoHash"},
    {"path":"nodesByType('Reference').reference","method":"cryptoHash"},
    {"path":"Resource.meta.lastUpdated","method":"redact"},
    {"path":"nodesByType('HumanName')","method":"redact"}]}"#;

/// The output of `sha256sum` for the configuration.
const CONFIG_SHA256: &str = "c78d9c33652cfa72a5add4c86df3a30979f6249cf1e91ef8bb39ad98effe3327";

const KEYS: &str = r#"{"cryptoHashKey":"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"}"#;

/// The lake of the first night.
const FIRST_NIGHT: &[&str] = &[
    r#"{"resourceType":"Patient","id":"anna","meta":{"lastUpdated":"2026-01-01T00:00:00Z"},"name":[{"family":"Mill"}]}"#,
    r#"{"resourceType":"Patient","id":"bert","meta":{"lastUpdated":"2026-01-01T00:00:00Z"},"name":[{"family":"Hill"}]}"#,
    r#"{"resourceType":"Observation","id":"weight","meta":{"lastUpdated":"2026-01-01T00:00:00Z"},"subject":{"reference":"Patient/bert"}}"#,
];

/// The lines that the second night adds: a change, and the deletion of a patient and of the observation.
const SECOND_NIGHT: &[&str] = &[
    r#"{"resourceType":"Patient","id":"anna","meta":{"lastUpdated":"2026-01-15T00:00:00Z"},"active":true}"#,
    r#"{"resourceType":"Bundle","type":"transaction","meta":{"lastUpdated":"2026-01-15T10:20:30Z"},"entry":[{"request":{"method":"DELETE","url":"Patient/bert"}},{"request":{"method":"DELETE","url":"Observation/weight"}}]}"#,
];

const EXPORT: &str = "/$export?_container=study&_anonymizationConfig=config.json";
const INCREMENT: &str = "/$export?_container=study&_anonymizationConfig=config.json&_since=2026-01-10";

/// Exports and downloads all files.
async fn export<S: Deployment>(service: &ServiceProcess<S>, path: &str) -> Result<CompletedExport> {
    let response = service.request("GET", path).await?;
    let url = response.header("content-location").ok_or_else(|| format!("not accepted: {response:?}"))?;
    let status = url.find("/_operations").and_then(|at| url.get(at..)).ok_or("no status URL")?.to_owned();
    service.complete(&status).await
}

/// Returns the `Type/id` of each exported resource.
fn exported_ids(completed: &CompletedExport) -> Result<BTreeSet<String>> {
    let name = |line: &[u8]| -> Result<String> {
        let tree: Value = serde_json::from_slice(line)?;
        Ok(format!("{}/{}", tree["resourceType"].as_str().unwrap_or_default(), tree["id"].as_str().unwrap_or_default()))
    };
    let lines = completed.files.iter().filter(|(file, _)| !file.starts_with("error") && !file.starts_with("deleted"));
    lines.flat_map(|(_, bytes)| bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())).map(name).collect()
}

/// Returns the text of all files whose names begin with `prefix`.
fn text_of(completed: &CompletedExport, prefix: &str) -> String {
    let files = completed.files.iter().filter(|(name, _)| name.starts_with(prefix));
    files.map(|(_, bytes)| String::from_utf8_lossy(bytes).into_owned()).collect()
}

/// Starts a deployment on AWS whose lake has these lines.
async fn aws_deployment(lines: &[&str]) -> Result<AwsDeployment> {
    let deployment = AwsDeployment::new().await?;
    if !lines.is_empty() {
        deployment.set_lake_object("all.ndjson", Some(lines.join("\n").into_bytes().into())).await?;
    }
    Ok(deployment)
}

/// Exports two nights. The keys, if any, are beside the configuration.
async fn two_nights<S: Deployment>(deployment: S, keys: Option<&str>) -> Result<(CompletedExport, CompletedExport)> {
    deployment.put_anonymization_config("config.json", CONFIG).await?;
    if let Some(keys) = keys {
        deployment.put_anonymization_keys("config.json", keys).await?;
    }
    let service = ServiceProcess::start(&deployment, &ManualClock::default(), DeploymentSettings::default());
    deployment.set_lake_object("one.ndjson", Some(FIRST_NIGHT.join("\n").into_bytes().into())).await?;
    let first = export(&service, EXPORT).await?;
    deployment.set_lake_object("two.ndjson", Some(SECOND_NIGHT.join("\n").into_bytes().into())).await?;
    Ok((first, export(&service, INCREMENT).await?))
}

/// Checks that a reader who joins the increment by pseudonyms has the lake's state afterwards.
fn check_joined_nights((first, second): &(CompletedExport, CompletedExport)) -> Result<()> {
    let mut copy = exported_ids(first)?;
    assert_eq!(copy.len(), 3);
    let changed = exported_ids(second)?;
    assert_eq!(changed.len(), 1);
    assert!(changed.is_subset(&copy), "the changed patient has the pseudonym of the first night");
    let deleted = text_of(second, "deleted");
    for line in deleted.lines() {
        let bundle: Value = serde_json::from_str(line)?;
        let url = bundle.pointer("/entry/0/request/url").and_then(Value::as_str).ok_or("no URL")?;
        assert!(copy.remove(url), "{url} was not exported in the first night");
    }
    assert_eq!(copy, changed, "only the changed patient is left");
    assert!(!["anna", "bert", "weight", "10:20:30"].iter().any(|word| deleted.contains(word)), "{deleted}");
    assert_eq!(second.manifest.deleted.as_ref().map(Vec::len), Some(1));
    assert_eq!(text_of(second, "error"), "");
    Ok(())
}

#[test]
fn deletions_of_an_increment_are_reported_by_the_pseudonyms_of_earlier_exports() -> Result<()> {
    run(async || check_joined_nights(&two_nights(aws_deployment(&[]).await?, Some(KEYS)).await?))?;
    run(async || check_joined_nights(&two_nights(LocalDeployment::with_files(&[]).await?, Some(KEYS)).await?))
}

#[test]
fn deletions_that_cannot_be_reported_are_counted() -> Result<()> {
    run(async || {
        let (first, second) = two_nights(LocalDeployment::with_files(&[]).await?, None).await?;
        assert!(exported_ids(&first)?.is_disjoint(&exported_ids(&second)?), "each export has its own pseudonyms");
        assert_eq!(second.manifest.deleted, None, "an empty list would say that nothing was deleted");
        let errors = text_of(&second, "error");
        assert!(errors.contains("deletions that are not reported: 2,") && errors.contains("run a full export"), "{errors}");
        assert!(errors.contains("\"information\"") && !errors.contains("bert"), "{errors}");
        Ok(())
    })
}

#[test]
fn a_rule_with_a_condition_on_ids_prevents_the_report_of_deletions() -> Result<()> {
    run(async || {
        let deployment = LocalDeployment::with_files(&[("all.ndjson", [FIRST_NIGHT, SECOND_NIGHT].concat().join("\n").as_bytes())]).await?;
        let config = r#"{"fhirPathRules":[{"path":"Patient.where(active).id","method":"keep"},{"path":"Resource.id","method":"cryptoHash"},
            {"path":"nodesByType('Reference').reference","method":"cryptoHash"}],"parameters":{"cryptoHashKey":"0123456789abcdef0123456789abcdef"}}"#;
        deployment.put_anonymization_config("config.json", config).await?;
        // The ids of active patients are kept on purpose.
        let service = ServiceProcess::start(&deployment, &ManualClock::default(), DeploymentSettings::default());
        let increment = export(&service, INCREMENT).await?;
        let deleted = text_of(&increment, "deleted");
        assert!(deleted.lines().count() == 1 && deleted.contains("DELETE\",\"url\":\"Observation/"), "{deleted}");
        assert!(text_of(&increment, "error").contains("deletions that are not reported: 1,"));
        Ok(())
    })
}

#[test]
fn deletions_cannot_be_requested_with_a_configuration_that_prevents_their_report() -> Result<()> {
    run(async || {
        let deployment = LocalDeployment::with_files(&[("all.ndjson", FIRST_NIGHT.join("\n").as_bytes())]).await?;
        deployment.put_anonymization_config("config.json", CONFIG).await?;
        let service = ServiceProcess::start(&deployment, &ManualClock::default(), DeploymentSettings::default());
        let target = format!("{EXPORT}&includeAssociatedData=_deleted");
        let response = service.request("GET", &target).await?;
        let (_, _, diagnostics) = response.outcome()?;
        assert!(response.status == 400 && diagnostics.contains("headrace deid keygen"), "{diagnostics}");
        deployment.put_anonymization_keys("config.json", KEYS).await?;
        assert_eq!(export(&service, &target).await?.manifest.deleted, Some(Vec::new()));
        Ok(())
    })
}

/// Checks that manifest and audit record have the digest of the configuration, and that no stored item has a key.
#[test]
fn the_digest_of_the_configuration_is_in_the_manifest_and_in_the_audit_record() -> Result<()> {
    run(async || {
        let deployment = aws_deployment(FIRST_NIGHT).await?;
        deployment.put_anonymization_config("config.json", CONFIG).await?;
        deployment.put_anonymization_keys("config.json", KEYS).await?;
        let service = ServiceProcess::start(&deployment, &ManualClock::default(), DeploymentSettings::default());
        let response = service.request("GET", EXPORT).await?;
        let status =
            response.header("content-location").and_then(|url| url.find("/_operations").and_then(|at| url.get(at..))).ok_or("no URL")?;
        let items = serde_json::to_string(&deployment.job_table_items().await?)?;
        assert!(!items.contains("0123456789abcdef0123"), "keys are stored encrypted");
        service.complete(status).await?;
        let manifest: Value = serde_json::from_slice(&service.request("GET", status).await?.body)?;
        assert_eq!(manifest.pointer("/extension/urn:headrace:anonymization-config/sha256"), Some(&Value::from(CONFIG_SHA256)));
        let records = unsealed_audit_records(&deployment).await?;
        let kick_off = records.iter().find(|record| record["action"] == "kick-off").ok_or("no record")?;
        assert_eq!(kick_off.pointer("/export/configuration/digest"), Some(&Value::from(CONFIG_SHA256)));
        Ok(())
    })
}

#[test]
fn unusable_keys_fail_the_kick_off_without_showing_them() -> Result<()> {
    run(async || {
        let deployment = aws_deployment(FIRST_NIGHT).await?;
        let service = ServiceProcess::start(&deployment, &ManualClock::default(), DeploymentSettings::default());
        deployment.put_anonymization_config("config.json", CONFIG).await?;
        deployment.put_anonymization_keys("config.json", r#"{"cryptoHashKey":"CANARY","salt":"CANARY"}"#).await?;
        let response = service.request("GET", EXPORT).await?;
        let (_, _, text) = response.outcome()?;
        assert!(response.status == 400 && text.contains("`config.json.keys`") && !text.contains("CANARY"), "{text}");
        // Keys in plain text are not used: they must be encrypted.
        deployment.put_anonymization_config("config.json.keys", KEYS).await?;
        let response = service.request("GET", EXPORT).await?;
        let (_, _, text) = response.outcome()?;
        assert!(response.status == 500 && text.contains("is not encrypted") && !text.contains("0123456789abcdef"), "{text}");
        // A key in the configuration and beside it is ambiguous.
        deployment.put_anonymization_keys("config.json", KEYS).await?;
        let both = CONFIG.replacen("]}", "],\"parameters\":{\"cryptoHashKey\":\"CANARY\"}}", 1);
        deployment.put_anonymization_config("config.json", &both).await?;
        let response = service.request("GET", EXPORT).await?;
        let (_, _, text) = response.outcome()?;
        assert!(response.status == 400 && text.contains("remove it from the configuration") && !text.contains("CANARY"), "{text}");
        // A client cannot name the keys file itself as a configuration.
        let response = service.request("GET", "/$export?_container=study&_anonymizationConfig=config.json.keys").await?;
        assert_eq!(response.status, 400);
        Ok(())
    })
}

#[test]
fn the_cli_makes_keys_and_exports_two_nights_that_join() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name);
    std::fs::create_dir(path("lake"))?;
    std::fs::write(path("config.json"), CONFIG)?;
    command_result(headrace(&["deid", "keygen", "--out"]).arg(path("study.keys")).output()?)?;
    assert!(!headrace(&["deid", "keygen", "--out"]).arg(path("study.keys")).output()?.status.success(), "keys are never replaced");
    let export = |out: &str, since: &[&str]| -> Result<String> {
        let mut command = headrace(&["export"]);
        command.args(since).arg("--anonymization-config").arg(path("config.json")).arg("--deid-keys").arg(path("study.keys"));
        let output = command.arg(path("lake")).arg(path(out)).output()?;
        Ok(command_result(output)?)
    };
    std::fs::write(path("lake/one.ndjson"), FIRST_NIGHT.join("\n"))?;
    export("night1", &[])?;
    std::fs::write(path("lake/two.ndjson"), SECOND_NIGHT.join("\n"))?;
    export("night2", &["--since", "2026-01-10"])?;
    let ids = |file: &str| -> Result<BTreeSet<String>> {
        let text = std::fs::read_to_string(path(file))?;
        let id = |line: &str| Ok(serde_json::from_str::<Value>(line)?["id"].as_str().unwrap_or_default().to_owned());
        text.lines().map(id).collect()
    };
    let (first, second) = (ids("night1/Patient-1.ndjson")?, ids("night2/Patient-1.ndjson")?);
    assert!(first.len() == 2 && second.len() == 1 && second.is_subset(&first));
    let deleted = std::fs::read_to_string(path("night2/deleted/Bundle-1.ndjson"))?;
    let gone: Vec<&String> = first.difference(&second).collect();
    assert!(gone.iter().all(|id| deleted.contains(&format!("Patient/{id}"))), "{deleted}");
    std::os::unix::fs::symlink(path("study.keys"), path("link"))?;
    std::fs::set_permissions(path("study.keys"), std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    let error = export("night3", &[]).unwrap_err().to_string();
    let remedy = format!("chmod 600 {}", path("study.keys").display());
    assert!(error.contains("other users can read") && error.contains(&remedy), "{error}");
    Ok(())
}

/// Exports with the configuration and the keys from standard input and from pipes, which can be read only once.
#[test]
fn the_configuration_and_the_keys_are_read_from_pipes() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name);
    std::fs::create_dir(path("lake"))?;
    std::fs::write(path("lake/one.ndjson"), FIRST_NIGHT.join("\n"))?;
    std::fs::write(path("config.json"), CONFIG)?;
    std::fs::write(path("study.keys"), KEYS)?;
    std::fs::set_permissions(path("study.keys"), std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    let program = headrace(&[]).get_program().to_owned();
    let export = |out: &str, words: &str| -> Result<Vec<u8>> {
        let script = words.replace("EXPORT", &format!("\"$0\" export lake {out} --since-file {out}.since"));
        let output = std::process::Command::new("bash").arg("-c").arg(script).arg(&program).current_dir(folder.path()).output()?;
        command_result(output)?;
        Ok(std::fs::read(path(out).join("Patient-1.ndjson"))?)
    };
    let expected = export("files", "EXPORT --anonymization-config config.json --deid-keys study.keys")?;
    for (out, words) in [
        ("stdin", "cat study.keys | EXPORT --anonymization-config config.json --deid-keys -"),
        ("device", "cat study.keys | EXPORT --anonymization-config config.json --deid-keys /dev/stdin"),
        ("process", "EXPORT --anonymization-config <(cat config.json) --deid-keys <(cat study.keys)"),
        ("fifo", "mkfifo pipe && (cat study.keys > pipe &) && EXPORT --anonymization-config config.json --deid-keys pipe"),
    ] {
        assert_eq!(export(out, words)?, expected, "{words}");
    }
    let dry_run =
        "cat study.keys | EXPORT --dry-run --anonymization-config config.json --deid-keys - && mkdir dry && touch dry/Patient-1.ndjson";
    assert!(export("dry", dry_run)?.is_empty());
    Ok(())
}

/// Starts a server with a keys file that other users can read. The log names the file and the remedy, and a client learns no path.
#[test]
fn a_server_reports_a_keys_file_that_others_can_read_to_its_operator() -> Result<()> {
    run(async || {
        let folder = tempfile::tempdir()?;
        let path = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(path("state/files/anonymization"))?;
        std::fs::create_dir(path("lake"))?;
        std::fs::write(path("lake/one.ndjson"), FIRST_NIGHT.join("\n"))?;
        std::fs::write(path("state/files/anonymization/config.json"), CONFIG)?;
        let keys = path("state/files/anonymization/config.json.keys");
        std::fs::write(&keys, KEYS)?;
        let set_mode = |mode| std::fs::set_permissions(&keys, std::os::unix::fs::PermissionsExt::from_mode(mode));
        set_mode(0o644)?;
        std::fs::set_permissions(path("state"), std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
        let server = Server::start_logging(&path("lake"), &path("state"), &[], &path("log"))?;
        let http = reqwest::Client::new();
        let kick_off = || {
            let request = http.get(format!("{}{EXPORT}", server.base)).header("accept", "application/fhir+json");
            request.header("prefer", "respond-async").send()
        };
        let response = kick_off().await?;
        let (status, outcome) = (response.status().as_u16(), response.text().await?);
        let folder_name = folder.path().to_string_lossy().into_owned();
        assert!(status == 500 && outcome.contains("OperationOutcome") && outcome.contains("`config.json.keys`"), "{status} {outcome}");
        assert!(!outcome.contains(&folder_name), "{outcome}");
        set_mode(0o600)?;
        assert_eq!(kick_off().await?.status().as_u16(), 202, "the file is read anew for each export");
        drop(server);
        let log = std::fs::read_to_string(path("log"))?;
        let remedy = format!("chmod 600 {}", keys.display());
        assert_eq!(log.lines().filter(|line| line.contains(&remedy)).count(), 2, "at the start, and for the kick-off: {log}");
        Ok(())
    })
}

/// Kills an export while it runs. Neither the configuration nor a key may be in any file of the output directory.
#[test]
fn an_export_that_is_killed_leaves_no_configuration_and_no_key() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name);
    std::fs::create_dir(path("lake"))?;
    std::fs::write(
        path("config.json"),
        CONFIG.replacen("]}", "],\"parameters\":{\"cryptoHashKey\":\"CANARY-of-the-configuration-0001\"}}", 1),
    )?;
    let lines: String =
        (0..60_000).map(|number| format!("{{\"resourceType\":\"Patient\",\"id\":\"p{number}\",\"active\":true}}\n")).collect();
    std::fs::write(path("lake/Patient.ndjson"), lines)?;
    let mut command = headrace(&["export", "--anonymization-config"]);
    let mut child = command.arg(path("config.json")).arg(path("lake")).arg(path("out")).stdout(std::process::Stdio::null()).spawn()?;
    // The job table exists once the service has started, and the request follows.
    let started = std::time::Instant::now();
    while started.elapsed() < std::time::Duration::from_secs(60) && child.try_wait()?.is_none() {
        let has_table = walkdir::WalkDir::new(path("out"))
            .into_iter()
            .flatten()
            .any(|entry| entry.file_name() == "lock" || entry.path().extension().is_some_and(|ending| ending == "db"));
        if has_table {
            break;
        }
        std::thread::yield_now();
    }
    child.kill()?;
    child.wait()?;
    for entry in walkdir::WalkDir::new(path("out")) {
        let entry = entry?;
        assert!(entry.file_name() != "config.json" && entry.file_name() != "secrets.key", "{}", entry.path().display());
        if entry.file_type().is_file() {
            let bytes = std::fs::read(entry.path())?;
            assert!(!bytes.windows(6).any(|bytes| bytes == b"CANARY"), "{}", entry.path().display());
        }
    }
    Ok(())
}
