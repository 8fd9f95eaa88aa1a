//! STUB.

use crate::http::ApiRoutes;

pub fn routes() -> ApiRoutes {
    ApiRoutes::new()
}
