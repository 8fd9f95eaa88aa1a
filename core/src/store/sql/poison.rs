//! Messages from a queue that could not be understood: kept once, by their hash, for a person to look at.

use super::{group::Operation, read::Reads, rows::Cells, statement::sql, tx::Tx};
use async_trait::async_trait;
use campanile_model::ports::{PoisonRow, StoreResult};
use sha2::{Digest, Sha256};

/// How much of a message a listing shows.
const SHOWN: i64 = 4096;

pub struct AddPoison {
    pub source: String,
    pub raw: Vec<u8>,
    pub reason: String,
    pub headers: Option<String>,
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
            .bind(Sha256::digest(&self.raw).to_vec())
            .bind(self.raw.clone())
            .bind(&self.reason)
            .bind(self.headers.as_deref())
            .bind(now),
        )
        .await?;
        Ok(())
    }
}

impl Reads {
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
        rows.iter()
            .map(|row| {
                let c = Cells::of("poison", row);
                Ok(PoisonRow {
                    id: c.int("id")?,
                    source: c.text("source")?,
                    reason: c.text("reason")?,
                    headers: c.get("headers")?,
                    raw: String::from_utf8_lossy(c.get("raw")?).into_owned(),
                    created_at: c.time("created_at")?,
                })
            })
            .collect()
    }

    /// Touches a table, not only the connection.
    pub async fn ping(&self) -> StoreResult<()> {
        self.fetch_opt("ping", sql("SELECT value FROM meta WHERE key = 'epoch'")).await.map(drop)
    }
}
