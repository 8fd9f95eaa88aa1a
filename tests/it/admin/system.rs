//! The audit log's page and file, the configuration with its sources, looks, the development switches.

use super::browser::signed_in;
use campanile_tests::prelude::*;
use reqwest::StatusCode;

#[tokio::test]
async fn the_audit_log_is_filtered_by_its_address_and_taken_away_as_lines() {
    let host = TestHost::start().await;
    let mut dana = signed_in(&host, "dana", "owner").await;
    let csrf = dana.token().await;
    dana.post("/admin/keys", &[("csrf", &csrf), ("name", "<img src=x>"), ("scopes", "send")]).await;
    dana.post("/admin/channels/websocket/pause", &[("csrf", &csrf), ("reason", "a <b>reason</b>")]).await;
    dana.post("/admin/channels/websocket/resume", &[("csrf", &csrf)]).await;

    let page = dana.get("/admin/audit").await.body;
    assert!(page.contains("Verified up to entry") && page.contains("key.create") && !page.contains("<img"));
    assert!(page.contains("&#60;b&#62;reason"), "what people wrote is text");
    let only = dana.get("/admin/audit?action=channel.pause&actor=admin:dana").await.body;
    assert!(only.contains("channel.pause") && !only.contains(">key.create<"));
    assert!(only.contains("Without action: channel.pause"));
    assert!(dana.get("/admin/audit?target=nothing").await.body.contains("No entry fits"));
    let file = dana.get("/admin/audit/export?actor=admin:dana").await;
    let lines: Vec<Value> = file.body.lines().map(|l| serde_json::from_str(l).expect("an object a line")).collect();
    assert!(lines.len() >= 4 && lines.iter().all(|l| l["actor"] == "admin:dana"), "{}", file.body);
    assert!(lines.windows(2).all(|w| w[0]["id"].as_i64() > w[1]["id"].as_i64()), "newest first");
    let first = host.api().get("/api/v1/audit?action=install").await.expect(200);
    assert_eq!(first["items"][0]["id"], 1, "the install is the first entry");

    // The stream tells of what came after the page.
    let top = lines[0]["id"].as_i64().unwrap();
    host.api().post("/api/v1/channels/email/pause", &json!({})).await.expect(200);
    let request = dana.http.get(format!("{}/admin/live?page=audit&top={top}", dana.base));
    let mut stream = request.header("cookie", dana.cookie.clone().unwrap()).send().await.unwrap();
    let mut text = String::new();
    while !text.contains(" new</a>") {
        text.push_str(&String::from_utf8_lossy(&stream.chunk().await.unwrap().unwrap()));
    }
}

