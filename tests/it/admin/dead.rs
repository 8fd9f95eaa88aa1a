//! Dead letters and unreadable messages, without scripts: by cause, retried, discarded, in the background.

use super::browser::{Browser, signed_in};
use campanile_tests::{
    TestHost,
    prelude::*,
    smtp::{Act, SmtpServer, Step},
};
use reqwest::StatusCode;

/// `n` mails to this domain that the relay refuses for good, with this reply.
async fn die(host: &TestHost, relay: &SmtpServer, n: usize, domain: &str, reply: &str) -> String {
    relay.script(Step::Mail, (0..n).map(|_| Act::say(reply)));
    let to: Vec<_> =
        (0..n).map(|i| json!({"user_id": format!("{}{i}", &domain[..1]), "email": format!("p{i}@{domain}")})).collect();
    let id = host.api().accepted(&json!({"to": to, "title": "T", "channels": ["email"]})).await;
    until("all of them are dead", || async {
        let summary = host.api().notification(&id).await["summary"].clone();
        (summary["dead"] == n).then_some(())
    })
    .await;
    relay.clear_script();
    id
}

const REFUSED: &str = "554 5.7.1 not welcome here";
const POLICY: &str = "550 5.7.0 against our policy";

fn group<'a>(html: &'a str, domain: &str) -> Option<&'a str> {
    html.split("<tr>").find(|row| row.contains("<a href=\"/admin/dead?") && row.contains(domain))
}

fn count(row: &str) -> &str {
    row.split("<td class=\"n\"><b>").nth(1).unwrap().split('<').next().unwrap()
}

/// The hidden fields of a group's own form.
fn cause(row: &str) -> Vec<(String, String)> {
    let form = row.split("action=\"/admin/dead/retry\"").nth(1).unwrap().split("</form>").next().unwrap();
    form.split("<input type=\"hidden\" name=\"")
        .skip(1)
        .map(|f| {
            let name = f.split('"').next().unwrap();
            let value = f.split("value=\"").nth(1).unwrap().split('"').next().unwrap();
            (name.to_owned(), value.replace("&amp;", "&").replace("&#38;", "&"))
        })
        .filter(|(name, _)| name != "csrf")
        .collect()
}

async fn press(
    browser: &mut Browser,
    path: &str,
    fields: &[(String, String)],
    more: &[(&str, &str)],
) -> super::browser::Answer {
    let mut form: Vec<(&str, &str)> = fields.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    form.extend(more);
    browser.post(path, &form).await
}

#[tokio::test]
async fn causes_are_groups_and_a_group_is_retried_whole_with_one_entry() {
    let relay = SmtpServer::start().await;
    let host = TestHost::builder().mail_to(relay.address).start().await;
    die(&host, &relay, 7, "north.example", REFUSED).await;
    die(&host, &relay, 3, "south.example", REFUSED).await;
    die(&host, &relay, 2, "north.example", POLICY).await;
    let mut dana = signed_in(&host, "dana", "operator").await;
    let token = dana.token().await;

    let page = dana.get("/admin/dead").await;
    assert_eq!(page.body.matches("<a href=\"/admin/dead?channel=").count(), 3, "{}", page.body);
    let north = group(&page.body, "north.example").unwrap();
    assert_eq!(count(north), "7", "the largest first");
    assert!(north.contains("not welcome here"), "with what the far side said");
    // The menu's numbers are seconds old.
    dana.wait_for("/admin/dead", ">12<").await;

    // The group opens to its items.
    let href = north.split("<a href=\"").nth(1).unwrap().split('"').next().unwrap();
    let items = dana.get(&href.replace("&amp;", "&").replace("&#38;", "&")).await;
    assert_eq!(items.body.matches("<tr id=\"d-").count(), 7);
    assert!(items.body.contains("p•••@north.example") && !items.body.contains("p0@north.example"));

    // Without scripts a page asks first.
    let fields = cause(north);
    let asked = press(&mut dana, "/admin/dead/retry", &fields, &[("csrf", &token)]).await;
    assert!(asked.body.contains("Retry 7 deliveries?") && asked.body.contains("name=\"sure\""), "{}", asked.body);
    assert_eq!(relay.received().len(), 0);
    let done = press(&mut dana, "/admin/dead/retry", &fields, &[("csrf", &token), ("sure", "1")]).await;
    assert_eq!((done.status, done.location.as_deref()), (StatusCode::SEE_OTHER, Some("/admin/dead")));
    relay.wait_for(7).await;
    let page = dana.get("/admin/dead").await;
    assert!(page.body.contains("7 deliveries begin anew."));
    assert_eq!(count(group(&page.body, "north.example").unwrap()), "2", "the other cause is left alone");
    assert_eq!(count(group(&page.body, "south.example").unwrap()), "3");
    let audit = host.api().get("/api/v1/audit").await.expect(200);
    let entries: Vec<_> =
        audit["items"].as_array().unwrap().iter().filter(|e| e["action"] == "delivery.replay").collect();
    assert_eq!(entries.len(), 1, "one act, one entry: {audit}");
    assert_eq!(entries[0]["detail"]["replayed"], 7);
}

