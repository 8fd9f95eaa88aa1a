//! RabbitMQ: do we get in, which one is it, is what stands there ours, does a message come round.
//!
//! Queues are only looked at: one that is not there is made by the first start, one that is there is compared with what we
//! would make.

use super::Finding;
use crate::{
    amqp::{Broker, Link, LinkError, LinkParams, Role, retire, topology},
    config::Config,
    observe::Metrics,
};
use async_trait::async_trait;
use campanile_model::ChannelName;
use futures_util::StreamExt;
use lapin::{
    BasicProperties, Connection,
    options::{BasicConsumeOptions, BasicPublishOptions, ExchangeDeclareOptions, QueueDeclareOptions},
    types::FieldTable,
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use url::Url;

const WHAT: &str = "broker";
/// The link's own limits are shorter.
const PATIENCE: Duration = Duration::from_secs(20);
const ROUND: Duration = Duration::from_secs(5);
/// Oldest that the queues' arguments work on.
const OLDEST: (u32, u32) = (3, 10);

/// Connects and wants nothing.
struct Visit;

#[async_trait]
impl Role for Visit {
    type Session = Arc<Connection>;

    fn name(&self) -> &'static str {
        "doctor"
    }

    async fn open(&self, connection: &Arc<Connection>) -> Result<Arc<Connection>, LinkError> {
        Ok(connection.clone())
    }
}

pub async fn check(config: &Config) -> Vec<Finding> {
    match config.queue.broker() {
        Ok(Some(broker)) => visit(broker, config.queue.url.expose(), true).await,
        Ok(None) => vec![Finding::good(WHAT, "none: the queue is embedded")],
        Err(e) => vec![Finding::wrong(WHAT, format!("queue.url {e}"), "campanile config check")],
    }
}

/// `carries_work`: the queues are on this one.
pub async fn visit(broker: Broker, url: &str, carries_work: bool) -> Vec<Finding> {
    let (shown, tasks) = (broker.to_string(), TaskTracker::new());
    let params = LinkParams {
        broker,
        name: "campanile".to_owned(),
        stop: CancellationToken::new(),
        metrics: Arc::new(Metrics::new()),
        tasks,
    };
    let link = Link::start(params, Visit);
    let found = match link.first_try(PATIENCE).await {
        Some(Ok(())) => inside(&link, &shown, url, carries_work).await,
        Some(Err(e)) => vec![outside(&e)],
        None => vec![outside(&LinkError::Lost(format!("{shown} did not answer")))],
    };
    link.close().await;
    found
}

/// Says whose turn it is.
fn outside(e: &LinkError) -> Finding {
    let fix = match e {
        LinkError::Lost(_) => "start RabbitMQ, check host, port and firewall, and queue.url",
        LinkError::Refused(_) => "rabbitmqctl authenticate_user USER PASSWORD; rabbitmqctl list_permissions -p VHOST",
        LinkError::Mismatch(_) => "see above",
    };
    Finding::wrong(WHAT, e.to_string(), fix)
}

async fn inside(link: &Link<Visit>, shown: &str, url: &str, carries_work: bool) -> Vec<Finding> {
    let Some(connection) = link.current() else {
        return vec![outside(&LinkError::Lost(format!("{shown} ended the connection at once")))];
    };
    let mut found = vec![release(shown, version(url).await.as_deref())];
    if carries_work {
        found.push(queues(&connection).await);
    }
    found.push(round(link, &connection).await);
    found
}

fn release(shown: &str, version: Option<&str>) -> Finding {
    let Some(version) = version else { return Finding::good(WHAT, format!("{shown} lets us in")) };
    let text = format!("{shown} lets us in, RabbitMQ {version}");
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let number = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if number < OLDEST { Finding::wrong(WHAT, text, "use RabbitMQ 3.10 or newer") } else { Finding::good(WHAT, text) }
}

/// What the broker calls itself before anybody logs in; not asked behind TLS.
async fn version(url: &str) -> Option<String> {
    let url = Url::parse(url).ok().filter(|url| url.scheme() == "amqp")?;
    let place = format!("{}:{}", url.host_str()?, url.port().unwrap_or(5672));
    let greet = async {
        let mut stream = TcpStream::connect(place).await.ok()?;
        stream.write_all(b"AMQP\0\0\x09\x01").await.ok()?;
        // A frame: its kind and channel, then the length of what follows.
        let mut head = [0; 7];
        stream.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([head[3], head[4], head[5], head[6]]).min(64 * 1024);
        let mut start = vec![0; length as usize];
        stream.read_exact(&mut start).await.ok()?;
        named(&start, b"\x07versionS")
    };
    timeout(ROUND, greet).await.ok().flatten()
}

/// The value of a table's entry: its key with its length before it and its type behind it, then the value with its length.
fn named(table: &[u8], key: &[u8]) -> Option<String> {
    let at = table.windows(key.len()).position(|w| w == key)? + key.len();
    let length = u32::from_be_bytes(table.get(at..at + 4)?.try_into().ok()?) as usize;
    let value = table.get(at + 4..)?.get(..length)?;
    std::str::from_utf8(value).ok().filter(|v| v.len() < 64).map(crate::cli::output::safe)
}

