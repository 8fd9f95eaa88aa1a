//! What only a broker can do to us: return, refuse, forget, go away and come back.

use super::RabbitQueue;
use crate::{
    amqp::testing::{
        Vhost,
        proxy::{Mode, Proxy},
    },
    queue::exam::{LONG, ids, of, publish, rabbit, subscribe, take, until},
    store::exam::{Engine, Exam},
};
use campanile_model::{
    ChannelName, DeliveryId,
    ports::{QueueError, Subscription, WorkQueue},
};
use serde_json::json;
use std::{collections::HashSet, sync::Arc};
use tokio::time::timeout;

const QUEUE: &str = "campanile.work.email";

struct Rig {
    queue: Arc<RabbitQueue>,
    store: Exam,
    vhost: Vhost,
    email: ChannelName,
}

impl Rig {
    async fn new() -> Option<Self> {
        let vhost = Vhost::asked().await?;
        let store = Exam::on(Engine::Sqlite).await;
        let queue = rabbit(&vhost.url(), &store, 1000);
        Some(Self { queue, store, vhost, email: ChannelName::email() })
    }

    /// Between queue and broker stands a proxy.
    async fn behind_a_proxy() -> Option<(Self, Proxy)> {
        let vhost = Vhost::asked().await?;
        let proxy = Proxy::to(vhost.address()).await;
        let store = Exam::on(Engine::Sqlite).await;
        let queue = rabbit(&vhost.url_at(proxy.address()), &store, 1000);
        Some((Self { queue, store, vhost, email: ChannelName::email() }, proxy))
    }

    async fn publish(&self, ids: &[DeliveryId]) {
        publish(&*self.queue, &self.email, ids).await;
    }

    async fn poison(&self) -> Vec<(String, String, String)> {
        self.store.poison(None, 100).await.unwrap().into_iter().map(|p| (p.source, p.raw, p.reason)).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_survive_a_restart_and_name_their_delivery() {
    let Some(rig) = Rig::new().await else { return };
    let one = ids(1);
    rig.publish(&one).await;
    let raw = rig.vhost.peek(QUEUE).await;
    assert_eq!(raw["payload"], json!(format!("{{\"v\":1,\"delivery_id\":\"{}\"}}", one[0])));
    assert_eq!(raw["properties"]["delivery_mode"], json!(2));
    assert_eq!(raw["properties"]["message_id"], json!(one[0].to_string()));
    rig.queue.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_returned_message_counts_as_failed_and_its_queue_is_made_again() {
    let Some(rig) = Rig::new().await else { return };
    rig.publish(&ids(2)).await;
    rig.vhost.delete_queue(QUEUE).await;
    // The broker acks it all the same.
    let lost = rig.queue.publish(&rig.email, &ids(3)).await;
    assert!(matches!(&lost, Err(QueueError::Broker(why)) if why.contains("was gone")), "{lost:?}");
    let all = ids(2);
    rig.queue.publish(&rig.email, &all).await.unwrap();
    let mut sub = subscribe(&*rig.queue, &rig.email, 10).await;
    assert_eq!(of(&take(sub.as_mut(), 2).await), all);
    rig.queue.close().await;
}

/// A message, however often the consumer must begin anew for it.
async fn comes(rig: &Rig, sub: &mut Box<dyn Subscription>, wanted: DeliveryId) {
    let coming = async {
        loop {
            match sub.receive(10).await {
                Ok(envelopes) => {
                    sub.ack_through(envelopes.last().expect("some came").tag).await.unwrap();
                    if of(&envelopes).contains(&wanted) {
                        return;
                    }
                }
                Err(_) => *sub = subscribe(&*rig.queue, &rig.email, 2).await,
            }
        }
    };
    timeout(LONG, coming).await.expect("the message comes");
}

/// Declared again in the very moment of its deletion, it would keep its consumers and tell them nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consumers_of_a_deleted_queue_get_what_is_published_after_it() {
    let Some(rig) = Rig::new().await else { return };
    let other = rabbit(&rig.vhost.url(), &rig.store, 1000);
    rig.publish(&ids(1)).await;
    other.publish(&rig.email, &ids(1)).await.unwrap();
    let mut sub = subscribe(&*rig.queue, &rig.email, 2).await;
    for _ in 0..3 {
        let one = ids(1);
        rig.vhost.delete_queue(QUEUE).await;
        until("it is published", async || other.publish(&rig.email, &one).await.is_ok()).await;
        comes(&rig, &mut sub, one[0]).await;
    }
    other.close().await;
    rig.queue.close().await;
}

/// Somebody else deletes the queue and declares it at once; then comes more than a consumer may hold.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_the_broker_forgot_without_a_word_begins_anew() {
    forgotten_and_back(5).await;
}

/// Or less: the broker counts the consumer, and the message as handed out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_a_forgotten_consumer_holds_unknowingly_comes_back() {
    forgotten_and_back(1).await;
}

