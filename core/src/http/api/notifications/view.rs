//! How a notification and its deliveries are shown. Pure: rows in, wire forms out.

use super::summary::{Overall, overall};
use campanile_model::{
    ChannelName, DeliveryId, DeliveryState, NotificationId, Priority, Timestamp, UserId,
    api::ShownState,
    clock::wire,
    notification::Data,
    ports::{AttemptRow, DeliveryRow, NotificationDetail, NotificationRow},
};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// A notification in a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct NotificationSummary {
    pub notification_id: NotificationId,
    pub status: Overall,
    pub title: String,
    pub notification_type: String,
    pub priority: Priority,
    /// When it was accepted.
    #[serde(with = "wire")]
    #[schema(value_type = String, format = "date-time")]
    pub timestamp: Timestamp,
    #[serde(with = "wire::option")]
    #[schema(value_type = Option<String>, format = "date-time")]
    pub send_at: Option<Timestamp>,
    #[serde(with = "wire::option")]
    #[schema(value_type = Option<String>, format = "date-time")]
    pub expires_at: Option<Timestamp>,
    #[serde(with = "wire::option")]
    #[schema(value_type = Option<String>, format = "date-time")]
    pub cancelled_at: Option<Timestamp>,
    pub collapse_key: Option<String>,
    pub idempotency_key: Option<String>,
    /// `api`, `amqp` or `console`.
    pub source: String,
    /// Who sent it: `key:` with the API key's id, `admin:` with a name, `operator` or `amqp`.
    pub sent_by: String,
    pub request_id: String,
    /// The caller's W3C trace id, of its header `traceparent`; without one, the notification's own id.
    pub trace_id: String,
    /// Deliveries by state.
    #[schema(value_type = BTreeMap<String, u64>)]
    pub summary: BTreeMap<&'static str, u64>,
    /// Of an audience over `ingest.inline_max`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audience: Option<AudienceView>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct AudienceView {
    pub recipients: u32,
    /// Recipients whose deliveries exist by now.
    pub expanded: u32,
}

