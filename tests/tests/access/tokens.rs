//! Access tokens: what they allow, and when they are rejected.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use headrace_core::access::{Client, ClientKeys, TokenKey};
use headrace_core::ports::{AccessStore as _, TokenSigner as _};
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::ids::{Caller, RegistrationId};
use headrace_edge::jose::{key_id, to_pem};
use headrace_local::stores::signer::FileSigner;
use headrace_tests::flows::{
    AwsDeployment, Deployment, DeploymentSettings, LocalDeployment, ManualClock, Result, ServiceProcess, SmartClient, TestRequest,
    TestResponse, run, seed,
};
use serde_json::{Value, json};

/// Routes that require authentication.
const PROTECTED_ROUTES: [(&str, &str); 8] = [
    ("GET", "/$export"),
    ("GET", "/Patient/$export"),
    ("GET", "/Group/1/$export"),
    ("GET", "/Group"),
    ("GET", "/_operations/export"),
    ("GET", "/_operations/export/ffffffffffffffffffffffffffffffff"),
    ("DELETE", "/_operations/export/ffffffffffffffffffffffffffffffff"),
    ("GET", "/_operations/files/ffffffffffffffffffffffffffffffff/Patient-1.ndjson"),
];

/// `WWW-Authenticate` header of a response to a request beyond the token's scopes (RFC 6750, section 3.1).
const INSUFFICIENT_SCOPE: &str = "Bearer realm=\"headrace\", error=\"insufficient_scope\"";

/// Starts a deployment in which these clients are registered.
async fn start_service(clients: &[&SmartClient]) -> Result<Arc<ServiceProcess<AwsDeployment>>> {
    let service = ServiceProcess::start(&seed::aws_deployment().await?, &ManualClock::default(), seed::settings().with_smart_access()?);
    for client in clients {
        service.register(client, "system/*.rs").await?;
    }
    Ok(service)
}

/// Sends a GET request with this access token.
async fn send<S: Deployment>(service: &ServiceProcess<S>, target: &str, token: &str) -> Result<TestResponse> {
    service.send(&TestRequest::new("GET", target).with_bearer_token(token)).await
}

/// Kicks off an export of patients with this token and returns the path of the status URL.
async fn kick_off<S: Deployment>(service: &ServiceProcess<S>, token: &str) -> Result<String> {
    let response = send(service, "/$export?_type=Patient", token).await?;
    let url = response.header("content-location").ok_or_else(|| format!("{response:?}"))?;
    Ok(url.get(url.find("/_operations").ok_or("no status URL")?..).ok_or("no status URL")?.to_owned())
}

/// Exports as a client that obtains tokens, and checks the manifest.
async fn exports_with_tokens<S: Deployment>(deployment: &S) -> Result<()> {
    let client = SmartClient::new_es384("ehr")?;
    let service = ServiceProcess::start(deployment, &ManualClock::default(), seed::settings().with_smart_access()?);
    service.register(&client, "system/*.rs").await?;
    service.set_client(&client, "system/Patient.read");
    let status = service.kick_off("?_type=Patient").await?;
    let export = service.complete(&status).await?;
    let files = export.manifest.output.iter().map(|entry| entry.resource_type.as_str()).collect::<std::collections::BTreeSet<_>>();
    assert!(files.into_iter().eq(["Patient"]) && export.manifest.requires_access_token);
    Ok(())
}

// Holds: SEC-A2, SEC-A13
#[test]
fn a_client_exchanges_an_assertion_for_a_token_and_downloads_an_export() -> Result<()> {
    run(async || {
        exports_with_tokens(&seed::aws_deployment().await?).await?;
        let lake = seed::lake_objects();
        let files: Vec<(&str, &[u8])> = lake.iter().map(|(object, bytes)| (*object, bytes.as_slice())).collect();
        exports_with_tokens(&LocalDeployment::with_files(&files).await?).await
    })
}

