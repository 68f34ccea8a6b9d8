//! Access tokens of an external identity provider.

use std::sync::Arc;
use std::time::Duration;

use headrace_core::access::{Client, ClientKeys, FixedConfiguration, Scopes};
use headrace_core::vocab::ids::Caller;
use headrace_edge::config::IdentityProviderSettings;
use headrace_fhir::definitions::FhirVersion;
use headrace_local::server::service::ServerAccess;
use headrace_tests::flows::{
    AwsDeployment, DeploymentSettings, ManualClock, Result, ServiceProcess, SmartClient, TestRequest, TestResponse, run, seed,
};
use serde_json::{Value, json};

use crate::key_server::KeyServer;

/// Issuer of the identity provider.
const ISSUER: &str = "https://login.example/realm";

/// Starts a deployment that trusts the identity provider.
async fn start_service(server: &KeyServer, scope_claim: &str) -> Result<Arc<ServiceProcess<AwsDeployment>>> {
    let access = ServerAccess::External(IdentityProviderSettings {
        issuer: ISSUER.to_owned(),
        audience: "https://fhir.example".to_owned(),
        jwks_url: server.url().to_owned(),
        scope_claim: scope_claim.to_owned(),
        token_url: Some("https://login.example/realm/token".to_owned()),
        version: FhirVersion::default(),
    });
    let settings = DeploymentSettings { access: Some(access), ..seed::settings() };
    Ok(ServiceProcess::start(&seed::aws_deployment().await?, &ManualClock::default(), settings))
}

/// Returns the claims of a valid token.
fn claims(service: &ServiceProcess<AwsDeployment>) -> Value {
    let exp = service.now().0 / 1_000 + 600;
    json!({ "iss": ISSUER, "aud": ["account", "https://fhir.example"], "sub": "svc-7", "exp": exp, "scope": "openid system/Patient.read" })
}

/// Lists the caller's exports with this token.
async fn list(service: &ServiceProcess<AwsDeployment>, token: &str) -> Result<TestResponse> {
    service.send(&TestRequest::new("GET", "/_operations/export").with_bearer_token(token)).await
}

// Holds: SEC-A2, SEC-A13
#[test]
fn a_valid_provider_token_is_accepted_and_an_invalid_one_is_rejected() -> Result<()> {
    run(async || {
        for provider in [SmartClient::new_es384("provider")?, SmartClient::new_rs384("provider")?] {
            let server = KeyServer::start(provider.jwks()?).await?;
            let service = start_service(&server, "scope").await?;
            let moment = service.now().0 / 1_000;
            for (name, value, status) in [
                ("x", json!(1), 200),
                ("aud", json!("https://fhir.example"), 200),
                ("aud", json!("account"), 401),
                ("aud", json!(null), 401),
                ("iss", json!("https://login.example/realm/"), 401),
                ("iss", json!("https://evil.example"), 401),
                ("sub", json!(""), 401),
                ("sub", json!(null), 401),
                ("sub", json!("a b"), 401),
                ("sub", json!("s".repeat(300)), 401),
                ("exp", json!(moment - 59), 200),
                ("exp", json!(moment - 60), 401),
                ("exp", json!(null), 401),
                ("nbf", json!(moment + 60), 200),
                ("nbf", json!(moment + 61), 401),
            ] {
                let mut claims = claims(&service);
                claims[name] = value;
                // Identity providers set `typ` to `JWT` or `at+jwt`, or omit it.
                let response = list(&service, &provider.sign(&provider.assertion_header(), &claims)?).await?;
                assert_eq!(response.status, status, "{name} {}", claims[name]);
            }
            let stranger = SmartClient::new_es384("provider")?;
            assert_eq!(list(&service, &stranger.sign(&provider.assertion_header(), &claims(&service))?).await?.status, 401);
            let mut confused = provider.assertion_header();
            confused["alg"] = json!("HS256");
            assert_eq!(list(&service, &provider.sign(&confused, &claims(&service))?).await?.status, 401);
            assert_eq!(server.request_count(), 1, "the keys are cached");
        }
        Ok(())
    })
}

