//! The head parser for any JSON text, on top of `serde_json`. It reports errors.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::resource_head::{InvalidResource, ResourceHead};
use crate::definitions::ResourceType;
use crate::instant::Instant;

/// Parses the head of a line and validates the whole line as JSON.
pub(super) fn parse(text: &str) -> Result<ResourceHead, InvalidResource> {
    if !text.trim_ascii_start().starts_with('{') {
        return Err(match serde_json::from_str::<IgnoredAny>(text) {
            Ok(_) => InvalidResource::NotAnObject,
            Err(error) => InvalidResource::NotJson(error.column()),
        });
    }
    let mut json = serde_json::Deserializer::from_str(text);
    let mut members = HeadMembers::default();
    let result = json.deserialize_map(&mut members).and_then(|()| json.end());
    // A duplicate member stops the deserializer with an error of its own, so it has to be reported first.
    if let Some(member) = members.duplicate {
        return Err(InvalidResource::DuplicateMember(member));
    }
    result.map_err(|error| InvalidResource::NotJson(error.column()))?;
    let resource_type = match members.resource_type {
        None | Some(TypeMember::NotAString) => return Err(InvalidResource::MissingType),
        Some(TypeMember::Unknown) => return Err(InvalidResource::UnknownType),
        Some(TypeMember::Known(resource_type)) => resource_type,
    };
    if members.has_id != Some(true) {
        return Err(InvalidResource::MissingId);
    }
    Ok(ResourceHead { resource_type, last_updated: members.last_updated.flatten() })
}

/// The value of `resourceType`.
enum TypeMember {
    Known(ResourceType),
    Unknown,
    NotAString,
}

/// The members of the head; each is `None` until it has been read.
#[derive(Default)]
struct HeadMembers {
    resource_type: Option<TypeMember>,
    /// True if `id` is a string with at least one character.
    has_id: Option<bool>,
    last_updated: Option<Option<Instant>>,
    /// The name of a member that occurs twice.
    duplicate: Option<&'static str>,
}

impl<'de> Visitor<'de> for &mut HeadMembers {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a resource")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(MemberKey(member)) = map.next_key()? {
            let is_duplicate = match member {
                HeadMember::ResourceType => {
                    let value = map.next_value::<Extracted<TypeMember>>()?.0.unwrap_or(TypeMember::NotAString);
                    self.resource_type.replace(value).is_some()
                }
                HeadMember::Id => {
                    let is_present = map.next_value::<Extracted<NonEmptyString>>()?.0.is_some();
                    self.has_id.replace(is_present).is_some()
                }
                HeadMember::Meta => {
                    let meta = map.next_value::<Extracted<MetaLastUpdated>>()?.0.map(|meta| meta.0);
                    self.last_updated.replace(meta).is_some()
                }
                HeadMember::Other => {
                    map.next_value::<IgnoredAny>()?;
                    false
                }
            };
            if is_duplicate {
                self.duplicate = Some(member.as_str());
                return Err(A::Error::custom("duplicate member"));
            }
        }
        Ok(())
    }
}

/// A root member, by whether the head needs it.
#[derive(Clone, Copy)]
enum HeadMember {
    ResourceType,
    Id,
    Meta,
    Other,
}

impl HeadMember {
    /// Returns the JSON name, empty for other members.
    fn as_str(self) -> &'static str {
        match self {
            Self::ResourceType => "resourceType",
            Self::Id => "id",
            Self::Meta => "meta",
            Self::Other => "",
        }
    }
}

/// A member name that is matched without being copied.
struct MemberKey(HeadMember);

impl<'de> serde::Deserialize<'de> for MemberKey {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        struct NameVisitor;
        impl Visitor<'_> for NameVisitor {
            type Value = MemberKey;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a member name")
            }
            fn visit_str<E>(self, name: &str) -> Result<MemberKey, E> {
                Ok(MemberKey(match name {
                    "resourceType" => HeadMember::ResourceType,
                    "id" => HeadMember::Id,
                    "meta" => HeadMember::Meta,
                    _ => HeadMember::Other,
                }))
            }
        }
        json.deserialize_str(NameVisitor)
    }
}

/// A value that can be extracted from a JSON string or object. Values of other JSON types are skipped and yield `None`.
trait FromJson<'de>: Sized {
    /// Extracts the value from a string.
    fn from_string(_: &str) -> Option<Self> {
        None
    }

    /// Extracts the value from an object.
    fn from_object<A: MapAccess<'de>>(mut object: A) -> Result<Option<Self>, A::Error> {
        while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }
}

impl FromJson<'_> for TypeMember {
    fn from_string(text: &str) -> Option<Self> {
        Some(ResourceType::parse(text).map_or(Self::Unknown, Self::Known))
    }
}

/// A string with at least one character.
struct NonEmptyString;

impl FromJson<'_> for NonEmptyString {
    fn from_string(text: &str) -> Option<Self> {
        (!text.is_empty()).then_some(Self)
    }
}

impl FromJson<'_> for Instant {
    fn from_string(text: &str) -> Option<Self> {
        Self::parse(text).ok()
    }
}

/// The `lastUpdated` of the object `meta`.
struct MetaLastUpdated(Instant);

impl<'de> FromJson<'de> for MetaLastUpdated {
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
                Field::LastUpdated => last_updated = meta.next_value::<Extracted<Instant>>()?.0.map(Self),
                Field::Other => {
                    meta.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(last_updated)
    }
}

/// The `T` in a JSON value, or `None` if the value has another type or content. Never fails for valid JSON of the wrong type.
struct Extracted<T>(Option<T>);

impl<'de, T: FromJson<'de>> serde::Deserialize<'de> for Extracted<T> {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        struct AnyValue<T>(PhantomData<T>);
        impl<'de, T: FromJson<'de>> Visitor<'de> for AnyValue<T> {
            type Value = Extracted<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON value")
            }
            fn visit_str<E>(self, text: &str) -> Result<Extracted<T>, E> {
                Ok(Extracted(T::from_string(text)))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Extracted<T>, A::Error> {
                T::from_object(map).map(Extracted)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Extracted<T>, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Extracted(None))
            }
            fn visit_bool<E>(self, _: bool) -> Result<Extracted<T>, E> {
                Ok(Extracted(None))
            }
            fn visit_i64<E>(self, _: i64) -> Result<Extracted<T>, E> {
                Ok(Extracted(None))
            }
            fn visit_u64<E>(self, _: u64) -> Result<Extracted<T>, E> {
                Ok(Extracted(None))
            }
            fn visit_f64<E>(self, _: f64) -> Result<Extracted<T>, E> {
                Ok(Extracted(None))
            }
            fn visit_unit<E>(self) -> Result<Extracted<T>, E> {
                Ok(Extracted(None))
            }
        }
        json.deserialize_any(AnyValue(PhantomData))
    }
}
