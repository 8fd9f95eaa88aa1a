//! config/production.toml is a file that a node takes, and what it leaves out is said.

use super::text;
use campanile_tests::prelude::*;

/// The shipped file, with its secrets where this test can write them.
#[tokio::test]
async fn the_production_example_is_valid() {
    let host = TestHost::start().await;
    let secrets = host.folder().join("secrets");
    std::fs::create_dir(&secrets).unwrap();
    let mut file = text("config/production.toml");
    for (name, secret) in [
        ("database", "postgres://campanile:secret@db.internal:5432/campanile?sslmode=verify-full"),
        ("queue", "amqps://campanile:secret@mq.internal:5671/campanile"),
        ("jwt", token::SECRET),
        ("api_key", "an-operator-key-0123456789"),
        ("smtp", "smtps://user:secret@relay.example.org"),
        ("metrics", "a-token-for-scrapers"),
    ] {
        let (there, here) = (format!("\"/run/secrets/campanile_{name}\""), secrets.join(name));
        assert_eq!(file.matches(&there).count(), 1, "{there}");
        file = file.replace(&there, &Value::from(here.to_str().unwrap()).to_string());
        std::fs::write(here, format!("{secret}\n")).unwrap();
    }
    assert!(!file.contains("/run/secrets"), "a secret of the example is not known here");
    let path = host.folder().join("production.toml");
    std::fs::write(&path, file).unwrap();
    let mut command = host.command();
    command.args(["config", "check", "--config", path.to_str().unwrap()]);
    let ran = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let said = String::from_utf8([ran.stdout, ran.stderr].concat()).unwrap();
    assert!(ran.status.success(), "{said}");
    for secret in ["secret@", "0123456789", "scrapers"] {
        assert!(!said.contains(secret), "{said}");
    }
}
