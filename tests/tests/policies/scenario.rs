//! Scenario in which the functions make every kind of AWS call.

use std::sync::Arc;

use headrace_aws::{EventBridgeBus, KmsSigner};
use headrace_core::access::ClientKeys;
use headrace_core::job::Quotas;
use headrace_core::ports::{AccessStore as _, ScheduleStore as _};
use headrace_core::request::{EncryptionKey, ExportPolicy};
use headrace_core::schedule::{Schedule, ScheduleDefinition, ScheduleState, Timing};
use headrace_core::vocab::lake_settings::LakeWatermark;
use headrace_core::vocab::level::Level;
use headrace_core::vocab::schedule_key::{ScheduleKey, ScheduleName};
use headrace_core::vocab::webhook::RegisteredWebhook;
use headrace_edge::auth::Authenticator;
use headrace_edge::config::{AccessControl, SmartSettings, WatermarkLimit};
use headrace_edge::event_targets::EventTargets;
use headrace_edge::jwks::{JwksCache, UrlPolicy};
use headrace_edge::webhook::{WebhookClient, WebhookSecret, WebhookSettings};
use headrace_tests::flows::aws_sync::AwsSync;
use headrace_tests::flows::permissions::run_as;
use headrace_tests::flows::{
    ANN, AwsDeployment, BEN, Deployment as _, DeploymentSettings, Fault, FaultInjector, ManualClock, REAPER_INTERVAL, Result,
    ServiceProcess, SmartClient, TestRequest, TestResponse, token_request_form,
};
use headrace_tests::standins::event_bridge::{EVENT_BUS, EventBridgeStandIn};
use headrace_tests::standins::kms::{KmsStandIn, SIGNING_KEY};
use reaper::watermark::WatermarkMonitor;
use token::handler::TokenHandler;

/// Encryption key that a kick-off may select.
pub(crate) const JOB_KEY: &str = "arn:aws:kms:eu-central-1:111122223333:key/job";

/// Group with one member.
const GROUP: &str = r#"{"resourceType":"Group","id":"g","type":"person","actual":true,"member":[{"entity":{"reference":"Patient/1"}}]}"#;

/// Returns a lake of two objects with different versions of the same patients, so that files are written again, and a group.
fn lake() -> Vec<(&'static str, String)> {
    let patient = |n: usize, day: u8| {
        format!("{{\"resourceType\":\"Patient\",\"id\":\"{n}\",\"meta\":{{\"lastUpdated\":\"2026-01-0{day}T00:00:00Z\"}}}}\n")
    };
    let patients = |day: u8| (0..9).map(|n| patient(n, day)).collect::<String>();
    vec![("1/Patient.ndjson", patients(1)), ("2/Patient.ndjson", patients(2)), ("3/Group.ndjson", format!("{GROUP}\n"))]
}

/// Returns settings under which several files per type are written, fragments are merged in a round of their own, and a caller's second
/// export is queued.
fn settings() -> DeploymentSettings {
    let quotas = Quotas { per_caller: Some(1), global: None, queue_when_full: true };
    DeploymentSettings { quotas, events: true, ..DeploymentSettings::with_file_bytes(300) }.with_merge_limit_bytes(700)
}

/// Deployment, clock and process of the scenario.
/// Deployment and the process of the scenario.
struct Scenario {
    deployment: AwsDeployment,
    clock: ManualClock,
    service: Arc<ServiceProcess<AwsDeployment>>,
}

/// Drives every function through everything that it can do, and returns the deployment with the permission log.
pub(crate) async fn run_all_functions() -> Result<AwsDeployment> {
    let deployment = AwsDeployment::new().await?;
    for (object, text) in lake() {
        deployment.set_lake_object(object, Some(text.into())).await?;
    }
    let clock = ManualClock::default();
    let service = ServiceProcess::start(&deployment, &clock, settings());
    let scenario = Scenario { deployment, clock, service };
    scenario.reject_unauthenticated_requests().await?;
    scenario.complete_delete_and_expire_exports().await?;
    scenario.queue_and_start_exports().await?;
    scenario.park_a_task().await?;
    scenario.reannounce_lost_tasks().await?;
    scenario.export_to_a_clients_bucket().await?;
    scenario.export_with_an_encryption_key().await?;
    scenario.export_de_identified().await?;
    scenario.run_schedules().await?;
    scenario.give_up_events().await?;
    scenario.seal_audit_records().await?;
    scenario.watch_the_watermark().await?;
    scenario.synchronize().await?;
    Ok(scenario.deployment)
}

