//! `[worker]`: Claiming and sending.

use super::check::Check;
use super::duration::Dur;
use serde::Deserialize;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Worker {
    /// How long a claim holds without renewal; renewed every third of it.
    pub lease: Dur,
    /// How often the relay looks for due rows.
    pub poll: Dur,
    /// Rows one relay round moves.
    pub relay_batch: u32,
    /// How often lapsed leases, expired rows and feed items are settled.
    pub sweep: Dur,
    /// Messages a consumer holds.
    pub prefetch: u16,
    /// After own database errors end, how long this node waits before it rescues.
    pub rescue_delay: Dur,
    /// Do not consume at all: a node that only takes and serves.
    pub start_paused: bool,
}

impl Worker {
    pub fn validate(&self, c: &mut Check) {
        // Renewed every third of it; below a second a slow disk alone would lose leases.
        c.require(self.lease.as_millis() >= 1000, "lease", "must be at least 1s");
        c.positive([
            ("poll", self.poll.as_millis()),
            ("relay_batch", self.relay_batch.into()),
            ("sweep", self.sweep.as_millis()),
            ("prefetch", self.prefetch.into()),
        ]);
    }
}
