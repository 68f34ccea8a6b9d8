//! The functions of FHIRPath: those that are supported, and those that are rejected by name.

use regex_lite::Regex;

use super::{Expr, ParseError, Value};

/// A function, with the arguments that must be literals.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::deid) enum Function {
    // Functions that yield elements.
    Where,
    Select,
    First,
    Last,
    Tail,
    Skip,
    Take,
    Single,
    Distinct,
    Union,
    Combine,
    Repeat,
    Trace,
    Aggregate,
    Intersect,
    Exclude,
    Children,
    Descendants,
    /// Selects among an element and everything below it by the exact name of the type.
    NodesByType(Box<str>),
    /// Selects among an element and everything below it by the element's name.
    NodesByName(Box<str>),
    /// Selects the extensions with this URL.
    Extension(Box<str>),
    Iif,
    // Tests and counts.
    Exists,
    Empty,
    All,
    /// `allTrue`, `anyTrue`, `allFalse` and `anyFalse`: whether all items or some are this boolean.
    Booleans {
        needs_all: bool,
        expected: bool,
    },
    IsDistinct,
    SubsetOf,
    SupersetOf,
    Not,
    Count,
    HasValue,
    GetValue,
    Today,
    Now,
    TimeOfDay,
    Join,
    Split,
    ToChars,
    /// A function of a single value.
    OnValue(ValueFunction),
}

/// A function of a single value.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::deid) enum ValueFunction {
    // Strings.
    StartsWith,
    EndsWith,
    Contains,
    Matches(RegexPattern),
    ReplaceMatches(RegexPattern),
    Replace,
    Substring,
    IndexOf,
    Length,
    Lower,
    Upper,
    Trim,
    // Other types.
    ToString,
    ToInteger,
    ToDecimal,
    ToBoolean,
    ToDate,
    ToDateTime,
    ToTime,
    ToQuantity,
    /// `convertsToInteger` and similar functions: whether the conversion has a result.
    ConvertsTo(Box<ValueFunction>),
    // Numbers.
    Abs,
    Ceiling,
    Floor,
    Round,
    Truncate,
    Exp,
    Ln,
    Log,
    Power,
    Sqrt,
}

/// A compiled regular expression.
#[derive(Clone, Debug)]
pub(in crate::deid) struct RegexPattern(pub(super) Regex);

impl RegexPattern {
    /// Converts a replacement pattern of .NET to that of the regex library.
    ///
    /// In .NET the number in `$1` ends at the first character that is not a digit, `$&` is the whole match, and a reference to a
    /// group that does not exist is plain text.
    pub(super) fn rust_replacement(&self, replacement: &str) -> String {
        let mut converted = String::with_capacity(replacement.len());
        let mut rest = replacement;
        while let Some((before, after)) = rest.split_once('$') {
            converted.push_str(before);
            let digits = after.len() - after.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let group = |name: Option<&str>| Some(format!("${{{}}}", self.group_index(name?)?));
            let (reference, length) = match after.as_bytes() {
                [b'$', ..] => (Some("$$".to_owned()), 1),
                [b'&', ..] => (Some("${0}".to_owned()), 1),
                [b'{', name @ ..] => {
                    let length = name.iter().position(|byte| *byte == b'}').unwrap_or(0);
                    (group(after.get(1..=length)), length + 2)
                }
                _ => (group(after.get(..digits)), digits),
            };
            // A dollar sign that refers to no group is escaped, and the text after it is copied.
            converted.push_str(reference.as_deref().unwrap_or("$$"));
            rest = after.get(if reference.is_some() { length } else { 0 }..).unwrap_or_default();
        }
        converted + rest
    }

    /// Returns the index of a group by its name or number. Named groups are numbered after unnamed ones.
    fn group_index(&self, name: &str) -> Option<usize> {
        let names: Vec<_> = self.0.capture_names().collect();
        let Ok(number) = name.parse::<usize>() else { return names.iter().position(|known| *known == Some(name)) };
        let is_named = |index: &usize| names.get(*index).is_some_and(Option::is_some);
        let (named, unnamed): (Vec<usize>, Vec<usize>) = (0..names.len()).partition(is_named);
        unnamed.into_iter().chain(named).nth(number)
    }
}

impl PartialEq for RegexPattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

