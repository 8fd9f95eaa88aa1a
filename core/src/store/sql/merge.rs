//! Merging two people: whatever one had becomes the other's, and nobody gets anything twice.
//!
//! Locks are taken in the order that all keep: feed states, people, requests, audiences, deliveries by id. Absent on purpose:
//! the feeds (`merge_feed`), collapse keys (`collapse`), stored requests and answers (`requests`), audiences (`crowd`).

use super::{
    accept::encode,
    audit, collapse, crowd,
    erase::{reset_feed, was_sent_to},
    group::Operation,
    merge_feed, requests,
    rows::{Cells, json_rows},
    statement::{Sql, by_engine, sql},
    take_back::{self, take_back},
    tx::Tx,
    users,
};
use async_trait::async_trait;
use campanile_model::{
    UserKey,
    ports::{Actor, Merged, StoreResult},
    state::reason,
    user::{Contact, User},
};
use serde_json::json;
use std::sync::Arc;

pub struct Merge {
    pub from: UserKey,
    pub into: UserKey,
    pub actor: Actor,
    /// The database's half of the feed epoch.
    pub epoch: Arc<str>,
}

#[async_trait]
impl Operation for Merge {
    type Output = Option<Merged>;
    const NAME: &'static str = "merge";

    fn rows(&self) -> usize {
        500
    }

    fn users(&self) -> Vec<UserKey> {
        vec![self.from.clone(), self.into.clone()]
    }

    async fn run(&self, tx: &mut Tx<'_>) -> StoreResult<Option<Merged>> {
        if self.from == self.into {
            return Ok(None);
        }
        tx.load_users(&self.users()).await?;
        let mut merged = Merged::default();
        if existed(tx, &self.from).await? {
            let row = tx.user(&self.from)?;
            // Whoever was merged before has neither, and a merge that is repeated makes no client start anew.
            let is_somebody = row.known || row.head_seq >= row.min_seq;
            self.join_people(tx).await?;
            requests::change(tx, &self.from, Some(&self.into.user)).await?;
            merged.audiences = crowd::change(tx, &self.from, Some(&self.into.user)).await?;
            self.join_deliveries(tx, &mut merged).await?;
            self.join_wishes(tx).await?;
            self.join_presence(tx).await?;
            if is_somebody || merged.moved + merged.audiences > 0 {
                self.join_feeds(tx, &mut merged).await?;
            }
        } else if !existed(tx, &self.into).await? {
            return Ok(None);
        }
        let detail = json!({"from": self.from.user, "moved": merged.moved, "cancelled": merged.cancelled,
                            "in_flight": merged.in_flight, "feed_items": merged.feed_items,
                            "audiences": merged.audiences});
        audit::append(tx, &self.actor, "user.merge", self.into.user.as_str(), Some(detail)).await?;
        Ok(Some(merged))
    }
}

async fn existed(tx: &mut Tx<'_>, user: &UserKey) -> StoreResult<bool> {
    let row = *tx.user(user)?;
    Ok(row.known || row.stored || was_sent_to(tx, user).await?)
}

