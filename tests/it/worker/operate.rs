//! What operators and senders do to deliveries under way: pause, schedule, expire, cancel, erase.

use super::{host, in_ms, mail};
use campanile_tests::{
    api::id_of,
    prelude::*,
    smtp::{Act, SmtpServer, Step},
};

async fn pause(host: &TestHost, channel: &str) {
    let reply = host.api().post(&format!("/api/v1/channels/{channel}/pause"), &json!({"reason": "test"})).await;
    assert!(matches!(reply.status, 200 | 204), "{}", reply.text);
}
async fn resume(host: &TestHost, channel: &str) {
    let reply = host.api().post(&format!("/api/v1/channels/{channel}/resume"), &json!({})).await;
    assert!(matches!(reply.status, 200 | 204), "{}", reply.text);
}

#[tokio::test]
async fn a_paused_channel_holds_and_then_lets_go() {
    let relay = SmtpServer::start().await;
    let host = host(&relay).start().await;
    pause(&host, "email").await;
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(host.api().accepted(&mail(&format!("m{n}"))).await);
    }
    // Another channel is not held up, and what it does shows that the worker had its turn.
    let later = json!({"user_id": "bo", "title": "T", "channels": ["websocket"], "send_at": in_ms(300)});
    let marker = host.api().accepted(&later).await;
    host.api().delivery_until(&marker, "websocket", "sent", |d| d["state"] == "sent").await;
    assert!(relay.received().is_empty(), "a paused channel sent");
    // What waits is counted once a second.
    until("five are held", || async {
        let queues = host.api().get("/api/v1/queues").await.expect(200);
        let email = queues["items"].as_array()?.iter().find(|q| q["channel"] == "email")?.clone();
        (email["held"] == 5).then_some(())
    })
    .await;
    resume(&host, "email").await;
    for id in &ids {
        host.api().state(id, "email", "sent").await;
    }
    assert_eq!(relay.received().len(), 5);
}

#[tokio::test]
async fn a_paused_websocket_channel_gives_items_their_seq_at_resume() {
    let host = TestHost::start().await;
    pause(&host, "websocket").await;
    let answer =
        host.api().send(&json!({"user_id": "ada", "title": "held", "channels": ["websocket"]})).await.expect(202);
    assert_eq!(answer["deliveries"][0]["state"], "pending");
    assert!(host.me("ada").feed().await.is_empty());
    let ephemeral = host.api().send(&json!({"user_id": "ada", "title": "typing", "persist": false})).await.expect(200);
    assert_eq!(ephemeral["status"], "dropped");
    let mut socket = Connect::to(&host).token(&token::user("ada")).v1().open().await;
    socket.expect("hello").await;
    resume(&host, "websocket").await;
    let frame = socket.wait_for("notification").await;
    assert_eq!((&frame["seq"], &frame["data"]["title"]), (&json!(1), &json!("held")));
    host.api().delivery_until(&id_of(&answer), "websocket", "sent", |d| d["state"] != "pending").await;
}

#[tokio::test]
async fn a_pause_survives_a_restart() {
    let relay = SmtpServer::start().await;
    let mut host = host(&relay).start().await;
    pause(&host, "email").await;
    let id = host.api().accepted(&mail("held")).await;
    host.restart().await;
    let later = json!({"user_id": "bo", "title": "T", "channels": ["websocket"], "send_at": in_ms(300)});
    let marker = host.api().accepted(&later).await;
    host.api().delivery_until(&marker, "websocket", "sent", |d| d["state"] == "sent").await;
    assert!(relay.received().is_empty());
    resume(&host, "email").await;
    host.api().state(&id, "email", "sent").await;
}

#[tokio::test]
async fn a_scheduled_mail_goes_when_it_is_due() {
    let relay = SmtpServer::start().await;
    let host = host(&relay).start().await;
    let mut body = mail("later");
    body["send_at"] = json!(in_ms(800));
    let answer = host.api().send(&body).await.expect(202);
    assert_eq!(answer["deliveries"][0]["state"], "scheduled");
    assert!(relay.received().is_empty());
    host.api().state(&id_of(&answer), "email", "sent").await;
    assert_eq!(relay.received().len(), 1);
}

