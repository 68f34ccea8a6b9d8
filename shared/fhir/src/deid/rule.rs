//! Rules: which elements of which resources, and what is done with them.

use super::fhirpath::{Expr, Select, Step, Unreadable, one_step, parse, select};
use super::method::Method;

/// One rule of a configuration.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    /// Counted from 1, as messages name it.
    pub(super) number: usize,
    /// As the file has it.
    pub(super) path: String,
    /// As the file has it.
    pub(super) method_name: String,
    /// The type that its path begins with; `None` for every type.
    pub(super) kind: Option<Box<str>>,
    pub(super) target: Target,
    /// Where the target can lie.
    pub(super) select: Select,
    pub(super) method: Method,
}

/// Which elements of a resource a rule is about.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Target {
    /// The resource as a whole: `Patient`, `Resource`.
    Resource,
    /// `nodesByType('T')` or `nodesByName('n')` alone: looked up among everything below the resource, before any rule
    /// changes it, resources within included but not entered; then the children of a name.
    Below { wanted: Step, child: Option<Box<str>> },
    /// Any other path.
    Path(Expr),
}

/// These prefixes are of no type of their own: such rules are for every resource.
const GENERAL: [&str; 2] = ["Resource", "DomainResource"];

/// What a rule's path says.
pub(super) struct Aim {
    pub(super) kind: Option<Box<str>>,
    pub(super) target: Target,
    pub(super) select: Select,
}

impl Aim {
    /// Reads a path: a type, a dot, and an expression that is said of each resource of the type.
    pub(super) fn read(path: &str) -> Result<Self, Unreadable> {
        let length = if path.starts_with(|c: char| c.is_ascii_uppercase()) {
            path.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(path.len())
        } else {
            0
        };
        let (kind, rest) = path.split_at_checked(length).unwrap_or(("", path));
        let (target, select) = if rest.is_empty() && !kind.is_empty() {
            (Target::Resource, one_step([]))
        } else if let (true, Some((wanted, child))) = (kind.is_empty(), looked_up(rest)) {
            let child_step = child.map(|child| Step::Child(child.into()));
            let select = one_step([Step::Below, wanted.clone()].into_iter().chain(child_step));
            (Target::Below { wanted, child: child.map(Into::into) }, select)
        } else {
            // Behind a type there is a dot, and before a path without one there is none.
            let unexpected = || Unreadable::Unexpected(rest.chars().take(64).collect());
            let said = if kind.is_empty() { rest } else { rest.strip_prefix('.').ok_or_else(unexpected)? };
            let expr = parse(said)?;
            let select = select(&expr)?;
            (Target::Path(expr), select)
        };
        let kind = Some(kind).filter(|kind| !kind.is_empty() && !GENERAL.contains(kind)).map(Into::into);
        Ok(Self { kind, target, select })
    }
}

/// `nodesByType('T').child`, with either kind of quotes and an optional child.
fn looked_up(path: &str) -> Option<(Step, Option<&str>)> {
    let (function, rest) = path.split_once('(')?;
    let (key, child) = rest.split_once(')')?;
    let is_name = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let key = key.strip_prefix(['\'', '"'])?.strip_suffix(['\'', '"']).filter(|key| is_name(key))?;
    let wanted = match function {
        "nodesByType" => Step::TypeIs(key.into()),
        "nodesByName" => Step::NameIs(key.into()),
        _ => return None,
    };
    match child.strip_prefix('.') {
        Some(child) if is_name(child) => Some((wanted, Some(child))),
        None if child.is_empty() => Some((wanted, None)),
        Some(_) | None => None,
    }
}

impl Rule {
    /// Whether the rule is for resources of this type.
    pub(super) fn is_for(&self, type_name: &str) -> bool {
        self.kind.as_deref().is_none_or(|kind| kind == type_name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_says_of_which_resources_it_speaks() {
        let kind = |path| Aim::read(path).unwrap().kind.map(String::from);
        assert_eq!(kind("Patient.name"), Some("Patient".to_owned()));
        assert_eq!((kind("Resource.id"), kind("DomainResource"), kind("nodesByType('date')")), (None, None, None));
        assert_eq!(Aim::read("Patient").unwrap().target, Target::Resource);
        let below = Target::Below { wanted: Step::TypeIs("HumanName".into()), child: Some("use".into()) };
        assert_eq!(Aim::read("nodesByType(\"HumanName\").use").unwrap().target, below);
        for path in ["Patient.nodesByType('HumanName')", "nodesByType('HumanName').where(use='x')", "name.given"] {
            assert!(matches!(Aim::read(path).unwrap().target, Target::Path(_)), "{path}");
        }
    }

    #[test]
    fn what_cannot_be_followed_is_refused_by_its_name() {
        for (path, reason) in [
            ("", "it ends where something has to follow"),
            ("invalid()", "no function of this name: invalid()"),
            ("Patient.name.subString(0)", "FHIRPath has substring()"),
            ("Observation.subject.resolve()", "the function resolve() is not supported"),
            ("Patient.name.family.length()", "it yields values"),
            ("Patient.name.where(", "it ends"),
            (".name", "`.` is not expected here"),
            ("Patient name", "` name` is not expected here"),
            ("Patient(name)", "`(name)` is not expected here"),
            ("Patient.name && Patient.address", "`&` is not expected here"),
            ("Patient.birthDate > @2015-1-1", "`@2015-1-1` is no date or time"),
            ("Observation.value > 5 'mg'", "a quantity with its unit is not supported"),
            ("%context.name", "a %variable is not supported"),
        ] {
            let error = Aim::read(path).map(|aim| aim.target).unwrap_err().to_string();
            assert!(error.contains(reason), "{path}: {error}");
        }
    }
}
