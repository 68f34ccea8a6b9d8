//! Discovery of the token endpoint.

use headrace_core::vocab::clock::Millis;
use headrace_edge::config::IdentityProviderSettings;
use headrace_fhir::definitions::FhirVersion;
use headrace_local::server::service::ServerAccess;
use headrace_local::stores::signer::FileSigner;
use headrace_tests::flows::{
    AwsDeployment, Deployment, DeploymentSettings, LocalDeployment, ManualClock, Result, ServiceProcess, SmartClient, TestRequest,
    TestResponse, run, server_config, start_local_server, token_request_form,
};
use headrace_tests::lake;
use serde_json::{Value, json};

/// Path of the SMART configuration below the FHIR base.
const DISCOVERY_PATH: &str = "/.well-known/smart-configuration";

/// Returns the expected discovery document of a deployment with this token endpoint.
fn document(token_endpoint: &str) -> Value {
    json!({
        "token_endpoint": token_endpoint,
        "grant_types_supported": ["client_credentials"],
        "token_endpoint_auth_methods_supported": ["private_key_jwt"],
        "token_endpoint_auth_signing_alg_values_supported": ["RS384", "ES384"],
        "scopes_supported": ["system/*.rs", "system/*.read"],
        "code_challenge_methods_supported": ["S256"],
        "capabilities": ["client-confidential-asymmetric", "permission-v1", "permission-v2"]
    })
}

/// Requests the SMART configuration with these headers.
async fn get_discovery_document<S: Deployment>(service: &ServiceProcess<S>, headers: &[(&'static str, &str)]) -> Result<TestResponse> {
    let mut request = TestRequest::new("GET", DISCOVERY_PATH);
    request.headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    service.send(&request).await
}

/// Returns the token endpoint in the extension of the CapabilityStatement, and the code of its security service.
async fn capability_security<S: Deployment>(service: &ServiceProcess<S>) -> Result<(Option<Value>, Option<Value>)> {
    let statement = service.send(&TestRequest::new("GET", "/metadata")).await?.json()?;
    let said = |path: &str| statement.pointer(&format!("/rest/0/security/{path}")).cloned();
    assert_eq!(said("cors"), Some(json!(false)));
    let url = said("extension/0/extension/0/valueUri");
    let names = [said("extension/0/url"), said("extension/0/extension/0/url")];
    let oauth_uris = json!("http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris");
    assert!(url.is_none() || names == [Some(oauth_uris), Some(json!("token"))], "{statement}");
    Ok((url, said("service/0/coding/0/code")))
}

/// Checks the discovery document, and that its token endpoint accepts assertions.
async fn check_discovery<S: Deployment>(deployment: &S) -> Result<()> {
    let (service, client) = (
        ServiceProcess::start(deployment, &ManualClock::default(), DeploymentSettings::default().with_smart_access()?),
        SmartClient::new_es384("ehr")?,
    );
    service.register(&client, "system/*.rs").await?;
    let accepted = ["application/json", "application/fhir+json", "application/fhir+xml", "text/html", "*/*", ";"];
    for headers in accepted.map(|accept| vec![("accept", accept)]).into_iter().chain([vec![]]) {
        let response = get_discovery_document(&service, &headers).await?;
        assert_eq!((response.status, response.header("content-type")), (200, Some("application/json")), "{headers:?}");
        assert_eq!(response.json()?, document(&service.token_url()), "{headers:?}");
    }
    assert_eq!(capability_security(&service).await?, (Some(json!(service.token_url())), Some(json!("SMART-on-FHIR"))));
    // The document names the audience of assertions. Headers that a client or a page controls must not change it.
    let hostile = [("x-forwarded-host", "evil.example"), ("x-forwarded-proto", "http"), ("forwarded", "host=evil.example;proto=http")];
    let found = get_discovery_document(&service, &hostile).await?.json()?;
    let named = found.get("token_endpoint").and_then(Value::as_str).ok_or("the document has no token endpoint")?.to_owned();
    let assertion = client.sign(&client.assertion_header(), &client.assertion_claims(&named, service.now()))?;
    let response = service.send(&TestRequest::form_post("/token", token_request_form(&assertion, "system/*.rs"))).await?;
    assert_eq!((response.status, named), (200, service.token_url()));
    Ok(())
}

// Holds: SEC-A2, SEC-A3, CS6
#[test]
fn clients_can_discover_the_token_endpoint_and_its_requirements() -> Result<()> {
    run(async || {
        check_discovery(&AwsDeployment::new().await?).await?;
        check_discovery(&LocalDeployment::with_files(&[]).await?).await
    })
}

/// Returns settings for tokens of an identity provider with this token endpoint.
fn external(token_url: Option<&str>) -> DeploymentSettings {
    let access = ServerAccess::External(IdentityProviderSettings {
        issuer: "https://login.example/realm".to_owned(),
        audience: "https://fhir.example".to_owned(),
        jwks_url: "https://login.example/realm/keys".to_owned(),
        scope_claim: "scope".to_owned(),
        token_url: token_url.map(str::to_owned),
        version: FhirVersion::default(),
    });
    DeploymentSettings { access: Some(access), ..DeploymentSettings::default() }
}

/// Checks that there is no discovery document, and that the response explains it with these words.
async fn check_explained_absence<S: Deployment>(service: &ServiceProcess<S>, words: &str) -> Result<()> {
    let response = get_discovery_document(service, &[]).await?;
    let (_, code, text) = response.outcome()?;
    assert_eq!((response.status, code.as_str()), (404, "not-found"));
    assert!(text.contains(words), "{text}");
    assert_eq!(capability_security(service).await?.0, None);
    Ok(())
}

// Holds: SEC-A3, CS6
#[test]
fn discovery_names_an_external_token_endpoint_or_explains_why_there_is_none() -> Result<()> {
    run(async || {
        let (aws, machine, clock) = (AwsDeployment::new().await?, LocalDeployment::with_files(&[]).await?, ManualClock::default());
        let elsewhere = "https://login.example/realm/token";
        let service = ServiceProcess::start(&aws, &clock, external(Some(elsewhere)));
        assert_eq!(get_discovery_document(&service, &[]).await?.json()?["token_endpoint"], elsewhere);
        assert_eq!(capability_security(&service).await?.0, Some(json!(elsewhere)));
        check_explained_absence(&ServiceProcess::start(&aws, &clock, external(None)), "identity provider").await?;
        check_explained_absence(&ServiceProcess::start(&aws, &clock, DeploymentSettings::default()), "Signature Version 4").await?;
        check_explained_absence(&ServiceProcess::start(&machine, &clock, DeploymentSettings::default()), "requires no credentials").await?;
        Ok(())
    })
}

// Holds: SEC-A3
#[test]
fn the_smart_configuration_is_served_at_the_host_root_and_under_the_base() -> Result<()> {
    run(async || {
        let (state, keys) = (tempfile::tempdir()?, tempfile::tempdir()?);
        let access = ServerAccess::Smart(FileSigner::open_or_create(keys.path(), Millis(0))?);
        let base = start_local_server(server_config(&lake::sample_lake_dir(), state.path(), access)).await?;
        let root = base.strip_suffix("/fhir").ok_or("the base has a path")?;
        for found in [&base, root] {
            let response = reqwest::get(format!("{found}{DISCOVERY_PATH}")).await?;
            assert_eq!((response.status().as_u16(), &response.headers()["content-type"]), (200, &"application/json".parse()?), "{found}");
            assert_eq!(serde_json::from_slice::<Value>(&response.bytes().await?)?, document(&format!("{base}/token")), "{found}");
        }
        Ok(())
    })
}
