//! People and their contact points.

use super::accept::encode;
use super::{
    audit,
    group::Operation,
    read::Reads,
    rows::{Cells, json_rows},
    statement::{by_engine, sql},
    tx::Tx,
};
use async_trait::async_trait;
use campanile_model::{
    AppId, UserId, UserKey,
    ports::{Actor, StoreError, StoreResult},
    user::{Contact, Resolved, User},
};

fn contact(c: Cells<'_>) -> StoreResult<Contact> {
    Ok(Contact {
        email: c.get("email")?,
        locale: c.get("locale")?,
        timezone: c.get("timezone")?,
        addresses: c.json("addresses")?,
    })
}

pub fn user(c: Cells<'_>) -> StoreResult<User> {
    let UserKey { app, user } = c.user()?;
    Ok(User {
        app,
        user_id: user,
        contact: contact(c)?,
        disabled_at: c.opt_time("disabled_at")?,
        created_at: c.time("created_at")?,
        updated_at: c.time("updated_at")?,
    })
}

impl Reads {
    pub async fn resolve(&self, app: &AppId, users: &[UserId]) -> StoreResult<Vec<Resolved>> {
        let rows = self
            .fetch(
                "resolve",
                by_engine(
                    "SELECT $1 AS app, j.value AS user_id, u.email, u.locale, u.timezone,
                            COALESCE(u.addresses, '{}') AS addresses, u.disabled_at IS NOT NULL AS disabled,
                            COALESCE(s.generation, 0) AS generation
                     FROM json_each($2) j
                     LEFT JOIN users u ON u.app = $1 AND u.user_id = j.value
                     LEFT JOIN user_state s ON s.app = $1 AND s.user_id = j.value
                     ORDER BY j.key",
                    "SELECT $1 AS app, j.value AS user_id, u.email, u.locale, u.timezone,
                            COALESCE(u.addresses, '{}') AS addresses, u.disabled_at IS NOT NULL AS disabled,
                            COALESCE(s.generation, 0) AS generation
                     FROM jsonb_array_elements_text($2::jsonb) WITH ORDINALITY AS j (value, n)
                     LEFT JOIN users u ON u.app = $1 AND u.user_id = j.value
                     LEFT JOIN user_state s ON s.app = $1 AND s.user_id = j.value
                     ORDER BY j.n",
                )
                .bind(app.as_str())
                .bind(json_rows(users)?),
            )
            .await?;
        rows.iter()
            .map(|row| {
                let c = Cells::of("users", row);
                Ok(Resolved { contact: contact(c)?, disabled: c.flag("disabled")?, generation: c.int("generation")? })
            })
            .collect()
    }

    pub async fn get_user(&self, key: &UserKey) -> StoreResult<Option<User>> {
        let row = self
            .fetch_opt(
                "get_user",
                sql("SELECT * FROM users WHERE app = $1 AND user_id = $2")
                    .bind(key.app.as_str())
                    .bind(key.user.as_str()),
            )
            .await?;
        row.map(|row| user(Cells::of("users", &row))).transpose()
    }

    pub async fn disabled_among(&self, users: &[UserKey]) -> StoreResult<Vec<UserKey>> {
        let keys: Vec<(&str, &str)> = users.iter().map(|u| (u.app.as_str(), u.user.as_str())).collect();
        let rows = self
            .fetch(
                "disabled_among",
                by_engine(
                    "SELECT u.app, u.user_id FROM json_each($1) j
                     CROSS JOIN users u ON u.app = j.value ->> 0 AND u.user_id = j.value ->> 1
                     WHERE u.disabled_at IS NOT NULL ORDER BY j.key",
                    "SELECT u.app, u.user_id FROM jsonb_array_elements($1::jsonb) WITH ORDINALITY AS j (value, n)
                     JOIN users u ON u.app = j.value ->> 0 AND u.user_id = j.value ->> 1
                     WHERE u.disabled_at IS NOT NULL ORDER BY j.n",
                )
                .bind(json_rows(&keys)?),
            )
            .await?;
        rows.iter().map(|row| Cells::of("users", row).user()).collect()
    }
}

/// Creates or replaces the contact points.
pub struct PutUser {
    pub key: UserKey,
    pub contact: Contact,
}

#[async_trait]
impl Operation for PutUser {
    type Output = User;
    const NAME: &'static str = "put_user";

    async fn run(&self, tx: &mut Tx<'_>) -> StoreResult<User> {
        let now = tx.now;
        let row = tx
            .fetch_opt(
                "storing a user",
                sql(
                    "INSERT INTO users (app, user_id, email, locale, timezone, addresses, created_at, updated_at)
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $7)
                     ON CONFLICT (app, user_id) DO UPDATE SET email = $3, locale = $4, timezone = $5, addresses = $6, updated_at = $7
                     RETURNING *",
                )
                .bind(self.key.app.as_str())
                .bind(self.key.user.as_str())
                .bind(self.contact.email.as_deref())
                .bind(self.contact.locale.as_deref())
                .bind(self.contact.timezone.as_deref())
                .bind(encode(&self.contact.addresses)?)
                .bind(now),
            )
            .await?;
        // Accepts of the same commit must know of it.
        tx.forget_user(&self.key);
        row.map_or_else(
            || Err(StoreError::Statement { what: "storing a user", source: "nothing came back".into() }),
            |row| user(Cells::of("users", &row)),
        )
    }
}

/// False: unknown, or so already.
pub struct SetDisabled {
    pub key: UserKey,
    pub disabled: bool,
    pub actor: Actor,
}

#[async_trait]
impl Operation for SetDisabled {
    type Output = bool;
    const NAME: &'static str = "set_disabled";

    async fn run(&self, tx: &mut Tx<'_>) -> StoreResult<bool> {
        let now = tx.now;
        let changed = tx
            .exec(
                "disabling a user",
                sql("UPDATE users SET disabled_at = CASE WHEN $1 THEN $2 END, updated_at = $2
                     WHERE app = $3 AND user_id = $4 AND (disabled_at IS NOT NULL) <> $1")
                .bind(self.disabled)
                .bind(now)
                .bind(self.key.app.as_str())
                .bind(self.key.user.as_str()),
            )
            .await?;
        tx.forget_user(&self.key);
        if changed > 0 {
            let action = if self.disabled { "user.disable" } else { "user.enable" };
            audit::append(tx, &self.actor, action, self.key.user.as_str(), None).await?;
        }
        Ok(changed > 0)
    }
}
