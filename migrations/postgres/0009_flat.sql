-- What was found to grow with the tables, at a million deliveries.

-- What an admin sees as scheduled, apart from a backlog that is due.
CREATE INDEX deliveries_scheduled ON deliveries (app, notification_id) WHERE state = 'pending' AND due_at > created_at;
-- An erased user's faults are found by their deliveries.
CREATE INDEX address_faults_delivery ON address_faults (delivery_id);
-- Reasons and errors belong to few states; taken for independent, a third of all dead letters looks like a handful.
CREATE STATISTICS deliveries_why (mcv) ON state, reason, error FROM deliveries;
