//! The patients and other group members of an export. The plan task writes the set as a fragment, and every worker reads it.
//!
//! * A patient in the set adds all resources in the patient's compartment.
//! * Another member (`Practitioner/5`, `Device/7`) adds only its own resource, since only the Patient compartment defines
//!   which resources belong to a member. The requested Group itself is such a member, so that an export contains that Group
//!   and no other Group of its patients.

use bytes::{BufMut as _, Bytes, BytesMut};
use headrace_fhir::definitions::{ResourceType, TypeSet};

use super::sorted_keys::SortedKeys;
use crate::versions::key::{ResourceKey, ResourceKeyHasher};
use crate::vocab::ids::JobId;

/// First bytes of a stored set: its format and the version of the format.
const MAGIC: &[u8; 8] = b"patset 1";

/// Size of a stored key, in bytes.
const KEY_BYTES: usize = 16;

/// The patients and other members of an export.
///
/// It holds a 16-byte [`ResourceKey`] of each, so a million patients fit into 20 MB. It does not hold ids.
#[derive(Clone, Debug)]
pub struct PatientSet {
    hasher: ResourceKeyHasher,
    /// Patients that did not join the group after `_since`.
    patients: SortedKeys,
    /// Patients that joined the group after `_since`.
    late_joiners: SortedKeys,
    /// Members that are not patients.
    others: SortedKeys,
    /// Types of `others`.
    other_types: TypeSet,
}

/// A stored set is damaged, or belongs to another job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stored patient set is damaged: {0}")]
pub struct DamagedPatientSet(&'static str);

/// A member of a [`PatientSet`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PatientSetMember {
    /// Resource type.
    pub resource_type: ResourceType,
    /// Key within the job.
    pub key: ResourceKey,
    /// True if it joined the group after `_since`.
    pub is_late_joiner: bool,
}

impl Default for PatientSet {
    /// Creates an empty set.
    fn default() -> Self {
        Self::new(&JobId::from_random([0; 16]), [])
    }
}

impl PatientSet {
    /// Creates the set of a job. Duplicate members count once; a patient that is named both with and without
    /// `is_late_joiner` is not a late joiner.
    pub fn new(job: &JobId, members: impl IntoIterator<Item = PatientSetMember>) -> Self {
        let (mut patients, mut late_joiners, mut others, mut types) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for member in members {
            match (member.resource_type == ResourceType::PATIENT, member.is_late_joiner) {
                (true, false) => patients.push(member.key),
                (true, true) => late_joiners.push(member.key),
                (false, _) => {
                    others.push(member.key);
                    types.push(member.resource_type);
                    types.dedup();
                }
            }
        }
        let patients = SortedKeys::new(patients);
        late_joiners.retain(|key| !patients.contains(*key));
        Self {
            hasher: ResourceKeyHasher::from_job(job),
            patients,
            late_joiners: SortedKeys::new(late_joiners),
            others: SortedKeys::new(others),
            other_types: types.into_iter().collect(),
        }
    }

    /// Returns true if the set contains the patient with this id.
    pub fn contains_patient(&self, id: &str) -> bool {
        self.contains_patient_bytes(id.as_bytes())
    }

    /// Returns true if the set contains the patient with this id, given as bytes. Does not allocate.
    pub fn contains_patient_bytes(&self, id: &[u8]) -> bool {
        self.contains_patient_key(self.hasher.patient_key(id))
    }

    /// Returns true if the set contains the patient with this key.
    pub fn contains_patient_key(&self, key: ResourceKey) -> bool {
        self.patients.contains(key) || self.late_joiners.contains(key)
    }

    /// Returns true if the patient joined the group after `_since`.
    pub fn joined_after_since(&self, id: &str) -> bool {
        !self.late_joiners.is_empty() && self.late_joiners.contains(self.hasher.patient_key(id.as_bytes()))
    }

    /// Returns true if at least one patient of the set joined the group after `_since`.
    pub fn has_late_joiners(&self) -> bool {
        !self.late_joiners.is_empty()
    }

