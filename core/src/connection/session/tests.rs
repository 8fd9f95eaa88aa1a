//! Each message and each rule, against a feed in memory.

mod fake;
mod property;

use super::*;
use crate::{connection::inbox::Overflow, http::auth::jwt::Session as Token};
use async_trait::async_trait;
use campanile_model::{
    feed::{FeedItem, FeedPage, MarkOutcome, Replay, ReplayItem},
    frame::Frame,
    ports::StoreResult,
};
use fake::{Fake, user};
use serde_json::{Value, json};
use std::sync::Mutex;

const RULES: Rules = Rules { heartbeat_ms: 30_000, resume_max: 100, client_rate: 20, client_burst: 40 };

/// A session and the feed it stands on, driven as its task would.
struct Client {
    session: Session,
    feed: Arc<Fake>,
}

impl Client {
    fn new(feed: &Arc<Fake>, protocol: Protocol, stream: bool) -> Self {
        let expires_at = chrono::DateTime::UNIX_EPOCH + chrono::Duration::hours(1);
        let credential = Credential { issuer: Issuer::Known(None), expires_at };
        let session = Session::new(ConnId::new(), user(), protocol, stream, RULES, credential);
        Self { session, feed: feed.clone() }
    }
    async fn open(feed: &Arc<Fake>, protocol: Protocol, resume: Option<(&str, i64)>) -> (Self, Vec<Value>) {
        let mut c = Self::new(feed, protocol, false);
        let cursor = resume.map(|(epoch, since)| Cursor { epoch: epoch.into(), since });
        let mut out = Outbox::default();
        assert_eq!(c.session.open(cursor, feed.as_ref(), &mut out).await, Flow::Go);
        let mut frames = shown(&out);
        frames.extend(c.rest().await);
        (c, frames)
    }
    async fn classic(feed: &Arc<Fake>) -> Self {
        let (c, frames) = Self::open(feed, Protocol::Classic, None).await;
        assert!(frames.is_empty(), "nothing comes unasked: {frames:?}");
        c
    }
    async fn v1(feed: &Arc<Fake>) -> Self {
        let (c, frames) = Self::open(feed, Protocol::V1, None).await;
        assert_eq!(kinds(&frames), ["hello"]);
        c
    }
    /// Works off what must be read.
    async fn rest(&mut self) -> Vec<Value> {
        let mut frames = Vec::new();
        for _ in 0..1000 {
            if !self.session.busy() {
                return frames;
            }
            let mut out = Outbox::default();
            assert_eq!(self.session.work(self.feed.as_ref(), &mut out).await, Flow::Go);
            frames.extend(shown(&out));
        }
        panic!("the work does not end");
    }
    async fn say(&mut self, text: &str) -> (Vec<Value>, Flow) {
        let mut out = Outbox::default();
        let flow = self.session.request(text, Instant::now(), self.feed.as_ref(), &mut out).await;
        let mut frames = shown(&out);
        frames.extend(self.rest().await);
        (frames, flow)
    }
    async fn ask(&mut self, request: Value) -> Vec<Value> {
        let (frames, flow) = self.say(&request.to_string()).await;
        assert_eq!(flow, Flow::Go);
        frames
    }
    async fn hint(&mut self, hint: &Hint) -> Vec<Value> {
        let mut out = Outbox::default();
        self.session.hint(hint, &mut out);
        let mut frames = shown(&out);
        frames.extend(self.rest().await);
        frames
    }
    async fn head(&mut self) -> Vec<Value> {
        let mut out = Outbox::default();
        self.session.head(&Some(self.feed.state_now()), &mut out);
        let mut frames = shown(&out);
        frames.extend(self.rest().await);
        frames
    }
    async fn gap_over(&mut self) -> Vec<Value> {
        self.session.close_gap();
        self.rest().await
    }
}

