//! Compares the IAM policy of each function's role with the permissions that the function uses. None may be missing or unused.
//!
//! The used permissions are measured: a scenario runs the real handlers with the AWS adapters through everything that they do, and each
//! SDK call is recorded with the values that IAM evaluates.

#![allow(clippy::indexing_slicing, reason = "an absent member of a JSON value is Null, which the tests then reject")]

mod at_rest;
mod limits;
mod policy;
mod quotas;
mod rules;
mod scenario;
mod template;
mod yaml;

use std::collections::{BTreeMap, BTreeSet};

use headrace_tests::flows::aws_sync::SYNC_QUEUE;
use headrace_tests::flows::permissions::{REGION_AND_ACCOUNT, UsedPermission};
use headrace_tests::flows::{Result, run};
use headrace_tests::standins::event_bridge::EVENT_BUS;
use headrace_tests::standins::kms::{ENCRYPTION_KEY, SIGNING_KEY};
use headrace_tests::standins::secrets::ORIGIN_SECRET;

use serde_json::Value;

use policy::Statement;
use template::Template;

/// Statements of the role of each function.
type Policies = BTreeMap<&'static str, Vec<Statement>>;

/// Functions and the logical ids of their roles.
const ROLES: [(&str, &str); 10] = [
    ("cancel", "CancelRole"),
    ("chunk-worker", "ChunkWorkerRole"),
    ("files", "FilesRole"),
    ("groups", "GroupsRole"),
    ("kickoff", "KickoffRole"),
    ("metadata", "MetadataRole"),
    ("reaper", "ReaperRole"),
    ("status", "StatusRole"),
    ("sync-worker", "SyncWorkerRole"),
    ("token", "TokenRole"),
];

/// Parameters of the template that describe the deployment of the test, with every key, so that all statements are created.
const PARAMETERS: [(&str, &str); 17] = [
    ("SourceBucketName", "lake-bucket"),
    ("SourcePrefix", "fhir/"),
    ("DestinationBucketName", "export-bucket"),
    ("DestinationPrefix", "out/"),
    ("KmsKeyArn", "arn:aws:kms:eu-central-1:111122223333:key/own"),
    ("SourceKmsKeyArn", "arn:aws:kms:eu-central-1:111122223333:key/source"),
    ("ClientDestinationBuckets", "client-bucket"),
    ("OutputKmsKeyArns", scenario::JOB_KEY),
    ("WatermarkMaxAgeSeconds", "7200"),
    ("EventBusName", EVENT_BUS),
    ("OriginUrl", "https://fhir.example.org/r4"),
    ("OriginSecretArn", ORIGIN_SECRET),
    ("OriginSecretKmsKeyArn", "arn:aws:kms:eu-central-1:111122223333:key/origin"),
    ("OriginDatastoreArn", "arn:aws:healthlake:eu-central-1:111122223333:datastore/fhir/0a"),
    ("VpcSubnetIds", "subnet-1,subnet-2"),
    ("VpcSecurityGroupIds", "sg-1"),
    ("Tracing", "Active"),
];

/// Reads the policies of all functions from the template.
fn policies() -> Result<Policies> {
    let arn = |service: &str, name: &str| format!("arn:aws:{service}:{REGION_AND_ACCOUNT}:{name}");
    let mut arns = vec![
        ("JobTable", arn("dynamodb", "table/headrace")),
        ("TaskQueue", arn("sqs", "tasks")),
        ("SyncQueue", arn("sqs", SYNC_QUEUE)),
        ("DeadLetterQueue", arn("sqs", "tasks-dlq")),
    ];
    arns.push(("TokenKey", SIGNING_KEY.to_owned()));
    arns.push(("JobSecretKey", ENCRYPTION_KEY.to_owned()));
    arns.push(("AuditBucket", "arn:aws:s3:::audit-bucket".to_owned()));
    let logs = [
        "TokenLog",
        "KickoffLog",
        "ChunkWorkerLog",
        "StatusLog",
        "FilesLog",
        "CancelLog",
        "ReaperLog",
        "GroupsLog",
        "MetadataLog",
        "SyncWorkerLog",
    ];
    arns.extend(logs.map(|log| (log, arn("logs", &format!("log-group:{log}")))));
    let template = Template::read(&PARAMETERS, &arns)?;
    let roles = template.of_type("AWS::IAM::Role")?;
    let expected: BTreeSet<&str> = ROLES.iter().map(|(_, role)| *role).collect();
    assert!(roles.keys().map(String::as_str).eq(expected), "every role must belong to one function: {:?}", roles.keys());
    let read = |(function, role): (&'static str, &str)| {
        let role = template
            .resolve(roles.get(role).ok_or_else(|| format!("the template has no role {role}"))?)?
            .ok_or_else(|| format!("the role {role} is empty"))?;
        Ok((function, Statement::from_role(&role)?))
    };
    ROLES.into_iter().map(read).collect()
}

