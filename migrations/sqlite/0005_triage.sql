-- Dead letters by their cause, out of sight when somebody is done with them; bulk acts; which node made an attempt.

ALTER TABLE attempts ADD COLUMN node BLOB;

-- Of the last attempt that failed: its code, else its outcome.
ALTER TABLE deliveries ADD COLUMN error TEXT NOT NULL DEFAULT '';
-- Domain of the address or host of the URL, written down with it.
ALTER TABLE deliveries ADD COLUMN destination TEXT NOT NULL DEFAULT '';
-- A dead letter that somebody put out of sight. It stays dead: only a replay leads out of that.
ALTER TABLE deliveries ADD COLUMN dismissed_at INTEGER;

UPDATE deliveries SET
    error = COALESCE((SELECT COALESCE(t.code, t.outcome) FROM attempts t
                      WHERE t.delivery_id = deliveries.id AND t.outcome <> 'ok' ORDER BY t.attempt DESC LIMIT 1), ''),
    destination = COALESCE(CASE WHEN instr(recipient, '@') > 0 THEN lower(substr(recipient, instr(recipient, '@') + 1)) ELSE '' END, '')
WHERE state IN ('dead', 'retrying');

-- Grouped, counted and listed without a look at the rows.
CREATE INDEX deliveries_dead_groups ON deliveries (app, channel, reason, error, destination, id, settled_at)
    WHERE state = 'dead' AND dismissed_at IS NULL;
DROP INDEX deliveries_dead;
CREATE INDEX deliveries_dead ON deliveries (app, id, channel) WHERE state = 'dead' AND dismissed_at IS NULL;
DROP INDEX deliveries_dead_by_channel;
CREATE INDEX deliveries_dead_by_channel ON deliveries (channel, state) WHERE state = 'dead' AND dismissed_at IS NULL;

-- What an admin set in motion for many at once. The node that began it works on it; every node shows it.
CREATE TABLE tasks (
    id         BLOB PRIMARY KEY,
    node       BLOB NOT NULL,
    what       TEXT NOT NULL,
    subject    TEXT NOT NULL,
    actor      TEXT NOT NULL,
    total      INTEGER NOT NULL,
    done       INTEGER NOT NULL DEFAULT 0,
    skipped    INTEGER NOT NULL DEFAULT 0,
    started_at INTEGER NOT NULL,
    beat_at    INTEGER NOT NULL,
    ended_at   INTEGER,
    stopped_by TEXT
) WITHOUT ROWID;
CREATE INDEX tasks_open ON tasks (ended_at);
