//! Connections by hand: header-read timeout, connection cap, graceful close. STUB.

use crate::host::Services;
use std::sync::Arc;
use tokio::net::TcpListener;

/// Serves until `services.draining` fires, then finishes what runs.
pub async fn serve(_listener: TcpListener, _router: axum::Router, services: Arc<Services>) {
    services.draining.cancelled().await;
}
