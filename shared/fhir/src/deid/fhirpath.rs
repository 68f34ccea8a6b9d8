//! The part of FHIRPath that configurations use: the paths of rules, and the cases of `generalize`.
//!
//! Unsupported expressions are rejected with the reason when a configuration is parsed, never when a resource is read.

mod code_condition;
mod compare;
mod date_time;
mod evaluate;
mod functions;
mod lexer;
mod parser;
mod quantity;
mod selection;
mod value;

use super::error::DeidFailureReason;
pub(super) use code_condition::CodeCondition;
pub(super) use date_time::{PartialDateTime, parse_date, split_date_offset};
pub(super) use evaluate::{
    CollectionItem, EvaluationClock, EvaluationContext, evaluate_constant, evaluate_single, is_not_false, select_nodes,
};
#[cfg(test)]
pub(super) use functions::UNSUPPORTED_FUNCTIONS;
pub(super) use functions::{Function, ValueFunction};
pub(super) use parser::parse;
pub(super) use selection::{Selection, Step};
pub(super) use value::{Value, parse_decimal};

/// An expression.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expr {
    /// `$this`; also the implicit focus at the beginning of an expression: `name` is a member of it.
    This,
    /// `$index`
    Index,
    /// `$total`: the result of `aggregate` so far.
    Total,
    /// `%resource`, `%context`: the resource that a rule is applied to.
    Resource,
    /// `%rootResource`: the resource that contains a contained resource; for other resources, the resource itself.
    RootResource,
    /// `{}`
    Empty,
    /// `'home'`, `12`, `@2020-01-01`
    Literal(Value<'static>),
    /// `focus.name`; if the name is that of a type, the items of this type.
    Member(Box<Expr>, Box<str>),
    /// `focus.function(arguments)`
    Call(Box<Expr>, Function, Vec<Expr>),
    /// `focus[0]`
    Indexer(Box<Expr>, Box<Expr>),
    /// `focus is Age`, `focus.is(Age)`
    Is(Box<Expr>, Box<str>),
    /// `focus as Age`, `focus.as(Age)`, `focus.ofType(Age)`
    OfType(Box<Expr>, Box<str>),
    /// `-focus`
    Negate(Box<Expr>),
    /// `left operator right`
    Binary(Operator, Box<Expr>, Box<Expr>),
}

impl Expr {
    /// Returns true if the expression uses more than the value of `$this`: other elements, or types of FHIR.
    pub(super) fn navigates(&self) -> bool {
        match self {
            Self::This | Self::Index | Self::Total | Self::Empty | Self::Literal(_) => false,
            // A value alone does not know its FHIR type.
            Self::Member(..) | Self::Resource | Self::RootResource | Self::Is(..) | Self::OfType(..) => true,
            Self::Call(focus, function, arguments) => function.navigates() || focus.navigates() || arguments.iter().any(Self::navigates),
            Self::Indexer(left, right) | Self::Binary(_, left, right) => left.navigates() || right.navigates(),
            Self::Negate(focus) => focus.navigates(),
        }
    }
}

/// Returns true if a name in a path is that of a type, like in `Patient.name`: only type names begin with a capital letter.
fn is_type_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_uppercase())
}

/// A binary operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Logic(LogicOperator),
    In,
    Contains,
    Equal,
    NotEqual,
    Equivalent,
    NotEquivalent,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Union,
    Concatenate,
    Arithmetic(ArithmeticOperator),
}

/// A logical operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LogicOperator {
    Implies,
    Or,
    Xor,
    And,
}

/// An arithmetic operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ArithmeticOperator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Div,
    Mod,
}

/// The reason why an expression cannot be parsed or is not supported.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ParseError {
    #[error("a string, a comment or a quoted name is not closed")]
    Unterminated,
    #[error("unexpected character {0:?} at position {1}")]
    UnexpectedCharacter(char, usize),
    #[error("`{0}` is not a date or time; write @2020-01-31, @2020-01-31T08:00:00Z or @T08:00")]
    InvalidDateTime(String),
    #[error("the number `{0}` is out of range")]
    InvalidNumber(String),
    #[error(r"a string contains an unknown escape; write a backslash as \\, and in JSON as \\\\")]
    InvalidEscape,
    #[error("the expression is incomplete")]
    UnexpectedEnd,
    #[error("unexpected `{0}`")]
    UnexpectedToken(String),
    #[error("there is no function {0}(){hint}", hint = .1.as_ref().map(|name| format!("; did you mean {name}()?")).unwrap_or_default())]
    UnknownFunction(String, Option<&'static str>),
    #[error("the function {0}() is not supported")]
    UnsupportedFunction(&'static str),
    #[error("{0}() does not take {1} arguments")]
    ArgumentCount(&'static str, usize),
    #[error("the first argument of {0}() must be a string literal")]
    ArgumentNotString(&'static str),
    #[error("the pattern of {0}() cannot be used: {1}")]
    InvalidPattern(&'static str, String),
    #[error("the expression is nested more than {MAX_DEPTH} levels deep")]
    TooDeep,
    #[error("there is no variable %{0}; use %resource, %context, %rootResource, %sct, %loinc, %ucum, %`ext-…` or %`vs-…`")]
    UnknownVariable(String),
    #[error("the path yields values; the path of a rule must select elements")]
    YieldsValues,
    #[error("name a choice without [x]: `Observation.value`, or `Observation.value as Quantity` for one of its types")]
    ChoiceSuffix,
}

/// The maximum nesting depth of an expression: deeper than people write, and safe for the stack.
const MAX_DEPTH: usize = 64;

/// The reason why an expression cannot be evaluated for a resource. Messages name the types of values, never the values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum EvaluationError {
    #[error("compares {0} with {1}")]
    Incomparable(&'static str, &'static str),
    #[error("applies {0} to {1} and {2}")]
    NoOperator(&'static str, &'static str, &'static str),
    #[error("negates {0}")]
    NotNegatable(&'static str),
    #[error("applies {0}() to {1}")]
    NoFunction(&'static str, &'static str),
    #[error("uses {0} where an integer is needed")]
    NotAnInteger(&'static str),
    #[error("needs a single value but finds several")]
    MultipleValues,
    #[error("yields a number that is out of range")]
    Overflow,
    #[error("needs a value but finds an element without one")]
    NoValue,
    #[error("adds an amount of time whose unit does not fit the date")]
    NotATimeUnit,
    #[error("repeats without end")]
    EndlessRepetition,
}

impl From<EvaluationError> for DeidFailureReason {
    fn from(error: EvaluationError) -> Self {
        Self::Expression(error.to_string())
    }
}
