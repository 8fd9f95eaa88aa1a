//! New versions beside old ones: the lock alone decides, nothing is lost, and a bad one changes nothing.

use super::{
    build,
    house::{BOTH, House, send, until},
};
use campanile_loader::{Isolation, Running, State, Step};
use serde_json::json;
use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, LazyLock, RwLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

fn second() -> &'static Path {
    static FILE: LazyLock<PathBuf> = LazyLock::new(|| build::villain(&["-DVERSION=\"2.0.0\"", "-O3"]));
    &FILE
}

async fn version(of: &Running) -> String {
    send(of, "ok").await.unwrap().provider_id.unwrap()
}

#[tokio::test]
async fn a_file_that_changes_changes_nothing() {
    for isolation in BOTH {
        let house = House::new();
        let plugin = house.load(build::plain(), "villain", "1.0.0", isolation).await;
        let old = plugin.start("main", &json!({})).await.unwrap();
        // In place, as no installer should.
        fs::write(house.folder.join("villain.so"), "no library at all").unwrap();
        assert_eq!(version(&old).await, "1.0.0");
        assert_eq!(house.loader.load("villain").await.err().unwrap().step, Step::Hash);
        fs::copy(second(), house.folder.join("new")).unwrap();
        fs::rename(house.folder.join("new"), house.folder.join("villain.so")).unwrap();
        assert_eq!(house.loader.load("villain").await.err().unwrap().step, Step::Hash);
        assert_eq!(version(&plugin.start("again", &json!({})).await.unwrap()).await, "1.0.0", "from the private copy");
        // Listed, it is the new code that runs.
        let plugin = house.load(second(), "villain", "2.0.0", isolation).await;
        let new = plugin.start("main", &json!({})).await.unwrap();
        assert_eq!((version(&new).await.as_str(), version(&old).await.as_str()), ("2.0.0", "1.0.0"));
    }
}

#[tokio::test]
async fn a_swap_under_load_loses_nothing_and_doubles_nothing() {
    for isolation in BOTH {
        let house = House::new();
        let one = house.load(build::plain(), "villain", "1.0.0", isolation).await;
        let two = house.load(second(), "villain", "2.0.0", isolation).await;
        let now = Arc::new(RwLock::new(Arc::new(one.start("main", &json!({})).await.unwrap())));
        let (over, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let callers: Vec<_> = (0..8)
            .map(|_| {
                let (now, over, sent) = (now.clone(), over.clone(), sent.clone());
                tokio::spawn(async move {
                    let mut ends = [0, 0];
                    while !over.load(Ordering::SeqCst) {
                        let channel = now.read().unwrap().clone();
                        match send(&channel, "ok").await {
                            Ok(receipt) => ends[usize::from(receipt.provider_id.unwrap() == "2.0.0")] += 1,
                            // Between reading and handing over the swap may come: it is tried again, as the worker does.
                            Err(e) => assert!(e.to_string().starts_with("unavailable"), "{e}"),
                        }
                        sent.fetch_add(1, Ordering::SeqCst);
                    }
                    ends
                })
            })
            .collect();
        until("the old one works", || sent.load(Ordering::SeqCst) > 200).await;
        let new = Arc::new(two.start("main", &json!({})).await.unwrap());
        let old = std::mem::replace(&mut *now.write().unwrap(), new);
        old.channel().stop().await;
        let at = sent.load(Ordering::SeqCst);
        until("the new one works", || sent.load(Ordering::SeqCst) > at + 200).await;
        over.store(true, Ordering::SeqCst);
        let mut ends = [0, 0];
        for caller in callers {
            let [a, b] = caller.await.unwrap();
            ends = [ends[0] + a, ends[1] + b];
        }
        assert!(ends[0] > 0 && ends[1] > 0, "{ends:?}");
        assert_eq!((old.counts().unknown, old.counts().late, old.life().state), (0, 0, State::Stopped));
    }
}

#[tokio::test]
async fn a_bad_new_version_leaves_the_old() {
    let house = House::new();
    let old = house.villain(Isolation::Process).await;
    for bad in
        [build::villain(&["-DABORTS", "-DVERSION=\"2.0.0\""]), build::villain(&["-DNULL_TABLE", "-DVERSION=\"2.0.0\""])]
    {
        house.list(&bad, "villain", "2.0.0", |_| {});
        assert!(house.loader.load("villain").await.is_err());
        assert_eq!(version(&old).await, "1.0.0");
    }
    let new = house.load(second(), "villain", "2.0.0", Isolation::Process).await;
    assert!(new.start("main", &json!({ "how": "failing" })).await.is_err());
    assert_eq!(version(&old).await, "1.0.0");
}

#[tokio::test]
async fn a_stop_waits_for_what_is_under_way() {
    for isolation in BOTH {
        let house = House::new();
        let file = build::villain(&["-DFLAGS=CAMP_F_BLOCKING"]);
        let villain = Arc::new(house.villain_with(&file, isolation, |_| {}).await);
        let naps: Vec<_> = (0..64)
            .map(|_| {
                let villain = villain.clone();
                tokio::spawn(async move { send(&villain, "nap").await })
            })
            .collect();
        // All of them hold a permit.
        let probe = villain.clone();
        until("all are under way", move || probe.under_way() == 64).await;
        villain.channel().stop().await;
        for nap in naps {
            assert!(nap.await.unwrap().is_ok());
        }
        assert_eq!(villain.life().state, State::Stopped);
    }
}

#[tokio::test]
async fn reloads_leave_no_threads() {
    let house = House::new();
    let file = build::villain(&["-DNAME=\"restless\""]);
    let plugin = house.load(&file, "restless", "1.0.0", Isolation::InProcess).await;
    let threads = || {
        let names = fs::read_dir("/proc/self/task")
            .unwrap()
            .flatten()
            .filter_map(|t| fs::read_to_string(t.path().join("comm")).ok());
        names.filter(|name| name.starts_with("restless.")).count()
    };
    for _ in 0..20 {
        let running = plugin.start("main", &json!({})).await.unwrap();
        assert!(send(&running, "ok").await.is_ok());
        // A thread names itself when it first runs.
        until("all three run", || threads() == 3).await;
        running.channel().stop().await;
        until("they are gone", || threads() == 0).await;
    }
}
