//! One process: the real handlers.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lambda_events::event::sqs::{SqsEvent, SqsMessage};
use bytes::Bytes;
use cancel::handler::Cancel;
use chunk_worker::handler::ChunkWorker;
use files::handler::{Files, LocalFile};
use groups::handler::Groups;
use headrace_aws::DynamoJobStore;
use headrace_core::access::{self, Agent, ClientKeys, Origin, Principal, Reach, Scopes};
use headrace_core::flow::client::kick_off::{KickOff, Settings, kick_off};
use headrace_core::flow::look_up::LookUpTerms;
use headrace_core::flow::upkeep::reap::Reaped;
use headrace_core::flow::upkeep::seal::SealTerms;
use headrace_core::flow::work::run_task::WorkerSettings;
use headrace_core::job::anonymization::JobSecret;
use headrace_core::job::task::Planning;
use headrace_core::job::{Conditions, Job, Limits, Quotas};
use headrace_core::ports::{AccessStore as _, Clock as _, JobStore as _, Ports, TaskQueue as _};
use headrace_core::request::{Asked, ExportRequest, Policy};
use headrace_core::vocab::clock::Millis;
use headrace_core::vocab::error::ExportError;
use headrace_core::vocab::ids::{Caller, TaskId};
use headrace_edge::config::{AccessControl, LakeTerms, Offer, SmartTerms};
use headrace_edge::door::Door;
use headrace_edge::gateway;
use headrace_edge::jwks::{JwksSource, Trust};
use headrace_fhir::FhirVersion;
use headrace_local::server::service::Access;
use headrace_local::stores::signer::FileSigner;
use kickoff::handler::Kickoff;
use metadata::handler::Metadata;
use reaper::handler::Reaper;
use serde_json::{Map, Value, json};
use status::handler::Exports;
use token::handler::Token;

use super::answer::{GATEWAY_BASE, OWN_BASE};
use super::asked::by;
use super::clock::next_id;
use super::tapped::Tapped;
use super::{Answer, Ask, Client, ManualClock, Result, Script, Stage, token_form};

/// Who asks in most tests.
pub const ANN: &str = "arn:aws:sts::111122223333:assumed-role/Export/ann";

/// Somebody else.
pub const BEN: &str = "arn:aws:iam::111122223333:user/ben";

/// What a deployment promises and how it works.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// What jobs are promised.
    pub limits: Limits,
    /// How workers work.
    pub work: WorkerSettings,
    /// How many exports may be at work.
    pub quotas: Quotas,
    /// Who may ask, if it is not IAM behind a gateway and everybody on one machine.
    pub access: Option<Access>,
}

impl Terms {
    /// Files of this size, slices of the same.
    pub fn file_bytes(bytes: u64) -> Self {
        let mut terms = Self::default();
        terms.limits.file_bytes = bytes;
        terms.work.slice_floor_bytes = 1;
        terms
    }

    /// Registered clients may ask, with access tokens that a new key signs.
    pub fn smart(mut self) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        self.access = Some(Access::Smart(FileSigner::open_or_create(folder.path(), Millis(0))?));
        Ok(self)
    }

    /// More than so many left-over bytes are gathered in rounds.
    #[must_use]
    pub fn join_limit_bytes(mut self, bytes: u64) -> Self {
        self.work.join_limit_bytes = bytes;
        self
    }
}

type Jobs = Tapped<DynamoJobStore>;
type Queue<S> = Tapped<<S as Stage>::Queue>;
type Source<S> = Tapped<<S as Stage>::Source>;
type Parts<S> = Tapped<<S as Stage>::Parts>;
type Audit<S> = Tapped<<S as Stage>::Audit>;
type Starts<S> = Kickoff<Jobs, Queue<S>, Source<S>, Parts<S>, ManualClock>;
type Works<S> = ChunkWorker<Jobs, Queue<S>, Source<S>, Parts<S>, ManualClock>;

/// One process over a stage, and its script.
pub struct World<S: Stage> {
    /// What outlives it.
    pub stage: S,
    /// The time.
    pub clock: ManualClock,
    /// What happens to its port calls.
    pub script: Script,
    limits: Limits,
    queue: S::Queue,
    kickoff: Starts<S>,
    exports: Exports<Jobs, ManualClock>,
    metadata: Metadata,
    cancel: Cancel<Jobs, Parts<S>, ManualClock>,
    files: Files<Jobs, Parts<S>, ManualClock>,
    groups: Groups<Jobs, Source<S>, ManualClock>,
    worker: Works<S>,
    reaper: Reaper<Jobs, Queue<S>, Parts<S>, Audit<S>, ManualClock>,
    token: Option<Token<Jobs, FileSigner, ManualClock>>,
    /// Who asks where nobody else is named, and for which scopes.
    acting: Mutex<Option<(Client, String)>>,
}

