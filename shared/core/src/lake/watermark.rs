//! The watermark object of a lake: the ingestion pipeline writes there the moment up to which the lake is complete.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use headrace_fhir::definitions::ResourceType;
use headrace_fhir::instant::Instant;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use crate::ports::{METADATA_LIMIT_BYTES, MetadataObject};
use crate::vocab::clock::Millis;
use crate::vocab::error::SourceError;
use crate::vocab::setting::Setting;

/// The name of the watermark object below the root of the lake.
pub const WATERMARK_OBJECT: &str = "_headrace/watermark.json";

/// The time by which the clock of the ingestion pipeline may be ahead. A watermark further in the future is not the time of a clock that is
/// slightly wrong, but local time written as UTC or a slip: exports would claim changes that are not in the lake yet.
pub const MAX_CLOCK_DIFFERENCE: Duration = Duration::from_secs(300);

/// The content of the watermark object. Other members belong to the ingestion pipeline.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WatermarkFile {
    complete_up_to: Option<Value>,
}

/// The members that a synchronization adds to the watermark object.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LakeFiller {
    /// The base URL of the FHIR server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// The id of the job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// The types that are complete up to the watermark. `None` means all types of the lake.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub types: Option<BTreeSet<ResourceType>>,
    /// The types that the lake keeps as of an earlier watermark, because the server cannot be searched for them any more.
    #[serde(rename = "leftTypes", skip_serializing_if = "BTreeMap::is_empty")]
    pub left_types: BTreeMap<ResourceType, String>,
    /// The id of the job that publishes, or did not finish to. It is written before the first object becomes visible, and goes when the
    /// watermark moves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publishing: Option<String>,
    /// The types of which the publication brings resources or deletions that the watermark does not exclude: those at or before it, or all if
    /// there is none yet. The lake may have a part of them. A publication that replaces one that did not finish keeps its types.
    #[serde(rename = "publishingTypes", skip_serializing_if = "BTreeSet::is_empty")]
    pub publishing_types: BTreeSet<ResourceType>,
    /// True if such a publication brings everything anew. Only another one that does so completes `publishing_types`: an increment lacks what
    /// is from before the watermark.
    #[serde(rename = "publishingFull", skip_serializing_if = "std::ops::Not::not")]
    pub publishing_full: bool,
    /// The moments up to which deletions are known, of the types of which they are not known up to the watermark. The next history of such a
    /// type is read from there.
    #[serde(rename = "deletionsKnownUpTo", skip_serializing_if = "BTreeMap::is_empty")]
    pub deletions_known_up_to: BTreeMap<ResourceType, Instant>,
    /// The types whose last history was read up to the watermark, and did not decide between events of the same time. The lake has all other
    /// deletions of these types.
    #[serde(rename = "undecidedTypes", skip_serializing_if = "BTreeSet::is_empty")]
    pub undecided_types: BTreeSet<ResourceType>,
}

/// Returns the JSON text of the watermark object. Some editors and shells write a byte order mark before it.
fn json_text(object: &MetadataObject) -> &[u8] {
    object.bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&object.bytes)
}

/// Parses the members of a synchronization. They are empty in the watermark object of another pipeline.
pub fn parse_filler(object: &MetadataObject) -> LakeFiller {
    serde_json::from_slice(json_text(object)).unwrap_or_default()
}

/// Returns the content of the watermark object of a lake that is complete up to this moment.
///
/// * `deletions`: what is known about deletions.
pub fn filler_watermark(complete_up_to: Millis, filler: &LakeFiller, deletions: &str) -> Vec<u8> {
    let mut content = serde_json::json!({ "completeUpTo": complete_up_to.instant(), "deletions": deletions });
    if let (Some(content), Ok(Value::Object(members))) = (content.as_object_mut(), serde_json::to_value(filler)) {
        content.extend(members);
    }
    serde_json::to_vec(&content).unwrap_or_default()
}

/// A job that publishes.
#[derive(Clone, Debug, Default)]
pub struct Publisher<'a> {
    /// The base URL of the FHIR server.
    pub origin: &'a str,
    /// The id of the job.
    pub job: &'a str,
    /// The types of which the publication brings what the watermark does not exclude.
    pub types: BTreeSet<ResourceType>,
    /// True if everything is brought anew.
    pub is_full: bool,
}

