//! From `pending` to settled, with the mail relay as the far side: retries, refusals, pauses, replay, cancel, expiry.

mod operate;
mod retry;

use campanile_tests::{host::HostBuilder, prelude::*, smtp::SmtpServer};

/// A host with this relay and a quick schedule.
fn host(relay: &SmtpServer) -> HostBuilder {
    TestHost::builder().mail_to(relay.address).set("retry.schedule", "[\"300ms\", \"900ms\"]")
}

/// A mail to one address, not on the books.
fn mail(title: &str) -> Value {
    json!({"to": [{"user_id": "ada", "email": "ada@example.org"}], "title": title, "channels": ["email"]})
}

fn in_ms(ms: i64) -> String {
    #[expect(clippy::disallowed_methods, reason = "the wire carries wall-clock times")]
    let at = chrono::Utc::now() + chrono::TimeDelta::milliseconds(ms);
    at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}
