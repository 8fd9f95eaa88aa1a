//! The operators' list of notifications: by whatever it is filtered, newest first, without walking over what is not shown.
//!
//! The rarest thing that was asked for leads, through an index of its own that ends in the notification's id; the rest is
//! looked at row by row. PostgreSQL soon plans a statement without its values, so each leader is a text of its own. Where
//! the order could come from more than one index, row comparisons leave only the wanted one.

use super::{
    inspect::notification_row,
    read::{Reads, now},
    rows::{Cells, notification_columns},
    statement::{Sql, by_engine},
};
use campanile_model::{
    ChannelName, DeliveryState, NotificationId, Timestamp, UserId,
    api::ShownState,
    ports::{NotificationFilter, NotificationRow, StoreResult, Whole},
};
use std::time::Duration;
use uuid::Uuid;

/// An id's time and `created_at` are two looks at one clock.
const BETWEEN_LOOKS: Duration = Duration::from_mins(1);

/// What every text binds, in this order.
macro_rules! columns {
    () => {
        concat!(
            "SELECT n.id, n.request, n.source, n.sent_by, n.idempotency_key, n.cancelled_at, a.recipients, a.cursor, ",
            notification_columns!()
        )
    };
}

/// Conditions on the notification that lead nobody.
macro_rules! told {
    ($n:literal) => {
        concat!(told!($n, typed), " AND ($7 IS NULL OR ", $n, ".notification_type = $7)")
    };
    // Where its type leads already. Said twice, PostgreSQL takes the type alone for the start and walks all of it.
    ($n:literal, typed) => {
        concat!(
            " ($5 IS NULL OR ",
            $n,
            ".created_at >= $5) AND ($6 IS NULL OR ",
            $n,
            ".created_at < $6) AND ($8 IS NULL OR ",
            $n,
            ".idempotency_key = $8)"
        )
    };
}

/// Conditions on one of its deliveries.
macro_rules! to_someone {
    ($engine:ident) => {
        concat!(
            " ($9 IS NULL OR d.user_id = $9) AND ($10 IS NULL OR d.channel = $10)
              AND ($11 IS NULL OR d.state = $11 OR ($12 = 2 AND d.state = 'delivered'))
              AND ($12 IS NULL OR $12 = 2 OR $12 = CASE WHEN d.due_at > ",
            now!($engine),
            " THEN 1 ELSE 0 END)"
        )
    };
}

/// Led by `notifications`: `$lead` finds them in order; `$having` looks at their deliveries.
macro_rules! by_notification {
    ($told:expr, $lead:literal, $having:expr, $order:literal) => {
        concat!(
            columns!(),
            " FROM notifications n LEFT JOIN audiences a ON a.notification_id = n.id WHERE ",
            $lead,
            " AND",
            $told,
            $having,
            " ORDER BY ",
            $order,
            " LIMIT $13"
        )
    };
}

/// A scalar, so that it stays a look at each row and never becomes a join with all deliveries.
macro_rules! having {
    ($engine:ident) => {
        concat!(
            " AND (SELECT 1 FROM deliveries d WHERE d.notification_id = n.id AND",
            to_someone!($engine),
            " LIMIT 1) = 1"
        )
    };
}

/// SQLite keeps the order of what is joined so; PostgreSQL knows better.
macro_rules! led {
    (sqlite) => {
        "CROSS JOIN"
    };
    (postgres) => {
        "JOIN"
    };
}

/// Led by `deliveries`, each notification once.
macro_rules! by_delivery {
    ($engine:ident, $lead:literal, $dir:literal) => {
        by_delivery!($engine, "deliveries", $lead, $dir)
    };
    ($engine:ident, $from:expr, $lead:literal, $dir:literal) => {
        concat!(
            columns!(),
            " FROM (SELECT DISTINCT d.notification_id AS id
                    FROM ",
            $from,
            " d ",
            led!($engine),
            " notifications m ON m.id = d.notification_id
                    WHERE d.app = $2 AND ",
            $lead,
            " AND d.notification_id < $3 AND d.notification_id >= $4 AND",
            told!("m"),
            " AND",
            to_someone!($engine),
            " ORDER BY d.notification_id ",
            $dir,
            " LIMIT $13) hit
             JOIN notifications n ON n.id = hit.id LEFT JOIN audiences a ON a.notification_id = n.id
             ORDER BY n.id DESC"
        )
    };
}

/// The newest of one state that failed: so many are looked through for an error, however many there are.
macro_rules! newest_failed {
    ($state:literal) => {
        newest_failed!($state, "5000")
    };
    ($state:literal, $most:literal) => {
        concat!(
            "SELECT * FROM (SELECT app, notification_id, user_id, channel, state, due_at, error, reason FROM deliveries
                WHERE app = $2 AND state = '",
            $state,
            "' AND state NOT IN ('sent', 'delivered') AND notification_id < $3 AND notification_id >= $4
                ORDER BY notification_id DESC LIMIT ",
            $most,
            ") AS ",
            $state
        )
    };
}

/// What failed or is tried again, by how it failed.
macro_rules! failed {
    () => {
        concat!("(", newest_failed!("dead"), " UNION ALL ", newest_failed!("retrying"), ")")
    };
}

/// What was not delivered and never will be, whatever the reason.
macro_rules! undelivered {
    () => {
        concat!(
            "(",
            newest_failed!("dead", "1000"),
            " UNION ALL ",
            newest_failed!("expired", "1000"),
            " UNION ALL ",
            newest_failed!("suppressed", "1000"),
            " UNION ALL ",
            newest_failed!("cancelled", "1000"),
            ")"
        )
    };
}

/// Nothing of the notification of `d` is under way. Each look is at one place of an index, however large its audience is.
macro_rules! settled {
    () => {
        concat!(
            settled!("pending"),
            " AND ",
            settled!("sending"),
            " AND ",
            settled!("retrying"),
            // Few at any time; asked once for all.
            " AND d.notification_id NOT IN (SELECT notification_id FROM audiences WHERE done_at IS NULL)"
        )
    };
    ($state:literal) => {
        concat!(
            "(SELECT 1 FROM deliveries o WHERE o.app = d.app AND o.state = '",
            $state,
            "' AND o.state NOT IN ('sent', 'delivered') AND o.notification_id = d.notification_id LIMIT 1) IS NULL"
        )
    };
}
pub(crate) use settled;

/// Some of it was delivered, or none: of its first thousand, as for the word in the list.
macro_rules! some_sent {
    ($which:literal) => {
        concat!(
            "(SELECT 1 FROM (SELECT state FROM deliveries o WHERE o.notification_id = d.notification_id LIMIT 1000) few
              WHERE state IN ('sent', 'delivered') LIMIT 1) IS ",
            $which,
            "NULL"
        )
    };
}
pub(crate) use some_sent;

