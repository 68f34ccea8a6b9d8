//! Remarks about the keys of a configuration, and about exports that can be compared with earlier ones.

use crate::deid::config::{Method, Parameters, ParsedConfig};
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
        return None;
    }
    let reason = "an increment contains the changes since the last export, so the true date of a new visit is known within days; \
                  that date reveals the shift, and with it all dates of the patient";
    let remedy = "redact dates instead of shifting them, or export everything once, without _since and without lasting keys";
    Some(DeidRemark::in_file(DeidRemarkCode::ShiftedIncrement, DeidRemarkSeverity::Warning, reason, remedy))
}

/// Remarks about full exports whose dates move together and whose keys are lasting: what the second has more than the first is an
/// increment.
pub(in crate::deid) fn lasting_key_remarks(config: &ParsedConfig) -> Option<DeidRemark> {
    let Parameters { crypto_hash_key, date_shift_key, .. } = &config.parameters;
    let hashes = config.rules.iter().any(|rule| matches!(rule.method, Method::CryptoHash));
    let shifts_by_key = config.parameters.fixed_offset_days.is_none();
    let has_lasting_key = (hashes && !crypto_hash_key.is_empty()) || (shifts_by_key && !date_shift_key.is_empty());
    if !shifts_together(config) || !has_lasting_key {
        return None;
    }
    let reason = "the keys are lasting, so that two exports can be compared: the true date of a resource that only the second has is known \
                  within the time between them; that date reveals the shift, and with it all dates of the patient";
    let remedy = "redact dates instead of shifting them, or give no keys and export once";
    Some(DeidRemark::in_file(DeidRemarkCode::ShiftedIncrement, DeidRemarkSeverity::Warning, reason, remedy))
}

/// Returns true if one date of a patient reveals the shift of others.
fn shifts_together(config: &ParsedConfig) -> bool {
    config.parameters.shifts_across_resources() && config.shifts_dates()
}
