//! `/me`: the feed by HTTP.

use campanile_tests::{prelude::*, unique};

async fn fill(host: &TestHost, user: &str, n: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for i in 1..=n {
        ids.push(host.api().notify(user, &format!("n{i}")).await);
    }
    ids
}

#[tokio::test]
async fn pages_go_down_by_seq() {
    let host = TestHost::shared().await;
    let user = unique("pages");
    fill(host, &user, 5).await;
    let page = host.me(&user).get("/api/v1/me/notifications?limit=2").await.expect(200);
    let seqs = |page: &Value| -> Vec<i64> {
        page["items"].as_array().unwrap().iter().map(|i| i["seq"].as_i64().unwrap()).collect()
    };
    assert_eq!((seqs(&page), &page["unread"]), (vec![5, 4], &json!(5)));
    let page = host
        .me(&user)
        .get(&format!("/api/v1/me/notifications?limit=2&before={}", page["next_before"]))
        .await
        .expect(200);
    assert_eq!(seqs(&page), [3, 2]);
    let page = host
        .me(&user)
        .get(&format!("/api/v1/me/notifications?limit=2&before={}", page["next_before"]))
        .await
        .expect(200);
    assert_eq!((seqs(&page), &page["next_before"]), (vec![1], &Value::Null));
    for bad in ["limit=0", "limit=x", "before=x", "status=odd"] {
        let reply = host.me(&user).get(&format!("/api/v1/me/notifications?{bad}")).await;
        assert!(matches!(reply.status, 400 | 422), "{bad}: {}", reply.text);
    }
}

#[tokio::test]
async fn marks_move_items_between_the_views() {
    let host = TestHost::shared().await;
    let user = unique("marks");
    let ids = fill(host, &user, 4).await;
    let me = host.me(&user);
    let titles = async |status: &str| -> Vec<String> {
        let page = host.me(&user).get(&format!("/api/v1/me/notifications?status={status}")).await.expect(200);
        page["items"].as_array().unwrap().iter().map(|i| i["title"].as_str().unwrap().to_owned()).collect()
    };
    me.post(&format!("/api/v1/me/notifications/{}/read", ids[0]), &json!({})).await.expect(200);
    assert_eq!(titles("unread").await, ["n4", "n3", "n2"]);
    assert_eq!(titles("read").await, ["n1"]);
    let mark = async |body: Value| host.me(&user).post("/api/v1/me/notifications/mark", &body).await;
    let counts = mark(json!({"ids": [ids[1]], "as": "archived"})).await.expect(200)["counts"].clone();
    assert_eq!((&counts["unread"], &counts["total"]), (&json!(2), &json!(3)));
    assert_eq!(titles("all").await, ["n4", "n3", "n1"]);
    assert_eq!(titles("archived").await, ["n2"]);
    let counts = mark(json!({"ids": [ids[1]], "as": "unarchived"})).await.expect(200)["counts"].clone();
    assert_eq!((&counts["unread"], &counts["total"]), (&json!(3), &json!(4)));
    let counts = mark(json!({"ids": [ids[0]], "as": "unread"})).await.expect(200)["counts"].clone();
    assert_eq!(counts["unread"], 4);
    let counts = mark(json!({"up_to_seq": 2, "as": "seen"})).await.expect(200)["counts"].clone();
    assert_eq!((&counts["unread"], &counts["unseen"]), (&json!(4), &json!(2)));
    me.post("/api/v1/me/notifications/read_all", &json!({"up_to_seq": 3})).await.expect(200);
    assert_eq!(me.unread().await, 1);
    // Again: harmless.
    me.post("/api/v1/me/notifications/read_all", &json!({"up_to_seq": 3})).await.expect(200);
    assert_eq!(me.unread().await, 1);
    for bad in [
        json!({"ids": ids, "up_to_seq": 1, "as": "read"}),
        json!({"as": "read"}),
        json!({"ids": ids}),
        json!({"ids": ids, "as": "burnt"}),
    ] {
        assert_eq!(mark(bad.clone()).await.status, 422, "{bad}");
    }
}

#[tokio::test]
async fn another_users_items_do_not_exist() {
    let host = TestHost::shared().await;
    let (ada, bo) = (unique("ada"), unique("bo"));
    let id = host.api().notify(&ada, "private").await;
    assert!(host.me(&bo).feed().await.is_empty());
    host.me(&bo).post(&format!("/api/v1/me/notifications/{id}/read"), &json!({})).await.problem(404);
    assert_eq!(host.me(&ada).unread().await, 1);
}

#[tokio::test]
async fn parallel_writers_to_one_user_leave_no_hole_for_a_reader() {
    let host = TestHost::shared().await;
    let user = unique("busy");
    let writers: Vec<_> = (0..50)
        .map(|n| {
            let (api, user) = (host.api(), user.clone());
            tokio::spawn(async move { api.notify(&user, &format!("w{n}")).await })
        })
        .collect();
    let mut known = 0;
    while known < 50 {
        let seqs: Vec<_> = host.me(&user).feed().await.iter().rev().map(|i| i["seq"].as_i64().unwrap()).collect();
        let expected: Vec<_> = (1..=seqs.len() as i64).collect();
        assert_eq!(seqs, expected, "a reader saw a later seq before an earlier one");
        assert!(seqs.len() >= known);
        known = seqs.len();
    }
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(host.me(&user).unread().await, 50);
}

#[tokio::test]
async fn random_inserts_and_marks_from_three_devices_keep_the_count_right() {
    let host = TestHost::shared().await;
    let user = unique("counts");
    let tasks: Vec<_> = (0..3u32)
        .map(|device| {
            let (api, me, user) = (host.api(), host.me(&user), user.clone());
            tokio::spawn(async move {
                let mut mine = Vec::new();
                for step in 0..20u32 {
                    mine.push(api.notify(&user, &format!("d{device}s{step}")).await);
                    // A fixed walk that differs by device: read one of mine, read some, unread one.
                    let pick = &mine[(step * 7 + device) as usize % mine.len()];
                    let mark = ["read", "seen", "unread", "archived", "unarchived"][((step * 3 + device) % 5) as usize];
                    let body = json!({"ids": [pick], "as": mark});
                    me.post("/api/v1/me/notifications/mark", &body).await.expect(200);
                    if step % 9 == device {
                        me.post("/api/v1/me/notifications/read_all", &json!({"up_to_seq": i64::from(step)}))
                            .await
                            .expect(200);
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let feed = host.me(&user).feed().await;
    let unread = feed.iter().filter(|i| i["read_at"].is_null()).count() as i64;
    assert_eq!(host.me(&user).unread().await, unread);
    let mut socket = Connect::to(host).token(&token::user(&user)).v1().open().await;
    let counts = socket.expect("hello").await["data"]["counts"].clone();
    assert_eq!((&counts["unread"], &counts["total"]), (&json!(unread), &json!(feed.len())));
}
