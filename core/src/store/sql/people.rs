//! The console's look at people: lists, figures, what holds messages back from somebody.

use super::{
    SqlStore,
    accept::encode,
    audit,
    group::Operation,
    keyring::{RestrictKey, RotateKey},
    read::{Reads, now},
    rows::{Cells, json_rows},
    statement::{by_engine, sql},
    suppress,
    tx::Tx,
    users,
};
use crate::store::rules::fold_address;
use async_trait::async_trait;
use campanile_model::{
    AppId, ChannelName, KeyId, Timestamp, UserId, UserKey,
    ports::{
        Actor, ApiKey, Consent, FIGURES_MAX, HeldFilter, KeyCalls, KeyUsed, OptedOut, PeopleFigures, PeopleStore, Seen,
        SeenFilter, StoreResult, SuppressedBy, Suppression, UserFilter,
    },
    user::{Contact, User},
};
use serde_json::{Value, json};
use std::time::Duration;

const DAY: i64 = 86_400_000;

/// Nobody who is there is changed by it.
struct AddUser {
    key: UserKey,
    contact: Contact,
    actor: Actor,
}

#[async_trait]
impl Operation for AddUser {
    type Output = Option<User>;
    const NAME: &'static str = "put_user";

    async fn run(&self, tx: &mut Tx<'_>) -> StoreResult<Option<User>> {
        let now = tx.now;
        let row = tx
            .fetch_opt(
                "registering a user",
                sql("INSERT INTO users (app, user_id, email, locale, timezone, addresses, created_at, updated_at)
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $7) ON CONFLICT (app, user_id) DO NOTHING RETURNING *")
                .bind(self.key.app.as_str())
                .bind(self.key.user.as_str())
                .bind(self.contact.email.as_deref())
                .bind(self.contact.locale.as_deref())
                .bind(self.contact.timezone.as_deref())
                .bind(encode(&self.contact.addresses)?)
                .bind(now),
            )
            .await?;
        let Some(row) = row else { return Ok(None) };
        tx.forget_user(&self.key);
        audit::append(tx, &self.actor, "user.add", self.key.user.as_str(), Some(reached_by(&self.contact))).await?;
        users::user(Cells::of("users", &row)).map(Some)
    }
}

/// The log outlives an erasure: which channels, not which addresses.
fn reached_by(contact: &Contact) -> Value {
    let channels: Vec<_> = contact.addresses.keys().collect();
    json!({"email": contact.email.is_some(), "locale": contact.locale, "timezone": contact.timezone, "addresses": channels})
}

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
        audit::append(tx, &self.actor, "user.edit", self.key.user.as_str(), Some(reached_by(&self.contact))).await?;
        users::user(Cells::of("users", &row)).map(Some)
    }
}

