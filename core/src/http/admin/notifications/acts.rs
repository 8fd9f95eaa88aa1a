//! What is done to several notifications at once, and how it is told.

use super::all::{Act, Everything};
use crate::{
    http::{
        admin::{
            Signed,
            answer::{Ask, Posted, ask, done},
            bulk,
        },
        problem::ApiResult,
    },
    services::Services,
};
use axum::{extract::State, http::HeaderMap, response::Response};
use campanile_admin_ui::{format, pieces::Toast};
use campanile_model::{
    AppId, DeliveryState, NotificationId, Timestamp,
    api::ShownState,
    ports::{Lane, ReplayOutcome, Role},
};
use std::sync::Arc;

pub const BULK: &str = "/admin/notifications/bulk";
/// Notifications that one act takes.
const SELECTED: usize = 200;

pub async fn several(
    State(s): State<Arc<Services>>,
    signed: Signed,
    headers: HeaderMap,
    posted: Posted,
) -> ApiResult<Response> {
    signed.may(&posted, Role::Operator)?;
    if posted.get("all") == "1" {
        return everything(&s, &signed, &headers, posted).await;
    }
    let ids: Vec<NotificationId> =
        posted.all("id").filter_map(|id| id.parse().ok().map(NotificationId)).take(SELECTED).collect();
    let back = posted.get("back").to_owned();
    if ids.is_empty() {
        return Ok(done(&s, &signed, &headers, &back, Toast::bad("Nothing was selected.")));
    }
    let app = AppId::default();
    if posted.get("act") == "cancel" {
        let pending = pending(&s, &app, &ids).await?;
        let question = Ask {
            title: format!("Cancel {} of {} notifications?", counted(pending, "pending delivery"), ids.len()),
            consequence: "What was sent stays sent. What waits is not sent any more; this can't be taken back.".into(),
            label: "Cancel pending".into(),
            word: "cancel",
            count: pending,
            action: BULK.into(),
        };
        if let Some(asking) = ask(&s, &signed, &headers, &posted, question).await? {
            return Ok(asking);
        }
        let mut cancelled = 0;
        for id in &ids {
            cancelled += s.status.cancel(&app, *id, &signed.actor).await?.map_or(0, |o| o.cancelled);
        }
        let text = format!("{} of {} notifications cancelled.", counted(cancelled, "delivery"), ids.len());
        return Ok(done(&s, &signed, &headers, &back, Toast::ok(text)));
    }
    let mut dead = Vec::new();
    for id in &ids {
        if let Some(detail) = s.store.notification(&app, *id, None).await? {
            dead.extend(detail.deliveries.iter().filter(|d| d.state == DeliveryState::Dead).map(|d| d.id));
        }
    }
    let target = format!("{} notifications", ids.len());
    let outcomes = s.status.replay_many(&app, &dead, &target, Some(&signed.actor)).await?;
    Ok(done(&s, &signed, &headers, &back, retried(&outcomes)))
}

/// Everything that the list shows, whether it was ticked or not.
async fn everything(
    s: &Arc<Services>,
    signed: &Signed,
    headers: &HeaderMap,
    mut posted: Posted,
) -> ApiResult<Response> {
    // What the question was about is what the answer does, however long the admin thought about it.
    let as_of = posted.get("as_of").parse().ok().and_then(Timestamp::from_timestamp_millis);
    let as_of = as_of.unwrap_or_else(|| s.clock.now());
    posted.put("as_of", &as_of.timestamp_millis().to_string());
    let back = posted.get("back").to_owned();
    let act = if posted.get("act") == "cancel" { Act::Cancel } else { Act::Retry };
    let work = Everything::of(s, &back, act, as_of);
    let measured = work.measure(s).await?;
    let count = measured.deliveries;
    let said = format!("{}{}", if measured.more { "more than " } else { "" }, counted(count, "delivery"));
    if count == 0 && !measured.more {
        let why = if act == Act::Cancel { "Nothing of it waits any more." } else { "Nothing of it is dead." };
        return Ok(done(s, signed, headers, &back, Toast::bad(why)));
    }
    let question = match act {
        Act::Retry => Ask {
            title: format!("Retry {said}?"),
            consequence: format!(
                "All that is dead of {}. Each begins anew, with its address and suppressions looked up again.",
                work.words
            ),
            label: "Retry".into(),
            word: "retry",
            count: if measured.more { u64::MAX } else { count },
            action: BULK.into(),
        },
        Act::Cancel => Ask {
            title: format!("Cancel {said}?"),
            consequence: format!(
                "All that waits of {}. What was sent stays sent. What waits is not sent any more; this can't be taken back.",
                work.words
            ),
            label: "Cancel pending".into(),
            word: "cancel",
            count: if measured.more { u64::MAX } else { count },
            action: BULK.into(),
        },
    };
    if let Some(asking) = ask(s, signed, headers, &posted, question).await? {
        return Ok(asking);
    }
    let actor = Some(&signed.actor);
    let toast = if !measured.is_little() {
        let subject = work.words.clone();
        bulk::begin(s, signed, work, &subject, count).await?;
        Toast::ok(format!("{said} in the background; the progress stands on this page."))
    } else if act == Act::Retry {
        retried(&s.status.replay_many(work.app(), &measured.dead, &work.words, actor).await?)
    } else {
        let outcome = s.status.cancel_many(work.app(), &measured.waiting, &work.words, actor).await?;
        Toast::ok(format!("{} cancelled.", counted(outcome.cancelled, "delivery")))
    };
    s.console.facts.forget().await;
    Ok(done(s, signed, headers, &back, toast))
}

