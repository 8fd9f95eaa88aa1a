//! The console's look at people and keys: found by id and address, held back for a reason, keys that overlap.

use super::*;
use campanile_model::{
    ConnId, KeyId,
    ports::{
        ApiKey, Beat, ConsentBy, HeldConnection, HeldFilter, NodeFigures, OptedOut, Scope, SeenFilter, SuppressedBy,
        UserFilter,
    },
};
use std::time::Duration;

pub(super) mod tests {
    crate::store::exam::exam!(
        people_are_found_by_the_beginning_of_an_id_and_by_address,
        contact_points_change_and_the_log_does_not_repeat_them,
        what_holds_a_person_back_is_told,
        a_rotated_key_overlaps_with_its_successor,
        a_key_is_restricted_and_its_successor_with_it,
        people_are_counted_with_what_they_chose,
        somebody_who_connects_was_here,
        somebody_new_is_registered_once,
        what_somebody_chose_is_kept_with_who_said_it,
        those_held_back_are_listed_newest_first,
        those_who_were_here_are_listed_latest_first,
    );
}

fn email(address: &str) -> Contact {
    Contact { email: Some(address.to_owned()), ..Contact::default() }
}

async fn people_are_found_by_the_beginning_of_an_id_and_by_address(exam: Exam) {
    for (id, address) in [("u_1", "a@x"), ("u_2", "B@x"), ("u_10", "a@x"), ("v\u{e9}", "c@x"), ("100%_", "d@x")] {
        exam.put_user(&user(id), email(address)).await.unwrap();
    }
    let found = async |change: &dyn Fn(&mut UserFilter)| {
        let mut filter = UserFilter { limit: 10, ..UserFilter::default() };
        change(&mut filter);
        exam.users(&filter).await.unwrap().into_iter().map(|u| u.user_id.to_string()).collect::<Vec<_>>()
    };
    let text = |t: &str| Some(t.to_owned());
    assert_eq!(found(&|_| {}).await, ["100%_", "u_1", "u_10", "u_2", "v\u{e9}"]);
    assert_eq!(found(&|f| f.prefix = text("u_1")).await, ["u_1", "u_10"]);
    assert_eq!(found(&|f| f.prefix = text("v\u{e9}")).await, ["v\u{e9}"]);
    assert_eq!(found(&|f| f.prefix = text("%")).await, [""; 0], "nothing stands for anything");
    assert_eq!(found(&|f| f.email = text("A@X")).await, ["u_1", "u_10"]);
    assert_eq!(found(&|f| f.email = text("b@x")).await, ["u_2"]);
    assert_eq!(found(&|f| f.email = text("a")).await, [""; 0]);
    assert_eq!(found(&|f| f.limit = 2).await, ["100%_", "u_1"]);
    assert_eq!(found(&|f| f.after = Some(UserId::from("u_1"))).await, ["u_10", "u_2", "v\u{e9}"]);
    let rest = |f: &mut UserFilter| {
        f.prefix = text("u_");
        f.after = Some(UserId::from("u_1"));
    };
    assert_eq!(found(&rest).await, ["u_10", "u_2"]);
    assert_eq!(found(&|f| f.app = AppId::from("other")).await, [""; 0]);
}

async fn contact_points_change_and_the_log_does_not_repeat_them(exam: Exam) {
    assert!(exam.edit_user(&user("ada"), email("new@x"), &actor()).await.unwrap().is_none(), "nobody is made so");
    exam.put_user(&user("ada"), email("old@x")).await.unwrap();
    let edited = exam.edit_user(&user("ada"), email("new@x"), &actor()).await.unwrap().unwrap();
    assert_eq!(edited.contact.email.as_deref(), Some("new@x"));
    assert_eq!(exam.get_user(&user("ada")).await.unwrap().unwrap().contact, edited.contact);
    let row = exam.audit(None, 1).await.unwrap().remove(0);
    assert_eq!((&*row.action, &*row.target), ("user.edit", "ada"));
    assert!(!row.detail.unwrap().to_string().contains("new@x"));
}

