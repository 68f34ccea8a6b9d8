//! Limits and defaults of the template that the code relies on: arithmetic over all values that a parameter may have.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use headrace_aws::Workload;
use headrace_core::request::ANONYMIZATION_FOLDER;
use headrace_tests::flows::{Result, run};
use headrace_tests::workspace::root;
use serde_json::Value;

use crate::template::Template;
use crate::{ROLES, scenario};

/// The bucket of exports in the evaluated template.
const BUCKET: &str = "export-bucket";

/// The worker of a stack with a name of more than 31 characters, as CloudFormation shortens it.
pub(crate) const CHUNK_WORKER: &str =
    "arn:aws:lambda:eu-central-1:111122223333:function:headrace-production-hospi-ChunkWorkerFunction-1A2B3C4D5E6F";

/// Reads the template of a deployment that creates its buckets, with these parameters.
pub(crate) fn template(parameters: &[(&'static str, &str)]) -> Result<Template> {
    let parameters: Vec<_> = [("SourceBucketName", "lake-bucket")].into_iter().chain(parameters.iter().copied()).collect();
    let arn = |service: &str, name: &str| format!("arn:aws:{service}:eu-central-1:111122223333:{name}");
    let mut arns = vec![
        ("JobTable", arn("dynamodb", "table/headrace")),
        ("TaskQueue", arn("sqs", "tasks")),
        ("SyncQueue", arn("sqs", "syncs")),
        ("DeadLetterQueue", arn("sqs", "tasks-dlq")),
        ("DestinationBucket", format!("arn:aws:s3:::{BUCKET}")),
        ("AuditBucket", "arn:aws:s3:::audit-bucket".to_owned()),
        ("JobSecretKey", arn("kms", "key/job-secret")),
        ("ChunkWorkerFunction", CHUNK_WORKER.to_owned()),
    ];
    let logs = ["TokenLog", "KickoffLog", "ChunkWorkerLog", "StatusLog", "FilesLog", "CancelLog", "ReaperLog", "GroupsLog", "MetadataLog"];
    arns.extend(logs.into_iter().chain(["SyncWorkerLog"]).map(|log| (log, arn("logs", log))));
    arns.extend(ROLES.iter().map(|(_, role)| (*role, format!("arn:aws:iam::111122223333:role/{role}"))));
    Template::read(&parameters, &arns)
}

/// Returns the properties of a created resource.
pub(crate) fn properties(template: &Template, kind: &str, name: &str) -> Result<Value> {
    let resources = template.of_type(kind)?;
    let resource = resources.get(name).ok_or_else(|| format!("the template creates no {name}"))?;
    Ok(template.resolve(resource)?.unwrap_or_default())
}

/// Returns a member of the properties as a number.
fn number(properties: &Value, pointer: &str) -> Result<u64> {
    let value = properties.pointer(pointer).and_then(Value::as_str).ok_or_else(|| format!("no {pointer} in {properties}"))?;
    Ok(value.parse()?)
}

/// An expiring rule of the bucket of exports: the prefix of its keys, and the days.
struct ExpiringRule {
    prefix: String,
    days: u64,
}

/// Returns the rules of the created bucket of exports that delete objects.
fn expiring_rules(parameters: &[(&'static str, &str)]) -> Result<Vec<ExpiringRule>> {
    let bucket = properties(&template(parameters)?, "AWS::S3::Bucket", "DestinationBucket")?;
    let rules = bucket.pointer("/LifecycleConfiguration/Rules").and_then(Value::as_array).ok_or("no rules")?;
    let expiring = rules.iter().filter(|rule| !rule["ExpirationInDays"].is_null());
    let rule = |rule: &Value| {
        Ok(ExpiringRule { prefix: rule["Prefix"].as_str().unwrap_or_default().to_owned(), days: number(rule, "/ExpirationInDays")? })
    };
    expiring.map(rule).collect()
}

#[test]
fn lifecycle_rules_expire_every_exported_file_and_no_anonymization_configuration() -> Result<()> {
    let writes = run(async || Ok(scenario::run_all_functions().await?.s3.writes()))?;
    let rules = expiring_rules(&[("DestinationPrefix", "out/")])?;
    let expires = |key: &str| rules.iter().any(|rule| key.starts_with(&rule.prefix));
    let keys: Vec<&str> = writes.iter().filter(|write| write.bucket == BUCKET).map(|write| write.key.as_str()).collect();
    let (configs, files): (Vec<&str>, Vec<&str>) =
        keys.into_iter().partition(|key| key.starts_with(&format!("out/{ANONYMIZATION_FOLDER}/")));
    assert!(!configs.is_empty() && files.len() > 10, "{configs:?} {files:?}");
    assert!(configs.iter().all(|key| !expires(key)), "a rule deletes {configs:?}");
    assert!(files.iter().all(|key| expires(key)), "no rule deletes one of {files:?}");
    Ok(())
}

#[test]
fn no_role_may_write_an_anonymization_configuration() -> Result<()> {
    let config = format!("arn:aws:s3:::export-bucket/out/{ANONYMIZATION_FOLDER}/study.json");
    for (function, statements) in crate::policies()? {
        for statement in statements {
            let writes = ["s3:PutObject", "s3:DeleteObject"].into_iter().filter(|action| statement.covers(action, &config));
            assert_eq!(writes.collect::<Vec<_>>(), Vec::<&str>::new(), "{function}: {}", statement.sid);
        }
    }
    Ok(())
}

#[test]
fn functions_that_read_clients_anonymization_configurations_may_decrypt_them() -> Result<()> {
    let config = format!("arn:aws:s3:::client-bucket/own/{ANONYMIZATION_FOLDER}/study.json");
    let mut readers = Vec::new();
    for (function, statements) in crate::policies()? {
        let may = |action: &str, resource: &str| statements.iter().any(|statement| statement.covers(action, resource));
        if may("s3:GetObject", &config) {
            assert!(may("kms:Decrypt", scenario::JOB_KEY), "{function}");
            readers.push(function);
        }
    }
    assert_eq!(readers, ["chunk-worker", "kickoff", "reaper"]);
    Ok(())
}

#[test]
fn files_outlive_their_export_for_every_deadline_and_retention() -> Result<()> {
    let all = template(&[])?;
    let (deadlines, retentions) = (all.allowed_values("DeadlineHours")?, all.allowed_values("RetentionDays")?);
    assert!(deadlines.len() >= 5 && retentions.len() >= 5, "{deadlines:?} {retentions:?}");
    for (deadline, retention) in deadlines.iter().flat_map(|hours| retentions.iter().map(move |days| (hours, days))) {
        let parameters = [("DeadlineHours", deadline.as_str()), ("RetentionDays", retention.as_str())];
        let kickoff = properties(&template(&parameters)?, "AWS::Serverless::Function", "KickoffFunction")?;
        let hours = |setting: &str| number(&kickoff, &format!("/Environment/Variables/{setting}"));
        let (deadline_hours, retention_hours) = (hours("HEADRACE_DEADLINE_HOURS")?, hours("HEADRACE_RETENTION_HOURS")?);
        assert_eq!((deadline_hours, retention_hours), (deadline.parse()?, 24 * retention.parse::<u64>()?));
        for rule in expiring_rules(&parameters)? {
            // The reaper ends exports up to some minutes late.
            let needed_hours = deadline_hours + retention_hours + 1;
            assert!(rule.days * 24 >= needed_hours, "{deadline} h + {retention} d: deleted after {} d", rule.days);
            assert!(rule.days * 24 <= needed_hours + 48, "{deadline} h + {retention} d: kept for {} d", rule.days);
        }
    }
    Ok(())
}

#[test]
fn log_events_of_every_level_reach_the_log() -> Result<()> {
    let globals = template(&[])?.section("Globals")?;
    let logging = &globals["Function"]["LoggingConfig"];
    assert_eq!((&logging["LogFormat"], &logging["ApplicationLogLevel"]), (&"JSON".into(), &"TRACE".into()));
    for (name, function) in template(&[])?.of_type("AWS::Serverless::Function")? {
        assert_eq!(function["LoggingConfig"]["ApplicationLogLevel"], Value::Null, "{name}");
    }
    Ok(())
}

#[test]
fn a_message_is_hidden_for_as_long_as_lambda_may_hold_it() -> Result<()> {
    let template = template(&[("OriginUrl", "https://fhir.example.org/r4")])?;
    for (worker, queue) in [("ChunkWorkerFunction", "TaskQueue"), ("SyncWorkerFunction", "SyncQueue")] {
        check_worker_and_queue(&template, worker, queue)?;
    }
    Ok(())
}

/// Checks the times of a worker and its queue.
fn check_worker_and_queue(template: &Template, worker: &str, queue: &str) -> Result<()> {
    let worker = properties(template, "AWS::Serverless::Function", worker)?;
    let queue = properties(template, "AWS::SQS::Queue", queue)?;
    let (timeout, visibility) = (number(&worker, "/Timeout")?, number(&queue, "/VisibilityTimeout")?);
    assert!(visibility >= 6 * timeout && visibility <= 12 * 3600, "{visibility} s, {timeout} s");
    assert!(timeout <= 900 && timeout > 2 * chunk_worker::handler::YIELD_BEFORE_TIMEOUT.as_secs(), "{timeout} s");
    // Lambda deletes a message after the invocation, unless the response names it.
    assert_eq!(worker.pointer("/Events/Tasks/Properties/FunctionResponseTypes/0"), Some(&"ReportBatchItemFailures".into()));
    assert_eq!(number(&worker, "/Events/Tasks/Properties/BatchSize")?, 1);
    assert!(number(&queue, "/RedrivePolicy/maxReceiveCount")? >= 5);
    let dead_letters = properties(template, "AWS::SQS::Queue", "DeadLetterQueue")?;
    assert!(number(&dead_letters, "/MessageRetentionPeriod")? >= number(&queue, "/MessageRetentionPeriod")?);
    Ok(())
}

/// Returns the timeouts of all functions in seconds, by name.
fn timeouts() -> Result<BTreeMap<String, u64>> {
    let template = template(&[("OriginUrl", "https://fhir.example.org/r4")])?;
    let globals = template.section("Globals")?;
    let timeout = |(name, function): (String, Value)| {
        let text = function["Timeout"].as_str().or_else(|| globals["Function"]["Timeout"].as_str()).ok_or("no timeout")?;
        let seconds: u64 = text.parse()?;
        Ok((name, seconds))
    };
    template.of_type("AWS::Serverless::Function")?.into_iter().map(timeout).collect()
}

#[test]
fn functions_that_answer_requests_outlive_a_call_without_an_answer() -> Result<()> {
    let call = Workload::Requests.timeouts().operation_timeout().ok_or("a call has no limit")?;
    // Pauses for a service that was overloaded, the call that gets no answer, and another one that records the failure.
    let needed = Workload::Requests.patience() + 2 * call;
    let others = ["ChunkWorkerFunction", "SyncWorkerFunction", "ReaperFunction"];
    for (name, seconds) in timeouts()?.into_iter().filter(|(name, _)| !others.contains(&name.as_str())) {
        assert!(Duration::from_secs(seconds) >= needed, "{name}: {seconds} s, {needed:?}");
    }
    Ok(())
}

#[test]
fn functions_that_answer_requests_end_before_the_gateway_gives_up() -> Result<()> {
    for (name, seconds) in timeouts()? {
        let limit = match name.as_str() {
            "ChunkWorkerFunction" | "SyncWorkerFunction" => 900,
            "ReaperFunction" => 59,
            _ => 29,
        };
        assert!(seconds <= limit, "{name}: {seconds} s");
    }
    Ok(())
}

/// Returns the settings of the profile `release` of a manifest.
fn release_profile(manifest: &str) -> Vec<&str> {
    let lines = manifest.lines().skip_while(|line| *line != "[profile.release]").skip(1).take_while(|line| !line.starts_with('['));
    lines.filter(|line| line.contains(" = ")).collect()
}

#[test]
fn the_release_profile_says_each_setting_that_cargo_lambda_would_otherwise_choose() -> Result<()> {
    let manifest = fs::read_to_string(root().join("Cargo.toml"))?;
    let profile = release_profile(&manifest);
    for name in ["strip", "lto", "codegen-units", "panic"] {
        assert!(profile.iter().any(|line| line.starts_with(&format!("{name} = "))), "{name} is not in {profile:?}");
    }
    assert!(profile.contains(&r#"panic = "unwind""#), "{profile:?}");
    // cargo-lambda sets RUSTFLAGS for the processor, and RUSTFLAGS replaces all flags of this file.
    let config = fs::read_to_string(root().join(".cargo/config.toml"))?;
    assert!(!config.contains("rustflags"), "sam build ignores the flags of .cargo/config.toml");
    Ok(())
}

/// Returns the links of a page to tests: name and path below the repository.
fn tests_named_in(page: &str) -> Vec<(&str, &str)> {
    let link = |rest: &str| -> Option<(usize, usize)> { Some((rest.find("`](../")?, rest.find(')')?)) };
    let mut links = Vec::new();
    for piece in page.split("[`").skip(1) {
        if let Some((end, close)) = link(piece).filter(|(end, close)| end < close) {
            links.push((&piece[..end], &piece[end + "`](../".len()..close]));
        }
    }
    links
}

#[test]
fn the_page_about_aws_names_tests_that_exist() -> Result<()> {
    let page = fs::read_to_string(root().join("docs/aws.md"))?;
    let names = tests_named_in(&page);
    assert!(names.len() > 40, "{names:?}");
    for (name, path) in names.into_iter().filter(|(name, _)| name.contains('_') && !name.ends_with(".rs")) {
        let source = fs::read_to_string(root().join(path)).map_err(|error| format!("{path}: {error}"))?;
        assert!(source.contains(&format!("fn {name}(")), "{path} has no test {name}");
    }
    Ok(())
}
