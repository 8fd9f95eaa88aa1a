//! `[worker]`: Claiming and sending.

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
