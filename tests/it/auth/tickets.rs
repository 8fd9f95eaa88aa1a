//! `POST /me/ws-tickets`: single use, short, bound to the origin that asked.

use campanile_tests::{prelude::*, unique};

async fn ticket(host: &TestHost, user: &str, origin: Option<&str>) -> String {
    let me = host.me(user);
    let mut request = me.request("POST", "/api/v1/me/ws-tickets");
    if let Some(origin) = origin {
        request = request.header("origin", origin);
    }
    let reply = me.run(request).await;
    assert!(reply.header("cache-control").contains("no-store"), "{:?}", reply.headers);
    let body = reply.expect(201);
    assert_eq!(body["expires_in"], 30);
    body["ticket"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_ticket_opens_one_socket() {
    let host = TestHost::shared().await;
    let user = unique("u");
    let ticket = ticket(host, &user, None).await;
    assert!(ticket.len() >= 40, "32 random bytes: {ticket}");
    let mut socket = Connect::to(host).ticket(&ticket).v1().open().await;
    socket.expect("hello").await;
    host.api().notify(&user, "one").await;
    socket.wait_for("notification").await;
    assert_eq!(Connect::to(host).ticket(&ticket).refused().await.status, 401);
    let mut again = Connect::to(host).ticket(&ticket).v1().open().await;
    assert_eq!(again.closed().await.code, 4401);
}

#[tokio::test]
async fn of_ten_racing_for_one_ticket_one_wins() {
    let host = TestHost::shared().await;
    let ticket = ticket(host, &unique("u"), None).await;
    let racers: Vec<_> = (0..10).map(|_| tokio::spawn(Connect::to(host).ticket(&ticket).try_open())).collect();
    let mut won = 0;
    for racer in racers {
        won += u32::from(racer.await.unwrap().is_ok());
    }
    assert_eq!(won, 1);
}

#[tokio::test]
async fn a_ticket_dies_of_age_and_of_another_origin() {
    let host = TestHost::builder()
        .text("websocket.ticket_ttl", "1s")
        .set("websocket.origins", "[\"https://a.example.org\", \"https://b.example.org\"]")
        .start()
        .await;
    let user = unique("u");
    let me = host.me(&user);
    let get = async |origin: &str| {
        let reply = me.run(me.request("POST", "/api/v1/me/ws-tickets").header("origin", origin)).await;
        reply.expect(201)["ticket"].as_str().unwrap().to_owned()
    };
    let good = get("https://a.example.org").await;
    Connect::to(&host).ticket(&good).origin("https://a.example.org").open().await.settle().await;
    let moved = get("https://a.example.org").await;
    assert_eq!(Connect::to(&host).ticket(&moved).origin("https://b.example.org").refused().await.status, 401);
    let old = get("https://a.example.org").await;
    tokio::time::sleep(Duration::from_millis(1300)).await;
    assert_eq!(Connect::to(&host).ticket(&old).origin("https://a.example.org").refused().await.status, 401);
}

#[tokio::test]
async fn a_dump_of_the_database_holds_no_usable_ticket_or_key() {
    let host = TestHost::start().await;
    let ticket = ticket(&host, &unique("u"), None).await;
    let key = host.api().post("/api/v1/keys", &json!({"name": "app", "scopes": ["send"]})).await.expect(201);
    let key = key["key"].as_str().unwrap_or_else(|| panic!("no key in {key}")).to_owned();
    host.api().with_key(&key).notify(&unique("u"), "one").await;
    let dump = host.db().await.dump().await;
    assert!(dump.windows(4).any(|w| w == b"send"), "the dump holds nothing");
    let secret = key.splitn(3, '_').nth(2).unwrap();
    for secret in [ticket.as_str(), secret, campanile_tests::host::API_KEY] {
        assert!(!dump.windows(secret.len()).any(|w| w == secret.as_bytes()), "a secret lies in the database");
    }
}