fn shown(out: &Outbox) -> Vec<Value> {
    let json = |t: &str| serde_json::from_str(t).unwrap_or_else(|_| Value::from(t));
    out.frames.iter().filter(|f| !f.text.is_empty()).map(|f| json(&f.text)).collect()
}
fn kinds(frames: &[Value]) -> Vec<&str> {
    frames.iter().map(|f| f["type"].as_str().unwrap_or("?")).collect()
}
fn seqs(frames: &[Value]) -> Vec<i64> {
    frames.iter().filter(|f| f["type"] == "notification").map(|f| f["seq"].as_i64().unwrap_or(0)).collect()
}
fn titles(frames: &[Value]) -> Vec<&str> {
    frames.iter().filter(|f| f["type"] == "notification").map(|f| f["data"]["title"].as_str().unwrap()).collect()
}
fn count(n: i64) -> Value {
    json!({"type": "unread_count", "data": {"count": n}})
}

#[tokio::test]
async fn the_classic_messages() {
    let feed = Arc::new(Fake::with(2));
    let mut c = Client::classic(&feed).await;
    assert_eq!(c.say("ping").await, (vec![json!("pong")], Flow::Go));
    assert_eq!(c.ask(json!({"type": "ping"})).await, [json!({"type": "pong"})]);
    assert_eq!(c.ask(json!({"type": "get_unread_count"})).await, [count(2)]);
    let frames = c.hint(&feed.add()).await;
    assert_eq!(titles(&frames), ["n3"]);
    assert!(frames[0].get("seq").is_none() && frames[0]["data"]["notification_id"].is_string());
    for e in [json!({"type": "dance"}), json!({"type": "list"}), json!({"type": "mark", "up_to_seq": 1, "as": "read"})]
    {
        assert_eq!(c.ask(e).await[0]["data"]["code"], "unknown_type");
    }
}

#[tokio::test]
async fn a_read_is_an_update_then_a_count_on_every_socket() {
    let feed = Arc::new(Fake::with(2));
    let (mut a, mut b) = (Client::classic(&feed).await, Client::v1(&feed).await);
    let id = feed.id(1);
    let change = feed.change(1, MarkAs::Read);
    let update = json!({"type": "notification_update", "data": {"notification_id": id, "status": "read"}});
    assert_eq!(a.hint(&change).await, [update.clone(), count(1)]);
    let frames = b.hint(&change).await;
    assert_eq!(kinds(&frames), ["notification_update", "unread_count", "marked", "counts"]);
    assert_eq!(frames[2]["data"], json!({"ids": [id], "as": "read"}));
    assert_eq!(frames[3]["data"]["unread"], 1);
    // Marking what is marked already changes nothing, so no commit tells it; who asks is answered all the same.
    assert_eq!(a.ask(json!({"type": "mark_read", "notification_id": id})).await, [update, count(1)]);
    // The first time, the answer is the commit's own news.
    assert!(a.ask(json!({"type": "mark_read", "notification_id": feed.id(2)})).await.is_empty());
}

#[tokio::test]
async fn other_changes_reach_a_classic_socket_only_as_a_count() {
    let feed = Arc::new(Fake::with(3));
    let (mut a, mut b) = (Client::classic(&feed).await, Client::v1(&feed).await);
    let seen = feed.change(1, MarkAs::Seen);
    assert!(a.hint(&seen).await.is_empty());
    assert_eq!(kinds(&b.hint(&seen).await), ["marked", "counts"]);
    let archived = feed.change(1, MarkAs::Archived);
    assert_eq!(a.hint(&archived).await, [count(2)]);
    assert_eq!(kinds(&b.hint(&archived).await), ["unread_count", "marked", "counts"]);
}

#[tokio::test]
async fn ids_that_are_not_theirs_are_not_found() {
    let feed = Arc::new(Fake::with(1));
    for p in [Protocol::Classic, Protocol::V1] {
        let (mut c, _) = Client::open(&feed, p, None).await;
        for id in [NotificationId::new().to_string(), "garbage".into()] {
            let frames = c.ask(json!({"type": "mark_read", "notification_id": id})).await;
            assert_eq!((frames.len(), &frames[0]["data"]["code"]), (1, &json!("not_found")));
        }
    }
    let mut c = Client::v1(&feed).await;
    let frames = c.ask(json!({"type": "mark", "ids": ["garbage"], "as": "read"})).await;
    assert_eq!(frames[0]["data"]["code"], "not_found");
}

