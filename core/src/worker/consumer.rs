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

/// Between two tries while the queue itself is away.
const SHORT: Duration = Duration::from_millis(200);

/// Why a subscription was given up.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// Why a subscription was let go in peace.
enum End {
    Drain,
    /// The channel was paused, every breaker opened, or its rate is used up for long: what we hold is for nodes that can
    /// send it.
    Shut,
}

/// Runs until the host drains or the channel is no more. After any trouble, and while the channel takes no work, there is no subscription, so that
/// what it held goes back.
pub async fn run(ctx: Arc<Context>, guard: Arc<Guard>) {
    let channel = guard.name().clone();
    let mut outage = Outage::of("Taking deliveries from the work queue");
    loop {
        tokio::select! {
            biased;
            () = ctx.stop.cancelled() => return,
            () = guard.gone() => return,
            _ = guard.room() => {}
        }
        // The one delivery of a half-open breaker need not keep others from nodes that can send them.
        let on_trial = guard.is_on_trial();
        let prefetch = if on_trial { 1 } else { ctx.config.worker.prefetch };
        let trouble = match ctx.queue.subscribe(&channel, prefetch).await {
            Ok(mut subscription) => match consume(&ctx, &guard, subscription.as_mut(), on_trial, &mut outage).await {
                Ok(End::Drain) => return,
                Ok(End::Shut) => continue,
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
        match &trouble {
            // It says so itself, and `subscribe` waits for it.
            Trouble::Queue(_) if ctx.queue.epoch().is_none() => pause(&ctx, SHORT).await,
            trouble => pause(&ctx, outage.failed(trouble)).await,
        }
    }
}

async fn pause(ctx: &Context, wait: Duration) {
    tokio::select! {
        () = ctx.stop.cancelled() => {}
        () = tokio::time::sleep(wait) => {}
    }
}

async fn consume(
    ctx: &Arc<Context>,
    guard: &Arc<Guard>,
    subscription: &mut dyn Subscription,
    on_trial: bool,
    outage: &mut Outage,
) -> Result<End, Trouble> {
    let in_app = guard.in_app();
    loop {
        let room = tokio::select! {
            biased;
            () = ctx.stop.cancelled() => return Ok(End::Drain),
            room = guard.room_unless_shut() => room,
        };
        let Some(room) = room.filter(|_| on_trial == guard.is_on_trial()) else { return Ok(End::Shut) };
        let room = if in_app { ctx.config.worker.relay_batch as usize } else { room };
        let envelopes = tokio::select! {
            biased;
            () = ctx.stop.cancelled() => return Ok(End::Drain),
            () = guard.shut() => return Ok(End::Shut),
            received = subscription.receive(room) => received?,
        };
        let Some(last) = envelopes.last().map(|e| e.tag) else { continue };
        ctx.call_relay(guard.name());
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
