//! The overview without scripts: a new install's first steps, and a database that is away.

use super::browser::signed_in;
use campanile_tests::{
    host::{API_KEY, binary},
    prelude::*,
    proxy::Mode,
};
use reqwest::StatusCode;
use std::{net::SocketAddr, process::Command};

/// The text of a step's command, as the page's copy button takes it.
fn command(page: &str, step: u8) -> String {
    let from =
        page.split(&format!("<pre id=\"step-{step}\"")).nth(1).unwrap_or_else(|| panic!("no step {step}: {page}"));
    let code = from.split("<code>").nth(1).unwrap().split("</code>").next().unwrap();
    ["&#34;|\"", "&quot;|\"", "&#39;|'", "&#x27;|'", "&lt;|<", "&gt;|>", "&amp;|&"].iter().fold(
        code.to_owned(),
        |text, pair| {
            let (from, to) = pair.split_once('|').unwrap();
            text.replace(from, to)
        },
    )
}

#[tokio::test]
async fn a_new_install_shows_three_steps_whose_commands_run_as_they_are() {
    let host = TestHost::builder().embedded().start().await;
    let mut dana = signed_in(&host, "dana", "owner").await;
    let page = dana.get("/admin").await.body;
    assert!(page.contains("Three steps to the first notification") && !page.contains("id=\"rate\""));

    let both = format!("set -e\n{}\n{}", command(&page, 1), command(&page, 2));
    let path = format!("{}:{}", binary().parent().unwrap().display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("bash");
    shell.args(["-c", &both]).current_dir(host.folder());
    shell.env("PATH", path).env("CAMPANILE_SERVER", host.url("")).env("CAMPANILE_KEY", API_KEY);
    let ran = tokio::task::spawn_blocking(move || shell.output().unwrap()).await.unwrap();
    assert!(ran.status.success(), "{both}\n{}", String::from_utf8_lossy(&ran.stderr));
    let answer: Value = serde_json::from_slice(&ran.stdout).expect("an acceptance");
    host.api().state(answer["notification_id"].as_str().unwrap(), "websocket", "sent").await;

    until("the steps are gone, the plots are there", || async {
        let page = signed_page(&dana).await;
        (!page.contains("Three steps") && page.contains("id=\"rate\"")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn while_the_database_is_away_the_page_is_drawn_from_memory_and_says_so() {
    let mut host = TestHost::builder().production().prepare();
    let url = host.engines().database();
    let address: SocketAddr = url.rsplit_once('@').unwrap().1.split('/').next().unwrap().parse().unwrap();
    let proxy = Proxy::to(address).await;
    let through = url.replacen(&address.to_string(), &proxy.address().to_string(), 1);
    host.reconfigure(|b| b.text("database.url", &through));
    host.launch().await;
    let mut dana = signed_in(&host, "dana", "owner").await;
    let token = dana.token().await;
    host.api().notify("ada", "Hi").await;
    until("the delivery is on the page", || async { signed_page(&dana).await.contains(">ada<").then_some(()) }).await;

    proxy.set(Mode::Cut);
    until("the page says that the database is away", || async {
        let page = signed_page(&dana).await;
        let said = page.contains("The database does not answer.") && page.contains("Only this node reporting");
        (said && page.contains(">ada<")).then_some(())
    })
    .await;
    let act = dana.post("/admin/channels/websocket/pause", &[("csrf", &token)]).await;
    assert_eq!(act.status, StatusCode::SERVICE_UNAVAILABLE, "nobody acts then");

    proxy.set(Mode::Pass);
    until("all is well again", || async {
        signed_page(&dana).await.contains("Everything is delivering.").then_some(())
    })
    .await;
}

async fn signed_page(browser: &super::browser::Browser) -> String {
    let request = browser.http.get(format!("{}/admin", browser.base));
    let cookie = browser.cookie.clone().unwrap();
    request.header(reqwest::header::COOKIE, cookie).send().await.unwrap().text().await.unwrap()
}
