//! The dialogue and its pool: silence, loss, surprise and cancellation at every step. A mail is sent only when the
//! relay said so to that mail.

use super::email::{Letter, channel, settings, short, start, verdict};
use campanile_email::Settings;
use campanile_tests::{
    prelude::*,
    smtp::{Act, SmtpServer, Step},
};
use std::sync::atomic::{AtomicU32, Ordering};

fn letter(n: u32) -> Letter {
    Letter::to("ada@example.org").id(&format!("0190c0de-0000-7000-8000-{n:012}"))
}

#[tokio::test]
async fn silence_at_any_step_ends_the_attempt_and_frees_the_slot() {
    for step in Step::OF_ONE_MAIL {
        let server = SmtpServer::start().await;
        server.script(step, [Act::Hang]);
        let email = start(short(&server.url())).await;
        let sent = letter(1).send(&email).await;
        let want = if step == Step::Dot { "retry timeout?" } else { "retry timeout" };
        assert_eq!(verdict(&sent), want, "{step:?}: {sent:?}");
        // The only slot is free again, and the silent connection is not used for it.
        assert_eq!(verdict(&letter(2).send(&email).await), "ok", "{step:?}");
        assert_eq!(server.connections(), 2, "{step:?}");
        assert_eq!(server.received().len(), 1, "{step:?}");
    }
}

#[tokio::test]
async fn the_attempt_ends_within_its_own_time_too() {
    let server = SmtpServer::start().await;
    server.script(Step::Rcpt, [Act::Hang]);
    let email = channel(&server).await;
    let sent = Letter { timeout: Duration::from_millis(300), ..letter(1) }.send(&email).await;
    assert_eq!(verdict(&sent), "retry timeout");
}

#[tokio::test]
async fn a_connection_lost_before_the_dot_is_retried_without_doubt() {
    for step in Step::OF_ONE_MAIL {
        let server = SmtpServer::start().await;
        server.script(step, [Act::Drop]);
        let email = channel(&server).await;
        let sent = letter(1).send(&email).await;
        let want = if step == Step::Dot { "retry connection_lost?" } else { "retry connection_lost" };
        assert_eq!(verdict(&sent), want, "{step:?}: {sent:?}");
        assert_eq!(verdict(&letter(2).send(&email).await), "ok", "{step:?}");
    }
}

#[tokio::test]
async fn nobody_listens() {
    let email = start(settings("smtp://127.0.0.1:1")).await;
    assert_eq!(verdict(&letter(1).send(&email).await), "retry connect_failed");
    let health = campanile_plugin::Channel::health(&*email).await;
    assert!(matches!(health, campanile_plugin::Health::Degraded(_)), "{health:?}");
}

/// RELIABILITY §6.50: the answer to mail 1 must never be taken for the answer to mail 2.
#[tokio::test]
async fn a_late_answer_to_one_mail_never_speaks_for_the_next() {
    let server = SmtpServer::start().await;
    let late = Duration::from_millis(400);
    server.script(Step::Dot, [Act::Late(late, "250 2.0.0 taken".into()), Act::say("552 5.3.4 rejected")]);
    let email = start(short(&server.url())).await;
    assert_eq!(verdict(&letter(1).send(&email).await), "retry timeout?");
    assert_eq!(verdict(&letter(2).send(&email).await), "permanent 552_5.3.4");
    assert_eq!(verdict(&letter(3).send(&email).await), "ok");
}

#[tokio::test]
async fn a_caller_that_goes_away_after_the_dot_leaves_no_half_used_connection() {
    let server = SmtpServer::start().await;
    let late = Duration::from_millis(300);
    server.script(Step::Dot, [Act::Late(late, "250 2.0.0 taken".into()), Act::say("554 5.6.0 rejected")]);
    let email = channel(&server).await;
    let first = tokio::spawn({
        let email = email.clone();
        async move { letter(1).send(&email).await }
    });
    server.wait_for_command("DATA", 1).await;
    // The content is on its way: past this point the send is nobody's to cut.
    tokio::time::sleep(Duration::from_millis(50)).await;
    first.abort();
    assert_eq!(verdict(&letter(2).send(&email).await), "permanent 554_5.6.0");
    let received = server.received();
    assert!(received.iter().all(|m| m.message_id().contains("000000000001")), "mail 2 was never taken");
}

#[tokio::test]
async fn a_caller_that_goes_away_before_data_sends_nothing() {
    let server = SmtpServer::start().await;
    server.script(Step::Rcpt, [Act::Late(Duration::from_millis(200), "250 ok".into())]);
    let email = channel(&server).await;
    let first = tokio::spawn({
        let email = email.clone();
        async move { letter(1).send(&email).await }
    });
    server.wait_for_command("RCPT", 1).await;
    first.abort();
    assert_eq!(verdict(&letter(2).send(&email).await), "ok");
    let received = server.received();
    assert_eq!(received.len(), 1);
    assert!(received[0].message_id().contains("000000000002"));
    assert_eq!(server.commands().iter().filter(|(_, c)| c == "DATA").count(), 1);
}

