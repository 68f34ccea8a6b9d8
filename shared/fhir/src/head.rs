//! One streaming pass over a line: is it a resource, of which type, changed when?

pub(crate) mod peek;
pub(crate) mod resource;
pub(crate) mod skim;

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::head::skim::skim;
use crate::{Instant, ResourceType};

/// What an export asks of a resource, read without building a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its `resourceType`.
    pub kind: ResourceType,
    /// Its `meta.lastUpdated`; `None` where it is absent or not an instant.
    pub last_updated: Option<Instant>,
}

/// Why a line is not a resource. Says what is wrong and where, never what stands there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAResource {
    /// The bytes are not UTF-8.
    #[error("not UTF-8 after {0} bytes of the line")]
    NotUtf8(usize),
    /// The text is not JSON, or goes on after its end.
    #[error("not valid JSON at column {0} of the line")]
    NotJson(usize),
    /// JSON, but not an object.
    #[error("not a JSON object")]
    NotAnObject,
    /// `resourceType`, `id` or `meta` stands there twice.
    #[error("the member {0} stands there twice")]
    Twice(&'static str),
    /// No `resourceType`, or not a string.
    #[error("no resourceType")]
    NoType,
    /// The `resourceType` is not one of FHIR R4, R4B or R5.
    #[error("a resourceType that FHIR R4, R4B and R5 do not define")]
    UnknownType,
    /// No `id`, or not a string with at least one character.
    #[error("no id")]
    NoId,
}

/// Reads the head of one line: a whole JSON document, without its line end.
///
/// The entire line is validated as UTF-8 and as JSON, so that what passes is a resource to its last brace.
pub fn head(line: &[u8]) -> Result<Head, NotAResource> {
    let text = std::str::from_utf8(line).map_err(|error| NotAResource::NotUtf8(error.valid_up_to()))?;
    match skim(text) {
        Some(head) => Ok(head),
        None => read(text),
    }
}

/// Reads any text.
pub(crate) fn read(text: &str) -> Result<Head, NotAResource> {
    if !text.trim_ascii_start().starts_with('{') {
        return Err(match serde_json::from_str::<IgnoredAny>(text) {
            Ok(_) => NotAResource::NotAnObject,
            Err(error) => NotAResource::NotJson(error.column()),
        });
    }
    let mut json = serde_json::Deserializer::from_str(text);
    let mut members = Members::default();
    let read = json.deserialize_map(&mut members).and_then(|()| json.end());
    if let Some(member) = members.twice {
        return Err(NotAResource::Twice(member));
    }
    read.map_err(|error| NotAResource::NotJson(error.column()))?;
    let kind = match members.kind {
        None | Some(Kind::NotText) => return Err(NotAResource::NoType),
        Some(Kind::Unknown) => return Err(NotAResource::UnknownType),
        Some(Kind::Known(kind)) => kind,
    };
    if members.id != Some(true) {
        return Err(NotAResource::NoId);
    }
    Ok(Head { kind, last_updated: members.meta.flatten() })
}

enum Kind {
    Known(ResourceType),
    Unknown,
    NotText,
}

/// The members of interest; each `None` until met.
#[derive(Default)]
struct Members {
    kind: Option<Kind>,
    /// Whether the id is a string with at least one character.
    id: Option<bool>,
    meta: Option<Option<Instant>>,
    twice: Option<&'static str>,
}

impl<'de> Visitor<'de> for &mut Members {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a resource")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Key(member)) = map.next_key()? {
            let again = match member {
                Member::ResourceType => {
                    let kind = map.next_value::<Picked<KindOfText>>()?.0.map_or(Kind::NotText, |kind| kind.0);
                    self.kind.replace(kind).is_some()
                }
                Member::Id => {
                    let filled = map.next_value::<Picked<Filled>>()?.0.is_some_and(|filled| filled.0);
                    self.id.replace(filled).is_some()
                }
                Member::Meta => {
                    let meta = map.next_value::<Picked<LastUpdated>>()?.0.map(|moment| moment.0);
                    self.meta.replace(meta).is_some()
                }
                Member::Other => {
                    map.next_value::<IgnoredAny>()?;
                    false
                }
            };
            if again {
                self.twice = Some(member.as_str());
                return Err(A::Error::custom("duplicate member"));
            }
        }
        Ok(())
    }
}

#[derive(Clone, Copy)]
enum Member {
    ResourceType,
    Id,
    Meta,
    Other,
}

impl Member {
    fn as_str(self) -> &'static str {
        match self {
            Self::ResourceType => "resourceType",
            Self::Id => "id",
            Self::Meta => "meta",
            Self::Other => "",
        }
    }
}

