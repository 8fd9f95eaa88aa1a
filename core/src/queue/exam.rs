//! The exam that every work queue passes: `CAMPANILE_TEST_QUEUES=local,rabbitmq`, and the embedded one alone when nobody says.
//!
//! A case may lean on nothing but the port. What only one of them promises is tested beside it.

use super::{LocalQueue, RabbitParams, RabbitQueue, rabbit::with_length};
use crate::{
    amqp::{
        Broker,
        testing::{Kind, Vhost, asked},
    },
    observe::Metrics,
    store::exam::{Engine, Exam},
};
use campanile_model::{
    ChannelName, DeliveryId,
    ports::{Envelope, QueueError, Subscription, WorkQueue},
};
use std::{collections::HashSet, sync::Arc, time::Duration};
use tokio::time::timeout;

pub(super) const LONG: Duration = Duration::from_secs(40);

/// A fresh queue.
struct Hall {
    queue: Arc<dyn WorkQueue>,
    _store: Exam,
    /// Goes after the queue.
    _vhost: Option<Vhost>,
}

impl Hall {
    async fn on(kind: Kind) -> Self {
        Self::with(kind, 1000).await
    }

    /// Of `length` messages per channel, or a few more.
    async fn with(kind: Kind, length: u16) -> Self {
        let store = Exam::on(Engine::Sqlite).await;
        match kind {
            Kind::Local => Self { queue: LocalQueue::new(usize::from(length)), _store: store, _vhost: None },
            Kind::Rabbit => {
                let vhost = Vhost::new().await;
                let queue = rabbit(&vhost.url(), &store, length);
                Self { queue, _store: store, _vhost: Some(vhost) }
            }
        }
    }
}

pub(super) fn rabbit(url: &str, store: &Exam, length: u16) -> Arc<RabbitQueue> {
    let params = RabbitParams {
        broker: Broker::parse("queue.url", url).unwrap(),
        name: "campanile exam".to_owned(),
        store: store.shared(),
        metrics: Arc::new(Metrics::new()),
    };
    with_length(params, i32::from(length))
}

pub(super) fn ids(n: usize) -> Vec<DeliveryId> {
    (0..n).map(|_| DeliveryId::new()).collect()
}

pub(super) fn of(envelopes: &[Envelope]) -> Vec<DeliveryId> {
    envelopes.iter().map(|e| e.delivery_id).collect()
}

/// Publishes as soon as the queue takes anything.
pub(super) async fn publish(queue: &dyn WorkQueue, channel: &ChannelName, ids: &[DeliveryId]) {
    until("the queue is up", async || queue.epoch().is_some()).await;
    queue.publish(channel, ids).await.unwrap();
}

pub(super) async fn subscribe(queue: &dyn WorkQueue, channel: &ChannelName, prefetch: u16) -> Box<dyn Subscription> {
    timeout(LONG, queue.subscribe(channel, prefetch)).await.expect("a subscription in time").unwrap()
}

/// Exactly `n`, however they come.
pub(super) async fn take(subscription: &mut dyn Subscription, n: usize) -> Vec<Envelope> {
    let mut taken = Vec::new();
    while taken.len() < n {
        let more = timeout(LONG, subscription.receive(n - taken.len())).await.expect("messages in time").unwrap();
        assert!(!more.is_empty() && more.len() <= n - taken.len());
        taken.extend(more);
    }
    taken
}

pub(super) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let watch = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LONG, watch).await.unwrap_or_else(|_| panic!("{what}: not in time"));
}

macro_rules! exam {
    ($($case:ident),+ $(,)?) => {
        mod on_every_queue {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    for kind in super::asked() {
                        super::$case(kind).await;
                    }
                }
            )+
        }
    };
}
exam![
    what_is_published_comes_in_order,
    a_consumer_that_waits_is_woken,
    channels_do_not_share_a_line,
    no_more_comes_than_was_asked_for,
    what_was_not_acked_comes_again,
    a_run_is_acked_by_its_last,
    a_full_line_says_so_and_takes_again_when_it_is_shorter,
    the_length_is_told,
    consumers_share_the_work,
    a_receive_that_is_given_up_loses_nothing,
    a_big_batch_arrives_whole,
    nothing_goes_on_after_the_end,
];

