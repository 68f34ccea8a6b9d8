//! Where a client learns how it gets a token.

use std::sync::Arc;

use headrace_core::vocab::clock::Millis;
use headrace_edge::config::ExternalTerms;
use headrace_fhir::FhirVersion;
use headrace_local::server::http;
use headrace_local::server::service::{Access, Plan, Service};
use headrace_local::stores::signer::FileSigner;
use headrace_tests::flows::{Answer, Ask, Aws, Client, ManualClock, OneMachine, Result, Stage, Terms, World, run, token_form};
use headrace_tests::lake;
use serde_json::{Value, json};
use tokio::net::TcpListener;

const DISCOVERY: &str = "/.well-known/smart-configuration";

/// What a deployment with a token endpoint at this URL must say.
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

async fn look<S: Stage>(world: &World<S>, headers: &[(&'static str, &str)]) -> Result<Answer> {
    let mut ask = Ask::new("GET", DISCOVERY);
    ask.headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    world.send(&ask).await
}

/// The token endpoint in the CapabilityStatement's extension, and the code of the security service.
async fn stated<S: Stage>(world: &World<S>) -> Result<(Option<Value>, Option<Value>)> {
    let statement = world.send(&Ask::new("GET", "/metadata")).await?.json()?;
    let said = |path: &str| statement.pointer(&format!("/rest/0/security/{path}")).cloned();
    assert_eq!(said("cors"), Some(json!(false)));
    let url = said("extension/0/extension/0/valueUri");
    let names = [said("extension/0/url"), said("extension/0/extension/0/url")];
    let oauth_uris = json!("http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris");
    assert!(url.is_none() || names == [Some(oauth_uris), Some(json!("token"))], "{statement}");
    Ok((url, said("service/0/coding/0/code")))
}

async fn is_found<S: Stage>(stage: &S) -> Result<()> {
    let (world, client) = (World::start(stage, &ManualClock::default(), Terms::default().smart()?), Client::es384("ehr")?);
    world.register(&client, "system/*.rs").await?;
    let accepted = ["application/json", "application/fhir+json", "application/fhir+xml", "text/html", "*/*", ";"];
    for headers in accepted.map(|accept| vec![("accept", accept)]).into_iter().chain([vec![]]) {
        let answer = look(&world, &headers).await?;
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")), "{headers:?}");
        assert_eq!(answer.json()?, document(&world.token_url()), "{headers:?}");
    }
    assert_eq!(stated(&world).await?, (Some(json!(world.token_url())), Some(json!("SMART-on-FHIR"))));
    // What it names is what an assertion must be for, whatever a client or a page makes a proxy say.
    let hostile = [("x-forwarded-host", "evil.example"), ("x-forwarded-proto", "http"), ("forwarded", "host=evil.example;proto=http")];
    let found = look(&world, &hostile).await?.json()?;
    let named = found.get("token_endpoint").and_then(Value::as_str).ok_or("no endpoint")?.to_owned();
    let assertion = client.sign(&client.header(), &client.claims(&named, world.now()))?;
    let answer = world.send(&Ask::form("/token", token_form(&assertion, "system/*.rs"))).await?;
    assert_eq!((answer.status, named), (200, world.token_url()));
    Ok(())
}

// Holds: SEC-A2, SEC-A3, CS6
#[test]
fn clients_find_the_token_endpoint_and_what_it_takes() -> Result<()> {
    run(async || {
        is_found(&Aws::empty().await?).await?;
        is_found(&OneMachine::with(&[]).await?).await
    })
}

fn external(token_url: Option<&str>) -> Terms {
    let access = Access::External(ExternalTerms {
        issuer: "https://login.example/realm".to_owned(),
        audience: "https://fhir.example".to_owned(),
        jwks_url: "https://login.example/realm/keys".to_owned(),
        scope_claim: "scope".to_owned(),
        token_url: token_url.map(str::to_owned),
        version: FhirVersion::default(),
    });
    Terms { access: Some(access), ..Terms::default() }
}

async fn is_told<S: Stage>(world: &World<S>, words: &str) -> Result<()> {
    let answer = look(world, &[]).await?;
    let (_, code, text) = answer.outcome()?;
    assert_eq!((answer.status, code.as_str()), (404, "not-found"));
    assert!(text.contains(words), "{text}");
    assert_eq!(stated(world).await?.0, None);
    Ok(())
}

// Holds: SEC-A3, CS6
#[test]
fn where_tokens_come_from_elsewhere_or_from_nowhere_that_is_said() -> Result<()> {
    run(async || {
        let (aws, machine, clock) = (Aws::empty().await?, OneMachine::with(&[]).await?, ManualClock::default());
        let elsewhere = "https://login.example/realm/token";
        let world = World::start(&aws, &clock, external(Some(elsewhere)));
        assert_eq!(look(&world, &[]).await?.json()?["token_endpoint"], elsewhere);
        assert_eq!(stated(&world).await?.0, Some(json!(elsewhere)));
        is_told(&World::start(&aws, &clock, external(None)), "identity provider").await?;
        is_told(&World::start(&aws, &clock, Terms::default()), "Signature Version 4").await?;
        is_told(&World::start(&machine, &clock, Terms::default()), "asks nobody").await?;
        Ok(())
    })
}

// Holds: SEC-A3
#[test]
fn at_the_hosts_root_stands_what_stands_under_the_base() -> Result<()> {
    run(async || {
        let (state, keys) = (tempfile::tempdir()?, tempfile::tempdir()?);
        let plan = Plan {
            lake: lake::sample_dir(),
            state: state.path().to_path_buf(),
            terms: Default::default(),
            lake_terms: Default::default(),
            trust_lake_names: false,
            workers: 1,
            access: Access::Smart(FileSigner::open_or_create(keys.path(), Millis(0))?),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let base = http::base_of(listener.local_addr()?);
        tokio::spawn(http::serve(Arc::new(Service::start(plan).await?), listener));
        let root = base.strip_suffix("/fhir").ok_or("the base has a path")?;
        for found in [&base, root] {
            let answer = reqwest::get(format!("{found}{DISCOVERY}")).await?;
            assert_eq!((answer.status().as_u16(), &answer.headers()["content-type"]), (200, &"application/json".parse()?), "{found}");
            assert_eq!(serde_json::from_slice::<Value>(&answer.bytes().await?)?, document(&format!("{base}/token")), "{found}");
        }
        Ok(())
    })
}
