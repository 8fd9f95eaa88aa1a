//! Cancelling notifications, one or many in one transaction: what waits is not sent any more.

use super::{
    audit,
    group::Operation,
    rows::{Cells, json_ids},
    statement::by_engine,
    take_back::{self, TakenBack, take_back},
    tx::Tx,
};
use async_trait::async_trait;
use campanile_model::{
    AppId, NotificationId,
    ports::{Actor, CancelOutcome, StoreResult},
    state::reason,
};
use serde_json::json;

/// The ids of `$3`.
macro_rules! these {
    (sqlite) => {
        "IN (SELECT unhex(value) FROM json_each($3))"
    };
    (postgres) => {
        "IN (SELECT value::uuid FROM jsonb_array_elements_text($3::jsonb))"
    };
}

pub struct Cancel {
    pub app: AppId,
    pub ids: Vec<NotificationId>,
    /// As the audit entry names them.
    pub target: String,
    /// `None`: whoever began it has written the entry.
    pub actor: Option<Actor>,
}

#[async_trait]
impl Operation for Cancel {
    /// How many of them there are, and what became of their deliveries.
    type Output = (u64, CancelOutcome);
    const NAME: &'static str = "cancel";

    fn rows(&self) -> usize {
        self.ids.len()
    }

    async fn run(&self, tx: &mut Tx<'_>) -> StoreResult<(u64, CancelOutcome)> {
        let now = tx.now;
        let known = tx
            .fetch(
                "cancelling notifications",
                by_engine(
                    concat!(
                        "UPDATE notifications SET cancelled_at = COALESCE(cancelled_at, $1) WHERE app = $2 AND id ",
                        these!(sqlite),
                        " RETURNING id"
                    ),
                    // Locked in their order: two that cancel the same ones must not wait for each other.
                    concat!(
                        "UPDATE notifications SET cancelled_at = COALESCE(cancelled_at, $1) WHERE id IN (
                            SELECT id FROM notifications WHERE app = $2 AND id ",
                        these!(postgres),
                        " ORDER BY id FOR UPDATE) RETURNING id"
                    ),
                )
                .bind(now)
                .bind(self.app.as_str())
                .bind(json_ids(self.ids.iter().map(|id| id.0))),
            )
            .await?;
        // Of another app is as good as not there.
        let known =
            known.iter().map(|row| Cells::of("notifications", row).uuid("id")).collect::<StoreResult<Vec<_>>>()?;
        if known.is_empty() {
            return Ok((0, CancelOutcome::default()));
        }
        let ids = json_ids(known.iter().copied());
        // Unexpanded people get nothing; the cursor at the end lets the notification settle.
        tx.exec(
            "closing audiences",
            by_engine(
                concat!(
                    "UPDATE audiences SET cursor = recipients, done_at = $1, lease_owner = NULL, lease_until = NULL,
                            spec = $2 WHERE done_at IS NULL AND notification_id ",
                    these!(sqlite)
                ),
                concat!(
                    "UPDATE audiences SET cursor = recipients, done_at = $1, lease_owner = NULL, lease_until = NULL,
                            spec = $2 WHERE done_at IS NULL AND notification_id ",
                    these!(postgres)
                ),
            )
            .bind(now)
            .bind(r#"{"recipients":[]}"#)
            .bind(&ids),
        )
        .await?;
        let which = by_engine(
            take_back!(sqlite, "notification_id IN (SELECT unhex(value) FROM json_each($3))"),
            take_back!(postgres, "notification_id IN (SELECT value::uuid FROM jsonb_array_elements_text($3::jsonb))"),
        );
        let take = which.bind(now).bind(reason::CANCELLED).bind(&ids);
        let TakenBack { cancelled, in_flight } = take_back::run(tx, "cancelling deliveries", take).await?;
        let row = tx
            .fetch_opt(
                "counting sent deliveries",
                by_engine(
                    "SELECT COUNT(*) AS n FROM deliveries WHERE state IN ('sent', 'delivered')
                        AND notification_id IN (SELECT unhex(value) FROM json_each($1))",
                    "SELECT COUNT(*) AS n FROM deliveries WHERE state IN ('sent', 'delivered')
                        AND notification_id IN (SELECT value::uuid FROM jsonb_array_elements_text($1::jsonb))",
                )
                .bind(&ids),
            )
            .await?;
        let already_sent = row.map_or(Ok(0), |row| Cells::of("deliveries", &row).count("n"))?;
        if let Some(actor) = &self.actor {
            let mut detail = json!({"cancelled": cancelled, "in_flight": in_flight});
            if self.ids.len() > 1 {
                detail["notifications"] = known.len().into();
            }
            audit::append(tx, actor, "notification.cancel", &self.target, Some(detail)).await?;
        }
        Ok((known.len() as u64, CancelOutcome { cancelled, in_flight, already_sent }))
    }
}