/// Returns the content of the watermark object while a job publishes. All other members stay. A lake without a watermark gets none.
pub fn publishing_watermark(current: Option<&MetadataObject>, publisher: Publisher<'_>) -> serde_json::Result<Vec<u8>> {
    let Publisher { origin, job, types, is_full } = publisher;
    let mut members = BTreeMap::<String, Box<RawValue>>::new();
    let earlier = current.map(parse_filler).unwrap_or_default();
    let is_full = is_full || earlier.publishing_full;
    let types: BTreeSet<ResourceType> = types.into_iter().chain(earlier.publishing_types).collect();
    match current.filter(|current| !is_first_publication(current)) {
        Some(current) => members = serde_json::from_slice(json_text(current))?,
        None => drop(members.insert("origin".to_owned(), to_raw_value(origin)?)),
    }
    members.insert("publishing".to_owned(), to_raw_value(job)?);
    if !types.is_empty() {
        members.insert("publishingTypes".to_owned(), to_raw_value(&types)?);
        if is_full {
            members.insert("publishingFull".to_owned(), to_raw_value(&true)?);
        }
    }
    serde_json::to_vec(&members)
}

/// Returns true if the first synchronization of a lake has begun to publish and has not finished: the lake may have a part of it.
pub fn is_first_publication(object: &MetadataObject) -> bool {
    let has_watermark = |file: WatermarkFile| file.complete_up_to.is_some();
    parse_filler(object).publishing.is_some() && !serde_json::from_slice(json_text(object)).is_ok_and(has_watermark)
}

/// Parses the watermark object of a lake that a synchronization fills. `None` if the first one has not finished.
pub fn parse_filled_watermark(object: &MetadataObject, now: Millis) -> Result<Option<Millis>, SourceError> {
    if is_first_publication(object) { Ok(None) } else { parse_watermark(object, now).map(Some) }
}

/// Parses the watermark object of a lake. Returns the moment up to which the lake is complete, rounded down to milliseconds.
pub fn parse_watermark(object: &MetadataObject, now: Millis) -> Result<Millis, SourceError> {
    if is_first_publication(object) {
        return Err(first_publication());
    }
    parse_content(object, now).map_err(|problem| unusable_watermark(&problem))
}

/// Returns an error if an export may get a part of a synchronization that publishes, or did not finish to: of the first one of the lake, or of
/// changes at or before the watermark. Later changes are no reason, because exports up to the watermark leave them out.
pub fn check_publication(object: &MetadataObject) -> Result<(), SourceError> {
    if is_first_publication(object) {
        return Err(first_publication());
    }
    let LakeFiller { publishing, publishing_types, .. } = parse_filler(object);
    if publishing.is_none() || publishing_types.is_empty() {
        return Ok(());
    }
    let types: Vec<&str> = publishing_types.iter().map(|kind| kind.as_str()).collect();
    let problem = "a synchronization that adds earlier changes to the lake is not complete";
    Err(unfinished_publication(problem, &format!("of {}", types.join(", "))))
}

/// Returns the error of a lake that may have a part of its first synchronization only.
fn first_publication() -> SourceError {
    unfinished_publication("the first synchronization of the lake is not complete", "of its resources")
}

/// Returns the error of a lake that may have a part of a synchronization. It tells what to do.
fn unfinished_publication(problem: &'static str, of_what: &str) -> SourceError {
    let remedy = format!(
        "{problem}, so the lake may have a part {of_what}: run `headrace sync` to its end (on AWS, wait for the next synchronization), and \
         export then"
    );
    SourceError::Misconfigured { remedy, cause: problem.into() }
}

/// Returns an error if a synchronization has written the watermark object of a lake that had none when its listing began: the listing may
/// have a part of what the synchronization has published.
pub fn check_unpublished(object: &MetadataObject) -> Result<(), SourceError> {
    if parse_filler(object).job.is_none() {
        return Ok(());
    }
    let problem = "the first synchronization of the lake was published while the lake was listed";
    let remedy = format!("{problem}, so the listing may have a part of its resources: export again");
    Err(SourceError::Misconfigured { remedy, cause: problem.into() })
}

/// Returns the error for a watermark object that is missing or wrong. It tells how to write one.
pub fn unusable_watermark(problem: &str) -> SourceError {
    let setting = Setting::LakeWatermark;
    let remedy = format!(
        "the watermark of the lake, the object `{WATERMARK_OBJECT}`, {problem}: have the ingestion pipeline write \
         {{\"completeUpTo\":\"2026-11-29T10:00:00Z\"}} there, the moment up to which the lake is complete; or set {setting} to now, \
         arrival, or a delay such as PT15M"
    );
    SourceError::Misconfigured { remedy, cause: problem.into() }
}

