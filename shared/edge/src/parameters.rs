//! Parses the body of a kick-off by `POST`: a FHIR `Parameters` resource.

use std::cell::Cell;
use std::fmt;

use headrace_core::request::RequestError;
use headrace_core::vocab::outcome::IssueCode;
use lambda_http::Body;
use lambda_http::http::HeaderMap;
use lambda_http::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::error::Category;

/// The longest accepted body, in bytes. A Lambda event has at most 6 MB, and base64 makes the body a third longer.
const BODY_LIMIT_BYTES: usize = 4_000_000;

/// The most parameters in one body.
const PARAMETERS_LIMIT: usize = 100_000;

/// Parses a body. Returns names and values in order, and nothing for an empty body.
///
/// All FHIR types for which a query has text are accepted: clients differ in the type that they send.
pub fn parse_parameters_body(headers: &HeaderMap, body: &Body) -> Result<Vec<(String, String)>, RequestError> {
    let bytes = body.as_ref();
    if bytes.len() > BODY_LIMIT_BYTES {
        let text = "the body is longer than 4 MB: to export more patients than fit, make a Group of them and export that";
        return Err(RequestError::new(413, IssueCode::TooCostly, "body", text));
    }
    if bytes.trim_ascii().is_empty() {
        return Ok(Vec::new());
    }
    require_json(headers)?;
    // The parser checks only the strings that it returns.
    if let Err(error) = std::str::from_utf8(bytes) {
        let text = format!("the body is not UTF-8, as JSON must be: see byte {}", error.valid_up_to() + 1);
        return Err(invalid("Parameters".to_owned(), &text));
    }
    let position = ParameterPosition::default();
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let parsed = ResourceSeed { position: &position }.deserialize(&mut reader).and_then(|parsed| reader.end().map(|()| parsed));
    parsed.map_err(|error| invalid(position.expression(), &describe_json_error(&error, &position)))?
}

/// Creates the error for a malformed element of the Parameters resource, with status 400.
fn invalid(expression: String, text: &str) -> RequestError {
    RequestError::new(400, IssueCode::Structure, &expression, text)
}

/// Describes a JSON error by its position only: the library's text may repeat what the client sent.
fn describe_json_error(error: &serde_json::Error, position: &ParameterPosition) -> String {
    let (line, column) = (error.line(), error.column());
    match error.classify() {
        Category::Syntax | Category::Eof | Category::Io => format!("the body is not JSON: see line {line}, column {column}"),
        Category::Data => format!(
            "{} does not have the form that FHIR defines, at line {line}, column {column}: send \
             {{\"resourceType\":\"Parameters\",\"parameter\":[{{\"name\":\"_type\",\"valueString\":\"Patient\"}}]}}",
            position.expression()
        ),
    }
}

/// Rejects a body that is compressed or whose media type is not JSON.
fn require_json(headers: &HeaderMap) -> Result<(), RequestError> {
    let unsupported = |name: &str, text: &str| Err(RequestError::new(415, IssueCode::NotSupported, name, text));
    let is_plain = |coding: &[u8]| coding.trim_ascii().eq_ignore_ascii_case(b"identity");
    if headers.get(CONTENT_ENCODING).is_some_and(|coding| !is_plain(coding.as_bytes())) {
        return unsupported("Content-Encoding", "the body must not be compressed");
    }
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default().to_ascii_lowercase();
    let mut pieces = content_type.split(';').map(str::trim);
    let media = pieces.next().unwrap_or_default();
    let is_other_charset = |piece: &str| piece.strip_prefix("charset=").is_some_and(|charset| charset.trim_matches('"') != "utf-8");
    if pieces.any(is_other_charset) {
        return unsupported("Content-Type", "the body is JSON, which is UTF-8: send it with `Content-Type: application/fhir+json`");
    }
    if matches!(media, "application/fhir+json" | "application/json") {
        return Ok(());
    }
    unsupported("Content-Type", "the body is a Parameters resource in JSON: send it with `Content-Type: application/fhir+json`")
}

/// The index of the parameter that is being parsed.
#[derive(Debug, Default)]
struct ParameterPosition(Cell<Option<usize>>);

impl ParameterPosition {
    /// Returns the position as FHIRPath, such as `Parameters.parameter[2]`.
    fn expression(&self) -> String {
        self.0.get().map_or_else(|| "Parameters".to_owned(), |index| format!("Parameters.parameter[{index}]"))
    }
}

/// The parsed parameters, or the error for a parameter that an export does not have. Errors of the JSON itself are separate.
type ParsedParameters = Result<Vec<(String, String)>, RequestError>;

/// The deserializer of the resource.
struct ResourceSeed<'a> {
    position: &'a ParameterPosition,
}

impl<'de> DeserializeSeed<'de> for ResourceSeed<'_> {
    type Value = ParsedParameters;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<ParsedParameters, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for ResourceSeed<'_> {
    type Value = ParsedParameters;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a Parameters resource")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut members: M) -> Result<ParsedParameters, M::Error> {
        let (mut is_parameters, mut parameters) = (false, None);
        while let Some(name) = members.next_key::<String>()? {
            match name.as_str() {
                "resourceType" => is_parameters = members.next_value::<String>()? == "Parameters",
                "parameter" if parameters.is_none() => {
                    parameters = Some(members.next_value_seed(ListSeed { position: self.position })?);
                    self.position.0.set(None);
                }
                "parameter" => return Err(M::Error::duplicate_field("parameter")),
                _ => drop(members.next_value::<IgnoredAny>()?),
            }
        }
        if is_parameters {
            return Ok(parameters.unwrap_or_else(|| Ok(Vec::new())));
        }
        Ok(Err(invalid("Parameters.resourceType".to_owned(), "the body's resourceType is not Parameters")))
    }
}

