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

use policy::Statement;
use template::Template;

/// A function and what its role may do.
type Policies = BTreeMap<&'static str, Vec<Statement>>;

const ROLES: [(&str, &str); 8] = [
    ("cancel", "CancelRole"),
    ("chunk-worker", "ChunkWorkerRole"),
    ("files", "FilesRole"),
    ("groups", "GroupsRole"),
    ("kickoff", "KickoffRole"),
    ("metadata", "MetadataRole"),
    ("reaper", "ReaperRole"),
    ("status", "StatusRole"),
];

/// The deployment that the test's stage is, with every key, so that no statement is left out.
const PARAMETERS: [(&str, &str); 6] = [
    ("SourceBucketName", "lake-bucket"),
    ("SourcePrefix", "fhir/"),
    ("DestinationBucketName", "export-bucket"),
    ("DestinationPrefix", "out/"),
    ("KmsKeyArn", "arn:aws:kms:eu-central-1:111122223333:key/own"),
    ("SourceKmsKeyArn", "arn:aws:kms:eu-central-1:111122223333:key/source"),
];

fn policies() -> Result<Policies> {
    let arn = |service: &str, name: &str| format!("arn:aws:{service}:{PLACE}:{name}");
    let mut arns = vec![
        ("JobTable", arn("dynamodb", "table/headrace")),
        ("TaskQueue", arn("sqs", "tasks")),
        ("DeadLetterQueue", arn("sqs", "tasks-dlq")),
    ];
    let logs = ["KickoffLog", "ChunkWorkerLog", "StatusLog", "FilesLog", "CancelLog", "ReaperLog", "GroupsLog", "MetadataLog"];
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

/// Who needs a permission that no call of ours shows; `None` for all others.
fn needed_by_others(statement: &Statement, action: &str) -> Option<&'static str> {
    let through = |service: &str| {
        statement.conditions.iter().any(|condition| condition.key == "kms:ViaService" && condition.values.iter().any(|via| via.starts_with(service)))
    };
    match (statement.sid.as_str(), action) {
        ("WriteItsLog", "logs:CreateLogStream" | "logs:PutLogEvents") => Some("Lambda writes the log"),
        ("TakeTasks", "sqs:ReceiveMessage" | "sqs:DeleteMessage" | "sqs:GetQueueAttributes") => Some("the event source mapping takes messages"),
        ("UseTheKey", _) if through("dynamodb.") && through("s3.") => Some("DynamoDB and S3 use the key on behalf of the role"),
        ("DecryptTheLake", "kms:Decrypt") if through("s3.") => Some("S3 decrypts on behalf of the role"),
        _ => None,
    }
}

/// What nobody allows.
fn missing(policies: &Policies, asked: &BTreeSet<Asked>) -> Vec<Asked> {
    let is_allowed = |asked: &&Asked| policies.get(asked.function).into_iter().flatten().any(|statement| statement.allows(asked).is_some());
    asked.iter().filter(|asked| !is_allowed(asked)).cloned().collect()
}

/// What nobody asks for: function, statement and action.
fn in_vain(policies: &Policies, asked: &BTreeSet<Asked>) -> Vec<String> {
    let mut found = Vec::new();
    for (function, statements) in policies {
        for statement in statements {
            let own = asked.iter().filter(|asked| asked.function == *function);
            let used: BTreeSet<&str> = own.filter_map(|asked| statement.allows(asked)).collect();
            let idle = statement.actions.iter().filter(|action| !used.contains(action.as_str()) && needed_by_others(statement, action).is_none());
            found.extend(idle.map(|action| format!("{function}: {} {action}", statement.sid)));
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
