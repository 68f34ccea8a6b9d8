//! Evaluates expressions for a resource or a single value.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::HashSet;

use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use time::Date;

use super::{ArithmeticOperator, EvaluationError, Expr, Operator, Value, is_type_name};
use crate::deid::element_tree::{ElementTree, NodeId};
use crate::json::JsonValue;

mod call;

/// The data that an expression can use.
#[derive(Clone, Copy)]
pub(in crate::deid) struct EvaluationContext<'t> {
    /// The elements that paths navigate; `None` if there is only a single value.
    pub(in crate::deid) tree: Option<&'t ElementTree<'t>>,
    /// The date that `today()` returns: that of the export's `transactionTime`.
    pub(in crate::deid) today: Date,
}

/// An item of a collection: an element or a value.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::deid) enum CollectionItem<'t> {
    Node(NodeId),
    Value(Value<'t>),
}

/// The result of every expression: any number of items in order.
pub(in crate::deid) type Collection<'t> = Vec<CollectionItem<'t>>;

type EvalResult<T> = Result<T, EvaluationError>;

/// Returns the elements that an expression selects, starting at `root`.
pub(in crate::deid) fn select_nodes<'t>(context: EvaluationContext<'t>, expr: &'t Expr, root: NodeId) -> EvalResult<Vec<NodeId>> {
    let items = Evaluator { context, this: &CollectionItem::Node(root), index: 0 }.evaluate(expr)?;
    let node = |item| match item {
        CollectionItem::Node(node) => Some(node),
        CollectionItem::Value(_) => None,
    };
    Ok(items.into_iter().filter_map(node).collect())
}

/// Returns true if a condition is true or unknown for a value.
pub(in crate::deid) fn is_not_false<'t>(
    context: EvaluationContext<'t>,
    condition: &'t Expr,
    this: &CollectionItem<'t>,
) -> EvalResult<bool> {
    let evaluator = Evaluator { context, this, index: 0 };
    Ok(evaluator.as_boolean(&evaluator.evaluate(condition)?).unwrap_or(true))
}

/// Returns the single value of an expression, or `None` if it yields nothing. Fails if it yields several items.
pub(in crate::deid) fn evaluate_single<'t>(
    context: EvaluationContext<'t>,
    expr: &'t Expr,
    this: &CollectionItem<'t>,
) -> EvalResult<Option<Value<'t>>> {
    let evaluator = Evaluator { context, this, index: 0 };
    let items = evaluator.evaluate(expr)?;
    evaluator.single(&items)
}

/// An evaluator with the current `$this` and `$index`.
#[derive(Clone, Copy)]
struct Evaluator<'s, 't> {
    context: EvaluationContext<'t>,
    this: &'s CollectionItem<'t>,
    index: usize,
}