#[tokio::test]
async fn counts_never_go_back() {
    let feed = Arc::new(Fake::with(3));
    let mut c = Client::v1(&feed).await;
    let (first, second) = (feed.change(1, MarkAs::Read), feed.change(2, MarkAs::Read));
    c.hint(&second).await;
    let late = c.hint(&first).await;
    for f in &late {
        match f["type"].as_str().unwrap() {
            "unread_count" => assert_eq!(f["data"]["count"], 1),
            "counts" => assert_eq!(f["data"]["unread"], 1),
            _ => {}
        }
    }
    // What the greeting counted already is not told again.
    let mut fresh = Client::v1(&feed).await;
    assert!(fresh.hint(&second).await.is_empty());
}

#[tokio::test]
async fn five_malformed_frames_close_after_an_error_each() {
    let feed = Arc::new(Fake::new());
    let mut c = Client::classic(&feed).await;
    for n in 1..=5 {
        let (frames, flow) = c.say("{").await;
        assert_eq!(frames[0]["data"]["code"], "malformed");
        assert_eq!(flow, if n == 5 { Flow::Close(close::MALFORMED) } else { Flow::Go });
    }
}

#[tokio::test]
async fn more_frames_than_the_burst_close_with_a_wait() {
    let feed = Arc::new(Fake::new());
    let mut c = Client::classic(&feed).await;
    let now = Instant::now();
    let mut out = Outbox::default();
    for n in 0..41 {
        match c.session.request("ping", now, feed.as_ref(), &mut out).await {
            Flow::Go => assert!(n < 40),
            Flow::Close(close) => {
                assert_eq!((n, close.code), (40, 4429));
                assert!(close.retry_ms.unwrap() >= 50);
            }
        }
    }
}

#[tokio::test]
async fn hello_says_where_everything_stands() {
    let feed = Arc::new(Fake::with(2));
    let (_, frames) = Client::open(&feed, Protocol::V1, None).await;
    let data = &frames[0]["data"];
    assert_eq!((&data["epoch"], &data["head_seq"], &data["heartbeat_ms"]), (&json!("e.0"), &json!(2), &json!(30000)));
    assert_eq!((&data["expires_in"], &data["counts"]["unread"]), (&json!(3600), &json!(2)));
}

/// The client was told that it is connected between the two.
#[tokio::test]
async fn what_comes_after_the_look_is_told_even_when_the_start_is_late() {
    for protocol in [Protocol::Classic, Protocol::V1] {
        let feed = Arc::new(Fake::with(3));
        let mut c = Client::new(&feed, protocol, false);
        c.session.look(feed.as_ref()).await;
        let hint = feed.add();
        let mut out = Outbox::default();
        assert_eq!(c.session.open(None, feed.as_ref(), &mut out).await, Flow::Go);
        assert_eq!(kinds(&c.hint(&hint).await), ["notification"]);
        assert_eq!(c.session.last_seq(), 4);
    }
}

