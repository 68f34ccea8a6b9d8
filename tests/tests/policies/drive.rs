//! All that the functions do to AWS, in one long story.

use std::sync::Arc;

use headrace_aws::KmsSigner;
use headrace_core::access::ClientKeys;
use headrace_core::job::Quotas;
use headrace_core::request::{JobKey, Policy};
use headrace_edge::config::{AccessControl, SmartTerms};
use headrace_edge::door::Door;
use headrace_edge::jwks::{JwksSource, Trust};
use headrace_tests::flows::asked::by;
use headrace_tests::flows::{
    ANN, Answer, Ask, Aws, BEN, Client, MINUTE, ManualClock, Result, Script, Stage as _, Terms, Twist, World, token_form,
};
use headrace_tests::standins::kms::{KEY, KmsStandIn};
use token::handler::Token;

/// A key that a job may name.
pub(crate) const JOB_KEY: &str = "arn:aws:kms:eu-central-1:111122223333:key/job";

const GROUP: &str = r#"{"resourceType":"Group","id":"g","type":"person","actual":true,"member":[{"entity":{"reference":"Patient/1"}}]}"#;

/// Two objects that hold two versions of one patient each, so that what was written first is taken back; and a group.
fn lake() -> Vec<(&'static str, String)> {
    let patient = |n: usize, day: u8| {
        format!("{{\"resourceType\":\"Patient\",\"id\":\"{n}\",\"meta\":{{\"lastUpdated\":\"2026-01-0{day}T00:00:00Z\"}}}}\n")
    };
    let patients = |day: u8| (0..9).map(|n| patient(n, day)).collect::<String>();
    vec![("1/Patient.ndjson", patients(1)), ("2/Patient.ndjson", patients(2)), ("3/Group.ndjson", format!("{GROUP}\n"))]
}

/// Files roll, tails are gathered in a round of their own, and a caller's second export waits for the first.
fn terms() -> Terms {
    let quotas = Quotas { per_caller: Some(1), global: None, waits: true };
    Terms { quotas, ..Terms::file_bytes(300) }.join_limit_bytes(700)
}

struct Story {
    stage: Aws,
    clock: ManualClock,
    world: Arc<World<Aws>>,
}

/// Drives every function through all that it can do.
pub(crate) async fn everything() -> Result<Aws> {
    let stage = Aws::empty().await?;
    for (object, text) in lake() {
        stage.change_lake(object, Some(text.into())).await?;
    }
    let clock = ManualClock::default();
    let world = World::start(&stage, &clock, terms());
    let story = Story { stage, clock, world };
    story.whoever_is_unknown_is_turned_away().await?;
    story.an_export_is_finished_read_and_expires().await?;
    story.exports_wait_and_begin().await?;
    story.a_task_is_parked().await?;
    story.what_is_lost_is_announced_again().await?;
    story.a_client_with_a_token_has_its_files_in_its_own_bucket().await?;
    story.a_job_names_a_key().await?;
    story.exports_are_de_identified().await?;
    story.what_was_noted_is_sealed().await?;
    Ok(story.stage)
}

impl Story {
    /// Another process on the same stores.
    fn process(&self, author: impl FnMut(headrace_tests::flows::Call) -> Twist + Send + 'static) -> Arc<World<Aws>> {
        World::scripted(&self.stage, &self.clock, terms(), Script::of(author))
    }

    /// Kicks off as `caller`, a second after what was before; the path of the status URL.
    async fn kick_off(&self, world: &World<Aws>, caller: &str, target: &str) -> Result<String> {
        self.clock.advance(std::time::Duration::from_secs(1));
        self.kick_off_again(world, caller, target).await
    }

