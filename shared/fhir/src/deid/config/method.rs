//! The methods of rules with their settings.

use rust_decimal::Decimal;

use super::jsonc::to_plain_json;
use super::unknown_setting;
use crate::deid::error::{DeidRemark, DeidRemarkCode, DeidRemarkSeverity, Truncated};
use crate::deid::fhirpath::{Expr, parse, parse_decimal};
use crate::json::{JsonType, JsonValue};

/// The method of a rule.
#[derive(Clone, Debug)]
pub(in crate::deid) enum Method {
    Keep,
    Redact,
    /// The method of `unnamedElements: "drop"`: removes a value completely, without a year or part of a zip code.
    Drop,
    DateShift,
    CryptoHash,
    Encrypt,
    Perturb(PerturbSettings),
    Substitute(Replacement),
    Generalize(GeneralizeSettings),
    /// An unknown method. The rule fails for every resource that it applies to.
    Unknown,
}

/// The settings of `perturb`.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::deid) struct PerturbSettings {
    /// The width of the range in which values move; a factor of the value if `is_proportional`.
    pub(in crate::deid) span: Decimal,
    pub(in crate::deid) is_proportional: bool,
    /// The number of decimal places. Integers have none.
    pub(in crate::deid) round_to: u32,
}

/// The `replaceWith` of `substitute`.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::deid) enum Replacement {
    /// Null: the element is removed.
    Empty,
    /// The value of a primitive.
    Text(String),
    /// The JSON object of an element with members.
    Object(String),
}

/// The settings of `generalize`.
#[derive(Clone, Debug)]
pub(in crate::deid) struct GeneralizeSettings {
    /// Pairs of a condition and the new value.
    pub(in crate::deid) cases: Vec<(Expr, Expr)>,
    /// True if values for which no case applies are kept; otherwise they are redacted.
    pub(in crate::deid) keeps_other_values: bool,
    /// True if a case uses more than the value of the element, so that it needs the tree engine.
    pub(in crate::deid) navigates: bool,
}

/// The settings of each method besides `path` and `method`.
const METHOD_SETTINGS: [(&str, &[&str]); 8] = [
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
    /// Returns true if the method leaves ids and references as they are.
    pub(in crate::deid) fn leaves_ids(&self) -> bool {
        matches!(self, Self::Keep | Self::DateShift | Self::Perturb(_))
    }

    /// Returns true if a rule that selects an element leaves values and ids in it, but is written for values alone, so that the ids are hidden. A
    /// rule that keeps an element with members is written for all of it.
    pub(in crate::deid) fn spares_only_values(&self, is_primitive: bool) -> bool {
        self.leaves_ids() && (is_primitive || !matches!(self, Self::Keep))
    }

    /// Parses the method of a rule, ignoring case. Adds errors and remarks to the lists.
    pub(in crate::deid) fn parse(name: &str, rule: JsonValue<'_>, errors: &mut Vec<String>, remarks: &mut Vec<DeidRemark>) -> Self {
        let lower = name.to_ascii_lowercase();
        let Some((_, settings)) = METHOD_SETTINGS.iter().find(|(method, _)| *method == lower) else {
            let names = "keep, redact, dateShift, cryptoHash, encrypt, perturb, substitute or generalize";
            let reason = format!("the method `{}` does not exist; resources that the rule applies to will fail", Truncated(name));
            let remedy = format!("use {names}");
            remarks.push(DeidRemark::in_file(DeidRemarkCode::UnknownMethod, DeidRemarkSeverity::Error, reason, remedy));
            return Self::Unknown;
        };
        for (key, _) in rule.members() {
            if !matches!(&*key, "path" | "method") && !settings.contains(&&*key) {
                let reason = format!("{name} has no setting `{}`; it is ignored", Truncated(&key));
                remarks.push(unknown_setting(reason, &key, settings));
            }
        }
        let parsed = match lower.as_str() {
            "keep" => Ok(Self::Keep),
            "redact" => Ok(Self::Redact),
            "dateshift" => Ok(Self::DateShift),
            "cryptohash" => Ok(Self::CryptoHash),
            "encrypt" => Ok(Self::Encrypt),
            "perturb" => PerturbSettings::parse(rule).map(Self::Perturb),
            "substitute" => Replacement::parse(rule).map(Self::Substitute),
            _ => GeneralizeSettings::parse(rule).map(Self::Generalize),
        };
        parsed.unwrap_or_else(|reasons| {
            errors.extend(reasons);
            Self::Unknown
        })
    }
}

/// Returns a setting as text, whether it is a string, a number or a boolean. Null becomes an empty string.
pub(super) fn setting_text(object: JsonValue<'_>, name: &str) -> Option<String> {
    let value = object.member(name)?;
    match value.json_type() {
        JsonType::Null => Some(String::new()),
        JsonType::String => value.text().map(Into::into),
        JsonType::Object | JsonType::Array | JsonType::Number | JsonType::Boolean => Some(value.as_str().to_owned()),
    }
}

