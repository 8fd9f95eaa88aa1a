//! Bad plugins and bad moments on the real binary: the host goes on, other channels deliver, nothing is lost or doubled.

use super::files_kit::{BOTH, House, c_file, children, compiled, list, note, outcomes, said, villain};
use campanile_tests::prelude::*;
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

/// A channel that behaves, and where it writes.
async fn good(house: &House) -> PathBuf {
    let out = house.host.folder().join("out.txt");
    house.create(&json!({"name": "desk", "plugin": "c_file", "config": {"path": out}})).await;
    out
}

async fn delivers(house: &House) {
    let id = house.send("c_file", "room-7").await;
    let delivery = house.host.api().state(&id, "c_file", "sent").await;
    assert_eq!(outcomes(&delivery), ["ok"], "{delivery}");
}

#[tokio::test]
async fn hostile_files_are_each_refused_with_their_reason_and_the_host_serves() {
    let mut house = House::new(|b| b);
    house.add(c_file(), &[]).await;
    let whole = fs::read(villain(&["-DNAME=\"cut\""])).unwrap();
    let built = |name: &str, lie: &str| fs::read(villain(&[&format!("-DNAME=\"{name}\""), lie])).unwrap();
    let marker = house.host.folder().join("marker");
    let abi9 =
        r#"-DMANIFEST="{\"campanile_abi\":9,\"name\":\"abi9\",\"version\":\"1.0.0\",\"target\":\"x86_64-linux-gnu\"}""#;
    let mark = format!("-DMARKER=\"{}\"", marker.display());
    let abi9 = fs::read(villain(&["-DNAME=\"abi9\"", abi9, &mark])).unwrap();
    let files = [
        ("garbage", b"no library at all".to_vec(), ""),
        ("empty", Vec::new(), ""),
        ("cut", whole[..whole.len() / 3].to_vec(), ""),
        ("abi9", abi9, "9"),
        ("nomanifest", built("nomanifest", "-DNO_MANIFEST"), ""),
        ("aborts", built("aborts", "-DABORTS"), "signal 6"),
        ("hangs", built("hangs", "-DHANGS"), "5 s"),
        ("missing", built("missing", "-DMISSING"), "camp_no_such_function"),
        ("notable", built("notable", "-DNULL_TABLE"), ""),
    ];
    for (name, bytes, _) in &files {
        list(&house, name, bytes);
    }
    house.host.launch().await;
    assert!(!marker.exists(), "code of a plugin for another interface has run");
    let mut reasons = BTreeSet::new();
    for (name, _, says) in &files {
        let known = house.known(name).await;
        let reason = known["refusal"]["reason"].as_str().unwrap_or_else(|| panic!("{name} is not refused: {known}"));
        assert!(reason.contains(says), "{name}: {reason}");
        reasons.insert(reason.to_owned());
        let refused = house.host.api().post("/api/v1/instances", &json!({"name": "x", "plugin": name})).await;
        assert_eq!(refused.problem(422), "invalid");
    }
    assert!(reasons.len() >= files.len() - 1, "each says its own: {reasons:#?}");
    good(&house).await;
    delivers(&house).await;
    assert_eq!(house.host.api().get("/readyz").await.status, 200);
    house.host.stop().await;
}

#[tokio::test]
async fn a_plugin_that_crashes_hangs_and_floods_costs_itself_alone() {
    let mut house = House::new(|b| b.set("retry.schedule", "[\"50ms\"]").set("retry.breaker_failures", "1000"));
    house.add(c_file(), &[]).await;
    house.add(&villain(&["-DFLAGS=CAMP_F_BLOCKING"]), &[]).await;
    house.host.launch().await;
    good(&house).await;
    let new = json!({"name": "bad", "plugin": "villain", "limits": {"timeout_ms": 5000}});
    house.create(&new).await;
    // What hangs or lies is answered for it; the process lives. (The wild one asks to be tried again in ten
    // years; how long a flood takes is the machine's business.)
    for (order, ends) in [("never", "dead"), ("twice", "sent"), ("wild", ""), ("flood", ""), ("threads", "sent")] {
        let id = house.send("villain", order).await;
        delivers(&house).await;
        let tried = |d: &Value| d["attempts"].as_array().is_some_and(|a| !a.is_empty());
        let good = |d: &Value| if ends.is_empty() { tried(d) } else { d["state"] == ends };
        let delivery = house.host.api().delivery_until(&id, "villain", &format!("{order}: {ends}"), good).await;
        let text = delivery.to_string();
        assert!(text.len() < 64 * 1024 && !text.contains('\u{1b}') && !text.contains("\\u001b["), "{order}: {text}");
    }
    assert!(house.host.output().len() < 2 << 20, "a flood of lines is cut");
    // What dies is started again; after five times it is left alone, and the page says so.
    for order in ["segv", "abort", "exit", "stack", "segv"] {
        let id = house.send("villain", order).await;
        for _ in 0..3 {
            delivers(&house).await;
        }
        let delivery = house.host.api().state(&id, "villain", "dead").await;
        assert!(delivery["attempts"].to_string().contains("unavailable"), "{delivery}");
        if house.instance("bad").await["state"] == "quarantined" {
            break;
        }
        until("it runs again or is left alone", || async {
            let state = house.instance("bad").await["state"].clone();
            (state == "running" || state == "quarantined").then_some(())
        })
        .await;
    }
    until("it is left alone", || async {
        let state = house.instance("bad").await["state"].clone();
        if state == "running" {
            house.send("villain", "segv").await;
        }
        (state == "quarantined").then_some(())
    })
    .await;
    let audit = house.host.api().get("/api/v1/audit?limit=100").await.text;
    for action in ["plugin.crashed", "plugin.quarantined"] {
        assert!(audit.contains(action), "{audit}");
    }
    assert!(house.host.is_running() && house.host.api().get("/readyz").await.status == 200);
    delivers(&house).await;
    // A reload is another chance.
    let again = house.reload("villain").await;
    assert!(again.status.success(), "{}", said(&again));
    until("it runs", || async { (house.instance("bad").await["state"] == "running").then_some(()) }).await;
    let id = house.send("villain", "ok").await;
    house.host.api().state(&id, "villain", "sent").await;
    house.host.stop().await;
}

