//! Connections, users, keys and members as an operator, an owner and a viewer meet them.

use super::browser::{Browser, PASSWORD, signed_in};
use campanile_tests::{prelude::*, smtp::SmtpServer};
use reqwest::StatusCode;

/// Shows as text wherever people can write.
const EVIL: &str = "<img src=x onerror=alert(1)>";

/// What stands in the element of this id.
fn shown_once(page: &str, id: &str) -> String {
    let from = page.split(&format!("<code id=\"{id}\">")).nth(1).unwrap_or_else(|| panic!("no {id} in {page}"));
    from.split("</code>").next().unwrap().to_owned()
}

async fn audited(host: &TestHost, action: &str) -> Vec<Value> {
    let all = host.api().get(&format!("/api/v1/audit?action={action}")).await.expect(200);
    all["items"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_connection_is_listed_and_closed_and_its_client_learns_why() {
    let host = TestHost::start().await;
    let mut dana = signed_in(&host, "dana", "operator").await;
    let csrf = dana.token().await;
    let empty = dana.get("/admin/connections").await;
    assert!(empty.body.contains("Nobody is connected") && empty.body.contains("new WebSocket("), "a way to open one");

    let mut ada = Connect::to(&host).token(&token::user("ada")).v1().open().await;
    let mut bo = Connect::to(&host).token(&token::user("bo")).v1().open().await;
    let row = until("both are listed", || async {
        let page = host.api().get("/api/v1/connections").await.expect(200);
        let items = page["items"].as_array().unwrap().clone();
        (items.len() == 2).then(|| items.into_iter().find(|c| c["user_id"] == "ada").unwrap())
    })
    .await;
    let id = row["conn_id"].as_str().unwrap();
    let page = dana.get("/admin/connections").await.body;
    assert!(page.contains(&format!("/admin/connections/{id}/close")) && page.contains("127.0.0.*"), "masked address");
    assert!(!page.contains("127.0.0.1</code>"));
    let only_bo = dana.get("/admin/connections?user=bo").await.body;
    assert!(only_bo.contains(">bo</a>") && !only_bo.contains(">ada</a>"));
    let none = dana.get(&format!("/admin/connections?user={}", "%3Cimg%20src=x%3E")).await.body;
    assert!(none.contains("No connection fits") && !none.contains("<img"));
    let one = dana.get(&format!("/admin/connections/{id}")).await.body;
    assert!(one.contains("Connection of ada") && one.contains("new token needed"));

    let mut vera = signed_in(&host, "vera", "viewer").await;
    let theirs = vera.get("/admin/connections").await.body;
    assert!(theirs.contains(">ada</a>") && !theirs.contains("/close"), "a viewer finds no way to act");

    let why = [("csrf", csrf.as_str()), ("why", "revoked"), ("back", "/admin/connections")];
    let closed = dana.post(&format!("/admin/connections/{id}/close"), &why).await;
    assert_eq!(closed.location.as_deref(), Some("/admin/connections"));
    assert_eq!(ada.closed().await.code, 4401);
    until("the row is gone", || async {
        let page = host.api().get("/api/v1/connections").await.expect(200);
        (page["items"].as_array().unwrap().len() == 1).then_some(())
    })
    .await;
    let page = dana.get("/admin/connections").await.body;
    assert!(page.contains("is being closed") && !page.contains(">ada</a>"));
    let gone = dana.post(&format!("/admin/connections/{id}/close"), &why).await;
    assert_eq!(gone.status, StatusCode::NOT_FOUND);

    let asked = dana.post("/admin/connections/of/bo/close", &[("csrf", &csrf)]).await;
    assert!(asked.body.contains("Disconnect all of bo?"), "asked first: {}", asked.body);
    dana.post("/admin/connections/of/bo/close", &[("csrf", &csrf), ("sure", "1")]).await;
    assert_eq!(bo.closed().await.code, 1012);
    assert_eq!(audited(&host, "connection.close").await[0]["detail"]["why"], "revoked");
    assert_eq!(audited(&host, "user.disconnect").await.len(), 1);
}

#[tokio::test]
async fn a_connection_is_pinged_spoken_to_and_watched() {
    let host = TestHost::start().await;
    let mut dana = signed_in(&host, "dana", "operator").await;
    let mut sam = signed_in(&host, "sam", "support").await;
    let csrf = dana.token().await;
    let mut ada = Connect::to(&host).token(&token::user("ada")).v1().open().await;
    let id = ada.expect("hello").await["data"]["conn_id"].as_str().unwrap().to_owned();
    let at = format!("/admin/connections/{id}");
    assert!(dana.get(&at).await.body.contains("not asked for yet"));

    // A client answers pings while it reads.
    let ping = format!("{at}/ping");
    let fields = [("csrf", csrf.as_str())];
    let (_, pinged) = tokio::join!(ada.next_within(Duration::from_secs(2)), dana.post(&ping, &fields));
    assert_eq!(pinged.status, StatusCode::SEE_OTHER, "{}", pinged.body);
    let page = dana.get(&at).await.body;
    assert!(page.contains("ada answered in ") && !page.contains("not asked for yet"), "{page}");
    let call = format!("/api/v1/connections/{id}/ping");
    let api = host.api();
    let body = json!({});
    let (_, pinged) = tokio::join!(ada.next_within(Duration::from_secs(2)), api.post(&call, &body));
    assert!(pinged.expect(200)["took_ms"].as_f64().unwrap() > 0.0);
    let silent = host.api().post(&call, &json!({})).await;
    assert_eq!(silent.problem(504), "no_pong", "it does not read now");

    let tail = dana.post(&format!("{at}/tail"), &fields).await;
    assert_eq!(tail.status, StatusCode::SEE_OTHER, "{}", tail.body);
    let text = [("csrf", csrf.as_str()), ("text", "Please reload <b>now</b>")];
    dana.post("/admin/connections/of/ada/message", &text).await;
    let told = ada.wait_for("notification").await;
    assert_eq!(told["data"]["title"], "Please reload <b>now</b>");
    assert_eq!(told["data"]["action"], "reload");
    assert!(host.me("ada").feed().await.is_empty(), "kept nowhere");
    let fresh = token::user("ada");
    ada.send(&json!({"type": "auth", "token": fresh})).await;
    ada.send(&json!({"type": "get_unread_count"})).await;
    ada.wait_for("unread_count").await;
    let page = dana.wait_for(&at, "get_unread_count").await;
    assert!(page.contains("reload &#60;b&#62;now") && !page.contains("<b>now"), "as text: {page}");
    assert!(page.contains("&#34;auth&#34;") && !page.contains(&fresh), "a token is shown to nobody");
    assert!(!sam.get(&at).await.body.contains("get_unread_count"), "support reads no messages");
    assert_eq!(audited(&host, "connection.tail").await[0]["detail"]["user_id"], "ada");
    assert_eq!(audited(&host, "user.message").await[0]["target"], "ada");
}

#[tokio::test]
async fn a_node_gives_its_connections_away_and_goes_on() {
    let host = TestHost::start().await;
    let mut dana = signed_in(&host, "dana", "operator").await;
    let csrf = dana.token().await;
    let mut ada = Connect::to(&host).token(&token::user("ada")).v1().open().await;
    ada.expect("hello").await;
    let nodes = host.api().get("/api/v1/nodes").await.expect(200);
    let node = nodes["items"][0]["node_id"].as_str().unwrap().to_owned();
    host.api().post(&format!("/api/v1/nodes/{node}/drain"), &json!({"spread_s": 0})).await.problem(422);
    let strange = "/api/v1/nodes/0190c0de-0000-7000-8000-000000000001/drain";
    host.api().post(strange, &json!({"spread_s": 1})).await.problem(404);
    let at = format!("/admin/nodes/{node}/drain");
    let asked = dana.post(&at, &[("csrf", &csrf), ("spread", "1")]).await;
    assert!(asked.body.contains("connections away?"), "asked first: {}", asked.body);
    dana.post(&at, &[("csrf", &csrf), ("spread", "1"), ("sure", "1")]).await;
    until("it says that it is not ready", || async { (host.api().get("/readyz").await.status == 503).then_some(()) })
        .await;
    ada.wait_for("bye").await;
    assert_eq!(ada.closed().await.code, 1012);
    until("it is ready again", || async { (host.api().get("/readyz").await.status == 200).then_some(()) }).await;
    let mut again = Connect::to(&host).token(&token::user("ada")).v1().open().await;
    again.expect("hello").await;
    assert_eq!(audited(&host, "node.drain").await[0]["detail"]["spread_s"], 1);
}

#[tokio::test]
async fn what_somebody_chose_is_shown_and_changed_for_them() {
    let relay = SmtpServer::start().await;
    let host = TestHost::builder().mail_to(relay.address).start().await;
    let api = host.api();
    api.put("/api/v1/users/ada", &json!({"email": "ada@example.org"})).await.expect(200);
    let news = json!({"user_id": "ada", "title": "N", "notification_type": "news", "channels": ["websocket", "email"]});
    api.accepted(&news).await;
    let mut dana = signed_in(&host, "dana", "operator").await;
    let csrf = dana.token().await;
    let page = dana.get("/admin/users/ada").await.body;
    assert!(page.contains("Preferences") && page.contains("the feed takes everything"), "{page}");
    assert!(page.contains("Stop news by email"));
    let say = |kind: &'static str| [("csrf", csrf.clone()), ("channel", "email".to_owned()), ("type", kind.to_owned())];
    let post = async |dana: &mut Browser, fields: [(&str, String); 3]| {
        let fields: Vec<(&str, &str)> = fields.iter().map(|(k, v)| (*k, v.as_str())).collect();
        dana.post("/admin/users/ada/opt-out", &fields).await
    };
    assert_eq!(post(&mut dana, say("news")).await.status, StatusCode::SEE_OTHER);
    let page = dana.get("/admin/users/ada").await.body;
    assert!(page.contains("their choice") && page.contains("ada gets no more news by email"), "{page}");
    let held = api.accepted(&news).await;
    let d = api.delivery_until(&held, "email", "suppressed", |d| d["state"] == "suppressed").await;
    assert_eq!(d["reason"], "unsubscribed");
    let feed = [("csrf", csrf.as_str()), ("channel", "websocket"), ("type", "news")];
    assert_eq!(dana.post("/admin/users/ada/opt-out", &feed).await.status, StatusCode::UNPROCESSABLE_ENTITY);

    let list = dana.get("/admin/users").await.body;
    assert!(list.contains("Known") && list.contains("Opted out") && list.contains(">news<"), "{list}");
    let id = page.split("/lift\"").nth(1).unwrap().split("name=\"id\" value=\"").nth(1).unwrap();
    let id = id.split('"').next().unwrap().to_owned();
    dana.post("/admin/users/ada/lift", &[("csrf", &csrf), ("id", &id)]).await;
    assert!(dana.get("/admin/users/ada").await.body.contains("Stop news by email"));
    assert_eq!(audited(&host, "user.opt_out").await[0]["target"], "ada");

    let socket = Connect::to(&host).token(&token::user("ada")).open().await;
    dana.wait_for("/admin/users", "<dt>Here in 24 h</dt><dd><a href=\"/admin/users?show=day\">1</a></dd>").await;
    socket.close().await;
    dana.wait_for("/admin/users/ada", "at the latest").await;
}

#[tokio::test]
async fn a_key_is_shown_once_works_overlaps_and_ends() {
    let host = TestHost::start().await;
    let mut dana = signed_in(&host, "dana", "owner").await;
    let csrf = dana.token().await;
    let wrong = dana.post("/admin/keys", &[("csrf", &csrf), ("name", " ")]).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(wrong.body.contains("1 to 100 characters") && wrong.body.contains("at least one scope"));

    let made =
        dana.post("/admin/keys", &[("csrf", &csrf), ("name", EVIL), ("scopes", "send"), ("scopes", "read")]).await;
    assert_eq!(made.status, StatusCode::CREATED);
    assert!(!made.body.contains("<img") && made.body.contains("curl "));
    let first = shown_once(&made.body, "made");
    assert!(first.starts_with("cmp_"));
    let call = async |key: &str| host.api().with_key(key).get("/api/v1/notifications").await.status;
    assert_eq!(call(&first).await, 200);
    let list = dana.get("/admin/keys").await.body;
    assert!(
        !list.contains(&first) && !list.contains("<img") && list.contains("dana"),
        "made by dana, never shown again"
    );
    assert!(!host.output().contains(&first));

    let id = first.split('_').nth(1).unwrap().to_owned();
    let rotated = dana.post(&format!("/admin/keys/{id}/rotate"), &[("csrf", &csrf)]).await;
    let second = shown_once(&rotated.body, "made");
    assert_ne!(first, second);
    assert_eq!((call(&first).await, call(&second).await), (200, 200), "both work for a while");

    let fence = format!("/admin/keys/{id}/restrict");
    let wrong = dana.post(&fence, &[("csrf", &csrf), ("networks", "10.0.0.0/8 <img>")]).await;
    assert!(wrong.status == StatusCode::UNPROCESSABLE_ENTITY && !wrong.body.contains("<img>"), "{}", wrong.body);
    dana.post(&fence, &[("csrf", &csrf), ("networks", "203.0.113.0/24, 10.0.0.1")]).await;
    assert_eq!((call(&first).await, call(&second).await), (403, 200), "its successor is another key");
    assert!(dana.get("/admin/keys").await.body.contains("203.0.113.0/24, 10.0.0.1"));
    dana.post(&fence, &[("csrf", &csrf), ("networks", "")]).await;
    assert_eq!(call(&first).await, 200);

    let undo = dana.post(&fence, &[("csrf", &csrf), ("networks", "203.0.113.0/24")]).await;
    assert_eq!(undo.status, StatusCode::SEE_OTHER);
    let page = dana.get("/admin/keys").await.body;
    let way_back = "type=\"hidden\" name=\"networks\" value=\"\"";
    assert!(page.contains(way_back) && page.contains(">Undo<"), "the message offers to undo: {page}");
    dana.post(&fence, &[("csrf", &csrf), ("networks", "")]).await;

    let asked = dana.post(&format!("/admin/keys/{id}/revoke"), &[("csrf", &csrf)]).await;
    assert!(asked.body.contains("Revoke") && asked.body.contains("fail from now on"));
    assert_eq!(call(&first).await, 200, "asking ends nothing");
    dana.post(&format!("/admin/keys/{id}/revoke"), &[("csrf", &csrf), ("sure", "1")]).await;
    assert_eq!((call(&first).await, call(&second).await), (401, 200));
    let again = dana.post(&format!("/admin/keys/{id}/rotate"), &[("csrf", &csrf)]).await;
    assert_eq!(again.status, StatusCode::UNPROCESSABLE_ENTITY);

    let mut eli = signed_in(&host, "eli", "operator").await;
    let theirs = eli.get("/admin/keys").await.body;
    assert!(theirs.contains("cmp_") && !theirs.contains("/revoke") && !theirs.contains("Make key"));
}

#[tokio::test]
async fn what_used_a_key_is_told_before_it_ends_and_odd_use_is_flagged() {
    let mut host = TestHost::start().await;
    let mut dana = signed_in(&host, "dana", "owner").await;
    let csrf = dana.token().await;
    let body = json!({"name": "checkout", "scopes": ["send"]});
    let made = host.api().post("/api/v1/keys", &body).await.expect(201);
    let (id, secret) = (made["key_id"].as_str().unwrap().to_owned(), made["key"].as_str().unwrap().to_owned());
    let api = host.api().with_key(&secret);
    for _ in 0..3 {
        api.send(&json!({"user_id": "ada", "title": "T"})).await.expect(202);
    }
    // A scope that it lacks, again and again; and its id with a secret that somebody made up.
    for _ in 0..15 {
        api.get("/api/v1/notifications").await.problem(403);
    }
    let guessed = host.api().with_key(&format!("{}_{}", &secret[..36], "A".repeat(43)));
    for _ in 0..6 {
        guessed.get("/api/v1/notifications").await.problem(401);
    }
    let idle = host.api().post("/api/v1/keys", &json!({"name": "idle", "scopes": ["read"]})).await.expect(201);
    // Written down once a minute, and when the host stops.
    host.stop().await;
    host.launch().await;
    dana.base = host.url("");

    let list = dana.get("/admin/keys").await.body;
    let row = list.split(&format!("<tr id=\"k-{id}\"")).nth(1).unwrap().split("</tr>").next().unwrap();
    assert!(row.contains("Looks leaked") && row.contains("21 answers of 401 or 403 within an hour"), "{row}");
    assert!(list.contains("<code>POST /api/v1/notifications</code><span class=\"n\">3</span>"), "by route: {list}");
    assert!(list.contains("<code>127.0.0.1</code><span class=\"n\">18</span>"), "by address");
    let other = list.split(&format!("<tr id=\"k-{}\"", idle["key_id"].as_str().unwrap())).nth(1).unwrap();
    assert!(!other.split("</tr>").next().unwrap().contains("Looks leaked"));
    let asked = dana.post(&format!("/admin/keys/{id}/revoke"), &[("csrf", &csrf)]).await.body;
    assert!(
        asked.contains("it was used 18 times: GET /api/v1/notifications 15, POST /api/v1/notifications 3"),
        "{asked}"
    );
    assert!(asked.contains("from 127.0.0.1 18"), "{asked}");
}

#[tokio::test]
async fn a_rotated_key_works_to_the_end_of_its_window_and_no_longer() {
    let host = TestHost::start().await;
    let mut dana = signed_in(&host, "dana", "owner").await;
    let csrf = dana.token().await;
    let body = json!({"name": "checkout", "scopes": ["read"], "networks": ["127.0.0.0/8", "::1"]});
    let made = host.api().post("/api/v1/keys", &body).await.expect(201);
    let (id, first) = (made["key_id"].as_str().unwrap().to_owned(), made["key"].as_str().unwrap().to_owned());
    let path = format!("/admin/keys/{id}/rotate");
    let strange = dana.post(&path, &[("csrf", &csrf), ("overlap", "99999")]).await;
    assert_eq!(strange.status, StatusCode::UNPROCESSABLE_ENTITY);
    let rotated = dana.post(&path, &[("csrf", &csrf), ("overlap", "72")]).await;
    assert_eq!(rotated.status, StatusCode::CREATED, "{}", rotated.body);
    let second = shown_once(&rotated.body, "made");
    let call = async |key: &str| host.api().with_key(key).get("/api/v1/notifications").await.status;
    assert_eq!((call(&first).await, call(&second).await), (200, 200));
    let entry = &audited(&host, "key.rotate").await[0];
    let ends: String = entry["detail"]["ends_at"].as_str().unwrap().to_owned();
    let keys = host.api().get("/api/v1/keys").await.expect(200);
    let row = |id: &str| keys["items"].as_array().unwrap().iter().find(|k| k["key_id"] == *id).unwrap().clone();
    assert_eq!(row(&id)["expires_at"], *ends, "as the log says");
    let successor = row(entry["detail"]["successor"].as_str().unwrap());
    assert_eq!((&successor["name"], &successor["networks"]), (&json!("checkout"), &body["networks"]));

    // By API and by hand the window may be anything; an end never moves away.
    let path = format!("/api/v1/keys/{id}/rotate");
    host.api().post(&path, &json!({"overlap_s": 2_592_001})).await.problem(422);
    let sender = host.api().post("/api/v1/keys", &json!({"name": "m", "scopes": ["manage"]})).await.expect(201);
    let manager = host.api().with_key(sender["key"].as_str().unwrap());
    manager.post(&path, &json!({})).await.problem(403);
    let again = host.api().post(&path, &json!({"overlap_s": 1})).await.expect(201);
    assert_eq!((&again["rotated"], &again["scopes"]), (&json!(id), &json!(["read"])));
    assert!(again["rotated_ends_at"].as_str().unwrap() < ends.as_str());
    until("its window has ended", || async { (call(&first).await == 401).then_some(()) }).await;
    assert_eq!((call(&second).await, call(again["key"].as_str().unwrap()).await), (200, 200));
    host.api().post(&path, &json!({})).await.problem(404);
    assert!(dana.get("/admin/keys").await.body.contains("Expired"));
}

#[tokio::test]
async fn a_person_is_looked_up_helped_and_erased() {
    let host = TestHost::start().await;
    let api = host.api();
    let person = "mia/\u{1f514}";
    let at = "/admin/users/mia%2F%F0%9F%94%94";
    let body = json!({"email": "mia@northwind.example", "locale": "de-DE", "timezone": "Europe/Berlin"});
    api.put("/api/v1/users/mia%2F%F0%9F%94%94", &body).await.expect(200);
    api.put("/api/v1/users/milo", &json!({})).await.expect(200);
    api.notify(person, EVIL).await;
    api.post(
        "/api/v1/suppressions",
        &json!({"channel": "email", "address": "mia@northwind.example", "reason": "bounced"}),
    )
    .await
    .expect(201);

    let mut sam = signed_in(&host, "sam", "support").await;
    let mut dana = signed_in(&host, "dana", "owner").await;
    let csrf = dana.token().await;
    let found = dana.get("/admin/users?q=mia").await.body;
    assert!(found.contains(at) && !found.contains("milo") && found.contains("m•••@northwind.example"));
    assert!(dana.get("/admin/users?q=MIA@northwind.example").await.body.contains(at));
    assert!(dana.get("/admin/users?q=nobody").await.body.contains("Nobody fits"));
    assert_eq!(dana.get("/admin/users/nobody").await.status, StatusCode::NOT_FOUND);

    let page = dana.get(at).await.body;
    assert!(page.contains("Suppressed: bounced") && page.contains("&#60;img") && !page.contains("<img"));
    assert!(!page.contains("mia@northwind.example"), "masked until somebody asks");
    let theirs = sam.get(at).await.body;
    assert!(theirs.contains("hidden from your role") && !theirs.contains("onerror"), "support reads no messages");
    assert!(!theirs.contains("method=\"post\" action=\"/admin/users"));

    let revealed = dana.post(&format!("{at}/reveal"), &[("csrf", &csrf)]).await.body;
    assert!(revealed.contains("mia@northwind.example") && revealed.contains("Contact points"));
    assert_eq!(audited(&host, "user.reveal").await[0]["target"], person);
    let wrong = dana.post(&format!("{at}/edit"), &[("csrf", &csrf), ("email", "no address"), ("locale", EVIL)]).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(wrong.body.contains("email:") && wrong.body.contains("no address") && !wrong.body.contains("<img"));
    let saved =
        dana.post(&format!("{at}/edit"), &[("csrf", &csrf), ("email", "mia@new.example"), ("locale", "fr")]).await;
    assert_eq!(saved.status, StatusCode::SEE_OTHER, "{}", saved.body);
    let stored = api.get("/api/v1/users/mia%2F%F0%9F%94%94").await.expect(200);
    assert_eq!((&stored["email"], &stored["locale"]), (&json!("mia@new.example"), &json!("fr")));
    let back = [("csrf", csrf.as_str()), ("email", "mia@northwind.example")];
    dana.post(&format!("{at}/edit"), &back).await;

    let page = dana.get(at).await.body;
    let held = page.split("name=\"id\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    dana.post(&format!("{at}/lift"), &[("csrf", &csrf), ("id", &held)]).await;
    assert!(!dana.get(at).await.body.contains("Suppressed"));

    let minted = dana.post(&format!("{at}/token"), &[("csrf", &csrf)]).await.body;
    let token = shown_once(&minted, "token");
    assert_eq!(api.with_key(&token).get("/api/v1/me/unread_count").await.expect(200)["count"], 1);
    assert!(!host.output().contains(&token));

    let sent = dana.post(&format!("{at}/test"), &[("csrf", &csrf), ("title", "Ping"), ("channels", "websocket")]).await;
    assert_eq!(sent.status, StatusCode::SEE_OTHER, "{}", sent.body);
    assert_eq!(api.with_key(&token).get("/api/v1/me/unread_count").await.expect(200)["count"], 2);
    let export = dana.post(&format!("{at}/export"), &[("csrf", &csrf)]).await;
    let export: Value = serde_json::from_str(&export.body).expect("JSON");
    assert_eq!((export["user_id"].as_str(), export["notifications"].as_array().unwrap().len()), (Some(person), 2));
    assert_eq!(export["contact"]["email"], "mia@northwind.example");

    dana.post(&format!("{at}/disable"), &[("csrf", &csrf)]).await;
    assert!(dana.get(at).await.body.contains("Disabled"));
    dana.post(&format!("{at}/enable"), &[("csrf", &csrf)]).await;

    let unsure = dana.post(&format!("{at}/erase"), &[("csrf", &csrf), ("word", "mia")]).await;
    assert_eq!(unsure.status, StatusCode::UNPROCESSABLE_ENTITY);
    let erased = dana.post(&format!("{at}/erase"), &[("csrf", &csrf), ("word", person)]).await;
    assert_eq!(erased.location.as_deref(), Some("/admin/users"), "{}", erased.body);
    assert!(dana.get("/admin/users").await.body.contains("2 feed items removed"), "what went is told");
    assert_eq!(api.get("/api/v1/users/mia%2F%F0%9F%94%94").await.status, 404);
    let log = api.get("/api/v1/audit?limit=100").await;
    assert!(!log.text.contains(&token), "no secret in the log");
    let of_users =
        log.json["items"].as_array().unwrap().iter().filter(|r| r["action"].as_str().unwrap().starts_with("user."));
    let of_users: Vec<_> = of_users.map(ToString::to_string).collect();
    assert!(
        of_users.len() >= 8 && of_users.iter().all(|r| !r.contains("northwind")),
        "and no address: it outlives an erasure"
    );
}

#[tokio::test]
async fn an_owner_merges_two_users_after_being_asked() {
    let host = TestHost::start().await;
    let api = host.api();
    api.put("/api/v1/users/mia", &json!({"email": "mia@northwind.example"})).await.expect(200);
    api.notify(EVIL, "before the sign-in").await;
    let mut dana = signed_in(&host, "dana", "owner").await;
    let mut eli = signed_in(&host, "eli", "operator").await;
    let at = "/admin/users/mia/merge";
    assert!(dana.get("/admin/users/mia").await.body.contains(at));
    assert!(!eli.get("/admin/users/mia").await.body.contains(at), "who may not erase finds no form");
    let theirs = eli.token().await;
    let refused = eli.post(at, &[("csrf", &theirs), ("from", EVIL), ("sure", "1")]).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);

    let csrf = dana.token().await;
    for wrong in ["", "mia"] {
        let refused = dana.post(at, &[("csrf", &csrf), ("from", wrong), ("sure", "1")]).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{wrong:?}");
    }
    // As it goes without scripts: a page that says what will be, with the same form and a yes.
    let asked = dana.post(at, &[("csrf", &csrf), ("from", EVIL)]).await;
    assert_eq!(asked.status, StatusCode::OK);
    assert!(asked.body.contains("nothing takes it back") && asked.body.contains("name=\"sure\""), "{}", asked.body);
    assert!(!asked.body.contains("<img"));
    assert!(host.me("mia").feed().await.is_empty(), "nothing was done yet");
    let merged = dana.post(at, &[("csrf", &csrf), ("from", EVIL), ("sure", "1")]).await;
    assert_eq!(merged.location.as_deref(), Some("/admin/users/mia"), "{}", merged.body);
    let page = dana.get("/admin/users/mia").await.body;
    assert!(page.contains("1 delivery and 1 feed item moved") && !page.contains("<img"), "what was done is told");
    assert_eq!(host.me("mia").feed().await.len(), 1);
    let row = &audited(&host, "user.merge").await[0];
    assert_eq!((row["target"].as_str(), row["actor"].as_str()), (Some("mia"), Some("admin:dana")));
    assert!(!row.to_string().contains("northwind"), "no address");
    let none = dana.post("/admin/users/nobody/merge", &[("csrf", &csrf), ("from", "noone"), ("sure", "1")]).await;
    assert_eq!(none.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn members_come_by_a_link_and_the_last_owner_stays() {
    let host = TestHost::start().await;
    let mut dana = signed_in(&host, "dana", "owner").await;
    let csrf = dana.token().await;
    let members = "/admin/settings/members";
    let wrong = dana.post(members, &[("csrf", &csrf), ("name", "a:b"), ("role", "viewer")]).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    let made = dana.post(members, &[("csrf", &csrf), ("name", EVIL), ("role", "viewer")]).await;
    assert!(made.status == StatusCode::CREATED && !made.body.contains("<img"), "{}", made.body);
    let link = shown_once(&made.body, "link").replace("&#38;", "&");
    let once = link.split("once=").nth(1).unwrap();
    let mut eli = Browser::new(&host);
    eli.post("/admin/welcome", &[("once", once), ("password", PASSWORD), ("again", PASSWORD)]).await;
    assert_eq!(eli.get("/admin").await.status, StatusCode::OK);
    let seen = eli.get("/admin/settings?tab=members").await.body;
    assert!(seen.contains("dana") && !seen.contains("action=\"/admin/settings/members"), "a viewer changes nobody");

    let page = dana.get("/admin/settings?tab=members").await.body;
    let ids: Vec<_> = page
        .split(&format!("{members}/"))
        .skip(1)
        .filter_map(|p| p.split_once("/role").map(|(id, _)| id.to_owned()))
        .filter(|id| id.len() == 36)
        .collect();
    assert_eq!(ids.len(), 2, "{page}");
    let admins = host.api().get("/api/v1/admins").await.expect(200);
    let dana_first = admins["items"][0]["name"] == "dana";
    let (me, them) = if dana_first { (&ids[0], &ids[1]) } else { (&ids[1], &ids[0]) };
    let last = dana.post(&format!("{members}/{me}/disable"), &[("csrf", &csrf)]).await;
    assert!(last.status == StatusCode::CONFLICT && last.body.contains("last owner"), "{}", last.body);
    let raised = dana.post(&format!("{members}/{them}/role"), &[("csrf", &csrf), ("role", "operator")]).await;
    assert_eq!(raised.status, StatusCode::SEE_OTHER);
    assert_eq!(eli.get("/admin").await.status, StatusCode::SEE_OTHER, "another role begins with a new session");
    dana.post(&format!("{members}/{them}/disable"), &[("csrf", &csrf)]).await;
    let denied = eli.post("/admin/sign-in", &[("name", EVIL), ("password", PASSWORD)]).await;
    assert_eq!(denied.status, StatusCode::UNAUTHORIZED);
    assert!(!audited(&host, "admin.change").await.is_empty());
}

#[tokio::test]
async fn a_new_password_ends_every_other_session_and_renews_this_one() {
    let host = TestHost::start().await;
    let mut here = signed_in(&host, "dana", "viewer").await;
    let mut there = Browser::new(&host);
    there.post("/admin/sign-in", &[("name", "dana"), ("password", PASSWORD)]).await;
    assert_eq!(there.get("/admin").await.status, StatusCode::OK);
    let before = here.cookie.clone().unwrap();
    let csrf = here.token().await;
    let new = "another sentence";
    let form = |present: &'static str, again: &'static str| {
        [("csrf", csrf.clone()), ("present", present.into()), ("password", new.into()), ("again", again.into())]
    };
    let pairs = |f: &[(&'static str, String); 4]| f.clone();
    for (present, again, status) in
        [("wrong", new, StatusCode::FORBIDDEN), (PASSWORD, "x", StatusCode::UNPROCESSABLE_ENTITY)]
    {
        let f = pairs(&form(present, again));
        let f: Vec<_> = f.iter().map(|(k, v)| (*k, v.as_str())).collect();
        assert_eq!(here.post("/admin/settings/password", &f).await.status, status);
    }
    let f = pairs(&form(PASSWORD, new));
    let f: Vec<_> = f.iter().map(|(k, v)| (*k, v.as_str())).collect();
    let changed = here.post("/admin/settings/password", &f).await;
    assert_eq!(changed.status, StatusCode::SEE_OTHER, "{}", changed.body);
    assert_eq!(here.get("/admin").await.status, StatusCode::OK, "this browser goes on");
    let session = |c: &str| c.split("; ").find(|c| c.starts_with("campanile=")).map(str::to_owned);
    assert_ne!(session(&before), session(here.cookie.as_deref().unwrap()), "under a new id");
    let mut stolen = Browser { cookie: Some(before), ..Browser::new(&host) };
    assert_eq!(stolen.get("/admin").await.status, StatusCode::SEE_OTHER, "the old id is dead");
    assert_eq!(there.get("/admin").await.status, StatusCode::SEE_OTHER);
    let old = there.post("/admin/sign-in", &[("name", "dana"), ("password", PASSWORD)]).await;
    assert_eq!(old.status, StatusCode::UNAUTHORIZED);
    assert!(!host.output().contains(new));
}
