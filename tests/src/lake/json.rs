//! JSON whose bytes are ours to choose: members in the order they are given, numbers as they are spelled.
//!
//! `serde_json::Value` can do neither: it sorts members (or not, as some other crate's features have it) and turns
//! `1.10` into `1.1`.

/// A JSON value to be written.
#[derive(Debug, Clone)]
pub(super) enum Json {
    /// Left out, together with its key.
    Absent,
    Text(String),
    /// Already JSON: numbers, `true`, or a string with escapes of our choice.
    Spelled(String),
    List(Vec<Json>),
    Object(Vec<(&'static str, Json)>),
}

/// Where the writer leaves room; all are the same JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spacing {
    /// `{"a":1,"b":2}`
    Tight,
    /// `{"a": 1, "b": 2}`, as Python writes it.
    Airy,
}

impl Json {
    /// One line, without newline.
    pub(super) fn line(&self, spacing: Spacing) -> String {
        let mut line = String::new();
        self.write(spacing, &mut line);
        line
    }

    fn write(&self, spacing: Spacing, out: &mut String) {
        let (comma, colon) = match spacing {
            Spacing::Tight => (",", ":"),
            Spacing::Airy => (", ", ": "),
        };
        match self {
            Self::Absent => out.push_str("null"),
            Self::Text(text) => quote(text, out),
            Self::Spelled(json) => out.push_str(json),
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
        Self::Spelled(flag.to_string())
    }
}

impl From<usize> for Json {
    fn from(number: usize) -> Self {
        Self::Spelled(number.to_string())
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

/// A JSON object with its members in the order written.
macro_rules! object {
    ($($key:literal: $value:expr),* $(,)?) => {
        $crate::lake::json::Json::Object(vec![$(($key, $crate::lake::json::Json::from($value))),*])
    };
}

/// A JSON array.
macro_rules! list {
    ($($value:expr),* $(,)?) => {
        $crate::lake::json::Json::List(vec![$($crate::lake::json::Json::from($value)),*])
    };
}

pub(super) use {list, object};