fn gate(version: &str) -> PathBuf {
    compiled("tests/it/channels/gate.c", &[&format!("-DVERSION=\"{version}\"")])
}

/// So many messages to the gate.
async fn crowd(house: &House, n: usize) -> Vec<String> {
    let api = house.host.api();
    let mut ids = Vec::new();
    for _ in 0..n {
        ids.push(api.accepted(&note("gate", "x")).await);
    }
    ids
}

async fn held(house: &House, n: u64) {
    until(&format!("{n} are under way"), || async {
        let all = house.host.api().get("/api/v1/channels").await.expect(200);
        let gate = all["items"].as_array().unwrap().iter().find(|c| c["name"] == "gate").cloned();
        (gate?["busy"].as_u64() == Some(n)).then_some(())
    })
    .await;
}

fn ledger(path: &Path) -> Vec<(String, String)> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(|l| l.split_once(' ')).map(|(v, id)| (v.to_owned(), id.to_owned())).collect()
}

fn once_each(written: &[(String, String)], n: usize) {
    let ids: BTreeSet<_> = written.iter().map(|(_, id)| id).collect();
    assert_eq!((written.len(), ids.len()), (n, n), "none lost, none doubled");
}

#[tokio::test]
async fn a_new_version_with_500_under_way_loses_none_and_doubles_none() {
    const UNDER_WAY: usize = 500;
    const AFTER: usize = 100;
    for isolation in BOTH {
        let mut house = House::new(|b| b.set("worker.prefetch", "1000"));
        house.add(&gate("1.0.0"), &["--isolation", isolation]).await;
        house.host.launch().await;
        let (open, written) = (house.host.folder().join("open"), house.host.folder().join("ledger"));
        house.create(&json!({"name": "gate", "plugin": "gate", "config": {"gate": open, "ledger": written}})).await;
        let mut ids = crowd(&house, UNDER_WAY).await;
        held(&house, UNDER_WAY as u64).await;
        house.add(&gate("2.0.0"), &["--isolation", isolation]).await;
        let reloaded = house.reload("gate").await;
        assert!(said(&reloaded).contains("reloaded gate 2.0.0"), "{}", said(&reloaded));
        ids.extend(crowd(&house, AFTER).await);
        held(&house, (UNDER_WAY + AFTER) as u64).await;
        fs::write(&open, "").unwrap();
        let api = house.host.api();
        for id in &ids {
            let delivery = api.state(id, "gate", "sent").await;
            assert_eq!(outcomes(&delivery), ["ok"], "{delivery}");
        }
        let written = ledger(&written);
        once_each(&written, UNDER_WAY + AFTER);
        let old = written.iter().filter(|(version, _)| version == "1.0.0").count();
        assert_eq!(old, UNDER_WAY, "the old version finished what it had, the new one had the rest");
        house.host.stop().await;
    }
}

#[tokio::test]
async fn a_stop_with_500_under_way_ends_in_time_and_leaves_them_to_the_next_start() {
    const UNDER_WAY: usize = 500;
    for isolation in BOTH {
        let mut house = House::new(|b| {
            b.set("worker.prefetch", "1000")
                .set("server.drain_timeout", "\"2s\"")
                .set("server.drain_spread", "\"1s\"")
                .set("worker.lease", "\"2s\"")
                .set("worker.sweep", "\"500ms\"")
        });
        house.add(&gate("1.0.0"), &["--isolation", isolation]).await;
        house.host.launch().await;
        let (open, written) = (house.host.folder().join("open"), house.host.folder().join("ledger"));
        house.create(&json!({"name": "gate", "plugin": "gate", "config": {"gate": open, "ledger": written}})).await;
        let ids = crowd(&house, UNDER_WAY).await;
        held(&house, UNDER_WAY as u64).await;
        let workers = children(house.host.pid());
        assert_eq!(workers.len(), usize::from(isolation == "process"));
        house.host.term();
        let end = house.host.wait_exit(Duration::from_mins(1)).await;
        assert!(end.success(), "{end}: {}", house.host.output());
        for pid in workers {
            until("the plugin's process is gone", || async {
                (!Path::new(&format!("/proc/{pid}")).exists()).then_some(())
            })
            .await;
        }
        assert!(ledger(&written).is_empty(), "nothing was sent");
        fs::write(&open, "").unwrap();
        house.host.launch().await;
        let api = house.host.api();
        for id in &ids {
            api.state(id, "gate", "sent").await;
        }
        once_each(&ledger(&written), UNDER_WAY);
        house.host.stop().await;
    }
}
