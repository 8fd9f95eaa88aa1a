//! Channels and plugins: an instance made, tried, changed and taken back by forms; order, switches; what crashed and what was
//! refused; secrets nowhere.

use super::browser::{Answer, Browser, Stream, signed_in};
use crate::channels::files_kit::{House, c_file, list, outcomes, villain};
use campanile_tests::{TestHost, prelude::*, smtp::SmtpServer};
use reqwest::StatusCode;
use std::fs;

const SECRET: &str = "s3cret-of-the-relay";
const EVIL: &str = "<img src=x onerror=alert(1)>";

/// What a form carries hidden.
fn hidden(page: &Answer, name: &str) -> String {
    let mark = format!("name=\"{name}\" value=\"");
    let from = page.body.split(&mark).nth(1).unwrap_or_else(|| panic!("no {name} in {}", page.body));
    from.split('"').next().unwrap().to_owned()
}

/// No secret and no markup of others, whatever page it is.
fn clean(page: &Answer) {
    assert!(!page.body.contains(SECRET), "a secret is in {}", page.body);
    assert!(!page.body.contains("<img"), "markup of others is in {}", page.body);
}

async fn get(browser: &mut Browser, path: &str) -> Answer {
    let page = browser.get(path).await;
    assert_eq!(page.status, StatusCode::OK, "{path}: {}", page.body);
    clean(&page);
    page
}

async fn post(browser: &mut Browser, path: &str, form: &[(&str, &str)]) -> Answer {
    let answer = browser.post(path, form).await;
    clean(&answer);
    answer
}

async fn owner_of(relay: &SmtpServer) -> (TestHost, Browser, String) {
    let host = TestHost::builder().mail_to(relay.address).text("plugins.secret_key", &"k".repeat(32)).start().await;
    let mut dana = signed_in(&host, "dana", "owner").await;
    let token = dana.token().await;
    (host, dana, token)
}

