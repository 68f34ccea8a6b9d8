//! A role's policy, read as IAM reads it.

use headrace_tests::flows::Result;
use headrace_tests::flows::asked::Asked;
use serde_json::Value;

/// One statement that allows something.
#[derive(Clone, Debug)]
pub(crate) struct Statement {
    /// What the template calls it.
    pub(crate) sid: String,
    /// Patterns of actions.
    pub(crate) actions: Vec<String>,
    /// Patterns of ARNs.
    pub(crate) resources: Vec<String>,
    /// All of them must hold.
    pub(crate) conditions: Vec<Condition>,
}

/// One line of a condition.
#[derive(Clone, Debug)]
pub(crate) struct Condition {
    operator: Operator,
    /// The condition key.
    pub(crate) key: String,
    /// Patterns of values; one must fit.
    pub(crate) values: Vec<String>,
}

/// How IAM compares.
#[derive(Clone, Copy, Debug)]
enum Operator {
    Equals,
    Like,
    LikeIfThere,
}

impl Operator {
    /// `ForAllValues` is as good as the plain form here: a call of ours has one value at a time.
    fn parse(name: &str) -> Result<Self> {
        match name.strip_prefix("ForAllValues:").unwrap_or(name) {
            "StringEquals" => Ok(Self::Equals),
            "StringLike" => Ok(Self::Like),
            "StringLikeIfExists" => Ok(Self::LikeIfThere),
            _ => Err(format!("nobody has said how {name} compares").into()),
        }
    }
}

fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::Array(items) => items.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        other => other.as_str().map(str::to_owned).into_iter().collect(),
    }
}

impl Statement {
    /// Reads the statements of a role, whose functions are answered already.
    pub(crate) fn of_role(role: &Value) -> Result<Vec<Self>> {
        let mut statements = Vec::new();
        for policy in role["Policies"].as_array().ok_or("a role without policies")? {
            for statement in policy["PolicyDocument"]["Statement"].as_array().ok_or("a policy without statements")? {
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

    /// The pattern among its actions by which it allows this.
    pub(crate) fn allows(&self, asked: &Asked) -> Option<&str> {
        let is_in_place = self.resources.iter().any(|pattern| fits(pattern, &asked.resource));
        let holds = |condition: &Condition| {
            let value = asked.context.get(condition.key.as_str());
            match (condition.operator, value) {
                (Operator::Equals, Some(value)) => condition.values.contains(value),
                (Operator::Like | Operator::LikeIfThere, Some(value)) => condition.values.iter().any(|pattern| fits(pattern, value)),
                (Operator::LikeIfThere, None) => true,
                (Operator::Equals | Operator::Like, None) => false,
            }
        };
        let action = self.actions.iter().find(|pattern| fits(pattern, asked.action));
        action.filter(|_| is_in_place && self.conditions.iter().all(holds)).map(String::as_str)
    }
}

/// Whether a text fits a pattern with `*` for anything.
pub(crate) fn fits(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((before, rest)) => {
            text.strip_prefix(before).is_some_and(|text| (0..=text.len()).any(|at| text.get(at..).is_some_and(|text| fits(rest, text))))
        }
    }
}
