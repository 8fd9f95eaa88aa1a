//! Accounts and sessions of the console, its minutes and marks.

use super::*;
use campanile_model::ports::{AdminChange, MarkRow, Role};
use std::time::Duration;

pub(super) mod tests {
    crate::store::exam::exam!(
        a_link_makes_an_account_and_works_once,
        a_new_link_ends_the_old_one_and_an_old_link_ends_by_itself,
        names_differ_by_more_than_case,
        sessions_end_by_idleness_by_age_and_by_hand,
        a_new_password_ends_the_other_sessions,
        the_last_owner_stays,
        another_role_ends_sessions,
        minutes_are_kept_per_node_and_trimmed,
        marks_come_in_order,
    );
}

const HOUR: Duration = Duration::from_hours(1);

fn by(name: &str) -> Actor {
    Actor { who: format!("admin:{name}"), address: None, request_id: "r".into() }
}

async fn account(exam: &Exam, name: &str, role: Role) -> uuid::Uuid {
    exam.put_admin_link(name, role, hash(name.as_bytes()[0]), HOUR, &by("setup")).await.unwrap().id
}

fn hash(n: u8) -> [u8; 32] {
    [n; 32]
}

async fn signed_in(exam: &Exam, n: u8) -> bool {
    exam.admin_session(hash(n), HOUR).await.unwrap().is_some()
}

async fn open(exam: &Exam, n: u8, id: uuid::Uuid) {
    exam.open_admin_session(hash(n), id, DAY, Some("browser"), &by("dana")).await.unwrap();
}

async fn a_link_makes_an_account_and_works_once(exam: Exam) {
    let made = exam.put_admin_link("dana", Role::Owner, hash(1), HOUR, &by("setup")).await.unwrap();
    assert_eq!((made.name.as_str(), made.role, made.has_password), ("dana", Role::Owner, false));
    assert_eq!(exam.take_admin_link(hash(2)).await.unwrap(), None);
    assert_eq!(exam.take_admin_link(hash(1)).await.unwrap().map(|a| a.id), Some(made.id));
    assert_eq!(exam.take_admin_link(hash(1)).await.unwrap(), None, "only once");
    let acts: Vec<_> = exam.audit(None, 10).await.unwrap().into_iter().map(|a| (a.action, a.target)).collect();
    assert_eq!(acts, [("admin.link".into(), "dana".into()), ("admin.create".into(), "dana".into())]);
}

async fn a_new_link_ends_the_old_one_and_an_old_link_ends_by_itself(exam: Exam) {
    let first = exam.put_admin_link("dana", Role::Owner, hash(1), HOUR, &by("setup")).await.unwrap();
    let again = exam.put_admin_link("dana", Role::Viewer, hash(2), HOUR, &by("setup")).await.unwrap();
    assert_eq!((again.id, again.role), (first.id, Role::Owner), "an account keeps its role");
    assert_eq!(exam.take_admin_link(hash(1)).await.unwrap(), None);
    exam.pass(HOUR);
    assert_eq!(exam.take_admin_link(hash(2)).await.unwrap(), None);
}

async fn names_differ_by_more_than_case(exam: Exam) {
    let id = account(&exam, "Dana", Role::Owner).await;
    assert_eq!(account(&exam, "dANA", Role::Viewer).await, id);
    assert_eq!(exam.find_admin("DANA").await.unwrap().unwrap().0.name, "Dana");
    assert!(exam.find_admin("dan").await.unwrap().is_none());
    assert_eq!(exam.admins().await.unwrap().len(), 1);
}

async fn sessions_end_by_idleness_by_age_and_by_hand(exam: Exam) {
    let id = account(&exam, "dana", Role::Owner).await;
    for n in 1..=3 {
        open(&exam, n, id).await;
    }
    assert!(signed_in(&exam, 1).await && !signed_in(&exam, 9).await);
    exam.end_admin_session(hash(1), &by("dana")).await.unwrap();
    exam.end_admin_session(hash(1), &by("dana")).await.unwrap();
    assert!(!signed_in(&exam, 1).await);
    exam.pass(HOUR / 2);
    exam.touch_admin_session(hash(2)).await.unwrap();
    exam.pass(HOUR / 2);
    assert!(signed_in(&exam, 2).await, "it was used half an hour ago");
    assert!(!signed_in(&exam, 3).await, "idle for an hour");
    exam.pass(HOUR * 23);
    exam.touch_admin_session(hash(2)).await.unwrap();
    assert!(!signed_in(&exam, 2).await, "a day old, however much it is used");
    let acts = exam.audit(None, 20).await.unwrap();
    assert_eq!(acts.iter().filter(|a| a.action == "admin.sign_in").count(), 3);
    assert_eq!(acts.iter().filter(|a| a.action == "admin.sign_out").count(), 1);
}

