//! The supervisor against a real broker, cut and silenced by a proxy.

use super::{
    Broker, Link, LinkError, LinkParams, Role,
    testing::{
        Vhost,
        proxy::{Mode, Proxy},
    },
    topology,
};
use crate::observe::Metrics;
use async_trait::async_trait;
use campanile_model::ChannelName;
use lapin::Connection;
use serde_json::json;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

const LONG: Duration = Duration::from_secs(40);

/// Declares the work queue of `email` and counts its sessions.
#[derive(Default)]
struct Declares(AtomicU32);

#[async_trait]
impl Role for Declares {
    type Session = Arc<Connection>;
    fn name(&self) -> &'static str {
        "test"
    }
    async fn open(&self, connection: &Arc<Connection>) -> Result<Arc<Connection>, LinkError> {
        topology::declare_work(connection, &ChannelName::email(), topology::WORK_MAX_LENGTH).await?;
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(connection.clone())
    }
}

fn link(url: &str) -> (Link<Declares>, Arc<Metrics>) {
    let metrics = Arc::new(Metrics::new());
    let params = LinkParams {
        broker: Broker::parse("queue.url", url).unwrap(),
        name: "campanile test".to_owned(),
        stop: CancellationToken::new(),
        metrics: metrics.clone(),
        tasks: TaskTracker::new(),
    };
    (Link::start(params, Declares::default()), metrics)
}

async fn up(link: &Link<Declares>) -> Arc<Arc<Connection>> {
    timeout(LONG, link.up()).await.expect("the link comes up")
}

async fn down(link: &Link<Declares>) {
    let mut changes = link.changes();
    timeout(LONG, changes.wait_for(|s| !s.up)).await.expect("the link goes down").unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connects_declares_and_closes() {
    let Some(vhost) = Vhost::asked().await else { return };
    let (link, metrics) = link(&vhost.url());
    assert!(matches!(link.first_try(LONG).await, Some(Ok(()))));
    assert!(link.health().is_ok() && link.current().is_some());
    assert!(metrics.render().contains("campanile_broker_connected{role=\"test\"} 1\n"));
    let made = vhost.queue("campanile.work.email").await.unwrap();
    let arguments = json!({"x-queue-type": "quorum", "x-delivery-limit": 10, "x-overflow": "reject-publish", "x-max-length": 1_000_000});
    assert_eq!((&made["arguments"], &made["durable"]), (&arguments, &json!(true)));
    // The second connection finds its own queue and is content.
    let first = link.current().unwrap();
    link.failed(&first, "the test says so");
    down(&link).await;
    up(&link).await;
    timeout(LONG, link.close()).await.unwrap();
    assert!(link.current().is_none());
    assert!(metrics.render().contains("campanile_broker_connected{role=\"test\"} 0\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_intake_and_bus_need_is_declared_twice_without_a_quarrel() {
    let Some(vhost) = Vhost::asked().await else { return };
    let (link, _) = link(&vhost.url());
    let connection = up(&link).await;
    for _ in 0..2 {
        topology::declare_ingest(&connection).await.unwrap();
        topology::declare_bus(&connection).await.unwrap();
    }
    let made = vhost.queue(topology::INGEST_QUEUE).await.unwrap();
    assert_eq!(made["arguments"], json!({"x-queue-type": "quorum", "x-delivery-limit": 1_000_000}));
    link.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_connection_is_made_anew() {
    let Some(vhost) = Vhost::asked().await else { return };
    let proxy = Proxy::to(vhost.address()).await;
    let (link, _) = link(&vhost.url_at(proxy.address()));
    let first = up(&link).await;
    proxy.set(Mode::Cut);
    down(&link).await;
    assert!(link.health().is_err());
    assert!(first.create_channel().await.is_err());
    proxy.set(Mode::Pass);
    let second = up(&link).await;
    assert!(!Arc::ptr_eq(&first, &second));
    assert!(second.create_channel().await.is_ok() && link.health().is_ok());
    assert_eq!(link.role().0.load(Ordering::SeqCst), 2);
    link.close().await;
}

/// Nothing says that the peer is gone: neither an error nor an end of the stream.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_peer_is_noticed_and_left() {
    let Some(vhost) = Vhost::asked().await else { return };
    let proxy = Proxy::to(vhost.address()).await;
    let (link, _) = link(&vhost.url_at(proxy.address()));
    up(&link).await;
    proxy.set(Mode::BlackHole);
    down(&link).await;
    // A handshake that nobody answers is given up, with its socket.
    let mut trouble = String::new();
    timeout(LONG, async {
        while !trouble.contains("did not answer within") {
            trouble = link.health().unwrap_err();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .unwrap_or_else(|_| panic!("{trouble}"));
    timeout(LONG, async {
        while sockets_to(proxy.address().port()) > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("between two tries no socket is left, and so no thread that waits on it");
    proxy.set(Mode::Pass);
    up(&link).await;
    link.close().await;
}

/// Sockets of this process, in whatever state, whose far end has this port.
fn sockets_to(port: u16) -> usize {
    let far = format!(":{port:04X}");
    let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    let fields = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let inodes: Vec<_> = fields.filter(|f| f[2].ends_with(&far)).map(|f| format!("socket:[{}]", f[9])).collect();
    let files = std::fs::read_dir("/proc/self/fd").unwrap().filter_map(|f| std::fs::read_link(f.ok()?.path()).ok());
    files.filter(|f| inodes.iter().any(|inode| f.as_os_str() == inode.as_str())).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_away_costs_nothing_and_is_found_later() {
    let Some(vhost) = Vhost::asked().await else { return };
    let proxy = Proxy::to(vhost.address()).await;
    proxy.set(Mode::Cut);
    let (link, _) = link(&vhost.url_at(proxy.address()));
    assert!(matches!(link.first_try(LONG).await, Some(Err(LinkError::Lost(_)))));
    assert!(link.current().is_none());
    proxy.set(Mode::Pass);
    up(&link).await;
    link.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_with_other_arguments_is_told_of_and_tried_again() {
    let Some(vhost) = Vhost::asked().await else { return };
    let other = json!({"x-queue-type": "quorum", "x-delivery-limit": 3});
    vhost.make_queue("campanile.work.email", other).await;
    let (link, _) = link(&vhost.url());
    let Some(Err(e)) = link.first_try(LONG).await else { panic!("the queue was taken as it is") };
    let said = e.to_string();
    assert!(e.is_mismatch() && said.contains("campanile.work.email") && said.contains("delete the queue"), "{said}");
    assert!(
        said.contains("x-delivery-limit") || said.contains("x-overflow") || said.contains("x-max-length"),
        "{said}"
    );
    assert_eq!(link.health(), Err(said));
    vhost.delete_queue("campanile.work.email").await;
    up(&link).await;
    link.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_credentials_and_vhosts_are_told_apart() {
    let Some(vhost) = Vhost::asked().await else { return };
    let refused = async |url: String, about: &str| {
        let (link, _) = link(&url);
        let Some(Err(LinkError::Refused(said))) = link.first_try(LONG).await else { panic!("let in by {about}") };
        assert!(said.contains(about) && said.contains("queue.url") && !said.contains("wrong-secret"), "{said}");
        link.close().await;
    };
    let mut wrong: url::Url = vhost.url().parse().unwrap();
    wrong.set_password(Some("wrong-secret")).unwrap();
    refused(wrong.to_string(), "check user and password").await;
    let mut nowhere: url::Url = vhost.url().parse().unwrap();
    nowhere.set_path("no-such-vhost");
    refused(nowhere.to_string(), "create the vhost").await;
}
