//! Every call whose plans are judged against long tables. A list of the console or a step of a delivery gets its line here.

use super::ear::Ear;
use crate::store::{
    exam::{
        AddressFault, AppId, ChannelName, Contact, DeliveryId, DeliveryState, FeedFilter, LEASE, MAX_AGE, MarkAs,
        MarkSelection, NextStep, NodeId, Note, NotificationId, Retention, ShownState, UserId, actor, at, bare, dead,
        finish, ids, mail, note, user,
    },
    postgres::Settings,
    sql::SqlStore,
};
use campanile_model::{
    ConnId, KeyId, UserKey,
    feed::SeenByClient,
    plan::{AudienceSpec, Idempotency, RecipientSpec},
    ports::*,
    work::ClaimOutcome,
};
use futures_util::future::join_all;
use sqlx::{Connection as _, PgConnection};
use std::{collections::BTreeMap, fmt::Debug, sync::Arc, time::Duration};
use uuid::Uuid;

/// What the filled database holds that a call must name.
struct Found {
    conn: PgConnection,
}

impl Found {
    async fn ids(&mut self, which: &'static str) -> Vec<Uuid> {
        let rows: Vec<(Uuid,)> = sqlx::query_as(which).fetch_all(&mut self.conn).await.unwrap();
        assert!(!rows.is_empty(), "the filled database has nothing for: {which}");
        rows.into_iter().map(|(id,)| id).collect()
    }
    async fn deliveries(&mut self, which: &'static str) -> Vec<DeliveryId> {
        self.ids(which).await.into_iter().map(DeliveryId).collect()
    }
}

struct Asker<'a> {
    store: &'a Arc<SqlStore>,
    ear: &'a Ear,
}

impl Asker<'_> {
    async fn about<T, E: Debug>(&self, call: &str, work: impl Future<Output = Result<T, E>>) -> T {
        self.ear.about(call);
        work.await.unwrap_or_else(|e| panic!("{call}: {e:?}"))
    }
}

pub(super) async fn everything(store: &Arc<SqlStore>, settings: &Settings, ear: &Ear) {
    let mut found = Found { conn: PgConnection::connect_with(&settings.options).await.unwrap() };
    let ask = Asker { store, ear };
    accepting(&ask).await;
    working(&ask, &mut found).await;
    feeds(&ask).await;
    people(&ask).await;
    lists(&ask, &mut found).await;
    triage(&ask, &mut found).await;
    acts(&ask, &mut found).await;
    cluster(&ask).await;
    console(&ask).await;
    housekeeping(&ask).await;
}

async fn accepting(ask: &Asker<'_>) {
    let s = ask.store;
    let app = AppId::default();
    let hundred: Vec<UserId> = (1..=100).map(|n| UserId::from(format!("u{n}").as_str())).collect();
    ask.about("resolve 100 people", s.resolve(&app, &hundred)).await;
    ask.about("accept, in app", s.accept(note("u7").item())).await;
    ask.about("accept, in app, a long feed", s.accept(note("u0").item())).await;
    ask.about("accept, with a key", s.accept(note("u7").keyed("fresh", 1).item())).await;
    ask.about("accept, with a key, again", s.accept(note("u7").keyed("fresh", 1).item())).await;
    let kept = Idempotency { key: "fresh".to_owned(), body_hash: [1; 32] };
    ask.about("look up a key", s.answered(&app, &kept)).await;
    ask.about("accept, by mail", s.accept(mail("u7").item())).await;
    for _ in 0..2 {
        ask.about("accept, collapsing", s.accept(note("u7").collapse("k").item())).await;
    }
    let to_all = |channels: &[&str]| hundred.iter().fold(bare(), |n: Note, u| n.also(u.as_str(), channels));
    ask.about("accept, to 100 people by 2 channels", s.accept(to_all(&["websocket", "email"]).item())).await;
    let batch = (0..200).map(|n| s.accept(note(&format!("u{}", n % 50)).item()));
    ask.about("accept, 200 at once", async { join_all(batch).await.into_iter().collect::<Result<Vec<_>, _>>() }).await;
    let mut large = bare();
    let recipients =
        hundred.iter().map(|u| RecipientSpec { user_id: u.clone(), addresses: BTreeMap::default() }).collect();
    large.deferred = Some(AudienceSpec { recipients, channels: None });
    ask.about("accept, a large audience", s.accept(large.item())).await;
    let node = NodeId::new();
    let slice = ask.about("take an audience", s.claim_audience(node, 500, LEASE)).await.expect("one waits");
    let plan = to_all(&["websocket", "email"]).recipients;
    ask.about("expand an audience", s.expand(node, slice.notification.id, slice.cursor, plan)).await;
}

