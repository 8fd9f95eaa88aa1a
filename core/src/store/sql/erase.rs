//! Erasing a person: what waits is cancelled, the feed goes, and the name leaves every stored text.

use super::{
    audit,
    crowd::{self, in_spec},
    group::Operation,
    requests,
    rows::Cells,
    statement::{by_engine, sql},
    take_back::{self, take_back},
    tx::Tx,
};
use async_trait::async_trait;
use campanile_model::{
    UserKey,
    feed::Counts,
    ports::{Actor, Erased, StoreResult},
    state::reason,
};
use serde_json::json;
use std::sync::Arc;

pub struct Erase {
    pub user: UserKey,
    pub actor: Actor,
    /// The database's half of the feed epoch.
    pub epoch: Arc<str>,
}

#[async_trait]
impl Operation for Erase {
    type Output = Option<Erased>;
    const NAME: &'static str = "erase";

    fn rows(&self) -> usize {
        500
    }

    fn users(&self) -> Vec<UserKey> {
        vec![self.user.clone()]
    }

    async fn run(&self, tx: &mut Tx<'_>) -> StoreResult<Option<Erased>> {
        tx.load_users(std::slice::from_ref(&self.user)).await?;
        let row = *tx.user(&self.user)?;
        if !row.known && !row.stored && !was_sent_to(tx, &self.user).await? {
            return Ok(None);
        }
        let mut erased = Erased::default();
        self.stop_deliveries(tx, &mut erased).await?;
        requests::change(tx, &self.user, None).await?;
        crowd::change(tx, &self.user, None).await?;
        erased.feed_items = self.delete("DELETE FROM feed WHERE app = $1 AND user_id = $2", tx).await?;
        self.delete("DELETE FROM collapses WHERE app = $1 AND user_id = $2", tx).await?;
        self.delete("DELETE FROM ws_tickets WHERE app = $1 AND user_id = $2", tx).await?;
        // What they said no to still holds; what they once said does not matter any more.
        self.delete("DELETE FROM consents WHERE app = $1 AND user_id = $2", tx).await?;
        self.delete("DELETE FROM user_seen WHERE app = $1 AND user_id = $2", tx).await?;
        self.delete("DELETE FROM users WHERE app = $1 AND user_id = $2", tx).await?;
        reset_feed(tx, &self.user, &self.epoch)?;
        let detail =
            json!({"cancelled": erased.cancelled, "in_flight": erased.in_flight, "feed_items": erased.feed_items});
        audit::append(tx, &self.actor, "user.erase", self.user.user.as_str(), Some(detail)).await?;
        Ok(Some(erased))
    }
}

/// A user may be known by a large audience alone.
macro_rules! known {
    ($engine:ident) => {
        concat!(
            "SELECT EXISTS (SELECT 1 FROM deliveries WHERE app = $1 AND user_id = $2)
                 OR EXISTS (SELECT 1 FROM audiences a JOIN notifications n ON n.id = a.notification_id
                            WHERE a.done_at IS NULL AND n.app = $1 AND ",
            in_spec!($engine),
            ") AS known"
        )
    };
}

impl Erase {
    async fn delete(&self, text: &'static str, tx: &mut Tx<'_>) -> StoreResult<u64> {
        let delete = sql(text).bind(self.user.app.as_str()).bind(self.user.user.as_str());
        tx.exec("erasing a user", delete).await
    }

    async fn stop_deliveries(&self, tx: &mut Tx<'_>, erased: &mut Erased) -> StoreResult<()> {
        let now = tx.now;
        let which = by_engine(
            take_back!(sqlite, "app = $3 AND user_id = $4"),
            take_back!(postgres, "app = $3 AND user_id = $4"),
        );
        let take = which.bind(now).bind(reason::ERASED).bind(self.user.app.as_str()).bind(self.user.user.as_str());
        let taken = take_back::run(tx, "cancelling an erased user's deliveries", take).await?;
        (erased.cancelled, erased.in_flight) = (taken.cancelled, taken.in_flight);
        // A dead one must not come back by replay.
        self.delete("UPDATE deliveries SET stop = 'erased' WHERE app = $1 AND user_id = $2 AND state = 'dead'", tx)
            .await?;
        self.delete("UPDATE deliveries SET recipient = NULL, destination = '' WHERE app = $1 AND user_id = $2", tx)
            .await?;
        self.delete(
            "DELETE FROM address_faults WHERE app = $1 AND delivery_id IN (
                SELECT id FROM deliveries WHERE app = $1 AND user_id = $2)",
            tx,
        )
        .await?;
        self.delete(
            "UPDATE attempts SET message = NULL WHERE delivery_id IN (
                SELECT id FROM deliveries WHERE app = $1 AND user_id = $2)",
            tx,
        )
        .await?;
        Ok(())
    }
}

/// Whether deliveries or an audience name this user, who may have no row of their own.
pub async fn was_sent_to(tx: &mut Tx<'_>, user: &UserKey) -> StoreResult<bool> {
    let known = by_engine(known!(sqlite), known!(postgres));
    let row = tx.fetch_opt("looking for a user", known.bind(user.app.as_str()).bind(user.user.as_str())).await?;
    row.map_or(Ok(false), |row| Cells::of("deliveries", &row).flag("known"))
}

/// Nobody is left whose feed it was: empty, and as if new to whoever connects.
pub fn reset_feed(tx: &mut Tx<'_>, user: &UserKey, epoch: &str) -> StoreResult<()> {
    let row = tx.user_mut(user)?;
    row.min_seq = row.head_seq + 1;
    row.generation += 1;
    row.counts = Counts { version: row.counts.version + 1, ..Counts::default() };
    row.known = false;
    row.stored = true;
    row.disabled = false;
    tx.tell_anew(user, epoch)
}
