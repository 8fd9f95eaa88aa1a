-- A database that has been in use for thirty days: {n} deliveries, and of everything else what goes with them. Made by
-- statements over whole tables, so that a million rows take a minute.
--
-- Kept apart from the beaten track on purpose: one user with a tenth of all feed items (u0), a paused channel with a long
-- backlog (sms), dead letters of a few reasons, mail that waits until tomorrow.

SET synchronous_commit = off;
SET work_mem = '64MB';

-- An id of version 7: its time, then the row's number.
CREATE FUNCTION pg_temp.id(at BIGINT, i BIGINT) RETURNS UUID LANGUAGE sql IMMUTABLE AS $$
    SELECT (lpad(to_hex(at), 12, '0') || '7' || lpad(to_hex(i & 4095), 3, '0') || '8' || lpad(to_hex(i), 15, '0'))::uuid
$$;

CREATE TEMPORARY TABLE clock AS SELECT CAST(EXTRACT(EPOCH FROM now()) * 1000 AS BIGINT) AS now;

-- One notification for each delivery in app or by mail; every tenth has a second one by mail.
CREATE TEMPORARY TABLE sent AS
SELECT i, at, pg_temp.id(at, i) AS id,
       CASE WHEN i % 10 = 3 THEN 'u0' ELSE 'u' || (hashint8(i) & 2147483647) % GREATEST({n} / 20, 10) END AS user_id,
       (ARRAY['general', 'general', 'general', 'order', 'order', 'comment', 'invoice', 'digest'])[1 + i % 8] AS kind
FROM (SELECT i, clock.now - 2592000000 + i * 2592000000 / {n} - 1000 AS at FROM clock, generate_series(0, {n} * 9 / 10) i) x;

INSERT INTO notifications (id, app, title, message, notification_type, data, priority, created_at, expires_at, collapse_key,
                           cancelled_at, source, request, request_id, idempotency_key)
SELECT id, 'default', 'Title ' || i, repeat('Words. ', 10), kind, '{"order_id":' || i || '}', CASE WHEN i % 50 = 0 THEN 0 ELSE 1 END,
       at, CASE WHEN i % 20 = 7 THEN at + 5184000000 END, CASE WHEN i % 25 = 4 THEN 'k' || i % 1000 END,
       CASE WHEN i % 500 = 0 THEN at + 60000 END, 'api', '{}', 'r' || i, CASE WHEN i % 5 = 0 THEN 'key-' || i END
FROM sent;

-- In app: all but one in ten.
INSERT INTO deliveries (id, notification_id, app, user_id, channel, in_app, state, priority, created_at, due_at, next_attempt_at,
                        expires_at, relay_at, sent_at, settled_at)
SELECT pg_temp.id(at + 1, i), id, 'default', user_id, 'websocket', true, CASE WHEN i % 3 = 0 THEN 'sent' ELSE 'delivered' END, 1,
       at, at, at, CASE WHEN i % 20 = 7 THEN at + 5184000000 END, at, at, at
FROM sent WHERE i % 10 <> 9;

-- By mail: every fifth. Of these few are dead, fewer wait; and by SMS, which is paused: every fiftieth, and they pile up.
INSERT INTO deliveries (id, notification_id, app, user_id, channel, recipient, state, reason, priority, attempt, spent, created_at,
                        due_at, next_attempt_at, expires_at, relay_at, relay_n, sent_at, settled_at, error, destination)
SELECT pg_temp.id(at + 2, i), id, 'default', user_id, 'email', user_id || '@example.org', s.state,
       CASE s.state WHEN 'dead' THEN (ARRAY['permanent', 'attempts', 'max_age'])[1 + i % 3] WHEN 'suppressed' THEN 'unsubscribed'
                    WHEN 'cancelled' THEN 'cancelled' WHEN 'expired' THEN 'expired' END,
       CASE WHEN i % 50 = 0 THEN 0 ELSE 1 END, 1, 1, at, at + s.later, GREATEST(at, clock.now - 600000) + s.later,
       CASE WHEN i % 20 = 7 THEN clock.now + 86400000 END, GREATEST(at, clock.now - 600000) + s.later, 1,
       CASE WHEN s.state IN ('sent', 'delivered') THEN at END, CASE WHEN s.state IN ('pending', 'retrying') THEN NULL ELSE at END,
       CASE WHEN s.state IN ('dead', 'retrying') THEN (ARRAY['550', '552', 'timeout', '421'])[1 + i / 100 % 4] ELSE '' END,
       CASE WHEN s.state IN ('dead', 'retrying') THEN 'example.org' ELSE '' END
