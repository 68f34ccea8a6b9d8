//! Key sets of clients: selection of keys, caching, and failed fetches.

use std::sync::Arc;
use std::time::Duration;

use headrace_core::access::ClientKeys;
use headrace_tests::flows::logs::CapturedLogs;
use headrace_tests::flows::{
    AwsDeployment, DeploymentSettings, ManualClock, Result, ServiceProcess, SmartClient, TestRequest, TestResponse, run, token_request_form,
};
use serde_json::{Value, json};

use crate::key_server::KeyServer;

/// Starts a deployment with a client that is registered with the URL of its keys.
async fn start_service(client: &SmartClient, url: &str) -> Result<Arc<ServiceProcess<AwsDeployment>>> {
    let service =
        ServiceProcess::start(&AwsDeployment::new().await?, &ManualClock::default(), DeploymentSettings::default().with_smart_access()?);
    register(&service, client, ClientKeys::JwksUrl(url.to_owned())).await?;
    Ok(service)
}

/// Registers the client with these keys.
async fn register(service: &ServiceProcess<AwsDeployment>, client: &SmartClient, keys: ClientKeys) -> Result<()> {
    let mut registration = service.registration(client, "system/*.rs")?;
    registration.keys = keys;
    service.put_client(&registration).await
}

/// Sends a token request whose assertion has these additional JWT headers.
async fn send_assertion(service: &ServiceProcess<AwsDeployment>, client: &SmartClient, more: &[(&str, &str)]) -> Result<TestResponse> {
    let mut header = client.assertion_header();
    for (name, value) in more {
        header.as_object_mut().ok_or("the JWT header is not an object")?.insert((*name).to_owned(), json!(value));
    }
    let assertion = client.sign(&header, &client.assertion_claims(&service.token_url(), service.now()))?;
    service.send(&TestRequest::form_post("/token", token_request_form(&assertion, "system/Patient.rs"))).await
}

/// Returns the `error_description` of an error response.
fn description(response: &TestResponse) -> Result<String> {
    Ok(response.json()?.get("error_description").and_then(Value::as_str).ok_or("no description")?.to_owned())
}

// Holds: SEC-A4, SEC-A8
#[test]
fn keys_are_fetched_from_the_registered_url_and_jku_cannot_override_it() -> Result<()> {
    run(async || {
        for client in [SmartClient::new_es384("ehr")?, SmartClient::new_rs384("ehr")?] {
            let (server, evil) = (KeyServer::start(client.jwks()?).await?, KeyServer::start(client.jwks()?).await?);
            let service = start_service(&client, server.url()).await?;
            assert_eq!(send_assertion(&service, &client, &[]).await?.status, 200);
            assert_eq!(send_assertion(&service, &client, &[("jku", server.url())]).await?.status, 200);
            for jku in [evil.url(), "", &format!("{}/", server.url()), &server.url().to_uppercase()] {
                assert_eq!(send_assertion(&service, &client, &[("jku", jku)]).await?.status, 401, "{jku}");
            }
            assert_eq!(evil.request_count(), 0);
            assert!(server.all_requests_accept_json());
        }
        Ok(())
    })
}

/// Returns a JSON Web Key Set of these keys.
fn key_set(keys: &[Value]) -> String {
    json!({ "keys": keys }).to_string()
}

/// Returns a copy of the key with one member replaced or added.
fn with_member(jwk: &Value, name: &str, value: Value) -> Value {
    let mut jwk = jwk.clone();
    jwk.as_object_mut().into_iter().for_each(|members| drop(members.insert(name.to_owned(), value.clone())));
    jwk
}

