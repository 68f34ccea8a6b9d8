//! Every consumer of a resource reads what one reference reading has, however the resource is spelled: with escapes, whitespace, another
//! order of members, other numbers.
//!
//! The reference is `serde_json` with `RawValue`, which keeps the digits of numbers. Its feature `arbitrary_precision` would do the
//! same, but Cargo would unify it with the program's own `serde_json` in every test of the workspace.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic of the reference reading is a test that fails")]

use std::fmt;

use headrace_fhir::definitions::FhirVersion;
use headrace_fhir::deid::{DeidConfig, DeidJobContext, Deidentified};
use headrace_fhir::head::{InvalidResource, MemberIndex, Resource, ResourceHead};
use headrace_fhir::instant::Instant;
use headrace_fhir::json::JsonValue;
use headrace_fhir::search::Query;
use headrace_fhir::semantics::compartment::PatientCompartment;
use headrace_fhir::semantics::elements::Elements;
use headrace_fhir::semantics::group::GroupMembers;
use headrace_fhir::semantics::mention::may_mention_patient;
use headrace_fhir::semantics::reference::{BaseUrls, visit_references};
use proptest::prelude::*;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use time::macros::date;

/// A JSON value. Numbers keep their text, and objects the order of their members.
#[derive(Clone, Debug, PartialEq)]
enum Tree {
    Literal(String),
    Text(String),
    List(Vec<Tree>),
    Object(Vec<(String, Tree)>),
}

/// The members of an object, also those that occur twice.
struct Members(Vec<(String, Box<RawValue>)>);

impl<'de> serde::Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        struct AllMembers;
        impl<'de> Visitor<'de> for AllMembers {
            type Value = Members;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        json.deserialize_map(AllMembers)
    }
}

impl Tree {
    /// Returns the reference reading of a JSON text, and `None` if an object has a member twice.
    fn read(text: &str) -> Option<Self> {
        Some(match text.trim().as_bytes()[0] {
            b'{' => {
                let members = serde_json::from_str::<Members>(text).unwrap().0;
                let mut read = Vec::<(String, Tree)>::new();
                for (name, value) in members {
                    if read.iter().any(|(other, _)| *other == name) {
                        return None;
                    }
                    read.push((name, Self::read(value.get())?));
                }
                Self::Object(read)
            }
            b'[' => Self::List(
                serde_json::from_str::<Vec<Box<RawValue>>>(text)
                    .unwrap()
                    .iter()
                    .map(|item| Self::read(item.get()))
                    .collect::<Option<_>>()?,
            ),
            b'"' => Self::Text(serde_json::from_str(text).unwrap()),
            _ => Self::Literal(text.trim().to_owned()),
        })
    }

    /// Returns the same value with the members of all objects in the order of their names.
    fn sorted(self) -> Self {
        match self {
            Self::Object(mut members) => {
                members.sort_by(|(one, _), (other, _)| one.cmp(other));
                Self::Object(members.into_iter().map(|(name, value)| (name, value.sorted())).collect())
            }
            Self::List(items) => Self::List(items.into_iter().map(Self::sorted).collect()),
            Self::Literal(_) | Self::Text(_) => self,
        }
    }

    /// Returns the member with this name.
    fn member(&self, name: &str) -> Option<&Self> {
        let Self::Object(members) = self else { return None };
        members.iter().find(|(other, _)| other == name).map(|(_, value)| value)
    }

    /// Returns the values at a path of member names. Lists are followed into each item.
    fn at(&self, path: &[&str]) -> Vec<&Self> {
        match (self, path.split_first()) {
            (Self::List(items), _) => items.iter().flat_map(|item| item.at(path)).collect(),
            (_, None) => vec![self],
            (_, Some((name, rest))) => self.member(name).into_iter().flat_map(|value| value.at(rest)).collect(),
        }
    }

    /// Returns the strings at a path.
    fn texts(&self, path: &[&str]) -> Vec<&str> {
        let text = |value: &'_ Self| matches!(value, Self::Text(_));
        self.at(path).into_iter().filter(|value| text(value)).map(Self::text).collect()
    }