/// The supported functions with their names and their minimum and maximum number of arguments.
static FUNCTIONS: [(&str, usize, usize, Function); 69] = [
    ("where", 1, 1, Function::Where),
    ("select", 1, 1, Function::Select),
    ("first", 0, 0, Function::First),
    ("last", 0, 0, Function::Last),
    ("tail", 0, 0, Function::Tail),
    ("skip", 1, 1, Function::Skip),
    ("take", 1, 1, Function::Take),
    ("single", 0, 0, Function::Single),
    ("distinct", 0, 0, Function::Distinct),
    ("union", 1, 1, Function::Union),
    ("combine", 1, 1, Function::Combine),
    ("repeat", 1, 1, Function::Repeat),
    ("trace", 1, 2, Function::Trace),
    ("aggregate", 1, 2, Function::Aggregate),
    ("intersect", 1, 1, Function::Intersect),
    ("exclude", 1, 1, Function::Exclude),
    ("children", 0, 0, Function::Children),
    ("descendants", 0, 0, Function::Descendants),
    ("iif", 2, 3, Function::Iif),
    ("exists", 0, 1, Function::Exists),
    ("any", 1, 1, Function::Exists),
    ("empty", 0, 0, Function::Empty),
    ("all", 1, 1, Function::All),
    ("allTrue", 0, 0, Function::Booleans { needs_all: true, expected: true }),
    ("anyTrue", 0, 0, Function::Booleans { needs_all: false, expected: true }),
    ("allFalse", 0, 0, Function::Booleans { needs_all: true, expected: false }),
    ("anyFalse", 0, 0, Function::Booleans { needs_all: false, expected: false }),
    ("isDistinct", 0, 0, Function::IsDistinct),
    ("subsetOf", 1, 1, Function::SubsetOf),
    ("supersetOf", 1, 1, Function::SupersetOf),
    ("not", 0, 0, Function::Not),
    ("count", 0, 0, Function::Count),
    ("hasValue", 0, 0, Function::HasValue),
    ("getValue", 0, 0, Function::GetValue),
    ("startsWith", 1, 1, Function::OnValue(ValueFunction::StartsWith)),
    ("endsWith", 1, 1, Function::OnValue(ValueFunction::EndsWith)),
    ("contains", 1, 1, Function::OnValue(ValueFunction::Contains)),
    ("replace", 2, 2, Function::OnValue(ValueFunction::Replace)),
    ("substring", 1, 2, Function::OnValue(ValueFunction::Substring)),
    ("indexOf", 1, 1, Function::OnValue(ValueFunction::IndexOf)),
    ("length", 0, 0, Function::OnValue(ValueFunction::Length)),
    ("lower", 0, 0, Function::OnValue(ValueFunction::Lower)),
    ("upper", 0, 0, Function::OnValue(ValueFunction::Upper)),
    ("trim", 0, 0, Function::OnValue(ValueFunction::Trim)),
    ("toString", 0, 0, Function::OnValue(ValueFunction::ToString)),
    ("toInteger", 0, 0, Function::OnValue(ValueFunction::ToInteger)),
    ("toLong", 0, 0, Function::OnValue(ValueFunction::ToInteger)),
    ("toDecimal", 0, 0, Function::OnValue(ValueFunction::ToDecimal)),
    ("toBoolean", 0, 0, Function::OnValue(ValueFunction::ToBoolean)),
    ("toDate", 0, 0, Function::OnValue(ValueFunction::ToDate)),
    ("toDateTime", 0, 0, Function::OnValue(ValueFunction::ToDateTime)),
    ("toTime", 0, 0, Function::OnValue(ValueFunction::ToTime)),
    ("toQuantity", 0, 0, Function::OnValue(ValueFunction::ToQuantity)),
    ("abs", 0, 0, Function::OnValue(ValueFunction::Abs)),
    ("ceiling", 0, 0, Function::OnValue(ValueFunction::Ceiling)),
    ("floor", 0, 0, Function::OnValue(ValueFunction::Floor)),
    ("round", 0, 1, Function::OnValue(ValueFunction::Round)),
    ("truncate", 0, 0, Function::OnValue(ValueFunction::Truncate)),
    ("exp", 0, 0, Function::OnValue(ValueFunction::Exp)),
    ("ln", 0, 0, Function::OnValue(ValueFunction::Ln)),
    ("log", 1, 1, Function::OnValue(ValueFunction::Log)),
    ("power", 1, 1, Function::OnValue(ValueFunction::Power)),
    ("sqrt", 0, 0, Function::OnValue(ValueFunction::Sqrt)),
    ("today", 0, 0, Function::Today),
    ("now", 0, 0, Function::Now),
    ("timeOfDay", 0, 0, Function::TimeOfDay),
    ("join", 0, 1, Function::Join),
    ("split", 1, 1, Function::Split),
    ("toChars", 0, 0, Function::ToChars),
];

