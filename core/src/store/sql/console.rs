//! Accounts and sessions of the console; minutes and marks of its plots.
//!
//! Absent on purpose: hashing passwords and making secrets (`http/admin`): only results come here.

use super::{
    SqlStore, audit,
    group::Operation,
    read::{Reads, now},
    rows::Cells,
    statement::{Row, by_engine, sql},
    tx::Tx,
};
use async_trait::async_trait;
use campanile_model::{
    NodeId, Timestamp,
    ports::{Actor, Admin, AdminChange, AdminSession, ConsoleStore, MarkRow, Role, StoreResult},
};
use serde_json::json;
use std::time::Duration;
use uuid::Uuid;

/// The advisory lock of changes to accounts: two owners who demote each other must not both succeed.
const ADMINS_LOCK: i64 = 0x6164_6d69_6e73;

fn role(c: Cells<'_>) -> StoreResult<Role> {
    let text = c.text("role")?;
    Role::parse(&text).ok_or_else(|| c.wrong("role", format!("unknown role {text:?}")))
}

fn admin(row: &Row) -> StoreResult<Admin> {
    let c = Cells::of("admins", row);
    Ok(Admin {
        id: c.uuid("id")?,
        name: c.text("name")?,
        role: role(c)?,
        has_password: c.get::<Option<&str>>("password")?.is_some(),
        created_at: c.time("created_at")?,
        disabled_at: c.opt_time("disabled_at")?,
        signed_in_at: c.opt_time("signed_in_at")?,
    })
}

async fn lock(tx: &mut Tx<'_>) -> StoreResult<()> {
    if tx.is_shared() {
        tx.exec("taking the accounts", sql("SELECT pg_advisory_xact_lock($1)").bind(ADMINS_LOCK)).await?;
    }
    Ok(())
}

/// Case does not tell names apart.
fn by_name(name: &str) -> super::statement::Sql<'_> {
    by_engine(
        "SELECT * FROM admins WHERE name = $1 COLLATE NOCASE",
        "SELECT * FROM admins WHERE lower(name) = lower($1)",
    )
    .bind(name)
}

struct PutLink {
    name: String,
    role: Role,
    hash: [u8; 32],
    ttl: Duration,
    actor: Actor,
}

#[async_trait]
impl Operation for PutLink {
    type Output = Admin;
    const NAME: &'static str = "put_admin_link";

    async fn run(&self, tx: &mut Tx<'_>) -> StoreResult<Admin> {
        lock(tx).await?;
        let now = tx.now;
        let known = tx.fetch_opt("looking for an account", by_name(&self.name)).await?;
        let admin = if let Some(row) = known {
            admin(&row)?
        } else {
            tx.exec(
                "making an account",
                sql("INSERT INTO admins (id, name, role, created_at) VALUES ($1, $2, $3, $4)")
                    .bind(Uuid::now_v7())
                    .bind(&self.name)
                    .bind(self.role.as_str())
                    .bind(now),
            )
            .await?;
            let detail = json!({"role": self.role});
            audit::append(tx, &self.actor, "admin.create", &self.name, Some(detail)).await?;
            let row = tx.fetch_opt("reading an account", by_name(&self.name)).await?;
            row.as_ref().map(admin).transpose()?.ok_or_else(super::writer::closed)?
        };
        tx.exec("ending older links", sql("DELETE FROM admin_links WHERE admin_id = $1").bind(admin.id)).await?;
        tx.exec(
            "storing a one-time link",
            sql("INSERT INTO admin_links (hash, admin_id, expires_at) VALUES ($1, $2, $3)")
                .bind(self.hash.to_vec())
                .bind(admin.id)
                .bind(now.saturating_add(self.ttl.as_millis() as i64)),
        )
        .await?;
        audit::append(tx, &self.actor, "admin.link", &admin.name, None).await?;
        Ok(admin)
    }
}

struct TakeLink {
    hash: [u8; 32],
}

#[async_trait]
impl Operation for TakeLink {
    type Output = Option<Admin>;
    const NAME: &'static str = "take_admin_link";

    async fn run(&self, tx: &mut Tx<'_>) -> StoreResult<Option<Admin>> {
        let now = tx.now;
        let taken = tx
            .fetch_opt(
                "taking a one-time link",
                sql("DELETE FROM admin_links WHERE hash = $1 RETURNING admin_id, expires_at").bind(self.hash.to_vec()),
            )
            .await?;
        let Some(taken) = taken else { return Ok(None) };
        let c = Cells::of("admin_links", &taken);
        if c.int("expires_at")? <= now {
            return Ok(None);
        }
        let id = c.uuid("admin_id")?;
        let row = tx
            .fetch_opt("reading an account", sql("SELECT * FROM admins WHERE id = $1 AND disabled_at IS NULL").bind(id))
            .await?;
        row.as_ref().map(admin).transpose()
    }
}