/// Statements for calls that AWS makes on behalf of the function, which the scenario cannot record: statement id, its actions, and the
/// reason.
const USED_BY_AWS: [(&str, &[&str], &str); 11] = [
    ("WriteLog", &["logs:CreateLogStream", "logs:PutLogEvents"], "Lambda writes what the function prints"),
    ("ReceiveTasks", &["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"], "the event source mapping receives messages"),
    (
        "UseKmsKey",
        &["kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey*", "kms:ReEncrypt*"],
        "DynamoDB and S3 use the key on behalf of the role",
    ),
    (
        "RunInVpc",
        &[
            "ec2:CreateNetworkInterface",
            "ec2:DescribeNetworkInterfaces",
            "ec2:DescribeSubnets",
            "ec2:DeleteNetworkInterface",
            "ec2:AssignPrivateIpAddresses",
            "ec2:UnassignPrivateIpAddresses",
        ],
        "Lambda connects the function to the subnets",
    ),
    ("WriteTraces", &["xray:PutTraceSegments", "xray:PutTelemetryRecords"], "Lambda sends the traces"),
    ("DecryptLake", &["kms:Decrypt"], "S3 decrypts on behalf of the role"),
    ("WriteLakeWithKey", &["kms:Decrypt", "kms:GenerateDataKey"], "S3 encrypts on behalf of the role"),
    ("DecryptCredential", &["kms:Decrypt"], "Secrets Manager decrypts on behalf of the role"),
    (
        "ReadDatastore",
        &["healthlake:GetCapabilities", "healthlake:SearchWithGet", "healthlake:GetHistoryByResourceId", "healthlake:ReadResource"],
        "requests for FHIR resources are signed with the role, and have no SDK",
    ),
    ("FindMissingObjects", &["s3:ListBucket"], "S3 answers 404 instead of 403 for an object that does not exist"),
    (
        "ReadWithOutputKeys",
        &["kms:Decrypt"],
        "S3 decrypts configurations in clients' buckets, and files for clients that use a URL presigned by the role",
    ),
];

/// Returns true if a statement is listed in [`USED_BY_AWS`] with exactly its actions.
fn is_used_by_aws(statement: &Statement) -> bool {
    let is_key = statement.actions.iter().any(|action| action.starts_with("kms:"));
    let is_listed = USED_BY_AWS.iter().any(|(sid, actions, _)| statement.sid == *sid && statement.actions == *actions);
    is_listed && (!is_key || statement.requires_service("s3.") || statement.requires_service("secretsmanager."))
}

/// Returns the used permissions that no statement allows.
fn not_allowed(policies: &Policies, used: &BTreeSet<UsedPermission>) -> Vec<UsedPermission> {
    let is_allowed =
        |used: &&UsedPermission| policies.get(used.function).into_iter().flatten().any(|statement| statement.allows(used).is_some());
    used.iter().filter(|used| !is_allowed(used)).cloned().collect()
}