FROM clock, sent, LATERAL (
    SELECT CASE WHEN i % 500 = 0 THEN 'cancelled' WHEN i % 100 = 90 THEN 'dead' WHEN i % 200 = 95 THEN 'suppressed'
                WHEN i % 1000 = 45 THEN 'expired' WHEN i > {n} * 80 / 100 AND i % 50 = 15 THEN 'pending'
                WHEN i > {n} * 80 / 100 AND i % 100 = 35 THEN 'retrying' ELSE 'sent' END AS state,
           CASE WHEN i % 100 = 15 AND i > {n} * 80 / 100 THEN 86400000 ELSE 0 END AS later) s
WHERE i % 5 = 0;
INSERT INTO deliveries (id, notification_id, app, user_id, channel, recipient, state, priority, created_at, due_at, next_attempt_at,
                        relay_at)
SELECT pg_temp.id(at + 3, i), id, 'default', user_id, 'sms', '+' || i, 'pending', 1, at, at, at, at
FROM sent WHERE i % 50 = 1;
INSERT INTO channel_pauses (channel, since, ended, actor)
SELECT channel, now - span * 86400000, CASE WHEN span > 1 THEN now - (span - 1) * 86400000 - 1 END, 'anna'
FROM clock, (VALUES ('sms', 1), ('sms', 9), ('email', 5), ('email', 20)) AS p (channel, span);

INSERT INTO attempts (delivery_id, attempt, started_at, duration_ms, outcome, code, message)
SELECT id, 1, created_at, 40, CASE state WHEN 'dead' THEN 'permanent' ELSE 'ok' END, '250', 'OK' FROM deliveries
WHERE channel = 'email' AND state IN ('sent', 'dead', 'retrying');

INSERT INTO feed (app, user_id, seq, notification_id, delivery_id, created_at, expires_at, read_at, seen_at, archived_at)
SELECT 'default', user_id, row_number() OVER (PARTITION BY user_id ORDER BY i), id, pg_temp.id(at + 1, i), at,
       CASE WHEN i % 20 = 7 THEN at + 5184000000 END, CASE WHEN i % 8 > 1 THEN at + 5000 END,
       CASE WHEN i % 8 > 0 THEN at + 4000 END, CASE WHEN i % 16 = 9 THEN at + 9000 END
FROM sent WHERE i % 10 <> 9;
INSERT INTO user_state (app, user_id, head_seq, unread, unseen, total, version)
SELECT app, user_id, max(seq), count(*) FILTER (WHERE read_at IS NULL AND archived_at IS NULL),
       count(*) FILTER (WHERE seen_at IS NULL AND archived_at IS NULL), count(*) FILTER (WHERE archived_at IS NULL), max(seq)
FROM feed GROUP BY app, user_id;
INSERT INTO users (app, user_id, email, locale, created_at, updated_at, disabled_at)
SELECT app, user_id, user_id || '@example.org', 'en', clock.now, clock.now, CASE WHEN head_seq % 97 = 0 THEN clock.now END
FROM clock, user_state;

INSERT INTO collapses (app, user_id, notification_type, collapse_key, notification_id, updated_at)
SELECT DISTINCT ON (user_id, kind, i % 1000) 'default', user_id, kind, 'k' || i % 1000, id, at
FROM sent WHERE i % 25 = 4 ORDER BY user_id, kind, i % 1000, i DESC;
INSERT INTO idempotency (app, key, hash, response, expires_at)
SELECT 'default', 'key-' || i, decode(md5(i::text) || md5(i::text), 'hex'),
       '{"notification_id":"' || id || '","status":"accepted"}', clock.now + i::bigint * 86400000 / {n}