async fn what_is_published_comes_in_order(kind: Kind) {
    let (hall, email, all) = (Hall::on(kind).await, ChannelName::email(), ids(5));
    publish(&*hall.queue, &email, &all[..2]).await;
    publish(&*hall.queue, &email, &all[2..]).await;
    let mut sub = subscribe(&*hall.queue, &email, 10).await;
    let taken = take(sub.as_mut(), 5).await;
    assert_eq!(of(&taken), all);
    assert!(taken.is_sorted_by_key(|e| e.tag));
    assert!(hall.queue.publish(&email, &[]).await.is_ok(), "nothing is nothing");
    hall.queue.close().await;
}

async fn a_consumer_that_waits_is_woken(kind: Kind) {
    let (hall, email, one) = (Hall::on(kind).await, ChannelName::email(), ids(1));
    // Before anything was published: nobody else has made the line.
    let mut sub = subscribe(&*hall.queue, &email, 10).await;
    let waiting = tokio::spawn(async move { take(sub.as_mut(), 1).await });
    publish(&*hall.queue, &email, &one).await;
    assert_eq!(of(&waiting.await.unwrap()), one);
    hall.queue.close().await;
}

async fn channels_do_not_share_a_line(kind: Kind) {
    let (hall, email, sms, all) = (Hall::on(kind).await, ChannelName::email(), ChannelName::from("sms"), ids(2));
    publish(&*hall.queue, &email, &all[..1]).await;
    publish(&*hall.queue, &sms, &all[1..]).await;
    for (channel, id) in [(sms, all[1]), (email, all[0])] {
        let mut sub = subscribe(&*hall.queue, &channel, 10).await;
        assert_eq!(of(&take(sub.as_mut(), 1).await), [id]);
    }
    hall.queue.close().await;
}

async fn no_more_comes_than_was_asked_for(kind: Kind) {
    let (hall, email, all) = (Hall::on(kind).await, ChannelName::email(), ids(7));
    publish(&*hall.queue, &email, &all).await;
    let mut sub = subscribe(&*hall.queue, &email, 10).await;
    let mut taken = Vec::new();
    for max in [1, 2, 0, 3, 1, 1, 1, 1] {
        if taken.len() == all.len() {
            break;
        }
        let some = timeout(LONG, sub.receive(max)).await.unwrap().unwrap();
        assert!(!some.is_empty() && some.len() <= max.max(1));
        taken.extend(some);
    }
    assert_eq!(of(&taken), all);
    hall.queue.close().await;
}

async fn what_was_not_acked_comes_again(kind: Kind) {
    let (hall, email, all) = (Hall::on(kind).await, ChannelName::email(), ids(4));
    publish(&*hall.queue, &email, &all).await;
    let mut sub = subscribe(&*hall.queue, &email, 10).await;
    let first = take(sub.as_mut(), 3).await;
    sub.ack_through(first[0].tag).await.unwrap();
    drop(sub);
    let mut sub = subscribe(&*hall.queue, &email, 10).await;
    let again: HashSet<_> = of(&take(sub.as_mut(), 3).await).into_iter().collect();
    assert_eq!(again, all[1..].iter().copied().collect());
    hall.queue.close().await;
}

async fn a_run_is_acked_by_its_last(kind: Kind) {
    let (hall, email, all) = (Hall::on(kind).await, ChannelName::email(), ids(6));
    publish(&*hall.queue, &email, &all[..5]).await;
    let mut sub = subscribe(&*hall.queue, &email, 10).await;
    let run = take(sub.as_mut(), 5).await;
    sub.ack_through(run[4].tag).await.unwrap();
    drop(sub);
    publish(&*hall.queue, &email, &all[5..]).await;
    let mut sub = subscribe(&*hall.queue, &email, 10).await;
    assert_eq!(of(&take(sub.as_mut(), 1).await), all[5..], "nothing of the run comes again");
    hall.queue.close().await;
}