    /// Returns the text of a string.
    fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Literal(_) | Self::List(_) | Self::Object(_) => "",
        }
    }

    /// Returns the value without these root members.
    fn without(self, names: &[&str]) -> Self {
        match self {
            Self::Object(members) => Self::Object(members.into_iter().filter(|(name, _)| !names.contains(&name.as_str())).collect()),
            Self::Literal(_) | Self::Text(_) | Self::List(_) => self,
        }
    }
}

/// A sequence of choices: how the next name, string or gap is spelled.
struct Spelling<'c> {
    choices: &'c [u8],
    next: usize,
    /// The number of the object, in the order of their starts, that has a member twice.
    doubled: Option<usize>,
}

impl Spelling<'_> {
    fn choose(&mut self) -> u8 {
        self.next += 1;
        self.choices[self.next % self.choices.len()]
    }

    /// Writes whitespace.
    fn gap(&mut self, out: &mut String) {
        out.push_str(match self.choose() % 8 {
            0 => " ",
            1 => "\t",
            2 => "  ",
            _ => "",
        });
    }

    /// Writes a string. Any character may be escaped.
    fn string(&mut self, text: &str, out: &mut String) {
        out.push('"');
        for c in text.chars() {
            match self.choose() % 24 {
                0 => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| *out += &format!("\\u{unit:04x}")),
                1 => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| *out += &format!("\\u{unit:04X}")),
                2 if c == '/' => out.push_str("\\/"),
                _ if c == '"' || c == '\\' => out.extend(['\\', c]),
                _ => out.push(c),
            }
        }
        out.push('"');
    }

    /// Writes a value.
    fn value(&mut self, tree: &Tree, out: &mut String) {
        self.gap(out);
        match tree {
            Tree::Literal(text) => out.push_str(text),
            Tree::Text(text) => self.string(text, out),
            Tree::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    out.push(if index == 0 { '[' } else { ',' });
                    self.value(item, out);
                }
                out.push_str(if items.is_empty() { "[]" } else { "]" });
            }
            Tree::Object(members) => {
                let mut order: Vec<_> = members.iter().collect();
                let turns = usize::from(self.choose()) % order.len();
                order.rotate_left(turns);
                if self.doubled.as_mut().is_some_and(|left| std::mem::replace(left, left.wrapping_sub(1)) == 0) {
                    let again = order[usize::from(self.choose()) % order.len()];
                    let at = usize::from(self.choose()) % (order.len() + 1);
                    order.insert(at, again);
                }
                for (index, (name, value)) in order.into_iter().enumerate() {
                    out.push(if index == 0 { '{' } else { ',' });
                    self.gap(out);
                    self.string(name, out);
                    self.gap(out);
                    out.push(':');
                    self.value(value, out);
                    self.gap(out);
                }
                out.push('}');
            }
        }
        self.gap(out);
    }
}

/// Returns the text of a resource, spelled by `choices`. With `doubled`, one of its objects has a member twice.
fn spell(tree: &Tree, choices: &[u8], doubled: Option<usize>) -> String {
    let mut out = String::new();
    let objects = count_objects(tree);
    Spelling { choices, next: 0, doubled: doubled.map(|number| number % objects) }.value(tree, &mut out);
    out
}

/// Returns the number of objects in a value.
fn count_objects(tree: &Tree) -> usize {
    match tree {
        Tree::Object(members) => 1 + members.iter().map(|(_, value)| count_objects(value)).sum::<usize>(),
        Tree::List(items) => items.iter().map(count_objects).sum(),
        Tree::Literal(_) | Tree::Text(_) => 0,
    }
}

fn text(text: &str) -> Tree {
    Tree::Text(text.to_owned())
}

