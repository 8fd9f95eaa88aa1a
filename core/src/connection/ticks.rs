//! The hub's shared ticks: one task each for all connections, in place of timers in every one.

use super::{
    hub::{Hub, SHARDS},
    run::CLOSE_LIMIT,
};
use crate::services::Services;
use campanile_model::UserKey;
use std::{
    ops::RangeInclusive,
    sync::Arc,
    time::{Duration, Instant},
};

/// Users asked about in one statement.
const CHUNK: usize = 500;
/// A database that hangs must not stop the looks at others.
const LOOK: Duration = Duration::from_secs(5);
/// How often a connected user is checked for having been disabled: a lost signal must not keep a door open.
const DISABLED_CHECK: Duration = Duration::from_mins(1);
/// Over how many milliseconds a catch-up is spread: after the broker's return every node has one at the same time.
const CATCH_UP_MS: RangeInclusive<u64> = 5_000..=15_000;
/// `delivered` is gathered this long.
const CONFIRM: Duration = Duration::from_millis(500);

/// Starts them. They end when the host begins to stop.
pub fn start(services: &Arc<Services>) {
    let tasks = &services.tasks;
    tasks.spawn(pings(services.clone()));
    tasks.spawn(heads(services.clone()));
    tasks.spawn(catch_ups(services.clone()));
    tasks.spawn(confirms(services.clone()));
}

/// Pings, pongs and expiry.
async fn pings(s: Arc<Services>) {
    let l = *s.hub.limits();
    // Fine enough for the shortest of the limits, coarse enough to cost nothing.
    let shortest = l.ping_interval.min(l.pong_timeout).min(l.expiry_grace.max(Duration::from_secs(1)));
    let step = (shortest / 5).clamp(Duration::from_millis(50), Duration::from_secs(1));
    while !over(&s, step).await {
        s.hub.tick(s.clock.now());
    }
}

/// The regular look at the feed of everyone connected: each shard has its moment in the heartbeat, so a user is looked
/// at once per heartbeat and the database sees an even trickle.
async fn heads(s: Arc<Services>) {
    let step = s.hub.limits().heartbeat / SHARDS as u32;
    let mut disabled_checked = [Instant::now(); SHARDS];
    let mut due = tokio::time::Instant::now();
    loop {
        for (shard, checked) in disabled_checked.iter_mut().enumerate() {
            due += step;
            tokio::select! {
                () = s.draining.cancelled() => return,
                () = tokio::time::sleep_until(due) => {}
            }
            // After a pause of the whole machine there is nothing to make up for.
            due = due.max(tokio::time::Instant::now() - step);
            let users = s.hub.users_of(shard);
            let check = !users.is_empty() && checked.elapsed() >= DISABLED_CHECK;
            if check || users.is_empty() {
                *checked = Instant::now();
            }
            for chunk in users.chunks(CHUNK) {
                look(&s, chunk, check).await;
            }
        }
    }
}

/// After signals of other nodes may have been lost: the same look at everyone connected, the disabled ones included, out
/// of turn. One that is asked for while another runs comes after it.
async fn catch_ups(s: Arc<Services>) {
    loop {
        tokio::select! {
            () = s.hub.missed() => {}
            () = s.draining.cancelled() => return,
        }
        let users: Vec<UserKey> = (0..SHARDS).flat_map(|shard| s.hub.users_of(shard)).collect();
        if users.is_empty() {
            continue;
        }
        s.metrics.bus_catch_ups.inc();
        let chunks = users.chunks(CHUNK);
        let share = Duration::from_millis(rand::random_range(CATCH_UP_MS)) / chunks.len() as u32;
        let start = tokio::time::Instant::now();
        for (i, chunk) in chunks.enumerate() {
            let at = start + share * i as u32 + share.mul_f64(rand::random());
            tokio::select! {
                () = s.draining.cancelled() => return,
                () = tokio::time::sleep_until(at) => {}
            }
            look(&s, chunk, true).await;
        }
    }
}

/// Looks at the feeds of some users and tells their connections; with `disabled`, ends those who were disabled.
async fn look(s: &Services, users: &[UserKey], disabled: bool) {
    let hub: &Hub = &s.hub;
    match tokio::time::timeout(LOOK, s.store.feed_heads(users)).await {
        Ok(Ok(heads)) if heads.len() == users.len() => {
            for (user, head) in users.iter().zip(heads) {
                hub.head(user, &Some(head));
            }
        }
        // The client still hears that the server is alive; what it may have missed is found at the next look.
        _ => users.iter().for_each(|user| hub.head(user, &None)),
    }
    if disabled && let Ok(Ok(disabled)) = tokio::time::timeout(LOOK, s.store.disabled_among(users)).await {
        for user in disabled {
            hub.close_user(&user, super::close::NOT_ALLOWED);
        }
    }
}

async fn confirms(s: Arc<Services>) {
    loop {
        tokio::select! {
            () = s.hub.confirms().some() => {}
            () = s.draining.cancelled() => break,
        }
        over(&s, CONFIRM).await;
        tell(&s).await;
        if s.draining.is_cancelled() {
            break;
        }
    }
    // What was written until the last connection was closed.
    let patience = *s.config.server.drain_spread + CLOSE_LIMIT;
    let _ = tokio::time::timeout(patience, s.hub.empty()).await;
    tell(&s).await;
}

async fn tell(s: &Services) {
    for batch in s.hub.confirms().take() {
        if let Err(e) = s.status.confirm_delivered(batch).await {
            // They stay `sent`, which is true as well.
            tracing::warn!(error = &e as &dyn std::error::Error, "Confirmations of written items were not stored");
        }
    }
}

/// Waits; true when the host stops.
async fn over(s: &Services, wait: Duration) -> bool {
    tokio::select! {
        () = s.draining.cancelled() => true,
        () = tokio::time::sleep(wait) => false,
    }
}
