//! What a notification says, behind a reveal: its request, what each channel sends, what the far sides answered.

use super::{Asked, id_of, lanes, path_of};
use crate::{
    http::{
        admin::{Signed, live::Query},
        api::notifications::whole_request,
        page::document,
        problem::{ApiError, ApiResult},
    },
    services::Services,
};
use axum::{
    extract::{Path, RawQuery, State},
    http::StatusCode,
    response::Response,
};
use campanile_admin_ui::{
    MAIL_CSP, format,
    pages::{notification as ui, notifications::Status},
    pieces::{Empty, Here, Part},
};
use campanile_model::{
    AppId, ChannelName, DeliveryId, UserKey,
    ports::{DeliveryRow, NotificationDetail, Role},
    work::Claimed,
};
use std::sync::Arc;
use uuid::Uuid;

/// Deliveries whose output is shown: one of each channel.
const OUTPUTS: usize = 8;
pub fn body(s: &Services, signed: &Signed, asked: &Asked, detail: &NotificationDetail) -> ui::Body {
    let may_reveal = signed.admin.role.may_read_content();
    let action = format!("{}/reveal", path_of(asked.id));
    let csrf = signed.csrf.clone();
    let revealed = asked.revealed(signed);
    match asked.tab.as_str() {
        "request" => {
            let json = revealed.then(|| serde_json::to_string_pretty(&whole_request(&detail.row)).unwrap_or_default());
            ui::Body::Request(ui::Request { json, may_reveal, action, csrf })
        }
        "output" => {
            let shown = revealed.then(|| output(s, asked, detail));
            ui::Body::Output(ui::Output { shown, may_reveal, action, csrf })
        }
        "answers" => ui::Body::Answers(answers(s, detail)),
        _ => ui::Body::Lanes(Part::Well(lanes::draw(s, signed, asked, detail))),
    }
}

/// The first delivery of each channel, drawn by the code that sends.
fn output(s: &Services, asked: &Asked, detail: &NotificationDetail) -> Vec<ui::Sent> {
    let mut seen: Vec<&ChannelName> = Vec::new();
    let mut out = Vec::new();
    for d in &detail.deliveries {
        if seen.contains(&&d.channel) || out.len() == OUTPUTS {
            continue;
        }
        seen.push(&d.channel);
        let to = format!("{} {}", d.user_id, d.recipient.clone().unwrap_or_default());
        let sent = ui::Sent {
            channel: d.channel.to_string(),
            to: to.trim().to_owned(),
            subject: None,
            frame: None,
            text: String::new(),
            error: None,
        };
        out.push(match s.renderer.render(&claimed(d, detail)) {
            Err(e) => ui::Sent { error: Some(e.to_string()), ..sent },
            Ok(rendered) if !rendered.html.is_empty() => ui::Sent {
                subject: Some(rendered.subject),
                text: rendered.text,
                frame: Some(Here::new(format!("{}/mail/{}", path_of(asked.id), d.id)).put("reveal", &asked.pass).url()),
                ..sent
            },
            Ok(rendered) => {
                ui::Sent { text: serde_json::to_string_pretty(&rendered.message).unwrap_or_default(), ..sent }
            }
        });
    }
    out
}

/// As the worker would hold it.
fn claimed(d: &DeliveryRow, detail: &NotificationDetail) -> Claimed {
    Claimed {
        delivery_id: d.id,
        notification: detail.row.notification.clone(),
        user: UserKey { app: detail.row.notification.app.clone(), user: d.user_id.clone() },
        channel: d.channel.clone(),
        recipient: d.recipient.clone(),
        locale: None,
        attempt: d.attempt.max(1),
        spent: 0,
        losses: 0,
        age_ms: 0,
    }
}

fn answers(s: &Services, detail: &NotificationDetail) -> ui::Answers {
    let nodes = lanes::Nodes::of(s);
    let mut rows: Vec<ui::Answer> = detail
        .deliveries
        .iter()
        .flat_map(|d| d.attempts.iter().map(move |a| (d, a)))
        .map(|(d, a)| ui::Answer {
            at: a.started_at,
            channel: d.channel.to_string(),
            user: d.user_id.to_string(),
            attempt: a.attempt,
            status: Status::new(lanes::outcome_tone(&a.outcome), a.outcome.replace('_', " ")),
            took: format::duration(a.duration_ms.max(0) as f64).text(),
            code: a.code.clone().unwrap_or_default(),
            message: a.message.clone().unwrap_or_default(),
            provider: if a.outcome == "ok" { d.provider_id.clone().unwrap_or_default() } else { String::new() },
            node: nodes.name(a.node),
            uncertain: a.uncertain,
        })
        .collect();
    rows.sort_by_key(|r| std::cmp::Reverse(r.at));
    let empty = Empty {
        title: "No attempt yet".into(),
        why:
            "What a channel's far side answers to an attempt stands here. In-app deliveries are committed at once and \
              need none."
                .into(),
        ..Empty::default()
    };
    ui::Answers { rows, empty }
}

/// The mail as it is sent, under a policy that lets it lay itself out and nothing else.
pub async fn mail(
    State(s): State<Arc<Services>>,
    signed: Signed,
    Path((id, delivery)): Path<(String, String)>,
    RawQuery(query): RawQuery,
) -> ApiResult<Response> {
    let id = id_of(&id)?;
    let delivery: Uuid = delivery.parse().map_err(|_| ApiError::not_found("delivery"))?;
    let asked = Asked::read(id, &Query::parse(query.as_deref().unwrap_or_default()));
    signed.require(Role::Viewer)?;
    if !asked.revealed(&signed) {
        return Err(ApiError::forbidden("not_revealed", "reveal this notification first"));
    }
    // The page of deliveries that begins with this one.
    let before = DeliveryId(Uuid::from_u128(delivery.as_u128().saturating_sub(1)));
    let detail = s.store.notification(&AppId::default(), id, Some(before)).await?;
    let detail = detail.ok_or_else(|| ApiError::not_found("notification"))?;
    let d = detail.deliveries.iter().find(|d| d.id.0 == delivery).ok_or_else(|| ApiError::not_found("delivery"))?;
    let rendered = s
        .renderer
        .render(&claimed(d, &detail))
        .map_err(|e| ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "not_rendered", e.to_string()))?;
    Ok(document(rendered.html, MAIL_CSP))
}
