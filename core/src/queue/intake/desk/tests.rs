//! Groups of messages against a real store.

use super::*;
use crate::{
    channel::fake,
    config::{self, Config},
    connection::LocalBus,
    ingest::IngestParts,
    queue::LocalQueue,
    status::{self, Status},
    store,
};
use campanile_model::{
    Clock, UserKey,
    clock::SystemClock,
    feed::{FeedFilter, FeedPage},
    ports::WorkQueue,
};
use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Value, json};
use sqlx::{Connection, SqliteConnection};

struct Rig {
    desk: Desk,
    store: Arc<dyn Store>,
    dir: tempfile::TempDir,
}

impl Rig {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config::defaults().unwrap();
        config.server.data_dir = dir.path().to_owned();
        change(&mut config);
        let config = Arc::new(config);
        let metrics = Arc::new(Metrics::new());
        let (sink, announcer) = status::announcements();
        let store = store::open(&config, Arc::new(sink), metrics.clone()).await.unwrap();
        let queue: Arc<dyn WorkQueue> = LocalQueue::new(10);
        let bus = LocalBus::new();
        let pulse = crate::console::Pulse::new(Arc::new(SystemClock));
        let status = Status::new(store.clone(), queue.clone(), bus.clone(), metrics.clone(), pulse);
        let mut in_app = fake::handle("websocket", fake::Fake::new([]));
        in_app.in_app = true;
        let channels = fake::registry(vec![in_app], &config.retry, &metrics);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let body_max = config.ingest.body_max;
        let parts = IngestParts {
            config,
            store: store.clone(),
            status: status.clone(),
            channels: channels.clone(),
            queue,
            depths: crate::queue::Depths::new(store.clone()),
            bus,
            clock,
            metrics: metrics.clone(),
        };
        tokio::spawn(status.announce(announcer, channels, tokio_util::sync::CancellationToken::new()));
        let desk = Desk::new(Ingest::new(parts), store.clone(), metrics, body_max);
        Self { desk, store, dir }
    }

    /// Says something to the database behind the store's back.
    async fn sql(&self, statement: &'static str) {
        let file = self.dir.path().join("campanile.db");
        let mut db = SqliteConnection::connect(file.to_str().unwrap()).await.unwrap();
        sqlx::query(statement).execute(&mut db).await.unwrap();
    }

    async fn titles(&self, user: &str) -> Vec<String> {
        let user = UserKey { app: AppId::default(), user: user.into() };
        let page: FeedPage = self.store.feed_page(&user, None, 100, FeedFilter::All).await.unwrap();
        page.items.iter().rev().map(|i| i.title.clone()).collect()
    }

    async fn poison(&self) -> Vec<String> {
        self.store.poison(None, 100).await.unwrap().into_iter().rev().map(|p| p.reason).collect()
    }
}

fn message(body: &Value) -> Message {
    raw(body.to_string().as_bytes())
}

fn raw(body: &[u8]) -> Message {
    Message {
        exchange: "notifications".to_owned(),
        routing_key: "test".to_owned(),
        properties: BasicProperties::default(),
        body: body.to_vec(),
    }
}

fn to_ada(title: &str) -> Message {
    message(&json!({"user_id": "ada", "title": title}))
}

fn named(id: &str, mut message: Message) -> Message {
    message.properties = message.properties.with_message_id(id.into());
    message
}

fn of_app(app: &str, mut message: Message) -> Message {
    let mut table = FieldTable::default();
    table.insert(message::APP_HEADER.into(), AMQPValue::LongString(app.into()));
    message.properties = message.properties.with_headers(table);
    message
}

#[tokio::test]
async fn a_group_is_stored_in_its_order() {
    let rig = Rig::new().await;
    let titles: Vec<_> = (0..60).map(|n| format!("n{n}")).collect();
    let group: Vec<_> = titles.iter().map(|t| to_ada(t)).collect();
    let outcome = rig.desk.settle(&group).await;
    assert!(outcome.trouble.is_none() && outcome.settled.iter().all(|s| *s));
    assert_eq!(rig.titles("ada").await, titles);
}

#[tokio::test]
async fn the_same_message_again_is_taken_once() {
    let rig = Rig::new().await;
    let once = || named("m1", to_ada("once"));
    for group in [vec![once(), once()], vec![once()]] {
        let outcome = rig.desk.settle(&group).await;
        assert!(outcome.settled.iter().all(|s| *s), "{:?}", outcome.trouble);
    }
    assert_eq!(rig.titles("ada").await, ["once"]);
    assert!(rig.poison().await.is_empty());
}

