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

/// What the form of a message carries hidden under this name.
fn carried(page: &str, name: &str) -> String {
    let toast = page.split("class=\"toast").nth(1).unwrap_or_else(|| panic!("no message in {page}"));
    let from = toast.split(&format!("name=\"{name}\" value=\"")).nth(1);
    from.unwrap_or_else(|| panic!("no {name} in {toast}")).split('"').next().unwrap().to_owned()
}

#[tokio::test]
async fn a_channel_is_paused_from_its_page_and_each_way_back_restores_what_was() {
    let relay = SmtpServer::start().await;
    let host = TestHost::builder().mail_to(relay.address).start().await;
    let mut dana = signed_in(&host, "dana", "operator").await;
    let token = dana.token().await;
    let csrf = ("csrf", token.as_str());
    let in_force = async || {
        let channels = host.api().get("/api/v1/channels").await.expect(200);
        let all = channels["items"].as_array().unwrap().clone();
        all.into_iter().find(|c| c["name"] == "email").unwrap()["pause"].clone()
    };
    let here = "/admin/channels/email?range=15m";
    let page = dana.get(here).await.body;
    assert!(page.contains("id=\"pause\"") && page.contains("name=\"reason\"") && page.contains("name=\"minutes\""));
    assert!(page.contains(&format!("name=\"back\" value=\"{here}\"")), "back to the same plots: {page}");

    let pause = "/admin/channels/email/pause";
    let paused = dana.post(pause, &[csrf, ("back", here), ("reason", "the relay moves"), ("minutes", "60")]).await;
    assert_eq!(paused.location.as_deref(), Some(here));
    let page = dana.get(here).await.body;
    assert!(page.contains("the relay moves") && page.contains("Resume now"), "{page}");
    assert!(
        page.contains("email is paused until <time datetime="),
        "a moment that is shown in the viewer's zone: {page}"
    );
    let first = in_force().await;

    // Paused anew, otherwise: the way back is the pause before.
    dana.post(pause, &[csrf, ("back", here), ("reason", "for good")]).await;
    assert_eq!(in_force().await["until"], Value::Null);
    let page = dana.get(here).await.body;
    let (reason, until) = (carried(&page, "reason"), carried(&page, "until"));
    dana.post(pause, &[csrf, ("back", here), ("reason", &reason), ("until", &until)]).await;
    let again = in_force().await;
    assert_eq!((&again["reason"], &again["until"]), (&first["reason"], &first["until"]));

    // And of a resume, the pause that it ended, with its end.
    dana.post("/admin/channels/email/resume", &[csrf, ("back", here)]).await;
    assert_eq!(in_force().await, Value::Null);
    let page = dana.get(here).await.body;
    let (reason, until) = (carried(&page, "reason"), carried(&page, "until"));
    dana.post(pause, &[csrf, ("back", here), ("reason", &reason), ("until", &until)]).await;
    let again = in_force().await;
    assert_eq!((&again["reason"], &again["until"]), (&first["reason"], &first["until"]));

    for until in ["yesterday", "2020-01-01T00:00:00Z", "2999-01-01T00:00:00Z"] {
        let wrong = dana.post(pause, &[csrf, ("until", until)]).await;
        assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY, "{until}");
    }
}

#[tokio::test]
async fn a_queue_is_behind_by_its_own_target_and_its_age_is_drawn() {
    let relay = SmtpServer::start().await;
    let host = TestHost::builder()
        .mail_to(relay.address)
        .set("worker.start_paused", "true")
        .set("queue.target_ages", "[\"email=1s\"]")
        .start()
        .await;
    let mut dana = signed_in(&host, "dana", "operator").await;
    let to = json!([{"user_id": "ada", "email": "ada@example.org"}]);
    host.api().accepted(&json!({"to": to, "title": "waits", "channels": ["email"]})).await;
    let said = dana.wait_for("/admin", "Email is behind.").await;
    assert!(said.contains("1.0 s is the target"), "{said}");
    let page = dana.get("/admin/queues/email").await.body;
    assert!(page.contains("<dt>Target</dt><dd class=\"\">1.0 s</dd>"), "{page}");
    assert!(page.contains("class=\"say warn\"") && page.contains("target 1.0 s"), "{page}");
    let page = dana.get("/admin/channels/email").await.body;
    assert!(page.contains("<dt>Target for the oldest</dt><dd>1.0 s</dd>"), "{page}");
    let page = dana.get("/admin/queues/websocket").await.body;
    assert!(page.contains("<dt>Target</dt><dd class=\"\">60 s</dd>"), "the others keep the common one: {page}");

    // The next look of the rings has it.
    dana.wait_for("/admin/queues/email", " s last, target 1.0 s.").await;
    let table = dana.get("/admin/queues/email?table=age").await.body;
    assert!(
        table.contains("oldest, highest") && table.contains("id=\"t-depth\""),
        "this one alone is a table: {table}"
    );
    // An hour of which nobody knows anything is a gap, and a link keeps showing it.
    let pinned = "/admin/queues/email?from=2026-01-02T03:00:00Z&to=2026-01-02T04:00:00Z";
    let page = dana.get(pinned).await.body;
    assert!(page.contains("The plots show the time from") && page.contains("No data in this time"), "{page}");
    assert!(page.contains("2 Jan 03:00:00 to 2 Jan 04:00:00 UTC") && !page.contains("Link to this time"), "{page}");
    let page = dana.get("/admin/queues/email?range=15m&until=2026-01-02T04:00:00Z").await.body;
    assert!(
        page.contains("range=6h&amp;until=2026-01-02T04:00:00.000Z") || page.contains("range=6h&#38;until="),
        "{page}"
    );
    let page = dana.get("/admin/queues/email").await.body;
    assert!(page.contains("Link to this time"));
}