async fn forgotten_and_back(messages: usize) {
    let Some(rig) = Rig::new().await else { return };
    let other = rabbit(&rig.vhost.url(), &rig.store, 1000);
    rig.publish(&ids(1)).await;
    let mut sub = subscribe(&*rig.queue, &rig.email, 2).await;
    let taken = take(sub.as_mut(), 1).await;
    sub.ack_through(taken[0].tag).await.unwrap();
    let somebody = lapin::Connection::connect(&rig.vhost.url(), lapin::ConnectionProperties::default()).await.unwrap();
    let amqp = somebody.create_channel().await.unwrap();
    amqp.queue_delete(QUEUE.into(), lapin::options::QueueDeleteOptions::default()).await.unwrap();
    crate::amqp::topology::declare_work(&somebody, &rig.email, 1000).await.unwrap();
    let many = ids(messages);
    other.publish(&rig.email, &many).await.unwrap();
    comes(&rig, &mut sub, many[messages - 1]).await;
    other.close().await;
    rig.queue.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_publishes_beside_a_full_line_is_not_told_that_it_is_full() {
    let Some(rig) = Rig::new().await else { return };
    let small = rabbit(&rig.vhost.url(), &rig.store, 1);
    until("the line is full", async || matches!(small.publish(&rig.email, &ids(1)).await, Err(QueueError::Full(_))))
        .await;
    let sms = ChannelName::from("sms");
    let (many, one) = (ids(300), ids(1));
    let (full, other) = tokio::join!(small.publish(&rig.email, &many), small.publish(&sms, &one));
    assert!(matches!(full, Err(QueueError::Full(_))), "{full:?}");
    assert!(other.is_ok(), "{other:?}");
    small.close().await;
    rig.queue.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_can_read_is_put_aside_and_the_rest_goes_on() {
    let Some(rig) = Rig::new().await else { return };
    let all = ids(2);
    rig.publish(&all[..1]).await;
    rig.vhost.publish_raw(QUEUE, "hello").await;
    rig.vhost.publish_raw(QUEUE, r#"{"v":9,"delivery_id":"x"}"#).await;
    rig.vhost.publish_raw(QUEUE, "hello").await;
    rig.publish(&all[1..]).await;
    let mut sub = subscribe(&*rig.queue, &rig.email, 10).await;
    let taken = take(sub.as_mut(), 2).await;
    assert_eq!(of(&taken), all);
    sub.ack_through(taken[1].tag).await.unwrap();
    let poison = rig.poison().await;
    assert_eq!(poison.len(), 2, "the same twice is written once: {poison:?}");
    assert!(poison.iter().all(|p| p.0 == "work:email"));
    assert!(poison[0].2.contains("version 9") && poison[1].1 == "hello", "{poison:?}");
    drop(sub);
    // What had not been acked would come before this one, and be put aside a second time.
    let last = ids(1);
    rig.publish(&last).await;
    let mut sub = subscribe(&*rig.queue, &rig.email, 10).await;
    assert_eq!(of(&take(sub.as_mut(), 1).await), last);
    let page = rig.queue.shared.metrics.render();
    assert!(page.contains("campanile_poison_messages_total{reason=\"unreadable\"} 3\n"), "{page}");
    rig.queue.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_poison_list_nothing_is_forgotten() {
    let Some(rig) = Rig::new().await else { return };
    rig.publish(&ids(1)).await;
    rig.vhost.publish_raw(QUEUE, "hello").await;
    rig.store.close().await;
    let mut sub = subscribe(&*rig.queue, &rig.email, 10).await;
    let error = timeout(LONG, async {
        loop {
            match sub.receive(10).await {
                Ok(_) => {}
                Err(e) => break e,
            }
        }
    })
    .await
    .unwrap();
    assert!(error.to_string().contains("could not be put aside"), "{error}");
    drop(sub);
    until("both are there again", async || rig.queue.depth(&rig.email) == Some(2)).await;
    rig.queue.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_is_deleted_ends_the_subscription_and_the_next_one_makes_it_again() {
    let Some(rig) = Rig::new().await else { return };
    let mut sub = subscribe(&*rig.queue, &rig.email, 10).await;
    rig.vhost.delete_queue(QUEUE).await;
    let ended = timeout(LONG, sub.receive(1)).await.expect("it is told");
    assert!(matches!(&ended, Err(QueueError::Broker(why)) if why.contains("deleted")), "{ended:?}");
    drop(sub);
    let mut sub = subscribe(&*rig.queue, &rig.email, 10).await;
    let one = ids(1);
    rig.publish(&one).await;
    assert_eq!(of(&take(sub.as_mut(), 1).await), one);
    rig.queue.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_goes_and_comes_back_needs_no_new_queue() {
    let Some((rig, proxy)) = Rig::behind_a_proxy().await else { return };
    let all = ids(3);
    rig.publish(&all[..2]).await;
    let mut sub = subscribe(&*rig.queue, &rig.email, 10).await;
    let held = take(sub.as_mut(), 2).await;
    let before = rig.queue.epoch().expect("it is up");
    proxy.set(Mode::Cut);
    let ended = timeout(LONG, sub.receive(1)).await.expect("it is told");
    assert!(matches!(ended, Err(QueueError::Broker(_))), "{ended:?}");
    assert!(sub.ack_through(held[1].tag).await.is_err(), "an ack that nobody hears is not taken for one");
    drop(sub);
    until("it is seen", async || rig.queue.epoch().is_none()).await;
    assert!(matches!(rig.queue.publish(&rig.email, &all).await, Err(QueueError::Broker(_))));
    assert!(rig.queue.health().is_err());
    assert_eq!(rig.queue.depth(&rig.email), None);
    let waiting = {
        let (queue, email) = (rig.queue.clone(), rig.email.clone());
        tokio::spawn(async move { queue.subscribe(&email, 10).await })
    };
    proxy.set(Mode::Pass);
    let mut sub = timeout(LONG, waiting).await.expect("it waits for the broker").unwrap().unwrap();
    rig.publish(&all[2..]).await;
    assert_ne!(rig.queue.epoch(), Some(before), "whoever asks sees that it was away");
    let again: HashSet<_> = of(&take(sub.as_mut(), 3).await).into_iter().collect();
    assert_eq!(again, all.into_iter().collect(), "what was held came again");
    assert!(rig.queue.health().is_ok());
    rig.queue.close().await;
}

/// No error comes and no end: only the clock says that the confirm is late.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_confirm_that_does_not_come_is_a_failure() {
    let Some((rig, proxy)) = Rig::behind_a_proxy().await else { return };
    rig.publish(&ids(1)).await;
    proxy.set(Mode::NeverRead);
    let lost = timeout(LONG, rig.queue.publish(&rig.email, &ids(2))).await.expect("it is given up");
    assert!(matches!(lost, Err(QueueError::Broker(_))), "{lost:?}");
    proxy.set(Mode::Pass);
    until("it works again", async || rig.queue.publish(&rig.email, &ids(1)).await.is_ok()).await;
    rig.queue.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_of_our_name_that_is_not_ours_is_refused_at_the_start_in_words() {
    let Some(rig) = Rig::new().await else { return };
    let other = json!({"x-queue-type": "quorum", "x-max-length": 7});
    rig.vhost.make_queue(QUEUE, other).await;
    let sms = ChannelName::from("sms");
    let Err(QueueError::Unusable(why)) = rig.queue.prepare(&[sms.clone(), rig.email.clone()]).await else {
        panic!("taken as it is")
    };
    assert!(why.contains(QUEUE) && why.contains("delete the queue") && why.contains("x-"), "{why}");
    // Later, on a host that runs: this channel waits, health says why, the others work.
    assert!(matches!(rig.queue.publish(&rig.email, &ids(1)).await, Err(QueueError::Unusable(_))));
    assert!(rig.queue.subscribe(&rig.email, 10).await.is_err());
    assert!(rig.queue.health().unwrap_err().to_string().contains(QUEUE));
    rig.queue.publish(&sms, &ids(1)).await.unwrap();
    rig.vhost.delete_queue(QUEUE).await;
    rig.publish(&ids(1)).await;
    assert!(rig.queue.health().is_ok());
    rig.queue.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_away_is_no_reason_not_to_start() {
    let Some((rig, proxy)) = Rig::behind_a_proxy().await else { return };
    proxy.set(Mode::Cut);
    let queue = rabbit(&rig.vhost.url_at(proxy.address()), &rig.store, 1000);
    timeout(LONG, queue.prepare(std::slice::from_ref(&rig.email))).await.expect("it does not wait").unwrap();
    assert!(matches!(queue.publish(&rig.email, &ids(1)).await, Err(QueueError::Broker(_))));
    timeout(LONG, queue.close()).await.expect("and it ends");
    rig.queue.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_relay_hears_of_a_broker_that_is_back_and_of_a_shorter_line() {
    let Some((rig, proxy)) = Rig::behind_a_proxy().await else { return };
    rig.publish(&ids(5)).await;
    until("the length", async || rig.queue.depth(&rig.email) == Some(5)).await;
    let mut sub = subscribe(&*rig.queue, &rig.email, 10).await;
    let all = take(sub.as_mut(), 5).await;
    sub.ack_through(all[4].tag).await.unwrap();
    // Asking makes it look.
    let _ = rig.queue.depth(&rig.email);
    timeout(LONG, async {
        while rig.queue.depth(&rig.email) != Some(0) {
            rig.queue.changed().await;
        }
    })
    .await
    .expect("the line is shorter");
    proxy.set(Mode::Cut);
    timeout(LONG, async {
        while rig.queue.epoch().is_some() {
            rig.queue.changed().await;
        }
        proxy.set(Mode::Pass);
        while rig.queue.epoch().is_none() {
            rig.queue.changed().await;
        }
    })
    .await
    .expect("away and back");
    rig.queue.close().await;
}

/// However many consumers end, the connection they share goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscriptions_end_without_hurting_each_other() {
    let Some(rig) = Rig::new().await else { return };
    let all = ids(30);
    rig.publish(&all).await;
    let mut stays = subscribe(&*rig.queue, &ChannelName::from("sms"), 10).await;
    for _ in 0..8 {
        let mut sub = subscribe(&*rig.queue, &rig.email, 30).await;
        take(sub.as_mut(), 1).await;
    }
    publish(&*rig.queue, &ChannelName::from("sms"), &all[..1]).await;
    assert_eq!(of(&take(stays.as_mut(), 1).await), all[..1]);
    assert!(rig.queue.health().is_ok());
    rig.queue.close().await;
}
