//! Configuration: one file per section, each with its struct and its `validate`; `config/default.toml` is the document.

pub mod admin;
pub mod auth;
pub mod bus;
pub mod database;
pub mod duration;
pub mod email;
pub mod ingest;
pub mod log;
pub mod metrics;
pub mod plugins;
pub mod queue;
pub mod retention;
pub mod retry;
pub mod secrets;
pub mod server;
pub mod websocket;
pub mod worker;

pub use duration::Dur;
use serde::Deserialize;

/// The defaults, embedded: every key, commented.
pub const DEFAULTS: &str = include_str!("../../../config/default.toml");

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub server: server::Server,
    pub database: database::Database,
    pub queue: queue::Queue,
    pub bus: bus::Bus,
    pub auth: auth::Auth,
    pub email: email::Email,
    pub websocket: websocket::Websocket,
    pub ingest: ingest::Ingest,
    pub worker: worker::Worker,
    pub retry: retry::Retry,
    pub retention: retention::Retention,
    pub plugins: plugins::Plugins,
    pub admin: admin::Admin,
    pub metrics: metrics::Metrics,
    pub log: log::Log,
}
