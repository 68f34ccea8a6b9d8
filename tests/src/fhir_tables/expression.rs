//! Parser for the part of FHIRPath that search parameters use and that can be expressed as a path over JSON members.

/// FHIRPath expression. [`parse`] fails for expressions that have no variant here.
#[derive(Debug, PartialEq)]
pub(super) enum Expression {
    /// First name of a path: a type, or an element of the focus.
    Root(String),
    /// Member: `of.name`.
    Member(Box<Expression>, String),
    /// Index: `of[0]`.
    Index(Box<Expression>, String),
    /// Cast: `of as T`, `of.as(T)`, `of.ofType(T)`.
    OfType(Box<Expression>, String),
    /// Condition on a member: `of.where(member = 'value')`.
    WhereEquals(Box<Expression>, String, String),
    /// Condition on a reference's target type: `of.where(resolve() is T)`.
    WhereTarget(Box<Expression>, String),
    /// Extension: `of.extension('url')`.
    Extension(Box<Expression>, String),
    /// Union: `a | b`.
    Union(Vec<Expression>),
}

/// Parses an expression. The error quotes the unsupported part.
pub(super) fn parse(expression: &str) -> Result<Expression, String> {
    let mut parser = ExpressionParser { rest: expression.trim_start() };
    let expression = parser.union()?;
    if parser.rest.is_empty() { Ok(expression) } else { Err(format!("`{}` cannot be expressed as a path", parser.rest)) }
}

struct ExpressionParser<'a> {
    rest: &'a str,
}

impl ExpressionParser<'_> {
    /// Parses `a | b`, or a single operand.
    fn union(&mut self) -> Result<Expression, String> {
        let mut branches = vec![self.cast()?];
        while self.accept("|") {
            branches.push(self.cast()?);
        }
        Ok(if branches.len() == 1 { branches.remove(0) } else { Expression::Union(branches) })
    }

    /// Parses a path with an optional cast `as Type`.
    fn cast(&mut self) -> Result<Expression, String> {
        let of = self.path()?;
        if self.accept("as ") { Ok(Expression::OfType(Box::new(of), self.name()?)) } else { Ok(of) }
    }

    /// Parses a name or an expression in parentheses, and the members, indexes and calls after it.
    fn path(&mut self) -> Result<Expression, String> {
        let mut path = if self.accept("(") {
            let inner = self.union()?;
            self.expect(")")?;
            inner
        } else {
            Expression::Root(self.name()?)
        };
        loop {
            if self.accept("[") {
                let index = self.take_while(|letter| letter.is_ascii_digit());
                self.expect("]")?;
                path = Expression::Index(Box::new(path), index);
            } else if self.accept(".") {
                let name = self.name()?;
                path = if self.accept("(") { self.call(Box::new(path), &name)? } else { Expression::Member(Box::new(path), name) };
            } else {
                return Ok(path);
            }
        }
    }

    /// Parses a function call after its opening parenthesis.
    fn call(&mut self, of: Box<Expression>, function: &str) -> Result<Expression, String> {
        let result = match function {
            "as" | "ofType" => Expression::OfType(of, self.name()?),
            "extension" => Expression::Extension(of, self.quoted()?),
            // Only used on unions, whose order is undefined, so all values are compared.
            "first" => *of,
            "where" if self.accept("resolve() is ") => Expression::WhereTarget(of, self.name()?),
            "where" => {
                let member = self.name()?;
                self.expect("=")?;
                Expression::WhereEquals(of, member, self.quoted()?)
            }
            _ => return Err(format!("`{function}({}` cannot be expressed as a path", self.rest)),
        };
        self.expect(")")?;
        Ok(result)
    }

    /// Parses the name of a type or an element.
    fn name(&mut self) -> Result<String, String> {
        let name = self.take_while(char::is_alphanumeric);
        if name.is_empty() { Err(format!("expected a name before `{}`", self.rest)) } else { Ok(name) }
    }

    /// Parses a text in single quotes. Escapes are not supported.
    fn quoted(&mut self) -> Result<String, String> {
        self.expect("'")?;
        let text = self.take_while(|letter| letter != '\'');
        self.expect("'")?;
        Ok(text)
    }

    /// Consumes the characters that `accepts` accepts and the whitespace after them.
    fn take_while(&mut self, accepts: impl Fn(char) -> bool) -> String {
        let end = self.rest.find(|letter| !accepts(letter)).unwrap_or(self.rest.len());
        let (accepted, rest) = self.rest.split_at(end);
        self.rest = rest.trim_start();
        accepted.to_owned()
    }

    /// Consumes `token` and returns true if it comes next.
    fn accept(&mut self, token: &str) -> bool {
        let rest = self.rest.strip_prefix(token);
        self.rest = rest.map_or(self.rest, str::trim_start);
        rest.is_some()
    }

    /// Consumes `token`. Fails if it does not come next.
    fn expect(&mut self, token: &str) -> Result<(), String> {
        if self.accept(token) { Ok(()) } else { Err(format!("expected `{token}` before `{}`", self.rest)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the expression of a name.
    fn root(name: &str) -> Box<Expression> {
        Box::new(Expression::Root(name.to_owned()))
    }

    /// Returns the expression `of.name`.
    fn member(of: Box<Expression>, name: &str) -> Box<Expression> {
        Box::new(Expression::Member(of, name.to_owned()))
    }

    #[test]
    fn all_forms_of_a_cast_give_the_same_expression() {
        let expected = Expression::OfType(member(root("Observation"), "value"), "Quantity".to_owned());
        for spelling in [
            "(Observation.value as Quantity)",
            "Observation.value.as(Quantity)",
            "Observation.value.ofType(Quantity)",
            " Observation.value as Quantity ",
        ] {
            assert_eq!(parse(spelling).as_ref(), Ok(&expected), "{spelling}");
        }
    }

    #[test]
    fn a_path_may_continue_after_a_parenthesis() {
        let value = Expression::OfType(member(root("Observation"), "value"), "CodeableConcept".to_owned());
        assert_eq!(parse("(Observation.value as CodeableConcept).text"), Ok(*member(Box::new(value), "text")));
    }

    #[test]
    fn conditions_on_members_and_on_targets_are_distinguished() {
        let telecom = member(root("Patient"), "telecom");
        let expected = Expression::WhereEquals(telecom, "system".to_owned(), "phone".to_owned());
        assert_eq!(parse("Patient.telecom.where(system='phone')"), Ok(expected));
        let subject = member(root("Account"), "subject");
        let expected = Expression::WhereTarget(subject, "Patient".to_owned());
        assert_eq!(parse("Account.subject.where(resolve() is Patient)"), Ok(expected));
    }

    #[test]
    fn an_unsupported_expression_gives_an_error_that_quotes_it() {
        for (expression, quoted) in [
            ("Patient.deceased.exists() and Patient.deceased != false", "exists"),
            ("A.item.where(extension('u').exists()).answer", "="),
            ("Patient.", "name"),
            ("(Patient.name", ")"),
            ("Patient.name and", "and"),
            ("", "name"),
        ] {
            let error = parse(expression).unwrap_err();
            assert!(error.contains(quoted), "{expression}: {error}");
        }
    }
}
