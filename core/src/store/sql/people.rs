//! The console's look at people, and the rotation of keys.

use super::{
    SqlStore,
    accept::encode,
    access, audit,
    group::Operation,
    read::Reads,
    rows::{Cells, json_rows},
    statement::{by_engine, sql},
    suppress,
    tx::Tx,
    users,
};
use crate::store::rules::fold_address;
use async_trait::async_trait;
use campanile_model::{
    AppId, ChannelName, KeyId, UserId, UserKey,
    ports::{Actor, ApiKey, PeopleStore, StoreResult, Suppression, UserFilter},
    user::{Contact, User},
};
use serde_json::json;
use std::time::Duration;

struct EditUser {
    key: UserKey,
    contact: Contact,
    actor: Actor,
}

#[async_trait]
impl Operation for EditUser {
    type Output = Option<User>;
    const NAME: &'static str = "put_user";

    async fn run(&self, tx: &mut Tx<'_>) -> StoreResult<Option<User>> {
        let now = tx.now;
        let row = tx
            .fetch_opt(
                "changing a user",
                sql("UPDATE users SET email = $1, locale = $2, timezone = $3, addresses = $4, updated_at = $5
                     WHERE app = $6 AND user_id = $7 RETURNING *")
                .bind(self.contact.email.as_deref())
                .bind(self.contact.locale.as_deref())
                .bind(self.contact.timezone.as_deref())
                .bind(encode(&self.contact.addresses)?)
                .bind(now)
                .bind(self.key.app.as_str())
                .bind(self.key.user.as_str()),
            )
            .await?;
        let Some(row) = row else { return Ok(None) };
        tx.forget_user(&self.key);
        // The log outlives an erasure: which channels, not which addresses.
        let channels: Vec<_> = self.contact.addresses.keys().collect();
        let detail = json!({"email": self.contact.email.is_some(), "locale": self.contact.locale,
                            "timezone": self.contact.timezone, "addresses": channels});
        audit::append(tx, &self.actor, "user.edit", self.key.user.as_str(), Some(detail)).await?;
        users::user(Cells::of("users", &row)).map(Some)
    }
}

struct RotateKey {
    app: AppId,
    id: KeyId,
    fresh: ApiKey,
    overlap: Duration,
    actor: Actor,
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

impl Reads {
    async fn users(&self, filter: &UserFilter) -> StoreResult<Vec<User>> {
        let after = filter.after.as_ref().map_or("", UserId::as_str);
        let ask = match (&filter.email, &filter.prefix) {
            (Some(email), _) => sql("SELECT * FROM users WHERE app = $1 AND lower(email) = lower($2) AND user_id > $3
                 ORDER BY user_id LIMIT $4")
            .bind(filter.app.as_str())
            .bind(email),
            // Ids are compared by their bytes, so everything that begins so lies below the highest character after it.
            (None, Some(prefix)) => sql("SELECT * FROM users WHERE app = $1 AND user_id >= $2 AND user_id > $3
                 AND user_id < $5 ORDER BY user_id LIMIT $4")
            .bind(filter.app.as_str())
            .bind(prefix),
            (None, None) => sql("SELECT * FROM users WHERE app = $1 AND user_id > $2 ORDER BY user_id LIMIT $3")
                .bind(filter.app.as_str()),
        };
        let mut ask = ask.bind(after).bind(filter.limit);
        if let (None, Some(prefix)) = (&filter.email, &filter.prefix) {
            ask = ask.bind(format!("{prefix}\u{10ffff}"));
        }
        let rows = self.fetch("users", ask).await?;
        rows.iter().map(|row| users::user(Cells::of("users", row))).collect()
    }

    async fn held_back(
        &self,
        key: &UserKey,
        addresses: &[(ChannelName, String)],
        limit: u32,
    ) -> StoreResult<Vec<Suppression>> {
        let addresses: Vec<_> = addresses.iter().map(|(channel, a)| (channel.as_str(), fold_address(a))).collect();
        let rows = self
            .fetch(
                "suppressions",
                by_engine(
                    "SELECT * FROM (SELECT s.* FROM json_each($1) j CROSS JOIN suppressions s ON s.app = $2
                          AND s.channel = j.value ->> 0 AND s.address = j.value ->> 1)
                     UNION ALL
                     SELECT * FROM (SELECT * FROM suppressions WHERE app = $2 AND user_id = $3 ORDER BY id LIMIT $4)",
                    "SELECT s.* FROM jsonb_array_elements($1::jsonb) AS j (value) JOIN suppressions s ON s.app = $2
                          AND s.channel = j.value ->> 0 AND s.address = j.value ->> 1
                     UNION ALL
                     (SELECT * FROM suppressions WHERE app = $2 AND user_id = $3 ORDER BY id LIMIT $4)",
                )
                .bind(json_rows(&addresses)?)
                .bind(key.app.as_str())
                .bind(key.user.as_str())
                .bind(limit),
            )
            .await?;
        rows.iter().map(suppress::suppression).collect()
    }
}

#[async_trait]
impl PeopleStore for SqlStore {
    async fn users(&self, filter: &UserFilter) -> StoreResult<Vec<User>> {
        self.reads.users(filter).await
    }

    async fn edit_user(&self, key: &UserKey, contact: Contact, actor: &Actor) -> StoreResult<Option<User>> {
        self.write(EditUser { key: key.clone(), contact, actor: actor.clone() }).await
    }

    async fn held_back(
        &self,
        key: &UserKey,
        addresses: &[(ChannelName, String)],
        limit: u32,
    ) -> StoreResult<Vec<Suppression>> {
        self.reads.held_back(key, addresses, limit).await
    }

    async fn rotate_key(
        &self,
        app: &AppId,
        id: KeyId,
        fresh: ApiKey,
        overlap: Duration,
        actor: &Actor,
    ) -> StoreResult<Option<ApiKey>> {
        self.write(RotateKey { app: app.clone(), id, fresh, overlap, actor: actor.clone() }).await
    }
}
