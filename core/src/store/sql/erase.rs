//! Erasing a person: what waits is cancelled, the feed goes, and the name leaves every stored text.

use super::{
    accept::encode,
    audit,
    crowd::{self, in_spec},
    group::Operation,
    rows::Cells,
    statement::{Sql, by_engine, sql},
    take_back::{self, take_back},
    tx::Tx,
};
use async_trait::async_trait;
use campanile_model::{
    UserKey,
    api::Acceptance,
    feed::Counts,
    ports::{Actor, Erased, StoreResult},
    state::reason,
};
use serde_json::{Value, json};
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
        self.scrub_notifications(tx).await?;
        crowd::change(tx, &self.user, None).await?;
        erased.feed_items = self.delete("DELETE FROM feed WHERE app = $1 AND user_id = $2", tx).await?;
        self.delete("DELETE FROM collapses WHERE app = $1 AND user_id = $2", tx).await?;
        self.delete("DELETE FROM ws_tickets WHERE app = $1 AND user_id = $2", tx).await?;
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

/// Notifications of app `$1` that were addressed to `$2`, with their stored answers. Of those that were cancelled before
/// they were expanded no delivery and no spec names the user: their requests do.
macro_rules! addressed {
    (sqlite) => {
        addressed!(
            in_spec!(sqlite),
            "SELECT 1 FROM json_each(c.request, '$.to') j
             WHERE $2 = CASE WHEN j.type = 'object' THEN j.value ->> 'user_id' ELSE j.value END"
        )
    };
    (postgres) => {
        addressed!(
            in_spec!(postgres),
            "SELECT 1 FROM jsonb_array_elements(CASE jsonb_typeof(c.request::jsonb -> 'to')
                                                WHEN 'array' THEN c.request::jsonb -> 'to' END) AS j (value)
             WHERE $2 = CASE jsonb_typeof(j.value) WHEN 'object' THEN j.value ->> 'user_id' ELSE j.value #>> '{}' END"
        )
    };
    ($in_spec:expr, $in_request:literal) => {
        concat!(
            " FROM notifications n LEFT JOIN idempotency i ON i.app = n.app AND i.key = n.idempotency_key
              WHERE n.id IN (SELECT notification_id FROM deliveries WHERE app = $1 AND user_id = $2
                             UNION
                             SELECT a.notification_id FROM audiences a WHERE a.done_at IS NULL AND ",
            $in_spec,
            "                UNION
                             SELECT c.id FROM audiences a JOIN notifications c ON c.id = a.notification_id
                             WHERE c.cancelled_at IS NOT NULL AND EXISTS (",
            $in_request,
            ")) AND n.app = $1"
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

    /// Stored requests and stored answers of everything that was addressed to the user.
    async fn scrub_notifications(&self, tx: &mut Tx<'_>) -> StoreResult<()> {
        let bound = |text: Sql<'static>| text.bind(self.user.app.as_str()).bind(self.user.user.as_str());
        if tx.is_shared() {
            // Two erases must not write back each other's names. Locked first, read afterwards: what is read is what is there.
            let lock = concat!("SELECT n.id", addressed!(postgres), " ORDER BY n.id FOR UPDATE OF n");
            tx.exec("locking an erased user's requests", bound(sql(lock))).await?;
        }
        let read = by_engine(
            concat!("SELECT n.id, n.request, i.key, i.response", addressed!(sqlite)),
            concat!("SELECT n.id, n.request, i.key, i.response", addressed!(postgres)),
        );
        let rows = tx.fetch("reading an erased user's requests", bound(read)).await?;
        for row in &rows {
            let c = Cells::of("notifications", row);
            let mut request: Value = c.json("request")?;
            take_out(&mut request, self.user.user.as_str());
            tx.exec(
                "scrubbing a request",
                sql("UPDATE notifications SET request = $1 WHERE id = $2")
                    .bind(request.to_string())
                    .bind(c.uuid("id")?),
            )
            .await?;
            let Some(key) = c.get::<Option<String>>("key")? else { continue };
            let mut response: Acceptance = c.as_table("idempotency").json("response")?;
            if let Some(deliveries) = &mut response.deliveries {
                deliveries.retain(|d| d.user_id != self.user.user);
            }
            tx.exec(
                "scrubbing a stored answer",
                sql("UPDATE idempotency SET response = $1 WHERE app = $2 AND key = $3")
                    .bind(encode(&response)?)
                    .bind(self.user.app.as_str())
                    .bind(key),
            )
            .await?;
        }
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

/// Takes a user and what was said of them out of a stored request.
fn take_out(request: &mut Value, user: &str) {
    let Some(request) = request.as_object_mut() else { return };
    let is_user = |v: &Value| v.as_str() == Some(user) || v.get("user_id").and_then(Value::as_str) == Some(user);
    if request.get("user_id").is_some_and(is_user) {
        request.insert("user_id".to_owned(), Value::Null);
        for key in ["email", "addresses"] {
            request.remove(key);
        }
    }
    for key in ["to", "recipients"] {
        if let Some(Value::Array(to)) = request.get_mut(key) {
            to.retain(|entry| !is_user(entry));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_leaves_every_form_of_a_request() {
        let mut one = json!({"user_id": "ada", "email": "a@x", "channels": ["email"]});
        take_out(&mut one, "ada");
        assert_eq!(one, json!({"user_id": null, "channels": ["email"]}));
        let mut many = json!({"to": ["ada", {"user_id": "ada", "email": "a@x"}, "bo"]});
        take_out(&mut many, "ada");
        assert_eq!(many, json!({"to": ["bo"]}));
    }
}
