use super::*;
use campanile_model::{
    AppId, DeliveryId, Notification, NotificationId, Priority, UserKey, clock::Clock as _, notification::Content,
};
use std::{fs, path::Path};

const TITLE: &str = "<script>alert(1)</script>\r\nBcc: eve@example.org";
const MESSAGE: &str = "{{7*7}} & \"quotes\"";

fn renderer(dir: Option<&Path>) -> anyhow::Result<Renderer> {
    Ok(Renderer {
        templates: Templates::load(dir)?,
        transactional: HashSet::from(["receipt".to_owned()]),
        links: UnsubscribeLinks::new(&Secret::new("secret"), Some("https://x.example"), "127.0.0.1:1".parse()?),
        metrics: Arc::default(),
    })
}

fn claimed(kind: &str, channel: ChannelName) -> Claimed {
    let content = Content {
        title: TITLE.into(),
        message: MESSAGE.into(),
        notification_type: kind.into(),
        data: json!({"url": "https://app.example/?a=1&b=\"2\""}).as_object().unwrap().clone(),
    };
    let notification = Notification {
        id: NotificationId::new(),
        app: AppId::default(),
        content: Arc::new(content),
        priority: Priority::Normal,
        created_at: campanile_model::clock::SystemClock.now(),
        send_at: None,
        expires_at: None,
        collapse_key: None,
        request_id: String::new(),
        trace: None,
    };
    Claimed {
        delivery_id: DeliveryId::new(),
        notification: Arc::new(notification),
        user: UserKey::new("default", "u_ada"),
        channel,
        recipient: Some("ada@example.org".into()),
        locale: None,
        attempt: 1,
        spent: 0,
        losses: 0,
        age_ms: 0,
    }
}

/// A folder with these files, each `(path, content)`.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (path, content) in files {
        let file = dir.path().join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, content).unwrap();
    }
    dir
}

#[test]
fn payloads_come_out_as_text() {
    let r = renderer(None).unwrap().render(&claimed("general", ChannelName::email())).unwrap();
    assert_eq!(r.subject, "<script>alert(1)</script> Bcc: eve@example.org");
    assert!(r.text.contains(MESSAGE) && r.text.contains("<script>"), "{}", r.text);
    assert!(!r.html.contains("<script>") && r.html.contains("&lt;script&gt;"), "{}", r.html);
    assert!(r.html.contains("{{7*7}} &amp; ") && !r.html.contains("49"), "{}", r.html);
    assert!(!r.html.contains("href=\"https://app.example/?a=1&b=\"2\"\""), "{}", r.html);
}

#[test]
fn only_types_that_are_not_transactional_carry_a_link() {
    let renderer = renderer(None).unwrap();
    let c = claimed("general", ChannelName::email());
    let r = renderer.render(&c).unwrap();
    let url = r.message["unsubscribe_url"].as_str().unwrap();
    assert_eq!(url, renderer.unsubscribe_links().url(c.delivery_id));
    assert!(r.text.contains(url) && r.html.contains("Unsubscribe"));
    let r = renderer.render(&claimed("receipt", ChannelName::email())).unwrap();
    assert_eq!(r.message.get("unsubscribe_url"), None);
    assert!(!r.text.contains("/unsubscribe/") && !r.html.contains("/unsubscribe/"));
}

#[test]
fn the_message_has_the_documented_keys() {
    let r = renderer(None).unwrap().render(&claimed("general", ChannelName::from("chat"))).unwrap();
    let mut keys: Vec<_> = r.message.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    let mut documented = [
        "notification_id",
        "app",
        "user_id",
        "title",
        "message",
        "notification_type",
        "timestamp",
        "data",
        "priority",
        "locale",
    ];
    documented.sort_unstable();
    assert_eq!(keys, documented);
    assert_eq!((r.subject.as_str(), r.text.as_str(), r.html.as_str()), (TITLE, MESSAGE, ""));
}

#[test]
fn each_part_falls_back_on_its_own() {
    let dir = folder(&[
        ("default/subject.txt", "Operator: {{ notification_type }}"),
        ("invoice/body.txt", "Pay {{ data.no.such.key }}now"),
    ]);
    let renderer = renderer(Some(dir.path())).unwrap();
    let r = renderer.render(&claimed("invoice", ChannelName::email())).unwrap();
    assert_eq!((r.subject.as_str(), r.text.as_str()), ("Operator: invoice", "Pay now"));
    assert!(r.html.contains("<!doctype html>"));
    let invoice = r.template.unwrap();
    assert!(invoice.starts_with("email/invoice ") && invoice.len() == "email/invoice 1f8a02c4".len(), "{invoice}");
    let r = renderer.render(&claimed("../invoice", ChannelName::email())).unwrap();
    assert_ne!(r.text, "Pay now");
    assert!(r.template.unwrap().starts_with("email/default "));
    assert_eq!(renderer.render(&claimed("invoice", ChannelName::websocket())).unwrap().template, None);

    // A part that falls back belongs to the version too.
    fs::write(dir.path().join("default/subject.txt"), "Operators: {{ notification_type }}").unwrap();
    let changed = self::renderer(Some(dir.path())).unwrap();
    let r = changed.render(&claimed("invoice", ChannelName::email())).unwrap();
    assert_ne!(r.template.unwrap(), invoice);
}

#[test]
fn a_broken_template_names_file_and_line() {
    let dir = folder(&[("invoice/body.html", "<p>\n{{ title }\n</p>")]);
    let e = format!("{:#}", renderer(Some(dir.path())).err().unwrap());
    assert!(e.contains("email.templates_dir") && e.contains("invoice/body.html:2:"), "{e}");
    let dir = folder(&[("empty/readme.md", "")]);
    let e = format!("{:#}", renderer(Some(dir.path())).err().unwrap());
    assert!(e.contains("holds none of"), "{e}");
}

#[test]
fn a_runaway_template_stops_with_its_name() {
    let loops = "{% for a in range(100000) %}{% for b in range(100000) %}{% for c in range(100000) %}x{% endfor %}{% endfor %}{% endfor %}";
    let big = "{% set s = 'x' * 900000 %}{{ s }}{{ s }}";
    for (source, why) in [(loops, "line 1: "), (big, "larger than 1 MiB"), ("{{ 'x' * 1000000000 }}", "line 1: ")] {
        let dir = folder(&[("general/body.txt", source)]);
        let e = renderer(Some(dir.path())).unwrap().render(&claimed("general", ChannelName::email())).unwrap_err();
        assert_eq!(e.template, "general/body.txt");
        assert!(e.message.contains(why), "{e}");
    }
}

#[test]
fn the_unsubscribe_page_escapes() {
    let page = renderer(None).unwrap().unsubscribe_page("ask", "<b>x</b>").unwrap();
    assert!(page.contains("&lt;b&gt;x&lt;") && page.contains("method=\"post\""), "{page}");
}
