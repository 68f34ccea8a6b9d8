//! Token requests: rules for client assertions, and error responses.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use headrace_core::access::ClientKeys;
use headrace_tests::flows::logs::CapturedLogs;
use headrace_tests::flows::{
    AwsDeployment, Deployment, DeploymentSettings, Fault, FaultInjector, LocalDeployment, ManualClock, Result, ServiceProcess, SmartClient,
    TestRequest, TestResponse, run, token_request_form,
};
use serde_json::{Value, json};

/// Starts a deployment with one registered client.
async fn start_service(client: &SmartClient) -> Result<Arc<ServiceProcess<AwsDeployment>>> {
    let service =
        ServiceProcess::start(&AwsDeployment::new().await?, &ManualClock::default(), DeploymentSettings::default().with_smart_access()?);
    service.register(client, "system/Patient.rs system/Observation.rs").await?;
    Ok(service)
}

/// Sends a token request with the assertion, for registered scopes.
async fn send_assertion<S: Deployment>(service: &ServiceProcess<S>, assertion: &str) -> Result<TestResponse> {
    service.send(&TestRequest::form_post("/token", token_request_form(assertion, "system/Patient.rs"))).await
}

/// Returns status, `error` and `error_description` of an error response.
fn token_error(response: &TestResponse) -> Result<(u16, String, String)> {
    let json = response.json()?;
    let text = |name: &str| json.get(name).and_then(Value::as_str).map(str::to_owned).ok_or_else(|| format!("{response:?} has no {name}"));
    assert_eq!(response.header("content-type"), Some("application/json"));
    assert_eq!((response.header("cache-control"), response.header("pragma")), (Some("no-store"), Some("no-cache")));
    let (error, description) = (text("error")?, text("error_description")?);
    // RFC 6749, section 5.2: printable ASCII without quotes and backslashes.
    assert!(description.bytes().all(|byte| matches!(byte, 0x20..=0x7e) && byte != b'"' && byte != b'\\'), "{description}");
    Ok((response.status, error, description))
}

/// Requests a token and checks the response and the claims.
async fn check_issued_token<S: Deployment>(deployment: &S, client: &SmartClient) -> Result<()> {
    let service = ServiceProcess::start(deployment, &ManualClock::default(), DeploymentSettings::default().with_smart_access()?);
    service.register(client, "system/Patient.rs system/Observation.rs").await?;
    let response = service.request_token(client, "system/*.read system/Device.read").await?;
    let json = response.json()?;
    assert_eq!(response.status, 200, "{response:?}");
    assert_eq!(response.header("content-type"), Some("application/json"));
    assert_eq!((response.header("cache-control"), response.header("pragma")), (Some("no-store"), Some("no-cache")));
    assert_eq!((json.get("token_type"), json.get("expires_in")), (Some(&json!("bearer")), Some(&json!(300))));
    let mut scopes: Vec<&str> = json.get("scope").and_then(Value::as_str).ok_or("the response has no scope")?.split(' ').collect();
    scopes.sort_unstable();
    assert_eq!(scopes, ["system/Observation.read", "system/Patient.read"]);
    assert_eq!(json.as_object().map(serde_json::Map::len), Some(4), "no refresh token: {json}");
    let token = json.get("access_token").and_then(Value::as_str).ok_or("the response has no access token")?;
    let pieces: Vec<Value> =
        token.split('.').take(2).map(|piece| Ok(serde_json::from_slice(&URL_SAFE_NO_PAD.decode(piece)?)?)).collect::<Result<_>>()?;
    let [header, claims] = pieces.as_slice() else { return Err("the access token is not a JWT".into()) };
    let seconds = service.now().0 / 1_000;
    assert_eq!(header["typ"], "at+jwt");
    assert_eq!((&claims["iss"], &claims["aud"]), (&json!(service.base()), &json!(service.base())));
    assert_eq!((&claims["sub"], &claims["client_id"]), (&json!(client.id), &json!(client.id)));
    assert_eq!((&claims["iat"], &claims["exp"]), (&json!(seconds), &json!(seconds + 300)));
    assert_eq!(claims.get("scope"), json.get("scope"));
    Ok(())
}

