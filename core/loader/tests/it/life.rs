//! What every plugin may expect, in both isolation levels.

use super::{
    build,
    house::{BOTH, House, send, send_within, span, until},
};
use campanile_loader::{Isolation, State};
use campanile_plugin::{Delivery, DeliveryError, Health, Permission};
use serde_json::json;
use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

#[tokio::test]
async fn every_build_delivers() {
    for isolation in BOTH {
        let house = House::new();
        for file in [build::drill_debug(), build::drill_tokio()] {
            let drill = house.drill(file, isolation, &json!({ "label": "one" })).await;
            assert_eq!(send(&drill, "ok").await.unwrap().provider_id.as_deref(), Some("one"), "{}", file.display());
            drill.channel().stop().await;
        }
        let path = house.folder.join("out.txt");
        let c = house.load(build::c_file(), "c_file", "1.0.0", isolation).await;
        let c = c.start("main", &json!({ "path": path })).await.unwrap();
        let batch = (0..20).map(|_| Delivery::new("d", "ada").with_content("", "Grüße", "")).collect();
        assert!(c.channel().deliver_batch(batch).await.iter().all(Result::is_ok));
        assert_eq!(fs::read_to_string(&path).unwrap().lines().filter(|l| *l == "ada: Grüße").count(), 20);
        c.channel().stop().await;
        let liar = house.load(build::liar(), "liar", "0.1.0", isolation).await.start("main", &json!({})).await.unwrap();
        assert!(send(&liar, "x").await.is_err(), "a status of the far future is an error");
        until("a second end and two made-up tokens were counted", || liar.counts().unknown == 3).await;
    }
}

#[tokio::test]
async fn outcomes_keep_their_words() {
    for isolation in BOTH {
        let house = House::new();
        let drill = house.drill(build::drill_debug(), isolation, &json!({ "label": "x", "token": "hunter2" })).await;
        let e = send(&drill, "retry").await.unwrap_err();
        assert!(matches!(&e, DeliveryError::Retry { after: Some(t), reason } if t.as_secs() == 5 && reason.uncertain));
        assert!(matches!(send(&drill, "throttled").await, Err(DeliveryError::Throttled { .. })));
        let e = send(&drill, "permanent").await.unwrap_err();
        assert!(matches!(&e, DeliveryError::Permanent { reason } if reason.detail == Some(json!({ "a": 1 }))));
        assert!(matches!(send(&drill, "gone").await, Err(DeliveryError::RecipientGone { .. })));
        assert!(matches!(send(&drill, "misconfigured").await, Err(DeliveryError::Misconfigured { .. })));
        assert_eq!(drill.channel().health().await, Health::Degraded("x".into()));
        assert_eq!(drill.life().state, State::Degraded);
        // Services.
        assert!(send(&drill, "http https://example.org/in").await.is_ok());
        let (_, request) = house.host.requests.lock().unwrap().pop().unwrap();
        assert_eq!(
            (request.url.as_str(), request.headers["authorization"].as_str()),
            ("https://example.org/in", "Bearer hunter2")
        );
        assert_eq!((request.method.as_str(), request.body.as_slice()), ("POST", &b"word"[..]));
        assert!(send(&drill, "sleep 5").await.is_ok());
        send(&drill, "log").await.unwrap();
        until("its line came", || house.host.said("said word") == 1).await;
        let line = house.host.lines.lock().unwrap().iter().find(|(_, l)| l.message == "said word").unwrap().1.clone();
        assert_eq!(line.delivery_id.as_deref(), Some("d-1"));
        send(&drill, "metric").await.unwrap();
        until("its sample came", || !house.loader.families().is_empty()).await;
        assert_eq!(house.loader.families()[0].name, "campanile_plugin_drill_sent");
        assert_eq!(house.host.said("hunter2"), 0, "a secret is in no line");
    }
}

#[tokio::test]
async fn panics_stay_in_and_say_where() {
    for isolation in BOTH {
        let house = House::new();
        let plugin = house.load(build::drill_debug(), "drill", "0.3.1", isolation).await;
        let drill = plugin.start("main", &json!({ "label": "x" })).await.unwrap();
        for order in ["panic", "bomb", "thread"] {
            let end = send(&drill, order).await;
            assert_eq!(end.is_ok(), order == "thread", "{order}: {end:?}");
            assert!(send(&drill, "ok").await.is_ok(), "after {order}");
        }
        assert_eq!(drill.counts().panics, 2);
        until("the lines came", || house.host.said("told to in a thread") == 1).await;
        assert_eq!(house.host.said("told to in deliver"), 1);
        for (place, said) in [("start", "told to in start"), ("health", "told to in health")] {
            let refused = plugin.start("second", &json!({ "label": "x", "panic_in": [place] })).await.err().unwrap();
            assert!(refused.to_string().contains(said), "{refused}");
        }
        let refused = plugin.start("second", &json!({ "label": "x", "refuse": "no route" })).await.err().unwrap();
        assert_eq!(refused.to_string(), "no route");
        let stops = plugin.start("third", &json!({ "label": "x", "panic_in": ["stop", "drop"] })).await.unwrap();
        stops.channel().stop().await;
        assert_eq!(stops.life().state, State::Stopped);
        assert!(send(&drill, "ok").await.is_ok(), "the other instance is untouched");
        drill.channel().stop().await;
        let after = send(&drill, "ok").await.unwrap_err();
        assert!(matches!(&after, DeliveryError::Retry { reason, .. } if reason.code == "unavailable"), "{after}");
    }
}

