//! `/ws/notifications`: the upgrade. What is said afterwards is the connection's.

use super::{
    App,
    handshake::{Admitted, Query, Refusal, admit, subprotocols},
    problem::ApiError,
};
use crate::{
    connection::{
        TransportKind,
        backend::Live,
        close::Close,
        hub::Registration,
        protocol::Protocol,
        run::{CLOSE_LIMIT, run},
        session::{Cursor, Session},
        transport::{Socket, Transport},
    },
    services::Services,
};
use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
    routing::get,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use hyper::upgrade::OnUpgrade;
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// The subprotocol of v1.
const V1: &str = "campanile.v1";

pub fn routes() -> App {
    App::new().route("/ws/notifications", get(upgrade))
}

async fn upgrade(State(s): State<Arc<Services>>, request: Request) -> Response {
    let (mut parts, _) = request.into_parts();
    let (accept, on_upgrade) = match check(&mut parts) {
        Ok(checked) => checked,
        Err(refused) => return refused,
    };
    let query = Query::of(&parts);
    let named = subprotocols(&parts.headers).any(|p| p == V1);
    let protocol = if named || query.v1 { Protocol::V1 } else { Protocol::Classic };
    match admit(&s, &parts, &query, TransportKind::WebSocket, protocol).await {
        Ok(admitted) => {
            let resume = query.cursor.filter(|_| protocol == Protocol::V1);
            // Here, not after the upgrade: who asked first is older, and no push can fall between this and the read of
            // the feed.
            let (reg, session) = introduce(&s, admitted, false);
            let (looking, looked) = oneshot::channel();
            s.tasks.spawn(serve(s.clone(), on_upgrade, looking, reg, session, resume));
            // Whoever sees its socket open is told of everything that is accepted from then on.
            let _ = looked.await;
            switching(&accept, named)
        }
        Err(refused) => match refused.close().filter(|_| protocol == Protocol::V1) {
            Some(close) => {
                s.tasks.spawn(refuse(on_upgrade, s.hub.limits().max_message, close));
                switching(&accept, named)
            }
            None => refusal(refused),
        },
    }
}

fn refusal(refused: Refusal) -> Response {
    if let Refusal::Origin(why) = &refused {
        tracing::info!("A live connection was refused: {why}");
    }
    ApiError::from(refused).into_response()
}

async fn serve(
    s: Arc<Services>,
    on_upgrade: OnUpgrade,
    looking: oneshot::Sender<()>,
    reg: Registration,
    mut session: Box<Session>,
    resume: Option<Cursor>,
) {
    Box::pin(session.look(&Live(s.clone()))).await;
    drop(looking);
    let Ok(upgraded) = on_upgrade.await else {
        // The client went away between its request and our answer.
        return reg.leave("lost");
    };
    let transport = Transport::Socket(Box::pin(Socket::server(upgraded, s.hub.limits().max_message)).await);
    run(transport, reg, session, resume, &Live(s)).await;
}

/// Makes a connection known to the hub, and its session.
pub fn introduce(s: &Services, admitted: Admitted, stream: bool) -> (Registration, Box<Session>) {
    let reg = s.hub.register(admitted.visitor, s.clock.now());
    let conn = reg.conn();
    let session =
        Session::new(conn.id, conn.user.clone(), conn.protocol, stream, s.hub.limits().rules, admitted.credential);
    (reg, Box::new(session))
}

async fn refuse(on_upgrade: OnUpgrade, max_message: usize, close: Close) {
    if let Ok(upgraded) = on_upgrade.await {
        let socket = Socket::server(upgraded, max_message).await;
        Transport::Socket(socket).close(close, CLOSE_LIMIT).await;
    }
}

/// RFC 6455 §4.2.1, or an answer that says what is missing.
pub fn check(parts: &mut Parts) -> Result<(String, OnUpgrade), Response> {
    let asks = parts.method == Method::GET
        && has_token(&parts.headers, header::CONNECTION, "upgrade")
        && has_token(&parts.headers, header::UPGRADE, "websocket");
    let version = parts.headers.get(header::SEC_WEBSOCKET_VERSION).is_some_and(|v| v.as_bytes() == b"13");
    let on_upgrade = parts.extensions.remove::<OnUpgrade>();
    let (true, true, Some(on_upgrade)) = (asks, version, on_upgrade) else {
        let detail = "this address speaks WebSocket, version 13; for event streams use /sse/notifications";
        let mut answer = ApiError::new(StatusCode::UPGRADE_REQUIRED, "upgrade_required", detail).into_response();
        let headers = answer.headers_mut();
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        return Err(answer);
    };
    let key = parts.headers.get(header::SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes);
    match key {
        Some(key) if BASE64_STANDARD.decode(key).is_ok_and(|k| k.len() == 16) => {
            Ok((derive_accept_key(key), on_upgrade))
        }
        _ => Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            "bad_handshake",
            "Sec-WebSocket-Key: must be 16 bytes in base64",
        )
        .into_response()),
    }
}

fn has_token(headers: &HeaderMap, name: header::HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .any(|v| v.trim().eq_ignore_ascii_case(token))
}

/// `bearer.<jwt>` is a credential, so it is never echoed.
pub fn switching(accept: &str, named: bool) -> Response {
    let mut answer = StatusCode::SWITCHING_PROTOCOLS.into_response();
    let headers = answer.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::from_str(accept) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    if named {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(V1));
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size<T>(
        _: impl FnOnce(Arc<Services>, OnUpgrade, oneshot::Sender<()>, Registration, Box<Session>) -> T,
    ) -> usize {
        size_of::<T>()
    }

    /// Ten thousand idle sockets are ten thousand of these.
    #[test]
    fn the_task_of_a_socket_is_small() {
        let bytes = size(|s, upgrade, looking, reg, session| serve(s, upgrade, looking, reg, session, None));
        assert!(bytes <= 1536, "{bytes} bytes");
    }
}
