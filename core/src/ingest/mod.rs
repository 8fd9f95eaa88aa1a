//! Accepting: from a request's JSON to one committed part of a transaction.
//!
//! Owns: what a request may say ([`validate`]), who gets what by which channel ([`plan`]), the one call of [`policy`],
//! back-pressure ([`backlog`]). The flow is one line: validate → resolve → plan → `status.accept`.
//! Absent on purpose: HTTP (`http::api::notifications` and the AMQP consumer both call [`Ingest::accept`]), SQL,
//! the words of the answer (the store writes them in the accepting commit).

mod backlog;
mod canonical;
pub mod contact;
mod directory;
mod error;
mod fault;
pub mod names;
mod plan;
pub mod policy;
mod validate;

pub use directory::{Directory, Known};
pub use error::IngestError;
pub use fault::{Fault, Faults, Invalid};
pub use validate::{FIELDS, LATER_FIELDS, RECIPIENT_FIELDS, idempotency_key};

use crate::{
    channel::Registry, config::Config, failpoint, observe::Metrics, observe::metrics as m, queue::Depths,
    status::Status,
};
use backlog::PauseCache;
use campanile_model::{
    AppId, ChannelName, Clock, Notification, NotificationId, Timestamp, TraceContext, UserId, UserKey,
    api::Acceptance,
    frame::Frame,
    plan::{AcceptItem, AudiencePlan, AudienceSpec, Idempotency, RecipientPlan, RecipientSpec, Source},
    ports::{AcceptError, Accepted, Actor, Bus, SignalSink, Store, StoreResult, WorkQueue},
    signal::Signal,
    user::Resolved,
    work::AudienceSlice,
};
use chrono::SubsecRound;
use futures_util::{StreamExt, stream};
use plan::Planner;
use policy::{Policy, SendNow};
use serde_json::Value;
use std::{
    borrow::Borrow,
    collections::{BTreeSet, HashMap},
    sync::Arc,
};
use validate::{Request, Rules};

/// How often a request is planned again when one of its users is being erased.
const STALE_TRIES: u32 = 3;
/// Items of one batch that wait for the writer at once: enough to fill a commit, little enough to leave room for others.
const BATCH_WIDTH: usize = 512;

/// Users of a batch whose contact points are read at once, so that no read keeps others waiting for long.
const RESOLVE_WIDTH: usize = 1_000;

/// Who asks.
#[derive(Clone, Debug)]
pub struct Caller {
    pub app: AppId,
    pub source: Source,
    /// Names the request in logs, attempts and answers.
    pub request_id: String,
    pub actor: Actor,
    /// The trace it is part of.
    pub trace: Option<TraceContext>,
}

/// One of several requests that need not come from the same caller.
#[derive(Debug)]
pub struct Incoming {
    pub caller: Caller,
    pub request: Value,
    /// The caller's idempotency key, checked by [`idempotency_key`].
    pub key: Option<String>,
}

/// Contact points of everyone that several requests name inline.
type KnownUsers = HashMap<AppId, HashMap<UserId, Resolved>>;

/// What an accepted request is answered with.
#[derive(Debug)]
pub enum Answer {
    /// Committed.
    Stored { body: Acceptance, replayed: bool },
    /// `persist: false`: told to open sockets, or dropped because the websocket channel is paused.
    Ephemeral { notification_id: NotificationId, pushed: bool },
}

/// A request that is not valid, and the key under which it may have been accepted when it was.
struct Refused {
    invalid: Invalid,
    idempotency: Option<Idempotency>,
}

impl Refused {
    /// Its key is what can't be read.
    fn unnamed(invalid: Invalid) -> Self {
        Self { invalid, idempotency: None }
    }
}

pub struct IngestParts {
    pub config: Arc<Config>,
    pub store: Arc<dyn Store>,
    pub status: Arc<Status>,
    pub channels: Arc<Registry>,
    pub queue: Arc<dyn WorkQueue>,
    pub depths: Arc<Depths>,
    pub bus: Arc<dyn Bus>,
    pub clock: Arc<dyn Clock>,
    pub metrics: Arc<Metrics>,
}

pub struct Ingest {
    parts: IngestParts,
    policy: Box<dyn Policy>,
    paused: PauseCache,
}

impl Ingest {
    pub fn new(parts: IngestParts) -> Arc<Self> {
        Arc::new(Self { parts, policy: Box::new(SendNow), paused: PauseCache::default() })
    }

    /// One request. `key` is the caller's idempotency key, checked by [`idempotency_key`].
    pub async fn accept(&self, caller: &Caller, request: Value, key: Option<String>) -> Result<Answer, IngestError> {
        let result = match self.validate(request, key) {
            Ok(request) => self.admit(caller, request, None).await,
            Err(refused) => self.repeated(caller, refused).await,
        };
        self.count_refusal(result)
    }

