-- Where a notification came from: the trace it is part of, and whose key or hand sent it.

-- W3C `traceparent` as the caller sent it; without one the notification's own id is the trace.
ALTER TABLE notifications ADD COLUMN traceparent TEXT;
-- `key:…`, `admin:…`, `operator`, `amqp`; empty on what was accepted before this was kept.
ALTER TABLE notifications ADD COLUMN sent_by TEXT NOT NULL DEFAULT '';