/// Notifications with one of these that came out so; each is looked at once.
macro_rules! came_out {
    ($windows:expr, $sent:literal, $upwards:expr) => {
        if $upwards { came_out!($windows, $sent, dir "ASC") } else { came_out!($windows, $sent, dir "DESC") }
    };
    ($windows:expr, $sent:literal, dir $dir:literal) => {{
        const CAME_OUT: &str = concat!(
            columns!(),
            " FROM (SELECT d.notification_id AS id
                    FROM (SELECT DISTINCT app, notification_id FROM ",
            $windows,
            " w WHERE ($9 IS NULL OR w.user_id = $9) AND ($10 IS NULL OR w.channel = $10)
                       AND ($14 IS NULL OR lower(w.error) = lower($14) OR w.reason = $14)
                       AND ($1 IS NOT NULL AND $11 IS NULL AND $12 IS NULL)) d
                    JOIN notifications m ON m.id = d.notification_id
                    WHERE",
            told!("m"),
            " AND ",
            settled!(),
            " AND ",
            some_sent!($sent),
            " ORDER BY d.notification_id ",
            $dir,
            " LIMIT $13) hit
             JOIN notifications n ON n.id = hit.id LEFT JOIN audiences a ON a.notification_id = n.id
             ORDER BY n.id DESC"
        );
        by_engine(CAME_OUT, CAME_OUT)
    }};
}

/// The same over and over: nothing is asked of deliveries or something is, in which dialect, in which direction.
macro_rules! walk {
    ($told:expr, $lead:literal, $down:literal, $up:literal, $of_deliveries:expr, $upwards:expr) => {
        if $upwards { walk!($told, $lead, $up, $of_deliveries) } else { walk!($told, $lead, $down, $of_deliveries) }
    };
    ($told:expr, $lead:literal, $order:literal, $of_deliveries:expr) => {
        if $of_deliveries {
            by_engine(
                by_notification!($told, $lead, having!(sqlite), $order),
                by_notification!($told, $lead, having!(postgres), $order),
            )
        } else {
            // `$1` and `$9` to `$12` are bound all the same.
            const WALK: &str = by_notification!(
                $told,
                $lead,
                " AND ($1 IS NOT NULL AND $9 IS NULL AND $10 IS NULL AND $11 IS NULL AND $12 IS NULL)",
                $order
            );
            by_engine(WALK, WALK)
        }
    };
}

