//! `POST /notifications/batch`: items stand alone.

use campanile_tests::{api::id_of, prelude::*, unique};

const PATH: &str = "/api/v1/notifications/batch";

#[tokio::test]
async fn good_and_bad_items_stand_side_by_side() {
    let host = TestHost::shared().await;
    let user = unique("batch");
    let body = json!({"notifications": [
        {"user_id": user, "title": "one", "channels": ["websocket"]},
        {"user_id": user, "title": "", "priority": "urgent"},
        {"user_id": user, "title": "three", "channels": ["websocket"]},
    ]});
    let answer = host.api().post(PATH, &body).await.expect(202);
    let results = answer["results"].as_array().unwrap();
    assert_eq!(results.len(), 3);
    for (n, result) in results.iter().enumerate() {
        assert_eq!(result["index"], n);
    }
    id_of(&results[0]);
    let errors = results[1]["error"]["errors"].as_array().unwrap_or_else(|| panic!("no errors in {answer}"));
    let named: Vec<_> = errors.iter().map(|e| e["field"].as_str().unwrap()).collect();
    assert!(named.contains(&"title") && named.contains(&"priority"), "{named:?}");
    assert!(results[1]["error"]["code"].is_string());
    let titles: Vec<_> = host.me(&user).feed().await.iter().map(|i| i["title"].clone()).collect();
    assert_eq!(titles, ["three", "one"]);
}

#[tokio::test]
async fn each_item_has_its_own_key() {
    let host = TestHost::shared().await;
    let (user, key) = (unique("batch"), unique("key"));
    let item = json!({"user_id": user, "title": "one", "idempotency_key": key, "channels": ["websocket"]});
    let first = host.api().post(PATH, &json!({"notifications": [item]})).await.expect(202);
    let again =
        host.api().post(PATH, &json!({"notifications": [item, {"user_id": user, "title": "two"}]})).await.expect(202);
    assert_eq!(id_of(&again["results"][0]), id_of(&first["results"][0]));
    assert_eq!(again["results"][0]["replayed"], true);
    assert_eq!(host.me(&user).feed().await.len(), 2);
    let header =
        host.api().request("POST", PATH).header("idempotency-key", "k").json(&json!({"notifications": [item]}));
    host.api().run(header).await.problem(422);
}

#[tokio::test]
async fn a_thousand_at_once_and_no_more() {
    let host = TestHost::shared().await;
    let user = unique("many");
    let items: Vec<_> =
        (0..1000).map(|n| json!({"user_id": user, "title": format!("n{n}"), "channels": ["websocket"]})).collect();
    let answer = host.api().post(PATH, &json!({"notifications": items})).await.expect(202);
    assert!(answer["results"].as_array().unwrap().iter().all(|r| r["notification_id"].is_string()));
    let titles: Vec<_> =
        host.me(&user).feed().await.iter().rev().map(|i| i["title"].as_str().unwrap().to_owned()).collect();
    let expected: Vec<_> = (0..1000).map(|n| format!("n{n}")).collect();
    assert_eq!(titles, expected, "each of the batch once, in its order");
    let mut items = items;
    items.push(json!({"user_id": user, "title": "too many"}));
    host.api().post(PATH, &json!({"notifications": items})).await.problem(422);
    host.api().post(PATH, &json!({"notifications": []})).await.problem(422);
    host.api().post(PATH, &json!({"notification": []})).await.problem(422);
}

#[tokio::test]
async fn ephemeral_items_are_pushed() {
    let host = TestHost::shared().await;
    let user = unique("batch");
    let mut socket = Connect::to(host).token(&token::user(&user)).open().await;
    socket.settle().await;
    let body = json!({"notifications": [{"user_id": user, "title": "typing", "persist": false}]});
    let answer = host.api().post(PATH, &body).await.expect(202);
    assert_eq!(answer["results"][0]["status"], "pushed", "{answer}");
    assert_eq!(socket.expect("notification").await["data"]["title"], "typing");
}
