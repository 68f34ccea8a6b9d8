//! Requested patients and members that an export leaves out.

use serde::{Deserialize, Serialize};

use crate::request::IgnoredParameter;
use crate::vocab::plural::counted;

/// Numbers of requested subjects that the plan task could not find. Their ids are not stored in the job's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OmittedSubjects {
    /// Patients named in the request that are not in the group or not in the lake.
    pub patients: u32,
    /// Members of the group whose reference does not resolve to a resource of the lake.
    pub members: u32,
}

impl OmittedSubjects {
    /// Returns true if nothing was left out.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Returns up to two notices for the client: one if patients were omitted, and one if members were omitted.
    pub fn ignored_parameters(&self) -> Vec<IgnoredParameter> {
        let patients = (self.patients > 0).then(|| IgnoredParameter {
            parameter: "patient".to_owned(),
            text: counted(
                self.patients.into(),
                "of the named patients does not exist here, or is not in the group",
                "of the named patients do not exist here, or are not in the group",
            ),
        });
        let members = (self.members > 0).then(|| IgnoredParameter {
            parameter: "Group.member".to_owned(),
            text: counted(
                self.members.into(),
                "member of the group refers to a resource that does not exist on this server",
                "members of the group refer to resources that do not exist on this server",
            ),
        });
        patients.into_iter().chain(members).collect()
    }
}
