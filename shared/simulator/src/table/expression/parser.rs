//! The position of a parser in the tokens of an expression.

use std::collections::VecDeque;

use super::super::error::TableError;
use super::token::{Token, tokens};
use super::{Operand, Placeholders, invalid};

/// The tokens that are left, and the placeholders.
pub(super) struct Parser<'a> {
    tokens: VecDeque<Token>,
    pub(super) placeholders: Placeholders<'a>,
}

impl<'a> Parser<'a> {
    /// Creates a parser of an expression.
    pub(super) fn new(text: &str, placeholders: Placeholders<'a>) -> Result<Self, TableError> {
        Ok(Self { tokens: tokens(text)?.into(), placeholders })
    }

    /// Returns true if no token is left.
    pub(super) fn is_at_end(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Removes the next token if it is this word or operator, in any case.
    pub(super) fn takes(&mut self, token: &str) -> bool {
        let is_next = self.tokens.front().is_some_and(|next| next.eq_ignore_ascii_case(token));
        if is_next {
            self.tokens.pop_front();
        }
        is_next
    }

    /// Removes the next token, which must be this one.
    pub(super) fn expect(&mut self, token: &str) -> Result<(), TableError> {
        if self.takes(token) { Ok(()) } else { Err(invalid(&format!("`{token}` is missing before {:?}", self.tokens.front()))) }
    }

    /// Removes and returns the next token.
    pub(super) fn next(&mut self) -> Result<Token, TableError> {
        self.tokens.pop_front().ok_or_else(|| invalid("it ends too early"))
    }

    /// Returns true if the next two tokens are this word and an opening parenthesis. Removes them then.
    pub(super) fn takes_call(&mut self, function: &str) -> bool {
        let is_call = self.tokens.get(1).is_some_and(|token| token == "(") && self.takes(function);
        if is_call {
            self.tokens.pop_front();
        }
        is_call
    }

    /// Parses the name of an attribute.
    pub(super) fn name(&mut self) -> Result<String, TableError> {
        let token = self.next()?;
        self.placeholders.name(&token)
    }

    /// Parses an attribute, a value or `size(attribute)`.
    pub(super) fn operand(&mut self) -> Result<Operand, TableError> {
        if self.takes_call("size") {
            let name = self.name()?;
            self.expect(")")?;
            return Ok(Operand::Size(name));
        }
        let token = self.next()?;
        if token.starts_with(':') {
            Ok(Operand::Value(self.placeholders.value(&token)?))
        } else {
            Ok(Operand::Attribute(self.placeholders.name(&token)?))
        }
    }
}