/// A member's name, matched without being kept.
struct Key(Member);

impl<'de> serde::Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        struct Name;
        impl Visitor<'_> for Name {
            type Value = Key;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a member name")
            }
            fn visit_str<E>(self, name: &str) -> Result<Key, E> {
                Ok(Key(match name {
                    "resourceType" => Member::ResourceType,
                    "id" => Member::Id,
                    "meta" => Member::Meta,
                    _ => Member::Other,
                }))
            }
        }
        json.deserialize_str(Name)
    }
}

/// What is kept of a member's value; a value of another JSON type is skipped and leaves `None`.
trait Pick<'de>: Sized {
    fn from_text(_: &str) -> Option<Self> {
        None
    }

    fn from_object<A: MapAccess<'de>>(mut object: A) -> Result<Option<Self>, A::Error> {
        while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }
}

struct KindOfText(Kind);

impl Pick<'_> for KindOfText {
    fn from_text(text: &str) -> Option<Self> {
        Some(Self(ResourceType::named(text).map_or(Kind::Unknown, Kind::Known)))
    }
}

struct Filled(bool);

impl Pick<'_> for Filled {
    fn from_text(text: &str) -> Option<Self> {
        Some(Self(!text.is_empty()))
    }
}

struct Moment(Instant);

impl Pick<'_> for Moment {
    fn from_text(text: &str) -> Option<Self> {
        Instant::parse(text).ok().map(Self)
    }
}

struct LastUpdated(Instant);