FROM clock, sent WHERE i % 5 = 0 AND i > {n} / 2;
INSERT INTO suppressions (id, app, channel, address, reason, created_at)
SELECT 's' || lpad(i::text, 12, '0'), 'default', 'email', 'gone' || i || '@example.org', 'bounced', clock.now
FROM clock, generate_series(0, {n} / 50) i;
INSERT INTO suppressions (id, app, channel, user_id, notification_type, reason, created_at)
SELECT 't' || lpad(i::text, 12, '0'), 'default', 'email', 'u' || i, 'digest', 'unsubscribed', clock.now
FROM clock, generate_series(0, {n} / 200) i;
INSERT INTO consents (id, app, user_id, channel, notification_type, agreed, actor, at)
SELECT 'c' || lpad(i::text, 12, '0'), 'default', 'u' || i / 10, 'email', 'digest', i % 2 = 1, 'user', clock.now
FROM clock, generate_series(0, {n} / 5) i;
INSERT INTO address_faults (app, channel, address, kind, at, delivery_id)
SELECT app, channel, recipient, 'mailbox_full', created_at, id FROM deliveries WHERE channel = 'email' AND state = 'dead';
INSERT INTO poison (source, hash, raw, reason, headers, created_at)
SELECT 'amqp', decode(md5(i::text), 'hex'), '\x7b', 'title: is required', '{}', clock.now - i * 1000
FROM clock, generate_series(0, {n} / 100) i;
INSERT INTO audit (at, actor, action, target, address, request_id, hash)
SELECT clock.now - 2592000000 + i * 1000, CASE WHEN i % 900 = 7 THEN 'system' ELSE 'admin:anna' END, (ARRAY['channel.pause', 'dead.retry', 'key.create', 'admin.sign_in'])[1 + i % 4],
       't' || i, '10.0.0.' || i % 9, 'r' || i, decode(md5(i::text) || md5(i::text), 'hex')
FROM clock, generate_series(0, {n} / 20) i;
INSERT INTO api_keys (key_id, app, name, secret_hash, scopes, created_at)
SELECT pg_temp.id(clock.now, i), 'default', 'key ' || i, decode(md5(i::text) || md5(i::text), 'hex'), 'send', clock.now
FROM clock, generate_series(0, 50) i;
INSERT INTO audiences (notification_id, spec, recipients, cursor, done_at)
SELECT id, '{}', 500, 500, at FROM sent WHERE i % 1000 = 0;
INSERT INTO ws_tickets (hash, app, user_id, token_expires_at, expires_at)
SELECT decode(md5(i::text), 'hex'), 'default', 'u' || i, clock.now, clock.now + 30000 FROM clock, generate_series(0, 200) i;

INSERT INTO nodes (id, host, address, version, started_at, seen_at, figures)
SELECT pg_temp.id(clock.now, i), 'node-' || i, '10.0.0.' || i || ':8000', '0.1.0', clock.now, clock.now + 600000, '{}'
FROM clock, generate_series(1, 3) i;
INSERT INTO node_connections (node_id, conn_id, app, user_id, transport, protocol, connected_at)
SELECT pg_temp.id(clock.now, 1 + i % 3), pg_temp.id(clock.now, i), 'default', 'u' || i / 2, CASE WHEN i % 9 = 0 THEN 'sse' ELSE 'websocket' END,
       'v1', clock.now
FROM clock, generate_series(0, {n} / 20) i;
INSERT INTO user_seen (app, user_id, seen_at)
SELECT app, user_id, clock.now - (head_seq % 60) * 86400000 FROM clock, user_state;
INSERT INTO api_key_calls (hour, key_id, calls, refused)
SELECT clock.now / 3600000 - h, pg_temp.id(clock.now, i), 100, 3 FROM clock, generate_series(0, 60) h, generate_series(0, 50) i;
INSERT INTO api_key_uses (hour, key_id, kind, name, calls)
SELECT clock.now / 3600000 - h, pg_temp.id(clock.now, i), kind, kind || '-' || h % 3, 50
FROM clock, generate_series(0, 47) h, generate_series(0, 50) i, (VALUES ('route'), ('address')) AS k (kind);
INSERT INTO minutes (at, node, data)
SELECT (clock.now / 60000 - i) * 60000, pg_temp.id(clock.now, k), '{}' FROM clock, generate_series(1, 10080) i, generate_series(1, 2) k;
INSERT INTO marks (at, subject, what)
SELECT clock.now - i * 600000, 'email', 'breaker.open' FROM clock, generate_series(1, 1000) i;
INSERT INTO admins (id, name, role, created_at)
SELECT pg_temp.id(clock.now, i), 'admin' || i, 'operator', clock.now FROM clock, generate_series(1, 20) i;
INSERT INTO admin_sessions (hash, admin_id, created_at, seen_at, expires_at)
SELECT decode(md5(i::text) || md5(i::text), 'hex'), pg_temp.id(clock.now, 1 + i % 20), clock.now, clock.now, clock.now + 86400000
FROM clock, generate_series(0, 500) i;

DROP TABLE sent;
VACUUM ANALYZE;
