//! Statuses, `Retry-After`, builders.

use super::*;
use crate::Context;

fn verdict(reply: HttpReply) -> (&'static str, Option<Duration>) {
    match Receipt::from_http(reply) {
        Ok(_) => ("ok", None),
        Err(DeliveryError::Retry { after, .. }) => ("retry", after),
        Err(DeliveryError::Throttled { after, .. }) => ("throttled", after),
        Err(DeliveryError::Permanent { .. }) => ("permanent", None),
        Err(DeliveryError::RecipientGone { .. }) => ("gone", None),
        Err(DeliveryError::Misconfigured { .. }) => ("config", None),
    }
}

#[test]
fn a_status_means_what_it_usually_means() {
    for (statuses, want) in [
        (&[200, 201, 202, 204][..], "ok"),
        (&[408, 425, 500, 502, 503, 504], "retry"),
        (&[429], "throttled"),
        (&[410], "gone"),
        (&[301, 302, 307, 401, 403, 407], "config"),
        (&[400, 404, 405, 413, 415, 422, 100], "permanent"),
    ] {
        for status in statuses {
            assert_eq!(verdict(HttpReply::new(*status, "")).0, want, "{status}");
        }
    }
}

#[test]
fn retry_after_is_read_in_seconds_and_as_a_date() {
    let after = |value: &str| HttpReply::new(429, "").with_header("Retry-After", value);
    assert_eq!(verdict(after("30")), ("throttled", Some(Duration::from_secs(30))));
    let date = after("Sun, 06 Nov 1994 08:49:37 GMT");
    assert_eq!(date.retry_after(), Some(Duration::ZERO), "long ago is now");
    let by_its_clock = date.with_header("Date", "Sun, 06 Nov 1994 08:48:37 GMT");
    assert_eq!(by_its_clock.retry_after(), Some(Duration::from_secs(60)));
    for bad in ["", "soon", "-5", "Sun, 31 Foo 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:37 CET", "1.5"] {
        assert_eq!(after(bad).retry_after(), None, "{bad:?}");
    }
}

#[test]
fn dates_agree_with_the_calendar() {
    for (text, seconds) in [
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777),
        ("Tue, 29 Feb 2000 23:59:59 GMT", 951_868_799),
        ("Wed, 01 Mar 2000 00:00:00 GMT", 951_868_800),
        ("Fri, 31 Dec 2100 12:00:00 GMT", 4_133_937_600),
    ] {
        assert_eq!(date::parse(text), Some(seconds), "{text}");
    }
}

#[test]
fn errors_keep_their_kind_over_the_line_and_say_what_helps() {
    for (kind, _) in HttpErrorKind::ALL {
        let error = HttpError::new(kind, "a: b");
        assert_eq!(HttpError::parse(&error.to_string()), error);
    }
    assert_eq!(HttpError::parse("what?").kind, HttpErrorKind::Connect);
    let verdict = |kind| DeliveryError::from(HttpError::new(kind, ""));
    assert!(matches!(verdict(HttpErrorKind::Refused), DeliveryError::Permanent { .. }));
    assert!(matches!(verdict(HttpErrorKind::Unsupported), DeliveryError::Misconfigured { .. }));
    assert!(matches!(verdict(HttpErrorKind::Timeout), DeliveryError::Retry { reason, .. } if reason.uncertain));
    assert!(matches!(verdict(HttpErrorKind::Connect), DeliveryError::Retry { reason, .. } if !reason.uncertain));
}

#[test]
fn a_request_carries_what_it_was_given_and_refuses_what_would_break_it() {
    let http = Context::detached("x").http();
    let made =
        http.post("https://h/p").bearer(&Secret::new("t")).json(&json!({"a": 1})).header("X-A", "b").request.unwrap();
    let headers: Vec<_> = made.headers.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(headers, [("authorization", "Bearer t"), ("content-type", "application/json"), ("x-a", "b")]);
    assert_eq!(made.body, br#"{"a":1}"#);
    assert_eq!(format!("{made:?}"), "HttpRequest(POST h…, 7 bytes)");
    let form = http.put("https://h").basic("u", &Secret::new("p")).form([("a b", "ü&=*"), ("c", "")]).request.unwrap();
    assert_eq!(form.body, b"a+b=%C3%BC%26%3D*&c=");
    assert_eq!(form.headers["authorization"], "Basic dTpw");
    for (name, value) in [("a\r\nb", "x"), ("", "x"), ("a b", "x"), ("a", "x\r\nBcc: y"), ("a", "\0")] {
        let made = http.get("https://h").header(name, value).body("still").request;
        assert_eq!(made.unwrap_err().kind, HttpErrorKind::Invalid, "{name:?} {value:?}");
    }
}

#[test]
fn headers_go_over_the_line_and_garbage_does_not() {
    let sent: BTreeMap<_, _> = [("a".to_owned(), "b\"".to_owned())].into();
    assert_eq!(headers(headers_json(&sent).as_bytes()), sent);
    assert_eq!(headers(br#"{"A": "x", "b": 1, "c": ["d"]}"#), [("a".to_owned(), "x".to_owned())].into());
    for garbage in ["", "[]", "nonsense", "null"] {
        assert!(headers(garbage.as_bytes()).is_empty());
    }
}
