//! Expressions compiled to paths over JSON members.

use super::TableError;
use super::elements::{Elements, Member};
use super::expression::Expression;

/// Where to look, and what is found there.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TypedPath {
    /// `component[].valueQuantity`; empty for the resource itself.
    pub(super) path: String,
    /// `Quantity`.
    pub(super) kind: String,
    /// The system of a `code`.
    pub(super) system: Option<String>,
    /// Below which its elements are defined.
    inside: String,
}

/// Where an expression starts.
pub(super) struct Focus<'a> {
    pub(super) elements: &'a Elements,
    /// The element that the expression is relative to.
    pub(super) at: TypedPath,
}

impl TypedPath {
    /// The resource itself.
    pub(super) fn resource(kind: &str) -> Self {
        Self { path: String::new(), kind: kind.to_owned(), system: None, inside: kind.to_owned() }
    }

    /// The same element, as the start of paths relative to it.
    pub(super) fn relative(&self) -> Self {
        Self { path: String::new(), ..self.clone() }
    }

    fn member(&self, member: Member<'_>) -> Self {
        let dot = if self.path.is_empty() { "" } else { "." };
        let brackets = if member.is_list { "[]" } else { "" };
        Self {
            path: format!("{}{dot}{}{brackets}", self.path, member.name),
            kind: member.kind.to_owned(),
            system: member.system.map(str::to_owned),
            inside: member.inside,
        }
    }

    /// `telecom[]` with something between the brackets.
    fn narrowed(self, within: &str) -> Result<Self, TableError> {
        let Some(list) = self.path.strip_suffix("[]") else {
            return Err(TableError::Unexpected(format!("{}: [{within}] needs an array", self.path)));
        };
        Ok(Self { path: format!("{list}[{within}]"), ..self })
    }
}

impl Focus<'_> {
    /// The paths of an expression, in its order, each once. None: the definitions say nothing of this focus, or name
    /// what it does not have.
    pub(super) fn compile(&self, expression: &Expression) -> Result<Vec<TypedPath>, TableError> {
        match expression {
            Expression::Start(name) if *name == self.at.kind => Ok(vec![self.at.clone()]),
            // A branch about another type. Types begin with a capital letter, elements never do.
            Expression::Start(name) if name.starts_with(char::is_uppercase) => Ok(Vec::new()),
            Expression::Start(name) => Ok(self.below(vec![self.at.clone()], name)),
            Expression::Member(of, name) => Ok(self.below(self.compile(of)?, name)),
            Expression::Index(of, index) => self.compile(of)?.into_iter().map(|path| path.narrowed(index)).collect(),
            Expression::OfType(of, kind) => {
                let found = self.compile(of)?.into_iter().filter(|path| self.elements.is_a(&path.kind, kind));
                Ok(found.collect())
            }
            Expression::WhereEquals(of, member, value) => {
                let found = self.compile(of)?.into_iter().filter(|path| self.is_text(&path.inside, member));
                found.map(|path| path.narrowed(&format!("?{member}={value}"))).collect()
            }
            Expression::WhereTarget(of, kind) => {
                let found = self.compile(of)?.into_iter().filter(|path| path.kind == "Reference" || path.kind == "canonical");
                Ok(found.map(|path| TypedPath { path: format!("{}<{kind}>", path.path), ..path }).collect())
            }
            Expression::Extension(of, url) => {
                let extensions = self.below(self.compile(of)?, "extension");
                extensions.into_iter().map(|path| path.narrowed(&format!("?url={url}"))).collect()
            }
            Expression::Union(branches) => {
                let mut found = Vec::new();
                for branch in branches {
                    for path in self.compile(branch)? {
                        if !found.contains(&path) {
                            found.push(path);
                        }
                    }
                }
                Ok(found)
            }
        }
    }

    fn below(&self, of: Vec<TypedPath>, name: &str) -> Vec<TypedPath> {
        let members = of.iter().flat_map(|path| self.elements.members(&path.inside, name).into_iter().map(|member| path.member(member)));
        members.collect()
    }

    /// Whether a condition on `member` can hold: only a string equals a string. R5 compares a CodeableConcept with one
    /// in Device-serial-number, which is never true.
    fn is_text(&self, inside: &str, member: &str) -> bool {
        let members = self.elements.members(inside, member);
        !members.is_empty() && members.iter().all(|member| member.kind.starts_with(|letter: char| letter.is_ascii_lowercase()))
    }
}