impl<'t> Evaluator<'_, 't> {
    /// Evaluates an expression.
    fn evaluate(&self, expr: &'t Expr) -> EvalResult<Collection<'t>> {
        Ok(match expr {
            Expr::This => vec![self.this.clone()],
            Expr::Index => vec![integer_item(self.index)],
            Expr::Empty => Vec::new(),
            Expr::Literal(value) => vec![CollectionItem::Value(value.clone())],
            Expr::Member(focus, name) if is_type_name(name) => self.of_type(focus, name)?,
            Expr::Member(focus, name) => {
                let items = self.evaluate(focus)?;
                self.matching_children(&items, |tree, child| tree.element(child) == &**name)
            }
            Expr::Call(focus, function, arguments) => self.call(self.evaluate(focus)?, function, arguments)?,
            Expr::Indexer(focus, index) => {
                let index = self.non_negative_integer(index)?;
                self.evaluate(focus)?.into_iter().skip(index).take(1).collect()
            }
            Expr::Is(focus, type_name) => match self.evaluate(focus)?.as_slice() {
                [] => Vec::new(),
                [item] => boolean(self.is_a(item, type_name)),
                _ => return Err(EvaluationError::MultipleValues),
            },
            Expr::OfType(focus, type_name) => self.of_type(focus, type_name)?,
            Expr::Negate(operand) => match self.single(&self.evaluate(operand)?)? {
                None => Vec::new(),
                Some(Value::Integer(value)) => {
                    vec![CollectionItem::Value(Value::Integer(value.checked_neg().ok_or(EvaluationError::Overflow)?))]
                }
                Some(Value::Decimal(value)) => vec![CollectionItem::Value(Value::Decimal(-value))],
                Some(value @ (Value::Boolean(_) | Value::String(_) | Value::DateTime(..))) => {
                    return Err(EvaluationError::NotNegatable(value.type_description()));
                }
            },
            Expr::Binary(operator, left, right) => self.binary(*operator, left, right)?,
        })
    }

    /// Evaluates a binary operator. An unknown result is an empty collection.
    fn binary(&self, operator: Operator, left: &'t Expr, right: &'t Expr) -> EvalResult<Collection<'t>> {
        let (left, right) = (self.evaluate(left)?, self.evaluate(right)?);
        let logic = |decide: fn(Option<bool>, Option<bool>) -> Option<bool>| -> EvalResult<Collection<'t>> {
            Ok(decide(self.as_boolean(&left), self.as_boolean(&right)).map(boolean).unwrap_or_default())
        };
        match operator {
            Operator::And => logic(three_valued_and),
            Operator::Or => logic(|left, right| three_valued_and(left.map(|left| !left), right.map(|right| !right)).map(|both| !both)),
            Operator::Xor => logic(|left, right| Some(left? != right?)),
            Operator::Implies => logic(|left, right| three_valued_and(left, right.map(|right| !right)).map(|is_violated| !is_violated)),
            Operator::In => Ok(self.membership(&left, &right)?.map(boolean).unwrap_or_default()),
            Operator::Contains => Ok(self.membership(&right, &left)?.map(boolean).unwrap_or_default()),
            Operator::Equal => Ok(self.equal(&left, &right).map(boolean).unwrap_or_default()),
            Operator::NotEqual => Ok(self.equal(&left, &right).map(|equal| boolean(!equal)).unwrap_or_default()),
            Operator::Equivalent => Ok(boolean(self.equivalent(&left, &right))),
            Operator::NotEquivalent => Ok(boolean(!self.equivalent(&left, &right))),
            Operator::Less => self.compare(&left, &right, Ordering::is_lt),
            Operator::LessOrEqual => self.compare(&left, &right, Ordering::is_le),
            Operator::Greater => self.compare(&left, &right, Ordering::is_gt),
            Operator::GreaterOrEqual => self.compare(&left, &right, Ordering::is_ge),
            Operator::Union => Ok(self.distinct(left.into_iter().chain(right))),
            Operator::Concatenate => {
                let text = |items: &Collection<'t>| Ok(self.single(items)?.map(Value::into_text).unwrap_or_default());
                Ok(vec![CollectionItem::Value(Value::String((text(&left)? + text(&right)?).into_owned().into()))])
            }
            Operator::Arithmetic(operator) => {
                let (Some(left), Some(right)) = (self.single(&left)?, self.single(&right)?) else { return Ok(Vec::new()) };
                Ok(arithmetic(operator, &left, &right)?.map(CollectionItem::Value).into_iter().collect())
            }
        }
    }

    /// Returns the children of the items for which `predicate` is true.
    fn matching_children(&self, items: &[CollectionItem<'t>], predicate: impl Fn(&ElementTree<'t>, NodeId) -> bool) -> Collection<'t> {
        let Some(tree) = self.context.tree else { return Vec::new() };
        let nodes = items.iter().filter_map(|item| match item {
            CollectionItem::Node(node) => Some(*node),
            CollectionItem::Value(_) => None,
        });
        nodes.flat_map(|node| tree.children(node)).filter(|child| predicate(tree, *child)).map(CollectionItem::Node).collect()
    }

    /// Evaluates `focus` and keeps the items of a type.
    fn of_type(&self, focus: &'t Expr, type_name: &str) -> EvalResult<Collection<'t>> {
        let mut items = self.evaluate(focus)?;
        items.retain(|item| self.is_a(item, type_name));
        Ok(items)
    }

    /// Returns true if the item has the given type.
    fn is_a(&self, item: &CollectionItem<'t>, type_name: &str) -> bool {
        match (item, self.context.tree) {
            (CollectionItem::Node(node), Some(tree)) => tree.is_a(*node, type_name),
            (CollectionItem::Node(_), None) => false,
            (CollectionItem::Value(value), _) => match value {
                Value::Boolean(_) => matches!(type_name, "Boolean" | "boolean"),
                Value::Integer(_) => matches!(type_name, "Integer" | "integer"),
                Value::Decimal(_) => matches!(type_name, "Decimal" | "decimal"),
                Value::String(_) => matches!(type_name, "String" | "string"),
                Value::DateTime(..) => matches!(type_name, "Date" | "DateTime" | "Time" | "date" | "dateTime" | "time"),
            },
        }
    }

    /// Returns the value of an item. Complex elements and elements that an earlier rule has emptied have none.
    fn value(&self, item: &CollectionItem<'t>) -> Option<Value<'t>> {
        match item {
            CollectionItem::Node(node) => node_value(self.context.tree?, *node),
            CollectionItem::Value(value) => Some(value.clone()),
        }
    }

    /// Returns the value of a single item, or `None` for an empty collection. Fails for several items.
    fn single(&self, items: &[CollectionItem<'t>]) -> EvalResult<Option<Value<'t>>> {
        match items {
            [] => Ok(None),
            [item] => Ok(self.value(item)),
            _ => Err(EvaluationError::MultipleValues),
        }
    }

    /// Converts a collection to a condition: a single boolean is itself, an empty collection is unknown, everything else is true.
    fn as_boolean(&self, items: &[CollectionItem<'t>]) -> Option<bool> {
        match items {
            [] => None,
            [item] => Some(self.value(item) != Some(Value::Boolean(false))),
            _ => Some(true),
        }
    }

    /// Returns true if the expression is true for an item, and false if it is false or unknown.
    fn is_true(&self, expr: &'t Expr, this: &CollectionItem<'t>, index: usize) -> EvalResult<bool> {
        let inner = Evaluator { this, index, ..*self };
        Ok(inner.as_boolean(&inner.evaluate(expr)?) == Some(true))
    }

    /// Evaluates an index or a number of items. Negative integers count as 0.
    fn non_negative_integer(&self, expr: &'t Expr) -> EvalResult<usize> {
        match self.single(&self.evaluate(expr)?)? {
            Some(Value::Integer(count)) => Ok(usize::try_from(count).unwrap_or(0)),
            Some(value @ (Value::Boolean(_) | Value::Decimal(_) | Value::String(_) | Value::DateTime(..))) => {
                Err(EvaluationError::NotAnInteger(value.type_description()))
            }
            None => Err(EvaluationError::NoValue),
        }
    }

    /// Evaluates `=`; `None` if an operand is empty or the result is unknown.
    fn equal(&self, left: &[CollectionItem<'t>], right: &[CollectionItem<'t>]) -> Option<bool> {
        if left.is_empty() || right.is_empty() { None } else { self.all_equal(left, right) }
    }

    /// Compares two collections item by item. The first pair that is not equal determines the result.
    fn all_equal(&self, left: &[CollectionItem<'t>], right: &[CollectionItem<'t>]) -> Option<bool> {
        if left.len() != right.len() {
            return Some(false);
        }
        let mut pairs = left.iter().zip(right).map(|(left, right)| self.items_equal(left, right));
        pairs.find(|equal| *equal != Some(true)).unwrap_or(Some(true))
    }

    /// Compares two items; `None` if two dates have different precision. Elements without values are equal if their children are.
    fn items_equal(&self, left: &CollectionItem<'t>, right: &CollectionItem<'t>) -> Option<bool> {
        if let (CollectionItem::Node(left), CollectionItem::Node(right)) = (left, right)
            && left == right
        {
            return Some(true);
        }
        match (self.value(left), self.value(right)) {
            (Some(Value::DateTime(left, _)), Some(Value::DateTime(right, _))) if left.is_comparable_with(&right) => {
                Some(left.compare(&right)?.is_eq())
            }
            (Some(Value::String(left)), Some(Value::String(right))) => Some(left == right),
            (Some(Value::Boolean(left)), Some(Value::Boolean(right))) => Some(left == right),
            (Some(left), Some(right)) => Some(left.as_decimal().zip(right.as_decimal()).is_some_and(|(left, right)| left == right)),
            (None, None) => self.members_equal(left, right),
            (Some(_), None) | (None, Some(_)) => Some(false),
        }
    }

    /// Compares the children of two elements by their names and contents.
    fn members_equal(&self, left: &CollectionItem<'t>, right: &CollectionItem<'t>) -> Option<bool> {
        let members = |item: &CollectionItem<'t>| self.matching_children(std::slice::from_ref(item), |_, _| true);
        let name = |item: &CollectionItem<'t>| match item {
            CollectionItem::Node(node) => self.element(*node),
            CollectionItem::Value(_) => "",
        };
        let (left, right) = (members(left), members(right));
        if left.iter().map(name).eq(right.iter().map(name)) { self.all_equal(&left, &right) } else { Some(false) }
    }

    /// Evaluates `~`: ignores the case of strings and is never unknown.
    fn equivalent(&self, left: &[CollectionItem<'t>], right: &[CollectionItem<'t>]) -> bool {
        let items_equivalent = |left: &CollectionItem<'t>, right: &CollectionItem<'t>| match (self.value(left), self.value(right)) {
            (Some(Value::String(left)), Some(Value::String(right))) => left.to_lowercase() == right.to_lowercase(),
            _ => self.items_equal(left, right) == Some(true),
        };
        left.len() == right.len() && left.iter().zip(right).all(|(left, right)| items_equivalent(left, right))
    }

    /// Evaluates `in`; `None` if the left operand is empty.
    fn membership(&self, item: &[CollectionItem<'t>], items: &[CollectionItem<'t>]) -> EvalResult<Option<bool>> {
        match item {
            [] => Ok(None),
            [item] => Ok(Some(items.iter().any(|other| self.items_equal(item, other) == Some(true)))),
            _ => Err(EvaluationError::MultipleValues),
        }
    }

    /// Removes duplicates. Elements are duplicates only if they are the same element, so that rules select all equal elements.
    fn distinct(&self, items: impl Iterator<Item = CollectionItem<'t>>) -> Collection<'t> {
        let mut nodes = HashSet::new();
        let mut distinct = Collection::new();
        for item in items {
            let is_new = match &item {
                CollectionItem::Node(node) => nodes.insert(*node),
                CollectionItem::Value(_) => !distinct.iter().any(|other| self.items_equal(&item, other) == Some(true)),
            };
            if is_new {
                distinct.push(item);
            }
        }
        distinct
    }

    /// Evaluates an ordering operator; the result is empty if an operand is empty or the order is unknown.
    fn compare(
        &self,
        left: &[CollectionItem<'t>],
        right: &[CollectionItem<'t>],
        predicate: fn(Ordering) -> bool,
    ) -> EvalResult<Collection<'t>> {
        let (Some(left), Some(right)) = (self.single(left)?, self.single(right)?) else { return Ok(Vec::new()) };
        let order = match (&left, &right) {
            (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
            (Value::DateTime(left, _), Value::DateTime(right, _)) if left.is_comparable_with(right) => left.compare(right),
            _ => match left.as_decimal().zip(right.as_decimal()) {
                Some((left, right)) => Some(left.cmp(&right)),
                None => return Err(EvaluationError::Incomparable(left.type_description(), right.type_description())),
            },
        };
        Ok(order.map(|order| boolean(predicate(order))).unwrap_or_default())
    }
}

/// Returns the value of an element without leading and trailing whitespace.
fn node_value<'t>(tree: &'t ElementTree<'t>, id: NodeId) -> Option<Value<'t>> {
    let json = JsonValue::from_valid(tree.node(id)?.value.as_deref()?);
    let text = match json.primitive_text() {
        Cow::Borrowed(text) => Cow::Borrowed(text.trim()),
        Cow::Owned(text) => Cow::Owned(text.trim().to_owned()),
    };
    Some(Value::from_primitive(tree.type_name(id), text))
}

/// Returns a collection with a boolean.
fn boolean<'t>(value: bool) -> Collection<'t> {
    vec![CollectionItem::Value(Value::Boolean(value))]
}

/// Returns an integer item.
fn integer_item<'t>(value: usize) -> CollectionItem<'t> {
    CollectionItem::Value(Value::Integer(i64::try_from(value).unwrap_or(i64::MAX)))
}

/// Evaluates `and` with three-valued logic: false if either operand is false, even if the other is unknown.
fn three_valued_and(left: Option<bool>, right: Option<bool>) -> Option<bool> {
    match (left, right) {
        (Some(false), _) | (_, Some(false)) => Some(false),
        (Some(true), Some(true)) => Some(true),
        (Some(true) | None, None) | (None, Some(true)) => None,
    }
}

/// Evaluates an arithmetic operator; `None` for a division by zero. `+` also concatenates strings.
fn arithmetic<'t>(operator: ArithmeticOperator, left: &Value<'t>, right: &Value<'t>) -> EvalResult<Option<Value<'t>>> {
    if let (ArithmeticOperator::Add, Value::String(left), Value::String(right)) = (operator, left, right) {
        return Ok(Some(Value::String(format!("{left}{right}").into())));
    }
    let no_operator = |symbol| Err(EvaluationError::NoOperator(symbol, left.type_description(), right.type_description()));
    let numbers = left.as_decimal().zip(right.as_decimal());
    let are_integers = matches!((left, right), (Value::Integer(_), Value::Integer(_)));
    let (symbol, is_integer, compute): (_, _, fn(Decimal, Decimal) -> Option<Decimal>) = match operator {
        ArithmeticOperator::Add => ("+", are_integers, Decimal::checked_add),
        ArithmeticOperator::Subtract => ("-", are_integers, Decimal::checked_sub),
        ArithmeticOperator::Multiply => ("*", are_integers, Decimal::checked_mul),
        ArithmeticOperator::Divide => ("/", false, Decimal::checked_div),
        ArithmeticOperator::Div => ("div", true, |left, right| left.checked_div(right).map(|number| number.trunc())),
        ArithmeticOperator::Mod => ("mod", are_integers, Decimal::checked_rem),
    };
    let Some((left_number, right_number)) = numbers else { return no_operator(symbol) };
    let divides = matches!(operator, ArithmeticOperator::Divide | ArithmeticOperator::Div | ArithmeticOperator::Mod);
    if divides && right_number.is_zero() {
        return Ok(None);
    }
    let number = compute(left_number, right_number).ok_or(EvaluationError::Overflow)?;
    Ok(Some(if is_integer { to_integer(number)? } else { Value::Decimal(number.normalize()) }))
}

/// Converts a number without a fraction to an integer.
fn to_integer<'t>(number: Decimal) -> EvalResult<Value<'t>> {
    number.to_i64().map(Value::Integer).ok_or(EvaluationError::Overflow)
}
