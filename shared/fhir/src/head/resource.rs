//! A validated resource and the positions of its root members.

use std::borrow::Cow;
use std::ops::Range;

use super::parse::text_of;
use super::resource_head::{InvalidResource, ResourceHead, ResourceIdentity};
use super::{fast, general};
use crate::json::{JsonValue, unescape_name};

/// The byte ranges of a line's root members. Reuse one index for many lines, so that parsing does not allocate.
#[derive(Clone, Debug, Default)]
pub struct MemberIndex {
    /// Names without their quotes, values without surrounding whitespace.
    members: Vec<(Range<usize>, Range<usize>)>,
    /// True if a name may have escapes.
    may_have_escapes: bool,
}

/// A resource: one validated line with the positions of its root members.
#[derive(Clone, Copy, Debug)]
pub struct Resource<'a> {
    /// The type and the time of the last change.
    pub head: ResourceHead,
    /// The identity of the version, if the fast path could read the line.
    pub identity: Option<ResourceIdentity<'a>>,
    line: &'a str,
    index: &'a MemberIndex,
}

impl<'a> Resource<'a> {
    /// Parses and validates one line in a single pass. Fails like [`ResourceHead::parse`].
    pub fn parse(line: &'a [u8], index: &'a mut MemberIndex) -> Result<Self, InvalidResource> {
        let text = text_of(line)?;
        index.members.clear();
        index.may_have_escapes = false;
        let (head, identity) = match fast::parse_members(text, &mut |name, value| index.members.push((name, value))) {
            Some(fast) => (fast.head, Some(fast.identity)),
            None => {
                // The fast path may have stopped in the middle of the line.
                index.members.clear();
                index.may_have_escapes = true;
                let head = general::parse(text)?;
                let line_start = text.as_ptr() as usize;
                let mut members = JsonValue::from_valid(text).members();
                while let Some((name, value)) = members.next_raw() {
                    let range = |part: &str| {
                        let start = part.as_ptr() as usize - line_start;
                        start..start + part.len()
                    };
                    index.members.push((range(name), range(value.as_str())));
                }
                (head, None)
            }
        };
        Ok(Self { head, identity, line: text, index })
    }

    /// Returns the whole resource as a JSON value.
    pub fn json(&self) -> JsonValue<'a> {
        JsonValue::from_valid(self.line)
    }

    /// Returns the root members in order, with unescaped names. Each name occurs once.
    pub fn members(&self) -> impl Iterator<Item = (Cow<'a, str>, JsonValue<'a>)> + use<'a> {
        let Self { line, index, .. } = *self;
        index.members.iter().filter_map(move |(name, value)| {
            let name = line.get(name.clone())?;
            let name = if index.may_have_escapes { unescape_name(name) } else { Cow::Borrowed(name) };
            Some((name, JsonValue::from_valid(line.get(value.clone())?)))
        })
    }

    /// Returns the root member with this name.
    pub fn member(&self, name: &str) -> Option<JsonValue<'a>> {
        self.members().find(|(member, _)| member == name).map(|(_, value)| value)
    }

    /// Returns the logical id.
    pub fn id(&self) -> Cow<'a, str> {
        self.member("id").and_then(JsonValue::text).unwrap_or_default()
    }

    /// Returns `meta.versionId`.
    pub fn version_id(&self) -> Option<Cow<'a, str>> {
        self.member("meta")?.member("versionId")?.text()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_and_unusual_lines_have_the_same_members() {
        let plain = r#"{"resourceType":"Patient","id":"p","meta":{"versionId":"3"},"name":[{"family":"A"}],"active":true}"#;
        // The fast path does not support tabs.
        let unusual = plain.replace(',', ",\t").replace("\"id\"", "\"id\" ").replace(":true", ": true ");
        let (mut one, mut other) = (MemberIndex::default(), MemberIndex::default());
        let one = Resource::parse(plain.as_bytes(), &mut one).unwrap();
        let other = Resource::parse(unusual.as_bytes(), &mut other).unwrap();
        let names = |resource: &Resource<'_>| resource.members().map(|(name, _)| name.into_owned()).collect::<Vec<_>>();
        assert_eq!(names(&one), ["resourceType", "id", "meta", "name", "active"]);
        assert_eq!(names(&one), names(&other));
        for resource in [one, other] {
            assert_eq!((resource.id(), resource.version_id()), ("p".into(), Some("3".into())));
            assert_eq!(resource.member("active").unwrap().as_str(), "true");
        }
    }
}