    /// The same within the second, under the key that was used then.
    async fn kick_off_again(&self, world: &World<Aws>, caller: &str, target: &str) -> Result<String> {
        let mut ask = Ask::new("GET", target).by(caller);
        ask.headers.push(("idempotency-key", self.world.now().0.to_string()));
        let answer = world.send(&ask).await?;
        let url = answer.header("content-location").ok_or_else(|| format!("{target} was answered with {answer:?}"))?;
        Ok(url.get(url.find("/_operations").unwrap_or_default()..).unwrap_or_default().to_owned())
    }

    async fn expect(&self, status: u16, method: &'static str, target: &str) -> Result<()> {
        let answer = self.world.ask(method, target).await?;
        if answer.status == status { Ok(()) } else { Err(format!("{method} {target} was answered with {answer:?}").into()) }
    }

    async fn whoever_is_unknown_is_turned_away(&self) -> Result<()> {
        let job = "f".repeat(32);
        for (method, target) in [
            ("GET", "/$export".to_owned()),
            ("GET", "/Group".to_owned()),
            ("GET", format!("/_operations/export/{job}")),
            ("DELETE", format!("/_operations/export/{job}")),
            ("GET", format!("/_operations/files/{job}/Patient-1.ndjson")),
        ] {
            let answer = self.world.send(&Ask::new(method, target.clone())).await?;
            if answer.status != 401 {
                return Err(format!("{method} {target} was answered with {answer:?}").into());
            }
        }
        self.expect(200, "GET", "/metadata").await
    }

    /// Somebody's uploads are left in the folder each time before it is swept.
    async fn an_export_is_finished_read_and_expires(&self) -> Result<()> {
        self.expect(200, "GET", "/Group").await?;
        self.expect(200, "GET", "/Group/g").await?;
        for target in ["/Patient/1/$export", "/Group/g/$export", "/$export"] {
            let status = self.kick_off(&self.world, ANN, target).await?;
            if self.kick_off_again(&self.world, ANN, target).await? != status {
                return Err("a second export began".into());
            }
            while self.stage.leave_upload(&status).await?.is_none() {
                let message = self.world.receive().await?.ok_or("nothing is written")?;
                self.world.deliver(message).await?;
            }
            self.world.finish(&status).await?;
            self.expect(200, "GET", "/_operations/export").await?;
            if target == "/$export" {
                self.stage.leave_upload(&status).await?;
                self.world.reap_after(3 * MINUTE).await?;
                self.world.reap_after(24 * 60 * MINUTE).await?;
                self.expect(404, "GET", &status).await?;
            } else {
                self.stage.leave_upload(&status).await?;
                self.expect(202, "DELETE", &status).await?;
            }
        }
        Ok(())
    }

    /// Behind one export others wait. They begin when it ends, whoever notices that there is room.
    async fn exports_wait_and_begin(&self) -> Result<()> {
        // The worker that finishes the first begins the second.
        let first = self.kick_off(&self.world, ANN, "/$export").await?;
        let second = self.kick_off(&self.world, ANN, "/$export").await?;
        self.expect(202, "GET", &second).await?;
        self.world.finish(&first).await?;
        self.world.finish(&second).await?;
        // Whoever waits may give up. The cancellation of the first begins the third.
        let first = self.kick_off(&self.world, ANN, "/$export").await?;
        let second = self.kick_off(&self.world, ANN, "/$export").await?;
        let third = self.kick_off(&self.world, ANN, "/$export").await?;
        self.expect(202, "DELETE", &second).await?;
        self.expect(202, "DELETE", &first).await?;
        self.world.reap_after(MINUTE).await?;
        self.world.finish(&third).await?;
        // Room is made while a kick-off takes its place in the queue: that one begins its own.
        let first = self.kick_off(&self.world, ANN, "/$export").await?;
        let slow = self.process(|call| if call.name == "jobs.waiting" { Twist::SleepBefore } else { Twist::Pass });
        let (second, ended) = tokio::join!(self.kick_off(&slow, ANN, "/$export"), async {
            let alarm = slow.script.next_sleeper().await;
            let hasty = self.process(|call| if call.name == "jobs.waiting" { Twist::FailBefore } else { Twist::Pass });
            let ended = hasty.ask("DELETE", &first).await;
            slow.script.rewrite(|_| Twist::Pass);
            alarm.ring();
            ended
        });
        if ended?.status != 202 {
            return Err("the cancellation failed".into());
        }
        self.world.finish(&second?).await.map(drop)
    }

