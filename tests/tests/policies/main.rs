//! The policy of each function's role against what the function asks for: nothing is missing, and nothing is there in vain.
//!
//! What a function asks for is not written down anywhere: the real handlers are driven through all that they do, over the
//! adapters of AWS, and each call of the SDK is noted with what IAM would look at.

mod drive;
mod policy;
mod template;
mod yaml;

use std::collections::{BTreeMap, BTreeSet};

use headrace_tests::flows::permissions::{UsedPermission, REGION_AND_ACCOUNT};
use headrace_tests::flows::{Result, run};
use headrace_tests::standins::kms::{SIGNING_KEY, ENCRYPTION_KEY};

use policy::Statement;
use template::Template;

/// A function and what its role may do.
type Policies = BTreeMap<&'static str, Vec<Statement>>;

const ROLES: [(&str, &str); 9] = [
    ("cancel", "CancelRole"),
    ("chunk-worker", "ChunkWorkerRole"),
    ("files", "FilesRole"),
    ("groups", "GroupsRole"),
    ("kickoff", "KickoffRole"),
    ("metadata", "MetadataRole"),
    ("reaper", "ReaperRole"),
    ("status", "StatusRole"),
    ("token", "TokenRole"),
];

/// The deployment that the test's stage is, with every key, so that no statement is left out.
const PARAMETERS: [(&str, &str); 8] = [
    ("SourceBucketName", "lake-bucket"),
    ("SourcePrefix", "fhir/"),
    ("DestinationBucketName", "export-bucket"),
    ("DestinationPrefix", "out/"),
    ("KmsKeyArn", "arn:aws:kms:eu-central-1:111122223333:key/own"),
    ("SourceKmsKeyArn", "arn:aws:kms:eu-central-1:111122223333:key/source"),
    ("ClientDestinationBuckets", "client-bucket"),
    ("OutputKmsKeyArns", drive::JOB_KEY),
];

fn policies() -> Result<Policies> {
    let arn = |service: &str, name: &str| format!("arn:aws:{service}:{REGION_AND_ACCOUNT}:{name}");
    let mut arns = vec![
        ("JobTable", arn("dynamodb", "table/headrace")),
        ("TaskQueue", arn("sqs", "tasks")),
        ("DeadLetterQueue", arn("sqs", "tasks-dlq")),
    ];
    arns.push(("TokenKey", SIGNING_KEY.to_owned()));
    arns.push(("JobSecretKey", ENCRYPTION_KEY.to_owned()));
    arns.push(("AuditBucket", "arn:aws:s3:::audit-bucket".to_owned()));
    let logs = ["TokenLog", "KickoffLog", "ChunkWorkerLog", "StatusLog", "FilesLog", "CancelLog", "ReaperLog", "GroupsLog", "MetadataLog"];
    arns.extend(logs.map(|log| (log, arn("logs", &format!("log-group:{log}")))));
    let template = Template::read(&PARAMETERS, &arns)?;
    let roles = template.of_type("AWS::IAM::Role")?;
    let expected: BTreeSet<&str> = ROLES.iter().map(|(_, role)| *role).collect();
    assert!(roles.keys().map(String::as_str).eq(expected), "each role belongs to one function: {:?}", roles.keys());
    let read = |(function, role): (&'static str, &str)| {
        let role = template.resolve(roles.get(role).ok_or("no role")?)?.ok_or("an empty role")?;
        Ok((function, Statement::from_role(&role)?))
    };
    ROLES.into_iter().map(read).collect()
}

/// What no call of ours shows, since others make it: the statement, all that it allows, and who needs it.
const USED_BY_AWS: [(&str, &[&str], &str); 5] = [
    ("WriteLog", &["logs:CreateLogStream", "logs:PutLogEvents"], "Lambda writes what the function prints"),
    ("ReceiveTasks", &["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"], "the event source mapping takes messages"),
    (
        "UseKmsKey",
        &["kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey*", "kms:ReEncrypt*"],
        "DynamoDB and S3 use the key on behalf of the role",
    ),
    ("DecryptLake", &["kms:Decrypt"], "S3 decrypts on behalf of the role"),
    ("ReadWithOutputKeys", &["kms:Decrypt"], "S3 decrypts on behalf of whoever the role has signed a URL for"),
];

fn is_used_by_aws(statement: &Statement) -> bool {
    let is_key = statement.actions.iter().any(|action| action.starts_with("kms:"));
    let is_listed = USED_BY_AWS.iter().any(|(sid, actions, _)| statement.sid == *sid && statement.actions == *actions);
    is_listed && (!is_key || statement.requires_service("s3."))
}

/// What nobody allows.
fn not_allowed(policies: &Policies, used: &BTreeSet<UsedPermission>) -> Vec<UsedPermission> {
    let is_allowed = |used: &&UsedPermission| policies.get(used.function).into_iter().flatten().any(|statement| statement.allows(used).is_some());
    used.iter().filter(|used| !is_allowed(used)).cloned().collect()
}

/// What nobody asks for: function, statement, and the action, ARN or value.
fn unused(policies: &Policies, used: &BTreeSet<UsedPermission>) -> Vec<String> {
    let mut found = Vec::new();
    for (function, statements) in policies {
        let own: Vec<&UsedPermission> = used.iter().filter(|used| used.function == *function).collect();
        for statement in statements.iter().filter(|statement| !is_used_by_aws(statement)) {
            let used: BTreeSet<&str> = own.iter().filter_map(|used| statement.allows(used)).flatten().collect();
            let idle = statement.patterns().filter(|pattern| !used.contains(pattern));
            found.extend(idle.map(|pattern| format!("{function}: {} {pattern}", statement.sid)));
        }
    }
    found
}

#[test]
fn each_role_allows_exactly_what_its_function_uses() -> Result<()> {
    let used = run(async || Ok(drive::run_all_functions().await?.permission_log.all()))?;
    let policies = policies()?;
    let (not_allowed, unused) = (not_allowed(&policies, &used), unused(&policies, &used));
    assert!(not_allowed.is_empty(), "not allowed:\n{}", not_allowed.iter().map(|used| format!("{asked:?}\n")).collect::<String>());
    assert!(unused.is_empty(), "allowed and never done:\n{}", unused.join("\n"));
    Ok(())
}
