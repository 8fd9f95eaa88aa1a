//! Each crash point in turn: abort there, restart, nothing lost, nothing doubled in the feed, doubt on record.

use super::Drill;
use campanile_tests::{
    prelude::*,
    smtp::{Act, Step},
};

const BOTH: [&str; 2] = ["websocket", "email"];

/// Posts `n` notifications one after the other, reviving the host whenever it died; false: it never died.
async fn post_through(drill: &mut Drill, n: usize, extra: &Value) -> bool {
    let mut died = false;
    for i in 0..n {
        let key = format!("k{i}");
        loop {
            let api = drill.host.api();
            if drill.record.post(&api, &key, "ada", &BOTH, extra).await.is_some() {
                break;
            }
            died |= revive_if_dead(drill).await;
        }
    }
    died
}

async fn revive_if_dead(drill: &mut Drill) -> bool {
    // A refused connection may come a moment before the process is reaped.
    for _ in 0..100 {
        if !drill.host.is_running() {
            drill.host.disarm();
            drill.revive().await;
            return true;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    false
}

/// Waits for the abort that is still to come, and revives.
async fn await_death(drill: &mut Drill) {
    let deadline = std::time::Instant::now() + DEADLINE;
    while drill.host.is_running() {
        assert!(std::time::Instant::now() < deadline, "the crash point was never reached");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drill.host.disarm();
    drill.revive().await;
}

/// The plain path: accept, relay, claim, effect, finish.
async fn plain(point: &str) {
    let mut drill = Drill::start(|b| b.failpoints(&format!("{point}=3"))).await;
    drill.people(&["ada"]).await;
    let device = drill.device("phone", "ada");
    if !post_through(&mut drill, 6, &Value::Null).await {
        await_death(&mut drill).await;
    }
    let history = drill.judge(vec![(device, "ada")]).await;
    assert_eq!(history.end.feed.len(), 6, "{point}");
    assert!(history.end.deliveries.iter().all(|d| d.state == "sent" || d.state == "delivered"), "{point}");
}

macro_rules! crash_points {
    ($($name:ident = $point:literal;)*) => {
        $(#[tokio::test] async fn $name() { plain($point).await; })*
    };
}
crash_points! {
    before_the_commit = "accept.before_commit";
    after_the_commit = "accept.after_commit";
    before_the_answer = "accept.before_answer";
    after_the_claim = "claim.after_commit";
    before_the_mail = "effect.before";
    after_the_mail = "effect.after";
    before_the_finish = "finish.before_commit";
    after_the_finish = "finish.after_commit";
}

#[tokio::test]
async fn a_mail_sent_before_the_crash_is_on_record_as_uncertain() {
    let mut drill = Drill::start(|b| b.failpoints("effect.after")).await;
    drill.people(&["ada"]).await;
    post_through(&mut drill, 1, &Value::Null).await;
    if drill.host.is_running() {
        // The abort comes once the relay has taken the mail.
        drill.relay.wait_for(1).await;
        await_death(&mut drill).await;
    }
    let received = drill.relay.wait_for(2).await;
    assert_eq!(received[0].message_id(), received[1].message_id());
    let history = drill.judge(Vec::new()).await;
    let lost = history.end.attempts.iter().find(|a| a.outcome == "lost").expect("a lost attempt");
    assert!(lost.uncertain);
}

#[tokio::test]
async fn around_the_relay() {
    // The fast path publishes most; a message that is due later goes by the relay.
    for point in ["queue.before_publish", "queue.after_publish"] {
        let mut drill = Drill::start(|b| b.failpoints(point)).await;
        drill.people(&["ada"]).await;
        let extra = json!({"send_at": in_ms(300)});
        if !post_through(&mut drill, 3, &extra).await {
            await_death(&mut drill).await;
        }
        let device = drill.device("phone", "ada");
        let history = drill.judge(vec![(device, "ada")]).await;
        assert_eq!(history.end.feed.len(), 3, "{point}");
    }
}

#[tokio::test]
async fn around_a_deferred_feed_item() {
    for point in ["in_app.before_commit", "in_app.after_commit"] {
        let mut drill = Drill::start(|b| b.failpoints(point)).await;
        drill.people(&["ada"]).await;
        let device = drill.device("phone", "ada");
        let extra = json!({"send_at": in_ms(300)});
        if !post_through(&mut drill, 4, &extra).await {
            await_death(&mut drill).await;
        }
        let history = drill.judge(vec![(device, "ada")]).await;
        assert_eq!(history.end.feed.len(), 4, "{point}");
    }
}

#[tokio::test]
async fn in_the_middle_of_a_crowd() {
    for point in ["expand.before_commit=2", "expand.after_commit=1"] {
        let mut drill = Drill::start(|b| b.failpoints(point)).await;
        let api = drill.host.api();
        let to: Vec<_> = (0..1200).map(|n| format!("p{n:04}")).collect();
        let body = json!({"to": to, "title": "crowd", "channels": ["websocket"]});
        let id = loop {
            let request = api.request("POST", "/api/v1/notifications").header("idempotency-key", "crowd").json(&body);
            match api.try_run(request).await {
                Ok(reply) if reply.status == 202 => break reply.json["notification_id"].as_str().unwrap().to_owned(),
                _ if !drill.host.is_running() => panic!("{point} was reached before the answer"),
                _ => {}
            }
        };
        await_death(&mut drill).await;
        let db = drill.host.db().await;
        until("the crowd is complete", || async {
            (db.count("SELECT count(*) FROM feed").await == 1200).then_some(())
        })
        .await;
        assert_eq!(db.count("SELECT count(*) FROM deliveries").await, 1200);
        assert_eq!(db.count("SELECT count(*) FROM user_state WHERE unread <> 1 OR head_seq <> 1").await, 0);
        assert_eq!(drill.host.api().notification(&id).await["audience"]["expanded"], 1200);
    }
}

#[tokio::test]
async fn after_a_read_mark() {
    let mut drill = Drill::start(|b| b.failpoints("mark.after_commit")).await;
    drill.people(&["ada"]).await;
    post_through(&mut drill, 2, &Value::Null).await;
    let me = drill.host.me("ada");
    let id = me.feed().await[0]["notification_id"].as_str().unwrap().to_owned();
    let path = format!("/api/v1/me/notifications/{id}/read");
    let answer = me.try_run(me.request("POST", &path).json(&json!({}))).await;
    assert!(answer.is_err(), "the crash point was not reached");
    await_death(&mut drill).await;
    assert_eq!(drill.host.me("ada").unread().await, 1, "the mark was committed");
    drill.host.me("ada").post(&path, &json!({})).await.expect(200);
    assert_eq!(drill.host.me("ada").unread().await, 1, "a repeat changes nothing");
    drill.judge(Vec::new()).await;
}

#[tokio::test]
async fn while_a_retry_is_written() {
    let mut drill = Drill::start(|b| b.failpoints("retry.before_commit")).await;
    drill.people(&["ada"]).await;
    drill.relay.script(Step::Rcpt, [Act::say("451 4.3.0 later")]);
    post_through(&mut drill, 1, &Value::Null).await;
    if drill.host.is_running() {
        await_death(&mut drill).await;
    }
    let history = drill.judge(Vec::new()).await;
    assert_eq!(history.mails.len(), 1);
}

#[tokio::test]
async fn while_a_lost_lease_is_rescued() {
    let mut drill = Drill::start(|b| b.failpoints("claim.after_commit")).await;
    drill.people(&["ada"]).await;
    post_through(&mut drill, 1, &Value::Null).await;
    // Dies with a lease; the next life dies rescuing it; the third does it.
    let deadline = std::time::Instant::now() + DEADLINE;
    while drill.host.is_running() && std::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let history = drill.record.take();
    assert_eq!(history.posts.iter().filter(|p| p.id.is_some()).count(), 1);
    if drill.host.is_running() {
        // The abort came while posting and the host was revived already: nothing is left to rescue twice.
        drill.judge(Vec::new()).await;
        return;
    }
    drill.host.wait_exit(DEADLINE).await;
    drill.host.disarm();
    drill.host.reconfigure(|b| b.failpoints("rescue.before_commit"));
    drill.host.spawn();
    drill.host.wait_exit(DEADLINE).await;
    drill.host.disarm();
    drill.host.launch().await;
    drill.up();
    let history = drill.judge(Vec::new()).await;
    assert_eq!(history.mails.len(), 1);
}

#[tokio::test]
async fn a_delivery_that_kills_its_worker_each_time_ends_as_poison_and_others_flow() {
    let mut drill = Drill::start(|b| b.failpoints("effect.before")).await;
    drill.people(&["ada"]).await;
    drill.record.post(&drill.host.api(), "killer", "ada", &["email"], &Value::Null).await;
    // Three losses, one more alone: the fifth life finds it dead. A life may end before it listens.
    for _ in 0..3 {
        drill.host.wait_exit(DEADLINE).await;
        drill.host.spawn();
    }
    drill.host.wait_exit(DEADLINE).await;
    drill.host.launch().await;
    let db = drill.host.db().await;
    let dead =
        until("it is given up on", || async { db.deliveries().await.into_iter().find(|d| d.state == "dead") }).await;
    assert_eq!(dead.reason.as_deref(), Some("poison"));
    assert!(drill.relay.received().is_empty());
    drill.host.disarm();
    drill.revive().await;
    drill.record.post(&drill.host.api(), "other", "ada", &["email"], &Value::Null).await.expect("accepted");
    drill.judge(Vec::new()).await;
}

fn in_ms(ms: i64) -> String {
    #[expect(clippy::disallowed_methods, reason = "the wire carries wall-clock times")]
    let at = chrono::Utc::now() + chrono::TimeDelta::milliseconds(ms);
    at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}