/// Parses the content of the watermark object. Returns the problem if it is not valid.
fn parse_content(object: &MetadataObject, now: Millis) -> Result<Millis, String> {
    if object.size > METADATA_LIMIT_BYTES {
        return Err(format!("has {} bytes, more than {METADATA_LIMIT_BYTES}", object.size));
    }
    let text = std::str::from_utf8(json_text(object)).map_err(|_| "is not UTF-8 text".to_owned())?;
    if !text.trim_start().starts_with('{') {
        return Err("is not a JSON object".to_owned());
    }
    let file: WatermarkFile = serde_json::from_str(text).map_err(|error| describe(&error))?;
    let complete_up_to = match file.complete_up_to {
        Some(Value::String(text)) => text,
        Some(_) => return Err("has a member `completeUpTo` that is not a string".to_owned()),
        None => return Err("has no member `completeUpTo`".to_owned()),
    };
    let instant = parse_zoned_instant(&complete_up_to);
    let instant = instant.ok_or("has a `completeUpTo` that is not an instant with a time zone")?;
    let time = Millis::from_instant(instant).ok_or("has a `completeUpTo` before 1970")?;
    if time > now + MAX_CLOCK_DIFFERENCE {
        return Err(format!("has a `completeUpTo` in the future ({instant}; it is {now}), but no lake can be complete up to then"));
    }
    Ok(time)
}

/// Parses an instant with a time zone.
pub fn parse_zoned_instant(text: &str) -> Option<Instant> {
    Instant::parse(text).ok().filter(|_| has_zone(text))
}

/// Describes a JSON error by its position, and not by the content.
fn describe(error: &serde_json::Error) -> String {
    if error.is_data() {
        return "names `completeUpTo` twice".to_owned();
    }
    format!("is not JSON (line {}, column {})", error.line(), error.column())
}

