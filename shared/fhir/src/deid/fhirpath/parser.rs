//! Parses expressions with the operator precedence of FHIRPath.

use super::lexer::{Token, tokenize};
use super::quantity::Quantity;
use super::{ArithmeticOperator, Expr, Function, LogicOperator, MAX_DEPTH, Operator, ParseError, Value};

/// Parses an expression.
pub(in crate::deid) fn parse(text: &str) -> Result<Expr, ParseError> {
    let tokens = tokenize(text)?;
    let mut parser = Parser { tokens: &tokens, depth: 0 };
    let expr = parser.parse_operators(0)?;
    match parser.tokens.first() {
        None => Ok(expr),
        Some(token) => Err(ParseError::UnexpectedToken(token.description())),
    }
}

/// The binary operators from the lowest to the highest precedence. The level of `is` and `as` is empty, because they take a
/// type as their right operand. It is the level of the FHIRPath engine of Microsoft's tool: `a | b as Age` is `(a | b) as Age`.
const PRECEDENCE: [&[(&str, Operator)]; 10] = [
    &[("implies", Operator::Logic(LogicOperator::Implies))],
    &[("or", Operator::Logic(LogicOperator::Or)), ("xor", Operator::Logic(LogicOperator::Xor))],
    &[("and", Operator::Logic(LogicOperator::And))],
    &[("in", Operator::In), ("contains", Operator::Contains)],
    &[("=", Operator::Equal), ("!=", Operator::NotEqual), ("~", Operator::Equivalent), ("!~", Operator::NotEquivalent)],
    &[],
    &[("<=", Operator::LessOrEqual), ("<", Operator::Less), (">=", Operator::GreaterOrEqual), (">", Operator::Greater)],
    &[("|", Operator::Union)],
    &[
        ("+", Operator::Arithmetic(ArithmeticOperator::Add)),
        ("-", Operator::Arithmetic(ArithmeticOperator::Subtract)),
        ("&", Operator::Concatenate),
    ],
    &[
        ("*", Operator::Arithmetic(ArithmeticOperator::Multiply)),
        ("/", Operator::Arithmetic(ArithmeticOperator::Divide)),
        ("div", Operator::Arithmetic(ArithmeticOperator::Div)),
        ("mod", Operator::Arithmetic(ArithmeticOperator::Mod)),
    ],
];

/// The precedence level of `is` and `as`.
const TYPE_LEVEL: usize = 5;

/// A parser of FHIRPath, with its position in the tokens.
struct Parser<'a> {
    tokens: &'a [Token],
    depth: usize,
}

