//! Quotas and rules of AWS for what the template creates, whatever the stack is called: sizes of policies and settings, and the resources
//! that policies name.

use std::fs;

use headrace_tests::flows::Result;
use headrace_tests::workspace::root;
use serde_json::{Value, json};

use crate::limits::{CHUNK_WORKER, properties, template};
use crate::template::Template;
use crate::{PARAMETERS, ROLES};

/// The most characters of all inline policies of a role. IAM does not count white space.
const INLINE_POLICY_CHARS: usize = 10_240;

/// The most bytes of the names and values of a function's environment variables.
const ENVIRONMENT_BYTES: usize = 4_096;

/// The most characters of the description of a function.
const DESCRIPTION_CHARS: usize = 256;

/// What names of AWS, which contain the name of the stack, are longer than those of this test, all together.
const LONGER_NAMES: usize = 600;

/// The number of clients' buckets, of the longest names, that fit into the quotas.
const CLIENT_BUCKETS: usize = 12;

/// The number of keys of `OutputKmsKeys` that fit, too.
const OUTPUT_KEYS: usize = 10;

/// Reads the template with every feature and with as many buckets and keys as fit.
fn largest_stack() -> Result<Template> {
    let buckets: Vec<String> = (0..CLIENT_BUCKETS).map(|n| format!("client-{n:0>56}")).collect();
    let arns: Vec<String> = (0..OUTPUT_KEYS).map(|n| format!("arn:aws:kms:eu-central-1:111122223333:key/{n:0>36}")).collect();
    let named_keys: Vec<String> = arns.iter().enumerate().map(|(n, arn)| format!("trial-{n:0>4}={arn}")).collect();
    let (buckets, arn_list, named_keys) = (buckets.join(","), arns.join(","), named_keys.join(";"));
    let own = [
        ("ClientDestinationBuckets", buckets.as_str()),
        ("OutputKmsKeyArns", arn_list.as_str()),
        ("OutputKmsKeys", named_keys.as_str()),
        ("TokenKeyArn", "arn:aws:kms:eu-central-1:111122223333:key/token"),
        ("StartedWorkers", "1000"),
    ];
    template(&[&own[..], &PARAMETERS[..]].concat())
}

/// Returns the number of characters of a policy that IAM counts.
fn counted_chars(document: &Value) -> usize {
    document.to_string().chars().filter(|character| !character.is_whitespace()).count()
}

#[test]
fn the_policies_of_each_role_fit_with_many_clients_and_keys() -> Result<()> {
    let template = largest_stack()?;
    let beside_the_role = properties(&template, "AWS::IAM::Policy", "StartWorkersPolicy")?;
    for (function, role) in ROLES {
        let role = properties(&template, "AWS::IAM::Role", role)?;
        let policies = role["Policies"].as_array().ok_or("a role has no policies")?;
        let documents = policies.iter().chain([&beside_the_role]).map(|policy| &policy["PolicyDocument"]);
        let chars: usize = documents.map(counted_chars).sum();
        assert!(chars + LONGER_NAMES <= INLINE_POLICY_CHARS, "{function}: {chars}");
    }
    Ok(())
}

/// Returns the bytes of the names and values of a function's environment variables.
fn environment_bytes(function: &Value) -> usize {
    let variables = function.pointer("/Environment/Variables").and_then(Value::as_object);
    variables.into_iter().flatten().map(|(name, value)| name.len() + value.as_str().map_or(0, str::len)).sum()
}

#[test]
fn the_settings_of_each_function_fit_with_many_clients_and_keys() -> Result<()> {
    let template = largest_stack()?;
    let functions = template.of_type("AWS::Serverless::Function")?;
    assert_eq!(functions.len(), ROLES.len());
    for name in functions.into_keys() {
        let function = properties(&template, "AWS::Serverless::Function", &name)?;
        let bytes = environment_bytes(&function);
        assert!(bytes > 0 && bytes + LONGER_NAMES <= ENVIRONMENT_BYTES, "{name}: {bytes}");
        let description = function["Description"].as_str().ok_or("a function has no description")?;
        assert!(description.chars().count() <= DESCRIPTION_CHARS, "{name}: {description}");
    }
    let page = fs::read_to_string(root().join("docs/operations.md"))?;
    let sentence = format!("{CLIENT_BUCKETS} buckets of clients and {OUTPUT_KEYS} keys");
    assert!(page.contains(&sentence), "docs/operations.md must say: {sentence}");
    Ok(())
}

#[test]
fn no_policy_guesses_the_name_of_a_function() -> Result<()> {
    let started = largest_stack()?;
    for (function, role) in ROLES {
        let role = properties(&started, "AWS::IAM::Role", role)?.to_string();
        assert!(!role.contains(":function:headrace"), "{function}: CloudFormation shortens a long name of the stack");
    }
    let policy = properties(&started, "AWS::IAM::Policy", "StartWorkersPolicy")?;
    assert_eq!(policy["Roles"], json!(["ChunkWorkerRole"]));
    let expected = json!([{ "Sid": "StartWorkers", "Effect": "Allow", "Action": "lambda:InvokeFunction", "Resource": CHUNK_WORKER }]);
    assert_eq!(policy.pointer("/PolicyDocument/Statement"), Some(&expected));
    assert!(properties(&template(&[])?, "AWS::IAM::Policy", "StartWorkersPolicy").is_err(), "nobody starts workers by default");
    Ok(())
}

#[test]
fn the_policy_of_the_queues_names_no_other_queue() -> Result<()> {
    let policy = properties(&largest_stack()?, "AWS::SQS::QueuePolicy", "QueuesTlsOnly")?;
    assert_eq!(policy["Queues"].as_array().map(Vec::len), Some(3));
    let statements = policy.pointer("/PolicyDocument/Statement").and_then(Value::as_array).ok_or("no statements")?;
    assert!(!statements.is_empty() && statements.iter().all(|statement| statement["Resource"] == "*"), "{statements:?}");
    Ok(())
}
