//! Bulk acts under way: their one audit entry, their progress, the wish to end one.

use super::{
    SqlStore, audit,
    group::Operation,
    read::{Reads, now},
    rows::Cells,
    statement::{by_engine, sql},
    tx::Tx,
};
use async_trait::async_trait;
use campanile_model::{
    NodeId,
    ports::{Actor, StoreResult, TaskRow},
};
use serde_json::Value;
use std::time::Duration;
use uuid::Uuid;

/// How long an act that ended is still shown.
const SHOWN: Duration = Duration::from_hours(1);
/// More than anybody set in motion at once.
const MOST: u32 = 20;

struct Begin {
    task: TaskRow,
    actor: Actor,
    detail: Value,
}

#[async_trait]
impl Operation for Begin {
    type Output = ();
    const NAME: &'static str = "task";

    async fn run(&self, tx: &mut Tx<'_>) -> StoreResult<()> {
        let (t, now) = (&self.task, tx.now);
        // Nobody asks for them any more.
        tx.exec(
            "forgetting old bulk acts",
            sql("DELETE FROM tasks WHERE ended_at < $1").bind(now.saturating_sub(24 * SHOWN.as_millis() as i64)),
        )
        .await?;
        tx.exec(
            "beginning a bulk act",
            sql("INSERT INTO tasks (id, node, what, subject, actor, total, started_at, beat_at)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $7)")
            .bind(t.id)
            .bind(t.node.0)
            .bind(&t.what)
            .bind(&t.subject)
            .bind(&t.actor)
            .bind(i64::try_from(t.total).unwrap_or(i64::MAX))
            .bind(now),
        )
        .await?;
        let action = match t.what.as_str() {
            "replay" => "delivery.replay",
            "move" => "delivery.move",
            "retry" => "notification.retry",
            "cancel" => "notification.cancel",
            _ => "delivery.dismiss",
        };
        audit::append(tx, &self.actor, action, &t.subject, Some(self.detail.clone())).await
    }
}

struct Beat {
    id: Uuid,
    done: u64,
    skipped: u64,
    end: bool,
}

#[async_trait]
impl Operation for Beat {
    /// Whether it may go on.
    type Output = bool;
    const NAME: &'static str = "task";

    async fn run(&self, tx: &mut Tx<'_>) -> StoreResult<bool> {
        let now = tx.now;
        let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let row = tx
            .fetch_opt(
                "counting a bulk act",
                sql("UPDATE tasks SET done = done + $1, skipped = skipped + $2, beat_at = $3,
                            ended_at = COALESCE(ended_at, $4)
                     WHERE id = $5 RETURNING stopped_by")
                .bind(count(self.done))
                .bind(count(self.skipped))
                .bind(now)
                .bind(self.end.then_some(now))
                .bind(self.id),
            )
            .await?;
        let Some(row) = row else { return Ok(false) };
        Ok(Cells::of("tasks", &row).get::<Option<String>>("stopped_by")?.is_none())
    }
}

struct Stop {
    id: Uuid,
    actor: Actor,
}

#[async_trait]
impl Operation for Stop {
    type Output = bool;
    const NAME: &'static str = "task";

    async fn run(&self, tx: &mut Tx<'_>) -> StoreResult<bool> {
        let row = tx
            .fetch_opt(
                "ending a bulk act",
                sql("UPDATE tasks SET stopped_by = $1 WHERE id = $2 AND ended_at IS NULL AND stopped_by IS NULL
                     RETURNING subject, done")
                .bind(&self.actor.who)
                .bind(self.id),
            )
            .await?;
        let Some(row) = row else { return Ok(false) };
        let c = Cells::of("tasks", &row);
        let detail = serde_json::json!({"done": c.count("done")?});
        audit::append(tx, &self.actor, "task.stop", &c.text("subject")?, Some(detail)).await?;
        Ok(true)
    }
}

impl SqlStore {
    pub(super) async fn task_begins(&self, task: &TaskRow, actor: &Actor, detail: Value) -> StoreResult<()> {
        self.write(Begin { task: task.clone(), actor: actor.clone(), detail }).await
    }
    pub(super) async fn task_beats(&self, id: Uuid, done: u64, skipped: u64, end: bool) -> StoreResult<bool> {
        self.write_patiently(Beat { id, done, skipped, end }).await
    }
    pub(super) async fn task_stops(&self, id: Uuid, actor: &Actor) -> StoreResult<bool> {
        self.write(Stop { id, actor: actor.clone() }).await
    }
}

impl Reads {
    pub async fn tasks(&self) -> StoreResult<Vec<TaskRow>> {
        let rows = self
            .fetch(
                "tasks",
                by_engine(
                    concat!(
                        "SELECT * FROM tasks WHERE ended_at IS NULL OR ended_at > ",
                        now!(sqlite),
                        " - $2 ORDER BY started_at DESC LIMIT $3"
                    ),
                    concat!(
                        "SELECT * FROM tasks WHERE ended_at IS NULL OR ended_at > ",
                        now!(postgres),
                        " - $2 ORDER BY started_at DESC LIMIT $3"
                    ),
                )
                .bind(self.offset())
                .bind(SHOWN.as_millis() as i64)
                .bind(MOST),
            )
            .await?;
        rows.iter()
            .map(|row| {
                let c = Cells::of("tasks", row);
                Ok(TaskRow {
                    id: c.uuid("id")?,
                    node: NodeId(c.uuid("node")?),
                    what: c.text("what")?,
                    subject: c.text("subject")?,
                    actor: c.text("actor")?,
                    total: c.count("total")?,
                    done: c.count("done")?,
                    skipped: c.count("skipped")?,
                    started_at: c.time("started_at")?,
                    beat_at: c.time("beat_at")?,
                    ended_at: c.opt_time("ended_at")?,
                    stopped_by: c.get("stopped_by")?,
                })
            })
            .collect()
    }
}
