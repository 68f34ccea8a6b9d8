//! What an expression yields.

use std::cmp::Ordering;
use std::collections::HashSet;

use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use time::Date;

use super::{Arithmetic, Expr, Operator, Unanswered, Value, is_type};
use crate::deid::tree::{NodeId, Tree};

mod call;

/// What an expression looks at.
#[derive(Clone, Copy)]
pub(in crate::deid) struct Scene<'t> {
    /// The elements that paths lead to; `None` where there is only one value.
    pub(in crate::deid) tree: Option<&'t Tree<'t>>,
    /// The day on which the export stands.
    pub(in crate::deid) today: Date,
}

/// An element or a value.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::deid) enum Item<'t> {
    Node(NodeId),
    Value(Value<'t>),
}

/// What every expression yields: any number of items in order.
pub(in crate::deid) type Collection<'t> = Vec<Item<'t>>;

type Answer<T> = Result<T, Unanswered>;

/// The elements that `expr` selects from `root` on.
pub(in crate::deid) fn select_nodes<'t>(scene: Scene<'t>, expr: &'t Expr, root: NodeId) -> Answer<Vec<NodeId>> {
    let found = Scope { scene, this: &Item::Node(root), position: 0 }.evaluate(expr)?;
    let node = |item| match item {
        Item::Node(node) => Some(node),
        Item::Value(_) => None,
    };
    Ok(found.into_iter().filter_map(node).collect())
}

/// Whether `predicate` holds for a value. What cannot be decided holds as well: a predicate is refuted only by `false`.
pub(in crate::deid) fn holds<'t>(scene: Scene<'t>, predicate: &'t Expr, this: &Item<'t>) -> Answer<bool> {
    let scope = Scope { scene, this, position: 0 };
    Ok(scope.truth(&scope.evaluate(predicate)?).unwrap_or(true))
}

/// The one value that `expr` yields, or none.
pub(in crate::deid) fn single_value<'t>(scene: Scene<'t>, expr: &'t Expr, this: &Item<'t>) -> Answer<Option<Value<'t>>> {
    let scope = Scope { scene, this, position: 0 };
    let found = scope.evaluate(expr)?;
    scope.single(&found)
}

/// The surroundings of an expression.
#[derive(Clone, Copy)]
struct Scope<'s, 't> {
    scene: Scene<'t>,
    this: &'s Item<'t>,
    position: usize,
}

