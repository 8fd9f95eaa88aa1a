//! What operators look at: notifications with their deliveries, dead letters, queues.

use super::{
    read::{Reads, Snapshot, now},
    rows::{Cells, json_ids, notification_columns},
    statement::{by_engine, sql},
};
use campanile_model::{
    AppId, ChannelName, DeliveryId, DeliveryState, NodeId, NotificationId, UserId,
    api::ShownState,
    ports::{
        AttemptRow, DeadFilter, DeliveryRow, NotificationDetail, NotificationFilter, NotificationRow, QueueStats,
        StoreResult,
    },
};
use std::collections::{BTreeMap, HashMap};
use uuid::Uuid;

/// Deliveries of one page of a notification.
const PAGE: u32 = 100;

const NOTIFICATION: &str = concat!(
    "SELECT n.id, n.request, n.source, n.sent_by, n.idempotency_key, n.cancelled_at, a.recipients, a.cursor, ",
    notification_columns!(),
    " FROM notifications n LEFT JOIN audiences a ON a.notification_id = n.id WHERE n.app = $1 AND n.id = $2"
);

/// `$1` offset. `due_later` decides what is shown as scheduled.
macro_rules! deliveries {
    ($engine:ident, $in_app:literal; $($where:expr),+) => {
        concat!(
            "SELECT d.id, d.notification_id, d.app, d.user_id, d.channel, d.recipient, d.state, d.reason, d.attempt,
                    d.created_at, d.due_at, d.next_attempt_at, d.sent_at, d.settled_at, d.provider_id,
                    d.error, d.destination, d.dismissed_at, d.due_at > ",
            now!($engine),
            " AS due_later, f.seen_at, f.read_at, f.archived_at
             FROM deliveries d LEFT JOIN feed f ON ",
            $in_app,
            " AND f.app = d.app AND f.user_id = d.user_id AND f.notification_id = d.notification_id WHERE ",
            $($where),+
        )
    };
    ($($where:expr),+) => {
        by_engine(deliveries!(sqlite, "d.in_app = 1"; $($where),+), deliveries!(postgres, "d.in_app"; $($where),+))
    };
}
pub(super) use deliveries;

macro_rules! summaries {
    ($engine:ident, $from:literal) => {
        concat!(
            "SELECT d.notification_id, d.state, d.state = 'pending' AND d.due_at > ",
            now!($engine),
            " AS due_later, COUNT(*) AS n FROM ",
            $from,
            " GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
        )
    };
}

/// `$1` offset. One row for each channel and state, counted in the order of an index that holds all that is counted.
macro_rules! queues {
    ($engine:ident) => {
        concat!(
            // The time is told once and not for each row.
            "WITH t(now) AS MATERIALIZED (SELECT ",
            now!($engine),
            ")
             SELECT d.channel, d.state, d.due, d.later, t.now - d.oldest AS age, p.channel IS NOT NULL AS paused
             FROM t CROSS JOIN (
                SELECT channel, state, COUNT(*) FILTER (WHERE next_attempt_at <= (SELECT now FROM t)) AS due,
                       COUNT(*) FILTER (WHERE next_attempt_at > (SELECT now FROM t)) AS later, MIN(next_attempt_at) AS oldest
                FROM deliveries WHERE state IN ('pending', 'sending', 'retrying') GROUP BY channel, state
                UNION ALL
                SELECT channel, state, COUNT(*), 0, NULL FROM deliveries
                WHERE state = 'dead' AND dismissed_at IS NULL GROUP BY channel, state) d
             LEFT JOIN channel_pauses p ON p.channel = d.channel AND p.ended IS NULL"
        )
    };
}