struct SetPassword {
    id: Uuid,
    phc: String,
    keep: Option<[u8; 32]>,
    actor: Actor,
}

#[async_trait]
impl Operation for SetPassword {
    type Output = AdminChange;
    const NAME: &'static str = "set_admin_password";

    async fn run(&self, tx: &mut Tx<'_>) -> StoreResult<AdminChange> {
        let row = tx
            .fetch_opt(
                "setting a password",
                sql("UPDATE admins SET password = $1 WHERE id = $2 RETURNING *").bind(&self.phc).bind(self.id),
            )
            .await?;
        let Some(row) = row else { return Ok(AdminChange::NotFound) };
        let name = admin(&row)?.name;
        tx.exec(
            "ending other sessions",
            sql("DELETE FROM admin_sessions WHERE admin_id = $1 AND hash <> $2")
                .bind(self.id)
                .bind(self.keep.map_or_else(Vec::new, |hash| hash.to_vec())),
        )
        .await?;
        audit::append(tx, &self.actor, "admin.password", &name, None).await?;
        Ok(AdminChange::Done)
    }
}

struct Change {
    id: Uuid,
    role: Role,
    disabled: bool,
    actor: Actor,
}

#[async_trait]
impl Operation for Change {
    type Output = AdminChange;
    const NAME: &'static str = "change_admin";

    async fn run(&self, tx: &mut Tx<'_>) -> StoreResult<AdminChange> {
        lock(tx).await?;
        let now = tx.now;
        let row = tx.fetch_opt("reading an account", sql("SELECT * FROM admins WHERE id = $1").bind(self.id)).await?;
        let Some(row) = row else { return Ok(AdminChange::NotFound) };
        let before = admin(&row)?;
        let owns = |role: Role, disabled: bool| role == Role::Owner && !disabled;
        if owns(before.role, before.disabled_at.is_some()) && !owns(self.role, self.disabled) {
            let other = tx
                .fetch_opt(
                    "looking for another owner",
                    by_engine(
                        "SELECT 1 AS n FROM admins WHERE role = 'owner' AND disabled_at IS NULL AND id <> $1 LIMIT 1",
                        "SELECT 1::bigint AS n FROM admins
                         WHERE role = 'owner' AND disabled_at IS NULL AND id <> $1 LIMIT 1",
                    )
                    .bind(self.id),
                )
                .await?;
            if other.is_none() {
                return Ok(AdminChange::LastOwner);
            }
        }
        tx.exec(
            "changing an account",
            sql("UPDATE admins SET role = $1, disabled_at = $2 WHERE id = $3")
                .bind(self.role.as_str())
                .bind(self.disabled.then(|| before.disabled_at.map_or(now, |at| at.timestamp_millis())))
                .bind(self.id),
        )
        .await?;
        // Another role, more or less, begins with a new session.
        if self.disabled || self.role != before.role {
            tx.exec("ending sessions", sql("DELETE FROM admin_sessions WHERE admin_id = $1").bind(self.id)).await?;
            tx.exec("ending links", sql("DELETE FROM admin_links WHERE admin_id = $1").bind(self.id)).await?;
        }
        let detail = json!({
            "before": {"role": before.role, "disabled": before.disabled_at.is_some()},
            "after": {"role": self.role, "disabled": self.disabled},
        });
        audit::append(tx, &self.actor, "admin.change", &before.name, Some(detail)).await?;
        Ok(AdminChange::Done)
    }
}

struct OpenSession {
    hash: [u8; 32],
    admin: Uuid,
    absolute: Duration,
    user_agent: Option<String>,
    actor: Actor,
}

#[async_trait]
impl Operation for OpenSession {
    type Output = ();
    const NAME: &'static str = "open_admin_session";

    async fn run(&self, tx: &mut Tx<'_>) -> StoreResult<()> {
        let now = tx.now;
        tx.exec(
            "opening a session",
            sql("INSERT INTO admin_sessions (hash, admin_id, created_at, seen_at, expires_at, address, user_agent)
                 VALUES ($1, $2, $3, $4, $5, $6, $7)")
            .bind(self.hash.to_vec())
            .bind(self.admin)
            .bind(now)
            .bind(now)
            .bind(now.saturating_add(self.absolute.as_millis() as i64))
            .bind(self.actor.address.as_deref())
            .bind(self.user_agent.as_deref()),
        )
        .await?;
        tx.exec(
            "noting a sign-in",
            sql("UPDATE admins SET signed_in_at = $1 WHERE id = $2").bind(now).bind(self.admin),
        )
        .await?;
        audit::append(tx, &self.actor, "admin.sign_in", &self.actor.who, None).await
    }
}

struct Touch {
    hash: [u8; 32],
}

#[async_trait]
impl Operation for Touch {
    type Output = ();
    const NAME: &'static str = "touch_admin_session";

