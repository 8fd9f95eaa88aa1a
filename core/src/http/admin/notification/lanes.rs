//! The timeline of each delivery: accepted, tried, sent, seen.

use super::Asked;
use crate::{
    http::admin::{Signed, dead::others, notifications::state},
    services::Services,
};
use campanile_admin_ui::{
    format,
    pages::notification::{self as ui, Lane, Step},
    pieces::Empty,
};
use campanile_model::{
    ChannelName, DeliveryState, NodeId, Timestamp,
    ports::{AttemptRow, DeliveryRow, NotificationDetail},
};
use chrono::TimeDelta;

pub fn draw(s: &Services, signed: &Signed, asked: &Asked, detail: &NotificationDetail) -> ui::Lanes {
    let nodes = Nodes::of(s);
    ui::Lanes {
        lanes: detail
            .deliveries
            .iter()
            .enumerate()
            .map(|(i, d)| {
                let mut lane = lane(i + 1, d, detail, &nodes, s.clock.now());
                if lane.movable {
                    // Not by one that has it already.
                    let has = |name: &str| {
                        detail.deliveries.iter().any(|o| o.user_id == d.user_id && o.channel.as_str() == name)
                    };
                    lane.others = others(s, Some(&d.channel)).into_iter().filter(|name| !has(name)).collect();
                }
                lane
            })
            .collect(),
        csrf: signed.csrf.clone(),
        may_act: signed.admin.role.may_act(),
        id: asked.id.to_string(),
        back: asked.here().url(),
        more: detail.next.map(|id| asked.here().put("after", id.to_string()).url()),
        empty: Empty {
            title: "No delivery yet".into(),
            why: "A large audience is expanded in steps; its deliveries appear here as they are made.".into(),
            ..Empty::default()
        },
    }
}

/// How a node is called: this one by its address, others by their id's end.
pub struct Nodes {
    own: NodeId,
    address: String,
}

impl Nodes {
    pub fn of(s: &Services) -> Self {
        Self { own: s.node, address: s.address.to_string() }
    }
    pub fn name(&self, node: Option<NodeId>) -> String {
        match node {
            None => String::new(),
            Some(node) if node == self.own => self.address.clone(),
            Some(node) => {
                let id = node.to_string();
                format!("node …{}", &id[id.len().saturating_sub(6)..])
            }
        }
    }
}

fn lane(n: usize, d: &DeliveryRow, detail: &NotificationDetail, nodes: &Nodes, now: Timestamp) -> Lane {
    Lane {
        n,
        delivery: d.id.to_string(),
        channel: d.channel.to_string(),
        user: d.user_id.to_string(),
        address: d.recipient.as_deref().map(format::masked).unwrap_or_default(),
        status: state(d.shown),
        steps: steps(d, detail, nodes, now),
        movable: d.state == DeliveryState::Dead && d.dismissed_at.is_none(),
        others: Vec::new(),
        dead: d.state == DeliveryState::Dead,
        waits: d.state == DeliveryState::Retrying && d.next_attempt_at.is_some_and(|at| at > now),
    }
}