#[tokio::test]
async fn what_expires_before_it_is_sent_is_never_sent() {
    let relay = SmtpServer::start().await;
    let host = host(&relay).start().await;
    pause(&host, "email").await;
    let mut body = mail("stale");
    body["expires_at"] = json!(in_ms(500));
    let id = host.api().accepted(&body).await;
    host.api().state(&id, "email", "expired").await;
    resume(&host, "email").await;
    let marker = host.api().accepted(&mail("fresh")).await;
    host.api().state(&marker, "email", "sent").await;
    assert_eq!(relay.received().len(), 1);
}

#[tokio::test]
async fn cancelling_while_it_is_sent_stops_the_retry() {
    let relay = SmtpServer::start().await;
    relay.script(Step::Rcpt, [Act::Late(Duration::from_millis(1200), "451 4.3.0 later".into())]);
    let host = host(&relay).start().await;
    let id = host.api().accepted(&mail("never mind")).await;
    relay.wait_for_command("RCPT", 1).await;
    let outcome = host.api().post(&format!("/api/v1/notifications/{id}/cancel"), &json!({})).await.expect(200);
    assert_eq!(outcome, json!({"cancelled": 0, "in_flight": 1, "already_sent": 0}));
    let delivery = host.api().state(&id, "email", "cancelled").await;
    assert_eq!(delivery["reason"], "cancelled");
    assert!(relay.received().is_empty());
}

#[tokio::test]
async fn erasing_a_person_reports_the_mail_in_flight_and_stops_the_rest() {
    let relay = SmtpServer::start().await;
    relay.script(Step::Rcpt, [Act::Late(Duration::from_millis(1200), "451 4.3.0 later".into())]);
    let host = host(&relay).start().await;
    host.api().put("/api/v1/users/ada", &json!({"email": "ada@example.org"})).await;
    host.api().accepted(&json!({"user_id": "ada", "title": "flying", "channels": ["email"]})).await;
    relay.wait_for_command("RCPT", 1).await;
    let waiting =
        json!({"user_id": "ada", "title": "waiting", "channels": ["email"], "send_at": "2099-01-01T00:00:00Z"});
    host.api().accepted(&waiting).await;
    let erased = host.api().delete("/api/v1/users/ada").await.expect(200);
    assert_eq!((&erased["in_flight"], &erased["cancelled"]), (&json!(1), &json!(1)), "{erased}");
    let db = host.db().await;
    until("both are cancelled", || async {
        let rows = db.deliveries().await;
        rows.iter().all(|d| d.state == "cancelled" && d.reason.as_deref() == Some("erased")).then_some(())
    })
    .await;
    assert!(relay.received().is_empty());
    assert_eq!(db.count("SELECT count(*) FROM deliveries WHERE recipient IS NOT NULL").await, 0);
}

#[tokio::test]
async fn without_an_address_it_is_suppressed_at_once() {
    let relay = SmtpServer::start().await;
    let host = host(&relay).start().await;
    let answer = host.api().send(&json!({"user_id": "cy", "title": "T", "channels": ["email"]})).await.expect(202);
    assert_eq!(
        (&answer["deliveries"][0]["state"], &answer["deliveries"][0]["reason"]),
        (&json!("suppressed"), &json!("no_address"))
    );
    // By default only channels with an address are used.
    let answer = host.api().send(&json!({"user_id": "cy", "title": "T"})).await.expect(202);
    assert_eq!(answer["deliveries"].as_array().unwrap().len(), 1, "{answer}");
}

#[tokio::test]
async fn a_crowd_by_mail_goes_out_once_each() {
    let relay = SmtpServer::start().await;
    let host = host(&relay).start().await;
    let to: Vec<_> =
        (0..130).map(|n| json!({"user_id": format!("p{n}"), "email": format!("p{n}@example.org")})).collect();
    host.api().accepted(&json!({"to": to, "title": "crowd", "channels": ["email"]})).await;
    let received = relay.wait_for(130).await;
    let ids: std::collections::BTreeSet<_> = received.iter().map(|m| m.message_id()).collect();
    assert_eq!((received.len(), ids.len()), (130, 130));
    assert!(received.iter().all(|m| m.to.len() == 1), "one recipient a mail");
}
