//! Names in expressions: elements and types that do not exist, or that the items cannot have.

use std::collections::BTreeSet;

use super::ExpressionChecker;
use super::items::Items;
use crate::definitions::MemberDefinition;
use crate::deid::config::closest_name;
use crate::deid::error::{DeidRemarkCode, Truncated};
use crate::deid::fhirpath::Expr;
use crate::deid::plan::TypedElement;
use crate::deid::tools::lint::error;

/// The types of FHIRPath.
const SYSTEM_TYPES: [&str; 8] = ["Boolean", "String", "Integer", "Decimal", "Date", "DateTime", "Time", "Quantity"];

impl ExpressionChecker<'_, '_> {
    /// Returns the members of elements with a name, and reports a name that none of them has.
    pub(super) fn check_member(&mut self, focus: &Items, name: &str) -> Items {
        let linter = self.linter;
        if focus.is_unknown() {
            return Items::open();
        }
        let members = || {
            let loaded = focus.elements.iter().filter_map(|element| linter.resolver.loaded_type(element.definition));
            loaded.flat_map(|loaded| loaded.members.iter()).copied()
        };
        // A nested resource can be of any type.
        if focus.elements.iter().any(|element| matches!(linter.type_name(element.definition), "Resource" | "DomainResource")) {
            return Items::open();
        }
        let typed = |member: MemberDefinition| TypedElement { definition: member.definition, name: member.element };
        let is_many = focus.is_many || members().any(|member| member.element == name && member.is_list);
        let found = Items { is_many, ..Items::of_elements(members().filter(|member| member.element == name).map(typed)) };
        if found.elements.is_empty() {
            let remedy = match members().find(|member| member.name == name) {
                Some(choice) => format!("name a choice without its type: `{}`", choice.element),
                None => closest_name(name, &mut members().map(|member| member.element))
                    .map(|similar| format!("did you mean `{similar}`?"))
                    .unwrap_or_else(|| "look the name up in the definition of the type".to_owned()),
            };
            let owner = focus.elements.first().map(|element| format!(" in {}", linter.type_name(element.definition))).unwrap_or_default();
            let reason = format!("a condition uses `{}`, which does not exist{owner}, so it never has a value", Truncated(name));
            self.report(error(DeidRemarkCode::UnknownName, reason, remedy));
            return Items::open();
        }
        found
    }

    /// Checks a type test or filter, and reports a type that does not exist or that the items cannot have.
    pub(super) fn check_type_filter(&mut self, focus: &Expr, type_name: &str, this: &Items) -> Items {
        let focus = self.check(focus, this);
        let linter = self.linter;
        let type_definitions = linter.config.version.type_definitions();
        let known = type_definitions.by_name(type_name);
        if known.is_none() && !SYSTEM_TYPES.contains(&type_name) {
            let mut names = linter.resolver.types.values().map(|loaded| loaded.name);
            let remedy = closest_name(type_name, &mut names)
                .map(|similar| format!("did you mean `{similar}`?"))
                .unwrap_or_else(|| "use the name of a type of FHIR; names of types are case-sensitive".to_owned());
            let reason = format!("a condition uses the type `{}`, which does not exist", Truncated(type_name));
            self.report(error(DeidRemarkCode::UnknownName, reason, remedy));
            return Items::open();
        }
        if focus.is_unknown() {
            return Items::open();
        }
        let is_of_type = |element: &TypedElement| crate::deid::element_tree::is_of_type(type_definitions, element.definition, type_name);
        let is_nested = |element: &TypedElement| matches!(linter.type_name(element.definition), "Resource" | "DomainResource");
        let of_type = Items::of_elements(focus.elements.iter().copied().filter(|element| is_of_type(element)));
        let found = Items { is_many: focus.is_many, ..of_type };
        let can_be = !found.elements.is_empty() || focus.elements.iter().any(is_nested) || !focus.values.is_empty();
        if !can_be {
            let types: BTreeSet<&str> = focus.elements.iter().map(|element| linter.type_name(element.definition)).collect();
            let types: Vec<&str> = types.into_iter().take(6).collect();
            let reason = format!("a condition expects the type {type_name}, which the element never has, so it is never true");
            self.report(error(DeidRemarkCode::Condition, reason, format!("use a type of the element: {}", types.join(", "))));
            return Items::open();
        }
        if found.elements.is_empty() { Items::open() } else { found }
    }
}
