//! Comparisons whose result is the same for each resource.

use super::ConstantResult;
use crate::deid::fhirpath::{ArithmeticOperator, Expr, Function, Operator, Value, ValueFunction};

/// Returns the result of an operator that is not a logical one, as far as it does not depend on a resource.
pub(super) fn comparison_result(operator: Operator, left: &Expr, right: &Expr) -> ConstantResult {
    if is_comparison(operator) && (has_no_value(left) || has_no_value(right)) {
        return ConstantResult::Unknown;
    }
    // FHIR has no empty texts.
    let is_equality = matches!(operator, Operator::Equal | Operator::Equivalent);
    let is_empty_element = |element: &Expr, text: &Expr| is_element(element) && is_empty_text(text);
    if is_equality && (is_empty_element(left, right) || is_empty_element(right, left)) {
        return ConstantResult::NeverTrue;
    }
    let results = [(left, right, operator), (right, left, mirrored(operator))];
    results
        .into_iter()
        .map(|(count, number, operator)| count_result(count, operator, number))
        .find(is_known)
        .unwrap_or(ConstantResult::Varies)
}

/// Returns true unless a result depends on the resource.
fn is_known(result: &ConstantResult) -> bool {
    *result != ConstantResult::Varies
}

/// Returns true for an operator that has no result if an operand has none.
fn is_comparison(operator: Operator) -> bool {
    match operator {
        Operator::Equal | Operator::NotEqual | Operator::Less | Operator::LessOrEqual | Operator::Greater | Operator::GreaterOrEqual => {
            true
        }
        Operator::Logic(_)
        | Operator::In
        | Operator::Contains
        | Operator::Equivalent
        | Operator::NotEquivalent
        | Operator::Union
        | Operator::Concatenate
        | Operator::Arithmetic(_) => false,
    }
}

/// Returns true for an expression without a value: the empty collection, and a division by zero.
fn has_no_value(expr: &Expr) -> bool {
    match expr {
        Expr::Empty => true,
        Expr::Negate(operand) => has_no_value(operand),
        Expr::Binary(Operator::Arithmetic(operator), left, right) => {
            let divides = matches!(operator, ArithmeticOperator::Divide | ArithmeticOperator::Div | ArithmeticOperator::Mod);
            (divides && is_zero(right)) || has_no_value(left) || has_no_value(right)
        }
        Expr::This
        | Expr::Index
        | Expr::Total
        | Expr::Resource
        | Expr::RootResource
        | Expr::Literal(_)
        | Expr::Member(..)
        | Expr::Call(..)
        | Expr::Indexer(..)
        | Expr::Is(..)
        | Expr::OfType(..)
        | Expr::Binary(..) => false,
    }
}

/// Returns true for the literal 0.
fn is_zero(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(Value::Integer(number)) => *number == 0,
        Expr::Literal(Value::Decimal(number)) => number.is_zero(),
        Expr::Negate(operand) => is_zero(operand),
        Expr::This
        | Expr::Index
        | Expr::Total
        | Expr::Resource
        | Expr::RootResource
        | Expr::Empty
        | Expr::Literal(_)
        | Expr::Member(..)
        | Expr::Call(..)
        | Expr::Indexer(..)
        | Expr::Is(..)
        | Expr::OfType(..)
        | Expr::Binary(..) => false,
    }
}

/// Returns true for a path to an element.
fn is_element(expr: &Expr) -> bool {
    matches!(expr, Expr::Member(..) | Expr::This)
}

/// Returns true for the literal `''`.
fn is_empty_text(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(Value::String(text)) if text.is_empty())
}

/// Returns the operator for exchanged operands.
fn mirrored(operator: Operator) -> Operator {
    match operator {
        Operator::Less => Operator::Greater,
        Operator::LessOrEqual => Operator::GreaterOrEqual,
        Operator::Greater => Operator::Less,
        Operator::GreaterOrEqual => Operator::LessOrEqual,
        Operator::In => Operator::Contains,
        Operator::Contains => Operator::In,
        Operator::Logic(_)
        | Operator::Equal
        | Operator::NotEqual
        | Operator::Equivalent
        | Operator::NotEquivalent
        | Operator::Union
        | Operator::Concatenate
        | Operator::Arithmetic(_) => operator,
    }
}

/// Returns the result of the comparison of a count, an index or a length, none of which is negative, with a number.
fn count_result(count: &Expr, operator: Operator, number: &Expr) -> ConstantResult {
    let Some(number) = integer(number) else { return ConstantResult::Varies };
    let is_length = matches!(count, Expr::Call(_, Function::OnValue(ValueFunction::Length), _));
    let is_count = matches!(count, Expr::Index | Expr::Call(_, Function::Count, _));
    let result = match operator {
        Operator::Less if number <= 0 => ConstantResult::False,
        Operator::GreaterOrEqual if number <= 0 => ConstantResult::True,
        Operator::LessOrEqual | Operator::Equal | Operator::Equivalent if number < 0 => ConstantResult::False,
        Operator::Greater | Operator::NotEqual | Operator::NotEquivalent if number < 0 => ConstantResult::True,
        Operator::Less
        | Operator::LessOrEqual
        | Operator::Greater
        | Operator::GreaterOrEqual
        | Operator::Equal
        | Operator::NotEqual
        | Operator::Equivalent
        | Operator::NotEquivalent
        | Operator::Logic(_)
        | Operator::In
        | Operator::Contains
        | Operator::Union
        | Operator::Concatenate
        | Operator::Arithmetic(_) => ConstantResult::Varies,
    };
    if is_count {
        return result;
    }
    // A missing text has no length.
    if is_length && result == ConstantResult::False { ConstantResult::NeverTrue } else { ConstantResult::Varies }
}

/// Returns the value of an integer literal, also of a negative one.
pub(in crate::deid::tools::lint) fn integer(expr: &Expr) -> Option<i64> {
    if let Expr::Literal(Value::Integer(number)) = expr {
        return Some(*number);
    }
    let Expr::Negate(operand) = expr else { return None };
    integer(operand)?.checked_neg()
}
