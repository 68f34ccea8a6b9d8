//! Access tokens of the operator's identity provider.

use std::sync::Arc;
use std::time::Duration;

use headrace_core::access::{ClientKeys, Scopes};
use headrace_core::vocab::ids::Caller;
use headrace_edge::config::ExternalTerms;
use headrace_fhir::FhirVersion;
use headrace_local::server::service::Access;
use headrace_tests::flows::{Answer, Ask, Aws, Client, ManualClock, Result, Terms, World, run, seed};
use serde_json::{Value, json};

use crate::key_server::KeyServer;

const ISSUER: &str = "https://login.example/realm";

/// A deployment that believes the provider.
async fn open(server: &KeyServer, scope_claim: &str) -> Result<Arc<World<Aws>>> {
    let access = Access::External(ExternalTerms {
        issuer: ISSUER.to_owned(),
        audience: "https://fhir.example".to_owned(),
        jwks_url: server.url().to_owned(),
        scope_claim: scope_claim.to_owned(),
        token_url: Some("https://login.example/realm/token".to_owned()),
        version: FhirVersion::default(),
    });
    let terms = Terms { access: Some(access), ..seed::terms() };
    Ok(World::start(&seed::aws().await?, &ManualClock::default(), terms))
}

/// A good token's claims.
fn claims(world: &World<Aws>) -> Value {
    let exp = world.now().0 / 1_000 + 600;
    json!({ "iss": ISSUER, "aud": ["account", "https://fhir.example"], "sub": "svc-7", "exp": exp, "scope": "openid system/Patient.read" })
}

async fn list(world: &World<Aws>, token: &str) -> Result<Answer> {
    world.send(&Ask::new("GET", "/_operations/export").bearer(token)).await
}

// Holds: SEC-A2, SEC-A13
#[test]
fn a_token_of_the_provider_opens_and_what_is_wrong_with_one_does_not() -> Result<()> {
    run(async || {
        for provider in [Client::es384("provider")?, Client::rs384("provider")?] {
            let server = KeyServer::start(provider.jwks()?).await?;
            let world = open(&server, "scope").await?;
            let moment = world.now().0 / 1_000;
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
                let mut claims = claims(&world);
                claims[name] = value;
                // Providers write `JWT`, `at+jwt` or nothing.
                let answer = list(&world, &provider.sign(&provider.header(), &claims)?).await?;
                assert_eq!(answer.status, status, "{name} {}", claims[name]);
            }
            let stranger = Client::es384("provider")?;
            assert_eq!(list(&world, &stranger.sign(&provider.header(), &claims(&world))?).await?.status, 401);
            let mut confused = provider.header();
            confused["alg"] = json!("HS256");
            assert_eq!(list(&world, &provider.sign(&confused, &claims(&world))?).await?.status, 401);
            assert_eq!(server.asked(), 1, "its keys are kept");
        }
        Ok(())
    })
}

#[test]
fn scopes_are_read_from_the_claim_that_the_provider_uses() -> Result<()> {
    run(async || {
        let provider = Client::es384("provider")?;
        let server = KeyServer::start(provider.jwks()?).await?;
        for (claim, value, kicked_off) in [
            ("scope", json!("openid system/Patient.read"), 202),
            ("scp", json!(["system/Patient.read", "openid"]), 202),
            ("scp", json!("system/Patient.rs"), 202),
            ("roles", json!({ "system/Patient.rs": 1 }), 403),
            ("scp", json!(null), 403),
        ] {
            let world = open(&server, claim).await?;
            let mut claims = claims(&world);
            claims.as_object_mut().map(|claims| claims.remove("scope"));
            claims[claim] = value;
            let token = provider.sign(&provider.header(), &claims)?;
            let answer = world.send(&Ask::new("GET", "/$export?_type=Patient").bearer(&token)).await?;
            assert_eq!(answer.status, kicked_off, "{claim} {}: {answer:?}", claims[claim]);
            if kicked_off == 403 {
                assert_eq!(answer.header("www-authenticate"), Some("Bearer realm=\"headrace\", error=\"insufficient_scope\""));
            }
        }
        Ok(())
    })
}

#[test]
fn a_provider_that_does_not_answer_is_asked_again_later() -> Result<()> {
    run(async || {
        let provider = Client::es384("provider")?;
        let server = KeyServer::start(provider.jwks()?).await?;
        let world = open(&server, "scope").await?;
        let token = provider.sign(&provider.header(), &claims(&world))?;
        server.answers(500, &[], "canary-7f3a");
        let answer = list(&world, &token).await?;
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("5")));
        assert!(!String::from_utf8_lossy(&answer.body).contains("canary"));
        server.answers(200, &[], provider.jwks()?);
        assert_eq!(list(&world, &token).await?.status, 200);
        // Its keys are kept for five minutes where it does not say how long.
        world.clock.advance(Duration::from_secs(299));
        assert_eq!(list(&world, &token).await?.status, 200);
        assert_eq!(server.asked(), 2);
        world.clock.advance(Duration::from_secs(1));
        assert_eq!(list(&world, &token).await?.status, 200);
        assert_eq!(server.asked(), 3);
        Ok(())
    })
}

#[test]
fn a_registration_limits_a_caller_who_is_known_elsewhere() -> Result<()> {
    run(async || {
        let provider = Client::es384("provider")?;
        let server = KeyServer::start(provider.jwks()?).await?;
        let world = open(&server, "scope").await?;
        let token = provider.sign(&provider.header(), &claims(&world))?;
        let mut registration = world.registration(&provider, "system/Device.rs")?;
        registration.id = Caller(format!("{ISSUER}#svc-7"));
        registration.keys = ClientKeys::Elsewhere;
        let kick_off = Ask::new("GET", "/$export?_type=Patient").bearer(&token);
        assert_eq!(world.send(&kick_off).await?.status, 202);
        world.put_client(&registration).await?;
        assert_eq!(world.send(&kick_off).await?.status, 403, "it may read devices alone");
        registration.scopes = Scopes::Everything;
        world.put_client(&registration).await?;
        assert_eq!(world.send(&kick_off).await?.status, 202);
        registration.is_disabled = true;
        world.put_client(&registration).await?;
        assert_eq!(world.send(&kick_off).await?.status, 401);
        Ok(())
    })
}
