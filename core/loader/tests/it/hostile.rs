//! What no plugin may do and some do, in both isolation levels: counted, cut, and of no further effect.

use super::{
    build,
    house::{BOTH, House, send, send_within, span, until},
};
use campanile_loader::{Event, Isolation, State};
use campanile_plugin::{DeliveryError, Health};
use serde_json::json;
use std::time::{Duration, Instant};

#[tokio::test]
async fn tokens_that_ended_or_never_were() {
    for isolation in BOTH {
        let house = House::new();
        let villain = house.villain(isolation).await;
        assert!(send(&villain, "twice").await.is_ok(), "the first word counts");
        until("all were counted", || villain.counts().unknown == 10).await;
        assert!(send(&villain, "threads").await.is_ok());
        until("63 more", || villain.counts().unknown == 73).await;
        let late = send_within(&villain, "late", 2000).await.unwrap_err();
        assert!(matches!(&late, DeliveryError::Retry { reason, .. } if reason.code == "timeout" && reason.uncertain));
        until("it came late", || villain.counts().late == 1).await;
        assert_eq!(villain.life().abandoned, 0);
        assert!(send(&villain, "ok").await.is_ok());
    }
}

#[tokio::test]
async fn words_that_do_not_fit() {
    for isolation in BOTH {
        let house = House::new();
        let villain = house.villain(isolation).await;
        let end = send(&villain, "wild").await.unwrap_err();
        let DeliveryError::Retry { after: Some(after), reason } = end else { panic!("{end:?}") };
        assert_eq!((after.as_secs(), &*reason.code), (24 * 3600, "wild_code_"));
        assert!(reason.uncertain, "nobody knows what it did");
        assert!(reason.message.len() < 16 * 1024 && !reason.message.chars().any(char::is_control));
        assert!(reason.message.starts_with("a\\r\\nb\\u{1b}[2J"), "{}", &reason.message[..40]);
        assert_eq!(reason.detail, None);
        until("NaN was dropped", || villain.counts().samples_dropped == 1).await;
    }
}

#[tokio::test]
async fn a_flood_of_lines_and_names_is_cut() {
    for isolation in BOTH {
        let house = House::new();
        let villain = house.villain(isolation).await;
        assert!(send(&villain, "flood").await.is_ok());
        until("somebody says how many", || house.host.said("lines: more than 200 in a second") > 0).await;
        let dropped = villain.counts().samples_dropped;
        until("all samples were seen", || villain.counts().samples_dropped + 50 >= 20_000).await;
        assert_eq!(house.loader.families().len(), 50, "{dropped}");
        assert!(villain.lines().len() <= 100);
        // 200 in each second that it took, and nothing like what it wrote.
        assert!(house.host.said("one of very many") < 50_000);
    }
}

/// Past the child's own count there is the host's ear.
#[tokio::test]
async fn a_storm_of_frames_slows_its_sender() {
    let house = House::new();
    let villain = house.villain(Isolation::Process).await;
    let began = Instant::now();
    assert!(send(&villain, "storm").await.is_ok());
    // 100,000 at 20,000 in a second; the first second may have begun before.
    assert!(began.elapsed() > Duration::from_secs(3), "it was heard at once: {:?}", began.elapsed());
    assert!(villain.life().restarts == 0 && send(&villain, "ok").await.is_ok());
}

#[tokio::test]
async fn what_never_comes_back_wedges() {
    for isolation in BOTH {
        let house = House::new();
        let villain = house.villain_with(build::plain(), isolation, |l| {
            l.concurrency = Some(4);
            l.timeout = Some(span(1500));
        });
        let villain = villain.await;
        for end in futures_util::future::join_all((0..4).map(|_| send(&villain, "never"))).await {
            let end = end.unwrap_err();
            assert!(matches!(&end, DeliveryError::Retry { reason, .. } if reason.code == "timeout"), "{end}");
        }
        assert!(house.host.events.lock().unwrap().contains(&Event::Wedged { abandoned: 4 }));
        match isolation {
            Isolation::InProcess => {
                assert_eq!(villain.life().state, State::Wedged);
                let end = send(&villain, "ok").await.unwrap_err();
                assert!(end.to_string().contains("4 calls never came back"), "{end}");
                assert!(matches!(villain.channel().health().await, Health::Failing(_)));
            }
            Isolation::Process => {
                until("a new one runs", || villain.life().state == State::Running && villain.life().restarts == 1)
                    .await;
                assert_eq!(villain.life().abandoned, 0);
                villain.channel().stop().await;
            }
        }
    }
}

#[tokio::test]
async fn a_schema_and_a_configuration_never_reach_a_process_by_its_arguments() {
    let house = House::new();
    let plugin = house.load(build::plain(), "villain", "1.0.0", Isolation::Process).await;
    let running = plugin.start("main", &json!({ "look": "look", "token": "hunter2" })).await.unwrap();
    until("it looked", || running.lines().len() == 2).await;
    for line in running.lines() {
        assert!(!line.message.contains("hunter2"), "{line:?}");
        for ours in ["HOME=", "CARGO", "USER=", "PATH="] {
            assert!(!line.message.contains(ours), "{line:?}");
        }
    }
    assert!(running.lines().iter().any(|l| l.source == "/proc/self/cmdline" && l.message.contains("villain")));
}
