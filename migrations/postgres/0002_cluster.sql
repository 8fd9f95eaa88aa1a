-- Who is alive and who is connected where. Facts for people: nothing is delivered by them.

CREATE TABLE nodes (
    id         UUID PRIMARY KEY,
    host       TEXT NOT NULL,
    address    TEXT NOT NULL,
    version    TEXT NOT NULL,
    started_at BIGINT NOT NULL,
    -- The last beat, by the database's clock: a node silent for too long is in no answer.
    seen_at    BIGINT NOT NULL,
    draining   BOOLEAN NOT NULL DEFAULT false,
    -- What it counts of itself, JSON.
    figures    TEXT NOT NULL
);

CREATE TABLE node_connections (
    node_id        UUID NOT NULL REFERENCES nodes (id) ON DELETE CASCADE,
    conn_id        UUID NOT NULL,
    app            TEXT COLLATE "C" NOT NULL,
    user_id        TEXT COLLATE "C" NOT NULL,
    transport      TEXT COLLATE "C" NOT NULL,
    protocol       TEXT NOT NULL,
    -- Without its last part.
    client_address TEXT,
    user_agent     TEXT,
    connected_at   BIGINT NOT NULL,
    PRIMARY KEY (node_id, conn_id)
);
CREATE INDEX node_connections_by_app ON node_connections (app, conn_id);
CREATE INDEX node_connections_by_user ON node_connections (app, user_id, conn_id);

-- One row a node, written every few seconds: without room on the page each beat would move it.
ALTER TABLE nodes SET (fillfactor = 30);
ALTER TABLE node_connections SET (autovacuum_vacuum_scale_factor = 0.05);
