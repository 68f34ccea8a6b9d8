//! A lake as a list of versions and deletions, and what of it counts, found the obvious way.

use std::collections::BTreeMap;

/// One line of a lake.
#[derive(Clone, Debug)]
pub(crate) enum Line {
    /// A version: its key, when it changed, its version, its text.
    Version(String, Option<&'static str>, Option<&'static str>, String),
    /// These were deleted then.
    Deletion(Vec<String>, Option<&'static str>),
    /// No resource.
    Broken,
}

/// A version that is still to be written down.
pub(crate) struct Version<'a> {
    pub(crate) kind: &'a str,
    pub(crate) id: &'a str,
    pub(crate) day: Option<&'static str>,
    pub(crate) number: Option<&'static str>,
    /// More members, each with a comma before it.
    pub(crate) members: String,
}

impl Version<'_> {
    pub(crate) fn line(self) -> Line {
        let number = self.number.map(|number| format!(r#""versionId":"{number}""#));
        let day = self.day.map(|day| format!(r#""lastUpdated":"{day}T00:00:00.000Z""#));
        let meta = [number, day].into_iter().flatten().collect::<Vec<_>>().join(",");
        let meta = if meta.is_empty() { meta } else { format!(r#","meta":{{{meta}}}"#) };
        let Self { kind, id, day, number, members } = self;
        let text = format!(r#"{{"resourceType":"{kind}","id":"{id}"{meta}{members}}}"#);
        Line::Version(format!("{kind}/{id}"), day, number, text)
    }
}

impl Line {
    pub(crate) fn resource(kind: &str, id: &str, day: &'static str, number: u8, members: &str) -> Self {
        let numbers = ["0", "1", "2", "3"];
        Version { kind, id, day: Some(day), number: numbers.get(usize::from(number)).copied(), members: members.to_owned() }.line()
    }

    pub(crate) fn broken() -> Self {
        Self::Broken
    }

    pub(crate) fn is_of(&self, kind: &str) -> bool {
        matches!(self, Self::Version(key, ..) if key.split('/').next() == Some(kind))
    }

    /// The text of a version.
    pub(crate) fn text(&self) -> Option<Vec<u8>> {
        match self {
            Self::Version(.., text) => Some(text.clone().into_bytes()),
            Self::Deletion(..) | Self::Broken => None,
        }
    }

    fn written(&self) -> String {
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

pub(crate) fn version(kind: &str, n: usize, day: &'static str, number: u8) -> Line {
    Line::resource(kind, &n.to_string(), day, number, "")
}

pub(crate) fn deletion(keys: &[&str], day: Option<&'static str>) -> Line {
    Line::Deletion(keys.iter().map(|key| (*key).to_owned()).collect(), day)
}

/// As a file.
pub(crate) fn lines(held: &[Line]) -> Vec<u8> {
    held.iter().map(|line| line.written() + "\n").collect::<String>().into_bytes()
}

/// What counts of a lake.
pub(crate) struct Expected {
    /// The newest versions of what is not deleted, sorted.
    pub(crate) lines: Vec<Vec<u8>>,
}

/// Finds it in lines that stand in the order of their objects' names. Days compare as texts.
pub(crate) fn expected(lake: &[Line]) -> Expected {
    type Newest = BTreeMap<String, (Option<&'static str>, u64, String)>;
    let (mut newest, mut gone) = (Newest::new(), BTreeMap::<String, &str>::new());
    for line in lake {
        match line {
            Line::Version(key, day, number, text) => {
                let number = number.and_then(|number| number.parse().ok()).unwrap_or_default();
                let is_newer = newest.get(key).is_none_or(|(held, version, _)| (*day, number) >= (*held, *version));
                if is_newer {
                    newest.insert(key.clone(), (*day, number, text.clone()));
                }
            }
            Line::Deletion(keys, day) => {
                for key in keys {
                    let day = day.unwrap_or("9999");
                    let held = gone.entry(key.clone()).or_insert(day);
                    *held = day.max(*held);
                }
            }
            Line::Broken => {}
        }
    }
    newest.retain(|key, (day, ..)| gone.get(key).is_none_or(|gone| day.unwrap_or_default() > *gone));
    let mut lines: Vec<_> = newest.into_values().map(|(.., text)| text.into_bytes()).collect();
    lines.sort();
    Expected { lines }
}
