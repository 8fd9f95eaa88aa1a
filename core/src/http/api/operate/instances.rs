//! Instances of channel plugins: making, changing, trying them, and the order in which a channel uses them.

use crate::{
    channel::{
        InstanceView,
        code::LogRecord,
        manage::{ChangedInstance, InstanceDetail, NewInstance, NotDone, TestMessage, TestResult, VersionView},
    },
    http::{
        ApiRoutes,
        auth::Application,
        extract::JsonBody,
        problem::{ApiError, ApiResult, FieldError},
    },
    services::Services,
};
use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use campanile_model::{ChannelName, ports::Scope};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa_axum::routes;

pub fn routes() -> ApiRoutes {
    ApiRoutes::new()
        .routes(routes!(list_instances, create_instance))
        .routes(routes!(validate_instance))
        .routes(routes!(get_instance, change_instance, delete_instance))
        .routes(routes!(enable_instance))
        .routes(routes!(disable_instance))
        .routes(routes!(restart_instance))
        .routes(routes!(reset_instance))
        .routes(routes!(test_instance))
        .routes(routes!(instance_logs))
        .routes(routes!(instance_versions))
        .routes(routes!(roll_back_instance))
        .routes(routes!(order_channel))
}

impl From<NotDone> for ApiError {
    fn from(e: NotDone) -> Self {
        let said = e.to_string();
        match e {
            NotDone::Invalid(wrong) => {
                Self::invalid(wrong.into_iter().map(|w| FieldError::new(w.field, w.message)).collect())
            }
            NotDone::NotFound(what) => Self::not_found(what),
            NotDone::Taken(_) => Self::new(StatusCode::CONFLICT, "instance_exists", said),
            NotDone::ReadOnly(_) => Self::new(StatusCode::CONFLICT, "read_only", said),
            NotDone::Stale(_) => Self::new(StatusCode::CONFLICT, "version_changed", said),
            NotDone::NotNow(_) => Self::new(StatusCode::CONFLICT, "not_now", said),
            NotDone::Refused(_) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, "plugin_refused", said),
            NotDone::Store(e) => e.into(),
        }
    }
}

#[derive(Serialize, utoipa::ToSchema)]
struct InstancesBody {
    items: Vec<InstanceView>,
}

/// Every instance as this node sees it, by channel and there in the order of failover.
#[utoipa::path(get, path = "/instances", tag = "operate", responses((status = 200, body = InstancesBody)))]
async fn list_instances(State(s): State<Arc<Services>>, caller: Application) -> ApiResult<Json<InstancesBody>> {
    caller.require(Scope::Read)?;
    Ok(Json(InstancesBody { items: s.keeper.instances() }))
}

/// Makes an instance, and its channel when that is new. 422 names what is wrong with the configuration by JSON pointer, and
/// nothing is saved; one that is saved and does not start says so in `failure` and is tried again.
#[utoipa::path(post, path = "/instances", tag = "operate", request_body = NewInstance,
    responses((status = 201, body = InstanceDetail), (status = 409, description = "The name is taken.")))]
async fn create_instance(
    State(s): State<Arc<Services>>,
    caller: Application,
    JsonBody(new): JsonBody<NewInstance>,
) -> ApiResult<(StatusCode, Json<InstanceDetail>)> {
    caller.require(Scope::Manage)?;
    Ok((StatusCode::CREATED, Json(s.keeper.create(new, &caller.actor).await?)))
}

#[derive(Serialize, utoipa::ToSchema)]
struct Valid {
    /// Always true; what is not valid is 422.
    valid: bool,
}

/// Checks an instance as it would be made or changed; saves nothing, starts nothing.
#[utoipa::path(post, path = "/instances/validate", tag = "operate", request_body = NewInstance,
    responses((status = 200, body = Valid)))]
async fn validate_instance(
    State(s): State<Arc<Services>>,
    caller: Application,
    JsonBody(new): JsonBody<NewInstance>,
) -> ApiResult<Json<Valid>> {
    caller.require(Scope::Manage)?;
    s.keeper.validate(&new).await?;
    Ok(Json(Valid { valid: true }))
}

