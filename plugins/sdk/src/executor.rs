//! What runs a loaded channel's futures: threads of its own, never the host's.
//!
//! Owns: spawning, the fallback for sleeping, the end. With the feature `tokio` a runtime with one worker, so that
//! libraries which need one just work; without it one thread and a queue (`plain`). Both drop every task and join every
//! thread in `shut_down`, which is what makes unloading possible at all.

#[cfg(any(not(feature = "tokio"), feature = "testing", test))]
pub(crate) mod plain;
#[cfg(feature = "tokio")]
mod with_tokio;

#[cfg(not(feature = "tokio"))]
pub(crate) use plain::{Executor, Sleeper};
#[cfg(feature = "tokio")]
pub(crate) use with_tokio::{Executor, Sleeper};
