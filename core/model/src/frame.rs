//! The `notification` frame, encoded once and shared by every socket it goes to.

use crate::{NotificationId, clock, notification::Notification};
use bytes::Bytes;
use serde_json::{Map, Value};

/// Keys of the `data` object that the platform owns; they win over keys of the application's `data`.
pub const RESERVED_KEYS: [&str; 5] = ["notification_id", "title", "message", "notification_type", "timestamp"];

/// What stands before the `data` object in a classic frame.
const HEAD: &str = "{\"type\":\"notification\",\"data\":";

#[derive(Clone, Debug)]
pub struct Frame {
    pub notification_id: NotificationId,
    /// The JSON object under `data`.
    data: Bytes,
    /// The whole classic frame.
    classic: Bytes,
}

impl Frame {
    pub fn of(n: &Notification) -> Self {
        Self::encode(
            n.id,
            &n.content.title,
            &n.content.message,
            &n.content.notification_type,
            n.created_at,
            &n.content.data,
        )
    }

    pub fn encode(
        id: NotificationId,
        title: &str,
        message: &str,
        notification_type: &str,
        timestamp: crate::Timestamp,
        data: &Map<String, Value>,
    ) -> Self {
        let mut out = String::with_capacity(192 + title.len() + message.len());
        out.push_str(HEAD);
        out.push_str("{\"notification_id\":\"");
        out.push_str(&id.to_string());
        for (key, value) in [("title", title), ("message", message), ("notification_type", notification_type)] {
            out.push_str("\",\"");
            out.push_str(key);
            out.push_str("\":\"");
            push_escaped(&mut out, value);
        }
        out.push_str("\",\"timestamp\":\"");
        out.push_str(&clock::rfc3339(timestamp));
        out.push('"');
        for (key, value) in data {
            if RESERVED_KEYS.contains(&key.as_str()) {
                continue;
            }
            out.push_str(",\"");
            push_escaped(&mut out, key);
            out.push_str("\":");
            out.push_str(&value.to_string());
        }
        out.push_str("}}");
        Self::cut(id, Bytes::from(out))
    }

    /// The bytes of [`Frame::classic`], as another node encoded them; `None` when they are no such frame.
    pub fn from_classic(id: NotificationId, classic: Bytes) -> Option<Self> {
        let text = std::str::from_utf8(&classic).ok()?;
        let whole = text.strip_prefix(HEAD).is_some_and(|data| data.starts_with('{') && data.ends_with("}}"));
        whole.then(|| Self::cut(id, classic))
    }

    fn cut(id: NotificationId, classic: Bytes) -> Self {
        let data = classic.slice(HEAD.len()..classic.len() - 1);
        Self { notification_id: id, data, classic }
    }

    /// `{"type":"notification","data":{…}}`, shared.
    pub fn classic(&self) -> Bytes {
        self.classic.clone()
    }

    /// The `data` object alone, shared.
    pub fn data(&self) -> Bytes {
        self.data.clone()
    }

    /// The v1 frame of one user: `seq` and `unread` stand between `type` and the shared `data`.
    pub fn v1(&self, seq: i64, unread: i64) -> Bytes {
        let mut out = Vec::with_capacity(self.data.len() + 64);
        out.extend_from_slice(b"{\"type\":\"notification\",\"seq\":");
        out.extend_from_slice(seq.to_string().as_bytes());
        out.extend_from_slice(b",\"unread\":");
        out.extend_from_slice(unread.to_string().as_bytes());
        out.extend_from_slice(b",\"data\":");
        out.extend_from_slice(&self.data);
        out.push(b'}');
        Bytes::from(out)
    }
}

fn push_escaped(out: &mut String, s: &str) {
    // serde_json writes the quotes too; they stand in the surrounding text already.
    let quoted = Value::String(s.to_owned()).to_string();
    out.push_str(&quoted[1..quoted.len() - 1]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn reserved_keys_win_and_both_frames_share_the_data() {
        let data = json!({"title": "evil", "room_id": "r\"1", "n": 1.5}).as_object().unwrap().clone();
        let t = "2024-01-15T10:30:00Z".parse().unwrap();
        let f = Frame::encode(NotificationId::new(), "T\n\"q\"", "m", "new_message", t, &data);
        let classic: Value = serde_json::from_slice(&f.classic()).unwrap();
        assert_eq!(classic["data"]["title"], "T\n\"q\"");
        assert_eq!(classic["data"]["room_id"], "r\"1");
        assert_eq!(classic["data"]["timestamp"], "2024-01-15T10:30:00.000Z");
        let v1: Value = serde_json::from_slice(&f.v1(7, 3)).unwrap();
        assert_eq!((&v1["seq"], &v1["unread"]), (&json!(7), &json!(3)));
        assert_eq!(v1["data"], classic["data"]);
        assert_eq!(serde_json::from_slice::<Value>(&f.data()).unwrap(), classic["data"]);

        let again = Frame::from_classic(f.notification_id, f.classic()).unwrap();
        assert_eq!((again.classic(), again.data(), again.v1(7, 3)), (f.classic(), f.data(), f.v1(7, 3)));
        let cut = f.classic().slice(..f.classic().len() - 1);
        for wrong in [
            cut,
            Bytes::new(),
            Bytes::from_static(b"{\"type\":\"notification\",\"data\":}}"),
            Bytes::from_static(b"\xff"),
        ] {
            assert!(Frame::from_classic(f.notification_id, wrong).is_none());
        }
    }
}
