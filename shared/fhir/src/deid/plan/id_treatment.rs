//! Tells what a configuration does to the ids of a resource type, without any data.

use super::PathResolver;
use crate::definitions::TypeDefinition;
use crate::deid::config::{Method, ParsedConfig, Rule};

/// The treatment of the ids of a resource type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::deid) enum IdTreatment {
    /// Every id is replaced by its hash, whatever the resource contains.
    Hashed,
    /// The id alone decides what becomes of it.
    Fixed,
    /// The treatment depends on other elements of the resource.
    Varying,
}

/// Returns the treatment of the ids of the resource type with the definition `root`.
///
/// A rule with a condition treats some ids and not others. A deletion and the header of a block consist of the id alone, so that
/// the rules cannot be applied to them in the same way.
pub(super) fn id_treatment(config: &ParsedConfig, root: TypeDefinition) -> IdTreatment {
    let rules = rules_of_id(&config.rules, PathResolver::new(config.version), root);
    let is_exact = |rule: &&Rule| rule.selection.is_exact;
    if rules.last().is_some_and(is_exact) && rules.iter().all(|rule| matches!(rule.method, Method::CryptoHash)) {
        return IdTreatment::Hashed;
    }
    let uses_others = |rule: &&Rule| matches!(&rule.method, Method::Generalize(settings) if settings.navigates);
    if rules.iter().all(is_exact) && !rules.iter().any(uses_others) { IdTreatment::Fixed } else { IdTreatment::Varying }
}

/// Returns the rules that can be the first to apply to an id of the type, in the order of the file: those with conditions, up to
/// the first without one.
pub(in crate::deid) fn rules_of_id(rules: &[Rule], resolver: PathResolver, root: TypeDefinition) -> Vec<&Rule> {
    rules_of_element(rules, resolver, root, &["id"])
}

/// Returns the rules that can be the first to apply to an element of the type, like [`rules_of_id`]. `names` leads to the element.
pub(super) fn rules_of_element<'r>(rules: &'r [Rule], resolver: PathResolver, root: TypeDefinition, names: &[&str]) -> Vec<&'r Rule> {
    let mut found = Vec::new();
    for rule in rules.iter().filter(|rule| resolver.may_select(rule, root, names)) {
        found.push(rule);
        if rule.selection.is_exact {
            break;
        }
    }
    found
}
