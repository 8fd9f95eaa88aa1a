-- What operators filter by is found by an index of its own, newest first, however rare it is in a long list. An id begins
-- with its time, so the order of ids is the order of acceptance.

-- Whatever concerns one person. (The order of deliveries' own ids served nobody.)
DROP INDEX deliveries_by_user;
CREATE INDEX deliveries_by_user ON deliveries (app, user_id, notification_id);
-- The states that few rows are in: most rows are sent or delivered, and those are found by walking the newest.
CREATE INDEX deliveries_by_state ON deliveries (app, state, notification_id) WHERE state NOT IN ('sent', 'delivered');
-- In-app is what nearly every notification has.
CREATE INDEX deliveries_by_channel ON deliveries (app, channel, notification_id) WHERE NOT in_app;
CREATE INDEX notifications_by_type ON notifications (app, notification_type, id);

-- What is too old is looked for channel by channel, so that a paused one's backlog is never walked over.
DROP INDEX deliveries_due;
CREATE INDEX deliveries_due ON deliveries (channel, due_at) WHERE state IN ('pending', 'retrying');
CREATE INDEX address_faults_age ON address_faults (at);
-- Counted by channel without a look at the rows.
CREATE INDEX deliveries_dead_by_channel ON deliveries (channel, state) WHERE state = 'dead';
