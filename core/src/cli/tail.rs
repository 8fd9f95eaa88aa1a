//! `campanile tail`: deliveries as they move, one line each.

use super::{
    Global,
    client::Client,
    exit::{Code, Failure, Outcome},
    output::{Output, Tone, remark, safe},
    timeline::human,
};
use reqwest::Method;
use serde_json::Value;

#[derive(clap::Args, Debug)]
pub struct Args {
    #[arg(long)]
    channel: Option<String>,
    /// Only arrivals at this state: sent, delivered, retrying, dead, …
    #[arg(long)]
    state: Option<String>,
    #[arg(long)]
    user: Option<String>,
    /// Only this notification.
    #[arg(long, value_name = "ID")]
    notification: Option<String>,
}

pub async fn run(args: Args, global: &Global, out: Output) -> Outcome {
    let client = Client::new(global)?;
    let query = [
        ("channel", args.channel.unwrap_or_default()),
        ("state", args.state.unwrap_or_default()),
        ("user_id", args.user.unwrap_or_default()),
        ("notification_id", args.notification.unwrap_or_default()),
    ];
    let mut response = client.api(Method::GET, &["events"]).query(&query).stream().await?;
    if out.terminal && !out.quiet {
        remark(out.paint(Tone::Dim, "Waiting for deliveries; Ctrl-C ends."));
    }
    let mut events = Events::default();
    loop {
        let ended = |why: &str| {
            Err(Failure::new(Code::NoConnection, "the server ended the stream").why(why).next("campanile tail"))
        };
        match response.chunk().await {
            Ok(Some(bytes)) => events.feed(&bytes, |name, data| show(name, data, out)),
            Ok(None) => return ended("it is stopping"),
            Err(e) => return ended(&e.to_string()),
        }
    }
}

fn show(name: &str, data: &str, out: Output) {
    let Ok(event) = serde_json::from_str::<Value>(data) else { return };
    if name == "lagged" {
        remark(format!("{} events were too many to show", event["missed"]));
        return;
    }
    if out.json {
        out.answer(data);
        return;
    }
    out.answer(line(&event, out));
}

fn line(event: &Value, out: Output) -> String {
    let text = |key: &str| safe(event[key].as_str().unwrap_or_default());
    let state = text("state");
    let (mark, tone) = match state.as_str() {
        "sent" | "delivered" => ("✓", Tone::Good),
        "dead" | "expired" => ("✗", Tone::Bad),
        "retrying" => ("↻", Tone::Warn),
        "suppressed" | "cancelled" => ("–", Tone::Dim),
        _ => ("·", Tone::Dim),
    };
    let at = text("at");
    // 2026-01-01T09:08:07.006Z → 09:08:07.006
    let clock = at.get(11..23).unwrap_or(&at);
    let extra = match (event["latency_ms"].as_i64(), event["reason"].as_str()) {
        (_, Some(reason)) => safe(reason),
        (Some(ms), None) => human(ms),
        (None, None) => String::new(),
    };
    format!(
        "{} {} {:<10} {:<16} {state:<10} {extra:<12} {}",
        out.paint(Tone::Dim, clock),
        out.paint(tone, mark),
        text("channel"),
        text("user_id"),
        out.paint(Tone::Dim, &text("notification_id"))
    )
}

/// Server-sent events out of pieces of a body.
#[derive(Default)]
struct Events {
    waiting: Vec<u8>,
}

impl Events {
    fn feed(&mut self, bytes: &[u8], mut each: impl FnMut(&str, &str)) {
        self.waiting.extend_from_slice(bytes);
        while let Some(end) = self.waiting.windows(2).position(|w| w == b"\n\n") {
            let block: Vec<u8> = self.waiting.drain(..end + 2).collect();
            let block = String::from_utf8_lossy(&block);
            let field = |name: &str| {
                block.lines().find_map(|l| l.strip_prefix(name)).and_then(|l| l.strip_prefix(':')).map(str::trim_start)
            };
            if let Some(data) = field("data") {
                each(field("event").unwrap_or_default(), data);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_whatever_the_pieces() {
        let stream = b"event: delivery\ndata: {\"a\":1}\n\n: keep-alive\n\nevent: lagged\ndata: {\"missed\":2}\n\n";
        for size in 1..stream.len() {
            let (mut events, mut seen) = (Events::default(), Vec::new());
            for piece in stream.chunks(size) {
                events.feed(piece, |name, data| seen.push((name.to_owned(), data.to_owned())));
            }
            let expected = [("delivery", "{\"a\":1}"), ("lagged", "{\"missed\":2}")];
            assert_eq!(seen, expected.map(|(n, d)| (n.to_owned(), d.to_owned())), "pieces of {size}");
        }
    }

    #[test]
    fn a_line_names_time_channel_user_and_state() {
        let out = Output { json: false, quiet: false, terminal: false, colour: false };
        let event = serde_json::json!({"at": "2026-01-01T09:08:07.006Z", "channel": "email", "user_id": "ada\u{1b}[2J",
            "state": "sent", "latency_ms": 31, "notification_id": "n1"});
        assert_eq!(line(&event, out), "09:08:07.006 ✓ email      ada [2J          sent       31 ms        n1");
    }
}
