//! What waits for one connection: a bounded queue of hints, and the few orders that go ahead of it.
//!
//! Filled by the hub without waiting, emptied by the connection's own task. When it is full, items are dropped and the
//! connection reads them from the feed instead. Absent on purpose: encoding, sockets, the store.

use super::{close::Close, transport::Text};
use campanile_model::{
    effects::{FeedChange, FeedChangeKind, Marked},
    feed::{Counts, FeedState},
    frame::Frame,
};
use std::{collections::VecDeque, sync::Arc};

/// A notification on its way to many sockets: encoded once.
#[derive(Debug)]
pub struct Item {
    pub frame: Frame,
    /// The whole classic frame.
    pub classic: Text,
}

impl Item {
    pub fn new(frame: Frame) -> Arc<Self> {
        // A frame is made of strings, so the check can only pass.
        let classic = Text::try_from(frame.classic()).unwrap_or_default();
        Arc::new(Self { frame, classic })
    }
}

/// Something the connection should hear of. Losing one loses no notification.
#[derive(Clone, Debug)]
pub enum Hint {
    Item { item: Arc<Item>, seq: i64, counts: Counts },
    Ephemeral(Arc<Item>),
    Feed(Arc<FeedChange>),
}

impl Hint {
    /// Roughly what it will be on the wire.
    fn cost(&self) -> usize {
        match self {
            Self::Item { item, .. } | Self::Ephemeral(item) => item.classic.len() + 64,
            Self::Feed(change) => match &change.kind {
                FeedChangeKind::Marked { what: Marked::Ids(ids), .. } => 256 + 40 * ids.len(),
                _ => 256,
            },
        }
    }
}

/// Items that did not fit: the feed has them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Overflow {
    pub up_to: i64,
    pub counts: Counts,
    /// Changes of marks were dropped too; those can't be read again one by one.
    pub lost_marks: bool,
}

/// Hints handed out at once; also about what one flush writes.
pub const CHUNK: usize = 16 * 1024;

#[derive(Debug, Default)]
pub struct Inbox {
    queue: VecDeque<Hint>,
    bytes: usize,
    overflow: Option<Overflow>,
    /// Only the newest head matters.
    head: Option<Box<Head>>,
    bye: Option<(u32, u32)>,
    ping: bool,
    gap_over: bool,
    close: Option<Close>,
}

/// The result of the node's regular look at the feed; `None` when the database could not be asked.
pub type Head = Option<FeedState>;

/// What the connection's task takes out in one go.
#[derive(Debug, Default)]
pub struct Taken {
    pub close: Option<Close>,
    pub ping: bool,
    pub gap_over: bool,
    pub bye: Option<(u32, u32)>,
    pub overflow: Option<Overflow>,
    pub hints: Vec<Hint>,
    /// Only when no hint is left that was there before it.
    pub head: Option<Box<Head>>,
}