#[tokio::test]
async fn two_who_press_retry_at_once_cause_one_attempt_and_the_second_sees_why() {
    let relay = SmtpServer::start().await;
    let host = TestHost::builder().mail_to(relay.address).start().await;
    let id = die(&host, &relay, 1, "north.example", REFUSED).await;
    let mut dana = signed_in(&host, "dana", "operator").await;
    let mut omar = signed_in(&host, "omar", "operator").await;
    let (one, two) = (dana.token().await, omar.token().await);
    let delivery = host.api().notification(&id).await["deliveries"][0]["delivery_id"].as_str().unwrap().to_owned();
    let path = format!("/admin/notifications/{id}/retry");
    let form = |token: &str| vec![("csrf".to_owned(), token.to_owned()), ("delivery".to_owned(), delivery.clone())];
    let (first, second) = (form(&one), form(&two));
    let back = format!("/admin/notifications/{id}");
    let more = [("back", back.as_str())];
    let (a, b) = tokio::join!(press(&mut dana, &path, &first, &more), press(&mut omar, &path, &second, &more));
    assert_eq!((a.status, b.status), (StatusCode::SEE_OTHER, StatusCode::SEE_OTHER));
    let pages = [dana.get(&back).await.body, omar.get(&back).await.body];
    assert_eq!(pages.iter().filter(|p| p.contains("1 delivery begins anew.")).count(), 1);
    let why = "already retried or no longer dead";
    assert_eq!(pages.iter().filter(|p| p.contains(why)).count(), 1, "{}", pages[1]);
    relay.wait_for(1).await;
    let d = host.api().state(&id, "email", "sent").await;
    assert_eq!(d["attempts"].as_array().unwrap().len(), 2, "one new attempt only");
}

#[tokio::test]
async fn what_is_discarded_leaves_the_list_can_be_taken_back_and_stays_dead() {
    let relay = SmtpServer::start().await;
    let host = TestHost::builder().mail_to(relay.address).start().await;
    let id = die(&host, &relay, 2, "north.example", REFUSED).await;
    let mut dana = signed_in(&host, "dana", "operator").await;
    let token = dana.token().await;
    let page = dana.get("/admin/dead").await;
    let fields = cause(group(&page.body, "north.example").unwrap());
    let asked = press(&mut dana, "/admin/dead/discard", &fields, &[("csrf", &token)]).await;
    assert!(asked.body.contains("Discard 2 dead letters?") && asked.body.contains("until retention"));
    press(&mut dana, "/admin/dead/discard", &fields, &[("csrf", &token), ("sure", "1")]).await;
    let page = dana.get("/admin/dead").await;
    assert!(page.body.contains("2 dead letters discarded.") && page.body.contains("Nothing has been given up on"));
    let deliveries = host.api().notification(&id).await["deliveries"].clone();
    assert!(deliveries.as_array().unwrap().iter().all(|d| d["state"] == "dead"), "the state is what it was");
    assert!(dana.get(&format!("/admin/notifications/{id}")).await.body.contains("put aside"));

    // The message offers to undo.
    let undo = page.body.split("action=\"/admin/dead/recall\"").nth(1).unwrap().split("</form>").next().unwrap();
    let ids: Vec<(String, String)> = undo
        .split("name=\"id\" value=\"")
        .skip(1)
        .map(|f| ("id".to_owned(), f.split('"').next().unwrap().to_owned()))
        .collect();
    assert_eq!(ids.len(), 2);
    press(&mut dana, "/admin/dead/recall", &ids, &[("csrf", &token)]).await;
    assert_eq!(count(group(&dana.get("/admin/dead").await.body, "north.example").unwrap()), "2");

    // A second press finds nothing.
    let nothing =
        press(&mut dana, "/admin/dead/discard", &[("channel".into(), "sms".into())], &[("csrf", &token)]).await;
    assert_eq!(nothing.status, StatusCode::SEE_OTHER);
    assert!(dana.get("/admin/dead").await.body.contains("somebody was faster"));
}

