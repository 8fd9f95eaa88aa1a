//! Claiming, as a set: three statements for every claim that shares the commit.

use super::{
    collapse::transition,
    gate::Wanted,
    group::ClaimJob,
    rows::{Cells, Hex, json_ids, json_rows, notification_columns},
    statement::{by_engine, sql},
    tx::Tx,
};
use campanile_model::{
    DeliveryId, DeliveryState, Notification, NotificationId,
    ports::StoreResult,
    state::reason,
    work::{ClaimOutcome, Claimed},
};
use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    sync::Arc,
};

/// How long `d`'s channel was paused since it fell due. `$1` is now.
macro_rules! paused_since_due {
    (sqlite) => {
        "COALESCE((SELECT SUM(MAX(0, MIN(COALESCE(p.ended, $1), $1) - MAX(p.since, d.due_at))) FROM channel_pauses p \
         WHERE p.channel = d.channel AND (p.ended IS NULL OR p.ended > d.due_at)), 0)"
    };
    (postgres) => {
        "COALESCE((SELECT SUM(GREATEST(0, LEAST(COALESCE(p.ended, $1), $1) - GREATEST(p.since, d.due_at)))::bigint \
         FROM channel_pauses p WHERE p.channel = d.channel AND (p.ended IS NULL OR p.ended > d.due_at)), 0)"
    };
}
pub(crate) use paused_since_due;

macro_rules! candidates {
    ($engine:ident, $from:literal) => {
        concat!(
            "SELECT d.id, d.notification_id, d.app, d.user_id, d.channel, d.recipient, d.attempt, d.spent, d.losses,
                    $1 - d.due_at - ",
            paused_since_due!($engine),
            " AS age_ms, u.locale, u.disabled_at IS NOT NULL AS disabled, ",
            notification_columns!(),
            $from
        )
    };
}

const CANDIDATES: &str = candidates!(
    sqlite,
    " FROM json_each($2) j
      CROSS JOIN deliveries d ON d.id = unhex(j.value)
      JOIN notifications n ON n.id = d.notification_id
      LEFT JOIN users u ON u.app = d.app AND u.user_id = d.user_id
      WHERE d.state IN ('pending', 'retrying') AND d.in_app = 0 AND d.next_attempt_at <= $1
        AND (d.expires_at IS NULL OR d.expires_at > $1) AND n.cancelled_at IS NULL"
);

/// Whoever else holds a row is about to claim, cancel or move it: it is not ours.
const CANDIDATES_LOCKED: &str = candidates!(
    postgres,
    " FROM jsonb_array_elements_text($2::jsonb) AS j (value)
      JOIN deliveries d ON d.id = j.value::uuid
      JOIN notifications n ON n.id = d.notification_id
      LEFT JOIN users u ON u.app = d.app AND u.user_id = d.user_id
      WHERE d.state IN ('pending', 'retrying') AND NOT d.in_app AND d.next_attempt_at <= $1
        AND (d.expires_at IS NULL OR d.expires_at > $1) AND n.cancelled_at IS NULL
      ORDER BY d.id FOR UPDATE OF d SKIP LOCKED"
);

struct Candidate {
    claimed: Claimed,
    refused: Option<&'static str>,
}