/// Could still be called back. What is scheduled is not stored as such, and waits.
pub fn waits(lane: &&Lane) -> bool {
    !matches!(lane.shown, ShownState::Stored(state) if state.is_settled())
}

/// How many deliveries of these could still be called back.
pub async fn pending(s: &Services, app: &AppId, ids: &[NotificationId]) -> ApiResult<u64> {
    let lanes = s.store.lanes(app, ids).await?;
    Ok(lanes.values().flatten().filter(waits).map(|lane| lane.count).sum())
}

/// `1 delivery`, `3 deliveries`.
pub fn counted(n: u64, what: &str) -> String {
    let many = what.strip_suffix('y').map_or_else(|| format!("{what}s"), |stem| format!("{stem}ies"));
    format!("{} {}", format::count(n), if n == 1 { what } else { &many })
}

/// What became of several retries, with the reason when there is one.
pub fn retried(outcomes: &[ReplayOutcome]) -> Toast {
    let done = outcomes.iter().filter(|o| matches!(o, ReplayOutcome::Replayed)).count() as u64;
    let mut reasons: Vec<(&str, u64)> = Vec::new();
    for outcome in outcomes {
        let why = match outcome {
            ReplayOutcome::Replayed => continue,
            ReplayOutcome::NotReplayable(why) => why,
            ReplayOutcome::NotFound => "not_found",
        };
        match reasons.iter_mut().find(|(known, _)| *known == why) {
            Some((_, n)) => *n += 1,
            None => reasons.push((why, 1)),
        }
    }
    if outcomes.is_empty() {
        return Toast::bad("Nothing of it is dead, so there is nothing to retry.");
    }
    let why: Vec<String> = reasons.iter().map(|(why, n)| format!("{} {}", format::count(*n), plainly(why))).collect();
    match (done, why.is_empty()) {
        (0, _) => Toast::bad(format!("Nothing was retried: {}.", why.join(", "))),
        (n, true) => Toast::ok(format!("{} begins anew.", counted(n, "delivery")).replace("ies begins", "ies begin")),
        (n, false) => Toast::ok(format!("{} retried; {}.", counted(n, "delivery"), why.join(", "))),
    }
}

/// Why a delivery can't be retried, after a number.
pub fn plainly(why: &str) -> &str {
    match why {
        "not_dead" => "already retried or no longer dead",
        "cancelled" => "cancelled",
        "expired" => "expired",
        "erased" => "of an erased person",
        "merged" => "of a person who was merged into another",
        "collapsed" => "replaced by a newer one",
        "user_disabled" => "of a disabled person",
        "no_address" => "without an address",
        "unsubscribed" => "unsubscribed",
        "suppressed_address" => "to a suppressed address",
        "not_found" => "no longer there",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_became_of_retries_is_said_with_its_reason() {
        use ReplayOutcome::{NotReplayable, Replayed};
        for (outcomes, text) in [
            (vec![Replayed], "1 delivery begins anew."),
            (vec![Replayed, Replayed], "2 deliveries begin anew."),
            (vec![Replayed, NotReplayable("expired")], "1 delivery retried; 1 expired."),
            (vec![NotReplayable("not_dead")], "Nothing was retried: 1 already retried or no longer dead."),
            (vec![], "Nothing of it is dead, so there is nothing to retry."),
        ] {
            assert_eq!(retried(&outcomes).text, text.into());
        }
    }
}
