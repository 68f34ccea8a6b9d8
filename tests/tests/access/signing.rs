//! The signing key: when it is made known, and that KMS signs as well as a file.

use std::time::Duration;

use headrace_aws::KmsSigner;
use headrace_core::access::SigningAlgorithm;
use headrace_core::ports::{AccessStore as _, TokenSigner as _};
use headrace_core::vocab::error::StoreError;
use headrace_edge::config::{AccessControl, SmartTerms};
use headrace_edge::door::Door;
use headrace_edge::jwks::{JwksSource, Trust};
use headrace_tests::flows::{Answer, Ask, Aws, Client, ManualClock, Result, Script, Stage as _, Terms, Twist, World, run, token_form};
use headrace_tests::standins::kms::{KEY, KmsStandIn};
use serde_json::Value;
use token::handler::Token;

// Holds: SEC-A11, SEC-A13
#[test]
fn what_kms_signs_opens_the_door_and_its_public_key_is_asked_for_once() -> Result<()> {
    run(async || {
        let (stage, clock, client, kms) = (Aws::empty().await?, ManualClock::default(), Client::es384("ehr")?, KmsStandIn::start());
        let world = World::start(&stage, &clock, Terms::default().smart()?);
        world.register(&client, "system/*.rs").await?;
        let door = || Door::new(stage.jobs(), clock.clone(), AccessControl::Smart(SmartTerms::default()));
        let keys = JwksSource::new(Trust::Clients, clock.clone());
        let token = Token::new(door(), (stage.jobs(), KmsSigner::new(kms.client(), KEY)), keys, clock.clone());
        for given in 1..=3 {
            let assertion = client.sign(&client.header(), &client.claims(&world.token_url(), world.now()))?;
            let ask = Ask::form("/token", token_form(&assertion, "system/*.rs"));
            let answer = Answer::of(Box::pin(token.handle(ask.request(true)?)).await)?.json()?;
            let text = answer["access_token"].as_str().ok_or_else(|| answer.to_string())?;
            let visitor = door().admit(&Ask::new("GET", "/_operations/export").bearer(text).request(true)?).await?;
            assert_eq!((visitor.caller.0.as_str(), visitor.is_authenticated), ("ehr", true));
            assert_eq!(kms.calls(), (1, given));
        }
        Ok(())
    })
}

#[test]
fn a_signing_key_that_does_not_fit_is_said_to_be_wrong() -> Result<()> {
    run(async || {
        let wrong = [
            KmsSigner::new(KmsStandIn::start().client(), "arn:aws:kms:eu-central-1:111122223333:key/another"),
            KmsSigner::new(KmsStandIn::with_key_for("ENCRYPT_DECRYPT").client(), KEY),
        ];
        for signer in wrong {
            let error = signer.key().await.err().ok_or("a key that is none")?;
            assert!(matches!(&error, StoreError::Misconfigured { remedy, .. } if remedy.contains("HEADRACE_SIGNING_KEY")), "{error:?}");
        }
        let key = KmsSigner::new(KmsStandIn::start().client(), KEY).key().await?;
        assert_eq!(key.algorithm, SigningAlgorithm::Rs384);
        Ok(())
    })
}

// Holds: SEC-A13
#[test]
fn a_key_is_made_known_before_its_first_token_and_again_within_the_hour() -> Result<()> {
    run(async || {
        let (stage, clock, client) = (Aws::empty().await?, ManualClock::default(), Client::es384("ehr")?);
        let script = Script::quiet();
        let world = World::scripted(&stage, &clock, Terms::default().smart()?, script.clone());
        world.register(&client, "system/*.rs").await?;
        let kid = |token: &str| -> Result<String> {
            use base64::Engine as _;
            let header = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap_or_default())?;
            let header: Value = serde_json::from_slice(&header)?;
            Ok(header["kid"].as_str().ok_or("no kid")?.to_owned())
        };
        // What could not be made known signs nothing that goes out.
        script.rewrite(|call| if call.name == "access.put_token_key" { Twist::FailBefore } else { Twist::Pass });
        assert_eq!(world.ask_token(&client, "system/*.rs").await?.status, 503);
        script.rewrite(|_| Twist::Pass);
        let times = |script: &Script| script.names().into_iter().filter(|name| *name == "access.put_token_key").count();
        let first = kid(&world.token(&client, "system/*.rs").await?)?;
        let (until, made_known) = (stage.jobs().token_key(&first).await?.ok_or("not recorded")?.until, times(&script));
        clock.advance(Duration::from_secs(3_599));
        world.token(&client, "system/*.rs").await?;
        assert_eq!(times(&script), made_known);
        clock.advance(Duration::from_secs(1));
        assert_eq!(kid(&world.token(&client, "system/*.rs").await?)?, first);
        assert_eq!(times(&script), made_known + 1);
        assert!(stage.jobs().token_key(&first).await?.ok_or("not recorded")?.until > until);
        Ok(())
    })
}