#[tokio::test]
async fn resume_by_address_and_by_frame_replays_all_then_says_so() {
    let feed = Arc::new(Fake::with(120));
    feed.change(118, MarkAs::Archived);
    feed.change(120, MarkAs::Archived);
    let (_, frames) = Client::open(&feed, Protocol::V1, Some(("e.0", 30))).await;
    assert_eq!((kinds(&frames)[0], kinds(&frames)[89]), ("hello", "resumed"));
    assert_eq!(seqs(&frames), (31..=119).filter(|s| *s != 118).collect::<Vec<_>>());
    assert_eq!(frames.last().unwrap()["data"], json!({"from": 30, "to": 120}));

    let mut c = Client::v1(&feed).await;
    let live = c.hint(&feed.add()).await;
    assert_eq!(seqs(&live), [121]);
    let frames = c.ask(json!({"type": "resume", "epoch": "e.0", "since": 115})).await;
    assert_eq!(seqs(&frames), [116, 117, 119], "up to the greeting's head; the live one was sent");
    assert_eq!(frames.last().unwrap()["data"]["to"], 120);
    let again = c.ask(json!({"type": "resume", "epoch": "e.0", "since": 0})).await;
    assert_eq!(again[0]["data"]["code"], "already_resumed");
    // Nothing missed is resumed too.
    let (_, frames) = Client::open(&feed, Protocol::V1, Some(("e.0", 121))).await;
    assert_eq!(kinds(&frames), ["hello", "resumed"]);
}

#[tokio::test]
async fn what_cannot_be_resumed_is_reset_and_nothing_is_replayed() {
    let feed = Arc::new(Fake::with(150));
    feed.inner().min_seq = 20;
    for (epoch, since, reason) in [
        ("e.9", 140, "epoch"),
        ("e.0", 151, "ahead"),
        ("e.0", 18, "retention"),
        ("e.0", -1, "retention"),
        ("e.0", 49, "too_many"),
    ] {
        let (_, frames) = Client::open(&feed, Protocol::V1, Some((epoch, since))).await;
        assert_eq!(kinds(&frames), ["hello", "reset"], "{reason}");
        let data = &frames[1]["data"];
        assert_eq!((&data["reason"], &data["epoch"], &data["head_seq"]), (&json!(reason), &json!("e.0"), &json!(150)));
        assert_eq!(data["counts"]["unread"], 150);
    }
    let (_, frames) = Client::open(&feed, Protocol::V1, Some(("e.0", 50))).await;
    assert_eq!(seqs(&frames).len(), 100);
}

#[tokio::test]
async fn duplicates_are_dropped_and_a_gap_is_read_from_the_feed() {
    let feed = Arc::new(Fake::with(1));
    for p in [Protocol::Classic, Protocol::V1] {
        let (mut c, _) = Client::open(&feed, p, None).await;
        let hints: Vec<_> = (0..4).map(|_| feed.add()).collect();
        assert_eq!(c.hint(&hints[0]).await.len(), 1);
        assert!(c.hint(&hints[0]).await.is_empty());
        assert!(c.hint(&hints[2]).await.is_empty(), "waits for the one before");
        assert!(c.session.has_gap());
        assert_eq!(c.hint(&hints[1]).await.len(), 2, "it came");
        assert!(!c.session.has_gap());
        let lost = feed.add();
        let last = feed.add();
        assert!(c.hint(&last).await.is_empty());
        let read = c.gap_over().await;
        assert_eq!(read.iter().filter(|f| f["type"] == "notification").count(), 3);
        assert!(c.hint(&lost).await.is_empty(), "late, and sent already");
    }
}

#[tokio::test]
async fn the_regular_look_repairs_what_hints_have_lost() {
    let feed = Arc::new(Fake::with(1));
    let (mut classic, mut v1) = (Client::classic(&feed).await, Client::v1(&feed).await);
    assert!(classic.head().await.is_empty());
    assert_eq!(kinds(&v1.head().await), ["heartbeat"]);
    drop(feed.add());
    assert_eq!(titles(&classic.head().await), ["n2"]);
    let frames = v1.head().await;
    assert_eq!(kinds(&frames), ["notification", "counts", "heartbeat"]);
    assert_eq!(frames[2]["data"]["head_seq"], 2);
    drop(feed.change(1, MarkAs::Read));
    assert_eq!(classic.head().await, [count(1)], "a lost read moves the badge");
    assert_eq!(kinds(&v1.head().await), ["counts", "heartbeat"]);
    // Away: the client still hears that we live, and nothing is lost.
    drop(feed.add());
    feed.inner().down = true;
    let mut out = Outbox::default();
    v1.session.head(&None, &mut out);
    assert_eq!(kinds(&shown(&out)), ["heartbeat"]);
    assert!(v1.head().await.is_empty());
    feed.inner().down = false;
    assert_eq!(seqs(&v1.head().await), [3]);
}

