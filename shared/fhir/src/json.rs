//! JSON values within a validated line, read in place: no tree, no copy.

mod duplicates;
mod equivalence;
pub(crate) mod name_table;
mod name_token;
mod open_names;
mod path;
mod pretty;
mod quote_finder;
mod scanner;

use std::borrow::Cow;

use memchr::memchr2;

pub(crate) use duplicates::duplicate_member;
pub(crate) use name_token::NameToken;
pub(crate) use open_names::OpenNames;
pub use path::ElementPath;
pub(crate) use scanner::Scanner;

/// A value within JSON text that has been validated, for example by [`crate::head::Resource::parse`].
///
/// The slice starts with the first character of the value and ends with its last. On text that is not JSON, iterators end
/// early; nothing panics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JsonValue<'a>(&'a str);

/// The JSON type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonType {
    /// `{…}`
    Object,
    /// `[…]`
    Array,
    /// `"…"`
    String,
    /// `-1.50`
    Number,
    /// `true`, `false`
    Boolean,
    /// `null`
    Null,
}

impl<'a> JsonValue<'a> {
    /// Creates the value that makes up the whole of a valid JSON text.
    pub fn from_valid(text: &'a str) -> Self {
        Self(text.trim_matches(is_whitespace))
    }

    /// Returns the JSON text of the value.
    pub fn as_str(self) -> &'a str {
        self.0
    }

    /// Returns the JSON type, judged by the first character.
    pub fn json_type(self) -> JsonType {
        match self.0.as_bytes().first() {
            Some(b'{') => JsonType::Object,
            Some(b'[') => JsonType::Array,
            Some(b'"') => JsonType::String,
            Some(b't' | b'f') => JsonType::Boolean,
            Some(b'n') | None => JsonType::Null,
            Some(_) => JsonType::Number,
        }
    }

    /// Returns the unescaped text of a string; `None` for any other value.
    pub fn text(self) -> Option<Cow<'a, str>> {
        let quoted = self.0.strip_prefix('"')?.strip_suffix('"')?;
        if !quoted.contains('\\') {
            return Some(Cow::Borrowed(quoted));
        }
        serde_json::from_str(self.0).ok().map(Cow::Owned)
    }

    /// Returns the unescaped text of a string, and the JSON text of any other value.
    pub(crate) fn primitive_text(self) -> Cow<'a, str> {
        self.text().unwrap_or(Cow::Borrowed(self.0))
    }

    /// Returns the JSON text of a number, which keeps its precision; `None` for any other value.
    pub fn number(self) -> Option<&'a str> {
        (self.json_type() == JsonType::Number).then_some(self.0)
    }

    /// Returns the value of a boolean; `None` for any other value.
    pub fn bool(self) -> Option<bool> {
        match self.0 {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        }
    }

    /// Returns the members of an object in order, with unescaped names, and no members for any other value.
    pub fn members(self) -> Members<'a> {
        Members { rest: self.0.strip_prefix('{').unwrap_or_default() }
    }

    /// Returns the member with this name. A resource has at most one, because [`crate::head::Resource::parse`] rejects others.
    pub fn member(self, name: &str) -> Option<Self> {
        self.members().find(|(member, _)| member == name).map(|(_, value)| value)
    }

    /// Returns the items of an array, and the value itself if it is not an array: FHIR paths treat both alike.
    pub fn items(self) -> Items<'a> {
        match self.0.strip_prefix('[') {
            Some(rest) => Items { rest, single: None },
            None => Items { rest: "", single: Some(self) },
        }
    }
}

/// The iterator of [`JsonValue::members`].
#[derive(Clone, Debug)]
pub struct Members<'a> {
    rest: &'a str,
}

impl<'a> Members<'a> {
    /// Returns the next member, with a name that keeps its escapes.
    pub(crate) fn next_raw(&mut self) -> Option<(&'a str, JsonValue<'a>)> {
        let (name, rest) = first_value(self.rest)?;
        let (value, rest) = first_value(rest.trim_start_matches(is_whitespace).strip_prefix(':')?)?;
        self.rest = rest.trim_start_matches(is_whitespace).strip_prefix(',').unwrap_or_default();
        Some((name.0.strip_prefix('"')?.strip_suffix('"')?, value))
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = (Cow<'a, str>, JsonValue<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let (name, value) = self.next_raw()?;
        Some((unescape_name(name), value))
    }
}

/// The iterator of [`JsonValue::items`].
#[derive(Clone, Debug)]
pub struct Items<'a> {
    rest: &'a str,
    single: Option<JsonValue<'a>>,
}

