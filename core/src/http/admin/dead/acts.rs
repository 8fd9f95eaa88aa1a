//! What is done with dead letters: with those that were ticked, or with all of one cause.

use super::{
    EXACT,
    asked::{named, settled, which},
};
use crate::{
    http::{
        admin::{
            Signed,
            answer::{Ask, Posted, ask, done},
            bulk::{self, Job},
            notifications::{counted, retried},
        },
        problem::{ApiError, ApiResult, FieldError},
    },
    services::Services,
};
use axum::{extract::State, http::HeaderMap, response::Response};
use campanile_admin_ui::{format, pieces::Toast};
use campanile_model::{
    AppId, ChannelName, DeliveryId,
    ports::{DeadWhich, MoveTo, Moved, Role},
};
use std::sync::Arc;
use uuid::Uuid;

/// So many are done while the admin waits; more go in the background.
const AT_ONCE: u64 = 500;

/// In the form of the rows.
const PICKED: &str = "picked";

/// Why an act has nothing to do.
fn nothing(posted: &Posted, verb: &str) -> Toast {
    if posted.has(PICKED) {
        return Toast::bad("Nothing was selected.");
    }
    Toast::bad(format!("Nothing is left to {verb}: somebody was faster."))
}

/// What an act is about: what was ticked, or everything with this cause.
enum Target {
    Ids(Vec<DeliveryId>),
    Which(DeadWhich),
}

impl Target {
    fn of(posted: &Posted) -> Self {
        let ids: Vec<DeliveryId> =
            posted.all("id").filter_map(|id| id.parse().ok().map(DeliveryId)).take(1_000).collect();
        // The form of the rows without a tick is about none of them, and not about all.
        if ids.is_empty() && !posted.has(PICKED) { Self::Which(which(posted)) } else { Self::Ids(ids) }
    }
    async fn count(&self, s: &Services) -> ApiResult<u64> {
        match self {
            Self::Ids(ids) => Ok(ids.len() as u64),
            Self::Which(which) => Ok(s.store.dead_count(which, EXACT).await?),
        }
    }
    fn name(&self) -> String {
        match self {
            Self::Ids(ids) => counted(ids.len() as u64, "dead letter"),
            Self::Which(which) => named(which),
        }
    }
    /// What the question is about, where it is more than what was ticked.
    fn meant(&self) -> String {
        match self {
            Self::Ids(_) => "What was selected.".to_owned(),
            Self::Which(which) => format!("All that match: {}.", named(which)),
        }
    }
    /// The deliveries themselves, where they are few.
    async fn ids(&self, s: &Services) -> ApiResult<Vec<DeliveryId>> {
        match self {
            Self::Ids(ids) => Ok(ids.clone()),
            Self::Which(which) => bulk::ids(s, which, AT_ONCE as u32).await,
        }
    }
}

pub async fn retry(
    State(s): State<Arc<Services>>,
    signed: Signed,
    headers: HeaderMap,
    posted: Posted,
) -> ApiResult<Response> {
    signed.may(&posted, Role::Operator)?;
    let posted = settled(posted, s.clock.now())?;
    let target = Target::of(&posted);
    let rate = rate(&posted)?;
    let count = target.count(&s).await?;
    let back = posted.get("back");
    if count == 0 {
        // Two admins pressed: the second learns why nothing is left.
        return Ok(done(&s, &signed, &headers, back, nothing(&posted, "retry")));
    }
    if count > 1 {
        let question = Ask {
            title: format!("Retry {}?", counted(count, "delivery")),
            consequence: format!(
                "{} Each begins anew, with its address and suppressions looked up again.{}",
                target.meant(),
                rate.map_or_else(String::new, |rate| at_rate(count, rate))
            ),
            label: "Retry".into(),
            word: "retry",
            count,
            action: "/admin/dead/retry".into(),
        };
        if let Some(asking) = ask(&s, &signed, &headers, &posted, question).await? {
            return Ok(asking);
        }
    }
    if let Target::Which(which) = &target
        && (count > AT_ONCE || rate.is_some())
    {
        return background(&s, &signed, &headers, back, Job::replay(which.clone(), rate), count).await;
    }
    let ids = target.ids(&s).await?;
    let outcomes = s.status.replay_many(&AppId::default(), &ids, &target.name(), Some(&signed.actor)).await?;
    s.console.facts.forget().await;
    Ok(done(&s, &signed, &headers, back, retried(&outcomes)))
}

