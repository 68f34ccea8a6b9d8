//! The part of FHIRPath that configurations use: which elements a rule selects, and what the cases of `generalize` say.
//!
//! What is not supported is refused by its name when a configuration is read, never when a resource is.

mod evaluate;
mod functions;
mod lexer;
mod moment;
mod parser;
mod select;
mod value;

pub(super) use evaluate::{Item, Scene, holds, select_nodes, single_value};
pub(super) use functions::Function;
pub(super) use moment::{Moment, read_date};
pub(super) use parser::parse;
pub(super) use select::{Select, Step, one_step, select};
pub(super) use value::{Value, decimal};

/// An expression.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expr {
    /// `$this`, and what an expression begins with where it names nothing: `name` is a member of it.
    This,
    /// `$index`
    Position,
    /// `{}`
    Nothing,
    /// `'home'`, `12`, `@2020-01-01`
    Literal(Value<'static>),
    /// `focus.name`; where the name is a type's, what is of that type.
    Member(Box<Expr>, Box<str>),
    /// `focus.function(arguments)`
    Call(Box<Expr>, Function, Vec<Expr>),
    /// `focus[0]`
    At(Box<Expr>, Box<Expr>),
    /// `focus is Age`, `focus.is(Age)`
    Is(Box<Expr>, Box<str>),
    /// `focus as Age`, `focus.as(Age)`, `focus.ofType(Age)`
    OfType(Box<Expr>, Box<str>),
    /// `-focus`
    Minus(Box<Expr>),
    /// `left operator right`
    Binary(Operator, Box<Expr>, Box<Expr>),
}

impl Expr {
    /// Whether the expression looks below the value that it is given, or around it.
    pub(super) fn walks(&self) -> bool {
        match self {
            Self::This | Self::Position | Self::Nothing | Self::Literal(_) => false,
            Self::Member(..) => true,
            Self::Call(focus, function, arguments) => function.walks() || focus.walks() || arguments.iter().any(Self::walks),
            Self::At(one, other) | Self::Binary(_, one, other) => one.walks() || other.walks(),
            Self::Is(focus, _) | Self::OfType(focus, _) | Self::Minus(focus) => focus.walks(),
        }
    }
}

/// Whether a name in a path is that of a type: `Patient.name`. No element's begins with a capital.
fn is_type(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_uppercase())
}

/// What stands between two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Implies,
    Or,
    Xor,
    And,
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
    Of(Arithmetic),
}

/// What two numbers make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Plus,
    Minus,
    Times,
    DividedBy,
    Div,
    Mod,
}

/// Why an expression cannot be used: what is wrong with it, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unreadable {
    #[error("a string, a comment or a name without its end")]
    Open,
    #[error("the character {0:?} at {1} means nothing here")]
    Character(char, usize),
    #[error("`{0}` is no date or time; write @2020-01-31, @2020-01-31T08:00:00Z or @T08:00")]
    NotAMoment(String),
    #[error("`{0}` is no number that can be held")]
    NotANumber(String),
    #[error(r"a string has an escape that FHIRPath does not know; a backslash itself is written \\, and in JSON \\\\")]
    Escape,
    #[error("it ends where something has to follow")]
    Ends,
    #[error("`{0}` is not expected here")]
    Unexpected(String),
    #[error("no function of this name: {0}(){hint}", hint = .1.as_ref().map(|name| format!("; FHIRPath has {name}()")).unwrap_or_default())]
    UnknownFunction(String, Option<&'static str>),
    #[error("the function {0}() is not supported")]
    Unsupported(&'static str),
    #[error("{0} is not supported")]
    UnsupportedForm(&'static str),
    #[error("{0}() does not take {1} arguments")]
    Arguments(&'static str, usize),
    #[error("{0}() takes a name between quotes")]
    NotAName(&'static str),
    #[error("the pattern of {0}() cannot be used: {1}")]
    Pattern(&'static str, String),
    #[error("it is nested more than {DEPTH} times")]
    TooDeep,
    #[error("it yields values; a rule's path has to name elements")]
    NoElements,
    #[error("a choice is named without [x]: `Observation.value`, or `Observation.value as Quantity` for one of its types")]
    Choice,
}

/// How deep an expression may nest: far deeper than people write, far shallower than a stack.
const DEPTH: usize = 64;

/// Why an expression cannot be worked out for a resource. Says kinds of values, never values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unanswered {
    #[error("compares {0} with {1}")]
    Incomparable(&'static str, &'static str),
    #[error("has no {0} for {1} and {2}")]
    NoOperator(&'static str, &'static str, &'static str),
    #[error("has no {0}() for {1}")]
    NoFunction(&'static str, &'static str),
    #[error("takes one value and finds several")]
    Several,
    #[error("yields a number that cannot be held")]
    Overflow,
    #[error("yields an element that holds no value")]
    NoValue,
}
