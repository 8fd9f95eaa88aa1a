//! The list of notifications and one of them, without scripts: found, followed, revealed, taken back.

use super::browser::{Stream, signed_in};
use campanile_tests::{
    TestHost,
    host::HostBuilder,
    prelude::*,
    smtp::{Act, SmtpServer, Step},
};
use reqwest::StatusCode;

const EVIL: &str = "<img src=x onerror=alert(1)>";

fn host(relay: &SmtpServer) -> HostBuilder {
    TestHost::builder().mail_to(relay.address).set("retry.schedule", "[\"300ms\", \"900ms\"]")
}

fn mail(user: &str, title: &str) -> Value {
    json!({"to": [{"user_id": user, "email": format!("{user}@example.org")}], "title": title, "channels": ["email"]})
}

/// Ids of the rows, newest first.
fn rows(html: &str) -> Vec<String> {
    html.split("<tr id=\"n-").skip(1).map(|r| r.split('"').next().unwrap().to_owned()).collect()
}

fn link<'a>(html: &'a str, rel: &str) -> Option<&'a str> {
    let from = html.split(&format!("rel=\"{rel}\" href=\"")).nth(1)?;
    from.split('"').next()
}

fn plain(href: &str) -> String {
    href.replace("&amp;", "&").replace("&#38;", "&")
}

#[tokio::test]
async fn the_list_is_filtered_by_its_address_and_goes_both_ways() {
    let host = TestHost::start().await;
    let mut dana = signed_in(&host, "dana", "operator").await;
    let empty = dana.get("/admin/notifications").await;
    assert!(
        empty.body.contains("Nothing yet") && empty.body.contains("curl http://"),
        "an empty list says what fills it"
    );

    let mut ids = Vec::new();
    for n in 0..55 {
        let user = if n % 2 == 0 { "ada" } else { "bo" };
        let body = json!({"user_id": user, "title": format!("{EVIL} {n}"), "channels": ["websocket"],
                          "notification_type": if n == 7 { "rare" } else { "general" }});
        ids.push(host.api().accepted(&body).await);
    }
    ids.reverse();
    let first = dana.get("/admin/notifications").await;
    assert_eq!(rows(&first.body), ids[..50]);
    assert!(
        !first.body.contains("<img") && first.body.contains("&lt;img") | first.body.contains("&#60;img"),
        "text stays text"
    );
    assert_eq!(link(&first.body, "prev"), None);
    let older = plain(link(&first.body, "next").unwrap());
    let second = dana.get(&older).await;
    assert_eq!(rows(&second.body), ids[50..]);
    assert_eq!(link(&second.body, "next"), None);
    let back = plain(link(&second.body, "prev").unwrap());
    assert_eq!(rows(&dana.get(&back).await.body), ids[..50]);

    for (q, n) in [
        ("user:ada", 28),
        ("type:rare", 1),
        ("status:delivered", 50),
        ("status:dead", 0),
        ("channel:websocket+since:1h", 50),
        ("until:2020-01-01", 0),
    ] {
        let page = dana.get(&format!("/admin/notifications?q={q}")).await;
        assert_eq!(rows(&page.body).len(), n, "{q}");
    }
    let none = dana.get("/admin/notifications?q=status:dead").await;
    assert!(none.body.contains("Nothing matches") && none.body.contains("Clear filters"));
    let hint = dana.get("/admin/notifications?q=status:happy+flavour:sweet").await;
    assert!(hint.body.contains("is no status") && hint.body.contains("names nothing"));
}

