//! The tokens of an expression.

use super::super::error::TableError;
use super::invalid;

/// A token: a word, a placeholder or an operator.
pub(super) type Token = String;

/// Splits an expression into tokens.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, TableError> {
    let mut tokens: Vec<Token> = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = if is_word(first) {
            rest.find(|letter| !is_word(letter)).unwrap_or(rest.len())
        } else {
            ["<>", "<=", ">="].iter().find(|operator| rest.starts_with(**operator)).map_or(first.len_utf8(), |operator| operator.len())
        };
        let (token, after) = rest.split_at(length);
        if !is_word(first) && !["=", "<>", "<", "<=", ">", ">=", "(", ")", ",", "+", "-"].contains(&token) {
            return Err(invalid(&format!("unexpected `{token}`")));
        }
        tokens.push(token.to_owned());
        rest = after.trim_start();
    }
    Ok(tokens)
}

/// Returns true for the characters of words and placeholders.
fn is_word(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '_' | '#' | ':' | '.')
}
