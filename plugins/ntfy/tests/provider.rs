//! Against a scripted server.
#![allow(clippy::unwrap_used)] // The helpers of tests panic as tests do.

use campanile_ntfy::Ntfy;
use campanile_plugin::{
    prelude::*,
    testing::{Harness, Sample, block_on, conformance},
};

fn config() -> Value {
    json!({ "server": "https://ntfy.example.org", "token": "tk_1", "tags": ["bell"] })
}

async fn start(config: Value) -> Harness<Ntfy> {
    Harness::start(config).await.unwrap()
}

fn sample() -> Sample {
    Sample::to("ada-phone")
}

#[test]
fn passes_the_exam() {
    conformance::<Ntfy>(&config(), &sample());
    conformance::<Ntfy>(&json!({ "user": "u", "password": "p" }), &sample());
}

#[test]
fn publishes_with_priority_tags_and_a_click() {
    block_on(async {
        let ntfy = start(config()).await;
        ntfy.script().reply(HttpReply::new(200, r#"{"id": "hwQ2YpKdmg", "event": "message"}"#));
        let sent = sample().message(&json!({ "priority": "high", "data": { "url": "https://example.org/7" } }));
        assert_eq!(ntfy.deliver_ok(&sent).await.provider_id.as_deref(), Some("hwQ2YpKdmg"));
        let request = &ntfy.script().requests()[0];
        assert_eq!((&*request.url, &*request.headers["authorization"]), ("https://ntfy.example.org", "Bearer tk_1"));
        assert_eq!(
            serde_json::from_slice::<Value>(&request.body).unwrap(),
            json!({ "topic": "ada-phone", "title": "Hello", "message": "Hello Ada.", "priority": 4, "tags": ["bell"],
                    "click": "https://example.org/7" })
        );
        // Nobody's phone runs what a sender wrote.
        ntfy.deliver_ok(&sample().message(&json!({ "priority": "low", "data": { "url": "javascript:alert(1)" } })))
            .await;
        let body: Value = serde_json::from_slice(&ntfy.script().requests()[1].body).unwrap();
        assert_eq!((body.get("click"), &body["priority"]), (None, &json!(2)));
        ntfy.deliver_ok(&sample().text("é".repeat(5000))).await;
        let body: Value = serde_json::from_slice(&ntfy.script().requests()[2].body).unwrap();
        let text = body["message"].as_str().unwrap();
        assert!(text.len() <= 4096 && text.ends_with('…'));
    });
}

#[test]
fn what_the_answers_mean() {
    block_on(async {
        let ntfy = start(config()).await;
        let next = |status| {
            ntfy.script()
                .reply(HttpReply::new(status, r#"{"code": 1, "error": "so it is"}"#).with_header("retry-after", "9"));
        };
        next(429);
        assert_eq!(ntfy.expect_throttled(&sample()).await.0, Some(Duration::from_secs(9)));
        next(500);
        ntfy.expect_retry(&sample()).await;
        next(507);
        ntfy.expect_retry(&sample()).await;
        next(401);
        ntfy.expect_misconfigured(&sample()).await;
        next(403);
        assert_eq!(ntfy.expect_permanent(&sample()).await.code, "http_403");
        next(404);
        ntfy.expect_gone(&sample()).await;
        next(413);
        ntfy.expect_permanent(&sample()).await;
        ntfy.script().reply(HttpReply::new(200, "<html>hello</html>"));
        let reason = ntfy.expect_retry(&sample()).await;
        assert!(reason.code == "bad_answer" && reason.uncertain);
        ntfy.script().fail(HttpError::parse("connect: no route"));
        assert!(!ntfy.expect_retry(&sample()).await.uncertain);
        for bad in ["", "a topic", "a/b", &"x".repeat(65), "../v1"] {
            assert_eq!(ntfy.expect_permanent(&Sample::to(bad)).await.code, "unsupported_address");
        }
    });
}

#[test]
fn a_slow_server_is_let_go_when_the_host_says_so() {
    let ntfy = block_on(start(config()));
    ntfy.script().hold();
    let mut handed = ntfy.instance().hand_over(&[sample().0]);
    ntfy.script().wait_until("the request is out", |s| s.held() == 1);
    ntfy.instance().cancel(handed[0].token);
    assert!(block_on(handed.remove(0).end()).into_delivery().is_err());
}

#[test]
fn a_wrong_configuration_is_named_by_key() {
    let of = |config| block_on(Harness::<Ntfy>::start(config)).err().map(|e| e.to_string()).unwrap_or_default();
    assert!(of(json!({ "priorities": { "high": 6 } })).starts_with("priorities.high: "));
    assert!(of(json!({ "token": "tk_1", "user": "u", "password": "p" })).starts_with("token: "));
    assert!(of(json!({ "user": "u" })).starts_with("user: "));
    assert!(of(json!({ "tags": ["a,b"] })).starts_with("tags: "));
}
