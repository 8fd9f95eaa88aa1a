//! Two nodes and the bus between them, over RabbitMQ and over Redis: what happens on the one is seen on the other.
//!
//! The regular look at the feed would repair what a bus loses. Here it comes every ten minutes, so that only the bus can
//! have brought what arrives; where the look is what is tried, the test says so.

use super::links::{Links, on_each_bus};
use campanile_tests::{
    host::{HostBuilder, TestHost},
    prelude::*,
    wait::until_within,
};

fn plain(builder: HostBuilder) -> HostBuilder {
    builder.text("websocket.heartbeat", "10m")
}

async fn open(host: &TestHost, user: &str) -> Socket {
    let mut socket = Connect::to(host).token(&token::user(user)).open().await;
    socket.settle().await;
    socket
}

async fn open_v1(host: &TestHost, user: &str) -> Socket {
    let mut socket = Connect::to(host).token(&token::user(user)).v1().open().await;
    socket.expect("hello").await;
    socket
}

async fn what_is_sent_through_one_node_is_shown_on_the_other(links: Links) {
    let [a, b] = links.two(plain).await;
    let (mut classic, mut v1) = (open(&b, "ada").await, open_v1(&b, "ada").await);
    let url = b.url(&format!("/sse/notifications?v=1&token={}", token::user("ada")));
    let mut stream = EventStream::open(&url, &[]).await.unwrap();
    stream.wait_for("hello").await;
    let id = a.api().notify("ada", "from the other side").await;
    for frame in [classic.expect("notification").await, v1.expect("notification").await] {
        assert_eq!(frame["data"]["notification_id"], id);
    }
    let event = stream.wait_for("notification").await;
    assert_eq!((&event.data["data"]["notification_id"], &event.data["seq"]), (&json!(id), &json!(1)));
    a.api().delivery_until(&id, "websocket", "delivered", |d| d["state"] == "delivered").await;

    let typing = json!({"user_id": "ada", "title": "typing", "persist": false});
    assert_eq!(a.api().send(&typing).await.expect(200)["status"], "pushed");
    for frame in [classic.expect("notification").await, v1.expect("notification").await] {
        assert_eq!(frame["data"]["title"], "typing");
    }
    assert_eq!(stream.wait_for("notification").await.data["data"]["title"], "typing");
}

/// The bus carries no such frame; the other node reads the feed.
async fn a_message_too_large_for_the_bus_is_shown_too(links: Links) {
    let [a, b] = links.two(plain).await;
    let (mut classic, mut v1) = (open(&b, "ada").await, open_v1(&b, "ada").await);
    let message = "\u{1}".repeat(4000);
    let data = json!({"blob": "x".repeat(15_000)});
    a.api().accepted(&json!({"user_id": "ada", "title": "T", "message": message, "data": data})).await;
    for socket in [&mut classic, &mut v1] {
        assert_eq!(socket.expect("notification").await["data"]["message"], message);
    }
    a.api().notify("ada", "small").await;
    for socket in [&mut classic, &mut v1] {
        assert_eq!(socket.wait_for("notification").await["data"]["title"], "small");
    }
}

async fn a_broadcast_reaches_everyone_wherever_they_are(links: Links) {
    let [a, b] = links.two(plain).await;
    let users: Vec<String> = (0..150).map(|n| format!("u{n}")).collect();
    let mut sockets = Vec::new();
    for (n, user) in users.iter().enumerate() {
        sockets.push(open(if n % 2 == 0 { &a } else { &b }, user).await);
    }
    let to: Vec<Value> = users.iter().map(|u| json!({"user_id": u})).collect();
    a.api().send(&json!({"to": to, "title": "all"})).await.expect(202);
    for socket in &mut sockets {
        assert_eq!(socket.expect("notification").await["data"]["title"], "all");
    }
}

async fn a_read_here_is_seen_there(links: Links) {
    let [a, b] = links.two(plain).await;
    let (mut here, mut there, mut there_v1) = (open(&a, "ada").await, open(&b, "ada").await, open_v1(&b, "ada").await);
    let id = a.api().notify("ada", "T").await;
    for socket in [&mut here, &mut there, &mut there_v1] {
        socket.expect("notification").await;
    }
    here.send(&json!({"type": "mark_read", "notification_id": id})).await;
    let update = there.expect("notification_update").await;
    assert_eq!(update["data"], json!({"notification_id": id, "status": "read"}));
    assert_eq!(there.expect("unread_count").await["data"]["count"], 0);
    assert_eq!(there_v1.wait_for("marked").await["data"]["ids"], json!([id]));
    assert_eq!(there_v1.wait_for("counts").await["data"]["unread"], 0);
    a.api().delete("/api/v1/users/ada").await.expect(200);
    assert_eq!(there_v1.wait_for("reset").await["data"]["reason"], "erased");
    assert_eq!(there.expect("unread_count").await["data"]["count"], 0);
}

