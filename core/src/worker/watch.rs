//! What the worker looks at now and then: pauses and the channels' health.

use super::Context;
use crate::{channel::Guard, queue::backoff::Outage};
use std::{sync::Arc, time::Duration};

/// How old the cache of pauses may be when a signal was lost. The claim reads the rows themselves.
const PAUSES_EVERY: Duration = Duration::from_secs(3);
const HEALTH_EVERY: Duration = Duration::from_secs(30);

/// Keeps the registry's cache of pauses.
pub async fn pauses(ctx: Arc<Context>) {
    let changed = ctx.channels.pauses_changed();
    let mut outage = Outage::of("Reading the pauses of channels");
    loop {
        let wait = match ctx.store.pauses().await {
            Ok(pauses) => {
                outage.over();
                ctx.channels.set_paused(&pauses.into_iter().map(|p| p.channel).collect());
                PAUSES_EVERY
            }
            Err(e) => {
                ctx.note(&e);
                outage.failed(&e)
            }
        };
        tokio::select! {
            () = ctx.stop.cancelled() => return,
            // A resume has made held rows due.
            () = changed.notified() => ctx.bell.ring(),
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Asks the instances of one channel how they are.
pub async fn health(ctx: Arc<Context>, guard: Arc<Guard>) {
    loop {
        guard.check_health().await;
        tokio::select! {
            () = guard.gone() => return,
            stopped = ctx.stopped_within(HEALTH_EVERY) => if stopped { return },
        }
    }
}
