//! Placing deliveries: what accept and expansion share. Decides in memory, then writes each table once.

use super::{
    collapse::{CollapseKey, Collapses},
    gate::Gate,
    rows::{Hex, json_rows},
    statement::by_engine,
    tx::{Tx, user_key},
};
use crate::store::rules::{self, Circumstances, Placement};
use campanile_model::{
    DeliveryState, Notification, Reason, UserKey,
    api::{AcceptedDelivery, ShownState},
    effects::{Push, PushBatch, Transition},
    plan::{DeliveryPlan, RecipientPlan},
    ports::StoreResult,
};
use serde::Serialize;
use std::{collections::BTreeSet, sync::Arc, time::Instant};

/// One row of `deliveries`; the statement below reads it by these names.
#[derive(Serialize)]
struct DeliveryInsert {
    id: Hex,
    notification: Hex,
    app: String,
    user: String,
    channel: String,
    recipient: Option<String>,
    recipient_inline: bool,
    in_app: bool,
    state: &'static str,
    reason: Option<Reason>,
    priority: i64,
    due_at: i64,
    expires_at: Option<i64>,
    relay_at: i64,
}

#[derive(Serialize)]
pub struct FeedInsert {
    pub app: String,
    pub user: String,
    pub seq: i64,
    pub notification: Hex,
    pub delivery: Hex,
    pub expires_at: Option<i64>,
}

/// Rows gathered for one flush.
#[derive(Default)]
pub struct Placer {
    deliveries: Vec<DeliveryInsert>,
    feed: Vec<FeedInsert>,
    users: BTreeSet<UserKey>,
}

/// Loads what placing needs to know.
pub struct Known {
    pub gate: Gate,
    pub collapses: Collapses,
}

impl Known {
    /// For these notifications and recipients, whose `user_state` rows are loaded here too.
    pub async fn load(tx: &mut Tx<'_>, plans: &[(&Notification, &RecipientPlan)]) -> StoreResult<Self> {
        let keys: Vec<UserKey> = plans.iter().map(|(n, r)| user_key(&n.app, &r.user_id)).collect();
        tx.load_users(&keys).await?;
        Ok(Self { gate: Gate::load(tx, plans).await?, collapses: Collapses::load(tx, plans).await? })
    }

    /// This one replaces another of the same batch.
    pub fn replaces_unwritten(&self, n: &Notification, recipients: &[RecipientPlan]) -> bool {
        n.collapse_key.is_some()
            && recipients
                .iter()
                .filter_map(|r| CollapseKey::of(n, &r.user_id))
                .any(|key| self.collapses.touches_unwritten(&key))
    }
}

impl Placer {
    /// Every delivery of these recipients. `queued` is when the request reached the store: the latency of in-app.
    pub fn place(
        &mut self,
        tx: &mut Tx<'_>,
        known: &mut Known,
        notification: &Arc<Notification>,
        recipients: &[RecipientPlan],
        queued: Instant,
    ) -> StoreResult<Vec<AcceptedDelivery>> {
        let mut answer = Vec::new();
        let mut pushes = Vec::new();
        for recipient in recipients {
            let user = user_key(&notification.app, &recipient.user_id);
            let collapsed = match CollapseKey::of(notification, &recipient.user_id) {
                None => false,
                Some(key) => !known.collapses.arrive(tx, key, &user, notification.id)?,
            };
            if !tx.user(&user)?.known {
                self.users.insert(user.clone());
                tx.user_mut(&user)?.known = true;
            }
            for plan in &recipient.deliveries {
                self.place_one(tx, known, notification, &user, plan, collapsed, queued, &mut pushes, &mut answer)?;
            }
        }
        if !pushes.is_empty() {
            tx.effects.pushes.push(PushBatch { notification: notification.clone(), users: pushes });
        }
        Ok(answer)
    }

    #[expect(clippy::too_many_arguments, reason = "the inner step of `place`, split off to be read alone")]
    fn place_one(
        &mut self,
        tx: &mut Tx<'_>,
        known: &mut Known,
        n: &Arc<Notification>,
        user: &UserKey,
        plan: &DeliveryPlan,
        collapsed: bool,
        queued: Instant,
        pushes: &mut Vec<Push>,
        answer: &mut Vec<AcceptedDelivery>,
    ) -> StoreResult<()> {
        let (now, due_at) = (tx.now, rules::due_at(n, tx.now));
        let circumstances = Circumstances {
            collapsed,
            disabled: tx.user(user)?.disabled,
            paused: tx.is_paused(&plan.channel),
            address_suppressed: known.gate.address(n, plan),
            unsubscribed: known.gate.unsubscribed(n, &user.user, &plan.channel),
        };
        let expires_at = n.expires_at.map(|t| t.timestamp_millis());
        let (state, reason, relay_at) = match rules::place(plan, n, circumstances, now) {
            Placement::InFeed => {
                let row = tx.user_mut(user)?;
                let seq = row.append();
                pushes.push(Push { user: user.clone(), delivery_id: plan.id, seq, counts: row.counts });
                known.collapses.appended(n, user);
                self.feed.push(FeedInsert {
                    app: user.app.to_string(),
                    user: user.user.to_string(),
                    seq,
                    notification: Hex(n.id.0),
                    delivery: Hex(plan.id.0),
                    expires_at,
                });
                (DeliveryState::Sent, None, now)
            }
            Placement::Waiting { relay_at, ready } => {
                if ready {
                    tx.effects.ready.push((plan.channel.clone(), plan.id));
                }
                (DeliveryState::Pending, None, relay_at)
            }
            Placement::Settled(state, reason) => (state, Some(reason), now),
        };
        tx.effects.transitions.push(Transition {
            delivery_id: plan.id,
            notification_id: n.id,
            user: user.clone(),
            channel: plan.channel.clone(),
            priority: n.priority,
            state,
            reason: reason.clone(),
            latency_ms: (state == DeliveryState::Sent).then(|| queued.elapsed().as_millis() as i64),
            attempt: 0,
        });
        answer.push(AcceptedDelivery {
            delivery_id: plan.id,
            user_id: user.user.clone(),
            channel: plan.channel.clone(),
            state: ShownState::of(state, due_at > now),
            reason: reason.clone(),
        });
        self.deliveries.push(DeliveryInsert {
            id: Hex(plan.id.0),
            notification: Hex(n.id.0),
            app: user.app.to_string(),
            user: user.user.to_string(),
            channel: plan.channel.to_string(),
            recipient: plan.recipient.clone(),
            recipient_inline: plan.recipient_inline,
            in_app: plan.in_app,
            state: state.as_str(),
            reason,
            priority: n.priority.rank(),
            due_at,
            expires_at,
            relay_at,
        });
        Ok(())
    }