// Holds: SEC-A4, SEC-A8
#[test]
fn a_key_set_must_hold_exactly_one_suitable_key_with_the_key_id() -> Result<()> {
    run(async || {
        let (ec, rsa, other) = (SmartClient::new_es384("ehr")?, SmartClient::new_rs384("ehr")?, SmartClient::new_es384("ehr")?);
        let service = start_service(&ec, "https://ehr.example/jwks").await?;
        let (jwk, of_rsa, of_other) = (ec.jwk()?, rsa.jwk()?, other.jwk()?);
        let symmetric = json!({ "kty": "oct", "kid": ec.kid, "k": "c2VjcmV0" });
        for (name, keys, is_good) in [
            ("alone", key_set(std::slice::from_ref(&jwk)), true),
            (
                "among others",
                key_set(&[with_member(&of_other, "kid", json!("older")), jwk.clone(), json!({ "kty": "OKP" }), json!(7), json!({})]),
                true,
            ),
            ("beside a key of the same name and another kind", key_set(&[of_rsa.clone(), symmetric.clone(), jwk.clone()]), true),
            ("without use and alg", key_set(&[json!({ "kty": "EC", "crv": "P-384", "kid": ec.kid, "x": jwk["x"], "y": jwk["y"] })]), true),
            ("for signatures", key_set(&[with_member(&with_member(&jwk, "use", json!("sig")), "key_ops", json!(["verify"]))]), true),
            ("twice", key_set(&[jwk.clone(), jwk.clone()]), false),
            ("two of one name", key_set(&[of_other.clone(), jwk.clone()]), false),
            ("another key of that name", key_set(&[of_other]), false),
            ("under another name", key_set(&[with_member(&jwk, "kid", json!("another"))]), false),
            ("without a name", key_set(&[json!({ "kty": "EC", "crv": "P-384", "x": jwk["x"], "y": jwk["y"] })]), false),
            ("of another kind alone", key_set(&[of_rsa]), false),
            ("symmetric", key_set(&[symmetric]), false),
            ("on another curve", key_set(&[with_member(&jwk, "crv", json!("P-256"))]), false),
            ("said to be RSA", key_set(&[with_member(&jwk, "kty", json!("RSA"))]), false),
            ("for encryption", key_set(&[with_member(&jwk, "use", json!("enc"))]), false),
            ("for signing", key_set(&[with_member(&jwk, "key_ops", json!(["sign"]))]), false),
            ("for another algorithm", key_set(&[with_member(&jwk, "alg", json!("ES256"))]), false),
            ("half", key_set(&[with_member(&jwk, "y", json!(""))]), false),
            ("not on the curve", key_set(&[with_member(&jwk, "y", jwk["x"].clone())]), false),
            ("no set", jwk.to_string(), false),
            ("a list", json!([jwk]).to_string(), false),
            ("too many", key_set(&vec![jwk.clone(); 101]), false),
            ("empty", key_set(&[]), false),
            ("nothing", String::new(), false),
            ("deep", format!("{{\"keys\":[{}", "[".repeat(100_000)), false),
        ] {
            register(&service, &ec, ClientKeys::Jwks(keys)).await?;
            assert_eq!(send_assertion(&service, &ec, &[]).await?.status, if is_good { 200 } else { 401 }, "{name}");
        }
        Ok(())
    })
}

// Holds: SEC-A8
#[test]
fn an_rsa_key_that_is_too_short_is_rejected() -> Result<()> {
    run(async || {
        let client = SmartClient::new_rs384("ehr")?;
        let service = start_service(&client, "https://ehr.example/jwks").await?;
        let jwk = client.jwk()?;
        let modulus = jwk["n"].as_str().ok_or("no modulus")?;
        for (n, status) in [(modulus, 200), (modulus.get(..171).ok_or("short")?, 401), ("AQAB", 401), ("", 401)] {
            register(&service, &client, ClientKeys::Jwks(key_set(&[with_member(&jwk, "n", json!(n))]))).await?;
            assert_eq!(send_assertion(&service, &client, &[]).await?.status, status, "{n}");
        }
        Ok(())
    })
}

