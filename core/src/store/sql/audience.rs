//! Large audiences: a spec and a cursor; each expansion is one transaction like an accept's.

use super::{
    accept::{encode, is_stale},
    group::Operation,
    place::{Known, Placer},
    read::{Reads, now},
    rows::{Cells, json_rows, notification_columns},
    statement::{by_engine, sql},
    tx::{Tx, user_key},
};
use async_trait::async_trait;
use campanile_model::{
    NodeId, Notification, NotificationId, UserId,
    plan::{AudienceSpec, RecipientPlan},
    ports::StoreResult,
    work::AudienceSlice,
};
use std::{
    borrow::Cow,
    sync::Arc,
    time::{Duration, Instant},
};

impl Reads {
    /// Whether a claim would find an audience: an idle host costs the writer nothing.
    pub async fn audience_waits(&self) -> StoreResult<bool> {
        let row = self
            .fetch_opt(
                "claim_audience",
                by_engine(
                    concat!(
                        "SELECT EXISTS (SELECT 1 FROM audiences WHERE done_at IS NULL
                        AND (lease_until IS NULL OR lease_until <= ",
                        now!(sqlite),
                        ")) AS waits"
                    ),
                    concat!(
                        "SELECT EXISTS (SELECT 1 FROM audiences WHERE done_at IS NULL
                        AND (lease_until IS NULL OR lease_until <= ",
                        now!(postgres),
                        ")) AS waits"
                    ),
                )
                .bind(self.offset()),
            )
            .await?;
        row.map_or(Ok(false), |row| Cells::of("audiences", &row).flag("waits"))
    }
}

pub struct ClaimAudience {
    pub node: NodeId,
    pub limit: u32,
    pub lease: Duration,
}

#[async_trait]
impl Operation for ClaimAudience {
    type Output = Option<AudienceSlice>;
    const NAME: &'static str = "claim_audience";

    async fn run(&self, tx: &mut Tx<'_>) -> StoreResult<Option<AudienceSlice>> {
        let now = tx.now;
        let row = tx
            .fetch_opt(
                "claiming an audience",
                by_engine(
                    "UPDATE audiences SET lease_owner = $1, lease_until = $2
                     WHERE notification_id = (
                        SELECT a.notification_id FROM audiences a JOIN notifications n ON n.id = a.notification_id
                        WHERE a.done_at IS NULL AND (a.lease_until IS NULL OR a.lease_until <= $3)
                          AND n.cancelled_at IS NULL
                        ORDER BY n.priority, a.notification_id LIMIT 1)
                     RETURNING notification_id, spec, recipients, cursor",
                    "UPDATE audiences SET lease_owner = $1, lease_until = $2
                     WHERE notification_id = (
                        SELECT a.notification_id FROM audiences a JOIN notifications n ON n.id = a.notification_id
                        WHERE a.done_at IS NULL AND (a.lease_until IS NULL OR a.lease_until <= $3)
                          AND n.cancelled_at IS NULL
                        ORDER BY n.priority, a.notification_id LIMIT 1 FOR UPDATE OF a SKIP LOCKED)
                     RETURNING notification_id, spec, recipients, cursor",
                )
                .bind(self.node.0)
                .bind(now.saturating_add(self.lease.as_millis() as i64))
                .bind(now),
            )
            .await?;
        let Some(row) = row else { return Ok(None) };
        let c = Cells::of("audiences", &row);
        let spec: AudienceSpec = c.json("spec")?;
        let cursor = c.small("cursor")?;
        let recipients = spec.recipients.into_iter().skip(cursor as usize).take(self.limit as usize).collect();
        let Some(notification) = notification(tx, c.notification_id("notification_id")?).await? else {
            return Ok(None);
        };
        Ok(Some(AudienceSlice {
            notification,
            channels: spec.channels,
            recipients,
            cursor,
            total: c.small("recipients")?,
        }))
    }
}

async fn notification(tx: &mut Tx<'_>, id: NotificationId) -> StoreResult<Option<Arc<Notification>>> {
    let row = tx
        .fetch_opt(
            "reading a notification",
            sql(concat!("SELECT n.id, ", notification_columns!(), " FROM notifications n WHERE n.id = $1")).bind(id.0),
        )
        .await?;
    row.map(|row| Cells::of("notifications", &row).notification("id")).transpose()
}

pub struct Expand {
    pub node: NodeId,
    pub notification: NotificationId,
    pub cursor: u32,
    pub recipients: Vec<RecipientPlan>,
    pub queued: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expanded {
    Done,
    /// Another node has moved the cursor, or an erase or a merge has changed the audience: claim again.
    Moved,
    /// Someone in the slice was erased or merged since it was resolved.
    Stale,
}

#[async_trait]
impl Operation for Expand {
    type Output = Expanded;
    const NAME: &'static str = "expand";
    const BEFORE_COMMIT: Option<&'static str> = Some("expand.before_commit");
    const AFTER_COMMIT: Option<&'static str> = Some("expand.after_commit");
    const ALONE: bool = true;

    fn rows(&self) -> usize {
        self.recipients.iter().map(|r| 1 + 2 * r.deliveries.len()).sum()
    }

    async fn run(&self, tx: &mut Tx<'_>) -> StoreResult<Expanded> {
        // Read, and the feed states locked, before the audience is: the order that every transaction keeps.
        let Some(notification) = notification(tx, self.notification).await? else { return Ok(Expanded::Moved) };
        let keys: Vec<_> = self.recipients.iter().map(|r| user_key(&notification.app, &r.user_id)).collect();
        tx.load_users(&keys).await?;
        let row = tx
            .fetch_opt(
                "reading an audience",
                by_engine(
                    "SELECT a.cursor, a.recipients, n.cancelled_at IS NOT NULL AS cancelled
                     FROM audiences a JOIN notifications n ON n.id = a.notification_id
                     WHERE a.notification_id = $1 AND a.done_at IS NULL AND a.lease_owner = $2",
                    "SELECT a.cursor, a.recipients, n.cancelled_at IS NOT NULL AS cancelled
                     FROM audiences a JOIN notifications n ON n.id = a.notification_id
                     WHERE a.notification_id = $1 AND a.done_at IS NULL AND a.lease_owner = $2
                     FOR UPDATE OF a FOR SHARE OF n",
                )
                .bind(self.notification.0)
                .bind(self.node.0),
            )
            .await?;
        let Some(row) = row else { return Ok(Expanded::Moved) };
        let c = Cells::of("audiences", &row);
        if c.small("cursor")? != self.cursor {
            return Ok(Expanded::Moved);
        }
        let total = c.small("recipients")?;
        if c.flag("cancelled")? {
            self.move_cursor(tx, total, total).await?;
            return Ok(Expanded::Done);
        }
        if is_stale(tx, &notification, &self.recipients)? {
            return Ok(Expanded::Stale);
        }
        let recipients = self.without_what_came_by_a_merge(tx).await?;
        let plans: Vec<_> = recipients.iter().map(|r| (&*notification, r)).collect();
        let mut known = Known::load(tx, &plans).await?;
        let mut placer = Placer::default();
        placer.place(tx, &mut known, &notification, &recipients, self.queued)?;
        known.collapses.flush(tx).await?;
        placer.flush(tx).await?;
        let cursor = self.cursor.saturating_add(self.recipients.len() as u32).min(total);
        self.move_cursor(tx, cursor, total).await?;
        Ok(Expanded::Done)
    }
}

impl Expand {
    /// Somebody who was expanded before was merged into somebody whose turn is now: they have it by some channels already.
    /// Their generation says that it may be so; nobody else costs a look.
    async fn without_what_came_by_a_merge(&self, tx: &mut Tx<'_>) -> StoreResult<Cow<'_, [RecipientPlan]>> {
        let merged: Vec<&UserId> = self.recipients.iter().filter(|r| r.generation > 0).map(|r| &r.user_id).collect();
        if merged.is_empty() {
            return Ok(Cow::Borrowed(&self.recipients));
        }
        let rows = tx
            .fetch(
                "reading what came by a merge",
                by_engine(
                    "SELECT d.user_id, d.channel FROM json_each($2) j
                     CROSS JOIN deliveries d ON d.notification_id = $1 AND d.user_id = j.value",
                    "SELECT d.user_id, d.channel FROM jsonb_array_elements_text($2::jsonb) AS j (value)
                     JOIN deliveries d ON d.notification_id = $1 AND d.user_id = j.value",
                )
                .bind(self.notification.0)
                .bind(json_rows(&merged)?),
            )
            .await?;
        let mut recipients = self.recipients.clone();
        for row in &rows {
            let c = Cells::of("deliveries", row);
            let (user, channel) = (c.text("user_id")?, c.channel("channel")?);
            for recipient in recipients.iter_mut().filter(|r| r.user_id.as_str() == user) {
                recipient.deliveries.retain(|d| d.channel != channel);
            }
        }
        Ok(Cow::Owned(recipients))
    }

    /// Frees the lease; at the end the spec goes too, it holds addresses that nobody needs any more.
    async fn move_cursor(&self, tx: &mut Tx<'_>, cursor: u32, total: u32) -> StoreResult<()> {
        let now = tx.now;
        let empty = encode(&AudienceSpec { recipients: Vec::new(), channels: None })?;
        tx.exec(
            "moving an audience's cursor",
            sql("UPDATE audiences SET cursor = $1, lease_owner = NULL, lease_until = NULL,
                        done_at = CASE WHEN $1 >= $2 THEN $3 END, spec = CASE WHEN $1 >= $2 THEN $4 ELSE spec END
                 WHERE notification_id = $5")
            .bind(cursor)
            .bind(total)
            .bind(now)
            .bind(empty)
            .bind(self.notification.0),
        )
        .await?;
        Ok(())
    }
}
