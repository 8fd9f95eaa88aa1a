//! The head of a notification's page: how far it came, in a sentence, and its facts.

use super::{Asked, count_of, path_of};
use crate::{
    http::{
        admin::{
            Signed, base_url,
            notifications::{counted, said},
        },
        api::notifications::{Overall, overall, whole_request},
    },
    services::Services,
};
use campanile_admin_ui::{format, pages::notification as ui};
use campanile_model::{
    DeliveryState, Timestamp,
    ports::{DeliveryRow, NotificationDetail},
};
use chrono::TimeDelta;

fn overall_of(detail: &NotificationDetail) -> Overall {
    let expanded = detail.row.audience.is_none_or(|(all, done)| all == done);
    overall(&detail.summary, expanded, detail.row.cancelled_at.is_some())
}

/// Whose key or hand it was, by name where there is one.
pub async fn sender(s: &Services, detail: &NotificationDetail) -> Option<String> {
    let sent_by = &detail.row.sent_by;
    if let Some(admin) = sent_by.strip_prefix("admin:") {
        return Some(admin.to_owned());
    }
    let Some(id) = sent_by.strip_prefix("key:") else { return (!sent_by.is_empty()).then(|| sent_by.clone()) };
    // A look that fails costs the name and not the page.
    let keys = s.store.list_keys(&detail.row.notification.app).await.unwrap_or_default();
    let known = keys.into_iter().find(|key| key.id.to_string() == id);
    Some(known.map_or_else(|| format!("API key {id}"), |key| format!("API key “{}”", key.name)))
}

pub fn draw(
    s: &Services,
    signed: &Signed,
    asked: &Asked,
    detail: &NotificationDetail,
    sender: Option<String>,
) -> ui::Head {
    let row = &detail.row;
    let n = &row.notification;
    let content = signed.admin.role.may_read_content();
    let mut facts = vec![
        ("Type", n.content.notification_type.clone(), false),
        ("Priority", n.priority.as_str().to_owned(), false),
        ("Source", row.source.clone(), false),
    ];
    facts.extend(sender.map(|who| ("Sent by", who, false)));
    let mut fact = |label, text: Option<String>| facts.extend(text.map(|t| (label, t, true)));
    fact("Idempotency key", row.idempotency_key.clone());
    fact("Collapse key", n.collapse_key.clone());
    fact("Send at", n.send_at.map(format::machine));
    fact("Expires", n.expires_at.map(format::machine));
    fact("Cancelled", row.cancelled_at.map(format::machine));
    fact("Request id", Some(n.request_id.clone()));
    fact("Trace id", Some(n.trace().trace_id()));
    if let Some((all, expanded)) = row.audience {
        let text = format!("{} people, {} expanded", format::count(all.into()), format::count(expanded.into()));
        facts.push(("Audience", text, false));
    }
    let tries = 1 + s.config.retry.schedule.len() as u64;
    let base = base_url(s);
    ui::Head {
        id: n.id.to_string(),
        sentence: sentence(detail, tries, s.clock.now()),
        tone: match said(overall_of(detail)).tone {
            "off" => "",
            tone => tone,
        },
        title: content.then(|| n.content.title.clone()),
        facts,
        at: n.created_at,
        csrf: signed.csrf.clone(),
        may_act: signed.admin.role.may_act(),
        dead: count_of(detail, &[DeliveryState::Dead]),
        waiting: count_of(detail, &[DeliveryState::Pending, DeliveryState::Retrying]),
        curl: asked.revealed(signed).then(|| curl(&base, &whole_request(row))),
        link: format!("{base}{}", path_of(n.id)),
        back: asked.here().url(),
    }
}

/// Ready for a shell: the body in single quotes, which hold everything but one of their own.
fn curl(base: &str, request: &serde_json::Value) -> String {
    let body = request.to_string().replace('\'', "'\\''");
    format!(
        "curl {base}/api/v1/notifications -H \"Authorization: Bearer $KEY\" -H \"Content-Type: application/json\" -d '{body}'"
    )
}

