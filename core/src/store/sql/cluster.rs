//! Nodes and the connections they hold.
//!
//! Each operation has a commit of its own: ten thousand sockets that arrive at once are written in batches, and no batch
//! makes a notification wait for it. A node writes only its own rows, and whoever removes a silent node skips what is
//! locked, so nobody here waits for anybody.

use super::{
    SqlStore,
    group::Operation,
    read::{Reads, now},
    rows::{Cells, Hex, json_ids, json_rows},
    statement::{Row, by_engine, sql},
    tx::Tx,
};
use async_trait::async_trait;
use campanile_model::{
    AppId, ConnId, NodeId,
    ports::{Beat, ClusterStore, ConnectionFilter, HeldConnection, NodeFigures, NodeRow, StoreResult},
};
use std::{collections::BTreeSet, time::Duration};

/// Somebody who was seen so lately is not written down again.
const SEEN_STEP: i64 = 3_600_000;

struct Say(Beat);

impl Say {
    fn figures(&self) -> StoreResult<String> {
        let encoded = json_rows(std::slice::from_ref(&self.0.figures))?;
        // One row without the list around it.
        Ok(encoded[1..encoded.len() - 1].to_owned())
    }
}

#[async_trait]
impl Operation for Say {
    type Output = bool;
    const NAME: &'static str = "beat";
    const ALONE: bool = true;

    async fn run(&self, tx: &mut Tx<'_>) -> StoreResult<bool> {
        let (now, beat, figures) = (tx.now, &self.0, self.figures()?);
        let known = tx
            .exec(
                "saying that this node lives",
                sql("UPDATE nodes SET seen_at = $1, draining = $2, figures = $3 WHERE id = $4")
                    .bind(now)
                    .bind(beat.draining)
                    .bind(figures.clone())
                    .bind(beat.node.0),
            )
            .await?;
        if known > 0 {
            return Ok(true);
        }
        tx.exec(
            "making a node known",
            sql("INSERT INTO nodes (id, host, address, version, started_at, seen_at, draining, figures)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8)")
            .bind(beat.node.0)
            .bind(&beat.host)
            .bind(&beat.address)
            .bind(&beat.version)
            .bind(beat.started_at.timestamp_millis())
            .bind(now)
            .bind(beat.draining)
            .bind(figures),
        )
        .await?;
        Ok(false)
    }
}

struct Hold {
    node: NodeId,
    opened: Vec<HeldConnection>,
}

#[async_trait]
impl Operation for Hold {
    type Output = bool;
    const NAME: &'static str = "hold_connections";
    const ALONE: bool = true;

    fn rows(&self) -> usize {
        self.opened.len()
    }

    async fn run(&self, tx: &mut Tx<'_>) -> StoreResult<bool> {
        // FOR KEY SHARE: the node's row can't be removed between this look and the rows that point at it.
        let known = tx
            .fetch_opt(
                "looking for this node",
                by_engine(
                    "SELECT 1 AS n FROM nodes WHERE id = $1",
                    "SELECT 1::bigint AS n FROM nodes WHERE id = $1 FOR KEY SHARE",
                )
                .bind(self.node.0),
            )
            .await?;
        if known.is_none() {
            return Ok(false);
        }
        let rows: Vec<_> = self
            .opened
            .iter()
            .map(|c| {
                (
                    Hex(c.conn.0),
                    c.user.app.as_str(),
                    c.user.user.as_str(),
                    &c.transport,
                    &c.protocol,
                    &c.client_address,
                    &c.user_agent,
                    c.connected_at.timestamp_millis(),
                )
            })
            .collect();
        tx.exec(
            "writing connections down",
            by_engine(
                "INSERT INTO node_connections
                    (node_id, conn_id, app, user_id, transport, protocol, client_address, user_agent, connected_at)
                 SELECT $1, unhex(value ->> 0), value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5,
                        value ->> 6, value ->> 7
                 FROM json_each($2) WHERE true ON CONFLICT DO NOTHING",
                "INSERT INTO node_connections
                    (node_id, conn_id, app, user_id, transport, protocol, client_address, user_agent, connected_at)
                 SELECT $1, (value ->> 0)::uuid, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5,
                        value ->> 6, (value ->> 7)::bigint
                 FROM jsonb_array_elements($2::jsonb) ON CONFLICT DO NOTHING",
            )
            .bind(self.node.0)
            .bind(json_rows(&rows)?),
        )
        .await?;
        self.note_people(tx).await?;
        Ok(true)
    }
}

