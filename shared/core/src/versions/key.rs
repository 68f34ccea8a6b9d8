//! Resources by number: what remembers millions of them keeps 16 bytes of each, and none of their ids.

use std::hash::Hasher as _;

use headrace_fhir::ResourceType;
use sha2::{Digest as _, Sha256};
use siphasher::sip128::{Hasher128 as _, SipHasher13};

use crate::job::anonymization::JobSecret;
use crate::vocab::ids::JobId;

/// The 128 bits that stand for `Type/id` within one job.
///
/// Two resources of one key are not expected ever: among 10 million members and a thousand million resources a pair
/// has the chance 3 in 10^23. The key is the job's, which is random and unknown before, so nobody can write ids into a
/// lake that are made to meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceKey(pub u128);

impl ResourceKey {
    /// Where it stands among all keys; they are spread evenly.
    pub fn position(self) -> u64 {
        u64::try_from(self.0 >> 64).unwrap_or_default()
    }
}

/// Gives resources their keys within one job.
#[derive(Clone, Debug)]
pub struct Keys {
    seed: SipHasher13,
    /// `Patient/` is hashed already.
    patient: SipHasher13,
}

impl Keys {
    /// The keys of a job.
    pub fn of(job: &JobId) -> Self {
        // A job's name is 32 hexadecimal digits.
        let bits = u128::from_str_radix(job.as_str(), 16).unwrap_or_default();
        Self::seeded(&bits.to_be_bytes())
    }

    /// The keys of a job that nobody can tell who does not know its secret.
    pub fn of_secret(secret: &JobSecret) -> Self {
        let digest = Sha256::new().chain_update(b"keys of resources").chain_update(secret.0).finalize();
        let mut seed = [0; 16];
        seed.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        Self::seeded(&seed)
    }

    fn seeded(seed: &[u8; 16]) -> Self {
        let seed = SipHasher13::new_with_key(seed);
        let mut patient = seed;
        patient.write(b"Patient/");
        Self { seed, patient }
    }

    /// The key of `kind/id`; allocates nothing.
    pub fn key(&self, kind: ResourceType, id: &[u8]) -> ResourceKey {
        let mut hasher = self.seed;
        hasher.write(kind.as_str().as_bytes());
        hasher.write(b"/");
        finish(hasher, id)
    }

    /// The key of `Patient/id`.
    pub fn patient(&self, id: &[u8]) -> ResourceKey {
        finish(self.patient, id)
    }
}

fn finish(mut hasher: SipHasher13, id: &[u8]) -> ResourceKey {
    hasher.write(id);
    ResourceKey(hasher.finish128().as_u128())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_key_belongs_to_one_resource_of_one_job() {
        let (one, other) = (Keys::of(&JobId::from_random([1; 16])), Keys::of(&JobId::from_random([2; 16])));
        let mut met = BTreeSet::new();
        for keys in [&one, &other] {
            for kind in ["Patient", "Practitioner", "Device"].map(|name| ResourceType::named(name).unwrap()) {
                for id in ["", "1", "11", "a", "A", "a-longer-id-than-one-block-of-the-hash"] {
                    assert!(met.insert(keys.key(kind, id.as_bytes())), "{kind}/{id}");
                }
            }
        }
    }

    #[test]
    fn the_short_way_to_a_patients_key_leads_to_the_same_key() {
        let keys = Keys::of(&JobId::from_random([7; 16]));
        let patient = ResourceType::named("Patient").unwrap();
        for id in ["", "1", "0123456789", "π-☃"] {
            assert_eq!(keys.patient(id.as_bytes()), keys.key(patient, id.as_bytes()));
        }
    }
}