async fn what_holds_a_person_back_is_told(exam: Exam) {
    let app = AppId::default();
    let channel = ChannelName::email();
    exam.add_suppression(&app, &channel, "Ada@Example.org", "bounced", &actor()).await.unwrap();
    exam.add_suppression(&app, &channel, "other@example.org", "bounced", &actor()).await.unwrap();
    exam.unsubscribe(&user("ada"), &channel, "news").await.unwrap();
    exam.unsubscribe(&user("bo"), &channel, "news").await.unwrap();
    let addresses = [(channel.clone(), "ada@example.org".to_owned()), (ChannelName::from("sms"), "+49".to_owned())];
    let held = exam.held_back(&user("ada"), &addresses, 10).await.unwrap();
    let told: Vec<_> = held.iter().map(|s| (s.reason.as_str(), s.address.is_some())).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told.contains(&("bounced", true)) && told.contains(&("unsubscribed", false)));
    for s in &held {
        assert!(exam.lift_suppression(&app, &s.id, &actor()).await.unwrap());
    }
    assert!(exam.held_back(&user("ada"), &addresses, 10).await.unwrap().is_empty());
}

async fn a_rotated_key_overlaps_with_its_successor(exam: Exam) {
    let app = AppId::default();
    let key = |n: u8| ApiKey {
        id: KeyId::new(),
        app: app.clone(),
        name: "billing".to_owned(),
        secret_hash: [n; 32],
        scopes: vec![Scope::Send],
        created_at: at(1_000),
        expires_at: None,
        revoked_at: None,
        last_used_at: None,
        last_used_from: None,
        last_used_for: None,
        networks: Vec::new(),
        created_by: None,
    };
    let (old, fresh) = (key(1), ApiKey { name: "ignored".to_owned(), scopes: Scope::ALL.to_vec(), ..key(2) });
    exam.create_key(old.clone(), &actor()).await.unwrap();
    assert_eq!(exam.find_key(old.id).await.unwrap().unwrap().created_by.as_deref(), Some("operator"));
    let hour = Duration::from_hours(1);
    let made = exam.rotate_key(&app, old.id, fresh.clone(), hour, &actor()).await.unwrap().unwrap();
    assert_eq!((made.name.as_str(), &made.scopes[..]), ("billing", &[Scope::Send][..]), "as the first one");
    let ends = exam.find_key(old.id).await.unwrap().unwrap().expires_at.unwrap();
    let left = ends - exam.now().await.unwrap();
    assert!(left.num_minutes() >= 58 && left.num_minutes() <= 60, "{left}");
    assert_eq!(exam.find_key(fresh.id).await.unwrap().unwrap().secret_hash, [2; 32]);
    let again = exam.rotate_key(&app, old.id, key(3), hour * 5, &actor()).await.unwrap();
    assert!(again.is_some());
    assert!(exam.find_key(old.id).await.unwrap().unwrap().expires_at.unwrap() <= ends, "an end never moves away");
    exam.pass(hour * 2);
    assert!(exam.rotate_key(&app, old.id, key(4), hour, &actor()).await.unwrap().is_none(), "it has ended");
    exam.revoke_key(&app, fresh.id, &actor()).await.unwrap();
    assert!(exam.rotate_key(&app, fresh.id, key(5), hour, &actor()).await.unwrap().is_none());
    assert!(exam.rotate_key(&AppId::from("other"), made.id, key(6), hour, &actor()).await.unwrap().is_none());
    let acts = exam.audit(None, 10).await.unwrap();
    assert_eq!(acts.iter().filter(|a| a.action == "key.rotate").count(), 2);
}

