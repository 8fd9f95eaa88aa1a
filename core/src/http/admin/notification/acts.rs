//! What is done with one notification.

use super::{id_of, pass, path_of};
use crate::{
    http::{
        admin::{
            Signed,
            answer::{Ask, Posted, ask, done, done_elsewhere},
            notifications::{counted, retried},
        },
        api::notifications::whole_request,
        problem::{ApiError, ApiResult},
    },
    ingest::Answer,
    services::Services,
};
use axum::{
    extract::{Path, State},
    http::HeaderMap,
    response::{IntoResponse, Redirect, Response},
};
use campanile_admin_ui::pieces::{Here, Toast};
use campanile_model::{AppId, DeliveryId, DeliveryState, ports::Role};
use std::sync::Arc;

pub async fn reveal(
    State(s): State<Arc<Services>>,
    signed: Signed,
    Path(id): Path<String>,
    posted: Posted,
) -> ApiResult<Response> {
    signed.may(&posted, Role::Viewer)?;
    let id = id_of(&id)?;
    s.store.note(&signed.actor, "notification.reveal", &id.to_string(), None).await?;
    let tab = if posted.get("tab") == "output" { "output" } else { "request" };
    let to = Here::new(path_of(id)).put("tab", tab).put("reveal", pass(&signed, id));
    Ok(Redirect::to(&to.url()).into_response())
}

pub async fn retry(
    State(s): State<Arc<Services>>,
    signed: Signed,
    Path(id): Path<String>,
    headers: HeaderMap,
    posted: Posted,
) -> ApiResult<Response> {
    signed.may(&posted, Role::Operator)?;
    let (app, id) = (AppId::default(), id_of(&id)?);
    let detail = s.store.notification(&app, id, None).await?.ok_or_else(|| ApiError::not_found("notification"))?;
    let one = posted.get("delivery").parse().ok().map(DeliveryId);
    if let Some(one) = one
        && s.status.hasten(&app, one, &signed.actor).await?
    {
        return Ok(done(&s, &signed, &headers, posted.get("back"), Toast::ok("Its next try is now.")));
    }
    let ids: Vec<DeliveryId> = match one {
        Some(one) => vec![one],
        None => detail.deliveries.iter().filter(|d| d.state == DeliveryState::Dead).map(|d| d.id).collect(),
    };
    // Pressed by two at once, the second finds nothing dead: it is asked for all the same, and told why not.
    let outcomes = s.status.replay_many(&app, &ids, &id.to_string(), Some(&signed.actor)).await?;
    s.console.facts.forget().await;
    let toast = if outcomes.is_empty() {
        Toast::bad("Nothing was retried: what was dead is retried already, or no longer dead.")
    } else {
        retried(&outcomes)
    };
    Ok(done(&s, &signed, &headers, posted.get("back"), toast))
}

pub async fn cancel(
    State(s): State<Arc<Services>>,
    signed: Signed,
    Path(id): Path<String>,
    headers: HeaderMap,
    posted: Posted,
) -> ApiResult<Response> {
    signed.may(&posted, Role::Operator)?;
    let (app, id) = (AppId::default(), id_of(&id)?);
    let pending = super::super::notifications::pending(&s, &app, &[id]).await?;
    let question = Ask {
        title: format!("Cancel {}?", counted(pending, "pending delivery")),
        consequence: "What waits is not sent any more. What was sent stays sent. This can't be taken back.".into(),
        label: "Cancel pending".into(),
        word: "cancel",
        count: pending,
        action: format!("{}/cancel", path_of(id)),
    };
    if let Some(asking) = ask(&s, &signed, &headers, &posted, question).await? {
        return Ok(asking);
    }
    let outcome = s.status.cancel(&app, id, &signed.actor).await?;
    let outcome = outcome.ok_or_else(|| ApiError::not_found("notification"))?;
    s.console.facts.forget().await;
    let mut said = vec![format!("{} cancelled", counted(outcome.cancelled, "delivery"))];
    if outcome.in_flight > 0 {
        said.push(format!("{} under way can't be called back", counted(outcome.in_flight, "attempt")));
    }
    if outcome.already_sent > 0 {
        said.push(format!("{} already sent", outcome.already_sent));
    }
    Ok(done(&s, &signed, &headers, posted.get("back"), Toast::ok(format!("{}.", said.join("; ")))))
}

pub async fn resend(
    State(s): State<Arc<Services>>,
    signed: Signed,
    Path(id): Path<String>,
    headers: HeaderMap,
    posted: Posted,
) -> ApiResult<Response> {
    signed.may(&posted, Role::Operator)?;
    let (app, id) = (AppId::default(), id_of(&id)?);
    let detail = s.store.notification(&app, id, None).await?.ok_or_else(|| ApiError::not_found("notification"))?;
    let listed = detail.row.request.get("to").and_then(|to| to.as_array()).map_or(1, |to| to.len() as u64);
    let people = detail.row.audience.map_or(listed, |(n, _)| u64::from(n));
    let whom = if people == 1 { "Whom it was for".to_owned() } else { format!("All {people} people it was for") };
    let question = Ask {
        title: "Send it again?".into(),
        consequence: format!(
            "{whom} {} it a second time, as a new notification with an id of its own.",
            if people == 1 { "gets" } else { "get" }
        ),
        label: "Resend as new".into(),
        word: "resend",
        count: people,
        action: format!("{}/resend", path_of(id)),
    };
    if let Some(asking) = ask(&s, &signed, &headers, &posted, question).await? {
        return Ok(asking);
    }
    let mut request = whole_request(&detail.row);
    if let Some(fields) = request.as_object_mut() {
        // Its time has come, and what was to expire then would not be taken now.
        fields.remove("send_at");
        fields.remove("expires_at");
    }
    let new = match s.ingest.accept(&signed.caller(), request, None).await? {
        Answer::Stored { body, .. } => body.notification_id,
        Answer::Ephemeral { notification_id, .. } => notification_id,
    };
    let detail = serde_json::json!({"as": new});
    s.store.note(&signed.actor, "notification.resend", &id.to_string(), Some(detail)).await?;
    let toast = Toast::ok("Sent again, as this notification.");
    Ok(done_elsewhere(&s, &signed, &headers, &path_of(new), toast))
}
