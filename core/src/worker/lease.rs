//! The leases this node holds: which deliveries are under way here, and until when they are ours for certain.
//!
//! Owns: the table of attempts under way and their renewal. A lease is judged here by the monotonic clock against the
//! moment before the last successful renewal was asked for, so that it ends here before it ends in the database.
//! Absent on purpose: taking leases (claim) and judging those of others (rescue).

use super::Context;
use crate::queue::backoff::Outage;
use campanile_model::{DeliveryId, ports::StoreResult, work::Claimed};
use campanile_plugin::Permission;
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

pub struct Leases {
    /// Times below are milliseconds since this moment.
    base: Instant,
    length: Duration,
    table: Mutex<HashMap<DeliveryId, Arc<Term>>>,
}

/// One attempt's lease.
struct Term {
    attempt: u32,
    renewed_ms: AtomicU64,
    /// The database said that it is not ours any more.
    lost: AtomicBool,
    /// The channel was told to go on past its point of no return.
    passed: AtomicBool,
    /// The channel asked and was told no.
    refused: AtomicBool,
}

/// An attempt under way; leaves the table when it is dropped.
pub struct Hold {
    leases: Arc<Leases>,
    id: DeliveryId,
    term: Arc<Term>,
}

impl Leases {
    pub fn new(length: Duration) -> Arc<Self> {
        Arc::new(Self { base: Instant::now(), length, table: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<DeliveryId, Arc<Term>>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ms(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.base).as_millis() as u64
    }

    /// `asked_at`: the moment before the claim was sent.
    pub fn hold(self: &Arc<Self>, claimed: &Claimed, asked_at: Instant) -> Hold {
        let term = Arc::new(Term {
            attempt: claimed.attempt,
            renewed_ms: AtomicU64::new(self.ms(asked_at)),
            lost: AtomicBool::new(false),
            passed: AtomicBool::new(false),
            refused: AtomicBool::new(false),
        });
        self.lock().insert(claimed.delivery_id, term.clone());
        Hold { leases: self.clone(), id: claimed.delivery_id, term }
    }

    /// Everything held, for one batched renewal.
    pub fn held(&self) -> Vec<(DeliveryId, u32)> {
        self.lock().iter().filter(|(_, t)| !t.lost.load(Ordering::Relaxed)).map(|(id, t)| (*id, t.attempt)).collect()
    }

    /// Whether a renewal is late: the process was frozen, or the database slow.
    pub fn overdue(&self, now: Instant) -> bool {
        let late = self.ms(now).saturating_sub(self.length.as_millis() as u64 / 2);
        self.lock().values().any(|t| !t.lost.load(Ordering::Relaxed) && t.renewed_ms.load(Ordering::Relaxed) < late)
    }

    /// Of `asked`, the database renewed these; the others are lost.
    pub fn renewed(&self, asked: &[(DeliveryId, u32)], asked_at: Instant, kept: &[DeliveryId]) {
        let table = self.lock();
        let kept: std::collections::HashSet<_> = kept.iter().collect();
        for (id, attempt) in asked {
            // A finished delivery may have come back here with its next attempt meanwhile.
            let Some(term) = table.get(id).filter(|t| t.attempt == *attempt) else { continue };
            if kept.contains(id) {
                term.renewed_ms.store(self.ms(asked_at), Ordering::Release);
            } else {
                term.lost.store(true, Ordering::Release);
                tracing::warn!(delivery.id = %id, attempt, "Lost the lease of {id}; another attempt may run");
            }
        }
    }

    #[cfg(test)]
    fn count(&self) -> usize {
        self.lock().len()
    }
}

impl Hold {
    /// Whether the lease holds for certain at this moment.
    pub fn holds_at(&self, now: Instant) -> bool {
        let renewed = Duration::from_millis(self.term.renewed_ms.load(Ordering::Acquire));
        let age = now.saturating_duration_since(self.leases.base + renewed);
        !self.term.lost.load(Ordering::Acquire) && age < self.leases.length
    }

    /// The channel asked and was let go on.
    pub fn passed(&self) -> bool {
        self.term.passed.load(Ordering::Acquire)
    }

    /// The channel asked, was told no, and so has done nothing.
    pub fn refused(&self) -> bool {
        self.term.refused.load(Ordering::Acquire) && !self.passed()
    }
}

impl Permission for Hold {
    fn may_proceed(&self) -> bool {
        let may = self.holds_at(Instant::now());
        let noted = if may { &self.term.passed } else { &self.term.refused };
        noted.store(true, Ordering::Release);
        may
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut table = self.leases.lock();
        if table.get(&self.id).is_some_and(|t| Arc::ptr_eq(t, &self.term)) {
            table.remove(&self.id);
        }
    }
}

/// Renews everything held every third of the lease, in one statement; while the database is away, as soon as it can.
pub async fn renew(ctx: Arc<Context>, end: CancellationToken) {
    let every = ctx.leases.length / 3;
    let mut outage = Outage::of("Renewing leases");
    let mut wait = every;
    loop {
        tokio::select! {
            () = end.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
        wait = match renew_held(&ctx).await {
            Ok(()) => {
                outage.over();
                every
            }
            Err(e) => {
                ctx.note(&e);
                outage.failed(&e).min(every)
            }
        };
    }
}

/// One statement for everything that is under way here.
pub async fn renew_held(ctx: &Context) -> StoreResult<()> {
    let held = ctx.leases.held();
    if held.is_empty() {
        return Ok(());
    }
    let asked_at = Instant::now();
    let kept = ctx.store.renew(ctx.node, &held, ctx.leases.length).await?;
    ctx.leases.renewed(&held, asked_at, &kept);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::tests::claimed;

    #[test]
    fn a_lease_ends_here_by_its_own_clock() {
        let leases = Leases::new(Duration::from_mins(1));
        let t = Instant::now();
        let claim = claimed(1);
        let hold = leases.hold(&claim, t);
        assert!(hold.holds_at(t + Duration::from_secs(59)));
        assert!(!hold.holds_at(t + Duration::from_secs(61)));
        assert!(!leases.overdue(t + Duration::from_secs(29)) && leases.overdue(t + Duration::from_secs(31)));
        let asked = leases.held();
        leases.renewed(&asked, t + Duration::from_secs(20), &[claim.delivery_id]);
        assert!(hold.holds_at(t + Duration::from_secs(79)));
        assert!(!hold.holds_at(t + Duration::from_secs(81)));
    }

    #[test]
    fn what_was_not_renewed_may_not_proceed() {
        let leases = Leases::new(Duration::from_mins(1));
        let claim = claimed(4);
        let hold = leases.hold(&claim, Instant::now());
        assert!(!hold.passed());
        assert!(hold.may_proceed() && hold.passed());
        leases.renewed(&[(claim.delivery_id, 4)], Instant::now(), &[]);
        assert!(!hold.may_proceed());
        assert!(!hold.refused(), "it went on earlier, so something may have happened");
        assert!(leases.held().is_empty(), "a lost lease is not asked for again");
        drop(hold);
        assert_eq!(leases.count(), 0);
    }

    #[test]
    fn an_answer_about_an_older_attempt_changes_nothing() {
        let leases = Leases::new(Duration::from_mins(1));
        let (older, mut newer) = (claimed(1), claimed(2));
        newer.delivery_id = older.delivery_id;
        let first = leases.hold(&older, Instant::now());
        let second = leases.hold(&newer, Instant::now());
        leases.renewed(&[(older.delivery_id, 1)], Instant::now(), &[]);
        assert!(second.may_proceed());
        drop(first);
        assert_eq!(leases.count(), 1, "the older one does not take the newer one's place away");
    }
}
