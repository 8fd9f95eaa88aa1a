-- Campanile on SQLite. Ids are 16-byte blobs (UUIDv7), times are integer milliseconds since 1970 UTC,
-- JSON is text. The list in each CHECK repeats the table in core/model/src/state.rs.

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;
-- Part of every feed epoch: a restored or new database makes clients start anew.
INSERT INTO meta (key, value) VALUES ('epoch', lower(hex(randomblob(6))));

CREATE TABLE apps (
    app        TEXT PRIMARY KEY,
    created_at INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO apps (app, created_at) VALUES ('default', CAST(unixepoch('subsec') * 1000 AS INTEGER));

CREATE TABLE api_keys (
    key_id       BLOB PRIMARY KEY,
    app          TEXT NOT NULL REFERENCES apps (app),
    name         TEXT NOT NULL,
    secret_hash  BLOB NOT NULL CHECK (length(secret_hash) = 32),
    scopes       TEXT NOT NULL,
    created_at   INTEGER NOT NULL,
    expires_at   INTEGER,
    revoked_at   INTEGER,
    last_used_at INTEGER
) WITHOUT ROWID;

CREATE TABLE users (
    app         TEXT NOT NULL,
    user_id     TEXT NOT NULL,
    email       TEXT,
    locale      TEXT,
    timezone    TEXT,
    addresses   TEXT NOT NULL DEFAULT '{}',
    disabled_at INTEGER,
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL,
    PRIMARY KEY (app, user_id)
) WITHOUT ROWID;

CREATE TABLE notifications (
    id                BLOB PRIMARY KEY,
    app               TEXT NOT NULL,
    title             TEXT NOT NULL,
    message           TEXT NOT NULL,
    notification_type TEXT NOT NULL,
    data              TEXT NOT NULL,
    priority          INTEGER NOT NULL CHECK (priority IN (0, 1, 2)),
    created_at        INTEGER NOT NULL,
    send_at           INTEGER,
    expires_at        INTEGER,
    collapse_key      TEXT,
    cancelled_at      INTEGER,
    source            TEXT NOT NULL,
    -- The request as accepted, without title, message and data (those have columns): audience and terms.
    request           TEXT NOT NULL,
    request_id        TEXT NOT NULL,
    idempotency_key   TEXT
) WITHOUT ROWID;
CREATE INDEX notifications_by_app ON notifications (app, id);
CREATE INDEX notifications_cancelled ON notifications (cancelled_at) WHERE cancelled_at IS NOT NULL;
CREATE INDEX notifications_by_key ON notifications (app, idempotency_key) WHERE idempotency_key IS NOT NULL;

CREATE TABLE audiences (
    notification_id BLOB PRIMARY KEY REFERENCES notifications (id) ON DELETE CASCADE,
    spec            TEXT NOT NULL,
    recipients      INTEGER NOT NULL,
    cursor          INTEGER NOT NULL DEFAULT 0,
    done_at         INTEGER,
    lease_owner     BLOB,
    lease_until     INTEGER
) WITHOUT ROWID;
CREATE INDEX audiences_open ON audiences (notification_id) WHERE done_at IS NULL;

CREATE TABLE deliveries (
    id               BLOB PRIMARY KEY,
    notification_id  BLOB NOT NULL REFERENCES notifications (id),
    app              TEXT NOT NULL,
    user_id          TEXT NOT NULL,
    channel          TEXT NOT NULL,
    -- As resolved at ingest; cleared by erase.
    recipient        TEXT,
    recipient_inline INTEGER NOT NULL DEFAULT 0,
    in_app           INTEGER NOT NULL DEFAULT 0,
    state            TEXT NOT NULL CHECK (state IN ('pending', 'sending', 'retrying', 'sent', 'delivered', 'dead',
                                                    'expired', 'suppressed', 'cancelled')),
    reason           TEXT,
    priority         INTEGER NOT NULL,
    -- Only grows: the fence. `spent` is what counts against the schedule.
    attempt          INTEGER NOT NULL DEFAULT 0,
    spent            INTEGER NOT NULL DEFAULT 0,
    losses           INTEGER NOT NULL DEFAULT 0,
    created_at       INTEGER NOT NULL,
    due_at           INTEGER NOT NULL,
    next_attempt_at  INTEGER NOT NULL,
    expires_at       INTEGER,
    relay_at         INTEGER NOT NULL,
    relay_n          INTEGER NOT NULL DEFAULT 0,
    lease_owner      BLOB,
    lease_until      INTEGER,
    -- When the running attempt was claimed.
    claimed_at       INTEGER,
    -- Wished while `sending`: the reason with which a `retrying` becomes `cancelled`. On a dead row: why no replay.
    stop             TEXT,
    provider_id      TEXT,
    sent_at          INTEGER,
    settled_at       INTEGER,
    UNIQUE (notification_id, user_id, channel)
) WITHOUT ROWID;
-- One channel and priority at a time, so that a paused channel's backlog is never walked over.
CREATE INDEX deliveries_relay ON deliveries (channel, priority, relay_at) WHERE state IN ('pending', 'retrying');
CREATE INDEX deliveries_lease ON deliveries (lease_until) WHERE state = 'sending';
CREATE INDEX deliveries_expiry ON deliveries (expires_at)
    WHERE state IN ('pending', 'retrying') AND expires_at IS NOT NULL;
CREATE INDEX deliveries_due ON deliveries (due_at) WHERE state IN ('pending', 'retrying');
CREATE INDEX deliveries_depth ON deliveries (channel, state, next_attempt_at)
    WHERE state IN ('pending', 'sending', 'retrying');
CREATE INDEX deliveries_dead ON deliveries (app, id, channel) WHERE state = 'dead';
CREATE INDEX deliveries_dead_age ON deliveries (settled_at) WHERE state = 'dead';
CREATE INDEX deliveries_by_user ON deliveries (app, user_id, id);

CREATE TABLE attempts (
    delivery_id BLOB NOT NULL,
    attempt     INTEGER NOT NULL,
    started_at  INTEGER NOT NULL,
    duration_ms INTEGER NOT NULL,
    outcome     TEXT NOT NULL,
    code        TEXT,
    message     TEXT,
    uncertain   INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (delivery_id, attempt)
) WITHOUT ROWID;

CREATE TABLE user_state (
    app        TEXT NOT NULL,
    user_id    TEXT NOT NULL,
    head_seq   INTEGER NOT NULL DEFAULT 0,
    min_seq    INTEGER NOT NULL DEFAULT 1,
    unread     INTEGER NOT NULL DEFAULT 0 CHECK (unread >= 0),
    unseen     INTEGER NOT NULL DEFAULT 0 CHECK (unseen >= 0),
    total      INTEGER NOT NULL DEFAULT 0 CHECK (total >= 0),
    version    INTEGER NOT NULL DEFAULT 0,
    generation INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (app, user_id)
) WITHOUT ROWID;

-- Archived and expired items stay as tombstones, so that the sequence has no gaps.
CREATE TABLE feed (
    app             TEXT NOT NULL,
    user_id         TEXT NOT NULL,
    seq             INTEGER NOT NULL,
    notification_id BLOB NOT NULL,
    delivery_id     BLOB NOT NULL,
    created_at      INTEGER NOT NULL,
    expires_at      INTEGER,
    read_at         INTEGER,
    seen_at         INTEGER,
    archived_at     INTEGER,
    -- Set by the sweep that turned the item into a tombstone.
    expired_at      INTEGER,
    PRIMARY KEY (app, user_id, seq),
    UNIQUE (app, user_id, notification_id)
) WITHOUT ROWID;
CREATE INDEX feed_expiry ON feed (expires_at) WHERE expires_at IS NOT NULL AND expired_at IS NULL;
CREATE INDEX feed_age ON feed (created_at);
CREATE INDEX feed_unread ON feed (app, user_id, seq) WHERE read_at IS NULL AND expired_at IS NULL;

-- The newest notification per collapse key, settled or not.
CREATE TABLE collapses (
    app               TEXT NOT NULL,
    user_id           TEXT NOT NULL,
    notification_type TEXT NOT NULL,
    collapse_key      TEXT NOT NULL,
    notification_id   BLOB NOT NULL,
    updated_at        INTEGER NOT NULL,
    PRIMARY KEY (app, user_id, notification_type, collapse_key)
) WITHOUT ROWID;
CREATE INDEX collapses_age ON collapses (updated_at);

CREATE TABLE suppressions (
    id                TEXT PRIMARY KEY,
    app               TEXT NOT NULL,
    channel           TEXT NOT NULL,
    -- One of the two: a suppressed address, or a user who unsubscribed from a type.
    address           TEXT,
    user_id           TEXT,
    notification_type TEXT,
    reason            TEXT NOT NULL,
    created_at        INTEGER NOT NULL,
    CHECK ((address IS NULL) <> (user_id IS NULL))
) WITHOUT ROWID;
CREATE UNIQUE INDEX suppressions_address ON suppressions (app, channel, address) WHERE address IS NOT NULL;
CREATE UNIQUE INDEX suppressions_user ON suppressions (app, channel, user_id, notification_type) WHERE user_id IS NOT NULL;

-- Evidence against an address that does not yet suffice to suppress it.
CREATE TABLE address_faults (
    app        TEXT NOT NULL,
    channel    TEXT NOT NULL,
    address    TEXT NOT NULL,
    kind       TEXT NOT NULL,
    at         INTEGER NOT NULL,
    delivery_id BLOB NOT NULL,
    PRIMARY KEY (app, channel, address, kind, delivery_id)
) WITHOUT ROWID;

CREATE TABLE idempotency (
    app        TEXT NOT NULL,
    key        TEXT NOT NULL,
    hash       BLOB NOT NULL,
    response   TEXT NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (app, key)
) WITHOUT ROWID;
CREATE INDEX idempotency_expiry ON idempotency (expires_at);

CREATE TABLE ws_tickets (
    hash             BLOB PRIMARY KEY,
    app              TEXT NOT NULL,
    user_id          TEXT NOT NULL,
    origin           TEXT,
    token_expires_at INTEGER NOT NULL,
    expires_at       INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX ws_tickets_expiry ON ws_tickets (expires_at);

CREATE TABLE channel_pauses (
    id      INTEGER PRIMARY KEY,
    channel TEXT NOT NULL,
    since   INTEGER NOT NULL,
    ended   INTEGER,
    until   INTEGER,
    reason  TEXT,
    actor   TEXT NOT NULL
);
CREATE UNIQUE INDEX channel_pauses_open ON channel_pauses (channel) WHERE ended IS NULL;
CREATE INDEX channel_pauses_span ON channel_pauses (channel, ended);

CREATE TABLE poison (
    id         INTEGER PRIMARY KEY,
    source     TEXT NOT NULL,
    hash       BLOB NOT NULL UNIQUE,
    raw        BLOB NOT NULL,
    reason     TEXT NOT NULL,
    headers    TEXT,
    created_at INTEGER NOT NULL
);

-- Append-only. Each row's hash covers the one before it.
CREATE TABLE audit (
    id         INTEGER PRIMARY KEY,
    at         INTEGER NOT NULL,
    actor      TEXT NOT NULL,
    action     TEXT NOT NULL,
    target     TEXT NOT NULL,
    detail     TEXT,
    address    TEXT,
    request_id TEXT NOT NULL,
    hash       BLOB NOT NULL
);
