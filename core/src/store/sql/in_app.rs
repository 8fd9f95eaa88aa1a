//! Deferred in-app: scheduled or held deliveries get their feed item, in the worker's own transaction but exactly once.

use super::{
    collapse::{CollapseKey, Collapses, transition},
    group::Operation,
    place::{FeedInsert, insert_feed},
    rows::{Cells, Hex, json_ids, json_rows, notification_columns},
    statement::by_engine,
    tx::Tx,
};
use async_trait::async_trait;
use campanile_model::{
    DeliveryId, DeliveryState, Notification, NotificationId, UserKey,
    effects::{Push, PushBatch, Transition},
    ports::StoreResult,
    state::reason,
};
use std::{
    collections::{BTreeSet, HashMap, hash_map::Entry},
    sync::Arc,
};

pub struct CompleteInApp {
    pub ids: Vec<DeliveryId>,
}

struct Due {
    id: DeliveryId,
    user: UserKey,
    notification: Arc<Notification>,
    expires_at: Option<i64>,
    since: i64,
    cancelled: bool,
    /// The feed has this notification already.
    in_feed: bool,
    transition: Transition,
}

#[async_trait]
impl Operation for CompleteInApp {
    type Output = u64;
    const NAME: &'static str = "in_app";
    const BEFORE_COMMIT: Option<&'static str> = Some("in_app.before_commit");
    const AFTER_COMMIT: Option<&'static str> = Some("in_app.after_commit");

    const ALONE: bool = true;

    fn rows(&self) -> usize {
        self.ids.len() * 2
    }

    async fn run(&self, tx: &mut Tx<'_>) -> StoreResult<u64> {
        let users = users(tx, &self.ids).await?;
        tx.load_users(&users).await?;
        let due = due(tx, &self.ids).await?;
        let keys: Vec<CollapseKey> =
            due.iter().filter_map(|d| CollapseKey::of(&d.notification, &d.user.user)).collect();
        let collapses = Collapses::of_keys(tx, &keys).await?;
        let now = tx.now;
        let mut feed = Vec::new();
        let mut changes: Vec<(Hex, &'static str, Option<&'static str>)> = Vec::new();
        let mut pushes: Vec<PushBatch> = Vec::new();
        for d in due {
            let collapsed = CollapseKey::of(&d.notification, &d.user.user)
                .is_some_and(|key| collapses.is_superseded(&key, d.notification.id));
            let (state, why) = if d.cancelled {
                (DeliveryState::Cancelled, Some(reason::CANCELLED))
            } else if collapsed {
                (DeliveryState::Cancelled, Some(reason::COLLAPSED))
            } else if tx.user(&d.user)?.disabled {
                (DeliveryState::Suppressed, Some(reason::USER_DISABLED))
            } else {
                (DeliveryState::Sent, None)
            };
            if state == DeliveryState::Sent && !d.in_feed {
                let row = tx.user_mut(&d.user)?;
                let seq = row.append();
                let push = Push { user: d.user.clone(), delivery_id: d.id, seq, counts: row.counts };
                match pushes.last_mut().filter(|b| b.notification.id == d.notification.id) {
                    Some(batch) => batch.users.push(push),
                    None => pushes.push(PushBatch { notification: d.notification.clone(), users: vec![push] }),
                }
                feed.push(FeedInsert {
                    app: d.user.app.to_string(),
                    user: d.user.user.to_string(),
                    seq,
                    notification: Hex(d.notification.id.0),
                    delivery: Hex(d.id.0),
                    expires_at: d.expires_at,
                });
            }
            let mut t = d.transition;
            t.state = state;
            t.reason = why.map(str::to_owned);
            t.latency_ms = (state == DeliveryState::Sent).then(|| (now - d.since).max(0));
            tx.effects.transitions.push(t);
            changes.push((Hex(d.id.0), state.as_str(), why));
        }
        tx.effects.pushes.extend(pushes);
        if !feed.is_empty() {
            insert_feed(tx, &feed).await?;
        }
        settle(tx, &changes).await?;
        Ok(changes.iter().filter(|(_, state, _)| *state == DeliveryState::Sent.as_str()).count() as u64)
    }
}

macro_rules! due {
    ($since:literal, $from:literal) => {
        concat!(
            "SELECT d.id, d.notification_id, d.app, d.user_id, d.channel, d.attempt, d.expires_at, ",
            $since,
            " AS since, n.cancelled_at IS NOT NULL AS cancelled, f.seq IS NOT NULL AS in_feed, ",
            notification_columns!(),
            $from
        )
    };
}

const DUE: &str = due!(
    "MAX(d.created_at, d.due_at)",
    " FROM json_each($2) j
      CROSS JOIN deliveries d ON d.id = unhex(j.value)
      JOIN notifications n ON n.id = d.notification_id
      LEFT JOIN feed f ON f.app = d.app AND f.user_id = d.user_id AND f.notification_id = d.notification_id
      WHERE d.in_app = 1 AND d.state IN ('pending', 'retrying') AND d.next_attempt_at <= $1
        AND (d.expires_at IS NULL OR d.expires_at > $1)
      ORDER BY d.due_at, d.id"
);

