//! Pages that may connect, and those that may not.

use campanile_tests::{prelude::*, token, unique};

#[tokio::test]
async fn own_and_listed_origins_pass_and_tricks_do_not() {
    let host = TestHost::builder().set("websocket.origins", "[\"https://app.example.org\"]").start().await;
    let token = token::user(&unique("u"));
    let own = host.address();
    let connect = || Connect::to(&host).token(&token);
    for good in [format!("http://{own}"), format!("http://localhost:{}", own.port()), "https://app.example.org".into()]
    {
        connect().origin(&good).open().await.settle().await;
    }
    for bad in [
        "null".to_owned(),
        "https://evil.example.org".into(),
        "https://app.example.org.evil.org".into(),
        "https://sub.app.example.org".into(),
        "http://app.example.org".into(),
        "https://app.example.org:8443".into(),
        format!("http://127.0.0.1:{}", own.port().wrapping_add(1)),
        "file://".into(),
        "garbage".into(),
    ] {
        assert_eq!(connect().origin(&bad).refused().await.status, 403, "{bad}");
        assert_eq!(connect().v1().origin(&bad).refused().await.status, 403, "{bad}");
        let bearer = format!("Bearer {token}");
        let stream =
            EventStream::open(&host.url("/sse/notifications"), &[("authorization", &bearer), ("origin", &bad)]).await;
        assert_eq!(stream.err(), Some(403), "{bad}");
    }
    // Node, wscat and phones send none.
    connect().open().await.settle().await;
}

#[tokio::test]
async fn a_rebound_name_is_refused() {
    let host = TestHost::shared().await;
    let token = token::user(&unique("u"));
    let port = host.address().port();
    let evil = format!("evil.example.org:{port}");
    let refused = Connect::to(host).token(&token).host(&evil).origin(&format!("http://{evil}")).refused().await;
    assert_eq!(refused.status, 403);
    assert_eq!(Connect::to(host).token(&token).host(&evil).refused().await.status, 403);
    Connect::to(host).token(&token).host(&format!("localhost:{port}")).open().await.settle().await;
}

#[tokio::test]
async fn the_public_url_is_an_origin() {
    let host = TestHost::builder().text("server.public_url", "https://notify.example.org").start().await;
    let token = token::user(&unique("u"));
    let connect = || Connect::to(&host).token(&token).host("notify.example.org");
    connect().origin("https://notify.example.org").open().await.settle().await;
    assert_eq!(connect().origin("https://other.example.org").refused().await.status, 403);
}

#[tokio::test]
async fn dev_adds_loopback_pages_on_any_port() {
    let host = TestHost::builder().dev().start().await;
    let token = token::user(&unique("u"));
    for origin in ["http://localhost:3000", "http://127.0.0.1:5173", "http://[::1]:8080"] {
        Connect::to(&host).token(&token).origin(origin).open().await.settle().await;
    }
    for origin in ["https://evil.example.org", "null", "http://localhost.evil.org:3000"] {
        assert_eq!(Connect::to(&host).token(&token).origin(origin).refused().await.status, 403, "{origin}");
    }
}
