use std::collections::BTreeSet;

use async_compression::tokio::bufread::GzipDecoder;
use headrace_core::request::Parameter;
use headrace_core::vocab::level::Level;
use headrace_edge::base_url::TrustedBaseUrl;
use headrace_edge::request::parse_kick_off_path;
use headrace_fhir::definitions::{FhirVersion, ResourceType, SearchParamType};
use headrace_fhir::instant::Instant;
use headrace_fhir::search::Query;
use serde_json::Value;

use super::*;
use crate::operation_definitions::{OPERATIONS, OperationTarget};

/// A clock that is always at 2026-01-31T08:00:00Z.
struct FixedClock;

impl Clock for FixedClock {
    fn now(&self) -> Millis {
        Millis(1_769_846_400_000)
    }
}

fn settings(version: FhirVersion) -> CapabilitySettings {
    let access = AccessControl::AwsIam;
    CapabilitySettings { base: None, version, file_bytes: 64_000_000, adds_referenced: false, adds_new_members: false, access }
}

fn request(method: Method, target: &str, headers: &[(&str, &str)]) -> Request {
    let mut request = lambda_http::http::Request::builder().method(method).uri(target).header("host", "h");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let path = target.split('?').next().unwrap_or_default();
    // The base is the path before the route.
    let base = ["/metadata", "/OperationDefinition"].into_iter().filter_map(|route| path.split_once(route)).map(|(base, _)| base).next();
    request.extension(TrustedBaseUrl(format!("http://h{}", base.unwrap_or_default()))).body(Body::Empty).unwrap().with_raw_http_path(path)
}

async fn ask(metadata: &MetadataHandler, target: &str, headers: &[(&str, &str)]) -> Response<Body> {
    metadata.handle(request(Method::GET, target, headers)).await
}

async fn json(version: FhirVersion, target: &str) -> Value {
    let response = ask(&MetadataHandler::new(&FixedClock, settings(version)), target, &[]).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/fhir+json");
    let Body::Text(text) = response.body() else { panic!("{response:?}") };
    serde_json::from_str(text).unwrap()
}

fn texts<'a>(list: &'a Value, member: &str) -> Vec<&'a str> {
    list.as_array().into_iter().flatten().map(|item| item[member].as_str().unwrap()).collect()
}

/// Checks the root members of a resource against the definitions of the FHIR version.
fn check_root_members(version: FhirVersion, resource: &Value) {
    let kind = ResourceType::parse(resource["resourceType"].as_str().unwrap()).unwrap();
    let elements = version.root_elements(kind);
    let given: BTreeSet<&str> = resource.as_object().unwrap().keys().map(String::as_str).filter(|name| *name != "resourceType").collect();
    let known: BTreeSet<&str> = elements.iter().flat_map(|element| element.members.iter().copied()).collect();
    assert!(given.is_subset(&known), "{version} {kind}: {:?}", given.difference(&known));
    for element in elements.iter().filter(|element| element.is_mandatory) {
        assert!(element.members.iter().any(|member| given.contains(member)), "{version} {kind} lacks {}", element.name);
    }
}

/// Returns a query with this parameter only. All parameters but composite ones support `:missing` (R4, "Search").
fn query(version: FhirVersion, kind: ResourceType, name: &str) -> String {
    let parameter = version.search_parameter(kind, name).unwrap();
    if parameter.param_type != SearchParamType::Composite {
        return format!("{kind}?{name}:missing=true");
    }
    let values = parameter.components.iter().map(|component| match component.param_type {
        SearchParamType::Token if component.paths.iter().any(|path| path.element_type == "boolean") => "true",
        SearchParamType::Token | SearchParamType::String => "x",
        SearchParamType::Reference => "Patient/1",
        SearchParamType::Date => "2020",
        SearchParamType::Number | SearchParamType::Quantity => "1",
        SearchParamType::Uri => "http://example.org",
        SearchParamType::Composite | SearchParamType::Special => panic!("{kind} {name}"),
    });
    format!("{kind}?{name}={}", values.collect::<Vec<_>>().join("$"))
}

// Holds: CS2, CS4
#[tokio::test]
async fn every_listed_type_exists_in_the_version_and_every_parameter_works_in_a_type_filter() {
    for version in FhirVersion::ALL {
        let statement = json(version, "/metadata").await;
        assert_eq!(statement["fhirVersion"], version.as_str());
        let resources = statement["rest"][0]["resource"].as_array().unwrap();
        let listed: Vec<&str> = texts(&statement["rest"][0]["resource"], "type");
        let types: Vec<&str> = version.types().iter().map(ResourceType::as_str).collect();
        assert_eq!(listed, types);
        let mut parameters = 0;
        for resource in resources {
            let (kind, names) = (resource["type"].as_str().unwrap(), texts(&resource["searchParam"], "name"));
            assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "each once");
            for name in names {
                let query = query(version, ResourceType::parse(kind).unwrap(), name);
                let read = Query::parse(&query, version, Instant::from_millis(0));
                assert!(read.is_ok(), "{version} {query}: {read:?}");
                parameters += 1;
            }
        }
        assert!(parameters > 1_500, "{version}: {parameters}");
    }
}

