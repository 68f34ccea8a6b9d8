//! HTTP in: from an API Gateway event to what core asks for.

use headrace_core::output::file::OutputFileName;
use headrace_core::request::{Asked, Level, Refusal};
use headrace_core::vocab::ids::JobId;
use headrace_core::vocab::outcome::IssueCode;
use lambda_http::http::header::{ACCEPT, HeaderName};
use lambda_http::http::{HeaderMap, Method};
use lambda_http::{Request, RequestExt};
use percent_encoding::percent_decode_str;

use headrace_core::vocab::error::ExportError;

/// The longest query that is read, in bytes. API Gateway takes about 10 kB of request line and headers.
const QUERY_LIMIT_BYTES: usize = 16 << 10;

/// A kick-off, and the end of its path that names the operation, as it was sent.
#[derive(Clone, Debug)]
pub struct KickOffPath {
    /// Whose data.
    pub level: Level,
    /// `/$export`, `/Patient/$export`, …
    pub route: String,
}

/// Reads which export the path asks for.
pub fn kick_off_path(request: &Request) -> Result<KickOffPath, ExportError> {
    let path = request.raw_http_path();
    let mut from_the_end = path.rsplit('/');
    let operation = from_the_end.next().unwrap_or_default();
    if percent_decode_str(operation).decode_utf8().as_deref() != Ok("$export") {
        return Err(ExportError::NotFound("this operation"));
    }
    let (one, two) = (from_the_end.next().unwrap_or_default(), from_the_end.next().unwrap_or_default());
    let (level, before) = match (two, one) {
        ("Group", _) => (Level::Group(decoded(one)), vec![two, one]),
        ("Patient", _) => (Level::OnePatient(decoded(one)), vec![two, one]),
        (_, "Patient") => (Level::AllPatients, vec![one]),
        // Taken for a base, it would export the whole system where somebody forgot the group's id.
        (_, "Group") => return Err(ExportError::NotFound("an export of all groups")),
        (_, _) => (Level::System, vec![]),
    };
    let route = before.into_iter().chain([operation]).fold(String::new(), |route, segment| route + "/" + segment);
    Ok(KickOffPath { level, route })
}

/// A path segment's text. What is not UTF-8 names nothing that exists.
fn decoded(segment: &str) -> String {
    percent_decode_str(segment).decode_utf8_lossy().into_owned()
}

/// Reads the kick-off's headers, its query and, where it was posted, its body: the parameters of both add up. Some clients
/// post with a query and no body.
pub fn asked(request: &Request, level: Level) -> Result<Asked, Refusal> {
    let mut asked = Asked {
        level,
        accept: values(request.headers(), &ACCEPT),
        prefer: values(request.headers(), &HeaderName::from_static("prefer")),
        parameters: parameters(request.uri().query().unwrap_or_default())?,
    };
    if request.method() == Method::POST {
        asked.parameters.extend(crate::parameters::parameters(request.headers(), request.body())?);
    }
    Ok(asked)
}

/// What the manifest names as the kick-off's URL: with the query of a `GET`; of a `POST` without parameters wherever they
/// stood (Bulk Data Access, "`request`").
pub fn kick_off_url(request: &Request, base: &str, route: &str) -> String {
    match request.uri().query() {
        Some(query) if request.method() != Method::POST => format!("{base}{route}?{query}"),
        Some(_) | None => format!("{base}{route}"),
    }
}

fn values(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
    headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect()
}

/// Percent-decodes once. A `+` stays a plus sign: in this API it stands in media types and time zones, and blanks do not occur.
fn parameters(query: &str) -> Result<Vec<(String, String)>, Refusal> {
    let refuse = |code, text: &str| Refusal::of(if code == IssueCode::TooCostly { 414 } else { 400 }, code, "query", text);
    if query.len() > QUERY_LIMIT_BYTES {
        return Err(refuse(IssueCode::TooCostly, "the query is longer than 16 KiB: send a POST with a Parameters body"));
    }
    let decode = |piece: &str| {
        let is_sound =
            piece.split('%').skip(1).all(|rest| rest.get(..2).is_some_and(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit())));
        let text = percent_decode_str(piece).decode_utf8().ok().filter(|_| is_sound);
        text.map(String::from).ok_or_else(|| refuse(IssueCode::Invalid, "the query is not percent-encoded UTF-8"))
    };
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(name)?, decode(value)?))
        })
        .collect()
}

/// The job that the path names. What cannot be a job's name is not known here.
pub fn job_id(request: &Request) -> Result<JobId, ExportError> {
    let text = parameter(request, "job").ok_or(ExportError::NotFound("this export"))?;
    JobId::parse(&text).map_err(|_| ExportError::NotFound("this export"))
}

