//! A host that can load no libraries, such as a static binary, with a list of plugins: it starts, says so once, and what is
//! linked in works.

use super::files_kit::{House, c_file, email, said, webhook};
use campanile_tests::{host::HostBuilder, prelude::*};

const SENTENCE: &str = "this host is built without plugin loading: a static binary can't load libraries";

#[tokio::test]
async fn a_host_without_plugin_loading_says_it_once_and_serves() {
    let mut house = House::new(HostBuilder::dev);
    for file in [c_file(), &email(), webhook()] {
        house.add(file, &[]).await;
    }
    // From here on the binary is as one that was built static.
    house.host.reconfigure(|b| {
        b.failpoints("loader.static")
            .set("instances", "[{ name = \"desk\", plugin = \"c_file\", config = { path = \"/x\" } }]")
    });
    house.host.launch().await;
    let told = house.host.output();
    let errors: Vec<_> = told.lines().filter(|line| line.contains("ERROR")).collect();
    assert_eq!(errors.len(), 1, "one error, for all of them: {told}");
    assert!(errors[0].contains(SENTENCE) && errors[0].contains("plugins=3"), "{errors:?}");
    let known = house.known("c_file").await;
    assert!(known["refusal"]["reason"].as_str().is_some_and(|why| why.contains(SENTENCE)), "{known}");
    let instance = house.instance("desk").await;
    assert_eq!(instance["state"], "failed", "{instance}");
    assert!(instance.to_string().contains(SENTENCE), "{instance}");
    assert_eq!(house.known("email").await["origin"]["isolation"], "built-in");

    let both = json!({"to": [{"user_id": "ada", "email": "ada@example.org"}], "title": "Ding", "message": "Dong.",
        "channels": ["email", "websocket"]});
    let id = house.host.api().accepted(&both).await;
    for channel in ["email", "websocket"] {
        house.host.api().state(&id, channel, "sent").await;
    }
    let reload = house.reload("webhook").await;
    assert!(!reload.status.success() && said(&reload).contains(SENTENCE), "{}", said(&reload));
    assert_eq!(house.host.api().get("/readyz").await.status, 200);
    house.host.stop().await;

    // Beside the server, whoever asks is told the same.
    let file = c_file().display().to_string();
    for args in [&["check", &file][..], &["bench", &file], &["add", &file, "--yes"], &["list"]] {
        let mut command = house.host.command();
        command.arg("plugin").args(args).env("CAMPANILE_PLUGINS__DIR", &house.folder);
        command.env("CAMPANILE_SERVER__DATA_DIR", house.host.data_dir());
        let out = command.env("CAMPANILE_FAILPOINTS", "loader.static").output().unwrap();
        assert!(said(&out).contains(SENTENCE), "{args:?}: {}", said(&out));
        assert_eq!(out.status.success(), args == ["list"], "{args:?}: {}", said(&out));
    }
}
