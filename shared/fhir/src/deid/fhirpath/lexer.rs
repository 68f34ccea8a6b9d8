//! The words of an expression.

use rust_decimal::Decimal;

use super::{Moment, Unreadable, Value};

/// One word.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// A name, or an operator that looks like one.
    Word(String),
    /// A name between backticks: never an operator.
    Quoted(String),
    Literal(Value<'static>),
    /// `$this`
    Variable(String),
    /// Anything of signs only.
    Sign(&'static str),
}

impl Token {
    /// As a message quotes it.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Word(word) | Self::Quoted(word) => word.chars().take(64).collect(),
            Self::Literal(value) => value.kind().to_owned(),
            Self::Variable(name) => format!("${name}"),
            Self::Sign(sign) => (*sign).to_owned(),
        }
    }
}

/// Longer signs first: `<=` is not `<`.
const SIGNS: [&str; 23] =
    ["<=", ">=", "!=", "!~", "(", ")", "[", "]", "{", "}", ".", ",", "|", "+", "-", "*", "/", "&", "=", "~", "<", ">", "%"];

/// Splits an expression into its words.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, Unreadable> {
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
            rest = comment.split_once("*/").ok_or(Unreadable::Open)?.1;
            continue;
        }
        let token = match first {
            '\'' | '"' => Token::Literal(Value::Text(quoted(&mut rest)?.into())),
            '`' => Token::Quoted(quoted(&mut rest)?),
            '@' => moment(&mut rest)?,
            '$' => {
                take(&mut rest, |c| c == '$');
                Token::Variable(take(&mut rest, is_of_name).to_owned())
            }
            '0'..='9' => number(&mut rest)?,
            _ if first.is_ascii_alphabetic() || first == '_' => Token::Word(take(&mut rest, is_of_name).to_owned()),
            _ => {
                let at = text.len() - rest.len() + 1;
                let sign = SIGNS.into_iter().find(|sign| rest.starts_with(sign)).ok_or(Unreadable::Character(first, at))?;
                rest = rest.get(sign.len()..).unwrap_or_default();
                Token::Sign(sign)
            }
        };
        tokens.push(token);
    }
}

fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// The characters at the beginning that are so, taken off the text.
fn take<'a>(rest: &mut &'a str, is_so: impl Fn(char) -> bool) -> &'a str {
    let end = rest.find(|c| !is_so(c)).unwrap_or(rest.len());
    let (taken, after) = rest.split_at_checked(end).unwrap_or((rest, ""));
    *rest = after;
    taken
}

/// What stands between the quote at the beginning and the next of its kind.
fn quoted(rest: &mut &str) -> Result<String, Unreadable> {
    let mut characters = rest.chars();
    let quote = characters.next();
    let mut text = String::new();
    loop {
        match characters.next().ok_or(Unreadable::Open)? {
            c if Some(c) == quote => break,
            '\\' => text.push(match characters.next().ok_or(Unreadable::Open)? {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                'f' => '\u{c}',
                'u' => {
                    let digits: String = characters.by_ref().take(4).collect();
                    let code = u32::from_str_radix(&digits, 16).map_err(|_| Unreadable::Escape)?;
                    char::from_u32(code).ok_or(Unreadable::Escape)?
                }
                c @ ('\\' | '/' | '\'' | '"' | '`') => c,
                _ => return Err(Unreadable::Escape),
            }),
            c => text.push(c),
        }
    }
    *rest = characters.as_str();
    Ok(text)
}

/// `@2020-01-31T08:00:00Z` or `@T08:00`.
fn moment(rest: &mut &str) -> Result<Token, Unreadable> {
    let whole = *rest;
    take(rest, |c| c == '@');
    let is_part = |c: char| c.is_ascii_digit() || matches!(c, '-' | ':' | '.' | '+' | 'T' | 'Z');
    let text = take(rest, is_part);
    let moment = match text.strip_prefix('T') {
        Some(time) => Moment::time(time).map(|moment| (moment, time)),
        None => Moment::date_time(text).map(|moment| (moment, text.strip_suffix('T').unwrap_or(text))),
    };
    let shown = || whole.get(..=text.len()).unwrap_or_default().chars().take(64).collect();
    let (moment, text) = moment.ok_or_else(|| Unreadable::NotAMoment(shown()))?;
    Ok(Token::Literal(Value::Moment(moment, text.to_owned().into())))
}

/// `12` or `1.50`; a dot that no digit follows belongs to a path.
fn number(rest: &mut &str) -> Result<Token, Unreadable> {
    let begin = *rest;
    let whole = take(rest, |c| c.is_ascii_digit());
    let fraction = rest.strip_prefix('.').filter(|fraction| fraction.starts_with(|c: char| c.is_ascii_digit()));
    let refused = |text: &str| Unreadable::NotANumber(text.chars().take(64).collect());
    let Some(mut fraction) = fraction else {
        return Ok(Token::Literal(Value::Integer(whole.parse().map_err(|_| refused(whole))?)));
    };
    take(&mut fraction, |c| c.is_ascii_digit());
    let text = begin.get(..begin.len() - fraction.len()).unwrap_or_default();
    *rest = fraction;
    Ok(Token::Literal(Value::Decimal(Decimal::from_str_exact(text).map_err(|_| refused(text))?)))
}
