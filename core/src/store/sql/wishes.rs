//! What people said no and yes to over time, and the lists of who is held back and who was here.
//!
//! Absent on purpose: what a delivery does about a no (`gate`), saying it (`suppress`).

use super::{
    read::{Reads, now},
    rows::Cells,
    statement::{Row, by_engine, sql},
    suppress,
    tx::Tx,
    users,
};
use campanile_model::{
    Timestamp, UserId, UserKey,
    ports::{Consent, ConsentBy, HeldFilter, Seen, SeenFilter, StoreResult, Suppression},
};
use uuid::Uuid;

/// They themselves.
const USER: &str = "user";

/// Keeps what was said, in the transaction that makes it so. `actor`: who said it for them.
pub async fn keep(
    tx: &mut Tx<'_>,
    (app, user): (&str, &str),
    channel: &str,
    notification_type: Option<&str>,
    agreed: bool,
    actor: Option<&str>,
) -> StoreResult<()> {
    let now = tx.now;
    tx.exec(
        "keeping what somebody chose",
        sql("INSERT INTO consents (id, app, user_id, channel, notification_type, agreed, actor, at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)")
        .bind(Uuid::now_v7().to_string())
        .bind(app)
        .bind(user)
        .bind(channel)
        .bind(notification_type)
        .bind(agreed)
        .bind(actor.unwrap_or(USER))
        .bind(now),
    )
    .await?;
    Ok(())
}

fn consent(row: &Row) -> StoreResult<Consent> {
    let c = Cells::of("consents", row);
    Ok(Consent {
        at: c.time("at")?,
        channel: c.channel("channel")?,
        notification_type: c.get("notification_type")?,
        agreed: c.flag("agreed")?,
        by: match c.text("actor")?.as_str() {
            "" => ConsentBy::Unknown,
            USER => ConsentBy::User,
            who => ConsentBy::Actor(who.to_owned()),
        },
    })
}

/// Whose e-mail address it is, is found by the index on those; left to itself, SQLite reads every user of the app instead.
macro_rules! addresses {
    ($engine:ident, $of:literal) => {
        concat!(
            "SELECT s.*, (SELECT u.user_id FROM users u ",
            addresses!($engine),
            " AND u.app = s.app AND u.email IS NOT NULL LIMIT 1) AS owner
             FROM suppressions s WHERE s.app = $1 AND s.address IS NOT NULL AND s.id < $2",
            $of,
            " ORDER BY s.id DESC LIMIT $3"
        )
    };
    (sqlite) => {
        "INDEXED BY users_by_email WHERE lower(u.email) = lower(s.address)"
    };
    (postgres) => {
        "WHERE lower(u.email) = lower(s.address COLLATE \"default\")"
    };
}

macro_rules! seen {
    ($engine:ident) => {
        concat!(
            "SELECT s.app AS seen_app, s.user_id AS seen_id, s.seen_at, u.* FROM user_seen s
             LEFT JOIN users u ON u.app = s.app AND u.user_id = s.user_id
             WHERE s.app = $2 AND s.seen_at > ",
            now!($engine),
            " - $3 AND (s.seen_at, s.user_id) < ($4, $5) ORDER BY s.seen_at DESC, s.user_id DESC LIMIT $6"
        )
    };
}

impl Reads {
    pub async fn held_lines(&self, filter: &HeldFilter) -> StoreResult<Vec<(Suppression, Option<UserId>)>> {
        let ask = match (filter.chosen, &filter.of) {
            (true, None) => sql("SELECT s.*, NULL AS owner FROM suppressions s
                 WHERE s.app = $1 AND s.user_id IS NOT NULL AND s.id < $2 ORDER BY s.id DESC LIMIT $3"),
            (true, Some(_)) => sql("SELECT s.*, NULL AS owner FROM suppressions s
                 WHERE s.app = $1 AND s.user_id IS NOT NULL AND s.id < $2 AND s.channel = $4 AND s.notification_type = $5
                 ORDER BY s.id DESC LIMIT $3"),
            (false, None) => by_engine(addresses!(sqlite, ""), addresses!(postgres, "")),
            (false, Some(_)) => by_engine(
                addresses!(sqlite, " AND s.channel = $4 AND s.reason = $5"),
                addresses!(postgres, " AND s.channel = $4 AND s.reason = $5"),
            ),
        };
        // Ids are letters, digits and dashes: all of them lie before a tilde.
        let ask = ask.bind(filter.app.as_str()).bind(filter.before.as_deref().unwrap_or("~")).bind(filter.limit);
        let ask = match &filter.of {
            Some((channel, what)) => ask.bind(channel.as_str()).bind(what.as_str()),
            None => ask,
        };
        let rows = self.fetch("held_lines", ask).await?;
        rows.iter()
            .map(|row| {
                let owner = Cells::of("suppressions", row).get::<Option<&str>>("owner")?.map(UserId::from);
                Ok((suppress::suppression(row)?, owner))
            })
            .collect()
    }

    pub async fn seen_lately(&self, filter: &SeenFilter) -> StoreResult<Vec<Seen>> {
        let (at, id) = filter.before.as_ref().map_or((i64::MAX, ""), |(at, id)| (at.timestamp_millis(), id.as_str()));
        let ask = by_engine(seen!(sqlite), seen!(postgres))
            .bind(self.offset())
            .bind(filter.app.as_str())
            .bind(filter.within.as_millis() as i64)
            .bind(at)
            .bind(id)
            .bind(filter.limit);
        self.fetch("seen_lately", ask).await?.iter().map(seen).collect()
    }

    pub async fn consents(&self, key: &UserKey, limit: u32) -> StoreResult<Vec<Consent>> {
        let rows = self
            .fetch(
                "consents",
                sql("SELECT * FROM consents WHERE app = $1 AND user_id = $2 ORDER BY id DESC LIMIT $3")
                    .bind(key.app.as_str())
                    .bind(key.user.as_str())
                    .bind(limit),
            )
            .await?;
        rows.iter().map(consent).collect()
    }
}

fn seen(row: &Row) -> StoreResult<Seen> {
    let c = Cells::of("user_seen", row);
    let registered = c.get::<Option<&str>>("user_id")?.is_some();
    let at: Timestamp = c.time("seen_at")?;
    Ok(Seen {
        user_id: UserId::from(c.text("seen_id")?.as_str()),
        at,
        user: if registered { Some(users::user(Cells::of("users", row))?) } else { None },
    })
}
