//! Evaluates function calls.

use std::borrow::Cow;

use rust_decimal::{Decimal, RoundingStrategy};

use super::{Collection, CollectionItem, EvalResult, Evaluator, boolean, integer_item, to_integer};
use crate::deid::element_tree::NodeId;
use crate::deid::fhirpath::functions::ValueFunction;
use crate::deid::fhirpath::{EvaluationError, Expr, Function, PartialDateTime, Value, parse_decimal};

impl<'t> Evaluator<'_, 't> {
    /// Evaluates a function with an input collection.
    pub(super) fn call(&self, focus: Collection<'t>, function: &'t Function, arguments: &'t [Expr]) -> EvalResult<Collection<'t>> {
        let argument = |index: usize| arguments.get(index).unwrap_or(&Expr::Empty);
        match function {
            Function::Where => self.filter_items(focus, argument(0)),
            Function::Select => {
                // The projection sees each input item as `$this`, with its own `$index`.
                let mut found = Vec::new();
                for (index, this) in focus.iter().enumerate() {
                    found.extend(Evaluator { this, index, ..*self }.evaluate(argument(0))?);
                }
                Ok(found)
            }
            Function::First => Ok(focus.into_iter().take(1).collect()),
            Function::Last => Ok(focus.into_iter().next_back().into_iter().collect()),
            Function::Tail => Ok(focus.into_iter().skip(1).collect()),
            Function::Skip => Ok(focus.into_iter().skip(self.non_negative_integer(argument(0))?).collect()),
            Function::Take => Ok(focus.into_iter().take(self.non_negative_integer(argument(0))?).collect()),
            Function::Single if focus.len() > 1 => Err(EvaluationError::MultipleValues),
            Function::Single => Ok(focus),
            Function::Distinct => Ok(self.distinct(focus.into_iter())),
            Function::Union => Ok(self.distinct(focus.into_iter().chain(self.evaluate(argument(0))?))),
            Function::Intersect | Function::Exclude => {
                let others = self.evaluate(argument(0))?;
                let is_in_others = |item: &CollectionItem<'t>| others.iter().any(|other| self.items_equal(item, other) == Some(true));
                // Both differ only in whether common items are kept.
                let keeps_common = *function == Function::Intersect;
                Ok(self.distinct(focus.into_iter().filter(|item| is_in_others(item) == keeps_common)))
            }
            Function::Children => Ok(self.matching_children(&focus, |_, _| true)),
            Function::Descendants => {
                let mut found = self.matching_children(&focus, |_, _| true);
                // Level by level: the order of FHIRPath's `repeat(children())`.
                let mut level = found.clone();
                while !level.is_empty() {
                    level = self.matching_children(&level, |_, _| true);
                    found.extend_from_slice(&level);
                }
                Ok(found)
            }
            Function::NodesByType(name) => Ok(self.nodes_within(&focus, |evaluator, node| evaluator.type_name(node) == &**name)),
            Function::NodesByName(name) => Ok(self.nodes_within(&focus, |evaluator, node| evaluator.element(node) == &**name)),
            Function::Extension(url) => {
                let mut extensions = self.matching_children(&focus, |tree, child| tree.element(child) == "extension");
                extensions.retain(|extension| {
                    let urls = self.matching_children(std::slice::from_ref(extension), |tree, child| tree.element(child) == "url");
                    matches!(urls.first().and_then(|found| self.value(found)), Some(Value::String(found)) if found == **url)
                });
                Ok(extensions)
            }
            Function::Iif => {
                // Only one branch is evaluated. An unknown condition selects the second.
                let condition = self.as_boolean(&self.evaluate(argument(0))?);
                self.evaluate(argument(if condition == Some(true) { 1 } else { 2 }))
            }
            Function::Exists if arguments.is_empty() => Ok(boolean(!focus.is_empty())),
            Function::Exists => Ok(boolean(!self.filter_items(focus, argument(0))?.is_empty())),
            Function::Empty => Ok(boolean(focus.is_empty())),
            Function::All => {
                let count = focus.len();
                Ok(boolean(self.filter_items(focus, argument(0))?.len() == count))
            }
            Function::Not if focus.len() > 1 => Err(EvaluationError::MultipleValues),
            Function::Not => Ok(self.as_boolean(&focus).map(|value| boolean(!value)).unwrap_or_default()),
            Function::Count => Ok(vec![integer_item(focus.len())]),
            Function::HasValue => Ok(boolean(focus.len() == 1 && self.single(&focus)?.is_some())),
            Function::GetValue => Ok(self.single(&focus)?.map(CollectionItem::Value).into_iter().collect()),
            Function::Today => {
                let text = self.context.today.to_string();
                Ok(PartialDateTime::parse(&text)
                    .map(|today| CollectionItem::Value(Value::DateTime(today, text.into())))
                    .into_iter()
                    .collect())
            }
            Function::OnValue(function) => {
                let Some(value) = self.single(&focus)? else { return Ok(Vec::new()) };
                let operand = |index: usize| self.single(&self.evaluate(argument(index))?);
                Ok(call_value_function(value, function, operand)?.map(CollectionItem::Value).into_iter().collect())
            }
        }
    }

    /// Returns the items for which the criteria are true.
    fn filter_items(&self, focus: Collection<'t>, criteria: &'t Expr) -> EvalResult<Collection<'t>> {
        let mut found = Vec::new();
        for (index, item) in focus.into_iter().enumerate() {
            if self.is_true(criteria, &item, index)? {
                found.push(item);
            }
        }
        Ok(found)
    }

    /// Returns the elements for which `predicate` is true among the items and everything below them, without nested resources.
    fn nodes_within(&self, items: &[CollectionItem<'t>], predicate: impl Fn(&Self, NodeId) -> bool) -> Collection<'t> {
        let Some(tree) = self.context.tree else { return Vec::new() };
        let mut found = Vec::new();
        for item in items {
            if let CollectionItem::Node(node) = item {
                found.extend(tree.self_and_descendants(*node).into_iter().filter(|node| predicate(self, *node)).map(CollectionItem::Node));
            }
        }
        found
    }

    /// Returns the type name of an element.
    fn type_name(&self, node: NodeId) -> &'static str {
        self.context.tree.map(|tree| tree.type_name(node)).unwrap_or_default()
    }

    /// Returns the name of an element.
    pub(super) fn element(&self, node: NodeId) -> &'static str {
        self.context.tree.map(|tree| tree.element(node)).unwrap_or_default()
    }
}