async fn working(ask: &Asker<'_>, found: &mut Found) {
    let s = ask.store;
    let email = ChannelName::email();
    let due = ask.about("relay: 500 due", s.relay_due(500, &[])).await;
    assert!(!due.is_empty(), "mail waits");
    ask.about("relay: the queue is long", s.relay_due(500, std::slice::from_ref(&email))).await;
    let some: Vec<DeliveryId> = due.iter().take(50).map(|row| row.delivery_id).collect();
    ask.about("relay: publishing failed", s.relay_failed(&some)).await;
    ask.about("relay: a broker is back", s.relay_again(&email, 500)).await;

    let node = NodeId::new();
    let claimed = ask.about("claim 50", s.claim(&some, node, LEASE)).await;
    let mine: Vec<_> = claimed
        .into_iter()
        .filter_map(|outcome| if let ClaimOutcome::Claimed(claimed) = outcome { Some(*claimed) } else { None })
        .collect();
    assert!(mine.len() > 10, "most of them can be claimed");
    let held: Vec<(DeliveryId, u32)> = mine.iter().map(|c| (c.delivery_id, c.attempt)).collect();
    ask.about("renew 50 leases", s.renew(node, &held, LEASE)).await;
    ask.about("finish: sent", s.finish(finish(&mine[0], NextStep::Sent))).await;
    ask.about("finish: again later", s.finish(finish(&mine[1], NextStep::RetryIn { delay_ms: 9_000 }))).await;
    ask.about("finish: dead", s.finish(finish(&mine[2], dead("permanent")))).await;
    let mut refused = finish(&mine[3], dead("permanent"));
    refused.address_fault = Some(AddressFault::Suspect { kind: "mailbox_full", limit: 3, days: 30 });
    ask.about("finish: the address is gone", s.finish(refused)).await;
    let sent = mine[4..10].iter().map(|c| s.finish(finish(c, NextStep::Sent)));
    ask.about("finish: 6 at once", async { join_all(sent).await.into_iter().collect::<Result<Vec<_>, _>>() }).await;
    ask.about("give one lease back", s.give_back(node, Some(&[mine[10].delivery_id]))).await;
    ask.about("give all leases back", s.give_back(node, None)).await;
    let again: Vec<DeliveryId> = mine[11..].iter().map(|c| c.delivery_id).collect();
    ask.about("claim again", s.claim(&again, node, LEASE)).await;
    s.set_clock_offset(2 * LEASE.as_millis() as i64);
    ask.about("rescue", s.rescue(100)).await;
    s.set_clock_offset(0);
    let held_back = found.deliveries("SELECT id FROM deliveries WHERE in_app AND state = 'sent' LIMIT 50").await;
    sqlx::query("UPDATE deliveries SET state = 'pending', sent_at = NULL, settled_at = NULL WHERE id = ANY($1)")
        .bind(held_back.iter().map(|id| id.0).collect::<Vec<_>>())
        .execute(&mut found.conn)
        .await
        .unwrap();
    ask.about("complete 50 in app", s.complete_in_app(&held_back)).await;
    ask.about("sweep: anything?", s.sweep(500, MAX_AGE)).await;
    s.set_clock_offset(Duration::from_hours(30).as_millis() as i64);
    ask.about("sweep: a day later", s.sweep(500, Duration::from_hours(20))).await;
    s.set_clock_offset(0);
}

