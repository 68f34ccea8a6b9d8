//! JSON writer with full control over the bytes: order of members, and spelling of numbers.
//!
//! `serde_json::Value` offers neither. It may sort members, depending on the features of other crates, and turns `1.10` into `1.1`.

/// JSON value to be written.
#[derive(Debug, Clone)]
pub(super) enum Json {
    /// Missing value: the member is left out of its object.
    Absent,
    /// String.
    Text(String),
    /// Text that is JSON already: a number, `true`, or a string with chosen escapes.
    Raw(String),
    /// Array.
    List(Vec<Json>),
    /// Object with its members in order.
    Object(Vec<(&'static str, Json)>),
}

/// Whitespace between tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spacing {
    /// Output without whitespace: `{"a":1,"b":2}`.
    Compact,
    /// Spaces after commas and colons, like Python's output: `{"a": 1, "b": 2}`.
    Spaced,
}

impl Json {
    /// Returns the value as one line without a newline.
    pub(super) fn to_line(&self, spacing: Spacing) -> String {
        let mut line = String::new();
        self.write(spacing, &mut line);
        line
    }

    /// Appends the value as JSON to `out`.
    fn write(&self, spacing: Spacing, out: &mut String) {
        let (comma, colon) = match spacing {
            Spacing::Compact => (",", ":"),
            Spacing::Spaced => (", ", ": "),
        };
        match self {
            Self::Absent => out.push_str("null"),
            Self::Text(text) => quote(text, out),
            Self::Raw(json) => out.push_str(json),
            Self::List(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        out.push_str(comma);
                    }
                    item.write(spacing, out);
                }
                out.push(']');
            }
            Self::Object(members) => {
                out.push('{');
                let present = members.iter().filter(|(_, value)| !matches!(value, Self::Absent));
                for (index, (key, value)) in present.enumerate() {
                    if index > 0 {
                        out.push_str(comma);
                    }
                    quote(key, out);
                    out.push_str(colon);
                    value.write(spacing, out);
                }
                out.push('}');
            }
        }
    }
}

/// Appends a text as a JSON string to `out`.
fn quote(text: &str, out: &mut String) {
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            control if control < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(control))),
            other => out.push(other),
        }
    }
    out.push('"');
}

impl From<&str> for Json {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Json {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&String> for Json {
    fn from(text: &String) -> Self {
        Self::Text(text.clone())
    }
}

impl From<bool> for Json {
    fn from(flag: bool) -> Self {
        Self::Raw(flag.to_string())
    }
}

impl From<usize> for Json {
    fn from(number: usize) -> Self {
        Self::Raw(number.to_string())
    }
}

impl From<Vec<Json>> for Json {
    fn from(items: Vec<Json>) -> Self {
        Self::List(items)
    }
}

impl<T: Into<Json>> From<Option<T>> for Json {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Absent, Into::into)
    }
}

/// Builds a JSON object with its members in the given order.
macro_rules! object {
    ($($key:literal: $value:expr),* $(,)?) => {
        $crate::lake::json::Json::Object(vec![$(($key, $crate::lake::json::Json::from($value))),*])
    };
}

/// Builds a JSON array.
macro_rules! list {
    ($($value:expr),* $(,)?) => {
        $crate::lake::json::Json::List(vec![$($crate::lake::json::Json::from($value)),*])
    };
}

pub(super) use {list, object};
