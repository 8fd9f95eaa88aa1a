//! `/admin`: for now one page without a sign-in that says where to look. It shows nothing about anybody.

use super::{
    App,
    page::{self, page},
    problem::ApiError,
};
use crate::services::Services;
use axum::{
    extract::State,
    response::{Redirect, Response},
    routing::get,
};
use campanile_admin_ui::pages::{Frame, console::Console};
use std::sync::Arc;

pub fn routes() -> App {
    App::new().route("/", get(home)).route("/admin", get(console)).merge(page::routes())
}

/// The frame of a page at `path`.
pub fn frame(s: &Services, path: &'static str) -> Frame {
    Frame { dev: s.dev, path, version: env!("CARGO_PKG_VERSION"), address: s.address.to_string() }
}

async fn home(State(s): State<Arc<Services>>) -> Result<Redirect, ApiError> {
    enabled(&s).map(|()| Redirect::to("/admin"))
}

async fn console(State(s): State<Arc<Services>>) -> Result<Response, ApiError> {
    enabled(&s)?;
    page(&Console { frame: frame(&s, "/admin") })
}

fn enabled(s: &Services) -> Result<(), ApiError> {
    if s.config.admin.enabled { Ok(()) } else { Err(ApiError::not_found("page")) }
}
