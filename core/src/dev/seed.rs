//! The demo users and their first notification, sent through the API like anybody's.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::time::Duration;

/// The demo users: name and e-mail address.
pub const USERS: [(&str, &str); 2] = [("ada", "ada@example.org"), ("bo", "bo@example.org")];

/// Creates the users and greets them; harmless when repeated over kept data.
pub async fn seed(server: &str, key: &str) -> Result<()> {
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build()?;
    let call = async |request: reqwest::RequestBuilder| -> Result<()> {
        let response = request.bearer_auth(key).send().await?;
        let (status, url) = (response.status(), response.url().clone());
        let body = response.text().await.unwrap_or_default();
        ensure!(status.is_success(), "{} answered {status}: {body}", url.path());
        Ok(())
    };
    for (user, email) in USERS {
        let request = client.put(format!("{server}/api/v1/users/{user}")).json(&json!({ "email": email }));
        call(request).await.context("creating the demo users")?;
    }
    let request = client
        .post(format!("{server}/api/v1/notifications"))
        // With kept data a second start does not greet twice a day.
        .header("Idempotency-Key", "dev-welcome")
        .json(&welcome());
    call(request).await.context("sending the first notification")
}

fn welcome() -> Value {
    json!({
        "to": USERS.map(|(user, _)| user),
        "title": "Welcome to Campanile",
        "message": "This one was sent when the server started: live to the demo page, and as an e-mail to the caught mail.",
        "notification_type": "welcome",
        "data": { "link": "/demo" },
    })
}
