-- Campanile on PostgreSQL, the twin of migrations/sqlite. Ids are uuid (version 7). Times are bigint milliseconds since
-- 1970 UTC, as on SQLite: one arithmetic for both engines, no rounding between them, and a test can move the clock.
-- JSON that is only stored and given back whole is text, byte for byte as it came; jsonb would reorder keys and refuse
-- \u0000. Keys are COLLATE "C": the order of bytes is the order in which Rust sorts, and locks are taken in that order.
-- The list in each CHECK repeats the table in core/model/src/state.rs.

CREATE TABLE meta (
    key   TEXT COLLATE "C" PRIMARY KEY,
    value TEXT NOT NULL
);
-- Part of every feed epoch: a restored or new database makes clients start anew.
INSERT INTO meta (key, value) VALUES ('epoch', substr(replace(gen_random_uuid()::text, '-', ''), 1, 12));

CREATE TABLE apps (
    app        TEXT COLLATE "C" PRIMARY KEY,
    created_at BIGINT NOT NULL
);
INSERT INTO apps (app, created_at) VALUES ('default', CAST(EXTRACT(EPOCH FROM now()) * 1000 AS BIGINT));

CREATE TABLE api_keys (
    key_id       UUID PRIMARY KEY,
    app          TEXT COLLATE "C" NOT NULL REFERENCES apps (app),
    name         TEXT NOT NULL,
    secret_hash  BYTEA NOT NULL CHECK (length(secret_hash) = 32),
    scopes       TEXT NOT NULL,
    created_at   BIGINT NOT NULL,
    expires_at   BIGINT,
    revoked_at   BIGINT,
    last_used_at BIGINT
);

CREATE TABLE users (
    app         TEXT COLLATE "C" NOT NULL,
    user_id     TEXT COLLATE "C" NOT NULL,
    email       TEXT,
    locale      TEXT,
    timezone    TEXT,
    addresses   TEXT NOT NULL DEFAULT '{}',
    disabled_at BIGINT,
    created_at  BIGINT NOT NULL,
    updated_at  BIGINT NOT NULL,
    PRIMARY KEY (app, user_id)
);

CREATE TABLE notifications (
    id                UUID PRIMARY KEY,
    app               TEXT COLLATE "C" NOT NULL,
    title             TEXT NOT NULL,
    message           TEXT NOT NULL,
    notification_type TEXT COLLATE "C" NOT NULL,
    data              TEXT NOT NULL,
    priority          BIGINT NOT NULL CHECK (priority IN (0, 1, 2)),
    created_at        BIGINT NOT NULL,
    send_at           BIGINT,
    expires_at        BIGINT,
    collapse_key      TEXT COLLATE "C",
    cancelled_at      BIGINT,
    source            TEXT NOT NULL,
    -- The request as accepted, without title, message and data (those have columns): audience and terms.
    request           TEXT NOT NULL,
    request_id        TEXT NOT NULL,
    idempotency_key   TEXT
);
CREATE INDEX notifications_by_app ON notifications (app, id);
CREATE INDEX notifications_cancelled ON notifications (cancelled_at) WHERE cancelled_at IS NOT NULL;
CREATE INDEX notifications_by_key ON notifications (app, idempotency_key) WHERE idempotency_key IS NOT NULL;

CREATE TABLE audiences (
    notification_id UUID PRIMARY KEY REFERENCES notifications (id) ON DELETE CASCADE,
    spec            TEXT NOT NULL,
    recipients      BIGINT NOT NULL,
    cursor          BIGINT NOT NULL DEFAULT 0,
    done_at         BIGINT,
    lease_owner     UUID,
    lease_until     BIGINT
);
CREATE INDEX audiences_open ON audiences (notification_id) WHERE done_at IS NULL;

