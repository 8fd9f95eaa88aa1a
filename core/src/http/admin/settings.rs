//! `/admin/settings`: the configuration in force with its sources, members, nodes, one's own password and looks.
//!
//! Absent on purpose: changing the configuration. It belongs to file and environment, where it is kept and reviewed.

use super::{
    Routes, Signed,
    answer::{Posted, done_elsewhere, json_file, part},
    base_url, console_frame, foot,
    gate::{LOOK, MANAGE},
    link, live, mail,
    password::{LONGEST, SHORTEST},
    session::{self, actor},
    theme,
};
use crate::{
    config::Dur,
    console::Facts,
    http::{
        page::page,
        problem::{ApiError, ApiResult, FieldError},
    },
    observe::process,
    services::Services,
};
use axum::{
    extract::{Path, RawQuery, State},
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use campanile_admin_ui::{
    format,
    pages::{
        Looks,
        settings::{self as ui, ROLES},
    },
    pieces::{Part, Tab, Tabs, Toast},
};
use campanile_model::{
    Timestamp,
    ports::{Admin, AdminChange, Role, StoreResult},
};
use serde_json::json;
use std::sync::Arc;
use uuid::Uuid;

const PATH: &str = "/admin/settings";
const YEAR_S: u32 = 31_536_000;

pub fn routes() -> Routes {
    Routes::new()
        .get(PATH, LOOK, show)
        .post("/admin/settings/password", LOOK, change_password)
        .post("/admin/settings/looks", LOOK, looks)
        .post("/admin/settings/bundle", MANAGE, bundle)
        .post("/admin/settings/members", MANAGE, invite)
        .post("/admin/settings/members/{id}/link", MANAGE, new_link)
        .post("/admin/settings/members/{id}/role", MANAGE, role)
        .post("/admin/settings/members/{id}/disable", MANAGE, disable)
        .post("/admin/settings/members/{id}/enable", MANAGE, enable)
}

async fn show(
    State(s): State<Arc<Services>>,
    signed: Signed,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let query = live::Query::parse(query.as_deref().unwrap_or_default());
    let tab = query.get("tab");
    let facts = s.console.facts.get(&s).await;
    let body = match tab {
        "members" => ui::Body::Members(members(&s, &signed, Invited::default()).await),
        mail::TAB => ui::Body::Mail(mail::tab(&s, &signed, None)),
        "nodes" => ui::Body::Nodes(nodes(&s, &facts, signed.token_to_act())),
        "you" => ui::Body::You(you(&signed, &headers, None)),
        _ => ui::Body::Configuration(configuration(&s, &signed, query.get("set") == "1")),
    };
    draw(&s, &signed, &headers, &facts, tab, body)
}

pub fn draw(
    s: &Services,
    signed: &Signed,
    headers: &HeaderMap,
    facts: &Facts,
    current: &str,
    body: ui::Body,
) -> ApiResult<Response> {
    let all = [("Configuration", ""), ("Members", "members"), ("Nodes", "nodes"), ("Mail", mail::TAB), ("You", "you")];
    let known = all.iter().any(|(_, tab)| *tab == current);
    let tab = |(label, tab): (&str, &str)| Tab {
        label: label.to_owned(),
        href: if tab.is_empty() { PATH.to_owned() } else { format!("{PATH}?tab={tab}") },
        current: tab == current || (tab.is_empty() && !known),
        ..Tab::default()
    };
    page(&ui::Settings {
        frame: console_frame(s, signed, headers, facts, PATH),
        tabs: Tabs { id: "tabs", label: "Settings", tabs: all.into_iter().map(tab).collect() },
        body,
        foot: foot(s, facts),
    })
}

// --------------------------------------------------------------------------------------------- what is in force

fn configuration(s: &Services, signed: &Signed, only_set: bool) -> ui::Configuration {
    let mut sections: Vec<ui::Section> = Vec::new();
    for setting in &s.origins.settings {
        let made = (setting.key.path() == "auth.jwt_secret" && s.config.auth.generates_secret())
            .then(|| "made by this server, kept in server.data_dir".to_owned());
        let set = setting.source.is_some() || made.is_some();
        if only_set && !set {
            continue;
        }
        if sections.last().is_none_or(|last| last.name != setting.key.section) {
            sections.push(ui::Section { name: setting.key.section.to_owned(), values: Vec::new() });
        }
        let shown = if made.is_some() { "(secret)".to_owned() } else { setting.shown.clone() };
        let value = ui::Value {
            name: setting.key.name.to_owned(),
            shown,
            source: made.or_else(|| setting.source.clone()).unwrap_or_else(|| "default".to_owned()),
            set,
            about: setting.key.path(),
        };
        if let Some(section) = sections.last_mut() {
            section.values.push(value);
        }
    }
    ui::Configuration {
        file: s.origins.file.as_ref().map(|f| f.display().to_string()),
        stale: changed_since_start(s),
        sections,
        only_set,
        tries: tries(&s.config.retry.schedule),
        csrf: managed(signed),
    }
}

/// One more than there are waits.
fn tries(schedule: &[Dur]) -> ui::Tries {
    let words = |s: f64| format::duration(s * 1_000.0).text();
    let mut tries = ui::Tries { steps: vec![("at once".to_owned(), String::new())], at: vec![0.0] };
    let mut since = 0.0;
    for wait in schedule {
        since += wait.as_secs_f64();
        tries.steps.push((format!("after {}", words(wait.as_secs_f64())), format!("{} since the first", words(since))));
        tries.at.push(since);
    }
    tries
}

/// The token for those who may manage, nothing for others.
fn managed(signed: &Signed) -> String {
    if signed.admin.role.may_manage() { signed.csrf.clone() } else { String::new() }
}

fn changed_since_start(s: &Services) -> bool {
    let written = s.origins.file.as_ref().and_then(|f| f.metadata().ok()).and_then(|m| m.modified().ok());
    written.is_some_and(|at| chrono::DateTime::<chrono::Utc>::from(at) > s.started_at)
}

fn nodes(s: &Services, facts: &Facts, csrf: String) -> ui::Nodes {
    let now = s.clock.now();
    let slow = 2 * s.config.cluster.heartbeat.as_millis() as i64;
    let up = |since: Timestamp| format::uptime((now - since).num_seconds().max(0).unsigned_abs());
    let mut rows: Vec<_> = facts
        .nodes
        .rows
        .iter()
        .map(|n| {
            let f = &n.said.figures;
            let (tone, state) = if n.said.draining {
                ("off", "giving its connections away".to_owned())
            } else if n.silent_ms > slow {
                ("warn", format!("silent for {}", format::duration(n.silent_ms as f64).text()))
            } else if f.degraded.is_empty() {
                ("ok", "well".to_owned())
            } else {
                ("warn", format!("without its {}", f.degraded.join(" and ")))
            };
            ui::NodeRow {
                id: n.said.node.to_string(),
                address: n.said.address.clone(),
                host: n.said.host.clone(),
                version: n.said.version.clone(),
                up: up(n.said.started_at),
                connections: format::count(f.connections),
                memory: f.memory_bytes.map_or_else(|| "–".to_owned(), format::bytes),
                tone,
                state,
                own: n.said.node == s.node,
            }
        })
        .collect();
    if !rows.iter().any(|r| r.own) {
        // Its first beat is on its way, or the database is away.
        rows.push(ui::NodeRow {
            id: String::new(),
            address: s.address.to_string(),
            host: "this node".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            up: up(s.started_at),
            connections: format::count(s.hub.connection_count() as u64),
            memory: process::resident_bytes().map_or_else(|| "–".to_owned(), format::bytes),
            tone: "ok",
            state: "well".to_owned(),
            own: true,
        });
    }
    let engine = if s.config.database.is_embedded() { "SQLite, embedded" } else { "PostgreSQL" };
    let size = s.store.facts().size_bytes.map(|n| format!(", {}", format::bytes(n))).unwrap_or_default();
    let system = rustix::system::uname();
    ui::Nodes {
        csrf,
        rows,
        build: vec![
            ("Version", env!("CARGO_PKG_VERSION").to_owned()),
            ("Commit", option_env!("CAMPANILE_COMMIT").unwrap_or("unknown").to_owned()),
            ("Database", format!("{engine}{size}")),
            ("Queue", scheme(s.config.queue.url.expose(), "in the database")),
            ("System", format!("{} {}", system.sysname().to_string_lossy(), system.release().to_string_lossy())),
            ("Node", s.node.to_string()),
        ],
    }
}

/// What kind of server a URL names, never where or with which password.
fn scheme(url: &str, none: &str) -> String {
    match url.split_once("://") {
        Some(("amqp" | "amqps", _)) => "RabbitMQ".to_owned(),
        _ => none.to_owned(),
    }
}

/// What somebody who helps needs to see, and nothing that must stay here: secrets are masked, people are not in it.
async fn bundle(State(s): State<Arc<Services>>, signed: Signed) -> ApiResult<Response> {
    s.store.note(&signed.actor, "support.bundle", "campanile", None).await?;
    let facts = s.console.facts.get(&s).await;
    let settings: serde_json::Map<_, _> = s
        .origins
        .settings
        .iter()
        .map(|v| (v.key.path(), json!({"value": v.shown, "source": v.source.as_deref().unwrap_or("default")})))
        .collect();
    let build: serde_json::Map<_, _> =
        nodes(&s, &facts, String::new()).build.into_iter().map(|(k, v)| (k.to_lowercase(), json!(v))).collect();
    let nodes: Vec<_> = facts
        .nodes
        .rows
        .iter()
        .map(|n| {
            json!({"version": n.said.version, "silent_ms": n.silent_ms, "draining": n.said.draining,
                        "figures": n.said.figures})
        })
        .collect();
    let queues: Vec<_> = facts.queues.values().collect();
    let chain = s.console.chain.advance(s.store.as_ref(), s.clock.now()).await.ok();
    let body = json!({
        "made_at": format::machine(s.clock.now()),
        "build": build,
        "configuration": settings,
        "nodes": nodes,
        "queues": queues,
        "pauses": facts.pauses,
        "channels": s.channels.views(),
        "database": facts.database.as_ref().map(|(since, why)| json!({"since": format::machine(since), "why": why})),
        "audit": chain.map(|c| json!({"verified_up_to": c.up_to, "broken_at": c.broken})),
        "metrics": s.metrics.render(),
    });
    json_file("campanile-support.json", &body)
}

// -------------------------------------------------------------------------------------------------------- members

/// What the form of the members' tab came to.
#[derive(Default)]
struct Invited {
    link: Option<ui::Link>,
    name: String,
    error: Option<String>,
}

async fn members(s: &Services, signed: &Signed, invited: Invited) -> Part<ui::Members> {
    let found: StoreResult<Vec<Admin>> = s.store.admins().await;
    part(
        s,
        "members",
        "The list of members",
        found.map(|all| ui::Members {
            rows: all
                .into_iter()
                .map(|a| ui::Member {
                    own: a.id == signed.admin.id,
                    id: a.id.to_string(),
                    name: a.name,
                    role: a.role,
                    disabled: a.disabled_at.is_some(),
                    has_password: a.has_password,
                    signed_in_at: a.signed_in_at,
                    created_at: a.created_at,
                })
                .collect(),
            csrf: managed(signed),
            link: invited.link,
            name: invited.name,
            error: invited.error,
        }),
    )
}

async fn members_page(
    s: &Services,
    signed: &Signed,
    headers: &HeaderMap,
    status: StatusCode,
    invited: Invited,
) -> ApiResult<Response> {
    let facts = s.console.facts.get(s).await;
    let body = ui::Body::Members(members(s, signed, invited).await);
    Ok((status, draw(s, signed, headers, &facts, "members", body)?).into_response())
}

async fn invite(
    State(s): State<Arc<Services>>,
    signed: Signed,
    headers: HeaderMap,
    posted: Posted,
) -> ApiResult<Response> {
    let name = posted.get("name").to_owned();
    let refuse = |error: String| Invited { name: name.clone(), error: Some(error), link: None };
    let wrong = StatusCode::UNPROCESSABLE_ENTITY;
    if let Err(e) = link::check_name(&name) {
        return members_page(&s, &signed, &headers, wrong, refuse(format!("The name {e}."))).await;
    }
    let Some(role) = Role::parse(posted.get("role")) else {
        return members_page(&s, &signed, &headers, wrong, refuse("Choose a role.".to_owned())).await;
    };
    if s.store.find_admin(&name).await?.is_some() {
        let error = format!("{name} is a member already; make a new link for them in the list.");
        return members_page(&s, &signed, &headers, wrong, refuse(error)).await;
    }
    make_link(&s, &signed, &headers, &name, role).await
}

async fn make_link(s: &Services, signed: &Signed, headers: &HeaderMap, name: &str, role: Role) -> ApiResult<Response> {
    let ttl = *s.config.admin.link_ttl;
    let (admin, url) = link::make(s.store.as_ref(), &base_url(s), name, role, ttl, &signed.actor).await?;
    let made = ui::Link { name: admin.name, url, hours: (ttl.as_secs() / 3_600).max(1) };
    members_page(s, signed, headers, StatusCode::CREATED, Invited { link: Some(made), ..Invited::default() }).await
}

async fn member(s: &Services, id: &str) -> ApiResult<Admin> {
    let id: Uuid = id.parse().map_err(|_| ApiError::not_found("member"))?;
    let all = s.store.admins().await?;
    all.into_iter().find(|a| a.id == id).ok_or_else(|| ApiError::not_found("member"))
}

async fn new_link(
    State(s): State<Arc<Services>>,
    signed: Signed,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let admin = member(&s, &id).await?;
    if admin.disabled_at.is_some() {
        return Err(ApiError::new(StatusCode::CONFLICT, "disabled", "this member is disabled; enable them first"));
    }
    make_link(&s, &signed, &headers, &admin.name, admin.role).await
}

async fn change(
    s: &Services,
    signed: &Signed,
    headers: &HeaderMap,
    admin: &Admin,
    role: Role,
    disabled: bool,
    words: String,
) -> ApiResult<Response> {
    match s.store.change_admin(admin.id, role, disabled, &signed.actor).await? {
        AdminChange::Done => {}
        AdminChange::NotFound => return Err(ApiError::not_found("member")),
        AdminChange::LastOwner => {
            let why = "the last owner who can sign in must stay one; make another owner first";
            return Err(ApiError::new(StatusCode::CONFLICT, "last_owner", why));
        }
    }
    Ok(done_elsewhere(s, signed, headers, &format!("{PATH}?tab=members"), Toast::ok(words)))
}

async fn role(
    State(s): State<Arc<Services>>,
    signed: Signed,
    Path(id): Path<String>,
    headers: HeaderMap,
    posted: Posted,
) -> ApiResult<Response> {
    let admin = member(&s, &id).await?;
    let Some(role) = Role::parse(posted.get("role")) else {
        let why = "must be support, viewer, operator or owner";
        return Err(ApiError::invalid(vec![FieldError::new("role", why)]));
    };
    let words = format!("{} is {} now and signs in anew.", admin.name, role.as_str());
    change(&s, &signed, &headers, &admin, role, admin.disabled_at.is_some(), words).await
}

async fn disable(
    State(s): State<Arc<Services>>,
    signed: Signed,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let admin = member(&s, &id).await?;
    let words = format!("{} is disabled; their sessions have ended.", admin.name);
    change(&s, &signed, &headers, &admin, admin.role, true, words).await
}

async fn enable(
    State(s): State<Arc<Services>>,
    signed: Signed,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let admin = member(&s, &id).await?;
    let words = format!("{} may sign in again.", admin.name);
    change(&s, &signed, &headers, &admin, admin.role, false, words).await
}

// ------------------------------------------------------------------------------------------------------------ you

fn you(signed: &Signed, headers: &HeaderMap, error: Option<String>) -> ui::You {
    ui::You {
        name: signed.admin.name.clone(),
        role: signed.admin.role.as_str(),
        about: ROLES.into_iter().find(|(r, _)| *r == signed.admin.role).map_or("", |(_, about)| about),
        csrf: signed.csrf.clone(),
        shortest: SHORTEST,
        error,
        theme: theme(headers),
        looks: super::looks(headers),
    }
}

/// Every session ends; this browser gets a new one.
async fn change_password(
    State(s): State<Arc<Services>>,
    signed: Signed,
    parts: Parts,
    posted: Posted,
) -> ApiResult<Response> {
    let busy =
        || ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "too many sign-ins at once; try again in a moment");
    let refuse = async |status: StatusCode, why: String| -> ApiResult<Response> {
        let facts = s.console.facts.get(&s).await;
        let body = ui::Body::You(you(&signed, &parts.headers, Some(why)));
        Ok((status, draw(&s, &signed, &parts.headers, &facts, "you", body)?).into_response())
    };
    let (name, password) = (&signed.admin.name, raw(&posted, "password"));
    let wrong = StatusCode::UNPROCESSABLE_ENTITY;
    if password.chars().count() < SHORTEST || password.len() > LONGEST {
        return refuse(wrong, format!("The new password must have at least {SHORTEST} characters.")).await;
    }
    if password != raw(&posted, "again") {
        return refuse(wrong, "The two new passwords differ.".to_owned()).await;
    }
    // A session that was left open must not be a way to try passwords.
    let client = crate::http::auth::Client::of(&s, &parts).map(|c| c.address);
    if let Some(wait) = client.and_then(|a| s.doorman.throttle.wait(name, a)) {
        let why = format!("Too many wrong tries. Wait {} s and try again.", wait.as_secs() + 1);
        return refuse(StatusCode::TOO_MANY_REQUESTS, why).await;
    }
    let phc = s.store.find_admin(name).await?.and_then(|(_, phc)| phc);
    if !s.doorman.passwords.verify(raw(&posted, "present").to_owned(), phc).await.map_err(|_| busy())? {
        if let Some(address) = client {
            s.doorman.throttle.wrong(name, address);
        }
        s.store.note(&signed.actor, "admin.sign_in_failed", name, None).await?;
        return refuse(StatusCode::FORBIDDEN, "The present password is not right.".to_owned()).await;
    }
    let phc = s.doorman.passwords.hash(password.to_owned()).await.map_err(|_| busy())?;
    s.store.set_admin_password(signed.admin.id, &phc, None, &signed.actor).await?;
    let (secret, hash) = session::fresh();
    let agent = parts
        .headers
        .get(header::USER_AGENT)
        .and_then(|v| v.to_str().ok())
        .map(|v| v.chars().take(200).collect::<String>());
    let actor = actor(&s, &parts, name);
    s.store.open_admin_session(hash, signed.admin.id, *s.config.admin.session_max, agent.as_deref(), &actor).await?;
    let fresh = Signed { csrf: session::csrf(&secret), hash, ..signed };
    let toast = Toast::ok("Your password is changed; your other sessions have ended.");
    let mut response = done_elsewhere(&s, &fresh, &parts.headers, &format!("{PATH}?tab=you"), toast);
    put_cookie(&mut response, &session::set_cookie(session::secure(&s, &parts.headers), &secret));
    Ok(response)
}