/// Compares the queues that are there with those we would make.
async fn queues(connection: &Connection) -> Finding {
    const WHAT: &str = "queues";
    let (mut there, mut missing) = (Vec::new(), Vec::new());
    if exists(connection, topology::INGEST_QUEUE).await && exchange_exists(connection).await {
        if let Err(e) = topology::declare_ingest(connection).await {
            return unlike(WHAT, &e);
        }
        there.push(topology::INGEST_QUEUE.to_owned());
    } else {
        missing.push(topology::INGEST_QUEUE.to_owned());
    }
    for channel in [ChannelName::websocket(), ChannelName::email()] {
        let name = topology::work_queue(&channel);
        if !exists(connection, &name).await {
            missing.push(name);
            continue;
        }
        if let Err(e) = topology::declare_work(connection, &channel, topology::WORK_MAX_LENGTH).await {
            return unlike(WHAT, &e);
        }
        there.push(name);
    }
    match (there.is_empty(), missing.is_empty()) {
        (true, _) => Finding::good(WHAT, "none yet (made at the first start)"),
        (false, true) => Finding::good(WHAT, there.join(", ")),
        (false, false) => {
            Finding::good(WHAT, format!("{}; made when needed: {}", there.join(", "), missing.join(", ")))
        }
    }
}

fn unlike(what: &'static str, e: &LinkError) -> Finding {
    let fix = match e {
        LinkError::Mismatch(_) => {
            "rabbitmqctl delete_queue NAME -p VHOST, once what it holds may go; or use another vhost"
        }
        LinkError::Refused(_) => "rabbitmqctl set_permissions -p VHOST USER '.*' '.*' '.*'",
        LinkError::Lost(_) => "run this again",
    };
    Finding::wrong(what, e.to_string(), fix)
}

async fn exists(connection: &Connection, queue: &str) -> bool {
    let Ok(channel) = connection.create_channel().await else { return false };
    let options = QueueDeclareOptions { passive: true, durable: true, ..QueueDeclareOptions::default() };
    let found = channel.queue_declare(queue.into(), options, FieldTable::default()).await.is_ok();
    retire(channel, None);
    found
}

async fn exchange_exists(connection: &Connection) -> bool {
    let Ok(channel) = connection.create_channel().await else { return false };
    let options = ExchangeDeclareOptions { passive: true, durable: true, ..ExchangeDeclareOptions::default() };
    let kind = lapin::ExchangeKind::Topic;
    let found =
        channel.exchange_declare(topology::INGEST_EXCHANGE.into(), kind, options, FieldTable::default()).await.is_ok();
    retire(channel, None);
    found
}

/// Sends a message to a queue of our own that goes with the connection, and waits for it to come back.
async fn round(link: &Link<Visit>, connection: &Connection) -> Finding {
    const WHAT: &str = "round trip";
    let start = Instant::now();
    let came = match timeout(ROUND, there_and_back(connection)).await {
        Ok(came) => came.map_err(|e| LinkError::from(e).to_string()),
        Err(_) => Err(format!("no message came back within {} s", ROUND.as_secs())),
    };
    let took = start.elapsed().as_secs_f64() * 1000.0;
    match (came, link.is_blocked()) {
        (_, true) => Finding::wrong(
            WHAT,
            "RabbitMQ takes no messages: it is short of memory or disk",
            "rabbitmqctl status shows the alarm; give it memory or disk, or drain its queues",
        ),
        (Ok(()), false) => Finding::good(WHAT, format!("a message came back in {took:.0} ms")),
        (Err(e), false) => {
            let fix = "rabbitmqctl set_permissions -p VHOST USER '.*' '.*' '.*'; rabbitmqctl status";
            Finding::wrong(WHAT, e, fix)
        }
    }
}

async fn there_and_back(connection: &Connection) -> Result<(), lapin::Error> {
    let channel = connection.create_channel().await?;
    let name = format!("campanile.doctor.{}", uuid::Uuid::new_v4());
    let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(name.as_str().into(), options, FieldTable::default()).await?;
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    let mut consumer = channel.basic_consume(name.as_str().into(), "".into(), options, FieldTable::default()).await?;
    let options = BasicPublishOptions::default();
    channel.basic_publish("".into(), name.as_str().into(), options, b"ping", BasicProperties::default()).await?;
    if let Some(Err(e)) = consumer.next().await {
        return Err(e);
    }
    retire(channel, Some(consumer));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{super::Verdict, *};

    #[test]
    fn versions_from_3_10_are_taken() {
        let of = |version| release("amqp://h", version).verdict;
        for good in [None, Some("3.10.8"), Some("3.13.7"), Some("4.2.0")] {
            assert_eq!(of(good), Verdict::Good, "{good:?}");
        }
        assert_eq!((of(Some("3.9.29")), of(Some("nonsense"))), (Verdict::Wrong, Verdict::Wrong));
    }

    #[test]
    fn a_name_is_found_in_a_greeting() {
        let table = b"..\x07productS\0\0\0\x08RabbitMQ\x07versionS\0\0\0\x063.10.8rest";
        assert_eq!(named(table, b"\x07versionS").as_deref(), Some("3.10.8"));
        assert_eq!(named(b"\x07versionS\0\0\0\xffx", b"\x07versionS"), None);
        assert_eq!(named(b"", b"\x07versionS"), None);
    }
}
