//! Finishing, as a set: the fence is the attempt number.

use super::{
    cause,
    collapse::transition,
    group::FinishJob,
    rows::{Cells, Hex, json_ids, json_rows},
    statement::by_engine,
    suppress,
    tx::Tx,
};
use crate::store::rules;
use campanile_model::{
    DeliveryId, DeliveryState, Reason,
    effects::Transition,
    ports::{StoreError, StoreResult},
    state::reason,
    work::{Finish, Finished, NextStep},
};
use serde::Serialize;
use std::collections::HashMap;
use uuid::Uuid;

/// The row as it stands before the finish.
struct Standing {
    state: DeliveryState,
    attempt: u32,
    stop: Option<String>,
    cancelled: bool,
    first_arrival: bool,
    since: i64,
    app: String,
    channel: String,
    recipient: Option<String>,
    node: Option<Uuid>,
    transition: Transition,
}

#[derive(Serialize)]
struct Change {
    id: Hex,
    attempt: u32,
    state: &'static str,
    reason: Option<Reason>,
    spend: bool,
    /// Only while retrying.
    next_at: Option<i64>,
    provider_id: Option<String>,
    /// Of an attempt that failed.
    error: Option<String>,
    destination: Option<String>,
}

#[derive(Serialize)]
pub struct AttemptInsert {
    pub id: Hex,
    pub attempt: u32,
    pub started_at: i64,
    pub duration_ms: i64,
    pub outcome: &'static str,
    pub code: Option<String>,
    pub message: Option<String>,
    pub uncertain: bool,
    pub instance: Option<String>,
    pub template: Option<String>,
    pub code_version: Option<String>,
    pub node: Option<Hex>,
}

pub async fn run(tx: &mut Tx<'_>, jobs: &[FinishJob]) -> StoreResult<Vec<StoreResult<Finished>>> {
    let mut standing = standing(tx, jobs).await?;
    let now = tx.now;
    let mut attempts = Vec::with_capacity(jobs.len());
    let mut changes = Vec::with_capacity(jobs.len());
    let mut outcomes = Vec::with_capacity(jobs.len());
    for FinishJob { input: finish, .. } in jobs {
        let Some(row) = standing.get_mut(&finish.delivery_id) else {
            outcomes.push(Err(StoreError::Row {
                table: "deliveries",
                column: "id",
                row: finish.delivery_id.to_string(),
                detail: "there is no such delivery (retention took it)".to_owned(),
            }));
            continue;
        };
        let mut attempt = attempt_row(finish, row.node);
        if row.stop.as_deref() == Some(reason::ERASED) {
            // What the far side said may name somebody who is no longer known here.
            attempt.message = None;
        }
        attempts.push(attempt);
        if row.state != DeliveryState::Sending || row.attempt != finish.attempt {
            outcomes.push(Ok(Finished { ours: false, state: row.state }));
            continue;
        }
        let (state, reason) = rules::after_attempt(&finish.next, row.stop.as_deref(), row.cancelled);
        let next_at = match finish.next {
            NextStep::RetryIn { delay_ms } if state == DeliveryState::Retrying => {
                Some(now.saturating_add(delay_ms.max(0)))
            }
            _ => None,
        };
        let mut t = row.transition.clone();
        t.state = state;
        t.reason.clone_from(&reason);
        t.latency_ms = (state == DeliveryState::Sent && row.first_arrival).then(|| (now - row.since).max(0));
        tx.effects.transitions.push(t);
        row.state = state;
        if let (Some(fault), Some(address)) = (finish.address_fault, &row.recipient) {
            suppress::note_fault(tx, &row.app, &row.channel, address, finish.delivery_id, fault).await?;
        }
        let failed = state != DeliveryState::Sent;
        changes.push(Change {
            error: failed.then(|| cause::error_of(finish)),
            destination: failed.then(|| row.recipient.as_deref().map_or_else(String::new, cause::destination)),
            id: Hex(finish.delivery_id.0),
            attempt: finish.attempt,
            state: state.as_str(),
            reason,
            spend: finish.spend,
            next_at,
            provider_id: finish.provider_id.clone(),
        });
        outcomes.push(Ok(Finished { ours: true, state }));
    }
    store_attempts(tx, &attempts).await?;
    if !changes.is_empty() {
        apply(tx, &changes).await?;
    }
    Ok(outcomes)
}

