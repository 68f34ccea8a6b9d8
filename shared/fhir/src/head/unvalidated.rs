//! Reads the head of a line without validating the line: enough to skip most lines of an incremental export.

use memchr::{memchr, memchr2};

use crate::definitions::ResourceType;
use crate::instant::Instant;

/// The head of a line that has not been validated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnvalidatedHead<'a> {
    /// The `resourceType`.
    pub resource_type: ResourceType,
    /// The logical id.
    pub id: &'a str,
    /// `meta.lastUpdated`; `None` if it is absent or not an instant.
    pub last_updated: Option<Instant>,
    /// `meta.versionId`.
    pub version_id: Option<&'a str>,
}

impl<'a> UnvalidatedHead<'a> {
    /// Reads a line up to the last of `resourceType`, `id` and `meta`, and nothing beyond.
    ///
    /// The result is correct if the line is a resource; only [`super::Resource::parse`] checks that. `None` says nothing about
    /// the line: one of the three members is missing, or something unusual (an escape, a duplicate member) comes before it.
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let mut cursor = ByteCursor { bytes: line, position: 0 };
        let (mut resource_type, mut id, mut meta) = (None, None, None);
        cursor.expect(b'{')?;
        loop {
            match cursor.name()? {
                b"resourceType" if resource_type.is_none() => resource_type = Some(ResourceType::parse(cursor.plain_text()?)?),
                b"id" if id.is_none() => id = Some(cursor.plain_text().filter(|id| !id.is_empty())?),
                b"meta" if meta.is_none() => meta = Some(cursor.meta()?),
                b"resourceType" | b"id" | b"meta" => return None,
                _ => cursor.skip_value()?,
            }
            if let (Some(resource_type), Some(id), Some((last_updated, version_id))) = (resource_type, id, meta) {
                return Some(Self { resource_type, id, last_updated, version_id });
            }
            cursor.expect(b',')?;
        }
    }
}