impl<'t> Scope<'_, 't> {
    fn evaluate(&self, expr: &'t Expr) -> Answer<Collection<'t>> {
        Ok(match expr {
            Expr::This => vec![self.this.clone()],
            Expr::Position => vec![integer(self.position)],
            Expr::Nothing => Vec::new(),
            Expr::Literal(value) => vec![Item::Value(value.clone())],
            Expr::Member(focus, name) if is_type(name) => self.of_type(focus, name)?,
            Expr::Member(focus, name) => {
                let items = self.evaluate(focus)?;
                self.below(&items, |tree, child| tree.element(child) == &**name)
            }
            Expr::Call(focus, function, arguments) => self.call(self.evaluate(focus)?, function, arguments)?,
            Expr::At(focus, place) => {
                let place = self.count(place)?;
                self.evaluate(focus)?.into_iter().skip(place).take(1).collect()
            }
            Expr::Is(focus, type_name) => match self.evaluate(focus)?.as_slice() {
                [] => Vec::new(),
                [item] => truth(self.is_a(item, type_name)),
                _ => return Err(Unanswered::Several),
            },
            Expr::OfType(focus, type_name) => self.of_type(focus, type_name)?,
            Expr::Minus(operand) => match self.single(&self.evaluate(operand)?)? {
                None => Vec::new(),
                Some(Value::Integer(value)) => vec![Item::Value(Value::Integer(value.checked_neg().ok_or(Unanswered::Overflow)?))],
                Some(Value::Decimal(value)) => vec![Item::Value(Value::Decimal(-value))],
                Some(value @ (Value::Bool(_) | Value::Text(_) | Value::Moment(..))) => {
                    return Err(Unanswered::NoOperator("-", "nothing", value.kind()));
                }
            },
            Expr::Binary(operator, left, right) => self.binary(*operator, left, right)?,
        })
    }

    fn binary(&self, operator: Operator, left: &'t Expr, right: &'t Expr) -> Answer<Collection<'t>> {
        let (left, right) = (self.evaluate(left)?, self.evaluate(right)?);
        let logic = |decide: fn(Option<bool>, Option<bool>) -> Option<bool>| -> Answer<Collection<'t>> {
            Ok(decide(self.truth(&left), self.truth(&right)).map(truth).unwrap_or_default())
        };
        match operator {
            Operator::And => logic(and),
            Operator::Or => logic(|left, right| and(left.map(|left| !left), right.map(|right| !right)).map(|both| !both)),
            Operator::Xor => logic(|left, right| Some(left? != right?)),
            Operator::Implies => logic(|left, right| and(left, right.map(|right| !right)).map(|broken| !broken)),
            Operator::In => Ok(self.is_among(&left, &right)?.map(truth).unwrap_or_default()),
            Operator::Contains => Ok(self.is_among(&right, &left)?.map(truth).unwrap_or_default()),
            Operator::Equal => Ok(self.equal(&left, &right).map(truth).unwrap_or_default()),
            Operator::NotEqual => Ok(self.equal(&left, &right).map(|equal| truth(!equal)).unwrap_or_default()),
            Operator::Equivalent => Ok(truth(self.equivalent(&left, &right))),
            Operator::NotEquivalent => Ok(truth(!self.equivalent(&left, &right))),
            Operator::Less => self.ordered(&left, &right, Ordering::is_lt),
            Operator::LessOrEqual => self.ordered(&left, &right, Ordering::is_le),
            Operator::Greater => self.ordered(&left, &right, Ordering::is_gt),
            Operator::GreaterOrEqual => self.ordered(&left, &right, Ordering::is_ge),
            Operator::Union => Ok(self.distinct(left.into_iter().chain(right))),
            Operator::Concatenate => {
                let text = |items: &Collection<'t>| Ok(self.single(items)?.map(Value::text).unwrap_or_default());
                Ok(vec![Item::Value(Value::Text((text(&left)? + text(&right)?).into_owned().into()))])
            }
            Operator::Of(operator) => {
                let (Some(left), Some(right)) = (self.single(&left)?, self.single(&right)?) else { return Ok(Vec::new()) };
                Ok(arithmetic(operator, &left, &right)?.map(Item::Value).into_iter().collect())
            }
        }
    }

    /// The children of `items` for which `is_so`.
    fn below(&self, items: &[Item<'t>], is_so: impl Fn(&Tree<'t>, NodeId) -> bool) -> Collection<'t> {
        let Some(tree) = self.scene.tree else { return Vec::new() };
        let nodes = items.iter().filter_map(|item| match item {
            Item::Node(node) => Some(*node),
            Item::Value(_) => None,
        });
        nodes.flat_map(|node| tree.children(node)).filter(|child| is_so(tree, *child)).map(Item::Node).collect()
    }

    fn of_type(&self, focus: &'t Expr, type_name: &str) -> Answer<Collection<'t>> {
        let mut items = self.evaluate(focus)?;
        items.retain(|item| self.is_a(item, type_name));
        Ok(items)
    }

    fn is_a(&self, item: &Item<'t>, type_name: &str) -> bool {
        match (item, self.scene.tree) {
            (Item::Node(node), Some(tree)) => tree.is_a(*node, type_name),
            (Item::Node(_), None) => false,
            (Item::Value(value), _) => match value {
                Value::Bool(_) => matches!(type_name, "Boolean" | "boolean"),
                Value::Integer(_) => matches!(type_name, "Integer" | "integer"),
                Value::Decimal(_) => matches!(type_name, "Decimal" | "decimal"),
                Value::Text(_) => matches!(type_name, "String" | "string"),
                Value::Moment(..) => matches!(type_name, "Date" | "DateTime" | "Time" | "date" | "dateTime" | "time"),
            },
        }
    }

    /// What an item holds. A complex element holds none; nor does one that an earlier rule has emptied.
    fn value(&self, item: &Item<'t>) -> Option<Value<'t>> {
        match item {
            Item::Node(node) => self.scene.tree?.value(*node),
            Item::Value(value) => Some(value.clone()),
        }
    }

    /// The one value among items; none among no items.
    fn single(&self, items: &[Item<'t>]) -> Answer<Option<Value<'t>>> {
        match items {
            [] => Ok(None),
            [item] => Ok(self.value(item)),
            _ => Err(Unanswered::Several),
        }
    }

    /// Items as a condition: a single boolean as it is, anything else as true, nothing as unknown.
    fn truth(&self, items: &[Item<'t>]) -> Option<bool> {
        match items {
            [] => None,
            [item] => Some(self.value(item) != Some(Value::Bool(false))),
            _ => Some(true),
        }
    }

    /// Whether `expr` is true of an item; unknown is not true.
    fn is_true(&self, expr: &'t Expr, this: &Item<'t>, position: usize) -> Answer<bool> {
        let within = Scope { this, position, ..*self };
        Ok(within.truth(&within.evaluate(expr)?) == Some(true))
    }

    /// A number of items.
    fn count(&self, expr: &'t Expr) -> Answer<usize> {
        match self.single(&self.evaluate(expr)?)? {
            Some(Value::Integer(count)) => Ok(usize::try_from(count).unwrap_or(0)),
            Some(value @ (Value::Bool(_) | Value::Decimal(_) | Value::Text(_) | Value::Moment(..))) => {
                Err(Unanswered::NoFunction("place", value.kind()))
            }
            None => Err(Unanswered::NoValue),
        }
    }

    fn equal(&self, left: &[Item<'t>], right: &[Item<'t>]) -> Option<bool> {
        if left.is_empty() || right.is_empty() { None } else { self.all_equal(left, right) }
    }

    /// Item by item; the first that is not equal decides.
    fn all_equal(&self, left: &[Item<'t>], right: &[Item<'t>]) -> Option<bool> {
        if left.len() != right.len() {
            return Some(false);
        }
        let mut pairs = left.iter().zip(right).map(|(left, right)| self.are_equal(left, right));
        pairs.find(|equal| *equal != Some(true)).unwrap_or(Some(true))
    }

    /// Unknown where a date is less precise than the other. Elements without values are equal if all in them is.
    fn are_equal(&self, left: &Item<'t>, right: &Item<'t>) -> Option<bool> {
        if let (Item::Node(left), Item::Node(right)) = (left, right)
            && left == right
        {
            return Some(true);
        }
        match (self.value(left), self.value(right)) {
            (Some(Value::Moment(left, _)), Some(Value::Moment(right, _))) if left.is_like(&right) => Some(left.compare(&right)?.is_eq()),
            (Some(Value::Text(left)), Some(Value::Text(right))) => Some(left == right),
            (Some(Value::Bool(left)), Some(Value::Bool(right))) => Some(left == right),
            (Some(left), Some(right)) => Some(left.number().zip(right.number()).is_some_and(|(left, right)| left == right)),
            (None, None) => self.have_equal_members(left, right),
            (Some(_), None) | (None, Some(_)) => Some(false),
        }
    }

    fn have_equal_members(&self, left: &Item<'t>, right: &Item<'t>) -> Option<bool> {
        let members = |item: &Item<'t>| self.below(std::slice::from_ref(item), |_, _| true);
        let name = |item: &Item<'t>| match item {
            Item::Node(node) => self.element(*node),
            Item::Value(_) => "",
        };
        let (left, right) = (members(left), members(right));
        if left.iter().map(name).eq(right.iter().map(name)) { self.all_equal(&left, &right) } else { Some(false) }
    }

    /// Like equal, whatever the case of letters and however precise, and never unknown.
    fn equivalent(&self, left: &[Item<'t>], right: &[Item<'t>]) -> bool {
        let are_so = |left: &Item<'t>, right: &Item<'t>| match (self.value(left), self.value(right)) {
            (Some(Value::Text(left)), Some(Value::Text(right))) => left.to_lowercase() == right.to_lowercase(),
            _ => self.are_equal(left, right) == Some(true),
        };
        left.len() == right.len() && left.iter().zip(right).all(|(left, right)| are_so(left, right))
    }

    fn is_among(&self, item: &[Item<'t>], items: &[Item<'t>]) -> Answer<Option<bool>> {
        match item {
            [] => Ok(None),
            [item] => Ok(Some(items.iter().any(|other| self.are_equal(item, other) == Some(true)))),
            _ => Err(Unanswered::Several),
        }
    }

    /// Elements once each, whatever they hold: two that hold the same are two. Values once each.
    fn distinct(&self, items: impl Iterator<Item = Item<'t>>) -> Collection<'t> {
        let mut nodes = HashSet::new();
        let mut distinct = Collection::new();
        for item in items {
            let is_new = match &item {
                Item::Node(node) => nodes.insert(*node),
                Item::Value(_) => !distinct.iter().any(|other| self.are_equal(&item, other) == Some(true)),
            };
            if is_new {
                distinct.push(item);
            }
        }
        distinct
    }

    fn ordered(&self, left: &[Item<'t>], right: &[Item<'t>], is_so: fn(Ordering) -> bool) -> Answer<Collection<'t>> {
        let (Some(left), Some(right)) = (self.single(left)?, self.single(right)?) else { return Ok(Vec::new()) };
        let order = match (&left, &right) {
            (Value::Text(left), Value::Text(right)) => Some(left.cmp(right)),
            (Value::Moment(left, _), Value::Moment(right, _)) if left.is_like(right) => left.compare(right),
            _ => match left.number().zip(right.number()) {
                Some((left, right)) => Some(left.cmp(&right)),
                None => return Err(Unanswered::Incomparable(left.kind(), right.kind())),
            },
        };
        Ok(order.map(|order| truth(is_so(order))).unwrap_or_default())
    }
}

fn truth<'t>(value: bool) -> Collection<'t> {
    vec![Item::Value(Value::Bool(value))]
}

fn integer<'t>(value: usize) -> Item<'t> {
    Item::Value(Value::Integer(i64::try_from(value).unwrap_or(i64::MAX)))
}

/// Of three values: what one `false` decides need not be known.
fn and(left: Option<bool>, right: Option<bool>) -> Option<bool> {
    match (left, right) {
        (Some(false), _) | (_, Some(false)) => Some(false),
        (Some(true), Some(true)) => Some(true),
        (Some(true) | None, None) | (None, Some(true)) => None,
    }
}

fn arithmetic<'t>(operator: Arithmetic, left: &Value<'t>, right: &Value<'t>) -> Answer<Option<Value<'t>>> {
    if let (Arithmetic::Plus, Value::Text(left), Value::Text(right)) = (operator, left, right) {
        return Ok(Some(Value::Text(format!("{left}{right}").into())));
    }
    let refused = |sign| Err(Unanswered::NoOperator(sign, left.kind(), right.kind()));
    let numbers = left.number().zip(right.number());
    let are_integers = matches!((left, right), (Value::Integer(_), Value::Integer(_)));
    let (sign, is_integer, compute): (_, _, fn(Decimal, Decimal) -> Option<Decimal>) = match operator {
        Arithmetic::Plus => ("+", are_integers, Decimal::checked_add),
        Arithmetic::Minus => ("-", are_integers, Decimal::checked_sub),
        Arithmetic::Times => ("*", are_integers, Decimal::checked_mul),
        Arithmetic::DividedBy => ("/", false, Decimal::checked_div),
        Arithmetic::Div => ("div", true, |one, other| one.checked_div(other).map(|number| number.trunc())),
        Arithmetic::Mod => ("mod", are_integers, Decimal::checked_rem),
    };
    let Some((one, other)) = numbers else { return refused(sign) };
    let divides = matches!(operator, Arithmetic::DividedBy | Arithmetic::Div | Arithmetic::Mod);
    if divides && other.is_zero() {
        return Ok(None);
    }
    let number = compute(one, other).ok_or(Unanswered::Overflow)?;
    Ok(Some(if is_integer { whole(number)? } else { Value::Decimal(number.normalize()) }))
}

/// A number without a fraction as an integer.
fn whole<'t>(number: Decimal) -> Answer<Value<'t>> {
    number.to_i64().map(Value::Integer).ok_or(Unanswered::Overflow)
}