// Holds: SEC-A5, SEC-A6, SEC-A11, SEC-A14
#[test]
fn a_registered_client_gets_a_five_minute_token_for_the_scopes_it_may_have() -> Result<()> {
    run(async || {
        for client in [SmartClient::new_es384("ehr")?, SmartClient::new_rs384("ehr")?] {
            check_issued_token(&AwsDeployment::new().await?, &client).await?;
            check_issued_token(&LocalDeployment::with_files(&[]).await?, &client).await?;
        }
        Ok(())
    })
}

/// Name of the case, change to the header and claims of a valid assertion, and a part of the expected error description. `None` if the
/// assertion stays valid.
type Case = (&'static str, fn(&mut Value, &mut Value), Option<&'static str>);

/// Returns the number in seconds, or 0.
fn seconds(value: &Value) -> i64 {
    value.as_i64().unwrap_or_default()
}

/// Returns the time of the assertion: five minutes before its `exp`.
fn now(claims: &Value) -> i64 {
    seconds(&claims["exp"]) - 300
}

/// Returns the cases of [`every_rule_for_client_assertions_is_enforced`].
fn assertion_cases() -> Vec<Case> {
    vec![
        ("unchanged", |_, _| (), None),
        ("without typ", |header, _| drop(header.as_object_mut().map(|header| header.remove("typ"))), None),
        ("with a header that BDT adds", |header, _| header["kty"] = json!("EC"), None),
        ("typ in lower case", |header, _| header["typ"] = json!("jwt"), None),
        ("another typ", |header, _| header["typ"] = json!("at+jwt"), Some("typ is not JWT")),
        ("crit that is null", |header, _| header["crit"] = Value::Null, Some("has crit")),
        ("kid that is null", |header, _| header["kid"] = Value::Null, Some("can be parsed: three")),
        ("typ that is null", |header, _| header["typ"] = Value::Null, Some("can be parsed: three")),
        ("jku that is null", |header, _| header["jku"] = Value::Null, Some("can be parsed: three")),
        ("alg that is null", |header, _| header["alg"] = Value::Null, Some("can be parsed: three")),
        ("iss that is null", |_, claims| claims["iss"] = Value::Null, Some("claims cannot be read")),
        ("sub that is null", |_, claims| claims["sub"] = Value::Null, Some("claims cannot be read")),
        ("aud that is null", |_, claims| claims["aud"] = Value::Null, Some("claims cannot be read")),
        ("exp that is null", |_, claims| claims["exp"] = Value::Null, Some("claims cannot be read")),
        ("nbf that is null", |_, claims| claims["nbf"] = Value::Null, Some("claims cannot be read")),
        ("iat that is null", |_, claims| claims["iat"] = Value::Null, Some("claims cannot be read")),
        ("jti that is null", |_, claims| claims["jti"] = Value::Null, Some("claims cannot be read")),
        ("an empty crit", |header, _| header["crit"] = json!([]), Some("has crit")),
        ("crit", |header, _| header["crit"] = json!(["exp"]), Some("has crit")),
        ("alg none", |header, _| header["alg"] = json!("none"), Some("neither RS384 nor ES384")),
        ("alg of a symmetric key", |header, _| header["alg"] = json!("HS384"), Some("neither RS384 nor ES384")),
        ("alg that is not supported", |header, _| header["alg"] = json!("ES256"), Some("neither RS384 nor ES384")),
        ("alg in lower case", |header, _| header["alg"] = json!("es384"), Some("neither RS384 nor ES384")),
        ("alg of another key type", |header, _| header["alg"] = json!("RS384"), Some("is not registered here")),
        ("no alg", |header, _| drop(header.as_object_mut().map(|header| header.remove("alg"))), Some("can be parsed: three")),
        ("no kid", |header, _| drop(header.as_object_mut().map(|header| header.remove("kid"))), Some("no kid")),
        ("an empty kid", |header, _| header["kid"] = json!(""), Some("no kid")),
        ("a long kid", |header, _| header["kid"] = json!("k".repeat(257)), Some("no kid")),
        ("another kid", |header, _| header["kid"] = json!("another"), Some("is not registered here")),
        ("jku without a registered URL", |header, _| header["jku"] = json!("https://ehr.example/jwks"), Some("is not registered here")),
        ("no iss", |_, claims| drop(claims.as_object_mut().map(|claims| claims.remove("iss"))), Some("iss and sub")),
        ("no sub", |_, claims| drop(claims.as_object_mut().map(|claims| claims.remove("sub"))), Some("iss and sub")),
        ("another sub", |_, claims| claims["sub"] = json!("somebody"), Some("iss and sub")),
        ("an unknown client", |_, claims| (claims["sub"], claims["iss"]) = (json!("x"), json!("x")), Some("is not registered here")),
        (
            "a reserved client id",
            |_, claims| (claims["sub"], claims["iss"]) = (json!("local"), json!("local")),
            Some("the client is not registered here"),
        ),
        ("a list as sub", |_, claims| claims["sub"] = json!(["ehr"]), Some("claims cannot be read")),
        ("a list of audiences", |_, claims| claims["aud"] = json!(["https://else.example", claims["aud"]]), None),
        ("no aud", |_, claims| drop(claims.as_object_mut().map(|claims| claims.remove("aud"))), Some("aud is not")),
        ("another aud", |_, claims| claims["aud"] = json!("https://else.example/token"), Some("aud is not")),
        ("the base as aud", |_, claims| claims["aud"] = json!("https://abc123.execute-api.eu-central-1.amazonaws.com"), Some("aud is not")),
        ("an empty list of audiences", |_, claims| claims["aud"] = json!([]), Some("aud is not")),
        ("no exp", |_, claims| drop(claims.as_object_mut().map(|claims| claims.remove("exp"))), Some("no exp")),
        ("exp as text", |_, claims| claims["exp"] = json!(claims["exp"].to_string()), Some("claims cannot be read")),
        ("exp with a fraction", |_, claims| claims["exp"] = json!(seconds(&claims["exp"]) as f64 + 0.5), None),
        ("exp six minutes ahead, within the clock tolerance", |_, claims| claims["exp"] = json!(now(claims) + 360), None),
        ("exp more than six minutes ahead", |_, claims| claims["exp"] = json!(now(claims) + 361), Some("more than five minutes ahead")),
        ("exp in the far future", |_, claims| claims["exp"] = json!(1e300), Some("more than five minutes ahead")),
        ("exp less than a minute ago, within the clock tolerance", |_, claims| claims["exp"] = json!(now(claims) - 59), None),
        ("exp a minute ago", |_, claims| claims["exp"] = json!(now(claims) - 60), Some("has expired")),
        ("exp before 1970", |_, claims| claims["exp"] = json!(-1e300), Some("has expired")),
        ("iat and nbf now", |_, claims| (claims["nbf"], claims["iat"]) = (json!(now(claims)), json!(now(claims))), None),
        ("nbf a minute ahead, within the clock tolerance", |_, claims| claims["nbf"] = json!(now(claims) + 60), None),
        ("nbf more than a minute ahead", |_, claims| claims["nbf"] = json!(now(claims) + 61), Some("lies ahead")),
        ("iat more than a minute ahead", |_, claims| claims["iat"] = json!(now(claims) + 61), Some("lies ahead")),
        ("no jti", |_, claims| drop(claims.as_object_mut().map(|claims| claims.remove("jti"))), Some("no jti")),
        ("an empty jti", |_, claims| claims["jti"] = json!(""), Some("no jti")),
        ("a long jti", |_, claims| claims["jti"] = json!("j".repeat(257)), Some("no jti")),
        ("a jti of 256 bytes", |_, claims| claims["jti"] = json!("j".repeat(256)), None),
        ("a number as jti", |_, claims| claims["jti"] = json!(7), Some("claims cannot be read")),
        ("an unknown claim", |_, claims| claims["x"] = json!({ "iss": [1] }), None),
    ]
}