// Holds: SEC-A13, SEC-A16
#[test]
fn every_protected_route_rejects_requests_without_a_token() -> Result<()> {
    run(async || {
        let service = start_service(&[]).await?;
        for (method, target) in PROTECTED_ROUTES {
            let mut refused = Vec::new();
            for header in [None, Some("Bearer "), Some("Bearer"), Some("Basic ZWhyOng="), Some("Bearer x"), Some("Bearer a.b.c")] {
                let mut request = TestRequest::new(method, target);
                request.headers.extend(header.map(|header| ("authorization", header.to_owned())));
                // IAM identities are not accepted here.
                let response = service.send(&request.with_identity("arn:aws:iam::111122223333:user/ann")).await?;
                let (_, code, _) = response.outcome()?;
                assert_eq!((response.status, code.as_str()), (401, "login"), "{method} {target}");
                refused.push(response.header("www-authenticate").map(str::to_owned));
            }
            let (none, sent) =
                (Some("Bearer realm=\"headrace\"".to_owned()), Some("Bearer realm=\"headrace\", error=\"invalid_token\"".to_owned()));
            assert_eq!(refused, [none.clone(), none.clone(), none.clone(), none, sent.clone(), sent], "{method} {target}");
        }
        for target in ["/metadata", "/OperationDefinition", "/.well-known/smart-configuration"] {
            assert_eq!(service.send(&TestRequest::new("GET", target)).await?.status, 200, "{target}");
        }
        Ok(())
    })
}

/// Returns header, claims and signature of a token.
fn parse_token(token: &str) -> Result<(Value, Value, String)> {
    let mut parse_token = token.split('.');
    let mut json = || {
        Ok::<Value, headrace_core::vocab::error::BoxError>(serde_json::from_slice(
            &URL_SAFE_NO_PAD.decode(parse_token.next().ok_or("not a JWT")?)?,
        )?)
    };
    Ok((json()?, json()?, token.rsplit('.').next().unwrap_or_default().to_owned()))
}

