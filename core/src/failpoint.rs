//! Crash points for the durability suite. Absent on purpose from releases: without the feature `failpoints` a call is nothing.
//!
//! `CAMPANILE_FAILPOINTS=accept.before_commit=3` aborts the process when that point is reached for the third time
//! (no number: the first); several are separated by commas.

/// Reached the named point.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn reached(_name: &str) {}

#[cfg(feature = "failpoints")]
pub fn reached(name: &str) {
    use std::{
        collections::HashMap,
        sync::{
            LazyLock,
            atomic::{AtomicU32, Ordering},
        },
    };
    static ARMED: LazyLock<HashMap<String, AtomicU32>> = LazyLock::new(|| {
        std::env::var("CAMPANILE_FAILPOINTS")
            .unwrap_or_default()
            .split(',')
            .filter(|s| !s.is_empty())
            .map(|s| match s.split_once('=') {
                Some((name, n)) => (name.to_owned(), AtomicU32::new(n.parse().unwrap_or(1))),
                None => (s.to_owned(), AtomicU32::new(1)),
            })
            .collect()
    });
    if let Some(left) = ARMED.get(name)
        && left.fetch_sub(1, Ordering::SeqCst) == 1
    {
        // As abrupt as kill -9: no drop runs, no buffer is flushed.
        std::process::abort();
    }
}
