-- Lists narrowed twice: who and by what stand in the index, so that a person's hundred thousand, or all that is dead, are
-- looked through without their rows.
DROP INDEX deliveries_by_user;
CREATE INDEX deliveries_by_user ON deliveries (app, user_id, notification_id, channel);
DROP INDEX deliveries_by_state;
CREATE INDEX deliveries_by_state ON deliveries (app, state, notification_id, user_id, channel)
    WHERE state NOT IN ('sent', 'delivered');
