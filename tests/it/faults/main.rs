//! Faults: servers and nodes killed, frozen, cut off, and what is left judged by the history checker.
//!
//! Owns servers of its own (`campanile_tests::services`) and takes them in turns. Absent on purpose: crashes at chosen
//! points of one node (`it/durability`), and faults of a client (`it/hostile`).

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that can't go on has failed")]

mod chaos;
mod herd;
mod intake;
mod nodes;
mod postgres;
mod rabbitmq;
mod redis;
mod soak;

use campanile_tests::{
    fleet::Fleet,
    history::{History, Outcome},
    load::Work,
    wait::until_within,
};
use std::time::Duration;

/// A few people who get something all the time, some of it by mail.
fn people(n: usize) -> Vec<String> {
    (0..n).map(|n| format!("user{n}")).collect()
}

fn steady(name: &str, users: &[String]) -> Work {
    Work {
        name: name.into(),
        writers: 4,
        users: users.to_vec(),
        pause: Duration::from_millis(25),
        mail_every: 4,
        read_every: 5,
    }
}

/// Waits until that many more posts were accepted.
async fn more_accepted(fleet: &Fleet, n: usize) {
    let accepted = || fleet.record.with(|h| h.posts.iter().filter(|p| p.outcome == Outcome::Ok).count());
    let before = accepted();
    until_within(Duration::from_mins(1), "more is accepted", || async { (accepted() >= before + n).then_some(()) })
        .await;
}

/// Devices whose connections ended since a moment.
fn ended_since(history: &History, since: u64) -> Vec<String> {
    history.endings.iter().filter(|e| e.at >= since).map(|e| format!("{} ({})", e.device, e.code)).collect()
}
