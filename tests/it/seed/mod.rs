//! The first client, unchanged, under Node: live notifications, counts, reads, and giving up on a bad token.
//!
//! `notification_client.js` is the class as its users have it. It must never be edited to make a test pass.

use campanile_tests::{prelude::*, token::Claims, unique};
use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
};
use tokio::sync::mpsc;

/// The class in a Node process of its own; each line it prints is an event.
struct Client {
    child: Child,
    stdin: ChildStdin,
    events: mpsc::UnboundedReceiver<Value>,
}

impl Client {
    fn start(host: &TestHost, token: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("it/seed");
        let mut child = Command::new("node")
            .arg(folder.join("run.cjs"))
            .arg(host.url(""))
            .arg(token)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node starts (the suite needs Node 20 or newer)");
        let stdin = child.stdin.take().unwrap();
        let stdout = child.stdout.take().unwrap();
        let (tell, events) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ =
                    tell.send(serde_json::from_str(&line).unwrap_or_else(|_| json!({"event": "said", "text": line})));
            }
        });
        Self { child, stdin, events }
    }

    /// The next event of this kind.
    async fn wait_for(&mut self, event: &str) -> Value {
        let search = async {
            loop {
                let next = self.events.recv().await.unwrap_or_else(|| panic!("the client ended before {event}"));
                if next["event"] == event {
                    return next;
                }
            }
        };
        tokio::time::timeout(Duration::from_mins(1), search).await.unwrap_or_else(|_| panic!("no {event}"))
    }

    fn tell(&mut self, command: &Value) {
        writeln!(self.stdin, "{command}").unwrap();
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn the_class_gets_notifications_counts_and_reads() {
    let host = TestHost::shared().await;
    let user = unique("classic");
    host.api().notify(&user, "before").await;
    let mut client = Client::start(host, &token::user(&user));
    client.wait_for("open").await;
    assert_eq!(client.wait_for("unread").await["count"], 1);
    let body = json!({"user_id": user, "title": "New message from John", "message": "John: Hello there...",
        "notification_type": "new_message", "channels": ["websocket"], "data": {"room_id": "room", "sender_id": "sender"}});
    let id = host.api().accepted(&body).await;
    let got = client.wait_for("notification").await["data"].clone();
    assert_eq!(
        (&got["notification_id"], &got["room_id"], &got["title"]),
        (&json!(id), &json!("room"), &json!("New message from John"))
    );
    client.tell(&json!({"do": "read", "id": id}));
    assert_eq!(client.wait_for("update").await["data"], json!({"notification_id": id, "status": "read"}));
    assert_eq!(client.wait_for("unread").await["count"], 1);
    client.tell(&json!({"do": "ping"}));
    client.wait_for("pong").await;
    client.tell(&json!({"do": "disconnect"}));
    assert_eq!(client.wait_for("close").await["code"], 1000);
}

#[tokio::test]
async fn the_class_comes_back_after_a_restart() {
    let mut host = TestHost::start().await;
    let port = host.address().port();
    host.reconfigure(|b| b.text("server.listen", &format!("127.0.0.1:{port}")));
    let mut client = Client::start(&host, &token::user("ada"));
    client.wait_for("open").await;
    host.stop().await;
    assert_eq!(client.wait_for("close").await["code"], 1012);
    host.launch().await;
    client.wait_for("open").await;
    host.api().notify("ada", "after").await;
    assert_eq!(client.wait_for("notification").await["data"]["title"], "after");
}

#[tokio::test]
async fn with_a_bad_or_expired_token_the_class_gives_up_after_five_tries() {
    let host = TestHost::shared().await;
    // Side by side: each waits as long as the class waits between its tries.
    let tokens = ["nonsense".to_owned(), Claims::of("ada").expiring_in(-3600).sign()];
    let mut clients = tokens.map(|token| Client::start(host, &token));
    for client in &mut clients {
        client.wait_for("gave_up").await;
        let mut opened = 0;
        while let Ok(event) = client.events.try_recv() {
            opened += u32::from(event["event"] == "open");
        }
        assert_eq!(opened, 0, "a bad token opened a socket, which starts the five tries anew");
    }
}

#[tokio::test]
async fn eleven_tabs_do_not_evict_each_other_for_ever() {
    let host = TestHost::shared().await;
    let user = unique("tabs");
    let token = token::user(&user);
    let mut tabs: Vec<_> = (0..11).map(|_| Client::start(host, &token)).collect();
    let mut closed = Vec::new();
    for tab in &mut tabs {
        tab.wait_for("open").await;
    }
    // One is closed with 1000 and stays away; the others stay open.
    until("one tab was closed", || async {
        (host.api().get(&format!("/api/v1/connections?user_id={user}")).await.text.matches(&user).count() == 10)
            .then_some(())
    })
    .await;
    host.api().notify(&user, "to the ten").await;
    let mut got = 0;
    for tab in &mut tabs {
        let search = async {
            loop {
                match tab.events.recv().await {
                    Some(event) if event["event"] == "notification" => return None,
                    Some(event) if event["event"] == "close" => return Some(event["code"].clone()),
                    Some(_) => {}
                    None => panic!("a tab ended"),
                }
            }
        };
        match tokio::time::timeout(DEADLINE, search).await.expect("each tab hears something") {
            None => got += 1,
            Some(code) => closed.push(code),
        }
    }
    assert_eq!((got, closed), (10, vec![json!(1000)]));
}
