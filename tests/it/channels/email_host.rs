//! Mail from the whole product: what the host renders, how people unsubscribe, what `--dev` catches.

use campanile_tests::{
    host::HostBuilder,
    prelude::*,
    smtp::{Received, SmtpServer},
};
use reqwest::{Client, StatusCode};

fn host(relay: &SmtpServer) -> HostBuilder {
    TestHost::builder().mail_to(relay.address).set("email.transactional", "[\"receipt\"]")
}

fn mail(kind: &str, title: &str) -> Value {
    json!({"to": [{"user_id": "ada", "email": "ada@example.org"}], "title": title, "message": "{{7*7}} <script>x</script>",
        "notification_type": kind, "channels": ["email"]})
}

/// The address in List-Unsubscribe.
fn link(mail: &Received) -> String {
    let value = mail.header("List-Unsubscribe").expect("a List-Unsubscribe header");
    value.trim_matches(['<', '>']).to_owned()
}

#[tokio::test]
async fn a_notification_arrives_with_its_delivery_as_message_id() {
    let relay = SmtpServer::start().await;
    let host = host(&relay).start().await;
    let id = host.api().accepted(&mail("news", "<b>Ding</b>\u{1f514}")).await;
    let delivery = host.api().state(&id, "email", "sent").await;
    let received = relay.wait_for(1).await;
    let mail = &received[0];
    assert_eq!(mail.from, "notify@example.org");
    assert_eq!(mail.to, ["ada@example.org"]);
    assert_eq!(mail.message_id(), format!("<{}@example.org>", delivery["delivery_id"].as_str().unwrap()));
    assert_eq!(mail.header("Auto-Submitted").as_deref(), Some("auto-generated"));
    assert_eq!(mail.header("List-Unsubscribe-Post").as_deref(), Some("List-Unsubscribe=One-Click"));
    // Quoted-printable, undone as far as these words need it.
    let text = mail.text().replace("=\r\n", "").replace("=3D", "=");
    assert!(text.contains("multipart/alternative"), "{text}");
    assert_eq!(text.matches("{{7*7}} <script>x</script>").count(), 1, "the text part shows it as it is: {text}");
    assert!(text.contains("{{7*7}} &lt;script&gt;x"), "the HTML part shows it as text: {text}");
}

#[tokio::test]
async fn one_click_unsubscribes_at_once_and_a_visit_does_not() {
    let relay = SmtpServer::start().await;
    let host = host(&relay).start().await;
    let id = host.api().accepted(&mail("news", "one")).await;
    host.api().state(&id, "email", "sent").await;
    let link = link(&relay.wait_for(1).await[0]);
    assert!(link.starts_with(host.api().base()), "{link}");

    let client = Client::new();
    for _ in 0..2 {
        let visit = client.get(&link).send().await.unwrap();
        assert_eq!(visit.status(), StatusCode::OK);
        let policy = visit.headers()["content-security-policy"].to_str().unwrap().to_owned();
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(visit.headers()["referrer-policy"], "no-referrer");
        assert!(visit.text().await.unwrap().contains("method=\"post\""));
    }
    let id = host.api().accepted(&mail("news", "two")).await;
    host.api().state(&id, "email", "sent").await;

    for _ in 0..2 {
        let click = client
            .post(&link)
            .header("content-type", "application/x-www-form-urlencoded")
            .body("List-Unsubscribe=One-Click")
            .send()
            .await
            .unwrap();
        assert_eq!(click.status(), StatusCode::OK);
        assert!(click.headers().get("set-cookie").is_none());
    }
    let id = host.api().accepted(&mail("news", "three")).await;
    let delivery = host.api().state(&id, "email", "suppressed").await;
    assert_eq!(delivery["reason"], "unsubscribed");
    // Another type of mail to the same person goes on.
    let id = host.api().accepted(&mail("alarm", "four")).await;
    host.api().state(&id, "email", "sent").await;
    assert_eq!(relay.received().len(), 3);
}

#[tokio::test]
async fn a_forged_link_is_not_found_and_changes_nothing() {
    let relay = SmtpServer::start().await;
    let host = host(&relay).start().await;
    let id = host.api().accepted(&mail("news", "one")).await;
    host.api().state(&id, "email", "sent").await;
    let link = link(&relay.wait_for(1).await[0]);
    let (base, token) = link.rsplit_once('/').unwrap();
    let other = if token.ends_with("AA") { "BB" } else { "AA" };
    let forged = [format!("{}{other}", &token[..token.len() - 2]), "x".into(), "A".repeat(43), "%00".into()];
    let client = Client::new();
    for token in forged {
        for request in [client.get(format!("{base}/{token}")), client.post(format!("{base}/{token}"))] {
            assert_eq!(request.send().await.unwrap().status(), StatusCode::NOT_FOUND, "{token}");
        }
    }
    let id = host.api().accepted(&mail("news", "two")).await;
    host.api().state(&id, "email", "sent").await;
}

#[tokio::test]
async fn receipts_carry_no_unsubscribe() {
    let relay = SmtpServer::start().await;
    let host = host(&relay).start().await;
    let id = host.api().accepted(&mail("receipt", "Paid")).await;
    host.api().state(&id, "email", "sent").await;
    let received = relay.wait_for(1).await;
    assert_eq!(received[0].header("List-Unsubscribe"), None);
    assert!(!received[0].text().contains("/unsubscribe/"));
}

#[tokio::test]
async fn own_templates_are_used_and_broken_ones_stop_the_start() {
    let relay = SmtpServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("news")).unwrap();
    let subject = folder.path().join("news/subject.txt");
    std::fs::write(&subject, "News: {{ title }}\n").unwrap();
    let with = |b: HostBuilder| b.text("email.templates_dir", folder.path().to_str().unwrap());
    let running = with(host(&relay)).start().await;
    let id = running.api().accepted(&mail("news", "ding")).await;
    running.api().state(&id, "email", "sent").await;
    assert_eq!(relay.wait_for(1).await[0].header("Subject").as_deref(), Some("News: ding"));

    std::fs::write(&subject, "fine\n{{ broken").unwrap();
    let mut refused = with(host(&relay)).spawn();
    let status = refused.wait_exit(DEADLINE).await;
    assert!(!status.success());
    assert!(refused.output().contains("news/subject.txt:2"), "{}", refused.output());
}
