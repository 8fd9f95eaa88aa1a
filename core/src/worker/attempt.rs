//! One attempt: render → call → judge → finish. A panic in it costs this delivery one attempt and nothing else.
//!
//! Owns: the record of the attempt, and the retrying of that record while the database is away. Absent on purpose: the
//! claim (consumer), the arithmetic of retries (schedule), the channel's limits (guard).

use super::{
    Context,
    lease::Hold,
    outcome::{Goes, Judged},
    schedule::Standing,
};
use crate::{
    channel::{Permit, guard::panic_text},
    failpoint,
    observe::metrics as m,
    queue::backoff::Backoff,
};
use campanile_model::{
    DeliveryState, Timestamp,
    ports::StoreError,
    work::{AttemptOutcome, Claimed, Finish, NextStep},
};
use campanile_plugin::{Delivery, Info};
use futures_util::FutureExt;
use std::{
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};
use tracing::Instrument;

/// From this many lost leases on a delivery is tried alone, so that the one that kills its host is told from bystanders.
const ALONE_FROM: u32 = 3;
/// A record that the database refuses for another reason than being away is tried this often.
const REFUSED_TRIES: u32 = 5;

/// How sending ended.
enum Ended {
    Judged(Judged),
    /// Not ours any more, or given back by the drain: nothing to record.
    LetGo,
    /// The drain cut the call after its point of no return.
    CutInDoubt,
    /// The channel asked and was told that the lease is over, so nothing was sent.
    TooLate,
}

pub async fn run(ctx: Arc<Context>, claimed: Claimed, hold: Hold, permit: Permit) {
    let span = tracing::info_span!(
        "attempt",
        delivery.id = %claimed.delivery_id,
        channel = %claimed.channel,
        attempt = claimed.attempt,
        request_id = %claimed.notification.request_id,
    );
    one(&ctx, &claimed, &hold, permit).instrument(span).await;
}

async fn one(ctx: &Context, claimed: &Claimed, hold: &Hold, mut permit: Permit) {
    let Some(turn) = ctx.turn(claimed.losses >= ALONE_FROM).await else { return };
    let (started_at, began) = (ctx.clock.now(), Instant::now());
    let ended = AssertUnwindSafe(send(ctx, claimed, hold, &permit)).catch_unwind().await.unwrap_or_else(|panic| {
        ctx.metrics.panics.get_or_create(&m::ByReason::new("worker")).inc();
        let said = panic_text(panic.as_ref());
        tracing::error!(panic = said, "An attempt panicked");
        Ended::Judged(Judged::host_panicked(&said, hold.passed(), recipient(claimed)))
    });
    drop(turn);
    let finish = match ended {
        Ended::LetGo => return,
        Ended::CutInDoubt => lost(claimed, started_at, began, true),
        Ended::TooLate => lost(claimed, started_at, began, false),
        Ended::Judged(judged) => {
            tell(ctx, claimed, &judged, began, &mut permit);
            finish(ctx, claimed, judged, started_at, began)
        }
    };
    record(ctx, finish).await;
}

async fn send(ctx: &Context, claimed: &Claimed, hold: &Hold, permit: &Permit) -> Ended {
    let handle = permit.guard().handle();
    let info = handle.info();
    let to = recipient(claimed);
    let rendered = match ctx.renderer.render(claimed) {
        Ok(rendered) => rendered,
        Err(e) => return Ended::Judged(Judged::unrenderable(&e.to_string(), to)),
    };
    // A lone attempt may have waited long for its turn.
    if !hold.holds_at(Instant::now()) {
        tracing::warn!("Let go of a delivery whose lease had ended before its attempt began");
        return Ended::LetGo;
    }
    let id = claimed.delivery_id.to_string();
    let delivery = Delivery {
        delivery_id: &id,
        attempt: claimed.attempt,
        recipient: to,
        subject: &rendered.subject,
        text: &rendered.text,
        html: &rendered.html,
        message: &rendered.message,
        timeout: handle.timeout,
        native: None,
        permission: hold,
    };
    failpoint::reached("effect.before");
    let called = tokio::select! {
        biased;
        called = permit.guard().call(delivery) => called,
        () = ctx.cut.cancelled() => {
            return if in_doubt(info, hold) { Ended::CutInDoubt } else { Ended::LetGo };
        }
    };
    failpoint::reached("effect.after");
    if hold.refused() {
        return Ended::TooLate;
    }
    Ended::Judged(Judged::of(called, info, hold.passed(), to))
}

fn recipient(claimed: &Claimed) -> &str {
    claimed.recipient.as_deref().unwrap_or_default()
}

/// Whether a call that was cut short may have had its effect.
fn in_doubt(info: Option<&Info>, hold: &Hold) -> bool {
    info.is_none_or(|i| !i.idempotent && (hold.passed() || !i.asks_permission))
}

