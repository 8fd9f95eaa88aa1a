//! A feed in memory, as the session sees it.

use super::*;

/// One user's feed, and what was asked of it.
#[derive(Default)]
pub(super) struct Fake {
    pub(super) inner: Mutex<Inner>,
}

#[derive(Default)]
pub(super) struct Inner {
    pub(super) epoch: String,
    pub(super) min_seq: i64,
    pub(super) version: i64,
    pub(super) items: Vec<Row>,
    pub(super) delivered: Vec<(i64, i64)>,
    pub(super) down: bool,
}

pub(super) struct Row {
    pub(super) item: Arc<Item>,
    pub(super) read: bool,
    pub(super) archived: bool,
}

pub(super) fn item(title: &str) -> Arc<Item> {
    let data = serde_json::Map::new();
    Item::new(Frame::encode(NotificationId::new(), title, "", "general", chrono::DateTime::UNIX_EPOCH, &data))
}

pub(super) fn user() -> UserKey {
    UserKey::new("default", "u_ada")
}

impl Fake {
    pub(super) fn new() -> Self {
        let fake = Self::default();
        *fake.inner() = Inner { epoch: "e.0".into(), min_seq: 1, ..Inner::default() };
        fake
    }
    pub(super) fn with(n: i64) -> Self {
        let fake = Self::new();
        (0..n).for_each(|_| drop(fake.add()));
        fake
    }
    pub(super) fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }
    /// Commits an item; the hint says so.
    pub(super) fn add(&self) -> Hint {
        let mut i = self.inner();
        let item = item(&format!("n{}", i.items.len() + 1));
        i.items.push(Row { item: item.clone(), read: false, archived: false });
        i.version += 1;
        Hint::Item { item, seq: i.items.len() as i64, counts: i.counts() }
    }
    pub(super) fn id(&self, seq: usize) -> NotificationId {
        self.inner().items[seq - 1].item.frame.notification_id
    }
    pub(super) fn change(&self, seq: usize, mark: MarkAs) -> Hint {
        let id = self.id(seq);
        let mut i = self.inner();
        let before = i.counts().unread;
        match mark {
            MarkAs::Read => i.items[seq - 1].read = true,
            MarkAs::Archived => i.items[seq - 1].archived = true,
            _ => {}
        }
        i.version += 1;
        let counts = i.counts();
        Hint::Feed(Arc::new(FeedChange {
            user: user(),
            kind: FeedChangeKind::Marked { what: Marked::Ids(vec![id]), mark },
            counts,
            unread_changed: counts.unread != before,
        }))
    }
    pub(super) fn erase(&self) -> Hint {
        let mut i = self.inner();
        i.epoch = "e.1".into();
        i.version += 1;
        let head_seq = i.items.len() as i64;
        i.items.iter_mut().for_each(|r| r.archived = true);
        i.min_seq = head_seq + 1;
        Hint::Feed(Arc::new(FeedChange {
            user: user(),
            kind: FeedChangeKind::Erased { epoch: i.epoch.clone(), head_seq },
            counts: i.counts(),
            unread_changed: true,
        }))
    }
    /// The feed as it is after another one was merged into it: every item again, under a new number, and one more.
    pub(super) fn merge(&self) -> Hint {
        let mut i = self.inner();
        i.epoch = "e.1".into();
        i.version += 1;
        let old = i.items.len();
        for seq in 0..old {
            let item = i.items[seq].item.clone();
            i.items.push(Row { item, read: false, archived: false });
        }
        i.items.push(Row { item: item("other"), read: false, archived: false });
        i.items[..old].iter_mut().for_each(|r| r.archived = true);
        i.min_seq = old as i64 + 1;
        let head_seq = i.items.len() as i64;
        Hint::Feed(Arc::new(FeedChange {
            user: user(),
            kind: FeedChangeKind::Erased { epoch: i.epoch.clone(), head_seq },
            counts: i.counts(),
            unread_changed: true,
        }))
    }
    pub(super) fn state_now(&self) -> FeedState {
        let i = self.inner();
        FeedState { epoch: i.epoch.clone(), head_seq: i.items.len() as i64, min_seq: i.min_seq, counts: i.counts() }
    }
}

