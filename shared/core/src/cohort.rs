//! Who an export is about: made once by the plan, kept as a tail of kind `Roster`, loaded by every worker.
//!
//! * A patient on the roster brings everything in their compartment.
//! * Another member of a group (`Practitioner/5`, `Device/7`) brings its own resource and nothing else: only the Patient
//!   compartment says what belongs to somebody. The group that was asked for is there in the same way, so that an
//!   export holds that Group and none of the others which its patients happen to be in.

mod group;
mod latest;
mod sorted;

use bytes::{BufMut as _, Bytes, BytesMut};
use headrace_fhir::{ResourceType, TypeSet};
use serde::{Deserialize, Serialize};

use crate::request::IgnoredParameter;
use crate::versions::key::{Keys, ResourceKey};
use crate::vocab::ids::JobId;

pub(crate) use group::{FilterHits, GroupMember, GroupRead, ResolvedGroup};
pub(crate) use latest::{Latest, LinePlace, Version};
pub use sorted::SortedKeys;

/// What a roster's file begins with: its name and the version of its form.
const MAGIC: &[u8; 8] = b"roster 1";

/// The bytes of one key.
const KEY_BYTES: usize = 16;

/// The patients and other members that an export is about.
///
/// Of each it keeps 16 bytes ([`ResourceKey`]), a million fit into 20 MB; ids are not in it.
#[derive(Clone, Debug)]
pub struct Roster {
    keys: Keys,
    /// Members of old, and everybody who is on the roster for another reason.
    steady: SortedKeys,
    /// Patients who joined the group after `_since`.
    late: SortedKeys,
    others: SortedKeys,
    other_kinds: TypeSet,
}