impl<'de> Pick<'de> for LastUpdated {
    fn from_object<A: MapAccess<'de>>(mut meta: A) -> Result<Option<Self>, A::Error> {
        #[derive(serde::Deserialize)]
        #[serde(field_identifier)]
        enum Field {
            #[serde(rename = "lastUpdated")]
            LastUpdated,
            #[serde(other)]
            Other,
        }
        let mut last_updated = None;
        while let Some(field) = meta.next_key()? {
            match field {
                Field::LastUpdated => last_updated = meta.next_value::<Picked<Moment>>()?.0.map(|moment| Self(moment.0)),
                Field::Other => {
                    meta.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(last_updated)
    }
}

/// A value of any JSON type, of which at most a `T` is kept.
struct Picked<T>(Option<T>);

impl<'de, T: Pick<'de>> serde::Deserialize<'de> for Picked<T> {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        struct AnyValue<T>(PhantomData<T>);
        impl<'de, T: Pick<'de>> Visitor<'de> for AnyValue<T> {
            type Value = Picked<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON value")
            }
            fn visit_str<E>(self, text: &str) -> Result<Picked<T>, E> {
                Ok(Picked(T::from_text(text)))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Picked<T>, A::Error> {
                T::from_object(map).map(Picked)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Picked<T>, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Picked(None))
            }
            fn visit_bool<E>(self, _: bool) -> Result<Picked<T>, E> {
                Ok(Picked(None))
            }
            fn visit_i64<E>(self, _: i64) -> Result<Picked<T>, E> {
                Ok(Picked(None))
            }
            fn visit_u64<E>(self, _: u64) -> Result<Picked<T>, E> {
                Ok(Picked(None))
            }
            fn visit_f64<E>(self, _: f64) -> Result<Picked<T>, E> {
                Ok(Picked(None))
            }
            fn visit_unit<E>(self) -> Result<Picked<T>, E> {
                Ok(Picked(None))
            }
        }
        json.deserialize_any(AnyValue(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::*;

    /// Any JSON value whose names and strings are often those that matter.
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

    /// A document with the members that a resource has, each as it should be or as anything.
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

    /// What `head` must find, looked up in a tree.
    fn looked_up(tree: &Value) -> Result<Head, NotAResource> {
        let object = tree.as_object().ok_or(NotAResource::NotAnObject)?;
        let name = object.get("resourceType").and_then(Value::as_str).ok_or(NotAResource::NoType)?;
        let kind = ResourceType::named(name).ok_or(NotAResource::UnknownType)?;
        object.get("id").and_then(Value::as_str).filter(|id| !id.is_empty()).ok_or(NotAResource::NoId)?;
        let changed = object.get("meta").and_then(|meta| meta.get("lastUpdated")).and_then(Value::as_str);
        Ok(Head { kind, last_updated: changed.and_then(|text| Instant::parse(text).ok()) })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn one_pass_finds_what_a_tree_holds(tree in document(), is_pretty in any::<bool>()) {
            let text = if is_pretty { format!("{tree:#}") } else { tree.to_string() };
            prop_assert_eq!(head(text.as_bytes()), looked_up(&tree), "{}", text);
        }

        #[test]
        fn a_damaged_line_is_refused_wherever_a_tree_would_be(tree in document(), place in any::<prop::sample::Index>(), with in any::<u8>(), how in 0..3) {
            let mut line = tree.to_string().into_bytes();
            let at = place.index(line.len());
            match how {
                0 => line[at] = with,
                1 => line.insert(at, with),
                _ => line.truncate(at),
            }
            let is_json = serde_json::from_slice::<Value>(&line);
            match (head(&line), is_json) {
                (Ok(found), Ok(tree)) => prop_assert_eq!(Ok(found), looked_up(&tree)),
                (Ok(_), Err(error)) => {
                    // A tree has no place for these; they are legal JSON and pass through as bytes.
                    let said = error.to_string();
                    prop_assert!(said.contains("number out of range") || said.contains("surrogate"), "{said}: {}", String::from_utf8_lossy(&line));
                }
                (Err(NotAResource::NotJson(_) | NotAResource::NotUtf8(_)), read) => prop_assert!(read.is_err(), "{}", String::from_utf8_lossy(&line)),
                (Err(_), _) => {}
            }
        }
    }

    #[test]
    fn members_may_come_in_any_order() {
        let line = br#" {"name":[{"family":"A\"B","x":[1.10,{"id":1}]}],"meta":{"versionId":"1","lastUpdated":"2025-05-07T02:58:10.201Z"},"id":"p1","resourceType":"Patient"} "#;
        let read = head(line).unwrap();
        assert_eq!(read.kind.as_str(), "Patient");
        assert_eq!(read.last_updated, Instant::parse("2025-05-07T02:58:10.201Z").ok());
    }

    #[test]
    fn a_nested_resource_type_is_not_the_lines_own() {
        let line = br#"{"contained":[{"resourceType":"Observation","id":"c"}],"resourceType":"Patient","id":"p"}"#;
        assert_eq!(head(line).map(|read| read.kind.as_str()), Ok("Patient"));
        assert_eq!(head(br#"{"contained":[{"resourceType":"Patient","id":"c"}],"id":"p"}"#), Err(NotAResource::NoType));
    }

    #[test]
    fn an_escaped_member_name_is_the_same_member() {
        assert!(head(br#"{"resource\u0054ype":"Patient","i\u0064":"p"}"#).is_ok());
    }

    #[test]
    fn what_is_not_a_resource_says_why() {
        let cases: &[(&[u8], NotAResource)] = &[
            (b"{\"resourceType\":\"Patient\",\"id\":\"1\",\"name\":[", NotAResource::NotJson(43)),
            (b"{\"resourceType\":\"Patient\",\"id\":\"1\"} x", NotAResource::NotJson(37)),
            (b"[1]", NotAResource::NotAnObject),
            (b"\"Patient\"", NotAResource::NotAnObject),
            (b"hello", NotAResource::NotJson(1)),
            (b"{}", NotAResource::NoType),
            (b"{\"resourceType\":7,\"id\":\"1\"}", NotAResource::NoType),
            (b"{\"resourceType\":\"Dog\",\"id\":\"1\"}", NotAResource::UnknownType),
            (b"{\"resourceType\":\"Patient\"}", NotAResource::NoId),
            (b"{\"resourceType\":\"Patient\",\"id\":\"\"}", NotAResource::NoId),
            (b"{\"resourceType\":\"Patient\",\"id\":{\"a\":[]}}", NotAResource::NoId),
            (b"{\"resourceType\":\"Patient\",\"id\":\"1\",\"id\":\"2\"}", NotAResource::Twice("id")),
            (b"{\"resourceType\":\"Patient\",\"resourceType\":\"Group\",\"id\":\"2\"}", NotAResource::Twice("resourceType")),
            (b"{\"resourceType\":\"Patient\",\"id\":\"\xff\"}", NotAResource::NotUtf8(32)),
        ];
        for (line, reason) in cases {
            assert_eq!(head(line), Err(*reason), "{}", String::from_utf8_lossy(line));
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
            let reason = head(line.as_bytes()).unwrap_err();
            assert!(!format!("{reason} {reason:?}").contains(secret), "{reason}");
        }
    }

    #[test]
    fn a_bomb_of_nesting_is_refused_without_overflowing_the_stack() {
        let line = [&b"{\"resourceType\":\"Patient\",\"id\":\"1\",\"x\":"[..], &vec![b'['; 1_000_000]].concat();
        assert!(matches!(head(&line), Err(NotAResource::NotJson(_))));
    }
}
