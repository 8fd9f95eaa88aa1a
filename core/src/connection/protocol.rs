//! The words of the socket: client frames parsed, server frames written. Absent on purpose: sockets, state, the store.
//!
//! The classic words are those of the first clients and are always spoken; v1 adds its own for those who asked for it.

use super::transport::Text;
use campanile_model::{
    NotificationId,
    effects::Marked,
    feed::{Counts, FeedItem, MarkAs, MarkSelection},
};
use serde_json::{Map, Value, json};
use std::fmt::Write as _;

/// Which set of messages a connection speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    Classic,
    V1,
}

impl Protocol {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::V1 => "v1",
        }
    }
}

/// Items of a `list` without a limit, and the most it may ask for.
pub const LIST_DEFAULT: u32 = 20;
pub const LIST_MAX: u32 = 100;

/// What a client asked for.
#[derive(Clone, PartialEq, Debug)]
pub enum Request {
    /// The bare text `ping`, answered with the bare text `pong`.
    BarePing,
    Ping,
    GetUnreadCount,
    /// `None`: the id is no UUID, so it can't be one of ours.
    MarkRead(Option<NotificationId>),
    Resume {
        epoch: String,
        since: i64,
    },
    Ack(i64),
    List {
        before: Option<i64>,
        limit: u32,
    },
    /// `strange`: ids that are no UUIDs.
    Mark {
        what: MarkSelection,
        mark: MarkAs,
        strange: Vec<String>,
    },
    Auth(String),
}

/// Why a frame could not be understood.
#[derive(Clone, PartialEq, Debug)]
pub enum Refusal {
    /// Counts towards the close: JSON that isn't, or a field that is missing or of the wrong kind.
    Malformed(String),
    /// A type this side does not know; a newer client may use one, so it only gets an `error`.
    UnknownType(String),
}

pub fn parse(text: &str, protocol: Protocol) -> Result<Request, Refusal> {
    if text == "ping" {
        return Ok(Request::BarePing);
    }
    let malformed = |m: &str| Refusal::Malformed(m.to_owned());
    let Ok(Value::Object(o)) = serde_json::from_str(text) else {
        return Err(malformed("send a JSON object such as {\"type\":\"ping\"}"));
    };
    let Some(Value::String(kind)) = o.get("type") else {
        return Err(malformed("type: is required and must be text"));
    };
    match (kind.as_str(), protocol) {
        ("ping", _) => Ok(Request::Ping),
        ("get_unread_count", _) => Ok(Request::GetUnreadCount),
        ("mark_read", _) => match o.get("notification_id") {
            Some(Value::String(id)) => Ok(Request::MarkRead(id.parse().ok())),
            _ => Err(malformed("notification_id: is required and must be text")),
        },
        ("resume", Protocol::V1) => match o.get("epoch") {
            Some(Value::String(epoch)) => {
                let since = seq(&o, "since")?.ok_or_else(|| malformed("since: is required"))?;
                Ok(Request::Resume { epoch: epoch.clone(), since })
            }
            _ => Err(malformed("epoch: is required and must be text")),
        },
        ("ack", Protocol::V1) => seq(&o, "seq")?.map(Request::Ack).ok_or_else(|| malformed("seq: is required")),
        ("list", Protocol::V1) => {
            let limit = seq(&o, "limit")?.unwrap_or(i64::from(LIST_DEFAULT)).clamp(1, i64::from(LIST_MAX));
            Ok(Request::List { before: seq(&o, "before")?, limit: limit as u32 })
        }
        ("mark", Protocol::V1) => mark(&o),
        ("auth", Protocol::V1) => match o.get("token") {
            Some(Value::String(token)) => Ok(Request::Auth(token.clone())),
            _ => Err(malformed("token: is required and must be text")),
        },
        (other, _) => Err(Refusal::UnknownType(other.chars().take(40).collect())),
    }
}

/// A whole number ≥ 0, or nothing (`null` counts as nothing).
fn seq(o: &Map<String, Value>, field: &str) -> Result<Option<i64>, Refusal> {
    match o.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(v) => v
            .as_i64()
            .filter(|n| *n >= 0)
            .map(Some)
            .ok_or_else(|| Refusal::Malformed(format!("{field}: must be a whole number, 0 or more"))),
    }
}