// Holds: SEC-A9
#[test]
fn a_key_set_is_cached_as_long_as_its_cache_headers_allow() -> Result<()> {
    run(async || {
        let client = SmartClient::new_es384("ehr")?;
        let server = KeyServer::start(client.jwks()?).await?;
        let service = start_service(&client, server.url()).await?;
        let mut before = 0;
        for (headers, seconds, fetches) in [
            // Without cache headers, the set is fetched again after the shortest interval between two fetches.
            (&[][..], 0, 1),
            (&[], 9, 0),
            (&[], 1, 1),
            (&[("cache-control", "no-store, max-age=60")], 10, 1),
            (&[("cache-control", "no-store, max-age=60")], 9, 0),
            (&[("cache-control", "max-age=60")], 1, 1),
            (&[("cache-control", "max-age=60")], 59, 0),
            (&[("cache-control", "max-age=60"), ("age", "50")], 1, 1),
            (&[("cache-control", "max-age=60"), ("age", "50")], 9, 0),
            (&[("cache-control", "max-age=86400")], 1, 1),
            (&[("cache-control", "max-age=86400")], 3_599, 0),
            (&[("cache-control", "max-age=86400")], 1, 1),
        ] {
            server.set_response(200, headers, client.jwks()?);
            service.clock.advance(Duration::from_secs(seconds));
            assert_eq!(send_assertion(&service, &client, &[]).await?.status, 200);
            assert_eq!(server.request_count() - before, fetches, "{headers:?} after {seconds} s");
            before = server.request_count();
        }
        Ok(())
    })
}

// Holds: SEC-A8, SEC-A9
#[test]
fn a_new_key_is_fetched_within_seconds_and_a_withdrawn_key_is_rejected_after_the_fetch() -> Result<()> {
    run(async || {
        let (first, mut second) = (SmartClient::new_es384("ehr")?, SmartClient::new_es384("ehr")?);
        second.kid = "key-2".to_owned();
        let (kept, server) = ([("cache-control", "max-age=600")], KeyServer::start(String::new()).await?);
        server.set_response(200, &kept, first.jwks()?);
        let service = start_service(&first, server.url()).await?;
        assert_eq!(send_assertion(&service, &first, &[]).await?.status, 200);
        server.set_response(200, &kept, second.jwks()?);
        // An unknown key id triggers a new fetch, but not immediately: invented key ids must not cause a fetch each.
        for _ in 0..3 {
            assert_eq!(send_assertion(&service, &second, &[]).await?.status, 401);
        }
        assert_eq!(server.request_count(), 1);
        service.clock.advance(Duration::from_secs(10));
        assert_eq!(send_assertion(&service, &second, &[]).await?.status, 200);
        assert_eq!(server.request_count(), 2);
        assert_eq!(send_assertion(&service, &first, &[]).await?.status, 401, "the fetched set no longer contains it");
        service.clock.advance(Duration::from_secs(10));
        assert_eq!(send_assertion(&service, &first, &[]).await?.status, 401);
        assert_eq!(server.request_count(), 3);
        Ok(())
    })
}

