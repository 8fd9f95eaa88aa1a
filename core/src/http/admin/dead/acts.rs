//! What is done with dead letters: with those that were ticked, or with all of one cause.

use super::{COUNTED, named, which};
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

/// What an act is about: what was ticked, or everything with this cause.
enum Target {
    Ids(Vec<DeliveryId>),
    Which(DeadWhich),
}

impl Target {
    fn of(posted: &Posted) -> Self {
        let ids: Vec<DeliveryId> =
            posted.all("id").filter_map(|id| id.parse().ok().map(DeliveryId)).take(1_000).collect();
        if ids.is_empty() {
            Self::Which(which(|key| posted.has(key).then(|| posted.get(key).to_owned())))
        } else {
            Self::Ids(ids)
        }
    }
    async fn count(&self, s: &Services) -> ApiResult<u64> {
        match self {
            Self::Ids(ids) => Ok(ids.len() as u64),
            Self::Which(which) => Ok(s.store.dead_count(which, COUNTED).await?),
        }
    }
    fn name(&self) -> String {
        match self {
            Self::Ids(ids) => counted(ids.len() as u64, "dead letter"),
            Self::Which(which) => named(which),
        }
    }
    /// The deliveries themselves, where they are few.
    async fn ids(&self, s: &Services) -> ApiResult<Vec<DeliveryId>> {
        match self {
            Self::Ids(ids) => Ok(ids.clone()),
            Self::Which(which) => bulk::ids(s, which, None, AT_ONCE as u32).await,
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
    let target = Target::of(&posted);
    let count = target.count(&s).await?;
    let back = posted.get("back");
    if count == 0 {
        // Two admins pressed: the second learns why nothing is left.
        return Ok(done(&s, &signed, &headers, back, Toast::bad("Nothing is left to retry: somebody was faster.")));
    }
    if count > 1 {
        let question = Ask {
            title: format!("Retry {}?", counted(count, "delivery")),
            consequence: "Each begins anew, with its address and suppressions looked up again.".into(),
            label: "Retry".into(),
            word: "retry",
            count,
            action: "/admin/dead/retry".into(),
        };
        if let Some(asking) = ask(&s, &signed, &headers, &posted, question).await? {
            return Ok(asking);
        }
    }
    let rate = posted.get("rate").parse::<u32>().ok().filter(|r| (1..=1_000).contains(r));
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
        return Ok(done(&s, &signed, &headers, back, Toast::bad("Nothing is left to move: somebody was faster.")));
    }
    if count > 1 {
        let question = Ask {
            title: format!("Send {} by {name}?", counted(count, "dead letter")),
            consequence: format!(
                "Each goes to its person's own address for {name}, if there is one and nothing stands against it. What was \
                 given up on leaves this list."
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
    let target = Target::of(&posted);
    let count = target.count(&s).await?;
    let back = posted.get("back");
    if count == 0 {
        return Ok(done(&s, &signed, &headers, back, Toast::bad("Nothing is left to discard: somebody was faster.")));
    }
    let question = Ask {
        title: format!("Discard {}?", counted(count, "dead letter")),
        consequence: "They leave this list and its counts. In their notifications they stay as they are, dead, until \
                      retention removes them."
            .into(),
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