#[tokio::test]
async fn the_audit_log_is_narrowed_by_place_request_source_and_time() {
    let host = TestHost::start().await;
    let mut dana = signed_in(&host, "dana", "owner").await;
    let csrf = dana.token().await;
    let made = host.api().post("/api/v1/keys", &json!({"name": "k", "scopes": ["read"]})).await.expect(201);
    let key = made["key_id"].as_str().unwrap().to_owned();
    dana.post("/admin/channels/email/pause", &[("csrf", &csrf), ("reason", "<img src=x>")]).await;
    let networks = json!({"networks": ["127.0.0.0/8"]});
    host.api().put(&format!("/api/v1/keys/{key}/networks"), &networks).await.expect(200);
    let entry = host.api().get("/api/v1/audit?action=key.restrict").await.expect(200)["items"][0].clone();
    let (request, at) = (entry["request_id"].as_str().unwrap(), entry["at"].as_str().unwrap());

    // The form asks for one address without what was left empty.
    let asked = dana.get("/admin/audit?f=1&actor=&source=api&action=&since=24h&until=&address=127.0.0.1").await;
    assert_eq!(asked.location.as_deref(), Some("/admin/audit?source=api&address=127.0.0.1&since=24h"));
    let page = dana.get(&asked.location.unwrap()).await.body;
    assert!(page.contains(">key.restrict<") && !page.contains(">channel.pause<"));
    for chip in ["Without by: API", "Without from: 127.0.0.1", "Without since: 24h"] {
        assert!(page.contains(chip), "{chip}");
    }
    assert!(page.contains("<del>nothing</del>") && page.contains("<ins>127.0.0.0/8</ins>"), "what it was, what it is");
    assert!(page.contains(&format!("href=\"/admin/keys#k-{key}\"")), "its target leads to its page");
    let shown = dana.get("/admin/audit?actor=dana&source=web").await.body;
    assert!(shown.contains(">channel.pause<") && !shown.contains(">key.create<"), "a short name will do");
    let one = dana.get(&format!("/admin/audit?request={request}")).await.body;
    assert!(one.contains(">key.restrict<") && !one.contains(">key.create<"));
    assert!(dana.get("/admin/audit?address=203.0.113.7").await.body.contains("No entry fits"));
    let until = at.replace(':', "%3A");
    assert!(!dana.get(&format!("/admin/audit?until={until}")).await.body.contains(">key.restrict<"));
    let wrong = dana.get("/admin/audit?until=%3Cimg%20src%3Dx%3E").await.body;
    assert!(wrong.contains("is no time") && !wrong.contains("<img"), "said, and text");

    // The file and the API narrow alike.
    let file = dana.get(&format!("/admin/audit/export?source=api&until={until}")).await;
    let lines: Vec<Value> = file.body.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert!(lines.iter().any(|l| l["action"] == "key.create"), "{}", file.body);
    assert!(lines.iter().all(|l| l["action"] != "key.restrict" && l["actor"] == "operator"), "{}", file.body);
    let found = async |query: String| {
        let body = host.api().get(&format!("/api/v1/audit?limit=100&{query}")).await.expect(200);
        let all = body["items"].as_array().unwrap().iter().map(|e| e["action"].as_str().unwrap().to_owned());
        all.collect::<Vec<_>>()
    };
    assert_eq!(found(format!("request_id={request}")).await, ["key.restrict"]);
    assert!(!found(format!("until={until}&address=127.0.0.1")).await.contains(&"key.restrict".to_owned()));
    let system = found("source=system".into()).await;
    assert!(system.contains(&"install".to_owned()) && !system.contains(&"key.create".to_owned()), "{system:?}");
    host.api().get("/api/v1/audit?source=moon").await.problem(422);
}

#[tokio::test]
async fn settings_show_where_values_come_from_and_no_secret() {
    let secret = "a-secret-that-must-not-show-0123456789";
    let host =
        TestHost::builder().text("auth.jwt_secret", secret).env("CAMPANILE_WEBSOCKET__PER_USER", "7").start().await;
    let mut dana = signed_in(&host, "dana", "owner").await;
    let csrf = dana.token().await;
    let page = dana.get("/admin/settings").await.body;
    assert!(page.contains("the environment, CAMPANILE_WEBSOCKET__PER_USER") && page.contains("(secret)"));
    assert!(page.contains("heartbeat") && page.contains(">default<"));
    let set = dana.get("/admin/settings?set=1").await.body;
    assert!(set.contains("per_user") && !set.contains(">default<"));
    let nodes = dana.get("/admin/settings?tab=nodes").await.body;
    assert!(nodes.contains("draws this page") && nodes.contains("Version"));
    let bundle = dana.post("/admin/settings/bundle", &[("csrf", &csrf)]).await;
    let bundle_json: Value = serde_json::from_str(&bundle.body).expect("JSON");
    assert_eq!(bundle_json["configuration"]["websocket.per_user"]["value"], "\"7\"", "as the environment said it");
    for body in [&page, &set, &nodes, &bundle.body] {
        assert!(!body.contains(secret));
    }
    assert!(dana.get("/admin/settings?tab=nonsense").await.body.contains("In force on this node"));

    let looks = [("csrf", csrf.as_str()), ("theme", "dark"), ("compact", "1"), ("utc", "1")];
    assert_eq!(dana.post("/admin/settings/looks", &looks).await.status, StatusCode::SEE_OTHER);
    let page = dana.get("/admin").await.body;
    for wanted in ["data-theme=\"dark\"", "data-rows=\"compact\"", "data-times=\"utc\"", "data-keys=\"off\""] {
        assert!(page.contains(wanted), "{wanted}");
    }

    let mut command = host.command();
    command.args(["config", "show", "--sources"]).env("CAMPANILE_WEBSOCKET__PER_USER", "7");
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("# the environment, CAMPANILE_WEBSOCKET__PER_USER") && !said.contains(secret), "{said}");
}

