//! Types that are stored and sent as their text.

/// Gives a type with `as_str` the two conversions that `#[serde(try_from = "String", into = "String")]` asks for: `$read` makes
/// it of a text, and of any other text it is said to be `$fault`.
macro_rules! stored_as_text {
    ($kind:ty, $read:expr, $fault:literal) => {
        impl TryFrom<String> for $kind {
            type Error = &'static str;
            fn try_from(text: String) -> Result<Self, &'static str> {
                $read(&text).ok_or($fault)
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