pub async fn run(tx: &mut Tx<'_>, jobs: &[ClaimJob]) -> StoreResult<Vec<StoreResult<Vec<ClaimOutcome>>>> {
    let mut candidates = candidates(tx, jobs).await?;
    let mut claims = Vec::new();
    let mut settled: Vec<(Hex, &'static str)> = Vec::new();
    let mut outcomes = Vec::with_capacity(jobs.len());
    for job in jobs {
        let lease_until = tx.now.saturating_add(job.input.lease.as_millis() as i64);
        let node = Hex(job.input.node.0);
        let mut outcome = Vec::with_capacity(job.input.ids.len());
        for id in &job.input.ids {
            // Taken out: a second ask for it in the same commit is not ours.
            outcome.push(match candidates.remove(id) {
                None => ClaimOutcome::NotOurs(*id),
                Some(Candidate { refused: Some(why), .. }) => {
                    settled.push((Hex(id.0), why));
                    ClaimOutcome::Settled(*id)
                }
                Some(Candidate { claimed, refused: None }) => {
                    claims.push((Hex(id.0), node, lease_until));
                    ClaimOutcome::Claimed(Box::new(claimed))
                }
            });
        }
        outcomes.push(Ok(outcome));
    }
    take(tx, &claims).await?;
    settle(tx, &settled).await?;
    Ok(outcomes)
}

async fn candidates(tx: &mut Tx<'_>, jobs: &[ClaimJob]) -> StoreResult<HashMap<DeliveryId, Candidate>> {
    let ids: HashSet<DeliveryId> = jobs.iter().flat_map(|job| job.input.ids.iter().copied()).collect();
    let now = tx.now;
    let rows = tx
        .fetch(
            "reading claimable deliveries",
            by_engine(CANDIDATES, CANDIDATES_LOCKED).bind(now).bind(json_ids(ids.iter().map(|i| i.0))),
        )
        .await?;
    // One notification to many people is read once and shared.
    let mut notifications: HashMap<NotificationId, Arc<Notification>> = HashMap::new();
    let mut found = Vec::with_capacity(rows.len());
    let mut wanted = Wanted::default();
    for row in &rows {
        let c = Cells::of("deliveries", row);
        let channel = c.channel("channel")?;
        if tx.is_paused(&channel) {
            continue;
        }
        let notification_id = c.notification_id("notification_id")?;
        let notification = match notifications.entry(notification_id) {
            Entry::Occupied(known) => known.get().clone(),
            Entry::Vacant(new) => new.insert(c.notification("notification_id")?).clone(),
        };
        let user = c.user()?;
        let recipient: Option<String> = c.get("recipient")?;
        wanted.add(&notification, &user.user, &channel, recipient.as_deref());
        let claimed = Claimed {
            delivery_id: c.delivery("id")?,
            notification,
            user,
            channel,
            recipient,
            locale: c.get("locale")?,
            attempt: c.small("attempt")? + 1,
            spent: c.small("spent")?,
            losses: c.small("losses")?,
            age_ms: c.int("age_ms")?,
        };
        found.push((claimed, c.flag("disabled")?));
    }
    let gate = wanted.load(tx).await?;
    Ok(found
        .into_iter()
        .map(|(claimed, disabled)| {
            let n = &claimed.notification;
            let refused = if disabled {
                Some(reason::USER_DISABLED)
            } else if gate.unsubscribed(n, &claimed.user.user, &claimed.channel) {
                Some(reason::UNSUBSCRIBED)
            } else if claimed.recipient.as_deref().is_some_and(|a| gate.address_of(n, &claimed.channel, a)) {
                Some(reason::SUPPRESSED_ADDRESS)
            } else {
                None
            };
            (claimed.delivery_id, Candidate { claimed, refused })
        })
        .collect())
}

async fn take(tx: &mut Tx<'_>, claims: &[(Hex, Hex, i64)]) -> StoreResult<()> {
    if claims.is_empty() {
        return Ok(());
    }
    let now = tx.now;
    let rows = tx
        .fetch(
            "claiming deliveries",
            by_engine(
                "UPDATE deliveries SET state = 'sending', attempt = attempt + 1, lease_owner = j.node,
                        lease_until = j.until, claimed_at = $1, reason = NULL
                 FROM (SELECT unhex(value ->> 0) AS id, unhex(value ->> 1) AS node, value ->> 2 AS until
                       FROM json_each($2)) j
                 WHERE deliveries.id = j.id AND deliveries.state IN ('pending', 'retrying')
                 RETURNING deliveries.id, notification_id, app, user_id, channel, priority, attempt",
                "UPDATE deliveries SET state = 'sending', attempt = attempt + 1, lease_owner = j.node,
                        lease_until = j.until, claimed_at = $1, reason = NULL
                 FROM (SELECT (value ->> 0)::uuid AS id, (value ->> 1)::uuid AS node, (value ->> 2)::bigint AS until
                       FROM jsonb_array_elements($2::jsonb)) j
                 WHERE deliveries.id = j.id AND deliveries.state IN ('pending', 'retrying')
                 RETURNING deliveries.id, notification_id, app, user_id, channel, priority, attempt",
            )
            .bind(now)
            .bind(json_rows(claims)?),
        )
        .await?;
    for row in &rows {
        let t = transition(Cells::of("deliveries", row), DeliveryState::Sending, None)?;
        tx.effects.transitions.push(t);
    }
    Ok(())
}

/// A rule said no: `suppressed`, without an attempt.
async fn settle(tx: &mut Tx<'_>, settled: &[(Hex, &'static str)]) -> StoreResult<()> {
    for (id, why) in settled {
        let now = tx.now;
        let row = tx
            .fetch_opt(
                "suppressing a delivery",
                sql("UPDATE deliveries SET state = 'suppressed', reason = $1, settled_at = $2 WHERE id = $3
                     RETURNING id, notification_id, app, user_id, channel, priority, attempt")
                .bind(*why)
                .bind(now)
                .bind(id.0),
            )
            .await?;
        if let Some(row) = row {
            let t = transition(Cells::of("deliveries", &row), DeliveryState::Suppressed, Some((*why).to_owned()))?;
            tx.effects.transitions.push(t);
        }
    }
    Ok(())
}
