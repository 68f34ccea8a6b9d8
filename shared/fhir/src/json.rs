//! Values within a line that is known to be JSON, read where they stand: no tree, no copy.

pub(crate) mod name_table;
pub(crate) mod path;

use std::borrow::Cow;

use memchr::memchr2;

/// One value of a text that has been validated: what [`crate::Resource::read`] let through. It begins with the value's
/// first character and ends with its last.
///
/// Of a text that is no JSON, iterators end early; nothing panics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Json<'a>(&'a str);

/// What kind of value it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `{…}`
    Object,
    /// `[…]`
    Array,
    /// `"…"`
    Text,
    /// `-1.50`
    Number,
    /// `true`, `false`
    Bool,
    /// `null`
    Null,
}

impl<'a> Json<'a> {
    /// The value that is the whole of a valid text.
    pub fn of_valid(text: &'a str) -> Self {
        Self(text.trim_matches(is_blank))
    }

    /// As it stands there.
    pub fn as_str(self) -> &'a str {
        self.0
    }

    /// What kind of value it is, by its first character.
    pub fn shape(self) -> Shape {
        match self.0.as_bytes().first() {
            Some(b'{') => Shape::Object,
            Some(b'[') => Shape::Array,
            Some(b'"') => Shape::Text,
            Some(b't' | b'f') => Shape::Bool,
            Some(b'n') | None => Shape::Null,
            Some(_) => Shape::Number,
        }
    }

    /// A string's text, its escapes undone.
    pub fn text(self) -> Option<Cow<'a, str>> {
        let quoted = self.0.strip_prefix('"')?.strip_suffix('"')?;
        if !quoted.contains('\\') {
            return Some(Cow::Borrowed(quoted));
        }
        serde_json::from_str(self.0).ok().map(Cow::Owned)
    }

    /// What a string says, its escapes undone; any other value as it is written.
    pub(crate) fn scalar(self) -> Cow<'a, str> {
        self.text().unwrap_or(Cow::Borrowed(self.0))
    }

    /// A number as it is written.
    pub fn number(self) -> Option<&'a str> {
        (self.shape() == Shape::Number).then_some(self.0)
    }

    /// `true` or `false`.
    pub fn bool(self) -> Option<bool> {
        match self.0 {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        }
    }

    /// An object's members in order; none of any other value.
    pub fn members(self) -> Members<'a> {
        Members { rest: self.0.strip_prefix('{').unwrap_or_default() }
    }

    /// Like [`Self::members`], each name as it stands between its quotes.
    pub(crate) fn raw_members(self) -> impl Iterator<Item = (&'a str, Self)> {
        let mut members = self.members();
        std::iter::from_fn(move || members.next_raw())
    }

    /// The first member of this name.
    pub fn member(self, name: &str) -> Option<Self> {
        self.members().find(|(member, _)| member == name).map(|(_, value)| value)
    }

    /// An array's items; of any other value the value itself, for FHIR's paths do not tell one from many.
    pub fn items(self) -> Items<'a> {
        match self.0.strip_prefix('[') {
            Some(rest) => Items { rest, single: None },
            None => Items { rest: "", single: Some(self) },
        }
    }
}

/// See [`Json::members`].
#[derive(Clone, Debug)]
pub struct Members<'a> {
    rest: &'a str,
}

impl<'a> Members<'a> {
    fn next_raw(&mut self) -> Option<(&'a str, Json<'a>)> {
        let (name, rest) = first_value(self.rest)?;
        let (value, rest) = first_value(rest.trim_start_matches(is_blank).strip_prefix(':')?)?;
        self.rest = rest.trim_start_matches(is_blank).strip_prefix(',').unwrap_or_default();
        Some((name.0.strip_prefix('"')?.strip_suffix('"')?, value))
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = (Cow<'a, str>, Json<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let (name, value) = self.next_raw()?;
        if !name.contains('\\') {
            return Some((Cow::Borrowed(name), value));
        }
        let name = serde_json::from_str(&format!("\"{name}\"")).ok()?;
        Some((Cow::Owned(name), value))
    }
}

/// See [`Json::items`].
#[derive(Clone, Debug)]
pub struct Items<'a> {
    rest: &'a str,
    single: Option<Json<'a>>,
}