/// The deserializer of the list of parameters.
struct ListSeed<'a> {
    position: &'a ParameterPosition,
}

impl<'de> DeserializeSeed<'de> for ListSeed<'_> {
    type Value = ParsedParameters;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<ParsedParameters, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for ListSeed<'_> {
    type Value = ParsedParameters;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of parameters")
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut items: S) -> Result<ParsedParameters, S::Error> {
        let mut parsed = Ok(Vec::new());
        for index in 0.. {
            self.position.0.set(Some(index));
            let Some(item) = items.next_element_seed(ParameterSeed)? else { break };
            // After the first invalid parameter, the rest is only checked to be JSON.
            if let Ok(parameters) = &mut parsed {
                match item {
                    Ok(_) if index == PARAMETERS_LIMIT => {
                        let text =
                            format!("the body has more than {PARAMETERS_LIMIT} parameters: list several patients in one, with commas");
                        parsed = Err(RequestError::new(413, IssueCode::TooCostly, "Parameters.parameter", text));
                    }
                    Ok(parameter) => parameters.push(parameter),
                    Err(text) => parsed = Err(invalid(self.position.expression(), &format!("{} {text}", self.position.expression()))),
                }
            }
        }
        Ok(parsed)
    }
}

/// The deserializer of one parameter: its name and its value as text, or the problem with it.
struct ParameterSeed;

impl<'de> DeserializeSeed<'de> for ParameterSeed {
    type Value = Result<(String, String), &'static str>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for ParameterSeed {
    type Value = Result<(String, String), &'static str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a parameter")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut members: M) -> Result<Self::Value, M::Error> {
        let (mut name, mut value, mut problem) = (None, None, None);
        while let Some(member) = members.next_key::<String>()? {
            match (member.as_str(), ValueType::from_member(&member)) {
                ("name", _) if name.is_none() => name = Some(members.next_value::<String>()?),
                (_, Some(value_type)) if value.is_none() => match members.next_value_seed(value_type)? {
                    Some(text) => value = Some(text),
                    None => problem = Some("has a value whose JSON type does not fit its name, such as a number in valueString"),
                },
                // Extensions do not affect the export.
                ("id" | "extension" | "modifierExtension", _) => drop(members.next_value::<IgnoredAny>()?),
                (primitive, _) if primitive.starts_with('_') => drop(members.next_value::<IgnoredAny>()?),
                (other, value_type) => {
                    members.next_value::<IgnoredAny>()?;
                    problem = Some(match (other, value_type) {
                        ("name", _) => "has two names",
                        (_, Some(_)) => "has two values: send a parameter of the same name for each",
                        ("part", None) => "has parts, and no parameter of an export has any",
                        ("resource", None) => "has a resource, and no parameter of an export has one",
                        (_, None) => "has a value of a type that no parameter of an export has: send a valueString",
                    });
                }
            }
        }
        Ok(match (problem, name, value) {
            (Some(problem), _, _) => Err(problem),
            (None, None, _) => Err("has no name"),
            (None, Some(_), None) => Err("has no value"),
            (None, Some(name), Some(value)) => Ok((name, value)),
        })
    }
}

/// The JSON type of a parameter's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ValueType {
    Text,
    Boolean,
    Integer,
    Reference,
}

impl ValueType {
    /// Returns the type of a member `value[x]`. `None` if an export has no parameter of that type.
    fn from_member(member: &str) -> Option<Self> {
        match member {
            "valueString" | "valueCode" | "valueUri" | "valueUrl" | "valueCanonical" | "valueId" | "valueOid" | "valueUuid"
            | "valueMarkdown" | "valueInstant" | "valueDateTime" | "valueDate" | "valueInteger64" => Some(Self::Text),
            "valueBoolean" => Some(Self::Boolean),
            "valueInteger" | "valuePositiveInt" | "valueUnsignedInt" => Some(Self::Integer),
            "valueReference" => Some(Self::Reference),
            _ => None,
        }
    }
}

impl<'de> DeserializeSeed<'de> for ValueType {
    type Value = Option<String>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<String>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// Returns the value as text, if its JSON type is the expected one.
impl<'de> Visitor<'de> for ValueType {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_str<E>(self, text: &str) -> Result<Option<String>, E> {
        Ok((self == Self::Text).then(|| text.to_owned()))
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Option<String>, E> {
        Ok((self == Self::Boolean).then(|| flag.to_string()))
    }

    fn visit_u64<E>(self, count: u64) -> Result<Option<String>, E> {
        Ok((self == Self::Integer).then(|| count.to_string()))
    }

    fn visit_i64<E>(self, count: i64) -> Result<Option<String>, E> {
        Ok((self == Self::Integer).then(|| count.to_string()))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Option<String>, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Option<String>, E> {
        Ok(None)
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut items: S) -> Result<Option<String>, S::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_map<M: MapAccess<'de>>(self, mut members: M) -> Result<Option<String>, M::Error> {
        let mut reference = None;
        while let Some(member) = members.next_key::<String>()? {
            if member == "reference" && reference.is_none() {
                reference = members.next_value_seed(Self::Text)?;
            } else {
                members.next_value::<IgnoredAny>()?;
            }
        }
        Ok(reference.filter(|_| self == Self::Reference))
    }
}

#[cfg(test)]
mod tests;