async fn standing(tx: &mut Tx<'_>, jobs: &[FinishJob]) -> StoreResult<HashMap<DeliveryId, Standing>> {
    let rows = tx
        .fetch(
            "reading deliveries to finish",
            by_engine(
                "SELECT d.id, d.notification_id, d.app, d.user_id, d.channel, d.priority, d.state, d.attempt, d.stop,
                        d.recipient, d.lease_owner, d.sent_at, MAX(d.created_at, d.due_at) AS since,
                        n.cancelled_at IS NOT NULL AS cancelled
                 FROM json_each($1) j
                 CROSS JOIN deliveries d ON d.id = unhex(j.value) JOIN notifications n ON n.id = d.notification_id",
                "SELECT d.id, d.notification_id, d.app, d.user_id, d.channel, d.priority, d.state, d.attempt, d.stop,
                        d.recipient, d.lease_owner, d.sent_at, GREATEST(d.created_at, d.due_at) AS since,
                        n.cancelled_at IS NOT NULL AS cancelled
                 FROM jsonb_array_elements_text($1::jsonb) AS j (value)
                 JOIN deliveries d ON d.id = j.value::uuid JOIN notifications n ON n.id = d.notification_id
                 ORDER BY d.id FOR UPDATE OF d",
            )
            .bind(json_ids(jobs.iter().map(|job| job.input.delivery_id.0))),
        )
        .await?;
    rows.iter()
        .map(|row| {
            let c = Cells::of("deliveries", row);
            Ok((
                c.delivery("id")?,
                Standing {
                    state: c.state("state")?,
                    attempt: c.small("attempt")?,
                    stop: c.get("stop")?,
                    cancelled: c.flag("cancelled")?,
                    first_arrival: c.get::<Option<i64>>("sent_at")?.is_none(),
                    since: c.int("since")?,
                    app: c.text("app")?,
                    channel: c.text("channel")?,
                    recipient: c.get("recipient")?,
                    node: c.opt_uuid("lease_owner")?,
                    transition: transition(c, DeliveryState::Sending, None)?,
                },
            ))
        })
        .collect()
}

fn attempt_row(finish: &Finish, node: Option<Uuid>) -> AttemptInsert {
    AttemptInsert {
        id: Hex(finish.delivery_id.0),
        attempt: finish.attempt,
        started_at: finish.started_at.timestamp_millis(),
        duration_ms: finish.duration_ms,
        outcome: finish.outcome.as_str(),
        code: finish.code.clone(),
        message: finish.message.clone(),
        uncertain: finish.uncertain,
        instance: finish.instance.clone(),
        template: finish.template.clone(),
        code_version: finish.code_version.clone(),
        node: node.map(Hex),
    }
}