async fn feeds(ask: &Asker<'_>) {
    let s = ask.store;
    let (ada, long) = (user("u7"), user("u0"));
    ask.about("where a feed stands", s.feed_state(&ada)).await;
    let many: Vec<_> = (0..500).map(|n| user(&format!("u{n}"))).collect();
    ask.about("where 500 feeds stand", s.feed_heads(&many)).await;
    for (name, filter) in [
        ("all", FeedFilter::All),
        ("unread", FeedFilter::Unread),
        ("read", FeedFilter::Read),
        ("archived", FeedFilter::Archived),
    ] {
        ask.about(&format!("feed, {name}"), s.feed_page(&ada, None, 50, filter)).await;
        ask.about(&format!("feed, {name}, a long one"), s.feed_page(&long, None, 50, filter)).await;
        ask.about(&format!("feed, {name}, far down a long one"), s.feed_page(&long, Some(1_000), 50, filter)).await;
    }
    let head = s.feed_state(&long).await.unwrap().head_seq;
    ask.about("missed since", s.feed_missed(&long, 0, head, 1_001)).await;
    ask.about("replay", s.feed_replay(&long, head - 500, head, 50)).await;
    let page = s.feed_page(&long, None, 20, FeedFilter::Unread).await.unwrap();
    let some: Vec<NotificationId> = page.items.iter().map(|item| item.notification_id).collect();
    ask.about("mark 20 read", s.mark(&long, ids(&some), MarkAs::Read)).await;
    ask.about("mark 20 archived", s.mark(&long, ids(&some), MarkAs::Archived)).await;
    ask.about("mark all read", s.mark(&ada, MarkSelection::UpToSeq(i64::MAX), MarkAs::Read)).await;
    ask.about("mark all read, a long one", s.mark(&long, MarkSelection::UpToSeq(head), MarkAs::Read)).await;
    let seen = |user: &UserKey, from: i64, to: i64| SeenByClient { user: user.clone(), from_seq: from, to_seq: to };
    ask.about("confirm as delivered", s.confirm_delivered(vec![seen(&long, head - 20, head), seen(&ada, 1, 10)])).await;
    ask.about("count 50 feeds again", s.audit_counts(Some(user("u10")), 50)).await;
}

