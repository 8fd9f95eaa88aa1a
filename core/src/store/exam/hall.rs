//! What a case works with: the store, a sink that remembers, short ways to say common things.

use super::engines;
pub(crate) use super::engines::Engine;
use async_trait::async_trait;
pub(crate) use campanile_model::{
    AppId, ChannelName, Content, DeliveryId, DeliveryState, NodeId, Notification, NotificationId, Priority, Timestamp,
    UserId, UserKey,
    api::{AcceptedDelivery, ShownState},
    effects::{Effects, FeedChangeKind, Marked},
    feed::{Counts, FeedFilter, MarkAs, MarkSelection},
    plan::{AcceptItem, AudiencePlan, AudienceSpec, DeliveryPlan, Idempotency, RecipientPlan, RecipientSpec, Source},
    ports::{AcceptError, Actor, EffectSink, Retention, Store, StoreError},
    user::Contact,
    work::{AddressFault, AttemptOutcome, ClaimOutcome, Claimed, Finish, NextStep},
};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

pub(crate) const LEASE: Duration = Duration::from_mins(1);
pub(crate) const DAY: Duration = Duration::from_hours(24);
pub(crate) const MAX_AGE: Duration = Duration::from_hours(72);

/// A store of one engine, with its clock's handle.
pub(crate) struct Sitting {
    pub store: Arc<dyn Store>,
    pub set_clock: Box<dyn Fn(i64) + Send + Sync>,
    /// Goes when the store is done with it.
    pub _place: Box<dyn Send + Sync>,
}

#[derive(Default)]
pub(crate) struct Recorder(Mutex<Vec<Effects>>);

#[async_trait]
impl EffectSink for Recorder {
    async fn committed(&self, effects: Effects) {
        self.0.lock().unwrap().push(effects);
    }
}

pub(crate) struct Exam {
    sitting: Sitting,
    sink: Arc<Recorder>,
    offset: AtomicI64,
    pub node: NodeId,
}

impl std::ops::Deref for Exam {
    type Target = dyn Store;
    fn deref(&self) -> &Self::Target {
        &*self.sitting.store
    }
}

impl Exam {
    pub async fn on(engine: Engine) -> Self {
        let sink = Arc::new(Recorder::default());
        let sitting = engines::open(engine, sink.clone()).await;
        Self { sitting, sink, offset: AtomicI64::new(0), node: NodeId::new() }
    }

    pub fn shared(&self) -> Arc<dyn Store> {
        self.sitting.store.clone()
    }

    /// Moves the database's clock forward.
    pub fn pass(&self, time: Duration) {
        let offset = self.offset.fetch_add(time.as_millis() as i64, Ordering::SeqCst) + time.as_millis() as i64;
        (self.sitting.set_clock)(offset);
    }

    /// Everything the sink has heard since the last call, as one.
    pub fn heard(&self) -> Effects {
        let mut all = Effects::default();
        for effects in self.sink.0.lock().unwrap().drain(..) {
            all.merge(effects);
        }
        all
    }

    pub async fn send(&self, note: Note) -> Sent {
        let id = note.notification.id;
        let accepted = self.accept(note.item()).await.unwrap();
        assert!(!accepted.replayed);
        assert_eq!(accepted.body.notification_id, id);
        Sent { id, deliveries: accepted.body.deliveries.unwrap_or_default() }
    }

    pub async fn state_of(&self, id: DeliveryId, notification: NotificationId) -> (DeliveryState, Option<String>) {
        let row = self.row(id, notification).await;
        (row.state, row.reason)
    }

    pub async fn row(&self, id: DeliveryId, notification: NotificationId) -> campanile_model::ports::DeliveryRow {
        let detail = self.notification(&AppId::default(), notification, None).await.unwrap().unwrap();
        detail.deliveries.into_iter().find(|d| d.id == id).unwrap()
    }