    /// Returns true if the set contains this resource, which is not a Patient.
    pub fn contains_other(&self, resource_type: ResourceType, id: &str) -> bool {
        self.other_types.contains(resource_type) && self.others.contains(self.hasher.key(resource_type, id.as_bytes()))
    }

    /// Returns the resource types other than Patient that have at least one member.
    pub fn other_types(&self) -> TypeSet {
        self.other_types
    }

    /// Returns the number of patients.
    pub fn patient_count(&self) -> usize {
        self.patients.len() + self.late_joiners.len()
    }

    /// Returns the number of members, including patients.
    pub fn len(&self) -> usize {
        self.patient_count() + self.others.len()
    }

    /// Returns true if the set is empty, so that nothing is exported.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Serializes the set.
    ///
    /// The format is: the magic; the numbers of patients, late joiners and others, and the length of the type list; the type
    /// list, separated by commas; the keys in the same order, each list sorted, 16 bytes per key. Numbers have 8 bytes. All
    /// values are little-endian.
    pub fn to_bytes(&self) -> Bytes {
        let names: Vec<_> =
            ResourceType::all().filter(|resource_type| self.other_types.contains(*resource_type)).map(ResourceType::as_str).collect();
        let names = names.join(",");
        let lists = [&self.patients, &self.late_joiners, &self.others];
        let mut file = BytesMut::with_capacity(MAGIC.len() + 32 + names.len() + self.len() * KEY_BYTES);
        file.put_slice(MAGIC);
        for length in lists.map(SortedKeys::len).into_iter().chain([names.len()]) {
            file.put_u64_le(length as u64);
        }
        file.put_slice(names.as_bytes());
        for key in lists.into_iter().flat_map(SortedKeys::iter) {
            file.put_u128_le(key.0);
        }
        file.freeze()
    }

    /// Parses the output of [`Self::to_bytes`] for the same job.
    pub fn from_bytes(job: &JobId, file: &[u8]) -> Result<Self, DamagedPatientSet> {
        let mut rest = file.strip_prefix(MAGIC).ok_or(DamagedPatientSet("unknown format"))?;
        let truncated = DamagedPatientSet("truncated");
        let mut read_number = || {
            let (first, remaining) = rest.split_first_chunk::<8>().ok_or(truncated)?;
            rest = remaining;
            usize::try_from(u64::from_le_bytes(*first)).map_err(|_| truncated)
        };
        let (patients, late_joiners, others, names) = (read_number()?, read_number()?, read_number()?, read_number()?);
        let (names, keys) = rest.split_at_checked(names).ok_or(truncated)?;
        let names = std::str::from_utf8(names).map_err(|_| DamagedPatientSet("invalid resource types"))?;
        let types = names.split(',').filter(|name| !name.is_empty()).map(ResourceType::parse);
        let other_types = types.collect::<Option<TypeSet>>().ok_or(DamagedPatientSet("invalid resource types"))?;
        let mut keys = keys.as_chunks::<KEY_BYTES>();
        // Checked before the lists are read, so that a wrong count cannot allocate memory.
        let total = patients.checked_add(late_joiners).and_then(|sum| sum.checked_add(others));
        if total != Some(keys.0.len()) || !keys.1.is_empty() {
            return Err(DamagedPatientSet("wrong number of keys"));
        }
        let mut read_keys = |count| {
            let (list, remaining) = keys.0.split_at_checked(count).ok_or(truncated)?;
            keys.0 = remaining;
            let list: Vec<_> = list.iter().map(|bytes| ResourceKey(u128::from_le_bytes(*bytes))).collect();
            if list.is_sorted() { Ok(SortedKeys::new(list)) } else { Err(DamagedPatientSet("keys are not sorted")) }
        };
        Ok(Self {
            hasher: ResourceKeyHasher::from_job(job),
            patients: read_keys(patients)?,
            late_joiners: read_keys(late_joiners)?,
            others: read_keys(others)?,
            other_types,
        })
    }
}

#[cfg(test)]
mod tests;