async fn people(ask: &Asker<'_>) {
    let s = ask.store;
    let app = AppId::default();
    let (ada, email) = (user("u11"), ChannelName::email());
    ask.about("write a user", s.put_user(&ada, Contact { email: Some("a@example.org".into()), ..Contact::default() }))
        .await;
    ask.about("read a user", s.get_user(&ada)).await;
    let many: Vec<_> = (0..500).map(|n| user(&format!("u{n}"))).collect();
    ask.about("who of 500 is disabled", s.disabled_among(&many)).await;
    ask.about("disable a user", s.set_disabled(&ada, true, &actor())).await;
    ask.about("erase a user", s.erase_user(&ada, &actor())).await;
    ask.about("merge a user into another", s.merge_users(&user("u12"), &user("u13"), &actor())).await;
    ask.about("unsubscribe", s.unsubscribe(&ada, &email, "digest")).await;
    ask.about("opt somebody out", s.opt_out(&ada, &email, "news", &actor())).await;
    ask.about("figures of people", s.people_figures(&app, 8)).await;
    ask.about("when somebody was here", s.last_seen(&ada)).await;
    let held = |chosen: bool, of: Option<&str>, before: Option<&str>| HeldFilter {
        chosen,
        of: of.map(|what| (email.clone(), what.to_owned())),
        before: before.map(str::to_owned),
        limit: 51,
        ..HeldFilter::default()
    };
    for (name, filter) in [
        ("who said no", held(true, None, None)),
        ("who said no, further", held(true, None, Some("t000000000100"))),
        ("who said no to a type", held(true, Some("digest"), None)),
        ("who said no to a type that nobody knows", held(true, Some("none"), None)),
        ("addresses held back", held(false, None, None)),
        ("addresses held back, further", held(false, None, Some("s000000000100"))),
        ("addresses held back for a reason", held(false, Some("bounced"), None)),
    ] {
        ask.about(name, s.held_lines(&filter)).await;
    }
    for (name, within) in [("a day", Duration::from_hours(24)), ("a month", Duration::from_hours(24 * 30))] {
        let mut filter = SeenFilter { app: app.clone(), within, before: None, limit: 51 };
        let seen = ask.about(&format!("who was here within {name}"), s.seen_lately(&filter)).await;
        filter.before = seen.last().map(|s| (s.at, s.user_id.clone()));
        ask.about(&format!("who was here within {name}, further"), s.seen_lately(&filter)).await;
    }
    ask.about("what somebody chose", s.consents(&user("u7"), 50)).await;
    ask.about("register somebody", s.add_user(&user("a new one"), Contact::default(), &actor())).await;
    ask.about("list suppressions", s.suppressions(&app, None, 50)).await;
    ask.about("list suppressions, further", s.suppressions(&app, Some("s000000000100".into()), 50)).await;
    ask.about("suppress an address", s.add_suppression(&app, &email, "x@example.org", "manual", &actor())).await;
    ask.about("lift a suppression", s.lift_suppression(&app, "s000000000001", &actor())).await;
    let key = ApiKey {
        id: KeyId::new(),
        app: app.clone(),
        name: "k".into(),
        secret_hash: [7; 32],
        scopes: vec![Scope::Send],
        created_at: at(0),
        expires_at: None,
        revoked_at: None,
        last_used_at: None,
        last_used_from: None,
        last_used_for: None,
        networks: Vec::new(),
        created_by: None,
    };
    let id = key.id;
    let used = KeyUse {
        key: id,
        at: s.now().await.unwrap(),
        address: None,
        route: "POST /api/v1/notifications".into(),
        calls: 1,
        refused: 0,
        denied: 0,
        by: vec![KeyUseBy { kind: UseKind::Address, name: "10.0.0.1".into(), calls: 1 }],
    };
    ask.about("make a key", s.create_key(key, &actor())).await;
    ask.about("find a key", s.find_key(id)).await;
    ask.about("list keys", s.list_keys(&app)).await;
    ask.about("note the use of keys", s.touch_keys(&[used])).await;
    ask.about("restrict a key", s.restrict_key(&app, id, &[], &actor())).await;
    ask.about("calls of keys", s.key_calls(&app, s.now().await.unwrap() - Duration::from_hours(24))).await;
    let day = s.now().await.unwrap() - Duration::from_hours(24);
    ask.about("what used keys", s.key_uses(&app, None, day, 1_000)).await;
    ask.about("what used a key", s.key_uses(&app, Some(id), day, 50)).await;
    ask.about("revoke a key", s.revoke_key(&app, id, &actor())).await;
    let ticket = Ticket { user: ada, origin: None, token_expires_at: at(i64::MAX / 2_000_000) };
    ask.about("make a ticket", s.put_ticket([9; 32], ticket, Duration::from_secs(30))).await;
    ask.about("take a ticket", s.take_ticket([9; 32])).await;
}

