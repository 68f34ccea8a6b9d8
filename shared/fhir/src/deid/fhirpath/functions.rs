//! The functions of FHIRPath: those that are worked out here, and those that are refused by name.

use regex_lite::Regex;

use super::{Expr, Unreadable, Value};

/// A function, with what has to be known of its arguments beforehand.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::deid) enum Function {
    // Elements.
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
    Intersect,
    Exclude,
    Children,
    Descendants,
    /// An element and what lies below it, of a type of exactly this name.
    NodesByType(Box<str>),
    /// An element and what lies below it, of this name.
    NodesByName(Box<str>),
    /// The extensions of this URL.
    Extension(Box<str>),
    Iif,
    // Whether and how many.
    Exists,
    Empty,
    All,
    Not,
    Count,
    HasValue,
    GetValue,
    Today,
    /// Of one value.
    OfValue(ValueFunction),
}

/// A function of one value.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::deid) enum ValueFunction {
    // Strings.
    StartsWith,
    EndsWith,
    Contains,
    Matches(Pattern),
    ReplaceMatches(Pattern),
    Replace,
    Substring,
    IndexOf,
    Length,
    Lower,
    Upper,
    Trim,
    // Other types.
    ToText,
    ToInteger,
    ToDecimal,
    ToBoolean,
    ToDate,
    ToDateTime,
    ToTime,
    // Numbers.
    Abs,
    Ceiling,
    Floor,
    Round,
    Truncate,
}

/// A regular expression, compiled once.
#[derive(Clone, Debug)]
pub(in crate::deid) struct Pattern(pub(super) Regex);

impl Pattern {
    /// A replacement as .NET reads it, in the words of the library that is used here: `$1` is followed by whatever is no
    /// digit, `$&` is all that was found, and what is no group is text.
    pub(super) fn template(&self, replacement: &str) -> String {
        let mut template = String::with_capacity(replacement.len());
        let mut rest = replacement;
        while let Some((before, after)) = rest.split_once('$') {
            template.push_str(before);
            let digits = after.len() - after.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let named = |name: Option<&str>| Some(format!("${{{}}}", self.group(name?)?));
            let (meant, length) = match after.as_bytes() {
                [b'$', ..] => (Some("$$".to_owned()), 1),
                [b'&', ..] => (Some("${0}".to_owned()), 1),
                [b'{', name @ ..] => {
                    let length = name.iter().position(|byte| *byte == b'}').unwrap_or(0);
                    (named(after.get(1..=length)), length + 2)
                }
                _ => (named(after.get(..digits)), digits),
            };
            template.push_str(meant.as_deref().unwrap_or("$$"));
            rest = after.get(if meant.is_some() { length } else { 0 }..).unwrap_or_default();
        }
        template + rest
    }

