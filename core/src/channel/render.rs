//! Host-side rendering of what a channel sends. STUB.

use crate::{config::Config, observe::Metrics};
use campanile_model::work::Claimed;
use std::sync::Arc;

/// What a channel's [`campanile_plugin::Delivery`] borrows from.
#[derive(Clone, Debug, Default)]
pub struct Rendered {
    pub subject: String,
    pub text: String,
    pub html: String,
    pub message: serde_json::Value,
}

#[derive(Debug, thiserror::Error)]
#[error("template {template}: {message}")]
pub struct RenderError {
    pub template: String,
    pub message: String,
}

pub struct Renderer {}

impl Renderer {
    /// Compiles every template; a broken one is an error at start.
    pub fn new(_config: &Config, _metrics: Arc<Metrics>) -> anyhow::Result<Arc<Self>> {
        Ok(Arc::new(Self {}))
    }
    pub fn render(&self, _claimed: &Claimed) -> Result<Rendered, RenderError> {
        Ok(Rendered::default())
    }
}