/// What the console and its API list.
async fn lists(ask: &Asker<'_>, found: &mut Found) {
    let s = ask.store;
    let app = AppId::default();
    let now = s.now().await.unwrap();
    let newest = || NotificationFilter { limit: 50, ..NotificationFilter::default() };
    let stored = |state| Some(ShownState::Stored(state));
    let someone = Some(UserId::from("u7"));
    let (email, websocket) = (Some(ChannelName::email()), Some(ChannelName::websocket()));
    let day = Some(now - Duration::from_hours(24));
    let middle = found
        .ids("SELECT id FROM notifications ORDER BY id OFFSET (SELECT count(*) / 2 FROM notifications) LIMIT 1")
        .await[0];
    for (name, filter) in [
        ("newest", newest()),
        ("from the middle", NotificationFilter { before: Some(NotificationId(middle)), ..newest() }),
        ("of a day", NotificationFilter { since: day, ..newest() }),
        (
            "of two weeks ago",
            NotificationFilter {
                since: Some(now - Duration::from_hours(24 * 15)),
                until: Some(now - Duration::from_hours(24 * 14)),
                ..newest()
            },
        ),
        ("to someone", NotificationFilter { user: someone.clone(), ..newest() }),
        ("to someone with a long feed", NotificationFilter { user: Some(UserId::from("u0")), ..newest() }),
        ("to someone, by mail", NotificationFilter { user: someone.clone(), channel: email.clone(), ..newest() }),
        (
            "to someone with a long feed, by a channel that is not theirs",
            NotificationFilter { user: Some(UserId::from("u0")), channel: email.clone(), ..newest() },
        ),
        (
            "to someone with a long feed, of a type",
            NotificationFilter { user: Some(UserId::from("u0")), notification_type: Some("digest".into()), ..newest() },
        ),
        (
            "to someone with a long feed, dead",
            NotificationFilter { user: Some(UserId::from("u0")), state: stored(DeliveryState::Dead), ..newest() },
        ),
        ("of a type", NotificationFilter { notification_type: Some("invoice".into()), ..newest() }),
        ("of a type that is not there", NotificationFilter { notification_type: Some("none".into()), ..newest() }),
        ("of a type, of a day", NotificationFilter { notification_type: Some("order".into()), since: day, ..newest() }),
        ("by mail", NotificationFilter { channel: email.clone(), ..newest() }),
        (
            "by a channel that is not there",
            NotificationFilter { channel: Some(ChannelName::from("pager")), ..newest() },
        ),
        ("in app", NotificationFilter { channel: websocket, ..newest() }),
        ("dead", NotificationFilter { state: stored(DeliveryState::Dead), ..newest() }),
        (
            "dead, by mail",
            NotificationFilter { state: stored(DeliveryState::Dead), channel: email.clone(), ..newest() },
        ),
        ("waiting", NotificationFilter { state: stored(DeliveryState::Pending), ..newest() }),
        ("scheduled", NotificationFilter { state: Some(ShownState::Scheduled), ..newest() }),
        ("suppressed", NotificationFilter { state: stored(DeliveryState::Suppressed), ..newest() }),
        ("sent", NotificationFilter { state: stored(DeliveryState::Sent), ..newest() }),
        ("delivered", NotificationFilter { state: stored(DeliveryState::Delivered), ..newest() }),
        ("with a key", NotificationFilter { idempotency_key: Some("key-100".into()), ..newest() }),
        ("sent or delivered", NotificationFilter { handed_over: true, ..newest() }),
        ("that failed", NotificationFilter { whole: Some(Whole::Failed), ..newest() }),
        ("that were delivered in part", NotificationFilter { whole: Some(Whole::Partly), ..newest() }),
        ("that failed with a code", NotificationFilter { error: Some("550".into()), ..newest() }),
        ("that failed with a code nobody saw", NotificationFilter { error: Some("777".into()), ..newest() }),
        ("right above the middle", NotificationFilter { after: Some(NotificationId(middle)), ..newest() }),
        (
            "by mail, right above the middle",
            NotificationFilter { after: Some(NotificationId(middle)), channel: email.clone(), ..newest() },
        ),
        (
            "with a key, by mail",
            NotificationFilter { idempotency_key: Some("key-100".into()), channel: email.clone(), ..newest() },
        ),
    ] {
        ask.about(&format!("notifications, {name}"), s.notifications(&filter)).await;
    }
    ask.about("one notification", s.notification(&app, NotificationId(middle), None)).await;
    let letters = || DeadFilter { limit: 50, ..DeadFilter::default() };
    for (name, filter) in [
        ("newest", letters()),
        ("by mail", DeadFilter { channel: email.clone(), ..letters() }),
        ("of a reason", DeadFilter { reason: Some("permanent".into()), ..letters() }),
    ] {
        ask.about(&format!("dead letters, {name}"), s.dead_letters(&filter)).await;
    }
    ask.about("queues", s.queue_stats()).await;
    ask.about("pauses", s.pauses()).await;
    ask.about("poison", s.poison(None, 50)).await;
    ask.about("poison, further", s.poison(Some(200), 50)).await;
    ask.about("how many are poison", s.poison_count(1_000)).await;
    ask.about("audit", s.audit(None, 50)).await;
    ask.about("audit, further", s.audit(Some(1_000), 50)).await;
    let entries = || AuditFilter { limit: 50, ..AuditFilter::default() };
    let text = |t: &str| Some(t.to_owned());
    let ago = |hours: u64| Some(now - Duration::from_hours(hours));
    for (name, filter) in [
        ("of somebody", AuditFilter { actor: text("admin:anna"), ..entries() }),
        ("of an action", AuditFilter { action: text("key.create"), ..entries() }),
        ("of an action that is not there", AuditFilter { action: text("none"), ..entries() }),
        ("about a target", AuditFilter { target: text("t7"), ..entries() }),
        ("from an address", AuditFilter { address: text("10.0.0.3"), ..entries() }),
        ("from an address that is not there", AuditFilter { address: text("10.9.9.9"), ..entries() }),
        ("of a request", AuditFilter { request_id: text("r100"), ..entries() }),
        ("by the console", AuditFilter { source: Some(AuditSource::Web), ..entries() }),
        ("by the system", AuditFilter { source: Some(AuditSource::System), ..entries() }),
        ("by the command line", AuditFilter { source: Some(AuditSource::Cli), ..entries() }),
        ("of a time", AuditFilter { since: ago(24 * 30), until: ago(24 * 30 - 1), ..entries() }),
        ("of a time, further", AuditFilter { until: ago(24 * 29), before: Some(500), ..entries() }),
    ] {
        ask.about(&format!("audit, {name}"), s.find_audit(&filter)).await;
    }
}

