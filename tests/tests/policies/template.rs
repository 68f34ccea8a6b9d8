//! Evaluation of the template with parameters, as CloudFormation does it.

use std::collections::BTreeMap;
use std::path::Path;

use headrace_tests::flows::Result;
use serde_json::{Map, Value};

use crate::yaml;

/// Template with values for its parameters and resources.
pub(crate) struct Template {
    document: Value,
    /// Values of `!Ref` for parameters and pseudo parameters.
    refs: BTreeMap<String, Value>,
    /// ARNs of resources.
    arns: BTreeMap<&'static str, String>,
}

impl Template {
    /// Reads `template.yaml` with these parameters and ARNs of resources. Other parameters have their defaults.
    pub(crate) fn read(parameters: &[(&'static str, &str)], arns: &[(&'static str, String)]) -> Result<Self> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../template.yaml");
        let document = yaml::read(&std::fs::read_to_string(path)?)?;
        let mut refs: BTreeMap<String, Value> = [
            ("AWS::Partition", "aws"),
            ("AWS::Region", "eu-central-1"),
            ("AWS::AccountId", "111122223333"),
            ("AWS::URLSuffix", "amazonaws.com"),
            ("AWS::StackName", "headrace"),
        ]
        .map(|(name, value)| (name.to_owned(), value.into()))
        .into();
        for (name, parameter) in document.get("Parameters").and_then(Value::as_object).ok_or("no parameters")? {
            let text = parameters.iter().find(|(parameters, _)| parameters == name).map(|(_, text)| (*text).to_owned());
            let text = text.or_else(|| parameter["Default"].as_str().map(str::to_owned)).ok_or_else(|| format!("{name} has no value"))?;
            let is_list = parameter["Type"] == "CommaDelimitedList";
            let value = if is_list { text.split(',').map(Value::from).collect() } else { Value::String(text) };
            refs.insert(name.clone(), value);
        }
        if let Some((unknown, _)) = parameters.iter().find(|(name, _)| !refs.contains_key(*name)) {
            return Err(format!("the template has no parameter {unknown}").into());
        }
        Ok(Self { document, refs, arns: arns.iter().cloned().collect() })
    }

    /// Returns a top-level section with its intrinsic functions resolved.
    pub(crate) fn section(&self, name: &str) -> Result<Value> {
        let section = self.document.get(name).ok_or_else(|| format!("the template has no {name}"))?;
        Ok(self.resolve(section)?.unwrap_or_default())
    }

    /// Returns the allowed values of a parameter.
    pub(crate) fn allowed_values(&self, parameter: &str) -> Result<Vec<String>> {
        let values = self.document["Parameters"][parameter]["AllowedValues"].as_array();
        let values = values.ok_or_else(|| format!("{parameter} has no allowed values"))?;
        Ok(values.iter().filter_map(Value::as_str).map(str::to_owned).collect())
    }

    /// Returns the properties of the created resources of a type, by name.
    pub(crate) fn of_type(&self, kind: &str) -> Result<BTreeMap<String, Value>> {
        let resources = self.document.get("Resources").and_then(Value::as_object).ok_or("no resources")?;
        let mut created = BTreeMap::new();
        for (name, resource) in resources.iter().filter(|(_, resource)| resource["Type"] == kind) {
            if resource["Condition"].as_str().map_or(Ok(true), |condition| self.holds(condition))? {
                created.insert(name.clone(), resource["Properties"].clone());
            }
        }
        Ok(created)
    }

    /// Returns true if the condition is met.
    fn holds(&self, condition: &str) -> Result<bool> {
        let rule =
            self.document.get("Conditions").and_then(|conditions| conditions.get(condition)).ok_or("the template lacks a condition")?;
        self.resolve(rule)?.and_then(|value| value.as_bool()).ok_or_else(|| format!("{condition} is not a condition").into())
    }

    /// Resolves all intrinsic functions in a value. Returns `None` for `AWS::NoValue`.
    pub(crate) fn resolve(&self, value: &Value) -> Result<Option<Value>> {
        match value {
            Value::Array(items) => {
                let items = items.iter().filter_map(|item| self.resolve(item).transpose()).collect::<Result<Vec<_>>>()?;
                Ok(Some(Value::Array(items)))
            }
            Value::Object(members) => match members.iter().next().filter(|_| members.len() == 1) {
                Some((name, argument)) if name == "Ref" || name == "Condition" || name.starts_with("Fn::") => self.call(name, argument),
                Some(_) | None => {
                    let mut resolved = Map::new();
                    for (name, member) in members {
                        resolved.extend(self.resolve(member)?.map(|member| (name.clone(), member)));
                    }
                    Ok(Some(Value::Object(resolved)))
                }
            },
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(Some(value.clone())),
        }
    }

    /// Evaluates one intrinsic function.
    fn call(&self, name: &str, argument: &Value) -> Result<Option<Value>> {
        let wrong = || format!("{name} of {argument}");
        match name {
            "Ref" if argument == "AWS::NoValue" => Ok(None),
            "Ref" => {
                let name = argument.as_str().ok_or_else(wrong)?;
                let arn = || self.arns.get(name).and_then(|arn| arn.rsplit([':', '/']).next()).map(Value::from);
                self.refs.get(name).cloned().or_else(arn).ok_or_else(wrong).map(Some).map_err(Into::into)
            }
            "Condition" => self.holds(argument.as_str().ok_or_else(wrong)?).map(|holds| Some(Value::Bool(holds))),
            "Fn::GetAtt" => {
                let (resource, attribute) = (argument[0].as_str().ok_or_else(wrong)?, argument[1].as_str());
                match (attribute, self.arns.get(resource)) {
                    (Some("Arn"), Some(arn)) => Ok(Some(arn.clone().into())),
                    (Some("ApiEndpoint"), None) => Ok(Some("https://a1b2c3d4e5.execute-api.eu-central-1.amazonaws.com".into())),
                    _ => Err(wrong().into()),
                }
            }
            "Fn::If" => {
                let holds = self.holds(argument[0].as_str().ok_or_else(wrong)?)?;
                self.resolve(&argument[if holds { 1 } else { 2 }])
            }
            "Fn::Equals" => Ok(Some(Value::Bool(self.resolve(&argument[0])? == self.resolve(&argument[1])?))),
            "Fn::Not" => Ok(Some(Value::Bool(self.resolve(&argument[0])? == Some(Value::Bool(false))))),
            "Fn::And" | "Fn::Or" => {
                let conditions = argument.as_array().ok_or_else(wrong)?;
                let results = conditions.iter().map(|condition| Ok(self.resolve(condition)? == Some(Value::Bool(true))));
                let results = results.collect::<Result<Vec<bool>>>()?;
                Ok(Some(Value::Bool(if name == "Fn::And" { results.into_iter().all(|holds| holds) } else { results.contains(&true) })))
            }
            "Fn::Join" => {
                let parts = self.resolve(&argument[1])?.ok_or_else(wrong)?;
                let parts: Vec<&str> = parts.as_array().ok_or_else(wrong)?.iter().filter_map(Value::as_str).collect();
                Ok(Some(parts.join(argument[0].as_str().ok_or_else(wrong)?).into()))
            }
            "Fn::Split" => {
                let text = self.resolve(&argument[1])?.ok_or_else(wrong)?;
                let parts = text.as_str().ok_or_else(wrong)?.split(argument[0].as_str().ok_or_else(wrong)?);
                Ok(Some(parts.map(Value::from).collect()))
            }
            "Fn::Select" => {
                let index = argument[0].to_string().trim_matches('"').parse::<usize>().ok();
                let list = self.resolve(&argument[1])?;
                let item = index.zip(list).and_then(|(index, list)| list.get(index).cloned());
                item.ok_or_else(wrong).map(Some).map_err(Into::into)
            }
            "Fn::FindInMap" => {
                let keys = self.resolve(argument)?.ok_or_else(wrong)?;
                let keys: Vec<&str> = keys.as_array().ok_or_else(wrong)?.iter().filter_map(Value::as_str).collect();
                let [map, first, second] = keys[..] else { return Err(wrong().into()) };
                let value = self.document["Mappings"].get(map).and_then(|map| map.get(first)?.get(second));
                value.cloned().ok_or_else(wrong).map(Some).map_err(Into::into)
            }
            "Fn::Sub" => self.substitute(argument).map(|text| Some(text.into())),
            _ => Err(format!("this test does not implement {name}").into()),
        }
    }

    /// Evaluates `Fn::Sub`.
    fn substitute(&self, argument: &Value) -> Result<String> {
        let (text, variables) = match argument {
            Value::Array(both) => (both.first().unwrap_or(&Value::Null), both.get(1).unwrap_or(&Value::Null)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => (argument, &Value::Null),
        };
        let (mut rest, mut result) = (text.as_str().ok_or("the argument of Fn::Sub is not a text")?, String::new());
        while let Some((before, after)) = rest.split_once("${") {
            let (name, after) = after.split_once('}').ok_or("${ without }")?;
            let value = match (variables.get(name), name.split_once('.')) {
                (Some(value), _) => self.resolve(value)?,
                (None, Some((resource, attribute))) => self.call("Fn::GetAtt", &serde_json::json!([resource, attribute]))?,
                (None, None) => self.call("Ref", &name.into())?,
            };
            let value = value.ok_or_else(|| format!("{name} has no value"))?;
            result.push_str(before);
            result.push_str(value.as_str().ok_or_else(|| format!("{name} is not a text"))?);
            rest = after;
        }
        Ok(result + rest)
    }
}