impl Inner {
    pub(super) fn counts(&self) -> Counts {
        let live = self.items.iter().filter(|r| !r.archived);
        let unread = live.clone().filter(|r| !r.read).count() as i64;
        Counts { unseen: unread, unread, total: live.count() as i64, version: self.version }
    }
    pub(super) fn up(&self) -> StoreResult<()> {
        if self.down { Err(StoreError::Overloaded) } else { Ok(()) }
    }
}

#[async_trait]
impl Backend for Fake {
    async fn state(&self, _: &UserKey) -> StoreResult<FeedState> {
        self.inner().up()?;
        Ok(self.state_now())
    }
    async fn page(&self, _: &UserKey, before: Option<i64>, limit: u32) -> StoreResult<FeedPage> {
        let i = self.inner();
        i.up()?;
        let before = before.unwrap_or(i64::MAX);
        let items: Vec<_> = (1..=i.items.len() as i64)
            .rev()
            .filter(|seq| *seq < before)
            .take(limit as usize)
            .map(|seq| FeedItem {
                notification_id: i.items[seq as usize - 1].item.frame.notification_id,
                seq,
                title: "t".into(),
                message: String::new(),
                notification_type: "general".into(),
                timestamp: chrono::DateTime::UNIX_EPOCH,
                read_at: None,
                seen_at: None,
                archived_at: None,
                data: serde_json::Map::new(),
            })
            .collect();
        let next_before = items.last().map(|l| l.seq).filter(|s| *s > 1);
        Ok(FeedPage { items, next_before, counts: i.counts() })
    }
    async fn replay(&self, _: &UserKey, after: i64, up_to: i64, limit: u32) -> StoreResult<Replay> {
        let i = self.inner();
        i.up()?;
        let head = up_to.min(i.items.len() as i64);
        let mut items = Vec::new();
        for seq in after + 1..=head {
            let row = &i.items[seq as usize - 1];
            if row.archived {
                continue;
            }
            if items.len() == limit as usize {
                return Ok(Replay { items, covered_to: seq - 1 });
            }
            items.push(ReplayItem { seq, frame: row.item.frame.clone(), unread: !row.read });
        }
        Ok(Replay { items, covered_to: head })
    }
    async fn missed(&self, _: &UserKey, after: i64, up_to: i64, limit: i64) -> StoreResult<i64> {
        let i = self.inner();
        i.up()?;
        Ok((after + 1..=up_to).filter(|seq| !i.items[*seq as usize - 1].archived).count().min(limit as usize) as i64)
    }
    async fn mark(&self, _: &UserKey, what: MarkSelection, mark: MarkAs) -> StoreResult<MarkOutcome> {
        let mut i = self.inner();
        i.up()?;
        let (mut not_found, mut changed) = (Vec::new(), 0);
        if let MarkSelection::Ids(ids) = what {
            for id in ids {
                match i.items.iter_mut().find(|r| r.item.frame.notification_id == id) {
                    Some(row) if mark == MarkAs::Read && !row.read => {
                        row.read = true;
                        changed += 1;
                    }
                    Some(_) => {}
                    None => not_found.push(id),
                }
            }
        }
        i.version += i64::from(changed > 0);
        Ok(MarkOutcome { not_found, changed, counts: i.counts() })
    }
    async fn verify(&self, token: &str) -> Result<Token, TokenError> {
        let expires_at = chrono::DateTime::UNIX_EPOCH + chrono::Duration::hours(2);
        match token {
            "good" => Ok(Token { user: user(), issuer: None, expires_at }),
            "other" => Ok(Token { user: UserKey::new("default", "u_bo"), issuer: None, expires_at }),
            "issuer" => Ok(Token { user: user(), issuer: Some("elsewhere".into()), expires_at }),
            "expired" => Err(TokenError::Expired),
            "away" => Err(TokenError::Unavailable),
            _ => Err(TokenError::Invalid),
        }
    }
    fn delivered(&self, seen: SeenByClient) {
        self.inner().delivered.push((seen.from_seq, seen.to_seq));
    }
    fn now(&self) -> Timestamp {
        chrono::DateTime::UNIX_EPOCH
    }
}
