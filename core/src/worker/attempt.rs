//! One attempt: render → call → judge → finish. A panic in it costs this delivery one attempt and nothing else.
//!
//! Within one attempt a delivery falls over to the channel's next instance only where the first has certainly sent nothing;
//! a doubtful outcome ends the attempt. A later attempt prefers another instance than the one that certainly failed.
//! Owns: that choice, the record of the attempt, and the retrying of that record while the database is away. Absent on purpose: the
//! claim (consumer), the arithmetic of retries (schedule), the channel's limits (guard).

use super::{
    Context,
    lease::Hold,
    outcome::{self, Goes, Judged},
    schedule::{Again, Standing},
};
use crate::{
    channel::{Called, Permit, Rendered, Runner, runner::panic_text},
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
    /// The channel has lost its last instance.
    Nobody,
    /// The instance had to go before it sent anything.
    Replaced,
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
        trace_id = %claimed.notification.trace().trace_id(),
    );
    one(&ctx, &claimed, &hold, permit).instrument(span).await;
}

async fn one(ctx: &Context, claimed: &Claimed, hold: &Hold, mut permit: Permit) {
    let Some(turn) = ctx.turn(claimed.losses >= ALONE_FROM).await else { return };
    let (started_at, began) = (ctx.clock.now(), Instant::now());
    let mut story = Story::default();
    let sent = AssertUnwindSafe(send(ctx, claimed, hold, &mut permit, &mut story)).catch_unwind().await;
    let ended = sent.unwrap_or_else(|panic| {
        ctx.metrics.panics.get_or_create(&m::ByReason::new("worker")).inc();
        let said = panic_text(panic.as_ref());
        tracing::error!(panic = said, "An attempt panicked");
        Ended::Judged(Judged::host_panicked(&said, hold.passed(), recipient(claimed)))
    });
    drop(turn);
    let template = story.template.take();
    let finish = match ended {
        Ended::LetGo => return,
        Ended::CutInDoubt => lost(claimed, started_at, began, &CUT),
        Ended::TooLate => lost(claimed, started_at, began, &LATE),
        Ended::Nobody => lost(claimed, started_at, began, &NOBODY),
        Ended::Replaced => lost(claimed, started_at, began, &REPLACED),
        Ended::Judged(judged) => {
            tell(ctx, claimed, &judged, began, &mut permit);
            finish(ctx, claimed, story.told_in(judged), started_at, began)
        }
    };
    let instance = permit.runner().map(|runner| runner.name().to_owned());
    let code = permit.runner().map(|runner| runner.info());
    let code_version = code.map(|info| format!("{} {}", info.name, info.version));
    record(ctx, Finish { instance, template, code_version, ..finish }).await;
}

async fn send(ctx: &Context, claimed: &Claimed, hold: &Hold, permit: &mut Permit, story: &mut Story) -> Ended {
    let to = recipient(claimed);
    let rendered = match ctx.renderer.render(claimed) {
        Ok(rendered) => rendered,
        Err(e) => return Ended::Judged(Judged::unrenderable(&e.to_string(), to)),
    };
    story.template.clone_from(&rendered.template);
    if claimed.attempt > 1 && permit.has_choice() {
        prefer_another(ctx, claimed, permit).await;
    }
    // A lone attempt may have waited long for its turn.
    if !hold.holds_at(Instant::now()) {
        tracing::warn!("Let go of a delivery whose lease had ended before its attempt began");
        return Ended::LetGo;
    }
    loop {
        let Some(runner) = permit.runner().cloned() else { return Ended::Nobody };
        let called = match call(ctx, claimed, hold, &runner, &rendered).await {
            Ok(called) => called,
            Err(ended) => return ended,
        };
        if hold.refused() {
            return Ended::TooLate;
        }
        let nothing_sent = outcome::certainly_not_sent(&called, runner.info(), hold.passed());
        let judged = Judged::of(called, Some(runner.info()), hold.passed(), to);
        if !nothing_sent || ctx.cut.is_cancelled() || !hold.holds_at(Instant::now()) {
            return Ended::Judged(judged);
        }
        report(permit, &judged);
        if !permit.move_on() {
            return Ended::Judged(Judged { verdict: None, ..judged });
        }
        story.then(runner.name(), &judged);
        let next = permit.runner().map_or("", |r| r.name());
        tracing::info!(
            instance = runner.name(),
            code = judged.code,
            next,
            "Nothing was sent by {}; trying {next}",
            runner.name()
        );
    }
}