fn steps(d: &DeliveryRow, detail: &NotificationDetail, nodes: &Nodes, now: Timestamp) -> Vec<Step> {
    let row = &detail.row;
    let accepted = row.notification.created_at;
    // Large audiences are made bit by bit; otherwise only an operator makes one later.
    let moved = row.audience.is_none() && d.created_at > accepted + TimeDelta::seconds(1);
    let mut steps = vec![Step::new(accepted, "", "accepted").saying(format!("by {}", row.source))];
    if moved {
        steps.push(Step::new(d.created_at, "", "moved here").saying("an operator chose this channel"));
    }
    let told = match (d.state, d.reason.as_deref()) {
        (DeliveryState::Suppressed, why) => format!("not sent: {}", why.unwrap_or("a rule")),
        _ if d.due_at > accepted + TimeDelta::seconds(1) && d.attempt == 0 => "send later".to_owned(),
        _ => "send now".to_owned(),
    };
    steps.push(Step::new(accepted, "", "policy").saying(told));
    let in_app = d.channel == ChannelName::websocket();
    if !in_app && d.state != DeliveryState::Suppressed {
        let due = d.due_at.max(accepted);
        let queued = Step::new(due, "", "queued");
        steps.push(if due > now { Step { ahead: true, ..queued } } else { queued });
    }
    let mut rendered_by = None;
    for a in &d.attempts {
        // Said again when it changes: an operator mended the template between two tries.
        if a.template.is_some() && a.template != rendered_by {
            rendered_by.clone_from(&a.template);
            steps.push(Step::new(a.started_at, "", "rendered").saying(a.template.clone().unwrap_or_default()));
        }
        steps.push(attempt(a, &d.channel, nodes));
    }
    if d.state == DeliveryState::Sending {
        steps.push(Step { at: None, ..Step::new(now, "", format!("attempt {}", d.attempt)).saying("under way") });
    }
    if let (DeliveryState::Retrying, Some(at)) = (d.state, d.next_attempt_at) {
        steps.push(Step { ahead: true, ..Step::new(at, "warn", format!("attempt {}", d.attempt + 1)) });
    }
    if let Some(at) = d.sent_at {
        let (name, detail) = if in_app { ("in the inbox", "committed to the feed") } else { ("sent", "handed over") };
        steps.push(Step::new(at, "ok", name).saying(detail));
    }
    if d.state == DeliveryState::Delivered {
        // Confirmations are gathered for up to a second before they are written.
        let at = d.settled_at;
        steps.push(Step { at, ..Step::new(now, "ok", "delivered").saying("confirmed by the far side") });
    }
    if let (true, Some(at)) = (d.state.is_settled(), d.settled_at)
        && !matches!(d.state, DeliveryState::Sent | DeliveryState::Delivered)
    {
        let tone = state(d.shown).tone;
        steps.push(Step::new(at, tone, d.state.as_str()).saying(d.reason.clone().unwrap_or_default()));
    }
    for (name, at) in [("seen", d.seen_at), ("read", d.read_at), ("archived", d.archived_at)] {
        steps.extend(at.map(|at| Step::new(at, "ok", name)));
    }
    steps.extend(d.dismissed_at.map(|at| Step::new(at, "off", "put aside").saying("out of the dead letters")));
    // Stable: what shares a millisecond, or has no time, stays where it stands.
    let mut last = accepted;
    let mut keyed: Vec<(Timestamp, Step)> = steps
        .into_iter()
        .map(|step| {
            last = step.at.unwrap_or(last);
            (last, step)
        })
        .collect();
    keyed.sort_by_key(|(at, _)| *at);
    keyed.into_iter().map(|(_, step)| step).collect()
}

fn attempt(a: &AttemptRow, channel: &ChannelName, nodes: &Nodes) -> Step {
    let mut said: Vec<String> = Vec::new();
    // Of several providers, which one.
    said.extend(a.instance.as_ref().filter(|i| *i != channel.as_str()).map(|i| format!("by {i}")));
    if a.outcome != "ok" {
        said.push(a.outcome.replace('_', " "));
    }
    said.extend(a.code.clone());
    let code = a.code.as_deref().unwrap_or_default();
    said.extend(a.message.as_deref().map(|m| format::said_beside(code, m).to_owned()).filter(|m| !m.is_empty()));
    // Of linked-in channels it is the host's own.
    said.extend(a.code_version.clone());
    let node = nodes.name(a.node);
    if !node.is_empty() {
        said.push(format!("on {node}"));
    }
    Step {
        took: Some(a.duration_ms),
        uncertain: a.uncertain,
        ..Step::new(a.started_at, outcome_tone(&a.outcome), format!("attempt {}", a.attempt)).saying(said.join(" · "))
    }
}

pub fn outcome_tone(outcome: &str) -> &'static str {
    match outcome {
        "ok" => "ok",
        "permanent" | "recipient_gone" => "bad",
        _ => "warn",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::admin::notification::fixtures::{at, delivery, detail};

    #[test]
    fn a_lane_is_in_the_order_of_time() {
        let mut d = delivery("email", DeliveryState::Sent);
        let tried = |n, s, outcome: &str| AttemptRow {
            attempt: n,
            started_at: at(s),
            duration_ms: 120,
            outcome: outcome.into(),
            code: (outcome != "ok").then(|| "503".to_owned()),
            message: None,
            uncertain: false,
            instance: Some(if n == 1 { "email" } else { "relay-2" }.to_owned()),
            template: (n == 1).then(|| "email/default 1f8a02c4".to_owned()),
            code_version: Some("email 0.1.0".to_owned()),
            node: None,
        };
        d.attempts = vec![tried(1, 1, "retry"), tried(2, 61, "ok")];
        (d.attempt, d.sent_at, d.settled_at, d.read_at) = (2, Some(at(62)), Some(at(62)), Some(at(90)));
        let nodes = Nodes { own: NodeId::new(), address: "here".into() };
        let detail = detail(vec![d]);
        let lane = lane(1, &detail.deliveries[0], &detail, &nodes, at(100));
        let names: Vec<_> = lane.steps.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(names, ["accepted", "policy", "queued", "rendered", "attempt 1", "attempt 2", "sent", "read"]);
        assert_eq!(lane.steps[3].detail, "email/default 1f8a02c4");
        assert_eq!(lane.steps[4].detail, "retry · 503 · email 0.1.0");
        assert_eq!(lane.steps[5].detail, "by relay-2 · email 0.1.0");
        assert_eq!(lane.address, "m•••@northwind.example");
    }
}
