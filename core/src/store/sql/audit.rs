//! The audit log: append-only, each row's hash covers the one before it, so a removed or changed row shows.

use super::{
    group::Operation,
    read::Reads,
    rows::{Cells, json_rows},
    statement::sql,
    tx::Tx,
};
use async_trait::async_trait;
use campanile_model::ports::{Actor, AuditRow, StoreResult};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// The advisory lock of the audit log's end.
const AUDIT_LOCK: i64 = 0x0061_7564_6974;

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

/// Writes an entry in the transaction of the act itself.
pub async fn append(
    tx: &mut Tx<'_>,
    actor: &Actor,
    action: &'static str,
    target: &str,
    detail: Option<Value>,
) -> StoreResult<()> {
    let detail = detail.map(|d| d.to_string());
    if tx.is_shared() {
        // One chain: whoever appends next waits for this transaction's end.
        tx.exec("taking the audit log", sql("SELECT pg_advisory_xact_lock($1)").bind(AUDIT_LOCK)).await?;
    }
    let last =
        tx.fetch_opt("reading the audit log", sql("SELECT id, hash FROM audit ORDER BY id DESC LIMIT 1")).await?;
    let previous: Vec<u8> = last.map_or(Ok(Vec::new()), |row| Cells::of("audit", &row).get("hash"))?;
    let at = tx.now;
    let hash = hash(&previous, at, actor, action, target, detail.as_deref())?;
    tx.exec(
        "writing the audit log",
        sql("INSERT INTO audit (at, actor, action, target, detail, address, request_id, hash)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)")
        .bind(at)
        .bind(&actor.who)
        .bind(action)
        .bind(target)
        .bind(detail)
        .bind(actor.address.as_deref())
        .bind(&actor.request_id)
        .bind(hash),
    )
    .await?;
    Ok(())
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

impl Reads {
    pub async fn audit(&self, before: Option<i64>, limit: u32) -> StoreResult<Vec<AuditRow>> {
        let rows = self
            .fetch(
                "audit",
                sql("SELECT * FROM audit WHERE id < $1 ORDER BY id DESC LIMIT $2")
                    .bind(before.unwrap_or(i64::MAX))
                    .bind(limit),
            )
            .await?;
        rows.iter()
            .map(|row| {
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
            })
            .collect()
    }

    /// The first entry whose hash does not follow from the one before it; `None` when the chain holds.
    ///
    /// Retention cuts the chain at its old end, so the oldest row kept is taken on trust.
    pub async fn audit_break(&self) -> StoreResult<Option<i64>> {
        let rows = self.fetch("audit", sql("SELECT * FROM audit ORDER BY id")).await?;
        let mut previous: Option<Vec<u8>> = None;
        for row in &rows {
            let c = Cells::of("audit", row);
            let stored: Vec<u8> = c.get("hash")?;
            if let Some(previous) = &previous {
                let actor =
                    Actor { who: c.text("actor")?, address: c.get("address")?, request_id: c.text("request_id")? };
                let (action, target) = (c.text("action")?, c.text("target")?);
                let wanted = hash(previous, c.int("at")?, &actor, &action, &target, c.get("detail")?)?;
                if wanted != stored {
                    return Ok(Some(c.int("id")?));
                }
            }
            previous = Some(stored);
        }
        Ok(None)
    }
}