/// Builds a JWT from its parts.
fn join_token(header: &Value, claims: &Value, signature: &str) -> String {
    format!("{}.{}.{signature}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims.to_string()))
}

// Holds: SEC-A13
#[test]
fn a_foreign_or_modified_token_is_rejected() -> Result<()> {
    run(async || {
        let client = SmartClient::new_es384("ehr")?;
        let service = start_service(&[&client]).await?;
        let good = service.token(&client, "system/Patient.read").await?;
        let (header, claims, signature) = parse_token(&good)?;
        let kid = header["kid"].as_str().ok_or("no kid")?;
        let recorded = service.deployment.job_store().token_key(kid).await?.ok_or("no key is recorded")?;
        let with = |name: &str, value: Value| {
            let mut claims = claims.clone();
            claims[name] = value;
            claims
        };
        // A token that a client signed under the service's key id, and a client assertion instead of an access token.
        let mut own = client.assertion_header();
        own["typ"] = json!("at+jwt");
        let assertion = client.sign(&client.assertion_header(), &client.assertion_claims(service.base(), service.now()))?;
        let mut forged = header.clone();
        forged["alg"] = json!("ES384");
        let secret = jsonwebtoken::EncodingKey::from_secret(recorded.pem.as_bytes());
        let symmetric = json!({ "alg": "HS384", "kid": kid, "typ": "at+jwt" });
        let message = join_token(&symmetric, &claims, "");
        let message = message.trim_end_matches('.');
        let confused = format!("{message}.{}", jsonwebtoken::crypto::sign(message.as_bytes(), &secret, jsonwebtoken::Algorithm::HS384)?);
        for token in [
            join_token(&header, &with("scope", json!("system/*.read")), &signature),
            join_token(&header, &with("sub", json!("other")), &signature),
            join_token(&header, &with("exp", json!(u64::MAX)), &signature),
            join_token(&json!({ "alg": "none", "kid": kid, "typ": "at+jwt" }), &claims, ""),
            join_token(&json!({ "alg": "none", "kid": kid, "typ": "at+jwt" }), &claims, &signature),
            join_token(&header, &claims, ""),
            join_token(&header, &claims, &"A".repeat(128)),
            client.sign(&forged, &claims)?,
            client.sign(&own, &claims)?,
            assertion,
            confused,
            format!("{good}x"),
            format!("{good}.x"),
            good.repeat(20),
        ] {
            let response = send(&service, "/_operations/export", &token).await?;
            assert_eq!(response.status, 401, "{token}");
            assert!(!String::from_utf8_lossy(&response.body).contains(&token));
        }
        assert_eq!(send(&service, "/_operations/export", &good).await?.status, 200);
        // A token in the URL is not accepted, because URLs are logged.
        assert_eq!(service.send(&TestRequest::new("GET", format!("/_operations/export?access_token={good}"))).await?.status, 401);
        // A token of another deployment with the same keys has another audience.
        let machine = LocalDeployment::with_files(&[]).await?;
        machine.job_store().put_token_key(&recorded).await?;
        let elsewhere = ServiceProcess::start(&machine, &service.clock, DeploymentSettings::default().with_smart_access()?);
        elsewhere.register(&client, "system/*.rs").await?;
        assert_eq!(send(&elsewhere, "/_operations/export", &good).await?.status, 401);
        Ok(())
    })
}

// Holds: SEC-A11, SEC-A13
#[test]
fn a_token_that_expires_during_an_export_does_not_stop_the_export() -> Result<()> {
    run(async || {
        let client = SmartClient::new_es384("ehr")?;
        let service = start_service(&[&client]).await?;
        let token = service.token(&client, "system/Patient.read").await?;
        let status = kick_off(&service, &token).await?;
        service.clock.advance(Duration::from_millis(299_999));
        assert_eq!(send(&service, &status, &token).await?.status, 202);
        service.clock.advance(Duration::from_millis(1));
        let response = send(&service, &status, &token).await?;
        assert_eq!(
            (response.status, response.header("www-authenticate")),
            (401, Some("Bearer realm=\"headrace\", error=\"invalid_token\""))
        );
        assert!(response.outcome()?.2.contains("has expired"));
        service.set_client(&client, "system/Patient.read");
        let export = service.complete(&status).await?;
        let file = export.manifest.output.first().ok_or("no file")?.url.clone();
        let file = file.get(file.find("/_operations").ok_or("no path")?..).ok_or("no path")?;
        assert_eq!(send(&service, file, &token).await?.status, 401, "downloads need a valid token too");
        Ok(())
    })
}

// Holds: P33, SEC-A13, SEC-A16
#[test]
fn a_token_exports_only_its_scopes_and_hides_exports_beyond_its_scopes() -> Result<()> {
    run(async || {
        let client = SmartClient::new_es384("ehr")?;
        let service = start_service(&[&client]).await?;
        // Without `_type`, the types of the token's scopes are exported. Other types are rejected by name.
        service.set_client(&client, "system/Patient.read system/Basic.rs");
        let status = service.kick_off("").await?;
        let export = service.complete(&status).await?;
        assert!(export.file_counts_by_type().into_keys().eq(["Basic", "Patient"]), "{:?}", export.manifest);
        for query in ["?_type=Observation", "?_type=Patient,Observation", "?_typeFilter=Observation%3Fstatus%3Dfinal"] {
            let response = service.request("GET", &format!("/$export{query}")).await?;
            let (_, code, text) = response.outcome()?;
            assert_eq!((response.status, code.as_str()), (403, "forbidden"), "{query}");
            assert_eq!(response.header("www-authenticate"), Some(INSUFFICIENT_SCOPE), "{query}");
            assert!(text.contains("Observation"), "{text}");
        }
        // For a token of the same client with fewer scopes, the export and all its files do not exist, even files of allowed types.
        let file = export.manifest.output.iter().find(|entry| entry.resource_type == "Patient").ok_or("no file")?.url.clone();
        let file = file.get(file.find("/_operations").ok_or("no path")?..).ok_or("no path")?;
        for (scopes, expected) in
            [("system/Patient.read", [404, 404]), ("system/Basic.rs system/Patient.rs", [200, 307]), ("system/*.rs", [200, 307])]
        {
            let token = service.token(&client, scopes).await?;
            let answers = [send(&service, &status, &token).await?.status, send(&service, file, &token).await?.status];
            assert_eq!(answers, expected, "{scopes}");
        }
        Ok(())
    })
}

// Holds: SEC-A16
#[test]
fn the_export_of_another_client_is_not_found() -> Result<()> {
    run(async || {
        let (client, other) = (SmartClient::new_es384("ehr")?, SmartClient::new_es384("other")?);
        let service = start_service(&[&client, &other]).await?;
        service.set_client(&client, "system/*.read");
        let status = service.kick_off("?_type=Patient").await?;
        let export = service.complete(&status).await?;
        let file = export.manifest.output.first().ok_or("no file")?.url.clone();
        let file = file.get(file.find("/_operations").ok_or("no path")?..).ok_or("no path")?;
        let token = service.token(&other, "system/*.read").await?;
        for (method, target) in [("GET", status.as_str()), ("GET", file), ("DELETE", status.as_str())] {
            assert_eq!(service.send(&TestRequest::new(method, target).with_bearer_token(&token)).await?.status, 404, "{method} {target}");
        }
        assert_eq!(service.request("GET", &status).await?.status, 200);
        Ok(())
    })
}

// Holds: SEC-A13
#[test]
fn the_token_of_a_disabled_or_removed_client_is_rejected_at_the_next_request() -> Result<()> {
    run(async || {
        let (client, removed) = (SmartClient::new_es384("ehr")?, SmartClient::new_es384("removed")?);
        let service = start_service(&[&client, &removed]).await?;
        let token = service.token(&client, "system/Patient.read").await?;
        let status = kick_off(&service, &token).await?;
        assert_eq!(send(&service, &status, &token).await?.status, 202);
        service.clock.advance(Duration::from_secs(1));
        let mut registration = service.deployment.job_store().client(&Caller(client.id.clone())).await?.ok_or("not registered")?;
        registration.is_disabled = true;
        let seen = registration.changed_at;
        registration.changed_at = service.now();
        assert!(service.deployment.job_store().put_client(&registration, Some(seen)).await?);
        assert_eq!(send(&service, &status, &token).await?.status, 401);
        assert_eq!(service.request_token(&client, "system/Patient.read").await?.status, 401);
        // A token of a client that is not registered, as issued by another deployment with the same keys.
        let token = service.token(&removed, "system/Patient.read").await?;
        let item = service.deployment.dynamo().delete_item().table_name("headrace");
        let key = |text: &str| aws_sdk_dynamodb::types::AttributeValue::S(text.to_owned());
        item.key("pk", key("CLIENTS")).key("sk", key("removed")).send().await?;
        assert_eq!(send(&service, "/_operations/export", &token).await?.status, 401);
        Ok(())
    })
}

/// Registers a client as `headrace clients add` does, after its registration was removed if there is one.
async fn register_again<S: Deployment>(service: &ServiceProcess<S>, client: &SmartClient, id: &str) -> Result<()> {
    let store = service.deployment.job_store();
    if let Some(registered) = store.client(&Caller(client.id.clone())).await? {
        assert!(store.remove_client(&registered.id, registered.changed_at).await?);
    }
    let registration = service.registration(client, "system/*.rs")?;
    service.put_client(&Client { registration_id: Some(RegistrationId(id.to_owned())), ..registration }).await
}

/// Checks that nothing of a removed client belongs to the one that gets its id.
async fn check_registration_again<S: Deployment>(deployment: &S) -> Result<()> {
    let service = ServiceProcess::start(deployment, &ManualClock::default(), seed::settings().with_smart_access()?);
    // The name is the same, the key is another one.
    let (before, after) = (SmartClient::new_es384("lab")?, SmartClient::new_es384("lab")?);
    register_again(&service, &before, "1").await?;
    let old = service.token(&before, "system/Patient.read").await?;
    let with_key = |token: &str| {
        let mut request = TestRequest::new("GET", "/$export?_type=Patient").with_bearer_token(token);
        request.headers.push(("idempotency-key", "same".to_owned()));
        request
    };
    let accepted = service.send(&with_key(&old)).await?;
    let url = accepted.header("content-location").ok_or("no status URL")?;
    let status = url.get(url.find("/_operations").ok_or("no path")?..).ok_or("no path")?.to_owned();
    service.set_client(&before, "system/Patient.read");
    let export = service.complete(&status).await?;
    let file = export.manifest.output.first().ok_or("no file")?.url.clone();
    let file = file.get(file.find("/_operations").ok_or("no path")?..).ok_or("no path")?;

    register_again(&service, &after, "2").await?;
    for target in [status.as_str(), file, "/_operations/export", "/$export?_type=Patient"] {
        assert_eq!(send(&service, target, &old).await?.status, 401, "{target}: the token ended with the registration");
    }
    let new = service.token(&after, "system/*.rs").await?;
    for (method, target) in [("GET", status.as_str()), ("GET", file), ("DELETE", status.as_str())] {
        let response = service.send(&TestRequest::new(method, target).with_bearer_token(&new)).await?;
        assert_eq!(response.status, 404, "{method} {target}");
    }
    let list = send(&service, "/_operations/export", &new).await?.json()?;
    assert!(list.get("entry").and_then(Value::as_array).is_none_or(Vec::is_empty), "{list}");
    let again = service.send(&with_key(&new)).await?;
    assert!(again.status == 202 && again.header("content-location") != Some(url), "{again:?}");
    Ok(())
}

// Holds: SEC-A13, SEC-A16
#[test]
fn a_client_that_is_registered_again_gets_no_export_and_no_token_of_the_one_before() -> Result<()> {
    run(async || {
        check_registration_again(&seed::aws_deployment().await?).await?;
        let lake = seed::lake_objects();
        let files: Vec<(&str, &[u8])> = lake.iter().map(|(object, bytes)| (*object, bytes.as_slice())).collect();
        check_registration_again(&LocalDeployment::with_files(&files).await?).await
    })
}

// Holds: SEC-A13
#[test]
fn new_keys_end_the_tokens_of_the_old_ones_and_leave_the_exports() -> Result<()> {
    run(async || {
        let (client, next) = (SmartClient::new_es384("ehr")?, SmartClient::new_es384("ehr")?);
        let service = start_service(&[&client]).await?;
        let old = service.token(&client, "system/Patient.read").await?;
        let status = kick_off(&service, &old).await?;
        let store = service.deployment.job_store();
        let mut registration = store.client(&Caller(client.id.clone())).await?.ok_or("not registered")?;
        let seen = registration.changed_at;
        registration.replace_keys(ClientKeys::Jwks(next.jwks()?));
        registration.changed_at = Millis(seen.0 + 1);
        assert!(store.put_client(&registration, Some(seen)).await?);
        assert_eq!(send(&service, &status, &old).await?.status, 401);
        let new = service.token(&next, "system/Patient.read").await?;
        assert_eq!(send(&service, &status, &new).await?.status, 202);
        Ok(())
    })
}

// Holds: SEC-A13
#[test]
fn tokens_of_two_signing_keys_are_valid_together_and_the_old_key_expires() -> Result<()> {
    run(async || {
        let client = SmartClient::new_es384("ehr")?;
        let before = start_service(&[&client]).await?;
        let old = before.token(&client, "system/Patient.read").await?;
        let status = kick_off(&before, &old).await?;
        // A process with another key has not seen the first key, and must look it up.
        let after = ServiceProcess::start(&before.deployment, &before.clock, seed::settings().with_smart_access()?);
        let new = after.token(&client, "system/Patient.read").await?;
        for service in [&before, &after] {
            for token in [&old, &new] {
                assert_eq!(send(service, &status, token).await?.status, 202);
            }
        }
        // The record of the old key expires, so that a key stolen later is useless.
        let kid = parse_token(&old)?.0["kid"].as_str().ok_or("no kid")?.to_owned();
        let recorded = before.deployment.job_store().token_key(&kid).await?.ok_or("no key")?;
        let left = recorded.expires_at.since(before.now());
        assert!(left >= Duration::from_secs(3_900) && left <= Duration::from_secs(4 * 3_600), "{left:?}");
        // The export continues with tokens of the new key.
        drop(before);
        after.set_client(&client, "system/Patient.read");
        after.complete(&status).await?;
        Ok(())
    })
}

/// Checks that a stolen signing key can be revoked: its tokens are valid whatever they claim, until the key expires or is removed.
// Holds: SEC-A13
#[test]
fn a_signing_key_is_trusted_until_it_expires_and_for_five_minutes_after_removal() -> Result<()> {
    run(async || {
        let (client, folder) = (SmartClient::new_es384("ehr")?, tempfile::tempdir()?);
        let service = start_service(&[&client]).await?;
        let signer = FileSigner::open_or_create(folder.path(), Millis(0))?;
        let (public, now) = (signer.key().await?, service.now());
        let kid = key_id(&public);
        let alg = public.algorithm.as_str();
        let header = json!({ "alg": alg, "kid": kid, "typ": "at+jwt" });
        let claims = json!({
            "iss": service.base(), "aud": service.base(), "sub": "ehr", "client_id": "ehr", "scope": "system/*.rs", "jti": "1",
            "iat": now.0 / 1_000, "exp": 4_000_000_000_u64
        });
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims.to_string()));
        let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(signer.sign(message.as_bytes()).await?));
        let list = async || Ok::<_, headrace_core::vocab::error::BoxError>(send(&service, "/_operations/export", &token).await?.status);
        assert_eq!(list().await?, 401, "an unknown key must be rejected");
        let recorded = |until| TokenKey { kid: kid.clone(), alg: alg.to_owned(), pem: to_pem(&public), expires_at: until };
        service.deployment.job_store().put_token_key(&recorded(now + Duration::from_secs(400))).await?;
        assert_eq!(list().await?, 200);
        // The key is now cached.
        service.clock.advance(Duration::from_secs(299));
        assert_eq!(list().await?, 200);
        service.clock.advance(Duration::from_secs(101));
        assert_eq!(list().await?, 401, "the record of the key has expired");
        service.deployment.job_store().put_token_key(&recorded(service.now() + Duration::from_secs(10_000))).await?;
        assert_eq!(list().await?, 200);
        let key = |text: String| aws_sdk_dynamodb::types::AttributeValue::S(text);
        let delete = service.deployment.dynamo().delete_item().table_name("headrace");
        delete.key("pk", key(format!("TOKENKEY#{kid}"))).key("sk", key("TOKENKEY".to_owned())).send().await?;
        service.clock.advance(Duration::from_secs(300));
        assert_eq!(list().await?, 401, "the operator has removed the key");
        Ok(())
    })
}