/// One instance with its configuration, secrets masked.
#[utoipa::path(get, path = "/instances/{name}", tag = "operate", params(("name" = String, Path)),
    responses((status = 200, body = InstanceDetail), (status = 404, description = "No such instance.")))]
async fn get_instance(
    State(s): State<Arc<Services>>,
    caller: Application,
    Path(name): Path<String>,
) -> ApiResult<Json<InstanceDetail>> {
    caller.require(Scope::Read)?;
    Ok(Json(s.keeper.instance(&name).await?))
}

/// A new version. It starts beside the old one and takes its place at once; the old one finishes what it has. When the new
/// one does not start, the old one goes on and `failure` says why.
#[utoipa::path(put, path = "/instances/{name}", tag = "operate", params(("name" = String, Path)),
    request_body = ChangedInstance, responses((status = 200, body = InstanceDetail),
    (status = 404, description = "No such instance."),
    (status = 409, description = "It has another version by now, or belongs to the configuration file.")))]
async fn change_instance(
    State(s): State<Arc<Services>>,
    caller: Application,
    Path(name): Path<String>,
    JsonBody(to): JsonBody<ChangedInstance>,
) -> ApiResult<Json<InstanceDetail>> {
    caller.require(Scope::Manage)?;
    Ok(Json(s.keeper.change(&name, to, &caller.actor).await?))
}

/// Ends an instance and forgets its versions. A channel without instances is gone; what waits for it waits for its return.
#[utoipa::path(delete, path = "/instances/{name}", tag = "operate", params(("name" = String, Path)),
    responses((status = 204), (status = 404, description = "No such instance."),
    (status = 409, description = "It belongs to the configuration file.")))]
async fn delete_instance(
    State(s): State<Arc<Services>>,
    caller: Application,
    Path(name): Path<String>,
) -> ApiResult<StatusCode> {
    caller.require(Scope::Manage)?;
    s.keeper.delete(&name, &caller.actor).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Switches an instance on.
#[utoipa::path(post, path = "/instances/{name}/enable", tag = "operate", params(("name" = String, Path)),
    responses((status = 200, body = InstanceDetail), (status = 404, description = "No such instance."),
    (status = 409, description = "It belongs to the configuration file.")))]
async fn enable_instance(
    State(s): State<Arc<Services>>,
    caller: Application,
    Path(name): Path<String>,
) -> ApiResult<Json<InstanceDetail>> {
    caller.require(Scope::Manage)?;
    Ok(Json(s.keeper.enable(&name, true, &caller.actor).await?))
}

/// Switches an instance off; it finishes what it has.
#[utoipa::path(post, path = "/instances/{name}/disable", tag = "operate", params(("name" = String, Path)),
    responses((status = 200, body = InstanceDetail), (status = 404, description = "No such instance."),
    (status = 409, description = "It belongs to the configuration file.")))]
async fn disable_instance(
    State(s): State<Arc<Services>>,
    caller: Application,
    Path(name): Path<String>,
) -> ApiResult<Json<InstanceDetail>> {
    caller.require(Scope::Manage)?;
    Ok(Json(s.keeper.enable(&name, false, &caller.actor).await?))
}

/// Starts an instance anew beside the old one, on all nodes; secrets are read again.
#[utoipa::path(post, path = "/instances/{name}/restart", tag = "operate", params(("name" = String, Path)),
    responses((status = 200, body = InstanceView), (status = 404, description = "No such instance."),
    (status = 409, description = "It is switched off.")))]
async fn restart_instance(
    State(s): State<Arc<Services>>,
    caller: Application,
    Path(name): Path<String>,
) -> ApiResult<Json<InstanceView>> {
    caller.require(Scope::Manage)?;
    Ok(Json(s.keeper.restart(&name, &caller.actor).await?))
}

#[derive(Serialize, utoipa::ToSchema)]
struct InstanceReset {
    instance: String,
    /// Always `trying`.
    #[schema(example = "trying")]
    breaker: &'static str,
}

/// Lets an instance whose breaker is open try one delivery at once, on every node.
#[utoipa::path(post, path = "/instances/{name}/reset", tag = "operate", params(("name" = String, Path)),
    responses((status = 200, body = InstanceReset), (status = 404, description = "No such instance.")))]
