//! `/users/{user_id}`: contact points, erasure and merging.

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

#[tokio::test]
async fn two_users_become_one_and_every_open_socket_shows_it() {
    let host = TestHost::shared().await;
    let api = host.api();
    let (anon, ada) = (unique("anon"), unique("ada"));
    let path = format!("/api/v1/users/{ada}/merge");
    let body = json!({"from_user_id": anon});
    api.put(&format!("/api/v1/users/{anon}"), &json!({"locale": "de", "timezone": "Europe/Berlin"})).await.expect(200);
    api.put(&format!("/api/v1/users/{ada}"), &json!({"locale": "en"})).await.expect(200);
    let mut sent = Vec::new();
    for user in [&anon, &ada, &anon] {
        sent.push(api.notify(user, "T").await);
    }
    host.me(&anon).post(&format!("/api/v1/me/notifications/{}/read", sent[0]), &json!({})).await.expect(200);
    let later =
        json!({"user_id": anon, "title": "later", "channels": ["websocket"], "send_at": "2099-01-01T00:00:00Z"});
    let scheduled = api.accepted(&later).await;

    let mut classic = Connect::to(host).token(&token::user(&ada)).open().await;
    let mut v1 = Connect::to(host).token(&token::user(&ada)).v1().open().await;
    let mut left = Connect::to(host).token(&token::user(&anon)).v1().open().await;
    let hello = v1.expect("hello").await;
    left.expect("hello").await;
    classic.settle().await;
    let report = api.post(&path, &body).await.expect(200);
    assert_eq!((&report["moved"], &report["feed_items"], &report["cancelled"]), (&json!(3), &json!(2), &json!(0)));

    assert_eq!(classic.wait_for("unread_count").await["data"]["count"], 2);
    let reset = v1.wait_for("reset").await;
    assert_ne!(reset["data"]["epoch"], hello["data"]["epoch"], "the numbers of before are over");
    assert_eq!((&reset["data"]["counts"]["unread"], &reset["data"]["counts"]["total"]), (&json!(2), &json!(3)));
    v1.send(&json!({"type": "list"})).await;
    let list = v1.wait_for("list").await;
    let ids = |items: &Value| -> Vec<String> {
        items.as_array().unwrap().iter().map(|i| i["notification_id"].as_str().unwrap().to_owned()).collect()
    };
    let newest_first: Vec<String> = sent.iter().rev().cloned().collect();
    assert_eq!(ids(&list["data"]["items"]), newest_first);
    assert_eq!(left.wait_for("reset").await["data"]["counts"]["total"], 0);
    assert!(host.me(&anon).feed().await.is_empty());
    assert_eq!(host.me(&ada).unread().await, 2);
    // What comes next reaches the sockets that were open, once.
    let next = api.notify(&ada, "next").await;
    for socket in [&mut classic, &mut v1] {
        assert_eq!(socket.wait_for("notification").await["data"]["notification_id"], next.as_str());
    }
    let cursor = format!("{}", hello["data"]["head_seq"]);
    let mut back = Connect::to(host)
        .token(&token::user(&ada))
        .v1()
        .query("epoch", hello["data"]["epoch"].as_str().unwrap())
        .query("since", &cursor)
        .open()
        .await;
    assert_eq!(back.wait_for("reset").await["data"]["reason"], "epoch", "a cursor of before is not resumed");

    let user = api.get(&format!("/api/v1/users/{ada}")).await.expect(200);
    assert_eq!((&user["locale"], &user["timezone"]), (&json!("en"), &json!("Europe/Berlin")));
    api.get(&format!("/api/v1/users/{anon}")).await.problem(404);
    assert_eq!(api.notification(&scheduled).await["deliveries"][0]["user_id"], ada.as_str());
    let audited = api.get(&format!("/api/v1/audit?action=user.merge&target={ada}")).await.expect(200);
    assert_eq!(audited["items"][0]["detail"]["from"], anon.as_str());
}

#[tokio::test]
async fn a_merge_names_two_users_of_whom_one_is_known() {
    let host = TestHost::shared().await;
    let api = host.api();
    let (anon, ada) = (unique("anon"), unique("ada"));
    let path = format!("/api/v1/users/{ada}/merge");
    api.post(&path, &json!({"from_user_id": anon})).await.problem(404);
    for (body, field) in [
        (json!({"from_user_id": ada}), "from_user_id"),
        (json!({"from_user_id": ""}), "from_user_id"),
        (json!({"from_user_id": "x".repeat(256)}), "from_user_id"),
        (json!({}), "from_user_id"),
        (json!({"from_user_id": anon, "to": ada}), "to"),
    ] {
        let refused = api.post(&path, &body).await;
        refused.problem(422);
        assert_eq!(refused.fields(), [field], "{}", refused.text);
    }
    let long = format!("/api/v1/users/{}/merge", "x".repeat(256));
    assert_eq!(api.post(&long, &json!({"from_user_id": anon})).await.fields(), ["user_id"]);
    let key = api.post("/api/v1/keys", &json!({"name": unique("key"), "scopes": ["send", "read"]})).await.expect(201);
    let sender = api.with_key(key["key"].as_str().unwrap());
    sender.post(&path, &json!({"from_user_id": anon})).await.problem(403);
    host.me(&ada).post(&path, &json!({"from_user_id": anon})).await.problem(403);
    // Whoever is merged into is made.
    let id = api.notify(&anon, "T").await;
    api.post(&path, &json!({"from_user_id": anon})).await.expect(200);
    assert_eq!(host.me(&ada).feed().await[0]["notification_id"], id.as_str());
    api.get(&format!("/api/v1/users/{ada}")).await.expect(200);
}