async fn who_is_shut_out_here_is_shut_out_there(links: Links) {
    let [a, b] = links.two(|h| plain(h).text("cluster.heartbeat", "1s")).await;
    a.api().notify("ada", "T").await;
    let (mut ada, mut ada_v1) = (open(&b, "ada").await, open_v1(&b, "ada").await);
    let (mut bo, mut cy, mut di) = (open_v1(&b, "bo").await, open_v1(&b, "cy").await, open_v1(&b, "cy").await);
    a.api().post("/api/v1/users/ada/disable", &json!({})).await.expect(200);
    assert_eq!((ada.closed().await.code, ada_v1.closed().await.code), (1000, 4403));
    a.api().post("/api/v1/users/bo/disconnect", &json!({"why": "revoked"})).await.expect(200);
    assert_eq!(bo.closed().await.code, 4401);
    // One of two connections, by its id, asked of the node that does not hold it.
    let first = until("the other node lists it", || async {
        let list = a.api().get("/api/v1/connections?user_id=cy").await.expect(200);
        (list["items"].as_array()?.len() == 2).then(|| list["items"][0]["conn_id"].as_str().unwrap().to_owned())
    })
    .await;
    a.api().delete(&format!("/api/v1/connections/{first}")).await.expect(200);
    assert_eq!(cy.closed().await.code, 1012);
    a.api().notify("cy", "still there").await;
    di.expect("notification").await;
    a.api().delete(&format!("/api/v1/connections/{}", uuid::Uuid::now_v7())).await.problem(404);
}

async fn a_key_revoked_here_is_refused_there(links: Links) {
    let [a, b] = links.two(plain).await;
    let made = a.api().post("/api/v1/keys", &json!({"name": "k", "scopes": ["read"]})).await.expect(201);
    let theirs = b.api().with_key(made["key"].as_str().unwrap());
    theirs.get("/api/v1/channels").await.expect(200);
    a.api().delete(&format!("/api/v1/keys/{}", made["key_id"].as_str().unwrap())).await.expect(200);
    // A node remembers a key for ten seconds; the bus is what makes it sooner.
    until_within(Duration::from_secs(8), "the key is refused", || async {
        (theirs.get("/api/v1/channels").await.status == 401).then_some(())
    })
    .await;

    // A rotated one ends with its window, on every node, and its successor is known at once.
    let made = a.api().post("/api/v1/keys", &json!({"name": "r", "scopes": ["read"]})).await.expect(201);
    let theirs = b.api().with_key(made["key"].as_str().unwrap());
    theirs.get("/api/v1/channels").await.expect(200);
    let rotate = format!("/api/v1/keys/{}/rotate", made["key_id"].as_str().unwrap());
    let next = a.api().post(&rotate, &json!({"overlap_s": 1})).await.expect(201);
    b.api().with_key(next["key"].as_str().unwrap()).get("/api/v1/channels").await.expect(200);
    until_within(Duration::from_secs(8), "the rotated key is refused", || async {
        (theirs.get("/api/v1/channels").await.status == 401).then_some(())
    })
    .await;
}

async fn a_pause_here_holds_there(links: Links) {
    let [a, b] = links.two(plain).await;
    let mut socket = open_v1(&b, "ada").await;
    let typing = json!({"user_id": "ada", "title": "typing", "persist": false});
    assert_eq!(b.api().send(&typing).await.expect(200)["status"], "pushed");
    socket.expect("notification").await;
    a.api().post("/api/v1/channels/websocket/pause", &json!({"reason": "test"})).await.expect(200);
    until("the other node drops what nobody would get", || async {
        (b.api().send(&typing).await.expect(200)["status"] == "dropped").then_some(())
    })
    .await;
    let held = b.api().send(&json!({"user_id": "ada", "title": "held", "channels": ["websocket"]})).await.expect(202);
    assert_eq!(held["deliveries"][0]["state"], "pending");
    a.api().post("/api/v1/channels/websocket/resume", &json!({})).await.expect(200);
    socket.wait_until("what was held", |frame| frame["data"]["title"] == "held").await;
}

async fn of_two_nodes_racing_for_a_ticket_one_wins(links: Links) {
    let [a, b] = links.two(plain).await;
    for round in 0..10 {
        let user = format!("u{round}");
        let made = a.me(&user).post("/api/v1/me/ws-tickets", &json!({})).await.expect(201);
        let ticket = made["ticket"].as_str().unwrap();
        let race = |host: &TestHost| tokio::spawn(Connect::to(host).ticket(ticket).try_open());
        let (one, other) = (race(&a), race(&b));
        let won = [one.await.unwrap().is_ok(), other.await.unwrap().is_ok()];
        assert_eq!(won.iter().filter(|won| **won).count(), 1, "round {round}: {won:?}");
    }
}

