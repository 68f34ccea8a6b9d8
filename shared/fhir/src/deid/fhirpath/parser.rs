//! Expressions out of words, by FHIRPath's order of precedence.

use super::lexer::{Token, tokens};
use super::{Arithmetic, DEPTH, Expr, Function, Operator, Unreadable};

/// Reads one expression.
pub(in crate::deid) fn parse(text: &str) -> Result<Expr, Unreadable> {
    let tokens = tokens(text)?;
    let mut parser = Parser { tokens: &tokens, depth: 0 };
    let expr = parser.operation(0)?;
    match parser.tokens.first() {
        None => Ok(expr),
        Some(token) => Err(Unreadable::Unexpected(token.shown())),
    }
}

/// The operators from the weakest to the strongest; of `is` and `as` only the place, they take a type.
const LEVELS: [&[(&str, Operator)]; 10] = [
    &[("implies", Operator::Implies)],
    &[("or", Operator::Or), ("xor", Operator::Xor)],
    &[("and", Operator::And)],
    &[("in", Operator::In), ("contains", Operator::Contains)],
    &[("=", Operator::Equal), ("!=", Operator::NotEqual), ("~", Operator::Equivalent), ("!~", Operator::NotEquivalent)],
    &[("<=", Operator::LessOrEqual), ("<", Operator::Less), (">=", Operator::GreaterOrEqual), (">", Operator::Greater)],
    &[("|", Operator::Union)],
    &[],
    &[("+", Operator::Of(Arithmetic::Plus)), ("-", Operator::Of(Arithmetic::Minus)), ("&", Operator::Concatenate)],
    &[
        ("*", Operator::Of(Arithmetic::Times)),
        ("/", Operator::Of(Arithmetic::DividedBy)),
        ("div", Operator::Of(Arithmetic::Div)),
        ("mod", Operator::Of(Arithmetic::Mod)),
    ],
];

/// The level of `is` and `as`.
const TYPES: usize = 7;

struct Parser<'a> {
    tokens: &'a [Token],
    depth: usize,
}