#[tokio::test]
async fn a_full_queue_is_made_good_from_the_feed_marks_or_not() {
    let feed = Arc::new(Fake::with(1));
    let (mut classic, mut v1) = (Client::classic(&feed).await, Client::v1(&feed).await);
    (0..130).for_each(|_| drop(feed.add()));
    let counts = feed.state_now().counts;
    for c in [&mut classic, &mut v1] {
        c.session.overflow(Overflow { up_to: 131, counts, lost_marks: false });
        assert_eq!(c.rest().await.iter().filter(|f| f["type"] == "notification").count(), 130);
    }
    for (c, expected) in [(&mut classic, "unread_count"), (&mut v1, "reset")] {
        c.session.overflow(Overflow { up_to: 0, counts: Counts::default(), lost_marks: true });
        assert_eq!(kinds(&c.rest().await), [expected]);
    }
}

#[tokio::test]
async fn an_erased_user_is_told_once() {
    let feed = Arc::new(Fake::with(3));
    let (mut classic, mut v1, mut missed) =
        (Client::classic(&feed).await, Client::v1(&feed).await, Client::v1(&feed).await);
    let erased = feed.erase();
    assert_eq!(classic.hint(&erased).await, [count(0)]);
    let frames = v1.hint(&erased).await;
    assert_eq!(kinds(&frames), ["reset"]);
    let data = &frames[0]["data"];
    assert_eq!((&data["reason"], &data["epoch"], &data["head_seq"]), (&json!("erased"), &json!("e.1"), &json!(3)));
    assert!(v1.hint(&erased).await.is_empty());
    assert_eq!(kinds(&missed.head().await), ["heartbeat", "reset"], "the look finds it when the signal was lost");
    assert_eq!(seqs(&v1.hint(&feed.add()).await), [4], "the feed goes on");
}

#[tokio::test]
async fn a_merged_feed_is_fetched_and_not_sent_item_by_item_whatever_comes_first() {
    for p in [Protocol::Classic, Protocol::V1] {
        let told = if p == Protocol::V1 { "reset" } else { "unread_count" };
        for case in ["in order", "the item first", "nothing but the item", "a full queue", "the look"] {
            let feed = Arc::new(Fake::with(2));
            let (mut c, _) = Client::open(&feed, p, None).await;
            let merged = feed.merge();
            let state = feed.state_now();
            let item = feed.add();
            let overflow = Overflow { up_to: 6, counts: feed.state_now().counts, lost_marks: true };
            let mut frames = Vec::new();
            match case {
                "in order" => frames.extend(c.hint(&merged).await),
                "the item first" => {
                    assert!(c.hint(&item).await.is_empty(), "it waits");
                    frames.extend(c.hint(&merged).await);
                }
                "nothing but the item" => {
                    assert!(c.hint(&item).await.is_empty());
                    frames.extend(c.gap_over().await);
                }
                "a full queue" => {
                    c.session.overflow(overflow);
                    frames.extend(c.rest().await);
                }
                _ => frames.extend(c.head().await.into_iter().filter(|f| f["type"] != "heartbeat")),
            }
            let all = kinds(&frames);
            assert_eq!(all[0], told, "{case}: {frames:?}");
            match case {
                "in order" => {
                    assert_eq!(all.len(), 1);
                    let unread = [&frames[0]["data"]["count"], &frames[0]["data"]["counts"]["unread"]];
                    assert!(unread.contains(&&json!(state.counts.unread)), "{frames:?}");
                    assert_eq!(kinds(&c.hint(&item).await), ["notification"]);
                }
                "the item first" => assert_eq!(all, [told, "notification"], "it is newer than what is fetched"),
                // What the look found has it.
                _ => assert_eq!(all.len(), 1, "{case}: {frames:?}"),
            }
            assert!(c.hint(&merged).await.is_empty() && c.hint(&item).await.is_empty(), "{case}: told once");
            assert_eq!(kinds(&c.hint(&feed.add()).await), ["notification"], "{case}: the feed goes on");
        }
    }
}

