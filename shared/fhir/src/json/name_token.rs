//! Names of members as they stand in JSON, to test whether a known name comes next.

/// The number of bytes that one comparison covers.
const HEAD_BYTES: usize = 16;

/// The name of a member with its quotes and its colon, without spaces.
#[derive(Debug)]
pub(crate) struct NameToken {
    /// The first bytes, followed by zeros.
    head: u128,
    /// The bits of the bytes of `head` that belong to the token.
    mask: u128,
    token: Box<[u8]>,
}

impl NameToken {
    /// Creates the token of a name without escapes.
    pub(crate) fn new(name: &str) -> Self {
        let token = format!("\"{name}\":").into_bytes().into_boxed_slice();
        let of_head = |byte: fn(&u8) -> u8| token.iter().take(HEAD_BYTES).rev().fold(0, |word, next| word << 8 | u128::from(byte(next)));
        Self { head: of_head(|byte| *byte), mask: of_head(|_| u8::MAX), token }
    }

    /// Returns the length of the token in bytes.
    pub(crate) fn length(&self) -> usize {
        self.token.len()
    }

    /// Returns true if `bytes` begin with the token. May return false for a text that ends soon after it.
    #[inline(always)]
    pub(crate) fn is_at_start(&self, bytes: &[u8]) -> bool {
        let is_head = bytes.first_chunk().is_some_and(|chunk| (u128::from_le_bytes(*chunk) ^ self.head) & self.mask == 0);
        is_head && (self.token.len() <= HEAD_BYTES || bytes.starts_with(&self.token))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_found_only_where_the_whole_name_and_the_colon_stand() {
        let names = ["a", "id", "subject", "abatementStrin", "abatementString", "effectiveDateTime"];
        for name in names {
            let token = NameToken::new(name);
            for other in names {
                let text = format!("\"{other}\":\"a value of some length\"");
                assert_eq!(token.is_at_start(text.as_bytes()), name == other, "{name} {other}");
            }
            for text in [format!("\"{name}\" :\"a value of some length\""), format!("\"{name}\\u0041\":\"a value\""), String::new()] {
                assert!(!token.is_at_start(text.as_bytes()), "{name} {text}");
            }
            assert_eq!(token.length(), name.len() + 3);
        }
    }
}
