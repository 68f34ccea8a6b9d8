//! The service: the engine with latencies, limits and conflicts.

use std::cell::RefCell;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::oneshot;

use super::capacity::{Consumed, write_units};
use super::engine::{Answer, Engine};
use super::error::{Reason, TableError};
use super::limits::Limits;
use super::request::{Request, TransactWriteItems};
use super::write::Write;
use crate::lock;
use crate::meter::{Meter, Service};
use crate::parameters::TableParameters;
use crate::random::log_normal;
use crate::time::VirtualTime;

/// The service. Clones share it.
#[derive(Clone, Debug)]
pub struct TableServer {
    time: VirtualTime,
    meter: Meter,
    parameters: Arc<TableParameters>,
    state: Arc<Mutex<State>>,
}

/// The table and the capacity of its partition keys.
#[derive(Debug, Default)]
struct State {
    engine: Engine,
    limits: Limits,
}

/// The response to a call.
#[derive(Debug)]
pub(super) struct Response {
    /// The status of HTTP.
    pub(super) status: u16,
    pub(super) body: String,
}

impl TableServer {
    /// Creates a service without a table.
    pub fn new(time: VirtualTime, meter: Meter, parameters: TableParameters) -> Self {
        Self { time, meter, parameters: Arc::new(parameters), state: Arc::default() }
    }

    /// Returns the value of a text attribute of the item with this sort key, without a call. `None` if there is none.
    pub fn find_text(&self, sort_key: &str, attribute: &str) -> Option<String> {
        lock(&self.state).engine.find_text(sort_key, attribute)
    }

    /// Returns the clock of the service.
    pub(super) fn time(&self) -> &VirtualTime {
        &self.time
    }

    /// Executes a call and returns its answer. The server finishes it even if the caller ends before.
    pub(super) async fn call(&self, operation: &'static str, body: Vec<u8>) -> Option<Response> {
        self.meter.count_calls(Service::DynamoDb, operation, 1);
        self.time.sleep(self.parameters.network / 2).await;
        let (sender, receiver) = oneshot::channel();
        let wants_capacity = memchr::memmem::find(&body, b"\"ReturnConsumedCapacity\"").is_some();
        let server = self.clone();
        self.time.spawn(async move {
            let result = server.execute(operation, &body).await;
            // The caller may have ended.
            drop(sender.send(result));
        });
        let result = receiver.await.ok()?;
        self.time.sleep(self.parameters.network / 2).await;
        Some(match result {
            Ok(answer) if wants_capacity => Response { status: 200, body: with_capacity(operation, answer) },
            Ok(answer) => Response { status: 200, body: answer.json },
            Err(error) => {
                self.meter.count_rejection(Service::DynamoDb, error.reason());
                Response { status: 400, body: error.to_json().to_string() }
            }
        })
    }

    /// Executes an operation after the time that it takes.
    async fn execute(&self, operation: &str, body: &[u8]) -> Result<Answer, TableError> {
        let parameters = &self.parameters;
        match Request::parse(operation, body)? {
            Request::CreateTable(request) => lock(&self.state).engine.create(request),
            Request::UpdateTimeToLive => Ok(Answer { json: "{}".to_owned(), ..Answer::default() }),
            Request::GetItem(request) => {
                self.pause(parameters.read).await;
                self.read(|engine| engine.get(&request))
            }
            Request::BatchGetItem(request) => {
                self.pause(parameters.read).await;
                self.read(|engine| engine.batch_get(request))
            }
            Request::Query(request) => {
                self.pause(parameters.read).await;
                let answer = self.read(|engine| engine.query(&request))?;
                let megabytes = f64::from(u32::try_from(answer.bytes).unwrap_or(u32::MAX)) / f64::from(1 << 20);
                self.time.sleep(parameters.read_per_mb.mul_f64(megabytes)).await;
                Ok(answer)
            }
            Request::Write(request) => {
                let write = Write::parse(*request)?;
                self.pause(parameters.write).await;
                self.with_admission(|engine, admit| engine.write(&write, admit), std::slice::from_ref(&write))
            }
            Request::BatchWriteItem(request) => {
                self.pause(parameters.write).await;
                self.with_admission(|engine, admit| engine.batch_write(&request, |consumed| admit(consumed)), &[])
            }
            Request::TransactWriteItems(request) => self.transact(request).await,
        }
    }

    /// Sleeps for a drawn latency, without the part that the network takes.
    async fn pause(&self, median: Duration) {
        let latency = log_normal(median, self.parameters.spread);
        self.time.sleep(latency.saturating_sub(self.parameters.network)).await;
    }