impl Scenario {
    /// Starts another process with injected faults over the same stores.
    fn start_with_faults(
        &self,
        plan: impl FnMut(headrace_tests::flows::PortCall) -> Fault + Send + 'static,
    ) -> Arc<ServiceProcess<AwsDeployment>> {
        ServiceProcess::start_with_faults(&self.deployment, &self.clock, settings(), FaultInjector::new(plan))
    }

    /// Kicks off as `caller`, one second later and so under a new idempotency key. Returns the path of the status URL.
    async fn kick_off(&self, service: &ServiceProcess<AwsDeployment>, caller: &str, target: &str) -> Result<String> {
        self.clock.advance(std::time::Duration::from_secs(1));
        self.repeat_kick_off(service, caller, target).await
    }

    /// Repeats a kick-off within the same second, under the same idempotency key.
    async fn repeat_kick_off(&self, service: &ServiceProcess<AwsDeployment>, caller: &str, target: &str) -> Result<String> {
        let mut request = TestRequest::new("GET", target).with_identity(caller);
        request.headers.push(("idempotency-key", self.service.now().0.to_string()));
        let response = service.send(&request).await?;
        let url = response.header("content-location").ok_or_else(|| format!("{target} was answered with {response:?}"))?;
        Ok(url.get(url.find("/_operations").unwrap_or_default()..).unwrap_or_default().to_owned())
    }

    /// Sends a request as Ann. Fails if the response has another status.
    async fn expect(&self, status: u16, method: &'static str, target: &str) -> Result<()> {
        let response = self.service.request(method, target).await?;
        if response.status == status { Ok(()) } else { Err(format!("{method} {target} was answered with {response:?}").into()) }
    }

    /// Sends a request without an identity to every protected function.
    async fn reject_unauthenticated_requests(&self) -> Result<()> {
        let job = "f".repeat(32);
        for (method, target) in [
            ("GET", "/$export".to_owned()),
            ("GET", "/Group".to_owned()),
            ("GET", format!("/_operations/export/{job}")),
            ("DELETE", format!("/_operations/export/{job}")),
            ("GET", format!("/_operations/files/{job}/Patient-1.ndjson")),
        ] {
            let response = self.service.send(&TestRequest::new(method, target.clone())).await?;
            if response.status != 401 {
                return Err(format!("{method} {target} was answered with {response:?}").into());
            }
        }
        self.expect(200, "GET", "/metadata").await
    }

    /// Completes exports of several levels and downloads them. They are deleted by the client or expire, each time with an incomplete
    /// upload in the folder.
    async fn complete_delete_and_expire_exports(&self) -> Result<()> {
        self.expect(200, "GET", "/Group").await?;
        self.expect(200, "GET", "/Group/g").await?;
        for target in ["/Patient/1/$export", "/Group/g/$export", "/$export"] {
            let status = self.kick_off(&self.service, ANN, target).await?;
            if self.repeat_kick_off(&self.service, ANN, target).await? != status {
                return Err("the repeated kick-off started a second export".into());
            }
            while self.deployment.leave_incomplete_upload(&status).await?.is_none() {
                let message = self.service.receive().await?.ok_or("no files are written")?;
                self.service.deliver(message).await?;
            }
            self.service.complete(&status).await?;
            self.expect(200, "GET", "/_operations/export").await?;
            if target == "/$export" {
                self.deployment.leave_incomplete_upload(&status).await?;
                self.service.reap_after(3 * REAPER_INTERVAL).await?;
                self.service.reap_after(24 * 60 * REAPER_INTERVAL).await?;
                self.expect(404, "GET", &status).await?;
            } else {
                self.deployment.leave_incomplete_upload(&status).await?;
                self.expect(202, "DELETE", &status).await?;
            }
        }
        Ok(())
    }

