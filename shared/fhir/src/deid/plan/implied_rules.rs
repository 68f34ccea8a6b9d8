//! The rules for ids outside of `Resource.id` and of references: in addresses, in searches, and in values of the type `id`. They follow from
//! the rules for ids of resources.

use super::PathResolver;
use super::id_treatment::rules_of_element;
use crate::definitions::ResourceType;
use crate::deid::config::{Method, ParsedConfig, Rule};

/// The elements with ids of other resources: the addresses in a Bundle, searches, and the values that name a resource by its id. A search for
/// an identifier identifies its patient as an id does.
const PATHS: [&str; 7] = [
    "Bundle.entry.fullUrl | Bundle.entry.request.url | Bundle.entry.request.ifNoneExist | Bundle.entry.response.location | \
     Bundle.link.url | Bundle.entry.link.url",
    "Parameters.parameter.nodesByType('id')",
    "Task.input.nodesByType('id') | Task.output.nodesByType('id')",
    "Transport.input.nodesByType('id') | Transport.output.nodesByType('id')",
    "MessageHeader.response.nodesByType('id')",
    "Subscription.criteria | Subscription.filterBy.value",
    "AuditEvent.entity.query",
];

/// Adds the rules that hide the ids in these elements, if rules hide ids. They are the last ones, so that rules of the file come before
/// them. Any other address of a resource, such as a `valueUri`, has a rule of its own: whether it applies depends on the value.
///
/// Without them, an entry would hold both the id and the pseudonym of its resource, and a task the id of a resource that is exported with
/// its pseudonym. Addresses are hashed like references if ids are hashed, so that they still name the entries, and are otherwise removed.
pub(in crate::deid) fn add_implied_rules(config: &mut ParsedConfig) {
    let hides_version = |kind: &ResourceType| !matches!(hidden_in_type(config, *kind, &["meta", "versionId"]), Hidden::Nothing);
    config.types_without_versions = config.version.types().iter().filter(hides_version).collect();
    let (name, method) = match hidden_ids(config) {
        Hidden::Nothing => return,
        Hidden::Hashed => ("cryptoHash", Method::CryptoHash),
        Hidden::Removed => ("redact", Method::Redact),
    };
    // `unnamedElements: "drop"` removes these elements already.
    if !config.rules.iter().any(|rule| matches!(rule.method, Method::Drop)) {
        let numbered = (config.rules.len() + 1..).zip(PATHS);
        let implied: Vec<_> = numbered.filter_map(|(number, path)| Rule::implied(number, path, name, method.clone())).collect();
        config.rules.extend(implied);
    }
    config.address_rule = Some(Rule::for_addresses(config.rules.len() + 1, name, method));
}

/// The strongest treatment of values by rules.
enum Hidden {
    /// All values stay.
    Nothing,
    /// Some values are hashed.
    Hashed,
    /// Some values are removed or replaced, and none is hashed.
    Removed,
}

/// Returns what rules do to ids in any resource type, also if only under a condition.
fn hidden_ids(config: &ParsedConfig) -> Hidden {
    let mut hidden = Hidden::Nothing;
    // Addresses in a Bundle are not those of the Bundle itself.
    for kind in config.version.types().iter().filter(|kind| *kind != ResourceType::BUNDLE) {
        match hidden_in_type(config, kind, &["id"]) {
            Hidden::Nothing => {}
            Hidden::Hashed => return Hidden::Hashed,
            Hidden::Removed => hidden = Hidden::Removed,
        }
    }
    hidden
}

/// Returns what rules do to an element in a resource type, also if only under a condition. `names` leads to the element.
fn hidden_in_type(config: &ParsedConfig, kind: ResourceType, names: &[&str]) -> Hidden {
    let Some(root) = config.version.type_definitions().of_resource(kind) else { return Hidden::Nothing };
    let mut hidden = Hidden::Nothing;
    for rule in rules_of_element(&config.rules, PathResolver::new(config.version), root, names) {
        match rule.method {
            Method::CryptoHash => return Hidden::Hashed,
            Method::Redact | Method::Drop | Method::Encrypt | Method::Substitute(_) | Method::Generalize(_) => hidden = Hidden::Removed,
            Method::Keep | Method::DateShift | Method::Perturb(_) | Method::Unknown => {}
        }
    }
    hidden
}
