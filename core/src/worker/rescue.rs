//! What keeps the table honest while nobody looks: lapsed leases, rows whose time is over, ended pauses, retention and
//! the nightly count.
//!
//! Absent on purpose: what each of these does to a row (the store's statements).

use super::{Context, lease};
use crate::queue::backoff::Outage;
use campanile_model::{
    Timestamp,
    ports::{Retention, StoreResult},
};
use chrono::{Days, NaiveTime, TimeDelta};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// Rows one statement settles.
const BATCH: u32 = 500;
/// Rows of each kind that one retention statement deletes: small, since the writer does nothing else meanwhile.
const RETAIN_BATCH: u32 = 500;
/// Users whose counts one statement compares.
const AUDIT_BATCH: u32 = 200;
/// Between the batches of upkeep, so that it never takes the writer for itself.
const BREATH: Duration = Duration::from_millis(50);
/// When the counts are compared with the rows, UTC: most hosts are quiet then.
const AUDIT_AT: NaiveTime = match NaiveTime::from_hms_opt(3, 10, 0) {
    Some(t) => t,
    None => NaiveTime::MIN,
};

/// Settles what lapsed, every `worker.sweep`.
pub async fn sweep(ctx: Arc<Context>) {
    let mut outage = Outage::of("Sweeping lapsed deliveries");
    let every = *ctx.config.worker.sweep;
    loop {
        let wait = match round(&ctx).await {
            Ok(()) => {
                outage.over();
                every
            }
            Err(e) => {
                ctx.note(&e);
                outage.failed(&e).max(every)
            }
        };
        if ctx.stopped_within(wait).await {
            return;
        }
    }
}

/// One look at everything that lapsed.
pub(super) async fn round(ctx: &Context) -> StoreResult<()> {
    for channel in ctx.status.end_lapsed_pauses().await? {
        tracing::info!(%channel, "The pause of channel {channel} is over");
    }
    // After a freeze of this process, what still runs here is renewed before it could be taken for lost.
    if ctx.leases.overdue(Instant::now()) {
        lease::renew_held(ctx).await?;
    }
    // Just after an outage, attempts that live on may not have renewed or finished yet.
    if ctx.database_is_calm() {
        while !ctx.stop.is_cancelled() {
            let rescued = ctx.status.rescue(BATCH).await?;
            if rescued > 0 {
                tracing::warn!(rescued, "Took back {rescued} deliveries whose lease had lapsed");
                ctx.bell.ring();
            }
            if rescued < u64::from(BATCH) {
                break;
            }
        }
    }
    while !ctx.stop.is_cancelled() {
        if ctx.status.sweep(BATCH, *ctx.config.retry.max_age).await? < u64::from(BATCH) {
            break;
        }
    }
    Ok(())
}

/// Deletes what retention allows, every `retention.interval`, and compares the counts once a night.
pub async fn upkeep(ctx: Arc<Context>) {
    let keep = &ctx.config.retention;
    let retention = Retention {
        notifications: *keep.notifications,
        feed: *keep.feed,
        dead: *keep.dead,
        audit: *keep.audit,
        poison: *keep.poison,
    };
    let mut outage = Outage::of("Upkeep of the database");
    let mut audit_at = next_audit(ctx.clock.now());
    loop {
        if ctx.stopped_within(*keep.interval).await {
            return;
        }
        let mut done = retain(&ctx, &retention).await;
        if done.is_ok() && ctx.clock.now() >= audit_at {
            audit_at = next_audit(ctx.clock.now());
            done = audit(&ctx).await;
        }
        match done {
            Ok(()) => outage.over(),
            Err(e) => {
                ctx.note(&e);
                outage.failed(&e);
            }
        }
    }
}

async fn retain(ctx: &Context, retention: &Retention) -> StoreResult<()> {
    while ctx.store.retain(retention, RETAIN_BATCH).await? {
        if ctx.stopped_within(BREATH).await {
            break;
        }
    }
    Ok(())
}

/// Walks all users. Drift means a bug, so a repair is loud.
async fn audit(ctx: &Context) -> StoreResult<()> {
    let mut after = None;
    let mut repaired = 0;
    loop {
        let (last, n) = ctx.store.audit_counts(after, AUDIT_BATCH).await?;
        repaired += n;
        ctx.metrics.counts_repaired.inc_by(n);
        after = last;
        if after.is_none() || ctx.stopped_within(BREATH).await {
            break;
        }
    }
    if repaired > 0 {
        tracing::error!(repaired, "The counts of {repaired} users had drifted from their rows and were repaired");
    }
    Ok(())
}

/// The next [`AUDIT_AT`] after `now`.
fn next_audit(now: Timestamp) -> Timestamp {
    let today = now.date_naive().and_time(AUDIT_AT).and_utc();
    if today > now { today } else { today.checked_add_days(Days::new(1)).unwrap_or(now + TimeDelta::days(1)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_once_a_night() {
        let at = |s: &str| s.parse::<Timestamp>().unwrap();
        assert_eq!(next_audit(at("2026-03-01T00:00:00Z")), at("2026-03-01T03:10:00Z"));
        assert_eq!(next_audit(at("2026-03-01T03:10:00Z")), at("2026-03-02T03:10:00Z"));
        assert_eq!(next_audit(at("2026-12-31T23:00:00Z")), at("2027-01-01T03:10:00Z"));
    }
}