/// The file that the path names.
pub fn part_name(request: &Request) -> Result<OutputFileName, ExportError> {
    parameter(request, "name").and_then(|text| OutputFileName::parse(&text)).ok_or(ExportError::NotFound("this file"))
}

fn parameter(request: &Request, name: &str) -> Option<String> {
    request.path_parameters_ref()?.first(name).map(str::to_owned)
}

/// What both sides can quote: the gateway's name of the request, or none on one machine.
pub fn request_id(request: &Request) -> Option<String> {
    use lambda_http::request::RequestContext;
    match request.request_context_ref() {
        Some(RequestContext::ApiGatewayV2(context)) => context.request_id.clone(),
        Some(_) | None => None,
    }
}

#[cfg(test)]
mod tests {
    use lambda_http::Body;

    use super::*;

    fn level_of(path: &str) -> Result<(Level, String), ExportError> {
        let request = lambda_http::http::Request::builder().uri("/").body(Body::Empty).unwrap().with_raw_http_path(path);
        kick_off_path(&request).map(|path| (path.level, path.route))
    }

    #[test]
    fn the_path_tells_the_level_whatever_stands_before_it() {
        for (path, level, route) in [
            ("/$export", Level::System, "/$export"),
            ("/%24export", Level::System, "/%24export"),
            ("/prod/fhir/$export", Level::System, "/$export"),
            ("/fhir/Patient/$export", Level::AllPatients, "/Patient/$export"),
            ("/fhir/Patient/7/$export", Level::OnePatient("7".to_owned()), "/Patient/7/$export"),
            ("/Group/Patient/$export", Level::Group("Patient".to_owned()), "/Group/Patient/$export"),
            ("/Patient/Patient/$export", Level::OnePatient("Patient".to_owned()), "/Patient/Patient/$export"),
            ("/Group/..%2F..%2Fetc/$export", Level::Group("../../etc".to_owned()), "/Group/..%2F..%2Fetc/$export"),
            ("/Group/g-1/%24export", Level::Group("g-1".to_owned()), "/Group/g-1/%24export"),
        ] {
            assert_eq!(level_of(path).unwrap(), (level, route.to_owned()), "{path}");
        }
        for path in ["/$import", "/", "", "/export", "/$export/", "/Group/$export", "/fhir/Group/$export"] {
            assert!(matches!(level_of(path), Err(ExportError::NotFound(_))), "{path}");
        }
    }

    fn kick_off(method: &str, body: &str) -> Request {
        let request = lambda_http::http::Request::builder().method(method).uri("/$export?_type=Patient&_type=Group");
        request.header("content-type", "application/fhir+json").header("prefer", "respond-async").body(Body::from(body)).unwrap()
    }

    // Holds: M2
    #[test]
    fn the_manifest_names_the_query_of_a_get_and_not_that_of_a_post() {
        let url = |method| kick_off_url(&kick_off(method, ""), "https://x/r4", "/$export");
        assert_eq!(url("GET"), "https://x/r4/$export?_type=Patient&_type=Group");
        assert_eq!(url("POST"), "https://x/r4/$export");
    }

    // Holds: K3, A1, B11
    #[test]
    fn query_and_body_of_a_post_add_up_and_the_body_of_a_get_is_not_read() {
        let body = r#"{"resourceType":"Parameters","parameter":[{"name":"_type","valueCode":"Device"}]}"#;
        let types = |method, body| {
            let asked = asked(&kick_off(method, body), Level::System).unwrap();
            asked.parameters.into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(types("POST", body), "_type=Patient _type=Group _type=Device");
        assert_eq!(types("POST", ""), "_type=Patient _type=Group");
        assert_eq!(types("GET", body), "_type=Patient _type=Group");
    }

    #[test]
    fn a_query_is_decoded_once() {
        let read =
            parameters("_type=Patient%2CObservation&_since=2020-01-01T00:00:00%2B01:00&_outputFormat=application/fhir+ndjson&x&&y=%2520")
                .unwrap();
        let expected = [
            ("_type", "Patient,Observation"),
            ("_since", "2020-01-01T00:00:00+01:00"),
            ("_outputFormat", "application/fhir+ndjson"),
            ("x", ""),
            ("y", "%20"),
        ];
        assert_eq!(read, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn what_is_not_an_encoded_query_is_refused() {
        for query in ["_type=%zz", "_type=%", "_type=%4", "_type=%ff", "%e9=1"] {
            assert_eq!(parameters(query).unwrap_err().status, 400, "{query}");
        }
        assert_eq!(parameters(&"a".repeat(20_000)).unwrap_err().status, 414);
    }
}
