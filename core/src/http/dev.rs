//! `/dev` and `/demo`: mounted only by `serve --dev`, and only for browsers on this machine.
//!
//! These pages ask nobody who they are, so the guard in front of them is all there is: the caller must be on the
//! loopback interface and must have named this server so (a foreign name is a rebinding attack), and whatever changes
//! something must come from a page of ours.

mod demo;
mod hooks;
mod mail;

use super::{
    App,
    admin::frame,
    auth::Peer,
    page::page,
    problem::{ApiError, ApiResult, FieldError},
};
use crate::{connection::close, dev::faults::Provider, services::Services};
use axum::{
    Form,
    extract::{Request, State},
    http::{HeaderMap, Method, header},
    middleware::{Next, from_fn},
    response::{
        IntoResponse, Redirect, Response,
        sse::{self, KeepAlive, Sse},
    },
    routing::{get, post},
};
use campanile_admin_ui::pages::dev::{Dev, Event};
use futures_util::{Stream, StreamExt, stream};
use serde::Deserialize;
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::sync::watch;
use url::{Host, Url};

/// Shown on the page.
const EVENTS: usize = 40;
/// The page of events is drawn anew at most so often.
const EVERY: Duration = Duration::from_secs(1);

pub fn routes() -> App {
    App::new()
        .route("/dev", get(index))
        .route("/dev/live", get(live))
        .route("/dev/provider", post(provider))
        .route("/dev/sockets", post(drop_sockets))
        .merge(demo::routes())
        .merge(hooks::routes())
        .merge(mail::routes())
        .layer(from_fn(guard))
}

async fn index(State(s): State<Arc<Services>>, headers: HeaderMap) -> ApiResult<Response> {
    let data_dir = std::path::absolute(&s.config.server.data_dir).unwrap_or_else(|_| s.config.server.data_dir.clone());
    page(&Dev {
        frame: frame(&s, &headers, "/dev"),
        hooks: s.hooks.list().len(),
        mails: s.mailbox.as_ref().map_or(0, |m| m.list().len()),
        relayed: s.mailbox.is_none(),
        data_dir: data_dir.display().to_string(),
        provider: s.mailbox.as_ref().map_or("", |m| m.faults.provider().as_str()),
        sockets: s.hub.connection_count(),
        events: events(&s),
    })
}

/// Says that something became of a delivery since it was last said.
async fn live(State(s): State<Arc<Services>>) -> Response {
    let (draining, seen) = (s.draining.clone(), s.pulse.recent(0).1);
    let news = stream::unfold((s, seen), |(s, seen)| async move {
        loop {
            tokio::time::sleep(EVERY).await;
            let newest = s.pulse.recent(0).1;
            if newest != seen {
                let event = sse::Event::default().data(newest.to_string());
                return Some((Ok::<_, Infallible>(event), (s, newest)));
            }
        }
    });
    Sse::new(news.take_until(async move { draining.cancelled().await }))
        .keep_alive(KeepAlive::default())
        .into_response()
}

/// The newest first.
fn events(s: &Services) -> Vec<Event> {
    let (events, _) = s.pulse.recent(EVENTS);
    events
        .into_iter()
        .map(|e| Event {
            at: e.at,
            channel: e.transition.channel.to_string(),
            user: e.transition.user.user.to_string(),
            state: e.transition.state.as_str(),
            detail: e.transition.reason.unwrap_or_default(),
            attempt: e.transition.attempt,
        })
        .collect()
}

#[derive(Deserialize)]
struct Switch {
    provider: String,
}

/// How the mail provider behaves from now on.
async fn provider(State(s): State<Arc<Services>>, Form(switch): Form<Switch>) -> ApiResult<Redirect> {
    let wanted = Provider::parse(&switch.provider)
        .ok_or_else(|| ApiError::invalid(vec![FieldError::new("provider", "must be well, slow or failing")]))?;
    let mailbox =
        s.mailbox.as_ref().ok_or_else(|| ApiError::not_found("caught mail: it goes to the relay of email.url"))?;
    mailbox.faults.set(wanted);
    tracing::info!("The mail provider is {} from now on", wanted.as_str());
    Ok(Redirect::to("/dev"))
}

