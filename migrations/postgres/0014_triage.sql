-- What the pages of dead letters, keys and the audit log are filtered by, and what used a key.

-- By when they were given up on: of all, and of one cause.
CREATE INDEX deliveries_dead_at ON deliveries (app, settled_at, id, channel, reason, error, destination)
    WHERE state = 'dead' AND dismissed_at IS NULL;
DROP INDEX deliveries_dead_groups;
CREATE INDEX deliveries_dead_groups ON deliveries (app, channel, reason, error, destination, settled_at, id)
    WHERE state = 'dead' AND dismissed_at IS NULL;

-- Where an entry came from follows from who wrote it; worked out here, so that it is the same for entries of any version.
ALTER TABLE audit ADD COLUMN source TEXT GENERATED ALWAYS AS (
    CASE WHEN actor = 'stranger' OR substr(actor, 1, 6) = 'admin:' THEN 'web'
         WHEN substr(actor, 1, 4) = 'key:' OR (actor = 'operator' AND request_id <> '') THEN 'api'
         WHEN substr(actor, 1, 5) = 'user:' THEN 'link'
         WHEN actor = 'system' THEN 'system'
         ELSE 'cli' END) STORED;
CREATE INDEX audit_by_source ON audit (source, id);
CREATE INDEX audit_by_address ON audit (address, id);
CREATE INDEX audit_by_request ON audit (request_id, id);

-- Answered with 401 or 403, or refused at the door: an ended key, a wrong secret.
ALTER TABLE api_key_calls ADD COLUMN denied BIGINT NOT NULL DEFAULT 0;

-- What used a key, by the hour: its routes and the addresses it came from, the first few of each hour and the rest together.
-- Kept as long as the calls beside it.
CREATE TABLE api_key_uses (
    hour   BIGINT NOT NULL,
    key_id UUID NOT NULL,
    kind   TEXT NOT NULL CHECK (kind IN ('route', 'address')),
    -- Empty: the rest.
    name   TEXT COLLATE "C" NOT NULL,
    calls  BIGINT NOT NULL,
    PRIMARY KEY (hour, key_id, kind, name)
);
