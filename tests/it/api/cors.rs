//! Who may call from a page: `/api/v1/me` and `/sse` from the listed origins, nothing else.

use campanile_tests::prelude::*;

async fn preflight(host: &TestHost, path: &str, origin: &str) -> Reply {
    let api = host.api().anonymous();
    let request = api.request("OPTIONS", path).header("origin", origin);
    let request = request.header("access-control-request-method", "GET");
    api.run(request.header("access-control-request-headers", "authorization")).await
}

#[tokio::test]
async fn listed_origins_may_read_me_and_streams_and_no_one_else() {
    let host = TestHost::builder().set("websocket.origins", "[\"https://app.example.org\"]").start().await;
    for path in ["/api/v1/me/notifications", "/api/v1/me/unread_count", "/sse/notifications"] {
        let good = preflight(&host, path, "https://app.example.org").await;
        assert_eq!(good.header("access-control-allow-origin"), "https://app.example.org", "{path}");
        assert!(good.header("access-control-allow-headers").to_lowercase().contains("authorization"), "{path}");
        assert_eq!(good.header("access-control-allow-credentials"), "", "no cookies: {path}");
        for origin in
            ["https://evil.example.org", "https://app.example.org.evil.org", "https://app.example.org:444", "null"]
        {
            let bad = preflight(&host, path, origin).await;
            assert_eq!(bad.header("access-control-allow-origin"), "", "{path} from {origin}");
        }
    }
    let apps = preflight(&host, "/api/v1/notifications", "https://app.example.org").await;
    assert_eq!(apps.header("access-control-allow-origin"), "");
    let me = host.me("ada");
    let answer = me.run(me.request("GET", "/api/v1/me/unread_count").header("origin", "https://app.example.org")).await;
    assert_eq!(answer.header("access-control-allow-origin"), "https://app.example.org");
    assert!(answer.header("vary").to_lowercase().contains("origin"), "caches must know: {:?}", answer.headers);
}
