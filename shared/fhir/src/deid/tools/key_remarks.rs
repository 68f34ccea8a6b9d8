//! Remarks about the keys of a configuration, and about exports that can be compared with earlier ones.

use crate::deid::config::{Method, ParsedConfig};
use crate::deid::error::{DeidRemark, DeidRemarkCode, DeidRemarkSeverity};

/// The length of a key that cannot be guessed: 32 hexadecimal digits hold 128 bits.
const MIN_HASH_KEY_CHARS: usize = 32;

/// Remarks about keys that are too short to resist guessing. An empty key is derived from a random secret.
pub(in crate::deid) fn key_remarks(config: &ParsedConfig) -> Option<DeidRemark> {
    let key = &config.parameters.crypto_hash_key;
    let hashes = config.rules.iter().any(|rule| matches!(rule.method, Method::CryptoHash));
    if !hashes || key.is_empty() || key.chars().count() >= MIN_HASH_KEY_CHARS {
        return None;
    }
    let reason = format!(
        "cryptoHashKey has {} characters and can be guessed; anyone who has the key can compute the pseudonym of every known id",
        key.chars().count()
    );
    let remedy = format!("use at least {MIN_HASH_KEY_CHARS} random characters; `headrace deid keygen` makes them");
    Some(DeidRemark::in_file(DeidRemarkCode::WeakKey, DeidRemarkSeverity::Warning, reason, remedy))
}

/// Remarks about an increment whose dates move together: the newest date of each patient reveals the shift.
pub(in crate::deid) fn increment_remarks(config: &ParsedConfig) -> Option<DeidRemark> {
    if !shifts_together(config) {
        return average_remark(config);
    }
    let reason = "an increment contains the changes since the last export, so the true date of a new visit is known within days; \
                  that date reveals the shift, and with it all dates of the patient";
    let remedy = "redact dates instead of shifting them, or export everything once, without _since and without lasting keys";
    Some(DeidRemark::in_file(DeidRemarkCode::ShiftedIncrement, DeidRemarkSeverity::Warning, reason, remedy))
}

/// Remarks about full exports that can be compared: what the second has more than the first is an increment, and shifts that differ are
/// averaged out.
pub(in crate::deid) fn lasting_key_remarks(config: &ParsedConfig) -> Option<DeidRemark> {
    let (cause, remedy) = match (config.parameters.fixed_offset_days, config.has_lasting_keys()) {
        (Some(_), _) => ("the offset is fixed", "redact dates instead of shifting them, or give no fixed offset"),
        (None, true) => ("the keys are lasting", "redact dates instead of shifting them, or give no keys and export once"),
        (None, false) => return average_remark(config),
    };
    if !shifts_together(config) {
        return average_remark(config);
    }
    let reason = format!(
        "{cause}, so that two exports can be compared: the true date of a resource that only the second has is known within the time between \
         them; that date reveals the shift, and with it all dates of the patient"
    );
    Some(DeidRemark::in_file(DeidRemarkCode::ShiftedIncrement, DeidRemarkSeverity::Warning, reason, remedy))
}

/// Remarks about ids that stay beside dates whose shifts differ between exports.
fn average_remark(config: &ParsedConfig) -> Option<DeidRemark> {
    let has_lasting_shifts = config.parameters.fixed_offset_days.is_some() || config.has_lasting_keys();
    // The rule for addresses follows from any rule that hides ids.
    if !config.shifts_dates() || has_lasting_shifts || config.address_rule.is_some() {
        return None;
    }
    let reason = "no rule hides ids, and each export shifts the dates of a resource by another number of days: the dates of several exports \
                  reveal the true one";
    let remedy = "hash ids, or give lasting keys";
    Some(DeidRemark::in_file(DeidRemarkCode::ShiftedIncrement, DeidRemarkSeverity::Warning, reason, remedy))
}

/// Returns true if one date of a patient reveals the shift of others.
fn shifts_together(config: &ParsedConfig) -> bool {
    config.parameters.shifts_across_resources() && config.shifts_dates()
}