/// Returns true if the text of a date and time ends with a time zone. Without one it could mean any of 26 hours.
fn has_zone(text: &str) -> bool {
    let clock = text.split_once(['T', 't']).map(|(_, clock)| clock);
    clock.is_some_and(|clock| clock.ends_with(['Z', 'z']) || clock.contains(['+', '-']))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = Millis(1_795_948_200_000); // 2026-11-29T10:30:00Z

    fn parse(content: &[u8]) -> Result<Millis, String> {
        let object = MetadataObject { size: content.len() as u64, bytes: bytes::Bytes::copy_from_slice(content) };
        parse_watermark(&object, NOW).map_err(|error| error.to_string())
    }

    #[test]
    fn the_watermark_is_the_instant_in_complete_up_to() {
        for (text, expected) in [
            (r#"{"completeUpTo":"2026-11-29T10:00:00Z"}"#, "2026-11-29T10:00:00.000Z"),
            (r#"{"completeUpTo":"2026-11-29T12:00:00.5+02:00","writer":{"a":[1,"x"]},"rows":1e400}"#, "2026-11-29T10:00:00.500Z"),
            ("\u{feff} {\"completeUpTo\": \"2026-11-29T10:00Z\"}\r\n", "2026-11-29T10:00:00.000Z"),
            (r#"{"completeUpTo":"2026-11-29T10:00:00.123999999Z"}"#, "2026-11-29T10:00:00.123Z"),
            (r#"{"completeUpTo":"1970-01-01T00:00:00Z"}"#, "1970-01-01T00:00:00.000Z"),
            // The clock of the ingestion pipeline is slightly ahead.
            (r#"{"completeUpTo":"2026-11-29T10:34:00Z"}"#, "2026-11-29T10:34:00.000Z"),
        ] {
            assert_eq!(parse(text.as_bytes()).unwrap().instant(), expected, "{text}");
        }
    }

    #[test]
    fn a_wrong_watermark_is_rejected_by_name_with_the_problem_and_the_remedy() {
        let long = format!(r#"{{"completeUpTo":"2026-11-29T10:00:00Z","x":"{}"}}"#, "y".repeat(70_000));
        let deep = format!(r#"{{"x":{}{}}}"#, "[".repeat(1_000), "]".repeat(1_000));
        let cases: [(&[u8], &str); 19] = [
            (b"", "is not a JSON object"),
            (b"2026-11-29T10:00:00Z", "is not a JSON object"),
            (br#"["2026-11-29T10:00:00Z"]"#, "is not a JSON object"),
            (br#""2026-11-29T10:00:00Z""#, "is not a JSON object"),
            (b"{\"completeUpTo\":\"2026-11-29T10:0", "is not JSON (line 1"),
            (br#"{"completeUpTo":"2026-11-29T10:00:00Z"} x"#, "is not JSON (line 1"),
            (b"\xff\xfe{\0", "is not UTF-8"),
            (br#"{}"#, "has no member `completeUpTo`"),
            (br#"{"CompleteUpTo":"2026-11-29T10:00:00Z"}"#, "has no member `completeUpTo`"),
            (br#"{"completeUpTo":null}"#, "has no member `completeUpTo`"),
            (br#"{"completeUpTo":1795946400}"#, "that is not a string"),
            (br#"{"completeUpTo":"2026-11-29T10:00:00"}"#, "not an instant with a time zone"),
            (br#"{"completeUpTo":"2026-11-29"}"#, "not an instant with a time zone"),
            (br#"{"completeUpTo":"yesterday"}"#, "not an instant with a time zone"),
            (br#"{"completeUpTo":"1969-12-31T23:59:59Z"}"#, "before 1970"),
            (br#"{"completeUpTo":"2026-11-29T12:00:00Z"}"#, "in the future"),
            (br#"{"completeUpTo":"2026-11-29T10:00:00Z","completeUpTo":"2026-11-29T09:00:00Z"}"#, "names `completeUpTo` twice"),
            (long.as_bytes(), "more than 65536"),
            (deep.as_bytes(), "has no member `completeUpTo`"),
        ];
        for (content, problem) in cases {
            let error = parse(content).unwrap_err();
            for words in [problem, WATERMARK_OBJECT, "HEADRACE_LAKE_WATERMARK", r#"{"completeUpTo":"2026-11-29T10:00:00Z"}"#] {
                assert!(error.contains(words), "`{words}` is not in: {error}");
            }
        }
    }

    /// Creates a job that publishes an increment.
    fn publisher(job: &str) -> Publisher<'_> {
        Publisher { origin: "https://fhir.example.org", job, ..Publisher::default() }
    }

    #[test]
    fn a_publication_keeps_the_watermark_and_all_other_members() {
        let object = |text: &[u8]| MetadataObject { size: text.len() as u64, bytes: bytes::Bytes::copy_from_slice(text) };
        let before = object("\u{feff}{\"completeUpTo\":\"2026-11-29T10:00:00Z\",\"rows\":1e400,\"job\":\"a\"}".as_bytes());
        let marked = object(&publishing_watermark(Some(&before), publisher("b")).unwrap());
        assert_eq!(parse_watermark(&marked, NOW).unwrap(), parse_watermark(&before, NOW).unwrap());
        let filler = parse_filler(&marked);
        assert_eq!((filler.job.as_deref(), filler.publishing.as_deref()), (Some("a"), Some("b")));
        assert!(marked.bytes.windows(5).any(|bytes| bytes == b"1e400"));
        assert!(!is_first_publication(&marked) && !is_first_publication(&before));
        // Exports up to the watermark leave out what is later.
        assert!(check_publication(&marked).is_ok());
    }

    #[test]
    fn a_publication_of_earlier_changes_stops_exports_until_the_watermark_moves_even_if_another_one_replaces_it() {
        let object = |content: Vec<u8>| MetadataObject { size: content.len() as u64, bytes: content.into() };
        let before = object(br#"{"completeUpTo":"2026-11-29T10:00:00Z"}"#.to_vec());
        let mark = |current: &MetadataObject, job: &str, types: BTreeSet<ResourceType>| {
            object(publishing_watermark(Some(current), Publisher { types, ..publisher(job) }).unwrap())
        };
        let first = mark(&before, "a", [ResourceType::PATIENT].into());
        let second = mark(&first, "b", BTreeSet::new());
        for marked in [&first, &second] {
            let error = check_publication(marked).unwrap_err().to_string();
            assert!(error.contains("a part of Patient") && error.contains("run `headrace sync` to its end"), "{error}");
            // A byte order mark, which an editor writes, hides nothing.
            let edited = object([&b"\xef\xbb\xbf"[..], &marked.bytes[..]].concat());
            assert_eq!((parse_filler(&edited), check_publication(&edited).is_err()), (parse_filler(marked), true));
            // The watermark itself stays what it is.
            assert_eq!(parse_watermark(marked, NOW).unwrap(), parse_watermark(&before, NOW).unwrap());
        }
        let moved = filler_watermark(NOW, &LakeFiller::default(), "history");
        assert!(check_publication(&object(moved)).is_ok());
    }

    #[test]
    fn a_first_publication_has_no_watermark_and_the_error_says_what_to_do() {
        let object = |content: Vec<u8>| MetadataObject { size: content.len() as u64, bytes: content.into() };
        let first = object(publishing_watermark(None, publisher("a")).unwrap());
        let second = object(publishing_watermark(Some(&first), publisher("b")).unwrap());
        for marked in [&first, &second] {
            let error = parse_watermark(marked, NOW).unwrap_err().to_string();
            assert!(error.contains("run `headrace sync` to its end"), "{error}");
            assert_eq!(parse_filled_watermark(marked, NOW).unwrap(), None);
        }
        assert_eq!(parse_filler(&second).publishing.as_deref(), Some("b"));
    }

    proptest::proptest! {
        #[test]
        fn any_content_is_parsed_or_rejected(content in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200), json in ".*") {
            drop(parse(&content));
            let member = serde_json::json!({ "completeUpTo": json }).to_string();
            if let Ok(watermark) = parse(member.as_bytes()) {
                proptest::prop_assert!(watermark <= NOW + MAX_CLOCK_DIFFERENCE);
            }
        }
    }
}
