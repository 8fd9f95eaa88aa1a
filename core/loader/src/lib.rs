//! Channel plugins from files: which may load, how they are kept apart, and the host's side of the C interface.
//!
//! A package of its own because it is the only place of the host with `unsafe`, because its tests need no host, and because
//! the child process that a plugin runs in is this crate too.
//!
//! Owns: `plugins.lock` ([`lock`]), the way of a file from bytes to code (`admit` → `cache` → `probe`), both isolation levels
//! (`native` in this process, `process` in a child), tokens, time limits and their ends (`desk`), limits on logs and
//! metrics. Absent on purpose: which instances exist, retries, breakers, configuration's schema (the host's registry), HTTP
//! (the host's, through [`Host`]).
//!
//! ```text
//! Loader::load ──► admit (bytes, no code) ──► probe (a child) ──► Plugin ──start──► Running: DynChannel
//!                                                                      │ Desk: tokens, permits, limits, logs
//!                                                                      └ Engine: Native (threads) | Remote (child: runner + Native)
//! ```

mod admit;
mod cache;
mod child;
mod clamp;
mod desk;
mod elf;
mod frame;
mod host;
mod left;
mod life;
mod linked;
pub mod lock;
mod logs;
mod metrics;
mod native;
pub mod overhead;
mod plugin;
mod probe;
mod process;
mod rate;
mod refusal;
pub mod runner;
mod running;
mod table;
mod upcalls;

pub use admit::{Admitted, check_entry, check_file, check_folder};
pub use child::Runner;
pub use desk::Counts;
pub use host::{Event, Host, Line, Who};
pub use left::Left;
pub use life::{Life, State};
pub use linked::Linked;
pub use lock::{Entry, Isolation, Limits, Lock};
pub use metrics::{Family, Histogram, Value};
pub use plugin::{Loader, Plugin, Settings, probe_file};
pub use probe::{DIED_CHECKING, NOT_CHECKED};
pub use refusal::{Refusal, Step};
pub use running::Running;

/// Why this build can't load plugins, if it can't.
pub fn unsupported() -> Option<&'static str> {
    if cfg!(not(target_os = "linux")) {
        return Some("this host is built without plugin loading: it is for Linux alone so far");
    }
    (cfg!(target_feature = "crt-static") || failpoint("loader.static")).then_some(
        "this host is built without plugin loading: a static binary can't load libraries; use the glibc build",
    )
}

/// Whether this test binary is to be as one that was built otherwise: with the feature `failpoints`, when
/// `CAMPANILE_FAILPOINTS` names it.
fn failpoint(name: &str) -> bool {
    cfg!(feature = "failpoints")
        && std::env::var("CAMPANILE_FAILPOINTS").is_ok_and(|points| points.split(',').any(|point| point == name))
}