fn mark(o: &Map<String, Value>) -> Result<Request, Refusal> {
    let malformed = |m: &str| Err(Refusal::Malformed(m.to_owned()));
    let Some(mark) =
        o.get("as").and_then(Value::as_str).and_then(|s| MarkAs::ALL.into_iter().find(|m| m.as_str() == s))
    else {
        return malformed("as: must be one of seen, read, unread, archived, unarchived");
    };
    match (o.get("ids"), seq(o, "up_to_seq")?) {
        (None | Some(Value::Null), Some(to)) => {
            Ok(Request::Mark { what: MarkSelection::UpToSeq(to), mark, strange: Vec::new() })
        }
        (Some(Value::Array(ids)), None) if !ids.is_empty() => {
            let (mut known, mut strange) = (Vec::with_capacity(ids.len()), Vec::new());
            for id in ids {
                let Some(id) = id.as_str() else { return malformed("ids: must be a list of notification ids") };
                match id.parse() {
                    Ok(id) if !known.contains(&id) => known.push(id),
                    Ok(_) => {}
                    Err(_) => strange.push(id.chars().take(64).collect()),
                }
            }
            Ok(Request::Mark { what: MarkSelection::Ids(known), mark, strange })
        }
        _ => malformed("give either ids (a list that is not empty) or up_to_seq"),
    }
}

// ------------------------------------------------------------------------------------------- server frames

fn text(s: String) -> Text {
    Text::from(s)
}

fn framed(kind: &str, data: &Value) -> Text {
    text(format!("{{\"type\":\"{kind}\",\"data\":{data}}}"))
}

pub fn pong() -> Text {
    Text::from_static("{\"type\":\"pong\"}")
}

pub fn bare_pong() -> Text {
    Text::from_static("pong")
}

pub fn unread_count(count: i64) -> Text {
    text(format!("{{\"type\":\"unread_count\",\"data\":{{\"count\":{count}}}}}"))
}

pub fn notification_update(id: NotificationId, status: &str) -> Text {
    text(format!(
        "{{\"type\":\"notification_update\",\"data\":{{\"notification_id\":\"{id}\",\"status\":\"{status}\"}}}}"
    ))
}

pub fn error(code: &str, message: &str) -> Text {
    framed("error", &json!({"code": code, "message": message}))
}

pub fn counts(c: &Counts) -> Text {
    text(format!("{{\"type\":\"counts\",\"data\":{}}}", counts_json(c)))
}

fn counts_json(c: &Counts) -> String {
    format!("{{\"unseen\":{},\"unread\":{},\"total\":{},\"version\":{}}}", c.unseen, c.unread, c.total, c.version)
}

pub struct Hello<'a> {
    pub conn_id: campanile_model::ConnId,
    pub epoch: &'a str,
    pub head_seq: i64,
    pub counts: Counts,
    pub heartbeat_ms: i64,
    /// Seconds until the token ends.
    pub expires_in: i64,
}

pub fn hello(h: &Hello<'_>) -> Text {
    text(format!(
        "{{\"type\":\"hello\",\"data\":{{\"conn_id\":\"{}\",\"epoch\":{},\"head_seq\":{},\"counts\":{},\"heartbeat_ms\":{},\
         \"expires_in\":{}}}}}",
        h.conn_id,
        Value::from(h.epoch),
        h.head_seq,
        counts_json(&h.counts),
        h.heartbeat_ms,
        h.expires_in
    ))
}

pub fn heartbeat(head_seq: i64) -> Text {
    text(format!("{{\"type\":\"heartbeat\",\"data\":{{\"head_seq\":{head_seq}}}}}"))
}

pub fn marked(what: &Marked, mark: MarkAs) -> Text {
    let mut out = String::from("{\"type\":\"marked\",\"data\":{");
    match what {
        Marked::Ids(ids) => {
            out.push_str("\"ids\":[");
            for (i, id) in ids.iter().enumerate() {
                // Writing to a String can't fail.
                let _ = write!(out, "{}\"{id}\"", if i == 0 { "" } else { "," });
            }
            out.push(']');
        }
        Marked::UpToSeq(to) => {
            let _ = write!(out, "\"up_to_seq\":{to}");
        }
    }
    let _ = write!(out, ",\"as\":\"{}\"}}}}", mark.as_str());
    text(out)
}

pub fn resumed(from: i64, to: i64) -> Text {
    text(format!("{{\"type\":\"resumed\",\"data\":{{\"from\":{from},\"to\":{to}}}}}"))
}

