//! Evaluates expressions for a resource or a single value.

use std::borrow::Cow;
use std::cmp::Ordering;

use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use time::{Date, Time};

use super::compare::compare_values;
use super::date_time::DateTimeKind;
use super::quantity::Quantity;
use super::{ArithmeticOperator, EvaluationError, Expr, LogicOperator, Operator, PartialDateTime, Value, is_type_name};
use crate::deid::element_tree::{ElementTree, NodeId};
use crate::json::JsonValue;

mod call;
mod equality;
mod value_function;

/// The data that an expression can use.
#[derive(Clone, Copy)]
pub(in crate::deid) struct EvaluationContext<'t> {
    /// The elements that paths navigate; `None` if there is only a single value.
    pub(in crate::deid) tree: Option<&'t ElementTree<'t>>,
    /// The resource that is evaluated: `%resource`. `None` if there is only a single value.
    pub(in crate::deid) resource: Option<NodeId>,
    pub(in crate::deid) clock: EvaluationClock,
}

/// The time of `today()`, `now()` and `timeOfDay()`: the export's `transactionTime`, in UTC.
#[derive(Clone, Copy, Debug)]
pub(in crate::deid) struct EvaluationClock {
    pub(in crate::deid) today: Date,
    pub(in crate::deid) time: Time,
}

/// An item of a collection: an element or a value.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::deid) enum CollectionItem<'t> {
    Node(NodeId),
    Value(Value<'t>),
}

/// The result of every expression: any number of items in order.
pub(in crate::deid) type Collection<'t> = Vec<CollectionItem<'t>>;

/// The result of an evaluation.
type EvalResult<T> = Result<T, EvaluationError>;

/// Returns the elements that an expression selects, starting at `root`.
///
/// Equal elements are selected all, also by `|` and `distinct()`: Microsoft's tool leaves all but the first unchanged.
pub(in crate::deid) fn select_nodes<'t>(context: EvaluationContext<'t>, expr: &'t Expr, root: NodeId) -> EvalResult<Vec<NodeId>> {
    let this = CollectionItem::Node(root);
    let evaluator = Evaluator { selects_elements: true, ..Evaluator::new(context, &this) };
    let node = |item| match item {
        CollectionItem::Node(node) => Some(node),
        CollectionItem::Value(_) => None,
    };
    Ok(evaluator.evaluate(expr)?.into_iter().filter_map(node).collect())
}

/// Returns true if a condition is true or unknown for a value.
pub(in crate::deid) fn is_not_false<'t>(
    context: EvaluationContext<'t>,
    condition: &'t Expr,
    this: &CollectionItem<'t>,
) -> EvalResult<bool> {
    let evaluator = Evaluator::new(context, this);
    Ok(evaluator.as_boolean(&evaluator.evaluate(condition)?).unwrap_or(true))
}

/// Returns the single value of an expression, or `None` if it yields nothing. Fails if it yields several items.
pub(in crate::deid) fn evaluate_single<'t>(
    context: EvaluationContext<'t>,
    expr: &'t Expr,
    this: &CollectionItem<'t>,
) -> EvalResult<Option<Value<'t>>> {
    let evaluator = Evaluator::new(context, this);
    let items = evaluator.evaluate(expr)?;
    evaluator.single(&items)
}

/// Returns the result of an expression without a resource as a condition: an expression that uses no elements. `None` if it is unknown.
pub(in crate::deid) fn evaluate_constant(expr: &Expr, clock: EvaluationClock) -> EvalResult<Option<bool>> {
    let this = CollectionItem::Value(Value::Boolean(true));
    let evaluator = Evaluator::new(EvaluationContext { tree: None, resource: None, clock }, &this);
    let items = evaluator.evaluate(expr)?;
    Ok(evaluator.as_boolean(&items))
}

/// An evaluator with the current `$this`, `$index` and `$total`.
#[derive(Clone, Copy)]
struct Evaluator<'s, 't> {
    context: EvaluationContext<'t>,
    this: &'s CollectionItem<'t>,
    index: usize,
    total: &'s [CollectionItem<'t>],
    /// True if the result is the elements that a rule selects, so that equal elements are not duplicates of each other.
    selects_elements: bool,
}

