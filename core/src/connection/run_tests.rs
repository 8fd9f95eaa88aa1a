//! A connection's task over an event stream: what comes while the feed is being read.

use super::*;
use crate::{
    config,
    connection::{
        Hub, LocalBus,
        conn::Visitor,
        protocol::Protocol,
        session::{Credential, Issuer},
        transport::EventStream,
    },
    http::auth::jwt::{Session as Token, TokenError},
    observe::Metrics,
};
use async_trait::async_trait;
use campanile_model::{
    NotificationId, Timestamp, UserKey,
    feed::{Counts, FeedPage, FeedState, MarkAs, MarkOutcome, MarkSelection, Replay, ReplayItem},
    frame::Frame,
    ports::{SignalSink, StoreError, StoreResult},
    signal::{PushTarget, Signal},
};
use serde_json::Value;
use std::sync::atomic::AtomicBool;

const HEAD: i64 = 120;

fn user() -> UserKey {
    UserKey::new("default", "ada")
}

fn frame() -> Frame {
    Frame::encode(NotificationId::new(), "T", "", "general", chrono::DateTime::UNIX_EPOCH, &serde_json::Map::new())
}

#[derive(Clone, Copy, PartialEq)]
enum During {
    State,
    Replay,
}

/// A feed of 120; once, while it is read, numbers 120 (again) and 121 are pushed.
struct Busy {
    hub: Arc<Hub>,
    during: During,
    pushed: AtomicBool,
}

impl Busy {
    fn push(&self, now: During) {
        if now == self.during && !self.pushed.swap(true, Relaxed) {
            for seq in [HEAD, HEAD + 1] {
                let target = PushTarget { user: user(), seq, counts: Counts { version: seq, ..Counts::default() } };
                self.hub.signal(&Signal::Push { frame: frame(), users: Arc::new([target]) });
            }
        }
    }
}

#[async_trait]
impl Backend for Busy {
    async fn state(&self, _: &UserKey) -> StoreResult<FeedState> {
        self.push(During::State);
        let counts = Counts { version: HEAD, ..Counts::default() };
        Ok(FeedState { epoch: "e.0".into(), head_seq: HEAD, min_seq: 1, counts })
    }
    async fn replay(&self, _: &UserKey, after: i64, up_to: i64, limit: u32) -> StoreResult<Replay> {
        self.push(During::Replay);
        let covered_to = up_to.min(after + i64::from(limit));
        let items = (after + 1..=covered_to).map(|seq| ReplayItem { seq, frame: frame(), unread: true }).collect();
        Ok(Replay { items, covered_to })
    }
    async fn missed(&self, _: &UserKey, after: i64, up_to: i64, _: i64) -> StoreResult<i64> {
        Ok(up_to - after)
    }
    async fn page(&self, _: &UserKey, _: Option<i64>, _: u32) -> StoreResult<FeedPage> {
        Err(StoreError::Overloaded)
    }
    async fn mark(&self, _: &UserKey, _: MarkSelection, _: MarkAs) -> StoreResult<MarkOutcome> {
        Err(StoreError::Overloaded)
    }
    async fn verify(&self, _: &str) -> Result<Token, TokenError> {
        Err(TokenError::Unavailable)
    }
    fn delivered(&self, _: SeenByClient) {}
    fn now(&self) -> Timestamp {
        chrono::DateTime::UNIX_EPOCH
    }
}

/// What a client hears until number 121: types, and numbers where there is one.
async fn heard(during: During, resume: Option<Cursor>) -> Vec<(String, Option<i64>)> {
    let hub = Hub::new(&config::defaults().unwrap(), LocalBus::new(), Arc::new(Metrics::new()));
    let expires_at = chrono::DateTime::UNIX_EPOCH + chrono::Duration::hours(1);
    let (transport, protocol) = (TransportKind::Sse, Protocol::V1);
    let visitor = Visitor { user: user(), transport, protocol, address: None, user_agent: None, expires_at };
    let reg = hub.register(visitor, chrono::DateTime::UNIX_EPOCH);
    let credential = Credential { issuer: Issuer::Known(None), expires_at };
    let session = Session::new(reg.conn().id, user(), protocol, true, hub.limits().rules, credential);
    let backend = Busy { hub, during, pushed: AtomicBool::new(false) };
    let (stream, mut body) = EventStream::new();
    tokio::spawn(async move { run(Transport::Stream(stream), reg, Box::new(session), resume, &backend).await });
    let mut heard = Vec::new();
    let listen = async {
        while heard.last().is_none_or(|(_, seq)| *seq != Some(HEAD + 1)) {
            let chunk = body.recv().await.unwrap();
            for line in std::str::from_utf8(&chunk).unwrap().lines().filter_map(|l| l.strip_prefix("data: ")) {
                let frame: Value = serde_json::from_str(line).unwrap();
                heard.push((frame["type"].as_str().unwrap().to_owned(), frame["seq"].as_i64()));
            }
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(10), listen).await.is_ok();
    assert!(in_time, "number 121 never came: {heard:?}");
    heard
}

/// Registered before the feed is read: what comes in between is either in what was read or live, and never both.
#[tokio::test]
async fn what_is_pushed_while_the_head_is_read_comes_once() {
    let frames = heard(During::State, None).await;
    assert_eq!(frames, [("hello".to_owned(), None), ("notification".to_owned(), Some(HEAD + 1))]);
}

#[tokio::test]
async fn what_is_pushed_during_a_resume_waits_behind_it() {
    let frames = heard(During::Replay, Some(Cursor { epoch: "e.0".into(), since: 0 })).await;
    let mut wanted = vec![("hello".to_owned(), None)];
    wanted.extend((1..=HEAD).map(|seq| ("notification".to_owned(), Some(seq))));
    wanted.push(("resumed".to_owned(), None));
    wanted.push(("notification".to_owned(), Some(HEAD + 1)));
    assert_eq!(frames, wanted);
}

/// On a busy machine a drain's announcement and its end are taken out together.
#[tokio::test]
async fn a_drain_is_announced_although_its_end_is_there_already() {
    let hub = Hub::new(&config::defaults().unwrap(), LocalBus::new(), Arc::new(Metrics::new()));
    let expires_at = chrono::DateTime::UNIX_EPOCH + chrono::Duration::hours(1);
    let (transport, protocol) = (TransportKind::Sse, Protocol::V1);
    let visitor = Visitor { user: user(), transport, protocol, address: None, user_agent: None, expires_at };
    let reg = hub.register(visitor, chrono::DateTime::UNIX_EPOCH);
    let conn = reg.conn().clone();
    let credential = Credential { issuer: Issuer::Known(None), expires_at };
    let session = Session::new(conn.id, user(), protocol, true, hub.limits().rules, credential);
    let backend = Busy { hub, during: During::Replay, pushed: AtomicBool::new(false) };
    let (stream, mut body) = EventStream::new();
    tokio::spawn(async move { run(Transport::Stream(stream), reg, Box::new(session), None, &backend).await });
    let mut said = String::new();
    let listen = async {
        while let Some(chunk) = body.recv().await {
            said.push_str(std::str::from_utf8(&chunk).unwrap());
            if said.contains("hello") && !said.contains("bye") {
                conn.bye(5_000, 25_000);
                conn.close(close::RESTART);
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), listen).await.expect("the stream ends");
    assert!(said.contains("\"type\":\"bye\""), "{said}");
}