#[tokio::test]
async fn an_instance_is_tried_made_changed_and_rolled_back_and_its_secret_is_never_shown() {
    let relay = SmtpServer::start().await;
    let (host, mut dana, csrf) = owner_of(&relay).await;
    let csrf = csrf.as_str();
    let url = format!("smtp://ada:{SECRET}@{}", relay.address);
    let page = get(&mut dana, "/admin/plugins").await;
    assert!(page.body.contains("/admin/plugins/email/new") && !page.body.contains("/admin/plugins/websocket/new"));
    let new = "/admin/plugins/email/new";
    let page = get(&mut dana, new).await;
    assert!(page.body.contains("value=\"email-2\""), "a free name is offered: {}", page.body);

    // A test saves nothing, whatever comes of it.
    let base = [("csrf", csrf), ("name", "backup"), ("channel", "email"), ("/url", url.as_str())];
    let with = |more: &[(&'static str, &'static str)]| [&base[..], more].concat();
    let tried = post(&mut dana, new, &with(&[("/from", EVIL), ("do", "try")])).await;
    assert_eq!(tried.status, StatusCode::OK);
    assert!(tried.body.contains("aria-invalid=\"true\"") && tried.body.contains("onerror"), "{}", tried.body);
    let tried = post(&mut dana, new, &with(&[("/from", "Backup <b@example.org>"), ("do", "try")])).await;
    assert!(tried.body.contains("Nothing was saved"), "{}", tried.body);
    assert_eq!(host.api().get("/api/v1/instances/backup").await.status, 404);

    // The secret was typed once; the draft on the server has it, the page has not.
    let draft = hidden(&tried, "draft");
    let form = [("csrf", csrf), ("name", "backup"), ("channel", "email"), ("draft", draft.as_str()), ("/url", "")];
    let made =
        post(&mut dana, new, &[&form[..], &[("/from", "Backup <b@example.org>"), ("do", "apply")]].concat()).await;
    assert_eq!(
        (made.status, made.location.as_deref()),
        (StatusCode::SEE_OTHER, Some("/admin/channels/email")),
        "{}",
        made.body
    );
    let page = get(&mut dana, "/admin/channels/email").await;
    assert!(page.body.contains("backup is made and runs") && page.body.contains("<b>backup</b>"), "{}", page.body);
    let seen = host.api().get("/api/v1/instances/backup").await.expect(200);
    assert_eq!((&seen["state"], &seen["config"]["url"]["$secret"]), (&json!("running"), &json!("sealed")));

    // A change is reviewed before it is applied.
    let config = "/admin/instances/backup/config";
    let tab = "/admin/channels/email?tab=config&instance=backup";
    let page = get(&mut dana, tab).await;
    assert!(page.body.contains("b@example.org") && page.body.contains("class=\"chip\">set"), "{}", page.body);
    let form = [("csrf", csrf), ("version", "1"), ("draft", ""), ("/url", ""), ("do", "review")];
    let wrong = post(&mut dana, config, &[&form[..], &[("/from", EVIL)]].concat()).await;
    assert!(wrong.body.contains("aria-invalid=\"true\"") && !wrong.body.contains("What would change"));
    let wrong =
        post(&mut dana, config, &[&form[..], &[("/from", "b@example.org"), ("/max_connections", "many")]].concat())
            .await;
    assert!(wrong.body.contains("no whole number") && wrong.body.contains("value=\"many\""), "{}", wrong.body);
    let review = post(&mut dana, config, &[&form[..], &[("/from", "Spare <s@example.org>")]].concat()).await;
    assert!(review.body.contains("What would change") && review.body.contains("<del>"), "{}", review.body);
    assert_eq!(host.api().get("/api/v1/instances/backup").await.expect(200)["version"], 1, "a review saves nothing");
    let draft = hidden(&review, "draft");
    let apply = [("csrf", csrf), ("draft", draft.as_str()), ("version", "1"), ("do", "apply")];
    let applied = post(&mut dana, config, &apply).await;
    assert_eq!(applied.location.as_deref(), Some(tab), "{}", applied.body);
    let again = post(&mut dana, config, &apply).await;
    assert!(again.body.contains("version 2 is in force"), "applied once: {}", again.body);
    let foreign = [("csrf", csrf), ("draft", "sealed:AAAA"), ("version", "2"), ("do", "apply")];
    let foreign = post(&mut dana, config, &foreign).await;
    assert!(
        foreign.body.contains("can't be read any more") || foreign.body.contains("be read any more"),
        "{}",
        foreign.body
    );
    let page = get(&mut dana, tab).await;
    assert!(page.body.contains("Version 2 of backup is in force") && page.body.contains("s@example.org"));

    let back = post(&mut dana, "/admin/instances/backup/rollback", &[("csrf", csrf), ("version", "1")]).await;
    assert_eq!(back.location.as_deref(), Some(tab));
    let seen = host.api().get("/api/v1/instances/backup").await.expect(200);
    assert_eq!((&seen["version"], &seen["config"]["from"]), (&json!(3), &json!("Backup <b@example.org>")));
    // What the others see of it: no secret in the log of what was done either.
    let audit = host.api().get("/api/v1/audit?limit=100").await.text;
    assert!(audit.contains("instance.try") && audit.contains("instance.roll_back") && !audit.contains(SECRET));
    assert!(!host.output().contains(SECRET));
}