impl<'s, 't> Evaluator<'s, 't> {
    /// Creates an evaluator of conditions and values.
    fn new(context: EvaluationContext<'t>, this: &'s CollectionItem<'t>) -> Self {
        Self { context, this, index: 0, total: &[], selects_elements: false }
    }

    /// Returns the evaluator of a condition or of an argument that is a value.
    fn for_values(&self) -> Self {
        Self { selects_elements: false, ..*self }
    }

    /// Evaluates an expression.
    fn evaluate(&self, expr: &'t Expr) -> EvalResult<Collection<'t>> {
        Ok(match expr {
            Expr::This => vec![self.this.clone()],
            Expr::Index => vec![integer_item(self.index)],
            Expr::Total => self.total.to_vec(),
            Expr::Resource => self.context.resource.map(CollectionItem::Node).into_iter().collect(),
            Expr::RootResource => self.root_resource().map(CollectionItem::Node).into_iter().collect(),
            Expr::Empty => Vec::new(),
            Expr::Literal(value) => vec![CollectionItem::Value(value.clone())],
            Expr::Member(focus, name) if is_type_name(name) => self.of_type(focus, name)?,
            Expr::Member(focus, name) => {
                let items = self.evaluate(focus)?;
                self.matching_children(&items, |tree, child| tree.element(child) == &**name)
            }
            Expr::Call(focus, function, arguments) => self.call(focus, function, arguments)?,
            Expr::Indexer(focus, index) => {
                let index = self.non_negative_integer(index)?;
                self.for_values().evaluate(focus)?.into_iter().skip(index).take(1).collect()
            }
            Expr::Is(focus, type_name) => match self.for_values().evaluate(focus)?.as_slice() {
                [] => Vec::new(),
                [item] => boolean(self.is_a(item, type_name)),
                _ => return Err(EvaluationError::MultipleValues),
            },
            Expr::OfType(focus, type_name) => self.of_type(focus, type_name)?,
            Expr::Negate(operand) => match self.operand(operand)? {
                None => Vec::new(),
                Some(Value::Integer(value)) => {
                    vec![CollectionItem::Value(Value::Integer(value.checked_neg().ok_or(EvaluationError::Overflow)?))]
                }
                Some(Value::Decimal(value)) => vec![CollectionItem::Value(Value::Decimal(-value))],
                Some(Value::Quantity(quantity)) => {
                    vec![CollectionItem::Value(Value::Quantity(quantity.with_value(-quantity.value)))]
                }
                Some(value @ (Value::Boolean(_) | Value::String(_) | Value::DateTime(..))) => {
                    return Err(EvaluationError::NotNegatable(value.type_description()));
                }
            },
            Expr::Binary(Operator::Union, left, right) => {
                let (left, right) = (self.evaluate(left)?, self.evaluate(right)?);
                self.distinct(left.into_iter().chain(right))
            }
            Expr::Binary(operator, left, right) => self.for_values().binary(*operator, left, right)?,
        })
    }

    /// Evaluates a binary operator that yields a value. An unknown result is an empty collection.
    fn binary(&self, operator: Operator, left: &'t Expr, right: &'t Expr) -> EvalResult<Collection<'t>> {
        match operator {
            Operator::Logic(operator) => return Ok(self.logic(operator, left, right)?.map(boolean).unwrap_or_default()),
            Operator::Less => return self.compare(left, right, Ordering::is_lt),
            Operator::LessOrEqual => return self.compare(left, right, Ordering::is_le),
            Operator::Greater => return self.compare(left, right, Ordering::is_gt),
            Operator::GreaterOrEqual => return self.compare(left, right, Ordering::is_ge),
            Operator::Arithmetic(operator) => {
                let (Some(left), Some(right)) = (self.operand(left)?, self.operand(right)?) else { return Ok(Vec::new()) };
                return Ok(arithmetic(operator, &left, &right)?.map(CollectionItem::Value).into_iter().collect());
            }
            Operator::In
            | Operator::Contains
            | Operator::Equal
            | Operator::NotEqual
            | Operator::Equivalent
            | Operator::NotEquivalent
            | Operator::Union
            | Operator::Concatenate => {}
        }
        let (left, right) = (self.evaluate(left)?, self.evaluate(right)?);
        let known = match operator {
            Operator::In => Some(self.membership(&left, &right)?),
            Operator::Contains => Some(self.membership(&right, &left)?),
            Operator::Equal => self.equal(&left, &right),
            Operator::NotEqual => self.equal(&left, &right).map(|equal| !equal),
            Operator::Equivalent => Some(self.equivalent(&left, &right, false)),
            Operator::NotEquivalent => Some(!self.equivalent(&left, &right, false)),
            Operator::Union => return Ok(self.distinct(left.into_iter().chain(right))),
            Operator::Concatenate => {
                let text = |items: &Collection<'t>| Ok(self.single(items)?.map(Value::into_text).unwrap_or_default());
                return Ok(vec![CollectionItem::Value(Value::String((text(&left)? + text(&right)?).into_owned().into()))]);
            }
            Operator::Logic(_)
            | Operator::Less
            | Operator::LessOrEqual
            | Operator::Greater
            | Operator::GreaterOrEqual
            | Operator::Arithmetic(_) => None,
        };
        Ok(known.map(boolean).unwrap_or_default())
    }

