//! What an instance has not let go of when `destroy` has returned: threads of its own, and calls that they still make.
//!
//! Counted in the plugin's process alone, where every thread is the plugin's or one of ours that ends at once. Absent on
//! purpose: doing anything about it, for the process ends.

use rustix::thread::gettid;
use std::{
    collections::BTreeSet,
    fs, thread,
    time::{Duration, Instant},
};

/// How long threads have to end, and who still calls has to show itself. Nobody who lets go of everything waits for it.
const GRACE: Duration = Duration::from_millis(150);

/// What is left of an instance that ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Threads that it started and did not end.
    pub threads: u32,
    /// Calls to the host after its end.
    pub strays: u64,
}

/// The threads of this process.
pub(crate) fn threads() -> BTreeSet<i32> {
    let all = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    all.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Those that were not there `before` and have not ended, but for the one that asks.
pub(crate) fn since(before: &BTreeSet<i32>) -> u32 {
    let own = gettid().as_raw_pid();
    let end = Instant::now() + GRACE;
    loop {
        let more = threads().into_iter().filter(|id| *id != own && !before.contains(id)).count();
        if more == 0 || Instant::now() >= end {
            return u32::try_from(more).unwrap_or(u32::MAX);
        }
        thread::sleep(Duration::from_millis(1));
    }
}