// Holds: G6, CS1, CS3
#[tokio::test]
async fn the_statement_contains_what_clients_look_for() {
    let statement = json(FhirVersion::R4, "/fhir/metadata?_format=json").await;
    assert_eq!(statement["instantiates"][0], "http://hl7.org/fhir/uv/bulkdata/CapabilityStatement/bulk-data");
    assert_eq!(statement["implementation"]["url"], "http://h/fhir");
    assert_eq!((statement["kind"].as_str(), statement["date"].as_str()), (Some("instance"), Some("2026-01-31T08:00:00.000Z")));
    let rest = &statement["rest"][0];
    let canonical = |id: &str| format!("http://hl7.org/fhir/uv/bulkdata/OperationDefinition/{id}");
    let offered = |list: &Value| -> Vec<(String, String)> {
        let member = |item: &Value, name: &str| item[name].as_str().unwrap().to_owned();
        list.as_array().unwrap().iter().map(|item| (member(item, "name"), member(item, "definition"))).collect()
    };
    let pair = |name: &str, id: &str| (name.to_owned(), canonical(id));
    assert_eq!(offered(&rest["operation"]), [pair("export", "export")]);
    let of = |kind: &str| rest["resource"].as_array().unwrap().iter().find(|resource| resource["type"] == kind).unwrap();
    let own = ("export".to_owned(), "http://h/fhir/OperationDefinition/one-patient-export".to_owned());
    let patient = [pair("export", "patient-export"), pair("patient-export", "patient-export"), own];
    assert_eq!(offered(&of("Patient")["operation"]), patient);
    assert_eq!(offered(&of("Group")["operation"]), [pair("export", "group-export"), pair("group-export", "group-export")]);
    assert_eq!(texts(&of("Group")["interaction"], "code"), ["read", "search-type"]);
    assert!(of("Group")["supportedProfile"][0].as_str().unwrap().ends_with("/bulk-cohort-group"));
    // smart-fetch decides by this parameter how it requests changes.
    assert!(texts(&of("Patient")["searchParam"], "name").contains(&"_lastUpdated"));
    for words in ["64 MB", "one resource type each", "_since", "LatestProvenanceResources", "no profile is promised"] {
        assert!(rest["documentation"].as_str().unwrap().contains(words), "{words}");
    }
}

#[tokio::test]
async fn the_resources_have_the_shape_that_each_version_defines() {
    for version in FhirVersion::ALL {
        check_root_members(version, &json(version, "/metadata").await);
        let bundle = json(version, "/OperationDefinition").await;
        check_root_members(version, &bundle);
        for entry in bundle["entry"].as_array().unwrap() {
            check_root_members(version, &entry["resource"]);
        }
    }
}

#[tokio::test]
async fn the_statement_describes_the_settings() {
    let mut settings = settings(FhirVersion::R4);
    let urls = DeploymentUrls { base: "http://h".to_owned(), token_url: None };
    let plain = capability_statement(&urls, &settings, Millis(0)).unwrap();
    (settings.adds_new_members, settings.adds_referenced, settings.access) = (true, true, AccessControl::None);
    let other = capability_statement(&urls, &settings, Millis(0)).unwrap();
    for (with, words) in [
        (&plain, "Signature Version 4"),
        (&plain, "treated like any other"),
        (&plain, "outside the patients' compartments are not exported"),
        (&other, "everybody who can reach this server may export"),
        (&other, "who joined after that time are exported"),
        (&other, "refer to are exported with them"),
    ] {
        assert!(with.contains(words) && !(plain.contains(words) && other.contains(words)), "{words}");
    }
}

// Holds: CS2
#[tokio::test]
async fn every_operation_has_a_definition_and_a_route() {
    let bundle = json(FhirVersion::R4, "/stage/OperationDefinition").await;
    assert_eq!(bundle["total"], OPERATIONS.len());
    for (operation, entry) in OPERATIONS.iter().zip(bundle["entry"].as_array().unwrap()) {
        let resource = json(FhirVersion::R4, &format!("/stage/OperationDefinition/{}", operation.id)).await;
        assert_eq!(entry["resource"], resource);
        assert_eq!(resource["url"], format!("http://h/stage/OperationDefinition/{}", operation.id));
        let (path, level) = match operation.target {
            OperationTarget::System => ("/$export".to_owned(), Level::System),
            OperationTarget::Type(kind) => (format!("/{kind}/$export"), Level::AllPatients),
            OperationTarget::Instance("Group") => ("/Group/7/$export".to_owned(), Level::Group("7".to_owned())),
            OperationTarget::Instance(kind) => (format!("/{kind}/7/$export"), Level::OnePatient("7".to_owned())),
        };
        assert_eq!(parse_kick_off_path(&request(Method::GET, &path, &[])).unwrap().level, level);
        let flags = ["system", "type", "instance"].map(|name| resource[name].as_bool().unwrap());
        assert_eq!(flags.iter().filter(|flag| **flag).count(), 1, "one level each");
        // R4, OperationDefinition.parameter: names that FHIR's `code` allows, and a type each.
        for parameter in resource["parameter"].as_array().unwrap() {
            assert!(parameter["type"].is_string() && !parameter["documentation"].as_str().unwrap().is_empty());
        }
    }
    let unknown = ask(&MetadataHandler::new(&FixedClock, settings(FhirVersion::R4)), "/OperationDefinition/import", &[]).await;
    assert_eq!(unknown.status(), 404);
}