CREATE TABLE deliveries (
    id               UUID PRIMARY KEY,
    notification_id  UUID NOT NULL REFERENCES notifications (id),
    app              TEXT COLLATE "C" NOT NULL,
    user_id          TEXT COLLATE "C" NOT NULL,
    channel          TEXT COLLATE "C" NOT NULL,
    -- As resolved at ingest; cleared by erase.
    recipient        TEXT,
    recipient_inline BOOLEAN NOT NULL DEFAULT false,
    in_app           BOOLEAN NOT NULL DEFAULT false,
    state            TEXT NOT NULL CHECK (state IN ('pending', 'sending', 'retrying', 'sent', 'delivered', 'dead',
                                                    'expired', 'suppressed', 'cancelled')),
    reason           TEXT,
    priority         BIGINT NOT NULL,
    -- Only grows: the fence. `spent` is what counts against the schedule.
    attempt          BIGINT NOT NULL DEFAULT 0,
    spent            BIGINT NOT NULL DEFAULT 0,
    losses           BIGINT NOT NULL DEFAULT 0,
    created_at       BIGINT NOT NULL,
    due_at           BIGINT NOT NULL,
    next_attempt_at  BIGINT NOT NULL,
    expires_at       BIGINT,
    relay_at         BIGINT NOT NULL,
    relay_n          BIGINT NOT NULL DEFAULT 0,
    lease_owner      UUID,
    lease_until      BIGINT,
    -- When the running attempt was claimed.
    claimed_at       BIGINT,
    -- Wished while `sending`: the reason with which a `retrying` becomes `cancelled`. On a dead row: why no replay.
    stop             TEXT,
    provider_id      TEXT,
    sent_at          BIGINT,
    settled_at       BIGINT,
    UNIQUE (notification_id, user_id, channel)
);
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
    delivery_id UUID NOT NULL,
    attempt     BIGINT NOT NULL,
    started_at  BIGINT NOT NULL,
    duration_ms BIGINT NOT NULL,
    outcome     TEXT NOT NULL,
    code        TEXT,
    message     TEXT,
    uncertain   BOOLEAN NOT NULL DEFAULT false,
    PRIMARY KEY (delivery_id, attempt)
);

CREATE TABLE user_state (
    app        TEXT COLLATE "C" NOT NULL,
    user_id    TEXT COLLATE "C" NOT NULL,
    head_seq   BIGINT NOT NULL DEFAULT 0,
    min_seq    BIGINT NOT NULL DEFAULT 1,
    unread     BIGINT NOT NULL DEFAULT 0 CHECK (unread >= 0),
    unseen     BIGINT NOT NULL DEFAULT 0 CHECK (unseen >= 0),
    total      BIGINT NOT NULL DEFAULT 0 CHECK (total >= 0),
    version    BIGINT NOT NULL DEFAULT 0,
    generation BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (app, user_id)
);

-- Archived and expired items stay as tombstones, so that the sequence has no gaps.
CREATE TABLE feed (
    app             TEXT COLLATE "C" NOT NULL,
    user_id         TEXT COLLATE "C" NOT NULL,
    seq             BIGINT NOT NULL,
    notification_id UUID NOT NULL,
    delivery_id     UUID NOT NULL,
    created_at      BIGINT NOT NULL,
    expires_at      BIGINT,
    read_at         BIGINT,
    seen_at         BIGINT,
    archived_at     BIGINT,
    -- Set by the sweep that turned the item into a tombstone.
    expired_at      BIGINT,
    PRIMARY KEY (app, user_id, seq),
    UNIQUE (app, user_id, notification_id)
);
CREATE INDEX feed_expiry ON feed (expires_at) WHERE expires_at IS NOT NULL AND expired_at IS NULL;
CREATE INDEX feed_age ON feed (created_at);
CREATE INDEX feed_unread ON feed (app, user_id, seq) WHERE read_at IS NULL AND expired_at IS NULL;