    /// The state of a notification's only delivery.
    pub async fn state_of_in_app(&self, notification: NotificationId) -> DeliveryState {
        let detail = self.notification(&AppId::default(), notification, None).await.unwrap().unwrap();
        detail.deliveries[0].state
    }

    pub async fn claim_one(&self, id: DeliveryId) -> Claimed {
        match self.claim(&[id], self.node, LEASE).await.unwrap().remove(0) {
            ClaimOutcome::Claimed(claimed) => *claimed,
            other => panic!("not claimed: {other:?}"),
        }
    }

    pub async fn end(&self, claimed: &Claimed, next: NextStep) -> DeliveryState {
        let finished = self.finish(finish(claimed, next)).await.unwrap();
        assert!(finished.ours);
        finished.state
    }

    /// seq, read, seen, archived of everything not expired, newest first.
    pub async fn feed_ids(&self, user: &UserKey, filter: FeedFilter) -> Vec<NotificationId> {
        let page = self.feed_page(user, None, 1_000, filter).await.unwrap();
        page.items.iter().map(|item| item.notification_id).collect()
    }

    /// Counts as the rows say, to compare with the stored ones.
    pub async fn counted(&self, user: &UserKey) -> (i64, i64, i64) {
        let items = self.feed_page(user, None, 10_000, FeedFilter::All).await.unwrap().items;
        let unread = items.iter().filter(|i| i.read_at.is_none()).count() as i64;
        let unseen = items.iter().filter(|i| i.seen_at.is_none()).count() as i64;
        (items.len() as i64, unread, unseen)
    }

    pub async fn assert_counts_hold(&self, user: &UserKey) {
        let c = self.feed_state(user).await.unwrap().counts;
        assert_eq!((c.total, c.unread, c.unseen), self.counted(user).await, "stored counts and rows differ");
    }
}

pub(crate) struct Sent {
    pub id: NotificationId,
    pub deliveries: Vec<AcceptedDelivery>,
}

impl Sent {
    pub fn on(&self, channel: &str) -> &AcceptedDelivery {
        self.deliveries.iter().find(|d| d.channel.as_str() == channel).unwrap()
    }
}

/// A notification in the making.
#[derive(Clone)]
pub(crate) struct Note {
    pub notification: Notification,
    pub recipients: Vec<RecipientPlan>,
    pub deferred: Option<AudienceSpec>,
    pub key: Option<(String, u8)>,
    pub request: serde_json::Value,
}

/// In-app to one user.
pub(crate) fn note(user: &str) -> Note {
    let mut note = bare();
    note.recipients.push(to(user, &["websocket"]));
    note
}

/// By mail to one user.
pub(crate) fn mail(user: &str) -> Note {
    let mut note = bare();
    note.recipients.push(to(user, &["email"]));
    note
}

pub(crate) fn bare() -> Note {
    Note {
        notification: Notification {
            id: NotificationId::new(),
            app: AppId::default(),
            content: Arc::new(Content {
                title: "Title".to_owned(),
                message: "Message".to_owned(),
                notification_type: "general".to_owned(),
                data: serde_json::Map::new(),
            }),
            priority: Priority::Normal,
            created_at: at(chrono_now()),
            send_at: None,
            expires_at: None,
            collapse_key: None,
            request_id: "req".to_owned(),
            trace: None,
        },
        recipients: Vec::new(),
        deferred: None,
        key: None,
        request: serde_json::json!({}),
    }
}

/// Payload time; nothing is decided by it.
fn chrono_now() -> i64 {
    use campanile_model::Clock as _;
    campanile_model::clock::SystemClock.now().timestamp_millis()
}

pub(crate) fn at(ms: i64) -> Timestamp {
    Timestamp::from_timestamp_millis(ms).unwrap()
}

