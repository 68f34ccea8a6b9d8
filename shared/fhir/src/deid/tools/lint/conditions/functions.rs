//! Functions: their arguments, and the items that they yield.

use super::ExpressionChecker;
use super::items::{Items, ValueKind};
use crate::definitions::TypeKind;
use crate::deid::config::closest_name;
use crate::deid::error::{DeidRemarkCode, Truncated};
use crate::deid::fhirpath::{Expr, Function, Value};
use crate::deid::plan::TypedElement;
use crate::deid::tools::lint::constants::integer;
use crate::deid::tools::lint::error;

impl ExpressionChecker<'_, '_> {
    /// Checks the arguments of a function and returns what it can yield.
    pub(super) fn check_call(&mut self, focus: Items, function: &Function, arguments: &[Expr], this: &Items) -> Items {
        let argument = |index: usize| arguments.get(index).unwrap_or(&Expr::Empty);
        match function {
            Function::Where => {
                self.check_condition(argument(0), &focus.clone().single());
                focus
            }
            Function::Exists | Function::All => {
                if !arguments.is_empty() {
                    self.check_condition(argument(0), &focus.single());
                }
                Items::of_kind(ValueKind::Boolean)
            }
            Function::Select => {
                let is_many = focus.is_many;
                let selected = self.check(argument(0), &focus.single());
                if is_many { selected.several() } else { selected }
            }
            Function::Repeat => {
                let first = self.check_argument(argument(0), &focus.single()).single();
                if first.is_unknown() { Items::open() } else { first.clone().and(self.check_argument(argument(0), &first)).several() }
            }
            Function::Aggregate => {
                let outer = std::mem::replace(&mut self.is_in_aggregate, true);
                self.check_argument(argument(0), &focus);
                self.is_in_aggregate = outer;
                Items::open()
            }
            Function::Union | Function::Combine => {
                let other = self.check(argument(0), this);
                focus.and(other).several()
            }
            Function::Iif => {
                self.check_operand(argument(0), this);
                self.report_constant_condition(argument(0));
                let first = self.check(argument(1), this);
                first.and(self.check(argument(2), this))
            }
            Function::Intersect | Function::Exclude => {
                self.check_argument(argument(0), this);
                focus
            }
            Function::Skip | Function::Take => {
                self.check_operand(argument(0), this);
                let is_beyond_first = *function == Function::Skip && integer(argument(0)).is_some_and(|number| number > 0);
                if is_beyond_first {
                    self.expect_several(&focus, "skip()");
                }
                let takes_one = *function == Function::Take && matches!(argument(0), Expr::Literal(Value::Integer(1)));
                if takes_one { focus.single() } else { focus }
            }
            Function::First | Function::Last => focus.single(),
            Function::Tail => {
                self.expect_several(&focus, "tail()");
                focus
            }
            Function::Distinct | Function::Trace => focus,
            Function::Single | Function::GetValue => {
                self.expect_single(&focus);
                focus.single()
            }
            Function::Children => self.children(&focus),
            Function::Descendants => Items::open(),
            Function::NodesByType(name) => self.check_nodes_by_type(name),
            Function::NodesByName(name) => self.check_nodes_by_name(name),
            Function::Extension(_) => {
                let extension = self.linter.config.version.type_definitions().by_name("Extension");
                Items::of_elements(extension.map(|definition| TypedElement { definition, name: "extension" }))
            }
            Function::Not => {
                self.expect_single(&focus);
                Items::of_kind(ValueKind::Boolean)
            }
            Function::Empty | Function::Booleans { .. } | Function::IsDistinct | Function::HasValue => Items::of_kind(ValueKind::Boolean),
            Function::SubsetOf | Function::SupersetOf => {
                self.check_argument(argument(0), this);
                Items::of_kind(ValueKind::Boolean)
            }
            Function::Count => Items::of_kind(ValueKind::Number),
            Function::Today | Function::Now => Items::of_kind(ValueKind::Date),
            Function::TimeOfDay => Items::of_kind(ValueKind::Time),
            Function::Join => Items::of_kind(ValueKind::Text),
            Function::Split | Function::ToChars => {
                self.expect_single(&focus);
                Items::of_kind(ValueKind::Text).several()
            }
            Function::OnValue(_) => {
                self.expect_single(&focus);
                for argument in arguments {
                    self.check_operand(argument, this);
                }
                Items::open()
            }
        }
    }

    /// Returns the members of elements.
    fn children(&self, focus: &Items) -> Items {
        let is_nested = |element: &TypedElement| matches!(self.linter.type_name(element.definition), "Resource" | "DomainResource");
        if focus.is_unknown() || focus.elements.iter().any(is_nested) {
            return Items::open();
        }
        let loaded = focus.elements.iter().filter_map(|element| self.linter.resolver.loaded_type(element.definition));
        let members = loaded.flat_map(|loaded| &loaded.members);
        Items::of_elements(members.map(|member| TypedElement { definition: member.definition, name: member.element })).several()
    }

    /// Returns the elements of a type, and reports a type that does not exist.
    fn check_nodes_by_type(&mut self, name: &str) -> Items {
        let linter = self.linter;
        let definition = linter.config.version.type_definitions().by_name(name);
        if definition.is_none() {
            let remedy = closest_name(name, &mut linter.resolver.types.values().map(|loaded| loaded.name))
                .map(|similar| format!("did you mean `{similar}`?"))
                .unwrap_or_else(|| "use the name of a type of FHIR".to_owned());
            self.report(error(DeidRemarkCode::UnknownName, format!("no element has the type `{}`", Truncated(name)), remedy));
        }
        match definition {
            Some(definition) if linter.kind(definition) != TypeKind::Resource && !name.ends_with("Element") => {
                Items::of_elements([TypedElement { definition, name: self.linter.type_name(definition) }]).several()
            }
            Some(_) | None => Items::open(),
        }
    }

    /// Reports a name that no element has.
    fn check_nodes_by_name(&mut self, name: &str) -> Items {
        let members = || self.linter.resolver.types.values().flat_map(|loaded| &loaded.members);
        if !members().any(|member| member.element == name) {
            let remedy = closest_name(name, &mut members().map(|member| member.element))
                .map(|similar| format!("did you mean `{similar}`?"))
                .unwrap_or_else(|| "use the name of an element".to_owned());
            self.report(error(DeidRemarkCode::UnknownName, format!("no element has the name `{}`", Truncated(name)), remedy));
        }
        Items::open()
    }
}
