//! What the suites stand on: the real binary on port 0, clients for everything it speaks, and a judge of histories.
//!
//! Owns: starting, killing and watching `campanile`, typed calls, sockets, event streams, a TCP proxy that misbehaves on
//! purpose, a database and a virtual host for each
//! host in production, a reader of the rows, the history checker. Absent on purpose: the product's code. The harness
//! sees what a caller, a user or an operator sees, and the rows on disk.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a harness that can't go on says why and stops the test")]
#![allow(clippy::missing_panics_doc, reason = "see above")]

pub mod api;
pub mod apps;
pub mod balancer;
pub mod checker;
pub mod db;
pub mod device;
pub mod dice;
pub mod engines;
pub mod fleet;
pub mod history;
pub mod host;
pub mod load;
pub mod proxy;
pub mod services;
pub mod slope;
pub mod smtp;
pub mod socket;
pub mod sse;
pub mod token;
pub mod wait;

pub use api::{Api, Reply};
pub use engines::Backend;
pub use host::{HostBuilder, TestHost};
pub use socket::Socket;
pub use wait::until;

/// Everything a suite starts with.
pub mod prelude {
    pub use crate::{
        api::{Api, Reply},
        db::Db,
        engines::Backend,
        host::{HostBuilder, TestHost},
        proxy::Proxy,
        socket::{Connect, Socket},
        sse::EventStream,
        token::{self, Claims},
        wait::{DEADLINE, until},
    };
    pub use serde_json::{Value, json};
    pub use std::time::Duration;
}

/// A name no other test uses, so that tests may share a host.
pub fn unique(what: &str) -> String {
    format!("{what}-{}", uuid::Uuid::new_v4().simple())
}
