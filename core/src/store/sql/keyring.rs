//! Keys of applications beyond making and revoking them: their rotation, from where they may be used, what they did.

use super::{
    access, audit,
    group::Operation,
    read::Reads,
    rows::Cells,
    statement::{by_engine, sql},
    tx::Tx,
};
use async_trait::async_trait;
use campanile_model::{
    AppId, KeyId, Timestamp,
    ports::{Actor, ApiKey, KeyCalls, StoreResult},
};
use serde_json::json;
use std::time::Duration;

pub struct RotateKey {
    pub app: AppId,
    pub id: KeyId,
    pub fresh: ApiKey,
    pub overlap: Duration,
    pub actor: Actor,
}

#[async_trait]
impl Operation for RotateKey {
    type Output = Option<ApiKey>;
    const NAME: &'static str = "create_key";

    async fn run(&self, tx: &mut Tx<'_>) -> StoreResult<Option<ApiKey>> {
        let now = tx.now;
        let ends = now.saturating_add(self.overlap.as_millis() as i64);
        let old = tx
            .fetch_opt(
                "ending an API key after its successor began",
                by_engine(
                    "UPDATE api_keys SET expires_at = MIN(COALESCE(expires_at, $1), $1)
                     WHERE app = $2 AND key_id = $3 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $4)
                     RETURNING *",
                    "UPDATE api_keys SET expires_at = LEAST(expires_at, $1)
                     WHERE app = $2 AND key_id = $3 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $4)
                     RETURNING *",
                )
                .bind(ends)
                .bind(self.app.as_str())
                .bind(self.id.0)
                .bind(now),
            )
            .await?;
        let Some(old) = old else { return Ok(None) };
        let old = access::api_key(Cells::of("api_keys", &old))?;
        let fresh = ApiKey {
            app: old.app,
            name: old.name,
            scopes: old.scopes,
            networks: old.networks,
            expires_at: None,
            created_by: Some(self.actor.who.clone()),
            ..self.fresh.clone()
        };
        access::insert(tx, &fresh).await?;
        let detail = json!({"successor": fresh.id, "ends_at": ends});
        audit::append(tx, &self.actor, "key.rotate", &self.id.to_string(), Some(detail)).await?;
        Ok(Some(fresh))
    }
}

pub struct RestrictKey {
    pub app: AppId,
    pub id: KeyId,
    pub networks: Vec<String>,
    pub actor: Actor,
}

#[async_trait]
impl Operation for RestrictKey {
    type Output = bool;
    const NAME: &'static str = "restrict_key";

    async fn run(&self, tx: &mut Tx<'_>) -> StoreResult<bool> {
        let changed = tx
            .exec(
                "restricting an API key",
                sql("UPDATE api_keys SET networks = $1 WHERE app = $2 AND key_id = $3 AND revoked_at IS NULL")
                    .bind(self.networks.join(","))
                    .bind(self.app.as_str())
                    .bind(self.id.0),
            )
            .await?;
        if changed == 0 {
            return Ok(false);
        }
        let detail = json!({"networks": self.networks});
        audit::append(tx, &self.actor, "key.restrict", &self.id.to_string(), Some(detail)).await?;
        Ok(true)
    }
}

impl Reads {
    pub async fn key_calls(&self, app: &AppId, since: Timestamp) -> StoreResult<Vec<KeyCalls>> {
        let rows = self
            .fetch(
                "key_calls",
                by_engine(
                    "SELECT c.key_id, SUM(c.calls) AS calls, SUM(c.refused) AS refused
                     FROM api_key_calls c JOIN api_keys k ON k.key_id = c.key_id
                     WHERE c.hour >= $1 AND k.app = $2 GROUP BY c.key_id",
                    "SELECT c.key_id, SUM(c.calls)::bigint AS calls, SUM(c.refused)::bigint AS refused
                     FROM api_key_calls c JOIN api_keys k ON k.key_id = c.key_id
                     WHERE c.hour >= $1 AND k.app = $2 GROUP BY c.key_id",
                )
                .bind(since.timestamp_millis().div_euclid(access::HOUR))
                .bind(app.as_str()),
            )
            .await?;
        rows.iter()
            .map(|row| {
                let c = Cells::of("api_key_calls", row);
                Ok(KeyCalls { key: c.key_id("key_id")?, calls: c.count("calls")?, refused: c.count("refused")? })
            })
            .collect()
    }
}
