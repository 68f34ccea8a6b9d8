//! The head of a resource, and the reasons why a line is not a resource.

use crate::definitions::ResourceType;
use crate::instant::Instant;

/// The members of a resource that every export needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResourceHead {
    /// The `resourceType`.
    pub resource_type: ResourceType,
    /// `meta.lastUpdated`; `None` if it is absent or not an instant.
    pub last_updated: Option<Instant>,
}

/// The id and the version of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResourceIdentity<'a> {
    /// The logical id.
    pub id: &'a str,
    /// `meta.versionId`.
    pub version_id: Option<&'a str>,
}

/// The reason why a line is not a resource. The text never quotes the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidResource {
    /// The bytes are not UTF-8.
    #[error("not UTF-8 after {0} bytes of the line")]
    NotUtf8(usize),
    /// The text is not JSON, or has text behind its end.
    #[error("not valid JSON at column {0} of the line")]
    NotJson(usize),
    /// The text is JSON, but not an object.
    #[error("not a JSON object")]
    NotAnObject,
    /// An object, at any depth, has a member twice.
    #[error("an object has the same member twice, the second time at column {0} of the line; FHIR demands unique names")]
    DuplicateMember(usize),
    /// `resourceType` is missing or not a string.
    #[error("no resourceType")]
    MissingType,
    /// The `resourceType` is not one of FHIR R4, R4B or R5.
    #[error("a resourceType that FHIR R4, R4B and R5 do not define")]
    UnknownType,
    /// `id` is missing, not a string or empty.
    #[error("no id")]
    MissingId,
}