/// A second; `None`: as fast as it goes. What can't be read is no full speed.
fn rate(posted: &Posted) -> ApiResult<Option<u32>> {
    match posted.get("rate") {
        "" => Ok(None),
        text => text.parse().ok().filter(|r| (1..=1_000).contains(r)).map(Some).ok_or_else(|| {
            ApiError::invalid(vec![FieldError::new("rate", "must be a number from 1 to 1,000 a second")])
        }),
    }
}

/// ` At 10 a second it takes about 2 min.`
fn at_rate(count: u64, rate: u32) -> String {
    let ms = count as f64 / f64::from(rate) * 1_000.0;
    format!(" At {} a second it takes about {}.", format::count(rate.into()), format::duration(ms).text())
}

async fn background(
    s: &Arc<Services>,
    signed: &Signed,
    headers: &HeaderMap,
    back: &str,
    job: Job,
    count: u64,
) -> ApiResult<Response> {
    let subject = named(&job.which);
    bulk::begin(s, signed, job, &subject, count).await?;
    let text = format!("{} go in the background; their progress stands on this page.", counted(count, "delivery"));
    Ok(done(s, signed, headers, back, Toast::ok(text)))
}

/// Sends what is dead by another channel.
pub async fn move_by(
    State(s): State<Arc<Services>>,
    signed: Signed,
    headers: HeaderMap,
    posted: Posted,
) -> ApiResult<Response> {
    signed.may(&posted, Role::Operator)?;
    let posted = settled(posted, s.clock.now())?;
    let name = ChannelName::from(posted.get("by"));
    let guard = s.channels.get(&name).filter(|g| g.enabled());
    let Some(guard) = guard else {
        return Err(ApiError::invalid(vec![FieldError::new("by", "choose a channel that is switched on")]));
    };
    let to = MoveTo { channel: name.clone(), in_app: guard.in_app() };
    let target = Target::of(&posted);
    let count = target.count(&s).await?;
    let back = posted.get("back");
    if count == 0 {
        return Ok(done(&s, &signed, &headers, back, nothing(&posted, "move")));
    }
    if count > 1 {
        let question = Ask {
            title: format!("Send {} by {name}?", counted(count, "dead letter")),
            consequence: format!(
                "{} Each goes to its person's own address for {name}, if there is one and nothing stands against it. What was \
                 given up on leaves this list.",
                target.meant()
            ),
            label: format!("Send by {name}"),
            word: "move",
            count,
            action: "/admin/dead/move".into(),
        };
        if let Some(asking) = ask(&s, &signed, &headers, &posted, question).await? {
            return Ok(asking);
        }
    }
    if let Target::Which(which) = &target
        && count > AT_ONCE
    {
        return background(&s, &signed, &headers, back, Job::move_to(which.clone(), to), count).await;
    }
    let ids = target.ids(&s).await?;
    let outcomes = s.status.move_dead(&AppId::default(), &ids, &to, &target.name(), Some(&signed.actor)).await?;
    s.console.facts.forget().await;
    Ok(done(&s, &signed, &headers, back, moved(&outcomes, &name)))
}

/// `12 deliveries go by sms; 2 can't: no address.`
fn moved(outcomes: &[Moved], by: &ChannelName) -> Toast {
    let went = outcomes.iter().filter(|o| matches!(o, Moved::To(_))).count() as u64;
    let mut why: Vec<String> = Vec::new();
    for outcome in outcomes {
        let reason = match outcome {
            Moved::To(_) => continue,
            Moved::Refused(why) => why.replace('_', " "),
            Moved::NotFound => "not there any more".to_owned(),
        };
        if !why.contains(&reason) {
            why.push(reason);
        }
    }
    let stay = outcomes.len() as u64 - went;
    let cannot = format!("{} can't: {}", format::count(stay), why.join(", "));
    match (went, stay) {
        (_, 0) => Toast::ok(format!("{} {} by {by} now.", counted(went, "delivery"), goes(went))),
        (0, _) => Toast::bad(format!("Nothing was moved: {}.", why.join(", "))),
        _ => Toast::ok(format!("{} {} by {by} now; {cannot}.", counted(went, "delivery"), goes(went))),
    }
}

