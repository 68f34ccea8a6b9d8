//! Compiles FHIRPath expressions to paths over JSON members.

use super::TableError;
use super::elements::{Elements, Member};
use super::expression::Expression;

/// Path over JSON members, with the FHIR type of its values.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TypedPath {
    /// Path, such as `component[].valueQuantity`. Empty for the resource itself.
    pub(super) path: String,
    /// FHIR type, such as `Quantity`.
    pub(super) fhir_type: String,
    /// Code system of a `code`.
    pub(super) system: Option<String>,
    /// Path in the definitions below which its elements are defined.
    definition_path: String,
}

/// Starting point of expressions.
pub(super) struct Focus<'a> {
    pub(super) elements: &'a Elements,
    /// Element to which the expressions are relative.
    pub(super) at: TypedPath,
}

impl TypedPath {
    /// Returns the path of the resource itself.
    pub(super) fn resource(fhir_type: &str) -> Self {
        Self { path: String::new(), fhir_type: fhir_type.to_owned(), system: None, definition_path: fhir_type.to_owned() }
    }

    /// Returns the same element as the start of relative paths.
    pub(super) fn relative(&self) -> Self {
        Self { path: String::new(), ..self.clone() }
    }

    /// Returns the path extended by a member.
    fn member(&self, member: Member<'_>) -> Self {
        let dot = if self.path.is_empty() { "" } else { "." };
        let brackets = if member.is_list { "[]" } else { "" };
        Self {
            path: format!("{}{dot}{}{brackets}", self.path, member.name),
            fhir_type: member.fhir_type.to_owned(),
            system: member.system.map(str::to_owned),
            definition_path: member.definition_path,
        }
    }

    /// Puts a condition or index between the brackets of a path such as `telecom[]`.
    fn with_condition(self, within: &str) -> Result<Self, TableError> {
        let Some(list) = self.path.strip_suffix("[]") else {
            return Err(TableError::Unexpected(format!("{}: [{within}] needs an array", self.path)));
        };
        Ok(Self { path: format!("{list}[{within}]"), ..self })
    }
}

impl Focus<'_> {
    /// Compiles an expression to paths, in order and without duplicates. The result is empty if the expression does not apply to this
    /// type or names elements that it does not have.
    pub(super) fn compile(&self, expression: &Expression) -> Result<Vec<TypedPath>, TableError> {
        match expression {
            Expression::Root(name) if *name == self.at.fhir_type => Ok(vec![self.at.clone()]),
            // A branch for another type. Types start with a capital letter, elements never do.
            Expression::Root(name) if name.starts_with(char::is_uppercase) => Ok(Vec::new()),
            Expression::Root(name) => Ok(self.below(vec![self.at.clone()], name)),
            Expression::Member(of, name) => Ok(self.below(self.compile(of)?, name)),
            Expression::Index(of, index) => self.compile(of)?.into_iter().map(|path| path.with_condition(index)).collect(),
            Expression::OfType(of, fhir_type) => {
                let found = self.compile(of)?.into_iter().filter(|path| self.elements.is_subtype(&path.fhir_type, fhir_type));
                Ok(found.collect())
            }
            Expression::WhereEquals(of, member, value) => {
                let found = self.compile(of)?.into_iter().filter(|path| self.is_primitive(&path.definition_path, member));
                found.map(|path| path.with_condition(&format!("?{member}={value}"))).collect()
            }
            Expression::WhereTarget(of, fhir_type) => {
                let found = self.compile(of)?.into_iter().filter(|path| path.fhir_type == "Reference" || path.fhir_type == "canonical");
                Ok(found.map(|path| TypedPath { path: format!("{}<{fhir_type}>", path.path), ..path }).collect())
            }
            Expression::Extension(of, url) => {
                let extensions = self.below(self.compile(of)?, "extension");
                extensions.into_iter().map(|path| path.with_condition(&format!("?url={url}"))).collect()
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

    /// Returns the paths extended by the members of the element `name`. Paths to types without that element are dropped.
    fn below(&self, of: Vec<TypedPath>, name: &str) -> Vec<TypedPath> {
        let members =
            of.iter().flat_map(|path| self.elements.members(&path.definition_path, name).into_iter().map(|member| path.member(member)));
        members.collect()
    }

    /// Returns true if `member` is a primitive, so that it can equal a string. R5's Device-serial-number compares a CodeableConcept
    /// with a string, which is never true.
    fn is_primitive(&self, definition_path: &str, member: &str) -> bool {
        let members = self.elements.members(definition_path, member);
        !members.is_empty() && members.iter().all(|member| member.fhir_type.starts_with(|letter: char| letter.is_ascii_lowercase()))
    }
}
