//! What a committed transaction changed, for everyone who must hear of it.
//!
//! The store reports them once per commit to its `EffectSink`; `status` alone turns them into pushes, signals, metrics
//! and queue offers.
//! They are hints over committed rows: losing them loses no notification.

use crate::{
    ChannelName, DeliveryId, DeliveryState, Notification, NotificationId, Priority, Reason, UserKey,
    feed::{Counts, MarkAs},
};
use std::sync::Arc;

#[derive(Clone, Debug, Default)]
pub struct Effects {
    /// New feed items, one entry per notification (a broadcast shares its frame).
    pub pushes: Vec<PushBatch>,
    /// Other changes of a feed (read, archive, collapse, expiry, erase, merge).
    pub changes: Vec<FeedChange>,
    /// Deliveries to offer to their work queue right now (fast path).
    pub ready: Vec<(ChannelName, DeliveryId)>,
    /// Arrivals at a state, for metrics, `tail`, the dashboard.
    pub transitions: Vec<Transition>,
}

impl Effects {
    pub fn merge(&mut self, other: Self) {
        self.pushes.extend(other.pushes);
        self.changes.extend(other.changes);
        self.ready.extend(other.ready);
        self.transitions.extend(other.transitions);
    }
    pub fn is_empty(&self) -> bool {
        self.pushes.is_empty() && self.changes.is_empty() && self.ready.is_empty() && self.transitions.is_empty()
    }
}

#[derive(Clone, Debug)]
pub struct PushBatch {
    pub notification: Arc<Notification>,
    pub users: Vec<Push>,
}

/// One new feed item of one user.
#[derive(Clone, Debug)]
pub struct Push {
    pub user: UserKey,
    pub delivery_id: DeliveryId,
    pub seq: i64,
    pub counts: Counts,
}

/// A feed changed in another way than by a new item.
#[derive(Clone, Debug)]
pub struct FeedChange {
    pub user: UserKey,
    pub kind: FeedChangeKind,
    /// After the change.
    pub counts: Counts,
    /// Whether `unread` differs from before: decides the classic `unread_count`.
    pub unread_changed: bool,
}

#[derive(Clone, Debug)]
pub enum FeedChangeKind {
    Marked {
        what: Marked,
        mark: MarkAs,
    },
    /// The feed begins anew under another epoch, as its user was erased or merged: v1 sockets get `reset{reason:"erased"}`
    /// and fetch what there is now, classic ones the `unread_count`, 0 after an erase.
    Erased {
        epoch: String,
        head_seq: i64,
    },
}

#[derive(Clone, Debug)]
pub enum Marked {
    Ids(Vec<NotificationId>),
    UpToSeq(i64),
}

#[derive(Clone, Debug)]
pub struct Transition {
    pub delivery_id: DeliveryId,
    pub notification_id: NotificationId,
    pub user: UserKey,
    pub channel: ChannelName,
    pub priority: Priority,
    pub state: DeliveryState,
    pub reason: Option<Reason>,
    /// From acceptance (or due time, if later) to the first arrival at `sent`; only on that arrival.
    pub latency_ms: Option<i64>,
    /// The attempt that led here, 0 when none did.
    pub attempt: u32,
}