    async fn a_task_is_parked(&self) -> Result<()> {
        let status = self.kick_off(&self.world, BEN, "/$export").await?;
        let unlucky = self.process(|call| if call.name == "source.read" { Twist::FailBefore } else { Twist::Pass });
        for _ in 0..10 {
            unlucky.drain().await?;
            unlucky.reap_after(3 * MINUTE).await?;
        }
        let answer = self.world.send(&Ask::new("GET", status).by(BEN)).await?;
        if answer.status == 500 { Ok(()) } else { Err(format!("the export did not fail: {answer:?}").into()) }
    }

    /// The reaper announces again, begins what waits, and gives up what takes too long.
    async fn what_is_lost_is_announced_again(&self) -> Result<()> {
        let first = self.kick_off(&self.world, ANN, "/$export").await?;
        let second = self.kick_off(&self.world, ANN, "/$export").await?;
        while let Some(message) = self.world.receive().await? {
            drop(message);
        }
        let reaped = self.world.reap_after(3 * MINUTE).await?;
        if reaped.announced == 0 {
            return Err(format!("nothing was announced again: {reaped:?}").into());
        }
        while let Some(message) = self.world.receive().await? {
            drop(message);
        }
        // One whose deadline is over makes room for one that came later.
        let hasty = self.process(|call| if call.name == "jobs.waiting" { Twist::FailBefore } else { Twist::Pass });
        let third = hasty.reap_after(24 * 60 * MINUTE).await?;
        if third.overdue == 0 {
            return Err(format!("nothing was overdue: {third:?}").into());
        }
        self.expect(500, "GET", &first).await?;
        self.expect(500, "GET", &second).await?;
        let first = self.kick_off(&self.world, ANN, "/$export").await?;
        let second = self.kick_off(&self.world, ANN, "/$export").await?;
        hasty.ask("DELETE", &first).await?;
        let reaped = self.world.reap_after(MINUTE).await?;
        if reaped.admitted != 1 {
            return Err(format!("nobody's turn came: {reaped:?}").into());
        }
        self.world.finish(&second).await.map(drop)
    }

    /// The registration is looked up, and the key of its token; its files lie in the client's bucket until they are deleted.
    async fn a_client_with_a_token_has_its_files_in_its_own_bucket(&self) -> Result<()> {
        let world = World::start(&self.stage, &self.clock, terms().smart()?);
        let client = Client::es384("ehr")?;
        let mut registration = world.registration(&client, "system/*.rs")?;
        registration.destination = Some(self.stage.own());
        world.put_client(&registration).await?;
        let token = self.token_that_kms_signs(&world, &client).await?;
        let answer = world.send(&Ask::new("GET", "/Group/g").bearer(&token)).await?;
        if answer.status != 200 {
            return Err(format!("a token that KMS has signed was answered with {answer:?}").into());
        }
        world.act_as(&client, "system/*.rs");
        // The first is deleted by the client, the second when its time is over.
        let first = self.finish_and_leave_an_upload(&world).await?;
        world.ask("DELETE", &first).await?;
        if !self.stage.own_files().await?.is_empty() {
            return Err("files are left in the client's bucket".into());
        }
        self.finish_and_leave_an_upload(&world).await?;
        world.reap_after(3 * MINUTE).await?;
        world.reap_after(24 * 60 * MINUTE).await?;
        if self.stage.own_files().await?.is_empty() { Ok(()) } else { Err("files are left in the client's bucket".into()) }
    }