    /// Reads if the partition keys have capacity left.
    fn read(&self, read: impl FnOnce(&Engine) -> Result<Answer, TableError>) -> Result<Answer, TableError> {
        let mut state = lock(&self.state);
        let answer = read(&state.engine)?;
        let now = self.time.elapsed();
        if !state.limits.admit(&self.parameters, now, &answer.consumed) {
            return Err(TableError::Throttled);
        }
        self.measure(now, &answer.consumed);
        Ok(answer)
    }

    /// Writes if no transaction uses the items and the partition keys have capacity left.
    fn with_admission(
        &self,
        write: impl FnOnce(&mut Engine, &dyn Fn(&Consumed) -> bool) -> Result<Answer, TableError>,
        writes: &[Write],
    ) -> Result<Answer, TableError> {
        let mut state = lock(&self.state);
        let State { engine, limits } = &mut *state;
        let now = self.time.elapsed();
        if writes.iter().any(|write| limits.is_in_use(&write.key)) {
            return Err(TableError::Conflict);
        }
        let limits = RefCell::new(limits);
        let result = write(engine, &|consumed| limits.borrow_mut().admit(&self.parameters, now, consumed));
        match &result {
            Ok(answer) => self.measure(now, &answer.consumed),
            // A write whose condition fails consumes what it would have written, here one unit for each item.
            Err(TableError::ConditionFailed) => self.charge(&mut limits.borrow_mut(), now, writes, 1.0),
            Err(_) => {}
        }
        result
    }

    /// Executes a transaction. Its items are in use from its arrival to its end.
    async fn transact(&self, request: TransactWriteItems) -> Result<Answer, TableError> {
        let token = request.client_request_token;
        let writes = request.transact_items.into_iter().map(|item| Write::parse(item.into_write()?)).collect::<Result<Vec<_>, _>>()?;
        self.begin(&writes)?;
        let items = u32::try_from(writes.len()).unwrap_or(u32::MAX);
        self.pause(self.parameters.transaction + self.parameters.transaction_item * items).await;
        let mut state = lock(&self.state);
        let State { engine, limits } = &mut *state;
        limits.release_items(writes.iter().map(|write| &write.key));
        let now = self.time.elapsed();
        let result = engine.transact(&writes, token, |consumed| limits.admit(&self.parameters, now, consumed));
        match &result {
            Ok(answer) => self.measure(now, &answer.consumed),
            Err(error) if error.reason() == "condition failed" => self.charge(limits, now, &writes, 2.0),
            Err(_) => {}
        }
        result
    }

    /// Marks the items of a transaction as used. Fails if one is used already.
    fn begin(&self, writes: &[Write]) -> Result<(), TableError> {
        let mut state = lock(&self.state);
        let limits = &mut state.limits;
        let reason = |write: &Write| if limits.is_in_use(&write.key) { Reason::Conflict } else { Reason::None };
        let reasons: Vec<_> = writes.iter().map(reason).collect();
        if reasons.contains(&Reason::Conflict) {
            // The items were prepared, which is half of the cost.
            self.charge(limits, self.time.elapsed(), writes, 1.0);
            return Err(TableError::Cancelled(reasons));
        }
        limits.use_items(writes.iter().map(|write| &write.key));
        Ok(())
    }

    /// Charges writes that were not applied, with this many units for each item.
    fn charge(&self, limits: &mut Limits, now: Duration, writes: &[Write], factor: f64) {
        let mut consumed = Consumed::default();
        writes.iter().for_each(|write| consumed.add_writes(&write.key.0, factor * write_units(None, None)));
        limits.take(&self.parameters, now, &consumed);
        self.measure(now, &consumed);
    }

    /// Adds the consumed capacity to the measurements.
    fn measure(&self, now: Duration, consumed: &Consumed) {
        consumed.keys.iter().for_each(|(key, units)| self.meter.add_capacity(key, now, *units));
    }
}

/// Returns the body of an answer with the consumed capacity: a list for operations on several tables.
fn with_capacity(operation: &str, answer: Answer) -> String {
    let (writes, reads) = answer.consumed.sum();
    let consumed = serde_json::json!({ "TableName": "headrace", "CapacityUnits": writes + reads });
    let consumed = if operation == "TransactWriteItems" { serde_json::json!([consumed]) } else { consumed };
    let separator = if answer.json == "{}" { "" } else { "," };
    let members = answer.json.strip_suffix('}').unwrap_or_default();
    format!("{members}{separator}\"ConsumedCapacity\":{consumed}}}")
}