async fn triage(ask: &Asker<'_>, found: &mut Found) {
    let s = ask.store;
    let app = AppId::default();
    let now = s.now().await.unwrap();
    let page: Vec<NotificationId> = found
        .ids("SELECT id FROM notifications ORDER BY id DESC LIMIT 50")
        .await
        .into_iter()
        .map(NotificationId)
        .collect();
    ask.about("lanes of 50", s.lanes(&app, &page)).await;
    let mail = NotificationFilter { channel: Some(ChannelName::email()), ..NotificationFilter::default() };
    ask.about("states among 50", s.states_among(&mail, &page)).await;
    ask.about("the dead of 50", s.dead_of(&app, &page, None, 200)).await;
    for days in [1, 30] {
        let since = now - Duration::from_hours(24 * days);
        ask.about(&format!("states of {days} days"), s.state_counts(&app, since)).await;
        ask.about(&format!("what came out in {days} days"), s.whole_counts(&app, since)).await;
    }
    let all = || DeadWhich { app: AppId::default(), ..DeadWhich::default() };
    let email = || DeadWhich { channel: Some(ChannelName::email()), ..all() };
    let cause = || DeadWhich {
        reason: Some("permanent".into()),
        error: Some("550".into()),
        destination: Some("example.org".into()),
        ..email()
    };
    for (name, which) in [
        ("of all", all()),
        ("by mail", email()),
        ("of one cause", cause()),
        ("with an error", DeadWhich { error: Some("550".into()), ..all() }),
        ("of a channel that is not there", DeadWhich { channel: Some(ChannelName::from("pager")), ..all() }),
        ("of an hour", DeadWhich { since: Some(now - Duration::from_hours(1)), ..all() }),
        (
            "of a day two weeks ago",
            DeadWhich {
                since: Some(now - Duration::from_hours(24 * 15)),
                until: Some(now - Duration::from_hours(24 * 14)),
                ..all()
            },
        ),
        ("of one cause, of a day", DeadWhich { since: Some(now - Duration::from_hours(24)), ..cause() }),
        ("of a person", DeadWhich { user: Some(UserId::from("u7")), ..all() }),
    ] {
        ask.about(&format!("causes of death, {name}"), s.dead_groups(&which, 50)).await;
        ask.about(&format!("the dead, {name}"), s.dead_items(&which, None, 50)).await;
        ask.about(&format!("how many are dead, {name}"), s.dead_count(&which, MANY)).await;
        let middle = DeadPlace { at: now - Duration::from_hours(24 * 15), id: DeliveryId::new() };
        ask.about(&format!("the dead, {name}, further"), s.dead_items(&which, Some(middle), 50)).await;
    }
    let dead = found.deliveries("SELECT id FROM deliveries WHERE state = 'dead' AND stop IS NULL LIMIT 100").await;
    ask.about("whose delivery it is", s.notification_of(&app, dead[0])).await;
    ask.about("dismiss 50", s.dismiss(&app, &dead[..50], "email", Some(&actor()))).await;
    ask.about("recall 50", s.recall(&app, &dead[..50], &actor())).await;
    let pager = MoveTo { channel: ChannelName::from("pager"), in_app: false };
    ask.about("move 25", s.move_dead(&app, &dead[50..75], &pager, "email", Some(&actor()))).await;
    let feed = MoveTo { channel: ChannelName::websocket(), in_app: true };
    ask.about("move 25 to the feed", s.move_dead(&app, &dead[75..], &feed, "email", Some(&actor()))).await;
    ask.about("retry 50", s.replay_many(&app, &dead[..50], "email", Some(&actor()))).await;
    let task = TaskRow {
        id: Uuid::now_v7(),
        node: NodeId::new(),
        what: "replay".into(),
        subject: "email".into(),
        actor: "anna".into(),
        total: 100,
        done: 0,
        skipped: 0,
        started_at: now,
        beat_at: now,
        ended_at: None,
        stopped_by: None,
    };
    ask.about("begin a task", s.begin_task(&task, &actor(), serde_json::json!({}))).await;
    ask.about("a task lives", s.beat_task(task.id, 50, 0)).await;
    ask.about("tasks", s.tasks()).await;
    ask.about("stop a task", s.stop_task(task.id, &actor())).await;
    ask.about("end a task", s.end_task(task.id)).await;
    ask.about("one poison message", s.poison_message(1)).await;
    ask.about("discard a poison message", s.discard_poison(1, "poison.discard", &actor())).await;
}

