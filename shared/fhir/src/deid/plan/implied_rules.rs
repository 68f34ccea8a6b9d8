//! The rules for ids outside of `Resource.id` and of references: in addresses of Bundles, and in values of the type `id`. They follow from the
//! rules for ids of resources.

use super::PathResolver;
use super::id_treatment::rules_of_id;
use crate::definitions::ResourceType;
use crate::deid::config::{Method, ParsedConfig, Rule};

/// The elements with ids of other resources: the addresses and the search of a conditional request in a Bundle, and the values of parameters
/// that name a resource by its id. A search for an identifier identifies its patient as an id does.
const PATHS: [&str; 3] = [
    "Bundle.entry.fullUrl | Bundle.entry.request.url | Bundle.entry.request.ifNoneExist | Bundle.entry.response.location | \
     Bundle.link.url | Bundle.entry.link.url",
    "Parameters.parameter.nodesByType('id')",
    "Task.input.nodesByType('id') | Task.output.nodesByType('id')",
];

/// Returns the rules that hide the ids in these elements, if rules hide ids. They are the last ones, so that rules of the file come before
/// them.
///
/// Without them, an entry would hold both the id and the pseudonym of its resource, and a task the id of a resource that is exported with
/// its pseudonym. Addresses are hashed like references if ids are hashed, so that they still name the entries, and are otherwise removed.
pub(in crate::deid) fn implied_rules(config: &ParsedConfig) -> Vec<Rule> {
    // `unnamedElements: "drop"` removes them already.
    if config.rules.iter().any(|rule| matches!(rule.method, Method::Drop)) {
        return Vec::new();
    }
    let (name, method) = match hidden_ids(config) {
        HiddenIds::None => return Vec::new(),
        HiddenIds::Hashed => ("cryptoHash", Method::CryptoHash),
        HiddenIds::Removed => ("redact", Method::Redact),
    };
    let numbered = (config.rules.len() + 1..).zip(PATHS);
    numbered.filter_map(|(number, path)| Rule::implied(number, path, name, method.clone())).collect()
}

/// The strongest treatment of ids that these elements can contain.
enum HiddenIds {
    /// All ids stay.
    None,
    /// Some ids are hashed.
    Hashed,
    /// Some ids are removed or replaced, and none is hashed.
    Removed,
}

/// Returns what rules do to ids in any resource type, also if only under a condition.
fn hidden_ids(config: &ParsedConfig) -> HiddenIds {
    let resolver = PathResolver::new(config.version);
    // Addresses in a Bundle are not those of the Bundle itself.
    let types = config.version.types().iter().filter(|kind| *kind != ResourceType::BUNDLE);
    let roots = types.filter_map(|kind| config.version.type_definitions().of_resource(kind));
    let mut hidden = HiddenIds::None;
    for root in roots {
        for rule in rules_of_id(&config.rules, resolver, root) {
            match rule.method {
                Method::CryptoHash => return HiddenIds::Hashed,
                Method::Redact | Method::Drop | Method::Encrypt | Method::Substitute(_) | Method::Generalize(_) => {
                    hidden = HiddenIds::Removed;
                }
                Method::Keep | Method::DateShift | Method::Perturb(_) | Method::Unknown => {}
            }
        }
    }
    hidden
}
