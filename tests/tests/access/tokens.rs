//! Access tokens: what they open, and when no more.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use headrace_core::access::TokenKey;
use headrace_core::ports::{AccessStore as _, TokenSigner as _};
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::ids::Caller;
use headrace_edge::jose::{key_id, pem_of};
use headrace_local::stores::signer::FileSigner;
use headrace_tests::flows::{Answer, Ask, Aws, Client, ManualClock, OneMachine, Result, Stage, Terms, World, run, seed};
use serde_json::{Value, json};

/// Every route that is not open to all.
const SHUT: [(&str, &str); 8] = [
    ("GET", "/$export"),
    ("GET", "/Patient/$export"),
    ("GET", "/Group/1/$export"),
    ("GET", "/Group"),
    ("GET", "/_operations/export"),
    ("GET", "/_operations/export/ffffffffffffffffffffffffffffffff"),
    ("DELETE", "/_operations/export/ffffffffffffffffffffffffffffffff"),
    ("GET", "/_operations/files/ffffffffffffffffffffffffffffffff/Patient-1.ndjson"),
];

/// What goes with a refusal of what the token is not for (RFC 6750, section 3.1).
const INSUFFICIENT: &str = "Bearer realm=\"headrace\", error=\"insufficient_scope\"";

async fn open(clients: &[&Client]) -> Result<Arc<World<Aws>>> {
    let world = World::start(&seed::aws().await?, &ManualClock::default(), seed::terms().smart()?);
    for client in clients {
        world.register(client, "system/*.rs").await?;
    }
    Ok(world)
}

async fn send<S: Stage>(world: &World<S>, target: &str, token: &str) -> Result<Answer> {
    world.send(&Ask::new("GET", target).bearer(token)).await
}

async fn kick_off<S: Stage>(world: &World<S>, token: &str) -> Result<String> {
    let answer = send(world, "/$export?_type=Patient", token).await?;
    let url = answer.header("content-location").ok_or_else(|| format!("{answer:?}"))?;
    Ok(url.get(url.find("/_operations").ok_or("no status URL")?..).ok_or("no status URL")?.to_owned())
}

async fn exports_with_tokens<S: Stage>(stage: &S) -> Result<()> {
    let client = Client::es384("ehr")?;
    let world = World::start(stage, &ManualClock::default(), seed::terms().smart()?);
    world.register(&client, "system/*.rs").await?;
    world.act_as(&client, "system/Patient.read");
    let status = world.kick_off("?_type=Patient").await?;
    let finished = world.finish(&status).await?;
    let files = finished.manifest.output.iter().map(|entry| entry.kind.as_str()).collect::<std::collections::BTreeSet<_>>();
    assert!(files.into_iter().eq(["Patient"]) && finished.manifest.requires_access_token);
    Ok(())
}

// Holds: SEC-A2, SEC-A13
#[test]
fn an_assertion_a_token_an_export_its_files() -> Result<()> {
    run(async || {
        exports_with_tokens(&seed::aws().await?).await?;
        let lake = seed::lake();
        let files: Vec<(&str, &[u8])> = lake.iter().map(|(object, bytes)| (*object, bytes.as_slice())).collect();
        exports_with_tokens(&OneMachine::with(&files).await?).await
    })
}

// Holds: SEC-A13, SEC-A16
#[test]
fn without_a_token_every_route_but_the_open_ones_is_shut() -> Result<()> {
    run(async || {
        let world = open(&[]).await?;
        for (method, target) in SHUT {
            let mut refused = Vec::new();
            for header in [None, Some("Bearer "), Some("Bearer"), Some("Basic ZWhyOng="), Some("Bearer x"), Some("Bearer a.b.c")] {
                let mut ask = Ask::new(method, target);
                ask.headers.extend(header.map(|header| ("authorization", header.to_owned())));
                // Who signs for IAM is nobody here.
                let answer = world.send(&ask.by("arn:aws:iam::111122223333:user/ann")).await?;
                let (_, code, _) = answer.outcome()?;
                assert_eq!((answer.status, code.as_str()), (401, "login"), "{method} {target}");
                refused.push(answer.header("www-authenticate").map(str::to_owned));
            }
            let (none, sent) =
                (Some("Bearer realm=\"headrace\"".to_owned()), Some("Bearer realm=\"headrace\", error=\"invalid_token\"".to_owned()));
            assert_eq!(refused, [none.clone(), none.clone(), none.clone(), none, sent.clone(), sent], "{method} {target}");
        }
        for target in ["/metadata", "/OperationDefinition", "/.well-known/smart-configuration"] {
            assert_eq!(world.send(&Ask::new("GET", target)).await?.status, 200, "{target}");
        }
        Ok(())
    })
}