#[tokio::test]
async fn whatever_is_pasted_into_the_search_leads_somewhere() {
    let host = TestHost::start().await;
    let mut dana = signed_in(&host, "dana", "viewer").await;
    let body = json!({"user_id": "u:12", "title": "T", "channels": ["websocket"]});
    let sent = host.api().send_with_key("order-7", &body).await.expect(202);
    let (id, delivery) =
        (sent["notification_id"].as_str().unwrap(), sent["deliveries"][0]["delivery_id"].as_str().unwrap());
    let page = format!("/admin/notifications/{id}");
    for (q, to) in [
        (id, page.as_str()),
        (delivery, page.as_str()),
        ("order-7", "/admin/notifications?q=key:order-7"),
        ("somebody", "/admin/notifications?q=user:somebody"),
        ("email", "/admin/notifications?q=channel:email"),
        ("status:dead", "/admin/notifications?q=status:dead"),
    ] {
        let answer = dana.get(&format!("/admin/search?q={}", q.replace(':', "%3A"))).await;
        assert_eq!(answer.location.as_deref(), Some(to), "{q}");
    }
    // Somebody to whom nothing was sent has a page that says more than an empty list; so has an address.
    host.api().put("/api/v1/users/quiet", &json!({"email": "quiet@example.org"})).await.expect(200);
    for (q, to) in [("quiet", "/admin/users/quiet"), ("quiet@example.org", "/admin/users/quiet")] {
        let answer = dana.get(&format!("/admin/search?q={q}")).await;
        assert_eq!(answer.location.as_deref(), Some(to), "{q}");
    }
    // The list's own box takes a bare word as the one above does.
    let listed = dana.get("/admin/notifications?q=order-7&range=1h").await;
    assert_eq!(listed.location.as_deref(), Some("/admin/notifications?q=key:order-7&range=1h"));
    assert_eq!(dana.get("/admin/notifications?q=quiet").await.location.as_deref(), Some("/admin/users/quiet"));
    let beside = dana.get("/admin/notifications?q=user:ada+lost").await;
    assert!(
        beside.location.is_none() && beside.body.contains("was not looked for"),
        "it is said, not chased in a ring"
    );

    let gone = dana.get("/admin/notifications/018c2000-0000-7000-8000-000000000001").await;
    assert_eq!(gone.status, StatusCode::GONE, "an id of December 2023");
    assert!(gone.body.contains("Removed on") && gone.body.contains("90-day"), "{}", gone.body);
    let never = dana.get("/admin/notifications/ffffffff-ffff-4fff-bfff-ffffffffffff").await;
    assert_eq!(never.status, StatusCode::NOT_FOUND);
    assert!(never.body.contains("<h1>Not here</h1>"), "a page, not JSON: {}", never.body);
    let nowhere = dana.get("/admin/nonsense/at/all").await;
    assert_eq!(nowhere.status, StatusCode::NOT_FOUND);
    assert!(
        nowhere.body.contains("<h1>Not here</h1>") && nowhere.body.contains("aria-label=\"Main\""),
        "with the menu"
    );
}

#[tokio::test]
async fn the_next_try_is_made_at_once_when_somebody_says_so() {
    let relay = SmtpServer::start().await;
    relay.script(Step::Rcpt, [Act::say("451 4.3.0 later")]);
    let host = TestHost::builder().mail_to(relay.address).set("retry.schedule", "[\"1h\"]").start().await;
    let mut dana = signed_in(&host, "dana", "operator").await;
    let token = dana.token().await;
    let id = host.api().accepted(&mail("ada", "T")).await;
    let waiting = host.api().state(&id, "email", "retrying").await;
    let path = format!("/admin/notifications/{id}");
    assert!(dana.get(&path).await.body.contains("Try now</button>"));
    let form =
        [("csrf", token.as_str()), ("back", path.as_str()), ("delivery", waiting["delivery_id"].as_str().unwrap())];
    dana.post(&format!("{path}/retry"), &form).await;
    let told = dana.get(&path).await;
    assert!(told.body.contains("Its next try is now."), "{}", told.body);
    host.api().state(&id, "email", "sent").await;
    assert!(!dana.get(&path).await.body.contains("Try now</button>"));
    let listed = dana.get("/admin/notifications").await;
    assert!(listed.body.contains("<td>ada") || listed.body.contains(">ada<"), "one person has a name: {}", listed.body);
}