impl<S: Stage> World<S> {
    /// A process to which nothing happens.
    pub fn start(stage: &S, clock: &ManualClock, terms: Terms) -> Arc<Self> {
        Self::scripted(stage, clock, terms, Script::quiet())
    }

    /// A process with a script.
    pub fn scripted(stage: &S, clock: &ManualClock, terms: Terms, script: Script) -> Arc<Self> {
        Self::with_ports(stage, clock, terms, script, stage.ports())
    }

    /// A process with ports of its own choice.
    pub fn with_ports(
        stage: &S,
        clock: &ManualClock,
        terms: Terms,
        script: Script,
        (queue, source, parts): (S::Queue, S::Source, S::Parts),
    ) -> Arc<Self> {
        let own_queue = queue.clone();
        let (jobs, queue) = (Tapped::new(stage.jobs(), &script), Tapped::new(queue, &script));
        let (source, parts) = (Tapped::new(source, &script), Tapped::new(parts, &script));
        let audit = Tapped::new(stage.audit(), &script);
        let time = || clock.clone();
        let promised = headrace_edge::config::Terms { limits: terms.limits, quotas: terms.quotas, ..Default::default() };
        let access = match &terms.access {
            Some(Access::Smart(_)) => AccessControl::Smart(SmartTerms::default()),
            Some(Access::External(terms)) => AccessControl::External(terms.clone()),
            Some(Access::None) => AccessControl::None,
            None if S::HAS_GATEWAY => AccessControl::AwsIam,
            None => AccessControl::None,
        };
        let offer = Offer { access: access.clone(), ..Offer::of_one_machine(&promised, &LakeTerms::default()) };
        let ports = Ports { jobs: jobs.clone(), queue: queue.clone(), source: source.clone(), parts: parts.clone(), clock: time() };
        let door = || Door::new(jobs.clone(), clock.clone(), access.clone());
        let keys = || JwksSource::new(Trust::ClientsOfOneMachine, clock.clone());
        let token = match terms.access {
            Some(Access::Smart(signer)) => Some(Token::new(door(), (jobs.clone(), signer), keys(), time())),
            Some(Access::External(_) | Access::None) | None => None,
        };
        Arc::new(Self {
            stage: stage.clone(),
            clock: clock.clone(),
            limits: terms.limits,
            token,
            acting: Mutex::default(),
            queue: own_queue,
            groups: Groups::new(door(), source.clone(), time(), None, promised.policy.version),
            kickoff: Kickoff::new(door(), (jobs.clone(), queue.clone()), (source, parts.clone()), time(), promised, next_id),
            exports: Exports::new(door(), jobs.clone(), time(), None),
            metadata: Metadata::new(clock, offer),
            cancel: Cancel::new(door(), jobs.clone(), parts.clone(), time()),
            files: Files::new(door(), jobs.clone(), parts.clone(), time()),
            worker: ChunkWorker::new(ports, WorkerSettings { quotas: terms.quotas, ..terms.work }),
            reaper: Reaper::new((jobs.clone(), queue), (parts, audit), time(), terms.quotas, SealTerms::default()),
            script,
        })
    }

    /// Sends a request to the function that its route leads to.
    pub async fn send(&self, ask: &Ask) -> Result<Answer> {
        let request = ask.request(S::HAS_GATEWAY)?;
        match (ask.method, ask.route()?.0) {
            ("GET", "/_operations/export" | "/_operations/export/{job}") => Answer::of(by("status", self.exports.handle(request)).await),
            ("DELETE", "/_operations/export/{job}") => Answer::of(by("cancel", self.cancel.handle(request)).await),
            ("GET", "/_operations/files/{job}/{name}") => {
                let response = by("files", self.files.handle(request)).await;
                match response.extensions().get::<LocalFile>().cloned() {
                    Some(LocalFile(path)) => Ok(Answer { body: std::fs::read(path)?.into(), ..Answer::of(response)? }),
                    None => Answer::of(response),
                }
            }
            ("POST", "/token") => match &self.token {
                Some(token) => Answer::of(by("token", token.handle(request)).await),
                None => Err("this world gives no tokens out".into()),
            },
            ("GET", "/Group" | "/Group/{id}") => Answer::of(by("groups", self.groups.handle(request)).await),
            (_, "/metadata" | "/OperationDefinition" | "/OperationDefinition/{id}" | "/.well-known/smart-configuration") => {
                Answer::of(by("metadata", self.metadata.handle(request)).await)
            }
            (_, _) => Answer::of(by("kickoff", self.kickoff.handle(request)).await),
        }
    }

