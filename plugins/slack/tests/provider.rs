//! Against scripted services.
#![allow(clippy::unwrap_used)] // The helpers of tests panic as tests do.

use campanile_plugin::{
    prelude::*,
    testing::{Harness, Sample, block_on, conformance},
};
use campanile_slack::Slack;

const URL: &str = "https://hooks.example.org/services/T0/B0/xyz";

async fn start(config: Value) -> Harness<Slack> {
    Harness::start(config).await.unwrap()
}

fn of(service: &str) -> Value {
    json!({ "service": service, "url": URL })
}

async fn sent(hook: &Harness<Slack>, sample: &Sample) -> Value {
    hook.deliver_ok(sample).await;
    serde_json::from_slice(&hook.script().requests().last().unwrap().body).unwrap()
}

fn nasty() -> Sample {
    Sample::to("ops").subject("Disk <full> & hot").text("*now* @channel <!here> [x](http://evil) `rm`")
}

#[test]
fn passes_the_exam() {
    for service in ["slack", "discord", "mattermost", "teams"] {
        conformance::<Slack>(&of(service), &Sample::to("ops"));
    }
}

#[test]
fn nothing_in_a_message_is_markup() {
    block_on(async {
        let slack = start(of("slack")).await;
        slack.script().reply(HttpReply::new(200, "ok"));
        let body = sent(&slack, &nasty()).await;
        let text = "Disk &lt;full&gt; &amp; hot\n*now* @channel &lt;!here&gt; [x](http://evil) `rm`";
        assert_eq!(body, json!({ "text": text, "mrkdwn": false }));

        let discord = start(json!({ "service": "discord", "url": URL, "username": "Campanile" })).await;
        discord.script().reply(HttpReply::new(200, r#"{"id": "42"}"#));
        let receipt = discord.deliver_ok(&nasty()).await;
        assert_eq!(receipt.provider_id.as_deref(), Some("42"));
        let request = &discord.script().requests()[0];
        assert_eq!(request.url, format!("{URL}?wait=true"));
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        assert_eq!((&body["allowed_mentions"]["parse"], &body["username"]), (&json!([]), &json!("Campanile")));
        let text = body["content"].as_str().unwrap();
        assert!(text.starts_with(r"**Disk \<full\> & hot**"), "{text}");
        assert!(text.contains(r"\*now\*") && text.contains(r"\[x\]\(http\://evil\)"), "{text}");

        let mattermost = start(of("mattermost")).await;
        let body = sent(&mattermost, &nasty()).await;
        assert!(body["text"].as_str().unwrap().contains("@\u{200b}channel") && body.get("channel").is_none());
        let body = sent(&mattermost, &Sample::to("@ada")).await;
        assert_eq!(body["channel"], "@ada");
        assert_eq!(sent(&mattermost, &Sample::to("#town-square")).await["channel"], "town-square");

        let teams = start(of("teams")).await;
        let body = sent(&teams, &nasty()).await;
        let card = &body["attachments"][0]["content"]["body"];
        assert_eq!(card[0]["inlines"][0]["text"], "Disk <full> & hot");
        assert_eq!(card[1]["inlines"][0]["text"], "*now* @channel <!here> [x](http://evil) `rm`");
    });
}

#[test]
fn what_is_too_long_is_cut_with_an_ellipsis() {
    block_on(async {
        let long = Sample::to("ops").subject("T<".repeat(600)).text("<*é".repeat(30_000));
        for (service, field, max) in
            [("slack", "text", 40_000), ("discord", "content", 2_000), ("mattermost", "text", 16_383)]
        {
            let hook = start(of(service)).await;
            let body = sent(&hook, &long).await;
            let text = body[field].as_str().unwrap();
            assert!(text.ends_with('…') && text.chars().count() <= max && text.chars().count() > max - 10, "{service}");
        }
        let hook = start(of("teams")).await;
        sent(&hook, &long).await;
        let size = hook.script().requests()[0].body.len();
        assert!(size < 28_000, "{size}");
    });
}

#[test]
fn what_the_answers_of_our_webhook_mean() {
    block_on(async {
        let hook = start(of("slack")).await;
        let next = |status, said: &str| {
            hook.script().reply(HttpReply::new(status, said).with_header("retry-after", "30"));
        };
        let sample = Sample::to("ops");
        next(200, "ok");
        hook.deliver_ok(&sample).await;
        next(429, "rate_limited");
        assert_eq!(hook.expect_throttled(&sample).await.0, Some(Duration::from_secs(30)));
        next(500, "rollup_error");
        assert!(hook.expect_retry(&sample).await.message.contains("rollup_error"));
        for (status, said) in [(403, "action_prohibited"), (404, "no_service"), (410, "channel_is_archived"), (401, "")]
        {
            next(status, said);
            let reason = hook.expect_misconfigured(&sample).await;
            assert!(reason.message.contains("make a new one") && reason.message.contains(said), "{}", reason.message);
        }
        next(400, "invalid_payload");
        hook.expect_permanent(&sample).await;
        next(200, "<html>Sign in</html>");
        let reason = hook.expect_retry(&sample).await;
        assert!(reason.code == "bad_answer" && reason.uncertain);
        hook.script().fail(HttpError::parse("timeout: too slow"));
        assert!(hook.expect_retry(&sample).await.uncertain);

        let discord = start(of("discord")).await;
        discord
            .script()
            .reply(HttpReply::new(429, r#"{"message": "You are being rate limited.", "retry_after": 0.65}"#));
        assert_eq!(discord.expect_throttled(&sample).await.0, Some(Duration::from_millis(650)));
        discord.script().reply(HttpReply::new(200, "<html>"));
        assert_eq!(discord.expect_retry(&sample).await.code, "bad_answer");
    });
}

#[test]
fn a_webhook_of_a_user_can_be_gone() {
    block_on(async {
        let hook = start(json!({})).await;
        let sample = Sample::to(URL);
        for status in [404, 410] {
            hook.script().reply(HttpReply::new(status, "no_service"));
            hook.expect_gone(&sample).await;
        }
        for status in [401, 403, 302] {
            hook.script().reply(HttpReply::new(status, ""));
            hook.expect_permanent(&sample).await;
        }
        hook.script().reply(HttpReply::new(429, "").with_header("retry-after", "3"));
        hook.expect_retry(&sample).await;
        assert_eq!(hook.expect_permanent(&Sample::to("ada")).await.code, "unsupported_address");

        // A channel that was chosen by an address is that address's own.
        let mattermost = start(of("mattermost")).await;
        mattermost.script().reply(HttpReply::new(404, "{}"));
        mattermost.expect_gone(&Sample::to("@nobody")).await;
    });
}

#[test]
fn a_slow_service_is_let_go_when_the_host_says_so() {
    let hook = block_on(start(of("slack")));
    hook.script().hold();
    let mut handed = hook.instance().hand_over(&[Sample::to("ops").0]);
    hook.script().wait_until("the request is out", |s| s.held() == 1);
    hook.instance().cancel(handed[0].token);
    assert!(block_on(handed.remove(0).end()).into_delivery().is_err());
}

#[test]
fn a_wrong_configuration_is_named_by_key() {
    let of = |config| block_on(Harness::<Slack>::start(config)).err().map(|e| e.to_string()).unwrap_or_default();
    assert!(of(json!({ "url": "hooks.slack.com" })).starts_with("url: must begin with https://"));
    assert!(of(json!({ "service": "slack", "username": "Bot" })).starts_with("username: "));
    assert!(of(json!({ "service": "icq" })).contains("service"));
}