    /// Queues exports. They are started by the worker, by a cancellation with the reaper, and by the kick-off itself.
    async fn queue_and_start_exports(&self) -> Result<()> {
        // The worker that completes the first export starts the second.
        let first = self.kick_off(&self.service, ANN, "/$export").await?;
        let second = self.kick_off(&self.service, ANN, "/$export").await?;
        self.expect(202, "GET", &second).await?;
        self.service.complete(&first).await?;
        self.service.complete(&second).await?;
        // A queued export can be cancelled. The cancellation of the running export starts the third.
        let first = self.kick_off(&self.service, ANN, "/$export").await?;
        let second = self.kick_off(&self.service, ANN, "/$export").await?;
        let third = self.kick_off(&self.service, ANN, "/$export").await?;
        self.expect(202, "DELETE", &second).await?;
        self.expect(202, "DELETE", &first).await?;
        self.service.reap_after(REAPER_INTERVAL).await?;
        self.service.complete(&third).await?;
        // A slot becomes free while a kick-off queues its export, so that the kick-off starts it.
        let first = self.kick_off(&self.service, ANN, "/$export").await?;
        let slow = self.start_with_faults(|call| if call.name == "jobs.queued_jobs" { Fault::PauseBefore } else { Fault::None });
        let (second, ended) = tokio::join!(self.kick_off(&slow, ANN, "/$export"), async {
            let paused = slow.faults.next_pause().await;
            let blind = self.start_with_faults(|call| if call.name == "jobs.queued_jobs" { Fault::FailBefore } else { Fault::None });
            let ended = blind.request("DELETE", &first).await;
            slow.faults.set_plan(|_| Fault::None);
            paused.resume();
            ended
        });
        if ended?.status != 202 {
            return Err("the cancellation failed".into());
        }
        self.service.complete(&second?).await.map(drop)
    }

    /// Lets a task fail until it is parked and its job fails.
    async fn park_a_task(&self) -> Result<()> {
        let status = self.kick_off(&self.service, BEN, "/$export").await?;
        let failing = self.start_with_faults(|call| if call.name == "source.read" { Fault::FailBefore } else { Fault::None });
        for _ in 0..10 {
            failing.deliver_all().await?;
            failing.reap_after(3 * REAPER_INTERVAL).await?;
        }
        let response = self.service.send(&TestRequest::new("GET", status).with_identity(BEN)).await?;
        if response.status == 500 { Ok(()) } else { Err(format!("the export did not fail: {response:?}").into()) }
    }

    /// Lets the reaper announce lost tasks again, fail overdue exports, and start a queued one.
    async fn reannounce_lost_tasks(&self) -> Result<()> {
        let first = self.kick_off(&self.service, ANN, "/$export").await?;
        let second = self.kick_off(&self.service, ANN, "/$export").await?;
        while let Some(message) = self.service.receive().await? {
            drop(message);
        }
        let reaped = self.service.reap_after(3 * REAPER_INTERVAL).await?;
        if reaped.announced == 0 {
            return Err(format!("nothing was announced again: {reaped:?}").into());
        }
        while let Some(message) = self.service.receive().await? {
            drop(message);
        }
        // This process cannot read the queue, so the slots that it frees stay free for the next reaper.
        let blind = self.start_with_faults(|call| if call.name == "jobs.queued_jobs" { Fault::FailBefore } else { Fault::None });
        let third = blind.reap_after(24 * 60 * REAPER_INTERVAL).await?;
        if third.overdue == 0 {
            return Err(format!("nothing was overdue: {third:?}").into());
        }
        self.expect(500, "GET", &first).await?;
        self.expect(500, "GET", &second).await?;
        let first = self.kick_off(&self.service, ANN, "/$export").await?;
        let second = self.kick_off(&self.service, ANN, "/$export").await?;
        blind.request("DELETE", &first).await?;
        let reaped = self.service.reap_after(REAPER_INTERVAL).await?;
        if reaped.started != 1 {
            return Err(format!("no queued export was started: {reaped:?}").into());
        }
        self.service.complete(&second).await.map(drop)
    }

    /// Exports to a client's own bucket with an access token that KMS signed.
    async fn export_to_a_clients_bucket(&self) -> Result<()> {
        let service = ServiceProcess::start(&self.deployment, &self.clock, settings().with_smart_access()?);
        let client = SmartClient::new_es384("ehr")?;
        let mut registration = service.registration(&client, "system/*.rs")?;
        registration.destination = Some(self.deployment.client_destination());
        service.put_client(&registration).await?;
        let token = self.issue_token_with_kms(&service, &client).await?;
        let response = service.send(&TestRequest::new("GET", "/Group/g").with_bearer_token(&token)).await?;
        if response.status != 200 {
            return Err(format!("a token that KMS signed was answered with {response:?}").into());
        }
        service.set_client(&client, "system/*.rs");
        // The client deletes the first export. The second one expires.
        let first = self.complete_with_incomplete_upload(&service).await?;
        service.request("DELETE", &first).await?;
        if !self.deployment.client_files().await?.is_empty() {
            return Err("files remain in the client's bucket".into());
        }
        self.complete_with_incomplete_upload(&service).await?;
        service.reap_after(3 * REAPER_INTERVAL).await?;
        service.reap_after(24 * 60 * REAPER_INTERVAL).await?;
        if self.deployment.client_files().await?.is_empty() { Ok(()) } else { Err("files remain in the client's bucket".into()) }
    }

