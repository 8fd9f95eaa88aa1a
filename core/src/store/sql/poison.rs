//! Messages from a queue that could not be understood: kept once, by the hash of body and headers, for a person to look at.

use super::{audit, group::Operation, read::Reads, rows::Cells, statement::sql, tx::Tx};
use async_trait::async_trait;
use campanile_model::ports::{Actor, PoisonRow, StoreResult};
use sha2::{Digest, Sha256};

/// How much of a message a listing shows.
const SHOWN: i64 = 4096;

pub struct AddPoison {
    pub source: String,
    pub raw: Vec<u8>,
    pub reason: String,
    pub headers: Option<String>,
}

impl AddPoison {
    /// A message that comes again is the same one; the same body under another `message_id` is another one.
    fn hash(&self) -> Vec<u8> {
        let mut hash = Sha256::new();
        hash.update((self.raw.len() as u64).to_be_bytes());
        hash.update(&self.raw);
        hash.update(self.headers.as_deref().unwrap_or_default());
        hash.finalize().to_vec()
    }
}

#[async_trait]
impl Operation for AddPoison {
    type Output = ();
    const NAME: &'static str = "add_poison";

    async fn run(&self, tx: &mut Tx<'_>) -> StoreResult<()> {
        let now = tx.now;
        tx.exec(
            "storing a poison message",
            sql("INSERT INTO poison (source, hash, raw, reason, headers, created_at) VALUES ($1, $2, $3, $4, $5, $6)
                 ON CONFLICT DO NOTHING")
            .bind(&self.source)
            .bind(self.hash())
            .bind(self.raw.clone())
            .bind(&self.reason)
            .bind(self.headers.as_deref())
            .bind(now),
        )
        .await?;
        Ok(())
    }
}

/// It was dealt with, one way or the other.
pub struct DiscardPoison {
    pub id: i64,
    pub action: &'static str,
    pub actor: Actor,
}

#[async_trait]
impl Operation for DiscardPoison {
    type Output = bool;
    const NAME: &'static str = "discard_poison";

    async fn run(&self, tx: &mut Tx<'_>) -> StoreResult<bool> {
        let row = tx
            .fetch_opt(
                "discarding a poison message",
                sql("DELETE FROM poison WHERE id = $1 RETURNING reason").bind(self.id),
            )
            .await?;
        let Some(row) = row else { return Ok(false) };
        let detail = serde_json::json!({"reason": Cells::of("poison", &row).text("reason")?});
        audit::append(tx, &self.actor, self.action, &self.id.to_string(), Some(detail)).await?;
        Ok(true)
    }
}

fn poison_row(c: Cells<'_>) -> StoreResult<PoisonRow> {
    Ok(PoisonRow {
        id: c.int("id")?,
        source: c.text("source")?,
        reason: c.text("reason")?,
        headers: c.get("headers")?,
        raw: String::from_utf8_lossy(c.get("raw")?).into_owned(),
        created_at: c.time("created_at")?,
    })
}

impl Reads {
    pub async fn poison_message(&self, id: i64) -> StoreResult<Option<(PoisonRow, Vec<u8>)>> {
        let ask = sql("SELECT id, source, reason, headers, raw, created_at FROM poison WHERE id = $1").bind(id);
        let Some(row) = self.fetch_opt("poison", ask).await? else { return Ok(None) };
        let c = Cells::of("poison", &row);
        Ok(Some((poison_row(c)?, c.get("raw")?)))
    }

    pub async fn poison_count(&self, limit: u32) -> StoreResult<u64> {
        let ask = sql("SELECT COUNT(*) AS n FROM (SELECT id FROM poison ORDER BY id DESC LIMIT $1) AS few").bind(limit);
        self.fetch_opt("poison", ask).await?.map_or(Ok(0), |row| Cells::of("poison", &row).count("n"))
    }

    pub async fn poison(&self, before: Option<i64>, limit: u32) -> StoreResult<Vec<PoisonRow>> {
        let rows = self
            .fetch(
                "poison",
                sql(
                    "SELECT id, source, reason, headers, substr(raw, 1, CAST($1 AS INTEGER)) AS raw, created_at FROM poison
                     WHERE id < $2 ORDER BY id DESC LIMIT $3",
                )
                .bind(SHOWN)
                .bind(before.unwrap_or(i64::MAX))
                .bind(limit),
            )
            .await?;
        rows.iter().map(|row| poison_row(Cells::of("poison", row))).collect()
    }

    /// Touches a table, not only the connection.
    pub async fn ping(&self) -> StoreResult<()> {
        self.fetch_opt("ping", sql("SELECT value FROM meta WHERE key = 'epoch'")).await.map(drop)
    }
}
