//! Reads API Gateway requests: paths, queries, headers and bodies of kick-offs, and the ids in paths.

use headrace_core::job::ExportError;
use headrace_core::job::file::OutputFileName;
use headrace_core::request::{RawKickOff, RequestError};
use headrace_core::vocab::ids::JobId;
use headrace_core::vocab::level::Level;
use headrace_core::vocab::outcome::IssueCode;
use headrace_fhir::definitions::FhirVersion;
use lambda_http::http::header::{CONTENT_TYPE, HeaderName};
use lambda_http::http::{HeaderMap, Method};
use lambda_http::request::RequestContext;
use lambda_http::{Request, RequestExt};

use crate::accept::{names_other_version, require_fhir_json};
use crate::parameters::parse_parameters_body;
use crate::percent;
use crate::prefer::parse_preferences;

/// The longest accepted query, in bytes. API Gateway accepts about 10 kB of request line and headers.
const QUERY_LIMIT_BYTES: usize = 16 << 10;

/// The level of a kick-off, and the end of its path that names it.
#[derive(Clone, Debug)]
pub struct KickOffPath {
    /// The export level.
    pub level: Level,
    /// The path below the FHIR base: `/$export`, `/Patient/$export`, …
    pub route: String,
}

/// The only operation. Some gateways pass its `$` on as the client has encoded it.
const EXPORT: [&str; 2] = ["$export", "%24export"];

/// Parses the path of a kick-off. The path may begin with a stage or another prefix.
///
/// API Gateway has decoded path and parameters. The id is the parameter of the route, because a decoded id may contain slashes: the
/// path `/Group/a%2Fb/$export` arrives as `/Group/a/b/$export`, which must not be taken for an export of the whole system.
pub fn parse_kick_off_path(request: &Request) -> Result<KickOffPath, ExportError> {
    let path = request.raw_http_path();
    let (before, operation) = path.rsplit_once('/').unwrap_or(("", path));
    if !EXPORT.contains(&operation) {
        return Err(ExportError::NotFound("this operation"));
    }
    let id = match path_parameter(request, "id") {
        Some(id) => Some(id),
        // A request without parameters has not passed a router.
        None if path_parameter(request, "operation").is_none() => unrouted_id(before),
        None => None,
    };
    let (before_id, level) = match id {
        Some(id) => {
            let before_id = before.strip_suffix(&format!("/{id}")).ok_or(ExportError::NotFound("this operation"))?;
            match before_id.rsplit('/').next() {
                Some("Group") => (before_id, Level::Group(id)),
                Some("Patient") => (before_id, Level::OnePatient(id)),
                Some(_) | None => return Err(ExportError::NotFound("this operation")),
            }
        }
        None => match before.rsplit('/').next() {
            Some("Patient") => (before, Level::AllPatients),
            // A client that forgot the group's id must not get an export of the whole system.
            Some("Group") => return Err(ExportError::NotFound("an export of all groups")),
            Some(_) | None => return Ok(KickOffPath { level: Level::System, route: format!("/{operation}") }),
        },
    };
    let base = before_id.rsplit_once('/').map_or("", |(base, _)| base);
    Ok(KickOffPath { level, route: path.strip_prefix(base).unwrap_or(path).to_owned() })
}

/// Returns the last segment of a path if it is the id of a group or patient.
fn unrouted_id(path: &str) -> Option<String> {
    let (before, id) = path.rsplit_once('/')?;
    matches!(before.rsplit('/').next(), Some("Group" | "Patient")).then(|| id.to_owned())
}

/// Reads the headers and the parameters of a kick-off. The parameters of query and body are combined: some clients send a
/// POST with a query and no body.
pub fn raw_kick_off(request: &Request, level: Level, version: FhirVersion) -> Result<RawKickOff, RequestError> {
    let parameters = parameters(request)?;
    require_fhir_json(request.headers(), version)?;
    let content_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if request.method() == Method::POST && names_other_version(content_type, version) {
        let text = format!("the body is of another version of FHIR than this server, which has {version}");
        return Err(RequestError::new(415, IssueCode::NotSupported, "Content-Type", text));
    }
    Ok(RawKickOff { level, preferences: parse_preferences(request.headers())?, parameters })
}