/// As if every wire were pulled for a moment: each client comes back by itself.
async fn drop_sockets(State(s): State<Arc<Services>>) -> Redirect {
    let all = s.hub.all();
    for conn in &all {
        conn.close(close::RESTART);
    }
    tracing::info!("Dropped {} sockets on request", all.len());
    Redirect::to("/dev")
}

/// One event per change of a list; it says only that there is something to fetch.
fn changes(
    s: &Services,
    changed: Option<watch::Receiver<u64>>,
) -> Sse<impl Stream<Item = Result<sse::Event, Infallible>> + use<>> {
    let changes = stream::unfold(changed, |changed| async {
        let mut changed = changed?;
        changed.changed().await.ok()?;
        let newest = *changed.borrow_and_update();
        Some((Ok(sse::Event::default().data(newest.to_string())), Some(changed)))
    });
    // A stop of the server is not kept waiting by a page that watches.
    let draining = s.draining.clone();
    Sse::new(changes.take_until(async move { draining.cancelled().await })).keep_alive(KeepAlive::default())
}

async fn guard(request: Request, next: Next) -> ApiResult<Response> {
    let here = request.extensions().get::<Peer>().is_some_and(|p| p.0.ip().to_canonical().is_loopback());
    if !here {
        return Err(ApiError::forbidden(
            "not_local",
            "this page is only for browsers on the machine that runs the server",
        ));
    }
    check(request.method(), request.headers())?;
    Ok(next.run(request).await)
}

fn check(method: &Method, headers: &HeaderMap) -> ApiResult<()> {
    let host = text(headers, &header::HOST).unwrap_or_default();
    if !names_loopback(host) {
        return Err(ApiError::forbidden("foreign_host", "open this page as http://localhost or http://127.0.0.1"));
    }
    if method.is_safe() {
        return Ok(());
    }
    let own = [format!("http://{host}"), format!("https://{host}")];
    let origin_fits = match headers.get(header::ORIGIN) {
        Some(origin) => own.iter().any(|o| o.as_bytes() == origin.as_bytes()),
        // No browser leaves it out of a cross-site post; `curl` does.
        None => true,
    };
    let site_fits = match headers.get("sec-fetch-site") {
        Some(site) => site.as_bytes() == b"same-origin",
        None => true,
    };
    if origin_fits && site_fits {
        return Ok(());
    }
    Err(ApiError::forbidden("cross_site", "this can be posted only by a page of this server"))
}

fn names_loopback(host: &str) -> bool {
    if host.contains(['/', '@', '?', '#', '\\', ' ']) {
        return false;
    }
    let Ok(url) = Url::parse(&format!("http://{host}/")) else { return false };
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(method: &Method, pairs: &[(&'static str, &'static str)]) -> Result<(), String> {
        let headers = pairs
            .iter()
            .map(|(k, v)| (header::HeaderName::from_static(k), header::HeaderValue::from_static(v)))
            .collect();
        check(method, &headers).map_err(|e| e.code.to_owned())
    }

    #[test]
    fn a_foreign_name_for_this_machine_is_refused() {
        for good in ["localhost:8000", "127.0.0.1:8000", "[::1]:8000", "localhost"] {
            assert!(names_loopback(good), "{good}");
        }
        for bad in ["evil.example:8000", "localhost.evil.example", "", "a@localhost", "10.0.0.1:8000", "localhost/x"] {
            assert!(!names_loopback(bad), "{bad}");
        }
        assert_eq!(asked(&Method::GET, &[("host", "rebound.example:8000")]), Err("foreign_host".into()));
    }

    #[test]
    fn only_our_own_pages_may_post() {
        let host = ("host", "localhost:8000");
        let post = |pairs: &[(&'static str, &'static str)]| asked(&Method::POST, pairs);
        assert_eq!(post(&[host, ("origin", "http://localhost:8000"), ("sec-fetch-site", "same-origin")]), Ok(()));
        assert_eq!(post(&[host]), Ok(()), "curl sends neither header");
        let cross = Err("cross_site".to_owned());
        assert_eq!(post(&[host, ("origin", "http://evil.example")]), cross);
        assert_eq!(post(&[host, ("origin", "http://localhost:3000")]), cross, "another port is another page");
        assert_eq!(post(&[host, ("origin", "null")]), cross);
        assert_eq!(post(&[host, ("sec-fetch-site", "cross-site")]), cross);
        assert_eq!(post(&[host, ("sec-fetch-site", "same-site")]), cross);
    }
}
