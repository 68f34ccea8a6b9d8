//! Evaluation of a role's policy, as IAM does it.

use headrace_tests::flows::Result;
use headrace_tests::flows::permissions::UsedPermission;
use serde_json::Value;

/// Statement with the effect `Allow`.
#[derive(Clone, Debug)]
pub(crate) struct Statement {
    /// Statement id.
    pub(crate) sid: String,
    /// Action patterns.
    pub(crate) actions: Vec<String>,
    /// ARN patterns.
    resources: Vec<String>,
    /// Conditions. All must be met.
    conditions: Vec<Condition>,
}

/// Condition on one key.
#[derive(Clone, Debug)]
struct Condition {
    /// Condition operator.
    operator: Operator,
    /// Condition key.
    key: String,
    /// Patterns. One must match.
    values: Vec<String>,
}

/// Comparison operator.
#[derive(Clone, Copy, Debug)]
enum Operator {
    /// `StringEquals`.
    Equals,
    /// `StringLike`.
    Like,
    /// `StringLikeIfExists`.
    LikeIfExists,
    /// `Null` with the value `false`: the call has a value for the key.
    Exists,
}

impl Operator {
    /// Parses an operator. `ForAllValues` equals the plain operator here, because every call has only one value per key.
    fn parse(name: &str) -> Result<Self> {
        match name.strip_prefix("ForAllValues:").unwrap_or(name) {
            "StringEquals" => Ok(Self::Equals),
            "StringLike" => Ok(Self::Like),
            "StringLikeIfExists" => Ok(Self::LikeIfExists),
            "Null" => Ok(Self::Exists),
            _ => Err(format!("the test does not know the operator {name}").into()),
        }
    }
}

/// Returns the strings of a string or a list of strings.
fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::Array(items) => items.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        Value::String(text) => vec![text.clone()],
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => Vec::new(),
    }
}

impl Statement {
    /// Parses the statements of a role whose intrinsic functions are resolved, without those that deny: the only one is for calls
    /// that no function makes.
    pub(crate) fn from_role(role: &Value) -> Result<Vec<Self>> {
        let mut statements = Vec::new();
        for policy in role["Policies"].as_array().ok_or("a role has no policies")? {
            for statement in policy.pointer("/PolicyDocument/Statement").and_then(Value::as_array).ok_or("a policy has no statements")? {
                if statement["Effect"] != "Deny" {
                    statements.push(Self::parse(statement)?);
                }
            }
        }
        Ok(statements)
    }

    /// Parses a statement.
    fn parse(json: &Value) -> Result<Self> {
        if json["Effect"] != "Allow" {
            return Err(format!("{json} does not have the effect Allow").into());
        }
        let mut conditions = Vec::new();
        for (operator, lines) in json["Condition"].as_object().into_iter().flatten() {
            for (key, values) in lines.as_object().ok_or("a condition has no keys")? {
                // `ForAllValues` is also true of a call without a value.
                if operator.starts_with("ForAllValues:") && json["Condition"]["Null"][key] != "false" {
                    return Err(format!("{json}: {operator} of {key} is not guarded by Null").into());
                }
                if operator == "Null" && values != "false" {
                    return Err(format!("{json}: the test does not know Null with {values}").into());
                }
                conditions.push(Condition { operator: Operator::parse(operator)?, key: key.clone(), values: texts(values) });
            }
        }
        let sid = json["Sid"].as_str().ok_or_else(|| format!("{json} has no Sid"))?.to_owned();
        Ok(Self { sid, actions: texts(&json["Action"]), resources: texts(&json["Resource"]), conditions })
    }

    /// Returns the patterns that match the permission: of the action, the resource and each condition. `None` if the statement does
    /// not allow the permission.
    pub(crate) fn allows(&self, permission: &UsedPermission) -> Option<Vec<&str>> {
        let mut patterns = vec![first_match(&self.actions, permission.action)?, first_match(&self.resources, &permission.resource)?];
        for condition in &self.conditions {
            match (condition.operator, permission.context.get(condition.key.as_str())) {
                (Operator::Equals, Some(value)) => patterns.push(condition.values.iter().find(|pattern| *pattern == value)?),
                (Operator::Like | Operator::LikeIfExists, Some(value)) => patterns.push(first_match(&condition.values, value)?),
                (Operator::Exists, Some(_)) => patterns.extend(condition.values.iter().map(String::as_str)),
                (Operator::LikeIfExists, None) => {}
                (Operator::Equals | Operator::Like | Operator::Exists, None) => return None,
            }
        }
        Some(patterns)
    }

    /// Returns true if the statement allows the action on the resource under some conditions.
    pub(crate) fn covers(&self, action: &str, resource: &str) -> bool {
        first_match(&self.actions, action).is_some() && first_match(&self.resources, resource).is_some()
    }

    /// Returns true if the statement requires that calls come through this service.
    pub(crate) fn requires_service(&self, service: &str) -> bool {
        let mut conditions = self.conditions.iter().filter(|condition| condition.key == "kms:ViaService");
        conditions.any(|condition| condition.values.iter().any(|via| via.starts_with(service)))
    }

    /// Iterates over all patterns of the statement.
    pub(crate) fn patterns(&self) -> impl Iterator<Item = &str> {
        let values = self.conditions.iter().flat_map(|condition| &condition.values);
        self.actions.iter().chain(&self.resources).chain(values).map(String::as_str)
    }
}

/// Returns the first pattern that matches the text.
fn first_match<'a>(patterns: &'a [String], text: &str) -> Option<&'a str> {
    patterns.iter().map(String::as_str).find(|pattern| matches_pattern(pattern, text))
}

/// Returns true if the text matches a pattern in which `*` stands for any text.
fn matches_pattern(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((before, rest)) => text
            .strip_prefix(before)
            .is_some_and(|text| (0..=text.len()).any(|at| text.get(at..).is_some_and(|text| matches_pattern(rest, text)))),
    }
}
