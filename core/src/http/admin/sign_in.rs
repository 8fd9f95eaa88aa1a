//! Signing in and out, the first password, one-time links.

use super::{
    Routes, carry, console_frame,
    gate::{LOOK, Who},
    password::{LONGEST, SHORTEST},
    session::{self, Signed, actor, safe_back},
    theme,
};
use crate::{
    http::{
        auth::Client,
        page::page,
        problem::{ApiError, ApiResult},
    },
    services::Services,
};
use axum::{
    Form,
    extract::{Query, State},
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Redirect, Response},
};
use campanile_admin_ui::pages::sign_in::{GoOn, Kept, SignIn, Welcome};
use campanile_model::ports::{Actor, Admin};
use serde::Deserialize;
use std::sync::Arc;

pub fn routes() -> Routes {
    Routes::new()
        .get("/admin/sign-in", Who::Anyone, form)
        .post("/admin/sign-in", Who::Anyone, sign_in)
        .get("/admin/welcome", Who::Anyone, welcome)
        .post("/admin/welcome", Who::Anyone, choose)
        .post("/admin/sign-out", LOOK, sign_out)
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Asked {
    back: String,
    once: String,
}

async fn form(headers: HeaderMap, Query(asked): Query<Asked>) -> ApiResult<Response> {
    page(&SignIn {
        theme: theme(&headers),
        back: safe_back(&asked.back).to_owned(),
        name: String::new(),
        error: None,
        kept: None,
    })
}

/// The way in for a form that came when its session had ended.
pub fn with(headers: &HeaderMap, kept: Kept) -> ApiResult<Response> {
    let shown = page(&SignIn {
        theme: theme(headers),
        back: "/admin".to_owned(),
        name: String::new(),
        error: None,
        kept: Some(kept),
    })?;
    Ok((StatusCode::UNAUTHORIZED, shown).into_response())
}

#[derive(Deserialize)]
struct Credentials {
    name: String,
    password: String,
    #[serde(default)]
    back: String,
    /// A form that goes along, and its target.
    #[serde(default)]
    kept: Option<String>,
    #[serde(default)]
    kept_to: String,
}

impl Credentials {
    fn kept(&self) -> Option<Kept> {
        self.kept.clone().map(|form| Kept { to: self.kept_to.clone(), form })
    }
}

async fn sign_in(
    State(s): State<Arc<Services>>,
    client: Client,
    parts: Parts,
    Form(given): Form<Credentials>,
) -> ApiResult<Response> {
    let refuse = |status: StatusCode, why: &str| -> ApiResult<Response> {
        let shown = page(&SignIn {
            theme: theme(&parts.headers),
            back: safe_back(&given.back).to_owned(),
            name: given.name.clone(),
            error: Some(why.to_owned()),
            kept: given.kept(),
        })?;
        Ok((status, shown).into_response())
    };
    if given.name.len() > 255 || given.password.len() > LONGEST {
        return refuse(StatusCode::UNAUTHORIZED, "Name or password is not right.");
    }
    if let Some(wait) = s.doorman.throttle.wait(&given.name, client.address) {
        let text = format!("Too many wrong tries. Wait {} s and try again.", wait.as_secs() + 1);
        return refuse(StatusCode::TOO_MANY_REQUESTS, &text);
    }
    let known = s.store.find_admin(&given.name).await?;
    let (admin, phc) = known.map_or((None, None), |(admin, phc)| (Some(admin), phc));
    let name = admin.as_ref().map(|a| a.name.clone());
    let fits = s.doorman.passwords.verify(given.password.clone(), phc).await;
    let Ok(fits) = fits else {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "Too many sign-ins at once. Try again in a moment.");
    };
    let Some(admin) = admin.filter(|a| fits && a.disabled_at.is_none()) else {
        s.doorman.throttle.wrong(&given.name, client.address);
        // Of accounts that exist: names can be invented at will.
        if let Some(name) = name {
            let (store, who) = (s.store.clone(), Actor { who: "stranger".to_owned(), ..actor(&s, &parts, &name) });
            // Beside the answer, whose time must not tell who exists.
            tokio::spawn(async move {
                if let Err(e) = store.note(&who, "admin.sign_in_failed", &name, None).await {
                    tracing::warn!(error = &e as &dyn std::error::Error, "A wrong sign-in was not written down");
                }
            });
        }
        return refuse(StatusCode::UNAUTHORIZED, "Name or password is not right.");
    };
    s.doorman.throttle.right(&given.name, client.address);
    if let Some(kept) = given.kept()
        && let Some(shown) = go_on(&s, &parts, &admin, kept).await?
    {
        return Ok(shown);
    }
    open(&s, &parts, &admin, page_to(&given.back)).await
}

