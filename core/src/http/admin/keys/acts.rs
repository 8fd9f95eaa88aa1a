//! What an owner does with keys: made, rotated, restricted, revoked. A key is shown once, in the answer that made it; the
//! store has its hash.

use super::{PATH, Shown, draw, uses};
use crate::{
    http::{
        admin::{
            Signed,
            answer::{Ask, Posted, ask, done, sentence},
            base_url,
        },
        auth::{keys, proxies},
        problem::{ApiError, ApiResult, FieldError},
    },
    services::Services,
};
use axum::{
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use campanile_admin_ui::{pages::keys as ui, pieces::Toast};
use campanile_model::{
    AppId, KeyId, Timestamp,
    ports::{ApiKey, Scope},
    signal::Signal,
};
use chrono::TimeDelta;
use std::{sync::Arc, time::Duration};

const NAME_MAX: usize = 100;
/// When no window is chosen.
const OVERLAP: Duration = Duration::from_hours(24);
/// What used one key.
const ONE_KEY: u32 = 100;

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

pub async fn create(
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

/// For how long a rotated key and its successor both work.
fn overlap(posted: &Posted) -> ApiResult<Duration> {
    match posted.get("overlap") {
        "" => Ok(OVERLAP),
        hours => hours
            .parse()
            .ok()
            .filter(|h| ui::OVERLAPS.iter().any(|(known, _)| known == h))
            .map(Duration::from_hours)
            .ok_or_else(|| {
                ApiError::invalid(vec![FieldError::new("overlap", "choose one of the windows that are offered")])
            }),
    }
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

pub async fn revoke(
    State(s): State<Arc<Services>>,
    signed: Signed,
    Path(key): Path<String>,
    headers: HeaderMap,
    posted: Posted,
) -> ApiResult<Response> {
    let (id, app) = (id(&key)?, AppId::default());
    let found = s.store.find_key(id).await?.filter(|k| k.app == app && k.revoked_at.is_none());
    let Some(found) = found else { return Err(ApiError::not_found("active key")) };
    let used = used(&s, &found).await?;
    let question = Ask {
        title: format!("Revoke {}?", found.name),
        consequence: uses::consequence(&used),
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

/// What a revocation cuts off.
async fn used(s: &Services, key: &ApiKey) -> ApiResult<String> {
    let day = s.clock.now() - TimeDelta::hours(24);
    let calls = s.store.key_calls(&key.app, day).await?.into_iter().find(|c| c.key == key.id).map_or(0, |c| c.calls);
    let uses = uses::by_key(s.store.key_uses(&key.app, Some(key.id), day, ONE_KEY).await?);
    Ok(uses::cut_off(key.last_used_at, calls, uses.get(&key.id).unwrap_or(&ui::Uses::default())))
}

pub async fn restrict(
    State(s): State<Arc<Services>>,
    signed: Signed,
    Path(key): Path<String>,
    headers: HeaderMap,
    posted: Posted,
) -> ApiResult<Response> {
    let (id, app) = (id(&key)?, AppId::default());
    let networks = proxies::networks(posted.get("networks"))
        .map_err(|why| ApiError::invalid(vec![FieldError::new("networks", why)]))?;
    let before = s.store.restrict_key(&app, id, &networks, &signed.actor).await?;
    let before = before.ok_or_else(|| ApiError::not_found("active key"))?;
    s.bus.publish(Signal::KeysChanged(app));
    let from = if networks.is_empty() { "anywhere".to_owned() } else { networks.join(", ") };
    // A wrong list cuts an application off at once: the way back stands beside the message.
    let toast = Toast::ok(format!("The key works from {from}."))
        .undone_by(format!("/admin/keys/{id}/restrict"), &[("networks", before.join(", ").as_str())]);
    Ok(done(&s, &signed, &headers, PATH, toast))
}

pub async fn rotate(
    State(s): State<Arc<Services>>,
    signed: Signed,
    Path(key): Path<String>,
    headers: HeaderMap,
    posted: Posted,
) -> ApiResult<Response> {
    let (id, app) = (id(&key)?, AppId::default());
    let (now, overlap) = (s.clock.now(), overlap(&posted)?);
    let (fresh, secret) = keys::generate(app.clone(), String::new(), Vec::new(), now);
    let Some(row) = s.store.rotate_key(&app, id, fresh, overlap, &signed.actor).await? else {
        return Err(ApiError::invalid(vec![FieldError::new("key", "has ended already; make a new one")]));
    };
    s.bus.publish(Signal::KeysChanged(app));
    s.console.acted.notify_waiters();
    let ends = s.store.find_key(id).await?.and_then(|k| k.expires_at);
    let made = made(&s, &row, secret.expose(), ends);
    let shown = Shown { made: Some(made), form: ui::NewKey::default(), headers: &headers };
    Ok((StatusCode::CREATED, draw(&s, &signed, shown).await?).into_response())
}
