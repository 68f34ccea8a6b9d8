//! 16-byte hashes that stand for resources, so that millions of them fit into memory. Ids are not kept.

use std::hash::Hasher as _;

use headrace_fhir::definitions::ResourceType;
use sha2::{Digest as _, Sha256};
use siphasher::sip128::{Hasher128 as _, SipHasher13};

use crate::job::JobSecret;
use crate::vocab::ids::JobId;

/// A 128-bit hash of `Type/id`, valid within one job.
///
/// Collisions are not expected: between 10 million members and a thousand million resources, the probability of one is
/// 3 in 10^23. The hash key is derived from the job id, which is random and not known in advance, so nobody can put
/// colliding ids into a lake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceKey(pub u128);

impl ResourceKey {
    /// Returns the upper 64 bits. They are distributed evenly and sort like the keys.
    pub fn high_bits(self) -> u64 {
        u64::try_from(self.0 >> 64).unwrap_or_default()
    }
}

/// A hasher that computes the resource keys of one job.
#[derive(Clone, Debug)]
pub struct ResourceKeyHasher {
    seed: SipHasher13,
    /// State after hashing `Patient/`.
    patient: SipHasher13,
}

impl ResourceKeyHasher {
    /// Creates the hasher of a job from its id. Anyone who knows the id can compute the keys.
    pub fn from_job(job: &JobId) -> Self {
        // A job id is 32 hexadecimal digits.
        let bits = u128::from_str_radix(job.as_str(), 16).unwrap_or_default();
        Self::from_seed(&bits.to_be_bytes())
    }

    /// Creates the hasher of a job with a secret. Without the secret, its keys cannot be computed.
    pub fn from_secret(secret: &JobSecret) -> Self {
        let digest = Sha256::new().chain_update(b"keys of resources").chain_update(secret.0).finalize();
        let mut seed = [0; 16];
        seed.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        Self::from_seed(&seed)
    }

    /// Creates a hasher whose keys depend on this seed.
    fn from_seed(seed: &[u8; 16]) -> Self {
        let seed = SipHasher13::new_with_key(seed);
        let mut patient = seed;
        patient.write(b"Patient/");
        Self { seed, patient }
    }

    /// Computes the key of `kind/id` without allocating.
    pub fn key(&self, kind: ResourceType, id: &[u8]) -> ResourceKey {
        let mut hasher = self.seed;
        hasher.write(kind.as_str().as_bytes());
        hasher.write(b"/");
        finish(hasher, id)
    }

    /// Computes the key of `Patient/id`.
    pub fn patient_key(&self, id: &[u8]) -> ResourceKey {
        finish(self.patient, id)
    }
}

/// Adds an id to a hasher that has already hashed the type. Returns the key.
fn finish(mut hasher: SipHasher13, id: &[u8]) -> ResourceKey {
    hasher.write(id);
    ResourceKey(hasher.finish128().as_u128())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn different_resources_and_jobs_have_different_keys() {
        let hashers = [1, 2].map(|byte| ResourceKeyHasher::from_job(&JobId::from_random([byte; 16])));
        let mut seen = BTreeSet::new();
        for hasher in &hashers {
            for kind in ["Patient", "Practitioner", "Device"].map(|name| ResourceType::parse(name).unwrap()) {
                for id in ["", "1", "11", "a", "A", "a-longer-id-than-one-block-of-the-hash"] {
                    assert!(seen.insert(hasher.key(kind, id.as_bytes())), "{kind}/{id}");
                }
            }
        }
    }

    #[test]
    fn patient_key_equals_the_key_of_type_patient() {
        let hasher = ResourceKeyHasher::from_job(&JobId::from_random([7; 16]));
        for id in ["", "1", "0123456789", "π-☃"] {
            assert_eq!(hasher.patient_key(id.as_bytes()), hasher.key(ResourceType::PATIENT, id.as_bytes()));
        }
    }
}