#[tokio::test]
async fn many_go_in_the_background_and_more_than_a_hundred_want_the_word() {
    let relay = SmtpServer::start().await;
    let host = TestHost::builder().mail_to(relay.address).start().await;
    die(&host, &relay, 101, "north.example", REFUSED).await;
    let mut dana = signed_in(&host, "dana", "operator").await;
    let token = dana.token().await;
    let page = dana.get("/admin/dead").await;
    let fields = cause(group(&page.body, "north.example").unwrap());
    let sure = [("csrf", token.as_str()), ("sure", "1"), ("rate", "1000")];
    let asked = press(&mut dana, "/admin/dead/retry", &fields, &sure).await;
    assert!(asked.body.contains("Type retry to go on"), "yes is not enough: {}", asked.body);
    assert!(relay.received().is_empty());
    let word = [("csrf", token.as_str()), ("sure", "1"), ("rate", "1000"), ("word", "retry")];
    press(&mut dana, "/admin/dead/retry", &fields, &word).await;
    assert!(dana.get("/admin/dead").await.body.contains("go in the background"));
    relay.wait_for(101).await;
    let http = (dana.http.clone(), dana.base.clone(), dana.cookie.clone().unwrap());
    until("its progress says that it is done", || async {
        let page = http.0.get(format!("{}/admin/dead", http.1)).header("cookie", &http.2).send().await.unwrap();
        let text = page.text().await.unwrap();
        (text.contains("101 of 101") && text.contains("</i>done</span>")).then_some(())
    })
    .await;
    let audit = host.api().get("/api/v1/audit").await.text;
    assert_eq!(audit.matches("delivery.replay").count(), 1, "{audit}");
}