#[tokio::test]
async fn what_the_far_side_confirmed_says_when() {
    let host = TestHost::start().await;
    let mut socket = Connect::to(&host).token(&token::user("ada")).v1().open().await;
    let id = host.api().notify("ada", "seen at once").await;
    socket.wait_for("notification").await;
    host.api().state(&id, "websocket", "delivered").await;
    let mut dana = signed_in(&host, "dana", "viewer").await;
    let page = dana.get(&format!("/admin/notifications/{id}")).await.body;
    assert!(page.contains("confirmed by the far side") && !page.contains("time unknown"), "{page}");
}

#[tokio::test]
async fn a_notification_s_lane_tells_every_try_in_order() {
    let relay = SmtpServer::start().await;
    relay.script(Step::Rcpt, [Act::say("451 4.3.0 try later, <b>please</b>")]);
    let host = host(&relay).start().await;
    let mut dana = signed_in(&host, "dana", "operator").await;
    let id = host.api().accepted(&mail("ada", EVIL)).await;
    host.api().state(&id, "email", "sent").await;
    let page = dana.get(&format!("/admin/notifications/{id}")).await;
    assert!(page.body.contains("Delivered."), "the sentence");
    let mut at = 0;
    for step in [
        "<b>accepted</b>",
        "<b>policy</b>",
        "<b>queued</b>",
        "<b>rendered</b>",
        "email/default ",
        "<b>attempt 1</b>",
        "451",
        "<b>attempt 2</b>",
        "<b>sent</b>",
    ] {
        let found = page.body[at..].find(step).unwrap_or_else(|| panic!("no {step} after {at} in {}", page.body));
        at += found;
    }
    assert!(page.body.contains("a•••@example.org") && !page.body.contains("ada@example.org"), "addresses are masked");
    assert!(!page.body.contains("<b>please</b>") && !page.body.contains("<img"));

    let answers = dana.get(&format!("/admin/notifications/{id}?tab=answers")).await;
    assert!(answers.body.contains("451") && answers.body.contains("retry"));
}

#[tokio::test]
async fn content_is_hidden_until_it_is_revealed_and_that_is_written_down() {
    let relay = SmtpServer::start().await;
    let host = host(&relay).start().await;
    let body = json!({"to": [{"user_id": "ada", "email": "ada@example.org"}], "title": "Title of it",
                      "message": "the secret body", "channels": ["email"]});
    let id = host.api().accepted(&body).await;
    host.api().state(&id, "email", "sent").await;
    let path = format!("/admin/notifications/{id}");

    let mut vera = signed_in(&host, "vera", "viewer").await;
    for tab in ["", "?tab=request", "?tab=output", "?tab=output&reveal=AAAAAAAAAAAAAAAAAAAAAAAA"] {
        assert!(!vera.get(&format!("{path}{tab}")).await.body.contains("the secret body"), "{tab}");
    }
    let token = vera.token().await;
    let revealed = vera.post(&format!("{path}/reveal"), &[("csrf", &token), ("tab", "output")]).await;
    let to = revealed.location.expect("back to the page");
    let page = vera.get(&to).await;
    assert!(page.body.contains("the secret body") && page.body.contains("sandbox"));
    let frame = plain(page.body.split("<iframe src=\"").nth(1).unwrap().split('"').next().unwrap());
    let mail = vera.get(&frame).await;
    assert!(mail.body.contains("the secret body") && mail.policy.starts_with("sandbox;"), "{}", mail.policy);
    let request = vera.get(&to.replace("tab=output", "tab=request")).await;
    assert!(request.body.contains("the secret body") && request.body.contains("ada@example.org"));
    let audit = host.api().get("/api/v1/audit").await.text;
    assert_eq!(audit.matches("notification.reveal").count(), 1, "{audit}");

    // What one session may see, another may not, whatever its address says.
    let mut sam = signed_in(&host, "sam", "support").await;
    assert!(!sam.get(&to).await.body.contains("the secret body"));
    assert_eq!(sam.get(&frame).await.status, StatusCode::FORBIDDEN);
    let list = sam.get("/admin/notifications").await;
    assert!(!list.body.contains("Title of it") && list.body.contains("hidden from your role"));
    assert_eq!(sam.get("/admin/notifications/export?as=csv").await.status, StatusCode::FORBIDDEN);
    let theirs = sam.token().await;
    let refused = sam.post(&format!("{path}/reveal"), &[("csrf", &theirs)]).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert!(refused.body.contains("viewer") && refused.body.contains("support"), "it names the role: {}", refused.body);
}

