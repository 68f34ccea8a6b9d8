//! Conditions: their syntax tree, its parser and its evaluation.

use std::cmp::Ordering;

use super::super::error::TableError;
use super::super::item::{AttributeValue, Item};
use super::parser::Parser;
use super::{Placeholders, invalid};

/// A condition on an item.
#[derive(Clone, Debug, PartialEq)]
pub(in super::super) enum Condition {
    /// All hold.
    All(Vec<Condition>),
    /// One holds.
    Any(Vec<Condition>),
    /// The other does not hold.
    Not(Box<Condition>),
    /// A comparison.
    Compare(Operand, Comparator, Operand),
    /// A value is one of several.
    In(Operand, Vec<Operand>),
    /// The attribute exists.
    Exists(String),
    /// The attribute begins with the text.
    BeginsWith(String, Operand),
    /// The attribute contains the text.
    Contains(String, Operand),
}

/// A side of a comparison.
#[derive(Clone, Debug, PartialEq)]
pub(in super::super) enum Operand {
    /// The value of an attribute.
    Attribute(String),
    /// A constant.
    Value(AttributeValue),
    /// The length of a text attribute.
    Size(String),
}

/// A comparison of two values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Comparator {
    /// `=`
    Equal,
    /// `<>`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

impl Comparator {
    /// Parses an operator.
    fn parse(token: &str) -> Option<Self> {
        let operators = [
            ("=", Self::Equal),
            ("<>", Self::NotEqual),
            ("<", Self::Less),
            ("<=", Self::LessOrEqual),
            (">", Self::Greater),
            (">=", Self::GreaterOrEqual),
        ];
        operators.into_iter().find(|(operator, _)| *operator == token).map(|(_, comparator)| comparator)
    }

    /// Returns true if the comparison holds for two values with this order. Values of different types have no order.
    fn holds(self, order: Option<Ordering>) -> bool {
        match self {
            Self::Equal => order == Some(Ordering::Equal),
            Self::NotEqual => order != Some(Ordering::Equal),
            Self::Less => order == Some(Ordering::Less),
            Self::LessOrEqual => order.is_some_and(Ordering::is_le),
            Self::Greater => order == Some(Ordering::Greater),
            Self::GreaterOrEqual => order.is_some_and(Ordering::is_ge),
        }
    }
}

impl Operand {
    /// Returns the value of the operand in an item.
    pub(super) fn value(&self, item: &Item) -> Option<AttributeValue> {
        match self {
            Self::Attribute(name) => item.get(name).cloned(),
            Self::Value(value) => Some(value.clone()),
            Self::Size(name) => item.get(name).and_then(AttributeValue::as_text).map(|text| AttributeValue::N(text.len().to_string())),
        }
    }
}

impl Condition {
    /// Parses an expression.
    pub(in super::super) fn parse(text: &str, placeholders: Placeholders<'_>) -> Result<Self, TableError> {
        let mut parser = Parser::new(text, placeholders)?;
        let condition = any(&mut parser)?;
        if parser.is_at_end() { Ok(condition) } else { Err(invalid("it has more than one condition")) }
    }

    /// Returns true if the condition holds for the item, which is empty if it does not exist.
    pub(in super::super) fn holds(&self, item: &Item) -> bool {
        match self {
            Self::All(conditions) => conditions.iter().all(|condition| condition.holds(item)),
            Self::Any(conditions) => conditions.iter().any(|condition| condition.holds(item)),
            Self::Not(condition) => !condition.holds(item),
            Self::Exists(name) => item.contains_key(name),
            Self::Compare(one, comparator, other) => match (one.value(item), other.value(item)) {
                (Some(one), Some(other)) => comparator.holds(one.compare(&other)),
                _ => *comparator == Comparator::NotEqual,
            },
            Self::In(one, others) => {
                let value = one.value(item);
                value.is_some() && others.iter().any(|other| other.value(item) == value)
            }
            Self::BeginsWith(name, prefix) => texts(item, name, prefix).is_some_and(|(text, prefix)| text.starts_with(&prefix)),
            Self::Contains(name, part) => texts(item, name, part).is_some_and(|(text, part)| text.contains(&part)),
        }
    }
}

/// Returns the text of an attribute and that of an operand.
fn texts<'a>(item: &'a Item, name: &str, operand: &Operand) -> Option<(&'a str, String)> {
    let text = item.get(name)?.as_text()?;
    Some((text, operand.value(item)?.as_text()?.to_owned()))
}

/// Parses conditions that `OR` connects.
fn any(parser: &mut Parser<'_>) -> Result<Condition, TableError> {
    let mut conditions = vec![all(parser)?];
    while parser.takes("OR") {
        conditions.push(all(parser)?);
    }
    Ok(if conditions.len() > 1 { Condition::Any(conditions) } else { Condition::All(conditions) })
}

/// Parses conditions that `AND` connects.
fn all(parser: &mut Parser<'_>) -> Result<Condition, TableError> {
    let mut conditions = vec![single(parser)?];
    while parser.takes("AND") {
        conditions.push(single(parser)?);
    }
    Ok(Condition::All(conditions))
}

/// Parses a function, a comparison, `NOT` or parentheses.
fn single(parser: &mut Parser<'_>) -> Result<Condition, TableError> {
    if parser.takes("NOT") {
        return Ok(Condition::Not(Box::new(single(parser)?)));
    }
    if parser.takes("(") {
        let condition = any(parser)?;
        parser.expect(")")?;
        return Ok(condition);
    }
    let condition = if parser.takes_call("attribute_exists") {
        Condition::Exists(parser.name()?)
    } else if parser.takes_call("attribute_not_exists") {
        Condition::Not(Box::new(Condition::Exists(parser.name()?)))
    } else if parser.takes_call("begins_with") {
        two_arguments(parser, Condition::BeginsWith)?
    } else if parser.takes_call("contains") {
        two_arguments(parser, Condition::Contains)?
    } else {
        return comparison(parser);
    };
    parser.expect(")")?;
    Ok(condition)
}

/// Parses an attribute and an operand.
fn two_arguments(parser: &mut Parser<'_>, condition: fn(String, Operand) -> Condition) -> Result<Condition, TableError> {
    let name = parser.name()?;
    parser.expect(",")?;
    Ok(condition(name, parser.operand()?))
}

/// Parses a comparison, `BETWEEN` or `IN`.
fn comparison(parser: &mut Parser<'_>) -> Result<Condition, TableError> {
    let one = parser.operand()?;
    if parser.takes("BETWEEN") {
        let low = parser.operand()?;
        parser.expect("AND")?;
        let high = parser.operand()?;
        let above = Condition::Compare(one.clone(), Comparator::GreaterOrEqual, low);
        return Ok(Condition::All(vec![above, Condition::Compare(one, Comparator::LessOrEqual, high)]));
    }
    if parser.takes("IN") {
        parser.expect("(")?;
        let mut values = vec![parser.operand()?];
        while parser.takes(",") {
            values.push(parser.operand()?);
        }
        parser.expect(")")?;
        return Ok(Condition::In(one, values));
    }
    let token = parser.next()?;
    let comparator = Comparator::parse(&token).ok_or_else(|| invalid(&format!("`{token}` is no comparison")))?;
    Ok(Condition::Compare(one, comparator, parser.operand()?))
}
