//! One process: the real handlers.

use std::sync::Arc;
use std::time::Duration;

use aws_lambda_events::event::sqs::{SqsEvent, SqsMessage};
use bytes::Bytes;
use cancel::handler::Cancel;
use chunk_worker::handler::ChunkWorker;
use files::handler::{Files, LocalFile};
use groups::handler::Groups;
use headrace_aws::DynamoJobStore;
use headrace_core::access::Agent;
use headrace_core::clock::Millis;
use headrace_core::flow::reap::Reaped;
use headrace_core::flow::run_task::WorkTerms;
use headrace_core::ids::{Caller, TaskId};
use headrace_core::job::{Conditions, Job, Limits, Quotas};
use headrace_core::ports::{Clock as _, JobStore as _, Ports, TaskQueue as _};
use headrace_core::request::ExportRequest;
use headrace_core::task::Planning;
use headrace_edge::config::{AccessControl, LakeTerms, Offer};
use headrace_edge::door::Door;
use headrace_edge::gateway;
use kickoff::handler::Kickoff;
use metadata::handler::Metadata;
use reaper::handler::Reaper;
use serde_json::{Map, Value, json};
use status::handler::Exports;

use super::asked::by;
use super::clock::next_id;
use super::tapped::Tapped;
use super::{Answer, Ask, ManualClock, Result, Script, Stage};

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
    pub work: WorkTerms,
    /// How many exports may be at work.
    pub quotas: Quotas,
}

impl Terms {
    /// Files of this size, slices of the same.
    pub fn file_bytes(bytes: u64) -> Self {
        let mut terms = Self::default();
        terms.limits.file_bytes = bytes;
        terms.work.slice_floor_bytes = 1;
        terms
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
    reaper: Reaper<Jobs, Queue<S>, Parts<S>, ManualClock>,
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
        let time = || clock.clone();
        let promised = headrace_edge::config::Terms { limits: terms.limits, quotas: terms.quotas, ..Default::default() };
        let access = if S::HAS_GATEWAY { AccessControl::AwsIam } else { AccessControl::None };
        let offer = Offer { access, ..Offer::of_one_machine(&promised, &LakeTerms::default()) };
        let ports = Ports { jobs: jobs.clone(), queue: queue.clone(), source: source.clone(), parts: parts.clone(), clock: time() };
        let door = || Door::new(jobs.clone(), clock.clone(), access);
        Arc::new(Self {
            stage: stage.clone(),
            clock: clock.clone(),
            limits: terms.limits,
            queue: own_queue,
            groups: Groups::new(door(), source.clone(), time(), None, promised.policy.version),
            kickoff: Kickoff::new(door(), (jobs.clone(), queue.clone()), (source, parts.clone()), time(), promised, next_id),
            exports: Exports::new(door(), jobs.clone(), time(), None),
            metadata: Metadata::new(clock, offer),
            cancel: Cancel::new(door(), jobs.clone(), parts.clone(), time()),
            files: Files::new(door(), jobs.clone(), parts.clone(), time()),
            worker: ChunkWorker::new(ports, WorkTerms { quotas: terms.quotas, ..terms.work }),
            reaper: Reaper::new(jobs.clone(), queue, parts, time(), terms.quotas),
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
            ("GET", "/Group" | "/Group/{id}") => Answer::of(by("groups", self.groups.handle(request)).await),
            (_, "/metadata" | "/OperationDefinition" | "/OperationDefinition/{id}" | "/.well-known/smart-configuration") => {
                Answer::of(by("metadata", self.metadata.handle(request)).await)
            }
            (_, _) => Answer::of(by("kickoff", self.kickoff.handle(request)).await),
        }
    }

    /// Ann's request.
    pub async fn ask(&self, method: &'static str, target: &str) -> Result<Answer> {
        self.send(&Ask::new(method, target).by(ANN)).await
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
        let id = next_id()?;
        // A role is who it is, whatever its session is called.
        let owner = if S::HAS_GATEWAY { ANN.rsplit_once('/').map_or(ANN, |(role, _)| role) } else { Caller::LOCAL };
        let job = Job { limits: self.limits, ..Job::accepted(id, Caller(owner.to_owned()), request, self.now()) };
        self.stage.jobs().record_job(&job, &Planning::default(), &Conditions::default(), &Agent::service()).await?;
        self.queue.announce(&[TaskId::plan(&job.id)], Duration::ZERO).await?;
        Ok(job.status_url())
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
