//! Splits an expression into tokens.

use rust_decimal::Decimal;

use super::{ParseError, PartialDateTime, Value};

/// A token.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// An identifier, or an operator such as `and`.
    Identifier(String),
    /// An identifier in backticks, which is never an operator.
    DelimitedIdentifier(String),
    Literal(Value<'static>),
    /// `$this`
    Variable(String),
    /// An operator or a delimiter of punctuation characters.
    Symbol(&'static str),
}

impl Token {
    /// Describes the token in error messages.
    pub(super) fn description(&self) -> String {
        match self {
            Self::Identifier(name) | Self::DelimitedIdentifier(name) => name.chars().take(64).collect(),
            Self::Literal(value) => value.type_description().to_owned(),
            Self::Variable(name) => format!("${name}"),
            Self::Symbol(symbol) => (*symbol).to_owned(),
        }
    }
}

/// The symbols. Longer ones come first, so that `<=` is not read as `<`.
const SYMBOLS: [&str; 23] =
    ["<=", ">=", "!=", "!~", "(", ")", "[", "]", "{", "}", ".", ",", "|", "+", "-", "*", "/", "&", "=", "~", "<", ">", "%"];

/// Splits an expression into its tokens. Whitespace and comments are skipped.
pub(super) fn tokenize(text: &str) -> Result<Vec<Token>, ParseError> {
    let mut tokens = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        let Some(first) = rest.chars().next() else { return Ok(tokens) };
        if let Some(comment) = rest.strip_prefix("//") {
            rest = comment.split_once('\n').map_or("", |(_, rest)| rest);
            continue;
        }
        if let Some(comment) = rest.strip_prefix("/*") {
            rest = comment.split_once("*/").ok_or(ParseError::Unterminated)?.1;
            continue;
        }
        let token = match first {
            // The format also allows double quotes for strings.
            '\'' | '"' => Token::Literal(Value::String(read_quoted(&mut rest)?.into())),
            '`' => Token::DelimitedIdentifier(read_quoted(&mut rest)?),
            '@' => read_date_time(&mut rest)?,
            '$' => {
                take_while(&mut rest, |c| c == '$');
                Token::Variable(take_while(&mut rest, is_identifier_char).to_owned())
            }
            '0'..='9' => read_number(&mut rest)?,
            _ if first.is_ascii_alphabetic() || first == '_' => Token::Identifier(take_while(&mut rest, is_identifier_char).to_owned()),
            _ => {
                let position = text.len() - rest.len() + 1;
                let symbol = SYMBOLS.into_iter().find(|symbol| rest.starts_with(symbol));
                let symbol = symbol.ok_or(ParseError::UnexpectedCharacter(first, position))?;
                rest = rest.get(symbol.len()..).unwrap_or_default();
                Token::Symbol(symbol)
            }
        };
        tokens.push(token);
    }
}

/// Returns true for a character of an identifier.
fn is_identifier_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Removes the leading characters for which `predicate` is true from `rest` and returns them.
fn take_while<'a>(rest: &mut &'a str, predicate: impl Fn(char) -> bool) -> &'a str {
    let end = rest.find(|c| !predicate(c)).unwrap_or(rest.len());
    let (taken, after) = rest.split_at_checked(end).unwrap_or((rest, ""));
    *rest = after;
    taken
}

/// Reads the text between the quote at the beginning and the next quote of the same kind, and resolves its escapes.
fn read_quoted(rest: &mut &str) -> Result<String, ParseError> {
    let mut characters = rest.chars();
    let quote = characters.next();
    let mut text = String::new();
    loop {
        match characters.next().ok_or(ParseError::Unterminated)? {
            c if Some(c) == quote => break,
            '\\' => text.push(match characters.next().ok_or(ParseError::Unterminated)? {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                'f' => '\u{c}',
                'u' => {
                    let digits: String = characters.by_ref().take(4).collect();
                    let code = u32::from_str_radix(&digits, 16).map_err(|_| ParseError::InvalidEscape)?;
                    char::from_u32(code).ok_or(ParseError::InvalidEscape)?
                }
                c @ ('\\' | '/' | '\'' | '"' | '`') => c,
                _ => return Err(ParseError::InvalidEscape),
            }),
            c => text.push(c),
        }
    }
    *rest = characters.as_str();
    Ok(text)
}

/// Reads a literal such as `@2020-01-31T08:00:00Z` or `@T08:00`.
fn read_date_time(rest: &mut &str) -> Result<Token, ParseError> {
    let literal = *rest;
    take_while(rest, |c| c == '@');
    let is_date_time_char = |c: char| c.is_ascii_digit() || matches!(c, '-' | ':' | '.' | '+' | 'T' | 'Z');
    let text = take_while(rest, is_date_time_char);
    let parsed = match text.strip_prefix('T') {
        Some(time) => PartialDateTime::parse_time(time).map(|parsed| (parsed, time)),
        None => PartialDateTime::parse(text).map(|parsed| (parsed, text.strip_suffix('T').unwrap_or(text))),
    };
    let excerpt = || literal.get(..=text.len()).unwrap_or_default().chars().take(64).collect();
    let (parsed, text) = parsed.ok_or_else(|| ParseError::InvalidDateTime(excerpt()))?;
    Ok(Token::Literal(Value::DateTime(parsed, text.to_owned().into())))
}

/// Reads `12` or `1.50`. A dot that no digit follows belongs to the path after the number.
fn read_number(rest: &mut &str) -> Result<Token, ParseError> {
    let begin = *rest;
    let whole = take_while(rest, |c| c.is_ascii_digit());
    let fraction = rest.strip_prefix('.').filter(|fraction| fraction.starts_with(|c: char| c.is_ascii_digit()));
    let invalid = |text: &str| ParseError::InvalidNumber(text.chars().take(64).collect());
    let Some(mut fraction) = fraction else {
        return Ok(Token::Literal(Value::Integer(whole.parse().map_err(|_| invalid(whole))?)));
    };
    take_while(&mut fraction, |c| c.is_ascii_digit());
    let text = begin.get(..begin.len() - fraction.len()).unwrap_or_default();
    *rest = fraction;
    Ok(Token::Literal(Value::Decimal(Decimal::from_str_exact(text).map_err(|_| invalid(text))?)))
}
