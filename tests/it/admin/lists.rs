//! Lists by what is so of what they list: connections by figures, people by what they chose; and what is offered to a search.

use super::browser::{Browser, FORM, PASSWORD, Stream, encoded, signed_in};
use campanile_tests::{prelude::*, smtp::SmtpServer};
use reqwest::{StatusCode, header};

const EVIL: &str = "<img src=x onerror=alert(1)>";

#[tokio::test]
async fn connections_are_ordered_and_narrowed_by_what_their_node_knows() {
    let host = TestHost::start().await;
    let mut dana = signed_in(&host, "dana", "viewer").await;
    let mut ada = Connect::to(&host).token(&token::user("ada")).v1().open().await;
    let mut bo = Connect::to(&host).token(&token::user("bo")).v1().open().await;
    ada.expect("hello").await;
    bo.expect("hello").await;
    host.api().notify("ada", "One").await;
    let first = ada.wait_for("notification").await;
    ada.send(&json!({"type": "ack", "seq": first["seq"]})).await;
    host.api().notify("ada", "Two").await;
    ada.wait_for("notification").await;
    until("one of two is confirmed", || async {
        let all = host.api().get("/api/v1/connections").await.expect(200);
        let of = |user: &str| all["items"].as_array().unwrap().iter().find(|c| c["user_id"] == user).cloned().unwrap();
        let (ada, bo) = (of("ada"), of("bo"));
        assert_eq!((&bo["unacked"], &bo["behind"]), (&Value::Null, &json!(0)), "it confirms nothing");
        (ada["unacked"] == 1 && ada["behind"] == 0).then_some(())
    })
    .await;

    let unconfirmed = dana.get("/admin/connections?with=unacked&least=1").await.body;
    assert!(unconfirmed.contains(">ada</a>") && !unconfirmed.contains(">bo</a>"), "{unconfirmed}");
    let ordered = dana.get("/admin/connections?sort=unacked").await.body;
    assert!(ordered.contains("aria-sort=\"descending\"") && ordered.contains("most unconfirmed first"));
    assert!(ordered.find(">ada</a>") < ordered.find(">bo</a>"), "what is not known comes last");
    assert!(!ordered.contains("rel=\"next\""), "figures move: there is no further page");
    let behind = dana.get("/admin/connections?with=lag&least=5").await.body;
    assert!(behind.contains("No connection fits these filters") && behind.contains(">Clear</a>"), "{behind}");
    let slow = dana.get("/admin/connections?show=slow").await.body;
    assert!(slow.contains("Nobody reads too slowly") && slow.contains("Slow<span"), "{slow}");
    let strange = dana.get("/admin/connections?sort=%3Cimg%20src%3Dx%3E&with=x&least=-1").await.body;
    assert!(strange.contains(">ada</a>") && strange.contains(">bo</a>") && !strange.contains("<img"));

    let page = dana.get("/admin/connections?range=15m").await.body;
    assert_eq!(page.matches("Link to this time").count(), 2, "one for each plot");
    let link = page.split("class=\"tbl\" href=\"").nth(1).unwrap().split('"').next().unwrap().replace("&#38;", "&");
    assert!(link.contains("until="), "{link}");
    let pinned = dana.get(&link).await.body;
    assert!(pinned.contains("Plots of now") && !pinned.contains("Link to this time"), "{pinned}");
}

