//! Echoes WebSocket messages over the product's own handshake, framing and limits, for the RFC 6455 suite
//! (`scripts/conformance`).
//!
//! Only the message cap differs, from `CAMPANILE_ECHO_MAX_MESSAGE` (bytes), because the suite sends up to 16 MiB.
//! Prints `Listening on 127.0.0.1:PORT` and runs until it is killed.

use axum::{Router, extract::Request, response::Response, routing::get};
use campanile_core::{
    connection::{
        run::CLOSE_LIMIT,
        transport::{Incoming, Socket, Transport},
    },
    http::ws,
};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    #[expect(clippy::print_stdout, reason = "the script reads the address from here")]
    {
        println!("Listening on {address}");
    }
    axum::serve(listener, Router::new().fallback(get(upgrade))).await?;
    Ok(())
}

async fn upgrade(request: Request) -> Response {
    let max = std::env::var("CAMPANILE_ECHO_MAX_MESSAGE").ok().and_then(|v| v.parse().ok()).unwrap_or(16 * 1024);
    let (mut parts, _) = request.into_parts();
    match ws::check(&mut parts) {
        Err(refused) => refused,
        Ok((accept, on_upgrade)) => {
            tokio::spawn(async move {
                if let Ok(upgraded) = on_upgrade.await {
                    echo(Transport::Socket(Socket::server(upgraded, max).await)).await;
                }
            });
            ws::switching(&accept, false)
        }
    }
}

async fn echo(mut transport: Transport) {
    loop {
        let fed = match transport.receive().await {
            Incoming::Text(text) => transport.feed(text, None),
            Incoming::Binary(bytes) => transport.feed_binary(bytes),
            Incoming::Ping | Incoming::Pong => Ok(()),
            Incoming::Closed => return transport.finish(CLOSE_LIMIT).await,
            Incoming::Fault(fault) => return transport.close(fault.close(), CLOSE_LIMIT).await,
            Incoming::Lost => return,
        };
        if fed.is_err() || transport.flush().await.is_err() {
            return;
        }
    }
}