fn goes(n: u64) -> &'static str {
    if n == 1 { "goes" } else { "go" }
}

pub async fn discard(
    State(s): State<Arc<Services>>,
    signed: Signed,
    headers: HeaderMap,
    posted: Posted,
) -> ApiResult<Response> {
    signed.may(&posted, Role::Operator)?;
    let posted = settled(posted, s.clock.now())?;
    let target = Target::of(&posted);
    let count = target.count(&s).await?;
    let back = posted.get("back");
    if count == 0 {
        return Ok(done(&s, &signed, &headers, back, nothing(&posted, "discard")));
    }
    let question = Ask {
        title: format!("Discard {}?", counted(count, "dead letter")),
        consequence: format!(
            "{} They leave this list and its counts. In their notifications they stay as they are, dead, until retention \
             removes them.",
            target.meant()
        ),
        label: "Discard".into(),
        word: "discard",
        count,
        action: "/admin/dead/discard".into(),
    };
    if let Some(asking) = ask(&s, &signed, &headers, &posted, question).await? {
        return Ok(asking);
    }
    if let Target::Which(which) = &target
        && count > AT_ONCE
    {
        return background(&s, &signed, &headers, back, Job::dismiss(which.clone()), count).await;
    }
    let ids = target.ids(&s).await?;
    let n = s.store.dismiss(&AppId::default(), &ids, &target.name(), Some(&signed.actor)).await?;
    s.console.facts.forget().await;
    let mut toast = Toast::ok(format!("{} discarded.", counted(n, "dead letter")));
    // What fits into a message can be taken back from it.
    if ids.len() <= 40 {
        let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
        let mut fields = vec![("back", back)];
        fields.extend(ids.iter().map(|id| ("id", id.as_str())));
        toast = toast.undone_by("/admin/dead/recall", &fields);
    }
    Ok(done(&s, &signed, &headers, back, toast))
}

pub async fn recall(
    State(s): State<Arc<Services>>,
    signed: Signed,
    headers: HeaderMap,
    posted: Posted,
) -> ApiResult<Response> {
    signed.may(&posted, Role::Operator)?;
    let Target::Ids(ids) = Target::of(&posted) else { return Err(ApiError::not_found("dead letter")) };
    let n = s.store.recall(&AppId::default(), &ids, &signed.actor).await?;
    s.console.facts.forget().await;
    let toast = Toast::ok(format!("{} back in the list.", counted(n, "dead letter")));
    Ok(done(&s, &signed, &headers, posted.get("back"), toast))
}

pub async fn stop(
    State(s): State<Arc<Services>>,
    signed: Signed,
    headers: HeaderMap,
    posted: Posted,
) -> ApiResult<Response> {
    signed.may(&posted, Role::Operator)?;
    let id: Uuid = posted.get("task").parse().map_err(|_| ApiError::not_found("bulk act"))?;
    let stopped = s.store.stop_task(id, &signed.actor).await?;
    let toast = if stopped { Toast::ok("It stops at its next step.") } else { Toast::bad("It has ended already.") };
    Ok(done(&s, &signed, &headers, posted.get("back"), toast))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_of_the_rows_without_a_tick_is_about_none_of_them() {
        let of = |pairs: &[(&str, &str)]| Target::of(&Posted::of(pairs));
        assert!(matches!(of(&[("picked", "1"), ("id", "nonsense")]), Target::Ids(ids) if ids.is_empty()));
        assert!(matches!(of(&[("channel", "email")]), Target::Which(which) if which.channel.is_some()));
    }

    #[test]
    fn a_rate_is_a_number_or_a_complaint_and_never_full_speed_by_mistake() {
        let read = |text: &str| rate(&Posted::of(&[("rate", text)]));
        assert_eq!((read("").unwrap(), read("10").unwrap()), (None, Some(10)));
        for wrong in ["0", "1001", "-1", "ten", "1.5"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        assert_eq!(at_rate(1_200, 10), " At 10 a second it takes about 2 min.");
    }
}