/// `Delivered on 2 of 3 channels; webhook is on try 3 of 6, next in 4 min.`
fn sentence(detail: &NotificationDetail, tries: u64, now: Timestamp) -> String {
    let all: u64 = detail.summary.iter().map(|(_, n)| n).sum();
    let done = count_of(detail, &[DeliveryState::Sent, DeliveryState::Delivered]);
    let people = detail.deliveries.iter().any(|d| d.user_id != detail.deliveries[0].user_id) || all > 100;
    // One person: channels; several: deliveries.
    let of = |n: u64| counted(n, if people { "delivery" } else { "channel" });
    let begin = match overall_of(detail) {
        Overall::Accepted => "Accepted; nothing was tried yet".to_owned(),
        Overall::Scheduled => {
            let due = detail.deliveries.iter().map(|d| d.due_at).min();
            due.map_or_else(|| "Scheduled".to_owned(), |due| format!("Scheduled, {}", ahead(due - now)))
        }
        Overall::Cancelled => "Cancelled before anything was sent".to_owned(),
        Overall::Suppressed => "Rules kept every delivery from being tried".to_owned(),
        Overall::Expired => "Expired before it could be sent".to_owned(),
        Overall::Failed => format!("Given up on {}", of(count_of(detail, &[DeliveryState::Dead]))),
        _ if done == 0 => "Nothing is delivered yet".to_owned(),
        _ if done == all && all == 1 => "Delivered".to_owned(),
        _ if done == all => format!("Delivered on all of {}", of(all)),
        _ => format!("Delivered on {} of {}", format::count(done), of(all)),
    };
    let mut parts = vec![begin];
    let named =
        |d: &DeliveryRow| if people { format!("{} to {}", d.channel, d.user_id) } else { d.channel.to_string() };
    for d in detail.deliveries.iter().filter(|d| d.state == DeliveryState::Retrying).take(2) {
        let next = d.next_attempt_at.map_or_else(String::new, |at| format!(", next {}", ahead(at - now)));
        parts.push(format!("{} is on try {} of {tries}{next}", named(d), d.attempt + 1));
    }
    for d in detail.deliveries.iter().filter(|d| d.state == DeliveryState::Sending).take(2) {
        parts.push(format!("{} is being sent, try {}", named(d), d.attempt));
    }
    for d in detail.deliveries.iter().filter(|d| d.state == DeliveryState::Dead).take(2) {
        let why = if d.error.is_empty() { d.reason.clone().unwrap_or_default() } else { d.error.clone() };
        parts.push(format!("{} died after {} with {why}", named(d), counted(d.attempt.into(), "try")));
    }
    format!("{}.", parts.join("; "))
}

/// `in 4 min`, `now`.
fn ahead(left: TimeDelta) -> String {
    if left <= TimeDelta::zero() {
        return "now".to_owned();
    }
    format!("in {}", format::duration(left.num_milliseconds() as f64).text())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::admin::notification::fixtures::{at, delivery, detail};
    use campanile_model::api::ShownState;
    use serde_json::json;

    #[test]
    fn the_sentence_says_how_far_it_came() {
        let mut webhook = delivery("webhook", DeliveryState::Retrying);
        (webhook.attempt, webhook.next_attempt_at) = (2, Some(at(240)));
        let sent = |c| delivery(c, DeliveryState::Sent);
        let all = detail(vec![sent("websocket"), sent("email"), webhook]);
        assert_eq!(sentence(&all, 6, at(0)), "Delivered on 2 of 3 channels; webhook is on try 3 of 6, next in 4 min.");
        let mut dead = delivery("email", DeliveryState::Dead);
        (dead.attempt, dead.error) = (6, "550".into());
        assert_eq!(
            sentence(&detail(vec![dead]), 6, at(0)),
            "Given up on 1 channel; email died after 6 tries with 550."
        );
        assert_eq!(sentence(&detail(vec![sent("email")]), 6, at(0)), "Delivered.");
        let mut later = delivery("email", DeliveryState::Pending);
        (later.shown, later.due_at) = (ShownState::Scheduled, at(7_200));
        assert_eq!(sentence(&detail(vec![later]), 6, at(0)), "Scheduled, in 2 h.");
    }

    #[test]
    fn a_shell_takes_any_body() {
        let curl = curl("http://h", &json!({"title": "it's $HOME `id`"}));
        assert!(curl.ends_with(r#"-d '{"title":"it'\''s $HOME `id`"}'"#), "{curl}");
    }
}