/// Not in the order of ids, but it waits for nobody: whoever holds a row settles it or moves it on.
const DUE_LOCKED: &str = due!(
    "GREATEST(d.created_at, d.due_at)",
    " FROM jsonb_array_elements_text($2::jsonb) AS j (value)
      JOIN deliveries d ON d.id = j.value::uuid
      JOIN notifications n ON n.id = d.notification_id
      LEFT JOIN feed f ON f.app = d.app AND f.user_id = d.user_id AND f.notification_id = d.notification_id
      WHERE d.in_app AND d.state IN ('pending', 'retrying') AND d.next_attempt_at <= $1
        AND (d.expires_at IS NULL OR d.expires_at > $1)
      ORDER BY d.due_at, d.id FOR UPDATE OF d SKIP LOCKED"
);

/// The feeds that these deliveries go to: locked before the deliveries are.
async fn users(tx: &mut Tx<'_>, ids: &[DeliveryId]) -> StoreResult<Vec<UserKey>> {
    let rows = tx
        .fetch(
            "reading whose in-app deliveries these are",
            by_engine(
                "SELECT DISTINCT d.app, d.user_id FROM json_each($1) j CROSS JOIN deliveries d ON d.id = unhex(j.value)",
                "SELECT DISTINCT d.app, d.user_id FROM jsonb_array_elements_text($1::jsonb) AS j (value)
                 JOIN deliveries d ON d.id = j.value::uuid",
            )
            .bind(json_ids(ids.iter().map(|i| i.0))),
        )
        .await?;
    rows.iter().map(|row| Cells::of("deliveries", row).user()).collect()
}

/// Those that are ours to complete, in the order of their ids, so that seq follows acceptance.
async fn due(tx: &mut Tx<'_>, ids: &[DeliveryId]) -> StoreResult<Vec<Due>> {
    let now = tx.now;
    let rows = tx
        .fetch(
            "reading due in-app deliveries",
            by_engine(DUE, DUE_LOCKED).bind(now).bind(json_ids(ids.iter().map(|i| i.0).collect::<BTreeSet<_>>())),
        )
        .await?;
    let mut notifications: HashMap<NotificationId, Arc<Notification>> = HashMap::new();
    let mut out: Vec<Due> = Vec::with_capacity(rows.len());
    for row in &rows {
        let c = Cells::of("deliveries", row);
        let id = c.delivery("id")?;
        if tx.is_paused(&c.channel("channel")?) {
            continue;
        }
        let user = c.user()?;
        if !tx.has_user(&user) {
            // It was read as somebody else's, whose merge came between: the relay brings it again.
            continue;
        }
        let notification_id = c.notification_id("notification_id")?;
        let notification = match notifications.entry(notification_id) {
            Entry::Occupied(known) => known.get().clone(),
            Entry::Vacant(new) => new.insert(c.notification("notification_id")?).clone(),
        };
        out.push(Due {
            id,
            user,
            notification,
            expires_at: c.get("expires_at")?,
            since: c.int("since")?,
            cancelled: c.flag("cancelled")?,
            in_feed: c.flag("in_feed")?,
            transition: transition(c, DeliveryState::Sent, None)?,
        });
    }
    Ok(out)
}

async fn settle(tx: &mut Tx<'_>, changes: &[(Hex, &'static str, Option<&'static str>)]) -> StoreResult<()> {
    if changes.is_empty() {
        return Ok(());
    }
    let now = tx.now;
    tx.exec(
        "completing in-app deliveries",
        by_engine(
            "UPDATE deliveries SET state = j.state, reason = j.reason, settled_at = $1,
                    sent_at = CASE WHEN j.state = 'sent' THEN COALESCE(sent_at, $1) ELSE sent_at END
             FROM (SELECT unhex(value ->> 0) AS id, value ->> 1 AS state, value ->> 2 AS reason FROM json_each($2)) j
             WHERE deliveries.id = j.id AND deliveries.state IN ('pending', 'retrying')",
            "UPDATE deliveries SET state = j.state, reason = j.reason, settled_at = $1,
                    sent_at = CASE WHEN j.state = 'sent' THEN COALESCE(sent_at, $1) ELSE sent_at END
             FROM (SELECT (value ->> 0)::uuid AS id, value ->> 1 AS state, value ->> 2 AS reason
                   FROM jsonb_array_elements($2::jsonb)) j
             WHERE deliveries.id = j.id AND deliveries.state IN ('pending', 'retrying')",
        )
        .bind(now)
        .bind(json_rows(changes)?),
    )
    .await?;
    Ok(())
}