    async fn run(&self, tx: &mut Tx<'_>) -> StoreResult<()> {
        let now = tx.now;
        tx.exec(
            "noting the use of a session",
            sql("UPDATE admin_sessions SET seen_at = $1 WHERE hash = $2").bind(now).bind(self.hash.to_vec()),
        )
        .await?;
        Ok(())
    }
}

struct EndSession {
    hash: [u8; 32],
    actor: Actor,
}

#[async_trait]
impl Operation for EndSession {
    type Output = ();
    const NAME: &'static str = "end_admin_session";

    async fn run(&self, tx: &mut Tx<'_>) -> StoreResult<()> {
        let ended = tx
            .exec("ending a session", sql("DELETE FROM admin_sessions WHERE hash = $1").bind(self.hash.to_vec()))
            .await?;
        if ended == 0 {
            return Ok(());
        }
        audit::append(tx, &self.actor, "admin.sign_out", &self.actor.who, None).await
    }
}

struct PutMinute {
    at: Timestamp,
    node: NodeId,
    data: String,
}

#[async_trait]
impl Operation for PutMinute {
    type Output = ();
    const NAME: &'static str = "put_minute";

    async fn run(&self, tx: &mut Tx<'_>) -> StoreResult<()> {
        tx.exec(
            "writing a minute down",
            sql("INSERT INTO minutes (at, node, data) VALUES ($1, $2, $3)
                 ON CONFLICT (at, node) DO UPDATE SET data = excluded.data")
            .bind(self.at.timestamp_millis())
            .bind(self.node.0)
            .bind(&self.data),
        )
        .await?;
        Ok(())
    }
}

struct PutMark(MarkRow);

#[async_trait]
impl Operation for PutMark {
    type Output = ();
    const NAME: &'static str = "put_mark";

    async fn run(&self, tx: &mut Tx<'_>) -> StoreResult<()> {
        tx.exec(
            "marking a moment",
            sql("INSERT INTO marks (at, subject, what) VALUES ($1, $2, $3)")
                .bind(self.0.at.timestamp_millis())
                .bind(&self.0.subject)
                .bind(&self.0.what),
        )
        .await?;
        Ok(())
    }
}

struct TrimConsole {
    keep: Duration,
}

#[async_trait]
impl Operation for TrimConsole {
    type Output = ();
    const NAME: &'static str = "trim_console";

    async fn run(&self, tx: &mut Tx<'_>) -> StoreResult<()> {
        let now = tx.now;
        let before = now.saturating_sub(self.keep.as_millis() as i64);
        tx.exec("trimming minutes", sql("DELETE FROM minutes WHERE at < $1").bind(before)).await?;
        tx.exec("trimming marks", sql("DELETE FROM marks WHERE at < $1").bind(before)).await?;
        tx.exec("trimming sessions", sql("DELETE FROM admin_sessions WHERE expires_at <= $1").bind(now)).await?;
        tx.exec("trimming links", sql("DELETE FROM admin_links WHERE expires_at <= $1").bind(now)).await?;
        Ok(())
    }
}

impl Reads {
    async fn admin_session(&self, hash: [u8; 32], idle: Duration) -> StoreResult<Option<AdminSession>> {
        let row = self
            .fetch_opt(
                "admin_session",
                by_engine(
                    concat!(
                        "SELECT a.*, s.created_at AS s_created_at, s.seen_at, s.expires_at FROM admin_sessions s \
                         JOIN admins a ON a.id = s.admin_id WHERE s.hash = $2 AND a.disabled_at IS NULL \
                         AND s.expires_at > ",
                        now!(sqlite),
                        " AND s.seen_at + $3 > ",
                        now!(sqlite)
                    ),
                    concat!(
                        "SELECT a.*, s.created_at AS s_created_at, s.seen_at, s.expires_at FROM admin_sessions s \
                         JOIN admins a ON a.id = s.admin_id WHERE s.hash = $2 AND a.disabled_at IS NULL \
                         AND s.expires_at > ",
                        now!(postgres),
                        " AND s.seen_at + $3 > ",
                        now!(postgres)
                    ),
                )
                .bind(self.offset())
                .bind(hash.to_vec())
                .bind(idle.as_millis() as i64),
            )
            .await?;
        let Some(row) = row else { return Ok(None) };
        let c = Cells::of("admin_sessions", &row);
        Ok(Some(AdminSession {
            admin: admin(&row)?,
            created_at: c.time("s_created_at")?,
            seen_at: c.time("seen_at")?,
            expires_at: c.time("expires_at")?,
        }))
    }