impl<'a> Parser<'a> {
    fn next(&mut self) -> Result<&'a Token, Unreadable> {
        let (first, rest) = self.tokens.split_first().ok_or(Unreadable::Ends)?;
        self.tokens = rest;
        Ok(first)
    }

    /// Whether this sign or word comes next; then it is taken.
    fn takes(&mut self, wanted: &str) -> bool {
        let is_next = match self.tokens.first() {
            Some(Token::Sign(sign)) => *sign == wanted,
            Some(Token::Word(word)) => word == wanted,
            Some(Token::Quoted(_) | Token::Literal(_) | Token::Variable(_)) | None => false,
        };
        if is_next {
            self.tokens = self.tokens.get(1..).unwrap_or_default();
        }
        is_next
    }

    fn expect(&mut self, wanted: &'static str) -> Result<(), Unreadable> {
        if self.takes(wanted) {
            return Ok(());
        }
        self.tokens.first().map_or(Err(Unreadable::Ends), |token| Err(Unreadable::Unexpected(token.shown())))
    }

    fn nested<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, Unreadable>) -> Result<T, Unreadable> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(Unreadable::TooDeep);
        }
        let read = read(self);
        self.depth -= 1;
        read
    }

    /// Operands with the operators of this level or stronger ones between them.
    fn operation(&mut self, level: usize) -> Result<Expr, Unreadable> {
        let Some(operators) = LEVELS.get(level) else { return self.signed() };
        let mut left = self.operation(level + 1)?;
        // A chain of operators nests to the left.
        for _ in 0..DEPTH {
            if level == TYPES {
                left = if self.takes("is") {
                    Expr::Is(left.into(), self.type_name()?)
                } else if self.takes("as") {
                    Expr::OfType(left.into(), self.type_name()?)
                } else {
                    return Ok(left);
                };
                continue;
            }
            let Some((_, operator)) = operators.iter().find(|(sign, _)| self.takes(sign)) else { return Ok(left) };
            left = Expr::Binary(*operator, left.into(), self.operation(level + 1)?.into());
        }
        Err(Unreadable::TooDeep)
    }

    fn signed(&mut self) -> Result<Expr, Unreadable> {
        if self.takes("-") {
            return self.nested(|parser| Ok(Expr::Minus(parser.signed()?.into())));
        }
        self.takes("+");
        self.path()
    }

    /// A term and the members, functions and places behind it.
    fn path(&mut self) -> Result<Expr, Unreadable> {
        let mut expr = self.nested(Self::term)?;
        // Rules name elements; a path as long as this is none.
        for _ in 0..DEPTH {
            if self.takes(".") {
                expr = self.nested(|parser| parser.invocation(expr))?;
            } else if self.takes("[") {
                let place = self.nested(|parser| parser.operation(0))?;
                self.expect("]")?;
                if place == Expr::Member(Expr::This.into(), "x".into()) {
                    return Err(Unreadable::Choice);
                }
                expr = Expr::At(expr.into(), place.into());
            } else {
                return Ok(expr);
            }
        }
        Err(Unreadable::TooDeep)
    }

    fn term(&mut self) -> Result<Expr, Unreadable> {
        if self.takes("(") {
            let inner = self.operation(0)?;
            self.expect(")")?;
            return Ok(inner);
        }
        if self.takes("{") {
            self.expect("}")?;
            return Ok(Expr::Nothing);
        }
        if self.takes("%") {
            return Err(Unreadable::UnsupportedForm("a %variable"));
        }
        match self.tokens.first() {
            Some(Token::Literal(value)) => {
                self.next()?;
                let has_unit = matches!(self.tokens.first(), Some(Token::Literal(_)));
                if has_unit { Err(Unreadable::UnsupportedForm("a quantity with its unit")) } else { Ok(Expr::Literal(value.clone())) }
            }
            Some(Token::Variable(name)) => {
                self.next()?;
                match name.as_str() {
                    "this" => Ok(Expr::This),
                    "index" => Ok(Expr::Position),
                    _ => Err(Unreadable::Unexpected(format!("${}", name.chars().take(64).collect::<String>()))),
                }
            }
            Some(Token::Word(word)) if matches!(word.as_str(), "true" | "false") => {
                self.next()?;
                Ok(Expr::Literal(super::Value::Bool(word == "true")))
            }
            Some(Token::Word(_) | Token::Quoted(_)) => self.invocation(Expr::This),
            Some(token @ Token::Sign(_)) => Err(Unreadable::Unexpected(token.shown())),
            None => Err(Unreadable::Ends),
        }
    }

    /// A member or a function of `focus`.
    fn invocation(&mut self, focus: Expr) -> Result<Expr, Unreadable> {
        let name = match self.next()? {
            Token::Word(name) | Token::Quoted(name) => name,
            token @ (Token::Literal(_) | Token::Variable(_) | Token::Sign(_)) => return Err(Unreadable::Unexpected(token.shown())),
        };
        if !self.takes("(") {
            return Ok(Expr::Member(focus.into(), name.as_str().into()));
        }
        if let "is" | "as" | "ofType" = name.as_str() {
            let wanted = self.type_name()?;
            self.expect(")")?;
            return Ok(if name == "is" { Expr::Is(focus.into(), wanted) } else { Expr::OfType(focus.into(), wanted) });
        }
        let mut arguments = Vec::new();
        while !self.takes(")") {
            if !arguments.is_empty() {
                self.expect(",")?;
            }
            arguments.push(self.nested(|parser| parser.operation(0))?);
        }
        let function = Function::named(name, &arguments)?;
        Ok(Expr::Call(focus.into(), function, arguments))
    }

    /// `Age`, `FHIR.Age` or `System.String`, without its namespace.
    fn type_name(&mut self) -> Result<Box<str>, Unreadable> {
        let mut name = None;
        loop {
            match self.next()? {
                Token::Word(word) | Token::Quoted(word) => {
                    if !matches!(name, None | Some("FHIR" | "System")) {
                        return Err(Unreadable::Unexpected(word.chars().take(64).collect()));
                    }
                    name = Some(word.as_str());
                }
                token @ (Token::Literal(_) | Token::Variable(_) | Token::Sign(_)) => return Err(Unreadable::Unexpected(token.shown())),
            }
            let is_namespace = matches!(name, Some("FHIR" | "System"));
            if !(is_namespace && self.takes(".")) {
                return Ok(name.unwrap_or_default().into());
            }
        }
    }
}
