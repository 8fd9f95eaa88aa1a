//! `/admin/send-test`: a notification like any other, by one channel, to see what its provider answers.

use super::{
    Routes, Signed,
    answer::Posted,
    console_frame,
    gate::ACT,
    live::{self, Drawn, Live},
};
use crate::{
    http::{page::page, problem::ApiResult},
    ingest::{Answer, IngestError},
    services::Services,
};
use async_trait::async_trait;
use axum::{
    extract::{Query, State},
    http::HeaderMap,
    response::{IntoResponse, Redirect, Response},
};
use campanile_admin_ui::{
    format,
    pages::send_test::{Asked, Attempt, SendTest, Tested},
};
use campanile_model::{
    AppId, DeliveryState, NotificationId,
    api::ShownState,
    ports::{DeliveryRow, Role},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Marks what was sent from here.
const KIND: &str = "campanile.test";

pub fn routes() -> Routes {
    Routes::new().get("/admin/send-test", ACT, show).post("/admin/send-test", ACT, send)
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Shown {
    channel: String,
    user: String,
    sent: String,
}

async fn show(
    State(s): State<Arc<Services>>,
    signed: Signed,
    Query(shown): Query<Shown>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    signed.require(Role::Operator)?;
    let tested = tested(&s, &shown.sent).await;
    let asked = Asked {
        channel: tested.as_ref().map_or(shown.channel, |t| t.channel.clone()),
        user: tested.as_ref().map_or(shown.user, |t| t.to.clone()),
        title: format!("A test by {}", signed.admin.name),
        text: "If you read this, it works.".to_owned(),
        ..Asked::default()
    };
    draw(&s, &signed, &headers, asked, Vec::new(), tested).await
}

async fn send(
    State(s): State<Arc<Services>>,
    signed: Signed,
    headers: HeaderMap,
    posted: Posted,
) -> ApiResult<Response> {
    signed.may(&posted, Role::Operator)?;
    let field = |name: &str| posted.get(name).to_owned();
    let asked = Asked {
        channel: field("channel"),
        user: field("user"),
        address: field("address"),
        title: field("title"),
        text: field("text").replace("\r\n", "\n"),
    };
    match s.ingest.accept(&signed.caller(), request(&asked), None).await {
        Ok(Answer::Stored { body, .. }) => {
            s.store.note(&signed.actor, "channel.test", &asked.channel, None).await?;
            let to = format!("/admin/send-test?sent={}", body.notification_id);
            Ok(Redirect::to(&to).into_response())
        }
        Ok(Answer::Ephemeral { .. }) => Ok(Redirect::to("/admin/send-test").into_response()),
        Err(IngestError::Invalid(invalid)) => {
            let faults = invalid.faults.into_iter();
            let problems = faults.map(|f| (place(&f.field).to_owned(), f.message)).collect();
            draw(&s, &signed, &headers, asked, problems, None).await
        }
        Err(e) => Err(e.into()),
    }
}

fn request(asked: &Asked) -> Value {
    let mut to = Map::from_iter([("user_id".to_owned(), asked.user.clone().into())]);
    if !asked.address.is_empty() {
        let field = json!({ &asked.channel: asked.address });
        to.insert("addresses".to_owned(), field);
    }
    let mut request = json!({
        "to": [to],
        "title": asked.title,
        "channels": [asked.channel],
        "notification_type": KIND,
    });
    if !asked.text.is_empty() {
        request["message"] = asked.text.clone().into();
    }
    request
}

/// A field of the request → a field of the form.
fn place(field: &str) -> &'static str {
    match field {
        "title" => "title",
        "message" => "text",
        f if f.starts_with("channels") => "channel",
        f if f.contains("addresses") => "address",
        f if f.contains("user_id") => "user",
        _ => "",
    }
}

async fn draw(
    s: &Services,
    signed: &Signed,
    headers: &HeaderMap,
    asked: Asked,
    problems: Vec<(String, String)>,
    tested: Option<Tested>,
) -> ApiResult<Response> {
    let facts = s.console.facts.get(s).await;
    let channels =
        s.channels.views().into_iter().filter(|v| v.enabled).map(|v| (v.name.to_string(), !v.in_app)).collect();
    page(&SendTest {
        frame: console_frame(s, signed, headers, &facts, "/admin/send-test"),
        channels,
        asked,
        problems,
        tested,
    })
}

/// The page's stream: until it is settled.
pub fn live(query: &live::Query) -> Box<dyn Live> {
    Box::new(Watched(query.get("sent").to_owned()))
}

struct Watched(String);

#[async_trait]
impl Live for Watched {
    async fn draw(&self, s: &Arc<Services>, _: &Signed, out: &mut Drawn) {
        if let Some(tested) = tested(s, &self.0).await {
            out.put("tested", &tested);
            if tested.settled {
                out.settled();
            }
        }
    }
}

/// How far it has come. `None`: there is no such test.
pub async fn tested(s: &Services, id: &str) -> Option<Tested> {
    let id: NotificationId = id.parse().ok()?;
    let found = s.store.notification(&AppId::default(), id, None).await.ok()??;
    let delivery = found.deliveries.first()?;
    let (tone, settled) = match delivery.shown {
        ShownState::Stored(DeliveryState::Sent | DeliveryState::Delivered) => ("ok", true),
        ShownState::Stored(DeliveryState::Retrying) => ("warn", false),
        ShownState::Stored(DeliveryState::Dead) => ("bad", true),
        ShownState::Stored(DeliveryState::Pending | DeliveryState::Sending) | ShownState::Scheduled => ("off", false),
        ShownState::Stored(_) => ("off", true),
    };
    let reason = delivery.reason.as_deref().map(|r| format!(": {r}")).unwrap_or_default();
    Some(Tested {
        id: id.to_string(),
        channel: delivery.channel.to_string(),
        to: delivery.user_id.to_string(),
        tone,
        state: format!("{}{reason}", delivery.shown.as_str()),
        settled,
        accepted_at: delivery.created_at,
        attempts: attempts(delivery),
        next_at: delivery.next_attempt_at.filter(|_| !settled && delivery.attempt > 0),
    })
}

fn attempts(delivery: &DeliveryRow) -> Vec<Attempt> {
    let one = |a: &campanile_model::ports::AttemptRow| Attempt {
        number: a.attempt,
        at: a.started_at,
        took: format::duration(a.duration_ms.max(0) as f64).text(),
        tone: match a.outcome.as_str() {
            "ok" => "ok",
            "retry" | "throttled" | "timeout" | "lost" => "warn",
            _ => "bad",
        },
        outcome: a.outcome.replace('_', " "),
        code: a.code.clone().unwrap_or_default(),
        said: a.message.clone().unwrap_or_default(),
    };
    delivery.attempts.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_of_a_request_has_its_field() {
        for (field, place_) in [
            ("to[0].user_id", "user"),
            ("to[0].addresses.email", "address"),
            ("title", "title"),
            ("message", "text"),
            ("channels[0]", "channel"),
            ("channels", "channel"),
            ("priority", ""),
        ] {
            assert_eq!(place(field), place_, "{field}");
        }
    }
}
