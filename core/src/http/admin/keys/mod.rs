//! `/admin/keys`: API keys of applications, and what they did within a day.

mod acts;
mod leak;
mod uses;

use super::{
    Routes, Signed,
    answer::part,
    console_frame, foot,
    gate::{LOOK, MANAGE},
    live::{self, Drawn, Live},
};
use crate::{
    http::{page::page, problem::ApiResult},
    services::Services,
};
use async_trait::async_trait;
use axum::{extract::State, http::HeaderMap, response::Response};
use campanile_admin_ui::{
    pages::keys as ui,
    pieces::{Empty, Part},
};
use campanile_model::{
    AppId, Timestamp,
    ports::{ApiKey, KeyCalls, StoreError},
};
use chrono::TimeDelta;
use std::{collections::HashMap, sync::Arc};

const PATH: &str = "/admin/keys";
/// Ended ones that are still shown.
const ENDED: usize = 20;
/// What used keys, in rows of the list: the most used of all.
const USES: u32 = 1_000;

pub fn routes() -> Routes {
    Routes::new()
        .get(PATH, LOOK, show)
        .post(PATH, MANAGE, acts::create)
        .post("/admin/keys/{id}/restrict", MANAGE, acts::restrict)
        .post("/admin/keys/{id}/revoke", MANAGE, acts::revoke)
        .post("/admin/keys/{id}/rotate", MANAGE, acts::rotate)
}

struct Shown<'a> {
    made: Option<ui::Made>,
    form: ui::NewKey,
    headers: &'a HeaderMap,
}

async fn show(State(s): State<Arc<Services>>, signed: Signed, headers: HeaderMap) -> ApiResult<Response> {
    draw(&s, &signed, Shown { made: None, form: ui::NewKey::default(), headers: &headers }).await
}

async fn draw(s: &Arc<Services>, signed: &Signed, shown: Shown<'_>) -> ApiResult<Response> {
    let facts = s.console.facts.get(s).await;
    page(&ui::Keys {
        frame: console_frame(s, signed, shown.headers, &facts, PATH),
        made: shown.made,
        form: shown.form,
        list: list(s, signed).await,
        may_manage: signed.admin.role.may_manage(),
        foot: foot(s, &facts),
    })
}

struct Page;

pub fn live(_: &live::Query) -> Box<dyn Live> {
    Box::new(Page)
}

#[async_trait]
impl Live for Page {
    async fn draw(&self, s: &Arc<Services>, signed: &Signed, out: &mut Drawn) {
        out.part("list", list(s, signed).await);
        let facts = s.console.facts.get(s).await;
        out.put("foot", &foot(s, &facts));
    }
}

async fn list(s: &Services, signed: &Signed) -> Part<ui::List> {
    let csrf = if signed.admin.role.may_manage() { signed.csrf.clone() } else { String::new() };
    let now = s.clock.now();
    let app = AppId::default();
    let read = async {
        let day = now - TimeDelta::hours(24);
        let calls = s.store.key_calls(&app, day).await?;
        let calls: HashMap<_, _> = calls.into_iter().map(|c| (c.key, c)).collect();
        let uses = uses::by_key(s.store.key_uses(&app, None, day, USES).await?);
        Ok::<_, StoreError>((s.store.list_keys(&app).await?, calls, uses))
    };
    part(
        s,
        "list",
        "The list of keys",
        read.await.map(|(mut all, calls, mut uses)| {
            all.reverse();
            let mut rows: Vec<_> =
                all.into_iter().map(|k| row(calls.get(&k.id), uses.remove(&k.id).unwrap_or_default(), k, now)).collect();
            // What works stands first; the sort keeps the newest of each kind at the top.
            rows.sort_by_key(|r| !r.state.works());
            let working = rows.iter().filter(|r| r.state.works()).count();
            rows.truncate(working + ENDED);
            let empty = rows.is_empty().then(|| Empty {
                title: "No keys yet".to_owned(),
                why: "An application calls with a key of its own. Its scopes say what it may: send accepts notifications, \
                      read looks at them, manage changes users, keys and channels."
                    .to_owned(),
                command: Some("campanile key create --name app --scopes send,read".to_owned()),
                clear: None,
            });
            ui::List { rows, csrf, empty }
        }),
    )
}

fn row(calls: Option<&KeyCalls>, uses: ui::Uses, k: ApiKey, now: Timestamp) -> ui::Row {
    let state = match (k.revoked_at, k.expires_at) {
        (Some(_), _) => ui::State::Revoked,
        (None, Some(at)) if at <= now => ui::State::Expired,
        (None, Some(at)) if at - now < TimeDelta::days(7) => ui::State::Ending,
        _ => ui::State::Active,
    };
    let id = k.id.0.simple().to_string();
    let cut_off = uses::cut_off(k.last_used_at, calls.map_or(0, |c| c.calls), &uses);
    ui::Row {
        calls: calls.map_or(0, |c| c.calls),
        consequence: uses::consequence(&cut_off),
        refused: calls.map_or(0, |c| c.refused),
        flag: calls.and_then(|c| leak::looks(c, state.works())),
        uses,
        used_from: k.last_used_from.unwrap_or_default(),
        used_for: k.last_used_for.unwrap_or_default(),
        networks: k.networks,
        id: k.id.to_string(),
        name: k.name,
        prefix: format!("cmp_{}…", &id[..12]),
        scopes: k.scopes.iter().map(|s| s.as_str()).collect(),
        created_by: k.created_by.map_or_else(|| "–".to_owned(), |who| who.trim_start_matches("admin:").to_owned()),
        created_at: k.created_at,
        last_used: k.last_used_at,
        expires_at: k.expires_at,
        state,
    }
}
