//! The suites: one binary, one module per part of the product. Each test starts the real `campanile` or shares one.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that can't go on has failed")]

mod api;
mod auth;
mod channels;
mod cli;
mod docs;
mod drain;
mod durability;
mod hostile;
mod idle_memory;
mod protocol;
mod seed;
mod slow_reader;
mod smoke;
mod surface;
mod two_processes;
mod worker;