-- The newest notification per collapse key, settled or not.
CREATE TABLE collapses (
    app               TEXT COLLATE "C" NOT NULL,
    user_id           TEXT COLLATE "C" NOT NULL,
    notification_type TEXT COLLATE "C" NOT NULL,
    collapse_key      TEXT COLLATE "C" NOT NULL,
    notification_id   UUID NOT NULL,
    updated_at        BIGINT NOT NULL,
    PRIMARY KEY (app, user_id, notification_type, collapse_key)
);
CREATE INDEX collapses_age ON collapses (updated_at);

CREATE TABLE suppressions (
    id                TEXT COLLATE "C" PRIMARY KEY,
    app               TEXT COLLATE "C" NOT NULL,
    channel           TEXT COLLATE "C" NOT NULL,
    -- One of the two: a suppressed address, or a user who unsubscribed from a type.
    address           TEXT COLLATE "C",
    user_id           TEXT COLLATE "C",
    notification_type TEXT COLLATE "C",
    reason            TEXT NOT NULL,
    created_at        BIGINT NOT NULL,
    CHECK ((address IS NULL) <> (user_id IS NULL))
);
CREATE UNIQUE INDEX suppressions_address ON suppressions (app, channel, address) WHERE address IS NOT NULL;
CREATE UNIQUE INDEX suppressions_user ON suppressions (app, channel, user_id, notification_type) WHERE user_id IS NOT NULL;

-- Evidence against an address that does not yet suffice to suppress it.
CREATE TABLE address_faults (
    app        TEXT COLLATE "C" NOT NULL,
    channel    TEXT COLLATE "C" NOT NULL,
    address    TEXT COLLATE "C" NOT NULL,
    kind       TEXT NOT NULL,
    at         BIGINT NOT NULL,
    delivery_id UUID NOT NULL,
    PRIMARY KEY (app, channel, address, kind, delivery_id)
);

CREATE TABLE idempotency (
    app        TEXT COLLATE "C" NOT NULL,
    key        TEXT COLLATE "C" NOT NULL,
    hash       BYTEA NOT NULL,
    response   TEXT NOT NULL,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (app, key)
);
CREATE INDEX idempotency_expiry ON idempotency (expires_at);

CREATE TABLE ws_tickets (
    hash             BYTEA PRIMARY KEY,
    app              TEXT COLLATE "C" NOT NULL,
    user_id          TEXT COLLATE "C" NOT NULL,
    origin           TEXT,
    token_expires_at BIGINT NOT NULL,
    expires_at       BIGINT NOT NULL
);
CREATE INDEX ws_tickets_expiry ON ws_tickets (expires_at);

CREATE TABLE channel_pauses (
    id      BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    channel TEXT COLLATE "C" NOT NULL,
    since   BIGINT NOT NULL,
    ended   BIGINT,
    until   BIGINT,
    reason  TEXT,
    actor   TEXT NOT NULL
);
CREATE UNIQUE INDEX channel_pauses_open ON channel_pauses (channel) WHERE ended IS NULL;
CREATE INDEX channel_pauses_span ON channel_pauses (channel, ended);

CREATE TABLE poison (
    id         BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    source     TEXT NOT NULL,
    hash       BYTEA NOT NULL UNIQUE,
    raw        BYTEA NOT NULL,
    reason     TEXT NOT NULL,
    headers    TEXT,
    created_at BIGINT NOT NULL
);

-- Append-only. Each row's hash covers the one before it.
CREATE TABLE audit (
    id         BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    at         BIGINT NOT NULL,
    actor      TEXT NOT NULL,
    action     TEXT NOT NULL,
    target     TEXT NOT NULL,
    detail     TEXT,
    address    TEXT COLLATE "C",
    request_id TEXT NOT NULL,
    hash       BYTEA NOT NULL
);

-- Rows that are updated a few times within seconds: room on the page keeps those updates out of the indexes.
ALTER TABLE user_state SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);
ALTER TABLE deliveries SET (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.05);
ALTER TABLE feed SET (fillfactor = 90);
