//! The publishers of docs/amqp.md, as they stand there, as a user that may do nothing but publish.

use super::*;
use crate::docs::{blocks, document};
use std::{path::Path, process::Command};

/// Runs an example as `scripts/test` equips it: its own interpreter and packages, else those of the path.
pub async fn run(interpreter: &'static str, flag: &'static str, example: String, amqp_url: String) {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("target/tools");
    let own = tools.join("python/bin").join(interpreter);
    let mut command = Command::new(if own.exists() { own } else { interpreter.into() });
    command.args([flag, &example]).env("AMQP_URL", amqp_url);
    if std::env::var_os("NODE_PATH").is_none() {
        command.env("NODE_PATH", tools.join("node/node_modules"));
    }
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap();
    let output = output.unwrap_or_else(|e| panic!("{interpreter} does not start: {e}"));
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let status = output.status;
    assert!(status.success(), "the example failed ({status}); `scripts/test tools` installs what it needs:\n{said}");
    assert_eq!(said, "", "an example that works says nothing");
}

/// A user with the permissions that the document asks for, and the URL to log in with.
async fn publisher(host: &TestHost) -> String {
    let engines = host.engines();
    let (vhost, user) = (engines.vhost(), format!("publisher_{}", engines.vhost()));
    let login = json!({"password": "secret", "tags": ""});
    engines.broker(Method::PUT, &format!("users/{user}"), Some(login)).await;
    let only_write = json!({"configure": "^$", "write": "^notifications$", "read": "^$"});
    engines.broker(Method::PUT, &format!("permissions/{vhost}/{user}"), Some(only_write)).await;
    let url = engines.queue();
    let place = url.rsplit_once('@').unwrap().1;
    format!("amqp://{user}:secret@{place}")
}

async fn forget(host: &TestHost) {
    let engines = host.engines();
    engines.broker(Method::DELETE, &format!("users/publisher_{}", engines.vhost()), None).await;
}

/// Each is run twice: the same `message_id` is the same notification.
async fn arrives_once(info: &str, interpreter: &'static str, flag: &'static str, title: &str) {
    let host = TestHost::builder().production().start().await;
    let mut socket = Connect::to(&host).token(&token::user("ada")).open().await;
    let examples = blocks(&document("docs/amqp.md"), info);
    assert_eq!(examples.len(), 1, "docs/amqp.md has one example marked {info:?}");
    let url = publisher(&host).await;
    for _ in 0..2 {
        run(interpreter, flag, examples[0].clone(), url.clone()).await;
    }
    forget(&host).await;
    assert_eq!(socket.expect("notification").await["data"]["title"], title);
    empty(&host).await;
    assert_eq!(titles_until(&host, "ada", 1).await, [title]);
    let poison = host.api().get("/api/v1/poison").await.expect(200);
    assert_eq!(poison["items"], json!([]));
}

#[tokio::test]
async fn the_python_publisher_of_the_document() {
    arrives_once("python run", "python3", "-c", "Your order is on its way").await;
}

#[tokio::test]
async fn the_node_publisher_of_the_document() {
    arrives_once("js run", "node", "-e", "Your invoice is ready").await;
}
