//! What functions yield.

use std::borrow::Cow;

use rust_decimal::{Decimal, RoundingStrategy};

use super::{Answer, Collection, Item, Scope, integer, truth, whole};
use crate::deid::fhirpath::functions::ValueFunction;
use crate::deid::fhirpath::value::decimal;
use crate::deid::fhirpath::{Expr, Function, Moment, Unanswered, Value};
use crate::deid::tree::NodeId;

impl<'t> Scope<'_, 't> {
    pub(super) fn call(&self, focus: Collection<'t>, function: &'t Function, arguments: &'t [Expr]) -> Answer<Collection<'t>> {
        let argument = |place: usize| arguments.get(place).unwrap_or(&Expr::Nothing);
        match function {
            Function::Where => self.filtered(focus, argument(0)),
            Function::Select => {
                let mut found = Vec::new();
                for (position, this) in focus.iter().enumerate() {
                    found.extend(Scope { this, position, ..*self }.evaluate(argument(0))?);
                }
                Ok(found)
            }
            Function::First => Ok(focus.into_iter().take(1).collect()),
            Function::Last => Ok(focus.into_iter().next_back().into_iter().collect()),
            Function::Tail => Ok(focus.into_iter().skip(1).collect()),
            Function::Skip => Ok(focus.into_iter().skip(self.count(argument(0))?).collect()),
            Function::Take => Ok(focus.into_iter().take(self.count(argument(0))?).collect()),
            Function::Single if focus.len() > 1 => Err(Unanswered::Several),
            Function::Single => Ok(focus),
            Function::Distinct => Ok(self.distinct(focus.into_iter())),
            Function::Union => Ok(self.distinct(focus.into_iter().chain(self.evaluate(argument(0))?))),
            Function::Intersect | Function::Exclude => {
                let others = self.evaluate(argument(0))?;
                let is_there = |item: &Item<'t>| others.iter().any(|other| self.are_equal(item, other) == Some(true));
                let wanted = *function == Function::Intersect;
                Ok(self.distinct(focus.into_iter().filter(|item| is_there(item) == wanted)))
            }
            Function::Children => Ok(self.below(&focus, |_, _| true)),
            Function::Descendants => {
                let mut found = self.below(&focus, |_, _| true);
                let mut level = found.clone();
                while !level.is_empty() {
                    level = self.below(&level, |_, _| true);
                    found.extend_from_slice(&level);
                }
                Ok(found)
            }
            Function::NodesByType(name) => Ok(self.within(&focus, |scope, node| scope.type_name(node) == &**name)),
            Function::NodesByName(name) => Ok(self.within(&focus, |scope, node| scope.element(node) == &**name)),
            Function::Extension(url) => {
                let mut extensions = self.below(&focus, |tree, child| tree.element(child) == "extension");
                extensions.retain(|extension| {
                    let urls = self.below(std::slice::from_ref(extension), |tree, child| tree.element(child) == "url");
                    matches!(urls.first().and_then(|found| self.value(found)), Some(Value::Text(found)) if found == **url)
                });
                Ok(extensions)
            }
            Function::Iif => {
                let condition = self.truth(&self.evaluate(argument(0))?);
                self.evaluate(argument(if condition == Some(true) { 1 } else { 2 }))
            }
            Function::Exists if arguments.is_empty() => Ok(truth(!focus.is_empty())),
            Function::Exists => Ok(truth(!self.filtered(focus, argument(0))?.is_empty())),
            Function::Empty => Ok(truth(focus.is_empty())),
            Function::All => {
                let count = focus.len();
                Ok(truth(self.filtered(focus, argument(0))?.len() == count))
            }
            Function::Not if focus.len() > 1 => Err(Unanswered::Several),
            Function::Not => Ok(self.truth(&focus).map(|value| truth(!value)).unwrap_or_default()),
            Function::Count => Ok(vec![integer(focus.len())]),
            Function::HasValue => Ok(truth(focus.len() == 1 && self.single(&focus)?.is_some())),
            Function::GetValue => Ok(self.single(&focus)?.map(Item::Value).into_iter().collect()),
            Function::Today => {
                let text = self.scene.today.to_string();
                Ok(Moment::date_time(&text).map(|today| Item::Value(Value::Moment(today, text.into()))).into_iter().collect())
            }
            Function::OfValue(function) => {
                let Some(value) = self.single(&focus)? else { return Ok(Vec::new()) };
                let operand = |place: usize| self.single(&self.evaluate(argument(place))?);
                Ok(of_value(value, function, operand)?.map(Item::Value).into_iter().collect())
            }
        }
    }

    fn filtered(&self, focus: Collection<'t>, criteria: &'t Expr) -> Answer<Collection<'t>> {
        let mut found = Vec::new();
        for (position, item) in focus.into_iter().enumerate() {
            if self.is_true(criteria, &item, position)? {
                found.push(item);
            }
        }
        Ok(found)
    }

    /// The items themselves and what lies below them, but in no resource within.
    fn within(&self, items: &[Item<'t>], is_so: impl Fn(&Self, NodeId) -> bool) -> Collection<'t> {
        let Some(tree) = self.scene.tree else { return Vec::new() };
        let mut found = Vec::new();
        for item in items {
            if let Item::Node(node) = item {
                found.extend(tree.within(*node).into_iter().filter(|node| is_so(self, *node)).map(Item::Node));
            }
        }
        found
    }

    fn type_name(&self, node: NodeId) -> &'static str {
        self.scene.tree.map(|tree| tree.type_name(node)).unwrap_or_default()
    }

    pub(super) fn element(&self, node: NodeId) -> &'static str {
        self.scene.tree.map(|tree| tree.element(node)).unwrap_or_default()
    }
}

