//! HAProxy and nginx, as shipped, in front of two nodes: what goes through, what is kept out, what is never sent twice.

use campanile_tests::{
    balancer::{Balancer, Kind, free_address},
    prelude::*,
    smtp::SmtpServer,
};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// Two nodes on one database, each on an address that it keeps.
pub async fn nodes(settings: impl Fn(HostBuilder) -> HostBuilder) -> [TestHost; 2] {
    let node = TestHost::builder().production().set("server.trusted_proxies", r#"["127.0.0.1"]"#);
    let mut first = settings(node).prepare();
    let mut second = first.peer();
    for host in [&mut first, &mut second] {
        let address = free_address().to_string();
        host.reconfigure(|b| b.text("server.listen", &address));
        host.launch().await;
    }
    [first, second]
}

pub async fn in_front(kind: Kind, nodes: &[TestHost; 2]) -> Balancer {
    let balancer = Balancer::start(kind, [nodes[0].address(), nodes[1].address()]).await;
    let api = Api::new(&balancer.url(""), "nobody").anonymous();
    until("a node is reached", || async { (api.get("/readyz").await.status == 200).then_some(()) }).await;
    balancer
}

async fn goes_through(kind: Kind) {
    let nodes = nodes(|b| b.text("websocket.heartbeat", "2s")).await;
    let balancer = in_front(kind, &nodes).await;
    let api = Api::new(&balancer.url(""), campanile_tests::host::API_KEY);
    let (user, token) = ("ada", token::user("ada"));

    // Sockets in the classic way, with the page's Origin as a browser sends it, and event streams.
    let at = || Connect::at(balancer.address()).token(&token);
    let mut classic = at().origin(&balancer.url("")).open().await;
    let mut v1 = at().v1().header("x-forwarded-for", "6.6.6.6").header("forwarded", "for=6.6.6.6").open().await;
    v1.expect("hello").await;
    assert_eq!(at().origin("http://elsewhere.example").refused().await.status, 403);
    assert_eq!(Connect::at(balancer.address()).token("no-token").refused().await.status, 401);
    let stream = format!("/sse/notifications?v=1&token={token}");
    let mut events = EventStream::open(&balancer.url(&stream), &[]).await.expect("a stream");
    events.wait_for("hello").await;

    // What a caller claims about addresses is not believed, although the balancer is.
    for node in &nodes {
        let list = node.api().get("/api/v1/connections").await;
        assert_eq!(list.status, 200);
        assert!(!list.text.contains("6.6."), "{}", list.text);
    }

    let id = api.notify(user, "through the balancer").await;
    let is_it = |frame: &Value| frame["data"]["notification_id"] == id.as_str();
    classic.wait_until("the notification", is_it).await;
    v1.wait_until("the notification", is_it).await;
    assert!(is_it(&events.wait_for("notification").await.data));

    // Bodies as large as the nodes take them; what is larger is refused by a node, in its own words.
    let item = json!({"user_id": "bo", "title": "T", "channels": ["websocket"], "message": "x".repeat(3900), "data": {"x": "y".repeat(15_000)}});
    let batch = |n: usize| json!({"notifications": vec![item.clone(); n]});
    until("a large batch is taken", || async {
        let large = api.post("/api/v1/notifications/batch", &batch(80)).await;
        // A busy node may ask to come back.
        assert!(matches!(large.status, 202 | 503), "{}", large.text);
        (large.status == 202).then_some(())
    })
    .await;
    let too_large = api.post("/api/v1/notifications/batch", &batch(460)).await;
    too_large.problem(413);

    // The inside stays inside.
    for path in ["/metrics", "/metrics?x=1"] {
        assert_eq!(api.get(path).await.status, 404, "{path}");
    }
    for path in [format!("/unsubscribe/{token}"), format!("/ws/notifications%3Ftoken={token}")] {
        api.anonymous().get(&path).await;
    }
    drop((classic, v1, events));
    // HAProxy finds out with the next heartbeat.
    until("the access log has a stream", || async { balancer.log().contains("GET /sse/notifications").then_some(()) })
        .await;
    logs_no_token(&balancer, &token).await;
}

/// The access log knows of the calls and has neither query nor token. Sockets are logged when they end.
pub async fn logs_no_token(balancer: &Balancer, token: &str) {
    until("the access log has a socket", || async { balancer.log().contains("GET /ws/notifications").then_some(()) })
        .await;
    let log = balancer.log();
    let secret = token.rsplit('.').next().unwrap();
    for piece in [secret, &token[..20], "token=", "ticket="] {
        assert!(!log.contains(piece), "the access log has {piece}:\n{log}");
    }
}

#[tokio::test]
async fn everything_goes_through_haproxy() {
    goes_through(Kind::Haproxy).await;
}

#[tokio::test]
async fn everything_goes_through_nginx() {
    goes_through(Kind::Nginx).await;
}

/// What one node writes into a mail is followed to another one.
#[tokio::test]
async fn a_link_in_a_mail_works_on_every_node() {
    let relay = SmtpServer::start().await;
    let nodes = nodes(|b| b.mail_to(relay.address).text("server.public_url", "https://notify.example.org")).await;
    let mut tried = 0;
    for (sender, reader) in [(0, 1), (1, 0)] {
        let to = json!([{"user_id": "ada", "email": format!("ada{sender}@example.org")}]);
        let id = nodes[sender].api().accepted(&json!({"to": to, "title": "T", "channels": ["email"]})).await;
        nodes[sender].api().state(&id, "email", "sent").await;
        for mail in relay.received().split_off(tried) {
            let header = mail.header("list-unsubscribe").expect("a link");
            let path = header.split("https://notify.example.org").nth(1).unwrap().split('>').next().unwrap().to_owned();
            assert_eq!(nodes[reader].api().anonymous().get(&path).await.status, 200, "{path}");
            tried += 1;
        }
    }
    assert_eq!(tried, 2);
}

/// A node that is ready, takes each POST and dies over it.
struct Dying {
    address: SocketAddr,
    posts: Arc<AtomicU32>,
}

impl Dying {
    async fn start(dies: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, posts) = (listener.local_addr().unwrap(), Arc::new(AtomicU32::new(0)));
        let counted = posts.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, counted.clone(), dies));
            }
        });
        Self { address, posts }
    }
    fn posts(&self) -> u32 {
        self.posts.load(Ordering::SeqCst)
    }
}

