//! `list` over the socket.

use campanile_tests::{prelude::*, token, unique};

#[tokio::test]
async fn list_pages_newest_first() {
    let host = TestHost::shared().await;
    let user = unique("u");
    for n in 1..=5 {
        host.api().notify(&user, &format!("n{n}")).await;
    }
    let mut socket = Connect::to(host).token(&token::user(&user)).v1().open().await;
    socket.expect("hello").await;
    let mut before = Value::Null;
    let mut titles = Vec::new();
    loop {
        let mut ask = json!({"type": "list", "limit": 2});
        if !before.is_null() {
            ask["before"] = before;
        }
        socket.send(&ask).await;
        let list = socket.expect("list").await["data"].clone();
        for item in list["items"].as_array().unwrap() {
            titles.push(item["title"].as_str().unwrap().to_owned());
            assert!(item["seq"].is_i64() && item["read_at"].is_null() && item["timestamp"].is_string(), "{item}");
        }
        before = list["next_before"].clone();
        if before.is_null() {
            break;
        }
    }
    assert_eq!(titles, ["n5", "n4", "n3", "n2", "n1"]);
    assert_eq!(host.me(&user).feed().await.len(), 5);
}
