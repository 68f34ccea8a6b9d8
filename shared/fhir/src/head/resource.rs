//! A line as filters need it: its head, and where its root members stand.

use std::borrow::Cow;
use std::ops::Range;

use crate::head::skim::skim_members;
use crate::head::{Head, NotAResource, head};
use crate::json::Json;

/// Where the root members of a line stand. Kept by whoever reads many lines, so that reading one allocates nothing.
#[derive(Clone, Debug, Default)]
pub struct Outline {
    /// Names without their quotes, values without blanks around them.
    members: Vec<(Range<usize>, Range<usize>)>,
}

impl Outline {
    pub(crate) fn clear(&mut self) {
        self.members.clear();
    }

    pub(crate) fn push(&mut self, name: Range<usize>, value: Range<usize>) {
        self.members.push((name, value));
    }
}

/// A resource: one line, validated to its last brace, whose root members are known.
#[derive(Clone, Copy, Debug)]
pub struct Resource<'a> {
    /// Its type and when it was changed.
    pub head: Head,
    line: &'a str,
    outline: &'a Outline,
}

impl<'a> Resource<'a> {
    /// Reads one line in one pass; what is no resource is refused as [`head`] refuses it.
    pub fn read(line: &'a [u8], outline: &'a mut Outline) -> Result<Self, NotAResource> {
        let text = std::str::from_utf8(line).map_err(|error| NotAResource::NotUtf8(error.valid_up_to()))?;
        outline.clear();
        let head = match skim_members(text, outline) {
            Some(head) => head,
            None => {
                outline.clear();
                let head = head(line)?;
                let begin = text.as_ptr() as usize;
                for (name, value) in Json::of_valid(text).raw_members() {
                    let span = |part: &str| {
                        let start = part.as_ptr() as usize - begin;
                        start..start + part.len()
                    };
                    outline.push(span(name), span(value.as_str()));
                }
                head
            }
        };
        Ok(Self { head, line: text, outline })
    }

    /// The whole of it.
    pub fn json(&self) -> Json<'a> {
        Json::of_valid(self.line)
    }

    /// Its root members in order. A name with escapes shows them: no name that FHIR defines has any.
    pub fn members(&self) -> impl Iterator<Item = (&'a str, Json<'a>)> + use<'a> {
        let line = self.line;
        self.outline
            .members
            .iter()
            .filter_map(move |(name, value)| Some((line.get(name.clone())?, Json::of_valid(line.get(value.clone())?))))
    }

    /// The root member of this name.
    pub fn member(&self, name: &str) -> Option<Json<'a>> {
        self.members().find(|(member, _)| *member == name).map(|(_, value)| value)
    }

    /// Its logical id.
    pub fn id(&self) -> Cow<'a, str> {
        self.member("id").and_then(Json::text).unwrap_or_default()
    }

    /// Its `meta.versionId`.
    pub fn version_id(&self) -> Option<Cow<'a, str>> {
        self.member("meta")?.member("versionId")?.text()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_and_unusual_lines_have_the_same_outline() {
        let plain = r#"{"resourceType":"Patient","id":"p","meta":{"versionId":"3"},"name":[{"family":"A"}],"active":true}"#;
        // A tab sends it the general way.
        let unusual = plain.replace(',', ",\t").replace("\"id\"", "\"id\" ").replace(":true", ": true ");
        let (mut one, mut other) = (Outline::default(), Outline::default());
        let one = Resource::read(plain.as_bytes(), &mut one).unwrap();
        let other = Resource::read(unusual.as_bytes(), &mut other).unwrap();
        let names = |resource: &Resource<'_>| resource.members().map(|(name, _)| name.to_owned()).collect::<Vec<_>>();
        assert_eq!(names(&one), ["resourceType", "id", "meta", "name", "active"]);
        assert_eq!(names(&one), names(&other));
        for resource in [one, other] {
            assert_eq!((resource.id(), resource.version_id()), ("p".into(), Some("3".into())));
            assert_eq!(resource.member("active").unwrap().as_str(), "true");
        }
    }
}
