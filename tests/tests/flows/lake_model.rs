//! Simple model of a lake: a list of versions and deletions, and the straightforward computation of its current versions.

use std::collections::BTreeMap;

/// Line of a lake.
#[derive(Clone, Debug)]
pub(crate) enum Line {
    /// Version of a resource: `Type/id`, day of change, version number, JSON text.
    Version(String, Option<&'static str>, Option<&'static str>, String),
    /// Deletion of these `Type/id` keys, and its day.
    Deletion(Vec<String>, Option<&'static str>),
    /// Invalid line.
    Broken,
}

/// Version of a resource from which a line is built.
pub(crate) struct Version<'a> {
    pub(crate) resource_type: &'a str,
    pub(crate) id: &'a str,
    pub(crate) day: Option<&'static str>,
    pub(crate) number: Option<&'static str>,
    /// Further JSON members, each preceded by a comma.
    pub(crate) members: String,
}

impl Version<'_> {
    /// Builds the line.
    pub(crate) fn line(self) -> Line {
        let number = self.number.map(|number| format!(r#""versionId":"{number}""#));
        let day = self.day.map(|day| format!(r#""lastUpdated":"{day}T00:00:00.000Z""#));
        let meta = [number, day].into_iter().flatten().collect::<Vec<_>>().join(",");
        let meta = if meta.is_empty() { meta } else { format!(r#","meta":{{{meta}}}"#) };
        let Self { resource_type, id, day, number, members } = self;
        let text = format!(r#"{{"resourceType":"{resource_type}","id":"{id}"{meta}{members}}}"#);
        Line::Version(format!("{resource_type}/{id}"), day, number, text)
    }
}

impl Line {
    /// Creates a version with a version number from 0 to 3 and further members.
    pub(crate) fn resource(resource_type: &str, id: &str, day: &'static str, number: u8, members: &str) -> Self {
        let numbers = ["0", "1", "2", "3"];
        Version { resource_type, id, day: Some(day), number: numbers.get(usize::from(number)).copied(), members: members.to_owned() }.line()
    }

    /// Creates an invalid line.
    pub(crate) fn broken() -> Self {
        Self::Broken
    }

    /// Returns true if this is a version of a resource of the type.
    pub(crate) fn is_of_type(&self, resource_type: &str) -> bool {
        matches!(self, Self::Version(key, ..) if key.split('/').next() == Some(resource_type))
    }

    /// Returns the JSON text of a version.
    pub(crate) fn text(&self) -> Option<Vec<u8>> {
        match self {
            Self::Version(.., text) => Some(text.clone().into_bytes()),
            Self::Deletion(..) | Self::Broken => None,
        }
    }

    /// Returns the line as text.
    fn to_text(&self) -> String {
        match self {
            Self::Version(.., text) => text.clone(),
            Self::Broken => "no resource".to_owned(),
            Self::Deletion(keys, day) => {
                let meta = day.map(|day| format!(r#","meta":{{"lastUpdated":"{day}T00:00:00Z"}}"#)).unwrap_or_default();
                let entries: Vec<_> = keys.iter().map(|key| format!(r#"{{"request":{{"method":"DELETE","url":"{key}"}}}}"#)).collect();
                format!(r#"{{"resourceType":"Bundle"{meta},"type":"transaction","entry":[{}]}}"#, entries.join(","))
            }
        }
    }
}

/// Creates a version without further members.
pub(crate) fn version(resource_type: &str, n: usize, day: &'static str, number: u8) -> Line {
    Line::resource(resource_type, &n.to_string(), day, number, "")
}

/// Creates a deletion.
pub(crate) fn deletion(keys: &[&str], day: Option<&'static str>) -> Line {
    Line::Deletion(keys.iter().map(|key| (*key).to_owned()).collect(), day)
}

/// Returns the lines as NDJSON.
pub(crate) fn lines(lines: &[Line]) -> Vec<u8> {
    lines.iter().map(|line| line.to_text() + "\n").collect::<String>().into_bytes()
}

/// Expected content of an export of everything.
pub(crate) struct Expected {
    /// Sorted current versions of the resources that are not deleted.
    pub(crate) lines: Vec<Vec<u8>>,
}

/// Computes the expected export of lines in the order of their objects' names. Days are compared as texts.
pub(crate) fn expected(lake: &[Line]) -> Expected {
    type Newest = BTreeMap<String, (Option<&'static str>, u64, String)>;
    let (mut newest, mut deleted) = (Newest::new(), BTreeMap::<String, &str>::new());
    for line in lake {
        match line {
            Line::Version(key, day, number, text) => {
                let number = number.and_then(|number| number.parse().ok()).unwrap_or_default();
                let is_newer = newest.get(key).is_none_or(|(known_day, known_number, _)| (*day, number) >= (*known_day, *known_number));
                if is_newer {
                    newest.insert(key.clone(), (*day, number, text.clone()));
                }
            }
            Line::Deletion(keys, day) => {
                for key in keys {
                    let day = day.unwrap_or("9999");
                    let latest = deleted.entry(key.clone()).or_insert(day);
                    *latest = day.max(*latest);
                }
            }
            Line::Broken => {}
        }
    }
    newest.retain(|key, (day, ..)| deleted.get(key).is_none_or(|deleted| day.unwrap_or_default() > *deleted));
    let mut lines: Vec<_> = newest.into_values().map(|(.., text)| text.into_bytes()).collect();
    lines.sort();
    Expected { lines }
}