/// Tells the breaker and the metrics.
fn tell(ctx: &Context, claimed: &Claimed, judged: &Judged, began: Instant, permit: &mut Permit) {
    let channel = claimed.channel.as_str();
    if let Some(verdict) = judged.verdict {
        let error = judged.code.as_deref().zip(judged.message.as_deref()).map(|(code, said)| format!("{code}: {said}"));
        permit.report(verdict, judged.outcome == AttemptOutcome::Throttled, error.as_deref());
    }
    ctx.metrics.attempts.get_or_create(&m::ChannelOutcome::new(channel, judged.metric_outcome())).inc();
    if let Some(reason) = judged.metric_reason() {
        ctx.metrics.failures.get_or_create(&m::ChannelReason::new(channel, reason)).inc();
    }
    ctx.metrics.attempt_duration.get_or_create(&m::ByChannel::new(channel)).observe(began.elapsed().as_secs_f64());
}

fn finish(ctx: &Context, claimed: &Claimed, judged: Judged, started_at: Timestamp, began: Instant) -> Finish {
    let (next, spend) = match judged.goes {
        Goes::Sent => (NextStep::Sent, true),
        Goes::Dead(reason) => (NextStep::Dead { reason: reason.to_owned() }, true),
        Goes::Again { why, after } => {
            let age = Duration::from_millis(claimed.age_ms.max(0) as u64).saturating_add(began.elapsed());
            let at = Standing { attempt: claimed.attempt, spent: claimed.spent, age };
            ctx.schedule.next(why, at, after, rand::random())
        }
    };
    Finish {
        delivery_id: claimed.delivery_id,
        attempt: claimed.attempt,
        started_at,
        duration_ms: began.elapsed().as_millis() as i64,
        outcome: judged.outcome,
        code: judged.code,
        message: judged.message,
        uncertain: judged.uncertain,
        provider_id: judged.provider_id,
        next,
        spend,
        address_fault: judged.address_fault,
    }
}

/// Nothing was learnt of the far side: tried again at once, nothing spent. With doubt on record when the host stopped
/// under a call that may have had its effect.
fn lost(claimed: &Claimed, started_at: Timestamp, began: Instant, uncertain: bool) -> Finish {
    let (code, said) = if uncertain {
        ("drained", "the host stopped before the far side had answered")
    } else {
        ("lease_lost", "the lease was over before anything was sent")
    };
    Finish {
        delivery_id: claimed.delivery_id,
        attempt: claimed.attempt,
        started_at,
        duration_ms: began.elapsed().as_millis() as i64,
        outcome: AttemptOutcome::Lost,
        code: Some(code.to_owned()),
        message: Some(said.to_owned()),
        uncertain,
        provider_id: None,
        next: NextStep::RetryIn { delay_ms: 0 },
        spend: false,
        address_fault: None,
    }
}

/// Writes the attempt down. While the database is away it is kept here and tried again, for as long as it takes: the
/// permit is held meanwhile, so this is bounded, and each record kept is a second sending saved. The fence makes a late
/// one harmless.
async fn record(ctx: &Context, finish: Finish) {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
    let mut refused = 0;
    loop {
        let error = match ctx.status.finish(finish.clone()).await {
            Ok(finished) => return log(&finish, finished.ours, finished.state),
            Err(e) => e,
        };
        ctx.note(&error);
        if !away(&error) {
            refused += 1;
        }
        if refused >= REFUSED_TRIES || ctx.cut.is_cancelled() {
            tracing::error!(
                delivery.id = %finish.delivery_id,
                error = &error as &dyn std::error::Error,
                "Could not record attempt {} of {}; its lease will lapse and it is tried again",
                finish.attempt,
                finish.delivery_id
            );
            return;
        }
        tokio::select! {
            () = ctx.cut.cancelled() => {}
            () = tokio::time::sleep(backoff.pause(rand::random())) => {}
        }
    }
}

fn away(error: &StoreError) -> bool {
    matches!(error, StoreError::Unavailable(_) | StoreError::CommitUnknown(_) | StoreError::Overloaded)
}

fn log(finish: &Finish, ours: bool, state: DeliveryState) {
    let (id, duration_ms) = (finish.delivery_id, finish.duration_ms);
    let (code, outcome) = (finish.code.as_deref(), finish.outcome.as_str());
    if !ours {
        tracing::warn!(duration_ms, outcome, "Another attempt owns {id}; only this one's record was kept");
        return;
    }
    match (&finish.next, state) {
        (_, DeliveryState::Sent) => tracing::info!(duration_ms, "Sent {id}"),
        (NextStep::RetryIn { delay_ms }, DeliveryState::Retrying) => {
            tracing::info!(duration_ms, outcome, code, delay_ms, "Will try {id} again");
        }
        (NextStep::Dead { reason }, DeliveryState::Dead) => {
            tracing::warn!(duration_ms, outcome, code, reason, "Gave up on {id}");
        }
        _ => tracing::info!(duration_ms, outcome, code, %state, "{id} is {state}"),
    }
}
