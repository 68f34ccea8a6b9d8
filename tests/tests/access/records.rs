//! Audit records of token requests.

use std::time::Duration;

use headrace_core::access::Actor;
use headrace_core::audit::{AuditAction, AuditOutcome, AuditRecord};
use headrace_core::ports::AuditTrail as _;
use headrace_core::vocab::ids::Caller;
use headrace_core::vocab::outcome::IssueCode;
use headrace_tests::flows::{
    AwsDeployment, Deployment as _, DeploymentSettings, ManualClock, Result, ServiceProcess, SmartClient, TestRequest, run,
    token_request_form,
};
use serde_json::json;

/// Returns the latest audit record.
async fn last_record(service: &ServiceProcess<AwsDeployment>) -> Result<AuditRecord> {
    let later = service.now() + Duration::from_secs(60);
    Ok(service.deployment.job_store().unsealed(later, 100).await?.pop().ok_or("there is no audit record")?)
}

#[test]
fn every_token_request_is_recorded_with_the_authenticated_client() -> Result<()> {
    run(async || {
        let (client, stranger, clock) = (SmartClient::new_es384("ehr")?, SmartClient::new_es384("ehr")?, ManualClock::default());
        let service = ServiceProcess::start(&AwsDeployment::new().await?, &clock, DeploymentSettings::default().with_smart_access()?);
        service.register(&client, "system/Patient.rs").await?;
        let claims = client.assertion_claims(&service.token_url(), service.now());
        let (good, forged) = (client.sign(&client.assertion_header(), &claims)?, stranger.sign(&client.assertion_header(), &claims)?);
        let mut late = claims.clone();
        late["exp"] = json!(service.now().0 / 1_000 - 60);
        let late = client.sign(&client.assertion_header(), &late)?;
        let known = Actor::Caller(Caller(client.id.clone()));
        for (body, who, outcome, issue) in [
            (token_request_form(&forged, "system/*.rs"), Actor::Unknown, AuditOutcome::Rejected(401), Some(IssueCode::Login)),
            (token_request_form(&late, "system/*.rs"), Actor::Unknown, AuditOutcome::Rejected(401), Some(IssueCode::Login)),
            (token_request_form("x", "system/*.rs"), Actor::Unknown, AuditOutcome::Rejected(401), Some(IssueCode::Login)),
            (String::new(), Actor::Unknown, AuditOutcome::Rejected(400), Some(IssueCode::Invalid)),
            (token_request_form(&good, "system/Group.rs"), known.clone(), AuditOutcome::Rejected(400), Some(IssueCode::Forbidden)),
            (token_request_form(&good, "system/*.rs"), known.clone(), AuditOutcome::Succeeded, None),
            (token_request_form(&good, "system/*.rs"), known.clone(), AuditOutcome::Rejected(401), Some(IssueCode::Login)),
        ] {
            // Requests of unknown callers are recorded once in a minute.
            let pause = if who == Actor::Unknown { Duration::from_secs(60) } else { Duration::from_millis(1) };
            clock.advance(pause);
            service.send(&TestRequest::form_post("/token", body)).await?;
            let entry = last_record(&service).await?;
            assert_eq!((entry.action, &entry.agent.actor, entry.outcome, entry.issue), (AuditAction::Token, &who, outcome, issue));
            assert_eq!((entry.at, entry.agent.origin.address.as_deref()), (service.now(), Some("192.0.2.1")));
            let recorded = serde_json::to_string(&entry)?;
            for secret in [&good, &forged, &late] {
                assert!(secret.split('.').all(|piece| !recorded.contains(piece)), "{recorded}");
            }
        }
        Ok(())
    })
}
