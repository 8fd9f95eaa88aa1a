//! What is done with messages once they are here: accepted, put aside, or left for later.
//!
//! Owns: the order within a group, the second look at a message that fails by itself. Absent on purpose: the broker. It hands
//! messages in and acknowledges what is settled, in `consumer`.

use super::{
    decide::{Decision, decide},
    message::{self, Letter, Unfit},
};
use crate::{
    amqp::raw::RawMessage,
    failpoint,
    ingest::{Caller, Incoming, Ingest, IngestError},
    observe::{Metrics, metrics::ByReason},
};
use campanile_model::{
    AppId,
    plan::Source,
    ports::{Actor, Store, StoreError},
};
use futures_util::FutureExt;
use lapin::BasicProperties;
use std::{
    collections::HashSet,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// The source in the poison list, and who is said to have done it.
const SOURCE: &str = "amqp";
/// Looks at a message that fails by itself, or that somebody else is at, before it is put aside or left for later.
const TRIES: u32 = 3;
/// Between two of them.
const PAUSE: Duration = Duration::from_millis(200);

/// One message as the broker gave it.
#[derive(Debug)]
pub struct Message {
    pub exchange: String,
    pub routing_key: String,
    pub properties: BasicProperties,
    pub body: Vec<u8>,
}

/// What became of a group.
#[derive(Debug, Default)]
pub struct Outcome {
    /// For each message: the broker may forget it.
    pub settled: Vec<bool>,
    /// Why some are not: the first reason.
    pub trouble: Option<IngestError>,
}

pub struct Desk {
    pub ingest: Arc<Ingest>,
    pub store: Arc<dyn Store>,
    pub metrics: Arc<Metrics>,
    pub body_max: usize,
    /// Apps that were found once; none ever goes.
    apps: Mutex<HashSet<AppId>>,
}

impl Desk {
    pub fn new(ingest: Arc<Ingest>, store: Arc<dyn Store>, metrics: Arc<Metrics>, body_max: usize) -> Self {
        Self { ingest, store, metrics, body_max, apps: Mutex::default() }
    }

    /// Settles what can be settled. Messages are begun in their order and share commits.
    pub async fn settle(&self, messages: &[Message]) -> Outcome {
        let mut group = Group { settled: vec![false; messages.len()], ..Group::default() };
        for (place, message) in messages.iter().enumerate() {
            match self.read(message).await {
                Ok(Ok(letter)) => group.open.push((place, letter)),
                Ok(Err(unfit)) => group.aside.push((place, unfit)),
                Err(e) => group.left(e.into()),
            }
        }
        for attempt in 1..=TRIES {
            if group.open.is_empty() {
                break;
            }
            if attempt > 1 {
                tokio::time::sleep(PAUSE).await;
            }
            self.accept(&mut group, attempt == TRIES).await;
        }
        for (place, unfit) in std::mem::take(&mut group.aside) {
            match self.put_aside(&messages[place], &unfit).await {
                Ok(()) => group.settled[place] = true,
                Err(e) => group.left(e.into()),
            }
        }
        Outcome { settled: group.settled, trouble: group.trouble }
    }

    async fn read(&self, message: &Message) -> Result<Result<Letter, Unfit>, StoreError> {
        let letter = match message::read(&message.properties, &message.body, self.body_max) {
            Ok(letter) => letter,
            Err(unfit) => {
                // Refusals before ingest are counted with the others.
                self.metrics.rejected.get_or_create(&ByReason::new(unfit.code)).inc();
                return Ok(Err(unfit));
            }
        };
        Ok(if self.app_exists(&letter.app).await? { Ok(letter) } else { Err(Unfit::unknown_app(&letter.app)) })
    }

    async fn app_exists(&self, app: &AppId) -> Result<bool, StoreError> {
        if self.apps.lock().unwrap_or_else(PoisonError::into_inner).contains(app) {
            return Ok(true);
        }
        let exists = self.store.app_exists(app).await?;
        if exists {
            self.apps.lock().unwrap_or_else(PoisonError::into_inner).insert(app.clone());
        }
        Ok(exists)
    }

    /// One look at everything that is open.
    async fn accept(&self, group: &mut Group, last: bool) {
        let open = std::mem::take(&mut group.open);
        let results = match self.results(&open).await {
            Ok(results) => results,
            Err(e) => return group.left(e),
        };
        for ((place, letter), result) in open.into_iter().zip(results) {
            let Err(e) = result else {
                group.settled[place] = true;
                continue;
            };
            match decide(&e) {
                Decision::Aside => group.aside.push((place, Unfit::refused(&e, letter.key.as_deref()))),
                Decision::Again | Decision::Doubt if !last => group.open.push((place, letter)),
                Decision::Doubt => {
                    // That it can be written there shows that the database is well and the message is not.
                    let error = &e as &dyn std::error::Error;
                    tracing::error!(error, "A message could not be stored; it goes to the poison list");
                    group.aside.push((place, Unfit::refused(&e, None)));
                }
                Decision::Again | Decision::Later => group.left(e),
            }
        }
    }

    /// `Err`: nothing was tried, and none of them is the reason.
    async fn results(&self, open: &[(usize, Letter)]) -> Result<Vec<Result<(), IngestError>>, IngestError> {
        let all = self.ingest.accept_each(open.iter().map(|(_, letter)| incoming(letter)).collect());
        match self.caught(all).await {
            Ok(results) => return Ok(results.into_iter().map(|r| r.map(drop)).collect()),
            Err(e) if decide(&e) == Decision::Doubt => {}
            Err(e) => return Err(e),
        }
        // One of them is the reason: its people can't be read, or it brought out a fault of ours.
        let mut results = Vec::with_capacity(open.len());
        for (_, letter) in open {
            let one = incoming(letter);
            results.push(self.caught(self.ingest.accept(&one.caller, one.request, one.key)).await.map(drop));
        }
        Ok(results)
    }

    /// A panic is a message's doubt and not the consumer's end.
    async fn caught<T>(&self, work: impl Future<Output = Result<T, IngestError>>) -> Result<T, IngestError> {
        AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|_| {
            self.metrics.panics.get_or_create(&ByReason::new("intake")).inc();
            Err(StoreError::Statement { what: "taking a message", source: "it made the server panic".into() }.into())
        })
    }

    async fn put_aside(&self, message: &Message, unfit: &Unfit) -> Result<(), StoreError> {
        let Message { exchange, routing_key, properties, body } = message;
        let envelope = message::envelope(exchange, routing_key, properties, body.len());
        self.keep(body, unfit, &envelope).await
    }

    /// For a message of which only the bytes are known.
    pub async fn put_aside_unread(&self, message: &RawMessage) -> Result<(), StoreError> {
        let unfit = Unfit::unreadable();
        self.metrics.rejected.get_or_create(&ByReason::new(unfit.code)).inc();
        self.keep(&message.body, &unfit, &message::unread_envelope(message)).await
    }

    async fn keep(&self, body: &[u8], unfit: &Unfit, envelope: &str) -> Result<(), StoreError> {
        let kept = message::kept(body, self.body_max);
        self.store.add_poison(SOURCE, kept, &unfit.reason, Some(envelope)).await?;
        failpoint::reached("intake.poison_before_ack");
        self.metrics.poison.get_or_create(&ByReason::new(unfit.code)).inc();
        // Not the reason itself: it may repeat what the message says.
        tracing::warn!(code = unfit.code, "A message was put aside as {}; GET /api/v1/poison shows it", unfit.code);
        Ok(())
    }
}

/// What is known of a group while it is worked on. Numbers are places in the group.
#[derive(Default)]
struct Group {
    settled: Vec<bool>,
    open: Vec<(usize, Letter)>,
    aside: Vec<(usize, Unfit)>,
    trouble: Option<IngestError>,
}

impl Group {
    /// Something stays for later, because of this.
    fn left(&mut self, why: IngestError) {
        self.trouble.get_or_insert(why);
    }
}

fn incoming(letter: &Letter) -> Incoming {
    let request_id = uuid::Uuid::new_v4().to_string();
    let actor = Actor { who: SOURCE.to_owned(), address: None, request_id: request_id.clone() };
    let caller = Caller { app: letter.app.clone(), source: Source::Amqp, request_id, actor, trace: letter.trace };
    Incoming { caller, request: letter.request.clone(), key: letter.key.clone() }
}

#[cfg(test)]
mod tests;
