//! The servers that access tokens go to, and the answers to a request for one.

use std::time::Duration;

use headrace_local::client::bulk::{BulkClient, ClientError, ClientLimits, ClientSettings, Credential, LoginSettings};
use headrace_local::client::login::ClientCredential;
use headrace_local::client::login::LoginError;
use headrace_local::stores::client_key::{GeneratedKey, KeyAlgorithm, read_client_key};
use headrace_tests::flows::{Result, run};

use crate::exchange::{ExchangeSettings, PATIENTS, PauseClock, TOKEN, exchange};
use crate::stub::{Answer, Routes, Stub, answer};

/// Returns a manifest whose file is on the other server.
fn manifest_elsewhere(requires_token: bool) -> String {
    format!(
        r#"{{"transactionTime":"2026-01-01T00:00:00Z","requiresAccessToken":{requires_token},
        "output":[{{"type":"Patient","url":"{{OTHER}}/files/1","count":2}}]}}"#
    )
}

#[test]
fn the_token_goes_to_no_other_server_that_is_not_allowed_by_name() -> Result<()> {
    run(async || {
        let elsewhere = || answer(200, manifest_elsewhere(true));
        let file = || answer(200, PATIENTS);
        let manifest = || answer(200, crate::exchange::MANIFEST.replace("{BASE}/files", "{OTHER}/files"));
        let redirect = |path: &str| answer(307, "").with("Location", format!("{{OTHER}}{path}"));
        let rows = [
            ("a file URL", vec![("GET /status", vec![elsewhere()]), ("other GET /files/1", vec![file()])]),
            ("a file of the usual manifest", vec![("GET /status", vec![manifest()]), ("other GET /files/1", vec![file()])]),
            ("a redirect of a file", vec![("GET /files/1", vec![redirect("/files/1")]), ("other GET /files/1", vec![file()])]),
            (
                "a redirect of the status",
                vec![
                    ("GET /status", vec![redirect("/status")]),
                    ("other GET /status", vec![elsewhere()]),
                    ("other GET /files/1", vec![file()]),
                ],
            ),
            (
                "a redirect of the kick-off",
                vec![
                    ("GET /fhir/$export", vec![redirect("/export")]),
                    ("other GET /export", vec![answer(202, "").with("Content-Location", "{BASE}/status")]),
                ],
            ),
            (
                "a Content-Location",
                vec![
                    ("GET /fhir/$export", vec![answer(202, "").with("Content-Location", "{OTHER}/status")]),
                    ("other GET /status", vec![elsewhere()]),
                    ("other GET /files/1", vec![file()]),
                    ("other DELETE /status", vec![answer(202, "")]),
                ],
            ),
        ];
        for (name, answers) in rows {
            for trusts_other in [false, true] {
                let settings = ExchangeSettings { has_token: true, trusts_other, limits: ClientLimits::default() };
                let outcome = exchange(&answers, settings).await?;
                assert!(outcome.files.is_ok(), "{name}: {:?}", outcome.files);
                let requests = outcome.other.all_requests();
                assert!(!requests.is_empty(), "{name}");
                let expected = trusts_other.then(|| format!("Bearer {TOKEN}"));
                for request in requests {
                    assert_eq!(request.header("authorization"), expected.as_deref(), "{name}: {request:?}");
                }
                for request in outcome.server.all_requests() {
                    assert_eq!(request.header("authorization"), Some(format!("Bearer {TOKEN}").as_str()), "{name}: {request:?}");
                }
            }
        }
        Ok(())
    })
}

#[test]
fn a_file_that_needs_no_token_gets_none_and_one_that_lacks_it_says_which_option_allows_it() -> Result<()> {
    run(async || {
        let settings = ExchangeSettings { has_token: true, trusts_other: false, limits: ClientLimits::default() };
        let public = answer(200, crate::exchange::MANIFEST.replace("\"requiresAccessToken\":true", "\"requiresAccessToken\":false"));
        let outcome = exchange(&[("GET /status", vec![public])], settings).await?;
        assert!(outcome.files.is_ok(), "{:?}", outcome.files);
        assert_eq!(outcome.server.requests("GET", "/files/1")[0].header("authorization"), None);
        let needs_token = [("GET /status", vec![answer(200, manifest_elsewhere(true))]), ("other GET /files/1", vec![answer(401, "")])];
        let error = exchange(&needs_token, settings).await?.files.unwrap_err();
        assert!(error.contains("401") && error.contains("--token-origin"), "{error}");
        Ok(())
    })
}

/// Returns login settings with a new key.
fn login(folder: &tempfile::TempDir) -> Result<LoginSettings> {
    let path = folder.path().join("private.jwk");
    std::fs::write(&path, GeneratedKey::new(KeyAlgorithm::Es384)?.private.to_string())?;
    Ok(LoginSettings {
        client_id: "lab".to_owned(),
        credential: ClientCredential::Key(read_client_key(&path, None)?),
        scope: None,
        token_url: None,
    })
}

