//! Bounded counts for the console's lists: by channel and state of each notification shown, by state over a stretch of time.

use super::{
    read::{Reads, now},
    rows::{Cells, json_ids},
    statement::{by_engine, sql},
};
use crate::store::sql::listing::{first_id_of, settled, some_sent};
use campanile_model::{
    AppId, ChannelName, DeliveryId, DeliveryState, NotificationId, Timestamp, UserId,
    api::ShownState,
    ports::{Counted, Lane, MANY, NotificationFilter, StoreResult, Whole},
};
use std::collections::HashMap;

/// How many of the newest deliveries are looked at for the states that most are in.
const NEWEST: u64 = 2 * MANY;
/// How many of the newest of each state that was not delivered: each costs a look at its whole notification.
const CAME_OUT: u64 = 300;

macro_rules! lanes {
    ($engine:ident, $from:literal, $app:literal) => {
        concat!(
            "SELECT d.notification_id, d.channel, d.state, d.state = 'pending' AND d.due_at > ",
            now!($engine),
            " AS due_later, COUNT(*) AS n FROM ",
            $from,
            " WHERE ",
            $app,
            " = $4 GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4"
        )
    };
}

/// One state of few: an index ends in the notification's id.
macro_rules! rare {
    ($engine:ident, $state:literal) => {
        concat!(
            "SELECT '",
            $state,
            "' AS state, COUNT(DISTINCT CASE WHEN due_at <= ",
            now!($engine),
            " THEN notification_id END) AS due, COUNT(DISTINCT CASE WHEN due_at > ",
            now!($engine),
            " THEN notification_id END) AS later
             FROM (SELECT due_at, notification_id FROM deliveries WHERE app = $2 AND state = '",
            $state,
            "' AND state NOT IN ('sent', 'delivered') AND notification_id >= $3 LIMIT $4) AS few"
        )
    };
}

macro_rules! states {
    ($engine:ident) => {
        concat!(
            rare!($engine, "pending"),
            " UNION ALL ",
            rare!($engine, "sending"),
            " UNION ALL ",
            rare!($engine, "retrying"),
            " UNION ALL ",
            rare!($engine, "dead"),
            " UNION ALL ",
            rare!($engine, "expired"),
            " UNION ALL ",
            rare!($engine, "suppressed"),
            " UNION ALL ",
            rare!($engine, "cancelled"),
            " UNION ALL SELECT 'sent', COUNT(DISTINCT notification_id), 0
               FROM (SELECT notification_id, state, app FROM deliveries WHERE notification_id >= $3
                     ORDER BY notification_id DESC LIMIT $5) AS newest
               WHERE state IN ('sent', 'delivered') AND app = $2"
        )
    };
}

/// The newest in a state, and whether they failed.
macro_rules! newest {
    ($state:literal, $failed:literal) => {
        concat!(
            "SELECT * FROM (SELECT app, notification_id, ",
            $failed,
            " AS failed FROM deliveries WHERE app = $1 AND state = '",
            $state,
            "' AND state NOT IN ('sent', 'delivered') AND notification_id >= $2 ORDER BY notification_id DESC LIMIT $3) AS ",
            $state
        )
    };
}

/// Told like a list's filter: of whom, by what, with which error.
macro_rules! among {
    ($engine:ident, $from:literal, $app:literal) => {
        concat!(
            "SELECT d.state, d.state = 'pending' AND d.due_at > ",
            now!($engine),
            " AS due_later, COUNT(DISTINCT d.notification_id) AS n FROM ",
            $from,
            " WHERE ",
            $app,
            " = $4 AND ($5 IS NULL OR d.user_id = $5) AND ($6 IS NULL OR d.channel = $6)
              AND ($7 IS NULL OR lower(d.error) = lower($7) OR d.reason = $7) GROUP BY 1, 2 ORDER BY 1, 2"
        )
    };
}

impl Reads {
    pub async fn whole_counts(&self, app: &AppId, since: Timestamp) -> StoreResult<HashMap<Whole, Counted>> {
        // Each notification is looked at once, whatever came of its deliveries.
        const COUNTS: &str = concat!(
            "WITH seen AS MATERIALIZED (",
            newest!("dead", "1"),
            " UNION ALL ",
            newest!("expired", "0"),
            " UNION ALL ",
            newest!("suppressed", "0"),
            " UNION ALL ",
            newest!("cancelled", "0"),
            "), came AS MATERIALIZED (SELECT failed, ",
            some_sent!("NOT "),
            " AS sent FROM (SELECT app, notification_id, MAX(failed) AS failed FROM seen GROUP BY app, notification_id) d
               WHERE ",
            settled!(),
            ") SELECT (SELECT COUNT(*) FROM seen) AS seen, (SELECT COUNT(*) FROM seen WHERE failed = 1) AS failed_seen,
                      (SELECT COUNT(*) FROM came WHERE sent) AS partly, (SELECT COUNT(*) FROM came WHERE failed = 1 AND NOT sent) AS failed"
        );
        let most = i64::try_from(CAME_OUT).unwrap_or(i64::MAX);
        let since = first_id_of(since.timestamp_millis());
        let rows = self.fetch("whole_counts", sql(COUNTS).bind(app.as_str()).bind(since).bind(most)).await?;
        let mut counts = HashMap::new();
        for row in &rows {
            let c = Cells::of("deliveries", row);
            for (whole, n, seen) in [(Whole::Partly, "partly", "seen"), (Whole::Failed, "failed", "failed_seen")] {
                counts.insert(whole, Counted { n: c.count(n)?, more: c.count(seen)? >= CAME_OUT });
            }
        }
        Ok(counts)
    }

    pub async fn states_among(
        &self,
        filter: &NotificationFilter,
        ids: &[NotificationId],
    ) -> StoreResult<Vec<(ShownState, u64)>> {
        let ask = by_engine(
            among!(
                sqlite,
                "json_each($2) j CROSS JOIN deliveries d ON d.id IN (
                    SELECT x.id FROM deliveries x WHERE x.notification_id = unhex(j.value) LIMIT $3)",
                "+d.app"
            ),
            among!(
                postgres,
                "jsonb_array_elements_text($2::jsonb) AS j (value) CROSS JOIN LATERAL (
                    SELECT * FROM deliveries x WHERE x.notification_id = j.value::uuid LIMIT $3) d",
                "d.app"
            ),
        );
        let ask = ask
            .bind(self.offset())
            .bind(json_ids(ids.iter().map(|id| id.0)))
            .bind(i64::try_from(MANY).unwrap_or(i64::MAX))
            .bind(filter.app.as_str())
            .bind(filter.user.as_ref().map(UserId::as_str))
            .bind(filter.channel.as_ref().map(ChannelName::as_str))
            .bind(filter.error.as_deref());
        let rows = self.fetch("states_among", ask).await?;
        rows.iter()
            .map(|row| {
                let c = Cells::of("deliveries", row);
                Ok((ShownState::of(c.state("state")?, c.flag("due_later")?), c.count("n")?))
            })
            .collect()
    }

    pub async fn lanes(&self, app: &AppId, ids: &[NotificationId]) -> StoreResult<HashMap<NotificationId, Vec<Lane>>> {
        let rows = self
            .fetch(
                "lanes",
                by_engine(
                    lanes!(
                        sqlite,
                        "json_each($2) j CROSS JOIN deliveries d ON d.id IN (
                            SELECT x.id FROM deliveries x WHERE x.notification_id = unhex(j.value) LIMIT $3)",
                        // Not by an index: SQLite would rather walk over all of an app's than look at the few.
                        "+d.app"
                    ),
                    lanes!(
                        postgres,
                        "jsonb_array_elements_text($2::jsonb) AS j (value) CROSS JOIN LATERAL (
                            SELECT * FROM deliveries x WHERE x.notification_id = j.value::uuid LIMIT $3) d",
                        "d.app"
                    ),
                )
                .bind(self.offset())
                .bind(json_ids(ids.iter().map(|id| id.0)))
                .bind(i64::try_from(MANY).unwrap_or(i64::MAX))
                .bind(app.as_str()),
            )
            .await?;
        let mut out: HashMap<NotificationId, Vec<Lane>> = HashMap::new();
        for row in &rows {
            let c = Cells::of("deliveries", row);
            let lane = Lane {
                channel: c.channel("channel")?,
                shown: ShownState::of(c.state("state")?, c.flag("due_later")?),
                count: c.count("n")?,
            };
            out.entry(c.notification_id("notification_id")?).or_default().push(lane);
        }
        Ok(out)
    }

    pub async fn notification_of(&self, app: &AppId, delivery: DeliveryId) -> StoreResult<Option<NotificationId>> {
        let ask = sql("SELECT notification_id FROM deliveries WHERE id = $1 AND app = $2");
        let row = self.fetch_opt("notification_of", ask.bind(delivery.0).bind(app.as_str())).await?;
        row.map(|row| Cells::of("deliveries", &row).notification_id("notification_id")).transpose()
    }

    pub async fn state_counts(&self, app: &AppId, since: Timestamp) -> StoreResult<Vec<(ShownState, u64)>> {
        let most = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let rows = self
            .fetch(
                "state_counts",
                by_engine(states!(sqlite), states!(postgres))
                    .bind(self.offset())
                    .bind(app.as_str())
                    .bind(first_id_of(since.timestamp_millis()))
                    .bind(most(MANY))
                    .bind(most(NEWEST)),
            )
            .await?;
        let mut out = Vec::new();
        for row in &rows {
            let c = Cells::of("deliveries", row);
            let state = c.state("state")?;
            let (due, later) = (c.count("due")?, c.count("later")?);
            if state == DeliveryState::Pending {
                out.push((ShownState::Stored(state), due));
                out.push((ShownState::Scheduled, later));
            } else {
                out.push((ShownState::Stored(state), due + later));
            }
        }
        Ok(out)
    }
}
