//! Plugins: the code that this host has, and what it refused. Files come by the command line only, never by HTTP.

use crate::{
    channel::manage::PluginView,
    http::{ApiRoutes, auth::Application, problem::ApiResult},
    services::Services,
};
use axum::{
    Json,
    extract::{Path, State},
};
use campanile_model::ports::Scope;
use serde::Serialize;
use std::sync::Arc;
use utoipa_axum::routes;

pub fn routes() -> ApiRoutes {
    ApiRoutes::new().routes(routes!(list_plugins)).routes(routes!(reload_plugin))
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

/// Takes a plugin's file as `plugins.lock` names it now, on all nodes. Its instances start beside the old ones; when the file
/// is refused the old ones go on, and the answer says at which step and why.
#[utoipa::path(post, path = "/plugins/{name}/reload", tag = "operate", params(("name" = String, Path)),
    responses((status = 200, body = PluginView), (status = 404, description = "No such plugin."),
    (status = 422, description = "The file was refused; what ran before goes on.")))]
async fn reload_plugin(
    State(s): State<Arc<Services>>,
    caller: Application,
    Path(name): Path<String>,
) -> ApiResult<Json<PluginView>> {
    caller.require(Scope::Manage)?;
    Ok(Json(s.keeper.reload_plugin(&name, &caller.actor).await?))
}