impl<'a> Iterator for Items<'a> {
    type Item = Json<'a>;

    fn next(&mut self) -> Option<Json<'a>> {
        if let Some(single) = self.single.take() {
            return Some(single);
        }
        let (value, rest) = first_value(self.rest)?;
        self.rest = rest.trim_start_matches(is_blank).strip_prefix(',').unwrap_or_default();
        Some(value)
    }
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

/// The value that the text begins with, and what stands behind it.
fn first_value(text: &str) -> Option<(Json<'_>, &str)> {
    let text = text.trim_start_matches(is_blank);
    let length = value_length(text.as_bytes())?;
    Some((Json(text.get(..length)?), text.get(length..)?))
}

/// The length of the valid value that stands at the beginning of `bytes`.
fn value_length(bytes: &[u8]) -> Option<usize> {
    match bytes.first()? {
        b'"' => string_length(bytes),
        b'{' | b'[' => {
            let (mut at, mut depth) = (0, 0_usize);
            loop {
                match bytes.get(at)? {
                    b'"' => at += string_length(bytes.get(at..)?)?,
                    b'{' | b'[' => (at, depth) = (at + 1, depth + 1),
                    b'}' | b']' => {
                        (at, depth) = (at + 1, depth.checked_sub(1)?);
                        if depth == 0 {
                            return Some(at);
                        }
                    }
                    _ => at += 1,
                }
            }
        }
        b'}' | b']' | b',' | b':' => None,
        _ => Some(bytes.iter().position(|byte| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r')).unwrap_or(bytes.len())),
    }
}

/// The length of a string with its quotes.
fn string_length(bytes: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        at += memchr2(b'"', b'\\', bytes.get(at..)?)?;
        if bytes.get(at) == Some(&b'"') {
            return Some(at + 1);
        }
        at += 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#" { "a" : [ 1.50 , {"b":"x\"}]"} , [] ] ,"\u0063":null,"d":{}, "e" :true,"f":"" } "#;

    #[test]
    fn values_are_found_where_they_stand_and_as_they_are_written() {
        let members: Vec<_> = Json::of_valid(TEXT).members().map(|(name, value)| (name.into_owned(), value.as_str())).collect();
        let expected = [("a", r#"[ 1.50 , {"b":"x\"}]"} , [] ]"#), ("c", "null"), ("d", "{}"), ("e", "true"), ("f", r#""""#)]
            .map(|(name, value)| (name.to_owned(), value));
        assert_eq!(members, expected);
        let items: Vec<_> = Json::of_valid(TEXT).member("a").unwrap().items().map(Json::as_str).collect();
        assert_eq!(items, ["1.50", r#"{"b":"x\"}]"}"#, "[]"]);
    }

    #[test]
    fn what_is_no_array_is_its_own_only_item() {
        assert_eq!(Json::of_valid("7").items().map(Json::as_str).collect::<Vec<_>>(), ["7"]);
        assert_eq!(Json::of_valid("[]").items().count(), 0);
    }

    #[test]
    fn escapes_are_undone_in_texts_and_in_names() {
        let value = Json::of_valid(TEXT).member("a").unwrap().items().nth(1).unwrap();
        assert_eq!(value.member("b").unwrap().text().unwrap(), "x\"}]");
        assert_eq!(Json::of_valid("1").text(), None);
    }

    #[test]
    fn what_is_no_json_ends_early() {
        for text in ["{", "{\"", "{\"a", "{\"a\"", "{\"a\":", "{\"a\":[", "{a:1}", "[", "[,", "[\"\\", "{\"a\":}"] {
            assert!(Json::of_valid(text).members().count() + Json::of_valid(text).items().count() <= 2, "{text}");
        }
    }
}
