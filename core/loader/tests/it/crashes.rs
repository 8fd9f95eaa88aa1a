//! The ends of processes: what a plugin in a child may do to itself, and to nobody else. In this process the same acts end
//! the host, which is what the documentation says and the last test here shows.

use super::{
    build,
    house::{House, send, send_within, span, until},
};
use campanile_loader::{Event, Isolation, Running, State};
use campanile_plugin::{Delivery, DeliveryError, Level};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::json;
use std::{
    env,
    io::{self, BufRead, BufReader, Write},
    process::{Command, Stdio},
    time::Duration,
};

async fn runs_again(villain: &Running, restarts: u64) {
    until("it runs again", || villain.life().restarts >= restarts && villain.life().state == State::Running).await;
    assert!(send(villain, "ok").await.is_ok());
}

#[tokio::test]
async fn a_crash_costs_its_deliveries_and_nothing_else() {
    for (order, said) in [
        ("segv", "died of signal 11 (segmentation fault)"),
        ("abort", "died of signal 6 (abort)"),
        ("exit", "ended by itself with status 0"),
        ("stack", "died of signal 11"),
        ("bomb", "died of signal 6 (abort)"),
        ("frames", "it is longer than 1 MiB"),
    ] {
        let house = House::new();
        let file = build::villain(&["-DFLAGS=CAMP_F_BLOCKING"]);
        let villain = house.villain_with(&file, Isolation::Process, |l| {
            l.memory_mib = 256;
            l.concurrency = Some(4);
        });
        let villain = villain.await;
        let drill = house.drill(build::drill_debug(), Isolation::Process, &json!({ "label": "x" })).await;
        let (beside, end) = tokio::join!(send(&villain, "until cancelled"), send(&villain, order));
        for end in [beside, end] {
            let Err(DeliveryError::Retry { reason, .. }) = end else { panic!("{order}: {end:?}") };
            assert_eq!((&*reason.code, reason.uncertain), ("unavailable", true), "{order}: {reason}");
        }
        until("it was told", || house.host.crashed(said)).await;
        assert!(send(&drill, "ok").await.is_ok(), "the other plugin");
        runs_again(&villain, 1).await;
        assert_eq!(drill.life().restarts, 0);
    }
}

#[tokio::test]
async fn an_exception_in_cpp_is_one_crash_more() {
    let house = House::new();
    let thrower = house.load(build::thrower(), "thrower", "1.0.0", Isolation::Process).await;
    let thrower = thrower.start("main", &json!({})).await.unwrap();
    let Err(DeliveryError::Retry { reason, .. }) = send(&thrower, "x").await else { panic!("it was survived") };
    assert_eq!((&*reason.code, reason.uncertain), ("unavailable", true), "{reason}");
    until("it was told", || house.host.crashed("died of signal 6 (abort)")).await;
    until("it runs again", || thrower.life().restarts == 1 && thrower.life().state == State::Running).await;
}

#[tokio::test]
async fn an_endless_loop_is_killed() {
    let house = House::new();
    let villain = house.villain_with(build::plain(), Isolation::Process, |l| {
        l.timeout = Some(span(200));
        l.concurrency = Some(4);
    });
    let villain = villain.await;
    // One lane: what comes after it never begins.
    let all = futures_util::future::join_all((0..4).map(|_| send(&villain, "spin"))).await;
    assert!(all.iter().all(|e| matches!(e, Err(DeliveryError::Retry { reason, .. }) if reason.code == "timeout")));
    until("it was told", || house.host.crashed("was killed: 4 calls never came back")).await;
    runs_again(&villain, 1).await;
}

#[tokio::test]
async fn five_crashes_end_it_for_good() {
    let house = House::new();
    let villain = house.villain(Isolation::Process).await;
    for n in 1..=5 {
        assert!(send(&villain, "abort").await.is_err());
        if n < 5 {
            runs_again(&villain, n).await;
        }
    }
    until("it is left alone", || villain.life().state == State::Quarantined).await;
    let end = send(&villain, "ok").await.unwrap_err();
    assert!(end.to_string().contains("it ended 5 times in 10 minutes"), "{end}");
    assert!(house.host.events.lock().unwrap().iter().any(|e| matches!(e, Event::Quarantined { .. })));
    assert_eq!(villain.life().restarts, 4);
    let lines = villain.lines();
    assert!(lines.iter().any(|l| l.source == "stderr" && l.message == "a last word" && l.level == Level::Warn));
    villain.channel().stop().await;
}

