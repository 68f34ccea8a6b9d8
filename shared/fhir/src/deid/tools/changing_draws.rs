//! The shifts and the noise of a configuration that are drawn anew for each export.

use crate::definitions::ResourceType;
use crate::deid::config::{Method, ParsedConfig, Rule};
use crate::deid::plan::{PathResolver, rules_of_id};

/// The reason why the shifts of dates or the noise of numbers are others in each export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangingDraws {
    /// A lasting key is missing that would determine them.
    MissingKeys,
    /// The id of a resource determines its shift, and each export has another ciphertext of the id.
    EncryptedIds,
}

/// Returns the reason why exports with this configuration have other shifts or noise; `None` if they have the same, or none.
///
/// A reader of many exports averages out what changes: the lines of two exports of a lake are in the same order.
pub(in crate::deid) fn changing_draws(config: &ParsedConfig) -> Option<ChangingDraws> {
    let parameters = &config.parameters;
    let uses = |is_method: fn(&Method) -> bool| config.rules.iter().any(|rule| is_method(&rule.method));
    let has_noise = uses(|method| matches!(method, Method::Perturb(_)));
    let shifts_by_key = config.shifts_dates() && parameters.fixed_offset_days.is_none();
    let shifts_by_id = shifts_by_key && !parameters.shifts_across_resources();
    // The shift follows from the id that the reader sees.
    let shifts_by_hash = shifts_by_id && uses(|method| matches!(method, Method::CryptoHash));
    // Noise and a missing dateShiftKey are derived from the lasting keys that are given.
    let is_drawn_anew = (has_noise || shifts_by_key) && !config.has_lasting_keys();
    let is_key_missing = is_drawn_anew || (shifts_by_hash && parameters.crypto_hash_key.is_empty());
    if is_key_missing {
        return Some(ChangingDraws::MissingKeys);
    }
    (shifts_by_id && encrypts_ids(config)).then_some(ChangingDraws::EncryptedIds)
}

/// Returns true if a rule may encrypt the ids of a resource type.
fn encrypts_ids(config: &ParsedConfig) -> bool {
    let encrypts = |rule: &Rule| matches!(rule.method, Method::Encrypt);
    // Most configurations encrypt nothing.
    if !config.rules.iter().any(encrypts) {
        return false;
    }
    let (resolver, definitions) = (PathResolver::new(config.version), config.version.type_definitions());
    let mut roots = ResourceType::all().filter_map(|kind| definitions.of_resource(kind));
    roots.any(|root| rules_of_id(&config.rules, resolver, root).into_iter().any(encrypts))
}
