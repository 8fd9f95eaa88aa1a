//! Attempts: how many, how far apart, and what each reply leads to.

use super::{host, mail};
use campanile_tests::{
    checker,
    history::{Final, Terms},
    load::Recorder,
    prelude::*,
    smtp::{Act, SmtpServer, Step},
};

#[tokio::test]
async fn refused_twice_then_taken_makes_three_attempts_with_growing_gaps() {
    let relay = SmtpServer::start().await;
    relay.script(Step::Rcpt, [Act::say("451 4.3.0 later"), Act::say("451 4.3.0 later")]);
    let host = host(&relay).start().await;
    let record = Recorder::default();
    let id = host.api().accepted(&mail("patience")).await;
    let delivery = host.api().state(&id, "email", "sent").await;
    let attempts = delivery["attempts"].as_array().unwrap();
    let outcomes: Vec<_> = attempts.iter().map(|a| a["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["retry", "retry", "ok"]);
    assert_eq!(attempts[0]["code"].as_str().unwrap_or_default().replace('.', "").chars().next(), Some('4'));
    assert_eq!(relay.wait_for(1).await.len(), 1);
    let db = host.db().await;
    let rows = db.attempts().await;
    let gaps: Vec<_> = rows.windows(2).map(|w| w[1].started_at - w[0].started_at - w[0].duration_ms).collect();
    assert!(gaps[0] >= 239 && gaps[1] >= 719, "{gaps:?}");
    assert!(gaps[1] > gaps[0], "{gaps:?}");
    record.mailed(relay.received().iter().map(|m| m.message_id()));
    let mut history = record.take();
    history.terms = Terms { schedule_ms: vec![300, 900], ..Terms::default() };
    history.end = Final::read(&db).await;
    assert_eq!(checker::check(&history), []);
}

#[tokio::test]
async fn a_permanent_refusal_is_dead_at_once_and_the_address_is_not_mailed_again() {
    let relay = SmtpServer::start().await;
    relay.script(Step::Rcpt, [Act::say("550 5.1.1 no such user")]);
    let host = host(&relay).start().await;
    let id = host.api().accepted(&mail("gone")).await;
    let delivery = host.api().state(&id, "email", "dead").await;
    assert_eq!(delivery["attempts"].as_array().unwrap().len(), 1);
    assert!(delivery["reason"].is_string(), "{delivery}");
    let again = host.api().accepted(&mail("again")).await;
    host.api().state(&again, "email", "suppressed").await;
    assert!(relay.received().is_empty());
}

#[tokio::test]
async fn after_the_last_attempt_it_is_dead_and_a_replay_uses_the_same_delivery() {
    let relay = SmtpServer::start().await;
    relay.script(Step::Rcpt, std::iter::repeat_n(Act::say("451 4.3.0 later"), 3));
    let host = host(&relay).start().await;
    let id = host.api().accepted(&mail("stubborn")).await;
    let dead = host.api().state(&id, "email", "dead").await;
    assert_eq!(dead["reason"], "max_attempts");
    let delivery = dead["delivery_id"].as_str().unwrap();
    let list = host.api().get("/api/v1/dead_letters").await.expect(200);
    assert!(list.to_string().contains(delivery), "{list}");

    let path = format!("/api/v1/dead_letters/{delivery}/retry");
    let first = host.api().post(&path, &json!({})).await;
    assert!(matches!(first.status, 200 | 202), "{}", first.text);
    let sent = host.api().state(&id, "email", "sent").await;
    assert_eq!(sent["delivery_id"], delivery);
    let numbers: Vec<_> = sent["attempts"].as_array().unwrap().iter().map(|a| a["attempt"].as_i64().unwrap()).collect();
    assert_eq!(numbers, [1, 2, 3, 4], "attempt only grows");
    let second = host.api().post(&path, &json!({})).await;
    assert_eq!(second.problem(409), "not_replayable");
    assert_eq!(host.db().await.replays().await.len(), 1, "one audit entry");
    assert!(relay.wait_for(1).await[0].message_id().contains(delivery));
}

#[tokio::test]
async fn two_replays_at_once_make_one_attempt() {
    let relay = SmtpServer::start().await;
    relay.script(Step::Rcpt, std::iter::repeat_n(Act::say("451 4.3.0 later"), 3));
    let host = host(&relay).start().await;
    let id = host.api().accepted(&mail("twice")).await;
    let dead = host.api().state(&id, "email", "dead").await;
    let path = format!("/api/v1/dead_letters/{}/retry", dead["delivery_id"].as_str().unwrap());
    let nothing = json!({});
    let (api, other) = (host.api(), host.api());
    let (a, b) = tokio::join!(api.post(&path, &nothing), other.post(&path, &nothing));
    let mut statuses = [a.status, b.status];
    statuses.sort_unstable();
    assert_eq!(statuses[1], 409, "{statuses:?}");
    host.api().state(&id, "email", "sent").await;
    assert_eq!(relay.received().len(), 1);
}

#[tokio::test]
async fn a_relay_that_refuses_our_password_spends_no_attempt() {
    let relay = SmtpServer::start().await;
    relay.script(Step::Mail, [Act::say("530 5.7.0 authenticate first")]);
    let host = host(&relay).text("retry.breaker_open", "500ms").start().await;
    let id = host.api().accepted(&mail("locked out")).await;
    let delivery = host.api().state(&id, "email", "sent").await;
    assert_eq!(delivery["attempts"][0]["outcome"], "misconfigured", "{delivery}");
    let row = host.db().await.deliveries().await.remove(0);
    assert!(row.spent <= 1, "{row:?}");
}

#[tokio::test]
async fn a_worker_frozen_past_its_lease_changes_nothing_when_it_wakes() {
    let relay = SmtpServer::start().await;
    relay.script(Step::Dot, [Act::Late(Duration::from_millis(1500), "250 2.0.0 at last".into())]);
    let host = host(&relay).text("worker.lease", "1s").start().await;
    let id = host.api().accepted(&mail("frozen")).await;
    relay.wait_for_command("DATA", 1).await;
    host.freeze();
    tokio::time::sleep(Duration::from_millis(2500)).await;
    host.thaw();
    host.api().state(&id, "email", "sent").await;
    let record = Recorder::default();
    record.mailed(relay.received().iter().map(|m| m.message_id()));
    let mut history = record.take();
    history.terms = Terms { schedule_ms: vec![300, 900], ..Terms::default() };
    history.end = Final::read(&host.db().await).await;
    assert_eq!(checker::check(&history), []);
}

#[tokio::test]
async fn slow_mail_holds_up_no_feed() {
    let relay = SmtpServer::start().await;
    relay.script(Step::Greeting, std::iter::repeat_n(Act::Hang, 20));
    let host = host(&relay).start().await;
    for n in 0..10 {
        host.api().accepted(&mail(&format!("m{n}"))).await;
    }
    let mut socket = Connect::to(&host).token(&token::user("bo")).open().await;
    host.api().notify("bo", "quick").await;
    socket.wait_for("notification").await;
}
