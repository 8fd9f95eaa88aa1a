//! Against a scripted Bot API.
#![allow(clippy::unwrap_used)] // The helpers of tests panic as tests do.

use campanile_plugin::{
    prelude::*,
    testing::{Harness, Sample, Script, block_on, conformance_on},
};
use campanile_telegram::Telegram;
use std::sync::Arc;

const TOKEN: &str = "123456:AAF-abcdefghijklmnopqrstuvwxyz012345";

fn config() -> Value {
    json!({ "token": TOKEN })
}

fn api() -> Arc<Script> {
    let script = Script::new();
    script.respond(|_| Ok(HttpReply::new(200, r#"{"ok": true, "result": {"message_id": 77}}"#)));
    script
}

async fn start(config: Value) -> Harness<Telegram> {
    Harness::start_on(config, api()).await.unwrap()
}

fn body(telegram: &Harness<Telegram>) -> Value {
    serde_json::from_slice(&telegram.script().requests().last().unwrap().body).unwrap()
}

#[test]
fn passes_the_exam() {
    conformance_on::<Telegram>(&config(), &Sample::to("4711"), api);
}

#[test]
fn sends_data_and_never_markup() {
    block_on(async {
        let telegram = start(config()).await;
        let sample = Sample::to("-1004711").subject("Disk <b>full</b> & hot").text("1 < 2\n<a href='x'>y</a>");
        assert_eq!(telegram.deliver_ok(&sample).await.provider_id.as_deref(), Some("77"));
        assert_eq!(telegram.script().requests()[0].url, format!("https://api.telegram.org/bot{TOKEN}/sendMessage"));
        assert_eq!(
            body(&telegram),
            json!({ "chat_id": "-1004711", "parse_mode": "HTML", "link_preview_options": { "is_disabled": true },
                    "text": "<b>Disk &lt;b&gt;full&lt;/b&gt; &amp; hot</b>\n1 &lt; 2\n&lt;a href='x'&gt;y&lt;/a&gt;" })
        );
        telegram.deliver_ok(&Sample::to("@status").message(&json!({ "priority": "low" }))).await;
        assert_eq!(body(&telegram)["disable_notification"], true);

        let plain = start(json!({ "token": TOKEN, "format": "plain", "link_preview": true })).await;
        plain.deliver_ok(&sample.clone().text("😀".repeat(3000))).await;
        let body = body(&plain);
        let text = body["text"].as_str().unwrap();
        assert!(text.starts_with("Disk <b>full</b> & hot\n") && text.ends_with('…'));
        assert!((4090..=4096).contains(&text.encode_utf16().count()));
        assert_eq!(body.get("parse_mode"), None);
    });
}

#[test]
fn what_the_answers_mean() {
    block_on(async {
        let telegram = start(config()).await;
        let sample = Sample::to("4711");
        let next = |status: u16, said: &str, parameters: Value| {
            let body = json!({ "ok": false, "error_code": status, "description": said, "parameters": parameters });
            telegram.script().reply(HttpReply::new(status, body.to_string()));
        };
        next(429, "Too Many Requests: retry after 14", json!({ "retry_after": 14 }));
        assert_eq!(telegram.expect_throttled(&sample).await.0, Some(Duration::from_secs(14)));
        for (status, said) in [
            (403, "Forbidden: bot was blocked by the user"),
            (403, "Forbidden: user is deactivated"),
            (400, "Bad Request: chat not found"),
        ] {
            next(status, said, json!({}));
            assert!(telegram.expect_gone(&sample).await.message.contains(said));
        }
        next(400, "Bad Request: group chat was upgraded to a supergroup chat", json!({ "migrate_to_chat_id": -1009 }));
        assert_eq!(telegram.expect_gone(&sample).await.detail, Some(json!({ "migrate_to_chat_id": -1009 })));
        next(400, "Bad Request: message text is empty", json!({}));
        telegram.expect_permanent(&sample).await;
        for status in [401, 404] {
            next(status, "Unauthorized", json!({}));
            let reason = telegram.expect_misconfigured(&sample).await;
            assert!(reason.message.contains("token is refused") && !reason.message.contains(TOKEN));
        }
        next(500, "Internal Server Error", json!({}));
        assert_eq!(telegram.expect_retry(&sample).await.code, "telegram_500");
        telegram.script().reply(HttpReply::new(502, "<html>Bad Gateway</html>"));
        assert_eq!(telegram.expect_retry(&sample).await.code, "http_502");
        for garbage in ["<html>Sign in</html>", "{}", r#"{"ok": true}"#, ""] {
            telegram.script().reply(HttpReply::new(200, garbage));
            let reason = telegram.expect_retry(&sample).await;
            assert!(reason.code == "bad_answer" && reason.uncertain, "{garbage}");
        }
        telegram.script().fail(HttpError::parse("timeout: no answer"));
        assert!(telegram.expect_retry(&sample).await.uncertain);
        for bad in ["", "0", "ada", "@ab", "+4711", "4711/../x", "@name with blank"] {
            assert_eq!(telegram.expect_permanent(&Sample::to(bad)).await.code, "unsupported_address", "{bad}");
        }
    });
}

#[test]
fn a_slow_api_is_let_go_when_the_host_says_so() {
    let telegram = block_on(start(config()));
    telegram.script().hold();
    let mut handed = telegram.instance().hand_over(&[Sample::to("4711").0]);
    telegram.script().wait_until("the request is out", |s| s.held() == 1);
    telegram.instance().cancel(handed[0].token);
    assert!(block_on(handed.remove(0).end()).into_delivery().is_err());
}

#[test]
fn a_wrong_configuration_is_named_by_key() {
    for token in
        ["", "123456", "abc:AAF-abcdefghijklmnopqrstuvwxyz012345", "1:a/../../b", "1:AAF abcdefghijklmnopqrstuv"]
    {
        let Err(error) = block_on(Harness::<Telegram>::start(json!({ "token": token }))) else { panic!("{token}") };
        assert!(error.to_string().starts_with("token: must be a bot's token"), "{error}");
    }
}
