//! The audit log: append-only, each row's hash covers the one before it, so a removed or changed row shows.
//!
//! Its two ends stand in `audit_chain`. Whoever appends holds that row until its transaction ends, so the chain never forks,
//! however many nodes write; retention moves the old end on in the transaction that deletes.

use super::{
    SqlStore,
    group::Operation,
    read::Reads,
    rows::{Cells, json_rows},
    statement::{Conn, Row, Sql, by_engine, sql},
    tx::Tx,
};
use crate::store::sql::error::failed;
use async_trait::async_trait;
use campanile_model::ports::{
    Actor, AuditFilter, AuditRow, AuditSource, AuditStore, ChainCheck, ChainMark, StoreError, StoreResult,
};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// What a row's hash covers, beside the hash before it.
fn hash(
    previous: &[u8],
    at: i64,
    actor: &Actor,
    action: &str,
    target: &str,
    detail: Option<&str>,
) -> StoreResult<Vec<u8>> {
    let covered = json_rows(&[(at, &actor.who, action, target, detail, &actor.address, &actor.request_id)])?;
    let mut digest = Sha256::new();
    digest.update(previous);
    digest.update(covered.as_bytes());
    Ok(digest.finalize().to_vec())
}

/// The newest entry: its id, 0 before the first, and its hash. Nobody else appends until this transaction ends.
async fn take_head(tx: &mut Tx<'_>) -> StoreResult<(i64, Vec<u8>)> {
    let row = tx
        .fetch_opt(
            "taking the audit log",
            by_engine(
                "SELECT head_id, head_hash FROM audit_chain",
                "SELECT head_id, head_hash FROM audit_chain FOR UPDATE",
            ),
        )
        .await?;
    let row = row.ok_or_else(no_chain)?;
    let c = Cells::of("audit_chain", &row);
    Ok((c.int("head_id")?, c.get("head_hash")?))
}

fn no_chain() -> StoreError {
    StoreError::Row {
        table: "audit_chain",
        column: "one",
        row: "1".to_owned(),
        detail: "the row is not there; restore a backup".to_owned(),
    }
}

/// Writes an entry in the transaction of the act itself.
pub async fn append(
    tx: &mut Tx<'_>,
    actor: &Actor,
    action: &'static str,
    target: &str,
    detail: Option<Value>,
) -> StoreResult<()> {
    let detail = detail.map(|d| d.to_string());
    let (_, previous) = take_head(tx).await?;
    let at = tx.now;
    let hash = hash(&previous, at, actor, action, target, detail.as_deref())?;
    let written = tx
        .fetch_opt(
            "writing the audit log",
            sql("INSERT INTO audit (at, actor, action, target, detail, address, request_id, hash)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING id")
            .bind(at)
            .bind(&actor.who)
            .bind(action)
            .bind(target)
            .bind(detail)
            .bind(actor.address.as_deref())
            .bind(&actor.request_id)
            .bind(hash.clone()),
        )
        .await?;
    let id = written.map_or(Ok(0), |row| Cells::of("audit", &row).int("id"))?;
    tx.exec(
        "moving the audit log's end",
        sql("UPDATE audit_chain SET head_id = $1, head_hash = $2").bind(id).bind(hash),
    )
    .await?;
    Ok(())
}

struct Begin {
    actor: Actor,
    detail: Value,
}

#[async_trait]
impl Operation for Begin {
    type Output = ();
    const NAME: &'static str = "note";

    async fn run(&self, tx: &mut Tx<'_>) -> StoreResult<()> {
        if take_head(tx).await?.0 > 0 {
            return Ok(());
        }
        append(tx, &self.actor, "install", "campanile", Some(self.detail.clone())).await
    }
}

/// Takes old entries, from the old end and without a gap; the newest always stays.
pub struct TrimAudit {
    pub before: i64,
    pub limit: u32,
}

#[async_trait]
impl Operation for TrimAudit {
    type Output = u64;
    const NAME: &'static str = "retain";

