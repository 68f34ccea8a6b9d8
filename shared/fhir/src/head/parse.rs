//! Parsing of a head: the fast path first, then the general parser.

use super::resource_head::{InvalidResource, ResourceHead, ResourceIdentity};
use super::{fast, general};

impl ResourceHead {
    /// Parses the head of one line: a whole JSON document, without its line end.
    ///
    /// The entire line is validated as UTF-8 and as JSON without duplicate members at any depth.
    pub fn parse(line: &[u8]) -> Result<Self, InvalidResource> {
        Self::parse_with_identity(line).map(|(head, _)| head)
    }

    /// Parses the head of one line as [`Self::parse`] does, and returns the identity of the version with it, if the fast path could
    /// read the line.
    pub fn parse_with_identity(line: &[u8]) -> Result<(Self, Option<ResourceIdentity<'_>>), InvalidResource> {
        let text = text_of(line)?;
        match fast::parse(text) {
            Some(fast) => Ok((fast.head, Some(fast.identity))),
            None => general::parse(text).map(|head| (head, None)),
        }
    }
}

/// Returns the text of a line, which must be UTF-8.
// `simdutf8` checks lines twice as fast as the standard library, which says where the fault is.
pub(super) fn text_of(line: &[u8]) -> Result<&str, InvalidResource> {
    match simdutf8::basic::from_utf8(line) {
        Ok(text) => Ok(text),
        Err(_) => std::str::from_utf8(line).map_err(|error| InvalidResource::NotUtf8(error.valid_up_to())),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::*;
    use crate::definitions::ResourceType;
    use crate::head::{MemberIndex, Resource};
    use crate::instant::Instant;

    /// Generates JSON values whose names and strings are often those of a head.
    fn value() -> impl Strategy<Value = Value> {
        let text = || {
            prop_oneof![
                Just("Patient".to_owned()),
                Just("Dog".to_owned()),
                Just(String::new()),
                Just("2025-05-07T02:58:10.201Z".to_owned()),
                Just("2025-05".to_owned()),
                "\\PC{0,6}",
            ]
        };
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            (-1e9..1e9).prop_map(|number: f64| json!(number)),
            text().prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, move |inner| {
            let name = prop_oneof![3 => prop::sample::select(vec!["resourceType", "id", "meta", "lastUpdated"]).prop_map(str::to_owned), 1 => text()];
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((name, inner), 0..5).prop_map(|members| Value::from(members.into_iter().collect::<Map<_, _>>())),
            ]
        })
    }

    /// Generates documents with the members of a resource, each valid or arbitrary.
    fn document() -> impl Strategy<Value = Value> {
        let meta = prop_oneof![
            3 => Just(json!({ "versionId": "1", "lastUpdated": "2025-05-07T02:58:10.201Z" })),
            1 => value().prop_map(|time| json!({ "lastUpdated": time })),
            1 => value(),
        ];
        let kind = prop_oneof![4 => Just(json!("Observation")), 1 => value()];
        let id = prop_oneof![4 => Just(json!("a-1")), 1 => value()];
        let members =
            (prop::option::weighted(0.9, kind), prop::option::weighted(0.9, id), prop::option::of(meta), prop::option::of(value()));
        let object = members.prop_map(|(kind, id, meta, other)| {
            let named = [("resourceType", kind), ("id", id), ("meta", meta), ("x", other)];
            Value::from(named.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect::<Map<_, _>>())
        });
        prop_oneof![5 => object, 1 => value()]
    }

    /// Returns the expected head, read from a JSON tree.
    fn expected_head(tree: &Value) -> Result<ResourceHead, InvalidResource> {
        let object = tree.as_object().ok_or(InvalidResource::NotAnObject)?;
        let name = object.get("resourceType").and_then(Value::as_str).ok_or(InvalidResource::MissingType)?;
        let resource_type = ResourceType::parse(name).ok_or(InvalidResource::UnknownType)?;
        object.get("id").and_then(Value::as_str).filter(|id| !id.is_empty()).ok_or(InvalidResource::MissingId)?;
        let changed = object.get("meta").and_then(|meta| meta.get("lastUpdated")).and_then(Value::as_str);
        Ok(ResourceHead { resource_type, last_updated: changed.and_then(|text| Instant::parse(text).ok()) })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn the_head_is_the_same_as_in_a_json_tree(tree in document(), is_pretty in any::<bool>()) {
            let text = if is_pretty { format!("{tree:#}") } else { tree.to_string() };
            prop_assert_eq!(ResourceHead::parse(text.as_bytes()), expected_head(&tree), "{}", text);
        }

        #[test]
        fn a_damaged_line_is_rejected_like_in_a_json_tree(tree in document(), position in any::<prop::sample::Index>(), byte in any::<u8>(), damage in 0..3) {
            let mut line = tree.to_string().into_bytes();
            let position = position.index(line.len());
            match damage {
                0 => line[position] = byte,
                1 => line.insert(position, byte),
                _ => line.truncate(position),
            }
            let is_json = serde_json::from_slice::<Value>(&line);
            match (ResourceHead::parse(&line), is_json) {
                (Ok(head), Ok(tree)) => prop_assert_eq!(Ok(head), expected_head(&tree)),
                (Ok(_), Err(error)) => {
                    // The tree cannot hold these values; they are valid JSON and pass through as bytes.
                    let message = error.to_string();
                    prop_assert!(message.contains("number out of range") || message.contains("surrogate"), "{message}: {}", String::from_utf8_lossy(&line));
                }
                (Err(InvalidResource::NotJson(_) | InvalidResource::NotUtf8(_)), tree) => prop_assert!(tree.is_err(), "{}", String::from_utf8_lossy(&line)),
                (Err(_), _) => {}
            }
        }
    }

    #[test]
    fn members_may_come_in_any_order() {
        let line = br#" {"name":[{"family":"A\"B","x":[1.10,{"id":1}]}],"meta":{"versionId":"1","lastUpdated":"2025-05-07T02:58:10.201Z"},"id":"p1","resourceType":"Patient"} "#;
        let head = ResourceHead::parse(line).unwrap();
        assert_eq!(head.resource_type.as_str(), "Patient");
        assert_eq!(head.last_updated, Instant::parse("2025-05-07T02:58:10.201Z").ok());
    }

    #[test]
    fn a_nested_resource_type_is_ignored() {
        let line = br#"{"contained":[{"resourceType":"Observation","id":"c"}],"resourceType":"Patient","id":"p"}"#;
        assert_eq!(ResourceHead::parse(line).map(|head| head.resource_type.as_str()), Ok("Patient"));
        assert_eq!(
            ResourceHead::parse(br#"{"contained":[{"resourceType":"Patient","id":"c"}],"id":"p"}"#),
            Err(InvalidResource::MissingType)
        );
    }

    #[test]
    fn an_escaped_member_name_is_the_same_member() {
        assert!(ResourceHead::parse(br#"{"resource\u0054ype":"Patient","i\u0064":"p"}"#).is_ok());
    }

    #[test]
    fn each_invalid_line_has_its_reason() {
        let cases: &[(&[u8], InvalidResource)] = &[
            (b"{\"resourceType\":\"Patient\",\"id\":\"1\",\"name\":[", InvalidResource::NotJson(43)),
            (b"{\"resourceType\":\"Patient\",\"id\":\"1\"} x", InvalidResource::NotJson(37)),
            (b"[1]", InvalidResource::NotAnObject),
            (b"\"Patient\"", InvalidResource::NotAnObject),
            (b"hello", InvalidResource::NotJson(1)),
            (b"{}", InvalidResource::MissingType),
            (b"{\"resourceType\":7,\"id\":\"1\"}", InvalidResource::MissingType),
            (b"{\"resourceType\":\"Dog\",\"id\":\"1\"}", InvalidResource::UnknownType),
            (b"{\"resourceType\":\"Patient\"}", InvalidResource::MissingId),
            (b"{\"resourceType\":\"Patient\",\"id\":\"\"}", InvalidResource::MissingId),
            (b"{\"resourceType\":\"Patient\",\"id\":{\"a\":[]}}", InvalidResource::MissingId),
            (b"{\"resourceType\":\"Patient\",\"id\":\"1\",\"id\":\"2\"}", InvalidResource::DuplicateMember(36)),
            (b"{\"resourceType\":\"Patient\",\"resourceType\":\"Group\",\"id\":\"2\"}", InvalidResource::DuplicateMember(27)),
            (b"{\"resourceType\":\"Patient\",\"id\":\"\xff\"}", InvalidResource::NotUtf8(32)),
        ];
        for (line, reason) in cases {
            assert_eq!(ResourceHead::parse(line), Err(*reason), "{}", String::from_utf8_lossy(line));
        }
    }

    #[test]
    fn a_reason_never_quotes_the_line() {
        let secret = "SECRET-VALUE";
        for line in [
            format!("{{\"resourceType\":\"{secret}\",\"id\":\"1\"}}"),
            format!("{{\"resourceType\":\"Patient\",\"id\":\"1\",\"x\":{secret}}}"),
            format!("{{\"resourceType\":\"Patient\",\"id\":\"1\",\"meta\":\"{secret}}}"),
            secret.to_owned(),
        ] {
            let reason = ResourceHead::parse(line.as_bytes()).unwrap_err();
            assert!(!format!("{reason} {reason:?}").contains(secret), "{reason}");
        }
    }

    #[test]
    fn a_member_that_occurs_twice_at_any_depth_is_rejected() {
        let nest = |depth: usize, inner: &str| format!("{}{inner}{}", "[{\"a\":".repeat(depth), "}]".repeat(depth));
        let many: String = (0..300).map(|number| format!("\"m{number}\":{{}},")).collect();
        for value in [
            r#"{"b":1,"b":2}"#.to_owned(),
            r#"{"b":1,"\u0062":2}"#.to_owned(),
            r#"{"b":{},"c":[{"d":{}},{"e":1}],"b":[]}"#.to_owned(),
            r#"{"a-long-name-of-a-member":1,"x":{"a-long-name-of-a-member":2},"a-long-name-of-a-member":3}"#.to_owned(),
            nest(3, r#"{"b":1,"c":{},"b":1}"#),
            nest(200, r#"{"b":1,"b":1}"#),
            format!("{{{many}\"m7\":1}}"),
        ] {
            let line = format!(r#"{{"resourceType":"Patient","id":"1","x":{value}}}"#);
            assert!(matches!(ResourceHead::parse(line.as_bytes()), Err(InvalidResource::DuplicateMember(_))), "{line}");
            let mut member_index = MemberIndex::default();
            assert!(matches!(Resource::parse(line.as_bytes(), &mut member_index), Err(InvalidResource::DuplicateMember(_))), "{line}");
        }
        for value in [
            nest(3, "{}"),
            nest(200, "{}"),
            format!("{{{many}\"m\":1}}"),
            r#"{"a":{"a":{}},"b":{"a":1},"aa":[{},{"a":1},{"a":2}]}"#.to_owned(),
        ] {
            let line = format!(r#"{{"resourceType":"Patient","id":"1","x":{value},"a":1,"m1":2}}"#);
            assert!(ResourceHead::parse(line.as_bytes()).is_ok(), "{line}");
        }
    }

    #[test]
    fn extreme_nesting_causes_no_stack_overflow() {
        let line = [&b"{\"resourceType\":\"Patient\",\"id\":\"1\",\"x\":"[..], &vec![b'['; 1_000_000]].concat();
        assert!(matches!(ResourceHead::parse(&line), Err(InvalidResource::NotJson(_))));
        let closed = [&line[..], &vec![b']'; 1_000_000], b"}"].concat();
        assert!(ResourceHead::parse(&closed).is_ok());
    }
}