impl Merge {
    /// `$1` the app, `$2` the one who goes, `$3` the one who stays.
    fn bound(&self, text: Sql<'static>) -> Sql<'_> {
        text.bind(self.from.app.as_str()).bind(self.from.user.as_str()).bind(self.into.user.as_str())
    }

    async fn delete(&self, text: &'static str, tx: &mut Tx<'_>) -> StoreResult<u64> {
        let delete = sql(text).bind(self.from.app.as_str()).bind(self.from.user.as_str());
        tx.exec("forgetting a merged user", delete).await
    }

    /// One's own contact points stand, the other's fill what is missing.
    async fn join_people(&self, tx: &mut Tx<'_>) -> StoreResult<()> {
        let both = by_engine(
            "SELECT * FROM users WHERE app = $1 AND user_id IN ($2, $3)",
            "SELECT * FROM users WHERE app = $1 AND user_id IN ($2, $3) ORDER BY user_id FOR UPDATE",
        );
        let rows = tx.fetch("reading two people", self.bound(both)).await?;
        let people: Vec<User> =
            rows.iter().map(|row| users::user(Cells::of("users", row))).collect::<StoreResult<_>>()?;
        let contact_of = |key: &UserKey| people.iter().find(|u| u.user_id == key.user).map(|u| u.contact.clone());
        let own = contact_of(&self.into);
        let joined = own.clone().unwrap_or_default().or(contact_of(&self.from).unwrap_or_default());
        if own.as_ref() != Some(&joined) {
            self.put_contact(tx, &joined).await?;
        }
        self.delete("DELETE FROM users WHERE app = $1 AND user_id = $2", tx).await?;
        tx.user_mut(&self.into)?.known = true;
        Ok(())
    }

    /// Whether they are disabled stays as it is.
    async fn put_contact(&self, tx: &mut Tx<'_>, contact: &Contact) -> StoreResult<()> {
        let now = tx.now;
        tx.exec(
            "storing a merged user",
            sql("INSERT INTO users (app, user_id, email, locale, timezone, addresses, created_at, updated_at)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $7)
                 ON CONFLICT (app, user_id) DO UPDATE SET email = $3, locale = $4, timezone = $5, addresses = $6,
                                                          updated_at = $7")
            .bind(self.into.app.as_str())
            .bind(self.into.user.as_str())
            .bind(contact.email.as_deref())
            .bind(contact.locale.as_deref())
            .bind(contact.timezone.as_deref())
            .bind(encode(&contact.addresses)?)
            .bind(now),
        )
        .await?;
        Ok(())
    }

    /// All of them, but for what the other has by the same channel: of that, what waits is taken back, what is dead stays
    /// dead, and what was sent stays where it was.
    async fn join_deliveries(&self, tx: &mut Tx<'_>, merged: &mut Merged) -> StoreResult<()> {
        if tx.is_shared() {
            // At once and by id, as all who lock several do: those that move or are taken back, and those of the other
            // that a newer one of the same collapse key replaces.
            let lock = sql("SELECT id FROM deliveries WHERE app = $1 AND user_id IN ($2, $3)
                              AND (user_id = $2 OR state IN ('pending', 'retrying', 'sending'))
                            ORDER BY id FOR UPDATE");
            tx.exec("locking the deliveries of two people", self.bound(lock)).await?;
        }
        let take = sql("UPDATE deliveries SET user_id = $3
             WHERE app = $1 AND user_id = $2 AND NOT EXISTS (
                SELECT 1 FROM deliveries o WHERE o.notification_id = deliveries.notification_id AND o.user_id = $3
                  AND o.channel = deliveries.channel)");
        merged.moved = tx.exec("moving deliveries to another user", self.bound(take)).await?;
        let now = tx.now;
        let which = by_engine(
            take_back!(sqlite, "app = $3 AND user_id = $4"),
            take_back!(postgres, "app = $3 AND user_id = $4"),
        );
        let twice = which.bind(now).bind(reason::MERGED).bind(self.from.app.as_str()).bind(self.from.user.as_str());
        let taken = take_back::run(tx, "cancelling what a merged user has twice", twice).await?;
        (merged.cancelled, merged.in_flight) = (taken.cancelled, taken.in_flight);
        // A replay would send it to whom nobody knows any more.
        self.delete(
            "UPDATE deliveries SET stop = COALESCE(stop, 'merged') WHERE app = $1 AND user_id = $2 AND state = 'dead'",
            tx,
        )
        .await?;
        Ok(())
    }

    /// What either said no to, both do. Taken out and put in again: a wish that is written at the same moment for the one
    /// who stays is no failure.
    async fn join_wishes(&self, tx: &mut Tx<'_>) -> StoreResult<()> {
        let history = sql("UPDATE consents SET user_id = $3 WHERE app = $1 AND user_id = $2");
        tx.exec("keeping what a merged user chose", self.bound(history)).await?;
        let take = sql("DELETE FROM suppressions WHERE app = $1 AND user_id = $2
             RETURNING id, channel, notification_type, reason, created_at");
        let rows = tx
            .fetch(
                "reading a merged user's unsubscriptions",
                take.bind(self.from.app.as_str()).bind(self.from.user.as_str()),
            )
            .await?;
        if rows.is_empty() {
            return Ok(());
        }
        let mut wishes = Vec::with_capacity(rows.len());
        for row in &rows {
            let c = Cells::of("suppressions", row);
            let kind: Option<String> = c.get("notification_type")?;
            wishes.push((c.text("id")?, c.text("channel")?, kind, c.text("reason")?, c.int("created_at")?));
        }
        let put = by_engine(
            "INSERT INTO suppressions (id, app, channel, user_id, notification_type, reason, created_at)
             SELECT value ->> 0, $1, value ->> 1, $2, value ->> 2, value ->> 3, value ->> 4
             FROM json_each($3) WHERE true ON CONFLICT DO NOTHING",
            "INSERT INTO suppressions (id, app, channel, user_id, notification_type, reason, created_at)
             SELECT value ->> 0, $1, value ->> 1, $2, value ->> 2, value ->> 3, (value ->> 4)::bigint
             FROM jsonb_array_elements($3::jsonb) ON CONFLICT DO NOTHING",
        );
        let put = put.bind(self.into.app.as_str()).bind(self.into.user.as_str()).bind(json_rows(&wishes)?);
        tx.exec("keeping a merged user's unsubscriptions", put).await?;
        Ok(())
    }

    /// When they were here, the later; tickets would let somebody in who is no longer known.
    async fn join_presence(&self, tx: &mut Tx<'_>) -> StoreResult<()> {
        if tx.is_shared() {
            let lock = sql("SELECT seen_at FROM user_seen WHERE app = $1 AND user_id IN ($2, $3)
                            ORDER BY user_id FOR UPDATE");
            tx.exec("locking when two people were here", self.bound(lock)).await?;
        }
        let later = by_engine(
            "INSERT INTO user_seen (app, user_id, seen_at)
             SELECT app, $3, seen_at FROM user_seen WHERE app = $1 AND user_id = $2
             ON CONFLICT (app, user_id) DO UPDATE SET seen_at = MAX(seen_at, excluded.seen_at)",
            "INSERT INTO user_seen (app, user_id, seen_at)
             SELECT app, $3, seen_at FROM user_seen WHERE app = $1 AND user_id = $2
             ON CONFLICT (app, user_id) DO UPDATE SET seen_at = GREATEST(user_seen.seen_at, excluded.seen_at)",
        );
        tx.exec("noting when a merged user was here", self.bound(later)).await?;
        self.delete("DELETE FROM user_seen WHERE app = $1 AND user_id = $2", tx).await?;
        self.delete("DELETE FROM ws_tickets WHERE app = $1 AND user_id = $2", tx).await?;
        Ok(())
    }

    async fn join_feeds(&self, tx: &mut Tx<'_>, merged: &mut Merged) -> StoreResult<()> {
        merged.feed_items = merge_feed::join(tx, &self.from, &self.into).await?;
        // It archives what a newer one replaces, so it is counted afterwards.
        collapse::join(tx, &self.from, &self.into).await?;
        merge_feed::begin_anew(tx, &self.into, &self.epoch).await?;
        reset_feed(tx, &self.from, &self.epoch)
    }
}