impl PerturbSettings {
    /// Returns true if numbers of a type can move. They move by at most half of the span and are then rounded, so a fixed span that is not
    /// above the last place which is kept moves none.
    pub(in crate::deid) fn can_move(&self, type_name: &str) -> bool {
        let last_place = Decimal::new(1, self.decimal_places(type_name));
        !self.span.is_zero() && (self.is_proportional || self.span > last_place)
    }

    /// Returns the number of decimal places that values of a type have.
    pub(in crate::deid) fn decimal_places(&self, type_name: &str) -> u32 {
        if type_name == "decimal" { self.round_to } else { 0 }
    }

    /// Parses the settings of a rule. Fails with all errors.
    fn parse(rule: JsonValue<'_>) -> Result<Self, Vec<String>> {
        let mut errors = Vec::new();
        let span = match setting_text(rule, "span").map(|span| parse_decimal(span.trim())) {
            Some(Some(span)) if !span.is_sign_negative() || span.is_zero() => span,
            Some(_) => {
                errors.push("span must be a number of 0 or more".to_owned());
                Decimal::ZERO
            }
            None => {
                errors.push("perturb needs a span: the width of the range in which values move".to_owned());
                Decimal::ZERO
            }
        };
        let round_to = match setting_text(rule, "roundTo").map(|places| places.trim().parse::<u32>()) {
            None => 2,
            Some(Ok(places)) if places <= 28 => places,
            Some(_) => {
                errors.push("roundTo must be a whole number from 0 to 28".to_owned());
                0
            }
        };
        let range_type = setting_text(rule, "rangeType").map(|range_type| range_type.to_ascii_lowercase());
        let is_proportional = match range_type.as_deref() {
            None | Some("fixed") => false,
            Some("proportional") => true,
            Some(_) => {
                errors.push("rangeType must be fixed or proportional".to_owned());
                false
            }
        };
        if errors.is_empty() { Ok(Self { span, is_proportional, round_to }) } else { Err(errors) }
    }
}

impl Replacement {
    /// Parses `replaceWith`. Fails with the error.
    fn parse(rule: JsonValue<'_>) -> Result<Self, Vec<String>> {
        let Some(value) = rule.member("replaceWith") else {
            return Err(vec!["substitute needs a replaceWith: a string, or an object for elements with members".to_owned()]);
        };
        match value.json_type() {
            JsonType::Null => Ok(Self::Empty),
            JsonType::Object => Ok(Self::Object(value.as_str().to_owned())),
            JsonType::Array => Err(vec!["replaceWith must be a string or an object, not an array".to_owned()]),
            JsonType::String | JsonType::Number | JsonType::Boolean => {
                Ok(Self::Text(setting_text(rule, "replaceWith").unwrap_or_default()))
            }
        }
    }
}

impl GeneralizeSettings {
    /// Parses the settings of a rule. Fails with all errors.
    fn parse(rule: JsonValue<'_>) -> Result<Self, Vec<String>> {
        let mut errors = Vec::new();
        let mut cases = Vec::new();
        // The format allows an object, or a string that contains one.
        let text = match rule.member("cases").map(|cases| (cases.json_type(), cases)) {
            Some((JsonType::Object, cases)) => cases.as_str().to_owned(),
            Some((JsonType::String, cases)) => to_plain_json(cases.text().unwrap_or_default().as_bytes()).unwrap_or_default(),
            Some((JsonType::Array | JsonType::Number | JsonType::Boolean | JsonType::Null, _)) | None => String::new(),
        };
        let text = text.trim();
        if !text.starts_with('{') {
            errors.push("generalize needs cases: an object of conditions and values, both in FHIRPath".to_owned());
        }
        for (index, (condition, value)) in JsonValue::from_valid(text).members().enumerate() {
            let value = value.primitive_text();
            let number = index + 1;
            let mut parse_part = |text: &str, part: &str| match parse(text) {
                Ok(expr) => Some(expr),
                Err(error) => {
                    errors.push(format!("the {part} of case {number} cannot be used: {error}"));
                    None
                }
            };
            if let (Some(condition), Some(value)) = (parse_part(&condition, "condition"), parse_part(&value, "value")) {
                cases.push((condition, value));
            }
        }
        let other_values = setting_text(rule, "otherValues").map(|other_values| other_values.to_ascii_lowercase());
        let keeps_other_values = match other_values.as_deref() {
            None | Some("redact") => false,
            Some("keep") => true,
            Some(_) => {
                errors.push("otherValues must be redact or keep".to_owned());
                false
            }
        };
        let navigates = cases.iter().any(|(condition, value): &(Expr, Expr)| condition.navigates() || value.navigates());
        if errors.is_empty() { Ok(Self { cases, keeps_other_values, navigates }) } else { Err(errors) }
    }
}