    /// Requests a token from a handler that signs with KMS, as the deployed function does.
    async fn issue_token_with_kms(&self, service: &ServiceProcess<AwsDeployment>, client: &SmartClient) -> Result<String> {
        let kms = KmsStandIn::start().client();
        let kms = aws_sdk_kms::Client::from_conf(kms.config().to_builder().interceptor(self.deployment.permission_log.clone()).build());
        let authenticator =
            Authenticator::new(self.deployment.job_store(), self.clock.clone(), AccessControl::Smart(SmartSettings::default()));
        let keys = JwksCache::new(UrlPolicy::Clients, self.clock.clone());
        let token =
            TokenHandler::new(authenticator, (self.deployment.job_store(), KmsSigner::new(kms, SIGNING_KEY)), keys, self.clock.clone());
        // A stranger, whose request is recorded apart from those of clients.
        let stranger = TestRequest::form_post("/token", "x=1");
        drop(run_as("token", token.handle(stranger.to_lambda_request(true)?)).await);
        let assertion = client.sign(&client.assertion_header(), &client.assertion_claims(&service.token_url(), service.now()))?;
        let request = TestRequest::form_post("/token", token_request_form(&assertion, "system/*.rs"));
        let response = TestResponse::from_lambda(run_as("token", token.handle(request.to_lambda_request(true)?)).await)?.json()?;
        response
            .get("access_token")
            .and_then(serde_json::Value::as_str)
            .map(str::to_owned)
            .ok_or_else(|| format!("no token was issued: {response}").into())
    }

    /// Completes an export and leaves incomplete uploads in its folder, during the work and after completion. Returns the status URL.
    async fn complete_with_incomplete_upload(&self, service: &ServiceProcess<AwsDeployment>) -> Result<String> {
        let status = service.kick_off("").await?;
        while self.deployment.leave_incomplete_upload(&status).await?.is_none() {
            let message = service.receive().await?.ok_or("no files are written")?;
            service.deliver(message).await?;
        }
        service.complete(&status).await?;
        self.deployment.leave_incomplete_upload(&status).await?.ok_or("the export has no folder")?;
        Ok(status)
    }

    /// Exports with an encryption key of the job.
    async fn export_with_an_encryption_key(&self) -> Result<()> {
        let client = self.service.registration(&SmartClient::new_es384("unused")?, "system/*.rs")?;
        let keys = EncryptionKey::parse_list(&format!("trial={JOB_KEY}"))?;
        let policy = ExportPolicy { keys, ..ExportPolicy::default() };
        // A type with a single fragment is promoted by a copy.
        for resource_type in ["Patient", "Group"] {
            let parameters = [("_encryptionKey", "trial"), ("_type", resource_type)];
            let status = self.service.kick_off_as(client.clone(), &policy, &parameters).await?;
            self.service.complete(&status).await?;
        }
        Ok(())
    }

