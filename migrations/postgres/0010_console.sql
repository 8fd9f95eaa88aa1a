-- The console's actions and figures: where a key may be used from and what it does, when somebody was last here.

-- Networks a key may be used from, parted by commas; empty: anywhere.
ALTER TABLE api_keys ADD COLUMN networks TEXT NOT NULL DEFAULT '';
ALTER TABLE api_keys ADD COLUMN last_used_from TEXT;
ALTER TABLE api_keys ADD COLUMN last_used_for TEXT;

-- Calls by the hour; older than two days are deleted by whoever writes.
CREATE TABLE api_key_calls (
    hour    BIGINT NOT NULL,
    key_id  UUID NOT NULL,
    calls   BIGINT NOT NULL,
    -- Answered with 4xx.
    refused BIGINT NOT NULL,
    PRIMARY KEY (hour, key_id)
);

-- When somebody last connected, to the hour.
CREATE TABLE user_seen (
    app     TEXT COLLATE "C" NOT NULL,
    user_id TEXT COLLATE "C" NOT NULL,
    seen_at BIGINT NOT NULL,
    PRIMARY KEY (app, user_id)
);
CREATE INDEX user_seen_since ON user_seen (app, seen_at);
