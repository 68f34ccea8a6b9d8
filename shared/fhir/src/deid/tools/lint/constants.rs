//! Conditions whose result is the same for each resource, and expressions that fail for each.

mod comparisons;

use time::Time;
use time::macros::date;

use crate::deid::fhirpath::{EvaluationClock, EvaluationError, Expr, Function, LogicOperator, Operator, Value, evaluate_constant};
use comparisons::comparison_result;
pub(super) use comparisons::integer;

/// A time for expressions with `today()` and `now()`, of which only the types matter.
const CLOCK: EvaluationClock = EvaluationClock { today: date!(2020 - 01 - 01), time: Time::MIDNIGHT };

/// The result of a condition, as far as it does not depend on a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::deid) enum ConstantResult {
    True,
    False,
    /// The condition never has a result, so that it is never true.
    Unknown,
    /// The condition is false, or has no result where an element is missing.
    NeverTrue,
    Varies,
}

/// Returns the result of a condition. Finds out what is constant by evaluating it, and a few contradictions.
pub(in crate::deid) fn constant_result(condition: &Expr) -> ConstantResult {
    if is_constant(condition, false) {
        return match evaluate_constant(condition, CLOCK) {
            Ok(Some(true)) => ConstantResult::True,
            Ok(Some(false)) => ConstantResult::False,
            Ok(None) => ConstantResult::Unknown,
            // The failure is reported by itself.
            Err(_) => ConstantResult::Varies,
        };
    }
    match condition {
        Expr::Binary(Operator::Logic(LogicOperator::And), ..) if has_contradiction(condition) => ConstantResult::False,
        Expr::Binary(Operator::Logic(operator), left, right) => logic_result(*operator, constant_result(left), constant_result(right)),
        Expr::Binary(operator, left, right) => comparison_result(*operator, left, right),
        Expr::Call(focus, Function::Not, _) => negated(constant_result(focus)),
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
        | Expr::Negate(_) => ConstantResult::Varies,
    }
}

/// Returns true if an expression uses no element of a resource.
///
/// * `allows_clock`: true if `today()` and the like count as constant.
pub(super) fn is_constant(expr: &Expr, allows_clock: bool) -> bool {
    let is_constant = |expr: &Expr| is_constant(expr, allows_clock);
    match expr {
        Expr::Literal(_) | Expr::Empty => true,
        Expr::This | Expr::Index | Expr::Total | Expr::Resource | Expr::RootResource | Expr::Member(..) => false,
        Expr::Call(_, Function::Today | Function::Now | Function::TimeOfDay, _) => allows_clock,
        Expr::Call(focus, _, arguments) => is_constant(focus) && arguments.iter().all(is_constant),
        Expr::Indexer(left, right) | Expr::Binary(_, left, right) => is_constant(left) && is_constant(right),
        Expr::Is(focus, _) | Expr::OfType(focus, _) | Expr::Negate(focus) => is_constant(focus),
    }
}

/// Returns true if a constant expression can be evaluated.
pub(super) fn is_valid_constant(expr: &Expr) -> bool {
    evaluate_constant(expr, CLOCK).is_ok()
}

/// Returns the failure of constant expressions if types make all of them fail.
pub(super) fn type_failure(candidates: impl IntoIterator<Item = Expr>) -> Option<EvaluationError> {
    let mut failure = None;
    for candidate in candidates {
        failure = Some(evaluate_constant(&candidate, CLOCK).err().filter(is_type_error)?);
    }
    failure
}

/// Returns true for a failure that follows from the types of values.
fn is_type_error(error: &EvaluationError) -> bool {
    match error {
        EvaluationError::Incomparable(..)
        | EvaluationError::NoOperator(..)
        | EvaluationError::NotNegatable(_)
        | EvaluationError::NoFunction(..)
        | EvaluationError::NotAnInteger(_)
        | EvaluationError::NotATimeUnit => true,
        EvaluationError::MultipleValues | EvaluationError::Overflow | EvaluationError::NoValue | EvaluationError::EndlessRepetition => {
            false
        }
    }
}

/// Returns the opposite of a result.
fn negated(result: ConstantResult) -> ConstantResult {
    match result {
        ConstantResult::True => ConstantResult::False,
        ConstantResult::False => ConstantResult::True,
        ConstantResult::Unknown => ConstantResult::Unknown,
        ConstantResult::NeverTrue | ConstantResult::Varies => ConstantResult::Varies,
    }
}

/// Returns the result of a logical operator.
fn logic_result(operator: LogicOperator, left: ConstantResult, right: ConstantResult) -> ConstantResult {
    use ConstantResult::{False, NeverTrue, True, Unknown, Varies};
    match operator {
        LogicOperator::And => match (left, right) {
            (False, _) | (_, False) => False,
            (NeverTrue, _) | (_, NeverTrue) => NeverTrue,
            (Varies, _) | (_, Varies) => Varies,
            (True, True) => True,
            (Unknown, _) | (_, Unknown) => Unknown,
        },
        LogicOperator::Or => negated(logic_result(LogicOperator::And, negated(left), negated(right))),
        LogicOperator::Implies => logic_result(LogicOperator::Or, negated(left), right),
        LogicOperator::Xor => match (left, right) {
            (Varies | NeverTrue, _) | (_, Varies | NeverTrue) => Varies,
            (Unknown, _) | (_, Unknown) => Unknown,
            (left, right) if left == right => False,
            (True | False, True | False) => True,
        },
    }
}

/// Returns true if two parts of a conjunction exclude each other.
fn has_contradiction(condition: &Expr) -> bool {
    let mut parts = Vec::new();
    collect_conjuncts(condition, &mut parts);
    parts.iter().enumerate().any(|(index, part)| parts.iter().skip(index + 1).any(|other| exclude_each_other(part, other)))
}

/// Collects the parts of a conjunction.
fn collect_conjuncts<'e>(condition: &'e Expr, parts: &mut Vec<&'e Expr>) {
    if let Expr::Binary(Operator::Logic(LogicOperator::And), left, right) = condition {
        collect_conjuncts(left, parts);
        collect_conjuncts(right, parts);
    } else {
        parts.push(condition);
    }
}

/// Returns true if two conditions are never true together: one negates the other, or one element equals different texts.
fn exclude_each_other(left: &Expr, right: &Expr) -> bool {
    if is_negation(left, right) || is_negation(right, left) {
        return true;
    }
    let texts = text_comparison(left).zip(text_comparison(right));
    texts.is_some_and(|((left, left_text), (right, right_text))| left == right && left_text != right_text)
}

/// Returns true if the second condition is the first with `not()`, or if they are `exists()` and `empty()` of the same.
fn is_negation(condition: &Expr, other: &Expr) -> bool {
    let Expr::Call(focus, function, _) = other else { return false };
    if *function == Function::Not {
        return **focus == *condition;
    }
    let exists = matches!(condition, Expr::Call(of, Function::Exists, arguments) if arguments.is_empty() && of == focus);
    exists && *function == Function::Empty
}

/// Returns the element and the text of a condition such as `use = 'official'`.
fn text_comparison(condition: &Expr) -> Option<(&Expr, &str)> {
    let Expr::Binary(Operator::Equal, left, right) = condition else { return None };
    let (element, literal) = if matches!(**right, Expr::Literal(_)) { (left, right) } else { (right, left) };
    let Expr::Literal(Value::String(text)) = &**literal else { return None };
    Some((&**element, &**text))
}
