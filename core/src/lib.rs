//! The host library behind the binary `campanile`.
//!
//! The folders are the pipeline: `ingest` → `store` → `queue` → `worker` → `channel` → `status`; `connection` is where
//! people's sockets live, `http` is the door, `host` builds it all in order.

pub mod amqp;
pub mod channel;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod connection;
pub mod console;
pub mod dev;
pub mod doctor;
pub mod failpoint;
pub mod host;
pub mod http;
pub mod ingest;
pub mod observe;
pub mod outbound;
pub mod queue;
pub mod services;
pub mod status;
pub mod store;
pub mod worker;