impl<'a> Iterator for Items<'a> {
    type Item = JsonValue<'a>;

    fn next(&mut self) -> Option<JsonValue<'a>> {
        if let Some(single) = self.single.take() {
            return Some(single);
        }
        let (value, rest) = first_value(self.rest)?;
        self.rest = rest.trim_start_matches(is_whitespace).strip_prefix(',').unwrap_or_default();
        Some(value)
    }
}

/// Unescapes the name of a member, which stands between its quotes. A name that is not valid JSON stays as it is.
pub(crate) fn unescape_name(raw: &str) -> Cow<'_, str> {
    if !raw.as_bytes().contains(&b'\\') {
        return Cow::Borrowed(raw);
    }
    serde_json::from_str(&format!("\"{raw}\"")).map_or(Cow::Borrowed(raw), Cow::Owned)
}

/// Returns true if `c` is whitespace in JSON.
fn is_whitespace(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

/// Splits `text`, which must be valid JSON, into the value that it starts with and the rest. Leading whitespace is dropped.
fn first_value(text: &str) -> Option<(JsonValue<'_>, &str)> {
    let text = text.trim_start_matches(is_whitespace);
    let length = value_length(text.as_bytes())?;
    Some((JsonValue(text.get(..length)?), text.get(length..)?))
}

/// Returns the length of the value at the start of `bytes`, which must be valid. `None` if no value starts there, or if it does
/// not end. The value is not validated.
fn value_length(bytes: &[u8]) -> Option<usize> {
    match bytes.first()? {
        b'"' => string_length(bytes),
        b'{' | b'[' => {
            let (mut position, mut depth) = (0, 0_usize);
            loop {
                match bytes.get(position)? {
                    b'"' => position += string_length(bytes.get(position..)?)?,
                    b'{' | b'[' => (position, depth) = (position + 1, depth + 1),
                    b'}' | b']' => {
                        (position, depth) = (position + 1, depth.checked_sub(1)?);
                        if depth == 0 {
                            return Some(position);
                        }
                    }
                    _ => position += 1,
                }
            }
        }
        b'}' | b']' | b',' | b':' => None,
        _ => Some(bytes.iter().position(|byte| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r')).unwrap_or(bytes.len())),
    }
}

/// Returns the length of the JSON string at the start of `bytes`, quotes included, or `None` if it does not end.
fn string_length(bytes: &[u8]) -> Option<usize> {
    let mut position = 1;
    loop {
        position += memchr2(b'"', b'\\', bytes.get(position..)?)?;
        if bytes.get(position) == Some(&b'"') {
            return Some(position + 1);
        }
        position += 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#" { "a" : [ 1.50 , {"b":"x\"}]"} , [] ] ,"\u0063":null,"d":{}, "e" :true,"f":"" } "#;

    #[test]
    fn members_and_items_keep_their_json_text() {
        let members: Vec<_> = JsonValue::from_valid(TEXT).members().map(|(name, value)| (name.into_owned(), value.as_str())).collect();
        let expected = [("a", r#"[ 1.50 , {"b":"x\"}]"} , [] ]"#), ("c", "null"), ("d", "{}"), ("e", "true"), ("f", r#""""#)]
            .map(|(name, value)| (name.to_owned(), value));
        assert_eq!(members, expected);
        let items: Vec<_> = JsonValue::from_valid(TEXT).member("a").unwrap().items().map(JsonValue::as_str).collect();
        assert_eq!(items, ["1.50", r#"{"b":"x\"}]"}"#, "[]"]);
    }

    #[test]
    fn a_value_that_is_not_an_array_is_its_own_only_item() {
        assert_eq!(JsonValue::from_valid("7").items().map(JsonValue::as_str).collect::<Vec<_>>(), ["7"]);
        assert_eq!(JsonValue::from_valid("[]").items().count(), 0);
    }

    #[test]
    fn strings_and_names_are_unescaped() {
        let value = JsonValue::from_valid(TEXT).member("a").unwrap().items().nth(1).unwrap();
        assert_eq!(value.member("b").unwrap().text().unwrap(), "x\"}]");
        assert_eq!(JsonValue::from_valid("1").text(), None);
    }

    #[test]
    fn iterators_over_invalid_json_end_early() {
        for text in ["{", "{\"", "{\"a", "{\"a\"", "{\"a\":", "{\"a\":[", "{a:1}", "[", "[,", "[\"\\", "{\"a\":}"] {
            assert!(JsonValue::from_valid(text).members().count() + JsonValue::from_valid(text).items().count() <= 2, "{text}");
        }
    }
}