#[tokio::test]
async fn development_pages_exist_only_in_development() {
    let host = TestHost::start().await;
    for path in ["/dev", "/dev/mail", "/dev/mail/live", "/dev/hooks", "/dev/hooks/live", "/dev/hook/x", "/demo"] {
        assert_eq!(host.api().anonymous().get(path).await.status, 404, "{path}");
    }
    for path in ["/dev/provider", "/dev/sockets", "/demo/send", "/dev/hook/x", "/dev/hooks/answer", "/dev/hooks/clear"]
    {
        assert_eq!(host.api().anonymous().post(path, &json!({})).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn faults_on_purpose_fail_a_mail_and_mend_it() {
    let host = TestHost::builder()
        .dev()
        .set("retry.schedule", format!("[{}]", vec!["\"1s\""; 60].join(", ")))
        .set("retry.breaker_failures", "1000")
        .start()
        .await;
    let post = async |path: &str, body: &str| {
        let request = host.api().anonymous().request("POST", path);
        let form = request.header("content-type", "application/x-www-form-urlencoded").body(body.to_owned());
        host.api().run(form).await
    };
    assert_eq!(post("/dev/provider", "provider=on+fire").await.status, 422);
    post("/dev/provider", "provider=failing").await;
    let body = json!({"user_id": "ada", "title": "Hi", "channels": ["email"]});
    let id = host.api().accepted(&body).await;
    let failed = host.api().delivery_until(&id, "email", "retrying", |d| d["state"] == "retrying").await;
    assert_ne!(failed["state"], "sent");
    let page = host.api().anonymous().get("/dev").await.text;
    assert!(page.contains("value=\"failing\" checked"), "{page}");
    post("/dev/provider", "provider=well").await;
    host.api().state(&id, "email", "sent").await;

    let mut socket = Connect::to(&host).token(&token::user("ada")).v1().open().await;
    post("/dev/sockets", "").await;
    assert_eq!(socket.closed().await.code, 1012);
}

#[tokio::test]
async fn the_webhook_bin_keeps_what_comes_and_answers_as_told() {
    let host = TestHost::builder().dev().start().await;
    let api = host.api();
    let nobody = api.anonymous();
    let form = async |path: &str, body: &str| {
        let request = nobody.request("POST", path).header("content-type", "application/x-www-form-urlencoded");
        api.run(request.body(body.to_owned())).await
    };
    assert!(nobody.get("/dev/hooks").await.text.contains("Nothing was caught yet"));
    let sent = nobody.request("POST", "/dev/hook/orders/7?x=1").header("webhook-id", "<img src=x>");
    assert_eq!(api.run(sent.body(r#"{"order":7,"note":"<img src=x>"}"#.to_owned())).await.status, 200);
    let list = nobody.get("/dev/hooks").await.text;
    assert!(list.contains("POST orders/7?x=1") && list.contains("answered 200"), "{list}");
    let open = nobody.get("/dev/hooks/1").await.text;
    assert!(open.contains("webhook-id") && open.contains("&#34;order&#34;: 7") && !open.contains("<img"), "{open}");
    assert_eq!(nobody.get("/dev/hooks/9").await.status, 404);

    assert_eq!(form("/dev/hooks/answer", "answer=302").await.status, 422, "no redirects to try on others");
    form("/dev/hooks/answer", "answer=429").await;
    let refused = nobody.get("/dev/hook/again").await;
    assert_eq!((refused.status, refused.headers["retry-after"].to_str().unwrap()), (429, "5"));
    let large = nobody.request("POST", "/dev/hook/large").body("x".repeat(2 * 1024 * 1024));
    assert_eq!(api.run(large).await.status, 413);
    let stranger = nobody.request("GET", "/dev/hook/x").header("host", "rebound.example");
    assert_eq!(api.run(stranger).await.status, 403);
    form("/dev/hooks/clear", "").await;
    assert!(nobody.get("/dev/hooks").await.text.contains("Nothing was caught yet"));
}
