//! What a session asks of the host, as one small trait, so that the protocol is tested without a host.

use crate::{
    http::auth::jwt::{Session as Token, TokenError},
    services::Services,
};
use async_trait::async_trait;
use campanile_model::{
    Timestamp, UserKey,
    feed::{FeedFilter, FeedPage, FeedState, MarkAs, MarkOutcome, MarkSelection, Replay, SeenByClient},
    ports::{StoreError, StoreResult},
};
use std::{sync::Arc, time::Duration};

#[async_trait]
pub trait Backend: Send + Sync {
    async fn state(&self, user: &UserKey) -> StoreResult<FeedState>;
    async fn page(&self, user: &UserKey, before: Option<i64>, limit: u32) -> StoreResult<FeedPage>;
    async fn replay(&self, user: &UserKey, after: i64, up_to: i64, limit: u32) -> StoreResult<Replay>;
    async fn missed(&self, user: &UserKey, after: i64, up_to: i64, limit: i64) -> StoreResult<i64>;
    async fn mark(&self, user: &UserKey, what: MarkSelection, mark: MarkAs) -> StoreResult<MarkOutcome>;
    async fn verify(&self, token: &str) -> Result<Token, TokenError>;
    /// These numbers reached the client. Nothing waits for it.
    fn delivered(&self, seen: SeenByClient);
    fn now(&self) -> Timestamp;
}

/// A database that hangs must not hold a socket's pongs back for longer than this.
const STORE_LIMIT: Duration = Duration::from_secs(5);

/// The host's own.
pub struct Live(pub Arc<Services>);

async fn bounded<T>(work: impl Future<Output = StoreResult<T>> + Send) -> StoreResult<T> {
    tokio::time::timeout(STORE_LIMIT, work).await.unwrap_or_else(|late| Err(StoreError::Unavailable(Box::new(late))))
}

#[async_trait]
impl Backend for Live {
    async fn state(&self, user: &UserKey) -> StoreResult<FeedState> {
        bounded(self.0.store.feed_state(user)).await
    }
    async fn page(&self, user: &UserKey, before: Option<i64>, limit: u32) -> StoreResult<FeedPage> {
        bounded(self.0.store.feed_page(user, before, limit, FeedFilter::All)).await
    }
    async fn replay(&self, user: &UserKey, after: i64, up_to: i64, limit: u32) -> StoreResult<Replay> {
        bounded(self.0.store.feed_replay(user, after, up_to, limit)).await
    }
    async fn missed(&self, user: &UserKey, after: i64, up_to: i64, limit: i64) -> StoreResult<i64> {
        bounded(self.0.store.feed_missed(user, after, up_to, limit)).await
    }
    async fn mark(&self, user: &UserKey, what: MarkSelection, mark: MarkAs) -> StoreResult<MarkOutcome> {
        bounded(self.0.status.mark(user, what, mark)).await
    }
    async fn verify(&self, token: &str) -> Result<Token, TokenError> {
        self.0.jwt.verify(token).await
    }
    fn delivered(&self, seen: SeenByClient) {
        self.0.hub.confirms().add(seen);
    }
    fn now(&self) -> Timestamp {
        self.0.clock.now()
    }
}