#[tokio::test]
async fn people_are_listed_by_what_is_so_of_them() {
    let host = TestHost::start().await;
    let api = host.api();
    api.put("/api/v1/users/ada", &json!({"email": "ada@northwind.example"})).await.expect(200);
    api.put("/api/v1/users/bo", &json!({"email": "bo@northwind.example"})).await.expect(200);
    for (address, reason) in [("ada@northwind.example", "bounced"), ("who@northwind.example", "complaint")] {
        let held = json!({"channel": "email", "address": address, "reason": reason});
        api.post("/api/v1/suppressions", &held).await.expect(201);
    }
    let mut dana = signed_in(&host, "dana", "operator").await;
    let csrf = dana.token().await;
    for kind in ["news", EVIL] {
        let fields = [("csrf", csrf.as_str()), ("channel", "email"), ("type", kind)];
        assert_eq!(dana.post("/admin/users/bo/opt-out", &fields).await.status, StatusCode::SEE_OTHER);
    }
    let all = dana.get("/admin/users").await.body;
    for link in ["show=out", "show=held", "show=day", "show=month", "of=email:news", "of=email:bounced"] {
        assert!(all.contains(link), "a number leads to its list: {link} in {all}");
    }
    let rows = |page: &str| page.split("id=\"list\"").nth(1).unwrap().split("</tbody>").next().unwrap().to_owned();
    let out = dana.get("/admin/users?show=out").await.body;
    assert_eq!(rows(&out).matches("/admin/users/bo\"").count(), 2, "{out}");
    assert!(!out.contains("<img") && !rows(&out).contains("/admin/users/ada\""));
    let news = dana.get("/admin/users?show=out&of=email:news").await.body;
    assert_eq!(rows(&news).matches("/admin/users/bo\"").count(), 1);
    assert!(news.contains("<option value=\"email:news\" selected>"), "{news}");
    let none = dana.get("/admin/users?show=out&of=email:nothing").await.body;
    assert!(none.contains("Nothing fits") && none.contains("Clear filters"));

    let held = dana.get("/admin/users?show=held").await.body;
    assert!(rows(&held).contains("a•••@northwind.example") && rows(&held).contains("/admin/users/ada\""), "{held}");
    assert!(rows(&held).contains("nobody known") && !held.contains("ada@northwind.example"), "masked");
    let bounced = dana.get("/admin/users?show=held&of=email:bounced").await.body;
    assert!(rows(&bounced).contains("/admin/users/ada\"") && !rows(&bounced).contains("nobody known"));

    assert!(dana.get("/admin/users?show=day").await.body.contains("Nobody connected within a day"));
    let socket = Connect::to(&host).token(&token::user("cy")).open().await;
    let seen = dana.wait_for("/admin/users?show=day", "/admin/users/cy\"").await;
    assert!(rows(&seen).contains("Not registered") && !rows(&seen).contains("/admin/users/ada\""), "{seen}");
    assert!(rows(&dana.get("/admin/users?show=month").await.body).contains("/admin/users/cy\""));
    socket.close().await;
}

#[tokio::test]
async fn somebody_new_is_registered_and_changed_without_being_revealed() {
    let relay = SmtpServer::start().await;
    let host = TestHost::builder().mail_to(relay.address).start().await;
    let api = host.api();
    let mut vera = signed_in(&host, "vera", "viewer").await;
    assert!(!vera.get("/admin/users").await.body.contains("/admin/new-user"));
    assert_eq!(vera.get("/admin/new-user").await.status, StatusCode::FORBIDDEN);
    let mut dana = signed_in(&host, "dana", "operator").await;
    let csrf = dana.token().await;
    assert!(dana.get("/admin/users").await.body.contains("/admin/new-user"));
    assert!(dana.get("/admin/new-user").await.body.contains("name=\"timezone\""));
    let send = async |dana: &mut Browser, to: &str, fields: &[(&str, &str)]| {
        let fields: Vec<_> = [("csrf", csrf.as_str())].into_iter().chain(fields.iter().copied()).collect();
        dana.post(to, &fields).await
    };
    let wrong = send(&mut dana, "/admin/new-user", &[("id", " "), ("email", EVIL), ("timezone", "Mars")]).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(wrong.body.contains("id: must not be empty") && wrong.body.contains("email:"), "{}", wrong.body);
    assert!(wrong.body.contains("value=\"Mars\"") && !wrong.body.contains("<img"), "what was typed is there");
    let new = [("id", "mia"), ("email", "mia@northwind.example"), ("locale", "de-DE"), ("timezone", "Europe/Berlin")];
    let made = send(&mut dana, "/admin/new-user", &new).await;
    assert_eq!(made.location.as_deref(), Some("/admin/users/mia"), "{}", made.body);
    let again = send(&mut dana, "/admin/new-user", &[("id", "mia"), ("email", "other@northwind.example")]).await;
    assert_eq!(again.status, StatusCode::CONFLICT);
    assert!(again.body.contains("registered already"));
    assert_eq!(api.get("/api/v1/users/mia").await.expect(200)["email"], "mia@northwind.example");

    let page = dana.get("/admin/users/mia").await.body;
    assert!(page.contains("mia is registered") && page.contains("/admin/audit?target=mia"), "{page}");
    assert!(page.contains("Stored: m•••@northwind.example") && !page.contains("mia@northwind.example"));
    let edit = "/admin/users/mia/edit";
    send(&mut dana, edit, &[("email", ""), ("locale", "fr"), ("timezone", "Europe/Paris")]).await;
    let stored = api.get("/api/v1/users/mia").await.expect(200);
    let of = |key: &str| stored[key].as_str().unwrap_or_default().to_owned();
    assert_eq!((&*of("email"), &*of("locale"), &*of("timezone")), ("mia@northwind.example", "fr", "Europe/Paris"));
    let wrong = send(&mut dana, edit, &[("email", "none"), ("revealed", "1")]).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(!wrong.body.contains("mia@northwind.example"), "a complaint reveals nothing");
    send(&mut dana, edit, &[("remove", "email"), ("locale", "fr")]).await;
    assert_eq!(api.get("/api/v1/users/mia").await.expect(200)["email"], Value::Null);

    send(&mut dana, "/admin/users/mia/opt-out", &[("channel", "email"), ("type", "news")]).await;
    let page = dana.get("/admin/users/mia").await.body;
    let id = page.split("/lift\"").nth(1).unwrap().split("name=\"id\" value=\"").nth(1).unwrap();
    let id = id.split('"').next().unwrap().to_owned();
    send(&mut dana, "/admin/users/mia/lift", &[("id", &id)]).await;
    let page = dana.get("/admin/users/mia").await.body;
    let history = page.split("id=\"consents\"").nth(1).unwrap().split("</section>").next().unwrap();
    assert!(history.find("yes again") < history.find("</i>no<"), "newest first: {history}");
    assert!(history.contains("admin:dana") && history.contains("news"));
    let log = dana.get("/admin/audit?target=mia").await.body;
    for action in ["user.add", "user.edit", "user.opt_out", "suppression.lift"] {
        assert!(log.contains(action), "no {action} in {log}");
    }
    assert!(!log.contains("northwind"), "and no address");
}

