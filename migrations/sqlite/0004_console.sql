-- The console: who may sign in, who is signed in, and what the plots of the last week need after a restart.

CREATE TABLE admins (
    id            BLOB PRIMARY KEY,
    -- As typed at the first time; compared without regard to case.
    name          TEXT NOT NULL COLLATE NOCASE UNIQUE,
    role          TEXT NOT NULL CHECK (role IN ('support', 'viewer', 'operator', 'owner')),
    -- PHC text of argon2id; none until the first one-time link was used.
    password      TEXT,
    created_at    INTEGER NOT NULL,
    disabled_at   INTEGER,
    signed_in_at  INTEGER
) WITHOUT ROWID;

-- One-time links, hashed: the first sign-in, and a forgotten password.
CREATE TABLE admin_links (
    hash       BLOB PRIMARY KEY,
    admin_id   BLOB NOT NULL REFERENCES admins (id) ON DELETE CASCADE,
    expires_at INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE admin_sessions (
    -- SHA-256 of the cookie's value.
    hash       BLOB PRIMARY KEY,
    admin_id   BLOB NOT NULL REFERENCES admins (id) ON DELETE CASCADE,
    created_at INTEGER NOT NULL,
    seen_at    INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    address    TEXT,
    user_agent TEXT
) WITHOUT ROWID;
CREATE INDEX admin_sessions_by_admin ON admin_sessions (admin_id);
CREATE INDEX admin_sessions_expiry ON admin_sessions (expires_at);

-- What one node counted in one minute, JSON.
CREATE TABLE minutes (
    at   INTEGER NOT NULL,
    node BLOB NOT NULL,
    data TEXT NOT NULL,
    PRIMARY KEY (at, node)
) WITHOUT ROWID;

-- What the plots are marked with: breakers, restarts, pauses.
CREATE TABLE marks (
    id      INTEGER PRIMARY KEY,
    at      INTEGER NOT NULL,
    subject TEXT NOT NULL,
    what    TEXT NOT NULL
);
CREATE INDEX marks_at ON marks (at);
