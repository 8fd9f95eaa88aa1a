//! The outermost layer around small handlers.

use super::*;
use crate::http::{problem::Problem, request_id};
use axum::{
    Router,
    middleware::from_fn_with_state,
    routing::{get, post},
};
use futures_util::stream;
use tower::ServiceExt;

async fn panics() -> &'static str {
    panic!("a bug")
}

async fn hangs() -> &'static str {
    std::future::pending().await
}

fn app(request_timeout: Duration) -> (Router, Arc<Metrics>) {
    let metrics = Arc::new(Metrics::new());
    let app = Router::new()
        .route("/api/id/{name}", get(|| async { request_id() }))
        .route("/panics", get(panics))
        .route("/hangs", post(hangs))
        .route("/reads", post(|_: Bytes| async { "read" }))
        .layer(from_fn_with_state(Shell { metrics: metrics.clone(), request_timeout, keys: None }, observe));
    (app, metrics)
}

async fn ask(app: Router, request: Request) -> (StatusCode, HeaderMap, String) {
    let response = app.oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    (parts.status, parts.headers, String::from_utf8(body.to_vec()).unwrap())
}

const LONG: Duration = Duration::from_mins(1);

#[tokio::test]
async fn a_request_has_one_id_everywhere() {
    let (app, _) = app(LONG);
    let request = Request::get("/api/id/x").header("x-request-id", "mine-1").body(Body::empty()).unwrap();
    let (_, headers, body) = ask(app.clone(), request).await;
    assert_eq!((body.as_str(), headers["x-request-id"].to_str().unwrap()), ("mine-1", "mine-1"));
    assert_eq!(
        (&headers["cache-control"], &headers["x-content-type-options"]),
        (&"no-store".parse().unwrap(), &"nosniff".parse().unwrap())
    );
    let request = Request::get("/api/id/x").header("x-request-id", "mine 1").body(Body::empty()).unwrap();
    let (_, headers, body) = ask(app, request).await;
    assert_eq!(uuid::Uuid::parse_str(&body).unwrap().get_version_num(), 7);
    assert_eq!(headers["x-request-id"].to_str().unwrap(), body);
}

#[tokio::test]
async fn a_panic_is_a_problem_with_the_request_id_and_no_cause() {
    let (app, metrics) = app(LONG);
    let (status, headers, body) = ask(app, Request::get("/panics").body(Body::empty()).unwrap()).await;
    assert_eq!(status, 500);
    let problem: Problem = serde_json::from_str(&body).unwrap();
    assert_eq!(problem.request_id, headers["x-request-id"].to_str().unwrap());
    assert!(!body.contains("a bug"));
    assert!(metrics.render().contains("campanile_panics_total{reason=\"http\"} 1"));
}

#[tokio::test]
async fn a_slow_host_and_a_slow_client_are_told_apart() {
    let (app, _) = app(Duration::from_millis(20));
    let (status, headers, _) = ask(app.clone(), Request::post("/hangs").body(Body::empty()).unwrap()).await;
    assert_eq!(status, 503);
    assert!(headers.contains_key("retry-after"));
    let never = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
    let (status, ..) = ask(app, Request::post("/reads").body(never).unwrap()).await;
    assert_eq!(status, 408);
}

#[tokio::test]
async fn metrics_name_the_route_and_never_the_path() {
    let (app, metrics) = app(LONG);
    for path in ["/api/id/secret-name?token=secret-query", "/secret-nowhere"] {
        ask(app.clone(), Request::get(path).body(Body::empty()).unwrap()).await;
    }
    let odd = Request::builder().method("SECRET").uri("/api/id/x").body(Body::empty()).unwrap();
    ask(app, odd).await;
    let page = metrics.render();
    assert!(page.contains("method=\"GET\",route=\"/api/id/{name}\",status_class=\"2xx\""), "{page}");
    assert!(page.contains("route=\"unmatched\",status_class=\"4xx\""), "{page}");
    assert!(!page.to_lowercase().contains("secret"), "{page}");
}

#[test]
fn only_harmless_request_ids_are_kept() {
    let of = |v: &[u8]| {
        let mut h = HeaderMap::new();
        h.insert(X_REQUEST_ID, HeaderValue::from_bytes(v).unwrap());
        inbound_id(&h)
    };
    assert_eq!(of(b"a-B_9"), Some("a-B_9".to_owned()));
    for bad in [&b""[..], b"a b", b"a\tb", b"{}", "\u{e9}".as_bytes(), &[b'a'; 65]] {
        assert_eq!(of(bad), None, "{bad:?}");
    }
}
