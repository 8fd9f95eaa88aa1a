//! `/sse/notifications`: the same server messages as an event stream, where WebSockets are blocked.
//!
//! The stream is a connection like any other: same session, same limits per user, same close on expiry. Absent on
//! purpose: client messages (the API has them all).

use super::{
    App,
    handshake::{Query, admit},
    problem::ApiResult,
    ws::introduce,
};
use crate::{
    connection::{
        TransportKind,
        backend::Live,
        protocol::Protocol,
        run::run,
        session::Cursor,
        transport::{EventStream, Transport},
    },
    services::Services,
};
use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderValue, header},
    response::Response,
    routing::get,
};
use std::{convert::Infallible, sync::Arc};
use tokio::sync::oneshot;

pub fn routes() -> App {
    App::new().route("/sse/notifications", get(stream))
}

async fn stream(State(s): State<Arc<Services>>, request: Request) -> ApiResult<Response> {
    let (parts, _) = request.into_parts();
    let query = Query::of(&parts);
    let protocol = if query.v1 { Protocol::V1 } else { Protocol::Classic };
    let admitted = admit(&s, &parts, &query, TransportKind::Sse, protocol).await?;
    let last = parts.headers.get("last-event-id").and_then(|v| v.to_str().ok()).and_then(cursor);
    let resume = last.or(query.cursor);
    let (events, mut chunks) = EventStream::new();
    let transport = Transport::Stream(events);
    let (reg, mut session) = introduce(&s, admitted, true);
    let live = Live(s.clone());
    let (looking, looked) = oneshot::channel::<()>();
    s.tasks.spawn(async move {
        Box::pin(session.look(&live)).await;
        drop(looking);
        run(transport, reg, session, resume, &live).await;
    });
    // As for a socket: the answer comes when everything accepted from then on will be told.
    let _ = looked.await;
    let body = futures_util::stream::poll_fn(move |cx| chunks.poll_recv(cx).map(|c| c.map(Ok::<_, Infallible>)));
    let mut response = Response::new(Body::from_stream(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // nginx would gather events otherwise.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// `<epoch>:<seq>`. Anything else is a cursor of nowhere, so that the client learns of the gap.
fn cursor(id: &str) -> Option<Cursor> {
    if id.is_empty() {
        return None;
    }
    let (epoch, seq) = id.rsplit_once(':').unwrap_or((id, ""));
    Some(Cursor { epoch: epoch.to_owned(), since: seq.parse().unwrap_or(-1) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_event_ids() {
        let at = |epoch: &str, since| Some(Cursor { epoch: epoch.into(), since });
        assert_eq!(cursor("ab12.3:45"), at("ab12.3", 45));
        assert_eq!(cursor("junk"), at("junk", -1));
        assert_eq!(cursor(""), None);
    }
}
