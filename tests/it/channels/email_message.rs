//! What arrives: envelope, headers, identity over attempts, and nothing that a payload could add.

use super::email::{ID, Letter, channel, settings, start, verdict};
use campanile_email::{CaughtMail, Email, Outbox, Settings};
use campanile_plugin::{Channel, Context, Secret};
use campanile_tests::{
    prelude::*,
    smtp::{Act, SmtpServer, Step},
};
use std::sync::{Arc, Mutex};

#[tokio::test]
async fn a_retried_mail_keeps_its_message_id() {
    let server = SmtpServer::start().await;
    server.script(Step::Dot, [Act::TakeAndDrop]);
    let email = channel(&server).await;
    let letter = Letter::to("ada@example.org");
    assert_eq!(verdict(&letter.send(&email).await), "retry connection_lost?");
    assert_eq!(verdict(&letter.send(&email).await), "ok");
    let ids: Vec<_> = server.received().iter().map(campanile_tests::smtp::Received::message_id).collect();
    assert_eq!(ids, vec![format!("<{ID}@example.org>"); 2]);
}

#[tokio::test]
async fn two_recipients_are_two_transactions() {
    let server = SmtpServer::start().await;
    let email = channel(&server).await;
    for (id, to) in [("one", "ada@example.org"), ("two", "bo@example.org")] {
        assert_eq!(verdict(&Letter::to(to).id(id).send(&email).await), "ok");
    }
    let received = server.received();
    assert_eq!(received[0].to, ["ada@example.org"]);
    assert_eq!(received[1].to, ["bo@example.org"]);
    assert_ne!(received[0].message_id(), received[1].message_id());
    assert_eq!(server.commands().iter().filter(|(_, c)| c.starts_with("MAIL")).count(), 2);
    let hello = server.commands().into_iter().find(|(_, c)| c.starts_with("EHLO")).unwrap().1;
    assert_eq!(hello, "EHLO tower.example.org");
}

#[tokio::test]
async fn no_payload_adds_a_header_or_a_recipient() {
    let server = SmtpServer::start().await;
    let email = channel(&server).await;
    let nasty = "x\r\nBcc: eve@evil.example\r\n\r\n<b>body</b>\r\n.\r\nMAIL FROM:<eve@evil.example>\r\n";
    let letter = Letter {
        subject: nasty.into(),
        text: nasty.into(),
        html: nasty.into(),
        message: json!({"notification_type": nasty, "app": nasty, "unsubscribe_url": format!("https://x.example/{nasty}")}),
        ..Letter::to("ada@example.org").id(nasty)
    };
    assert_eq!(verdict(&letter.send(&email).await), "ok");
    let mail = &server.received()[0];
    assert_eq!(mail.to, ["ada@example.org"]);
    assert_eq!(mail.header("Bcc"), None);
    assert_eq!(mail.header("List-Unsubscribe"), None);
    assert_eq!(server.commands().iter().filter(|(_, c)| c.starts_with("MAIL")).count(), 1);
    for to in [nasty, "ada@example.org\r\nRCPT TO:<eve@evil.example>", "ada@example.org> <eve@evil.example"] {
        assert_eq!(verdict(&Letter::to(to).send(&email).await), "permanent invalid_address");
    }
    assert_eq!(server.received().len(), 1);
}

#[tokio::test]
async fn dots_and_long_lines_arrive_as_they_were() {
    let server = SmtpServer::start().await;
    let email = channel(&server).await;
    let text = ".\n..\n.leading\nplain\n";
    let letter = Letter { text: text.into(), html: String::new(), ..Letter::to("ada@example.org") };
    assert_eq!(verdict(&letter.send(&email).await), "ok");
    let source = server.received()[0].text();
    assert!(source.trim_end().ends_with("\r\n\r\n.\r\n..\r\n.leading\r\nplain"), "{source}");
    let letter = Letter { text: "ü".repeat(5000), ..letter };
    assert_eq!(verdict(&letter.send(&email).await), "ok");
    assert!(server.received()[1].text().split("\r\n").all(|l| l.len() <= 998));
}

#[tokio::test]
async fn an_address_outside_ascii_needs_a_relay_that_can() {
    let plain = SmtpServer::start().await;
    let email = channel(&plain).await;
    assert_eq!(verdict(&Letter::to("jürgen@example.org").send(&email).await), "permanent unsupported_address");
    assert_eq!(verdict(&Letter::to("ada@bücher.example").send(&email).await), "ok");
    assert_eq!(plain.received()[0].to, ["ada@xn--bcher-kva.example"]);
    let able = SmtpServer::builder().utf8().start().await;
    let email = channel(&able).await;
    assert_eq!(verdict(&Letter::to("jürgen@example.org").send(&email).await), "ok");
    let mail = &able.received()[0];
    assert_eq!(mail.to, ["jürgen@example.org"]);
    assert!(mail.parameters.contains("SMTPUTF8") && mail.parameters.contains("BODY=8BITMIME"), "{}", mail.parameters);
}

#[tokio::test]
async fn without_a_relay_mail_is_caught_as_it_would_have_gone() {
    #[derive(Default)]
    struct Catcher(Mutex<Vec<CaughtMail>>);
    impl Outbox for Catcher {
        fn catch(&self, mail: CaughtMail) {
            self.0.lock().unwrap().push(mail);
        }
    }
    let unset = || Settings { url: Secret::default(), ..settings("") };
    let context = Context::detached("email");
    let catcher = Arc::new(Catcher::default());
    let email = Email::start(unset(), context.clone().with_native::<Arc<dyn Outbox>>(catcher.clone())).await.unwrap();
    let letter = Letter::to("ada@example.org");
    assert_eq!(verdict(&letter.send(&email).await), "ok");
    assert_eq!(verdict(&letter.send_if(&email, &false).await), "retry lease_lost");
    let caught = catcher.0.lock().unwrap().clone();
    assert_eq!(caught.len(), 1);
    assert_eq!((caught[0].to.as_str(), caught[0].subject.as_str()), ("ada@example.org", "Hello"));
    assert!(String::from_utf8_lossy(&caught[0].source).contains("multipart/alternative"));
    // Production never pretends.
    assert!(Email::start(unset(), context).await.is_err());
}

#[tokio::test]
async fn a_relay_wins_over_the_catcher() {
    let server = SmtpServer::start().await;
    let email = start(settings(&server.url())).await;
    assert_eq!(verdict(&Letter::to("ada@example.org").send(&email).await), "ok");
    assert_eq!(server.wait_for(1).await.len(), 1);
}