impl Hold {
    /// When these people were here, to the hour: somebody who comes and goes writes little.
    async fn note_people(&self, tx: &mut Tx<'_>) -> StoreResult<()> {
        // In (app, user) order and each once: several nodes write this at the same time.
        let people: BTreeSet<(&str, &str)> =
            self.opened.iter().map(|c| (c.user.app.as_str(), c.user.user.as_str())).collect();
        let now = tx.now;
        tx.exec(
            "noting who is here",
            by_engine(
                "INSERT INTO user_seen (app, user_id, seen_at)
                 SELECT value ->> 0, value ->> 1, $1 FROM json_each($2) WHERE true
                 ON CONFLICT (app, user_id) DO UPDATE SET seen_at = excluded.seen_at
                    WHERE user_seen.seen_at < excluded.seen_at - $3",
                "INSERT INTO user_seen (app, user_id, seen_at)
                 SELECT value ->> 0, value ->> 1, $1
                 FROM jsonb_array_elements($2::jsonb) WITH ORDINALITY AS j (value, n) ORDER BY j.n
                 ON CONFLICT (app, user_id) DO UPDATE SET seen_at = excluded.seen_at
                    WHERE user_seen.seen_at < excluded.seen_at - $3",
            )
            .bind(now)
            .bind(json_rows(&people.into_iter().collect::<Vec<_>>())?)
            .bind(SEEN_STEP),
        )
        .await?;
        Ok(())
    }
}

struct Release {
    node: NodeId,
    closed: Vec<ConnId>,
}

#[async_trait]
impl Operation for Release {
    type Output = ();
    const NAME: &'static str = "release_connections";
    const ALONE: bool = true;

    fn rows(&self) -> usize {
        self.closed.len()
    }

    async fn run(&self, tx: &mut Tx<'_>) -> StoreResult<()> {
        tx.exec(
            "taking connections off",
            by_engine(
                "DELETE FROM node_connections
                 WHERE node_id = $1 AND conn_id IN (SELECT unhex(value) FROM json_each($2))",
                "DELETE FROM node_connections WHERE node_id = $1 AND conn_id IN (
                    SELECT c.conn_id FROM jsonb_array_elements_text($2::jsonb) AS j (value)
                    JOIN node_connections c ON c.node_id = $1 AND c.conn_id = j.value::uuid
                    ORDER BY c.conn_id FOR UPDATE OF c SKIP LOCKED)",
            )
            .bind(self.node.0)
            .bind(json_ids(self.closed.iter().map(|id| id.0))),
        )
        .await?;
        Ok(())
    }
}

/// What a node held goes with its row.
struct Remove {
    which: Which,
}

enum Which {
    Node(NodeId),
    SilentFor(Duration),
}

#[async_trait]
impl Operation for Remove {
    type Output = Vec<NodeId>;
    const NAME: &'static str = "remove_nodes";
    const ALONE: bool = true;

    async fn run(&self, tx: &mut Tx<'_>) -> StoreResult<Vec<NodeId>> {
        let now = tx.now;
        let remove = match &self.which {
            Which::Node(node) => sql("DELETE FROM nodes WHERE id = $1 RETURNING id").bind(node.0),
            Which::SilentFor(silent) => by_engine(
                "DELETE FROM nodes WHERE seen_at <= $1 RETURNING id",
                "DELETE FROM nodes WHERE id IN (
                    SELECT id FROM nodes WHERE seen_at <= $1 ORDER BY id FOR UPDATE SKIP LOCKED) RETURNING id",
            )
            .bind(now - silent.as_millis() as i64),
        };
        let rows = tx.fetch("removing nodes", remove).await?;
        rows.iter().map(|row| Cells::of("nodes", row).uuid("id").map(NodeId)).collect()
    }
}

/// `$1` offset, `$2` silence in ms, `$3` app, `$4` cursor, `$5` node, `$6` not this node, `$7` transport, `$8` limit.
macro_rules! connections {
    ($engine:ident, $which:literal) => {
        concat!(
            "SELECT c.node_id, c.conn_id, c.app, c.user_id, c.transport, c.protocol, c.client_address, c.user_agent,
                    c.connected_at
             FROM node_connections c JOIN nodes n ON n.id = c.node_id
             WHERE n.seen_at > ",
            now!($engine),
            " - $2 AND c.app = $3 AND ($4 IS NULL OR c.conn_id > $4) AND ($5 IS NULL OR c.node_id = $5)
               AND ($6 IS NULL OR c.node_id <> $6) AND ($7 IS NULL OR c.transport = $7) ",
            $which,
            " ORDER BY c.conn_id LIMIT $8"
        )
    };
    ($which:literal) => {
        by_engine(connections!(sqlite, $which), connections!(postgres, $which))
    };
}

macro_rules! nodes {
    ($engine:ident) => {
        concat!(
            "SELECT n.*, ",
            now!($engine),
            " - n.seen_at AS silent FROM nodes n WHERE n.seen_at > ",
            now!($engine),
            " - $2 ORDER BY n.started_at, n.id"
        )
    };
}

impl Reads {
    async fn node_rows(&self, silent: Duration) -> StoreResult<Vec<NodeRow>> {
        let ask = by_engine(nodes!(sqlite), nodes!(postgres)).bind(self.offset()).bind(silent.as_millis() as i64);
        self.fetch("nodes", ask).await?.iter().map(|row| node_row(Cells::of("nodes", row))).collect()
    }