fn object(members: impl IntoIterator<Item = (&'static str, Tree)>) -> Tree {
    Tree::Object(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

/// Returns a list with one CodeableConcept.
fn concept(code: &str) -> Tree {
    Tree::List(vec![object([("coding", Tree::List(vec![object([("system", text("http://x/y")), ("code", text(code))])]))])])
}

fn reference(id: &str) -> Tree {
    object([("reference", text(&format!("Patient/{id}"))), ("display", text("Ä \"quoted\" \\ name"))])
}

/// Generates Observations and Groups.
fn resource() -> impl Strategy<Value = Tree> {
    let word = || prop::sample::select(vec!["lab", "vitals", "a/b", "é\"", "p-1", "p-2", "id"]);
    let number = prop::sample::select(vec!["1.20", "1.2", "1E2", "100", "-0.0", "12345678901234567890.10"]);
    (word(), word(), word(), word(), number, any::<bool>()).prop_map(|(one, two, three, four, number, is_group)| {
        let meta = || object([("versionId", text("3")), ("lastUpdated", text("2026-01-31T08:00:00Z"))]);
        if is_group {
            let member = |id| object([("entity", reference(id)), ("inactive", Tree::Literal((id == "lab").to_string()))]);
            return object([
                ("resourceType", text("Group")),
                ("id", text(one)),
                ("meta", meta()),
                ("type", text("person")),
                ("actual", Tree::Literal("true".into())),
                ("member", Tree::List(vec![member(two), member(three), member(four)])),
            ]);
        }
        object([
            ("resourceType", text("Observation")),
            ("id", text(one)),
            ("meta", meta()),
            ("status", text(if four == "lab" { "final" } else { "amended" })),
            ("category", concept(two)),
            ("code", object([("text", text(three))])),
            ("subject", reference(four)),
            ("performer", Tree::List(vec![reference(three)])),
            ("valueQuantity", object([("value", Tree::Literal(number.into())), ("unit", text("µg"))])),
            ("component", Tree::List(vec![object([("code", object([("text", text(one))]))])])),
        ])
    })
}

/// Returns the result of a query.
fn is_selected(query: &str, resource: &Resource<'_>) -> bool {
    let now = Instant::parse("2026-02-01").unwrap();
    Query::parse(query, FhirVersion::default(), now).unwrap().matches(resource)
}

/// Returns a configuration that keeps everything but one element.
fn rules() -> headrace_fhir::deid::Deidentifier {
    let config = br#"{"fhirVersion":"R4","fhirPathRules":[{"path":"Observation.subject","method":"redact"},
        {"path":"Group.member","method":"redact"},{"path":"Resource","method":"keep"}]}"#;
    DeidConfig::parse(config, FhirVersion::default()).unwrap().for_job(&DeidJobContext {
        key: [7; 32],
        today: date!(2026 - 02 - 01),
        time: time::Time::MIDNIGHT,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn all_consumers_read_what_the_reference_reads(tree in resource(), choices in prop::collection::vec(any::<u8>(), 40..80)) {
        let line = spell(&tree, &choices, None);
        let read = Tree::read(&line).unwrap();
        prop_assert_eq!(read.clone().sorted(), tree.clone().sorted(), "the spelling is at fault: {}", line);

        let mut member_index = MemberIndex::default();
        let resource = Resource::parse(line.as_bytes(), &mut member_index).unwrap();
        prop_assert_eq!(ResourceHead::parse(line.as_bytes()), Ok(resource.head));
        prop_assert_eq!(resource.head.resource_type.as_str(), read.texts(&["resourceType"])[0]);
        prop_assert_eq!(resource.id(), read.texts(&["id"])[0]);
        prop_assert_eq!(resource.version_id().unwrap(), read.texts(&["meta", "versionId"])[0]);
        prop_assert_eq!(resource.head.last_updated, Instant::parse(read.texts(&["meta", "lastUpdated"])[0]).ok());

        // Search, and with it `_typeFilter` and the queries of scopes.
        let is_observation = read.texts(&["resourceType"]) == ["Observation"];
        for code in ["lab", "vitals", "p-1"] {
            let has_code = read.texts(&["category", "coding", "code"]).contains(&code);
            prop_assert_eq!(is_selected(&format!("Observation?category={code}"), &resource), is_observation && has_code, "{}", line);
            prop_assert_eq!(is_selected(&format!("Observation?category:not={code}"), &resource), is_observation && !has_code, "{}", line);
        }
        let is_final = read.texts(&["status"]) == ["final"];
        prop_assert_eq!(is_selected("Observation?status=final", &resource), is_final, "{}", line);
        let subjects = read.texts(&["subject", "reference"]);
        prop_assert_eq!(is_selected("Observation?subject=Patient/p-1", &resource), subjects.contains(&"Patient/p-1"), "{}", line);

        // Compartments, and the test that skips lines before them.
        let paths: &[&[&str]] =
            if is_observation { &[&["subject", "reference"], &["performer", "reference"]] } else { &[&["member", "entity", "reference"]] };
        let mut expected: Vec<_> = paths.iter().flat_map(|path| read.texts(path)).collect();
        let mut patients = Vec::new();
        PatientCompartment::new(FhirVersion::default(), BaseUrls::any()).visit_patients(&resource, &mut |id| {
            patients.push(format!("Patient/{id}"));
            false
        });
        let mut references = Vec::new();
        visit_references(&resource, &BaseUrls::any(), &mut |found| {
            references.push(format!("Patient/{}", found.id));
            false
        });
        // `Patient/a/b` is not a reference.
        expected.retain(|reference| *reference != "Patient/a/b");
        expected.sort_unstable();
        patients.sort_unstable();
        references.sort_unstable();
        prop_assert_eq!(&patients, &expected, "{}", line);
        prop_assert_eq!(&references, &expected, "{}", line);
        for patient in &patients {
            let id = patient.trim_start_matches("Patient/");
            prop_assert!(may_mention_patient(line.as_bytes(), &|written| written == id.as_bytes()), "{}", line);
        }

        // Groups.
        if !is_observation {
            let members = GroupMembers::parse(&resource, &BaseUrls::any(), Instant::parse("2026-02-01").unwrap()).unwrap();
            let mut active: Vec<_> = expected.iter().filter(|reference| **reference != "Patient/lab").map(|reference| &reference[8..]).collect();
            active.dedup();
            let ids: Vec<_> = members.members.iter().map(|member| member.id.as_str()).collect();
            prop_assert_eq!(ids, active, "{}", line);
        }

        // `_elements`.
        let mut reduced = Vec::new();
        let elements = Elements::parse(&["Observation.subject".to_owned(), "Group.type".to_owned()], FhirVersion::default()).unwrap();
        prop_assert!(elements.apply(&resource, &mut reduced));
        let left_out = ["meta", "category", "performer", "valueQuantity", "component", "member"];
        let reduced = Tree::read(std::str::from_utf8(&reduced).unwrap()).unwrap();
        prop_assert_eq!(reduced.clone().without(&left_out), read.clone().without(&left_out), "{}", line);
        prop_assert!(reduced.member("category").is_none() && reduced.member("member").is_none());

        // De-identification. Its preview prints the same output.
        let mut output = Vec::new();
        prop_assert_eq!(rules().deidentify(line.as_bytes(), None, &mut output), Ok(Deidentified::Complete), "{}", line);
        let output = String::from_utf8(output).unwrap();
        let expected = read.clone().without(&["subject", "member", "meta"]).sorted();
        prop_assert_eq!(Tree::read(&output).unwrap().without(&["meta"]).sorted(), expected.clone(), "{}", line);
        prop_assert_eq!(Tree::read(&JsonValue::from_valid(&output).to_pretty()).unwrap().without(&["meta"]).sorted(), expected);
    }

    #[test]
    fn a_doubled_member_is_rejected_wherever_it_is(
        tree in resource(),
        choices in prop::collection::vec(any::<u8>(), 40..80),
        doubled in any::<u16>(),
    ) {
        let line = spell(&tree, &choices, Some(doubled.into()));
        prop_assert_eq!(Tree::read(&line), None, "the spelling is at fault: {}", line);
        let mut member_index = MemberIndex::default();
        let is_duplicate = |reason| matches!(reason, Some(InvalidResource::DuplicateMember(_)));
        prop_assert!(is_duplicate(ResourceHead::parse(line.as_bytes()).err()), "{}", line);
        prop_assert!(is_duplicate(Resource::parse(line.as_bytes(), &mut member_index).err()), "{}", line);
        prop_assert!(rules().deidentify(line.as_bytes(), None, &mut Vec::new()).is_err(), "{}", line);
    }
}
