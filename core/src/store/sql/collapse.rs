//! `collapse_key`: per app, user, type and key the newest notification wins, whenever it arrives.
//!
//! `collapses` holds the newest per key. When a newer one arrives, the rows of the one before it are cancelled (or told to
//! stop) and its unread feed item is archived; one that comes late finds the newer one there and is born cancelled.

use super::{
    rows::{Cells, Hex, json_rows},
    statement::{Sql, by_engine, sql},
    take_back::{self, take_back},
    tx::Tx,
};
use crate::store::rules::{self, Marks};
use campanile_model::{
    AppId, DeliveryState, Notification, NotificationId, UserId, UserKey,
    effects::{Marked, Transition},
    feed::MarkAs,
    plan::RecipientPlan,
    ports::StoreResult,
    state::reason,
};
use std::collections::{BTreeMap, HashMap};

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CollapseKey {
    app: AppId,
    user: UserId,
    notification_type: String,
    key: String,
}

impl CollapseKey {
    pub fn of(n: &Notification, user: &UserId) -> Option<Self> {
        n.collapse_key.as_ref().map(|key| Self {
            app: n.app.clone(),
            user: user.clone(),
            notification_type: n.content.notification_type.clone(),
            key: key.clone(),
        })
    }
}

/// The newest notification of a key, and its feed item if it has a live one.
struct Holder {
    notification: NotificationId,
    item: Option<Marks>,
    /// Its rows are not in the tables yet.
    unwritten: bool,
}

#[derive(Default)]
pub struct Collapses {
    holders: HashMap<CollapseKey, Holder>,
    /// Newly holding, to be written.
    arrived: BTreeMap<CollapseKey, NotificationId>,
    /// (notification, user) whose rows and unread item go.
    superseded: Vec<(NotificationId, UserKey)>,
}

impl Collapses {
    pub async fn load(tx: &mut Tx<'_>, plans: &[(&Notification, &RecipientPlan)]) -> StoreResult<Self> {
        let keys: Vec<CollapseKey> = plans.iter().filter_map(|(n, r)| CollapseKey::of(n, &r.user_id)).collect();
        Self::of_keys(tx, &keys).await
    }

    pub async fn of_keys(tx: &mut Tx<'_>, keys: &[CollapseKey]) -> StoreResult<Self> {
        let mut this = Self::default();
        if keys.is_empty() {
            return Ok(this);
        }
        let wanted: Vec<(&str, &str, &str, &str)> = keys
            .iter()
            .map(|k| (k.app.as_str(), k.user.as_str(), k.notification_type.as_str(), k.key.as_str()))
            .collect();
        let now = tx.now;
        let rows = tx
            .fetch(
                "reading collapse keys",
                by_engine(
                    "SELECT c.app, c.user_id, c.notification_type, c.collapse_key, c.notification_id, f.seq, f.read_at,
                            f.seen_at, f.archived_at
                     FROM json_each($1) j
                     CROSS JOIN collapses c ON c.app = j.value ->> 0 AND c.user_id = j.value ->> 1
                       AND c.notification_type = j.value ->> 2 AND c.collapse_key = j.value ->> 3
                     LEFT JOIN feed f ON f.app = c.app AND f.user_id = c.user_id
                       AND f.notification_id = c.notification_id AND f.expired_at IS NULL
                       AND (f.expires_at IS NULL OR f.expires_at > $2)",
                    "SELECT c.app, c.user_id, c.notification_type, c.collapse_key, c.notification_id, f.seq, f.read_at,
                            f.seen_at, f.archived_at
                     FROM jsonb_array_elements($1::jsonb) AS j (value)
                     JOIN collapses c ON c.app = j.value ->> 0 AND c.user_id = j.value ->> 1
                       AND c.notification_type = j.value ->> 2 AND c.collapse_key = j.value ->> 3
                     LEFT JOIN feed f ON f.app = c.app AND f.user_id = c.user_id
                       AND f.notification_id = c.notification_id AND f.expired_at IS NULL
                       AND (f.expires_at IS NULL OR f.expires_at > $2)",
                )
                .bind(json_rows(&wanted)?)
                .bind(now),
            )
            .await?;
        for row in &rows {
            let c = Cells::of("collapses", row);
            let UserKey { app, user } = c.user()?;
            let key = CollapseKey {
                app,
                user,
                notification_type: c.text("notification_type")?,
                key: c.text("collapse_key")?,
            };
            let item = match c.get::<Option<i64>>("seq")? {
                Some(_) => Some(Marks {
                    read_at: c.get("read_at")?,
                    seen_at: c.get("seen_at")?,
                    archived_at: c.get("archived_at")?,
                }),
                None => None,
            };
            let notification = c.notification_id("notification_id")?;
            this.holders.insert(key, Holder { notification, item, unwritten: false });
        }
        Ok(this)
    }