impl<'a> Parser<'a> {
    /// Consumes the next token.
    fn next(&mut self) -> Result<&'a Token, ParseError> {
        let (first, rest) = self.tokens.split_first().ok_or(ParseError::UnexpectedEnd)?;
        self.tokens = rest;
        Ok(first)
    }

    /// Consumes the next token and returns true if it is the given symbol or identifier.
    fn consume_if(&mut self, expected: &str) -> bool {
        let is_next = match self.tokens.first() {
            Some(Token::Symbol(symbol)) => *symbol == expected,
            Some(Token::Identifier(name)) => name == expected,
            Some(Token::DelimitedIdentifier(_) | Token::Literal(_) | Token::Variable(_)) | None => false,
        };
        if is_next {
            self.tokens = self.tokens.get(1..).unwrap_or_default();
        }
        is_next
    }

    /// Consumes the next token, which must be the given symbol.
    fn expect(&mut self, expected: &'static str) -> Result<(), ParseError> {
        if self.consume_if(expected) {
            return Ok(());
        }
        self.tokens.first().map_or(Err(ParseError::UnexpectedEnd), |token| Err(ParseError::UnexpectedToken(token.description())))
    }

    /// Parses one nesting level deeper and fails beyond [`MAX_DEPTH`].
    fn with_depth<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T, ParseError>) -> Result<T, ParseError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(ParseError::TooDeep);
        }
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    /// Parses operands with operators of this precedence level or higher ones between them.
    fn parse_operators(&mut self, level: usize) -> Result<Expr, ParseError> {
        let Some(operators) = PRECEDENCE.get(level) else { return self.parse_signed() };
        let mut left = self.parse_operators(level + 1)?;
        // Operators are left-associative. The bound limits the nesting of the expression.
        for _ in 0..MAX_DEPTH {
            if level == TYPE_LEVEL {
                left = if self.consume_if("is") {
                    Expr::Is(left.into(), self.parse_type_name()?)
                } else if self.consume_if("as") {
                    Expr::OfType(left.into(), self.parse_type_name()?)
                } else {
                    return Ok(left);
                };
                continue;
            }
            let Some((_, operator)) = operators.iter().find(|(symbol, _)| self.consume_if(symbol)) else { return Ok(left) };
            left = Expr::Binary(*operator, left.into(), self.parse_operators(level + 1)?.into());
        }
        Err(ParseError::TooDeep)
    }

    /// Parses a term with an optional sign.
    fn parse_signed(&mut self) -> Result<Expr, ParseError> {
        if self.consume_if("-") {
            return self.with_depth(|parser| Ok(Expr::Negate(parser.parse_signed()?.into())));
        }
        self.consume_if("+");
        self.parse_path()
    }

    /// Parses a term and the members, functions and indexers after it.
    fn parse_path(&mut self) -> Result<Expr, ParseError> {
        let mut expr = self.with_depth(Self::parse_term)?;
        // The bound limits the nesting of the expression.
        for _ in 0..MAX_DEPTH {
            if self.consume_if(".") {
                expr = self.with_depth(|parser| parser.parse_invocation(expr))?;
            } else if self.consume_if("[") {
                let index = self.with_depth(|parser| parser.parse_operators(0))?;
                self.expect("]")?;
                if index == Expr::Member(Expr::This.into(), "x".into()) {
                    return Err(ParseError::ChoiceSuffix);
                }
                expr = Expr::Indexer(expr.into(), index.into());
            } else {
                return Ok(expr);
            }
        }
        Err(ParseError::TooDeep)
    }

    /// Parses a literal, a variable, an expression in parentheses, or the first member or function of a path.
    fn parse_term(&mut self) -> Result<Expr, ParseError> {
        if self.consume_if("(") {
            let inner = self.parse_operators(0)?;
            self.expect(")")?;
            return Ok(inner);
        }
        if self.consume_if("{") {
            self.expect("}")?;
            return Ok(Expr::Empty);
        }
        if self.consume_if("%") {
            return self.parse_environment_variable();
        }
        match self.tokens.first() {
            Some(Token::Literal(value)) => {
                self.next()?;
                Ok(Expr::Literal(self.parse_unit(value).map_or_else(|| value.clone(), Value::Quantity)))
            }
            Some(Token::Variable(name)) => {
                self.next()?;
                match name.as_str() {
                    "this" => Ok(Expr::This),
                    "index" => Ok(Expr::Index),
                    "total" => Ok(Expr::Total),
                    _ => Err(ParseError::UnexpectedToken(format!("${}", name.chars().take(64).collect::<String>()))),
                }
            }
            Some(Token::Identifier(name)) if matches!(name.as_str(), "true" | "false") => {
                self.next()?;
                Ok(Expr::Literal(Value::Boolean(name == "true")))
            }
            Some(Token::Identifier(_) | Token::DelimitedIdentifier(_)) => self.parse_invocation(Expr::This),
            Some(token @ Token::Symbol(_)) => Err(ParseError::UnexpectedToken(token.description())),
            None => Err(ParseError::UnexpectedEnd),
        }
    }

    /// Consumes the unit after a number: `5 'mg'`, `89 years`. Returns the quantity, or `None` if no unit follows.
    fn parse_unit(&mut self, value: &Value<'static>) -> Option<Quantity> {
        let number = value.as_decimal()?;
        let quantity = match self.tokens.first()? {
            Token::Literal(Value::String(unit)) => Quantity::new(number, unit),
            Token::Identifier(unit) => Quantity::of_calendar(number, unit)?,
            Token::Literal(_) | Token::DelimitedIdentifier(_) | Token::Variable(_) | Token::Symbol(_) => return None,
        };
        self.tokens = self.tokens.get(1..).unwrap_or_default();
        Some(quantity)
    }

    /// Parses the name after a percent sign.
    fn parse_environment_variable(&mut self) -> Result<Expr, ParseError> {
        let name = match self.next()? {
            Token::Identifier(name) | Token::DelimitedIdentifier(name) => name.as_str(),
            Token::Literal(Value::String(name)) => name,
            token @ (Token::Literal(_) | Token::Variable(_) | Token::Symbol(_)) => {
                return Err(ParseError::UnexpectedToken(token.description()));
            }
        };
        let text = |text: String| Ok(Expr::Literal(Value::String(text.into())));
        match name {
            "resource" | "context" => Ok(Expr::Resource),
            "rootResource" => Ok(Expr::RootResource),
            "sct" => text("http://snomed.info/sct".to_owned()),
            "loinc" => text("http://loinc.org".to_owned()),
            "ucum" => text("http://unitsofmeasure.org".to_owned()),
            _ => match (name.strip_prefix("ext-"), name.strip_prefix("vs-")) {
                (Some(id), _) => text(format!("http://hl7.org/fhir/StructureDefinition/{id}")),
                (_, Some(id)) => text(format!("http://hl7.org/fhir/ValueSet/{id}")),
                (None, None) => Err(ParseError::UnknownVariable(name.chars().take(64).collect())),
            },
        }
    }

    /// Parses a member or a function call of `focus`.
    fn parse_invocation(&mut self, focus: Expr) -> Result<Expr, ParseError> {
        let name = match self.next()? {
            Token::Identifier(name) | Token::DelimitedIdentifier(name) => name,
            token @ (Token::Literal(_) | Token::Variable(_) | Token::Symbol(_)) => {
                return Err(ParseError::UnexpectedToken(token.description()));
            }
        };
        if !self.consume_if("(") {
            return Ok(Expr::Member(focus.into(), name.as_str().into()));
        }
        if let "is" | "as" | "ofType" = name.as_str() {
            let type_name = self.parse_type_name()?;
            self.expect(")")?;
            return Ok(if name == "is" { Expr::Is(focus.into(), type_name) } else { Expr::OfType(focus.into(), type_name) });
        }
        let mut arguments = Vec::new();
        while !self.consume_if(")") {
            if !arguments.is_empty() {
                self.expect(",")?;
            }
            arguments.push(self.with_depth(|parser| parser.parse_operators(0))?);
        }
        let function = Function::resolve(name, &arguments)?;
        Ok(Expr::Call(focus.into(), function, arguments))
    }

    /// Parses a type such as `Age`, `FHIR.Age` or `System.String` and returns it without its namespace.
    fn parse_type_name(&mut self) -> Result<Box<str>, ParseError> {
        let mut name = None;
        loop {
            match self.next()? {
                Token::Identifier(part) | Token::DelimitedIdentifier(part) => {
                    if !matches!(name, None | Some("FHIR" | "System")) {
                        return Err(ParseError::UnexpectedToken(part.chars().take(64).collect()));
                    }
                    name = Some(part.as_str());
                }
                token @ (Token::Literal(_) | Token::Variable(_) | Token::Symbol(_)) => {
                    return Err(ParseError::UnexpectedToken(token.description()));
                }
            }
            let is_namespace = matches!(name, Some("FHIR" | "System"));
            if !(is_namespace && self.consume_if(".")) {
                return Ok(name.unwrap_or_default().into());
            }
        }
    }
}
