//! What the contract says of a row, without any SQL: both engines decide with these.

use campanile_model::{
    DeliveryState, Notification, NotificationId, Reason,
    feed::{Counts, MarkAs},
    plan::DeliveryPlan,
    state::reason,
    work::NextStep,
};

/// How long the fast path has before the relay publishes the same row.
pub const FAST_PATH_MS: i64 = 10_000;

/// Leases a delivery may lose before one more makes it `poison`.
pub const LOSSES_MAX: i64 = 3;

/// How far the relay moves `relay_at` on when it has published a row `relay_n` times before.
pub const fn relay_step_ms(relay_n: i64) -> i64 {
    match relay_n {
        0 => 10_000,
        1 => 60_000,
        _ => 120_000,
    }
}

/// Addresses are compared without regard to the case of ASCII letters, alike in Rust and in SQL.
pub fn fold_address(address: &str) -> String {
    address.trim().to_ascii_lowercase()
}

/// What only the accepting transaction knows about a delivery.
#[derive(Clone, Copy, Debug, Default)]
pub struct Circumstances {
    /// A newer notification with the same collapse key is there already.
    pub collapsed: bool,
    pub disabled: bool,
    pub paused: bool,
    pub address_suppressed: bool,
    pub unsubscribed: bool,
}

/// Where a new delivery's row begins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Placement {
    /// In-app and due: the feed row is written in the same transaction.
    InFeed,
    /// Waits for the relay; `ready` when the fast path takes it at once.
    Waiting {
        relay_at: i64,
        ready: bool,
    },
    Settled(DeliveryState, Reason),
}

/// The due time of a notification that is accepted now.
pub fn due_at(n: &Notification, now: i64) -> i64 {
    n.send_at.map_or(now, |at| at.timestamp_millis().max(now))
}

pub fn place(plan: &DeliveryPlan, n: &Notification, c: Circumstances, now: i64) -> Placement {
    let due = due_at(n, now);
    let settled = |state, why: &str| Placement::Settled(state, why.to_owned());
    if c.collapsed {
        return settled(DeliveryState::Cancelled, reason::COLLAPSED);
    }
    if let Some(why) = &plan.suppressed {
        return Placement::Settled(DeliveryState::Suppressed, why.clone());
    }
    if c.disabled {
        return settled(DeliveryState::Suppressed, reason::USER_DISABLED);
    }
    if n.expires_at.is_some_and(|at| at.timestamp_millis() <= now) {
        return settled(DeliveryState::Expired, reason::EXPIRED);
    }
    if !plan.in_app && c.unsubscribed {
        return settled(DeliveryState::Suppressed, reason::UNSUBSCRIBED);
    }
    if !plan.in_app && c.address_suppressed {
        return settled(DeliveryState::Suppressed, reason::SUPPRESSED_ADDRESS);
    }
    if due > now {
        return Placement::Waiting { relay_at: due, ready: false };
    }
    if c.paused {
        return Placement::Waiting { relay_at: now, ready: false };
    }
    if plan.in_app {
        return Placement::InFeed;
    }
    if plan.fast {
        return Placement::Waiting { relay_at: now + FAST_PATH_MS, ready: true };
    }
    Placement::Waiting { relay_at: now, ready: false }
}

/// Older = smaller id: the newer one wins, whatever the order of arrival.
pub fn supersedes(newcomer: NotificationId, holder: NotificationId) -> bool {
    newcomer > holder
}

/// Where a finished attempt leads, once a stop wished meanwhile is heard.
pub fn after_attempt(next: &NextStep, stop: Option<&str>, cancelled: bool) -> (DeliveryState, Option<Reason>) {
    match next {
        NextStep::Sent => (DeliveryState::Sent, None),
        NextStep::Dead { reason } => (DeliveryState::Dead, Some(reason.clone())),
        NextStep::RetryIn { .. } => match stopped(stop, cancelled) {
            Some(why) => (DeliveryState::Cancelled, Some(why)),
            None => (DeliveryState::Retrying, None),
        },
    }
}

/// Where a lost lease leads; `losses` counts this one.
pub fn after_loss(losses: i64, stop: Option<&str>, cancelled: bool) -> (DeliveryState, Option<Reason>) {
    match stopped(stop, cancelled) {
        Some(why) => (DeliveryState::Cancelled, Some(why)),
        None if losses > LOSSES_MAX => (DeliveryState::Dead, Some(reason::POISON.to_owned())),
        None => (DeliveryState::Retrying, None),
    }
}

fn stopped(stop: Option<&str>, cancelled: bool) -> Option<Reason> {
    stop.map(str::to_owned).or_else(|| cancelled.then(|| reason::CANCELLED.to_owned()))
}

/// The marks of one feed item.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Marks {
    pub read_at: Option<i64>,
    pub seen_at: Option<i64>,
    pub archived_at: Option<i64>,
}