#[tokio::test]
async fn what_can_not_be_taken_is_put_aside_and_holds_nothing_up() {
    let rig = Rig::new().await;
    let group = [
        raw(b"{nonsense"),
        to_ada("first"),
        message(&json!({"user_id": 7, "titel": "x"})),
        named("m1", to_ada("second")),
        of_app("shop", to_ada("nowhere")),
    ];
    let outcome = rig.desk.settle(&group).await;
    assert_eq!(outcome.settled, [true; 5]);
    let reused = [named("m1", to_ada("third"))];
    assert_eq!(rig.desk.settle(&reused).await.settled, [true]);
    assert_eq!(rig.titles("ada").await, ["first", "second"]);
    let reasons = rig.poison().await;
    assert_eq!(reasons.len(), 4, "{reasons:?}");
    assert!(reasons[0].contains("not JSON"), "{reasons:?}");
    assert!(reasons[1].contains("\"shop\""), "{reasons:?}");
    assert!(reasons[2].contains("user_id: must be a string") && reasons[2].contains("did you mean \"title\"?"));
    assert!(reasons[3].contains("message_id: \"m1\" was used with another body"), "{reasons:?}");
}

#[tokio::test]
async fn an_app_may_come_later() {
    let rig = Rig::new().await;
    assert_eq!(rig.desk.settle(&[of_app("shop", to_ada("early"))]).await.settled, [true]);
    assert_eq!(rig.poison().await.len(), 1);
    rig.sql("INSERT INTO apps (app, created_at) VALUES ('shop', 0)").await;
    assert_eq!(rig.desk.settle(&[of_app("shop", to_ada("in time")), to_ada("ours")]).await.settled, [true; 2]);
    assert_eq!(rig.poison().await.len(), 1);
    let shop = UserKey { app: "shop".into(), user: "ada".into() };
    assert_eq!(rig.store.feed_state(&shop).await.unwrap().head_seq, 1);
    assert_eq!(rig.titles("ada").await, ["ours"], "each app has its own people");
}

#[tokio::test]
async fn a_reason_with_nul_can_be_written() {
    let rig = Rig::new().await;
    let outcome = rig.desk.settle(&[message(&json!({"user_id": "ada", "title": "t", "ti\0tle": 1}))]).await;
    assert_eq!(outcome.settled, [true]);
    assert!(!rig.poison().await[0].contains('\0'));
}

/// A trigger stands for a fault of ours that one message brings out.
#[tokio::test]
async fn a_message_that_can_not_be_stored_does_not_stop_the_others() {
    let rig = Rig::new().await;
    rig.sql(
        "CREATE TRIGGER bad BEFORE INSERT ON notifications WHEN NEW.title = 'bad' BEGIN SELECT RAISE(ABORT, 'no'); END",
    )
    .await;
    let outcome = rig.desk.settle(&[to_ada("one"), to_ada("bad"), to_ada("two")]).await;
    assert_eq!(outcome.settled, [true; 3], "{:?}", outcome.trouble);
    assert_eq!(rig.titles("ada").await, ["one", "two"]);
    assert_eq!(rig.poison().await.len(), 1);
}

#[tokio::test]
async fn without_a_poison_list_nothing_is_forgotten() {
    let rig = Rig::new().await;
    rig.sql("DROP TABLE poison").await;
    let outcome = rig.desk.settle(&[raw(b"{nonsense"), to_ada("fine")]).await;
    assert_eq!(outcome.settled, [false, true]);
    assert!(outcome.trouble.is_some());
}

#[tokio::test]
async fn without_a_database_everything_waits() {
    let rig = Rig::new().await;
    assert_eq!(rig.desk.settle(&[to_ada("before")]).await.settled, [true]);
    rig.store.close().await;
    let group = [raw(b"{nonsense"), to_ada("valid"), named("m", message(&json!({"user_id": ""})))];
    let outcome = rig.desk.settle(&group).await;
    assert_eq!(outcome.settled, [false; 3]);
    assert!(outcome.trouble.unwrap().is_temporary());
}

#[tokio::test]
async fn too_long_a_backlog_makes_them_wait() {
    let rig = Rig::with(|c| c.ingest.max_backlog = 0).await;
    assert_eq!(rig.desk.settle(&[to_ada("a")]).await.settled, [true], "nothing waits yet");
    rig.sql("UPDATE deliveries SET state = 'pending', settled_at = NULL").await;
    // The length of the backlog is looked at once a second.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let outcome = rig.desk.settle(&[raw(b"{nonsense"), to_ada("b")]).await;
    assert_eq!(outcome.settled, [true, false], "what will never do need not wait");
    assert!(matches!(outcome.trouble, Some(IngestError::Backlog)));
}
