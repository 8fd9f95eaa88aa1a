//! `/admin/users`: people, how they are reached, what is done for one of them.

mod acts;
mod edit;
mod list;
mod merge;
mod preferences;

use super::{
    Routes, Signed,
    answer::part,
    console_frame, foot,
    gate::{ACT, LOOK, MANAGE, READ},
    live::{self, Drawn},
    segment,
};
use crate::{
    console::connections,
    http::{
        page::page,
        problem::{ApiError, ApiResult},
    },
    services::Services,
    store::rules::fold_address,
};
use async_trait::async_trait;
use axum::{
    extract::{Path, State},
    http::HeaderMap,
    response::Response,
};
use campanile_admin_ui::{
    format,
    pages::users as ui,
    pieces::{Here, Part},
};
use campanile_model::{
    AppId, ChannelName, DeliveryState, UserId, UserKey,
    api::ShownState,
    ports::{ConnectionFilter, Consent, ConsentBy, NotificationFilter, NotificationRow, StoreResult, Suppression},
    user::Contact,
};
use std::sync::Arc;

const PATH: &str = "/admin/users";
/// Beside the list and not below it, where every name is somebody's.
const NEW: &str = "/admin/new-user";
const RECENT: u32 = 50;
/// Connections shown on a person's page.
const SOCKETS: u32 = 5;
const UNSUBSCRIBED: u32 = 200;
/// Lines of what somebody chose over time.
const CONSENTS: u32 = 50;

pub fn routes() -> Routes {
    Routes::new()
        .get(PATH, LOOK, list::show)
        .get(NEW, ACT, edit::new)
        .post(NEW, ACT, edit::add)
        .get("/admin/users/{id}", LOOK, show)
        .post("/admin/users/{id}/reveal", READ, acts::reveal)
        .post("/admin/users/{id}/edit", ACT, edit::edit)
        .post("/admin/users/{id}/test", ACT, acts::test)
        .post("/admin/users/{id}/token", ACT, acts::token)
        .post("/admin/users/{id}/disable", ACT, acts::disable)
        .post("/admin/users/{id}/enable", ACT, acts::enable)
        .post("/admin/users/{id}/lift", ACT, acts::lift)
        .post("/admin/users/{id}/opt-out", ACT, acts::opt_out)
        .post("/admin/users/{id}/export", ACT, acts::export)
        .post("/admin/users/{id}/merge", MANAGE, merge::merge)
        .post("/admin/users/{id}/erase", MANAGE, acts::erase)
}

// ----------------------------------------------------------------------------------------------------- one person

fn key(id: &str) -> ApiResult<UserKey> {
    let user = UserId::parse(id).map_err(|_| ApiError::not_found("user"))?;
    Ok(UserKey { app: AppId::default(), user })
}

fn url(key: &UserKey) -> String {
    format!("{PATH}/{}", segment(key.user.as_str()))
}

/// What a page of a person has beside what is stored.
#[derive(Default)]
struct Extra {
    revealed: bool,
    token: Option<ui::Token>,
    /// Complaints about the form, and the form as typed.
    edit: Option<ui::Edit>,
}

async fn show(
    State(s): State<Arc<Services>>,
    signed: Signed,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    draw(&s, &signed, &headers, &key(&id)?, Extra::default()).await
}

async fn draw(
    s: &Arc<Services>,
    signed: &Signed,
    headers: &HeaderMap,
    key: &UserKey,
    extra: Extra,
) -> ApiResult<Response> {
    let user = s.store.get_user(key).await?;
    let live = live_facts(s, signed, key).await?;
    let recent = recent(s, signed, key).await;
    let seen = live.head > 0 || recent.well().is_some_and(|r| !r.rows.is_empty()) || !live.connections.is_empty();
    // Somebody who was never seen may have a token: their page begins with it.
    if user.is_none() && !seen && extra.token.is_none() {
        return Err(ApiError::not_found("user: nobody of this id was ever registered or sent to"));
    }
    let facts = s.console.facts.get(s).await;
    let contact = user.as_ref().map(|u| u.contact.clone()).unwrap_or_default();
    let points = points(&contact);
    let held = s.store.held_back(key, &points, UNSUBSCRIBED).await?;
    let edit = (signed.admin.role.may_act() && user.is_some())
        .then(|| extra.edit.unwrap_or_else(|| edit::form(s, &contact, extra.revealed)));
    let consents = s.store.consents(key, CONSENTS).await.map(|all| all.into_iter().map(consent).collect());
    page(&ui::User {
        frame: console_frame(s, signed, headers, &facts, PATH),
        id: key.user.to_string(),
        known: user.is_some(),
        disabled_at: user.as_ref().and_then(|u| u.disabled_at),
        created_at: user.as_ref().map(|u| u.created_at),
        updated_at: user.as_ref().map(|u| u.updated_at),
        locale: contact.locale.clone().unwrap_or_else(|| "–".to_owned()),
        timezone: contact.timezone.clone().unwrap_or_else(|| "–".to_owned()),
        addresses: points.iter().map(|p| address(p, &held, extra.revealed)).collect(),
        revealed: extra.revealed,
        preferences: preferences::draw(s, signed, key, &contact, &held, &recent),
        consents: part(s, "consents", "What they chose over time", consents.map(|rows| ui::Consents { rows })),
        log: Here::new("/admin/audit").put("target", &key.user).url(),
        live,
        recent,
        token: extra.token,
        edit,
        channels: s.channels.guards().iter().filter(|c| c.enabled()).map(|c| c.name().to_string()).collect(),
        foot: foot(s, &facts),
    })
}