async fn a_new_password_ends_the_other_sessions(exam: Exam) {
    let id = account(&exam, "dana", Role::Owner).await;
    open(&exam, 1, id).await;
    open(&exam, 2, id).await;
    let set = exam.set_admin_password(id, "$argon2id$x", Some(hash(1)), &by("dana")).await.unwrap();
    assert_eq!(set, AdminChange::Done);
    assert!(signed_in(&exam, 1).await && !signed_in(&exam, 2).await);
    let (admin, phc) = exam.find_admin("dana").await.unwrap().unwrap();
    assert_eq!((admin.has_password, phc.as_deref()), (true, Some("$argon2id$x")));
    let nobody = uuid::Uuid::now_v7();
    assert_eq!(exam.set_admin_password(nobody, "x", None, &by("dana")).await.unwrap(), AdminChange::NotFound);
    assert!(signed_in(&exam, 1).await);
    exam.set_admin_password(id, "$argon2id$y", None, &by("dana")).await.unwrap();
    assert!(!signed_in(&exam, 1).await);
}

async fn the_last_owner_stays(exam: Exam) {
    let dana = account(&exam, "dana", Role::Owner).await;
    let eli = account(&exam, "eli", Role::Owner).await;
    let change = async |id, role, disabled| exam.change_admin(id, role, disabled, &by("x")).await.unwrap();
    assert_eq!(change(dana, Role::Viewer, false).await, AdminChange::Done);
    assert_eq!(change(eli, Role::Operator, false).await, AdminChange::LastOwner);
    assert_eq!(change(eli, Role::Owner, true).await, AdminChange::LastOwner);
    assert_eq!(change(dana, Role::Owner, false).await, AdminChange::Done);
    assert_eq!(change(eli, Role::Owner, true).await, AdminChange::Done);
    assert_eq!(change(uuid::Uuid::now_v7(), Role::Owner, true).await, AdminChange::NotFound);
}

async fn another_role_ends_sessions(exam: Exam) {
    account(&exam, "dana", Role::Owner).await;
    let eli = account(&exam, "eli", Role::Viewer).await;
    open(&exam, 1, eli).await;
    exam.change_admin(eli, Role::Viewer, false, &by("dana")).await.unwrap();
    assert!(signed_in(&exam, 1).await, "nothing changed");
    exam.change_admin(eli, Role::Operator, false, &by("dana")).await.unwrap();
    assert!(!signed_in(&exam, 1).await, "more rights, too, begin with a new session");
    open(&exam, 4, eli).await;
    assert_eq!(exam.admin_session(hash(4), HOUR).await.unwrap().unwrap().admin.role, Role::Operator);
    exam.change_admin(eli, Role::Support, false, &by("dana")).await.unwrap();
    assert!(!signed_in(&exam, 4).await);
    open(&exam, 2, eli).await;
    let link = exam.put_admin_link("eli", Role::Viewer, hash(3), HOUR, &by("dana")).await.unwrap();
    exam.change_admin(link.id, Role::Support, true, &by("dana")).await.unwrap();
    assert!(!signed_in(&exam, 2).await);
    assert_eq!(exam.take_admin_link(hash(3)).await.unwrap(), None, "a disabled account has no way in");
}

async fn minutes_are_kept_per_node_and_trimmed(exam: Exam) {
    let (one, two) = (NodeId::new(), NodeId::new());
    let now = exam.now().await.unwrap();
    let minute = |i: i64| now - chrono::TimeDelta::minutes(i);
    for i in 0..3 {
        exam.put_minute(minute(i), one, "{}").await.unwrap();
    }
    exam.put_minute(minute(1), two, "a").await.unwrap();
    exam.put_minute(minute(1), two, "b").await.unwrap();
    let all = exam.minutes(minute(60)).await.unwrap();
    assert_eq!(all.len(), 4);
    assert!(all.is_sorted_by_key(|(at, _, _)| *at));
    assert_eq!(all.iter().find(|(_, node, _)| *node == two).unwrap().2, "b");
    assert_eq!(exam.minutes(minute(1)).await.unwrap().len(), 3);
    exam.trim_console(Duration::from_secs(90)).await.unwrap();
    assert_eq!(exam.minutes(minute(60)).await.unwrap().len(), 3);
}

async fn marks_come_in_order(exam: Exam) {
    let mark = |i: i64, what: &str| MarkRow { at: at(i), subject: "email".into(), what: what.into() };
    for (i, what) in [(3_000, "breaker closed"), (2_000, "breaker open"), (1_000, "paused")] {
        exam.put_mark(&mark(i, what)).await.unwrap();
    }
    let all = exam.marks(at(2_000)).await.unwrap();
    assert_eq!(all, [mark(2_000, "breaker open"), mark(3_000, "breaker closed")]);
}