async fn answer(mut stream: TcpStream, posts: Arc<AtomicU32>, dies: bool) {
    let mut head = [0u8; 8192];
    let Ok(n @ 1..) = stream.read(&mut head).await else { return };
    if head[..n].starts_with(b"POST") {
        posts.fetch_add(1, Ordering::SeqCst);
        if dies {
            return;
        }
    }
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok").await;
}

/// A POST that reached a node is the caller's to repeat: the other node must not see it unasked.
async fn a_sent_post_is_not_sent_again(kind: Kind) {
    let (dying, other) = (Dying::start(true).await, Dying::start(true).await);
    let balancer = Balancer::start(kind, [dying.address, other.address]).await;
    let api = Api::new(&balancer.url(""), "key");
    for n in 1..=6 {
        // An error page, or a closed connection: either way the caller knows that it does not know.
        if let Ok(reply) = api.try_run(api.request("POST", "/api/v1/notifications").body("{}")).await {
            assert!(matches!(reply.status, 502 | 503), "{} {}", reply.status, reply.text);
        }
        assert!(dying.posts() + other.posts() <= n, "a request was sent twice");
    }
    assert!(dying.posts() + other.posts() >= 2, "nothing was sent");
}

/// A port that is closed costs the caller nothing, POST or not.
async fn a_closed_port_is_passed_over(kind: Kind) {
    let alive = Dying::start(false).await;
    let balancer = Balancer::start(kind, [free_address(), alive.address]).await;
    let api = Api::new(&balancer.url(""), "key");
    for n in 1..=12 {
        let reply = api.run(api.request("POST", "/api/v1/notifications").body("{}")).await;
        assert_eq!((reply.status, alive.posts()), (200, n), "{}", reply.text);
    }
}

#[tokio::test]
async fn haproxy_sends_no_post_twice() {
    a_sent_post_is_not_sent_again(Kind::Haproxy).await;
    a_closed_port_is_passed_over(Kind::Haproxy).await;
}

#[tokio::test]
async fn nginx_sends_no_post_twice() {
    a_sent_post_is_not_sent_again(Kind::Nginx).await;
    a_closed_port_is_passed_over(Kind::Nginx).await;
}
