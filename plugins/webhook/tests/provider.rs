//! Against a scripted endpoint.
#![allow(clippy::unwrap_used)] // The helpers of tests panic as tests do.

use campanile_plugin::{
    prelude::*,
    testing::{Harness, Sample, block_on, conformance},
};
use campanile_webhook::{Webhook, signature};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OLD: &str = "whsec_b2xkIHNlY3JldHMgYXJlIHNlY3JldHMsIHRvbw==";

fn fixed() -> Value {
    json!({ "url": "https://example.org/in", "secret": SECRET, "old_secrets": [OLD], "authorization": "Bearer 7",
            "headers": { "x-team": "shop" } })
}

async fn start(config: Value) -> Harness<Webhook> {
    Harness::start(config).await.unwrap()
}

#[test]
fn passes_the_exam() {
    conformance::<Webhook>(&fixed(), &Sample::to("shop"));
}

#[test]
fn every_current_secret_signs_and_the_id_stays() {
    block_on(async {
        let hook = start(fixed()).await;
        let sample = Sample::to("shop").id("0190c0de-0000-7000-8000-00000000000a");
        assert_eq!(hook.deliver_ok(&sample).await.detail, Some(json!({ "http_status": 200 })));
        hook.deliver_ok(&sample.clone().attempt(2)).await;
        let requests = hook.script().requests();
        assert_eq!(requests[0].body, requests[1].body);
        let (request, body) = (&requests[0], String::from_utf8(requests[0].body.clone()).unwrap());
        assert_eq!(request.headers["webhook-id"], "0190c0de-0000-7000-8000-00000000000a");
        let time = request.headers["webhook-timestamp"].parse().unwrap();
        let expected =
            [SECRET, OLD].map(|s| signature(&Secret::new(s), &request.headers["webhook-id"], time, &body).unwrap());
        assert_eq!(request.headers["webhook-signature"], expected.join(" "));
        assert_eq!((&*request.headers["x-team"], &*request.headers["authorization"]), ("shop", "Bearer 7"));
        assert_eq!(request.headers["content-type"], "application/json");
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((&body["type"], &body["data"]["message"]), (&json!("general"), &json!("Hello Ada.")));
        assert_eq!((&body["data"]["user_id"], &body["data"]["recipient"]), (&json!("ada"), &json!("shop")));
    });
}

#[test]
fn what_the_answers_of_our_endpoint_mean() {
    block_on(async {
        let hook = start(fixed()).await;
        let sample = Sample::to("shop");
        let next = |status| {
            hook.script().reply(HttpReply::new(status, "so it is").with_header("retry-after", "7"));
        };
        next(429);
        assert_eq!(hook.expect_throttled(&sample).await.0, Some(Duration::from_secs(7)));
        next(503);
        assert_eq!(hook.expect_retry(&sample).await.code, "http_503");
        next(410);
        assert!(hook.expect_misconfigured(&sample).await.message.contains("gone for good"));
        next(401);
        hook.expect_misconfigured(&sample).await;
        next(308);
        assert!(hook.expect_misconfigured(&sample).await.message.contains("redirects"));
        next(422);
        hook.expect_permanent(&sample).await;
        hook.script().fail(HttpError::parse("timeout: no answer within 30 s"));
        assert!(hook.expect_retry(&sample).await.uncertain);
        hook.script().fail(HttpError::parse("refused: 10.0.0.1 is a private address"));
        hook.expect_permanent(&sample).await;
        // Garbage in a 200 is a success all the same: nobody promised what it says.
        hook.script().reply(HttpReply::new(200, vec![0xff, 0, 0x1b]));
        hook.deliver_ok(&sample).await;
    });
}

#[test]
fn an_endpoint_of_a_user_fails_for_itself() {
    block_on(async {
        let hook = start(json!({ "secret": SECRET })).await;
        let sample = Sample::to("https://customer.example.org/hook");
        hook.deliver_ok(&sample).await;
        assert_eq!(hook.script().requests()[0].url, "https://customer.example.org/hook");
        for status in [429, 401, 404, 308, 500] {
            hook.script().reply(HttpReply::new(status, ""));
            hook.expect_retry(&sample).await;
        }
        hook.script().reply(HttpReply::new(410, ""));
        hook.expect_gone(&sample).await;
        for bad in ["", "shop", "file:///etc/passwd", "https://user:pw@example.org"] {
            assert_eq!(hook.expect_permanent(&Sample::to(bad)).await.code, "unsupported_address");
        }
    });
}

#[test]
fn a_slow_endpoint_is_let_go_when_the_host_says_so() {
    let hook = block_on(start(fixed()));
    hook.script().hold();
    let mut handed = hook.instance().hand_over(&[Sample::to("shop").0]);
    hook.script().wait_until("the request is out", |s| s.held() == 1);
    hook.instance().cancel(handed[0].token);
    let end = block_on(handed.remove(0).end());
    assert!(end.into_delivery().is_err());
}

#[test]
fn after_days_of_failure_it_says_so_until_something_works() {
    block_on(async {
        let mut config = fixed();
        config["fail_after"] = json!("1ms");
        let hook = start(config).await;
        assert_eq!(hook.health().await, Health::Ok);
        hook.script().reply(HttpReply::new(500, "")).reply(HttpReply::new(502, "on fire"));
        hook.expect_retry(&Sample::to("shop")).await;
        std::thread::sleep(Duration::from_millis(2));
        hook.expect_retry(&Sample::to("shop")).await;
        let Health::Failing(why) = hook.health().await else { panic!("it fails") };
        assert!(why.contains("for 1ms") && why.contains("on fire"), "{why}");
        hook.deliver_ok(&Sample::to("shop")).await;
        assert_eq!(hook.health().await, Health::Ok);

        let patient = start(fixed()).await;
        patient.script().reply(HttpReply::new(500, ""));
        patient.expect_retry(&Sample::to("shop")).await;
        assert!(matches!(patient.health().await, Health::Degraded(_)));
    });
}

#[test]
fn a_wrong_configuration_is_named_by_key() {
    let of = |change: &dyn Fn(&mut Value)| {
        let mut config = fixed();
        change(&mut config);
        block_on(Harness::<Webhook>::start(config)).err().map(|e| e.to_string()).unwrap_or_default()
    };
    assert!(of(&|c| c["secret"] = json!("hunter2")).starts_with("secret: must be whsec_"));
    assert!(of(&|c| c["old_secrets"][0] = json!("")).contains("old_secrets.0"));
    for header in ["webhook-id", "Host", "content-length", "x-", "x-a\r\nb", "transfer-encoding"] {
        assert!(of(&|c| c["headers"] = json!({ header: "1" })).contains("can't be set"), "{header}");
    }
    assert!(of(&|c| c["headers"] = json!({ "x-a": "1\r\nx-b: 2" })).contains("control characters"));
    assert!(of(&|c| c["fail_after"] = json!("0s")).contains("fail_after"));
    assert!(of(&|c| c["url"] = json!("ftp://example.org")).contains("url"));
}
