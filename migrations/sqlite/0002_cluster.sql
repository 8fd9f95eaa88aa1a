-- Who is alive and who is connected where. Facts for people: nothing is delivered by them.

CREATE TABLE nodes (
    id         BLOB PRIMARY KEY,
    host       TEXT NOT NULL,
    address    TEXT NOT NULL,
    version    TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    -- The last beat, by the database's clock: a node silent for too long is in no answer.
    seen_at    INTEGER NOT NULL,
    draining   INTEGER NOT NULL DEFAULT 0,
    -- What it counts of itself, JSON.
    figures    TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE node_connections (
    node_id        BLOB NOT NULL REFERENCES nodes (id) ON DELETE CASCADE,
    conn_id        BLOB NOT NULL,
    app            TEXT NOT NULL,
    user_id        TEXT NOT NULL,
    transport      TEXT NOT NULL,
    protocol       TEXT NOT NULL,
    -- Without its last part.
    client_address TEXT,
    user_agent     TEXT,
    connected_at   INTEGER NOT NULL,
    PRIMARY KEY (node_id, conn_id)
) WITHOUT ROWID;
CREATE INDEX node_connections_by_app ON node_connections (app, conn_id);
CREATE INDEX node_connections_by_user ON node_connections (app, user_id, conn_id);