/// The pieces of a token.
fn pieces(token: &str) -> Result<(Value, Value, String)> {
    let mut pieces = token.split('.');
    let mut json = || {
        Ok::<Value, headrace_core::vocab::error::BoxError>(serde_json::from_slice(
            &URL_SAFE_NO_PAD.decode(pieces.next().ok_or("no JWT")?)?,
        )?)
    };
    Ok((json()?, json()?, token.rsplit('.').next().unwrap_or_default().to_owned()))
}

fn joined(header: &Value, claims: &Value, signature: &str) -> String {
    format!("{}.{}.{signature}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims.to_string()))
}

// Holds: SEC-A13
#[test]
fn a_token_that_is_not_ours_or_not_as_we_made_it_opens_nothing() -> Result<()> {
    run(async || {
        let client = Client::es384("ehr")?;
        let world = open(&[&client]).await?;
        let good = world.token(&client, "system/Patient.read").await?;
        let (header, claims, signature) = pieces(&good)?;
        let kid = header["kid"].as_str().ok_or("no kid")?;
        let recorded = world.stage.jobs().token_key(kid).await?.ok_or("no key is recorded")?;
        let with = |name: &str, value: Value| {
            let mut claims = claims.clone();
            claims[name] = value;
            claims
        };
        // Signed by somebody who took another key's name; by a client whose assertion is no access token.
        let mut own = client.header();
        own["typ"] = json!("at+jwt");
        let assertion = client.sign(&client.header(), &client.claims(world.base(), world.now()))?;
        let mut forged = header.clone();
        forged["alg"] = json!("ES384");
        let secret = jsonwebtoken::EncodingKey::from_secret(recorded.pem.as_bytes());
        let symmetric = json!({ "alg": "HS384", "kid": kid, "typ": "at+jwt" });
        let message = joined(&symmetric, &claims, "");
        let message = message.trim_end_matches('.');
        let confused = format!("{message}.{}", jsonwebtoken::crypto::sign(message.as_bytes(), &secret, jsonwebtoken::Algorithm::HS384)?);
        for token in [
            joined(&header, &with("scope", json!("system/*.read")), &signature),
            joined(&header, &with("sub", json!("other")), &signature),
            joined(&header, &with("exp", json!(u64::MAX)), &signature),
            joined(&json!({ "alg": "none", "kid": kid, "typ": "at+jwt" }), &claims, ""),
            joined(&json!({ "alg": "none", "kid": kid, "typ": "at+jwt" }), &claims, &signature),
            joined(&header, &claims, ""),
            joined(&header, &claims, &"A".repeat(128)),
            client.sign(&forged, &claims)?,
            client.sign(&own, &claims)?,
            assertion,
            confused,
            format!("{good}x"),
            format!("{good}.x"),
            good.repeat(20),
        ] {
            let answer = send(&world, "/_operations/export", &token).await?;
            assert_eq!(answer.status, 401, "{token}");
            assert!(!String::from_utf8_lossy(&answer.body).contains(&token));
        }
        assert_eq!(send(&world, "/_operations/export", &good).await?.status, 200);
        // In the URL, where logs would have it, it is not looked for; two are none.
        assert_eq!(world.send(&Ask::new("GET", format!("/_operations/export?access_token={good}"))).await?.status, 401);
        // One of another deployment over the same keys: it is for that one.
        let machine = OneMachine::with(&[]).await?;
        machine.jobs().put_token_key(&recorded).await?;
        let elsewhere = World::start(&machine, &world.clock, Terms::default().smart()?);
        elsewhere.register(&client, "system/*.rs").await?;
        assert_eq!(send(&elsewhere, "/_operations/export", &good).await?.status, 401);
        Ok(())
    })
}

// Holds: SEC-A11, SEC-A13
#[test]
fn a_token_that_expires_during_an_export_does_it_no_harm() -> Result<()> {
    run(async || {
        let client = Client::es384("ehr")?;
        let world = open(&[&client]).await?;
        let token = world.token(&client, "system/Patient.read").await?;
        let status = kick_off(&world, &token).await?;
        world.clock.advance(Duration::from_millis(299_999));
        assert_eq!(send(&world, &status, &token).await?.status, 202);
        world.clock.advance(Duration::from_millis(1));
        let answer = send(&world, &status, &token).await?;
        assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some("Bearer realm=\"headrace\", error=\"invalid_token\"")));
        assert!(answer.outcome()?.2.contains("has expired"));
        world.act_as(&client, "system/Patient.read");
        let finished = world.finish(&status).await?;
        let file = finished.manifest.output.first().ok_or("no file")?.url.clone();
        let file = file.get(file.find("/_operations").ok_or("no path")?..).ok_or("no path")?;
        assert_eq!(send(&world, file, &token).await?.status, 401, "files take a fresh token too");
        Ok(())
    })
}