/// One call into one instance.
async fn call(
    ctx: &Context,
    claimed: &Claimed,
    hold: &Hold,
    runner: &Runner,
    rendered: &Rendered,
) -> Result<Called, Ended> {
    let id = claimed.delivery_id.to_string();
    let trace = claimed.notification.trace().of_attempt(claimed.delivery_id, claimed.attempt).to_string();
    let delivery = Delivery::new(&id, recipient(claimed))
        .with_traceparent(&trace)
        .with_attempt(claimed.attempt)
        .with_content(&rendered.subject, &rendered.text, &rendered.html)
        .with_message(&rendered.message)
        .with_timeout(runner.timeout())
        .with_permission(hold);
    failpoint::reached("effect.before");
    let cut = || if in_doubt(runner.info(), hold) { Ended::CutInDoubt } else { Ended::LetGo };
    let called = tokio::select! {
        biased;
        called = runner.call(delivery) => called,
        () = ctx.cut.cancelled() => return Err(cut()),
        // The host goes on without this instance: what was not sent is tried again by the one in its place.
        () = runner.cut() => return Err(match cut() {
            Ended::LetGo => Ended::Replaced,
            ended => ended,
        }),
    };
    failpoint::reached("effect.after");
    Ok(called)
}

/// Another instance than the one whose attempt failed, if that is certain: after a doubtful one the same provider is the
/// better choice, since it alone can tell a second sending from a first.
async fn prefer_another(ctx: &Context, claimed: &Claimed, permit: &mut Permit) {
    match ctx.store.tried_by(claimed.delivery_id).await {
        Ok(Some((instance, false))) if permit.runner().is_some_and(|r| r.name() == instance) => {
            permit.prefer_another();
        }
        Ok(_) => {}
        Err(e) => ctx.note(&e),
    }
}

/// What the attempt did before its last call.
#[derive(Default)]
struct Story {
    /// Calls, each with what came of it.
    before: Vec<String>,
    /// What rendered the message.
    template: Option<String>,
}

impl Story {
    fn then(&mut self, instance: &str, judged: &Judged) {
        let (code, said) = (judged.code.as_deref().unwrap_or_default(), judged.message.as_deref().unwrap_or_default());
        self.before.push(format!("{instance}: {code}: {said}"));
    }

    /// The attempt's record tells of it, success or not.
    fn told_in(self, judged: Judged) -> Judged {
        if self.before.is_empty() {
            return judged;
        }
        let before = format!("nothing was sent by {}", self.before.join("; "));
        let message = judged.message.map_or_else(|| before.clone(), |said| format!("{said} ({before})"));
        Judged { message: Some(outcome::cut_message(&message)), ..judged }
    }
}

fn recipient(claimed: &Claimed) -> &str {
    claimed.recipient.as_deref().unwrap_or_default()
}

/// Whether a call that was cut short may have had its effect.
fn in_doubt(info: &Info, hold: &Hold) -> bool {
    !info.idempotent && (hold.passed() || !info.asks_permission)
}

/// Tells the breaker of the instance.
fn report(permit: &mut Permit, judged: &Judged) {
    let Some(verdict) = judged.verdict else { return };
    let error = judged.code.as_deref().zip(judged.message.as_deref()).map(|(code, said)| format!("{code}: {said}"));
    let throttled = match &judged.goes {
        Goes::Again { why: Again::Throttled, after } => Some(*after),
        _ => None,
    };
    permit.report(verdict, throttled, error.as_deref());
}

/// Tells the breaker and the metrics.
fn tell(ctx: &Context, claimed: &Claimed, judged: &Judged, began: Instant, permit: &mut Permit) {
    let channel = claimed.channel.as_str();
    report(permit, judged);
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
        instance: None,
        template: None,
        code_version: None,
        next,
        spend,
        address_fault: judged.address_fault,
    }
}

/// An attempt that taught nothing of the far side: tried again, nothing spent.
struct Lost {
    code: &'static str,
    said: &'static str,
    /// The call may have had its effect.
    uncertain: bool,
    again_after: Duration,
}

const CUT: Lost = Lost {
    code: "drained",
    said: "the host stopped before the far side had answered",
    uncertain: true,
    again_after: Duration::ZERO,
};
const LATE: Lost = Lost {
    code: "lease_lost",
    said: "the lease was over before anything was sent",
    uncertain: false,
    again_after: Duration::ZERO,
};
const REPLACED: Lost = Lost {
    code: "replaced",
    said: "the instance was replaced before anything was sent",
    uncertain: false,
    again_after: Duration::ZERO,
};
const NOBODY: Lost = Lost {
    code: "no_instance",
    said: "the channel has no instance any more",
    uncertain: false,
    // Until somebody makes one, there is no use in haste.
    again_after: Duration::from_secs(10),
};

fn lost(claimed: &Claimed, started_at: Timestamp, began: Instant, lost: &Lost) -> Finish {
    Finish {
        delivery_id: claimed.delivery_id,
        attempt: claimed.attempt,
        started_at,
        duration_ms: began.elapsed().as_millis() as i64,
        outcome: AttemptOutcome::Lost,
        code: Some(lost.code.to_owned()),
        message: Some(lost.said.to_owned()),
        uncertain: lost.uncertain,
        provider_id: None,
        instance: None,
        template: None,
        code_version: None,
        next: NextStep::RetryIn { delay_ms: lost.again_after.as_millis() as i64 },
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