/// A roster's file is damaged, or another job's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the roster is damaged: {0}")]
pub struct DamagedRoster(&'static str);

impl Default for Roster {
    /// Nobody.
    fn default() -> Self {
        Self::of(&JobId::from_random([0; 16]), [])
    }
}

impl Roster {
    /// A roster of these members of a job; who is named twice counts once, and as a member of old if named so once.
    pub fn of(job: &JobId, members: impl IntoIterator<Item = Entry>) -> Self {
        let (mut steady, mut late, mut others, mut kinds) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let patient = ResourceType::named("Patient");
        for member in members {
            match (Some(member.kind) == patient, member.is_late) {
                (true, false) => steady.push(member.key),
                (true, true) => late.push(member.key),
                (false, _) => {
                    others.push(member.key);
                    kinds.push(member.kind);
                    kinds.dedup();
                }
            }
        }
        let steady = SortedKeys::of(steady);
        late.retain(|key| !steady.contains(*key));
        let other_kinds = kinds.into_iter().collect();
        Self { keys: Keys::of(job), steady, late: SortedKeys::of(late), others: SortedKeys::of(others), other_kinds }
    }

    /// Whether the patient of this id is on it.
    pub fn contains_patient(&self, id: &str) -> bool {
        self.contains_patient_bytes(id.as_bytes())
    }

    /// The same for raw scans; allocates nothing.
    pub fn contains_patient_bytes(&self, id: &[u8]) -> bool {
        self.contains_patient_key(self.keys.patient(id))
    }

    /// The same for whoever has the key already.
    pub fn contains_patient_key(&self, key: ResourceKey) -> bool {
        self.steady.contains(key) || self.late.contains(key)
    }

    /// Whether this patient joined the group after `_since`.
    pub fn joined_late(&self, id: &str) -> bool {
        !self.late.is_empty() && self.late.contains(self.keys.patient(id.as_bytes()))
    }

    /// Whether anybody joined after `_since`.
    pub fn has_late_members(&self) -> bool {
        !self.late.is_empty()
    }

    /// Whether this resource, no patient, is itself on it.
    pub fn contains_other(&self, kind: ResourceType, id: &str) -> bool {
        self.other_kinds.contains(kind) && self.others.contains(self.keys.key(kind, id.as_bytes()))
    }

    /// The types, without Patient, of which somebody or something is on it.
    pub fn other_kinds(&self) -> TypeSet {
        self.other_kinds
    }

    /// How many patients are on it.
    pub fn patients(&self) -> usize {
        self.steady.len() + self.late.len()
    }

    /// How many are on it, patients or not.
    pub fn len(&self) -> usize {
        self.patients() + self.others.len()
    }

    /// Whether nobody and nothing is on it: nothing is exported.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// As a file: the magic, then how many patients there are of old and late, how many others, and the length of the
    /// others' types; these types with commas between; the keys in this order, sorted, 16 bytes each. Numbers are
    /// 8 bytes, little-endian.
    pub fn write(&self) -> Bytes {
        let names: Vec<_> = ResourceType::all().filter(|kind| self.other_kinds.contains(*kind)).map(ResourceType::as_str).collect();
        let names = names.join(",");
        let lists = [&self.steady, &self.late, &self.others];
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

    /// Reads what [`Self::write`] wrote for the same job.
    pub fn read(job: &JobId, file: &[u8]) -> Result<Self, DamagedRoster> {
        let mut rest = file.strip_prefix(MAGIC).ok_or(DamagedRoster("it does not begin like one"))?;
        let short = DamagedRoster("it ends too early");
        let mut number = || {
            let (first, behind) = rest.split_first_chunk::<8>().ok_or(short)?;
            rest = behind;
            usize::try_from(u64::from_le_bytes(*first)).map_err(|_| short)
        };
        let (steady, late, others, names) = (number()?, number()?, number()?, number()?);
        let (names, keys) = rest.split_at_checked(names).ok_or(short)?;
        let names = std::str::from_utf8(names).map_err(|_| DamagedRoster("its types cannot be read"))?;
        let kinds = names.split(',').filter(|name| !name.is_empty()).map(ResourceType::named);
        let other_kinds = kinds.collect::<Option<TypeSet>>().ok_or(DamagedRoster("its types cannot be read"))?;
        let mut keys = keys.as_chunks::<KEY_BYTES>();
        let total = steady.checked_add(late).and_then(|sum| sum.checked_add(others));
        if total != Some(keys.0.len()) || !keys.1.is_empty() {
            return Err(DamagedRoster("it has another length than it says"));
        }
        let mut take = |count| {
            let (list, behind) = keys.0.split_at_checked(count).ok_or(short)?;
            keys.0 = behind;
            let list: Vec<_> = list.iter().map(|bytes| ResourceKey(u128::from_le_bytes(*bytes))).collect();
            if list.is_sorted() { Ok(SortedKeys::of(list)) } else { Err(DamagedRoster("its keys are out of order")) }
        };
        Ok(Self { keys: Keys::of(job), steady: take(steady)?, late: take(late)?, others: take(others)?, other_kinds })
    }
}

/// Who was asked for and is not on the roster, where only the plan could tell. Counts, for ids do not belong into a
/// job's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LeftOut {
    /// Patients who were named, and are not in the group or not in the lake.
    pub patients: u32,
    /// Members of the group who refer to no resource of the lake.
    pub members: u32,
}

impl LeftOut {
    /// Whether there is nothing to tell.
    pub fn is_nobody(&self) -> bool {
        *self == Self::default()
    }

    /// As the client is told.
    pub fn ignored(&self) -> Vec<IgnoredParameter> {
        let patients = (self.patients > 0).then(|| IgnoredParameter {
            parameter: "patient".to_owned(),
            text: format!("{} of the patients that it names are not known here, or not in the group", self.patients),
        });
        let members = (self.members > 0).then(|| IgnoredParameter {
            parameter: "Group.member".to_owned(),
            text: format!("{} members of the group refer to no resource of this server", self.members),
        });
        patients.into_iter().chain(members).collect()
    }
}

/// Somebody or something on a roster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its type.
    pub kind: ResourceType,
    /// Its key within the job.
    pub key: ResourceKey,
    /// Whether it joined the group after `_since`.
    pub is_late: bool,
}

#[cfg(test)]
mod tests;
