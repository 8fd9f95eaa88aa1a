-- Instances of channel plugins, the order in which a channel tries them, and which one made an attempt.

CREATE TABLE plugin_instances (
    id         INTEGER PRIMARY KEY,
    name       TEXT NOT NULL UNIQUE,
    channel    TEXT NOT NULL,
    plugin     TEXT NOT NULL,
    -- JSON: enabled, config (secrets as handles), limits.
    setup      TEXT NOT NULL,
    version    INTEGER NOT NULL CHECK (version > 0),
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    updated_by TEXT NOT NULL
);

CREATE TABLE plugin_instance_versions (
    name    TEXT NOT NULL,
    version INTEGER NOT NULL,
    setup   TEXT NOT NULL,
    at      INTEGER NOT NULL,
    actor   TEXT NOT NULL,
    PRIMARY KEY (name, version)
) WITHOUT ROWID;

-- Names of instances, a JSON list; those of the configuration file can stand in it, too.
CREATE TABLE channel_orders (
    channel   TEXT PRIMARY KEY,
    instances TEXT NOT NULL
) WITHOUT ROWID;

ALTER TABLE attempts ADD COLUMN instance TEXT;
