//! Large audiences: turns a stored list of recipients into deliveries, a slice per transaction, in user order.
//!
//! Begins at once after the accept and goes on where a crash or a drain left off: the cursor is in the row. Absent on
//! purpose: who gets what by which channel (ingest's plan) and the deliveries themselves (the store's statement).

use super::Context;
use crate::queue::backoff::Outage;
use campanile_model::{
    ports::{AcceptError, StoreError},
    work::AudienceSlice,
};
use std::{sync::Arc, time::Duration};

/// The longest an audience waits to be noticed when nobody rang (another node accepted it).
const POLL: Duration = Duration::from_millis(250);
/// A recipient erased while the slice was planned: plan it again this often before taking a pause.
const REPLANS: u32 = 5;

pub async fn run(ctx: Arc<Context>) {
    let accepted = ctx.status.audiences();
    let mut outage = Outage::of("Expanding large audiences");
    while !ctx.stop.is_cancelled() {
        let wait = match step(&ctx).await {
            Ok(true) => {
                outage.over();
                continue;
            }
            Ok(false) => {
                outage.over();
                POLL
            }
            Err(e) => {
                if let AcceptError::Store(e) = &e {
                    ctx.note(e);
                }
                outage.failed(&e)
            }
        };
        tokio::select! {
            () = ctx.stop.cancelled() => return,
            () = accepted.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// One slice. False: there is no audience to expand.
async fn step(ctx: &Context) -> Result<bool, AcceptError> {
    let claimed = ctx.store.claim_audience(ctx.node, ctx.config.ingest.expand_batch, *ctx.config.worker.lease).await;
    let Some(slice) = claimed.map_err(AcceptError::Store)? else { return Ok(false) };
    let mut replans = 0;
    loop {
        match expand(ctx, &slice).await {
            Err(AcceptError::Stale) if replans < REPLANS => replans += 1,
            Ok(true) => {
                let up_to = slice.cursor as usize + slice.recipients.len();
                tracing::debug!(notification.id = %slice.notification.id, up_to, total = slice.total, "Expanded a slice");
                ctx.bell.ring();
                return Ok(true);
            }
            // Another node has moved the cursor: whatever is left is found by the next look.
            Ok(false) => return Ok(true),
            Err(e) => return Err(e),
        }
    }
}

async fn expand(ctx: &Context, slice: &AudienceSlice) -> Result<bool, AcceptError> {
    let n = &slice.notification;
    let plans = ctx.ingest.plan_recipients(slice).await?;
    if plans.len() != slice.recipients.len() {
        return Err(AcceptError::Store(StoreError::Row {
            table: "audiences",
            column: "spec",
            row: n.id.to_string(),
            detail: format!("{} of {} recipients could be planned", plans.len(), slice.recipients.len()),
        }));
    }
    ctx.status.expand(ctx.node, n.id, slice.cursor, plans).await
}
