//! TLS and sign-in: what is promised in the URL happens, or no mail goes out.

use super::email::{Letter, settings, short, start, verdict};
use campanile_email::{Email, Settings};
use campanile_plugin::{Channel, Secret, Span};
use campanile_tests::smtp::{Act, SmtpServer, Step};

/// The server by name, with its CA unless told otherwise.
fn url(server: &SmtpServer, scheme: &str, user: &str, query: &str) -> Settings {
    let port = server.address.port();
    settings(&format!("{scheme}://{user}localhost:{port}?{query}ca={}", server.ca().display()))
}

async fn one(settings: Settings) -> String {
    verdict(&Letter::to("ada@example.org").send(&*start(settings).await).await)
}

#[tokio::test]
async fn starttls_encrypts_before_anything_is_said() {
    let server = SmtpServer::builder().start_tls().auth("tower", "s3cret", "PLAIN LOGIN").start().await;
    assert_eq!(one(url(&server, "smtp", "tower:s3cret@", "tls=required&")).await, "ok");
    let mail = &server.received()[0];
    assert!(mail.encrypted);
    assert_eq!(mail.user.as_deref(), Some("tower"));
    let verbs: Vec<_> = server.commands().iter().map(|(_, c)| c.split(' ').next().unwrap().to_owned()).collect();
    assert_eq!(verbs, ["EHLO", "STARTTLS", "EHLO", "AUTH", "MAIL", "RCPT", "DATA"]);
}

#[tokio::test]
async fn implicit_tls_and_sign_in_by_login() {
    let server = SmtpServer::builder().implicit_tls().auth("tower", "pässword", "LOGIN").start().await;
    assert_eq!(one(url(&server, "smtps", "tower:p%C3%A4ssword@", "")).await, "ok");
    assert!(server.received()[0].encrypted);
}

#[tokio::test]
async fn a_certificate_nobody_vouches_for_stops_all_mail() {
    let server = SmtpServer::builder().implicit_tls().start().await;
    let stranger = SmtpServer::builder().implicit_tls().start().await;
    let port = server.address.port();
    let wrong_ca = settings(&format!("smtps://localhost:{port}?ca={}", stranger.ca().display()));
    assert_eq!(one(wrong_ca).await, "config tls_failed");
    // The right CA vouches for localhost, not for this name of the same machine.
    let wrong_name = settings(&format!("smtps://127.0.0.2:{port}?ca={}", server.ca().display()));
    let verdict = one(wrong_name).await;
    assert!(matches!(verdict.as_str(), "config tls_failed" | "retry connect_failed"), "{verdict}");
    assert!(server.received().is_empty());
}

#[tokio::test]
async fn a_relay_without_starttls_gets_no_mail() {
    let server = SmtpServer::start().await;
    let tls = SmtpServer::builder().start_tls().start().await;
    let port = server.address.port();
    let wanted = settings(&format!("smtp://localhost:{port}?tls=required&ca={}", tls.ca().display()));
    assert_eq!(one(wanted).await, "config tls_unsupported");
    assert!(!server.commands().iter().any(|(_, c)| c.starts_with("MAIL")));
}

#[tokio::test]
async fn bytes_slipped_in_before_the_handshake_are_refused() {
    let server = SmtpServer::builder().start_tls().start().await;
    server.script(Step::StartTls, [Act::say("220 go ahead\r\n250 injected")]);
    assert_eq!(one(url(&server, "smtp", "", "tls=required&")).await, "retry out_of_step");
}

#[tokio::test]
async fn wrong_credentials_are_our_configuration() {
    let server = SmtpServer::builder().implicit_tls().auth("tower", "right", "PLAIN").start().await;
    assert_eq!(one(url(&server, "smtps", "tower:wrong@", "")).await, "config 535_5.7.8");
    assert_eq!(one(url(&server, "smtps", "", "")).await, "config 530_5.7.0");
    let exotic = SmtpServer::builder().implicit_tls().auth("tower", "right", "GSSAPI").start().await;
    assert_eq!(one(url(&exotic, "smtps", "tower:right@", "")).await, "config auth_unsupported");
    server.script(Step::Auth, [Act::say("454 4.7.0 try later")]);
    assert_eq!(one(url(&server, "smtps", "tower:right@", "")).await, "retry 454_4.7.0");
}

#[tokio::test]
async fn silence_in_the_handshake_and_at_sign_in_ends_too() {
    let server = SmtpServer::builder().start_tls().auth("tower", "right", "PLAIN").start().await;
    let hasty = |s: Settings| {
        let short = short("smtp://localhost");
        Settings { command_timeout: short.command_timeout, connect_timeout: Span(*short.command_timeout * 4), ..s }
    };
    for step in [Step::StartTls, Step::Auth] {
        server.script(step, [Act::Hang]);
        assert_eq!(
            one(hasty(url(&server, "smtp", "tower:right@", "tls=required&"))).await,
            "retry timeout",
            "{step:?}"
        );
        server.clear_script();
    }
    // A plain server that waits for EHLO never answers a TLS greeting.
    let plain = SmtpServer::start().await;
    plain.script(Step::Greeting, [Act::Hang]);
    let url = format!("smtps://localhost:{}?ca={}", plain.address.port(), server.ca().display());
    assert_eq!(one(hasty(settings(&url))).await, "retry timeout");
}

#[test]
fn a_password_never_travels_plain_or_into_a_message() {
    let Err(problems) =
        Email::validate(&Settings { url: Secret::new("smtp://tower:hunter2@mail.example.org"), ..settings("") })
    else {
        panic!("a plain password was accepted")
    };
    assert_eq!(problems[0].key, "url");
    assert!(!format!("{problems:?}").contains("hunter2"));
}
