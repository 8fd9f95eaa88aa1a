//! Kill -9 at random instants, again and again, while people post, read and connect.
//!
//! `CAMPANILE_KILLS=200` for the long one; `CAMPANILE_SEED` repeats a run's instants.

use super::Drill;
use campanile_tests::{
    dice::{self, Dice},
    history::Marked,
    prelude::*,
};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_random_nothing_is_lost_or_doubled() {
    let kills = dice::number("CAMPANILE_KILLS").unwrap_or(12);
    let mut dice = Dice(dice::seed());
    let mut drill = Drill::start(|b| b).await;
    let users = ["ada", "bo", "cy"];
    drill.people(&users).await;
    let devices: Vec<_> = users.iter().map(|user| (drill.device(&format!("phone of {user}"), user), *user)).collect();
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..3usize)
        .map(|writer| {
            let (api, record, stop) = (drill.api.clone(), drill.record.clone(), stop.clone());
            tokio::spawn(async move {
                let api = || api.lock().unwrap().clone();
                let mut n = 0usize;
                // A burst, then a pause: kills meet idle, busy and settling hosts.
                while !stop.load(Ordering::SeqCst) {
                    let (key, user) = (format!("w{writer}-{n}"), users[(n + writer) % 3]);
                    let id = record.post_until_accepted(api, &key, user, &["websocket", "email"], &Value::Null).await;
                    if n.is_multiple_of(4) {
                        read(&api, &record, user, id).await;
                    }
                    n += 1;
                    tokio::time::sleep(Duration::from_millis(if n.is_multiple_of(8) { 120 } else { 5 })).await;
                }
            })
        })
        .collect();
    for _ in 0..kills {
        tokio::time::sleep(Duration::from_millis(dice.below(250))).await;
        drill.revive().await;
    }
    stop.store(true, Ordering::SeqCst);
    for writer in writers {
        writer.await.unwrap();
    }
    let history = drill.judge(devices).await;
    assert!(history.posts.iter().any(|p| p.id.is_some()), "nothing was posted");
    let accepted = history.posts.iter().filter(|p| p.id.is_some()).count();
    eprintln!("{kills} kills, {} posts, {accepted} answers, {} mails", history.posts.len(), history.mails.len());
}

/// Marks it read once; an answer that never came leaves it open whether it was.
async fn read(api: &impl Fn() -> Option<Api>, record: &campanile_tests::load::Recorder, user: &str, id: uuid::Uuid) {
    let Some(me) = api().map(|api| api.with_key(&token::user(user))) else { return };
    let request = me.request("POST", &format!("/api/v1/me/notifications/{id}/read")).json(&json!({}));
    if me.try_run(request).await.is_ok_and(|reply| reply.status == 200) {
        record.with(|h| {
            let at = h.moment();
            h.marks.push(Marked { at, user: user.to_owned(), id, mark: "read".into() });
        });
    }
}
