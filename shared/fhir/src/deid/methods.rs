//! The methods of the format that change single values. `keep` needs no code; `substitute` depends on the engine.

mod age_limit;
mod crypto_hash;
mod date_shift;
mod encrypt;
mod generalize;
mod hash_cache;
mod perturb;
mod redact;

pub(super) use age_limit::AgeLimit;
pub(super) use crypto_hash::Hasher;
pub(super) use date_shift::{DateShiftKey, ShiftedDate, ShiftedTimeZone, shift_date};
pub(super) use encrypt::encrypt;
pub(super) use generalize::{GeneralizedValue, generalize};
pub(super) use hash_cache::HashCache;
pub(super) use perturb::perturb;
pub(super) use redact::redact;