macro_rules! counted {
    ($engine:ident) => {
        concat!(
            "SELECT (SELECT COUNT(*) FROM (SELECT 1 AS one FROM users WHERE app = $2 LIMIT $3) AS a) AS known,
                    (SELECT COUNT(*) FROM (SELECT 1 AS one FROM user_seen WHERE app = $2 AND seen_at > ",
            now!($engine),
            " - $4 LIMIT $3) AS b) AS day,
                    (SELECT COUNT(*) FROM (SELECT 1 AS one FROM user_seen WHERE app = $2 AND seen_at > ",
            now!($engine),
            " - $5 LIMIT $3) AS c) AS month"
        )
    };
}

impl Reads {
    async fn users(&self, filter: &UserFilter) -> StoreResult<Vec<User>> {
        let after = filter.after.as_ref().map_or("", UserId::as_str);
        let ask = match (&filter.email, &filter.prefix) {
            // By the index on addresses first, whatever else a planner would think of: an address that nobody has must not cost
            // a look at every user.
            (Some(email), _) => by_engine(
                "SELECT * FROM users INDEXED BY users_by_email
                 WHERE app = $1 AND email IS NOT NULL AND lower(email) = lower($2) AND user_id > $3
                 ORDER BY user_id LIMIT $4",
                "WITH found AS MATERIALIZED (
                    SELECT * FROM users WHERE app = $1 AND email IS NOT NULL AND lower(email) = lower($2) AND user_id > $3)
                 SELECT * FROM found ORDER BY user_id LIMIT $4",
            )
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

    async fn people_figures(&self, app: &AppId, limit: u32) -> StoreResult<PeopleFigures> {
        let most = i64::try_from(FIGURES_MAX).unwrap_or(i64::MAX);
        let mut snapshot = self.snapshot("people_figures").await?;
        let counts = by_engine(counted!(sqlite), counted!(postgres));
        let counts = counts.bind(self.offset()).bind(app.as_str()).bind(most).bind(DAY).bind(30 * DAY);
        let counts = snapshot.fetch(counts).await?;
        let mut figures = PeopleFigures::default();
        if let Some(row) = counts.first() {
            let c = Cells::of("users", row);
            figures.known = c.count("known")?;
            (figures.active_day, figures.active_month) = (c.count("day")?, c.count("month")?);
        }
        let held = sql("SELECT channel, user_id IS NOT NULL AS by_choice, what, COUNT(*) AS n
             FROM (SELECT channel, user_id, CASE WHEN user_id IS NULL THEN reason ELSE notification_type END AS what
                   FROM suppressions WHERE app = $1 ORDER BY id DESC LIMIT $2) AS newest
             GROUP BY channel, user_id IS NOT NULL, what ORDER BY n DESC, channel, what");
        for row in &snapshot.fetch(held.bind(app.as_str()).bind(most)).await? {
            let c = Cells::of("suppressions", row);
            let (channel, what, n) = (c.channel("channel")?, c.get::<Option<String>>("what")?, c.count("n")?);
            let what = what.unwrap_or_default();
            if c.flag("by_choice")? {
                figures.opted_out.push(OptedOut { channel, notification_type: what, people: n });
            } else {
                figures.suppressed.push(SuppressedBy { channel, reason: what, addresses: n });
            }
        }
        snapshot.end().await;
        figures.opted_out.truncate(limit as usize);
        figures.suppressed.truncate(limit as usize);
        Ok(figures)
    }

    async fn last_seen(&self, key: &UserKey) -> StoreResult<Option<Timestamp>> {
        let row = self
            .fetch_opt(
                "last_seen",
                sql("SELECT seen_at FROM user_seen WHERE app = $1 AND user_id = $2")
                    .bind(key.app.as_str())
                    .bind(key.user.as_str()),
            )
            .await?;
        row.map(|row| Cells::of("user_seen", &row).time("seen_at")).transpose()
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

    async fn people_figures(&self, app: &AppId, limit: u32) -> StoreResult<PeopleFigures> {
        self.reads.people_figures(app, limit).await
    }

    async fn held_lines(&self, filter: &HeldFilter) -> StoreResult<Vec<(Suppression, Option<UserId>)>> {
        self.reads.held_lines(filter).await
    }

    async fn seen_lately(&self, filter: &SeenFilter) -> StoreResult<Vec<Seen>> {
        self.reads.seen_lately(filter).await
    }

    async fn consents(&self, key: &UserKey, limit: u32) -> StoreResult<Vec<Consent>> {
        self.reads.consents(key, limit).await
    }

    async fn add_user(&self, key: &UserKey, contact: Contact, actor: &Actor) -> StoreResult<Option<User>> {
        self.write(AddUser { key: key.clone(), contact, actor: actor.clone() }).await
    }

    async fn last_seen(&self, key: &UserKey) -> StoreResult<Option<Timestamp>> {
        self.reads.last_seen(key).await
    }

    async fn opt_out(
        &self,
        key: &UserKey,
        channel: &ChannelName,
        notification_type: &str,
        actor: &Actor,
    ) -> StoreResult<bool> {
        self.write(suppress::Unsubscribe {
            user: key.clone(),
            channel: channel.clone(),
            notification_type: notification_type.to_owned(),
            actor: Some(actor.clone()),
        })
        .await
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

    async fn restrict_key(
        &self,
        app: &AppId,
        id: KeyId,
        networks: &[String],
        actor: &Actor,
    ) -> StoreResult<Option<Vec<String>>> {
        let networks = networks.to_vec();
        self.write(RestrictKey { app: app.clone(), id, networks, actor: actor.clone() }).await
    }

    async fn key_calls(&self, app: &AppId, since: Timestamp) -> StoreResult<Vec<KeyCalls>> {
        self.reads.key_calls(app, since).await
    }

    async fn key_uses(
        &self,
        app: &AppId,
        key: Option<KeyId>,
        since: Timestamp,
        limit: u32,
    ) -> StoreResult<Vec<KeyUsed>> {
        self.reads.key_uses(app, key, since, limit).await
    }
}