// Holds: SEC-A6, SEC-A7, SEC-A8, SEC-A10
#[test]
fn every_rule_for_client_assertions_is_enforced() -> Result<()> {
    run(async || {
        let client = SmartClient::new_es384("ehr")?;
        let service = start_service(&client).await?;
        for (name, change, expected) in assertion_cases() {
            let (mut header, mut claims) = (client.assertion_header(), client.assertion_claims(&service.token_url(), service.now()));
            change(&mut header, &mut claims);
            let response = send_assertion(&service, &client.sign(&header, &claims)?).await?;
            match expected {
                None => assert_eq!(response.status, 200, "{name}: {response:?}"),
                Some(words) => {
                    let (status, error, description) = token_error(&response)?;
                    assert_eq!((status, error.as_str()), (401, "invalid_client"), "{name}");
                    assert!(description.contains(words), "{name}: {description}");
                    assert!(response.header("www-authenticate").is_some(), "{name}");
                }
            }
        }
        Ok(())
    })
}

// Holds: SEC-A6, SEC-A10
#[test]
fn malformed_and_forged_assertions_are_rejected() -> Result<()> {
    run(async || {
        let client = SmartClient::new_es384("ehr")?;
        let service = start_service(&client).await?;
        let good = client.sign(&client.assertion_header(), &client.assertion_claims(&service.token_url(), service.now()))?;
        let (message, signature) = good.rsplit_once('.').ok_or("no JWT")?;
        let (header, payload) = message.split_once('.').ok_or("no JWT")?;
        let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let deep = "[".repeat(5_000);
        let twice = format!("{{\"alg\":\"none\",{}", client.assertion_header().to_string().trim_start_matches('{'));
        let tail = client.assertion_claims(&service.token_url(), service.now()).to_string();
        let two_subjects = format!("{{\"sub\":\"somebody\",{}", tail.trim_start_matches('{'));
        // Signed with the public key as a symmetric secret. A verifier that trusts the header's alg accepts it.
        let confused = {
            let message = format!("{}.{payload}", encode(&json!({ "alg": "HS384", "kid": client.kid, "typ": "JWT" }).to_string()));
            let secret = jsonwebtoken::EncodingKey::from_secret(client.jwks()?.as_bytes());
            let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &secret, jsonwebtoken::Algorithm::HS384)?;
            format!("{message}.{signature}")
        };
        for assertion in [
            "x",
            "..",
            ".",
            "a.b.c.d",
            message,
            &format!("{message}."),
            &format!("{}.{payload}.", encode(r#"{"alg":"none"}"#)),
            &format!("{good}="),
            &format!(" {good}"),
            &format!("{good}.x"),
            &format!("{header}.{signature}.{payload}"),
            &format!(
                "{}.{payload}.{signature}",
                encode(&format!(r#"{{"alg":"ES384","kid":"k","x":{deep}}}"#)).get(..7_000).unwrap_or_default()
            ),
            &format!("{}.{payload}.{signature}", encode(&deep).get(..6_000).unwrap_or_default()),
            &format!("{}.{payload}.{signature}", encode(r#"["ES384"]"#)),
            &format!("{}.{payload}.{signature}", encode(r#"{"alg":["ES384"],"kid":"k"}"#)),
            &client.sign_bytes(twice.as_bytes(), tail.as_bytes())?,
            &client.sign_bytes(client.assertion_header().to_string().as_bytes(), two_subjects.as_bytes())?,
            &client.sign_bytes(client.assertion_header().to_string().as_bytes(), b"[]")?,
            &client.sign_bytes(client.assertion_header().to_string().as_bytes(), b"\xff")?,
            &client.sign_bytes(
                client.assertion_header().to_string().as_bytes(),
                format!("{{\"x\":{}}}", deep.get(..3_000).unwrap_or_default()).as_bytes(),
            )?,
            &confused,
            &"e".repeat(9_000),
        ] {
            let response = send_assertion(&service, assertion).await?;
            let (status, error, _) = token_error(&response)?;
            assert_eq!((status, error.as_str()), (401, "invalid_client"), "{assertion}");
        }
        assert_eq!(send_assertion(&service, &good).await?.status, 200, "none of the rejected assertions may use up the valid one");
        Ok(())
    })
}

// Holds: SEC-A7, SEC-A10
#[test]
fn token_errors_do_not_reveal_whether_a_client_exists() -> Result<()> {
    run(async || {
        let (client, stranger, gone, elsewhere) = (
            SmartClient::new_es384("ehr")?,
            SmartClient::new_es384("ehr")?,
            SmartClient::new_es384("gone")?,
            SmartClient::new_es384("arn:aws:iam::1:user/ann")?,
        );
        let service = start_service(&client).await?;
        let mut disabled = service.registration(&gone, "system/*.rs")?;
        disabled.is_disabled = true;
        service.put_client(&disabled).await?;
        let mut known_elsewhere = service.registration(&elsewhere, "system/*.rs")?;
        known_elsewhere.keys = ClientKeys::External;
        service.put_client(&known_elsewhere).await?;
        let mut answers = Vec::new();
        for (who, key) in [("unknown", &client), ("ehr", &stranger), ("gone", &gone), ("arn:aws:iam::1:user/ann", &elsewhere)] {
            let mut claims = client.assertion_claims(&service.token_url(), service.now());
            (claims["iss"], claims["sub"]) = (json!(who), json!(who));
            answers.push(send_assertion(&service, &key.sign(&client.assertion_header(), &claims)?).await?);
        }
        for response in &answers {
            assert_eq!((response.status, &response.headers, &response.body), (401, &answers[0].headers, &answers[0].body));
        }
        Ok(())
    })
}

// Holds: SEC-A7
#[test]
fn an_assertion_is_accepted_once_across_all_processes() -> Result<()> {
    run(async || {
        let (client, other) = (SmartClient::new_es384("ehr")?, SmartClient::new_es384("other")?);
        let service = start_service(&client).await?;
        service.register(&other, "system/Patient.rs").await?;
        let another = ServiceProcess::start(&service.deployment, &service.clock, DeploymentSettings::default().with_smart_access()?);
        let claims = client.assertion_claims(&service.token_url(), service.now());
        let assertion = client.sign(&client.assertion_header(), &claims)?;
        // A forged assertion with the same jti does not use it up, and neither does a request for scopes that are not granted.
        let forged = assertion.replace(assertion.rsplit('.').next().ok_or("no signature")?, &"A".repeat(128));
        assert_eq!(send_assertion(&service, &forged).await?.status, 401);
        assert_eq!(
            token_error(&service.send(&TestRequest::form_post("/token", token_request_form(&assertion, "system/Device.rs"))).await?)?.1,
            "invalid_scope"
        );
        assert_eq!(send_assertion(&service, &assertion).await?.status, 200);
        for service in [&service, &another] {
            let (status, error, description) = token_error(&send_assertion(service, &assertion).await?)?;
            assert_eq!((status, error.as_str()), (401, "invalid_client"));
            assert!(description.contains("jti was used before"), "{description}");
        }
        // The jti is rejected in another assertion, and until the first assertion expires.
        let mut again = client.assertion_claims(&service.token_url(), service.now());
        again["jti"] = claims["jti"].clone();
        assert_eq!(send_assertion(&another, &client.sign(&client.assertion_header(), &again)?).await?.status, 401);
        service.clock.advance(Duration::from_millis(359_999));
        let (_, _, description) = token_error(&send_assertion(&another, &assertion).await?)?;
        assert!(description.contains("jti was used before"), "{description}");
        service.clock.advance(Duration::from_millis(1));
        assert!(token_error(&send_assertion(&another, &assertion).await?)?.2.contains("has expired"));
        // Another client may use the same jti.
        let mut of_other = other.assertion_claims(&service.token_url(), service.now());
        of_other["jti"] = claims["jti"].clone();
        assert_eq!(send_assertion(&service, &other.sign(&other.assertion_header(), &of_other)?).await?.status, 200);
        Ok(())
    })
}

// Holds: SEC-A7
#[test]
fn only_one_of_two_processes_accepts_an_assertion_that_both_check_concurrently() -> Result<()> {
    run(async || {
        let client = SmartClient::new_es384("ehr")?;
        let service = start_service(&client).await?;
        let faults = FaultInjector::new(|call| if call.name == "access.remember_assertion" { Fault::PauseBefore } else { Fault::None });
        let slow = ServiceProcess::start_with_faults(
            &service.deployment,
            &service.clock,
            DeploymentSettings::default().with_smart_access()?,
            faults,
        );
        let assertion = client.sign(&client.assertion_header(), &client.assertion_claims(&service.token_url(), service.now()))?;
        // Both processes have verified the assertion before either stores its jti.
        let (late, early) = tokio::join!(send_assertion(&slow, &assertion), async {
            let paused = slow.faults.next_pause().await;
            let early = send_assertion(&service, &assertion).await;
            paused.resume();
            early
        });
        assert_eq!(early?.status, 200);
        let (status, error, description) = token_error(&late?)?;
        assert_eq!((status, error.as_str()), (401, "invalid_client"));
        assert!(description.contains("jti was used before"), "{description}");
        Ok(())
    })
}

// Holds: SEC-A5, SEC-A10
#[test]
fn an_invalid_token_request_is_rejected_with_the_wrong_parameter() -> Result<()> {
    run(async || {
        let client = SmartClient::new_es384("ehr")?;
        let service = start_service(&client).await?;
        let assertion = || client.sign(&client.assertion_header(), &client.assertion_claims(&service.token_url(), service.now()));
        let form = |from: &str, to: &str| {
            Ok::<_, headrace_core::vocab::error::BoxError>(token_request_form(&assertion()?, "system/Patient.rs").replace(from, to))
        };
        let kind = "client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient%2Dassertion%2Dtype%3Ajwt%2Dbearer";
        for (body, status, expected, words) in [
            (form("grant_type=client_credentials&", "")?, 400, "invalid_request", "grant_type is missing"),
            (form("client_credentials", "authorization_code")?, 400, "unsupported_grant_type", "client_credentials"),
            (form("client_credentials", "Client_Credentials")?, 400, "unsupported_grant_type", "client_credentials"),
            (form(kind, "x=y")?, 400, "invalid_request", "client_assertion_type is not"),
            (form(kind, "client_assertion_type=not_an_assertion_type")?, 400, "invalid_request", "client_assertion_type is not"),
            (form("client_assertion=", "x=")?, 400, "invalid_request", "client_assertion is missing"),
            (form("scope=", "scope=a&scope=")?, 400, "invalid_request", "more than once"),
            (form("scope=", "x=%zz&scope=")?, 400, "invalid_request", "percent-encoded"),
            (form("scope=", &format!("x={}&scope=", "x".repeat(17_000)))?, 400, "invalid_request", "longer than 16 KiB"),
            (form("scope=", "client_secret=abc&scope=")?, 401, "invalid_client", "client secrets are not accepted; use private_key_jwt"),
            (
                "grant_type=client_credentials&client_id=ehr&client_secret=abc&scope=system/*.rs".to_owned(),
                401,
                "invalid_client",
                "client secrets are not accepted; use private_key_jwt",
            ),
            (form("scope=", "client_id=somebody&scope=")?, 401, "invalid_client", "client_id differs"),
            (form("scope=", "x=")?, 400, "invalid_scope", "scope is missing"),
            (token_request_form(&assertion()?, ""), 400, "invalid_scope", "scope is missing"),
            (token_request_form(&assertion()?, "launch fhirUser"), 400, "invalid_scope", "none of the requested scopes"),
            (
                token_request_form(&assertion()?, "system/Patient.write system/UnknownResource.read"),
                400,
                "invalid_scope",
                "none of the requested scopes",
            ),
            (String::new(), 400, "invalid_request", "grant_type is missing"),
        ] {
            let found = token_error(&service.send(&TestRequest::form_post("/token", body)).await?)?;
            assert_eq!((found.0, found.1.as_str()), (status, expected));
            assert!(found.2.contains(words), "{}", found.2);
        }
        let good = form("scope=", "client_id=ehr&scope=")?;
        let json = TestRequest {
            headers: vec![("content-type", "application/json".to_owned())],
            ..TestRequest::form_post("/token", good.clone())
        };
        assert_eq!(token_error(&service.send(&json).await?)?.1, "invalid_request");
        assert_eq!(service.send(&TestRequest::form_post("/token", good)).await?.status, 200);
        Ok(())
    })
}

// Holds: SEC-A10
#[test]
fn a_failing_store_makes_token_requests_temporarily_unavailable() -> Result<()> {
    run(async || {
        let client = SmartClient::new_es384("ehr")?;
        let service = start_service(&client).await?;
        for call in ["access.client", "access.put_token_key", "access.remember_assertion", "audit.add_record"] {
            let faults = FaultInjector::new(move |made| if made.name == call { Fault::FailBefore } else { Fault::None });
            let failing = ServiceProcess::start_with_faults(
                &service.deployment,
                &service.clock,
                DeploymentSettings::default().with_smart_access()?,
                faults,
            );
            let response = failing.request_token(&client, "system/Patient.rs").await?;
            let (status, error, _) = token_error(&response)?;
            assert_eq!((status, error.as_str(), response.header("retry-after")), (503, "temporarily_unavailable", Some("5")), "{call}");
        }
        Ok(())
    })
}

#[test]
fn assertions_and_tokens_are_never_logged() -> Result<()> {
    let logs = CapturedLogs::default();
    let lines = tracing_subscriber::fmt().with_writer(logs.clone()).with_max_level(tracing::Level::TRACE).with_ansi(false).finish();
    let secrets = run(async || {
        let _guard = tracing::subscriber::set_default(lines);
        let (client, stranger) = (SmartClient::new_es384("ehr")?, SmartClient::new_es384("ehr")?);
        let service = start_service(&client).await?;
        let claims = client.assertion_claims(&service.token_url(), service.now());
        let mut secrets = vec![client.sign(&client.assertion_header(), &claims)?, stranger.sign(&client.assertion_header(), &claims)?];
        for assertion in [&secrets[1], &secrets[0], &secrets[0]].map(Clone::clone) {
            let response = send_assertion(&service, &assertion).await?;
            secrets.extend(response.json()?.get("access_token").and_then(Value::as_str).map(str::to_owned));
        }
        assert_eq!(secrets.len(), 3);
        Ok(secrets)
    })?;
    let text = logs.text();
    assert!(text.contains("an access token was issued") && text.contains("the signature is wrong"), "{text}");
    for secret in secrets.iter().flat_map(|token| token.split('.').skip(1)) {
        assert!(!text.contains(secret), "{text}");
    }
    Ok(())
}
