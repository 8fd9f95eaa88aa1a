//! Another user merged into the one whose page it is: asked first, since nothing takes it back.

use super::{key, url};
use crate::{
    http::{
        admin::{
            Signed,
            answer::{Ask, Posted, ask, done_elsewhere},
            notifications::counted,
        },
        api::users::other_user,
        problem::{ApiError, ApiResult, FieldError},
    },
    services::Services,
};
use axum::{
    extract::{Path, State},
    http::HeaderMap,
    response::Response,
};
use campanile_admin_ui::pieces::Toast;
use campanile_model::{UserId, UserKey, ports::Merged};
use std::sync::Arc;

pub async fn merge(
    State(s): State<Arc<Services>>,
    signed: Signed,
    Path(id): Path<String>,
    headers: HeaderMap,
    posted: Posted,
) -> ApiResult<Response> {
    let into = key(&id)?;
    let user =
        other_user(posted.get("from"), &into.user).map_err(|e| ApiError::invalid(vec![FieldError::new("from", e)]))?;
    let question = Ask {
        title: format!("Merge {user} into {}?", into.user),
        consequence: format!(
            "Everything of {user} becomes {into}'s: deliveries, feed, what they unsubscribed from, and contact points that \
             {into} has not. Nobody knows {user} afterwards, and nothing takes it back.",
            into = into.user
        ),
        label: "Merge".to_owned(),
        word: "merge",
        count: 1,
        action: format!("{}/merge", url(&into)),
    };
    if let Some(page) = ask(&s, &signed, &headers, &posted, question).await? {
        return Ok(page);
    }
    let from = UserKey { app: into.app.clone(), user };
    let Some(merged) = s.status.merge(&from, &into, &signed.actor).await? else {
        return Err(ApiError::not_found("user"));
    };
    Ok(done_elsewhere(&s, &signed, &headers, &url(&into), told(&from.user, &into.user, &merged)))
}

fn told(from: &UserId, into: &UserId, merged: &Merged) -> Toast {
    let flight = match merged.in_flight {
        0 => String::new(),
        n => format!(" {n} on their way could not be called back."),
    };
    Toast::ok(format!(
        "{from} is merged into {into}: {} and {} moved, {} cancelled as {into} has them too.{flight}",
        counted(merged.moved, "delivery"),
        counted(merged.feed_items, "feed item"),
        merged.cancelled
    ))
}
