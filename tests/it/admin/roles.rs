//! Every route of the console, as the product lists them, times every role, times who may not.

use super::browser::{Browser, FORM, encoded, signed_in};
use campanile_tests::TestHost;
use reqwest::header;
use serde_json::{Value, json};
use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use std::collections::BTreeMap;

/// Least first, as the product orders them.
const ROLES: [&str; 4] = ["support", "viewer", "operator", "owner"];

struct Route {
    method: String,
    path: String,
    needs: String,
}

impl Route {
    fn is_way_in(&self) -> bool {
        self.needs == "anyone"
    }
    fn is_for(&self, role: &str) -> bool {
        let rank = |r: &str| ROLES.iter().position(|known| *known == r).unwrap_or_else(|| panic!("no role {r}"));
        self.is_way_in() || rank(role) >= rank(&self.needs)
    }
    /// Each part of the path that stands for something stands for what does not exist.
    fn url(&self) -> String {
        let parts = self.path.split('/').map(|part| if part.starts_with('{') { "nothing" } else { part });
        parts.collect::<Vec<_>>().join("/")
    }
}

/// The list that the router is built from.
async fn routes(host: &TestHost) -> Vec<Route> {
    let mut command = host.command();
    command.args(["admin", "roles", "--json"]);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let all: Vec<Value> = serde_json::from_slice(&output.stdout).expect("the list is JSON");
    let text = |v: &Value| v.as_str().unwrap().to_owned();
    all.iter().map(|v| Route { method: text(&v["method"]), path: text(&v["path"]), needs: text(&v["who"]) }).collect()
}

/// How a request comes.
#[derive(Clone, Copy, PartialEq, Debug)]
enum From {
    OurPage,
    AnotherOrigin,
    AnotherSite,
}

struct Seen {
    status: u16,
    location: String,
    headers: BTreeMap<String, String>,
}

/// The head of the answer: some of them are streams.
async fn ask(browser: &Browser, route: &Route, from: From, token: Option<&str>) -> Seen {
    let url = format!("{}{}", browser.base, route.url());
    let mut request = match route.method.as_str() {
        "GET" => browser.http.get(url),
        _ => browser.http.post(url).header(header::CONTENT_TYPE, FORM),
    };
    request = match from {
        From::OurPage => request.header(header::ORIGIN, &browser.base).header("sec-fetch-site", "same-origin"),
        From::AnotherOrigin => request.header(header::ORIGIN, "https://evil.example"),
        From::AnotherSite => request.header("sec-fetch-site", "cross-site"),
    };
    if let Some(cookie) = &browser.cookie {
        request = request.header(header::COOKIE, cookie);
    }
    if route.method != "GET" {
        request = request.body(token.map_or_else(String::new, |t| encoded(&[("csrf", t)])));
    }
    let answer = request.send().await.unwrap();
    let headers: BTreeMap<_, _> =
        answer.headers().iter().map(|(k, v)| (k.to_string(), v.to_str().unwrap_or_default().to_owned())).collect();
    let location = headers.get("location").cloned().unwrap_or_default();
    Seen { status: answer.status().as_u16(), location, headers }
}

fn sent_away(seen: &Seen) -> bool {
    seen.status == 401 || (seen.status == 303 && seen.location.starts_with("/admin/sign-in"))
}