    pub async fn flush(&mut self, tx: &mut Tx<'_>) -> StoreResult<()> {
        let now = tx.now;
        if !self.users.is_empty() {
            let users = std::mem::take(&mut self.users);
            let rows: Vec<(&str, &str)> = users.iter().map(|k| (k.app.as_str(), k.user.as_str())).collect();
            tx.exec(
                "creating users",
                by_engine(
                    "INSERT INTO users (app, user_id, created_at, updated_at)
                     SELECT value ->> 0, value ->> 1, $1, $1 FROM json_each($2) WHERE true ON CONFLICT DO NOTHING",
                    "INSERT INTO users (app, user_id, created_at, updated_at)
                     SELECT value ->> 0, value ->> 1, $1, $1
                     FROM jsonb_array_elements($2::jsonb) WITH ORDINALITY AS j (value, n) ORDER BY j.n
                     ON CONFLICT DO NOTHING",
                )
                .bind(now)
                .bind(json_rows(&rows)?),
            )
            .await?;
        }
        if !self.deliveries.is_empty() {
            let rows = json_rows(&std::mem::take(&mut self.deliveries))?;
            tx.exec(
                "storing deliveries",
                by_engine("INSERT INTO deliveries (id, notification_id, app, user_id, channel, recipient, recipient_inline,
                                             in_app, state, reason, priority, created_at, due_at, next_attempt_at,
                                             expires_at, relay_at, sent_at, settled_at)
                     SELECT unhex(value ->> 'id'), unhex(value ->> 'notification'), value ->> 'app', value ->> 'user',
                            value ->> 'channel', value ->> 'recipient', value ->> 'recipient_inline',
                            value ->> 'in_app', value ->> 'state', value ->> 'reason', value ->> 'priority', $1,
                            value ->> 'due_at', value ->> 'due_at', value ->> 'expires_at', value ->> 'relay_at',
                            CASE WHEN value ->> 'state' = 'sent' THEN $1 END, CASE WHEN value ->> 'state' = 'pending' THEN NULL ELSE $1 END
                     FROM json_each($2)", "INSERT INTO deliveries (id, notification_id, app, user_id, channel, recipient, recipient_inline,
                                             in_app, state, reason, priority, created_at, due_at, next_attempt_at,
                                             expires_at, relay_at, sent_at, settled_at)
                     SELECT j.id, notification, app, j.user, channel, recipient, recipient_inline, in_app, state, reason,
                            priority, $1, due_at, due_at, expires_at, relay_at, CASE WHEN state = 'sent' THEN $1 END,
                            CASE WHEN state <> 'pending' THEN $1 END
                     FROM jsonb_to_recordset($2::jsonb) AS j (
                        id uuid, notification uuid, app text, \"user\" text, channel text, recipient text,
                        recipient_inline boolean, in_app boolean, state text, reason text, priority bigint, due_at bigint,
                        expires_at bigint, relay_at bigint)")
                .bind(now)
                .bind(rows),
            )
            .await?;
        }
        if !self.feed.is_empty() {
            insert_feed(tx, &std::mem::take(&mut self.feed)).await?;
        }
        Ok(())
    }
}

pub async fn insert_feed(tx: &mut Tx<'_>, rows: &[FeedInsert]) -> StoreResult<()> {
    let now = tx.now;
    tx.exec(
        "storing feed items",
        by_engine("INSERT INTO feed (app, user_id, seq, notification_id, delivery_id, created_at, expires_at)
             SELECT value ->> 'app', value ->> 'user', value ->> 'seq', unhex(value ->> 'notification'),
                    unhex(value ->> 'delivery'), $1, value ->> 'expires_at'
             FROM json_each($2)", "INSERT INTO feed (app, user_id, seq, notification_id, delivery_id, created_at, expires_at)
             SELECT app, j.user, seq, notification, delivery, $1, expires_at
             FROM jsonb_to_recordset($2::jsonb) AS j (app text, \"user\" text, seq bigint, notification uuid, delivery uuid,
                                                      expires_at bigint)")
        .bind(now)
        .bind(json_rows(rows)?),
    )
    .await?;
    Ok(())
}
