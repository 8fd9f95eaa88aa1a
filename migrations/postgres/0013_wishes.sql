-- The console's lists of people by what is so of them, and what they chose over time.

-- Each no and each yes, with who said it.
CREATE TABLE consents (
    id                TEXT COLLATE "C" PRIMARY KEY,
    app               TEXT COLLATE "C" NOT NULL,
    user_id           TEXT COLLATE "C" NOT NULL,
    channel           TEXT COLLATE "C" NOT NULL,
    -- NULL: everything.
    notification_type TEXT COLLATE "C",
    agreed            BOOLEAN NOT NULL,
    -- 'user': they themselves. Empty: before this was written down.
    actor             TEXT NOT NULL,
    at                BIGINT NOT NULL
);
CREATE INDEX consents_by_person ON consents (app, user_id, id);
INSERT INTO consents (id, app, user_id, channel, notification_type, agreed, actor, at)
SELECT id, app, user_id, channel, notification_type, false, '', created_at FROM suppressions WHERE user_id IS NOT NULL;

-- Newest first: all who said no, or to one type by one channel; all addresses held back, or by one channel for one reason.
CREATE INDEX suppressions_choices ON suppressions (app, id) WHERE user_id IS NOT NULL;
CREATE INDEX suppressions_of_type ON suppressions (app, channel, notification_type, id) WHERE user_id IS NOT NULL;
CREATE INDEX suppressions_held ON suppressions (app, id) WHERE address IS NOT NULL;
CREATE INDEX suppressions_for_reason ON suppressions (app, channel, reason, id) WHERE address IS NOT NULL;
-- Who was here last, latest first.
CREATE INDEX user_seen_latest ON user_seen (app, seen_at, user_id);
DROP INDEX user_seen_since;
