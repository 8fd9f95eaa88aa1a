//! Several nodes on one broker.

use super::*;
use crate::connection::bus::NodeBus;
use campanile_model::{
    NotificationId, UserKey,
    effects::{FeedChange, FeedChangeKind, Marked},
    feed::{Counts, MarkAs},
    ports::Bus,
    signal::{PushTarget, Signal},
};
use std::sync::Arc;
use uuid::Uuid;

async fn the_others_hear_everything_in_order_and_the_speaker_only_once(place: Place) {
    let (a, b, c) = (place.node().await, place.node().await, place.node().await);
    let names: Vec<_> = (0..500).map(|n| n.to_string()).collect();
    for name in &names {
        a.publish(named(name));
    }
    b.ear.hears("499").await;
    c.ear.hears("499").await;
    assert_eq!((b.ear.names(), c.ear.names()), (names.clone(), names.clone()));
    // What comes back to the speaker is behind it when it hears of another.
    b.publish(named("answer"));
    a.ear.hears("answer").await;
    assert_eq!(a.ear.names(), [names, vec!["answer".to_owned()]].concat());
    assert_eq!((a.ear.missed(), b.ear.missed(), c.ear.missed()), (1, 1, 1), "nothing was lost");
}

async fn a_broadcast_arrives_whole(place: Place) {
    let (a, b) = (place.node().await, place.node().await);
    let users: Arc<[PushTarget]> = (0..10_000).map(target).collect();
    let frame = frame(&"x".repeat(1500));
    a.publish(Signal::Push { frame: frame.clone(), users: users.clone() });
    a.publish(named("end"));
    b.ear.hears("end").await;
    let mut got = Vec::new();
    for signal in b.ear.all() {
        if let Signal::Push { frame: f, users } = signal {
            assert_eq!(f.classic(), frame.classic());
            got.extend(users.iter().cloned());
        }
    }
    assert_eq!(format!("{got:?}"), format!("{:?}", &users[..]));
}

async fn only_users_who_are_there_are_told_of(place: Place) {
    let (a, b) = (place.node().await, place.node().await);
    let absent = |n| UserKey::new("default", format!("absent-{n}"));
    let users: Arc<[UserKey]> = [absent(1), UserKey::new("default", "ann"), absent(2)].into();
    a.publish(Signal::Ephemeral { frame: frame("typing"), users });
    let change = |user| FeedChange {
        user,
        kind: FeedChangeKind::Marked { what: Marked::Ids(vec![NotificationId(Uuid::nil())]), mark: MarkAs::Read },
        counts: Counts { version: 9, ..Counts::default() },
        unread_changed: true,
    };
    a.publish(Signal::Feed(Arc::new(change(absent(3)))));
    a.publish(Signal::Feed(Arc::new(change(UserKey::new("default", "ann")))));
    a.publish(named("end"));
    b.ear.hears("end").await;
    let heard: Vec<_> = b.ear.all().into_iter().filter(|s| !matches!(s, Signal::Missed)).collect();
    assert!(
        matches!(heard.as_slice(), [Signal::Ephemeral { users, .. }, Signal::Feed(_), Signal::KeysChanged(_)]
            if users.len() == 1),
        "{heard:#?}"
    );
}

async fn noise_on_the_wire_is_ignored(place: Place) {
    let (a, b) = (place.node().await, place.node().await);
    let newer = vec![9; 40];
    let broken = [&[1][..], &newer[1..]].concat();
    place.shout(&[b"", b"hello", &newer, &vec![1; 100_000], &broken]).await;
    // The broker keeps the order of one connection only; so the noise is waited for by its count.
    b.until("the noise has come", || b.dropped("foreign") == 3 && b.dropped("malformed") >= 2).await;
    a.publish(named("sense"));
    b.ear.hears("sense").await;
    assert_eq!(b.ear.names(), ["sense"]);
    assert!(b.health().is_ok());
}

async fn nothing_stays_behind_and_the_last_word_is_heard(place: Place) {
    let b = place.node().await;
    let alone = place.listeners().await;
    let a = place.node().await;
    assert_eq!(place.listeners().await, alone + 1);
    a.publish(named("bye"));
    a.close().await;
    b.ear.hears("bye").await;
    let gone = async {
        while place.listeners().await != alone {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(DEADLINE, gone).await.unwrap();
    a.publish(named("into the void"));
    assert_eq!(a.ear.names(), ["bye", "into the void"]);
}

exam![
    the_others_hear_everything_in_order_and_the_speaker_only_once,
    a_broadcast_arrives_whole,
    only_users_who_are_there_are_told_of,
    noise_on_the_wire_is_ignored,
    nothing_stays_behind_and_the_last_word_is_heard,
];
