//! A role's policy, read as IAM reads it.

use headrace_tests::flows::Result;
use headrace_tests::flows::permissions::UsedPermission;
use serde_json::Value;

/// One statement that allows something.
#[derive(Clone, Debug)]
pub(crate) struct Statement {
    /// What the template calls it.
    pub(crate) sid: String,
    /// Patterns of actions.
    pub(crate) actions: Vec<String>,
    /// Patterns of ARNs.
    resources: Vec<String>,
    /// All of them must hold.
    conditions: Vec<Condition>,
}

/// One line of a condition.
#[derive(Clone, Debug)]
struct Condition {
    operator: Operator,
    key: String,
    /// Patterns; one must fit.
    values: Vec<String>,
}

/// How IAM compares.
#[derive(Clone, Copy, Debug)]
enum Operator {
    Equals,
    Like,
    LikeIfExists,
}

impl Operator {
    /// `ForAllValues` is as good as the plain form here: a call of ours has one value at a time.
    fn parse(name: &str) -> Result<Self> {
        match name.strip_prefix("ForAllValues:").unwrap_or(name) {
            "StringEquals" => Ok(Self::Equals),
            "StringLike" => Ok(Self::Like),
            "StringLikeIfExists" => Ok(Self::LikeIfExists),
            _ => Err(format!("nobody has said how {name} compares").into()),
        }
    }
}

fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::Array(items) => items.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        Value::String(text) => vec![text.clone()],
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => Vec::new(),
    }
}

impl Statement {
    /// Reads the statements of a role, whose functions are answered already.
    pub(crate) fn from_role(role: &Value) -> Result<Vec<Self>> {
        let mut statements = Vec::new();
        for policy in role["Policies"].as_array().ok_or("a role without policies")? {
            for statement in policy.pointer("/PolicyDocument/Statement").and_then(Value::as_array).ok_or("a policy without statements")? {
                statements.push(Self::read(statement)?);
            }
        }
        Ok(statements)
    }

    fn read(json: &Value) -> Result<Self> {
        if json["Effect"] != "Allow" {
            return Err(format!("{json} does not allow").into());
        }
        let mut conditions = Vec::new();
        for (operator, lines) in json["Condition"].as_object().into_iter().flatten() {
            for (key, values) in lines.as_object().ok_or("a condition without keys")? {
                conditions.push(Condition { operator: Operator::parse(operator)?, key: key.clone(), values: texts(values) });
            }
        }
        let sid = json["Sid"].as_str().ok_or_else(|| format!("{json} has no name"))?.to_owned();
        Ok(Self { sid, actions: texts(&json["Action"]), resources: texts(&json["Resource"]), conditions })
    }

    /// The patterns by which it allows this: of the action, of the resource, and of each condition.
    pub(crate) fn allows(&self, used: &UsedPermission) -> Option<Vec<&str>> {
        let mut used = vec![first_match(&self.actions, used.action)?, first_match(&self.resources, &used.resource)?];
        for condition in &self.conditions {
            match (condition.operator, used.context.get(condition.key.as_str())) {
                (Operator::Equals, Some(value)) => used.push(condition.values.iter().find(|own| *own == value)?),
                (Operator::Like | Operator::LikeIfExists, Some(value)) => used.push(first_match(&condition.values, value)?),
                (Operator::LikeIfExists, None) => {}
                (Operator::Equals | Operator::Like, None) => return None,
            }
        }
        Some(used)
    }

    /// Whether it holds only for calls that come through this service.
    pub(crate) fn requires_service(&self, service: &str) -> bool {
        let mut conditions = self.conditions.iter().filter(|condition| condition.key == "kms:ViaService");
        conditions.any(|condition| condition.values.iter().any(|via| via.starts_with(service)))
    }

    /// Everything that it names.
    pub(crate) fn patterns(&self) -> impl Iterator<Item = &str> {
        let values = self.conditions.iter().flat_map(|condition| &condition.values);
        self.actions.iter().chain(&self.resources).chain(values).map(String::as_str)
    }
}

fn first_match<'a>(patterns: &'a [String], text: &str) -> Option<&'a str> {
    patterns.iter().map(String::as_str).find(|pattern| matches_pattern(pattern, text))
}

/// Whether a text fits a pattern with `*` for anything.
fn matches_pattern(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((before, rest)) => {
            text.strip_prefix(before).is_some_and(|text| (0..=text.len()).any(|at| text.get(at..).is_some_and(|text| matches_pattern(rest, text))))
        }
    }
}
