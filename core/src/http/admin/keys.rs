//! `/admin/keys`: API keys of applications. A key is shown once, in the answer that made it; the store has its hash.

use super::{
    Routes, Signed,
    answer::{Ask, Posted, ask, done, part, sentence},
    base_url, console_frame, foot,
    gate::{LOOK, MANAGE},
    live::{self, Drawn, Live},
};
use crate::{
    http::{
        auth::{keys, proxies},
        page::page,
        problem::{ApiError, ApiResult, FieldError},
    },
    services::Services,
};
use async_trait::async_trait;
use axum::{
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use campanile_admin_ui::{
    pages::keys as ui,
    pieces::{Empty, Part, Toast},
};
use campanile_model::{
    AppId, KeyId, Timestamp,
    ports::{ApiKey, KeyCalls, Scope, StoreError},
    signal::Signal,
};
use chrono::TimeDelta;
use std::{collections::HashMap, sync::Arc, time::Duration};

const PATH: &str = "/admin/keys";
const NAME_MAX: usize = 100;
/// How long a rotated key and its successor both work.
const OVERLAP: Duration = Duration::from_hours(24);
/// Ended ones that are still shown.
const ENDED: usize = 20;

pub fn routes() -> Routes {
    Routes::new()
        .get(PATH, LOOK, show)
        .post(PATH, MANAGE, create)
        .post("/admin/keys/{id}/restrict", MANAGE, restrict)
        .post("/admin/keys/{id}/revoke", MANAGE, revoke)
        .post("/admin/keys/{id}/rotate", MANAGE, rotate)
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
        let calls = s.store.key_calls(&app, now - TimeDelta::hours(24)).await?;
        let calls: HashMap<_, _> = calls.into_iter().map(|c| (c.key, c)).collect();
        Ok::<_, StoreError>((s.store.list_keys(&app).await?, calls))
    };
    part(
        s,
        "list",
        "The list of keys",
        read.await.map(|(mut all, calls)| {
            all.reverse();
            let mut rows: Vec<_> = all.into_iter().map(|k| row(k, &calls, now)).collect();
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

fn row(k: ApiKey, calls: &HashMap<KeyId, KeyCalls>, now: Timestamp) -> ui::Row {
    let state = match (k.revoked_at, k.expires_at) {
        (Some(_), _) => ui::State::Revoked,
        (None, Some(at)) if at <= now => ui::State::Expired,
        (None, Some(at)) if at - now < TimeDelta::days(7) => ui::State::Ending,
        _ => ui::State::Active,
    };
    let id = k.id.0.simple().to_string();
    let calls = calls.get(&k.id);
    ui::Row {
        calls: calls.map_or(0, |c| c.calls),
        refused: calls.map_or(0, |c| c.refused),
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

struct Wanted {
    name: String,
    scopes: Vec<Scope>,
    days: Option<i64>,
    networks: Vec<String>,
}

/// The form, read; its complaints are shown beside the fields.
fn read(posted: &Posted) -> Result<Wanted, ui::NewKey> {
    let scopes: Vec<_> = posted.all("scopes").map(str::to_owned).collect();
    let mut form = ui::NewKey {
        name: posted.get("name").to_owned(),
        scopes: scopes.clone(),
        expires: posted.get("expires").to_owned(),
        networks: posted.get("networks").to_owned(),
        errors: Vec::new(),
    };
    let mut wrong = |field: &str, why: &str| form.errors.push((field.to_owned(), why.to_owned()));
    let name = posted.get("name");
    if name.is_empty() || name.chars().count() > NAME_MAX || name.chars().any(char::is_control) {
        wrong("name", "Give it a name of 1 to 100 characters.");
    }
    let scopes: Vec<_> = Scope::ALL.into_iter().filter(|s| scopes.iter().any(|t| t == s.as_str())).collect();
    if scopes.is_empty() {
        wrong("scopes", "Choose at least one scope.");
    }
    let days = match posted.get("expires") {
        "" => Some(None),
        days => days.parse().ok().filter(|d| (1..=3_650).contains(d)).map(Some),
    };
    if days.is_none() {
        wrong("expires", "Must be a number of days, at most 3,650.");
    }
    let networks = proxies::networks(posted.get("networks"));
    if let Err(why) = &networks {
        wrong("networks", &sentence(why));
    }
    match (days, networks) {
        (Some(days), Ok(networks)) if form.errors.is_empty() => {
            Ok(Wanted { name: name.to_owned(), scopes, days, networks })
        }
        _ => Err(form),
    }
}

async fn create(
    State(s): State<Arc<Services>>,
    signed: Signed,
    headers: HeaderMap,
    posted: Posted,
) -> ApiResult<Response> {
    let Wanted { name, scopes, days, networks } = match read(&posted) {
        Ok(new) => new,
        Err(form) => {
            let shown = draw(&s, &signed, Shown { made: None, form, headers: &headers }).await?;
            return Ok((StatusCode::UNPROCESSABLE_ENTITY, shown).into_response());
        }
    };
    let now = s.clock.now();
    let app = AppId::default();
    let (mut row, key) = keys::generate(app.clone(), name, scopes, now);
    row.expires_at = days.map(|d| now + TimeDelta::days(d));
    row.networks = networks;
    let made = made(&s, &row, key.expose(), None);
    s.store.create_key(row, &signed.actor).await?;
    s.bus.publish(Signal::KeysChanged(app));
    s.console.acted.notify_waiters();
    let shown = Shown { made: Some(made), form: ui::NewKey::default(), headers: &headers };
    Ok((StatusCode::CREATED, draw(&s, &signed, shown).await?).into_response())
}

fn made(s: &Services, row: &ApiKey, key: &str, before_ends: Option<Timestamp>) -> ui::Made {
    let base = base_url(s);
    let curl = if row.scopes.contains(&Scope::Send) {
        format!(
            "curl {base}/api/v1/notifications \\\n  -H 'Authorization: Bearer {key}' \\\n  \
             -H 'Content-Type: application/json' \\\n  -d '{{\"user_id\":\"ada\",\"title\":\"Hello\"}}'"
        )
    } else if row.scopes.contains(&Scope::Read) {
        format!("curl {base}/api/v1/notifications -H 'Authorization: Bearer {key}'")
    } else {
        format!("curl {base}/api/v1/users/ada -H 'Authorization: Bearer {key}'")
    };
    ui::Made { name: row.name.clone(), key: key.to_owned(), curl, before_ends }
}

fn id(text: &str) -> ApiResult<KeyId> {
    text.parse().map_err(|_| ApiError::not_found("key"))
}

async fn revoke(
    State(s): State<Arc<Services>>,
    signed: Signed,
    Path(key): Path<String>,
    headers: HeaderMap,
    posted: Posted,
) -> ApiResult<Response> {
    let (id, app) = (id(&key)?, AppId::default());
    let found = s.store.find_key(id).await?.filter(|k| k.app == app && k.revoked_at.is_none());
    let Some(found) = found else { return Err(ApiError::not_found("active key")) };
    let used = found.last_used_at.map_or_else(
        || "It was never used.".to_owned(),
        |at| format!("It was last used on {} UTC.", campanile_admin_ui::format::day_clock(at)),
    );
    let question = Ask {
        title: format!("Revoke {}?", found.name),
        consequence: format!("{used} Calls with it fail from now on, on all nodes."),
        label: "Revoke".to_owned(),
        word: "revoke",
        count: 1,
        action: format!("/admin/keys/{id}/revoke"),
    };
    if let Some(page) = ask(&s, &signed, &headers, &posted, question).await? {
        return Ok(page);
    }
    if !s.store.revoke_key(&app, id, &signed.actor).await? {
        return Err(ApiError::not_found("active key"));
    }
    s.bus.publish(Signal::KeysChanged(app));
    let toast = Toast::ok(format!("The key {} is revoked. {used}", found.name));
    Ok(done(&s, &signed, &headers, PATH, toast))
}

async fn restrict(
    State(s): State<Arc<Services>>,
    signed: Signed,
    Path(key): Path<String>,
    headers: HeaderMap,
    posted: Posted,
) -> ApiResult<Response> {
    let (id, app) = (id(&key)?, AppId::default());
    let networks = proxies::networks(posted.get("networks"))
        .map_err(|why| ApiError::invalid(vec![FieldError::new("networks", why)]))?;
    if !s.store.restrict_key(&app, id, &networks, &signed.actor).await? {
        return Err(ApiError::not_found("active key"));
    }
    s.bus.publish(Signal::KeysChanged(app));
    let from = if networks.is_empty() { "anywhere".to_owned() } else { networks.join(", ") };
    Ok(done(&s, &signed, &headers, PATH, Toast::ok(format!("The key works from {from}."))))
}

async fn rotate(
    State(s): State<Arc<Services>>,
    signed: Signed,
    Path(key): Path<String>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let (id, app) = (id(&key)?, AppId::default());
    let now = s.clock.now();
    let (fresh, secret) = keys::generate(app.clone(), String::new(), Vec::new(), now);
    let Some(row) = s.store.rotate_key(&app, id, fresh, OVERLAP, &signed.actor).await? else {
        return Err(ApiError::invalid(vec![FieldError::new("key", "has ended already; make a new one")]));
    };
    s.bus.publish(Signal::KeysChanged(app));
    s.console.acted.notify_waiters();
    let ends = s.store.find_key(id).await?.and_then(|k| k.expires_at);
    let made = made(&s, &row, secret.expose(), ends);
    let shown = Shown { made: Some(made), form: ui::NewKey::default(), headers: &headers };
    Ok((StatusCode::CREATED, draw(&s, &signed, shown).await?).into_response())
}
