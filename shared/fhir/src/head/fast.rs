//! The head parser's fast path: validates a whole line in one pass and reads only the members of the head.
//!
//! It returns `None` for a line with anything unusual (escapes in names, members that may occur twice, members of another JSON
//! type, deep nesting) and for errors. The line then goes through [`general`](super::general), which also reports the error. On
//! Synthea's resources the fast path raises throughput from 1.2 to 1.7 GB/s per core.

use std::ops::Range;

use super::resource_head::{ResourceHead, ResourceIdentity};
use crate::definitions::ResourceType;
use crate::instant::Instant;
use crate::json::{OpenNames, Scanner};

/// The head of a line on the fast path, with what identifies the version.
pub(super) struct FastHead<'a> {
    pub(super) head: ResourceHead,
    pub(super) identity: ResourceIdentity<'a>,
}

/// Parses the head of a line. `None` means that the fast path does not support the line, not that the line is invalid.
pub(super) fn parse(line: &str) -> Option<FastHead<'_>> {
    parse_members(line, &mut |_, _| {})
}

/// Parses a head like [`parse`], and passes the byte ranges of each root member's name and value to `visit`.
#[inline(always)]
pub(super) fn parse_members<'a>(line: &'a str, visit: &mut impl FnMut(Range<usize>, Range<usize>)) -> Option<FastHead<'a>> {
    let mut scanner = Scanner::new(line);
    let mut names = OpenNames::default();
    let (mut resource_type, mut id, mut meta) = (None, None, Meta::default());
    scanner.expect(b'{')?;
    // An empty object fails here: it has no `resourceType`.
    loop {
        let name = scanner.unique_name(&mut names)?;
        scanner.skip_spaces();
        let (name_range, value_start) = (scanner.name_range(name), scanner.position);
        match name {
            "resourceType" => resource_type = Some(ResourceType::parse(scanner.plain_string()?)?),
            "id" => id = Some(scanner.plain_string()?),
            "meta" => meta = Meta::parse(&mut scanner, &mut names)?,
            _ => scanner.skip_value(&mut names)?,
        }
        visit(name_range, value_start..scanner.position);
        match scanner.token()? {
            b',' => {}
            b'}' => break,
            _ => return None,
        }
    }
    scanner.skip_spaces();
    if scanner.position < line.len() {
        return None;
    }
    let head = ResourceHead { resource_type: resource_type?, last_updated: meta.last_updated };
    let identity = ResourceIdentity { id: id.filter(|id| !id.is_empty())?, version_id: meta.version_id };
    Some(FastHead { head, identity })
}

/// The members of `meta` that belong to the head.
#[derive(Default)]
struct Meta<'a> {
    /// `None` if it is absent or not an instant.
    last_updated: Option<Instant>,
    version_id: Option<&'a str>,
}

impl<'a> Meta<'a> {
    /// Reads the object `meta`.
    fn parse(scanner: &mut Scanner<'a>, names: &mut OpenNames) -> Option<Self> {
        let mut meta = Self::default();
        scanner.expect(b'{')?;
        names.open_object()?;
        loop {
            match scanner.unique_name(names)? {
                "lastUpdated" => meta.last_updated = Instant::parse(scanner.plain_string()?).ok(),
                "versionId" => meta.version_id = Some(scanner.plain_string()?),
                _ => scanner.skip_value(names)?,
            }
            match scanner.token()? {
                b',' => {}
                b'}' => break,
                _ => return None,
            }
        }
        names.close_object();
        Some(meta)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::general;
    use crate::json::JsonValue;

    /// Returns the head of a line on the fast path.
    fn parse_head(line: &str) -> Option<ResourceHead> {
        parse(line).map(|fast| fast.head)
    }

    const SAMPLES: [&str; 3] = [
        include_str!("../../../../tests/samples/lake/Patient.ndjson"),
        include_str!("../../../../tests/samples/lake/DocumentReference.ndjson"),
        include_str!("../../../../tests/samples/lake/Claim/claims.ndjson"),
    ];

    #[test]
    fn the_fast_path_reads_ordinary_resources_like_the_general_parser() {
        for line in SAMPLES.iter().flat_map(|sample| sample.lines()) {
            assert_eq!(parse_head(line), general::parse(line).ok(), "{line}");
        }
    }

    #[test]
    fn the_fast_path_reads_the_identity_of_a_version() {
        for line in SAMPLES.iter().flat_map(|sample| sample.lines()) {
            let json = JsonValue::from_valid(line);
            let text = |value: Option<JsonValue<'_>>| value.and_then(JsonValue::text).map(|text| text.into_owned());
            let identity = parse(line).unwrap().identity;
            assert_eq!(Some(identity.id.to_owned()), text(json.member("id")));
            let version_id = json.member("meta").and_then(|meta| meta.member("versionId"));
            assert_eq!(identity.version_id.map(str::to_owned), text(version_id), "{line}");
        }
        let line = r#"{"resourceType":"Patient","id":"a","meta":{"versionId":7}}"#;
        assert!(parse(line).is_none(), "the general parser decides about a version id that is not a string");
    }

    #[test]
    fn a_truncated_or_damaged_line_is_never_accepted() {
        for line in SAMPLES.iter().filter_map(|sample| sample.lines().next()) {
            for (at, byte) in line.bytes().enumerate() {
                assert_eq!(parse_head(&line[..at]), None, "cut at {at}");
                for damage in [b'"', b'\\', b'{', b'}', b'[', b']', b',', b':', b'0', b'.', b'-', b' ', b'\n', b'n'] {
                    let mut damaged = line.as_bytes().to_vec();
                    damaged[at] = damage;
                    let damaged = String::from_utf8(damaged).unwrap();
                    let fast = parse_head(&damaged);
                    assert!(fast.is_none() || fast == general::parse(&damaged).ok(), "{} for {} at {at}", damage as char, byte as char);
                }
            }
        }
    }

    #[test]
    fn both_parsers_accept_the_same_json() {
        for value in [
            "0",
            "-0",
            "01",
            "-",
            "1.",
            "1.50",
            ".5",
            "1e5",
            "1E+05",
            "1e",
            "1e+",
            "-1.0e-7",
            "+1",
            "1x",
            "true",
            "tru",
            "nul",
            "null",
            "falsey",
            "[]",
            "[1,]",
            "[,1]",
            "[1 2]",
            "[[],[{}]]",
            "{}",
            "{,}",
            "{\"a\":1,}",
            "{\"a\"}",
            "{\"a\":{\"b\":[]}}",
            "{1:2}",
            "[}",
            "{]",
            "[ 1 , { \"a\" : [ ] } ]",
            r#""\n\u00e9\/""#,
            r#""\x""#,
            r#""\u00g0""#,
            r#""\ud800""#,
            "\"\t\"",
            "\"é\u{2028}\u{1F600}\"",
            "\"",
        ] {
            let line = format!(r#" {{ "resourceType" : "Patient" , "x" : {value} , "id" : "1" }} "#);
            assert_eq!(parse_head(&line), general::parse(&line).ok(), "{value}");
        }
    }
}