    /// The request of whoever acts: Ann, unless it was said otherwise.
    pub async fn ask(&self, method: &'static str, target: &str) -> Result<Answer> {
        let ask = Ask::new(method, target).by(ANN);
        let acting = self.acting.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match acting {
            Some((client, scopes)) => {
                let token = self.token(&client, &scopes).await?;
                self.send(&ask.bearer(&token)).await
            }
            None => self.send(&ask).await,
        }
    }

    /// From now on this client asks, each time with a fresh token for these scopes.
    pub fn act_as(&self, client: &Client, scopes: &str) {
        *self.acting.lock().unwrap_or_else(PoisonError::into_inner) = Some((client.clone(), scopes.to_owned()));
    }

    /// The FHIR base, as tokens name it.
    pub fn base(&self) -> &'static str {
        if S::HAS_GATEWAY { GATEWAY_BASE } else { OWN_BASE }
    }

    /// The token endpoint's URL.
    pub fn token_url(&self) -> String {
        format!("{}/token", self.base())
    }

    /// A registration of the client with its key, for these scopes and nothing else; to be changed and written with
    /// [`World::put_client`].
    pub fn registration(&self, client: &Client, scopes: &str) -> Result<access::Client> {
        let scopes = Scopes::of_text(scopes, FhirVersion::default()).0;
        Ok(access::Client::new(Caller(client.id.clone()), ClientKeys::Jwks(client.jwks()?), scopes, self.now()))
    }

    /// Writes a registration, over an earlier one if there is one.
    pub async fn put_client(&self, registration: &access::Client) -> Result<()> {
        let store = self.stage.jobs();
        let seen = store.client(&registration.id).await?.map(|client| client.changed_at);
        if store.put_client(registration, seen).await? { Ok(()) } else { Err("somebody else registered the client".into()) }
    }

    /// Registers a client for these scopes.
    pub async fn register(&self, client: &Client, scopes: &str) -> Result<()> {
        self.put_client(&self.registration(client, scopes)?).await
    }

    /// An access token of the client for these scopes.
    pub async fn token(&self, client: &Client, scopes: &str) -> Result<String> {
        let answer = self.ask_token(client, scopes).await?;
        let json = answer.json()?;
        let token = json.get("access_token").and_then(Value::as_str).filter(|_| answer.status == 200);
        token.map(str::to_owned).ok_or_else(|| format!("the token request was answered with {answer:?}").into())
    }

    /// The answer to a token request of the client for these scopes.
    pub async fn ask_token(&self, client: &Client, scopes: &str) -> Result<Answer> {
        let assertion = client.sign(&client.header(), &client.claims(&self.token_url(), self.now()))?;
        self.send(&Ask::form("/token", token_form(&assertion, scopes))).await
    }

    /// Kicks off; the path of the status URL.
    pub async fn kick_off(&self, query: &str) -> Result<String> {
        let answer = self.ask("GET", &format!("/$export{query}")).await?;
        if answer.status != 202 {
            return Err(format!("the kick-off was answered with {answer:?}").into());
        }
        let url = answer.header("content-location").ok_or("no Content-Location")?;
        url.find("/_operations").and_then(|at| url.get(at..)).map(str::to_owned).ok_or_else(|| format!("{url} is no status URL").into())
    }

    /// Records a job for a request that is resolved already, and announces its plan; the path of the status URL.
    pub async fn begin(&self, request: ExportRequest) -> Result<String> {
        let job = Job { limits: self.limits, ..Job::accepted(next_id()?, Self::ann(), request, self.now()) };
        self.stage.jobs().record_job(&job, &Planning::default(), &Conditions::default(), &Agent::service()).await?;
        self.queue.announce(&[TaskId::plan(&job.id)], Duration::ZERO).await?;
        Ok(job.status_url())
    }

    /// Kicks off for Ann as if she were registered like this, with what the operator allows; the path of the status URL.
    pub async fn kick_off_as(&self, client: access::Client, policy: &Policy, parameters: &[(&str, &str)]) -> Result<String, ExportError> {
        let asked = Asked {
            accept: vec!["application/fhir+json".to_owned()],
            prefer: vec!["respond-async".to_owned()],
            parameters: parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            ..Asked::default()
        };
        let reach = Reach { client: Some(client), ..Reach::default() };
        let visitor = Principal { caller: Self::ann(), is_authenticated: true, reach, origin: Origin::default() };
        let order = KickOff {
            id: next_id()?,
            asked,
            visitor,
            base: String::new(),
            request_url: String::new(),
            idempotency_key: None,
            secret: JobSecret([7; 32]),
        };
        let settings = Settings { policy, limits: self.limits, quotas: Quotas::default(), look_up: LookUpTerms::default() };
        let (_, source, parts) = self.stage.ports();
        let ports = (&self.stage.jobs(), &self.queue);
        Ok(Box::pin(kick_off(ports, (&source, &parts), &self.clock, settings, order)).await?.status_url())
    }

    /// Ann, as jobs know her: a role is who it is, whatever its session is called.
    pub fn ann() -> Caller {
        let owner = if S::HAS_GATEWAY { ANN.rsplit_once('/').map_or(ANN, |(role, _)| role) } else { Caller::LOCAL };
        Caller(owner.to_owned())
    }

    /// A file's bytes, whichever way the deployment hands them out.
    pub async fn download(&self, target: &str) -> Result<Bytes> {
        let answer = self.ask("GET", target).await?;
        match (answer.status, answer.header("location")) {
            (200, _) => Ok(answer.body),
            (307, Some(url)) => Box::pin(self.stage.follow(url)).await,
            _ => Err(format!("{target} was answered with {answer:?}").into()),
        }
    }

    /// The next message, if one waits.
    pub async fn receive(&self) -> Result<Option<SqsMessage>> {
        Box::pin(self.stage.receive(&self.queue)).await
    }

    /// Delivers a message, and settles it as the worker's answer says; whether it is to be delivered again.
    pub async fn deliver(&self, message: SqsMessage) -> Result<bool> {
        self.deliver_until(message, Millis(u64::MAX)).await
    }

    /// The same in a process that is to be stopped at `stop_at`.
    pub async fn deliver_until(&self, message: SqsMessage, stop_at: Millis) -> Result<bool> {
        let mut event = SqsEvent::default();
        event.records = vec![message.clone()];
        // Through JSON, as it comes.
        let event: SqsEvent = serde_json::from_value(serde_json::to_value(event)?)?;
        let response = by("chunk-worker", self.worker.handle(event, stop_at)).await?;
        let again = !response.batch_item_failures.is_empty();
        Box::pin(self.stage.settle(&self.queue, &message, again)).await?;
        Ok(again)
    }

    /// Delivers these bodies in one event; the places of those that are to be delivered again.
    pub async fn answer_to(&self, bodies: &[String]) -> Result<Vec<usize>> {
        let mut event = SqsEvent::default();
        for (place, body) in bodies.iter().enumerate() {
            let mut message = SqsMessage::default();
            message.message_id = Some(place.to_string());
            message.body = Some(body.clone());
            event.records.push(message);
        }
        let again = by("chunk-worker", self.worker.handle(event, Millis(u64::MAX))).await?.batch_item_failures;
        again.into_iter().map(|failure| Ok(failure.item_identifier.parse()?)).collect()
    }

    /// What a function answers to an event, both as they are: of an HTTP answer `status`, `headers` and `body`.
    pub async fn invoke(&self, function: &str, event: &Value) -> Result<Value> {
        let http = || serde_json::from_value(event.clone());
        let response = match function {
            "kickoff" => gateway::answer(http()?, |request| by("kickoff", self.kickoff.handle(request))).await,
            "status" => gateway::answer(http()?, |request| by("status", self.exports.handle(request))).await,
            "metadata" => gateway::answer(http()?, |request| by("metadata", self.metadata.handle(request))).await,
            "cancel" => gateway::answer(http()?, |request| by("cancel", self.cancel.handle(request))).await,
            "files" => gateway::answer(http()?, |request| by("files", self.files.handle(request))).await,
            "groups" => gateway::answer(http()?, |request| by("groups", self.groups.handle(request))).await,
            "token" => match &self.token {
                Some(token) => gateway::answer(http()?, |request| by("token", token.handle(request))).await,
                None => return Err("this world gives no tokens out".into()),
            },
            "chunk-worker" => {
                let answer = by("chunk-worker", self.worker.handle(serde_json::from_value(event.clone())?, Millis(u64::MAX))).await;
                return Ok(answer.map_or_else(|error| json!({ "error": error.to_string() }), |answer| json!(answer)));
            }
            "reaper" => return by("reaper", self.reaper.handle()).await.map(|_| Value::Null),
            _ => return Err(format!("there is no function {function}").into()),
        };
        let answer = Answer::of(response)?;
        let headers: Map<String, Value> = answer.headers.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect();
        let body = answer.json().unwrap_or_else(|_| String::from_utf8_lossy(&answer.body).into_owned().into());
        Ok(json!({ "status": answer.status, "headers": headers, "body": body }))
    }

    /// One run of the reaper.
    pub async fn reap(&self) -> Result<Reaped> {
        by("reaper", self.reaper.handle()).await
    }

    /// Lets time pass, then has the reaper look.
    pub async fn reap_after(&self, time: Duration) -> Result<Reaped> {
        self.clock.advance(time);
        self.reap().await
    }

    /// The time now.
    pub fn now(&self) -> Millis {
        self.clock.now()
    }
}