    /// Exports with a configuration in the deployment's destination, and with one in a client's own destination.
    async fn export_de_identified(&self) -> Result<()> {
        let config = r#"{"fhirPathRules":[{"path":"Resource.id","method":"cryptoHash"},{"path":"nodesByType('Reference').reference","method":"cryptoHash"}]}"#;
        self.deployment.put_anonymization_config("config.json", config).await?;
        self.deployment.put_anonymization_keys("config.json", r#"{"cryptoHashKey":"0123456789abcdef0123456789abcdef"}"#).await?;
        let target = "/$export?_container=study&_anonymizationConfig=config.json";
        let status = self.kick_off(&self.service, ANN, target).await?;
        self.service.complete(&status).await?;
        let client_destination = self.deployment.client_destination();
        let (bucket, prefix) = client_destination.split_once('/').ok_or("no prefix")?;
        self.deployment.s3.put(bucket, &format!("{prefix}/anonymization/config.json"), config).await?;
        let mut client = self.service.registration(&SmartClient::new_es384("own")?, "system/*.rs")?;
        client.destination = Some(client_destination.clone());
        client.id = ServiceProcess::<AwsDeployment>::ann();
        client.keys = ClientKeys::External;
        self.service.put_client(&client).await?;
        let status = self.kick_off(&self.service, ANN, target).await?;
        self.service.complete(&status).await?;
        client.destination = None;
        self.service.put_client(&client).await
    }

    /// Starts de-identified exports by schedules: of the group to the deployment's destination, and of everything to a client's own.
    async fn run_schedules(&self) -> Result<()> {
        let (store, now) = (self.deployment.job_store(), self.service.now());
        let own = self.deployment.client_destination();
        let schedules = [("ours", None, Level::Group("g".to_owned())), ("theirs", Some(own), Level::System)];
        for (name, destination, level) in schedules {
            let mut client = self.service.registration(&SmartClient::new_es384(name)?, "system/*.rs")?;
            client.destination = destination;
            self.service.put_client(&client).await?;
            let parameters = [("_container", "study"), ("_anonymizationConfig", "config.json")];
            let definition = ScheduleDefinition {
                client: Some(client.id),
                timing: Timing::parse("PT1M", None, now)?,
                level,
                parameters: parameters.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
                is_lenient: false,
                is_incremental: true,
                keep: Some(1),
                created_at: now,
            };
            let key = ScheduleKey { name: ScheduleName::parse(name)?, id: "1".repeat(32) };
            let schedule = Schedule { key, definition, state: ScheduleState::new(now), complete_run: None, revision: 1 };
            store.put_schedule(&schedule, None).await?;
        }
        self.clock.advance(REAPER_INTERVAL);
        let fired = self.service.fire_schedules().await?;
        self.service.deliver_all().await?;
        for schedule in store.schedules().await? {
            if schedule.complete_run.is_none() {
                return Err(format!("{fired:?}, but the schedule has no complete run: {schedule:?}").into());
            }
            store.remove_schedule(&schedule).await?;
        }
        Ok(())
    }

    /// Delivers events to an event bus, and to webhooks that nobody answers, until they are given up. One of the webhooks is the client's.
    async fn give_up_events(&self) -> Result<()> {
        let (store, owner) = (self.deployment.job_store(), ServiceProcess::<AwsDeployment>::ann());
        let mut client = store.client(&owner).await?.ok_or("the client is not registered")?;
        let encrypted_secret = self.deployment.encrypt_webhook_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").await?;
        client.webhook = Some(RegisteredWebhook { url: "http://localhost:1/".to_owned(), encrypted_secret });
        self.service.put_client(&client).await?;
        let bus = EventBridgeStandIn::start().client();
        let bus = bus.config().to_builder().interceptor(self.deployment.permission_log.clone()).build();
        let bus = EventBridgeBus::new(aws_sdk_eventbridge::Client::from_conf(bus), EVENT_BUS);
        let secret = WebhookSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")?;
        let webhook = WebhookSettings::new("http://localhost:1/".to_owned(), secret, UrlPolicy::LocalClients)?;
        let client = || WebhookClient::new(UrlPolicy::LocalClients);
        let targets = || EventTargets::new(Some(webhook.clone()), client()).with_event_bus(Some(bus.clone()));
        self.service.kick_off("").await?;
        self.service.deliver_events(targets()).await?;
        self.clock.advance(25 * 60 * REAPER_INTERVAL);
        let delivered = self.service.deliver_events(targets()).await?;
        if delivered.undelivered > 0 { Ok(()) } else { Err(format!("no event was given up: {delivered:?}").into()) }
    }

    /// Measures the age of the lake's watermark.
    async fn watch_the_watermark(&self) -> Result<()> {
        let limit = WatermarkLimit { setting: LakeWatermark::Auto, max_age: REAPER_INTERVAL };
        let monitor = WatermarkMonitor::new(self.deployment.ports().1, self.clock.clone(), Some(limit));
        match run_as("reaper", monitor.record_age()).await {
            None => Ok(()),
            age => Err(format!("the lake has no watermark, but its age is {age:?}").into()),
        }
    }

    /// Synchronizes the lake with a FHIR server. Parks a message that names no task, and drops an upload whose content breaks off.
    async fn synchronize(&self) -> Result<()> {
        let sync = AwsSync::start(&self.deployment, &self.clock).await?;
        // Two reapers at the same moment.
        let (one, other) = tokio::join!(sync.start_due(), sync.start_due());
        let job = one?.or(other?).ok_or("no synchronization is due")?;
        while self.deployment.leave_incomplete_upload(job.as_str()).await?.is_none() {
            sync.deliver_one().await?;
        }
        sync.complete(&job).await?;
        sync.announce_garbage().await?;
        sync.deliver_one().await?;
        sync.break_off_an_upload().await
    }

    /// Seals audit records. The result of one write is lost, so that the next reaper finds the file already written.
    async fn seal_audit_records(&self) -> Result<()> {
        self.expect(200, "GET", "/Group").await?;
        let failing = self.start_with_faults(|call| if call.name == "audit files.write" { Fault::FailAfter } else { Fault::None });
        failing.reap_after(2 * REAPER_INTERVAL).await?;
        self.service.reap_after(REAPER_INTERVAL).await.map(drop)
    }
}