async fn reset_instance(
    State(s): State<Arc<Services>>,
    caller: Application,
    Path(name): Path<String>,
) -> ApiResult<Json<InstanceReset>> {
    caller.require(Scope::Manage)?;
    s.keeper.reset(&name, &caller.actor).await?;
    Ok(Json(InstanceReset { instance: name, breaker: "trying" }))
}

/// Sends one message by this instance at once, past its breaker, and answers what its provider said. Nothing is stored.
#[utoipa::path(post, path = "/instances/{name}/test", tag = "operate", params(("name" = String, Path)),
    request_body = TestMessage, responses((status = 200, body = TestResult),
    (status = 404, description = "No such instance."), (status = 409, description = "It does not run.")))]
async fn test_instance(
    State(s): State<Arc<Services>>,
    caller: Application,
    Path(name): Path<String>,
    JsonBody(what): JsonBody<TestMessage>,
) -> ApiResult<Json<TestResult>> {
    caller.require(Scope::Manage)?;
    s.store.note(&caller.actor, "instance.test", &name, None).await?;
    Ok(Json(s.keeper.test(&s.renderer, &name, what).await?))
}

#[derive(Serialize, utoipa::ToSchema)]
struct LogsBody {
    items: Vec<LogRecord>,
}

/// The newest lines that an instance wrote at this node, oldest first.
#[utoipa::path(get, path = "/instances/{name}/logs", tag = "operate", params(("name" = String, Path)),
    responses((status = 200, body = LogsBody), (status = 404, description = "No such instance.")))]
async fn instance_logs(
    State(s): State<Arc<Services>>,
    caller: Application,
    Path(name): Path<String>,
) -> ApiResult<Json<LogsBody>> {
    caller.require(Scope::Read)?;
    Ok(Json(LogsBody { items: s.keeper.logs(&name)? }))
}

#[derive(Serialize, utoipa::ToSchema)]
struct VersionsBody {
    items: Vec<VersionView>,
}

/// The versions of an instance's configuration, newest first.
#[utoipa::path(get, path = "/instances/{name}/versions", tag = "operate", params(("name" = String, Path)),
    responses((status = 200, body = VersionsBody), (status = 404, description = "No such instance."),
    (status = 409, description = "It belongs to the configuration file.")))]
async fn instance_versions(
    State(s): State<Arc<Services>>,
    caller: Application,
    Path(name): Path<String>,
) -> ApiResult<Json<VersionsBody>> {
    caller.require(Scope::Read)?;
    Ok(Json(VersionsBody { items: s.keeper.versions(&name).await? }))
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct RollBack {
    /// The version to go back to.
    version: u64,
}

/// Makes an older version's configuration the newest version.
#[utoipa::path(post, path = "/instances/{name}/roll_back", tag = "operate", params(("name" = String, Path)),
    request_body = RollBack, responses((status = 200, body = InstanceDetail),
    (status = 404, description = "No such instance, or no such version of it."),
    (status = 409, description = "It belongs to the configuration file.")))]
async fn roll_back_instance(
    State(s): State<Arc<Services>>,
    caller: Application,
    Path(name): Path<String>,
    JsonBody(to): JsonBody<RollBack>,
) -> ApiResult<Json<InstanceDetail>> {
    caller.require(Scope::Manage)?;
    Ok(Json(s.keeper.roll_back(&name, to.version, &caller.actor).await?))
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct Order {
    /// All instances of the channel, the one to be tried first in front.
    instances: Vec<String>,
}

/// The order in which a channel tries its instances.
#[utoipa::path(put, path = "/channels/{name}/order", tag = "operate", params(("name" = String, Path)),
    request_body = Order, responses((status = 200, body = InstancesBody), (status = 404, description = "No such channel.")))]
async fn order_channel(
    State(s): State<Arc<Services>>,
    caller: Application,
    Path(name): Path<String>,
    JsonBody(order): JsonBody<Order>,
) -> ApiResult<Json<InstancesBody>> {
    caller.require(Scope::Manage)?;
    let items = s.keeper.order(&ChannelName::from(name.as_str()), order.instances, &caller.actor).await?;
    Ok(Json(InstancesBody { items }))
}