impl Reads {
    pub async fn notification(
        &self,
        app: &AppId,
        id: NotificationId,
        after: Option<DeliveryId>,
    ) -> StoreResult<Option<NotificationDetail>> {
        let mut snapshot = self.snapshot("notification").await?;
        let row = snapshot.fetch_opt(sql(NOTIFICATION).bind(app.as_str()).bind(id.0)).await?;
        let Some(row) = row else {
            snapshot.end().await;
            return Ok(None);
        };
        let row = notification_row(Cells::of("notifications", &row))?;
        let summary = self.summaries(&mut snapshot, &[id]).await?.remove(&id).unwrap_or_default();
        let rows = snapshot
            .fetch(
                deliveries!("d.notification_id = $2 AND d.id > $3 ORDER BY d.id LIMIT $4")
                    .bind(self.offset())
                    .bind(id.0)
                    .bind(after.map_or_else(Uuid::nil, |id| id.0))
                    .bind(PAGE + 1),
            )
            .await?;
        let more = rows.len() > PAGE as usize;
        let mut deliveries: Vec<DeliveryRow> = rows
            .iter()
            .take(PAGE as usize)
            .map(|row| delivery_row(Cells::of("deliveries", row)))
            .collect::<StoreResult<_>>()?;
        attach_attempts(&mut snapshot, &mut deliveries).await?;
        snapshot.end().await;
        let next = deliveries.last().filter(|_| more).map(|d| d.id);
        Ok(Some(NotificationDetail { row, summary, deliveries, next }))
    }

    pub async fn notifications(
        &self,
        filter: &NotificationFilter,
    ) -> StoreResult<Vec<(NotificationRow, Vec<(ShownState, u64)>)>> {
        let mut snapshot = self.snapshot("notifications").await?;
        let found = self.notification_rows(&mut snapshot, filter).await?;
        let ids: Vec<NotificationId> = found.iter().map(|row| row.notification.id).collect();
        let mut summaries = self.summaries(&mut snapshot, &ids).await?;
        snapshot.end().await;
        Ok(found
            .into_iter()
            .map(|row| {
                let summary = summaries.remove(&row.notification.id).unwrap_or_default();
                (row, summary)
            })
            .collect())
    }

    /// Deliveries by shown state.
    async fn summaries(
        &self,
        snapshot: &mut Snapshot,
        ids: &[NotificationId],
    ) -> StoreResult<HashMap<NotificationId, Vec<(ShownState, u64)>>> {
        let rows = snapshot
            .fetch(
                by_engine(
                    summaries!(sqlite, "json_each($2) j CROSS JOIN deliveries d ON d.notification_id = unhex(j.value)"),
                    summaries!(
                        postgres,
                        "jsonb_array_elements_text($2::jsonb) AS j (value)
                         JOIN deliveries d ON d.notification_id = j.value::uuid"
                    ),
                )
                .bind(self.offset())
                .bind(json_ids(ids.iter().map(|i| i.0))),
            )
            .await?;
        let mut out: HashMap<NotificationId, Vec<(ShownState, u64)>> = HashMap::new();
        for row in &rows {
            let c = Cells::of("deliveries", row);
            let shown = ShownState::of(c.state("state")?, c.flag("due_later")?);
            out.entry(c.notification_id("notification_id")?).or_default().push((shown, c.count("n")?));
        }
        Ok(out)
    }

    pub async fn dead_letters(&self, filter: &DeadFilter) -> StoreResult<Vec<DeliveryRow>> {
        let mut snapshot = self.snapshot("dead_letters").await?;
        let rows = snapshot
            .fetch(
                deliveries!(
                    "d.state = 'dead' AND d.dismissed_at IS NULL AND d.app = $2 AND ($3 IS NULL OR d.id < $3)
                        AND ($4 IS NULL OR d.channel = $4) AND ($5 IS NULL OR d.reason = $5)
                        AND ($6 IS NULL OR d.user_id = $6)
                      ORDER BY d.id DESC LIMIT $7"
                )
                .bind(self.offset())
                .bind(filter.app.as_str())
                .bind(filter.before.map(|id| id.0))
                .bind(filter.channel.as_ref().map(ChannelName::as_str))
                .bind(filter.reason.as_deref())
                .bind(filter.user.as_ref().map(UserId::as_str))
                .bind(filter.limit),
            )
            .await?;
        snapshot.end().await;
        rows.iter().map(|row| delivery_row(Cells::of("deliveries", row))).collect()
    }