#[test]
fn scopes_are_read_from_the_configured_claim() -> Result<()> {
    run(async || {
        let provider = SmartClient::new_es384("provider")?;
        let server = KeyServer::start(provider.jwks()?).await?;
        for (claim, value, kicked_off) in [
            ("scope", json!("openid system/Patient.read"), 202),
            ("scp", json!(["system/Patient.read", "openid"]), 202),
            ("scp", json!("system/Patient.rs"), 202),
            ("roles", json!({ "system/Patient.rs": 1 }), 403),
            ("scp", json!(null), 403),
        ] {
            let service = start_service(&server, claim).await?;
            let mut claims = claims(&service);
            claims.as_object_mut().map(|claims| claims.remove("scope"));
            claims[claim] = value;
            let token = provider.sign(&provider.assertion_header(), &claims)?;
            let response = service.send(&TestRequest::new("GET", "/$export?_type=Patient").with_bearer_token(&token)).await?;
            assert_eq!(response.status, kicked_off, "{claim} {}: {response:?}", claims[claim]);
            if kicked_off == 403 {
                assert_eq!(response.header("www-authenticate"), Some("Bearer realm=\"headrace\", error=\"insufficient_scope\""));
            }
        }
        Ok(())
    })
}

#[test]
fn the_keys_of_an_unavailable_identity_provider_are_fetched_again_later() -> Result<()> {
    run(async || {
        let provider = SmartClient::new_es384("provider")?;
        let server = KeyServer::start(provider.jwks()?).await?;
        let service = start_service(&server, "scope").await?;
        let token = provider.sign(&provider.assertion_header(), &claims(&service))?;
        server.set_response(500, &[], "canary-7f3a");
        let response = list(&service, &token).await?;
        assert_eq!((response.status, response.header("retry-after")), (503, Some("5")));
        assert!(!String::from_utf8_lossy(&response.body).contains("canary"));
        // The failure is remembered for ten seconds.
        server.set_response(200, &[], provider.jwks()?);
        assert_eq!(list(&service, &token).await?.status, 503);
        assert_eq!(server.request_count(), 1);
        service.clock.advance(Duration::from_secs(10));
        assert_eq!(list(&service, &token).await?.status, 200);
        // Without cache headers, the keys are cached for five minutes.
        service.clock.advance(Duration::from_secs(299));
        assert_eq!(list(&service, &token).await?.status, 200);
        assert_eq!(server.request_count(), 2);
        service.clock.advance(Duration::from_secs(1));
        assert_eq!(list(&service, &token).await?.status, 200);
        assert_eq!(server.request_count(), 3);
        Ok(())
    })
}

#[test]
fn a_registration_restricts_a_caller_of_an_identity_provider() -> Result<()> {
    run(async || {
        let provider = SmartClient::new_es384("provider")?;
        let server = KeyServer::start(provider.jwks()?).await?;
        let service = start_service(&server, "scope").await?;
        let token = provider.sign(&provider.assertion_header(), &claims(&service))?;
        let mut registration = service.registration(&provider, "system/Device.rs")?;
        registration.id = Caller(format!("{ISSUER}#svc-7"));
        registration.keys = ClientKeys::External;
        let kick_off = TestRequest::new("GET", "/$export?_type=Patient").with_bearer_token(&token);
        assert_eq!(service.send(&kick_off).await?.status, 202);
        service.put_client(&registration).await?;
        assert_eq!(service.send(&kick_off).await?.status, 403, "the registration allows only devices");
        registration.scopes = Scopes::Everything;
        service.put_client(&registration).await?;
        assert_eq!(service.send(&kick_off).await?.status, 202);
        registration.is_disabled = true;
        service.put_client(&registration).await?;
        assert_eq!(service.send(&kick_off).await?.status, 401);
        Ok(())
    })
}

/// Checks that an operator can restrict everybody whom the identity provider lets in, without knowing their names.
#[test]
fn the_registration_of_unregistered_callers_restricts_those_without_their_own() -> Result<()> {
    run(async || {
        let provider = SmartClient::new_es384("provider")?;
        let server = KeyServer::start(provider.jwks()?).await?;
        let service = start_service(&server, "scope").await?;
        let token = provider.sign(&provider.assertion_header(), &claims(&service))?;
        let kick_off = TestRequest::new("GET", "/$export?_type=Patient").with_bearer_token(&token);
        let mut everybody = service.registration(&provider, "system/*.rs")?;
        (everybody.id, everybody.keys) = (Caller("*".to_owned()), ClientKeys::External);
        everybody.anonymization_configs = Some(FixedConfiguration::parse("study.json").into_iter().collect());
        service.put_client(&everybody).await?;
        let response = service.send(&kick_off).await?;
        assert_eq!(response.status, 403);
        assert!(response.outcome()?.2.contains("study.json"), "{response:?}");
        everybody.is_disabled = true;
        service.put_client(&everybody).await?;
        assert_eq!(service.send(&kick_off).await?.status, 401);
        let own = Client { id: Caller(format!("{ISSUER}#svc-7")), is_disabled: false, anonymization_configs: None, ..everybody };
        service.put_client(&own).await?;
        assert_eq!(service.send(&kick_off).await?.status, 202, "a registration of its own comes first");
        Ok(())
    })
}
