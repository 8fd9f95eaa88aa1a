//! Instances of plugins: versions, the optimistic lock, what the audit log tells, the order of a channel.

use super::*;
use campanile_model::ports::{InstanceChange, InstanceLimits, InstanceRow, InstanceSetup, Per, Rate};
use serde_json::{Value, json};

pub(super) mod tests {
    crate::store::exam::exam!(
        an_instance_is_made_once_and_read_back,
        a_change_is_a_version_and_must_know_the_last_one,
        of_two_changes_at_once_one_is_stale,
        a_deleted_instance_leaves_no_versions,
        the_audit_log_names_what_changed_and_no_value,
        a_channels_order_is_kept_as_it_was_given,
        an_attempt_tells_which_instance_made_it,
    );
}

fn setup(config: Value) -> InstanceSetup {
    InstanceSetup { enabled: true, config, limits: InstanceLimits::default() }
}

async fn make(exam: &Exam, name: &str, config: Value) -> InstanceRow {
    let made = exam.create_instance(name, &"sms".into(), "twilio", setup(config), &actor()).await.unwrap();
    made.expect("the name was taken")
}

async fn change(exam: &Exam, name: &str, expected: Option<u64>, setup: InstanceSetup) -> InstanceChange {
    exam.change_instance(name, expected, setup, "instance.change", &actor()).await.unwrap()
}

async fn an_instance_is_made_once_and_read_back(exam: Exam) {
    let limits = InstanceLimits {
        rate: Some(Rate { limit: 30, per: Per::Minute }),
        concurrency: Some(2),
        timeout_ms: Some(5_000),
    };
    let wanted = InstanceSetup { enabled: false, config: json!({"token": {"$secret": "env:T"}}), limits };
    let made = exam.create_instance("a", &"sms".into(), "twilio", wanted.clone(), &actor()).await.unwrap().unwrap();
    assert_eq!((made.version, made.updated_by.as_str(), made.channel.as_str()), (1, "operator", "sms"));
    assert_eq!(made.setup, wanted);
    let again = exam.create_instance("a", &"chat".into(), "slack", setup(json!({})), &actor()).await.unwrap();
    assert_eq!(again, None);
    make(&exam, "0", json!({})).await;
    let names: Vec<_> = exam.instances().await.unwrap().into_iter().map(|i| i.name).collect();
    assert_eq!(names, ["a", "0"], "in the order they were made");
    assert_eq!(exam.instance("a").await.unwrap(), Some(made));
    assert_eq!(exam.instance("b").await.unwrap(), None);
}

async fn a_change_is_a_version_and_must_know_the_last_one(exam: Exam) {
    make(&exam, "a", json!({"n": 1})).await;
    let InstanceChange::Done(new) = change(&exam, "a", Some(1), setup(json!({"n": 2}))).await else { panic!() };
    assert_eq!((new.version, &new.setup.config), (2, &json!({"n": 2})));
    assert_eq!(change(&exam, "a", Some(1), setup(json!({"n": 3}))).await, InstanceChange::Stale(2));
    assert!(matches!(change(&exam, "a", None, setup(json!({"n": 4}))).await, InstanceChange::Done(_)));
    assert_eq!(change(&exam, "b", None, setup(json!({}))).await, InstanceChange::NotFound);
    let versions = exam.instance_versions("a").await.unwrap();
    let told: Vec<_> = versions.iter().map(|v| (v.version, v.setup.config["n"].clone())).collect();
    assert_eq!(told, [(3, json!(4)), (2, json!(2)), (1, json!(1))]);
    for _ in 0..60 {
        change(&exam, "a", None, setup(json!({}))).await;
    }
    let versions = exam.instance_versions("a").await.unwrap();
    assert_eq!((versions.len(), versions[0].version), (50, 63), "old ones are forgotten");
}

async fn of_two_changes_at_once_one_is_stale(exam: Exam) {
    make(&exam, "a", json!({})).await;
    let both = tokio::join!(
        change(&exam, "a", Some(1), setup(json!({"n": 1}))),
        change(&exam, "a", Some(1), setup(json!({"n": 2})))
    );
    let done = [both.0, both.1].into_iter().filter(|c| matches!(c, InstanceChange::Done(_))).count();
    assert_eq!((done, exam.instance("a").await.unwrap().unwrap().version), (1, 2));
}

async fn a_deleted_instance_leaves_no_versions(exam: Exam) {
    make(&exam, "a", json!({"n": 1})).await;
    change(&exam, "a", None, setup(json!({"n": 2}))).await;
    assert!(exam.delete_instance("a", &actor()).await.unwrap());
    assert!(!exam.delete_instance("a", &actor()).await.unwrap());
    assert!(exam.instance_versions("a").await.unwrap().is_empty());
    assert_eq!(make(&exam, "a", json!({"n": 3})).await.version, 1);
    assert_eq!(exam.instance_versions("a").await.unwrap().len(), 1);
}

async fn the_audit_log_names_what_changed_and_no_value(exam: Exam) {
    make(&exam, "a", json!({"url": "https://one.example", "from": "x"})).await;
    let mut next = setup(json!({"url": "https://two.example", "from": "x", "extra": 1}));
    next.enabled = false;
    change(&exam, "a", None, next).await;
    let audit = exam.audit(None, 10).await.unwrap();
    let newest = &audit[0];
    assert_eq!((newest.action.as_str(), newest.target.as_str()), ("instance.change", "a"));
    let changed = newest.detail.as_ref().unwrap();
    assert_eq!(changed, &json!({"version": 2, "changed": ["config.extra", "config.url", "enabled"]}));
    assert_eq!(audit[1].action, "instance.create");
    assert!(!format!("{audit:?}").contains("example"), "{audit:?}");
}

async fn a_channels_order_is_kept_as_it_was_given(exam: Exam) {
    let names = |n: &[&str]| n.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
    assert!(exam.channel_orders().await.unwrap().is_empty());
    exam.order_channel(&"sms".into(), &names(&["b", "a"]), &actor()).await.unwrap();
    exam.order_channel(&"email".into(), &names(&["x"]), &actor()).await.unwrap();
    exam.order_channel(&"sms".into(), &names(&["a", "b"]), &actor()).await.unwrap();
    let orders = exam.channel_orders().await.unwrap();
    assert_eq!(orders[&ChannelName::from("sms")], names(&["a", "b"]));
    assert_eq!((orders.len(), exam.audit(None, 10).await.unwrap()[0].action.as_str()), (2, "channel.order"));
}

async fn an_attempt_tells_which_instance_made_it(exam: Exam) {
    let sent = exam.send(mail("bob")).await;
    let id = sent.on("email").delivery_id;
    assert_eq!(exam.tried_by(id).await.unwrap(), None);
    let claimed = exam.claim_one(id).await;
    let mut doubtful = finish(&claimed, NextStep::RetryIn { delay_ms: 0 });
    doubtful.uncertain = true;
    exam.finish(doubtful).await.unwrap();
    assert_eq!(exam.tried_by(id).await.unwrap(), Some(("relay".to_owned(), true)));
    let claimed = exam.claim_one(id).await;
    let mut unknown = finish(&claimed, NextStep::Sent);
    unknown.instance = None;
    exam.finish(unknown).await.unwrap();
    assert_eq!(exam.tried_by(id).await.unwrap(), None, "only the newest attempt counts");
    let row = exam.row(id, sent.id).await;
    assert_eq!(row.attempts.iter().map(|a| a.instance.as_deref()).collect::<Vec<_>>(), [Some("relay"), None]);
}
