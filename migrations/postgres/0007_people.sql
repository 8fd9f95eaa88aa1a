-- The console's look at people and keys.

-- Who made a key; NULL for those of before.
ALTER TABLE api_keys ADD COLUMN created_by TEXT;
-- Somebody by the whole address, whatever its case.
CREATE INDEX users_by_email ON users (app, lower(email)) WHERE email IS NOT NULL;
-- What one person unsubscribed from.
CREATE INDEX suppressions_by_person ON suppressions (app, user_id) WHERE user_id IS NOT NULL;