    async fn run(&self, tx: &mut Tx<'_>) -> StoreResult<u64> {
        let oldest = tx
            .fetch(
                "choosing old audit entries",
                sql("SELECT id, at, hash FROM audit ORDER BY id LIMIT $1").bind(i64::from(self.limit) + 1),
            )
            .await?;
        let mut last = None;
        for row in oldest.iter().take(oldest.len().saturating_sub(1)) {
            let c = Cells::of("audit", row);
            if c.int("at")? >= self.before {
                break;
            }
            last = Some((c.int("id")?, c.get::<Vec<u8>>("hash")?));
        }
        let Some((id, hash)) = last else { return Ok(0) };
        let moved = tx
            .exec(
                "moving the audit log's beginning",
                sql("UPDATE audit_chain SET anchor_id = $1, anchor_hash = $2 WHERE anchor_id < $1").bind(id).bind(hash),
            )
            .await?;
        if moved == 0 {
            // Another node has taken more.
            return Ok(0);
        }
        tx.exec("trimming the audit log", sql("DELETE FROM audit WHERE id <= $1").bind(id)).await
    }
}

/// An entry of its own, for an act that changes no row.
pub struct Note {
    pub actor: Actor,
    pub action: &'static str,
    pub target: String,
    pub detail: Option<Value>,
}

#[async_trait]
impl Operation for Note {
    type Output = ();
    const NAME: &'static str = "note";

    async fn run(&self, tx: &mut Tx<'_>) -> StoreResult<()> {
        append(tx, &self.actor, self.action, &self.target, self.detail.clone()).await
    }
}

/// `$1` actor, `$2` action, `$3` target, `$4` since, `$5` cursor, `$6` limit, `$7` until, `$8` address, `$9` request,
/// `$10` source. The rarest thing asked for leads.
macro_rules! entries {
    ($lead:literal) => {
        concat!(
            "SELECT * FROM audit WHERE ",
            $lead,
            " id < $5 AND ($1 IS NULL OR actor = $1) AND ($2 IS NULL OR action = $2) AND ($3 IS NULL OR target = $3)
              AND ($8 IS NULL OR address = $8) AND ($9 IS NULL OR request_id = $9) AND ($10 IS NULL OR source = $10)
              AND ($4 IS NULL OR id >= COALESCE((SELECT id FROM audit WHERE at >= $4 ORDER BY at, id LIMIT 1),
                                                9223372036854775807))
              AND ($7 IS NULL OR id < COALESCE((SELECT id FROM audit WHERE at >= $7 ORDER BY at, id LIMIT 1),
                                               9223372036854775807))
              ORDER BY id DESC LIMIT $6"
        )
    };
}

fn entry(row: &Row) -> StoreResult<AuditRow> {
    let c = Cells::of("audit", row);
    let detail = match c.get::<Option<&str>>("detail")? {
        Some(_) => Some(c.json("detail")?),
        None => None,
    };
    Ok(AuditRow {
        id: c.int("id")?,
        at: c.time("at")?,
        actor: c.text("actor")?,
        action: c.text("action")?,
        target: c.text("target")?,
        detail,
        address: c.get("address")?,
        request_id: c.text("request_id")?,
    })
}

impl Reads {
    pub async fn audit(&self, filter: &AuditFilter) -> StoreResult<Vec<AuditRow>> {
        let text = match filter {
            AuditFilter { request_id: Some(_), .. } => entries!("request_id = $9 AND"),
            AuditFilter { target: Some(_), .. } => entries!("target = $3 AND"),
            AuditFilter { address: Some(_), .. } => entries!("address = $8 AND"),
            AuditFilter { actor: Some(_), .. } => entries!("actor = $1 AND"),
            AuditFilter { action: Some(_), .. } => entries!("action = $2 AND"),
            AuditFilter { source: Some(_), .. } => entries!("source = $10 AND"),
            _ => entries!(""),
        };
        let ask = sql(text)
            .bind(filter.actor.as_deref())
            .bind(filter.action.as_deref())
            .bind(filter.target.as_deref())
            .bind(filter.since.map(|at| at.timestamp_millis()))
            .bind(filter.before.unwrap_or(i64::MAX))
            .bind(filter.limit)
            .bind(filter.until.map(|at| at.timestamp_millis()))
            .bind(filter.address.as_deref())
            .bind(filter.request_id.as_deref())
            .bind(filter.source.map(AuditSource::as_str));
        self.fetch("audit", ask).await?.iter().map(entry).collect()
    }
}

