//! What a plugin that misbehaves costs the other channels: nothing but its share of the machine. Prints a table: from
//! acceptance to `sent`, for a plugin that behaves and for the e-mail that is linked in, beside the same without a villain.
//!
//! Speed is shown and not judged, for the machine is shared. What is judged: all are sent, each at its first attempt, and none
//! has waited for the time that the villain may take.

use super::files_kit::{BOTH, House, c_file, note, outcomes, villain};
use campanile_tests::{prelude::*, smtp::SmtpServer};
use chrono::{DateTime, FixedOffset};
use std::{path::Path, time::Duration};

/// Deliveries of each kind in each row.
const EACH: usize = 50;
/// One flood is 200,000 lines: one in so many messages is enough.
const EVERY: usize = EACH / 5;
/// What the villain may take for one delivery.
const TIMEOUT: Duration = Duration::from_secs(15);

/// From acceptance to `sent`, in milliseconds.
async fn latency(house: &House, id: &str, channel: &str) -> i64 {
    let at = |value: &Value| -> DateTime<FixedOffset> { value.as_str().unwrap().parse().unwrap() };
    let delivery = house.host.api().state(id, channel, "sent").await;
    assert_eq!(outcomes(&delivery), ["ok"], "{delivery}");
    let took = at(&delivery["sent_at"]) - at(&delivery["created_at"]);
    assert!(took.to_std().is_ok_and(|took| took < TIMEOUT), "it waited for the villain: {delivery}");
    took.num_milliseconds()
}

fn quantiles(mut all: Vec<i64>) -> String {
    all.sort_unstable();
    let at = |share: usize| all[(all.len() * share / 100).min(all.len() - 1)];
    format!("{:>9} {:>6}", at(50), at(99))
}

/// One row: as many messages to each of the three as fit, in turn, then what became of those that count.
async fn row(file: &Path, isolation: &str, order: Option<&str>) -> String {
    let relay = SmtpServer::start().await;
    let mut house = House::new(|b| b.set("retry.schedule", "[\"1h\"]").mail_to(relay.address));
    house.add(c_file(), &["--isolation", isolation]).await;
    house.add(file, &["--isolation", isolation]).await;
    house.host.launch().await;
    let out = house.host.folder().join("out.txt");
    house.create(&json!({"name": "desk", "plugin": "c_file", "config": {"path": out}})).await;
    let limits = json!({"timeout_ms": u64::try_from(TIMEOUT.as_millis()).unwrap()});
    house.create(&json!({"name": "bad", "plugin": "villain", "limits": limits})).await;
    let mail = json!({"to": [{"user_id": "ada", "email": "ada@example.org"}], "title": "Doors open",
        "message": "At nine.", "channels": ["email"]});
    let api = house.host.api();
    let mut sent = Vec::new();
    for n in 0..EACH {
        if let Some(order) = order.filter(|order| *order != "flood" || n % EVERY == 0) {
            api.accepted(&note("villain", order)).await;
        }
        sent.push((api.accepted(&note("c_file", "room-7")).await, api.accepted(&mail).await));
    }
    let (mut file, mut linked) = (Vec::new(), Vec::new());
    for (in_file, in_host) in &sent {
        file.push(latency(&house, in_file, "c_file").await);
        linked.push(latency(&house, in_host, "email").await);
    }
    assert!(house.host.is_running());
    // Nothing that the villain still holds is worth waiting for.
    house.host.kill9().await;
    let what = order.map_or("nobody".to_owned(), |order| format!("one told {order:?}"));
    format!("{isolation:<11} {what:<18} {} {}\n", quantiles(file), quantiles(linked))
}

#[tokio::test]
async fn the_latency_of_other_channels_beside_each_villain() {
    let file = villain(&[]);
    let mut table = format!(
        "from acceptance to sent, in ms\n{:<11} {:<18} {:>9} {:>6} {:>9} {:>6}\n",
        "", "beside", "file p50", "p99", "mail p50", "p99"
    );
    for isolation in BOTH {
        // What would end the host in-process needs a process of its own.
        let deadly = ["segv", "exit"].into_iter().filter(|_| isolation == "process");
        let orders = ["never", "block", "spin", "flood", "wild"].into_iter().chain(deadly).map(Some);
        for order in std::iter::once(None).chain(orders) {
            table += &row(&file, isolation, order).await;
        }
    }
    eprintln!("{table}");
}
