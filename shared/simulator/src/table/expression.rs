//! Condition, filter, key and update expressions of DynamoDB, for top-level attributes.

mod condition;
mod parser;
mod token;
mod update;

use std::collections::BTreeMap;

use super::error::TableError;
use super::item::{AttributeValue, Item};

pub(super) use condition::{Comparator, Condition, Operand};
pub(super) use update::Update;

/// The values of the placeholders in an expression.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placeholders<'a> {
    /// The names of attributes: `#name`.
    pub(super) names: &'a BTreeMap<String, String>,
    /// The values: `:value`.
    pub(super) values: &'a Item,
}

impl Placeholders<'_> {
    /// Returns the name of the attribute that a token of an expression names: itself, or the one of a placeholder.
    fn name(&self, token: &str) -> Result<String, TableError> {
        if token.starts_with('#') {
            self.names.get(token).cloned().ok_or_else(|| invalid(&format!("the name {token} is not defined")))
        } else {
            Ok(token.to_owned())
        }
    }

    /// Returns the value of a placeholder.
    fn value(&self, token: &str) -> Result<AttributeValue, TableError> {
        self.values.get(token).cloned().ok_or_else(|| invalid(&format!("the value {token} is not defined")))
    }
}

/// Creates the error for an expression that is malformed or not supported.
fn invalid(message: &str) -> TableError {
    TableError::Invalid(format!("Invalid expression: {message}"))
}
