//! Taking deliveries back: what cancel, collapse, erase and merge have in common.

use super::{collapse::transition, rows::Cells, statement::Sql, tx::Tx};
use campanile_model::{DeliveryState, ports::StoreResult};

/// `$1` now, `$2` the reason, further parameters belong to the condition. What waits is cancelled; what is being sent is
/// told to stop after this attempt. An erase has the last word, else the first wish stands.
macro_rules! take_back {
    (sqlite, $which:literal) => {
        take_back!(concat!("state IN ('pending', 'retrying', 'sending') AND ", $which))
    };
    // Locked by id first: two that take the same rows back must not wait for each other.
    (postgres, $which:literal) => {
        take_back!(concat!(
            "id IN (SELECT id FROM deliveries WHERE state IN ('pending', 'retrying', 'sending') AND ",
            $which,
            " ORDER BY id FOR UPDATE)"
        ))
    };
    ($where:expr) => {
        concat!(
            "UPDATE deliveries SET
                stop = CASE WHEN state <> 'sending' THEN stop WHEN $2 = 'erased' THEN $2 ELSE COALESCE(stop, $2) END,
                reason = CASE WHEN state = 'sending' THEN reason ELSE $2 END,
                settled_at = CASE WHEN state = 'sending' THEN settled_at ELSE $1 END,
                state = CASE WHEN state = 'sending' THEN state ELSE 'cancelled' END
             WHERE ",
            $where,
            " RETURNING id, notification_id, app, user_id, channel, priority, state, reason, attempt"
        )
    };
}
pub(crate) use take_back;

#[derive(Clone, Copy, Debug, Default)]
pub struct TakenBack {
    pub cancelled: u64,
    /// Attempts under way that can't be called back.
    pub in_flight: u64,
}

/// Runs a [`take_back!`] statement and tells what it cancelled.
pub async fn run(tx: &mut Tx<'_>, what: &'static str, sql: Sql<'_>) -> StoreResult<TakenBack> {
    let rows = tx.fetch(what, sql).await?;
    let mut taken = TakenBack::default();
    for row in &rows {
        let c = Cells::of("deliveries", row);
        if c.state("state")? == DeliveryState::Sending {
            taken.in_flight += 1;
        } else {
            taken.cancelled += 1;
            let t = transition(c, DeliveryState::Cancelled, c.get("reason")?)?;
            tx.effects.transitions.push(t);
        }
    }
    Ok(taken)
}