/// The functions whose first argument must be a string literal, with their number of arguments.
const FUNCTIONS_WITH_LITERAL: [(&str, usize); 5] =
    [("nodesByType", 1), ("nodesByName", 1), ("extension", 1), ("matches", 1), ("replaceMatches", 2)];

/// The functions of FHIRPath and FHIR that are not supported, because they need other resources or a terminology service, or
/// because rules do not need them. Most of them are unknown to Microsoft's tool as well. `docs/de-identification.md` lists them.
#[rustfmt::skip]
pub(in crate::deid) const UNSUPPORTED_FUNCTIONS: [&str; 28] = [
    "checkModifiers", "comparable", "conformsTo", "decode", "defineVariable", "elementDefinition", "encode", "escape",
    "getReferenceKey", "getResourceKey", "hasExtension", "highBoundary", "htmlChecks", "htmlchecks", "lastIndexOf",
    "lowBoundary", "matchesFull", "memberOf", "precision", "resolve", "slice", "sort", "subsumedBy", "subsumes",
    "timeZone", "type", "unescape", "weight",
];

/// The prefix of functions such as `convertsToInteger`, which tell whether `toInteger` has a result.
const CONVERTS_PREFIX: &str = "convertsTo";

impl Function {
    /// Resolves a function by its name and checks its arguments.
    pub(super) fn resolve(name: &str, arguments: &[Expr]) -> Result<Self, ParseError> {
        if let Some((name, min, max, function)) = FUNCTIONS.iter().find(|(known, ..)| *known == name) {
            let is_in_range = (*min..=*max).contains(&arguments.len());
            return if is_in_range { Ok(function.clone()) } else { Err(ParseError::ArgumentCount(name, arguments.len())) };
        }
        if let Some(target) = name.strip_prefix(CONVERTS_PREFIX) {
            let conversion = FUNCTIONS.iter().find(|(known, ..)| known.strip_prefix("to") == Some(target));
            if let Some((conversion_name, .., Function::OnValue(conversion))) = conversion {
                let function = Self::OnValue(ValueFunction::ConvertsTo(conversion.clone().into()));
                return if arguments.is_empty() { Ok(function) } else { Err(ParseError::ArgumentCount(conversion_name, arguments.len())) };
            }
        }
        if let Some((name, count)) = FUNCTIONS_WITH_LITERAL.iter().find(|(known, _)| *known == name) {
            if arguments.len() != *count {
                return Err(ParseError::ArgumentCount(name, arguments.len()));
            }
            return Self::with_literal(name, arguments);
        }
        if let Some(known) = UNSUPPORTED_FUNCTIONS.iter().find(|known| **known == name) {
            return Err(ParseError::UnsupportedFunction(known));
        }
        let mut known = FUNCTIONS.iter().map(|(known, ..)| *known).chain(FUNCTIONS_WITH_LITERAL.iter().map(|(known, _)| *known));
        let similar = known.find(|known| known.eq_ignore_ascii_case(name));
        Err(ParseError::UnknownFunction(name.chars().take(64).collect(), similar))
    }

    /// Resolves a function of [`FUNCTIONS_WITH_LITERAL`] and compiles its pattern.
    fn with_literal(name: &'static str, arguments: &[Expr]) -> Result<Self, ParseError> {
        let Some(Expr::Literal(Value::String(literal))) = arguments.first() else { return Err(ParseError::ArgumentNotString(name)) };
        let pattern = || Regex::new(literal).map(RegexPattern).map_err(|error| ParseError::InvalidPattern(name, error.to_string()));
        Ok(match name {
            "nodesByType" => Self::NodesByType(literal.as_ref().into()),
            "nodesByName" => Self::NodesByName(literal.as_ref().into()),
            "extension" => Self::Extension(literal.as_ref().into()),
            "matches" => Self::OnValue(ValueFunction::Matches(pattern()?)),
            _ => Self::OnValue(ValueFunction::ReplaceMatches(pattern()?)),
        })
    }

    /// Returns true if the function uses elements other than its input.
    pub(super) fn navigates(&self) -> bool {
        matches!(self, Self::Children | Self::Descendants | Self::NodesByType(_) | Self::NodesByName(_) | Self::Extension(_))
    }
}