/// Signed in, and asked about the form that came along. `None`: it is none of ours, or says what this role may not read.
async fn go_on(s: &Arc<Services>, parts: &Parts, admin: &Admin, kept: Kept) -> ApiResult<Option<Response>> {
    let fields = carry::read(super::console().entries(), &kept.to, &kept.form);
    let Some(fields) = fields.filter(|_| admin.role.may_read_content()) else { return Ok(None) };
    let (secret, hash, actor) = begin(s, parts, admin).await?;
    let signed = Signed { admin: admin.clone(), hash, csrf: session::csrf(&secret), actor };
    let facts = s.console.facts.get(s).await;
    let back = fields.iter().find(|(name, _)| name == "back").map_or("/admin", |(_, back)| page_to(back)).to_owned();
    let shown = page(&GoOn {
        frame: console_frame(s, &signed, &parts.headers, &facts, ""),
        action: kept.to,
        shown: fields.iter().filter(|(name, text)| name != "back" && !text.trim().is_empty()).cloned().collect(),
        fields,
        back,
    })?;
    Ok(Some(with_cookie(shown, session::set_cookie(session::secure(s, &parts.headers), &secret))))
}

/// Where a sign-in leads: back to the page, unless only a form draws it.
fn page_to(back: &str) -> &str {
    let path = back.split(['?', '#']).next().unwrap_or_default();
    if super::console().has_page(path) { safe_back(back) } else { "/admin" }
}

/// A session, its cookie, and on to the page.
async fn open(s: &Services, parts: &Parts, admin: &Admin, to: &str) -> ApiResult<Response> {
    let (secret, ..) = begin(s, parts, admin).await?;
    Ok(with_cookie(Redirect::to(to), session::set_cookie(session::secure(s, &parts.headers), &secret)))
}

/// A session: its secret, the hash of it, and whose it is.
async fn begin(s: &Services, parts: &Parts, admin: &Admin) -> ApiResult<(String, [u8; 32], Actor)> {
    let (secret, hash) = session::fresh();
    let agent: Option<String> =
        parts.headers.get(header::USER_AGENT).and_then(|v| v.to_str().ok()).map(|v| v.chars().take(200).collect());
    let actor = actor(s, parts, &admin.name);
    s.store.open_admin_session(hash, admin.id, *s.config.admin.session_max, agent.as_deref(), &actor).await?;
    Ok((secret, hash, actor))
}

fn with_cookie(response: impl IntoResponse, cookie: String) -> Response {
    let mut response = response.into_response();
    if let Ok(value) = HeaderValue::from_str(&cookie) {
        response.headers_mut().append(header::SET_COOKIE, value);
    }
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // The page that is come back to puts back what was typed in it only behind a sign-in.
    response.headers_mut().insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    response
}

/// `/admin?once=…` of `--dev`: signs in at once. Elsewhere a link leads to the choice of a password, since mail scanners
/// and chat previews fetch whatever they see.
pub async fn once(s: &Services, parts: &Parts, once: &str) -> ApiResult<Response> {
    if !s.dev {
        let query: String = url::form_urlencoded::Serializer::new(String::new()).append_pair("once", once).finish();
        return Ok(Redirect::to(&format!("/admin/welcome?{query}")).into_response());
    }
    match s.store.take_admin_link(session::hash(once)).await? {
        Some(admin) => open(s, parts, &admin, "/admin").await,
        None => Ok(Redirect::to("/admin").into_response()),
    }
}

async fn welcome(headers: HeaderMap, Query(asked): Query<Asked>) -> ApiResult<Response> {
    page(&Welcome { theme: theme(&headers), once: asked.once, error: None, shortest: SHORTEST })
}

#[derive(Deserialize)]
struct Chosen {
    once: String,
    password: String,
    again: String,
}

async fn choose(State(s): State<Arc<Services>>, parts: Parts, Form(given): Form<Chosen>) -> ApiResult<Response> {
    let refuse = |why: &str| -> ApiResult<Response> {
        let shown = page(&Welcome {
            theme: theme(&parts.headers),
            once: given.once.clone(),
            error: Some(why.to_owned()),
            shortest: SHORTEST,
        })?;
        Ok((StatusCode::UNPROCESSABLE_ENTITY, shown).into_response())
    };
    if given.password.chars().count() < SHORTEST || given.password.len() > LONGEST {
        return refuse(&format!("The password must have at least {SHORTEST} characters."));
    }
    if given.password != given.again {
        return refuse("The two passwords differ.");
    }
    let phc = s.doorman.passwords.hash(given.password.clone()).await.map_err(|_| {
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "too many sign-ins at once; try again in a moment")
    })?;
    // Last: a link is used up only by a password that is fine.
    let Some(admin) = s.store.take_admin_link(session::hash(&given.once)).await? else {
        return refuse("This link was used already or is too old. Ask for another: campanile admin create");
    };
    let actor = actor(&s, &parts, &admin.name);
    s.store.set_admin_password(admin.id, &phc, None, &actor).await?;
    open(&s, &parts, &admin, "/admin").await
}

async fn sign_out(State(s): State<Arc<Services>>, headers: HeaderMap, signed: Signed) -> ApiResult<Response> {
    s.store.end_admin_session(signed.hash, &signed.actor).await?;
    Ok(with_cookie(Redirect::to("/admin/sign-in"), session::clear_cookie(session::secure(&s, &headers))))
}