/// Every address with its channel, e-mail first.
fn points(contact: &Contact) -> Vec<(ChannelName, String)> {
    let email = contact.email.iter().map(|a| (ChannelName::email(), a.clone()));
    email.chain(contact.addresses.iter().map(|(c, a)| (c.clone(), a.clone()))).collect()
}

fn address((channel, address): &(ChannelName, String), held: &[Suppression], revealed: bool) -> ui::Address {
    let folded = fold_address(address);
    let found = held.iter().find(|s| s.channel == *channel && s.address.as_deref() == Some(folded.as_str()));
    ui::Address {
        channel: channel.to_string(),
        shown: if revealed { address.clone() } else { format::masked(address) },
        suppressed: found.map(|s| (s.reason.replace('_', " "), s.created_at, s.id.clone())),
    }
}

fn consent(c: Consent) -> ui::Consent {
    ui::Consent {
        at: c.at,
        what: c.notification_type.unwrap_or_else(|| preferences::EVERYTHING.to_owned()),
        channel: c.channel.to_string(),
        agreed: c.agreed,
        by: match c.by {
            ConsentBy::User => ui::ConsentBy::User,
            ConsentBy::Unknown => ui::ConsentBy::Unknown,
            ConsentBy::Actor(who) => {
                ui::ConsentBy::Actor(who.clone(), Here::new("/admin/audit").put("actor", who).url())
            }
        },
    }
}

async fn live_facts(s: &Arc<Services>, signed: &Signed, key: &UserKey) -> StoreResult<ui::Live> {
    let feed = s.store.feed_state(key).await?;
    let filter =
        ConnectionFilter { app: key.app.clone(), user: Some(key.user.clone()), limit: SOCKETS, ..Default::default() };
    let listed = connections::list(s, filter, connections::Wish::default()).await;
    let words = |c: &crate::connection::ConnectionInfo| {
        let kind = if c.transport == "sse" { "event stream" } else { "WebSocket" };
        format!("{kind}, {}", campanile_admin_ui::pages::connections::client_words(c.user_agent.as_deref()))
    };
    Ok(ui::Live {
        user: key.user.to_string(),
        csrf: signed.token_to_act(),
        connections: listed.items.iter().map(|c| (c.conn_id.to_string(), words(c))).collect(),
        more_connections: listed.more,
        unread: feed.counts.unread,
        unseen: feed.counts.unseen,
        total: feed.counts.total,
        head: feed.head_seq,
        last_seen: s.store.last_seen(key).await?,
    })
}

async fn recent(s: &Services, signed: &Signed, key: &UserKey) -> Part<ui::Recent> {
    let filter = NotificationFilter {
        app: key.app.clone(),
        user: Some(key.user.clone()),
        limit: RECENT,
        ..NotificationFilter::default()
    };
    let readable = signed.admin.role.may_read_content();
    let found = s.store.notifications(&filter).await.map(|found| ui::Recent {
        rows: found.into_iter().map(|(row, states)| recent_row(&row, &states, readable)).collect(),
        user: key.user.to_string(),
    });
    part(s, "recent", "The last notifications", found)
}

fn recent_row(row: &NotificationRow, states: &[(ShownState, u64)], readable: bool) -> ui::RecentRow {
    let n = &row.notification;
    ui::RecentRow {
        id: n.id.to_string(),
        at: n.created_at,
        title: if readable { n.content.title.clone() } else { String::new() },
        kind: n.content.notification_type.clone(),
        tone: tone(states),
        state: states
            .iter()
            .map(|(s, k)| format!("{} {}", format::count(*k), s.as_str()))
            .collect::<Vec<_>>()
            .join(", "),
    }
}

/// The worst of them.
fn tone(states: &[(ShownState, u64)]) -> &'static str {
    let any = |wanted: &[DeliveryState]| {
        states.iter().any(|(s, n)| *n > 0 && matches!(s, ShownState::Stored(s) if wanted.contains(s)))
    };
    if any(&[DeliveryState::Dead]) {
        "bad"
    } else if any(&[DeliveryState::Retrying, DeliveryState::Expired]) {
        "warn"
    } else if any(&[DeliveryState::Sent, DeliveryState::Delivered]) {
        "ok"
    } else {
        "off"
    }
}

struct Person(String);

pub fn live(query: &live::Query) -> Box<dyn live::Live> {
    Box::new(Person(query.get("id").to_owned()))
}

#[async_trait]
impl live::Live for Person {
    async fn draw(&self, s: &Arc<Services>, signed: &Signed, out: &mut Drawn) {
        let Ok(key) = key(&self.0) else { return };
        if let Ok(live) = live_facts(s, signed, &key).await {
            out.put("live-facts", &live);
        }
        let facts = s.console.facts.get(s).await;
        out.put("foot", &foot(s, &facts));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_delivery_gives_the_tone() {
        let s = |state| (ShownState::Stored(state), 1);
        assert_eq!(tone(&[s(DeliveryState::Sent), s(DeliveryState::Dead)]), "bad");
        assert_eq!(tone(&[s(DeliveryState::Sent), s(DeliveryState::Retrying)]), "warn");
        assert_eq!(tone(&[s(DeliveryState::Delivered)]), "ok");
        assert_eq!(tone(&[(ShownState::Scheduled, 1)]), "off");
    }
}
