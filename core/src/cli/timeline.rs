//! `send --wait`: the deliveries of one notification, drawn as they change until all are settled.
//!
//! On a terminal the picture is drawn over itself; elsewhere each change is a line of its own.

use super::{
    client::Client,
    exit::{Code, Failure, Outcome},
    output::{Output, Tone, remark, safe},
};
use campanile_model::DeliveryState;
use chrono::DateTime;
use reqwest::Method;
use serde_json::Value;
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

const POLL_FIRST: Duration = Duration::from_millis(40);
const POLL_MOST: Duration = Duration::from_secs(1);

/// What one delivery looks like now.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Lane {
    key: String,
    channel: String,
    user: String,
    state: String,
    settled: bool,
    /// From acceptance to `sent`, or to the end.
    took_ms: Option<i64>,
    note: String,
}

pub async fn follow(client: &Client, id: &str, title: &str, limit: Option<Duration>, out: Output) -> Outcome {
    let started = Instant::now();
    let mut pause = POLL_FIRST;
    let mut screen = Screen { drawn: 0, seen: HashMap::new() };
    if !out.terminal {
        out.line(format!("accepted {id}"));
    }
    loop {
        let detail = client.api(Method::GET, &["notifications", id]).send().await?;
        let lanes = lanes(&detail);
        let done = settled(&detail, &lanes);
        screen.draw(out, id, title, &lanes, &detail, done);
        if done {
            out.show(&detail, |_| {});
            return verdict(id, &detail);
        }
        if limit.is_some_and(|limit| started.elapsed() >= limit) {
            return Err(Failure::failed("not everything is settled yet")
                .why(format!("waited {}", human(started.elapsed().as_millis() as i64)))
                .next(format!("look again: GET /api/v1/notifications/{id}")));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 3 / 2).min(POLL_MOST);
    }
}

fn lanes(detail: &Value) -> Vec<Lane> {
    let accepted = time(&detail["timestamp"]);
    let lane = |d: &Value| {
        let text = |key: &str| safe(d[key].as_str().unwrap_or_default());
        let state = text("state");
        let start = accepted.or_else(|| time(&d["created_at"]));
        let end = time(&d["sent_at"]).or_else(|| time(&d["settled_at"]));
        Lane {
            key: text("delivery_id"),
            channel: text("channel"),
            user: text("user_id"),
            settled: state.parse::<DeliveryState>().is_ok_and(DeliveryState::is_settled),
            took_ms: start.zip(end).map(|(a, b)| (b - a).max(0)),
            note: note(d, &state),
            state,
        }
    };
    detail["deliveries"].as_array().into_iter().flatten().map(lane).collect()
}

/// What explains the state: its reason, or the last attempt and when the next one is.
fn note(d: &Value, state: &str) -> String {
    let text = |v: &Value| safe(v.as_str().unwrap_or_default());
    let last = d["attempts"].as_array().and_then(|a| a.last());
    match (state, last) {
        ("retrying", Some(last)) => {
            let said = [&last["code"], &last["message"], &last["outcome"]].into_iter().find(|v| v.is_string());
            let next = d["next_attempt_at"].as_str().map(|t| format!(", next at {}", safe(t))).unwrap_or_default();
            format!("attempt {}: {}{next}", last["attempt"], said.map(text).unwrap_or_default())
        }
        ("dead", Some(last)) => {
            let said = text(&last["message"]);
            if said.is_empty() { text(&d["reason"]) } else { format!("{}: {said}", text(&d["reason"])) }
        }
        _ => text(&d["reason"]),
    }
}

fn time(v: &Value) -> Option<i64> {
    DateTime::parse_from_rfc3339(v.as_str()?).ok().map(|t| t.timestamp_millis())
}

/// All deliveries of everybody, those beyond the first page too: `summary` counts them all.
fn settled(detail: &Value, lanes: &[Lane]) -> bool {
    let audience = &detail["audience"];
    let expanded = audience.is_null() || audience["recipients"] == audience["expanded"];
    let open = |state: &str| state == "scheduled" || state.parse::<DeliveryState>().is_ok_and(|s| !s.is_settled());
    let none_open = match detail["summary"].as_object() {
        Some(summary) => !summary.iter().any(|(state, n)| open(state) && n.as_u64().unwrap_or(0) > 0),
        None => lanes.iter().all(|l| l.settled),
    };
    expanded && none_open && lanes.iter().all(|l| l.settled)
}

fn verdict(id: &str, detail: &Value) -> Outcome {
    let count = |states: &[&str]| -> u64 { states.iter().filter_map(|s| detail["summary"][*s].as_u64()).sum() };
    let (reached, lost) = (count(&["sent", "delivered"]), count(&["dead", "expired", "cancelled"]));
    if lost > 0 {
        return Err(Failure::failed(format!("{lost} of {} deliveries did not arrive", reached + lost))
            .why("see the reasons above")
            .next("campanile dead ls"));
    }
    if reached == 0 {
        return Err(Failure::new(Code::Failed, "nobody was reached")
            .why("every delivery was suppressed; the reasons stand above")
            .next(format!("campanile user show USER   (notification {id})")));
    }
    Ok(())
}

