//! The audience of a token.

use serde::Deserialize;

/// The claim `aud`: one audience, or a list of them (RFC 7519, section 4.1.3).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Audience {
    /// A single audience.
    One(String),
    /// A list of audiences.
    Several(Vec<String>),
}

impl Audience {
    /// Returns true if `name` is the audience, or one of the audiences.
    pub fn contains(&self, name: &str) -> bool {
        match self {
            Self::One(one) => one == name,
            Self::Several(several) => several.iter().any(|one| one == name),
        }
    }
}