/// Evaluates a function of a single value; `None` if the value or an operand has no result. `operand` evaluates an argument.
fn call_value_function<'t>(
    value: Value<'t>,
    function: &ValueFunction,
    operand: impl Fn(usize) -> EvalResult<Option<Value<'t>>>,
) -> EvalResult<Option<Value<'t>>> {
    use ValueFunction as F;
    // Dates count as strings, so that cases can generalize them by cutting off parts.
    let text = |name| match &value {
        Value::String(text) | Value::DateTime(_, text) => Ok(text.as_ref()),
        Value::Boolean(_) | Value::Integer(_) | Value::Decimal(_) => Err(EvaluationError::NoFunction(name, value.type_description())),
    };
    let number = |name| value.as_decimal().ok_or(EvaluationError::NoFunction(name, value.type_description()));
    let other = |index| Ok(operand(index)?.map(Value::into_text));
    let count = |index| match operand(index)? {
        Some(Value::Integer(count)) => Ok(Some(count)),
        Some(value) => Err(EvaluationError::NotAnInteger(value.type_description())),
        None => Ok(None),
    };
    let owned = |text: String| Some(Value::String(text.into()));
    Ok(match function {
        F::StartsWith => compare_text(text("startsWith")?, other(0)?, |text, other| text.starts_with(other)),
        F::EndsWith => compare_text(text("endsWith")?, other(0)?, |text, other| text.ends_with(other)),
        F::Contains => compare_text(text("contains")?, other(0)?, |text, other| text.contains(other)),
        F::Matches(pattern) => Some(Value::Boolean(pattern.0.is_match(text("matches")?))),
        F::ReplaceMatches(pattern) => match other(1)? {
            Some(other) => owned(pattern.0.replace_all(text("replaceMatches")?, &pattern.rust_replacement(&other)).into_owned()),
            None => None,
        },
        F::Replace => match (other(0)?, other(1)?) {
            (Some(old), Some(new)) => owned(text("replace")?.replace(&*old, &new)),
            (None, _) | (_, None) => None,
        },
        F::Substring => {
            let text = text("substring")?;
            let length = text.chars().count();
            let start = count(0)?.and_then(|start| usize::try_from(start).ok()).filter(|start| *start < length);
            let count = count(1)?.map_or(length, |count| usize::try_from(count).unwrap_or(0));
            start.and_then(|start| owned(text.chars().skip(start).take(count).collect()))
        }
        F::IndexOf => {
            let text = text("indexOf")?;
            other(0)?.map(|other| {
                let before = text.find(&*other).and_then(|at| text.get(..at));
                Value::Integer(before.and_then(|before| i64::try_from(before.chars().count()).ok()).unwrap_or(-1))
            })
        }
        F::Length => Some(Value::Integer(i64::try_from(text("length")?.chars().count()).unwrap_or(i64::MAX))),
        F::Lower => owned(text("lower")?.to_lowercase()),
        F::Upper => owned(text("upper")?.to_uppercase()),
        F::Trim => owned(text("trim")?.trim().to_owned()),
        F::ToString => Some(Value::String(value.into_text())),
        F::ToInteger => match &value {
            Value::Boolean(value) => Some(Value::Integer((*value).into())),
            Value::Integer(value) => Some(Value::Integer(*value)),
            Value::String(text) => text.parse().ok().map(Value::Integer),
            Value::Decimal(_) | Value::DateTime(..) => None,
        },
        F::ToDecimal => match &value {
            Value::Boolean(value) => Some(Value::Decimal(Decimal::from(u8::from(*value)))),
            Value::Integer(_) | Value::Decimal(_) => value.as_decimal().map(Value::Decimal),
            Value::String(text) => parse_decimal(text).map(Value::Decimal),
            Value::DateTime(..) => None,
        },
        F::ToBoolean => match value.into_text().to_ascii_lowercase().as_str() {
            "true" | "t" | "yes" | "y" | "1" | "1.0" => Some(Value::Boolean(true)),
            "false" | "f" | "no" | "n" | "0" | "0.0" => Some(Value::Boolean(false)),
            _ => None,
        },
        F::ToDate => {
            let text = text("toDate")?;
            parse_date_time(text.split_once('T').map_or(text, |(date, _)| date), PartialDateTime::parse)
        }
        F::ToDateTime => parse_date_time(text("toDateTime")?, PartialDateTime::parse),
        F::ToTime => parse_date_time(text("toTime")?, PartialDateTime::parse_time),
        F::Abs => match &value {
            Value::Integer(number) => Some(Value::Integer(number.checked_abs().ok_or(EvaluationError::Overflow)?)),
            Value::Decimal(number) => Some(Value::Decimal(number.abs())),
            Value::Boolean(_) | Value::String(_) | Value::DateTime(..) => {
                return Err(EvaluationError::NoFunction("abs", value.type_description()));
            }
        },
        F::Ceiling => Some(to_integer(number("ceiling")?.ceil())?),
        F::Floor => Some(to_integer(number("floor")?.floor())?),
        F::Truncate => Some(to_integer(number("truncate")?.trunc())?),
        F::Round => {
            let places = count(0)?.and_then(|places| u32::try_from(places).ok()).unwrap_or(0);
            let rounded = number("round")?.round_dp_with_strategy(places, RoundingStrategy::MidpointNearestEven);
            Some(Value::Decimal(rounded))
        }
    })
}

/// Compares a text with an operand; `None` if the operand is empty.
fn compare_text<'t>(text: &str, other: Option<Cow<'_, str>>, predicate: fn(&str, &str) -> bool) -> Option<Value<'t>> {
    other.map(|other| Value::Boolean(predicate(text, &other)))
}

/// Parses a text as a date, a time or both.
fn parse_date_time<'t>(text: &str, parse: fn(&str) -> Option<PartialDateTime>) -> Option<Value<'t>> {
    parse(text).map(|date_time| Value::DateTime(date_time, text.to_owned().into()))
}
