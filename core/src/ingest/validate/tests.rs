use super::{super::directory::fake::Fake, *};
use proptest::prelude::*;
use serde_json::json;

fn now() -> Timestamp {
    "2030-01-01T00:00:00Z".parse().unwrap()
}

fn check(body: Value) -> Result<Request, Invalid> {
    check_with(body, None)
}

fn check_with(body: Value, key: Option<&str>) -> Result<Request, Invalid> {
    let rules = Rules { channels: &Fake, max_recipients: 5, now: now() };
    request(body, key.map(|key| Idempotency { key: key.to_owned(), body_hash: [0; 32] }), &rules)
}

/// A valid request with these fields put over it.
fn with(extra: Value) -> Value {
    let mut body = json!({"user_id": "u", "title": "t"});
    for (key, value) in extra.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

fn fields(body: Value) -> Vec<String> {
    check(body).unwrap_err().faults.into_iter().map(|f| f.field).collect()
}

fn message_of(body: Value) -> String {
    check(body).unwrap_err().faults.remove(0).message
}

#[test]
fn the_least_request_gets_the_defaults() {
    let r = check(with(json!({}))).unwrap();
    assert_eq!(r.content.message, "");
    assert_eq!(r.content.notification_type, "general");
    assert_eq!((r.priority, r.persist, r.channels), (Priority::Normal, true, None));
    assert_eq!(r.stored, json!({"user_id": "u"}));
}

#[test]
fn null_is_absent() {
    let r = check(with(json!({
        "to": null, "message": null, "notification_type": null, "channels": null, "data": null, "priority": null,
        "send_at": null, "expires_at": null, "collapse_key": null, "persist": null
    })))
    .unwrap();
    assert!(r.persist && r.send_at.is_none() && r.content.data.is_empty());
    assert_eq!(fields(json!({"user_id": null, "title": null})), ["user_id", "title"]);
}

#[test]
fn every_fault_is_named_at_once() {
    let body = json!({
        "to": ["", 7, {"user_id": "a", "emial": "x"}, {"email": "a@b.c"}], "title": 5, "message": [], "notification_type": "a\nb",
        "channels": ["emial", 3], "data": 1, "priority": "urgent", "send_at": "tomorrow", "expires_at": 17,
        "collapse_key": {}, "persist": "no", "colour": "red"
    });
    assert_eq!(
        fields(body),
        [
            "colour",
            "to[0]",
            "to[1]",
            "to[2].emial",
            "to[3].user_id",
            "title",
            "message",
            "notification_type",
            "channels[0]",
            "channels[1]",
            "data",
            "priority",
            "send_at",
            "expires_at",
            "collapse_key",
            "persist"
        ]
    );
}

#[test]
fn names_nobody_knows_are_answered_with_the_known_ones() {
    assert_eq!(
        message_of(with(json!({"channels": ["emial"]}))),
        "unknown channel \"emial\"; did you mean \"email\"? Known: chat, email, sms, websocket"
    );
    assert_eq!(
        message_of(with(json!({"priority": "hihg"}))),
        "unknown priority \"hihg\"; did you mean \"high\"? Known: high, normal, low"
    );
    assert!(message_of(with(json!({"mesage": "x"}))).contains("did you mean \"message\"? Known: user_id, to, title,"));
}

#[test]
fn codes_say_more_than_invalid_where_they_can() {
    assert_eq!(check(with(json!({"channels": ["sms", "nope"]}))).unwrap_err().code, "channel_disabled");
    assert_eq!(check(json!({"topic": "news", "title": ""})).unwrap_err().code, "not_available");
    assert_eq!(check(json!({})).unwrap_err().code, "invalid");
    for later in LATER_FIELDS {
        assert_eq!(check(with(json!({later: 1}))).unwrap_err().code, "not_available", "{later}");
        assert!(!FIELDS.contains(&later));
    }
}

#[test]
fn one_user_or_several_but_not_both() {
    assert_eq!(fields(with(json!({"to": ["a"]}))), ["to"]);
    assert_eq!(fields(json!({"title": "t"})), ["user_id"]);
    assert_eq!(fields(json!({"title": "t", "to": []})), ["to"]);
    assert_eq!(fields(json!({"title": "t", "to": "a"})), ["to"]);
    assert_eq!(fields(json!({"title": "t", "user_id": ""})), ["user_id"]);
    assert_eq!(fields(json!({"title": "t", "user_id": "a\r\nb"})), ["user_id"]);
    assert_eq!(fields(json!({"title": "t", "user_id": "x".repeat(256)})), ["user_id"]);
    assert!(check(json!({"title": "t", "user_id": "ü".repeat(255)})).is_ok());
}

#[test]
fn a_user_named_twice_counts_once() {
    let r = check(json!({"title": "t", "to": [
        "b", {"user_id": "a", "email": "a@x.y"}, "b", {"user_id": "b", "addresses": {"chat": "c"}}, {"user_id": "a", "email": "a@x.y"}
    ]}))
    .unwrap();
    let users: Vec<_> = r.recipients.iter().map(|r| r.user_id.as_str()).collect();
    assert_eq!(users, ["b", "a"]);
    assert_eq!(r.recipients[0].addresses, [("chat".into(), "c".to_owned())].into());
    let conflict =
        json!({"title": "t", "to": [{"user_id": "a", "email": "1@x.y"}, {"user_id": "a", "email": "2@x.y"}]});
    assert_eq!(fields(conflict), ["to[1]"]);
}

#[test]
fn the_limit_counts_users_not_mentions() {
    assert!(check(json!({"title": "t", "to": ["1", "2", "3", "4", "5", "1", "2"]})).is_ok());
    assert_eq!(fields(json!({"title": "t", "to": ["1", "2", "3", "4", "5", "6"]})), ["to"]);
}

#[test]
fn inline_addresses_are_checked() {
    for bad in [
        json!({"email": "nobody"}),
        json!({"email": "a@b.c\r\nBcc: d@e.f"}),
        json!({"addresses": {"sns": "1"}}),
        json!({"addresses": []}),
    ] {
        let mut to = bad.clone();
        to["user_id"] = json!("a");
        assert_eq!(fields(json!({"title": "t", "to": [to]})).len(), 1, "{bad}");
    }
}

#[test]
fn titles_fit_a_subject_line() {
    for bad in ["", "   ", "a\r\nBcc: x", "a\0", "a\u{7f}"] {
        assert!(fields(with(json!({"title": bad}))).iter().all(|f| f == "title"), "{bad:?}");
    }
    assert!(check(with(json!({"title": "ü".repeat(200)}))).is_ok());
    assert_eq!(fields(with(json!({"title": "ü".repeat(201)}))), ["title"]);
}

#[test]
fn messages_may_have_lines() {
    assert!(check(with(json!({"message": "a\r\nb\tc"}))).is_ok());
    assert_eq!(fields(with(json!({"message": "a\0"}))), ["message"]);
    assert!(check(with(json!({"message": "ü".repeat(4_000)}))).is_ok());
    assert_eq!(fields(with(json!({"message": "ü".repeat(4_001)}))), ["message"]);
}

#[test]
fn data_is_an_object_of_16_kib() {
    // {"k":"…"} is 8 bytes around the text.
    assert!(check(with(json!({"data": {"k": "x".repeat(16 * 1024 - 8)}}))).is_ok());
    assert_eq!(fields(with(json!({"data": {"k": "x".repeat(16 * 1024 - 7)}}))), ["data"]);
    assert_eq!(fields(with(json!({"data": [1]}))), ["data"]);
}

#[test]
fn channels_named_twice_count_once_and_none_is_a_mistake() {
    let r = check(with(json!({"channels": ["email", "websocket", "email"]}))).unwrap();
    assert_eq!(r.channels.unwrap(), ["email".into(), "websocket".into()]);
    assert_eq!(fields(with(json!({"channels": []}))), ["channels"]);
    assert_eq!(fields(with(json!({"channels": "email"}))), ["channels"]);
}

#[test]
fn times_have_an_order() {
    let r = check(with(json!({"send_at": "2030-01-01T02:00:00.1239+01:00", "expires_at": "2030-01-02T00:00:00Z"})))
        .unwrap();
    assert_eq!(r.send_at, Some("2030-01-01T01:00:00.123Z".parse().unwrap()));
    let past = check(with(json!({"send_at": "2029-12-31T23:59:59Z"}))).unwrap();
    assert_eq!(past.send_at, None, "a past send_at means now");
    assert!(check(with(json!({"send_at": "2020-01-01T00:00:00Z", "expires_at": "2030-01-01T00:00:01Z"}))).is_ok());
    for (send_at, expires_at) in [
        (Value::Null, json!("2029-12-31T00:00:00Z")),
        (Value::Null, json!("2030-01-01T00:00:00Z")),
        (json!("2030-02-01T00:00:00Z"), json!("2030-01-15T00:00:00Z")),
        (json!("2030-02-01T00:00:00Z"), json!("2030-02-01T00:00:00Z")),
    ] {
        assert_eq!(fields(with(json!({"send_at": send_at, "expires_at": expires_at}))), ["expires_at"]);
    }
    for bad in ["2030-01-01", "2030-01-01T00:00:00", "1735689600", "", "2030-13-01T00:00:00Z"] {
        assert_eq!(fields(with(json!({"send_at": bad}))), ["send_at"], "{bad}");
    }
}

#[test]
fn collapse_keys_are_short_names() {
    assert!(check(with(json!({"collapse_key": "k".repeat(255)}))).is_ok());
    for bad in ["k".repeat(256), String::new(), "a\nb".to_owned()] {
        assert_eq!(fields(with(json!({"collapse_key": bad}))), ["collapse_key"]);
    }
}

#[test]
fn ephemeral_takes_only_what_it_can_honour() {
    assert!(!check(with(json!({"persist": false, "channels": ["websocket"], "priority": "low"}))).unwrap().persist);
    for (extra, field) in [
        (json!({"channels": ["websocket", "email"]}), "channels[1]"),
        (json!({"send_at": "2031-01-01T00:00:00Z"}), "send_at"),
        (json!({"send_at": "2021-01-01T00:00:00Z"}), "send_at"),
        (json!({"expires_at": "2031-01-01T00:00:00Z"}), "expires_at"),
        (json!({"collapse_key": "k"}), "collapse_key"),
    ] {
        let mut body = with(extra);
        body["persist"] = json!(false);
        assert_eq!(fields(body), [field]);
    }
    let keyed = check_with(with(json!({"persist": false})), Some("k")).unwrap_err();
    assert_eq!(keyed.faults[0].field, "idempotency_key");
    let contact = json!({"title": "t", "persist": false, "to": [{"user_id": "a", "email": "a@b.c"}]});
    assert_eq!(fields(contact), ["to"]);
}

#[test]
fn keys_are_printable_and_short() {
    assert!(idempotency_key("order-17/paid").is_ok());
    for bad in ["", "a\nb", "\0", &"k".repeat(256)] {
        assert!(idempotency_key(bad).is_err(), "{bad:?}");
    }
    let mut item = with(json!({"idempotency_key": "k"}));
    assert_eq!(take_key(&mut item).unwrap().as_deref(), Some("k"));
    assert_eq!(item, with(json!({})), "the key is no part of what the item says");
    assert!(take_key(&mut with(json!({"idempotency_key": 5}))).is_err());
    assert_eq!(take_key(&mut json!([])).unwrap(), None);
    assert_eq!(fields(with(json!({"idempotency_key": "k"}))), ["idempotency_key"]);
}

#[test]
fn only_objects_are_requests() {
    for body in [json!([]), json!("x"), json!(null), json!(7)] {
        assert_eq!(fields(body), ["body"]);
    }
}

/// JSON of any shape, with the field names we know more often than chance would have them.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        Just(Value::from("websocket")),
        Just(Value::from("2030-06-01T00:00:00Z")),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        let key = prop_oneof![
            proptest::sample::select(FIELDS.to_vec()).prop_map(ToOwned::to_owned),
            proptest::sample::select(RECIPIENT_FIELDS.to_vec()).prop_map(ToOwned::to_owned),
            ".{0,6}",
        ];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::vec((key, inner), 0..10).prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_json_makes_it_panic_and_what_passes_is_sound(body in any_json(), key in proptest::option::of(".{0,9}")) {
        if let Ok(r) = check_with(body, key.as_deref()) {
            prop_assert!(!r.content.title.trim().is_empty());
            prop_assert!(!r.recipients.is_empty());
            let mut users: Vec<_> = r.recipients.iter().map(|r| r.user_id.clone()).collect();
            users.sort();
            users.dedup();
            prop_assert_eq!(users.len(), r.recipients.len());
        }
    }

    #[test]
    fn a_batch_item_of_any_shape_gives_up_its_key(mut body in any_json()) {
        let _ = take_key(&mut body);
        prop_assert!(body.get("idempotency_key").is_none());
    }

    #[test]
    fn every_sound_request_is_taken(
        user in "[a-zA-Z0-9_.@-]{1,40}",
        title in "[^\\p{Cc}\\s]{1,60}",
        message in "[^\\x00]{0,200}",
        kind in "[a-z_]{1,40}",
    ) {
        let body = json!({"user_id": user, "title": title, "message": message, "notification_type": kind});
        let r = check(body).unwrap();
        prop_assert_eq!(&r.content.title, &title);
        prop_assert_eq!(&r.content.message, &message);
    }
}
