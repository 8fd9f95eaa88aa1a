//! Plugins: the code that this host has, and what it refused. Files come by the command line only, never by HTTP.

use crate::{
    channel::manage::PluginView,
    http::{ApiRoutes, auth::Application, extract::JsonBody, problem::ApiResult},
    services::Services,
};
use axum::{
    Json,
    extract::{Path, State},
};
use campanile_model::ports::Scope;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa_axum::routes;

pub fn routes() -> ApiRoutes {
    ApiRoutes::new()
        .routes(routes!(list_plugins))
        .routes(routes!(reload_plugin))
        .routes(routes!(promote_plugin))
        .routes(routes!(roll_back_plugin))
}

#[derive(Serialize, utoipa::ToSchema)]
struct PluginsBody {
    items: Vec<PluginView>,
}

/// Every plugin by name, with the schema of its configuration, and what was refused with its reason.
#[utoipa::path(get, path = "/plugins", tag = "operate", responses((status = 200, body = PluginsBody)))]
async fn list_plugins(State(s): State<Arc<Services>>, caller: Application) -> ApiResult<Json<PluginsBody>> {
    caller.require(Scope::Read)?;
    Ok(Json(PluginsBody { items: s.keeper.plugins() }))
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct Reload {
    /// Percent of the deliveries, 1 to 99, that the new version takes at first; everything, when it is left out.
    share: Option<u8>,
}

/// Takes a plugin's file as `plugins.lock` names it now, on all nodes. Its instances start beside the old ones; when the file
/// is refused the old ones go on, and the answer says at which step and why. With a `share` the new version is on trial: it
/// takes so much, the old one the rest, until it is promoted or rolled back, and it is taken back by itself when its process
/// ends or its breaker opens. A node that restarts meanwhile begins with the file in `plugins.lock`.
#[utoipa::path(post, path = "/plugins/{name}/reload", tag = "operate", params(("name" = String, Path)),
    request_body = Reload,
    responses((status = 200, body = PluginView), (status = 404, description = "No such plugin."),
    (status = 422, description = "The file was refused; what ran before goes on.")))]
async fn reload_plugin(
    State(s): State<Arc<Services>>,
    caller: Application,
    Path(name): Path<String>,
    JsonBody(reload): JsonBody<Reload>,
) -> ApiResult<Json<PluginView>> {
    caller.require(Scope::Manage)?;
    Ok(Json(s.keeper.reload_plugin(&name, reload.share, &caller.actor).await?))
}

/// The version on trial takes everything, on all nodes; the old one finishes what it has.
#[utoipa::path(post, path = "/plugins/{name}/promote", tag = "operate", params(("name" = String, Path)),
    responses((status = 200, body = PluginView), (status = 404, description = "No such plugin."),
    (status = 409, description = "Nothing of it is on trial.")))]
async fn promote_plugin(
    State(s): State<Arc<Services>>,
    caller: Application,
    Path(name): Path<String>,
) -> ApiResult<Json<PluginView>> {
    caller.require(Scope::Manage)?;
    Ok(Json(s.keeper.settle_trial(&name, true, &caller.actor).await?))
}

/// The version on trial is taken back, on all nodes; the version before it has everything again.
#[utoipa::path(post, path = "/plugins/{name}/rollback", tag = "operate", params(("name" = String, Path)),
    responses((status = 200, body = PluginView), (status = 404, description = "No such plugin."),
    (status = 409, description = "Nothing of it is on trial.")))]
async fn roll_back_plugin(
    State(s): State<Arc<Services>>,
    caller: Application,
    Path(name): Path<String>,
) -> ApiResult<Json<PluginView>> {
    caller.require(Scope::Manage)?;
    Ok(Json(s.keeper.settle_trial(&name, false, &caller.actor).await?))
}