#[tokio::test]
async fn list_pages() {
    let feed = Arc::new(Fake::with(5));
    let mut c = Client::v1(&feed).await;
    let frames = c.ask(json!({"type": "list", "limit": 2})).await;
    assert_eq!(frames[0]["data"]["items"][0]["seq"], 5);
    assert_eq!(frames[0]["data"]["next_before"], 4);
    let frames = c.ask(json!({"type": "list", "before": 2})).await;
    assert_eq!(frames[0]["data"]["next_before"], Value::Null);
}

#[tokio::test]
async fn acks_confirm_up_to_what_was_sent() {
    let feed = Arc::new(Fake::with(5));
    let mut c = Client::v1(&feed).await;
    for seq in [3, 3, 99] {
        assert!(c.ask(json!({"type": "ack", "seq": seq})).await.is_empty());
    }
    assert_eq!(feed.inner().delivered, [(1, 3), (4, 5)]);
}

#[tokio::test]
async fn a_token_is_renewed_only_by_its_own_user_and_issuer() {
    let feed = Arc::new(Fake::new());
    let auth = async |token: &str| {
        let mut c = Client::v1(&feed).await;
        let (frames, flow) = c.say(&json!({"type": "auth", "token": token}).to_string()).await;
        (frames, flow, c.session.expires_at())
    };
    let (frames, flow, until) = auth("good").await;
    assert!(frames.is_empty() && flow == Flow::Go);
    assert_eq!(until, chrono::DateTime::UNIX_EPOCH + chrono::Duration::hours(2));
    for (token, close) in [
        ("other", close::WRONG_USER),
        ("issuer", close::WRONG_USER),
        ("nonsense", close::INVALID_TOKEN),
        ("expired", close::TOKEN_EXPIRED),
    ] {
        assert_eq!(auth(token).await.1, Flow::Close(close), "{token}");
    }
    let (frames, flow, _) = auth("away").await;
    assert_eq!((flow, &frames[0]["data"]["code"]), (Flow::Go, &json!("unavailable")));
}

#[tokio::test]
async fn a_database_that_is_away() {
    let feed = Arc::new(Fake::with(1));
    let mut c = Client::v1(&feed).await;
    feed.inner().down = true;
    for request in [json!({"type": "list"}), json!({"type": "mark", "up_to_seq": 1, "as": "read"})] {
        assert_eq!(c.ask(request).await[0]["data"]["code"], "unavailable");
    }
    assert_eq!(c.ask(json!({"type": "get_unread_count"})).await, [count(1)], "the newest the node knows");
    let mut late = Client::new(&feed, Protocol::V1, false);
    let flow = late.session.open(None, feed.as_ref(), &mut Outbox::default()).await;
    assert_eq!(flow, Flow::Close(close::OVERLOAD));
}

#[tokio::test]
async fn a_streams_cursor_never_runs_ahead_of_its_items() {
    let feed = Arc::new(Fake::with(3));
    for p in [Protocol::Classic, Protocol::V1] {
        let mut c = Client::new(&feed, p, true);
        let mut out = Outbox::default();
        c.session.open(None, feed.as_ref(), &mut out).await;
        assert_eq!(out.frames[0].cursor, Some(3));
        let mut c = Client::new(&feed, p, true);
        let mut out = Outbox::default();
        c.session.open(Some(Cursor { epoch: "e.0".into(), since: 1 }), feed.as_ref(), &mut out).await;
        while c.session.busy() {
            c.session.work(feed.as_ref(), &mut out).await;
        }
        let cursors: Vec<_> = out.frames.iter().filter_map(|f| f.cursor).collect();
        assert_eq!(cursors, [2, 3, 3]);
    }
}
