//! Large audiences: accepted at once, expanded after, each person exactly once.

use campanile_tests::{api::id_of, prelude::*, unique};

#[tokio::test]
async fn more_than_a_hundred_people_are_expanded_after_the_answer() {
    let host = TestHost::shared().await;
    let prefix = unique("crowd");
    let people: Vec<String> = (0..1203).map(|n| format!("{prefix}-{n}")).collect();
    let mut to = people.clone();
    to.push(people[5].clone());
    let mut first = Connect::to(host).token(&token::user(&people[0])).open().await;
    first.settle().await;
    let answer = host.api().send(&json!({"to": to, "title": "All hands", "channels": ["websocket"]})).await.expect(202);
    assert_eq!(answer["audience"], json!({"recipients": 1203}));
    assert!(answer.get("deliveries").is_none(), "{answer}");
    let id = id_of(&answer);
    until("the audience is expanded", || async {
        let detail = host.api().notification(&id).await;
        (detail["audience"]["expanded"] == 1203).then_some(())
    })
    .await;
    assert_eq!(first.wait_for("notification").await["data"]["notification_id"], id.as_str());
    for person in [&people[0], &people[5], &people[500], &people[1202]] {
        assert_eq!(host.me(person).feed().await.len(), 1, "{person}");
    }
    let detail = host.api().notification(&id).await;
    assert_eq!(detail["deliveries"].as_array().unwrap().len(), 100, "the first hundred");
    let mut seen = 100;
    let mut cursor = detail["next_cursor"].clone();
    while let Some(next) = cursor.as_str() {
        let page = host.api().get(&format!("/api/v1/notifications/{id}?cursor={next}")).await.expect(200);
        seen += page["deliveries"].as_array().unwrap().len();
        cursor = page["next_cursor"].clone();
    }
    assert_eq!(seen, 1203);
}

#[tokio::test]
async fn every_bad_recipient_is_named_and_nothing_is_stored() {
    let host = TestHost::shared().await;
    let prefix = unique("crowd");
    let mut to: Vec<_> = (0..150).map(|n| json!(format!("{prefix}-{n}"))).collect();
    to[7] = json!("");
    to[120] = json!({"user_id": "x", "email": "nonsense"});
    let reply = host.api().send(&json!({"to": to, "title": "T"})).await;
    reply.problem(422);
    let named = reply.fields();
    assert!(named.iter().any(|f| f.starts_with("to[7]")), "{named:?}");
    assert!(named.iter().any(|f| f.starts_with("to[120]")), "{named:?}");
    assert!(host.me(&format!("{prefix}-0")).feed().await.is_empty());
}

#[tokio::test]
async fn ten_thousand_is_the_limit() {
    let host = TestHost::shared().await;
    let to: Vec<_> = (0..10_001).map(|n| format!("u{n}")).collect();
    let reply = host.api().send(&json!({"to": to, "title": "T"})).await;
    reply.problem(422);
    assert_eq!(reply.fields(), ["to"]);
}

#[tokio::test]
async fn a_scheduled_crowd_is_expanded_at_once_and_sent_later() {
    let host = TestHost::shared().await;
    let prefix = unique("later");
    let to: Vec<_> = (0..120).map(|n| format!("{prefix}-{n}")).collect();
    let body = json!({"to": to, "title": "T", "send_at": "2099-01-01T00:00:00Z", "channels": ["websocket"]});
    let id = host.api().accepted(&body).await;
    until("the audience is expanded", || async {
        let detail = host.api().notification(&id).await;
        (detail["audience"]["expanded"] == 120).then_some(())
    })
    .await;
    let detail = host.api().notification(&id).await;
    assert_eq!(detail["deliveries"][0]["state"], "scheduled", "{detail}");
    assert!(host.me(&to[3]).feed().await.is_empty());
    let outcome = host.api().post(&format!("/api/v1/notifications/{id}/cancel"), &json!({})).await.expect(200);
    assert_eq!(outcome["cancelled"], 120, "{outcome}");
}
