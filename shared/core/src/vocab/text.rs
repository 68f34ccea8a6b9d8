//! Types that are stored and sent as text.

/// Implements the two conversions that `#[serde(try_from = "String", into = "String")]` requires, for a type with `as_str`.
///
/// `$parse` parses the text and returns an `Option`. `$error` is the error for text that cannot be parsed.
macro_rules! stored_as_text {
    ($kind:ty, $parse:expr, $error:literal) => {
        impl TryFrom<String> for $kind {
            type Error = &'static str;
            fn try_from(text: String) -> Result<Self, &'static str> {
                $parse(&text).ok_or($error)
            }
        }

        impl From<$kind> for String {
            fn from(value: $kind) -> Self {
                value.as_str().to_owned()
            }
        }
    };
}

pub(crate) use stored_as_text;
