//! `/users/{user_id}`: contact points and erasure.

use campanile_tests::{prelude::*, token, unique};

#[tokio::test]
async fn contact_points_are_put_read_and_replaced() {
    let host = TestHost::shared().await;
    let user = unique("ada");
    let path = format!("/api/v1/users/{user}");
    host.api().get(&path).await.problem(404);
    let body = json!({"email": "ada@example.org", "locale": "de", "timezone": "Europe/Berlin"});
    let put = host.api().put(&path, &body).await;
    assert!(matches!(put.status, 200 | 201), "{}", put.text);
    let got = host.api().get(&path).await.expect(200);
    assert_eq!(got["user_id"], user.as_str());
    assert_eq!(
        (&got["email"], &got["locale"], &got["timezone"]),
        (&json!("ada@example.org"), &json!("de"), &json!("Europe/Berlin"))
    );
    // PUT replaces: what is not named is gone.
    host.api().put(&path, &json!({"locale": "en"})).await;
    let got = host.api().get(&path).await.expect(200);
    assert_eq!((&got["email"], &got["locale"]), (&Value::Null, &json!("en")));
    for bad in
        [json!({"email": "nonsense"}), json!({"emial": "a@b.example"}), json!({"email": "a@b.example\r\nBcc: c@d"})]
    {
        host.api().put(&path, &bad).await.problem(422);
    }
}

#[tokio::test]
async fn odd_user_ids_work_when_they_are_encoded() {
    let host = TestHost::shared().await;
    let user = format!("{}/ü?#%", unique("odd"));
    let coded: String = user
        .bytes()
        .map(|b| if b.is_ascii_alphanumeric() || b == b'-' { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect();
    host.api().put(&format!("/api/v1/users/{coded}"), &json!({"locale": "en"})).await;
    assert_eq!(host.api().get(&format!("/api/v1/users/{coded}")).await.expect(200)["user_id"], user.as_str());
    host.api().notify(&user, "T").await;
    assert_eq!(host.me(&user).feed().await.len(), 1);
}

#[tokio::test]
async fn a_first_send_makes_the_user_and_erasing_leaves_an_empty_feed_that_goes_on() {
    let host = TestHost::shared().await;
    let user = unique("erased");
    host.api().notify(&user, "one").await;
    let scheduled = host
        .api()
        .accepted(
            &json!({"user_id": user, "title": "later", "channels": ["websocket"], "send_at": "2099-01-01T00:00:00Z"}),
        )
        .await;
    assert_eq!(host.api().get(&format!("/api/v1/users/{user}")).await.expect(200)["email"], Value::Null);

    let mut classic = Connect::to(host).token(&token::user(&user)).open().await;
    let mut v1 = Connect::to(host).token(&token::user(&user)).v1().open().await;
    let hello = v1.expect("hello").await;
    classic.settle().await;
    let reply = host.api().delete(&format!("/api/v1/users/{user}")).await;
    assert!(matches!(reply.status, 200 | 204), "{}", reply.text);

    assert_eq!(classic.wait_for("unread_count").await["data"]["count"], 0);
    let reset = v1.wait_for("reset").await;
    assert_eq!(reset["data"]["reason"], "erased");
    assert_ne!(reset["data"]["epoch"], hello["data"]["epoch"], "an erase begins a new generation");
    assert!(host.me(&user).feed().await.is_empty());
    host.api().get(&format!("/api/v1/users/{user}")).await.problem(404);
    let detail = host.api().notification(&scheduled).await;
    assert!(!detail["request"].to_string().contains(&user), "the erased user is still in the request: {detail}");

    host.api().notify(&user, "two").await;
    let feed = host.me(&user).feed().await;
    assert_eq!(feed.len(), 1);
    assert!(feed[0]["seq"].as_i64().unwrap() >= 2, "seq goes on: {feed:?}");
    host.api().delete(&format!("/api/v1/users/{}", unique("never"))).await.problem(404);
}