/// A step along the chain, before its rows are read.
struct Walk {
    from: ChainMark,
    head: (i64, Vec<u8>),
}

const ENDS: &str = "SELECT anchor_id, anchor_hash, head_id, head_hash FROM audit_chain";

impl Walk {
    fn begin(ends: Option<&Row>, from: Option<&ChainMark>) -> StoreResult<Self> {
        let c = Cells::of("audit_chain", ends.ok_or_else(no_chain)?);
        let anchor = ChainMark { id: c.int("anchor_id")?, hash: c.get("anchor_hash")? };
        // Retention may have passed the mark meanwhile.
        let from = from.filter(|m| m.id >= anchor.id).cloned().unwrap_or(anchor);
        Ok(Self { from, head: (c.int("head_id")?, c.get("head_hash")?) })
    }

    fn ask(&self, limit: u32) -> Sql<'static> {
        sql("SELECT * FROM audit WHERE id > $1 ORDER BY id LIMIT $2").bind(self.from.id).bind(limit)
    }

    fn follow(self, rows: &[Row], limit: u32) -> StoreResult<ChainCheck> {
        let mut check = ChainCheck { mark: self.from, at: None, followed: 0, broken: None, done: false };
        for row in rows {
            let c = Cells::of("audit", row);
            let (id, stored) = (c.int("id")?, c.get::<Vec<u8>>("hash")?);
            if let Some(previous) = &check.mark.hash {
                let actor =
                    Actor { who: c.text("actor")?, address: c.get("address")?, request_id: c.text("request_id")? };
                let (action, target) = (c.text("action")?, c.text("target")?);
                if hash(previous, c.int("at")?, &actor, &action, &target, c.get("detail")?)? != stored {
                    return Ok(ChainCheck { broken: Some(id), done: true, ..check });
                }
            }
            check.mark = ChainMark { id, hash: Some(stored) };
            check.at = Some(c.time("at")?);
            check.followed += 1;
        }
        check.done = rows.len() < limit as usize;
        let (head, hash) = self.head;
        if check.done && (check.mark.id != head || check.mark.hash.as_ref().is_some_and(|h| *h != hash)) {
            // The end was cut off, or more stands there than was ever written by us.
            check.broken = Some(head.max(check.mark.id));
        }
        Ok(check)
    }
}

/// The same on a connection of one's own, for whoever looks at a database without a server.
pub async fn check_on(conn: &mut Conn<'_>, from: Option<&ChainMark>, limit: u32) -> StoreResult<ChainCheck> {
    let what = "following the audit log";
    let ends = conn.fetch_optional(sql(ENDS)).await.map_err(failed(what))?;
    let walk = Walk::begin(ends.as_ref(), from)?;
    let rows = conn.fetch_all(walk.ask(limit)).await.map_err(failed(what))?;
    walk.follow(&rows, limit)
}

#[async_trait]
impl AuditStore for SqlStore {
    async fn begin_audit(&self, actor: &Actor, detail: Value) -> StoreResult<()> {
        self.write(Begin { actor: actor.clone(), detail }).await
    }

    async fn find_audit(&self, filter: &AuditFilter) -> StoreResult<Vec<AuditRow>> {
        self.reads.audit(filter).await
    }

    async fn check_audit(&self, from: Option<&ChainMark>, limit: u32) -> StoreResult<ChainCheck> {
        let mut picture = self.reads.snapshot("audit").await?;
        let ends = picture.fetch_opt(sql(ENDS)).await?;
        let walk = Walk::begin(ends.as_ref(), from)?;
        let rows = picture.fetch(walk.ask(limit)).await?;
        picture.end().await;
        walk.follow(&rows, limit)
    }
}
