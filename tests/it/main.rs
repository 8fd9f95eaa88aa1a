//! The suites: one binary, one module per part of the product. Each test starts the real `campanile` or shares one.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that can't go on has failed")]

mod admin;
mod amqp;
mod api;
mod auth;
mod channels;
mod cli;
mod cluster;
mod deploy;
mod docs;
mod doctor;
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

/// No test: the run's own second process, see `campanile_tests::engines`.
#[test]
#[ignore = "removes what a run left on the servers, started by the run itself"]
fn sweep_what_a_run_left() {
    campanile_tests::engines::sweep();
}