/// A notification with all that is known of it.
#[derive(Debug, Serialize, ToSchema)]
pub struct NotificationView {
    #[serde(flatten)]
    pub head: NotificationSummary,
    pub message: String,
    #[schema(value_type = Object)]
    pub data: Data,
    /// As the application sent it.
    #[schema(value_type = Object)]
    pub request: Value,
    /// The first 100, or those after `cursor`.
    pub deliveries: Vec<DeliveryView>,
    /// Pass as `cursor` for the next 100 deliveries.
    pub next_cursor: Option<String>,
    /// What happened to the deliveries shown, in time order.
    pub events: Vec<Event>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct DeliveryView {
    pub delivery_id: DeliveryId,
    pub user_id: UserId,
    pub channel: ChannelName,
    /// The address as resolved when it was accepted; gone once the user is erased.
    pub recipient: Option<String>,
    pub state: ShownState,
    pub reason: Option<String>,
    #[serde(with = "wire")]
    #[schema(value_type = String, format = "date-time")]
    pub created_at: Timestamp,
    #[serde(with = "wire")]
    #[schema(value_type = String, format = "date-time")]
    pub due_at: Timestamp,
    #[serde(with = "wire::option")]
    #[schema(value_type = Option<String>, format = "date-time")]
    pub next_attempt_at: Option<Timestamp>,
    #[serde(with = "wire::option")]
    #[schema(value_type = Option<String>, format = "date-time")]
    pub sent_at: Option<Timestamp>,
    #[serde(with = "wire::option")]
    #[schema(value_type = Option<String>, format = "date-time")]
    pub settled_at: Option<Timestamp>,
    #[serde(with = "wire::option")]
    #[schema(value_type = Option<String>, format = "date-time")]
    pub seen_at: Option<Timestamp>,
    #[serde(with = "wire::option")]
    #[schema(value_type = Option<String>, format = "date-time")]
    pub read_at: Option<Timestamp>,
    #[serde(with = "wire::option")]
    #[schema(value_type = Option<String>, format = "date-time")]
    pub archived_at: Option<Timestamp>,
    pub provider_id: Option<String>,
    pub attempts: Vec<AttemptView>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct AttemptView {
    pub attempt: u32,
    #[serde(with = "wire")]
    #[schema(value_type = String, format = "date-time")]
    pub started_at: Timestamp,
    pub duration_ms: i64,
    /// `ok`, `retry`, `throttled`, `permanent`, `recipient_gone`, `misconfigured`, `timeout` or `lost`.
    pub outcome: String,
    pub code: Option<String>,
    pub message: Option<String>,
    /// The effect may have happened although we can't know.
    pub uncertain: bool,
    /// Of the channel's instances, the one that made it.
    pub instance: Option<String>,
    /// The template that rendered it and the version of it: `email/default 1f8a02c4`; none where nothing is rendered.
    pub template: Option<String>,
    /// The plugin that made it and the version of it: `webhook 1.2.0`.
    pub code_version: Option<String>,
}

/// One thing that happened, to the notification or to one delivery of it.
#[derive(Debug, Serialize, ToSchema)]
pub struct Event {
    #[serde(with = "wire")]
    #[schema(value_type = String, format = "date-time")]
    pub at: Timestamp,
    /// `accepted`, `attempt`, `sent`, `seen`, `read`, `archived`, `cancel_requested`, or the settled state.
    #[schema(value_type = String)]
    pub event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivery_id: Option<DeliveryId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<UserId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<ChannelName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// An attempt's outcome, or why a delivery settled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl NotificationSummary {
    pub fn new(row: &NotificationRow, states: &[(ShownState, u64)]) -> Self {
        let n = &row.notification;
        let mut summary = BTreeMap::new();
        for (state, count) in states {
            *summary.entry(state.as_str()).or_default() += count;
        }
        Self {
            notification_id: n.id,
            status: overall(
                states,
                row.audience.is_none_or(|(recipients, expanded)| recipients == expanded),
                row.cancelled_at.is_some(),
            ),
            title: n.content.title.clone(),
            notification_type: n.content.notification_type.clone(),
            priority: n.priority,
            timestamp: n.created_at,
            send_at: n.send_at,
            expires_at: n.expires_at,
            cancelled_at: row.cancelled_at,
            collapse_key: n.collapse_key.clone(),
            idempotency_key: row.idempotency_key.clone(),
            source: row.source.clone(),
            sent_by: row.sent_by.clone(),
            request_id: n.request_id.clone(),
            trace_id: n.trace().trace_id(),
            summary,
            audience: row.audience.map(|(recipients, expanded)| AudienceView { recipients, expanded }),
        }
    }
}

impl NotificationView {
    pub fn new(detail: NotificationDetail) -> Self {
        let head = NotificationSummary::new(&detail.row, &detail.summary);
        let content = detail.row.notification.content.clone();
        let events = events(&detail.row, &detail.deliveries);
        Self {
            head,
            message: content.message.clone(),
            data: content.data.clone(),
            request: whole_request(&detail.row),
            deliveries: detail.deliveries.into_iter().map(DeliveryView::from).collect(),
            next_cursor: detail.next.map(|id| super::input::cursor(id.0)),
            events,
        }
    }
}

/// The stored request has its content in columns of their own; here it is whole again.
pub fn whole_request(row: &NotificationRow) -> Value {
    let content = &row.notification.content;
    let mut request = row.request.clone();
    if let Value::Object(fields) = &mut request {
        fields.insert("title".to_owned(), content.title.clone().into());
        if !content.message.is_empty() {
            fields.insert("message".to_owned(), content.message.clone().into());
        }
        if !content.data.is_empty() {
            fields.insert("data".to_owned(), content.data.clone().into());
        }
    }
    request
}

impl From<DeliveryRow> for DeliveryView {
    fn from(d: DeliveryRow) -> Self {
        Self {
            delivery_id: d.id,
            user_id: d.user_id,
            channel: d.channel,
            recipient: d.recipient,
            state: d.shown,
            reason: d.reason,
            created_at: d.created_at,
            due_at: d.due_at,
            next_attempt_at: d.next_attempt_at,
            sent_at: d.sent_at,
            settled_at: d.settled_at,
            seen_at: d.seen_at,
            read_at: d.read_at,
            archived_at: d.archived_at,
            provider_id: d.provider_id,
            attempts: d.attempts.into_iter().map(AttemptView::from).collect(),
        }
    }
}

impl From<AttemptRow> for AttemptView {
    fn from(a: AttemptRow) -> Self {
        Self {
            attempt: a.attempt,
            started_at: a.started_at,
            duration_ms: a.duration_ms,
            outcome: a.outcome,
            code: a.code,
            message: a.message,
            uncertain: a.uncertain,
            instance: a.instance,
            template: a.template,
            code_version: a.code_version,
        }
    }
}

fn events(row: &NotificationRow, deliveries: &[DeliveryRow]) -> Vec<Event> {
    let whole =
        |at, event| Event { at, event, delivery_id: None, user_id: None, channel: None, attempt: None, detail: None };
    let mut events = vec![whole(row.notification.created_at, "accepted")];
    events.extend(row.cancelled_at.map(|at| whole(at, "cancel_requested")));
    for d in deliveries {
        let of = |at, event| Event {
            delivery_id: Some(d.id),
            user_id: Some(d.user_id.clone()),
            channel: Some(d.channel.clone()),
            ..whole(at, event)
        };
        events.extend(d.attempts.iter().map(|a| Event {
            attempt: Some(a.attempt),
            detail: Some(a.outcome.clone()),
            ..of(a.started_at, "attempt")
        }));
        events.extend(d.sent_at.map(|at| of(at, "sent")));
        events.extend(settled(d).map(|at| Event { detail: d.reason.clone(), ..of(at, d.state.as_str()) }));
        events.extend(d.seen_at.map(|at| of(at, "seen")));
        events.extend(d.read_at.map(|at| of(at, "read")));
        events.extend(d.archived_at.map(|at| of(at, "archived")));
    }
    // Stable: what shares a millisecond stays in the order above.
    events.sort_by_key(|e| e.at);
    events
}

/// When it came to a settled state other than `sent`, which has an event of its own.
fn settled(d: &DeliveryRow) -> Option<Timestamp> {
    (d.state.is_settled() && d.state != DeliveryState::Sent).then_some(d.settled_at)?
}

#[cfg(test)]
mod tests {
    use super::*;
    use campanile_model::{AppId, Content, Notification};
    use serde_json::json;
    use std::sync::Arc;

    fn at(ms: i64) -> Timestamp {
        chrono::DateTime::from_timestamp_millis(ms).unwrap()
    }

    fn row() -> NotificationRow {
        NotificationRow {
            notification: Arc::new(Notification {
                id: NotificationId::new(),
                app: AppId::default(),
                content: Arc::new(Content {
                    title: "t".into(),
                    message: "m".into(),
                    notification_type: "general".into(),
                    data: json!({"k": 1}).as_object().unwrap().clone(),
                }),
                priority: Priority::Normal,
                created_at: at(1_000),
                send_at: None,
                expires_at: None,
                collapse_key: None,
                request_id: "r".into(),
                trace: None,
            }),
            request: json!({"user_id": "u"}),
            source: "api".into(),
            sent_by: "operator".into(),
            idempotency_key: None,
            cancelled_at: Some(at(5_000)),
            audience: None,
        }
    }

    fn delivery() -> DeliveryRow {
        DeliveryRow {
            id: DeliveryId::new(),
            notification_id: NotificationId::new(),
            user_id: "u".into(),
            channel: "email".into(),
            recipient: Some("a@b.c".into()),
            state: DeliveryState::Dead,
            shown: ShownState::Stored(DeliveryState::Dead),
            reason: Some("max_attempts".into()),
            attempt: 2,
            created_at: at(1_000),
            due_at: at(1_000),
            next_attempt_at: None,
            sent_at: None,
            settled_at: Some(at(4_000)),
            seen_at: None,
            read_at: None,
            archived_at: None,
            provider_id: None,
            error: String::new(),
            destination: String::new(),
            dismissed_at: None,
            attempts: [(1, 2_000), (2, 3_000)]
                .map(|(attempt, ms)| AttemptRow {
                    attempt,
                    started_at: at(ms),
                    duration_ms: 5,
                    outcome: "retry".into(),
                    code: None,
                    message: None,
                    uncertain: false,
                    instance: None,
                    template: None,
                    code_version: None,
                    node: None,
                })
                .into(),
        }
    }

    #[test]
    fn events_come_in_time_order_and_the_request_is_whole() {
        let view = NotificationView::new(NotificationDetail {
            row: row(),
            summary: vec![(ShownState::Stored(DeliveryState::Dead), 1)],
            deliveries: vec![delivery()],
            next: None,
        });
        let names: Vec<_> = view.events.iter().map(|e| e.event).collect();
        assert_eq!(names, ["accepted", "attempt", "attempt", "dead", "cancel_requested"]);
        assert_eq!(view.events[3].detail.as_deref(), Some("max_attempts"));
        assert_eq!(view.request, json!({"user_id": "u", "title": "t", "message": "m", "data": {"k": 1}}));
        let wire = serde_json::to_value(&view).unwrap();
        assert_eq!(wire["status"], "failed");
        assert_eq!((&wire["title"], &wire["message"], &wire["data"]), (&json!("t"), &json!("m"), &json!({"k": 1})));
        assert_eq!(wire["summary"], json!({"dead": 1}));
        assert_eq!(wire["timestamp"], "1970-01-01T00:00:01.000Z");
    }

    #[test]
    fn sent_is_told_once() {
        let d = DeliveryRow {
            state: DeliveryState::Sent,
            sent_at: Some(at(2_000)),
            settled_at: Some(at(2_000)),
            attempts: Vec::new(),
            ..delivery()
        };
        let names: Vec<_> = events(&row(), &[d]).iter().map(|e| e.event).collect();
        assert_eq!(names, ["accepted", "sent", "cancel_requested"]);
    }
}