// Holds: SEC-A10
#[test]
fn a_failed_key_fetch_is_reported_without_its_cause() -> Result<()> {
    run(async || {
        let client = SmartClient::new_es384("ehr")?;
        let (server, target) = (KeyServer::start(client.jwks()?).await?, KeyServer::start(client.jwks()?).await?);
        let service = start_service(&client, server.url()).await?;
        let mut said = Vec::new();
        for (status, headers, body) in [
            (404, &[][..], "canary-7f3a".to_owned()),
            (500, &[], String::new()),
            (302, &[("location", target.url())], client.jwks()?),
            (307, &[("location", target.url())], client.jwks()?),
            (204, &[], String::new()),
            (200, &[], format!("{}{}", client.jwks()?, " ".repeat(256 << 10))),
        ] {
            server.set_response(status, headers, body);
            service.clock.advance(Duration::from_secs(10));
            let response = send_assertion(&service, &client, &[]).await?;
            assert_eq!((response.status, &response.json()?["error"]), (401, &json!("invalid_client")), "{status}");
            said.push(description(&response)?);
        }
        assert_eq!(target.request_count(), 0, "a redirect is not followed");
        // A closed port, URLs that must not be fetched, and internal addresses.
        for url in [
            "http://127.0.0.1:1/jwks",
            "http://ehr.example/jwks",
            "https://169.254.169.254/",
            "https://10.0.0.1/jwks",
            "file:///etc/passwd",
        ] {
            let service = start_service(&client, url).await?;
            said.push(description(&send_assertion(&service, &client, &[]).await?)?);
        }
        assert!(said.iter().all(|description| *description == said[0] && description.contains("could not be fetched")), "{said:?}");
        server.set_response(200, &[], client.jwks()?);
        assert_eq!(send_assertion(&service, &client, &[]).await?.status, 401, "the failure is remembered");
        service.clock.advance(Duration::from_secs(10));
        assert_eq!(send_assertion(&service, &client, &[]).await?.status, 200);
        Ok(())
    })
}

/// Checks that `attempts` assertions with wrong keys, one after the other and at the same time, cause one fetch.
async fn check_single_fetch(server: &KeyServer, jwks_url: &str, attempts: usize) -> Result<()> {
    let (client, mut stranger) = (SmartClient::new_es384("ehr")?, SmartClient::new_es384("ehr")?);
    let service = start_service(&client, jwks_url).await?;
    let before = server.request_count();
    for attempt in 0..attempts {
        stranger.kid = format!("invented-{}", attempt / 2);
        assert_eq!(send_assertion(&service, &stranger, &[]).await?.status, 401);
    }
    let together = futures_util::future::join_all((0..attempts).map(|_| send_assertion(&service, &stranger, &[]))).await;
    assert!(together.into_iter().all(|response| response.is_ok_and(|response| response.status == 401)));
    assert_eq!(server.request_count() - before, 1, "{jwks_url}");
    Ok(())
}

// Holds: SEC-A9
#[test]
fn wrong_assertions_cause_one_fetch_in_ten_seconds_whatever_the_key_server_answers() -> Result<()> {
    run(async || {
        let server = KeyServer::start(SmartClient::new_es384("ehr")?.jwks()?).await?;
        let valid = SmartClient::new_es384("ehr")?.jwks()?;
        for (status, headers, body) in [
            (200, &[][..], valid.as_str()),
            (200, &[("cache-control", "no-store")], &valid),
            (200, &[("cache-control", "max-age=600")], &valid),
            (200, &[], "not a key set"),
            (404, &[], ""),
            (500, &[], ""),
            (302, &[("location", "http://127.0.0.1:1/")], ""),
        ] {
            server.set_response(status, headers, body);
            check_single_fetch(&server, server.url(), 20).await?;
        }
        Ok(())
    })
}

#[test]
fn a_key_set_that_cannot_be_fetched_leaves_a_line_in_the_log_without_its_query() -> Result<()> {
    let logs = CapturedLogs::default();
    let lines = tracing_subscriber::fmt().with_writer(logs.clone()).with_max_level(tracing::Level::INFO).with_ansi(false).finish();
    run(async || {
        let _guard = tracing::subscriber::set_default(lines);
        let client = SmartClient::new_es384("ehr")?;
        let service = start_service(&client, "http://127.0.0.1:1/jwks?secret=5").await?;
        for _ in 0..5 {
            assert_eq!(send_assertion(&service, &client, &[]).await?.status, 401);
        }
        Ok(())
    })?;
    let log = logs.text();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("a key set could not be read")).collect();
    let [line] = lines[..] else { return Err(format!("{} lines: {log}", lines.len()).into()) };
    assert!(line.contains("WARN") && line.contains("http://127.0.0.1:1/jwks") && !line.contains("secret"), "{line}");
    Ok(())
}