async fn acts(ask: &Asker<'_>, found: &mut Found) {
    let s = ask.store;
    let app = AppId::default();
    let sms = ChannelName::from("sms");
    let waiting = found
        .ids("SELECT notification_id FROM deliveries WHERE channel = 'sms' AND state = 'pending' LIMIT 1")
        .await[0];
    let some = found.ids("SELECT id FROM notifications ORDER BY id DESC LIMIT 100").await;
    let some: Vec<NotificationId> = some.into_iter().map(NotificationId).collect();
    ask.about("cancel 100", s.cancel_many(&app, &some, "status:waiting", None)).await;
    ask.about("cancel", s.cancel(&app, NotificationId(waiting), &actor())).await;
    let letter = found.deliveries("SELECT id FROM deliveries WHERE state = 'dead' AND stop IS NULL LIMIT 1").await[0];
    ask.about("retry a dead letter", s.replay(&app, letter, &actor())).await;
    ask.about("who may unsubscribe", s.unsubscribe_target(letter)).await;
    ask.about("pause a channel", s.pause(&ChannelName::email(), None, None, &actor())).await;
    ask.about("resume a channel", s.resume(&ChannelName::email(), &actor())).await;
    ask.about("end pauses whose time is over", s.end_lapsed_pauses()).await;
    ask.about("put a message aside", s.add_poison("amqp", b"{", "cut off", None)).await;
    ask.about("audit an act", s.note(&actor(), "connection.close", "c", None)).await;
    // Its whole backlog becomes due for the relay, in steps.
    ask.about("resume a channel with a backlog", s.resume(&sms, &actor())).await;
    ask.about("relay: after a backlog", s.relay_due(500, &[])).await;
}

