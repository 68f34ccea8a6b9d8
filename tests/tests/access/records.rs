//! What auditors read of token requests.

use headrace_core::access::Who;
use headrace_core::audit::{AuditEntry, Deed, Verdict};
use headrace_core::ports::AuditTrail as _;
use headrace_core::vocab::ids::Caller;
use headrace_core::vocab::outcome::IssueCode;
use headrace_tests::flows::{Ask, Aws, Client, ManualClock, Result, Stage as _, Terms, World, run, token_form};
use serde_json::json;

/// What was recorded last.
async fn last(world: &World<Aws>) -> Result<AuditEntry> {
    let later = world.now() + std::time::Duration::from_secs(60);
    Ok(world.stage.jobs().unsealed(later, 100).await?.pop().ok_or("nothing was recorded")?)
}

#[test]
fn each_token_given_out_or_refused_is_recorded_with_whoever_has_shown_who_they_are() -> Result<()> {
    run(async || {
        let (client, stranger, clock) = (Client::es384("ehr")?, Client::es384("ehr")?, ManualClock::default());
        let world = World::start(&Aws::empty().await?, &clock, Terms::default().smart()?);
        world.register(&client, "system/Patient.rs").await?;
        let claims = client.claims(&world.token_url(), world.now());
        let (good, forged) = (client.sign(&client.header(), &claims)?, stranger.sign(&client.header(), &claims)?);
        let mut late = claims.clone();
        late["exp"] = json!(world.now().0 / 1_000 - 60);
        let late = client.sign(&client.header(), &late)?;
        let known = Who::Caller(Caller(client.id.clone()));
        for (body, who, verdict, issue) in [
            (token_form(&forged, "system/*.rs"), Who::Unknown, Verdict::Refused(401), Some(IssueCode::Login)),
            (token_form(&late, "system/*.rs"), Who::Unknown, Verdict::Refused(401), Some(IssueCode::Login)),
            (token_form("x", "system/*.rs"), Who::Unknown, Verdict::Refused(401), Some(IssueCode::Login)),
            (String::new(), Who::Unknown, Verdict::Refused(400), Some(IssueCode::Invalid)),
            (token_form(&good, "system/Group.rs"), known.clone(), Verdict::Refused(400), Some(IssueCode::Forbidden)),
            (token_form(&good, "system/*.rs"), known.clone(), Verdict::Done, None),
            (token_form(&good, "system/*.rs"), known.clone(), Verdict::Refused(401), Some(IssueCode::Login)),
        ] {
            clock.advance(std::time::Duration::from_millis(1));
            world.send(&Ask::form("/token", body)).await?;
            let entry = last(&world).await?;
            assert_eq!((entry.deed, &entry.agent.who, entry.verdict, entry.issue), (Deed::Token, &who, verdict, issue));
            assert_eq!((entry.at, entry.agent.origin.address.as_deref()), (world.now(), Some("192.0.2.1")));
            let recorded = serde_json::to_string(&entry)?;
            for secret in [&good, &forged, &late] {
                assert!(secret.split('.').all(|piece| !recorded.contains(piece)), "{recorded}");
            }
        }
        Ok(())
    })
}