    /// Several requests, each on its own, side by side so that they share commits. Results in order.
    ///
    /// Fails as a whole only when nothing was tried: too long a backlog, or contact points that can't be read.
    pub async fn accept_batch(
        &self,
        caller: &Caller,
        requests: Vec<Value>,
    ) -> Result<Vec<Result<Answer, IngestError>>, IngestError> {
        let checked = requests.into_iter().map(|mut request| {
            let key = validate::take_key(&mut request).map_err(Refused::unnamed);
            (caller, key.and_then(|key| self.validate(request, key)))
        });
        self.accept_checked(checked.collect()).await
    }

    /// The same for requests of several callers, each with its key beside it. They are begun in the order given.
    pub async fn accept_each(&self, incoming: Vec<Incoming>) -> Result<Vec<Result<Answer, IngestError>>, IngestError> {
        let checked = incoming.into_iter().map(|i| {
            let checked = self.validate(i.request, i.key);
            (i.caller, checked)
        });
        self.accept_checked(checked.collect()).await
    }

    /// Whether it makes sense to bring more: the database answers, and not too much is waiting.
    pub async fn ready(&self) -> Result<(), IngestError> {
        self.parts.store.ping().await?;
        self.check_backlog().await
    }

    async fn accept_checked<C: Borrow<Caller>>(
        &self,
        checked: Vec<(C, Result<Request, Refused>)>,
    ) -> Result<Vec<Result<Answer, IngestError>>, IngestError> {
        let known = match self.resolve_all(&checked).await {
            Ok(known) => known,
            Err(e) => return self.count_refusal(Err(e)),
        };
        let none = HashMap::new();
        let answers = stream::iter(checked).map(|(caller, request)| {
            let (known, none) = (&known, &none);
            async move {
                let caller = caller.borrow();
                let result = match request {
                    Ok(request) => self.admit(caller, request, Some(known.get(&caller.app).unwrap_or(none))).await,
                    Err(refused) => self.repeated(caller, refused).await,
                };
                self.count_refusal(result)
            }
        });
        Ok(answers.buffered(BATCH_WIDTH).collect().await)
    }

    /// Plans a slice of a large audience; for the expander, which then calls `status.expand`.
    pub async fn plan_recipients(&self, slice: &AudienceSlice) -> StoreResult<Vec<RecipientPlan>> {
        let n = &slice.notification;
        let users: Vec<UserId> = slice.recipients.iter().map(|r| r.user_id.clone()).collect();
        let resolved = self.parts.store.resolve(&n.app, &users).await?;
        Ok(self.planner(n, slice.channels.as_deref()).plan(&slice.recipients, &resolved))
    }

    fn validate(&self, request: Value, key: Option<String>) -> Result<Request, Refused> {
        let idempotency = key.map(|key| Idempotency { key, body_hash: canonical::hash(&request) });

        let rules = Rules {
            channels: self.parts.channels.as_ref(),
            max_recipients: self.parts.config.ingest.max_recipients,
            now: self.now(),
        };
        validate::request(request, idempotency.clone(), &rules).map_err(|invalid| Refused { invalid, idempotency })
    }

    /// A repeat of what was accepted once is answered as then, though it would be refused by now: its `expires_at` has
    /// passed, or its channel was switched off.
    async fn repeated(&self, caller: &Caller, refused: Refused) -> Result<Answer, IngestError> {
        if let Some(request) = &refused.idempotency
            && let Some(body) = self.parts.status.answered(&caller.app, request).await?
        {
            return Ok(Answer::Stored { body, replayed: true });
        }
        Err(refused.invalid.into())
    }

    /// What is valid and now needs doing.
    async fn admit(
        &self,
        caller: &Caller,
        request: Request,
        known: Option<&HashMap<UserId, Resolved>>,
    ) -> Result<Answer, IngestError> {
        if !request.persist {
            return Ok(self.push(caller, &request).await?);
        }
        if known.is_none() {
            self.check_backlog().await?;
        }
        let accepted = self.store(caller, request, known).await?;
        failpoint::reached("accept.before_answer");
        Ok(Answer::Stored { body: accepted.body, replayed: accepted.replayed })
    }

    /// Plans and commits; plans again when a user was erased in between.
    async fn store(
        &self,
        caller: &Caller,
        request: Request,
        known: Option<&HashMap<UserId, Resolved>>,
    ) -> Result<Accepted, AcceptError> {
        let notification = self.notification(caller, &request);
        let mut known = known;
        let mut tries = 1;
        loop {
            let audience = if request.recipients.len() > self.parts.config.ingest.inline_max {
                AudiencePlan::Deferred(deferred(&request.recipients, request.channels.as_ref()))
            } else {
                let resolved = self.resolve(&caller.app, &request.recipients, known.take()).await?;
                let planner = self.planner(&notification, request.channels.as_deref());
                AudiencePlan::Inline(planner.plan(&request.recipients, &resolved))
            };
            let item = AcceptItem {
                notification: notification.clone(),
                audience,
                idempotency: request.idempotency.clone(),
                request: request.stored.clone(),
                source: caller.source,
                sent_by: caller.actor.who.clone(),
            };
            match self.parts.status.accept(item).await {
                Err(AcceptError::Stale) if tries < STALE_TRIES => tries += 1,
                other => return other,
            }
        }
    }