#[tokio::test]
async fn a_search_is_offered_what_exists() {
    let relay = SmtpServer::start().await;
    let host = TestHost::builder().mail_to(relay.address).start().await;
    let api = host.api();
    api.put("/api/v1/users/u_12", &json!({})).await.expect(200);
    api.notify("u_12", "Hi").await;
    let mut sam = signed_in(&host, "sam", "support").await;
    let mut words = async |text: &str| {
        let at = format!("/admin/search/complete?{}", encoded(&[("q", text)]));
        let answer = sam.get(&at).await;
        assert_eq!(answer.status, StatusCode::OK);
        let all: Vec<Value> = serde_json::from_str(&answer.body).unwrap();
        all.iter().map(|o| o["whole"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert!(words("").await.contains(&"status:".to_owned()));
    assert_eq!(words("channel:em").await, ["channel:email"]);
    assert_eq!(words("channel:email status:de").await, ["channel:email status:delivered", "channel:email status:dead"]);
    assert!(words("u_").await.contains(&"user:u_12".to_owned()));
    assert_eq!(words("user:u_1").await, ["user:u_12"]);
    assert!(words("type:").await.contains(&"type:general".to_owned()), "of what was sent lately");
    assert!(words("error:5").await.is_empty() && words("nothing such").await.is_empty());
    let page = sam.get("/admin").await.body;
    assert!(page.contains("data-words=\"/admin/search/complete\"") && page.contains("action=\"/admin/search\""));
}

#[tokio::test]
async fn what_a_page_drawn_by_a_form_held_goes_along_through_the_sign_in() {
    let host = TestHost::start().await;
    host.api().put("/api/v1/users/mia", &json!({"email": "mia@northwind.example"})).await.expect(200);
    let mut dana = signed_in(&host, "dana", "owner").await;
    let csrf = dana.token().await;
    let wrong = [("csrf", csrf.as_str()), ("email", "mia at home"), ("locale", "de-DE")];
    // The page with the complaint stands at the form's own target: nothing leads back to it.
    assert_eq!(dana.post("/admin/users/mia/edit", &wrong).await.status, StatusCode::UNPROCESSABLE_ENTITY);
    dana.post("/admin/sign-out", &[("csrf", &csrf)]).await;
    let mut later = Browser::new(&host);
    let send = async |browser: &mut Browser, to: &str, from: &str, fields: &[(&str, &str)]| {
        let request = browser.http.post(format!("{}{to}", browser.base)).header(header::ORIGIN, &browser.base);
        let request =
            request.header(header::REFERER, format!("{}{from}", browser.base)).header("sec-fetch-site", "same-origin");
        let request = request.header(header::CONTENT_TYPE, FORM).body(encoded(fields));
        browser.send(request).await
    };
    let typed = [("csrf", csrf.as_str()), ("email", "mia@home.example"), ("locale", "fr"), ("timezone", EVIL)];
    let asked = send(&mut later, "/admin/users/mia/edit", "/admin/users/mia/edit", &typed).await;
    assert_eq!(asked.status, StatusCode::UNAUTHORIZED, "{}", asked.body);
    assert!(asked.body.contains("What you sent is kept") && !asked.body.contains(&csrf), "{}", asked.body);
    let hidden = |page: &str, name: &str| {
        let from =
            page.split(&format!("name=\"{name}\" value=\"")).nth(1).unwrap_or_else(|| panic!("no {name} in {page}"));
        from.split('"').next().unwrap().replace("&#38;", "&")
    };
    let (kept, to) = (hidden(&asked.body, "kept"), hidden(&asked.body, "kept_to"));
    let sign_in = |password: &'static str| {
        [
            ("name", "dana".to_owned()),
            ("password", password.to_owned()),
            ("kept", kept.clone()),
            ("kept_to", to.clone()),
        ]
    };
    let signing = async |browser: &mut Browser, fields: &[(&str, String)]| {
        let fields: Vec<_> = fields.iter().map(|(k, v)| (*k, v.as_str())).collect();
        browser.post("/admin/sign-in", &fields).await
    };
    let mistyped = signing(&mut later, &sign_in("mistyped")).await;
    assert_eq!((mistyped.status, hidden(&mistyped.body, "kept")), (StatusCode::UNAUTHORIZED, kept.clone()));
    let again = signing(&mut later, &sign_in(PASSWORD)).await;
    assert_eq!(again.status, StatusCode::OK, "{}", again.body);
    assert!(again.body.contains("Signed in again") && again.body.contains("mia@home.example"), "{}", again.body);
    assert!(!again.body.contains("<img") && again.policy.contains("default-src 'none'"));
    let stored = host.api().get("/api/v1/users/mia").await.expect(200);
    assert_eq!(stored["email"], "mia@northwind.example", "signing in carries nothing out");
    let fresh = hidden(&again.body, "csrf");
    let sent = [("csrf", fresh.as_str()), ("email", "mia@home.example"), ("locale", "fr")];
    assert_eq!(later.post("/admin/users/mia/edit", &sent).await.status, StatusCode::SEE_OTHER);
    assert_eq!(host.api().get("/api/v1/users/mia").await.expect(200)["email"], "mia@home.example");

    // A form of a page that can be asked for leads back to that page, and what may hold a secret is nowhere.
    let mut stranger = Browser::new(&host);
    let page = send(&mut stranger, "/admin/users/mia/test", "/admin/users/mia", &[("title", "Hello")]).await;
    assert_eq!(page.location.as_deref(), Some("/admin/sign-in?back=%2Fadmin%2Fusers%2Fmia"));
    let secret =
        send(&mut stranger, "/admin/channels/x/config", "/admin/channels/x/config", &[("token", "hush")]).await;
    assert!(!secret.body.contains("hush"), "{}", secret.body);
    // Whoever signs in with a form that somebody else made up is asked nothing.
    let made_up = [("kept", "a=1".to_owned()), ("kept_to", "https://evil.example/".to_owned())];
    let fields: Vec<_> = sign_in(PASSWORD)[..2].iter().cloned().chain(made_up).collect();
    assert_eq!(signing(&mut stranger, &fields).await.location.as_deref(), Some("/admin"));
}

#[tokio::test]
async fn a_browser_chooses_how_often_its_pages_look_again() {
    let host = TestHost::start().await;
    let mut dana = signed_in(&host, "dana", "viewer").await;
    let csrf = dana.token().await;
    let you = "/admin/settings?tab=you";
    assert!(dana.get(you).await.body.contains("<option value=\"2\" selected>"));
    for (wish, kept) in [("30", "30"), ("7", "2"), ("", "2")] {
        dana.post("/admin/settings/looks", &[("csrf", &csrf), ("keys", "1"), ("live", wish)]).await;
        assert!(dana.get(you).await.body.contains(&format!("<option value=\"{kept}\" selected>")), "{wish:?}");
        let foot = format!("every {kept} s, in ");
        assert!(dana.get("/admin").await.body.contains(&foot), "the overview says it, too");
        let mut stream = Stream::open(&dana, "/admin/live?page=overview").await;
        stream.until("the rhythm", |text| text.contains(&foot)).await;
    }
}
