//! A new version of a plugin that is tried with a share of the deliveries first.

use super::files_kit::{House, children, said, villain};
use crate::admin::browser::signed_in;
use campanile_tests::{host::API_KEY, prelude::*};
use rustix::process::{Pid, Signal, kill_process};

const TWO: &str = "-DVERSION=\"2.0.0\"";

/// Sends so many, and counts those that version 2 delivered.
async fn by_the_new(house: &House, n: usize) -> usize {
    let mut new = 0;
    for _ in 0..n {
        let id = house.send("villain", "ada").await;
        let sent = house.host.api().state(&id, "villain", "sent").await;
        new += usize::from(sent["provider_id"] == "2.0.0");
    }
    new
}

async fn with_a_trial(share: &str) -> House {
    let mut house = House::new(|b| b);
    house.add(&villain(&[]), &[]).await;
    house.host.launch().await;
    house.create(&json!({"name": "desk", "plugin": "villain", "config": {}})).await;
    assert_eq!(by_the_new(&house, 3).await, 0);
    house.add(&villain(&[TWO]), &[]).await;
    let told = at(&house, &["reload", "villain", "--share", share]).await;
    assert!(told.contains("on trial villain 2.0.0"), "{told}");
    house
}

async fn at(house: &House, args: &[&str]) -> String {
    let out = house.plugin(&[args, &["--server", &house.host.url(""), "--key", API_KEY]].concat()).await;
    assert!(out.status.success(), "{}", said(&out));
    said(&out)
}

#[tokio::test]
async fn a_new_version_takes_a_share_until_it_is_promoted() {
    let mut house = with_a_trial("25").await;
    let new = by_the_new(&house, 40).await;
    assert!((5..=15).contains(&new), "{new} of 40");
    let known = house.known("villain").await;
    assert_eq!((&known["version"], &known["trial"]["version"]), (&json!("1.0.0"), &json!("2.0.0")), "{known}");
    assert_eq!(known["trial"]["worked"], new, "{known}");
    let mut olga = signed_in(&house.host, "olga", "owner").await;
    let page = olga.get("/admin/plugins").await;
    assert!(page.body.contains("villain 2.0.0 is on trial") && page.body.contains("It takes 25 %"), "{}", page.body);
    let told = at(&house, &["promote", "villain"]).await;
    assert!(told.contains("villain 2.0.0: it takes everything"), "{told}");
    assert_eq!(by_the_new(&house, 3).await, 3);
    until("the old one has ended", || async { (children(house.host.pid()).len() == 1).then_some(()) }).await;
    let again = house.host.api().post("/api/v1/plugins/villain/promote", &json!({})).await;
    assert_eq!(again.status, 409, "{:?}", again.json);
    let wrong = house.host.api().post("/api/v1/plugins/villain/reload", &json!({"share": 100})).await;
    assert_eq!((wrong.status, &wrong.json["errors"][0]["field"]), (422, &json!("share")), "{:?}", wrong.json);
    house.host.stop().await;
}

#[tokio::test]
async fn a_new_version_that_dies_on_trial_is_taken_back_and_nothing_is_lost() {
    let mut house = with_a_trial("50").await;
    let newest = children(house.host.pid()).into_iter().max().unwrap();
    kill_process(Pid::from_raw(newest as i32).unwrap(), Signal::KILL).unwrap();
    until("it is taken back", || async { house.known("villain").await["trial"].is_null().then_some(()) }).await;
    let known = house.known("villain").await;
    let reason = known["refusal"]["reason"].as_str().unwrap();
    assert!(reason.contains("2.0.0 was on trial and is taken back: its process ended"), "{reason}");
    assert_eq!(by_the_new(&house, 4).await, 0);
    // From the console: with a share, and back again.
    let mut olga = signed_in(&house.host, "olga", "owner").await;
    let csrf = olga.token().await;
    let wrong = [("csrf", csrf.as_str()), ("share", "many")];
    assert_eq!(olga.post("/admin/plugins/villain/reload", &wrong).await.status, 422);
    olga.post("/admin/plugins/villain/reload", &[("csrf", &csrf), ("share", "10")]).await;
    assert!(olga.get("/admin/plugins").await.body.contains("villain 2.0.0 is on trial"));
    olga.post("/admin/plugins/villain/rollback", &[("csrf", &csrf)]).await;
    let page = olga.get("/admin/plugins").await;
    assert!(page.body.contains("villain 1.0.0 has everything again."), "{}", page.body);
    until("it has ended", || async { (children(house.host.pid()).len() == 1).then_some(()) }).await;
    house.host.stop().await;
}
