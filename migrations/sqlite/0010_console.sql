-- The console's actions and figures: where a key may be used from and what it does, when somebody was last here.

-- Networks a key may be used from, parted by commas; empty: anywhere.
ALTER TABLE api_keys ADD COLUMN networks TEXT NOT NULL DEFAULT '';
ALTER TABLE api_keys ADD COLUMN last_used_from TEXT;
ALTER TABLE api_keys ADD COLUMN last_used_for TEXT;

-- Calls by the hour; older than two days are deleted by whoever writes.
CREATE TABLE api_key_calls (
    hour    INTEGER NOT NULL,
    key_id  BLOB NOT NULL,
    calls   INTEGER NOT NULL,
    -- Answered with 4xx.
    refused INTEGER NOT NULL,
    PRIMARY KEY (hour, key_id)
) WITHOUT ROWID;

-- When somebody last connected, to the hour.
CREATE TABLE user_seen (
    app     TEXT NOT NULL,
    user_id TEXT NOT NULL,
    seen_at INTEGER NOT NULL,
    PRIMARY KEY (app, user_id)
) WITHOUT ROWID;
CREATE INDEX user_seen_since ON user_seen (app, seen_at);