// Holds: P33, SEC-A13, SEC-A16
#[test]
fn a_token_exports_what_it_may_read_and_shows_what_it_may_still_read() -> Result<()> {
    run(async || {
        let client = Client::es384("ehr")?;
        let world = open(&[&client]).await?;
        // Without _type, the types of the token; those beyond are refused by name.
        world.act_as(&client, "system/Patient.read system/Basic.rs");
        let status = world.kick_off("").await?;
        let finished = world.finish(&status).await?;
        assert!(finished.files_by_type().into_keys().eq(["Basic", "Patient"]), "{:?}", finished.manifest);
        for query in ["?_type=Observation", "?_type=Patient,Observation", "?_typeFilter=Observation%3Fstatus%3Dfinal"] {
            let answer = world.ask("GET", &format!("/$export{query}")).await?;
            let (_, code, text) = answer.outcome()?;
            assert_eq!((answer.status, code.as_str()), (403, "forbidden"), "{query}");
            assert_eq!(answer.header("www-authenticate"), Some(INSUFFICIENT), "{query}");
            assert!(text.contains("Observation"), "{text}");
        }
        // Of the same client, with a token for less: the export is not known, nor a file of it, not even one that it may read.
        let file = finished.manifest.output.iter().find(|entry| entry.kind == "Patient").ok_or("no file")?.url.clone();
        let file = file.get(file.find("/_operations").ok_or("no path")?..).ok_or("no path")?;
        for (scopes, expected) in
            [("system/Patient.read", [404, 404]), ("system/Basic.rs system/Patient.rs", [200, 307]), ("system/*.rs", [200, 307])]
        {
            let token = world.token(&client, scopes).await?;
            let answers = [send(&world, &status, &token).await?.status, send(&world, file, &token).await?.status];
            assert_eq!(answers, expected, "{scopes}");
        }
        Ok(())
    })
}

// Holds: SEC-A16
#[test]
fn the_export_of_another_client_is_not_known() -> Result<()> {
    run(async || {
        let (client, other) = (Client::es384("ehr")?, Client::es384("other")?);
        let world = open(&[&client, &other]).await?;
        world.act_as(&client, "system/*.read");
        let status = world.kick_off("?_type=Patient").await?;
        let finished = world.finish(&status).await?;
        let file = finished.manifest.output.first().ok_or("no file")?.url.clone();
        let file = file.get(file.find("/_operations").ok_or("no path")?..).ok_or("no path")?;
        let token = world.token(&other, "system/*.read").await?;
        for (method, target) in [("GET", status.as_str()), ("GET", file), ("DELETE", status.as_str())] {
            assert_eq!(world.send(&Ask::new(method, target).bearer(&token)).await?.status, 404, "{method} {target}");
        }
        assert_eq!(world.ask("GET", &status).await?.status, 200);
        Ok(())
    })
}