    /// The place of a group by its name or its number. Groups with names are numbered behind those without.
    fn group(&self, name: &str) -> Option<usize> {
        let names: Vec<_> = self.0.capture_names().collect();
        let Ok(number) = name.parse::<usize>() else { return names.iter().position(|known| *known == Some(name)) };
        let (named, bare): (Vec<usize>, Vec<usize>) = (0..names.len()).partition(|place| names.get(*place).is_some_and(Option::is_some));
        bare.into_iter().chain(named).nth(number)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

/// Name, fewest and most arguments, function.
const PLAIN: [(&str, usize, usize, Function); 46] = [
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
    ("combine", 1, 1, Function::Union),
    ("intersect", 1, 1, Function::Intersect),
    ("exclude", 1, 1, Function::Exclude),
    ("children", 0, 0, Function::Children),
    ("descendants", 0, 0, Function::Descendants),
    ("iif", 2, 3, Function::Iif),
    ("exists", 0, 1, Function::Exists),
    ("empty", 0, 0, Function::Empty),
    ("all", 1, 1, Function::All),
    ("not", 0, 0, Function::Not),
    ("count", 0, 0, Function::Count),
    ("hasValue", 0, 0, Function::HasValue),
    ("getValue", 0, 0, Function::GetValue),
    ("startsWith", 1, 1, Function::OfValue(ValueFunction::StartsWith)),
    ("endsWith", 1, 1, Function::OfValue(ValueFunction::EndsWith)),
    ("contains", 1, 1, Function::OfValue(ValueFunction::Contains)),
    ("replace", 2, 2, Function::OfValue(ValueFunction::Replace)),
    ("substring", 1, 2, Function::OfValue(ValueFunction::Substring)),
    ("indexOf", 1, 1, Function::OfValue(ValueFunction::IndexOf)),
    ("length", 0, 0, Function::OfValue(ValueFunction::Length)),
    ("lower", 0, 0, Function::OfValue(ValueFunction::Lower)),
    ("upper", 0, 0, Function::OfValue(ValueFunction::Upper)),
    ("trim", 0, 0, Function::OfValue(ValueFunction::Trim)),
    ("toString", 0, 0, Function::OfValue(ValueFunction::ToText)),
    ("toInteger", 0, 0, Function::OfValue(ValueFunction::ToInteger)),
    ("toDecimal", 0, 0, Function::OfValue(ValueFunction::ToDecimal)),
    ("toBoolean", 0, 0, Function::OfValue(ValueFunction::ToBoolean)),
    ("toDate", 0, 0, Function::OfValue(ValueFunction::ToDate)),
    ("toDateTime", 0, 0, Function::OfValue(ValueFunction::ToDateTime)),
    ("toTime", 0, 0, Function::OfValue(ValueFunction::ToTime)),
    ("abs", 0, 0, Function::OfValue(ValueFunction::Abs)),
    ("ceiling", 0, 0, Function::OfValue(ValueFunction::Ceiling)),
    ("floor", 0, 0, Function::OfValue(ValueFunction::Floor)),
    ("round", 0, 1, Function::OfValue(ValueFunction::Round)),
    ("truncate", 0, 0, Function::OfValue(ValueFunction::Truncate)),
    ("today", 0, 0, Function::Today),
];

/// Functions whose first argument has to be a literal.
const KEYED: [(&str, usize); 5] = [("nodesByType", 1), ("nodesByName", 1), ("extension", 1), ("matches", 1), ("replaceMatches", 2)];

/// What FHIRPath and FHIR define and rules do not need: other resources, terminologies, a clock, long computations.
#[rustfmt::skip]
const UNSUPPORTED: [&str; 56] = [
    "aggregate", "allFalse", "allTrue", "anyFalse", "anyTrue", "checkModifiers", "comparable", "conformsTo",
    "convertsToBoolean", "convertsToDate", "convertsToDateTime", "convertsToDecimal", "convertsToInteger",
    "convertsToQuantity", "convertsToString", "convertsToTime", "decode", "defineVariable", "elementDefinition", "encode",
    "escape", "exp", "getReferenceKey", "getResourceKey", "hasExtension", "highBoundary", "htmlChecks", "isDistinct", "join",
    "lastIndexOf", "ln", "log", "lowBoundary", "matchesFull", "memberOf", "now", "power", "precision", "repeat", "resolve",
    "slice", "sort", "split", "sqrt", "subsetOf", "subsumedBy", "subsumes", "supersetOf", "timeOfDay", "toChars",
    "toLong", "toQuantity", "trace", "type", "unescape", "weight",
];

impl Function {
    /// The function of this name, if it can take these arguments.
    pub(super) fn named(name: &str, arguments: &[Expr]) -> Result<Self, Unreadable> {
        if let Some((name, fewest, most, function)) = PLAIN.iter().find(|(known, ..)| *known == name) {
            let is_sound = (*fewest..=*most).contains(&arguments.len());
            return if is_sound { Ok(function.clone()) } else { Err(Unreadable::Arguments(name, arguments.len())) };
        }
        if let Some((name, count)) = KEYED.iter().find(|(known, _)| *known == name) {
            if arguments.len() != *count {
                return Err(Unreadable::Arguments(name, arguments.len()));
            }
            return Self::keyed(name, arguments);
        }
        if let Some(known) = UNSUPPORTED.iter().find(|known| **known == name) {
            return Err(Unreadable::Unsupported(known));
        }
        let mut known = PLAIN.iter().map(|(known, ..)| *known).chain(KEYED.iter().map(|(known, _)| *known));
        let meant = known.find(|known| known.eq_ignore_ascii_case(name));
        Err(Unreadable::UnknownFunction(name.chars().take(64).collect(), meant))
    }

    fn keyed(name: &'static str, arguments: &[Expr]) -> Result<Self, Unreadable> {
        let Some(Expr::Literal(Value::Text(key))) = arguments.first() else { return Err(Unreadable::NotAName(name)) };
        let pattern = || Regex::new(key).map(Pattern).map_err(|error| Unreadable::Pattern(name, error.to_string()));
        Ok(match name {
            "nodesByType" => Self::NodesByType(key.as_ref().into()),
            "nodesByName" => Self::NodesByName(key.as_ref().into()),
            "extension" => Self::Extension(key.as_ref().into()),
            "matches" => Self::OfValue(ValueFunction::Matches(pattern()?)),
            _ => Self::OfValue(ValueFunction::ReplaceMatches(pattern()?)),
        })
    }

    /// Whether it leads from an element to others.
    pub(super) fn walks(&self) -> bool {
        matches!(self, Self::Children | Self::Descendants | Self::NodesByType(_) | Self::NodesByName(_) | Self::Extension(_))
    }
}
