-- The console's lists of people by what is so of them, and what they chose over time.

-- Each no and each yes, with who said it.
CREATE TABLE consents (
    id                TEXT PRIMARY KEY,
    app               TEXT NOT NULL,
    user_id           TEXT NOT NULL,
    channel           TEXT NOT NULL,
    -- NULL: everything.
    notification_type TEXT,
    agreed            INTEGER NOT NULL,
    -- 'user': they themselves. Empty: before this was written down.
    actor             TEXT NOT NULL,
    at                INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX consents_by_person ON consents (app, user_id, id);
INSERT INTO consents (id, app, user_id, channel, notification_type, agreed, actor, at)
SELECT id, app, user_id, channel, notification_type, 0, '', created_at FROM suppressions WHERE user_id IS NOT NULL;

-- Newest first: all who said no, or to one type by one channel; all addresses held back, or by one channel for one reason.
CREATE INDEX suppressions_choices ON suppressions (app, id) WHERE user_id IS NOT NULL;
CREATE INDEX suppressions_of_type ON suppressions (app, channel, notification_type, id) WHERE user_id IS NOT NULL;
CREATE INDEX suppressions_held ON suppressions (app, id) WHERE address IS NOT NULL;
CREATE INDEX suppressions_for_reason ON suppressions (app, channel, reason, id) WHERE address IS NOT NULL;