struct Screen {
    /// Lines on the terminal that the next picture replaces.
    drawn: usize,
    seen: HashMap<String, Lane>,
}

/// Deliveries drawn one by one; of more, only the sum.
const LANES: usize = 12;

impl Screen {
    fn draw(&mut self, out: Output, id: &str, title: &str, lanes: &[Lane], detail: &Value, done: bool) {
        if out.json || out.quiet {
            return;
        }
        if !out.terminal {
            for lane in lanes.iter().take(LANES) {
                if self.seen.get(&lane.key) != Some(lane) {
                    self.seen.insert(lane.key.clone(), lane.clone());
                    out.line(row(out, lane));
                }
            }
            return;
        }
        if self.drawn > 0 {
            // Up to the first line of the last picture, and clear from there.
            remark_raw(&format!("\x1b[{}A\x1b[J", self.drawn));
        }
        let mut lines = vec![format!("{}  {}", out.paint(Tone::Strong, &safe(title)), out.paint(Tone::Dim, id))];
        lines.push(format!("  {} accepted", out.paint(Tone::Good, "✓")));
        lines.extend(lanes.iter().take(LANES).map(|lane| format!("  {}", row(out, lane))));
        let summary = detail["summary"].as_object().cloned().unwrap_or_default();
        let total: u64 = summary.values().filter_map(Value::as_u64).sum();
        if total > LANES as u64 {
            let parts: Vec<_> = summary.iter().map(|(state, n)| format!("{n} {}", safe(state))).collect();
            lines.push(format!("  of {total}: {}", parts.join(", ")));
        }
        self.drawn = if done { 0 } else { lines.len() };
        for line in lines {
            out.line(line);
        }
    }
}

fn row(out: Output, lane: &Lane) -> String {
    let (mark, tone) = match lane.state.as_str() {
        "sent" | "delivered" => ("✓", Tone::Good),
        "dead" | "expired" => ("✗", Tone::Bad),
        "suppressed" | "cancelled" => ("–", Tone::Dim),
        "retrying" => ("↻", Tone::Warn),
        _ => ("·", Tone::Dim),
    };
    let took = lane.took_ms.map(human).unwrap_or_default();
    let note = if lane.note.is_empty() { String::new() } else { format!("  ({})", lane.note) };
    format!("{} {:<10} {:<12} {:<10} {:>8}{note}", out.paint(tone, mark), lane.channel, lane.user, lane.state, took)
        .trim_end()
        .to_owned()
}

/// One unit: `412 ms`, `3.2 s`, `38 min`, `5 h`.
pub fn human(ms: i64) -> String {
    match ms {
        ..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{:.1} s", ms as f64 / 1e3),
        60_000..7_200_000 => format!("{} min", ms / 60_000),
        7_200_000..172_800_000 => format!("{} h", ms / 3_600_000),
        _ => format!("{} d", ms / 86_400_000),
    }
}

fn remark_raw(text: &str) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
        remark("standard output is closed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn detail(email: &str) -> Value {
        json!({
            "timestamp": "2026-01-01T00:00:00.000Z",
            "summary": {"delivered": 1, email: 1},
            "deliveries": [
                {"delivery_id": "1", "user_id": "ada", "channel": "websocket", "state": "delivered", "reason": null,
                 "sent_at": "2026-01-01T00:00:00.009Z", "attempts": []},
                {"delivery_id": "2", "user_id": "ada", "channel": "email", "state": email, "reason": null,
                 "attempts": [{"attempt": 1, "outcome": "retry", "code": "451", "message": null}]},
            ],
        })
    }

    #[test]
    fn waits_for_the_slowest() {
        let d = detail("retrying");
        let l = lanes(&d);
        assert!(!settled(&d, &l));
        assert_eq!((l[0].took_ms, l[1].note.as_str()), (Some(9), "attempt 1: 451"));
        let d = detail("sent");
        assert!(settled(&d, &lanes(&d)));
        assert!(verdict("x", &d).is_ok());
    }

    #[test]
    fn what_is_beyond_the_first_page_counts() {
        let mut d = detail("sent");
        d["summary"]["pending"] = json!(3);
        assert!(!settled(&d, &lanes(&d)));
        d["summary"]["pending"] = json!(0);
        d["audience"] = json!({"recipients": 5, "expanded": 4});
        assert!(!settled(&d, &lanes(&d)));
    }

    #[test]
    fn a_dead_delivery_fails_the_command() {
        assert_eq!(verdict("x", &detail("dead")).unwrap_err().what, "1 of 2 deliveries did not arrive");
        let none = json!({"summary": {"suppressed": 2}});
        assert_eq!(verdict("x", &none).unwrap_err().what, "nobody was reached");
    }

    #[test]
    fn durations_have_one_unit() {
        for (ms, text) in [(0, "0 ms"), (412, "412 ms"), (3_200, "3.2 s"), (2_280_000, "38 min"), (36_000_000, "10 h")]
        {
            assert_eq!(human(ms), text);
        }
    }
}