/// Kicks off an export at a server whose token endpoint gives this answer. Returns the error and the stub.
async fn kick_off(token_answer: Answer) -> Result<(std::result::Result<(), ClientError>, Stub)> {
    let (listener, origin) = Stub::bind().await?;
    let routes = Routes::from([
        ("GET /fhir/.well-known/smart-configuration".to_owned(), vec![answer(200, r#"{"token_endpoint":"{BASE}/token"}"#)]),
        ("POST /token".to_owned(), vec![token_answer]),
        ("GET /fhir/$export".to_owned(), vec![answer(202, "").with("Content-Location", "/status")]),
    ]);
    let stub = Stub::start(listener, &origin, routes, &[("{BASE}", &origin)]);
    let (folder, base) = (tempfile::tempdir()?, format!("{origin}/fhir"));
    let client = BulkClient::with_login(login(&folder)?, &base, None)?;
    Ok((client.kick_off(&base, "$export", &[], false).await.map(drop), stub))
}

#[test]
fn a_token_response_of_any_kind_causes_no_panic_and_is_validated() -> Result<()> {
    run(async || {
        for expires_in in ["18446744073709551615", "1e308", "\"300\"", "-1", "0", "null"] {
            let (result, stub) =
                kick_off(answer(200, format!(r#"{{"access_token":"t","token_type":"Bearer","expires_in":{expires_in}}}"#))).await?;
            assert!(result.is_ok(), "{expires_in}: {result:?}");
            assert_eq!(stub.requests("GET", "/fhir/$export")[0].header("authorization"), Some("Bearer t"), "{expires_in}");
        }
        for (token_answer, words) in [
            (answer(200, r#"{"access_token":"t","token_type":"DPoP"}"#), "`DPoP`"),
            (answer(200, r#"{"access_token":"a\r\nX-Evil: 1"}"#), "does not contain an access token"),
            (answer(200, "{\"access_token\":\"").endless(), "longer than 1048576 bytes"),
            (answer(200, "<html>"), "does not contain an access token"),
            (answer(307, "").with("Location", "/elsewhere"), "307"),
            (answer(400, r#"{"error":"invalid_client","error_description":"\u001b[2Jno"}"#), "invalid_client: \\u{1b}[2Jno"),
        ] {
            let (result, stub) = kick_off(token_answer).await?;
            let error = match result {
                Err(ClientError::Login(error)) => error,
                other => return Err(format!("{words}: {other:?}").into()),
            };
            let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            assert!(format!("{error}: {cause}").contains(words), "{words}: {error}: {cause}");
            assert_eq!(stub.requests("GET", "/fhir/$export").len() + stub.requests("POST", "/elsewhere").len(), 0, "{words}");
        }
        Ok(())
    })
}

#[test]
fn a_token_endpoint_that_is_busy_is_asked_again_before_the_kick_off() -> Result<()> {
    run(async || {
        let (listener, origin) = Stub::bind().await?;
        let busy = answer(429, r#"{"error":"slow_down"}"#).with("Retry-After", "120");
        let token = answer(200, r#"{"access_token":"t","token_type":"Bearer"}"#);
        let configuration = answer(200, r#"{"token_endpoint":"{BASE}/token"}"#);
        let routes = Routes::from([
            ("GET /fhir/.well-known/smart-configuration".to_owned(), vec![answer(503, ""), configuration]),
            ("POST /token".to_owned(), vec![busy, answer(503, ""), token]),
            ("GET /fhir/$export".to_owned(), vec![answer(202, "").with("Content-Location", "/status")]),
        ]);
        let stub = Stub::start(listener, &origin, routes, &[("{BASE}", &origin)]);
        let (folder, base, clock) = (tempfile::tempdir()?, format!("{origin}/fhir"), PauseClock::default());
        let credential = Credential::BackendServices(login(&folder)?);
        let client = BulkClient::new(&base, credential, ClientSettings::default(), clock.clone())?;
        client.kick_off(&base, "$export", &[], false).await?;
        let pauses: Vec<u64> = clock.pauses().iter().map(Duration::as_secs).collect();
        assert_eq!((pauses, stub.requests("GET", "/fhir/$export").len()), (vec![1, 120, 4], 1));
        Ok(())
    })
}

#[test]
fn no_credential_is_used_at_a_server_beyond_this_machine_without_tls() -> Result<()> {
    run(async || {
        let folder = tempfile::tempdir()?;
        let error = BulkClient::with_login(login(&folder)?, "http://fhir.example.org/r4", None).err().ok_or("accepted")?;
        assert!(matches!(error, ClientError::Url(_)), "{error}");
        assert!(error.to_string().contains("https://"), "{error}");
        let insecure = LoginSettings { token_url: Some("http://auth.example.org/token".parse()?), ..login(&folder)? };
        let client = BulkClient::with_login(insecure, "https://fhir.example.org/r4", None)?;
        let error = client.kick_off("https://fhir.example.org/r4", "$export", &[], false).await;
        assert!(matches!(error, Err(ClientError::Login(LoginError::InsecureTokenUrl(_)))), "{error:?}");
        Ok(())
    })
}