/// As typed: a password may begin with a space.
fn raw<'a>(posted: &'a Posted, key: &'a str) -> &'a str {
    posted.all(key).next().unwrap_or_default()
}

fn put_cookie(response: &mut Response, cookie: &str) {
    if let Ok(value) = HeaderValue::from_str(cookie) {
        response.headers_mut().append(header::SET_COOKIE, value);
    }
}

/// Nothing secret, and scripts read the theme: plain cookies of this browser.
async fn looks(
    State(s): State<Arc<Services>>,
    signed: Signed,
    headers: HeaderMap,
    posted: Posted,
) -> ApiResult<Response> {
    let on = |name| if posted.has(name) { "1" } else { "0" };
    let theme = match posted.get("theme") {
        theme @ ("light" | "dark") => theme,
        _ => "system",
    };
    let toast = Toast::ok("This browser shows it so from now on.");
    let mut response = done_elsewhere(&s, &signed, &headers, &format!("{PATH}?tab=you"), toast);
    let no_keys = if posted.has("keys") { "0" } else { "1" };
    let live = posted.get("live").parse::<u8>().ok().filter(|s| Looks::LIVE.contains(s)).unwrap_or(Looks::LIVE_DEFAULT);
    let live = live.to_string();
    let all = [
        ("live", live.as_str()),
        ("theme", theme),
        ("compact", on("compact")),
        ("utc", on("utc")),
        ("no-keys", no_keys),
    ];
    for (name, value) in all {
        put_cookie(&mut response, &format!("campanile-{name}={value}; Path=/; Max-Age={YEAR_S}; SameSite=Lax"));
    }
    Ok(response)
}