#[tokio::test]
async fn pending_is_cancelled_after_asking_and_a_resend_is_a_new_one() {
    let host = TestHost::start().await;
    let mut dana = signed_in(&host, "dana", "operator").await;
    let token = dana.token().await;
    let later =
        json!({"user_id": "ada", "title": "later", "channels": ["websocket"], "send_at": "2099-01-01T00:00:00Z"});
    let id = host.api().accepted(&later).await;
    let path = format!("/admin/notifications/{id}");
    let page = dana.get(&path).await.body;
    assert!(page.contains("Scheduled, in") && page.contains("Sent by") && page.contains("operator"), "{page}");
    assert!(page.contains(&id.replace('-', "")), "without a trace of the caller's the id is the trace: {page}");
    let asked = dana.post(&format!("{path}/cancel"), &[("csrf", &token), ("back", &path)]).await;
    assert!(asked.status == StatusCode::OK && asked.body.contains("name=\"sure\""), "without scripts a page asks");
    host.api().delivery_until(&id, "websocket", "still there", |d| d["state"] == "scheduled").await;
    let done = dana.post(&format!("{path}/cancel"), &[("csrf", &token), ("back", &path), ("sure", "1")]).await;
    assert_eq!((done.status, done.location.as_deref()), (StatusCode::SEE_OTHER, Some(path.as_str())));
    let page = dana.get(&path).await;
    assert!(page.body.contains("1 delivery cancelled."), "the message is shown once");
    assert!(!dana.get(&path).await.body.contains("1 delivery cancelled."), "and not twice");

    let again = dana.post(&format!("{path}/resend"), &[("csrf", &token), ("sure", "1")]).await;
    let new = again.location.expect("on to the new one");
    assert_ne!(new, path);
    let new = new.rsplit('/').next().unwrap().to_owned();
    host.api().delivery_until(&new, "websocket", "sent now", |d| d["state"] != "scheduled").await;
    assert_eq!(host.me("ada").feed().await.len(), 1);
    let audit = host.api().get("/api/v1/audit").await.text;
    assert!(audit.contains("notification.resend") && audit.contains("notification.cancel"));

    let mut vera = signed_in(&host, "vera", "viewer").await;
    let page = vera.get(&format!("/admin/notifications/{new}")).await;
    assert!(!page.body.contains("Resend as new") && !page.body.contains("type=\"checkbox\""));
}