    /// The holder of this key arrived in this very batch: write it before it is replaced.
    pub fn touches_unwritten(&self, key: &CollapseKey) -> bool {
        self.holders.get(key).is_some_and(|h| h.unwritten)
    }

    /// Whether a newer notification than this holds the key.
    pub fn is_superseded(&self, key: &CollapseKey, n: NotificationId) -> bool {
        self.holders.get(key).is_some_and(|h| rules::supersedes(h.notification, n))
    }

    /// A notification arrives at its key. False: a newer one is there, its rows are born cancelled.
    pub fn arrive(
        &mut self,
        tx: &mut Tx<'_>,
        key: CollapseKey,
        user: &UserKey,
        n: NotificationId,
    ) -> StoreResult<bool> {
        if let Some(holder) = self.holders.get(&key) {
            if rules::supersedes(holder.notification, n) {
                return Ok(false);
            }
            if holder.notification != n {
                let old = holder.notification;
                self.superseded.push((old, user.clone()));
                if let Some(marks) = holder.item.filter(|m| m.read_at.is_none() && m.archived_at.is_none()) {
                    let row = tx.user_mut(user)?;
                    let unread_before = row.counts.unread;
                    rules::reweigh(&mut row.counts, marks.weight(), (0, 0, 0));
                    row.counts.version += 1;
                    tx.tell_marked(user, Marked::Ids(vec![old]), MarkAs::Archived, unread_before)?;
                }
            }
        }
        self.arrived.insert(key.clone(), n);
        self.holders.insert(key, Holder { notification: n, item: None, unwritten: true });
        Ok(true)
    }

    /// The newcomer got its feed item.
    pub fn appended(&mut self, n: &Notification, user: &UserKey) {
        if let Some(key) = CollapseKey::of(n, &user.user)
            && let Some(holder) = self.holders.get_mut(&key)
            && holder.notification == n.id
        {
            holder.item = Some(Marks::default());
        }
    }

    pub async fn flush(&mut self, tx: &mut Tx<'_>) -> StoreResult<()> {
        let now = tx.now;
        if !self.superseded.is_empty() {
            let superseded = std::mem::take(&mut self.superseded);
            let rows: Vec<(Hex, &str, &str)> =
                superseded.iter().map(|(n, u)| (Hex(n.0), u.app.as_str(), u.user.as_str())).collect();
            let rows = json_rows(&rows)?;
            let take = by_engine(
                take_back!(
                    sqlite,
                    "id IN (SELECT d.id FROM json_each($3) j CROSS JOIN deliveries d
                              ON d.notification_id = unhex(j.value ->> 0) AND d.user_id = j.value ->> 2)"
                ),
                take_back!(
                    postgres,
                    "id IN (SELECT d.id FROM jsonb_array_elements($3::jsonb) AS j (value) JOIN deliveries d
                              ON d.notification_id = (j.value ->> 0)::uuid AND d.user_id = j.value ->> 2)"
                ),
            );
            let take = take.bind(now).bind(reason::COLLAPSED).bind(rows.clone());
            take_back::run(tx, "cancelling collapsed deliveries", take).await?;
            tx.exec(
                "archiving collapsed feed items",
                by_engine(
                    "UPDATE feed SET archived_at = $1
                     FROM (SELECT unhex(value ->> 0) AS n, value ->> 1 AS a, value ->> 2 AS u FROM json_each($2)) j
                     WHERE feed.app = j.a AND feed.user_id = j.u AND feed.notification_id = j.n
                       AND read_at IS NULL AND archived_at IS NULL AND expired_at IS NULL
                       AND (expires_at IS NULL OR expires_at > $1)",
                    "UPDATE feed SET archived_at = $1
                     FROM (SELECT (value ->> 0)::uuid AS n, value ->> 1 AS a, value ->> 2 AS u
                           FROM jsonb_array_elements($2::jsonb)) j
                     WHERE feed.app = j.a AND feed.user_id = j.u AND feed.notification_id = j.n
                       AND read_at IS NULL AND archived_at IS NULL AND expired_at IS NULL
                       AND (expires_at IS NULL OR expires_at > $1)",
                )
                .bind(now)
                .bind(rows),
            )
            .await?;
        }
        if !self.arrived.is_empty() {
            let arrived = std::mem::take(&mut self.arrived);
            let rows: Vec<_> = arrived
                .iter()
                .map(|(k, n)| (k.app.as_str(), k.user.as_str(), &k.notification_type, &k.key, Hex(n.0)))
                .collect();
            tx.exec(
                "storing collapse keys",
                by_engine(
                    "INSERT INTO collapses (app, user_id, notification_type, collapse_key, notification_id, updated_at)
                     SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, unhex(value ->> 4), $1
                     FROM json_each($2) WHERE true
                     ON CONFLICT DO UPDATE SET notification_id = excluded.notification_id, updated_at = $1",
                    "INSERT INTO collapses (app, user_id, notification_type, collapse_key, notification_id, updated_at)
                     SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, (value ->> 4)::uuid, $1
                     FROM jsonb_array_elements($2::jsonb)
                     ON CONFLICT (app, user_id, notification_type, collapse_key)
                     DO UPDATE SET notification_id = excluded.notification_id, updated_at = $1",
                )
                .bind(now)
                .bind(json_rows(&rows)?),
            )
            .await?;
            for holder in self.holders.values_mut() {
                holder.unwritten = false;
            }
        }
        Ok(())
    }
}

