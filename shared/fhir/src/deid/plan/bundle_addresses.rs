//! The rule for the addresses of resources in Bundles, which contain ids. It follows from the rules for ids.

use super::PathResolver;
use super::id_treatment::rules_of_id;
use crate::definitions::ResourceType;
use crate::deid::config::{Method, ParsedConfig, Rule};

/// The elements of a Bundle with addresses of resources.
const BUNDLE_ADDRESSES: &str =
    "Bundle.entry.fullUrl | Bundle.entry.request.url | Bundle.entry.response.location | Bundle.link.url | Bundle.entry.link.url";

/// Returns the rule that hides the ids in the addresses of Bundles, if rules hide ids. It is the last one, so that rules of the file
/// come before it.
///
/// Without it, an entry would hold both the id and the pseudonym of its resource. Addresses are hashed like references if ids are
/// hashed, so that they still name the entries, and are otherwise removed.
pub(in crate::deid) fn bundle_address_rule(config: &ParsedConfig) -> Option<Rule> {
    let number = config.rules.len() + 1;
    // `unnamedElements: "drop"` removes them already.
    if config.rules.iter().any(|rule| matches!(rule.method, Method::Drop)) {
        return None;
    }
    match hidden_ids(config) {
        HiddenIds::None => None,
        HiddenIds::Hashed => Rule::implied(number, BUNDLE_ADDRESSES, "cryptoHash", Method::CryptoHash),
        HiddenIds::Removed => Rule::implied(number, BUNDLE_ADDRESSES, "redact", Method::Redact),
    }
}

/// The strongest treatment of ids that an address can contain.
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
