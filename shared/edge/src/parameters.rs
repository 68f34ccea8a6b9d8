//! The body of a `POST` kick-off: a FHIR `Parameters` resource.

use std::cell::Cell;
use std::fmt;

use headrace_core::request::Refusal;
use headrace_core::vocab::outcome::IssueCode;
use lambda_http::Body;
use lambda_http::http::HeaderMap;
use lambda_http::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::error::Category;

/// The longest body that is read. Lambda takes 6 MB of event, in which a body in base64 is a third longer than it was sent.
const BODY_LIMIT_BYTES: usize = 4_000_000;

/// The most parameters of one body.
const PARAMETERS_LIMIT: usize = 100_000;

/// Reads the parameters of a body as name and text, in order; none of an empty body.
///
/// FHIR's types for what is text in a query are all accepted: clients differ in which they send.
pub fn parameters(headers: &HeaderMap, body: &Body) -> Result<Vec<(String, String)>, Refusal> {
    let bytes = body.as_ref();
    if bytes.len() > BODY_LIMIT_BYTES {
        let text = "the body is longer than 4 MB: to export more patients than fit, make a Group of them and export that";
        return Err(Refusal::of(413, IssueCode::TooCostly, "body", text));
    }
    if bytes.trim_ascii().is_empty() {
        return Ok(Vec::new());
    }
    require_json(headers)?;
    let at = Place::default();
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let read = Resource { at: &at }.deserialize(&mut reader).and_then(|read| reader.end().map(|()| read));
    read.map_err(|error| refuse(at.expression(), &fault(&error, &at)))?
}

fn refuse(expression: String, text: &str) -> Refusal {
    Refusal::of(400, IssueCode::Structure, &expression, text)
}

/// What is wrong with the JSON. The library's own text may hold what the client sent, so its place is all that is told.
fn fault(error: &serde_json::Error, at: &Place) -> String {
    let (line, column) = (error.line(), error.column());
    match error.classify() {
        Category::Syntax | Category::Eof | Category::Io => format!("the body is not JSON: see line {line}, column {column}"),
        Category::Data => format!(
            "{} is not what FHIR has there, at line {line}, column {column}: send \
             {{\"resourceType\":\"Parameters\",\"parameter\":[{{\"name\":\"_type\",\"valueString\":\"Patient\"}}]}}",
            at.expression()
        ),
    }
}

fn require_json(headers: &HeaderMap) -> Result<(), Refusal> {
    let refuse = |name: &str, text: &str| Err(Refusal::of(415, IssueCode::NotSupported, name, text));
    let is_plain = |coding: &[u8]| coding.trim_ascii().eq_ignore_ascii_case(b"identity");
    if headers.get(CONTENT_ENCODING).is_some_and(|coding| !is_plain(coding.as_bytes())) {
        return refuse("Content-Encoding", "the body must not be compressed");
    }
    let media = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media = media.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if matches!(media.as_str(), "application/fhir+json" | "application/json") {
        return Ok(());
    }
    refuse("Content-Type", "the body is a Parameters resource in JSON: send it with `Content-Type: application/fhir+json`")
}

/// How far reading has come.
#[derive(Debug, Default)]
struct Place(Cell<Option<usize>>);

impl Place {
    /// As FHIRPath.
    fn expression(&self) -> String {
        self.0.get().map_or_else(|| "Parameters".to_owned(), |index| format!("Parameters.parameter[{index}]"))
    }
}

/// What reading gives: the outer failure is of JSON and its shape, the inner one of what a parameter may be.
type Found = Result<Vec<(String, String)>, Refusal>;

struct Resource<'a> {
    at: &'a Place,
}

impl<'de> DeserializeSeed<'de> for Resource<'_> {
    type Value = Found;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Found, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Resource<'_> {
    type Value = Found;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a Parameters resource")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut members: M) -> Result<Found, M::Error> {
        let (mut is_parameters, mut found) = (false, None);
        while let Some(name) = members.next_key::<String>()? {
            match name.as_str() {
                "resourceType" => is_parameters = members.next_value::<String>()? == "Parameters",
                "parameter" if found.is_none() => {
                    found = Some(members.next_value_seed(List { at: self.at })?);
                    self.at.0.set(None);
                }
                "parameter" => return Err(M::Error::duplicate_field("parameter")),
                _ => drop(members.next_value::<IgnoredAny>()?),
            }
        }
        if is_parameters {
            return Ok(found.unwrap_or_else(|| Ok(Vec::new())));
        }
        Ok(Err(refuse("Parameters.resourceType".to_owned(), "the body's resourceType is not Parameters")))
    }
}

