//! Identifiers, each with a type of its own.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::vocab::clock::Millis;

/// The id of an export job: 32 lower-case hexadecimal digits. It is random because it is part of URLs and must not be
/// guessable.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct JobId(String);

/// The error for text that is not a job id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a job id is 32 lower-case hexadecimal digits")]
pub struct InvalidJobId;

impl JobId {
    /// Creates an id from random bytes.
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(hex::encode(bytes))
    }

    /// Parses an id from a URL, a stored key or a message.
    pub fn parse(text: &str) -> Result<Self, InvalidJobId> {
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() == 32 && text.bytes().all(is_hex) { Ok(Self(text.to_owned())) } else { Err(InvalidJobId) }
    }

    /// Returns the id as text.
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

/// The id of a task. A queue message consists of it alone: it holds no patient data and nothing that could become outdated.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskId {
    /// The job.
    pub job: JobId,
    /// The number of the task within the job. Task 0 plans the job and task 1 finalizes it; the others do the work.
    pub task: u32,
}

impl TaskId {
    /// Returns the id of the task that plans `job`.
    pub fn plan(job: &JobId) -> Self {
        Self { job: job.clone(), task: 0 }
    }

    /// Returns the id of the task that finalizes `job`.
    pub fn finalize(job: &JobId) -> Self {
        Self { job: job.clone(), task: 1 }
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.job, self.task)
    }
}

/// The identity that sends requests and owns the jobs that it starts: a `client_id`, the ARN of an IAM identity on AWS, or
/// [`Caller::LOCAL`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Caller(pub String);

impl Caller {
    /// The caller of every request if access control is off.
    pub const LOCAL: &'static str = "local";

    /// The id of the registration for all callers that another system authenticates and that have none of their own. It is not the name of
    /// such a caller, which is an ARN or has an issuer.
    pub const UNREGISTERED: &'static str = "*";

    /// The owner of synchronizations of the lake. Names of clients have no space, so that it is nobody's.
    pub const SYNC: &'static str = "headrace sync";

    /// Returns true for the owner of synchronizations of the lake.
    pub fn is_sync(&self) -> bool {
        self.0 == Self::SYNC
    }
}

/// The random id of a registration. A client that is registered again under the id of a removed one has another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RegistrationId(pub String);

/// A position in the list of a caller's jobs: the page that follows starts after this job. A cursor from another caller is
/// harmless, because the list is always read with the identity of the current caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListCursor {
    /// The time at which the job was recorded.
    pub created_at: Millis,
    /// The job.
    pub id: JobId,
}

impl ListCursor {
    /// Parses the output of `Display`. Returns `None` for any other text.
    pub fn parse(text: &str) -> Option<Self> {
        let (time, id) = text.split_at_checked(text.len().checked_sub(32)?)?;
        let cursor = Self { created_at: Millis(u64::from_str_radix(time, 16).ok()?), id: JobId::parse(id).ok()? };
        // Exactly one spelling is valid: no sign, no upper case, a fixed number of zeros.
        (cursor.to_string() == text).then_some(cursor)
    }
}

impl fmt::Display for ListCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:012x}{}", self.created_at.0, self.id)
    }
}

/// Returns true if the text is an S3 bucket name: 3 to 63 characters of `a-z`, `0-9`, `-` and `.`.
pub fn is_bucket_name(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    (3..=63).contains(&text.len()) && text.bytes().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_cursor_round_trips_and_other_text_is_rejected() {
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
    fn a_job_id_round_trips() {
        let id = JobId::from_random([0xa5; 16]);
        assert_eq!(JobId::parse(id.as_str()), Ok(id));
    }

    #[test]
    fn text_that_could_leave_a_folder_is_not_a_job_id() {
        for text in ["", "..", "../../../../../../../../../../aaa", "A5A5A5A5A5A5A5A5A5A5A5A5A5A5A5A5", "a5"] {
            assert_eq!(JobId::parse(text), Err(InvalidJobId), "{text}");
        }
    }
}
