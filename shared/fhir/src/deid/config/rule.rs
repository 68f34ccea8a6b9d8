//! Rules: the elements that they select, and the method that applies to them.

use super::method::Method;
use crate::deid::fhirpath::{Expr, ParseError, Selection, Step, parse};

/// A rule of a configuration.
#[derive(Clone, Debug)]
pub(in crate::deid) struct Rule {
    /// The number in messages, counted from 1.
    pub(in crate::deid) number: usize,
    /// The path as written in the file.
    pub(in crate::deid) path: String,
    /// The method as written in the file.
    pub(in crate::deid) method_name: String,
    /// The resource type at the beginning of the path; `None` for all types.
    pub(in crate::deid) resource_type: Option<Box<str>>,
    pub(in crate::deid) target: RuleTarget,
    /// The elements that the target can select, independent of values.
    pub(in crate::deid) selection: Selection,
    pub(in crate::deid) method: Method,
    /// True if the file does not contain the rule, but its settings or other rules imply it.
    pub(in crate::deid) is_implied: bool,
}

/// The elements of a resource that a rule selects.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::deid) enum RuleTarget {
    /// The whole resource: `Patient`, `Resource`.
    Resource,
    /// A path of `nodesByType('T')` or `nodesByName('n')`, alone or with the name of a child.
    ///
    /// It selects among everything below the resource before any rule changes it. Nested resources are included, the
    /// elements inside them are not.
    Descendants { test: Step, child: Option<Box<str>> },
    /// A path of another form.
    Expression(Expr),
}

/// Path prefixes that stand for all resource types.
const GENERAL_TYPES: [&str; 2] = ["Resource", "DomainResource"];

/// A parsed path of a rule.
pub(super) struct ParsedPath {
    pub(super) resource_type: Option<Box<str>>,
    pub(super) target: RuleTarget,
    pub(super) selection: Selection,
}

impl ParsedPath {
    /// Parses a path: a resource type, a dot, and an expression that is evaluated for each resource of the type.
    pub(super) fn parse(path: &str) -> Result<Self, ParseError> {
        let type_length = if path.starts_with(|c: char| c.is_ascii_uppercase()) {
            path.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(path.len())
        } else {
            0
        };
        let (type_name, rest) = path.split_at_checked(type_length).unwrap_or(("", path));
        let (target, selection) = if rest.is_empty() && !type_name.is_empty() {
            (RuleTarget::Resource, Selection::from_steps([]))
        } else if let (true, Some((test, child))) = (type_name.is_empty(), parse_nodes_by(rest)) {
            let child_step = child.map(|child| Step::Child(child.into()));
            let selection = Selection::from_steps([Step::DescendantsToResources, test.clone()].into_iter().chain(child_step));
            (RuleTarget::Descendants { test, child: child.map(Into::into) }, selection)
        } else {
            // A dot must follow a type, and none may precede a path without a type.
            let unexpected = || ParseError::UnexpectedToken(rest.chars().take(64).collect());
            let text = if type_name.is_empty() { rest } else { rest.strip_prefix('.').ok_or_else(unexpected)? };
            let expr = parse(text)?;
            let selection = Selection::from_expression(&expr)?;
            (RuleTarget::Expression(expr), selection)
        };
        let resource_type = Some(type_name).filter(|name| !name.is_empty() && !GENERAL_TYPES.contains(name)).map(Into::into);
        Ok(Self { resource_type, target, selection })
    }
}

/// Parses `nodesByType('T').child` or `nodesByName('n').child`. The child is optional, and double quotes are allowed.
fn parse_nodes_by(path: &str) -> Option<(Step, Option<&str>)> {
    let (function, rest) = path.split_once('(')?;
    let (argument, child) = rest.split_once(')')?;
    let is_name = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let name = argument.strip_prefix(['\'', '"'])?.strip_suffix(['\'', '"']).filter(|name| is_name(name))?;
    let test = match function {
        "nodesByType" => Step::ExactType(name.into()),
        "nodesByName" => Step::ElementName(name.into()),
        _ => return None,
    };
    match child.strip_prefix('.') {
        Some(child) if is_name(child) => Some((test, Some(child))),
        None if child.is_empty() => Some((test, None)),
        Some(_) | None => None,
    }
}

impl Rule {
    /// Creates a rule that other rules imply. Returns `None` if the path is invalid.
    pub(in crate::deid) fn implied(number: usize, path: &str, method_name: &str, method: Method) -> Option<Self> {
        let ParsedPath { resource_type, target, selection } = ParsedPath::parse(path).ok()?;
        let (path, method_name) = (path.to_owned(), method_name.to_owned());
        Some(Self { number, path, method_name, resource_type, target, selection, method, is_implied: true })
    }

    /// Creates the rule for addresses of resources in elements that no other rule applies to. Its path only names it in messages.
    pub(in crate::deid) fn for_addresses(number: usize, method_name: &str, method: Method) -> Self {
        Self {
            number,
            path: "addresses of resources".to_owned(),
            method_name: method_name.to_owned(),
            resource_type: None,
            target: RuleTarget::Resource,
            selection: Selection::from_steps([]),
            method,
            is_implied: true,
        }
    }

    /// Returns true if the rule applies to resources of this type.
    pub(in crate::deid) fn applies_to(&self, type_name: &str) -> bool {
        self.resource_type.as_deref().is_none_or(|own_type| own_type == type_name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_begins_with_the_resource_type_that_it_applies_to() {
        let resource_type = |path| ParsedPath::parse(path).unwrap().resource_type.map(String::from);
        assert_eq!(resource_type("Patient.name"), Some("Patient".to_owned()));
        assert_eq!(
            (resource_type("Resource.id"), resource_type("DomainResource"), resource_type("nodesByType('date')")),
            (None, None, None)
        );
        assert_eq!(ParsedPath::parse("Patient").unwrap().target, RuleTarget::Resource);
        let descendants = RuleTarget::Descendants { test: Step::ExactType("HumanName".into()), child: Some("use".into()) };
        assert_eq!(ParsedPath::parse("nodesByType(\"HumanName\").use").unwrap().target, descendants);
        for path in ["Patient.nodesByType('HumanName')", "nodesByType('HumanName').where(use='x')", "name.given"] {
            assert!(matches!(ParsedPath::parse(path).unwrap().target, RuleTarget::Expression(_)), "{path}");
        }
    }

    #[test]
    fn an_unsupported_path_is_rejected_with_the_reason() {
        for (path, reason) in [
            ("", "the expression is incomplete"),
            ("invalid()", "there is no function invalid()"),
            ("Patient.name.subString(0)", "did you mean substring()?"),
            ("Observation.subject.resolve()", "the function resolve() is not supported"),
            ("Patient.name.family.length()", "the path yields values"),
            ("Patient.name.where(", "the expression is incomplete"),
            (".name", "unexpected `.`"),
            ("Patient name", "unexpected ` name`"),
            ("Patient(name)", "unexpected `(name)`"),
            ("Patient.name && Patient.address", "unexpected `&`"),
            ("Patient.birthDate > @2015-1-1", "`@2015-1-1` is not a date or time"),
            ("Observation.value > 5 'mg'", "the path yields values"),
            ("Patient.name.where(use = %patient)", "there is no variable %patient"),
            // The type would apply to the whole comparison, as in Microsoft's tool.
            ("Observation.where(value as Quantity > 5 'mg')", "unexpected `>`"),
        ] {
            let error = ParsedPath::parse(path).map(|parsed| parsed.target).unwrap_err().to_string();
            assert!(error.contains(reason), "{path}: {error}");
        }
    }
}
