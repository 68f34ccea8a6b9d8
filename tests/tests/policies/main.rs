//! The policy of each function's role against what the function asks for: nothing is missing, and nothing is there in vain.
//!
//! What a function asks for is not written down anywhere: the real handlers are driven through all that they do, over the
//! adapters of AWS, and each call of the SDK is noted with what IAM would look at.

mod drive;
mod policy;
mod template;
mod yaml;

use std::collections::{BTreeMap, BTreeSet};

use headrace_tests::flows::asked::{Asked, PLACE};
use headrace_tests::flows::{Result, run};
use headrace_tests::standins::kms::{KEY, SEALING_KEY};

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
    ("JobKmsKeyArns", drive::JOB_KEY),
];

fn policies() -> Result<Policies> {
    let arn = |service: &str, name: &str| format!("arn:aws:{service}:{PLACE}:{name}");
    let mut arns = vec![
        ("JobTable", arn("dynamodb", "table/headrace")),
        ("TaskQueue", arn("sqs", "tasks")),
        ("DeadLetterQueue", arn("sqs", "tasks-dlq")),
    ];
    arns.push(("TokenKey", KEY.to_owned()));
    arns.push(("SecretsKey", SEALING_KEY.to_owned()));
    arns.push(("AuditBucket", "arn:aws:s3:::audit-bucket".to_owned()));
    let logs = ["TokenLog", "KickoffLog", "ChunkWorkerLog", "StatusLog", "FilesLog", "CancelLog", "ReaperLog", "GroupsLog", "MetadataLog"];
    arns.extend(logs.map(|log| (log, arn("logs", &format!("log-group:{log}")))));
    let template = Template::filled(&PARAMETERS, &arns)?;
    let roles = template.of_type("AWS::IAM::Role")?;
    let expected: BTreeSet<&str> = ROLES.iter().map(|(_, role)| *role).collect();
    assert!(roles.keys().map(String::as_str).eq(expected), "each role belongs to one function: {:?}", roles.keys());
    let read = |(function, role): (&'static str, &str)| {
        let role = template.resolve(roles.get(role).ok_or("no role")?)?.ok_or("an empty role")?;
        Ok((function, Statement::of_role(&role)?))
    };
    ROLES.into_iter().map(read).collect()
}

/// What no call of ours shows, since others make it: the statement, all that it allows, and who needs it.
const NEEDED_BY_OTHERS: [(&str, &[&str], &str); 5] = [
    ("WriteItsLog", &["logs:CreateLogStream", "logs:PutLogEvents"], "Lambda writes what the function prints"),
    ("TakeTasks", &["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"], "the event source mapping takes messages"),
    (
        "UseTheKey",
        &["kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey*", "kms:ReEncrypt*"],
        "DynamoDB and S3 use the key on behalf of the role",
    ),
    ("DecryptTheLake", &["kms:Decrypt"], "S3 decrypts on behalf of the role"),
    ("ReadWithKeysOfJobs", &["kms:Decrypt"], "S3 decrypts on behalf of whoever the role has signed a URL for"),
];

fn is_needed_by_others(statement: &Statement) -> bool {
    let is_key = statement.actions.iter().any(|action| action.starts_with("kms:"));
    let is_listed = NEEDED_BY_OTHERS.iter().any(|(sid, actions, _)| statement.sid == *sid && statement.actions == *actions);
    is_listed && (!is_key || statement.is_through("s3."))
}

/// What nobody allows.
fn missing(policies: &Policies, asked: &BTreeSet<Asked>) -> Vec<Asked> {
    let is_allowed = |asked: &&Asked| policies.get(asked.function).into_iter().flatten().any(|statement| statement.allows(asked).is_some());
    asked.iter().filter(|asked| !is_allowed(asked)).cloned().collect()
}

/// What nobody asks for: function, statement, and the action, ARN or value.
fn in_vain(policies: &Policies, asked: &BTreeSet<Asked>) -> Vec<String> {
    let mut found = Vec::new();
    for (function, statements) in policies {
        let own: Vec<&Asked> = asked.iter().filter(|asked| asked.function == *function).collect();
        for statement in statements.iter().filter(|statement| !is_needed_by_others(statement)) {
            let used: BTreeSet<&str> = own.iter().filter_map(|asked| statement.allows(asked)).flatten().collect();
            let idle = statement.patterns().filter(|pattern| !used.contains(pattern));
            found.extend(idle.map(|pattern| format!("{function}: {} {pattern}", statement.sid)));
        }
    }
    found
}

#[test]
fn each_function_may_do_what_it_does_and_nothing_else() -> Result<()> {
    let asked = run(async || Ok(drive::everything().await?.askings.so_far()))?;
    let policies = policies()?;
    let (missing, in_vain) = (missing(&policies, &asked), in_vain(&policies, &asked));
    assert!(missing.is_empty(), "not allowed:\n{}", missing.iter().map(|asked| format!("{asked:?}\n")).collect::<String>());
    assert!(in_vain.is_empty(), "allowed and never done:\n{}", in_vain.join("\n"));
    Ok(())
}
