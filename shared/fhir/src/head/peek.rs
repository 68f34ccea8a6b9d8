//! A glance at a line's first members: enough to pass over most lines of an incremental export.

use memchr::{memchr, memchr2};

use crate::{Instant, ResourceType};

/// What a line says of itself before anything else of it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peek<'a> {
    /// Its `resourceType`.
    pub kind: ResourceType,
    /// Its logical id.
    pub id: &'a str,
    /// Its `meta.lastUpdated`; `None` where it is absent or not an instant.
    pub last_updated: Option<Instant>,
    /// Its `meta.versionId`.
    pub version_id: Option<&'a str>,
}

/// Reads a line until `resourceType`, `id` and `meta` have been met, and nothing behind them.
///
/// What it says holds if the line is a resource; whether it is one, only [`crate::Resource::read`] tells. `None` says
/// nothing about the line: one of the three never came, or something unusual came first (escapes, a member twice).
pub fn peek(line: &[u8]) -> Option<Peek<'_>> {
    let mut text = Text { bytes: line, at: 0 };
    let (mut kind, mut id, mut meta) = (None, None, None);
    text.expect(b'{')?;
    loop {
        match text.name()? {
            b"resourceType" if kind.is_none() => kind = Some(ResourceType::named(text.plain_text()?)?),
            b"id" if id.is_none() => id = Some(text.plain_text().filter(|id| !id.is_empty())?),
            b"meta" if meta.is_none() => meta = Some(text.meta()?),
            b"resourceType" | b"id" | b"meta" => return None,
            _ => text.skip_value()?,
        }
        if let (Some(kind), Some(id), Some((last_updated, version_id))) = (kind, id, meta) {
            return Some(Peek { kind, id, last_updated, version_id });
        }
        text.expect(b',')?;
    }
}

/// A line and how far it has been read.
struct Text<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Text<'a> {
    /// The next byte that is not a blank; it stays unread.
    fn token(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = self.bytes.get(self.at) {
            self.at += 1;
        }
        self.bytes.get(self.at).copied()
    }

    fn expect(&mut self, wanted: u8) -> Option<()> {
        let is_there = self.token()? == wanted;
        self.at += 1;
        is_there.then_some(())
    }

    /// A string without escapes.
    fn plain_string(&mut self) -> Option<&'a [u8]> {
        self.expect(b'"')?;
        let rest = self.bytes.get(self.at..)?;
        let length = memchr2(b'"', b'\\', rest)?;
        self.at += length + 1;
        (rest.get(length) == Some(&b'"')).then_some(rest.get(..length)?)
    }

    fn plain_text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.plain_string()?).ok()
    }

    /// A member's name and its colon.
    fn name(&mut self) -> Option<&'a [u8]> {
        let name = self.plain_string()?;
        self.expect(b':')?;
        Some(name)
    }

    /// What `meta` says of `lastUpdated` and `versionId`.
    fn meta(&mut self) -> Option<(Option<Instant>, Option<&'a str>)> {
        self.expect(b'{')?;
        let (mut last_updated, mut version_id) = (None, None);
        if self.token()? == b'}' {
            self.at += 1;
            return Some((None, None));
        }
        loop {
            match self.name()? {
                b"lastUpdated" if last_updated.is_none() => last_updated = Some(self.plain_text()?),
                b"versionId" if version_id.is_none() => version_id = Some(self.plain_text()?),
                b"lastUpdated" | b"versionId" => return None,
                _ => self.skip_value()?,
            }
            match self.token()? {
                b',' => self.at += 1,
                b'}' => break,
                _ => return None,
            }
        }
        self.at += 1;
        Some((last_updated.and_then(|text| Instant::parse(text).ok()), version_id))
    }

    /// Any value: brackets are counted, no more.
    fn skip_value(&mut self) -> Option<()> {
        let mut depth = 0_usize;
        loop {
            match self.token()? {
                b'"' => self.skip_string()?,
                b'{' | b'[' => (self.at, depth) = (self.at + 1, depth + 1),
                b'}' | b']' => (self.at, depth) = (self.at + 1, depth.checked_sub(1)?),
                b',' | b':' if depth == 0 => return None,
                _ if depth == 0 => self.at += self.bytes.get(self.at..)?.iter().position(|byte| matches!(byte, b',' | b'}'))?,
                _ => self.at += 1,
            }
            if depth == 0 {
                return Some(());
            }
        }
    }

    fn skip_string(&mut self) -> Option<()> {
        self.at += 1;
        loop {
            self.at += memchr(b'"', self.bytes.get(self.at..)?)? + 1;
            let before = self.bytes.get(..self.at - 1)?;
            // An even number of backslashes in front of a quote leaves it what it is.
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
    use crate::{Outline, Resource};

    fn peek_text(line: &str) -> Option<Peek<'_>> {
        peek(line.as_bytes())
    }

    #[test]
    fn what_stands_behind_the_three_members_is_not_read() {
        let line = r#"{"resourceType":"Patient","id":"p","meta":{"versionId":"3","lastUpdated":"2026-01-31T08:00:00Z"},"name":[ cut"#;
        let expected = Peek {
            kind: ResourceType::named("Patient").unwrap(),
            id: "p",
            last_updated: Instant::parse("2026-01-31T08:00:00Z").ok(),
            version_id: Some("3"),
        };
        assert_eq!(peek_text(line), Some(expected));
    }

    #[test]
    fn the_three_may_come_in_any_order_behind_any_other_member() {
        let others = r#""a":[{"id":"x","b":"]}\\\""},[]],"c":-1.50,"d":true,"e":"\\","f":{},"text":{"meta":{}}"#;
        for line in [
            format!(r#"{{{others},"id":"p","meta":{{}},"resourceType":"Group"}}"#),
            format!(r#" {{ {others} , "meta" : {{ "profile" : [ "x" ] , "versionId" : "1" }} , "resourceType" : "Group" , "id" : "p" }}"#),
        ] {
            let found = peek_text(&line).unwrap();
            assert_eq!((found.kind.as_str(), found.id, found.last_updated), ("Group", "p", None), "{line}");
        }
    }

    #[test]
    fn whatever_is_unusual_is_left_to_the_whole_reading() {
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
            assert_eq!(peek_text(line), None, "{line}");
        }
    }

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
        fn of_a_resource_it_says_what_the_whole_reading_says(members in prop::collection::vec(member(), 1..8)) {
            let line = format!("{{{}}}", members.join(","));
            let mut outline = Outline::default();
            if let (Ok(resource), Some(peek)) = (Resource::read(line.as_bytes(), &mut outline), peek_text(&line)) {
                prop_assert_eq!((peek.kind, peek.last_updated), (resource.head.kind, resource.head.last_updated));
                prop_assert_eq!(peek.id, resource.id());
                prop_assert_eq!(peek.version_id.map(str::to_owned), resource.version_id().map(String::from));
            }
        }

        #[test]
        fn no_bytes_make_it_panic(line in prop::collection::vec(prop::sample::select(&b"{}[]\":,\\ 1aid\xff"[..]), 0..40)) {
            peek(&line);
        }
    }
}