    pub async fn queue_stats(&self) -> StoreResult<Vec<QueueStats>> {
        let rows = self.fetch("queue_stats", by_engine(queues!(sqlite), queues!(postgres)).bind(self.offset())).await?;
        let mut out: BTreeMap<String, QueueStats> = BTreeMap::new();
        for row in &rows {
            let c = Cells::of("deliveries", row);
            let channel = c.text("channel")?;
            let stats = out.entry(channel.clone()).or_insert_with(|| QueueStats { channel, ..QueueStats::default() });
            let (due, later, paused) = (c.count("due")?, c.count("later")?, c.flag("paused")?);
            match c.state("state")? {
                DeliveryState::Sending => stats.in_flight += due + later,
                DeliveryState::Dead => stats.dead += due,
                DeliveryState::Pending => {
                    stats.scheduled += later;
                    *(if paused { &mut stats.held } else { &mut stats.ready }) += due;
                    if due > 0 {
                        stats.oldest_age_ms = stats.oldest_age_ms.max(c.get("age")?);
                    }
                }
                _ => {
                    stats.retrying += later;
                    *(if paused { &mut stats.held } else { &mut stats.retrying }) += due;
                }
            }
        }
        Ok(out.into_values().collect())
    }
}

pub fn notification_row(c: Cells<'_>) -> StoreResult<NotificationRow> {
    let audience = match c.get::<Option<i64>>("recipients")? {
        Some(_) => Some((c.small("recipients")?, c.small("cursor")?)),
        None => None,
    };
    Ok(NotificationRow {
        notification: c.notification("id")?,
        request: c.json("request")?,
        source: c.text("source")?,
        sent_by: c.text("sent_by")?,
        idempotency_key: c.get("idempotency_key")?,
        cancelled_at: c.opt_time("cancelled_at")?,
        audience,
    })
}

pub fn delivery_row(c: Cells<'_>) -> StoreResult<DeliveryRow> {
    let state = c.state("state")?;
    let waits = matches!(state, DeliveryState::Pending | DeliveryState::Retrying);
    Ok(DeliveryRow {
        id: c.delivery("id")?,
        notification_id: c.notification_id("notification_id")?,
        user_id: c.user()?.user,
        channel: c.channel("channel")?,
        recipient: c.get("recipient")?,
        state,
        shown: ShownState::of(state, c.flag("due_later")?),
        reason: c.get("reason")?,
        attempt: c.small("attempt")?,
        created_at: c.time("created_at")?,
        due_at: c.time("due_at")?,
        next_attempt_at: if waits { c.opt_time("next_attempt_at")? } else { None },
        sent_at: c.opt_time("sent_at")?,
        settled_at: c.opt_time("settled_at")?,
        seen_at: c.opt_time("seen_at")?,
        read_at: c.opt_time("read_at")?,
        archived_at: c.opt_time("archived_at")?,
        provider_id: c.get("provider_id")?,
        error: c.text("error")?,
        destination: c.text("destination")?,
        dismissed_at: c.opt_time("dismissed_at")?,
        attempts: Vec::new(),
    })
}

pub async fn attach_attempts(snapshot: &mut Snapshot, deliveries: &mut [DeliveryRow]) -> StoreResult<()> {
    let rows = snapshot
        .fetch(
            by_engine(
                "SELECT t.* FROM json_each($1) j CROSS JOIN attempts t ON t.delivery_id = unhex(j.value)
                 ORDER BY t.delivery_id, t.attempt",
                "SELECT t.* FROM jsonb_array_elements_text($1::jsonb) AS j (value)
                 JOIN attempts t ON t.delivery_id = j.value::uuid
                 ORDER BY t.delivery_id, t.attempt",
            )
            .bind(json_ids(deliveries.iter().map(|d| d.id.0))),
        )
        .await?;
    let mut by_delivery: HashMap<DeliveryId, Vec<AttemptRow>> = HashMap::new();
    for row in &rows {
        let c = Cells::of("attempts", row);
        by_delivery.entry(c.delivery("delivery_id")?).or_default().push(AttemptRow {
            attempt: c.small("attempt")?,
            started_at: c.time("started_at")?,
            duration_ms: c.int("duration_ms")?,
            outcome: c.text("outcome")?,
            code: c.get("code")?,
            message: c.get("message")?,
            uncertain: c.flag("uncertain")?,
            instance: c.get("instance")?,
            template: c.get("template")?,
            code_version: c.get("code_version")?,
            node: c.opt_uuid("node")?.map(NodeId),
        });
    }
    for delivery in deliveries {
        delivery.attempts = by_delivery.remove(&delivery.id).unwrap_or_default();
    }
    Ok(())
}
