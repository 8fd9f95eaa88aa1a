//! Configuration: one file per section, each with its struct and its `validate`; `config/default.toml` is the document.

pub mod admin;
pub mod auth;
pub mod bus;
pub mod check;
pub mod cluster;
pub mod database;
pub mod document;
pub mod duration;
pub mod email;
pub mod ingest;
pub mod instances;
pub mod load;
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
pub use load::{Flag, Loaded, defaults, load};

use check::Check;
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
    pub cluster: cluster::Cluster,
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
    /// `[[instances]]` of the file, which the loader reads by itself: a list has no keys to lay over each other.
    #[serde(skip)]
    pub instances: Vec<instances::Instance>,
}

impl Config {
    /// Every complaint of every section.
    pub fn validate(&self, c: &mut Check) {
        self.server.validate(c.section("server"));
        self.database.validate(c.section("database"));
        self.queue.validate(c.section("queue"));
        self.bus.validate(&self.queue, c.section("bus"));
        self.cluster.validate(c.section("cluster"));
        self.auth.validate(c.section("auth"));
        self.email.validate(c.section("email"));
        self.websocket.validate(c.section("websocket"));
        self.ingest.validate(c.section("ingest"));
        self.worker.validate(c.section("worker"));
        self.retry.validate(c.section("retry"));
        self.retention.validate(c.section("retention"));
        self.plugins.validate(c.section("plugins"));
        self.admin.validate(c.section("admin"));
        self.metrics.validate(c.section("metrics"));
        self.log.validate(c.section("log"));
        instances::validate(&self.instances, c);
    }
}

#[cfg(test)]
mod tests;