#[tokio::test]
async fn two_instances_never_cross() {
    for isolation in BOTH {
        let house = House::new();
        let plugin = house.load(build::drill_debug(), "drill", "0.3.1", isolation).await;
        let one = plugin.start("one", &json!({ "label": "one", "token": "1" })).await.unwrap();
        let two = plugin.start("two", &json!({ "label": "two", "token": "2" })).await.unwrap();
        for _ in 0..20 {
            let (a, b) = tokio::join!(send(&one, "ok"), send(&two, "ok"));
            assert_eq!(
                (a.unwrap().provider_id.as_deref(), b.unwrap().provider_id.as_deref()),
                (Some("one"), Some("two"))
            );
            let (a, b) = tokio::join!(send(&one, "http https://a"), send(&two, "log"));
            assert!(a.is_ok() && b.is_ok());
        }
        until("all lines came", || house.host.said("said word") == 20).await;
        assert!(
            house.host.lines.lock().unwrap().iter().all(|(who, l)| l.message != "said word" || &*who.instance == "two")
        );
        let requests = house.host.requests.lock().unwrap();
        assert!(requests.iter().all(|(who, r)| &*who.instance == "one" && r.headers["authorization"] == "Bearer 1"));
        assert_eq!((one.lines().len(), two.lines().len(), one.counts().unknown), (0, 20, 0));
    }
}

#[tokio::test]
async fn starts_that_fail_say_why() {
    for isolation in BOTH {
        let house = House::new();
        house.list(build::plain(), "villain", "1.0.0", |e| {
            e.isolation = isolation;
            e.limits.start_timeout = span(500);
        });
        let plugin = house.loader.load("villain").await.unwrap();
        for (how, said) in [
            ("refuse", "told to refuse"),
            ("return", "start() returned -7"),
            ("never", "did not start within"),
            ("failing", "it started, but is not healthy: told to fail"),
        ] {
            let refused = plugin.start("main", &json!({ "how": how })).await.err().unwrap();
            assert!(refused.to_string().contains(said), "{how}: {refused}");
        }
        if isolation == Isolation::Process {
            let refused = plugin.start("main", &json!({ "how": "die" })).await.err().unwrap();
            assert!(refused.to_string().contains("died of signal 6"), "{refused}");
        }
        assert!(send(&plugin.start("main", &json!({})).await.unwrap(), "ok").await.is_ok());
    }
}

/// Lets go on until told otherwise, and knows that it was asked.
#[derive(Default)]
struct Lease {
    asked: AtomicBool,
    over: AtomicBool,
}

impl Permission for Lease {
    fn may_proceed(&self) -> bool {
        self.asked.store(true, Ordering::SeqCst);
        !self.over.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn a_plugin_that_blocks_has_lanes_and_sees_the_end_of_its_lease() {
    for isolation in BOTH {
        let house = House::new();
        let file = build::villain(&["-DFLAGS=CAMP_F_BLOCKING"]);
        let villain = house.villain_with(&file, isolation, |l| l.concurrency = Some(8)).await;
        let leases: [Lease; 8] = Default::default();
        let all = leases.iter().map(|lease| {
            let d = Delivery::new("d", "until cancelled").with_timeout(Duration::from_mins(2)).with_permission(lease);
            villain.channel().deliver(d)
        });
        let ends = futures_util::future::join_all(all);
        let watch = async {
            // All eight are in the plugin at once.
            until("all asked", || leases.iter().all(|l| l.asked.load(Ordering::SeqCst))).await;
            for lease in &leases {
                lease.over.store(true, Ordering::SeqCst);
            }
        };
        let (ends, ()) = tokio::join!(ends, watch);
        assert!(
            ends.iter().all(|e| matches!(e, Err(DeliveryError::Retry { reason, .. }) if reason.code == "cancelled"))
        );
        assert_eq!((villain.life().abandoned, villain.counts().unknown), (0, 0));
    }
}

#[tokio::test]
async fn who_blocks_blocks_itself_alone() {
    for isolation in BOTH {
        let house = House::new();
        let villain = house.villain(isolation).await;
        let drill = house.drill(build::drill_debug(), isolation, &json!({ "label": "x" })).await;
        let lease = Lease::default();
        let d = Delivery::new("d", "until cancelled").with_timeout(Duration::from_mins(2)).with_permission(&lease);
        let blocked = villain.channel().deliver(d);
        let others = async {
            until("it blocks", || lease.asked.load(Ordering::SeqCst)).await;
            for _ in 0..50 {
                assert!(send(&drill, "ok").await.is_ok());
            }
            lease.over.store(true, Ordering::SeqCst);
        };
        let (blocked, ()) = tokio::join!(blocked, others);
        assert!(blocked.is_err(), "it ended after all others");
    }
}

#[tokio::test]
async fn a_delivery_whose_caller_left_is_taken_back() {
    for isolation in BOTH {
        let house = House::new();
        let drill = house.drill(build::drill_debug(), isolation, &json!({ "label": "x" })).await;
        let left = tokio::time::timeout(Duration::from_secs(3), send(&drill, "hang")).await;
        assert!(left.is_err());
        until("it was dropped", || house.host.said("dropped") == 1).await;
        until("its permit is back", || drill.life().abandoned == 0).await;
        let late = send_within(&drill, "hang", 50).await.unwrap_err();
        // It asks before its point of no return, and had not asked.
        assert!(matches!(&late, DeliveryError::Retry { reason, .. } if reason.code == "timeout" && !reason.uncertain));
        let late = send_within(&drill, "ask", 3000).await.unwrap_err();
        assert!(matches!(&late, DeliveryError::Retry { reason, .. } if reason.code == "timeout" && reason.uncertain));
    }
}
