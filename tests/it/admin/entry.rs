//! The way in, forms that only our pages may post, who may act, the live stream.

use super::browser::{Answer, Browser, FORM, PASSWORD, encoded, signed_in};
use campanile_tests::{TestHost, wait::until};
use reqwest::{StatusCode, header};

#[tokio::test]
async fn the_way_in_is_a_link_then_a_password() {
    let host = TestHost::start().await;
    let mut stranger = Browser::new(&host);
    let away = stranger.get("/admin?range=6h").await;
    assert_eq!(away.status, StatusCode::SEE_OTHER);
    assert_eq!(away.location.as_deref(), Some("/admin/sign-in?back=%2Fadmin%3Frange%3D6h"));

    let mut dana = signed_in(&host, "dana", "owner").await;
    let page = dana.get("/admin").await;
    assert!(page.body.contains("Live connections") && page.policy.contains("default-src 'none'"));

    // The same link again, and a link nobody made.
    let used = stranger.post("/admin/welcome", &[("once", "x"), ("password", PASSWORD), ("again", PASSWORD)]).await;
    assert_eq!((used.status, used.cookie), (StatusCode::UNPROCESSABLE_ENTITY, None));

    let wrong = stranger.post("/admin/sign-in", &[("name", "dana"), ("password", "a sentence is fin")]).await;
    assert_eq!((wrong.status, wrong.cookie.is_none()), (StatusCode::UNAUTHORIZED, true));
    let nobody = stranger.post("/admin/sign-in", &[("name", "nobody"), ("password", "a sentence is fin")]).await;
    let plain = |a: &Answer, name: &str| a.body.replace(name, "");
    assert_eq!(plain(&wrong, "dana"), plain(&nobody, "nobody"), "who exists is not told");

    let right =
        stranger.post("/admin/sign-in", &[("name", "DANA"), ("password", PASSWORD), ("back", "//evil.example/")]).await;
    assert_eq!(right.location.as_deref(), Some("/admin"), "never away from here");
    let cookie = right.cookie.unwrap();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax"), "{cookie}");
    assert!(!host.output().contains(PASSWORD));
    assert!(!host.output().contains(cookie.split(['=', ';']).nth(1).unwrap()), "no session in a log");
}

#[tokio::test]
async fn only_a_page_of_ours_may_act_and_only_an_operator() {
    let host = TestHost::start().await;
    let mut dana = signed_in(&host, "dana", "operator").await;
    let token = dana.token().await;
    let pause = "/admin/channels/websocket/pause";

    let stale = dana.post(pause, &[("csrf", "made up")]).await;
    assert_eq!(stale.status, StatusCode::FORBIDDEN);
    for (name, value) in [("origin", "https://evil.example"), ("sec-fetch-site", "cross-site")] {
        let request = dana
            .http
            .post(format!("{}{pause}", dana.base))
            .header(name, value)
            .header(header::CONTENT_TYPE, FORM)
            .body(encoded(&[("csrf", &token)]));
        assert_eq!(dana.send(request).await.status, StatusCode::FORBIDDEN, "{name}");
    }
    assert!(host.api().get("/api/v1/channels").await.text.contains("\"paused\":false"));

    let mut vera = signed_in(&host, "vera", "viewer").await;
    let theirs = vera.token().await;
    assert_eq!(vera.post(pause, &[("csrf", &theirs)]).await.status, StatusCode::FORBIDDEN, "a viewer does not act");
    assert_eq!(vera.post(pause, &[("csrf", &token)]).await.status, StatusCode::FORBIDDEN, "another session's token");
    assert!(!vera.get("/admin").await.body.contains("Pause channel"));

    assert_eq!(dana.post(pause, &[("csrf", &token)]).await.status, StatusCode::SEE_OTHER);
    let page = dana.get("/admin").await;
    assert!(page.body.contains("Websocket is paused.") && page.body.contains("Resume channel"), "the sentence says so");
    dana.post("/admin/channels/websocket/resume", &[("csrf", &token)]).await;
    let audit = host.api().get("/api/v1/audit").await.text;
    assert!(audit.contains("admin:dana") && audit.contains("channel.pause"), "{audit}");

    assert_eq!(dana.post("/admin/sign-out", &[("csrf", &token)]).await.location.as_deref(), Some("/admin/sign-in"));
    let mut back = Browser { cookie: dana.cookie.clone(), ..Browser::new(&host) };
    assert_eq!(back.get("/admin").await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn the_stream_begins_with_the_whole_page_and_ends_for_strangers() {
    let host = TestHost::start().await;
    let dana = signed_in(&host, "dana", "owner").await;
    let mut stranger = Browser::new(&host);
    let away = stranger.get("/admin/live?page=overview&range=1h").await;
    assert_eq!(away.status, StatusCode::UNAUTHORIZED);
    let request = dana.http.get(format!("{}/admin/live?page=overview&range=1h", dana.base));
    let mut stream = request.header(header::COOKIE, dana.cookie.clone().unwrap()).send().await.unwrap();
    let mut text = String::new();
    while !text.contains("</hx-partial>\n\n") {
        text.push_str(&String::from_utf8_lossy(&stream.chunk().await.unwrap().unwrap()));
    }
    for part in ["#say", "#tiles", "#channels", "#recent"] {
        assert!(text.contains(&format!("hx-target=\"{part}\"")), "no {part}");
    }
    host.api().notify("ada", "Hi").await;
    until("the delivery is on the page", || async {
        page_of(&dana).await.contains("<b>websocket</b> <span class=\"to\">ada").then_some(())
    })
    .await;
}

async fn page_of(browser: &Browser) -> String {
    let request = browser.http.get(format!("{}/admin", browser.base));
    request.header(header::COOKIE, browser.cookie.clone().unwrap()).send().await.unwrap().text().await.unwrap()
}