/// An attempt that is recorded already (`lost` by the sweeper) keeps its record.
pub async fn store_attempts(tx: &mut Tx<'_>, attempts: &[AttemptInsert]) -> StoreResult<()> {
    if attempts.is_empty() {
        return Ok(());
    }
    tx.exec(
        "storing attempts",
        by_engine(
            "INSERT INTO attempts (delivery_id, attempt, started_at, duration_ms, outcome, code, message, uncertain, instance,
                                   template, code_version, node)
             SELECT unhex(value ->> 'id'), value ->> 'attempt', value ->> 'started_at', value ->> 'duration_ms',
                    value ->> 'outcome', value ->> 'code', value ->> 'message', value ->> 'uncertain',
                    value ->> 'instance', value ->> 'template', value ->> 'code_version',
                    unhex(value ->> 'node')
             FROM json_each($1) WHERE true ON CONFLICT DO NOTHING",
            "INSERT INTO attempts (delivery_id, attempt, started_at, duration_ms, outcome, code, message, uncertain, instance,
                                   template, code_version, node)
             SELECT id, attempt, started_at, duration_ms, outcome, code, message, uncertain, instance, template,
                    code_version, node
             FROM jsonb_to_recordset($1::jsonb) AS j (id uuid, attempt bigint, started_at bigint, duration_ms bigint,
                                                      outcome text, code text, message text, uncertain boolean,
                                                      instance text, template text, code_version text, node uuid)
             ON CONFLICT DO NOTHING",
        )
        .bind(json_rows(attempts)?),
    )
    .await?;
    Ok(())
}

async fn apply(tx: &mut Tx<'_>, changes: &[Change]) -> StoreResult<()> {
    let now = tx.now;
    let changed = tx
        .exec(
            "finishing deliveries",
            by_engine("UPDATE deliveries SET
                    state = j.state, reason = j.reason, spent = spent + j.spend,
                    provider_id = COALESCE(j.provider_id, deliveries.provider_id),
                    error = COALESCE(j.error, deliveries.error),
                    destination = COALESCE(j.destination, deliveries.destination),
                    next_attempt_at = COALESCE(j.next_at, next_attempt_at),
                    relay_at = COALESCE(j.next_at, next_attempt_at), relay_n = 0,
                    lease_owner = NULL, lease_until = NULL, claimed_at = NULL, stop = CASE WHEN j.state = 'dead' THEN stop END,
                    sent_at = CASE WHEN j.state = 'sent' THEN COALESCE(sent_at, $1) ELSE sent_at END,
                    settled_at = CASE WHEN j.state = 'retrying' THEN NULL ELSE $1 END
                 FROM (SELECT unhex(value ->> 'id') AS id, value ->> 'attempt' AS attempt, value ->> 'state' AS state,
                              value ->> 'reason' AS reason, value ->> 'spend' AS spend, value ->> 'next_at' AS next_at,
                              value ->> 'provider_id' AS provider_id, value ->> 'error' AS error,
                              value ->> 'destination' AS destination
                       FROM json_each($2)) j
                 WHERE deliveries.id = j.id AND deliveries.state = 'sending' AND deliveries.attempt = j.attempt", "UPDATE deliveries SET
                    state = j.state, reason = j.reason, spent = spent + j.spend::int,
                    provider_id = COALESCE(j.provider_id, deliveries.provider_id),
                    error = COALESCE(j.error, deliveries.error),
                    destination = COALESCE(j.destination, deliveries.destination),
                    next_attempt_at = COALESCE(j.next_at, next_attempt_at),
                    relay_at = COALESCE(j.next_at, next_attempt_at), relay_n = 0,
                    lease_owner = NULL, lease_until = NULL, claimed_at = NULL,
                    stop = CASE WHEN j.state = 'dead' THEN stop END,
                    sent_at = CASE WHEN j.state = 'sent' THEN COALESCE(sent_at, $1) ELSE sent_at END,
                    settled_at = CASE WHEN j.state = 'retrying' THEN NULL ELSE $1 END
                 FROM jsonb_to_recordset($2::jsonb) AS j (id uuid, attempt bigint, state text, reason text, spend boolean,
                                                          next_at bigint, provider_id text, error text,
                                                          destination text)
                 WHERE deliveries.id = j.id AND deliveries.state = 'sending' AND deliveries.attempt = j.attempt")
            .bind(now)
            .bind(json_rows(changes)?),
        )
        .await?;
    if changed == changes.len() as u64 {
        return Ok(());
    }
    Err(StoreError::Statement {
        what: "finishing deliveries",
        source: format!("{} rows were to change, {changed} did", changes.len()).into(),
    })
}
