//! Every channel that ships is held to what its authors are told: it passes `plugin check` at both levels, and what it is warned
//! of is known by name.

use super::{
    files_author::{plugin, warnings},
    files_kit::{c_file, email, said, shipped},
};
use campanile_tests::{prelude::*, smtp::SmtpServer};
use futures_util::future::join_all;
use std::path::PathBuf;

/// Built for tests, so not as it ships.
const DEBUG: &[&str] = &["build"];

#[tokio::test]
async fn every_channel_that_ships_passes_the_check() {
    let folder = tempfile::tempdir().unwrap();
    let relay = SmtpServer::start().await;
    let (hook, secret) = ("https://hooks.example.org/in", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    let all: [(PathBuf, Value, &[&str]); 8] = [
        (shipped("webhook"), json!({"url": hook, "secret": secret}), DEBUG),
        (shipped("slack"), json!({"url": hook}), DEBUG),
        (shipped("ntfy"), json!({}), DEBUG),
        (shipped("telegram"), json!({"token": "123456:AAaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}), DEBUG),
        (
            shipped("sms"),
            json!({"account": format!("AC{}", "0".repeat(32)), "token": "secret", "from": "+12025550199"}),
            DEBUG,
        ),
        (shipped("stdout"), json!({}), DEBUG),
        (email(), json!({"url": format!("smtp://{}", relay.address), "from": "Campanile <notify@example.org>"}), DEBUG),
        (c_file().to_owned(), json!({"path": folder.path().join("out.txt")}), &[]),
    ];
    let checked = all.iter().map(|(file, config, expected)| async move {
        let out = plugin("check", file, &["--level", "both", "--with", &config.to_string()]).await;
        let what = file.display();
        assert!(out.status.success() && !said(&out).contains("FAILED"), "{what}: {}", said(&out));
        assert!(said(&out).contains("ok      delivers: "), "{what}: {}", said(&out));
        assert_eq!(warnings(&out), *expected, "{what}: {}", said(&out));
    });
    join_all(checked).await;
}
