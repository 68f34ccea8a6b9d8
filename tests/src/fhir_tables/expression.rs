//! The part of FHIRPath that search parameters use and that a path over JSON members can carry.

/// One expression. What has no form here cannot be a path and is an error of [`parse`].
#[derive(Debug, PartialEq)]
pub(super) enum Expression {
    /// The first name of a path: a type, or an element of the focus.
    Start(String),
    /// `of.name`
    Member(Box<Expression>, String),
    /// `of[0]`
    Index(Box<Expression>, String),
    /// `of as T`, `of.as(T)`, `of.ofType(T)`
    OfType(Box<Expression>, String),
    /// `of.where(member = 'value')`
    WhereEquals(Box<Expression>, String, String),
    /// `of.where(resolve() is T)`
    WhereTarget(Box<Expression>, String),
    /// `of.extension('url')`
    Extension(Box<Expression>, String),
    /// `a | b`
    Union(Vec<Expression>),
}

/// Reads an expression; the error quotes what has no form.
pub(super) fn parse(expression: &str) -> Result<Expression, String> {
    let mut reader = Reader { rest: expression.trim_start() };
    let whole = reader.union()?;
    if reader.rest.is_empty() { Ok(whole) } else { Err(format!("`{}` has no form as a path", reader.rest)) }
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn union(&mut self) -> Result<Expression, String> {
        let mut branches = vec![self.cast()?];
        while self.accept("|") {
            branches.push(self.cast()?);
        }
        Ok(if branches.len() == 1 { branches.remove(0) } else { Expression::Union(branches) })
    }

    fn cast(&mut self) -> Result<Expression, String> {
        let of = self.path()?;
        if self.accept("as ") { Ok(Expression::OfType(Box::new(of), self.name()?)) } else { Ok(of) }
    }

    fn path(&mut self) -> Result<Expression, String> {
        let mut path = if self.accept("(") {
            let inner = self.union()?;
            self.expect(")")?;
            inner
        } else {
            Expression::Start(self.name()?)
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

    /// A function after its opening parenthesis.
    fn call(&mut self, of: Box<Expression>, function: &str) -> Result<Expression, String> {
        let result = match function {
            "as" | "ofType" => Expression::OfType(of, self.name()?),
            "extension" => Expression::Extension(of, self.quoted()?),
            // Which of several comes first is not defined for a union, its only use: every one of them is looked at.
            "first" => *of,
            "where" if self.accept("resolve() is ") => Expression::WhereTarget(of, self.name()?),
            "where" => {
                let member = self.name()?;
                self.expect("=")?;
                Expression::WhereEquals(of, member, self.quoted()?)
            }
            _ => return Err(format!("`{function}({}` has no form as a path", self.rest)),
        };
        self.expect(")")?;
        Ok(result)
    }

    fn name(&mut self) -> Result<String, String> {
        let name = self.take_while(char::is_alphanumeric);
        if name.is_empty() { Err(format!("a name was expected before `{}`", self.rest)) } else { Ok(name) }
    }

    fn quoted(&mut self) -> Result<String, String> {
        self.expect("'")?;
        let text = self.take_while(|letter| letter != '\'');
        self.expect("'")?;
        Ok(text)
    }

    fn take_while(&mut self, belongs: impl Fn(char) -> bool) -> String {
        let end = self.rest.find(|letter| !belongs(letter)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest.trim_start();
        taken.to_owned()
    }

    fn accept(&mut self, token: &str) -> bool {
        let rest = self.rest.strip_prefix(token);
        self.rest = rest.map_or(self.rest, str::trim_start);
        rest.is_some()
    }

    fn expect(&mut self, token: &str) -> Result<(), String> {
        if self.accept(token) { Ok(()) } else { Err(format!("`{token}` was expected before `{}`", self.rest)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(name: &str) -> Box<Expression> {
        Box::new(Expression::Start(name.to_owned()))
    }

    fn member(of: Box<Expression>, name: &str) -> Box<Expression> {
        Box::new(Expression::Member(of, name.to_owned()))
    }

    #[test]
    fn both_spellings_of_a_cast_are_one() {
        let expected = Expression::OfType(member(start("Observation"), "value"), "Quantity".to_owned());
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
    fn a_path_goes_on_after_a_parenthesis() {
        let value = Expression::OfType(member(start("Observation"), "value"), "CodeableConcept".to_owned());
        assert_eq!(parse("(Observation.value as CodeableConcept).text"), Ok(*member(Box::new(value), "text")));
    }

    #[test]
    fn conditions_are_told_apart() {
        let telecom = member(start("Patient"), "telecom");
        let expected = Expression::WhereEquals(telecom, "system".to_owned(), "phone".to_owned());
        assert_eq!(parse("Patient.telecom.where(system='phone')"), Ok(expected));
        let subject = member(start("Account"), "subject");
        let expected = Expression::WhereTarget(subject, "Patient".to_owned());
        assert_eq!(parse("Account.subject.where(resolve() is Patient)"), Ok(expected));
    }

    #[test]
    fn what_is_no_path_is_an_error_that_quotes_it() {
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