/// Led by deliveries, in both dialects and directions.
macro_rules! hits {
    ($sqlite:literal, $postgres:literal, $upwards:expr) => {
        if $upwards {
            by_engine(by_delivery!(sqlite, $sqlite, "ASC"), by_delivery!(postgres, $postgres, "ASC"))
        } else {
            by_engine(by_delivery!(sqlite, $sqlite, "DESC"), by_delivery!(postgres, $postgres, "DESC"))
        }
    };
}

/// SQLite reads a table without row ids as soon as a column of it is asked for, whatever the index could have told. So what
/// an index knows is looked through by itself (`x`), and rows (`o`) are read of what is left.
macro_rules! by_index {
    ($state:literal, $between:literal) => {
        concat!(
            "(SELECT x.app, x.user_id, x.notification_id, x.channel, ",
            $state,
            ".state, o.due_at FROM deliveries x CROSS JOIN ",
            $between,
            "deliveries o ON o.id = x.id)"
        )
    };
}

/// Like [`hits`], with what SQLite looks through.
macro_rules! narrowed {
    ($from:expr, $sqlite:literal, $postgres:literal, $upwards:expr) => {
        if $upwards {
            by_engine(by_delivery!(sqlite, $from, $sqlite, "ASC"), by_delivery!(postgres, $postgres, "ASC"))
        } else {
            by_engine(by_delivery!(sqlite, $from, $sqlite, "DESC"), by_delivery!(postgres, $postgres, "DESC"))
        }
    };
}

/// Which text finds it, by what is asked for.
fn led_by<'q>(filter: &NotificationFilter, state: Option<DeliveryState>) -> Sql<'q> {
    let in_app = filter.channel.as_ref() == Some(&ChannelName::websocket());
    let common = matches!(state, Some(DeliveryState::Sent | DeliveryState::Delivered));
    let of_deliveries = filter.user.is_some() || filter.channel.is_some() || state.is_some();
    let up = filter.after.is_some();
    match filter.whole {
        Some(Whole::Failed) => return came_out!(concat!("(", newest_failed!("dead", "1000"), ")"), "", up),
        Some(Whole::Partly) => return came_out!(undelivered!(), "NOT ", up),
        None => {}
    }
    if filter.error.is_some() {
        return if up {
            by_engine(
                by_delivery!(sqlite, failed!(), "(lower(d.error) = lower($14) OR d.reason = $14)", "ASC"),
                by_delivery!(postgres, failed!(), "(lower(d.error) = lower($14) OR d.reason = $14)", "ASC"),
            )
        } else {
            by_engine(
                by_delivery!(sqlite, failed!(), "(lower(d.error) = lower($14) OR d.reason = $14)", "DESC"),
                by_delivery!(postgres, failed!(), "(lower(d.error) = lower($14) OR d.reason = $14)", "DESC"),
            )
        };
    }
    if filter.idempotency_key.is_some() {
        return walk!(
            told!("n"),
            "n.app = $2 AND n.idempotency_key = $8 AND n.id < $3 AND n.id >= $4",
            "n.id DESC",
            "n.id",
            of_deliveries,
            up
        );
    }
    if filter.user.is_some() && state.is_some() && !common {
        // Few are in such a state, and the index that has them in order has whose they are: SQLite is told, PostgreSQL counts.
        return narrowed!(
            by_index!("x", ""),
            "+d.user_id = $9 AND d.state = $11 AND d.state NOT IN ('sent', 'delivered')",
            "d.user_id = $9 AND d.state = $11 AND d.state NOT IN ('sent', 'delivered')",
            up
        );
    }
    if filter.user.is_some() && filter.channel.is_some() {
        return narrowed!(by_index!("o", ""), "d.user_id = $9", "d.user_id = $9 AND d.channel = $10", up);
    }
    if filter.user.is_some() && filter.notification_type.is_some() {
        return narrowed!(
            by_index!(
                "o",
                "notifications t INDEXED BY notifications_by_type
                 ON t.app = x.app AND t.notification_type = $7 AND t.id = x.notification_id CROSS JOIN "
            ),
            "d.user_id = $9",
            "d.user_id = $9 AND m.app = $2 AND m.notification_type = $7",
            up
        );
    }
    if filter.user.is_some() {
        return hits!("d.user_id = $9", "d.user_id = $9", up);
    }
    if filter.state == Some(ShownState::Scheduled) {
        // Due after it was made: an index of its own, for what is due and waits may be a long backlog.
        return hits!(
            "d.state = 'pending' AND d.due_at > d.created_at",
            "d.state = 'pending' AND d.due_at > d.created_at",
            up
        );
    }
    if state.is_some() && !common {
        return narrowed!(
            by_index!("x", ""),
            "d.state = $11 AND d.state NOT IN ('sent', 'delivered')",
            "d.state = $11 AND d.state NOT IN ('sent', 'delivered')",
            up
        );
    }
    if filter.channel.is_some() && !in_app {
        return hits!("d.channel = $10 AND d.in_app = 0", "d.channel = $10 AND NOT d.in_app", up);
    }
    if filter.notification_type.is_some() && filter.since.is_some() {
        // Both ends by the id itself: PostgreSQL walks on past the lower end of a comparison of rows.
        return walk!(
            told!("n", typed),
            "n.app = $2 AND n.notification_type = $7 AND n.id < $3 AND n.id >= $4",
            "n.id DESC",
            "n.id",
            of_deliveries,
            up
        );
    }
    if filter.notification_type.is_some() {
        return walk!(
            told!("n", typed),
            "n.app = $2 AND (n.notification_type, n.id) < ($7, $3) AND (n.notification_type, n.id) >= ($7, $4)",
            "n.notification_type DESC, n.id DESC",
            "n.notification_type, n.id",
            of_deliveries,
            up
        );
    }
    walk!(
        told!("n"),
        "(n.app, n.id) < ($2, $3) AND (n.app, n.id) >= ($2, $4)",
        "n.app DESC, n.id DESC",
        "n.app, n.id",
        of_deliveries,
        up
    )
}