/// A line and the position up to which it has been read. The bytes are not validated.
struct ByteCursor<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> ByteCursor<'a> {
    /// Skips whitespace and returns the next byte without consuming it.
    fn next_token(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = self.bytes.get(self.position) {
            self.position += 1;
        }
        self.bytes.get(self.position).copied()
    }

    /// Consumes the next byte that is not whitespace. Returns `None` if it is not `expected`.
    fn expect(&mut self, expected: u8) -> Option<()> {
        let is_expected = self.next_token()? == expected;
        self.position += 1;
        is_expected.then_some(())
    }

    /// Reads a string. Returns `None` if it has escapes.
    fn plain_string(&mut self) -> Option<&'a [u8]> {
        self.expect(b'"')?;
        let rest = self.bytes.get(self.position..)?;
        let length = memchr2(b'"', b'\\', rest)?;
        self.position += length + 1;
        (rest.get(length) == Some(&b'"')).then_some(rest.get(..length)?)
    }

    /// Reads a string of UTF-8. Returns `None` if it has escapes.
    fn plain_text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.plain_string()?).ok()
    }

    /// Reads the name of a member and the colon behind it. `None` if the name has escapes.
    fn name(&mut self) -> Option<&'a [u8]> {
        let name = self.plain_string()?;
        self.expect(b':')?;
        Some(name)
    }

    /// Reads the object `meta` and returns its `lastUpdated` and `versionId`.
    fn meta(&mut self) -> Option<(Option<Instant>, Option<&'a str>)> {
        self.expect(b'{')?;
        let (mut last_updated, mut version_id) = (None, None);
        if self.next_token()? == b'}' {
            self.position += 1;
            return Some((None, None));
        }
        loop {
            match self.name()? {
                b"lastUpdated" if last_updated.is_none() => last_updated = Some(self.plain_text()?),
                b"versionId" if version_id.is_none() => version_id = Some(self.plain_text()?),
                b"lastUpdated" | b"versionId" => return None,
                _ => self.skip_value()?,
            }
            match self.next_token()? {
                b',' => self.position += 1,
                b'}' => break,
                _ => return None,
            }
        }
        self.position += 1;
        Some((last_updated.and_then(|text| Instant::parse(text).ok()), version_id))
    }

    /// Skips one value. Only strings and brackets are recognised; the value is not validated.
    fn skip_value(&mut self) -> Option<()> {
        let mut depth = 0_usize;
        loop {
            match self.next_token()? {
                b'"' => self.skip_string()?,
                b'{' | b'[' => (self.position, depth) = (self.position + 1, depth + 1),
                b'}' | b']' => (self.position, depth) = (self.position + 1, depth.checked_sub(1)?),
                b',' | b':' if depth == 0 => return None,
                _ if depth == 0 => self.position += self.bytes.get(self.position..)?.iter().position(|byte| matches!(byte, b',' | b'}'))?,
                _ => self.position += 1,
            }
            if depth == 0 {
                return Some(());
            }
        }
    }

    /// Skips a string, escapes included.
    fn skip_string(&mut self) -> Option<()> {
        self.position += 1;
        loop {
            self.position += memchr(b'"', self.bytes.get(self.position..)?)? + 1;
            let before = self.bytes.get(..self.position - 1)?;
            // A quote ends the string unless an odd number of backslashes precedes it.
            if before.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 0 {
                return Some(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::head::{MemberIndex, Resource};

    fn parse_text(line: &str) -> Option<UnvalidatedHead<'_>> {
        UnvalidatedHead::parse(line.as_bytes())
    }

    #[test]
    fn the_line_is_not_read_beyond_the_three_members() {
        let line = r#"{"resourceType":"Patient","id":"p","meta":{"versionId":"3","lastUpdated":"2026-01-31T08:00:00Z"},"name":[ cut"#;
        let expected = UnvalidatedHead {
            resource_type: ResourceType::PATIENT,
            id: "p",
            last_updated: Instant::parse("2026-01-31T08:00:00Z").ok(),
            version_id: Some("3"),
        };
        assert_eq!(parse_text(line), Some(expected));
    }

    #[test]
    fn the_three_members_may_come_in_any_order_after_others() {
        let others = r#""a":[{"id":"x","b":"]}\\\""},[]],"c":-1.50,"d":true,"e":"\\","f":{},"text":{"meta":{}}"#;
        for line in [
            format!(r#"{{{others},"id":"p","meta":{{}},"resourceType":"Group"}}"#),
            format!(r#" {{ {others} , "meta" : {{ "profile" : [ "x" ] , "versionId" : "1" }} , "resourceType" : "Group" , "id" : "p" }}"#),
        ] {
            let head = parse_text(&line).unwrap();
            assert_eq!((head.resource_type.as_str(), head.id, head.last_updated), ("Group", "p", None), "{line}");
        }
    }

    #[test]
    fn an_unusual_line_is_left_to_the_validating_parser() {
        for line in [
            "",
            "[]",
            r#"{"resourceType":"Patient","id":"p"}"#,
            r#"{"resourceType":"Patient","meta":{}}"#,
            r#"{"id":"p","meta":{}}"#,
            r#"{"resourceType":"Dog","id":"p","meta":{}}"#,
            r#"{"resourceType":"Patient","id":"","meta":{}}"#,
            r#"{"resourceType":"Patient","id":7,"meta":{}}"#,
            r#"{"resourceType":"Patient","id":"\u0070","meta":{}}"#,
            r#"{"resourceType":"Patient","i\u0064":"p","meta":{}}"#,
            r#"{"resourceType":"Patient","id":"p","id":"q","meta":{}}"#,
            r#"{"resourceType":"Patient","id":"p","meta":null}"#,
            r#"{"resourceType":"Patient","id":"p","meta":{"lastUpdated":7}}"#,
            r#"{"resourceType":"Patient","id":"p","meta":{"lastUpdated":"2026"#,
        ] {
            assert_eq!(parse_text(line), None, "{line}");
        }
    }

    /// Generates a member of a resource as JSON text.
    fn member() -> impl Strategy<Value = String> {
        prop_oneof![
            Just(r#""resourceType":"Patient""#.to_owned()),
            Just(r#""id":"p""#.to_owned()),
            Just(r#""meta":{}"#.to_owned()),
            Just(r#""meta": {"versionId":"1", "lastUpdated":"2026-01-31T08:00:00Z" ,"tag":[{"code":"x"}]}"#.to_owned()),
            Just(r#""meta":{"lastUpdated":"never"}"#.to_owned()),
            Just(r#""name":[{"id":"x","family":"\"}\\"}, {"meta":{}}]"#.to_owned()),
            Just(r#""active" : false"#.to_owned()),
            Just(r#""x":-1.5e3"#.to_owned()),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        #[test]
        fn both_parsers_agree_on_a_valid_resource(members in prop::collection::vec(member(), 1..8)) {
            let line = format!("{{{}}}", members.join(","));
            let mut member_index = MemberIndex::default();
            if let (Ok(resource), Some(head)) = (Resource::parse(line.as_bytes(), &mut member_index), parse_text(&line)) {
                prop_assert_eq!((head.resource_type, head.last_updated), (resource.head.resource_type, resource.head.last_updated));
                prop_assert_eq!(head.id, resource.id());
                prop_assert_eq!(head.version_id.map(str::to_owned), resource.version_id().map(String::from));
            }
        }

        #[test]
        fn no_bytes_cause_a_panic(line in prop::collection::vec(prop::sample::select(&b"{}[]\":,\\ 1aid\xff"[..]), 0..40)) {
            UnvalidatedHead::parse(&line);
        }
    }
}
