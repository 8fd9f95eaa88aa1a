//! `POST /notifications/{id}/cancel`.

use campanile_tests::{prelude::*, unique};

#[tokio::test]
async fn what_was_not_sent_is_taken_back_and_the_feed_stays() {
    let host = TestHost::shared().await;
    let user = unique("cancel");
    let body = json!({"user_id": user, "title": "T", "channels": ["websocket"], "send_at": "2099-01-01T00:00:00Z"});
    let id = host.api().accepted(&body).await;
    let path = format!("/api/v1/notifications/{id}/cancel");
    let outcome = host.api().post(&path, &json!({})).await.expect(200);
    assert_eq!(outcome, json!({"cancelled": 1, "in_flight": 0, "already_sent": 0}));
    let delivery = host.api().state(&id, "websocket", "cancelled").await;
    assert_eq!(delivery["reason"], "cancelled");
    // Again: nothing is left to cancel.
    let outcome = host.api().post(&path, &json!({})).await.expect(200);
    assert_eq!(outcome["cancelled"], 0);

    let sent = host.api().notify(&user, "sent").await;
    let outcome = host.api().post(&format!("/api/v1/notifications/{sent}/cancel"), &json!({})).await.expect(200);
    assert_eq!(outcome["already_sent"], 1);
    assert_eq!(host.me(&user).feed().await.len(), 1, "cancel never touches the feed");
}