#[tokio::test]
async fn order_switches_and_deletion_take_hold_and_a_dangerous_one_asks() {
    let relay = SmtpServer::start().await;
    let (host, mut dana, csrf) = owner_of(&relay).await;
    let csrf = [("csrf", csrf.as_str())];
    let new = json!({"name": "backup", "plugin": "email", "channel": "email",
        "config": {"url": relay.url(), "from": "b@example.org"}});
    host.api().post("/api/v1/instances", &new).await.expect(201);
    let names = async || {
        let channels = host.api().get("/api/v1/channels").await.expect(200);
        let email = channels["items"].as_array().unwrap().iter().find(|c| c["name"] == "email").unwrap().clone();
        let all = email["instances"].as_array().unwrap().iter();
        all.map(|i| format!("{} {}", i["name"].as_str().unwrap(), i["state"].as_str().unwrap())).collect::<Vec<_>>()
    };
    let moved = post(&mut dana, "/admin/instances/backup/up", &csrf).await;
    assert_eq!(moved.location.as_deref(), Some("/admin/channels/email"));
    assert_eq!(names().await, ["backup running", "email running"]);
    post(&mut dana, "/admin/instances/backup/up", &csrf).await;
    assert_eq!(names().await, ["backup running", "email running"], "the first stays the first");
    post(&mut dana, "/admin/instances/backup/down", &csrf).await;
    assert_eq!(names().await, ["email running", "backup running"]);
    post(&mut dana, "/admin/instances/backup/disable", &csrf).await;
    assert_eq!(names().await, ["email running", "backup disabled"]);
    let page = get(&mut dana, "/admin/channels/email").await;
    assert!(page.body.contains("Undo") && page.body.contains("Switch on"), "{}", page.body);
    post(&mut dana, "/admin/instances/backup/enable", &csrf).await;
    for verb in ["restart", "reset"] {
        let done = post(&mut dana, &format!("/admin/instances/backup/{verb}"), &csrf).await;
        assert_eq!(done.status, StatusCode::SEE_OTHER, "{verb}: {}", done.body);
    }
    assert_eq!(names().await, ["email running", "backup running"]);
    // What the configuration file made can't be changed here, and the page says where.
    let page = get(&mut dana, "/admin/channels/email?tab=config&instance=email").await;
    assert!(page.body.contains("change it there") && !page.body.contains("action=\"/admin/instances/email/config\""));
    let fixed = post(&mut dana, "/admin/instances/email/disable", &csrf).await;
    assert_eq!(fixed.status, StatusCode::CONFLICT, "{}", fixed.body);

    let asked = post(&mut dana, "/admin/instances/backup/delete", &csrf).await;
    assert!(asked.status == StatusCode::OK && asked.body.contains("Delete backup?"), "{}", asked.body);
    assert_eq!(names().await.len(), 2, "asking deletes nothing");
    let sure = [csrf[0], ("sure", "1")];
    assert_eq!(post(&mut dana, "/admin/instances/backup/delete", &sure).await.status, StatusCode::SEE_OTHER);
    assert_eq!(names().await, ["email running"]);
    for path in ["/admin/channels/nothing", "/admin/plugins/nothing/new", "/admin/channels/email?tab=config&instance=x"]
    {
        assert_eq!(dana.get(path).await.status, StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn how_a_channel_fares_is_drawn_over_time_with_a_table_and_a_link_for_each() {
    let relay = SmtpServer::start().await;
    let host = TestHost::builder().mail_to(relay.address).start().await;
    let mut vera = signed_in(&host, "vera", "viewer").await;
    for n in 0..3 {
        let to = json!([{"user_id": format!("u{n}"), "email": format!("u{n}@example.org")}]);
        host.api().accepted(&json!({"to": to, "title": "drawn", "channels": ["email"]})).await;
    }
    relay.wait_for(3).await;
    // Another channel's deliveries are not among them.
    host.api().notify("ada", "in the feed").await;
    vera.wait_for("/admin/channels/email?table=rate", "data-sum=\"delivered\">3<").await;
    let page = get(&mut vera, "/admin/channels/email").await.body;
    for (id, table) in [("rate", "rate"), ("success", "success"), ("latency", "latency")] {
        assert!(page.contains(&format!("<section id=\"{id}\" class=\"card\"")), "no {id}: {page}");
        assert!(page.contains(&format!("table={table}\">As table")), "{table}: {page}");
    }
    assert!(page.contains("success 100 % last.") && page.contains("Link to this time"), "{page}");
    let page = get(&mut vera, "/admin/channels/email?range=15m&table=latency").await.body;
    assert!(page.contains("p95, highest") && page.contains("range=6h"), "{page}");
    let mut live = Stream::open(&vera, "/admin/live?page=channel&channel=email&range=15m").await;
    live.until("its parts are told one by one", |t| {
        ["#rate", "#success", "#latency", "#channel-health", "#pause"]
            .iter()
            .all(|id| t.contains(&format!("hx-target=\"{id}\"")))
    })
    .await;
    let pinned = "/admin/channels/email?from=2026-01-02T03:00:00Z&to=2026-01-02T04:00:00Z";
    let page = get(&mut vera, pinned).await.body;
    assert!(page.contains("The plots show the time from") && page.contains("No data in this time"), "{page}");
    assert!(page.contains("everything else is of now") && page.contains("Plots of now"), "{page}");
}

#[tokio::test]
async fn who_may_not_act_gets_no_form_and_support_no_log() {
    let relay = SmtpServer::start().await;
    let host = TestHost::builder().mail_to(relay.address).start().await;
    let mut vera = signed_in(&host, "vera", "viewer").await;
    for path in ["/admin/channels", "/admin/channels/email", "/admin/channels/email?tab=config", "/admin/plugins"] {
        let page = get(&mut vera, path).await;
        let main = page.body.split("<main").nth(1).unwrap();
        assert!(!main.contains("method=\"post\""), "{path}: {main}");
    }
    get(&mut vera, "/admin/channels/email?tab=log").await;
    let mut sam = signed_in(&host, "sam", "support").await;
    let page = get(&mut sam, "/admin/channels/email").await;
    assert!(!page.body.contains("tab=log"));
    assert_eq!(sam.get("/admin/channels/email?tab=log").await.status, StatusCode::FORBIDDEN);
}

/// A file whose constructor aborts, one that is no library, and an instance that ends in the middle of its work.
#[tokio::test]
async fn what_crashes_says_so_within_seconds_and_the_others_go_on() {
    let mut house = House::new(|b| b.set("retry.schedule", "[\"50ms\"]"));
    house.add(c_file(), &["--allow-host", "files.example.org"]).await;
    house.add(&villain(&["-DFLAGS=CAMP_F_BLOCKING"]), &[]).await;
    let rotten = villain(&["-DNAME=\"rotten\"", "-DABORTS"]);
    list(&house, "rotten", &fs::read(rotten).unwrap());
    house.host.launch().await;
    let mut olga = signed_in(&house.host, "olga", "owner").await;
    let csrf = olga.token().await;
    house
        .create(&json!({"name": "desk", "plugin": "c_file", "config": {"path": house.host.folder().join("out")}}))
        .await;
    house.create(&json!({"name": "bad", "plugin": "villain"})).await;
    let mut live = Stream::open(&olga, "/admin/live?page=channel&channel=villain").await;
    house.send("villain", "segv").await;
    let said = live.until("its card says that it ended", |t| t.contains("bad ended by itself")).await;
    assert!(said.contains("Other instances and channels go on"), "{said}");
    let delivers = async |house: &House| {
        let id = house.send("c_file", "room-7").await;
        let delivery = house.host.api().state(&id, "c_file", "sent").await;
        assert_eq!(outcomes(&delivery), ["ok"], "{delivery}");
    };
    delivers(&house).await;

    let page = get(&mut olga, "/admin/plugins").await;
    assert!(page.body.contains("rotten was refused") && page.body.contains("signal 6"), "{}", page.body);
    assert!(page.body.contains("files.example.org"), "{}", page.body);
    let about = get(&mut olga, "/admin/channels/c_file?tab=about").await;
    let fact = |label: &str, value: &str| about.body.contains(&format!("<dt>{label}</dt><dd>{value}</dd>"));
    assert!(fact("May call", "files.example.org") && fact("Asks to call", "none asked"), "{}", about.body);
    assert!(fact("Authors", "not told by the plugin") && fact("Changelog", "not told by the plugin"), "{}", about.body);
    let refused = post(&mut olga, "/admin/plugins/rotten/reload", &[("csrf", &csrf)]).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", refused.body);
    let reload = [("csrf", csrf.as_str()), ("back", "/admin/plugins")];
    let reloaded = post(&mut olga, "/admin/plugins/c_file/reload", &reload).await;
    assert_eq!(reloaded.location.as_deref(), Some("/admin/plugins"), "{}", reloaded.body);
    delivers(&house).await;
}