#[tokio::test]
async fn patients_can_be_named_where_patients_are_exported() {
    for operation in OPERATIONS {
        assert_eq!(
            operation.parameters().any(|parameter| parameter == Parameter::Patient),
            operation.target != OperationTarget::System,
            "{}",
            operation.id
        );
    }
}

// Holds: CS6
#[tokio::test]
async fn json_is_returned_unless_another_format_is_requested() {
    let metadata = MetadataHandler::new(&FixedClock, settings(FhirVersion::R4));
    for (target, accept, status) in [
        ("/metadata", None, 200),
        ("/metadata", Some("application/json"), 200),
        ("/metadata", Some("application/fhir+json; fhirVersion=4.0"), 200),
        ("/metadata", Some("text/html,application/xml;q=0.9,*/*;q=0.8"), 200),
        ("/metadata", Some("application/fhir+xml"), 406),
        ("/metadata", Some("application/json;q=0"), 406),
        ("/metadata?_format=json", Some("application/fhir+xml"), 200),
        ("/metadata?_format=application/fhir+json", None, 200),
        ("/metadata?_format=application%2Fjson", Some("text/html"), 200),
        ("/metadata?_format=xml", Some("application/json"), 406),
        ("/metadata?_summary=true&_pretty=true", None, 200),
    ] {
        let headers: Vec<(&str, &str)> = accept.into_iter().map(|accept| ("accept", accept)).collect();
        assert_eq!(ask(&metadata, target, &headers).await.status(), status, "{target} {accept:?}");
    }
}

#[tokio::test]
async fn the_statement_fits_a_lambda_response_and_is_compressed_on_request() {
    for version in FhirVersion::ALL {
        let metadata = MetadataHandler::new(&FixedClock, settings(version));
        let plain = ask(&metadata, "/metadata", &[("accept-encoding", "br, gzip;q=0")]).await;
        let Body::Text(text) = plain.body() else { panic!("{plain:?}") };
        let travelling = serde_json::to_string(text).unwrap().len();
        assert!(travelling < 6_000_000, "{version}: {travelling} bytes");
        let packed = ask(&metadata, "/metadata", &[("accept-encoding", "gzip, deflate, br")]).await;
        assert_eq!(
            (&packed.headers()["content-encoding"], &packed.headers()["vary"]),
            (&"gzip".parse().unwrap(), &"Accept-Encoding".parse().unwrap())
        );
        let Body::Binary(bytes) = packed.body() else { panic!("{packed:?}") };
        assert!(bytes.len() < text.len() / 8, "{version}: {} of {} bytes", bytes.len(), text.len());
        let mut unpacked = String::new();
        GzipDecoder::new(&bytes[..]).read_to_string(&mut unpacked).await.unwrap();
        assert_eq!(&unpacked, text);
    }
}

#[tokio::test]
async fn each_base_url_gets_its_own_statement() {
    let metadata = MetadataHandler::new(&FixedClock, settings(FhirVersion::R4));
    for host in ["one.example", "two.example", "one.example"] {
        let mut request = request(Method::GET, "/metadata", &[("host", "evil.example"), ("x-forwarded-host", "evil.example")]);
        request.extensions_mut().insert(TrustedBaseUrl(format!("https://{host}")));
        let response = metadata.handle(request).await;
        let Body::Text(text) = response.body() else { panic!("{response:?}") };
        assert!(text.contains(&format!("\"url\":\"https://{host}\"")) && !text.contains("evil"), "{host}");
    }
}

#[tokio::test]
async fn a_response_to_head_has_no_body() {
    let metadata = MetadataHandler::new(&FixedClock, settings(FhirVersion::R4));
    let response = metadata.handle(request(Method::HEAD, "/metadata", &[])).await;
    assert_eq!((response.status().as_u16(), response.body()), (200, &Body::Empty));
    assert_eq!(response.headers()["content-type"], "application/fhir+json");
}

#[tokio::test]
async fn without_a_token_endpoint_the_smart_configuration_is_404_and_explains_why() {
    let metadata = MetadataHandler::new(&FixedClock, settings(FhirVersion::R4));
    let response = ask(&metadata, "/fhir/.well-known/smart-configuration", &[("accept", "application/json")]).await;
    assert_eq!(response.status(), 404);
    let Body::Text(text) = response.body() else { panic!("{response:?}") };
    assert!(text.contains("\"OperationOutcome\"") && text.contains("Signature Version 4"), "{text}");
}