struct List<'a> {
    at: &'a Place,
}

impl<'de> DeserializeSeed<'de> for List<'_> {
    type Value = Found;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Found, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for List<'_> {
    type Value = Found;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of parameters")
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut items: S) -> Result<Found, S::Error> {
        let mut found = Ok(Vec::new());
        for index in 0.. {
            self.at.0.set(Some(index));
            let Some(item) = items.next_element_seed(Item)? else { break };
            // After the first failure the rest is only skipped: whether it is JSON at all is still of interest.
            if let Ok(parameters) = &mut found {
                match item {
                    Ok(_) if index == PARAMETERS_LIMIT => {
                        let text =
                            format!("the body has more than {PARAMETERS_LIMIT} parameters: list several patients in one, with commas");
                        found = Err(Refusal::of(413, IssueCode::TooCostly, "Parameters.parameter", text));
                    }
                    Ok(parameter) => parameters.push(parameter),
                    Err(text) => found = Err(refuse(self.at.expression(), &format!("{} {text}", self.at.expression()))),
                }
            }
        }
        Ok(found)
    }
}

/// One parameter: its name and its value's text, or what is wrong with it.
struct Item;

impl<'de> DeserializeSeed<'de> for Item {
    type Value = Result<(String, String), &'static str>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Item {
    type Value = Result<(String, String), &'static str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a parameter")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut members: M) -> Result<Self::Value, M::Error> {
        let (mut name, mut value, mut fault) = (None, None, None);
        while let Some(member) = members.next_key::<String>()? {
            match (member.as_str(), Kind::of(&member)) {
                ("name", _) if name.is_none() => name = Some(members.next_value::<String>()?),
                (_, Some(kind)) if value.is_none() => match members.next_value_seed(kind)? {
                    Some(text) => value = Some(text),
                    None => fault = Some("has a value that is not of the type its name says"),
                },
                // Extensions say nothing about the export.
                ("id" | "extension" | "modifierExtension", _) => drop(members.next_value::<IgnoredAny>()?),
                (hidden, _) if hidden.starts_with('_') => drop(members.next_value::<IgnoredAny>()?),
                (other, kind) => {
                    members.next_value::<IgnoredAny>()?;
                    fault = Some(match (other, kind) {
                        ("name", _) => "has two names",
                        (_, Some(_)) => "has two values: send a parameter of the same name for each",
                        ("part", None) => "has parts, and no parameter of an export has any",
                        ("resource", None) => "has a resource, and no parameter of an export has one",
                        (_, None) => "has a value of a type that no parameter of an export has: send a valueString",
                    });
                }
            }
        }
        Ok(match (fault, name, value) {
            (Some(fault), _, _) => Err(fault),
            (None, None, _) => Err("has no name"),
            (None, Some(_), None) => Err("has no value"),
            (None, Some(name), Some(value)) => Ok((name, value)),
        })
    }
}

/// How a value is written in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Flag,
    Count,
    Reference,
}

impl Kind {
    fn of(member: &str) -> Option<Self> {
        match member {
            "valueString" | "valueCode" | "valueUri" | "valueUrl" | "valueCanonical" | "valueId" | "valueOid" | "valueUuid"
            | "valueMarkdown" | "valueInstant" | "valueDateTime" | "valueDate" | "valueInteger64" => Some(Self::Text),
            "valueBoolean" => Some(Self::Flag),
            "valueInteger" | "valuePositiveInt" | "valueUnsignedInt" => Some(Self::Count),
            "valueReference" => Some(Self::Reference),
            _ => None,
        }
    }
}

impl<'de> DeserializeSeed<'de> for Kind {
    type Value = Option<String>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<String>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// The value's text, if it is written as its kind is.
impl<'de> Visitor<'de> for Kind {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_str<E>(self, text: &str) -> Result<Option<String>, E> {
        Ok((self == Self::Text).then(|| text.to_owned()))
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Option<String>, E> {
        Ok((self == Self::Flag).then(|| flag.to_string()))
    }

    fn visit_u64<E>(self, count: u64) -> Result<Option<String>, E> {
        Ok((self == Self::Count).then(|| count.to_string()))
    }

    fn visit_i64<E>(self, count: i64) -> Result<Option<String>, E> {
        Ok((self == Self::Count).then(|| count.to_string()))
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