async fn a_full_line_says_so_and_takes_again_when_it_is_shorter(kind: Kind) {
    let (hall, email) = (Hall::with(kind, 3).await, ChannelName::email());
    let first = ids(1);
    publish(&*hall.queue, &email, &first).await;
    // A broker of several processes may take a few more before it notices.
    let mut taken = 1;
    let refused = loop {
        assert!(taken < 100, "it has no end");
        match hall.queue.publish(&email, &ids(1)).await {
            Ok(()) => taken += 1,
            Err(e) => break e,
        }
    };
    assert!(matches!(&refused, QueueError::Full(channel) if *channel == email), "{refused}");
    let mut sub = subscribe(&*hall.queue, &email, 100).await;
    let all = take(sub.as_mut(), taken).await;
    assert_eq!(all[0].delivery_id, first[0]);
    sub.ack_through(all[taken - 1].tag).await.unwrap();
    until("the line takes again", async || hall.queue.publish(&email, &ids(1)).await.is_ok()).await;
    hall.queue.close().await;
}

async fn the_length_is_told(kind: Kind) {
    let (hall, email, all) = (Hall::on(kind).await, ChannelName::email(), ids(3));
    publish(&*hall.queue, &email, &all).await;
    let told = async |n| until("the length", async || hall.queue.depth(&email) == Some(n)).await;
    told(3).await;
    let mut sub = subscribe(&*hall.queue, &email, 10).await;
    take(sub.as_mut(), 3).await;
    told(0).await;
    drop(sub);
    // What was not acked waits again.
    told(3).await;
    hall.queue.close().await;
}

async fn consumers_share_the_work(kind: Kind) {
    let (hall, email, all) = (Hall::on(kind).await, ChannelName::email(), ids(40));
    let mut one = subscribe(&*hall.queue, &email, 5).await;
    let mut two = subscribe(&*hall.queue, &email, 5).await;
    publish(&*hall.queue, &email, &all).await;
    let mut seen = Vec::new();
    while seen.len() < all.len() {
        let (sub, some) = tokio::select! {
            some = one.receive(5) => (&mut one, some),
            some = two.receive(5) => (&mut two, some),
            () = tokio::time::sleep(LONG) => panic!("{} of {} came", seen.len(), all.len()),
        };
        let some = some.unwrap();
        sub.ack_through(some.last().unwrap().tag).await.unwrap();
        seen.extend(of(&some));
    }
    assert_eq!(seen.iter().copied().collect::<HashSet<_>>(), all.into_iter().collect());
    assert_eq!(seen.len(), 40, "each once");
    hall.queue.close().await;
}

async fn a_receive_that_is_given_up_loses_nothing(kind: Kind) {
    let (hall, email, all) = (Hall::on(kind).await, ChannelName::email(), ids(50));
    let mut sub = subscribe(&*hall.queue, &email, 100).await;
    let mut seen = Vec::new();
    for id in &all {
        publish(&*hall.queue, &email, &[*id]).await;
        // Given up at every possible moment.
        if let Ok(some) = timeout(Duration::from_micros(300), sub.receive(3)).await {
            seen.extend(of(&some.unwrap()));
        }
    }
    seen.extend(of(&take(sub.as_mut(), all.len() - seen.len()).await));
    assert_eq!(seen, all);
    hall.queue.close().await;
}

async fn a_big_batch_arrives_whole(kind: Kind) {
    let (hall, email, all) = (Hall::on(kind).await, ChannelName::email(), ids(900));
    publish(&*hall.queue, &email, &all).await;
    let mut sub = subscribe(&*hall.queue, &email, 200).await;
    let mut seen = Vec::new();
    while seen.len() < all.len() {
        let some = timeout(LONG, sub.receive(200)).await.unwrap().unwrap();
        sub.ack_through(some.last().unwrap().tag).await.unwrap();
        seen.extend(of(&some));
    }
    assert_eq!(seen, all);
    hall.queue.close().await;
}

async fn nothing_goes_on_after_the_end(kind: Kind) {
    let (hall, email, all) = (Hall::on(kind).await, ChannelName::email(), ids(2));
    publish(&*hall.queue, &email, &all).await;
    let mut sub = subscribe(&*hall.queue, &email, 10).await;
    take(sub.as_mut(), 2).await;
    let waiting = tokio::spawn(async move { sub.receive(1).await.map(|e| of(&e)) });
    timeout(LONG, hall.queue.close()).await.expect("an end in time");
    assert!(matches!(waiting.await.unwrap(), Err(QueueError::Closed)));
    assert!(matches!(hall.queue.publish(&email, &all).await, Err(QueueError::Closed)));
    assert!(matches!(hall.queue.subscribe(&email, 1).await.map(drop), Err(QueueError::Closed)));
    assert!(matches!(hall.queue.health(), Err(QueueError::Closed)));
}
