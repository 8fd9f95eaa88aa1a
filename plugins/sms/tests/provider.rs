//! Against scripted providers.
#![allow(clippy::unwrap_used)] // The helpers of tests panic as tests do.

use campanile_plugin::{
    prelude::*,
    testing::{Harness, Sample, Script, block_on, conformance, conformance_on},
};
use campanile_sms::Sms;
use std::sync::Arc;

const ACCOUNT: &str = "AC0123456789abcdef0123456789abcdef";

fn config() -> Value {
    json!({ "account": ACCOUNT, "token": "s3cret", "from": "+15005550006" })
}

fn twilio() -> Arc<Script> {
    let script = Script::new();
    script.respond(|_| Ok(HttpReply::new(201, r#"{"sid": "SM1", "error_code": null, "status": "queued"}"#)));
    script
}

fn custom() -> Value {
    json!({ "account": "shop", "token": "k3y", "from": "Shop", "custom": {
        "url": "https://sms.example.org/v1/{account}/send", "auth": "header", "auth_header": "x-api-key",
        "json": { "to": "{to}", "body": "{text}", "ref": ["{id}"], "flash": false },
        "id_pointer": "/messages/0/id", "code_pointer": "/error",
        "codes": { "7": "gone", "8": "misconfigured", "9": "throttled", "busy": "retry", "spam": "permanent" },
    } })
}

async fn start(config: Value) -> Harness<Sms> {
    Harness::start_on(config, twilio()).await.unwrap()
}

fn sample() -> Sample {
    Sample::to("+4915112345678")
}

#[test]
fn passes_the_exam() {
    conformance_on::<Sms>(&config(), &sample(), twilio);
    let mut lenient = custom();
    lenient["custom"]["id_pointer"] = json!("");
    conformance::<Sms>(&lenient, &sample());
}

#[test]
fn speaks_like_twilio() {
    block_on(async {
        let sms = start(config()).await;
        let receipt = sms.deliver_ok(&sample().text("1 + 1 = 2 & ok")).await;
        assert_eq!((receipt.provider_id.as_deref(), receipt.detail), (Some("SM1"), Some(json!({ "segments": 1 }))));
        let request = &sms.script().requests()[0];
        assert_eq!(request.url, format!("https://api.twilio.com/2010-04-01/Accounts/{ACCOUNT}/Messages.json"));
        assert_eq!(request.body, b"To=%2B4915112345678&From=%2B15005550006&Body=Hello%3A+1+%2B+1+%3D+2+%26+ok");
        assert!(request.headers["authorization"].starts_with("Basic "));
        let receipt = sms.deliver_ok(&sample().text("ж".repeat(1000))).await;
        assert_eq!(receipt.detail, Some(json!({ "segments": 3 })));

        let mut service = config();
        service["from"] = json!("MG0123456789abcdef0123456789abcdef");
        let sms = start(service).await;
        sms.deliver_ok(&sample()).await;
        assert!(String::from_utf8_lossy(&sms.script().requests()[0].body).contains("&MessagingServiceSid=MG0"));
    });
}

#[test]
fn what_twilios_answers_mean() {
    block_on(async {
        let sms = start(config()).await;
        let next = |status: u16, code: u32| {
            let body = json!({ "code": code, "message": "so it is", "status": status }).to_string();
            sms.script().reply(HttpReply::new(status, body).with_header("retry-after", "4"));
        };
        for code in [21211, 21610, 21614] {
            next(400, code);
            assert_eq!(sms.expect_gone(&sample()).await.code, format!("twilio_{code}"));
        }
        next(400, 21408);
        sms.expect_permanent(&sample()).await;
        for (status, code) in [(400, 21606), (401, 20003), (404, 20404)] {
            next(status, code);
            sms.expect_misconfigured(&sample()).await;
        }
        next(429, 20429);
        assert_eq!(sms.expect_throttled(&sample()).await.0, Some(Duration::from_secs(4)));
        next(429, 1);
        assert_eq!(sms.expect_throttled(&sample()).await.0, Some(Duration::from_secs(4)));
        next(503, 20503);
        sms.expect_retry(&sample()).await;
        next(400, 99999);
        assert_eq!(sms.expect_permanent(&sample()).await.code, "http_400");
        sms.script().reply(HttpReply::new(500, "<html>"));
        sms.expect_retry(&sample()).await;
        for garbage in ["<html>Sign in</html>", "{}", "", "[1]"] {
            sms.script().reply(HttpReply::new(200, garbage));
            let reason = sms.expect_retry(&sample()).await;
            assert!(reason.code == "bad_answer" && reason.uncertain, "{garbage}");
        }
        sms.script().fail(HttpError::parse("timeout: no answer"));
        assert!(sms.expect_retry(&sample()).await.uncertain);
        for bad in ["", "015112345678", "+0151", "+49 151 12345678", "+4915112345678901", "ada"] {
            assert_eq!(sms.expect_permanent(&Sample::to(bad)).await.code, "unsupported_address", "{bad}");
        }
    });
}

#[test]
fn speaks_like_another_provider_when_told_how() {
    block_on(async {
        let sms = start(custom()).await;
        sms.script().reply(HttpReply::new(200, r#"{"messages": [{"id": 12}]}"#));
        let receipt = sms.deliver_ok(&sample().id("id-1").text("say \"{token}\"")).await;
        assert_eq!(receipt.provider_id.as_deref(), Some("12"));
        let request = &sms.script().requests()[0];
        assert_eq!((&*request.url, &*request.headers["x-api-key"]), ("https://sms.example.org/v1/shop/send", "k3y"));
        assert_eq!(
            serde_json::from_slice::<Value>(&request.body).unwrap(),
            json!({ "to": "+4915112345678", "body": "Hello: say \"{token}\"", "ref": ["id-1"], "flash": false })
        );
        let next = |said: Value| {
            sms.script().reply(HttpReply::new(200, json!({ "error": said }).to_string()));
        };
        next(json!(7));
        sms.expect_gone(&sample()).await;
        next(json!("8"));
        sms.expect_misconfigured(&sample()).await;
        next(json!(9));
        sms.expect_throttled(&sample()).await;
        next(json!("busy"));
        sms.expect_retry(&sample()).await;
        next(json!("spam"));
        sms.expect_permanent(&sample()).await;
        next(json!(null));
        assert_eq!(sms.expect_retry(&sample()).await.code, "bad_answer");
        sms.script().reply(HttpReply::new(401, ""));
        sms.expect_misconfigured(&sample()).await;
    });
}

#[test]
fn a_slow_provider_is_let_go_when_the_host_says_so() {
    let sms = block_on(start(config()));
    sms.script().hold();
    let mut handed = sms.instance().hand_over(&[sample().0]);
    sms.script().wait_until("the request is out", |s| s.held() == 1);
    sms.instance().cancel(handed[0].token);
    assert!(block_on(handed.remove(0).end()).into_delivery().is_err());
}

#[test]
fn a_wrong_configuration_is_named_by_key() {
    let of = |base: fn() -> Value, pointer: &str, value: Value| {
        let mut config = base();
        *config.pointer_mut(pointer).unwrap() = value;
        block_on(Harness::<Sms>::start(config)).err().map(|e| e.to_string()).unwrap_or_default()
    };
    assert!(of(config, "/account", json!("AC/../x")).starts_with("account: "));
    assert!(of(config, "/token", json!("")).starts_with("token: "));
    assert!(of(config, "/from", json!("")).starts_with("from: "));
    assert!(of(custom, "/custom/url", json!("https://x/{token}")).starts_with("custom.url: "));
    assert!(of(custom, "/custom/url", json!("https://{account}/x")).starts_with("custom.url: "));
    assert!(of(custom, "/custom/url", json!("ftp://x")).starts_with("custom.url: "));
    assert!(of(custom, "/custom/json/body", json!("{body}")).starts_with("custom.json.body: "));
    assert!(of(custom, "/custom/json", json!(null)).starts_with("custom: set form or json"));
    assert!(of(custom, "/custom/auth", json!("basic")).starts_with("custom.auth_header: "));
    assert!(of(custom, "/custom/id_pointer", json!("id")).starts_with("custom.id_pointer: "));
    assert!(of(custom, "/custom/codes/7", json!("dead")).contains("custom.codes"));
}
