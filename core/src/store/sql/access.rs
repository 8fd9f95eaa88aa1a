//! API keys and socket tickets, of which only hashes are kept; and secrets that the nodes of one database share.

use super::{
    audit,
    group::Operation,
    read::Reads,
    rows::{Cells, Hex, json_rows},
    statement::{by_engine, sql},
    tx::Tx,
};
use async_trait::async_trait;
use campanile_model::{
    AppId, KeyId,
    ports::{Actor, ApiKey, KeyUse, Scope, StoreResult, Ticket},
};
use serde_json::json;
use std::time::Duration;

pub fn api_key(c: Cells<'_>) -> StoreResult<ApiKey> {
    let scopes = c
        .get::<&str>("scopes")?
        .split(',')
        .filter(|s| !s.is_empty())
        .map(|s| {
            Scope::ALL
                .into_iter()
                .find(|scope| scope.as_str() == s)
                .ok_or_else(|| c.wrong("scopes", format!("unknown scope {s:?}")))
        })
        .collect::<StoreResult<_>>()?;
    Ok(ApiKey {
        id: c.key_id("key_id")?,
        app: AppId::from(c.get::<&str>("app")?),
        name: c.text("name")?,
        secret_hash: c.get::<&[u8]>("secret_hash")?.try_into().map_err(|e| c.wrong("secret_hash", e))?,
        scopes,
        created_at: c.time("created_at")?,
        expires_at: c.opt_time("expires_at")?,
        revoked_at: c.opt_time("revoked_at")?,
        last_used_at: c.opt_time("last_used_at")?,
        last_used_from: c.get("last_used_from")?,
        last_used_for: c.get("last_used_for")?,
        networks: c.get::<&str>("networks")?.split(',').filter(|n| !n.is_empty()).map(str::to_owned).collect(),
        created_by: c.get("created_by")?,
    })
}

impl Reads {
    pub async fn find_key(&self, id: KeyId) -> StoreResult<Option<ApiKey>> {
        let row = self.fetch_opt("find_key", sql("SELECT * FROM api_keys WHERE key_id = $1").bind(id.0)).await?;
        row.map(|row| api_key(Cells::of("api_keys", &row))).transpose()
    }

    pub async fn app_exists(&self, app: &AppId) -> StoreResult<bool> {
        let row = self.fetch_opt("app_exists", sql("SELECT 1 FROM apps WHERE app = $1").bind(app.as_str())).await?;
        Ok(row.is_some())
    }

    pub async fn list_keys(&self, app: &AppId) -> StoreResult<Vec<ApiKey>> {
        let rows = self
            .fetch("list_keys", sql("SELECT * FROM api_keys WHERE app = $1 ORDER BY key_id").bind(app.as_str()))
            .await?;
        rows.iter().map(|row| api_key(Cells::of("api_keys", row))).collect()
    }
}

fn scopes_text(key: &ApiKey) -> String {
    key.scopes.iter().map(|s| s.as_str()).collect::<Vec<_>>().join(",")
}

pub async fn insert(tx: &mut Tx<'_>, key: &ApiKey) -> StoreResult<()> {
    tx.exec(
        "storing an API key",
        sql("INSERT INTO api_keys (key_id, app, name, secret_hash, scopes, created_at, expires_at, created_by,
                                   networks)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)")
        .bind(key.id.0)
        .bind(key.app.as_str())
        .bind(&key.name)
        .bind(key.secret_hash.to_vec())
        .bind(scopes_text(key))
        .bind(key.created_at.timestamp_millis())
        .bind(key.expires_at.map(|t| t.timestamp_millis()))
        .bind(key.created_by.as_deref())
        .bind(key.networks.join(",")),
    )
    .await?;
    Ok(())
}

pub struct CreateKey {
    pub key: ApiKey,
    pub actor: Actor,
}

#[async_trait]
impl Operation for CreateKey {
    type Output = ();
    const NAME: &'static str = "create_key";

    async fn run(&self, tx: &mut Tx<'_>) -> StoreResult<()> {
        let (key, now) = (&self.key, tx.now);
        tx.exec(
            "creating an app",
            sql("INSERT INTO apps (app, created_at) VALUES ($1, $2) ON CONFLICT DO NOTHING")
                .bind(key.app.as_str())
                .bind(now),
        )
        .await?;
        insert(tx, &ApiKey { created_by: Some(self.actor.who.clone()), ..key.clone() }).await?;
        let scopes = scopes_text(key);
        let detail = json!({"app": key.app, "name": key.name, "scopes": scopes});
        audit::append(tx, &self.actor, "key.create", &key.id.to_string(), Some(detail)).await
    }
}

pub struct RevokeKey {
    pub app: AppId,
    pub id: KeyId,
    pub actor: Actor,
}