    /// Evaluates a logical operator with three-valued logic. The right operand is not evaluated if the left one decides, so that
    /// `value is integer and value < 5` does not compare a string.
    fn logic(&self, operator: LogicOperator, left: &'t Expr, right: &'t Expr) -> EvalResult<Option<bool>> {
        let left = self.as_boolean(&self.evaluate(left)?);
        let is_decided = match operator {
            LogicOperator::And | LogicOperator::Implies => left == Some(false),
            LogicOperator::Or => left == Some(true),
            LogicOperator::Xor => left.is_none(),
        };
        let right = if is_decided { None } else { self.as_boolean(&self.evaluate(right)?) };
        Ok(match operator {
            LogicOperator::And => three_valued_and(left, right),
            LogicOperator::Or => three_valued_and(left.map(|left| !left), right.map(|right| !right)).map(|both| !both),
            LogicOperator::Implies => three_valued_and(left, right.map(|right| !right)).map(|is_violated| !is_violated),
            LogicOperator::Xor => left.zip(right).map(|(left, right)| left != right),
        })
    }

    /// Returns the resource that contains the evaluated one in `contained`, or else the evaluated resource.
    fn root_resource(&self) -> Option<NodeId> {
        let (tree, resource) = (self.context.tree?, self.context.resource?);
        if tree.element(resource) != "contained" { Some(resource) } else { tree.node(resource)?.parent }
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
            // Values that are not elements have the types of FHIRPath, which are not those of FHIR.
            (CollectionItem::Value(value), _) => match value {
                Value::Boolean(_) => type_name == "Boolean",
                Value::Integer(_) => type_name == "Integer",
                Value::Decimal(_) => type_name == "Decimal",
                Value::String(_) => type_name == "String",
                Value::Quantity(_) => type_name == "Quantity",
                Value::DateTime(date_time, _) => match date_time.kind() {
                    DateTimeKind::Date => type_name == "Date",
                    DateTimeKind::DateTime => type_name == "DateTime",
                    DateTimeKind::Time => type_name == "Time",
                },
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

    /// Returns the value of an item, or the quantity of an element of the type Quantity.
    fn value_or_quantity(&self, item: &CollectionItem<'t>) -> Option<Value<'t>> {
        if let Some(value) = self.value(item) {
            return Some(value);
        }
        let (CollectionItem::Node(node), Some(tree)) = (item, self.context.tree) else { return None };
        if tree.type_name(*node) != "Quantity" {
            return None;
        }
        let child = |name: &str| tree.children(*node).find(|child| tree.element(*child) == name).and_then(|child| node_value(tree, child));
        let number = child("value")?.as_decimal()?;
        Some(Value::Quantity(match child("code") {
            Some(code) => Quantity::new(number, &code.into_text()),
            None => Quantity::unitless(number),
        }))
    }

    /// Evaluates an operand of a comparison or of arithmetic. Fails for several items, and for an element that has members
    /// instead of a value.
    fn operand(&self, expr: &'t Expr) -> EvalResult<Option<Value<'t>>> {
        match self.for_values().evaluate(expr)?.as_slice() {
            [] => Ok(None),
            [item] => match (self.value_or_quantity(item), item) {
                (Some(value), _) => Ok(Some(value)),
                (None, CollectionItem::Node(node)) if self.has_members(*node) => Err(EvaluationError::NoValue),
                (None, CollectionItem::Node(_) | CollectionItem::Value(_)) => Ok(None),
            },
            _ => Err(EvaluationError::MultipleValues),
        }
    }

    /// Returns true for an element whose type is neither primitive nor Quantity.
    fn has_members(&self, node: NodeId) -> bool {
        let type_name = self.type_name(node);
        type_name != "Quantity" && is_type_name(type_name)
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
        Ok(self.condition(expr, this, index)? == Some(true))
    }

    /// Evaluates a condition for an item; `None` if it is unknown.
    fn condition(&self, expr: &'t Expr, this: &CollectionItem<'t>, index: usize) -> EvalResult<Option<bool>> {
        let inner = Evaluator { this, index, selects_elements: false, ..*self };
        Ok(inner.as_boolean(&inner.evaluate(expr)?))
    }

    /// Evaluates an index or a number of items. Negative integers count as 0.
    fn non_negative_integer(&self, expr: &'t Expr) -> EvalResult<usize> {
        match self.operand(expr)? {
            Some(Value::Integer(count)) => Ok(usize::try_from(count).unwrap_or(0)),
            Some(value @ (Value::Boolean(_) | Value::Decimal(_) | Value::String(_) | Value::DateTime(..) | Value::Quantity(_))) => {
                Err(EvaluationError::NotAnInteger(value.type_description()))
            }
            None => Err(EvaluationError::NoValue),
        }
    }

    /// Evaluates an ordering operator; the result is empty if an operand is empty or the order is unknown.
    fn compare(&self, left: &'t Expr, right: &'t Expr, predicate: fn(Ordering) -> bool) -> EvalResult<Collection<'t>> {
        let (Some(left), Some(right)) = (self.operand(left)?, self.operand(right)?) else { return Ok(Vec::new()) };
        Ok(compare_values(&left, &right)?.map(|order| boolean(predicate(order))).unwrap_or_default())
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

/// Evaluates an arithmetic operator; `None` for a division by zero, and for quantities whose units do not fit. `+` also
/// concatenates strings and moves dates.
fn arithmetic<'t>(operator: ArithmeticOperator, left: &Value<'t>, right: &Value<'t>) -> EvalResult<Option<Value<'t>>> {
    let sign = match operator {
        ArithmeticOperator::Add => Some(Decimal::ONE),
        ArithmeticOperator::Subtract => Some(Decimal::NEGATIVE_ONE),
        ArithmeticOperator::Multiply | ArithmeticOperator::Divide | ArithmeticOperator::Div | ArithmeticOperator::Mod => None,
    };
    match (left, right, sign) {
        (Value::String(left), Value::String(right), Some(sign)) if sign == Decimal::ONE => {
            return Ok(Some(Value::String(format!("{left}{right}").into())));
        }
        (Value::DateTime(date, _), Value::Quantity(amount), Some(sign)) => {
            return Ok(Some(Value::from_date_time(date.add(amount, sign)?)));
        }
        (Value::Quantity(left), Value::Quantity(right), Some(sign)) => return Ok(left.add(right, sign).map(Value::Quantity)),
        _ => {}
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
