//! Names of things, each a type of its own.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::vocab::clock::Millis;

/// Names one export: 32 lower-case hexadecimal digits. Unguessable, for it stands in URLs.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct JobId(String);

/// The text is not a job's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a job is named by 32 lower-case hexadecimal digits")]
pub struct InvalidJobId;

impl JobId {
    /// The name made of these random bytes.
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(hex::encode(bytes))
    }

    /// Reads a name as it stands in a URL, a key or a message.
    pub fn parse(text: &str) -> Result<Self, InvalidJobId> {
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() == 32 && text.bytes().all(is_hex) { Ok(Self(text.to_owned())) } else { Err(InvalidJobId) }
    }

    /// The name itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for JobId {
    type Error = InvalidJobId;
    fn try_from(text: String) -> Result<Self, InvalidJobId> {
        Self::parse(&text)
    }
}

impl From<JobId> for String {
    fn from(id: JobId) -> Self {
        id.0
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names one task of one job. It is all that a queue message carries: no patient data, nothing to go stale.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskId {
    /// The job.
    pub job: JobId,
    /// The task's number within the job: 0 plans, 1 finishes, the others read a slice each.
    pub task: u32,
}

impl TaskId {
    /// The task that plans `job`.
    pub fn plan(job: &JobId) -> Self {
        Self { job: job.clone(), task: 0 }
    }

    /// The task that finishes `job`.
    pub fn finish(job: &JobId) -> Self {
        Self { job: job.clone(), task: 1 }
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.job, self.task)
    }
}

/// Who asks: the owner of what they start. On AWS the ARN of the IAM identity, on one machine [`Caller::LOCAL`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Caller(pub String);

impl Caller {
    /// The caller where access control is off.
    pub const LOCAL: &'static str = "local";
}

/// A place in the list of a caller's jobs: behind this job. It is read together with the caller, so whatever it says, it
/// is a place in the list of whoever asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListCursor {
    /// When the job was recorded.
    pub created_at: Millis,
    /// The job.
    pub id: JobId,
}

impl ListCursor {
    /// Reads what its display wrote.
    pub fn parse(text: &str) -> Option<Self> {
        let (time, id) = text.split_at_checked(text.len().checked_sub(32)?)?;
        let cursor = Self { created_at: Millis(u64::from_str_radix(time, 16).ok()?), id: JobId::parse(id).ok()? };
        // One spelling each: no sign, no other case, no other number of zeros.
        (cursor.to_string() == text).then_some(cursor)
    }
}

impl fmt::Display for ListCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:012x}{}", self.created_at.0, self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_cursor_survives_its_text_and_nothing_else_is_one() {
        let cursor = ListCursor { created_at: Millis(1_769_846_400_000), id: JobId::from_random([0xa5; 16]) };
        assert_eq!(ListCursor::parse(&cursor.to_string()), Some(cursor.clone()));
        let id = "a5".repeat(16);
        for text in
            ["", "1", &id, &format!("+00000000001{id}"), &format!("1{id}"), &format!("00000000000A{id}"), &format!("{cursor}0"), "ä"]
        {
            assert_eq!(ListCursor::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_job_id_survives_its_text() {
        let id = JobId::from_random([0xa5; 16]);
        assert_eq!(JobId::parse(id.as_str()), Ok(id));
    }

    #[test]
    fn what_could_leave_a_folder_is_not_a_job_id() {
        for text in ["", "..", "../../../../../../../../../../aaa", "A5A5A5A5A5A5A5A5A5A5A5A5A5A5A5A5", "a5"] {
            assert_eq!(JobId::parse(text), Err(InvalidJobId), "{text}");
        }
    }
}