async fn a_key_is_restricted_and_its_successor_with_it(exam: Exam) {
    let app = AppId::default();
    let key = |n: u8| ApiKey {
        id: KeyId::new(),
        app: app.clone(),
        name: "billing".to_owned(),
        secret_hash: [n; 32],
        scopes: vec![Scope::Send],
        created_at: at(1_000),
        expires_at: None,
        revoked_at: None,
        last_used_at: None,
        last_used_from: None,
        last_used_for: None,
        networks: vec!["10.0.0.0/8".to_owned()],
        created_by: None,
    };
    let old = key(1);
    exam.create_key(old.clone(), &actor()).await.unwrap();
    assert_eq!(exam.find_key(old.id).await.unwrap().unwrap().networks, ["10.0.0.0/8"]);
    let both = ["10.0.0.0/8".to_owned(), "2001:db8::7".to_owned()];
    let before = exam.restrict_key(&app, old.id, &both, &actor()).await.unwrap();
    assert_eq!(before.as_deref(), Some(&["10.0.0.0/8".to_owned()][..]), "what it was, so that it can be again");
    assert!(
        exam.restrict_key(&AppId::from("other"), old.id, &[], &actor()).await.unwrap().is_none(),
        "another app's key"
    );
    assert_eq!(exam.find_key(old.id).await.unwrap().unwrap().networks, both);
    let fresh = exam.rotate_key(&app, old.id, key(2), Duration::from_hours(1), &actor()).await.unwrap().unwrap();
    assert_eq!(exam.find_key(fresh.id).await.unwrap().unwrap().networks, both, "as the first one");
    exam.revoke_key(&app, old.id, &actor()).await.unwrap();
    assert!(exam.restrict_key(&app, old.id, &[], &actor()).await.unwrap().is_none(), "it has ended");
    let acts = exam.audit(None, 10).await.unwrap();
    let restricted: Vec<_> = acts.iter().filter(|a| a.action == "key.restrict").collect();
    assert_eq!(restricted.len(), 1);
    let detail = restricted[0].detail.as_ref().unwrap();
    assert!(detail["before"]["networks"][0] == *both[0] && detail["after"]["networks"][1] == *both[1], "{detail}");
}

async fn people_are_counted_with_what_they_chose(exam: Exam) {
    let app = AppId::default();
    let (mail, sms) = (ChannelName::email(), ChannelName::from("sms"));
    assert_eq!(exam.people_figures(&app, 5).await.unwrap(), campanile_model::ports::PeopleFigures::default());
    for name in ["ada", "bo", "cy"] {
        exam.put_user(&user(name), Contact::default()).await.unwrap();
    }
    assert!(exam.opt_out(&user("ada"), &mail, "news", &actor()).await.unwrap());
    assert!(!exam.opt_out(&user("ada"), &mail, "news", &actor()).await.unwrap(), "once is enough");
    exam.opt_out(&user("bo"), &mail, "news", &actor()).await.unwrap();
    exam.unsubscribe(&user("bo"), &sms, "offers").await.unwrap();
    for address in ["a@x", "b@x"] {
        exam.add_suppression(&app, &mail, address, "bounced", &actor()).await.unwrap();
    }
    exam.add_suppression(&app, &mail, "c@x", "complaint", &actor()).await.unwrap();
    let figures = exam.people_figures(&app, 5).await.unwrap();
    assert_eq!((figures.known, figures.active_day, figures.active_month), (3, 0, 0));
    let out = |channel: &ChannelName, kind: &str, people| OptedOut {
        channel: channel.clone(),
        notification_type: kind.to_owned(),
        people,
    };
    assert_eq!(figures.opted_out, [out(&mail, "news", 2), out(&sms, "offers", 1)]);
    let by = |reason: &str, addresses| SuppressedBy { channel: mail.clone(), reason: reason.to_owned(), addresses };
    assert_eq!(figures.suppressed, [by("bounced", 2), by("complaint", 1)]);
    assert_eq!(exam.people_figures(&app, 1).await.unwrap().opted_out.len(), 1);
    let acts = exam.audit(None, 20).await.unwrap();
    assert_eq!(acts.iter().filter(|a| a.action == "user.opt_out").count(), 2, "their own act is not an operator's");
}

async fn a_node(exam: &Exam) -> NodeId {
    let node = NodeId::new();
    let beat = Beat {
        node,
        host: "tower".to_owned(),
        address: "127.0.0.1:8000".to_owned(),
        version: "1.0".to_owned(),
        started_at: at(1_000),
        draining: false,
        figures: NodeFigures::default(),
    };
    exam.beat(&beat).await.unwrap();
    node
}