/// Describes the patterns that no used permission needs: function, statement id, and the action, ARN or condition value.
fn unused(policies: &Policies, used: &BTreeSet<UsedPermission>) -> Vec<String> {
    let mut unused = Vec::new();
    for (function, statements) in policies {
        let of_function: Vec<&UsedPermission> = used.iter().filter(|used| used.function == *function).collect();
        for statement in statements.iter().filter(|statement| !is_used_by_aws(statement)) {
            let used_patterns: BTreeSet<&str> = of_function.iter().filter_map(|used| statement.allows(used)).flatten().collect();
            let unused_patterns = statement.patterns().filter(|pattern| !used_patterns.contains(pattern));
            unused.extend(unused_patterns.map(|pattern| format!("{function}: {} {pattern}", statement.sid)));
        }
    }
    unused
}

#[test]
fn each_role_allows_exactly_what_its_function_uses() -> Result<()> {
    let used = run(async || Ok(scenario::run_all_functions().await?.permission_log.all()))?;
    let policies = policies()?;
    let (not_allowed, unused) = (not_allowed(&policies, &used), unused(&policies, &used));
    assert!(not_allowed.is_empty(), "used, but not allowed:\n{}", not_allowed.iter().map(|used| format!("{used:?}\n")).collect::<String>());
    assert!(unused.is_empty(), "allowed, but not used:\n{}", unused.join("\n"));
    Ok(())
}

/// Returns one property of each created resource of a type, resolved, by the name of the resource.
fn property(template: &Template, kind: &str, property: &str) -> Result<BTreeMap<String, Option<Value>>> {
    let properties = template.of_type(kind)?.into_iter();
    properties.map(|(name, properties)| Ok((name, template.resolve(&properties[property])?.filter(|value| !value.is_null())))).collect()
}

#[test]
fn the_template_is_hardened() -> Result<()> {
    let read = |parameters: &[(&'static str, &str)]| {
        Template::read(&[&[("SourceBucketName", "lake-bucket")], parameters].concat(), &[("TokenKey", SIGNING_KEY.to_owned())])
    };
    let (base, key) = (("BaseUrl", "https://fhir.example.org/bulk"), ("KmsKeyArn", "arn:aws:kms:eu-central-1:111122223333:key/own"));
    for (parameters, is_closed) in [(&[][..], false), (&[base], true), (&[base, ("KeepDefaultEndpoint", "true")], false)] {
        let closed = property(&read(parameters)?, "AWS::ApiGatewayV2::Api", "DisableExecuteApiEndpoint")?;
        let closed = closed.get("HttpApi").cloned().flatten().map(|value| value == true || value == "true");
        assert_eq!(closed, Some(is_closed), "{parameters:?}");
    }
    let plain = read(&[])?;
    assert_eq!(property(&plain, "AWS::DynamoDB::Table", "DeletionProtectionEnabled")?["JobTable"], Some("true".into()));
    let with_all = read(&[key, ("TokenReservedConcurrency", "10"), ("ReservedConcurrency", "5"), ("AccessLogBucketName", "log-bucket")])?;
    let reserved = property(&with_all, "AWS::Serverless::Function", "ReservedConcurrentExecutions")?;
    for (function, count) in [("TokenFunction", "10"), ("KickoffFunction", "5"), ("StatusFunction", "5"), ("ChunkWorkerFunction", "100")] {
        assert_eq!(reserved[function], Some(count.into()), "{function}");
    }
    assert!(reserved.values().all(Option::is_some), "{reserved:?}");
    let unreserved = property(&plain, "AWS::Serverless::Function", "ReservedConcurrentExecutions")?;
    assert!(unreserved.values().all(Option::is_none), "a new account can reserve nothing: {unreserved:?}");
    for (template, expected) in [(&plain, None), (&with_all, Some(Value::from(key.1)))] {
        let keys = property(template, "AWS::Logs::LogGroup", "KmsKeyId")?;
        assert!(keys.len() == 10 && keys.values().all(|key| *key == expected), "{keys:?}");
    }
    for (name, logging) in property(&with_all, "AWS::S3::Bucket", "LoggingConfiguration")? {
        assert_eq!(logging.ok_or("no access logs")?["DestinationBucketName"], "log-bucket", "{name}");
    }
    Ok(())
}