#[async_trait]
impl Operation for RevokeKey {
    type Output = bool;
    const NAME: &'static str = "revoke_key";

    async fn run(&self, tx: &mut Tx<'_>) -> StoreResult<bool> {
        let now = tx.now;
        let revoked = tx
            .exec(
                "revoking an API key",
                sql("UPDATE api_keys SET revoked_at = $1 WHERE app = $2 AND key_id = $3 AND revoked_at IS NULL")
                    .bind(now)
                    .bind(self.app.as_str())
                    .bind(self.id.0),
            )
            .await?;
        if revoked == 0 {
            return Ok(false);
        }
        audit::append(tx, &self.actor, "key.revoke", &self.id.to_string(), None).await?;
        Ok(true)
    }
}

pub struct TouchKeys {
    pub used: Vec<KeyUse>,
}

pub const HOUR: i64 = 3_600_000;
/// Calls are shown for a day.
const CALLS_KEPT: i64 = 48 * HOUR;

#[async_trait]
impl Operation for TouchKeys {
    type Output = ();
    const NAME: &'static str = "touch_keys";

    async fn run(&self, tx: &mut Tx<'_>) -> StoreResult<()> {
        // In the order of their ids: several nodes write this at once.
        let mut used: Vec<&KeyUse> = self.used.iter().collect();
        used.sort_by_key(|u| u.key);
        let rows: Vec<_> = used
            .iter()
            .map(|u| {
                let at = u.at.timestamp_millis();
                (Hex(u.key.0), at, &u.address, &u.route, at.div_euclid(HOUR), u.calls, u.refused, u.denied)
            })
            .collect();
        let rows = json_rows(&rows)?;
        tx.exec(
            "noting the use of API keys",
            by_engine(
                "UPDATE api_keys SET last_used_at = j.at, last_used_from = j.address, last_used_for = j.route
                 FROM (SELECT unhex(value ->> 0) AS id, value ->> 1 AS at, value ->> 2 AS address, value ->> 3 AS route
                       FROM json_each($1) WHERE value ->> 5 > 0) j
                 WHERE api_keys.key_id = j.id AND COALESCE(last_used_at, 0) <= j.at",
                "UPDATE api_keys SET last_used_at = j.at, last_used_from = j.address, last_used_for = j.route
                 FROM (SELECT (value ->> 0)::uuid AS id, (value ->> 1)::bigint AS at, value ->> 2 AS address,
                              value ->> 3 AS route
                       FROM jsonb_array_elements($1::jsonb) WHERE (value ->> 5)::bigint > 0) j
                 WHERE api_keys.key_id = j.id AND COALESCE(last_used_at, 0) <= j.at",
            )
            .bind(rows.clone()),
        )
        .await?;
        tx.exec(
            "counting the calls of API keys",
            by_engine(
                "INSERT INTO api_key_calls (hour, key_id, calls, refused, denied)
                 SELECT value ->> 4, unhex(value ->> 0), value ->> 5, value ->> 6, value ->> 7 FROM json_each($1) WHERE true
                 ON CONFLICT (hour, key_id) DO UPDATE
                    SET calls = api_key_calls.calls + excluded.calls, refused = api_key_calls.refused + excluded.refused,
                        denied = api_key_calls.denied + excluded.denied",
                "INSERT INTO api_key_calls (hour, key_id, calls, refused, denied)
                 SELECT (value ->> 4)::bigint, (value ->> 0)::uuid, (value ->> 5)::bigint, (value ->> 6)::bigint,
                        (value ->> 7)::bigint
                 FROM jsonb_array_elements($1::jsonb) WITH ORDINALITY AS j (value, n) ORDER BY j.n
                 ON CONFLICT (hour, key_id) DO UPDATE
                    SET calls = api_key_calls.calls + excluded.calls, refused = api_key_calls.refused + excluded.refused,
                        denied = api_key_calls.denied + excluded.denied",
            )
            .bind(rows),
        )
        .await?;
        count_uses(tx, &used).await?;
        let before = (tx.now - CALLS_KEPT).div_euclid(HOUR);
        tx.exec(
            "forgetting old calls of API keys",
            by_engine(
                "DELETE FROM api_key_calls WHERE hour < $1",
                "DELETE FROM api_key_calls WHERE (hour, key_id) IN (
                    SELECT hour, key_id FROM api_key_calls WHERE hour < $1 ORDER BY hour, key_id
                    FOR UPDATE SKIP LOCKED)",
            )
            .bind(before),
        )
        .await?;
        tx.exec(
            "forgetting what used API keys",
            by_engine(
                "DELETE FROM api_key_uses WHERE hour < $1",
                "DELETE FROM api_key_uses WHERE (hour, key_id, kind, name) IN (
                    SELECT hour, key_id, kind, name FROM api_key_uses WHERE hour < $1 ORDER BY hour, key_id, kind, name
                    FOR UPDATE SKIP LOCKED)",
            )
            .bind(before),
        )
        .await?;
        Ok(())
    }
}

