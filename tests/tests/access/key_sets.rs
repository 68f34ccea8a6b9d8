//! Clients' keys by URL: which key counts, how long a set is kept, and what happens when there is none.

use std::sync::Arc;
use std::time::Duration;

use headrace_core::access::ClientKeys;
use headrace_tests::flows::{Answer, Ask, Aws, Client, ManualClock, Result, Terms, World, run, token_form};
use serde_json::{Value, json};

use crate::key_server::KeyServer;

/// A deployment at which the client is registered by the URL of its keys.
async fn open(client: &Client, url: &str) -> Result<Arc<World<Aws>>> {
    let world = World::start(&Aws::empty().await?, &ManualClock::default(), Terms::default().smart()?);
    register(&world, client, ClientKeys::JwksUrl(url.to_owned())).await?;
    Ok(world)
}

async fn register(world: &World<Aws>, client: &Client, keys: ClientKeys) -> Result<()> {
    let mut registration = world.registration(client, "system/*.rs")?;
    registration.keys = keys;
    world.put_client(&registration).await
}

/// The status of the answer to an assertion with these headers besides the usual ones.
async fn show(world: &World<Aws>, client: &Client, more: &[(&str, &str)]) -> Result<Answer> {
    let mut header = client.header();
    for (name, value) in more {
        header.as_object_mut().ok_or("no header")?.insert((*name).to_owned(), json!(value));
    }
    let assertion = client.sign(&header, &client.claims(&world.token_url(), world.now()))?;
    world.send(&Ask::form("/token", token_form(&assertion, "system/Patient.rs"))).await
}

fn description(answer: &Answer) -> Result<String> {
    Ok(answer.json()?.get("error_description").and_then(Value::as_str).ok_or("no description")?.to_owned())
}

// Holds: SEC-A4, SEC-A8
#[test]
fn keys_are_read_from_the_registered_url_and_jku_can_name_no_other() -> Result<()> {
    run(async || {
        for client in [Client::es384("ehr")?, Client::rs384("ehr")?] {
            let (server, evil) = (KeyServer::start(client.jwks()?).await?, KeyServer::start(client.jwks()?).await?);
            let world = open(&client, server.url()).await?;
            assert_eq!(show(&world, &client, &[]).await?.status, 200);
            assert_eq!(show(&world, &client, &[("jku", server.url())]).await?.status, 200);
            for jku in [evil.url(), "", &format!("{}/", server.url()), &server.url().to_uppercase()] {
                assert_eq!(show(&world, &client, &[("jku", jku)]).await?.status, 401, "{jku}");
            }
            assert_eq!(evil.asked(), 0);
            assert!(server.was_asked_for_json());
        }
        Ok(())
    })
}

/// A set that holds these keys.
fn set(keys: &[Value]) -> String {
    json!({ "keys": keys }).to_string()
}

fn with(jwk: &Value, name: &str, value: Value) -> Value {
    let mut jwk = jwk.clone();
    jwk.as_object_mut().into_iter().for_each(|members| drop(members.insert(name.to_owned(), value.clone())));
    jwk
}

// Holds: SEC-A4, SEC-A8
#[test]
fn the_single_key_of_that_name_and_kind_counts() -> Result<()> {
    run(async || {
        let (ec, rsa, other) = (Client::es384("ehr")?, Client::rs384("ehr")?, Client::es384("ehr")?);
        let world = open(&ec, "https://ehr.example/jwks").await?;
        let (jwk, of_rsa, of_other) = (ec.jwk()?, rsa.jwk()?, other.jwk()?);
        let symmetric = json!({ "kty": "oct", "kid": ec.kid, "k": "c2VjcmV0" });
        for (name, keys, is_good) in [
            ("alone", set(std::slice::from_ref(&jwk)), true),
            (
                "among others",
                set(&[with(&of_other, "kid", json!("older")), jwk.clone(), json!({ "kty": "OKP" }), json!(7), json!({})]),
                true,
            ),
            ("beside a key of the same name and another kind", set(&[of_rsa.clone(), symmetric.clone(), jwk.clone()]), true),
            ("without use and alg", set(&[json!({ "kty": "EC", "crv": "P-384", "kid": ec.kid, "x": jwk["x"], "y": jwk["y"] })]), true),
            ("for signatures", set(&[with(&with(&jwk, "use", json!("sig")), "key_ops", json!(["verify"]))]), true),
            ("twice", set(&[jwk.clone(), jwk.clone()]), false),
            ("two of one name", set(&[of_other.clone(), jwk.clone()]), false),
            ("another key of that name", set(&[of_other]), false),
            ("under another name", set(&[with(&jwk, "kid", json!("another"))]), false),
            ("without a name", set(&[json!({ "kty": "EC", "crv": "P-384", "x": jwk["x"], "y": jwk["y"] })]), false),
            ("of another kind alone", set(&[of_rsa]), false),
            ("symmetric", set(&[symmetric]), false),
            ("on another curve", set(&[with(&jwk, "crv", json!("P-256"))]), false),
            ("said to be RSA", set(&[with(&jwk, "kty", json!("RSA"))]), false),
            ("for encryption", set(&[with(&jwk, "use", json!("enc"))]), false),
            ("for signing", set(&[with(&jwk, "key_ops", json!(["sign"]))]), false),
            ("for another algorithm", set(&[with(&jwk, "alg", json!("ES256"))]), false),
            ("half", set(&[with(&jwk, "y", json!(""))]), false),
            ("not on the curve", set(&[with(&jwk, "y", jwk["x"].clone())]), false),
            ("no set", jwk.to_string(), false),
            ("a list", json!([jwk]).to_string(), false),
            ("too many", set(&vec![jwk.clone(); 101]), false),
            ("empty", set(&[]), false),
            ("nothing", String::new(), false),
            ("deep", format!("{{\"keys\":[{}", "[".repeat(100_000)), false),
        ] {
            register(&world, &ec, ClientKeys::Jwks(keys)).await?;
            assert_eq!(show(&world, &ec, &[]).await?.status, if is_good { 200 } else { 401 }, "{name}");
        }
        Ok(())
    })
}