    async fn held(&self, node: NodeId) -> StoreResult<Vec<ConnId>> {
        let ask = sql("SELECT conn_id FROM node_connections WHERE node_id = $1").bind(node.0);
        let rows = self.fetch("held_connections", ask).await?;
        rows.iter().map(|row| Cells::of("node_connections", row).uuid("conn_id").map(ConnId)).collect()
    }

    async fn held_connections(
        &self,
        filter: &ConnectionFilter,
        silent: Duration,
    ) -> StoreResult<Vec<(NodeId, HeldConnection)>> {
        let which = match filter.user {
            // A user has a few: they are read by the user's index, whatever else is asked.
            Some(_) => connections!("AND c.user_id = $9"),
            None => connections!(""),
        };
        let mut ask = which
            .bind(self.offset())
            .bind(silent.as_millis() as i64)
            .bind(filter.app.as_str())
            .bind(filter.after.map(|id| id.0))
            .bind(filter.node.map(|id| id.0))
            .bind(filter.except.map(|id| id.0))
            .bind(filter.transport.as_deref())
            .bind(filter.limit);
        if let Some(user) = &filter.user {
            ask = ask.bind(user.as_str());
        }
        self.fetch("connections", ask).await?.iter().map(held_row).collect()
    }

    async fn holder(
        &self,
        app: &AppId,
        conn: ConnId,
        silent: Duration,
    ) -> StoreResult<Option<(NodeId, HeldConnection)>> {
        macro_rules! holder {
            ($engine:ident) => {
                concat!(
                    "SELECT c.* FROM node_connections c JOIN nodes n ON n.id = c.node_id
                     WHERE c.app = $3 AND c.conn_id = $4 AND n.seen_at > ",
                    now!($engine),
                    " - $2"
                )
            };
        }
        let ask = by_engine(holder!(sqlite), holder!(postgres))
            .bind(self.offset())
            .bind(silent.as_millis() as i64)
            .bind(app.as_str())
            .bind(conn.0);
        self.fetch_opt("connections", ask).await?.as_ref().map(held_row).transpose()
    }
}

fn node_row(c: Cells<'_>) -> StoreResult<NodeRow> {
    Ok(NodeRow {
        said: Beat {
            node: NodeId(c.uuid("id")?),
            host: c.text("host")?,
            address: c.text("address")?,
            version: c.text("version")?,
            started_at: c.time("started_at")?,
            draining: c.flag("draining")?,
            figures: c.json::<NodeFigures>("figures")?,
        },
        seen_at: c.time("seen_at")?,
        silent_ms: c.int("silent")?.max(0),
    })
}

fn held_row(row: &Row) -> StoreResult<(NodeId, HeldConnection)> {
    let c = Cells::of("node_connections", row);
    let held = HeldConnection {
        conn: ConnId(c.uuid("conn_id")?),
        user: c.user()?,
        transport: c.text("transport")?,
        protocol: c.text("protocol")?,
        client_address: c.get("client_address")?,
        user_agent: c.get("user_agent")?,
        connected_at: c.time("connected_at")?,
    };
    Ok((NodeId(c.uuid("node_id")?), held))
}

#[async_trait]
impl ClusterStore for SqlStore {
    async fn beat(&self, beat: &Beat) -> StoreResult<bool> {
        self.write_patiently(Say(beat.clone())).await
    }

    async fn hold(&self, node: NodeId, opened: Vec<HeldConnection>) -> StoreResult<bool> {
        self.write_patiently(Hold { node, opened }).await
    }

    async fn release(&self, node: NodeId, closed: Vec<ConnId>) -> StoreResult<()> {
        self.write_patiently(Release { node, closed }).await
    }

    async fn held(&self, node: NodeId) -> StoreResult<Vec<ConnId>> {
        self.reads.held(node).await
    }

    async fn leave(&self, node: NodeId) -> StoreResult<()> {
        self.write_patiently(Remove { which: Which::Node(node) }).await.map(drop)
    }

    async fn bury(&self, silent: Duration) -> StoreResult<Vec<NodeId>> {
        self.write_patiently(Remove { which: Which::SilentFor(silent) }).await
    }

    async fn nodes(&self, silent: Duration) -> StoreResult<Vec<NodeRow>> {
        self.reads.node_rows(silent).await
    }

    async fn connections(
        &self,
        filter: &ConnectionFilter,
        silent: Duration,
    ) -> StoreResult<Vec<(NodeId, HeldConnection)>> {
        self.reads.held_connections(filter, silent).await
    }

    async fn holder(
        &self,
        app: &AppId,
        conn: ConnId,
        silent: Duration,
    ) -> StoreResult<Option<(NodeId, HeldConnection)>> {
        self.reads.holder(app, conn, silent).await
    }
}