    /// As the function has it: the key never leaves KMS.
    async fn token_that_kms_signs(&self, world: &World<Aws>, client: &Client) -> Result<String> {
        let kms = KmsStandIn::start().client();
        let kms = aws_sdk_kms::Client::from_conf(kms.config().to_builder().interceptor(self.stage.askings.clone()).build());
        let door = Door::new(self.stage.jobs(), self.clock.clone(), AccessControl::Smart(SmartTerms::default()));
        let keys = JwksSource::new(Trust::Clients, self.clock.clone());
        let token = Token::new(door, (self.stage.jobs(), KmsSigner::new(kms, KEY)), keys, self.clock.clone());
        let assertion = client.sign(&client.header(), &client.claims(&world.token_url(), world.now()))?;
        let ask = Ask::form("/token", token_form(&assertion, "system/*.rs"));
        let answer = Answer::of(by("token", token.handle(ask.request(true)?)).await)?.json()?;
        answer
            .get("access_token")
            .and_then(serde_json::Value::as_str)
            .map(str::to_owned)
            .ok_or_else(|| format!("no token was given out: {answer}").into())
    }

    /// Somebody's uploads are in the folder before it is swept: while its files are written, and when they are deleted.
    async fn finish_and_leave_an_upload(&self, world: &World<Aws>) -> Result<String> {
        let status = world.kick_off("").await?;
        while self.stage.leave_upload(&status).await?.is_none() {
            let message = world.receive().await?.ok_or("nothing is written")?;
            world.deliver(message).await?;
        }
        world.finish(&status).await?;
        self.stage.leave_upload(&status).await?.ok_or("its files are gone")?;
        Ok(status)
    }

    /// Everything that is written for it is encrypted under the key.
    async fn a_job_names_a_key(&self) -> Result<()> {
        let client = self.world.registration(&Client::es384("unused")?, "system/*.rs")?;
        let keys = JobKey::parse_named(&format!("trial={JOB_KEY}"))?;
        let policy = Policy { keys, ..Policy::default() };
        // A file that a single tail becomes is copied.
        for kind in ["Patient", "Group"] {
            let parameters = [("_encryptionKey", "trial"), ("_type", kind)];
            let status = self.world.kick_off_as(client.clone(), &policy, &parameters).await?;
            self.world.finish(&status).await?;
        }
        Ok(())
    }

    /// By a configuration in the deployment's destination, and by one in a client's own.
    async fn exports_are_de_identified(&self) -> Result<()> {
        let config = r#"{"fhirPathRules":[{"path":"Resource.id","method":"cryptoHash"}]}"#;
        self.stage.configure("config.json", config).await?;
        let target = "/$export?_container=study&_anonymizationConfig=config.json";
        let status = self.kick_off(&self.world, ANN, target).await?;
        self.world.finish(&status).await?;
        let own = self.stage.own();
        let (bucket, prefix) = own.split_once('/').ok_or("no prefix")?;
        self.stage.s3.put(bucket, &format!("{prefix}/anonymization/config.json"), config).await?;
        let mut client = self.world.registration(&Client::es384("own")?, "system/*.rs")?;
        client.destination = Some(own.clone());
        client.id = World::<Aws>::ann();
        client.keys = ClientKeys::Elsewhere;
        self.world.put_client(&client).await?;
        let status = self.kick_off(&self.world, ANN, target).await?;
        self.world.finish(&status).await?;
        client.destination = None;
        self.world.put_client(&client).await
    }

    /// The reaper dies between a file and the record of it. The next one finds the file.
    async fn what_was_noted_is_sealed(&self) -> Result<()> {
        self.expect(200, "GET", "/Group").await?;
        let unlucky = self.process(|call| if call.name == "audit files.write" { Twist::FailAfter } else { Twist::Pass });
        unlucky.reap_after(2 * MINUTE).await?;
        self.world.reap_after(MINUTE).await.map(drop)
    }
}
