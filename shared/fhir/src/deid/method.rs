//! What rules do, and the settings they bring.

use rust_decimal::Decimal;

use super::error::Short;
use super::fhirpath::{Expr, decimal, parse};
use super::jsonc::plain_json;
use crate::json::{Json, Shape};

/// What a rule does with what it touches.
#[derive(Clone, Debug)]
pub(super) enum Method {
    Keep,
    Redact,
    /// What `unnamedElements: "drop"` does: nothing is left, no year and no part of a zip code.
    Drop,
    DateShift,
    CryptoHash,
    Encrypt,
    Perturb(Perturb),
    Substitute(Replacement),
    Generalize(Generalize),
    /// A name that is none of these. Such a rule fails where it would apply.
    Unknown,
}

/// How far numbers are moved.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Perturb {
    pub(super) span: Decimal,
    pub(super) is_proportional: bool,
    /// Places behind the point; integers have none.
    pub(super) round_to: u32,
}

/// What is put in the place of an element.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Replacement {
    Nothing,
    /// For a primitive.
    Text(String),
    /// For an element with members: a JSON object.
    Object(String),
}

/// Cases and what becomes of the values that none of them takes.
#[derive(Clone, Debug)]
pub(super) struct Generalize {
    pub(super) cases: Vec<(Expr, Expr)>,
    pub(super) keeps_others: bool,
}

/// The settings that each method takes beside `path` and `method`.
const SETTINGS: [(&str, &[&str]); 8] = [
    ("keep", &[]),
    ("redact", &[]),
    ("dateshift", &[]),
    ("cryptohash", &[]),
    ("encrypt", &[]),
    ("perturb", &["span", "rangeType", "roundTo"]),
    ("substitute", &["replaceWith"]),
    ("generalize", &["cases", "otherValues"]),
];

impl Method {
    /// Reads the method of a rule, whatever the case of its letters. Puts faults and what to look at into the lists.
    pub(super) fn read(name: &str, rule: Json<'_>, faults: &mut Vec<String>, warnings: &mut Vec<String>) -> Self {
        let lower = name.to_ascii_lowercase();
        let Some((_, known)) = SETTINGS.iter().find(|(method, _)| *method == lower) else {
            let names = "keep, redact, dateShift, cryptoHash, encrypt, perturb, substitute or generalize";
            warnings.push(format!("there is no method `{}`; resources that the rule is for will fail. Use {names}", Short(name)));
            return Self::Unknown;
        };
        for (key, _) in rule.members() {
            if !matches!(&*key, "path" | "method") && !known.contains(&&*key) {
                warnings.push(format!("the setting `{}` is not one of {name} and does nothing", Short(&key)));
            }
        }
        let read = match lower.as_str() {
            "keep" => Ok(Self::Keep),
            "redact" => Ok(Self::Redact),
            "dateshift" => Ok(Self::DateShift),
            "cryptohash" => Ok(Self::CryptoHash),
            "encrypt" => Ok(Self::Encrypt),
            "perturb" => Perturb::read(rule).map(Self::Perturb),
            "substitute" => Replacement::read(rule).map(Self::Substitute),
            _ => Generalize::read(rule).map(Self::Generalize),
        };
        read.unwrap_or_else(|reasons| {
            faults.extend(reasons);
            Self::Unknown
        })
    }
}

/// A setting as text, whether it is written as a string, a number or a boolean; `null` is an empty one.
pub(super) fn scalar(json: Json<'_>, name: &str) -> Option<String> {
    let value = json.member(name)?;
    match value.shape() {
        Shape::Null => Some(String::new()),
        Shape::Text => value.text().map(Into::into),
        Shape::Object | Shape::Array | Shape::Number | Shape::Bool => Some(value.as_str().to_owned()),
    }
}

impl Perturb {
    fn read(rule: Json<'_>) -> Result<Self, Vec<String>> {
        let mut faults = Vec::new();
        let span = match scalar(rule, "span").map(|span| decimal(span.trim())) {
            Some(Some(span)) if !span.is_sign_negative() || span.is_zero() => span,
            Some(_) => {
                faults.push("span is no number of 0 or more".to_owned());
                Decimal::ZERO
            }
            None => {
                faults.push("perturb needs a span: how far values may move".to_owned());
                Decimal::ZERO
            }
        };
        let round_to = match scalar(rule, "roundTo").map(|places| places.trim().parse::<u32>()) {
            None => 2,
            Some(Ok(places)) if places <= 28 => places,
            Some(_) => {
                faults.push("roundTo is no whole number from 0 to 28".to_owned());
                0
            }
        };
        let range = scalar(rule, "rangeType").map(|range| range.to_ascii_lowercase());
        let is_proportional = match range.as_deref() {
            None | Some("fixed") => false,
            Some("proportional") => true,
            Some(_) => {
                faults.push("rangeType is neither fixed nor proportional".to_owned());
                false
            }
        };
        if faults.is_empty() { Ok(Self { span, is_proportional, round_to }) } else { Err(faults) }
    }
}

impl Replacement {
    fn read(rule: Json<'_>) -> Result<Self, Vec<String>> {
        let Some(value) = rule.member("replaceWith") else {
            return Err(vec!["substitute needs a replaceWith: a string, or an object for elements with members".to_owned()]);
        };
        match value.shape() {
            Shape::Null => Ok(Self::Nothing),
            Shape::Object => Ok(Self::Object(value.as_str().to_owned())),
            Shape::Array => Err(vec!["replaceWith is an array; write a string or an object".to_owned()]),
            Shape::Text | Shape::Number | Shape::Bool => Ok(Self::Text(scalar(rule, "replaceWith").unwrap_or_default())),
        }
    }
}

impl Generalize {
    fn read(rule: Json<'_>) -> Result<Self, Vec<String>> {
        let mut faults = Vec::new();
        let mut cases = Vec::new();
        // The cases may also be the text of an object.
        let text = match rule.member("cases").map(|cases| (cases.shape(), cases)) {
            Some((Shape::Object, cases)) => cases.as_str().to_owned(),
            Some((Shape::Text, cases)) => plain_json(cases.text().unwrap_or_default().as_bytes()).unwrap_or_default(),
            Some((Shape::Array | Shape::Number | Shape::Bool | Shape::Null, _)) | None => String::new(),
        };
        let text = text.trim();
        if !text.starts_with('{') {
            faults.push("generalize needs cases: an object of conditions and values, both in FHIRPath".to_owned());
        }
        for (index, (condition, value)) in Json::of_valid(text).members().enumerate() {
            let value = value.scalar();
            let mut read = |text: &str, what: &str| match parse(text) {
                Ok(expr) if expr.walks() => {
                    faults.push(format!("the {what} of case {} follows a path; a case sees one value, $this", index + 1));
                    None
                }
                Ok(expr) => Some(expr),
                Err(error) => {
                    faults.push(format!("the {what} of case {} cannot be used: {error}", index + 1));
                    None
                }
            };
            if let (Some(condition), Some(value)) = (read(&condition, "condition"), read(&value, "value")) {
                cases.push((condition, value));
            }
        }
        let others = scalar(rule, "otherValues").map(|others| others.to_ascii_lowercase());
        let keeps_others = match others.as_deref() {
            None | Some("redact") => false,
            Some("keep") => true,
            Some(_) => {
                faults.push("otherValues is neither redact nor keep".to_owned());
                false
            }
        };
        if faults.is_empty() { Ok(Self { cases, keeps_others }) } else { Err(faults) }
    }
}
