//! `/api/v1`: one file per resource.

pub mod me;
pub mod notifications;
pub mod operate;
pub mod users;

use super::ApiRoutes;
use crate::http::problem::{ApiError, FieldError};
use std::str::FromStr;

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

/// A page's size: `default` when not given, refused outside 1 to `most`.
fn page_size(limit: Option<u32>, default: u32, most: u32) -> Result<u32, ApiError> {
    match limit.unwrap_or(default) {
        n if (1..=most).contains(&n) => Ok(n),
        _ => Err(ApiError::invalid(vec![FieldError::new("limit", format!("must be 1 to {most}"))])),
    }
}

/// An optional query parameter, parsed; an empty one counts as absent, as forms and scripts send it.
fn parsed<T: FromStr>(text: Option<&str>, field: &'static str, wanted: &'static str) -> Result<Option<T>, ApiError> {
    match text {
        None | Some("") => Ok(None),
        Some(text) => text.parse().map(Some).map_err(|_| ApiError::invalid(vec![FieldError::new(field, wanted)])),
    }
}
