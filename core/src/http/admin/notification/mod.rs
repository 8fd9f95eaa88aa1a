//! `/admin/notifications/{id}`: one notification's lanes, its request and output behind a reveal, what can still be done.

mod acts;
mod content;
mod head;
mod lanes;

use super::{
    Routes, Signed,
    answer::part,
    console_frame, foot,
    gate::{ACT, LOOK, READ},
    live::{Drawn, Live, Query},
};
use crate::{
    http::{
        page::page,
        problem::{ApiError, ApiResult},
    },
    services::Services,
};
use async_trait::async_trait;
use axum::{
    extract::{Path, RawQuery, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use campanile_admin_ui::{
    pages::{Frame, notification as ui},
    pieces::{Empty, Here, Part, Tab, Tabs},
};
use campanile_model::{
    AppId, DeliveryId, DeliveryState, NotificationId, Timestamp, api::ShownState, ports::NotificationDetail,
};
use chrono::TimeDelta;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use subtle::ConstantTimeEq;

pub fn routes() -> Routes {
    Routes::new()
        .get("/admin/notifications/{id}", LOOK, show)
        .get("/admin/notifications/{id}/mail/{delivery}", READ, content::mail)
        .post("/admin/notifications/{id}/reveal", READ, acts::reveal)
        .post("/admin/notifications/{id}/retry", ACT, acts::retry)
        .post("/admin/notifications/{id}/cancel", ACT, acts::cancel)
        .post("/admin/notifications/{id}/resend", ACT, acts::resend)
}

fn id_of(text: &str) -> ApiResult<NotificationId> {
    text.parse().map(NotificationId).map_err(|_| ApiError::not_found("notification"))
}

fn path_of(id: NotificationId) -> String {
    format!("/admin/notifications/{id}")
}

/// A page as its address says it.
struct Asked {
    id: NotificationId,
    tab: String,
    after: Option<DeliveryId>,
    pass: String,
}

impl Asked {
    fn read(id: NotificationId, query: &Query) -> Self {
        Self {
            id,
            tab: query.get("tab").to_owned(),
            after: query.get("after").parse().ok().map(DeliveryId),
            pass: query.get("reveal").to_owned(),
        }
    }
    fn here(&self) -> Here {
        Here::new(path_of(self.id))
            .put("tab", &self.tab)
            .put("after", self.after.map(|id| id.to_string()).unwrap_or_default())
            .put("reveal", &self.pass)
    }
    /// This session has looked behind the curtain of this notification, and that is written down.
    fn revealed(&self, signed: &Signed) -> bool {
        signed.admin.role.may_read_content() && bool::from(pass(signed, self.id).as_bytes().ct_eq(self.pass.as_bytes()))
    }
}

/// What a reveal leaves in the address: worth nothing in another session or for another notification.
fn pass(signed: &Signed, id: NotificationId) -> String {
    let mut digest = Sha256::new();
    digest.update(b"campanile reveal\0");
    digest.update(Sha256::digest(signed.csrf.as_bytes()));
    digest.update(id.0.as_bytes());
    URL_SAFE_NO_PAD.encode(&digest.finalize()[..18])
}

async fn show(
    State(s): State<Arc<Services>>,
    signed: Signed,
    Path(id): Path<String>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> ApiResult<Response> {
    let id = id_of(&id)?;
    let asked = Asked::read(id, &Query::parse(query.as_deref().unwrap_or_default()));
    let facts = s.console.facts.get(&s).await;
    let frame = console_frame(&s, &signed, &headers, &facts, "/admin/notifications");
    let detail = match s.store.notification(&AppId::default(), id, asked.after).await {
        Ok(Some(detail)) => Ok(detail),
        Ok(None) => return missing(&s, frame, id),
        Err(e) => Err(ApiError::from(e)),
    };
    let (head, body) = match detail {
        Ok(detail) => {
            let sender = head::sender(&s, &detail).await;
            (Part::Well(head::draw(&s, &signed, &asked, &detail, sender)), content::body(&s, &signed, &asked, &detail))
        }
        Err(e) => {
            let failed: Part<ui::Head> = part(&s, "head", "This notification", Err::<_, ApiError>(e));
            let empty = ui::Answers { rows: Vec::new(), empty: Empty::default() };
            (failed, ui::Body::Answers(empty))
        }
    };
    page(&ui::Notification {
        frame,
        here: asked.here(),
        id: id.to_string(),
        head,
        tabs: tabs(&asked),
        body,
        foot: foot(&s, &facts),
    })
}

pub fn live(query: &Query) -> Box<dyn Live> {
    Box::new(Stream(query.get("id").parse().ok().map(|id| Asked::read(NotificationId(id), query))))
}

struct Stream(Option<Asked>);

#[async_trait]
impl Live for Stream {
    async fn draw(&self, s: &Arc<Services>, signed: &Signed, out: &mut Drawn) {
        let Some(asked) = &self.0 else { return out.settled() };
        let detail = match s.store.notification(&AppId::default(), asked.id, asked.after).await {
            Ok(Some(detail)) => Ok(detail),
            Ok(None) => return out.settled(),
            Err(e) => Err(ApiError::from(e)),
        };
        match detail {
            Ok(detail) => {
                let sender = head::sender(s, &detail).await;
                out.put("head", &head::draw(s, signed, asked, &detail, sender));
                if is_lanes(&asked.tab) {
                    out.put("lanes", &lanes::draw(s, signed, asked, &detail));
                }
                // People still read and see: an open page goes on for a while after the last attempt.
                let last = detail.deliveries.iter().filter_map(|d| d.settled_at).max();
                let over = last.is_some_and(|at| s.clock.now() - at > TimeDelta::hours(1));
                if over && waiting(&detail) == 0 {
                    out.settled();
                }
            }
            Err(e) => out.part("head", part::<ui::Head, _>(s, "head", "This notification", Err::<_, ApiError>(e))),
        }
    }
}

fn is_lanes(tab: &str) -> bool {
    !["request", "output", "answers"].contains(&tab)
}

fn tabs(asked: &Asked) -> Tabs {
    let tab = |label: &str, word: &str| Tab {
        label: label.to_owned(),
        href: asked.here().with("tab", word),
        current: if word.is_empty() { is_lanes(&asked.tab) } else { asked.tab == word },
        ..Tab::default()
    };
    let tabs = vec![tab("Timeline", ""), tab("Request", "request"), tab("Output", "output"), tab("Answers", "answers")];
    Tabs { id: "tabs", label: "Parts of this notification", tabs }
}

/// Never a bare "not found": an id tells its own time.
fn missing(s: &Services, frame: Frame, id: NotificationId) -> ApiResult<Response> {
    let keep = *s.config.retention.notifications;
    let accepted = id.0.get_timestamp().map(|t| {
        let (seconds, nanos) = t.to_unix();
        Timestamp::from_timestamp(i64::try_from(seconds).unwrap_or(0), nanos)
    });
    if let Some(Some(accepted)) = accepted
        && !keep.is_zero()
        && let Ok(kept) = TimeDelta::from_std(keep)
        && let Some(removed) = accepted.checked_add_signed(kept)
        && removed <= s.clock.now()
    {
        let days = keep.as_secs() / 86_400;
        let rule = if days > 0 { format!("{days}-day") } else { format!("{}-hour", keep.as_secs() / 3_600) };
        let gone = page(&ui::Gone { frame, id: id.to_string(), accepted, rule, removed })?;
        return Ok((StatusCode::GONE, gone).into_response());
    }
    Err(ApiError::not_found("notification"))
}

fn count_of(detail: &NotificationDetail, states: &[DeliveryState]) -> u64 {
    let wanted = |s: &ShownState| match s {
        ShownState::Scheduled => states.contains(&DeliveryState::Pending),
        ShownState::Stored(s) => states.contains(s),
    };
    detail.summary.iter().filter(|(s, _)| wanted(s)).map(|(_, n)| n).sum()
}

fn waiting(detail: &NotificationDetail) -> u64 {
    count_of(detail, &[DeliveryState::Pending, DeliveryState::Retrying, DeliveryState::Sending])
}

#[cfg(test)]
pub(super) mod fixtures {
    use super::*;
    use campanile_model::{
        Content, Notification, Priority,
        ports::{DeliveryRow, NotificationRow},
    };
    use serde_json::json;

    pub fn at(s: i64) -> Timestamp {
        Timestamp::from_timestamp(1_800_000_000 + s, 0).unwrap()
    }

    pub fn delivery(channel: &str, state: DeliveryState) -> DeliveryRow {
        DeliveryRow {
            id: DeliveryId::new(),
            notification_id: NotificationId::new(),
            user_id: "u_12".into(),
            channel: channel.into(),
            recipient: Some("mia@northwind.example".into()),
            state,
            shown: ShownState::Stored(state),
            reason: None,
            attempt: 0,
            created_at: at(0),
            due_at: at(0),
            next_attempt_at: None,
            sent_at: None,
            settled_at: None,
            seen_at: None,
            read_at: None,
            archived_at: None,
            provider_id: None,
            error: String::new(),
            destination: String::new(),
            dismissed_at: None,
            attempts: Vec::new(),
        }
    }

    pub fn detail(deliveries: Vec<DeliveryRow>) -> NotificationDetail {
        let mut summary: Vec<(ShownState, u64)> = Vec::new();
        for d in &deliveries {
            match summary.iter_mut().find(|(s, _)| *s == d.shown) {
                Some((_, n)) => *n += 1,
                None => summary.push((d.shown, 1)),
            }
        }
        let row = NotificationRow {
            notification: Arc::new(Notification {
                id: NotificationId::new(),
                app: AppId::default(),
                content: Arc::new(Content {
                    title: "it's".into(),
                    message: "m".into(),
                    notification_type: "general".into(),
                    data: serde_json::Map::new(),
                }),
                priority: Priority::Normal,
                created_at: at(0),
                send_at: None,
                expires_at: None,
                collapse_key: None,
                request_id: "r".into(),
                trace: None,
            }),
            request: json!({"user_id": "u_12"}),
            source: "api".into(),
            sent_by: "operator".into(),
            idempotency_key: None,
            cancelled_at: None,
            audience: None,
        };
        NotificationDetail { row, summary, deliveries, next: None }
    }
}