    async fn minutes(&self, since: Timestamp) -> StoreResult<Vec<(Timestamp, NodeId, String)>> {
        let rows = self
            .fetch(
                "minutes",
                sql("SELECT at, node, data FROM minutes WHERE at >= $1 ORDER BY at, node")
                    .bind(since.timestamp_millis()),
            )
            .await?;
        rows.iter()
            .map(|row| {
                let c = Cells::of("minutes", row);
                Ok((c.time("at")?, NodeId(c.uuid("node")?), c.text("data")?))
            })
            .collect()
    }

    async fn marks(&self, since: Timestamp) -> StoreResult<Vec<MarkRow>> {
        let rows = self
            .fetch(
                "marks",
                sql("SELECT at, subject, what FROM marks WHERE at >= $1 ORDER BY at DESC, id DESC LIMIT 200")
                    .bind(since.timestamp_millis()),
            )
            .await?;
        rows.iter()
            .rev()
            .map(|row| {
                let c = Cells::of("marks", row);
                Ok(MarkRow { at: c.time("at")?, subject: c.text("subject")?, what: c.text("what")? })
            })
            .collect()
    }
}

#[async_trait]
impl ConsoleStore for SqlStore {
    async fn put_admin_link(
        &self,
        name: &str,
        role: Role,
        hash: [u8; 32],
        ttl: Duration,
        actor: &Actor,
    ) -> StoreResult<Admin> {
        self.write(PutLink { name: name.to_owned(), role, hash, ttl, actor: actor.clone() }).await
    }

    async fn take_admin_link(&self, hash: [u8; 32]) -> StoreResult<Option<Admin>> {
        self.write(TakeLink { hash }).await
    }

    async fn find_admin(&self, name: &str) -> StoreResult<Option<(Admin, Option<String>)>> {
        let row = self.reads.fetch_opt("find_admin", by_name(name)).await?;
        row.map(|row| Ok((admin(&row)?, Cells::of("admins", &row).get("password")?))).transpose()
    }

    async fn admins(&self) -> StoreResult<Vec<Admin>> {
        let rows = self.reads.fetch("admins", sql("SELECT * FROM admins ORDER BY id")).await?;
        rows.iter().map(admin).collect()
    }

    async fn set_admin_password(
        &self,
        id: Uuid,
        phc: &str,
        keep: Option<[u8; 32]>,
        actor: &Actor,
    ) -> StoreResult<AdminChange> {
        self.write(SetPassword { id, phc: phc.to_owned(), keep, actor: actor.clone() }).await
    }

    async fn change_admin(&self, id: Uuid, role: Role, disabled: bool, actor: &Actor) -> StoreResult<AdminChange> {
        self.write(Change { id, role, disabled, actor: actor.clone() }).await
    }

    async fn open_admin_session(
        &self,
        hash: [u8; 32],
        admin: Uuid,
        absolute: Duration,
        user_agent: Option<&str>,
        actor: &Actor,
    ) -> StoreResult<()> {
        let user_agent = user_agent.map(str::to_owned);
        self.write(OpenSession { hash, admin, absolute, user_agent, actor: actor.clone() }).await
    }

    async fn admin_session(&self, hash: [u8; 32], idle: Duration) -> StoreResult<Option<AdminSession>> {
        self.reads.admin_session(hash, idle).await
    }

    async fn touch_admin_session(&self, hash: [u8; 32]) -> StoreResult<()> {
        self.write(Touch { hash }).await
    }

    async fn end_admin_session(&self, hash: [u8; 32], actor: &Actor) -> StoreResult<()> {
        self.write(EndSession { hash, actor: actor.clone() }).await
    }

    async fn put_minute(&self, at: Timestamp, node: NodeId, data: &str) -> StoreResult<()> {
        self.write_patiently(PutMinute { at, node, data: data.to_owned() }).await
    }

    async fn minutes(&self, since: Timestamp) -> StoreResult<Vec<(Timestamp, NodeId, String)>> {
        self.reads.minutes(since).await
    }

    async fn put_mark(&self, mark: &MarkRow) -> StoreResult<()> {
        self.write_patiently(PutMark(mark.clone())).await
    }

    async fn marks(&self, since: Timestamp) -> StoreResult<Vec<MarkRow>> {
        self.reads.marks(since).await
    }

    async fn trim_console(&self, keep: Duration) -> StoreResult<()> {
        self.write_patiently(TrimConsole { keep }).await
    }
}
