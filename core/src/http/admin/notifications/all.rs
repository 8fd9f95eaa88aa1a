//! What is done to all that match a filter: counted first, then batch by batch, newest first.
//!
//! Owns: which deliveries of the filter an act takes. Absent on purpose: how it goes on beside the request (`bulk`).

use super::{Asked, acts::waits};
use crate::{
    http::admin::{
        bulk::{Step, Work},
        live::Query,
    },
    services::Services,
};
use async_trait::async_trait;
use campanile_model::{
    AppId, DeliveryId, DeliveryState, NotificationId, Timestamp,
    api::ShownState,
    ports::{NotificationFilter, NotificationRow, ReplayOutcome, StoreResult},
};

/// Notifications looked at for the number in the question; beyond them it says "more than".
const LOOKED_AT: usize = 5_000;
/// Notifications of one look.
const LOOK: u32 = 500;
/// So much is done while the admin waits; more goes in the background.
const AT_ONCE: usize = 200;
/// Deliveries of one transaction.
const BATCH: u32 = 200;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Act {
    /// What is dead begins anew; what was discarded stays so.
    Retry,
    /// What waits is not sent any more.
    Cancel,
}

/// Everything that a list shows, page after page.
#[derive(Clone)]
pub struct Everything {
    filter: NotificationFilter,
    act: Act,
    /// As people say it.
    pub words: String,
}

/// What an act would take.
#[derive(Default, Debug)]
pub struct Measured {
    /// Deliveries that it would begin anew or call back.
    pub deliveries: u64,
    /// There is more than was counted.
    pub more: bool,
    /// The first of them, for a retry.
    pub dead: Vec<DeliveryId>,
    /// The first with something to cancel.
    pub waiting: Vec<NotificationId>,
}

impl Measured {
    /// It is done at once.
    pub fn is_little(&self) -> bool {
        !self.more && self.deliveries <= AT_ONCE as u64
    }
}

impl Everything {
    /// The list at this address, as it was then: what is accepted later is not meant.
    pub fn of(s: &Services, address: &str, act: Act, as_of: Timestamp) -> Self {
        let query = address.split_once('?').map_or("", |(_, query)| query);
        let asked = Asked::read(s, &Query::parse(query));
        let range = asked.range.map(|range| format!("the {}", range.words()));
        let terms = (!asked.terms.is_empty()).then(|| asked.terms.to_string());
        let words = [terms, range].into_iter().flatten().collect::<Vec<_>>().join(", ");
        let mut filter = asked.filter;
        (filter.before, filter.after) = (None, None);
        filter.until = Some(filter.until.map_or(as_of, |until| until.min(as_of)));
        if act == Act::Retry && filter.state.is_none() && filter.whole.is_none() && !filter.handed_over {
            // What is dead is found by an index of its own.
            filter.state = Some(ShownState::Stored(DeliveryState::Dead));
        }
        Self { filter, act, words: if words.is_empty() { "all notifications".to_owned() } else { words } }
    }

    pub fn app(&self) -> &AppId {
        &self.filter.app
    }

    /// The next so many, downwards.
    async fn page(&mut self, s: &Services, limit: u32) -> StoreResult<Vec<NotificationRow>> {
        self.filter.limit = limit;
        let found = s.store.notifications(&self.filter).await?;
        self.filter.before = found.last().map(|(row, _)| row.notification.id).or(self.filter.before);
        Ok(found.into_iter().map(|(row, _)| row).collect())
    }

    /// Those of a page that an act would cancel something of, and how much of each.
    async fn waiting(&self, s: &Services, page: &[NotificationRow]) -> StoreResult<Vec<(NotificationId, u64)>> {
        let ids: Vec<NotificationId> = page.iter().map(|row| row.notification.id).collect();
        let lanes = s.store.lanes(self.app(), &ids).await?;
        let of = |row: &NotificationRow| {
            let id = row.notification.id;
            let lanes = lanes.get(&id).map_or(&[][..], Vec::as_slice);
            let waiting: u64 = lanes.iter().filter(waits).map(|lane| lane.count).sum();
            // People of a large audience who have no delivery yet.
            let unexpanded = row.audience.map_or(0, |(all, done)| u64::from(all.saturating_sub(done)));
            (id, waiting + unexpanded)
        };
        Ok(page.iter().map(of).filter(|(_, n)| *n > 0).collect())
    }

    pub async fn measure(&self, s: &Services) -> StoreResult<Measured> {
        let mut walk = self.clone();
        let mut measured = Measured::default();
        let mut looked = 0;
        loop {
            let page = walk.page(s, LOOK).await?;
            match self.act {
                Act::Retry => {
                    let ids: Vec<NotificationId> = page.iter().map(|row| row.notification.id).collect();
                    let dead = s.store.dead_of(self.app(), &ids, None, LOOKED_AT as u32).await?;
                    measured.more |= dead.len() == LOOKED_AT;
                    measured.deliveries += dead.len() as u64;
                    let room = AT_ONCE.saturating_sub(measured.dead.len());
                    measured.dead.extend(dead.into_iter().take(room));
                }
                Act::Cancel => {
                    let waiting = self.waiting(s, &page).await?;
                    measured.deliveries += waiting.iter().map(|(_, n)| n).sum::<u64>();
                    let room = AT_ONCE.saturating_sub(measured.waiting.len());
                    measured.waiting.extend(waiting.into_iter().map(|(id, _)| id).take(room));
                }
            }
            looked += page.len();
            if page.len() < LOOK as usize {
                return Ok(measured);
            }
            if looked >= LOOKED_AT {
                measured.more = true;
                return Ok(measured);
            }
        }
    }

    async fn retry(&self, s: &Services, ids: &[NotificationId]) -> StoreResult<Step> {
        let mut step = Step::default();
        let mut after = None;
        loop {
            let dead = s.store.dead_of(self.app(), ids, after, BATCH).await?;
            after = dead.last().copied();
            let outcomes = s.status.replay_many(self.app(), &dead, "", None).await?;
            let done = outcomes.iter().filter(|o| matches!(o, ReplayOutcome::Replayed)).count();
            step.done += done as u64;
            step.skipped += (outcomes.len() - done) as u64;
            if dead.len() < BATCH as usize {
                return Ok(step);
            }
        }
    }
}

#[async_trait]
impl Work for Everything {
    fn name(&self) -> &'static str {
        match self.act {
            Act::Retry => "retry",
            Act::Cancel => "cancel",
        }
    }

    async fn next(&mut self, s: &Services, batch: u32) -> StoreResult<Option<Step>> {
        let page = self.page(s, batch).await?;
        if page.is_empty() {
            return Ok(None);
        }
        if self.act == Act::Retry {
            let ids: Vec<NotificationId> = page.iter().map(|row| row.notification.id).collect();
            return self.retry(s, &ids).await.map(Some);
        }
        let waiting: Vec<NotificationId> = self.waiting(s, &page).await?.into_iter().map(|(id, _)| id).collect();
        if waiting.is_empty() {
            return Ok(Some(Step::default()));
        }
        let outcome = s.status.cancel_many(self.app(), &waiting, "", None).await?;
        Ok(Some(Step { done: outcome.cancelled, skipped: outcome.in_flight }))
    }
}