/// A function of `value`; nothing where the value or an operand does not allow it.
fn of_value<'t>(
    value: Value<'t>,
    function: &ValueFunction,
    operand: impl Fn(usize) -> Answer<Option<Value<'t>>>,
) -> Answer<Option<Value<'t>>> {
    use ValueFunction as F;
    // Dates are strings as well: what is cut off them is how they are generalized.
    let text = |name| match &value {
        Value::Text(text) | Value::Moment(_, text) => Ok(text.as_ref()),
        Value::Bool(_) | Value::Integer(_) | Value::Decimal(_) => Err(Unanswered::NoFunction(name, value.kind())),
    };
    let number = |name| value.number().ok_or(Unanswered::NoFunction(name, value.kind()));
    let other = |place| Ok(operand(place)?.map(Value::text));
    let count = |place| match operand(place)? {
        Some(Value::Integer(count)) => Ok(Some(count)),
        Some(value) => Err(Unanswered::NoFunction("substring", value.kind())),
        None => Ok(None),
    };
    let owned = |text: String| Some(Value::Text(text.into()));
    Ok(match function {
        F::StartsWith => with(text("startsWith")?, other(0)?, |text, other| text.starts_with(other)),
        F::EndsWith => with(text("endsWith")?, other(0)?, |text, other| text.ends_with(other)),
        F::Contains => with(text("contains")?, other(0)?, |text, other| text.contains(other)),
        F::Matches(pattern) => Some(Value::Bool(pattern.0.is_match(text("matches")?))),
        F::ReplaceMatches(pattern) => match other(1)? {
            Some(other) => owned(pattern.0.replace_all(text("replaceMatches")?, &pattern.template(&other)).into_owned()),
            None => None,
        },
        F::Replace => match (other(0)?, other(1)?) {
            (Some(old), Some(new)) => owned(text("replace")?.replace(&*old, &new)),
            (None, _) | (_, None) => None,
        },
        F::Substring => {
            let text = text("substring")?;
            let length = text.chars().count();
            let place = count(0)?.and_then(|start| usize::try_from(start).ok()).filter(|start| *start < length);
            let wanted = count(1)?.map_or(length, |wanted| usize::try_from(wanted).unwrap_or(0));
            place.and_then(|start| owned(text.chars().skip(start).take(wanted).collect()))
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
        F::ToText => Some(Value::Text(value.text())),
        F::ToInteger => match &value {
            Value::Bool(value) => Some(Value::Integer((*value).into())),
            Value::Integer(value) => Some(Value::Integer(*value)),
            Value::Text(text) => text.parse().ok().map(Value::Integer),
            Value::Decimal(_) | Value::Moment(..) => None,
        },
        F::ToDecimal => match &value {
            Value::Bool(value) => Some(Value::Decimal(Decimal::from(u8::from(*value)))),
            Value::Integer(_) | Value::Decimal(_) => value.number().map(Value::Decimal),
            Value::Text(text) => decimal(text).map(Value::Decimal),
            Value::Moment(..) => None,
        },
        F::ToBoolean => match value.text().to_ascii_lowercase().as_str() {
            "true" | "t" | "yes" | "y" | "1" | "1.0" => Some(Value::Bool(true)),
            "false" | "f" | "no" | "n" | "0" | "0.0" => Some(Value::Bool(false)),
            _ => None,
        },
        F::ToDate => {
            let text = text("toDate")?;
            moment(text.split_once('T').map_or(text, |(date, _)| date), Moment::date_time)
        }
        F::ToDateTime => moment(text("toDateTime")?, Moment::date_time),
        F::ToTime => moment(text("toTime")?, Moment::time),
        F::Abs => match &value {
            Value::Integer(number) => Some(Value::Integer(number.checked_abs().ok_or(Unanswered::Overflow)?)),
            Value::Decimal(number) => Some(Value::Decimal(number.abs())),
            Value::Bool(_) | Value::Text(_) | Value::Moment(..) => return Err(Unanswered::NoFunction("abs", value.kind())),
        },
        F::Ceiling => Some(whole(number("ceiling")?.ceil())?),
        F::Floor => Some(whole(number("floor")?.floor())?),
        F::Truncate => Some(whole(number("truncate")?.trunc())?),
        F::Round => {
            let places = count(0)?.and_then(|places| u32::try_from(places).ok()).unwrap_or(0);
            let rounded = number("round")?.round_dp_with_strategy(places, RoundingStrategy::MidpointNearestEven);
            Some(Value::Decimal(rounded))
        }
    })
}

fn with<'t>(text: &str, other: Option<Cow<'_, str>>, is_so: fn(&str, &str) -> bool) -> Option<Value<'t>> {
    other.map(|other| Value::Bool(is_so(text, &other)))
}

fn moment<'t>(text: &str, read: fn(&str) -> Option<Moment>) -> Option<Value<'t>> {
    read(text).map(|moment| Value::Moment(moment, text.to_owned().into()))
}
