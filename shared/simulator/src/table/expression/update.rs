//! Updates: their syntax tree, its parser and its application.

use super::super::error::TableError;
use super::super::item::{AttributeValue, Item};
use super::parser::Parser;
use super::{Operand, Placeholders, invalid};

/// An update of an item.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in super::super) struct Update {
    actions: Vec<Action>,
}

/// A change of one attribute.
#[derive(Clone, Debug, PartialEq)]
enum Action {
    /// Sets the attribute.
    Set(String, Term),
    /// Removes the attribute.
    Remove(String),
    /// Adds to a number. A missing one counts as 0.
    Add(String, AttributeValue),
}

/// The right side of an assignment.
#[derive(Clone, Debug, PartialEq)]
enum Term {
    /// An operand.
    Plain(Operand),
    /// The attribute, or the operand if it does not exist.
    IfNotExists(String, Operand),
    /// A sum. The last is negative for a difference.
    Sum(Box<Term>, Box<Term>, i128),
}

impl Update {
    /// Parses an expression.
    pub(in super::super) fn parse(text: &str, placeholders: Placeholders<'_>) -> Result<Self, TableError> {
        let mut parser = Parser::new(text, placeholders)?;
        let mut update = Self::default();
        while !parser.is_at_end() {
            let clause = parser.next()?.to_ascii_uppercase();
            loop {
                update.actions.push(action(&mut parser, &clause)?);
                if !parser.takes(",") {
                    break;
                }
            }
        }
        Ok(update)
    }

    /// Returns the item after the update.
    pub(in super::super) fn apply(&self, item: &Item) -> Result<Item, TableError> {
        let mut updated = item.clone();
        for action in &self.actions {
            match action {
                Action::Set(name, term) => {
                    updated.insert(name.clone(), term.value(item)?);
                }
                Action::Remove(name) => drop(updated.remove(name)),
                Action::Add(name, value) => {
                    let sum = item.get(name).map_or(Ok(0), number)? + number(value)?;
                    updated.insert(name.clone(), AttributeValue::N(sum.to_string()));
                }
            }
        }
        Ok(updated)
    }

    /// Returns the names of the attributes that change.
    pub(in super::super) fn names(&self) -> impl Iterator<Item = &str> {
        self.actions.iter().map(|action| match action {
            Action::Set(name, _) | Action::Remove(name) | Action::Add(name, _) => name.as_str(),
        })
    }
}

impl Term {
    /// Returns the value of the term. Attributes are those before the update.
    fn value(&self, item: &Item) -> Result<AttributeValue, TableError> {
        match self {
            Self::Plain(operand) => operand.value(item).ok_or_else(|| invalid("an attribute does not exist")),
            Self::IfNotExists(name, operand) => match item.get(name) {
                Some(value) => Ok(value.clone()),
                None => Self::Plain(operand.clone()).value(item),
            },
            Self::Sum(one, other, sign) => {
                let sum = number(&one.value(item)?)? + sign * number(&other.value(item)?)?;
                Ok(AttributeValue::N(sum.to_string()))
            }
        }
    }
}

/// Returns the number of a value.
fn number(value: &AttributeValue) -> Result<i128, TableError> {
    value.as_number().ok_or_else(|| invalid("an operand is not a whole number"))
}

/// Parses one action of a clause.
fn action(parser: &mut Parser<'_>, clause: &str) -> Result<Action, TableError> {
    let name = parser.name()?;
    match clause {
        "SET" => {
            parser.expect("=")?;
            let mut value = term(parser)?;
            for (operator, sign) in [("+", 1), ("-", -1)] {
                if parser.takes(operator) {
                    value = Term::Sum(Box::new(value), Box::new(term(parser)?), sign);
                }
            }
            Ok(Action::Set(name, value))
        }
        "REMOVE" => Ok(Action::Remove(name)),
        "ADD" => match parser.operand()? {
            Operand::Value(value) => Ok(Action::Add(name, value)),
            Operand::Attribute(_) | Operand::Size(_) => Err(invalid("ADD needs a value")),
        },
        other => Err(invalid(&format!("the clause {other} is not supported"))),
    }
}

/// Parses an operand or `if_not_exists`.
fn term(parser: &mut Parser<'_>) -> Result<Term, TableError> {
    if !parser.takes_call("if_not_exists") {
        return Ok(Term::Plain(parser.operand()?));
    }
    let name = parser.name()?;
    parser.expect(",")?;
    let otherwise = parser.operand()?;
    parser.expect(")")?;
    Ok(Term::IfNotExists(name, otherwise))
}
