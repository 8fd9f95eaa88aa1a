//! `sent → delivered` for in-app: what reached a live socket or was acked.

use super::{
    collapse::transition,
    group::ConfirmJob,
    rows::{Cells, json_rows},
    statement::by_engine,
    tx::Tx,
};
use campanile_model::{DeliveryState, UserKey, ports::StoreResult};

pub async fn run(tx: &mut Tx<'_>, jobs: &[ConfirmJob]) -> StoreResult<Vec<StoreResult<u64>>> {
    let ranges: Vec<(&str, &str, i64, i64)> = jobs
        .iter()
        .flat_map(|job| &job.input)
        .map(|s| (s.user.app.as_str(), s.user.user.as_str(), s.from_seq, s.to_seq))
        .collect();
    let now = tx.now;
    let rows = tx
        .fetch(
            "confirming deliveries",
            by_engine(
                "UPDATE deliveries SET state = 'delivered', settled_at = $2 WHERE state = 'sent' AND id IN (
                    SELECT f.delivery_id FROM json_each($1) j
                    CROSS JOIN feed f ON f.app = j.value ->> 0 AND f.user_id = j.value ->> 1
                      AND f.seq BETWEEN j.value ->> 2 AND j.value ->> 3)
                 RETURNING id, notification_id, app, user_id, channel, priority, attempt",
                "UPDATE deliveries SET state = 'delivered', settled_at = $2 WHERE state = 'sent' AND id IN (
                    SELECT d.id FROM jsonb_array_elements($1::jsonb) AS j (value)
                    JOIN feed f ON f.app = j.value ->> 0 AND f.user_id = j.value ->> 1
                      AND f.seq BETWEEN (j.value ->> 2)::bigint AND (j.value ->> 3)::bigint
                    JOIN deliveries d ON d.id = f.delivery_id
                    WHERE d.state = 'sent' ORDER BY d.id FOR UPDATE OF d)
                 RETURNING id, notification_id, app, user_id, channel, priority, attempt",
            )
            .bind(json_rows(&ranges)?)
            .bind(now),
        )
        .await?;
    let mut changed: Vec<UserKey> = Vec::with_capacity(rows.len());
    for row in &rows {
        let c = Cells::of("deliveries", row);
        tx.effects.transitions.push(transition(c, DeliveryState::Delivered, None)?);
        changed.push(c.user()?);
    }
    // A row is counted for the first caller that named its user.
    Ok(jobs
        .iter()
        .map(|job| {
            let before = changed.len();
            changed.retain(|user| !job.input.iter().any(|s| s.user == *user));
            Ok((before - changed.len()) as u64)
        })
        .collect())
}