impl Marks {
    /// The item after `mark`; `None` when it is so already.
    #[must_use]
    pub fn apply(self, mark: MarkAs, now: i64) -> Option<Self> {
        let mut next = self;
        match mark {
            MarkAs::Seen => next.seen_at = self.seen_at.or(Some(now)),
            MarkAs::Read => {
                // A read item is never unseen, so a second read changes nothing.
                if self.read_at.is_none() {
                    next.read_at = Some(now);
                    next.seen_at = self.seen_at.or(Some(now));
                }
            }
            MarkAs::Unread => next.read_at = None,
            MarkAs::Archived => next.archived_at = self.archived_at.or(Some(now)),
            MarkAs::Unarchived => next.archived_at = None,
        }
        (next != self).then_some(next)
    }

    /// What a live (not expired) item adds to (total, unread, unseen).
    pub const fn weight(self) -> (i64, i64, i64) {
        if self.archived_at.is_some() {
            return (0, 0, 0);
        }
        (1, self.read_at.is_none() as i64, self.seen_at.is_none() as i64)
    }
}

/// Moves counts by what one item weighed before and weighs after; the caller raises `version` once per change.
pub fn reweigh(counts: &mut Counts, before: (i64, i64, i64), after: (i64, i64, i64)) {
    counts.total += after.0 - before.0;
    counts.unread += after.1 - before.1;
    counts.unseen += after.2 - before.2;
}

#[cfg(test)]
mod tests {
    use super::*;
    use campanile_model::{AppId, ChannelName, Content, DeliveryId, NotificationId, Priority, Timestamp};
    use proptest::prelude::*;
    use std::sync::Arc;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_timestamp_millis(ms).unwrap()
    }
    fn notification(send_at: Option<i64>, expires_at: Option<i64>) -> Notification {
        Notification {
            id: NotificationId::new(),
            app: AppId::default(),
            content: Arc::new(Content {
                title: "t".into(),
                message: String::new(),
                notification_type: "general".into(),
                data: serde_json::Map::new(),
            }),
            priority: Priority::Normal,
            created_at: at(0),
            send_at: send_at.map(at),
            expires_at: expires_at.map(at),
            collapse_key: None,
            request_id: String::new(),
            trace: None,
        }
    }
    fn plan(in_app: bool, fast: bool) -> DeliveryPlan {
        DeliveryPlan {
            id: DeliveryId::new(),
            channel: ChannelName::email(),
            recipient: None,
            recipient_inline: false,
            in_app,
            suppressed: None,
            fast,
        }
    }

    #[test]
    fn a_delivery_begins_where_the_contract_says() {
        let none = Circumstances::default();
        let paused = Circumstances { paused: true, ..none };
        let n = notification(None, None);
        assert_eq!(place(&plan(true, false), &n, none, 100), Placement::InFeed);
        assert_eq!(place(&plan(true, false), &n, paused, 100), Placement::Waiting { relay_at: 100, ready: false });
        assert_eq!(place(&plan(false, true), &n, none, 100), Placement::Waiting { relay_at: 10_100, ready: true });
        assert_eq!(place(&plan(false, true), &n, paused, 100), Placement::Waiting { relay_at: 100, ready: false });
        let later = notification(Some(500), None);
        assert_eq!(place(&plan(true, true), &later, none, 100), Placement::Waiting { relay_at: 500, ready: false });
        let gone = notification(None, Some(100));
        assert!(matches!(place(&plan(true, true), &gone, none, 100), Placement::Settled(DeliveryState::Expired, _)));
    }

    #[test]
    fn a_wished_retry_is_cancelled_by_a_stop_and_nothing_else_is() {
        let retry = NextStep::RetryIn { delay_ms: 1 };
        assert_eq!(after_attempt(&retry, None, false).0, DeliveryState::Retrying);
        assert_eq!(after_attempt(&retry, Some("collapsed"), true).1.as_deref(), Some("collapsed"));
        assert_eq!(after_attempt(&retry, None, true).1.as_deref(), Some("cancelled"));
        assert_eq!(after_attempt(&NextStep::Sent, Some("erased"), true).0, DeliveryState::Sent);
        assert_eq!(after_loss(3, None, false).0, DeliveryState::Retrying);
        assert_eq!(after_loss(4, None, false), (DeliveryState::Dead, Some("poison".into())));
    }

    proptest! {
        #[test]
        fn a_mark_repeated_changes_nothing(marks in proptest::collection::vec(0usize..5, 0..8), last in 0usize..5) {
            let mut item = Marks::default();
            for (i, m) in marks.iter().enumerate() {
                item = item.apply(MarkAs::ALL[*m], i as i64).unwrap_or(item);
                prop_assert!(item.read_at.is_none() || item.seen_at.is_some(), "a read item was seen");
            }
            let once = item.apply(MarkAs::ALL[last], 99).unwrap_or(item);
            prop_assert_eq!(once.apply(MarkAs::ALL[last], 100), None);
        }
    }
}
