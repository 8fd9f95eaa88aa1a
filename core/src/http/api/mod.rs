//! `/api/v1`: one file per resource.

pub mod me;
pub mod notifications;
pub mod operate;
pub mod users;

use super::ApiRoutes;

/// All of it, under its prefix.
pub fn routes() -> ApiRoutes {
    ApiRoutes::new().nest(
        "/api/v1",
        ApiRoutes::new()
            .merge(notifications::routes())
            .merge(users::routes())
            .merge(me::routes())
            .merge(operate::routes()),
    )
}
