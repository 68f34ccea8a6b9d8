//! The meaning of a line of the lake by itself: a resource, deletions, or something that no export contains.

use headrace_fhir::definitions::ResourceType;
use headrace_fhir::head::{InvalidResource, ResourceHead, ResourceIdentity};
use headrace_fhir::json::JsonValue;
use headrace_fhir::semantics::deletion::{Deletions, parse_deletions};
use memchr::memmem;

/// A line of the lake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LakeLine<'a> {
    /// A resource, with its identity if the parser of the head could read it.
    Resource(ResourceHead, Option<ResourceIdentity<'a>>),
    /// A Bundle of deletions.
    Deletions(Deletions<'a>),
    /// An OperationOutcome without an id, from the files of an earlier export.
    Outcome,
    /// A line that is not a valid resource.
    Rejected(InvalidResource),
}

impl<'a> LakeLine<'a> {
    /// Parses a line, without its line end.
    pub fn parse(line: &'a [u8]) -> Self {
        Self::from_head(ResourceHead::parse_with_identity(line), line)
    }

    /// Decides about a line by its head.
    pub(crate) fn from_head(head: Result<(ResourceHead, Option<ResourceIdentity<'a>>), InvalidResource>, line: &'a [u8]) -> Self {
        match head {
            Ok((head, identity)) => {
                // Most lines are not Bundles, and are not read again.
                let deletions = (head.resource_type == ResourceType::BUNDLE).then(|| deletions(line)).flatten();
                deletions.map_or(Self::Resource(head, identity), Self::Deletions)
            }
            Err(InvalidResource::MissingId) => Self::from_line_without_id(line),
            Err(reason) => Self::Rejected(reason),
        }
    }

    /// Decides about a valid line without an id. It is not a resource of a lake, but the files of an earlier export can be part of
    /// the lake, and these hold deletions and OperationOutcomes without ids.
    fn from_line_without_id(line: &'a [u8]) -> Self {
        if let Some(deletions) = deletions(line) {
            return Self::Deletions(deletions);
        }
        let kind = text(line).map(JsonValue::from_valid).and_then(|json| json.member("resourceType")).and_then(JsonValue::text);
        if kind.is_some_and(|kind| kind == "OperationOutcome") { Self::Outcome } else { Self::Rejected(InvalidResource::MissingId) }
    }
}

/// Returns true if a resource has a `meta.lastUpdated`, whatever its value is. Most lines are decided by a search for the name.
pub fn has_time(line: &[u8]) -> bool {
    let may_have_time = memmem::find(line, b"lastUpdated").is_some() || memchr::memchr(b'\\', line).is_some();
    let json = text(line).filter(|_| may_have_time).map(JsonValue::from_valid);
    json.and_then(|json| json.member("meta")?.member("lastUpdated")).is_some()
}

/// Returns the deletions of a line of valid JSON.
fn deletions(line: &[u8]) -> Option<Deletions<'_>> {
    text(line).map(JsonValue::from_valid).and_then(parse_deletions)
}

/// Returns a line as text. `None` if it is not valid UTF-8.
fn text(line: &[u8]) -> Option<&str> {
    std::str::from_utf8(line).ok()
}