/// In one order of all that is written, for the same reason as the keys.
async fn count_uses(tx: &mut Tx<'_>, used: &[&KeyUse]) -> StoreResult<()> {
    let mut rows: Vec<_> = used
        .iter()
        .flat_map(|u| u.by.iter().map(move |by| (u.at.timestamp_millis().div_euclid(HOUR), u.key, by)))
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    rows.sort_by(|a, b| (a.0, a.1, a.2.kind, &a.2.name).cmp(&(b.0, b.1, b.2.kind, &b.2.name)));
    let rows: Vec<_> =
        rows.into_iter().map(|(hour, key, by)| (hour, Hex(key.0), by.kind.as_str(), &by.name, by.calls)).collect();
    tx.exec(
        "counting what used API keys",
        by_engine(
            "INSERT INTO api_key_uses (hour, key_id, kind, name, calls)
             SELECT value ->> 0, unhex(value ->> 1), value ->> 2, value ->> 3, value ->> 4 FROM json_each($1) WHERE true
             ON CONFLICT (hour, key_id, kind, name) DO UPDATE SET calls = api_key_uses.calls + excluded.calls",
            "INSERT INTO api_key_uses (hour, key_id, kind, name, calls)
             SELECT (value ->> 0)::bigint, (value ->> 1)::uuid, value ->> 2, value ->> 3, (value ->> 4)::bigint
             FROM jsonb_array_elements($1::jsonb) WITH ORDINALITY AS j (value, n) ORDER BY j.n
             ON CONFLICT (hour, key_id, kind, name) DO UPDATE SET calls = api_key_uses.calls + excluded.calls",
        )
        .bind(json_rows(&rows)?),
    )
    .await?;
    Ok(())
}

pub struct PutTicket {
    pub hash: [u8; 32],
    pub ticket: Ticket,
    pub ttl: Duration,
}

#[async_trait]
impl Operation for PutTicket {
    type Output = ();
    const NAME: &'static str = "put_ticket";

    async fn run(&self, tx: &mut Tx<'_>) -> StoreResult<()> {
        let expires_at = tx.now.saturating_add(self.ttl.as_millis() as i64);
        tx.exec(
            "storing a ticket",
            sql("INSERT INTO ws_tickets (hash, app, user_id, origin, token_expires_at, expires_at)
                 VALUES ($1, $2, $3, $4, $5, $6)")
            .bind(self.hash.to_vec())
            .bind(self.ticket.user.app.as_str())
            .bind(self.ticket.user.user.as_str())
            .bind(self.ticket.origin.as_deref())
            .bind(self.ticket.token_expires_at.timestamp_millis())
            .bind(expires_at),
        )
        .await?;
        Ok(())
    }
}

pub struct TakeTicket {
    pub hash: [u8; 32],
}

#[async_trait]
impl Operation for TakeTicket {
    type Output = Option<Ticket>;
    const NAME: &'static str = "take_ticket";

    async fn run(&self, tx: &mut Tx<'_>) -> StoreResult<Option<Ticket>> {
        let now = tx.now;
        let row = tx
            .fetch_opt(
                "taking a ticket",
                sql("DELETE FROM ws_tickets WHERE hash = $1
                     RETURNING app, user_id, origin, token_expires_at, expires_at")
                .bind(self.hash.to_vec()),
            )
            .await?;
        let Some(row) = row else { return Ok(None) };
        let c = Cells::of("ws_tickets", &row);
        if c.int("expires_at")? <= now {
            return Ok(None);
        }
        Ok(Some(Ticket { user: c.user()?, origin: c.get("origin")?, token_expires_at: c.time("token_expires_at")? }))
    }
}

pub struct SharedSecret {
    pub name: &'static str,
    pub fresh: String,
}

#[async_trait]
impl Operation for SharedSecret {
    type Output = String;
    const NAME: &'static str = "shared_secret";

    async fn run(&self, tx: &mut Tx<'_>) -> StoreResult<String> {
        // Of two nodes that start at once, the second waits here for the first one's commit and then reads its secret.
        tx.exec(
            "keeping a shared secret",
            sql("INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING")
                .bind(self.name)
                .bind(&self.fresh),
        )
        .await?;
        let rows =
            tx.fetch("reading a shared secret", sql("SELECT value FROM meta WHERE key = $1").bind(self.name)).await?;
        let kept = rows.first().map(|row| Cells::of("meta", row).text("value")).transpose()?;
        Ok(kept.unwrap_or_else(|| self.fresh.clone()))
    }
}