// Holds: SEC-A13
#[test]
fn a_client_that_is_shut_out_or_removed_is_out_at_its_next_request() -> Result<()> {
    run(async || {
        let (client, removed) = (Client::es384("ehr")?, Client::es384("removed")?);
        let world = open(&[&client, &removed]).await?;
        let token = world.token(&client, "system/Patient.read").await?;
        let status = kick_off(&world, &token).await?;
        assert_eq!(send(&world, &status, &token).await?.status, 202);
        world.clock.advance(Duration::from_secs(1));
        let mut registration = world.stage.jobs().client(&Caller(client.id.clone())).await?.ok_or("not registered")?;
        registration.is_disabled = true;
        let seen = registration.changed_at;
        registration.changed_at = world.now();
        assert!(world.stage.jobs().put_client(&registration, Some(seen)).await?);
        assert_eq!(send(&world, &status, &token).await?.status, 401);
        assert_eq!(world.ask_token(&client, "system/Patient.read").await?.status, 401);
        // A token of a client that never was in this table: another deployment's over the same keys.
        let token = world.token(&removed, "system/Patient.read").await?;
        let item = world.stage.dynamo().client().delete_item().table_name("headrace");
        let key = |text: &str| aws_sdk_dynamodb::types::AttributeValue::S(text.to_owned());
        item.key("pk", key("CLIENTS")).key("sk", key("removed")).send().await?;
        assert_eq!(send(&world, "/_operations/export", &token).await?.status, 401);
        Ok(())
    })
}

// Holds: SEC-A13
#[test]
fn another_signing_key_harms_nobody_and_the_old_one_ends() -> Result<()> {
    run(async || {
        let client = Client::es384("ehr")?;
        let before = open(&[&client]).await?;
        let old = before.token(&client, "system/Patient.read").await?;
        let status = kick_off(&before, &old).await?;
        // Another process, with another key: one that has seen the first key, and one that has not.
        let after = World::start(&before.stage, &before.clock, seed::terms().smart()?);
        let new = after.token(&client, "system/Patient.read").await?;
        for world in [&before, &after] {
            for token in [&old, &new] {
                assert_eq!(send(world, &status, token).await?.status, 202);
            }
        }
        // The old key's record ends by itself: whoever steals the key then has nothing.
        let kid = pieces(&old)?.0["kid"].as_str().ok_or("no kid")?.to_owned();
        let recorded = before.stage.jobs().token_key(&kid).await?.ok_or("no key")?;
        let left = recorded.until.since(before.now());
        assert!(left >= Duration::from_secs(3_900) && left <= Duration::from_secs(4 * 3_600), "{left:?}");
        // The export goes on with tokens of the new key alone.
        drop(before);
        after.act_as(&client, "system/Patient.read");
        after.finish(&status).await?;
        Ok(())
    })
}

/// Whoever has stolen a key signs what they like with it.
// Holds: SEC-A13
#[test]
fn a_key_is_believed_until_its_end_and_a_removed_one_for_five_minutes_at_most() -> Result<()> {
    run(async || {
        let (client, folder) = (Client::es384("ehr")?, tempfile::tempdir()?);
        let world = open(&[&client]).await?;
        let signer = FileSigner::open_or_create(folder.path(), Millis(0))?;
        let (public, now) = (signer.key().await?, world.now());
        let kid = key_id(&public);
        let alg = public.algorithm.as_str();
        let header = json!({ "alg": alg, "kid": kid, "typ": "at+jwt" });
        let claims = json!({
            "iss": world.base(), "aud": world.base(), "sub": "ehr", "client_id": "ehr", "scope": "system/*.rs", "jti": "1",
            "iat": now.0 / 1_000, "exp": 4_000_000_000_u64
        });
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims.to_string()));
        let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(signer.sign(message.as_bytes()).await?));
        let list = async || Ok::<_, headrace_core::vocab::error::BoxError>(send(&world, "/_operations/export", &token).await?.status);
        assert_eq!(list().await?, 401, "the key is not known");
        let recorded = |until| TokenKey { kid: kid.clone(), alg: alg.to_owned(), pem: pem_of(&public), until };
        world.stage.jobs().put_token_key(&recorded(now + Duration::from_secs(400))).await?;
        assert_eq!(list().await?, 200);
        // It is kept by now.
        world.clock.advance(Duration::from_secs(299));
        assert_eq!(list().await?, 200);
        world.clock.advance(Duration::from_secs(101));
        assert_eq!(list().await?, 401, "its record has ended");
        world.stage.jobs().put_token_key(&recorded(world.now() + Duration::from_secs(10_000))).await?;
        assert_eq!(list().await?, 200);
        let key = |text: String| aws_sdk_dynamodb::types::AttributeValue::S(text);
        let delete = world.stage.dynamo().client().delete_item().table_name("headrace");
        delete.key("pk", key(format!("TOKENKEY#{kid}"))).key("sk", key("TOKENKEY".to_owned())).send().await?;
        world.clock.advance(Duration::from_secs(300));
        assert_eq!(list().await?, 401, "the operator has removed it");
        Ok(())
    })
}