impl Inbox {
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
            && self.overflow.is_none()
            && self.head.is_none()
            && self.bye.is_none()
            && !self.ping
            && !self.gap_over
            && self.close.is_none()
    }

    /// False: an `Ephemeral` that was dropped because the reader is slow.
    pub fn push(&mut self, hint: Hint, cap: usize) -> bool {
        let cost = hint.cost();
        match &hint {
            // Worth nothing later, so a reader that is behind does without.
            Hint::Ephemeral(_) if self.overflow.is_some() || self.bytes + cost > cap / 4 => return false,
            Hint::Item { seq, counts, .. } if self.overflow.is_some() || self.bytes + cost > cap => {
                self.overflow(Some((*seq, *counts)));
                return true;
            }
            Hint::Feed(_) if self.bytes + cost > cap => {
                self.overflow(None);
                if self.bytes + cost > cap {
                    self.queue = VecDeque::new();
                    self.bytes = 0;
                    if let Some(o) = &mut self.overflow {
                        o.lost_marks = true;
                    }
                }
            }
            _ => {}
        }
        self.bytes += cost;
        self.queue.push_back(hint);
        true
    }

    /// Drops the waiting items and remembers how far they reached.
    fn overflow(&mut self, newest: Option<(i64, Counts)>) {
        let mut o = self.overflow.unwrap_or(Overflow { up_to: 0, counts: Counts::default(), lost_marks: false });
        let mut cover = |seq: i64, counts: Counts| {
            o.up_to = o.up_to.max(seq);
            if counts.version > o.counts.version {
                o.counts = counts;
            }
        };
        if let Some((seq, counts)) = newest {
            cover(seq, counts);
        }
        self.queue.retain(|h| match h {
            Hint::Item { seq, counts, .. } => {
                cover(*seq, *counts);
                false
            }
            Hint::Ephemeral(_) => false,
            Hint::Feed(_) => true,
        });
        self.queue.shrink_to_fit();
        self.bytes = self.queue.iter().map(Hint::cost).sum();
        self.overflow = Some(o);
    }

    /// Something new is in the feed and did not come along.
    pub fn behind(&mut self, seq: i64, counts: Counts) {
        self.overflow(Some((seq, counts)));
    }

    pub fn head(&mut self, head: Head) {
        self.head = Some(Box::new(head));
    }
    pub fn head_again(&mut self, head: Head) {
        self.head.get_or_insert_with(|| Box::new(head));
    }
    pub fn take_close(&mut self) -> Option<Close> {
        self.close.take()
    }
    pub fn bye(&mut self, after_ms: u32, spread_ms: u32) {
        self.bye = Some((after_ms, spread_ms));
    }
    pub fn ping(&mut self) {
        self.ping = true;
    }
    pub fn gap_over(&mut self) {
        self.gap_over = true;
    }
    /// The first reason stays.
    pub fn close(&mut self, close: Close) {
        self.close.get_or_insert(close);
    }

    pub fn take(&mut self) -> Taken {
        let mut hints = Vec::new();
        let mut bytes = 0;
        while bytes < CHUNK
            && let Some(hint) = self.queue.pop_front()
        {
            bytes += hint.cost();
            hints.push(hint);
        }
        self.bytes -= bytes;
        if self.queue.is_empty() {
            // An idle connection holds no queue.
            self.queue = VecDeque::new();
        }
        Taken {
            close: self.close.take(),
            ping: std::mem::take(&mut self.ping),
            gap_over: std::mem::take(&mut self.gap_over),
            bye: self.bye.take(),
            overflow: self.overflow.take(),
            head: if self.queue.is_empty() { self.head.take() } else { None },
            hints,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use campanile_model::{NotificationId, UserKey, feed::MarkAs};

    fn item(len: usize) -> Arc<Item> {
        let title = "x".repeat(len);
        Item::new(Frame::encode(
            NotificationId::new(),
            &title,
            "",
            "general",
            chrono::DateTime::UNIX_EPOCH,
            &serde_json::Map::new(),
        ))
    }
    fn hint(seq: i64) -> Hint {
        Hint::Item { item: item(1000), seq, counts: Counts { version: seq, ..Counts::default() } }
    }
    fn mark() -> Hint {
        Hint::Feed(Arc::new(FeedChange {
            user: UserKey::new("default", "u"),
            kind: FeedChangeKind::Marked { what: Marked::UpToSeq(1), mark: MarkAs::Seen },
            counts: Counts::default(),
            unread_changed: false,
        }))
    }

    #[test]
    fn over_the_cap_items_go_and_marks_stay() {
        let mut inbox = Inbox::default();
        inbox.push(mark(), 10_000);
        for seq in 1..=20 {
            assert!(inbox.push(hint(seq), 10_000));
            assert!(inbox.bytes() <= 10_000);
        }
        assert!(!inbox.push(Hint::Ephemeral(item(1)), 10_000), "a slow reader does without");
        let t = inbox.take();
        let o = t.overflow.unwrap();
        assert_eq!((o.up_to, o.counts.version, o.lost_marks), (20, 20, false));
        assert!(matches!(t.hints.as_slice(), [Hint::Feed(_)]));
        assert!(inbox.is_empty());
    }

    #[test]
    fn marks_alone_can_overflow_too_and_that_is_told() {
        let mut inbox = Inbox::default();
        for _ in 0..100 {
            inbox.push(mark(), 10_000);
            assert!(inbox.bytes() <= 10_000);
        }
        assert!(inbox.take().overflow.unwrap().lost_marks);
    }

    #[test]
    fn what_did_not_come_along_is_read_from_the_feed_with_all_that_waits() {
        let mut inbox = Inbox::default();
        inbox.push(hint(4), usize::MAX);
        inbox.push(mark(), usize::MAX);
        inbox.behind(5, Counts { version: 5, ..Counts::default() });
        inbox.push(hint(6), usize::MAX);
        let t = inbox.take();
        let o = t.overflow.unwrap();
        assert_eq!((o.up_to, o.counts.version, o.lost_marks), (6, 6, false));
        assert!(matches!(t.hints.as_slice(), [Hint::Feed(_)]));
    }

    #[test]
    fn hints_leave_in_order_and_in_chunks_with_the_head_last() {
        let mut inbox = Inbox::default();
        (1..=100).for_each(|seq| assert!(inbox.push(hint(seq), usize::MAX)));
        inbox.head(None);
        let mut seen = Vec::new();
        loop {
            let t = inbox.take();
            seen.extend(t.hints.iter().map(|h| if let Hint::Item { seq, .. } = h { *seq } else { 0 }));
            if t.head.is_some() {
                break;
            }
            assert!(t.hints.len() < 30);
        }
        assert_eq!(seen, (1..=100).collect::<Vec<_>>());
        assert!(inbox.is_empty() && inbox.bytes() == 0);
    }
}