#[tokio::test]
async fn an_unreadable_message_is_shown_taken_again_or_discarded() {
    let host = TestHost::builder().production().start().await;
    crate::amqp::publish_text(&host, "{\"user_id\": <img src=x onerror=alert(1)>", json!({})).await;
    let mut dana = signed_in(&host, "dana", "operator").await;
    let token = dana.token().await;
    let mut sam = signed_in(&host, "sam", "support").await;
    let path = "/admin/dead?tab=poison";
    let mut page = dana.get(path).await;
    for _ in 0..200 {
        if page.body.contains("/admin/dead/poison/") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        page = dana.get(path).await;
    }
    assert!(page.body.contains("onerror") && !page.body.contains("<img"), "shown as text");
    let tabs = dana.get("/admin/dead").await.body;
    let tab = tabs.split("tab=poison").nth(1).unwrap().split("</a>").next().unwrap();
    assert!(tab.contains(">1<"), "counted beside its name: {tab}");
    assert!(sam.get(path).await.body.contains("hidden from your role"));
    let id = page.body.split("/admin/dead/poison/").nth(1).unwrap().split('/').next().unwrap().to_owned();
    let again = dana.post(&format!("/admin/dead/poison/{id}/again"), &[("csrf", &token), ("back", path)]).await;
    assert_eq!(again.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(again.body.contains("still not JSON"), "{}", again.body);
    let sure = [("csrf", token.as_str()), ("back", path), ("sure", "1")];
    dana.post(&format!("/admin/dead/poison/{id}/discard"), &sure).await;
    assert!(dana.get(path).await.body.contains("Every message could be read"));
    assert!(host.api().get("/api/v1/audit").await.text.contains("poison.discard"));
}

#[tokio::test]
async fn who_may_not_act_sees_no_button_and_is_refused_by_name() {
    let relay = SmtpServer::start().await;
    let host = TestHost::builder().mail_to(relay.address).start().await;
    die(&host, &relay, 1, "north.example", REFUSED).await;
    let mut vera = signed_in(&host, "vera", "viewer").await;
    let token = vera.token().await;
    let page = vera.get("/admin/dead").await;
    assert!(!page.body.contains("Retry group") && !page.body.contains("Discard"));
    for path in ["/admin/dead/retry", "/admin/dead/discard", "/admin/dead/recall", "/admin/dead/stop"] {
        let refused = vera.post(path, &[("csrf", &token), ("channel", "email"), ("sure", "1")]).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{path}");
        assert!(refused.body.contains("operator"), "{path}: {}", refused.body);
    }
    let mut sam = signed_in(&host, "sam", "support").await;
    assert!(!sam.get("/admin/dead").await.body.contains("not welcome here"), "what the far side said may name content");
}

#[tokio::test]
async fn what_is_dead_goes_by_another_channel_in_the_same_notification() {
    let relay = SmtpServer::start().await;
    let host = TestHost::builder().mail_to(relay.address).start().await;
    let id = die(&host, &relay, 3, "gone.example", REFUSED).await;
    let mut dana = signed_in(&host, "dana", "operator").await;
    let csrf = dana.token().await;
    let page = dana.get(&format!("/admin/notifications/{id}")).await.body;
    assert!(page.contains("Send by it") && page.contains("<option>websocket</option>"), "{page}");
    let deliveries = host.api().notification(&id).await["deliveries"].as_array().unwrap().clone();
    let dead: Vec<String> = deliveries.iter().map(|d| d["delivery_id"].as_str().unwrap().to_owned()).collect();
    let user = deliveries[0]["user_id"].as_str().unwrap().to_owned();
    let nowhere = [("csrf", csrf.as_str()), ("id", &dead[0]), ("by", "pigeon")];
    assert_eq!(dana.post("/admin/dead/move", &nowhere).await.status, StatusCode::UNPROCESSABLE_ENTITY);

    let back = format!("/admin/notifications/{id}");
    let one = [("csrf", csrf.as_str()), ("id", &dead[0]), ("by", "websocket"), ("back", &back)];
    dana.post("/admin/dead/move", &one).await;
    let page = dana.get(&back).await.body;
    assert!(page.contains("1 delivery goes by websocket now") && page.contains("put aside"), "{page}");
    assert_eq!(host.me(&user).feed().await.len(), 1, "it is in the feed");
    let again = dana.post("/admin/dead/move", &one).await;
    assert_eq!(again.status, StatusCode::SEE_OTHER);
    assert!(dana.get(&back).await.body.contains("Nothing was moved: put aside"), "moved once");
    assert_eq!(host.me(&user).feed().await.len(), 1);

    let moved =
        host.api().post(&format!("/api/v1/dead_letters/{}/move", dead[1]), &json!({"channel": "websocket"})).await;
    assert_eq!(moved.expect(200)["channel"], "websocket");
    let twice =
        host.api().post(&format!("/api/v1/dead_letters/{}/move", dead[1]), &json!({"channel": "websocket"})).await;
    assert_eq!(twice.problem(409), "not_movable");
    let all = [("csrf", csrf.as_str()), ("id", &dead[2]), ("id", &dead[1]), ("by", "websocket")];
    let asked = dana.post("/admin/dead/move", &all).await;
    assert!(asked.body.contains("Send 2 dead letters by websocket?"), "{}", asked.body);
    let mut sure = all.to_vec();
    sure.push(("sure", "1"));
    dana.post("/admin/dead/move", &sure).await;
    let page = dana.get("/admin/dead").await.body;
    assert!(page.contains("1 delivery goes by websocket now; 1 can&#39;t: put aside"), "{page}");
    assert!(page.contains("Nothing has been given up on"));
    let audit = host.api().get("/api/v1/audit?action=delivery.move").await.expect(200);
    assert_eq!(audit["items"].as_array().unwrap().len(), 5, "each try is told");
}

#[tokio::test]
async fn a_dead_letter_is_corrected_and_sent_as_a_new_version() {
    let relay = SmtpServer::start().await;
    let host = TestHost::builder().mail_to(relay.address).start().await;
    let id = die(&host, &relay, 1, "gone.example", REFUSED).await;
    let mut dana = signed_in(&host, "dana", "operator").await;
    let mut sam = signed_in(&host, "sam", "support").await;
    let csrf = dana.token().await;
    let dead = host.api().notification(&id).await["deliveries"][0]["delivery_id"].as_str().unwrap().to_owned();
    let token = sam.token().await;
    let theirs = sam.post("/admin/dead/edit", &[("csrf", &token), ("id", &dead)]).await;
    assert_eq!(theirs.status, StatusCode::FORBIDDEN);
    let form = dana.post("/admin/dead/edit", &[("csrf", &csrf), ("id", "x"), ("edit", &dead)]).await;
    assert!(form.body.contains("p0@gone.example") && form.body.contains("not welcome here"), "{}", form.body);
    let send = "/admin/dead/edit/send";
    let wrong = [("csrf", csrf.as_str()), ("id", &dead), ("address", "no address"), ("title", "<img src=x>")];
    let refused = dana.post(send, &wrong).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(refused.body.contains("no address") && !refused.body.contains("<img"), "{}", refused.body);

    let mut eli = signed_in(&host, "eli", "operator").await;
    let theirs = eli.token().await;
    let other = [("csrf", theirs.as_str()), ("id", &dead), ("address", "other@here.example"), ("title", "T")];
    let right = [
        ("csrf", csrf.as_str()),
        ("id", &dead),
        ("address", "right@here.example"),
        ("title", "T"),
        ("text", "Now it fits."),
    ];
    // Both see the form; one version is sent.
    let (sent, late) = tokio::join!(dana.post(send, &right), eli.post(send, &other));
    let (sent, late, first) = if sent.location.is_some() { (sent, late, true) } else { (late, sent, false) };
    assert!(matches!(late.status, StatusCode::CONFLICT | StatusCode::NOT_FOUND), "{}", late.body);
    let new =
        sent.location.as_deref().unwrap_or_else(|| panic!("{}", sent.body)).rsplit('/').next().unwrap().to_owned();
    assert_ne!(new, id);
    host.api().state(&new, "email", "sent").await;
    let mails = relay.wait_for(1).await;
    let address = if first { "right@here.example" } else { "other@here.example" };
    assert!(mails[0].to.iter().any(|to| to.contains(address)));
    assert!(dana.get("/admin/dead").await.body.contains("Nothing has been given up on"));
    let again = dana.post(send, &right).await;
    assert_eq!(again.status, StatusCode::NOT_FOUND, "what was put aside is corrected no more");
    let audit = host.api().get("/api/v1/audit?action=delivery.edit").await.expect(200);
    assert_eq!(audit["items"].as_array().unwrap().len(), 1, "one version: {audit}");
    // Where the other was faster, its text was empty, as the first one's had been.
    let changed = if first { json!(["address", "text"]) } else { json!(["address"]) };
    assert_eq!(audit["items"][0]["detail"], json!({"as": new, "changed": changed}));
    assert_eq!(relay.received().len(), 1);
    let looked = host.api().get("/api/v1/audit?action=notification.reveal").await.expect(200);
    assert_eq!(looked["items"].as_array().unwrap().len(), 1, "who looked at a message is kept");
}

#[tokio::test]
async fn filters_stand_in_the_address_and_an_act_takes_what_they_show() {
    let relay = SmtpServer::start().await;
    let host = TestHost::builder().mail_to(relay.address).start().await;
    die(&host, &relay, 4, "north.example", REFUSED).await;
    die(&host, &relay, 2, "south.example", REFUSED).await;
    let last = host.api().get("/api/v1/dead_letters?limit=100").await.expect(200)["items"].as_array().unwrap().clone();
    let between = last.iter().filter(|d| d["recipient"].as_str().unwrap().ends_with("south.example"));
    let between = between.map(|d| d["settled_at"].as_str().unwrap().to_owned()).min().unwrap();
    let mut dana = signed_in(&host, "dana", "operator").await;
    let token = dana.token().await;

    let asked = dana
        .get("/admin/dead?f=1&channel=email&destination=south.example&reason=&error=&user=&since=24h&until=&keep=")
        .await;
    let path = asked.location.unwrap();
    assert_eq!(path, "/admin/dead?channel=email&destination=south.example&since=24h");
    let page = dana.get(&path).await.body;
    assert!(group(&page, "south.example").is_some() && group(&page, "north.example").is_none());
    for chip in ["Without channel: email", "Without to: south.example", "Without since: 24h"] {
        assert!(page.contains(chip), "{chip}");
    }
    assert!(page.contains("Retry all that match") && page.contains("/admin/dead/export?channel=email"));
    let items = dana.get(&format!("{path}&all=1")).await.body;
    assert_eq!(items.matches("<tr id=\"d-").count(), 2);
    let wrong = dana.get("/admin/dead?since=%3Cimg%20src%3Dx%3E").await.body;
    assert!(wrong.contains("is no time") && !wrong.contains("<img"));

    // By time: what died before the second lot.
    let until = between.replace(':', "%3A");
    let page = dana.get(&format!("/admin/dead?until={until}")).await.body;
    assert_eq!(count(group(&page, "north.example").unwrap()), "4");
    assert!(group(&page, "south.example").is_none());
    let fields = cause(group(&page, "north.example").unwrap());
    assert!(fields.contains(&("until".to_owned(), between.clone())), "a group's form keeps to the time: {fields:?}");

    // A wrong filter of an act is refused: less said would take more.
    for (name, value) in [("since", "yesterday"), ("rate", "ten"), ("rate", "1001")] {
        let refused = dana.post("/admin/dead/retry", &[("csrf", &token), ("sure", "1"), (name, value)]).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{name}={value}");
    }
    let form = [("csrf", token.as_str()), ("until", &between), ("rate", "50"), ("back", "/admin/dead")];
    let asked = dana.post("/admin/dead/retry", &form).await.body;
    assert!(asked.contains("Retry 4 deliveries?") && asked.contains("All that match: until"), "{asked}");
    assert!(asked.contains("At 50 a second it takes about"), "{asked}");
    let mut sure = form.to_vec();
    sure.push(("sure", "1"));
    dana.post("/admin/dead/retry", &sure).await;
    relay.wait_for(4).await;
    let page = dana.wait_for("/admin/dead", "4 of 4").await;
    assert!(group(&page, "north.example").is_none(), "all of these");
    assert_eq!(count(group(&page, "south.example").unwrap()), "2", "and none of the others");

    // The rows' own form with nothing ticked is about nothing.
    for act in ["retry", "discard", "move"] {
        let form = [("csrf", token.as_str()), ("picked", "1"), ("by", "websocket"), ("sure", "1")];
        dana.post(&format!("/admin/dead/{act}"), &form).await;
        assert!(dana.get("/admin/dead").await.body.contains("Nothing was selected."), "{act}");
    }

    let file = dana.get("/admin/dead/export?as=ndjson&destination=south.example&since=1h").await.body;
    assert_eq!(file.lines().count(), 2, "{file}");
    let asked = dana.post("/admin/dead/discard", &[("csrf", &token), ("destination", "south.example")]).await.body;
    assert!(asked.contains("Discard 2 dead letters?") && asked.contains("All that match: south.example"), "{asked}");
}
