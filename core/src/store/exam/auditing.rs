//! The audit log: found by what is asked for, followed step by step, cut only at its old end.

use super::*;
use campanile_model::ports::{AuditFilter, AuditRow, AuditSource};
use serde_json::json;
use std::time::Duration;

pub(super) mod tests {
    crate::store::exam::exam!(
        the_first_entry_is_the_install,
        entries_are_found_by_whatever_is_asked,
        entries_say_where_they_came_from,
        the_chain_is_followed_step_by_step,
        retention_moves_the_beginning_of_the_chain,
        entries_of_many_writers_are_one_chain,
    );
}

fn by(who: &str) -> Actor {
    Actor { who: who.to_owned(), address: Some("203.0.113.9".to_owned()), request_id: "r1".to_owned() }
}

async fn wrote(exam: &Exam, who: &str, action: &'static str, target: &str) {
    exam.note(&by(who), action, target, Some(json!({"n": 1}))).await.unwrap();
}

async fn the_first_entry_is_the_install(exam: Exam) {
    exam.begin_audit(&by("system"), json!({"version": "1"})).await.unwrap();
    exam.begin_audit(&by("system"), json!({"version": "2"})).await.unwrap();
    let rows = exam.audit(None, 10).await.unwrap();
    assert_eq!(rows.iter().map(|r| (&*r.action, &*r.target)).collect::<Vec<_>>(), [("install", "campanile")]);
    assert_eq!(rows[0].detail.as_ref().unwrap()["version"], "1");
}

async fn entries_are_found_by_whatever_is_asked(exam: Exam) {
    wrote(&exam, "admin:dana", "key.create", "k1").await;
    wrote(&exam, "admin:eli", "key.create", "k2").await;
    exam.pass(DAY);
    let later = exam.now().await.unwrap();
    wrote(&exam, "admin:dana", "key.revoke", "k1").await;
    wrote(&exam, "admin:dana", "user.erase", "ada").await;
    let found = async |change: &dyn Fn(&mut AuditFilter)| {
        let mut filter = AuditFilter { limit: 10, ..AuditFilter::default() };
        change(&mut filter);
        let rows: Vec<AuditRow> = exam.find_audit(&filter).await.unwrap();
        rows.into_iter().map(|r| format!("{} {}", r.action, r.target)).collect::<Vec<_>>()
    };
    let text = |t: &str| Some(t.to_owned());
    assert_eq!(found(&|_| {}).await, ["user.erase ada", "key.revoke k1", "key.create k2", "key.create k1"]);
    assert_eq!(found(&|f| f.actor = text("admin:eli")).await, ["key.create k2"]);
    assert_eq!(found(&|f| f.action = text("key.create")).await, ["key.create k2", "key.create k1"]);
    assert_eq!(found(&|f| f.target = text("k1")).await, ["key.revoke k1", "key.create k1"]);
    assert_eq!(found(&|f| f.since = Some(later)).await, ["user.erase ada", "key.revoke k1"]);
    assert_eq!(found(&|f| f.since = Some(later + DAY)).await, [""; 0]);
    assert_eq!(found(&|f| f.until = Some(later)).await, ["key.create k2", "key.create k1"]);
    assert_eq!(found(&|f| f.until = Some(later + DAY)).await.len(), 4);
    assert_eq!(found(&|f| (f.since, f.until) = (Some(later), Some(later))).await, [""; 0]);
    let all = |f: &mut AuditFilter| {
        f.actor = text("admin:dana");
        f.action = text("key.create");
        f.target = text("k1");
        f.since = Some(at(1));
    };
    assert_eq!(found(&all).await, ["key.create k1"]);
    let newest = exam.audit(None, 1).await.unwrap()[0].id;
    let below = |f: &mut AuditFilter| {
        f.actor = text("admin:dana");
        f.before = Some(newest);
        f.limit = 1;
    };
    assert_eq!(found(&below).await, ["key.revoke k1"]);
}

