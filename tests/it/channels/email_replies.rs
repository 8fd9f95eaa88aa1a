//! RELIABILITY §4.3, row by row: reply → class, address, attempt.

use super::email::{Letter, Sent, channel, verdict};
use campanile_tests::smtp::{Act, SmtpServer, Step};

/// `suspect` as (kind, limit), when the reply is evidence against the address.
async fn answered(step: Step, reply: &str) -> (String, Option<(&'static str, u32)>, Sent) {
    let server = SmtpServer::start().await;
    server.script(step, [Act::say(reply)]);
    let email = channel(&server).await;
    let sent = Letter::to("ada@example.org").send(&email).await;
    let suspect = sent.as_ref().err().and_then(|e| e.reason().suspect).map(|(kind, limit, days)| {
        assert_eq!(days, 30);
        (kind, limit)
    });
    (verdict(&sent), suspect, sent)
}

#[tokio::test]
async fn every_row_at_rcpt_and_at_the_dot() {
    let full = Some(("mailbox_full", 3));
    let disabled = Some(("disabled", 2));
    let rows = [
        ("421 4.7.0 too busy", "retry 421_4.7.0", None),
        ("421 closing", "retry 421", None),
        ("451 4.3.2 not now", "retry 451_4.3.2", None),
        ("450 4.4.1 no route", "retry 450_4.4.1", None),
        ("450 4.7.1 greylisted", "throttled 450_4.7.1", None),
        ("451 4.7.500 slow down", "throttled 451_4.7.500", None),
        ("450 busy", "retry 450", None),
        ("452 4.2.2 full", "retry mailbox_full", full),
        ("552 5.2.2 full", "retry mailbox_full", full),
        ("452 4.5.3 too many", "retry 452_4.5.3", None),
        ("550 5.1.1 no such user", "gone 550_5.1.1", None),
        ("550 5.1.2 no such host", "gone 550_5.1.2", None),
        ("553 5.1.3 bad syntax", "gone 553_5.1.3", None),
        ("551 5.1.6 moved", "gone 551_5.1.6", None),
        ("550 5.1.10 null MX", "gone 550_5.1.10", None),
        ("550 5.1.8 bad sender", "permanent 550_5.1.8", None),
        ("450 5.1.1 soft bounce", "retry 450_5.1.1", None),
        ("550 no", "permanent 550", None),
        ("550 5.2.1 disabled", "permanent 550_5.2.1", disabled),
        ("552 5.2.3 too large", "permanent 552_5.2.3", None),
        ("552 5.3.4 too large", "permanent 552_5.3.4", None),
        ("554 5.6.0 content", "permanent 554_5.6.0", None),
        ("550 5.7.1 blocked", "permanent 550_5.7.1", None),
        ("550 5.7.26 DMARC", "permanent 550_5.7.26", None),
        ("530 5.7.0 authenticate", "config 530_5.7.0", None),
        ("535 5.7.8 bad password", "config 535_5.7.8", None),
        ("538 5.7.11 encrypt", "config 538_5.7.11", None),
    ];
    for (reply, want, suspect) in rows {
        for step in [Step::Rcpt, Step::Dot] {
            let (got, evidence, sent) = answered(step, reply).await;
            // A refusal is an answer: nothing about it is in doubt.
            assert_eq!((got.as_str(), evidence), (want, suspect), "{reply} at {step:?}: {sent:?}");
        }
    }
}

#[tokio::test]
async fn out_of_order_is_transient() {
    assert_eq!(answered(Step::Mail, "503 5.5.1 what?").await.0, "retry out_of_step");
    assert_eq!(answered(Step::Rcpt, "503 5.5.1 what?").await.0, "retry out_of_step");
    assert_eq!(answered(Step::Dot, "503 5.5.1 what?").await.0, "retry out_of_step?");
}

#[tokio::test]
async fn what_a_relay_says_before_mail_concerns_us_and_not_the_recipient() {
    assert_eq!(answered(Step::Greeting, "554 5.7.1 your address is blocked").await.0, "config 554_5.7.1");
    assert_eq!(answered(Step::Greeting, "421 too many connections").await.0, "retry 421");
    assert_eq!(answered(Step::Ehlo, "550 5.7.1 bad name").await.0, "config 550_5.7.1");
    assert_eq!(answered(Step::Ehlo, "451 4.3.0 wait").await.0, "retry 451_4.3.0");
    // Our own address, not the recipient's.
    assert_eq!(answered(Step::Mail, "550 5.1.1 who are you").await.0, "permanent 550_5.1.1");
}

#[tokio::test]
async fn reasons_carry_no_address() {
    let (_, _, sent) = answered(Step::Rcpt, "550 5.1.1 <ada@example.org>: user ada@example.org unknown").await;
    let reason = sent.unwrap_err().reason().clone();
    assert!(!reason.message.contains("ada"), "{}", reason.message);
    assert!(reason.message.contains("unknown"), "{}", reason.message);
    assert!(reason.code.len() <= 64 && reason.code.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b)));
}