#[tokio::test]
async fn every_route_asks_for_its_role_its_token_and_its_own_origin() {
    let host = TestHost::start().await;
    let mut routes = routes(&host).await;
    assert!(routes.len() > 8, "the list is whole");
    // It ends the session it is asked with.
    routes.sort_by_key(|r| r.path == "/admin/sign-out");

    let mut people = Vec::new();
    for role in ROLES {
        let mut browser = signed_in(&host, role, role).await;
        let token = browser.token().await;
        people.push((role, browser, token));
    }
    let (_, _, owners_token) = &people[3];
    for (role, browser, token) in &people {
        for route in &routes {
            let what = format!("{} {} as {role}", route.method, route.path);
            let post = route.method == "POST";
            if post && !route.is_way_in() {
                let stolen = if *role == "owner" { "made up" } else { owners_token };
                for (from, token) in [
                    (From::AnotherOrigin, Some(token.as_str())),
                    (From::AnotherSite, Some(token)),
                    (From::OurPage, None),
                    (From::OurPage, Some(stolen)),
                ] {
                    let seen = ask(browser, route, from, token).await;
                    assert_eq!(seen.status, 403, "{what}, {from:?}, token {token:?}");
                }
            }
            let seen = ask(browser, route, From::OurPage, Some(token)).await;
            if route.is_for(role) {
                assert!(seen.status != 403 && seen.status < 500, "{what}: {}", seen.status);
                let signs_out = route.path == "/admin/sign-out";
                assert!(signs_out || route.is_way_in() || !sent_away(&seen), "{what}: {}", seen.status);
            } else {
                assert_eq!(seen.status, 403, "{what}");
            }
        }
    }

    // Signed out, never signed in, and an account that was disabled while it was signed in.
    let nonsense = Browser { cookie: Some(format!("campanile={}", "A".repeat(43))), ..Browser::new(&host) };
    for (who, browser) in [("signed out", &people[3].1), ("nobody", &Browser::new(&host)), ("nonsense", &nonsense)] {
        for route in &routes {
            let what = format!("{} {}, {who}", route.method, route.path);
            let seen = ask(browser, route, From::OurPage, Some(owners_token)).await;
            assert!(if route.is_way_in() { seen.status < 500 } else { sent_away(&seen) }, "{what}: {}", seen.status);
            if route.method == "POST" {
                for from in [From::AnotherOrigin, From::AnotherSite] {
                    assert_eq!(ask(browser, route, from, Some(owners_token)).await.status, 403, "{what}, {from:?}");
                }
            }
        }
    }

    let refused = host.api().get("/api/v1/audit?action=console.refused&limit=100&actor=admin:viewer").await.expect(200);
    let refused = refused["items"].as_array().unwrap();
    let reasons = ["missing_role", "cross_site", "stale_form"];
    assert!(reasons.iter().all(|why| refused.iter().any(|r| r["detail"]["why"] == *why)), "refusals are written down");
    let chain = host.api().get("/api/v1/audit/chain").await.expect(200);
    assert_eq!((&chain["broken_at"], &chain["complete"]), (&Value::Null, &Value::Bool(true)));
    assert!(chain["entries"].as_u64().unwrap() > 10);
}

#[tokio::test]
async fn every_answer_of_the_console_is_closed_to_framing_sniffing_and_caches() {
    let host = TestHost::builder().text("server.public_url", "https://notify.example.org").start().await;
    let mut owner = signed_in(&host, "dana", "owner").await;
    let token = owner.token().await;
    for route in routes(&host).await.iter().filter(|r| r.path != "/admin/sign-out") {
        let seen = ask(&owner, route, From::OurPage, Some(&token)).await;
        let header = |name: &str| seen.headers.get(name).map_or("", String::as_str);
        let what = format!("{} {}", route.method, route.path);
        assert!(header("content-security-policy").contains("frame-ancestors"), "{what}");
        assert_eq!(header("x-content-type-options"), "nosniff", "{what}");
        assert_eq!(header("cache-control"), "no-store", "{what}");
        assert!(matches!(header("referrer-policy"), "same-origin" | "no-referrer"), "{what}");
        assert_eq!(header("cross-origin-opener-policy"), "same-origin", "{what}");
        assert_eq!(header("strict-transport-security"), "", "plain http: {what}");
    }
    // As a proxy that ends TLS hands it on.
    let https = owner.http.get(format!("{}/admin/sign-in", owner.base)).header(header::HOST, "notify.example.org");
    let answer = https.send().await.unwrap();
    assert!(answer.headers()["strict-transport-security"].to_str().unwrap().starts_with("max-age="));
}

#[tokio::test]
async fn a_changed_entry_of_the_audit_log_is_found_out() {
    let mut host = TestHost::builder().embedded().start().await;
    let chain = host.api().get("/api/v1/audit/chain").await.expect(200);
    assert_eq!(chain["verified_up_to"], 1, "the install itself is the first entry");
    for _ in 0..3 {
        host.api().post("/api/v1/channels/email/pause", &json!({})).await.expect(200);
        host.api().post("/api/v1/channels/email/resume", &json!({})).await.expect(200);
    }
    host.stop().await;
    let doctor = |host: &TestHost| {
        let mut command = host.command();
        command.args(["doctor", "--json"]).env("CAMPANILE_SERVER__DATA_DIR", host.data_dir());
        command.env("CAMPANILE_SERVER__LISTEN", "127.0.0.1:0");
        let all: Vec<Value> = serde_json::from_slice(&command.output().unwrap().stdout).unwrap();
        all.into_iter().find(|f| f["what"] == "audit log").expect("a finding about the audit log")
    };
    assert_eq!(doctor(&host)["verdict"], "good");
    let file = SqliteConnectOptions::new().filename(host.data_dir().join("campanile.db"));
    let mut db = SqliteConnection::connect_with(&file).await.unwrap();
    sqlx::query("UPDATE audit SET actor = 'somebody else' WHERE id = 3").execute(&mut db).await.unwrap();
    db.close().await.unwrap();
    let found = doctor(&host);
    assert_eq!(found["verdict"], "wrong");
    assert!(found["text"].as_str().unwrap().contains("entry 3"), "{found}");
    host.restart().await;
    assert_eq!(host.api().get("/api/v1/audit/chain").await.expect(200)["broken_at"], 3);
}
