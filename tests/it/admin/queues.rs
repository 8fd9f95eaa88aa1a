//! Queues, without scripts: what waits, pausing with a reason and an end, undo.

use super::browser::{Stream, signed_in};
use campanile_tests::{TestHost, prelude::*, smtp::SmtpServer};
use reqwest::StatusCode;

#[tokio::test]
async fn a_channel_is_paused_with_a_reason_and_what_is_held_goes_out_once() {
    let relay = SmtpServer::start().await;
    let host = TestHost::builder().mail_to(relay.address).start().await;
    let mut dana = signed_in(&host, "dana", "operator").await;
    let token = dana.token().await;
    let page = dana.get("/admin/queues").await;
    assert!(page.body.contains("id=\"q-email\"") && page.body.contains("empty"), "{}", page.body);

    let why = "relay <img src=x onerror=alert(1)> moves";
    let form = [("csrf", token.as_str()), ("back", "/admin/queues/email"), ("reason", why), ("minutes", "15")];
    let paused = dana.post("/admin/channels/email/pause", &form).await;
    assert_eq!(paused.location.as_deref(), Some("/admin/queues/email"));
    let page = dana.get("/admin/queues/email").await;
    assert!(page.body.contains("email is paused until") && page.body.contains("Undo"), "{}", page.body);
    assert!(page.body.contains("moves") && !page.body.contains("<img"));
    for n in 0..3 {
        let to = json!([{"user_id": format!("u{n}"), "email": format!("u{n}@example.org")}]);
        host.api().accepted(&json!({"to": to, "title": "held", "channels": ["email"]})).await;
    }
    let mut stream = Stream::open(&dana, "/admin/live?page=queue&channel=email&range=1h").await;
    let held = |class: &str, n: u32| {
        let to = "/admin/notifications?q=channel:email%20status:waiting";
        format!("<dt>Held</dt><dd class=\"{class}\"><a href=\"{to}\">{n}</a></dd>")
    };
    stream.until("three are held", |t| t.contains(&held("warn", 3))).await;
    assert!(relay.received().is_empty());

    // The message's own button takes it back.
    let undone = dana.post("/admin/channels/email/resume", &[("csrf", &token), ("back", "/admin/queues/email")]).await;
    assert_eq!(undone.status, StatusCode::SEE_OTHER);
    assert_eq!(relay.wait_for(3).await.len(), 3);
    // Behind the last frame that had three: the first ones may have had none yet.
    stream
        .until("nothing is held", |t| t.rsplit(&held("warn", 3)).next().is_some_and(|t| t.contains(&held("", 0))))
        .await;
    let page = dana.get("/admin/queues/email?table=1").await;
    assert!(page.body.contains("paused by dana") | page.body.contains("<table>"), "as a table too");

    for minutes in ["0", "-5", "soon", "999999999"] {
        let wrong = dana.post("/admin/channels/email/pause", &[("csrf", &token), ("minutes", minutes)]).await;
        assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY, "{minutes}");
    }
    assert_eq!(dana.get("/admin/queues/nothing").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn with_scripts_an_act_answers_with_its_message_alone() {
    let host = TestHost::start().await;
    let mut dana = signed_in(&host, "dana", "operator").await;
    let token = dana.token().await;
    let request = dana
        .http
        .post(format!("{}/admin/channels/websocket/pause", dana.base))
        .header("hx-request", "true")
        .header("origin", &dana.base)
        .header("content-type", super::browser::FORM)
        .body(super::browser::encoded(&[("csrf", &token), ("back", "/admin/queues")]));
    let answer = dana.send(request).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert!(
        answer.body.starts_with("<hx-partial hx-target=\"#toasts\"") && answer.body.contains("Undo"),
        "{}",
        answer.body
    );
    let request = dana
        .http
        .post(format!("{}/admin/channels/websocket/pause", dana.base))
        .header("hx-request", "true")
        .header("content-type", super::browser::FORM)
        .body(super::browser::encoded(&[("csrf", "stale")]));
    let refused = dana.send(request).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert!(refused.body.contains("toast bad"), "a refusal is a message, not JSON: {}", refused.body);
}

#[tokio::test]
async fn a_viewer_sees_queues_and_no_way_to_act() {
    let host = TestHost::start().await;
    let mut vera = signed_in(&host, "vera", "viewer").await;
    for path in ["/admin/queues", "/admin/queues/email"] {
        let page = vera.get(path).await;
        assert_eq!(page.status, StatusCode::OK);
        assert!(!page.body.contains("/pause\"") && !page.body.contains("/resume\""), "{path}");
    }
    let token = vera.token().await;
    let refused = vera.post("/admin/channels/email/pause", &[("csrf", &token)]).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert!(refused.body.contains("Your role may not do this") && refused.body.contains("operator"));
}