#[tokio::test]
async fn without_a_lease_nothing_is_sent() {
    let server = SmtpServer::start().await;
    let email = channel(&server).await;
    assert_eq!(verdict(&letter(1).send_if(&email, &false).await), "retry lease_lost");
    assert!(!server.commands().iter().any(|(_, c)| c == "DATA"));

    /// Ours before DATA, taken back before the dot.
    struct Once(AtomicU32);
    impl campanile_plugin::Permission for Once {
        fn may_proceed(&self) -> bool {
            self.0.fetch_add(1, Ordering::SeqCst) == 0
        }
    }
    assert_eq!(verdict(&letter(2).send_if(&email, &Once(AtomicU32::new(0))).await), "retry lease_lost");
    assert_eq!(verdict(&letter(3).send(&email).await), "ok");
    let received = server.received();
    assert_eq!(received.len(), 1, "neither of the first two was taken");
    assert!(received[0].message_id().contains("000000000003"));
}

#[tokio::test]
async fn replies_out_of_step_are_never_taken_for_success() {
    let cases = [
        (Step::Greeting, "354 go ahead", "retry out_of_step"),
        (Step::Greeting, "HTTP/1.1 400 Bad Request", "retry out_of_step"),
        (Step::Ehlo, "334 ", "retry out_of_step"),
        (Step::Mail, "354 go ahead", "retry out_of_step"),
        (Step::Mail, "250 ok\r\n250 and the next", "retry out_of_step"),
        (Step::Rcpt, "250-two\r\n251 codes", "retry out_of_step"),
        (Step::Rcpt, "250 ok\r\n354 go ahead", "retry out_of_step"),
        (Step::Data, "250 taken", "retry out_of_step"),
        (Step::Data, "354 go ahead\r\n250 taken before it was sent", "retry out_of_step"),
        (Step::Dot, "354 go ahead", "retry out_of_step?"),
        (Step::Dot, "what", "retry out_of_step?"),
    ];
    for (step, reply, want) in cases {
        let server = SmtpServer::start().await;
        server.script(step, [Act::say(reply)]);
        let email = channel(&server).await;
        let sent = letter(1).send(&email).await;
        assert_eq!(verdict(&sent), want, "{step:?} {reply:?}: {sent:?}");
        assert_eq!(verdict(&letter(2).send(&email).await), "ok", "{step:?} {reply:?}");
        assert_eq!(server.connections(), 2, "{step:?} {reply:?}: the connection was dropped");
    }
}

#[tokio::test]
async fn an_endless_reply_is_cut() {
    let server = SmtpServer::start().await;
    server.script(Step::Ehlo, [Act::Say("250-x\r\n".repeat(100_000))]);
    let email = channel(&server).await;
    assert_eq!(verdict(&letter(1).send(&email).await), "retry out_of_step");
}

#[tokio::test]
async fn connections_are_reused_and_cleaned_between_mails() {
    let server = SmtpServer::start().await;
    server.script(Step::Rcpt, [Act::Usual, Act::say("450 4.2.0 later"), Act::Usual]);
    server.script(Step::Dot, [Act::Usual, Act::say("451 4.3.0 later"), Act::Usual]);
    let email = channel(&server).await;
    let mut verdicts = Vec::new();
    for n in 1..=4 {
        verdicts.push(verdict(&letter(n).send(&email).await));
    }
    assert_eq!(verdicts, ["ok", "retry 450_4.2.0", "retry 451_4.3.0", "ok"]);
    assert_eq!(server.connections(), 1);
    // The transaction that stopped at RCPT was reset before the next.
    assert_eq!(server.commands().iter().filter(|(_, c)| c == "RSET").count(), 1);
}

#[tokio::test]
async fn an_idle_connection_that_the_relay_closed_costs_no_attempt() {
    for act in [Act::Drop, Act::say("421 4.4.2 idle too long")] {
        let server = SmtpServer::start().await;
        server.script(Step::Mail, [Act::Usual, act]);
        let email = channel(&server).await;
        assert_eq!(verdict(&letter(1).send(&email).await), "ok");
        assert_eq!(verdict(&letter(2).send(&email).await), "ok");
        assert_eq!((server.connections(), server.received().len()), (2, 2));
    }
}

#[tokio::test]
async fn a_connection_carries_a_hundred_mails() {
    let server = SmtpServer::start().await;
    let email = channel(&server).await;
    for n in 1..=101 {
        assert_eq!(verdict(&letter(n).send(&email).await), "ok");
    }
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn never_more_connections_than_allowed() {
    let server = SmtpServer::start().await;
    let email = start(Settings { max_connections: 3, ..settings(&server.url()) }).await;
    let sends: Vec<_> = (0..30)
        .map(|n| {
            let email = email.clone();
            tokio::spawn(async move { verdict(&letter(n).send(&email).await) })
        })
        .collect();
    for send in sends {
        assert_eq!(send.await.unwrap(), "ok");
    }
    assert_eq!(server.received().len(), 30);
    assert!(server.connections() <= 3, "{}", server.connections());
    campanile_plugin::Channel::stop(&*email).await;
    until("every connection is closed", || async { (server.open() == 0).then_some(()) }).await;
    assert!(server.commands().iter().any(|(_, c)| c == "QUIT"));
}
