//! What this node's sockets did since it began, for the console: the same moments that `/metrics` counts, as numbers that
//! can be read back and summed over nodes.

use crate::console::pulse::{BUCKETS, bucket};
use campanile_model::ports::SocketCounts;
use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// Pings are counted in tenths of a millisecond, buffers in pieces of 64 bytes: both then fit the console's buckets.
pub const PING_UNIT_US: u128 = 100;
pub const BUFFER_UNIT: usize = 64;

#[derive(Default)]
pub struct Counts {
    opened: AtomicU64,
    /// Reasons are a closed set (`close::TABLE` and a few words of ours).
    closed: Mutex<BTreeMap<String, u64>>,
    resumed: AtomicU64,
    reset: AtomicU64,
    replayed: AtomicU64,
    ping: [AtomicU64; BUCKETS],
    buffer: [AtomicU64; BUCKETS],
}

impl Counts {
    pub fn opened(&self) {
        self.opened.fetch_add(1, Relaxed);
    }

    pub fn closed(&self, reason: &str) {
        let mut closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(n) = closed.get_mut(reason) {
            *n += 1;
        } else {
            closed.insert(reason.to_owned(), 1);
        }
    }

    pub fn caught_up(&self, resumed: u32, reset: u32, replayed: u64) {
        self.resumed.fetch_add(resumed.into(), Relaxed);
        self.reset.fetch_add(reset.into(), Relaxed);
        self.replayed.fetch_add(replayed, Relaxed);
    }

    pub fn pong(&self, after: Duration) {
        let units = u64::try_from(after.as_micros() / PING_UNIT_US).unwrap_or(u64::MAX);
        self.ping[bucket(units)].fetch_add(1, Relaxed);
    }

    /// Bytes that waited when another message came.
    pub fn waiting(&self, bytes: usize) {
        self.buffer[bucket((bytes / BUFFER_UNIT) as u64)].fetch_add(1, Relaxed);
    }

    pub fn read(&self) -> SocketCounts {
        let all = |of: &[AtomicU64]| of.iter().map(|n| n.load(Relaxed)).collect();
        SocketCounts {
            opened: self.opened.load(Relaxed),
            closed: self.closed.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            resumed: self.resumed.load(Relaxed),
            reset: self.reset.load(Relaxed),
            replayed: self.replayed.load(Relaxed),
            ping: all(&self.ping),
            buffer: all(&self.buffer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::pulse::percentile;

    #[test]
    fn what_happened_is_read_back() {
        let counts = Counts::default();
        counts.opened();
        counts.closed("slow");
        counts.closed("slow");
        counts.caught_up(1, 0, 7);
        counts.pong(Duration::from_millis(4));
        counts.waiting(4096);
        let read = counts.read();
        assert_eq!((read.opened, read.closed["slow"], read.resumed, read.replayed), (1, 2, 1, 7));
        let ms = percentile(&read.ping, 0.5).unwrap() / 10.0;
        assert!((3.0..=6.0).contains(&ms), "{ms}");
        let bytes = percentile(&read.buffer, 0.95).unwrap() * BUFFER_UNIT as f64;
        assert!((3_840.0..=7_040.0).contains(&bytes), "its bucket's bounds: {bytes}");
    }
}