/// The first id of this millisecond.
pub fn first_id_of(ms: i64) -> Uuid {
    Uuid::from_u128(u128::from(ms.max(0).unsigned_abs()) << 80)
}

impl Reads {
    pub async fn notification_rows(
        &self,
        snapshot: &mut super::read::Snapshot,
        filter: &NotificationFilter,
    ) -> StoreResult<Vec<NotificationRow>> {
        let slack = BETWEEN_LOOKS.as_millis() as i64;
        let ms = |t: Timestamp| t.timestamp_millis();
        let before = filter.before.map_or(Uuid::max(), |NotificationId(id)| id);
        let after =
            filter.after.map_or(Uuid::nil(), |NotificationId(id)| Uuid::from_u128(id.as_u128().saturating_add(1)));
        let (state, later) = match filter.state {
            _ if filter.whole.is_some() => (None, None),
            _ if filter.handed_over => (Some(DeliveryState::Sent), Some(2)),
            None => (None, None),
            Some(ShownState::Scheduled) => (Some(DeliveryState::Pending), Some(1)),
            Some(ShownState::Stored(DeliveryState::Pending)) => (Some(DeliveryState::Pending), Some(0)),
            Some(ShownState::Stored(state)) => (Some(state), None),
        };
        let ask = led_by(filter, state)
            .bind(self.offset())
            .bind(filter.app.as_str())
            .bind(filter.until.map_or(before, |t| before.min(first_id_of(ms(t).saturating_add(slack)))))
            .bind(filter.since.map_or(after, |t| after.max(first_id_of(ms(t).saturating_sub(slack)))))
            .bind(filter.since.map(ms))
            .bind(filter.until.map(ms))
            .bind(filter.notification_type.as_deref())
            .bind(filter.idempotency_key.as_deref())
            .bind(filter.user.as_ref().map(UserId::as_str))
            .bind(filter.channel.as_ref().map(ChannelName::as_str))
            .bind(state.map(DeliveryState::as_str))
            .bind(later)
            .bind(filter.limit);
        // Only the texts that look at an error have a place for it.
        let looks = filter.error.is_some() || filter.whole.is_some();
        let ask = if looks { ask.bind(filter.error.as_deref()) } else { ask };
        let rows = snapshot.fetch(ask).await?;
        let mut found: Vec<NotificationRow> =
            rows.iter().map(|row| notification_row(Cells::of("notifications", row))).collect::<StoreResult<_>>()?;
        // Upwards the nearest come first, and texts led by deliveries put them in order themselves.
        found.sort_by_key(|row| std::cmp::Reverse(row.notification.id));
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_in_the_order_of_their_times() {
        let id = Uuid::now_v7();
        let (seconds, nanos) = id.get_timestamp().unwrap().to_unix();
        let ms = (seconds * 1_000 + u64::from(nanos) / 1_000_000).cast_signed();
        assert!(first_id_of(ms) <= id && id < first_id_of(ms + 1));
        assert_eq!(first_id_of(-5), Uuid::nil());
    }
}