/// What two people hold becomes one's, whose deliveries and feed both have become: of each key the newer stays, and the
/// older makes way as it would have on arrival.
pub async fn join(tx: &mut Tx<'_>, from: &UserKey, into: &UserKey) -> StoreResult<()> {
    let bound = |text: Sql<'static>| text.bind(from.app.as_str()).bind(from.user.as_str());
    let older = by_engine(
        "SELECT MIN(c.notification_id, o.notification_id) AS older
         FROM collapses c JOIN collapses o ON o.app = c.app AND o.user_id = $3
           AND o.notification_type = c.notification_type AND o.collapse_key = c.collapse_key
         WHERE c.app = $1 AND c.user_id = $2 AND o.notification_id <> c.notification_id",
        "SELECT LEAST(c.notification_id, o.notification_id) AS older
         FROM collapses c JOIN collapses o ON o.app = c.app AND o.user_id = $3
           AND o.notification_type = c.notification_type AND o.collapse_key = c.collapse_key
         WHERE c.app = $1 AND c.user_id = $2 AND o.notification_id <> c.notification_id",
    );
    let rows = tx.fetch("reading keys that two people hold", bound(older).bind(into.user.as_str())).await?;
    let superseded = rows
        .iter()
        .map(|row| Ok((Cells::of("collapses", row).notification_id("older")?, into.clone())))
        .collect::<StoreResult<_>>()?;
    let take = by_engine(
        "INSERT INTO collapses (app, user_id, notification_type, collapse_key, notification_id, updated_at)
         SELECT app, $3, notification_type, collapse_key, notification_id, updated_at
         FROM collapses WHERE app = $1 AND user_id = $2
         ON CONFLICT DO UPDATE SET notification_id = MAX(notification_id, excluded.notification_id),
                                   updated_at = MAX(updated_at, excluded.updated_at)",
        "INSERT INTO collapses (app, user_id, notification_type, collapse_key, notification_id, updated_at)
         SELECT app, $3, notification_type, collapse_key, notification_id, updated_at
         FROM collapses WHERE app = $1 AND user_id = $2
         ON CONFLICT (app, user_id, notification_type, collapse_key)
         DO UPDATE SET notification_id = GREATEST(collapses.notification_id, excluded.notification_id),
                       updated_at = GREATEST(collapses.updated_at, excluded.updated_at)",
    );
    tx.exec("joining collapse keys", bound(take).bind(into.user.as_str())).await?;
    let delete = bound(sql("DELETE FROM collapses WHERE app = $1 AND user_id = $2"));
    tx.exec("forgetting a merged user's collapse keys", delete).await?;
    Collapses { superseded, ..Collapses::default() }.flush(tx).await
}

/// A transition read from a `RETURNING` row with id, notification_id, app, user_id, channel, priority and attempt.
pub fn transition(
    c: Cells<'_>,
    state: DeliveryState,
    reason: Option<campanile_model::Reason>,
) -> StoreResult<Transition> {
    Ok(Transition {
        delivery_id: c.delivery("id")?,
        notification_id: c.notification_id("notification_id")?,
        user: c.user()?,
        channel: c.channel("channel")?,
        priority: c.priority()?,
        state,
        reason,
        latency_ms: None,
        attempt: c.small("attempt")?,
    })
}
