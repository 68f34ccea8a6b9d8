//! Tells whether a configuration hashes the ids of a resource type, without any data.

use super::{PathAutomaton, PathResolver};
use crate::definitions::TypeDefinition;
use crate::deid::config::{Method, ParsedConfig, Rule};

/// Returns true if every id of the resource type with the definition `root` is replaced by its hash, whatever the resource
/// contains.
///
/// The first rule that can select the id must do so in every resource. If it has a condition, some ids may be hashed and
/// others not, so that a deletion, which consists of the id alone, cannot be de-identified in the same way.
pub(super) fn hashes_ids(config: &ParsedConfig, root: TypeDefinition) -> bool {
    // Rules that keep have the same selection, and every automaton can apply them.
    let selecting: Vec<Rule> = config.rules.iter().map(|rule| Rule { method: Method::Keep, ..rule.clone() }).collect();
    let resolver = PathResolver::new(config.version);
    let automaton = PathAutomaton::compile(&selecting, resolver, root, config.parameters.skips_extensions, usize::MAX);
    let rule_of_id = automaton.as_ref().and_then(|automaton| {
        let id = automaton.get(0)?.members.get("id")?.next_state;
        config.rules.get(automaton.get(id)?.applied_rule?.index)
    });
    rule_of_id.is_some_and(|rule| matches!(rule.method, Method::CryptoHash) && rule.selection.is_exact)
}