pub fn reset(reason: &str, epoch: &str, head_seq: i64, counts: &Counts) -> Text {
    text(format!(
        "{{\"type\":\"reset\",\"data\":{{\"reason\":\"{reason}\",\"epoch\":{},\"head_seq\":{head_seq},\"counts\":{}}}}}",
        Value::from(epoch),
        counts_json(counts)
    ))
}

pub fn bye(after_ms: u64, spread_ms: u64) -> Text {
    text(format!("{{\"type\":\"bye\",\"data\":{{\"after_ms\":{after_ms},\"spread_ms\":{spread_ms}}}}}"))
}

/// The most bytes of items in one `list` frame; a page of large items is cut, its `next_before` says where.
const LIST_BYTES: usize = 128 * 1024;

pub fn list(items: &[FeedItem], next_before: Option<i64>) -> Text {
    let mut out = String::from("{\"type\":\"list\",\"data\":{\"items\":[");
    let mut next = next_before;
    for (i, item) in items.iter().enumerate() {
        let one = serde_json::to_string(item).unwrap_or_else(|_| "null".to_owned());
        if i > 0 && out.len() + one.len() > LIST_BYTES {
            next = Some(items[i - 1].seq);
            break;
        }
        if i > 0 {
            out.push(',');
        }
        out.push_str(&one);
    }
    let _ = write!(out, "],\"next_before\":{}}}}}", next.map_or_else(|| "null".to_owned(), |n| n.to_string()));
    text(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn v(t: &Text) -> Value {
        serde_json::from_str(t).unwrap()
    }

    #[test]
    fn the_seed_messages_read_and_written_exactly() {
        let id = NotificationId::new();
        for p in [Protocol::Classic, Protocol::V1] {
            assert_eq!(parse("ping", p), Ok(Request::BarePing));
            assert_eq!(parse(r#"{ "type": "ping" }"#, p), Ok(Request::Ping));
            assert_eq!(parse(r#"{ "type": "get_unread_count" }"#, p), Ok(Request::GetUnreadCount));
            let m = format!(r#"{{"type":"mark_read","notification_id":"{id}"}}"#);
            assert_eq!(parse(&m, p), Ok(Request::MarkRead(Some(id))));
            assert_eq!(
                parse(r#"{"type":"mark_read","notification_id":"uuid-string"}"#, p),
                Ok(Request::MarkRead(None))
            );
        }
        assert_eq!(v(&pong()), json!({"type": "pong"}));
        assert_eq!(bare_pong().as_str(), "pong");
        assert_eq!(v(&unread_count(5)), json!({"type": "unread_count", "data": {"count": 5}}));
        assert_eq!(
            v(&notification_update(id, "read")),
            json!({"type": "notification_update", "data": {"notification_id": id, "status": "read"}})
        );
        assert_eq!(v(&error("a", "b\"c")), json!({"type": "error", "data": {"code": "a", "message": "b\"c"}}));
    }

    #[test]
    fn v1_words_are_unknown_to_a_classic_socket() {
        for t in ["resume", "ack", "list", "mark", "auth", "subscribe"] {
            let text = format!("{{\"type\":\"{t}\",\"seq\":1,\"token\":\"x\"}}");
            assert_eq!(parse(&text, Protocol::Classic), Err(Refusal::UnknownType(t.to_owned())));
        }
    }

    #[test]
    fn v1_requests() {
        let p = |s: &str| parse(s, Protocol::V1);
        assert_eq!(p(r#"{"type":"ack","seq":7}"#), Ok(Request::Ack(7)));
        assert_eq!(
            p(r#"{"type":"resume","epoch":"e.1","since":0}"#),
            Ok(Request::Resume { epoch: "e.1".into(), since: 0 })
        );
        assert_eq!(p(r#"{"type":"list"}"#), Ok(Request::List { before: None, limit: LIST_DEFAULT }));
        assert_eq!(
            p(r#"{"type":"list","before":9,"limit":1000}"#),
            Ok(Request::List { before: Some(9), limit: LIST_MAX })
        );
        let id = NotificationId::new();
        assert_eq!(
            p(&format!(r#"{{"type":"mark","ids":["{id}","{id}","x"],"as":"archived"}}"#)),
            Ok(Request::Mark { what: MarkSelection::Ids(vec![id]), mark: MarkAs::Archived, strange: vec!["x".into()] })
        );
        assert_eq!(
            p(r#"{"type":"mark","up_to_seq":4,"as":"seen"}"#),
            Ok(Request::Mark { what: MarkSelection::UpToSeq(4), mark: MarkAs::Seen, strange: vec![] })
        );
        for bad in [
            "",
            "hello",
            "[]",
            "null",
            "{}",
            r#"{"type":1}"#,
            r#"{"type":"mark_read"}"#,
            r#"{"type":"mark_read","notification_id":5}"#,
            r#"{"type":"ack"}"#,
            r#"{"type":"ack","seq":-1}"#,
            r#"{"type":"ack","seq":1.5}"#,
            r#"{"type":"resume","since":1}"#,
            r#"{"type":"mark","as":"read"}"#,
            r#"{"type":"mark","ids":[],"as":"read"}"#,
            r#"{"type":"mark","ids":["a"],"up_to_seq":1,"as":"read"}"#,
            r#"{"type":"mark","up_to_seq":1,"as":"deleted"}"#,
            r#"{"type":"auth"}"#,
        ] {
            assert!(matches!(p(bad), Err(Refusal::Malformed(_))), "{bad}");
        }
    }

    #[test]
    fn v1_frames() {
        let c = Counts { unseen: 1, unread: 2, total: 3, version: 4 };
        let cj = json!({"unseen": 1, "unread": 2, "total": 3, "version": 4});
        assert_eq!(v(&counts(&c)), json!({"type": "counts", "data": cj}));
        assert_eq!(
            v(&reset("epoch", "e\"1", 9, &c)),
            json!({"type": "reset", "data": {"reason": "epoch", "epoch": "e\"1", "head_seq": 9, "counts": cj}})
        );
        let ids = vec![NotificationId::new(), NotificationId::new()];
        assert_eq!(
            v(&marked(&Marked::Ids(ids.clone()), MarkAs::Read)),
            json!({"type": "marked", "data": {"ids": ids, "as": "read"}})
        );
        assert_eq!(
            v(&marked(&Marked::UpToSeq(3), MarkAs::Unread)),
            json!({"type": "marked", "data": {"up_to_seq": 3, "as": "unread"}})
        );
        let conn_id = campanile_model::ConnId::new();
        assert_eq!(
            v(&hello(&Hello { conn_id, epoch: "e", head_seq: 1, counts: c, heartbeat_ms: 30000, expires_in: 60 })),
            json!({"type": "hello", "data": {"conn_id": conn_id, "epoch": "e", "head_seq": 1, "counts": cj,
                "heartbeat_ms": 30000, "expires_in": 60}})
        );
        assert_eq!(v(&bye(1, 2)), json!({"type": "bye", "data": {"after_ms": 1, "spread_ms": 2}}));
        assert_eq!(v(&heartbeat(8)), json!({"type": "heartbeat", "data": {"head_seq": 8}}));
        assert_eq!(v(&resumed(2, 8)), json!({"type": "resumed", "data": {"from": 2, "to": 8}}));
    }

    #[test]
    fn a_page_of_large_items_is_cut_and_says_where() {
        let big = "x".repeat(20_000);
        let items: Vec<_> = (1..=20)
            .rev()
            .map(|seq| FeedItem {
                notification_id: NotificationId::new(),
                seq,
                title: "t".into(),
                message: big.clone(),
                notification_type: "general".into(),
                timestamp: chrono::DateTime::UNIX_EPOCH,
                read_at: None,
                seen_at: None,
                archived_at: None,
                data: Map::new(),
            })
            .collect();
        let frame = v(&list(&items, None));
        let shown = frame["data"]["items"].as_array().unwrap();
        assert!(shown.len() < 20 && !shown.is_empty());
        assert_eq!(frame["data"]["next_before"], shown.last().unwrap()["seq"]);
        assert_eq!(v(&list(&items[..2], Some(3)))["data"]["next_before"], 3);
    }

    proptest! {
        #[test]
        fn nothing_a_client_sends_can_panic(s in ".{0,200}") {
            let _ = parse(&s, Protocol::V1);
            let _ = parse(&s, Protocol::Classic);
        }

        #[test]
        fn nor_can_json_of_any_shape(kind in "[a-z_]{0,12}", n in any::<i64>(), s in ".{0,20}") {
            for (a, b) in [("seq", json!(n)), ("ids", json!([s])), ("since", json!(s)), ("up_to_seq", json!(n))] {
                let text = json!({"type": kind, a: b, "as": "read", "epoch": s}).to_string();
                let _ = parse(&text, Protocol::V1);
            }
        }
    }
}