#[tokio::test]
async fn what_it_prints_is_heard_and_what_it_uses_is_known() {
    let house = House::new();
    let villain = house.villain(Isolation::Process).await;
    assert!(send(&villain, "print").await.is_ok());
    until("both came", || villain.lines().len() == 2).await;
    let mut lines: Vec<_> = villain.lines().into_iter().map(|l| (l.source, l.message)).collect();
    lines.sort();
    assert_eq!(lines[0], ("stderr".into(), "a line on standard error".into()));
    assert_eq!(lines[1], ("stdout".into(), "a line on standard output".into()));
    assert!(villain.life().memory_bytes.unwrap() > 100 * 1024);
    let pid = villain.pid().unwrap();
    villain.channel().stop().await;
    until("its process is gone", || !alive(pid)).await;
}

#[tokio::test]
async fn a_message_too_large_for_the_pipe_is_final() {
    let house = House::new();
    let villain = house.villain(Isolation::Process).await;
    let text = "x".repeat(1024 * 1024);
    let d = Delivery::new("d", "ok").with_content("", &text, "").with_timeout(Duration::from_mins(1));
    let end = villain.channel().deliver(d).await.unwrap_err();
    assert!(matches!(&end, DeliveryError::Permanent { reason } if reason.code == "too_large"), "{end}");
    assert!(send(&villain, "ok").await.is_ok());
}

#[tokio::test]
async fn half_a_delivery_waits_no_longer_than_it_may() {
    let house = House::new();
    let villain = house.villain(Isolation::Process).await;
    let (blocked, queued) = tokio::join!(send(&villain, "block"), send_within(&villain, "ok", 100));
    assert!(blocked.is_ok());
    assert!(matches!(&queued, Err(DeliveryError::Retry { reason, .. }) if reason.code == "timeout"));
    until("it was never begun, and said so", || villain.life().abandoned == 0).await;
}

fn alive(pid: u32) -> bool {
    Pid::from_raw(pid.cast_signed()).is_some_and(|pid| test_kill_process(pid).is_ok())
}

const PARENT: &str = "CAMPANILE_TEST_PARENT";

/// Does nothing unless the next test starts it as a process of its own.
#[tokio::test]
async fn a_parent_with_a_child() {
    let Some(order) = env::var_os(PARENT) else { return };
    let in_process = order != "wait";
    let house = House::new();
    let isolation = if in_process { Isolation::InProcess } else { Isolation::Process };
    let villain = house.villain(isolation).await;
    let mut out = io::stdout();
    writeln!(out, "child {}", villain.pid().unwrap_or_default()).unwrap();
    out.flush().unwrap();
    if in_process {
        let _ = send(&villain, order.to_str().unwrap()).await;
    } else {
        std::future::pending::<()>().await;
    }
}

fn parent(order: &str) -> Command {
    let mut parent = Command::new(env::current_exe().unwrap());
    parent.args(["--exact", "crashes::a_parent_with_a_child", "--nocapture"]).env(PARENT, order);
    parent.stdout(Stdio::piped()).stderr(Stdio::null());
    parent
}

#[tokio::test]
async fn a_child_ends_with_its_parent() {
    let mut parent = parent("wait").spawn().unwrap();
    let lines = BufReader::new(parent.stdout.take().unwrap()).lines();
    let pid = lines.map_while(Result::ok).find_map(|l| l.split("child ").nth(1)?.trim().parse::<u32>().ok()).unwrap();
    assert!(alive(pid));
    kill_process(Pid::from_child(&parent), Signal::KILL).unwrap();
    parent.wait().unwrap();
    until("the child is gone", || !alive(pid)).await;
}

/// In-process there is no containing these: so it is said everywhere, and here is why.
#[tokio::test]
async fn in_process_a_crash_is_the_hosts() {
    for order in ["segv", "abort", "exit", "stack"] {
        let out = parent(order).output().unwrap();
        let went_on = String::from_utf8_lossy(&out.stdout).contains("1 passed");
        assert!(!went_on, "{order}: a crash in-process was survived");
    }
}