async fn entries_say_where_they_came_from(exam: Exam) {
    let request = |who: &str, request_id: &str| Actor { request_id: request_id.to_owned(), ..by(who) };
    let authors = [
        request("admin:dana", "r-7"),
        request("stranger", "r-8"),
        request("key:0192", "r-9"),
        request("operator", "r-10"),
        request("operator", ""),
        request("user:ada", "r-11"),
        request("system", ""),
        request("somebody", "r-12"),
        // Neither of them is what it begins like.
        request("administrator", "r-13"),
        request("keys", ""),
    ];
    for author in &authors {
        exam.note(author, "test", "t", None).await.unwrap();
    }
    for source in AuditSource::ALL {
        let filter = AuditFilter { source: Some(source), limit: 20, ..AuditFilter::default() };
        let found: Vec<_> = exam.find_audit(&filter).await.unwrap().into_iter().rev().map(|r| r.actor).collect();
        let expected = authors.iter().filter(|a| AuditSource::of(&a.who, &a.request_id) == source);
        assert_eq!(found, expected.map(|a| a.who.clone()).collect::<Vec<_>>(), "{source:?}");
        assert!(!found.is_empty());
    }
    let one = |change: AuditFilter| AuditFilter { limit: 20, ..change };
    let by_request = one(AuditFilter { request_id: Some("r-9".into()), ..AuditFilter::default() });
    assert_eq!(exam.find_audit(&by_request).await.unwrap()[0].actor, "key:0192");
    let by_address = |address: &str| one(AuditFilter { address: Some(address.into()), ..AuditFilter::default() });
    assert_eq!(exam.find_audit(&by_address("203.0.113.9")).await.unwrap().len(), authors.len());
    assert!(exam.find_audit(&by_address("203.0.113.1")).await.unwrap().is_empty());
    assert_eq!(exam.check_audit(None, 20).await.unwrap().broken, None, "what is worked out is not part of the chain");
}

async fn the_chain_is_followed_step_by_step(exam: Exam) {
    let empty = exam.check_audit(None, 10).await.unwrap();
    assert_eq!((empty.mark.id, empty.followed, empty.broken, empty.done), (0, 0, None, true));
    for i in 0..5 {
        wrote(&exam, "system", "test", &i.to_string()).await;
    }
    let first = exam.check_audit(None, 3).await.unwrap();
    assert_eq!((first.followed, first.broken, first.done), (3, None, false));
    let rest = exam.check_audit(Some(&first.mark), 3).await.unwrap();
    assert_eq!((rest.followed, rest.broken, rest.done), (2, None, true));
    let newest = exam.audit(None, 1).await.unwrap().remove(0);
    assert_eq!((rest.mark.id, rest.at), (newest.id, Some(newest.at)));
    let again = exam.check_audit(Some(&rest.mark), 3).await.unwrap();
    assert_eq!((again.followed, again.broken, again.done), (0, None, true));
    let mut wrong = first.mark.clone();
    wrong.hash = Some(vec![0; 32]);
    let broken = exam.check_audit(Some(&wrong), 3).await.unwrap();
    assert_eq!(broken.broken, Some(first.mark.id + 1), "what follows another entry does not follow this one");
}

/// Only the audit log is cut.
fn keep(days: u32) -> Retention {
    let ever = Duration::ZERO;
    Retention { notifications: ever, feed: ever, dead: ever, audit: DAY * days, poison: ever }
}

async fn retention_moves_the_beginning_of_the_chain(exam: Exam) {
    for i in 0..5 {
        wrote(&exam, "system", "test", &i.to_string()).await;
    }
    let old = exam.check_audit(None, 2).await.unwrap().mark;
    exam.pass(DAY * 2);
    for i in 5..8 {
        wrote(&exam, "system", "test", &i.to_string()).await;
    }
    assert!(exam.retain(&keep(1), 3).await.unwrap(), "there is more than three");
    assert!(!exam.retain(&keep(1), 3).await.unwrap());
    assert_eq!(exam.audit(None, 10).await.unwrap().len(), 3);
    let whole = exam.check_audit(None, 10).await.unwrap();
    assert_eq!((whole.followed, whole.broken, whole.done), (3, None, true), "the oldest kept follows from the anchor");
    let passed = exam.check_audit(Some(&old), 10).await.unwrap();
    assert_eq!((passed.followed, passed.broken), (3, None), "a mark that retention passed begins at the anchor");
    exam.pass(DAY * 9);
    while exam.retain(&keep(1), 3).await.unwrap() {}
    assert_eq!(exam.audit(None, 10).await.unwrap().len(), 1, "the newest stays");
    wrote(&exam, "system", "test", "8").await;
    assert_eq!(exam.check_audit(None, 10).await.unwrap().broken, None);
}

async fn entries_of_many_writers_are_one_chain(exam: Exam) {
    let tasks: Vec<_> = (0..40)
        .map(|i| {
            let store = exam.shared();
            tokio::spawn(async move { store.note(&by("system"), "test", &i.to_string(), None).await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    let whole = exam.check_audit(None, 100).await.unwrap();
    assert_eq!((whole.followed, whole.broken, whole.done), (40, None, true));
}