fn held(name: &str) -> HeldConnection {
    HeldConnection {
        conn: ConnId::new(),
        user: user(name),
        transport: "websocket".to_owned(),
        protocol: "v1".to_owned(),
        client_address: None,
        user_agent: None,
        connected_at: at(2_000),
    }
}

async fn somebody_who_connects_was_here(exam: Exam) {
    let node = a_node(&exam).await;
    let came = exam.now().await.unwrap();
    assert!(exam.hold(node, vec![held("ada"), held("ada"), held("bo")]).await.unwrap());
    let seen = exam.last_seen(&user("ada")).await.unwrap().unwrap();
    assert!(seen >= came && exam.last_seen(&user("nobody")).await.unwrap().is_none());
    let counted = async || {
        let figures = exam.people_figures(&AppId::default(), 5).await.unwrap();
        (figures.active_day, figures.active_month)
    };
    assert_eq!(counted().await, (2, 2));
    exam.pass(Duration::from_mins(30));
    exam.hold(node, vec![held("ada")]).await.unwrap();
    assert_eq!(exam.last_seen(&user("ada")).await.unwrap(), Some(seen), "so lately writes nothing");
    exam.pass(DAY * 2);
    exam.hold(node, vec![held("ada")]).await.unwrap();
    assert!(exam.last_seen(&user("ada")).await.unwrap().unwrap() > seen);
    assert_eq!(counted().await, (1, 2));
    exam.pass(DAY * 40);
    assert_eq!(counted().await, (0, 0));
    let newest = exam.last_seen(&user("ada")).await.unwrap();
    for (from, into) in [("bo", "ada"), ("ada", "cy")] {
        exam.put_user(&user(from), Contact::default()).await.unwrap();
        exam.merge_users(&user(from), &user(into), &actor()).await.unwrap().unwrap();
        assert_eq!(exam.last_seen(&user(into)).await.unwrap(), newest, "the later of both, {from} into {into}");
        assert!(exam.last_seen(&user(from)).await.unwrap().is_none());
    }
    exam.erase_user(&user("cy"), &actor()).await.unwrap();
    assert!(exam.last_seen(&user("cy")).await.unwrap().is_none());
}

async fn somebody_new_is_registered_once(exam: Exam) {
    let made = exam.add_user(&user("ada"), email("ada@x"), &actor()).await.unwrap().unwrap();
    assert_eq!(made.contact.email.as_deref(), Some("ada@x"));
    assert!(exam.add_user(&user("ada"), email("other@x"), &actor()).await.unwrap().is_none(), "she is there");
    assert_eq!(exam.get_user(&user("ada")).await.unwrap().unwrap().contact, made.contact);
    let acts = exam.audit(None, 10).await.unwrap();
    let added: Vec<_> = acts.iter().filter(|a| a.action == "user.add").collect();
    assert_eq!((added.len(), &*added[0].target), (1, "ada"));
    assert!(!added[0].detail.as_ref().unwrap().to_string().contains("ada@x"));
}

async fn what_somebody_chose_is_kept_with_who_said_it(exam: Exam) {
    let (app, mail) = (AppId::default(), ChannelName::email());
    exam.unsubscribe(&user("ada"), &mail, "news").await.unwrap();
    exam.unsubscribe(&user("ada"), &mail, "news").await.unwrap();
    let no = exam.held_back(&user("ada"), &[], 10).await.unwrap().remove(0);
    exam.lift_suppression(&app, &no.id, &actor()).await.unwrap();
    exam.opt_out(&user("ada"), &mail, "offers", &actor()).await.unwrap();
    exam.unsubscribe(&user("bo"), &mail, "news").await.unwrap();
    let told = async |name: &str| {
        let all = exam.consents(&user(name), 10).await.unwrap();
        all.into_iter().map(|c| (c.notification_type.unwrap(), c.agreed, c.by)).collect::<Vec<_>>()
    };
    let operator = || ConsentBy::Actor("operator".to_owned());
    let said = |kind: &str, agreed, by| (kind.to_owned(), agreed, by);
    let all =
        vec![said("offers", false, operator()), said("news", true, operator()), said("news", false, ConsentBy::User)];
    assert_eq!(told("ada").await, all, "newest first, and what changes nothing is not said again");
    assert_eq!(exam.consents(&user("ada"), 1).await.unwrap().len(), 1);
    let lifted = exam.audit(None, 10).await.unwrap().into_iter().find(|a| a.action == "suppression.lift").unwrap();
    assert_eq!(lifted.target, "ada", "under the person, with the rest");

    exam.put_user(&user("ada"), Contact::default()).await.unwrap();
    exam.merge_users(&user("ada"), &user("bo"), &actor()).await.unwrap().unwrap();
    assert_eq!((told("ada").await.len(), told("bo").await.len()), (0, 4));
    exam.erase_user(&user("bo"), &actor()).await.unwrap();
    assert!(told("bo").await.is_empty());
}

