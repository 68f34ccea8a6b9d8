//! The reasons why a text is not a Bundle.

/// The reason why a text is not a Bundle, with the offset of the problem in bytes. It never quotes the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// The text is not valid JSON, or not UTF-8.
    #[error("not valid JSON at byte {offset}")]
    NotJson {
        /// The offset of the problem.
        offset: u64,
    },
    /// The text is a JSON value other than a Bundle.
    #[error("not a Bundle: the JSON value at byte {offset} has no resourceType `Bundle`")]
    NotABundle {
        /// The offset of the value.
        offset: u64,
    },
    /// A member of the Bundle, or of an entry outside its resource, does not have the JSON type that FHIR defines, or occurs twice.
    #[error("a member at byte {offset} has the wrong JSON type or occurs twice")]
    InvalidMember {
        /// The offset of the member or of the entry.
        offset: u64,
    },
    /// The text ends within a Bundle.
    #[error("the text ends within a Bundle, at byte {offset}: it is truncated")]
    Truncated {
        /// The length of the text.
        offset: u64,
    },
    /// An entry or another member is longer than the limit.
    #[error("an entry or member at byte {offset} has more than {limit_bytes} bytes")]
    TooLarge {
        /// The offset of the entry or member.
        offset: u64,
        /// The limit.
        limit_bytes: usize,
    },
}

impl BundleError {
    /// Converts an error of the JSON parser about `text`, which starts at `offset`.
    pub(super) fn from_json(error: &serde_json::Error, text: &[u8], offset: u64) -> Self {
        if error.is_data() {
            return Self::InvalidMember { offset };
        }
        let lines_before = text.split_inclusive(|byte| *byte == b'\n').take(error.line().saturating_sub(1));
        let position = lines_before.map(<[u8]>::len).sum::<usize>() + error.column().saturating_sub(1);
        Self::NotJson { offset: offset + position as u64 }
    }
}