async fn cluster(ask: &Asker<'_>) {
    let s = ask.store;
    let silent = Duration::from_secs(20);
    let node = NodeId::new();
    let beat = Beat {
        node,
        host: "tower".into(),
        address: "127.0.0.1:8000".into(),
        version: "1.0".into(),
        started_at: at(1_000),
        draining: false,
        figures: NodeFigures::default(),
    };
    ask.about("a node begins", s.beat(&beat)).await;
    ask.about("a node lives", s.beat(&beat)).await;
    let held: Vec<HeldConnection> = (0..100)
        .map(|n| HeldConnection {
            conn: ConnId::new(),
            user: user(&format!("u{n}")),
            transport: "websocket".into(),
            protocol: "v1".into(),
            client_address: None,
            user_agent: None,
            connected_at: at(1_000),
        })
        .collect();
    let some: Vec<ConnId> = held.iter().take(20).map(|c| c.conn).collect();
    ask.about("hold 100 connections", s.hold(node, held)).await;
    ask.about("release 20 of them", s.release(node, some.clone())).await;
    ask.about("what a node holds", s.held(node)).await;
    let all = || ConnectionFilter { limit: 50, ..ConnectionFilter::default() };
    for (name, filter) in [
        ("all", all()),
        ("of a node", ConnectionFilter { node: Some(node), ..all() }),
        ("of the others", ConnectionFilter { except: Some(node), ..all() }),
        ("event streams", ConnectionFilter { transport: Some("sse".into()), ..all() }),
        ("of someone", ConnectionFilter { user: Some(UserId::from("u7")), ..all() }),
    ] {
        ask.about(&format!("connections, {name}"), s.connections(&filter, silent)).await;
    }
    ask.about("who holds a connection", s.holder(&AppId::default(), some[0], silent)).await;
    ask.about("nodes", s.nodes(silent)).await;
    ask.about("a node leaves", s.leave(node)).await;
    ask.about("bury the silent", s.bury(silent)).await;
}

async fn console(ask: &Asker<'_>) {
    let s = ask.store;
    let now = s.now().await.unwrap();
    let admin = ask.about("a link to sign in", s.put_admin_link("anna", Role::Owner, [1; 32], LEASE, &actor())).await;
    ask.about("use a link", s.take_admin_link([1; 32])).await;
    ask.about("find an account", s.find_admin("anna")).await;
    ask.about("accounts", s.admins()).await;
    ask.about("sign in", s.open_admin_session([2; 32], admin.id, LEASE, None, &actor())).await;
    ask.about("a session", s.admin_session([2; 32], LEASE)).await;
    ask.about("use a session", s.touch_admin_session([2; 32])).await;
    ask.about("set a password", s.set_admin_password(admin.id, "$argon2id$", Some([2; 32]), &actor())).await;
    ask.about("change an account", s.change_admin(admin.id, Role::Viewer, false, &actor())).await;
    ask.about("sign out", s.end_admin_session([2; 32], &actor())).await;
    ask.about("write a minute down", s.put_minute(now, NodeId::new(), "{}")).await;
    ask.about("minutes of an hour", s.minutes(now - Duration::from_hours(1))).await;
    ask.about("marks of a week", s.marks(now - Duration::from_hours(24 * 7))).await;
    ask.about("trim the console", s.trim_console(Duration::from_hours(24 * 8))).await;
}

async fn housekeeping(ask: &Asker<'_>) {
    let s = ask.store;
    ask.about("ping", s.ping()).await;
    ask.about("a shared secret", s.shared_secret("plans", "x")).await;
    let keep = Duration::from_hours(24 * 29);
    let keep = Retention { notifications: keep, feed: keep, dead: keep, audit: keep, poison: keep };
    for round in 1..=3 {
        ask.about(&format!("retention, round {round}"), s.retain(&keep, 500)).await;
    }
}