pub(crate) fn to(user: &str, channels: &[&str]) -> RecipientPlan {
    RecipientPlan {
        user_id: UserId::from(user),
        generation: 0,
        deliveries: channels
            .iter()
            .map(|channel| DeliveryPlan {
                id: DeliveryId::new(),
                channel: ChannelName::from(*channel),
                recipient: (*channel != "websocket").then(|| format!("{user}@example.org")),
                recipient_inline: false,
                in_app: *channel == "websocket",
                suppressed: None,
                fast: false,
            })
            .collect(),
    }
}

impl Note {
    pub fn also(mut self, user: &str, channels: &[&str]) -> Self {
        self.recipients.push(to(user, channels));
        self
    }
    pub fn keyed(mut self, key: &str, hash: u8) -> Self {
        self.key = Some((key.to_owned(), hash));
        self
    }
    pub fn collapse(mut self, key: &str) -> Self {
        self.notification.collapse_key = Some(key.to_owned());
        self
    }
    pub fn at(mut self, time: Timestamp) -> Self {
        self.notification.send_at = Some(time);
        self
    }
    pub fn until(mut self, time: Timestamp) -> Self {
        self.notification.expires_at = Some(time);
        self
    }
    pub fn priority(mut self, priority: Priority) -> Self {
        self.notification.priority = priority;
        self
    }
    pub fn of_type(mut self, kind: &str) -> Self {
        let mut content = (*self.notification.content).clone();
        kind.clone_into(&mut content.notification_type);
        self.notification.content = Arc::new(content);
        self
    }
    pub fn plan(mut self, change: impl Fn(&mut DeliveryPlan)) -> Self {
        self.recipients.iter_mut().flat_map(|r| &mut r.deliveries).for_each(change);
        self
    }
    pub fn generation(mut self, generation: i64) -> Self {
        self.recipients.iter_mut().for_each(|r| r.generation = generation);
        self
    }
    pub fn item(self) -> AcceptItem {
        AcceptItem {
            notification: self.notification,
            audience: match self.deferred {
                Some(spec) => AudiencePlan::Deferred(spec),
                None => AudiencePlan::Inline(self.recipients),
            },
            idempotency: self.key.map(|(key, hash)| Idempotency { key, body_hash: [hash; 32] }),
            request: self.request,
            source: Source::Api,
            sent_by: "key:of-the-exam".to_owned(),
        }
    }
}

pub(crate) fn user(name: &str) -> UserKey {
    UserKey::new("default", name)
}

pub(crate) fn actor() -> Actor {
    Actor { who: "operator".to_owned(), address: None, request_id: "req".to_owned() }
}

pub(crate) fn finish(claimed: &Claimed, next: NextStep) -> Finish {
    Finish {
        delivery_id: claimed.delivery_id,
        attempt: claimed.attempt,
        started_at: at(0),
        duration_ms: 5,
        outcome: match &next {
            NextStep::Sent => AttemptOutcome::Ok,
            NextStep::RetryIn { .. } => AttemptOutcome::Retry,
            NextStep::Dead { .. } => AttemptOutcome::Permanent,
        },
        code: None,
        message: Some("said".to_owned()),
        uncertain: false,
        provider_id: None,
        instance: Some("relay".to_owned()),
        template: Some("email/default 1f8a02c4".to_owned()),
        code_version: Some("email 0.1.0".to_owned()),
        next,
        spend: true,
        address_fault: None,
    }
}

pub(crate) fn dead(reason: &str) -> NextStep {
    NextStep::Dead { reason: reason.to_owned() }
}

/// States of a commit's transitions, by delivery.
pub(crate) fn arrivals(effects: &Effects) -> HashMap<DeliveryId, Vec<DeliveryState>> {
    let mut out: HashMap<DeliveryId, Vec<DeliveryState>> = HashMap::new();
    for t in &effects.transitions {
        out.entry(t.delivery_id).or_default().push(t.state);
    }
    out
}

pub(crate) fn ids(selection: &[NotificationId]) -> MarkSelection {
    MarkSelection::Ids(selection.to_vec())
}
