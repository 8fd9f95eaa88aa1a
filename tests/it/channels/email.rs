//! The e-mail channel on its own, against a scripted relay: what the other `email_*` suites share.

use campanile_email::{Email, Settings};
use campanile_plugin::{Channel, Context, Delivery, DeliveryError, Permission, Receipt, Secret, Span};
use campanile_tests::{prelude::*, smtp::SmtpServer};
use std::sync::Arc;

pub const ID: &str = "0190c0de-0000-7000-8000-00000000000a";
pub type Sent = Result<Receipt, DeliveryError>;

/// Long enough never to fire by accident.
const LONG: Span = Span(Duration::from_secs(20));

/// Settings that only the phase under test shortens.
pub fn settings(url: &str) -> Settings {
    Settings {
        url: Secret::new(url),
        from: Some("Campanile <notify@example.org>".into()),
        reply_to: None,
        hello_name: Some("tower.example.org".into()),
        connect_timeout: LONG,
        command_timeout: LONG,
        data_timeout: LONG,
        dot_timeout: LONG,
        max_connections: 1,
        dkim: None,
    }
}

/// All phases short: for servers that fall silent.
pub fn short(url: &str) -> Settings {
    let short = Span(Duration::from_millis(150));
    Settings { connect_timeout: LONG, command_timeout: short, data_timeout: short, dot_timeout: short, ..settings(url) }
}

pub async fn start(settings: Settings) -> Arc<Email> {
    Arc::new(Email::start(settings, Context::detached("email")).await.unwrap())
}

pub async fn channel(server: &SmtpServer) -> Arc<Email> {
    start(settings(&server.url())).await
}

/// A mail with these words; everything else is plain.
#[derive(Clone)]
pub struct Letter {
    pub id: String,
    pub to: String,
    pub subject: String,
    pub text: String,
    pub html: String,
    pub message: Value,
    pub timeout: Duration,
}

impl Letter {
    pub fn to(to: &str) -> Self {
        Self {
            id: ID.into(),
            to: to.into(),
            subject: "Hello".into(),
            text: "Hello Ada.\n".into(),
            html: "<p>Hello Ada.</p>\n".into(),
            message: json!({"notification_type": "general", "app": "default"}),
            timeout: Duration::from_mins(1),
        }
    }
    pub fn id(mut self, id: &str) -> Self {
        self.id = id.into();
        self
    }

    pub async fn send(&self, email: &Email) -> Sent {
        self.send_if(email, &true).await
    }
    pub async fn send_if(&self, email: &Email, permission: &dyn Permission) -> Sent {
        let delivery = Delivery::new(&self.id, &self.to)
            .with_content(&self.subject, &self.text, &self.html)
            .with_message(&self.message)
            .with_timeout(self.timeout)
            .with_permission(permission);
        let sent = tokio::time::timeout(DEADLINE, email.deliver(delivery)).await;
        sent.expect("an attempt ends")
    }
}

/// What became of it in one word: `ok`, or the kind of error and its code, `?` when uncertain.
pub fn verdict(sent: &Sent) -> String {
    let kind = match sent {
        Ok(_) => return "ok".into(),
        Err(DeliveryError::Retry { .. }) => "retry",
        Err(DeliveryError::Throttled { .. }) => "throttled",
        Err(DeliveryError::Permanent { .. }) => "permanent",
        Err(DeliveryError::RecipientGone { .. }) => "gone",
        Err(DeliveryError::Misconfigured { .. }) => "config",
        Err(other) => panic!("an unknown kind: {other:?}"),
    };
    let reason = sent.as_ref().unwrap_err().reason();
    format!("{kind} {}{}", reason.code, if reason.uncertain { "?" } else { "" })
}
