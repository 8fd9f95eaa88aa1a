-- The audit log's two ends, so that a cut at either shows; and the indexes that its filters use.

CREATE TABLE audit_chain (
    one         INT PRIMARY KEY CHECK (one = 1),
    -- The last entry that retention took: the oldest one kept follows from it. NULL: not known, as an older version took it.
    anchor_id   BIGINT NOT NULL,
    anchor_hash BYTEA,
    -- The newest entry. Who appends locks this row, so the chain never forks.
    head_id     BIGINT NOT NULL,
    head_hash   BYTEA NOT NULL
);
INSERT INTO audit_chain (one, anchor_id, anchor_hash, head_id, head_hash)
SELECT 1, COALESCE(MIN(id), 1) - 1, CASE WHEN COALESCE(MIN(id), 1) = 1 THEN ''::bytea END, COALESCE(MAX(id), 0),
       COALESCE((SELECT hash FROM audit ORDER BY id DESC LIMIT 1), ''::bytea)
FROM audit;

CREATE INDEX audit_by_actor ON audit (actor, id);
CREATE INDEX audit_by_action ON audit (action, id);
CREATE INDEX audit_by_target ON audit (target, id);
CREATE INDEX audit_at ON audit (at);
