//! One loop per channel: takes ids from the queue, claims them and starts their attempts.
//!
//! Owns: the order permit → receive → claim → ack → attempt. Back-pressure is the permit: what can't start now stays in
//! the queue, and behind it in the table. Absent on purpose: the attempt itself.

use super::{Context, attempt};
use crate::{channel::Guard, observe::metrics as m, queue::backoff::Outage};
use campanile_model::{
    DeliveryId,
    ports::{Envelope, QueueError, StoreError, Subscription},
    work::ClaimOutcome,
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// Why a subscription was given up.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// Runs until the host drains. After any trouble the subscription is dropped, so that what it held goes back, and a new
/// one is made when the pause is over.
pub async fn run(ctx: Arc<Context>, guard: Arc<Guard>) {
    let channel = guard.handle().name.clone();
    let mut outage = Outage::of("Taking deliveries from the work queue");
    while !ctx.stop.is_cancelled() {
        let trouble = match ctx.queue.subscribe(&channel, ctx.config.worker.prefetch).await {
            Ok(mut subscription) => match consume(&ctx, &guard, subscription.as_mut(), &mut outage).await {
                Ok(()) => return,
                Err(trouble) => trouble,
            },
            Err(e) => e.into(),
        };
        if let Trouble::Store(e) = &trouble {
            ctx.note(e);
        }
        if ctx.stop.is_cancelled() {
            return;
        }
        pause(&ctx, outage.failed(&trouble)).await;
    }
}

async fn pause(ctx: &Context, wait: Duration) {
    tokio::select! {
        () = ctx.stop.cancelled() => {}
        () = tokio::time::sleep(wait) => {}
    }
}

/// `Ok` when the host drains.
async fn consume(
    ctx: &Arc<Context>,
    guard: &Arc<Guard>,
    subscription: &mut dyn Subscription,
    outage: &mut Outage,
) -> Result<(), Trouble> {
    let in_app = guard.handle().in_app;
    loop {
        let room = tokio::select! {
            biased;
            () = ctx.stop.cancelled() => return Ok(()),
            room = guard.room() => if in_app { ctx.config.worker.relay_batch as usize } else { room },
        };
        let envelopes = tokio::select! {
            biased;
            () = ctx.stop.cancelled() => return Ok(()),
            // Paused, or the breaker opened: let go and wait for room again.
            () = guard.shut() => continue,
            received = subscription.receive(room) => received?,
        };
        let Some(last) = envelopes.last().map(|e| e.tag) else { continue };
        ctx.call_relay(&guard.handle().name);
        let ids: Vec<DeliveryId> = envelopes.iter().map(|e: &Envelope| e.delivery_id).collect();
        if in_app {
            ctx.status.complete_in_app(&ids).await?;
            subscription.ack_through(last).await?;
        } else {
            claim_and_start(ctx, guard, subscription, &ids, last).await?;
        }
        outage.over();
    }
}

async fn claim_and_start(
    ctx: &Arc<Context>,
    guard: &Arc<Guard>,
    subscription: &mut dyn Subscription,
    ids: &[DeliveryId],
    last: u64,
) -> Result<(), Trouble> {
    let mut permits = guard.take(ids.len());
    let asked_at = Instant::now();
    let outcomes = ctx.status.claim(ids, ctx.node, *ctx.config.worker.lease).await?;
    for outcome in outcomes {
        let ClaimOutcome::Claimed(claimed) = outcome else { continue };
        if claimed.attempt == 1 {
            let waited = claimed.age_ms.max(0) as f64 / 1000.0;
            ctx.metrics.queue_wait.get_or_create(&m::ByQueue::new(claimed.channel.as_str())).observe(waited);
        }
        let hold = ctx.leases.hold(&claimed, asked_at);
        // A drain that began during the claim gives these back with everything else that is leased and not under way.
        let Some(permit) = permits.pop().filter(|_| !ctx.stop.is_cancelled()) else { continue };
        ctx.attempts.spawn(attempt::run(ctx.clone(), *claimed, hold, permit));
    }
    drop(permits);
    subscription.ack_through(last).await?;
    Ok(())
}
