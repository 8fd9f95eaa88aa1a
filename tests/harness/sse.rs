//! A reader of server-sent events.

use crate::{api, wait::DEADLINE};
use futures_util::{StreamExt, stream::BoxStream};
use serde_json::Value;

/// One event of the stream.
#[derive(Clone, PartialEq, Debug)]
pub struct Event {
    pub id: Option<String>,
    pub data: Value,
}

pub struct EventStream {
    bytes: BoxStream<'static, reqwest::Result<bytes::Bytes>>,
    buffer: String,
}

impl EventStream {
    /// Opens the stream; the status when it was refused.
    pub async fn open(url: &str, headers: &[(&str, &str)]) -> Result<Self, u16> {
        let mut request = api::client().get(url).header("accept", "text/event-stream");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.expect("the host answers");
        if !response.status().is_success() {
            return Err(response.status().as_u16());
        }
        let kind = response.headers()["content-type"].to_str().expect("text").to_owned();
        assert!(kind.starts_with("text/event-stream"), "an event stream came as {kind}");
        Ok(Self { bytes: response.bytes_stream().boxed(), buffer: String::new() })
    }

    /// The next event; comments are passed over. `None` at the end of the stream.
    pub async fn next(&mut self) -> Option<Event> {
        tokio::time::timeout(DEADLINE, self.read()).await.expect("an event in time")
    }

    async fn read(&mut self) -> Option<Event> {
        loop {
            while let Some(end) = self.buffer.find("\n\n") {
                let block: String = self.buffer.drain(..end + 2).collect();
                if let Some(event) = parse(&block) {
                    return Some(event);
                }
            }
            let piece = self.bytes.next().await?.ok()?;
            self.buffer.push_str(&String::from_utf8_lossy(&piece).replace("\r\n", "\n"));
        }
    }

    /// The next event whose data has this type.
    pub async fn wait_for(&mut self, kind: &str) -> Event {
        loop {
            let event = self.next().await.unwrap_or_else(|| panic!("the stream ended before a {kind}"));
            if event.data["type"] == kind {
                return event;
            }
        }
    }
}

fn parse(block: &str) -> Option<Event> {
    let mut id = None;
    let mut data = Vec::new();
    for line in block.lines() {
        match line.split_once(':') {
            Some(("id", value)) => id = Some(value.trim_start().to_owned()),
            Some(("data", value)) => data.push(value.strip_prefix(' ').unwrap_or(value)),
            _ => {}
        }
    }
    if data.is_empty() {
        return None;
    }
    let text = data.join("\n");
    Some(Event { id, data: serde_json::from_str(&text).unwrap_or(Value::String(text)) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn blocks_are_parsed_and_comments_passed_over() {
        assert_eq!(parse(": keep-alive\n\n"), None);
        let event = parse("id: e:7\ndata: {\"type\":\ndata: \"pong\"}\n\n").unwrap();
        assert_eq!(event, Event { id: Some("e:7".into()), data: json!({"type": "pong"}) });
    }
}
