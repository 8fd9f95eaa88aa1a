-- Where a notification came from, and what an attempt was made with.

-- W3C `traceparent` as the caller sent it; without one the notification's own id is the trace.
ALTER TABLE notifications ADD COLUMN traceparent TEXT;
-- `key:…`, `admin:…`, `operator`, `amqp`; empty on what was accepted before this was kept.
ALTER TABLE notifications ADD COLUMN sent_by TEXT NOT NULL DEFAULT '';

-- The template and the code of an attempt, each with its version: `email/default 1f8a02c4`, `webhook 1.2.0`.
ALTER TABLE attempts ADD COLUMN template TEXT;
ALTER TABLE attempts ADD COLUMN code_version TEXT;