#[tokio::test]
async fn an_act_takes_all_that_match_whether_they_were_ticked_or_not() {
    let relay = SmtpServer::start().await;
    let host = host(&relay).start().await;
    let mut dana = signed_in(&host, "dana", "operator").await;
    let token = dana.token().await;
    let later = |kind: &str, n: usize| {
        json!({"user_id": format!("u{n}"), "title": "later", "channels": ["websocket"], "notification_type": kind,
               "send_at": "2099-01-01T00:00:00Z"})
    };
    let mut spared = String::new();
    for n in 0..3 {
        host.api().accepted(&later("invoice", n)).await;
        spared = host.api().accepted(&later("general", n)).await;
    }
    let back = "/admin/notifications?q=type%3Ainvoice+status%3Ascheduled";
    let page = dana.get(back).await;
    assert!(page.body.contains("name=\"all\""), "{}", page.body);
    let mut form = vec![("csrf", token.as_str()), ("all", "1"), ("act", "cancel"), ("back", back)];
    let asked = dana.post("/admin/notifications/bulk", &form).await;
    assert!(asked.body.contains("Cancel 3 deliveries?") && asked.body.contains("type:invoice"), "{}", asked.body);
    let as_of = asked.body.split("name=\"as_of\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    // Accepted while the admin thought about it: not what the question was about.
    let newer = host.api().accepted(&later("invoice", 9)).await;
    form.extend([("sure", "1"), ("as_of", as_of.as_str())]);
    dana.post("/admin/notifications/bulk", &form).await;
    assert!(dana.get(back).await.body.contains("3 deliveries cancelled."));
    for id in [&spared, &newer] {
        host.api().delivery_until(id, "websocket", "still there", |d| d["state"] == "scheduled").await;
    }
    let audit = host.api().get("/api/v1/audit").await.text;
    assert_eq!(audit.matches("notification.cancel").count(), 1, "one act, one entry: {audit}");

    // More than a hundred want the word, and more than two hundred go in the background.
    relay.script(Step::Mail, (0..201).map(|_| Act::say("554 5.7.1 not welcome here")));
    let to: Vec<_> =
        (0..201).map(|n| json!({"user_id": format!("m{n}"), "email": format!("p{n}@north.example")})).collect();
    let id = host.api().accepted(&json!({"to": to, "title": "T", "channels": ["email"]})).await;
    until("all of them are dead", || async {
        (host.api().notification(&id).await["summary"]["dead"] == 201).then_some(())
    })
    .await;
    relay.clear_script();
    let failed = dana.get("/admin/notifications?q=status:failed").await;
    assert_eq!(rows(&failed.body), [id.as_str()]);
    assert!(dana.get("/admin/notifications?q=status:partly").await.body.contains("Nothing matches"));
    let form =
        [("csrf", token.as_str()), ("all", "1"), ("act", "retry"), ("back", "/admin/notifications"), ("sure", "1")];
    let asked = dana.post("/admin/notifications/bulk", &form).await;
    assert!(asked.body.contains("Retry 201 deliveries?") && asked.body.contains("Type retry to go on"));
    assert!(relay.received().is_empty(), "yes is not enough");
    dana.post("/admin/notifications/bulk", &[&form[..], &[("word", "retry")]].concat()).await;
    relay.wait_for(201).await;
    dana.wait_for("/admin/notifications", "201 of 201").await;
    let audit = host.api().get("/api/v1/audit").await.text;
    assert_eq!(audit.matches("notification.retry").count(), 1, "{audit}");

    let mut vera = signed_in(&host, "vera", "viewer").await;
    let theirs = vera.token().await;
    let form = [("csrf", theirs.as_str()), ("all", "1"), ("act", "cancel"), ("sure", "1"), ("back", back)];
    assert_eq!(vera.post("/admin/notifications/bulk", &form).await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_list_is_taken_away_as_a_file() {
    let host = TestHost::start().await;
    let mut dana = signed_in(&host, "dana", "viewer").await;
    for title in ["=cmd()", "a, \"b\"", "plain"] {
        host.api().notify("ada", title).await;
    }
    let csv = dana.get("/admin/notifications/export?as=csv").await.body;
    assert_eq!(csv.lines().count(), 4, "{csv}");
    assert!(
        csv.starts_with("notification_id,") && csv.contains("'=cmd()") && csv.contains("\"a, \"\"b\"\"\""),
        "{csv}"
    );
    let lines = dana.get("/admin/notifications/export?as=ndjson&q=user:ada").await.body;
    let titles: Vec<String> = lines
        .lines()
        .map(|l| serde_json::from_str::<Value>(l).unwrap()["title"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(titles, ["plain", "a, \"b\"", "=cmd()"]);
    assert_eq!(dana.get("/admin/notifications/export?as=xls").await.status, StatusCode::BAD_REQUEST);
    assert!(host.api().get("/api/v1/audit").await.text.contains("notification.export"));
}

#[tokio::test]
async fn the_stream_of_the_list_counts_what_is_new_and_pushes_nothing_in() {
    let host = TestHost::start().await;
    let dana = signed_in(&host, "dana", "viewer").await;
    let top = host.api().notify("ada", "the first").await;
    let mut stream = Stream::open(&dana, &format!("/admin/live?page=notifications&top={top}")).await;
    stream.until("the rows", |text| text.contains("the first") && text.contains("#pill")).await;
    host.api().notify("ada", "the second").await;
    let seen = stream.until("the pill", |text| text.contains("1 new")).await;
    assert!(!seen.contains("the second"), "a new row does not move the list");
}