// Holds: SEC-A8
#[test]
fn an_rsa_key_that_is_too_short_does_not_count() -> Result<()> {
    run(async || {
        let client = Client::rs384("ehr")?;
        let world = open(&client, "https://ehr.example/jwks").await?;
        let jwk = client.jwk()?;
        let modulus = jwk["n"].as_str().ok_or("no modulus")?;
        for (n, status) in [(modulus, 200), (modulus.get(..171).ok_or("short")?, 401), ("AQAB", 401), ("", 401)] {
            register(&world, &client, ClientKeys::Jwks(set(&[with(&jwk, "n", json!(n))]))).await?;
            assert_eq!(show(&world, &client, &[]).await?.status, status, "{n}");
        }
        Ok(())
    })
}

// Holds: SEC-A9
#[test]
fn a_set_is_kept_as_long_as_its_owner_says_and_no_longer() -> Result<()> {
    run(async || {
        let client = Client::es384("ehr")?;
        let server = KeyServer::start(client.jwks()?).await?;
        let world = open(&client, server.url()).await?;
        let mut before = 0;
        for (headers, seconds, fetches) in [
            // Nothing is said: it is not kept.
            (&[][..], 0, 1),
            (&[], 0, 1),
            (&[("cache-control", "no-store, max-age=60")], 0, 1),
            (&[("cache-control", "no-store, max-age=60")], 0, 1),
            (&[("cache-control", "max-age=60")], 0, 1),
            (&[("cache-control", "max-age=60")], 59, 0),
            (&[("cache-control", "max-age=60"), ("age", "50")], 1, 1),
            (&[("cache-control", "max-age=60"), ("age", "50")], 9, 0),
            (&[("cache-control", "max-age=86400")], 1, 1),
            (&[("cache-control", "max-age=86400")], 3_599, 0),
            (&[("cache-control", "max-age=86400")], 1, 1),
        ] {
            server.answers(200, headers, client.jwks()?);
            world.clock.advance(Duration::from_secs(seconds));
            assert_eq!(show(&world, &client, &[]).await?.status, 200);
            assert_eq!(server.asked() - before, fetches, "{headers:?} after {seconds} s");
            before = server.asked();
        }
        Ok(())
    })
}

// Holds: SEC-A8, SEC-A9
#[test]
fn a_new_key_is_found_within_seconds_and_a_withdrawn_one_is_out_when_its_set_is() -> Result<()> {
    run(async || {
        let (first, mut second) = (Client::es384("ehr")?, Client::es384("ehr")?);
        second.kid = "key-2".to_owned();
        let (kept, server) = ([("cache-control", "max-age=600")], KeyServer::start(String::new()).await?);
        server.answers(200, &kept, first.jwks()?);
        let world = open(&first, server.url()).await?;
        assert_eq!(show(&world, &first, &[]).await?.status, 200);
        server.answers(200, &kept, second.jwks()?);
        // A name that is not known is looked for again, and not at once: whoever invents names would have us fetch for each.
        for _ in 0..3 {
            assert_eq!(show(&world, &second, &[]).await?.status, 401);
        }
        assert_eq!(server.asked(), 1);
        world.clock.advance(Duration::from_secs(10));
        assert_eq!(show(&world, &second, &[]).await?.status, 200);
        assert_eq!(server.asked(), 2);
        assert_eq!(show(&world, &first, &[]).await?.status, 401, "the set that was fetched has it no more");
        world.clock.advance(Duration::from_secs(10));
        assert_eq!(show(&world, &first, &[]).await?.status, 401);
        assert_eq!(server.asked(), 3);
        Ok(())
    })
}

// Holds: SEC-A10
#[test]
fn keys_that_cannot_be_fetched_are_said_to_be_missing_and_not_why() -> Result<()> {
    run(async || {
        let client = Client::es384("ehr")?;
        let (server, target) = (KeyServer::start(client.jwks()?).await?, KeyServer::start(client.jwks()?).await?);
        let world = open(&client, server.url()).await?;
        let mut said = Vec::new();
        for (status, headers, body) in [
            (404, &[][..], "canary-7f3a".to_owned()),
            (500, &[], String::new()),
            (302, &[("location", target.url())], client.jwks()?),
            (307, &[("location", target.url())], client.jwks()?),
            (204, &[], String::new()),
            (200, &[], format!("{}{}", client.jwks()?, " ".repeat(256 << 10))),
        ] {
            server.answers(status, headers, body);
            let answer = show(&world, &client, &[]).await?;
            assert_eq!((answer.status, &answer.json()?["error"]), (401, &json!("invalid_client")), "{status}");
            said.push(description(&answer)?);
        }
        assert_eq!(target.asked(), 0, "a redirect is not followed");
        // Nobody listens there; it is not a URL that may be fetched; it leads inside.
        for url in [
            "http://127.0.0.1:1/jwks",
            "http://ehr.example/jwks",
            "https://169.254.169.254/",
            "https://10.0.0.1/jwks",
            "file:///etc/passwd",
        ] {
            let world = open(&client, url).await?;
            said.push(description(&show(&world, &client, &[]).await?)?);
        }
        assert!(said.iter().all(|description| *description == said[0] && description.contains("could not be fetched")), "{said:?}");
        server.answers(200, &[], client.jwks()?);
        assert_eq!(show(&world, &client, &[]).await?.status, 200);
        Ok(())
    })
}