async fn those_held_back_are_listed_newest_first(exam: Exam) {
    let (app, mail, sms) = (AppId::default(), ChannelName::email(), ChannelName::from("sms"));
    exam.put_user(&user("ada"), email("Ada@x")).await.unwrap();
    for (name, channel, kind) in
        [("ada", &mail, "news"), ("bo", &mail, "news"), ("bo", &sms, "news"), ("cy", &mail, "x")]
    {
        exam.unsubscribe(&user(name), channel, kind).await.unwrap();
    }
    for (channel, address, why) in [(&mail, "ada@x", "bounced"), (&sms, "+49", "bounced"), (&mail, "b@x", "complaint")]
    {
        exam.add_suppression(&app, channel, address, why, &actor()).await.unwrap();
    }
    let list = async |chosen: bool, of: Option<(&ChannelName, &str)>| {
        let of = of.map(|(channel, what)| (channel.clone(), what.to_owned()));
        let mut filter = HeldFilter { chosen, of, limit: 2, ..HeldFilter::default() };
        let mut all = Vec::new();
        loop {
            let page = exam.held_lines(&filter).await.unwrap();
            let Some((last, _)) = page.last() else { return all };
            filter.before = Some(last.id.clone());
            all.extend(page.into_iter().map(|(line, owner)| {
                let who = owner.or(line.user_id).map_or_else(|| "-".to_owned(), |u| u.to_string());
                format!("{who} {} {}", line.channel, line.notification_type.unwrap_or(line.reason))
            }));
        }
    };
    assert_eq!(list(true, None).await, ["cy email x", "bo sms news", "bo email news", "ada email news"]);
    assert_eq!(list(true, Some((&mail, "news"))).await, ["bo email news", "ada email news"]);
    assert_eq!(list(false, None).await, ["- email complaint", "- sms bounced", "ada email bounced"]);
    assert_eq!(list(false, Some((&mail, "bounced"))).await, ["ada email bounced"], "whose address it is");
    assert_eq!(list(false, Some((&sms, "complaint"))).await, [""; 0]);
}

async fn those_who_were_here_are_listed_latest_first(exam: Exam) {
    let node = a_node(&exam).await;
    exam.put_user(&user("bo"), email("bo@x")).await.unwrap();
    for name in ["ada", "bo", "cy"] {
        exam.hold(node, vec![held(name)]).await.unwrap();
        exam.pass(DAY);
    }
    let here = async |within: Duration, before| {
        let filter = SeenFilter { app: AppId::default(), within, before, limit: 2 };
        exam.seen_lately(&filter).await.unwrap()
    };
    let names =
        |seen: &[campanile_model::ports::Seen]| -> Vec<String> { seen.iter().map(|s| s.user_id.to_string()).collect() };
    let first = here(DAY * 30, None).await;
    assert_eq!(names(&first), ["cy", "bo"]);
    let email = |s: &campanile_model::ports::Seen| s.user.as_ref().and_then(|u| u.contact.email.clone());
    assert_eq!(
        (email(&first[0]), email(&first[1])),
        (None, Some("bo@x".to_owned())),
        "who is registered, with the rest"
    );
    let rest = here(DAY * 30, Some((first[1].at, first[1].user_id.clone()))).await;
    assert_eq!(names(&rest), ["ada"]);
    assert_eq!(names(&here(DAY + Duration::from_hours(1), None).await), ["cy"]);
    exam.pass(DAY * 40);
    assert!(here(DAY * 30, None).await.is_empty());
}
