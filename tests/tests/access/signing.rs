//! The signing key of access tokens: publication, and signing with KMS.

use std::time::Duration;

use headrace_aws::KmsSigner;
use headrace_core::access::SigningAlgorithm;
use headrace_core::ports::{AccessStore as _, TokenSigner as _};
use headrace_core::vocab::error::StoreError;
use headrace_edge::auth::Authenticator;
use headrace_edge::config::{AccessControl, SmartSettings};
use headrace_edge::jwks::{JwksCache, UrlPolicy};
use headrace_tests::flows::{
    AwsDeployment, Deployment as _, DeploymentSettings, Fault, FaultInjector, ManualClock, Result, ServiceProcess, SmartClient,
    TestRequest, TestResponse, run, token_request_form,
};
use headrace_tests::standins::kms::{KmsStandIn, SIGNING_KEY};
use serde_json::Value;
use token::handler::TokenHandler;

// Holds: SEC-A11, SEC-A13
#[test]
fn a_token_signed_by_kms_is_accepted_and_the_public_key_is_fetched_once() -> Result<()> {
    run(async || {
        let (deployment, clock, client, kms) =
            (AwsDeployment::new().await?, ManualClock::default(), SmartClient::new_es384("ehr")?, KmsStandIn::start());
        let service = ServiceProcess::start(&deployment, &clock, DeploymentSettings::default().with_smart_access()?);
        service.register(&client, "system/*.rs").await?;
        let authenticator = || Authenticator::new(deployment.job_store(), clock.clone(), AccessControl::Smart(SmartSettings::default()));
        let keys = JwksCache::new(UrlPolicy::Clients, clock.clone());
        let token =
            TokenHandler::new(authenticator(), (deployment.job_store(), KmsSigner::new(kms.client(), SIGNING_KEY)), keys, clock.clone());
        for given in 1..=3 {
            let assertion = client.sign(&client.assertion_header(), &client.assertion_claims(&service.token_url(), service.now()))?;
            let request = TestRequest::form_post("/token", token_request_form(&assertion, "system/*.rs"));
            let response = TestResponse::from_lambda(Box::pin(token.handle(request.to_lambda_request(true)?)).await)?.json()?;
            let text = response["access_token"].as_str().ok_or_else(|| response.to_string())?;
            let principal = authenticator()
                .authenticate(&TestRequest::new("GET", "/_operations/export").with_bearer_token(text).to_lambda_request(true)?)
                .await?;
            assert_eq!((principal.caller.0.as_str(), principal.is_authenticated), ("ehr", true));
            assert_eq!(kms.call_counts(), (1, given));
        }
        Ok(())
    })
}

#[test]
fn a_wrong_kms_signing_key_is_reported_as_a_misconfiguration() -> Result<()> {
    run(async || {
        let wrong = [
            KmsSigner::new(KmsStandIn::start().client(), "arn:aws:kms:eu-central-1:111122223333:key/another"),
            KmsSigner::new(KmsStandIn::with_key_usage("ENCRYPT_DECRYPT").client(), SIGNING_KEY),
        ];
        for signer in wrong {
            let error = signer.key().await.err().ok_or("the key must be rejected")?;
            assert!(matches!(&error, StoreError::Misconfigured { remedy, .. } if remedy.contains("HEADRACE_SIGNING_KEY")), "{error:?}");
        }
        let key = KmsSigner::new(KmsStandIn::start().client(), SIGNING_KEY).key().await?;
        assert_eq!(key.algorithm, SigningAlgorithm::Rs384);
        Ok(())
    })
}

// Holds: SEC-A13
#[test]
fn a_signing_key_is_recorded_before_its_first_token_and_again_every_hour() -> Result<()> {
    run(async || {
        let (deployment, clock, client) = (AwsDeployment::new().await?, ManualClock::default(), SmartClient::new_es384("ehr")?);
        let faults = FaultInjector::none();
        let service =
            ServiceProcess::start_with_faults(&deployment, &clock, DeploymentSettings::default().with_smart_access()?, faults.clone());
        service.register(&client, "system/*.rs").await?;
        let kid = |token: &str| -> Result<String> {
            use base64::Engine as _;
            let header = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap_or_default())?;
            let header: Value = serde_json::from_slice(&header)?;
            Ok(header["kid"].as_str().ok_or("no kid")?.to_owned())
        };
        // No token is issued with a key that could not be published.
        faults.set_plan(|call| if call.name == "access.put_token_key" { Fault::FailBefore } else { Fault::None });
        assert_eq!(service.request_token(&client, "system/*.rs").await?.status, 503);
        faults.set_plan(|_| Fault::None);
        let times = |faults: &FaultInjector| faults.call_names().into_iter().filter(|name| *name == "access.put_token_key").count();
        let first = kid(&service.token(&client, "system/*.rs").await?)?;
        let (until, made_known) = (deployment.job_store().token_key(&first).await?.ok_or("not recorded")?.expires_at, times(&faults));
        clock.advance(Duration::from_secs(3_599));
        service.token(&client, "system/*.rs").await?;
        assert_eq!(times(&faults), made_known);
        clock.advance(Duration::from_secs(1));
        assert_eq!(kid(&service.token(&client, "system/*.rs").await?)?, first);
        assert_eq!(times(&faults), made_known + 1);
        assert!(deployment.job_store().token_key(&first).await?.ok_or("not recorded")?.expires_at > until);
        Ok(())
    })
}
