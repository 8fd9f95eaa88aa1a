//! Posts notifications as an application does that never gives up: the same key again until it hears an answer.

use crate::{
    api::Api,
    db::Delivery,
    history::{History, Mail, Marked, Outcome, Post, StateSeen},
    host::API_KEY,
    token,
};
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{sync::watch, task::JoinHandle};
use uuid::Uuid;

/// An application does not wait for ever: after that it does not know.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// A history that several tasks write to.
#[derive(Clone, Debug, Default)]
pub struct Recorder(Arc<Mutex<History>>);

impl Recorder {
    pub fn with<T>(&self, change: impl FnOnce(&mut History) -> T) -> T {
        change(&mut self.0.lock().unwrap())
    }
    pub fn take(&self) -> History {
        self.0.lock().unwrap().clone()
    }

    /// Posts once and records how it went. `None`: no clear answer.
    pub async fn post(&self, api: &Api, key: &str, user: &str, channels: &[&str], extra: &Value) -> Option<Uuid> {
        let mut body = json!({"user_id": user, "title": key, "channels": channels});
        for (name, value) in extra.as_object().into_iter().flatten() {
            body[name] = value.clone();
        }
        if !body["to"].is_null() {
            // Said at length: the user stands in it.
            body.as_object_mut().expect("an object").remove("user_id");
        }
        let invoked = self.with(History::moment);
        let request = api.request("POST", "/api/v1/notifications").header("Idempotency-Key", key).json(&body);
        let request = request.timeout(PATIENCE);
        let start = std::time::Instant::now();
        let (outcome, id) = match api.try_run(request).await {
            Ok(reply) if reply.status == 202 => {
                (Outcome::Ok, reply.json["notification_id"].as_str().and_then(|id| id.parse().ok()))
            }
            Ok(reply) if reply.status >= 500 || reply.status == 429 || reply.status == 409 => (Outcome::Info, None),
            Ok(_) => (Outcome::Fail, None),
            Err(_) => (Outcome::Info, None),
        };
        self.with(|h| {
            let returned = h.moment();
            h.posts.push(Post {
                invoked,
                returned,
                key: key.into(),
                user: user.into(),
                channels: channels.iter().map(|c| (*c).to_owned()).collect(),
                outcome,
                id,
                scheduled: !body["send_at"].is_null(),
                took_ms: start.elapsed().as_millis() as u64,
            });
        });
        id
    }

    /// Posts until a 202 came; `api` says where the host is now.
    pub async fn post_until_accepted(
        &self,
        api: impl Fn() -> Option<Api>,
        key: &str,
        user: &str,
        channels: &[&str],
        extra: &Value,
    ) -> Uuid {
        crate::wait::until(&format!("{key} is accepted"), || async {
            self.post(&api()?, key, user, channels, extra).await
        })
        .await
    }

    /// What the far side of the mail took.
    pub fn mailed(&self, message_ids: impl IntoIterator<Item = String>) {
        self.with(|h| {
            for message_id in message_ids {
                let at = h.moment();
                h.mails.push(Mail { at, message_id });
            }
        });
    }

    /// The states of all deliveries now, for the rule that settled ones stay.
    pub fn saw(&self, deliveries: &[Delivery]) {
        self.with(|h| {
            let at = h.moment();
            h.states.extend(deliveries.iter().map(|d| StateSeen { at, delivery: d.id, state: d.state.clone() }));
        });
    }
}

/// What writers do, steadily, until they are told to stop.
#[derive(Clone, Debug)]
pub struct Work {
    /// Distinguishes the keys of several loads of one history.
    pub name: String,
    pub writers: usize,
    pub users: Vec<String>,
    /// Between two posts of one writer.
    pub pause: Duration,
    /// Every how many posts there is a mail too; 0: none.
    pub mail_every: usize,
    /// Every how many posts the user reads what came; 0: never.
    pub read_every: usize,
}

/// Writers at work.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    writers: Vec<JoinHandle<usize>>,
}

impl Load {
    /// `nodes` says where hosts are now.
    pub fn start(work: &Work, nodes: &watch::Receiver<Vec<SocketAddr>>, record: &Recorder) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let writers = (0..work.writers)
            .map(|n| {
                let writer = Writer {
                    n,
                    work: work.clone(),
                    nodes: nodes.clone(),
                    record: record.clone(),
                    apis: HashMap::new(),
                    tries: n,
                };
                tokio::spawn(writer.run(stop.clone()))
            })
            .collect();
        Self { stop, writers }
    }

    /// Each writer ends once its last post was accepted; how many were in all.
    pub async fn stop(self) -> usize {
        self.stop.store(true, Ordering::SeqCst);
        let mut accepted = 0;
        for writer in self.writers {
            accepted += writer.await.expect("a writer does not panic");
        }
        accepted
    }
}

struct Writer {
    n: usize,
    work: Work,
    nodes: watch::Receiver<Vec<SocketAddr>>,
    record: Recorder,
    apis: HashMap<SocketAddr, Api>,
    tries: usize,
}

impl Writer {
    async fn run(mut self, stop: Arc<AtomicBool>) -> usize {
        let mut i = 0;
        while !stop.load(Ordering::SeqCst) {
            let key = format!("{}-{}-{i}", self.work.name, self.n);
            let user = self.work.users[(i * self.work.writers + self.n) % self.work.users.len()].clone();
            let every = |n: usize| n > 0 && i.is_multiple_of(n);
            let channels: &[&str] = if every(self.work.mail_every) { &["websocket", "email"] } else { &["websocket"] };
            let id = self.post(&key, &user, channels).await;
            if every(self.work.read_every) {
                self.read(&user, id).await;
            }
            i += 1;
            tokio::time::sleep(self.work.pause).await;
        }
        i
    }

    /// Another node each time.
    async fn api(&mut self) -> Api {
        let nodes = self.nodes.wait_for(|nodes| !nodes.is_empty()).await.expect("the fleet lives").clone();
        self.tries += 1;
        let node = nodes[self.tries % nodes.len()];
        self.apis.entry(node).or_insert_with(|| Api::new(&format!("http://{node}"), API_KEY)).clone()
    }

    async fn post(&mut self, key: &str, user: &str, channels: &[&str]) -> Uuid {
        let start = std::time::Instant::now();
        loop {
            let api = self.api().await;
            if let Some(id) = self.record.post(&api, key, user, channels, &Value::Null).await {
                return id;
            }
            assert!(start.elapsed() < Duration::from_mins(3), "{key} is not accepted");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Marks it read once; an answer that never came leaves it open whether it was.
    async fn read(&mut self, user: &str, id: Uuid) {
        let me = self.api().await.with_key(&token::user(user));
        let path = format!("/api/v1/me/notifications/{id}/read");
        let request = me.request("POST", &path).json(&json!({})).timeout(PATIENCE);
        if me.try_run(request).await.is_ok_and(|reply| reply.status == 200) {
            self.record.with(|h| {
                let at = h.moment();
                h.marks.push(Marked { at, user: user.to_owned(), id, mark: "read".into() });
            });
        }
    }
}