    fn notification(&self, caller: &Caller, request: &Request) -> Notification {
        Notification {
            id: NotificationId::new(),
            app: caller.app.clone(),
            content: request.content.clone(),
            priority: request.priority,
            created_at: self.now(),
            send_at: request.send_at,
            expires_at: request.expires_at,
            collapse_key: request.collapse_key.clone(),
            request_id: caller.request_id.clone(),
            trace: caller.trace,
        }
    }

    /// `persist: false`: no row, no seq, no wait; told to whoever is there.
    async fn push(&self, caller: &Caller, request: &Request) -> StoreResult<Answer> {
        let notification_id = NotificationId::new();
        let pushed = !self.paused.websocket(self.parts.store.as_ref()).await?;
        if pushed {
            let c = &request.content;
            let frame = Frame::encode(notification_id, &c.title, &c.message, &c.notification_type, self.now(), &c.data);
            let users = request
                .recipients
                .iter()
                .map(|r| UserKey { app: caller.app.clone(), user: r.user_id.clone() })
                .collect();
            self.parts.bus.publish(Signal::Ephemeral { frame, users });
            let labels = m::PrioritySource::new(request.priority.as_str(), caller.source.as_str());
            self.parts.metrics.accepted.get_or_create(&labels).inc();
        }
        Ok(Answer::Ephemeral { notification_id, pushed })
    }

    async fn resolve(
        &self,
        app: &AppId,
        recipients: &[RecipientSpec],
        known: Option<&HashMap<UserId, Resolved>>,
    ) -> StoreResult<Vec<Resolved>> {
        if let Some(known) = known {
            return Ok(recipients.iter().map(|r| known.get(&r.user_id).cloned().unwrap_or_default()).collect());
        }
        let users: Vec<UserId> = recipients.iter().map(|r| r.user_id.clone()).collect();
        self.parts.store.resolve(app, &users).await
    }

    /// Contact points of everyone that several requests name inline, read once.
    async fn resolve_all<C: Borrow<Caller>>(
        &self,
        checked: &[(C, Result<Request, Refused>)],
    ) -> Result<KnownUsers, IngestError> {
        let inline_max = self.parts.config.ingest.inline_max;
        let stored: Vec<_> = checked
            .iter()
            .filter_map(|(caller, request)| Some((&caller.borrow().app, request.as_ref().ok()?)))
            .filter(|(_, request)| request.persist)
            .collect();
        if stored.is_empty() {
            return Ok(HashMap::new());
        }
        self.check_backlog().await?;
        let mut users: HashMap<&AppId, BTreeSet<UserId>> = HashMap::new();
        for (app, request) in stored.into_iter().filter(|(_, r)| r.recipients.len() <= inline_max) {
            users.entry(app).or_default().extend(request.recipients.iter().map(|r| r.user_id.clone()));
        }
        let mut known = HashMap::with_capacity(users.len());
        for (app, users) in users {
            let users: Vec<UserId> = users.into_iter().collect();
            let mut found = HashMap::with_capacity(users.len());
            for some in users.chunks(RESOLVE_WIDTH) {
                let resolved = self.parts.store.resolve(app, some).await?;
                found.extend(some.iter().cloned().zip(resolved));
            }
            known.insert(app.clone(), found);
        }
        Ok(known)
    }

    fn planner<'a>(&'a self, n: &Notification, channels: Option<&'a [ChannelName]>) -> Planner<'a> {
        Planner::new(
            self.parts.channels.as_ref(),
            channels,
            n,
            self.policy.as_ref(),
            self.parts.queue.as_ref(),
            u64::from(self.parts.config.worker.prefetch),
        )
    }

    async fn check_backlog(&self) -> Result<(), IngestError> {
        let depth = self.parts.depths.unsettled().await;
        if depth > self.parts.config.ingest.max_backlog { Err(IngestError::Backlog) } else { Ok(()) }
    }

    fn count_refusal<T>(&self, result: Result<T, IngestError>) -> Result<T, IngestError> {
        if let Err(e) = &result {
            self.parts.metrics.rejected.get_or_create(&m::ByReason::new(e.code())).inc();
        }
        result
    }

    /// Rows keep milliseconds; the frame that is pushed now must read like the one that is read back later.
    fn now(&self) -> Timestamp {
        self.parts.clock.now().trunc_subsecs(3)
    }
}

/// Pauses of the websocket channel decide about `persist: false`.
impl SignalSink for Ingest {
    fn signal(&self, signal: &Signal) {
        match signal {
            Signal::ChannelChanged(channel) if *channel == ChannelName::websocket() => self.paused.forget(),
            Signal::Missed => self.paused.forget(),
            _ => {}
        }
    }
}

fn deferred(recipients: &[RecipientSpec], channels: Option<&Vec<ChannelName>>) -> AudienceSpec {
    let mut recipients = recipients.to_vec();
    recipients.sort_by(|a, b| a.user_id.cmp(&b.user_id));
    AudienceSpec { recipients, channels: channels.cloned() }
}
