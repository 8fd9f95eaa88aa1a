//! Bulk acts in the background: a batch, a sign of life, a rest, until nothing matches or somebody stops it.
//!
//! Written down in the database, so that every node shows them; the node that began one works on it, and when that node
//! goes, what it has not done is still dead and can be begun again. Absent on purpose: a queue of its own.

use super::Signed;
use crate::{http::problem::ApiResult, services::Services};
use async_trait::async_trait;
use campanile_model::{
    DeliveryId,
    ports::{DeadPlace, DeadWhich, MoveTo, Moved, ReplayOutcome, StoreResult, TaskRow},
};
use std::{sync::Arc, time::Duration};
use uuid::Uuid;

/// Deliveries of one transaction.
const BATCH: u32 = 100;
/// One look while nothing is asked about speed, so that others get their turn at the writer.
const BREATH: Duration = Duration::from_millis(20);

/// What is done, batch by batch.
#[async_trait]
pub trait Work: Send + 'static {
    /// As the table of tasks names it.
    fn name(&self) -> &'static str;
    /// A second; `None`: as fast as the store takes them.
    fn rate(&self) -> Option<u32> {
        None
    }
    /// The next so many; `None` when nothing is left.
    async fn next(&mut self, s: &Services, batch: u32) -> StoreResult<Option<Step>>;
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Step {
    pub done: u64,
    pub skipped: u64,
}

/// How many at once, and how long to rest after them.
fn pace(rate: Option<u32>) -> (u32, Duration) {
    match rate {
        None => (BATCH, BREATH),
        Some(rate) => {
            let batch = rate.clamp(1, BATCH);
            (batch, Duration::from_secs_f64(f64::from(batch) / f64::from(rate.max(1))))
        }
    }
}

/// Dead letters of one kind.
pub struct Job {
    pub which: DeadWhich,
    what: What,
    rate: Option<u32>,
    before: Option<DeadPlace>,
}

/// What is done with each.
enum What {
    Replay,
    Dismiss,
    Move(MoveTo),
}

impl Job {
    pub fn replay(which: DeadWhich, rate: Option<u32>) -> Self {
        Self { which, what: What::Replay, rate, before: None }
    }
    pub fn dismiss(which: DeadWhich) -> Self {
        Self { which, what: What::Dismiss, rate: None, before: None }
    }
    pub fn move_to(which: DeadWhich, to: MoveTo) -> Self {
        Self { which, what: What::Move(to), rate: None, before: None }
    }
}

#[async_trait]
impl Work for Job {
    fn name(&self) -> &'static str {
        match self.what {
            What::Replay => "replay",
            What::Dismiss => "dismiss",
            What::Move(_) => "move",
        }
    }

    fn rate(&self) -> Option<u32> {
        self.rate
    }

    async fn next(&mut self, s: &Services, batch: u32) -> StoreResult<Option<Step>> {
        let found = s.store.dead_items(&self.which, self.before, batch).await?;
        let Some(last) = found.last().map(DeadPlace::of) else { return Ok(None) };
        // Downwards past what could not be done, so that it is tried once and the end is reached.
        self.before = Some(last);
        let ids: Vec<DeliveryId> = found.into_iter().map(|d| d.id).collect();
        let done = match &self.what {
            What::Replay => {
                let outcomes = s.status.replay_many(&self.which.app, &ids, "", None).await?;
                outcomes.iter().filter(|o| matches!(o, ReplayOutcome::Replayed)).count() as u64
            }
            What::Dismiss => s.store.dismiss(&self.which.app, &ids, "", None).await?,
            What::Move(to) => {
                let outcomes = s.status.move_dead(&self.which.app, &ids, to, "", None).await?;
                outcomes.iter().filter(|o| matches!(o, Moved::To(_))).count() as u64
            }
        };
        Ok(Some(Step { done, skipped: ids.len() as u64 - done }))
    }
}

/// Those of a cause, newest first.
pub async fn ids(s: &Services, which: &DeadWhich, limit: u32) -> ApiResult<Vec<DeliveryId>> {
    Ok(s.store.dead_items(which, None, limit).await?.into_iter().map(|d| d.id).collect())
}

/// Writes the act down, once, and works on it beside the request.
pub async fn begin(s: &Arc<Services>, signed: &Signed, work: impl Work, subject: &str, count: u64) -> ApiResult<()> {
    let now = s.clock.now();
    let task = TaskRow {
        id: Uuid::now_v7(),
        node: s.node,
        what: work.name().to_owned(),
        subject: subject.to_owned(),
        actor: signed.actor.who.clone(),
        total: count,
        done: 0,
        skipped: 0,
        started_at: now,
        beat_at: now,
        ended_at: None,
        stopped_by: None,
    };
    let detail = serde_json::json!({"matching": count, "rate": work.rate(), "task": task.id});
    s.store.begin_task(&task, &signed.actor, detail).await?;
    let services = s.clone();
    s.tasks.spawn(async move {
        tokio::select! {
            () = services.draining.cancelled() => {}
            ended = run(&services, work, task.id) => {
                if let Err(e) = ended {
                    tracing::warn!(error = &e as &dyn std::error::Error, "A bulk act ended early");
                }
            }
        }
        let _ = services.store.end_task(task.id).await;
        services.console.facts.forget().await;
        services.console.acted.notify_waiters();
    });
    Ok(())
}

async fn run(s: &Services, mut work: impl Work, id: Uuid) -> StoreResult<()> {
    let (batch, rest) = pace(work.rate());
    while let Some(Step { done, skipped }) = work.next(s, batch).await? {
        if !s.store.beat_task(id, done, skipped).await? {
            break;
        }
        tokio::time::sleep(rest).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_kept_by_resting() {
        for (rate, batch, ms) in [(1, 1, 1_000), (10, 10, 1_000), (50, 50, 1_000), (1_000, 100, 100)] {
            assert_eq!(pace(Some(rate)), (batch, Duration::from_millis(ms)));
        }
        assert_eq!(pace(None), (BATCH, BREATH));
    }
}