/// Reads the parameters of the query and, of a POST, of the body.
pub fn parameters(request: &Request) -> Result<Vec<(String, String)>, RequestError> {
    let mut parameters = parse_query(request.uri().query().unwrap_or_default())?;
    if request.method() == Method::POST {
        parameters.extend(parse_parameters_body(request.headers(), request.body())?);
    }
    Ok(parameters)
}

/// Returns the kick-off URL that the manifest shows: with the query of a GET, without that of a POST (Bulk Data Access,
/// "`request`").
pub fn kick_off_url(request: &Request, base: &str, route: &str) -> String {
    match request.uri().query() {
        Some(query) if request.method() != Method::POST => format!("{base}{route}?{query}"),
        Some(_) | None => format!("{base}{route}"),
    }
}

/// Returns every value of a header. Invalid UTF-8 becomes replacement characters.
pub(crate) fn header_values(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
    headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect()
}

/// Parses a query and percent-decodes it once. A `+` stays a plus sign: here it occurs in media types and time zones, and
/// spaces do not occur.
fn parse_query(query: &str) -> Result<Vec<(String, String)>, RequestError> {
    if query.len() > QUERY_LIMIT_BYTES {
        let text = "the query is longer than 16 KiB: send a POST with a Parameters body";
        return Err(RequestError::new(414, IssueCode::TooCostly, "query", text));
    }
    let decode = |piece: &str| {
        let invalid = || RequestError::new(400, IssueCode::Invalid, "query", "the query is not percent-encoded UTF-8");
        percent::decode(piece.as_bytes()).ok_or_else(invalid)
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

/// Returns the id of the job that the path names. A text that cannot be a job id is reported as an unknown export.
pub fn job_id(request: &Request) -> Result<JobId, ExportError> {
    let text = path_parameter(request, "job").ok_or(ExportError::NotFound("this export"))?;
    JobId::parse(&text).map_err(|_| ExportError::NotFound("this export"))
}

/// Returns the name of the output file that the path names.
pub fn output_file_name(request: &Request) -> Result<OutputFileName, ExportError> {
    path_parameter(request, "name").and_then(|text| OutputFileName::parse(&text)).ok_or(ExportError::NotFound("this file"))
}

/// Returns a parameter of the path as API Gateway or the local server has parsed it. `None` if the path does not have it.
fn path_parameter(request: &Request, name: &str) -> Option<String> {
    request.path_parameters_ref()?.first(name).map(str::to_owned)
}

/// Returns the id that API Gateway gave the request. `None` on a local server.
pub fn request_id(request: &Request) -> Option<String> {
    match request.request_context_ref() {
        Some(RequestContext::ApiGatewayV2(context)) => context.request_id.clone(),
        Some(_) | None => None,
    }
}

#[cfg(test)]
mod tests {
    use lambda_http::Body;
    use lambda_http::http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn level_of(path: &str) -> Result<(Level, String), ExportError> {
        let request = lambda_http::http::Request::builder().uri("/").body(Body::Empty).unwrap().with_raw_http_path(path);
        parse_kick_off_path(&request).map(|path| (path.level, path.route))
    }

    #[test]
    fn the_level_is_read_from_the_end_of_the_path() {
        for (path, level, route) in [
            ("/$export", Level::System, "/$export"),
            ("/%24export", Level::System, "/%24export"),
            ("/prod/Patient/$export", Level::AllPatients, "/Patient/$export"),
            ("/prod/fhir/$export", Level::System, "/$export"),
            ("/fhir/Patient/$export", Level::AllPatients, "/Patient/$export"),
            ("/fhir/Patient/7/$export", Level::OnePatient("7".to_owned()), "/Patient/7/$export"),
            ("/Group/Patient/$export", Level::Group("Patient".to_owned()), "/Group/Patient/$export"),
            ("/Patient/Patient/$export", Level::OnePatient("Patient".to_owned()), "/Patient/Patient/$export"),
            ("/Group/g-1/%24export", Level::Group("g-1".to_owned()), "/Group/g-1/%24export"),
        ] {
            assert_eq!(level_of(path).unwrap(), (level, route.to_owned()), "{path}");
        }
        for path in ["/$import", "/", "", "/export", "/$export/", "/Group/$export", "/fhir/Group/$export"] {
            assert!(matches!(level_of(path), Err(ExportError::NotFound(_))), "{path}");
        }
    }

    #[test]
    fn an_id_with_slashes_is_not_another_level() {
        for (path, id, route) in [
            ("/Group/../../etc/$export", "../../etc", "/Group/../../etc/$export"),
            ("/prod/Group/a/b/$export", "a/b", "/Group/a/b/$export"),
            ("/Group/x/Patient/$export", "x/Patient", "/Group/x/Patient/$export"),
            ("/Group/a%2Fb/$export", "a%2Fb", "/Group/a%2Fb/$export"),
        ] {
            let request = lambda_http::http::Request::builder().uri("/").body(Body::Empty).unwrap().with_raw_http_path(path);
            let parameters = [("id", id), ("operation", "$export")].map(|(name, value)| (name.to_owned(), value.to_owned()));
            let request = request.with_path_parameters(std::collections::HashMap::from(parameters));
            let path = parse_kick_off_path(&request).unwrap();
            assert_eq!((path.level, path.route), (Level::Group(id.to_owned()), route.to_owned()));
        }
    }

    fn kick_off(method: &str, body: &str) -> Request {
        let request = lambda_http::http::Request::builder().method(method).uri("/$export?_type=Patient&_type=Group");
        request.header("content-type", "application/fhir+json").header("prefer", "respond-async").body(Body::from(body)).unwrap()
    }

    // Holds: M2
    #[test]
    fn the_manifest_shows_the_query_of_a_get_and_not_that_of_a_post() {
        let url = |method| kick_off_url(&kick_off(method, ""), "https://x/r4", "/$export");
        assert_eq!(url("GET"), "https://x/r4/$export?_type=Patient&_type=Group");
        assert_eq!(url("POST"), "https://x/r4/$export");
    }

    // Holds: K3, A1, B11
    #[test]
    fn query_and_body_of_a_post_are_combined_and_the_body_of_a_get_is_ignored() {
        let body = r#"{"resourceType":"Parameters","parameter":[{"name":"_type","valueCode":"Device"}]}"#;
        let types = |method, body| {
            parameters(&kick_off(method, body))
                .unwrap()
                .into_iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(types("POST", body), "_type=Patient _type=Group _type=Device");
        assert_eq!(types("POST", ""), "_type=Patient _type=Group");
        assert_eq!(types("GET", body), "_type=Patient _type=Group");
    }

    #[test]
    fn a_query_is_decoded_once() {
        let read =
            parse_query("_type=Patient%2CObservation&_since=2020-01-01T00:00:00%2B01:00&_outputFormat=application/fhir+ndjson&x&&y=%2520")
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
    fn a_query_with_invalid_encoding_is_rejected() {
        for query in ["_type=%zz", "_type=%", "_type=%4", "_type=%ff", "%e9=1"] {
            assert_eq!(parse_query(query).unwrap_err().status, 400, "{query}");
        }
        assert_eq!(parse_query(&"a".repeat(20_000)).unwrap_err().status, 414);
    }

    fn with_headers(accept: &[&str], prefer: &[&str]) -> Result<RawKickOff, RequestError> {
        let mut request = lambda_http::http::Request::builder().uri("/$export");
        for (name, values) in [("accept", accept), ("prefer", prefer)] {
            request = values.iter().fold(request, |request, value| request.header(name, *value));
        }
        raw_kick_off(&request.body(Body::Empty).unwrap(), Level::System, FhirVersion::R4)
    }

    fn rejection(result: Result<RawKickOff, RequestError>) -> (u16, String) {
        let error = result.unwrap_err();
        (error.status, error.expression.unwrap())
    }

    // Holds: K10, A5
    #[test]
    fn accept_headers_of_known_clients_are_understood() {
        for accept in [
            "application/fhir+json",
            "application/fhir+json, */*;q=0.1",
            "application/fhir+json, */*; q=0.1",
            "*/*",
            "Application/FHIR+JSON",
            "application/fhir+json; fhirVersion=4.0",
            "application/fhir+json;fhirversion=\"4.0\", text/html",
        ] {
            assert!(with_headers(&[accept], &["respond-async"]).is_ok(), "{accept}");
        }
    }

    // Holds: A5, K23
    #[test]
    fn an_accept_that_cannot_be_served_is_406_and_a_missing_one_400() {
        for accept in ["text/html", "application/fhir+xml", "application/fhir+json;q=0", "application/fhir+json; fhirVersion=5.0"] {
            assert_eq!(rejection(with_headers(&[accept], &["respond-async"])), (406, "Accept".to_owned()), "{accept}");
        }
        assert_eq!(rejection(with_headers(&[], &["respond-async"])), (400, "Accept".to_owned()));
    }

    #[test]
    fn a_body_of_another_version_of_fhir_is_415() {
        let post = |content_type: &str| {
            let request = lambda_http::http::Request::builder().method("POST").uri("/$export").header("content-type", content_type);
            let request = request.header("accept", "*/*").header("prefer", "respond-async").body(Body::Empty).unwrap();
            raw_kick_off(&request, Level::System, FhirVersion::R4)
        };
        assert!(post("application/fhir+json; fhirVersion=4.0").is_ok());
        assert_eq!(rejection(post("application/fhir+json; fhirVersion=5.0")), (415, "Content-Type".to_owned()));
    }

    fn preferring(prefer: &[&str]) -> Result<RawKickOff, RequestError> {
        with_headers(&["application/fhir+json"], prefer)
    }

    // Holds: K14
    #[test]
    fn respond_async_is_found_anywhere_in_the_header() {
        for prefer in [
            &["respond-async"][..],
            &["Respond-Async"],
            &["respond-async,handling=lenient"],
            &["handling=lenient", "respond-async"],
            &["handling=strict; foo=\"a,b\" , respond-async; wait=10"],
            &["return=minimal, respond-async=\"\""],
            &["x=\"quoted, \\\" comma\", respond-async"],
        ] {
            assert!(preferring(prefer).is_ok(), "{prefer:?}");
        }
    }

    // Holds: K11, A5
    #[test]
    fn without_respond_async_a_kick_off_is_rejected() {
        for prefer in [
            &[][..],
            &["handling=lenient"],
            &["respond-asynchronously"],
            &["x=\"respond-async\""],
            &["x=\"a, respond-async"],
            &["respond-async=no"],
        ] {
            assert_eq!(rejection(preferring(prefer)), (400, "Prefer".to_owned()), "{prefer:?}");
        }
    }

    #[test]
    fn handling_is_read_in_any_spelling() {
        let is_lenient = |prefer: &[&str]| preferring(prefer).unwrap().preferences.is_lenient;
        for prefer in [
            &["respond-async, handling=lenient"][..],
            &["respond-async", "handling=lenient"],
            &["HANDLING=Lenient, respond-async"],
            &["respond-async; x=y, handling = \"lenient\"; z"],
            &["handling=lenient, respond-async, handling=lenient"],
        ] {
            assert!(is_lenient(prefer), "{prefer:?}");
        }
        for prefer in
            [&["respond-async"][..], &["respond-async, handling=strict"], &["respond-async, handling=kind"], &["respond-async, handling"]]
        {
            assert!(!is_lenient(prefer), "{prefer:?}");
        }
    }

    #[test]
    fn strict_and_lenient_together_are_rejected() {
        for prefer in [&["respond-async, handling=strict, handling=lenient"][..], &["respond-async, handling=lenient", "handling=strict"]] {
            assert_eq!(rejection(preferring(prefer)), (400, "Prefer".to_owned()));
        }
    }

    // Holds: K13
    #[test]
    fn a_separate_export_status_is_requested_by_its_preference() {
        let separates = |prefer: &[&str]| preferring(prefer).unwrap().preferences.separates_status;
        assert!(separates(&["respond-async,separate-export-status"]));
        assert!(separates(&["Separate-Export-Status", "respond-async"]));
        assert!(!separates(&["respond-async"]));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn any_headers_are_accepted_or_rejected_with_a_short_text(
            headers in prop::collection::vec("application/[a-z+]{0,12}(;q=[0-9.]{0,3})?|(respond-async|handling=lenient|[,;=\"\\\\]){0,6}|\\PC{0,12}", 0..3),
        ) {
            let mut map = HeaderMap::new();
            for header in headers {
                let value = HeaderValue::from_str(&header);
                for name in ["accept", "prefer"] {
                    if let Ok(value) = &value {
                        map.append(name, value.clone());
                    }
                }
            }
            let mut request = kick_off("GET", "");
            *request.headers_mut() = map;
            if let Err(error) = raw_kick_off(&request, Level::System, FhirVersion::R4) {
                prop_assert!((400..500).contains(&error.status));
                prop_assert!(!error.text.is_empty() && error.text.len() < 1_000, "{}", error.text);
                prop_assert!(error.expression.is_some());
            }
        }
    }
}
