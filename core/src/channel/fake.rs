//! A channel that does as it is told, for tests.

use super::ChannelHandle;
use crate::config::{self, retry::Retry};
use campanile_model::{
    AppId, Clock, Notification, NotificationId, Priority, clock::SystemClock, effects::PushBatch, notification::Content,
};
use campanile_plugin::{Delivery, DeliveryError, DynChannel, Health, Info, Receipt};
use futures_util::future::{BoxFuture, FutureExt, join_all};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};
use tokio::sync::{Notify, Semaphore};

/// What the next call does; with none left it is `Accept`.
#[derive(Clone, Debug)]
pub enum Answer {
    Accept,
    Refuse(DeliveryError),
    Panic,
    /// Until the test lets it go on.
    Wait,
    RefuseLater(DeliveryError),
    /// Asks for permission and then waits.
    AskAndWait,
}

#[derive(Clone, Debug)]
pub struct Call {
    pub delivery_id: String,
    pub attempt: u32,
    pub recipient: String,
    /// Calls under way when it began, itself included.
    pub side_by_side: usize,
    native_seq: Option<i64>,
}

pub struct Fake {
    info: Info,
    state: Mutex<State>,
    pub called: Notify,
    /// A permit lets one waiting call go on.
    pub go_on: Semaphore,
}

#[derive(Default)]
struct State {
    answers: VecDeque<Answer>,
    calls: Vec<Call>,
    running: usize,
    health: Option<Health>,
}

impl Fake {
    pub fn new(answers: impl IntoIterator<Item = Answer>) -> Arc<Self> {
        Self::with(Info { asks_permission: true, ..Info::new("fake", "1") }, answers)
    }

    pub fn with(info: Info, answers: impl IntoIterator<Item = Answer>) -> Arc<Self> {
        let state = State { answers: answers.into_iter().collect(), ..State::default() };
        Arc::new(Self { info, state: Mutex::new(state), called: Notify::new(), go_on: Semaphore::new(0) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
    pub fn then(&self, answers: impl IntoIterator<Item = Answer>) {
        self.lock().answers.extend(answers);
    }
    pub fn calls(&self) -> Vec<Call> {
        self.lock().calls.clone()
    }
    pub fn native_seqs(&self) -> Vec<i64> {
        self.lock().calls.iter().filter_map(|c| c.native_seq).collect()
    }
    pub fn set_health(&self, health: Health) {
        self.lock().health = Some(health);
    }

    /// Waits until that many calls have begun in all.
    pub async fn until_called(&self, n: usize) {
        let wait = async {
            loop {
                let called = self.called.notified();
                if self.lock().calls.len() >= n {
                    return;
                }
                called.await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait).await.expect("the channel was called too seldom");
    }
}

/// Counts a call as running, whichever way it ends.
struct Running<'a>(&'a Fake);
impl Drop for Running<'_> {
    fn drop(&mut self) {
        if let Ok(mut state) = self.0.state.lock() {
            state.running -= 1;
        }
    }
}

impl DynChannel for Fake {
    fn info(&self) -> &Info {
        &self.info
    }

    fn deliver<'a>(&'a self, d: Delivery<'a>) -> BoxFuture<'a, Result<Receipt, DeliveryError>> {
        async move {
            let (answer, running) = {
                let mut state = self.lock();
                state.running += 1;
                let call = Call {
                    delivery_id: d.delivery_id.to_owned(),
                    attempt: d.attempt,
                    recipient: d.recipient.to_owned(),
                    side_by_side: state.running,
                    native_seq: d.native.and_then(|n| n.downcast_ref::<PushBatch>()).map(|b| b.users[0].seq),
                };
                state.calls.push(call);
                (state.answers.pop_front().unwrap_or(Answer::Accept), Running(self))
            };
            self.called.notify_waiters();
            match answer {
                Answer::Accept => {}
                Answer::Refuse(error) => return Err(error),
                Answer::Panic => panic!("told to"),
                Answer::Wait => self.go_on.acquire().await.unwrap().forget(),
                Answer::RefuseLater(error) => {
                    self.go_on.acquire().await.unwrap().forget();
                    return Err(error);
                }
                Answer::AskAndWait => {
                    assert!(d.permission.may_proceed());
                    self.go_on.acquire().await.unwrap().forget();
                }
            }
            drop(running);
            Ok(Receipt { provider_id: Some("provider-1".to_owned()), detail: None })
        }
        .boxed()
    }

    fn deliver_batch<'a>(&'a self, items: Vec<Delivery<'a>>) -> BoxFuture<'a, Vec<Result<Receipt, DeliveryError>>> {
        join_all(items.into_iter().map(|d| self.deliver(d))).boxed()
    }

    fn health(&self) -> BoxFuture<'_, Health> {
        let health = self.lock().health.clone().unwrap_or(Health::Ok);
        async move { health }.boxed()
    }

    fn stop(&self) -> BoxFuture<'_, ()> {
        async {}.boxed()
    }
}

pub fn handle(name: &str, fake: Arc<Fake>) -> ChannelHandle {
    ChannelHandle {
        name: name.into(),
        enabled: true,
        in_app: false,
        concurrency: 4,
        timeout: Duration::from_secs(30),
        channel: Some(fake),
    }
}

pub fn retry() -> Retry {
    config::defaults().unwrap().retry
}

pub fn notification() -> Arc<Notification> {
    let content = Content {
        title: "Title".to_owned(),
        message: "Message".to_owned(),
        notification_type: "test".to_owned(),
        data: serde_json::Map::new(),
    };
    Arc::new(Notification {
        id: NotificationId::new(),
        app: AppId::default(),
        content: Arc::new(content),
        priority: Priority::Normal,
        created_at: SystemClock.now(),
        send_at: None,
        expires_at: None,
        collapse_key: None,
        request_id: "request".to_owned(),
    })
}