/// The bus is cut, and the regular look, here every second, shows what the lost hint was about.
async fn a_connection_over_there_is_pinged(links: Links) {
    let [a, b] = links.two(plain).await;
    let mut there = Connect::to(&b).token(&token::user("ada")).v1().open().await;
    let id = there.expect("hello").await["data"]["conn_id"].as_str().unwrap().to_owned();
    let call = format!("/api/v1/connections/{id}/ping");
    let api = a.api();
    // It is in the list within seconds; a client answers pings while it reads.
    let took = until("it answers", || async {
        let pinged = api.post(&call, &json!({})).await;
        (pinged.status == 200).then(|| pinged.json["took_ms"].as_f64().unwrap())
    });
    let reading = async {
        loop {
            there.next_within(Duration::from_millis(50)).await;
        }
    };
    let took = tokio::select! { took = took => took, () = reading => unreachable!() };
    assert!(took > 0.0);
}

async fn a_lost_hint_is_found_by_the_regular_look(links: Links) {
    let [a, b] = links.two(|h| h.text("websocket.heartbeat", "1s")).await;
    let (mut classic, mut v1) = (open(&b, "ada").await, open_v1(&b, "ada").await);
    links.cut(&b).await;
    let id = a.api().notify("ada", "unheard of").await;
    for socket in [&mut classic, &mut v1] {
        assert_eq!(socket.wait_for("notification").await["data"]["notification_id"], id);
    }
    a.me("ada").post(&format!("/api/v1/me/notifications/{id}/read"), &json!({})).await.expect(200);
    assert_eq!(classic.wait_for("unread_count").await["data"]["count"], 0);
    v1.wait_until("the counts", |frame| frame["type"] == "counts" && frame["data"]["unread"] == 0).await;
}

/// The bus is cut and comes back; no regular look is near.
async fn what_was_missed_is_caught_up_with_when_the_bus_is_back(links: Links) {
    let [a, b] = links.two(plain).await;
    let (mut classic, mut v1) = (open(&b, "ada").await, open_v1(&b, "ada").await);
    let mut gone = open_v1(&b, "bo").await;
    a.api().notify("bo", "T").await;
    gone.expect("notification").await;
    let before = b.api().metrics().await["campanile_bus_catch_ups_total"];
    links.cut(&b).await;
    let ready = b.api().get("/readyz").await.expect(200);
    assert_eq!((&ready["status"], &ready["degraded"]), (&json!("degraded"), &json!(["bus"])));
    let id = a.api().notify("ada", "unheard of").await;
    a.api().post("/api/v1/users/bo/disable", &json!({})).await.expect(200);
    // This node's own people feel nothing of it.
    let own = b.api().notify("ada", "own").await;
    for socket in [&mut classic, &mut v1] {
        assert_eq!(socket.wait_for("notification").await["data"]["notification_id"], id);
        assert_eq!(socket.wait_for("notification").await["data"]["notification_id"], own);
    }
    let late = a.api().notify("ada", "late").await;
    links.mend(&b).await;
    for socket in [&mut classic, &mut v1] {
        assert_eq!(socket.wait_for("notification").await["data"]["notification_id"], late);
    }
    assert_eq!(gone.closed().await.code, 4403);
    let after = b.api().metrics().await["campanile_bus_catch_ups_total"];
    assert!((after - before - 1.0).abs() < f64::EPSILON, "{before} → {after}");
    a.api().notify("ada", "again").await;
    classic.wait_until("a live push", |frame| frame["data"]["title"] == "again").await;
}

async fn a_host_starts_and_serves_without_its_bus(links: Links) {
    let host = links.without_a_bus(plain).await;
    let mut socket = open_v1(&host, "ada").await;
    host.api().notify("ada", "T").await;
    socket.expect("notification").await;
    assert_eq!(host.api().get("/readyz").await.expect(200)["degraded"], json!(["bus"]));
    assert!((host.api().metrics().await["campanile_bus_connected"]).abs() < f64::EPSILON);
}

/// Nothing is said of a bus: it goes where the queue goes.
#[tokio::test]
async fn without_a_word_the_bus_follows_the_queue() {
    let a = plain(TestHost::builder().production()).start().await;
    let mut b = a.peer();
    b.launch().await;
    for host in [&a, &b] {
        until("the bus is up", || async {
            (host.api().get("/readyz").await.expect(200)["degraded"] == json!([])).then_some(())
        })
        .await;
    }
    let mut there = open_v1(&b, "ada").await;
    a.api().notify("ada", "T").await;
    there.expect("notification").await;
}

on_each_bus![
    what_is_sent_through_one_node_is_shown_on_the_other,
    a_message_too_large_for_the_bus_is_shown_too,
    a_broadcast_reaches_everyone_wherever_they_are,
    a_read_here_is_seen_there,
    who_is_shut_out_here_is_shut_out_there,
    a_key_revoked_here_is_refused_there,
    a_pause_here_holds_there,
    of_two_nodes_racing_for_a_ticket_one_wins,
    a_connection_over_there_is_pinged,
    a_lost_hint_is_found_by_the_regular_look,
    what_was_missed_is_caught_up_with_when_the_bus_is_back,
    a_host_starts_and_serves_without_its_bus,
];
