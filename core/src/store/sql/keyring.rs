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
    AppId, KeyId, Timestamp, clock,
    ports::{Actor, ApiKey, KeyCalls, KeyUseBy, KeyUsed, StoreResult, UseKind},
};
use serde_json::json;
use std::{collections::HashMap, time::Duration};

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
        let ends = old.expires_at.map(clock::rfc3339);
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
    type Output = Option<Vec<String>>;
    const NAME: &'static str = "restrict_key";

    async fn run(&self, tx: &mut Tx<'_>) -> StoreResult<Option<Vec<String>>> {
        let found = tx
            .fetch_opt(
                "looking at an API key",
                by_engine(
                    "SELECT * FROM api_keys WHERE app = $1 AND key_id = $2 AND revoked_at IS NULL",
                    "SELECT * FROM api_keys WHERE app = $1 AND key_id = $2 AND revoked_at IS NULL FOR UPDATE",
                )
                .bind(self.app.as_str())
                .bind(self.id.0),
            )
            .await?;
        let Some(found) = found else { return Ok(None) };
        let before = access::api_key(Cells::of("api_keys", &found))?.networks;
        tx.exec(
            "restricting an API key",
            sql("UPDATE api_keys SET networks = $1 WHERE app = $2 AND key_id = $3")
                .bind(self.networks.join(","))
                .bind(self.app.as_str())
                .bind(self.id.0),
        )
        .await?;
        let detail = json!({"before": {"networks": before}, "after": {"networks": self.networks}});
        audit::append(tx, &self.actor, "key.restrict", &self.id.to_string(), Some(detail)).await?;
        Ok(Some(before))
    }
}

/// `api_key_calls` and `api_key_uses` are joined to the keys of `$2`, from the hour `$1` on.
fn hour(since: Timestamp) -> i64 {
    since.timestamp_millis().div_euclid(access::HOUR)
}

impl Reads {
    pub async fn key_calls(&self, app: &AppId, since: Timestamp) -> StoreResult<Vec<KeyCalls>> {
        let rows = self
            .fetch(
                "key_calls",
                by_engine(
                    "SELECT c.key_id, SUM(c.calls) AS calls, SUM(c.refused) AS refused, SUM(c.denied) AS denied,
                            MAX(c.denied) AS peak
                     FROM api_key_calls c JOIN api_keys k ON k.key_id = c.key_id
                     WHERE c.hour >= $1 AND k.app = $2 GROUP BY c.key_id",
                    "SELECT c.key_id, SUM(c.calls)::bigint AS calls, SUM(c.refused)::bigint AS refused,
                            SUM(c.denied)::bigint AS denied, MAX(c.denied) AS peak
                     FROM api_key_calls c JOIN api_keys k ON k.key_id = c.key_id
                     WHERE c.hour >= $1 AND k.app = $2 GROUP BY c.key_id",
                )
                .bind(hour(since))
                .bind(app.as_str()),
            )
            .await?;
        let from = self.key_addresses(app, since).await?;
        rows.iter()
            .map(|row| {
                let c = Cells::of("api_key_calls", row);
                let key = c.key_id("key_id")?;
                Ok(KeyCalls {
                    key,
                    calls: c.count("calls")?,
                    refused: c.count("refused")?,
                    denied: c.count("denied")?,
                    denied_peak: c.count("peak")?,
                    addresses: from.get(&key).copied().unwrap_or(0),
                })
            })
            .collect()
    }

    async fn key_addresses(&self, app: &AppId, since: Timestamp) -> StoreResult<HashMap<KeyId, u64>> {
        let ask = sql("SELECT u.key_id, COUNT(DISTINCT u.name) AS n
                       FROM api_key_uses u JOIN api_keys k ON k.key_id = u.key_id
                       WHERE u.hour >= $1 AND k.app = $2 AND u.kind = 'address' GROUP BY u.key_id");
        let rows = self.fetch("key_calls", ask.bind(hour(since)).bind(app.as_str())).await?;
        let read = |row| {
            let c = Cells::of("api_key_uses", row);
            Ok((c.key_id("key_id")?, c.count("n")?))
        };
        rows.iter().map(read).collect()
    }

    pub async fn key_uses(
        &self,
        app: &AppId,
        key: Option<KeyId>,
        since: Timestamp,
        limit: u32,
    ) -> StoreResult<Vec<KeyUsed>> {
        let ask = by_engine(
            "SELECT u.key_id, u.kind, u.name, SUM(u.calls) AS n
             FROM api_key_uses u JOIN api_keys k ON k.key_id = u.key_id
             WHERE u.hour >= $1 AND k.app = $2 AND ($3 IS NULL OR u.key_id = $3)
             GROUP BY u.key_id, u.kind, u.name ORDER BY n DESC, u.key_id, u.kind, u.name LIMIT $4",
            "SELECT u.key_id, u.kind, u.name, SUM(u.calls)::bigint AS n
             FROM api_key_uses u JOIN api_keys k ON k.key_id = u.key_id
             WHERE u.hour >= $1 AND k.app = $2 AND ($3 IS NULL OR u.key_id = $3)
             GROUP BY u.key_id, u.kind, u.name ORDER BY n DESC, u.key_id, u.kind, u.name LIMIT $4",
        );
        let ask = ask.bind(hour(since)).bind(app.as_str()).bind(key.map(|k| k.0)).bind(limit);
        let rows = self.fetch("key_uses", ask).await?;
        rows.iter()
            .map(|row| {
                let c = Cells::of("api_key_uses", row);
                let kind =
                    if c.get::<&str>("kind")? == UseKind::Route.as_str() { UseKind::Route } else { UseKind::Address };
                Ok(KeyUsed {
                    key: c.key_id("key_id")?,
                    by: KeyUseBy { kind, name: c.text("name")?, calls: c.count("n")? },
                })
            })
            .collect()
    }
}
