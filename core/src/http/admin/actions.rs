//! What an operator does from any page: pause and resume a channel, let its breaker try.

use super::{
    Routes, Signed,
    answer::{Posted, done},
    gate::ACT,
    pause,
};
use crate::{http::problem::ApiResult, services::Services};
use axum::{
    extract::{Path, State},
    http::HeaderMap,
    response::Response,
};
use campanile_admin_ui::pieces::Toast;
use campanile_model::{ports::Role, signal::Signal};
use std::sync::Arc;

pub fn routes() -> Routes {
    Routes::new()
        .post("/admin/channels/{channel}/pause", ACT, pause::pause)
        .post("/admin/channels/{channel}/resume", ACT, pause::resume)
        .post("/admin/channels/{channel}/reset", ACT, reset)
}

/// Lets an open breaker try one delivery at once, on every node.
async fn reset(
    State(s): State<Arc<Services>>,
    signed: Signed,
    Path(channel): Path<String>,
    headers: HeaderMap,
    posted: Posted,
) -> ApiResult<Response> {
    signed.may(&posted, Role::Operator)?;
    let name = pause::known(&s, &channel)?;
    s.store.note(&signed.actor, "channel.reset", &channel, None).await?;
    s.bus.publish(Signal::BreakerReset(name));
    let toast = Toast::ok(format!("{channel} tries one delivery now; if it arrives, the rest follows."));
    Ok(done(&s, &signed, &headers, posted.get("back"), toast))
}
